/*
 * test_redo.c - what a transaction writes: there and back, and every way to be short.
 */
#include "replica/redo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static struct mg_redo *example(void)
{
	struct mg_redo *redo = mg_redo_new();
	struct mg_buf *columns = mg_buf_copy("columns", 7), *rows = mg_buf_copy("rows", 4);
	struct mg_error err = { 0 };

	mg_redo_create(redo, 7, "main", "t", "\"a\" INTEGER");
	assert_int_equal(mg_redo_rows(redo, 7, MG_REDO_INSERT, "main", "t", columns, rows, 2, &err), 0);
	assert_int_equal(mg_redo_rows(redo, 7, MG_REDO_REPLACE, "main", "t", columns, rows, 3, &err),
	                 0);
	assert_int_equal(
		mg_redo_rows(redo, 2, MG_REDO_DELETE, "main", "a \"b\"", columns, rows, 1, &err), 0);
	mg_redo_drop(redo, 7, "s", "gone");
	mg_redo_publish(redo, 7, MG_REDO_REPLACE, "main", "t", "0#5");
	mg_redo_move(redo, 7, "main", "t", "1#5");
	mg_buf_unref(columns);
	mg_buf_unref(rows);
	return redo;
}

static uint8_t *encode(const struct mg_redo *redo, uint32_t shard, size_t *size)
{
	*size = mg_redo_size(redo, shard);
	uint8_t *bytes = mg_alloc(*size + 1);
	struct mg_out out = mg_out(bytes, *size);

	mg_redo_encode(redo, shard, &out);
	assert_int_equal(out.size, *size);
	return bytes;
}

static void test_there_and_back(void **state)
{
	(void)state;
	struct mg_redo *redo = example(), *again = mg_redo_new();
	struct mg_error err = { 0 };
	const uint32_t *shards, *asked_again;
	size_t size, size_again, count;

	assert_int_equal(mg_redo_shards(redo, &shards), 2);
	assert_int_equal(mg_redo_shards(redo, &asked_again), 2);
	assert_ptr_equal(asked_again, shards); /* a commit reads it while it looks at each part */
	assert_int_equal(shards[0], 2);
	assert_int_equal(shards[1], 7);
	uint8_t *bytes = encode(redo, 7, &size);
	struct mg_in in = mg_in(bytes, size);

	assert_int_equal(mg_redo_decode(again, 7, &in, &err), 0);
	assert_true(mg_in_done(&in));
	const struct mg_redo_op *ops = mg_redo_ops(again, 7, &count);

	assert_int_equal(count, 6);
	assert_int_equal(ops[0].kind, MG_REDO_CREATE);
	assert_string_equal(ops[0].columns, "\"a\" INTEGER");
	assert_int_equal(ops[1].rows, 2);
	assert_int_equal(ops[2].kind, MG_REDO_REPLACE);
	assert_memory_equal(ops[2].ipc_schema->data, "columns", 7);
	assert_memory_equal(ops[2].ipc_batch->data, "rows", 4);
	assert_string_equal(ops[3].schema, "s");
	assert_string_equal(ops[3].table, "gone");
	assert_int_equal(ops[4].kind, MG_REDO_PUBLISH);
	assert_int_equal(ops[4].staged_kind, MG_REDO_REPLACE);
	assert_string_equal(ops[4].staged, "0#5");
	assert_string_equal(ops[4].table, "t");
	assert_int_equal(ops[5].kind, MG_REDO_MOVE);
	assert_string_equal(ops[5].staged, "1#5");
	assert_string_equal(ops[5].schema, "main");
	assert_string_equal(ops[5].table, "t");
	uint8_t *bytes_again = encode(again, 7, &size_again);

	assert_int_equal(size_again, size);
	assert_memory_equal(bytes_again, bytes, size);
	mg_free(bytes_again);
	mg_free(bytes);
	mg_redo_free(again);
	mg_redo_free(redo);
}

static void test_every_cut_is_refused_or_an_operation_less(void **state)
{
	(void)state;
	struct mg_redo *redo = example();
	size_t size, whole = 0;
	uint8_t *bytes = encode(redo, 7, &size);

	for (size_t cut = 0; cut <= size; cut++) {
		struct mg_redo *again = mg_redo_new();
		struct mg_error err = { 0 };
		/* A copy of its own, so that a read behind its end is seen. */
		struct mg_buf *copy = mg_buf_copy(bytes, cut);
		struct mg_in in = mg_in(copy->data, cut);

		if (mg_redo_decode(again, 7, &in, &err) == 0) {
			assert_int_equal(mg_redo_size(again, 7), cut);
			whole++;
		} else {
			assert_int_equal(err.code, MG_E_PROTOCOL);
		}
		mg_buf_unref(copy);
		mg_redo_free(again);
	}
	assert_int_equal(whole, 7); /* behind each of six operations, and nothing at all */
	mg_free(bytes);
	mg_redo_free(redo);
}

static void test_only_rows_are_published(void **state)
{
	(void)state;
	struct mg_redo *redo = mg_redo_new(), *again = mg_redo_new();
	struct mg_error err = { 0 };
	size_t size;

	mg_redo_publish(redo, 1, MG_REDO_INSERT, "main", "t", "0#5");
	uint8_t *bytes = encode(redo, 1, &size);

	bytes[size - 5] = MG_REDO_DROP; /* of the rows, before length and name */
	struct mg_in in = mg_in(bytes, size);

	assert_int_equal(mg_redo_decode(again, 1, &in, &err), MG_E_PROTOCOL);
	mg_free(bytes);
	mg_redo_free(again);
	mg_redo_free(redo);
}

static void test_a_statement_too_large_is_refused(void **state)
{
	(void)state;
	struct mg_redo *redo = mg_redo_new();
	struct mg_buf *columns = mg_buf_copy("columns", 7), *rows = mg_buf_new(1 << 20);
	struct mg_error err = { 0 };
	int code = 0;

	rows->size = 1 << 20;
	memset(rows->data, 0, rows->size);
	for (int i = 0; !code && i < 1000; i++) {
		code = mg_redo_rows(redo, 1, MG_REDO_INSERT, "main", "t", columns, rows, 1, &err);
	}
	assert_int_equal(code, MG_E_LIMIT);
	assert_true(mg_redo_size(redo, 1) <= MG_REDO_BYTES_MAX);
	assert_int_equal(mg_redo_rows(redo, 1, MG_REDO_INSERT, "main", "t", columns, columns,
	                              MG_REDO_ROWS_MAX + 1, &err),
	                 MG_E_LIMIT);
	mg_buf_unref(columns);
	mg_buf_unref(rows);
	mg_redo_free(redo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_every_cut_is_refused_or_an_operation_less),
		cmocka_unit_test(test_only_rows_are_published),
		cmocka_unit_test(test_a_statement_too_large_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
