/*
 * The log of changes of a shard, over a disk that forgets: what readers see, what a start keeps of
 * it, what a full disk and a broken file do to it.
 */
#include "base/mem.h"
#include "exec/feed_token.h"
#include "replica/changes_log.h"
#include "sim/sim_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHARD 7
#define PLENTY (64u << 20)

static struct sim_disk *disk;
static struct mg_changes_log *log_;
static struct mg_error err;
static uint64_t bytes_max = PLENTY;

static void live(uint64_t index)
{
	const struct mg_changes_log_options options = { .disk = sim_disk_face(disk),
		                                            .shard = SHARD,
		                                            .bytes_max = bytes_max };

	log_ = mg_changes_log_open(&options, index);
}

static void die(void)
{
	mg_changes_log_close(log_);
	log_ = NULL;
}

static int begin(void **state)
{
	(void)state;
	bytes_max = PLENTY;
	disk = sim_disk_new(11);
	live(0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	die();
	assert_int_equal(sim_disk_open_files(disk), 0);
	sim_disk_free(disk);
	return 0;
}

/* One row of table t, of `size` bytes, which say the index. */
static void add(uint64_t index, size_t size)
{
	static const char columns_text[] = "columns of t";
	struct mg_buf *columns = mg_buf_copy(columns_text, sizeof columns_text);
	struct mg_buf *row = mg_buf_new(size);

	memset(row->data, (int)(index & 0x7f), size);
	row->size = size;
	mg_changes_log_add(log_,
	                   &(struct mg_changes_record){ .kind = MG_CHANGES_INSERT,
	                                                .index = index,
	                                                .schema = "main",
	                                                .table = "t",
	                                                .first_rid = 1000 + index,
	                                                .rows = 1 },
	                   columns, row);
	mg_buf_unref(columns);
	mg_buf_unref(row);
}

static void write_one(uint64_t index)
{
	add(index, 100);
	mg_changes_log_publish(log_, index);
}

/* Reads on: rows from..to, each once and in order, then nothing as of `as_of`. */
static void expect(struct mg_changes_reader *reader, uint64_t from, uint64_t to, uint64_t as_of)
{
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	uint64_t next = from;
	bool more = true;

	while (more) {
		int code = mg_changes_reader_next(reader, &record, &columns, &more, &err);

		if (code) {
			fail_msg("at %llu: %s", (unsigned long long)next, err.message);
		}
		if (more && record.kind == MG_CHANGES_INSERT) {
			assert_int_equal(record.index, next);
			assert_int_equal(record.first_rid, 1000 + next);
			assert_string_equal(record.schema, "main");
			assert_string_equal(record.table, "t");
			assert_int_equal(record.payload[0], next & 0x7f);
			assert_string_equal((const char *)columns->data, "columns of t");
			next++;
		} else if (more) {
			assert_int_equal(record.kind, MG_CHANGES_MARK);
		}
	}
	assert_int_equal(next, to + 1);
	assert_int_equal(record.index, as_of);
}

static struct mg_changes_reader *reader_behind(uint64_t after)
{
	struct mg_changes_reader *reader = NULL;

	if (mg_changes_reader_open(&reader, log_, after, &err)) {
		fail_msg("behind %llu: %s", (unsigned long long)after, err.message);
	}
	return reader;
}

static void expect_all(uint64_t after, uint64_t to, uint64_t as_of)
{
	struct mg_changes_reader *reader = reader_behind(after);

	expect(reader, after + 1, to, as_of);
	mg_changes_reader_close(reader);
}

static void test_readers_follow(void **state)
{
	(void)state;
	struct mg_changes_reader *early = reader_behind(0), *late;

	expect(early, 1, 0, 0);
	for (uint64_t i = 1; i <= 50; i++) {
		write_one(i);
	}
	mg_changes_log_publish(log_, 60); /* entries that change no rows */
	expect(early, 1, 50, 60);
	late = reader_behind(40);
	expect(late, 41, 50, 60);
	write_one(61);
	expect(early, 61, 61, 61);
	expect(late, 61, 61, 61);
	mg_changes_reader_close(early);
	mg_changes_reader_close(late);
}

static void test_what_is_not_published_is_not_seen(void **state)
{
	(void)state;
	struct mg_changes_reader *reader = reader_behind(0);

	write_one(1);
	add(2, 3u << 20); /* more than is buffered */
	expect(reader, 1, 1, 1);
	mg_changes_log_drop(log_);
	write_one(2);
	expect(reader, 2, 2, 2);
	mg_changes_reader_close(reader);
}

static void test_a_start_goes_on_behind_the_file(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= 100; i++) {
		write_one(i);
		if (i == 70) {
			mg_changes_log_sync(log_, 70);
		}
	}
	die();
	sim_disk_kill(disk); /* the shard's file has 70; 71 to 100 are applied again */
	live(70);
	expect_all(0, 70, 70);
	for (uint64_t i = 71; i <= 100; i++) {
		write_one(i);
	}
	expect_all(0, 100, 100);
	expect_all(90, 100, 100);
}

static void test_power_fails(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		uint64_t from = 0, to = 0;

		die();
		sim_disk_free(disk);
		disk = sim_disk_new(seed);
		bytes_max = 2u << 20; /* two or three segments */
		live(0);
		for (uint64_t i = 1; i <= 40; i++) {
			add(i, 100 * (1 + (i * seed) % 300));
			mg_changes_log_publish(log_, i);
			if (i == 25) {
				mg_changes_log_sync(log_, 25);
			}
		}
		die();
		sim_disk_crash(disk);
		live(25);
		mg_changes_log_range(log_, &from, &to);
		assert_int_equal(from, 0); /* what was synced is there */
		assert_int_equal(to, 25);
		expect_all(0, 25, 25);
		write_one(26);
		expect_all(0, 26, 26);
	}
}

static void test_without_a_mark_it_begins_anew(void **state)
{
	(void)state;
	uint64_t from = 0, to = 0;

	for (uint64_t i = 1; i <= 10; i++) {
		write_one(i);
	}
	die();
	live(20); /* 11 to 20 were applied, and what they changed is not here */
	mg_changes_log_range(log_, &from, &to);
	assert_int_equal(from, 20);
	assert_int_equal(to, 20);
	struct mg_changes_reader *reader = NULL;

	assert_int_equal(mg_changes_reader_open(&reader, log_, 10, &err), MG_E_GONE);
	assert_int_equal(mg_code_info(err.code)->http_status, 410);
	write_one(21);
	expect_all(20, 21, 21);
}

static void test_old_segments_go(void **state)
{
	(void)state;
	uint64_t from = 0, to = 0;

	die();
	bytes_max = 512u << 10; /* segments of 64 KiB */
	live(0);
	struct mg_changes_reader *slow = reader_behind(0);
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	bool more = false;
	char **names = NULL;
	size_t count = 0;

	for (uint64_t i = 1; i <= 300; i++) {
		add(i, 8000);
		mg_changes_log_publish(log_, i);
	}
	mg_changes_log_range(log_, &from, &to);
	assert_true(from > 200 && from < 300);
	expect_all(from, 300, 300);
	assert_int_equal(mg_changes_reader_next(slow, &record, &columns, &more, &err), MG_E_GONE);
	mg_changes_reader_close(slow);
	assert_int_equal(mg_changes_reader_open(&slow, log_, from - 1, &err), MG_E_GONE);
	assert_int_equal(mg_disk_list(sim_disk_face(disk), &names, &count, &err), 0);
	assert_true(count <= 10);
	mg_free(names);
	mg_changes_log_sync(log_, 300);
	die();
	uint64_t before = from;

	live(300); /* and after a start it is much the same */
	mg_changes_log_range(log_, &from, &to);
	assert_true(from >= before && from < before + 20);
	expect_all(from, 300, 300);
}

/* ---- rows that were moved ---- */

static void tell(uint64_t index, enum mg_changes_kind kind, const char *table, const char *payload)
{
	const struct mg_changes_record record = { .kind = kind,
		                                      .index = index,
		                                      .schema = "main",
		                                      .table = table,
		                                      .first_rid = 1000 + index,
		                                      .rows = 1,
		                                      .payload = (const uint8_t *)payload,
		                                      .payload_size = payload ? strlen(payload) + 1 : 0 };

	mg_changes_log_add(log_, &record, NULL, NULL);
}

/* Rows wait beside others, and are moved at 30. */
static void move_rows(void)
{
	tell(10, MG_CHANGES_CREATE, "0#5", NULL);
	tell(10, MG_CHANGES_INSERT, "0#5", "first");
	mg_changes_log_publish(log_, 10);
	write_one(11);
	tell(12, MG_CHANGES_INSERT, "1#5", "another's");
	tell(13, MG_CHANGES_INSERT, "0#5", "second");
	tell(14, MG_CHANGES_DROP, "1#5", NULL);
	mg_changes_log_publish(log_, 20);
	tell(30, MG_CHANGES_MOVED, "t", "0#5");
	tell(30, MG_CHANGES_INSERT, "t", "behind");
	mg_changes_log_publish(log_, 30);
}

/* The next record of t, entered when it is MOVED; its payload, or "". */
static const char *next_of_t(struct mg_changes_reader *reader, struct mg_changes_record *record)
{
	struct mg_buf *columns = NULL;
	bool more = true;

	do {
		int code = mg_changes_reader_next(reader, record, &columns, &more, &err);

		code = code || !more || record->kind != MG_CHANGES_MOVED
		           ? code
		           : mg_changes_reader_enter(reader, &err);
		if (code) {
			fail_msg("%s", err.message);
		}
	} while (more && (strcmp(record->table, "t") != 0 || record->kind != MG_CHANGES_INSERT));
	return more ? (const char *)record->payload : "";
}

static void test_rows_that_were_moved_are_told_where_they_went(void **state)
{
	struct mg_changes_record record;

	(void)state;
	move_rows();
	struct mg_changes_reader *reader = reader_behind(29); /* long after they were staged */

	assert_string_equal(next_of_t(reader, &record), "first");
	assert_int_equal(record.index, 30);
	assert_int_equal(record.first_rid, 1010);
	assert_string_equal(next_of_t(reader, &record), "second");
	assert_int_equal(record.index, 30);
	assert_int_equal(record.first_rid, 1013);
	assert_string_equal(next_of_t(reader, &record), "behind");
	assert_string_equal(next_of_t(reader, &record), "");
	mg_changes_reader_close(reader);
}

static void test_moved_rows_that_are_not_kept_are_gone(void **state)
{
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	bool more = false;

	(void)state;
	mg_changes_log_reset(log_, 9);
	tell(10, MG_CHANGES_CREATE, "0#5", NULL);
	mg_changes_log_publish(log_, 10);
	mg_changes_log_reset(log_, 12); /* as a snapshot of another node does */
	for (int rows = 0; rows < 2; rows++) {
		if (rows) {
			tell(13, MG_CHANGES_INSERT, "0#5", "second");
		}
		tell(30 + (uint64_t)rows, MG_CHANGES_MOVED, "t", "0#5");
		mg_changes_log_publish(log_, 30 + (uint64_t)rows);
		struct mg_changes_reader *reader = reader_behind(29 + (uint64_t)rows);

		assert_int_equal(mg_changes_reader_next(reader, &record, &columns, &more, &err), 0);
		assert_int_equal(record.kind, MG_CHANGES_MOVED);
		assert_int_equal(mg_changes_reader_enter(reader, &err), 0);
		assert_int_equal(mg_changes_reader_next(reader, &record, &columns, &more, &err), MG_E_GONE);
		mg_changes_reader_close(reader);
	}
}

static void test_a_full_disk_begins_anew(void **state)
{
	(void)state;
	struct mg_changes_reader *reader = reader_behind(0);
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	bool more = false;
	uint64_t from = 0, to = 0;

	write_one(1);
	expect(reader, 1, 1, 1);
	sim_disk_limit(disk, 20000);
	add(2, 500000);
	mg_changes_log_publish(log_, 2);
	assert_int_equal(mg_changes_reader_next(reader, &record, &columns, &more, &err), MG_E_GONE);
	sim_disk_limit(disk, 0);
	write_one(3);
	mg_changes_log_range(log_, &from, &to);
	assert_true(from >= 2);
	write_one(4);
	expect_all(from, 4, 4);
	mg_changes_reader_close(reader);
}

static void test_another_copy_begins_anew(void **state)
{
	(void)state;
	struct mg_changes_reader *reader = reader_behind(0);
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	bool more = false;

	write_one(1);
	mg_changes_log_reset(log_, 500);
	assert_int_equal(mg_changes_reader_next(reader, &record, &columns, &more, &err), MG_E_GONE);
	mg_changes_reader_close(reader);
	write_one(501);
	expect_all(500, 501, 501);
}

static void test_a_flipped_bit_is_found(void **state)
{
	(void)state;
	struct mg_changes_record record;
	struct mg_buf *columns = NULL;
	bool more = true;
	int code = 0;

	for (uint64_t i = 1; i <= 10; i++) {
		write_one(i);
	}
	assert_true(sim_disk_flip(disk, "0007-0000000001.log", 700));
	struct mg_changes_reader *reader = reader_behind(0);

	while (!code && more) {
		code = mg_changes_reader_next(reader, &record, &columns, &more, &err);
	}
	assert_int_equal(code, MG_E_CORRUPT);
	mg_changes_reader_close(reader);
	die();
	uint64_t from = 0, to = 0;

	live(10); /* a start does not trust it either */
	mg_changes_log_range(log_, &from, &to);
	assert_int_equal(from, 10);
}

/* ---- tokens ---- */

static void test_tokens(void **state)
{
	(void)state;
	struct mg_feed_place places[] = { { 1, 17 }, { 2, 0 }, { 3, UINT64_MAX } };
	struct mg_feed_place again[] = { { 1, 0 }, { 2, 0 }, { 3, 0 } };
	uint32_t table = mg_feed_token_table("main", "t#1");
	struct mg_sb text = { 0 };

	mg_feed_token_add(&text, table, places, 3);
	assert_int_equal(mg_feed_token_parse(mg_sb_text(&text), table, again, 3, &err), 0);
	assert_int_equal(again[0].index, 17);
	assert_int_equal(again[2].index, UINT64_MAX);
	assert_int_equal(mg_feed_token_parse(mg_sb_text(&text), table + 1, again, 3, &err), MG_E_GONE);
	assert_int_equal(mg_feed_token_parse(mg_sb_text(&text), table, again, 2, &err), MG_E_GONE);
	again[1].shard = 9;
	assert_int_equal(mg_feed_token_parse(mg_sb_text(&text), table, again, 3, &err), MG_E_GONE);
	again[1].shard = 2;
	static const char *const bad[] = {
		"", "v1", "v1.", "v2.0", "now ", "v1.zz.1-1", "v1.12.1-", "v1.12.1-1.2", "v1.12.-1-1",
		"v1.12.1-99999999999999999999", "v1.12.1-1-1", "v1.12. 1-1", "v1.12.1-1 ", "v1.12.a-b"
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (mg_feed_token_parse(bad[i], table, again, 3, &err) != MG_E_USAGE) {
			fail_msg("\"%s\" was taken", bad[i]);
		}
	}
	mg_sb_fini(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_readers_follow, begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_not_published_is_not_seen, begin, end),
		cmocka_unit_test_setup_teardown(test_a_start_goes_on_behind_the_file, begin, end),
		cmocka_unit_test_setup_teardown(test_power_fails, begin, end),
		cmocka_unit_test_setup_teardown(test_without_a_mark_it_begins_anew, begin, end),
		cmocka_unit_test_setup_teardown(test_old_segments_go, begin, end),
		cmocka_unit_test_setup_teardown(test_rows_that_were_moved_are_told_where_they_went, begin,
	                                    end),
		cmocka_unit_test_setup_teardown(test_moved_rows_that_are_not_kept_are_gone, begin, end),
		cmocka_unit_test_setup_teardown(test_a_full_disk_begins_anew, begin, end),
		cmocka_unit_test_setup_teardown(test_another_copy_begins_anew, begin, end),
		cmocka_unit_test_setup_teardown(test_a_flipped_bit_is_found, begin, end),
		cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
