"""That the checkers find what they are for, and that a few seconds of faults leave no anomaly. The rest is `make chaos`."""
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import checkers  # noqa: E402  (the folder is no package: its files are a program of their own)
from client import History, outcome_of  # noqa: E402

pytestmark = pytest.mark.threads


def operation(op, begin, end, outcome="ok", **what):
    return {"client": 0, "node": "server-1", "op": op, "begin": begin, "end": end, "outcome": outcome, **what}


def appended(value, begin, end, outcome="ok", keys=(7,)):
    return operation("append", begin, end, outcome, keys=list(keys), value=value)


def read_list(begin, end, *values, key=7):
    return operation("read", begin, end, lists=[[key, [[place + 1, value] for place, value in enumerate(values)]]])


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
    return checkers.register(history)


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


def test_only_what_says_so_has_failed():
    assert outcome_of(200, '{"result": {"rows_affected": 1}}').kind == "ok"
    assert outcome_of(503, '{"error": {"sqlstate": "57P03", "message": "no leader", "retry": "safe"}}').kind == "fail"
    assert outcome_of(504, '{"error": {"sqlstate": "40003", "message": "nobody knows", "retry": "maybe"}}').kind == "unknown"
    assert outcome_of(502, "<html>").kind == "unknown"


def test_a_few_seconds_of_faults(porcupine):
    """Real servers, real faults: the leader is killed, and one is cut off, while registers are used."""
    done = subprocess.run([sys.executable, HERE / "run.py", "--fault", "kill-leader,cut-whole", "--workload", "register", "--seconds", "4"],
                          capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" strikes, ") == 2 and "2 runs, 0 with anomalies" in done.stdout, done.stdout
