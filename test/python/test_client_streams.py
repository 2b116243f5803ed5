"""Large answers, cut answers, cancelled statements of the Python package."""
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest

import merganser

LONG = "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * b.range % 7 = {}"
LATE = "SELECT CAST(CASE WHEN range = 2999999 THEN 'late' ELSE '1' END AS INTEGER) AS a, repeat('x', 50) AS b FROM range(3000000)"
BIG = "SELECT range AS a, repeat('x', 1000) AS b FROM range(200000)"

MEASURE = """
import resource, sys
import merganser
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
con = merganser.connect(sys.argv[1], username='scott', password='tiger', tls_roots=sys.argv[2], arrow=sys.argv[3] != 'json')
con.execute(sys.argv[4].replace('200000', '2000')).fetchall()
before, count = peak(), 0
cursor = con.execute(sys.argv[4])
if sys.argv[3] == 'batches':
    count = sum(batch.num_rows for batch in cursor.fetch_record_batch(1000))
else:
    while rows := cursor.fetchmany(1000):
        count += len(rows)
print(count, peak() - before)
"""


@pytest.mark.parametrize("form", ["rows", "batches", "json"])
def test_memory_is_bounded(cluster, form):
    """200 MB of answer in far less."""
    source = pathlib.Path(sys.modules["merganser"].__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", MEASURE, cluster.url, cluster.ca, form, BIG], capture_output=True, text=True, timeout=120,
                          env={"PYTHONPATH": str(source)})
    assert done.returncode == 0, done.stderr
    count, grown_mb = map(int, done.stdout.split())
    assert count == 200_000 and grown_mb < 60, done.stdout


def test_rows_then_batches(con):
    cursor = con.execute("SELECT range AS a FROM range(100000)")
    assert cursor.fetchone() == (0,) and cursor.fetchmany(2) == [(1,), (2,)] and cursor.rowcount == -1
    reader = cursor.fetch_record_batch(10_000)
    assert isinstance(reader, pa.RecordBatchReader)
    first = reader.read_next_batch()
    assert first.num_rows <= 10_000 and first.column(0)[0].as_py() == 3
    assert first.num_rows + sum(batch.num_rows for batch in reader) == 99_997
    assert cursor.fetchone() is None
    table = con.sql("SELECT n_name FROM nation WHERE n_regionkey = ? ORDER BY 1", [3]).arrow()
    assert table.column_names == ["n_name"] and table.num_rows == 5
    assert con.execute("SELECT 1 AS a WHERE false").arrow().schema == pa.schema([("a", pa.int32())])
    query = con.sql("FROM range(3)")
    assert query.fetchall() == [(0,), (1,), (2,)] == list(query) and query.fetchone() == (0,)


def test_a_result_that_was_closed_is_no_short_one(con):
    cursor = con.execute(BIG)
    reader = cursor.fetch_record_batch()
    reader.read_next_batch()
    cursor.execute("SELECT 1")
    with pytest.raises((merganser.InterfaceError, pa.ArrowException)):
        for _ in reader:
            pass
    reader = con.sql(BIG).fetch_record_batch()  # holds what it needs by itself
    assert sum(batch.num_rows for batch in reader) == 200_000


def test_frames(con):
    pandas = pytest.importorskip("pandas")
    frame = con.execute("SELECT 1.5::DECIMAL(4,2) AS a, sum(5) AS b, DATE '2020-01-01' AS c").df()
    assert list(frame.dtypes[:2]) == ["float64", "float64"] and frame["c"][0] == pandas.Timestamp("2020-01-01")


@pytest.mark.parametrize("arrow", [True, False])
def test_an_answer_that_fails_late_is_an_error(connect, arrow):
    con = connect(arrow=arrow)
    seen = 0
    with pytest.raises(merganser.DatabaseError):
        cursor = con.execute(LATE)
        while rows := cursor.fetchmany(10_000):
            seen += len(rows)
    assert seen < 3_000_000
    with pytest.raises(merganser.DatabaseError):
        for _ in con.execute(LATE):
            pass
    if arrow:
        with pytest.raises(merganser.DatabaseError):
            con.sql(LATE).arrow()
        with pytest.raises(merganser.DatabaseError):
            for _ in con.sql(LATE).fetch_record_batch():
                pass
    assert con.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("arrow", [True, False])
def test_a_server_that_is_killed_under_an_answer(new_server, arrow):
    server = new_server()
    con = merganser.connect(server.url, username="scott", password="tiger", tls_roots=server.ca, arrow=arrow)
    cursor = con.execute(BIG)
    assert cursor.fetchone()[0] == 0
    server.processes["server"].kill()
    server.processes["server"].wait()
    with pytest.raises(merganser.OperationalError) as error:
        cursor.fetchall()
    assert error.value.sqlstate == "08006"
    with pytest.raises(merganser.OperationalError) as error:
        con.execute("SELECT 1")
    assert error.value.sqlstate == "08001"
    server.start_server("--threads", "2", "--memory-limit", "512MiB")
    assert con.execute("SELECT 1").fetchall() == [(1,)]  # the connection is of use again
    con.close()


def running(con, text):
    return con.execute("SELECT count(*) FROM cluster.queries WHERE sql LIKE ? AND sql NOT LIKE '%queries%'", [text]).fetchone()[0]


def gone(con, text):
    deadline = time.monotonic() + 20
    while running(con, text):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cancel_from_another_thread(con, connect):
    timer = threading.Timer(0.5, con.cancel)
    timer.start()
    begin = time.monotonic()
    with pytest.raises(merganser.QueryCanceled) as error:
        con.execute(LONG.format(1))
    assert error.value.sqlstate == "57014" and time.monotonic() - begin < 10
    gone(connect(), "%% 7 = 1%")
    assert con.execute("SELECT 1").fetchall() == [(1,)]
    con.cancel()  # nothing runs: nothing
    assert con.execute("SELECT 1").fetchall() == [(1,)]


def test_cancel_while_rows_come(con):
    cursor = con.execute(BIG)
    cursor.fetchone()
    con.cancel()
    with pytest.raises(merganser.QueryCanceled):
        cursor.fetchall()


def test_ctrl_c_cancels_at_the_server(con, connect):
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            con.execute(LONG.format(2))
    finally:
        signal.signal(signal.SIGALRM, before)
    gone(connect(), "%% 7 = 2%")
    assert con.execute("SELECT 1").fetchall() == [(1,)]


def test_a_write_without_a_key_is_cancelled(connect):
    con = connect(idempotent=False)
    con.execute("DROP TABLE IF EXISTS py_cancel")
    con.execute("CREATE TABLE py_cancel (a BIGINT)")
    threading.Timer(0.5, con.cancel).start()
    with pytest.raises(merganser.OperationalError):
        con.execute("INSERT INTO py_cancel " + LONG.format(3))
    gone(con, "%% 7 = 3%")
    assert con.execute("SELECT count(*) FROM py_cancel").fetchone() == (0,)


def test_a_write_that_is_cancelled_with_its_key_is_unknown(con):
    con.execute("DROP TABLE IF EXISTS py_unknown")
    con.execute("CREATE TABLE py_unknown (a BIGINT)")
    threading.Timer(0.3, con.cancel).start()
    with pytest.raises(merganser.UnknownOutcome) as error:
        con.execute("INSERT INTO py_unknown SELECT count(*) FROM range(30000) a, range(30000) b WHERE a.range * b.range % 7 = 6")
    assert error.value.sqlstate == "40003" and error.value.idempotency_key


def test_a_write_whose_server_dies_is_unknown(new_server):
    server = new_server()
    con = merganser.connect(server.url, username="scott", password="tiger", tls_roots=server.ca, timeout=4)
    con.execute("CREATE TABLE t (a BIGINT)")
    con.begin()
    con.execute("INSERT INTO t VALUES (1)")
    con.commit()
    timer = threading.Timer(0.5, server.processes["server"].kill)
    timer.start()
    with pytest.raises(merganser.UnknownOutcome) as error:
        con.execute("INSERT INTO t " + LONG.format(5))
    server.processes["server"].wait()
    server.start_server("--threads", "2", "--memory-limit", "512MiB")
    key = error.value.idempotency_key
    assert con.execute("INSERT INTO t VALUES (2)", idempotency_key=key).rowcount == 1  # it had not been done
    assert con.execute("SELECT a FROM t ORDER BY a").fetchall() == [(1,), (2,)]
    con.close()


def test_no_rows_after_an_error(connect):
    for arrow in (True, False):
        con = connect(arrow=arrow)
        cursor = con.execute(BIG)
        cursor.fetchone()
        con.cancel()
        with pytest.raises(merganser.QueryCanceled):
            cursor.fetchall()
        for fetch in (cursor.fetchone, cursor.fetchall):
            with pytest.raises(merganser.Error):
                fetch()


def test_time_limit(connect):
    con = connect(timeout=0.5)
    begin = time.monotonic()
    with pytest.raises(merganser.QueryCanceled) as error:
        con.execute(LONG.format(4))
    assert error.value.sqlstate == "57014" and time.monotonic() - begin < 10


def test_an_answer_that_is_not_wanted_ends(con, connect):
    cursor = con.execute("SELECT range, repeat('y', 1000) FROM range(100000000)")
    assert cursor.fetchone()[0] == 0
    cursor.execute("SELECT 1")
    gone(connect(), "%range(100000000)%")
