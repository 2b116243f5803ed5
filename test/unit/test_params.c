/*
 * test_params.c - values in the place of parameters: only where SQL has parameters, and never more
 * than a value.  What comes out is run by DuckDB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "session/params.h"
#include "session/system_tables.h"
#include "store/duck.h"

static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static struct mg_arena *arena;
static struct mg_error err;

static int setup(void **state)
{
	(void)state;
	return mg_duck_open(&duck, &(struct mg_duck_options){ .threads = 1 }, &err) ||
	       mg_duck_connect(duck, &conn, &err);
}

static int teardown(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	arena = mg_arena_new();
	mg_error_clear(&err);
	return 0;
}

static int stale(void **state)
{
	(void)state;
	mg_arena_free(arena);
	return 0;
}

static int bind(const char *sql, const char *json, struct mg_str *out)
{
	struct mg_json *params = NULL;

	if (json) {
		assert_int_equal(mg_json_parse(arena, json, strlen(json), &params, &err), 0);
	}
	return mg_params_bind(arena, mg_str(sql), params, out, &err);
}

static void assert_bound(const char *sql, const char *json, const char *expected)
{
	struct mg_str out;

	if (bind(sql, json, &out)) {
		fail_msg("%s: %s", sql, err.message);
	}
	assert_int_equal(out.len, strlen(expected));
	assert_memory_equal(out.ptr, expected, out.len);
}

/* The only value, as text. */
static void assert_answer(const char *sql, const char *json, const char *expected)
{
	struct mg_str out;
	char *text = NULL;

	if (bind(sql, json, &out)) {
		fail_msg("%s: %s", sql, err.message);
	}
	const char *outer =
		mg_arena_format(arena, "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (%.*s)", MG_STR_ARG(out));

	if (mg_duck_text(conn, outer, &text, &err)) {
		fail_msg("%.*s: %s", MG_STR_ARG(out), err.message);
	}
	assert_string_equal(text, expected);
	mg_free(text);
}

static void test_text_without_parameters_stays(void **state)
{
	(void)state;
	assert_bound("SELECT 1 -- ?\n", NULL, "SELECT 1 -- ?\n");
	assert_bound("SELECT '?', \"a?$1\", $$ ? $1 $$ /* ? */", "[]",
	             "SELECT '?', \"a?$1\", $$ ? $1 $$ /* ? */");
	assert_bound("SELECT 1", "null", "SELECT 1");
}

static void test_each_kind_of_value(void **state)
{
	(void)state;
	assert_bound("SELECT ?", "[1]", "SELECT  1 ");
	assert_bound("SELECT ?", "[-5]", "SELECT  (-5) ");
	assert_bound("SELECT ?", "[1.5]", "SELECT  CAST('1.5' AS DOUBLE) ");
	assert_bound("SELECT ?", "[null]", "SELECT  NULL ");
	assert_bound("SELECT ?", "[\"it's\"]", "SELECT  'it''s' ");
	assert_answer("SELECT typeof(?)", "[12]", "INTEGER");
	assert_answer("SELECT typeof(?)", "[9223372036854775807]", "BIGINT");
	assert_answer("SELECT typeof(?)", "[1e3]", "DOUBLE");
	assert_answer("SELECT ?", "[-1.25e-3]", "-0.00125");
	assert_answer("SELECT ?", "[true]", "true");
	assert_answer("SELECT 10 -?", "[-5]", "15");
	assert_answer("SELECT ?[2]", "[[1, 2, 3]]", "2");
	assert_answer("SELECT (?).b", "[{\"a\": 1, \"b\": [\"x\", null]}]", "[x, NULL]");
	assert_answer("SELECT DATE '1995-01-01' < ?", "[\"1996-01-01\"]", "true");
	assert_answer("SELECT count(*) FROM range(100) LIMIT ?", "[1]", "100");
}

static void test_each_kind_of_parameter(void **state)
{
	(void)state;
	assert_answer("SELECT ? || ? || ?", "[\"a\", \"b\", \"c\"]", "abc");
	assert_answer("SELECT $2 || $1 || $2", "[\"a\", \"b\"]", "bab");
	assert_answer("SELECT ?2 || ?1", "[\"a\", \"b\"]", "ba");
	assert_answer("SELECT $x || $\"y\" || $X", "{\"x\": \"1\", \"y\": \"2\"}", "121");
	assert_answer("SELECT CASE WHEN true THEN?ELSE?END", "[\"a\", \"b\"]", "a");
}

static void test_a_value_never_ends_early(void **state)
{
	static const char *const nasty[] = {
		"'; DROP TABLE t; --",
		"''",
		"\\'",
		"\\",
		"$$",
		"?",
		"$1",
		"/*",
		"--",
		"a\nb",
		"'' || ''",
		"é'",
	};

	(void)state;
	for (size_t i = 0; i < sizeof nasty / sizeof nasty[0]; i++) {
		struct mg_sb json = { 0 };

		mg_sb_add_char(&json, '[');
		mg_sb_add_json(&json, nasty[i], strlen(nasty[i]));
		mg_sb_add_char(&json, ']');
		assert_answer("SELECT ?", mg_sb_text(&json), nasty[i]);
		mg_sb_fini(&json);
	}
}

static void test_wrong_counts_and_values_are_refused(void **state)
{
	static const char *const wrong[][2] = {
		{ "SELECT ?", "[]" },
		{ "SELECT ?", NULL },
		{ "SELECT ?, ?", "[1]" },
		{ "SELECT ?", "[1, 2]" },
		{ "SELECT 1", "[1]" },
		{ "SELECT $3", "[1, 2]" },
		{ "SELECT $1, $1", "[1, 2]" },
		{ "SELECT $0", "[1]" },
		{ "SELECT ?, $1", "[1]" },
		{ "SELECT $x", "[1]" },
		{ "SELECT $x", "{\"y\": 1}" },
		{ "SELECT ?", "{\"y\": 1}" },
		{ "SELECT $x", "{\"x\": 1, \"y\": 2}" },
		{ "SELECT ?", "7" },
		{ "SELECT ?", "[{}]" },
		{ "SELECT ?", "[\"a\\u0000b\"]" },
		{ "SELECT ?99999999999999999999", "[1]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct mg_str out;

		if (bind(wrong[i][0], wrong[i][1], &out) != MG_E_USAGE) {
			fail_msg("%s with %s was taken", wrong[i][0], wrong[i][1] ? wrong[i][1] : "nothing");
		}
		assert_string_equal(err.sqlstate, "22023");
	}
}

static void test_no_numbers_say_what_to_send(void **state)
{
	struct mg_str out;

	(void)state;
	assert_int_equal(bind("SELECT ?", "[NaN]", &out), MG_E_USAGE);
	assert_non_null(strstr(err.hint, "\"nan\""));
	assert_answer("SELECT isnan(CAST(? AS DOUBLE))::VARCHAR", "[\"nan\"]", "true");
}

static void test_deep_values_are_refused(void **state)
{
	char json[400];
	struct mg_str out;

	(void)state;
	memset(json, '[', 100);
	memset(json + 100, ']', 100);
	json[200] = '\0';
	assert_int_equal(bind("SELECT ?", json, &out), MG_E_USAGE);
}

/* ---- which system tables a statement names: the same lexer ---- */

static uint32_t named(const char *sql)
{
	return mg_system_tables_named(mg_str(sql));
}

static uint32_t bit(const char *name)
{
	for (size_t i = 0; i < MG_SYSTEM_TABLE_COUNT; i++) {
		if (strcmp(mg_system_table_name(i), name) == 0) {
			return 1u << i;
		}
	}
	fail_msg("no table %s", name);
	return 0;
}

static void test_system_tables_are_found_by_name(void **state)
{
	(void)state;
	assert_int_equal(named("SELECT * FROM cluster.nodes"), bit("nodes"));
	assert_int_equal(named("select 1 from \"cluster\" . \"Shards\" s join CLUSTER.queries"),
	                 bit("shards") | bit("queries"));
	assert_int_equal(named("SELECT 'cluster.nodes', cluster FROM t -- cluster.users"), 0);
	assert_int_equal(named("SELECT cluster.cluster.events"), bit("events"));
	assert_int_equal(named("SELECT cluster.nothing, cluster."), 0);
	assert_int_equal(named("SELECT 'open"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text_without_parameters_stays, fresh, stale),
		cmocka_unit_test_setup_teardown(test_each_kind_of_value, fresh, stale),
		cmocka_unit_test_setup_teardown(test_each_kind_of_parameter, fresh, stale),
		cmocka_unit_test_setup_teardown(test_a_value_never_ends_early, fresh, stale),
		cmocka_unit_test_setup_teardown(test_wrong_counts_and_values_are_refused, fresh, stale),
		cmocka_unit_test_setup_teardown(test_no_numbers_say_what_to_send, fresh, stale),
		cmocka_unit_test_setup_teardown(test_deep_values_are_refused, fresh, stale),
		cmocka_unit_test(test_system_tables_are_found_by_name),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
