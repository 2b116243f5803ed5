"""Keys that go after a while: on every replica, while servers are killed, and not sooner or later because a clock is wrong."""
import http.client
import json
import os
import pathlib
import random
import subprocess
import threading
import time

import pytest

from conftest import PASSWORD, USER, basic
from servers_kit import Servers, until

WRITERS = 4
LOAD_S = 8
SLOW_S = 60


@pytest.fixture
def three(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=3)
    servers.start_all()
    return servers


class Client:
    """Requests at any server, each over a connection that is kept."""

    def __init__(self, servers):
        self.servers, self.open = servers, {}

    def ask(self, name, method, path, body=None, **headers):
        """(status, headers, body), or None: nobody knows."""
        connection = self.open.pop(name, None) or self.servers.cluster.connection(self.servers.ports[name])
        try:
            connection.request(method, "/kv/brief" + path, body, {"Authorization": basic((USER, PASSWORD)), **headers})
            answer = connection.getresponse()
            found = answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        self.open[name] = connection
        return found


def scan(client, name, consistency="any"):
    """{key: (version, when it goes, value)} as that server has it."""
    found, cursor = {}, ""
    while cursor is not None:
        status, _, body = client.ask(name, "GET", f"?limit=5000&values=base64&consistency={consistency}&cursor={cursor}")
        assert status == 200, body
        page = json.loads(body)
        found.update((one["key"], (one["version"], one.get("expires_ms"), one["value"])) for one in page["keys"])
        cursor = page["cursor"]
    return found


class Writer(threading.Thread):
    """Puts keys that go, that stay, and that first would go and then stay, or the other way round.

    A key is put once or twice, by one writer, so that its last acknowledged put says whether it goes.
    """

    def __init__(self, servers, number, stop):
        super().__init__(daemon=True)
        self.servers, self.number, self.stop = servers, number, stop
        self.goes, self.stays, self.unknown = {}, set(), set()  # goes: {key: how long}

    def put(self, client, rng, key, seconds):
        path = f"/{key}" + (f"?ttl={seconds}" if seconds else "")
        answer = client.ask(rng.choice(self.servers.names), "PUT", path, b"x" * rng.randrange(50))
        if answer and answer[0] == 503:
            return  # nothing has happened
        self.goes.pop(key, None)
        self.stays.discard(key)
        if not answer or answer[0] != 200:
            self.unknown.add(key)
        elif seconds:
            self.goes[key] = seconds
        else:
            self.stays.add(key)

    def run(self):
        client, rng, turn = Client(self.servers), random.Random(self.number), 0
        while not self.stop.is_set():
            turn += 1
            key = f"{self.number}-{turn}"
            for _ in range(rng.choice([1, 2])):
                if key not in self.unknown:
                    self.put(client, rng, key, rng.choice([None, 0.2, 1, 3, 3600]))


def test_expiry_under_load_and_kills(three):
    stop, rng = threading.Event(), random.Random(7)
    writers = [Writer(three, number, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    began = time.monotonic()
    while time.monotonic() < began + LOAD_S:
        time.sleep(rng.uniform(0.5, 1.5))
        leader = three.coordinator()
        three.kill(leader)
        time.sleep(0.5)
        three.start(leader)
    stop.set()
    for writer in writers:
        writer.join()
    gone = {key for writer in writers for key, seconds in writer.goes.items() if seconds < 10}
    there = {key for writer in writers for key in [*writer.stays, *(key for key, seconds in writer.goes.items() if seconds > 10)]}
    unknown = {key for writer in writers for key in writer.unknown}
    assert len(gone) > 100 and len(there) > 100, (len(gone), len(there))
    client = Client(three)

    def settled():
        """Nothing has an end that is near, at any server."""
        contents = {name: scan(client, name) for name in three.names}
        near = (time.time() + 60) * 1000
        return not any(end and end < near for found in contents.values() for _, end, _ in found.values()) and contents

    contents = until("what is brief to have gone everywhere", settled, SLOW_S, three.logs)
    first = contents[three.names[0]]
    for name, found in contents.items():
        assert found == first, (name, sorted(set(found.items()) ^ set(first.items()))[:5])
    assert not gone & set(first) and there <= set(first), (sorted(gone & set(first))[:5], sorted(there - set(first))[:5])
    assert set(first) <= there | unknown
    for key in [*rng.sample(sorted(gone), 100), *rng.sample(sorted(there), 100)]:
        answers = {(client.ask(name, "GET", f"/{key}?consistency=any") or (None,))[0] for name in three.names}
        assert answers == {200 if key in there else 404}, (key, answers)
    assert scan(client, three.names[1], "linearizable") == first
    for name in three.names:
        three.kill(name)
    for name in three.names:
        three.start(name, wait=False)
    three.await_ready(*three.names)
    client = Client(three)
    for name in three.names:
        until(f"all of it at {name}", lambda one=name: scan(client, one) == first, SLOW_S, three.logs)


def test_a_key_goes_at_the_same_place_everywhere(three):
    """When one server has told that a key has gone, no other one finds it."""
    client = Client(three)
    for turn in range(8):
        answer = client.ask(three.names[turn % 3], "PUT", f"/again-{turn}?ttl=0.3", b"1")
        assert answer[0] == 200, answer
        began = time.monotonic()
        until("it to go", lambda key=turn: client.ask(three.names[key % 3], "GET", f"/again-{key}")[0] == 404, SLOW_S, three.logs)
        assert {client.ask(name, "GET", f"/again-{turn}")[0] for name in three.names} == {404}
        assert 0.25 < time.monotonic() - began < 10


@pytest.fixture
def clocked(new_cluster, tmp_path, monkeypatch):
    """Three servers, and set(name, seconds): how far that one's wall clock is off."""
    library, source = tmp_path / "clock.so", pathlib.Path(__file__).parents[1] / "chaos" / "clock.c"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=3)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    for name in servers.names:
        (tmp_path / name).write_text("0")
        monkeypatch.setenv("MG_CLOCK", str(tmp_path / name))
        servers.start(name)
    return servers, lambda name, seconds: (tmp_path / name).write_text(str(seconds))


def test_a_wall_clock_that_jumps(clocked):
    """An hour there and back, at who leads and at another one: lengths of time are what they are."""
    servers, set_clock = clocked
    client, leader = Client(servers), servers.coordinator()
    other = servers.others(leader)[0]
    batch = json.dumps({"ops": [{"op": "add", "key": f"n{i}"} for i in range(12)]}).encode()
    kept = {f"long-{i}" for i in range(12)}
    for key in kept:
        assert client.ask(other, "PUT", f"/{key}?ttl=1800", b"1")[0] == 200
    once = client.ask(other, "PUT", "/once", b"1", **{"Idempotency-Key": "a"})
    assert once[0] == 200
    for name, seconds in ((other, 3600), (leader, 3600), (other, -3600)):
        set_clock(name, seconds)
        time.sleep(0.5)
        for i in range(12):
            assert client.ask(name, "PUT", f"/during-{i}?ttl=0.2", b"1")[0] == 200
        time.sleep(1)
        set_clock(name, 0)
        time.sleep(0.5)
        for i in range(12):
            assert client.ask(name, "PUT", f"/after-{i}?ttl=1", b"1")[0] == 200
        assert client.ask(name, "POST", "/batch", batch)[0] == 200
        until("what is brief to go", lambda: not [key for one in servers.names for key in scan(client, one) if key[:2] in ("du", "af")],
              15, servers.logs)
        for one in servers.names:
            assert kept <= set(scan(client, one, "linearizable"))
        again = client.ask(one, "PUT", "/once", b"1", **{"Idempotency-Key": "a"})
        assert (again[0], again[2]) == (200, once[2])
