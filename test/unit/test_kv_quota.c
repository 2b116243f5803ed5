/*
 * Quotas and default times of namespaces in a group of keys: what an entry's limits refuse, and
 * what they let happen; that they are the entry's alone; and what else an entry brings of settings.
 */
#include "unit/kv_kit.h"

#define ONE "1111111111111111"

static void limit_to(uint64_t keys, uint64_t bytes)
{
	limit = (struct mg_kv_limit){ .space = MG_STR("s"), .keys_max = keys, .bytes_max = bytes };
}

static void no_limit(void)
{
	limit = (struct mg_kv_limit){ 0 };
}

static enum mg_kv_status put(const char *key, const char *value)
{
	return one(op(MG_KV_PUT, key, value, 0)).status;
}

/* ---- quotas ---- */

static void test_a_quota_of_keys(void **unused)
{
	(void)unused;
	limit_to(3, 0);
	limit.keys_elsewhere = 1;
	assert_int_equal(put("a", "1"), MG_KV_DONE);
	assert_int_equal(put("b", "1"), MG_KV_DONE);
	struct mg_kv_result result = one(op(MG_KV_PUT, "c", "1", 0));

	assert_int_equal(result.status, MG_KV_OVER_QUOTA);
	assert_int_equal(result.quota, 3);
	assert_true(result.quota_of_keys);
	assert_int_equal(one(op(MG_KV_ADD, "c", "", 0)).status, MG_KV_OVER_QUOTA);
	assert_int_equal(one(op(MG_KV_APPEND, "c", "1", 0)).status, MG_KV_OVER_QUOTA);
	assert_key("c", NULL);
	assert_space(2, 4);
	assert_int_equal(put("a", "another, longer one"), MG_KV_DONE);
	assert_true(one(op(MG_KV_DELETE, "b", "", 0)).found);
	assert_int_equal(put("c", "1"), MG_KV_DONE);
	limit.keys_elsewhere = UINT64_MAX; /* whatever an entry says */
	assert_int_equal(put("d", "1"), MG_KV_OVER_QUOTA);
	no_limit(); /* it was the entries' own */
	assert_int_equal(put("d", "1"), MG_KV_DONE);
}

static void test_what_is_added_is_told(void **unused)
{
	const struct mg_kv_op ops[] = { op(MG_KV_PUT, "a", "123", 0), op(MG_KV_PUT, "a", "1", 0),
		                            op(MG_KV_DELETE, "a", "", 0), op(MG_KV_ADD, "n", "", 0) };
	static const int64_t keys[] = { 1, 0, -1, 1 }, bytes[] = { 4, -2, -2, 2 };
	struct mg_kv_result *list = run(ops, 4);

	(void)unused;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(list[i].more_keys, keys[i]);
		assert_int_equal(list[i].more_bytes, bytes[i]);
	}
}

static void test_a_quota_of_bytes(void **unused)
{
	struct mg_kv_op typed = op(MG_KV_PUT, "a", "1", 0);

	(void)unused;
	limit_to(0, 10);
	limit.bytes_elsewhere = 2;
	assert_int_equal(put("a", "1234567"), MG_KV_DONE);
	struct mg_kv_result result = one(op(MG_KV_PUT, "b", "", 0));

	assert_int_equal(result.status, MG_KV_OVER_QUOTA);
	assert_int_equal(result.quota, 10);
	assert_false(result.quota_of_keys);
	assert_int_equal(put("a", "12345678"), MG_KV_OVER_QUOTA);
	assert_int_equal(one(op(MG_KV_APPEND, "a", "8", 0)).status, MG_KV_OVER_QUOTA);
	assert_key("a", "1234567");
	assert_int_equal(put("a", "7654321"), MG_KV_DONE);
	limit_to(0, 3); /* less than there is: only larger it cannot become */
	assert_int_equal(put("a", "1"), MG_KV_DONE);
	limit_to(0, 1);
	assert_int_equal(put("a", "2"), MG_KV_DONE);
	assert_int_equal(one(op(MG_KV_ADD, "a", "", 0)).status, MG_KV_DONE);
	assert_int_equal(one(op(MG_KV_EXPIRE, "a", "", 0)).status, MG_KV_DONE);
	assert_int_equal(one(op(MG_KV_READ, "a", "", 0)).status, MG_KV_DONE);
	typed.type = MG_STR("text/plain"); /* it is kept, so it counts */
	assert_int_equal(one(typed).status, MG_KV_OVER_QUOTA);
	assert_true(one(op(MG_KV_DELETE, "a", "", 0)).found);
	assert_int_equal(put("a", ""), MG_KV_DONE);
}

/* What is refused leaves no trace, and nobody else is touched. */
static void test_a_quota_is_of_one_namespace(void **unused)
{
	struct mg_kv_op other = op(MG_KV_PUT, "a", "123", 0);

	(void)unused;
	limit_to(1, 2);
	other.space = MG_STR("other");
	assert_int_equal(one(other).version, 1);
	assert_int_equal(put("a", "12"), MG_KV_OVER_QUOTA);
	assert_int_equal(one(op(MG_KV_PUT, "a", "1", 0)).version, 2);
}

static void test_what_a_refusal_stops(void **unused)
{
	struct mg_kv_op ops[] = { op(MG_KV_PUT, "a", "1", 0), op(MG_KV_PUT, "b", "1", 0),
		                      op(MG_KV_DELETE, "z", "", 0) };

	(void)unused;
	assert_int_equal(put("z", "1"), MG_KV_DONE);
	limit_to(2, 0);
	struct mg_kv_result *list = run(ops, 3);

	assert_int_equal(list[0].status, MG_KV_NOT_TRIED);
	assert_int_equal(list[1].status, MG_KV_OVER_QUOTA);
	assert_int_equal(list[2].status, MG_KV_NOT_TRIED);
	assert_key("a", NULL);
	assert_key("z", "1");
	for (size_t i = 0; i < 3; i++) {
		ops[i].flags = MG_KV_ALONE | MG_KV_TOGETHER;
	}
	list = run(ops, 3);
	assert_int_equal(list[0].status, MG_KV_NOT_TRIED);
	assert_int_equal(list[1].status, MG_KV_OVER_QUOTA);
	assert_key("a", NULL);
	for (size_t i = 0; i < 3; i++) {
		ops[i].flags = MG_KV_ALONE;
	}
	list = run(ops, 3);
	assert_int_equal(list[0].status, MG_KV_DONE);
	assert_int_equal(list[1].status, MG_KV_OVER_QUOTA);
	assert_true(list[2].found);
	assert_space(1, 2);
}

/* What a part of a transaction adds is told, for who knows all of them to say whether it is too
 * much; what was prepared happens, whatever others have put meanwhile. */
static void test_what_waits_is_not_refused(void **unused)
{
	const struct mg_kv_op ops[] = {
		{ .kind = MG_KV_PREPARE, .key = MG_STR(ONE), .number = 3, .expiry = now_ms + 100 },
		op(MG_KV_PUT, "a", "1", 0),
	};
	const struct mg_kv_op settle = { .kind = MG_KV_SETTLE, .key = MG_STR(ONE), .number = 1 };

	(void)unused;
	limit_to(1, 0);
	assert_int_equal(put("z", "1"), MG_KV_DONE);
	struct mg_kv_result prepared = run(ops, 2)[1];

	assert_int_equal(prepared.status, MG_KV_DONE);
	assert_true(prepared.more_keys == 1 && prepared.more_bytes == 2);
	assert_space(1, 2);
	limit_to(2, 0);
	assert_int_equal(put("b", "1"), MG_KV_DONE);
	assert_int_equal(put("c", "1"), MG_KV_OVER_QUOTA);
	assert_true(run_request(NULL, &settle, 1).list[0].found);
	assert_key("a", "1");
	assert_space(3, 6);
	assert_int_equal(put("c", "1"), MG_KV_OVER_QUOTA); /* again */
}

/* A client that makes room and sends the same again is not told what was before. */
static void test_a_refusal_is_not_remembered(void **unused)
{
	struct mg_kv_op first = op(MG_KV_PUT, "a", "1", 0);

	(void)unused;
	limit_to(1, 1);
	assert_int_equal(run_request("id", &first, 1).list[0].status, MG_KV_OVER_QUOTA);
	limit_to(1, 2);
	assert_int_equal(run_request("id", &first, 1).list[0].version, 1);
	limit_to(1, 1);
	assert_int_equal(run_request("id", &first, 1).list[0].version, 1);
}

static void test_a_value_in_parts_counts_whole(void **unused)
{
	const struct mg_kv_op stage = {
		.kind = MG_KV_STAGE, .key = MG_STR(ONE), .value = MG_STR("abc")
	};
	struct mg_kv_staged staged = { .id = ONE, .count = 1, .size = 3 };
	char bytes[MG_KV_STAGED_SIZE];
	struct mg_kv_op last = op(MG_KV_PUT_STAGED, "a", "", 0);

	(void)unused;
	mg_kv_staged_encode(&staged, bytes);
	last.value = (struct mg_str){ bytes, sizeof bytes };
	limit_to(0, 3);
	assert_int_equal(one(stage).status, MG_KV_DONE);
	assert_int_equal(one(last).status, MG_KV_OVER_QUOTA);
	assert_int_equal(mg_kv_state_staged(state), 3); /* who has begun it takes it away */
	limit_to(0, 4);
	assert_int_equal(one(last).status, MG_KV_DONE);
	assert_int_equal(mg_kv_state_staged(state), 0);
	assert_space(1, 4);
}

/* A key that has expired is there until a tick, and makes room then. */
static void test_what_expires_makes_room(void **unused)
{
	struct mg_kv_op brief = op(MG_KV_PUT, "a", "1", MG_KV_EXPIRES);

	(void)unused;
	brief.expiry = 10;
	limit_to(1, 0);
	assert_int_equal(one(brief).status, MG_KV_DONE);
	now_ms += 20;
	assert_int_equal(put("b", "1"), MG_KV_OVER_QUOTA);
	no_limit();
	tick();
	limit_to(1, 0);
	assert_int_equal(put("b", "1"), MG_KV_DONE);
}

static void test_counts_are_there_after_a_crash(void **unused)
{
	(void)unused;
	limit_to(1, 0);
	assert_int_equal(put("a", "1"), MG_KV_DONE);
	assert_int_equal(mg_lsm_flush(lsm, &err), 0);
	crash();
	assert_space(1, 2);
	assert_int_equal(put("b", "1"), MG_KV_OVER_QUOTA);
	assert_int_equal(put("a", "2"), MG_KV_DONE);
}

/* ---- default times ---- */

static uint64_t expiry_of(const char *key)
{
	struct mg_kv_found found;
	struct mg_lsm_value value;

	assert_int_equal(mg_kv_state_get(state, MG_STR("s"), mg_str(key), &found, &value, &err), 0);
	mg_lsm_value_free(&value);
	return found.expiry_ms;
}

static struct mg_kv_op by_default(uint8_t kind, const char *key, const char *value, uint16_t flags)
{
	struct mg_kv_op with =
		op(kind, key, value, flags | MG_KV_EXPIRES | MG_KV_EXPIRES_BY_DEFAULT);

	with.expiry = 500;
	return with;
}

static void test_a_default_is_for_new_values_only(void **unused)
{
	static const uint8_t kinds[] = { MG_KV_PUT, MG_KV_ADD, MG_KV_APPEND };
	static const char *const keys[] = { "p", "n", "t" };

	(void)unused;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(one(by_default(kinds[i], keys[i], "1", 0)).status, MG_KV_DONE);
		assert_int_equal(expiry_of(keys[i]), 1500);
	}
	now_ms += 100;
	for (size_t i = 0; i < 3; i++) { /* a PUT begins anew, the others go on */
		assert_int_equal(one(by_default(kinds[i], keys[i], "1", 0)).status, MG_KV_DONE);
		assert_int_equal(expiry_of(keys[i]), i == 0 ? 1600 : 1500);
	}
	assert_int_equal(one(by_default(MG_KV_PUT, "t", "1", MG_KV_KEEP_EXPIRY)).status, MG_KV_DONE);
	assert_int_equal(expiry_of("t"), 1500);
	assert_int_equal(one(by_default(MG_KV_PUT, "k", "1", MG_KV_KEEP_EXPIRY)).status, MG_KV_DONE);
	assert_int_equal(expiry_of("k"), 1600);
	assert_int_equal(one(op(MG_KV_EXPIRE, "k", "", 0)).status, MG_KV_DONE);
	assert_int_equal(one(by_default(MG_KV_PUT, "k", "1", MG_KV_KEEP_EXPIRY)).status, MG_KV_DONE);
	assert_int_equal(expiry_of("k"), 0); /* as it was: for good */
}

/* A request is the same whatever its namespace's default has become meanwhile. */
static void test_a_default_is_no_part_of_a_request(void **unused)
{
	const struct mg_kv_op plain[] = { op(MG_KV_PUT, "a", "1", 0), op(MG_KV_PUT, "b", "1", 0) };
	struct mg_kv_op with[] = { by_default(MG_KV_PUT, "a", "1", 0), plain[1] };
	struct mg_kv_op own = op(MG_KV_PUT, "a", "1", MG_KV_EXPIRES);

	(void)unused;
	assert_int_equal(run_request("id", with, 2).list[1].version, 2);
	assert_int_equal(run_request("id", plain, 2).list[1].version, 2);
	with[1] = by_default(MG_KV_PUT, "b", "1", 0);
	with[0].expiry = 700;
	assert_int_equal(run_request("id", with, 2).list[1].version, 2);
	with[1].value = MG_STR("2");
	assert_int_equal(run_request("id", with, 2).list[1].status, MG_KV_OTHER_REQUEST);
	with[0] = own;
	with[1] = plain[1];
	with[0].expiry = 500; /* what the client itself has said is a part */
	assert_int_equal(run_request("id", with, 2).list[1].status, MG_KV_OTHER_REQUEST);
}

/* ---- bytes ---- */

static void test_what_is_cut_is_refused(void **unused)
{
	static struct entry entry;
	struct mg_kv_entry out;
	const struct mg_kv_op ops[] = { op(MG_KV_PUT, "a", "1", 0) };
	const struct mg_kv_op settle = { .kind = MG_KV_SETTLE, .key = MG_STR(ONE), .number = 1 };

	(void)unused;
	limit_to(7, 9);
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, "id", ops, 1);
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err), 0);
	assert_int_equal(out.limit_count, 1);
	struct mg_kv_limit read;

	assert_true(mg_kv_limit_next(&out.limits, &read) && mg_in_done(&out.limits));
	assert_true(mg_str_eq(read.space, MG_STR("s")) && read.keys_max == 7 && read.bytes_max == 9);
	for (size_t size = 0; size < entry.out.size; size++) {
		assert_int_equal(mg_kv_entry_decode(entry.bytes, size, &out, &err), MG_E_PROTOCOL);
	}
	entry.bytes[0] = 1; /* which has no limits */
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err), MG_E_PROTOCOL);
	entry_begin(&entry, MG_KV_TICK, 0);
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err), MG_E_PROTOCOL);
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, NULL, &settle, 1);
	assert_false(mg_kv_entry_settles(entry.bytes, entry.out.size));
	no_limit();
	entry_begin(&entry, MG_KV_REQUESTS, 1);
	entry_request(&entry, NULL, &settle, 1);
	assert_true(mg_kv_entry_settles(entry.bytes, entry.out.size));
	entry.bytes[0] = 2; /* which has some */
	assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err), MG_E_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_quota_of_keys, begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_added_is_told, begin, end),
		cmocka_unit_test_setup_teardown(test_a_quota_of_bytes, begin, end),
		cmocka_unit_test_setup_teardown(test_a_quota_is_of_one_namespace, begin, end),
		cmocka_unit_test_setup_teardown(test_what_a_refusal_stops, begin, end),
		cmocka_unit_test_setup_teardown(test_what_waits_is_not_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_a_refusal_is_not_remembered, begin, end),
		cmocka_unit_test_setup_teardown(test_a_value_in_parts_counts_whole, begin, end),
		cmocka_unit_test_setup_teardown(test_what_expires_makes_room, begin, end),
		cmocka_unit_test_setup_teardown(test_counts_are_there_after_a_crash, begin, end),
		cmocka_unit_test_setup_teardown(test_a_default_is_for_new_values_only, begin, end),
		cmocka_unit_test_setup_teardown(test_a_default_is_no_part_of_a_request, begin, end),
		cmocka_unit_test(test_what_is_cut_is_refused),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	mg_arena_free(arena);
	return failed;
}
