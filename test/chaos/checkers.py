"""What a history must not contain. Each returns what is wrong, as texts; an empty list: nothing.

    checkers.py NAME HISTORY.jsonl      checks a kept history again (its final rows are kept in it)
"""
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from cluster import BUILD, ROOT

FEW = 10  # so many of a kind are told


def few(texts):
    texts = list(texts)
    return texts[:FEW] + ([f"... and {len(texts) - FEW} more like these"] if len(texts) > FEW else [])


def of_kind(operations, *ops):
    return [operation for operation in operations if operation["op"] in ops]


def presence(adds, present, name):
    """Each add: (its outcome, whether it is in the end there, what it is called)."""
    wrong = []
    for operation in adds:
        found, who = present(operation), name(operation)
        if operation["outcome"] == "ok" and not found:
            wrong.append(f"lost: {who} was acknowledged by {operation['node']}")
        if operation["outcome"] == "fail" and found:
            wrong.append(f"done all the same: {who} was refused by {operation['node']} ({operation.get('error')})")
        if operation["outcome"] == "ok" and operation.get("error"):
            wrong.append(f"{who}: {operation['error']}")
    return wrong


def append(operations, final):
    """final: rows of (key, place, value)."""
    lists = collections.defaultdict(list)
    for key, place, value in sorted(final):
        lists[key].append([place, value])
    wrong = []
    for key, found in lists.items():
        if [place for place, _ in found] != list(range(1, len(found) + 1)):
            wrong.append(f"list {key} has the places {[place for place, _ in found]}")
        twice = [value for value, count in collections.Counter(value for _, value in found).items() if count > 1]
        if twice:
            wrong.append(f"list {key} has {twice[:FEW]} more than once")
    where = {(key, value): place for key, found in lists.items() for place, value in found}
    adds, reads = of_kind(operations, "append"), [one for one in of_kind(operations, "read") if one["outcome"] == "ok"]
    wrong += presence(adds, lambda one: any((key, one["value"]) in where for key in one["keys"]),
                      lambda one: f"{one['value']} in list {one['keys']}")
    for one in adds:
        if len({(key, one["value"]) in where for key in one["keys"]}) == 2:
            wrong.append(f"half a transaction: {one['value']} is not in all lists of {one['keys']} ({one['outcome']})")
    appended = {(key, one["value"]) for one in adds for key in one["keys"]}
    wrong += [f"from nowhere: {value} in list {key}" for key, value in where if (key, value) not in appended]
    return few(wrong) + few(append_reads(adds, reads, lists)) + few(order_of_appends(adds, where))


def append_reads(adds, reads, lists):
    """Every read is a beginning of the final list, has what was acknowledged before it began, and not less than an earlier read."""
    wrong = []
    both = [one for one in adds if len(one["keys"]) == 2]
    for read in reads:
        seen = dict((key, found) for key, found in read["lists"])
        for key, found in seen.items():
            if found != lists[key][:len(found)]:
                wrong.append(f"{read['node']} read {found} of list {key}, which in the end is {lists[key][:len(found)]}...")
        if len(seen) == 2:
            values = {key: {value for _, value in found} for key, found in seen.items()}
            for one in both:
                if set(one["keys"]) == set(seen) and len({one["value"] in values[key] for key in seen}) == 2:
                    wrong.append(f"{read['node']} read half of the transaction that appends {one['value']} to {one['keys']}")
    by_key = collections.defaultdict(list)  # events: (time, 0: known to be there from now on / 1: a read begins, length, node)
    place = {(key, value): place for key, found in lists.items() for place, value in found}
    for one in adds:
        if one["outcome"] == "ok":
            for key in one["keys"]:
                by_key[key].append((one["end"], 0, place.get((key, one["value"]), 0), one["node"]))
    for read in reads:
        for key, found in read["lists"]:
            by_key[key].append((read["end"], 0, len(found), read["node"]))
            by_key[key].append((read["begin"], 1, len(found), read["node"]))
    for key, events in by_key.items():
        known, told = 0, ""
        for _, kind, length, node in sorted(events):
            if kind == 0 and length > known:
                known, told = length, node
            if kind == 1 and length < known:
                wrong.append(f"stale: {node} read {length} of list {key} after {told} had told {known}")
    return wrong


def order_of_appends(adds, where):
    """What was acknowledged before another one began stands before it."""
    wrong = []
    by_key = collections.defaultdict(list)
    for one in adds:
        for key in one["keys"]:
            if (key, one["value"]) in where:
                by_key[key].append(one)
    for key, of_key in by_key.items():
        events = []
        for one in of_key:
            place = where[key, one["value"]]
            events.append((one["begin"], 1, place))
            if one["outcome"] == "ok":
                events.append((one["end"], 0, place))
        highest = 0
        for _, kind, place in sorted(events):
            if kind == 0:
                highest = max(highest, place)
            elif place < highest:
                wrong.append(f"list {key}: place {place} was appended after {highest} had been acknowledged")
    return wrong


def bank(operations, accounts, moves, count, money):
    """accounts: rows of (id, money); moves: rows of (move, giver, taker, amount)."""
    wrong = []
    total = count * money
    for one in of_kind(operations, "sum"):
        if one["outcome"] == "ok" and any(found != one["sums"][0] for found in one["sums"]):
            wrong.append(f"{one['node']}: one transaction read {one['sums']}")
        for found in one["sums"]:
            if found[:2] != [total, count]:
                wrong.append(f"{one['node']} read {found[0]} on {found[1]} accounts, not {total} on {count}")
            elif found[2] < -40 * count:
                wrong.append(f"{one['node']} read an account of {found[2]}")
    by_move = collections.Counter(move for move, *_ in moves)
    wrong += [f"move {move} was made {times} times" for move, times in by_move.items() if times > 1]
    asked = {one["move"]: [one["giver"], one["taker"], one["amount"]] for one in of_kind(operations, "move")}
    for move, *what in moves:
        if asked.get(move) != what:
            wrong.append(f"move {move} is {what}, asked was {asked.get(move)}")
    wrong += presence(of_kind(operations, "move"), lambda one: by_move[one["move"]], lambda one: f"move {one['move']}")
    expected = dict.fromkeys(range(count), money)
    for _, giver, taker, amount in moves:
        expected[giver] -= amount
        expected[taker] += amount
    for account, found in sorted(accounts):
        if expected.get(account) != found:
            wrong.append(f"account {account} has {found}, its moves make {expected.get(account)}")
    if len(accounts) != count:
        wrong.append(f"{len(accounts)} accounts, not {count}")
    return few(wrong)


def unique_set(operations, final):
    """final: values."""
    there = collections.Counter(final)
    wrong = [f"{value} is there {times} times" for value, times in there.items() if times > 1]
    adds = of_kind(operations, "add")
    wrong += presence(adds, lambda one: any(value in there for value in one["values"]), lambda one: f"{one['values']}")
    for one in adds:
        if len({value in there for value in one["values"]}) == 2:
            wrong.append(f"half a statement: of {one['values']} there is {[value for value in one['values'] if value in there]}")
    known = {value for one in adds for value in one["values"]}
    wrong += [f"from nowhere: {value}" for value in there if value not in known]
    events = [(one["end"], 0, one) for one in adds if one["outcome"] == "ok"]
    for one in of_kind(operations, "read"):
        if one["outcome"] == "ok":
            events += [(one["begin"] - one.get("age", 0) * 1_000_000_000, 1, one)]
            extra = [value for value in one["values"] if value not in there]
            if extra:
                wrong.append(f"{one['node']} read {extra[:FEW]}, which are not there in the end")
    acknowledged = set()
    for _, kind, one in sorted(events, key=lambda event: event[:2]):
        if kind == 0:
            acknowledged.update(one["values"])
        else:
            missing = acknowledged - set(one["values"])
            if missing:
                wrong.append(f"stale: {one['node']} read without {sorted(missing)[:FEW]}, acknowledged {one.get('age', 0)} s before")
    return few(wrong)


def kept(operations, final):
    """Keys that one client each has put, one after the other, and nobody deletes. final: rows of (key, version, value).

    Also: all that is there was put by somebody, and no request was taken for another one.
    """
    wrong = [f"{one['op']} of {one['parts'][0]['key']} at {one['node']}: {one['error']}" for one in operations
             if one.get("error", "").startswith("422")]
    there = {key: (version, value) for key, version, value in final}
    put, last, maybe = set(), {}, collections.defaultdict(set)  # keys; what was acknowledged last; values that nobody knows about
    for one in sorted(operations, key=lambda one: one["begin"]):
        for part in one["parts"] if one["outcome"] != "fail" else ():
            if part["do"] in ("put", "add"):
                put.add(part["key"])
            if part["key"].startswith("own-") and one["outcome"] == "ok":
                last[part["key"]] = part
            elif part["key"].startswith("own-"):
                maybe[part["key"]].add(part["value"])  # now, or later than what comes after it
    for key, part in last.items():
        version, value = there.get(key, (0, None))
        if version < part["version"] or value not in {part["value"], *maybe[key]}:
            wrong.append(f"lost: {key} was acknowledged as {part['value']}, version {part['version']}; it is {value}, version {version}")
        elif (version == part["version"]) != (value == part["value"]):
            wrong.append(f"{key} is {value}, version {version}; acknowledged was {part['value']}, version {part['version']}")
    wrong += [f"from nowhere: {key}, which is {value}" for key, (_, value) in there.items() if key not in put]
    return few(wrong)


def linear_program():
    """With Porcupine inside; built when it is not there (`deps/fetch chaos` has brought what it needs)."""
    program = BUILD / "test" / "chaos" / "linear"
    source = ROOT / "test" / "chaos" / "linear"
    if not program.exists() or program.stat().st_mtime < max(path.stat().st_mtime for path in source.iterdir()):
        go = shutil.which("go", path=os.environ.get("PATH", "") + ":/usr/local/go/bin:/usr/lib/go/bin")
        if not go:
            raise OSError("no Go client; deps/fetch installs one")
        subprocess.run([go, "build", "-o", program, "."], cwd=source, check=True,
                       env={**os.environ, "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GO111MODULE": "on", "GOWORK": "off"})
    return program


def linear(history, model, key_seconds=60):
    """By Porcupine; model: as linear/ knows it. What is not decided in that time is no "all is well"."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "history.jsonl"
        history.save(path)
        done = subprocess.run([linear_program(), "-model", model, "-seconds", str(key_seconds), path],
                              capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).replace(f"{path}: ", "").strip().splitlines()


def main():
    """Again, from a file that run.py has kept: the last line holds the final rows."""
    from client import History
    from workloads import ALL
    if len(sys.argv) != 3 or sys.argv[1] not in ALL:
        sys.exit(f"usage: checkers.py {'|'.join(ALL)} HISTORY.jsonl")
    workload = ALL[sys.argv[1]]("again", 0)
    workload.history = History.load(sys.argv[2])
    final = workload.history.operations.pop()
    workload.tag = final["tag"]
    wrong = workload.check(final["final"])
    print("\n".join(wrong) or "no anomaly")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
