"""Real clusters for the tests of this folder: bootstrap, one server, workers, all on this machine.

`cluster` lives for the whole run: TPC-H at a small scale, 4 shards, 2 workers; `empty` likewise, without
tables. A test that kills something, or changes what others read, makes its own with `new_cluster`.
"""
import base64
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from servers_kit import three_servers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MG_BUILD", ROOT / "build"))
PROGRAM = pathlib.Path(os.environ.get("MG_PROGRAM", BUILD / "merganser"))
USER, PASSWORD, WORKER_PASSWORD = "scott", "tiger", "united"


def basic(login):
    """What Authorization says of a user and a password."""
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


class Answer:
    """An HTTP answer: status, headers, body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Cluster:
    def __init__(self, scale=0.01, shards=4, kv_shards=None):
        """kv_shards: None: as many as every cluster has."""
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="mg-test-"))
        self.data = self.dir / "data"
        self.processes = {}
        self.port = None
        self.run("bootstrap", "--data-dir", self.data, "--client-username", USER, "--client-password", PASSWORD,
                 "--worker-password", WORKER_PASSWORD, "--tpch-scale-factor", scale, "--shard-count", shards,
                 *(() if kv_shards is None else ("--kv-shard-count", kv_shards)))

    def run(self, *args, **kwargs):
        kwargs.setdefault("timeout", 120)
        kwargs.setdefault("check", True)
        return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True,
                              cwd=self.dir, **kwargs)

    @property
    def ca(self):
        return self.data / "tls" / "ca.crt"

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def start(self, name, *args, wrap=(), env=None, **kwargs):
        """wrap: a command that runs the rest of its arguments, in the end without a process of its own."""
        log = open(self.dir / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen([*wrap, PROGRAM, *map(str, args)], cwd=self.dir,
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                env={**os.environ, **(env or {})}, **kwargs)
        log.close()
        return self.processes[name]

    def log(self, name="server"):
        return (self.dir / f"{name}.log").read_text(errors="replace")

    def start_server(self, *args, env=None, **kwargs):
        """args may give another --listen: the last one counts."""
        listen = f"127.0.0.1:{self.port or 0}"
        process = self.start("server", "server", "--data-dir", self.data, "--listen", listen, *args, env=env, **kwargs)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}:\n{self.log()}")
            found = re.search(r"(?:127\.0\.0\.1|localhost|port[= ]):?(\d{4,5})", self.log())
            if found and not self.port:
                self.port = int(found.group(1))
            if self.port and self.healthy():
                return process
            time.sleep(0.05)
        raise RuntimeError(f"the server did not get ready:\n{self.log()}")

    def healthy(self):
        try:
            return self.get("/health", login=None).status == 200
        except OSError:
            return False

    def start_worker(self, name, *args, **kwargs):
        """args may give another --cache-dir: the last one counts."""
        return self.start(name, "worker", "--server", f"localhost:{self.port}", "--tls-roots", self.ca,
                          "--password", WORKER_PASSWORD, "--node-id", name, "--cache-dir", self.dir / name, *args, **kwargs)

    def wait_workers(self, count, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.get("/status").json()["workers"] == count:
                return
            time.sleep(0.05)
        raise RuntimeError(f"not {count} workers after {seconds} s:\n{self.log()}")

    def tls(self):
        return ssl.create_default_context(cafile=self.ca)

    def request(self, method, path, body=None, headers=None, login=(USER, PASSWORD), timeout=60, port=None):
        """port: of another server."""
        url = f"https://localhost:{port}" if port else self.url
        request = urllib.request.Request(url + path, data=body, headers=dict(headers or {}), method=method)
        if login:
            request.add_header("Authorization", basic(login))
        try:
            with urllib.request.urlopen(request, context=self.tls(), timeout=timeout) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))

    def connection(self, port=None):
        """One that is kept, for a single thread; its requests say themselves who asks."""
        return http.client.HTTPSConnection("localhost", port or self.port, context=self.tls(), timeout=60)

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, document, headers=(), **kwargs):
        return self.request("POST", path, json.dumps(document).encode(), {"Content-Type": "application/json", **dict(headers)}, **kwargs)

    def rows(self, sql, path="", **kwargs):
        """The rows of one statement; path may carry settings, such as "?strategy=cut"."""
        answer = self.post("/db/query" + path, {"sql": sql}, **kwargs)
        assert answer.status == 200, answer.body
        return answer.json()["result"]["values"]

    def shell(self, sql, timeout=60):
        """Statements through the shell, as a finished process; rows are CSV."""
        return subprocess.run([PROGRAM, "sql", self.url, "--username", USER, "--tls-roots", self.ca, "--format", "csv", "-c", sql],
                              capture_output=True, text=True, timeout=timeout, check=False,
                              env={**os.environ, "MERGANSER_PASSWORD": PASSWORD})

    def sql(self, sql, **kwargs):
        """What statements that go well print."""
        result = self.shell(sql, **kwargs)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refused(self, sql):
        """What the shell says of a statement that fails."""
        result = self.shell(sql)
        assert result.returncode == 3, (result.returncode, result.stdout, result.stderr)
        return result.stderr

    def wait_copies(self, shards, worker="%", seconds=20):
        """Until the workers of that name hold so many shards, beside the reference group."""
        sql = f"SELECT coalesce(sum(shards), 0)::INTEGER FROM cluster.nodes WHERE role = 'worker' AND id LIKE '{worker}'"
        deadline = time.monotonic() + seconds
        while self.rows(sql) != [[shards]]:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                codes[name] = "killed: it did not stop"
        return codes

    def remove(self):
        self.stop()
        if not os.environ.get("MG_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)


class Background(threading.Thread):
    """One statement on its own thread."""

    def __init__(self, cluster, sql, path="?strategy=cut"):
        super().__init__(daemon=True)
        self.cluster, self.sql, self.path, self.rows, self.error = cluster, sql, path, None, None
        self.start()

    def run(self):
        try:
            self.rows = self.cluster.rows(self.sql, self.path)
        except BaseException as error:
            self.error = error

    def result(self, seconds=30):
        self.join(seconds)
        assert not self.is_alive(), "the statement hangs"
        if self.error:
            raise self.error
        return self.rows


@pytest.fixture
def background():
    """background(cluster, sql[, path]): a statement on a thread of its own, with result()."""
    return Background


@pytest.fixture
def new_cluster():
    made = []

    def make(**kwargs):
        made.append(Cluster(**kwargs))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture(scope="session")
def empty():
    """A cluster without sample data, for tables of tests: each its own names."""
    one = Cluster(scale=0)
    try:
        one.start_server()
        yield one
        assert one.stop() == {"server": 0}
    finally:
        one.remove()


@pytest.fixture(scope="session")
def cluster():
    one = Cluster()
    try:
        one.start_server()
        for name in ("worker-1", "worker-2"):
            one.start_worker(name)
        one.wait_workers(2)
        yield one
        codes = one.stop()
        assert all(code == 0 for code in codes.values()), codes
    finally:
        one.remove()


@pytest.fixture(scope="module")
def three():
    """Three servers for tests that kill none; each test has tables of its own."""
    with three_servers(Cluster) as servers:
        yield servers
