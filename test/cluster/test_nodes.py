"""Several servers: they join, take replicas, lose members and get them back, and agree on every row."""
import http.client
import json
import re
import shutil
import signal
import threading
import time

import pytest

from servers_kit import Servers, free_port, nodes, replicas, until

pytestmark = pytest.mark.threads


@pytest.fixture
def make_servers(new_cluster):
    return lambda **kwargs: Servers(new_cluster, **kwargs)


def test_three_servers_hold_everything(make_servers):
    servers = make_servers(scale=0.01, shards=4)
    servers.start_all()
    counts = "SELECT (SELECT count(*) FROM lineitem), (SELECT count(*) FROM orders), (SELECT count(*) FROM nation)"
    expected = servers.rows("server-1", counts)
    assert expected[0][0] > 50000 and expected[0][2] == 25
    leader = servers.coordinator()
    for name in servers.names:
        servers.await_rows(name, counts, expected)
        until("all servers to be ready", lambda at=name: nodes(servers, at) == dict.fromkeys(servers.names, "ready"))
        # The coordinator leads every shard, so that a write needs no hop.
        until("the shards to gather", lambda at=name: replicas(servers, at) == {
            shard: {one: "leader" if one == leader else "voter" for one in servers.names} for shard in range(5)}, log=servers.logs)
        assert {one["node"] for one in servers.status(name)["leaders"]} == {leader}
    servers.execute("CREATE TABLE t (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    servers.execute("INSERT INTO t SELECT i, 'v' || i FROM range(1000) AS r(i)")
    for name in servers.names:
        servers.await_rows(name, "SELECT count(*), sum(k), min(v) FROM t", [[1000, "499500", "v0"]])
    until("no lag", lambda: servers.rows(leader, "SELECT max(lag) FROM cluster.replicas") == [[0]])
    events = [event for (event,) in servers.rows(leader, "SELECT event FROM cluster.events")]
    assert events.count("node.joined") == 2, events
    # Snapshots for others have rewritten the files: workers get what is there now.
    servers.cluster.start_worker("worker-1")
    until("a worker with all shards", lambda: servers.rows(
        "server-1", "SELECT state, shards FROM cluster.nodes WHERE role = 'worker'") == [["ready", 4]], log=servers.logs)


def test_any_one_may_die_and_come_back(make_servers):
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    servers.execute("CREATE TABLE t (k INTEGER) PARTITIONED BY (k)")
    rows = 0
    for victim in [servers.coordinator(), *servers.names]:
        servers.kill(victim)
        for other in servers.others(victim):
            until(f"{victim} to be down", lambda at=other, who=victim: nodes(servers, at)[who] == "down", log=servers.logs)
        servers.execute(f"INSERT INTO t SELECT i FROM range({rows}, {rows + 100}) AS r(i)")
        rows += 100
        servers.start(victim)
        for name in servers.names:
            servers.await_rows(name, "SELECT count(*), count(DISTINCT k) FROM t", [[rows, rows]])
    events = servers.rows(servers.names[0], "SELECT DISTINCT event FROM cluster.events")
    assert {("leader.changed",), ("node.down",), ("node.up",)} <= {tuple(event) for event in events}, events
    servers.stop(*servers.names)
    for name in servers.names:
        servers.start(name, wait=False)
    servers.await_ready(*servers.names)
    for name in servers.names:
        servers.await_rows(name, "SELECT count(*), count(DISTINCT k) FROM t", [[rows, rows]])
    for name in servers.names:
        servers.kill(name)
    for name in servers.names:
        servers.start(name, wait=False)
    servers.await_ready(*servers.names)
    servers.execute("INSERT INTO t VALUES (-1)")
    for name in servers.names:
        servers.await_rows(name, "SELECT count(*), count(DISTINCT k) FROM t", [[rows + 1, rows + 1]])


def test_one_that_sleeps_for_long_catches_up(make_servers):
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    servers.execute("CREATE TABLE t (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    sleeper = next(name for name in servers.names if name != servers.coordinator())
    servers.cluster.processes[sleeper].send_signal(signal.SIGSTOP)
    try:
        for other in servers.others(sleeper):
            until(f"{sleeper} to be down", lambda at=other: nodes(servers, at)[sleeper] == "down", log=servers.logs)
        names, servers.names = servers.names, servers.others(sleeper)
        for i in range(30):
            servers.execute(f"INSERT INTO t SELECT i, repeat('x', 100) FROM range({i * 1000}, {i * 1000 + 1000}) AS r(i)")
        servers.names = names
    finally:
        servers.cluster.processes[sleeper].send_signal(signal.SIGCONT)
    servers.await_rows(sleeper, "SELECT count(*), count(DISTINCT k) FROM t", [[30000, 30000]])
    servers.await_ready(sleeper)


def test_a_drained_server_gives_up_all(make_servers):
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    leaving = servers.coordinator()
    staying = servers.others(leaving)

    def ask_for(state, at):
        answer = servers.request(at, "PUT", f"/cluster/nodes/{leaving}", json.dumps({"state": state}).encode(),
                                 headers={"Content-Type": "application/json"})
        assert answer.status == 200, answer.body

    ask_for("draining", leaving)
    for name in staying:
        until("the others to have it all", lambda at=name: all(set(shard) == set(staying) for shard in replicas(servers, at).values()),
              log=servers.logs)
        assert nodes(servers, name)[leaving] == "draining"
    until("it to serve no more", lambda: not servers.healthy(leaving))
    names, servers.names = servers.names, staying
    servers.execute("CREATE TABLE t (k INTEGER) PARTITIONED BY (k)")
    servers.execute("INSERT INTO t SELECT i FROM range(100) AS r(i)")
    ask_for("member", servers.coordinator())
    servers.names = names
    servers.await_ready(leaving)
    servers.await_rows(leaving, "SELECT count(*) FROM t", [[100]])


def test_a_directory_that_is_lost_is_replaced(make_servers):
    servers = make_servers(scale=0.01, shards=3)
    servers.start_all()
    expected = servers.rows("server-1", "SELECT count(*), sum(l_quantity) FROM lineitem")
    victim = next(name for name in servers.names if name != servers.coordinator())
    servers.kill(victim)
    shutil.rmtree(servers.dirs[victim])
    answer = servers.request(servers.coordinator(), "PUT", f"/cluster/nodes/{victim}", b'{"state": "removed"}',
                             headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    servers.start(victim)
    number = json.loads((servers.dirs[victim] / "node.json").read_text())["number"]
    assert number == len(servers.names) + 1
    servers.await_rows(victim, "SELECT count(*), sum(l_quantity) FROM lineitem", expected)
    for name in servers.names:
        until("three replicas again", lambda at=name: all(set(shard) == set(servers.names) for shard in replicas(servers, at).values()),
              log=servers.logs)


def test_an_address_may_change(make_servers):
    servers = make_servers(scale=0, shards=2)
    servers.start_all()
    mover = next(name for name in servers.names if name != servers.coordinator())
    servers.stop(mover)
    servers.ports[mover] = free_port()
    servers.start(mover)
    for name in servers.names:
        until("the new address", lambda at=name: servers.rows(at, f"SELECT address, state FROM cluster.nodes WHERE id = '{mover}'")
              == [[f"127.0.0.1:{servers.ports[mover]}", "ready"]], log=servers.logs)


def test_a_seed_goes_on_after_a_kill(make_servers):
    servers = make_servers(scale=0.01, shards=4, count=2)
    servers.start("server-1")
    for _ in range(3):
        servers.start("server-2", wait=False)
        until("a group to have come", lambda: "seed.group" in servers.cluster.log("server-2"), log=servers.logs)
        servers.kill("server-2")
    servers.start("server-2")
    # No group was begun twice.
    begun = re.findall(r"seed\.group.* group=(\d+)", servers.cluster.log("server-2"))
    assert len(begun) == len(set(begun)) or len(begun) <= 6 + 3, begun
    assert servers.rows("server-2", "SELECT count(*) FROM nation") == [[25]]


class Handle:
    """A transaction over HTTP at one server."""

    def __init__(self, servers, name):
        self.servers, self.name = servers, name
        answer = servers.request(name, "POST", "/db/tx", b"")
        assert answer.status == 200, answer.body
        self.id = answer.json()["result"]["id"]

    def execute(self, sql):
        return self.servers.request(self.name, "POST", f"/db/execute?tx={self.id}", json.dumps({"sql": sql}).encode(),
                                    headers={"Content-Type": "application/json"})

    def rows(self, sql):
        answer = self.servers.request(self.name, "POST", f"/db/query?tx={self.id}", json.dumps({"sql": sql}).encode(),
                                      headers={"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        return answer.json()["result"]["values"]

    def end(self, how):
        return self.servers.request(self.name, "POST", f"/db/tx/{self.id}/{how}", b"")


def sqlstate(answer):
    return answer.json()["error"]["sqlstate"]


def test_a_transaction_is_taken_by_any_server(make_servers):
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    servers.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER) PARTITIONED BY (k)")
    leader = servers.coordinator()
    one, other = servers.others(leader)
    for name in servers.names:
        servers.await_rows(name, "SELECT count(*) FROM t", [[0]])
    handle = Handle(servers, one)
    assert handle.execute("INSERT INTO t SELECT i, 0 FROM range(100) AS r(i)").json()["result"]["rows_affected"] == 100
    assert handle.execute("UPDATE t SET v = k WHERE k < 10").json()["result"]["rows_affected"] == 10
    assert handle.rows("SELECT count(*), sum(v) FROM t") == [[100, "45"]]
    for name in servers.names:
        assert servers.rows(name, "SELECT count(*) FROM t") == [[0]]
    assert handle.end("commit").status == 200
    for name in servers.names:
        assert servers.rows(name, "SELECT count(*), sum(v) FROM t") == [[100, "45"]]
    # Two servers, the same row.
    first, second = Handle(servers, one), Handle(servers, other)
    assert second.rows("SELECT v FROM t WHERE k = 1") == [[1]]
    assert first.execute("UPDATE t SET v = 7 WHERE k = 1").status == 200
    assert second.execute("UPDATE t SET v = 8 WHERE k = 1").status == 200
    assert first.end("commit").status == 200
    answer = second.end("commit")
    assert answer.status == 409 and sqlstate(answer) == "40001"
    assert servers.rows(other, "SELECT v FROM t WHERE k = 1") == [[7]]
    # What fails there has failed here.
    handle = Handle(servers, other)
    assert sqlstate(handle.execute("INSERT INTO t VALUES (1, 1)")) == "23505"
    assert sqlstate(handle.execute("DELETE FROM t")) == "25P02"
    assert handle.end("rollback").status == 200
    # A client that goes away.
    handle = Handle(servers, one)
    assert handle.execute("DELETE FROM t").status == 200
    assert handle.end("rollback").status == 200
    assert servers.rows(leader, "SELECT count(*) FROM t") == [[100]]


def test_a_transaction_begins_where_the_next_coordinator_is(make_servers):
    """Nothing of it was anywhere when the old one fell silent; what comes later says that all of it is to be run again."""
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    servers.execute("CREATE TABLE t (k INTEGER, v INTEGER) PARTITIONED BY (k)")
    silent = servers.coordinator()
    one, other = servers.others(silent)
    servers.await_rows(one, "SELECT count(*) FROM t", [[0]])
    late, begun = Handle(servers, one), Handle(servers, one)
    assert begun.execute("INSERT INTO t VALUES (1, 1)").status == 200
    process = servers.cluster.processes[silent]
    process.send_signal(signal.SIGSTOP)
    try:
        answer = late.execute("INSERT INTO t SELECT i, 0 FROM range(100) AS r(i)")
        assert answer.status == 200, answer.body
        answer = begun.execute("INSERT INTO t VALUES (2, 2)")
        error = answer.json()["error"]
        assert answer.status == 409 and error["sqlstate"] == "40001" and "run the whole of it again" in error["hint"], error
        answer = late.end("commit")
        assert answer.status == 200, answer.body
    finally:
        process.send_signal(signal.SIGCONT)
    for name in servers.names:
        servers.await_rows(name, "SELECT count(*), sum(v) FROM t", [[100, "0"]])


def test_a_transaction_ends_with_the_server_that_runs_it(make_servers):
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    servers.execute("CREATE TABLE t (k INTEGER, v INTEGER) PARTITIONED BY (k)")
    servers.execute("INSERT INTO t SELECT i, 0 FROM range(100) AS r(i)")
    leader = servers.coordinator()
    one = servers.others(leader)[0]
    done, handle = Handle(servers, one), Handle(servers, one)
    assert done.execute("INSERT INTO t VALUES (1000, 1)").status == 200
    assert done.end("commit").status == 200
    assert handle.execute("UPDATE t SET v = 1").status == 200
    servers.kill(leader)
    answer = handle.execute("DELETE FROM t")
    assert sqlstate(answer) == "40001", answer.body
    assert sqlstate(handle.end("commit")) == "25P02"
    assert handle.end("rollback").status == 200
    for name in servers.others(leader):
        servers.await_rows(name, "SELECT count(*), sum(v) FROM t", [[101, "1"]])

    def again():
        handle = Handle(servers, one)
        answers = [handle.execute("UPDATE t SET v = v + 1"), handle.end("commit")]
        return [answer.status for answer in answers] == [200, 200]

    until("a transaction at the next coordinator", again, log=servers.logs)
    servers.await_rows(one, "SELECT count(*), sum(v) FROM t", [[101, "102"]])


def test_transfers_over_any_server_keep_their_sum_while_coordinators_die(make_servers):
    servers = make_servers(scale=0, shards=3)
    servers.start_all()
    servers.execute("CREATE TABLE bank (id INTEGER PRIMARY KEY, money INTEGER) PARTITIONED BY (id)")
    servers.execute("CREATE TABLE done (n INTEGER) PARTITIONED BY (n)")
    servers.execute("INSERT INTO bank SELECT i, 100 FROM range(30) AS r(i)")
    stop, said, lock, unexpected = threading.Event(), {}, threading.Lock(), []
    expected = {"done", "lost", "40001", "40003", "57P01", "57P03", "57014", "53300"}

    def transfers(name, first):
        number = first
        while not stop.is_set():
            number += 10
            sql = [f"UPDATE bank SET money = money - 1 WHERE id = {number % 13}", f"INSERT INTO done VALUES ({number})",
                   f"UPDATE bank SET money = money + 1 WHERE id = {15 + number % 11}"]
            try:
                answer = servers.cluster.request("POST", "/db/execute", json.dumps({"statements": sql, "transaction": True}).encode(),
                                                 {"Content-Type": "application/json"}, port=servers.ports[name])
                how = "done" if answer.status == 200 else sqlstate(answer)
            except (OSError, http.client.HTTPException):
                how = "lost"  # with the server that was asked
            with lock:
                said[number] = how
                if how not in expected:
                    unexpected.append((name, time.strftime("%T"), answer.body))

    threads = [threading.Thread(target=transfers, args=(name, i)) for i, name in enumerate(servers.names * 2)]
    for thread in threads:
        thread.start()

    def count(how):
        with lock:
            return sum(one == how for one in said.values())

    try:
        for _ in range(3):
            before = count("done")
            until("transfers", lambda more=before + 10: count("done") >= more, log=servers.logs)
            victim = servers.coordinator()
            servers.kill(victim)
            time.sleep(1)
            servers.start(victim, wait=False)
            servers.await_ready(*servers.names)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not unexpected, f"{unexpected}\n{servers.logs()}"
    there = {number for (number,) in servers.rows(servers.coordinator(), "SELECT n FROM done")}
    assert servers.rows(servers.coordinator(), "SELECT sum(money), count(*) FROM bank") == [["3000", 30]]
    assert {number for number, how in said.items() if how == "done"} <= there
    assert not [number for number in there if said[number] not in ("done", "lost", "40003")]
    assert servers.rows(servers.coordinator(), "SELECT count(*) FROM done") == [[len(there)]]
