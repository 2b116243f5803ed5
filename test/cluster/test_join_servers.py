"""Servers that enter a running cluster, end to end: they serve, come back, are renewed, and go."""
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

USER, PASSWORD = "scott", "tiger"      # as conftest.py bootstraps


def secret(cluster):
    return (cluster.data / "tls" / "join.secret").read_text().strip()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(done, what, seconds=60):
    """Wait for what must come, however busy the machine is."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.01)


class Server:
    """One that has joined, or wants to: its directory, port and process."""

    def __init__(self, cluster, name, *args):
        self.cluster, self.name, self.args = cluster, name, args
        self.data, self.port, self.process = cluster.dir / name, free_port(), None

    def start(self, seed, *args, member=False):
        env = {} if member else {"MERGANSER_PASSWORD": secret(self.cluster), "MERGANSER_TLS_ROOTS": str(self.cluster.ca)}
        join = [] if member else ["--join", f"localhost:{seed}"]
        self.process = self.cluster.start(self.name, "server", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}", *join,
                                          *self.args, *args, env=env)
        return self

    def get(self, path, login=(USER, PASSWORD)):
        port, self.cluster.port = self.cluster.port, self.port
        try:
            return self.cluster.get(path, login=login)
        finally:
            self.cluster.port = port

    def healthy(self):
        assert self.process.poll() is None, self.cluster.log(self.name)
        try:
            return self.get("/health", login=None).status == 200
        except OSError:
            return False

    def wait(self):
        until(self.healthy, lambda: self.cluster.log(self.name))
        return self

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)

    def rows(self, sql):
        port, self.cluster.port = self.cluster.port, self.port
        try:
            return self.cluster.rows(sql)
        finally:
            self.cluster.port = port

    def file(self):
        return json.loads((self.data / "node.json").read_text())


def servers(cluster):
    return cluster.rows("SELECT id, address FROM cluster.nodes WHERE role = 'server' ORDER BY id")


def admin(cluster, *args, check=True):
    return cluster.run("cluster", *args, "--url", cluster.url, "--username", USER, "--tls-roots", cluster.ca, check=check,
                       env={**os.environ, "MERGANSER_PASSWORD": PASSWORD})


def names_of(cert):
    return subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-ext", "subjectAltName"], capture_output=True, text=True,
                          timeout=60, check=True).stdout


def days_left(cert):
    text = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-enddate"], capture_output=True, text=True, timeout=60,
                          check=True).stdout.strip().partition("=")[2]
    end = datetime.datetime.strptime(text, "%b %d %H:%M:%S %Y %Z")
    return (end - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)).days


@pytest.fixture
def three(new_cluster):
    """Three servers: the second has joined through the first, the third through the second, which cannot sign."""
    cluster = new_cluster(scale=0, shards=2)
    cluster.start_server()
    two = Server(cluster, "two", "--node-id", "two").start(cluster.port).wait()
    three = Server(cluster, "three").start(two.port).wait()
    return cluster, two, three


def test_servers_enter_and_come_back(three):
    cluster, two, last = three
    name = f"server-{last.port}"
    assert servers(cluster) == [["server-1", f"127.0.0.1:{cluster.port}"], [name, f"127.0.0.1:{last.port}"],
                                ["two", f"127.0.0.1:{two.port}"]]
    assert (two.file()["number"], two.file()["id"]) == (2, "two") and (last.file()["number"], last.file()["id"]) == (3, name)
    assert not list(cluster.dir.glob("t*/tls/ca.key")) and not list(cluster.dir.glob("t*/tls/join.secret"))
    for server in (two, last):
        for key in ("node.key", "server.key"):
            assert (server.data / "tls" / key).stat().st_mode & 0o777 == 0o600
        assert "merganser://node/" not in names_of(server.data / "tls" / "server.crt")
        assert f"merganser://node/{server.file()['number']}" in names_of(server.data / "tls" / "node.crt")
    cluster.sql("CREATE TABLE t (a INTEGER, b VARCHAR) PARTITIONED BY (a); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')")
    assert last.rows("SELECT count(*), sum(a) FROM t") == [[3, "6"]]
    # A member needs neither seeds nor the password; with another name and address it says so.
    last.end()
    last.port = free_port()
    last.start(None, "--node-id", "tre", member=True).wait()
    until(lambda: ["tre", f"127.0.0.1:{last.port}"] in servers(cluster), lambda: str(servers(cluster)))
    assert len(servers(cluster)) == 3 and last.file()["number"] == 3
    assert last.rows("SELECT count(*) FROM t") == [[3]]


def test_a_server_enters_in_the_predecessors_words(new_cluster):
    """-id, -http, -raft, -leader, and the directory as the last word; the secret in a file."""
    cluster = new_cluster(scale=0, shards=1)
    cluster.start_server()
    two, peers = Server(cluster, "two"), free_port()
    two.process = cluster.start("two", "server", "-id", "n2", "-http", f"localhost:{two.port}", "-raft", f"localhost:{peers}", "-leader",
                                f"localhost:{cluster.port}", "--tls-roots", cluster.ca, "--password-file",
                                cluster.data / "tls" / "join.secret", two.data)
    two.wait()
    assert ["n2", f"localhost:{two.port}"] in servers(cluster)
    with socket.create_connection(("localhost", peers), timeout=10) as more:
        more.close()


def test_a_lost_directory_is_a_lost_node(three):
    cluster, two, last = three
    last.end(signal.SIGKILL)
    shutil.rmtree(last.data)
    assert last.start(two.port).process.wait(60) == 1
    assert "has replicas in its data directory" in cluster.log("three") and "cluster remove" in cluster.log("three")
    admin(cluster, "remove", f"server-{last.port}")
    last.start(two.port).wait()
    assert last.file()["number"] == 4


def test_the_first_one_does_not_begin_again(three):
    """Its log is gone: it must not become the leader of groups of its own, whose rows are others', but another node."""
    cluster, two, last = three
    cluster.processes["server"].send_signal(signal.SIGKILL)
    cluster.processes["server"].wait(30)
    shutil.rmtree(cluster.data / "log" / "raft")
    first = Server(cluster, "first")
    first.data, first.port = cluster.data, cluster.port
    first.start(None, member=True).wait()
    assert "log/raft of the data directory is lost" in cluster.log("first")
    assert first.file()["number"] == 4
    until(two.healthy, lambda: cluster.log("two"))
    # As long as nobody else is there it waits: alone it does not know what it has promised.
    two.end()
    last.end()
    first.end()
    shutil.rmtree(first.data / "log" / "raft")
    first.start(None, member=True)
    until(lambda: "reenter.waits" in cluster.log("first"), lambda: cluster.log("first"))
    assert first.process.poll() is None and not first.healthy()
    first.end()
    assert first.process.returncode == 1 and first.file()["number"] == 4


def test_any_node_takes_wishes(three):
    cluster, two, last = three
    port, cluster.port = cluster.port, last.port

    def two_is(*expected):
        found = cluster.rows("SELECT state, (SELECT count(*) FROM cluster.replicas WHERE node = 'two') FROM cluster.nodes WHERE id = 'two'")
        return found == [list(expected)]

    try:
        until(lambda: two_is("ready", 3), lambda: cluster.log())
        admin(cluster, "drain", "two")
        until(lambda: two_is("draining", 0), lambda: cluster.log())
        admin(cluster, "drain", "two", "--undo")
        until(lambda: two_is("ready", 3), lambda: cluster.log())
    finally:
        cluster.port = port
    assert admin(cluster, "drain", "nobody", check=False).returncode == 1


def test_a_join_that_is_killed_can_be_tried_again(new_cluster):
    cluster = new_cluster(scale=0, shards=1)
    cluster.start_server()
    two = Server(cluster, "two", "--node-id", "two")
    # As soon as each of these is there, in the order in which they come; the catalog is the border.
    for name in ("node.lock", "tls/node.key", "tls/server.key", "tls/ca.crt", "tls/node.crt", "tls/server.crt", "node.json",
                 "log/catalog.json", "log/incarnation", "shards/0000.duckdb", "shards/0001.duckdb", "log/raft"):
        process = two.start(cluster.port).process
        until(lambda: (two.data / name).exists() or process.poll() is not None, lambda: f"{name}: {cluster.log('two')}")
        process.kill()
        assert process.wait(30) == -signal.SIGKILL, cluster.log("two")
    two.start(cluster.port).wait()
    assert two.file()["number"] == 2
    assert [row[0] for row in servers(cluster)] == ["server-1", "two"]


def ends_soon(cluster, data, number):
    """Both certificates end in ten days, as if they had been made long ago."""
    tls = data / "tls"
    for name, extensions in (("node", f"subjectAltName=URI:merganser://node/{number}\nextendedKeyUsage=serverAuth,clientAuth"),
                             ("server", "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth")):
        request, conf = cluster.dir / f"{name}.csr", cluster.dir / f"{name}.cnf"
        conf.write_text(extensions)
        subprocess.run(["openssl", "req", "-new", "-key", tls / f"{name}.key", "-subj", f"/CN={name}", "-out", request], check=True,
                       capture_output=True, timeout=60)
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", cluster.ca, "-CAkey", cluster.data / "tls" / "ca.key", "-days",
                        "10", "-extfile", conf, "-out", tls / f"{name}.crt"], check=True, capture_output=True, timeout=60)
        assert days_left(tls / f"{name}.crt") < 11


def year_shown(port):
    """In which the certificate ends that clients see."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"localhost:{port}"], input="", capture_output=True, text=True, timeout=60)
    return int(re.search(r"NotAfter: .* (\d{4}) GMT", done.stdout).group(1))


def test_a_certificate_is_renewed_before_it_ends(new_cluster):
    """By the others, for a server that has joined, without a restart; by itself, where the CA's key is."""
    cluster = new_cluster(scale=0, shards=1)
    cluster.start_server()
    two = Server(cluster, "two").start(cluster.port).wait()
    two.end()
    cluster.stop()
    folders = {1: cluster.data, 2: two.data}
    for number, data in folders.items():
        ends_soon(cluster, data, number)
    # Keys stay, but that of a node's certificate which it signs itself.
    kept = [cluster.data / "tls" / "server.key", two.data / "tls" / "server.key", two.data / "tls" / "node.key"]
    keys = [key.read_bytes() for key in kept]
    # Of two servers one is no majority: neither serves before the other is there.
    two.start(None, member=True)
    cluster.start_server()
    two.wait()
    for number, data in folders.items():
        tls = data / "tls"
        until(lambda: days_left(tls / "node.crt") > 100 and days_left(tls / "server.crt") > 100, lambda: cluster.log("two"))
        assert f"merganser://node/{number}" in names_of(tls / "node.crt")
        assert "DNS:localhost" in names_of(tls / "server.crt") and "IP Address:127.0.0.1" in names_of(tls / "server.crt")
    assert keys == [key.read_bytes() for key in kept]
    for port in (cluster.port, two.port):
        until(lambda: year_shown(port) > datetime.datetime.now().year + 1, "the old certificate is still shown")


def test_the_one_that_signs_is_needed(three):
    cluster, two, last = three
    # What is asked of a server that cannot sign is passed on; nobody can while the first one is away.
    cluster.processes["server"].send_signal(signal.SIGTERM)
    cluster.processes["server"].wait(30)
    four = Server(cluster, "four")
    done = four.start(two.port, "--join-timeout", "1s").process
    assert done.wait(60) == 1
    log = cluster.log("four")
    assert "cannot sign certificates" in log and "tls/ca.key" in log and not four.data.exists(), log
    # With a copy of its secrets another one signs.
    for name in ("ca.key", "join.secret"):
        shutil.copy(cluster.data / "tls" / name, last.data / "tls" / name)
    four.start(two.port).wait()
    assert four.file()["number"] == 4
    for name in ("ca.key", "join.secret"):
        (last.data / "tls" / name).unlink()
    # When it is back it signs again, and need not lead to do so.
    cluster.start_server()
    assert Server(cluster, "five").start(four.port).wait().file()["number"] == 5


def test_a_removed_server_stays_away(three):
    cluster, two, last = three
    assert "no node" in admin(cluster, "remove", "two").stdout
    until(lambda: all(row[0] != "two" for row in servers(cluster)), lambda: str(servers(cluster)))
    cluster.sql("CREATE TABLE t AS SELECT 42 AS a")
    assert last.rows("FROM t") == [[42]]
    two.end(signal.SIGKILL)
    # Its name is free; its number is not.
    again = Server(cluster, "again", "--node-id", "two").start(cluster.port).wait()
    assert again.file()["number"] == 4
    assert pathlib.Path(again.data / "log" / "catalog.json").exists()
