"""/client with the frames of the predecessors: "user:password", statements as text, one Arrow stream per answer."""
import io
import re
import threading
import time

import pyarrow as pa
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

SLOW = "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
ELAPSED = re.compile(r"Query: '([^']*)' - execution elapsed time: \d+:\d\d:\d\d\.\d{6}")


def open_old(cluster, login="scott:tiger", **kwargs):
    ws = connect(f"wss://localhost:{cluster.port}/client", ssl=cluster.tls(), max_size=None, compression=None,
                 **kwargs).__enter__()
    if login is not None:
        ws.send(login)
    return ws


class Old:
    def __init__(self, cluster):
        self.ws = open_old(cluster)
        self.greeting = self.ws.recv(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def answer(self):
        """Messages up to the end of one answer: the lines, and the table or None."""
        lines, table = [], None
        while True:
            message = self.ws.recv(60)
            if isinstance(message, bytes):
                assert table is None, "one binary frame holds the whole result"
                stream = io.BytesIO(message)
                table = pa.ipc.open_stream(stream).read_all()
                assert stream.read() == b""
            else:
                lines.append(message)
                if ELAPSED.fullmatch(message) or "FAILED" in message or "failed" in message or "set to" in message:
                    return lines, table

    def run(self, text):
        self.ws.send(text)
        return self.answer()


@pytest.fixture
def old(cluster):
    with Old(cluster) as one:
        yield one


def test_statements_are_answered_as_of_old(cluster, old):
    assert old.greeting.startswith("Authentication successful") and "'scott'" in old.greeting
    lines, table = old.run("SELECT n_name, n_regionkey, 1.5::DECIMAL(9,2) AS d FROM nation ORDER BY n_name;")
    assert table.num_rows == 25 and table.column_names == ["n_name", "n_regionkey", "d"]
    assert table["n_name"][0].as_py() == "ALGERIA"
    assert re.fullmatch(r"Query: '(q-[^']+)' - will NOT be distributed - reason: '.+'\. Running server-side\.\.\.", lines[0])
    query = ELAPSED.fullmatch(lines[-1])[1]
    assert f"'{query}'" in lines[0] and len(lines) == 2


def test_a_distributed_statement_says_so(cluster, old):
    old.run("SET strategy = 'cut';")
    lines, table = old.run("SELECT l_returnflag, count(*) AS n FROM lineitem GROUP BY 1 ORDER BY 1")
    assert re.fullmatch(r"Query: '.+' - distributed to 2 worker\(s\) by server", lines[0])
    assert [list(row) for row in zip(*table.to_pydict().values())] == cluster.rows(
        "SELECT l_returnflag, count(*) AS n FROM lineitem GROUP BY 1 ORDER BY 1")


def test_a_large_result_is_one_stream(old):
    _, table = old.run("SELECT range AS i, 'x' || range AS t FROM range(300000)")
    assert table.num_rows == 300_000 and table["i"].to_pylist()[-1] == 299_999


def test_dot_commands(cluster, old):
    assert old.run(".show distributed")[0] == ["Distributed set to: true"]
    assert old.run(".set distributed = false;")[0] == ["Distributed set to: false"]
    assert old.run(".SET  Summarize=True")[0] == ["Summarize set to: true"]
    assert old.run(".set summarize = perhaps")[0] == ["Summarize set to: false"]
    assert old.run(".set distributed = maybe")[0] == [".set command failed with error: 'MAYBE'"]
    assert old.run(".set colour = red")[0] == [".set command failed with error: 'COLOUR'"]
    assert old.run(".set distributed")[0] == [".set command failed with error: 'DISTRIBUTED'"]
    old.ws.send(".show")
    assert [old.ws.recv(10), old.ws.recv(10)] == ["Distributed set to: false", "Summarize set to: false"]
    lines, _ = old.run(".help")
    assert "failed to parse - error" in lines[-1]
    # The settings are the session's: force counts a reference table once per shard, as it did.
    old.run(".set distributed = force")
    _, table = old.run("SELECT count(*) AS n FROM region")
    assert sum(table["n"].to_pylist()) == 5 * 4


@pytest.mark.parametrize("statement,text", [
    ("SELEKT 1", "failed to parse - error"),
    ("SELECT no_such_column FROM nation", "no_such_column"),
    ("DROP TABLE no_such", "FAILED on the server"),
    ("SELECT * FROM read_text('/etc/passwd')", "FAILED on the server"),
    ("", "elapsed"),
    ("-- nothing", "elapsed"),
])
def test_failures_are_texts_and_the_connection_lives(old, statement, text):
    lines, table = old.run(statement)
    assert table is None and text in lines[-1] and lines[-1].startswith("Query: '")
    _, table = old.run("SELECT 42 AS x")
    assert table.to_pydict() == {"x": [42]}


def test_several_answers_come_in_order(old):
    for number in range(20):
        old.ws.send(f"SELECT {number} AS x")
    assert [old.answer()[1]["x"][0].as_py() for _ in range(20)] == list(range(20))


def test_a_result_too_large_for_one_message_is_refused(old):
    lines, table = old.run("SELECT range, repeat('x', 1000) AS t FROM range(100000)")
    assert table is None and "64 MiB" in lines[-1]
    assert old.run("SELECT 1 AS x")[1].num_rows == 1


@pytest.mark.parametrize("login", ["scott:wrong", "nobody:x", "worker:united", "scott", "", ":", "scott:", '{"type":"ping"}'])
def test_a_wrong_login_is_told_and_closed(cluster, login):
    before = cluster.log().count("event=login.refused")
    ws = open_old(cluster, login)
    assert ws.recv(20).startswith("Authentication failed")
    with pytest.raises(ConnectionClosed) as closed:
        ws.recv(20)
    assert closed.value.rcvd.code == 1011
    if ":" in login:
        assert cluster.log().count("event=login.refused") == before + 1
        assert "united" not in cluster.log() and "password=" not in cluster.log()


def test_statements_wait_for_the_login(cluster):
    ws = open_old(cluster)
    ws.send("SELECT 7 AS x")        # before the answer to the login
    assert ws.recv(20).startswith("Authentication successful")
    messages = [ws.recv(20) for _ in range(3)]
    assert pa.ipc.open_stream(messages[1]).read_all().to_pydict() == {"x": [7]}
    ws.close()


def test_the_new_protocol_needs_its_login(cluster):
    with pytest.raises(InvalidStatus) as refused:
        open_old(cluster, None, subprotocols=["merganser.v1"])
    assert refused.value.response.status_code == 401


def test_binary_and_oversized_frames_close(cluster):
    for frame, code in ((b"SELECT 1", 1003), ("SELECT '" + "x" * (1 << 20) + "'", 1009), ("SELECT \0", 1007)):
        with Old(cluster) as old:
            with pytest.raises(ConnectionClosed) as closed:
                old.ws.send(frame)
                old.ws.recv(20)
            assert closed.value.rcvd.code == code


def running(cluster):
    return cluster.rows("SELECT count(*) FROM cluster.queries WHERE sql LIKE '%% 7 = 3%' AND sql NOT LIKE '%cluster%'")


def test_a_client_that_goes_away_ends_its_statement(cluster):
    with Old(cluster) as old:
        old.ws.send(SLOW)
        deadline = time.monotonic() + 20
        while running(cluster) != [[1]]:
            assert time.monotonic() < deadline
    deadline = time.monotonic() + 20
    while running(cluster) != [[0]]:
        assert time.monotonic() < deadline


def test_cancel_and_kill_reach_it(cluster):
    with Old(cluster) as old:
        old.ws.send(SLOW)
        deadline = time.monotonic() + 20
        ids = []
        while not ids:
            ids = cluster.rows("SELECT id, session FROM cluster.queries WHERE sql LIKE '%% 7 = 3%' AND sql NOT LIKE '%cluster%'")
            assert time.monotonic() < deadline
        with Old(cluster) as other:
            other.run(f"CANCEL '{ids[0][0]}'")
            lines, table = old.answer()
            assert table is None and "cancelled" in lines[-1]
            other.run(f"KILL '{ids[0][1]}'")
        with pytest.raises(ConnectionClosed) as closed:
            old.ws.recv(20)
        assert closed.value.rcvd.code == 1008


@pytest.mark.slow
def test_who_says_nothing_is_closed(cluster):
    ws = open_old(cluster, None)
    assert ws.recv(20).startswith("Authentication failed")


def test_many_old_clients_at_once(cluster):
    wrong = []

    def ask(number):
        with Old(cluster) as old:
            for i in range(5):
                _, table = old.run(f"SELECT count(*) AS n, {number * 10 + i} AS me FROM lineitem")
                if table["me"][0].as_py() != number * 10 + i or table["n"][0].as_py() != 60175:
                    wrong.append(table)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_where_certificates_are_required_a_password_alone_opens_nothing(new_cluster):
    cluster = new_cluster(scale=0, shards=1)
    cluster.start_server("--require-client-cert")
    with pytest.raises(InvalidStatus) as refused:
        open_old(cluster)
    assert refused.value.response.status_code == 401
