"""Workers that come, go, die, stall and lie: the answer is always right, whole, and in time."""
import contextlib
import json
import os
import pathlib
import re
import signal
import threading
import time

import pytest
from websockets.sync.client import connect

from conftest import PASSWORD, USER, WORKER_PASSWORD, basic

pytestmark = pytest.mark.threads

ROOT = pathlib.Path(__file__).resolve().parents[2]
TPCH = sorted((ROOT / "queries" / "tpch").glob("q*.sql"))


def run(cluster, sql, path="", timeout=60):
    return cluster.rows(sql, path, timeout=timeout)


def same(ours, theirs):
    """Rows equal, DOUBLE to 1e-9 relative."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        for x, y in zip(a, b):
            if isinstance(x, float) and isinstance(y, float):
                assert abs(x - y) <= 1e-9 * max(abs(x), abs(y), 1e-300), (a, b)
            else:
                assert x == y, (a, b)


@contextlib.contextmanager
def stopped(process):
    """The process is frozen, as in a pause of its machine; it is there, but says nothing."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)


# ---- they die and stall ----

def test_a_worker_killed_in_the_middle_of_each_of_the_22(new_cluster, background):
    cluster = new_cluster(scale=0.02)
    cluster.start_server()
    cluster.start_worker("steady")
    cluster.wait_workers(1)
    for number, path in enumerate(TPCH):
        sql = path.read_text()
        expected = run(cluster, sql, "?strategy=local")
        victim = Fake(cluster, f"victim-{number}")
        victim.hold_everything()
        cluster.wait_workers(2)
        # It takes part, holds its first stage open, and dies there.  When it was late, it is asked again.
        begun = False
        for _ in range(5):
            query = background(cluster, sql)
            begun = victim.begins(query)
            if begun:
                break
            same(query.result(), expected)
        victim.ws.socket.close()
        same(query.result(), expected)
        assert begun or path.stem in ("q11", "q16"), f"{path.stem} did not need the victim"
        cluster.wait_workers(1)
    assert cluster.log().count("event=query.retry") >= 20


def test_a_stalled_worker_is_replaced_within_ten_seconds(new_cluster):
    cluster = new_cluster(scale=0.02)
    cluster.start_server()
    for name in ("one", "two"):
        cluster.start_worker(name)
    cluster.wait_workers(2)
    sql = TPCH[2].read_text()
    expected = run(cluster, sql, "?strategy=local")
    with stopped(cluster.processes["two"]):
        started = time.monotonic()
        same(run(cluster, sql, "?strategy=cut"), expected)
        assert time.monotonic() - started < 10
        cluster.wait_workers(1, seconds=10)
    # Awake again, it finds its connection closed and comes back by itself.
    cluster.wait_workers(2, seconds=20)
    same(run(cluster, sql, "?strategy=cut"), expected)


def test_all_workers_killed_leaves_the_answer(new_cluster):
    cluster = new_cluster(scale=0.01, shards=11)
    cluster.start_server()
    for number in range(3):
        cluster.start_worker(f"w{number}")
    cluster.wait_workers(3)
    sql = "SELECT count(*), sum(l_quantity) FROM lineitem"
    expected = run(cluster, sql, "?strategy=local")
    same(run(cluster, sql, "?strategy=cut"), expected)
    for number in range(3):
        cluster.processes[f"w{number}"].kill()
        same(run(cluster, sql, "?strategy=cut"), expected)
    cluster.wait_workers(0, seconds=10)
    same(run(cluster, sql), expected)


def test_any_number_of_workers_gives_the_same_answer(new_cluster):
    cluster = new_cluster(scale=0.01, shards=11)
    cluster.start_server()
    sql = TPCH[4].read_text()
    expected = run(cluster, sql)
    total = run(cluster, "SELECT count(*) FROM lineitem")
    for count in (1, 2, 5, 11, 12):
        for number in range(count):
            if f"w{number}" not in cluster.processes:
                cluster.start_worker(f"w{number}")
        cluster.wait_workers(count)
        same(run(cluster, sql, "?strategy=cut"), expected)
        assert run(cluster, "SELECT count(*) FROM lineitem") == total


def test_a_worker_of_a_cluster_without_tables_is_ready(new_cluster):
    """There are no rows, so there is nothing to wait for; later it gets the empty files."""
    cluster = new_cluster(scale=0)
    cluster.start_server()
    cluster.start_worker("w0")
    cluster.wait_workers(1)
    assert "event=worker.ready worker=w0" in cluster.log()
    done = cluster.run("cluster", "check", "--url", cluster.url, "--tls-roots", cluster.ca, "-u", USER, "--password", PASSWORD)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    assert cluster.rows("SELECT count(*) FROM range(10)", "?strategy=cut") == [[10]]
    assert cluster.rows("SELECT state FROM cluster.nodes WHERE role = 'worker'") == [["ready"]]
    assert set(cluster.stop().values()) == {0}


def test_a_server_that_comes_back_gets_its_workers_back(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.start_worker("w")
    cluster.wait_workers(1)
    cluster.processes["server"].kill()
    cluster.processes["server"].wait()
    cluster.start_server()
    cluster.wait_workers(1, seconds=15)
    assert run(cluster, "SELECT count(*) FROM nation") == [[25]]


def test_sigterm_drains_a_worker(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    cluster.start_worker("leaver")
    cluster.wait_workers(1)
    cluster.processes["leaver"].send_signal(signal.SIGTERM)
    assert cluster.processes["leaver"].wait(15) == 0
    assert "event=worker.draining" in cluster.log()
    cluster.wait_workers(0, seconds=5)


# ---- they lie ----

class Fake:
    """A worker of our own making, which does what it likes."""

    def __init__(self, cluster, name="fake", user="worker", password=WORKER_PASSWORD, **more):
        self.ws = connect(f"wss://localhost:{cluster.port}/worker", ssl=cluster.tls(), max_size=None,
                          additional_headers={"Authorization": basic((user, password))}, compression=None).__enter__()
        self.send(type="hello", protocol=2, version="0.1.0", engine="v1.5.5", name=name, threads=64, memory=1 << 30, **more)
        self.welcome = self.receive()
        assert self.welcome["type"] == "welcome"
        self.lease = self.receive()
        assert self.lease["type"] == "lease"

    def send(self, **frame):
        self.ws.send(json.dumps(frame))

    def receive(self, timeout=10):
        message = self.ws.recv(timeout=timeout)
        frame = json.loads(message) if isinstance(message, str) else message
        if isinstance(frame, dict) and frame["type"] == "pin":
            self.send(type="pinned", query=frame["query"])
            return self.receive(timeout)
        return frame

    def begins(self, query):
        """It is opened for the statement; false: that has ended without it."""
        while True:
            try:
                if self.receive(timeout=0.2)["type"] == "run":
                    return True
            except TimeoutError:
                if not query.is_alive():
                    return False

    def hold_everything(self):
        for shard in self.lease["shards"]:
            self.send(type="held", shard=shard["id"], sha256=shard["sha256"])

    def closed(self, seconds=10):
        with contextlib.suppress(Exception):
            while True:
                self.ws.recv(timeout=seconds)
        return self.ws.protocol.state.name in ("CLOSED", "CLOSING")


@pytest.fixture
def lonely(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    return cluster


def test_a_wrong_hash_is_not_believed(lonely):
    fake = Fake(lonely)
    fake.send(type="held", shard=fake.lease["shards"][0]["id"], sha256="0" * 64)
    assert fake.closed()
    assert lonely.get("/status").json()["workers"] == 0
    assert "wrong hash" in lonely.log()


# ---- several on one machine ----

def test_nodes_on_the_same_cores_share_their_threads(lonely):
    first, elsewhere = Fake(lonely, "first", cores="here", share=True), Fake(lonely, "elsewhere", cores="there", share=True)
    given = Fake(lonely, "given", cores="here", share=False)    # its operator set --threads: counted, never changed
    assert first.receive() == {"type": "threads", "threads": 32}
    third = Fake(lonely, "third", cores="here", share=True)
    assert third.receive() == first.receive() == {"type": "threads", "threads": 21}
    threads = "SELECT id, threads FROM cluster.nodes WHERE role = 'worker' ORDER BY 1"
    assert run(lonely, threads) == [["elsewhere", 64], ["first", 21], ["given", 64], ["third", 21]]
    third.ws.close()
    assert first.receive() == {"type": "threads", "threads": 32}
    given.ws.close()
    assert first.receive() == {"type": "threads", "threads": 64}
    assert run(lonely, threads) == [["elsewhere", 64], ["first", 64]]


def test_a_worker_takes_its_share(lonely):
    """Real ones and the server run on the same cores: what the server says is what the engines use."""
    cores = run(lonely, "SELECT threads FROM cluster.nodes WHERE role = 'server'")[0][0]
    names = ["w1", "w2"]
    for name in names:
        lonely.start_worker(name)
    lonely.wait_workers(len(names))
    share = max(1, (cores + (len(names) + 1) // 2) // (len(names) + 1))
    assert run(lonely, "SELECT DISTINCT threads FROM cluster.nodes WHERE role = 'worker'") == [[share]]
    for name in names:
        deadline = time.monotonic() + 20
        while share != cores and f"event=worker.threads threads={share}" not in lonely.log(name):
            assert time.monotonic() < deadline, lonely.log(name)
            time.sleep(0.05)
    same(run(lonely, SQL, "?strategy=cut"), run(lonely, SQL, "?strategy=local"))


SQL = "SELECT l_returnflag, count(*), sum(l_extendedprice) FROM lineitem GROUP BY 1 ORDER BY 1"


def head(kind=2, query=1, stage=1, target=0, rows=1, checksum=0):
    return (bytes([kind]) + bytes(7) + query.to_bytes(8, "little") + stage.to_bytes(4, "little") +
            target.to_bytes(4, "little") + rows.to_bytes(8, "little") + checksum.to_bytes(8, "little"))


@pytest.mark.parametrize("lie", [
    "garbage bytes", "wrong checksum", "unknown control", "no json", "other stage", "a second answer", "chunk", "silence then gone",
    "a lease that was never given",
])
def test_a_lie_in_the_middle_of_a_query_costs_a_retry(lonely, lie, background):
    expected = run(lonely, SQL, "?strategy=local")
    fake = Fake(lonely)
    fake.hold_everything()
    lonely.wait_workers(1)
    query = background(lonely, SQL)
    frames = [fake.receive() for _ in range(2)]
    assert [f["type"] for f in frames] == ["open", "run"]
    number, stage = frames[1]["query"], frames[1]["stage"]
    if lie == "garbage bytes":
        fake.ws.send(os.urandom(500))
    elif lie == "wrong checksum":
        fake.ws.send(head(query=number, stage=stage) + b"x" * 100)
    elif lie == "unknown control":
        fake.send(type="take this")
    elif lie == "no json":
        fake.ws.send("{{{{")
    elif lie == "other stage":
        fake.send(type="ran", query=number, stage=stage + 7, rows=0)
    elif lie == "a second answer":
        fake.send(type="hello", protocol=2, engine="v1.5.5")
    elif lie == "chunk":
        fake.send(type="fetch", shard=10**6, chunk=0)
    elif lie == "a lease that was never given":
        fake.send(type="held", shard=99, sha256="0" * 64)
    else:
        fake.ws.socket.close()
    same(query.result(), expected)
    assert "event=query.retry" in lonely.log()


def test_an_error_of_a_worker_names_it(lonely):
    fake = Fake(lonely, name="unlucky")
    fake.hold_everything()
    lonely.wait_workers(1)
    answers = []

    def ask():
        answers.append(lonely.request("POST", "/db/query?strategy=cut", json.dumps({"sql": SQL}).encode(),
                                      {"Content-Type": "application/json"}))

    thread = threading.Thread(target=ask)
    thread.start()
    frames = [fake.receive() for _ in range(2)]
    fake.send(type="ran", query=frames[1]["query"], stage=frames[1]["stage"],
              error={"code": "data", "sqlstate": "22012", "message": "division by zero", "detail": ""})
    thread.join(20)
    error = answers[0].json()["error"]
    assert error["sqlstate"] == "22012" and "division by zero" in error["message"]
    assert error.get("node", "unlucky") == "unlucky"
    fake.ws.close()


@pytest.mark.parametrize("user,password,status", [
    (USER, PASSWORD, 403), ("worker", "wrong", 401), (USER, WORKER_PASSWORD, 401), ("nobody", "x", 401), ("worker", "", 401),
])
def test_only_workers_come_in_at_the_workers_door(cluster, user, password, status):
    with pytest.raises(Exception) as refused:
        Fake(cluster, user=user, password=password)
    assert str(status) in str(refused.value)


def test_a_worker_with_a_clients_password_is_told_why(cluster):
    done = cluster.run("worker", "--server", f"localhost:{cluster.port}", "--tls-roots", cluster.ca, "--username", USER,
                       "--password", PASSWORD, "--cache-dir", cluster.dir / "no", check=False, timeout=20)
    assert done.returncode == 2 and "may not be a worker" in done.stderr


# ---- copies ----

def test_a_broken_copy_is_fetched_again_and_a_whole_one_is_not(lonely):
    lonely.start_worker("w")
    lonely.wait_workers(1)
    lonely.wait_copies(4)
    expected = run(lonely, SQL, "?strategy=cut")
    cache = lonely.dir / "w"
    copies = sorted(cache.glob("*.duckdb"))
    assert len(copies) == 5 and not list(cache.glob("*.part"))
    lonely.processes["w"].kill()
    lonely.processes["w"].wait()
    lonely.wait_workers(0, seconds=10)
    broken = copies[0]
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(bytes(data))
    before = {c: c.stat().st_ino for c in copies}
    lonely.start_worker("w")
    lonely.wait_workers(1)
    lonely.wait_copies(4)
    assert run(lonely, SQL, "?strategy=cut") == expected
    after = {c: c.stat().st_ino for c in copies}
    assert after[broken] != before[broken]
    assert all(after[c] == before[c] for c in copies if c != broken)


def test_a_fetch_is_resumed(lonely):
    """A part file of whole chunks is kept, whatever else lies behind them."""
    lonely.start_worker("w")
    lonely.wait_workers(1)
    lonely.wait_copies(4)
    cache = lonely.dir / "w"
    lonely.processes["w"].kill()
    lonely.processes["w"].wait()
    copy = max(cache.glob("*.duckdb"), key=lambda c: c.stat().st_size)
    data = copy.read_bytes()
    copy.unlink()
    part = pathlib.Path(str(copy).replace(".duckdb", ".part"))
    part.write_bytes(data[:len(data) // 2] + b"torn")
    lonely.start_worker("w")
    lonely.wait_workers(1)
    lonely.wait_copies(4)
    assert copy.read_bytes() == data


# ---- cancel ----

def wait_line(cluster, node, pattern, seconds=60):
    """The first line of a node's log that fits; logs are written by processes that nobody waits for."""
    deadline = time.monotonic() + seconds
    while True:
        found = re.search(pattern, cluster.log(node))
        if found:
            return found
        assert time.monotonic() < deadline, f"no {pattern} in the log of {node}:\n{cluster.log(node)}"
        time.sleep(0.02)


def start_two(cluster):
    """Server, a and b, each of which is sure to be given shards: a ready worker may hold one copy only, which another takes."""
    cluster.start_server("--threads", "1")
    cluster.start_worker("a", "--threads", "1", "--log-level", "debug")
    cluster.wait_copies(4, "a", seconds=60)
    cluster.start_worker("b", "--threads", "1", "--log-level", "debug")
    cluster.wait_copies(2, "b", seconds=60)


def test_cancel_reaches_every_worker(new_cluster, background):
    """The order of events: it runs on all, it is cancelled, each worker hears of it and is free again.

    The client's answer does not wait for the workers, so their lines may come after it.
    """
    cluster = new_cluster(scale=0.05)
    start_two(cluster)
    slow = ("SELECT count(*) FROM lineitem a, lineitem b WHERE a.l_suppkey < b.l_partkey AND a.l_comment <> b.l_comment "
            "GROUP BY a.l_orderkey")
    query = background(cluster, slow)
    name = wait_line(cluster, "a", r"event=stage\.begin query=(q-\S+) ").group(1)
    wait_line(cluster, "b", rf"event=stage\.begin query={name} ")
    done = cluster.run("sql", cluster.url, "--username", USER, "--tls-roots", cluster.ca, "-c", f"CANCEL '{name}'",
                       env={**os.environ, "MERGANSER_PASSWORD": PASSWORD})
    assert done.returncode == 0
    with pytest.raises(AssertionError, match="57014"):
        query.result(60)
    wait_line(cluster, "server", rf"event=query\.cancel query={name} ")
    for worker in ("a", "b"):
        wait_line(cluster, worker, rf"event=query\.cancelled query={name} ")
    count = "SELECT count(l_tax) FROM lineitem"
    assert run(cluster, count, "?strategy=cut") == run(cluster, count, "?strategy=local")


# ---- wide rows between nodes ----

def test_wide_rows_travel_in_small_batches(new_cluster):
    """2,048 of these rows are over 60 MB; nobody is asked to take them at once."""
    cluster = new_cluster(scale=0.01)
    start_two(cluster)
    wide = "SELECT repeat(o_comment, 700) AS t, o_orderkey AS k FROM orders WHERE o_orderkey < 16000"
    for sql in (f"SELECT count(*), sum(length(t)), min(md5(t)) FROM (SELECT t, max(k) FROM ({wide}) GROUP BY t)",
                f"SELECT count(*), sum(length(t)) FROM ({wide}) w JOIN customer ON length(t) % 1500 + 1 = c_custkey"):
        for way in ("cut", "repartition", "broadcast"):
            assert run(cluster, sql, f"?strategy={way}") == run(cluster, sql, "?strategy=local")
    # A row that fits into no frame stays where it is: the server has every shard.
    keys = ", ".join(str(key) for shard, key in run(cluster, "SELECT min(s_suppkey) FROM supplier", "?summarize=false"))
    huge = ("SELECT count(*), sum(length(t)) FROM "
            f"(SELECT DISTINCT repeat(s_phone, 4500000) AS t FROM supplier WHERE s_suppkey IN ({keys}))")
    assert run(cluster, huge, "?strategy=cut") == run(cluster, huge, "?strategy=local")
    (reason,), = run(cluster, "SELECT reason FROM cluster.query_history WHERE step = 'local' AND sql LIKE '%4500000%' "
                     "AND reason LIKE 'not distributed%'")
    assert "larger than a frame between nodes" in reason
    assert "event=query.retry" not in cluster.log() and "event=worker.left" not in cluster.log()
