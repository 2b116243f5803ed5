/* test_kv_clock.c - the time of keys and values goes as time goes, whatever the wall clock does. */
#include "replica/kv_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND 1000000ull
#define HOUR (3600 * SECOND)
#define BEGIN (500000 * HOUR)

static void test_it_follows_the_wall_clock(void **state)
{
	struct mg_kv_clock clock = { .time_us = BEGIN, .at_us = 7 };

	(void)state;
	mg_kv__clock_move(&clock, 7 + SECOND, BEGIN + SECOND + 3000);
	assert_int_equal(clock.time_us, BEGIN + SECOND + 3000);
	mg_kv__clock_move(&clock, 7 + 2 * SECOND, BEGIN + 2 * SECOND - 4000);
	assert_int_equal(clock.time_us, BEGIN + 2 * SECOND - 4000);
}

static void test_a_jump_is_not_followed(void **state)
{
	struct mg_kv_clock clock = { .time_us = BEGIN, .at_us = 7 };

	(void)state;
	mg_kv__clock_move(&clock, 7 + 10 * SECOND, BEGIN + HOUR);
	assert_int_equal(clock.time_us, BEGIN + 11 * SECOND);
	mg_kv__clock_move(&clock, 7 + 20 * SECOND, BEGIN - HOUR);
	assert_int_equal(clock.time_us, BEGIN + 20 * SECOND);
	/* The monotonic clock as another thread has read it a moment ago. */
	mg_kv__clock_move(&clock, 7 + 19 * SECOND, BEGIN + 19 * SECOND);
	assert_int_equal(clock.time_us, BEGIN + 20 * SECOND);
	/* In small steps, too, and in the end it is where the wall clock stays. */
	for (uint64_t i = 0; i < 11 * 3600; i++) {
		mg_kv__clock_move(&clock, 7 + (21 + i) * SECOND, BEGIN + (21 + i) * SECOND + HOUR);
	}
	assert_int_equal(clock.time_us, BEGIN + (20 + 11 * 3600) * SECOND + HOUR);
}

static void test_what_is_in_a_log_is_not_in_its_future(void **state)
{
	struct mg_kv_clock clock;

	(void)state;
	mg_kv_clock_init(&clock);
	uint64_t first = mg_kv_clock_now_ms(&clock), ahead = first + 3600u * 1000;

	mg_kv_clock_saw(&clock, first - 1000);
	assert_in_range(mg_kv_clock_now_ms(&clock), first, first + 60000);
	mg_kv_clock_saw(&clock, ahead);
	assert_in_range(mg_kv_clock_now_ms(&clock), ahead, ahead + 60000);
	mg_kv_clock_fini(&clock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_follows_the_wall_clock),
		cmocka_unit_test(test_a_jump_is_not_followed),
		cmocka_unit_test(test_what_is_in_a_log_is_not_in_its_future),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
