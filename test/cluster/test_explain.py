"""EXPLAIN and EXPLAIN ANALYZE: what they count is what is there, whatever the way and the number of workers."""
import json

WAYS = ["?strategy=cut", "?strategy=gather", "?strategy=broadcast", "?strategy=repartition", "?strategy=local", "",
        "?distributed=false", "?summarize=false", "?distributed=force"]


def ask(cluster, sql, path=""):
    answer = cluster.request("POST", "/db/query" + path, json.dumps({"sql": sql}).encode(), {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    return answer.json()["result"]["values"]


def analyze(cluster, sql, path=""):
    (text,), = ask(cluster, "EXPLAIN (ANALYZE, FORMAT JSON) " + sql, path)
    return json.loads(text)


def parts(plan):
    """Every node of every stage, and of a statement without stages every run."""
    return [node for stage in plan["stages"] for node in stage["nodes"]] + plan["runs"]


def reads(plan, table):
    """Rows by shard, summed over nodes and stages."""
    sums = {}
    for part in parts(plan):
        for read in part["reads"]:
            if read["table"] == table:
                sums[read["shard"]] = sums.get(read["shard"], 0) + read["rows"]
    return sums


def by_shard(cluster, table, where="true"):
    """The truth: each shard counts by itself."""
    return {shard: count for shard, count in ask(cluster, f"SELECT count(*) FROM {table} WHERE {where}", "?summarize=false")}


def test_rows_per_shard_are_the_shards_rows(new_cluster):
    """With no worker, one and three; over so many shards that some have no supplier."""
    spread = new_cluster(scale=0.001, shards=8)
    spread.start_server()
    for workers in (0, 1, 3):
        for number in range(len(spread.processes) - 1, workers):
            spread.start_worker(f"w{number}")
        spread.wait_workers(workers)
        check_all_ways(spread)


def check_all_ways(spread):
    suppliers, lines = by_shard(spread, "supplier"), by_shard(spread, "lineitem")
    some = by_shard(spread, "lineitem", "l_quantity > 25")
    assert sum(suppliers.values()) == 10 and 0 in suppliers.values() and len(suppliers) == 8
    for way in WAYS:
        plan = analyze(spread, "SELECT sum(length(s_name)), max(s_acctbal) FROM supplier", way)
        assert reads(plan, "main.supplier") == suppliers, (way, plan)
        assert {row["shard"]: row["rows"] for row in plan["rows_per_shard"]} == suppliers
        plan = analyze(spread, "SELECT l_returnflag, sum(l_tax) FROM lineitem WHERE l_quantity > 25 GROUP BY ALL", way)
        assert reads(plan, "main.lineitem") == some, (way, plan)
        assert sum(row["scanned"] for row in plan["rows_per_shard"]) == sum(lines.values())
        if plan["step"] == "cut":
            stage = next(stage for stage in plan["stages"] if stage["scans"] == ["main.lineitem"])
            held = sorted(shard for node in stage["nodes"] for shard in node["shards"])
            assert held == list(range(1, 9)) and len(stage["nodes"]) == plan["nodes"]
            assert all(sorted(read["shard"] for read in node["reads"]) == node["shards"] for node in stage["nodes"])
            assert plan["stages"][-1]["exchange"] == "result" and plan["stages"][-1]["nodes"][0]["rows"] == 3


def test_a_reference_table_is_read_by_each_node(cluster):
    sql = "SELECT n_name, count(l_orderkey) FROM lineitem JOIN nation ON n_nationkey = l_suppkey % 25 GROUP BY 1"
    plan = analyze(cluster, sql, "?strategy=cut")
    assert len(plan["stages"][0]["nodes"]) == plan["nodes"] >= 1
    for part in plan["stages"][0]["nodes"]:
        assert [read["rows"] for read in part["reads"] if read["shard"] == 0] == [25]
    assert reads(analyze(cluster, sql, "?strategy=local"), "main.nation") == {0: 25}
    plan = analyze(cluster, "SELECT * FROM nation")
    assert plan["step"] == "local" and plan["rows_per_shard"] == [{"shard": 0, "rows": 25, "scanned": 25}]


def test_a_router_reads_one_shard(cluster):
    plan = analyze(cluster, "SELECT * FROM orders WHERE o_orderkey = 7")
    assert plan["step"] == "router" and len(plan["runs"]) == 1
    read, = plan["runs"][0]["reads"]
    assert read["rows"] == 1 and read["shard"] == plan["runs"][0]["shards"][0]
    assert plan["rows_per_shard"] == [{"shard": read["shard"], "rows": 1, "scanned": read["scanned"]}]


def test_tables_and_stages_are_told_apart(cluster):
    """A join counts each table by itself; nothing that only travels counts as read."""
    sql = "SELECT count(*), sum(c_acctbal) FROM orders JOIN customer ON o_custkey = c_custkey"
    for way in ("?strategy=repartition", "?strategy=broadcast", "?strategy=gather", "?strategy=local"):
        plan = analyze(cluster, sql, way)
        orders, customers = reads(plan, "main.orders"), reads(plan, "main.customer")
        assert set(orders) == set(customers) == {1, 2, 3, 4}
        # The join's own filter, made while it runs, may leave out some that have no partner.
        assert 1490 <= sum(customers.values()) <= 1500 and 14000 <= sum(orders.values()) <= 15000
        for row in plan["rows_per_shard"]:
            assert row["rows"] == orders[row["shard"]] + customers[row["shard"]]


def test_text_says_what_json_says(cluster):
    sql = "SELECT l_linestatus, count(l_tax) FROM lineitem GROUP BY 1"
    plan = analyze(cluster, sql, "?strategy=cut")
    text = "\n".join(row[0] for row in ask(cluster, "EXPLAIN ANALYZE " + sql, "?strategy=cut"))
    sums = ", ".join(f"{row['shard']}: {row['rows']}" for row in plan["rows_per_shard"])
    assert f"rows per shard: {sums}\n" in text
    for shard, rows in reads(plan, "main.lineitem").items():
        assert f"shard {shard:<4} {rows:12} rows of main.lineitem, " in text
    assert "\n  server " in text
    assert "stage 1  gather to the coordinator  (partial, on every node; tables main.lineitem)" in text


def test_explain_alone_reads_nothing(cluster):
    (text,), = ask(cluster, "EXPLAIN (FORMAT JSON) SELECT sum(l_tax) FROM lineitem", "?strategy=cut")
    plan = json.loads(text)
    assert "rows_per_shard" not in plan and "runs" not in plan and all(stage["nodes"] == [] for stage in plan["stages"])


def test_few_rows_set_out_from_the_coordinator(new_cluster):
    """What stayed on the nodes and is little needs no second round of all of them, only one of the coordinator; much does."""
    spread = new_cluster(scale=0.03, shards=4)
    spread.start_server()
    for number in range(2):
        spread.start_worker(f"w{number}")
    spread.wait_workers(2)
    spread.wait_copies(6)  # the first has all four, the second its half
    sql = ("SELECT customer.*, o_orderkey FROM customer JOIN orders ON o_custkey = c_custkey WHERE o_orderkey IN"
           " (SELECT l_orderkey FROM lineitem GROUP BY 1 HAVING sum(l_quantity) > %s)")
    for least, nodes in ((270, 1), (10, 3)):
        plan = analyze(spread, sql % least, "?strategy=cut")
        kept = next(stage for stage in plan["stages"] if stage["exchange"] == "keep")
        moved = next(stage for stage in plan["stages"] if stage["inputs"] == [kept["stage"]])
        assert len(kept["nodes"]) == 3 and len(moved["nodes"]) == nodes, plan
        assert sorted(ask(spread, sql % least, "?strategy=cut")) == sorted(ask(spread, sql % least, "?strategy=local"))
