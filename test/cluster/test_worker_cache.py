"""A worker's cache: it has a limit, keeps what is used, and a full disk costs shards, not answers."""
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import threading
import time

import pytest

SQL = "SELECT l_returnflag, count(*), sum(l_extendedprice) FROM lineitem GROUP BY 1 ORDER BY 1"
SHARDS = "SELECT shard FROM cluster.replicas WHERE node = '{}' AND shard > 0 AND state = 'ready' ORDER BY 1"


def sizes(cluster):
    """Bytes of each shard file, the reference group first."""
    return [path.stat().st_size for path in sorted((cluster.data / "shards").glob("*.duckdb"))]


def room_for(cluster, shards):
    files = sizes(cluster)
    return files[0] + shards * max(files[1:])


def copies(folder):
    return sorted(path for path in folder.iterdir() if path.suffix in (".duckdb", ".part"))


def held(cluster, name):
    return [row[0] for row in cluster.rows(SHARDS.format(name))]


def until(condition, cluster, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, cluster.log()
        time.sleep(0.05)


@pytest.fixture
def lonely(new_cluster):
    cluster = new_cluster(scale=0.01)
    cluster.start_server()
    return cluster


def test_a_small_cache_holds_what_fits_and_others_take_the_rest(lonely):
    expected = lonely.rows(SQL, "?strategy=local")
    limit = room_for(lonely, 1)
    lonely.start_worker("small", "--cache-size", str(limit))
    lonely.wait_workers(1)
    lonely.wait_copies(1)
    assert sum(path.stat().st_size for path in copies(lonely.dir / "small")) <= limit
    assert f"event=cache.size bytes={limit}" in lonely.log("small")
    assert lonely.rows(SQL, "?strategy=cut") == expected
    lonely.start_worker("large")
    lonely.wait_workers(2)
    lonely.wait_copies(4)
    assert len(held(lonely, "small")) == 1 and len(held(lonely, "large")) == 3
    assert lonely.rows(SQL, "?strategy=cut") == expected
    assert "event=cache.size" in lonely.log("large") and "disk has free" in lonely.log("large")


def test_a_cache_without_room_for_the_reference_tables_says_so_once(lonely):
    expected = lonely.rows(SQL, "?strategy=local")
    worker = lonely.start_worker("tiny", "--cache-size", "100KB")
    until(lambda: "event=worker.full" in lonely.log(), lonely)
    assert lonely.rows(SQL, "?strategy=cut") == expected
    assert lonely.get("/status").json()["workers"] == 0
    assert worker.poll() is None
    log = lonely.log("tiny")
    assert log.count("event=shard.declined") == 1 and "without the reference tables" in log
    assert log.count("event=worker.connected") == 1
    assert copies(lonely.dir / "tiny") == []


def test_a_full_cache_removes_old_copies_and_nothing_else(lonely):
    folder = lonely.dir / "w"
    folder.mkdir()
    old, torn, other = folder / ("a" * 64 + ".duckdb"), folder / ("b" * 64 + "-1.part"), folder / "notes.duckdb"
    for path in (old, torn, other):
        path.write_bytes(b"x" * 10_000)
        os.utime(path, (1, 1))
    # With room for everything, copies of another time stay: they may be wanted again.
    lonely.start_worker("w")
    lonely.wait_workers(1)
    lonely.wait_copies(4)
    assert old.exists() and torn.exists() and other.exists()
    lonely.processes["w"].terminate()
    assert lonely.processes["w"].wait(20) == 0
    # With room for two shards, what is not leased goes, the oldest first.
    limit = room_for(lonely, 2)
    lonely.start_worker("w", "--cache-size", str(limit))
    lonely.wait_workers(1)
    lonely.wait_copies(2)
    assert not old.exists() and not torn.exists() and other.exists()
    assert sum(path.stat().st_size for path in copies(folder) if path != other) <= limit
    assert lonely.rows(SQL, "?strategy=cut") == lonely.rows(SQL, "?strategy=local")


def test_the_copies_of_another_worker_in_the_same_folder_stay(lonely):
    lonely.start_worker("first")
    lonely.wait_workers(1)
    lonely.wait_copies(4)
    before = copies(lonely.dir / "first")
    lonely.start_worker("second", "--cache-dir", lonely.dir / "first", "--cache-size", str(room_for(lonely, 1)))
    lonely.wait_workers(2)      # it shares the files that are there
    assert copies(lonely.dir / "first") == before
    assert lonely.rows(SQL, "?strategy=cut") == lonely.rows(SQL, "?strategy=local")


def test_a_killed_worker_leaves_no_spill_behind(lonely):
    folder = lonely.dir / "w"
    lonely.start_worker("w")
    lonely.wait_workers(1)
    spill, = folder.glob("spill-*")
    (spill / "big").write_bytes(b"x" * 1000)
    lonely.processes["w"].kill()
    lonely.processes["w"].wait()
    assert spill.exists()
    lonely.start_worker("w")
    lonely.wait_workers(1, seconds=20)
    until(lambda: not spill.exists(), lonely)
    assert len(list(folder.glob("spill-*"))) == 1


def test_small_caches_change_to_what_nobody_holds(lonely):
    """Two hold the same two shards, and the third, which held the others, dies: one of the two changes over,
    copy by copy, while statements run, each of which may be using the copy that is to go."""
    expected = lonely.rows(SQL, "?strategy=local")
    two = str(room_for(lonely, 2))
    for name, size in (("a", two), ("rest", "1GB"), ("b", two)):
        lonely.start_worker(name, "--cache-size", size)
        lonely.wait_copies(2, name)
    lonely.wait_workers(3)
    assert held(lonely, "a") == held(lonely, "b") != held(lonely, "rest")
    lonely.processes["rest"].kill()
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            got = lonely.rows(SQL, "?strategy=cut")
            if got != expected:
                wrong.append(got)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: sorted(held(lonely, "a") + held(lonely, "b")) == [1, 2, 3, 4], lonely, seconds=60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert "event=shard.exchange" in lonely.log()
    for name in ("a", "b"):
        assert "level=error" not in lonely.log(name)
        assert sum(path.stat().st_size for path in copies(lonely.dir / name)) <= int(two)
    assert lonely.rows(SQL, "?strategy=cut") == expected


def start_on_small_disk(cluster, name, size):
    """A worker whose cache folder is a disk of `size` bytes, and the folder as we see it. It is a tmpfs of the
    worker's own mount namespace; where that is not allowed, a limit on the size of its files stands in."""
    folder = cluster.dir / name
    folder.mkdir()
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    if shutil.which("unshare") and subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", folder],
                                                  capture_output=True, check=False).returncode == 0:
        script = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
        process = cluster.start_worker(name, "--cache-size", "10GB", wrap=[*unshare, "sh", "-c", script, str(folder)])
        return process, pathlib.Path(f"/proc/{process.pid}/root") / folder.relative_to("/")
    print("no mount namespace: RLIMIT_FSIZE instead of a full tmpfs")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 3, size // 3))

    return cluster.start_worker(name, "--cache-size", "10GB", preexec_fn=limit), folder


def test_a_full_disk_costs_shards_and_no_answer(lonely):
    expected = lonely.rows(SQL, "?strategy=local")
    files = sizes(lonely)
    process, folder = start_on_small_disk(lonely, "w", files[0] + 2 * max(files[1:]) + 600_000)
    until(lambda: "event=shard.declined" in lonely.log("w"), lonely)
    for _ in range(3):
        assert lonely.rows(SQL, "?strategy=cut") == expected
    until(lambda: lonely.log().count("event=worker.full") == lonely.log("w").count("event=shard.declined"), lonely)
    kept = held(lonely, "w")
    log = lonely.log("w")
    assert len(kept) <= 2
    # Each shard was tried once, with one more try after what is not needed was removed; then it was let be.
    assert log.count("event=shard.declined") == 4 - len(kept)
    assert log.count("event=cache.full") <= 4 - len(kept)
    assert log.count("event=worker.connected") == 1 and process.poll() is None
    assert not list(folder.glob("*.part")), "a part that cannot become whole stays"
    assert re.search(r"No space left|File too large", log), log
    assert lonely.rows(SQL, "?strategy=cut") == expected
