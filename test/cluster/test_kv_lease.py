"""Leases of leaders: reads that ask nobody, and what they never tell (src/raft/lease.h)."""
import pathlib
import signal
import threading
import time

import pytest

from conftest import PASSWORD, USER, basic
from servers_kit import Servers, until

WITHIN_S = 0.12  # a lease that has just been used lasts for at least 0.1 s, of which a loaded machine takes its part


@pytest.fixture
def make_three(new_cluster):
    def make(*args):
        servers = Servers(new_cluster, scale=0, shards=1, kv_shards=1)
        servers.start("server-1", *args)
        for name in servers.names[1:]:
            servers.start(name, *args, wait=False)
        servers.await_ready(*servers.names)
        return servers
    return make


class Client:
    """One connection that is kept."""

    def __init__(self, servers, name):
        self.connection = servers.cluster.connection(servers.ports[name])

    def __call__(self, method="GET", body=None):
        self.connection.request(method, "/kv/t/k", body, {"Authorization": basic((USER, PASSWORD))})
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def signal_all(servers, names, number):
    for name in names:
        servers.cluster.processes[name].send_signal(number)


def stop_all(servers, names):
    """And waits until no thread of them runs any more."""
    signal_all(servers, names, signal.SIGSTOP)
    for name in names:
        for task in pathlib.Path(f"/proc/{servers.cluster.processes[name].pid}/task").iterdir():
            while (task / "stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.0005)


def reads_alone(servers, attempts):
    """How often the leader answered at once while the others were stopped."""
    leader, times = servers.coordinator(), 0
    client = Client(servers, leader)
    until("a write", lambda: client("PUT", b"here")[0] == 200, log=servers.logs)
    for _ in range(attempts):
        answers = []
        for _ in range(20):  # each makes, or finds, or renews a lease
            assert client() == (200, b"here")
        try:
            stop_all(servers, servers.others(leader))
            reader = threading.Thread(target=lambda: answers.append(client()))
            reader.start()
            reader.join(WITHIN_S)
            times += bool(answers)
        finally:
            signal_all(servers, servers.others(leader), signal.SIGCONT)
        reader.join()
        assert answers == [(200, b"here")] or answers[0][0] == 503
        until("a leader that is heard", lambda: client()[0] == 200, log=servers.logs)
    return times


def test_a_leader_reads_alone_within_its_lease(make_three):
    assert reads_alone(make_three(), 20) >= 5


def test_without_leases_each_read_asks(make_three):
    assert reads_alone(make_three("--no-read-leases"), 10) == 0


def test_a_leader_that_was_stopped_tells_nothing_old(make_three):
    servers = make_three()
    for turn in range(4):
        servers.await_ready(*servers.names)
        leader, value = servers.coordinator(), b"%d" % turn
        other = Client(servers, servers.others(leader)[0])
        until("a write", lambda: Client(servers, leader)("PUT", b"old")[0] == 200, log=servers.logs)
        reader = Client(servers, leader)
        for _ in range(20):
            assert reader() == (200, b"old")
        answers = []
        try:
            stop_all(servers, [leader])
            until("the others to go on", lambda: other("PUT", value)[0] == 200, log=servers.logs)
            asked = threading.Thread(target=lambda: answers.append(reader()))  # behind what was acknowledged
            asked.start()
            time.sleep(0.1)
            assert not answers
        finally:
            signal_all(servers, [leader], signal.SIGCONT)
        asked.join()
        assert answers[0] == (200, value) or answers[0][0] == 503, answers
