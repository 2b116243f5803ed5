/*
 * test_cuts.c - several shards of a node as one cut: vectors, holds, and lanes of different speed
 * under readers that never pause.
 */
#include "replica/command.h"
#include "replica/cuts.h"

#include "base/mem.h"
#include "os/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

enum { SHARDS = 4, NOW = 1000 };

static struct mg_error err;

/* ---- vectors ---- */

static void publish(struct mg_cuts *cuts, uint32_t shard, const uint64_t *seen)
{
	assert_true(mg_cuts_try_publish(cuts, shard));
	mg_cuts_publish_end(cuts, shard, seen, false);
}

/* Whether these two make a cut now. */
static bool meet(struct mg_cuts *cuts, uint32_t a, uint32_t b)
{
	const uint32_t shards[] = { a, b };
	struct mg_cut cut = { .shards = shards, .count = 2 };
	bool begun = mg_cuts_try_begin(cuts, &cut, NOW);

	if (begun) {
		mg_cuts_end(cuts);
	} else {
		mg_cuts_give_up(cuts, &cut);
	}
	return begun;
}

static void test_a_commit_is_seen_in_all_of_its_shards(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);

	(void)state;
	assert_true(meet(cuts, 0, 1));
	/* Commit 7 of shards 1 and 2: who has seen it in 1 may read 2 next. */
	publish(cuts, 1, (uint64_t[]){ 0, 7, 7, 0 });
	assert_false(meet(cuts, 1, 2));
	assert_false(meet(cuts, 1, 3));
	assert_true(meet(cuts, 2, 3));
	publish(cuts, 2, (uint64_t[]){ 0, 7, 7, 0 });
	assert_true(meet(cuts, 1, 2));
	/* One that came later to 2 and 3 alone says nothing about 1. */
	publish(cuts, 2, (uint64_t[]){ 0, 7, 9, 9 });
	assert_false(meet(cuts, 1, 2));
	assert_false(meet(cuts, 2, 3));
	assert_true(meet(cuts, 1, 3));
	assert_int_equal(mg_cuts_highest(cuts), 9);
	/* What came to nothing changes nothing. */
	assert_true(mg_cuts_try_publish(cuts, 3));
	assert_false(meet(cuts, 1, 3)); /* it may be there at any moment */
	mg_cuts_publish_end(cuts, 3, NULL, true);
	assert_false(meet(cuts, 2, 3));
	assert_true(meet(cuts, 1, 3));
	mg_cuts_free(cuts);
}

/* ---- lanes at work ---- */

static void hurry(void *arg)
{
	(void)arg;
}

struct slow {
	struct mg_cuts *cuts;
	int looks; /* at which shard 2 has caught up */
};

static bool moves(void *arg, const uint32_t *shards, size_t count)
{
	struct slow *slow = arg;

	assert_int_equal(count, 1); /* the one that is behind, and no other */
	assert_int_equal(shards[0], 2);
	if (slow->looks == 0) {
		return false;
	}
	if (--slow->looks == 0) {
		publish(slow->cuts, 2, (uint64_t[]){ 0, 7, 7, 0 });
	}
	return true;
}

static void test_a_patient_reader_waits_while_lanes_are_at_work(void **state)
{
	static const uint32_t shards[] = { 1, 2 };
	struct slow slow = { mg_cuts_new(SHARDS), 3 };
	struct mg_cut cut = { .shards = shards, .count = 2 };
	uint64_t waited;

	(void)state;
	mg_cuts_on_wait(slow.cuts, hurry, moves, &slow);
	publish(slow.cuts, 1, (uint64_t[]){ 0, 7, 7, 0 });
	assert_int_equal(mg_cuts_begin(slow.cuts, &cut, 1, NULL, NULL, &waited, &err),
	                 MG_E_UNAVAILABLE);
	assert_int_equal(slow.looks, 3); /* who has no patience does not ask */
	cut.patient = true;
	assert_int_equal(mg_cuts_begin(slow.cuts, &cut, 1, NULL, NULL, &waited, &err), 0);
	mg_cuts_end(slow.cuts);
	/* What 1 has of 2 and 3 is awaited from 2 also by who reads 1 and 3. */
	static const uint32_t others[] = { 1, 3 };
	struct mg_cut around = { .shards = others, .count = 2, .patient = true };

	slow.looks = 3;
	publish(slow.cuts, 2, (uint64_t[]){ 0, 6, 6, 0 });
	assert_int_equal(mg_cuts_begin(slow.cuts, &around, 1, NULL, NULL, &waited, &err), 0);
	mg_cuts_end(slow.cuts);
	publish(slow.cuts, 1, (uint64_t[]){ 0, 8, 8, 0 });
	assert_int_equal(mg_cuts_begin(slow.cuts, &cut, 1, NULL, NULL, &waited, &err),
	                 MG_E_UNAVAILABLE);
	mg_cuts_free(slow.cuts);
}

static void test_a_blind_shard_meets_nobody(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);
	const uint64_t none[SHARDS] = { 0 };

	(void)state;
	assert_true(mg_cuts_try_publish(cuts, 2));
	mg_cuts_publish_end(cuts, 2, none, true);
	assert_false(meet(cuts, 1, 2));
	assert_true(meet(cuts, 1, 3));
	publish(cuts, 2, none);
	assert_true(meet(cuts, 1, 2));
	mg_cuts_free(cuts);
}

static void test_nothing_is_published_while_a_reader_touches(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);
	const uint32_t shards[] = { 1, 2 };
	struct mg_cut cut = { .shards = shards, .count = 2 };

	(void)state;
	assert_true(mg_cuts_try_begin(cuts, &cut, NOW));
	assert_false(mg_cuts_try_publish(cuts, 1));
	mg_cuts_end(cuts);
	assert_true(mg_cuts_try_publish(cuts, 1));
	mg_cuts_publish_end(cuts, 1, NULL, false);
	mg_cuts_free(cuts);
}

/* Who waits for two shards to meet keeps the others from running ahead, but not for ever. */
static void test_readers_hold_what_runs_ahead(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);
	const uint32_t shards[] = { 1, 2 };
	struct mg_cut cut = { .shards = shards, .count = 2 };
	uint64_t later = NOW + MG_CUTS_HOLD_MS, much_later = later + MG_CUTS_HOLD_MS;

	(void)state;
	assert_true(mg_cuts_try_enter(cuts, 3, NOW));
	publish(cuts, 1, (uint64_t[]){ 0, 3, 3, 0 });
	assert_true(mg_cuts_try_enter(cuts, 4, NOW)); /* nobody waits yet */
	assert_false(mg_cuts_try_begin(cuts, &cut, NOW));
	assert_true(mg_cuts_try_enter(cuts, 3, NOW)); /* they have to come together */
	assert_true(mg_cuts_try_enter(cuts, 4, NOW));
	assert_false(mg_cuts_try_enter(cuts, 5, NOW));
	assert_false(mg_cuts_try_enter(cuts, 5, later - 1));
	assert_true(mg_cuts_try_enter(cuts, 5, later));
	assert_false(mg_cuts_try_begin(cuts, &cut, later));
	assert_true(mg_cuts_try_enter(cuts, 6, later)); /* for as long nobody is held */
	assert_false(mg_cuts_try_begin(cuts, &cut, much_later));
	assert_false(mg_cuts_try_enter(cuts, 7, much_later));
	publish(cuts, 2, (uint64_t[]){ 0, 3, 3, 0 });
	assert_true(mg_cuts_try_begin(cuts, &cut, much_later));
	assert_true(mg_cuts_try_enter(cuts, 7, much_later)); /* nobody waits any more */
	mg_cuts_end(cuts);
	mg_cuts_free(cuts);
}

static bool is_true(void *arg)
{
	(void)arg;
	return true;
}

static void test_a_reader_waits_for_so_long(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);
	const uint32_t shards[] = { 1, 2 };
	struct mg_cut cut = { .shards = shards, .count = 2 };
	uint64_t waited = 0;

	(void)state;
	publish(cuts, 1, (uint64_t[]){ 0, 1, 1, 0 });
	assert_int_equal(mg_cuts_begin(cuts, &cut, 20, NULL, NULL, &waited, &err), MG_E_UNAVAILABLE);
	assert_true(waited >= 20);
	assert_int_equal(mg_cuts_begin(cuts, &cut, 60000, is_true, NULL, &waited, &err),
	                 MG_E_CANCELLED);
	publish(cuts, 2, (uint64_t[]){ 0, 1, 1, 0 });
	assert_int_equal(mg_cuts_begin(cuts, &cut, 0, is_true, NULL, &waited, &err), 0);
	mg_cuts_end(cuts);
	mg_cuts_free(cuts);
}

/* ---- readers of one shard ---- */

static bool is_told(struct mg_cuts *cuts, uint32_t shard)
{
	struct mg_cuts_told told = { .shard = shard };

	return mg_cuts_try_told(cuts, &told);
}

/* What a reader of shard 1 has seen of commit 7 who reads 2 or 3 next sees, too. */
static void test_what_one_shard_shows_all_of_its_shards_have(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);
	struct mg_cuts_told early = { .shard = 1 };

	(void)state;
	assert_true(is_told(cuts, 1));
	mg_cuts_accept(cuts, 1, 7);
	publish(cuts, 1, (uint64_t[]){ 0, 7, 7, 7 });
	assert_false(is_told(cuts, 1));
	assert_true(is_told(cuts, 2)); /* which shows nothing of it yet */
	assert_true(mg_cuts_is_behind(cuts, 2));
	assert_false(mg_cuts_is_behind(cuts, 1) || mg_cuts_is_behind(cuts, 0));
	assert_false(mg_cuts_try_told(cuts, &early));
	mg_cuts_accept(cuts, 2, 7);
	assert_false(is_told(cuts, 1));
	mg_cuts_accept(cuts, 3, 7); /* it need not be applied there */
	assert_true(is_told(cuts, 1));
	assert_true(mg_cuts_try_told(cuts, &early));
	assert_int_equal(mg_cuts_highest(cuts), 7);
	/* Of 8 the reader has seen nothing: of those that it has, all shards have been waited for. */
	assert_true(mg_cuts_try_publish(cuts, 1));
	struct mg_cuts_told late = { .shard = 1 };

	assert_false(mg_cuts_try_told(cuts, &late)); /* it may be there at any moment */
	mg_cuts_publish_end(cuts, 1, (uint64_t[]){ 0, 8, 8, 7 }, false);
	assert_true(mg_cuts_try_told(cuts, &early));
	assert_false(mg_cuts_try_told(cuts, &late));
	mg_cuts_accept(cuts, 0, 9); /* a later one says nothing of it */
	assert_false(mg_cuts_try_told(cuts, &late));
	mg_cuts_accept(cuts, 2, 8);
	assert_true(mg_cuts_try_told(cuts, &late));
	mg_cuts_free(cuts);
}

static void *accept_later(void *arg)
{
	mg_sleep_ms(20);
	mg_cuts_accept(arg, 2, 5);
	return NULL;
}

static void test_a_reader_of_one_shard_waits_until_it_is_told(void **state)
{
	struct mg_cuts *cuts = mg_cuts_new(SHARDS);
	pthread_t thread;

	(void)state;
	publish(cuts, 1, (uint64_t[]){ 0, 5, 5, 0 });
	assert_int_equal(mg_cuts_await_told(cuts, 1, 5, NULL, NULL, &err), MG_E_UNAVAILABLE);
	assert_int_equal(mg_cuts_await_told(cuts, 1, 60000, is_true, NULL, &err), MG_E_CANCELLED);
	assert_int_equal(mg_cuts_await_told(cuts, 2, 0, NULL, NULL, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, accept_later, cuts), 0);
	assert_int_equal(mg_cuts_await_told(cuts, 1, 60000, NULL, NULL, &err), 0);
	pthread_join(thread, NULL);
	/* A commit of an unknown number, of an earlier version of the log. */
	assert_true(mg_cuts_try_publish(cuts, 3));
	mg_cuts_publish_end(cuts, 3, (uint64_t[]){ 0, 0, 0, 0 }, true);
	assert_int_equal(mg_cuts_await_told(cuts, 3, 0, NULL, NULL, &err), MG_E_UNAVAILABLE);
	mg_cuts_free(cuts);
}

/* ---- lanes and readers ---- */

enum { COMMITS = 4000, READERS = 3 };

static struct {
	struct mg_cuts *cuts;
	struct transfer {
		uint32_t from, to;
	} list[COMMITS + 1];        /* commit n is list[n] */
	atomic_llong money[SHARDS]; /* as published */
	atomic_int lanes;
	atomic_int reads;
} bank;

/* Applies what concerns its shard, in order; sometimes much at once, sometimes slowly. */
static void *run_lane(void *arg)
{
	uint32_t shard = (uint32_t)(uintptr_t)arg;
	uint64_t seen[SHARDS] = { 0 }, chance = shard + 1;
	long long money = 0;
	size_t gathered = 0;

	for (uint64_t n = 1; n <= COMMITS + 1; n++) {
		const struct transfer *transfer = &bank.list[n <= COMMITS ? n : 0];
		bool last = n > COMMITS, ours = !last && (transfer->from == shard || transfer->to == shard);
		bool held = ours && !mg_cuts_try_enter(bank.cuts, n, mg_clock_ms());

		chance = chance * 6364136223846793005u + 1442695040888963407u;
		if (gathered > 0 && (last || held || gathered > chance >> 61)) {
			mg_cuts_publish_begin(bank.cuts, shard);
			atomic_store(&bank.money[shard], money);
			mg_cuts_publish_end(bank.cuts, shard, seen, false);
			gathered = 0;
		}
		if (held) {
			mg_cuts_enter(bank.cuts, n);
		}
		if (ours) {
			money += transfer->to == shard ? 1 : -1;
			seen[transfer->from] = seen[transfer->to] = n;
			gathered++;
		}
		if (chance >> 56 == 0) {
			mg_sleep_ms(1);
		}
	}
	atomic_fetch_sub(&bank.lanes, 1);
	return NULL;
}

static void *read_totals(void *arg)
{
	static const uint32_t all[SHARDS] = { 0, 1, 2, 3 };
	long long wrong = 0;

	(void)arg;
	do {
		struct mg_cut cut = { .shards = all, .count = SHARDS };
		struct mg_error own = { 0 };
		long long total = 0;
		uint64_t waited;

		if (mg_cuts_begin(bank.cuts, &cut, 5000, NULL, NULL, &waited, &own) == 0) {
			for (size_t i = 0; i < SHARDS; i++) {
				total += atomic_load(&bank.money[i]);
			}
			mg_cuts_end(bank.cuts);
			wrong += total != 0;
			atomic_fetch_add(&bank.reads, 1);
		}
	} while (atomic_load(&bank.lanes) > 0);
	return (void *)(uintptr_t)wrong;
}

static void test_totals_are_whole_at_every_moment(void **state)
{
	pthread_t lanes[SHARDS], readers[READERS];
	uint64_t chance = 7;

	(void)state;
	bank.cuts = mg_cuts_new(SHARDS);
	for (size_t n = 1; n <= COMMITS; n++) {
		chance = chance * 6364136223846793005u + 1442695040888963407u;
		bank.list[n].from = chance >> 40 & 3;
		bank.list[n].to = (bank.list[n].from + 1 + (chance >> 50) % 3) & 3;
	}
	bank.list[0] = (struct transfer){ SHARDS, SHARDS };
	atomic_store(&bank.lanes, SHARDS);
	for (size_t i = 0; i < SHARDS; i++) {
		assert_int_equal(pthread_create(&lanes[i], NULL, run_lane, (void *)(uintptr_t)i), 0);
	}
	for (size_t i = 0; i < READERS; i++) {
		assert_int_equal(pthread_create(&readers[i], NULL, read_totals, NULL), 0);
	}
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_join(lanes[i], NULL);
	}
	for (size_t i = 0; i < READERS; i++) {
		void *wrong = NULL;

		pthread_join(readers[i], &wrong);
		assert_null(wrong);
	}
	assert_true(atomic_load(&bank.reads) >= READERS);
	mg_cuts_free(bank.cuts);
}

/* ---- commands: the number and the shards of a commit ---- */

static size_t encode(const struct mg_command *command, const uint32_t *shards, size_t count,
                     uint8_t *bytes)
{
	struct mg_out out = mg_out(bytes, MG_COMMAND_HEAD_MAX + 32);

	mg_command_encode_head(&out, command);
	assert_true(out.size <= MG_COMMAND_HEAD_MAX);
	mg_out_bytes(&out, shards, count * sizeof *shards);
	return out.size;
}

static void test_a_command_names_its_shards(void **state)
{
	static const uint32_t shards[] = { 2, 5, 9 };
	static const enum mg_command_kind kinds[] = { MG_COMMAND_DECIDE, MG_COMMAND_COMMIT };
	uint8_t bytes[MG_COMMAND_HEAD_MAX + 32];
	struct mg_command back;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct mg_command command = {
			.kind = kinds[i], .epoch = 3, .commit = true, .number = 77
		};
		size_t size = encode(&command, shards, 3, bytes);

		assert_int_equal(mg_command_decode(bytes, size, &back, &err), 0);
		assert_true(back.numbered);
		assert_int_equal(back.number, 77);
		assert_int_equal(back.rest.end - back.rest.at, sizeof shards);
		assert_memory_equal(back.rest.at, shards, sizeof shards);
		for (size_t less = 0; less < size; less++) { /* cut, or no whole shards */
			int code = mg_command_decode(bytes, less, &back, &err);
			bool whole = less >= size - sizeof shards && (size - less) % sizeof *shards == 0;

			assert_int_equal(code, whole ? 0 : MG_E_PROTOCOL);
		}
	}
	const struct mg_command forget = { .kind = MG_COMMAND_FORGET, .epoch = 3 };

	assert_int_equal(mg_command_decode(bytes, encode(&forget, shards, 1, bytes), &back, &err),
	                 MG_E_PROTOCOL);
	/* Of the version before: it ends behind the transaction. */
	const struct mg_command old = { .kind = MG_COMMAND_COMMIT, .epoch = 3 };
	size_t size = encode(&old, NULL, 0, bytes) - sizeof old.number;

	bytes[0] = 2;
	assert_int_equal(mg_command_decode(bytes, size, &back, &err), 0);
	assert_false(back.numbered);
	assert_int_equal(back.number, 0);
	bytes[0] = 4;
	assert_int_equal(mg_command_decode(bytes, size, &back, &err), MG_E_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_commit_is_seen_in_all_of_its_shards),
		cmocka_unit_test(test_a_patient_reader_waits_while_lanes_are_at_work),
		cmocka_unit_test(test_a_blind_shard_meets_nobody),
		cmocka_unit_test(test_nothing_is_published_while_a_reader_touches),
		cmocka_unit_test(test_readers_hold_what_runs_ahead),
		cmocka_unit_test(test_a_reader_waits_for_so_long),
		cmocka_unit_test(test_what_one_shard_shows_all_of_its_shards_have),
		cmocka_unit_test(test_a_reader_of_one_shard_waits_until_it_is_told),
		cmocka_unit_test(test_totals_are_whole_at_every_moment),
		cmocka_unit_test(test_a_command_names_its_shards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
