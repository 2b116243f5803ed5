/*
 * test_rest_sql.c - what a request to /db/query or /db/execute asks for, and the status of its
 * errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "door/rest_sql.h"

static void test_status_of_an_error(void **state)
{
	static const struct {
		int code;
		const char *sqlstate; /* or NULL: that of the code */
		int status;
	} errors[] = {
		{ MG_E_SYNTAX, NULL, 400 },
		{ MG_E_NO_TABLE, NULL, 400 },
		{ MG_E_NOT_FOUND, NULL, 400 },
		{ MG_E_UNSUPPORTED, NULL, 400 },
		{ MG_E_USAGE, NULL, 400 },
		{ MG_E_DATA, NULL, 400 },
		{ MG_E_DENIED, NULL, 403 },
		{ MG_E_READ_ONLY, NULL, 403 },
		{ MG_E_DUPLICATE, NULL, 409 },
		{ MG_E_DATA, "23505", 409 },
		{ MG_E_DATA, "23502", 409 },
		{ MG_E_DATA, "23000", 409 },
		{ MG_E_DATA, "40001", 409 },
		{ MG_E_LIMIT, NULL, 413 },
		{ MG_E_BUSY, NULL, 429 },
		{ MG_E_UNAVAILABLE, NULL, 503 },
		{ MG_E_SHUTDOWN, NULL, 503 },
		{ MG_E_TIMEOUT, NULL, 504 },
		{ MG_E_UNKNOWN_OUTCOME, NULL, 504 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		struct mg_error err = { 0 };

		mg_error_set(&err, errors[i].code, "x");
		if (errors[i].sqlstate) {
			mg_copy_text(err.sqlstate, sizeof err.sqlstate, errors[i].sqlstate);
		}
		assert_int_equal(mg_rest_sql_status(&err), errors[i].status);
	}
}

static void test_type_of_a_body(void **state)
{
	(void)state;
	assert_true(mg_rest_is_type("text/plain", "text/plain"));
	assert_true(mg_rest_is_type("Text/Plain; charset=utf-8", "text/plain"));
	assert_false(mg_rest_is_type("text/plainer", "text/plain"));
	assert_false(mg_rest_is_type("text", "text/plain"));
	assert_false(mg_rest_is_type(NULL, "text/plain"));
}

static void test_body_is_text_or_an_object(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_str text = { 0 }, sql = { 0 };
	const struct mg_json *params = NULL;
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(
		mg_rest_read_body(arena, "application/sql", MG_STR("DROP"), &text, &json, &err), 0);
	assert_null(json);
	assert_true(mg_str_eq(text, MG_STR("DROP")));
	assert_int_equal(mg_rest_read_body(arena, NULL, MG_STR("{\"sql\": \"DROP\", \"params\": [1]}"),
	                                   &text, &json, &err),
	                 0);
	assert_int_equal(mg_rest_read_sql(json, &sql, &params, &err), 0);
	assert_true(mg_str_eq(sql, MG_STR("DROP")));
	assert_int_equal(params->count, 1);
	assert_int_equal(mg_rest_read_body(arena, NULL, MG_STR("DROP"), &text, &json, &err),
	                 MG_E_SYNTAX);
	assert_non_null(strstr(err.hint, "text/plain"));
	assert_int_equal(mg_rest_read_body(arena, NULL, MG_STR("[\"DROP\"]"), &text, &json, &err),
	                 MG_E_USAGE);
	assert_int_equal(mg_rest_read_body(arena, NULL, MG_STR("{\"sql\": 1}"), &text, &json, &err), 0);
	assert_int_equal(mg_rest_read_sql(json, &sql, &params, &err), MG_E_USAGE);
	mg_arena_free(arena);
}

static void test_zero_character_ends_no_statement(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_error err = { 0 };
	struct mg_str out;

	(void)state;
	assert_int_equal(mg_rest_bind(arena, MG_STR("DROP\0 x"), NULL, &out, &err), MG_E_SYNTAX);
	assert_int_equal(mg_rest_bind(arena, MG_STR("DROP x"), NULL, &out, &err), 0);
	assert_true(mg_str_eq(out, MG_STR("DROP x")));
	mg_arena_free(arena);
}

static void check_query_without(const char *query, const char *expected)
{
	struct mg_sb out = { 0 };

	mg_rest_add_query_without(&out, query, "redirect");
	assert_string_equal(mg_sb_text(&out), expected);
	mg_sb_fini(&out);
}

static void test_one_parameter_is_left_out(void **state)
{
	(void)state;
	check_query_without("", "");
	check_query_without("redirect=1", "");
	check_query_without("redirect", "");
	check_query_without("a=1&redirect=1&b=%20", "?a=1&b=%20");
	check_query_without("redirect=1&&redirect=2&a", "?a");
	check_query_without("redirects=1&redirec=2", "?redirects=1&redirec=2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_of_an_error),
		cmocka_unit_test(test_type_of_a_body),
		cmocka_unit_test(test_body_is_text_or_an_object),
		cmocka_unit_test(test_zero_character_ends_no_statement),
		cmocka_unit_test(test_one_parameter_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
