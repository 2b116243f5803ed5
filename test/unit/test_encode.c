/*
 * test_encode.c - answers as documents, compared with what DuckDB itself writes.
 *
 * CSV must be the bytes of COPY ... (FORMAT csv, HEADER); lines of JSON must be the values of COPY
 * ... (FORMAT json) for the types where HTTP has no rule of its own; the rules of docs/http.md have
 * their own test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"
#include "os/file.h"
#include "session/encode.h"
#include "session/text_rows.h"
#include "store/duck.h"

static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static char path[] = "/tmp/mg-encode-XXXXXX";

static int setup(void **state)
{
	struct mg_error err = { 0 };
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0) {
		return -1;
	}
	close(fd);
	return mg_duck_open(&duck, &(struct mg_duck_options){ .threads = 1, .lossless_arrow = true },
	                    &err) ||
	       mg_duck_connect(duck, &conn, &err);
}

static int teardown(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	unlink(path);
	return 0;
}

static size_t blocks, largest;

static int collect(void *arg, struct mg_buf *buf, struct mg_error *err)
{
	(void)err;
	blocks++;
	largest = buf->size > largest ? buf->size : largest;
	mg_sb_add_len(arg, (const char *)buf->data, buf->size);
	mg_buf_unref(buf);
	return 0;
}

static void encode_as(const char *sql, const struct mg_encode_options *options)
{
	struct mg_error err = { 0 };
	struct mg_duck_result *result = NULL;
	const char *names[64], *types[64];
	bool end = false;
	struct mg_encoder *encoder = mg_encoder_new(options);

	blocks = largest = 0;
	if (mg_duck_query(conn, sql, &result, &err)) {
		fail_msg("%s: %s", sql, err.message);
	}
	size_t count = mg_duck_result_columns(result);

	for (size_t i = 0; i < count; i++) {
		names[i] = mg_duck_result_name(result, i);
		types[i] = mg_duck_result_type(result, i);
	}
	assert_int_equal(
		mg_encoder_begin(encoder, mg_duck_result_schema(result), count, names, types, &err), 0);
	for (;;) {
		struct ArrowArray batch;

		assert_int_equal(mg_duck_result_next(result, 0, &batch, &end, &err), 0);
		if (end) {
			break;
		}
		assert_int_equal(mg_encoder_batch(encoder, &batch, &err), 0);
		ArrowArrayRelease(&batch);
	}
	assert_int_equal(mg_encoder_end(encoder, 1.5, &err), 0);
	mg_duck_result_free(result);
	mg_encoder_free(encoder);
}

static void encode(const char *sql, enum mg_format format, bool pretty, struct mg_sb *out)
{
	const struct mg_encode_options options = {
		.format = format, .pretty = pretty, .emit = collect, .arg = out
	};

	encode_as(sql, &options);
}

static char *copy_to(const char *sql, const char *format)
{
	struct mg_error err = { 0 };
	char *text = NULL;
	size_t size = 0;

	if (mg_duck_execf(conn, &err, "COPY (%s) TO '%s' (%s)", sql, path, format)) {
		fail_msg("%s: %s", sql, err.message);
	}
	assert_int_equal(mg_file_read(path, 64 << 20, &text, &size, &err), 0);
	return text;
}

static const char *const statements[] = {
	"SELECT * FROM (VALUES ('a b'), (' lead'), ('x,y'), ('q\"q'), (''), (NULL), ('l' || chr(10) || "
	"'m'), "
	"('c' || chr(13)), ('b#c'), ('t' || chr(9)), ('NULL'), ('\\'), ('äöü €')) t(\"we,ird "
	"\"\"name\")",
	"SELECT 1::TINYINT a, -2::SMALLINT b, 3::INTEGER c, 4::UINTEGER d, true e, false f, "
	"NULL::INTEGER g",
	"SELECT {'x': 1, 'y': 'b,c'} s, [1, 2, NULL] l, ['a\"b', ''] q, [[1], []] n",
	"SELECT DATE '1995-03-15' d, 'abc'::VARCHAR v, 1.5::DOUBLE f, 0.1::DOUBLE h, 2::DOUBLE i",
	"SELECT i, i % 7 AS m, 'row ' || i AS t FROM range(10000) r(i)",
	"SELECT 1 AS a WHERE false",
};

static void test_csv_is_what_duckdb_writes(void **state)
{
	static const char *const more[] = {
		"SELECT 12.50::DECIMAL(15,2) a, -0.01::DECIMAL(4,2) b, "
		"170141183460469231731687303715884105727::HUGEINT c, "
		"18446744073709551615::UBIGINT d",
		"SELECT TIMESTAMP '2020-01-02 03:04:05.678' a, TIME '01:02:03' b, INTERVAL '1 month 2 "
		"days' c, "
		"'\\x00\\xAB'::BLOB d, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID e, '101'::BIT f",
		"SELECT 'nan'::DOUBLE a, 'inf'::DOUBLE b, '-inf'::FLOAT c, 1e300::DOUBLE h, MAP {'k': 1} "
		"d, '{\"a\": 1}'::JSON e",
	};

	(void)state;
	for (size_t i = 0; i < sizeof statements / sizeof statements[0] + sizeof more / sizeof more[0];
	     i++) {
		size_t count = sizeof statements / sizeof statements[0];
		const char *sql = i < count ? statements[i] : more[i - count];
		struct mg_sb ours = { 0 };
		char *theirs = copy_to(sql, "FORMAT csv, HEADER");

		encode(sql, MG_FORMAT_CSV, false, &ours);
		assert_string_equal(mg_sb_text(&ours), theirs);
		mg_sb_fini(&ours);
		mg_free(theirs);
	}
}

/* A line of JSON without blanks, so that only values are compared. */
static void compact(struct mg_arena *arena, const char *text, struct mg_sb *out)
{
	struct mg_error err = { 0 };

	while (*text) {
		size_t len = strcspn(text, "\n");
		struct mg_json *line = NULL;

		assert_int_equal(mg_json_parse(arena, text, len, &line, &err), 0);
		mg_json_print(out, line);
		mg_sb_add_char(out, '\n');
		text += len + (text[len] == '\n');
	}
}

static void test_ndjson_has_the_values_that_duckdb_writes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
		struct mg_sb ours = { 0 }, ours_compact = { 0 }, theirs_compact = { 0 };
		struct mg_arena *arena = mg_arena_new();
		char *theirs = copy_to(statements[i], "FORMAT json");

		encode(statements[i], MG_FORMAT_NDJSON, false, &ours);
		compact(arena, mg_sb_text(&ours), &ours_compact);
		compact(arena, theirs, &theirs_compact);
		assert_string_equal(mg_sb_text(&ours_compact), mg_sb_text(&theirs_compact));
		mg_sb_fini(&ours);
		mg_sb_fini(&ours_compact);
		mg_sb_fini(&theirs_compact);
		mg_free(theirs);
		mg_arena_free(arena);
	}
}

static void test_json_document_and_its_rules(void **state)
{
	struct mg_sb out = { 0 };

	(void)state;
	encode("SELECT 9007199254740991::BIGINT a, 9007199254740993::BIGINT b, 1.50::DECIMAL(4,2) c, "
	       "'nan'::DOUBLE d, "
	       "'\\xAB'::BLOB e, [1, NULL] f, {'k': 'v'} g, DATE '2020-01-02' h, NULL::INTEGER i",
	       MG_FORMAT_JSON, false, &out);
	assert_string_equal(
		mg_sb_text(&out),
		"{\"result\": {\"columns\": [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", "
	    "\"i\"], "
		"\"types\": [\"BIGINT\", \"BIGINT\", \"DECIMAL(4,2)\", \"DOUBLE\", \"BLOB\", "
		"\"INTEGER[]\", \"STRUCT(\\\"k\\\" VARCHAR)\", \"DATE\", \"INTEGER\"], \"values\": "
		"[[9007199254740991, \"9007199254740993\", \"1.50\", \"nan\", \"qw==\", [1,null], "
		"{\"k\":\"v\"}, \"2020-01-02\", null]]}, \"took\": 1.500}\n");
	mg_sb_fini(&out);
}

static void test_pretty_json_is_the_same_document(void **state)
{
	struct mg_sb plain = { 0 }, pretty = { 0 }, plain_compact = { 0 }, pretty_compact = { 0 };
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *doc = NULL;
	struct mg_error err = { 0 };
	const char *sql = "SELECT i, 'x' || i FROM range(3) r(i)";

	(void)state;
	encode(sql, MG_FORMAT_JSON, false, &plain);
	encode(sql, MG_FORMAT_JSON, true, &pretty);
	assert_int_equal(mg_json_parse(arena, plain.ptr, plain.len, &doc, &err), 0);
	mg_json_print(&plain_compact, doc);
	assert_int_equal(mg_json_parse(arena, pretty.ptr, pretty.len, &doc, &err), 0);
	mg_json_print(&pretty_compact, doc);
	assert_string_equal(mg_sb_text(&plain_compact), mg_sb_text(&pretty_compact));
	assert_non_null(strstr(pretty.ptr, "\n            [1, \"x1\"],\n"));
	mg_sb_fini(&plain);
	mg_sb_fini(&pretty);
	mg_sb_fini(&plain_compact);
	mg_sb_fini(&pretty_compact);
	mg_arena_free(arena);
}

static void test_members_stand_in_an_object_of_others(void **state)
{
	struct mg_sb out = { 0 };
	struct mg_encode_options options = {
		.format = MG_FORMAT_JSON, .members = true, .emit = collect, .arg = &out
	};

	(void)state;
	encode_as("SELECT i FROM range(2) r(i)", &options);
	assert_string_equal(mg_sb_text(&out), "\"columns\": [\"i\"], \"types\": [\"BIGINT\"], "
	                                      "\"values\": [[0], [1]]");
	mg_sb_clear(&out);
	options.pretty = true;
	encode_as("SELECT i FROM range(1) r(i)", &options);
	assert_string_equal(mg_sb_text(&out), "\"columns\": [\"i\"],\n        \"types\": [\"BIGINT\"],"
	                                      "\n        \"values\": [\n            [0]\n        ]");
	mg_sb_fini(&out);
}

static void test_errors_say_whether_to_send_again(void **state)
{
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };

	(void)state;
	mg_error_set(&err, MG_E_UNAVAILABLE, "x");
	mg_error_json(&out, &err);
	assert_non_null(strstr(mg_sb_text(&out), "\"retry\":\"safe\"}"));
	mg_sb_clear(&out);
	mg_error_json_of(&out, &err, 0, 0);
	assert_non_null(strstr(mg_sb_text(&out), "\"retry\":\"safe\",\"index\":0}"));
	mg_sb_clear(&out);
	mg_error_json_of(&out, &err, 2, 2); /* a part of the list is done */
	assert_non_null(strstr(mg_sb_text(&out), "\"retry\":\"never\",\"index\":2}"));
	mg_sb_clear(&out);
	mg_error_set(&err, MG_E_UNKNOWN_OUTCOME, "x");
	mg_error_json_of(&out, &err, 1, 1);
	assert_non_null(strstr(mg_sb_text(&out), "\"retry\":\"maybe\",\"index\":1}"));
	mg_sb_clear(&out);
	mg_error_set(&err, MG_E_DATA, "x");
	mg_copy_text(err.sqlstate, sizeof err.sqlstate, "40001");
	mg_error_json(&out, &err);
	assert_non_null(strstr(mg_sb_text(&out), "\"retry\":\"safe\"}"));
	mg_sb_fini(&out);
}

static void test_large_answers_leave_in_blocks(void **state)
{
	struct mg_sb out = { 0 };

	(void)state;
	encode("SELECT i, repeat('x', 100) FROM range(20000) r(i)", MG_FORMAT_NDJSON, false, &out);
	assert_true(out.len > 2000000);
	assert_true(blocks > 20);
	assert_true(largest < 70000);
	mg_sb_fini(&out);
}

static void test_arrow_stream_decodes_to_the_same_rows(void **state)
{
	struct mg_sb out = { 0 };
	struct mg_error err = { 0 };
	struct mg_arrow_decoder *decoder = NULL;
	size_t used = 0, at, rows = 0;
	bool end = false;

	(void)state;
	encode("SELECT i, 'n' || i AS t FROM range(5000) r(i)", MG_FORMAT_ARROW, false, &out);
	assert_int_equal(mg_arrow_decoder_new(&decoder, &err), 0);
	assert_int_equal(mg_arrow_decode_schema(decoder, out.ptr, out.len, &used, &err), 0);
	for (at = used; !end;) {
		size_t size = 0;
		struct ArrowArray array;

		assert_int_equal(
			mg_arrow_message_size(out.ptr + at, out.len - at, 1 << 20, &size, &end, &err), 0);
		if (end) {
			break;
		}
		struct mg_buf *buf = mg_buf_copy(out.ptr + at, size);

		assert_int_equal(mg_arrow_decode_batch(decoder, buf, &array, &err), 0);
		rows += (size_t)array.length;
		ArrowArrayRelease(&array);
		mg_buf_unref(buf);
		at += size;
	}
	assert_int_equal(rows, 5000);
	assert_int_equal(at + sizeof mg_arrow_end, out.len);
	mg_arrow_decoder_free(decoder);
	mg_sb_fini(&out);
}

static void test_text_rows_read_back(void **state)
{
	static const char *const names[] = { "a", "b" };
	const struct mg_str row[] = { MG_STR("one"), MG_STR("") };
	struct mg_error err = { 0 };
	struct mg_text_rows rows;
	struct mg_arrow_view *view = NULL;
	struct mg_sb text = { 0 };

	(void)state;
	assert_int_equal(mg_text_rows_init(&rows, names, 2, &err), 0);
	assert_int_equal(mg_text_rows_add(&rows, row, &err), 0);
	assert_int_equal(mg_text_rows_finish(&rows, &err), 0);
	assert_int_equal(mg_arrow_view_new(&view, &rows.schema), 0);
	assert_int_equal(mg_arrow_view_set(view, &rows.array), 0);
	assert_int_equal(mg_arrow_view_rows(view), 1);
	assert_string_equal(mg_arrow_view_name(view, 1), "b");
	mg_arrow_view_text(view, 0, 0, &text);
	assert_string_equal(mg_sb_text(&text), "one");
	assert_false(mg_arrow_view_is_null(view, 1, 0));
	mg_sb_fini(&text);
	mg_arrow_view_free(view);
	mg_text_rows_fini(&rows);
}

static struct mg_encoder *parquet_new(struct mg_sb *out, uint64_t bytes_max)
{
	return mg_encoder_new(&(struct mg_encode_options){ .format = MG_FORMAT_PARQUET,
	                                                   .spill_dir = "/tmp",
	                                                   .spill_bytes_max = bytes_max,
	                                                   .emit = collect,
	                                                   .arg = out });
}

/* Give an encoder `rows` rows of random text; the code of the first call that failed. */
static int parquet_fill(struct mg_encoder *encoder, unsigned rows, bool end, struct mg_error *err)
{
	const char *names[] = { "t" }, *types[] = { "VARCHAR" };
	struct mg_duck_result *result = NULL;
	char sql[120];
	bool over = false;
	int code;

	snprintf(sql, sizeof sql, "SELECT md5(range::VARCHAR) AS t FROM range(%u)", rows);
	assert_int_equal(mg_duck_query(conn, sql, &result, err), 0);
	code = mg_encoder_begin(encoder, mg_duck_result_schema(result), 1, names, types, err);
	while (!code && !over) {
		struct ArrowArray batch;

		assert_int_equal(mg_duck_result_next(result, 16384, &batch, &over, err), 0);
		if (!over) {
			code = mg_encoder_batch(encoder, &batch, err);
		}
		if (!over && batch.release) {
			ArrowArrayRelease(&batch);
		}
	}
	mg_duck_result_free(result);
	return code || !end ? code : mg_encoder_end(encoder, 1, err);
}

static void test_parquet_is_what_duckdb_reads(void **state)
{
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };
	struct mg_encoder *encoder = parquet_new(&out, 0);
	int64_t equal = 0;
	char sql[300];

	(void)state;
	blocks = largest = 0;
	assert_int_equal(parquet_fill(encoder, 300000, true, &err), 0);
	mg_encoder_free(encoder);
	assert_true(blocks > 50);
	assert_true(largest <= 128 << 10);
	assert_int_equal(mg_file_write(path, out.ptr, out.len, 0600, &err), 0);
	snprintf(sql, sizeof sql,
	         "SELECT count(*) FROM (SELECT t, row_number() OVER () - 1 AS i FROM "
	         "read_parquet('%s')) WHERE t = md5(i::VARCHAR)",
	         path);
	assert_int_equal(mg_duck_int(conn, sql, &equal, &err), 0);
	assert_int_equal(equal, 300000);
	mg_sb_fini(&out);
}

static void test_parquet_stays_in_its_room(void **state)
{
	struct mg_encoder *encoders[MG_PARQUET_ANSWERS_MAX + 1];
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };

	(void)state;
	struct mg_encoder *large = parquet_new(&out, 100000);
	assert_int_equal(parquet_fill(large, 20000, true, &err), MG_E_DISK_FULL);
	assert_true(err.hint[0]);
	mg_encoder_free(large);
	for (size_t i = 0; i <= MG_PARQUET_ANSWERS_MAX; i++) {
		encoders[i] = parquet_new(&out, 0);
		assert_int_equal(parquet_fill(encoders[i], 10, false, &err),
		                 i < MG_PARQUET_ANSWERS_MAX ? 0 : MG_E_LIMIT);
	}
	/* One that gives up makes room, and has sent nothing. */
	mg_encoder_free(encoders[0]);
	encoders[0] = parquet_new(&out, 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(parquet_fill(encoders[0], 10, true, &err), 0);
	assert_true(out.len > 0);
	for (size_t i = 0; i <= MG_PARQUET_ANSWERS_MAX; i++) {
		mg_encoder_free(encoders[i]);
	}
	mg_sb_fini(&out);
}

static void test_error_object_has_every_member(void **state)
{
	struct mg_error err = { 0 };
	struct mg_sb out = { 0 };

	(void)state;
	mg_error_set(&err, MG_E_NO_TABLE, "table \"x\" is not there");
	mg_error_hint(&err, "Look at cluster.tables.");
	err.origin = MG_ORIGIN_PLANNER;
	mg_error_json(&out, &err);
	assert_string_equal(
		mg_sb_text(&out),
		"{\"code\":\"no_table\",\"sqlstate\":\"42P01\",\"message\":\"table \\\"x\\\" is not "
	    "there\","
		"\"detail\":\"\",\"hint\":\"Look at cluster.tables.\",\"origin\":\"planner\",\"node\":\"\","
		"\"shard\":0,\"retry\":\"never\"}");
	mg_sb_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_csv_is_what_duckdb_writes),
		cmocka_unit_test(test_ndjson_has_the_values_that_duckdb_writes),
		cmocka_unit_test(test_json_document_and_its_rules),
		cmocka_unit_test(test_pretty_json_is_the_same_document),
		cmocka_unit_test(test_members_stand_in_an_object_of_others),
		cmocka_unit_test(test_errors_say_whether_to_send_again),
		cmocka_unit_test(test_large_answers_leave_in_blocks),
		cmocka_unit_test(test_arrow_stream_decodes_to_the_same_rows),
		cmocka_unit_test(test_parquet_is_what_duckdb_reads),
		cmocka_unit_test(test_parquet_stays_in_its_room),
		cmocka_unit_test(test_text_rows_read_back),
		cmocka_unit_test(test_error_object_has_every_member),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
