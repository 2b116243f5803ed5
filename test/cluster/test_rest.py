"""HTTP: /db/query in all its forms, and the small doors (docs/http.md)."""
import csv
import http.client
import io
import json
import socket
import ssl
import threading
import time
import urllib.parse

import duckdb
import pyarrow as pa
import pytest
from websockets.sync.client import connect

from conftest import PASSWORD, USER, basic


def query(cluster, sql, params=None, path="", headers=None, **kwargs):
    body = {"sql": sql} if params is None else {"sql": sql, "params": params}
    return cluster.request("POST", "/db/query" + path, json.dumps(body).encode(),
                           {"Content-Type": "application/json", **(headers or {})}, **kwargs)


def values(answer):
    assert answer.status == 200, answer.body
    return answer.json()["result"]["values"]


def error(answer, *statuses):
    assert answer.status in statuses, (answer.status, answer.body)
    assert answer.headers["Content-Type"] == "application/json"
    found = answer.json()["error"]
    assert {"code", "sqlstate", "message", "detail", "hint", "retry"} <= set(found)
    assert found["message"]
    return found


# ---- the document ----

def test_json_document(cluster):
    answer = query(cluster, "SELECT 1 AS a, 'x' AS b, NULL AS c, 1.50::DECIMAL(4,2) AS d")
    document = answer.json()
    assert answer.headers["Content-Type"] == "application/json"
    assert document["result"]["columns"] == ["a", "b", "c", "d"]
    assert document["result"]["types"][:2] == ["INTEGER", "VARCHAR"]
    assert document["result"]["values"] == [[1, "x", None, "1.50"]]
    assert isinstance(document["took"], float) and document["took"] > 0
    assert set(document) == {"result", "took"}


def test_get_with_q(cluster):
    answer = cluster.get("/db/query?q=" + urllib.parse.quote("SELECT count(*) FROM nation"))
    assert values(answer) == [[25]]
    assert values(cluster.get("/db/query?q=SELECT%20?&params=%5B7%5D")) == [[7]]
    assert error(cluster.get("/db/query"), 400)["sqlstate"] == "22023"


def test_pretty_is_the_same_document(cluster):
    plain = query(cluster, "SELECT n_name FROM nation ORDER BY 1")
    pretty = query(cluster, "SELECT n_name FROM nation ORDER BY 1", path="?pretty")
    assert plain.json()["result"] == pretty.json()["result"]
    assert pretty.body.count(b"\n") > 25


def test_json_rules(cluster):
    row, = values(query(cluster, """
        SELECT 9007199254740993::BIGINT, 1::BIGINT, 'inf'::DOUBLE, 'ab'::BLOB, TIMESTAMP '2020-01-02 03:04:05',
               [1, NULL], {'k': 'v'}, MAP {'m': 1}, true, 1::HUGEINT"""))
    assert row[0] == "9007199254740993" and row[1] == 1
    assert row[2].lower().startswith("inf")
    assert row[3] == "YWI="
    assert row[4] == "2020-01-02T03:04:05"
    assert row[5:9] == [[1, None], {"k": "v"}, {"m": 1}, True]
    assert row[9] in ("1", 1)


def test_no_rows_and_no_body(cluster):
    assert query(cluster, "SELECT 1 AS a WHERE false").json()["result"]["values"] == []
    assert error(query(cluster, ""), 400)
    assert error(query(cluster, " ; -- nothing"), 400)
    for body in (b"", b"{", b"[]", b"{}", b'{"sql": 1}', b'{"statements": ["SELECT 1"]}', b"\xff\xfe"):
        assert error(cluster.request("POST", "/db/query", body), 400)
    plain = cluster.request("POST", "/db/query", b"SELECT 40 + 2", {"Content-Type": "text/plain"})
    assert values(plain) == [[42]]


# ---- parameters ----

def test_params(cluster):
    assert values(query(cluster, "SELECT ? || ?, ?", ["it's", "; DROP TABLE x --", None])) == [
        ["it's; DROP TABLE x --", None]]
    assert values(query(cluster, "SELECT $2 - $1", [1, 10])) == [[9]]
    assert values(query(cluster, "SELECT $who", {"who": "me"})) == [["me"]]
    assert values(query(cluster, "SELECT n_name FROM nation WHERE n_nationkey = ?", [3])) == [["CANADA"]]
    assert values(query(cluster, "SELECT count(*) FROM orders WHERE o_orderdate < ?", ["1992-01-01"])) == [[0]]
    for sql, params in (("SELECT ?", []), ("SELECT 1", [1]), ("SELECT ?, $1", [1]), ("SELECT $a", [1])):
        assert error(query(cluster, sql, params), 400)["sqlstate"] == "22023"


# ---- other forms ----

def test_csv_is_duckdbs(cluster):
    sql = "SELECT n_nationkey, n_name, n_comment, NULL AS e, '' AS f, 'a,b' AS g FROM nation ORDER BY 1"
    answer = query(cluster, sql, headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.body.decode())))
    assert rows[0] == ["n_nationkey", "n_name", "n_comment", "e", "f", "g"]
    assert len(rows) == 26 and rows[1][1] == "ALGERIA" and rows[1][5] == "a,b"


def test_ndjson(cluster):
    answer = query(cluster, "SELECT n_nationkey AS k, n_name FROM nation ORDER BY 1",
                   headers={"Accept": "application/x-ndjson"})
    rows = [json.loads(line) for line in answer.body.splitlines()]
    assert len(rows) == 25 and rows[0] == {"k": 0, "n_name": "ALGERIA"}


def test_arrow_stream(cluster):
    answer = query(cluster, "SELECT l_orderkey, l_comment, l_quantity FROM lineitem",
                   headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert answer.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(io.BytesIO(answer.body)).read_all()
    table.validate(full=True)
    assert table.num_rows == values(query(cluster, "SELECT count(*) FROM lineitem"))[0][0]
    assert table.column_names == ["l_orderkey", "l_comment", "l_quantity"]


def test_large_json_streams_and_is_whole(cluster):
    answer = query(cluster, "SELECT l_orderkey, l_linenumber, l_comment FROM lineitem")
    assert answer.headers.get("Transfer-Encoding") == "chunked"
    rows = answer.json()["result"]["values"]
    assert len(rows) == values(query(cluster, "SELECT count(*) FROM lineitem"))[0][0]


def test_same_answer_as_duckdb(cluster):
    sql = """SELECT l_returnflag, count(*) AS n, sum(l_quantity) AS q, avg(l_discount) AS d
             FROM lineitem GROUP BY ALL ORDER BY 1"""
    whole = query(cluster, "SELECT * FROM lineitem", headers={"Accept": "application/vnd.apache.arrow.stream"})
    lineitem = pa.ipc.open_stream(io.BytesIO(whole.body)).read_all()
    db = duckdb.connect()
    db.register("lineitem", lineitem)
    expected = db.execute(sql).fetchall()
    got = values(query(cluster, sql))
    assert [(r[0], r[1], str(r[2]), r[3]) for r in got] == [(e[0], e[1], str(e[2]), e[3]) for e in expected]


@pytest.mark.parametrize("strategy", ["cut", "gather", "repartition"])
@pytest.mark.parametrize("sql, types", [
    ("SELECT (o_orderkey, o_totalprice) FROM orders WHERE o_orderkey < 40 ORDER BY o_orderkey", ["STRUCT(BIGINT, DECIMAL(15,2))"]),
    ("SELECT o_orderkey, [(map{'k': o_custkey}, {'q': o_orderstatus}::JSON)] FROM orders WHERE o_orderkey < 40 ORDER BY 1",
     ["BIGINT", "STRUCT(MAP(VARCHAR, BIGINT), JSON)[]"]),
    ("SELECT o_custkey, max((o_orderdate, o_clerk)) FROM orders GROUP BY 1 ORDER BY 1 LIMIT 30",
     ["BIGINT", "STRUCT(DATE, VARCHAR)"]),
])
def test_structs_without_field_names(cluster, strategy, sql, types):
    """No CAST can name their type, so the coordinator has to reach it in another way."""
    here = query(cluster, sql, path="?distributed=false").json()["result"]
    cut = query(cluster, sql, path=f"?strategy={strategy}").json()["result"]
    assert here["types"] == types
    assert cut == here


def test_a_union_whose_member_is_null_keeps_its_tag(cluster):
    sql = """SELECT union_tag(u), u IS NULL, count(*) FROM (SELECT union_value(t := nullif(o_orderstatus, 'F'))::UNION(n INTEGER, t VARCHAR)
             AS u FROM orders ORDER BY o_orderkey LIMIT 1000) GROUP BY ALL"""
    assert values(query(cluster, sql, path="?strategy=cut")) == [["t", False, 1000]]


def test_names_of_the_text_itself(cluster):
    sql = "SELECT alias(o_custkey) FROM orders WHERE o_orderkey < 3"
    assert values(query(cluster, sql, path="?strategy=cut")) == [["o_custkey"], ["o_custkey"]]


# ---- one reading statement ----

@pytest.mark.parametrize("sql", [
    "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE nation", "INSERT INTO nation VALUES (1)", "UPDATE nation SET n_name = ''",
    "DELETE FROM nation", "CREATE TABLE x (a INT)", "DROP TABLE nation", "ALTER TABLE nation ADD COLUMN a INT",
    "CHECKPOINT", "ATTACH 'x.db'", "DETACH x", "LOAD tpch", "INSTALL tpch", "PRAGMA database_list", "CALL pragma_version()",
    "SET memory_limit = '1GB'", "SET distributed = false", "RESET ALL", "COPY nation TO '/tmp/x'", "BEGIN", "USE main",
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM glob('/*')", "SELECT getenv('HOME')",
    "EXPLAIN INSERT INTO nation VALUES (1)", "EXPORT DATABASE 'x'", "VACUUM", "PREPARE a AS SELECT 1",
    "KILL 's-1'", "CANCEL 'q-1'", "FROM read_blob('/etc/passwd')", "WITH a AS (SELECT 1) INSERT INTO nation FROM a",
])
def test_refused(cluster, sql):
    error(query(cluster, sql), 400, 403)


def test_errors_are_told_apart(cluster):
    assert error(query(cluster, "SELEC 1"), 400)["sqlstate"] == "42601"
    assert error(query(cluster, "SELECT * FROM no_such_table"), 400)["sqlstate"] == "42P01"
    assert error(query(cluster, "SELECT no_such_column FROM nation"), 400)["sqlstate"] == "42703"
    assert error(query(cluster, "SELECT no_such_function(1)"), 400)["sqlstate"].startswith("42")
    assert error(query(cluster, "SELECT CAST('x' AS INTEGER)"), 400)["sqlstate"].startswith("22")
    assert error(query(cluster, "SELECT 'open"), 400)["sqlstate"] == "42601"


@pytest.mark.parametrize("asked", ["SELECT * FROM {}", "SUMMARIZE {}", "DESCRIBE {}", "DESCRIBE SELECT * FROM {}", "SHOW {}",
                                   "FROM (DESCRIBE {})"])
def test_a_file_is_no_table_to_whatever_asks(cluster, asked):
    said = error(query(cluster, asked.format("'/etc/passwd.csv'")), 400)
    assert said["sqlstate"] == "42P01" and "/etc/passwd.csv" in said["message"] and "Files of the server" in said["hint"], said


def test_explain_and_show(cluster):
    assert any("lineitem" in row[0] for row in values(query(cluster, "EXPLAIN SELECT count(*) FROM lineitem")))
    row, = values(query(cluster, "EXPLAIN (FORMAT JSON) SELECT count(*) FROM lineitem"))
    assert json.loads(row[0])
    assert values(query(cluster, "SHOW distributed")) == [["true"]]
    assert values(query(cluster, "SHOW distributed", path="?distributed=false")) == [["false"]]
    assert ["lineitem"] in [row[:1] for row in values(query(cluster, "SHOW TABLES"))]
    assert error(query(cluster, "SELECT 1", path="?strategy=best"), 400)["sqlstate"] == "22023"


def test_plain_arrow_has_no_extension_types(cluster):
    """At any depth; from the engine, over stored rows, and from the catalog."""
    columns = ("l_orderkey % 2 = 0 AS b",
               "{'h': 170141183460469231731::HUGEINT, 'u': '00000000-0000-0000-0000-000000000007'::UUID, 'b': true} AS s",
               "[1::HUGEINT, NULL] AS l", "[l_orderkey % 2 = 1] AS bs", "MAP {'k': false} AS m", "7::HUGEINT AS h",
               "'00000000-0000-0000-0000-000000000007'::UUID AS u", "{'j': '{}'::JSON} AS j")
    types = [pa.bool_(), pa.struct([("h", pa.decimal128(38)), ("u", pa.string()), ("b", pa.bool_())]), pa.list_(pa.decimal128(38)),
             pa.list_(pa.bool_()), pa.map_(pa.string(), pa.bool_()), pa.decimal128(38), pa.string(), pa.struct([("j", pa.string())])]
    for source, key in (("lineitem", "l_orderkey"), ("range(5000) AS r(l_orderkey)", "l_orderkey"), ("cluster.shards", "id")):
        texts = [text.replace("l_orderkey", key) for text in columns]
        answer = query(cluster, f"SELECT {key} AS k, {', '.join(texts)} FROM {source}", path="?format=arrow")
        assert answer.status == 200, answer.body
        with pa.ipc.open_stream(answer.body) as stream:
            table = stream.read_all()
        table.validate(full=True)
        for column, wanted in zip(table.columns[1:], types, strict=True):
            assert column.type.equals(wanted) or str(column.type).replace("l:", "item:") == str(wanted), (source, column.type, wanted)
        assert table.num_rows
        for row in table.to_pylist():
            assert row["b"] == (row["k"] % 2 == 0) and row["bs"] == [row["k"] % 2 == 1], row
            assert row["s"] == {"h": 170141183460469231731, "u": "00000000-0000-0000-0000-000000000007", "b": True}, row
            assert row["l"] == [1, None] and row["m"] == [("k", False)] and row["h"] == 7 and row["j"] == {"j": "{}"}, row


def test_system_tables(cluster):
    nodes = values(query(cluster, "SELECT id, role, state, address, version FROM cluster.nodes ORDER BY role"))
    assert [n[1] for n in nodes].count("server") == 1 and [n[1] for n in nodes].count("worker") == 2
    assert all(n[2] == "ready" for n in nodes)
    assert values(query(cluster, "SELECT count(*) FROM cluster.shards WHERE kind = 'partition'")) == [[4]]
    assert ["lineitem", ["l_orderkey"]] in values(query(cluster, "SELECT name, partitioned_by FROM cluster.tables"))
    assert ["scott", "admin"] in values(query(cluster, "SELECT name, role FROM cluster.users"))
    running = values(query(cluster, "SELECT sql, \"user\" FROM cluster.queries"))
    assert len(running) == 1 and "cluster.queries" in running[0][0] and running[0][1] == "scott"
    done = values(query(cluster, "SELECT state FROM cluster.query_history WHERE sql LIKE '%cluster.queries%'"))
    assert ["done"] in done
    for table in ("replicas", "settings", "jobs", "kv_namespaces", "kv_shards", "events"):
        values(query(cluster, f"SELECT * FROM cluster.{table}"))


def test_time_limit(cluster):
    start = time.monotonic()
    answer = query(cluster, "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
                   path="?timeout=300ms")
    assert error(answer, 504)["sqlstate"] == "57014"
    assert time.monotonic() - start < 5


def test_client_that_goes_away_ends_its_query(cluster):
    sql = "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * b.range % 7 = 5"
    with pytest.raises(OSError):
        query(cluster, sql, timeout=1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        running = values(query(cluster, "SELECT count(*) FROM cluster.queries WHERE sql LIKE '%% 7 = 5%'"))
        if running == [[1]]:      # this statement itself
            return
        time.sleep(0.05)
    pytest.fail("the query still runs")


# ---- login and the small doors ----

def test_login(cluster):
    wrong = query(cluster, "SELECT 1", login=("scott", "wrong"))
    assert error(wrong, 401)["sqlstate"] == "28P01"
    assert wrong.headers["WWW-Authenticate"].startswith("Basic")
    error(query(cluster, "SELECT 1", login=("nobody", "tiger")), 401)
    error(query(cluster, "SELECT 1", login=None), 401)
    error(query(cluster, "SELECT 1", login=("worker", "united")), 401, 403)
    error(cluster.get("/status", login=("worker", "united")), 401, 403)
    error(cluster.get("/db/query?q=SELECT+1", login=None, headers={"Authorization": "Bearer x"}), 401)


def test_doors_without_login(cluster):
    assert cluster.get("/health", login=None).status == 200
    ping = cluster.get("/ping", login=None)
    assert ping.body == b"PONG" and ping.headers["Content-Type"].startswith("text/plain")
    page = cluster.get("/", login=None)
    assert page.status == 200 and b"Merganser" in page.body and page.headers["Content-Type"].startswith("text/html")
    head = cluster.request("HEAD", "/health", login=None)
    assert head.status == 200 and head.body == b""


def test_status_and_metrics(cluster):
    status = cluster.get("/status").json()
    assert status["workers"] == 2 and status["shards"] == 4 and status["state"] == "ready"
    assert {n["role"] for n in status["nodes"]} == {"server", "worker"}
    before = metrics(cluster)
    values(query(cluster, "SELECT count(*) FROM lineitem"))
    after = metrics(cluster)
    assert sum(v for k, v in after.items() if k.startswith("merganser_queries_total")) > \
        sum(v for k, v in before.items() if k.startswith("merganser_queries_total"))
    assert after["merganser_workers"] == 2
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert after["merganser_query_seconds_count"] >= 1


def metrics(cluster):
    text = cluster.get("/metrics").body.decode()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines() if line and not line.startswith("#")}


def test_unknown_paths_and_methods(cluster):
    error(cluster.get("/no/such"), 404)
    answer = cluster.request("DELETE", "/db/query")
    error(answer, 405)
    assert "POST" in answer.headers["Allow"]
    error(cluster.request("POST", "/join", b"{}"), 401)
    error(cluster.request("POST", "/db/query", b"x" * (9 << 20)), 413)


def raw(cluster, data, alpn=None):
    context = cluster.tls()
    if alpn:
        context.set_alpn_protocols(alpn)
    with socket.create_connection(("localhost", cluster.port), timeout=15) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(data)
            answer = b""
            try:
                while chunk := tls.recv(65536):
                    answer += chunk
            except (ssl.SSLError, ConnectionError):
                pass
            return answer


def test_other_protocols_hear_a_sentence(cluster):
    startup = b"\0\0\0\x16\0\x03\0\0user\0scott\0\0"
    answer = raw(cluster, startup)
    assert answer[:1] == b"E" and b"0A000" in answer and b"PostgreSQL" in answer
    assert raw(cluster, b"*1\r\n$4\r\nPING\r\nQUIT\r\n").startswith(b"-NOAUTH ")
    assert raw(cluster, b"GET key\r\nQUIT\r\n").startswith(b"-NOAUTH ")
    assert b"HTTP/2" in raw(cluster, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert raw(cluster, b"GET /ping HTTP/1.0\r\n\r\n").endswith(b"PONG")


def test_smuggling_shapes_are_refused(cluster):
    two = b"POST /db/query HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    both = b"POST /db/query HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for data in (two, both):
        assert raw(cluster, data).startswith(b"HTTP/1.1 400")


def test_many_clients_at_once(cluster):
    failures = []

    def work(number):
        for i in range(5):
            got = values(query(cluster, "SELECT count(*) + ? FROM orders WHERE o_orderkey % 3 = ?", [number, i % 3]))
            want = values(query(cluster, f"SELECT count(*) + {number} FROM orders WHERE o_orderkey % 3 = {i % 3}",
                                path="?distributed=false"))
            if got != want:
                failures.append((number, i, got, want))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


def test_keep_alive_and_pipelining(cluster):
    connection = http.client.HTTPSConnection("localhost", cluster.port, context=cluster.tls(), timeout=30)
    for _ in range(3):
        connection.request("GET", "/ping")
        assert connection.getresponse().read() == b"PONG"
    connection.close()
    answer = raw(cluster, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 2 and answer.index(b"PONG") < answer.index(b"status")


# ---- answers that are under way ----

LATE = """SELECT CASE WHEN range < 1900000 THEN range ELSE CAST('x' || range AS BIGINT) END AS a, 'filler' AS b
          FROM range(2000000)"""
BIG = "SELECT range AS a, repeat('x', 1000) AS x FROM range(3000000)"


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/vnd.apache.arrow.stream"])
def test_late_error_never_looks_like_an_end(cluster, accept):
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        query(cluster, LATE, headers={"Accept": accept})
    assert values(query(cluster, "SELECT 1")) == [[1]]


def slow_reader(cluster, sql):
    """A connection that has read the head of a large answer and then sleeps."""
    connection = cluster.connection()
    connection.request("GET", "/db/query?format=csv&q=" + urllib.parse.quote(sql),
                       headers={"Authorization": basic((USER, PASSWORD))})
    return connection, connection.getresponse()


def running(cluster, fragment):
    rows = values(query(cluster, "SELECT id, sql FROM cluster.queries"))
    return [row[0] for row in rows if fragment in row[1] and "cluster.queries" not in row[1]]


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_cancel_of_a_slow_readers_query_cuts_it(cluster):
    connection, answer = slow_reader(cluster, BIG.replace("3000000", "3000001"))
    assert answer.status == 200 and answer.headers["Merganser-Query"].startswith("q-")
    assert running(cluster, "3000001") == [answer.headers["Merganser-Query"]]
    with connect(f"wss://localhost:{cluster.port}/client", ssl=cluster.tls(),
                 additional_headers={"Authorization": basic((USER, PASSWORD))}) as channel:
        channel.recv()
        cancel = f"CANCEL '{answer.headers['Merganser-Query']}'"
        channel.send(json.dumps({"type": "query", "id": 1, "sql": cancel}))
        while json.loads(channel.recv())["type"] != "done":
            pass
    assert wait_until(lambda: not running(cluster, "3000001"), 3)
    with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
        while answer.read(1 << 20):
            pass
    connection.close()


def test_reader_that_leaves_in_the_middle_ends_the_query(cluster):
    connection, answer = slow_reader(cluster, BIG.replace("3000000", "3000002"))
    answer.read(100000)
    assert running(cluster, "3000002")
    connection.sock.close() if connection.sock else None
    answer.close()
    connection.close()
    assert wait_until(lambda: not running(cluster, "3000002"))


def test_slow_readers_leave_room_for_others(cluster):
    sleepers = [slow_reader(cluster, BIG) for _ in range(8)]
    start = time.monotonic()
    assert values(query(cluster, "SELECT 1")) == [[1]]
    assert time.monotonic() - start < 3
    for connection, answer in sleepers:
        answer.close()
        connection.close()
    assert wait_until(lambda: not running(cluster, "3000000"))


def test_stop_in_the_middle_of_work(new_cluster):
    one = new_cluster(shards=2)
    one.start_server()
    connection, answer = slow_reader(one, BIG)
    threads = [threading.Thread(target=lambda: swallow(one, "SELECT count(*) FROM range(100000) a, range(1000000) b "
                                                            "WHERE a.range * b.range % 7 = 3")) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert wait_until(lambda: len(running(one, "b.range % 7")) == 6)
    start = time.monotonic()
    assert one.stop() == {"server": 0}
    assert time.monotonic() - start < 10
    for thread in threads:
        thread.join(20)
    with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
        while answer.read(1 << 20):
            pass
    assert not any(thread.is_alive() for thread in threads)
    connection.close()


def swallow(cluster, sql):
    try:
        query(cluster, sql)
    except (OSError, http.client.HTTPException):
        pass


def test_catalog_answers_hold_up_nobody(cluster):
    """The planning database has few connections: neither slow readers nor long catalog statements may keep them."""
    wide = "SELECT a.name, repeat('x', 1000) AS x FROM cluster.settings a, range(5000)"
    sleepers = [slow_reader(cluster, wide) for _ in range(8)]
    threads = [threading.Thread(target=lambda: swallow_for(cluster, "SELECT count(*) FROM duckdb_types() a, range(100000) b,"
                                                                    " range(100000) c WHERE b.range * c.range % 7 = 3", "3s"))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    start = time.monotonic()
    assert values(query(cluster, "SELECT name FROM cluster.users WHERE name = 'scott'")) == [["scott"]]
    assert time.monotonic() - start < 10
    for connection, answer in sleepers:
        answer.close()
        connection.close()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    error(query(cluster, "SELECT a.name, repeat('x', 1000) FROM cluster.settings a, range(50000)"), 413)


def swallow_for(cluster, sql, limit):
    error(query(cluster, sql, path=f"?timeout={limit}"), 504)


# ---- PIVOT without its values ----

def test_pivot_finds_its_values(cluster):
    """The values become columns, as in DuckDB; equal to the statement that names them."""
    for found, named in (
            ("PIVOT orders ON o_orderstatus USING count(*) GROUP BY o_orderpriority ORDER BY o_orderpriority",
             "FROM (PIVOT orders ON o_orderstatus IN ('F', 'O', 'P') USING count(*) GROUP BY o_orderpriority) ORDER BY o_orderpriority"),
            ("PIVOT (SELECT l_returnflag AS f, l_linestatus AS s, l_quantity AS q FROM lineitem) ON f, s IN ('F') USING sum(q)",
             "FROM (PIVOT (SELECT l_returnflag AS f, l_linestatus AS s, l_quantity AS q FROM lineitem) "
             "ON f IN ('A', 'N', 'R'), s IN ('F') USING sum(q))"),
            ("SELECT max(F) FROM (PIVOT orders ON o_orderstatus USING count(*) GROUP BY o_orderpriority)",
             "SELECT max(F) FROM (PIVOT orders ON o_orderstatus IN ('F', 'O', 'P') USING count(*) GROUP BY o_orderpriority)"),
            ("WITH late AS (SELECT o_orderstatus, o_clerk FROM orders WHERE o_orderkey > 30000), found AS "
             "(PIVOT late ON o_orderstatus USING count(*)) "
             "FROM found, region ORDER BY ALL",
             "WITH late AS (SELECT o_orderstatus, o_clerk FROM orders WHERE o_orderkey > 30000), found AS (PIVOT late ON o_orderstatus "
             "IN ('F', 'O', 'P') USING count(*)) FROM found, region ORDER BY ALL"),
            ("WITH RECURSIVE a(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM a WHERE i < 3) PIVOT a ON i USING sum(i)",
             "SELECT 1::HUGEINT AS \"1\", 2::HUGEINT AS \"2\", 3::HUGEINT AS \"3\""),
            ("SELECT count(*) FROM (\n WITH a AS (SELECT 1) SELECT * FROM a -- no pivot\n)", "SELECT count(*) FROM range(1)"),
            ("SELECT sum(F) FROM (PIVOT orders -- all\n ON o_orderstatus -- each\n USING count(*) -- of them\n)",
             "SELECT sum(F) FROM (PIVOT orders ON o_orderstatus IN ('F', 'O', 'P') USING count(*))"),
            ("SELECT count(*) FROM (WITH q AS (FROM orders) PIVOT (PIVOT q ON o_orderstatus USING count(*) GROUP BY o_orderpriority) "
             "ON o_orderpriority USING sum(F))", "SELECT count(*) FROM range(5)")):
        ours, theirs = query(cluster, found), query(cluster, named)
        assert ours.status == 200 and ours.json()["result"] == theirs.json()["result"], ours.body


def test_columns_of_a_pivot_come_in_the_order_of_duckdb(cluster):
    """Which is that of the values' text."""
    sources = {
        "k": ("VALUES (9, 1), (10, 1), (100, 1)", "VALUES (-1, 1), (-10, 1), (5, 1), (-2, 1)", "VALUES (9.5, 1), (10.25, 1), (NULL, 1)",
              "VALUES ('b', 1), ('B', 1), ('a', 1), ('\u00e9', 1), ('Z', 1)", "VALUES ([9], 1), ([10], 1), ([100, 1], 1)",
              "VALUES (DATE '2020-01-01', 1), (DATE '0044-03-15 (BC)', 1), (DATE '10020-03-15', 1)", "VALUES (true, 1), (false, 1)",
              "SELECT m::ENUM ('sad', 'ok', 'happy'), 1 FROM (VALUES ('sad'), ('ok'), ('happy')) AS m(m)"),
        "k, k2": ("SELECT k, m::ENUM ('sad', 'ok'), 1 FROM (VALUES (9, 'sad'), (10, 'ok'), (100, 'sad')) AS m(k, m)",),
    }
    with duckdb.connect() as plain:
        for on, texts in sources.items():
            for text in texts:
                sql = f"PIVOT (FROM ({text}) AS t({on}, v)) ON {on} USING sum(v)"
                found = query(cluster, sql)
                assert found.status == 200, found.body
                names = found.json()["result"]["columns"]
                assert names == [column[0] for column in plain.execute(sql).description], sql


@pytest.mark.parametrize("sql", [
    "PIVOT orders ON o_orderstatus)", "PIVOT orders ON (o_orderstatus", "PIVOT orders ON", "PIVOT", "PIVOT orders ON USING count(*)",
    "PIVOT 'x.parquet' ON a", "PIVOT orders ON 'open", "PIVOT orders ON o_orderstatus, , USING count(*)", "PIVOT nothing ON a",
    "PIVOT orders ON read_text('/etc/passwd') USING count(*)", "(" * 5000 + "PIVOT orders ON a USING b", "(PIVOT " * 5000 + "orders ON a",
    "PIVOT (" * 20000 + "orders" + " ON o_orderstatus)" * 20000,
    "WITH a AS (PIVOT", "WITH a", "WITH a AS (SELECT 1), b AS PIVOT a ON a",
])
def test_pivot_that_makes_no_sense_is_refused(cluster, sql):
    error(query(cluster, sql), 400, 403, 413, 501)
    assert query(cluster, "SELECT 1").status == 200
