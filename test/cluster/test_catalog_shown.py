"""What DuckDB tells of a catalog (DESCRIBE, duckdb_*(), information_schema, pg_catalog), told as DuckDB itself tells it."""
import decimal
import json
import re

import duckdb
import pytest

from test_transactions import Channel

SCHEMA = """
CREATE SCHEMA s;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad');
CREATE SEQUENCE ids START 5 INCREMENT 2;
CREATE TABLE t (k INTEGER PRIMARY KEY, v VARCHAR NOT NULL, w INTEGER DEFAULT 5 CHECK (w > 3) UNIQUE, m mood DEFAULT 'ok',
    UNIQUE (k, v), CHECK (k < w));
CREATE TABLE s.t (a INTEGER NOT NULL, b INTEGER, c DECIMAL(9, 2), UNIQUE (b), CHECK (a > 0), PRIMARY KEY (a, c));
CREATE TABLE "Odd one" ("select" BIGINT DEFAULT nextval('ids') PRIMARY KEY, "it's" VARCHAR[] DEFAULT ['a', 'b'],
    "a b" STRUCT(x INTEGER, y VARCHAR), z VARCHAR, CHECK ("select" <> 7 OR "it's"[1] = 'x,y (z)'),
    UNIQUE ("select", z)) PARTITIONED BY ("select");
CREATE TABLE bare (a INTEGER, d TIMESTAMP DEFAULT now(), e DATE DEFAULT DATE '2024-01-02');
CREATE TABLE checked (a INTEGER CHECK (a > 1), b INTEGER NOT NULL, c VARCHAR DEFAULT 'x' || 'y', CHECK (a < b));
CREATE VIEW seen AS SELECT k, upper(m::VARCHAR) AS u FROM t WHERE w > 4;
CREATE VIEW s.named (one, two) AS SELECT a, c FROM s.t;
CREATE MACRO plus(a, b := 5) AS a + b;
CREATE MACRO above(n) AS TABLE SELECT * FROM t WHERE k > n;
COMMENT ON TABLE t IS 'a table';
COMMENT ON COLUMN t.v IS 'a column';
COMMENT ON VIEW seen IS 'a view'
"""
ROWS = """
INSERT INTO t (k, v, w) VALUES (1, 'a', 4), (2, 'b', 7);
INSERT INTO s.t VALUES (1, 2, 3.5);
INSERT INTO "Odd one" ("it's") VALUES (['x'])
"""
ALTERED = """
ALTER TABLE t RENAME COLUMN v TO value;
ALTER TABLE t ADD COLUMN extra DOUBLE DEFAULT 1.5;
ALTER TABLE bare ADD PRIMARY KEY (a);
ALTER TABLE bare ALTER e SET DEFAULT DATE '2025-01-01';
ALTER TABLE checked ALTER b DROP NOT NULL;
ALTER TABLE s.t RENAME TO renamed;
ALTER VIEW seen RENAME TO looked;
DROP VIEW s.named;
DROP TABLE "Odd one"
"""
DEFINED = """
CREATE TABLE mine (x INTEGER, y VARCHAR UNIQUE, PRIMARY KEY (y, x));
DROP TABLE checked;
CREATE VIEW of_mine AS SELECT * FROM mine
"""
# Their keys are in the samples.
WRITTEN = """
INSERT INTO s.renamed VALUES (2, 3, 4.5), (3, 4, 5.5) RETURNING s.renamed.a, "merganser".s."renamed".b + 1 AS n, renamed.c;
UPDATE t SET w = w + 1 WHERE k = 2 RETURNING k, main.t.w;
INSERT INTO t (k, value, w) VALUES (1, 'new', 40) ON CONFLICT (k) DO UPDATE SET value = excluded.value RETURNING t.*;
MERGE INTO t USING (VALUES (2, 20), (3, 30)) q(k, w) ON t.k = q.k WHEN MATCHED THEN UPDATE SET w = q.w
    WHEN NOT MATCHED THEN INSERT (k, value, w) VALUES (q.k, 'm', q.w) RETURNING merge_action, k, w;
DELETE FROM s.renamed WHERE a = 1 RETURNING s.renamed.c
"""

# Left out: oids; sizes, which are those of samples; types and names of what we keep for ourselves.
USERS = "schema_name <> 'cluster'"
ASKED = [
    "SELECT * EXCLUDE (database_oid, schema_oid, table_oid, estimated_size) FROM duckdb_tables() WHERE " + USERS,
    "SELECT * EXCLUDE (database_oid, schema_oid, table_oid) FROM duckdb_columns() WHERE NOT internal AND " + USERS,
    "SELECT * EXCLUDE (database_oid, schema_oid, table_oid, constraint_index) FROM duckdb_constraints() WHERE " + USERS,
    "SELECT table_name, constraint_name, constraint_index - min(constraint_index) OVER (PARTITION BY schema_name, table_name) AS i "
    "FROM duckdb_constraints() WHERE " + USERS,
    "SELECT * EXCLUDE (database_oid, schema_oid, view_oid) FROM duckdb_views() WHERE NOT internal",
    "SELECT * EXCLUDE (database_oid, schema_oid, type_oid) FROM duckdb_types() WHERE NOT internal",
    "SELECT * EXCLUDE (database_oid, schema_oid, sequence_oid) FROM duckdb_sequences()",
    "SELECT * EXCLUDE (database_oid, function_oid) FROM duckdb_functions() WHERE NOT internal AND schema_name IN ('main', 's')",
    "SELECT * EXCLUDE (oid, database_oid) FROM duckdb_schemas() WHERE NOT internal AND " + USERS,
    "SELECT * EXCLUDE (database_oid, path) FROM duckdb_databases() WHERE database_name = 'merganser'",
    "SELECT * FROM duckdb_indexes()",
    "SELECT deptype, count(*) AS n FROM duckdb_dependencies() GROUP BY ALL",
    "FROM information_schema.schemata WHERE catalog_name = 'merganser' AND " + USERS,
    *[f"FROM information_schema.{name} WHERE table_schema <> 'cluster' AND table_catalog = 'merganser'"
      for name in ("tables", "columns", "table_constraints", "key_column_usage", "constraint_column_usage", "views")],
    "FROM information_schema.referential_constraints",
    "SELECT schemaname, tablename, hasindexes FROM pg_catalog.pg_tables WHERE schemaname <> 'cluster'",
    "FROM pg_catalog.pg_views WHERE schemaname IN ('main', 's') AND viewname NOT LIKE 'duckdb_%' AND viewname NOT LIKE 'pragma_%' "
    "AND viewname NOT LIKE 'sqlite_%'",
    "FROM pg_catalog.pg_sequences",
    "SELECT relname, relkind, relnatts, relchecks, relhasindex FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
    "ON c.relnamespace = n.oid WHERE n.nspname IN ('main', 's')",
    "SELECT conname, contype, conkey FROM pg_catalog.pg_constraint",
    "SELECT attname, attnotnull, attnum, atthasdef FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON a.attrelid = c.oid "
    "JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid WHERE n.nspname IN ('main', 's')",
    "SELECT enumlabel, enumsortorder FROM pg_catalog.pg_enum",
    "SELECT description, objsubid FROM pg_catalog.pg_description WHERE description IS NOT NULL",
    "FROM pg_catalog.pg_indexes",
    "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql NOT LIKE '%\"cluster\".%'",
    "FROM (SHOW TABLES)",
    "FROM (SHOW ALL TABLES) WHERE schema <> 'cluster'",
]
OF_TABLE = ["FROM (DESCRIBE {0})", "FROM pragma_table_info('{0}')", "FROM pragma_show('{0}')"]


def asked(tables, restarted):
    """A sequence goes on from what was reserved."""
    of_all = [query for query in ASKED if not (restarted and "_sequences" in query)]
    return of_all + [query.format(table) for table in tables for query in OF_TABLE]


def as_json(query, ordered=True):
    """Each answer as one text, so that types come through whichever door."""
    return f"SELECT coalesce(to_json(list(x{' ORDER BY x::VARCHAR' if ordered else ''})), '[]')::VARCHAR FROM ({query}) x"


def script(text):
    return [part.strip() for part in text.split(";\n") if part.strip()]


def bare(sql):
    return re.sub(r"\s+PARTITIONED BY \([^)]*\)", "", sql)


def differences(here, plain, tables, restarted=False):
    """Where we say something else than DuckDB: (question, only we, only DuckDB)."""
    found = []
    for query in asked(tables, restarted):
        ordered = not query.startswith(tuple(form[:12] for form in OF_TABLE))
        expected = json.loads(plain.execute(as_json(query, ordered)).fetchall()[0][0])
        told = json.loads(here(as_json(query, ordered)))
        if told != expected:
            found.append((query, [row for row in told if row not in expected], [row for row in expected if row not in told]))
    return found


def shown(value):
    """As JSON of ours has it."""
    return str(value) if isinstance(value, decimal.Decimal) else value


@pytest.fixture
def plain():
    with duckdb.connect() as db:
        db.execute("ATTACH ':memory:' AS merganser; USE merganser; SET TimeZone = 'UTC'")
        yield db


def test_the_catalog_is_told_as_duckdb_tells_it(new_cluster, plain):
    cluster = new_cluster(scale=0)
    cluster.start_server()

    def both(text):
        for sql in script(text):
            answer = cluster.post("/db/execute", {"sql": sql})
            assert answer.status == 200, (sql, answer.body)
            plain.execute(bare(sql))

    def here(sql):
        return cluster.rows(sql)[0][0]

    before = ['t', 's.t', '"Odd one"', 'bare', 'checked', 'seen']
    after = ['t', 's.renamed', 'bare', 'checked', 'looked']
    both(SCHEMA)
    assert differences(here, plain, before) == []
    both(ROWS)
    assert differences(here, plain, before) == []
    both(ALTERED)
    assert differences(here, plain, after) == []
    with Channel(cluster) as channel:
        for sql in ["BEGIN", *script(DEFINED)]:
            assert channel.query(sql)[-1]["type"] == "done", sql
            plain.execute(sql)
        inside = [name for name in after if name != "checked"] + ["mine", "of_mine"]
        assert differences(lambda sql: channel.column(sql)[0], plain, inside) == []
        assert channel.query("ROLLBACK")[-1]["type"] == "done"
        plain.execute("ROLLBACK")
    assert differences(here, plain, after) == []
    cluster.stop()
    cluster.start_server()
    assert differences(here, plain, after, restarted=True) == []
    for sql in script(WRITTEN):
        answer = cluster.post("/db/execute", {"sql": sql})
        assert answer.status == 200, (sql, answer.body)
        told = answer.json()["result"]["values"]
        expected = [[shown(value) for value in row] for row in plain.execute(sql).fetchall()]
        assert sorted(map(str, told)) == sorted(map(str, expected)), sql
    for table in ("t", "s.renamed"):
        assert here(as_json(f"FROM {table}")) == plain.execute(as_json(f"FROM {table}")).fetchone()[0]


def test_samples_of_keyed_tables_are_bounded(new_cluster):
    """An index that holds rows takes a megabyte of the planning database's few; past 64 tables have keys there, and no rows."""
    cluster = new_cluster(scale=0)
    cluster.start_server()
    made = "CREATE TABLE k{0} (k INTEGER PRIMARY KEY, u VARCHAR UNIQUE); INSERT INTO k{0} VALUES (1, 'a')"
    cluster.sql(";".join(made.format(i) for i in range(40)))
    cluster.stop()
    cluster.start_server()
    keys = "FROM duckdb_constraints() WHERE schema_name = 'main' AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')"
    assert cluster.rows("SELECT count(*) " + keys) == [[80]]
    sampled = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' AND estimated_size > 0"
    assert cluster.rows(f"SELECT count(*) FROM ({sampled})") == [[32]]
    bare = cluster.rows(f"SELECT table_name {keys} AND table_name NOT IN ({sampled}) LIMIT 1")[0][0]
    assert cluster.rows(f"SELECT * FROM {bare} a JOIN {bare} b USING (k) WHERE a.u = 'a'") == [[1, "a", "a"]]
    assert "duplicate" in cluster.refused(f"INSERT INTO {bare} VALUES (1, 'b')").lower()
    cluster.sql(f"DROP TABLE {bare}; INSERT INTO k0 VALUES (2, 'b')")


def test_defaults_name_what_is_in_the_schema_of_their_table(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    for sql in ('CREATE SCHEMA "s,1"', 'CREATE SEQUENCE "s,1".q2', 'CREATE SEQUENCE q1 START 100',
                "CREATE TABLE \"s,1\".t (id BIGINT DEFAULT nextval('q2') PRIMARY KEY, n BIGINT DEFAULT nextval('q1'), v INTEGER)",
                'INSERT INTO "s,1".t (v) VALUES (1), (2)', 'INSERT INTO "s,1".t (id, v) VALUES (1, 9) ON CONFLICT DO NOTHING',
                'UPDATE "s,1".t SET v = v + 1'):
        answer = cluster.post("/db/execute", {"sql": sql})
        assert answer.status == 200, (sql, answer.body)
    assert cluster.rows('SELECT id, v FROM "s,1".t ORDER BY id') == [[1, 2], [2, 3]]
    assert cluster.rows("SELECT current_schema(), count(*) FROM duckdb_tables() WHERE table_name = 't'") == [["main", 1]]
