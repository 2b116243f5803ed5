"""BEGIN .. COMMIT over several statements and requests: the shell, its channel, /db/tx, kills (docs/sql.md, docs/http.md)."""
import io
import json
import os
import signal
import struct
import subprocess
import threading
import time
import uuid

import pyarrow as pa
import pytest
from websockets.sync.client import connect

from conftest import PASSWORD, PROGRAM, USER, basic

pytestmark = pytest.mark.threads

SLOW = "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"


class Channel:
    """One session on wss /client."""

    def __init__(self, cluster):
        self.ws = connect(f"wss://localhost:{cluster.port}/client", ssl=cluster.tls(), max_size=None, compression=None,
                          additional_headers={"Authorization": basic((USER, PASSWORD))}).__enter__()
        self.hello = json.loads(self.ws.recv(60))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def send(self, **frame):
        self.ws.send(json.dumps(frame))

    def collect(self, number):
        """Frames of a request until it has ended; rows are bytes."""
        frames = []
        while not frames or isinstance(frames[-1], bytes) or frames[-1]["type"] not in ("done", "error"):
            message = self.ws.recv(60)
            frame = json.loads(message) if isinstance(message, str) else message
            if (frame["id"] if isinstance(frame, dict) else struct.unpack("<I", frame[4:8])[0]) == number:
                frames.append(frame)
        return frames

    def query(self, sql, number=1):
        self.send(type="query", id=number, sql=sql, lossless=False)
        return self.collect(number)

    def column(self, sql):
        frames = self.query(sql)
        assert frames[-1]["type"] == "done", frames[-1]
        stream = b"".join(frame[16:] for frame in frames if isinstance(frame, bytes))
        return pa.ipc.open_stream(io.BytesIO(stream)).read_all().column(0).to_pylist()


def post(cluster, body, path="", **kwargs):
    return cluster.request("POST", "/db/execute" + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, **kwargs)


def affected(answer):
    assert answer.status == 200, answer.body
    result = answer.json()["result"]
    return [one["rows_affected"] for one in result] if isinstance(result, list) else result["rows_affected"]


def error(answer, *statuses):
    assert answer.status in statuses, (answer.status, answer.body)
    found = answer.json()["error"]
    assert found["message"]
    return found


@pytest.fixture
def table(empty):
    """table(columns) -> its name, partitioned by k."""
    made = []

    def make(columns="k INTEGER PRIMARY KEY, v INTEGER"):
        made.append("tx_" + uuid.uuid4().hex[:12])
        empty.sql(f"CREATE TABLE {made[-1]} ({columns}) PARTITIONED BY (k)")
        return made[-1]

    yield make
    for name in made:
        empty.sql(f"DROP TABLE {name}")


def do(channel, sql):
    """The rows of the statements, flat; they go well."""
    frames = channel.query(sql)
    assert frames[-1]["type"] == "done", frames[-1]
    return frames[-1].get("transaction", "")


def fails(channel, sql):
    last = channel.query(sql)[-1]
    assert last["type"] == "error", last
    return last["error"]["sqlstate"], last.get("transaction", "")


# ---- the channel and the shell ----

def test_others_see_all_of_it_at_the_end(empty, table):
    t = table()
    with Channel(empty) as one, Channel(empty) as other:
        assert do(one, "BEGIN") == "open"
        assert do(one, f"INSERT INTO {t} SELECT i, 0 FROM range(100) r(i)") == "open"
        assert do(one, f"UPDATE {t} SET v = k WHERE k % 2 = 0; DELETE FROM {t} WHERE k >= 50") == "open"
        assert one.column(f"SELECT sum(v) FROM {t}") == [sum(range(0, 50, 2))]
        assert other.column(f"SELECT count(*) FROM {t}") == [0]
        assert do(one, "COMMIT") == ""
        assert other.column(f"SELECT count(*) FROM {t}") == [50]
        assert other.column(f"SELECT sum(v) FROM {t}") == [sum(range(0, 50, 2))]
        assert do(one, f"START TRANSACTION; TRUNCATE {t}") == "open"
        assert do(one, "ABORT") == ""
        assert one.column(f"SELECT count(*) FROM {t}") == [50]


def test_errors_leave_only_the_rollback(empty, table):
    t = table()
    with Channel(empty) as channel:
        assert fails(channel, "COMMIT") == ("25P01", "")
        assert fails(channel, "ROLLBACK") == ("25P01", "")
        assert fails(channel, "BEGIN nonsense") == ("42601", "")
        assert fails(channel, "BEGIN ISOLATION LEVEL SERIALIZABLE") == ("0A000", "")
        do(channel, f"BEGIN; INSERT INTO {t} VALUES (1, 1)")
        assert fails(channel, "BEGIN") == ("25001", "open")
        assert fails(channel, f"SELECT nope FROM {t}") == ("42703", "open")
        assert fails(channel, "SAVEPOINT a") == ("0A000", "open")
        assert fails(channel, f"DROP TABLE {t}") == ("0A000", "open")
        assert fails(channel, f"INSERT INTO {t} VALUES (1, 2)") == ("23505", "failed")
        assert fails(channel, "SELECT 1") == ("25P02", "failed")
        assert fails(channel, "COMMIT") == ("25P02", "failed")
        assert do(channel, "ROLLBACK") == ""
        assert channel.column(f"SELECT count(*) FROM {t}") == [0]
        do(channel, f"BEGIN READ ONLY; SELECT * FROM {t}")
        assert fails(channel, f"INSERT INTO {t} VALUES (1, 2)") == ("25006", "open")
        assert do(channel, "END") == ""


def test_the_second_of_two_writers_is_told(empty, table):
    t = table()
    empty.sql(f"INSERT INTO {t} SELECT i, 0 FROM range(100) r(i)")
    with Channel(empty) as one, Channel(empty) as other:
        do(one, f"BEGIN; UPDATE {t} SET v = v + 1 WHERE k = 7")
        do(other, f"BEGIN; UPDATE {t} SET v = v + 10 WHERE k = 7; UPDATE {t} SET v = 5 WHERE k = 8")
        do(one, "COMMIT")
        last = other.query("COMMIT")[-1]
        assert last["error"]["sqlstate"] == "40001" and last["error"]["retry"] == "safe"
        assert "again" in last["error"]["hint"] and "transaction" not in last
        assert other.column(f"SELECT v FROM {t} WHERE k IN (7, 8) ORDER BY k") == [1, 0]


def test_a_table_that_is_altered_meanwhile(empty, table):
    t = table("k INTEGER, v INTEGER")
    empty.sql(f"INSERT INTO {t} VALUES (1, 1)")
    with Channel(empty) as channel:
        do(channel, "BEGIN")
        assert fails(channel, f"ALTER TABLE {t} ADD COLUMN w INTEGER") == ("0A000", "open")
        assert channel.column(f"SELECT count(*) FROM {t}") == [1]
        do(channel, f"INSERT INTO {t} VALUES (2, 2)")
        empty.sql(f"ALTER TABLE {t} ADD COLUMN w INTEGER DEFAULT 5")
        assert channel.query("COMMIT")[-1]["error"]["sqlstate"] == "40001"
        assert channel.column(f"SELECT sum(w) FROM {t}") == [5]


def test_what_a_definition_stands_on_must_be_there(empty):
    empty.sql("CREATE TABLE stood (k INTEGER)")
    with Channel(empty) as channel:
        do(channel, "BEGIN; CREATE VIEW stands AS SELECT k + 1 AS k FROM stood")
        empty.sql("DROP TABLE stood")
        assert channel.query("COMMIT")[-1]["error"]["sqlstate"] == "40001"
    assert "42P01" in empty.refused("SELECT * FROM stands")


def test_a_client_that_goes_rolls_back(empty, table):
    t = table()
    with Channel(empty) as channel:
        do(channel, f"BEGIN; INSERT INTO {t} VALUES (1, 1)")
    with Channel(empty) as channel:  # the key is free
        do(channel, f"BEGIN; INSERT INTO {t} VALUES (1, 2); COMMIT")
    assert empty.rows(f"SELECT * FROM {t}") == [[1, 2]]


def test_a_kill_and_idleness_roll_back(empty, table):
    t = table()
    with Channel(empty) as channel, Channel(empty) as other:
        do(channel, f"BEGIN; INSERT INTO {t} VALUES (1, 1)")
        do(other, f"KILL '{channel.hello['session']}'")
        assert other.column(f"SELECT count(*) FROM {t}") == [0]
    with Channel(empty) as channel:
        do(channel, f"SET idle_in_transaction_timeout = '100ms'; BEGIN; INSERT INTO {t} VALUES (1, 1)")
        while "transaction.idle session=" + channel.hello["session"] not in empty.log():
            time.sleep(0.02)
        assert fails(channel, "SELECT 1") == ("25P03", "failed")
        assert fails(channel, f"INSERT INTO {t} VALUES (2, 2)") == ("25P03", "failed")  # not one of its own
        assert do(channel, "ROLLBACK") == ""
        assert channel.column(f"SELECT count(*) FROM {t}") == [0]


def test_a_cancelled_statement_ends_it(empty, table):
    t = table()
    with Channel(empty) as channel:
        do(channel, f"BEGIN; INSERT INTO {t} VALUES (1, 1)")
        channel.send(type="query", id=2, sql=SLOW)
        while not empty.rows("SELECT 1 FROM cluster.queries WHERE sql LIKE '%range(1000000) b%' AND sql NOT LIKE '%cluster.%'"):
            pass
        channel.send(type="cancel", id=2)
        last = channel.collect(2)[-1]
        assert last["error"]["sqlstate"] == "57014"
        do(channel, "ROLLBACK")
        assert channel.column(f"SELECT count(*) FROM {t}") == [0]


def test_the_shell_runs_it(empty, table):
    t = table()
    empty.sql(f"BEGIN; INSERT INTO {t} VALUES (1, 1); INSERT INTO {t} VALUES (2, 2); COMMIT")
    count = f"SELECT count(*) AS n FROM {t}"
    assert empty.sql(f"BEGIN; DELETE FROM {t}; {count}; ROLLBACK; {count}").split() == ["n", "0", "n", "2"]
    assert "23505" in empty.refused(f"BEGIN; INSERT INTO {t} VALUES (3, 3); INSERT INTO {t} VALUES (3, 3); COMMIT")
    assert empty.rows(f"SELECT count(*) FROM {t}") == [[2]]


def test_now_is_the_transaction_s(empty, table):
    t = table("k INTEGER, since TIMESTAMPTZ DEFAULT now()")
    with Channel(empty) as channel:
        do(channel, f"BEGIN; INSERT INTO {t} VALUES (1, now())")
        do(channel, f"INSERT INTO {t} (k) VALUES (2); INSERT INTO {t} SELECT 3, current_timestamp")
        assert channel.column(f"SELECT count(DISTINCT since) FROM {t}") == [1]
        assert channel.column(f"SELECT count(*) FROM {t} WHERE since = now()") == [3]
        do(channel, "COMMIT")
        assert channel.column(f"SELECT count(*) FROM {t} WHERE since = now()") == [0]


# ---- HTTP ----

def open_tx(cluster, body=None):
    answer = cluster.request("POST", "/db/tx", json.dumps(body).encode() if body else b"")
    assert answer.status == 200, answer.body
    return answer.json()["result"]["id"]


def end_tx(cluster, tx, how, **headers):
    return cluster.request("POST", f"/db/tx/{tx}/{how}", b"", headers)


def test_a_transaction_over_requests(empty, table):
    t = table()
    tx = open_tx(empty)
    assert affected(post(empty, {"sql": f"INSERT INTO {t} VALUES (?, ?)", "params": [1, 10]}, f"?tx={tx}")) == 1
    two = [f"INSERT INTO {t} VALUES (2, 20)", f"UPDATE {t} SET v = v + 1"]
    assert affected(post(empty, {"statements": two}, f"?tx={tx}")) == [1, 2]
    assert empty.rows(f"SELECT * FROM {t} ORDER BY k", f"?tx={tx}") == [[1, 11], [2, 21]]
    assert empty.rows(f"SELECT count(*) FROM {t}") == [[0]]
    answer = end_tx(empty, tx, "commit", **{"Idempotency-Key": tx})
    assert affected(answer) == 0
    again = end_tx(empty, tx, "commit", **{"Idempotency-Key": tx})
    assert again.status == 200 and again.headers["Idempotent-Replayed"] == "true"
    assert empty.rows(f"SELECT * FROM {t} ORDER BY k") == [[1, 11], [2, 21]]
    assert error(end_tx(empty, tx, "commit"), 404)["code"] == "not_found"
    tx = open_tx(empty)
    assert affected(post(empty, {"sql": f"DELETE FROM {t}"}, f"?tx={tx}")) == 2
    assert affected(end_tx(empty, tx, "rollback")) == 0
    assert empty.rows(f"SELECT count(*) FROM {t}") == [[2]]
    assert error(post(empty, {"sql": f"DELETE FROM {t}"}, f"?tx={tx}"), 404)


def test_what_a_handle_refuses(empty, table):
    t = table()
    empty.sql(f"INSERT INTO {t} VALUES (1, 1)")
    tx, other = open_tx(empty), open_tx(empty, {"read_only": True})
    assert error(post(empty, {"sql": f"DELETE FROM {t}"}, f"?tx={other}"), 403)["sqlstate"] == "25006"
    assert affected(end_tx(empty, other, "commit")) == 0
    for sql in ("BEGIN", "COMMIT", "ROLLBACK"):
        assert error(post(empty, {"sql": sql}, f"?tx={tx}"), 400, 403)["sqlstate"] == "42501"
    assert error(post(empty, {"statements": ["SELECT 1"], "transaction": True}, f"?tx={tx}"), 400)["sqlstate"] == "22023"
    assert error(post(empty, {"sql": f"INSERT INTO {t} VALUES (1, 1)"}, f"?tx={tx}"), 409)["sqlstate"] == "23505"
    assert error(post(empty, {"sql": f"DELETE FROM {t}"}, f"?tx={tx}"), 409)["sqlstate"] == "25P02"
    assert error(end_tx(empty, tx, "commit"), 409)["sqlstate"] == "25P02"
    assert affected(end_tx(empty, tx, "rollback")) == 0
    assert error(end_tx(empty, "0" * 32, "commit"), 404)
    assert error(end_tx(empty, tx, "vacuum"), 404)
    assert error(empty.request("POST", "/db/tx", b"[1]"), 400)
    assert error(empty.request("GET", "/db/tx"), 405)


def test_a_conflict_is_409_and_nothing_is_done(empty, table):
    t = table()
    empty.sql(f"INSERT INTO {t} VALUES (1, 0), (2, 0)")
    tx = open_tx(empty)
    assert affected(post(empty, {"sql": f"UPDATE {t} SET v = 1"}, f"?tx={tx}")) == 2
    empty.sql(f"UPDATE {t} SET v = 5 WHERE k = 2")
    found = error(end_tx(empty, tx, "commit"), 409)
    assert found["sqlstate"] == "40001" and found["retry"] == "safe"
    assert empty.rows(f"SELECT v FROM {t} ORDER BY k") == [[0], [5]]
    assert error(end_tx(empty, tx, "commit"), 404)  # it is over


def test_what_comes_after_the_rollback_of_another_request_is_refused(empty, table):
    t = table()
    tx, answers = open_tx(empty), []
    many = [f"INSERT INTO {t} VALUES ({i}, {i})" for i in range(5000)]
    writer = threading.Thread(target=lambda: answers.append(post(empty, {"statements": many}, f"?tx={tx}", timeout=60)))
    writer.start()
    while not empty.rows(f"SELECT 1 FROM cluster.queries WHERE sql LIKE 'INSERT INTO {t} %'"):
        assert writer.is_alive(), answers
    assert affected(end_tx(empty, tx, "rollback")) == 0
    writer.join()
    assert error(answers[0], 409, 499)["sqlstate"] in ("25P01", "57014")  # between two of them, or one was cancelled
    assert empty.rows(f"SELECT count(*) FROM {t}") == [[0]]
    assert error(post(empty, {"sql": many[0]}, f"?tx={tx}"), 404)


def test_a_list_is_one_transaction(empty, table):
    t = table()
    one = f"INSERT INTO {t} VALUES (1, 1)"
    three = [one, f"UPDATE {t} SET v = 2 RETURNING v", f"INSERT INTO {t} SELECT k + 1, v FROM {t}"]
    assert affected(post(empty, {"statements": three, "transaction": True})) == [1, 1, 1]
    assert empty.rows(f"SELECT * FROM {t} ORDER BY k") == [[1, 2], [2, 2]]
    found = error(post(empty, {"statements": [f"DELETE FROM {t}", one, one], "transaction": True}), 409)
    assert found["sqlstate"] == "23505" and found["index"] == 2 and "nothing of it" in found["detail"]
    assert empty.rows(f"SELECT count(*) FROM {t}") == [[2]]
    found = error(post(empty, {"statements": [f"DELETE FROM {t}", "CREATE TABLE x (a INTEGER)"], "transaction": True}), 400)
    assert found["sqlstate"] == "0A000" and found["index"] == 1
    assert empty.rows(f"SELECT count(*) FROM {t}") == [[2]]
    made = [f"CREATE TABLE {t}_made (a INTEGER)", f"INSERT INTO {t}_made VALUES (1)"]
    assert affected(post(empty, {"statements": made, "transaction": True})) == [0, 1]
    assert affected(post(empty, {"sql": f"DROP TABLE {t}_made"})) == 0


# ---- kills ----

def test_a_kill_before_commit_leaves_nothing_and_after_it_everything(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.sql("CREATE TABLE t (k INTEGER, p INTEGER) PARTITIONED BY (p)")
    for cycle in range(4):
        commits = cycle % 2 == 1
        with Channel(cluster) as channel:
            do(channel, f"BEGIN; INSERT INTO t SELECT {cycle}, i * 7919 FROM range(50) r(i)")
            do(channel, f"UPDATE t SET k = k + 100 WHERE k = {cycle} AND p % 2 = 0; DELETE FROM t WHERE k < 100 AND p % 3 = 0")
            if commits:
                do(channel, "COMMIT")
            before = channel.column("SELECT count(*) FROM t")
            cluster.processes["server"].send_signal(signal.SIGKILL)
            cluster.processes["server"].wait()
        cluster.start_server()
        [[rows]] = cluster.rows(f"SELECT count(*) FROM t WHERE k % 100 = {cycle}")
        assert (rows > 0) == commits
        assert not commits or cluster.rows("SELECT count(*) FROM t") == [before]


def test_the_shell_says_what_a_lost_connection_means(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.sql("CREATE TABLE t (k INTEGER) PARTITIONED BY (k)")
    shell = subprocess.Popen([PROGRAM, "sql", cluster.url, "--username", "scott", "--tls-roots", cluster.ca, "--format", "csv"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "MERGANSER_PASSWORD": "tiger"})
    shell.stdin.write("BEGIN;\nINSERT INTO t VALUES (1);\nSELECT count(*) AS n FROM t;\n")
    shell.stdin.flush()
    assert [shell.stdout.readline() for _ in range(2)] == ["n\n", "1\n"]
    cluster.processes["server"].kill()
    cluster.processes["server"].wait()
    _, said = shell.communicate("SELECT 1;\n", timeout=30)
    assert shell.returncode == 2 and "rolled back" in said, said


def test_a_stop_rolls_back_and_does_not_wait(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.sql("CREATE TABLE t (k INTEGER) PARTITIONED BY (k)")
    tx = open_tx(cluster)
    assert affected(post(cluster, {"sql": "INSERT INTO t VALUES (1)"}, f"?tx={tx}")) == 1
    with Channel(cluster) as channel:
        do(channel, "BEGIN; INSERT INTO t VALUES (2)")
        assert cluster.stop() == {"server": 0}
    cluster.start_server()
    assert cluster.rows("SELECT count(*) FROM t") == [[0]]
    assert error(end_tx(cluster, tx, "commit"), 404)


def test_transfers_keep_their_sum_through_kills(new_cluster):
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.sql("CREATE TABLE bank (id INTEGER PRIMARY KEY, money INTEGER) PARTITIONED BY (id)")
    cluster.sql("INSERT INTO bank SELECT i, 100 FROM range(10) r(i)")
    stop, done, wrong = threading.Event(), [], []

    def transfers(seed):
        while not stop.is_set():
            seed = (seed * 1103515245 + 12345) % 2**31
            sql = [f"UPDATE bank SET money = money - 1 WHERE id = {seed // 65536 % 5}",
                   f"UPDATE bank SET money = money + 1 WHERE id = {5 + seed // 65536 // 7 % 5}"]
            try:
                answer = post(cluster, {"statements": sql, "transaction": True}, timeout=10)
            except OSError:
                continue  # the server was killed
            if answer.status == 200:
                done.append(seed)
            elif answer.json()["error"]["sqlstate"] not in ("40001", "57P01", "57P03", "57014"):
                wrong.append(answer.body)

    writers = [threading.Thread(target=transfers, args=(i,)) for i in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            count = len(done)
            while len(done) < count + 5 and not wrong:
                assert cluster.rows("SELECT sum(money) FROM bank") == [["1000"]]
            cluster.processes["server"].send_signal(signal.SIGKILL)
            cluster.processes["server"].wait()
            cluster.start_server()
            assert cluster.rows("SELECT sum(money), count(*) FROM bank") == [["1000", 10]]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not wrong, wrong
