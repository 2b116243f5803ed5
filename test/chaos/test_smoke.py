"""That the checkers find what they are for, and that a few seconds of faults leave no anomaly. The rest is `make chaos`."""
import inspect
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import checkers  # noqa: E402  (the folder is no package: its files are a program of their own)
import workloads  # noqa: E402
from client import History, batch_outcome, command_outcome, key_outcome, outcome_of  # noqa: E402

pytestmark = pytest.mark.threads


def operation(op, begin, end, outcome="ok", **what):
    return {"client": 0, "node": "server-1", "op": op, "begin": begin, "end": end, "outcome": outcome, **what}


def appended(value, begin, end, outcome="ok", keys=(7,)):
    return operation("append", begin, end, outcome, keys=list(keys), value=value)


def read_list(begin, end, *values, key=7):
    return operation("read", begin, end, lists=[[key, [[place + 1, value] for place, value in enumerate(values)]]])


METHODS = [name for name, what in vars(workloads.Workload).items() if inspect.isfunction(what) and name != "__init__"]


@pytest.mark.parametrize("workload", workloads.ALL.values(), ids=workloads.ALL)
@pytest.mark.parametrize("name", METHODS)
def test_a_workload_has_no_method_of_another_shape_than_the_runner_calls(workload, name):
    """One that a workload has for itself, and calls as one of these, is found here and not in the middle of a night."""
    own, called = (inspect.signature(getattr(cls, name)).parameters for cls in (workload, workloads.Workload))
    assert list(own) == list(called)


LISTS = [(7, 1, 10), (7, 2, 11)]


@pytest.mark.parametrize("wrong, operations, final", [
    ("", [appended(10, 1, 2), appended(11, 3, 4, "unknown"), read_list(5, 6, 10), read_list(7, 8, 10, 11)], LISTS),
    ("lost", [appended(10, 1, 2), appended(11, 3, 4), appended(12, 5, 6)], LISTS),
    ("done all the same", [appended(10, 1, 2), appended(11, 3, 4, "fail")], LISTS),
    ("more than once", [appended(10, 1, 2)], [(7, 1, 10), (7, 2, 10)]),
    ("has the places", [appended(10, 1, 2), appended(11, 3, 4)], [(7, 1, 10), (7, 3, 11)]),
    ("from nowhere", [appended(10, 1, 2)], LISTS),
    ("which in the end is", [appended(10, 1, 2), appended(11, 3, 4), read_list(5, 6, 11)], LISTS),
    ("stale", [appended(10, 1, 2), appended(11, 3, 4), read_list(5, 6, 10)], LISTS),
    ("stale", [appended(10, 1, 2), appended(11, 3, 9, "unknown"), read_list(3, 4, 10, 11), read_list(5, 6, 10)], LISTS),
    ("had been acknowledged", [appended(11, 1, 2), appended(10, 3, 4)], LISTS),
    ("half a transaction", [appended(10, 1, 2, keys=(7, 8)), appended(11, 3, 4)], LISTS),
])
def test_the_checker_of_lists(wrong, operations, final):
    found = checkers.append(operations, final)
    assert any(wrong in text for text in found) if wrong else not found, found


def test_the_checker_of_lists_sees_half_a_transaction_in_a_read():
    operations = [appended(10, 1, 9, keys=(7, 8)),
                  operation("read", 2, 3, lists=[[7, [[1, 10]]], [8, []]])]
    assert any("half of the transaction" in text for text in checkers.append(operations, [(7, 1, 10), (8, 1, 10)]))


def moved(number, outcome="ok"):
    return operation("move", 1, 2, outcome, move=number, giver=0, taker=1, amount=5)


def summed(*sums):
    return operation("sum", 1, 2, sums=[list(one) for one in sums])


@pytest.mark.parametrize("wrong, operations, accounts, moves", [
    ("", [moved(1), summed((200, 2, 95))], [(0, 95), (1, 105)], [(1, 0, 1, 5)]),
    ("lost", [moved(1)], [(0, 100), (1, 100)], []),
    ("done all the same", [moved(1, "fail")], [(0, 95), (1, 105)], [(1, 0, 1, 5)]),
    ("times", [moved(1)], [(0, 90), (1, 110)], [(1, 0, 1, 5), (1, 0, 1, 5)]),
    ("its moves make", [moved(1)], [(0, 100), (1, 105)], [(1, 0, 1, 5)]),
    ("not 200 on 2", [moved(1), summed((195, 2, 95))], [(0, 95), (1, 105)], [(1, 0, 1, 5)]),
    ("one transaction read", [summed((200, 2, 95), (200, 2, 100))], [(0, 100), (1, 100)], []),
])
def test_the_checker_of_the_bank(wrong, operations, accounts, moves):
    found = checkers.bank(operations, accounts, moves, 2, 100)
    assert any(wrong in text for text in found) if wrong else not found, found


def added(begin, end, outcome="ok", *values):
    return operation("add", begin, end, outcome, values=list(values))


@pytest.mark.parametrize("wrong, operations, final", [
    ("", [added(1, 2, "ok", 1, 2), added(1, 2, "unknown", 3), added(1, 2, "fail", 4), operation("read", 3, 4, values=[1, 2])], [1, 2]),
    ("lost", [added(1, 2, "ok", 1)], []),
    ("done all the same", [added(1, 2, "fail", 1)], [1]),
    ("2 times", [added(1, 2, "unknown", 1)], [1, 1]),
    ("half a statement", [added(1, 2, "unknown", 1, 2)], [1]),
    ("from nowhere", [], [1]),
    ("stale", [added(1, 2, "ok", 1), operation("read", 3, 4, values=[])], [1]),
    ("", [added(1, 2, "ok", 1), operation("read", 1_999_999_999, 2_000_000_001, values=[], age=2)], [1]),
    ("stale", [added(1, 2, "ok", 1), operation("read", 2_000_000_003, 2_000_000_004, values=[], age=2)], [1]),
    ("not there in the end", [added(1, 2, "unknown", 1), operation("read", 3, 4, values=[1])], []),
])
def test_the_checker_of_the_set(wrong, operations, final):
    found = checkers.unique_set(operations, final)
    assert any(wrong in text for text in found) if wrong else not found, found


def registers(*operations):
    history = History()
    for op, begin, end, outcome, a, b, result in operations:
        history.operations.append(operation(op, begin, end, outcome, key=1, a=a, b=b, result=result))
    return checkers.linear(history, "register")


@pytest.fixture(scope="module")
def porcupine():
    try:
        checkers.linear_program()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"Porcupine is not there: run deps/fetch chaos ({error})")


def test_porcupine_judges_registers(porcupine):
    history = [("write", 1, 2, "ok", 3, 0, 1), ("write", 3, 9, "unknown", 4, 0, None), ("read", 4, 5, "ok", 0, 0, 3),
               ("read", 6, 7, "ok", 0, 0, 4), ("cas", 8, 9, "ok", 4, 1, 1), ("read", 10, 11, "ok", 0, 0, 1), ("cas", 12, 13, "ok", 3, 2, 0)]
    assert not registers(*history)
    for place, result in ((2, 0), (3, 0), (4, 0), (5, 4), (6, 1)):  # each answer in turn is a lie
        lie = [(*one[:6], result) if number == place else one for number, one in enumerate(history)]
        assert any("not linearizable: key 1" in text for text in registers(*lie)), lie
    # What has failed was not done, and who reads it has seen what is not there.
    assert registers(("write", 1, 2, "fail", 3, 0, None), ("read", 3, 4, "ok", 0, 0, 3))


def keyed(*operations, **how):
    """Each: (begin, end, outcome, part, ...), a part as "do key=value" and what else it has."""
    history = History()
    for begin, end, outcome, *parts in operations:
        told = [{"key": text.split()[1].partition("=")[0], "do": text.split()[0], "value": text.partition("=")[2], **what}
                for text, what in parts]
        refused = any("refused" in what for _, what in parts)
        history.operations.append(operation(told[0]["do"], begin, end, outcome, group="1", parts=told,
                                            done=None if outcome == "unknown" else not refused))
    return checkers.linear(history, "keys", **how)


def put_of(version, **what):
    return {"version": version, **what}


def got(value, version):
    return {"found": True, "value_found": value, "version": version}


NOTHING = {"found": False}
ANSWERS = [
    (1, 2, "ok", ("get a", NOTHING)),
    (3, 4, "ok", ("put a=10", put_of(5, **{"if": "absent"}))),
    (5, 6, "ok", ("put a=11", put_of(5, **{"if": "absent"}, refused=True))),
    (7, 8, "ok", ("put a=12", put_of(7, **{"if": "version"}, expect=5))),
    (9, 10, "ok", ("put a=13", put_of(7, **{"if": "version"}, expect=5, refused=True))),
    (11, 30, "unknown", ("add a=1", {})),
    (13, 14, "ok", ("get a", got("13", 9))),
    (15, 16, "ok", ("add a=2", {"value_found": "15"})),
    (17, 18, "ok", ("delete a", {"found": True})),
    (19, 20, "ok", ("delete a", {"found": False})),
    (21, 22, "ok", ("put a=20", put_of(14)), ("put b=21", put_of(3))),
    (23, 24, "ok", ("get a", got("20", 14)), ("get b", got("21", 3))),
]


def test_porcupine_judges_keys(porcupine):
    assert not keyed(*ANSWERS)
    for place, lie in ((0, got("9", 1)), (1, put_of(5, **{"if": "present"})), (2, put_of(4, **{"if": "absent"}, refused=True)),
                       (2, put_of(0, **{"if": "absent"}, refused=True)), (3, put_of(5, **{"if": "version"}, expect=5)),
                       (3, put_of(7, **{"if": "version"}, expect=4)), (4, put_of(7, **{"if": "version"}, expect=7, refused=True)),
                       (6, got("12", 9)), (6, got("13", 7)), (6, NOTHING), (7, {"value_found": "14"}), (8, {"found": False}),
                       (9, {"found": True}), (10, put_of(9)), (11, got("20", 15)), (11, NOTHING)):  # each is another one
        history = [list(one) for one in ANSWERS]
        history[place][3] = (ANSWERS[place][3][0], lie)
        assert any("not linearizable: key 1" in text for text in keyed(*history)), (place, lie)

# b is not there, so nothing is done.
HALF = (3, 4, "ok", ("put a=3", {}), ("put b=4", {"if": "present", "version": 0, "refused": True}))


@pytest.mark.parametrize("good, operations", [
    # What has failed was not done. What is unknown may be done late, or never.
    (False, [(1, 2, "fail", ("put a=1", {})), (3, 4, "ok", ("get a", got("1", 1)))]),
    (True, [(1, 2, "unknown", ("put a=1", {})), (3, 4, "ok", ("get a", NOTHING)), (5, 6, "ok", ("get a", got("1", 1)))]),
    (False, [(1, 2, "unknown", ("put a=1", {})), (3, 4, "ok", ("get a", got("1", 1))), (5, 6, "ok", ("get a", NOTHING))]),
    # One of an older version is not done twice.
    (False, [(1, 2, "ok", ("put a=1", put_of(1))), (3, 9, "unknown", ("put a=2", {"if": "version", "expect": 1})),
             (4, 5, "ok", ("put a=3", put_of(2))), (6, 7, "ok", ("get a", got("2", 3)))]),
    # The version of what an add has made is what somebody is told later, and not less than before.
    (True, [(1, 2, "ok", ("put a=1", put_of(4))), (3, 4, "ok", ("add a=1", {"value_found": "2"})),
            (5, 6, "ok", ("put a=9", {"version": 8, "if": "version", "expect": 6}))]),
    (False, [(1, 2, "ok", ("put a=1", put_of(4))), (3, 4, "ok", ("add a=1", {"value_found": "2"})),
             (5, 6, "ok", ("put a=9", {"version": 8, "if": "version", "expect": 4}))]),
    (False, [(1, 2, "ok", ("put a=1", put_of(4))), (3, 4, "ok", ("add a=1", {"value_found": "2"})), (5, 6, "ok", ("put a=9", put_of(5)))]),
    (True, [(1, 2, "ok", ("put a=1", put_of(4))), (3, 4, "ok", ("add a=1", {"value_found": "2", "version": 5}))]),
    (False, [(1, 2, "ok", ("put a=1", put_of(4))), (3, 4, "ok", ("add a=1", {"value_found": "2", "version": 4}))]),
    # A version is not used again after its key was deleted.
    (False, [(1, 2, "ok", ("put a=1", put_of(4))), (3, 4, "ok", ("delete a", {"found": True})), (5, 6, "ok", ("put a=1", put_of(4)))]),
    # Several keys: all or nothing, in one moment.
    (False, [(1, 9, "unknown", ("put a=1", {}), ("put b=2", {})), (3, 4, "ok", ("get a", got("1", 1))), (5, 6, "ok", ("get b", NOTHING))]),
    (False, [(1, 2, "ok", ("put a=1", put_of(1)), ("put b=2", put_of(1))),
             (3, 6, "ok", ("put a=3", put_of(2)), ("put b=4", put_of(2))), (4, 5, "ok", ("get a", got("1", 1)), ("get b", got("4", 2)))]),
    (False, [(1, 2, "ok", ("put a=1", put_of(1))), HALF, (5, 6, "ok", ("get a", got("3", 2)))]),
    (True, [(1, 2, "ok", ("put a=1", put_of(1))), HALF, (5, 6, "ok", ("get a", got("1", 1)))]),
])
def test_porcupine_judges_keys_in_the_small(porcupine, good, operations):
    assert bool(keyed(*operations)) != good, operations


def owned(value, begin, outcome="ok", version=None, key="own-1", **what):
    part = {"key": key, "do": "put", "value": value, **({"version": version} if version else {})}
    return operation("put", begin, begin + 1, outcome, parts=[part], **what)


@pytest.mark.parametrize("wrong, operations, final", [
    ("", [owned("1", 1, version=1), owned("2", 3, "unknown"), owned("3", 5, version=7), owned("4", 7, "fail")], [("own-1", 7, "3")]),
    ("", [owned("1", 1, version=1), owned("2", 3, "unknown"), owned("3", 5, version=7)], [("own-1", 8, "2")]),
    ("lost", [owned("1", 1, version=1)], []),
    ("lost", [owned("1", 1, version=1), owned("2", 3, version=2)], [("own-1", 1, "1")]),
    ("lost", [owned("1", 1, version=1), owned("2", 3, version=2)], [("own-1", 3, "1")]),
    ("lost", [owned("1", 1, version=1), owned("2", 3, "fail")], [("own-1", 2, "2")]),
    ("acknowledged was", [owned("1", 1, version=1)], [("own-1", 2, "1")]),
    ("from nowhere", [owned("1", 1, "fail")], [("own-1", 1, "1")]),
    ("from nowhere", [owned("1", 1, version=1)], [("own-1", 1, "1"), ("b", 1, "1")]),
    ("422", [owned("1", 1, "fail", error="422 22023 this Idempotency-Key was used for another request")], []),
])
def test_the_checker_of_keys(wrong, operations, final):
    found = checkers.kept(operations, final)
    assert any(wrong in text for text in found) if wrong else not found, found


def test_what_an_answer_says_of_a_key():
    def told(method, status, body=b"", **headers):
        found = key_outcome(method, status, headers, body)
        return found.kind, found.value

    def error(code, message):
        return json.dumps({"error": {"code": code, "sqlstate": "40001", "message": message, "retry": "safe"}}).encode()

    assert told("GET", 200, b"x", ETag='"7"') == ("ok", {"done": True, "found": True, "version": 7, "value_found": "x"})
    assert told("PUT", 200, b'{"version": 7}', ETag='"7"') == ("ok", {"done": True, "version": 7})
    assert told("DELETE", 204) == ("ok", {"done": True, "found": True})
    assert told("GET", 404, error("not_found", "there is no such key")) == ("ok", {"done": True, "found": False})
    assert told("PUT", 412, error("conflict", 'the key\'s version is "12"')) == ("ok", {"done": False, "version": 12})
    assert told("PUT", 412, error("conflict", "there is no such key")) == ("ok", {"done": False, "version": 0})
    parts = [{"key": key, "do": do} for key, do in (("a", "put"), ("b", "get"), ("c", "get"), ("d", "delete"), ("e", "add"))]
    results = [{"version": 3}, {"version": 0}, {"version": 4, "value": "x"}, {"version": 0, "deleted": True}, {"version": 7, "number": 5}]
    done = batch_outcome(parts, 200, json.dumps({"results": results}))
    assert done.value == {"done": True, "parts": [{"version": 3}, {"found": False}, {"found": True, "version": 4, "value_found": "x"},
                                                  {"found": True}, {"version": 7, "value_found": "5"}]}
    for message, version in (("it is there, with version 12", 12), ("there is no such key", 0)):
        refused = batch_outcome(parts[:2], 412, error("conflict", f'operation 1, put of "key": "b": {message}'))
        assert refused.kind == "ok" and refused.value == {"done": False, "parts": [{}, {"version": version}]}
    assert batch_outcome(parts, 503, error("unavailable", "no leader")).kind == "fail"
    assert told("PUT", 503, error("unavailable", "no leader"))[0] == "fail"
    assert told("PUT", 404, b"<html>")[0] == "unknown"


def test_only_what_says_so_has_failed():
    assert outcome_of(200, '{"result": {"rows_affected": 1}}').kind == "ok"
    assert outcome_of(503, '{"error": {"sqlstate": "57P03", "message": "no leader", "retry": "safe"}}').kind == "fail"
    assert outcome_of(504, '{"error": {"sqlstate": "40003", "message": "nobody knows", "retry": "maybe"}}').kind == "unknown"
    assert outcome_of(502, "<html>").kind == "unknown"


def test_what_is_not_decided_is_no_pass(porcupine):
    """Which of many unknown sums have happened before a number that none of them makes: too many to try."""
    maybe = [(1 + number, 1000, "unknown", (f"add a={2 << number}", {})) for number in range(40)]
    said = keyed(*maybe, (500, 501, "ok", ("get a", got("1", 3))), key_seconds=1)
    assert any("not decided in 1s: key 1" in text for text in said), said


@pytest.mark.parametrize("kind, line", [
    ("ok", ":7"), ("fail", "-MISCONF less than 128 MB are free where the data lie: nothing is written"), ("fail", "-CLUSTERDOWN no leader"),
    ("fail", "-TRYAGAIN too much is being written"), ("fail", "-OOM no memory"), ("unknown", "-ERR unknown outcome: nobody knows"),
    ("unknown", "-MISCONFIGURED"), ("unknown", "")])
def test_what_a_redis_client_hears(kind, line):
    """A full disk refuses: what counted that as unknown made histories that nobody could judge."""
    assert command_outcome(line).kind == kind


def test_a_few_seconds_of_faults(porcupine):
    """Real servers, real faults: the leader is killed, and one is cut off, while registers and keys are used."""
    done = subprocess.run([sys.executable, HERE / "run.py", "--fault", "kill-leader,cut-whole", "--workload", "register,keys",
                           "--seconds", "4"],
                          capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" strikes, ") == 4 and "4 runs, 0 with anomalies" in done.stdout, done.stdout
