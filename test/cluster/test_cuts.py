"""Totals are read at every server while money moves between the shards, and never in part: while a server enters by
snapshots, one is killed and comes back, and the coordinator dies."""
import re
import threading
import time

import pytest

from servers_kit import Servers, execute, query, ready, until

pytestmark = pytest.mark.threads

ACCOUNTS, MONEY = 40, 1000
TOTALS = "SELECT sum(balance)::BIGINT, sum(moves)::BIGINT, count(*) FROM account"
WORDS = ("linearizable", "bounded&max_staleness=200ms", "any")
APART = "any&summarize=false"  # a row for each shard, of one moment


def here(servers, name):
    """Reads of several shards that the server has answered itself."""
    text = servers.request(name, "GET", "/metrics").body.decode()
    return sum(int(float(count)) for count in re.findall(r"^merganser_cut_reads_total\{.*\} (\S+)$", text, re.M))


class Bank:
    """Writers that move money at the servers named, and readers of totals at each of them."""

    def __init__(self, servers, writers):
        self.servers, self.wrong, self.moved = servers, [], 0
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.reads = {(name, word): 0 for name in servers.names for word in WORDS + (APART,)}
        self.threads = [threading.Thread(target=self.move, args=(i, name)) for i, name in enumerate(writers)]
        self.threads += [threading.Thread(target=self.read, args=pair) for pair in self.reads]
        for thread in self.threads:
            thread.start()

    def move(self, number, at):
        step = 0
        while not self.stop.is_set():
            one, other, step = (step * 7 + number) % ACCOUNTS, (step * 11 + 13 + number) % ACCOUNTS, step + 1
            if one == other:
                continue
            sql = (f"UPDATE account SET balance = balance + CASE WHEN id = {one} THEN -5 ELSE 5 END, moves = moves + 1 "
                   f"WHERE id IN ({one}, {other})")
            try:
                answer = self.servers.post(at, "/db/execute", {"sql": sql}, timeout=60)
            except OSError:
                time.sleep(0.2)
                continue
            if answer.status == 200:
                with self.lock:
                    self.moved += 1
            elif answer.status not in (503, 504):
                self.wrong.append((at, answer.body))

    def read(self, name, word):
        """What was moved before is seen, unless less is asked for; what moves is seen whole."""
        while not self.stop.is_set():
            before = self.moved if word == WORDS[0] else 0
            try:
                answer = self.servers.post(name, "/db/query?consistency=" + word, {"sql": TOTALS}, timeout=60)
            except OSError:
                time.sleep(0.2)
                continue
            if answer.status == 503:  # it starts, or nobody can be asked
                time.sleep(0.05)
                continue
            if word in ("any", APART) and answer.status == 400 and answer.json()["error"]["sqlstate"] == "42P01":
                time.sleep(0.05)  # it has started and asks nobody: its catalog may be of before the table
                continue
            rows = answer.json().get("result", {}).get("values") if answer.status == 200 else None
            if rows and word == APART:
                rows = [[sum(int(row[i] or 0) for row in rows) for i in (1, 2, 3)]]
            moves = int(rows[0][1]) if rows else -1
            if not rows or int(rows[0][0]) != ACCOUNTS * MONEY or rows[0][2] != ACCOUNTS or moves % 2 or moves < 2 * before:
                self.wrong.append((name, word, before, answer.status, answer.body))
            with self.lock:
                self.reads[name, word] += 1

    def go_on(self, names):
        """Until there are more reads of each kind at these, and more moves; each reads some of them itself."""
        moved, reads = self.moved, dict(self.reads)
        counts = {name: here(self.servers, name) for name in names}

        def enough():
            return self.wrong or (self.moved > moved + 5 and
                                  all(self.reads[name, word] > reads[name, word] + 2 for name in names for word in WORDS + (APART,)) and
                                  all(here(self.servers, name) > counts[name] for name in names))

        until("reads and moves", enough, log=self.servers.logs)
        assert not self.wrong, self.wrong[:3]

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive()
        assert not self.wrong, self.wrong[:3]


def test_totals_are_whole_whatever_happens_to_servers(new_cluster):
    servers = Servers(new_cluster, scale=0, shards=4)
    first, second, third = servers.names
    servers.start(first)
    servers.start(second)
    execute(servers, first, "CREATE TABLE account (id INTEGER, balance BIGINT, moves BIGINT) PARTITIONED BY (id)")
    execute(servers, first, f"INSERT INTO account SELECT i, {MONEY}, 0 FROM range({ACCOUNTS}) AS r(i)")
    bank = Bank(servers, [first, second])
    try:
        bank.go_on([first, second])
        servers.start(third)  # its shards come as snapshots of different moments
        until("three servers", lambda: ready(servers) == 3, log=servers.logs)
        bank.go_on(servers.names)
        follower = servers.others(servers.coordinator())[0]
        servers.kill(follower)
        bank.go_on(servers.others(follower))
        servers.start(follower)  # from checkpoints of different moments
        bank.go_on(servers.names)
        coordinator = servers.coordinator()
        servers.kill(coordinator)  # maybe between the decision and the last commit
        bank.go_on(servers.others(coordinator))
        servers.start(coordinator)
        bank.go_on(servers.names)
    finally:
        bank.end()
    for name in servers.names:
        rows = query(servers, name, TOTALS)
        assert int(rows[0][0]) == ACCOUNTS * MONEY and int(rows[0][1]) >= 2 * bank.moved
    # EXPLAIN ANALYZE says which server has read them: the one that was asked.
    for number, name in enumerate(servers.names):
        plan = "\n".join(row[0] for row in query(servers, name, "EXPLAIN ANALYZE " + TOTALS))
        assert f"cut: 4 shards at server {number + 1}," in plan, plan
