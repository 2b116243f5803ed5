/*
 * test_control_frame.c - the frames of wss /client are those of docs/protocol.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "door/control_frame.h"

static struct mg_arena *arena;
static struct mg_control frame;
static struct mg_error err;

static int setup(void **state)
{
	(void)state;
	arena = mg_arena_new();
	mg_error_clear(&err);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mg_arena_free(arena);
	return 0;
}

static int parse(const char *text)
{
	return mg_control_parse(arena, text, strlen(text), &frame, &err);
}

static void test_frames_of_the_client(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"type\":\"query\",\"id\":7,\"sql\":\"SELECT 1;\\n\",\"later\":[1]}"),
	                 0);
	assert_int_equal(frame.kind, MG_CONTROL_QUERY);
	assert_int_equal(frame.id, 7);
	assert_string_equal(frame.sql.ptr, "SELECT 1;\n");
	assert_false(frame.progress);
	assert_true(frame.lossless);
	assert_int_equal(parse("{\"lossless\":false,\"sql\":\"\",\"progress\":true,\"id\":4294967295,"
	                       "\"type\":\"query\"}"),
	                 0);
	assert_true(frame.progress);
	assert_false(frame.lossless);
	assert_false(frame.input);
	assert_int_equal(frame.id, UINT32_MAX);
	assert_int_equal(parse("{\"type\":\"cancel\",\"id\":1}"), 0);
	assert_int_equal(frame.kind, MG_CONTROL_CANCEL);
	assert_int_equal(parse("{\"type\":\"complete\",\"id\":2}"), 0);
	assert_int_equal(frame.kind, MG_CONTROL_COMPLETE);
	assert_int_equal(parse("{\"type\":\"ping\"}"), 0);
	assert_int_equal(frame.kind, MG_CONTROL_PING);
}

static void test_other_frames_break_the_protocol(void **state)
{
	static const char *const wrong[] = {
		"",
		"{",
		"[]",
		"null",
		"1",
		"\"query\"",
		"{}",
		"{\"type\":1}",
		"{\"type\":\"\"}",
		"{\"type\":\"hello\"}",
		"{\"type\":\"query\",\"id\":1}",
		"{\"type\":\"query\",\"sql\":\"x\"}",
		"{\"type\":\"query\",\"sql\":1,\"id\":1}",
		"{\"type\":\"query\",\"sql\":\"x\",\"id\":0}",
		"{\"type\":\"query\",\"sql\":\"x\",\"id\":-1}",
		"{\"type\":\"query\",\"sql\":\"x\",\"id\":4294967296}",
		"{\"type\":\"cancel\"}",
		"{\"type\":\"complete\",\"id\":null}",
		"{\"type\":\"ping\"} x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		if (parse(wrong[i]) != MG_E_PROTOCOL) {
			fail_msg("%s was taken", wrong[i]);
		}
	}
}

static void assert_frame(struct mg_sb *sb, const char *expected)
{
	struct mg_json *json = NULL;

	assert_string_equal(mg_sb_text(sb), expected);
	assert_int_equal(mg_json_parse(arena, sb->ptr, sb->len, &json, &err), 0);
	mg_sb_fini(sb);
}

static void test_frames_of_the_server(void **state)
{
	const char *const names[] = { "a", "b \"c\"" };
	const char *const types[] = { "BIGINT", "VARCHAR" };
	const struct mg_run_stats stats = { .rows = 3,
		                                .bytes = 96,
		                                .moved_bytes = 5,
		                                .nodes = 4,
		                                .workers = 3,
		                                .shards = 11,
		                                .step = "cut",
		                                .reason = "because" };
	struct mg_answer answer = { .statement = 1,
		                        .query_id = "q-1",
		                        .verb = "SELECT",
		                        .count = 2,
		                        .names = names,
		                        .types = types,
		                        .stats = &stats,
		                        .elapsed_ms = 12.3,
		                        .tag = "SELECT 3" };
	const struct mg_outcome outcome = { .statement = 2, .query_id = "q-1" };
	struct mg_error failure = { 0 };
	struct mg_sb sb = { 0 };

	(void)state;
	mg_control_begin(&sb, 9, &answer);
	assert_frame(
		&sb, "{\"type\":\"begin\",\"id\":9,\"statement\":1,\"query\":\"q-1\",\"verb\":\"SELECT\","
			 "\"columns\":[\"a\",\"b \\\"c\\\"\"],\"types\":[\"BIGINT\",\"VARCHAR\"]}");
	mg_control_end(&sb, 9, &answer);
	assert_frame(
		&sb,
		"{\"type\":\"end\",\"id\":9,\"statement\":1,\"query\":\"q-1\",\"rows\":3,\"bytes\":96,"
		"\"elapsed_ms\":12.300,\"step\":\"cut\",\"reason\":\"because\",\"nodes\":4,\"workers\":3,"
		"\"shards\":11,\"moved_bytes\":5,\"tag\":\"SELECT 3\"}");
	mg_error_set(&failure, MG_E_CANCELLED, "stop");
	mg_control_error(&sb, 9, &outcome, &failure, &(struct mg_control_state){ "", "" });
	assert_frame(
		&sb,
		"{\"type\":\"error\",\"id\":9,\"statement\":2,\"query\":\"q-1\",\"error\":{\"code\":"
		"\"cancelled\",\"sqlstate\":\"57014\",\"message\":\"stop\",\"detail\":\"\",\"hint\":\"\","
		"\"origin\":\"\",\"node\":\"\",\"shard\":0,\"retry\":\"safe\"}}");
	mg_control_progress(&sb, 9, 0.42, 1000, 80000, 4);
	assert_frame(&sb, "{\"type\":\"progress\",\"id\":9,\"done\":0.4200,\"rows\":1000,\"bytes\":"
	                  "80000,\"nodes\":4}");
	mg_control_notice(&sb, 9, "a \"b\"");
	assert_frame(&sb, "{\"type\":\"notice\",\"id\":9,\"message\":\"a \\\"b\\\"\"}");
	mg_control_done(&sb, 9, &(struct mg_control_state){ "", "" });
	assert_frame(&sb, "{\"type\":\"done\",\"id\":9}");
	mg_control_done(&sb, 9, &(struct mg_control_state){ "open", "v1.x" });
	assert_frame(&sb,
	             "{\"type\":\"done\",\"id\":9,\"transaction\":\"open\",\"seen\":\"v1.x\"}");
}

static void test_names_are_json_with_tables_and_functions(void **state)
{
	struct mg_column columns[] = { { .name = "l_orderkey", .type = "BIGINT" },
		                           { .name = "odd\"one", .type = "DATE" } };
	struct mg_table table = {
		.schema = "main", .name = "lineitem", .columns = columns, .column_count = 2
	};
	const struct mg_catalog_data data = { .tables = &table, .table_count = 1 };
	struct mg_json *json = NULL;
	struct mg_sb sb = { 0 };

	(void)state;
	mg_control_names(&sb, 3, &data);
	assert_int_equal(mg_json_parse(arena, sb.ptr, sb.len, &json, &err), 0);
	assert_int_equal(mg_json_get_int(json, "id", 0), 3);
	const struct mg_json *first = mg_json_at(mg_json_get(json, "tables"), 0);

	assert_string_equal(mg_json_get_text(first, "name"), "lineitem");
	assert_string_equal(mg_json_text(mg_json_at(mg_json_get(first, "columns"), 1)), "odd\"one");
	assert_string_equal(mg_json_get_text(mg_json_at(mg_json_get(json, "tables"), 1), "schema"),
	                    "cluster");
	assert_true(mg_json_get(json, "functions")->count > 100);
	mg_sb_fini(&sb);
}

static void test_head_is_little_endian(void **state)
{
	static const uint8_t expected[MG_CLIENT_HEAD_SIZE] = { 2, 0, 0, 0, 4, 3, 2, 1,
		                                                   8, 7, 6, 5, 0, 0, 0, 0 };
	uint8_t head[MG_CLIENT_HEAD_SIZE];

	(void)state;
	mg_control_head(head, 2, 0x01020304, 0x05060708);
	assert_memory_equal(head, expected, sizeof head);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_frames_of_the_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_frames_break_the_protocol, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frames_of_the_server, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_are_json_with_tables_and_functions, setup,
		                                teardown),
		cmocka_unit_test(test_head_is_little_endian),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
