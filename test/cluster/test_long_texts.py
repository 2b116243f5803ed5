"""Statements of thousands of terms: what DuckDB answers, the server answers, whichever way it takes."""
import json

import pytest


def wide():
    names = ", ".join(f"'Customer#{i:09}''s'" if i % 3 else f"'Customer#{i:09}'" for i in range(30000))
    yield "300 times +", "SELECT n_nationkey" + " + n_regionkey" * 300 + " FROM nation ORDER BY 1"
    yield "2,000 AND", "SELECT count(*) FROM orders WHERE " + " AND ".join(f"o_orderkey <> {i}" for i in range(2000))
    yield "100,000 numbers", f"SELECT count(*) FROM orders WHERE o_orderkey IN ({', '.join(map(str, range(100000)))})"
    yield "30,000 texts", f"SELECT count(*) FROM customer WHERE c_name IN ({names})"
    yield "5,000 rows", "SELECT count(*), sum(a), max(b) FROM (VALUES " + ", ".join(
        f"({i}, 'it''s {i}')" for i in range(5000)) + ") v(a, b)"
    yield "1,000 UNION ALL", "SELECT sum(k) FROM (" + " UNION ALL ".join(
        f"SELECT {i} AS k" for i in range(1000)) + ")"
    yield "200 subqueries", "SELECT count(*) FROM " + "(SELECT * FROM " * 200 + "nation" + ")" * 200
    yield "150 calls", "SELECT sum(" + "abs(" * 150 + "n_nationkey" + ")" * 150 + ") FROM nation"


TEXTS = dict(wide())


def query(cluster, sql, path=""):
    return cluster.request("POST", "/db/query" + path, json.dumps({"sql": sql}).encode(),
                           {"Content-Type": "application/json"}, timeout=300)


@pytest.mark.parametrize("name", TEXTS)
def test_long_texts_are_answered_alike(cluster, name):
    answers = [query(cluster, TEXTS[name], path) for path in ("?distributed=false", "?strategy=cut")]
    assert [answer.status for answer in answers] == [200, 200], [answer.body[:300] for answer in answers]
    one, other = (answer.json()["result"]["values"] for answer in answers)
    assert one == other and one


@pytest.mark.parametrize("text", ["(", "NOT ", "[", "(SELECT ", "abs(", "1 + ("])
def test_bottomless_nesting_is_a_syntax_error(cluster, text):
    answer = query(cluster, "SELECT " + text * 100000)
    assert answer.status == 400 and answer.json()["error"]["sqlstate"] == "42601", answer.body[:300]
    assert cluster.get("/ping", login=None).body == b"PONG"
