/*
 * test_worker_servers.c - whom a worker asks, when it moves, and what it does not believe.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "exec/worker_servers.h"

#include <string.h>

static struct mg_worker_servers servers;
static struct mg_error err;

static int hear(const char *text, uint64_t now_ms)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;

	assert_int_equal(mg_json_parse(arena, text, strlen(text), &json, &err), 0);
	int code = mg_worker_servers_hear(&servers, json, now_ms, &err);

	mg_arena_free(arena);
	return code;
}

static void expect_now(const char *address)
{
	char now[MG_SERVER_ADDRESS_MAX + 1];

	mg_worker_servers_now(&servers, now);
	assert_string_equal(now, address);
}

static bool moves(uint64_t now_ms, const char *expected)
{
	char to[MG_SERVER_ADDRESS_MAX + 1] = "";
	bool move = mg_worker_servers_move(&servers, now_ms, to);

	assert_string_equal(to, move ? expected : "");
	return move;
}

static void begin(const char *list)
{
	assert_int_equal(mg_worker_servers_init(&servers, list, &err), 0);
}

static void test_servers_are_asked_in_turn(void **state)
{
	(void)state;
	begin("a,:7,[::1],b:1,,");
	expect_now("a:8765");
	mg_worker_servers_next(&servers);
	expect_now("localhost:7");
	mg_worker_servers_next(&servers);
	expect_now("[::1]:8765");
	mg_worker_servers_next(&servers);
	expect_now("b:1");
	assert_int_equal(
		hear("{\"self\":\"x:1\",\"coordinator\":null,\"servers\":[\"x:1\",\"y:1\"]}", 0), 0);
	mg_worker_servers_next(&servers);
	expect_now("x:1"); /* those that it has heard of come last */
	mg_worker_servers_next(&servers);
	expect_now("y:1");
	mg_worker_servers_next(&servers);
	expect_now("a:8765");
	mg_worker_servers_fini(&servers);
	assert_int_equal(mg_worker_servers_init(&servers, ",", &err), MG_E_USAGE);
	mg_worker_servers_fini(&servers);
}

static void test_it_moves_to_where_writes_are_coordinated(void **state)
{
	static const char there[] = "{\"self\":\"a:1\",\"coordinator\":\"b:1\",\"servers\":[]}";
	static const char here[] = "{\"self\":\"a:1\",\"coordinator\":\"a:1\",\"servers\":[]}";
	static const char nowhere[] = "{\"self\":\"a:1\",\"coordinator\":null,\"servers\":[]}";

	(void)state;
	begin("a:1");
	assert_false(moves(0, ""));
	assert_int_equal(hear(there, 1000), 0);
	assert_false(moves(1000 + MG_MOVE_AFTER_MS - 1, ""));
	assert_int_equal(hear(there, 1500), 0); /* as before: the time goes on */
	assert_true(moves(1000 + MG_MOVE_AFTER_MS, "b:1"));
	assert_int_equal(hear(nowhere, 4000), 0);
	assert_false(moves(10000, ""));
	assert_int_equal(hear(there, 10000), 0);
	assert_int_equal(hear(here, 10500), 0);
	assert_false(moves(20000, ""));
	/* what cannot be reached is left alone for a while */
	assert_int_equal(hear(there, 20000), 0);
	assert_true(moves(30000, "b:1"));
	mg_worker_servers_moved(&servers, false, 30000);
	assert_int_equal(hear(there, 31000), 0);
	assert_false(moves(30000 + MG_MOVE_AGAIN_MS - 1, ""));
	assert_true(moves(30000 + MG_MOVE_AGAIN_MS, "b:1"));
	mg_worker_servers_fini(&servers);
}

static void test_what_makes_no_sense_changes_nothing(void **state)
{
	(void)state;
	begin("a:1");
	assert_int_equal(hear("{}", 0), MG_E_PROTOCOL);
	assert_int_equal(hear("{\"servers\":[1]}", 0), MG_E_PROTOCOL);
	assert_int_equal(hear("{\"servers\":[\"\"]}", 0), MG_E_PROTOCOL);
	assert_int_equal(hear("{\"self\":\"a:1\",\"coordinator\":\"\",\"servers\":[]}", 0),
	                 MG_E_PROTOCOL);
	assert_false(moves(100000, ""));
	mg_worker_servers_next(&servers);
	expect_now("a:1");
	mg_worker_servers_fini(&servers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_servers_are_asked_in_turn),
		cmocka_unit_test(test_it_moves_to_where_writes_are_coordinated),
		cmocka_unit_test(test_what_makes_no_sense_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
