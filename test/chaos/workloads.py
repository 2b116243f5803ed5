"""What clients do while things go wrong, each with its checker (checkers.py).

A workload makes its tables, has a `step` for each client and moment, and a `final`: what all replicas must agree on in the
end. The numbers of values are unique over clients. Keys wander: each is used for some seconds, so that a history has a
bounded number of operations for each of them.
"""
import itertools
import random
import time
import uuid

import checkers
from client import FAIL, OK, UNKNOWN, History, Outcome


class Workload:
    name = ""
    clients = 8

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

    def touch(self):
        """Statements that need all locks and every shard."""
        return [f"UPDATE {table} SET {column} = {column}" for table, column in self.touched()]

    def random_of(self, number):
        return random.Random(f"{self.name} {self.seed} {number}")


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
            self.read(number, client, node, begin, what > 0.9)
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

    def read(self, number, client, node, begin, inside):
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
        key = str(uuid.UUID(int=rng.getrandbits(128))) if rng.random() < 0.4 else None
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
        return wrong + checkers.register(self.history)


ALL = {workload.name: workload for workload in (Append, Bank, Set, Register)}
