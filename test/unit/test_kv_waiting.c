/*
 * Parts of transactions in a group of keys: what waits holds its keys, through a crash too, and
 * happens as it was seen, or not at all; what is decided once stays so.
 */
#include "os/clock.h"
#include "unit/kv_kit.h"

#define ONE "1111111111111111"
#define TWO "2222222222222222"

static struct mg_kv_op own(uint8_t kind, const char *id, uint64_t number)
{
	return (struct mg_kv_op){
		.kind = kind, .key = mg_str(id), .number = number, .expiry = now_ms + 100
	};
}

static struct mg_kv_result alone(uint8_t kind, const char *id, uint64_t number)
{
	struct mg_kv_op op = own(kind, id, number);

	return run_request(NULL, &op, 1).list[0];
}

static bool is_held(const char *key)
{
	bool held = false;

	assert_int_equal(mg_kv_state_held(state, MG_STR("s"), mg_str(key), &held, &err), 0);
	return held;
}

static bool waits(void)
{
	char id[MG_KV_TX_ID];
	uint32_t decides = 0;
	bool found = mg_kv_state_waits(state, mg_clock_ms(), UINT32_MAX, id, &decides);

	assert_true(!found || decides == 3);
	assert_false(mg_kv_state_waits(state, mg_clock_ms(), 3, id, &decides));
	assert_false(mg_kv_state_waits(state, mg_clock_ms() - 60000, UINT32_MAX, id, &decides));
	return found;
}

static void prepare_two(const char *id)
{
	const struct mg_kv_op ops[] = { own(MG_KV_PREPARE, id, 3), op(MG_KV_PUT, "a", "1", 0),
		                            op(MG_KV_ADD, "n", "", 0) };
	struct mg_kv_result *list = run(ops, 3);

	assert_int_equal(list[1].status, MG_KV_DONE);
	assert_int_equal(list[2].status, MG_KV_DONE);
}

static void test_what_is_prepared_holds_its_keys(void **unused)
{
	const struct mg_kv_op both[] = { op(MG_KV_PUT, "z", "1", 0), op(MG_KV_PUT, "a", "2", 0) };
	const struct mg_kv_op other[] = { own(MG_KV_PREPARE, TWO, 3), op(MG_KV_READ, "n", "", 0) };
	const struct mg_kv_op again[] = { own(MG_KV_PREPARE, ONE, 3), op(MG_KV_READ, "z", "", 0) };

	(void)unused;
	prepare_two(ONE);
	assert_key("a", NULL);
	assert_true(is_held("a") && is_held("n") && !is_held("z"));
	assert_int_equal(one(op(MG_KV_PUT, "a", "2", MG_KV_ALONE)).status, MG_KV_LOCKED);
	assert_int_equal(run(both, 2)[1].status, MG_KV_LOCKED);
	assert_key("z", NULL);
	assert_int_equal(run(other, 2)[1].status, MG_KV_LOCKED);
	assert_int_equal(run(again, 2)[0].status, MG_KV_LOCKED);
	assert_false(is_held("z"));
	assert_int_equal(one(op(MG_KV_PUT, "z", "1", 0)).version, 1);
	crash();
	if (next_index == 1) { /* nothing was flushed: raft would apply it again */
		prepare_two(ONE);
	}
	assert_true(is_held("a") && waits());
	assert_false(alone(MG_KV_SETTLE, TWO, 1).found);
	struct mg_kv_op settle = own(MG_KV_SETTLE, ONE, 1);
	uint64_t releases = mg_kv_state_releases(state);
	struct mg_kv_results results = run_request(NULL, &settle, 1);

	assert_int_equal(results.count, 3);
	assert_true(results.list[0].found);
	assert_true(results.list[1].version > 0 && results.list[2].version > results.list[1].version);
	assert_key("a", "1");
	assert_key("n", "0");
	assert_false(is_held("a") || is_held("n") || waits());
	assert_true(mg_kv_state_releases(state) > releases);
	assert_false(alone(MG_KV_SETTLE, ONE, 1).found);
	assert_int_equal(one(op(MG_KV_PUT, "a", "2", 0)).status, MG_KV_DONE);
}

static void test_what_was_flushed_still_waits(void **unused)
{
	(void)unused;
	prepare_two(ONE);
	assert_int_equal(mg_lsm_flush(lsm, &err), 0);
	crash();
	assert_true(is_held("a") && waits());
	assert_true(alone(MG_KV_SETTLE, ONE, 0).found);
	assert_key("a", NULL);
	assert_key("n", NULL);
	assert_space(0, 0);
	assert_false(is_held("a"));
	assert_int_equal(one(op(MG_KV_PUT, "a", "2", 0)).version, 1);
}

static void test_what_is_refused_holds_nothing(void **unused)
{
	const struct mg_kv_op ops[] = { own(MG_KV_PREPARE, ONE, 3), op(MG_KV_PUT, "b", "1", 0),
		                            op(MG_KV_PUT, "a", "2", MG_KV_IF_ABSENT) };

	(void)unused;
	assert_int_equal(one(op(MG_KV_PUT, "a", "1", 0)).version, 1);
	struct mg_kv_result *list = run(ops, 3);

	assert_int_equal(list[2].status, MG_KV_PRESENT);
	assert_int_equal(list[1].status, MG_KV_NOT_TRIED);
	assert_false(is_held("a") || is_held("b") || waits());
	assert_int_equal(one(op(MG_KV_PUT, "b", "1", 0)).version, 2);
}

/* What a version will be is known when it is made, not when it is prepared. */
static void test_nobody_guesses_a_version(void **unused)
{
	struct mg_kv_op ops[] = { own(MG_KV_PREPARE, ONE, 3), op(MG_KV_PUT, "a", "1", 0),
		                      op(MG_KV_APPEND, "a", "2", MG_KV_IF_VERSION) };

	(void)unused;
	ops[2].number = 1; /* as a PUT alone would have made it */
	assert_int_equal(run(ops, 3)[2].status, MG_KV_OTHER_VERSION);
	assert_false(is_held("a") || waits());
	assert_int_equal(one(op(MG_KV_PUT, "b", "1", 0)).version, 1);
}

/* A short request with a long answer, or much to write, on all replicas. */
static void test_no_request_is_too_much_work(void **unused)
{
	enum { SIZE = 60000, COUNT = 700 };
	static char value[SIZE + 1];
	static struct mg_kv_op ops[COUNT];
	static const uint8_t kinds[] = { MG_KV_READ, MG_KV_APPEND, MG_KV_EXPIRE };

	(void)unused;
	memset(value, 'v', SIZE);
	assert_int_equal(one(op(MG_KV_PUT, "a", value, 0)).version, 1);
	for (size_t k = 0; k < 3; k++) {
		for (uint32_t i = 0; i < COUNT; i++) {
			ops[i] = op(kinds[k], "a", "", MG_KV_ALONE);
		}
		struct mg_kv_result *list = run(ops, COUNT);
		uint32_t refused = 0;

		while (refused < COUNT && list[refused].status == MG_KV_NOT_TRIED) {
			refused++;
		}
		assert_in_range(refused, 500, 600);
		assert_int_equal(list[refused].status, MG_KV_TOO_MUCH);
		ops[0] = own(MG_KV_PREPARE, ONE, 3);
		assert_int_equal(run(ops, COUNT)[refused + 1].status, MG_KV_TOO_MUCH);
		assert_false(is_held("a") || waits());
	}
	assert_int_equal(one(op(MG_KV_READ, "a", "", 0)).was.version, 1);
}

static void test_time_stands_still_for_what_waits(void **unused)
{
	struct mg_kv_op put = op(MG_KV_PUT, "a", "7", MG_KV_EXPIRES);
	const struct mg_kv_op ops[] = { own(MG_KV_PREPARE, ONE, 3), op(MG_KV_ADD, "a", "", 0),
		                            op(MG_KV_DELETE, "b", "", MG_KV_WANT_OLD) };

	(void)unused;
	put.expiry = 1000;
	assert_int_equal(one(put).version, 1);
	put.key = MG_STR("b");
	assert_int_equal(one(put).version, 2);
	now_ms += 500;
	struct mg_kv_result *list = run(ops, 3);

	assert_int_equal(list[1].number, 7);
	assert_true(list[2].found);
	now_ms += 5000;
	tick();
	assert_key("a", NULL);
	assert_space(2, 4);
	assert_true(mg_kv_state_expiry_ms(state) > 0); /* the next tick looks again */
	struct mg_kv_op settle = own(MG_KV_SETTLE, ONE, 1);

	list = run_request(NULL, &settle, 1).list;
	assert_int_equal(list[1].number, 7);
	assert_true(list[2].found && list[2].was.value.ptr[0] == '7');
	tick();
	assert_space(0, 0);
	assert_int_equal(mg_kv_state_expiry_ms(state), 0);
}

static struct mg_kv_result *decide(const char *id)
{
	const struct mg_kv_op ops[] = { own(MG_KV_DECIDE, id, 0), op(MG_KV_ADD, "n", "", 0) };

	return run(ops, 2);
}

static void test_a_decision_stands(void **unused)
{
	(void)unused;
	assert_int_equal(alone(MG_KV_INQUIRE, ONE, 0).number, 0);
	struct mg_kv_result *list = decide(ONE);

	assert_int_equal(list[0].status, MG_KV_ABORTED);
	assert_int_equal(list[1].status, MG_KV_NOT_TRIED);
	assert_key("n", NULL);
	list = decide(TWO);
	assert_int_equal(list[0].status, MG_KV_DONE);
	assert_int_equal(list[1].version, 1);
	now_ms += 10 * MG_KV_ID_KEEP_MS; /* for good, until it is forgotten */
	tick();
	assert_int_equal(alone(MG_KV_INQUIRE, TWO, 0).number, 1);
	(void)alone(MG_KV_FORGET, TWO, 0);
	assert_int_equal(alone(MG_KV_INQUIRE, TWO, 0).number, 0);
	struct mg_kv_op late[] = { own(MG_KV_DECIDE, "3333333333333333", 0),
		                       op(MG_KV_ADD, "n", "", 0) };

	late[0].expiry = now_ms - 1;
	assert_int_equal(run(late, 2)[0].status, MG_KV_ABORTED);
	assert_key("n", "0");
}

static void test_the_same_request_again_has_the_same_answer(void **unused)
{
	const struct mg_kv_op first[] = { own(MG_KV_PREPARE, ONE, 3), op(MG_KV_PUT, "a", "1", 0) };
	const struct mg_kv_op again[] = { own(MG_KV_PREPARE, TWO, 3), op(MG_KV_PUT, "a", "1", 0) };
	struct mg_kv_op settle = own(MG_KV_SETTLE, ONE, 1);

	(void)unused;
	assert_false(run_request("id", first, 2).list[0].found);
	assert_int_equal(run_request("id", again, 2).list[1].status, MG_KV_LOCKED);
	assert_int_equal(run_request(NULL, &settle, 1).list[1].version, 1);
	struct mg_kv_results results = run_request("id", again, 2);

	assert_true(results.list[0].found);
	assert_int_equal(results.list[1].status, MG_KV_DONE);
	assert_int_equal(results.list[1].version, 1);
	assert_false(is_held("a") || waits());
}

static void test_what_makes_no_sense_is_refused(void **unused)
{
	static struct entry entry;
	struct mg_kv_entry out;
	const struct mg_kv_op behind[] = { op(MG_KV_PUT, "a", "1", 0), own(MG_KV_PREPARE, ONE, 3) };
	const struct mg_kv_op not_alone[] = { own(MG_KV_SETTLE, ONE, 1), op(MG_KV_PUT, "a", "1", 0) };
	const struct mg_kv_op short_id[] = { own(MG_KV_PREPARE, "short", 3) };
	const struct {
		const struct mg_kv_op *ops;
		uint32_t count;
	} cases[] = { { behind, 2 }, { not_alone, 2 }, { short_id, 1 } };

	(void)unused;
	for (size_t i = 0; i < 3; i++) {
		entry_begin(&entry, MG_KV_REQUESTS, 1);
		entry_request(&entry, NULL, cases[i].ops, cases[i].count);
		assert_int_equal(mg_kv_entry_decode(entry.bytes, entry.out.size, &out, &err),
		                 MG_E_PROTOCOL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_prepared_holds_its_keys, begin, end),
		cmocka_unit_test_setup_teardown(test_what_was_flushed_still_waits, begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_refused_holds_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_nobody_guesses_a_version, begin, end),
		cmocka_unit_test_setup_teardown(test_no_request_is_too_much_work, begin, end),
		cmocka_unit_test_setup_teardown(test_time_stands_still_for_what_waits, begin, end),
		cmocka_unit_test_setup_teardown(test_a_decision_stands, begin, end),
		cmocka_unit_test_setup_teardown(test_the_same_request_again_has_the_same_answer, begin,
		                                end),
		cmocka_unit_test(test_what_makes_no_sense_is_refused),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	mg_arena_free(arena);
	return failed;
}
