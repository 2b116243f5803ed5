/* test_explain.c - EXPLAIN of a plan that was not run: text and JSON say the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "exec/explain.h"

#include <string.h>

static void test_text_and_json_say_the_same(void **state)
{
	(void)state;
	uint32_t inputs[] = { 1 };
	const char *scans[] = { "main.t" };
	struct mg_stage first = { .id = 1,
		                      .ship = MG_SHIP_HASH,
		                      .everywhere = true,
		                      .sql = "SELECT \"a\"",
		                      .label = "join",
		                      .scans = scans,
		                      .scan_count = 1,
		                      .rows_estimate = 12 };
	struct mg_stage last = { .id = 2,
		                     .ship = MG_SHIP_RESULT,
		                     .sql = "SELECT 1",
		                     .inputs = inputs,
		                     .input_count = 1,
		                     .rows_estimate = -1 };
	struct mg_stage *stages[] = { &first, &last };
	struct mg_plan_env env = { .stages = stages, .stage_count = 2 };
	struct mg_way way = { .kind = MG_WAY_CUT, .step = "cut", .reason = "because" };
	struct mg_run_stats stats = { 0 };
	struct mg_explain *explain = mg_explain_new();
	struct mg_sb sb = { 0 };
	mg_explain_plan(explain, &env, "one\ntwo\n");
	mg_explain_print(explain, &way, &stats, "SELECT 1", false, false, &sb);
	assert_string_equal(mg_sb_text(&sb),
	                    "step: cut (because)\n"
	                    "stage 1  repartition by slot  (join, on every node, about 12 rows; tables "
	                    "main.t)\n  SELECT \"a\"\n"
	                    "stage 2  answer  (rows, on the coordinator; stages 1)\n  SELECT 1\n"
	                    "decisions:\none\ntwo\n");
	mg_sb_clear(&sb);
	mg_explain_print(explain, &way, &stats, "SELECT 1", false, true, &sb);
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	assert_int_equal(mg_json_parse(arena, sb.ptr, sb.len, &json, NULL), 0);
	assert_string_equal(mg_json_get_text(json, "step"), "cut");
	assert_string_equal(mg_json_get_text(json, "decisions"), "one\ntwo\n");
	const struct mg_json *list = mg_json_get(json, "stages"), *stage = mg_json_at(list, 0);
	assert_int_equal(list->count, 2);
	assert_string_equal(mg_json_get_text(stage, "sql"), "SELECT \"a\"");
	assert_string_equal(mg_json_get_text(stage, "exchange"), "repartition");
	assert_string_equal(mg_json_text(mg_json_at(mg_json_get(stage, "scans"), 0)), "main.t");
	assert_string_equal(mg_json_text(mg_json_at(mg_json_get(mg_json_at(list, 1), "inputs"), 0)),
	                    "1");
	assert_null(mg_json_get(json, "rows_per_shard"));
	mg_arena_free(arena);
	mg_sb_fini(&sb);
	mg_explain_free(explain);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_text_and_json_say_the_same) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
