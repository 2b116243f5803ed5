"""What goes wrong. A fault strikes once in `strike`, and all of it is over after `heal` of the cluster and `after`.

Each knows what it needs; `substitute` names the fault that stands in where that is not to be had.
"""
import random
import shutil
import subprocess
import threading
import time


class Fault:
    name = ""
    needs_network = False  # hosts of their own (wires.c)
    substitute = None
    small_disks = False
    starts_servers = False  # of two faults at the same time only one may
    pause = (1.0, 2.5)  # seconds between two strikes

    def __init__(self, cluster, seed):
        """seed: anything that has a text."""
        self.cluster, self.random = cluster, random.Random(f"{self.name} {seed}")

    def prepare(self):
        """Before the workload begins."""

    def strike(self, sleep):
        """sleep(seconds) returns early, and true, when the run ends."""
        raise NotImplementedError

    def after(self):
        """When the cluster is healed: what an operator would have to do."""

    def victim(self):
        """The coordinator every second time: it matters most."""
        leader = self.cluster.coordinator() if self.random.random() < 0.5 else None
        return leader or self.random.choice(self.cluster.names)

    def others(self, name):
        return [one for one in self.cluster.names if one != name]


class Calm(Fault):
    """Nothing goes wrong: what is an anomaly here is no fault's."""
    name = "calm"

    def strike(self, sleep):
        sleep(1.0)


class Kill9(Fault):
    """Any server is killed, and started again."""
    name = "kill9"
    starts_servers = True

    def victim(self):
        return self.random.choice(self.cluster.names)

    def strike(self, sleep):
        name = self.victim()
        self.cluster.kill(name)
        sleep(self.random.choice([0.0, 0.5, 3.0]))
        self.cluster.start(name)
        # The next one when this one is back: else a slow machine would never have two of three.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self.cluster.healthy(name) and not sleep(0.2):
            pass
        sleep(self.random.choice([0.0, 2.0]))


class KillLeader(Kill9):
    """The coordinator is killed, whoever it is, also while transactions are between PREPARE and COMMIT."""
    name = "kill-leader"

    def victim(self):
        return self.cluster.coordinator() or self.random.choice(self.cluster.names)


class Stop(Fault):
    """SIGSTOP, and SIGCONT later: a server that believes that no time has passed."""
    name = "stop"

    def strike(self, sleep):
        name = self.victim()
        self.cluster.freeze(name)
        sleep(self.random.choice([0.3, 2.0, 6.0]))
        self.cluster.thaw(name)


class Network(Fault):
    needs_network = True
    substitute = "stop"

    def cut(self, one, other, both=True):
        hosts = self.cluster.host
        self.cluster.wires.link(hosts[one], hosts[other], loss=100)
        if both:
            self.cluster.wires.link(hosts[other], hosts[one], loss=100)

    def hold(self, sleep):
        sleep(self.random.choice([1.0, 3.0, 6.0]))
        self.cluster.wires.heal()


class CutWhole(Network):
    """A server is cut off from the others; clients still reach it."""
    name = "cut-whole"

    def strike(self, sleep):
        name = self.victim()
        for other in self.others(name):
            self.cut(name, other)
        self.hold(sleep)


class CutOneway(Network):
    """A server hears the others and is not heard, or the other way round."""
    name = "cut-oneway"

    def strike(self, sleep):
        name = self.victim()
        out = self.random.random() < 0.5
        for other in self.others(name):
            self.cut(*((name, other) if out else (other, name)), both=False)
        self.hold(sleep)


class Bridge(Network):
    """Two servers do not reach each other, the third reaches both."""
    name = "bridge"

    def strike(self, sleep):
        name = self.victim()
        self.cut(name, self.random.choice(self.others(name)))
        self.hold(sleep)


class DelayLoss(Network):
    """All that goes between servers is late, out of order, twice, or lost."""
    name = "delay+loss"

    def strike(self, sleep):
        hosts = self.cluster.host
        for one in self.cluster.names:
            for other in self.others(one):
                self.cluster.wires.link(hosts[one], hosts[other], loss=self.random.choice([0, 2, 10]),
                                        delay=self.random.choice([5, 30, 100]), jitter=self.random.choice([0, 20, 100]), repeat=2)
        self.hold(sleep)


class FullDisk(Fault):
    """A server's file system, a small one, is full, and has room again later; meanwhile it may be stopped, or killed and started."""
    name = "full-disk"
    starts_servers = True
    small_disks = True
    substitute = "kill9"

    def strike(self, sleep):
        name = self.victim()
        filler = self.cluster.dirs[name].parent / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], check=False, capture_output=True)
        sleep(self.random.choice([1.0, 4.0]))
        also = self.random.choice(["", "", "stop", "kill"])
        if also == "stop":
            self.cluster.stop(name)
        elif also == "kill":
            self.cluster.kill(name)
            self.cluster.start(name)
        sleep(self.random.choice([0.0, 3.0]))
        filler.unlink(missing_ok=True)
        sleep(0.5)
        if not self.cluster.running(name):
            self.cluster.start(name)


class ClockJump(Fault):
    """A server's wall clock jumps, up to an hour either way."""
    name = "clock-jump"

    def prepare(self):
        if self.cluster.clock:
            return
        self.cluster.use_clock()
        for name in self.cluster.names:
            self.cluster.kill(name)
        for name in self.cluster.names:
            self.cluster.start(name)
        self.cluster.await_ready(self.cluster.names)

    def strike(self, sleep):
        name = self.victim()
        self.cluster.clock[name].write_text(str(self.random.choice([-3600, -120, -10, 10, 120, 3600])))
        sleep(self.random.choice([0.5, 2.0, 4.0]))
        if self.random.random() < 0.5:
            self.cluster.clock[name].write_text("0")


class Replaced(Fault):
    """Of a server whose directory cannot be used: removed by another one, it enters again with an empty directory."""
    starts_servers = True
    pause = (2.0, 4.0)

    def replace(self, name):
        if self.cluster.running(name):
            self.cluster.kill(name)
        self.cluster.remove_node(name)
        for entry in self.cluster.dirs[name].iterdir() if self.cluster.dirs[name].exists() else ():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.cluster.start(name)
        self.cluster.await_ready([name])
        self.cluster.lend_ca(name)


class NodeWiped(Replaced):
    """A server is killed and its directory is lost."""
    name = "node-wiped"

    def strike(self, sleep):
        self.replace(self.victim())


class CorruptedFile(Replaced):
    """Bits of a killed server's files are flipped. It makes them anew from the others, or does not start and says why; never wrong rows."""
    name = "corrupted-file"

    def __init__(self, cluster, seed):
        super().__init__(cluster, seed)
        self.said = []  # what the servers said

    def flip(self, path):
        """Bits of bytes that are there: not of zeroes filled ahead, where a log has no end yet."""
        content = bytearray(path.read_bytes())
        end = len(content.rstrip(b"\0"))
        if not end:
            return False
        places = [self.random.randrange(end) for _ in range(self.random.choice([1, 3, 20]))]
        for place in places:
            content[place] ^= 1 << self.random.randrange(8)
        with open(path, "r+b") as file:
            for place in places:
                file.seek(place)
                file.write(content[place:place + 1])
        return True

    def strike(self, sleep):
        name = self.victim()
        self.cluster.kill(name)
        shards = sorted((self.cluster.dirs[name] / "shards").glob("*.duckdb*"))
        segments = sorted(path for path in (self.cluster.dirs[name] / "log" / "raft").iterdir() if path.is_file())
        tree = sorted(path for path in (self.cluster.dirs[name] / "kv" / "db").glob("*")
                      if path.suffix == ".sst" or path.name.startswith("MANIFEST"))
        path = self.random.choice(self.random.choice([files for files in (shards, segments, tree) if files]))
        if not self.flip(path):
            self.cluster.start(name)
            return
        before = len(self.cluster.log(name, 1 << 30))
        self.cluster.start(name)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.cluster.running(name) and not self.cluster.healthy(name):
            time.sleep(0.2)
        said = self.cluster.log(name, 1 << 30)[before:].strip().splitlines()
        if self.cluster.running(name):
            # It mends itself, or the damage is where nobody looks yet; that it gets whole is asked for in the end.
            told = [line for line in said if any(event in line for event in (
                "event=replica.damaged", "event=replica.rebuilt", "event=replica.waits", "event=server.log.lost", "event=reenter"))]
            self.said.append(f"{path.name} of {name}: goes on{'; ' + told[-1] if told else ''}")
            sleep(1.0)
            return
        self.said.append(f"{path.name} of {name}: ended; {said[-1] if said else 'nothing said'}")
        if self.cluster.processes[name].returncode < 0:
            raise AssertionError(f"a corrupted {path.name} made {name} crash ({self.cluster.processes[name].returncode}):\n"
                                 + "\n".join(said[-20:]))
        self.replace(name)


class Both(Fault):
    """Two faults at the same time, each at its own pace."""

    def __init__(self, parts):
        super().__init__(parts[0].cluster, "both")
        self.parts = parts

    def prepare(self):
        for part in self.parts:
            part.prepare()

    def strike(self, sleep):
        problems = []

        def one(part):
            try:
                while not sleep(part.random.uniform(*part.pause)):
                    part.strike(sleep)
            except Exception as error:  # told by the thread that waits
                problems.append(error)

        threads = [threading.Thread(target=one, args=(part,)) for part in self.parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]


ALL = {fault.name: fault for fault in (Calm, Kill9, KillLeader, Stop, CutWhole, CutOneway, Bridge, DelayLoss, FullDisk,
                                       ClockJump, CorruptedFile, NodeWiped)}


def parse(text):
    """The names of one fault, or of two with a slash between: [names], or ValueError."""
    names = text.split("/")
    for name in names:
        if name not in ALL:
            raise ValueError(f"\"{name}\" is none of {', '.join(ALL)}")
    if len(names) > 2 or len(set(names)) != len(names) or sum(ALL[name].starts_servers for name in names) > 1:
        raise ValueError(f"\"{text}\": at most two different faults, one of which starts servers")
    return names
