"""What the Python package does without a server: statements, parameters, names of types, values, options."""
import datetime
import decimal
import pathlib
import uuid

import pytest

import merganser
from merganser import options
from merganser.connection import _rows_together
from merganser.parameters import bind
from merganser.sqltext import read_statement, tokens
from merganser.sqltypes import parse_type
from merganser.values import from_json


def words(sql):
    return [token.text for token in tokens(sql)]


def test_words_of_a_text():
    assert words("SELECT 'it''s ?', \"a\"\"?\" -- ?\n, /* ? /* ? */ ? */ ?") == [
        "SELECT", "'it''s ?'", ",", '"a""?"', ",", "?"]
    assert words("$$ ? $$ $x$ $$ ? $x$ $1 $name ?2") == ["$$ ? $$", "$x$ $$ ? $x$", "$1", "$name", "?2"]
    assert words(r"E'a\'?' 1e5 a$b") == [r"E'a\'?'", "1e5", "a$b"]
    for broken in ("'open", '"open', "/* open", "$$ open", "E'open"):
        assert words(f"SELECT {broken}")[0] == "SELECT"


@pytest.mark.parametrize("sql, reads", [
    ("SELECT 1", True), ("  -- x\n select 1", True), ("(SELECT 1)", True), ("FROM t", True), ("VALUES (1)", True),
    ("WITH a AS (SELECT 1) SELECT * FROM a", True), ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", False),
    ("WITH a(x) AS (SELECT 1), b AS (DELETE) UPDATE t SET x = 1", False), ("INSERT INTO t VALUES (1)", False),
    ("WITH a AS (SELECT 'INSERT') SELECT \"update\" FROM a", True), ("CREATE TABLE t (a INT)", False),
    ("EXPLAIN SELECT 1", True), ("COPY t TO STDOUT", True), ("COPY t TO '/x'", False), ("SHOW TABLES", True),
])
def test_what_reads(sql, reads):
    assert read_statement(sql).reads is reads


def test_no_statement():
    for text in ("", " ; ", "-- x", "/* */;"):
        with pytest.raises(merganser.ProgrammingError):
            read_statement(text)


def bound(sql, parameters):
    return bind(read_statement(sql), parameters)


def test_parameters_get_the_type_that_they_have():
    assert bound("SELECT ?, ?, '?'", [1, "x"]) == ("SELECT ?, ?, '?'", [1, "x"])
    assert bound("SELECT ?, ?", [decimal.Decimal("-1.50"), datetime.date(2020, 1, 2)]) == (
        "SELECT CAST(? AS DECIMAL(3,2)), CAST(? AS DATE)", ["-1.50", "2020-01-02"])
    assert bound("SELECT $2, $1, $2", [b"\x00", True]) == ("SELECT $2, from_base64($1), $2", ["AA==", True])
    assert bound("SELECT $a", {"a": uuid.UUID(int=1)}) == ("SELECT CAST($a AS UUID)", {"a": str(uuid.UUID(int=1))})
    assert bound("SELECT ?", [[decimal.Decimal("1"), decimal.Decimal("0.25")]])[0] == "SELECT CAST(? AS DECIMAL(3,2)[])"
    assert bound("SELECT ?", [[None, b"\x01a"]]) == ("SELECT CAST(? AS BLOB[])", [[None, "\\x01\\x61"]])
    assert bound("SELECT ?", [decimal.Decimal("1E+3")]) == ("SELECT CAST(? AS DECIMAL(4,0))", ["1000"])
    assert bound("SELECT ?", [float("nan")]) == ("SELECT CAST(? AS DOUBLE)", ["nan"])


@pytest.mark.parametrize("sql, parameters", [
    ("SELECT ?", []), ("SELECT ?", None), ("SELECT 1", [1]), ("SELECT ?", [1, 2]), ("SELECT ?", "x")])
def test_parameters_that_do_not_fit(sql, parameters):
    with pytest.raises(merganser.ProgrammingError):
        bound(sql, parameters)


@pytest.mark.parametrize("value", [
    object(), [1, "x", datetime.date(2020, 1, 1)], decimal.Decimal("1" * 39), {1: datetime.date(2020, 1, 1)}])
def test_values_of_no_sql_type(value):
    with pytest.raises(merganser.InterfaceError):
        bound("SELECT ?", [value])


def test_many_rows_become_one_insert():
    statement = read_statement("INSERT INTO t (a, b) VALUES (?, lower(?)) ;")
    values = [[i, datetime.date(2020, 1, 1) if i else None] for i in range(2)]
    bounds = [bind(statement, one) for one in values]
    assert _rows_together(statement, bounds, values) == [
        ("INSERT INTO t (a, b) VALUES (?, lower(?)), (?, lower(CAST(? AS DATE)))", [0, None, 1, "2020-01-01"])]
    for other in ("INSERT INTO t VALUES (?), (1)", "INSERT INTO t SELECT (?)", "INSERT INTO t VALUES (?) RETURNING a",
                  "INSERT OR REPLACE INTO t VALUES (?)", "INSERT INTO t VALUES ($1)", "INSERT INTO t VALUES (1)"):
        assert read_statement(other).row is None


def test_names_of_types():
    found = parse_type('STRUCT("a b" DECIMAL(15,2)[], c MAP(VARCHAR, TIME WITH TIME ZONE))[3]')
    assert (found.base, found.size) == ("ARRAY", 3)
    inner = found.args[0]
    assert inner.fields == ("a b", "c") and [one.base for one in inner.args] == ["LIST", "MAP"]
    assert inner.args[0].args[0].text == "DECIMAL(15,2)" and inner.args[1].args[1].base == "TIME WITH TIME ZONE"
    assert parse_type("STRUCT(BIGINT, TIMESTAMP WITH TIME ZONE)").fields is None
    assert parse_type("ENUM('a', 'b)')[]").args[0].base == "ENUM"
    assert parse_type("STRUCT(").base == "STRUCT(" and parse_type("").base == ""


def test_values_of_json():
    def read(name, value):
        return (from_json(parse_type(name)) or (lambda one: one))(value)
    assert read("INTERVAL", "P1Y2M3DT-4H5M-6.5S") == datetime.timedelta(days=423, hours=-4, minutes=5, seconds=-6.5)
    assert read("TIMESTAMP WITH TIME ZONE", "2020-01-02T03:04:05.6Z").utcoffset() == datetime.timedelta(0)
    assert read("TIME WITH TIME ZONE", "01:02:03-01:30").utcoffset() == datetime.timedelta(hours=-1, minutes=-30)
    assert read("MAP(DATE, BLOB[])", {"2020-01-02": ["AA==", None]}) == {datetime.date(2020, 1, 2): [b"\0", None]}
    assert read("UNION(a UUID, b INTEGER, c VARCHAR)", 5) == 5
    with pytest.raises(ValueError):
        read("INTERVAL", "soon")


def test_type_objects():
    assert "VARCHAR" == merganser.STRING and merganser.NUMBER == "DECIMAL(15,2)" and "DATE" != merganser.NUMBER
    assert len({merganser.STRING, merganser.BINARY, merganser.NUMBER, merganser.DATETIME, merganser.ROWID}) == 5


def resolved(monkeypatch, tmp_path, environment=(), **arguments):
    for name in ("URL", "USERNAME", "PASSWORD", "PASSWORD_FILE", "TLS_ROOTS", "DATA_DIR", "TIMEOUT"):
        monkeypatch.delenv(f"MERGANSER_{name}", raising=False)
    for name, value in dict(environment).items():
        monkeypatch.setenv(f"MERGANSER_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    return options.resolve(**arguments)


def test_options(monkeypatch, tmp_path):
    found = resolved(monkeypatch, tmp_path, url="https://a:1, b ,http://[::1]:3", username="u", password="p", timeout="500ms")
    assert [str(one) for one in found.servers] == ["https://a:1", "https://b:8765", "http://[::1]:3"] and found.timeout == 0.5
    found = resolved(monkeypatch, tmp_path, {"URL": "https://x:9", "USERNAME": "u", "PASSWORD": "p", "TIMEOUT": "2m"})
    assert str(found.servers[0]) == "https://x:9" and found.authorization == "Basic dTpw" and found.timeout == 120
    secret = tmp_path / "secret"
    secret.write_text("p\n")
    assert resolved(monkeypatch, tmp_path, {"USERNAME": "u", "PASSWORD_FILE": secret}).authorization == "Basic dTpw"
    assert str(resolved(monkeypatch, tmp_path, username="u", password="p").servers[0]) == "https://localhost:8765"


@pytest.mark.parametrize("arguments", [
    {}, {"username": "u"}, {"username": "u", "password": "p", "url": "ftp://x"}, {"username": "u", "password": "p", "url": ","},
    {"username": "u", "password": "p", "url": "https://x:port"}, {"username": "u", "password": "p", "timeout": "soon"},
    {"username": "u", "password": "p", "tls_roots": "/no/such/file"}, {"username": "u", "password": "p", "tls_key": "x"},
])
def test_options_that_make_no_sense(monkeypatch, tmp_path, arguments):
    with pytest.raises(merganser.InterfaceError):
        resolved(monkeypatch, tmp_path, **arguments)


def test_a_cluster_of_this_machine(monkeypatch, tmp_path, cluster):
    found = resolved(monkeypatch, tmp_path, {"DATA_DIR": cluster.data}, password="tiger")
    assert str(found.servers[0]) == cluster.url and found.authorization.startswith("Basic ")
    (tmp_path / "merganser-data").symlink_to(cluster.data)
    con = merganser.connect(password="tiger")
    assert con.execute("SELECT 1").fetchone() == (1,)
    con.close()
    away = resolved(monkeypatch, tmp_path, url="https://db.example", username="u", password="p")
    assert str(away.servers[0]) == "https://db.example:8765"
    assert pathlib.Path("merganser-data").is_dir()
