"""Macros, types, sequences and UNIQUE: statement by statement as plain DuckDB, kept over restarts and kills."""
import json
import re
import signal
import threading

import duckdb
import pytest


def ask(cluster, sql):
    """(rows, None) or (None, error) of a statement, by the path that takes it."""
    reads = re.match(r"\s*(SELECT|FROM|WITH|VALUES|DESCRIBE)", sql, re.I)
    answer = cluster.request("POST", "/db/query" if reads else "/db/execute", json.dumps({"sql": sql}).encode(),
                             {"Content-Type": "application/json"})
    body = answer.json()
    if answer.status != 200:
        return None, body["error"]
    return body["result"].get("values", []), None


def both(cluster, plain, script):
    """Each statement on both sides: the same rows, or a refusal in the same words."""
    for sql in [part.strip() for part in script.split(";\n") if part.strip()]:
        bare = re.sub(r"\s+PARTITIONED BY \([^)]*\)", "", sql)
        rows, error = ask(cluster, sql)
        try:
            expected = [[str(value) for value in row] for row in plain.execute(bare).fetchall()]
            assert error is None, (sql, error, expected)
            if re.match(r"\s*(SELECT|FROM|WITH|VALUES)", sql, re.I):
                assert [[str(value) for value in row] for row in rows] == expected, sql
        except duckdb.Error as wrong:
            first = str(wrong).split("\n")[0].split("Error: ", 1)[1].rstrip(".!")
            first = re.sub(r"^(Table )?Macro Function with name (\w+) does", r'\1macro "\2" does', first)
            assert error and error["message"].lower() == first.lower(), (sql, error, rows, str(wrong))


@pytest.fixture
def plain():
    with duckdb.connect() as db:
        yield db


ROWS = """
CREATE TABLE m (k INTEGER, v VARCHAR, n INTEGER) PARTITIONED BY (k);
INSERT INTO m SELECT i, 'v' || i % 7, i * i % 100 FROM range(500) r(i);
CREATE TABLE mref (k INTEGER, w VARCHAR);
INSERT INTO mref SELECT i, 'w' || i FROM range(50) r(i);
"""


def test_what_cannot_be_dropped_says_why(empty):
    def refused(sql):
        _, error = ask(empty, sql)
        return error["sqlstate"], error["message"], error.get("detail", ""), error.get("hint", "")

    for sql, name in (("DROP MACRO tax", 'macro "tax"'), ("DROP MACRO TABLE tax", 'table macro "tax"')):
        assert refused(sql) == ("42883", f"{name} does not exist", "", "")
    assert refused("DROP TYPE boo")[3] == ""
    empty.sql("CREATE SCHEMA held; CREATE TABLE held.t (a INTEGER); CREATE SEQUENCE drawn;"
              "CREATE TABLE draws (a INTEGER DEFAULT nextval('drawn')); CREATE VIEW seen AS SELECT 1 AS a")
    for sql, hint in (("DROP SCHEMA held", "Drop what it holds first."), ("DROP SCHEMA held CASCADE", "CASCADE does not")):
        state, message, _, how = refused(sql)
        assert (state, message) == ("2BP01", 'schema "held" holds 1 object') and how.startswith(hint)
    for sql, hint in (("DROP SEQUENCE drawn", "Drop what depends"), ("DROP SEQUENCE drawn CASCADE", "CASCADE does not")):
        state, _, detail, how = refused(sql)
        assert (state, detail) == ("2BP01", 'table "draws" depends on sequence "drawn".') and how.startswith(hint)
    for sql, hint in (("DROP TABLE seen", "Use DROP VIEW."), ("DROP TABLE IF EXISTS seen", "Use DROP VIEW."),
                      ("DROP VIEW draws", "Use DROP TABLE.")):
        state, message, _, how = refused(sql)
        assert (state, how) == ("42809", hint) and "not a" in message
    empty.sql("DROP TABLE held.t; DROP SCHEMA held; DROP TABLE draws; DROP SEQUENCE drawn; DROP VIEW seen")


def test_macros_are_duckdbs(empty, plain):
    both(empty, plain, ROWS + """
CREATE MACRO plus(a, b := 5) AS a + b, (a, b, c) AS a * b * c;
CREATE FUNCTION shout(x) AS upper(x) || '!';
CREATE MACRO above(least) AS TABLE SELECT k, v, n FROM m WHERE n > least;
CREATE MACRO how_many(x) AS (SELECT count(*) FROM m WHERE v = x);
CREATE MACRO total(x) AS sum(x) + count(*);
SELECT plus(1), plus(1, b := 2), plus(2, 3, 4);
SELECT k, plus(n), shout(v) FROM m WHERE plus(n, 1) > 95 ORDER BY k;
SELECT v, total(n), count(DISTINCT plus(k % 3)) FROM m GROUP BY v ORDER BY v;
SELECT count(*), sum(n) FROM above(50);
SELECT a.k, r.w FROM above(90) a JOIN mref r USING (k) ORDER BY ALL;
SELECT how_many('v3'), how_many(x) FROM (VALUES ('v1'), ('none')) t(x) ORDER BY ALL;
SELECT (SELECT max(k) FROM above(n.k)) FROM mref n WHERE k < 3 ORDER BY ALL;
CREATE VIEW mv AS SELECT plus(k) AS p FROM above(80);
SELECT count(*), sum(p) FROM mv;
CREATE OR REPLACE MACRO plus(a, b := 5) AS a - b;
SELECT plus(1), plus(1, 2);
SELECT count(*), sum(p) FROM mv;
UPDATE m SET n = plus(n, 100) WHERE k < 10;
SELECT sum(n) FROM m WHERE k < 10;
INSERT INTO m VALUES (plus(1000, 1), shout('x'), 3);
INSERT INTO m SELECT plus(1001, 1), shout('x'), how_many('v0')::INTEGER;
SELECT * FROM m WHERE k = 999;
DELETE FROM m WHERE n < plus(0, 90);
SELECT count(*) FROM m;
SELECT function_name, function_type, parameters, macro_definition FROM duckdb_functions() WHERE NOT internal ORDER BY ALL;
CREATE MACRO plus(a) AS a;
CREATE MACRO IF NOT EXISTS plus(a) AS a;
CREATE MACRO wrong(a) AS nofunction(a);
CREATE MACRO wrong(a, a) AS a;
CREATE MACRO wrong() AS TABLE SELECT * FROM nowhere;
SELECT no_such_macro(1);
DROP MACRO no_such_macro;
DROP MACRO IF EXISTS no_such_macro;
DROP MACRO TABLE plus;
DROP VIEW mv;
DROP FUNCTION plus;
SELECT plus(1);
DROP MACRO shout;
DROP MACRO TABLE above;
DROP MACRO how_many;
DROP MACRO total;
DROP TABLE m;
DROP TABLE mref
""")


@pytest.mark.parametrize("path", ["?strategy=cut", "?strategy=local", "?strategy=gather", "?strategy=broadcast", "?distributed=false"])
def test_macros_in_every_strategy(empty, path):
    empty.sql("CREATE OR REPLACE TABLE ms (k INTEGER, n INTEGER) PARTITIONED BY (k); INSERT INTO ms SELECT i, i % 10 FROM range(1000) r(i);"
              "CREATE OR REPLACE MACRO twice(x) AS x * 2; CREATE OR REPLACE MACRO tens(lowest) AS TABLE SELECT * FROM ms WHERE n >= lowest")
    assert empty.rows("SELECT sum(twice(n)), count(*) FROM tens(5) WHERE twice(k) < 1000", path) == [["3500", 250]]
    empty.sql("DROP MACRO twice; DROP MACRO TABLE tens; DROP TABLE ms")


@pytest.mark.parametrize("statement, says", [
    ("CREATE MACRO sum(a) AS a", "function's name"),
    ("CREATE MACRO read_csv(a) AS TABLE SELECT a", "function's name"),
    ("CREATE MACRO x(a) AS (SELECT content FROM read_text(a))", "read_text"),
    ("CREATE MACRO x(f) AS TABLE SELECT * FROM read_csv(f)", "read_csv"),
    ("CREATE MACRO x(f) AS TABLE SELECT * FROM '/etc/passwd'", "does not exist"),
    ("CREATE MACRO x(f) AS getenv(f)", "getenv"),
    ("CREATE MACRO x(f) AS current_setting(f)", "current_setting"),
    ("CREATE MACRO x(f) AS TABLE SELECT * FROM query(f)", "query"),
    ("CREATE MACRO x(f := (SELECT content FROM read_text('/etc/passwd'))) AS f", "read_text"),
    ("CREATE MACRO x(a) AS a, (a, b) AS (SELECT content FROM read_text(a))", "read_text"),
    ("CREATE MACRO x(a) AS", "body"),
    ("CREATE MACRO x", "parameters"),
    ("CREATE MACRO x(a AS a", "\")\""),
    ("CREATE TEMP MACRO x(a) AS a", "TEMP"),
    ("CREATE MACRO nowhere.x(a) AS a", "no schema"),
    ("CREATE MACRO cluster.x(a) AS a", "cluster"),
    ("CREATE TYPE x AS nothing", "nothing"),
    ("CREATE TYPE x AS ENUM (SELECT content FROM read_text('/etc/passwd'))", "read_text"),
    ("CREATE TYPE x AS ENUM (SELECT 'a', 'b')", "single column"),
    ("CREATE TYPE x AS ENUM (PRAGMA version)", "labels"),
    ("CREATE TYPE x AS ENUM (SELECT 'a') WITH", "labels"),
    ("CREATE TYPE x AS ENUM ((SELECT DISTINCT name FROM duckdb_settings()))", "labels"),
    ("CREATE TYPE x AS ENUM (TABLE nation)", "nation"),
    ("CREATE TYPE x AS ENUM ('a', (SELECT 'b'))", "labels"),
    ("CREATE TYPE x AS ENUM (SELECT repeat('x', 10000) || i FROM range(1000000) r(i))", "at most"),
    ("CREATE TYPE x AS STRUCT(a ENUM((FROM nation)))", "labels"),
    ("CREATE TYPE x AS DECIMAL((SELECT 18), 2)", "no place in a type"),
    ("CREATE UNIQUE INDEX x ON y (a)", "UNIQUE"),
    ("CREATE UNIQUE INDEX x ON y (a)", "would take rows with equal keys"),
    ("CREATE INDEX x ON y (a)", "SET PARTITIONED BY"),
    ("DROP INDEX x", "Index with name x"),
    ("COMMENT ON TABLE x IS 'a'", "no table or view"),
    ("COMMENT ON TABLE x IS 'a' || 'b'", "end of the statement"),
    ("COMMENT ON SCHEMA main IS 'a'", "TABLE, VIEW and COLUMN"),
    ("CREATE SEQUENCE x INCREMENT 0", "zero"),
    ("CREATE TABLE x (a INTEGER PRIMARY KEY, b INTEGER REFERENCES x(a))", "FOREIGN KEY"),
    ("CREATE TABLE x (a INTEGER, b VARCHAR COLLATE nocase)", "COLLATE of a column"),
    ("CREATE TABLE x (a INTEGER, b INTEGER UNIQUE) PARTITIONED BY (a)", "must hold"),
])
def test_what_cannot_be_made_is_refused_and_leaves_nothing(empty, statement, says):
    assert says in empty.refused(statement)
    assert empty.rows("SELECT count(*) FROM duckdb_functions() WHERE NOT internal AND function_name = 'x'") == [[0]]
    assert empty.rows("SELECT (SELECT count(*) FROM duckdb_types() WHERE type_name = 'x') + (SELECT count(*) FROM duckdb_sequences() "
                      "WHERE sequence_name = 'x') + (SELECT count(*) FROM duckdb_tables() WHERE table_name = 'x')") == [[0]]


def test_types_are_duckdbs(empty, plain):
    both(empty, plain, """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE point AS STRUCT(x INTEGER, y INTEGER);
CREATE TYPE money AS DECIMAL(12, 2);
CREATE TYPE both_of AS STRUCT(m mood, p point);
SELECT 'ok'::mood < 'happy'::mood, enum_range(NULL::mood), {'x': 1, 'y': 2}::point, 3.456::money;
SELECT 'none'::mood;
CREATE TABLE ty (k INTEGER, m mood DEFAULT 'ok', p point, c money, b both_of, l mood[]) PARTITIONED BY (k);
INSERT INTO ty SELECT i, (['sad', 'ok', 'happy'])[i % 3 + 1]::mood, {'x': i, 'y': -i}, i / 3, {'m': 'sad', 'p': {'x': 1, 'y': i}},
    ['ok', 'sad'] FROM range(300) r(i);
INSERT INTO ty (k) VALUES (1000);
INSERT INTO ty VALUES (1001, 'wrong', NULL, NULL, NULL, NULL);
SELECT m, count(*), min(k), max(p.x), sum(c), min(b.m), count(DISTINCT l) FROM ty GROUP BY m ORDER BY m;
SELECT k, m, p, c, b, l FROM ty WHERE m >= 'ok' AND k % 50 = 1 ORDER BY m DESC, k;
SELECT min(m), max(m), count(*) FROM ty a JOIN ty b USING (m) WHERE a.k < 20;
UPDATE ty SET m = 'happy' WHERE k < 10 AND m = 'sad';
SELECT m, count(*) FROM ty GROUP BY m ORDER BY m;
SELECT k FROM ty WHERE m = 'happy'::mood ORDER BY k LIMIT 5;
SELECT column_name, data_type, column_default FROM duckdb_columns() WHERE table_name = 'ty';
SELECT type_name, logical_type, labels FROM duckdb_types() WHERE NOT internal ORDER BY ALL;
CREATE TYPE mood AS INTEGER;
CREATE TYPE IF NOT EXISTS mood AS INTEGER;
DROP TYPE mood;
DROP TYPE both_of;
DROP TYPE nothing;
DROP TYPE mood;
SELECT m, count(*) FROM ty GROUP BY m ORDER BY m;
SELECT 'ok'::mood;
CREATE TYPE colour AS ENUM (SELECT (['red', 'it''s', 'red', 'a,b'])[k % 4 + 1] FROM ty WHERE k < 8 ORDER BY k);
SELECT enum_range(NULL::colour);
CREATE TYPE IF NOT EXISTS colour AS ENUM (SELECT 'x');
CREATE OR REPLACE TYPE colour AS ENUM (FROM (VALUES (3), (1), (3)) n(i));
SELECT enum_range(NULL::colour), '1'::colour < '3'::colour;
CREATE TYPE none AS ENUM (SELECT v FROM (VALUES ('a'), (NULL)) n(v));
DROP TYPE colour;
CREATE OR REPLACE TYPE mood AS ENUM ('one');
SELECT 'one'::mood;
DROP TYPE mood;
DROP TYPE point;
DROP TYPE money;
DROP TABLE ty
""")


def test_sequences_are_duckdbs(empty, plain):
    both(empty, plain, """
CREATE SEQUENCE one;
CREATE SEQUENCE odd START 5 INCREMENT 2 MINVALUE 1 MAXVALUE 9 CYCLE;
CREATE SEQUENCE down INCREMENT -1 MINVALUE -3 MAXVALUE 5 START 0;
SELECT currval('one');
SELECT nextval('one'), nextval('one');
SELECT currval('one');
SELECT nextval('odd') FROM range(7);
SELECT nextval('down') FROM range(4);
SELECT nextval('down');
SELECT nextval('none');
CREATE TABLE sq (id INTEGER DEFAULT nextval('one'), k INTEGER, o INTEGER DEFAULT nextval('odd')) PARTITIONED BY (k);
INSERT INTO sq (k) VALUES (10), (20);
INSERT INTO sq (k) SELECT i FROM range(100) r(i);
INSERT INTO sq VALUES (nextval('one'), 7, 0);
INSERT INTO sq SELECT nextval('one'), 8, 1;
INSERT INTO sq VALUES (DEFAULT, 9, 2);
SELECT count(*), count(DISTINCT id), min(id), max(id) FROM sq;
SELECT id FROM sq WHERE o < 3 ORDER BY k, id;
SELECT currval('one');
SELECT sequence_name, start_value, min_value, max_value, increment_by, cycle, last_value FROM duckdb_sequences() ORDER BY ALL;
CREATE SEQUENCE one;
DROP SEQUENCE one;
CREATE OR REPLACE SEQUENCE one;
CREATE MACRO draw() AS nextval('one');
SELECT draw();
SELECT column_name, column_default FROM duckdb_columns() WHERE table_name = 'sq';
DROP TABLE sq;
CREATE OR REPLACE SEQUENCE odd;
SELECT nextval('odd');
DROP MACRO draw;
DROP SEQUENCE one;
DROP SEQUENCE odd;
DROP SEQUENCE down;
DROP SEQUENCE down
""")


def test_a_sequence_beside_tables_is_refused_with_a_way_out(empty):
    empty.sql("CREATE SEQUENCE lone; CREATE TABLE ls (k INTEGER)")
    assert "DEFAULT nextval" in empty.refused("SELECT nextval('lone'), k FROM ls")
    empty.sql("DROP SEQUENCE lone; DROP TABLE ls")


@pytest.mark.parametrize("partition", ["", " PARTITIONED BY (a)"])
def test_unique_is_duckdbs(empty, plain, partition):
    both(empty, plain, f"""
CREATE TABLE un (a INTEGER, b INTEGER, c VARCHAR, PRIMARY KEY (a, b), UNIQUE (a, c)){partition};
INSERT INTO un VALUES (1, 1, 'x'), (1, 2, 'y'), (2, 1, 'x'), (3, 1, NULL), (3, 2, NULL);
INSERT INTO un VALUES (1, 3, 'x');
INSERT INTO un VALUES (4, 1, 'z'), (4, 2, 'z');
INSERT INTO un VALUES (1, 1, 'other');
INSERT INTO un VALUES (5, NULL, 'other');
UPDATE un SET c = 'q' WHERE a = 1 AND b = 2;
UPDATE un SET c = 'x' WHERE a = 1 AND b = 2;
INSERT INTO un VALUES (1, 9, 'x') ON CONFLICT (a, c) DO NOTHING;
INSERT INTO un VALUES (1, 9, 'x'), (7, 7, 'x') ON CONFLICT (a, c) DO UPDATE SET b = b + 10;
INSERT INTO un VALUES (1, 2, 'x') ON CONFLICT (a, c) DO UPDATE SET b = 3;
INSERT OR IGNORE INTO un VALUES (2, 1, 'x'), (8, 8, 'x');
INSERT INTO un SELECT i, i, 'many' FROM range(100, 200) r(i);
INSERT INTO un SELECT i, -i, 'many' FROM range(150, 151) r(i);
DELETE FROM un WHERE a = 1;
INSERT INTO un VALUES (1, 3, 'x');
SELECT * FROM un WHERE a < 100 ORDER BY ALL;
SELECT count(*) FROM un;
DROP TABLE un
""")


def test_unique_within_a_transaction(empty):
    empty.sql("CREATE TABLE ut (a INTEGER UNIQUE, b INTEGER) PARTITIONED BY (a); INSERT INTO ut VALUES (1, 1), (NULL, 2)")
    empty.sql("BEGIN; DELETE FROM ut WHERE a = 1; INSERT INTO ut VALUES (1, 10), (NULL, 3); COMMIT")
    assert "23505" in empty.refused("BEGIN; INSERT INTO ut VALUES (5, 5); INSERT INTO ut VALUES (5, 6)")
    assert empty.rows("SELECT a, b FROM ut ORDER BY b") == [[None, 2], [None, 3], [1, 10]]
    empty.sql("DROP TABLE ut")


def test_all_is_there_after_kills(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.sql("CREATE SCHEMA s; CREATE SEQUENCE s.q START 100; CREATE TYPE s.mood AS ENUM ('a', 'b');"
                "CREATE MACRO s.f(x) AS x + 1; CREATE TABLE t (id BIGINT DEFAULT nextval('s.q'), k INTEGER UNIQUE, m s.mood, "
                "n INTEGER DEFAULT s.f(1)) PARTITIONED BY (k);"
                "CREATE MACRO s.g(x) AS TABLE SELECT s.f(id) AS id FROM t WHERE k > x; CREATE VIEW v AS SELECT count(*) AS n FROM s.g(-1)")
    cluster.sql("CREATE TABLE gone AS SELECT 1 AS k")
    seen = set()
    for kill in range(3):
        for i in range(3):
            rows, _ = ask(cluster, f"INSERT INTO t (k, m) VALUES ({kill * 10 + i}, 'b') RETURNING id")
            assert rows[0][0] not in seen
            seen.add(rows[0][0])
        value = cluster.rows("SELECT nextval('s.q')")[0][0]
        assert value not in seen
        seen.add(value)
        if kill == 0:
            cluster.sql("CREATE VIEW w AS SELECT k FROM gone; ALTER TABLE gone RENAME TO found")
        cluster.processes["server"].send_signal(signal.SIGKILL)
        cluster.processes["server"].wait()
        cluster.start_server()
    # A view of what was renamed stands, and says why it cannot be read; it is whole again when that is back.
    assert "SELECT k FROM gone" in cluster.rows("SELECT sql FROM duckdb_views() WHERE view_name = 'w'")[0][0]
    for query in ("FROM w", "SELECT count(*) FROM w", "SELECT max(t.k) FROM t JOIN w ON true"):
        said = cluster.refused(query)
        assert 'view "w" cannot be read: table with name gone does not exist' in said, said
    cluster.sql("ALTER TABLE found RENAME TO gone")
    assert cluster.rows("SELECT k FROM w") == [[1]]
    cluster.sql("DROP VIEW w; DROP TABLE gone")
    assert min(seen) == 100
    assert cluster.rows("SELECT count(*), count(DISTINCT id), sum(n), min(m) FROM t") == [[9, 9, "18", "b"]]
    assert cluster.rows("SELECT n, (SELECT max(id) FROM s.g(5)) - (SELECT max(id) FROM t) FROM v") == [[9, 1]]
    assert "23505" in cluster.refused("INSERT INTO t (k) VALUES (0)")
    assert "depend" in cluster.refused("DROP SEQUENCE s.q")
    assert "holds 4 objects" in cluster.refused("DROP SCHEMA s")
    cluster.sql("DROP VIEW v; DROP MACRO TABLE s.g; DROP TABLE t; DROP MACRO s.f; DROP TYPE s.mood; DROP SEQUENCE s.q; DROP SCHEMA s")
    assert cluster.rows("SELECT count(*) FROM duckdb_sequences()") == [[0]]


def test_comments_are_duckdbs(empty, plain):
    """They follow what they are on through ALTER, and are there after OR REPLACE no more."""
    shown = """
SELECT comment FROM duckdb_tables() WHERE table_name LIKE 'com%' ORDER BY table_name;
SELECT view_name, comment FROM duckdb_views() WHERE NOT internal AND view_name LIKE 'com%' ORDER BY view_name;
SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal AND table_name LIKE 'com%' ORDER BY ALL;
"""
    both(empty, plain, f"""
CREATE TABLE com (k INTEGER, v VARCHAR, n INTEGER) PARTITIONED BY (k);
CREATE VIEW comv AS SELECT 1 AS k, 'a' AS v;
COMMENT ON TABLE com IS 'it''s "one"';
COMMENT ON COLUMN com.k IS E'a\\nkey';
COMMENT ON COLUMN main.com.v IS $$text$$;
COMMENT ON VIEW comv IS 'seen';
COMMENT ON COLUMN comv.v IS 'a view''s';
{shown}
ALTER TABLE com RENAME COLUMN v TO w;
ALTER TABLE com ADD COLUMN more INTEGER;
COMMENT ON COLUMN com.n IS 'number';
ALTER TABLE com ALTER n TYPE BIGINT;
ALTER TABLE com RENAME TO comt;
{shown}
ALTER TABLE comt DROP COLUMN n;
ALTER VIEW comv RENAME TO comvv;
COMMENT ON TABLE comt IS NULL;
COMMENT ON COLUMN comt.k IS NULL;
{shown}
COMMENT ON COLUMN comt.none IS 'x';
CREATE OR REPLACE TABLE comt (k INTEGER);
CREATE OR REPLACE VIEW comvv AS SELECT 1 AS v;
{shown}
DROP VIEW comvv;
DROP TABLE comt
""")
    assert "at most" in empty.refused("CREATE TABLE com (k INTEGER); COMMENT ON TABLE com IS '" + "x" * 70000 + "'")
    assert empty.rows("SELECT comment FROM duckdb_tables() WHERE table_name = 'com'") == [[None]]
    empty.sql("BEGIN; COMMENT ON TABLE com IS 'never'; ROLLBACK; BEGIN; COMMENT ON COLUMN com.k IS 'key';"
              "CREATE TABLE com2 (k INTEGER); COMMENT ON TABLE com2 IS 'two'; COMMIT")
    assert empty.rows("SELECT comment FROM duckdb_tables() WHERE table_name LIKE 'com%' ORDER BY table_name") == [[None], ["two"]]
    assert empty.rows("SELECT comment FROM duckdb_columns() WHERE table_name = 'com'") == [["key"]]
    empty.sql("DROP TABLE com; DROP TABLE com2; DROP INDEX IF EXISTS com")


# ---- definitions inside of a transaction ----

def test_pivots_without_values_where_rows_are_stored(empty):
    empty.sql("CREATE TABLE sold (k INTEGER, c VARCHAR, v INTEGER); INSERT INTO sold VALUES (1, 'a', 1), (1, 'b', 2), (2, 'a', 3);"
              "CREATE TABLE wide (k INTEGER, a INTEGER, b INTEGER)")
    for statement in ("INSERT INTO wide PIVOT sold ON c USING sum(v)", "INSERT INTO wide BY NAME PIVOT sold ON c USING sum(v)",
                      "WITH s AS (FROM sold) INSERT INTO wide PIVOT s ON c USING sum(v)",
                      "INSERT INTO wide (k, a, b) WITH s AS (FROM sold) PIVOT s ON c USING sum(v) -- all\n RETURNING a"):
        assert empty.post("/db/execute", {"sql": statement}).json()["result"]["rows_affected"] == 2, statement
        assert empty.rows("FROM wide ORDER BY k") == [[1, 1, 2], [2, 3, None]], statement
        empty.sql("TRUNCATE wide")
    for query in ("PIVOT sold ON c USING sum(v)", "FROM (PIVOT sold ON c USING sum(v))"):
        said = empty.refused(f"CREATE VIEW pv AS {query}")
        assert "cannot be used in views" in said and "ON c IN" in said and "CREATE TABLE" in said, said
    empty.sql("DROP TABLE sold; DROP TABLE wide")


def test_definitions_are_committed_together(empty, plain):
    for commit in ("COMMIT", "ROLLBACK"):
        both(empty, plain, """
CREATE TABLE before (k INTEGER, v VARCHAR) PARTITIONED BY (k);
INSERT INTO before SELECT i, 'v' || i FROM range(200) r(i)
""")
        script = f"""BEGIN;
CREATE SCHEMA tz;
CREATE TYPE tz.mood AS ENUM ('a', 'b');
CREATE TABLE tz.made (k INTEGER PRIMARY KEY, m tz.mood, n INTEGER DEFAULT 7) PARTITIONED BY (k);
INSERT INTO tz.made (k, m) SELECT k, 'b' FROM before WHERE k < 100;
UPDATE tz.made SET n = n + k WHERE k % 2 = 0;
DELETE FROM tz.made WHERE k >= 90;
CREATE MACRO tz.twice(x) AS x * 2;
CREATE VIEW tz.seen AS SELECT k, tz.twice(n) AS n, m FROM tz.made;
CREATE TABLE copied AS SELECT k, v FROM before WHERE k < 5;
DROP TABLE before;
SELECT count(*), sum(n), min(m) FROM tz.seen;
SELECT count(*), max(v) FROM copied;
SELECT a.k, b.v FROM tz.made a JOIN copied b USING (k) ORDER BY a.k;
{commit};
"""
        expected = []
        for sql in script.split(";\n"):
            if sql.strip():
                rows = plain.execute(re.sub(r"\s+PARTITIONED BY \([^)]*\)", "", sql)).fetchall()
                expected += [",".join(map(str, row)) for row in rows] if sql.startswith("SELECT") else []
        got = [line for line in empty.sql(script).splitlines() if line[:1].isdigit()]
        assert got == expected, commit
        both(empty, plain, """
SELECT count(*), sum(n), min(m) FROM tz.seen;
SELECT count(*), max(v) FROM copied;
SELECT count(*) FROM before;
INSERT INTO tz.made (k) VALUES (1);
DROP VIEW IF EXISTS tz.seen;
DROP TABLE IF EXISTS tz.made;
DROP MACRO IF EXISTS tz.twice;
DROP TYPE IF EXISTS tz.mood;
DROP SCHEMA IF EXISTS tz;
DROP TABLE IF EXISTS copied;
DROP TABLE IF EXISTS before
""" if commit == "COMMIT" else "SELECT count(*), max(v) FROM before")
        assert empty.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name IN ('made', 'copied')") == [[0]]
    empty.sql("DROP TABLE before")


def test_sequences_and_renamed_views_of_a_transaction(empty):
    empty.sql("CREATE TABLE base (k INTEGER); INSERT INTO base VALUES (3); CREATE VIEW older AS FROM base")
    made = ("CREATE SEQUENCE num START 5; CREATE TABLE counted (id BIGINT DEFAULT nextval('num'), k INTEGER); "
            "ALTER VIEW older RENAME TO newer")
    assert empty.sql(f"BEGIN; {made}; SELECT k FROM newer; ROLLBACK").splitlines()[-1:] == ["3"]
    assert empty.rows("SELECT count(*) FROM duckdb_sequences() WHERE sequence_name = 'num'") == [[0]]
    assert empty.rows("FROM older") == [[3]]
    for draws in ("INSERT INTO counted (k) VALUES (1)", "SELECT nextval('num')"):
        said = empty.refused(f"BEGIN; {made}; {draws}")
        assert "0A000" in said and "COMMIT first" in said, said
    empty.sql(f"BEGIN; {made}; COMMIT; INSERT INTO counted (k) VALUES (2), (3)")
    assert empty.rows("FROM counted ORDER BY id") == [[5, 2], [6, 3]]
    assert empty.rows("FROM newer") == [[3]] and "older" in empty.refused("FROM older")
    # Who takes the name meanwhile is first.
    tx = empty.post("/db/tx", {}).json()["result"]["id"]
    assert empty.post(f"/db/execute?tx={tx}", {"sql": "ALTER VIEW newer RENAME TO latest"}).status == 200
    empty.sql("CREATE VIEW latest AS SELECT 9 AS k")
    answer = empty.request("POST", f"/db/tx/{tx}/commit")
    assert (answer.status, answer.json()["error"]["sqlstate"]) == (409, "40001"), answer.body
    said = empty.refused("BEGIN; ALTER TABLE counted ADD COLUMN n INTEGER")
    assert "0A000" in said and "before BEGIN" in said, said
    empty.sql("DROP VIEW latest; DROP VIEW newer; DROP TABLE counted; DROP TABLE base; DROP SEQUENCE num")


def test_who_defines_the_same_first_wins(empty):
    first, second = (empty.request("POST", "/db/tx").json()["result"]["id"] for _ in range(2))

    def run(tx, sql):
        answer = empty.request("POST", f"/db/execute?tx={tx}", json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"})
        return answer.json().get("error", {}).get("sqlstate")

    assert run(first, "CREATE TABLE race (a INTEGER)") is None
    assert run(second, "CREATE TABLE race (b INTEGER)") is None
    assert run(first, "INSERT INTO race VALUES (1)") is None
    assert run(second, "INSERT INTO race VALUES (2)") is None
    assert empty.request("POST", f"/db/tx/{second}/commit").status == 200
    refused = empty.request("POST", f"/db/tx/{first}/commit")
    assert (refused.status, refused.json()["error"]["sqlstate"]) == (409, "40001")
    assert empty.rows("SELECT b FROM race") == [[2]]
    empty.sql("DROP TABLE race")


def test_what_a_definition_stands_on_must_be_there_at_commit(empty):
    """Others alter or drop it in between: 40001, and nothing is there."""
    def run(tx, sql):
        answer = empty.request("POST", f"/db/execute?tx={tx}", json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"})
        assert answer.status == 200, answer.body

    empty.sql("CREATE TABLE stands (a INTEGER, b INTEGER); CREATE TYPE stands_t AS ENUM ('a'); CREATE MACRO stands_m(x) AS x + 1")
    for mine, theirs in (("CREATE VIEW stands_v AS SELECT b FROM stands", "ALTER TABLE stands RENAME COLUMN b TO c"),
                         ("CREATE VIEW stands_v AS SELECT a FROM stands", "DROP TABLE stands"),
                         ("CREATE VIEW stands_v AS SELECT stands_m(1) AS a", "DROP MACRO stands_m"),
                         ("CREATE TYPE stands_v AS STRUCT(t stands_t)", "DROP TYPE stands_t")):
        tx = empty.request("POST", "/db/tx").json()["result"]["id"]
        run(tx, mine)
        run(tx, "CREATE TABLE stands_new (k INTEGER) PARTITIONED BY (k)")
        empty.sql(theirs)
        refused = empty.request("POST", f"/db/tx/{tx}/commit")
        assert (refused.status, refused.json()["error"]["sqlstate"]) == (409, "40001"), (mine, refused.body)
        assert "does not fit any more" in refused.json()["error"]["message"]
        assert empty.rows("SELECT (SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'stands_%') + "
                          "(SELECT count(*) FROM duckdb_views() WHERE view_name = 'stands_v') + "
                          "(SELECT count(*) FROM duckdb_types() WHERE type_name = 'stands_v')") == [[0]]


def test_a_drop_beside_a_commit_that_drops(empty):
    """Both want the lock of definitions and the shards; neither waits for the other for ever."""
    def drop():
        answers.append(empty.request("POST", "/db/execute", json.dumps({"sql": "DROP TABLE beside_b"}).encode(),
                                     {"Content-Type": "application/json"}))

    for _ in range(8):
        empty.sql("CREATE TABLE beside_a (k INTEGER) PARTITIONED BY (k); CREATE TABLE beside_b (k INTEGER) PARTITIONED BY (k)")
        answers, tx = [], empty.request("POST", "/db/tx").json()["result"]["id"]
        answers.append(empty.request("POST", f"/db/execute?tx={tx}", json.dumps({"sql": "DROP TABLE beside_a"}).encode(),
                                     {"Content-Type": "application/json"}))
        thread = threading.Thread(target=drop)
        thread.start()
        answers.append(empty.request("POST", f"/db/tx/{tx}/commit"))
        thread.join()
        assert [answer.status for answer in answers] == [200] * 3, [answer.body for answer in answers]


def test_a_table_that_goes_while_a_transaction_writes_to_it(empty):
    """The statement, or COMMIT, fails; the server stays."""
    empty.sql("CREATE TABLE goes (k UBIGINT) PARTITIONED BY (k)")
    tx = empty.request("POST", "/db/tx").json()["result"]["id"]
    slow = "INSERT INTO goes SELECT max(hash(i, j)) FROM range(20000) a(i), range(1000) b(j)"
    answers = []
    thread = threading.Thread(target=lambda: answers.append(empty.request(
        "POST", f"/db/execute?tx={tx}", json.dumps({"sql": slow}).encode(), {"Content-Type": "application/json"}, timeout=240)))
    thread.start()
    while not empty.rows("SELECT count(*) FROM cluster.queries WHERE sql LIKE 'INSERT INTO goes%'") == [[1]] and thread.is_alive():
        pass
    empty.sql("DROP TABLE goes")
    thread.join()
    if answers[0].status == 200:  # it was done before
        answers = [empty.request("POST", f"/db/tx/{tx}/commit")]
    assert answers[0].json()["error"]["sqlstate"] in ("40001", "42P01"), answers[0].body
    empty.request("POST", f"/db/tx/{tx}/rollback")
    assert empty.rows("SELECT 1") == [[1]]


def test_definitions_and_rows_of_other_tables_do_not_mix(empty):
    empty.sql("CREATE TABLE stays (a INTEGER)")
    assert "tables of its own" in empty.refused("BEGIN; CREATE TABLE fresh (a INTEGER); INSERT INTO stays VALUES (1)")
    assert "cannot define" in empty.refused("BEGIN; INSERT INTO stays VALUES (1); CREATE TABLE fresh (a INTEGER)")
    assert "READ ONLY" in empty.refused("BEGIN READ ONLY; CREATE TABLE fresh (a INTEGER)")
    assert empty.rows("SELECT count(*) FROM stays") == [[0]]
    assert empty.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'fresh%'") == [[0]]
    empty.sql("DROP TABLE stays")


@pytest.mark.parametrize("partition", ["", " PARTITIONED BY (k)"])
def test_constants_of_raw_bytes_find_rows(empty, plain, partition):
    """The optimizer's plan has BIT and BIGNUM constants as bytes that JSON cannot hold."""
    both(empty, plain, f"""
CREATE TABLE bt (k INTEGER, c BIT, n BIGNUM){partition};
INSERT INTO bt VALUES (1, '1', 5), (2, '01', 6), (3, '01000001', 7), (4, '111', 8), (5, '10', 5), (6, NULL, NULL);
SELECT k FROM bt WHERE c = '1' ORDER BY k;
SELECT k FROM bt WHERE c IN ('1', '01000001') OR n = '8'::BIGNUM ORDER BY k;
SELECT b.k, o.k FROM bt b, bt o WHERE b.c = o.c AND o.c <> '1'::BIT ORDER BY ALL;
SELECT n::VARCHAR, count(*), '1'::BIT::VARCHAR FROM bt GROUP BY n HAVING n > '5'::BIGNUM ORDER BY ALL;
DELETE FROM bt WHERE c = '1';
DELETE FROM bt WHERE c = '01000001'::BIT;
SELECT k FROM bt ORDER BY k;
UPDATE bt SET k = 20, c = '0111'::BIT WHERE n = '6'::BIGNUM;
UPDATE bt SET n = 9 WHERE c = bitstring('111', 3) AND k IN (SELECT o.k FROM bt o WHERE o.c = '111');
MERGE INTO bt USING (SELECT 5 AS k) q ON bt.k = q.k AND bt.c = '10'::BIT WHEN MATCHED THEN UPDATE SET n = '77'::BIGNUM;
DELETE FROM bt USING bt AS o WHERE bt.k = o.k AND o.c = '0111';
SELECT k, c::VARCHAR, n::VARCHAR FROM bt ORDER BY k;
DROP TABLE bt
""")


@pytest.mark.parametrize("path", ["?strategy=cut", "?strategy=local", "?strategy=gather", "?strategy=repartition", "?strategy=broadcast"])
def test_constants_of_raw_bytes_in_every_strategy(empty, path):
    empty.sql("CREATE TABLE bs (k INTEGER, c BIT, n BIGNUM) PARTITIONED BY (k);"
              "INSERT INTO bs SELECT i, CASE WHEN i % 2 = 0 THEN '1' ELSE '01' END::BIT, i % 5 FROM range(100) r(i)")
    assert empty.rows("SELECT count(*) FROM bs WHERE c = '1' AND n <> '3'::BIGNUM", path) == [[40]]
    assert empty.rows("SELECT count(*) FROM bs a JOIN bs b ON a.n = b.n AND a.c = '1'::BIT AND b.k < 10", path) == [[100]]
    empty.sql("DROP TABLE bs")
