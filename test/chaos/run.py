"""Faults against workloads on three real servers: what `make chaos` is.

    run.py [--fault NAME[/NAME],...] [--workload NAME,...] [--seconds 20] [--seed N]

One line a run: fault, workload, operations that went well, failed, are unknown, and the verdict; then the sum. The exit code
is 0 only when there was no anomaly. A run with one leaves its history, the servers' logs and the commands to check it again
and to run it again in build/chaos/. A/B: both faults at the same time.

It starts itself again in namespaces of its own (network, mounts, processes), as root or as a user who may make some; where
that is refused a fault is replaced by a named substitute, and the line says so.
"""
import argparse
import datetime
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time
import traceback

import duckdb

import faults
import workloads
from cluster import BUILD, SHARDS, Cluster, until

INSIDE = "MG_CHAOS_INSIDE"
SETTLE_S = 90  # a bound for waiting on a busy machine, not a promise


class Stopped(threading.Event):
    def sleep(self, seconds):
        return self.wait(seconds)


class Failure(Exception):
    """An anomaly that is not one of a history."""


class Run:
    """One fault against one workload."""

    def __init__(self, cluster, fault, workload, seconds):
        self.cluster, self.fault, self.workload, self.seconds = cluster, fault, workload, seconds
        self.strikes, self.final, self.settled_s = 0, {}, 0

    def surely(self, what, ask=None):
        """A statement, or what ask(client, node) does, until it is done, anywhere."""
        client = self.cluster.client(timeout=30)
        heard = []

        def done():
            for name in self.cluster.names:
                outcome = ask(client, name) if ask else client.execute(name, what)
                if outcome or "already exists" in outcome.error:
                    return True
                heard.append(f"{name}: {outcome.error}")
            time.sleep(0.2)
            return False

        try:
            until(f"\"{what[:60]}\" to be done", done, SETTLE_S)
        except TimeoutError as error:
            raise Failure(f"{error}; {heard[-3:]}") from error
        client.close()

    def work(self, number, stopped):
        rng = self.workload.random_of(number)
        client = self.cluster.client()
        slow_until = dict.fromkeys(self.cluster.names, 0)  # where one waits in vain few go, but some do
        while not stopped.is_set():
            began = time.monotonic()
            name = rng.choice([one for one in self.cluster.names if slow_until[one] < began or rng.random() < 0.2] or self.cluster.names)
            self.workload.step(number, client, name, rng)
            if time.monotonic() - began > 1.5:
                slow_until[name] = time.monotonic() + 3
            time.sleep(0.002 + 0.02 * rng.random())
        client.close()

    def rage(self):
        """Strikes until the time is over."""
        stopped, problems = Stopped(), []

        def work(number):
            try:
                self.work(number, stopped)
            except Exception:
                problems.append(traceback.format_exc())

        clients = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(self.workload.clients)]
        end = time.monotonic() + self.seconds
        timer = threading.Timer(self.seconds, stopped.set)
        timer.start()
        for each in clients:
            each.start()
        try:
            while time.monotonic() < end:
                stopped.sleep(self.fault.random.uniform(*self.fault.pause))
                if time.monotonic() < end:
                    self.fault.strike(stopped.sleep)
                    self.strikes += 1
        finally:
            stopped.set()
            timer.cancel()
            self.cluster.heal()
            for each in clients:
                each.join(60)
        if problems:
            raise Failure(f"a client of this test failed:\n{problems[0]}")

    def settle(self):
        """Everybody is ready again, and nobody holds a lock."""
        began = time.monotonic()
        self.fault.after()
        self.cluster.await_ready(self.cluster.names)
        for touch in self.workload.touch():
            self.surely(*touch)
        self.settled_s = time.monotonic() - began

    def replica(self, client, name, table, columns, consistency):
        outcome = self.workload.read(client, name, table, columns, consistency)
        if not outcome:
            raise OSError(f"{name} cannot read {table}: {outcome.error}")
        return sorted(map(tuple, outcome.value))

    def compare(self):
        """Every server's own rows, until they are those that a linearizable read gives."""
        client = self.cluster.client(timeout=30)
        for table, columns in self.workload.tables():
            seen = {}

            def equal(table=table, columns=columns, seen=seen):
                try:
                    self.final[table] = self.replica(client, self.cluster.names[0], table, columns, None)
                    seen.update({name: self.replica(client, name, table, columns, "any") for name in self.cluster.names})
                except OSError as error:
                    seen["error"] = error
                    return False
                return all(seen[name] == self.final[table] for name in self.cluster.names)

            try:
                until(f"{table} to be equal on all servers", equal, SETTLE_S)
            except TimeoutError as error:
                difference = {name: [len(rows), sorted(set(self.final[table]) ^ set(rows))[:10]] if isinstance(rows, list) else rows
                              for name, rows in seen.items()}
                raise Failure(f"replicas differ: {table}, {len(self.final[table])} rows: {difference}") from error
        client.close()

    def ask_the_cluster(self):
        """What it says of itself: all are there, and all replicas have the same sums."""
        name = self.fault.random.choice(self.cluster.names)
        said = []

        def fine():
            done = self.cluster.command(name, "cluster", "check")
            said.append(done.stdout + done.stderr)
            return done.returncode == 0

        try:
            until("merganser cluster check to say yes", fine, SETTLE_S)
        except TimeoutError as error:
            raise Failure(f"{error}\n{said[-1]}") from error

    def go(self):
        """What is wrong, as texts."""
        try:
            self.workload.create(self.surely)
            self.workload.started = time.monotonic()
            self.rage()
            self.settle()
            self.compare()
            self.ask_the_cluster()
        except Failure as failure:
            return [str(failure)]
        except (TimeoutError, ChildProcessError, AssertionError) as failure:
            return [f"{type(failure).__name__}: {failure}"]
        finally:
            for name in self.cluster.names:
                self.cluster.thaw(name)
        if not self.workload.history.count()[0]:
            return ["nothing went well at all"]
        return self.workload.check(self.final)


def contents_of(path):
    """(what is applied, {table: rows}) of a shard file, by plain DuckDB."""
    with duckdb.connect(str(path)) as file:
        tables = file.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL").fetchall()
        return (file.execute("SELECT applied_index FROM _mg.meta").fetchone()[0],
                {f"{schema}.{table}": file.execute(f'SELECT * FROM "{schema}"."{table}" ORDER BY ALL').fetchall()
                 for schema, table in tables if schema != "_mg"})


def files_open_again(cluster):
    """Stopped as an operator would; every shard file opens, and files that have applied the same hold the same rows.

    A server that stops in a hurry leaves its last entries to its log.
    """
    codes = cluster.stop(*cluster.names)
    wrong = [f"{name} ended with {code}\n{cluster.log(name)}" for name, code in codes.items() if code != 0]
    files, seen = 0, {}
    for name in cluster.names:
        for path in sorted((cluster.dirs[name] / "shards").glob("[0-9]*.duckdb")):
            files += 1
            try:
                applied, rows = contents_of(path)
            except duckdb.Error as error:
                wrong.append(f"{path.name} of {name} does not open: {error}")
                continue
            other, first = seen.setdefault((path.name, applied), (name, rows))
            wrong += [f"{path.name}: {table} of {name} is not that of {other}" for table in sorted(set(rows) | set(first))
                      if rows.get(table) != first.get(table)]
    if files != len(cluster.names) * (SHARDS + 1):
        wrong.append(f"{files} shard files were found")
    return wrong


class Matrix:
    def __init__(self, options):
        self.options = options
        self.networks = os.environ.get(INSIDE) == "1"
        self.bad = self.runs = 0
        self.cluster = None
        self.kind = None

    def cluster_for(self, classes, workload, seed):
        """One that fits, as it was left by the run before, or a new one."""
        kind = sorted(one.name for one in classes if one.small_disks or one.name == "clock-jump"), workload.kv_shards
        if self.cluster and self.kind == kind:
            return self.cluster
        self.close_cluster()
        small_disks = self.networks and any(one.small_disks for one in classes)
        self.cluster, self.kind = Cluster(seed, self.networks, small_disks, kv_shards=workload.kv_shards), kind
        return self.cluster

    def stand_ins(self, wanted):
        """The classes of what is wanted, and a note on those that are others than that."""
        classes, notes = [], []
        for name in faults.parse(wanted):
            chosen = faults.ALL[name]
            if chosen.substitute and not self.networks:
                notes.append(f" ({name} needs namespaces: {chosen.substitute} instead)")
                chosen = faults.ALL[chosen.substitute]
            classes.append(chosen)
        return classes, "".join(notes)

    def close_cluster(self):
        """The files of a cluster are looked at when it has done its work."""
        if not self.cluster:
            return
        cluster, self.cluster = self.cluster, None
        wrong = files_open_again(cluster)
        if wrong:
            self.bad += 1
            folder = self.keep(cluster, "files")
            print("\n".join(["ANOMALY when all were stopped and their files opened:", *wrong, f"  kept in {folder}"]), flush=True)
        cluster.close()

    def keep(self, cluster, what):
        stamp = datetime.datetime.now().strftime("%m%d-%H%M%S")
        folder = BUILD / "chaos" / f"{stamp}-{what}"
        folder.mkdir(parents=True, exist_ok=True)
        cluster.keep(folder)
        return folder

    def run(self, wanted, workload_name, seed):
        classes, note = self.stand_ins(wanted)
        self.runs += 1
        began = time.monotonic()
        workload = workloads.ALL[workload_name](f"{self.runs}", seed)
        wrong, one, parts = [], None, []
        try:
            cluster = self.cluster_for(classes, workload, seed)
            parts = [one(cluster, f"{workload_name} {seed}") for one in classes]
            fault = parts[0] if len(parts) == 1 else faults.Both(parts)
            fault.prepare()
            one = Run(cluster, fault, workload, self.options.seconds)
            wrong = one.go()
        except (OSError, TimeoutError, ChildProcessError, subprocess.SubprocessError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        counts = workload.history.count()
        last = BUILD / "chaos" / "last"
        last.mkdir(parents=True, exist_ok=True)
        workload.history.save(last / f"{file_name(wanted)}-{workload_name}.jsonl")
        verdict = "ok" if not wrong else f"ANOMALY ({len(wrong)})"
        print(f"{wanted:<24} {workload_name:<9} {counts[0]:>6} ok {counts[1]:>5} failed {counts[2]:>4} unknown  "
              f"{one.strikes if one else 0:>2} strikes, settled in {one.settled_s if one else 0:4.1f} s, "
              f"{time.monotonic() - began:5.1f} s in all  {verdict}{note}", flush=True)
        for said in [said for part in parts for said in getattr(part, "said", [])]:
            print(f"    {said[:200]}", flush=True)
        if wrong:
            self.report(wanted, workload, seed, wrong, one)

    def report(self, wanted, workload, seed, wrong, one):
        self.bad += 1
        if self.cluster:
            folder = self.keep(self.cluster, f"{file_name(wanted)}-{workload.name}")
            history = folder / "history.jsonl"
            workload.history.operations.append({"final": one.final if one else {}, "tag": workload.tag})
            workload.history.save(history)
            (folder / "anomalies.txt").write_text("\n".join(wrong) + "\n")
            again = f"FAULT={wanted} WORKLOAD={workload.name} SECONDS={self.options.seconds} SEED={seed}"
            print("\n".join(f"    {text[:600]}" for text in wrong[:8]))
            print(f"    kept in {folder}\n    check again: {sys.executable} {pathlib.Path(__file__).parent / 'checkers.py'} "
                  f"{workload.name} {history}\n    run again: make chaos {again}", flush=True)
            self.cluster.close()  # what went wrong in it must not go on
            self.cluster = None

    def all(self):
        for fault in self.options.fault:
            for workload in self.options.workload:
                self.run(fault, workload, self.options.seed)
        self.close_cluster()
        print(f"\n{self.runs} runs, {self.bad} with anomalies (seed {self.options.seed})", flush=True)
        return 1 if self.bad or not self.runs else 0


def enter_namespaces(argv):
    """Starts this program again where it may do as it likes; returns when that is refused."""
    tool = shutil.which("unshare")
    if not tool or os.environ.get(INSIDE):
        return
    options = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.getuid() != 0:
        options = ["--user", "--map-root-user", *options]
    wires = BUILD / "test" / "chaos" / "wires"
    probe = subprocess.run([tool, *options, wires, "2", "1"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if "ready" not in probe.stdout:
        print(f"no namespaces here ({probe.stderr.strip() or probe.returncode}): substitutes stand in for faults of the network "
              "and of full disks", flush=True)
        os.environ[INSIDE] = "0"
        return
    os.execve(tool, [tool, *options, sys.executable, *argv], {**os.environ, INSIDE: "1"})


def file_name(fault):
    return fault.replace("/", "-with-")


def fault_names(text):
    chosen = [one for one in faults.ALL if one != "calm"] if text in ("", "all") else text.split(",")
    try:
        for one in chosen:
            faults.parse(one)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return chosen


def workload_names(text):
    chosen = list(workloads.ALL) if text in ("", "all") else text.split(",")
    for one in chosen:
        if one not in workloads.ALL:
            raise argparse.ArgumentTypeError(f"\"{one}\" is none of {', '.join(workloads.ALL)}")
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fault", type=fault_names, default="all")
    parser.add_argument("--workload", type=workload_names, default="all")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    options = parser.parse_args()
    enter_namespaces(sys.argv)
    # Threads of clients and of this program share one interpreter; the servers are what is tested.
    sys.setswitchinterval(0.001)
    sys.exit(Matrix(options).all())


if __name__ == "__main__":
    main()
