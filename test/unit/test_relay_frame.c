/*
 * test_relay_frame.c - frames of statements between nodes: what goes in comes out, what makes no
 * sense is refused, and a reader does not care how the bytes are cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "session/relay_frame.h"

#include <string.h>

static struct mg_error err;

static struct mg_relay_frame back(struct mg_arena *arena, const struct mg_relay_frame *frame)
{
	struct mg_buf *buf = mg_relay_frame_encode(frame);
	struct mg_relay_frame out;
	uint8_t *kept = mg_arena_alloc(arena, buf->size);

	memcpy(kept, buf->data, buf->size);
	assert_int_equal(mg_relay_frame_decode(arena, kept, buf->size, &out, &err), 0);
	assert_int_equal(out.kind, frame->kind);
	/* One byte less, or one more, is another frame. */
	assert_int_equal(mg_relay_frame_decode(arena, kept, buf->size - 1, &out, &err), MG_E_PROTOCOL);
	assert_int_equal(mg_relay_frame_decode(arena, kept, buf->size, &out, &err), 0);
	mg_buf_unref(buf);
	return out;
}

static void test_a_statement_comes_back(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_setting settings[] = { { "strategy", "auto" }, { "TimeZone", "" } };
	const struct mg_relay_frame frame = {
		.kind = MG_RELAY_RUN,
		.run = { .user = "ad\xc3\xa4",
		         .role = MG_ROLE_ADMIN,
		         .lossless = true,
		         .goes_on = true,
		         .batch_rows = 77,
		         .once = "00ff",
		         .digest = UINT64_MAX,
		         .settings = settings,
		         .setting_count = 2,
		         .statement = MG_STR("SELECT 'x'\n"),
		         .seen = "v1.0" },
	};
	struct mg_relay_frame out = back(arena, &frame);

	(void)state;
	assert_string_equal(out.run.user, "ad\xc3\xa4");
	assert_int_equal(out.run.role, MG_ROLE_ADMIN);
	assert_true(out.run.lossless);
	assert_true(out.run.goes_on);
	assert_int_equal(out.run.batch_rows, 77);
	assert_string_equal(out.run.once, "00ff");
	assert_int_equal(out.run.digest, UINT64_MAX);
	assert_int_equal(out.run.setting_count, 2);
	assert_string_equal(out.run.settings[1].name, "TimeZone");
	assert_string_equal(out.run.settings[1].value, "");
	assert_true(mg_str_eq(out.run.statement, frame.run.statement));
	assert_string_equal(out.run.seen, "v1.0");
	mg_arena_free(arena);
}

static void test_an_answer_comes_back(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	const char *names[] = { "a", "" }, *types[] = { "INTEGER", "STRUCT(x INTEGER)" };
	const struct mg_relay_frame begin = {
		.kind = MG_RELAY_BEGIN,
		.begin = { .count = 2,
		           .names = names,
		           .types = types,
		           .schema = (const uint8_t *)"abc",
		           .schema_size = 3 },
	};
	const struct mg_relay_frame done = {
		.kind = MG_RELAY_DONE,
		.done = { .tag = "SELECT 3",
		          .stats = { .rows = 3,
		                     .bytes = 24,
		                     .moved_bytes = 5,
		                     .moved_rows = 4,
		                     .nodes = 2,
		                     .workers = 1,
		                     .shards = 7,
		                     .stages = 6,
		                     .attempts = 8,
		                     .workers_there = 11,
		                     .plan_micros = 9,
		                     .micros = 10,
		                     .step = "cut",
		                     .reason = "so" } },
	};
	const struct mg_relay_frame progress = {
		.kind = MG_RELAY_PROGRESS,
		.progress = { .done = 0.25, .rows = 1, .bytes = 2, .nodes = 3 },
	};
	const struct mg_relay_frame unknown = { .kind = MG_RELAY_PROGRESS, .progress = { .done = -1 } };
	const struct mg_relay_frame seen = { .kind = MG_RELAY_SEEN, .notice = "v1.1" };
	struct mg_relay_frame out = back(arena, &seen);

	(void)state;
	assert_string_equal(out.notice, "v1.1");
	out = back(arena, &begin);
	assert_int_equal(out.begin.count, 2);
	assert_string_equal(out.begin.names[1], "");
	assert_string_equal(out.begin.types[1], "STRUCT(x INTEGER)");
	assert_int_equal(out.begin.schema_size, 3);
	assert_memory_equal(out.begin.schema, "abc", 3);
	out = back(arena, &done);
	assert_string_equal(out.done.tag, "SELECT 3");
	assert_string_equal(out.done.stats.step, "cut");
	assert_string_equal(out.done.stats.reason, "so");
	assert_int_equal(out.done.stats.moved_rows, 4);
	assert_int_equal(out.done.stats.attempts, 8);
	assert_int_equal(out.done.stats.workers_there, 11);
	assert_int_equal(out.done.stats.micros, 10);
	out = back(arena, &progress);
	assert_true(out.progress.done == 0.25);
	assert_int_equal(out.progress.nodes, 3);
	assert_true(back(arena, &unknown).progress.done < 0);
	assert_int_equal(back(arena, &(struct mg_relay_frame){ .kind = MG_RELAY_CANCEL }).kind,
	                 MG_RELAY_CANCEL);
	assert_int_equal(back(arena, &(struct mg_relay_frame){ .kind = MG_RELAY_MORE }).kind,
	                 MG_RELAY_MORE);
	out = back(arena, &(struct mg_relay_frame){ .kind = MG_RELAY_DATA,
	                                            .batch = { .data = (const uint8_t *)"rows",
	                                                       .size = 4 } });
	assert_int_equal(out.batch.size, 4);
	assert_memory_equal(out.batch.data, "rows", 4);
	mg_arena_free(arena);
}

static void test_an_error_comes_back_with_all_it_says(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_frame frame = { .kind = MG_RELAY_FAILED,
		                            .failed = { .elsewhere = true, .coordinator = 3 } };
	struct mg_error *error = &frame.failed.error;

	(void)state;
	mg_error_set(error, MG_E_DATA, "duplicate key %s", "\xff\xfe"); /* no UTF-8 */
	mg_error_detail(error, "There is one.");
	mg_error_hint(error, "Take another.");
	mg_copy_text(error->sqlstate, sizeof error->sqlstate, "23505");
	mg_copy_text(error->node, sizeof error->node, "worker-1");
	error->shard = 4;
	error->origin = MG_ORIGIN_NODE;
	struct mg_relay_frame out = back(arena, &frame);

	error = &out.failed.error;
	assert_int_equal(error->code, MG_E_DATA);
	assert_string_equal(error->sqlstate, "23505");
	assert_string_equal(error->message, "duplicate key ??");
	assert_string_equal(error->detail, "There is one.");
	assert_string_equal(error->hint, "Take another.");
	assert_string_equal(error->node, "worker-1");
	assert_int_equal(error->shard, 4);
	assert_int_equal(error->origin, MG_ORIGIN_NODE);
	assert_true(out.failed.elsewhere);
	assert_int_equal(out.failed.coordinator, 3);
	mg_arena_free(arena);
}

static void test_every_code_keeps_its_meaning(void **state)
{
	struct mg_arena *arena = mg_arena_new();

	(void)state;
	for (int code = MG_OK + 1; code < MG_CODE_COUNT; code++) {
		struct mg_relay_frame frame = { .kind = MG_RELAY_FAILED };

		mg_error_set(&frame.failed.error, code, "x");
		struct mg_relay_frame out = back(arena, &frame);

		assert_int_equal(out.failed.error.code, code);
		assert_string_equal(out.failed.error.sqlstate, mg_code_info(code)->sqlstate);
	}
	mg_arena_free(arena);
}

/* A frame of which a part says what it must not. */
static void refuse(uint8_t kind, const void *body, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_frame out;
	uint8_t bytes[256];
	struct mg_out buf = mg_out(bytes, sizeof bytes);

	mg_out_u32(&buf, (uint32_t)size + MG_RELAY_HEAD);
	mg_out_u8(&buf, kind);
	mg_out_bytes(&buf, body, size);
	assert_int_equal(mg_relay_frame_decode(arena, bytes, buf.size, &out, &err), MG_E_PROTOCOL);
	mg_arena_free(arena);
}

static void test_nonsense_is_refused(void **state)
{
	size_t told;

	(void)state;
	refuse(0, "", 0);
	refuse(99, "", 0);
	refuse(MG_RELAY_CANCEL, "x", 1);
	refuse(MG_RELAY_MORE, "x", 1);
	refuse(MG_RELAY_RUN, "\x04\x03", 2);                  /* a flag that is none */
	refuse(MG_RELAY_NOTICE, "\x02\0\0\0a\0", 6);          /* a zero in a text */
	refuse(MG_RELAY_NOTICE, "\x01\0\0\0\xff", 5);         /* no UTF-8 */
	refuse(MG_RELAY_NOTICE, "\xff\xff\xff\xff", 4);       /* more than there is */
	refuse(MG_RELAY_BEGIN, "\xff\xff\xff\x7f", 4);        /* too many columns */
	refuse(MG_RELAY_PROGRESS, "\xe9\x03\0\0\0\0\0\0", 8); /* more than all */
	assert_int_equal(mg_relay_frame_size((const uint8_t *)"\x04\0\0\0", 100, &told, &err),
	                 MG_E_PROTOCOL);
	assert_int_equal(mg_relay_frame_size((const uint8_t *)"\x65\0\0\0", 100, &told, &err),
	                 MG_E_PROTOCOL);
	assert_int_equal(mg_relay_frame_size((const uint8_t *)"\x64\0\0\0", 100, &told, &err), 0);
	assert_int_equal(told, 100);
}

/* Frames of these sizes, read in pieces of `step` bytes. */
static void read_back(const size_t *sizes, size_t count, size_t step)
{
	struct mg_relay_reader reader = { .max = 1 << 20 };
	struct mg_sb stream = { 0 };
	size_t found = 0;

	for (size_t i = 0; i < count; i++) {
		uint32_t size = (uint32_t)sizes[i];

		mg_sb_add_len(&stream, (const char *)&size, sizeof size);
		for (size_t j = sizeof size; j < sizes[i]; j++) {
			mg_sb_add_char(&stream, (char)(j * 7 + i));
		}
	}
	for (size_t at = 0; at < stream.len;) {
		size_t end = at + step < stream.len ? at + step : stream.len;

		while (at < end) {
			struct mg_buf *whole = NULL;
			size_t used = 0;

			assert_int_equal(mg_relay_reader_take(&reader, (const uint8_t *)stream.ptr + at,
			                                      end - at, &used, &whole, &err),
			                 0);
			at += used;
			if (whole) {
				assert_int_equal(whole->size, sizes[found]);
				assert_memory_equal(whole->data, stream.ptr + at - whole->size, whole->size);
				found++;
				mg_buf_unref(whole);
			}
		}
	}
	assert_int_equal(found, count);
	mg_relay_reader_fini(&reader);
	mg_sb_fini(&stream);
}

static void test_a_reader_takes_bytes_as_they_come(void **state)
{
	static const size_t sizes[] = { 5, 6, 16384, 16385, 100000, 5, 1 << 20 };
	static const size_t steps[] = { 1, 3, 4, 5, 4096, 1 << 20, 1 << 24 };

	(void)state;
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		read_back(sizes, sizeof sizes / sizeof *sizes, steps[i]);
	}
}

static void test_a_reader_takes_no_memory_for_what_has_not_come(void **state)
{
	struct mg_relay_reader reader = { .max = 1u << 30 };
	struct mg_buf *whole = NULL;
	size_t used = 0;
	const uint8_t head[] = { 0, 0, 0, 0x40, MG_RELAY_BATCH, 0, 0, 0 };

	(void)state;
	for (size_t at = 0; at < sizeof head; at += used) {
		assert_int_equal(
			mg_relay_reader_take(&reader, head + at, sizeof head - at, &used, &whole, &err), 0);
	}
	assert_null(whole);
	assert_true(reader.cap <= 64 << 10);
	mg_relay_reader_fini(&reader);
	reader = (struct mg_relay_reader){ .max = 100 };
	assert_int_equal(mg_relay_reader_take(&reader, head, sizeof head, &used, &whole, &err),
	                 MG_E_PROTOCOL);
	mg_relay_reader_fini(&reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_statement_comes_back),
		cmocka_unit_test(test_an_answer_comes_back),
		cmocka_unit_test(test_an_error_comes_back_with_all_it_says),
		cmocka_unit_test(test_every_code_keeps_its_meaning),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_a_reader_takes_bytes_as_they_come),
		cmocka_unit_test(test_a_reader_takes_no_memory_for_what_has_not_come),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
