"""Statements that the engine cannot be interrupted in: one call of a function that takes minutes."""
import json
import threading
import time

import pytest
from websockets.sync.client import connect

from conftest import PASSWORD, USER, basic

# About 10^11 steps in one call; with a column it runs in the engine, as a constant already while planning.
CALLS = {
    "engine": "SELECT levenshtein(repeat('a', 300000 + n_nationkey::INTEGER), repeat('b', 300000)) FROM nation "
              "WHERE n_nationkey = 0",
    "planner": "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
}


class Shell:
    """The least of a client of /client."""

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

    def end(self):
        """The frame that ends the request."""
        while True:
            message = self.ws.recv(timeout=60)
            frame = json.loads(message) if isinstance(message, str) else {}
            if frame.get("type") in ("done", "error") and frame["id"] == self.number:
                return frame


def query(cluster, sql, path=""):
    return cluster.request("POST", "/db/query" + path, json.dumps({"sql": sql}).encode(),
                           {"Content-Type": "application/json"})


def values(answer):
    assert answer.status == 200, answer.body
    return answer.json()["result"]["values"]


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def server(new_cluster):
    one = new_cluster()
    one.start_server()
    return one


def states(cluster):
    rows = values(query(cluster, "SELECT state, sql FROM cluster.queries"))
    return [state for state, sql in rows if "levenshtein" in sql]


@pytest.mark.parametrize("where", CALLS)
def test_a_time_limit_is_told_while_the_call_goes_on(server, where):
    answer = query(server, CALLS[where], path="?timeout=200ms")
    assert answer.status == 504 and answer.json()["error"]["sqlstate"] == "57014", answer.body
    assert states(server) == ["cancelled"]  # it has not come back yet
    assert "query.left" in server.log()
    assert values(query(server, "SELECT count(*) FROM nation")) == [[25]]


@pytest.mark.parametrize("where", CALLS)
def test_who_cancels_is_told_and_goes_on(server, where):
    shell = Shell(server)
    shell.start(CALLS[where])
    assert wait_until(lambda: states(server) == ["running"])
    shell.cancel()
    assert shell.end()["error"]["sqlstate"] == "57014"
    shell.start("SELECT 1")
    assert shell.end()["type"] == "done"


def test_explain_analyze_and_cancel_by_id(server):
    shell, other = Shell(server), Shell(server)
    shell.start("EXPLAIN ANALYZE " + CALLS["engine"])
    assert wait_until(lambda: states(server) == ["running"])
    rows = values(query(server, "SELECT id, sql FROM cluster.queries"))
    other.start(f"CANCEL '{[name for name, sql in rows if sql.startswith('EXPLAIN')][0]}'")
    assert other.end()["type"] == "done"
    assert shell.end()["error"]["sqlstate"] == "57014"


@pytest.mark.speed  # under a sanitizer the calls end before the last client is told
def test_many_of_them_leave_room_and_the_server_stops(server):
    """Each client is told; what is left behind gives its slot back, and others are served."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(query(server, CALLS["engine"], path="?timeout=300ms")))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status for answer in answers] == [504] * 8
    left = len(states(server))
    assert 1 <= left <= 8
    assert values(query(server, "SELECT count(*) FROM nation")) == [[25]]
    metrics = server.get("/metrics").body.decode()
    assert f"merganser_statements_left {left}" in metrics
    last = Shell(server)
    last.start(CALLS["engine"])
    assert wait_until(lambda: "running" in states(server))
    process = server.processes["server"]
    process.terminate()
    assert last.end()["error"]["sqlstate"] == "57P01"  # told, before the server gives up waiting
    assert process.wait(15) == 0
