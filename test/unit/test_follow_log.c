/*
 * test_follow_log.c - what a shard has applied lately: who can go on with it, and who cannot.
 */
#include "replica/follow_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static struct mg_error err;

/* A batch with one record for each index from `first` on. */
static void put(struct mg_follow_log *log, uint64_t first, uint64_t last, uint64_t index,
                uint64_t term, size_t size)
{
	char *bytes = mg_alloc0(size + 1);

	for (uint64_t i = first; i <= last; i++) {
		memset(bytes, 'a' + (int)(i % 26), size);
		mg_follow_log_add(log, i, bytes, size);
	}
	mg_follow_log_end(log, index, term);
	mg_free(bytes);
}

static uint64_t next_index(struct mg_follow_log *log, uint64_t from)
{
	struct mg_follow_batch *batch = NULL;

	assert_int_equal(mg_follow_log_next(log, from, &batch), MG_FOLLOW_HERE);
	uint64_t index = batch ? batch->index : 0;

	mg_follow_batch_unref(batch);
	return index;
}

static void test_batches_follow_each_other(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(1 << 20);
	struct mg_follow_batch *batch = NULL;
	struct mg_follow_piece piece;
	struct mg_in redo;
	uint64_t index;

	mg_follow_log_reset(log, 100, 3);
	assert_int_equal(next_index(log, 100), 0);
	put(log, 101, 103, 104, 3, 5);
	put(log, 1, 0, 110, 4, 0); /* a checkpoint writes an index, and no rows */
	put(log, 111, 111, 111, 4, 7);
	assert_int_equal(next_index(log, 100), 104);
	assert_int_equal(next_index(log, 102), 104); /* one that has followed another server */
	assert_int_equal(next_index(log, 104), 110);
	assert_int_equal(next_index(log, 110), 111);
	assert_int_equal(next_index(log, 111), 0);

	assert_int_equal(mg_follow_log_next(log, 100, &batch), MG_FOLLOW_HERE);
	assert_int_equal(batch->count, 1);
	assert_int_equal(mg_follow_piece_decode(batch->pieces[0], &piece, &err), 0);
	assert_int_equal(piece.prev, 100);
	assert_int_equal(piece.index, 104);
	assert_int_equal(piece.term, 3);
	assert_true(piece.last);
	for (uint64_t i = 101; i <= 103; i++) {
		assert_true(mg_follow_record_next(&piece, &index, &redo));
		assert_int_equal(index, i);
		assert_int_equal(redo.end - redo.at, 5);
		assert_int_equal(*redo.at, 'a' + (int)(i % 26));
	}
	assert_false(mg_follow_record_next(&piece, &index, &redo));
	mg_follow_batch_unref(batch);
	mg_follow_log_free(log);
}

static void test_who_can_go_on(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(1 << 20);

	mg_follow_log_reset(log, 100, 3);
	assert_int_equal(mg_follow_log_covers(log, 100, 3), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_log_covers(log, 100, 2), MG_FOLLOW_GONE); /* another history */
	put(log, 101, 103, 104, 3, 5);
	put(log, 105, 109, 110, 5, 5);
	assert_int_equal(mg_follow_log_covers(log, 99, 3), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 100, 3), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_log_covers(log, 100, 4), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 102, 3), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_log_covers(log, 104, 3), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_log_covers(log, 104, 4), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 107, 4), MG_FOLLOW_HERE); /* 3 to 5 may be */
	assert_int_equal(mg_follow_log_covers(log, 107, 2), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 107, 6), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 110, 5), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_log_covers(log, 110, 3), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 111, 5), MG_FOLLOW_AHEAD);
	/* The file is another one now: nobody of before can go on, until told. */
	mg_follow_log_reset(log, 200, 6);
	assert_int_equal(mg_follow_log_covers(log, 110, 5), MG_FOLLOW_GONE);
	assert_int_equal(mg_follow_log_covers(log, 200, 6), MG_FOLLOW_HERE);
	mg_follow_log_free(log);
}

static void test_the_oldest_go_and_the_newest_stays(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(64 << 10);
	struct mg_follow_batch *held = NULL, *batch = NULL;

	mg_follow_log_reset(log, 0, 0);
	for (uint64_t i = 1; i <= 20; i++) {
		put(log, i, i, i, 1, 10000);
		if (i == 1) {
			assert_int_equal(mg_follow_log_next(log, 0, &held), MG_FOLLOW_HERE);
		}
	}
	assert_int_equal(mg_follow_log_next(log, 0, &batch), MG_FOLLOW_GONE);
	assert_null(batch);
	assert_int_equal(mg_follow_log_covers(log, 19, 1), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_log_covers(log, 5, 1), MG_FOLLOW_GONE);
	assert_int_equal(held->index, 1); /* being sent, it stays for who sends it */
	mg_follow_batch_unref(held);
	put(log, 21, 21, 21, 1, 200 << 10); /* larger than all that is kept */
	assert_int_equal(next_index(log, 20), 21);
	assert_int_equal(mg_follow_log_covers(log, 19, 1), MG_FOLLOW_GONE);
	mg_follow_log_free(log);
}

static void test_a_large_batch_is_several_pieces(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(64 << 20);
	struct mg_follow_batch *batch = NULL;
	uint64_t index, seen = 0;

	mg_follow_log_reset(log, 0, 0);
	put(log, 1, 10, 10, 1, 1 << 20);
	assert_int_equal(mg_follow_log_next(log, 0, &batch), MG_FOLLOW_HERE);
	assert_true(batch->count > 2);
	for (size_t i = 0; i < batch->count; i++) {
		struct mg_follow_piece piece;
		struct mg_in redo;

		assert_int_equal(mg_follow_piece_decode(batch->pieces[i], &piece, &err), 0);
		assert_int_equal(piece.last, i + 1 == batch->count);
		while (mg_follow_record_next(&piece, &index, &redo)) {
			assert_int_equal(index, ++seen);
		}
	}
	assert_int_equal(seen, 10);
	mg_follow_batch_unref(batch);
	mg_follow_log_free(log);
}

/* A batch that is a little larger than the first piece does not count for a whole large one. */
static void test_batches_count_for_about_what_they_hold(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(1 << 20);

	mg_follow_log_reset(log, 0, 0);
	for (uint64_t i = 1; i <= 40; i++) {
		put(log, 2 * i - 1, 2 * i, 2 * i, 1, 3000);
	}
	assert_int_equal(mg_follow_log_covers(log, 0, 0), MG_FOLLOW_HERE);
	mg_follow_log_free(log);
}

static void test_what_came_to_nothing_is_not_told(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(1 << 20);
	struct mg_follow_batch *batch = NULL;
	struct mg_follow_piece piece;
	struct mg_in redo;
	uint64_t index;

	mg_follow_log_reset(log, 0, 0);
	mg_follow_log_add(log, 1, "lost", 4);
	mg_follow_log_drop(log);
	assert_int_equal(next_index(log, 0), 0);
	mg_follow_log_add(log, 2, "kept", 4);
	mg_follow_log_end(log, 2, 1);
	assert_int_equal(mg_follow_log_next(log, 0, &batch), MG_FOLLOW_HERE);
	assert_int_equal(mg_follow_piece_decode(batch->pieces[0], &piece, &err), 0);
	assert_true(mg_follow_record_next(&piece, &index, &redo));
	assert_memory_equal(redo.at, "kept", 4);
	assert_false(mg_follow_record_next(&piece, &index, &redo));
	mg_follow_batch_unref(batch);
	mg_follow_log_free(log);
}

/* Every piece that is too short, and numbers that do not fit. */
static void test_bytes_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	struct mg_follow_log *log = mg_follow_log_new(1 << 20);
	struct mg_follow_batch *batch = NULL;
	struct mg_follow_piece piece;

	mg_follow_log_reset(log, 10, 1);
	put(log, 11, 12, 12, 1, 3);
	assert_int_equal(mg_follow_log_next(log, 10, &batch), MG_FOLLOW_HERE);
	const struct mg_buf *good = batch->pieces[0];

	for (size_t size = 0; size < good->size; size++) {
		struct mg_buf *cut = mg_buf_copy(good->data, size);
		bool whole = size == MG_FOLLOW_HEAD || size == MG_FOLLOW_HEAD + 15;

		assert_int_equal(mg_follow_piece_decode(cut, &piece, &err), whole ? 0 : MG_E_PROTOCOL);
		mg_buf_unref(cut);
	}
	for (int i = 0; i < 3; i++) {
		/* a batch that ends before it begins, a record before it, one behind it */
		const size_t at[] = { 8, MG_FOLLOW_HEAD, MG_FOLLOW_HEAD };
		const uint64_t numbers[] = { 10, 10, 13 };
		struct mg_buf *wrong = mg_buf_copy(good->data, good->size);

		memcpy(wrong->data + at[i], &numbers[i], sizeof numbers[i]);
		assert_int_equal(mg_follow_piece_decode(wrong, &piece, &err), MG_E_PROTOCOL);
		mg_buf_unref(wrong);
	}
	mg_follow_batch_unref(batch);
	mg_follow_log_free(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batches_follow_each_other),
		cmocka_unit_test(test_who_can_go_on),
		cmocka_unit_test(test_the_oldest_go_and_the_newest_stays),
		cmocka_unit_test(test_a_large_batch_is_several_pieces),
		cmocka_unit_test(test_batches_count_for_about_what_they_hold),
		cmocka_unit_test(test_what_came_to_nothing_is_not_told),
		cmocka_unit_test(test_bytes_that_make_no_sense_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
