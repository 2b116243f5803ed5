"""Files of a server that are lost or damaged: it notices, says so, and makes them anew from the others."""
import json
import random

import duckdb
import pytest

from conftest import PASSWORD, USER, Cluster
from servers_kit import Servers, nodes, replicas, until

THREE = ["server-1", "server-2", "server-3"]


@pytest.fixture(scope="module")
def servers():
    """Three of four are started; the tests of this file follow each other on them."""
    made = Servers(Cluster, count=4, scale=0.01, shards=4)
    try:
        for name in THREE:
            start(made, name, wait=name == "server-1")
        made.await_ready(*THREE)
        yield made
    finally:
        made.cluster.remove()


def start(servers, name, wait=True):
    servers.start(name, "--dead-after", "4s", wait=wait)


def flip(path, count, seed):
    """Bits all over the file, so that hardly a block is whole."""
    chance = random.Random(seed)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for at in sorted(chance.randrange(size) for _ in range(count)):
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ (1 << chance.randrange(8))]))


def events(servers, name):
    return [tuple(row) for row in servers.rows(name, "SELECT event, detail FROM cluster.events")]


def answer(servers, name):
    sql = "SELECT count(*), sum(l_extendedprice), bit_xor(hash(l_orderkey, l_linenumber, l_comment)) FROM lineitem"
    asked = servers.request(name, "POST", "/db/query?consistency=any", json.dumps({"sql": sql}).encode(),
                            headers={"Content-Type": "application/json"})
    assert asked.status == 200, asked.body
    return asked.json()["result"]["values"]


def test_lost_and_damaged_files_come_back(servers):
    right = answer(servers, "server-1")
    servers.stop("server-3")
    shards = servers.dirs["server-3"] / "shards"
    (shards / "0001.duckdb").unlink()
    with (shards / "0002.duckdb").open("r+b") as file:
        file.truncate(100_000)
    flip(shards / "0003.duckdb", 4000, 1)
    (shards / "0004.duckdb").write_bytes(b"")

    start(servers, "server-3")  # until it is healthy
    told = until("all to be told", lambda: len([1 for event, _ in events(servers, "server-3") if event == "replica.rebuilt"]) == 4
                 and events(servers, "server-3"), log=servers.logs)
    for shard in range(1, 5):
        assert [1 for event, detail in told if event == "replica.damaged" and detail.startswith(f"shard {shard}: ")]
        assert (shards / f"000{shard}.duckdb").stat().st_size > 0
    assert len(list(shards.glob("damaged-*.duckdb"))) == 3  # one was gone
    assert answer(servers, "server-3") == right
    assert not list(shards.glob("mend-*"))


def check(servers, name):
    """merganser cluster check at this server: its exit code and what it says of the replicas."""
    done = servers.cluster.run("cluster", "check", "--url", f"https://localhost:{servers.ports[name]}", "--username", USER,
                               "--password", PASSWORD, "--tls-roots", servers.cluster.ca, "--format", "json", check=False)
    said = json.loads(done.stdout) if done.stdout else done.stderr
    states = {(shard["shard"], one["node"]): one["state"] for shard in said["replicas"]["shards"] for one in shard["replicas"]}
    return done.returncode, states


def rebuilt(servers, name):
    return [detail for event, detail in events(servers, name) if event == "replica.rebuilt"]


def test_all_is_in_its_place(servers):
    done = servers.cluster.run("cluster", "rebalance", "--url", f"https://localhost:{servers.ports['server-2']}", "--username", USER,
                               "--password", PASSWORD, "--tls-roots", servers.cluster.ca, "--format", "json")
    assert json.loads(done.stdout) == {"balanced": True, "moves": []}
    refused = servers.request("server-2", "POST", "/cluster/rebalance", login=("worker", "united"))
    assert refused.status in (401, 403)


def test_replicas_are_compared(servers):
    for name in ("server-1", "server-3"):
        code, states = check(servers, name)
        assert code == 0 and set(states.values()) == {"equal"} and len(states) == 15, states
    servers.execute("CREATE TABLE compared AS SELECT i, 'v' || i AS v FROM range(1000) AS r(i)")
    servers.execute("DELETE FROM compared WHERE i % 7 = 0")
    code, states = check(servers, "server-2")
    assert code == 0 and set(states.values()) == {"equal"}, states


def test_a_replica_that_differs_is_made_anew(servers):
    """A row that somebody changed behind our back: every checksum of the file is right."""
    victim = servers.others(servers.coordinator())[0]
    right = answer(servers, "server-1")
    servers.stop(victim)
    path = servers.dirs[victim] / "shards" / "0002.duckdb"
    with duckdb.connect() as engine:
        engine.execute(f"ATTACH '{path}' AS s")
        engine.execute("UPDATE s.main.lineitem SET l_quantity = l_quantity + 1 WHERE _mg_rid = (SELECT min(_mg_rid) FROM s.main.lineitem)")
        engine.execute("CHECKPOINT s")
    start(servers, victim)
    code, states = check(servers, servers.coordinator())  # if it has not noticed by an earlier check, which lies in its log
    assert code == 0 or states[2, victim] in ("differs", "rebuilding"), states
    assert {state for at, state in states.items() if at != (2, victim)} == {"equal"}, states
    until("it to be rebuilt", lambda: len(rebuilt(servers, victim)) == 1, log=servers.logs)
    servers.await_ready(*THREE)
    assert any(event == "replica.damaged" and detail.startswith("shard 2: its rows are not those of 2 other servers")
               for event, detail in events(servers, victim))
    code, states = check(servers, victim)
    assert code == 0 and set(states.values()) == {"equal"}, states
    assert answer(servers, victim) == right


def opens_but_cannot_be_read(path, tables):
    with duckdb.connect() as engine:
        try:
            engine.execute(f"ATTACH '{path}' AS s (READ_ONLY)")
            engine.execute("SELECT * FROM s._mg.meta").fetchall()
        except duckdb.Error:
            return False
        try:
            for table in tables:
                engine.execute(f"SELECT bit_xor(hash(t)) FROM s.main.{table} AS t").fetchall()
        except duckdb.Error:
            return True
        return False


def test_damage_that_only_a_reader_meets(servers, tmp_path):
    victim = servers.others(servers.coordinator())[0]
    servers.stop(victim)
    path = servers.dirs[victim] / "shards" / "0001.duckdb"
    seed = 0
    whole = path.read_bytes()
    while not opens_but_cannot_be_read(path, ["lineitem"]):
        seed += 1
        path.write_bytes(whole)
        flip(path, 3, seed)
    start(servers, victim)
    sql = json.dumps({"sql": "SELECT sum(hash(l)) FROM lineitem AS l"}).encode()
    asked = servers.request(victim, "POST", "/db/query?consistency=any", sql, headers={"Content-Type": "application/json"})
    assert asked.status in (200, 500), asked.body  # never a wrong answer
    until("it to be rebuilt", lambda: len(rebuilt(servers, victim)) == 1, log=servers.logs)
    servers.await_ready(*THREE)
    assert answer(servers, victim) == answer(servers, "server-1")


def first_block(path, table):
    """Where the rows of a table begin in the file: blocks of 256 KiB follow three headers of 4 KiB."""
    with duckdb.connect() as engine:
        engine.execute(f"ATTACH '{path}' AS s (READ_ONLY)")
        engine.execute("USE s")
        blocks = [row[0] for row in engine.execute(f"SELECT block_id FROM pragma_storage_info('{table}')").fetchall() if row[0] >= 0]
    return 3 * 4096 + blocks[0] * 256 * 1024


def test_damage_of_what_a_start_reads(servers):
    """The tables can be read, and what the replica keeps beside them can't."""
    victim = servers.others(servers.coordinator())[0]
    servers.stop(victim)
    path = servers.dirs[victim] / "shards" / "0002.duckdb"
    with path.open("r+b") as file:
        file.seek(first_block(path, "_mg.pending") + 4096)
        file.write(b"\xff" * 8)  # of two words that are alike the engine's checksum sees nothing: it is an XOR over words
    assert not opens_but_cannot_be_read(path, ["lineitem"])
    start(servers, victim)
    until("it to be rebuilt", lambda: [detail[:7] for detail in rebuilt(servers, victim)] == ["shard 2"], log=servers.logs)
    servers.await_ready(*THREE)
    assert answer(servers, victim) == answer(servers, "server-1")


def test_each_in_turn(servers):
    """Whose newest snapshot is too old is asked for a newer one, also when the other one's is too old as well."""
    servers.execute("CREATE TABLE turns AS SELECT 0 AS turn")
    for turn, victim in enumerate([*THREE, *reversed(THREE)]):
        servers.execute(f"INSERT INTO turns VALUES ({turn})")
        servers.stop(victim)
        flip(servers.dirs[victim] / "shards" / "0000.duckdb", 4000, turn)
        start(servers, victim)
        until("it to be rebuilt", lambda: rebuilt(servers, victim), log=servers.logs)  # events are of this start
        servers.await_rows(victim, "SELECT count(*) FROM turns", [[turn + 2]])


def damage_log(directory):
    """In the middle of what is written, so that records of later batches follow."""
    path = sorted((directory / "log" / "raft").glob("0*.log"))[0]
    used = len(path.read_bytes().rstrip(b"\0"))
    with path.open("r+b") as file:
        file.seek(used // 2)
        file.write(b"\xff" * 16)


def number(servers, name):
    return json.loads((servers.dirs[name] / "node.json").read_text())["number"]


@pytest.mark.parametrize("victim", ["server-2", "server-1"])  # the first one alone can sign certificates
def test_a_server_without_its_log_becomes_another_node(servers, victim):
    before = number(servers, victim)
    servers.execute("INSERT INTO compared VALUES (5000, 'kept')")
    counts = "SELECT count(*), count(DISTINCT i) FROM compared"
    right = servers.rows(servers.others(victim)[0], counts)
    servers.stop(victim)
    damage_log(servers.dirs[victim])
    start(servers, victim)
    assert number(servers, victim) > 3 and before <= 3
    assert list(servers.dirs[victim].glob("damaged-log-*")) and not (servers.dirs[victim] / "reenter").exists()
    until("all to be ready", lambda: nodes(servers, victim) == dict.fromkeys(THREE, "ready"), log=servers.logs)
    until("all to vote", lambda: votes(servers, victim) == (THREE, []), log=servers.logs)
    servers.await_rows(victim, counts, right)
    said = {event for event, detail in events(servers, servers.coordinator()) if detail == victim}
    assert {"node.joined", "node.removed"} <= said, said


def votes(servers, at):
    """Who votes in every shard, and who follows."""
    found = replicas(servers, at).values()
    voters = [sorted(name for name, role in shard.items() if role != "standby") for shard in found]
    standbys = [sorted(name for name, role in shard.items() if role == "standby") for shard in found]
    return (voters[0], standbys[0]) if voters.count(voters[0]) == len(voters) and standbys.count(standbys[0]) == len(standbys) else None


def test_a_dead_server_is_replaced_and_comes_back_without_a_vote(servers):
    start(servers, "server-4")
    until("a standby", lambda: votes(servers, "server-1") == (THREE, ["server-4"]), log=servers.logs)
    dead = servers.others(servers.coordinator())[0]
    rest = servers.others(dead)
    at = rest[0]
    servers.kill(dead)
    until("its vote to go to the standby", lambda: votes(servers, at) == (rest, [dead]), log=servers.logs)
    assert nodes(servers, at)[dead] == "down"
    assert ("node.dead", dead) in events(servers, servers.coordinator())
    servers.execute("CREATE TABLE after_death AS SELECT 1 AS one")
    # Two of the three that vote now are enough: the fourth one's vote counts.
    second = next(name for name in rest if name not in (servers.coordinator(), "server-4"))
    servers.kill(second)
    servers.execute("INSERT INTO after_death VALUES (2)")
    start(servers, second)
    start(servers, dead)
    until("it to be a standby", lambda: votes(servers, at) == (rest, [dead]) and nodes(servers, at)[dead] == "ready", log=servers.logs)
    servers.await_rows(dead, "SELECT count(*) FROM after_death", [[2]])


def test_alone_it_says_which_file(tmp_path):
    cluster = Cluster(scale=0, shards=2)
    try:
        flip(cluster.data / "shards" / "0001.duckdb", 3000, 1)
        process = cluster.start("server", "server", "--data-dir", cluster.data, "--listen", "127.0.0.1:0")
        assert process.wait(60) == 1
        log = cluster.log()
        assert "shards/0001.duckdb" in log and "restore it" in log, log
    finally:
        cluster.remove()
