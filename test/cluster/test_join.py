"""POST /join and `server --join`: who is let into a cluster, who is not and why, and what is left behind."""
import json
import os
import socket
import subprocess

import pytest

USER, PASSWORD, WORKER_PASSWORD = "scott", "tiger", "united"      # as conftest.py bootstraps


@pytest.fixture
def host(empty):
    """The shared cluster, for what changes nothing there."""
    return empty


def secret(cluster):
    return (cluster.data / "tls" / "join.secret").read_text().strip()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# ---- the door ----

def csr(folder, name):
    """A key, and the request for its certificate, by the openssl program."""
    key, request = folder / f"{name}.key", folder / f"{name}.csr"
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=root",
                    "-keyout", key, "-out", request], check=True, capture_output=True, timeout=60)
    return request.read_text()


@pytest.fixture
def ask(host, tmp_path):
    """What a server asks with, as a dictionary; its engine is that of the cluster."""
    return {"id": "server-x", "addr": "localhost:1", "node_request": csr(tmp_path, "node"),
            "server_request": csr(tmp_path, "server"), "version": "0.1.0",
            "engine": host.get("/status").json()["engine"], "file_format": 1, "catalog_format": 1}


def knock(cluster, body, login=None, **kwargs):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return cluster.request("POST", "/join", data, {"Content-Type": "application/json"},
                           login=login or ("join", secret(cluster)), **kwargs)


def refused(answer, status, *words):
    assert answer.status == status, answer.body
    error = answer.json()["error"]
    for word in words:
        assert word in error["message"], error
    return error


def test_strangers_hear_401(host, ask):
    answer = host.request("POST", "/join", json.dumps(ask).encode(), login=None)
    refused(answer, 401, "login")
    refused(knock(host, ask, ("join", "wrong")), 401, "wrong join password")
    refused(knock(host, ask, (USER, PASSWORD)), 401, "scott")
    refused(knock(host, ask, ("worker", WORKER_PASSWORD)), 401, "worker")


def test_the_join_password_opens_no_other_door(host):
    assert host.get("/status", login=("join", secret(host))).status == 401


def test_bad_bodies_hear_what_is_missing(host, ask):
    error = refused(knock(host, {"id": "server-2", "addr": "localhost:8766"}), 400, "node_request")
    assert "--join" in error["hint"]
    refused(knock(host, b"{"), 400, "JSON")
    refused(knock(host, {**ask, "node_request": "PEM"}), 400, "request for a certificate")
    refused(knock(host, {**ask, "id": "a b"}), 400, "name for a node")
    refused(knock(host, {**ask, "addr": "0.0.0.0:8766"}), 400, "address")
    assert knock(host, {**ask, "node_request": "x" * 70000}).status == 413
    assert host.get("/join").status == 405


def test_what_does_not_fit_hears_409(host, ask):
    refused(knock(host, {**ask, "engine": "v9.9.9"}), 409, "DuckDB v9.9.9")
    refused(knock(host, {**ask, "file_format": 99}), 409, "format 99")
    refused(knock(host, {**ask, "cluster": "f" * 32}), 409, "cluster " + "f" * 32)
    refused(knock(host, {**ask, "id": "server-1"}), 409, "server-1")
    own = json.loads((host.data / "node.json").read_text())["listen"]
    refused(knock(host, {**ask, "addr": own}), 409, own)


def verified(host, pem, tmp_path, *args):
    file = tmp_path / "answer.crt"
    file.write_text(pem)
    done = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", host.ca, *args, file],
                          capture_output=True, text=True, timeout=60)
    names = subprocess.run(["openssl", "x509", "-in", file, "-noout", "-ext", "subjectAltName"],
                           capture_output=True, text=True, timeout=60, check=True)
    return done.returncode == 0, names.stdout


def test_a_server_is_let_in_once(new_cluster, tmp_path):
    host = new_cluster(scale=0)
    host.start_server()
    ask = {"id": "server-2", "addr": "db2.example:8766", "node_request": csr(tmp_path, "node"), "server_request": csr(tmp_path, "server"),
           "version": "0.1.0", "engine": host.get("/status").json()["engine"], "file_format": 1, "catalog_format": 1}
    first = knock(host, ask)
    assert first.status == 200, first.body
    answer = first.json()
    assert answer["number"] == 2
    assert [node["id"] for node in answer["nodes"]] == ["server-1", "server-2"]
    assert answer["ca"] == host.ca.read_text()
    assert answer["catalog"]["cluster_id"] == answer["cluster"]
    good, names = verified(host, answer["server_certificate"], tmp_path, "-purpose", "sslserver", "-verify_hostname", "db2.example")
    assert good and names.count("DNS:") == 2 and names.count("IP Address:") == 2, names
    good, names = verified(host, answer["node_certificate"], tmp_path, "-purpose", "sslclient")
    assert good and "merganser://node/2" in names and "DNS:" not in names, names
    # Again, after an interruption: the same number. Another one with its name or address: no.
    assert knock(host, ask).json()["number"] == 2
    refused(knock(host, {**ask, "addr": "db3.example:8766"}), 409, "server-2")
    refused(knock(host, {**ask, "id": "server-3"}), 409, "db2.example:8766")
    # It says so by its certificate, when it has moved.
    cert = tmp_path / "node.crt"
    cert.write_text(answer["node_certificate"])
    moved = subprocess.run(["curl", "-sS", "--cacert", host.ca, "--cert", cert, "--key", tmp_path / "node.key", "-d",
                            json.dumps({**ask, "addr": "db9.example:8766"}), host.url + "/join"], capture_output=True, text=True,
                           timeout=60, check=True)
    assert [node["address"] for node in json.loads(moved.stdout)["nodes"]][1] == "db9.example:8766", moved.stdout
    # A restart knows them all.
    host.stop()
    host.start_server()
    assert [node["number"] for node in knock(host, {**ask, "addr": "db9.example:8766"}).json()["nodes"]] == [1, 2]


def test_the_node_table_takes_wishes(new_cluster, tmp_path):
    host = new_cluster(scale=0)
    host.start_server()
    ask = {"id": "server-2", "addr": "localhost:1", "node_request": csr(tmp_path, "node"), "server_request": csr(tmp_path, "server"),
           "version": "0.1.0", "engine": host.get("/status").json()["engine"], "file_format": 1, "catalog_format": 1}
    assert knock(host, ask).status == 200
    env = {**os.environ, "MERGANSER_PASSWORD": PASSWORD}
    login = ["--url", host.url, "--username", USER, "--tls-roots", host.ca]

    def states():
        return [node["state"] for node in knock(host, ask).json()["nodes"]]

    assert host.run("cluster", "drain", "server-2", *login, env=env).stdout == "server-2 is being drained\n"
    assert states() == ["member", "draining"]
    done = host.run("cluster", "drain", "server-1", *login, env=env, check=False)
    assert done.returncode == 1 and "last server" in done.stderr
    host.run("cluster", "drain", "server-2", "--undo", *login, env=env)
    assert states() == ["member", "member"]
    done = host.run("cluster", "remove", "server-9", *login, env=env, check=False)
    assert done.returncode == 1 and "server-9" in done.stderr
    assert json.loads(host.run("cluster", "remove", "server-2", "--format", "json", *login, env=env).stdout) == {
        "id": "server-2", "state": "removed"}
    # Its number is gone for good, its name and address are not.
    again = knock(host, ask).json()
    assert again["number"] == 3 and [node["state"] for node in again["nodes"]] == ["member", "removed", "member"]
    # A client that is no admin wishes nothing.
    assert host.request("PUT", "/cluster/nodes/server-2", b'{"state": "removed"}', login=None).status == 401
    assert host.request("PUT", "/cluster/nodes/server-2", b'{"state": "asleep"}').status == 400
    assert host.request("PUT", "/cluster/nodes/server-2", b'{').status == 400


# ---- the program ----

def join(host, folder, *args, password=None, roots=None, seeds=None, timeout=60):
    """`server --join` with an empty directory, until it ends."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MERGANSER_")}
    if password:
        env["MERGANSER_PASSWORD"] = password
    return host.run("server", "--data-dir", folder, "--listen", f"127.0.0.1:{free_port()}", "--join", seeds or f"localhost:{host.port}",
                    *(["--tls-roots", roots] if roots else []), *args, env=env, check=False, timeout=timeout)


def failed(done, folder, *words):
    assert done.returncode == 1, (done.returncode, done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr
    assert not folder.exists(), list(folder.rglob("*"))


def test_a_join_that_cannot_work_leaves_nothing(host, tmp_path):
    folder = tmp_path / "data"
    failed(join(host, folder, roots=host.ca), folder, "join password", "MERGANSER_PASSWORD")
    failed(join(host, folder, password="x"), folder, "--tls-roots")
    failed(join(host, folder, password="x", roots=tmp_path / "none.crt"), folder, "none.crt")
    failed(join(host, folder, password="wrong", roots=host.ca), folder, "wrong join password")
    failed(join(host, folder, password="x", roots=host.ca, seeds="nowhere"), folder, "nowhere")
    failed(join(host, folder, "--node-id", "server-1", password=secret(host), roots=host.ca), folder, "server-1", "--node-id")
    nobody = f"localhost:{free_port()}"
    done = join(host, folder, "--join-timeout", "1s", password="x", roots=host.ca, seeds=nobody)
    failed(done, folder, "no server lets this one in", nobody, "trying again")
    # A directory that was there, empty, is so again.
    folder.mkdir()
    done = join(host, folder, password="wrong", roots=host.ca)
    assert done.returncode == 1 and list(folder.iterdir()) == []


def test_another_cluster_is_not_joined(host, tmp_path):
    ca, key = tmp_path / "other.crt", tmp_path / "other.key"
    host.run("cert", "ca", "--cert-file", ca, "--key-file", key)
    failed(join(host, tmp_path / "data", password=secret(host), roots=ca), tmp_path / "data", "certificate", "--tls-roots")
    # A directory that is a member of one cluster is no newcomer to another.
    done = host.run("bootstrap", "--data-dir", tmp_path / "own", "--tpch-scale-factor", 0, "--shard-count", 1)
    before = sorted(path.name for path in (tmp_path / "own").iterdir())
    done = join(host, tmp_path / "own", password=secret(host), roots=host.ca)
    assert done.returncode == 1 and "another cluster" in done.stderr, done.stderr
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == before
    # What lost its catalog is not empty.
    (tmp_path / "own" / "log" / "catalog.json").unlink()
    done = join(host, tmp_path / "own", password=secret(host), roots=host.ca)
    assert done.returncode == 1 and "no log/catalog.json" in done.stderr, done.stderr
