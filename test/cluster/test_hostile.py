"""What hostile and clumsy users do: each gets a clear message, nothing is lost, and the server serves on."""
import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import time

import duckdb
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conftest import PASSWORD, PROGRAM, USER, WORKER_PASSWORD, basic

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUERIES = sorted((ROOT / "queries" / "tpch").glob("*.sql"))


def raw(cluster, timeout=10):
    plain = socket.create_connection(("127.0.0.1", cluster.port), timeout=timeout)
    return cluster.tls().wrap_socket(plain, server_hostname="localhost")


def channel_of(cluster, path="client", login=(USER, PASSWORD)):
    return connect(f"wss://localhost:{cluster.port}/{path}", ssl=cluster.tls(), compression=None, max_size=None,
                   additional_headers={"Authorization": basic(login)})


def query(channel, number, sql):
    channel.send(json.dumps({"type": "query", "id": number, "sql": sql}))


def read_all(stream):
    out = b""
    try:
        while chunk := stream.recv(65536):
            out += chunk
    except (ConnectionError, TimeoutError):
        pass
    return out


def alive(cluster):
    assert cluster.get("/ping", login=None).body == b"PONG"


# ---- HTTP ----

HEAD = f"POST /db/query HTTP/1.1\r\nHost: x\r\nAuthorization: {basic((USER, PASSWORD))}\r\n".encode()


@pytest.mark.parametrize("rest, status", [
    (b"Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\nabc", 413),  # refused at the head, not awaited
    (b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nabc", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 100000, 431),
    (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (b"Transfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    (b"Content-Length: 9223372036854775807\r\n\r\n", 413),
    (b"Content-Length: 18446744073709551621\r\n\r\nhello", 400),
    (b"Content-Length: 5, 5\r\n\r\nhello", 400),
    (b"A: b\r\n c\r\n\r\n", 400),
    (b"A: b\0c\r\n\r\n", 400),
    (b"A: " + b"b" * 100000, 431),
    (b"A: b\r\n" * 1000, 431),
])
def test_no_shape_of_a_request_is_guessed_at(cluster, rest, status):
    with raw(cluster) as stream:
        stream.sendall(HEAD + rest)
        answer = read_all(stream)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    alive(cluster)


def test_long_names_stay_out_of_messages_and_logs(cluster):
    answer = cluster.get("/status", login=("x" * 5000, "tiger"))
    assert answer.status == 401 and len(answer.body) < 500
    assert "x" * 100 not in cluster.log()


# ---- the shell's channel ----

def frame(opcode, data=b"", fin=True, length=None, masked=True):
    length = len(data) if length is None else length
    head = bytes([fin << 7 | opcode])
    bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += struct.pack(">BH", bit | 126, length)
    else:
        head += struct.pack(">BQ", bit | 127, length)
    return head + (b"\0\0\0\0" if masked else b"") + data


def close_code(cluster, data):
    """What the server closes a channel with after these bytes."""
    with raw(cluster) as stream:
        stream.sendall(f"GET /client HTTP/1.1\r\nHost: x\r\nAuthorization: {basic((USER, PASSWORD))}\r\n"
                       "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        got = b""
        while b'"shards":' not in got:
            got += stream.recv(65536)
        stream.sendall(data)
        stream.settimeout(10)
        answer = b""
        while b"\x88" not in answer:
            chunk = stream.recv(65536)
            assert chunk, "the connection ended without a close frame"
            answer += chunk
    at = answer.index(b"\x88")
    return struct.unpack(">H", answer[at + 2:at + 4])[0]


@pytest.mark.parametrize("data, code", [
    (frame(1, b"abc", length=2**62), 1009),
    (frame(2, b"abc", length=2**64 - 1), 1002),
    (frame(1, b'{"type":"ping"}', masked=False), 1002),
    (frame(9, b"x", fin=False), 1002),
    (frame(9, b"x" * 126), 1002),
    (frame(0, b"x"), 1002),
    (frame(1, b"{", fin=False) + frame(1, b"}"), 1002),
    (frame(1, b"\xed\xa0\x80"), 1007),
    (frame(8, struct.pack(">H", 1006)), 1002),
    (frame(1, b"[" * 1000000), 1002),
    (frame(1, b'{"type":"query","id":8589934592,"sql":"SELECT 1"}'), 1002),
    (frame(1, b'{"type":"query","id":-1,"sql":"SELECT 1"}'), 1002),
    (frame(1, b'{"type":"query","id":1,"sql":7}'), 1002),
])
def test_broken_frames_have_their_close_code(cluster, data, code):
    assert close_code(cluster, data) == code
    alive(cluster)


@pytest.mark.speed
def test_a_cancelled_query_is_gone_at_once(cluster):
    times = []
    with channel_of(cluster) as channel:
        channel.recv(10)
        for number, path in enumerate(QUERIES * 2, 1):
            query(channel, number, path.read_text())
            time.sleep(random.random() * 0.03)
            start = time.monotonic()
            channel.send(json.dumps({"type": "cancel", "id": number}))
            got = {}
            while got.get("type") not in ("done", "error"):
                message = channel.recv(20)
                got = json.loads(message) if isinstance(message, str) else {}
            assert got["id"] == number and got.get("error", {}).get("sqlstate", "57014") == "57014"
            times.append(time.monotonic() - start)
    assert len(times) == 44 and sorted(times)[42] < 0.25


# ---- SQL ----

@pytest.mark.parametrize("sql", [
    "SELECT * FROM s1.main.lineitem", "SELECT * FROM _mg.meta", "SELECT _mg_slot FROM lineitem",
    'SELECT * FROM temp.main."main.lineitem"', "SELECT * FROM merganser_exchange(1)", "SELECT mg_slot(1)",
    "SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('lineitem')",
    "SELECT json_serialize_plan('SELECT 1')", "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT current_setting('Temp' || '_directory')", "SELECT getvariable('a')", "SELECT * FROM duckdb_settings()",
    "SELECT * FROM system.main.duckdb_settings", "FROM (SELECT content FROM \"ReAd_TeXt\"($$/etc/passwd$$))",
    "WITH read_text AS (SELECT 1) SELECT * FROM read_text('/etc/passwd')", "SELECT write_log('x')",
    "SELECT list_transform([1], x -> (SELECT content FROM read_text('/etc/passwd')))",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x'", "SELECT 1 \0; DROP TABLE region", "SELECT " + "(" * 100000,
    "SELECT " + "- " * 100000 + "1", "SELECT 'a" + "'" * 3 + " /*",
])
def test_the_wall_holds(cluster, sql):
    answer = cluster.request("POST", "/db/query", json.dumps({"sql": sql}).encode(),
                             {"Content-Type": "application/json"})
    assert answer.status in (400, 403), answer.body[:200]
    error = answer.json()["error"]
    assert error["message"] and error["sqlstate"] and b"root:" not in answer.body


# ---- workers ----

@pytest.mark.parametrize("change, reason", [
    ({"engine": "v1.0.0"}, "DuckDB v1.0.0"), ({"protocol": 1}, "protocol 1"), ({"name": "a\nb\x1b[31m"}, "name"),
    ({"name": 'a","x":"'}, "name"), ({"name": "../x"}, "name"), ({"name": "x" * 100000}, "name"),
])
def test_a_strange_worker_is_told_why(cluster, change, reason):
    hello = {"type": "hello", "protocol": 2, "version": "0.1.0", "engine": cluster.get("/status").json()["engine"],
             "name": "w9", "threads": 1, "memory": 1 << 30} | change
    with channel_of(cluster, "worker", ("worker", WORKER_PASSWORD)) as ws:
        ws.send(json.dumps(hello))
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(10)
    assert reason in closed.value.rcvd.reason


# ---- the process ----

def counts(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    threads = int(status.split("Threads:")[1].split()[0])
    return len(os.listdir(f"/proc/{pid}/fd")), threads


def test_storms_leave_nothing_behind(cluster):
    pid = cluster.processes["server"].pid
    cluster.get("/status")
    time.sleep(0.3)
    files, threads = counts(pid)
    for _ in range(3):
        streams = [raw(cluster) for _ in range(60)]
        for stream in streams:
            stream.close()
        for size in range(60):
            with socket.create_connection(("127.0.0.1", cluster.port)) as plain:
                plain.sendall(b"\x16\x03\x01" + os.urandom(size * 5))
    deadline = time.monotonic() + 12
    while counts(pid)[0] > files + 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert counts(pid)[0] <= files + 4 and counts(pid)[1] <= threads + 2
    alive(cluster)


def test_sigterm_does_not_wait_for_what_cannot_be_interrupted(new_cluster):
    one = new_cluster()
    server = one.start_server()
    with channel_of(one) as channel:
        query(channel, 1, "SELECT levenshtein(repeat('x', 300000), repeat('y', 300000))")
        time.sleep(1)
        start = time.monotonic()
        server.terminate()
        assert server.wait(15) == 0
    assert time.monotonic() - start < 12


def test_nothing_is_stale_after_kill_9(new_cluster):
    one = new_cluster()
    for _ in range(4):
        server = one.start_server()
        with channel_of(one) as channel:
            query(channel, 1, "SELECT * FROM lineitem, range(20) ORDER BY l_comment")
            time.sleep(random.random() * 0.3)
            server.kill()
            server.wait()
    one.start_server()
    answer = one.request("POST", "/db/query", b"SELECT count(*) FROM lineitem", {"Content-Type": "text/plain"})
    assert answer.json()["result"]["values"] == [[60175]]
    assert not list((one.data / "spill").iterdir())


# ---- the data directory ----

@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "data"
    subprocess.run([PROGRAM, "bootstrap", "--data-dir", folder, "--client-username", USER, "--client-password", PASSWORD,
                    "--worker-password", WORKER_PASSWORD, "--tpch-scale-factor", "0.01", "--shard-count", "3"],
                   check=True, capture_output=True)
    return folder


def swap(data):
    one, two, other = (data / "shards" / name for name in ("0001.duckdb", "0002.duckdb", "x"))
    one.rename(other)
    two.rename(one)
    other.rename(two)


def other_format(data):
    with duckdb.connect(data / "shards" / "0001.duckdb") as db:
        db.execute("UPDATE _mg.meta SET file_format = 99")


def foreign(data):
    (data / "shards" / "0001.duckdb").unlink()
    with duckdb.connect(data / "shards" / "0001.duckdb") as db:
        db.execute("CREATE TABLE lineitem (l_orderkey BIGINT)")


@pytest.mark.parametrize("damage, words", [
    (swap, ["shard 1", "not the one that the catalog means"]),
    (other_format, ["shard 1", "format"]),
    (foreign, ["shard 1", "not the one that the catalog means"]),
    (lambda data: os.truncate(data / "shards" / "0002.duckdb", 300000), ["shard 2", "bootstrap"]),
    (lambda data: os.truncate(data / "shards" / "0002.duckdb", 0), ["shard 2", "bootstrap"]),
    (lambda data: (data / "shards" / "0000.duckdb").unlink(), ["shard 0", "bootstrap"]),
    (lambda data: (data / "log" / "catalog.json").unlink(), ["catalog.json", "Put the catalog back"]),
    (lambda data: os.truncate(data / "log" / "catalog.json", 1000), ["catalog.json", "damaged"]),
    (lambda data: (data / "log" / "catalog.json").write_bytes(os.urandom(500)), ["catalog.json", "damaged"]),
    (lambda data: (data / "log" / "catalog.json").write_text("[" * 1000000), ["catalog.json", "damaged"]),
    (lambda data: (data / "tls" / "server.key").write_text("x"), ["server.key"]),
])
def test_damage_is_named_and_nothing_is_replaced(original, tmp_path, damage, words):
    data = tmp_path / "data"
    shutil.copytree(original, data)
    damage(data)
    before = sorted(path.name for path in data.rglob("*.duckdb"))
    done = subprocess.run([PROGRAM, "server", "--data-dir", data, "--listen", "127.0.0.1:0"], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert sorted(path.name for path in data.rglob("*.duckdb")) == before


def test_a_lost_catalog_is_no_reason_to_begin_anew(original, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(original, data)
    (data / "log" / "catalog.json").unlink()
    before = {path: path.stat().st_ino for path in data.rglob("*.duckdb")}
    command = [PROGRAM, "bootstrap", "--data-dir", data, "--client-username", USER, "--client-password", PASSWORD,
               "--worker-password", WORKER_PASSWORD, "--tpch-scale-factor", "0.01", "--shard-count", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--overwrite" in done.stderr
    assert {path: path.stat().st_ino for path in data.rglob("*.duckdb")} == before
    subprocess.run([*command, "--overwrite"], check=True, capture_output=True, timeout=60)


def test_thousands_of_threads_are_not_started(tmp_path):
    done = subprocess.run([PROGRAM, "server", "--data-dir", tmp_path / "x", "--threads", "99999999999"],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "--threads" in done.stderr
    assert not (tmp_path / "x").exists()
