/*
 * Keys of a group over a real tree: operations and their conditions, time, what a crash leaves, and
 * that replicas are equal however their batches are cut.
 */
#include "unit/kv_kit.h"

/* ---- operations ---- */

static void test_put_and_delete(void **unused)
{
	struct mg_kv_result result = one(op(MG_KV_PUT, "a", "1", 0));

	(void)unused;
	assert_int_equal(result.status, MG_KV_DONE);
	assert_int_equal(result.version, 1);
	assert_int_equal(one(op(MG_KV_PUT, "b", "22", 0)).version, 2);
	assert_space(2, 5);
	result = one(op(MG_KV_PUT, "a", "333", MG_KV_WANT_OLD));
	assert_true(result.found && result.was.version == 1 && result.was.value.ptr[0] == '1');
	assert_key("a", "333");
	assert_space(2, 7);
	assert_true(one(op(MG_KV_DELETE, "a", "", 0)).found);
	assert_false(one(op(MG_KV_DELETE, "a", "", 0)).found);
	assert_key("a", NULL);
	assert_space(1, 3);
	assert_true(one(op(MG_KV_DELETE, "b", "", 0)).found);
	assert_space(0, 0);
}

static void test_conditions(void **unused)
{
	struct mg_kv_op put = op(MG_KV_PUT, "a", "2", MG_KV_IF_VERSION);

	(void)unused;
	assert_int_equal(one(op(MG_KV_PUT, "a", "1", MG_KV_IF_PRESENT)).status, MG_KV_ABSENT);
	assert_int_equal(one(op(MG_KV_PUT, "a", "1", MG_KV_IF_ABSENT)).status, MG_KV_DONE);
	assert_int_equal(one(op(MG_KV_PUT, "a", "2", MG_KV_IF_ABSENT)).status, MG_KV_PRESENT);
	put.number = 9;
	struct mg_kv_result result = one(put);

	assert_int_equal(result.status, MG_KV_OTHER_VERSION);
	assert_int_equal(result.version, 1);
	put.number = 1;
	assert_int_equal(one(put).status, MG_KV_DONE);
	put.key = MG_STR("none");
	put.number = 0; /* is not there */
	assert_int_equal(one(put).status, MG_KV_DONE);
	assert_key("none", "2");
}

static void test_numbers_and_ends(void **unused)
{
	struct mg_kv_op add = op(MG_KV_ADD, "n", "", 0);

	(void)unused;
	add.number = (uint64_t)INT64_C(-5);
	assert_int_equal(one(add).number, -5);
	add.number = 7;
	assert_int_equal(one(add).number, 2);
	assert_key("n", "2");
	add.number = INT64_MAX;
	assert_int_equal(one(add).status, MG_KV_OVERFLOW);
	assert_key("n", "2");
	static const char *const none[] = {
		"", " 1", "1 ", "+1", "01", "-0", "1.0", "9223372036854775808"
	};

	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		(void)one(op(MG_KV_PUT, "n", none[i], 0));
		assert_int_equal(one(add).status, MG_KV_NO_NUMBER);
		assert_key("n", none[i]);
	}
	assert_int_equal(one(op(MG_KV_APPEND, "t", "ab", 0)).number, 2);
	assert_int_equal(one(op(MG_KV_APPEND, "t", "c", 0)).number, 3);
	assert_key("t", "abc");
}

/* All or nothing, unless an operation stands alone. */
static void test_a_request_is_atomic(void **unused)
{
	const struct mg_kv_op refused[] = { op(MG_KV_PUT, "a", "1", 0), op(MG_KV_DELETE, "b", "", 0),
		                                op(MG_KV_PUT, "c", "1", MG_KV_IF_ABSENT) };
	struct mg_kv_op alone[] = { refused[0], refused[1], refused[2] };

	(void)unused;
	(void)one(op(MG_KV_PUT, "b", "1", 0));
	(void)one(op(MG_KV_PUT, "c", "1", 0));
	struct mg_kv_result *results = run(refused, 3);

	assert_int_equal(results[0].status, MG_KV_NOT_TRIED);
	assert_int_equal(results[1].status, MG_KV_NOT_TRIED);
	assert_int_equal(results[2].status, MG_KV_PRESENT);
	assert_key("a", NULL);
	assert_key("b", "1");
	assert_space(2, 4);
	assert_int_equal(one(op(MG_KV_PUT, "d", "1", 0)).version, 3); /* no number was used up */
	alone[2].flags |= MG_KV_ALONE;
	results = run(alone, 3);
	assert_int_equal(results[0].status, MG_KV_DONE);
	assert_true(results[1].found);
	assert_int_equal(results[2].status, MG_KV_PRESENT);
	assert_key("a", "1");
	assert_key("b", NULL);
}

/* ---- time ---- */

static struct mg_kv_op brief(const char *key, uint64_t ms)
{
	struct mg_kv_op put = op(MG_KV_PUT, key, "1", MG_KV_EXPIRES);

	put.expiry = ms;
	return put;
}

static void test_time(void **unused)
{
	struct mg_kv_op keep = op(MG_KV_PUT, "b", "2", MG_KV_KEEP_EXPIRY);

	(void)unused;
	(void)one(brief("a", 100));
	(void)one(brief("b", 200));
	(void)one(keep);
	(void)one(brief("c", 300));
	assert_int_equal(mg_kv_state_expiry_ms(state), 1100);
	now_ms = 1100;
	tick();
	assert_key("a", NULL);
	assert_key("b", "2");
	assert_int_equal(mg_kv_state_expiry_ms(state), 1200);
	assert_space(2, 4);
	now_ms = 900; /* a clock that is behind turns nothing back */
	struct mg_kv_result result = one(brief("d", 50));

	assert_int_equal(result.status, MG_KV_DONE);
	assert_int_equal(mg_kv_state_time_ms(state), 1100);
	assert_int_equal(mg_kv_state_expiry_ms(state), 1150);
	(void)one(op(MG_KV_EXPIRE, "d", "", 0)); /* for good */
	now_ms = 5000;
	tick();
	assert_key("d", "1");
	assert_int_equal(mg_kv_state_expiry_ms(state), 0);
	assert_space(1, 2);
}

static void test_many_expire_at_once(void **unused)
{
	char key[16];

	(void)unused;
	for (int i = 0; i < 2500; i++) {
		snprintf(key, sizeof key, "k%d", i);
		(void)one(brief(key, 10));
	}
	now_ms += 10;
	int ticks = 0;

	for (; mg_kv_state_expiry_ms(state); ticks++) {
		tick();
	}
	assert_int_equal(ticks, 3);
	assert_space(0, 0);
}

static void test_conditions_on_expiry(void **unused)
{
	struct mg_kv_op expire = op(MG_KV_EXPIRE, "a", "", MG_KV_EXPIRES | MG_KV_IF_EXPIRY_LATER);

	(void)unused;
	(void)one(brief("a", 100));
	expire.expiry = 50;
	assert_int_equal(one(expire).status, MG_KV_OTHER_EXPIRY);
	expire.expiry = 150;
	assert_int_equal(one(expire).status, MG_KV_DONE);
	expire.flags = MG_KV_EXPIRES | MG_KV_IF_EXPIRY_NONE;
	assert_int_equal(one(expire).status, MG_KV_OTHER_EXPIRY);
	expire.flags = MG_KV_EXPIRES | MG_KV_IF_EXPIRY_SOONER;
	expire.expiry = 149;
	assert_int_equal(one(expire).status, MG_KV_DONE);
	expire.flags = MG_KV_EXPIRES | MG_KV_ABSOLUTE;
	expire.expiry = 1; /* long ago: it goes at once */
	assert_int_equal(one(expire).status, MG_KV_DONE);
	assert_key("a", NULL);
	assert_int_equal(one(expire).status, MG_KV_ABSENT);
	assert_space(0, 0);
}

/* ---- requests with a name ---- */

static struct mg_kv_result named(const char *id, struct mg_kv_op one_op)
{
	static struct entry entry;
	struct mg_kv_results *results = NULL;

	mg_arena_free(arena);
	arena = mg_arena_new();
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, id, &one_op, 1);
	assert_int_equal(apply(state, next_index++, &entry, &results), 0);
	assert_int_equal(mg_kv_state_write(state, false, &err), 0);
	return results[0].list[0];
}

static void test_a_named_request_happens_once(void **unused)
{
	struct mg_kv_op plus = op(MG_KV_ADD, "n", "", MG_KV_WANT_OLD);

	(void)unused;
	plus.number = 5;
	assert_int_equal(named("a", plus).number, 5);
	struct mg_kv_result result = named("b", plus);

	assert_int_equal(result.number, 10);
	for (int i = 0; i < 2; i++) {
		result = named("b", plus);
		assert_int_equal(result.number, 10);
		assert_true(result.found && result.was.value.len == 1 && result.was.value.ptr[0] == '5');
		assert_int_equal(result.version, 2);
		crash();
		next_index = mg_kv_state_index(state) + 1;
		if (next_index == 1) {
			(void)named("a", plus); /* the log again */
			(void)named("b", plus);
		}
	}
	plus.number = 6;
	assert_int_equal(named("b", plus).status, MG_KV_OTHER_REQUEST);
	now_ms += MG_KV_ID_KEEP_MS;
	tick();
	assert_int_equal(mg_kv_state_expiry_ms(state), 0);
	assert_int_equal(named("b", plus).status, MG_KV_DONE);
}

/* ---- crashes, snapshots ---- */

static void test_what_was_not_flushed_is_applied_again(void **unused)
{
	(void)unused;
	(void)one(op(MG_KV_PUT, "a", "1", 0));
	assert_int_equal(mg_lsm_flush(lsm, &err), 0);
	(void)one(op(MG_KV_PUT, "a", "2", 0));
	(void)one(op(MG_KV_PUT, "b", "2", 0));
	crash();
	assert_int_equal(mg_kv_state_index(state), 1);
	assert_key("a", "1");
	assert_key("b", NULL);
	assert_space(1, 2);
	assert_int_equal(one(op(MG_KV_PUT, "a", "2", 0)).version, 2);
}

static void test_a_group_becomes_another_ones_snapshot(void **unused)
{
	struct mg_kv_state *other = NULL;
	char path[96];

	(void)unused;
	snprintf(path, sizeof path, "%s/snap.sst", dir);
	(void)one(op(MG_KV_PUT, "a", "1", 0));
	(void)one(brief("b", 100));
	struct mg_lsm_view *view = mg_lsm_view_new(lsm);

	(void)one(op(MG_KV_PUT, "a", "2", 0));
	(void)one(op(MG_KV_PUT, "late", "2", 0));
	assert_int_equal(mg_kv_state_open(&other, lsm, GROUP + 1, &err), 0);
	mg_kv_state_close(other);
	assert_int_equal(mg_lsm_export(lsm, view, mg_kv_state_prefix(state), path, &err), 0);
	mg_lsm_view_free(view);
	assert_int_equal(mg_kv_state_replace(state, path, &err), 0);
	assert_int_equal(mg_kv_state_index(state), 2);
	assert_int_equal(mg_kv_state_expiry_ms(state), 1100);
	assert_key("a", "1");
	assert_key("b", "1");
	assert_key("late", NULL);
	assert_space(2, 4);
	crash(); /* it is durable */
	assert_int_equal(mg_kv_state_index(state), 2);
	assert_key("a", "1");
}

/* What was applied and could not be written is forgotten with the rest. */
static void test_a_snapshot_comes_over_what_was_not_written(void **unused)
{
	static struct entry entry;
	const struct mg_kv_op add = op(MG_KV_ADD, "n", "", 0);
	struct mg_kv_op one_more = add;
	char path[128];

	(void)unused;
	one_more.number = 1;
	(void)one(one_more);
	snprintf(path, sizeof path, "%s/snap", dir);
	struct mg_lsm_view *view = mg_lsm_view_new(lsm);

	assert_int_equal(mg_lsm_export(lsm, view, mg_kv_state_prefix(state), path, &err), 0);
	mg_lsm_view_free(view);
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, NULL, &one_more, 1);
	assert_int_equal(apply(state, next_index, &entry, NULL), 0); /* and not written */
	mg_kv_state_condemn(state);
	assert_true(mg_kv_state_is_condemned(state));
	assert_int_equal(mg_kv_state_replace(state, path, &err), 0);
	assert_false(mg_kv_state_is_condemned(state));
	assert_key("n", "1");
	(void)one(one_more);
	assert_key("n", "2");
	assert_space(1, 2);
}

/* ---- replicas ---- */

static uint64_t seed;

static unsigned chance(unsigned below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % below;
}

/* As if so many parts of one byte had come. */
static void random_staged(const char *id, char *bytes)
{
	uint32_t count = 1 + chance(2);
	struct mg_kv_staged staged = { .count = count, .size = count };

	memcpy(staged.id, id, sizeof staged.id);
	mg_kv_staged_encode(&staged, bytes);
}

static void random_entry(struct entry *entry)
{
	static const char *const keys[] = { "a", "b", "c", "d", "e" };
	static const char *const values[] = { "", "1", "x", "22", "-7" };
	static const char *const ids[] = { "i", "ii", "iii" };
	static const char *const transactions[] = { "tttttttttttttttt", "uuuuuuuuuuuuuuuu" };
	uint32_t requests = 1 + chance(3);

	now_ms += chance(60) ? chance(40) : MG_KV_ID_KEEP_MS;
	if (chance(6) == 0) {
		entry_begin(entry, MG_KV_TICK, 0);
		return;
	}
	entry_begin(entry, MG_KV_REQUESTS, requests);
	for (uint32_t i = 0; i < requests; i++) {
		struct mg_kv_op ops[3];
		uint32_t count = 1 + chance(3), k = 0;
		char bytes[MG_KV_STAGED_SIZE];

		if (chance(5) == 0) {
			ops[0] = op(chance(5) ? MG_KV_STAGE : MG_KV_DISCARD, transactions[chance(2)], "x", 0);
			ops[0].space = (struct mg_str){ "", 0 };
			ops[0].number = chance(3);
			entry_request(entry, NULL, ops, 1);
			continue;
		}
		if (chance(4) == 0) {
			ops[k] = op((uint8_t)(MG_KV_PREPARE + chance(5)), transactions[chance(2)], "", 0);
			ops[k].space = (struct mg_str){ "", 0 };
			ops[k].number = chance(2);
			ops[k].expiry = now_ms + chance(2);
			count = ops[k].kind > MG_KV_DECIDE ? 1 : count;
			k++;
		}
		for (; k < count; k++) {
			ops[k] = op((uint8_t)(MG_KV_READ + chance(7)), keys[chance(5)], values[chance(5)],
			            (uint16_t)(chance(3) ? chance(4096) & ~(unsigned)MG_KV_ABSOLUTE : 0));
			if (chance(6) == 0) {
				random_staged(transactions[chance(2)], bytes);
				ops[k].kind = MG_KV_PUT_STAGED;
				ops[k].value = (struct mg_str){ bytes, sizeof bytes };
			}
			ops[k].number = chance(12);
			ops[k].expiry = chance(100);
		}
		entry_request(entry, chance(4) ? NULL : ids[chance(3)], ops, count);
	}
}

static void assert_same(struct mg_lsm *a, struct mg_lsm *b)
{
	struct mg_lsm_iter *left = mg_lsm_iter_open(a, (struct mg_str){ 0 }, (struct mg_str){ 0 });
	struct mg_lsm_iter *right = mg_lsm_iter_open(b, (struct mg_str){ 0 }, (struct mg_str){ 0 });
	struct mg_str key, value, other_key, other_value;

	while (mg_lsm_iter_next(left, &key, &value)) {
		assert_true(mg_lsm_iter_next(right, &other_key, &other_value));
		assert_true(mg_str_eq(key, other_key));
		assert_true(mg_str_eq(value, other_value));
	}
	assert_false(mg_lsm_iter_next(right, &other_key, &other_value));
	assert_int_equal(mg_lsm_iter_close(left, &err), 0);
	assert_int_equal(mg_lsm_iter_close(right, &err), 0);
}

/* One replica writes after each entry, the other one whenever it likes, and dies in between. */
static void test_replicas_are_equal_however_their_batches_are_cut(void **unused)
{
	static struct entry entries[400];
	struct mg_lsm *other_lsm = NULL;
	struct mg_kv_state *other = NULL;
	char other_dir[80];

	(void)unused;
	snprintf(other_dir, sizeof other_dir, "%s-other", dir);
	const struct mg_lsm_options options = { .dir = other_dir };

	for (int round = 1; round <= 10; round++) {
		seed = (uint64_t)round;
		for (size_t i = 0; i < 400; i++) {
			random_entry(&entries[i]);
		}
		assert_int_equal(mg_lsm_open(&other_lsm, &options, &err), 0);
		assert_int_equal(mg_kv_state_open(&other, other_lsm, GROUP, &err), 0);
		uint64_t first = next_index;

		for (size_t i = 0; i < 400; i++) {
			assert_int_equal(apply(state, next_index++, &entries[i], NULL), 0);
			assert_int_equal(mg_kv_state_write(state, false, &err), 0);
		}
		for (uint64_t i = first; i < next_index; i++) {
			assert_int_equal(apply(other, i, &entries[i - first], NULL), 0);
			if (chance(4) == 0 || i + 1 == next_index) {
				assert_int_equal(mg_kv_state_write(other, false, &err), 0);
			}
			if (chance(40) == 0) {
				mg_kv_state_close(other);
				mg_lsm_close(other_lsm);
				assert_int_equal(mg_lsm_open(&other_lsm, &options, &err), 0);
				assert_int_equal(mg_kv_state_open(&other, other_lsm, GROUP, &err), 0);
				i = mg_kv_state_index(other);
			} else if (chance(40) == 0) {
				assert_int_equal(mg_kv_state_write(other, false, &err), 0);
				assert_int_equal(mg_lsm_flush(other_lsm, &err), 0);
			}
		}
		assert_int_equal(mg_kv_state_write(other, false, &err), 0);
		assert_same(lsm, other_lsm);
		assert_int_equal(mg_lsm_flush(lsm, &err), 0);
		assert_int_equal(mg_lsm_flush(other_lsm, &err), 0);
		mg_kv_state_close(other);
		mg_lsm_close(other_lsm);
	}
	mg_tree_remove(other_dir, NULL);
}

static void test_what_is_cut_is_refused(void **unused)
{
	static struct entry entry;
	struct mg_kv_entry out;
	const struct mg_kv_op put = op(MG_KV_PUT, "a", "1", 0);

	(void)unused;
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, "id", &put, 1);
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err), 0);
	for (size_t size = 0; size < entry.out.size; size++) {
		assert_int_equal(mg_kv_entry_decode(entry.bytes, size, &out, &err), MG_E_PROTOCOL);
	}
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size + 1, &out, &err),
	                 MG_E_PROTOCOL);
	entry.bytes[0] = 99;
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err), MG_E_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_and_delete, begin, end),
		cmocka_unit_test_setup_teardown(test_conditions, begin, end),
		cmocka_unit_test_setup_teardown(test_numbers_and_ends, begin, end),
		cmocka_unit_test_setup_teardown(test_a_request_is_atomic, begin, end),
		cmocka_unit_test_setup_teardown(test_time, begin, end),
		cmocka_unit_test_setup_teardown(test_many_expire_at_once, begin, end),
		cmocka_unit_test_setup_teardown(test_conditions_on_expiry, begin, end),
		cmocka_unit_test_setup_teardown(test_a_named_request_happens_once, begin, end),
		cmocka_unit_test_setup_teardown(test_what_was_not_flushed_is_applied_again, begin, end),
		cmocka_unit_test_setup_teardown(test_a_group_becomes_another_ones_snapshot, begin, end),
		cmocka_unit_test_setup_teardown(test_a_snapshot_comes_over_what_was_not_written, begin,
		                                end),
		cmocka_unit_test_setup_teardown(test_replicas_are_equal_however_their_batches_are_cut,
		                                begin, end),
		cmocka_unit_test(test_what_is_cut_is_refused),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	mg_arena_free(arena);
	return failed;
}
