"""HTTP: /db/execute in all its forms (docs/http.md)."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

from conftest import PASSWORD, USER, basic

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Runs for seconds, long enough to be looked at; its row is (n).
SLOW = "INSERT INTO {} SELECT count(*) FROM range({}) a, range(10000) b WHERE a.range * b.range % 7 = 3"


def post(cluster, body, path="", headers=None, **kwargs):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return cluster.request("POST", "/db/execute" + path, data,
                           {"Content-Type": "application/json", **(headers or {})}, **kwargs)


def execute(cluster, sql, params=None, **kwargs):
    return post(cluster, {"sql": sql} if params is None else {"sql": sql, "params": params}, **kwargs)


def affected(answer):
    assert answer.status == 200, answer.body
    result = answer.json()["result"]
    return [one["rows_affected"] for one in result] if isinstance(result, list) else result["rows_affected"]


def error(answer, *statuses):
    assert answer.status in statuses, (answer.status, answer.body)
    assert answer.headers["Content-Type"] == "application/json"
    found = answer.json()["error"]
    assert {"code", "sqlstate", "message", "detail", "hint", "retry"} <= set(found)
    assert found["message"]
    return found


@pytest.fixture
def table(cluster):
    """table(columns) -> its name; gone after the test."""
    made = []

    def make(columns="n BIGINT"):
        made.append("e_" + uuid.uuid4().hex[:12])
        assert affected(execute(cluster, f"CREATE TABLE {made[-1]} ({columns})")) == 0
        return made[-1]

    yield make
    for name in made:
        assert affected(execute(cluster, f"DROP TABLE {name}")) == 0


# ---- the document ----

def test_document(cluster, table):
    name = table("a INTEGER PRIMARY KEY, b VARCHAR")
    answer = execute(cluster, f"INSERT INTO {name} VALUES (1, 'x'), (2, 'y')")
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    assert set(document) == {"result", "took"}
    assert document["result"] == {"rows_affected": 2}
    assert isinstance(document["took"], float) and document["took"] > 0
    assert affected(execute(cluster, f"UPDATE {name} SET b = 'z' WHERE a > 1")) == 1
    assert cluster.rows(f"SELECT a, b FROM {name} ORDER BY a") == [[1, "x"], [2, "z"]]
    assert affected(execute(cluster, f"INSERT INTO {name} VALUES (2, 'c'), (3, 'n') ON CONFLICT DO UPDATE SET b = excluded.b")) == 2
    assert cluster.rows(f"SELECT a, b FROM {name} ORDER BY a") == [[1, "x"], [2, "c"], [3, "n"]]
    assert affected(execute(cluster, f"DELETE FROM {name}")) == 3
    assert affected(execute(cluster, f"INSERT INTO {name} SELECT range, 'r' FROM range(1000)")) == 1000
    assert affected(execute(cluster, f"TRUNCATE {name}")) == 1000
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]


def test_definitions_count_no_rows(cluster):
    for sql in ("CREATE SCHEMA e_s", "CREATE TABLE e_s.t (k BIGINT, v VARCHAR) PARTITIONED BY (k)",
                "CREATE VIEW e_s.w AS SELECT k FROM e_s.t", "DROP VIEW e_s.w", "DROP TABLE e_s.t", "DROP SCHEMA e_s"):
        assert affected(execute(cluster, sql)) == 0
    assert affected(execute(cluster, "DROP TABLE IF EXISTS e_no_such")) == 0
    assert affected(execute(cluster, "CREATE TABLE e_c AS SELECT range AS i FROM range(10)")) == 10  # as DuckDB counts
    assert cluster.rows("SELECT sum(i)::INTEGER FROM e_c") == [[45]]
    assert affected(execute(cluster, "DROP TABLE e_c")) == 0


def test_pretty_is_the_same_document(cluster, table):
    name = table()
    for body in ({"sql": f"INSERT INTO {name} VALUES (1), (2)"},
                 {"sql": f"INSERT INTO {name} VALUES (1), (2) RETURNING n, n + 1 AS m"},
                 {"statements": [f"INSERT INTO {name} VALUES (1)", f"INSERT INTO {name} VALUES (1) RETURNING *"]}):
        plain, pretty = post(cluster, body), post(cluster, body, path="?pretty")
        assert plain.json()["result"] == pretty.json()["result"]
        assert plain.body.count(b"\n") == 1 and pretty.body.count(b"\n") > 4


def test_returning(cluster, table):
    name = table("a INTEGER, d DECIMAL(9,2), v VARCHAR DEFAULT 'it''s'")
    answer = execute(cluster, f"INSERT INTO {name} (a, d) VALUES (1, 1.5), (2, NULL) RETURNING *, a + 1 AS next")
    assert answer.json()["result"] == {
        "rows_affected": 2, "columns": ["a", "d", "v", "next"],
        "types": ["INTEGER", "DECIMAL(9,2)", "VARCHAR", "INTEGER"],
        "values": [[1, "1.50", "it's", 2], [2, None, "it's", 3]]}
    none = execute(cluster, f"DELETE FROM {name} WHERE a > 99 RETURNING a")
    assert none.json()["result"] == {"rows_affected": 0, "columns": ["a"], "types": ["INTEGER"], "values": []}


def test_statement_as_text(cluster, table):
    name = table()
    for kind in ("text/plain", "application/sql", "text/plain; charset=utf-8"):
        answer = cluster.request("POST", "/db/execute", f"INSERT INTO {name} VALUES (7);".encode(), {"Content-Type": kind})
        assert affected(answer) == 1
    assert cluster.rows(f"SELECT sum(n)::INTEGER FROM {name}") == [[21]]


def test_params(cluster, table):
    name = table("a INTEGER, b VARCHAR, c DOUBLE, d BOOLEAN, e DATE, l INTEGER[], s STRUCT(x INTEGER)")
    row = [1, "it's; DROP TABLE x --", 1.5, True, "2020-02-29", [1, None], {"x": 2}]
    assert affected(execute(cluster, f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?, ?, ?)", row)) == 1
    assert affected(execute(cluster, f"INSERT INTO {name} (b, a) VALUES ($2, $1)", [2, None])) == 1
    assert affected(execute(cluster, f"UPDATE {name} SET b = $b WHERE a = $a", {"a": 2, "b": "ä€🦆"})) == 1
    assert cluster.rows(f"SELECT * FROM {name} ORDER BY a") == [row, [2, "ä€🦆"] + [None] * 5]


def test_settings_of_the_request(cluster, table):
    name = table("t TIMESTAMP WITH TIME ZONE")
    sql = f"INSERT INTO {name} VALUES ('2020-01-01 00:00:00')"
    assert affected(execute(cluster, sql, path="?timezone=America/New_York")) == 1
    assert cluster.rows(f"SELECT epoch(t)::BIGINT FROM {name}") == [[1577854800]]
    assert error(execute(cluster, sql, path="?timeout=soon"), 400)["sqlstate"] == "22023"
    answer = execute(cluster, "CREATE TABLE e_p (k BIGINT PRIMARY KEY)", path="?default_partitioning=primary%20key")
    assert affected(answer) == 0
    assert cluster.rows("SELECT partitioned_by FROM cluster.tables WHERE name = 'e_p'") == [[["k"]]]
    assert affected(execute(cluster, "DROP TABLE e_p")) == 0


def test_many_rows_come_back_whole(cluster, table):
    name = table("n BIGINT, v VARCHAR")
    answer = execute(cluster, f"INSERT INTO {name} SELECT range, repeat('v', 200) FROM range(100000) RETURNING *")
    assert len(answer.body) > 20 << 20
    result = answer.json()["result"]
    assert result["rows_affected"] == 100000 and sum(row[0] for row in result["values"]) == 100000 * 99999 // 2
    found = error(execute(cluster, f"UPDATE {name} SET v = repeat('w', 1000) RETURNING *"), 413)
    assert found["sqlstate"] == "54000"  # said before anything is done
    assert cluster.rows(f"SELECT DISTINCT v[1] FROM {name}") == [["v"]]


# ---- lists ----

def test_list(cluster, table):
    name = table("a INTEGER, b VARCHAR")
    answer = post(cluster, {"statements": [
        f"INSERT INTO {name} VALUES (1, 'x')", {"sql": f"INSERT INTO {name} VALUES (?, ?)", "params": [2, "y"]},
        {"sql": f"UPDATE {name} SET b = $b RETURNING a", "params": {"b": "z"}}, f"DELETE FROM {name} WHERE a = 1"]})
    assert affected(answer) == [1, 1, 2, 1]
    assert sorted(answer.json()["result"][2]["values"]) == [[1], [2]]
    assert cluster.rows(f"SELECT * FROM {name}") == [[2, "z"]]
    assert affected(post(cluster, {"statements": [f"DELETE FROM {name}"]})) == [1]


def test_list_stops_at_its_first_error(cluster, table):
    name = table("a INTEGER PRIMARY KEY")
    found = error(post(cluster, {"statements": [f"INSERT INTO {name} VALUES ({i})" for i in (1, 2, 1, 3)]}), 409)
    assert found["index"] == 2 and found["sqlstate"] == "23505" and "done" in found["detail"] and "2" in found["detail"]
    assert cluster.rows(f"SELECT a FROM {name} ORDER BY a") == [[1], [2]]
    found = error(post(cluster, {"statements": [f"INSERT INTO {name} VALUES (4)", "SELECT 1"]}), 400)
    assert found["index"] == 1 and "/db/query" in found["hint"]
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[3]]


def test_list_is_read_before_it_begins(cluster, table):
    name = table()
    good = f"INSERT INTO {name} VALUES (1)"
    for item, index in ((7, 1), (None, 1), ({}, 1), ({"sql": None}, 1), ({"sql": f"INSERT INTO {name} VALUES (?)"}, 1),
                        ({"sql": good, "params": [1]}, 1), (f"INSERT INTO {name} VALUES (1)\0", 1)):
        found = error(post(cluster, {"statements": [good, item, good]}), 400)
        assert found["index"] == index, (item, found)
    for body in ({"statements": []}, {"statements": {}}, {"statements": good}, {"statements": None},
                 {"statements": [good], "sql": good}, {"statements": [good], "params": []},
                 {"statements": [good], "transaction": "yes"}, {"sql": good, "transaction": 1}):
        error(post(cluster, body), 400)
    assert error(post(cluster, {"statements": [good] * 10001}), 413)["sqlstate"] == "54000"
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]


def test_transaction(cluster, table):
    name = table()
    one = f"INSERT INTO {name} VALUES (1)"
    assert affected(post(cluster, {"sql": one, "transaction": True})) == 1
    assert affected(post(cluster, {"statements": [one], "transaction": True})) == [1]
    assert affected(post(cluster, {"statements": [one, one], "transaction": False})) == [1, 1]
    assert affected(post(cluster, {"statements": [one, one], "transaction": True})) == [1, 1]
    error(post(cluster, {"statements": [one, f"INSERT INTO {name} VALUES ('x')"], "transaction": True}), 400)
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[6]]


# ---- what is refused ----

@pytest.mark.parametrize("sql", ["SELECT 1", "FROM nation", "WITH a AS (SELECT 1) SELECT * FROM a", "VALUES (1)", "SHOW TABLES",
                                 "DESCRIBE nation", "EXPLAIN SELECT 1", "SHOW distributed"])
def test_reads_are_refused(cluster, sql):
    assert "/db/query" in error(execute(cluster, sql), 400)["hint"]


@pytest.mark.parametrize("sql", [
    "CHECKPOINT", "ATTACH 'x.db'", "DETACH x", "LOAD tpch", "INSTALL tpch", "PRAGMA database_list", "CALL pragma_version()",
    "SET memory_limit = '1GB'", "SET distributed = false", "RESET ALL", "COPY nation TO '/tmp/x'", "COPY nation FROM '/etc/passwd'",
    "BEGIN", "COMMIT", "USE main", "EXPORT DATABASE 'x'", "IMPORT DATABASE 'x'", "VACUUM", "PREPARE a AS DELETE FROM nation",
    "KILL 's-1'", "CANCEL 'q-1'", "", " ; -- nothing", "INSERT INTO nation SELECT * FROM read_csv('/etc/passwd')",
    "CREATE TABLE e_x AS SELECT * FROM '/etc/passwd'", "CREATE VIEW e_x AS SELECT * FROM read_text('/etc/passwd')",
    "CREATE SECRET s (TYPE s3)", "CREATE TEMP MACRO m() AS 1", "DELETE FROM cluster.users", "DROP SCHEMA cluster",
    "INSERT INTO cluster.settings VALUES (1)", "EXPLAIN DELETE FROM nation",
])
def test_refused(cluster, sql):
    error(execute(cluster, sql), 400, 403)


@pytest.mark.parametrize("sql", ["VACUUM", "VACUUM ANALYZE nation", "ANALYZE", "CHECKPOINT", "FORCE CHECKPOINT"])
def test_upkeep_is_the_clusters_own(cluster, sql):
    assert "Nothing needs to be done" in error(execute(cluster, sql), 403)["hint"]


def test_second_statement_is_refused(cluster, table):
    name = table()
    found = error(execute(cluster, f"INSERT INTO {name} VALUES (1); INSERT INTO {name} VALUES (2)"), 400)
    assert "statements" in found["hint"]
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]
    assert affected(execute(cluster, f"INSERT INTO {name} VALUES (1);;")) == 1


def test_query_refuses_writes_and_says_where(cluster, table):
    name = table()
    for sql in (f"INSERT INTO {name} VALUES (1)", f"DELETE FROM {name}", f"DROP TABLE {name}", f"TRUNCATE {name}",
                "CREATE TABLE e_never (a INT)", f"WITH a AS (SELECT 1) INSERT INTO {name} FROM a"):
        answer = cluster.request("POST", "/db/query", json.dumps({"sql": sql}).encode())
        found = error(answer, 403)
        assert found["sqlstate"] == "25006" and "/db/execute" in found["hint"]
    answer = cluster.request("POST", "/db/query", json.dumps({"statements": [f"DELETE FROM {name}"]}).encode())
    assert "/db/execute" in error(answer, 400)["hint"]
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]


def test_errors_are_told_apart(cluster, table):
    name = table("a INTEGER PRIMARY KEY, b VARCHAR NOT NULL, c INTEGER")
    assert affected(execute(cluster, f"INSERT INTO {name} VALUES (1, 'x', 1)")) == 1
    for sql, status, state in (
            (f"INSERT INTO {name} VALUES (1, 'y', 1)", 409, "23505"), (f"INSERT INTO {name} VALUES (2, NULL, 1)", 409, "23502"),
            (f"UPDATE {name} SET b = NULL", 409, "23502"), (f"CREATE TABLE {name} (a INT)", 409, "42P07"),
            ("INSERT INTO e_no_such VALUES (1)", 400, "42P01"), ("DROP TABLE e_no_such", 400, "42P01"),
            (f"INSERT INTO {name} (zz) VALUES (1)", 400, "42703"), (f"INSRT INTO {name} VALUES (1)", 400, "42601"),
            (f"INSERT INTO {name} VALUES (", 400, "42601"), (f"UPDATE {name} SET c = 'x'::INTEGER", 400, "22"),
            (f"INSERT INTO {name} VALUES ('open", 400, "42601")):
        found = error(execute(cluster, sql), status)
        assert found["sqlstate"].startswith(state), (sql, found)
        assert "index" not in found
    assert cluster.rows(f"SELECT * FROM {name}") == [[1, "x", 1]]


def test_login(cluster, table):
    name = table()
    sql = f"INSERT INTO {name} VALUES (1)"
    assert error(execute(cluster, sql, login=("scott", "wrong")), 401)["sqlstate"] == "28P01"
    error(execute(cluster, sql, login=None), 401)
    error(execute(cluster, sql, login=("worker", "united")), 401, 403)
    answer = cluster.get("/db/execute")
    error(answer, 405)
    assert answer.headers["Allow"] == "POST"
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]


# ---- hostile input ----

def test_hostile_bodies(cluster, table):
    name = table("a VARCHAR")
    sql = f'"sql": "INSERT INTO {name} VALUES (?)"'.encode()
    deep = b"[" * 1000000
    for body in (b"", b"{", b"[]", b"null", b"7", b'"x"', b"{}", b'{"sql": 1}', b'{"sql": null}', b'{"sql": ["x"]}',
                 b"\xff\xfe", b"\0", b"{" + sql + b', "params": [NaN]}', b"{" + sql + b', "params": [-Infinity]}',
                 b"{" + sql + b', "params": [1e]}', b"{" + sql + b', "params": 5}', b"{" + sql + b', "params": "x"}',
                 b"{" + sql + b', "params": true}', b"{" + sql + b', "params": ["a\\u0000b"]}', b"{" + sql + b', "params": ["\xff"]}',
                 b"{" + sql + b', "params": [' + b"[" * 100 + b"]" * 100 + b"]}", b"{" + sql + b', "params": {}}',
                 b"{" + sql + b', "params": [{}]}', b"{" + sql + b', "params": []}', b"{" + sql + b', "params": [1, 2]}',
                 b"{" + sql + b"}", b"{" + sql + b"} x", deep, b'{"statements": ' + deep,
                 b"{" + sql + b', "params": [' + deep, b'{"a":' * 500000, b'{"sql": "\\ud800"}',
                 b'{"sql": "INSERT INTO ' + name.encode() + b" VALUES ('\xc3\x28')\"}",
                 b'{"sql": "INSERT INTO ' + name.encode() + b" VALUES ('\\u0000')\"}"):
        error(post(cluster, body), 400)
    for text in (b"\0", b"\xff", f"INSERT INTO {name} VALUES ('a\0b')".encode(), f"INSERT INTO {name} VALUES ('".encode() + b"\xe4')"):
        error(cluster.request("POST", "/db/execute", text, {"Content-Type": "text/plain"}), 400)
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]


def test_body_that_is_too_large(cluster):
    for size in (9 << 20, 100 << 20):
        try:
            assert error(post(cluster, b" " * size), 413)["sqlstate"] == "54000"
        except (ConnectionError, BrokenPipeError):
            pass  # refused by its head, while the client still sends
    head = f"POST /db/execute HTTP/1.1\r\nHost: x\r\n{authorization()}Content-Length: {100 << 20}\r\n\r\n"
    with connect(cluster) as tls:
        tls.sendall(head.encode())
        assert tls.recv(4096).startswith(b"HTTP/1.1 413")
    assert cluster.healthy()


def test_statement_that_fills_the_body(cluster, table):
    name = table("a VARCHAR")
    text = "x" * (7 << 20)
    assert affected(execute(cluster, f"INSERT INTO {name} VALUES (?)", [text])) == 1
    assert cluster.rows(f"SELECT length(a) FROM {name}") == [[len(text)]]


# ---- Idempotency-Key ----

def with_key(cluster, body, key, **kwargs):
    return post(cluster, body, headers={"Idempotency-Key": key}, **kwargs)


def test_key_gives_the_first_outcome(cluster, table):
    name = table("a INTEGER PRIMARY KEY")
    body, key = {"sql": f"INSERT INTO {name} VALUES (1) RETURNING a"}, str(uuid.uuid4())
    first, again = with_key(cluster, body, key), with_key(cluster, body, key)
    assert affected(first) == 1 and again.status == 200 and again.body == first.body
    assert "Idempotent-Replayed" not in first.headers and again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Merganser-Query"] == first.headers["Merganser-Query"]
    # an error is an outcome too, also when it would go well now
    other = str(uuid.uuid4())
    assert error(with_key(cluster, body, other), 409)
    assert affected(execute(cluster, f"DELETE FROM {name}")) == 1
    assert error(with_key(cluster, body, other), 409)
    assert affected(with_key(cluster, body, str(uuid.uuid4()))) == 1
    assert affected(with_key(cluster, body, key)) == 1
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[1]]


def test_key_of_a_list_in_part(cluster, table):
    name = table("a INTEGER PRIMARY KEY")
    body, key = {"statements": [f"INSERT INTO {name} VALUES ({i})" for i in (1, 1, 2)]}, str(uuid.uuid4())
    first = with_key(cluster, body, key)
    assert error(first, 409)["index"] == 1
    assert with_key(cluster, body, key).body == first.body
    assert cluster.rows(f"SELECT a FROM {name}") == [[1]]


def test_key_of_another_request(cluster, table):
    name = table()
    key = str(uuid.uuid4())
    assert affected(with_key(cluster, {"sql": f"INSERT INTO {name} VALUES (1)"}, key)) == 1
    assert error(with_key(cluster, {"sql": f"INSERT INTO {name} VALUES (2)"}, key), 422)["hint"]
    for bad in ("", "x" * 256):
        assert error(with_key(cluster, {"sql": f"INSERT INTO {name} VALUES (3)"}, bad), 400)["sqlstate"] == "22023"
    assert affected(with_key(cluster, {"sql": f"INSERT INTO {name} VALUES (4)"}, "x" * 255)) == 1
    assert cluster.rows(f"SELECT n FROM {name} ORDER BY n") == [[1], [4]]


def test_key_whose_write_did_not_happen_may_be_tried_again(cluster, table):
    name = table()
    body, key = {"sql": SLOW.format(name, 100000)}, str(uuid.uuid4())
    assert error(with_key(cluster, body, key, path="?timeout=300ms"), 504)["sqlstate"] == "57014"
    body["sql"] = SLOW.format(name, 10)
    assert affected(with_key(cluster, body, key)) == 1


def test_key_with_many_rows(cluster, table):
    name = table()
    body, key = {"sql": f"INSERT INTO {name} SELECT range FROM range(50000) RETURNING n"}, str(uuid.uuid4())
    first, again = with_key(cluster, body, key), with_key(cluster, body, key)
    assert len(first.json()["result"]["values"]) == 50000
    assert again.json()["result"] == {"rows_affected": 50000}  # docs/http.md: without the rows
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[50000]]


def test_key_at_once(cluster, table):
    name = table()
    body, key, answers = {"sql": SLOW.format(name, 20000)}, str(uuid.uuid4()), []
    threads = [threading.Thread(target=lambda: answers.append(with_key(cluster, body, key))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 6 and {affected(answer) for answer in answers} == {1}
    assert len({answer.body for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[1]]


# ---- clients that go away, time limits, many at once ----

def authorization(user=USER, password=PASSWORD):
    return f"Authorization: {basic((user, password))}\r\n"


@contextlib.contextmanager
def connect(cluster):
    with socket.create_connection(("localhost", cluster.port), timeout=30) as plain:
        with cluster.tls().wrap_socket(plain, server_hostname="localhost") as tls:
            yield tls


def running(cluster, mark):
    return cluster.rows(f"SELECT count(*) FROM cluster.queries WHERE sql LIKE 'INSERT INTO {mark}%'")[0][0]


def wait_until(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def leave_during(cluster, name, sql, headers=""):
    body = json.dumps({"sql": sql}).encode()
    head = f"POST /db/execute HTTP/1.1\r\nHost: x\r\n{authorization()}{headers}Content-Length: {len(body)}\r\n\r\n"
    with connect(cluster) as tls:
        tls.sendall(head.encode() + body)
        wait_until(lambda: running(cluster, name) == 1)


def test_client_that_goes_away_ends_its_write(cluster, table):
    name = table()
    leave_during(cluster, name, SLOW.format(name, 10000000))
    wait_until(lambda: running(cluster, name) == 0)
    state, = cluster.rows(f"SELECT state FROM cluster.query_history WHERE sql LIKE 'INSERT INTO {name}%'")
    assert state == ["cancelled"]
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[0]]
    sessions = cluster.get("/status").json()["sessions"]
    for _ in range(3):
        leave_during(cluster, name, SLOW.format(name, 10000000))
        wait_until(lambda: running(cluster, name) == 0)
    wait_until(lambda: cluster.get("/status").json()["sessions"] <= sessions)
    assert affected(execute(cluster, f"INSERT INTO {name} VALUES (1)")) == 1  # no lock was left behind


def test_write_with_a_key_goes_on_without_its_client(cluster, table):
    name = table()
    sql, key = SLOW.format(name, 20000), str(uuid.uuid4())
    leave_during(cluster, name, sql, f"Idempotency-Key: {key}\r\n")
    again = with_key(cluster, {"sql": sql}, key)
    assert affected(again) == 1 and again.headers["Idempotent-Replayed"] == "true"
    assert cluster.rows(f"SELECT count(*) FROM {name}") == [[1]]


def test_time_limit(cluster, table):
    name = table()
    assert error(execute(cluster, SLOW.format(name, 10000000), path="?timeout=300ms"), 504)["sqlstate"] == "57014"
    found = error(post(cluster, {"statements": [f"INSERT INTO {name} VALUES (1)", SLOW.format(name, 10000000)]},
                       path="?timeout=1s"), 504)
    assert found["index"] == 1 and found["retry"] == "never"
    assert cluster.rows(f"SELECT n FROM {name}") == [[1]]


def test_many_clients_at_once(cluster, table):
    name, one = table("a INTEGER, b INTEGER"), table("a INTEGER PRIMARY KEY")
    answers, failures = [], []

    def work(number):
        try:
            for i in range(5):
                assert affected(execute(cluster, f"INSERT INTO {name} VALUES (?, ?)", [number, i])) == 1
            answers.append(execute(cluster, f"INSERT INTO {one} VALUES (1)").status)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert cluster.rows(f"SELECT count(*), count(DISTINCT (a, b)) FROM {name}") == [[40, 40]]
    assert sorted(answers) == [200] + [409] * 7


def test_answered_writes_outlive_the_process(new_cluster):
    cluster = new_cluster(scale=0, shards=2)
    cluster.start_server()
    assert affected(execute(cluster, "CREATE TABLE t (k BIGINT PRIMARY KEY, v VARCHAR) PARTITIONED BY (k)")) == 0
    assert affected(execute(cluster, "INSERT INTO t SELECT range, 'v' || range FROM range(1000)")) == 1000
    cluster.processes["server"].kill()
    cluster.processes["server"].wait()
    cluster.start_server()
    assert cluster.rows("SELECT count(*), min(v), max(k) FROM t") == [[1000, "v0", 999]]
    assert affected(execute(cluster, "DELETE FROM t WHERE k < 10")) == 10


def test_stop_ends_a_write_and_tells_its_client(new_cluster):
    cluster, answers, key = new_cluster(scale=0, shards=2), [], str(uuid.uuid4())
    cluster.start_server()
    assert affected(execute(cluster, "CREATE TABLE t (n BIGINT)")) == 0
    body = {"statements": ["INSERT INTO t VALUES (1)", SLOW.format("t", 10000000), "INSERT INTO t VALUES (2)"]}
    thread = threading.Thread(target=lambda: answers.append(with_key(cluster, body, key)))
    thread.start()
    wait_until(lambda: running(cluster, "t SELECT") == 1)
    assert cluster.stop() == {"server": 0}
    thread.join(30)
    found = error(answers[0], 503)
    assert found["index"] == 1 and found["sqlstate"] == "57P01" and found["retry"] == "never"
    assert "Retry-After" not in answers[0].headers  # a part of the list is done
    cluster.start_server()
    assert cluster.rows("SELECT n FROM t") == [[1]]


# ---- the example ----

def test_example(new_cluster):
    """Three tables made, filled and read, as examples/http_sql.py does it."""
    cluster = new_cluster(scale=0, shards=2)
    cluster.start_server()
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "http_sql.py", "--url", cluster.url, "--tls-roots", cluster.ca,
         "--username", "scott"], env={**os.environ, "MERGANSER_PASSWORD": "tiger"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["result"].get("rows_affected") for answer in answers[:6]] == [0, 0, 0, 3, 3, 3]
    assert [len(answer["result"]["values"]) for answer in answers[6:]] == [3, 3, 3]
    again = subprocess.run(
        [sys.executable, ROOT / "examples" / "http_sql.py", "--url", cluster.url, "--tls-roots", cluster.ca,
         "--username", "scott", "--password", "wrong"], capture_output=True, text=True, timeout=60)
    assert again.returncode != 0 and "28P01" in again.stderr and not again.stdout


def test_key_outlives_the_server(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    assert execute(cluster, "CREATE TABLE t (a INTEGER) PARTITIONED BY (a)").status == 200
    body = {"sql": "INSERT INTO t SELECT i FROM range(50) AS r(i)"}
    assert affected(with_key(cluster, body, "k")) == 50
    for sign in (signal.SIGKILL, signal.SIGTERM):
        cluster.processes["server"].send_signal(sign)
        cluster.processes["server"].wait()
        cluster.start_server()
        again = with_key(cluster, body, "k")
        assert affected(again) == 50 and again.headers["Idempotent-Replayed"] == "true"
        assert cluster.rows("SELECT count(*) FROM t") == [[50]]
