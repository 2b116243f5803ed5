/* test_spool.c - exchange rows in memory and on disk: order, budget, limits, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/spool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mg_buf *make(uint32_t number, size_t size)
{
	struct mg_buf *buf = mg_buf_new(size);
	for (size_t i = 0; i < size; i++) {
		buf->data[i] = (uint8_t)(number * 31 + i);
	}
	memcpy(buf->data, &number, sizeof number);
	buf->size = size;
	return buf;
}

static void put(struct mg_spool *spool, uint32_t number, size_t size)
{
	struct mg_error err;
	struct mg_buf *buf = make(number, size);
	if (mg_spool_put(spool, buf, 10, &err) != 0) {
		fail_msg("%s", err.message);
	}
	mg_buf_unref(buf);
}

static void check(struct mg_spool *spool, size_t index, uint32_t number, size_t size)
{
	struct mg_error err;
	struct mg_buf *got = NULL;
	struct mg_buf *want = make(number, size);
	if (mg_spool_get(spool, index, &got, &err) != 0) {
		fail_msg("%s", err.message);
	}
	assert_int_equal(got->size, want->size);
	assert_memory_equal(got->data, want->data, want->size);
	mg_buf_unref(got);
	mg_buf_unref(want);
}

static void test_memory_then_disk(void **state)
{
	(void)state;
	struct mg_spool_budget budget = { .limit = 5000, .spill_dir = "/tmp" };
	struct mg_spool *spool = mg_spool_new(&budget);
	for (uint32_t i = 0; i < 20; i++) {
		put(spool, i, 1000);
	}
	mg_spool_seal(spool);
	assert_int_equal(mg_spool_count(spool), 20);
	assert_int_equal(mg_spool_rows(spool), 200);
	assert_int_equal(mg_spool_bytes(spool), 20000);
	assert_int_equal(atomic_load(&budget.used), 5000);
	assert_int_equal(atomic_load(&budget.spilled), 15000);
	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 20; i++) {
			check(spool, i, i, 1000);
		}
	}
	mg_spool_unref(spool);
	assert_int_equal(atomic_load(&budget.used), 0);
	assert_int_equal(atomic_load(&budget.spilled), 0);
}

static void test_limits(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_buf *buf = make(1, 1000);
	struct mg_spool_budget none = { .limit = 500 };
	struct mg_spool *spool = mg_spool_new(&none);
	assert_int_equal(mg_spool_put(spool, buf, 1, &err), MG_E_NOMEM);
	assert_int_equal(atomic_load(&none.used), 0);
	mg_spool_unref(spool);
	struct mg_spool_budget little = { .limit = 500, .spill_dir = "/tmp", .spill_limit = 2500 };
	spool = mg_spool_new(&little);
	assert_int_equal(mg_spool_put(spool, buf, 1, &err), 0);
	assert_int_equal(mg_spool_put(spool, buf, 1, &err), 0);
	assert_int_equal(mg_spool_put(spool, buf, 1, &err), MG_E_NOMEM);
	assert_int_equal(mg_spool_count(spool), 2);
	mg_spool_unref(spool);
	atomic_ullong together = UINT64_MAX / 2; /* others have filled the disk */
	struct mg_spool_budget shared = { .limit = 500, .spill_dir = "/tmp", .together = &together };
	spool = mg_spool_new(&shared);
	assert_int_equal(mg_spool_put(spool, buf, 1, &err), MG_E_DISK_FULL);
	assert_string_equal(err.sqlstate, "53100");
	assert_int_equal(atomic_load(&together), UINT64_MAX / 2);
	assert_int_equal(atomic_load(&shared.spilled), 0);
	atomic_store(&together, 0);
	assert_int_equal(mg_spool_put(spool, buf, 1, &err), 0);
	assert_int_equal(atomic_load(&together), buf->size);
	mg_spool_unref(spool);
	assert_int_equal(atomic_load(&together), 0);
	struct mg_spool_budget nowhere = { .limit = 500, .spill_dir = "/nonexistent" };
	spool = mg_spool_new(&nowhere);
	assert_int_not_equal(mg_spool_put(spool, buf, 1, &err), 0);
	assert_int_equal(atomic_load(&nowhere.spilled), 0);
	mg_spool_unref(spool);
	mg_buf_unref(buf);
}

static void test_schema_must_agree(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_spool_budget budget = { .limit = 5000 };
	struct mg_spool *spool = mg_spool_new(&budget);
	struct mg_buf *a = make(1, 64);
	struct mg_buf *same = make(1, 64);
	struct mg_buf *other = make(2, 64);
	assert_null(mg_spool_schema(spool));
	assert_int_equal(mg_spool_set_schema(spool, a, &err), 0);
	assert_int_equal(mg_spool_set_schema(spool, same, &err), 0);
	assert_int_equal(mg_spool_set_schema(spool, other, &err), MG_E_PROTOCOL);
	assert_ptr_equal(mg_spool_schema(spool), a);
	mg_buf_unref(a);
	mg_buf_unref(same);
	mg_buf_unref(other);
	mg_spool_unref(spool);
}

#define THREADS 4
#define EACH 500

struct filler {
	struct mg_spool *spool;
	uint32_t from;
	pthread_t thread;
};

static void *fill(void *arg)
{
	struct filler *filler = arg;
	struct mg_error err;
	for (uint32_t i = 0; i < EACH; i++) {
		struct mg_buf *buf = make(filler->from + i, 100 + (filler->from + i) % 50);
		if (mg_spool_put(filler->spool, buf, 1, &err) != 0) {
			abort();
		}
		mg_buf_unref(buf);
	}
	return NULL;
}

static void *read_all(void *arg)
{
	struct mg_spool *spool = arg;
	uint64_t *sum = calloc(1, sizeof *sum);
	struct mg_error err;
	for (size_t i = 0; i < mg_spool_count(spool); i++) {
		struct mg_buf *buf = NULL;
		uint32_t number = 0;
		if (mg_spool_get(spool, i, &buf, &err) != 0) {
			abort();
		}
		memcpy(&number, buf->data, sizeof number);
		struct mg_buf *want = make(number, 100 + number % 50);
		if (buf->size != want->size || memcmp(buf->data, want->data, want->size) != 0) {
			abort();
		}
		*sum += number;
		mg_buf_unref(want);
		mg_buf_unref(buf);
	}
	return sum;
}

static void test_many_threads(void **state)
{
	(void)state;
	struct mg_spool_budget budget = { .limit = 100000, .spill_dir = "/tmp" };
	struct mg_spool *spool = mg_spool_new(&budget);
	struct filler fillers[THREADS];
	pthread_t readers[THREADS];
	for (uint32_t i = 0; i < THREADS; i++) {
		fillers[i] = (struct filler){ .spool = spool, .from = i * EACH };
		pthread_create(&fillers[i].thread, NULL, fill, &fillers[i]);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(fillers[i].thread, NULL);
	}
	mg_spool_seal(spool);
	assert_int_equal(mg_spool_count(spool), THREADS * EACH);
	assert_true(atomic_load(&budget.spilled) > 0);
	assert_true(atomic_load(&budget.used) <= 100000);
	assert_int_equal(atomic_load(&budget.used) + atomic_load(&budget.spilled),
	                 mg_spool_bytes(spool));
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_create(&readers[i], NULL, read_all, spool);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		void *sum = NULL;
		pthread_join(readers[i], &sum);
		assert_int_equal(*(uint64_t *)sum, (uint64_t)THREADS * EACH * (THREADS * EACH - 1) / 2);
		free(sum);
	}
	mg_spool_unref(spool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_then_disk),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_schema_must_agree),
		cmocka_unit_test(test_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
