"""Any node takes any statement: three servers, writes and reads at each of them, and a coordinator that dies."""
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from servers_kit import Servers, everywhere, execute, query, ready, until

ROOT = pathlib.Path(__file__).resolve().parents[2]


# ---- writes ----

def test_every_node_takes_every_statement(three):
    first, second, third = three.names
    for table, name in (("place_a", first), ("place_b", second), ("place_c", third)):
        execute(three, name, f"CREATE TABLE {table} (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
        assert everywhere(three, f"SELECT count(*) FROM {table}") == [[0]]      # at once, wherever it was made
        for at in three.names:
            assert execute(three, at, f"INSERT INTO {table} SELECT i, '{at}' FROM range(100) AS r(i)")["rows_affected"] == 100
            for reader in three.names:                      # what was acknowledged is there
                assert query(three, reader, f"SELECT count(*) FROM {table} WHERE v = '{at}'") == [[100]]
    rows = everywhere(three, "SELECT a.k, count(*) FROM place_a a JOIN place_b b USING (k) JOIN place_c c USING (k) "
                             "GROUP BY ALL ORDER BY ALL")
    assert rows == [[k, 27] for k in range(100)]
    for at in three.names:
        assert execute(three, at, "UPDATE place_a SET k = k + 1000 WHERE k = (SELECT min(k) FROM place_a)")["rows_affected"] == 3
        assert execute(three, at, "DELETE FROM place_b WHERE k < 10 AND v = '%s'" % at)["rows_affected"] == 10
    assert everywhere(three, "SELECT count(*) FROM place_a WHERE k >= 1000") == [[9]]
    assert everywhere(three, "SELECT count(*) FROM place_b") == [[270]]
    for table, at in (("place_a", second), ("place_b", third), ("place_c", first)):
        execute(three, at, f"DROP TABLE {table}")
        for name in three.names:
            answer = three.post(name, "/db/query", {"sql": f"SELECT * FROM {table}"})
            assert (answer.status, answer.json()["error"]["sqlstate"]) == (400, "42P01")


def test_values_by_chance_are_the_same_everywhere(three):
    for at in three.names:
        execute(three, at, f"CREATE TABLE chance_{at[-1]} AS SELECT i, random() AS r, uuid() AS u, now() AS n FROM range(20) AS r(i)")
        rows = everywhere(three, f"SELECT * FROM chance_{at[-1]} ORDER BY i")
        assert len({row[1] for row in rows}) == 20
        execute(three, at, f"UPDATE chance_{at[-1]} SET r = random()")
        assert everywhere(three, f"SELECT * FROM chance_{at[-1]} ORDER BY i") != rows


def test_reference_tables_views_and_schemas_are_everywhere(three):
    first, second, third = three.names
    execute(three, first, "CREATE SCHEMA side")
    execute(three, second, "CREATE TABLE side.one (k INTEGER PRIMARY KEY, v VARCHAR)")
    execute(three, third, "CREATE VIEW side.two AS SELECT k * 2 AS d FROM side.one")
    execute(three, first, "INSERT INTO side.one VALUES (1, 'a'), (2, 'b')")
    assert everywhere(three, "SELECT * FROM side.two ORDER BY d") == [[2], [4]]
    answer = three.post(third, "/db/execute", {"sql": "INSERT INTO side.one VALUES (2, 'again')"})
    assert (answer.status, answer.json()["error"]["sqlstate"]) == (409, "23505")
    execute(three, third, "CREATE OR REPLACE VIEW side.two AS SELECT 'new' AS d")
    assert everywhere(three, "SELECT * FROM side.two") == [["new"]]


def test_rows_of_returning_and_notices_come_back(three):
    execute(three, three.names[0], "CREATE TABLE giving (k INTEGER, v DOUBLE) PARTITIONED BY (k)")
    for name in three.names:
        result = execute(three, name, "INSERT INTO giving SELECT i, i / 2 FROM range(3) AS r(i) RETURNING k, v + 1 AS w")
        assert sorted(result["values"]) == [[0, 1], [1, 1.5], [2, 2]]
        assert result["rows_affected"] == 3


def test_many_rows_come_through_another_node(three):
    execute(three, three.names[0], "CREATE TABLE wide (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    execute(three, three.names[0], "INSERT INTO wide SELECT i, repeat('x', 200) FROM range(200000) AS r(i)")
    for name in three.names:
        rows = query(three, name, "SELECT k, v FROM wide")
        assert len(rows) == 200000 and sum(row[0] for row in rows) == 199999 * 100000


def test_the_shell_works_at_every_node(three):
    three.cluster.port = three.ports[three.names[0]]
    three.cluster.sql("CREATE TABLE shelled (k INTEGER) PARTITIONED BY (k)")
    for name in three.names:
        three.cluster.port = three.ports[name]
        assert three.cluster.sql("INSERT INTO shelled VALUES (1), (2), (3)") == ""
        assert three.cluster.sql("SELECT count(*) % 3 AS n FROM shelled") == "n\n0\n"
        assert "42P01" in three.cluster.refused("SELECT * FROM no_such_table")


def test_the_example_runs_over_three_nodes(three):
    urls = [part for name in three.names for part in ("--url", f"https://localhost:{three.ports[name]}")]
    for _ in range(2):
        result = subprocess.run([sys.executable, ROOT / "examples" / "http_sql.py", *urls, "--tls-roots", three.cluster.ca,
                                 "--username", "scott", "--password", "tiger"],
                                capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        assert "Oslo" in result.stdout


# ---- keys ----

def test_a_key_is_done_once_wherever_it_is_sent(three):
    execute(three, three.names[0], "CREATE TABLE keyed (k INTEGER) PARTITIONED BY (k)")
    for number, first in enumerate(three.names):
        key = {"Idempotency-Key": f"key-{number}"}
        for name in [first, *three.others(first), first]:
            answer = three.post(name, "/db/execute", {"sql": f"INSERT INTO keyed VALUES ({number}), ({number + 100})"}, headers=key)
            assert answer.status == 200 and answer.json()["result"] == {"rows_affected": 2}, answer.body
            assert answer.headers.get("Idempotent-Replayed") == (None if name == first and number not in seen(three) else "true")
            three.seen.add(number)
        answer = three.post(three.others(first)[0], "/db/execute", {"sql": "INSERT INTO keyed VALUES (999)"}, headers=key)
        assert answer.status == 422 and answer.json()["error"]["code"] == "key_reused", answer.body
    assert everywhere(three, "SELECT count(*), count(DISTINCT k) FROM keyed") == [[6, 6]]
    # one after the other, some of them at once; a change of no row is one, too
    key = {"Idempotency-Key": "crowd"}
    threads = [threading.Thread(target=three.post, args=(three.names[i % 3], "/db/execute", {"sql": "INSERT INTO keyed VALUES (7)"}, key))
               for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everywhere(three, "SELECT count(*) FROM keyed WHERE k = 7") == [[1]]
    body = {"statements": ["INSERT INTO keyed VALUES (8)", "UPDATE keyed SET k = 9 WHERE k = 8", "DELETE FROM keyed WHERE k = 12345"]}
    for name in three.names:
        answer = three.post(name, "/db/execute", body, headers={"Idempotency-Key": "list"})
        assert [one["rows_affected"] for one in answer.json()["result"]] == [1, 1, 0]
    assert everywhere(three, "SELECT count(*) FROM keyed WHERE k IN (8, 9)") == [[1]]


def test_a_definition_with_a_key_is_done_once(three):
    """Whatever has become of it meanwhile, at every server, and after another one coordinates."""
    def define(name, sql, key):
        return three.post(name, "/db/execute", {"sql": sql}, headers={"Idempotency-Key": key})

    statements = ["CREATE TABLE def (k INTEGER) PARTITIONED BY (k)", "CREATE TABLE IF NOT EXISTS def (k INTEGER)",
                  "CREATE TABLE def2 AS SELECT i AS k FROM range(50) r(i)", "ALTER TABLE def ADD COLUMN v INTEGER DEFAULT 7",
                  "CREATE VIEW defv AS SELECT v FROM def", "COMMENT ON TABLE def IS 'one'", "DROP VIEW defv", "DROP TABLE def2"]
    for number, sql in enumerate(statements):
        assert define(three.names[number % 3], sql, f"def-{number}").status == 200
    execute(three, three.names[0], "COMMENT ON TABLE def IS 'two'")
    execute(three, three.names[1], "CREATE TABLE def2 (other INTEGER)")
    execute(three, three.names[2], "ALTER TABLE def DROP COLUMN v")
    for number, sql in enumerate(statements):
        for name in three.names:
            answer = define(name, sql, f"def-{number}")
            assert answer.status == 200 and answer.headers["Idempotent-Replayed"] == "true", (sql, answer.body)
            assert answer.json()["result"]["rows_affected"] == (50 if number == 2 else 0)
    assert define(three.names[1], "DROP TABLE def", "def-0").status == 422
    assert everywhere(three, "SELECT count(*) FROM duckdb_columns() WHERE table_name IN ('def', 'def2')") == [[2]]
    assert everywhere(three, "SELECT comment FROM duckdb_tables() WHERE table_name = 'def'") == [["two"]]


def test_a_transaction_with_a_key_is_done_once(three):
    execute(three, three.names[0], "CREATE TABLE paid (k INTEGER PRIMARY KEY) PARTITIONED BY (k)")
    body = {"transaction": True, "statements": ["INSERT INTO paid VALUES (1)", "INSERT INTO paid VALUES (2), (3)"]}
    first, *others = three.names[1:] + three.names[:1]
    answer = three.post(first, "/db/execute", body, headers={"Idempotency-Key": "pay"})
    assert [one["rows_affected"] for one in answer.json()["result"]] == [1, 2] and "Idempotent-Replayed" not in answer.headers
    for name in others:  # the primary key would say 23505
        answer = three.post(name, "/db/execute", body, headers={"Idempotency-Key": "pay"})
        assert answer.status == 200 and answer.headers["Idempotent-Replayed"] == "true", (name, answer.body)
        assert answer.json()["result"] == [{"rows_affected": None}] * 2
    answer = three.post(others[0], "/db/execute", {**body, "statements": ["SELECT 1", "SELECT 2"]}, headers={"Idempotency-Key": "pay"})
    assert answer.status in (400, 422), answer.body
    # The COMMIT of a handle, which other servers do not know.
    tx = three.post(first, "/db/tx", {}).json()["result"]["id"]
    assert three.post(first, f"/db/execute?tx={tx}", {"sql": "INSERT INTO paid VALUES (4)"}).status == 200
    early = three.request(others[0], "POST", f"/db/tx/{tx}/commit", b"", headers={"Idempotency-Key": "early"})
    assert early.status == 404 and "no open transaction" in early.json()["error"]["message"], early.body
    path, key = f"/db/tx/{tx}/commit", {"Idempotency-Key": "end"}
    assert three.request(others[0], "POST", path, b"", headers=key).status == 404  # too early, which is not kept
    assert three.request(first, "POST", path, b"", headers=key).status == 200
    for name in three.names:
        answer = three.request(name, "POST", path, b"", headers=key)
        assert answer.status == 200 and answer.headers["Idempotent-Replayed"] == "true", (name, answer.status, answer.body)
        assert three.request(name, "POST", path, b"", headers={"Idempotency-Key": f"other-{name}"}).status == 404
    # A key is of one transaction.
    tx = three.post(first, "/db/tx", {}).json()["result"]["id"]
    assert three.post(first, f"/db/execute?tx={tx}", {"sql": "INSERT INTO paid VALUES (5)"}).status == 200
    assert three.request(first, "POST", f"/db/tx/{tx}/commit", b"", headers=key).status == 422
    assert three.request(first, "POST", f"/db/tx/{tx}/rollback", b"").status == 200
    assert query(three, first, "SELECT list(k ORDER BY k) FROM paid") == [[[1, 2, 3, 4]]]


def seen(servers):
    """Keys that were used already."""
    servers.seen = getattr(servers, "seen", set())
    return servers.seen


# ---- where ----

def test_who_asks_for_a_redirect_hears_where(three):
    coordinator = three.coordinator()
    execute(three, coordinator, "CREATE TABLE redirected (k INTEGER)")
    for name in three.others(coordinator):
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *args):
                return None

        answer = three.post(name, "/db/execute?redirect=1&timeout=30s", {"sql": "INSERT INTO redirected VALUES (1)"})
        assert answer.status == 307, answer.body
        where = answer.headers["Location"]
        assert f":{three.ports[coordinator]}/db/execute" in where and "redirect" not in where and "timeout=30s" in where
    assert execute(three, coordinator, "INSERT INTO redirected VALUES (1)", path="/db/execute?redirect=1")["rows_affected"] == 1
    assert everywhere(three, "SELECT count(*) FROM redirected") == [[1]]


def test_every_node_names_the_coordinator(three):
    coordinator = three.coordinator()
    assert everywhere(three, "SELECT id FROM cluster.nodes WHERE coordinator") == [[coordinator]]
    three.cluster.port = three.ports[three.others(coordinator)[0]]
    assert three.cluster.sql(".leader").splitlines()[1].startswith(coordinator + ",")


def test_a_statement_is_cancelled_where_it_runs(three):
    """The client goes away from a node that reads, or that has passed a write on: it ends, at the other one, too."""
    coordinator = three.coordinator()
    name = three.others(coordinator)[0]
    execute(three, name, "CREATE TABLE slow AS SELECT i FROM range(100000) AS r(i)")
    execute(three, name, "CREATE TABLE slower (i BIGINT) PARTITIONED BY (i)")
    sql = "SELECT count(*) FROM slow a, slow b, slower c WHERE a.i * b.i % 7 = 8"
    write = "INSERT INTO slower SELECT a.i FROM slow a, slow b WHERE a.i * b.i % 7 = 8"
    for path, text, place in (("/db/query", sql, name), ("/db/execute", write, coordinator)):
        running = f"SELECT count(*) FROM cluster.queries WHERE sql = '{text}'"
        client = threading.Thread(target=lambda p=path, t=text: pytest.raises(OSError, three.post, name, p, {"sql": t}, timeout=5))
        client.start()
        until("it to run", lambda r=running, at=place: query(three, at, r) == [[1]], log=three.logs)
        client.join(60)
        assert not client.is_alive()
        until("it to end", lambda r=running: query(three, coordinator, r) == [[0]] and query(three, name, r) == [[0]],
              log=three.logs)
        # and by CANCEL at the node that was asked
        client = threading.Thread(target=three.post, args=(name, path, {"sql": text}))
        client.start()
        ids = f"SELECT id FROM cluster.queries WHERE sql = '{text}' AND session LIKE 'h-%'"
        found = until("its id", lambda i=ids: query(three, name, i), log=three.logs)
        until("it to run", lambda r=running, at=place: query(three, at, r) == [[1]], log=three.logs)
        three.cluster.port = three.ports[name]
        three.cluster.sql(f"CANCEL '{found[0][0]}'")
        client.join(60)
        assert not client.is_alive()
        until("it to end", lambda r=running: query(three, coordinator, r) == [[0]], log=three.logs)


def test_a_time_limit_holds_over_another_node(three):
    name = three.others(three.coordinator())[0]
    execute(three, name, "CREATE TABLE endless AS SELECT i FROM range(100000) AS r(i)")
    answer = three.post(name, "/db/execute?timeout=500ms",
                  {"sql": "INSERT INTO endless SELECT a.i FROM endless a, endless b WHERE a.i * b.i % 7 = 8"})
    assert (answer.status, answer.json()["error"]["sqlstate"]) == (504, "57014"), answer.body
    assert everywhere(three, "SELECT count(*) FROM endless") == [[100000]]


def test_what_was_over_its_limit_was_not_done(three):
    """Limits that end while the coordinator commits: 57014 says that nothing has happened."""
    execute(three, three.names[0], "CREATE TABLE hurried (k INTEGER) PARTITIONED BY (k)")
    refused, done = set(), set()

    def write(at, keys):
        for key in keys:
            limit = 3 + key * 7 % 30
            answer = three.post(at, f"/db/execute?timeout={limit}ms", {"sql": f"INSERT INTO hurried SELECT {key} FROM range(1)"})
            if answer.status == 200:
                done.add(key)
            elif answer.json()["error"]["sqlstate"] == "57014":
                refused.add(key)

    writers = [threading.Thread(target=write, args=(name, range(i * 200, i * 200 + 150))) for i, name in enumerate(three.names)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    there = {row[0] for row in query(three, three.names[0], "SELECT k FROM hurried")}
    assert refused and done
    assert done <= there
    assert not refused & there


def test_any_reads_what_the_node_has(three):
    execute(three, three.names[0], "CREATE TABLE loose (k INTEGER) PARTITIONED BY (k)")
    execute(three, three.names[0], "INSERT INTO loose SELECT i FROM range(100) AS r(i)")
    for name in three.names:
        for path in ("?consistency=any", "?consistency=bounded&max_staleness=1s"):
            until("the rows", lambda n=name, p=path: query(three, n, "SELECT count(*) FROM loose", "/db/query" + p) == [[100]],
                  log=three.logs)
    answer = three.post(three.names[0], "/db/query?consistency=strong", {"sql": "SELECT 1"})
    assert answer.status == 400


# ---- transactions over shards, seen from everywhere ----

def test_totals_never_change_while_money_moves(three):
    execute(three, three.names[0], "CREATE TABLE account (id INTEGER, balance BIGINT) PARTITIONED BY (id)")
    execute(three, three.names[0], "INSERT INTO account SELECT i, 1000 FROM range(40) AS r(i)")
    stop, wrong, reads = threading.Event(), [], dict.fromkeys(three.names, 0)

    def move(number):
        at = three.names[number % 3]
        step = 0
        while not stop.is_set():
            one, other, step = (step * 7 + number) % 40, (step * 11 + 13 + number) % 40, step + 1
            if one != other:
                answer = three.post(at, "/db/execute",
                              {"sql": f"UPDATE account SET balance = balance + CASE WHEN id = {one} THEN -5 ELSE 5 END "
                                      f"WHERE id IN ({one}, {other})"})
                if answer.status != 200:
                    wrong.append((at, answer.body))

    def read(name):
        while not stop.is_set():
            rows = query(three, name, "SELECT sum(balance)::BIGINT, count(*) FROM account")
            reads[name] += 1
            if rows != [[40000, 40]]:
                wrong.append((name, rows))

    threads = [threading.Thread(target=move, args=(i,)) for i in range(3)] + [threading.Thread(target=read, args=(n,)) for n in three.names]
    for thread in threads:
        thread.start()
    until("enough reads", lambda: wrong or min(reads.values()) >= 40, log=three.logs)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong[:3]


# ---- a coordinator that dies ----

def test_writers_go_on_when_the_coordinator_is_killed(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=3)
    servers.start_all()
    until("three servers", lambda: ready(servers) == 3, log=servers.logs)
    execute(servers, servers.names[0], "CREATE TABLE kept (k BIGINT, w INTEGER) PARTITIONED BY (k)")
    victim = servers.coordinator()
    survivors = servers.others(victim)
    done, unknown, refused, stop = [], [], [], threading.Event()

    def write(number):
        """Writers 2 and 3 send what nobody knows the end of again, under its key, at the other node."""
        for step in range(1_000_000):
            if stop.is_set():
                return
            key = number * 1_000_000 + step
            for again in range(20):
                answer = servers.post(survivors[(number + again) % 2], "/db/execute",
                              {"sql": f"INSERT INTO kept VALUES ({key}, {number}), ({key + 500_000}, {number})"},
                              headers={"Idempotency-Key": f"k{key}"} if number >= 2 else ())
                if number < 2 or answer.status != 504:
                    break
            if answer.status == 200:
                done.append(key)
            elif answer.status == 504 and answer.json()["error"]["sqlstate"] == "40003":
                unknown.append(key)
            else:
                refused.append((answer.status, answer.body))

    writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in writers:
        thread.start()
    until("some rows", lambda: len(done) > 40, log=servers.logs)
    servers.kill(victim)
    before = len(done)
    until("rows by another coordinator", lambda: len(done) > before + 40, log=servers.logs)
    stop.set()
    for thread in writers:
        thread.join(60)
        assert not thread.is_alive()
    assert not refused, refused[:3]                     # ten seconds are enough for an election
    assert all(key < 2_000_000 for key in unknown)      # a key is known in the end
    for name in survivors:
        there = {row[0] for row in query(servers, name, "SELECT k FROM kept")}
        for key in done:
            assert key in there and key + 500_000 in there
        for key in unknown:                             # whole or not at all
            assert (key in there) == (key + 500_000 in there)
        assert there <= {k + d for k in done + unknown for d in (0, 500_000)}
        assert query(servers, name, "SELECT count(*) - count(DISTINCT k) FROM kept") == [[0]]
    # without a majority nothing is done, or nobody knows, and it is said within about ten seconds
    servers.kill(survivors[0])
    began = time.monotonic()
    answer = servers.post(survivors[1], "/db/execute", {"sql": "INSERT INTO kept VALUES (-1, 0)"})
    assert answer.status in (503, 504), answer.body
    if answer.status == 503:
        assert answer.headers["Retry-After"] and answer.json()["error"]["retry"] == "safe"
    assert time.monotonic() - began < 40
    assert query(servers, survivors[1], "SELECT count(*) FROM kept WHERE k = -1", "/db/query?consistency=any") == [[0]]
    servers.start(survivors[0])
    servers.start(victim)
    rows = everywhere(servers, "SELECT count(*), sum(k) FROM kept")
    assert rows[0][0] >= 2 * len(done)


def test_workers_go_where_they_are_of_use(new_cluster):
    """Started at one server, a worker serves the coordinator, and the next one when that dies."""
    servers = Servers(new_cluster, scale=0.01, shards=3)
    servers.start_all()
    until("three servers", lambda: ready(servers) == 3, log=servers.logs)
    first = servers.coordinator()
    servers.cluster.port = servers.ports[servers.others(first)[0]]
    servers.cluster.start_worker("worker-1")

    def served_by(name):
        return servers.status(name)["workers"] == 1

    until("the worker to serve the coordinator", lambda: served_by(first), log=servers.logs)
    until("its copies", lambda: query(servers, first, "SELECT shards FROM cluster.nodes WHERE role = 'worker'") == [[3]],
          log=servers.logs)
    sql = "SELECT l_returnflag, count(*), sum(l_quantity) FROM lineitem GROUP BY ALL ORDER BY ALL"
    rows, answers = everywhere(servers, sql), []

    def takes_part():
        """On a busy machine it may miss the 50 ms that it has."""
        answers.append(query(servers, first, sql))
        return query(servers, first, "SELECT DISTINCT step FROM cluster.query_history "
                                     "WHERE sql LIKE '%l_returnflag, count%' AND workers = 1") == [["cut"]]

    until("an answer with the worker's part", takes_part, log=servers.logs)
    assert all(answer == rows for answer in answers), answers
    servers.kill(first)
    second = servers.coordinator()
    assert second != first
    until("the worker to serve the next one", lambda: served_by(second), log=servers.logs)
    assert query(servers, second, sql) == rows
    assert servers.cluster.processes["worker-1"].poll() is None


def test_a_coordinator_that_is_stopped_is_not_noticed(new_cluster):
    """SIGTERM and a new start of whoever coordinates, while others' clients write and read: no statement fails."""
    servers = Servers(new_cluster, scale=0, shards=3)
    servers.start_all()
    until("three servers", lambda: ready(servers) == 3, log=servers.logs)
    execute(servers, servers.names[0], "CREATE TABLE rolled (k BIGINT, w INTEGER) PARTITIONED BY (k)")
    done, wrong = [], []
    for _ in range(2):
        victim, stop = servers.coordinator(), threading.Event()
        others = servers.others(victim)
        before = len(done)

        def write(number, names=tuple(others), end=stop):
            while not end.is_set():
                key = len(done) * 10 + number
                sql = f"INSERT INTO rolled VALUES ({key}, 1), ({key}, 2)"
                answer = servers.post(names[number % 2], "/db/execute", {"sql": sql})
                (done if answer.status == 200 else wrong).append(key if answer.status == 200 else answer.body)
                sql = f"SELECT count(*) % 2, count(*) > 0 FROM rolled WHERE k = {key}"
                answer = servers.post(names[number % 2], "/db/query", {"sql": sql})
                if answer.status != 200 or answer.json()["result"]["values"] != [[0, True]]:
                    wrong.append((key, answer.body))

        threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        until("some rows", lambda b=before: len(done) > b + 20 or wrong, log=servers.logs)
        servers.stop(victim)
        middle = len(done)
        until("rows without it", lambda m=middle: len(done) > m + 20 or wrong, log=servers.logs)
        servers.start(victim)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not wrong, wrong[:3]
    assert everywhere(servers, "SELECT count(*) FROM rolled") == [[2 * len(done)]]
