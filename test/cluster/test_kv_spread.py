"""100,000 keys over shards: evenly, and all of them at every server, whichever was killed, restarted, or has just come."""
import base64
import concurrent.futures
import json
import random
import socket

import pytest

from conftest import PASSWORD, USER, basic
from servers_kit import Servers, until

KEYS = 100_000
PIPELINE = 1000  # of commands of Redis clients, under way at once
ASKED = 200  # keys of each server and consistency, one by one; all of them are read by pages
SPREAD = 0.05


def random_keys(rng):
    """Binary ones too; some are the beginning of others."""
    found = set()
    while len(found) < KEYS:
        found.add(rng.randbytes(rng.choice([3, 8, 16, 60])))
    return sorted(found)


def value_of(key):
    return key[::-1] + b"."


class Loader:
    """As a Redis client with a pipeline."""

    def __init__(self, servers, name, space):
        plain = socket.create_connection(("127.0.0.1", servers.ports[name]), timeout=60)
        self.socket = servers.cluster.tls().wrap_socket(plain, server_hostname="localhost")
        self.file = self.socket.makefile("rb")
        for words in ((b"AUTH", USER.encode(), PASSWORD.encode()), (b"SELECT", space.encode())):
            self.send([words])
            assert self.file.readline() == b"+OK\r\n"

    def send(self, commands):
        self.socket.sendall(b"".join(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
                                     for words in commands))

    def put(self, keys):
        for at in range(0, len(keys), PIPELINE):
            part = keys[at:at + PIPELINE]
            self.send([(b"SET", key, value_of(key)) for key in part])
            for _ in part:
                answer = self.file.readline()
                assert answer == b"+OK\r\n", answer

    def close(self):
        self.file.close()
        self.socket.close()


def load(servers, keys):
    def part(number, name):
        loader = Loader(servers, name, "spread")
        loader.put(keys[number::3])
        loader.close()

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(part, range(3), servers.names))


def counts(servers, name):
    return [keys for (keys,) in servers.rows(name, "SELECT keys FROM cluster.kv_shards ORDER BY shard")]


class Reader:
    """A connection that is kept."""

    def __init__(self, servers, name):
        self.connection = servers.cluster.connection(servers.ports[name])

    def get(self, path):
        self.connection.request("GET", "/kv/spread" + path, headers={"Authorization": basic((USER, PASSWORD))})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def pages(self):
        """{key: value} of all keys."""
        found, cursor = {}, ""
        while cursor is not None:
            status, body = self.get(f"?limit=20000&encoding=base64&values=base64&cursor={cursor}")
            assert status == 200, body
            page = json.loads(body)
            before = len(found)
            found.update((base64.b64decode(one["key"]), base64.b64decode(one["value"])) for one in page["keys"])
            assert len(found) == before + len(page["keys"])
            cursor = page["cursor"]
        return found

    def close(self):
        self.connection.close()


def check(servers, names, expected, rng):
    """Every key at each of these servers: by pages, and some one by one."""
    def check_one(name):
        reader = Reader(servers, name)
        found = reader.pages()  # what this server has, when it has all that was acknowledged
        assert found == expected, (name, len(found), sorted(set(found) ^ set(expected))[:5])
        for consistency in ("any", "linearizable"):
            for key in rng.sample(list(expected), ASKED):
                answer = reader.get(f"/{key.hex()}?encoding=hex&consistency={consistency}")
                assert answer == (200, expected[key]), (name, consistency, key, answer)
        reader.close()

    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(check_one, names))


def await_all(servers, name):
    """It has taken what it had missed, so that what it has itself is all there is."""
    until(f"all keys at {name}", lambda: sum(counts(servers, name)) == KEYS, log=servers.logs)


def spread(new_cluster, shards):
    servers, rng = Servers(new_cluster, count=4, scale=0, shards=2, kv_shards=shards), random.Random(shards)
    three, late = servers.names[:3], servers.names[3]
    for name in three:
        servers.start(name)
    keys = random_keys(rng)
    expected = {key: value_of(key) for key in keys}
    load(servers, rng.sample(keys, KEYS))
    for name in three:
        await_all(servers, name)
        found = counts(servers, name)
        assert len(found) == shards and all(abs(count - KEYS / shards) <= SPREAD * KEYS / shards for count in found), found
    check(servers, three, expected, rng)
    for victim in three:
        servers.kill(victim)
        check(servers, [name for name in three if name != victim], expected, rng)
        servers.start(victim)
        await_all(servers, victim)
        check(servers, [victim], expected, rng)
    servers.stop(*three)
    for name in three:
        servers.start(name, wait=False)
    servers.await_ready(*three)
    check(servers, three, expected, rng)
    servers.start(late)
    await_all(servers, late)
    check(servers, servers.names, expected, rng)


def test_three_shards(new_cluster):
    spread(new_cluster, 3)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 8])
def test_other_shards(new_cluster, shards):
    spread(new_cluster, shards)
