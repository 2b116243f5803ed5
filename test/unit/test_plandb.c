/*
 * test_plandb.c - the planning database: names and types, estimates, time zones, many at once; and
 * that what it plans with does not change what a statement means.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/plandb.h"
#include "store/duck.h"

#include <pthread.h>
#include <string.h>

static struct mg_plandb *plandb;
static struct mg_arena *arena;

static int open_all(void **state)
{
	static const char *const setup[] = {
		"CREATE TABLE big AS SELECT i AS id, i % 10 AS g, 'x' || i AS s FROM range(10000) r(i)",
		"CREATE TABLE small AS SELECT i AS id, i::DECIMAL(15, 2) AS d FROM range(20) r(i)",
		"CREATE TABLE empty_table (a INTEGER, j JSON, e ENUM ('x', 'y'))",
		"CREATE SCHEMA other; CREATE TABLE other.\"odd name\" (\"a b\" INTEGER)",
	};
	struct mg_error err;
	int code = mg_plandb_open(&plandb, &err);

	(void)state;
	for (size_t i = 0; !code && i < sizeof setup / sizeof *setup; i++) {
		code = mg_plandb_exec(plandb, setup[i], &err);
	}
	arena = mg_arena_new();
	return code ? code : mg_plandb_seal(plandb, &err);
}

static int close_all(void **state)
{
	(void)state;
	mg_arena_free(arena);
	mg_plandb_close(plandb);
	return 0;
}

static struct mg_bound bind(const char *sql, const char *zone)
{
	const struct mg_plan_settings settings = { .timezone = zone };
	struct mg_bound bound;
	struct mg_error err;

	if (mg_plandb_bind(plandb, arena, &settings, sql, &bound, &err)) {
		fail_msg("%s: %s", sql, err.message);
	}
	if (!bound.root && !bound.catalog_only) {
		fail_msg("%s: %s", sql, bound.unsupported);
	}
	return bound;
}

static const char *printed(const char *sql, const char *zone)
{
	struct mg_bound bound = bind(sql, zone);
	struct mg_error err;
	char *text = NULL;

	assert_int_equal(mg_plan_print(arena, bound.root, &text, &err), 0);
	return text;
}

static void test_names_and_types_are_the_texts_own(void **state)
{
	struct mg_bound bound = bind("SELECT id, id AS \"Id \"\"x\", count(*), 1 + 1, d * 2, d, 1.5e0, "
	                             "[d], {'a b': id}, id FROM "
	                             "small GROUP BY ALL",
	                             NULL);
	static const char *const names[] = {
		"id", "Id \"x", "count_star()", "(1 + 1)", "(d * 2)", "d", "1.5", "main.list_value(d)"
	};
	static const char *const types[] = { "BIGINT",  "BIGINT",         "BIGINT",
		                                 "INTEGER", "DECIMAL(18,2)",  "DECIMAL(15,2)",
		                                 "DOUBLE",  "DECIMAL(15,2)[]" };

	(void)state;
	assert_int_equal(bound.column_count, 10);
	assert_int_equal(bound.root->column_count, 10);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		assert_string_equal(bound.names[i], names[i]);
		assert_string_equal(bound.types[i], types[i]);
	}
	assert_string_equal(bound.names[9], "id");
}

static void test_aliases_of_types_survive(void **state)
{
	struct mg_bound bound = bind("SELECT j, e, coalesce(j, '{}') FROM empty_table", NULL);

	(void)state;
	assert_string_equal(bound.types[0], "JSON");
	assert_string_equal(bound.types[2], "JSON");
	assert_non_null(strstr(bound.types[1], "ENUM"));
}

/* Rows of the first node of that kind. */
static double rows_of(const struct mg_node *node, enum mg_op op)
{
	if (node->op == op) {
		return node->rows;
	}
	for (size_t i = 0; i < node->kid_count; i++) {
		double rows = rows_of(node->kids[i], op);

		if (rows != -2) {
			return rows;
		}
	}
	return -2;
}

static void test_estimates_come_from_the_samples(void **state)
{
	(void)state;
	double join = rows_of(bind("SELECT * FROM big JOIN small USING (id)", NULL).root, MG_OP_JOIN);
	double scan = rows_of(bind("SELECT DISTINCT s FROM big", NULL).root, MG_OP_SCAN);
	double filter =
		rows_of(bind("SELECT DISTINCT s FROM big WHERE g = 3", NULL).root, MG_OP_FILTER);

	assert_true(join >= 1 && join <= 100);
	assert_true(scan == 10000);
	assert_true(filter >= 100 && filter <= 5000);
}

static void test_samples_decide_nothing(void **state)
{
	struct mg_bound bound = bind("SELECT count(*) FROM empty_table WHERE a > 3", NULL);

	(void)state;
	/* With the optimizer's own statistics an empty table would give an empty result. */
	assert_true(rows_of(bound.root, MG_OP_SCAN) != -2);
	bound = bind("SELECT id FROM small WHERE id < 1000 AND id >= 0 ORDER BY id", NULL);
	assert_true(rows_of(bound.root, MG_OP_FILTER) != -2);
	bound = bind("SELECT b.s FROM big b LEFT JOIN empty_table e ON b.id = e.a", NULL);
	assert_true(rows_of(bound.root, MG_OP_JOIN) != -2);
}

static void test_time_zone_of_the_session(void **state)
{
	static const char text[] = "SELECT TIMESTAMPTZ '2020-01-01 00:00:00', id FROM small";

	(void)state;
	assert_non_null(strstr(printed(text, NULL), "2020-01-01 00:00:00+00"));
	assert_non_null(strstr(printed(text, "Asia/Tokyo"), "2019-12-31 15:00:00+00"));
	assert_non_null(strstr(printed(text, NULL), "2020-01-01 00:00:00+00"));

	struct mg_plan_settings settings = { .timezone = "Nowhere/City" };
	struct mg_bound bound;
	struct mg_error err;

	assert_int_not_equal(mg_plandb_bind(plandb, arena, &settings, text, &bound, &err), 0);
	assert_int_equal(bind("SELECT 1", "UTC").column_count, 1);
}

static void test_names_of_scans(void **state)
{
	struct mg_duck_conn *conn;
	struct mg_error err;
	char *names = NULL;

	(void)state;
	assert_non_null(strstr(printed("SELECT g FROM merganser.main.big", NULL), "\"main.big\""));
	assert_int_equal(mg_plandb_borrow(plandb, NULL, &conn, &err), 0);
	assert_int_equal(mg_duck_text(conn,
	                              "SELECT string_agg(database_name, ' ') FROM (SHOW DATABASES)",
	                              &names, &err),
	                 0);
	mg_plandb_give_back(plandb, conn);
	assert_string_equal(names, "merganser");
	mg_free(names);
	assert_non_null(strstr(printed("SELECT \"a b\" FROM other.\"odd name\"", NULL),
	                       "temp.main.\"other.odd name\""));
	assert_non_null(strstr(printed("SELECT g FROM big", NULL), "SELECT \"g\" AS c0 FROM"));
}

/* ---- many at once ---- */

enum { THREADS = 8, ROUNDS = 25 };

static void *bind_often(void *arg)
{
	static const char *const texts[] = {
		"SELECT g, count(*) FROM big GROUP BY g",
		"SELECT * FROM big JOIN small USING (id) WHERE s LIKE 'x1%'",
		"SELECT nope FROM big",
		"SHOW TABLES",
		"SELECT TIMESTAMPTZ '2020-01-01 00:00:00'",
	};
	size_t *wrong = arg;

	for (size_t i = 0; i < ROUNDS; i++) {
		struct mg_arena *own = mg_arena_new();
		struct mg_plan_settings settings = { .timezone = i % 2 ? "UTC" : "Asia/Tokyo" };
		struct mg_bound bound;
		struct mg_error err;
		size_t at = i % (sizeof texts / sizeof *texts);
		int code = mg_plandb_bind(plandb, own, &settings, texts[at], &bound, &err);
		char *sql = NULL;

		*wrong += code != (at == 2 ? MG_E_NO_COLUMN : 0);
		if (!code && at == 4) {
			*wrong += mg_plan_print(own, bound.root, &sql, &err) != 0;
			*wrong += !strstr(sql, i % 2 ? "2020-01-01 00:00:00+00" : "2019-12-31 15:00:00+00");
		}
		mg_arena_free(own);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	pthread_t threads[THREADS];
	size_t wrong[THREADS] = { 0 };

	(void)state;
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, bind_often, &wrong[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(wrong[i], 0);
	}
}

static void test_lent_connections_do_not_stop_planning(void **state)
{
	struct mg_duck_conn *lent[2];
	struct mg_error err;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(mg_plandb_borrow(plandb, NULL, &lent[i], &err), 0);
	}
	assert_int_equal(bind("SELECT g FROM big", NULL).column_count, 1);
	for (size_t i = 0; i < 2; i++) {
		mg_plandb_give_back(plandb, lent[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_types_are_the_texts_own),
		cmocka_unit_test(test_aliases_of_types_survive),
		cmocka_unit_test(test_estimates_come_from_the_samples),
		cmocka_unit_test(test_samples_decide_nothing),
		cmocka_unit_test(test_time_zone_of_the_session),
		cmocka_unit_test(test_names_of_scans),
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_lent_connections_do_not_stop_planning),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
