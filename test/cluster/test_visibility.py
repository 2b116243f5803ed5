"""What users see of each other: texts of statements are their user's and the admin's, and so is ending them."""
import json
import threading
import time

import pytest

pytestmark = pytest.mark.threads

ADMIN, ADA, BOB = ("scott", "tiger"), ("ada", "ada's"), ("bob", "bob's")
SLOW = "SELECT count(*) AS {} FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = -1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from cluster.conftest import Cluster
    one = Cluster(scale=0, shards=1)
    try:
        for name, password in (ADA, BOB):
            one.run("user", "create", name, "--password", password, "--data-dir", one.data)
        one.start_server("--idle-timeout", "7m", env={"MERGANSER_MAX_QUERIES": "3"})
        yield one
    finally:
        one.remove()


def ask(cluster, sql, login):
    return cluster.request("POST", "/db/query", json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"},
                           login=login)


def rows(cluster, sql, login):
    answer = ask(cluster, sql, login)
    assert answer.status == 200, answer.body
    return answer.json()["result"]["values"]


def shell(cluster, sql, login):
    return cluster.run("sql", cluster.url, "--tls-roots", cluster.ca, "--username", login[0], "--password", login[1], "-c", sql,
                       check=False)


def running(cluster, mark):
    """Id and connection of the statement with this mark, as the admin sees it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = rows(cluster, f"SELECT id, session FROM cluster.queries WHERE sql LIKE '%AS {mark}%' AND sql NOT LIKE '%LIKE%'",
                     ADMIN)
        if found:
            return found[0]
    raise AssertionError(f"{mark} does not run")


HIDDEN = [
    "SELECT sql, error, reason FROM cluster.query_history WHERE \"user\" <> 'ada'",
    "SELECT h.sql, h.error, h.reason FROM (SELECT * FROM merganser.\"cluster\" . /* a */ \"Query_History\" h) h WHERE h.user <> 'ada'",
    "WITH q AS (FROM cluster.query_history) SELECT max(sql), max(error), max(reason) FROM q WHERE \"user\" <> 'ada'",
    "SELECT sql FROM cluster.queries WHERE \"user\" <> 'ada'",
]


def test_texts_are_shown_to_their_user_and_to_admins(shared):
    rows(shared, "SELECT 'of scott' AS a", ADMIN)
    rows(shared, "SELECT 'of ada' AS a", ADA)
    assert ask(shared, "SELECT 'of scott' + nothing", ADMIN).status == 400
    assert ask(shared, "SELECT CAST('of scott' AS INTEGER)", ADMIN).status == 400
    for sql in HIDDEN:
        for row in rows(shared, sql, ADA):
            assert set(row) == {None}, sql
    assert ["SELECT 'of ada' AS a"] in rows(shared, "SELECT sql FROM cluster.query_history", ADA)
    seen = [row[0] for row in rows(shared, "SELECT sql FROM cluster.query_history", ADMIN)]
    assert "SELECT 'of ada' AS a" in seen and "SELECT 'of scott' AS a" in seen and None not in seen
    # That something ran, whose it was and what it cost, all may see.
    assert rows(shared, "SELECT count(*) FROM cluster.query_history WHERE \"user\" = 'scott' AND state = 'failed'", ADA) != [[0]]


@pytest.mark.parametrize("sql", [
    "SUMMARIZE cluster.query_history", "EXPLAIN ANALYZE SELECT sql FROM cluster.query_history",
    "PIVOT (SELECT sql, 1 AS n FROM cluster.query_history) ON sql USING sum(n)",
    "SELECT CAST(sql AS INTEGER) FROM cluster.query_history WHERE \"user\" = 'scott'",
    "SELECT error(sql) FROM cluster.query_history WHERE \"user\" = 'scott'",
])
def test_no_way_around(shared, sql):
    rows(shared, "SELECT 'secret of scott' AS a", ADMIN)
    rows(shared, "SELECT sql FROM cluster.query_history", ADMIN)  # the table is full of texts now
    assert b"secret" not in ask(shared, sql, ADA).body


def test_an_admins_look_is_never_a_clients(shared):
    """Both look at once, all the time: each reads its own snapshot of one table."""
    rows(shared, "SELECT 'of scott' AS a", ADMIN)
    wrong, until = [], time.monotonic() + 4

    def look(login, want_texts):
        while time.monotonic() < until:
            found = rows(shared, "SELECT count(*), count(sql) FROM cluster.query_history WHERE \"user\" = 'scott'", login)[0]
            if found[1] != (found[0] if want_texts else 0):
                wrong.append((login, found))

    threads = [threading.Thread(target=look, args=who) for who in ((ADMIN, True), (ADA, False)) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_users_end_what_is_theirs_and_admins_everything(shared):
    ends = {}

    def run(mark, login):
        ends[mark] = ask(shared, SLOW.format(mark), login)

    def begin(mark, login):
        thread = threading.Thread(target=run, args=(mark, login))
        thread.start()
        return thread, running(shared, mark)

    of_scott, of_ada = begin("of_scott", ADMIN), begin("of_ada", ADA)
    for verb, ident in (("CANCEL", of_scott[1][0]), ("KILL", of_scott[1][1]), ("CANCEL", of_ada[1][0])):
        done = shell(shared, f"{verb} '{ident}'", BOB)
        assert done.returncode == 3 and "belongs to another user" in done.stderr and "42501" in done.stderr
    assert not ends
    assert shell(shared, f"CANCEL '{of_ada[1][0]}'", ADA).returncode == 0
    of_ada[0].join()
    of_ada = begin("again_of_ada", ADA)
    assert shell(shared, f"CANCEL '{of_ada[1][0]}'", ADMIN).returncode == 0
    assert shell(shared, f"CANCEL '{of_scott[1][0]}'", ADMIN).returncode == 0
    of_ada[0].join()
    of_scott[0].join()
    assert {mark: end.json()["error"]["sqlstate"] for mark, end in ends.items()} == dict.fromkeys(
        ("of_scott", "of_ada", "again_of_ada"), "57014")


def test_settings_of_the_server_and_where_they_come_from(shared):
    sql = "SELECT name, value, source FROM cluster.settings WHERE scope = 'server' ORDER BY name"
    found = {name: (value, source) for name, value, source in rows(shared, sql, ADMIN)}
    assert found["idle-timeout"] == ("7m", "flag") and found["max-queries"] == ("3", "environment")
    assert found["data-dir"] == (str(shared.data), "flag") and found["log-level"] == ("info", "default")
    assert found["password"] == (None, "not set")
    nodes = rows(shared, "SELECT threads FROM cluster.nodes WHERE role = 'server'", ADMIN)
    assert found["threads"] == (str(nodes[0][0]), "default")  # not the 0 that was asked for
    assert rows(shared, sql, ADA) == []
    done = shell(shared, "SET strategy = 'gather'; SELECT value, source FROM cluster.settings WHERE name = 'strategy'", ADA)
    assert "gather" in done.stdout and "set" in done.stdout
