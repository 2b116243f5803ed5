"""Macros, types and sequences over three servers: everywhere at once, and values of a sequence once, whoever coordinates."""

import pytest

from servers_kit import Servers, everywhere, execute, query, ready, until


@pytest.fixture
def servers(new_cluster):
    made = Servers(new_cluster, scale=0, shards=2)
    made.start_all()
    until("three servers", lambda: ready(made) == 3, log=made.logs)
    return made


def test_objects_are_everywhere_and_values_come_once(servers):
    first, second, third = servers.names
    execute(servers, first, "CREATE SEQUENCE q")
    execute(servers, second, "CREATE TYPE mood AS ENUM ('a', 'b')")
    execute(servers, third, "CREATE MACRO twice(x) AS x * 2")
    execute(servers, first, "CREATE TABLE t (id BIGINT DEFAULT nextval('q'), k INTEGER, m mood) PARTITIONED BY (k)")
    execute(servers, second, "CREATE MACRO above(n) AS TABLE SELECT twice(k) AS d, m FROM t WHERE k > n")
    for i, name in enumerate(servers.names):
        execute(servers, name, f"INSERT INTO t (k, m) VALUES ({i}, 'b'::mood)")
    assert everywhere(servers, "SELECT sum(d)::INTEGER, min(m) FROM above(0)") == [[6, "b"]]
    seen = [row[0] for row in query(servers, first, "SELECT id FROM t")]
    seen += [query(servers, name, "SELECT nextval('q')")[0][0] for name in servers.names]
    assert len(set(seen)) == 6

    # A transaction that defines, at a server that does not coordinate.
    coordinator = servers.coordinator()
    other = servers.others(coordinator)[0]
    statements = ["CREATE TABLE u (a INTEGER)", "INSERT INTO u SELECT k FROM t", "CREATE VIEW v AS SELECT sum(a) AS s FROM u"]
    assert servers.post(other, "/db/execute", {"statements": statements, "transaction": True}).status == 200
    assert everywhere(servers, "SELECT s::INTEGER FROM v") == [[3]]

    # Another one coordinates: what it gives was never given.
    servers.kill(coordinator)
    for i in range(5):
        servers.execute(f"INSERT INTO t (k, m) VALUES ({10 + i}, 'a')")
    rows = query(servers, other, "SELECT id FROM t")
    seen += [query(servers, other, "SELECT nextval('q')")[0][0]]
    assert len({row[0] for row in rows} | set(seen)) == 3 + 3 + 5 + 1
    servers.start(coordinator)
    servers.await_ready(coordinator)
    assert everywhere(servers, "SELECT count(*), count(DISTINCT id), min(m) FROM t") == [[8, 8, "a"]]
    macros = "SELECT count(*) FROM duckdb_functions() WHERE function_name IN ('twice', 'above') AND NOT internal"
    assert everywhere(servers, macros) == [[2]]
