"""Every cluster has keys: those that are made now, and those that were made without and get them while they run."""
import json
import subprocess

import pytest

from conftest import PASSWORD, PROGRAM, USER
from servers_kit import Servers, until


def catalog(data):
    return json.loads((data / "log" / "catalog.json").read_text())["catalog"]


def kv(servers, name, method, path, body=None):
    return servers.request(name, method, f"/kv/{path}", body)


def enable(servers, name, *args):
    return servers.cluster.run("cluster", "enable-keys", "--url", f"https://localhost:{servers.ports[name]}", "--username", USER,
                               "--password", PASSWORD, "--tls-roots", servers.cluster.ca, *args, check=False)


def await_keys(servers, *names):
    """They have what a majority has: a read of theirs waits for that."""
    for name in names:
        until(f"keys at {name}", lambda one=name: kv(servers, one, "GET", "t/none").status == 404, log=servers.logs)


def check(servers, names, expected):
    for name in names:
        for key, value in expected.items():
            answer = kv(servers, name, "GET", f"t/{key}")
            assert (answer.status, answer.body) == (200, value), (name, key, answer.status, answer.body)


def put_some(servers, names, expected, turn):
    for i, name in enumerate(names * 4):
        key, value = f"{turn}-{i}", b"%d of %d" % (i, turn)
        assert kv(servers, name, "PUT", f"t/{key}", value).status == 200, (name, key)
        expected[key] = value


def bootstrap(data, *args):
    return subprocess.run([PROGRAM, "bootstrap", "--data-dir", data, "--tpch-scale-factor", "0", "--shard-count", "1", *args],
                          capture_output=True, text=True, timeout=60, check=False)


def test_bootstrap_makes_four_shards_of_keys(tmp_path):
    data = tmp_path / "data"
    assert bootstrap(data).returncode == 0
    assert catalog(data)["kv_shards"] == 4
    for same in ((), ("--kv-shard-count", "4")):
        done = bootstrap(data, *same)
        assert done.returncode == 0 and "nothing was changed" in done.stderr
    done = bootstrap(data, "--kv-shard-count", "0")
    assert done.returncode == 1 and "has 4 shards of keys, not 0" in done.stderr
    without = tmp_path / "without"
    assert bootstrap(without, "--kv-shard-count", "0").returncode == 0
    assert catalog(without)["kv_shards"] == 0
    assert bootstrap(without).returncode == 0 and catalog(without)["kv_shards"] == 0
    done = bootstrap(without, "--kv-shard-count", "4")
    assert done.returncode == 1 and "enable-keys" in done.stderr
    done = bootstrap(tmp_path / "many", "--kv-shard-count", "1025")
    assert done.returncode == 1 and "--kv-shard-count" in done.stderr


def test_a_fresh_directory_of_a_server_has_them(new_cluster):
    cluster = new_cluster(scale=0, shards=1)
    fresh = cluster.dir / "fresh"
    process = cluster.start("fresh", "server", "--data-dir", fresh, "--listen", "127.0.0.1:0")
    until("a catalog", lambda: (fresh / "log" / "catalog.json").exists() and catalog(fresh)["kv_shards"] == 4, 30)
    process.terminate()
    assert process.wait(20) == 0


def test_a_lone_cluster_gets_keys_while_it_runs(new_cluster):
    servers, expected = Servers(new_cluster, count=1, scale=0, shards=1, kv_shards=0), {}
    name = servers.names[0]
    servers.start(name)
    answer = kv(servers, name, "PUT", "t/a", b"1")
    assert answer.status == 501 and "cluster enable-keys" in answer.json()["error"]["hint"]
    for wrong in ("0", "65"):
        assert enable(servers, name, "--kv-shard-count", wrong).returncode == 1
    answer = servers.request(name, "PUT", "/cluster/keys", b'{"kv_shards": 65}')
    assert answer.status == 400, answer.body
    assert enable(servers, name, "--kv-shard-count", "3").returncode == 0
    await_keys(servers, name)
    put_some(servers, [name], expected, 1)
    check(servers, [name], expected)
    assert enable(servers, name, "--kv-shard-count", "3").returncode == 0
    other = enable(servers, name, "--kv-shard-count", "4")
    assert other.returncode != 0 and "has 3 shards of keys already" in other.stderr
    servers.kill(name)
    servers.start(name)
    check(servers, [name], expected)
    put_some(servers, [name], expected, 2)
    servers.stop(name)
    servers.start(name)
    check(servers, [name], expected)
    assert servers.rows(name, "SELECT count(*) FROM cluster.kv_shards") == [[3]]


def test_a_server_that_cannot_begin_tries_again(new_cluster):
    """Something lies where its keys should; once that is gone it has them, without a restart."""
    servers, expected = Servers(new_cluster, count=3, scale=0, shards=1, kv_shards=0), {}
    servers.start_all()
    stuck, others = "server-3", ["server-1", "server-2"]
    in_the_way = servers.dirs[stuck] / "kv" / "db"
    assert not in_the_way.exists()
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("in the way")
    assert enable(servers, "server-1", "--kv-shard-count", "2").returncode == 0
    await_keys(servers, *others)
    put_some(servers, others, expected, 1)
    until("the log to say it twice", lambda: servers.cluster.log(stuck).count("event=kv.begin") >= 2, log=servers.logs)
    answer = kv(servers, stuck, "PUT", "t/a", b"1")
    assert answer.status == 503 and "kv.begin" in answer.json()["error"]["hint"], answer.body
    in_the_way.unlink()
    await_keys(servers, stuck)
    check(servers, servers.names, expected)
    put_some(servers, servers.names, expected, 2)
    check(servers, servers.names, expected)


@pytest.mark.parametrize("victim", ["server-1", "server-2"])
def test_servers_get_keys_though_some_are_killed_meanwhile(new_cluster, victim):
    """Three that vote, one that does not, one that is away as it is said, one that is killed just then, one that comes later."""
    servers, expected = Servers(new_cluster, count=5, scale=0, shards=2, kv_shards=0), {}
    standby, late = servers.names[3:]
    for name in servers.names[:4]:
        servers.start(name)
    away = "server-3"
    servers.kill(away)
    wanted = enable(servers, next(name for name in ("server-1", "server-2") if name != victim))
    servers.kill(victim)
    assert wanted.returncode == 0, wanted.stderr
    servers.start(victim, wait=False)
    there = ["server-1", "server-2", standby]
    servers.await_ready(*there)
    await_keys(servers, *there)
    put_some(servers, there, expected, 1)
    check(servers, there, expected)
    servers.start(away)
    await_keys(servers, away)
    check(servers, [away], expected)
    servers.start(late)
    await_keys(servers, late)
    check(servers, servers.names, expected)
    for name in ("server-1", "server-2"):
        servers.kill(name)
        put_some(servers, [one for one in servers.names if one != name], expected, int(name[-1]) + 1)
        servers.start(name)
    check(servers, servers.names, expected)
    servers.stop(*servers.names)
    for name in servers.names:
        servers.start(name, wait=False)
    servers.await_ready(*servers.names)
    check(servers, servers.names, expected)
