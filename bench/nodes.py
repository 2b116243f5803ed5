"""Servers of ours, three of etcd, and Redis, on loopback with TLS; for the jobs of bench/writes.py and bench/keys.py."""
import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("MERGANSER_BUILD", os.path.join(ROOT, "build"))
PROGRAM, PUTS = os.path.join(BUILD, "merganser"), os.path.join(BUILD, "bench", "puts")
USER, PASSWORD, WORKER_PASSWORD = "bench", "bench-client", "bench-worker"
PATIENCE_S = 120


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


def peak_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def until(what, check, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    seen = None
    while time.monotonic() < deadline:
        try:
            seen = check()
            if seen:
                return seen
        except (OSError, KeyError, ValueError, subprocess.CalledProcessError) as error:
            seen = error
        time.sleep(0.02)
    raise SystemExit(f"waited in vain for {what}; last seen: {seen!r}")


def load(kind, *arguments):
    """One run of the load generator."""
    done = subprocess.run([PUTS, kind, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"puts {kind}: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Group:
    """Processes that are ended together."""

    def __init__(self, work):
        self.work, self.processes = work, {}

    def start(self, name, command):
        log = open(os.path.join(self.work, name + ".log"), "ab")
        self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def cpu_s(self):
        return sum(cpu_s(p.pid) for p in self.processes.values())

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Servers(Group):
    """`count` servers of one cluster, ready, in a fresh directory."""

    def __init__(self, work, count=3, shards=4, options=(), scale=0, kv_shards=4):
        super().__init__(work)
        self.names = [f"server-{i + 1}" for i in range(count)]
        self.dirs = {name: os.path.join(work, name) for name in self.names}
        self.ports = {name: free_port() for name in self.names}
        self.options = list(options)
        for directory in self.dirs.values():
            shutil.rmtree(directory, ignore_errors=True)
        first = self.dirs[self.names[0]]
        subprocess.run([PROGRAM, "bootstrap", "--data-dir", first, "--client-username", USER, "--client-password", PASSWORD,
                        "--worker-password", WORKER_PASSWORD, "--tpch-scale-factor", str(scale), "--shard-count", str(shards),
                        "--kv-shard-count", str(kv_shards)],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.ca = os.path.join(first, "tls", "ca.crt")
        self.tls = ssl.create_default_context(cafile=self.ca)
        for name in self.names:
            self.start_one(name)
        for name in self.names:
            until(f"{name} to be ready", lambda one=name: self.healthy(one))

    def start_one(self, name):
        options = list(self.options)
        if name != self.names[0]:
            with open(os.path.join(self.dirs[self.names[0]], "tls", "join.secret")) as f:
                secret = f.read().strip()
            seeds = ",".join(f"127.0.0.1:{self.ports[other]}" for other in self.names if other != name)
            options += ["--join", seeds, "--tls-roots", self.ca, "--password", secret]
        self.start(name, [PROGRAM, "server", "--data-dir", self.dirs[name], "--listen", f"127.0.0.1:{self.ports[name]}",
                          "--node-id", name, *options])

    def restart_s(self, name, how):
        """Stops it ("stopped": SIGTERM, "killed": kill -9); seconds from its start until it serves."""
        process = self.processes[name]
        process.kill() if how == "killed" else process.terminate()
        process.wait()
        start = time.monotonic()
        self.start_one(name)
        until(f"{name} to be ready", lambda: self.healthy(name))
        return time.monotonic() - start

    def url(self, name):
        return f"https://127.0.0.1:{self.ports[name]}"

    def get(self, name, path, timeout=5, body=None):
        request = urllib.request.Request(self.url(name) + path, data=body)
        if body:
            request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def healthy(self, name):
        return self.get(name, "/health")[0] == 200

    def alive(self):
        return [name for name in self.names if self.processes[name].poll() is None]

    def coordinator(self):
        def agreed():
            said = {self.get(name, "/status")[1]["coordinator"] for name in self.alive()}
            return said.pop() if len(said) == 1 and said <= set(self.alive()) else None

        name = until("a coordinator", agreed)
        until(f"{name} to be ready", lambda: self.healthy(name))
        return name

    def execute(self, sql, name=None, timeout=600):
        status, answer = self.get(name or self.coordinator(), "/db/execute", timeout, json.dumps({"sql": sql}).encode())
        if status != 200:
            raise SystemExit(f"{sql[:80]}: {answer}")
        return answer["result"]

    def query(self, sql, name, timeout=600, path=""):
        status, answer = self.get(name, "/db/query" + path, timeout, json.dumps({"sql": sql}).encode())
        if status != 200:
            raise ValueError(f"{sql[:80]}: {answer}")
        return answer["result"]["values"]

    def shell(self, command, name):
        done = subprocess.run([PROGRAM, "sql", self.url(name), "--username", USER, "--tls-roots", self.ca], input=command + "\n", text=True,
                              env={**os.environ, "MERGANSER_PASSWORD": PASSWORD}, capture_output=True)
        if done.returncode or "rror" in done.stderr:
            raise SystemExit(f"{command}: {done.stderr.strip()}")
        return done.stdout

    def load(self, kind, table, rows, clients, seconds, name=None):
        return load(kind, self.url(name or self.coordinator()), USER, PASSWORD, self.ca, table, rows, clients, seconds)

    def load_keys(self, mix, clients, seconds, keys=1, pipeline=1):
        address = f"localhost:{self.ports[self.coordinator()]}"
        if mix == "E":  # Redis' protocol has no order of keys
            basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            return load("rest", address, self.ca, basic, mix, keys, clients, seconds)
        return load("resp", address, self.ca, USER, PASSWORD, pipeline, mix, keys, clients, seconds)


def make_certificate(work):
    """A CA and a certificate for loopback, for both ends of a connection: what our servers make for themselves."""
    names = ("ca.crt", "ca.key", "node.crt", "node.key", "node.csr", "node.ext")
    ca, ca_key, cert, key, request, extension = (os.path.join(work, "peer-" + name) for name in names)
    if os.path.exists(cert):
        return ca, cert, key  # of another group here
    with open(extension, "w") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in (["req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", "30", "-subj", "/CN=bench"],
                    ["req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=peer"],
                    ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", cert, "-days", "30",
                     "-extfile", extension]):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return ca, cert, key


class Etcd(Group):
    """Three members with their defaults: TLS for clients, mutual TLS between members, as ours has it."""

    def __init__(self, work):
        super().__init__(work)
        names = [f"etcd-{i + 1}" for i in range(3)]
        ports = {name: (free_port(), free_port()) for name in names}
        self.ca, cert, key = make_certificate(work)
        cluster = ",".join(f"{name}=https://127.0.0.1:{peer}" for name, (_, peer) in ports.items())
        for name, (client, peer) in ports.items():
            directory = os.path.join(work, name)
            shutil.rmtree(directory, ignore_errors=True)
            to_clients, to_peers = f"https://127.0.0.1:{client}", f"https://127.0.0.1:{peer}"
            self.start(name, ["etcd", "--name", name, "--data-dir", directory, "--initial-cluster", cluster,
                              "--initial-cluster-state", "new", "--listen-client-urls", to_clients, "--advertise-client-urls", to_clients,
                              "--listen-peer-urls", to_peers, "--initial-advertise-peer-urls", to_peers,
                              "--cert-file", cert, "--key-file", key, "--peer-cert-file", cert, "--peer-key-file", key,
                              "--peer-trusted-ca-file", self.ca, "--peer-client-cert-auth"])
        self.addresses = [f"127.0.0.1:{client}" for client, _ in ports.values()]
        self.leader = until("etcd's leader", self.find_leader)

    def find_leader(self):
        for address in self.addresses:
            said = subprocess.run(["etcdctl", "--endpoints", "https://" + address, "--cacert", self.ca, "endpoint", "status", "-w", "json"],
                                  env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, check=True).stdout
            status = json.loads(said)[0]["Status"]
            if status["leader"] and status["leader"] == status["header"]["member_id"]:
                return address
        return None

    def load_keys(self, mix, clients, seconds, keys=1, _pipeline=1):
        return load("etcd", self.leader, self.ca, mix, keys, clients, seconds)


class Redis(Group):
    """One, with an append-only file and TLS."""

    def __init__(self, work, fsync):
        super().__init__(work)
        name = f"redis-{fsync}"
        self.ca, cert, key = make_certificate(work)
        self.port, directory = free_port(), os.path.join(work, name)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        self.start(name, ["redis-server", "--port", "0", "--tls-port", str(self.port), "--tls-cert-file", cert, "--tls-key-file", key,
                          "--tls-ca-cert-file", self.ca, "--tls-auth-clients", "no", "--requirepass", PASSWORD, "--save", "",
                          "--appendonly", "yes", "--appendfsync", fsync, "--dir", directory])
        until("Redis", lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)

    def load_keys(self, mix, clients, seconds, keys=1, pipeline=1):
        return load("resp", f"localhost:{self.port}", self.ca, "default", PASSWORD, pipeline, mix, keys, clients, seconds)
