"""kill -9 again and again: one of three servers, the coordinator, two of them, or all, while clients insert rows and put keys.

What was acknowledged is there, of the version that was acknowledged or a later one; nothing is there twice, in part or from
nowhere; all replicas are equal; and every file opens again.
"""
import pathlib
import random
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import checkers  # noqa: E402  (the folder is no package: its files are a program of their own)
import workloads  # noqa: E402
from cluster import BUILD, Cluster, until  # noqa: E402
from faults import Fault  # noqa: E402
from run import Run, files_open_again  # noqa: E402

pytestmark = pytest.mark.threads

SLOW_S = 120
CLIENTS = 4  # of each workload


@pytest.fixture
def cluster():
    one = Cluster(seed=0, networks=False, kv_shards=workloads.Keys.kv_shards)
    yield one
    one.close()


def victims(cluster, rng):
    kind = rng.choice(["any", "any", "coordinator", "two", "all"])
    if kind == "coordinator":
        return [cluster.coordinator() or cluster.names[0]]
    return rng.sample(cluster.names, {"any": 1, "two": 2, "all": 3}[kind])


def kill_cycle(cluster, runs, cycle, rng):
    """With clients of each workload at work; until all servers are ready again."""
    stopped = threading.Event()
    clients = [threading.Thread(target=run.work, args=(CLIENTS * cycle + i, stopped), daemon=True) for run in runs for i in range(CLIENTS)]
    before = [run.workload.history.count()[0] for run in runs]
    for client in clients:
        client.start()
    until("some of each to be acknowledged",
          lambda: all(run.workload.history.count()[0] >= least + 12 for run, least in zip(runs, before, strict=True)), SLOW_S, cluster.logs)
    time.sleep(rng.random() / 10)
    chosen = victims(cluster, rng)
    for name in chosen:
        cluster.kill(name)
    stopped.set()
    for name in chosen:
        cluster.start(name)
    for client in clients:
        client.join()
    cluster.await_ready(cluster.names)


def kill_cycles(cluster, cycles):
    rng = random.Random(cycles)
    runs = [Run(cluster, Fault(cluster, 0), kind("cycles", 0), 0) for kind in (workloads.Set, workloads.Keys)]
    rows, keys = runs
    rows.workload.create(rows.surely)
    for cycle in range(cycles):
        kill_cycle(cluster, runs, cycle, rng)
        keys.compare()
        assert checkers.kept(keys.workload.history.operations, keys.final["keys"]) == [], f"after cycle {cycle}"
    rows.compare()
    for run in runs:
        assert run.workload.check(run.final) == []
    assert files_open_again(cluster) == []


def test_what_was_acknowledged_survives_kills(cluster):
    kill_cycles(cluster, 4 if BUILD.name in ("build-asan", "build-tsan") else 20)


@pytest.mark.slow
def test_what_was_acknowledged_survives_200_kills(cluster):
    kill_cycles(cluster, 200)
