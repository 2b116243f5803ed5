"""A client certificate is a login: at HTTP, at both channels, in the shell and for workers, with roles apart."""
import json
import ssl
import subprocess
import time

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

USER, PASSWORD, WORKER_PASSWORD = "scott", "tiger", "united"      # as conftest.py bootstraps

OPENSSL_CONF = """[req]
distinguished_name = dn
[dn]
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
"""


@pytest.fixture(scope="module")
def certs(cluster, tmp_path_factory):
    """Certificates of the cluster's CA, of another one, and odd ones."""
    made = Certs(cluster, tmp_path_factory.mktemp("certs"))
    for name in (USER, "worker", "nobody", "admin"):
        made.client(name)
    return made


class Certs:
    def __init__(self, cluster, folder):
        self.cluster, self.dir = cluster, folder
        self.ca, self.ca_key = cluster.data / "tls" / "ca.crt", cluster.data / "tls" / "ca.key"
        (folder / "openssl.cnf").write_text(OPENSSL_CONF)

    def pair(self, name):
        return self.dir / f"{name}.crt", self.dir / f"{name}.key"

    def client(self, name, *args, file=None, ca=None):
        cert, key = self.pair(file or name)
        ca, ca_key = ca or (self.ca, self.ca_key)
        self.cluster.run("cert", "client", "--common-name", name, "--ca-cert-file", ca, "--ca-key-file", ca_key,
                         "--cert-file", cert, "--key-file", key, *args)
        return cert, key

    def odd(self, file, subject, *args):
        """Signed by the cluster's CA with the openssl program: what our own tool would not make."""
        cert, key = self.pair(file)
        request = self.dir / f"{file}.csr"
        conf = self.dir / "openssl.cnf"
        run = dict(check=True, capture_output=True, timeout=60)
        subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8",
                        "-config", conf, "-keyout", key, "-out", request, "-subj", subject], **run)
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-out", cert,
                        "-extfile", conf, "-extensions", "client", *args], **run)
        return cert, key


def curl(cluster, pair, *args, path="/db/query?q=SELECT+42+AS+a"):
    """Status and body, by the curl program."""
    login = ["--cert", pair[0], "--key", pair[1]] if pair else []
    done = subprocess.run(["curl", "-sS", "--cacert", cluster.ca, *login, *args, "-w", "\n%{http_code}", cluster.url + path],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def refused(cluster, pair, *words, args=()):
    status, body = curl(cluster, pair, *args)
    assert status == 401, body
    error = json.loads(body)["error"]
    assert error["sqlstate"] == "28P01" and (error["hint"] or "wrong user" in error["message"]), error
    for word in words:
        assert word in error["message"], error


def channel(cluster, pair, path):
    context = ssl.create_default_context(cafile=cluster.ca)
    context.load_cert_chain(*pair)
    return connect(f"wss://localhost:{cluster.port}/{path}", ssl=context, compression=None)


# ---- who gets in ----

def test_a_certificate_is_a_login(cluster, certs):
    status, body = curl(cluster, certs.pair(USER))
    assert status == 200 and json.loads(body)["result"]["values"] == [[42]]
    status, body = curl(cluster, certs.pair(USER), "-u", f"{USER}:{PASSWORD}")
    assert status == 200
    with channel(cluster, certs.pair(USER), "client") as ws:
        assert json.loads(ws.recv(10))["user"] == USER


def test_roles_are_kept_apart(cluster, certs):
    status, body = curl(cluster, certs.pair("worker"))
    assert status == 403 and "worker" in json.loads(body)["error"]["message"]
    for name, path in (("worker", "client"), (USER, "worker")):
        with pytest.raises(InvalidStatus) as error:
            channel(cluster, certs.pair(name), path)
        assert error.value.response.status_code == 403
    with channel(cluster, certs.pair("worker"), "worker") as ws:
        ws.send("{}")  # it is in: what follows is the protocol's business


def test_a_password_beside_it_must_be_right_and_the_same_users(cluster, certs):
    refused(cluster, certs.pair(USER), "wrong", args=["-u", f"{USER}:wrong"])
    refused(cluster, certs.pair(USER), "for \"scott\"", "\"worker\"", args=["-u", f"worker:{WORKER_PASSWORD}"])
    refused(cluster, certs.pair("worker"), "\"worker\"", "\"scott\"", args=["-u", f"{USER}:{PASSWORD}"])
    refused(cluster, certs.pair(USER), args=["-H", "Authorization: Bearer x"])
    refused(cluster, certs.pair(USER), args=["-H", "Authorization: Basic ???"])


# ---- who does not ----

def test_strangers_are_told_why(cluster, certs):
    other = certs.dir / "other.crt", certs.dir / "other.key"
    cluster.run("cert", "ca", "--cert-file", other[0], "--key-file", other[1])
    refused(cluster, certs.client(USER, file="forged", ca=other), "another CA")
    refused(cluster, other, "refused")
    refused(cluster, (cluster.data / "tls" / "server.crt", cluster.data / "tls" / "server.key"), "not made for clients")
    refused(cluster, (certs.ca, certs.ca_key), "not made for clients")
    refused(cluster, certs.pair("nobody"), "\"nobody\", who is no user")
    # A right password does not make a bad certificate good.
    refused(cluster, certs.pair("forged"), "another CA", args=["-u", f"{USER}:{PASSWORD}"])
    with pytest.raises(InvalidStatus) as error:
        channel(cluster, certs.pair("forged"), "client")
    assert error.value.response.status_code == 401
    assert curl(cluster, certs.pair("forged"), path="/ping") == (200, "PONG")  # needs no login


def test_odd_subjects_name_nobody(cluster, certs):
    for file, subject in (("two", "/CN=scott/CN=worker"), ("none", "/O=scott"), ("line", "/CN=scott\n"),
                          ("long", "/CN=" + "s" * 64), ("mail", "/emailAddress=scott")):
        refused(cluster, certs.odd(file, subject), "no common name")
    for file, subject in (("case", "/CN=Scott"), ("blank", "/CN=scott "), ("colon", "/CN=scott:tiger")):
        refused(cluster, certs.odd(file, subject), "who is no user")


def test_an_expired_certificate_is_refused(cluster, certs):
    refused(cluster, certs.odd("old", "/CN=scott", "-days", "-1"), "expired")


def test_a_user_that_is_dropped_is_out_at_once(new_cluster, tmp_path):
    cluster = new_cluster(scale=0, shards=1)
    cluster.run("user", "create", "ada", "--password", "x", "--data-dir", cluster.data)
    pair = Certs(cluster, tmp_path).client("ada")
    cluster.start_server()
    assert curl(cluster, pair)[0] == 200
    cluster.stop()
    cluster.run("user", "drop", "ada", "--data-dir", cluster.data)
    cluster.start_server()
    refused(cluster, pair, "who is no user")


# ---- our own programs ----

def sql(cluster, *args, env=None, **kwargs):
    return cluster.run("sql", cluster.url, "--tls-roots", cluster.ca, "-c", "SELECT 42 AS a", "--format", "csv", *args,
                       check=False, env=env, **kwargs)


def test_the_shell_takes_a_certificate(cluster, certs):
    cert, key = certs.pair(USER)
    done = sql(cluster, "--tls-cert", cert, "--tls-key", key)
    assert (done.returncode, done.stdout) == (0, "a\n42\n"), done.stderr
    both = certs.dir / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    assert sql(cluster, "--tls-cert", both).stdout == "a\n42\n"
    done = sql(cluster, "--tls-cert", cert, "--tls-key", key, "--username", "ada")
    assert done.returncode == 1 and "\"scott\", not \"ada\"" in done.stderr
    done = sql(cluster, "--tls-key", key)
    assert done.returncode == 1 and "without --tls-cert" in done.stderr
    done = sql(cluster, "--tls-cert", cert, "--tls-key", certs.pair("worker")[1])
    assert done.returncode == 1 and "another certificate" in done.stderr
    nobody = certs.pair("nobody")
    done = sql(cluster, "--tls-cert", nobody[0], "--tls-key", nobody[1])
    assert done.returncode == 2 and "who is no user" in done.stderr and "hint" in done.stderr
    status = cluster.run("cluster", "status", "--url", cluster.url, "--tls-roots", cluster.ca, "--tls-cert", cert,
                         "--tls-key", key, "--format", "json")
    assert json.loads(status.stdout)["workers"] == 2


def test_encrypted_keys(cluster, certs, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    cert, key = certs.client(USER, "--key-password-file", secret, file="locked")
    assert "ENCRYPTED" in key.read_text()
    args = "--tls-cert", cert, "--tls-key", key
    assert sql(cluster, *args, "--tls-key-password-file", secret).stdout == "a\n42\n"
    assert sql(cluster, *args, env={"MERGANSER_TLS_KEY_PASSWORD": "open sesame"}).stdout == "a\n42\n"
    done = sql(cluster, *args)
    assert done.returncode == 1 and "needs its passphrase" in done.stderr and "--tls-key-password-file" in done.stderr
    done = sql(cluster, *args, "--tls-key-password", "wrong")
    assert done.returncode == 1 and "passphrase" in done.stderr and "wrong" in done.stderr
    assert curl(cluster, (cert, key), "--pass", "open sesame")[0] == 200


def test_a_worker_takes_a_certificate(new_cluster, tmp_path):
    cluster = new_cluster(shards=1)
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    certs = Certs(cluster, tmp_path)
    locked = certs.client("worker", "--key-password-file", secret, file="locked")
    cluster.start_server("--require-client-cert")

    def worker(pair, *args):
        return cluster.run("worker", "--server", f"localhost:{cluster.port}", "--tls-roots", cluster.ca, "--cache-dir",
                           tmp_path / "cache", "--tls-cert", pair[0], "--tls-key", pair[1], *args, check=False)

    done = worker(certs.client("nobody"))
    assert done.returncode == 2 and "who is no user" in done.stderr
    done = worker(certs.client(USER))
    assert done.returncode == 2 and "may not be a worker" in done.stderr
    done = worker(locked)
    assert done.returncode == 1 and "passphrase" in done.stderr
    cluster.start("w1", "worker", "--server", f"localhost:{cluster.port}", "--tls-roots", cluster.ca, "--cache-dir",
                  tmp_path / "cache", "--tls-cert", locked[0], "--tls-key", locked[1], "--tls-key-password-file", secret)
    login = certs.pair(USER)
    deadline = time.monotonic() + 60
    while json.loads(curl(cluster, login, path="/status")[1])["workers"] != 1:
        assert cluster.processes["w1"].poll() is None and time.monotonic() < deadline, cluster.log("w1")
        time.sleep(0.05)


def test_a_worker_that_trusts_nobody_says_what_helps(new_cluster, tmp_path):
    cluster = new_cluster(scale=0, shards=1)
    cluster.start_server()
    worker = cluster.start("w1", "worker", "--server", f"localhost:{cluster.port}", "--cache-dir", tmp_path / "cache",
                           env={"MERGANSER_PASSWORD": "any"})
    deadline = time.monotonic() + 60
    while "event=worker.disconnected" not in cluster.log("w1"):
        assert worker.poll() is None and time.monotonic() < deadline, cluster.log("w1")
        time.sleep(0.05)
    time.sleep(1)  # it tries again, and has said it
    said, = [line for line in cluster.log("w1").splitlines() if "event=worker.disconnected" in line]
    assert "certificate was refused" in said and 'hint="Give the cluster\'s CA with --tls-roots DIR/tls/ca.crt."' in said, said
    assert 'retry="with growing pauses up to 5 s"' in said, said


def test_a_server_that_requires_certificates(new_cluster, tmp_path):
    cluster = new_cluster(scale=0, shards=1)
    pair = Certs(cluster, tmp_path).client(USER)
    cluster.start_server("--require-client-cert")
    refused(cluster, None, "wants a client certificate", args=["-u", f"{USER}:{PASSWORD}"])
    refused(cluster, None, "wants a client certificate")
    done = sql(cluster, "--username", USER, "--password", PASSWORD)
    assert done.returncode == 2 and "wants a client certificate" in done.stderr and "--tls-cert" in done.stderr
    assert curl(cluster, pair)[0] == 200
    assert curl(cluster, None, path="/health")[0] == 200  # whoever watches a node has no login
    cluster.stop()
    # It is never switched off in silence.
    (cluster.data / "tls" / "ca.crt").rename(tmp_path / "ca.crt")
    done = cluster.run("server", "--data-dir", cluster.data, "--require-client-cert", check=False)
    assert done.returncode == 1 and "needs the CA" in done.stderr and "--client-ca" in done.stderr
    done = cluster.run("server", "--data-dir", cluster.data, "--client-ca", tmp_path / "none", check=False)
    assert done.returncode == 1 and "none" in done.stderr
    done = cluster.run("server", "--data-dir", cluster.data, "--require-client-cert", "--insecure-plaintext", check=False)
    assert done.returncode == 1 and "exclude each other" in done.stderr


def test_the_servers_own_key_may_be_encrypted(new_cluster, tmp_path):
    cluster = new_cluster(scale=0, shards=1)
    key = cluster.data / "tls" / "server.key"
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", tmp_path / "k", "-passout", f"file:{secret}"], check=True)
    key.write_bytes((tmp_path / "k").read_bytes())
    done = cluster.run("server", "--data-dir", cluster.data, check=False)
    assert done.returncode == 1 and "needs its passphrase" in done.stderr
    cluster.start_server("--tls-key-password-file", secret)
    assert cluster.get("/status").status == 200


