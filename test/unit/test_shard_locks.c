/*
 * test_shard_locks.c - who may write beside whom, who goes first, and when a key's rows are known
 * to be here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/clock.h"
#include "replica/shard_locks.h"

#include <pthread.h>
#include <stdatomic.h>

#define SHARDS 3

static bool at_once(void *arg)
{
	(void)arg;
	return true;
}

static bool take(struct mg_shard_locks *locks, enum mg_lock_mode mode, uint32_t shard)
{
	struct mg_key_lock key = { .shard = shard, .slot = 7 };

	return mode == MG_LOCK_KEY
	           ? mg_shard_locks_take_key(locks, &key, at_once, NULL, NULL) == 0
	           : mg_shard_locks_take(locks, mode, &shard, 1, at_once, NULL, NULL) == 0;
}

static void give(struct mg_shard_locks *locks, enum mg_lock_mode mode, uint32_t shard)
{
	const struct mg_key_lock key = { .shard = shard, .slot = 7 };

	if (mode == MG_LOCK_KEY) {
		mg_shard_locks_give_key(locks, &key);
	} else {
		mg_shard_locks_give(locks, mode, &shard, 1);
	}
}

static void test_who_may_be_beside_whom(void **state)
{
	static const bool beside[4][4] = {
		[MG_LOCK_ADD] = { true, true, true, false },
		[MG_LOCK_KEY] = { true, false, false, false }, /* the same key */
		[MG_LOCK_CHANGE] = { true, false, false, false },
		[MG_LOCK_ALTER] = { false, false, false, false },
	};
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);

	(void)state;
	for (enum mg_lock_mode held = MG_LOCK_ADD; held <= MG_LOCK_ALTER; held++) {
		assert_true(take(locks, held, 1));
		for (enum mg_lock_mode mode = MG_LOCK_ADD; mode <= MG_LOCK_ALTER; mode++) {
			bool taken = take(locks, mode, 1);

			assert_int_equal(taken, beside[held][mode]);
			if (taken) {
				give(locks, mode, 1);
			}
			assert_true(take(locks, mode, 2)); /* another shard */
			give(locks, mode, 2);
		}
		give(locks, held, 1);
	}
	mg_shard_locks_free(locks);
}

static void test_keys_are_apart(void **state)
{
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);
	struct mg_key_lock keys[8];

	(void)state;
	for (uint16_t i = 0; i < 8; i++) {
		keys[i] = (struct mg_key_lock){ .shard = 1, .slot = (uint16_t)(i * 3) };
		assert_int_equal(mg_shard_locks_take_key(locks, &keys[i], at_once, NULL, NULL), 0);
	}
	for (uint16_t i = 0; i < 8; i++) {
		struct mg_key_lock same = { .shard = 1, .slot = keys[i].slot };

		assert_int_equal(mg_shard_locks_take_key(locks, &same, at_once, NULL, NULL),
		                 MG_E_CANCELLED);
		mg_shard_locks_give_key(locks, &keys[i]);
		assert_int_equal(mg_shard_locks_take_key(locks, &same, at_once, NULL, NULL), 0);
	}
	assert_false(take(locks, MG_LOCK_CHANGE, 1));
	for (uint16_t i = 0; i < 8; i++) {
		mg_shard_locks_give_key(locks, &keys[i]);
	}
	assert_true(take(locks, MG_LOCK_CHANGE, 1));
	give(locks, MG_LOCK_CHANGE, 1);
	mg_shard_locks_free(locks);
}

/* ---- who waits goes before those that come later ---- */

struct waiter {
	struct mg_shard_locks *locks;
	enum mg_lock_mode mode;
	atomic_bool taken;
	pthread_t thread;
};

static void *wait_for_it(void *arg)
{
	struct waiter *waiter = arg;
	const uint32_t shard = 1;

	(void)mg_shard_locks_take(waiter->locks, waiter->mode, &shard, 1, NULL, NULL, NULL);
	atomic_store(&waiter->taken, true);
	return NULL;
}

static void rest(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
}

static void test_a_stream_of_keys_keeps_nobody_out(void **state)
{
	static const enum mg_lock_mode modes[] = { MG_LOCK_CHANGE, MG_LOCK_ALTER };
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);
	const uint32_t shard = 1;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct waiter waiter = { .locks = locks, .mode = modes[i] };
		struct mg_key_lock key = { .shard = 1, .slot = 1 }, later = { .shard = 1, .slot = 2 };

		assert_int_equal(mg_shard_locks_take_key(locks, &key, NULL, NULL, NULL), 0);
		assert_int_equal(pthread_create(&waiter.thread, NULL, wait_for_it, &waiter), 0);
		rest();
		assert_false(atomic_load(&waiter.taken));
		assert_int_equal(mg_shard_locks_take_key(locks, &later, at_once, NULL, NULL),
		                 MG_E_CANCELLED);
		assert_int_equal(mg_shard_locks_try_add(locks, &shard, 1), modes[i] == MG_LOCK_CHANGE);
		if (modes[i] == MG_LOCK_CHANGE) {
			mg_shard_locks_give(locks, MG_LOCK_ADD, &shard, 1);
		}
		mg_shard_locks_give_key(locks, &key);
		pthread_join(waiter.thread, NULL);
		assert_true(atomic_load(&waiter.taken));
		mg_shard_locks_give(locks, modes[i], &shard, 1);
		assert_int_equal(mg_shard_locks_take_key(locks, &later, at_once, NULL, NULL), 0);
		mg_shard_locks_give_key(locks, &later);
	}
	mg_shard_locks_free(locks);
}

/* ---- are its rows here? ---- */

static struct mg_key_lock key_of(struct mg_shard_locks *locks, uint16_t slot)
{
	struct mg_key_lock key = { .shard = 1, .slot = slot };

	assert_int_equal(mg_shard_locks_take_key(locks, &key, at_once, NULL, NULL), 0);
	return key;
}

/* Taken, looked at, and given back by somebody who has changed nothing of it: the next one does not
 * know that. */
static bool is_here(struct mg_shard_locks *locks, uint16_t slot, uint64_t epoch)
{
	struct mg_key_lock key = key_of(locks, slot);
	bool here = mg_shard_locks_key_is_here(locks, &key, epoch);

	mg_shard_locks_give_key(locks, &key);
	return here;
}

static void await(struct mg_shard_locks *locks, uint16_t slot, uint64_t epoch)
{
	struct mg_key_lock key = key_of(locks, slot);

	mg_shard_locks_key_awaited(locks, &key, epoch);
	assert_true(mg_shard_locks_key_is_here(locks, &key, epoch));
	mg_shard_locks_give_key(locks, &key);
}

static void test_a_key_is_here_until_somebody_has_written(void **state)
{
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);

	(void)state;
	assert_false(is_here(locks, 1, 5)); /* nobody has waited in this epoch */
	await(locks, 2, 5);
	assert_true(is_here(locks, 3, 5));
	assert_false(is_here(locks, 3, 5)); /* its own */
	assert_true(is_here(locks, 4, 5));
	for (enum mg_lock_mode mode = MG_LOCK_ADD; mode <= MG_LOCK_ALTER; mode++) {
		if (mode != MG_LOCK_KEY) {
			await(locks, 2, 5);
			assert_true(take(locks, mode, 1));
			give(locks, mode, 1);
			assert_false(is_here(locks, 20, 5));
		}
	}
	await(locks, 2, 5);
	assert_true(take(locks, MG_LOCK_CHANGE, 2)); /* another shard */
	give(locks, MG_LOCK_CHANGE, 2);
	assert_true(is_here(locks, 21, 5));
	assert_false(is_here(locks, 22, 6)); /* a new epoch */
	await(locks, 2, 6);
	assert_true(is_here(locks, 23, 6));
	mg_shard_locks_free(locks);
}

static void test_another_file_is_another_beginning(void **state)
{
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);

	(void)state;
	await(locks, 1, 5);
	struct mg_key_lock key = key_of(locks, 2);

	assert_true(mg_shard_locks_key_is_here(locks, &key, 5));
	mg_shard_locks_forget(locks, 2);
	assert_true(mg_shard_locks_key_is_here(locks, &key, 5));
	assert_true(mg_shard_locks_key_stays(locks, &key));
	mg_shard_locks_forget(locks, 1);
	assert_false(mg_shard_locks_key_is_here(locks, &key, 5));
	assert_false(mg_shard_locks_key_stays(locks, &key));
	mg_shard_locks_give_key(locks, &key);
	await(locks, 3, 5);
	key = key_of(locks, 4);
	assert_true(mg_shard_locks_key_is_here(locks, &key, 5));
	assert_true(mg_shard_locks_key_stays(locks, &key));
	mg_shard_locks_give_key(locks, &key);
	mg_shard_locks_free(locks);
}

/* A write whose end nobody knows may come behind any barrier of its epoch. */
static void test_doubt_lasts_for_the_epoch(void **state)
{
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);

	(void)state;
	await(locks, 1, 5);
	assert_true(is_here(locks, 2, 5));
	mg_shard_locks_doubt(locks, 1, 5);
	struct mg_key_lock key = key_of(locks, 3);

	mg_shard_locks_key_awaited(locks, &key, 5);
	assert_false(mg_shard_locks_key_is_here(locks, &key, 5));
	mg_shard_locks_key_awaited(locks, &key, 6);
	assert_true(mg_shard_locks_key_is_here(locks, &key, 6));
	mg_shard_locks_give_key(locks, &key);
	mg_shard_locks_free(locks);
}

/* A barrier that began before a write says nothing of it. */
static void test_a_barrier_counts_from_its_beginning(void **state)
{
	struct mg_shard_locks *locks = mg_shard_locks_new(SHARDS);
	struct mg_key_lock slow = key_of(locks, 1), quick = key_of(locks, 2);

	(void)state;
	assert_true(take(locks, MG_LOCK_ADD, 1));
	give(locks, MG_LOCK_ADD, 1);
	mg_shard_locks_key_awaited(locks, &slow, 5);
	assert_false(mg_shard_locks_key_is_here(locks, &quick, 5));
	mg_shard_locks_give_key(locks, &quick);
	await(locks, 3, 5);
	mg_shard_locks_key_awaited(locks, &slow, 5); /* late: it takes nothing back */
	assert_true(is_here(locks, 4, 5));
	mg_shard_locks_give_key(locks, &slow);
	mg_shard_locks_free(locks);
}

/* ---- many at once ---- */

struct crowd {
	struct mg_shard_locks *locks;
	atomic_int holders[4];
	atomic_int of_slot[4];
	atomic_int broken;
};

static void check(struct crowd *crowd, enum mg_lock_mode mode, uint16_t slot)
{
	int adds = atomic_load(&crowd->holders[MG_LOCK_ADD]);
	int keys = atomic_load(&crowd->holders[MG_LOCK_KEY]);
	int changes = atomic_load(&crowd->holders[MG_LOCK_CHANGE]);
	int alters = atomic_load(&crowd->holders[MG_LOCK_ALTER]);
	bool good = mode == MG_LOCK_ALTER    ? alters == 1 && !adds && !keys && !changes
	            : mode == MG_LOCK_CHANGE ? changes == 1 && !keys && !alters
	            : mode == MG_LOCK_KEY    ? atomic_load(&crowd->of_slot[slot]) == 1 && !changes
	                                     : !alters;

	atomic_fetch_add(&crowd->broken, !good);
}

static void *join_crowd(void *arg)
{
	struct crowd *crowd = arg;
	uint64_t random = mg_clock_us() | 1;
	const uint32_t shard = 1;

	for (int i = 0; i < 2000; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		enum mg_lock_mode mode = random % 20 == 0 ? MG_LOCK_ALTER
		                         : random % 5 == 0 ? MG_LOCK_CHANGE
		                         : random % 2 == 0 ? MG_LOCK_KEY
		                                           : MG_LOCK_ADD;
		struct mg_key_lock key = { .shard = 1, .slot = (uint16_t)(random >> 20) % 4 };

		if (mode == MG_LOCK_KEY) {
			(void)mg_shard_locks_take_key(crowd->locks, &key, NULL, NULL, NULL);
			atomic_fetch_add(&crowd->of_slot[key.slot], 1);
		} else {
			(void)mg_shard_locks_take(crowd->locks, mode, &shard, 1, NULL, NULL, NULL);
		}
		atomic_fetch_add(&crowd->holders[mode], 1);
		check(crowd, mode, key.slot);
		atomic_fetch_sub(&crowd->holders[mode], 1);
		if (mode == MG_LOCK_KEY) {
			atomic_fetch_sub(&crowd->of_slot[key.slot], 1);
			mg_shard_locks_give_key(crowd->locks, &key);
		} else {
			mg_shard_locks_give(crowd->locks, mode, &shard, 1);
		}
	}
	return NULL;
}

static void test_a_crowd(void **state)
{
	struct crowd crowd = { .locks = mg_shard_locks_new(SHARDS) };
	pthread_t threads[6];

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, join_crowd, &crowd), 0);
	}
	for (size_t i = 0; i < 6; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(atomic_load(&crowd.broken), 0);
	mg_shard_locks_free(crowd.locks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_may_be_beside_whom),
		cmocka_unit_test(test_keys_are_apart),
		cmocka_unit_test(test_a_stream_of_keys_keeps_nobody_out),
		cmocka_unit_test(test_a_key_is_here_until_somebody_has_written),
		cmocka_unit_test(test_another_file_is_another_beginning),
		cmocka_unit_test(test_doubt_lasts_for_the_epoch),
		cmocka_unit_test(test_a_barrier_counts_from_its_beginning),
		cmocka_unit_test(test_a_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
