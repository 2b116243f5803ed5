"""Statements that write: what is acknowledged stays, whole, whatever dies; and everybody reads it."""
import contextlib
import os
import random
import signal
import subprocess
import tempfile
import threading
import time

import duckdb
import pytest

from conftest import PROGRAM


# ---- tables ----

def test_a_table_is_made_filled_and_dropped(empty):
    empty.sql("CREATE TABLE t (k INTEGER, v VARCHAR DEFAULT 'none', d DECIMAL(5,2)) PARTITIONED BY (k)")
    empty.sql("INSERT INTO t (k) SELECT i FROM range(1000) r(i); INSERT INTO t VALUES (-1, DEFAULT, 1.25), (NULL, 'null', 2)")
    assert empty.rows("SELECT count(*), count(k), min(k), sum(d), count(DISTINCT v) FROM t") == [[1002, 1001, -1, "3.25", 2]]
    assert empty.sql("UPDATE t SET v = v || k, d = 9 WHERE k < 3 RETURNING k").split() == ["k", "-1", "0", "1", "2"]
    empty.sql("DELETE FROM t WHERE k >= 10")
    assert empty.rows("SELECT k, v, d FROM t WHERE k < 2 ORDER BY k") == [
        [-1, "none-1", "9.00"], [0, "none0", "9.00"], [1, "none1", "9.00"]]
    assert empty.rows("SELECT count(*) FROM t") == [[12]]
    assert "42P07" in empty.refused("CREATE TABLE t (a INTEGER)")
    empty.sql("CREATE TABLE IF NOT EXISTS t (a INTEGER); CREATE OR REPLACE TABLE t (a INTEGER) PARTITIONED BY (a)")
    assert empty.rows("SELECT count(*) FROM t") == [[0]]
    empty.sql("DROP TABLE t; DROP TABLE IF EXISTS t")
    assert "42P01" in empty.refused("SELECT * FROM t")
    assert "42P01" in empty.refused("DROP TABLE t")


def test_a_reference_table_says_that_it_is_one(empty):
    result = empty.shell("CREATE TABLE ref AS SELECT i AS a, i * 2 AS b FROM range(10) r(i)")
    assert "PARTITIONED BY" in result.stderr
    assert empty.rows("SELECT sum(a), sum(b) FROM ref") == [["45", "90"]]
    empty.sql("DROP TABLE ref")


def test_names_however_they_are_written(new_cluster):
    """As DuckDB: the first spelling stays, any one finds it; also after a start, which reads names from files."""
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.sql("CREATE SCHEMA Side; CREATE TABLE MAIN.upper (a INTEGER); CREATE TABLE side.low (a INTEGER) PARTITIONED BY (a)")
    cluster.sql("INSERT INTO Upper VALUES (1); INSERT INTO SIDE.LOW FROM range(10); CREATE MACRO sIDE.plus(x) AS x + 1")
    cluster.stop()
    cluster.start_server()
    cluster.sql("INSERT INTO main.UPPER VALUES (2); INSERT INTO Side.low FROM range(10, 20)")
    assert cluster.rows("SELECT (SELECT sum(a) FROM upper), count(*), SIDE.plus(2) FROM side.low") == [["3", 20, 3]]
    for name in ('"_MG_RID"', '"_Mg_slot"'):
        assert "are ours" in cluster.refused(f"CREATE TABLE ours ({name} INTEGER)")
        assert "are ours" in cluster.refused(f"ALTER TABLE upper ADD COLUMN {name} INTEGER")
    assert "is ours" in cluster.refused('CREATE SCHEMA "_MG"')
    cluster.sql("DROP TABLE Side.LOW; DROP TABLE upper; DROP MACRO side.Plus; DROP SCHEMA SIDE")


def test_a_generated_column_is_refused(empty):
    """A DEFAULT is none: the table would be in the catalog, and in no shard."""
    for column in ("b INTEGER AS (a + 1)", "b AS (5)", "b INTEGER GENERATED ALWAYS AS (a + 1) VIRTUAL"):
        refused = empty.refused(f"CREATE TABLE made (a INTEGER, {column})")
        assert "0A000" in refused and "generated columns" in refused and "in a view" in refused, refused
    empty.sql("CREATE TABLE kept (a INTEGER DEFAULT (CAST(1 AS INTEGER)), \"as\" VARCHAR DEFAULT 'as')")
    empty.sql("INSERT INTO kept (a) VALUES (3)")
    assert empty.rows("SELECT * FROM kept") == [[3, "as"]]
    empty.sql("DROP TABLE kept")


def test_structs_without_names(empty):
    empty.sql("CREATE TABLE r (k INTEGER, s STRUCT(a INTEGER, b VARCHAR), l STRUCT(a INTEGER, b VARCHAR)[]) PARTITIONED BY (k)")
    empty.sql("INSERT INTO r VALUES (1, ROW(1, 'x'), [ROW(2, 'y')])")
    empty.sql("INSERT INTO r SELECT i, ROW(i, 's' || i), [ROW(i, NULL)] FROM range(2, 5) t(i)")
    empty.sql("UPDATE r SET s = ROW(k * 10, 'u') WHERE k = 3")
    empty.sql("MERGE INTO r USING (SELECT 4 AS k) AS f ON r.k = f.k WHEN MATCHED THEN UPDATE SET s = ROW(40, 'm')")
    assert empty.rows("SELECT k, s.a, s.b, l[1].a, l[1].b FROM r ORDER BY k") == [
        [1, 1, "x", 2, "y"], [2, 2, "s2", 2, None], [3, 30, "u", 3, None], [4, 40, "m", 4, None]]
    empty.sql("DROP TABLE r")


def test_few_values_for_many_columns(empty):
    """Columns that are given no value take their place in the log, too."""
    empty.sql("CREATE TABLE wide (" + ", ".join(f"c{i} BIGINT" for i in range(300)) + ")")
    empty.sql("INSERT INTO wide(c0)VALUES" + ",".join(["(1)"] * 4080))
    assert empty.rows("SELECT count(*), count(c0), count(c299) FROM wide") == [[4080, 4080, 0]]
    empty.sql("DROP TABLE wide")


def test_views_and_schemas(empty):
    empty.sql("CREATE SCHEMA s; CREATE TABLE s.t (a INTEGER) PARTITIONED BY (a); INSERT INTO s.t VALUES (1), (2), (3)")
    empty.sql("CREATE VIEW s.v (twice) AS SELECT a * 2 FROM s.t; CREATE OR REPLACE VIEW s.v (twice) AS SELECT a * 2 FROM s.t WHERE a > 1")
    assert empty.rows("SELECT sum(twice) FROM s.v") == [["10"]]
    assert "holds" in empty.refused("DROP SCHEMA s")
    assert "is a view" in empty.refused("DROP TABLE s.v")
    assert "needs a table" in empty.refused("INSERT INTO s.v VALUES (1)")
    assert "no schema" in empty.refused("CREATE TABLE nowhere.t (a INTEGER)")
    empty.sql("DROP VIEW s.v; DROP TABLE s.t; DROP SCHEMA s")
    assert "no schema" in empty.refused("CREATE TABLE s.t (a INTEGER)")


@pytest.mark.parametrize("statement, says", [
    ("CREATE TABLE x (a INTEGER[]) PARTITIONED BY (a)", "a"),
    ("CREATE TABLE x (a INTEGER) PARTITIONED BY (b)", "no column"),
    ("CREATE TABLE x (a INTEGER, b INTEGER PRIMARY KEY) PARTITIONED BY (a)", "primary key must hold"),
    ("CREATE TABLE x (a INTEGER, _mg_rid INTEGER)", "_mg_"),
    ("CREATE TABLE x ()", "column"),
    ("CREATE TABLE \"a#1\" (a INTEGER)", "#"),
    ("CREATE TABLE cluster.x (a INTEGER)", "cluster"),
    ("CREATE TABLE x (a VARCHAR DEFAULT (SELECT content FROM read_text('/etc/passwd')))", ""),
    ("CREATE TABLE x (a VARCHAR DEFAULT current_setting('threads'))", ""),
    ("CREATE VIEW x AS SELECT * FROM read_csv('/etc/passwd')", ""),
    ("CREATE TABLE x AS SELECT * FROM read_csv('/etc/passwd')", ""),
    ("CREATE TEMP TABLE x (a INTEGER)", "TEMP"),
    ("ALTER TABLE x ADD COLUMN b INTEGER", "no table"),
    ("ALTER SEQUENCE x OWNED BY y", "ALTER"),
    ("CREATE INDEX IF NOT EXISTS i ON x (a)", "no indexes"),
    ("CREATE TABLE x (a INTEGER) PARTITIONED BY (a", "\")\""),
])
def test_what_cannot_be_made_is_refused_and_leaves_nothing(empty, statement, says):
    assert says in empty.refused(statement)
    assert empty.rows("SELECT count(*) FROM information_schema.tables WHERE table_name = 'x'") == [[0]]


@pytest.mark.parametrize("statement, state", [
    ("INSERT INTO c VALUES (1, NULL, 1)", "23502"),
    ("INSERT INTO c VALUES (1, 'a', 101)", "23514"),
    ("INSERT INTO c VALUES (7, 'a', 1)", "23505"),
    ("INSERT INTO c VALUES (8, 'a', 1), (8, 'b', 1)", "23505"),
    ("INSERT INTO c VALUES ('x', 'a', 1)", "22P02"),
    ("INSERT INTO c VALUES (1, 'a')", "42"),
    ("INSERT INTO c (nope) VALUES (1)", "42703"),
    ("INSERT INTO nope VALUES (1)", "42P01"),
    ("UPDATE c SET n = 200", "23514"),
    ("UPDATE c SET rowid = 1", "42"),
    ("DELETE FROM c WHERE rowid = 1", ""),
])
def test_a_statement_that_is_refused_changes_nothing(empty, statement, state):
    empty.sql("CREATE OR REPLACE TABLE c (k INTEGER PRIMARY KEY, s VARCHAR NOT NULL, n INTEGER CHECK (n < 100)) PARTITIONED BY (k)")
    empty.sql("INSERT INTO c VALUES (7, 'seven', 7)")
    assert state in empty.refused(statement)
    assert empty.rows("SELECT * FROM c") == [[7, "seven", 7]]


def test_chance_and_time_have_one_value_for_good(empty):
    empty.sql("CREATE OR REPLACE TABLE r (k INTEGER, x DOUBLE, u UUID, t TIMESTAMPTZ DEFAULT now()) PARTITIONED BY (k)")
    empty.sql("INSERT INTO r (k, x, u) SELECT i, random(), uuid() FROM range(100) r(i)")
    before = empty.rows("SELECT * FROM r ORDER BY k")
    assert len({row[1] for row in before}) == 100
    assert empty.rows("SELECT * FROM r ORDER BY k") == before


# ---- a table that is long in the making ----

LONG = "CREATE TABLE big PARTITIONED BY (i) AS SELECT i FROM range(1000000000) r(i)"


def test_others_make_tables_meanwhile_and_a_cancelled_one_leaves_nothing(empty):
    making = threading.Thread(target=lambda: said.append(empty.shell(LONG)))
    said, running = [], []
    making.start()
    while not running:
        running = empty.rows("SELECT id FROM cluster.queries WHERE sql LIKE 'CREATE TABLE big%' AND state = 'running'")
    empty.sql("CREATE TABLE small (a INTEGER); CREATE VIEW big_view AS SELECT * FROM small; DROP VIEW big_view; DROP TABLE small")
    assert making.is_alive()
    assert "42P01" in empty.refused("SELECT * FROM big")
    empty.sql("CREATE TABLE big (other INTEGER)")
    empty.sql(f"CANCEL '{running[0][0]}'")
    making.join()
    assert said[0].returncode != 0 and "cancelled" in said[0].stderr
    assert empty.rows("SELECT count(*) FROM big WHERE other IS NULL") == [[0]]
    empty.sql("DROP TABLE big")


def test_a_name_that_was_taken_meanwhile_is_not_taken_again(empty):
    making = threading.Thread(target=lambda: said.append(empty.shell(LONG.replace("1000000000", "20000000"))))
    said, running = [], []
    making.start()
    while not running:
        running = empty.rows("SELECT id FROM cluster.queries WHERE sql LIKE 'CREATE TABLE big%' AND state = 'running'")
    empty.sql("CREATE TABLE big (other INTEGER); INSERT INTO big VALUES (7)")
    making.join()
    assert "42P07" in said[0].stderr
    assert empty.rows("SELECT * FROM big") == [[7]]
    empty.sql("DROP TABLE big")


# ---- workers ----

def wait_copied(cluster, shards=4, seconds=30):
    """Until workers hold current copies of all shards and of the reference group."""
    deadline = time.monotonic() + seconds
    while cluster.rows("SELECT count(DISTINCT shard) FROM cluster.replicas WHERE role = 'worker' AND state = 'ready'") != [[shards + 1]]:
        assert time.monotonic() < deadline, cluster.log()
        time.sleep(0.05)


def test_workers_never_answer_with_what_was(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.start_worker("one")
    cluster.start_worker("two")
    cluster.wait_workers(2)
    wait_copied(cluster)
    cluster.sql("CREATE TABLE t (k INTEGER, v INTEGER) PARTITIONED BY (k)")
    for i in range(5):
        cluster.sql(f"INSERT INTO t SELECT i, {i} FROM range(1000) r(i)")
        for strategy in ("cut", "gather", "local"):
            assert cluster.rows("SELECT count(*), sum(v) FROM t", f"?strategy={strategy}") == [
                [1000 * (i + 1), str(1000 * sum(range(i + 1)))]]
    # Quiet again, they get copies with the new table in it.
    wait_copied(cluster)
    assert cluster.rows("SELECT count(*) FROM t JOIN lineitem ON k = l_orderkey", "?strategy=cut") == cluster.rows(
        "SELECT count(*) FROM t JOIN lineitem ON k = l_orderkey", "?strategy=local")
    plan = cluster.sql("SET strategy = 'cut'; EXPLAIN ANALYZE SELECT sum(v) FROM t")
    assert "one" in plan or "two" in plan


def test_workers_come_while_rows_are_written(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.sql("CREATE TABLE t (k INTEGER) PARTITIONED BY (k)")
    stop = threading.Event()
    counts = []

    def write():
        while not stop.is_set():
            cluster.sql("INSERT INTO t SELECT i FROM range(10) r(i)")
            counts.append(10)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(3):
            cluster.start_worker(f"w{i}")
            for _ in range(5):
                before = len(counts)
                [[seen]] = cluster.rows("SELECT count(*) FROM t", "?strategy=cut")
                assert seen % 10 == 0 and seen >= 10 * before
    finally:
        stop.set()
        writer.join()
    wait_copied(cluster)
    assert cluster.rows("SELECT count(*) FROM t", "?strategy=cut") == [[10 * len(counts)]]


# ---- kills ----

def fill_until(cluster, stop, acked, lock, seed):
    chance = random.Random(seed)
    while not stop.is_set():
        with lock:
            key = acked["next"]
            acked["next"] += 1
        # One row by its shard alone, or ten over all shards: whole or not at all.
        values = (f"({key}, 0)" if chance.random() < 0.5 else
                  ", ".join(f"({key}, {i * 7919})" for i in range(10)))
        result = cluster.shell(f"INSERT INTO t VALUES {values}")
        if result.returncode == 0:
            with lock:
                acked["keys"][key] = values.count("(")


def kill_cycles(cluster, cycles):
    cluster.sql("CREATE TABLE t (k INTEGER, p INTEGER) PARTITIONED BY (p)")
    acked, lock = {"next": 0, "keys": {}}, threading.Lock()
    for cycle in range(cycles):
        stop = threading.Event()
        writers = [threading.Thread(target=fill_until, args=(cluster, stop, acked, lock, 1000 * cycle + i)) for i in range(4)]
        for writer in writers:
            writer.start()
        before = len(acked["keys"])
        while len(acked["keys"]) < before + 12:
            time.sleep(0.01)
        time.sleep(random.Random(cycle).random() / 10)
        cluster.processes["server"].send_signal(signal.SIGKILL)
        cluster.processes["server"].wait()
        stop.set()
        for writer in writers:
            writer.join()
        cluster.start_server()
        found = {key: rows for key, rows in cluster.rows("SELECT k, count(*) FROM t GROUP BY k")}
        assert {key: found.get(key) for key in acked["keys"]} == acked["keys"]
        assert set(found.values()) <= {1, 10}, "a transaction is there in part, or twice"
        acked["keys"] = found


def test_what_was_acknowledged_survives_kills(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    kill_cycles(cluster, 8)


@pytest.mark.slow
def test_what_was_acknowledged_survives_200_kills(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    kill_cycles(cluster, 200)


def test_a_directory_without_writes_becomes_one_with_them(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.sql("DELETE FROM lineitem WHERE l_orderkey % 2 = 0; INSERT INTO region VALUES (9, 'MOON', 'far')")
    [[left]] = cluster.rows("SELECT count(*) FROM lineitem")
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        cluster.processes["server"].send_signal(how)
        cluster.processes["server"].wait()
        cluster.start_server()
        assert cluster.rows("SELECT count(*), min(l_orderkey % 2) FROM lineitem") == [[left, 1]]
        assert cluster.rows("SELECT count(*) FROM region") == [[6]]


def test_a_directory_is_exported_with_what_is_only_in_its_log(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.sql("CREATE TABLE t (k INTEGER) PARTITIONED BY (k); INSERT INTO t SELECT i FROM range(100) r(i); DELETE FROM region")
    cluster.processes["server"].kill()
    cluster.processes["server"].wait()
    cluster.run("export", "--data-dir", cluster.data, "-o", cluster.dir / "out.duckdb")
    with duckdb.connect(str(cluster.dir / "out.duckdb"), read_only=True) as db:
        assert db.execute("SELECT count(*), sum(k) FROM t").fetchall() == [(100, 4950)]
        assert db.execute("SELECT count(*) FROM region").fetchall() == [(0,)]
    cluster.start_server()
    assert cluster.rows("SELECT count(*) FROM t") == [[100]]


def test_a_lost_file_of_a_cluster_in_use_is_not_loaded_anew(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.sql("DELETE FROM lineitem")
    cluster.processes["server"].terminate()
    cluster.processes["server"].wait()
    (cluster.data / "shards" / "0002.duckdb").unlink()
    done = cluster.run("bootstrap", "--data-dir", cluster.data, "--client-username", "scott", "--client-password", "tiger",
                       "--worker-password", "united", "--tpch-scale-factor", 0.01, "--shard-count", 4, check=False)
    assert done.returncode == 1 and "in use" in done.stderr
    assert not (cluster.data / "shards" / "0002.duckdb").exists()


@pytest.fixture(name="small_disk")
def a_small_disk(tmp_path, monkeypatch):
    """Clusters of the test lie on a disk of 300 MB, which can be made larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", folder],
                                           capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk):
    with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def test_a_full_disk_ends_writing_and_nothing_else(small_disk, new_cluster):
    cluster = new_cluster(scale=0, shards=2)
    cluster.start_server()
    cluster.sql("CREATE TABLE t (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    insert = "INSERT INTO t SELECT i, repeat(md5(i::VARCHAR), 10) FROM range(60000) r(i)"
    rows = 0
    for _ in range(20):
        result = cluster.shell(insert)
        if result.returncode:
            break
        rows += 60000
    assert "53100" in result.stderr and "Make room" in result.stderr
    assert rows > 0 and cluster.rows("SELECT count(*) FROM t") == [[rows]]
    fill(small_disk)
    cluster.processes["server"].terminate()
    assert cluster.processes["server"].wait(60) == 0, cluster.log()
    assert cluster.log().count("event=shard.checkpoint") <= 2, cluster.log()
    fill(small_disk)  # what it has tidied up at its end, too
    refused = subprocess.run([PROGRAM, "server", "--data-dir", cluster.data, "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                             timeout=60, check=False)
    assert refused.returncode == 1 and "Make room" in refused.stderr, refused.stderr
    subprocess.run(["mount", "-o", "remount,size=900m", small_disk], check=True)
    cluster.start_server()
    cluster.sql(insert)
    cluster.processes["server"].kill()
    cluster.processes["server"].wait()
    cluster.start_server()
    assert cluster.rows("SELECT count(*) FROM t") == [[rows + 60000]]
