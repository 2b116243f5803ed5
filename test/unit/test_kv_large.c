/*
 * Values in parts in a group of keys: parts are nobody's until one operation gives them to a key,
 * go with it or with their time, and are there after a crash.
 */
#include "unit/kv_kit.h"

#define ONE "1111111111111111"
#define TWO "2222222222222222"

static char staged_bytes[MG_KV_STAGED_SIZE];

static struct mg_kv_result upload(uint8_t kind, const char *id, uint64_t number, const char *value)
{
	const struct mg_kv_op op = {
		.kind = kind, .key = mg_str(id), .number = number, .value = mg_str(value)
	};

	return run_request(NULL, &op, 1).list[0];
}

static struct mg_kv_op put_staged(const char *key, const char *id, uint32_t count, uint64_t size)
{
	struct mg_kv_op put = op(MG_KV_PUT_STAGED, key, "", 0);
	struct mg_kv_staged staged = { .count = count, .size = size, .digest = { size, count } };

	memcpy(staged.id, id, sizeof staged.id);
	mg_kv_staged_encode(&staged, staged_bytes);
	put.value = (struct mg_str){ staged_bytes, sizeof staged_bytes };
	return put;
}

static void stage_two(const char *id)
{
	assert_int_equal(upload(MG_KV_STAGE, id, 0, "abc").status, MG_KV_DONE);
	assert_int_equal(upload(MG_KV_STAGE, id, 1, "de").status, MG_KV_DONE);
}

/* Keys of the tree of one kind. */
static size_t rows(char kind)
{
	struct mg_lsm_iter *iter = mg_lsm_iter_open(lsm, (struct mg_str){ 0 }, (struct mg_str){ 0 });
	struct mg_str key, value;
	size_t count = 0;

	while (mg_lsm_iter_next(iter, &key, &value)) {
		count += key.len > 4 && key.ptr[4] == kind;
	}
	assert_int_equal(mg_lsm_iter_close(iter, &err), 0);
	return count;
}

static void assert_whole(const char *key, const char *expected)
{
	struct mg_kv_iter *iter =
		mg_kv_iter_open(state, MG_STR("s"), mg_str(key), (struct mg_str){ 0 });
	struct mg_kv_found found;
	struct mg_str at, value;

	assert_true(mg_kv_iter_next(iter, &at, &found) && mg_str_eq(at, mg_str(key)));
	assert_int_equal(found.size, strlen(expected));
	assert_true(found.part_count > 0 && found.value.len == 0);
	assert_true(mg_kv_iter_whole(iter, &value) && mg_str_eq(value, mg_str(expected)));
	assert_true(mg_str_eq(at, mg_str(key))); /* as next has given it */
	assert_int_equal(mg_kv_iter_close(iter, &err), 0);
}

static void test_parts_become_a_value_at_once(void **unused)
{
	(void)unused;
	stage_two(ONE);
	assert_key("a", NULL);
	assert_space(0, 0);
	assert_int_equal(mg_kv_state_staged(state), 5);
	struct mg_kv_op put = put_staged("a", ONE, 2, 5);

	put.type = MG_STR("text/plain");
	assert_int_equal(one(put).version, 1);
	assert_whole("a", "abcde");
	assert_space(1, 1 + 5 + 10);
	assert_int_equal(mg_kv_state_staged(state), 0);
	assert_int_equal(rows('u') + rows('x'), 0);
	assert_int_equal(rows('c'), 2);
	assert_int_equal(one(put).status, MG_KV_ABORTED); /* they are taken */
	assert_whole("a", "abcde");
	assert_int_equal(upload(MG_KV_DISCARD, ONE, 0, "").status, MG_KV_DONE); /* too late */
	assert_whole("a", "abcde");
	assert_int_equal(upload(MG_KV_STAGE, ONE, 0, "abc").status, MG_KV_DONE); /* likewise */
	assert_int_equal(mg_kv_state_staged(state), 0);
	now_ms += MG_KV_UPLOAD_KEEP_MS + 1;
	tick();
	assert_whole("a", "abcde");
}

static void test_parts_go_with_their_key(void **unused)
{
	(void)unused;
	stage_two(ONE);
	(void)one(put_staged("a", ONE, 2, 5));
	stage_two(TWO);
	(void)one(put_staged("a", TWO, 2, 5)); /* another value in parts */
	assert_int_equal(rows('c'), 2);
	(void)one(op(MG_KV_EXPIRE, "a", "", 0)); /* the same value */
	assert_whole("a", "abcde");
	(void)one(op(MG_KV_PUT, "a", "x", 0));
	assert_key("a", "x");
	assert_int_equal(rows('c'), 0);
	assert_space(1, 2);
	stage_two(ONE);
	(void)one(put_staged("a", ONE, 2, 5));
	assert_true(one(op(MG_KV_DELETE, "a", "", 0)).found);
	assert_int_equal(rows('c'), 0);
	assert_space(0, 0);
	stage_two(ONE);
	struct mg_kv_op brief = put_staged("a", ONE, 2, 5);

	brief.flags = MG_KV_EXPIRES;
	brief.expiry = 100;
	(void)one(brief);
	now_ms += 100;
	tick();
	assert_key("a", NULL);
	assert_int_equal(rows('c') + rows('x'), 0);
}

static void test_conditions_hold_for_parts(void **unused)
{
	struct mg_kv_op put;

	(void)unused;
	(void)one(op(MG_KV_PUT, "a", "x", 0));
	stage_two(ONE);
	put = put_staged("a", ONE, 2, 5);
	put.flags = MG_KV_IF_ABSENT;
	assert_int_equal(one(put).status, MG_KV_PRESENT);
	assert_key("a", "x");
	assert_int_equal(mg_kv_state_staged(state), 5); /* who has staged them throws them away */
	assert_int_equal(one(put_staged("a", ONE, 3, 5)).status, MG_KV_ABORTED);
	assert_int_equal(one(put_staged("a", ONE, 2, 6)).status, MG_KV_ABORTED);
	const struct mg_kv_op both[] = { put_staged("a", ONE, 2, 5),
		                             op(MG_KV_PUT, "b", "1", MG_KV_IF_PRESENT) };

	assert_int_equal(run(both, 2)[1].status, MG_KV_ABSENT); /* all of it goes back */
	assert_key("a", "x");
	assert_int_equal(mg_kv_state_staged(state), 5);
	assert_int_equal(upload(MG_KV_DISCARD, ONE, 0, "").status, MG_KV_DONE);
	assert_int_equal(rows('c') + rows('u') + rows('x'), 0);
	assert_int_equal(mg_kv_state_staged(state), 0);
}

static void test_parts_come_in_order_and_again(void **unused)
{
	(void)unused;
	assert_int_equal(upload(MG_KV_STAGE, ONE, 1, "b").status, MG_KV_ABORTED);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 0, "a").status, MG_KV_DONE);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 2, "c").status, MG_KV_ABORTED);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 1, "b").status, MG_KV_DONE);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 0, "a").status, MG_KV_DONE); /* its answer was lost */
	assert_int_equal(upload(MG_KV_STAGE, ONE, 1, "b").status, MG_KV_DONE);
	(void)one(put_staged("k", ONE, 2, 2));
	assert_whole("k", "ab");
}

static void test_what_nobody_wants_goes_in_time(void **unused)
{
	(void)unused;
	stage_two(ONE);
	assert_int_equal(mg_kv_state_expiry_ms(state), now_ms + MG_KV_UPLOAD_KEEP_MS);
	now_ms += MG_KV_UPLOAD_KEEP_MS - 1;
	tick();
	assert_int_equal(rows('c'), 2);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 2, "f").status, MG_KV_DONE); /* a new minute */
	now_ms += MG_KV_UPLOAD_KEEP_MS - 1;
	tick();
	assert_int_equal(rows('c'), 3);
	now_ms++;
	tick();
	assert_int_equal(rows('c') + rows('u') + rows('x'), 0);
	assert_int_equal(mg_kv_state_staged(state), 0);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 3, "g").status, MG_KV_ABORTED);
	assert_int_equal(one(put_staged("a", ONE, 3, 6)).status, MG_KV_ABORTED);
}

static void test_parts_are_there_after_a_crash(void **unused)
{
	(void)unused;
	stage_two(ONE);
	assert_int_equal(mg_lsm_flush(lsm, &err), 0);
	crash();
	assert_int_equal(mg_kv_state_staged(state), 5);
	assert_int_equal(upload(MG_KV_STAGE, ONE, 2, "f").status, MG_KV_DONE);
	(void)one(put_staged("a", ONE, 3, 6));
	assert_int_equal(mg_lsm_flush(lsm, &err), 0);
	crash();
	assert_whole("a", "abcdef");
}

/* The same bytes by another upload are the same request; what was lost on its way is tried anew. */
static void test_a_named_request_is_its_bytes(void **unused)
{
	struct mg_kv_op put;

	(void)unused;
	put = put_staged("a", ONE, 2, 5);
	assert_int_equal(run_request("id", &put, 1).list[0].status, MG_KV_ABORTED);
	stage_two(ONE);
	assert_int_equal(run_request("id", &put, 1).list[0].version, 1);
	(void)one(op(MG_KV_DELETE, "a", "", 0));
	stage_two(TWO);
	put = put_staged("a", TWO, 2, 5);
	assert_int_equal(run_request("id", &put, 1).list[0].version, 1);
	assert_key("a", NULL);
	put = put_staged("a", TWO, 2, 6);
	assert_int_equal(run_request("id", &put, 1).list[0].status, MG_KV_OTHER_REQUEST);
}

static void test_what_needs_the_bytes_is_refused(void **unused)
{
	(void)unused;
	stage_two(ONE);
	(void)one(put_staged("a", ONE, 2, 5));
	struct mg_kv_result result = one(op(MG_KV_READ, "a", "", 0));

	assert_int_equal(result.status, MG_KV_TOO_LARGE);
	assert_true(result.found && result.was.size == 5);
	assert_int_equal(one(op(MG_KV_APPEND, "a", "x", 0)).status, MG_KV_TOO_LARGE);
	assert_int_equal(one(op(MG_KV_ADD, "a", "", 0)).status, MG_KV_NO_NUMBER);
	assert_int_equal(one(op(MG_KV_DELETE, "a", "", MG_KV_WANT_OLD)).status, MG_KV_TOO_LARGE);
	assert_whole("a", "abcde");
	assert_int_equal(one(op(MG_KV_CHECK, "a", "", MG_KV_IF_PRESENT)).status, MG_KV_DONE);
}

static void test_a_scan_goes_on_behind_the_parts(void **unused)
{
	struct mg_kv_found found;
	struct mg_str key, value;

	(void)unused;
	(void)one(op(MG_KV_PUT, "a", "1", 0));
	stage_two(ONE);
	(void)one(put_staged("b", ONE, 2, 5));
	(void)one(op(MG_KV_PUT, "b2", "2", 0));
	struct mg_kv_iter *iter =
		mg_kv_iter_open(state, MG_STR("s"), (struct mg_str){ 0 }, (struct mg_str){ 0 });

	(void)one(op(MG_KV_DELETE, "b", "", 0)); /* the iterator is of the moment before */
	assert_int_equal(rows('c'), 0);
	assert_true(mg_kv_iter_next(iter, &key, &found) && mg_str_eq(key, MG_STR("a")));
	assert_true(mg_kv_iter_next(iter, &key, &found) && mg_str_eq(key, MG_STR("b")));
	assert_true(mg_kv_iter_part(iter, &value) && mg_str_eq(value, MG_STR("abc")));
	assert_true(mg_kv_iter_part(iter, &value) && mg_str_eq(value, MG_STR("de")));
	assert_false(mg_kv_iter_part(iter, &value));
	assert_true(mg_kv_iter_next(iter, &key, &found) && mg_str_eq(key, MG_STR("b2")));
	assert_int_equal(found.value.len, 1);
	assert_false(mg_kv_iter_next(iter, &key, &found));
	assert_int_equal(mg_kv_iter_close(iter, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_parts_become_a_value_at_once, begin, end),
		cmocka_unit_test_setup_teardown(test_parts_go_with_their_key, begin, end),
		cmocka_unit_test_setup_teardown(test_conditions_hold_for_parts, begin, end),
		cmocka_unit_test_setup_teardown(test_parts_come_in_order_and_again, begin, end),
		cmocka_unit_test_setup_teardown(test_what_nobody_wants_goes_in_time, begin, end),
		cmocka_unit_test_setup_teardown(test_parts_are_there_after_a_crash, begin, end),
		cmocka_unit_test_setup_teardown(test_a_named_request_is_its_bytes, begin, end),
		cmocka_unit_test_setup_teardown(test_what_needs_the_bytes_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_a_scan_goes_on_behind_the_parts, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
