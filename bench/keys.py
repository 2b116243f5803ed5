"""Jobs of keys and values: our servers beside Redis and etcd on this machine, all over TLS, by the same load generator."""
import os

from nodes import Etcd, Redis, Servers, peak_mb, rss_mb
from writes import calibration, middle, with_cpu


def in_dir(work, name):
    path = os.path.join(work, name)
    os.makedirs(path, exist_ok=True)
    return path


def alternate(args, sides):
    """Runs of all sides in turn, `repeat` times: the medians of each."""
    rounds = {name: [] for name in sides}
    for _ in range(args.repeat):
        for name, (group, run) in sides.items():
            rounds[name].append(with_cpu(group, run))
    return {name: middle(figures) for name, figures in rounds.items()}


def job_kv(args, work):
    """SET and GET of our keys at the coordinator of three servers; etcd's Put and Range at its leader."""
    put_least, keys, limits = {1: 2.5, 16: 2, 64: 2, 256: 1.5}, args.keys or 10000, []
    result = {"calibration": calibration(work), "keys": keys, "insert": {}, "get": {}}
    with Servers(work, kv_shards=4) as servers, Etcd(work) as etcd:
        for group in (servers, etcd):
            group.load_keys("fill", 64, 1, keys)
        for mix in ("insert", "get"):
            for clients in args.clients:
                sides = {"ours": (servers, lambda: servers.load_keys(mix, clients, args.seconds, keys)),
                         "etcd": (etcd, lambda: etcd.load_keys(mix, clients, args.seconds, keys))}
                sides = alternate(args, sides)
                mine, peer = sides["ours"], sides["etcd"]
                ratio, late = round(mine["ops_s"] / peer["ops_s"], 2), round(mine["p99_ms"] / peer["p99_ms"], 2)
                result[mix][clients] = {**sides, "ratio": ratio, "p99": late}
                if mix == "insert":
                    least = put_least.get(clients, 1)
                    limits.append((f"SET/s of etcd's puts, {clients} clients", ratio, f">= {least}", ratio >= least))
                    limits.append((f"p99 of etcd's, {clients} clients", late, "<= 0.5", late <= 0.5))
                else:
                    limits.append((f"GET/s of etcd's, {clients} clients", ratio, ">= 5", ratio >= 5))
    result["limits"] = limits
    return result


def job_resp(args, work):
    """GET and SET with and without pipelining: one server of ours and three, beside Redis with each of its ways to be durable."""
    keys, limits = args.keys or 100000, []
    result = {"calibration": calibration(work), "keys": keys}
    with (Servers(in_dir(work, "one"), 1, kv_shards=4) as one, Servers(in_dir(work, "three"), kv_shards=4) as three,
          Redis(work, "everysec") as everysec, Redis(work, "always") as always):
        groups = {"one": one, "three": three, "everysec": everysec, "always": always}
        for group in groups.values():
            group.load_keys("fill", 4, 1, keys, 256)
            group.load_keys("get", 4, args.seconds, keys, 256)  # what is read often is in memory, as all of Redis is
        for mix in ("get", "set"):
            for pipeline in (1, 16):
                for clients in args.resp_clients:
                    sides = alternate(args, {
                        name: (group, lambda one=group: one.load_keys(mix, clients, args.seconds, keys, pipeline))
                        for name, group in groups.items() if mix == "set" or name != "always"})
                    ratio = {f"{ours}/{peer}": round(sides[ours]["ops_s"] / sides[peer]["ops_s"], 2)
                             for ours in ("one", "three") for peer in ("everysec", "always") if peer in sides}
                    shown = {figure: {name: side[figure] for name, side in sides.items()} for figure in ("ops_s", "p99_ms", "server_us_op")}
                    result[f"{mix} x{pipeline}, {clients} clients"] = {**ratio, **shown}
                    least = {1: 0.8, 16: 0.4}[pipeline]
                    for ours in ("one", "three") if mix == "get" else ():
                        of = ratio[f"{ours}/everysec"]
                        limits.append((f"GET/s of Redis', {ours} of ours, x{pipeline}, {clients} clients", of, f">= {least}", of >= least))
    result["limits"] = limits
    return result


def job_ycsb(args, work):
    """YCSB's A, B, C and E, with values of 100 bytes, by 16 clients: three servers of ours, three of etcd, one Redis without E."""
    keys = args.keys or 100000
    result = {"calibration": calibration(work), "keys": keys}
    with Servers(work, kv_shards=4) as servers, Etcd(work) as etcd, Redis(work, "everysec") as redis:
        for group, clients, pipeline in ((servers, 4, 256), (redis, 4, 256), (etcd, 64, 1)):
            group.load_keys("fill", clients, 1, keys, pipeline)
        for mix in "ABCE":
            groups = {"ours": servers, "etcd": etcd, **({} if mix == "E" else {"redis": redis})}  # which has no order of keys
            sides = alternate(args, {name: (group, lambda one=group: one.load_keys(mix, 16, args.seconds, keys))
                                     for name, group in groups.items()})
            ratio = {f"of_{peer}": round(sides["ours"]["ops_s"] / sides[peer]["ops_s"], 2) for peer in groups if peer != "ours"}
            result[mix] = {**sides, **ratio}
    return result


def job_tenmillion(args, work):
    """So many keys into three servers, and a start with them: time, and memory, whose peak is the kernel's own."""
    keys, name = args.keys or 10_000_000, "server-3"
    with Servers(work, kv_shards=4) as servers:
        before = {one: round(rss_mb(process.pid)) for one, process in servers.processes.items()}
        filled = servers.load_keys("fill", 4, 1, keys, 256)
        peak = {one: round(peak_mb(process.pid)) for one, process in servers.processes.items()}
        after = {one: round(rss_mb(process.pid)) for one, process in servers.processes.items()}
        times = {how: round(servers.restart_s(name, how), 2) for how in ("stopped", "killed")}
        stored = int(servers.query("SELECT sum(keys) FROM cluster.kv_namespaces", name)[0][0])
        again = round(peak_mb(servers.processes[name].pid))
    most = max(peak.values())
    return {"keys": keys, "stored": stored, "load": filled, "rss_mb": before, "peak_mb": peak, "rss_after_mb": after, "start_s": times,
            "peak_after_start_mb": again, "limits": [("MB, the largest server's peak", most, "<= 1024", most <= 1024),
                                                      ("keys that were lost", keys - stored, "0", stored == keys)]}


JOBS = {"kv": job_kv, "resp": job_resp, "ycsb": job_ycsb, "tenmillion": job_tenmillion}
