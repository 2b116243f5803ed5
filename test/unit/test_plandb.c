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

/* ---- long texts ---- */

static struct mg_bound bind_long(struct mg_sb *sql)
{
	struct mg_bound bound = bind(mg_sb_text(sql), NULL);

	mg_sb_fini(sql);
	return bound;
}

static void add_times(struct mg_sb *sql, const char *text, size_t times)
{
	for (size_t i = 0; i < times; i++) {
		mg_sb_add(sql, text);
	}
}

/* As deep as DuckDB allows, in each form that makes its trees deepest. */
static void test_what_the_engine_nests_can_be_planned(void **state)
{
	static const struct {
		const char *open, *close;
		size_t depth;
	} forms[] = {
		{ "abs(", ")", 150 },
		{ "CASE WHEN (", ") = 1 THEN 1 ELSE 2 END", 230 },
		{ "(", " + id)", 150 },
		{ "(", ")::DOUBLE::BIGINT", 150 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct mg_sb sql = { 0 };

		mg_sb_add(&sql, "SELECT ");
		add_times(&sql, forms[i].open, forms[i].depth);
		mg_sb_add(&sql, "id");
		add_times(&sql, forms[i].close, forms[i].depth);
		mg_sb_add(&sql, " FROM small");
		bind_long(&sql);
	}
}

/* Deeper is the engine's error and no more: our stack is not what gives way. */
static void test_bottomless_nesting_is_an_error(void **state)
{
	static const char *const forms[][2] = {
		{ "(", ")" },
		{ "NOT ", "" },
		{ "[", "]" },
		{ "{'a': ", "}" },
		{ "(SELECT ", ")" },
		{ "- ", "" },
		{ "abs(", ")" },
		{ "CASE WHEN true THEN ", " END" },
		{ "CAST(", " AS INTEGER)" },
		{ "1 + (", ")" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		for (size_t depth = 1100; depth <= 110000; depth *= 100) {
			struct mg_sb sql = { 0 };
			struct mg_bound bound;
			struct mg_error err = { 0 };

			mg_sb_add(&sql, "SELECT ");
			add_times(&sql, forms[i][0], depth);
			mg_sb_add(&sql, "1");
			add_times(&sql, forms[i][1], depth);
			int code = mg_plandb_bind(plandb, arena, NULL, mg_sb_text(&sql), &bound, &err);

			assert_true(code == 0 || err.message[0]);
			assert_true(depth < 10000 || code == MG_E_SYNTAX);
			mg_sb_fini(&sql);
		}
	}
}

/* Wide texts are planned as such: no part of ours is quadratic in them. */
static void test_wide_texts_have_a_plan(void **state)
{
	struct mg_sb in = { 0 }, values = { 0 }, both = { 0 };

	(void)state;
	mg_sb_add(&in, "SELECT count(*) FROM big WHERE s IN ('it''s'");
	mg_sb_add(&values, "SELECT sum(a) FROM (VALUES (0, '')");
	mg_sb_add(&both, "SELECT id FROM big WHERE id <> 0");
	for (int i = 1; i < 20000; i++) {
		mg_sb_addf(&in, ", 'x''%d'", i);
	}
	for (int i = 1; i < 5000; i++) {
		mg_sb_addf(&values, ", (%d, 'it''s %d')", i, i);
	}
	for (int i = 1; i < 1000; i++) {
		mg_sb_addf(&both, " UNION ALL SELECT id FROM big WHERE id = %d", i);
	}
	mg_sb_add(&in, ")");
	mg_sb_add(&values, ") v(a, b)");
	assert_int_equal(bind_long(&in).column_count, 1);
	assert_int_equal(bind_long(&values).column_count, 1);
	assert_int_equal(bind_long(&both).column_count, 1);
}

/* A plan that takes too long is done without when the text may run as it is; the reason is told. */
static void test_a_dear_plan_is_done_without(void **state)
{
	static const char dear[] =
		"SELECT length(repeat('x', 50000000)), length(repeat('y', 50000000))";
	struct mg_bound bound;
	struct mg_error err = { 0 };

	(void)state;
	mg_plandb_set_limit(plandb, 50);
	assert_int_equal(mg_plandb_bind(plandb, arena, NULL, dear, &bound, &err), 0);
	mg_plandb_set_limit(plandb, 60000);
	assert_null(bound.root);
	assert_null(bound.text_refused);
	assert_string_equal(bound.unsupported, "planning took longer than 50 ms");
}

static void test_a_huge_text_is_refused(void **state)
{
	size_t len = (16u << 20) + 1;
	char *sql = mg_alloc(len + 1);
	struct mg_bound bound;
	struct mg_error err = { 0 };

	(void)state;
	memset(sql, ' ', len);
	memcpy(sql, "SELECT 1", 8);
	sql[len] = '\0';
	assert_int_equal(mg_plandb_bind(plandb, arena, NULL, sql, &bound, &err), MG_E_LIMIT);
	mg_free(sql);
}

/* Whoever cancels reaches each connection that works for the statement, and no other afterwards. */
struct attached {
	size_t calls;
	struct mg_duck_conn *last;
	int answer;
};

static int note_conn(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct attached *attached = arg;

	attached->calls++;
	attached->last = conn;
	return conn && attached->answer ? mg_error_set(err, attached->answer, "cancelled") : 0;
}

static void test_a_bind_can_be_cancelled(void **state)
{
	struct attached attached = { 0 };
	const struct mg_plan_settings settings = { .attach = note_conn, .arg = &attached };
	struct mg_bound bound;
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(
		mg_plandb_bind(plandb, arena, &settings, "SELECT id FROM big", &bound, &err), 0);
	assert_int_equal(attached.calls, 4);
	assert_null(attached.last);
	attached = (struct attached){ .answer = MG_E_CANCELLED };
	assert_int_equal(mg_plandb_bind(plandb, arena, &settings, "SELECT id FROM big", &bound, &err),
	                 MG_E_CANCELLED);
	assert_int_equal(attached.calls, 2);
	assert_null(attached.last);
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
		cmocka_unit_test(test_what_the_engine_nests_can_be_planned),
		cmocka_unit_test(test_bottomless_nesting_is_an_error),
		cmocka_unit_test(test_wide_texts_have_a_plan),
		cmocka_unit_test(test_a_dear_plan_is_done_without),
		cmocka_unit_test(test_a_huge_text_is_refused),
		cmocka_unit_test(test_a_bind_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
