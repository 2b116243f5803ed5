"""A statement that writes more rows than lie in memory: into hidden tables first, and all of them at once."""
import json
import signal
import threading

import duckdb
import pytest

from conftest import Cluster
from servers_kit import Servers, until
from test_changes import changes, token
from test_damage import check

pytestmark = pytest.mark.threads

STAGE = ("--write-memory", "64KiB")  # so that some thousand rows are many


def hidden(data):
    """Tables that nobody sees in the shards' files; the server has ended."""
    found = []
    for path in sorted((data / "shards").glob("*.duckdb")):
        with duckdb.connect(str(path), read_only=True) as files:
            found += files.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = '_mg_staging' OR "
                                   "regexp_full_match(table_name, '[0-9]+#[0-9]+')").fetchall()
    return found


@pytest.fixture(scope="module")
def one(request):
    """One server that stages at once."""
    cluster = Cluster(scale=0)
    cluster.start_server("--threads", "2", "--memory-limit", "512MiB", *STAGE)
    request.addfinalizer(cluster.remove)
    request.addfinalizer(cluster.stop)
    return cluster


def test_a_reference_table_that_grows_large_is_told_of(one):
    large = "SELECT repeat('x', 1000000) AS s FROM range(60)"
    assert "holds about" not in one.shell(f"CREATE TABLE large AS {large}").stderr
    said = one.shell(f"INSERT INTO large {large}").stderr
    assert said.count("note: the reference table \"large\" holds about 120 MB") == 1 and "SET PARTITIONED BY" in said, said
    assert one.log().count("table.large") == 1
    assert "holds about" not in one.shell("INSERT INTO large VALUES ('y')").stderr
    one.sql("DROP TABLE large")


def test_rows_of_every_kind_come_in_their_order_and_nothing_is_left(one):
    one.sql("CREATE TABLE r (i BIGINT, rid VARCHAR, slot DECIMAL(9, 2)[])")
    one.sql("CREATE TABLE p (k BIGINT PRIMARY KEY, v VARCHAR) PARTITIONED BY (k)")
    one.sql("INSERT INTO r SELECT 19999 - i, 'row ' || i, [i, NULL] FROM range(20000) t(i)")
    assert one.rows("SELECT count(*), bool_and(i + r.n = 19999), bool_and(rid = 'row ' || n), bool_and(slot[1] = n) "
                    "FROM (SELECT *, row_number() OVER () - 1 AS n FROM r) r") == [[20000, True, True, True]]
    one.sql("INSERT INTO p SELECT i, 'first' FROM range(20000) t(i)")
    one.sql("UPDATE p SET v = v || ' again' WHERE k % 2 = 0")
    one.sql("UPDATE p SET k = k + 20000 WHERE k < 10000")  # to other shards
    one.sql("DELETE FROM p WHERE k % 4 = 1")
    one.sql("MERGE INTO p USING (SELECT i AS k FROM range(15000, 45000) t(i)) s ON p.k = s.k WHEN MATCHED AND p.k % 8 = 0 THEN DELETE "
            "WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'new')")
    want = duckdb.execute("""
        WITH a AS (SELECT i AS k, CASE WHEN i % 2 = 0 THEN 'first again' ELSE 'first' END AS v FROM range(20000) t(i)),
             b AS (SELECT CASE WHEN k < 10000 THEN k + 20000 ELSE k END AS k, v FROM a),
             c AS (SELECT * FROM b WHERE k % 4 <> 1)
        SELECT k, CASE WHEN k >= 15000 THEN 'merged' ELSE v END FROM c WHERE k < 15000 OR k % 8 <> 0
        UNION ALL SELECT i, 'new' FROM range(15000, 45000) t(i) WHERE i NOT IN (SELECT k FROM c) ORDER BY 1""").fetchall()
    assert [tuple(row) for row in one.rows("SELECT k, v FROM p ORDER BY k")] == want
    one.sql("DROP TABLE r; DROP TABLE p")


def test_a_key_that_is_there_or_comes_twice_leaves_nothing(one):
    one.sql("CREATE TABLE p (k BIGINT PRIMARY KEY, v VARCHAR CHECK (v <> 'no')) PARTITIONED BY (k); INSERT INTO p VALUES (19000, 'mine')")
    assert "23505" in one.refused("INSERT INTO p SELECT i, 'x' FROM range(20000) t(i)")
    assert "23505" in one.refused("INSERT INTO p SELECT i % 15000, 'x' FROM range(18000) t(i)")
    assert "23514" in one.refused("INSERT INTO p SELECT i, CASE WHEN i < 17900 THEN 'x' ELSE 'no' END FROM range(18000) t(i)")
    assert one.rows("SELECT * FROM p") == [[19000, "mine"]]
    one.sql("DROP TABLE p")


def test_who_follows_the_table_is_told_each_row_once(one):
    one.sql("CREATE TABLE f (k BIGINT, v VARCHAR) PARTITIONED BY (k); INSERT INTO f VALUES (-1, 'before')")
    begin = token(changes(one, "f", **{"from": "now"}))
    one.sql("INSERT INTO f SELECT i, 'a' FROM range(9000) t(i)")
    one.sql("UPDATE f SET v = 'b' WHERE k BETWEEN 0 AND 3999; DELETE FROM f WHERE k >= 8000")
    events = changes(one, "f", **{"from": begin})
    told = {op: [event for event in events if event["op"] == op] for op in ("insert", "update", "delete", "drop")}
    assert {op: len(of) for op, of in told.items()} == {"insert": 9000, "update": 4000, "delete": 1000, "drop": 0}
    assert {event["row"]["k"] for event in told["insert"]} == set(range(9000))
    assert all(event["row"]["v"] == "b" and event["old"]["v"] == "a" for event in told["update"])
    assert len({event["commit"] for event in told["insert"]}) == 1
    one.sql("DROP TABLE f")


def test_a_transaction_holds_as_many_rows(one):
    one.sql("CREATE TABLE a (k BIGINT PRIMARY KEY, v VARCHAR) PARTITIONED BY (k); CREATE TABLE b (i BIGINT, w DOUBLE)")
    statements = ["INSERT INTO a SELECT i, 'a' FROM range(9000) t(i)", "INSERT INTO b SELECT k, k / 2 FROM a, range(2)",
                  "UPDATE a SET v = 'c' WHERE k < 5000", "DELETE FROM a WHERE k >= 8000", "INSERT INTO a SELECT i + 9000, 'd' FROM b"
                  " WHERE i % 2 = 0 GROUP BY i"]
    answer = one.request("POST", "/db/execute", json.dumps({"statements": statements, "transaction": True}).encode(),
                         {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    assert one.rows("SELECT v, count(*), min(k), max(k) FROM a GROUP BY v ORDER BY v") == [
        ["a", 3000, 5000, 7999], ["c", 5000, 0, 4999], ["d", 4500, 9000, 17998]]
    assert one.rows("SELECT count(*), sum(i), sum(w) FROM b") == [[18000, "80991000", 40495500.0]]
    one.sql("BEGIN; CREATE TABLE d AS SELECT * FROM a; INSERT INTO d SELECT k + 20000, v FROM a; COMMIT")
    assert one.rows("SELECT count(*), count(DISTINCT k) FROM d") == [[25000, 25000]]
    one.sql("DROP TABLE a; DROP TABLE b; DROP TABLE d")


def test_a_statement_that_is_cancelled_leaves_nothing(one):
    one.sql("CREATE TABLE c (i BIGINT)")
    begun = one.log().count("staging.begin")
    said = []
    writing = threading.Thread(target=lambda: said.append(one.shell("INSERT INTO c SELECT i FROM range(1000000000) t(i)")))
    writing.start()
    until("rows in hidden tables", lambda: one.log().count("staging.begin") > begun)
    [[id]] = one.rows("SELECT id FROM cluster.queries WHERE sql LIKE 'INSERT INTO c%' AND state = 'running'")
    one.sql(f"CANCEL '{id}'")
    writing.join()
    assert said[0].returncode == 4 and "cancelled" in said[0].stderr
    assert one.rows("SELECT count(*) FROM c") == [[0]]
    one.sql("DROP TABLE c")


def test_no_hidden_table_is_left(one):
    """Behind all tests of this server."""
    process = one.processes["server"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert hidden(one.data) == []


ROWS = 60000


@pytest.mark.parametrize("moment", ["staging", "publishing"])
def test_a_kill_in_the_middle_leaves_all_or_nothing(new_cluster, moment):
    servers = Servers(new_cluster, scale=0)
    servers.start("server-1", *STAGE)
    for name in servers.names[1:]:
        servers.start(name, *STAGE, wait=False)
    servers.await_ready(*servers.names)
    servers.execute("CREATE TABLE b (k BIGINT, v VARCHAR) PARTITIONED BY (k)")
    asked = servers.others(servers.coordinator())[0]
    said, seen, over = [], set(), threading.Event()

    def ask(path, sql):
        """None: the server was gone, or is."""
        try:
            return servers.cluster.request("POST", path, json.dumps({"sql": sql}).encode(), port=servers.ports[asked],
                                           headers={"Content-Type": "application/json"}, timeout=180)
        except OSError:
            return None

    def write():
        answer = ask("/db/execute", f"INSERT INTO b SELECT i, repeat('x', 50) FROM range({ROWS}) t(i)")
        said.append(answer and answer.status)

    def look():
        while not over.wait(0.05):
            answer = ask("/db/query", "SELECT count(*) FROM b")
            if answer and answer.status == 200:
                seen.add(answer.json()["result"]["values"][0][0])

    def writes():
        """The server that coordinates it; a statement that an election has ended, 503, is run again."""
        if said == [503]:
            said.clear()
            begin()
        return next((name for name in servers.names if moment + ".begin" in servers.cluster.log(name)), None)

    def begin():
        threads.append(threading.Thread(target=write))
        threads[-1].start()

    threads = [threading.Thread(target=look)]
    threads[0].start()
    begin()
    try:
        servers.kill(victim := until("rows in hidden tables", writes, log=servers.logs))
        threads[-1].join()
    finally:
        over.set()
        threads[0].join()
    servers.start(victim, *STAGE)
    servers.await_ready(*servers.names)
    [[count]] = servers.rows(asked, "SELECT count(*) FROM b")
    assert count == ROWS if said == [200] else count in (0, ROWS), (said, count)
    assert seen <= {0, ROWS}
    until("equal replicas", lambda: check(servers, asked)[0] == 0, log=servers.logs)
    servers.stop(*servers.names)
    assert {name: hidden(servers.dirs[name]) for name in servers.names} == {name: [] for name in servers.names}
