"""Values to 64 MiB: they come in parts, are seen whole or not at all, and cost servers little memory."""
import hashlib
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest
from conftest import PASSWORD, PROGRAM, USER, Cluster, basic

from servers_kit import Servers, until

MIB = 1 << 20
LARGEST = 64 * MIB


@pytest.fixture(scope="module")
def single():
    cluster = Cluster(scale=0, shards=2, kv_shards=2)
    servers = Servers(lambda **_: cluster, count=1)
    servers.start("server-1")
    yield servers
    cluster.remove()


@pytest.fixture(scope="module")
def three():
    cluster = Cluster(scale=0, shards=2, kv_shards=2)
    servers = Servers(lambda **_: cluster)
    servers.start_all()
    yield servers
    cluster.remove()


def kv(servers, method, path, body=None, name="server-1", **headers):
    return servers.request(name, method, "/kv/" + path, body, headers={key.replace("_", "-"): value for key, value in headers.items()})


def value(size, seed=b"a"):
    """Bytes that do not compress; two seeds differ everywhere."""
    block = hashlib.shake_256(seed).digest(MIB)
    return (block * (size // MIB + 1))[:size]


def resident(servers, name):
    text = servers.request(name, "GET", "/metrics").body.decode()
    return int(float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.M)[1]))


def staged(servers, *names):
    """Bytes that no key has, most of all at any of them."""
    return max(int(re.search(r"^merganser_kv_staged_bytes (\d+)", servers.request(name, "GET", "/metrics").body.decode(), re.M)[1])
               for name in names or servers.names)


def no_uploads(servers, *names):
    return all(b"merganser_kv_uploads 0" in servers.request(name, "GET", "/metrics").body for name in names)


class Watcher:
    """The most memory that each server has had meanwhile."""

    def __init__(self, servers):
        self.servers, self.over = servers, False
        self.most = dict.fromkeys(servers.names, 0)
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over:
            for name in self.servers.names:
                self.most[name] = max(self.most[name], resident(self.servers, name))
            time.sleep(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


class Upload:
    """A PUT whose body is sent as the test likes."""

    def __init__(self, servers, name, path, length=None):
        raw = socket.create_connection(("127.0.0.1", servers.ports[name]), timeout=60)
        self.socket = servers.cluster.tls().wrap_socket(raw, server_hostname="localhost")
        self.chunked = length is None
        head = f"PUT /kv/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic((USER, PASSWORD))}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n" if self.chunked else f"Content-Length: {length}\r\n\r\n"
        self.socket.sendall(head.encode())

    def send(self, data):
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def end(self):
        """The answer's first line."""
        if self.chunked:
            self.socket.sendall(b"0\r\n\r\n")
        return self.answer()

    def answer(self):
        text = b""
        while b"\r\n\r\n" not in text:
            piece = self.socket.recv(65536)
            if not piece:
                break
            text += piece
        return text.split(b"\r\n")[0].decode()

    def close(self):
        self.socket.close()


# ---- one server ----


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 1, 5 * MIB, 17 * MIB + 3, LARGEST])
def test_a_large_value_comes_back_as_it_was(single, size):
    body = value(size)
    put = kv(single, "PUT", "large/a", body, Content_Type="video/mp4", Content_Encoding="br")
    assert put.status == 200 and put.headers["ETag"] == f'"{put.json()["version"]}"', put.body
    got = kv(single, "GET", "large/a")
    assert got.status == 200 and got.body == body and got.headers["Content-Length"] == str(size)
    assert got.headers["Content-Type"] == "video/mp4" and got.headers["Content-Encoding"] == "br"
    assert got.headers["ETag"] == put.headers["ETag"]
    head = kv(single, "HEAD", "large/a")
    assert head.status == 200 and head.body == b"" and head.headers["Content-Length"] == str(size)
    assert kv(single, "GET", "large/a", If_None_Match=put.headers["ETag"]).status == 304


@pytest.mark.parametrize("size", [0, 1, MIB, 4 * MIB, 4 * MIB + 1, 9 * MIB])
def test_a_body_of_unknown_length_is_taken_too(single, size):
    body = value(size, b"chunked")
    upload = Upload(single, "server-1", "large/chunked")
    for at in range(0, size, 300_000):
        upload.send(body[at:at + 300_000])
    assert upload.end() == "HTTP/1.1 200 OK"
    upload.close()
    assert kv(single, "GET", "large/chunked").body == body


def test_what_is_too_large_is_refused_with_the_limit(single):
    kv(single, "PUT", "large/limit", b"before")
    refused = kv(single, "PUT", "large/limit", bytes(LARGEST + 1))
    assert refused.status == 413 and "65536 KiB" in refused.json()["error"]["message"]
    upload = Upload(single, "server-1", "large/limit")
    for _ in range(65):
        upload.send(bytes(MIB))
    assert "413" in upload.answer()  # before its end
    upload.close()
    assert kv(single, "GET", "large/limit").body == b"before"


def test_conditions_and_ids_are_decided_at_the_end(single):
    first, other = value(6 * MIB, b"1"), value(6 * MIB, b"2")
    assert kv(single, "PUT", "large/c", first, If_Match="*").status == 412
    put = kv(single, "PUT", "large/c", first, If_None_Match="*", Idempotency_Key="c1")
    assert put.status == 200
    assert kv(single, "PUT", "large/c", other, If_None_Match="*").status == 412
    assert kv(single, "GET", "large/c").body == first
    changed = kv(single, "PUT", "large/c", other, If_Match=put.headers["ETag"])
    assert changed.status == 200 and kv(single, "GET", "large/c").body == other
    again = kv(single, "PUT", "large/c", first, If_None_Match="*", Idempotency_Key="c1")
    assert (again.status, again.json()) == (200, put.json()) and kv(single, "GET", "large/c").body == other
    assert kv(single, "PUT", "large/c", other, If_None_Match="*", Idempotency_Key="c1").status == 422
    assert kv(single, "DELETE", "large/c", If_Match=put.headers["ETag"]).status == 412
    assert kv(single, "DELETE", "large/c").status == 204 and kv(single, "GET", "large/c").status == 404


def test_a_large_value_expires(single):
    assert kv(single, "PUT", "large/ttl?ttl=1.5", value(5 * MIB)).status == 200
    assert kv(single, "GET", "large/ttl").headers["Merganser-Expires-Ms"]
    until("it to go", lambda: kv(single, "GET", "large/ttl").status == 404)


def test_pages_batches_watches_and_sql_say_what_holds(single):
    body = b"x" * (5 * MIB)
    put = kv(single, "PUT", "say/big", body)
    assert put.status == 200 and kv(single, "PUT", "say/small", b"y").status == 200
    keys = kv(single, "GET", "say?values=hex").json()["keys"]
    assert [(k["key"], k["size"], k.get("large"), k.get("value")) for k in keys] == [
        ("big", 5 * MIB, True, None), ("small", 1, None, "79")]

    def batch(*ops):
        return single.post("server-1", "/kv/say/batch", {"ops": list(ops)})

    refused = batch({"op": "get", "key": "small"}, {"op": "get", "key": "big"})
    assert refused.status == 412 and "larger than 4 MiB" in refused.json()["error"]["message"]
    assert batch({"op": "append", "key": "big", "value": "z"}).status == 412
    assert batch({"op": "add", "key": "big"}).status == 412
    assert kv(single, "GET", "say/big").body == body
    checked = batch({"op": "check", "key": "big", "if_version": put.json()["version"]}, {"op": "put", "key": "small", "value": "w"})
    assert checked.status == 200
    assert single.rows("server-1", "SELECT key, length(value), content_type FROM kv('say') ORDER BY value DESC, key") == [
        ["big", 5 * MIB, "application/x-www-form-urlencoded"], ["small", 1, None]]
    assert single.rows("server-1", "SELECT value = repeat('x', 5 * 1048576), key FROM kv('say')") == [[True, "big"], [False, "small"]]
    assert batch({"op": "delete", "key": "big"}).status == 200 and kv(single, "GET", "say/big").status == 404


def test_redis_clients_hear_the_limit(single):
    redis = pytest.importorskip("redis")
    client = redis.Redis(host="localhost", port=single.ports["server-1"], username=USER, password=PASSWORD, ssl=True,
                         ssl_ca_certs=str(single.cluster.ca))
    assert kv(single, "PUT", "default/big", value(5 * MIB)).status == 200
    assert client.set("small", "1")
    with pytest.raises(redis.ResponseError, match="larger than 4 MiB"):
        client.get("big")
    with pytest.raises(redis.ResponseError, match="larger than 4 MiB"):
        client.getdel("big")
    with pytest.raises(redis.ResponseError, match="4 MiB"):
        client.append("big", "x")
    with pytest.raises(redis.ResponseError, match="4 MiB"):
        client.set("too", bytes(4 * MIB + 1))
    assert client.strlen("big") == 5 * MIB and client.exists("big") == 1 and client.ttl("big") == -1
    assert client.expire("big", 1000) and client.ttl("big") > 900 and len(kv(single, "GET", "default/big").body) == 5 * MIB
    assert client.set("big", "2") and client.get("big") == b"2"


def test_the_command_line_puts_and_gets_it(single, tmp_path):
    body = value(LARGEST, b"cli")
    (tmp_path / "in").write_bytes(body)
    options = ["--url", single.cluster.url, "--username", USER, "--tls-roots", single.cluster.ca]
    env = {**os.environ, "MERGANSER_PASSWORD": PASSWORD}
    with (tmp_path / "in").open("rb") as file:
        put = subprocess.run([PROGRAM, "kv", "put", "file", "-", *options], stdin=file, env=env, capture_output=True, timeout=120,
                             check=False)
    assert put.returncode == 0, put.stderr
    with (tmp_path / "out").open("wb") as file:
        got = subprocess.run([PROGRAM, "kv", "get", "file", *options], stdout=file, stderr=subprocess.PIPE, env=env, timeout=120,
                             check=False)
    assert got.returncode == 0 and (tmp_path / "out").read_bytes() == body, got.stderr
    more = subprocess.run([PROGRAM, "kv", "put", "file", "-", *options], input=body + b"x", env=env, capture_output=True, timeout=120,
                          check=False)
    assert more.returncode != 0 and b"more than 64 MiB" in more.stderr


def test_so_many_at_once_and_no_more(single):
    uploads = [Upload(single, "server-1", f"large/many{i}", 5 * MIB) for i in range(16)]
    for upload in uploads:
        upload.send(bytes(1024))
    until("all to be taken", lambda: b"merganser_kv_uploads 16" in single.request("server-1", "GET", "/metrics").body)
    refused = Upload(single, "server-1", "large/more", 5 * MIB)
    assert "429" in refused.answer()
    for upload in uploads[1:]:
        upload.close()
    uploads[0].send(bytes(5 * MIB - 1024))
    assert uploads[0].end() == "HTTP/1.1 200 OK"
    until("the others to be let go", lambda: no_uploads(single, "server-1") and staged(single) == 0)
    assert kv(single, "GET", "large/many1").status == 404
    assert kv(single, "PUT", "large/more", value(5 * MIB)).status == 200


def test_who_is_not_let_in_sends_nothing(single):
    """The answer comes before the body, which is not read."""
    raw = socket.create_connection(("127.0.0.1", single.ports["server-1"]), timeout=30)
    with single.cluster.tls().wrap_socket(raw, server_hostname="localhost") as stranger:
        stranger.sendall(b"PUT /kv/large/stranger HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n")
        assert stranger.recv(65536).startswith(b"HTTP/1.1 401")
    assert kv(single, "PUT", "large/%00", value(5 * MIB)).status == 400
    assert kv(single, "PUT", "large/a?ttl=x", value(5 * MIB)).status == 400
    assert staged(single) == 0 and no_uploads(single, "server-1")


def test_what_is_no_http_ends_the_upload(single):
    upload = Upload(single, "server-1", "large/garbage")
    upload.send(bytes(6 * MIB))
    until("parts to be staged", lambda: staged(single) > 0)
    upload.socket.sendall(b"zz\r\n")
    assert upload.answer() == ""
    upload.close()
    until("them to go", lambda: staged(single) == 0 and no_uploads(single, "server-1"), seconds=20)
    assert kv(single, "GET", "large/garbage").status == 404


def test_requests_behind_a_large_one_have_their_answers(single):
    body = value(6 * MIB, b"pipelined")
    upload = Upload(single, "server-1", "large/pipelined", len(body))
    following = f"GET /ping HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic((USER, PASSWORD))}\r\nConnection: close\r\n\r\n"
    upload.send(body + following.encode())
    text = b""
    while piece := upload.socket.recv(65536):
        text += piece
    upload.close()
    assert text.count(b"HTTP/1.1 200") == 2 and text.endswith(b"PONG"), text
    assert kv(single, "GET", "large/pipelined").body == body


def test_a_server_that_stops_lets_go_of_both(single):
    assert kv(single, "PUT", "large/kept", value(LARGEST)).status == 200
    upload = Upload(single, "server-1", "large/stopped", LARGEST)
    upload.send(bytes(10 * MIB))
    connection = single.cluster.connection(single.ports["server-1"])
    connection.request("GET", "/kv/large/kept", headers={"Authorization": basic((USER, PASSWORD))})
    answer = connection.getresponse()
    assert len(answer.read(MIB)) == MIB
    single.stop("server-1")
    upload.close()
    connection.close()
    single.start("server-1")
    assert kv(single, "GET", "large/kept").body == value(LARGEST)
    assert kv(single, "GET", "large/stopped").status == 404


# ---- three servers ----


def leader_of_a_write(servers, name, path):
    """Whom ?redirect=1 names; None: the asked one leads."""
    connection = servers.cluster.connection(servers.ports[name])
    connection.request("DELETE", f"/kv/{path}?redirect=1&encoding=hex", headers={"Authorization": basic((USER, PASSWORD))})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 307:
        return None, answer
    port = urllib.parse.urlsplit(answer.headers["Location"]).port
    return next(n for n in servers.names if servers.ports[n] == port), answer


def test_every_server_has_it_whole(three):
    first, second = value(LARGEST, b"first"), value(LARGEST, b"second")
    put = kv(three, "PUT", "big/a", first, name="server-2")
    assert put.status == 200
    for name in three.names:
        assert kv(three, "GET", "big/a", name=name).body == first
    assert kv(three, "PUT", "big/a", second, name="server-3", If_Match=put.headers["ETag"]).status == 200
    for name in three.names:
        assert kv(three, "GET", "big/a", name=name).body == second
    assert kv(three, "DELETE", "big/a").status == 204
    assert [kv(three, "GET", "big/a", name=name).status for name in three.names] == [404] * 3


def test_readers_see_one_value_or_the_other(three):
    values = [value(8 * MIB, seed) for seed in (b"0", b"1")]
    assert kv(three, "PUT", "big/turns", values[0]).status == 200
    over, seen, wrong = threading.Event(), set(), []

    def read(name):
        while not over.is_set():
            body = kv(three, "GET", "big/turns", name=name).body
            seen.add(values.index(body)) if body in values else wrong.append(len(body))

    readers = [threading.Thread(target=read, args=(name,)) for name in three.names]
    for reader in readers:
        reader.start()
    for i in range(1, 7):
        assert kv(three, "PUT", "big/turns", values[i % 2], name=three.names[i % 3]).status == 200
    over.set()
    for reader in readers:
        reader.join()
    assert not wrong and seen == {0, 1}


def test_servers_need_little_memory_for_it(three):
    body = value(LARGEST, b"memory")
    assert kv(three, "PUT", "big/warm", body).status == 200
    before = {name: resident(three, name) for name in three.names}
    with Watcher(three) as watcher:
        for i in range(6):
            name = three.names[i % 3]
            assert kv(three, "PUT", f"big/m{i}", body, name=name).status == 200
            assert kv(three, "GET", f"big/m{i}", name=three.names[(i + 1) % 3]).body == body
    rise = {name: (watcher.most[name] - before[name]) >> 20 for name in three.names}
    print("rise in MiB:", rise, "from", {name: size >> 20 for name, size in before.items()})
    assert max(rise.values()) < 160, rise
    for i in range(6):
        assert kv(three, "DELETE", f"big/m{i}").status == 204


def test_a_slow_reader_costs_a_part_and_sees_one_value(three):
    first = value(LARGEST, b"slow")
    assert kv(three, "PUT", "big/slow", first).status == 200
    connection = three.cluster.connection(three.ports["server-1"])
    connection.request("GET", "/kv/big/slow", headers={"Authorization": basic((USER, PASSWORD))})
    answer = connection.getresponse()
    got = answer.read(MIB)
    assert kv(three, "PUT", "big/slow", b"small").status == 200
    time.sleep(1)
    got += answer.read()
    connection.close()
    assert got == first and kv(three, "GET", "big/slow").body == b"small"


QUERY_THREADS, QUERIES_WAITING = 256, 1024  # of a server


def occupy(servers, name, sockets, until_s):
    """Queries that go on until their clients go, until one more is refused: every query thread has one, and no more may wait."""
    sql = urllib.parse.quote("SELECT count(*) FROM range(400000) a, range(400000) b WHERE hash(a.range + b.range) = 7")
    head = f"GET /db/query?q={sql} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic((USER, PASSWORD))}\r\n\r\n".encode()
    deadline = time.monotonic() + until_s
    while time.monotonic() < deadline:
        for _ in range(QUERY_THREADS + QUERIES_WAITING + 8 - len(sockets)):
            plain = socket.create_connection(("127.0.0.1", servers.ports[name]), timeout=30)
            sockets.append(servers.cluster.tls().wrap_socket(plain, server_hostname="localhost"))
            sockets[-1].sendall(head)
        time.sleep(0.2)
        sockets[-1].setblocking(False)
        try:
            return sockets[-1].recv(100)
        except (BlockingIOError, ssl.SSLWantReadError):
            sockets[-1].setblocking(True)
            sockets.pop(0).close()
    return b""


def test_a_reader_waits_for_its_turn_when_all_threads_are_at_work(single):
    """An answer that has begun does not end because no thread is free for its next part; one that has not says so."""
    first = value(LARGEST, b"turn")
    assert kv(single, "PUT", "big/turn", first).status == 200
    connection = single.cluster.connection(single.ports["server-1"])
    connection.request("GET", "/kv/big/turn", headers={"Authorization": basic((USER, PASSWORD))})
    answer = connection.getresponse()
    got = answer.read(MIB)
    sockets = []
    try:
        assert b" 429 " in occupy(single, "server-1", sockets, 60)
        refused = kv(single, "GET", "big/turn")
        assert refused.status == 429 and refused.json()["error"]["retry"] == "safe"
        free = threading.Timer(2, lambda: [one.close() for one in sockets])
        free.start()
        got += answer.read()  # what has come and was not read is much less than the rest
        free.join()
    finally:
        for one in sockets:
            one.close()
        connection.close()
    assert got == first
    until("threads", lambda: kv(single, "GET", "big/turn").body == first)


def test_a_write_is_sent_to_who_leads_when_asked(three):
    def agreed():
        told = [leader_of_a_write(three, name, "61/6b657920c3bc")[0] for name in three.names]
        return told if len(set(told)) == 2 and told.count(None) == 1 else None

    told = until("a leader that all know", agreed)
    leader = next(n for n in told if n)
    assert told[three.names.index(leader)] is None
    other = three.others(leader)[0]
    _, answer = leader_of_a_write(three, other, "61/6b657920c3bc")
    assert answer.headers["Location"] == f"https://127.0.0.1:{three.ports[leader]}/kv/61/6b657920c3bc?encoding=hex"
    connection = three.cluster.connection(three.ports[other])
    connection.request("PUT", "/kv/to/a%20%C3%BC%3F?redirect=1", body=bytes(5 * MIB), headers={"Authorization": basic((USER, PASSWORD))})
    answer = connection.getresponse()
    if answer.status == 307:
        assert answer.headers["Location"].endswith("/kv/to/a%20%C3%BC%3F")
    else:
        assert answer.status == 200
    connection.close()


def test_an_upload_that_breaks_off_leaves_nothing(three):
    assert kv(three, "PUT", "big/broken", b"before").status == 200
    for name in three.names:
        upload = Upload(three, name, "big/broken", LARGEST)
        upload.send(value(20 * MIB))
        upload.close()
    until("uploads to be let go", lambda: no_uploads(three, *three.names) and staged(three) == 0, seconds=20)
    assert [kv(three, "GET", "big/broken", name=name).body for name in three.names] == [b"before"] * 3


def test_a_server_that_is_killed_in_the_middle_leaves_nothing(three):
    assert kv(three, "PUT", "big/killed", b"before").status == 200
    upload = Upload(three, "server-3", "big/killed", LARGEST)
    upload.send(value(30 * MIB))
    time.sleep(1)
    three.kill("server-3")
    upload.close()
    assert kv(three, "GET", "big/killed").body == b"before"
    body = value(LARGEST, b"meanwhile")
    until("a majority", lambda: kv(three, "PUT", "big/killed", body, name="server-2").status == 200)
    three.start("server-3")
    assert kv(three, "GET", "big/killed", name="server-3").body == body
    assert staged(three) > 20 * MIB
    until("what was staged to go", lambda: staged(three) == 0, seconds=100)
    for name in three.names:
        assert kv(three, "GET", "big/killed", name=name).body == body


def test_the_leader_dies_while_it_comes(three):
    body = value(LARGEST, b"leader")
    upload = Upload(three, "server-1", "big/led", LARGEST)
    upload.send(body[:10 * MIB])
    leader = leader_of_a_write(three, "server-1", "big/6c6564")[0]
    victim = leader or "server-2"
    if leader:
        three.kill(victim)
    for at in range(10 * MIB, LARGEST, MIB):
        upload.send(body[at:at + MIB])
    line = upload.end()
    upload.close()
    assert line == "HTTP/1.1 200 OK", line
    if leader:
        three.start(victim)
    for name in three.names:
        assert kv(three, "GET", "big/led", name=name).body == body


# ---- full disks ----


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of its own, and how to fill and empty that."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "none", folder],
                                           capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder, leave):
    """All of it but so many bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with (folder / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free - leave)


def put_status(servers, name, path, body=b"1"):
    return kv(servers, "PUT", path, body, name=name).status


def start_led_by(servers, wanted, first, last):
    """While there are but two, each is led by the other one when it comes back."""
    servers.start(first)
    servers.start(wanted)
    while servers.coordinator() != wanted:
        servers.stop(first)
        servers.start(first)
    servers.start(last)


def test_a_full_disk_ends_writing_keys_and_nothing_else(small_disk):
    redis = pytest.importorskip("redis")
    cluster = Cluster(scale=0, shards=1, kv_shards=2)
    servers = Servers(lambda **_: cluster)
    servers.dirs["server-2"] = small_disk / "server-2"
    try:
        start_led_by(servers, "server-2", "server-1", "server-3")
        until("it to lead keys", lambda: leader_of_a_write(servers, "server-1", "full/61")[0] == "server-2")
        body = value(5 * MIB)
        assert kv(servers, "PUT", "full/a", body).status == 200
        fill(small_disk, 100 * MIB)
        until("it to be noticed", lambda: put_status(servers, "server-2", "full/x") == 507)
        refused = kv(servers, "PUT", "full/x", b"1", name="server-2").json()["error"]
        assert refused["sqlstate"] == "53100" and refused["retry"] == "safe" and "Make room" in refused["hint"]
        assert put_status(servers, "server-2", "full/y", body) == 507
        assert kv(servers, "DELETE", "full/x", name="server-2").status == 507
        assert servers.post("server-2", "/kv/full/batch", {"ops": [{"op": "put", "key": "z", "value": "1"}]}).status == 507
        client = redis.Redis(host="localhost", port=servers.ports["server-2"], username=USER, password=PASSWORD, ssl=True,
                             ssl_ca_certs=str(cluster.ca))
        with pytest.raises(redis.ResponseError, match="MISCONF.*nothing is written"):
            client.set("a", "1")
        assert client.get("a") is None
        # Asked elsewhere: what it leads it gives to servers that have room.
        until("a leader with room", lambda: put_status(servers, "server-1", "full/a", body) == 200, log=servers.logs)
        until("others to lead", lambda: servers.status("server-1")["coordinator"] not in (None, "server-2"), log=servers.logs)
        assert servers.post("server-1", "/db/execute", {"sql": "CREATE TABLE t (i INTEGER)"}).status == 200
        assert kv(servers, "GET", "full/a", name="server-2").body == body
        assert servers.alive("server-2")
        (small_disk / "filler").unlink()
        until("writing to go on", lambda: put_status(servers, "server-2", "full/x") == 200, log=servers.logs)
        until("it to have caught up", lambda: kv(servers, "GET", "full/x", name="server-2").body == b"1", log=servers.logs)
        assert "event=kv.broken" not in cluster.log("server-2")
    finally:
        cluster.remove()
