"""Many clients at once, statements that are ended, memory that is short."""
import contextlib
import json
import pathlib
import os
import random
import resource
import signal
import threading
import time

import pytest
from websockets.sync.client import connect

from conftest import PASSWORD, USER, basic

pytestmark = pytest.mark.threads

ROOT = pathlib.Path(__file__).resolve().parents[2]
TPCH = sorted((ROOT / "queries" / "tpch").glob("q*.sql"))
TEXTS = {path.stem: path.read_text() for path in TPCH}


def run(cluster, sql, path="", timeout=120):
    answer = cluster.request("POST", "/db/query" + path, json.dumps({"sql": sql}).encode(),
                             {"Content-Type": "application/json"}, timeout=timeout)
    assert answer.status == 200, answer.body
    return answer.json()["result"]["values"]


def close(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-9 * max(abs(a), abs(b)))


def same(ours, theirs):
    return len(ours) == len(theirs) and all(close(x, y) for a, b in zip(ours, theirs) for x, y in zip(a, b))


def test_32_clients_with_mixed_statements(cluster):
    expected = {name: run(cluster, sql, "?strategy=local") for name, sql in TEXTS.items()}
    wrong, lock = [], threading.Lock()

    def client(number):
        dice = random.Random(number)
        for _ in range(6):
            name, strategy = dice.choice(list(TEXTS)), dice.choice(["auto", "cut", "broadcast", "repartition", "gather"])
            try:
                rows = run(cluster, TEXTS[name], f"?strategy={strategy}")
                problem = None if same(rows, expected[name]) else rows[:2]
            except BaseException as error:
                problem = repr(error)
            if problem:
                with lock:
                    wrong.append((number, name, strategy, problem))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive(), "a client hangs"
    assert not wrong


class Shell:
    """The least of a client of /client: send a statement, cancel it, wait for its end."""

    def __init__(self, cluster):
        self.ws = connect(f"wss://localhost:{cluster.port}/client", ssl=cluster.tls(), max_size=None, compression=None,
                          additional_headers={"Authorization": basic((USER, PASSWORD))}).__enter__()
        self.ws.recv()
        self.number = 0

    def start(self, sql):
        self.number += 1
        self.ws.send(json.dumps({"type": "query", "id": self.number, "sql": sql}))

    def cancel(self):
        self.ws.send(json.dumps({"type": "cancel", "id": self.number}))

    def end(self, seconds=60):
        """The frame that ends the request."""
        while True:
            message = self.ws.recv(timeout=seconds)
            frame = json.loads(message) if isinstance(message, str) else {}
            if frame.get("type") in ("done", "error") and frame["id"] == self.number:
                return frame


def cancel_each(cluster, shell, names, dice, limit):
    """Cancel at a random moment of the statement; returns how long each took to be gone."""
    gone = []
    for name in names:
        started = time.monotonic()
        run(cluster, TEXTS[name], "?strategy=cut")
        whole = time.monotonic() - started
        shell.start("SET strategy = 'cut'")
        assert shell.end()["type"] == "done"
        shell.start(TEXTS[name])
        time.sleep(dice.random() * whole * 0.8)
        asked = time.monotonic()
        shell.cancel()
        frame = shell.end(limit)
        gone.append(time.monotonic() - asked)
        if frame["type"] == "error":
            assert frame["error"]["sqlstate"] == "57014", frame
    # Nothing is left behind, anywhere.
    deadline = time.monotonic() + 5
    while run(cluster, "SELECT count(*) FROM cluster.queries WHERE sql NOT LIKE '%cluster.queries%'") != [[0]]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return gone


def test_each_of_the_22_ends_when_it_is_cancelled(cluster):
    with contextlib.closing(Shell(cluster).ws) as _:
        pass
    cancel_each(cluster, Shell(cluster), TEXTS, random.Random(7), 10)


@pytest.mark.slow
def test_each_of_the_22_is_gone_within_250_ms_of_its_cancel_slow(new_cluster):
    cluster = new_cluster(scale=1, shards=4)
    cluster.start_server()
    for name in ("a", "b"):
        cluster.start_worker(name)
    cluster.wait_workers(2)
    gone = sorted(sum((cancel_each(cluster, Shell(cluster), TEXTS, random.Random(seed), 10) for seed in range(4)), []))
    print("cancel: median %.0f ms, p99 %.0f ms" % (gone[len(gone) // 2] * 1000, gone[len(gone) * 99 // 100] * 1000))


@pytest.mark.slow
def test_a_worker_stopped_in_the_middle_of_each_of_the_22_slow(new_cluster):
    cluster = new_cluster(scale=0.05)
    cluster.start_server()
    for name in ("steady", "sleeper"):
        cluster.start_worker(name)
    for name, sql in TEXTS.items():
        cluster.wait_workers(2, seconds=30)
        expected = run(cluster, sql, "?strategy=local")
        sleeper = cluster.processes["sleeper"]
        sleeper.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert same(run(cluster, sql, "?strategy=cut"), expected), name
            assert time.monotonic() - started < 15, name
        finally:
            sleeper.send_signal(signal.SIGCONT)


def test_a_statement_over_its_memory_spills_and_ends(new_cluster):
    cluster = new_cluster(scale=0.05)
    cluster.start_server("--memory-limit", "200MB", "--query-memory-limit", "1MB")
    cluster.start_worker("w")
    cluster.wait_workers(1)
    sql = ("SELECT count(*), sum(a.l_quantity) FROM lineitem a JOIN lineitem b ON a.l_suppkey = b.l_suppkey AND a.l_partkey = b.l_partkey "
           "AND a.l_shipdate = b.l_shipdate")
    expected = run(cluster, sql, "?strategy=local")
    assert same(run(cluster, sql, "?strategy=repartition"), expected)
    assert same(run(cluster, sql, "?strategy=gather"), expected)


@pytest.mark.skipif("san" in os.environ.get("MG_BUILD", ""), reason="sanitizers map more than any limit")
def test_greedy_statements_end_and_the_server_lives(new_cluster):
    """mode() keeps its values outside of the engine's own limit, in small pieces, until the reserve is opened."""
    cluster = new_cluster()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    server = cluster.start_server("--memory-limit", "200MB",
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1000 << 20, hard)))
    enough, broken = threading.Event(), []

    def client():
        while not enough.is_set():
            answer = cluster.request("POST", "/db/query", b'{"sql": "SELECT mode(i) FROM range(40000000) t(i)"}',
                                     {"Content-Type": "application/json"}, timeout=120)
            if answer.status != 429 or answer.json()["error"]["sqlstate"] != "53200":
                broken.append(answer.body)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    # Those that ask for more are ended, or fail by themselves as long as memory stays short.
    enough_s, deadline = time.monotonic() + 15, time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline and (
            "event=memory.short" not in cluster.log() or "event=query.shed" not in cluster.log() and time.monotonic() < enough_s):
        time.sleep(0.05)
    enough.set()
    for thread in clients:
        thread.join()
    assert server.poll() is None and not broken, (broken, cluster.log())
    assert "event=memory.short" in cluster.log()
    # What was taken is given back, and the server is as before.
    while True:
        answer = cluster.request("POST", "/db/query", json.dumps({"sql": TEXTS["q01"]}).encode(), {"Content-Type": "application/json"})
        if answer.status == 200:
            break
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.1)
    assert any(row == ["53200"] for row in run(cluster, "SELECT DISTINCT sqlstate FROM cluster.query_history"))
