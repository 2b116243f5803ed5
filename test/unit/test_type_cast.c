/*
 * test_type_cast.c - casts to the types that the engine describes columns with, also to those that
 * no CAST can name; each text is run by the engine, which must answer the type asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sql/sql_text.h"
#include "store/duck.h"

#include <string.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

static int setup(void **state)
{
	struct mg_duck_options options = { .threads = 1, .memory_bytes = (uint64_t)256 << 20 };
	struct mg_error err;

	(void)state;
	return mg_duck_open(&duck, &options, &err) || mg_duck_connect(duck, &conn, &err);
}

static int teardown(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

/* An expression of each type; where other is given, that is cast to the type instead. */
static const struct {
	const char *type, *of_type, *other;
} cases[] = {
	{ "INTEGER", "1", "'1'" },
	{ "DECIMAL(4,1)", "1.5::DECIMAL(4,1)", "1" },
	{ "TIMESTAMP WITH TIME ZONE[]", "[TIMESTAMPTZ '2020-01-01']", "NULL" },
	{ "STRUCT(INTEGER, VARCHAR)", "row(1, 'x')", "row(1::TINYINT, 'x')" },
	{ "STRUCT(MAP(VARCHAR, INTEGER), STRUCT(DECIMAL(4,1), JSON)[])",
	  "row(map{'a': 1}, [row(1.5::DECIMAL(4,1), '[1, 2]'::JSON)])",
	  "row(map{'a': 1::TINYINT}, [row(1.5::DECIMAL(9,4), '[1, 2]')])" },
	{ "STRUCT(\"a \"\"b\" STRUCT(INTEGER, DATE), \"c\" ENUM('x', 'it''s, (y'))",
	  "{'a \"b': row(1, NULL::DATE), 'c': 'x'::ENUM('x', 'it''s, (y')}",
	  "{'a \"b': row(1, NULL), 'c': 'x'}" },
	{ "MAP(INTEGER, STRUCT(BIGINT, DATE))", "map{1: row(1::BIGINT, DATE '2020-01-01')}",
	  "map{1: row(1, DATE '2020-01-01')}" },
	{ "STRUCT(INTEGER, INTEGER)[2]", "array_value(row(1, 2), row(3, 4))",
	  "[row(1, 2), row(3, 4)]" },
	{ "STRUCT(TIME WITH TIME ZONE, UHUGEINT, BLOB)[][]",
	  "[[row('10:00:00+01'::TIMETZ, 1::UHUGEINT, 'x'::BLOB)]]", "NULL" },
	{ "UNION(\"k\" STRUCT(INTEGER, INTEGER))", "union_value(k := row(1, 2))", "NULL" },
};

static void assert_type(const char *sql, const char *type)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error err;
	const char **names, **types;
	size_t count = 0;

	if (mg_duck_describe(conn, arena, sql, &count, &names, &types, &err)) {
		fail_msg("%s: %s %s", sql, err.message, err.detail);
	}
	assert_string_equal(types[0], type);
	mg_arena_free(arena);
}

static void assert_cast(const char *what, const char *type)
{
	struct mg_sb sb = { 0 };
	struct mg_error err;

	mg_sb_add(&sb, "SELECT ");
	mg_cast_add(&sb, what, type);
	assert_type(mg_sb_text(&sb), type);
	if (mg_duck_exec(conn, mg_sb_text(&sb), &err)) {
		fail_msg("%s: %s %s", mg_sb_text(&sb), err.message, err.detail);
	}
	mg_sb_fini(&sb);
}

static void test_a_cast_reaches_every_type(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_cast(cases[i].of_type, cases[i].type);
		assert_cast(cases[i].other, cases[i].type);
	}
}

static void test_described_types_are_read(void **state)
{
	struct mg_arena *arena = mg_arena_new();

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *sql = mg_format("SELECT %s", cases[i].of_type);

		assert_type(sql, cases[i].type);
		assert_non_null(mg_type_parse(arena, cases[i].type));
		mg_free(sql);
	}
	const struct mg_type *type = mg_type_parse(arena, "STRUCT(\"NULL\", \"NULL\" INTEGER)");

	assert_int_equal(type->child_count, 2);
	assert_string_equal(type->names[0], "");
	assert_string_equal(type->children[0]->id, "NULL");
	assert_string_equal(type->names[1], "NULL");
	/* DESCRIBE quotes a name only where it must. */
	type = mg_type_parse(arena, "STRUCT(a TIMESTAMP WITH TIME ZONE, TIME WITH TIME ZONE, "
	                            "b_2 STRUCT(BIGINT)[])");
	assert_int_equal(type->child_count, 3);
	assert_string_equal(type->names[0], "a");
	assert_string_equal(type->children[0]->id, "TIMESTAMP WITH TIME ZONE");
	assert_string_equal(type->names[1], "");
	assert_string_equal(type->children[1]->id, "TIME WITH TIME ZONE");
	assert_string_equal(type->names[2], "b_2");
	assert_string_equal(type->children[2]->id, "LIST");
	mg_arena_free(arena);
}

static void test_a_text_that_is_no_type_is_not_read(void **state)
{
	static const char *const bad[] = { "",           "STRUCT(",        "STRUCT()",   "INTEGER[",
		                               "ENUM(x)",    "MAP(INTEGER)",   "DECIMAL(x)", "INTEGER)",
		                               "STRUCT(\"a", "STRUCT(INTEGER", "[]",         "ENUM('a" };
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb deep = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (mg_type_parse(arena, bad[i])) {
			fail_msg("read as a type: %s", bad[i]);
		}
	}
	for (int i = 0; i < 100000; i++) {
		mg_sb_add(&deep, "STRUCT(");
	}
	assert_null(mg_type_parse(arena, mg_sb_text(&deep)));
	mg_sb_fini(&deep);
	mg_arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cast_reaches_every_type),
		cmocka_unit_test(test_described_types_are_read),
		cmocka_unit_test(test_a_text_that_is_no_type_is_not_read),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
