"""UPDATE and DELETE of rows by their key, from many clients at every server: none is lost, none waits for other shards."""
import threading

from servers_kit import Servers, until

CLIENTS, EACH, KEYS = 6, 25, 5


def execute(servers, name, sql, *params):
    answer = servers.post(name, "/db/execute", {"sql": sql, "params": list(params)})
    assert answer.status == 200, answer.body
    return answer.json()["result"]["rows_affected"]


def test_counters_that_many_clients_raise_lose_nothing(new_cluster):
    servers = Servers(new_cluster, shards=4)
    servers.start_all()
    until("three voters", lambda: all(servers.healthy(name) for name in servers.names), log=servers.logs)
    servers.execute("CREATE TABLE c (k BIGINT PRIMARY KEY, n BIGINT NOT NULL, who VARCHAR) PARTITIONED BY (k)")
    for key in range(KEYS):
        execute(servers, "server-1", "INSERT INTO c VALUES (?, 0, NULL)", key)
    errors = []

    def client(number):
        try:
            for i in range(EACH):
                name = servers.names[(number + i) % 3]
                changed = execute(servers, name, "UPDATE c SET n = n + 1, who = ? WHERE k = ?", f"client {number}", i % KEYS)
                assert changed == 1
                if i % 10 == 0:  # beside rows that come and go
                    key = 1000 + number * 100 + i
                    execute(servers, name, "INSERT INTO c VALUES (?, ?, NULL)", key, 0)
                    assert execute(servers, name, "DELETE FROM c WHERE k = ? AND n = 0", key) == 1
        except BaseException as error:  # noqa: BLE001 - the test tells it
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, (errors[0], servers.logs())
    for name in servers.names:
        assert servers.rows(name, "SELECT sum(n), count(*) FROM c") == [[str(CLIENTS * EACH), KEYS]]


def test_what_was_acknowledged_is_found_by_its_key_at_once(new_cluster):
    servers = Servers(new_cluster, shards=4)
    servers.start_all()
    until("three voters", lambda: all(servers.healthy(name) for name in servers.names), log=servers.logs)
    servers.execute("CREATE TABLE c (k BIGINT, n BIGINT) PARTITIONED BY (k)")
    one, two, three = servers.names
    for key in range(60):
        execute(servers, one, "INSERT INTO c VALUES (?, ?)", key, key)  # acknowledged before it is applied
        assert execute(servers, two, "UPDATE c SET n = n + 1000 WHERE k = ?", key) == 1
        assert execute(servers, three, "UPDATE c SET n = n + 1000 WHERE k = ? AND n = ?", key, key + 1000) == 1
        assert execute(servers, one, "UPDATE c SET n = 0 WHERE k = ? AND n = ?", key, key) == 0
        if key % 2:
            assert execute(servers, two, "DELETE FROM c WHERE k = ?", key) == 1
            assert execute(servers, three, "UPDATE c SET n = 0 WHERE k = ?", key) == 0
        elif key % 3 == 0:
            execute(servers, one, "UPDATE c SET n = n + 1")  # all shards
            assert execute(servers, two, "UPDATE c SET n = n - 1 WHERE k = ? AND n = ?", key, key + 2001) == 1
    for name in servers.names:
        assert servers.rows(name, "SELECT count(*), min(n - k) >= 2000 FROM c") == [[30, True]]


def test_a_wrong_value_is_refused_as_ever_and_changes_nothing(new_cluster):
    servers = Servers(new_cluster, count=1, shards=4)
    servers.start_all()
    servers.execute("CREATE TABLE c (k BIGINT, n INTEGER NOT NULL) PARTITIONED BY (k)")
    execute(servers, "server-1", "INSERT INTO c VALUES (1, 5), (2, 6)")
    for sql, state in (("UPDATE c SET n = NULL WHERE k = 1", "23502"), ("UPDATE c SET n = 'x' WHERE k = 1", "22P02"),
                       ("UPDATE c SET n = 99999999999 WHERE k = 1", "22003"), ("UPDATE c SET m = 1 WHERE k = 1", "42703")):
        answer = servers.post("server-1", "/db/execute", {"sql": sql})
        assert answer.status in (400, 409) and answer.json()["error"]["sqlstate"] == state, answer.body
    assert servers.rows("server-1", "SELECT k, n FROM c ORDER BY k") == [[1, 5], [2, 6]]


def test_in_a_transaction_a_wrong_value_is_told_as_such(new_cluster):
    servers = Servers(new_cluster, count=1, shards=4)
    servers.start_all()
    servers.execute("CREATE TABLE c (k BIGINT, n INTEGER) PARTITIONED BY (k)")
    execute(servers, "server-1", "INSERT INTO c VALUES (1, 5), (2, 6)")
    tx = servers.post("server-1", "/db/tx", {}).json()["result"]["id"]
    assert servers.post("server-1", f"/db/execute?tx={tx}", {"sql": "UPDATE c SET n = n + 1 WHERE k = 1"}).status == 200
    answer = servers.post("server-1", f"/db/execute?tx={tx}", {"sql": "UPDATE c SET n = 'x' WHERE k = 1"})
    assert answer.status == 400 and answer.json()["error"]["sqlstate"] == "22P02", answer.body
