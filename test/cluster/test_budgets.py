"""Readers without a pause and 100 UPDATEs a second for ten minutes: logs and memory stay within their budgets, files are checkpointed."""
import itertools
import json
import os
import pathlib
import random
import threading
import time

import pytest

from conftest import PASSWORD, USER, basic
from servers_kit import Servers, until

HEAD = {"Content-Type": "application/json", "Authorization": basic((USER, PASSWORD))}
SECONDS = int(os.environ.get("MG_SOAK_SECONDS", "600"))
ORDERS, UPDATES_PER_S, SHARDS = 15000, 100, 4
LOG_OF_SHARD = 64 << 20  # what a log keeps for members that lag, before it is cut
ENTRIES_OF_FILE = 8192  # and a minute: then a file takes up what its log has
FOLLOWED = 128 << 20  # what is remembered of all shards for workers' copies that are behind
SEGMENTS = 4 * (64 << 20)  # that are being written, ready ahead, or wait to be removed


class Load(threading.Thread):
    """Calls step(client) again and again; an error ends the test."""

    def __init__(self, step, client, pause=0.0):
        super().__init__(daemon=True)
        self.step, self.client, self.pause = step, client, pause
        self.done, self.error, self.stopping = 0, None, threading.Event()

    def run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            try:
                self.step(self.client)
            except BaseException as error:  # noqa: BLE001 - the test tells it
                self.error = error
                return
            self.done += 1
            due += self.pause
            time.sleep(max(0.0, due - time.monotonic()))


class Client:
    """A connection to each server, for one thread."""

    def __init__(self, servers):
        self.servers, self.connections = servers, {}

    def ask(self, name, path, document):
        if name not in self.connections:
            self.connections[name] = self.servers.cluster.connection(self.servers.ports[name])
        self.connections[name].request("POST", path, json.dumps(document).encode(), HEAD)
        answer = self.connections[name].getresponse()
        body = answer.read()
        assert answer.status == 200, (name, body)
        return json.loads(body)["result"]


def log_bytes(servers, name):
    """What the files take on the disk, zeros ahead of use too."""
    total = 0
    for path in (servers.dirs[name] / "log" / "raft").glob("**/*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def memory_bytes(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def file_times(servers, name):
    return {path.name: path.stat().st_mtime for path in sorted((servers.dirs[name] / "shards").glob("*.duckdb"))}


@pytest.mark.slow
def test_logs_and_memory_stay_within_their_budgets(new_cluster):
    servers = Servers(new_cluster, scale=0.01, shards=SHARDS)
    servers.start_all()
    until("three voters", lambda: all(servers.healthy(name) for name in servers.names), log=servers.logs)
    turn, keys = itertools.cycle(servers.names), [row[0] for row in servers.rows("server-1", "SELECT o_orderkey FROM orders")]
    assert len(keys) == ORDERS

    def update(client):
        done = client.ask(next(turn), "/db/execute",
                          {"sql": "UPDATE orders SET o_comment = ?, o_shippriority = o_shippriority + 1 WHERE o_orderkey = ?",
                           "params": [f"changed at {time.time()}", random.choice(keys)]})
        assert done["rows_affected"] == 1

    def read(client):
        rows = client.ask(random.choice(servers.names), "/db/query",
                          {"sql": "SELECT count(*), count(DISTINCT o_orderkey) FROM orders"})["values"]
        assert rows == [[ORDERS, ORDERS]]

    writers = [Load(update, Client(servers), 8 / UPDATES_PER_S) for _ in range(8)]
    readers = [Load(read, Client(servers)) for _ in range(3)]
    before, samples = {name: file_times(servers, name) for name in servers.names}, []
    for load in writers + readers:
        load.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(min(5, SECONDS / 20))
        samples.append({name: (log_bytes(servers, name), memory_bytes(servers.cluster.processes[name])) for name in servers.names})
        for load in writers + readers:
            assert not load.error, (load.error, servers.logs())
    for load in writers + readers:
        load.stopping.set()
    for load in writers + readers:
        load.join(60)
        assert not load.error, (load.error, servers.logs())
    updates, reads = sum(load.done for load in writers), sum(load.done for load in readers)
    print(f"{updates} updates ({updates / SECONDS:.0f} a second), {reads} reads in {SECONDS} s")
    for name in servers.names:
        logs, memory = ([sample[name][what] for sample in samples] for what in (0, 1))
        half = len(samples) // 2
        print(f"{name}: log at most {max(logs) >> 20} MiB; memory at most {max(memory[:half]) >> 20} MiB until half, "
              f"{max(memory[half:]) >> 20} MiB after")
        assert max(logs) <= (SHARDS + 2) * 2 * LOG_OF_SHARD + SEGMENTS, (name, max(logs))
        assert max(memory[half:]) <= 1.25 * max(memory[:half]) + FOLLOWED + (64 << 20), (name, memory)
        after = file_times(servers, name)
        if updates > 1.5 * SHARDS * ENTRIES_OF_FILE:
            assert all(after[file] > before[name][file] for file in after if file != "0000.duckdb"), (name, before[name], after)
    total = servers.rows("server-1", "SELECT sum(o_shippriority) FROM orders")[0][0]
    assert int(total) == updates
