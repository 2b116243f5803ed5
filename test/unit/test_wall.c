/*
 * test_wall.c - what a client's text can reach: the planning database with the wall before it.
 *
 * Rules: text that asks for files, secrets, settings, logs or other SQL ends with an error; text
 * that is harmless but not on our lists may only run as the plan that we print; what is let through
 * is what the lists name.  The lists hold every function that this engine has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/clock.h"
#include "sql/plandb.h"
#include "sql/wall.h"
#include "store/duck.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct mg_plandb *plandb;
static char csv[64];

static int open_all(void **state)
{
	struct mg_error err;
	static const char *const setup[] = {
		"CREATE TABLE t (a INTEGER, b VARCHAR, s STRUCT(x INTEGER), l INTEGER[])",
		"INSERT INTO t SELECT i, i::VARCHAR, {'x': i}, [i] FROM range(100) r(i)",
		"CREATE VIEW v AS SELECT a FROM t",
		"CREATE SCHEMA cluster; CREATE TABLE cluster.nodes (id VARCHAR)",
		"CREATE TABLE \"a.b\" (a INTEGER)",
		"CREATE TYPE mood AS ENUM ('x', 'y')",
		"CREATE SEQUENCE seq",
		"CREATE TABLE lineitem (k INTEGER)",
	};
	FILE *file;

	(void)state;
	(void)snprintf(csv, sizeof csv, "/tmp/mg_wall_%d.csv", (int)getpid());
	file = fopen(csv, "w");
	if (!file) {
		return -1;
	}
	(void)fputs("secret\n42\n", file);
	(void)fclose(file);
	int code = mg_plandb_open(&plandb, &err);

	for (size_t i = 0; !code && i < sizeof setup / sizeof *setup; i++) {
		code = mg_plandb_exec(plandb, setup[i], &err);
	}
	code = code ? code : mg_plandb_seal(plandb, &err);
	if (code) {
		fprintf(stderr, "%s\n", err.message);
	}
	return code;
}

static int close_all(void **state)
{
	(void)state;
	(void)unlink(csv);
	mg_plandb_close(plandb);
	return 0;
}

struct answer {
	int code;
	bool text_refused, catalog_only, root;
	char message[300];
	char sqlstate[6];
	uint8_t origin;
};

static struct answer ask(const char *sql)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_bound bound;
	struct mg_error err;
	struct answer answer = { 0 };

	mg_error_clear(&err);
	answer.code = mg_plandb_bind(plandb, arena, NULL, sql, &bound, &err);
	if (answer.code) {
		mg_copy_text(answer.message, sizeof answer.message, err.message);
		mg_copy_text(answer.sqlstate, sizeof answer.sqlstate, err.sqlstate);
		answer.origin = err.origin;
	} else {
		answer.text_refused = bound.text_refused != NULL;
		answer.catalog_only = bound.catalog_only;
		answer.root = bound.root != NULL;
		mg_copy_text(answer.message, sizeof answer.message,
		             bound.unsupported    ? bound.unsupported
		             : bound.text_refused ? bound.text_refused
		                                  : "");
	}
	mg_arena_free(arena);
	return answer;
}

static void denied(const char *sql, int code)
{
	struct answer answer = ask(sql);

	if (answer.code != code) {
		fail_msg("%s: code %d for %d: %s", sql, answer.code, code, answer.message);
	}
}

static void test_files_are_out_of_reach(void **state)
{
	static const char *const functions[] = { "read_csv",
		                                     "read_csv_auto",
		                                     "read_json",
		                                     "read_ndjson",
		                                     "read_text",
		                                     "read_blob",
		                                     "read_parquet",
		                                     "parquet_scan",
		                                     "parquet_metadata",
		                                     "parquet_schema",
		                                     "glob",
		                                     "sniff_csv",
		                                     "read_duckdb",
		                                     "READ_CSV",
		                                     "\"read_csv\"",
		                                     "main.read_csv",
		                                     "system.main.read_csv",
		                                     "read_json_objects",
		                                     "parquet_file_metadata" };
	char sql[300];

	(void)state;
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
		(void)snprintf(sql, sizeof sql, "SELECT * FROM %s('%s')", functions[i], csv);
		denied(sql, MG_E_DENIED);
		(void)snprintf(sql, sizeof sql, "SELECT a FROM t WHERE a IN (SELECT 1 FROM %s('%s'))",
		               functions[i], csv);
		denied(sql, MG_E_DENIED);
		(void)snprintf(sql, sizeof sql,
		               "WITH x AS MATERIALIZED (FROM %s('%s')) SELECT (SELECT count(*) FROM x)",
		               functions[i], csv);
		denied(sql, MG_E_DENIED);
	}
	(void)snprintf(sql, sizeof sql, "SELECT * FROM '%s'", csv);
	denied(sql, MG_E_NO_TABLE);
	(void)snprintf(sql, sizeof sql, "FROM \"%s\"", csv);
	denied(sql, MG_E_NO_TABLE);
	(void)snprintf(sql, sizeof sql, "DESCRIBE FROM '%s'", csv);
	assert_int_not_equal(ask(sql).code, 0);
	(void)snprintf(sql, sizeof sql, "SUMMARIZE '%s'", csv);
	assert_int_not_equal(ask(sql).code, 0);
	denied("FROM 'x.parquet'", MG_E_NO_TABLE);
	denied("FROM 'https://example.com/x.parquet'", MG_E_NO_TABLE);
	denied("FROM 's3://b/*.json'", MG_E_NO_TABLE);
	denied("FROM (FROM (SELECT * FROM t JOIN '../x.csv' USING (a)))", MG_E_NO_TABLE);
	denied("FROM t, LATERAL (FROM 'x.db')", MG_E_NO_TABLE);
	denied("PIVOT 'x.csv' ON a IN (1) USING count(*)", MG_E_NO_TABLE);
	denied("FROM main.\"x.csv\"", MG_E_NO_TABLE);
	assert_int_equal(ask("FROM \"a.b\"").code, 0); /* a table may be called so */
	assert_string_equal(ask("FROM 'x.parquet'").sqlstate, "42P01");
}

static void test_secrets_settings_logs_and_other_sql(void **state)
{
	static const char *const texts[] = {
		"FROM duckdb_secrets()",
		"FROM duckdb_settings()",
		"FROM duckdb_logs()",
		"FROM duckdb_logs",
		"FROM main.duckdb_logs",
		"FROM pg_settings",
		"FROM pg_catalog.pg_settings",
		"FROM duckdb_extensions()",
		"FROM duckdb_variables()",
		"FROM duckdb_temporary_files()",
		"FROM duckdb_external_file_cache()",
		"FROM duckdb_memory()",
		"FROM which_secret('x', 's3')",
		"FROM query('SELECT 1')",
		"FROM query_table('t')",
		"FROM query_table(['t'])",
		"FROM query(CASE WHEN random() < 0.5 THEN 'SELECT 1' ELSE 'FROM duckdb_secrets()' END)",
		"SELECT json_serialize_plan('SELECT 1')",
		"SELECT json_serialize_sql('SELECT 1')",
		"FROM json_execute_serialized_sql('{}')",
		"SELECT json_deserialize_sql('{}')",
		"SELECT getvariable('x')",
		"SELECT list_transform([1], lambda x: getvariable('x'))",
		"SELECT a FROM t ORDER BY getvariable('x')",
		"SELECT count(*) FILTER (WHERE getvariable('x')) FROM t",
		"SELECT sum(a) OVER (PARTITION BY getvariable('x')) FROM t",
		"SELECT [getvariable('x')]",
		"SELECT {'a': getvariable('x')}",
		"SELECT CASE WHEN true THEN getvariable('x') END",
		"SELECT * REPLACE (getvariable('x') AS a) FROM t",
		"SELECT a FROM t GROUP BY getvariable('x'), a",
		"SELECT a FROM t LIMIT (SELECT getvariable('x'))",
		"SELECT a FROM t QUALIFY getvariable('x')",
		"SELECT DISTINCT ON (getvariable('x')) a FROM t",
		"VALUES (getvariable('x'))",
		"SELECT 1 UNION ALL SELECT getvariable('x')",
		"SELECT CAST(getvariable('x') AS INTEGER)",
		"FROM range(getvariable('x'))",
		"SELECT x.getvariable() FROM (SELECT 'a' AS x)",
		"SELECT a IN (getvariable('x')) FROM t",
		"SELECT a BETWEEN 1 AND getvariable('x') FROM t",
		"SELECT getvariable('x') COLLATE nocase",
		"SELECT EXISTS (SELECT getvariable('x'))",
		"SELECT COLUMNS(c -> getvariable(c)) FROM t",
		"SELECT current_setting('secret_directory')",
		"SELECT current_setting('home' || '_directory')",
		"SELECT current_setting(b) FROM t",
		"SELECT write_log('x')",
		"SELECT sleep_ms(100000)",
		"SELECT pg_sleep(10)",
		"FROM checkpoint()",
		"FROM force_checkpoint()",
		"FROM enable_logging()",
		"FROM enable_logging(storage := 'file')",
		"FROM disable_logging()",
		"FROM truncate_duckdb_logs()",
		"FROM enable_profiling()",
		"FROM pragma_database_size()",
		"FROM pragma_storage_info('t')",
		"FROM pragma_metadata_info()",
		"FROM seq_scan('t')",
		"FROM arrow_scan(1, 2, 3)",
		"FROM arrow_scan_dumb(1, 2, 3)",
		"FROM test_vector_types(1)",
		"FROM merganser_exchange(1)",
		"FROM merganser_feed()",
		"SELECT mg_node()",
		"SELECT mg_mine(a) FROM t",
		"SELECT mg_slot(a) FROM t",
		"FROM histogram(t, a)",
		"FROM histogram_values(t, a)",
		"SELECT combine(a, a) FROM t",
		"SELECT finalize(a) FROM t",
		"SELECT get_block_size('x')",
		"FROM duckdb_profiling_settings()",
		"SELECT __internal_decompress_string(1::HUGEINT)",
		"SELECT setseed(0.5)",
		"FROM dbgen(sf := 1)",
		"FROM tpch_queries()",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		denied(texts[i], MG_E_DENIED);
	}
	denied("FROM no_such_function(1)", MG_E_NO_FUNCTION);
}

static void test_only_one_statement_that_reads(void **state)
{
	static const char *const texts[] = {
		"SELECT 1; DROP TABLE t",
		"SELECT 1; SELECT 2",
		"DROP TABLE t",
		"INSERT INTO t VALUES (1)",
		"DELETE FROM t",
		"UPDATE t SET a = 1",
		"CREATE TABLE x (a INTEGER)",
		"COPY t TO '/tmp/x'",
		"COPY (SELECT 1) TO '/tmp/x'",
		"ATTACH 'x'",
		"DETACH memory",
		"PRAGMA database_list",
		"CALL enable_logging()",
		"SET threads = 1",
		"RESET threads",
		"LOAD x",
		"INSTALL x",
		"EXPORT DATABASE 'x'",
		"CHECKPOINT",
		"VACUUM",
		"EXPLAIN SELECT 1",
		"EXPLAIN ANALYZE SELECT 1",
		"PREPARE x AS SELECT 1",
		"EXECUTE x",
		"BEGIN",
		"COMMIT",
		"USE memory",
		"WITH x AS (SELECT 1) INSERT INTO t SELECT 1",
		"CREATE MACRO f(x) AS x",
		"GRANT SELECT ON t TO u",
		"ANALYZE t",
		"PIVOT t ON a USING sum(a)",
		"/* x */ DROP TABLE t --",
		"IMPORT DATABASE 'x'",
		"SET VARIABLE x = 1",
	};
	int64_t rows = 0;
	struct mg_duck_conn *conn;
	struct mg_error err;

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (ask(texts[i]).code == 0) {
			fail_msg("%s: let through", texts[i]);
		}
	}
	/* Nothing of that was done. */
	assert_int_equal(mg_plandb_borrow(plandb, NULL, &conn, &err), 0);
	assert_int_equal(mg_duck_int(conn, "SELECT count(*) FROM t", &rows, &err), 0);
	mg_plandb_give_back(plandb, conn);
	assert_int_equal(rows, 100);
	assert_int_not_equal(access("/tmp/x", F_OK), 0);
}

static void test_text_that_may_run(void **state)
{
	static const char *const texts[] = {
		"SELECT a, sum(a), upper(b) FROM t WHERE a > 3 GROUP BY ALL ORDER BY 1 LIMIT 3",
		"FROM t",
		"SELECT * FROM main.t",
		"WITH x AS (SELECT a FROM t) SELECT * FROM x JOIN t USING (a)",
		"SELECT 1",
		"FROM range(10) r(i), generate_series(1, i)",
		"SELECT unnest(l), l[1], s.x, [x + 1 FOR x IN l IF x > 2], list_transform(l, lambda y: y + "
		"1) FROM t",
		"SELECT t FROM t",
		"SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t",
		"SELECT CASE WHEN a IN (1, 2) THEN 'x' ELSE b END FROM t",
		"SELECT a::VARCHAR, TRY_CAST(b AS INTEGER), '{}'::JSON, b COLLATE nocase FROM t",
		"SELECT now(), random(), uuid(), version()",
		"SELECT DISTINCT ON (a) * FROM t ORDER BY a",
		"FROM (PIVOT t ON a IN (1, 2) USING count(*) GROUP BY b)",
		"VALUES (1), (2)",
		"SELECT * FROM t TABLESAMPLE 10%",
		"SELECT * FROM json_each('[1]')",
		"SELECT a FROM t UNION ALL SELECT a FROM t EXCEPT SELECT 3",
		"WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 5) FROM r",
		"SELECT #1 FROM t",
		"SELECT COLUMNS('a') FROM t",
		"SELECT * EXCLUDE (a) REPLACE (b || 'x' AS b) FROM t",
		"SELECT x.a FROM t x POSITIONAL JOIN t y",
		"SELECT a FROM t QUALIFY rank() OVER (ORDER BY a) < 3",
		"SELECT main.abs(a) FROM t",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct answer answer = ask(texts[i]);

		if (answer.code || answer.text_refused || answer.catalog_only) {
			fail_msg("%s: refused: %s", texts[i], answer.message);
		}
	}
}

static void test_text_that_runs_only_as_a_plan(void **state)
{
	static const char *const texts[] = {
		"SELECT current_database()",
		"SELECT current_user",
		"SELECT current_setting('TimeZone')",
		"FROM v",
		"FROM merganser.main.t",
		"SELECT a, 'x'::mood FROM t",
		"SELECT rowid FROM t",
		"SELECT t.rowid FROM t",
		"SELECT a FROM t ORDER BY rowid",
		"SELECT a FROM t WHERE rowid = 1",
		"WITH t AS (SELECT 1 AS rowid) SELECT rowid FROM t",
		"SELECT pg_typeof(a) FROM t",
		"WITH x AS (FROM v) FROM x",
		"SELECT in_search_path('main', 'main')",
		"SELECT merganser.main.t.a FROM t",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct answer answer = ask(texts[i]);

		if (answer.code || !answer.text_refused || answer.catalog_only) {
			fail_msg("%s: code %d, refused %d, catalog %d: %s", texts[i], answer.code,
			         answer.text_refused, answer.catalog_only, answer.message);
		}
	}
	assert_false(ask("SELECT rowid FROM t").root);
}

static void test_catalog_questions(void **state)
{
	static const char *const texts[] = {
		"SHOW TABLES",
		"SHOW ALL TABLES",
		"SHOW DATABASES",
		"DESCRIBE t",
		"DESCRIBE SELECT a, 1 FROM t",
		"SHOW t",
		"FROM duckdb_tables()",
		"FROM information_schema.tables",
		"SELECT * FROM information_schema.columns WHERE table_name = 't'",
		"FROM pg_catalog.pg_class",
		"FROM pg_class",
		"FROM duckdb_columns()",
		"FROM duckdb_functions()",
		"SELECT count(*) FROM cluster.nodes",
		"FROM duckdb_views",
		"WITH x AS (FROM duckdb_tables()) SELECT * FROM x, (VALUES (1)) v(i)",
		"FROM sqlite_master",
		"FROM pragma_table_info('t')",
		"SELECT table_name FROM (SHOW TABLES) s(table_name)",
		"SHOW TABLES FROM main",
		"SELECT nextval('seq')",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct answer answer = ask(texts[i]);

		if (answer.code || !answer.catalog_only) {
			fail_msg("%s: code %d, catalog %d: %s", texts[i], answer.code, answer.catalog_only,
			         answer.message);
		}
	}
	/* Samples must not be taken for the data: a user's table next to the catalog is no catalog
	 * question. */
	assert_false(ask("SELECT * FROM t, duckdb_tables()").catalog_only);
	assert_false(
		ask("WITH t AS (SELECT * FROM t) SELECT count(*) FROM t, duckdb_tables()").catalog_only);
	assert_false(
		ask("SELECT (SELECT count(*) FROM t), count(*) FROM duckdb_tables()").catalog_only);
	assert_false(ask("SELECT 1").catalog_only);
	assert_false(ask("(WITH lineitem AS (SELECT 1 AS k) FROM lineitem) UNION ALL SELECT k FROM "
	                 "lineitem, duckdb_tables()")
	                 .catalog_only);
	assert_false(ask("SUMMARIZE t").catalog_only);

	/* Nor is a user's table that is called like one of the catalog's. */
	struct mg_error err;

	assert_true(ask("FROM pg_type").catalog_only);
	assert_int_equal(mg_plandb_exec(plandb, "CREATE TABLE pg_type (a INTEGER)", &err), 0);
	assert_false(ask("FROM pg_type").catalog_only);
	assert_true(ask("FROM pg_catalog.pg_type").catalog_only);
	assert_int_equal(mg_plandb_exec(plandb, "DROP TABLE pg_type", &err), 0);
}

static void test_errors_keep_the_engines_words(void **state)
{
	struct answer answer = ask("SELECT nope FROM t");

	(void)state;
	assert_int_equal(answer.code, MG_E_NO_COLUMN);
	assert_string_equal(answer.sqlstate, "42703");
	assert_int_equal(answer.origin, MG_ORIGIN_PLANNER);
	answer = ask("SELEC 1");
	assert_int_equal(answer.code, MG_E_SYNTAX);
	assert_int_equal(answer.origin, MG_ORIGIN_PARSER);
	assert_string_equal(ask("FROM nope").sqlstate, "42P01");
	assert_string_equal(ask("SELECT nope(1)").sqlstate, "42883");
	assert_string_equal(ask("SELECT a FROM t WHERE sum(a) > 1").sqlstate, "42803");
	assert_int_equal(ask("SELECT 'x'::INTEGER").code, 0); /* fails when it runs, not before */
	assert_int_not_equal(ask("SELECT 1 +").code, 0);
	assert_int_not_equal(ask("").code, 0);
	assert_int_not_equal(ask("SELECT ?").code, 0);

	struct mg_arena *arena = mg_arena_new();
	struct mg_bound bound;
	struct mg_error err;

	assert_int_equal(mg_plandb_bind(plandb, arena, NULL, "SELECT nope FROM t", &bound, &err),
	                 MG_E_NO_COLUMN);
	assert_non_null(strstr(err.detail, "LINE 1: SELECT nope FROM t"));
	mg_arena_free(arena);
}

static void test_names_of_arguments(void **state)
{
	(void)state;
	denied("SELECT mg_histogram(a, bins := 3, range := [0, 1]) FROM t", 0);
	denied("SELECT mg_histogram2d(a, a, range := [[0, 1], [0, 1]], BINS := [3, 4]) FROM t", 0);
	denied("SELECT mg_histogram(a, bin := 3) FROM t", MG_E_BIND);
	denied("SELECT 1 FROM (SELECT 1 + mg_histogram(a, range := 3).counts[1] FROM t)", MG_E_BIND);
	denied("SELECT mg_histogram(a, bins := [0, 1]) FROM t", MG_E_BIND);
	denied("SELECT crossmatch(targets := [[a, a]], coord := [a, a], 1) FROM t", MG_E_BIND);
	denied("SELECT sum(x := a) FROM t", 0); /* as DuckDB */
}

static void test_histograms_are_no_window_functions(void **state)
{
	static const char *const texts[] = {
		"SELECT mg_histogram(a) OVER () FROM t",
		"SELECT main.\"MG_Histogram\"(a, 3, [0, 1]) OVER w FROM t WINDOW w AS (ORDER BY a)",
		"SELECT 1 + len((mg_histogram2d(a, a) OVER (PARTITION BY b)).counts) FROM t",
		"SELECT a FROM t QUALIFY mg_histogram(a) FILTER (a > 1) OVER () IS NULL",
		"SELECT a FROM t ORDER BY mg_histogram(DISTINCT a) OVER ()",
		"WITH h AS (SELECT mg_histogram(a) h FROM t GROUP BY b) SELECT mg_histogram_sum(h) OVER "
		"(ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM h",
		"SELECT (SELECT mg_histogram2d_sum(h) OVER () FROM (SELECT mg_histogram2d(a, a) h FROM t))",
		"SELECT sum(sum(len(mg_histogram(a).counts))) OVER (), mg_histogram(sum(a)) OVER () FROM t",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		denied(texts[i], MG_E_UNSUPPORTED);
		assert_non_null(strstr(ask(texts[i]).message, " is no window function"));
	}
	denied("SELECT minmax(a) OVER () FROM t", 0);
	denied("SELECT sum(len(mg_histogram(a).counts)) OVER () FROM t GROUP BY a", 0);
	denied("SELECT b, (SELECT mg_histogram(u.a) FROM t u WHERE u.a <= t.a) FROM t", 0);
}

static void test_planning_ends_in_time(void **state)
{
	struct answer answer;

	(void)state;
	mg_plandb_set_limit(plandb, 100);
	/* current_user is only the planner's to give, so the text needs a plan. */
	answer = ask("SELECT length(repeat('x', 50000000)), length(repeat('y', 50000000)), "
	             "current_user");
	mg_plandb_set_limit(plandb, 10000);
	assert_int_equal(answer.code, MG_E_TIMEOUT);
	assert_int_equal(ask("SELECT a FROM t").code, 0); /* the connection is usable at once */
}

static void test_every_function_is_on_a_list(void **state)
{
	struct mg_duck_conn *conn;
	struct mg_error err;
	char *names = NULL;
	size_t checked = 0;

	(void)state;
	assert_int_equal(mg_plandb_borrow(plandb, NULL, &conn, &err), 0);
	for (int table = 0; table < 2; table++) {
		assert_int_equal(
			mg_duck_text(
				conn,
				table ? "SELECT string_agg(DISTINCT function_name, ' ') FROM duckdb_functions() "
						"WHERE internal AND function_type IN ('table', 'table_macro')"
					  : "SELECT string_agg(DISTINCT function_name, ' ') FROM duckdb_functions() "
						"WHERE internal AND function_type IN ('scalar', 'aggregate', 'macro')",
				&names, &err),
			0);
		for (char *save, *name = strtok_r(names, " ", &save); name;
		     name = strtok_r(NULL, " ", &save)) {
			if ((table ? mg_table_function_class(name) : mg_function_class(name)) ==
			    MG_FUNCTION_UNKNOWN) {
				fail_msg("function %s is on no list", name);
			}
			checked++;
		}
		mg_free(names);
	}
	mg_plandb_give_back(plandb, conn);
	assert_true(checked > 600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_are_out_of_reach),
		cmocka_unit_test(test_secrets_settings_logs_and_other_sql),
		cmocka_unit_test(test_only_one_statement_that_reads),
		cmocka_unit_test(test_text_that_may_run),
		cmocka_unit_test(test_text_that_runs_only_as_a_plan),
		cmocka_unit_test(test_catalog_questions),
		cmocka_unit_test(test_errors_keep_the_engines_words),
		cmocka_unit_test(test_names_of_arguments),
		cmocka_unit_test(test_histograms_are_no_window_functions),
		cmocka_unit_test(test_planning_ends_in_time),
		cmocka_unit_test(test_every_function_is_on_a_list),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
