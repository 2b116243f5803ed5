"""Redis clients: the package `redis` over TLS, bytes by hand, and a real redis-server to compare with."""
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

redis = pytest.importorskip("redis")
from redis.backoff import NoBackoff  # noqa: E402
from redis.retry import Retry  # noqa: E402

from conftest import PASSWORD, USER, WORKER_PASSWORD, Cluster  # noqa: E402
from servers_kit import free_port, until  # noqa: E402

VALUE_MAX = 4 << 20
COMMANDS = 4000  # of the comparison


@pytest.fixture(scope="module")
def kv():
    made = Cluster(scale=0, shards=2, kv_shards=4)
    made.plain = free_port()
    made.start_server("--insecure-plaintext", "--listen-redis", f"127.0.0.1:{made.plain}")
    yield made
    made.remove()


def connect(kv, protocol=2, **kwargs):
    kwargs = {"username": USER, "password": PASSWORD, "protocol": protocol, "retry": Retry(NoBackoff(), 0), **kwargs}
    return redis.Redis(host="localhost", port=kv.port, ssl=True, ssl_ca_certs=str(kv.ca), socket_timeout=30, **kwargs)


@pytest.fixture(params=[2, 3])
def client(kv, request):
    with connect(kv, request.param) as made:
        keys = made.keys("*")
        if keys:
            made.delete(*keys)
        yield made


class Raw:
    """Bytes to the plain port and back."""

    def __init__(self, kv, login=True):
        self.socket = socket.create_connection(("127.0.0.1", kv.plain), timeout=30)
        self.file = self.socket.makefile("rb")
        if login:
            assert self.ask("AUTH", USER, PASSWORD) == b"+OK"

    def send(self, *args):
        words = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def line(self):
        return self.file.readline().rstrip(b"\r\n")

    def ask(self, *args):
        self.send(*args)
        return self.line()

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def raw(kv):
    made = Raw(kv)
    yield made
    made.close()


# ---- one command at a time ----

def test_values(client):
    assert client.set("k", b"\0\r\n\xff") and client.get("k") == b"\0\r\n\xff"
    assert client.get("none") is None
    assert client.set("k", 1, nx=True) is None and client.set("none", 1, xx=True) is None
    assert client.set("k", "new", get=True) == b"\0\r\n\xff"
    assert client.getset("k", "newer") == b"new" and client.getdel("k") == b"newer" and client.getdel("k") is None
    assert client.setnx("n", 5) == 1 and client.setnx("n", 6) == 0
    assert client.incr("n") == 6 and client.decrby("n", 10) == -4 and client.incrby("fresh", 3) == 3
    assert client.append("n", "2") == 3 and client.get("n") == b"-42" and client.strlen("n") == 3
    assert client.type("n") in (b"string", "string") and client.type("none") in (b"none", "none")
    assert client.set("", "empty") and client.get("") == b"empty"


def test_several_keys(client):
    pairs = {f"key:{i}": str(i) for i in range(500)}
    assert client.mset(pairs)
    assert client.mget([*pairs, "none"]) == [*(value.encode() for value in pairs.values()), None]
    assert client.exists("key:1", "key:1", "none") == 2
    assert client.dbsize() == 500
    assert sorted(client.keys("key:1?")) == sorted(f"key:1{i}".encode() for i in range(10))
    assert sorted(client.scan_iter(match="key:*", count=7)) == sorted(key.encode() for key in pairs)
    assert list(client.scan_iter(_type="hash")) == []
    assert client.delete(*pairs, "none") == 500 and client.dbsize() == 0


def test_cursors(client):
    client.mset({f"k{i}": i for i in range(40)})
    first, _ = client.scan(0, count=2)
    assert client.scan(first, count=2)[1] and client.scan(first, count=2)[1]  # it may be used again
    with pytest.raises(redis.ResponseError, match="invalid cursor"):
        client.scan(first + 1000)
    for _ in range(70):
        client.scan(0, count=1)
    with pytest.raises(redis.ResponseError, match="invalid cursor"):
        client.scan(first)


def test_expiry(client):
    client.set("k", 1, ex=100)
    assert 98 <= client.ttl("k") <= 100 and 98000 <= client.pttl("k") <= 100000
    assert abs(client.expiretime("k") - time.time() - 100) < 3
    assert client.expire("k", 50, gt=True) in (0, False) and client.expire("k", 200, gt=True)
    assert client.persist("k") and not client.persist("k") and client.ttl("k") == -1 and client.ttl("none") == -2
    assert client.set("k", "v", ex=100) and client.getex("k", persist=True) == b"v" and client.ttl("k") == -1
    client.psetex("k", 150, "v")
    assert client.get("k") == b"v"
    until("the key to go", lambda: client.get("k") is None, seconds=10)
    client.set("k", 1)
    assert client.expire("k", -1) and client.exists("k") == 0
    client.set("k", 1, ex=100)
    client.set("k", 2, keepttl=True)
    assert client.ttl("k") > 90
    client.set("k", 3)
    assert client.ttl("k") == -1


def test_namespaces(kv, client):
    client.set("k", "default")
    answer = kv.get("/kv/default/k")
    assert answer.status == 200 and answer.body == b"default"
    with connect(kv, db=7) as seven:
        assert seven.get("k") is None and seven.set("k", "seven")
        assert kv.get("/kv/7/k").body == b"seven" and client.get("k") == b"default"
        seven.delete("k")
    with pytest.raises(redis.ResponseError, match="invalid DB index"):
        client.execute_command("SELECT", b"a\0b")


def test_what_a_namespace_says_of_its_keys(kv, client):
    """A default TTL, and quotas, which refuse as Redis does when it has no memory."""
    full = '"limited" would hold more than its quota of 3 keys'
    oom = redis.exceptions.OutOfMemoryError
    kv.post("/db/execute", {"sql": "ALTER NAMESPACE limited SET (default_ttl = '1 hour', quota_keys = 3)"})
    client.select("limited")
    assert client.set("a", "1") and 3500 < client.ttl("a") <= 3600
    assert client.incr("n") == 1 and 3500 < client.ttl("n") <= 3600
    assert client.set("a", "2", ex=60) and client.ttl("a") <= 60
    assert client.set("a", "3", keepttl=True) and client.ttl("a") <= 60
    assert client.persist("a") and client.ttl("a") == -1
    with pytest.raises(oom, match=full):
        client.mset({f"m{i}": "1" for i in range(20)})
    assert client.exists(*[f"m{i}" for i in range(20)]) == 0
    assert client.set("b", "1")
    until("three keys", lambda: client.dbsize() == 3)
    for refused in (lambda: client.set("c", "1"), lambda: client.incr("c"), lambda: client.append("c", "1"), lambda: client.setnx("c", "1"),
                    lambda: client.getset("c", "1"), lambda: client.setex("c", 10, "1")):
        with pytest.raises(oom, match=full):
            refused()
    assert client.set("a", "a longer value") and client.get("a") == b"a longer value" and client.incr("n") == 2
    with client.pipeline(transaction=False) as pipe:
        pipe.set("a", "1").set("c", "1").get("a")
        answers = pipe.execute(raise_on_error=False)
    assert answers[0] is True and isinstance(answers[1], oom) and answers[2] == b"1"
    with client.pipeline() as pipe, pytest.raises(redis.exceptions.ExecAbortError, match="OOM"):
        pipe.set("a", "2").set("c", "1").execute()
    assert client.get("a") == b"1" and client.delete("a", "b") == 2
    until("room", lambda: client.dbsize() == 1)
    with client.pipeline() as pipe:
        assert pipe.set("a", "2").set("c", "1").execute() == [True, True]
    kv.post("/db/execute", {"sql": "ALTER NAMESPACE limited RESET (default_ttl, quota_keys)"})
    assert client.set("d", "1") and client.ttl("d") == -1
    client.delete("a", "c", "d", "n")


def test_transactions(client):
    with client.pipeline(transaction=True) as pipe:
        assert pipe.set("k", 1).incr("k").get("k").execute() == [True, 2, b"2"]
    client.set("k", "text")
    with client.pipeline(transaction=True) as pipe:
        answers = pipe.incr("k").append("k", "!").execute(raise_on_error=False)
        assert isinstance(answers[0], redis.ResponseError) and answers[1] == 5
    with client.pipeline() as pipe:
        pipe.watch("k")
        client.set("k", "other")
        pipe.multi()
        pipe.set("k", "mine")
        with pytest.raises(redis.WatchError):
            pipe.execute()
        assert client.get("k") == b"other"
        pipe.watch("k", "k")
        pipe.multi()
        pipe.set("k", "mine")
        assert pipe.execute() == [True]
    names = [f"k{i}" for i in range(20)]  # of all shards
    with client.pipeline(transaction=True) as pipe:
        for i, name in enumerate(names):
            pipe.set(name, i)
        assert pipe.get("k7").incr("k0").execute() == [True] * 20 + [b"7", 1]
    with client.pipeline() as pipe:
        pipe.watch(*names)
        client.set("k9", "other")
        pipe.multi()
        for name in names:
            pipe.delete(name)
        with pytest.raises(redis.WatchError):
            pipe.execute()
        assert client.exists(*names) == 20 and client.mget("k8", "k9") == [b"8", b"other"]
        pipe.watch(*names)
        pipe.multi()
        for name in names:
            pipe.delete(name)
        assert pipe.execute() == [1] * 20
    assert client.exists(*names) == 0


def test_who_reads_all_keys_sees_a_whole_transaction(kv, client):
    """MSET and MULTI of keys in all shards, by several clients: each reader of all of them finds one client's numbers."""
    names, stopped = [f"w{i}" for i in range(12)], threading.Event()
    seen, halves = set(), []

    def write(number):
        with connect(kv) as own:
            turn = 0
            while not stopped.is_set():
                turn += 1
                own.mset({name: f"{number}-{turn}" for name in names})

    def read():
        with connect(kv) as own:
            while not stopped.is_set():
                with own.pipeline(transaction=True) as pipe:
                    for name in names:
                        pipe.get(name)
                    values = set(pipe.execute())
                if len(values) != 1:
                    halves.append(values)
                seen.update(values)

    client.mset({name: "0" for name in names})
    threads = [threading.Thread(target=write, args=(i,)) for i in range(3)] + [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    until("some", lambda: len(seen) > 20)
    stopped.set()
    for thread in threads:
        thread.join()
    assert halves == []


def test_watched_counter(kv, client):
    """Read, add one, write if nobody else has: none is lost."""
    def count():
        with connect(kv) as own:
            for _ in range(10):
                own.transaction(lambda pipe: (lambda now: (pipe.multi(), pipe.set("n", now + 1)))(int(pipe.get("n"))), "n")

    client.set("n", 0)
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("n") == b"40"


# ---- pipelines ----

def test_pipeline(client):
    with client.pipeline(transaction=False) as pipe:
        for i in range(3000):
            pipe.set(f"k{i % 10}", i).get(f"k{i % 10}").incr("n")
        answers = pipe.execute()
    assert answers == [part for i in range(3000) for part in (True, str(i).encode(), i + 1)]


def test_what_was_read_is_read_anew_when_it_has_changed(client):
    chance, model = random.Random(7), {}
    for _ in range(40):
        pipe, expected = client.pipeline(transaction=False), []
        for turn in range(100):
            key, what = f"hot:{chance.randrange(8)}", chance.randrange(8)
            if what == 0:
                model[key] = b"%d" % turn
                pipe.set(key, turn)
                expected.append(True)
            elif what == 1:
                model[key] = model.get(key, b"") + b"x"
                pipe.append(key, "x")
                expected.append(len(model[key]))
            elif what == 2:
                pipe.getdel(key)
                expected.append(model.pop(key, None))
            elif what == 3:
                pipe.mget(key, "hot:0", "hot:1")
                expected.append([model.get(one) for one in (key, "hot:0", "hot:1")])
            else:
                pipe.get(key)
                expected.append(model.get(key))
        assert pipe.execute() == expected
    client.set("hot:0", "short", px=300)
    assert client.get("hot:0") == client.get("hot:0") == b"short"
    until("the key to go", lambda: client.get("hot:0") is None)
    client.delete(*model)


def test_large_values(kv, client):
    value = bytes(random.Random(1).randrange(256) for _ in range(1 << 16)) * 64
    assert len(value) == VALUE_MAX
    for i in range(10):
        client.set(f"large{i}", value)
    assert client.get("large0") == value
    with client.pipeline(transaction=False) as pipe:
        for _ in range(3):
            for i in range(10):
                pipe.get(f"large{i}").strlen(f"large{i}")
        assert pipe.execute() == [value, VALUE_MAX] * 30
    with pytest.raises(redis.ResponseError, match="exceeds maximum allowed size"):
        client.set("k", value + b"x")
    with pytest.raises(redis.ResponseError, match="exceeds maximum allowed size"):
        client.append("large0", "x")
    client.delete(*(f"large{i}" for i in range(10)))


def test_a_slow_reader_is_waited_for(kv, raw):
    """Who asks for much and reads nothing neither fills our memory nor stops others."""
    value = b"v" * (1 << 20)
    assert raw.ask("SET", "big", value) == b"+OK"
    request = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * 300
    writer = threading.Thread(target=raw.socket.sendall, args=(request,), daemon=True)
    writer.start()
    time.sleep(1)
    with connect(kv) as other:
        assert other.ping()
    for _ in range(300):
        assert raw.line() == b"$1048576" and raw.file.read(len(value) + 2) == value + b"\r\n"
    writer.join()
    assert raw.ask("DEL", "big") == b":1"


def test_gone_while_under_way(kv):
    for _ in range(20):
        one = Raw(kv)
        one.socket.sendall(b"".join(b"*3\r\n$3\r\nSET\r\n$2\r\nk%d\r\n$1\r\nv\r\n" % (i % 10) for i in range(2000)))
        one.close()
    with connect(kv) as client:
        assert client.set("k0", "after") and client.get("k0") == b"after"


# ---- logins ----

def test_logins(kv):
    with connect(kv, password="wrong") as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with connect(kv, username="united", password=WORKER_PASSWORD) as client, pytest.raises(redis.RedisError):
        client.ping()
    with connect(kv, username=None, password=PASSWORD) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    one = Raw(kv, login=False)
    assert one.ask("GET", "k") == one.ask("PING") == b"-NOAUTH Authentication required."
    assert one.ask("AUTH", USER, "no") == b"-WRONGPASS invalid username-password pair or user is disabled."
    assert one.ask("HELLO", 3).startswith(b"-NOAUTH HELLO must be called")
    assert one.ask("HELLO", 4) == b"-NOPROTO unsupported protocol version"
    assert one.ask("AUTH", USER, PASSWORD) == b"+OK" and one.ask("PING") == b"+PONG"
    assert one.ask("RESET") == b"+RESET" and one.ask("PING").startswith(b"-NOAUTH")
    one.send("AUTH", USER, PASSWORD)
    one.send("MSET", *("k%d" % (i // 2) for i in range(40)))  # more than a stranger may say
    assert [one.line(), one.line()] == [b"+OK", b"+OK"]
    one.close()
    one = Raw(kv, login=False)
    one.socket.sendall(b"*11\r\n")
    assert one.line() == b"-ERR Protocol error: unauthenticated multibulk length" and one.line() == b""
    one.close()


def test_errors(raw):
    for words, answer in [
        (("FOO", "a", "b"), b"-ERR unknown command 'FOO', with args beginning with: 'a' 'b' "),
        (("GET",), b"-ERR wrong number of arguments for 'get' command"),
        (("SET", "k", "v", "XX", "NX"), b"-ERR syntax error"),
        (("SET", "k", "v", "EX", "0"), b"-ERR invalid expire time in 'set' command"),
        (("SET", "k", "v", "EX", "x"), b"-ERR value is not an integer or out of range"),
        (("MSET", "a", "b", "c"), b"-ERR wrong number of arguments for 'mset' command"),
        (("CLIENT", "NOTHING"), b"-ERR unknown subcommand 'NOTHING'. Try CLIENT HELP."),
        (("EXEC",), b"-ERR EXEC without MULTI"),
        (("DISCARD",), b"-ERR DISCARD without MULTI"),
        (("MULTI",), b"+OK"),
        (("WATCH", "k"), b"-ERR WATCH inside MULTI is not allowed"),
        (("SCAN", "0"), b"-ERR Command not allowed inside a transaction"),
        (("EXEC",), b"-EXECABORT Transaction discarded because of previous errors."),
    ]:
        assert raw.ask(*words) == answer, words


def test_protocol_errors(kv, raw):
    raw.socket.sendall(b"PING\r\n*1\r\n:5\r\nPING\r\n")
    assert raw.line() == b"+PONG"
    assert raw.line() == b"-ERR Protocol error: expected '$', got ':'" and raw.line() == b""
    one = Raw(kv)
    assert one.ask("QUIT") == b"+OK" and one.line() == b""
    one.close()


def test_the_one_port_tells_protocols_apart(kv):
    with socket.create_connection(("127.0.0.1", kv.port), timeout=30) as plain:
        plain.sendall(b"PING\r\n")
        assert plain.recv(100).startswith(b"-NOAUTH")
    with socket.create_connection(("127.0.0.1", kv.port), timeout=30) as plain:
        plain.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        assert plain.recv(100).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("localhost", kv.port), timeout=30) as plain:
        with kv.tls().wrap_socket(plain, server_hostname="localhost") as secure:
            assert isinstance(secure, ssl.SSLSocket)
            secure.sendall(b"AUTH scott tiger\r\n")
            assert secure.recv(100) == b"+OK\r\n"


def test_what_tools_ask(kv, client):
    assert client.client_id() > 0 and client.client_setname("me") and client.client_getname() in ("me", b"me")
    assert len(client.client_list()) == 1 and client.config_get("save") == {}
    assert client.info()["role"] == "master" and client.command_count() > 40
    assert client.command()["get"]["arity"] == 2
    assert 'merganser_redis_commands_total{command="get"}' in kv.get("/metrics").body.decode()


# ---- beside a real one ----

@pytest.fixture
def real(tmp_path):
    program = shutil.which("redis-server")
    if not program:
        pytest.skip("redis-server is not installed: there is nothing to compare with")
    port = free_port()
    process = subprocess.Popen([program, "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port, protocol=2)
    until("redis-server", lambda: ping(client), seconds=20)
    yield client
    client.close()
    process.terminate()
    process.wait()


def ping(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def random_command(chance):
    key = chance.choice("abcdefgh")
    value = chance.choice(["", "0", "7", "-3", "9223372036854775807", "-9223372036854775808", "01", "text", b"\xff\0", "x" * 50])
    number = chance.choice(["1", "-1", "100", "9223372036854775807", "-9223372036854775808", "x", "", "1.5", "007"])
    # far enough that nothing goes by itself while both are asked
    seconds = chance.choice(["1000", "5000", "0", "-5", "9223372036854775807", "x"])
    option = chance.choice(["NX", "XX", "GT", "LT", "nx", "BAD"])
    expiry = chance.choice([["EX", seconds], ["PX", seconds + "000"], ["KEEPTTL"], ["EXAT", "99999999999"], ["PXAT", "1"], []])
    extra = chance.choice([[], [], [option], ["GET"], [option, "GET"]])
    return chance.choice([
        ["GET", key], ["GET", key], ["SET", key, value], ["SET", key, value, *expiry, *extra], ["SETNX", key, value],
        ["SETEX", key, seconds, value], ["PSETEX", key, seconds, value], ["GETSET", key, value], ["GETDEL", key],
        ["GETEX", key, *chance.choice([[], ["PERSIST"], ["EX", "1000"], ["PXAT", "99999999999999"], ["EX"], ["BAD"]])],
        ["MGET", key, "a", "z"], ["MSET", key, value, "a", "1"], ["MSET", key], ["DEL", key, "b", key], ["UNLINK", key],
        ["EXISTS", key, key, "z"], ["EXPIRE", key, seconds], ["EXPIRE", key, seconds, option], ["PEXPIRE", key, seconds, option],
        ["EXPIREAT", key, chance.choice(["1", "99999999999"]), option], ["PEXPIREAT", key, "99999999999999"], ["TTL", key],
        ["PTTL", key], ["EXPIRETIME", key], ["PEXPIRETIME", key], ["PERSIST", key], ["INCR", key], ["DECR", key],
        ["INCRBY", key, number], ["DECRBY", key, number], ["APPEND", key, value], ["STRLEN", key], ["TYPE", key], ["KEYS", "*"],
        ["KEYS", "[a-d]"], ["DBSIZE"], ["ECHO", value], ["GET"], ["NOTHING", key, value], ["SCAN", "0", "COUNT", "0"],
        [["WATCH", key], ["UNWATCH"]], ["DISCARD"], ["EXEC"],
        [["MULTI"], ["GET", key], ["INCR", key], ["SET", key, value, "BAD"], ["APPEND", key, "!"], ["TTL", key], ["EXEC"]],
        [["MULTI"], ["MULTI"], ["SET", key, value], ["WATCH", key], ["EXEC"], ["GET", key]],
        [["MULTI"], ["NOTHING"], ["SET", key, value], ["EXEC"]], [["MULTI"], ["SET", key, value], ["DISCARD"]],
        [["WATCH", key], ["SET", key, value], ["MULTI"], ["GET", key], ["EXEC"]],
        [["WATCH", key], ["MULTI"], ["SET", key, value], ["EXEC"]],
    ])


def answers(connections, commands):
    """Of each connection: all is sent at once, to all of them, then all is read, as a pipeline does."""
    for connection in connections:
        connection.send_packed_command(connection.pack_commands([tuple(command) for command in commands]))
    return [[answer(connection) for _ in commands] for connection in connections]


def answer(connection):
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return f"error {type(error).__name__} {error}"


def alike(command, ours, theirs, late_ms):
    """late_ms: how much later one of both may have carried out what it was sent."""
    name = command[0]
    if isinstance(ours, list) and isinstance(theirs, list) and name == "EXEC":
        return len(ours) == len(theirs) and all(close(a, b, 1 + late_ms) for a, b in zip(ours, theirs))
    if name == "DBSIZE":
        return ours <= theirs  # which counts what has expired until somebody asks for it
    if name == "KEYS":
        return sorted(ours) == sorted(theirs)
    if name in ("TTL", "EXPIRETIME"):
        return close(ours, theirs, 1 + late_ms / 1000)
    return close(ours, theirs, 1 + late_ms) if name in ("PTTL", "PEXPIRETIME") else str(ours) == str(theirs)


def close(ours, theirs, by):
    if isinstance(ours, int) and isinstance(theirs, int) and ours > 500 and theirs > 500:
        return abs(ours - theirs) <= by
    return str(ours) == str(theirs)


def test_answers_of_a_real_one(kv, real, client):
    chance = random.Random(7)
    own, other = client.connection_pool.get_connection(), real.connection_pool.get_connection()
    done = late_ms = 0
    while done < COMMANDS:
        batch = []
        for _ in range(chance.randint(1, 30)):
            command = random_command(chance)
            batch += command if isinstance(command[0], list) else [command]
        began = time.monotonic()
        found = answers((own, other), batch)
        # An expiry may have been set by any batch until now, on a machine that had much else to do.
        late_ms = max(late_ms, (time.monotonic() - began) * 1000)
        for command, ours, theirs in zip(batch, *found):
            assert alike(command, ours, theirs, late_ms), (command, ours, theirs, late_ms, batch)
        done += len(batch)
    client.connection_pool.release(own)
    real.connection_pool.release(other)
