/* test_lease.c - how long a lease holds, what it stands on, and what ends it. */
#include "raft/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the above */
#include <cmocka.h>

enum { PROMISE_MS = 250 };

/* A promise is counted by a clock that runs too fast by a ninth, and the millisecond in which it
 * was given has nearly gone; the lease by one that runs too slow by as much; both begin in the same
 * moment.  The lease ends first, whatever the length. */
static void test_a_lease_ends_before_what_it_stands_on(void **state)
{
	(void)state;
	for (unsigned promise_ms = 2; promise_ms < 5000; promise_ms++) {
		double lease_ends = (double)mg_lease_ms(promise_ms) / (1 - 1.0 / 9);
		double promise_ends = (double)(promise_ms - 1) / (1 + 1.0 / 9);

		assert_true(lease_ends < promise_ends);
	}
	assert_int_equal(mg_lease_ms(PROMISE_MS), 199);
	assert_int_equal(mg_lease_ms(0), 0);
	assert_int_equal(mg_lease_ms(2), 0);
	assert_int_equal(mg_lease_ms(3), 1);
}

static void test_it_counts_from_the_beginning_of_the_round(void **state)
{
	struct mg_lease lease = { 0 };
	unsigned ms = mg_lease_ms(PROMISE_MS);

	(void)state;
	assert_false(mg_lease_holds(&lease, 1));
	mg_lease_round(&lease, 1000);
	assert_false(mg_lease_holds(&lease, 1000)); /* nobody has promised */
	mg_lease_confirm(&lease, 7, ms);
	assert_true(mg_lease_holds(&lease, 1000 + ms - 1));
	assert_false(mg_lease_holds(&lease, 1000 + ms));
	/* A newer round that is not confirmed neither takes nor gives. */
	mg_lease_round(&lease, 1100);
	assert_true(mg_lease_holds(&lease, 1000 + ms - 1));
	assert_false(mg_lease_holds(&lease, 1000 + ms));
	mg_lease_confirm(&lease, 7, ms);
	assert_true(mg_lease_holds(&lease, 1100 + ms - 1));
}

static void test_it_is_renewed_once_when_half_of_it_is_over(void **state)
{
	struct mg_lease lease = { 0 };
	unsigned ms = mg_lease_ms(PROMISE_MS);

	(void)state;
	mg_lease_round(&lease, 1000);
	mg_lease_confirm(&lease, 7, ms);
	assert_false(mg_lease_ages(&lease, 1000 + ms / 2 - 1, ms));
	assert_true(mg_lease_ages(&lease, 1000 + ms / 2, ms));
	mg_lease_round(&lease, 1000 + ms / 2);
	assert_false(mg_lease_ages(&lease, 1000 + ms / 2 + 5, ms));
}

static void test_other_members_end_it_and_the_round_under_way(void **state)
{
	struct mg_lease lease = { 0 };
	unsigned ms = mg_lease_ms(PROMISE_MS);

	(void)state;
	mg_lease_round(&lease, 1000);
	mg_lease_confirm(&lease, 7, ms);
	mg_lease_round(&lease, 1100);
	mg_lease_end(&lease);
	assert_false(mg_lease_holds(&lease, 1101));
	mg_lease_confirm(&lease, 7, ms); /* by voters of before */
	assert_false(mg_lease_holds(&lease, 1101));
	mg_lease_round(&lease, 1110);
	mg_lease_confirm(&lease, 7, ms);
	assert_true(mg_lease_holds(&lease, 1111));
}

static void test_who_gives_leadership_away_has_none_before_the_next_term(void **state)
{
	struct mg_lease lease = { 0 };
	unsigned ms = mg_lease_ms(PROMISE_MS);

	(void)state;
	mg_lease_round(&lease, 1000);
	mg_lease_confirm(&lease, 7, ms);
	mg_lease_give_away(&lease, 7);
	assert_false(mg_lease_holds(&lease, 1001));
	mg_lease_round(&lease, 1010);
	mg_lease_confirm(&lease, 7, ms); /* it was not taken, but may still be */
	assert_false(mg_lease_holds(&lease, 1011));
	mg_lease_round(&lease, 3000);
	mg_lease_confirm(&lease, 9, ms);
	assert_true(mg_lease_holds(&lease, 3001));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_lease_ends_before_what_it_stands_on),
		cmocka_unit_test(test_it_counts_from_the_beginning_of_the_round),
		cmocka_unit_test(test_it_is_renewed_once_when_half_of_it_is_over),
		cmocka_unit_test(test_other_members_end_it_and_the_round_under_way),
		cmocka_unit_test(test_who_gives_leadership_away_has_none_before_the_next_term),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
