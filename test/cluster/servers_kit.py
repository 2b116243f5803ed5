"""Several servers on this machine, each on a port of its own, and statements at each of them."""
import contextlib
import json
import socket
import time

import pytest

SLOW = 90  # seconds to wait for something that will happen


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, check, seconds=SLOW, log=lambda: ""):
    """The first true answer of check; an exception of the network counts as none."""
    deadline = time.monotonic() + seconds
    seen = None
    while time.monotonic() < deadline:
        try:
            seen = check()
            if seen:
                return seen
        except (OSError, AssertionError, KeyError) as error:
            seen = error
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}; last seen: {seen!r}\n{log()}")


class Servers:
    """server-1 is the bootstrapped one; the others join it."""

    def __init__(self, new_cluster, count=3, **kwargs):
        self.cluster = new_cluster(**kwargs)
        self.names = [f"server-{i + 1}" for i in range(count)]
        self.ports = {name: free_port() for name in self.names}
        self.dirs = {name: self.cluster.dir / name for name in self.names}
        self.dirs["server-1"] = self.cluster.data
        self.cluster.port = self.ports["server-1"]

    def start(self, name, *args, wait=True):
        options = []
        if name != "server-1":
            secret = (self.cluster.data / "tls" / "join.secret").read_text().strip()
            seeds = ",".join(f"127.0.0.1:{self.ports[other]}" for other in self.names if other != name)
            options = ["--join", seeds, "--tls-roots", self.cluster.ca, "--password", secret]
        self.cluster.start(name, "server", "--data-dir", self.dirs[name], "--listen", f"127.0.0.1:{self.ports[name]}",
                           "--node-id", name, "--threads", 2, "--memory-limit", "512MiB", *options, *args)
        if wait:
            self.await_ready(name)

    def start_all(self):
        self.start("server-1")
        for name in self.names[1:]:
            self.start(name, wait=False)
        self.await_ready(*self.names)

    def logs(self):
        return "\n".join(f"--- {name}\n{self.cluster.log(name)[-3000:]}" for name in self.names
                         if (self.cluster.dir / f"{name}.log").exists())

    def request(self, name, method, path, body=None, **kwargs):
        return self.cluster.request(method, path, body, port=self.ports[name], **kwargs)

    def post(self, name, path, document, headers=(), **kwargs):
        return self.cluster.post(path, document, headers, port=self.ports[name], **kwargs)

    def healthy(self, name):
        return self.request(name, "GET", "/health", login=None, timeout=10).status == 200

    def await_ready(self, *names):
        for name in names:
            until(f"{name} to be ready", lambda one=name: self.alive(one) and self.healthy(one), log=self.logs)

    def alive(self, name):
        code = self.cluster.processes[name].poll()
        if code is not None:
            pytest.fail(f"{name} ended with {code}\n{self.logs()}")
        return True

    def status(self, name):
        return self.request(name, "GET", "/status", timeout=10).json()

    def rows(self, name, sql, **kwargs):
        return self.cluster.rows(sql, port=self.ports[name], **kwargs)

    def await_rows(self, name, sql, expected):
        until(f"{expected} of {name} for {sql}", lambda: self.rows(name, sql) == expected, log=self.logs)

    def coordinator(self):
        """Whom those that are there agree on, and who says that it serves."""
        def agreed():
            names = [name for name in self.names if self.cluster.processes.get(name) and self.cluster.processes[name].poll() is None]
            said = {self.status(name)["coordinator"] for name in names}
            return said.pop() if len(said) == 1 and said <= set(names) else None

        name = until("a coordinator", agreed, log=self.logs)
        self.await_ready(name)
        return name

    def execute(self, sql):
        """At the coordinator, again when it says that nothing happened and that it may be tried again."""
        def tried():
            answer = self.post(self.coordinator(), "/db/execute", {"sql": sql})
            assert answer.status in (200, 503), answer.body
            return answer.status == 200

        until(f"{sql[:60]} to be done", tried, log=self.logs)

    def kill(self, name):
        process = self.cluster.processes[name]
        process.kill()
        process.wait()

    def stop(self, *names):
        for name in names:
            self.cluster.processes[name].terminate()
        for name in names:
            assert self.cluster.processes[name].wait(30) == 0, self.logs()

    def others(self, name):
        return [other for other in self.names if other != name]


def replicas(servers, at):
    """{shard: {node: role}} as the node says."""
    found = {}
    for shard, node, role in servers.rows(at, "SELECT shard, node, role FROM cluster.replicas WHERE role <> 'worker'"):
        found.setdefault(shard, {})[node] = role
    return found


def nodes(servers, at):
    return dict(servers.rows(at, "SELECT id, state FROM cluster.nodes WHERE role = 'server'"))


def ready(servers):
    return servers.rows(servers.names[0], "SELECT count(*) FROM cluster.nodes WHERE role = 'server' AND state = 'ready'")[0][0]


def execute(servers, name, sql, path="/db/execute", **kwargs):
    """On a slow machine an election may come between; that nothing was done is said."""
    for _ in range(10):
        answer = servers.post(name, path, {"sql": sql}, **kwargs)
        if answer.status != 503 or answer.json()["error"]["retry"] != "safe":
            break
        time.sleep(1)
    assert answer.status == 200, (name, answer.status, answer.body)
    return answer.json()["result"]


def query(servers, name, sql, path="/db/query"):
    answer = servers.post(name, path, {"sql": sql})
    assert answer.status == 200, (name, answer.status, answer.body)
    return answer.json()["result"]["values"]


def everywhere(servers, sql):
    """The answer of each node, all equal."""
    answers = {name: query(servers, name, sql) for name in servers.names}
    assert len({json.dumps(rows) for rows in answers.values()}) == 1, answers
    return answers[servers.names[0]]


@contextlib.contextmanager
def three_servers(new_cluster):
    """Three servers without data, ready; gone at the end."""
    servers = Servers(new_cluster, scale=0, shards=4)
    try:
        servers.start_all()
        until("three servers", lambda: ready(servers) == 3, log=servers.logs)
        yield servers
    finally:
        servers.cluster.remove()
