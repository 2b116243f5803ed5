"""ALTER: what it makes of tables is what plain DuckDB makes of them, whatever dies in between."""
import json

import duckdb
import pytest

# Each on a table of its own, one after the other; the rows are compared behind each.
CHANGES = [
    ["ADD COLUMN c INTEGER", "ADD COLUMN d INTEGER DEFAULT 5", "ADD e VARCHAR DEFAULT 'it''s'", "ADD COLUMN IF NOT EXISTS d VARCHAR",
     "ADD COLUMN l INTEGER[] DEFAULT [1, NULL]", "DROP COLUMN d", "DROP e", "DROP COLUMN IF EXISTS nothing"],
    ["RENAME COLUMN v TO w", "RENAME w TO \"Odd name\"", "RENAME k TO key", "ADD COLUMN k INTEGER DEFAULT 7", "RENAME k TO x",
     "RENAME key TO k", "RENAME x TO key"],
    ["ALTER COLUMN n TYPE VARCHAR", "ALTER v SET DATA TYPE VARCHAR USING v || '!' || k",
     "ALTER n TYPE DECIMAL(12, 3)", "ALTER n SET TYPE BIGINT",
     "ALTER COLUMN n TYPE INTEGER USING n * 2", "ALTER k TYPE HUGEINT"],
    ["ALTER COLUMN n SET DEFAULT 9", "ALTER n SET NOT NULL", "ALTER v SET DEFAULT upper('x')", "ALTER n DROP NOT NULL",
     "ALTER COLUMN n DROP DEFAULT"],
    ["ADD COLUMN s.z INTEGER DEFAULT 3", "RENAME COLUMN s.x TO first", "DROP COLUMN s.y",
     "ALTER s TYPE STRUCT(first BIGINT, more VARCHAR)"],
    ["ADD PRIMARY KEY (k)", "ADD COLUMN c INTEGER", "RENAME k TO id", "DROP COLUMN v"],
]
WRONG = [
    "ADD COLUMN v INTEGER", "ADD COLUMN c NO_SUCH_TYPE", "ADD COLUMN c INTEGER NOT NULL", "DROP COLUMN nothing",
    "RENAME COLUMN nothing TO x",
    "RENAME COLUMN n TO v", "ALTER nothing SET NOT NULL", "ALTER n TYPE INTEGER[]", "ALTER v TYPE INTEGER",
    "ALTER n TYPE VARCHAR USING nothing", "ALTER n TYPE VARCHAR USING (SELECT 'x')", "ADD UNIQUE (n)", "ADD CHECK (n > 0)",
    "ALTER b SET NOT NULL", "SET SCHEMA other", "ADD COLUMN c INTEGER, DROP COLUMN n", "ALTER n",
]
COLUMNS = "(k INTEGER, v VARCHAR, n INTEGER, s STRUCT(x INTEGER, y VARCHAR), b INTEGER)"
ROWS = "SELECT i, 'v' || i, i % 7, {'x': i, 'y': 'y' || i}, nullif(i % 3, 0) FROM range(500) r(i)"


def execute(cluster, *statements, status=200):
    """By HTTP, which starts no shell; the body of the answer."""
    answer = cluster.request("POST", "/db/execute", json.dumps({"statements": statements}).encode(), {"Content-Type": "application/json"})
    assert answer.status == status, (statements, answer.body)
    return answer.json()


def refused(cluster, sql):
    answer = cluster.request("POST", "/db/execute", json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"})
    assert answer.status >= 400, (sql, answer.body)
    error = answer.json()["error"]
    return f"{error['sqlstate']}: {error['message']} {error.get('hint', '')}"


def both(cluster, plain, *statements, partitioned=""):
    for sql in statements:
        plain.execute(sql)
    execute(cluster, *(sql + partitioned for sql in statements))


def compare(cluster, plain, table, why):
    """Columns and rows; without pytest's differences, which take minutes for so many."""
    described = [list(row[:3]) for row in plain.execute(f"DESCRIBE {table}").fetchall()]
    assert [row[:3] for row in cluster.rows(f"DESCRIBE {table}")] == described, why
    sql = "SELECT " + ", ".join(f'"{name}"::VARCHAR' for name, *_ in described) + f" FROM {table}"
    rows, expected = sorted(map(str, cluster.rows(sql))), sorted(str(list(row)) for row in plain.execute(sql).fetchall())
    if rows != expected:
        pytest.fail(f"{why}: {len(rows)} rows for {len(expected)}; {[pair for pair in zip(rows, expected) if pair[0] != pair[1]][:1]}")


@pytest.mark.parametrize("partitioned", ["", " PARTITIONED BY (k)"])
@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_columns_change_as_in_duckdb(empty, number, partitioned):
    plain = duckdb.connect()
    both(empty, plain, f"CREATE TABLE ta {COLUMNS}", partitioned=partitioned)
    both(empty, plain, f"INSERT INTO ta {ROWS}")
    try:
        for change in CHANGES[number]:
            both(empty, plain, f"ALTER TABLE ta {change}")
            first = plain.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 'ta' ORDER BY column_index").fetchone()[0]
            adds = f'INSERT INTO ta ("{first}") VALUES ({1000 + len(change)})'
            both(empty, plain, "DELETE FROM ta WHERE k = 1" if "NOT NULL" in change else adds,
                 f'UPDATE ta SET "{first}" = "{first}" WHERE "{first}" = 3')
            compare(empty, plain, "ta", change)
    finally:
        execute(empty, "DROP TABLE ta")


@pytest.mark.parametrize("partitioned", ["", " PARTITIONED BY (k)"])
def test_what_duckdb_refuses_is_refused_in_its_words(empty, partitioned):
    plain = duckdb.connect()
    both(empty, plain, f"CREATE TABLE tw {COLUMNS}", partitioned=partitioned)
    both(empty, plain, f"INSERT INTO tw {ROWS}")
    for change in WRONG:
        with pytest.raises(duckdb.Error) as error:
            plain.execute(f"ALTER TABLE tw {change}")
        says = str(error.value).split("\n")[0].split("Error: ", 1)[1].rstrip("!").lower()
        says = says.split(" string '")[0]  # of several rows that are wrong, any
        said = refused(empty, f"ALTER TABLE tw {change}")
        assert says[:60] in said.lower(), (change, says, said)
    assert refused(empty, "ALTER TABLE tw ADD PRIMARY KEY (b, k)").startswith("23502")
    execute(empty, "INSERT INTO tw (k) VALUES (0)", "DELETE FROM tw WHERE v IS NULL AND k > 0")
    assert refused(empty, "ALTER TABLE tw ADD PRIMARY KEY (k)").startswith("23505")
    execute(empty, "DELETE FROM tw WHERE v IS NULL")
    compare(empty, plain, "tw", "refused")
    execute(empty, "DROP TABLE tw")


def test_a_renamed_table_keeps_its_rows_when_its_name_goes(empty):
    empty.sql("CREATE TABLE first AS SELECT 1 AS a; CREATE TABLE second AS SELECT 2 AS a")
    empty.sql("ALTER TABLE first RENAME TO kept; ALTER TABLE second RENAME TO first; CREATE OR REPLACE TABLE first (b INTEGER)")
    assert empty.rows("SELECT a, (SELECT count(*) FROM first) FROM kept") == [[1, 0]]
    empty.sql("DROP TABLE first; DROP TABLE kept")


def test_narrow_rows_become_wide(empty):
    """More than an entry, or memory for a chunk of them, would hold."""
    empty.sql("CREATE TABLE narrow AS SELECT i FROM range(130000) r(i)")
    empty.sql("ALTER TABLE narrow ADD COLUMN wide VARCHAR DEFAULT repeat('x', 500)")
    assert empty.rows("SELECT count(*), sum(length(wide)) FROM narrow") == [[130000, "65000000"]]
    empty.sql("DROP TABLE narrow")
