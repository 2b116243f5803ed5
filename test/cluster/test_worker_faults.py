"""Many workers, stalls and restarts under running clients: the answer stays the same."""
import calendar
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from conftest import ROOT

pytestmark = pytest.mark.threads

SQL = "SELECT l_returnflag, count(*), sum(l_extendedprice) FROM lineitem GROUP BY 1 ORDER BY 1"
JOIN = "SELECT o_orderpriority, count(*), sum(l_quantity) FROM orders JOIN lineitem ON o_custkey = l_suppkey GROUP BY 1 ORDER BY 1"
LIGHT = ("--threads", "1", "--memory-limit", "64MB")


class Clients:
    """Clients that ask without a pause; an answer is right, or the connection was lost."""

    def __init__(self, cluster, count=3):
        self.cluster, self.wrong, self.lost, self.right = cluster, [], [], 0
        self.expected = {sql: cluster.rows(sql, "?strategy=local") for sql in (SQL, JOIN)}
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.ask, args=(sql, path)) for sql, path in
                        [(SQL, "?strategy=cut"), (JOIN, "?strategy=repartition"), (SQL, "")][:count]]

    def ask(self, sql, path):
        while not self.stop.is_set():
            try:
                rows = self.cluster.rows(sql, path, timeout=60)
            except (OSError, AssertionError) as error:
                with self.lock:
                    self.lost.append(error)
                time.sleep(0.05)        # a server that is away is not asked as fast as can be
                continue
            with self.lock:
                if rows == self.expected[sql]:
                    self.right += 1
                else:
                    self.wrong.append(rows)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in self.threads), "a statement hangs"

    def more(self, count=6, seconds=60):
        """Until so many more right answers have come."""
        before, deadline = self.right, time.monotonic() + seconds
        while self.right < before + count:
            assert time.monotonic() < deadline, (self.lost[-3:], self.cluster.log()[-3000:])
            time.sleep(0.02)


def freeze(process):
    process.send_signal(signal.SIGSTOP)


def wake(process):
    process.send_signal(signal.SIGCONT)


@pytest.fixture
def three(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    for name in ("a", "b", "c"):
        cluster.start_worker(name, *LIGHT)
    cluster.wait_workers(3)
    return cluster


def test_twelve_workers_on_four_shards(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    for number in range(12):
        cluster.start_worker(f"w{number}", *LIGHT)
    cluster.wait_workers(12)
    with Clients(cluster) as clients:
        clients.more(12)
    assert not clients.wrong and not clients.lost


def test_a_server_that_stands_still_keeps_its_workers(three):
    """Its workers said nothing wrong while it slept: they stay, and so do the statements under way."""
    with Clients(three) as clients:
        clients.more()
        freeze(three.processes["server"])
        time.sleep(9)       # longer than the 7 s after which a silent worker is given up
        wake(three.processes["server"])
        clients.more()
    assert not clients.wrong and not clients.lost
    assert "event=worker.silent" not in three.log() and "event=worker.left" not in three.log()


@pytest.mark.slow
def test_a_server_that_stands_still_for_long_gets_its_workers_back(three):
    with Clients(three) as clients:
        clients.more()
        freeze(three.processes["server"])
        time.sleep(20)      # longer than the 15 s after which a worker gives a silent server up
        wake(three.processes["server"])
        three.wait_workers(3, seconds=40)
        clients.more()
    assert not clients.wrong
    assert three.get("/status").json()["workers"] == 3


@pytest.mark.slow
def test_a_worker_that_stands_still_for_15_s(three):
    with Clients(three) as clients:
        clients.more()
        freeze(three.processes["b"])
        clients.more(seconds=20)
        time.sleep(15)
        wake(three.processes["b"])
        three.wait_workers(3, seconds=30)
        clients.more()
    assert not clients.wrong and not clients.lost


def test_a_worker_leaves_a_server_that_says_nothing(three):
    """One that is connected and one that dials: neither waits for an answer to its leaving."""
    freeze(three.processes["server"])
    three.start_worker("late", *LIGHT)
    deadline = time.monotonic() + 20
    while "event=worker.start" not in three.log("late"):
        assert time.monotonic() < deadline, three.log("late")
        time.sleep(0.02)
    for name in ("a", "late"):
        three.processes[name].terminate()
        assert three.processes[name].wait(8) == 0, three.log(name)      # dialling has a limit of 10 s, silence 15 s
    wake(three.processes["server"])
    three.wait_workers(2, seconds=20)


def test_a_server_restarted_under_workers_and_clients(three):
    with Clients(three) as clients:
        for stop in ("kill", "terminate"):
            clients.more()
            getattr(three.processes["server"], stop)()
            three.processes["server"].wait(30)
            three.start_server()
            three.wait_workers(3, seconds=30)
            clients.more()
    assert not clients.wrong
    for name in ("a", "b", "c"):
        assert three.processes[name].poll() is None


def test_workers_killed_and_started_without_a_pause(three):
    with Clients(three) as clients:
        for number in range(10):
            name = "abc"[number % 3]
            three.processes[name].kill()
            three.processes[name].wait()
            clients.more(2)
            three.start_worker(name, *LIGHT)
    assert not clients.wrong and not clients.lost
    three.wait_workers(3, seconds=30)


def turned(cluster, seconds):
    """The environment in which a program's clock is wrong by so much."""
    library, said = cluster.dir / "clock.so", cluster.dir / "clock"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, ROOT / "test" / "chaos" / "clock.c", "-ldl"], check=True)
    said.write_text(str(seconds))
    first = []  # a sanitizer's runtime refuses to come second
    for sanitizer in ("asan", "tsan"):
        if sanitizer in os.environ.get("MG_BUILD", ""):
            first = [subprocess.check_output([compiler, f"-print-file-name=lib{sanitizer}.so"], text=True).strip()]
    return {**os.environ, "LD_PRELOAD": " ".join(first + [str(library)]), "MG_CLOCK": str(said)}


@pytest.mark.parametrize("seconds", [100 * 86400, -1800])
def test_a_worker_with_another_clock(new_cluster, seconds):
    """What the time is says the coordinator; a worker's clock is in no answer."""
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.start_worker("w", env=turned(cluster, seconds))
    cluster.wait_workers(1)
    cluster.wait_copies(4)
    said = time.strptime(cluster.log("w").split("ts=", 1)[1][:19], "%Y-%m-%dT%H:%M:%S")
    assert abs(calendar.timegm(said) - time.time() - seconds) < 300, "the clock was not turned"
    for sql in (
        "SELECT count(DISTINCT now()), count(DISTINCT current_date), count(DISTINCT current_time) FROM lineitem",
        "SELECT max(today()), max(date_diff('day', l_shipdate, current_date)), max(now()) - min(now()) FROM lineitem",
        "SELECT count(*) FROM lineitem WHERE l_shipdate + INTERVAL 30 YEAR < current_date",
        "SELECT max(age(l_shipdate::TIMESTAMP))::VARCHAR, max(age(l_shipdate::TIMESTAMPTZ))::VARCHAR FROM lineitem",
        "SELECT l_returnflag, max(now()::DATE) FROM lineitem GROUP BY 1 ORDER BY 1",
    ):
        assert cluster.rows(sql, "?strategy=cut") == cluster.rows(sql, "?strategy=local"), sql


def test_a_worker_whose_clock_is_before_the_certificate_says_so(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.start_worker("w", env=turned(cluster, -86400 * 30))
    deadline = time.monotonic() + 30
    while "not yet valid" not in cluster.log("w"):
        assert time.monotonic() < deadline, cluster.log("w")
        time.sleep(0.05)


def test_a_hundred_workers(new_cluster):
    """Light ones, on one folder of copies and four shards, for as long as a few statements take."""
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    expected = {sql: cluster.rows(sql, "?strategy=local") for sql in (SQL, JOIN)}
    folder = cluster.dir / "copies"
    for number in range(100):
        cluster.start_worker(f"w{number}", *LIGHT, "--cache-dir", folder)
    cluster.wait_workers(100, seconds=120)
    for sql in (SQL, JOIN, SQL):
        assert cluster.rows(sql, "?strategy=repartition") == expected[sql]
    killed = [cluster.processes.pop(f"w{number}") for number in range(50)]
    for process in killed:
        process.kill()
    for sql in (SQL, JOIN):
        assert cluster.rows(sql, "?strategy=repartition") == expected[sql]
    for process in killed:
        process.wait()
    cluster.wait_workers(50, seconds=30)
    assert len(list(pathlib.Path(folder).glob("*.duckdb"))) == 5
