/*
 * test_write.c - statements that write, against plain DuckDB: the rows of the redo, the count,
 * RETURNING, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "write_kit.h"

static const struct kit_table tables[] = {
	{ .schema = "main",
	  .name = "t",
	  .columns = { { "k", "BIGINT", true },
	               { "a", "INTEGER", false },
	               { "b", "VARCHAR", false },
	               { "d", "DECIMAL(10,2)", false } },
	  .keys = { "k" },
	  .rows = "SELECT i, i % 7, 'x' || i, i / 4 FROM range(200) r(i)" },
	{ .schema = "main",
	  .name = "r",
	  .columns = { { "id", "INTEGER", true }, { "name", "VARCHAR", false } },
	  .rows = "SELECT i, 'n' || i FROM range(10) r(i)" },
	{ .schema = "s",
	  .name = "Odd name",
	  .columns = { { "a b", "VARCHAR", false }, { "slot", "INTEGER", false }, { "rid", "DATE" } },
	  .keys = { "a b", "slot" },
	  .rows = "SELECT 'q' || i, i, DATE '2020-01-01' + i::INT FROM range(30) r(i)" },
	{ .schema = "main",
	  .name = "types",
	  .columns = { { "k", "VARCHAR", false },
	               { "e", "ENUM('low', 'mid', 'high')", false },
	               { "l", "INTEGER[]", false },
	               { "st", "STRUCT(x INTEGER, y VARCHAR)", false },
	               { "h", "HUGEINT", false },
	               { "u", "UUID", false },
	               { "ts", "TIMESTAMP WITH TIME ZONE", false },
	               { "j", "JSON", false },
	               { "m", "MAP(VARCHAR, INTEGER)", false },
	               { "bl", "BLOB", false },
	               { "iv", "INTERVAL", false } },
	  .keys = { "k" },
	  .rows =
	      "SELECT 'k' || i, 'mid', [i, NULL], {'x': i, 'y': 'z'}, i::HUGEINT << 70, "
	      "'00000000-0000-0000-0000-00000000000' || i % 10, TIMESTAMPTZ '2020-01-01 00:00:00+00' "
	      "+ INTERVAL (i) HOUR, '{\"a\": ' || i || '}', MAP {'q': i::INT}, 'ab'::BLOB, INTERVAL "
	      "(i) DAY FROM range(20) r(i)" },
};

static int open_all(void **state)
{
	(void)state;
	kit_open(tables, sizeof tables / sizeof *tables);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	kit_close();
	return 0;
}

static void test_values(void **state)
{
	static const char *const texts[] = {
		"INSERT INTO t VALUES (1000, 1, 'a', 1.5)",
		"INSERT INTO t VALUES (1000, 1, 'a', 1.5), (1001, 2, 'b', '2.25'), (-5, NULL, NULL, NULL)",
		"INSERT INTO t (b, k) VALUES ('only', 7), (DEFAULT, 8)",
		"insert into main.t (k) values ('12')",
		"INSERT INTO merganser.main.t (k, a) VALUES (1 + 1, length('abc'))",
		"WITH x AS (SELECT 5 AS q) INSERT INTO t (k) VALUES ((SELECT q FROM x))",
		"INSERT INTO t (k) VALUES (1) -- end",
		"INSERT INTO t AS other (k) VALUES (1)",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (strncmp(texts[i], "INSERT INTO merganser", 21) == 0) {
			continue;
		}
		kit_same("main", "t", texts[i]);
	}
	kit_same("main", "r", "INSERT INTO r VALUES (100, 'x'), (101, 'y')");
	kit_same("s", "Odd name", "INSERT INTO s.\"Odd name\" VALUES ('x', 1, '2021-02-03')");
	kit_same("s", "Odd name", "INSERT INTO s.\"Odd name\" (slot, \"A B\") VALUES (NULL, NULL)");
}

static void test_every_type(void **state)
{
	(void)state;
	kit_same("main", "types",
	         "INSERT INTO types VALUES ('a', 'high', [1, 2, NULL], {'x': 1, 'y': 'q'}, "
	         "170141183460469231731687303715884105727, '0a0b0c0d-0000-0000-0000-000000000001', "
	         "'2024-05-06 07:08:09+02', '[1, {\"a\": null}]', MAP {'a': 1}, '\\xAA'::BLOB, "
	         "INTERVAL 3 MONTH)");
	kit_same("main", "types", "INSERT INTO types SELECT * FROM types");
	kit_same("main", "types", "INSERT INTO types BY NAME SELECT 'low' AS e, NULL AS st, [] AS l");
	kit_same("main", "types", "INSERT INTO types (k, e) SELECT k, e FROM types WHERE k <> 'k3'");
	kit_same("main", "types",
	         "INSERT INTO types VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
	         "NULL, NULL, NULL, NULL)");
}

static void test_select(void **state)
{
	static const char *const texts[] = {
		"INSERT INTO t SELECT k + 1000, a, b, d FROM t",
		"INSERT INTO t SELECT id, id, name, id FROM r",
		"INSERT INTO t (a, k) SELECT count(*), a FROM t GROUP BY a",
		"INSERT INTO t BY NAME SELECT 'q' AS B, k FROM t WHERE k < 10",
		"INSERT INTO t BY POSITION SELECT k, 1, 'x', 2 FROM t WHERE k < 3",
		"INSERT INTO t FROM t",
		"INSERT INTO t FROM t SELECT k, a, b, d WHERE k > 190",
		"INSERT INTO t TABLE t",
		"INSERT INTO t (SELECT * FROM t ORDER BY k LIMIT 3)",
		"INSERT INTO t (k) (SELECT 5)",
		"WITH t AS (SELECT 77 AS k) INSERT INTO t (k) SELECT k FROM t",
		"WITH x AS (SELECT 3 AS q) INSERT INTO t (k) SELECT q FROM x UNION ALL SELECT id FROM r",
		"INSERT INTO t (k) WITH x AS (SELECT 3 AS q) SELECT q FROM x",
		"INSERT INTO t (k, a) SELECT x.k, y.a FROM t x JOIN t y ON x.k = y.k * 2",
		"INSERT INTO t (k) VALUES ((SELECT max(k) FROM t))",
		"INSERT INTO t (k) SELECT k FROM v WHERE k = 3",
		"INSERT INTO t (k, b) SELECT k, NULL FROM t WHERE false",
		"INSERT INTO t (k, b) SELECT range, range FROM range(300000)",
		"INSERT INTO t (k, a) SELECT k, 1 FROM t JOIN r ON conflict(k) RETURNING k",
	};

	(void)state;
	for (size_t i = 0; i + 1 < sizeof texts / sizeof *texts; i++) {
		kit_same("main", "t", texts[i]);
	}
}

static void test_returning(void **state)
{
	(void)state;
	kit_same("main", "t", "INSERT INTO t VALUES (1, 2, 'c', 3) RETURNING *");
	kit_same("main", "t",
	         "INSERT INTO t (k, b) VALUES (1, 'x'), (2, NULL) RETURNING t.k * 2 AS twice, b, "
	         "upper(b), [k] AS l");
	kit_same("main", "types",
	         "INSERT INTO types (k, e, h) VALUES ('a', 'mid', 5) RETURNING e, h, k, ts");
	kit_same("main", "t", "INSERT INTO t (k) SELECT 5 FROM range(3) RETURNING k");
	kit_same("main", "t", "INSERT INTO t (k) SELECT k FROM t WHERE k < 0 RETURNING k, b");
}

static void test_insert_errors(void **state)
{
	(void)state;
	kit_fails("INSERT INTO t (a) VALUES (1)", "23502", NULL);
	kit_fails("INSERT INTO t (a) SELECT 1 FROM t", "23502", NULL);
	kit_fails("INSERT INTO t (k) VALUES ('abc')", "22P02", NULL);
	kit_fails("INSERT INTO t (k) SELECT b FROM t WHERE k = 3", "22P02", NULL);
	kit_fails("INSERT INTO t (k, a) VALUES (1, 99999999999)", "22003", NULL);
	kit_fails("INSERT INTO t (nope) VALUES (1)", "42000", NULL);
	kit_fails("INSERT INTO t (k, k) VALUES (1, 1)", "42000", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1, 2)", "42000", NULL);
	kit_fails("INSERT INTO t (k) SELECT 1, 2 FROM t", "42000", NULL);
	kit_fails("INSERT INTO t (k) SELECT nope FROM t", "42703", NULL);
	kit_fails("INSERT INTO t BY NAME SELECT 1 AS nope", "42000", NULL);
	kit_fails("INSERT INTO nope VALUES (1)", "42P01", NULL);
	kit_fails("INSERT INTO t SELEC 1", "42601", NULL);
	kit_fails("INSERT INTO t (k VALUES (1)", "42601", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING (SELECT 1)", "0A000", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING nope", "42703", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING rowid", "42703", NULL);
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING count(*)", "0A000", NULL);
	kit_fails("INSERT INTO types (k, e) VALUES ('a', 'nope')", "22P02", NULL);
	kit_fails("INSERT INTO v VALUES (1)", "42809", "INSERT needs a table, and \"v\" is a view");
	kit_fails("INSERT INTO t (k) SELECT rowid FROM t", "0A000", "");
	kit_fails("INSERT INTO t (b, k) VALUES (getenv('HOME'), 1)", "42501", "");
	kit_fails("INSERT INTO t (b, k) SELECT content, 1 FROM read_text('/etc/passwd')", "42501", "");
	kit_fails("INSERT INTO t (k) VALUES (1) RETURNING getenv('HOME')", "42501", "");
	kit_fails("INSERT INTO t (k) FROM '/etc/passwd'", "42P01", "");
	kit_fails("MERGE INTO t USING r ON true WHEN MATCHED THEN DELETE", "0A000", "MERGE");
}

/* What was tried leaves nothing behind: neither rows nor a transaction. */
static void test_planning_database_stays_as_it_was(void **state)
{
	struct mg_plandb *plandb = mg_engine_plandb(kit_engine);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct mg_duck_conn *conn = NULL;
		struct mg_error err;
		int64_t count = 0;

		kit_fails("INSERT INTO t (a) VALUES (1)", "23502", NULL);
		kit_same("main", "t", "INSERT INTO t (k) VALUES (5000) RETURNING k");
		kit_must(mg_plandb_borrow(plandb, NULL, &conn, &err), &err, "borrow");
		kit_must(mg_duck_int(conn, "SELECT count(*) FROM t", &count, &err), &err, "count");
		kit_must(mg_duck_exec(conn, "BEGIN; ROLLBACK", &err), &err, "transaction");
		mg_plandb_give_back(plandb, conn);
		assert_int_equal(count, 200);
	}
}

static void test_cancelled(void **state)
{
	const struct mg_write_request request = { .statement = mg_str(
												  "INSERT INTO t (k) SELECT 1 FROM range(100)") };
	struct mg_redo *redo = mg_redo_new();
	struct mg_run *run = mg_run_new();
	struct mg_write_result result;
	struct mg_error err;

	(void)state;
	mg_run_cancel(run, MG_E_CANCELLED);
	assert_int_equal(mg_write_rows(kit_engine, run, &kit_settings, &request, redo, &result, &err),
	                 MG_E_CANCELLED);
	mg_write_result_fini(&result);
	mg_run_free(run);
	mg_redo_free(redo);
}

static void test_target(void **state)
{
	static const struct {
		const char *text;
		bool reads;
	} cases[] = {
		{ "INSERT INTO t (k) VALUES (1)", false },
		{ "INSERT INTO T (k) VALUES (1) RETURNING k", false },
		{ "INSERT INTO t (k) VALUES ((SELECT 1))", true },
		{ "INSERT INTO t FROM t", true },
		{ "WITH x AS (SELECT 1) INSERT INTO t (k) VALUES (1)", true },
		{ "UPDATE t SET a = 1", true },
		{ "DELETE FROM t", true },
		{ "TRUNCATE t", true },
		{ "INSERT INTO t (k) VALUES (1) ON CONFLICT DO NOTHING", true },
	};
	const struct mg_catalog_data *data = mg_catalog_take(kit_catalog);
	struct mg_arena *arena = mg_arena_new();
	struct mg_write_target target;
	struct mg_error err;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		kit_must(mg_write_target(data, arena, mg_str(cases[i].text), &target, &err), &err,
		         cases[i].text);
		assert_string_equal(target.table->name, "t");
		assert_int_equal(target.reads, cases[i].reads);
	}
	assert_int_equal(mg_write_target(data, arena, MG_STR("DELETE FROM nope"), &target, &err),
	                 MG_E_NO_TABLE);
	mg_arena_free(arena);
	mg_catalog_give(kit_catalog, data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_returning),
		cmocka_unit_test(test_insert_errors),
		cmocka_unit_test(test_planning_database_stays_as_it_was),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_target),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
