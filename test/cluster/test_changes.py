"""The change feed: GET /changes/TABLE on one server (docs/changes.md)."""
import json
import pathlib
import signal
import subprocess
import sys
import threading
import uuid

import pytest

from conftest import PASSWORD, USER, basic

ROOT = pathlib.Path(__file__).resolve().parents[2]


def execute(cluster, sql, status=200, **kwargs):
    answer = cluster.request("POST", "/db/execute", json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"}, **kwargs)
    assert answer.status == status, answer.body
    return answer


def together(cluster, *statements):
    body = json.dumps({"statements": statements, "transaction": True}).encode()
    answer = cluster.request("POST", "/db/execute", body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body


def changes(cluster, table, status=200, **parameters):
    """All events of a feed that ends by itself."""
    parameters = {"follow": "false", **parameters}
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    answer = cluster.get(f"/changes/{table}?{query}")
    assert answer.status == status, (answer.status, answer.body)
    if status != 200:
        return answer.json()["error"]
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


def rows(events):
    return [event for event in events if "row" in event or "old" in event]


def token(events):
    assert events[-1]["op"] == "resolved", events[-3:]
    return events[-1]["token"]


class Feed:
    """A feed that follows, on a connection of its own."""

    def __init__(self, cluster, table, port=None, headers=None, **parameters):
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        self.connection = cluster.connection(port)
        self.connection.request("GET", f"/changes/{table}?{query}", headers={"Authorization": basic((USER, PASSWORD)), **(headers or {})})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.token = None
        self.events = []

    def next(self):
        line = self.answer.readline()
        if not line:
            return None
        event = json.loads(line)
        if event["op"] == "resolved":
            self.token = event["token"]
        return event

    def take(self, count):
        """So many events of rows, and the token behind them."""
        found = []
        while len(found) < count:
            event = self.next()
            assert event, f"the feed ended after {found}"
            if event["op"] != "resolved":
                found.append(event)
        before = self.token
        while self.token == before:
            assert self.next()["op"] == "resolved"
        return found

    def close(self):
        self.connection.close()


@pytest.fixture
def table(cluster):
    """table(columns) -> its name; gone after the test."""
    made = []

    def make(columns="k INTEGER, v VARCHAR", partitioned="k"):
        made.append("c_" + uuid.uuid4().hex[:12])
        execute(cluster, f"CREATE TABLE {made[-1]} ({columns})" + (f" PARTITIONED BY ({partitioned})" if partitioned else ""))
        return made[-1]

    yield make
    for name in made:
        execute(cluster, f"DROP TABLE IF EXISTS {name}")


# ---- what is told ----

@pytest.mark.parametrize("partitioned", ["k", ""])
def test_inserts(cluster, table, partitioned):
    name = table(partitioned=partitioned)
    start = token(changes(cluster, name))
    execute(cluster, f"INSERT INTO {name} VALUES (1, 'a'), (2, NULL), (3, 'c')")
    execute(cluster, f"INSERT INTO {name} VALUES (4, 'd')")
    events = changes(cluster, name, **{"from": start})
    told = rows(events)
    assert sorted(event["row"]["k"] for event in told) == [1, 2, 3, 4]
    assert {event["op"] for event in told} == {"insert"}
    assert next(event for event in told if event["row"]["k"] == 2)["row"] == {"k": 2, "v": None}
    assert len({event["rid"] for event in told}) == 4
    assert len({(event["shard"], event["index"], event["n"]) for event in told}) == 4
    assert changes(cluster, name, **{"from": token(events)})[:-1] == []
    assert [event["row"]["k"] for event in rows(changes(cluster, name, **{"from": start}))] == [event["row"]["k"] for event in told]


def test_updates_and_deletes(cluster, table):
    name = table()
    execute(cluster, f"INSERT INTO {name} SELECT range, 'v' || range FROM range(10)")
    before = rows(changes(cluster, name, **{"from": "kept"}))
    rids = {event["row"]["k"]: event["rid"] for event in before}
    assert len(rids) == 10
    start = token(changes(cluster, name))
    execute(cluster, f"UPDATE {name} SET v = 'new' WHERE k < 3")
    execute(cluster, f"DELETE FROM {name} WHERE k = 5")
    execute(cluster, f"TRUNCATE {name}")
    told = rows(changes(cluster, name, **{"from": start}))
    updates = {event["row"]["k"]: event for event in told if event["op"] == "update"}
    assert set(updates) == {0, 1, 2}
    for k, event in updates.items():
        assert event["old"] == {"k": k, "v": f"v{k}"} and event["row"] == {"k": k, "v": "new"} and event["rid"] == rids[k]
    deletes = [event for event in told if event["op"] == "delete"]
    assert sorted(event["old"]["k"] for event in deletes) == list(range(10))
    assert all("row" not in event and event["rid"] == rids[event["old"]["k"]] for event in deletes)
    first = next(event for event in deletes if event["old"]["k"] == 5)
    assert first["old"]["v"] == "v5"
    assert all(event["old"]["v"] == "new" for event in deletes if event["old"]["k"] < 3)


@pytest.mark.parametrize("which, expected", [("true", range(30000)), ("k % 97 = 0", range(0, 30000, 97)), ("k IN (1, 29999)", [1, 29999])])
def test_many_rows_as_they_were(cluster, table, which, expected):
    """Rows that lie close, or far from each other, are found in different ways."""
    name = table(partitioned="")
    execute(cluster, f"INSERT INTO {name} SELECT range, 'v' || range FROM range(30000)")
    start = token(changes(cluster, name))
    execute(cluster, f"UPDATE {name} SET v = 'w' || k WHERE {which}")
    execute(cluster, f"DELETE FROM {name} WHERE {which}")
    told = rows(changes(cluster, name, **{"from": start}))
    updates = {event["row"]["k"]: event for event in told if event["op"] == "update"}
    deletes = {event["old"]["k"]: event for event in told if event["op"] == "delete"}
    assert sorted(updates) == list(expected) == sorted(deletes) and len(told) == 2 * len(expected)
    assert all(updates[k]["old"] == {"k": k, "v": f"v{k}"} and updates[k]["row"]["v"] == f"w{k}" for k in expected)
    assert all(deletes[k]["old"]["v"] == f"w{k}" for k in expected)


def test_a_row_that_moves_is_deleted_and_inserted(cluster, table):
    name = table()
    execute(cluster, f"INSERT INTO {name} SELECT range, 'x' FROM range(8)")
    start = token(changes(cluster, name))
    execute(cluster, f"UPDATE {name} SET k = k + 1000")
    told = rows(changes(cluster, name, **{"from": start}))
    gone = {event["old"]["k"] for event in told if event["op"] in ("delete", "update")}
    come = {event["row"]["k"] for event in told if event["op"] in ("insert", "update")}
    assert gone == set(range(8)) and come == set(range(1000, 1008))
    assert len({event["commit"] for event in told}) == 1


def test_a_transaction_has_one_commit(cluster, table):
    one, other = table(), table(partitioned="")
    start, there = token(changes(cluster, one)), token(changes(cluster, other))
    together(cluster, f"INSERT INTO {one} SELECT range, 't' FROM range(40)", f"INSERT INTO {other} VALUES (1, 't')",
             f"DELETE FROM {one} WHERE k = 7", f"UPDATE {one} SET v = 'u' WHERE k = 8")
    told, also = rows(changes(cluster, one, **{"from": start})), rows(changes(cluster, other, **{"from": there}))
    assert len({event["commit"] for event in told + also}) == 1
    assert len({event["shard"] for event in told}) == 4
    assert sorted(event["row"]["k"] for event in told) == [k for k in range(40) if k != 7]
    assert next(event for event in told if event["row"]["k"] == 8)["row"]["v"] == "u"
    failed = json.dumps({"statements": [f"INSERT INTO {one} VALUES (99, 'x')", "INSERT INTO nowhere VALUES (1)"], "transaction": True})
    assert cluster.request("POST", "/db/execute", failed.encode(), {"Content-Type": "application/json"}).status == 400
    assert len(rows(changes(cluster, one, **{"from": start}))) == len(told)


def test_values_are_those_of_query(cluster, table):
    name = table("""k INTEGER, big BIGINT, huge HUGEINT, money DECIMAL(12, 2), real DOUBLE, day DATE, moment TIMESTAMP,
        zoned TIMESTAMPTZ, bytes BLOB, list INTEGER[], struct STRUCT(a INTEGER, b VARCHAR), map MAP(VARCHAR, INTEGER), id UUID, yes BOOLEAN,
        mood ENUM('low', 'high'), "rid" VARCHAR, "Slot" VARCHAR, "it's \"\"odd\"\"" TIME""")
    execute(cluster, f"""INSERT INTO {name} VALUES
        (1, 9007199254740993, 170141183460469231731687303715884105727, 12.50, 'nan', '2026-02-03', '2026-02-03 04:05:06.789',
         '2026-02-03 04:05:06+02', '\\x00\\xff'::BLOB, [1, NULL, 3], {{'a': 1, 'b': 'x'}}, MAP {{'m': 7}},
         '7ca8c2f5-1f0a-4a5c-8a3d-3f0a4a5c8a3d', true, 'high', 'r', 's', '01:02:03'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""")
    answer = cluster.get(f"/db/query?format=ndjson&q=SELECT+*+FROM+{name}+ORDER+BY+k").body.splitlines()
    expected = [json.loads(line) for line in answer]
    for start in ("kept", "start"):
        told = sorted((event["row"] for event in rows(changes(cluster, name, **{"from": start}))), key=lambda row: row["k"])
        assert told == expected, start
    execute(cluster, f"DELETE FROM {name}")
    told = [event["old"] for event in rows(changes(cluster, name, **{"from": "kept"})) if event["op"] == "delete"]
    assert sorted(told, key=lambda row: row["k"]) == expected


# ---- from where, and until when ----

def test_start_is_a_snapshot_and_then_changes(cluster, table):
    name = table()
    execute(cluster, f"INSERT INTO {name} SELECT range, 'old' FROM range(5000)")
    feed = Feed(cluster, name, **{"from": "start"})
    assert sorted(event["row"]["k"] for event in feed.take(5000)) == list(range(5000))
    execute(cluster, f"INSERT INTO {name} VALUES (6000, 'new')")
    event = feed.take(1)[0]
    assert event["op"] == "insert" and event["row"] == {"k": 6000, "v": "new"}
    feed.close()
    empty = table()
    assert [event["op"] for event in changes(cluster, empty, **{"from": "0"})] == ["resolved"]
    assert rows(changes(cluster, "lineitem", **{"from": "start"}))[0]["op"] == "read"


def test_following(cluster, table):
    name = table()
    feed = Feed(cluster, name)
    for k in range(5):
        execute(cluster, f"INSERT INTO {name} VALUES ({k}, 'x')")
        assert feed.take(1)[0]["row"]["k"] == k
    feed.close()
    again = Feed(cluster, name, **{"from": feed.token})
    execute(cluster, f"INSERT INTO {name} VALUES (5, 'y')")
    assert again.take(1)[0]["row"] == {"k": 5, "v": "y"}
    again.close()
    quiet = Feed(cluster, name, heartbeat="200ms")
    assert [quiet.next()["op"] for _ in range(3)] == ["resolved"] * 3
    quiet.close()


def test_limit_keeps_commits_whole(cluster, table):
    name = table(partitioned="")
    start = token(changes(cluster, name))
    for k in range(4):
        execute(cluster, f"INSERT INTO {name} SELECT {k}, 'x' FROM range(10)")
    place, seen = start, []
    for _ in range(10):
        events = changes(cluster, name, limit=15, **{"from": place})
        place = token(events)
        seen += [event["row"]["k"] for event in rows(events)]
        assert len(rows(events)) % 10 == 0
    assert seen == [k for k in range(4) for _ in range(10)]


def test_server_sent_events(cluster, table):
    name = table()
    start = token(changes(cluster, name))
    execute(cluster, f"INSERT INTO {name} VALUES (1, 'one')")
    answer = cluster.get(f"/changes/{name}?follow=false", headers={"Accept": "text/event-stream", "Last-Event-ID": start})
    assert answer.headers["Content-Type"] == "text/event-stream"
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in answer.body.decode().strip().split("\n\n")]
    assert [block["event"] for block in blocks] == ["insert", "resolved"]
    assert json.loads(blocks[0]["data"])["row"] == {"k": 1, "v": "one"}
    assert blocks[1]["id"] == json.loads(blocks[1]["data"])["token"]


# ---- tables come and go ----

def test_drop_ends_the_feed(cluster, table):
    name = table()
    feed = Feed(cluster, name)
    execute(cluster, f"INSERT INTO {name} VALUES (1, 'x')")
    feed.take(1)
    execute(cluster, f"DROP TABLE {name}")
    seen = []
    while event := feed.next():
        seen.append(event)
    assert seen[-1] == {"op": "end", "reason": "dropped"}
    assert [event["op"] for event in seen if event["op"] == "drop"] == ["drop"] * 4
    assert changes(cluster, name, 400)["sqlstate"] == "42P01"
    execute(cluster, f"CREATE TABLE {name} (k INTEGER, w DOUBLE) PARTITIONED BY (k)")
    assert changes(cluster, name, 410, **{"from": feed.token})["sqlstate"] == "55000"


def test_replaced_table(cluster, table):
    name = table()
    feed = Feed(cluster, name)
    execute(cluster, f"CREATE OR REPLACE TABLE {name} (k INTEGER) PARTITIONED BY (k)")
    while (event := feed.next()) and event["op"] != "end":
        pass
    assert event == {"op": "end", "reason": "replaced"}


def test_an_altered_table(cluster, table):
    """Names change on the way; rows that are made anew end the feed."""
    name = table()
    feed = Feed(cluster, name)
    execute(cluster, f"INSERT INTO {name} VALUES (1, 'x')")
    assert feed.take(1)[0]["row"] == {"k": 1, "v": "x"}
    execute(cluster, f"ALTER TABLE {name} RENAME COLUMN v TO w")
    execute(cluster, f"UPDATE {name} SET w = 'y'")
    columns, update = feed.take(2)
    assert columns["op"] == "columns" and columns["columns"] == ["k", "w"]
    assert (update["old"], update["row"]) == ({"k": 1, "w": "x"}, {"k": 1, "w": "y"})
    execute(cluster, f"ALTER TABLE {name} ADD COLUMN n INTEGER DEFAULT 5")
    while (event := feed.next()) and event["op"] != "end":
        assert event["op"] in ("resolved", "drop"), event
    assert event == {"op": "end", "reason": "replaced"}
    assert [event["row"] for event in rows(changes(cluster, name, **{"from": "start"}))] == [{"k": 1, "w": "y", "n": 5}]


def test_a_renamed_table(cluster, table):
    """It is followed under its other name, and what replaces it is no drop."""
    name = table()
    feed = Feed(cluster, name)
    execute(cluster, f"ALTER TABLE {name} RENAME TO {name}_2")
    execute(cluster, f"INSERT INTO {name}_2 VALUES (1, 'x')")
    assert feed.take(1)[0]["row"] == {"k": 1, "v": "x"}
    execute(cluster, f"ALTER TABLE {name}_2 ADD COLUMN n INTEGER")
    while (event := feed.next()) and event["op"] != "end":
        assert event["op"] in ("resolved", "drop"), event
    assert event == {"op": "end", "reason": "replaced"}
    execute(cluster, f"DROP TABLE {name}_2")


# ---- what is refused ----

def test_refusals(cluster, table):
    name = table()
    assert changes(cluster, "nowhere", 400)["sqlstate"] == "42P01"
    assert changes(cluster, "", 400)["sqlstate"] == "22023"
    for bad in ({"from": "yesterday"}, {"from": "v1.zz"}, {"limit": "-1"}, {"limit": "x"}, {"heartbeat": "1"}, {"heartbeat": "1h"},
                {"heartbeat": "5s;"}, {"format": "xml"}):
        if bad == {"heartbeat": "1"}:
            assert changes(cluster, name, **bad)
        else:
            assert changes(cluster, name, 400, **bad)["sqlstate"] == "22023", bad
    far = token(changes(cluster, name)).rsplit("-", 1)[0] + "-999999999"
    assert "ahead" in changes(cluster, name, 400, **{"from": far})["message"]
    other = token(changes(cluster, table()))
    assert changes(cluster, name, 410, **{"from": other})["hint"]
    view = "w_" + name
    execute(cluster, f"CREATE VIEW {view} AS SELECT 1 AS one")
    assert changes(cluster, view, 400)["sqlstate"] == "42809"
    execute(cluster, f"DROP VIEW {view}")
    assert cluster.get(f"/changes/{name}?follow=false", login=None).status == 401
    assert cluster.get(f"/changes/{name}?follow=false", login=("worker", "united")).status == 403
    assert cluster.request("POST", f"/changes/{name}").status == 405


def test_too_many_feeds_are_refused(cluster, table):
    name = table()
    feeds = [Feed(cluster, name) for _ in range(64)]
    answer = cluster.get(f"/changes/{name}")
    assert answer.status == 503 and answer.json()["error"]["sqlstate"] == "53300"
    for feed in feeds:
        feed.close()

    def open_again():
        return cluster.get(f"/changes/{name}?follow=false").status == 200

    event = threading.Event()
    for _ in range(600):
        if open_again():
            break
        event.wait(0.1)
    assert open_again()
    assert b"merganser_change_feeds " in cluster.get("/metrics").body


# ---- one order, once, whatever happens ----

class Mirror:
    """A table as a feed tells it; complains of anything that is told twice, or does not fit."""

    def __init__(self):
        self.rows, self.places = {}, set()

    def apply(self, event):
        rid = event["rid"]
        if event["op"] == "read":
            assert rid not in self.rows
            self.rows[rid] = event["row"]
            return
        place = (event["shard"], event["index"], event["n"])
        assert place not in self.places, f"{event} came twice"
        self.places.add(place)
        if event["op"] == "insert":
            assert rid not in self.rows, event
            self.rows[rid] = event["row"]
        elif event["op"] == "update":
            assert self.rows[rid] == event["old"], event
            self.rows[rid] = event["row"]
        else:
            assert self.rows.pop(rid) == event["old"], event

    def content(self):
        return sorted((row["k"], row["v"]) for row in self.rows.values())


def writers(cluster, name, stop, count=3):
    def write(number):
        step = 0
        while not stop.is_set():
            step += 1
            k = number * 100000 + step
            body = json.dumps({"statements": [
                f"INSERT INTO {name} VALUES ({k}, 'a{step}'), ({k + 50000}, 'b{step}')",
                f"UPDATE {name} SET v = v || '!' WHERE k = {k - 3}",
                f"DELETE FROM {name} WHERE k = {k - 7}"], "transaction": step % 2 == 0}).encode()
            try:
                cluster.request("POST", "/db/execute", body, {"Content-Type": "application/json"})
            except OSError:
                pass

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_snapshot_under_writers_meets_its_changes(cluster, table):
    name = table()
    execute(cluster, f"INSERT INTO {name} SELECT -range, 'x' FROM range(1, 20000)")
    stop = threading.Event()
    threads = writers(cluster, name, stop)
    mirrors = []
    for _ in range(4):
        mirror = Mirror()
        events = changes(cluster, name, **{"from": "start"})
        for event in rows(events):
            mirror.apply(event)
        mirrors.append((mirror, token(events)))
    stop.set()
    for thread in threads:
        thread.join()
    expected = sorted((k, v) for k, v in cluster.rows(f"SELECT k, v FROM {name}"))
    for mirror, place in mirrors:
        for event in rows(changes(cluster, name, **{"from": place})):
            mirror.apply(event)
        assert mirror.content() == expected


def test_rows_as_they_were_take_no_memory(cluster, table):
    """More of them than a feed keeps in memory."""
    name = table(partitioned="")
    execute(cluster, f"INSERT INTO {name} SELECT range, repeat('x', 5000) || range FROM range(3000)")
    start = token(changes(cluster, name))
    execute(cluster, f"UPDATE {name} SET v = 'short'")
    told = rows(changes(cluster, name, **{"from": start}))
    assert len(told) == 3000 and {event["row"]["v"] for event in told} == {"short"}
    assert all(event["old"]["v"] == "x" * 5000 + str(event["row"]["k"]) for event in told)


def test_a_killed_server_goes_on_with_the_same_token(new_cluster):
    one = new_cluster(scale=0)
    one.start_server()
    execute(one, "CREATE TABLE t (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    mirror, place = Mirror(), token(changes(one, "t"))
    for _ in range(3):
        stop = threading.Event()
        threads = writers(one, "t", stop, 2)
        feed = Feed(one, "t", **{"from": place})
        seen, pending = 0, []
        while seen < 60:
            event = feed.next()
            if event["op"] == "resolved":
                for old in pending:
                    mirror.apply(old)
                pending, place = [], event["token"]
            else:
                pending.append(event)
                seen += 1
        one.processes["server"].send_signal(signal.SIGKILL)
        one.processes["server"].wait()
        stop.set()
        for thread in threads:
            thread.join()
        feed.close()
        one.start_server()
    for event in rows(changes(one, "t", **{"from": place})):
        mirror.apply(event)
    assert mirror.content() == sorted((k, v) for k, v in one.rows("SELECT k, v FROM t"))


def test_what_is_kept_is_bounded(new_cluster):
    one = new_cluster(scale=0, shards=1)
    one.start_server("--changes-retention", "1MiB")
    execute(one, "CREATE TABLE t (k INTEGER, v VARCHAR)")
    place = token(changes(one, "t"))
    for _ in range(8):
        execute(one, "INSERT INTO t SELECT range, repeat('x', 200) FROM range(2000)")
    gone = changes(one, "t", 410, **{"from": place})
    assert gone["sqlstate"] == "55000" and "from=start" in gone["hint"]
    assert len(rows(changes(one, "t", **{"from": "start"}))) == 16000
    assert len(rows(changes(one, "t", **{"from": "kept"}))) < 16000
    assert sum(path.stat().st_size for path in (one.data / "changes").iterdir()) < 3 << 20
    one.stop()
    one.start_server("--changes-retention", "0")
    assert changes(one, "t", 501)["sqlstate"] == "0A000"
    assert not (one.data / "changes").exists()


def test_the_example_keeps_a_copy(cluster, table, tmp_path):
    name, file = table(), tmp_path / "copy.json"

    def copy():
        result = subprocess.run([sys.executable, ROOT / "examples" / "follow_changes.py", "--url", cluster.url, "--tls-roots", cluster.ca,
                                 "--username", USER, "--password", PASSWORD, "--table", name, "--file", file, "--once"],
                                capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return sorted((row["k"], row["v"]) for row in json.loads(file.read_text())["rows"].values())

    execute(cluster, f"INSERT INTO {name} SELECT range, 'x' FROM range(50)")
    assert copy() == [(k, "x") for k in range(50)]
    execute(cluster, f"DELETE FROM {name} WHERE k >= 10")
    execute(cluster, f"UPDATE {name} SET v = 'y' WHERE k = 3")
    assert copy() == [(k, "y" if k == 3 else "x") for k in range(10)]
    execute(cluster, f"CREATE OR REPLACE TABLE {name} (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    assert copy() == []


# ---- as a table of SQL ----

def test_changes_as_a_table(cluster, table):
    name, other = table(), table(partitioned="")
    assert cluster.rows(f"SELECT count(*) FROM cluster.changes('{name}')") == [[0]]
    execute(cluster, f"INSERT INTO {name} SELECT range, 'it''s' FROM range(3000)")
    execute(cluster, f"UPDATE {name} SET v = 'new' WHERE k = 7")
    execute(cluster, f"DELETE FROM {name} WHERE k > 2997")
    execute(cluster, f"INSERT INTO {other} VALUES (1, 'o')")
    assert cluster.rows(f"SELECT op, count(*) FROM cluster.changes('{name}') GROUP BY op ORDER BY op") == [
        ["delete", 2], ["insert", 3000], ["update", 1]]
    assert cluster.rows(f"""SELECT old->>'v', "row"->>'v', rid IS NOT NULL, shard > 0 FROM cluster.changes('{name}') AS c
        WHERE c.op = 'update'""") == [["it's", "new", True, True]]
    assert cluster.rows(f"SELECT a.n, b.k FROM (SELECT count(*) AS n FROM cluster.changes('{name}')) a, "
                        f"(SELECT \"row\"->>'k' AS k FROM \"cluster\".Changes('{other}', 'kept')) b") == [[3003, "1"]]
    place = cluster.rows(f"SELECT max(token) FROM cluster.changes('{name}')")[0][0]
    assert cluster.rows(f"SELECT * FROM cluster.changes('{name}', '{place}')") == []
    execute(cluster, f"INSERT INTO {name} VALUES (5000, NULL)")
    assert cluster.rows(f"SELECT op, \"row\" FROM cluster.changes('{name}', '{place}')") == [["insert", {"k": 5000, "v": None}]]
    assert cluster.rows(f"SELECT count(*) FROM cluster.changes('{name}', 'start')") == [[2999]]
    assert "3004" in cluster.sql(f"SELECT count(*) FROM cluster.changes('{name}')")
    assert "42P01" in cluster.refused("SELECT * FROM cluster.changes('nowhere')")
    assert "22023" in cluster.refused("SELECT * FROM cluster.changes(1)")
    assert "22023" in cluster.refused(f"SELECT * FROM cluster.changes('{name}' || 'x')")
    assert "22023" in cluster.refused(f"SELECT * FROM cluster.changes('{name}', 'yesterday')")
    calls = " UNION ALL ".join([f"SELECT op FROM cluster.changes('{name}')"] * 5)
    assert "54000" in cluster.refused(calls)
    assert "changes('" in cluster.sql("SELECT 'cluster.changes(''x'')' AS t")
    execute(cluster, f"INSERT INTO {name} SELECT range, repeat('x', 1000) FROM range(20000)")
    assert "54000" in cluster.refused(f"SELECT count(*) FROM cluster.changes('{name}')")
