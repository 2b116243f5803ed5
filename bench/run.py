"""Benchmarks, each beside its peer in the same run, printed as ratios and written as JSON.

    bench/run.py [--scale 1] [--repeat 5] [--jobs tpch4,tpch11,cut,eleven,latency,stream,idle,workers] [--json FILE]
    bench/run.py --jobs insert,batches,updates,copy,failover,quiet,restart,keys [--clients 1,16,32,64,256] [--seconds 5] [--repeat 3]
    bench/run.py --jobs kv,resp,ycsb,tenmillion [--keys N] [--resp-clients 1,16,64] [--seconds 5] [--repeat 3]

Peer: DuckDB of the same version in one process over plain tables of the same data, with the same threads.
Runs of ours and the peer's alternate, the median of the repeats is compared, and the load of the machine is recorded.
A ratio above 1 means that we are slower. Nothing here is a test: no limit fails. The jobs of bench/writes.py and bench/keys.py have
limits, which they print with ok or NOT; the machine must be quiet for that to mean anything.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import keys
import writes

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("MERGANSER_BUILD", os.path.join(ROOT, "build"))
PROGRAM, LOAD = os.path.join(BUILD, "merganser"), os.path.join(BUILD, "bench", "load")
PASSWORD, WORKER_PASSWORD = "bench-client", "bench-worker"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    """A bootstrapped directory, a server and workers on loopback; stopped by `with`."""

    def __init__(self, work, scale, shards, workers=0, threads=0):
        self.dir = os.path.join(work, f"data-{scale}-{shards}")
        self.work, self.shards, self.children = work, shards, []
        self.workers, self.threads = workers, threads
        if not os.path.exists(os.path.join(self.dir, "log", "catalog.json")):
            subprocess.run([PROGRAM, "bootstrap", "--data-dir", self.dir, "--client-username", "bench",
                            "--client-password", PASSWORD, "--worker-password", WORKER_PASSWORD,
                            "--tpch-scale-factor", str(scale), "--shard-count", str(shards)],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        port = free_port()
        self.url, self.roots = f"https://127.0.0.1:{port}", os.path.join(self.dir, "tls", "ca.crt")
        limit = ["--threads", str(self.threads)] if self.threads else []
        self.start("server", ["server", "--data-dir", self.dir, "--listen", f"127.0.0.1:{port}"] + limit)
        self.wait("SELECT 1")
        for i in range(self.workers):
            self.start(f"worker{i}", ["worker", "--server", f"127.0.0.1:{port}", "--tls-roots", self.roots, "--password",
                                      WORKER_PASSWORD, "--cache-dir", os.path.join(self.work, f"cache{i}")] + limit)
        if self.workers:
            # Ready with one shard is not yet ready for a measurement: every shard must have a copy.
            self.wait("SELECT CASE WHEN count(*) >= %d AND sum(shards) >= %d THEN 1 ELSE error('not yet') END FROM cluster.nodes "
                      "WHERE role = 'worker' AND state = 'ready'" % (self.workers, self.shards))
            # And copies beyond that are made for a while: they would be measured too.
            self.wait("SELECT CASE WHEN count(*) = 0 THEN 1 ELSE error('not yet') END FROM cluster.replicas WHERE state = 'copying'")
        return self

    def start(self, name, arguments):
        log = open(os.path.join(self.work, name + ".log"), "w")
        self.children.append(subprocess.Popen([PROGRAM] + arguments, stdout=log, stderr=log))

    def sql(self, text):
        return subprocess.run([PROGRAM, "sql", self.url, "--username", "bench", "--tls-roots", self.roots, "--format", "json",
                               "-c", text], env={**os.environ, "MERGANSER_PASSWORD": PASSWORD}, capture_output=True, text=True)

    def wait(self, text):
        for _ in range(300):
            if self.sql(text).returncode == 0:
                return
            time.sleep(0.2)
        raise SystemExit("the cluster did not come up; see the logs in " + self.work)

    def load(self, kind, repeat, setup, files):
        out = subprocess.run([LOAD, kind, self.url, "bench", PASSWORD, self.roots, str(repeat), setup] + files,
                             check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in out.splitlines()]

    def pid(self):
        return self.children[0].pid

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait(timeout=30)


def peer_file(work, scale):
    path = os.path.join(work, f"peer-{scale}.duckdb")
    if not os.path.exists(path):
        import duckdb
        con = duckdb.connect(path + ".part")
        with Cluster(work, scale, 4) as c:
            pass
        # The same rows as the cluster's, from its own shard files.
        shards = sorted(os.listdir(os.path.join(c.dir, "shards")))
        for i, name in enumerate(shards):
            con.execute(f"ATTACH '{os.path.join(c.dir, 'shards', name)}' AS s{i} (READ_ONLY)")
        stored = "SELECT DISTINCT table_name FROM duckdb_tables() WHERE schema_name = 'main' AND database_name IN ('s0', 's1')"
        for (table,) in con.execute(stored).fetchall():
            where = [r[0] for r in con.execute(
                "SELECT database_name FROM duckdb_tables() WHERE table_name = ? AND schema_name = 'main' "
                "AND database_name LIKE 's%' ORDER BY try_cast(database_name[2:] AS INTEGER)", [table]).fetchall()]
            union = " UNION ALL ".join(f"SELECT * EXCLUDE (_mg_rid, _mg_slot) FROM {db}.main.{table}" for db in where)
            con.execute(f"CREATE TABLE main.{table} AS {union}")
        con.close()
        os.rename(path + ".part", path)
    return path


def peer(kind, path, threads, repeat, files):
    out = subprocess.run([LOAD, kind, path, str(threads), str(repeat)] + files, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def median(rows):
    return {r["name"]: statistics.median(r["ms"]) for r in rows}


def alternate(repeat, ours, theirs):
    """Both sides in turn, one repeat each, so that a busy moment hits both."""
    sides = {"ours": {}, "theirs": {}}
    for _ in range(repeat):
        for side, run in (("ours", ours), ("theirs", theirs)):
            for row in run():
                kept = sides[side].setdefault(row["name"], row)
                if kept is not row:
                    kept["ms"] += row["ms"]
    return list(sides["ours"].values()), list(sides["theirs"].values())


def queries(folder="tpch"):
    base = os.path.join(ROOT, "queries", folder)
    return [os.path.join(base, f) for f in sorted(os.listdir(base)) if f.endswith(".sql")]


def scratch_sql(work, name, text):
    path = os.path.join(work, name + ".sql")
    with open(path, "w") as f:
        f.write(text)
    return path


def job_tpch(args, work, shards, workers=0, setup=""):
    threads = os.cpu_count()
    path = peer_file(work, args.scale)
    with Cluster(work, args.scale, shards, workers) as c:
        ours, theirs = alternate(args.repeat, lambda: c.load("queries", 1, setup, queries()),
                                 lambda: peer("duckdb", path, threads, 1, queries()))
        # The peer's process is new for each round; its first query pays for opening the file.
    a, b = median(ours), median(theirs)
    return {"ours_ms": round(sum(a.values()), 1), "duckdb_ms": round(sum(b.values()), 1),
            "ratio": round(sum(a.values()) / sum(b.values()), 3), "moved_mb": round(sum(r["moved_bytes"] for r in ours) / 1e6, 2),
            "steps": sorted({r["step"] for r in ours}),
            "queries": {k: {"ours_ms": a[k], "duckdb_ms": b[k], "ratio": round(a[k] / b[k], 2)} for k in sorted(a)}}


def job_latency(args, work):
    with Cluster(work, 0.01, 4) as c:
        rows = c.load("queries", 500, "", [scratch_sql(work, "select1", "SELECT 1")])
    ms = sorted(rows[0]["ms"])
    return {"median_ms": ms[len(ms) // 2], "p99_ms": ms[len(ms) * 99 // 100]}


def job_stream(args, work):
    sql = scratch_sql(work, "lineitem", "SELECT * FROM lineitem")
    path = peer_file(work, args.scale)
    with Cluster(work, args.scale, 4) as c:
        c.load("stream", 1, "", [sql])
        before = cpu_s(c.pid())
        ours, theirs = alternate(args.repeat, lambda: c.load("stream", 1, "", [sql]),
                                 lambda: peer("fetch", path, os.cpu_count(), 1, [sql]))
        cpu = (cpu_s(c.pid()) - before) / args.repeat
    gb = ours[0]["bytes"] / 1e9
    peer_cpu = theirs[0]["cpu_s"]
    mine, fetch = statistics.median(ours[0]["ms"]), statistics.median(theirs[0]["ms"])
    return {"gb": round(gb, 3), "ours_gb_s": round(gb / mine * 1000, 3), "fetch_gb_s": round(gb / fetch * 1000, 3),
            "throughput_share": round(fetch / mine, 3), "server_cpu_s_per_gb": round(cpu / gb, 3),
            "fetch_cpu_s_per_gb": round(peer_cpu / gb, 3), "cpu_ratio": round(cpu / peer_cpu, 3)}


def job_idle(args, work):
    """Memory of the server over 60 s while a client has stopped in the middle of an answer."""
    sql = scratch_sql(work, "lineitem", "SELECT * FROM lineitem")
    with Cluster(work, args.scale, 4) as c:
        c.load("stream", 1, "", [sql])
        reader = subprocess.Popen([LOAD, "stream", c.url, "bench", PASSWORD, c.roots, "1", "", sql], stdout=subprocess.DEVNULL)
        time.sleep(0.4)
        reader.send_signal(signal.SIGSTOP)
        time.sleep(2)
        first, low, high = rss_mb(c.pid()), 1e9, 0
        for _ in range(args.idle_seconds):
            now = rss_mb(c.pid())
            low, high = min(low, now), max(high, now)
            time.sleep(1)
        reader.kill()
        reader.wait()
    return {"rss_mb": round(first, 1), "grew_mb": round(high - low, 2), "seconds": args.idle_seconds}


def job_workers(args, work):
    """Q1 on one one-thread node against two, in turn: a server, with and without its worker."""
    q1 = [f for f in queries() if f.endswith("q01.sql")]
    alone = "SET distributed = false"
    with Cluster(work, args.scale, 4, 1, threads=1) as c:
        for setup in (alone, ""):
            c.load("queries", 1, setup, q1)
        one, two = (median(rows)["q01.sql"] for rows in alternate(args.repeat, lambda: c.load("queries", 1, alone, q1),
                                                                  lambda: c.load("queries", 1, "", q1)))
    return {"one_node_ms": one, "two_nodes_ms": two, "speed_up": round(one / two, 2)}


# Sidewinder 0.0.72 with 11 workers at scale factor 1, as times of plain DuckDB over native tables on the same two cores.
SIDEWINDER = {"count": 60, "q01": 4.3, "q03": 5.3, "q06": 5.9, "q09": 5.3, "q18": 0.9}


def job_eleven(args, work):
    """The predecessor's own layout: 11 shards, a server and 11 workers on this machine."""
    base = os.path.join(ROOT, "queries", "tpch")
    files = [scratch_sql(work, "count", "SELECT count(*) FROM lineitem")]
    files += [os.path.join(base, name + ".sql") for name in SIDEWINDER if name != "count"]
    path = peer_file(work, args.scale)
    with Cluster(work, args.scale, 11, 11) as c:
        c.load("queries", 1, "", files)
        ours, theirs = alternate(args.repeat, lambda: c.load("queries", 1, "", files),
                                 lambda: peer("duckdb", path, os.cpu_count(), 1, files))
    a, b = median(ours), median(theirs)
    ratios = {name: round(a[name + ".sql"] / b[name + ".sql"], 2) for name in SIDEWINDER}
    return {"ratio": ratios, "sidewinder": SIDEWINDER, "ahead": [n for n in ratios if ratios[n] < SIDEWINDER[n]],
            "steps": sorted({r["step"] for r in ours})}


JOBS = {
    "tpch4": lambda a, w: job_tpch(a, w, 4),
    "tpch11": lambda a, w: job_tpch(a, w, 11),
    "cut": lambda a, w: job_tpch(a, w, 4, 3, "SET strategy = 'cut'"),
    "eleven": job_eleven, "latency": job_latency, "stream": job_stream, "idle": job_idle, "workers": job_workers,
    **writes.JOBS, **keys.JOBS,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--idle-seconds", type=int, default=60)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 32, 64, 256])
    parser.add_argument("--resp-clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--keys", type=int, help="of the jobs of keys and values; each has its own default")
    parser.add_argument("--seconds", type=int, default=5, help="of one run of a load")
    parser.add_argument("--quiet-seconds", type=int, default=30)
    parser.add_argument("--restart-rows", type=int, default=18_000_000, help="about 1 GB")
    parser.add_argument("--json")
    parser.add_argument("--work", help="keep data here between runs")
    args = parser.parse_args()
    args.scale = int(args.scale) if args.scale == int(args.scale) else args.scale
    work = args.work or tempfile.mkdtemp(prefix="merganser-bench-")
    os.makedirs(work, exist_ok=True)
    results = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "scale": args.scale, "repeat": args.repeat,
               "version": subprocess.run([PROGRAM, "--version"], capture_output=True, text=True).stdout.strip(), "jobs": {}}
    try:
        for name in args.jobs.split(","):
            started = time.time()
            results["jobs"][name] = result = JOBS[name](args, work)
            detail = {k: v for k, v in result.items() if k not in ("queries", "limits")}
            print(f"{name:10s} {json.dumps(detail)}  ({time.time() - started:.0f} s)", flush=True)
            for query, row in result.get("queries", {}).items():
                print(f"    {query:10s} {row['ours_ms']:9.1f} ms  duckdb {row['duckdb_ms']:9.1f} ms  ratio {row['ratio']:.2f}")
            for what, figure, limit, ok in result.get("limits", []):
                print(f"    {what:50s} {figure:>10} {limit:>10}  {'ok' if ok else 'NOT'}", flush=True)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
