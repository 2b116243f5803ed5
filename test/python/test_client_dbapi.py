"""PEP 249, point by point, of the Python package."""
import datetime
import threading
import time

import pytest

import merganser


@pytest.fixture
def table(con):
    con.execute("DROP TABLE IF EXISTS booze")
    con.execute("CREATE TABLE booze (name VARCHAR)")
    yield "booze"
    con.execute("DROP TABLE IF EXISTS booze")


DRINKS = ["Carlton Cold", "Mountain Goat", "Redback", "Victoria Bitter", "XXXX"]


def test_module():
    assert merganser.apilevel == "2.0" and merganser.threadsafety == 2 and merganser.paramstyle == "qmark"
    assert callable(merganser.connect)


def test_exceptions_are_a_tree(con):
    assert issubclass(merganser.Warning, Exception) and not issubclass(merganser.Warning, merganser.Error)
    for name in ("InterfaceError", "DatabaseError"):
        assert issubclass(getattr(merganser, name), merganser.Error)
    for name in ("DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError"):
        assert issubclass(getattr(merganser, name), merganser.DatabaseError)
        assert getattr(con, name) is getattr(merganser, name)


def test_constructors():
    assert merganser.Date(2020, 1, 2) == datetime.date(2020, 1, 2)
    assert merganser.Time(1, 2, 3) == datetime.time(1, 2, 3)
    assert merganser.Timestamp(2020, 1, 2, 3, 4, 5) == datetime.datetime(2020, 1, 2, 3, 4, 5)
    ticks = time.mktime((2020, 1, 2, 3, 4, 5, 0, 0, 0))
    assert merganser.DateFromTicks(ticks) == merganser.Date(2020, 1, 2)
    assert merganser.TimeFromTicks(ticks) == merganser.Time(3, 4, 5)
    assert merganser.TimestampFromTicks(ticks) == merganser.Timestamp(2020, 1, 2, 3, 4, 5)
    assert merganser.Binary(b"x") == b"x"


def test_description(con, table):
    cursor = con.cursor()
    assert cursor.description is None
    cursor.execute(f"INSERT INTO {table} VALUES ('x')")
    assert cursor.description is None
    cursor.execute(f"SELECT name FROM {table}")
    assert len(cursor.description) == 1 and len(cursor.description[0]) == 7
    assert cursor.description[0][0] == "name" and cursor.description[0][1] == merganser.STRING
    cursor.execute(f"DELETE FROM {table}")
    assert cursor.description is None


def test_rowcount(con, table):
    cursor = con.cursor()
    assert cursor.rowcount == -1
    cursor.execute(f"INSERT INTO {table} VALUES ('a'), ('b')")
    assert cursor.rowcount == 2
    cursor.execute(f"SELECT name FROM {table}")
    assert cursor.rowcount in (-1, 2)
    cursor.fetchall()
    assert cursor.rowcount == 2
    assert cursor.execute(f"UPDATE {table} SET name = 'c' WHERE name = 'a'").rowcount == 1
    assert cursor.executemany(f"INSERT INTO {table} VALUES (?)", []).rowcount == 0
    assert cursor.executemany(f"INSERT INTO {table} VALUES (?)", [[name] for name in DRINKS]).rowcount == 5
    assert cursor.executemany(f"DELETE FROM {table} WHERE name = ?", [["XXXX"], ["c"]]).rowcount == 2


def test_fetching(con, table):
    cursor = con.cursor()
    for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
        with pytest.raises(merganser.Error):
            fetch()
    cursor.execute(f"INSERT INTO {table} VALUES ('x')")
    with pytest.raises(merganser.Error):
        cursor.fetchone()
    cursor.execute(f"DELETE FROM {table}")
    cursor.execute(f"SELECT name FROM {table}")
    assert cursor.fetchone() is None and cursor.fetchmany() == [] and cursor.fetchall() == []

    cursor.executemany(f"INSERT INTO {table} VALUES (?)", [(name,) for name in DRINKS])
    rows = [(name,) for name in DRINKS]
    cursor.execute(f"SELECT name FROM {table} ORDER BY name")
    assert cursor.rownumber == 0
    assert cursor.fetchone() == rows[0] and cursor.fetchmany() == rows[1:2] and cursor.rownumber == 2
    assert cursor.fetchmany(2) == rows[2:4] and cursor.fetchall() == rows[4:] and cursor.fetchone() is None
    cursor.arraysize = 3
    cursor.execute(f"SELECT name FROM {table} ORDER BY name")
    assert cursor.fetchmany() == rows[:3] and cursor.fetchmany(0) == [] and cursor.fetchmany(100) == rows[3:]
    cursor.execute(f"SELECT name FROM {table} ORDER BY name")
    assert list(cursor) == rows and list(cursor) == []
    with pytest.raises(merganser.InterfaceError):
        cursor.fetchmany(-1)


def test_a_statement_has_an_id(con):
    cursor = con.execute("SELECT 1 AS has_an_id")
    found = con.execute("SELECT sql FROM cluster.query_history WHERE id = ?", [cursor.query_id]).fetchall()
    assert found == [("SELECT 1 AS has_an_id",)]


def test_sizes_are_taken(con):
    cursor = con.cursor()
    cursor.setinputsizes([25])
    cursor.setoutputsize(1000)
    cursor.setoutputsize(2000, 0)
    assert cursor.lastrowid is None and cursor.connection is con


def test_closed(connect):
    con = connect()
    cursor = con.cursor()
    cursor.execute("SELECT 1")
    cursor.close()
    cursor.close()
    for use in (cursor.fetchone, lambda: cursor.execute("SELECT 1"), lambda: cursor.executemany("DELETE FROM x", [[]])):
        with pytest.raises(merganser.InterfaceError):
            use()
    other = con.cursor()
    con.close()
    con.close()
    for use in (con.cursor, con.commit, con.rollback, lambda: con.kv("x"), lambda: other.execute("SELECT 1"), lambda: con.sql("SELECT 1")):
        with pytest.raises(merganser.InterfaceError):
            use()


@pytest.mark.parametrize("sql, kind, sqlstate", [
    ("SELEC 1", merganser.ProgrammingError, "42601"), ("SELECT * FROM no_such_table", merganser.ProgrammingError, "42P01"),
    ("SELECT CAST('x' AS INTEGER)", merganser.DataError, "22018"), ("INSERT INTO keyed VALUES (1)", merganser.IntegrityError, "23505"),
    ("SELECT * FROM read_text('/etc/passwd')", merganser.ProgrammingError, "42501"), ("SAVEPOINT a", merganser.NotSupportedError, "0A000"),
])
def test_errors_by_sqlstate(con, sql, kind, sqlstate):
    con.execute("CREATE TABLE IF NOT EXISTS keyed (a INTEGER PRIMARY KEY)")
    con.execute("DELETE FROM keyed")
    con.execute("INSERT INTO keyed VALUES (1)")
    with pytest.raises(kind) as error:
        con.execute(sql)
    assert error.value.sqlstate[:2] == sqlstate[:2] and error.value.code and error.value.message
    assert error.value.sqlstate in str(error.value)
    assert con.execute("SELECT 1").fetchone() == (1,)


def test_login(connect):
    with pytest.raises(merganser.OperationalError) as error:
        connect(password="wrong")
    assert error.value.sqlstate == "28P01"
    with pytest.raises(merganser.OperationalError) as error:
        connect(url="https://localhost:1")
    assert error.value.sqlstate == "08001"
    with pytest.raises(merganser.OperationalError):
        connect(tls_roots=None)  # nobody's CA has signed it


def test_login_by_certificate(connect, cluster):
    tls, made = cluster.data / "tls", cluster.dir / "python-client"
    secret = cluster.dir / "python-secret"
    secret.write_text("sesame\n")
    for locked in (False, True):
        cert, key = made.with_suffix(f".{locked}.crt"), made.with_suffix(f".{locked}.key")
        cluster.run("cert", "client", "--common-name", "scott", "--ca-cert-file", tls / "ca.crt", "--ca-key-file", tls / "ca.key",
                    "--cert-file", cert, "--key-file", key, *(("--key-password-file", secret) if locked else ()))
        con = connect(username=None, password=None, tls_cert=cert, tls_key=key, tls_key_password="sesame" if locked else None)
        assert con.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(merganser.InterfaceError):
        connect(username=None, password=None, tls_cert=cert, tls_key=key)  # and it does not ask a terminal


def test_one_parameter_is_given_twice(con):
    assert con.execute("SELECT $1 + $1, $2", [2, "x"]).fetchone() == (4, "x")
    assert con.execute("SELECT $a || $a", {"a": "x"}).fetchone() == ("xx",)
    found = con.execute("SELECT n_name FROM nation WHERE n_nationkey IN (?, ?) ORDER BY 1", (1, 3)).fetchall()
    assert found == [("ARGENTINA",), ("CANADA",)]


@pytest.mark.parametrize("sql", [
    "BEGIN; SELECT 1", "SELECT 1; SELECT 2", "SET distributed = false; SELECT 1", "INSERT INTO x VALUES (1); COMMIT"])
def test_one_statement_at_a_time(con, sql):
    with pytest.raises(merganser.ProgrammingError):
        con.execute(sql)
    assert not con.in_transaction


def test_settings_are_statements(con):
    con.execute("SET distributed = false")
    assert con.execute("SHOW distributed").fetchone() == ("false",)
    con.execute("SET strategy TO 'gather'")
    con.execute("SET TIME ZONE 'Europe/Berlin'")
    assert con.execute("SELECT TIMESTAMPTZ '2020-01-01 00:00:00+00'::VARCHAR").fetchone() == ("2020-01-01 01:00:00+01",)
    con.execute("RESET ALL")
    assert con.execute("SHOW distributed").fetchone() == ("true",)
    with pytest.raises(merganser.ProgrammingError):
        con.execute("SET memory_limit = '1GB'")


def test_threads_share_a_connection(con):
    con.execute("DROP TABLE IF EXISTS shared")
    con.execute("CREATE TABLE shared (a INTEGER)")
    failed = []

    def work(number):
        try:
            for i in range(10):
                con.execute("INSERT INTO shared VALUES (?)", [number * 10 + i])
                assert con.execute("SELECT count(*) FROM shared WHERE a = ?", [number * 10 + i]).fetchone() == (1,)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert con.execute("SELECT count(*), count(DISTINCT a) FROM shared").fetchone() == (40, 40)


def test_connections_are_kept(con, cluster):
    """A hundred statements take no hundred handshakes."""
    cursor = con.cursor()
    for _ in range(30):
        cursor.execute("SELECT 1").fetchall()
    cursor.execute("SELECT count(*) FROM lineitem").fetchall()
    kept = con._transport._idle
    assert [len(connections) for connections in kept.values()] == [1]
