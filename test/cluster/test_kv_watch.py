"""Watching keys: what events tell, that none is lost or told twice when servers are changed or killed, and what slow clients cost."""
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import PASSWORD, PROGRAM, USER, basic
from servers_kit import SLOW, Servers, until

SHARDS = 4


@pytest.fixture(scope="module")
def single():
    from conftest import Cluster
    cluster = Cluster(scale=0, shards=2, kv_shards=SHARDS)

    servers = Servers(lambda **_: cluster, count=1)
    servers.start("server-1")
    yield servers
    cluster.remove()


@pytest.fixture(scope="module")
def three():
    from conftest import Cluster
    cluster = Cluster(scale=0, shards=2, kv_shards=SHARDS)

    servers = Servers(lambda **_: cluster, count=3)
    servers.start_all()
    yield servers
    cluster.remove()


def kv(servers, method, path, body=None, name="server-1", **headers):
    return servers.request(name, method, "/kv/" + path, body, headers={key.replace("_", "-"): value for key, value in headers.items()})


def put(servers, path, body=b"1", name="server-1"):
    """Its version."""
    answer = kv(servers, "PUT", path, body, name=name)
    assert answer.status == 200, answer.body
    return answer.json()["version"]


class Watch:
    """A watch on a connection of its own, which has begun."""

    def __init__(self, servers, path, name="server-1", token=None, slow=False, timeout=SLOW):
        self.connection = servers.cluster.connection(servers.ports[name])
        self.connection.timeout = timeout
        self.connection.connect()
        if slow:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        headers = {"Authorization": basic((USER, PASSWORD)), "Accept": "text/event-stream"}
        if token:
            headers["Last-Event-ID"] = token
        self.connection.request("GET", "/kv/" + path, headers=headers)
        self.answer = self.connection.getresponse()
        if self.answer.status != 200:
            error = json.loads(self.answer.read())["error"]
            self.connection.close()
            raise Refused(self.answer.status, error)
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        self.token = None
        self.comments = 0
        if not slow:
            ready = self.next()
            assert ready["event"] == "ready" and ready["token"] == self.token, ready
            assert token is None or self.token == token

    def next(self):
        """The next event that has data; None at the end."""
        event = {}
        while True:
            line = self.answer.readline()
            if not line:
                return None
            text = line.decode().rstrip("\n")
            if not text and "data" in event:
                data = json.loads(event["data"])
                assert data["op"] == event["event"]
                return {**data, "event": event["event"]}
            if not text:
                event = {}
            elif text.startswith(":"):
                self.comments += 1
            else:
                name, value = text.split(": ", 1)
                event[name] = value
                if name == "id":
                    self.token = value

    def take(self, count):
        return [self.next() for _ in range(count)]

    def close(self):
        self.connection.close()


class Refused(Exception):
    def __init__(self, status, error):
        super().__init__(f"{status}: {error}")
        self.status, self.error = status, error


def refused(servers, path, name="server-1", token=None):
    with pytest.raises(Refused) as caught:
        Watch(servers, path, name, token).close()
    return caught.value


def open_watches(servers):
    lines = servers.request("server-1", "GET", "/metrics").body.decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("merganser_kv_watches "))


# ---- one server ----


def test_each_kind_of_change(single):
    watch = Watch(single, "kinds/watch?values=base64")
    first = kv(single, "PUT", "kinds/a", b"hello", Content_Type="text/plain", Content_Encoding="br").json()["version"]
    put_event = watch.next()
    assert (put_event["event"], put_event["key"], put_event["version"], put_event["value"]) == ("put", "a", first, "aGVsbG8=")
    assert (put_event["content_type"], put_event["encoding"], put_event["size"]) == ("text/plain", "br", 5)
    assert put_event["created_ms"] == put_event["changed_ms"] > 0
    second = put(single, "kinds/a", b"2")
    again = watch.next()
    assert (again["version"], again["value"], again["created_ms"]) == (second, "Mg==", put_event["created_ms"])
    assert kv(single, "DELETE", "kinds/a").status == 204
    gone = watch.next()
    assert (gone["event"], gone["key"]) == ("delete", "a") and gone["version"] > second and "value" not in gone
    put(single, "kinds/b?ttl=0.3")
    brief = watch.next()
    assert brief["expires_ms"] == int(kv(single, "HEAD", "kinds/b").headers["Merganser-Expires-Ms"])
    expired = watch.next()
    assert (expired["event"], expired["key"]) == ("expire", "b") and expired["version"] > brief["version"]
    assert expired["changed_ms"] >= brief["expires_ms"]
    assert kv(single, "GET", "kinds/b").status == 404
    watch.close()


def test_what_was_refused_is_not_told(single):
    watch = Watch(single, "refused/watch")
    assert kv(single, "PUT", "refused/a", b"1", If_Match="*").status == 412
    assert kv(single, "DELETE", "refused/a").status == 404
    version = put(single, "refused/a")
    assert kv(single, "PUT", "refused/a", b"2", If_None_Match="*").status == 412
    assert kv(single, "DELETE", "refused/a").status == 204
    assert [(event["event"], event["key"]) for event in watch.take(2)] == [("put", "a"), ("delete", "a")]
    again = Watch(single, "refused/watch")
    put(single, "refused/b")
    assert again.next()["key"] == "b" and version
    watch.close()
    again.close()


def test_only_what_is_asked_for(single):
    all_of_it, some = Watch(single, "some/watch"), Watch(single, "some/watch?prefix=b/")
    as_hex = Watch(single, "some/watch?prefix=ff&encoding=hex")
    for key in ("a/1", "b/1", "c", "b/2", "b"):
        put(single, f"some/{key}")
    put(single, "other/b/3")
    put(single, "some/ff00?encoding=hex")
    put(single, "some/b/4")
    assert sorted(event.get("key", event.get("key_hex")) for event in all_of_it.take(7)) == ["a/1", "b", "b/1", "b/2", "b/4", "c", "ff00"]
    assert sorted(event["key"] for event in some.take(3)) == ["b/1", "b/2", "b/4"]
    assert as_hex.next()["key"] == "ff00"
    assert "value" not in some.answer.headers and some.comments == 0
    for watch in (all_of_it, some, as_hex):
        watch.close()


def test_a_scan_says_from_where_to_watch(single):
    put(single, "both/a")
    page = kv(single, "GET", "both?limit=1").json()
    before = put(single, "both/b")
    watch = Watch(single, "both/watch?from=" + page["watch"])
    assert (watch.next()["key"], before) == ("b", before)
    assert watch.token != page["watch"]
    watch.close()


def test_a_client_that_comes_back_goes_on_where_it_was(single):
    """EventSource asks for its first URL again, with where it was in a header: that counts."""
    watch = Watch(single, "back/watch")
    start = watch.token
    put(single, "back/a")
    first = watch.next()
    watch.close()
    put(single, "back/b")
    again = Watch(single, "back/watch?from=" + start, token=watch.token)
    assert again.next()["key"] == "b"
    again.close()
    assert [event["key"] for event in Watch(single, "back/watch?from=" + start).take(2)].count("a") == 1 and first["key"] == "a"


def test_a_key_may_be_called_watch(single):
    version = put(single, "named/watch", b"!")
    assert kv(single, "GET", "named/7761746368?encoding=hex").body == b"!"
    assert json.loads(command(single, "put", "watch", "1", "-n", "named").stdout)["version"] > version
    assert command(single, "get", "watch", "-n", "named").stdout == b"1"
    assert kv(single, "DELETE", "named/watch").status == 204


@pytest.mark.parametrize("query, status, code", [
    ("from=x", 400, "usage"), ("from=v1", 400, "usage"), ("from=v1.1.1.1", 400, "usage"), ("from=v1.1.1.1.1.1", 400, "usage"),
    ("from=v1.1.1.1.-1", 400, "usage"), ("from=v1.1.1.1.x", 400, "usage"), ("from=v1.1.1.1.1x", 400, "usage"),
    ("from=v2.1.1.1.1", 400, "usage"), ("from=v1.1.1.1.99999999999999999999", 400, "usage"), ("from=v1.0.0.0.%2B1", 400, "usage"),
    ("from=v1.0.0.0.9999999", 410, "gone"),
    ("encoding=x", 400, "usage"), ("values=json", 400, "usage"), ("prefix=zz&encoding=hex", 400, "usage"),
])
def test_what_makes_no_sense_is_refused(single, query, status, code):
    answer = refused(single, "bad/watch?" + query)
    assert (answer.status, answer.error["code"]) == (status, code), answer.error


def test_who_may_watch(single):
    assert single.request("server-1", "GET", "/kv/bad/watch", login=None).status == 401
    assert single.request("server-1", "GET", "/kv/bad/watch", login=(USER, "wrong")).status == 401
    assert refused(single, "no%20name/watch").status == 400


def test_what_is_not_kept_any_more_is_410(single):
    watch = Watch(single, "large/watch")
    start = watch.token
    for _ in range(5):  # in one shard, which keeps 8 MiB
        put(single, "large/a", os.urandom(4 << 20))
    seen = watch.take(5)  # who has kept up has all of it
    assert [event["size"] for event in seen] == [4 << 20] * 5
    answer = refused(single, "large/watch?from=" + start)
    assert (answer.status, answer.error["code"], answer.error["sqlstate"]) == (410, "gone", "55000")
    assert "scan" in answer.error["hint"]
    again = Watch(single, "large/watch", token=watch.token)
    put(single, "large/a", b"small")
    assert again.next()["size"] == 5
    watch.close()
    again.close()


def test_a_quiet_watch_hears_where_it_is(single):
    """After a while, and after much that was not for it, so that it need not go on from far behind."""
    watch = Watch(single, "quiet/watch?prefix=mine")
    first = watch.token
    for _ in range(3):
        put(single, "loud/a", os.urandom(1 << 20))
    last = put(single, "quiet/mine")
    assert watch.next()["version"] == last
    told = watch.token
    assert told != first
    put(single, "loud/a")
    timer = threading.Timer(17, put, (single, "quiet/mine/end"))
    timer.start()
    began = time.monotonic()
    assert watch.next()["key"] == "mine/end"
    assert watch.comments >= 1 and time.monotonic() - began > 14
    timer.join()
    watch.close()


def test_a_client_that_goes_away_is_forgotten(single):
    until("the others to be forgotten", lambda: open_watches(single) == 0)
    watches = [Watch(single, "away/watch") for _ in range(5)]
    assert open_watches(single) == 5
    for watch in watches:
        watch.close()
    until("them to be forgotten", lambda: put(single, "away/a") and open_watches(single) == 0)


# ---- slow clients ----


def resident(servers):
    lines = servers.request("server-1", "GET", "/metrics").body.decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("process_resident_memory_bytes"))


def ended_slowly(servers):
    text = servers.request("server-1", "GET", "/metrics").body.decode()
    return 'merganser_kv_watches_ended_total{reason="slow"}' in text


def test_a_slow_client_ends_with_a_token_and_may_go_on(single):
    slow = Watch(single, "slow/watch?values=hex", slow=True)
    versions = []
    while len(versions) % 4 or not ended_slowly(single):
        assert len(versions) < 400, "it is not ended"
        versions.append(put(single, "slow/a", os.urandom(256 << 10)))
        time.sleep(0.05)
    seen, error = [], None
    for event in iter(slow.next, None):
        if event["event"] == "put":
            seen.append(event["version"])
        else:
            error = event
    assert error["event"] == "error" and error["error"]["code"] == "busy" and error["error"]["retry"] == "safe", error
    assert error["token"] == slow.token and 0 < len(seen) < len(versions)
    slow.close()
    again = Watch(single, "slow/watch", token=slow.token)
    while len(seen) < len(versions):
        seen.append(again.next()["version"])
    assert seen == versions
    again.close()


def test_many_slow_clients_cost_little(single):
    """What they do not take is not kept for each of them."""
    before = resident(single)
    watches = [Watch(single, "heavy/watch?values=hex", slow=True) for _ in range(20)]
    fast = Watch(single, "heavy/watch")
    for i in range(100):
        put(single, f"heavy/{i % 16}", os.urandom(512 << 10))
    assert len(fast.take(100)) == 100
    assert resident(single) - before < 350 << 20  # of 20 * 100 MiB of text
    last = None
    for event in iter(watches[0].next, None):
        last = event
    assert last["event"] == "error" and last["error"]["code"] in ("busy", "gone"), last
    for watch in watches + [fast]:
        watch.close()
    until("them to be forgotten", lambda: put(single, "heavy/a") and open_watches(single) == 0)


# ---- three servers ----


def test_events_at_another_server_are_what_the_puts_answered(three):
    watches = {name: Watch(three, "order/watch?values=hex", name) for name in three.names}
    expected = {}
    for i in range(120):
        key = f"k{i % 7}"
        version = put(three, f"order/{key}", b"%d" % i, name=three.names[i % 3])
        expected.setdefault(key, []).append((version, (b"%d" % i).hex()))
    for name, watch in watches.items():
        found = {}
        for event in watch.take(120):
            assert event["event"] == "put"
            found.setdefault(event["key"], []).append((event["version"], event["value"]))
        assert found == expected, name
        watch.close()


def test_a_batch_is_told_as_it_was_answered(three):
    """Its parts lie in several shards; what it was refused for leaves nothing."""
    watches = [Watch(three, "batch/watch", name) for name in three.names]
    ops = [{"op": "put", "key": f"b{i}", "value": str(i)} for i in range(12)]
    refused_ops = ops + [{"op": "check", "key": "none", "if_present": True}]
    assert three.post("server-2", "/kv/batch/batch", {"ops": refused_ops}).status == 412
    answer = three.post("server-2", "/kv/batch/batch", {"ops": ops})
    assert answer.status == 200, answer.body
    expected = {f"b{i}": one["version"] for i, one in enumerate(answer.json()["results"])}
    for watch in watches:
        events = watch.take(12)
        assert {event["key"]: event["version"] for event in events} == expected
        watch.close()
    put(three, "batch/last")
    again = Watch(three, "batch/watch", "server-3", watches[0].token)
    assert again.next()["key"] == "last"
    again.close()


class Writers:
    """Threads that put and delete, and remember what was acknowledged: {(key, version)}."""

    def __init__(self, servers, space, count=3, pause=0.002):
        self.servers, self.space, self.pause = servers, space, pause
        self.acknowledged, self.stop, self.lock = set(), threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        turn = 0
        while not self.stop.is_set():
            turn += 1
            key = f"w{number}-{turn % 11}"
            try:
                answer = kv(self.servers, "PUT", f"{self.space}/{key}", b"%d" % turn, name=random.choice(self.servers.names))
            except OSError:
                continue
            if answer.status == 200:
                with self.lock:
                    self.acknowledged.add((key, answer.json()["version"]))
            time.sleep(self.pause)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.acknowledged


class Seen:
    """Each (key, version) once, and those of a key in order."""

    def __init__(self):
        self.all, self.last = set(), {}

    def add(self, event):
        assert event["event"] == "put", event
        key, version = event["key"], event["version"]
        assert version > self.last.get(key, 0), (key, version, self.last[key])
        self.last[key] = version
        self.all.add((key, version))


def follow(servers, path, seen, names, enough, per_server):
    """Watches at one server after the other, each from where the last one was."""
    token, turn = None, 0
    while not enough():
        name = names[turn % len(names)]
        turn += 1
        try:
            watch = Watch(servers, path, name, token, timeout=10)
            for _ in range(per_server):
                if enough():
                    break
                event = watch.next()
                if event is None or event["event"] == "error":
                    break
                seen.add(event)
            token = watch.token
            watch.close()
        except Refused as refusal:
            assert refusal.status == 503, refusal
            time.sleep(0.2)
        except OSError:
            token = watch.token
            time.sleep(0.2)


def test_going_on_at_another_server_loses_and_repeats_nothing(three):
    seen, first = Seen(), Watch(three, "resume/watch")
    start = first.token
    first.close()
    writers = Writers(three, "resume")
    deadline = time.monotonic() + 12
    done = threading.Event()

    def enough():
        if time.monotonic() > deadline and not done.is_set():
            writers.end()
            done.set()
        return done.is_set() and (writers.acknowledged <= seen.all or time.monotonic() > deadline + 30)

    follow(three, "resume/watch?from=" + start, seen, three.names, enough, 23)
    assert writers.acknowledged <= seen.all, sorted(writers.acknowledged - seen.all)[:10]
    assert len(writers.acknowledged) > 100


def test_a_watch_at_a_survivor_loses_nothing(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=SHARDS)
    servers.start_all()
    leader = servers.coordinator()
    survivor, third = servers.others(leader)
    watch, seen = Watch(servers, "kills/watch", survivor), Seen()
    writers = Writers(servers, "kills")
    reader = threading.Thread(target=lambda: [seen.add(event) for event in iter(watch.next, None) if event["event"] == "put"])
    reader.start()
    time.sleep(2)
    servers.kill(leader)
    time.sleep(4)
    servers.start(leader)
    time.sleep(1)
    servers.kill(third)
    time.sleep(4)
    acknowledged = writers.end()
    until("all to be told", lambda: acknowledged <= seen.all, log=lambda: str(sorted(acknowledged - seen.all)[:10]))
    assert len(acknowledged) > 50
    # The one that was killed and came back knows what is told from there on, and what is not.
    back = Watch(servers, "kills/watch", leader)
    put(servers, "kills/last", name=survivor)
    assert back.next()["key"] == "last"
    back.close()
    servers.stop(survivor)  # says so
    reader.join()
    assert watch.token


def test_a_server_that_stops_says_so(new_cluster):
    servers = Servers(new_cluster, count=1, scale=0, shards=2, kv_shards=SHARDS)
    servers.start("server-1")
    watch = Watch(servers, "stop/watch")
    put(servers, "stop/a")
    servers.stop("server-1")
    assert watch.next()["key"] == "a"
    error = watch.next()
    assert error["event"] == "error" and error["error"]["code"] == "shutdown" and error["token"] == watch.token
    assert watch.next() is None


# ---- the command line ----


def arguments(servers, *args, names=("server-1",)):
    urls = ",".join(f"https://localhost:{servers.ports[name]}" for name in names)
    return [PROGRAM, "kv", *args, "--url", urls, "--username", USER, "--password", PASSWORD, "--tls-roots", servers.cluster.ca]


def command(servers, *args, code=0):
    done = subprocess.run(arguments(servers, *args), capture_output=True, timeout=60, check=False)
    assert done.returncode == code, (args, done)
    return done


def test_the_command_line(single):
    process = subprocess.Popen(arguments(single, "watch", "a/", "-n", "cli", "--values", "base64"), stdout=subprocess.PIPE)
    ready = json.loads(process.stdout.readline())
    assert ready["op"] == "ready"
    put(single, "cli/b")
    version = put(single, "cli/a/1", b"hello")
    kv(single, "DELETE", "cli/a/1")
    line, gone = json.loads(process.stdout.readline()), json.loads(process.stdout.readline())
    assert (line["op"], line["key"], line["version"], line["value"]) == ("put", "a/1", version, "aGVsbG8=")
    assert (gone["op"], gone["key"]) == ("delete", "a/1")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process = subprocess.Popen(arguments(single, "watch", "-n", "cli", "--from", line["token"]), stdout=subprocess.PIPE)
    assert json.loads(process.stdout.readline())["token"] == line["token"]
    assert json.loads(process.stdout.readline())["version"] == gone["version"]
    process.kill()
    process.wait()
    assert b"no token" in command(single, "watch", "--from", "x", code=3).stderr
    assert b"namespace" in command(single, "watch", "-n", "no name", code=3).stderr


def test_the_command_line_goes_on_at_another_server(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=SHARDS)
    servers.start_all()
    process = subprocess.Popen(arguments(servers, "watch", "-n", "cli", names=servers.names), stdout=subprocess.PIPE)
    assert json.loads(process.stdout.readline())["op"] == "ready"
    put(servers, "cli/a")
    assert json.loads(process.stdout.readline())["key"] == "a"
    servers.kill("server-1")
    until("a write", lambda: kv(servers, "PUT", "cli/b", b"1", name="server-2").status == 200)
    assert json.loads(process.stdout.readline())["key"] == "b"
    put(servers, "cli/c", name="server-3")
    assert json.loads(process.stdout.readline())["key"] == "c"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
