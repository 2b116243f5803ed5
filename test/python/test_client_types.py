"""Values of every type, as the Python package gives them by Arrow and by JSON, beside those of DuckDB's own package."""
import datetime
import decimal
import pathlib
import subprocess
import sys
import uuid

import duckdb
import pytest

VALUES = [
    "true", "(-128)::TINYINT", "32767::SMALLINT", "-5", "9223372036854775807", "255::UTINYINT", "65535::USMALLINT", "4294967295::UINTEGER",
    "18446744073709551615::UBIGINT", "(-170141183460469231731687303715884105727)::HUGEINT", "7::UHUGEINT", "1.1::FLOAT", "1e300::DOUBLE",
    "'nan'::DOUBLE", "'-inf'::FLOAT", "'inf'::DOUBLE", "1.50::DECIMAL(4,2)", "(-0.001)::DECIMAL(38,10)", "sum(5)", "sum(1.5::DECIMAL(4,1))",
    "'text'", "''", "'0'", "'ünï\n\"quoted\"'", "'\\x00\\xff'::BLOB", "''::BLOB", "DATE '2020-02-29'", "DATE '0001-01-01'",
    "DATE '9999-12-31'", "DATE 'infinity'", "DATE '-infinity'", "DATE '0044-03-15 (BC)'", "DATE '20000-01-01'", "TIME '23:59:59.999999'",
    "TIME '24:00:00'", "TIMETZ '01:02:03.5+02'", "TIMETZ '01:02:03-11:30'", "TIMESTAMP '2020-01-02 03:04:05.000006'",
    "TIMESTAMP 'infinity'", "TIMESTAMP '-infinity'", "TIMESTAMP '20000-01-01'", "TIMESTAMP_S '1969-12-31 23:59:59'",
    "TIMESTAMP_MS '2020-01-01'",
    "TIMESTAMP_NS '2020-01-01 00:00:00.123456789'", "TIME_NS '01:02:03.123456789'", "TIMESTAMPTZ 'infinity'",
    "INTERVAL '3 months 2 days 1.5 seconds'", "INTERVAL '-1 day'", "INTERVAL '0 days'", "'00000000-0000-0000-0000-000000000007'::UUID",
    "'101'::BIT", "123::BIGNUM", "'a'::ENUM('a','b,c')", "[1, NULL, 3]", "[]::INTEGER[]", "[[1], NULL, []]", "[1, 2]::INTEGER[2]",
    "[DATE '2020-01-01']", "['101'::BIT]", "[1e40::DOUBLE]", "{'a b': 1, 'c': {'d': NULL, 'e': DATE '2020-01-01'}}", "(1, 'a')",
    "[{'u': '00000000-0000-0000-0000-000000000007'::UUID, 'h': 5::HUGEINT}]", "MAP {1: 'a'}", "MAP {'k': [1, NULL]}", "MAP {}",
    "MAP {DATE '2020-01-01': 1.5::DECIMAL(4,2)}", "union_value(k := 1)", "union_value(k := '00000000-0000-0000-0000-000000000007'::UUID)",
    "NULL", "NULL::UUID", "[NULL]", "(NULL, NULL)", "NULL::STRUCT(a INTEGER)", "NULL::MAP(INTEGER, DATE)", "TIMESTAMP_NS 'infinity'",
]
ONLY_ARROW = ["MAP {{'a': 1}: 2}", "MAP {[1]: 2}", "'{\"a\":  1.50}'::JSON"]
ONLY_JSON = ["[TIMETZ '01:02:03+02']", "{'z': TIMETZ '01:02:03+02'}"]


def same(a, b):
    return type(a) is type(b) and (a == b or a != a and b != b)


def wrong_values(con, values):
    """Those that differ from DuckDB's, one row at a time, and as columns of several rows with NULLs around."""
    db = duckdb.connect()
    wrong = []
    for text in values:
        several = f"SELECT 1 AS i, NULL AS v UNION ALL SELECT 2, {text} UNION ALL SELECT 3, {text}"
        for sql in (f"SELECT {text} AS v", f"SELECT v FROM ({several}) ORDER BY i"):
            wanted = db.execute(sql).fetchall()
            got = con.execute(sql).fetchall()
            if len(got) != len(wanted) or not all(same(a[0], b[0]) for a, b in zip(got, wanted)):
                wrong.append((sql, wanted, got))
    return wrong


@pytest.mark.parametrize("arrow", [True, False])
def test_values_are_duckdbs(connect, arrow):
    assert not wrong_values(connect(arrow=arrow), VALUES + (ONLY_ARROW if arrow else ONLY_JSON))


def test_values_without_pyarrow(cluster):
    """Where pyarrow cannot be imported, and with it all that the package needs."""
    code = """
import sys
sys.modules['pyarrow'] = None
import merganser
con = merganser.connect(sys.argv[1], username='scott', password='tiger', tls_roots=sys.argv[2])
print(con.execute("SELECT 5::HUGEINT, DATE '2020-01-01', [1.5::DECIMAL(4,2)], count(*) FROM lineitem").fetchall())
try:
    con.sql('SELECT 1').arrow()
except merganser.NotSupportedError as error:
    print(error.hint)
"""
    source = pathlib.Path(sys.modules["merganser"].__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, cluster.url, cluster.ca], capture_output=True, text=True, timeout=60,
                          env={"PYTHONPATH": str(source)})
    count = cluster.rows("SELECT count(*) FROM lineitem")[0][0]
    assert done.stdout.splitlines() == [f"[(5, datetime.date(2020, 1, 1), [Decimal('1.50')], {count})]",
                                        "pip install 'merganser[arrow]'"], done.stderr


@pytest.mark.parametrize("arrow", [True, False])
def test_a_time_with_zone_is_of_utc(connect, arrow):
    value, = connect(arrow=arrow).execute("SELECT TIMESTAMPTZ '2020-01-01 02:00:00.5+02'").fetchone()
    assert value == datetime.datetime(2020, 1, 1, 0, 0, 0, 500000, tzinfo=datetime.timezone.utc)


PARAMETERS = [
    None, True, 0, -1, 2**63, -2**100, 0.5, float("inf"), 1e300, "it's", "ü\n\0"[:2], decimal.Decimal("-12.345"), decimal.Decimal("1E+5"),
    b"", b"\x00\xff'", bytearray(b"ab"), datetime.date(1, 1, 1), datetime.datetime(2020, 1, 2, 3, 4, 5, 6), datetime.time(1, 2, 3, 4),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))), datetime.timedelta(days=-3, microseconds=5),
    datetime.time(1, 2, tzinfo=datetime.timezone.utc), uuid.UUID(int=2**127), [1, 2, None], [[b"x"], []], {"a": 1, "b": {"c": "x"}},
    {"d": datetime.date(2020, 1, 1), "l": [decimal.Decimal("1.5"), decimal.Decimal("10")]},
]


@pytest.mark.parametrize("arrow", [True, False])
@pytest.mark.parametrize("value", PARAMETERS, ids=repr)
def test_parameters_come_back(connect, arrow, value):
    got, = connect(arrow=arrow).execute("SELECT ?", [value]).fetchone()
    if isinstance(value, bytearray):
        value = bytes(value)
    assert got == value


def test_what_was_inserted_comes_back(con):
    con.execute("DROP TABLE IF EXISTS py_types")
    con.execute("CREATE TABLE py_types (d DECIMAL(10,2), b BLOB, t TIMESTAMP, u UUID, l DATE[], i INTERVAL)")
    row = (decimal.Decimal("5.25"), b"\0\xff", datetime.datetime(2020, 1, 1), uuid.UUID(int=9), [datetime.date(2020, 1, 1), None],
           datetime.timedelta(days=1))
    nothing = (None,) * 6
    assert con.executemany("INSERT INTO py_types VALUES (?, ?, ?, ?, ?, ?)", [row, nothing, row]).rowcount == 3
    assert sorted(con.execute("SELECT * FROM py_types").fetchall(), key=str) == sorted([row, nothing, row], key=str)
    got = con.execute("INSERT INTO py_types VALUES (?, ?, ?, ?, ?, ?) RETURNING *", row).fetchall()
    assert got == [row]


def test_numpy(con):
    numpy = pytest.importorskip("numpy")
    got = con.execute("SELECT ?, ?, ?", [numpy.int64(5), numpy.float64(0.5), numpy.array([1, 2])]).fetchone()
    assert got == (5, 0.5, [1, 2])


@pytest.mark.parametrize("arrow", [True, False])
def test_description_names_types(connect, arrow):
    cursor = connect(arrow=arrow).execute("SELECT 1 AS a, uuid() AS b, 1.5::DECIMAL(4,2) AS c, 5::HUGEINT AS d, '{}'::JSON AS e")
    assert [(name, kind) for name, kind, *_ in cursor.description] == [
        ("a", "INTEGER"), ("b", "UUID"), ("c", "DECIMAL(4,2)"), ("d", "HUGEINT"), ("e", "JSON")]
