"""kill -9 again and again: one of three servers, the coordinator, two of them, or all, while four clients insert.

What was acknowledged is there, nothing is there twice or in part, all replicas are equal, and every file opens again.
"""
import pathlib
import random
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import workloads  # noqa: E402  (the folder is no package: its files are a program of their own)
from cluster import BUILD, Cluster, until  # noqa: E402
from faults import Fault  # noqa: E402
from run import Run, files_open_again  # noqa: E402

pytestmark = pytest.mark.threads

SLOW_S = 120


@pytest.fixture
def cluster():
    one = Cluster(seed=0, networks=False)
    yield one
    one.close()


def victims(cluster, rng):
    kind = rng.choice(["any", "any", "coordinator", "two", "all"])
    if kind == "coordinator":
        return [cluster.coordinator() or cluster.names[0]]
    return rng.sample(cluster.names, {"any": 1, "two": 2, "all": 3}[kind])


def kill_cycles(cluster, cycles):
    rng = random.Random(cycles)
    workload = workloads.Set("cycles", 0)
    run = Run(cluster, Fault(cluster, 0), workload, 0)
    workload.create(run.surely)
    for cycle in range(cycles):
        stopped = threading.Event()
        clients = [threading.Thread(target=run.work, args=(4 * cycle + i, stopped), daemon=True) for i in range(4)]
        before = workload.history.count()[0]
        for client in clients:
            client.start()
        until("some rows to be acknowledged", lambda least=before + 12: workload.history.count()[0] >= least, SLOW_S, cluster.logs)
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
    run.compare()
    assert workload.check(run.final) == []
    assert files_open_again(cluster) == []


def test_what_was_acknowledged_survives_kills(cluster):
    kill_cycles(cluster, 4 if BUILD.name in ("build-asan", "build-tsan") else 20)


@pytest.mark.slow
def test_what_was_acknowledged_survives_200_kills(cluster):
    kill_cycles(cluster, 200)
