"""wss /client as a client in another language sees it: websockets and pyarrow (docs/protocol.md)."""
import io
import json
import socket
import struct
import threading
import time

import pyarrow as pa
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from conftest import PASSWORD, USER, basic

pytestmark = pytest.mark.threads

SLOW = "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"


class Channel:
    def __init__(self, cluster, user=USER, password=PASSWORD, **kwargs):
        self.ws = connect(f"wss://localhost:{cluster.port}/client", ssl=cluster.tls(), max_size=None,
                          additional_headers={"Authorization": basic((user, password))}, compression=None,
                          **kwargs).__enter__()
        self.hello = self.receive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def send(self, **frame):
        self.ws.send(json.dumps(frame))

    def receive(self, timeout=60):
        message = self.ws.recv(timeout)
        if isinstance(message, str):
            return json.loads(message)
        kind, number, rows = struct.unpack("<B3xIQ", message[:16])
        return {"type": "binary", "kind": kind, "id": number, "rows": rows, "arrow": message[16:]}

    def collect(self, ids):
        """Frames of each request until all of ids have ended."""
        frames = {number: [] for number in ids}
        open_ids = set(ids)
        while open_ids:
            frame = self.receive()
            frames[frame["id"]].append(frame)
            if frame["type"] in ("done", "error"):
                open_ids.remove(frame["id"])
        return frames

    def query(self, sql, number=1, **members):
        self.send(type="query", id=number, sql=sql, **members)
        return self.collect([number])[number]

    def table(self, sql):
        frames = self.query(sql)
        assert frames[-1]["type"] == "done", frames[-1]
        return table_of(frames)


def table_of(frames):
    body = b"".join(frame["arrow"] for frame in frames if frame["type"] == "binary")
    table = pa.ipc.open_stream(io.BytesIO(body + b"\xff\xff\xff\xff\0\0\0\0")).read_all()
    table.validate(full=True)
    return table


def kinds(frames):
    return [frame["type"] for frame in frames if frame["type"] != "binary"]


def test_hello(cluster):
    with Channel(cluster) as channel:
        hello = channel.hello
        assert hello["type"] == "hello" and hello["protocol"] == 1 and hello["engine"] == "v1.5.5"
        assert hello["user"] == "scott" and hello["workers"] == 2 and hello["nodes"] == 3 and hello["shards"] == 4
        assert len(hello["cluster"]) == 32


def test_one_query(cluster):
    with Channel(cluster) as channel:
        frames = channel.query("SELECT n_nationkey, n_name FROM nation ORDER BY 1")
        assert [frame["type"] for frame in frames] == ["begin", "binary", "binary", "end", "done"]
        begin, schema, batch, end, _ = frames
        assert begin["columns"] == ["n_nationkey", "n_name"] and begin["verb"] == "SELECT"
        assert schema["kind"] == 1 and schema["rows"] == 0 and batch["kind"] == 2 and batch["rows"] == 25
        assert end["rows"] == 25 and end["tag"] == "SELECT 25" and end["query"] == begin["query"]
        assert end["elapsed_ms"] > 0 and end["bytes"] > 0
        text, = [f for f in channel.query("SELECT repeat('x', 1000) FROM range(1000)") if f["type"] == "end"]
        assert 1000000 <= text["bytes"] <= 1100000
        table = table_of(frames)
        assert table.column("n_name")[3].as_py() == "CANADA"


def test_several_statements_stop_at_the_first_error(cluster):
    with Channel(cluster) as channel:
        frames = channel.query("SELECT 1 AS a; SET distributed = false; SHOW distributed; SELECT * FROM nothing; SELECT 2")
        assert kinds(frames) == ["begin", "end", "begin", "end", "begin", "end", "error"]
        assert [f["statement"] for f in frames if f["type"] == "begin"] == [1, 2, 3]
        error = frames[-1]
        assert error["statement"] == 4 and error["error"]["sqlstate"] == "42P01" and error["error"]["retry"] == "never"
        second = [f for f in frames if f["type"] == "begin"][1]
        assert second["verb"] == "SET" and second["columns"] == []
        assert channel.table("SHOW distributed").to_pylist() == [{"distributed": "false"}]
    with Channel(cluster) as other:
        assert other.table("SHOW distributed").to_pylist() == [{"distributed": "true"}]


def test_large_result_is_whole(cluster):
    with Channel(cluster) as channel:
        frames = channel.query("SELECT * FROM lineitem")
        end = next(frame for frame in frames if frame["type"] == "end")
        table = table_of(frames)
        assert table.num_rows == end["rows"] == sum(f["rows"] for f in frames if f["type"] == "binary")
        assert table.num_rows == channel.table("SELECT count(*) AS n FROM lineitem")["n"][0].as_py()


def test_requests_run_at_once_and_keep_apart(cluster):
    with Channel(cluster) as channel:
        for number in range(1, 17):
            channel.send(type="query", id=number, sql=f"SELECT {number} AS n, count(*) AS c FROM orders WHERE o_orderkey % 16 < {number}")
        frames = channel.collect(range(1, 17))
        counts = []
        for number in range(1, 17):
            row, = table_of(frames[number]).to_pylist()
            assert row["n"] == number
            counts.append(row["c"])
        assert counts == sorted(counts) and counts[0] > 0


def test_seventeenth_request_is_refused(cluster):
    with Channel(cluster) as channel:
        for number in range(1, 18):
            channel.send(type="query", id=number, sql=SLOW)
        frame = channel.receive()
        while frame["type"] == "progress":
            frame = channel.receive()
        assert frame["id"] == 17 and frame["type"] == "error" and frame["error"]["sqlstate"] == "53300"
        for number in range(1, 17):
            channel.send(type="cancel", id=number)
        frames = channel.collect(range(1, 17))
        assert all(f[-1]["error"]["sqlstate"] == "57014" for f in frames.values())
        assert channel.table("SELECT 1 AS a").to_pylist() == [{"a": 1}]


def test_cancel_is_quick_and_the_connection_lives(cluster):
    with Channel(cluster) as channel:
        channel.send(type="query", id=5, sql=SLOW)
        time.sleep(0.5)
        start = time.monotonic()
        channel.send(type="cancel", id=5)
        frame = channel.collect([5])[5][-1]
        assert frame["type"] == "error" and frame["error"]["sqlstate"] == "57014"
        assert time.monotonic() - start < 2
        channel.send(type="cancel", id=5)      # ended already: nothing happens
        assert channel.table("SELECT 2 AS a").to_pylist() == [{"a": 2}]


def test_cancel_and_kill_by_statement(cluster):
    with Channel(cluster) as victim, Channel(cluster) as other:
        victim.send(type="query", id=1, sql=SLOW)
        deadline = time.monotonic() + 10
        while True:
            rows = other.table("SELECT id, session FROM cluster.queries WHERE sql LIKE '%b.range \\% 7 = 3' ESCAPE '\\'"
                               " AND sql NOT LIKE '%cluster.queries%'").to_pylist()
            if rows or time.monotonic() > deadline:
                break
        assert len(rows) == 1 and rows[0]["session"] == victim.hello["session"]
        assert kinds(other.query(f"CANCEL '{rows[0]['id']}'")) == ["begin", "end", "done"]
        assert victim.collect([1])[1][-1]["error"]["sqlstate"] == "57014"
        assert other.query("CANCEL 'q-none'")[-1]["error"]["sqlstate"] == "02000"
        assert kinds(other.query(f"KILL '{victim.hello['session']}'")) == ["begin", "end", "done"]
        with pytest.raises(ConnectionClosed):
            victim.receive()


def test_statement_timeout(cluster):
    with Channel(cluster) as channel:
        channel.query("SET statement_timeout = '200ms'")
        error = channel.query(SLOW)[-1]["error"]
        assert error["sqlstate"] == "57014" and error["code"] == "timeout"
        assert channel.query("SELECT 1")[-1]["type"] == "done"


def test_progress_comes_when_asked(cluster):
    with Channel(cluster) as channel:
        channel.send(type="query", id=1, sql=SLOW, progress=True)
        start, frames = time.monotonic(), []
        while len(frames) < 3:
            frames.append(channel.receive())
        assert all(frame["type"] == "progress" and frame["id"] == 1 for frame in frames)
        assert time.monotonic() - start > 0.45
        assert {"done", "rows", "bytes", "nodes"} <= set(frames[0])
        channel.send(type="cancel", id=1)
        assert channel.collect([1])[1][-1]["type"] == "error"


def test_names_and_ping(cluster):
    with Channel(cluster) as channel:
        channel.send(type="complete", id=9)
        names = channel.receive()
        assert names["type"] == "names" and names["id"] == 9 and "sum" in names["functions"]
        lineitem = next(t for t in names["tables"] if t["name"] == "lineitem")
        assert lineitem["columns"][0] == "l_orderkey"
        channel.send(type="ping")
        assert channel.receive() == {"type": "pong"}


def test_lossless_types(cluster):
    sql = "SELECT 1::HUGEINT AS h, uuid() AS u, '1 day'::INTERVAL AS i, [1] AS l, {'a': 1} AS s"
    with Channel(cluster) as channel:
        frames = channel.query(sql)
        assert frames[-1]["type"] == "done", frames[-1]
        lossless, plain = table_of(frames), table_of(channel.query(sql, lossless=False))
        assert lossless.num_rows == plain.num_rows == 1
        assert lossless.schema.field("h") != plain.schema.field("h")
        assert table_of(channel.query(sql)).schema == lossless.schema  # a plain answer leaves nothing behind


def test_refusals_on_this_door(cluster):
    with Channel(cluster) as channel:
        for sql, state in (("INSERT INTO no_such VALUES (1)", "42P01"), ("DROP TABLE no_such", "42P01"),
                           ("EXPLAIN DROP TABLE nation", "0A000"), ("EXPLAIN PRAGMA version", "42501"),
                           ("SAVEPOINT a", "0A000"), ("PRAGMA database_list", "42501"), ("SET memory_limit = '1GB'", "42501"),
                           ("SET no_such = 1", "22023"), ("ATTACH 'x'", "42501"), ("SELEC", "42601")):
            frame = channel.query(sql)[-1]
            assert frame["type"] == "error" and frame["error"]["sqlstate"] == state, (sql, frame)


@pytest.mark.parametrize("message, code", [
    ('{"type":"no such"}', 1002), ("{", 1002), ('{"type":"query","id":0,"sql":"SELECT 1"}', 1002), (b"\0", 1003)])
def test_broken_frames_close_the_connection(cluster, message, code):
    channel = Channel(cluster)
    channel.ws.send(message)
    with pytest.raises(ConnectionClosed) as closed:
        channel.receive()
    assert closed.value.rcvd.code == code


def test_login_and_roles(cluster):
    for user, password, status in (("scott", "wrong", 401), ("worker", "united", 403), ("nobody", "x", 401)):
        with pytest.raises(InvalidStatus) as refused:
            Channel(cluster, user, password)
        assert refused.value.response.status_code == status


def test_subprotocol(cluster):
    with Channel(cluster, subprotocols=["merganser.v1"]) as channel:
        assert channel.ws.subprotocol == "merganser.v1"
    with pytest.raises(InvalidStatus) as refused:
        Channel(cluster, subprotocols=["other.v1"])
    assert refused.value.response.status_code == 400


def test_disconnect_ends_the_queries(cluster):
    sql = SLOW.replace("= 3", "= 6")
    channel = Channel(cluster)
    channel.send(type="query", id=1, sql=sql)
    time.sleep(0.3)
    channel.ws.close()
    with Channel(cluster) as other:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            rows = other.table("SELECT sql FROM cluster.queries").to_pylist()
            if not any(row["sql"] == sql for row in rows):
                return
            time.sleep(0.05)
    pytest.fail("the query still runs")


def test_slow_client_holds_no_slot_and_little_memory(cluster):
    """Readers that sleep must not keep others from running, nor make the server grow."""
    def resident():
        text = cluster.get("/metrics").body.decode()
        return int(next(l for l in text.splitlines() if l.startswith("process_resident_memory")).split()[1])

    big = "SELECT a.range AS a, repeat('x', 1000) AS x FROM range(2000000) a"
    with Channel(cluster, max_queue=1) as one, Channel(cluster, max_queue=1) as two, \
            Channel(cluster, max_queue=1) as three, Channel(cluster, max_queue=1) as four, \
            Channel(cluster, max_queue=1) as five, Channel(cluster) as quick:
        sleepers = (one, two, three, four, five)
        for sleeper in sleepers:
            sleeper.send(type="query", id=1, sql=big)
        before, then = resident(), -1
        deadline = time.monotonic() + 30
        while abs(before - then) > 2 << 20 and time.monotonic() < deadline:
            time.sleep(0.7)       # until their queues are full
            before, then = resident(), before
        start = time.monotonic()
        assert quick.table("SELECT 1 AS a").to_pylist() == [{"a": 1}]
        assert time.monotonic() - start < 2
        time.sleep(1)
        assert resident() - before < 16 << 20
        for sleeper in sleepers:
            sleeper.send(type="cancel", id=1)
            while sleeper.receive()["type"] != "error":
                pass


def test_many_connections_at_once(cluster):
    failures = []

    def work(number):
        try:
            with Channel(cluster) as channel:
                for i in range(5):
                    got = channel.table(f"SELECT {number} + count(*) AS n FROM nation")["n"][0].as_py()
                    if got != number + 25:
                        failures.append((number, i, got))
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append((number, repr(error)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures


# ---- limits that the operator sets ----

def test_limits_of_messages_and_silence(new_cluster):
    cluster = new_cluster(scale=0, shards=1)
    cluster.start_server("--max-websocket-message-size", "64KiB", "--websocket-ping-timeout", "1s")
    login = {"Authorization": basic((USER, PASSWORD))}
    where = dict(ssl=cluster.tls(), compression=None, additional_headers=login, max_size=None)
    with connect(f"wss://localhost:{cluster.port}/client", **where) as ws:
        ws.recv(10)
        ws.send(json.dumps({"type": "query", "id": 1, "sql": "SELECT '" + "x" * 60000 + "' AS a"}))
        got = ""
        while '"type":"done"' not in got:
            got = ws.recv(10)
            got = got if isinstance(got, str) else ""
        ws.send(json.dumps({"type": "query", "id": 2, "sql": "SELECT '" + "x" * 70000 + "' AS a"}))
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(10)
        assert closed.value.rcvd.code == 1009
    # Pings are answered by whoever is only quiet; who answers none is gone after the time.
    quiet = connect(f"wss://localhost:{cluster.port}/client", **where).__enter__()
    deaf = socket.create_connection(("127.0.0.1", cluster.port), timeout=30)
    with cluster.tls().wrap_socket(deaf, server_hostname="localhost") as stream:
        stream.sendall((f"GET /client HTTP/1.1\r\nHost: x\r\nAuthorization: {login['Authorization']}\r\nConnection: Upgrade\r\n"
                        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        got = b""
        while b"no sign of life" not in got:
            more = stream.recv(65536)
            assert more, got
            got += more
    quiet.recv(10)
    quiet.send(json.dumps({"type": "ping"}))
    assert json.loads(quiet.recv(10))["type"] == "pong"
    quiet.close()


# ---- rows of any width ----

def batches(frames):
    return [frame for frame in frames if frame["type"] == "binary" and frame["kind"] == 2]


def test_thousands_of_columns_come_in_messages_of_a_size(cluster):
    """7,500 columns by 1,200 rows are 72 MB: more than a client takes in one message."""
    with Channel(cluster) as channel:
        frames = channel.query("PIVOT (SELECT range % 7500 AS k, range % 1200 AS g FROM range(7500)) ON k USING count(*) GROUP BY g")
        assert frames[-1]["type"] == "done", frames[-1]
        assert max(len(frame["arrow"]) for frame in batches(frames)) < 8 << 20
        assert sum(frame["rows"] for frame in batches(frames)) == 1200
        table = table_of(frames)
        assert table.num_rows == 1200 and table.num_columns == 7501
        assert table.column_names[:4] == ["g", "0", "1", "10"]
        assert all(sum(table.column(str(k)).to_pylist()) == 1 for k in (0, 1, 2, 3750, 7499))


def test_wide_rows_are_cut(cluster):
    with Channel(cluster) as channel:
        frames = channel.query("SELECT range AS i, repeat('x', 40000) AS t FROM range(3000) ORDER BY i")
        assert frames[-1]["type"] == "done", frames[-1]
        assert max(len(frame["arrow"]) for frame in batches(frames)) < 8 << 20
        assert table_of(frames).column("i").to_pylist() == list(range(3000))


def test_one_row_above_a_message_is_told(cluster):
    with Channel(cluster) as channel:
        frames = channel.query("SELECT repeat(r_name, 10000000) AS t FROM region WHERE r_name = 'AFRICA'")
        assert frames[-1]["type"] == "done" and len(batches(frames)) == 1, frames[-1]
        error = channel.query("SELECT 1 AS a; SELECT repeat(r_name, 12000000) AS t FROM region WHERE r_name = 'AFRICA'")[-1]
        assert error["type"] == "error" and error["statement"] == 2 and error["error"]["sqlstate"] == "54000", error
        assert "64 MB" in error["error"]["message"] and "HTTP" in error["error"]["hint"]
        assert channel.table("SELECT 1 AS a").to_pylist() == [{"a": 1}]
    answer = cluster.get("/db/query?format=csv&q=SELECT+repeat(r_name,12000000)+AS+t+FROM+region+WHERE+r_name='AFRICA'")
    assert answer.status == 200 and len(answer.body) == 72000003


def test_parameters(cluster):
    """Values of a query's frame, in reads, in an INSERT that joins those of others, and in one that does not."""
    text = "'\"; -- ä"
    with Channel(cluster) as channel:
        frames = channel.query("SELECT ? AS a, ? AS b, $1 AS c", params=[1, 2])
        assert frames[-1]["error"]["sqlstate"] == "22023", frames[-1]
        table = table_of(channel.query("SELECT ?::BIGINT AS a, ? AS b, ? AS c", params=[1, text, None]))
        assert table.to_pylist() == [{"a": 1, "b": text, "c": None}]
        assert table_of(channel.query("SELECT $x || $y AS a", params={"x": "p", "y": text})).to_pylist() == [{"a": "p" + text}]
        assert channel.query("CREATE TABLE with_params (k BIGINT, v VARCHAR) PARTITIONED BY (k)")[-1]["type"] == "done"
        try:
            for sql, params in (("INSERT INTO with_params VALUES (?, ?)", [1, text]), ("INSERT INTO with_params VALUES (?, ?)", ["2", 5]),
                                ("INSERT INTO with_params VALUES (?, ?), (?, ?)", [3, None, None, "x"]),
                                ("INSERT INTO with_params VALUES ($a, $b)", {"a": 4, "b": "y"})):
                frames = channel.query(sql, params=params)
                assert [frame["type"] for frame in frames] == ["begin", "end", "done"], frames
                assert frames[1]["tag"] == f"INSERT 0 {sql.count('(')}" and frames[1]["query"].startswith("q-"), frames
            assert channel.table("SELECT k, v FROM with_params ORDER BY k NULLS LAST").to_pylist() == [
                {"k": 1, "v": text}, {"k": 2, "v": "5"}, {"k": 3, "v": None}, {"k": 4, "v": "y"}, {"k": None, "v": "x"}]
            for params in ([1], [1, "a", 2], {"a": 1}, [[1], "a"]):
                frames = channel.query("INSERT INTO with_params VALUES (?, ?)", params=params)
                assert frames[-1]["type"] == "error", frames
            # In a transaction it is of the transaction.
            channel.query("BEGIN")
            assert channel.query("INSERT INTO with_params VALUES (?, ?)", params=[9, "gone"])[-1]["transaction"] == "open"
            channel.query("ROLLBACK")
            assert channel.table("SELECT count(*) AS n FROM with_params").to_pylist() == [{"n": 5}]
            listed = channel.table("SELECT sql FROM cluster.query_history WHERE sql LIKE 'INSERT INTO with_params%' AND state = 'done'")
            assert listed.num_rows >= 4
        finally:
            channel.query("DROP TABLE with_params")


def test_many_inserts_on_one_connection(cluster):
    """Sixteen at a time, answered as they end; all are there when the last one is."""
    with Channel(cluster) as channel:
        assert channel.query("CREATE TABLE crowd (k BIGINT) PARTITIONED BY (k)")[-1]["type"] == "done"
        try:
            for turn in range(20):
                for i in range(16):
                    channel.send(type="query", id=i + 1, sql="INSERT INTO crowd VALUES (?)", params=[turn * 16 + i])
                for frames in channel.collect(range(1, 17)).values():
                    assert frames[-1]["type"] == "done", frames
            assert channel.table("SELECT count(*) AS n, sum(k)::BIGINT AS s FROM crowd").to_pylist() == [{"n": 320, "s": 320 * 319 // 2}]
        finally:
            channel.query("DROP TABLE crowd")
