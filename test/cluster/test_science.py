"""Histograms, minmax and crossmatch equal numpy's, wherever the rows lie: over shards, with workers, in groups, filtered."""
import math
import random

import numpy
import pytest

WAYS = ["?strategy=local", "?strategy=gather", "?strategy=cut", "?strategy=cut&distributed=force"]
NASTY = [math.nan, math.inf, -math.inf, None, 0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e308, -1e308, 1.0, 0.1, 0.3,
         0.30000000000000004, 0.7, 0.7000000000000001, 1 - 2**-53, 100.0, 1e16, 0.5, 0.49999999999999994]


def literal(value):
    return "NULL" if value is None else f"'{value!r}'::DOUBLE"


def load(cluster, name, rows):
    """rows: (group, x, y)"""
    cluster.sql(f"CREATE TABLE {name} (id BIGINT, g INTEGER, x DOUBLE, y DOUBLE) PARTITIONED BY (id)")
    for start in range(0, len(rows), 500):
        values = ", ".join(f"({start + i}, {g}, {literal(x)}, {literal(y)})" for i, (g, x, y) in enumerate(rows[start:start + 500]))
        cluster.sql(f"INSERT INTO {name} VALUES {values}")


def sample():
    chance = random.Random(7)
    rows = [(i % 5, chance.gauss(0.4, 0.3), chance.random()) for i in range(1500)]
    rows += [(i % 5, i / 50, i / 10 % 1) for i in range(-5, 60)]  # on edges
    rows += [(i % 5, x, 0.5) for i, x in enumerate(NASTY)] + [(i % 5, 0.5, y) for i, y in enumerate(NASTY)]
    return rows + [(9, None, None), (9, math.nan, 0.2)]


@pytest.fixture(scope="module", params=[(1, 0), (4, 2)], ids=["one shard", "four shards and workers"])
def science(request):
    from conftest import Cluster
    shards, workers = request.param
    cluster = Cluster(scale=0, shards=shards)
    try:
        cluster.start_server()
        for i in range(workers):
            cluster.start_worker(f"worker-{i}")
        cluster.wait_workers(workers)
        load(cluster, "science", sample())
        cluster.sql("CREATE TABLE nothing (id BIGINT, x DOUBLE, y DOUBLE) PARTITIONED BY (id)")
        yield cluster
    finally:
        cluster.remove()


def numbers(values):
    return numpy.array([math.nan if value is None else value for value in values], dtype=float)


def ask(cluster, sql):
    """The same on every way, down to the last bit of its text."""
    answers = [cluster.rows(sql, way) for way in WAYS]
    for way, answer in zip(WAYS, answers):
        assert repr(answer) == repr(answers[0]), (way, sql)
    return answers[0]


def test_show(science):
    for sql in ["SELECT minmax(x) FROM science", "SELECT mg_histogram(x, bins := 4, range := [0, 1]) FROM science",
        "SELECT mg_histogram(x, bins := 4, range := [0, 1]) FROM nothing",
        "SELECT minmax(x) FROM nothing",
        "SELECT g, mg_histogram(x, bins := 4, range := [0, 1]) FROM science GROUP BY g",
        "SELECT mg_histogram(x, bins := 4) FROM science WHERE abs(x) < 10",
        "SELECT mg_histogram2d(x, y, bins := [2,3], range := [[0, 1], [0, 1]]) FROM science",
        "SELECT degree(), arcmin(), arcsec(3), flux2mag(3631e9), flux2mag(0), flux2mag(-1), flux2mag(NULL)",
        "SELECT crossmatch([x,y],[[0.5,0.5],[0.4,0.4]],0.1) FROM science order by id limit 3",
        "SELECT mg_histogram(x, bins := 4, range := (SELECT minmax(x) FROM science where abs(x)<100)) FROM science",
        ]:
        for way in WAYS:
            answer = science.post("/db/query" + way, {"sql": sql})
            print(way, sql, answer.status, answer.body[:400])
        answer = science.post("/db/query", {"sql": "EXPLAIN " + sql})
        print(answer.body.decode()[:3000])
    assert 0
