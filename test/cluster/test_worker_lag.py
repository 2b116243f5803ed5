"""A worker's copies that are behind: cluster.replicas says how far, and no read waits for them (docs/cluster.md)."""
import json
import signal
import time

import pytest

pytestmark = pytest.mark.threads

COPIES = "SELECT state, min(lag), max(lag) FROM cluster.replicas WHERE role = 'worker' AND shard > 0 GROUP BY state ORDER BY state"


def execute(cluster, sql):
    answer = cluster.request("POST", "/db/execute", json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body


def until(what, check):
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_worker_that_is_behind_keeps_no_read_waiting(new_cluster):
    one = new_cluster(scale=0, shards=2)
    one.start_server("--worker-ping-timeout", "60s")
    execute(one, "CREATE TABLE t (k INTEGER, v VARCHAR) PARTITIONED BY (k)")
    execute(one, "INSERT INTO t SELECT range, 'x' FROM range(1000)")
    worker = one.start_worker("w")
    one.wait_workers(1)
    until("copies without lag", lambda: one.rows(COPIES) == [["ready", 0, 0]])
    assert one.rows("SELECT count(*) FROM t", "?strategy=cut") == [[1000]]
    worker.send_signal(signal.SIGSTOP)
    try:
        # It hangs, and what it has is behind: each read has what was written, while the worker is still taken for well.
        for i in range(1, 6):
            execute(one, f"INSERT INTO t VALUES ({1000 + i}, 'y'), ({2000 + i}, 'y'), ({3000 + i}, 'y'), ({4000 + i}, 'y')")
            assert one.rows("SELECT count(*), count(DISTINCT k) FROM t", "?strategy=cut") == [[1000 + 4 * i, 1000 + 4 * i]]
        found = one.rows(COPIES)  # stale, or being copied anew by a worker that does nothing
        assert found and all(state != "ready" and lag > 0 for state, lag, _ in found), found
        assert one.rows("SELECT state FROM cluster.nodes WHERE role = 'worker'") == [["ready"]]
    finally:
        worker.send_signal(signal.SIGCONT)
    until("fresh copies", lambda: one.rows(COPIES) == [["ready", 0, 0]])
    assert one.rows("SELECT count(*) FROM t", "?strategy=cut") == [[1020]]
