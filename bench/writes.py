"""Jobs of small writes and of nodes that come and go: three servers on this machine, beside etcd.

Each returns its figures and, under "limits", rows of (what, figure, limit, ok); run.py prints them.
Rounds of ours and of the peer alternate and medians are compared.
"""
import os
import statistics
import subprocess
import sys
import time

from nodes import Etcd, Servers, cpu_s, load, rss_mb, until

TABLE = "CREATE TABLE bench_kv (k BIGINT, v VARCHAR) PARTITIONED BY (k)"


def calibration(work):
    """What this machine can do now: 4 KiB fdatasync a second into a zero-written file, memcpy GB/s."""
    path, block, count = os.path.join(work, "calibration"), bytes(4096), 0
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, bytes(4 << 20))
    os.fsync(fd)
    start = time.monotonic()
    while time.monotonic() - start < 0.5:
        os.pwrite(fd, block, (count % 1024) * 4096)
        os.fdatasync(fd)
        count += 1
    syncs = count / (time.monotonic() - start)
    os.close(fd)
    os.remove(path)
    big = bytearray(64 << 20)
    start = time.monotonic()
    for _ in range(8):
        bytes(big)
    copied = 8 * len(big) / (time.monotonic() - start) / 1e9
    return {"fdatasync_s": round(syncs), "memcpy_gb_s": round(copied, 1)}


def middle(rounds):
    """The medians of several runs."""
    return {key: round(statistics.median(r[key] for r in rounds), 3) for key in rounds[0]}


def with_cpu(group, run):
    """The figures of a run, and what the processes spent on each operation."""
    before = group.cpu_s()
    figures = run()
    # The CPU is of the whole run, the operations of four fifths of it.
    figures["server_us_op"] = round((group.cpu_s() - before) * 1e6 * 0.8 / max(figures["ops"], 1), 1)
    return figures


def job_insert(args, work):
    limits, result = [], {"calibration": calibration(work), "clients": {}}
    with Servers(work) as servers, Etcd(work) as etcd:
        servers.execute(TABLE)
        for clients in args.clients:
            ours, theirs = [], []
            for _ in range(args.repeat):
                ours.append(with_cpu(servers, lambda: servers.load("insert", "bench_kv", 1, clients, args.seconds)))
                theirs.append(with_cpu(etcd, lambda: etcd.load_keys("insert", clients, args.seconds)))
            mine, peer = middle(ours), middle(theirs)
            ratio = round(mine["ops_s"] / peer["ops_s"], 2)
            result["clients"][clients] = {"ours": mine, "etcd": peer, "ratio": ratio}
            least = 1.5 if clients == 1 else 1
            limits.append((f"INSERT/s of etcd's puts, {clients} clients", ratio, f">= {least}", ratio >= least))
            late = round(mine["p99_ms"] / peer["p99_ms"], 2)
            limits.append((f"p99 of etcd's, {clients} clients", late, "<= 1", late <= 1))
        stored = servers.query("SELECT count(*) FROM bench_kv", servers.coordinator())[0][0]
        result["rows"] = stored
    plain = load("duckdb", os.path.join(work, "plain.duckdb"), 1, 1, args.seconds)
    result["duckdb_autocommit"] = plain
    result["limits"] = limits
    return result


def job_batches(args, work):
    """INSERT of 100 rows, parameterised, by 16 clients: each statement's rows go to all shards."""
    with Servers(work) as servers:
        servers.execute(TABLE)
        rounds = [with_cpu(servers, lambda: servers.load("insert", "bench_kv", 100, 16, args.seconds)) for _ in range(args.repeat)]
        mine = middle(rounds)
        rows_s = round(mine["ops_s"] * 100)
        stored = servers.query("SELECT count(*) FROM bench_kv", servers.coordinator())[0][0]
    plain = middle([load("duckdb", os.path.join(work, f"plain-{i}.duckdb"), 100, 1, args.seconds) for i in range(args.repeat)])
    return {"calibration": calibration(work), "ours": mine, "rows_s": rows_s, "stored": stored, "duckdb_autocommit": plain,
            "of_duckdb": round(mine["ops_s"] / plain["ops_s"], 2),
            "limits": [("rows/s, 100 a statement, 16 clients", rows_s, ">= 150000", rows_s >= 150000)]}


def job_updates(args, work):
    """UPDATE of a random row by its key, of 100,000, at the coordinator."""
    result = {"calibration": calibration(work), "clients": {}}
    with Servers(work) as servers, Etcd(work) as etcd:
        servers.execute(TABLE)
        servers.execute("INSERT INTO bench_kv SELECT i, repeat('x', 100) FROM range(100000) r(i)")
        for clients in (n for n in args.clients if n <= 64):
            ours, theirs = [], []
            for _ in range(args.repeat):
                ours.append(with_cpu(servers, lambda: servers.load("update", "bench_kv", 100000, clients, args.seconds)))
                theirs.append(with_cpu(etcd, lambda: etcd.load_keys("insert", clients, args.seconds)))
            mine, peer = middle(ours), middle(theirs)
            result["clients"][clients] = {"ours": mine, "etcd": peer, "ratio": round(mine["ops_s"] / peer["ops_s"], 2)}
    return result


def job_failover(args, work):
    """kill -9 of the coordinator under writes: time until a survivor has acknowledged the next one."""
    times = []
    with Servers(work) as servers:
        servers.execute(TABLE)
        for turn in range(max(args.repeat, 5)):
            name = servers.coordinator()
            survivor = next(other for other in servers.names if other != name)
            servers.execute(f"INSERT INTO bench_kv VALUES ({-2 * turn}, 'before')", survivor)
            start = time.monotonic()
            servers.kill(name)
            write = b'{"sql": "INSERT INTO bench_kv VALUES (?, ?)", "params": [%d, "after"]}' % (-2 * turn - 1)
            until("the next write", lambda: servers.get(survivor, "/db/execute", 60, write)[0] == 200)
            times.append(time.monotonic() - start)
            servers.start_one(name)
            until(f"{name} to be ready", lambda: servers.healthy(name))
        stored = servers.query("SELECT count(DISTINCT k) FROM bench_kv", servers.coordinator())[0][0]
    median = round(statistics.median(times), 3)
    return {"seconds": [round(t, 3) for t in times], "lost": 2 * len(times) - stored,
            "limits": [("seconds to the next write, median", median, "<= 1.5", median <= 1.5),
                       ("acknowledged writes lost", 2 * len(times) - stored, "0", 2 * len(times) == stored)]}


def job_quiet(args, work):
    """CPU of three servers of 64 groups with nothing to do."""
    with Servers(work, shards=58) as servers:  # with the reference group, the catalog and four of keys
        time.sleep(10)
        before, start = {name: servers.processes[name].pid for name in servers.names}, time.monotonic()
        used = {name: cpu_s(pid) for name, pid in before.items()}
        time.sleep(args.quiet_seconds)
        spent = {name: round((cpu_s(pid) - used[name]) / (time.monotonic() - start) * 100, 2) for name, pid in before.items()}
        memory = {name: round(rss_mb(pid)) for name, pid in before.items()}
    worst = max(spent.values())
    return {"groups": 64, "percent_of_a_core": spent, "rss_mb": memory,
            "limits": [("% of a core, the busiest server", worst, "<= 2", worst <= 2)]}


def job_restart(args, work):
    """A server of three with 1 GB in its shards' files: from its start until it serves, after SIGTERM and after kill -9."""
    times = {"stopped": [], "killed": []}
    with Servers(work) as servers:
        servers.execute("CREATE TABLE bench_big PARTITIONED BY (k) AS SELECT i AS k, md5(i::VARCHAR) || md5((-i)::VARCHAR) || "
                        f"md5((i * 7)::VARCHAR) AS v FROM range({args.restart_rows}) r(i)")
        name = next(one for one in servers.names if one != servers.coordinator())
        for turn in range(args.repeat):
            for how in ("stopped", "killed"):
                # What came since the last checkpoint is in the log alone.
                servers.execute(f"INSERT INTO bench_big SELECT -i, 'x' FROM range({10000 * turn + 1}, {10000 * turn + 10001}) r(i)")
                times[how].append(servers.restart_s(name, how))
        shards = os.path.join(servers.dirs[name], "shards")
        size = sum(os.path.getsize(os.path.join(shards, f)) for f in os.listdir(shards)) / 1e9
    medians = {how: round(statistics.median(t), 2) for how, t in times.items()}
    return {"gb": round(size, 2), "seconds": {how: [round(s, 2) for s in t] for how, t in times.items()},
            "limits": [(f"seconds to serving, {how}", median, "<= 2", median <= 2) for how, median in medians.items()]}


def job_keys(args, work):
    """SELECT by key, linearizable, by 16 clients at the coordinator and at a follower."""
    result = {"calibration": calibration(work)}
    with Servers(work) as servers:
        servers.execute(TABLE)
        servers.execute("INSERT INTO bench_kv SELECT i, repeat('x', 100) FROM range(100000) r(i)")
        leader = servers.coordinator()
        follower = next(one for one in servers.names if one != leader)
        for clients in (1, 16):
            for who, name in (("coordinator", leader), ("follower", follower)):
                result[f"{who}_{clients}"] = middle([servers.load("select", "bench_kv", 100000, clients, args.seconds, name)
                                                     for _ in range(args.repeat)])
    return result


PLAIN_COPY = """
import duckdb, resource, sys
con = duckdb.connect(sys.argv[1])
con.execute("SET enable_progress_bar = false")
con.execute(open(sys.argv[2]).read())
con.execute(f"COPY lineitem FROM '{sys.argv[3]}' (HEADER)")
con.close()  # with a checkpoint
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""


def make_lineitem(work, scale):
    """lineitem as CSV, of our own generator, and the statement that makes its table."""
    csv, schema = os.path.join(work, "lineitem.csv"), os.path.join(work, "lineitem.sql")
    with Servers(work, count=1, scale=scale) as one:
        name = one.names[0]
        columns = one.query("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'lineitem' "
                            "ORDER BY ordinal_position", name)
        one.shell(f"\\copy lineitem TO '{csv}' (HEADER)", name)
    with open(schema, "w") as f:
        f.write("CREATE TABLE lineitem (" + ", ".join(f"{column} {kind}" for column, kind in columns) + ")")
    return csv, schema


def job_copy(args, work):
    """COPY of lineitem from CSV over one client into three replicas, and DuckDB's own COPY into a file."""
    csv, schema = make_lineitem(work, args.scale)
    with open(schema) as f:
        create = f.read()
    ours, theirs = [], []
    for turn in range(args.repeat):
        with Servers(work) as servers:
            servers.execute(create + " PARTITIONED BY (l_orderkey)")
            before, start = servers.cpu_s(), time.monotonic()
            servers.shell(f"\\copy lineitem FROM '{csv}' (HEADER)", servers.coordinator())
            taken = time.monotonic() - start
            # A follower applies later what it has acknowledged; that counts, too.
            counts = [until("all rows", lambda: servers.query("SELECT count(*) FROM lineitem", name)[0][0]) for name in servers.names]
            applied = time.monotonic() - start
            ours.append({"cpu_s": (servers.cpu_s() - before) / 3, "seconds": taken, "applied_seconds": applied, "rows": min(counts)})
        plain, start = os.path.join(work, f"copy-{turn}.duckdb"), time.monotonic()
        used = subprocess.check_output([sys.executable, "-c", PLAIN_COPY, plain, schema, csv], text=True)
        theirs.append({"cpu_s": float(used), "seconds": time.monotonic() - start})
        os.remove(plain)
    mine, peer = middle(ours), middle(theirs)
    ratio = round(mine["cpu_s"] / peer["cpu_s"], 2)
    return {"csv_gb": round(os.path.getsize(csv) / 1e9, 2), "ours": mine, "duckdb": peer,
            "limits": [("CPU of a replica, of plain DuckDB's COPY", ratio, "<= 2", ratio <= 2)]}


JOBS = {"insert": job_insert, "batches": job_batches, "updates": job_updates, "copy": job_copy, "failover": job_failover,
        "quiet": job_quiet, "restart": job_restart, "keys": job_keys}
