"""ALTER under load: readers see the old table or the new one, whole; whoever dies, it ends in one of them everywhere."""
import json
import threading

import pytest

import duckdb

from servers_kit import Servers, until

pytestmark = pytest.mark.threads

JSON = {"Content-Type": "application/json"}
ROWS = 3000
# Round and round: each works on what the one before has made, and fails, or does nothing, where that did not happen.
STEPS = ["ADD COLUMN c INTEGER DEFAULT 7", "RENAME COLUMN v TO w", "RESET PARTITIONED BY", "ALTER n TYPE VARCHAR", "RENAME COLUMN w TO v",
         "DROP COLUMN c", "SET PARTITIONED BY (k)", "ALTER n TYPE INTEGER"]


def post(ask, path, document, **kwargs):
    return ask("POST", path, json.dumps(document).encode(), headers=JSON, **kwargs)


def row_is_whole(answer):
    """Row 7, whatever its columns are called now and of which types."""
    result = answer.json()["result"]
    row = dict(zip(result["columns"], result["values"][0]))
    text = row.pop("v", None) or row.pop("w", None)
    return len(result["values"]) == 1 and row.pop("k") == 7 and str(row.pop("n")) == "2" and text == "v7" and row in ({}, {"c": 7})


class Readers:
    """Threads that read without a pause; `wrong` is what they have seen that is nobody's truth."""

    def __init__(self, asks, may_fail):
        self.asks, self.may_fail, self.stop, self.wrong, self.good = asks, may_fail, threading.Event(), [], [0] * len(asks)
        self.threads = [threading.Thread(target=self.read, args=(i,), daemon=True) for i in range(len(asks))]
        for thread in self.threads:
            thread.start()

    def read(self, number):
        ask = self.asks[number]
        while not self.stop.is_set():
            try:
                self.look(post(ask, "/db/query", {"sql": "SELECT count(*) FILTER (k < 3000), count(DISTINCT k) FILTER (k < 3000) FROM t"}),
                          lambda answer: answer.json()["result"]["values"] == [[ROWS, ROWS]])
                self.look(post(ask, "/db/query", {"sql": "SELECT * FROM t WHERE k = 7"}), row_is_whole)
                self.good[number] += 1
            except OSError as error:
                if not self.may_fail:
                    self.wrong.append(error)

    def look(self, answer, is_good):
        if answer.status != 200 and self.may_fail and answer.status in (503, 504):
            return
        if answer.status != 200 or not is_good(answer):
            self.wrong.append(answer.body[:300])

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.wrong, self.wrong[:3]


def make(ask):
    for sql in ("CREATE TABLE t (k INTEGER, v VARCHAR, n INTEGER) PARTITIONED BY (k)",
                f"INSERT INTO t SELECT i, 'v' || i, i % 5 FROM range({ROWS}) r(i)"):
        answer = post(ask, "/db/execute", {"sql": sql})
        assert answer.status == 200, answer.body


def test_readers_go_on_and_writers_lose_nothing(new_cluster):
    cluster = new_cluster(scale=0, shards=3)
    cluster.start_server()
    make(cluster.request)
    readers = Readers([cluster.request] * 2, may_fail=False)
    written, stop, wrong = [], threading.Event(), []

    def write():
        while not stop.is_set():
            key = 10000 + len(written)
            answer = post(cluster.request, "/db/execute", {"sql": f"INSERT INTO t (k) VALUES ({key})"})
            (written if answer.status == 200 else wrong).append(key if answer.status == 200 else answer.body)

    writer = threading.Thread(target=write)
    writer.start()
    for step in STEPS:
        answer = post(cluster.request, "/db/execute", {"sql": f"ALTER TABLE t {step}"})
        assert answer.status == 200, (step, answer.body)
    before = sum(readers.good)
    until("readers behind the last", lambda: sum(readers.good) > before + 2 or readers.wrong)
    stop.set()
    writer.join(60)
    readers.end()
    assert not wrong, wrong[:3]
    assert cluster.rows("SELECT count(*), count(DISTINCT k) FROM t WHERE k >= 10000") == [[len(written), len(written)]]
    assert cluster.rows("SELECT partitioned_by::VARCHAR FROM cluster.tables WHERE name = 't'")[0][0].strip("[]") == "k"


def test_workers_follow(new_cluster):
    cluster = new_cluster(scale=0, shards=2)
    cluster.start_server()
    cluster.start_worker("worker-1")
    cluster.wait_workers(1)
    make(cluster.request)
    for step in ("RENAME COLUMN v TO w", "RENAME COLUMN n TO v", "RENAME COLUMN w TO n", "RENAME TO u"):
        assert post(cluster.request, "/db/execute", {"sql": f"ALTER TABLE t {step}"}).status == 200
    cluster.wait_copies(2)
    sql = "SELECT v, count(*), min(n) FROM u GROUP BY v ORDER BY v"
    expected = [[i, ROWS // 5, f"v{min((j for j in range(i, ROWS, 5)), key=lambda j: f'v{j}')}"] for i in range(5)]
    answers = []

    def takes_part():
        """On a busy machine it may miss the 50 ms that it has."""
        answers.append(cluster.rows(sql, "?strategy=cut"))
        return cluster.rows("SELECT max(workers) FROM cluster.query_history WHERE sql LIKE '%min(n)%'") == [[1]]

    until("an answer with the worker's part", takes_part, log=cluster.log)
    assert all(answer == expected for answer in answers), answers
    cluster.stop()
    cluster.run("export", "--data-dir", cluster.data, "-o", cluster.dir / "all.duckdb")  # from the files, which have the first names
    assert duckdb.connect(str(cluster.dir / "all.duckdb")).execute("SELECT * FROM u WHERE k = 7").fetchall() == [(7, "v7", 2)]


def test_a_coordinator_that_is_killed_leaves_the_old_or_the_new(new_cluster):
    """Of every statement: ALTER, and tables that come with their rows and go."""
    statements = [f"ALTER TABLE t {step}" for step in STEPS]
    for at, statement in ((6, "DROP TABLE made"), (2, "CREATE TABLE made PARTITIONED BY (k) AS SELECT k, n FROM t WHERE k < 1000")):
        statements.insert(at, statement)
    servers = Servers(new_cluster, scale=0, shards=3)
    servers.start_all()
    asks = {name: lambda *args, _name=name, **kwargs: servers.request(_name, *args, **kwargs) for name in servers.names}
    make(asks[servers.coordinator()])
    asks = {name: lambda *args, _port=servers.ports[name], **kwargs: servers.cluster.request(*args, port=_port, **kwargs)
            for name in servers.names}
    readers = Readers(list(asks.values()), may_fail=True)
    done, stop, steps = [], threading.Event(), []

    def alter():
        while not stop.is_set():
            step, name = statements[len(steps) % len(statements)], servers.names[len(steps) % 3]
            try:
                answer = post(asks[name], "/db/execute", {"sql": step})
                if answer.status == 503:
                    continue  # nothing was done
                steps.append((step, answer.status))
            except OSError:
                steps.append((step, 0))

    def write():
        key = 10000
        while not stop.is_set():
            key += 1
            try:
                if post(asks[servers.names[key % 3]], "/db/execute", {"sql": f"INSERT INTO t (k) VALUES ({key})"}).status == 200:
                    done.append(key)
            except OSError:
                pass

    threads = [threading.Thread(target=alter), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = len(steps)
        until("some steps", lambda b=before: len(steps) > b + 3 or readers.wrong, log=servers.logs)
        victim = servers.coordinator()
        servers.kill(victim)
        before = len(done)
        until("writes by another one", lambda b=before: len(done) > b + 3 or readers.wrong, log=servers.logs)
        servers.start(victim)
    stop.set()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    readers.end()
    assert min(readers.good) > 0
    seen = [(servers.rows(name, "DESCRIBE t"), servers.rows(name, "SELECT partitioned_by FROM cluster.tables WHERE name = 't'"))
            for name in servers.names]
    assert seen[0] == seen[1] == seen[2], (seen, steps)
    made = [servers.rows(name, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'made'") for name in servers.names]
    assert made[0] == made[1] == made[2], (made, steps)
    for name in servers.names if made[0] == [[1]] else ():
        sql = "SELECT count(*), count(DISTINCT k), sum(n::INTEGER)::INTEGER FROM made"
        assert servers.rows(name, sql) == [[1000, 1000, 2000]], (name, steps)
    for name in servers.names:
        there = [row[0] for row in servers.rows(name, "SELECT k FROM t WHERE k >= 10000")]
        assert len(there) == len(set(there)) and set(done) <= set(there), (name, steps)
        assert servers.rows(name, "SELECT count(*), count(DISTINCT k) FROM t WHERE k < 10000") == [[ROWS, ROWS]], (name, steps)


def test_more_than_one_entry_holds_slow(new_cluster):
    """A statement stores at most 48 MB in a shard; ALTER has no such bound."""
    cluster = new_cluster(scale=0, shards=3)
    cluster.start_server()
    sql = "CREATE TABLE big AS SELECT i AS k, md5(i::VARCHAR) AS t FROM range(2000000) r(i)"
    assert post(cluster.request, "/db/execute", {"sql": sql}, timeout=600).status == 200
    expected = cluster.rows("SELECT count(*), count(DISTINCT k), sum(hash(k, t))::VARCHAR FROM big")
    for step in ("SET PARTITIONED BY (k)", "ADD COLUMN c VARCHAR DEFAULT 'x'", "SET PARTITIONED BY (t)", "RESET PARTITIONED BY"):
        answer = post(cluster.request, "/db/execute", {"sql": f"ALTER TABLE big {step}"}, timeout=600)
        assert answer.status == 200, (step, answer.body)
        assert cluster.rows("SELECT count(*), count(DISTINCT k), sum(hash(k, t))::VARCHAR FROM big", timeout=600) == expected, step
