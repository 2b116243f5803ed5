/* Values that were read lately: what the cache has is what the tree says, in bounded memory. */
#include "base/mem.h"
#include "store/lsm.h"
#include "store/lsm_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 300, ROUNDS = 20000, BYTES = 64 << 10 };

static uint64_t chance = 1;

static size_t pick(size_t count)
{
	chance = chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (size_t)(chance >> 33) % count;
}

static struct mg_str text_of(char *room, size_t size, const char *what, size_t number)
{
	return (struct mg_str){ room, (size_t)snprintf(room, size, "%s-%zu", what, number) };
}

/* Does the cache have it, and with that value? */
static bool has(struct mg_lsm_cache *cache, const char *key, const char *value)
{
	struct mg_str keys[] = { mg_str(key) }, values[1];
	uint64_t hashes[] = { mg_lsm_cache_hash(keys[0]) };
	struct mg_lsm_record *records[1];

	(void)mg_lsm_cache_find(cache, keys, hashes, 1, records, values);
	if (records[0]) {
		assert_true(mg_str_eq(values[0], mg_str(value)));
	}
	mg_lsm_record_unref(records[0]);
	return records[0] != NULL;
}

static uint64_t look(struct mg_lsm_cache *cache, const char *key)
{
	struct mg_str keys[] = { mg_str(key) }, values[1];
	uint64_t hashes[] = { mg_lsm_cache_hash(keys[0]) };
	struct mg_lsm_record *records[1];
	uint64_t found = mg_lsm_cache_find(cache, keys, hashes, 1, records, values);

	mg_lsm_record_unref(records[0]);
	return found;
}

static void put(struct mg_lsm_cache *cache, uint64_t found, const char *key, const char *value)
{
	mg_lsm_cache_put(cache, found, mg_str(key), mg_lsm_cache_hash(mg_str(key)), mg_str(value));
}

static void test_what_was_read_while_somebody_wrote_is_not_put(void **unused)
{
	struct mg_lsm_cache *cache = mg_lsm_cache_new(BYTES);
	uint64_t hash = mg_lsm_cache_hash(MG_STR("a"));
	uint64_t before = look(cache, "a");

	(void)unused;
	put(cache, before, "a", "1");
	assert_true(has(cache, "a", "1"));
	mg_lsm_cache_begin_write(cache, &hash, 1);
	assert_false(has(cache, "a", "1"));
	put(cache, before, "a", "1"); /* read before the write */
	put(cache, look(cache, "a"), "a", "1"); /* and while it is under way */
	assert_false(has(cache, "a", "1"));
	uint64_t during = look(cache, "a");

	mg_lsm_cache_end_write(cache);
	put(cache, before, "a", "1");
	put(cache, during, "a", "1");
	assert_false(has(cache, "a", "1"));
	put(cache, look(cache, "a"), "a", "2");
	assert_true(has(cache, "a", "2"));
	mg_lsm_cache_begin_write_any(cache);
	mg_lsm_cache_end_write(cache);
	assert_false(has(cache, "a", "2"));
	assert_int_equal(mg_lsm_cache_bytes(cache), 0);
	mg_lsm_cache_free(cache);
}

static void test_its_memory_is_bounded(void **unused)
{
	struct mg_lsm_cache *cache = mg_lsm_cache_new(BYTES);
	char key[32], value[MG_LSM_CACHED_MAX] = "";

	(void)unused;
	for (size_t i = 0; i < 10 * KEYS; i++) {
		(void)text_of(key, sizeof key, "key", i);
		memset(value, 'x', 200);
		value[200 + pick(400)] = '\0';
		memset(value + 200, 'y', strlen(value) - 200);
		put(cache, look(cache, key), key, value);
		assert_in_range(mg_lsm_cache_bytes(cache), 1, BYTES);
		assert_true(has(cache, key, value));
	}
	memset(value, 'z', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	size_t bytes = mg_lsm_cache_bytes(cache);

	put(cache, look(cache, "large"), "large", value);
	assert_int_equal(mg_lsm_cache_bytes(cache), bytes); /* it is too large with its key */
	mg_lsm_cache_free(cache);
}

static char dir[64];
static struct mg_lsm *lsm;

static int begin(void **unused)
{
	const struct mg_lsm_options options = { .dir = dir, .values_bytes = BYTES,
		                                    .memtable_bytes = 256 << 10 };
	struct mg_error err;

	(void)unused;
	snprintf(dir, sizeof dir, "/tmp/mg-lsm-XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(mg_lsm_open(&lsm, &options, &err), 0);
	return 0;
}

static int end(void **unused)
{
	char command[96];

	(void)unused;
	mg_lsm_close(lsm);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

/* One by one they come from the tree alone. */
static void agree(const struct mg_str *keys, size_t count)
{
	struct mg_lsm_value many[KEYS], one;
	struct mg_error err;

	assert_int_equal(mg_lsm_get_many(lsm, keys, count, many, &err), 0);
	for (size_t i = 0; i < count; i++) {
		int code = mg_lsm_get(lsm, keys[i], &one, &err);

		assert_int_equal(code == 0, many[i].bytes.ptr != NULL);
		assert_true(code || mg_str_eq(one.bytes, many[i].bytes));
		mg_lsm_value_free(&one);
		mg_lsm_value_free(&many[i]);
	}
}

static void change(struct mg_lsm_batch *batch, struct mg_str key, size_t round)
{
	char room[200] = "";
	struct mg_str value = text_of(room, sizeof room, "value", round);

	if (pick(4) == 0) {
		mg_lsm_batch_remove(batch, key);
	} else {
		value.len = pick(2) ? value.len : sizeof room;
		mg_lsm_batch_put(batch, key, value);
	}
}

static void test_many_at_once_are_what_the_tree_has(void **unused)
{
	struct mg_lsm_batch *batch = mg_lsm_batch_new(lsm);
	char rooms[KEYS][32];
	struct mg_str keys[KEYS];
	struct mg_error err;

	(void)unused;
	for (size_t i = 0; i < KEYS; i++) {
		keys[i] = text_of(rooms[i], sizeof rooms[i], "key", i);
	}
	for (size_t round = 0; round < ROUNDS; round++) {
		size_t what = pick(8);

		if (what < 4) {
			change(batch, keys[pick(KEYS)], round);
		} else if (what == 4) {
			mg_lsm_batch_mark(batch);
			change(batch, keys[pick(KEYS)], round);
			mg_lsm_batch_back(batch);
		} else if (what == 5) {
			assert_int_equal(mg_lsm_batch_write(batch, false, &err), 0);
		} else {
			size_t first = pick(KEYS), count = pick(KEYS - first) + 1;

			agree(keys + first, count);
		}
	}
	mg_lsm_batch_free(batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_read_while_somebody_wrote_is_not_put),
		cmocka_unit_test(test_its_memory_is_bounded),
		cmocka_unit_test_setup_teardown(test_many_at_once_are_what_the_tree_has, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
