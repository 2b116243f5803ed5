/*
 * test_alter.c - ALTER over real shards of one node: what it makes, and kills between its steps,
 * behind which the old table is there or the new one, with every row once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exec/define.h"
#include "exec/engine_int.h"
#include "exec/pump.h"
#include "exec/run.h"
#include "os/clock.h"
#include "write_kit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct kit_table tables[] = { KIT_PLAIN_TABLES };

static int begin(void **state)
{
	(void)state;
	kit_open(tables, sizeof tables / sizeof *tables);
	return 0;
}

static int end(void **state)
{
	(void)state;
	kit_close();
	return 0;
}

static int define(const char *sql, struct mg_error *err)
{
	const struct mg_rows rows = mg_pump_nowhere();
	const struct mg_change_request request = { .statement = mg_str(sql), .rows = &rows };
	struct mg_change_result result = { 0 };
	struct mg_run *run = mg_run_new();

	mg_error_clear(err);
	int code = mg_define_run(kit_engine, run, &kit_settings, &request, &result, err);

	mg_run_free(run);
	return code;
}

static void defined(const char *sql)
{
	struct mg_error err;

	kit_must(define(sql, &err), &err, sql);
}

/* The answer as text, of this node. */
static char *answer(const char *sql)
{
	struct kit_rows rows = { 0 };
	const struct mg_rows sink = {
		.begin = kit_rows_begin, .batch = kit_rows_batch, .lossless = true, .arg = &rows
	};
	struct mg_run *run = mg_run_new();
	struct mg_error err;

	mg_error_clear(&err);
	kit_must(mg_coordinator_run(kit_engine, run, &kit_settings, mg_str(sql), &sink, &err), &err,
	         sql);
	char *text = mg_strdup(mg_sb_text(&rows.text));

	kit_rows_fini(&rows);
	mg_run_free(run);
	return text;
}

static void is(const char *sql, const char *expected)
{
	char *text = answer(sql);

	assert_string_equal(text, expected);
	mg_free(text);
}

/* How many tables the files of all shards hold. */
static int64_t stored_tables(void)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_error err;
	int64_t count = -1;

	kit_must(mg_duck_connect(mg_engine_duck(kit_engine), &conn, &err), &err, "connect");
	kit_must(mg_duck_int(conn,
	                     "SELECT count(*) FROM duckdb_tables() WHERE regexp_full_match("
	                     "database_name, 's[0-9]+') AND schema_name <> '_mg'",
	                     &count, &err),
	         &err, "tables");
	mg_duck_disconnect(conn);
	return count;
}

/* ---- what it makes ---- */

static void test_columns(void **state)
{
	(void)state;
	defined("ALTER TABLE t ADD COLUMN c INTEGER DEFAULT 5");
	is("SELECT count(*), sum(k), sum(c) FROM t", "count_star() BIGINT|sum(k) HUGEINT|sum(c) "
	                                             "HUGEINT|\n200|19900|1000|\n");
	defined("ALTER TABLE t DROP COLUMN a");
	defined("ALTER TABLE t RENAME COLUMN b TO a");
	is("SELECT * FROM t WHERE k = 7",
	   "k BIGINT|a VARCHAR|d DECIMAL(10,2)|c INTEGER|\n7|x7|1.75|5|\n");
	is("SELECT count(*) FROM v WHERE a = 'x7' AND c = 5", "count_star() BIGINT|\n1|\n");
	assert_int_equal(stored_tables(), KIT_SHARDS + 1);
}

/* Values of their own for each row, which the log then holds. */
static void test_a_default_is_evaluated_once(void **state)
{
	(void)state;
	defined("ALTER TABLE t ADD COLUMN u DOUBLE DEFAULT random()");
	defined("ALTER TABLE t ADD COLUMN n TIMESTAMP DEFAULT now()::TIMESTAMP");
	is("SELECT count(DISTINCT u) > 190, count(DISTINCT n) FROM t",
	   "(count(DISTINCT u) > 190) BOOLEAN|count(DISTINCT n) BIGINT|\ntrue|1|\n");
	char *before = answer("SELECT sum(hash(k, u))::VARCHAR AS h FROM t");

	is("SELECT sum(hash(k, u))::VARCHAR AS h FROM t", before);
	mg_free(before);
}

static void test_partitions(void **state)
{
	struct mg_error err;

	(void)state;
	defined("ALTER TABLE t RESET PARTITIONED BY");
	is("SELECT count(*), sum(k), sum(d) FROM t",
	   "count_star() BIGINT|sum(k) HUGEINT|sum(d) DECIMAL(38,2)|\n200|19900|4975.00|\n");
	assert_int_equal(stored_tables(), 2);
	defined("ALTER TABLE t SET PARTITIONED BY (a, b)");
	is("SELECT count(*), sum(k), sum(d) FROM t",
	   "count_star() BIGINT|sum(k) HUGEINT|sum(d) DECIMAL(38,2)|\n200|19900|4975.00|\n");
	assert_int_equal(stored_tables(), KIT_SHARDS + 1);
	assert_int_equal(define("ALTER TABLE t DROP COLUMN a", &err), MG_E_UNSUPPORTED);
	assert_non_null(strstr(err.hint, "SET PARTITIONED BY"));
	assert_int_equal(define("ALTER TABLE t ALTER a TYPE DATE USING NULL", &err), MG_E_UNSUPPORTED);
	assert_non_null(strstr(err.hint, "RESET PARTITIONED BY"));
	assert_int_equal(define("ALTER TABLE t SET PARTITIONED BY (nothing)", &err), MG_E_NO_COLUMN);
	assert_int_equal(define("CREATE TABLE no (k INT, c INTERVAL) PARTITIONED BY (k, c)", &err),
	                 MG_E_UNSUPPORTED);
	assert_string_equal(err.message, "column \"c\" cannot partition a table: its type is INTERVAL");
	assert_non_null(strstr(err.hint, "Columns of numbers"));
	assert_int_equal(define("CREATE TABLE no (l STRUCT(a INT)[]) PARTITIONED BY (l)", &err),
	                 MG_E_UNSUPPORTED);
	assert_int_equal(define("ALTER TABLE t ADD PRIMARY KEY (k)", &err), MG_E_UNSUPPORTED);
	assert_non_null(strstr(err.message, "must hold"));
	assert_int_equal(define("ALTER TABLE t SET PARTITIONED BY", &err), MG_E_SYNTAX);
	defined("ALTER TABLE t ALTER a TYPE SMALLINT");
	defined("ALTER TABLE t RENAME a TO part");
	is("SELECT count(*) FROM t WHERE part = 3 AND b = 'x3'", "count_star() BIGINT|\n1|\n");
	defined("ALTER TABLE t SET PARTITIONED BY (k)");
	defined("ALTER TABLE t ADD PRIMARY KEY (k)");
	assert_int_equal(define("ALTER TABLE t SET PARTITIONED BY (b)", &err), MG_E_UNSUPPORTED);
	is("SELECT count(*), sum(part) FROM t", "count_star() BIGINT|sum(part) HUGEINT|\n200|594|\n");
}

static void test_names(void **state)
{
	struct mg_error err;

	(void)state;
	defined("ALTER TABLE t RENAME TO \"Other name\"");
	assert_int_equal(define("ALTER TABLE r RENAME TO \"Other name\"", &err), MG_E_DUPLICATE);
	assert_int_equal(define("ALTER TABLE r RENAME TO \"a#b\"", &err), MG_E_BIND);
	assert_int_equal(define("ALTER TABLE r RENAME TO v", &err), MG_E_DUPLICATE);
	defined("CREATE TABLE t (q INTEGER)");
	is("SELECT count(*) FROM \"Other name\"", "count_star() BIGINT|\n200|\n");
	is("SELECT count(*) FROM t", "count_star() BIGINT|\n0|\n");
	defined("ALTER VIEW v RENAME TO w");
	is("SELECT count(*) FROM w", "count_star() BIGINT|\n0|\n");
	assert_int_equal(define("ALTER VIEW v RENAME TO x", &err), MG_E_NO_TABLE);
	defined("ALTER VIEW IF EXISTS v RENAME TO x");
	assert_int_equal(define("ALTER TABLE w RENAME TO x", &err), MG_E_BIND);
	assert_string_equal(err.sqlstate, "42809");
	assert_string_equal(err.hint, "Use ALTER VIEW.");
	defined("ALTER TABLE IF EXISTS nothing ADD COLUMN x INTEGER");
	assert_int_equal(define("ALTER SEQUENCE s RESTART", &err), MG_E_UNSUPPORTED);
}

/* What the wall refuses to a SELECT is no default and no USING. */
static void test_the_wall(void **state)
{
	struct mg_error err;

	(void)state;
	assert_int_not_equal(
		define("ALTER TABLE t ADD COLUMN x VARCHAR DEFAULT current_setting('threads')", &err), 0);
	assert_int_not_equal(
		define("ALTER TABLE t ALTER b TYPE VARCHAR USING current_setting('threads')", &err), 0);
	assert_int_not_equal(
		define("ALTER TABLE t ALTER b SET TYPE VARCHAR USING current_setting('threads')", &err), 0);
	assert_int_not_equal(
		define("ALTER TABLE t ALTER b TYPE VARCHAR USING (SELECT max(name) FROM r)", &err), 0);
	assert_int_not_equal(define("ALTER TABLE t ADD COLUMN _mg_rid INTEGER", &err), 0);
	is("SELECT count(*), count(b) FROM t", "count_star() BIGINT|count(b) BIGINT|\n200|200|\n");
}

/* ---- kills ---- */

/* ---- a statement that is planned while the table becomes another one ---- */

static void *define_meanwhile(void *arg)
{
	defined(arg);
	return NULL;
}

static void *answer_meanwhile(void *arg)
{
	return answer(arg);
}

static uint64_t version_now(void)
{
	const struct mg_catalog_data *data = mg_catalog_take(kit_catalog);
	uint64_t version = data->version;

	mg_catalog_give(kit_catalog, data);
	return version;
}

/* The catalog has the new table and the planning database still the old one: what was bound over
 * the one must not be read from the other. */
static void test_a_plan_and_its_tables_are_of_one_version(void **state)
{
	char alter[] = "ALTER TABLE moment ALTER v SET DATA TYPE BIGINT USING v * 10";
	char query[] = "SELECT typeof(v) || v AS v FROM moment WHERE id = 7";
	pthread_t definer, reader;
	void *text = NULL;

	(void)state;
	defined("CREATE TABLE moment PARTITIONED BY (id) AS "
	        "SELECT range AS id, 5 AS v FROM range(100)");
	uint64_t before = version_now();

	is(query, "v VARCHAR|\nINTEGER5|\n");
	pthread_mutex_lock(&kit_engine->show_lock);
	assert_int_equal(pthread_create(&definer, NULL, define_meanwhile, alter), 0);
	while (version_now() == before) {
		mg_sleep_ms(1);
	}
	assert_int_equal(pthread_create(&reader, NULL, answer_meanwhile, query), 0);
	mg_sleep_ms(300); /* who does not wait has answered by then */
	pthread_mutex_unlock(&kit_engine->show_lock);
	assert_int_equal(pthread_join(reader, &text), 0);
	assert_int_equal(pthread_join(definer, NULL), 0);
	assert_string_equal(text, "v VARCHAR|\nBIGINT50|\n");
	mg_free(text);
	is(query, "v VARCHAR|\nBIGINT50|\n");
	defined("DROP TABLE moment");
}

static enum mg_define_step fatal;

static void die(enum mg_define_step step)
{
	if (step == fatal) {
		(void)raise(SIGKILL);
	}
}

static void open_again(void)
{
	struct mg_engine_options engine = { .data_dir = kit_dir,
		                                .node_name = "n1",
		                                .threads = 2,
		                                .memory_bytes = 512u << 20,
		                                .catalog = kit_catalog };
	struct mg_error err;

	kit_must(mg_catalog_load(&kit_catalog, kit_dir, &err), &err, "catalog");
	engine.catalog = kit_catalog;
	kit_must(mg_engine_open(&kit_engine, &engine, &err), &err, "engine");
}

/* In a process that ends at that step. */
static void killed_at(enum mg_define_step step, const char *sql)
{
	mg_engine_close(kit_engine);
	mg_catalog_free(kit_catalog);
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct mg_error err;

		open_again();
		fatal = step;
		mg_define_on_step(die);
		(void)define(sql, &err);
		_exit(1);
	}
	int status = 0;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	open_again();
}

/* What was begun is swept by a thread of the engine. */
static void await_tables(int64_t count)
{
	for (int i = 0; i < 600 && stored_tables() != count; i++) {
		mg_sleep_ms(50);
	}
	assert_int_equal(stored_tables(), count);
}

static bool can_fork(void)
{
#if defined(__SANITIZE_THREAD__)
	print_message("fork is not possible under TSan\n");
	return false;
#else
	return true;
#endif
}

static void test_killed_between_steps(void **state)
{
	static const char rows[] = "SELECT count(*), count(DISTINCT k), sum(k), sum(d) FROM t";
	static const char all[] = "count_star() BIGINT|count(DISTINCT k) BIGINT|sum(k) HUGEINT|sum(d) "
							  "DECIMAL(38,2)|\n200|200|19900|4975.00|\n";
	struct mg_error err;

	(void)state;
	if (!can_fork()) {
		return;
	}
	for (enum mg_define_step step = MG_DEFINE_MADE; step <= MG_DEFINE_PUBLISHED; step++) {
		bool done = step == MG_DEFINE_PUBLISHED;

		killed_at(step, "ALTER TABLE t ADD COLUMN c INTEGER DEFAULT 5");
		is(rows, all);
		assert_int_equal(define("ALTER TABLE t ADD COLUMN c VARCHAR", &err),
		                 done ? MG_E_DUPLICATE : 0);
		is(rows, all);
		await_tables(KIT_SHARDS + 1);
		defined("ALTER TABLE t DROP COLUMN c");
		killed_at(step, "ALTER TABLE t RESET PARTITIONED BY");
		is(rows, all);
		await_tables(done ? 2 : KIT_SHARDS + 1);
		defined("ALTER TABLE t SET PARTITIONED BY (k)");
		is(rows, all);
		await_tables(KIT_SHARDS + 1);
	}
}

static void test_create_and_drop_killed_between_steps(void **state)
{
	static const char create[] = "CREATE TABLE c PARTITIONED BY (k) AS SELECT k, a FROM t";
	struct mg_error err;

	(void)state;
	if (!can_fork()) {
		return;
	}
	for (enum mg_define_step step = MG_DEFINE_MADE; step <= MG_DEFINE_FILLED; step++) {
		killed_at(step, create);
		assert_int_equal(define("DROP TABLE c", &err), MG_E_NO_TABLE);
		await_tables(KIT_SHARDS + 1);
	}
	killed_at(MG_DEFINE_PUBLISHED, create);
	is("SELECT count(*), sum(k) FROM c", "count_star() BIGINT|sum(k) HUGEINT|\n200|19900|\n");
	assert_int_equal(stored_tables(), 2 * KIT_SHARDS + 1);
	killed_at(MG_DEFINE_PUBLISHED, "DROP TABLE c");
	assert_int_equal(define("DROP TABLE c", &err), MG_E_NO_TABLE);
	await_tables(KIT_SHARDS + 1);
	is("SELECT count(*), sum(k) FROM t", "count_star() BIGINT|sum(k) HUGEINT|\n200|19900|\n");
}

int main(void)
{
	const struct CMUnitTest tests_of_alter[] = {
		cmocka_unit_test_setup_teardown(test_columns, begin, end),
		cmocka_unit_test_setup_teardown(test_a_default_is_evaluated_once, begin, end),
		cmocka_unit_test_setup_teardown(test_partitions, begin, end),
		cmocka_unit_test_setup_teardown(test_names, begin, end),
		cmocka_unit_test_setup_teardown(test_the_wall, begin, end),
		cmocka_unit_test_setup_teardown(test_a_plan_and_its_tables_are_of_one_version, begin,
		                                end),
		cmocka_unit_test_setup_teardown(test_killed_between_steps, begin, end),
		cmocka_unit_test_setup_teardown(test_create_and_drop_killed_between_steps, begin, end),
	};

	return cmocka_run_group_tests(tests_of_alter, NULL, NULL);
}
