"""What clients do while things go wrong, each with its checker (checkers.py).

A workload makes its tables, has a `step` for each client and moment, and a `final`: what all replicas must agree on in the
end. The numbers of values are unique over clients. Keys wander: each is used for some seconds, so that a history has a
bounded number of operations for each of them.
"""
import collections
import itertools
import random
import time
import uuid

import checkers
from client import FAIL, OK, UNKNOWN, History, Outcome


class Workload:
    name = ""
    clients = 8
    kv_shards = 0  # of the cluster that it needs

    def __init__(self, tag, seed):
        """tag: a word for the names of the tables, of one run."""
        self.tag, self.seed = tag, seed
        self.history = History()
        self.started = time.monotonic()
        self.numbers = itertools.count(1)

    def tables(self):
        """(name, columns, select list) of all tables."""
        raise NotImplementedError

    def create(self, run):
        """run(sql): done once, surely."""
        raise NotImplementedError

    def step(self, number, client, node, rng):
        raise NotImplementedError

    def check(self, final):
        """final: {table: rows}. What is wrong, as texts."""
        raise NotImplementedError

    def read(self, client, node, table, columns, consistency):
        """All rows of a table as that server tells them, in an Outcome."""
        found = client.query(node, f"SELECT {columns} FROM {table}", consistency=consistency, timeout=30)
        return Outcome(OK, found.rows()) if found else found

    def touch(self):
        """What needs all locks and every shard: (sql,), or (a name for it, ask(client, node))."""
        return [(f"UPDATE {table} SET {column} = {column}",) for table, column in self.touched()]

    def random_of(self, number):
        return random.Random(f"{self.name} {self.seed} {number}")

    def request_name(self, rng):
        """For an Idempotency-Key. The next run of the same seed may have the same cluster, and is no repetition of this one."""
        return f"{self.tag}-{uuid.UUID(int=rng.getrandbits(128))}"


def some_limit(rng):
    """Of a write, in milliseconds, or none."""
    return rng.choice([20, 100, 500, 2000]) if rng.random() < 0.15 else None


class Append(Workload):
    """Lists: the next place of a key's list is what the statement finds; some transactions append to two lists at once."""
    name = "append"
    keys_at_once = 6
    key_seconds = 1.5  # a new one so often

    def table(self):
        return f"lists_{self.tag}"

    def tables(self):
        return [(self.table(), "k, pos, v")]

    def touched(self):
        return [(self.table(), "v")]

    def create(self, run):
        run(f"CREATE TABLE {self.table()} (k INTEGER, pos INTEGER, v INTEGER, PRIMARY KEY (k, pos)) PARTITIONED BY (k)")

    def key(self, rng):
        return int((time.monotonic() - self.started) / self.key_seconds) + rng.randrange(self.keys_at_once)

    def append_sql(self):
        return f"INSERT INTO {self.table()} SELECT $1, coalesce(max(pos), 0) + 1, $2 FROM {self.table()} WHERE k = $1"

    def step(self, number, client, node, rng):
        one, other = sorted((self.key(rng), self.key(rng)))
        value, begin, what = next(self.numbers), time.monotonic_ns(), rng.random()
        if what < 0.35:
            outcome = client.execute(node, self.append_sql(), one, value, limit_ms=some_limit(rng))
            if outcome and outcome.affected() != 1:
                outcome = Outcome(OK, error=f"{outcome.affected()} rows appended")
            self.history.add(number, node, "append", begin, outcome, keys=[one], value=value)
        elif what < 0.55 and one != other:
            outcome = client.together(node, [(self.append_sql(), (key, value)) for key in (one, other)])
            self.history.add(number, node, "append", begin, outcome, keys=[one, other], value=value)
        else:
            keys = [one] if what < 0.8 else sorted({one, other})
            outcome = client.query(node, f"SELECT k, pos, v FROM {self.table()} WHERE k IN ({', '.join(map(str, keys))}) ORDER BY k, pos")
            lists = {key: [] for key in keys}
            for key, place, found in outcome.rows() if outcome else ():
                lists[key].append([place, found])
            self.history.add(number, node, "read", begin, outcome, lists=[[key, lists[key]] for key in keys])

    def check(self, final):
        return checkers.append(self.history.operations, final[self.table()])


class Bank(Workload):
    """Money moves between accounts of all shards; its sum never changes, for nobody."""
    name = "bank"
    accounts = 24
    money = 100

    def account(self):
        return f"account_{self.tag}"

    def moves(self):
        return f"moves_{self.tag}"

    def tables(self):
        return [(self.account(), "id, money"), (self.moves(), "move, giver, taker, amount")]

    def touched(self):
        return [(self.account(), "money"), (self.moves(), "amount")]

    def create(self, run):
        run(f"CREATE TABLE {self.account()} (id INTEGER PRIMARY KEY, money INTEGER) PARTITIONED BY (id)")
        run(f"CREATE TABLE {self.moves()} (move INTEGER, giver INTEGER, taker INTEGER, amount INTEGER) PARTITIONED BY (move)")
        run(f"INSERT INTO {self.account()} SELECT i, {self.money} FROM range({self.accounts}) AS r(i)")

    def step(self, number, client, node, rng):
        begin, what = time.monotonic_ns(), rng.random()
        giver, taker = rng.sample(range(self.accounts), 2)
        amount, move = rng.randrange(1, 40), next(self.numbers)
        if what < 0.35:
            outcome = self.transfer(client, node, move, giver, taker, amount)
        elif what < 0.5:
            outcome = client.together(node, [(sql, ()) for sql in self.statements(move, giver, taker, amount)])
        else:
            self.take_sums(number, client, node, begin, what > 0.9)
            return
        self.history.add(number, node, "move", begin, outcome, move=move, giver=giver, taker=taker, amount=amount)

    def statements(self, move, giver, taker, amount):
        return [f"UPDATE {self.account()} SET money = money - {amount} WHERE id = {giver}",
                f"UPDATE {self.account()} SET money = money + {amount} WHERE id = {taker}",
                f"INSERT INTO {self.moves()} VALUES ({move}, {giver}, {taker}, {amount})"]

    def transfer(self, client, node, move, giver, taker, amount):
        """BEGIN .. COMMIT, after a look at what there is."""
        tx = client.begin(node)
        if not isinstance(tx, str):
            return Outcome(FAIL, error=tx.error)
        seen = client.query(node, f"SELECT money FROM {self.account()} WHERE id = {giver}", tx=tx)
        if not seen or seen.rows()[0][0] < amount:
            client.rollback(node, tx)
            return Outcome(FAIL, error=seen.error or "too little money")
        for sql in self.statements(move, giver, taker, amount):
            done = client.execute(node, sql, tx=tx)
            if not done or done.affected() != 1:
                client.rollback(node, tx)
                return Outcome(FAIL, error=done.error or f"{done.affected()} rows: {sql}")
        return client.commit(node, tx)

    def take_sums(self, number, client, node, begin, inside):
        """The sum by one statement, or by two of one transaction: both see one moment."""
        sum_of = f"SELECT sum(money)::INTEGER, count(*), min(money) FROM {self.account()}"
        if not inside:
            outcome = client.query(node, sum_of)
            self.history.add(number, node, "sum", begin, outcome, sums=outcome.rows() if outcome else [])
            return
        tx = client.begin(node)
        if not isinstance(tx, str):
            self.history.add(number, node, "sum", begin, Outcome(FAIL, error=tx.error), sums=[])
            return
        found = [client.query(node, sum_of, tx=tx), client.query(node, f"SELECT sum(money)::INTEGER, count(*), min(money) "
                                                                f"FROM (SELECT * FROM {self.account()} ORDER BY id)", tx=tx)]
        client.rollback(node, tx)
        bad = [one for one in found if not one]
        self.history.add(number, node, "sum", begin, bad[0] if bad else found[0], sums=[] if bad else [one.rows()[0] for one in found])

    def check(self, final):
        return checkers.bank(self.history.operations, final[self.account()], final[self.moves()], self.accounts, self.money)


class Set(Workload):
    """Rows that are only added, of one or several shards, some under an Idempotency-Key, which is sent again until it is answered.

    Some reads may be two seconds old (`consistency=bounded`), and no older.
    """
    name = "set"

    def table(self):
        return f"set_{self.tag}"

    def tables(self):
        return [(self.table(), "v")]

    def touched(self):
        return [(self.table(), "note")]

    def create(self, run):
        run(f"CREATE TABLE {self.table()} (v INTEGER, note VARCHAR) PARTITIONED BY (v)")

    def step(self, number, client, node, rng):
        begin, what = time.monotonic_ns(), rng.random()
        values = [next(self.numbers) for _ in range(1 if what < 0.6 else 5)]
        if what > 0.92:
            age = rng.choice([0, 2])
            bound = {"consistency": "bounded", "max_staleness": age} if age else {}
            outcome = client.query(node, f"SELECT v FROM {self.table()}", **bound)
            self.history.add(number, node, "read", begin, outcome, age=age, values=sorted(v for (v,) in outcome.rows()) if outcome else [])
            return
        sql = f"INSERT INTO {self.table()} VALUES " + ", ".join(f"({value}, 'by {number}')" for value in values)
        key = self.request_name(rng) if rng.random() < 0.4 else None
        outcome = client.execute(node, sql, key=key, limit_ms=None if key else some_limit(rng))
        tries = 0
        while key and outcome.kind == UNKNOWN and tries < 6:
            tries += 1
            again = client.execute(rng.choice(list(client.addresses)), sql, key=key)
            # That nothing was done by the second try says nothing of the first one, unless that one is what is told again.
            outcome = again if again.kind == OK else outcome
            time.sleep(0.2)
        if outcome and outcome.affected() != len(values):
            outcome = Outcome(OK, error=f"{outcome.affected()} rows of {len(values)}")
        self.history.add(number, node, "add", begin, outcome, values=values, tries=tries, **({"key": key} if key else {}))

    def check(self, final):
        return checkers.unique_set(self.history.operations, [v for (v,) in final[self.table()]])


class Register(Workload):
    """Single rows that are read, written, and compared and swapped; Porcupine judges."""
    name = "register"
    keys_at_once = 5
    key_seconds = 1.5
    keys = 600

    def table(self):
        return f"register_{self.tag}"

    def tables(self):
        return [(self.table(), "k, v")]

    def touched(self):
        return [(self.table(), "v")]

    def create(self, run):
        run(f"CREATE TABLE {self.table()} (k INTEGER, v INTEGER) PARTITIONED BY (k)")
        run(f"INSERT INTO {self.table()} SELECT i, 0 FROM range({self.keys}) AS r(i)")

    def step(self, number, client, node, rng):
        key = (int((time.monotonic() - self.started) / self.key_seconds) + rng.randrange(self.keys_at_once)) % self.keys
        begin, what = time.monotonic_ns(), rng.random()
        a, b, result = rng.randrange(5), rng.randrange(5), None
        if what < 0.45:
            op, outcome = "read", client.query(node, f"SELECT v FROM {self.table()} WHERE k = {key}")
            result = outcome.rows()[0][0] if outcome and outcome.rows() else None
            if outcome and result is None:
                result = -1  # no register ever has that
        elif what < 0.75:
            op, outcome = "write", client.execute(node, f"UPDATE {self.table()} SET v = {a} WHERE k = {key}", limit_ms=some_limit(rng))
            result = outcome.affected() if outcome else None
        else:
            op, outcome = "cas", client.execute(node, f"UPDATE {self.table()} SET v = {b} WHERE k = {key} AND v = {a}",
                                           limit_ms=some_limit(rng))
            result = outcome.affected() if outcome else None
        self.history.add(number, node, op, begin, outcome, key=key, a=a, b=b, result=result)

    def check(self, final):
        # What is there in the end is one more read, after all.
        end = time.monotonic_ns()
        used = {operation["key"] for operation in self.history.operations}
        for key, value in final[self.table()]:
            if key in used:
                self.history.operations.append({"client": -1, "node": "", "op": "read", "key": key, "a": 0, "b": 0, "result": value,
                                                "begin": end, "end": end + 1, "outcome": OK})
        wrong = [] if len(final[self.table()]) == self.keys else [f"{len(final[self.table()])} registers, not {self.keys}"]
        wrong += [f"a write of {operation['result']} rows" for operation in self.history.operations
                  if operation["op"] == "write" and operation["outcome"] == OK and operation["result"] != 1]
        return wrong + checkers.linear(self.history, self.name)


class Keys(Workload):
    """Keys that are read, put, put when they are absent or of a version, deleted and added to, over HTTP and as Redis clients do.

    Some by batches of several keys, so Porcupine judges a moment's keys together, in groups. Some writes are sent again under
    their Idempotency-Key until they are answered. Beside these each client has keys of its own, which it never deletes:
    what was acknowledged of them can be told without a model; and keys that go after a while, on which the replicas must agree.
    """
    name = "keys"
    kv_shards = 4
    keys_of_group = 4
    group_seconds = 1.5
    own_keys = 40  # of a client that get new values; it begins with new ones after a while

    def __init__(self, tag, seed):
        super().__init__(tag, seed)
        self.seen = {}  # {key: version} that anybody was told last, which is what a condition may be of
        self.own = collections.defaultdict(list)  # {client: keys}
        self.kinds = [(0.22, self.get), (0.12, self.put), (0.12, self.swap), (0.06, self.put_if_absent), (0.06, self.delete),
                      (0.08, self.add), (0.20, self.batch), (0.12, self.put_own), (0.02, self.put_brief)]

    def space(self):
        return f"keys-{self.tag}"

    def tables(self):
        return [("keys", None)]

    def create(self, run):
        """There is nothing to make: a namespace is there with its first key."""

    def touch(self):
        puts = [(f"a put of {key}", lambda client, node, key=key: client.key(node, "PUT", f"touch-{self.tag}", key, b"1"))
                for key in map(str, range(8 * self.kv_shards))]
        return [*puts, ("what is brief to go", self.brief_are_gone)]

    def brief_are_gone(self, client, node):
        found = client.scan(node, self.space(), timeout=30)
        left = [key for key, _, _ in found.value if key.startswith("brief-")] if found else []
        return Outcome(FAIL, error=f"{len(left)} are there: {left[:5]}") if left else found

    def read(self, client, node, table, columns, consistency):
        return client.scan(node, self.space(), consistency or "linearizable", timeout=30)

    def step(self, number, client, node, rng):
        group = str(int((time.monotonic() - self.started) / self.group_seconds) - (rng.random() < 0.1))
        method = rng.choices([kind for _, kind in self.kinds], [weight for weight, _ in self.kinds])[0]
        method(number, client, node, rng, group, f"{group}-{rng.randrange(self.keys_of_group)}")

    # Each of these is one operation, of one part as linear/keys.go describes it, or of several.

    def get(self, number, client, node, rng, group, key):
        begin = time.monotonic_ns()
        self.told(number, node, "get", begin, group, [{"key": key, "do": "get"}], client.key(node, "GET", self.space(), key))

    def put(self, number, client, node, rng, group, key):
        self.write(number, client, node, rng, group, {"key": key, "do": "put", "value": self.value()})

    def put_if_absent(self, number, client, node, rng, group, key):
        self.write(number, client, node, rng, group, {"key": key, "do": "put", "value": self.value(), "if": "absent"})

    def swap(self, number, client, node, rng, group, key):
        self.write(number, client, node, rng, group, {"key": key, "do": "put", "value": self.value(), **self.condition(rng, key)})

    def delete(self, number, client, node, rng, group, key):
        self.write(number, client, node, rng, group,
                   {"key": key, "do": "delete", **(self.condition(rng, key) if rng.random() < 0.3 else {})})

    def add(self, number, client, node, rng, group, key):
        """The door of Redis has what HTTP has not."""
        begin, part = time.monotonic_ns(), {"key": key, "do": "add", "value": str(rng.randrange(1, 4))}
        self.told(number, node, "add", begin, group, [part], client.command(node, self.space(), "INCRBY", key, part["value"]))

    def batch(self, number, client, node, rng, group, key):
        """Two or three keys, most often of several shards, at once."""
        begin, name = time.monotonic_ns(), self.request_name(rng) if rng.random() < 0.4 else None
        places, only_reads = rng.sample(range(self.keys_of_group), rng.choice([2, 2, 3])), rng.random() < 0.4
        parts = [self.part_of_batch(rng, f"{group}-{place}", only_reads) for place in places]
        outcome, tries = self.again(client, node, rng, name, lambda at: client.batch(at, self.space(), parts, name))
        if outcome and tries and not outcome.value["done"]:
            # What several shards have refused is tried anew, so the first try may happen even now.
            outcome = Outcome(UNKNOWN, error="refused when it was sent again")
        self.told(number, node, "batch", begin, group, parts, outcome, name=name, tries=tries)

    def part_of_batch(self, rng, key, only_reads):
        do = "get" if only_reads else rng.choice(["put", "put", "put", "add", "delete", "get"])
        part = {"key": key, "do": do}
        if do in ("put", "add"):
            part["value"] = self.value() if do == "put" else str(rng.randrange(1, 4))
        if do == "put" and rng.random() < 0.3:
            part.update(self.condition(rng, key) if rng.random() < 0.7 else {"if": "absent"})
        return part

    def put_own(self, number, client, node, rng, group, key):
        """A key that no other client puts, and nobody deletes."""
        keys = self.own[number]
        if not keys or len(keys) < self.own_keys and rng.random() < 0.5:
            keys.append(f"own-{number}-{next(self.numbers)}")
        chosen = rng.choice(keys)
        self.write(number, client, node, rng, chosen, {"key": chosen, "do": "put", "value": self.value()})
        if len(keys) == self.own_keys and rng.random() < 0.2:
            keys.clear()

    def put_brief(self, number, client, node, rng, group, key):
        key, begin = f"brief-{next(self.numbers)}", time.monotonic_ns()
        part = {"key": key, "do": "put", "value": self.value()}
        outcome = client.key(node, "PUT", self.space(), key, part["value"].encode(), ttl=rng.choice([0.3, 1, 3]))
        self.told(number, node, "put", begin, None, [part], outcome)  # of no group: there is no telling when it has gone

    def value(self):
        """One that no other put has, and no sum of adds to another one."""
        return str(next(self.numbers) * 1_000_000)

    def condition(self, rng, key):
        version = self.seen.get(key)
        return {"if": "version", "expect": version} if version and rng.random() < 0.85 else {"if": "present"}

    def again(self, client, node, rng, name, ask):
        """What ask(node) says; with a name it is asked until that is known. And how many more times it was asked."""
        outcome, tries = ask(node), 0
        while name and outcome.kind == UNKNOWN and tries < 6:
            tries += 1
            again = ask(rng.choice(list(client.addresses)))
            # That nothing was done by the second try says nothing of the first one, unless that one is what is told again.
            outcome = again if again.kind == OK else outcome
            time.sleep(0.2)
        return outcome, tries

    def write(self, number, client, node, rng, group, part):
        begin, name = time.monotonic_ns(), self.request_name(rng) if rng.random() < 0.4 else None
        headers = [("Idempotency-Key", name)] if name else []
        headers += {"absent": [("If-None-Match", "*")], "present": [("If-Match", "*")],
                    "version": [("If-Match", f'"{part.get("expect")}"')]}.get(part.get("if"), [])
        value = part["value"].encode() if "value" in part else None
        outcome, tries = self.again(client, node, rng, name, lambda at: client.key(at, part["do"].upper(), self.space(), part["key"],
                                                                                   value, headers))
        self.told(number, node, part["do"], begin, group, [part], outcome, name=name, tries=tries)

    def told(self, number, node, op, begin, group, parts, outcome, **what):
        """outcome: of `parts`, or of the only one."""
        answer = outcome.value if outcome else {}
        answers = answer.get("parts", [answer] * len(parts))
        parts = [{**part, **{field: own[field] for field in ("found", "value_found", "version") if field in own}}
                 for part, own in zip(parts, answers, strict=True)]
        for part in parts:
            if part.get("version"):
                self.seen[part["key"]] = part["version"]
        self.history.add(number, node, op, begin, outcome, group=group, done=answer.get("done"), parts=parts, **what)

    def check(self, final):
        rows = [tuple(row) for row in final["keys"]]
        wrong = checkers.kept(self.history.operations, rows)
        # What is there in the end is one more read of each key, after all.
        there, end = {key: (version, value) for key, version, value in rows}, time.monotonic_ns()
        used = {(operation["group"], part["key"]) for operation in self.history.operations if operation["group"]
                for part in operation["parts"]}
        whole = History()
        whole.operations = [*self.history.operations]
        for group, key in sorted(used):
            version, value = there.get(key, (None, None))
            part = {"key": key, "do": "get", "found": key in there, **({"version": version, "value_found": value} if key in there else {})}
            whole.operations.append({"client": -1, "node": "", "op": "get", "group": group, "done": True, "parts": [part],
                                     "begin": end, "end": end + 1, "outcome": OK})
        return wrong + checkers.linear(whole, self.name)


ALL = {workload.name: workload for workload in (Append, Bank, Set, Register, Keys)}
