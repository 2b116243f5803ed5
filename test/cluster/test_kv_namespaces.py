"""Namespaces with settings of their own: a default TTL and quotas, at each door, at each server, and when servers are killed."""
import json
import subprocess
import threading

import pytest

from conftest import PASSWORD, PROGRAM, USER, Cluster
from servers_kit import Servers, execute, query, until

SHARDS = 4


@pytest.fixture(scope="module")
def three():
    servers = Servers(Cluster, scale=0, shards=2, kv_shards=SHARDS)
    try:
        servers.cluster.run("user", "create", "ada", "--password", "x", "--data-dir", servers.cluster.data)
        servers.start_all()
        yield servers
    finally:
        servers.cluster.remove()


def kv(servers, method, path, body=None, name="server-1", **headers):
    return servers.request(name, method, "/kv/" + path, body, headers={key.replace("_", "-"): value for key, value in headers.items()})


def settings(servers, space, name="server-1"):
    """[default_ttl, quota_bytes, quota_keys], or None."""
    rows = query(servers, name, f"SELECT default_ttl, quota_bytes, quota_keys FROM cluster.kv_namespaces WHERE name = '{space}'")
    return rows[0] if rows else None


def alter(servers, space, what, name="server-1"):
    """Holds at all servers when it returns."""
    execute(servers, name, f'ALTER NAMESPACE "{space}" {what}')
    wanted = settings(servers, space, name)
    for other in servers.names:
        until(f"{space} at {other}", lambda one=other: settings(servers, space, one) == wanted)


def use(servers, space, name="server-1"):
    """[keys, bytes], once all shards have the same there."""
    rows = query(servers, name, f"SELECT keys, bytes FROM cluster.kv_namespaces WHERE name = '{space}'")
    return rows[0] if rows else [0, 0]


def refused(answer, space):
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["sqlstate"], error["retry"]) == (507, "quota", "53400", "never"), answer.body
    assert f'"{space}"' in error["message"] and "ALTER NAMESPACE" in error["hint"], error
    return error["message"]


# ---- settings ----


def test_settings_are_set_and_taken_back(three):
    assert settings(three, "made") is None
    alter(three, "made", "SET (default_ttl = '1 hour', quota_bytes = '1 GB', quota_keys = 1000)", "server-2")
    assert settings(three, "made", "server-3") == [3600.0, 10 ** 9, 1000] and use(three, "made") == [0, 0]
    alter(three, "made", "SET (quota_keys = NULL, default_ttl = 90)", "server-3")
    assert settings(three, "made") == [90.0, 10 ** 9, None]
    alter(three, "made", "RESET (default_ttl)")
    assert settings(three, "made") == [None, 10 ** 9, None]
    alter(three, "made", "RESET (quota_bytes)")
    assert settings(three, "made") is None  # it has no keys, and nothing is wanted of it


@pytest.mark.parametrize("sql, status, sqlstate", [
    ("ALTER NAMESPACE a SET (quota_keys = 0)", 400, "22023"), ("ALTER NAMESPACE a SET (shards = 3)", 400, "22023"),
    ("ALTER NAMESPACE a SET (default_ttl = '200000 days')", 400, "22023"), ('ALTER NAMESPACE "a b" SET (quota_keys = 1)', 400, "22023"),
    ("ALTER NAMESPACE a SET quota_keys = 1", 400, "42601"), ("CREATE NAMESPACE a", 400, "0A000"), ("DROP NAMESPACE a", 400, "0A000"),
])
def test_what_makes_no_sense_is_refused(three, sql, status, sqlstate):
    answer = three.post("server-2", "/db/execute", {"sql": sql})
    assert (answer.status, answer.json()["error"]["sqlstate"]) == (status, sqlstate), answer.body
    assert settings(three, "a") is None


def test_only_where_statements_write(three):
    sql = "ALTER NAMESPACE a SET (quota_keys = 1)"
    assert three.post("server-1", "/db/query", {"sql": sql}).status == 403
    answer = three.post("server-1", "/db/execute", {"statements": [sql, sql], "transaction": True})
    assert answer.status == 400, answer.body
    assert three.post("server-1", "/db/execute", {"sql": sql}, headers={"Idempotency-Key": "x"}).status == 400
    assert settings(three, "a") is None


def test_only_an_admin_says_what_is_wanted(three):
    ada = {"login": ("ada", "x")}
    answer = three.post("server-1", "/db/execute", {"sql": "ALTER NAMESPACE hers SET (quota_keys = 1)"}, **ada)
    assert (answer.status, answer.json()["error"]["sqlstate"]) == (403, "42501"), answer.body
    alter(three, "hers", "SET (quota_keys = 1)")
    assert three.request("server-1", "PUT", "/kv/hers/a", b"1", **ada).status == 200
    refused(three.request("server-1", "PUT", "/kv/hers/b", b"1", **ada), "hers")
    answer = three.post("server-1", "/db/query", {"sql": "SELECT quota_keys FROM cluster.kv_namespaces WHERE name = 'hers'"}, **ada)
    assert answer.json()["result"]["values"] == [[1]]


# ---- a default TTL ----


def test_keys_go_as_their_namespace_says(three):
    alter(three, "brief", "SET (default_ttl = 0.5)")
    for path, body in (("brief/plain", b"1"), ("brief/own?ttl=600", b"1"), ("brief/stays?ttl=none", b"1"), ("brief/large", bytes(5 << 20))):
        assert kv(three, "PUT", path, body, "server-2").status == 200
    ops = [{"op": "put", "key": "b-plain", "value": "1"}, {"op": "put", "key": "b-own", "value": "1", "ttl": 600},
           {"op": "put", "key": "b-stays", "value": "1", "ttl": None}, {"op": "add", "key": "b-number"},
           {"op": "append", "key": "b-text", "value": "1"}]
    assert three.post("server-3", "/kv/brief/batch", {"ops": ops}).status == 200
    execute(three, "server-1", "INSERT INTO kv.brief (key, value, expires) VALUES ('s-plain', '1', NULL), "
                               "('s-stays', '1', 'infinity'::TIMESTAMPTZ), ('s-own', '1', now() + INTERVAL 10 MINUTE)")
    stays = ["b-own", "b-stays", "own", "s-own", "s-stays", "stays"]
    for name in three.names:
        until("keys to go", lambda one=name: [row[0] for row in query(three, one, "SELECT key FROM kv('brief') ORDER BY key")] == stays)
    expires = query(three, "server-1", "SELECT key FROM kv('brief') WHERE expires IS NULL ORDER BY key")
    assert expires == [["b-stays"], ["s-stays"], ["stays"]]
    alter(three, "brief", "RESET (default_ttl)")
    assert kv(three, "PUT", "brief/plain", b"1").status == 200
    assert "Merganser-Expires-Ms" not in kv(three, "GET", "brief/plain").headers


def test_a_request_stays_the_same_when_the_default_changes(three):
    alter(three, "again", "SET (default_ttl = 100)")
    first = kv(three, "PUT", "again/a", b"1", Idempotency_Key="ttl-1")
    assert first.status == 200
    alter(three, "again", "SET (default_ttl = 200)")
    again = kv(three, "PUT", "again/a", b"1", "server-2", Idempotency_Key="ttl-1")
    assert (again.status, again.json()) == (200, first.json())
    alter(three, "again", "RESET (default_ttl)")
    assert kv(three, "PUT", "again/a", b"1", "server-3", Idempotency_Key="ttl-1").json() == first.json()
    assert kv(three, "PUT", "again/a?ttl=100", b"1", Idempotency_Key="ttl-1").status == 422


# ---- quotas ----


def test_a_quota_of_keys_over_all_shards(three):
    """One client, one key after the other: the quota is met exactly."""
    alter(three, "few", "SET (quota_keys = 10)")
    for i in range(10):
        assert kv(three, "PUT", f"few/k{i}", b"1", "server-2").status == 200
    for name in three.names:
        until("all of them", lambda one=name: use(three, "few", one)[0] == 10)
        assert "10 keys" in refused(kv(three, "PUT", "few/one-more", b"1", name), "few")
    assert kv(three, "PUT", "few/k3", b"a longer value").status == 200
    assert kv(three, "GET", "few/k3").body == b"a longer value"
    assert kv(three, "DELETE", "few/k3").status == 204
    until("room", lambda: kv(three, "PUT", "few/one-more", b"1").status == 200)
    alter(three, "few", "SET (quota_keys = 11)")
    assert kv(three, "PUT", "few/another", b"1").status == 200
    alter(three, "few", "SET (quota_keys = 5)")  # what is there stays
    assert kv(three, "PUT", "few/k4", b"2").status == 200
    refused(kv(three, "PUT", "few/k3", b"1"), "few")
    alter(three, "few", "RESET (quota_keys)")
    assert kv(three, "PUT", "few/k3", b"1").status == 200


def test_a_quota_of_bytes(three):
    alter(three, "small", "SET (quota_bytes = '2 MB')")
    assert kv(three, "PUT", "small/a", bytes(10 ** 6)).status == 200
    until("its bytes", lambda: use(three, "small", "server-1")[1] > 10 ** 6)
    refused(kv(three, "PUT", "small/b", bytes(10 ** 6)), "small")
    refused(kv(three, "PUT", "small/large", bytes(5 << 20)), "small")
    until("nothing that is staged", lambda: b"merganser_kv_staged_bytes 0" in three.request("server-1", "GET", "/metrics").body)
    for body in (bytes(10 ** 6), bytes(100)):  # not larger, smaller
        assert kv(three, "PUT", "small/a", body).status == 200
    refused(kv(three, "PUT", "small/a", bytes(3 * 10 ** 6)), "small")
    assert len(kv(three, "GET", "small/a").body) == 100
    execute(three, "server-1", "ALTER NAMESPACE small SET (quota_bytes = '6 MB')")
    assert kv(three, "PUT", "small/large", bytes(5 << 20)).status == 200


def test_a_request_over_a_quota_changes_nothing(three):
    alter(three, "whole", "SET (quota_keys = 4)")
    ops = [{"op": "put", "key": f"k{i}", "value": "1"} for i in range(40)]
    refused(three.post("server-2", "/kv/whole/batch", {"ops": ops}), "whole")
    assert three.post("server-2", "/kv/whole/batch", {"ops": ops[:1]}, headers={"Idempotency-Key": "whole-1"}).status == 200
    error = three.post("server-3", "/db/execute", {"sql": "INSERT INTO kv.whole SELECT 'r' || i, '1' FROM range(40) r(i)"})
    refused(error, "whole")
    for name in three.names:
        until("one key", lambda one=name: [row[0] for row in query(three, one, "SELECT key FROM kv('whole')")] == ["k0"])


def batch(servers, space, *ops, name="server-1"):
    values = {"put": {"value": "1"}, "append": {"value": "1" * 20}, "delete": {}}
    return servers.post(name, f"/kv/{space}/batch", {"ops": [{"op": op, "key": key, **values[op]} for op, key in ops]})


def test_a_quota_counts_all_shards_of_a_batch(three):
    """Each shard alone would have room for its part."""
    alter(three, "parts", "SET (quota_keys = 20)")
    refused(batch(three, "parts", *(("put", f"k{i}") for i in range(21))), "parts")
    assert query(three, "server-1", "SELECT key FROM kv('parts')") == []
    assert batch(three, "parts", *(("put", f"k{i}") for i in range(20))).status == 200
    assert batch(three, "parts", *(("put", f"k{i}") for i in range(20))).status == 200  # they are there
    refused(batch(three, "parts", *(("put", f"k{i}") for i in range(21))), "parts")
    refused(three.post("server-1", "/db/execute", {"sql": "INSERT INTO kv.parts SELECT 'k' || i, '2' FROM range(21) r(i)"}), "parts")
    execute(three, "server-1", "INSERT INTO kv.parts SELECT 'k' || i, '2' FROM range(20) r(i)")
    assert batch(three, "parts", *(("delete", f"k{i}") for i in range(8))).status == 200
    assert batch(three, "parts", *(("put", f"n{i}") for i in range(4)), *(("put", f"k{i}") for i in range(8, 20))).status == 200
    refused(batch(three, "parts", *(("put", f"m{i}") for i in range(5))), "parts")
    assert batch(three, "parts", *(("put", f"m{i}") for i in range(4))).status == 200
    assert query(three, "server-1", "SELECT count(*) FROM kv('parts')") == [[20]]
    alter(three, "parts", "SET (quota_keys = NULL, quota_bytes = 100)")
    refused(batch(three, "parts", *(("append", f"k{i}") for i in range(8, 20))), "parts")
    assert batch(three, "parts", *(("put", f"k{i}") for i in range(8, 20))).status == 200


def test_a_refused_request_may_be_sent_again(three):
    alter(three, "anew", "SET (quota_keys = 1)")
    assert kv(three, "PUT", "anew/a", b"1").status == 200
    until("its key", lambda: use(three, "anew", "server-1")[0] == 1)
    refused(kv(three, "PUT", "anew/b", b"1", Idempotency_Key="anew-1"), "anew")
    assert kv(three, "DELETE", "anew/a").status == 204
    until("room", lambda: kv(three, "PUT", "anew/b", b"1", Idempotency_Key="anew-1").status == 200)


def test_old_clients_hear_of_a_quota(three):
    document = json.dumps({"key": "0a0b", "content_type": "", "encoding": "", "value": "00" * 100}).encode()
    alter(three, "default", "SET (quota_bytes = 50)")
    refused(three.request("server-1", "PUT", "/set", document), "default")
    alter(three, "default", "RESET (quota_bytes)")
    assert three.request("server-1", "PUT", "/set", document).status == 200


def test_many_writers_pass_a_quota_by_little(three):
    """Writers at all servers: what they put is at most what was under way more, and what was refused is not there."""
    alter(three, "race", "SET (quota_keys = 200)")
    done, failed = [], []

    def write(number):
        for i in range(100):
            answer = kv(three, "PUT", f"race/w{number}-{i}", b"1", three.names[number % 3])
            if answer.status == 200:
                done.append(f"w{number}-{i}")
            elif answer.status != 507:
                failed.append(answer.body)

    writers = [threading.Thread(target=write, args=(i,)) for i in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert 200 <= len(done) <= 200 + 6 * SHARDS
    for name in three.names:
        assert sorted(row[0] for row in query(three, name, "SELECT key FROM kv('race')")) == sorted(done)
        until("the same counts", lambda one=name: use(three, "race", one)[0] == len(done))


# ---- at the command line ----


def run(servers, *args):
    return subprocess.run([PROGRAM, "kv", *args, "--url", f"https://localhost:{servers.ports['server-2']}", "--username", USER,
                           "--password", PASSWORD, "--tls-roots", servers.cluster.ca],
                          capture_output=True, text=True, timeout=60, check=False)


def test_from_the_command_line(three):
    done = run(three, "namespace", "from-cli", "--default-ttl", "1h", "--quota", "100", "--quota-keys", "2", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert '"from-cli"' in done.stdout and "3600" in done.stdout and "100" in done.stdout
    assert run(three, "put", "a", "1", "-n", "from-cli").returncode == 0
    assert run(three, "put", "b", "1", "-n", "from-cli", "--no-ttl").returncode == 0
    assert query(three, "server-1", "SELECT key, expires IS NULL FROM kv('from-cli') ORDER BY key") == [["a", False], ["b", True]]
    until("two keys", lambda: use(three, "from-cli", "server-2")[0] == 2)
    refused_put = run(three, "put", "c", "1", "-n", "from-cli")
    assert refused_put.returncode == 3 and "quota of 2 keys" in refused_put.stderr, refused_put.stderr
    assert run(three, "namespace", "from-cli", "--quota-keys", "none").returncode == 0
    assert run(three, "put", "c", "1", "-n", "from-cli").returncode == 0
    listed = run(three, "namespaces")
    assert listed.returncode == 0 and "from-cli" in listed.stdout and "default_ttl" in listed.stdout
    wrong = run(three, "namespace", "from-cli", "--quota", "much")
    assert wrong.returncode == 3 and "quota_bytes" in wrong.stderr, (wrong.returncode, wrong.stderr)
    shown = run(three, "namespace", "from-cli")
    assert shown.returncode == 0 and "from-cli" in shown.stdout


# ---- when servers die ----


def test_settings_and_counts_survive_kills(three):
    alter(three, "kept", "SET (default_ttl = 500, quota_keys = 30)")
    for i in range(20):
        assert kv(three, "PUT", f"kept/k{i}", b"1", three.names[i % 3]).status == 200
    victim = three.coordinator()  # it leads the shards
    survivors = three.others(victim)
    three.kill(victim)
    until("a new leader of all shards", lambda: all(kv(three, "PUT", f"kept/k{i}", b"2", survivors[0]).status == 200 for i in range(20)))
    assert settings(three, "kept", survivors[1]) == [500.0, None, 30]
    for i in range(20, 30):
        assert kv(three, "PUT", f"kept/k{i}", b"1", survivors[i % 2]).status == 200
        until("it to be counted", lambda: all(use(three, "kept", one)[0] == i + 1 for one in survivors))
    refused(kv(three, "PUT", "kept/more", b"1", survivors[0]), "kept")
    three.start(victim)
    refused(kv(three, "PUT", "kept/more", b"1", victim), "kept")
    for name in three.names:
        three.kill(name)
    for name in three.names:
        three.start(name, wait=False)
    three.await_ready(*three.names)
    for name in three.names:
        assert settings(three, "kept", name) == [500.0, None, 30]
        until("its counts", lambda one=name: use(three, "kept", one)[0] == 30)
        until("a refusal", lambda one=name: kv(three, "PUT", "kept/more", b"1", one).status == 507)
    checked = three.cluster.run("cluster", "check", "--url", f"https://localhost:{three.ports['server-1']}", "--username", USER,
                                "--password", PASSWORD, "--tls-roots", three.cluster.ca, "--format", "json", check=False)
    assert [shard["state"] for shard in json.loads(checked.stdout)["replicas"]["kv_shards"]] == ["equal"] * SHARDS, checked.stdout
