"""Operations on keys of several shards: all of them or none, whoever dies in between, and nobody sees a half."""
import json
import random
import threading
import time

import pytest

from servers_kit import Servers, until
from test_kv import command, kv

KEYS = [f"k{i}" for i in range(12)]  # of all shards


@pytest.fixture(scope="module")
def single():
    from conftest import Cluster
    cluster = Cluster(scale=0, shards=2, kv_shards=4)
    servers = Servers(lambda **_: cluster, count=1)
    servers.start("server-1")
    yield servers
    cluster.remove()


def batch(servers, *ops, space="b", name="server-1", **headers):
    body = json.dumps({"ops": ops}).encode()
    return kv(servers, "POST", f"{space}/batch", body, name=name, Content_Type="application/json", **headers)


def op(what, key, **members):
    return {"op": what, "key": key, **members}


# ---- one server ----


def test_all_operations(single):
    put = batch(single, *(op("put", key, value=key, content_type="text/plain") for key in KEYS))
    assert put.status == 200, put.body
    versions = [one["version"] for one in put.json()["results"]]
    assert [kv(single, "GET", f"b/{key}").headers["ETag"] for key in KEYS] == [f'"{version}"' for version in versions]
    got = batch(single, *(op("get", key) for key in KEYS), op("get", "none"))
    assert got.json()["results"] == [{"version": version, "value": key, "content_type": "text/plain", "encoding": ""}
                                     for key, version in zip(KEYS, versions)] + [{"version": 0}]
    done = batch(single, op("check", KEYS[0], if_version=versions[0]), op("delete", KEYS[1]), op("delete", "none"),
                 op("add", "n", by=-5), op("append", KEYS[2], value="!"), op("check", "none", if_absent=True),
                 op("put", KEYS[3], value_hex="ff00"), op("get", KEYS[3]))
    results = done.json()["results"]
    assert results[1] == {"version": 0, "deleted": True} and results[2] == {"version": 0, "deleted": False}
    assert results[3]["number"] == -5 and results[7]["value_base64"] == "/wA="
    assert kv(single, "GET", f"b/{KEYS[1]}").status == 404 and kv(single, "GET", f"b/{KEYS[2]}").body == b"k2!"
    assert kv(single, "GET", "b/n").body == b"-5" and kv(single, "GET", f"b/{KEYS[3]}").body == b"\xff\x00"


def test_one_refusal_stops_all(single):
    assert batch(single, *(op("put", key, value="1") for key in KEYS), space="r").status == 200
    for refused in (op("put", KEYS[5], value="2", if_absent=True), op("check", KEYS[5], if_version=10**9),
                    op("put", "none", value="", if_present=True), op("add", "text"), op("check", "none", if_version=3)):
        kv(single, "PUT", "r/text", b"no number")
        answer = batch(single, *(op("put", key, value="2") for key in KEYS if key != refused["key"]), refused, space="r")
        assert answer.status == 412, (refused, answer.body)
        error = answer.json()["error"]
        at = len(KEYS) - (refused["key"] in KEYS)
        assert f"operation {at}, {refused['op']} of" in error["message"] and refused["key"] in error["message"]
        assert {kv(single, "GET", f"r/{key}").body for key in KEYS} == {b"1"}
    assert batch(single, *(op("put", key, value="3") for key in KEYS), space="r").status == 200  # nothing is held


def test_sent_again_it_happens_once(single):
    ops = [op("add", key) for key in KEYS]
    first = batch(single, *ops, space="once", Idempotency_Key="b1")
    again = batch(single, *ops, space="once", Idempotency_Key="b1")
    assert first.status == 200 and again.json() == first.json()
    assert {kv(single, "GET", f"once/{key}").body for key in KEYS} == {b"1"}
    assert batch(single, *ops[1:], space="once", Idempotency_Key="b1").status == 422
    single.kill("server-1")
    single.start("server-1")
    assert batch(single, *ops, space="once", Idempotency_Key="b1").json() == first.json()
    assert batch(single, *ops, space="once", Idempotency_Key="b2").status == 200
    assert {kv(single, "GET", f"once/{key}").body for key in KEYS} == {b"2"}


def test_a_name_that_was_used_for_another_request(single):
    for first, then in (([op("add", "x")], [op("add", key) for key in KEYS]), ([op("add", key) for key in KEYS], [op("add", "y")])):
        name = f"other-{len(first)}"
        assert batch(single, *first, space="other", Idempotency_Key=name).status == 200
        for key in KEYS:  # whichever shard they lie in
            answer = batch(single, *then, op("put", key, value="lost"), space="other", Idempotency_Key=name)
            assert answer.status in (200, 422), answer.body  # 200: none of its shards knows the name


def test_a_batch_is_large_but_not_too_large(single):
    value = "v" * (3 << 20)
    assert batch(single, *(op("put", key, value=value) for key in KEYS[:7]), space="large").status == 200
    got = batch(single, *(op("get", key) for key in KEYS[:4]), space="large").json()["results"]
    assert all(len(one["value"]) == len(value) for one in got)
    answer = batch(single, *(op("get", KEYS[0]) for _ in range(5000)), *(op("get", key) for key in KEYS[1:4]), space="large")
    assert answer.status == 413 and "32 MiB" in answer.json()["error"]["message"]
    assert batch(single, *(op("put", KEYS[0], value=value) for _ in range(13)), space="large").status == 413  # of the body
    assert kv(single, "PUT", f"large/{KEYS[0]}", b"").status == 200  # nothing is held


def test_a_key_may_stand_in_it_twice(single):
    results = batch(single, op("put", "t", value="1"), op("add", "t", by=4), op("get", "t"), op("put", "u", value=""),
                    op("put", "v", value=""), space="twice").json()["results"]
    assert results[1]["number"] == 5 and results[2]["value"] == "5"


@pytest.mark.parametrize("body, words", [
    ("", "byte"), ("[]", "ops"), ('{"ops": []}', "ops"), ('{"ops": 1}', "ops"),
] + [('{"ops": [%s]}' % operation, words) for operation, words in (
    ("1", "op"), ('{"op": "fly", "key": "a"}', "op"), ('{"op": "get"}', "key"), ('{"op": "get", "key": ""}', "key"),
    ('{"op": "get", "key": "a", "key_hex": "00"}', "key"), ('{"op": "get", "key_hex": "0"}', "key"), ('{"op": "put", "key": "a"}', "value"),
    ('{"op": "check", "key": "a"}', "check"), ('{"op": "put", "key": "a", "value": "", "ttl": 0}', "ttl"),
    ('{"op": "put", "key": "a", "value": "", "ttl": "1"}', "ttl"), ('{"op": "get", "key": "a", "ttl": 1}', "ttl"),
    ('{"op": "add", "key": "a", "by": 1.5}', "by"), ('{"op": "get", "key": "a", "if_version": -1}', "if_version"),
    ('{"op": "get", "key": "a", "if_version": "1"}', "if_version"), ('{"op": "add", "key": "a", "by": 99999999999999999999}', "by"),
    ('{"op": "put", "key": "a", "value": "", "if_absent": "true"}', "if_absent"),
    ('{"op": "put", "key": "a", "value": "", "encoding": "x\\r\\nSet-Cookie: a=b"}', "encoding"),
)])
def test_what_makes_no_sense_is_refused(single, body, words):
    answer = kv(single, "POST", "bad/batch", body.encode(), Content_Type="application/json")
    assert answer.status == 400 and words in answer.json()["error"]["message"], answer.body


def test_it_is_no_key_of_another_name(single):
    assert kv(single, "POST", "b/other", b"{}").status == 405
    assert kv(single, "POST", "no%20name/batch", b'{"ops": [{"op": "get", "key": "a"}]}').status == 400
    assert single.request("server-1", "POST", "/kv/b/batch", b"{}", login=None).status == 401


def test_the_command_line(single):
    ops = json.dumps({"ops": [op("put", key, value="x") for key in KEYS]})
    assert len(json.loads(command(single, "batch", ops, "-n", "cli"))["results"]) == len(KEYS)
    assert len(json.loads(command(single, "batch", "-n", "cli", given=ops.encode()))["results"]) == len(KEYS)
    assert b"op" in command(single, "batch", '{"ops": [{"op": "fly"}]}', code=3)


# ---- three servers ----

ACCOUNTS, EACH = 10, 100


@pytest.fixture
def three(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2, kv_shards=4)
    servers.start_all()
    assert batch(servers, *(op("put", f"a{i}", value=str(EACH)) for i in range(ACCOUNTS)), space="bank").status == 200
    return servers


class Bank:
    """Transfers and totals by every server, until it is stopped."""

    def __init__(self, servers):
        self.servers, self.stopped, self.lock = servers, threading.Event(), threading.Lock()
        self.moved = self.unknown = self.totals = 0
        self.wrong = []
        jobs = [self.move] * 4 + [self.add_up] * 2
        self.threads = [threading.Thread(target=self.run, args=(job,)) for job in jobs]
        for thread in self.threads:
            thread.start()

    def run(self, job):
        while not self.stopped.is_set():
            try:
                job(random.choice(self.servers.names))
            except OSError:
                time.sleep(0.05)

    def move(self, name):
        one, other = random.sample(range(ACCOUNTS), 2)
        amount = random.randint(1, 20)
        answer = batch(self.servers, op("add", f"a{one}", by=-amount), op("add", f"a{other}", by=amount),
                       op("add", f"count{one % 3}"), space="bank", name=name)
        with self.lock:
            self.moved += answer.status == 200
            self.unknown += answer.status not in (200, 503)

    def add_up(self, name):
        answer = batch(self.servers, *(op("get", f"a{i}") for i in range(ACCOUNTS)), space="bank", name=name)
        if answer.status == 200:
            total = sum(int(one["value"]) for one in answer.json()["results"])
            with self.lock:
                self.totals += 1
                if total != ACCOUNTS * EACH:
                    self.wrong.append(total)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def total_of(servers, name):
    got = [kv(servers, "GET", f"bank/a{i}", name=name) for i in range(ACCOUNTS)]
    return sum(int(one.body) for one in got) if all(one.status == 200 for one in got) else None


def test_no_money_is_made_or_lost_while_servers_die(three):
    bank = Bank(three)
    for victim in three.names:
        time.sleep(1.5)
        three.kill(victim)
        time.sleep(1.5)
        three.start(victim)
    bank.stop()
    assert bank.wrong == [] and bank.moved > 30 and bank.totals > 10, vars(bank)
    for name in three.names:
        until("the total", lambda at=name: total_of(three, at) == ACCOUNTS * EACH)
    moved = sum(int(kv(three, "GET", f"bank/count{i}").body) for i in range(3))
    assert moved >= bank.moved, "what was acknowledged has happened"


def test_who_dies_with_keys_in_hand_leaves_none_held(three):
    bank = Bank(three)
    time.sleep(2)
    three.kill("server-1")
    bank.stop()
    start = time.monotonic()
    for i in range(ACCOUNTS):  # 5 s until somebody asks, an election, and what a slow machine adds
        until("a key to be free", lambda key=i: kv(three, "PUT", f"bank/a{key}", b"1", name="server-2").status == 200)
    assert time.monotonic() - start < 30
    assert batch(three, *(op("get", f"a{i}") for i in range(ACCOUNTS)), space="bank", name="server-3").status == 200
