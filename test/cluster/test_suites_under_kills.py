"""The suites of queries, and a writer, over three servers and two workers that are killed and started again in turn."""
import http.client
import itertools
import math
import os
import pathlib
import shutil
import subprocess
import threading
import time

import duckdb
import pytest

from servers_kit import Servers, until

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "queries"
BUILD = pathlib.Path(os.environ.get("MG_BUILD", QUERIES.parent / "build"))


def truth_of(directory, work):
    """Plain DuckDB over copies of the files that bootstrap has made: one view for each table, by its name as queries say it."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    tables = {}
    for number, path in enumerate(sorted((directory / "shards").glob("*.duckdb"))):
        copy = shutil.copy(path, work / f"truth-{path.name}")
        con.execute(f"ATTACH '{copy}' AS s{number} (READ_ONLY)")
        for schema, table in con.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? "
                                         "AND schema_name NOT LIKE '\\_mg%' ESCAPE '\\'", [f"s{number}"]).fetchall():
            tables.setdefault((schema, table), []).append(f"SELECT * EXCLUDE (_mg_rid, _mg_slot) FROM s{number}.{schema}.{table}")
    for (schema, table), parts in tables.items():
        con.execute(f"CREATE SCHEMA IF NOT EXISTS memory.{schema}")
        con.execute(f"CREATE TABLE memory.{schema}.{table} AS " + " UNION ALL ".join(parts))
    return con


def plain(value):
    """A number as a number, however it is written; the rest as text."""
    if value is None or isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def same(ours, truth):
    def order(row):
        return [f"{value:.6e}" if isinstance(value, float) else str(value) for value in row]

    ours, truth = (sorted([[plain(value) for value in row] for row in rows], key=order) for rows in (ours, truth))
    return len(ours) == len(truth) and all(
        len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9) if isinstance(x, float) and isinstance(y, float)
                                 else x == y for x, y in zip(a, b)) for a, b in zip(ours, truth))


class Asker:
    """A client that knows all servers: one that does not answer, or says that nothing was done, costs a try elsewhere."""

    def __init__(self, servers):
        self.servers, self.turn = servers, itertools.cycle(servers.names)

    def ask(self, path, document, headers=(), seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            name = next(self.turn)
            try:
                answer = self.servers.post(name, path, document, headers)
                if answer.status == 200:
                    return answer.json()["result"]
                last = answer.json()["error"]
                assert answer.status in (503, 504), (name, document, last)
            except (OSError, http.client.HTTPException) as error:
                last = error
            assert time.monotonic() < deadline, (document, last, self.servers.logs())
            time.sleep(0.05)


class Writer(threading.Thread):
    """Inserts numbers one by one; those that were acknowledged must be there in the end, once."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.asker, self.stopping, self.acknowledged, self.error = Asker(servers), threading.Event(), [], None

    def run(self):
        try:
            while not self.stopping.is_set():
                number = len(self.acknowledged)
                # With its key it may be asked again when nobody knows the outcome.
                self.asker.ask("/db/execute", {"sql": "INSERT INTO written VALUES (?)", "params": [number]},
                               {"Idempotency-Key": f"written-{number}"})
                self.acknowledged.append(number)
        except BaseException as error:  # noqa: BLE001 - the test tells it
            self.error = error


class Killer(threading.Thread):
    """Kills one server and one worker, starts them again, waits until both are of use, and goes on to the next."""

    def __init__(self, servers, workers):
        super().__init__(daemon=True)
        self.servers, self.workers, self.kills, self.stopping, self.error = servers, workers, 0, threading.Event(), None

    def run(self):
        try:
            for server, worker in zip(itertools.cycle(self.servers.names), itertools.cycle(self.workers)):
                if self.stopping.wait(1):
                    return
                self.servers.kill(server)
                self.servers.kill(worker)
                time.sleep(1)
                self.servers.start(server, wait=False)
                start_worker(self.servers, worker)
                until(f"{server} to be ready", lambda name=server: healthy(self.servers, name), log=self.servers.logs)
                self.kills += 1
        except BaseException as error:  # noqa: BLE001 - the test tells it
            self.error = error


def healthy(servers, name):
    return servers.cluster.request("GET", "/health", login=None, timeout=10, port=servers.ports[name]).status == 200


def start_worker(servers, name):
    addresses = ",".join(f"localhost:{port}" for port in servers.ports.values())
    servers.cluster.start_worker(name, "--server", addresses, "--threads", 1, "--memory-limit", "256MiB")


def statements_of(suite, *arguments):
    """What the test bed makes of a suite, one statement after the other."""
    bed = subprocess.run([BUILD / "test/sql/bed", "--suite", suite, "--list", "--dir", QUERIES.parent / "test/sql", *arguments],
                         check=True, capture_output=True, text=True)
    return bed.stdout.rstrip().removesuffix(";").split(";\n")


def tables_of_the_bed():
    """The tables of nasty.sql, as plain DuckDB makes them and as a cluster does, by the bed's standard placement."""
    keys = {"a": "k", "b": "k", "e": "k", "bn": "id", "edge": "src", "ty": "id"}
    lines = (QUERIES.parent / "test/sql/nasty.sql").read_text().splitlines()
    made = [line for line in lines if line.startswith("create ")]
    for line in made:
        name = line.split()[2]
        yield line, line.replace(f"{name} as ", f"{name} partitioned by ({keys[name]}) as ", 1) if name in keys else line


def as_text(sql):
    """The same rows with each value as text, which any type has; their order is not asked for."""
    return f"SELECT COLUMNS(*)::VARCHAR FROM ({sql}) AS rows_as_text"


def queries_of(suite):
    return {path.stem: path.read_text() for path in sorted((QUERIES / suite).glob("*.sql")) if path.stem != "star"}


def expect(truth, suite, queries, expected):
    """Answers of plain DuckDB; what it refuses has none."""
    for name, sql in queries:
        try:
            expected[suite, name] = sql, truth.execute(sql).fetchall()
        except duckdb.Error:
            continue


def unlike(client, expected):
    return [key for key, (sql, rows) in expected.items() if not same(client.ask("/db/query", {"sql": sql})["values"], rows)]


@pytest.mark.slow
def test_all_suites_are_answered_while_nodes_die(new_cluster):
    """TPC-DS, the nasty statements and generated ones, too; of TPC-DS those whose LIMIT may choose among ties are left out."""
    servers = Servers(new_cluster, scale=0.01, shards=4)
    cluster = servers.cluster
    cluster.run("bootstrap", "--data-dir", cluster.data, "--tpch-scale-factor", 0.01, "--shard-count", 4, "--ssb",
                "--tpcds-scale-factor", 0.01)
    truth, expected = truth_of(cluster.data, cluster.dir), {}
    servers.start_all()
    client, workers = Asker(servers), ["worker-a", "worker-b"]
    for plain_sql, ours in tables_of_the_bed():
        truth.execute(plain_sql)
        client.ask("/db/execute", {"sql": ours})
    for suite in ("tpch", "ssb", "tpcds"):
        expect(truth, suite, queries_of(suite).items(), expected)
    for suite, arguments in (("nasty", ()), ("generated", ("--seeds", "1..200"))):
        expect(truth, suite, ((number, as_text(sql)) for number, sql in enumerate(statements_of(suite, *arguments), 1)), expected)
    assert len(expected) > 600
    ties = unlike(client, expected)
    assert {suite for suite, _ in ties} <= {"tpcds", "nasty"} and len(ties) < 20, ties
    for key in ties:
        del expected[key]
    for worker in workers:
        start_worker(servers, worker)
    killer = Killer(servers, workers)
    killer.start()
    try:
        while killer.kills < 10:
            wrong = unlike(client, expected)
            assert not wrong and not killer.error, (wrong, killer.error)
    finally:
        killer.stopping.set()
        killer.join(120)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_suites_are_answered_while_nodes_die(new_cluster, kills):
    servers = Servers(new_cluster, scale=0.01, shards=4)
    cluster = servers.cluster
    cluster.run("bootstrap", "--data-dir", cluster.data, "--tpch-scale-factor", 0.01, "--shard-count", 4, "--ssb")
    truth, expected = truth_of(cluster.data, cluster.dir), {}
    for suite in ("tpch", "ssb"):
        for name, sql in queries_of(suite).items():
            expected[suite, name] = sql, truth.execute(sql).fetchall()
    servers.start_all()
    workers = ["worker-a", "worker-b"]
    for worker in workers:
        start_worker(servers, worker)
    client, writer, killer = Asker(servers), Writer(servers), Killer(servers, workers)
    client.ask("/db/execute", {"sql": "CREATE TABLE written (n INTEGER) PARTITIONED BY (n)"})
    writer.start()
    killer.start()
    rounds = 0
    try:
        while killer.kills < kills or not rounds:
            for (suite, name), (sql, rows) in expected.items():
                found = client.ask("/db/query", {"sql": sql})["values"]
                assert same(found, rows), (suite, name, found[:3], rows[:3])
                assert not writer.error and not killer.error, (writer.error, killer.error)
            rounds += 1
    finally:
        writer.stopping.set()
        killer.stopping.set()
        killer.join(120)
        writer.join(120)
    assert not writer.error and not killer.error, (writer.error, killer.error)
    assert writer.acknowledged
    for name in servers.names:
        until(f"{name} to be ready", lambda one=name: healthy(servers, one), log=servers.logs)
        assert servers.rows(name, "SELECT count(*), count(DISTINCT n), max(n) FROM written") == [
            [len(writer.acknowledged), len(writer.acknowledged), len(writer.acknowledged) - 1]]
