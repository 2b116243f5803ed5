"""Three servers as processes, each on a host of its own (wires.c), or all on the loopback where that is not allowed.

A server's directory lies in the cluster's, or on a small file system of its own (`small_disks`). What a fault does to a
server it does through here, so that `heal` can undo it.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from client import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MG_BUILD", ROOT / "build"))
PROGRAM = pathlib.Path(os.environ.get("MG_PROGRAM", BUILD / "merganser"))
USER, PASSWORD, WORKER_PASSWORD, JOIN_PASSWORD = "scott", "tiger", "united", "seven-terns"
SHARDS = 4
PORT = 8765
SMALL_DISK_MB = 640  # a server stops writing when less than 128 are free, and its log takes 128


def until(what, check, seconds, log=lambda: ""):
    """The first true answer of check."""
    deadline = time.monotonic() + seconds
    seen = None
    while time.monotonic() < deadline:
        seen = check()
        if seen:
            return seen
        time.sleep(0.1)
    raise TimeoutError(f"waited {seconds} s in vain for {what}; last seen: {seen!r}{log()}")


class Wires:
    """The switch between the hosts; host 0 is this process's."""

    def __init__(self, hosts, seed):
        self.process = subprocess.Popen([BUILD / "test" / "chaos" / "wires", str(hosts), str(seed)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.holders = {}
        for line in self.process.stdout:
            if line.strip() == "ready":
                break
            _, host, pid = line.split()
            self.holders[int(host)] = int(pid)
        if len(self.holders) != hosts:
            raise OSError("no network of hosts here")

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != "ok":
            raise OSError(f"wires did not do: {line}")

    def link(self, one, other, loss=0, delay=0, jitter=0, repeat=0):
        """What goes from one host to the other, in percent and milliseconds."""
        self.say(f"link {one} {other} {loss} {delay} {jitter} {repeat}")

    def heal(self):
        self.say("heal")

    def inside(self, host):
        return ["nsenter", f"--net=/proc/{self.holders[host]}/ns/net"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Cluster:
    """A cluster of `names`; the first one is bootstrapped, the others join it."""

    def __init__(self, seed, networks, small_disks=False, count=3, kv_shards=0):
        self.wires = Wires(count, seed) if networks else None
        self.kv_shards = kv_shards
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="mg-chaos-"))
        self.names = [f"server-{i + 1}" for i in range(count)]
        self.host = {name: i + 1 for i, name in enumerate(self.names)}
        self.dirs = {name: self.dir / name / "data" for name in self.names}
        self.addresses = {name: (f"10.77.0.{self.host[name]}", PORT) if networks else ("127.0.0.1", free_port())
                          for name in self.names}
        self.processes, self.stopped = {}, set()
        self.clock = {}
        self.mounted = []
        for name in self.names:
            self.dirs[name].parent.mkdir()
            if small_disks:
                self.mount(name)
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def mount(self, name):
        folder = self.dirs[name].parent
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "chaos", folder], check=True)
        self.mounted.append(folder)

    def make(self):
        first = self.dirs[self.names[0]]
        subprocess.run([PROGRAM, "bootstrap", "--data-dir", first, "--client-username", USER, "--client-password", PASSWORD,
                        "--worker-password", WORKER_PASSWORD, "--join-password", JOIN_PASSWORD, "--tpch-scale-factor", "0",
                        "--shard-count", str(SHARDS), "--kv-shard-count", str(self.kv_shards)],
                       check=True, capture_output=True, timeout=120)
        self.ca = self.dir / "ca.crt"
        shutil.copy(first / "tls" / "ca.crt", self.ca)
        self.start(self.names[0])
        self.await_ready(self.names[:1])
        for name in self.names[1:]:
            self.start(name)
        self.await_ready(self.names)
        for name in self.names[1:]:
            self.lend_ca(name)

    def lend_ca(self, name):
        """docs/cluster.md: with copies of these two any server signs, so any other one may be lost."""
        source = next(self.dirs[one] / "tls" for one in self.names if one != name and (self.dirs[one] / "tls" / "ca.key").exists())
        for file in ("ca.key", "join.secret"):
            shutil.copy(source / file, self.dirs[name] / "tls" / file)

    # ---- servers

    def start(self, name):
        host, port = self.addresses[name]
        options = []
        others = [one for one in self.names if one != name]
        if name != self.names[0] or not (self.dirs[name] / "log" / "catalog.json").exists():
            seeds = ",".join("%s:%d" % self.addresses[one] for one in others)
            options = ["--join", seeds, "--tls-roots", self.ca, "--password", JOIN_PASSWORD, "--join-timeout", "5m"]
        log = open(self.log_file(name), "ab")
        env = dict(os.environ)
        if self.clock:
            env.update(LD_PRELOAD=str(self.clock["library"]), MG_CLOCK=str(self.clock[name]))
        wrap = self.wires.inside(self.host[name]) if self.wires else []
        self.processes[name] = subprocess.Popen(
            [*wrap, PROGRAM, "server", "--data-dir", self.dirs[name], "--listen", f"{host}:{port}", "--advertise", f"{host}:{port}",
             "--node-id", name, "--threads", "2", "--memory-limit", "512MiB", *options],
            cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        log.close()

    def log_file(self, name):
        return self.dir / f"{name}.log"

    def log(self, name, size=4000):
        text = self.log_file(name).read_bytes() if self.log_file(name).exists() else b""
        return text[-size:].decode(errors="replace")

    def logs(self):
        return "".join(f"\n--- {name}\n{self.log(name)}" for name in self.names)

    def running(self, name):
        return name in self.processes and self.processes[name].poll() is None

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()
        self.stopped.discard(name)

    def stop(self, *names):
        """As an operator would; {name: exit code, or None: it had to be killed}."""
        for name in names:
            self.processes[name].terminate()
        codes = {}
        for name in names:
            try:
                codes[name] = self.processes[name].wait(60)
            except subprocess.TimeoutExpired:
                self.kill(name)
                codes[name] = None
        return codes

    def freeze(self, name):
        self.processes[name].send_signal(signal.SIGSTOP)
        self.stopped.add(name)

    def thaw(self, name):
        if name in self.stopped and self.running(name):
            self.processes[name].send_signal(signal.SIGCONT)
        self.stopped.discard(name)

    # ---- questions

    def client(self, **kwargs):
        return Client(self.addresses, self.ca, (USER, PASSWORD), **kwargs)

    def healthy(self, name):
        client = self.client(timeout=5)
        try:
            return client.request(name, "GET", "/health").kind == "ok"
        finally:
            client.close()

    def command(self, name, *words):
        """A command of the program, at that server."""
        options = ["--url", "https://%s:%d" % self.addresses[name], "--username", USER, "--tls-roots", self.ca]
        return subprocess.run([PROGRAM, *words, *options],
                              capture_output=True, text=True, check=False, env={**os.environ, "MERGANSER_PASSWORD": PASSWORD})

    def status(self, name):
        client = self.client(timeout=3)
        try:
            return client.request(name, "GET", "/status").value or {}
        finally:
            client.close()

    def coordinator(self):
        """Who most of those that answer say it is, or None."""
        said = [self.status(name).get("coordinator") for name in self.names if self.running(name) and name not in self.stopped]
        said = [one for one in said if one in self.names]
        return max(set(said), key=said.count) if said else None

    def await_ready(self, names, seconds=120):
        for name in names:
            def ready(one=name):
                if not self.running(one):
                    raise ChildProcessError(f"{one} ended with {self.processes[one].poll()}:\n{self.log(one)}")
                return self.healthy(one)
            until(f"{name} to be ready", ready, seconds, self.logs)

    def heal(self):
        """Wires whole, clocks right, disks empty enough, all processes there."""
        if self.wires:
            self.wires.heal()
        for name in self.names:
            self.thaw(name)
            (self.dirs[name].parent / "filler").unlink(missing_ok=True)
            if self.clock:
                self.clock[name].write_text("0")
        for name in self.names:
            if not self.running(name):
                self.start(name)

    def remove_node(self, name):
        """Through any other server; the new one of that name gets a number of its own."""
        client = self.client(timeout=15)

        def removed():
            return any(client.request(one, "PUT", f"/cluster/nodes/{name}", {"state": "removed"}) for one in self.names if one != name)

        until(f"{name} to be removed", removed, 60, self.logs)
        client.close()

    def use_clock(self):
        """From the next start on a server's wall clock is off by what the file of its name says, in seconds."""
        library = self.dir / "clock.so"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-o", library, pathlib.Path(__file__).with_name("clock.c"),
                        "-ldl"], check=True)
        self.clock = {"library": library, **{name: self.dir / f"{name}.clock" for name in self.names}}
        for name in self.names:
            self.clock[name].write_text("0")

    # ---- the end

    def keep(self, folder):
        """What one needs to understand a failure, without the directories of data."""
        for name in self.names:
            if self.log_file(name).exists():
                shutil.copy(self.log_file(name), folder / f"{name}.log")

    def close(self):
        for name in self.names:
            if self.running(name):
                self.kill(name)
        for folder in self.mounted:
            subprocess.run(["umount", folder], check=False)
        if self.wires:
            self.wires.close()
        if not os.environ.get("MG_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
