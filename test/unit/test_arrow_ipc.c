/*
 * test_arrow_ipc.c - messages: what goes in comes out, for every type DuckDB has; slices carry
 * their own rows only; damaged bytes are refused or decode to something whole, and never crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"
#include "store/duck.h"

#include <stdio.h>
#include <string.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

#define ALL_TYPES                                                                                  \
	"select i, i %% 2 = 0 as b, i::tinyint as i1, i::usmallint as u2, i::hugeint as h, "           \
	"i::uhugeint as uh, i::float as f, i::double as d, i::decimal(4,1) as d4, "                    \
	"i::decimal(38,2) as d38, 'text ' || i as v, ('blob' || i)::blob as bl, '101'::bit as bi, "    \
	"'12:00:00'::time as t, '12:00:00+01'::timetz as tz, date '2020-01-01' + i::int as dt, "       \
	"timestamp '2020-01-01' as ts, '2020-01-01'::timestamp_s as tss, "                             \
	"'2020-01-01'::timestamp_ns as tsn, '2020-01-01'::timestamptz as tsz, interval 1 year as iv, " \
	"md5(i::varchar)::uuid as u, '{}'::json as j, case when i %% 3 = 0 then null else "            \
	"'b'::enum('a', 'b') end as e, [i, null] as l, [i, i]::bigint[2] as a, "                       \
	"{'x': i, 'y': ['z' || i]} as s, map {'k' || i: i} as m, "                                     \
	"case when i %% 2 = 0 then i::union(p bigint, q varchar) else 'q'::union(p bigint, q "         \
	"varchar) "                                                                                    \
	"end as un, null as n, ['a'::enum('a'), null] as le, 12345678901234567890::bignum as bg, "     \
	"case when i %% 5 = 0 then null else repeat('long text ', 20) end as lt "                      \
	"from range(%d) r(i)"

static void check(int code, const struct mg_error *err)
{
	if (code) {
		fail_msg("%s", err->message);
	}
}

static int open_all(void **state)
{
	(void)state;
	struct mg_error err = { 0 };
	struct mg_duck_options options = { .threads = 1,
		                               .memory_bytes = 1u << 30,
		                               .lossless_arrow = true };
	return mg_duck_open(&duck, &options, &err) || mg_duck_connect(duck, &conn, &err);
}

static int close_all(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

/* One batch of a query with its schema, and its encoded form. */
struct sample {
	struct mg_duck_result *result;
	struct ArrowArray array;
	struct mg_buf *schema;
	struct mg_buf *batch;
	uint64_t raw_bytes;
};

static void sample_open(struct sample *s, const char *sql, bool lz4)
{
	struct mg_error err = { 0 };
	struct mg_arrow_encoder *encoder = NULL;
	bool done = false;
	*s = (struct sample){ 0 };
	check(mg_duck_query(conn, sql, &s->result, &err), &err);
	check(mg_duck_result_next(s->result, 2048, &s->array, &done, &err), &err);
	assert_false(done);
	check(mg_arrow_encoder_new(&encoder, mg_duck_result_schema(s->result), lz4, &err), &err);
	check(mg_arrow_encode_schema(encoder, &s->schema, &err), &err);
	check(mg_arrow_encode_batch(encoder, &s->array, &s->batch, &s->raw_bytes, &err), &err);
	mg_arrow_encoder_free(encoder);
}

static void sample_close(struct sample *s)
{
	ArrowArrayRelease(&s->array);
	mg_duck_result_free(s->result);
	mg_buf_unref(s->schema);
	mg_buf_unref(s->batch);
}

/* Texts of all values, one line a row. */
static char *print_array(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
	struct mg_arrow_view *view = NULL;
	struct mg_sb text = { 0 };
	assert_int_equal(mg_arrow_view_new(&view, schema), 0);
	assert_int_equal(mg_arrow_view_set(view, array), 0);
	for (int64_t row = 0; row < mg_arrow_view_rows(view); row++) {
		for (size_t column = 0; column < mg_arrow_view_columns(view); column++) {
			mg_sb_add(&text, mg_arrow_view_is_null(view, column, row) ? "|NULL" : "|");
			mg_arrow_view_text(view, column, row, &text);
			mg_sb_add_char(&text, '|');
			mg_arrow_view_json(view, column, row, &text);
		}
		mg_sb_add_char(&text, '\n');
	}
	mg_arrow_view_free(view);
	return mg_sb_take(&text);
}

static struct mg_arrow_decoder *decoder_for(const struct mg_buf *schema)
{
	struct mg_error err = { 0 };
	struct mg_arrow_decoder *decoder = NULL;
	size_t used = 0;
	check(mg_arrow_decoder_new(&decoder, &err), &err);
	check(mg_arrow_decode_schema(decoder, schema->data, schema->size, &used, &err), &err);
	assert_int_equal(used, schema->size);
	return decoder;
}

static void round_trip(const char *sql, bool lz4)
{
	struct sample s;
	struct mg_error err = { 0 };
	struct ArrowArray out = { 0 };
	sample_open(&s, sql, lz4);
	struct mg_arrow_decoder *decoder = decoder_for(s.schema);
	check(mg_arrow_decode_batch(decoder, s.batch, &out, &err), &err);
	char *before = print_array(mg_duck_result_schema(s.result), &s.array);
	char *after = print_array(mg_arrow_decoder_schema(decoder), &out);
	assert_string_equal(before, after);
	if (lz4) {
		assert_true(s.batch->size < s.raw_bytes + 16384);
	}
	ArrowArrayRelease(&out);
	mg_free(before);
	mg_free(after);
	mg_arrow_decoder_free(decoder);
	sample_close(&s);
}

static void test_every_type_survives(void **state)
{
	(void)state;
	static const int sizes[] = { 1, 7, 8, 9, 100 };
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		char *sql = mg_format(ALL_TYPES, sizes[i]);
		round_trip(sql, false);
		round_trip(sql, true);
		mg_free(sql);
	}
}

static void test_odd_shapes_survive(void **state)
{
	(void)state;
	static const char *const list[] = {
		"select null as n from range(3)",
		"select ''::varchar as v, ''::blob as b, []::integer[] as l",
		"select repeat('x', 1000000) as v from range(3)",
		"select [[['deep', null], []], null] as l from range(5)",
		"select {'a': {'b': {'c': {'d': 1}}}} as s from range(2000)",
		"select case when i % 2 = 0 then null else {'a': [i]} end as s from range(2048) t(i)",
		"select i as \"naïve \"\"name\"\"\" from range(2) t(i)",
	};
	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
		round_trip(list[i], false);
		round_trip(list[i], true);
	}
}

static void test_empty_batches_survive(void **state)
{
	(void)state;
	struct sample s;
	struct mg_error err = { 0 };
	struct mg_arrow_encoder *encoder = NULL;
	struct ArrowArray empty = { 0 };
	struct ArrowArray out = { 0 };
	struct mg_buf *buf = NULL;
	char *sql = mg_format(ALL_TYPES, 1);
	sample_open(&s, sql, false);
	check(mg_arrow_encoder_new(&encoder, mg_duck_result_schema(s.result), false, &err), &err);
	/* Zero rows of an array that has one: all offsets are still there. */
	empty = s.array;
	empty.length = 0;
	check(mg_arrow_encode_batch(encoder, &empty, &buf, NULL, &err), &err);
	struct mg_arrow_decoder *decoder = decoder_for(s.schema);
	check(mg_arrow_decode_batch(decoder, buf, &out, &err), &err);
	assert_int_equal(out.length, 0);
	ArrowArrayRelease(&out);
	mg_buf_unref(buf);
	mg_arrow_decoder_free(decoder);
	mg_arrow_encoder_free(encoder);
	sample_close(&s);
	mg_free(sql);
}

/* Rows [from, from + length) of the batch, encoded as a slice, are exactly these rows. */
static void check_slice(const struct sample *s, const char *whole, int64_t from, int64_t length)
{
	struct mg_error err = { 0 };
	struct mg_arrow_encoder *encoder = NULL;
	struct ArrowArray out = { 0 };
	struct mg_buf *buf = NULL;
	struct ArrowArray slice = s->array;
	slice.offset = from;
	slice.length = length;
	check(mg_arrow_encoder_new(&encoder, mg_duck_result_schema(s->result), false, &err), &err);
	check(mg_arrow_encode_batch(encoder, &slice, &buf, NULL, &err), &err);
	assert_true(buf->size <= s->batch->size + 1024);
	struct mg_arrow_decoder *decoder = decoder_for(s->schema);
	check(mg_arrow_decode_batch(decoder, buf, &out, &err), &err);
	char *part = print_array(mg_arrow_decoder_schema(decoder), &out);
	const char *start = whole;
	for (int64_t i = 0; i < from; i++) {
		start = strchr(start, '\n') + 1;
	}
	const char *end = start;
	for (int64_t i = 0; i < length; i++) {
		end = strchr(end, '\n') + 1;
	}
	assert_int_equal(strlen(part), end - start);
	assert_memory_equal(part, start, (size_t)(end - start));
	mg_free(part);
	ArrowArrayRelease(&out);
	mg_buf_unref(buf);
	mg_arrow_decoder_free(decoder);
	mg_arrow_encoder_free(encoder);
}

static void test_slices_carry_their_rows_only(void **state)
{
	(void)state;
	struct sample s;
	char *sql = mg_format(ALL_TYPES, 40);
	sample_open(&s, sql, false);
	char *whole = print_array(mg_duck_result_schema(s.result), &s.array);
	for (int64_t from = 0; from < 20; from += 3) {
		for (int64_t length = 1; length <= 20; length += 5) {
			check_slice(&s, whole, from, length);
		}
	}
	mg_free(whole);
	sample_close(&s);
	mg_free(sql);
}

/* Arrow lets a producer say -1 for "not counted", with or without a bitmap. */
static void test_uncounted_nulls_are_counted(void **state)
{
	(void)state;
	struct sample s;
	struct mg_error err = { 0 };
	struct mg_arrow_encoder *encoder = NULL;
	struct ArrowArray out = { 0 };
	struct mg_buf *buf = NULL;
	sample_open(&s, "select i, case when i = 3 then null else i end as n from range(9) t(i)",
	            false);
	struct ArrowArray columns[2] = { *s.array.children[0], *s.array.children[1] };
	struct ArrowArray *children[2] = { &columns[0], &columns[1] };
	const void *no_bitmap[2] = { NULL, columns[0].buffers[1] };
	struct ArrowArray uncounted = s.array;
	uncounted.children = children;
	uncounted.null_count = -1;
	columns[0].buffers = no_bitmap;
	columns[0].null_count = -1;
	columns[1].null_count = -1;
	check(mg_arrow_encoder_new(&encoder, mg_duck_result_schema(s.result), false, &err), &err);
	check(mg_arrow_encode_batch(encoder, &uncounted, &buf, NULL, &err), &err);
	struct mg_arrow_decoder *decoder = decoder_for(s.schema);
	check(mg_arrow_decode_batch(decoder, buf, &out, &err), &err);
	assert_int_equal(out.children[0]->null_count, 0);
	assert_int_equal(out.children[1]->null_count, 1);
	char *before = print_array(mg_duck_result_schema(s.result), &s.array);
	char *after = print_array(mg_arrow_decoder_schema(decoder), &out);
	assert_string_equal(before, after);
	mg_free(before);
	mg_free(after);
	ArrowArrayRelease(&out);
	mg_buf_unref(buf);
	mg_arrow_decoder_free(decoder);
	mg_arrow_encoder_free(encoder);
	sample_close(&s);
}

static void test_uncompressed_rows_are_not_copied(void **state)
{
	(void)state;
	struct sample s;
	struct mg_error err = { 0 };
	struct ArrowArray out = { 0 };
	sample_open(&s, "select i from range(2048) t(i)", false);
	struct mg_arrow_decoder *decoder = decoder_for(s.schema);
	check(mg_arrow_decode_batch(decoder, s.batch, &out, &err), &err);
	const uint8_t *values = out.children[0]->buffers[1];
	assert_true(values >= s.batch->data && values < s.batch->data + s.batch->size);
	assert_true(atomic_load(&s.batch->refs) > 1);
	/* The bytes stay as long as the array, whatever happens to everything else. */
	mg_arrow_decoder_free(decoder);
	mg_buf_unref(s.batch);
	s.batch = NULL;
	assert_int_equal(((const int64_t *)(const void *)values)[2047], 2047);
	ArrowArrayRelease(&out);
	sample_close(&s);
}

static void test_bytes_at_odd_addresses_are_read(void **state)
{
	(void)state;
	struct sample s;
	struct mg_error err = { 0 };
	struct ArrowArray out = { 0 };
	char *sql = mg_format(ALL_TYPES, 10);
	sample_open(&s, sql, false);
	struct mg_arrow_decoder *decoder = NULL;
	struct mg_buf *odd = mg_buf_new(s.batch->size + s.schema->size + 8);
	memcpy(odd->data + 3, s.schema->data, s.schema->size);
	check(mg_arrow_decoder_new(&decoder, &err), &err);
	check(mg_arrow_decode_schema(decoder, odd->data + 3, s.schema->size, NULL, &err), &err);
	memcpy(odd->data + 1, s.batch->data, s.batch->size);
	struct mg_buf *shifted =
		mg_buf_wrap(odd->data + 1, s.batch->size, (void (*)(void *))mg_buf_unref, odd);
	check(mg_arrow_decode_batch(decoder, shifted, &out, &err), &err);
	assert_int_equal(out.length, 10);
	ArrowArrayRelease(&out);
	mg_buf_unref(shifted);
	mg_arrow_decoder_free(decoder);
	sample_close(&s);
	mg_free(sql);
}

/* ---- splitting a stream ---- */

static void test_a_stream_is_split_at_every_cut(void **state)
{
	(void)state;
	struct sample s;
	struct mg_error err = { 0 };
	sample_open(&s, "select i, 'e'::enum('e', 'f') as e from range(20) t(i)", true);
	struct mg_sb stream = { 0 };
	mg_sb_add_len(&stream, (const char *)s.schema->data, s.schema->size);
	mg_sb_add_len(&stream, (const char *)s.batch->data, s.batch->size);
	mg_sb_add_len(&stream, (const char *)mg_arrow_end, sizeof mg_arrow_end);
	size_t at = 0;
	int messages = 0;
	bool end = false;
	while (!end) {
		size_t size = 0;
		check(mg_arrow_message_size(stream.ptr + at, stream.len - at, 1 << 20, &size, &end, &err),
		      &err);
		assert_true(size > 0);
		for (size_t cut = 0; cut < size; cut++) {
			size_t early = 1;
			bool early_end = true;
			check(mg_arrow_message_size(stream.ptr + at, cut, 1 << 20, &early, &early_end, &err),
			      &err);
			assert_int_equal(early, 0);
			assert_false(early_end);
		}
		at += size;
		messages++;
	}
	assert_int_equal(at, stream.len);
	assert_int_equal(messages, 4); /* schema, dictionary, batch, end */
	size_t size;
	assert_int_equal(mg_arrow_message_size(s.batch->data, s.batch->size, 64, &size, &end, &err),
	                 MG_E_LIMIT);
	assert_int_equal(mg_arrow_message_size("garbage that is long", 20, 1 << 20, &size, &end, &err),
	                 MG_E_PROTOCOL);
	mg_sb_fini(&stream);
	sample_close(&s);
}

/* ---- damage ---- */

/* Decode schema and batch, look at every value; true when both were accepted. */
static bool survive(const uint8_t *schema, size_t schema_size, const uint8_t *batch,
                    size_t batch_size)
{
	struct mg_error err = { 0 };
	struct mg_arrow_decoder *decoder = NULL;
	struct ArrowArray out = { 0 };
	bool accepted = false;
	check(mg_arrow_decoder_new(&decoder, &err), &err);
	/* Exact heap copies, so that the sanitizer sees each byte too many. */
	uint8_t *exact = mg_alloc(schema_size);
	memcpy(exact, schema, schema_size);
	struct mg_buf *buf = mg_buf_copy(batch, batch_size);
	int code = mg_arrow_decode_schema(decoder, exact, schema_size, NULL, &err);
	if (code == 0) {
		code = mg_arrow_decode_batch(decoder, buf, &out, &err);
	}
	if (code == 0) {
		mg_free(print_array(mg_arrow_decoder_schema(decoder), &out));
		ArrowArrayRelease(&out);
		accepted = true;
	} else {
		assert_true(err.code == code && err.message[0]);
	}
	mg_buf_unref(buf);
	mg_free(exact);
	mg_arrow_decoder_free(decoder);
	return accepted;
}

/* Next place to damage: every byte where heads are, then every seventh, to stay within seconds. */
static size_t next_place(size_t i)
{
	return i < 1024 ? i + 1 : i + 7;
}

static void test_truncations_are_refused(void **state)
{
	(void)state;
	struct sample s;
	char *sql = mg_format(ALL_TYPES, 5);
	for (int lz4 = 0; lz4 < 2; lz4++) {
		sample_open(&s, sql, lz4);
		for (size_t size = 0; size < s.batch->size; size = next_place(size)) {
			assert_false(survive(s.schema->data, s.schema->size, s.batch->data, size));
		}
		for (size_t size = 0; size < s.schema->size; size = next_place(size)) {
			assert_false(survive(s.schema->data, size, s.batch->data, s.batch->size));
		}
		assert_true(survive(s.schema->data, s.schema->size, s.batch->data, s.batch->size));
		sample_close(&s);
	}
	mg_free(sql);
}

static void test_flipped_bits_never_crash(void **state)
{
	(void)state;
	struct sample s;
	char *sql = mg_format(ALL_TYPES, 3);
	for (int lz4 = 0; lz4 < 2; lz4++) {
		sample_open(&s, sql, lz4);
		size_t tried = 0;
		size_t refused = 0;
		for (size_t i = 0; i < s.batch->size; i = next_place(i)) {
			static const uint8_t masks[] = { 0x01, 0x80, 0xFF };
			uint8_t mask = masks[(i + (size_t)lz4) % sizeof masks];
			tried++;
			s.batch->data[i] ^= mask;
			refused += !survive(s.schema->data, s.schema->size, s.batch->data, s.batch->size);
			s.batch->data[i] ^= mask;
		}
		assert_true(refused > tried / 4);
		for (size_t i = 0; i < s.schema->size; i = next_place(i)) {
			uint8_t mask = (uint8_t)(1 << (i + 3 * (size_t)lz4) % 8);
			s.schema->data[i] ^= mask;
			survive(s.schema->data, s.schema->size, s.batch->data, s.batch->size);
			s.schema->data[i] ^= mask;
		}
		sample_close(&s);
	}
	mg_free(sql);
}

/* Batches of one schema under another one of a similar shape. */
static void test_rows_of_other_columns_are_refused(void **state)
{
	(void)state;
	struct sample a;
	struct sample b;
	sample_open(&a, "select i::bigint as x from range(10) t(i)", false);
	sample_open(&b, "select 'v' || i as x from range(10) t(i)", false);
	assert_false(survive(a.schema->data, a.schema->size, b.batch->data, b.batch->size));
	assert_false(survive(b.schema->data, b.schema->size, a.batch->data, a.batch->size));
	sample_close(&a);
	sample_close(&b);
	sample_open(&a, "select 'a'::enum('a', 'b') as x", false);
	sample_open(&b, "select 1::utinyint as x", false);
	assert_false(survive(a.schema->data, a.schema->size, b.batch->data, b.batch->size));
	assert_false(survive(b.schema->data, b.schema->size, a.batch->data, a.batch->size));
	sample_close(&a);
	sample_close(&b);
}

static void test_compression_pays(void **state)
{
	(void)state;
	struct sample s;
	sample_open(&s, "select repeat('abc', 50) as v, i // 100 as n from range(2048) t(i)", true);
	assert_true(s.raw_bytes > 300000);
	assert_true(s.batch->size < s.raw_bytes / 5);
	sample_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type_survives),
		cmocka_unit_test(test_odd_shapes_survive),
		cmocka_unit_test(test_empty_batches_survive),
		cmocka_unit_test(test_slices_carry_their_rows_only),
		cmocka_unit_test(test_uncounted_nulls_are_counted),
		cmocka_unit_test(test_uncompressed_rows_are_not_copied),
		cmocka_unit_test(test_bytes_at_odd_addresses_are_read),
		cmocka_unit_test(test_a_stream_is_split_at_every_cut),
		cmocka_unit_test(test_truncations_are_refused),
		cmocka_unit_test(test_flipped_bits_never_crash),
		cmocka_unit_test(test_rows_of_other_columns_are_refused),
		cmocka_unit_test(test_compression_pays),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
