/*
 * test_render.c - tables and the other formats, character by character, over real rows of DuckDB.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/render.h"
#include "cli/width.h"
#include "store/duck.h"

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

static int set_up(void **state)
{
	(void)state;
	return mg_duck_open(&duck, &(struct mg_duck_options){ .threads = 1, .lossless_arrow = true },
	                    NULL) ||
	       mg_duck_connect(duck, &conn, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

/* Run sql, render it with options, return the text; fails the test when anything fails. */
static char *render(const char *sql, const char *verb, struct mg_render_options options)
{
	struct mg_duck_result *result;
	struct mg_render *render;
	struct mg_error err = { 0 };
	const char *names[64], *types[64];
	char *text = NULL;
	size_t size, count;
	bool done = false;

	options.out = open_memstream(&text, &size);
	assert_int_equal(mg_duck_query(conn, sql, &result, &err), 0);
	count = mg_duck_result_columns(result);
	assert_true(count <= 64);
	for (size_t i = 0; i < count; i++) {
		names[i] = mg_duck_result_name(result, i);
		types[i] = mg_duck_result_type(result, i);
	}
	assert_int_equal(mg_render_new(&render, &options, &err), 0);
	assert_int_equal(mg_render_begin(render, &(struct mg_render_table){
		.verb = verb, .count = count, .names = names, .types = types,
		.schema = mg_duck_result_schema(result),
	}, &err), 0);
	while (!done) {
		struct ArrowArray batch;

		assert_int_equal(mg_duck_result_next(result, 2048, &batch, &done, &err), 0);
		if (!done) {
			assert_int_equal(mg_render_batch(render, &batch, &err), 0);
			batch.release(&batch);
		}
	}
	assert_int_equal(mg_render_end(render, &err), 0);
	mg_render_free(render);
	mg_duck_result_free(result);
	fclose(options.out);
	return text;
}

static void check(const char *sql, struct mg_render_options options, const char *wanted)
{
	char *text = render(sql, "SELECT", options);

	assert_string_equal(text, wanted);
	free(text);
}

#define BOX(rows, width) \
	(struct mg_render_options){ .format = MG_FORMAT_BOX, .rows_max = (rows), .width_max = (width) }

static void test_numbers_stand_right_and_text_left_under_names_and_types(void **state)
{
	(void)state;
	check(
		"SELECT 42::BIGINT AS answer, 'x' AS t, NULL::DOUBLE AS d UNION ALL SELECT 7, 'duck', 1.5",
		BOX(40, 0),
		"┌────────┬─────────┬────────┐\n"
		"│ answer │    t    │   d    │\n"
		"│ int64  │ varchar │ double │\n"
		"├────────┼─────────┼────────┤\n"
		"│     42 │ x       │   NULL │\n"
		"│      7 │ duck    │    1.5 │\n"
		"└────────┴─────────┴────────┘\n");
}

static void test_wide_characters_take_two_columns_and_marks_none(void **state)
{
	(void)state;
	check("SELECT * FROM (VALUES ('世界'), ('e' || chr(769)), ('🦆'), ('ab')) t(s)", BOX(40, 0),
	      "┌─────────┐\n"
	      "│    s    │\n"
	      "│ varchar │\n"
	      "├─────────┤\n"
	      "│ 世界    │\n"
	      "│ e\xcc\x81       │\n"
	      "│ 🦆      │\n"
	      "│ ab      │\n"
	      "└─────────┘\n");
}

static void test_line_ends_do_not_break_the_frame(void **state)
{
	(void)state;
	check("SELECT 'a' || chr(10) || 'b' || chr(9) || chr(27) AS s", BOX(40, 0),
	      "┌────────────┐\n"
	      "│     s      │\n"
	      "│  varchar   │\n"
	      "├────────────┤\n"
	      "│ a\\nb\\t\\x1b │\n"
	      "└────────────┘\n");
}

static void test_nested_values_and_their_types(void **state)
{
	(void)state;
	check("SELECT [1, NULL, 3] AS l, {'a': 1, 'b': 'x'} AS s", BOX(40, 0),
	      "┌──────────────┬──────────────────────────────┐\n"
	      "│      l       │              s               │\n"
	      "│   int32[]    │ struct(a integer, b varchar) │\n"
	      "├──────────────┼──────────────────────────────┤\n"
	      "│ [1, NULL, 3] │ {'a': 1, 'b': x}             │\n"
	      "└──────────────┴──────────────────────────────┘\n");
}

static void test_no_rows_are_told_in_the_frame(void **state)
{
	(void)state;
	check("SELECT 1::BIGINT AS a, 2::BIGINT AS b WHERE false", BOX(40, 0),
	      "┌───────┬───────┐\n"
	      "│   a   │   b   │\n"
	      "│ int64 │ int64 │\n"
	      "├───────┴───────┤\n"
	      "│    0 rows     │\n"
	      "└───────────────┘\n");
}

static void test_many_rows_are_cut_in_the_middle_across_batches(void **state)
{
	(void)state;
	check("SELECT range AS number_of_the_row FROM range(10000)", BOX(4, 0),
	      "┌───────────────────┐\n"
	      "│ number_of_the_row │\n"
	      "│       int64       │\n"
	      "├───────────────────┤\n"
	      "│                 0 │\n"
	      "│                 1 │\n"
	      "│                 · │\n"
	      "│                 · │\n"
	      "│                 · │\n"
	      "│              9998 │\n"
	      "│              9999 │\n"
	      "├───────────────────┤\n"
	      "│    10,000 rows    │\n"
	      "│     (4 shown)     │\n"
	      "└───────────────────┘\n");
}

static void test_rows_that_barely_exceed_the_limit_are_all_shown(void **state)
{
	char *text = render("SELECT range AS i FROM range(7)", "SELECT", BOX(4, 0));

	(void)state;
	assert_null(strstr(text, "·"));
	assert_null(strstr(text, "shown"));
	assert_non_null(strstr(text, "│     6 │"));
	free(text);
}

static void test_zero_shows_all_rows(void **state)
{
	char *text = render("SELECT range AS i FROM range(5000)", "SELECT", BOX(0, 0));
	size_t lines = 0;

	(void)state;
	for (char *at = text; (at = strchr(at, '\n')); at++) {
		lines++;
	}
	assert_int_equal(lines, 5000 + 5);
	free(text);
}

/* No line may be wider than the terminal, whatever the columns are. */
static void test_a_table_never_exceeds_the_terminal(void **state)
{
	static const char *const sqls[] = {
		"SELECT repeat('x', 300) AS a, 1 AS b",
		"SELECT repeat('世', 100) AS a, repeat('y', 100) AS b, repeat('z', 30) AS c",
		"SELECT 1 AS aaaaaaaaaaaaaaaaaaaa, 2 AS bbbbbbbbbbbbbbbbbbbbbbb, 3 AS "
		"cccccccccccccccccccc, "
		"4 AS dddddddddddddddddddd, 5 AS eeeeeeeeeeeeeeeeeeeeeeee, 6 AS ffffffffffffffffffffff",
	};

	(void)state;
	for (size_t width = 30; width < 130; width += 7) {
		for (size_t i = 0; i < sizeof sqls / sizeof *sqls; i++) {
			char *text = render(sqls[i], "SELECT", BOX(40, width)), *save = NULL;

			for (char *line = strtok_r(text, "\n", &save); line;
			     line = strtok_r(NULL, "\n", &save)) {
				assert_true(mg_width(line, strlen(line)) <= width);
			}
			free(text);
		}
	}
}

static void test_hidden_columns_are_told(void **state)
{
	char *text = render("SELECT 1 AS aaaaaaaaaaaaaaaaaaaa, 2 AS bbbbbbbbbbbbbbbbbbbbbbb, 3 AS "
	                    "cccccccccccccccccccc, "
	                    "4 AS dddddddddddddddddddd",
	                    "SELECT", BOX(40, 60));

	(void)state;
	assert_non_null(strstr(text, "aaaaaaaa"));
	assert_non_null(strstr(text, "dddddddd"));
	assert_null(strstr(text, "bbbbbbbb"));
	assert_non_null(strstr(text, "4 columns (2 shown)"));
	free(text);
}

static void test_explain_is_plain_text(void **state)
{
	char *text =
		render("SELECT 'physical_plan' AS explain_key, 'one' || chr(10) || 'two' AS explain_value",
	           "EXPLAIN", BOX(40, 0));

	(void)state;
	assert_string_equal(text, "one\ntwo\n");
	free(text);
}

static void test_csv_quotes_what_needs_it_and_tells_null_from_empty(void **state)
{
	(void)state;
	check("SELECT 'a,b' AS \"x\"\"y\", '' AS e, NULL AS n, 'say \"hi\"' AS q, 1.50::DECIMAL(5,2) "
	      "AS d",
	      (struct mg_render_options){ .format = MG_FORMAT_CSV },
	      "\"x\"\"y\",e,n,q,d\n"
	      "\"a,b\",\"\",,\"say \"\"hi\"\"\",1.50\n");
	check("SELECT 1 AS a", (struct mg_render_options){ .format = MG_FORMAT_CSV, .no_header = true },
	      "1\n");
}

static void test_json_is_one_line_with_unique_names(void **state)
{
	(void)state;
	check("SELECT 1 AS a, 'x' AS a, NULL AS b, [1, 2] AS l FROM range(2)",
	      (struct mg_render_options){ .format = MG_FORMAT_JSON },
	      "[{\"a\":1,\"a_1\":\"x\",\"b\":null,\"l\":[1,2]},{\"a\":1,\"a_1\":\"x\",\"b\":null,\"l\":"
	      "[1,2]}]\n");
	check("SELECT 1 AS a WHERE false", (struct mg_render_options){ .format = MG_FORMAT_JSON },
	      "[]\n");
	check("SELECT 1 AS a FROM range(2)", (struct mg_render_options){ .format = MG_FORMAT_JSONL },
	      "{\"a\":1}\n{\"a\":1}\n");
}

static void test_markdown_and_lines(void **state)
{
	(void)state;
	check("SELECT 1 AS a, 'p|q' AS b", (struct mg_render_options){ .format = MG_FORMAT_MARKDOWN },
	      "| a | b |\n| --: | --- |\n| 1 | p\\|q |\n");
	check("SELECT 1 AS a, NULL AS bcd FROM range(2)",
	      (struct mg_render_options){ .format = MG_FORMAT_LINE },
	      "  a = 1\nbcd = NULL\n\n  a = 1\nbcd = NULL\n");
}

static void test_an_aborted_statement_writes_nothing(void **state)
{
	struct mg_duck_result *result;
	struct mg_render *render_one;
	struct mg_error err = { 0 };
	const char *names[] = { "a" }, *types[] = { "INTEGER" };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	assert_int_equal(mg_duck_query(conn, "SELECT 1 AS a", &result, &err), 0);
	assert_int_equal(mg_render_new(&render_one, &(struct mg_render_options){
		.format = MG_FORMAT_JSON, .out = out,
	}, &err), 0);
	assert_int_equal(mg_render_begin(render_one, &(struct mg_render_table){
		"SELECT", 1, names, types, mg_duck_result_schema(result),
	}, &err), 0);
	mg_render_abort(render_one);
	mg_render_free(render_one);
	mg_duck_result_free(result);
	fclose(out);
	assert_int_equal(size, 0);
	free(text);
}

static void test_parquet_is_not_for_terminals(void **state)
{
	struct mg_render *none;
	struct mg_error err = { 0 };

	(void)state;
	int terminal = posix_openpt(O_RDWR | O_NOCTTY);
	FILE *out = terminal >= 0 ? fdopen(terminal, "w") : NULL;

	if (!out) {
		skip();
	}
	assert_int_equal(mg_render_new(&none,
	                               &(struct mg_render_options){ .format = MG_FORMAT_PARQUET,
	                                                            .out = out },
	                               &err),
	                 MG_E_USAGE);
	assert_non_null(strstr(err.hint, "-o FILE"));
	fclose(out);
}

static void test_cutting_never_splits_a_character(void **state)
{
	(void)state;
	assert_int_equal(mg_width("世界", 6), 4);
	assert_int_equal(mg_width_cut("世界", 6, 3), 3);
	assert_int_equal(mg_width_cut("ab", 2, 9), 2);
	assert_int_equal(mg_width("\xff\xfe", 2), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_stand_right_and_text_left_under_names_and_types),
		cmocka_unit_test(test_wide_characters_take_two_columns_and_marks_none),
		cmocka_unit_test(test_line_ends_do_not_break_the_frame),
		cmocka_unit_test(test_nested_values_and_their_types),
		cmocka_unit_test(test_no_rows_are_told_in_the_frame),
		cmocka_unit_test(test_many_rows_are_cut_in_the_middle_across_batches),
		cmocka_unit_test(test_rows_that_barely_exceed_the_limit_are_all_shown),
		cmocka_unit_test(test_zero_shows_all_rows),
		cmocka_unit_test(test_a_table_never_exceeds_the_terminal),
		cmocka_unit_test(test_hidden_columns_are_told),
		cmocka_unit_test(test_explain_is_plain_text),
		cmocka_unit_test(test_csv_quotes_what_needs_it_and_tells_null_from_empty),
		cmocka_unit_test(test_json_is_one_line_with_unique_names),
		cmocka_unit_test(test_markdown_and_lines),
		cmocka_unit_test(test_an_aborted_statement_writes_nothing),
		cmocka_unit_test(test_parquet_is_not_for_terminals),
		cmocka_unit_test(test_cutting_never_splits_a_character),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
