"""The change feed of several servers: any of them tells the same, and a token goes on at another one (docs/changes.md)."""
import json
import signal
import threading

import pytest

from servers_kit import Servers, until
from test_changes import Feed, Mirror

pytestmark = pytest.mark.threads


def told(servers, name, table, place):
    answer = servers.request(name, "GET", f"/changes/{table}?follow=false&from={place}", timeout=60)
    assert answer.status == 200, answer.body
    events = [json.loads(line) for line in answer.body.splitlines()]
    return events[:-1], events[-1]["token"]


def write(servers, name, number, stop):
    step = 0
    while not stop.is_set():
        step += 1
        k = number * 100000 + step
        try:
            servers.post(name, "/db/execute", {"transaction": step % 2 == 0, "statements": [
                f"INSERT INTO t VALUES ({k}, 'a'), ({k + 50000}, 'b')", f"UPDATE t SET v = v || '!' WHERE k = {k - 2}",
                f"DELETE FROM t WHERE k = {k - 5}"]})
        except OSError:
            stop.wait(0.1)


def follow(servers, name, place, mirror, events):
    """Takes so many changes at a server, and returns the token behind those that count."""
    feed = Feed(servers.cluster, "t", port=servers.ports[name], **{"from": place})
    pending, seen = [], 0
    while seen < events or pending:
        event = feed.next()
        assert event and event["op"] != "error", event
        if event["op"] == "resolved":
            for one in pending:
                mirror.apply(one)
            pending = []
        else:
            pending.append(event)
            seen += 1
    feed.close()
    return feed.token


def test_a_feed_goes_on_at_other_servers(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=2)
    servers.start_all()
    servers.execute("CREATE TABLE t (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    mirror, stop = Mirror(), threading.Event()
    _, place = told(servers, "server-1", "t", "now")
    threads = [threading.Thread(target=write, args=(servers, name, number, stop), daemon=True)
               for number, name in enumerate(servers.names)]
    for thread in threads:
        thread.start()

    # at each server in turn, with one token
    for name in servers.names:
        place = follow(servers, name, place, mirror, 30)

    # the coordinator of writes dies; another one tells on
    killed = servers.coordinator()
    others = [name for name in servers.names if name != killed]
    servers.cluster.processes[killed].send_signal(signal.SIGKILL)
    servers.cluster.processes[killed].wait()
    place = follow(servers, others[0], place, mirror, 30)

    # who was away knows what came meanwhile, and a token of others
    servers.start(killed)
    place = follow(servers, killed, place, mirror, 30)
    stop.set()
    for thread in threads:
        thread.join()
    events, _ = told(servers, others[1], "t", place)
    for event in events:
        mirror.apply(event)
    rows = until("the rows", lambda: servers.rows(killed, "SELECT k, v FROM t ORDER BY k"))
    assert mirror.content() == sorted((k, v) for k, v in rows)

    # all of it from its first token on is the same everywhere
    heard = []
    for name in servers.names:
        events, _ = told(servers, name, "t", "kept")
        by_shard = {}
        for event in events:
            by_shard.setdefault(event["shard"], []).append(event)
        heard.append(by_shard)
    assert heard[0] == heard[1] == heard[2]
