/* The gate between readers of shards and who replaces a shard's file: never both, and nobody waits
 * for ever. */
#include "exec/gate.h"

#include "os/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

enum { PATIENCE_MS = 60000 };

#define AWAIT(condition)                                                   \
	for (uint64_t patience = mg_clock_ms() + PATIENCE_MS; !(condition);) { \
		if (mg_clock_ms() > patience) {                                    \
			fail_msg("waited in vain: " #condition);                       \
		}                                                                  \
		mg_sleep_ms(2);                                                    \
	}

static struct mg_gate *gate;
static atomic_int inside, swaps, met, interrupts;
static atomic_bool hold;

static int swap(void *arg, struct mg_error *err)
{
	(void)arg;
	atomic_fetch_add(&met, atomic_load(&inside));
	while (atomic_load(&hold)) {
		mg_sleep_ms(2);
	}
	atomic_fetch_add(&met, atomic_load(&inside));
	atomic_fetch_add(&swaps, 1);
	return mg_error_set(err, MG_E_NOT_FOUND, "as swap says");
}

static void *do_swap(void *arg)
{
	struct mg_error err = { 0 };

	(void)arg;
	assert_int_equal(mg_gate_swap(gate, swap, NULL, &err), MG_E_NOT_FOUND);
	return NULL;
}

static void on_interrupt(void *arg)
{
	atomic_store((atomic_bool *)arg, true);
	atomic_fetch_add(&interrupts, 1);
}

/* Comes in, and stays until it is interrupted. */
static void *read_long(void *arg)
{
	struct mg_gate_pass pass;
	atomic_bool stop = false;

	(void)arg;
	assert_int_equal(mg_gate_enter(gate, &pass, on_interrupt, &stop, NULL), 0);
	atomic_fetch_add(&inside, 1);
	AWAIT(atomic_load(&stop));
	mg_gate_mute(gate, &pass);
	atomic_fetch_sub(&inside, 1);
	mg_gate_leave(gate, &pass);
	mg_gate_leave(gate, &pass); /* again is fine */
	return NULL;
}

static void *read_short(void *arg)
{
	struct mg_gate_pass pass;

	(void)arg;
	assert_int_equal(mg_gate_enter(gate, &pass, NULL, NULL, NULL), 0);
	atomic_fetch_add(&inside, 1);
	assert_int_equal(atomic_load(&hold), false);
	atomic_fetch_sub(&inside, 1);
	mg_gate_leave(gate, &pass);
	return NULL;
}

static int begin(void **state)
{
	(void)state;
	gate = mg_gate_new();
	atomic_store(&inside, 0);
	atomic_store(&swaps, 0);
	atomic_store(&met, 0);
	atomic_store(&interrupts, 0);
	atomic_store(&hold, false);
	return 0;
}

static int end(void **state)
{
	(void)state;
	mg_gate_free(gate);
	return 0;
}

static void test_who_is_inside_is_asked_to_leave(void **state)
{
	pthread_t reader, swapper;

	(void)state;
	assert_int_equal(pthread_create(&reader, NULL, read_long, NULL), 0);
	AWAIT(atomic_load(&inside) == 1);
	assert_int_equal(pthread_create(&swapper, NULL, do_swap, NULL), 0);
	pthread_join(swapper, NULL);
	pthread_join(reader, NULL);
	assert_int_equal(atomic_load(&swaps), 1);
	assert_int_equal(atomic_load(&met), 0);
	assert_true(atomic_load(&interrupts) > 0);
}

static void test_readers_wait_for_a_swap(void **state)
{
	pthread_t readers[4], swappers[2];

	(void)state;
	atomic_store(&hold, true);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&swappers[i], NULL, do_swap, NULL), 0);
	}
	mg_sleep_ms(50); /* so that readers come while one is at it */
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&readers[i], NULL, read_short, NULL), 0);
	}
	mg_sleep_ms(50);
	atomic_store(&hold, false);
	for (int i = 0; i < 2; i++) {
		pthread_join(swappers[i], NULL);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(readers[i], NULL);
	}
	assert_int_equal(atomic_load(&swaps), 2);
	assert_int_equal(atomic_load(&met), 0);
}

/* One that is inside comes in once more while a swap waits for it: neither waits for ever. */
static void test_a_second_entry_ends_with_an_error(void **state)
{
	struct mg_gate_pass first, second;
	struct mg_error err = { 0 };
	pthread_t swapper;

	(void)state;
	assert_int_equal(mg_gate_enter(gate, &first, NULL, NULL, NULL), 0);
	assert_int_equal(pthread_create(&swapper, NULL, do_swap, NULL), 0);
	/* Until the swap has closed the gate, the second entry is granted. */
	while (mg_gate_enter(gate, &second, NULL, NULL, &err) == 0) {
		mg_gate_leave(gate, &second);
		mg_sleep_ms(2);
	}
	assert_int_equal(err.code, MG_E_BUSY);
	assert_int_equal(atomic_load(&swaps), 0);
	mg_gate_leave(gate, &second); /* was not let in: nothing */
	mg_gate_leave(gate, &first);
	pthread_join(swapper, NULL);
	assert_int_equal(atomic_load(&swaps), 1);
}

static void test_without_a_gate_all_pass(void **state)
{
	struct mg_gate_pass pass;

	(void)state;
	assert_int_equal(mg_gate_enter(NULL, &pass, NULL, NULL, NULL), 0);
	mg_gate_mute(NULL, &pass);
	mg_gate_leave(NULL, &pass);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_is_inside_is_asked_to_leave, begin, end),
		cmocka_unit_test_setup_teardown(test_readers_wait_for_a_swap, begin, end),
		cmocka_unit_test_setup_teardown(test_a_second_entry_ends_with_an_error, begin, end),
		cmocka_unit_test(test_without_a_gate_all_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
