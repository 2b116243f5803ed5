/*
 * test_admission.c - query threads and slots: never more than allowed, nothing lost, in order.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/clock.h"
#include "session/admission.h"
#include "os/pool.h"

/* ---- threads ---- */

static atomic_int done, running, running_most;

static void count_work(void *arg)
{
	int now = atomic_fetch_add(&running, 1) + 1;
	int most = atomic_load(&running_most);

	(void)arg;
	while (now > most && !atomic_compare_exchange_weak(&running_most, &most, now)) {
	}
	mg_sleep_ms(1);
	atomic_fetch_sub(&running, 1);
	atomic_fetch_add(&done, 1);
}

static void test_pool_runs_all_work_on_few_threads(void **state)
{
	struct mg_pool *pool = mg_pool_new(4, 500);
	struct mg_error err = { 0 };

	(void)state;
	atomic_store(&done, 0);
	for (int i = 0; i < 400; i++) {
		assert_int_equal(mg_pool_post(pool, count_work, NULL, &err), 0);
	}
	assert_true(mg_pool_threads(pool) <= 4);
	mg_pool_stop(pool);
	assert_int_equal(atomic_load(&done), 400);
	assert_true(atomic_load(&running_most) <= 4);
	assert_true(atomic_load(&running_most) > 1);
	assert_int_equal(mg_pool_post(pool, count_work, NULL, &err), MG_E_SHUTDOWN);
	mg_pool_free(pool);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void wait_at_gate(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
}

static void test_full_queue_is_busy_with_a_hint(void **state)
{
	struct mg_pool *pool = mg_pool_new(1, 2);
	struct mg_error err = { 0 };
	int code = 0, taken = 0;

	(void)state;
	pthread_mutex_lock(&gate);
	while (taken < 10 && (code = mg_pool_post(pool, wait_at_gate, NULL, &err)) == 0) {
		taken++;
	}
	pthread_mutex_unlock(&gate);
	assert_int_equal(code, MG_E_BUSY);
	assert_in_range(taken, 2, 3); /* the thread may or may not have taken the first one yet */
	assert_string_equal(err.sqlstate, "53300");
	assert_true(err.hint[0] != '\0');
	mg_pool_free(pool);
}

/* ---- slots ---- */

struct entrant {
	struct mg_admission *admission;
	atomic_int *order;
	atomic_bool stop;
	int place; /* -1: not admitted */
	int code;
	struct mg_error err;
};

static bool entrant_stopped(void *arg)
{
	struct entrant *entrant = arg;

	return atomic_load(&entrant->stop);
}

static void *enter(void *arg)
{
	struct entrant *entrant = arg;

	entrant->code = mg_admission_enter(entrant->admission, entrant_stopped, entrant, &entrant->err);
	if (entrant->code == 0) {
		entrant->place = atomic_fetch_add(entrant->order, 1);
		mg_admission_leave(entrant->admission);
	}
	return NULL;
}

static void wait_for_waiting(struct mg_admission *admission, size_t count)
{
	size_t slots, waiting = 0, most;

	for (int i = 0; i < 5000 && waiting != count; i++) {
		mg_admission_counts(admission, &slots, &waiting, &most);
		mg_sleep_ms(1);
	}
	assert_int_equal(waiting, count);
}

static void test_slots_go_in_the_order_of_asking(void **state)
{
	struct mg_admission *admission = mg_admission_new(1, 10);
	struct entrant entrants[4];
	pthread_t threads[4];
	atomic_int order = 0;
	struct mg_error err = { 0 };
	size_t slots, waiting, most;

	(void)state;
	assert_int_equal(mg_admission_enter(admission, NULL, NULL, &err), 0);
	for (size_t i = 0; i < 4; i++) {
		entrants[i] = (struct entrant){ .admission = admission, .order = &order, .place = -1 };
		pthread_create(&threads[i], NULL, enter, &entrants[i]);
		wait_for_waiting(admission, i + 1);
	}
	atomic_store(&entrants[1].stop, true);
	mg_admission_wake(admission);
	pthread_join(threads[1], NULL);
	assert_int_equal(entrants[1].code, MG_E_CANCELLED);
	mg_admission_leave(admission);
	pthread_join(threads[0], NULL);
	pthread_join(threads[2], NULL);
	pthread_join(threads[3], NULL);
	assert_int_equal(entrants[0].place, 0);
	assert_int_equal(entrants[2].place, 1);
	assert_int_equal(entrants[3].place, 2);
	mg_admission_counts(admission, &slots, &waiting, &most);
	assert_int_equal(slots, 0);
	assert_int_equal(waiting, 0);
	mg_admission_free(admission);
}

static void test_full_queue_of_slots_is_busy(void **state)
{
	struct mg_admission *admission = mg_admission_new(1, 1);
	struct entrant entrant;
	pthread_t thread;
	atomic_int order = 0;
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(mg_admission_enter(admission, NULL, NULL, &err), 0);
	entrant = (struct entrant){ .admission = admission, .order = &order };
	pthread_create(&thread, NULL, enter, &entrant);
	wait_for_waiting(admission, 1);
	assert_int_equal(mg_admission_enter(admission, NULL, NULL, &err), MG_E_BUSY);
	assert_string_equal(err.sqlstate, "53300");
	assert_true(err.hint[0] != '\0');
	mg_admission_leave(admission);
	pthread_join(thread, NULL);
	mg_admission_free(admission);
}

static bool always(void *arg)
{
	(void)arg;
	return true;
}

static void test_paused_slot_serves_another_and_comes_back(void **state)
{
	struct mg_admission *admission = mg_admission_new(1, 10);
	struct mg_slot slow = { .admission = admission }, other = { .admission = admission };
	struct mg_error err = { 0 };
	size_t slots, waiting, most;

	(void)state;
	assert_int_equal(mg_slot_enter(&slow, NULL, NULL, &err), 0);
	mg_slot_pause(&slow);
	assert_int_equal(mg_slot_enter(&other, NULL, NULL, &err), 0);
	mg_slot_leave(&other);
	mg_slot_leave(&other); /* twice is fine */
	mg_slot_resume(&slow);
	mg_admission_counts(admission, &slots, &waiting, &most);
	assert_int_equal(slots, 1);
	/* A statement that was ended while its client was slow waits for no slot. */
	mg_slot_pause(&slow);
	slow.stopped = always;
	assert_int_equal(mg_slot_enter(&other, NULL, NULL, &err), 0);
	mg_slot_resume(&slow);
	assert_false(slow.held);
	mg_slot_leave(&slow);
	mg_slot_leave(&other);
	mg_admission_counts(admission, &slots, &waiting, &most);
	assert_int_equal(slots, 0);
	mg_admission_free(admission);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_runs_all_work_on_few_threads),
		cmocka_unit_test(test_full_queue_is_busy_with_a_hint),
		cmocka_unit_test(test_slots_go_in_the_order_of_asking),
		cmocka_unit_test(test_full_queue_of_slots_is_busy),
		cmocka_unit_test(test_paused_slot_serves_another_and_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
