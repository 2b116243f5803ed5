"""Keys and values in SQL: kv('namespace') beside tables, INSERT INTO kv.namespace, at each of three servers."""
import base64
import json
import threading
import time

import pytest

from conftest import Cluster
from servers_kit import Servers, execute, query, until

ROWS = 3000


@pytest.fixture(scope="module")
def three():
    cluster = Cluster(scale=0, shards=3, kv_shards=4)
    servers = Servers(lambda **_: cluster)
    try:
        servers.start_all()
        servers.execute("CREATE TABLE customer (id INTEGER, name VARCHAR, city VARCHAR) PARTITIONED BY (id)")
        servers.execute(f"INSERT INTO customer SELECT i, 'name ' || i, 'city ' || i % 7 FROM range({ROWS}) r(i)")
        yield servers
    finally:
        cluster.remove()


def put(servers, name, path, body, **headers):
    answer = servers.request(name, "PUT", "/kv/" + path, body, headers={key.replace("_", "-"): value for key, value in headers.items()})
    assert answer.status == 200, answer.body
    return answer.json()["version"]


def get(servers, name, path):
    answer = servers.request(name, "GET", "/kv/" + path)
    return answer.body if answer.status == 200 else answer.status


def refused(servers, sql, path="/db/execute", name="server-2", headers=(), **more):
    answer = servers.post(name, path, {"sql": sql, **more}, headers)
    assert answer.status >= 400, (sql, answer.body)
    error = answer.json()["error"]
    assert error["message"], sql
    return error


def keys_of(servers, name, space):
    return query(servers, name, f"SELECT count(*) FROM kv('{space}')")[0][0]


# ---- reading ----


def test_what_was_put_is_read_at_another_server_at_once(three):
    for i in range(40):
        put(three, three.names[i % 3], f"read/k{i:02}", b"value %d" % i, Content_Type="text/plain")
        other = three.names[(i + 1) % 3]
        assert query(three, other, f"SELECT value, content_type, encoding, expires FROM kv('read') WHERE key = 'k{i:02}'") == \
            [[f"value {i}", "text/plain", None, None]]
        assert query(three, other, "SELECT count(*) FROM kv('read')") == [[i + 1]]
    expected = [[f"k{i:02}", f"value {i}"] for i in range(40)]
    for name in three.names:
        assert query(three, name, "SELECT key, value FROM kv('read') ORDER BY key") == expected
        assert query(three, name, "SELECT key, value FROM kv('read') WHERE key BETWEEN 'k10' AND 'k12'") == expected[10:13]
        assert query(three, name, "SELECT key, value FROM kv('read') WHERE key LIKE 'k3%' ORDER BY 1") == expected[30:]
    version = put(three, "server-1", "read/k00", b"new")
    row = query(three, "server-3", "SELECT version, created < changed, value FROM kv('read') WHERE key = 'k00'")
    assert row == [[version, True, "new"]]


def test_a_namespace_that_nobody_has_made_is_empty(three):
    for name in three.names:
        assert query(three, name, "SELECT * FROM kv('nobody')") == []
        assert query(three, name, "SELECT count(*) FROM kv('nobody')") == [[0]]


def test_keys_joined_with_a_sharded_table(three):
    ratings = {f"name {i}": i % 11 for i in range(0, ROWS, 3)}
    ratings["nobody"] = 5
    values = ", ".join(f"('{key}', '{value}')" for key, value in ratings.items())
    execute(three, "server-2", "INSERT INTO kv.ratings (key, value) VALUES " + values)
    names = {f"name {i}": f"city {i % 7}" for i in range(ROWS)}
    expected = {}
    for key, value in ratings.items():
        if key in names:
            count, total = expected.get(names[key], (0, 0))
            expected[names[key]] = count + 1, total + value
    rows = [[city, count, total] for city, (count, total) in sorted(expected.items())]
    sql = ("SELECT city, count(*), sum(r.value::INTEGER)::INTEGER FROM customer JOIN kv('ratings') r ON r.key = name "
           "GROUP BY city ORDER BY city")
    for name in three.names:
        assert query(three, name, sql) == rows, name
        assert query(three, name, "SELECT key FROM kv('ratings') WHERE key NOT IN (SELECT name FROM customer)") == [["nobody"]]
        scalar = "SELECT name, (SELECT value FROM kv('ratings') WHERE key = name) FROM customer WHERE id IN (3, 4) ORDER BY id"
        assert query(three, name, scalar) == [["name 3", "3"], ["name 4", None]]
        assert query(three, name, "WITH k AS (FROM kv('ratings')) SELECT count(*) FROM k AS a JOIN k AS b USING (key)") == [[len(ratings)]]
    for path in ("?distributed=false", "?strategy=cut", "?strategy=gather"):
        assert query(three, "server-1", sql, "/db/query" + path) == rows, path
    plan = "\n".join(row[0] for row in query(three, "server-3", "EXPLAIN " + sql))
    assert "local" in plan and "keys and values" in plan and "kv('ratings')" in plan
    analyzed = "\n".join(row[0] for row in query(three, "server-3", "EXPLAIN ANALYZE " + sql))
    assert f"total: {len(rows)} rows" in analyzed
    assert "merganser_end" in "\n".join(row[0] for row in query(three, "server-1", "EXPLAIN FROM kv('ratings') WHERE key = 'name 3'"))


def test_workers_take_no_part_in_what_reads_keys(three):
    three.cluster.start("w0", "worker", "--server", f"localhost:{three.ports[three.coordinator()]}", "--tls-roots", three.cluster.ca,
                        "--password", "united", "--node-id", "w0", "--cache-dir", three.cluster.dir / "w0")
    ready = "SELECT count(*) FROM cluster.nodes WHERE role = 'worker' AND state = 'ready'"
    until("the worker", lambda: three.rows(three.coordinator(), ready) == [[1]])
    put(three, "server-1", "workers/name%207", b"7")
    for name in three.names:
        for path in ("/db/query", "/db/query?strategy=cut", "/db/query?strategy=repartition"):
            assert query(three, name, "SELECT id, value FROM customer JOIN kv('workers') ON key = name", path) == [[7, "7"]]
    three.cluster.processes["w0"].terminate()
    three.cluster.processes["w0"].wait(30)


def test_what_has_expired_is_not_seen(three):
    put(three, "server-1", "expiring/gone?ttl=0.3", b"1")
    put(three, "server-1", "expiring/later?ttl=600", b"2")
    sql = "SELECT key, expires > now(), expires < now() + INTERVAL 11 MINUTE FROM kv('expiring') WHERE key = 'later'"
    assert query(three, "server-2", sql) == [["later", True, True]]
    for name in three.names:
        until("the key to go", lambda one=name: query(three, one, "SELECT key FROM kv('expiring')") == [["later"]])


def test_keys_and_values_that_are_no_text(three):
    key, value = bytes([0, 255, 10]), bytes(range(256))
    put(three, "server-1", f"binary/{key.hex()}?encoding=hex", value, Content_Type="image/png")
    put(three, "server-2", "binary/text", "größe".encode())
    found = query(three, "server-3", "SELECT key, value FROM kv('binary', binary := true) ORDER BY key")
    assert [[base64.b64decode(cell) for cell in row] for row in found] == [[key, value], [b"text", "größe".encode()]]
    assert query(three, "server-3", "SELECT hex(key) FROM kv('binary', binary := true) WHERE key = unhex('00ff0a')") == [["00FF0A"]]
    assert query(three, "server-3", "SELECT decode(value) FROM kv('binary', binary := true) WHERE key = encode('text')") == [["größe"]]
    assert query(three, "server-3", "SELECT value FROM kv('binary') WHERE key = 'text'") == [["größe"]]  # the other one is not read
    assert query(three, "server-3", "SELECT count(*) FROM kv('binary')") == [[2]]
    error = refused(three, "SELECT key FROM kv('binary')", "/db/query")
    assert "00ff0a" in error["message"] and "binary := true" in error["hint"] and error["sqlstate"] == "22000"
    execute(three, "server-1", "INSERT INTO kv.binary (key, value) SELECT unhex('fe'), unhex('00fd')")
    assert get(three, "server-2", "binary/fe?encoding=hex") == b"\x00\xfd"
    # A condition that does not look at keys deletes them whatever they are; one that does cannot tell what is no text.
    assert execute(three, "server-2", "DELETE FROM kv.binary WHERE content_type = 'image/png'")["rows_affected"] == 1
    put(three, "server-1", f"binary/{key.hex()}?encoding=hex", value)
    assert execute(three, "server-2", "DELETE FROM kv.binary WHERE key = 'text'")["rows_affected"] == 1
    error = refused(three, "DELETE FROM kv.binary WHERE key <> 'text'")
    assert error["sqlstate"] == "22000" and key.hex() in error["message"], error
    assert execute(three, "server-3", "DELETE FROM kv.binary WHERE key_bytes = unhex('00ff0a')")["rows_affected"] == 1
    assert execute(three, "server-1", "DELETE FROM kv.binary")["rows_affected"] == 1
    assert query(three, "server-3", "SELECT count(*) FROM kv('binary')") == [[0]]


def test_parameters(three):
    put(three, "server-1", "params/it's", b"1")
    answer = three.post("server-2", "/db/query", {"sql": "SELECT value FROM kv(?) WHERE key = ?", "params": ["params", "it's"]})
    assert answer.json()["result"]["values"] == [["1"]], answer.body
    answer = three.post("server-2", "/db/execute", {"sql": "INSERT INTO kv.params (key, value) VALUES ($1, $2)", "params": ["two", "zwei"]})
    assert answer.json()["result"]["rows_affected"] == 1, answer.body
    assert get(three, "server-3", "params/two") == b"zwei"


def test_views_macros_and_tables_made_of_keys(three):
    execute(three, "server-1", "INSERT INTO kv.made (key, value) SELECT 'k' || i, i FROM range(100) r(i)")
    three.execute("CREATE VIEW made AS SELECT key, value::INTEGER AS value FROM kv('made')")
    three.execute("CREATE MACRO space(name) AS TABLE SELECT key FROM kv(name)")
    three.execute("CREATE TABLE copied PARTITIONED BY (key) AS SELECT key, value FROM kv('made')")
    three.execute("INSERT INTO copied SELECT 'again ' || key, value FROM kv('made') WHERE key < 'k5'")
    below = sum(f"k{i}" < "k5" for i in range(100))
    for name in three.names:
        assert query(three, name, "SELECT sum(value)::INTEGER FROM made WHERE key LIKE 'k1%'") == [[1 + sum(range(10, 20))]]
        assert query(three, name, "SELECT count(*) FROM space('made')") == [[100]]
        assert query(three, name, "SELECT count(*) FROM copied") == [[100 + below]]
        assert query(three, name, "SELECT keys FROM cluster.kv_namespaces WHERE name IN (SELECT 'made' FROM kv('made'))") == [[100]]


def test_a_transaction_reads_keys_as_they_are_now(three):
    sql = "SELECT count(*) FROM customer, kv('intx')"
    put(three, "server-1", "intx/a", b"1")
    tx = three.request("server-2", "POST", "/db/tx", b"").json()["result"]["id"]
    assert query(three, "server-2", sql, f"/db/query?tx={tx}") == [[ROWS]]
    put(three, "server-1", "intx/b", b"2")
    assert query(three, "server-2", sql, f"/db/query?tx={tx}") == [[2 * ROWS]]
    error = refused(three, "INSERT INTO kv.intx (key, value) VALUES ('c', 'd')", f"/db/execute?tx={tx}")
    assert error["sqlstate"] == "0A000" and "COMMIT" in error["hint"]
    assert keys_of(three, "server-1", "intx") == 2


# ---- writing ----


def test_a_table_is_put_as_keys(three):
    for name in three.names:
        result = execute(three, name, f"INSERT INTO kv.\"from-{name}\" (key, value, content_type) "
                                      "SELECT id, name || ' of ' || city, 'text/plain' FROM customer")
        assert result["rows_affected"] == ROWS
        for other in three.others(name):
            assert keys_of(three, other, f"from-{name}") == ROWS
            assert get(three, other, f"from-{name}/17") == b"name 17 of city 3"
        same = (f"SELECT count(*) FROM customer JOIN kv('from-{name}') ON key = id::VARCHAR AND value = name || ' of ' || city "
                "AND content_type = 'text/plain'")
        assert query(three, name, same) == [[ROWS]]


def test_an_insert_is_a_put(three):
    first = put(three, "server-1", "upsert/a?ttl=600", b"1")
    assert execute(three, "server-2", "INSERT INTO kv.upsert (key, value) VALUES ('a', '2'), ('b', '3'), ('a', '4')")["rows_affected"] == 3
    rows = query(three, "server-3", "SELECT key, value, version > {}, expires FROM kv('upsert') ORDER BY key".format(first))
    assert [row[:2] + row[3:] for row in rows] == [["a", "4", None], ["b", "3", None]] and rows[0][2] is True
    execute(three, "server-2", "INSERT INTO kv.upsert BY NAME SELECT 'größe' AS value, 'c' AS key, 'br' AS encoding")
    assert get(three, "server-1", "upsert/c").decode() == "größe"
    assert query(three, "server-1", "SELECT encoding FROM kv('upsert') WHERE key = 'c'") == [["br"]]
    execute(three, "server-2", "WITH w AS (SELECT 'd' AS k) INSERT INTO kv.upsert SELECT k, 7 FROM w")
    assert get(three, "server-1", "upsert/d") == b"7"
    assert execute(three, "server-2", "INSERT INTO kv.upsert SELECT key, value FROM kv('nobody')")["rows_affected"] == 0
    assert execute(three, "server-2", "INSERT INTO kv.copied SELECT key, value FROM kv('upsert', binary := true)")["rows_affected"] == 4
    assert keys_of(three, "server-1", "copied") == 4


@pytest.mark.parametrize("how", ["summarize=false", "distributed=force"])
def test_what_a_session_likes_to_see_of_reads_is_nothing_to_writes(three, how):
    def run(sql):
        answer = three.post("server-2", f"/db/execute?{how}", {"sql": sql})
        assert answer.status == 200, answer.body
        return answer.json()["result"]["rows_affected"]

    run("INSERT INTO kv.plain VALUES ('a', 'b')")
    run("INSERT INTO kv.plain SELECT city, count(*) FROM customer GROUP BY city")
    expected = query(three, "server-1", "SELECT city, count(*)::VARCHAR FROM customer GROUP BY city ORDER BY city")
    assert query(three, "server-1", "SELECT key, value FROM kv('plain') ORDER BY key") == [["a", "b"], *expected]
    assert run("DELETE FROM kv.plain WHERE key = 'a'") == 1 and run("DELETE FROM kv.plain") == len(expected)


def test_times_of_keys_that_are_inserted(three):
    execute(three, "server-1", "INSERT INTO kv.times (key, value, ttl) VALUES ('short', '', 0.4), ('long', '', 1000), ('good', '', NULL)")
    execute(three, "server-1", "INSERT INTO kv.times (key, value, expires) VALUES ('at', '', now() + INTERVAL 1 HOUR), "
                               "('past', '', TIMESTAMPTZ '2020-01-01'), ('ever', '', 'infinity'), ('no', '', NULL)")
    execute(three, "server-1", "INSERT INTO kv.times (key, value, expires) VALUES ('never', '', '-infinity'::TIMESTAMP_S)")
    until("what is short to go", lambda: keys_of(three, "server-2", "times") == 5)
    rows = query(three, "server-2", "SELECT key, round(epoch(expires - now()) / 100)::INTEGER FROM kv('times') ORDER BY key")
    assert rows == [["at", 36], ["ever", None], ["good", None], ["long", 10], ["no", None]]
    assert "ttl" in refused(three, "INSERT INTO kv.times (key, value, ttl) VALUES ('a', 'b', 'one')")["message"]
    for ttl in ("-1", "-0.5", "0", "1e300", "99999999999999999999999999.5", "'nan'::DOUBLE"):
        assert refused(three, f"INSERT INTO kv.times (key, value, ttl) VALUES ('a', 'b', {ttl})")["sqlstate"] == "22000", ttl
    assert refused(three, "INSERT INTO kv.times (key, value, ttl, expires) VALUES ('a', 'b', 1, now())")["sqlstate"] == "22000"


def test_keys_are_deleted(three):
    execute(three, "server-1", "INSERT INTO kv.dead (key, value) SELECT 'k' || i, i FROM range(1000) r(i)")
    assert execute(three, "server-2", "DELETE FROM kv.dead WHERE key LIKE 'k1%'")["rows_affected"] == 111
    result = execute(three, "server-3", "DELETE FROM kv.dead d WHERE d.value IN (SELECT id::VARCHAR FROM customer WHERE id < 10)")
    assert result["rows_affected"] == 9
    assert execute(three, "server-3", "DELETE FROM kv.dead WHERE key = 'k1'")["rows_affected"] == 0
    assert get(three, "server-1", "dead/k5") == 404 and get(three, "server-1", "dead/k20") == b"20"
    assert execute(three, "server-1", "DELETE FROM kv.dead")["rows_affected"] == 880
    assert keys_of(three, "server-2", "dead") == 0


def test_a_key_that_is_put_while_it_is_deleted_stays_or_goes_whole(three):
    """Puts of a counter against deletes of what is below: no acknowledged last put may be lost."""
    stop, lost = threading.Event(), []

    def delete():
        while not stop.is_set():
            execute(three, "server-3", "DELETE FROM kv.race WHERE value = 'old'")

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for i in range(60):
            put(three, "server-1", "race/a", b"old")
            put(three, "server-2", "race/a", b"new")
            if get(three, "server-3", "race/a") != b"new":
                lost.append(i)
    finally:
        stop.set()
        thread.join()
    assert not lost


def test_many_keys(three):
    count = 100_000
    began = time.monotonic()
    sql = f"INSERT INTO kv.many (key, value) SELECT 'k' || i, i * 3 FROM range({count}) r(i)"
    answer = three.post("server-2", "/db/execute", {"sql": sql}, timeout=300)
    assert answer.json()["result"]["rows_affected"] == count, answer.body
    print("put in", time.monotonic() - began)
    for name in three.names:
        assert query(three, name, "SELECT count(*), count(DISTINCT key), sum(value::BIGINT)::VARCHAR FROM kv('many')") == \
            [[count, count, str(3 * sum(range(count)))]]
        joined = "SELECT count(*) FROM customer JOIN kv('many') ON key = 'k' || id AND value = (id * 3)::VARCHAR"
        assert query(three, name, joined) == [[ROWS]]
        assert query(three, name, "SELECT value FROM kv('many') WHERE key = 'k77777'") == [[str(3 * 77777)]]
    assert [row[0] for row in query(three, "server-1", "SELECT key FROM kv('many') LIMIT 3")] == ["k0", "k1", "k10"]


def test_large_values(three):
    result = execute(three, "server-2", "INSERT INTO kv.large (key, value) SELECT i, repeat('x', 4194304) FROM range(12) r(i)")
    assert result["rows_affected"] == 12
    assert query(three, "server-3", "SELECT count(*), min(length(value)), max(length(value)) FROM kv('large')") == [[12, 4 << 20, 4 << 20]]
    error = refused(three, "INSERT INTO kv.large (key, value) SELECT 'more ' || i, repeat('x', 4194304 + i // 20) FROM range(21) r(i)")
    assert error["sqlstate"] == "54000" and "were put before" in error["detail"]
    done = int(error["detail"].split()[0])
    assert 0 < done <= 20 and query(three, "server-1", "SELECT count(*) FROM kv('large') WHERE key LIKE 'more%'") == [[done]]
    execute(three, "server-2", "DELETE FROM kv.large")


def test_a_statement_of_one_batch_that_fails_has_put_nothing(three):
    for last in ("error('no')", "NULL"):
        value = f"CASE WHEN id < 1999 THEN 'a' ELSE {last} END"
        error = refused(three, f"INSERT INTO kv.nothing (key, value) SELECT id, {value} FROM customer WHERE id < 2000 ORDER BY id")
        assert "put" not in error["detail"], error
    assert keys_of(three, "server-1", "nothing") == 0


def test_a_cancel_says_what_was_put(three):
    sql = "INSERT INTO kv.cancelled (key, value) SELECT i, i FROM range(2000000) r(i)"
    answers = []
    thread = threading.Thread(target=lambda: answers.append(three.post("server-2", "/db/execute", {"sql": sql}, timeout=120)))
    thread.start()
    until("some keys", lambda: keys_of(three, "server-1", "cancelled") > 0)
    listed = "SELECT id FROM cluster.queries WHERE sql LIKE 'INSERT INTO kv.cancelled%'"
    ids = until("the statement", lambda: query(three, "server-2", listed))
    three.cluster.port = three.ports["server-2"]
    three.cluster.sql(f"CANCEL '{ids[0][0]}'")
    thread.join(60)
    error = answers[0].json()["error"]
    assert error["sqlstate"] == "40003" and "were put before" in error["detail"], error
    assert keys_of(three, "server-1", "cancelled") == int(error["detail"].split()[0])


@pytest.mark.parametrize("sql, sqlstate", [
    ("UPDATE kv.a SET value = 'x'", "0A000"), ("TRUNCATE kv.a", "0A000"), ("INSERT INTO kv.a VALUES ('x', 'y') RETURNING key", "0A000"),
    ("INSERT INTO kv.a VALUES ('x', 'y') ON CONFLICT DO NOTHING", "0A000"), ("INSERT OR IGNORE INTO kv.a VALUES ('x', 'y')", "0A000"),
    ("INSERT INTO kv.a DEFAULT VALUES", "0A000"), ("DELETE FROM kv.a USING customer WHERE true", "0A000"),
    ("COPY kv.a FROM STDIN", "0A000"),
    ("MERGE INTO kv.a USING customer ON (true) WHEN MATCHED THEN DELETE", "0A000"),
    ("INSERT INTO kv.a (key) VALUES ('x')", "42000"), ("INSERT INTO kv.a (key, version) VALUES ('x', 1)", "42703"),
    ("INSERT INTO kv.a (key, value, key) VALUES ('x', 'y', 'z')", "42000"),
    ("INSERT INTO kv.a (key, value) VALUES ('x', 'y', 'z')", "42000"),
    ("INSERT INTO kv.a SELECT * FROM kv('read')", "42000"), ("INSERT INTO kv.a (key, value) VALUES (NULL, 'y')", "23502"),
    ("INSERT INTO kv.a (key, value) VALUES ('x', NULL)", "23502"), ("INSERT INTO kv.a (key, value) VALUES ('', 'y')", "22000"),
    ("INSERT INTO kv.a (key, value) VALUES ('x', 1.5)", "22000"), ("INSERT INTO kv.a (key, value) VALUES ('x', [1])", "22000"),
    ("INSERT INTO kv.a (key, value, content_type) VALUES ('x', 'y', 'a' || chr(13) || chr(10) || 'b: c')", "22000"),
    ("INSERT INTO kv.a (key, value, encoding) VALUES ('x', 'y', repeat('x', 256))", "22000"),
    ("INSERT INTO kv.a (key, value) SELECT repeat('x', 65537), ''", "54000"), ("INSERT INTO kv.a VALUES ('x', 'y', 'z', 'z', 1)", "22000"),
    ("INSERT INTO kv.a (key, value) SELECT nix FROM customer", "42703"), ("INSERT INTO kv.a (key, value) SELECT * FROM nobody", "42P01"),
    ("INSERT INTO kv.a (key, value) VALUES ('x', 'y'", "42601"), ("INSERT INTO kv.b.a VALUES ('x', 'y')", "42000"),
    ("DELETE FROM kv.b.a", "42000"),
    ("INSERT INTO kv.\"no name\" VALUES ('x', 'y')", "22023"), ("DELETE FROM kv.a WHERE nix = 1", "42703"),
    ("INSERT INTO kv.a (key, value) SELECT 'x', content FROM read_text('/etc/passwd')", "42501"),
    ("CREATE SCHEMA kv", "42000"), ("CREATE TABLE kv.a (i INTEGER)", "42000"), ("CREATE MACRO kv(n) AS TABLE SELECT 1", "42000"),
])
def test_what_cannot_be_done_is_refused(three, sql, sqlstate):
    assert refused(three, sql)["sqlstate"] == sqlstate
    assert keys_of(three, "server-1", "a") == 0


@pytest.mark.parametrize("sql, sqlstate", [
    ("FROM kv('no name')", "22023"), ("FROM kv('a' || chr(0) || 'b')", "22023"), ("SELECT key_bytes FROM kv('a')", "42703"),
    ("FROM kv(NULL)", "42000"), ("FROM kv('a', nonsense := 1)", "42000"), ("FROM kv()", "42883"),
    ("INSERT INTO kv.a VALUES ('x', 'y')", "25006"), ("DELETE FROM kv.a", "25006"), ("FROM kv.a", "42P01"),
])
def test_what_only_reads_is_refused(three, sql, sqlstate):
    error = refused(three, sql, "/db/query")
    assert error["sqlstate"] == sqlstate and (sql != "FROM kv.a" or "kv('namespace')" in error["hint"])


def test_an_idempotency_key_is_refused(three):
    error = refused(three, "INSERT INTO kv.keyed VALUES ('x', 'y')", headers={"Idempotency-Key": "k1"})
    assert error["sqlstate"] == "0A000" and "again" in error["hint"]
    assert keys_of(three, "server-1", "keyed") == 0


def test_the_shell(three):
    three.cluster.port = three.ports["server-2"]
    done = three.cluster.shell("INSERT INTO kv.shell (key, value) VALUES ('größe', 'ü'); SELECT key, value FROM kv('shell')")
    assert done.stdout == "key,value\ngröße,ü\n", done
    done = three.cluster.shell("BEGIN; DELETE FROM kv.shell")
    assert done.returncode != 0 and "transaction" in done.stderr
    three.cluster.sql("DELETE FROM kv.shell")
    assert keys_of(three, "server-1", "shell") == 0


def test_a_server_that_dies_leaves_what_was_acknowledged(three):
    acknowledged, stop = [], threading.Event()

    def write(name):
        turn = 0
        while not stop.is_set():
            turn += 1
            space = f"{name}-{turn}"
            try:
                sql = f"INSERT INTO kv.killed (key, value) SELECT '{space}-' || i, i FROM range(200) r(i)"
                answer = three.post(name, "/db/execute", {"sql": sql})
            except OSError:
                continue
            if answer.status == 200:
                acknowledged.append(space)

    three.execute("CREATE VIEW killed AS SELECT count(*) AS keys FROM kv('killed')")
    victim = three.coordinator()
    writers = [threading.Thread(target=write, args=(name,)) for name in three.others(victim)]
    for writer in writers:
        writer.start()
    time.sleep(1)
    three.kill(victim)
    time.sleep(2)
    three.start(victim)
    stop.set()
    for writer in writers:
        writer.join()
    assert acknowledged
    sql = "SELECT regexp_replace(key, '-[0-9]+$', ''), count(*) FROM kv('killed') GROUP BY 1"
    for name in three.names:  # what nobody was told of is there as a whole or not at all, once its shards have asked each other
        until("whole statements", lambda one=name: {row[1] for row in query(three, one, sql)} == {200})
        assert set(acknowledged) <= {row[0] for row in query(three, name, sql)}, name
        assert query(three, name, "SELECT keys % 200, keys > 0 FROM killed") == [[0, True]]


def test_without_a_majority_keys_are_read_as_they_are_here_or_not_at_all(three):
    execute(three, "server-1", "INSERT INTO kv.alone (key, value) SELECT 'k' || i, i FROM range(50) r(i)")
    until("it everywhere", lambda: query(three, "server-3", "SELECT count(*) FROM kv('alone')", "/db/query?consistency=any") == [[50]])
    three.kill("server-1")
    three.kill("server-2")
    assert query(three, "server-3", "SELECT count(*) FROM kv('alone')", "/db/query?consistency=any") == [[50]]
    read = {"sql": "SELECT count(*) FROM kv('alone')"}
    # A lease that was given a moment before lets the first ones through.
    answer = until("a refusal", lambda: (found := three.post("server-3", "/db/query", read, timeout=120)).status != 200 and found)
    assert (answer.status, answer.json()["error"]["retry"]) == (503, "safe"), answer.body
    answer = three.post("server-3", "/db/execute", {"sql": "DELETE FROM kv.alone"}, timeout=120)
    assert answer.status in (503, 504), answer.body
    three.start("server-1")
    three.start("server-2")
    until("all of it, or nothing", lambda: keys_of(three, "server-2", "alone") in (0, 50))
    assert execute(three, "server-3", "INSERT INTO kv.alone (key, value) VALUES ('new', 'x')")["rows_affected"] == 1


# ---- clusters without ----


def test_a_cluster_without_shards_for_keys_says_so(new_cluster):
    empty = new_cluster(scale=0, shards=1, kv_shards=0)
    empty.start_server()
    for path, sql in (("/db/query", "FROM kv('a')"), ("/db/execute", "INSERT INTO kv.a VALUES ('x', 'y')"),
                      ("/db/execute", "DELETE FROM kv.a")):
        answer = empty.post(path, {"sql": sql})
        error = json.loads(answer.body)["error"]
        assert error["sqlstate"] == "0A000" and "enable-keys" in error["hint"], (sql, error)
