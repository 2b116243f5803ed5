"""Keys that go after a while, while servers are killed: they go on every replica, and no other key does."""
import http.client
import json
import random
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

    def ask(self, name, method, path, body=None):
        """(status, headers, body), or None: nobody knows."""
        connection = self.open.pop(name, None) or self.servers.cluster.connection(self.servers.ports[name])
        try:
            connection.request(method, "/kv/brief" + path, body, {"Authorization": basic((USER, PASSWORD))})
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
