/* test_bootstrap.c - a data directory made once, twice, after kills, with other options; its rows
 * against the generator's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/file.h"
#include "server/bootstrap.h"
#include "server/sample.h"
#include "store/duck.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/mg-bootstrap-XXXXXX");
	return mkdtemp(dir) ? 0 : 1;
}

static int drop_dir(void **state)
{
	(void)state;
	return mg_tree_remove(dir, NULL);
}

static struct mg_bootstrap_options defaults(void)
{
	return (struct mg_bootstrap_options){ .data_dir = dir,
		                                  .client_username = "scott",
		                                  .client_password = "tiger",
		                                  .worker_password = "united",
		                                  .tpch_scale_factor = 0.01,
		                                  .shard_count = 3,
		                                  .threads = 2,
		                                  .memory_bytes = 512u << 20 };
}

static struct mg_bootstrap_report run(const struct mg_bootstrap_options *options)
{
	struct mg_bootstrap_report report;
	struct mg_error err;
	mg_error_clear(&err);
	if (mg_bootstrap_run(options, &report, &err) != 0) {
		fail_msg("%s", err.message);
	}
	return report;
}

/* ---- what lies in the files, as one engine sees it ---- */

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

static void exec_ok(const char *sql)
{
	struct mg_error err;
	if (mg_duck_exec(conn, sql, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
}

static int64_t sql_int(const char *sql)
{
	struct mg_error err;
	int64_t out = -1;
	if (mg_duck_int(conn, sql, &out, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
	return out;
}

static void view_of(const char *schema, const char *table, uint32_t first, uint32_t last)
{
	struct mg_sb sql = { 0 };
	mg_sb_addf(&sql, "CREATE SCHEMA IF NOT EXISTS %s; CREATE OR REPLACE VIEW %s.%s AS ", schema,
	           schema, table);
	for (uint32_t i = first; i <= last; i++) {
		mg_sb_addf(&sql, "%sSELECT *, %u AS _shard FROM s%u.%s.%s", i > first ? " UNION ALL " : "",
		           i, i, schema, table);
	}
	exec_ok(mg_sb_text(&sql));
	mg_sb_fini(&sql);
}

static const struct {
	const char *name, *key;
} tpch[] = {
	{ "nation", NULL },          { "region", NULL },           { "supplier", "s_suppkey" },
	{ "customer", "c_custkey" }, { "part", "p_partkey" },      { "partsupp", "ps_partkey" },
	{ "orders", "o_orderkey" },  { "lineitem", "l_orderkey" },
};

static void open_files(uint32_t shards)
{
	struct mg_error err;
	struct mg_duck_options options = { .threads = 2 };
	assert_int_equal(mg_duck_open(&duck, &options, &err), 0);
	assert_int_equal(mg_duck_load_tpch(duck, &err), 0);
	assert_int_equal(mg_duck_connect(duck, &conn, &err), 0);
	for (uint32_t i = 0; i <= shards; i++) {
		char sql[160];
		snprintf(sql, sizeof sql, "ATTACH '%s/shards/%04u.duckdb' AS s%u (READ_ONLY)", dir, i, i);
		exec_ok(sql);
	}
}

static void close_files(void)
{
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
}

/* The files hold exactly the generator's rows, each once, in the shard of its slot, with ids that
 * are unique. */
static void check_tpch(double scale_factor, uint32_t shards)
{
	char sql[600];
	open_files(shards);
	snprintf(sql, sizeof sql, "ATTACH ':memory:' AS want; CALL dbgen(sf = %g, catalog = 'want')",
	         scale_factor);
	exec_ok(sql);
	for (size_t t = 0; t < sizeof tpch / sizeof *tpch; t++) {
		view_of("main", tpch[t].name, tpch[t].key ? 1 : 0, tpch[t].key ? shards : 0);
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM (SELECT * FROM want.main.%s EXCEPT ALL SELECT * EXCLUDE "
		         "(_mg_rid, _mg_slot, _shard) FROM main.%s)",
		         tpch[t].name, tpch[t].name);
		assert_int_equal(sql_int(sql), 0);
		snprintf(sql, sizeof sql,
		         "SELECT (SELECT count(*) FROM want.main.%s) - (SELECT count(*) FROM main.%s)",
		         tpch[t].name, tpch[t].name);
		assert_int_equal(sql_int(sql), 0);
		if (tpch[t].key) {
			snprintf(sql, sizeof sql,
			         "SELECT count(*) FROM main.%s WHERE _mg_slot <> mg_slot(%s) OR _shard <> "
			         "_mg_slot::INT * %u // 16384 + 1",
			         tpch[t].name, tpch[t].key, shards);
		} else {
			snprintf(sql, sizeof sql, "SELECT count(*) FROM main.%s WHERE _mg_slot <> 0",
			         tpch[t].name);
		}
		assert_int_equal(sql_int(sql), 0);
		snprintf(sql, sizeof sql, "SELECT count(*) FROM main.%s WHERE _mg_rid >> 48 <> _shard",
		         tpch[t].name);
		assert_int_equal(sql_int(sql), 0);
	}
	/* Row ids of a shard: unique over its tables, and below meta's next one. */
	for (uint32_t i = 1; i <= shards; i++) {
		snprintf(sql, sizeof sql,
		         "SELECT count(*) - count(DISTINCT r) + count(*) FILTER (r >= (SELECT next_rid "
		         "FROM s%u._mg.meta)) FROM (SELECT _mg_rid AS r FROM s%u.main.lineitem"
		         " UNION ALL SELECT _mg_rid FROM s%u.main.orders UNION ALL SELECT _mg_rid FROM "
		         "s%u.main.part UNION ALL SELECT _mg_rid FROM s%u.main.partsupp)",
		         i, i, i, i, i);
		assert_int_equal(sql_int(sql), 0);
		/* In load order. */
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM (SELECT _mg_rid, lag(_mg_rid) OVER (ORDER BY rowid) AS "
		         "before FROM s%u.main.lineitem) WHERE before >= _mg_rid",
		         i);
		assert_int_equal(sql_int(sql), 0);
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM s%u._mg.meta WHERE applied_index = 0 AND file_format = 1 "
		         "AND engine_version = 'v1.5.5' AND shard = %u AND shard_count = %u",
		         i, i, shards);
		assert_int_equal(sql_int(sql), 1);
	}
	close_files();
}

static void check_catalog(uint32_t shards, size_t tables, uint64_t rows)
{
	struct mg_error err;
	struct mg_catalog *catalog = NULL;
	assert_int_equal(mg_catalog_load(&catalog, dir, &err), 0);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint64_t found = 0;
	uint64_t by_table = 0;
	assert_int_equal(data->shard_count, shards);
	assert_int_equal(data->table_count, tables);
	assert_true(mg_bootstrap_complete(data));
	for (uint32_t i = 0; i <= shards; i++) {
		char sha256[65];
		char path[160];
		uint64_t size = 0;
		snprintf(path, sizeof path, "%s/%s", dir, data->shards[i].file);
		assert_int_equal(mg_file_sha256(path, sha256, &err), 0);
		assert_int_equal(mg_file_size(path, &size, &err), 0);
		assert_string_equal(sha256, data->shards[i].sha256);
		assert_int_equal(size, data->shards[i].bytes);
		assert_int_equal(strlen(data->shards[i].created), 24);
		found += data->shards[i].rows;
	}
	for (size_t i = 0; i < tables; i++) {
		by_table += data->tables[i].rows;
	}
	assert_int_equal(found, rows);
	assert_int_equal(by_table, rows);
	assert_int_equal(mg_catalog_find_user(data, "scott")->role, MG_ROLE_ADMIN);
	assert_int_equal(mg_catalog_find_user(data, "worker")->role, MG_ROLE_WORKER);
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
}

#define ROWS_001 86805
#define ROWS_01 866602 /* of scale factor 0.1 */

static void test_once_and_again(void **state)
{
	(void)state;
	struct mg_bootstrap_options options = defaults();
	struct mg_bootstrap_report first = run(&options);
	assert_true(first.changed && first.keys_made);
	assert_int_equal(first.shards_made, 4);
	assert_int_equal(first.rows, ROWS_001);
	assert_string_equal(first.client_password, "");
	assert_true(strlen(first.join_password) > 10);
	check_tpch(0.01, 3);
	check_catalog(3, 8, ROWS_001);
	char path[96];
	struct stat before, after;
	snprintf(path, sizeof path, "%s/tls/ca.key", dir);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(before.st_mode & 0777, 0600);
	snprintf(path, sizeof path, "%s/tls/join.secret", dir);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(before.st_mode & 0777, 0600);
	snprintf(path, sizeof path, "%s/log/catalog.json", dir);
	assert_int_equal(stat(path, &before), 0);
	struct mg_bootstrap_report second = run(&options);
	assert_false(second.changed);
	assert_int_equal(second.shards_made, 0);
	assert_int_equal(second.shards_kept, 4);
	assert_string_equal(second.join_password, "");
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	/* Less is asked: what is there stays. */
	options.tpch_scale_factor = 0;
	options.shard_count = 0;
	assert_false(run(&options).changed);
}

static void test_tables_in_the_catalog(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_bootstrap_options options = defaults();
	struct mg_catalog *catalog = NULL;
	run(&options);
	assert_int_equal(mg_catalog_load(&catalog, dir, &err), 0);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	const struct mg_table *lineitem = mg_catalog_find_table(data, "main", "lineitem");
	assert_int_equal(lineitem->rows, 60175);
	assert_int_equal(lineitem->column_count, 16);
	assert_string_equal(lineitem->columns[0].name, "l_orderkey");
	assert_string_equal(lineitem->columns[0].type, "BIGINT");
	assert_string_equal(lineitem->columns[4].type, "DECIMAL(15,2)");
	assert_string_equal(lineitem->columns[10].type, "DATE");
	assert_true(lineitem->columns[0].not_null);
	assert_string_equal(lineitem->keys[0], "l_orderkey");
	assert_int_equal(lineitem->primary_key_count, 2);
	assert_string_equal(lineitem->primary_key[1], "l_linenumber");
	assert_int_equal(mg_catalog_find_table(data, "main", "nation")->key_count, 0);
	assert_string_equal(data->sample, "tpch 0.01");
	mg_catalog_give(catalog, data);
	mg_catalog_free(catalog);
}

static void test_steps_equal_the_whole(void **state)
{
	(void)state;
	struct mg_bootstrap_options options = defaults();
	options.tpch_scale_factor = 0.13; /* three steps that do not divide evenly */
	options.shard_count = 5;
	run(&options);
	check_tpch(0.13, 5);
}

/* Large tables lie in slot ranges that _mg.layout names, in load order inside; small ones do not.
 */
static void test_large_tables_lie_in_slot_ranges(void **state)
{
	(void)state;
	struct mg_bootstrap_options options = defaults();
	options.tpch_scale_factor = 0.06;
	options.shard_count = 2;
	options.ssb = true;
	options.layout_row_groups = 1;
	run(&options);
	check_tpch(0.06, 2);
	open_files(2);
	for (uint32_t i = 1; i <= 2; i++) {
		char sql[700];
		snprintf(
			sql, sizeof sql,
			"SELECT count(*) FROM s%u._mg.layout WHERE table_name IN ('lineitem', 'lineorder')", i);
		assert_int_equal(sql_int(sql), 24);
		snprintf(sql, sizeof sql, "SELECT count(*) FROM s%u._mg.layout", i);
		assert_int_equal(sql_int(sql), 24);
		/* The ranges tile the shard's slots; their rows are where they are said to be. */
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM (SELECT slot_first, lag(slot_last::INT, 1, %u - 1) OVER "
		         "(ORDER BY "
		         "slot_first) AS before FROM s%u._mg.layout WHERE table_name = 'lineitem') WHERE "
		         "slot_first <> before + 1",
		         (i - 1) * 8192, i);
		assert_int_equal(sql_int(sql), 0);
		snprintf(
			sql, sizeof sql,
			"SELECT sum(rows)::BIGINT - (SELECT count(*) FROM s%u.main.lineitem t JOIN "
			"s%u._mg.layout l ON table_name = 'lineitem' AND _mg_rid >= rid_first AND _mg_rid < "
			"rid_first + rows AND _mg_slot BETWEEN slot_first AND slot_last) FROM s%u._mg.layout "
			"WHERE table_name = 'lineitem'",
			i, i, i);
		assert_int_equal(sql_int(sql), 0);
		snprintf(sql, sizeof sql,
		         "SELECT count(*) - (SELECT sum(rows) FROM s%u._mg.layout WHERE table_name = "
		         "'lineitem')::BIGINT FROM s%u.main.lineitem",
		         i, i);
		assert_int_equal(sql_int(sql), 0);
		/* The generator's order, which is by key, inside of a range; another one over all. */
		snprintf(sql, sizeof sql,
		         "SELECT count(DISTINCT _mg_slot::INT * 24 // 16384) FROM (SELECT *, "
		         "lag(l_orderkey) OVER (ORDER BY rowid) AS before FROM s%u.main.lineitem) WHERE "
		         "before > l_orderkey",
		         i);
		assert_int_equal(sql_int(sql), 11);
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM (SELECT *, lag(l_orderkey) OVER (ORDER BY rowid) AS before "
		         "FROM s%u.main.lineitem) WHERE before > l_orderkey",
		         i);
		assert_int_equal(sql_int(sql), 11);
	}
	assert_int_equal(sql_int("SELECT count(*) FROM duckdb_tables() WHERE database_name = 's0' AND "
	                         "table_name = 'layout'"),
	                 0);
	close_files();
	assert_false(run(&options).changed);
}

static void test_layout_ranges(void **state)
{
	(void)state;
	assert_int_equal(mg_shard_layout_ranges(50ull * 122880, 1489), 12);
	assert_int_equal(mg_shard_layout_ranges(56ull * 122880, 1489), 14);
	assert_int_equal(mg_shard_layout_ranges(5000ull * 122880, 1489), 16);
	assert_int_equal(mg_shard_layout_ranges(5000ull * 122880, 5), 5);
}

/* ---- generator processes ---- */

/* A bootstrap in a process of its own; what it ends with is its code, its message goes to out. */
static pid_t bootstrap_start(const struct mg_bootstrap_options *options, int out)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct mg_bootstrap_report report;
		struct mg_error err;
		mg_error_clear(&err);
		int code = mg_bootstrap_run(options, &report, &err);
		ssize_t done = write(out, err.message, strlen(err.message));
		(void)done;
		_exit(code);
	}
	return pid;
}

/* Its generators, as soon as there are any; 0 when it has ended before. */
static size_t generators_of(pid_t pid, pid_t *list, size_t max)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
	for (;;) {
		size_t count = 0;
		int child = 0;
		FILE *file = fopen(path, "r");
		while (file && count < max && fscanf(file, "%d", &child) == 1) {
			list[count++] = child;
		}
		if (file) {
			fclose(file);
		}
		if (count > 0 || !file || waitpid(pid, NULL, WNOHANG) != 0) {
			return count;
		}
	}
}

static void test_a_generator_that_dies_is_an_error(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("fork is not possible under TSan\n"); /* see test_kill_at_random_moments */
	skip();
#endif
	struct mg_bootstrap_options options = defaults();
	options.tpch_scale_factor = 0.1;
	char message[800] = "";
	int out[2];
	pid_t generators[8];
	int status = 0;
	assert_int_equal(pipe(out), 0);
	pid_t pid = bootstrap_start(&options, out[1]);
	close(out[1]);
	size_t count = generators_of(pid, generators, 8);
	assert_true(count > 0);
	kill(generators[0], SIGKILL);
	assert_true(read(out[0], message, sizeof message - 1) > 0);
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), MG_E_NODE);
	assert_non_null(strstr(message, "generator process"));
	assert_non_null(strstr(message, "signal 9"));
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(kill(generators[i], 0), -1); /* nobody is left */
	}
	assert_int_equal(run(&options).rows, ROWS_01);
}

static void test_generators_end_with_their_starter(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("fork is not possible under TSan\n"); /* see test_kill_at_random_moments */
	skip();
#endif
	struct mg_bootstrap_options options = defaults();
	options.tpch_scale_factor = 0.1;
	int out[2];
	pid_t generators[8];
	int status = 0;
	assert_int_equal(pipe(out), 0);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1),
	                 0); /* orphans become ours, to be waited for */
	pid_t pid = bootstrap_start(&options, out[1]);
	size_t count = generators_of(pid, generators, 8);
	assert_true(count > 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(waitpid(generators[i], &status, 0), generators[i]);
		/* Killed, or told so by its pipe a moment before. */
		assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) != 0);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	close(out[0]);
	close(out[1]);
	assert_int_equal(run(&options).rows, ROWS_01);
}

/* The same rows in the same order with the same ids, whatever the number of children and threads.
 */
static void test_rows_do_not_depend_on_threads(void **state)
{
	(void)state;
	static const unsigned threads[] = { 1, 3 };
	int64_t sums[2];
	for (size_t i = 0; i < 2; i++) {
		struct mg_bootstrap_options options = defaults();
		options.tpch_scale_factor = 0.06; /* three parts */
		options.threads = threads[i];
		options.memory_bytes = 1u << 30;
		options.overwrite = true;
		run(&options);
		open_files(3);
		sums[i] = sql_int("SELECT (sum(hash(t)) % 1000000007)::BIGINT FROM (SELECT *, rowid FROM "
		                  "s1.main.lineitem UNION ALL BY NAME SELECT *, rowid FROM s1.main.orders "
		                  "UNION ALL BY NAME SELECT *, rowid FROM s1.main.part) t");
		close_files();
	}
	assert_int_equal(sums[0], sums[1]);
}

static void test_other_shapes(void **state)
{
	(void)state;
	struct mg_bootstrap_options options = defaults();
	static const uint32_t counts[] = { 1, 49 }; /* the last one needs two passes over a part */
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		options.shard_count = counts[i];
		options.overwrite = true;
		run(&options);
		check_tpch(0.01, counts[i]);
		check_catalog(counts[i], 8, ROWS_001);
	}
	options.tpch_scale_factor = 0;
	options.shard_count = 4;
	struct mg_bootstrap_report report = run(&options);
	assert_int_equal(report.rows, 0);
	check_catalog(4, 0, 0);
	/* Sample data can come later. */
	options.overwrite = false;
	options.tpch_scale_factor = 0.01;
	run(&options);
	check_tpch(0.01, 4);
}

static void test_ssb(void **state)
{
	(void)state;
	struct mg_bootstrap_options options = defaults();
	run(&options);
	options.ssb = true; /* added to what is there */
	run(&options);
	check_tpch(0.01, 3);
	open_files(3);
	static const char *const names[] = { "customer", "supplier", "part", "lineorder" };
	for (size_t i = 0; i < 4; i++) {
		view_of("ssb", names[i], 1, 3);
	}
	view_of("ssb", "date", 0, 0);
	exec_ok("ATTACH ':memory:' AS want; CALL dbgen(sf = 0.01, catalog = 'want')");
	assert_int_equal(sql_int("SELECT count(*) FROM ssb.lineorder"), 60175);
	assert_int_equal(sql_int("SELECT count(*) FROM ssb.date"), 2557);
	assert_int_equal(sql_int("SELECT max(d_datekey) FROM ssb.date"), 19981231);
	assert_int_equal(sql_int("SELECT count(*) FROM ssb.customer"), 1500);
	assert_int_equal(sql_int("SELECT count(*) FROM ssb.part WHERE p_category NOT SIMILAR TO "
	                         "'MFGR#[1-5][1-5]' OR NOT starts_with(p_brand1, p_category)"),
	                 0);
	assert_int_equal(sql_int("SELECT count(*) FROM ssb.supplier WHERE length(s_city) <> 10"), 0);
	assert_int_equal(sql_int("SELECT count(*) FROM ssb.lineorder l WHERE _mg_slot <> "
	                         "mg_slot(lo_orderkey) OR _mg_rid >> 48 <> _shard"),
	                 0);
	assert_int_equal(
		sql_int(
			"SELECT count(*) FROM ssb.lineorder JOIN ssb.date ON lo_orderdate = d_datekey JOIN "
			"ssb.customer ON lo_custkey = c_custkey"
			" JOIN ssb.supplier ON lo_suppkey = s_suppkey JOIN ssb.part ON lo_partkey = p_partkey"),
		60175);
	/* SSB Q1.1 against the same in TPC-H's own columns. */
	assert_int_equal(
		sql_int("SELECT sum(lo_extendedprice * lo_discount)::BIGINT FROM ssb.lineorder JOIN "
	            "ssb.date ON lo_orderdate = d_datekey"
	            " WHERE d_year = 1993 AND lo_discount BETWEEN 1 AND 3 AND lo_quantity < 25"),
		sql_int("SELECT (sum(l_extendedprice * l_discount) * 10000)::BIGINT FROM "
	            "want.main.lineitem JOIN want.main.orders ON l_orderkey = o_orderkey"
	            " WHERE year(o_orderdate) = 1993 AND l_discount BETWEEN 0.01 AND 0.03 AND "
	            "l_quantity < 25"));
	assert_int_equal(
		sql_int("SELECT count(*) - count(DISTINCT r) FROM (SELECT _mg_rid AS r FROM "
	            "s1.ssb.lineorder UNION ALL SELECT _mg_rid FROM s1.main.lineitem"
	            " UNION ALL SELECT _mg_rid FROM s1.main.orders UNION ALL SELECT _mg_rid FROM "
	            "s1.ssb.part UNION ALL SELECT _mg_rid FROM s1.ssb.customer)"),
		0);
	close_files();
	check_catalog(3, 13, ROWS_001 + 60175 + 2557 + 1500 + 100 + 2000);
}

/* A table of tpcds is what dsdgen makes, each row in its shard. */
static void check_tpcds_table(const char *name, const char *key)
{
	char sql[400];
	view_of("tpcds", name, key ? 1 : 0, key ? 3 : 0);
	snprintf(sql, sizeof sql,
	         "SELECT count(*) FROM (SELECT * EXCLUDE (_mg_rid, _mg_slot, _shard) FROM tpcds.%s "
	         "EXCEPT ALL FROM want.main.%s)",
	         name, name);
	assert_int_equal(sql_int(sql), 0);
	snprintf(sql, sizeof sql,
	         "SELECT (SELECT count(*) FROM tpcds.%s) - (SELECT count(*) FROM want.main.%s)", name,
	         name);
	assert_int_equal(sql_int(sql), 0);
	snprintf(sql, sizeof sql, "SELECT count(*) FROM want.main.%s", name);
	assert_true(sql_int(sql) > 0);
	if (key) {
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM tpcds.%s WHERE _mg_slot <> mg_slot(%s) OR _mg_rid >> 48 <> "
		         "_shard",
		         name, key);
		assert_int_equal(sql_int(sql), 0);
	}
}

static void test_tpcds(void **state)
{
	(void)state;
	static const char *const reference[] = {
		"income_band", "ship_mode",    "reason",   "warehouse", "call_center",
		"web_site",    "web_page",     "store",    "promotion", "household_demographics",
		"date_dim",    "catalog_page", "time_dim", "customer_demographics",
	};
	static const char *const keyed[][2] = {
		{ "item", "i_item_sk" },
		{ "customer", "c_customer_sk" },
		{ "customer_address", "ca_address_sk" },
		{ "inventory", "inv_item_sk" },
		{ "store_sales", "ss_item_sk" },
		{ "store_returns", "sr_item_sk" },
		{ "catalog_sales", "cs_item_sk" },
		{ "catalog_returns", "cr_item_sk" },
		{ "web_sales", "ws_item_sk" },
		{ "web_returns", "wr_item_sk" },
	};
	struct mg_error err;
	struct mg_bootstrap_options options = defaults();
	char path[96];
	run(&options);
	options.tpcds_scale_factor = 0.01; /* added to what is there */
	snprintf(path, sizeof path, "%s/shards/tpcds.new", dir);
	assert_int_equal(mg_file_write(path, "killed", 6, 0600, &err), 0);
	run(&options);
	assert_false(mg_file_exists(path));
	check_tpch(0.01, 3);
	open_files(3);
	exec_ok("ATTACH ':memory:' AS want; CALL dsdgen(sf = 0.01, catalog = 'want')");
	for (size_t i = 0; i < sizeof reference / sizeof *reference; i++) {
		check_tpcds_table(reference[i], NULL);
	}
	for (size_t i = 0; i < sizeof keyed / sizeof *keyed; i++) {
		check_tpcds_table(keyed[i][0], keyed[i][1]);
	}
	assert_int_equal(sql_int("SELECT count(*) - count(DISTINCT r) FROM (SELECT _mg_rid AS r FROM "
	                         "s1.tpcds.store_sales UNION ALL SELECT _mg_rid FROM s1.tpcds.item "
	                         "UNION ALL SELECT _mg_rid FROM s1.main.lineitem)"),
	                 0);
	close_files();
	/* Less is asked: what is there stays; another size is refused; SSB can still come. */
	options.tpcds_scale_factor = 0;
	assert_false(run(&options).changed);
	struct mg_bootstrap_report report;
	options.tpcds_scale_factor = 0.02;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	assert_non_null(strstr(err.message, "tpcds 0.01"));
	/* A lost file is made again with all its tables. */
	snprintf(path, sizeof path, "%s/shards/0002.duckdb", dir);
	assert_int_equal(unlink(path), 0);
	options.tpcds_scale_factor = 0.01;
	assert_int_equal(run(&options).shards_made, 1);
	open_files(3);
	exec_ok("ATTACH ':memory:' AS want; CALL dsdgen(sf = 0.01, catalog = 'want')");
	check_tpcds_table("store_sales", "ss_item_sk");
	check_tpcds_table("customer", "c_customer_sk");
	close_files();
}

static void damage(const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "%s/shards/%s", dir, name);
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	fseek(file, 300000, SEEK_SET);
	fputc(0x5a, file);
	fputc(0xa5, file);
	fclose(file);
}

static void test_damaged_and_missing_files_are_made_again(void **state)
{
	(void)state;
	struct mg_error err;
	char path[128];
	struct mg_bootstrap_options options = defaults();
	run(&options);
	damage("0002.duckdb");
	struct mg_bootstrap_report report = run(&options);
	assert_int_equal(report.shards_made, 1);
	assert_int_equal(report.shards_kept, 3);
	snprintf(path, sizeof path, "%s/shards/0000.duckdb", dir);
	assert_int_equal(mg_file_remove(path, &err), 0);
	report = run(&options);
	assert_int_equal(report.shards_made, 1);
	check_tpch(0.01, 3);
	check_catalog(3, 8, ROWS_001);
	assert_false(run(&options).changed);
}

static void test_refuses_what_does_not_fit(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_bootstrap_report report;
	struct mg_bootstrap_options options = defaults();
	run(&options);
	options.shard_count = 4;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	options.shard_count = 3;
	options.tpch_scale_factor = 0.02;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	assert_non_null(strstr(err.hint, "--overwrite"));
	options = defaults();
	options.shard_count = 1025;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	options = defaults();
	options.tpch_scale_factor = -1;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	options.tpch_scale_factor = 0.0 / 0.0;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	options = defaults();
	options.client_username = "worker";
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_USAGE);
	int lock = -1;
	options = defaults();
	assert_int_equal(mg_dir_lock(dir, &lock, &err), 0);
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_BUSY);
	mg_dir_unlock(lock);
	assert_false(run(&options).changed);
}

/* Kill it anywhere; the next run finishes; the result is that of an undisturbed one. */
static void test_kill_at_random_moments(void **state)
{
	(void)state;
#ifdef __SANITIZE_THREAD__
	/* DuckDB's allocator takes all its locks before a fork, more than the 64 that TSan can count.
	 */
	print_message("fork is not possible under TSan: not killed at random moments\n");
	skip();
#endif
	struct mg_bootstrap_options options = defaults();
	options.tpch_scale_factor = 0.02;
	options.ssb = true;
	unsigned kills = 0;
	srand(7);
	/* About how long one run takes here and now, so that kills fall everywhere in it. */
	uint64_t start = mg_clock_ms();
	run(&options);
	uint64_t whole = mg_clock_ms() - start + 1;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(mg_tree_remove(dir, NULL), 0);
		for (int attempt = 0; attempt < 3; attempt++) {
			pid_t child = fork();
			assert_true(child >= 0);
			if (child == 0) {
				struct mg_bootstrap_report report;
				struct mg_error err;
				_exit(mg_bootstrap_run(&options, &report, &err));
			}
			usleep((useconds_t)((uint64_t)rand() % (whole * 1100)));
			kill(child, SIGKILL);
			int status = 0;
			waitpid(child, &status, 0);
			if (WIFSIGNALED(status)) {
				kills++;
			} else {
				assert_int_equal(WEXITSTATUS(status), 0);
			}
		}
		run(&options);
		struct mg_bootstrap_report again = run(&options);
		assert_false(again.changed);
		assert_int_equal(again.shards_kept, 4);
		check_tpch(0.02, 3);
		char **names = NULL;
		size_t count = 0;
		char path[96];
		snprintf(path, sizeof path, "%s/shards", dir);
		assert_int_equal(mg_dir_list(path, &names, &count, NULL), 0);
		assert_int_equal(count, 4); /* nothing stale */
		mg_free(names);
	}
	assert_true(kills > 0);
}

static void test_stop(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_bootstrap_report report;
	struct mg_bootstrap_options options = defaults();
	atomic_bool stop;
	atomic_init(&stop, true);
	options.stop = &stop;
	assert_int_equal(mg_bootstrap_run(&options, &report, &err), MG_E_CANCELLED);
	atomic_store(&stop, false);
	run(&options);
	check_tpch(0.01, 3);
}

static void test_passwords_are_generated_once(void **state)
{
	(void)state;
	struct mg_bootstrap_options options = { .data_dir = dir, .shard_count = 1 };
	struct mg_bootstrap_report report = run(&options);
	assert_string_equal(report.client_username, "admin");
	assert_true(strlen(report.client_password) > 10 && strlen(report.worker_password) > 10 &&
	            strlen(report.join_password) > 10);
	assert_string_not_equal(report.client_password, report.worker_password);
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	mg_bootstrap_print_passwords(&report, out);
	fclose(out);
	assert_non_null(strstr(text, report.client_password));
	assert_non_null(strstr(text, report.join_password));
	free(text);
	report = run(&options);
	assert_false(report.changed);
	out = open_memstream(&text, &size);
	mg_bootstrap_print_passwords(&report, out);
	fclose(out);
	assert_int_equal(size, 0);
	free(text);
}

int main(int argc, char **argv)
{
	/* The generator processes of the bootstraps below are this program again. */
	if (argc > 1 && strcmp(argv[1], MG_SAMPLE_CHILD) == 0) {
		return mg_sample_child_main(argc - 1, argv + 1);
	}
	signal(SIGPIPE, SIG_IGN);
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, drop_dir)
	const struct CMUnitTest tests[] = {
		CASE(test_once_and_again),
		CASE(test_tables_in_the_catalog),
		CASE(test_steps_equal_the_whole),
		CASE(test_other_shapes),
		CASE(test_large_tables_lie_in_slot_ranges),
		cmocka_unit_test(test_layout_ranges),
		CASE(test_a_generator_that_dies_is_an_error),
		CASE(test_generators_end_with_their_starter),
		CASE(test_rows_do_not_depend_on_threads),
		CASE(test_ssb),
		CASE(test_tpcds),
		CASE(test_damaged_and_missing_files_are_made_again),
		CASE(test_refuses_what_does_not_fit),
		CASE(test_stop),
		CASE(test_passwords_are_generated_once),
		CASE(test_kill_at_random_moments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
