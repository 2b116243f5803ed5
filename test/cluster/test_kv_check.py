"""cluster check compares keys: equal under load, and a replica that somebody changed behind our back is made anew."""
import json
import subprocess
import threading

import pytest

from conftest import BUILD, PASSWORD, USER, Cluster
from servers_kit import Servers, until


@pytest.fixture(scope="module")
def servers():
    made = Servers(Cluster, scale=0, shards=1)
    try:
        made.start_all()
        yield made
    finally:
        made.cluster.remove()


def check(servers, name):
    """merganser cluster check: its exit code, and the states of the shards of keys."""
    done = servers.cluster.run("cluster", "check", "--url", f"https://localhost:{servers.ports[name]}", "--username", USER,
                               "--password", PASSWORD, "--tls-roots", servers.cluster.ca, "--format", "json", check=False)
    report = json.loads(done.stdout)["replicas"]
    return done.returncode, [shard["state"] for shard in report["kv_shards"]], report["kv_shards"]


def events(servers, name, event):
    return servers.rows(name, f"SELECT detail FROM cluster.events WHERE event = '{event}'")


def test_keys_are_equal_while_they_change(servers):
    stop, failed = threading.Event(), []

    def write(number):
        name, turn = servers.names[number], 0
        while not stop.is_set():
            turn += 1
            ops = [{"op": "add", "key": f"sum-{turn % 7}"}, {"op": "put", "key": f"b{number}-{turn % 50}", "value": "x" * (turn % 900)}]
            for answer in (servers.request(name, "PUT", f"/kv/t/k{number}-{turn % 40}?ttl={1 + turn % 3}", b"%d" % turn),
                           servers.request(name, "DELETE", f"/kv/t/b{number}-{turn % 45}"),
                           servers.post(name, "/kv/t/batch", {"ops": ops})):
                if answer.status not in (200, 204, 404):
                    failed.append(answer.body)

    writers = [threading.Thread(target=write, args=(i,)) for i in range(3)]
    for writer in writers:
        writer.start()
    try:
        for turn in range(6):
            code, states, report = check(servers, servers.names[turn % 3])
            assert (code, states) == (0, ["equal"] * 4), report
            assert all(len({replica["sum"] for replica in shard["replicas"]}) == 1 and len(shard["replicas"]) == 3
                       for shard in report), report
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failed
    assert sum(shard["rows"] for shard in report) > 100
    damaged = {name: events(servers, name, "replica.damaged") for name in servers.names}
    assert not any(damaged.values()), (damaged, servers.logs())


def test_a_replica_that_differs_is_made_anew(servers):
    victim = servers.others(servers.coordinator())[0]
    for i in range(40):
        assert servers.request("server-1", "PUT", f"/kv/d/key-{i}", b"right-%d-right" % i).status == 200
    servers.stop(victim)
    poked = subprocess.run([BUILD / "test" / "unit" / "lsm_poke", servers.dirs[victim] / "kv" / "db", "right-17-right",
                            "wrong-17-wrong"], capture_output=True, text=True, timeout=30, check=False)
    assert poked.returncode == 0, poked.stderr
    servers.start(victim)
    assert servers.request(victim, "GET", "/kv/d/key-17?consistency=any").body == b"wrong-17-wrong"
    check(servers, servers.coordinator())
    until("a replica that was made anew", lambda: any("keys" in why for (why,) in events(servers, victim, "replica.damaged")) and
          events(servers, victim, "replica.rebuilt"), log=servers.logs)
    servers.await_ready(victim)
    assert servers.request(victim, "GET", "/kv/d/key-17?consistency=any").body == b"right-17-right"
    code, states, report = check(servers, victim)
    assert (code, states) == (0, ["equal"] * 4), report
