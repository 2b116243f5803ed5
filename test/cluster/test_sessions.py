"""A session reads what it has written and never goes back in time, also when its next request goes to another server that
reads what it has: an answer says what was seen (Merganser-Seen), and the next request says it again."""
import json
import threading

import pytest

from servers_kit import until
from test_channel import Channel

pytestmark = pytest.mark.threads

ROUNDS = 15
SEEN = "Merganser-Seen"


@pytest.fixture(scope="module")
def servers(three):
    three.execute("CREATE TABLE t (id INTEGER, who VARCHAR) PARTITIONED BY (id)")
    return three


def headers(seen):
    return {SEEN: seen} if seen else {}


def execute(servers, name, sql, seen=""):
    """What the session has seen then."""
    answer = servers.post(name, "/db/execute", {"sql": sql}, headers(seen))
    assert answer.status == 200, (name, answer.status, answer.body, servers.logs())
    return answer.headers[SEEN]


def read(servers, name, sql, seen="", how="any"):
    answer = servers.post(name, f"/db/query?consistency={how}", {"sql": sql}, headers(seen))
    assert answer.status == 200, (name, answer.status, answer.body, servers.logs())
    return answer.json()["result"]["values"], answer.headers[SEEN]


def test_it_reads_what_it_has_written_anywhere(servers):
    """Servers apply what they have accepted when somebody wants it, or after a while: who does not say what he has seen
    may have to wait for that."""
    for i in range(ROUNDS):
        writer, reader = servers.names[i % 3], servers.names[(i + 1) % 3]
        seen = execute(servers, writer, f"INSERT INTO t SELECT {i} * 100 + r, 'own' FROM range(100) AS s(r)")
        how = ("any", "bounded&max_staleness=1h")[i % 2]
        assert read(servers, reader, "SELECT count(*) FROM t WHERE who = 'own'", seen, how)[0] == [[(i + 1) * 100]]


def test_it_never_goes_back_in_time(servers):
    stop, wrong = threading.Event(), []

    def write():
        i = 0
        while not stop.is_set():
            servers.post(servers.names[0], "/db/execute", {"sql": f"INSERT INTO t VALUES ({i}, 'time'), ({i + 1}, 'time')"})
            i += 2

    thread = threading.Thread(target=write)
    thread.start()
    try:
        count, seen = 0, ""
        for i in range(3 * ROUNDS):
            rows, seen = read(servers, servers.names[i % 3], "SELECT count(*) FROM t WHERE who = 'time'", seen,
                              ("any", "linearizable", "bounded&max_staleness=1h")[i % 7 % 3])
            if rows[0][0] < count or rows[0][0] % 2:
                wrong.append((i, rows, count))
            count = rows[0][0]
    finally:
        stop.set()
        thread.join(60)
    assert not wrong and count > 0


def test_it_finds_the_table_that_it_has_made(servers):
    for i in range(6):
        writer, reader = servers.names[i % 3], servers.names[(i + 2) % 3]
        seen = execute(servers, writer, f"CREATE TABLE made_{i} PARTITIONED BY (x) AS SELECT range AS x FROM range(1000)")
        assert [f"made_{i}"] in [row[:1] for row in read(servers, reader, "SHOW TABLES", seen)[0]]
        assert read(servers, reader, f"SELECT count(*), sum(x)::BIGINT FROM made_{i}", seen)[0] == [[1000, 499500]]
        seen = execute(servers, writer, f"ALTER TABLE made_{i} ADD COLUMN y INTEGER DEFAULT 7", seen)
        assert read(servers, reader, f"SELECT count(*), sum(y)::BIGINT FROM made_{i}", seen)[0] == [[1000, 7000]]
        execute(servers, writer, f"DROP TABLE made_{i}", seen)


def test_of_several_answers_all_count(servers):
    """A client that has several requests under way says what each of them has told."""
    told, lock = [], threading.Lock()

    def write(name, number):
        seen = execute(servers, name, f"INSERT INTO t VALUES ({number}, 'many')")
        with lock:
            told.append(seen)

    threads = [threading.Thread(target=write, args=(servers.names[i % 3], i)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for name in servers.names:
        rows, seen = read(servers, name, "SELECT count(*) FROM t WHERE who = 'many'", ", ".join(told))
        assert rows == [[9]]
        assert seen.startswith("v1.") and len(seen) < 200
        path = f"/db/query?consistency=any&seen={','.join(told)}&q=SELECT+count(*)+FROM+t+WHERE+who='many'"
        assert servers.request(name, "GET", path).json()["result"]["values"] == [[9]]


def test_a_transaction_is_seen_when_it_is_committed(servers):
    writer, reader = servers.names[1], servers.names[2]
    handle = servers.post(writer, "/db/tx", {}).json()["result"]["id"]
    for i in range(2):
        answer = servers.post(writer, f"/db/execute?tx={handle}", {"sql": f"INSERT INTO t VALUES ({i}, 'tx')"})
        assert answer.status == 200, answer.body
    answer = servers.post(writer, f"/db/tx/{handle}/commit", {})
    assert answer.status == 200, answer.body
    assert read(servers, reader, "SELECT count(*) FROM t WHERE who = 'tx'", answer.headers[SEEN])[0] == [[2]]


def test_an_answer_that_is_given_again_says_it_again(servers):
    document, key = {"sql": "INSERT INTO t VALUES (1, 'key')"}, {"Idempotency-Key": "sessions-1"}
    first = servers.post(servers.names[1], "/db/execute", document, key)
    again = servers.post(servers.names[1], "/db/execute", document, key)
    assert again.headers["Idempotent-Replayed"] == "true" and again.headers[SEEN] == first.headers[SEEN]
    assert read(servers, servers.names[2], "SELECT count(*) FROM t WHERE who = 'key'", again.headers[SEEN])[0] == [[1]]


def test_what_no_server_has_said_is_refused(servers):
    _, seen = read(servers, servers.names[0], "SELECT 1 FROM t LIMIT 1")
    other = "v1.00000000.all.7957afaf"  # well made, of no cluster
    for text in ("x", "v1", seen + "0", seen[:-1], seen.upper().replace("V1", "v1") + "F", seen + ",x", other):
        for path, sql in (("/db/query", "SELECT 1"), ("/db/execute", "INSERT INTO t VALUES (1, 'wrong')")):
            answer = servers.post(servers.names[0], path, {"sql": sql}, headers(text))
            assert answer.status == 400 and answer.json()["error"]["sqlstate"] == "22023", (text, answer.body)
    assert read(servers, servers.names[0], "SELECT count(*) FROM t WHERE who = 'wrong'", how="linearizable")[0] == [[0]]


class At:
    """A server, for Channel."""

    def __init__(self, servers, name):
        self.port, self.tls = servers.ports[name], servers.cluster.tls


def test_on_the_channel(servers):
    """Each last frame says what the session has seen, and a query may bring it from another connection."""
    sql = "SET read_consistency = 'any'; SELECT count(*) AS n FROM t WHERE who = 'channel'"
    with Channel(At(servers, servers.names[0])) as one, Channel(At(servers, servers.names[1])) as two:
        for i in range(ROUNDS):
            last = one.query(f"INSERT INTO t VALUES ({i}, 'channel')")[-1]
            assert last["type"] == "done", last
            frames = two.query(sql, seen=last["seen"])
            assert [f for f in frames if f["type"] == "end"][-1]["tag"] == "SELECT 1"
            assert two.table("SELECT count(*) AS n FROM t WHERE who = 'channel'").to_pydict() == {"n": [i + 1]}
        error = two.query("SELECT 1", seen="v1.x")[-1]
        assert error["type"] == "error" and error["error"]["sqlstate"] == "22023"
        assert two.query("SELECT 1")[-1]["type"] == "done"


def test_tables_that_come_with_rows_are_shown_whole(servers):
    """ALTER that makes a table anew, and CREATE ... AS: the version of the catalog may be at a server before all rows are."""
    rows, stop, wrong, good = 20000, threading.Event(), [], []
    source = f"PARTITIONED BY (k) AS SELECT range AS k, repeat('x', 100) AS v FROM range({rows})"
    for name in ("altered", "replaced"):
        execute(servers, servers.names[0], f"CREATE TABLE {name} {source}")

    def look(name, how):
        while not stop.is_set():
            for sql in ("SELECT count(*), count(v) FROM altered", "SELECT count(*), count(DISTINCT k) FROM replaced"):
                answer = servers.post(name, f"/db/query?consistency={how}", {"sql": sql})
                if answer.status == 200 and answer.json()["result"]["values"] == [[rows, rows]]:
                    good.append(name)
                elif answer.status != 503:
                    wrong.append((name, how, sql, answer.status, answer.body))

    threads = [threading.Thread(target=look, args=(name, how)) for name in servers.names for how in ("any", "bounded&max_staleness=1h")]
    for thread in threads:
        thread.start()
    for i in range(8):
        execute(servers, servers.names[0], "ALTER TABLE altered " + ("DROP COLUMN c" if i % 2 else "ADD COLUMN c INTEGER DEFAULT 7"))
        execute(servers, servers.names[0], f"CREATE OR REPLACE TABLE replaced {source}")
    until("reads everywhere", lambda: wrong or set(good[-50:]) == set(servers.names), log=servers.logs)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not wrong, (len(wrong), len(good), wrong[:3])


def test_a_transaction_that_makes_a_table_is_shown_whole(servers):
    """Its version of the catalog, too, may be at a server before its rows are."""
    rows = 20000
    for i in range(8):
        first = []

        def look(name):
            while len(first) < len(servers.names):
                answer = servers.post(name, "/db/query?consistency=any", {"sql": f"SELECT count(*), count(v) FROM bundle_{i}"})
                if answer.status == 200:
                    first.append(answer.json()["result"]["values"])
                    return

        handle = servers.post(servers.names[0], "/db/tx", {}).json()["result"]["id"]
        for sql in (f"CREATE TABLE bundle_{i} (k INTEGER, v VARCHAR) PARTITIONED BY (k)",
                    f"INSERT INTO bundle_{i} SELECT range, repeat('x', 100) FROM range({rows})"):
            answer = servers.post(servers.names[0], f"/db/execute?tx={handle}", {"sql": sql})
            assert answer.status == 200, answer.body
        threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in servers.names]
        for thread in threads:
            thread.start()
        answer = servers.post(servers.names[0], f"/db/tx/{handle}/commit", {})
        assert answer.status == 200, answer.body
        for thread in threads:
            thread.join(60)
        assert first == [[[rows, rows]]] * len(servers.names), (i, first, servers.logs())


def test_who_lacks_it_says_so(servers):
    """A server that is left alone answers what it has; not to who has seen more."""
    coordinator = servers.coordinator()
    left, third = servers.others(coordinator)
    _, old = read(servers, left, "SELECT count(*) FROM t WHERE who = 'late'", how="linearizable")
    servers.stop(left)
    seen = execute(servers, coordinator, "INSERT INTO t VALUES (1, 'late'), (2, 'late'), (3, 'late')")
    servers.kill(coordinator)
    servers.kill(third)
    servers.start(left, wait=False)

    def answers():
        answer = servers.post(left, "/db/query?consistency=any", {"sql": "SELECT count(*) FROM t WHERE who = 'late'"})
        return answer.status == 200 and answer.json()["result"]["values"]

    assert until("an answer", answers, log=servers.logs) == [[0]]
    assert read(servers, left, "SELECT count(*) FROM t WHERE who = 'late'", old)[0] == [[0]]
    answer = servers.post(left, "/db/query?consistency=any", {"sql": "SELECT count(*) FROM t WHERE who = 'late'"},
                          headers(seen), timeout=90)
    assert answer.status == 503 and json.loads(answer.body)["error"]["retry"] == "safe", answer.body
    for name in (coordinator, third):
        servers.start(name, wait=False)
    servers.await_ready(*servers.names)
    assert read(servers, left, "SELECT count(*) FROM t WHERE who = 'late'", seen)[0] == [[3]]
