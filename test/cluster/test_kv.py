"""Keys and values over HTTP: what one server does with them, and what three servers keep when they are killed."""
import json
import random
import shutil
import threading
import time
import uuid

import pytest

from servers_kit import Servers, until


@pytest.fixture(scope="module")
def single():
    from conftest import Cluster
    cluster = Cluster(scale=0, shards=2, kv_shards=4)

    servers = Servers(lambda **_: cluster, count=1)
    servers.start("server-1")
    yield servers
    cluster.remove()


def kv(servers, method, path, body=None, name="server-1", **headers):
    return servers.request(name, method, "/kv/" + path, body, headers={key.replace("_", "-"): value for key, value in headers.items()})


# ---- one server ----


def test_a_value_comes_back_as_it_was(single):
    body = bytes(range(256)) * 40
    put = kv(single, "PUT", "blobs/a", body, Content_Type="image/png", Content_Encoding="br")
    assert put.status == 200 and put.headers["ETag"] == f'"{put.json()["version"]}"'
    got = kv(single, "GET", "blobs/a")
    assert (got.status, got.body) == (200, body)
    assert got.headers["Content-Type"] == "image/png" and got.headers["Content-Encoding"] == "br"
    assert got.headers["ETag"] == put.headers["ETag"]
    head = kv(single, "HEAD", "blobs/a")
    assert head.status == 200 and head.body == b"" and head.headers["Content-Length"] == str(len(body))
    assert kv(single, "GET", "blobs/a", If_None_Match=put.headers["ETag"]).status == 304
    assert kv(single, "DELETE", "blobs/a").status == 204
    assert kv(single, "DELETE", "blobs/a").status == 404
    missing = kv(single, "GET", "blobs/a")
    assert missing.status == 404 and missing.json()["error"]["code"] == "not_found"


def test_keys_may_be_any_bytes(single):
    assert kv(single, "PUT", "bytes/00ff0a?encoding=hex", b"1").status == 200
    assert kv(single, "GET", "bytes/AP8K?encoding=base64").body == b"1"
    assert kv(single, "PUT", "bytes/a/b%20c", b"2").status == 200
    assert kv(single, "GET", "bytes/612f622063?encoding=hex").body == b"2"
    assert kv(single, "GET", "other/a/b%20c").status == 404  # another namespace


def test_only_who_knows_the_version_changes_it(single):
    first = kv(single, "PUT", "cas/a", b"1", If_None_Match="*")
    assert first.status == 200
    refused = kv(single, "PUT", "cas/a", b"2", If_None_Match="*")
    assert refused.status == 412 and first.headers["ETag"].strip('"') in refused.json()["error"]["message"]
    second = kv(single, "PUT", "cas/a", b"2", If_Match=first.headers["ETag"])
    assert second.status == 200
    assert kv(single, "PUT", "cas/a", b"3", If_Match=first.headers["ETag"]).status == 412
    assert kv(single, "DELETE", "cas/a", If_Match=first.headers["ETag"]).status == 412
    assert kv(single, "PUT", "cas/none", b"3", If_Match="*").status == 412
    assert kv(single, "GET", "cas/a").body == b"2"
    assert kv(single, "DELETE", "cas/a", If_Match=second.headers["ETag"]).status == 204


def test_a_key_goes_when_its_time_has_come(single):
    assert kv(single, "PUT", "ttl/a?ttl=0.4", b"1").status == 200
    assert kv(single, "PUT", "ttl/b?ttl=0.4", b"1").status == 200
    assert kv(single, "PUT", "ttl/b", b"2").status == 200  # for good now
    assert kv(single, "GET", "ttl/a").headers["Merganser-Expires-Ms"]
    until("it to go", lambda: kv(single, "GET", "ttl/a").status == 404)
    assert kv(single, "GET", "ttl/b").body == b"2"


def test_a_request_that_is_sent_again_happens_once(single):
    first = kv(single, "PUT", "once/a", b"1", Idempotency_Key="k1")
    kv(single, "PUT", "once/a", b"2")
    again = kv(single, "PUT", "once/a", b"1", Idempotency_Key="k1")
    assert (again.status, again.json()) == (200, first.json()) and kv(single, "GET", "once/a").body == b"2"
    assert kv(single, "PUT", "once/a", b"3", Idempotency_Key="k1").status == 422
    assert kv(single, "DELETE", "once/a", Idempotency_Key="k2").status == 204
    kv(single, "PUT", "once/a", b"4")
    single.kill("server-1")
    single.start("server-1")
    assert kv(single, "DELETE", "once/a", Idempotency_Key="k2").status == 204
    assert kv(single, "GET", "once/a").body == b"4"


@pytest.mark.parametrize("method, path, headers, status", [
    ("GET", "bad%20name/a", {}, 400), ("DELETE", "ns", {}, 400), ("GET", "ns/", {}, 400),
    ("GET", "ns?limit=0", {}, 400), ("GET", "ns?limit=x", {}, 400), ("GET", "ns?values=json", {}, 400), ("GET", "ns?cursor=zz", {}, 400),
    ("GET", "n" * 65 + "/a", {}, 400),
    ("GET", "ns/zz?encoding=hex", {}, 400), ("GET", "ns/a?encoding=rot13", {}, 400), ("GET", "ns/a?consistency=maybe", {}, 400),
    ("PUT", "ns/a?ttl=0", {}, 400), ("PUT", "ns/a?ttl=-1", {}, 400), ("PUT", "ns/a?ttl=x", {}, 400), ("PUT", "ns/a?ttl=nan", {}, 400),
    ("PUT", "ns/a", {"If-Match": "1"}, 400), ("PUT", "ns/a", {"If-Match": '"x"'}, 400), ("PUT", "ns/a", {"If-None-Match": '"1"'}, 400),
    ("POST", "ns/a", {}, 405), ("GET", "ns/" + "00" * 65537 + "?encoding=hex", {}, (413, 414, 431, 400)),
])
def test_what_makes_no_sense_is_refused(single, method, path, headers, status):
    answer = single.request("server-1", method, "/kv/" + path, b"1" if method in ("PUT", "POST") else None, headers=headers)
    assert answer.status in (status if isinstance(status, tuple) else (status,)), answer.body


def test_a_value_that_is_too_large_is_refused(single):
    assert kv(single, "PUT", "large/a", bytes(4 << 20)).status == 200
    assert kv(single, "GET", "large/a").body == bytes(4 << 20)
    assert kv(single, "PUT", "large/b", bytes((64 << 20) + 1)).status == 413
    assert kv(single, "GET", "large/b").status == 404


def scan(servers, query, name="server-1"):
    """All pages."""
    keys, cursor = [], ""
    while cursor is not None:
        answer = kv(servers, "GET", f"{query}{'&' if '?' in query else '?'}cursor={cursor}", name=name)
        assert answer.status == 200, answer.body
        keys += answer.json()["keys"]
        cursor = answer.json()["cursor"]
    return keys


def test_keys_in_order(single):
    names = sorted(f"{letter}{number:02}" for letter in "abc" for number in range(40))
    for name in random.sample(names, len(names)):
        assert kv(single, "PUT", f"scan/{name}", name.encode(), Content_Type="text/plain").status == 200
    kv(single, "PUT", "scan2/x", b"")
    found = scan(single, "scan?limit=7")
    assert [one["key"] for one in found] == names
    assert all(one["size"] == 3 and one["content_type"] == "text/plain" and one["version"] > 0 and "value" not in one for one in found)
    assert [one["key"] for one in scan(single, "scan?prefix=b&limit=9")] == [name for name in names if name[0] == "b"]
    assert [one["key"] for one in scan(single, "scan?start=a05&end=b03")] == [name for name in names if "a05" <= name < "b03"]
    assert [one["key"] for one in scan(single, "scan?prefix=b&start=b30&end=c")] == [name for name in names if "b30" <= name < "c"]
    assert [one["key"] for one in scan(single, "scan?prefix=62&encoding=hex")] == [name.encode().hex() for name in names if name[0] == "b"]
    assert scan(single, "scan?prefix=a00&values=base64")[0]["value"] == "YTAw"
    assert scan(single, "scan?prefix=z") == [] and scan(single, "nothing") == []
    kv(single, "PUT", "scan/ff00?encoding=hex", b"")
    assert [one["key_hex"] for one in scan(single, "scan?start=d")] == ["ff00"]
    assert [one["key"] for one in scan(single, "scan?prefix=/w==&encoding=base64")] == ["/wA="]


def test_without_a_login_nothing(single):
    assert single.request("server-1", "GET", "/kv/ns/a", login=None).status == 401
    assert single.request("server-1", "PUT", "/set", b"{}", login=None).status == 401
    assert single.request("server-1", "GET", "/ping", login=None).body == b"PONG"


def test_sql_shows_namespaces(single):
    for i in range(5):
        assert kv(single, "PUT", f"shown/{i}", b"123", Content_Type="a").status == 200
    question = "SELECT keys, bytes FROM cluster.kv_namespaces WHERE name = 'shown'"
    assert single.rows("server-1", question) == [[5, 25]]  # key, value and type
    for i in range(5):
        kv(single, "DELETE", f"shown/{i}")
    assert single.rows("server-1", question) == []


# ---- as clients of old know it ----


def test_the_lines_of_old(single):
    entry = {"key": "00D1CE", "content_type": "text", "encoding": "utf8", "value": "4869"}
    stored = single.request("server-1", "PUT", "/set", json.dumps(entry).encode())
    expected = {"00d1ce": {"content_type": "text", "encoding": "utf8", "value": "4869"}}
    assert (stored.status, stored.json()) == (200, expected)
    for body, kind in ((b"00d1ce", "application/x-www-form-urlencoded"), (b"00D1CE\n", "text/plain"),
                       (b"\x00\xd1\xce", "application/octet-stream"), (b"\x00\xd1\xce", None), (b"00d1ce", None)):
        headers = {"Content-Type": kind} if kind else {}
        found = query(single, body, headers)
        assert (found.status, found.json()) == (200, expected), (body, kind)
    assert query(single, b"00", {"Content-Type": "text/plain"}).status == 404
    assert "error" in query(single, b"00", {"Content-Type": "text/plain"}).json()
    assert kv(single, "GET", "default/00d1ce?encoding=hex").body == b"Hi"


def query(servers, body, headers):
    """urllib would add a Content-Type of its own."""
    import http.client
    from conftest import PASSWORD, USER, basic
    connection = http.client.HTTPSConnection("localhost", servers.ports["server-1"], context=servers.cluster.tls(), timeout=60)
    connection.request("POST", "/query", body, {"Authorization": basic((USER, PASSWORD)), **headers})
    answer = connection.getresponse()
    from conftest import Answer
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


@pytest.mark.parametrize("entry, status", [
    ({"key": "0", "content_type": "", "encoding": "", "value": ""}, 400),
    ({"key": "zz", "content_type": "", "encoding": "", "value": ""}, 400),
    ({"key": "", "content_type": "", "encoding": "", "value": ""}, 400), ({"key": "00", "content_type": "", "encoding": ""}, 400),
    ({"key": 7, "content_type": "", "encoding": "", "value": ""}, 400), ([], 400), ("x", 400),
    ({"key": "00", "content_type": "", "encoding": "", "value": "00" * ((4 << 20) + 1)}, 413),
])
def test_what_set_refuses(single, entry, status):
    answer = single.request("server-1", "PUT", "/set", json.dumps(entry).encode())
    assert answer.status == status and "error" in answer.json(), answer.body


def test_subscribe(single):
    answer = single.request("server-1", "POST", "/subscribe", b'{"ip": "127.0.0.1", "port": 19091}')
    assert (answer.status, answer.body) == (200, b"Subscribed")
    assert single.request("server-1", "POST", "/subscribe", b"{}").status == 400


# ---- three servers ----


@pytest.fixture
def three(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=3)
    servers.start_all()
    return servers


def put(servers, name, key, value):
    """True: acknowledged; False: it did not happen; None: nobody knows."""
    try:
        answer = kv(servers, "PUT", f"t/{key}", value, name=name)
    except OSError:
        return None
    return True if answer.status == 200 else False if answer.status == 503 else None


def surely_put(servers, name, key, value):
    """Again until it is answered, which an election may keep from happening: under one Idempotency-Key it is one PUT."""
    once = str(uuid.uuid4())
    until(f"a put of {key}", lambda: kv(servers, "PUT", f"t/{key}", value, name=name, Idempotency_Key=once).status == 200,
          log=servers.logs)


def test_any_server_takes_and_gives_any_key(three):
    for i in range(60):
        assert put(three, three.names[i % 3], f"k{i}", b"%d" % i)
        for name in three.names:
            assert kv(three, "GET", f"t/k{i}", name=name).body == b"%d" % i, (i, name)
    others = three.others(three.coordinator())
    assert {three.request(name, "POST", "/subscribe", b'{"ip": "::1", "port": 1}').status for name in others} == {418}


def test_what_was_acknowledged_survives_kills(three):
    acknowledged, stop, lock = {}, threading.Event(), threading.Lock()

    def write(number):
        turn = 0
        while not stop.is_set():
            turn += 1
            key, value = f"w{number}-{turn}", b"%d" % random.getrandbits(60)
            if put(three, random.choice(three.names), key, value):
                with lock:
                    acknowledged[key] = value

    writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for writer in writers:
        writer.start()
    for victim in three.names:
        time.sleep(1.5)
        three.kill(victim)
        time.sleep(1.5)
        three.start(victim)
    stop.set()
    for writer in writers:
        writer.join()
    assert len(acknowledged) > 50
    for name in three.names:
        for key, value in acknowledged.items():
            assert kv(three, "GET", f"t/{key}", name=name).body == value, (name, key)
    for name in three.names:
        three.kill(name)
    for name in three.names:
        three.start(name, wait=False)
    three.await_ready(*three.names)
    for key, value in acknowledged.items():
        assert kv(three, "GET", f"t/{key}", name=random.choice(three.names)).body == value, key


def test_a_server_that_comes_later_has_it_all(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=3)
    servers.start("server-1")
    for i in range(500):
        assert put(servers, "server-1", f"k{i}", b"%d" % i * 50)
    servers.start("server-2")
    servers.start("server-3")
    for i in range(0, 500, 7):
        assert kv(servers, "GET", f"t/k{i}?consistency=any", name="server-3").body == b"%d" % i * 50
    first = servers.coordinator()
    servers.kill(first)
    left = servers.others(first)
    for i in range(0, 500, 11):
        assert kv(servers, "GET", f"t/k{i}", name=left[i % 2]).body == b"%d" % i * 50
    assert until("a write", lambda: put(servers, left[0], "k0", b"new"))
    assert kv(servers, "GET", "t/k0", name=left[1]).body == b"new"


# ---- damage ----


def flip(path):
    bytes_ = bytearray(path.read_bytes())
    for _ in range(20):
        bytes_[random.randrange(len(bytes_))] ^= 0xFF
    path.write_bytes(bytes_)


@pytest.mark.parametrize("damage", ["flipped", "manifest", "lost"])
def test_a_damaged_tree_is_made_anew_from_others(three, damage):
    """A server whose keys cannot be opened takes them from the others, and keeps what it had for people to look at."""
    for i in range(200):
        surely_put(three, "server-1", f"k{i}", b"%d" % i * 100)
    three.stop("server-3")
    tree = three.dirs["server-3"] / "kv" / "db"
    if damage == "lost":
        shutil.rmtree(tree)
    else:
        for path in tree.glob("*.sst" if damage == "flipped" else "MANIFEST-*"):
            flip(path)
    for i in range(200, 300):
        surely_put(three, "server-1", f"k{i}", b"%d" % i * 100)
    three.start("server-3")

    def whole():
        got = [kv(three, "GET", f"t/k{i}?consistency=any", name="server-3") for i in range(0, 300, 7)]
        return all(one.body == b"%d" % i * 100 for i, one in zip(range(0, 300, 7), got))

    until("the keys", whole)
    assert (list(tree.parent.glob("damaged-*")) != []) == (damage != "lost")
    for victim in ("server-1",):  # it counts for a majority again
        three.kill(victim)
        until("a write", lambda: put(three, "server-3", "new", b"1"))
    assert kv(three, "GET", "t/k5", name="server-3").body == b"5" * 100


# ---- the command line ----


def command(servers, *args, code=0, given=None):
    import subprocess
    from conftest import PASSWORD, PROGRAM, USER
    done = subprocess.run([PROGRAM, "kv", *args, "--url", f"https://localhost:{servers.ports['server-1']}", "--username", USER,
                           "--password", PASSWORD, "--tls-roots", servers.cluster.ca], input=given, capture_output=True, timeout=60)
    assert done.returncode == code, (args, done)
    return done.stdout if code == 0 else done.stderr


def test_the_command_line(single):
    value = bytes(range(256))
    first = json.loads(command(single, "put", "cli a/b", "-", "--content-type", "image/png", given=value))["version"]
    assert command(single, "get", "cli a/b") == value
    assert kv(single, "GET", "default/cli%20a/b").headers["Content-Type"] == "image/png"
    second = json.loads(command(single, "cas", "cli a/b", str(first), "next"))["version"]
    assert b"version" in command(single, "cas", "cli a/b", str(first), "lost", code=3)
    assert b"version" in command(single, "put", "cli a/b", "lost", "--if-absent", code=3)
    assert command(single, "get", "636c6920612f62", "--encoding", "hex") == b"next"
    assert command(single, "scan", "cli ") == f"cli a/b\t{second}\t4\tapplication/octet-stream\n".encode()
    assert json.loads(command(single, "scan", "cli ", "--format", "json"))["keys"][0]["version"] == second
    assert command(single, "delete", "cli a/b") == b""
    assert b"no such key" in command(single, "get", "cli a/b", code=3)
    command(single, "put", "brief", "x", "--ttl", "300ms", "-n", "cli")
    until("it to go", lambda: kv(single, "GET", "cli/brief").status == 404)
    assert b"namespace" in command(single, "get", "a", "-n", "no name", code=3)
    assert b"no version" in command(single, "cas", "a", "x", "1", code=1)
