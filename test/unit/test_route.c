/* test_route.c - the router's slot of a constant is the slot that stored rows have, for every type
 * that may be routed; what is not pinned is not routed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/plan.h"
#include "sql/plandb.h"
#include "store/duck.h"

#include <stdio.h>
#include <string.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static struct mg_plandb *plandb;
static const char *key_columns[2];
static size_t key_count;

static const char table_sql[] = "CREATE TABLE t (i INTEGER, b BIGINT, h HUGEINT, u UTINYINT, s "
								"VARCHAR, d DATE, ts TIMESTAMP, tz TIMESTAMPTZ, "
								"dc DECIMAL(12,2), dw DECIMAL(30,4), v INTEGER)";

static int open_all(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_options options = { .threads = 1,
		                               .memory_bytes = 1u << 28,
		                               .lossless_arrow = true };
	mg_error_clear(&err);
	int rc = mg_duck_open(&duck, &options, &err);
	rc = rc ? rc : mg_duck_connect(duck, &conn, &err);
	rc = rc ? rc : mg_duck_exec(conn, "SET TimeZone = 'UTC'", &err);
	rc = rc ? rc : mg_plandb_open(&plandb, &err);
	rc = rc ? rc : mg_plandb_exec(plandb, table_sql, &err);
	rc = rc ? rc : mg_plandb_exec(plandb, "CREATE TABLE r (i INTEGER, w VARCHAR)", &err);
	if (rc != 0) {
		fprintf(stderr, "%s\n", err.message);
	}
	return rc;
}

static int close_all(void **state)
{
	(void)state;
	mg_plandb_close(plandb);
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

static const struct mg_table_place *find_table(void *arg, const char *schema, const char *table)
{
	static struct mg_table_place sharded;
	static const struct mg_table_place reference = { .schema = "main", .table = "r", .rows = 10 };
	(void)arg;
	(void)schema;
	sharded = (struct mg_table_place){
		.schema = "main", .table = "t", .keys = key_columns, .key_count = key_count, .rows = 1000
	};
	return strcmp(table, "t") == 0 ? &sharded : &reference;
}

static struct mg_node *bind(struct mg_arena *arena, const char *sql)
{
	struct mg_error err;
	struct mg_bound bound = { 0 };
	struct mg_plan_settings settings = { .timezone = "UTC" };
	mg_error_clear(&err);
	if (mg_plandb_bind(plandb, arena, &settings, sql, &bound, &err) != 0 || !bound.root) {
		fail_msg("%s: %s", sql, err.code ? err.message : bound.unsupported);
	}
	return bound.root;
}

/* Slot that the router finds, or -1. */
static int routed(const char *sql, const char *first, const char *second)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_plan_env env = { .arena = arena, .participants = 4, .find_table = find_table };
	uint16_t slot = 0;
	key_columns[0] = first;
	key_columns[1] = second;
	key_count = second ? 2 : 1;
	bool found = mg_plan_one_slot(&env, bind(arena, sql), &slot);
	mg_arena_free(arena);
	return found ? slot : -1;
}

static void expect_slot(const char *sql, const char *first, const char *second, const char *stored)
{
	struct mg_error err;
	int64_t want = -2;
	mg_error_clear(&err);
	if (mg_duck_int(conn, stored, &want, &err) != 0) {
		fail_msg("%s: %s", stored, err.message);
	}
	int got = routed(sql, first, second);
	if (got != want) {
		fail_msg("%s: slot %d, stored rows have %lld", sql, got, (long long)want);
	}
}

static void test_constants_lie_where_rows_lie(void **state)
{
	(void)state;
	static const struct {
		const char *where, *key, *stored;
	} cases[] = {
		{ "i = 42", "i", "42::INTEGER" },
		{ "i = -7", "i", "-7::INTEGER" },
		{ "i = 42::BIGINT", "i", "42::INTEGER" },
		{ "42 = b", "b", "42::BIGINT" },
		{ "h = 170141183460469231731687303715884105727", "h",
		  "170141183460469231731687303715884105727::HUGEINT" },
		{ "h = -5", "h", "(-5)::HUGEINT" },
		{ "u = 200", "u", "200::UTINYINT" },
		{ "s = 'it''s'", "s", "'it''s'" },
		{ "s = ''", "s", "''" },
		{ "s = 'größe, much longer than sixty-four bytes of text, so that the hash streams it'",
		  "s", "'größe, much longer than sixty-four bytes of text, so that the hash streams it'" },
		{ "d = DATE '1969-12-31'", "d", "DATE '1969-12-31'" },
		{ "d = '2024-02-29'", "d", "DATE '2024-02-29'" },
		{ "ts = '2024-02-29 12:34:56.789012'", "ts", "TIMESTAMP '2024-02-29 12:34:56.789012'" },
		{ "tz = '2024-02-29 12:34:56+02'", "tz", "TIMESTAMPTZ '2024-02-29 12:34:56+02'" },
		{ "dc = 12.50", "dc", "12.50::DECIMAL(12,2)" },
		{ "dc = 12", "dc", "12::DECIMAL(12,2)" },
		{ "dc = -0.01", "dc", "(-0.01)::DECIMAL(12,2)" },
		{ "dw = 12345678901234567890.1234", "dw", "12345678901234567890.1234::DECIMAL(30,4)" },
		{ "i IS NULL", "i", "NULL::INTEGER" },
		{ "i IN (42)", "i", "42::INTEGER" },
		{ "i = 42 AND v > 3", "i", "42::INTEGER" },
		{ "i = 42 OR (i = 42 AND v = 1)", "i", "42::INTEGER" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *sql = mg_format("SELECT sum(v) FROM t WHERE %s", cases[i].where);
		char *stored = mg_format("SELECT mg_slot(%s)", cases[i].stored);
		expect_slot(sql, cases[i].key, NULL, stored);
		mg_free(sql);
		mg_free(stored);
	}
	expect_slot("SELECT v FROM t WHERE s = 'x' AND i = 3", "i", "s", "SELECT mg_slot(3, 'x')");
	expect_slot("SELECT v FROM t WHERE s = 'x' AND i = 3", "s", "i", "SELECT mg_slot('x', 3)");
	expect_slot("SELECT v, w FROM t JOIN r ON r.i = t.v WHERE t.i = 3", "i", NULL,
	            "SELECT mg_slot(3)");
	expect_slot("SELECT x.v FROM t x JOIN t y ON x.i = y.i WHERE x.i = 3", "i", NULL,
	            "SELECT mg_slot(3)");
}

static void test_the_rest_is_not_routed(void **state)
{
	(void)state;
	static const char *const sqls[] = {
		"SELECT v FROM t",
		"SELECT v FROM t WHERE i > 3",
		"SELECT v FROM t WHERE v = 3",
		"SELECT v FROM t WHERE i IN (1, 2, 3)",
		"SELECT v FROM t WHERE i = 3 OR v = 3",
		"SELECT v FROM t WHERE i = v",
		"SELECT v FROM t WHERE i <> 3",
		"SELECT v FROM t WHERE i % 5 = 3",
		"SELECT v FROM t WHERE i = 3 UNION ALL SELECT v FROM t WHERE i = 4",
		"SELECT v FROM t WHERE i = 3 AND v IN (SELECT v FROM t)",
		"SELECT w FROM r WHERE i = 3",
	};
	for (size_t i = 0; i < sizeof sqls / sizeof *sqls; i++) {
		int slot = routed(sqls[i], "i", NULL);
		if (slot != -1) {
			fail_msg("%s: routed to slot %d", sqls[i], slot);
		}
	}
	assert_int_equal(routed("SELECT v FROM t WHERE i = 3", "i", "s"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constants_lie_where_rows_lie),
		cmocka_unit_test(test_the_rest_is_not_routed),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
