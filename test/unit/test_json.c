/* test_json.c - the JSON reader: what it takes, what it refuses, how deep it goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"

#include <math.h>
#include <string.h>

/* Parse and print again; NULL when refused.  Heap. */
static char *reprint(const char *text, size_t len)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *tree = NULL;
	struct mg_error err = { 0 };
	struct mg_sb sb = { 0 };
	char *out = NULL;
	char *exact = mg_strndup(text, len); /* so that a sanitizer sees each byte too many */
	if (mg_json_parse(arena, exact, len, &tree, &err) == 0) {
		mg_json_print(&sb, tree);
		out = mg_sb_take(&sb);
	} else {
		assert_int_equal(err.code, MG_E_SYNTAX);
		assert_non_null(strstr(err.message, "at byte "));
	}
	mg_free(exact);
	mg_arena_free(arena);
	return out;
}

static void test_good_texts_come_back(void **state)
{
	(void)state;
	static const char *const list[][2] = {
		{ "null", "null" },
		{ " true ", "true" },
		{ "[]", "[]" },
		{ "{}", "{}" },
		{ "[1, 2.50, -0, 1e5, 1E-5, 18446744073709551615]",
		  "[1,2.50,-0,1e5,1E-5,18446744073709551615]" },
		{ "[NaN, Infinity, -Infinity]", "[NaN,Infinity,-Infinity]" },
		{ "{\"a\": {\"b\": [null, {}]}, \"a\": 2}", "{\"a\":{\"b\":[null,{}]},\"a\":2}" },
		{ "\"\\u0041\\u00e9\\ud83d\\ude00\\n\\/\"", "\"A\xC3\xA9\xF0\x9F\x98\x80\\n/\"" },
		{ "\"\\u0000\"", "\"\\u0000\"" },
		{ "[[[[]]], [[]]]", "[[[[]]],[[]]]" },
	};
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		char *out = reprint(list[i][0], strlen(list[i][0]));
		assert_non_null(out);
		assert_string_equal(out, list[i][1]);
		mg_free(out);
	}
}

static void test_bad_texts_are_refused(void **state)
{
	(void)state;
	static const char *const list[] = {
		"",
		" ",
		"nul",
		"tru",
		"[",
		"]",
		"{",
		"}",
		"[1",
		"[1,",
		"[1,]",
		"[,1]",
		"[1 2]",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{\"a\" 1}",
		"[1}",
		"{\"a\":1]",
		"01",
		"1.",
		".5",
		"-",
		"+1",
		"1e",
		"1e+",
		"0x1",
		"\"",
		"\"\\\"",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\ud800\"",
		"\"\\ud800\\u0041\"",
		"\"\\udc00\"",
		"\"\n\"",
		"\"\xFF\"",
		"1 2",
		"[] []",
		"nullx",
		"Infinit",
		"-NaN",
		"\"a\\",
		"'a'",
		"\xEF\xBB\xBF[]",
	};
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		char *out = reprint(list[i], strlen(list[i]));
		if (out) {
			fail_msg("taken: %s", list[i]);
		}
	}
}

/* Strings are read eight bytes at a time: what is special is seen wherever it stands. */
static void test_special_bytes_are_seen_at_every_place(void **state)
{
	(void)state;
	for (size_t len = 1; len < 36; len++) {
		for (size_t at = 0; at < len; at++) {
			char text[64] = "\"", expected[64];

			memset(text + 1, 'a' + (int)(len % 26), len);
			text[len + 1] = '"';
			text[at + 1] = '\n';
			assert_null(reprint(text, len + 2));
			text[at + 1] = ' '; /* the first one that is none */
			memcpy(expected, text, sizeof expected);
			char *out = reprint(text, len + 2);

			assert_non_null(out);
			assert_string_equal(out, expected);
			mg_free(out);
			if (at + 1 < len) { /* and two escapes, the second behind what the first has moved */
				memcpy(text + at + 1, "\\/", 2);
				memcpy(text + len + 1, "\\t\"", 3);
				out = reprint(text, len + 4);
				memmove(text + at + 1, text + at + 2, len + 3 - at);
				assert_non_null(out);
				assert_string_equal(out, text);
				mg_free(out);
			}
		}
	}
}

static void test_every_prefix_is_refused_or_whole(void **state)
{
	(void)state;
	static const char text[] =
		"{\"a\": [1.5e3, true, null, \"x\\u00e9\\ud83d\\ude00\"], \"b\": {\"c\": false}}";
	for (size_t len = 0; len + 1 < sizeof text - 1; len++) {
		assert_null(reprint(text, len));
	}
	char *out = reprint(text, sizeof text - 1);
	assert_non_null(out);
	mg_free(out);
}

static void test_depth_is_limited(void **state)
{
	(void)state;
	char *text = mg_alloc(2 * MG_JSON_DEPTH_MAX + 3);
	memset(text, '[', MG_JSON_DEPTH_MAX);
	memset(text + MG_JSON_DEPTH_MAX, ']', MG_JSON_DEPTH_MAX);
	/* the innermost pair is an empty array, which opens no level */
	char *out = reprint(text, 2 * MG_JSON_DEPTH_MAX);
	assert_non_null(out);
	mg_free(out);
	size_t deep = MG_JSON_DEPTH_MAX + 1;
	memset(text, '[', deep);
	text[deep] = '1';
	assert_null(reprint(text, deep + 1));
	mg_free(text);
	/* siblings do not count */
	struct mg_sb wide = { 0 };
	mg_sb_add(&wide, "[");
	for (int i = 0; i < 3 * MG_JSON_DEPTH_MAX; i++) {
		mg_sb_add(&wide, "[{}],");
	}
	mg_sb_add(&wide, "1]");
	out = reprint(wide.ptr, wide.len);
	assert_non_null(out);
	mg_free(out);
	mg_sb_fini(&wide);
}

static void test_look_ups_forgive(void **state)
{
	(void)state;
	static const char text[] =
		"{\"n\": 42, \"s\": \"x\", \"big\": 18446744073709551615, \"f\": 2.5, \"t\": true, \"z\": "
	    "null, "
		"\"nan\": NaN, \"inf\": -Infinity, \"list\": [1, \"two\", 3], \"num_text\": \"17\"}";
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *tree = NULL;
	assert_int_equal(mg_json_parse(arena, text, sizeof text - 1, &tree, NULL), 0);
	assert_int_equal(tree->count, 10);
	assert_int_equal(mg_json_get_int(tree, "n", -1), 42);
	assert_int_equal(mg_json_get_int(tree, "num_text", -1), 17);
	assert_int_equal(mg_json_get_int(tree, "big", -1), -1); /* out of range: the fallback */
	assert_int_equal(mg_json_get_int(tree, "f", -1), -1);
	assert_int_equal(mg_json_get_int(tree, "absent", -1), -1);
	assert_true(mg_json_get_double(tree, "f", 0) > 2.4 && mg_json_get_double(tree, "f", 0) < 2.6);
	assert_true(isnan(mg_json_get_double(tree, "nan", 0)) &&
	            isinf(mg_json_get_double(tree, "inf", 0)));
	assert_true(mg_json_get_bool(tree, "t", false));
	assert_false(mg_json_get_bool(tree, "n", false));
	assert_true(mg_json_get_bool(tree, "absent", true));
	assert_string_equal(mg_json_get_text(tree, "s"), "x");
	assert_string_equal(mg_json_get_text(tree, "big"), "18446744073709551615");
	assert_null(mg_json_get_text(tree, "z"));
	assert_null(mg_json_get_text(tree, "absent"));
	const struct mg_json *list = mg_json_get(tree, "list");
	assert_string_equal(mg_json_text(mg_json_at(list, 1)), "two");
	assert_null(mg_json_at(list, 3));
	assert_null(mg_json_at(tree, 0));
	assert_null(mg_json_get(list, "a"));
	assert_null(mg_json_get(NULL, "a"));
	assert_string_equal(mg_json_text(NULL), "");
	int64_t seen = 0;
	mg_json_each(item, list) {
		seen += (int64_t)strlen(mg_json_text(item));
	}
	assert_int_equal(seen, 5);
	mg_arena_free(arena);
}

static bool valid(const char *text)
{
	return mg_json_valid(text, strlen(text));
}

static void test_valid_is_what_the_standard_says(void **state)
{
	static const char *const good[] = {
		"1", "-0.5e+10", "\"\"", "[]", "{}", " [ 1 , [ ] , { \"a\" : [ null ] , \"b\" : true } ] ",
		"\"\\u00e9\\ud83d\\uDE00\\n\"", "\"\xc3\xa9\"", "0", "{\"a\": 1, \"a\": 2}", "false",
	};
	static const char *const bad[] = {
		"", " ", "1 2", "[1", "1]", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:2}",
		"01", "1.", ".5", "1e", "+1", "NaN", "Infinity", "tru", "nulls", "'a'", "\"a", "\"\\x\"",
		"\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\n\"", "\"\xff\"",
		"[1] x", "1, \"user\": \"root\"", "[}", "{]", "{\"a\":1]",
	};
	char deep[2003];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_true(valid(good[i]));
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_false(valid(bad[i]));
	}
	assert_false(mg_json_valid("\"a\0\"", 4));
	memset(deep, '[', 1000);
	memset(deep + 1000, ']', 1000);
	assert_true(mg_json_valid(deep, 2000));
	memset(deep, '[', 1001);
	memset(deep + 1001, ']', 1001);
	assert_false(mg_json_valid(deep, 2002));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_texts_come_back),
		cmocka_unit_test(test_bad_texts_are_refused),
		cmocka_unit_test(test_special_bytes_are_seen_at_every_place),
		cmocka_unit_test(test_every_prefix_is_refused_or_whole),
		cmocka_unit_test(test_depth_is_limited),
		cmocka_unit_test(test_look_ups_forgive),
		cmocka_unit_test(test_valid_is_what_the_standard_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
