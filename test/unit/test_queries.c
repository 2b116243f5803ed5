/*
 * test_queries.c - the list of running statements: ending one, time limits, the history.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "os/clock.h"
#include "session/admission.h"
#include "session/query.h"

static struct mg_admission *admission;
static struct mg_queries *queries;
static atomic_int stops;

static int setup(void **state)
{
	(void)state;
	admission = mg_admission_new(2, 10);
	atomic_store(&stops, 0);
	return mg_queries_new(&queries, admission, 0, NULL);
}

static int teardown(void **state)
{
	(void)state;
	mg_queries_free(queries);
	mg_admission_free(admission);
	return 0;
}

static void count_stop(void *arg)
{
	(void)arg;
	atomic_fetch_add(&stops, 1);
}

static struct mg_query *begin(const char *session, const char *user, const char *sql,
                              uint64_t timeout_ms)
{
	return mg_query_begin(queries, &(struct mg_query_begin){ .session = session,
	                                                         .user = user,
	                                                         .sql = mg_str(sql),
	                                                         .timeout_ms = timeout_ms,
	                                                         .stop = count_stop });
}

static void test_cancel_by_id_and_by_whom(void **state)
{
	struct mg_error err = { 0 };
	struct mg_query *query = begin("s-1", "scott", "SELECT 1", 0);

	(void)state;
	assert_int_equal(mg_queries_cancel(queries, "q-no", NULL, &err), MG_E_NOT_FOUND);
	assert_int_equal(mg_queries_cancel(queries, mg_query_id(query), "smith", &err), MG_E_DENIED);
	assert_int_equal(mg_query_stopped(query), 0);
	assert_int_equal(mg_queries_cancel(queries, mg_query_id(query), "scott", &err), 0);
	assert_int_equal(mg_queries_cancel(queries, mg_query_id(query), NULL, &err), 0);
	assert_int_equal(mg_query_stopped(query), MG_E_CANCELLED);
	assert_true(mg_run_cancelled(mg_query_run(query)));
	assert_int_equal(atomic_load(&stops), 1);
	mg_query_end(query, NULL);
}

static void test_time_limit_ends_only_its_query(void **state)
{
	struct mg_query *quick = begin("s-1", "scott", "SELECT 1", 30);
	struct mg_query *slow = begin("s-1", "scott", "SELECT 2", 60000);

	(void)state;
	for (int i = 0; i < 3000 && mg_query_stopped(quick) == 0; i++) {
		mg_sleep_ms(1);
	}
	assert_int_equal(mg_query_stopped(quick), MG_E_TIMEOUT);
	assert_int_equal(mg_query_stopped(slow), 0);
	assert_true(mg_query_elapsed_ms(quick) >= 30);
	mg_query_end(quick, NULL);
	mg_query_end(slow, NULL);
}

static void test_session_end_cancels_its_queries(void **state)
{
	struct mg_query *mine = begin("s-1", "scott", "SELECT 1", 0);
	struct mg_query *other = begin("s-11", "scott", "SELECT 2", 0);

	(void)state;
	mg_queries_cancel_session(queries, "s-1");
	assert_int_equal(mg_query_stopped(mine), MG_E_CANCELLED);
	assert_int_equal(mg_query_stopped(other), 0);
	mg_queries_cancel_session(queries, NULL);
	assert_int_equal(mg_query_stopped(other), MG_E_CANCELLED);
	mg_query_end(mine, NULL);
	mg_query_end(other, NULL);
}

/* Nobody that waits is ended, and nobody twice; of those of one age the newest is the first. */
static void test_short_memory_ends_what_runs(void **state)
{
	struct mg_error err = { 0 };
	struct mg_query *old = begin("s-1", "scott", "SELECT 1", 0);
	struct mg_query *waits = begin("s-1", "scott", "SELECT 2", 0);

	(void)state;
	mg_query_running(old);
	while (mg_query_elapsed_ms(old) < 300) {
		mg_sleep_ms(1); /* so that it may have taken the memory */
	}
	struct mg_query *late = begin("s-2", "scott", "SELECT 3", 0);

	mg_query_running(late);
	bool late_is_young = mg_query_elapsed_ms(late) < 200;

	assert_int_equal(mg_queries_shed(queries, 1), 1);
	if (late_is_young) { /* else this machine stood still, and it was the late one's turn */
		assert_int_equal(mg_query_stopped(old), MG_E_NOMEM);
		assert_int_equal(mg_query_stopped(late), 0);
	}
	assert_int_equal(mg_queries_shed(queries, 10), 1);
	assert_int_equal(mg_queries_shed(queries, 10), 0);
	assert_int_equal(mg_query_stopped(old), MG_E_NOMEM);
	assert_int_equal(mg_query_stopped(late), MG_E_NOMEM);
	assert_int_equal(mg_query_stopped(waits), 0);
	assert_int_equal(atomic_load(&stops), 2);
	mg_error_set(&err, MG_E_NOMEM, "no memory");
	mg_query_end(old, &err);
	mg_query_end(late, &err);
	mg_query_end(waits, NULL);
}

static void test_running_and_past_ones_are_shown(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_query_info *infos;
	struct mg_error failure = { 0 };
	struct mg_query *one = begin("s-1", "scott", "SELECT 1", 0);
	struct mg_query *two = begin("s-2", "smith", "SELECT 2", 0);

	(void)state;
	mg_query_running(two);
	assert_int_equal(mg_queries_running(queries, arena, &infos), 2);
	assert_string_equal(infos[0].sql, "SELECT 1");
	assert_int_equal(infos[0].state, MG_QUERY_QUEUED);
	assert_string_equal(infos[1].user, "smith");
	assert_int_equal(infos[1].state, MG_QUERY_RUNNING);
	mg_query_end(one, NULL);
	mg_error_set(&failure, MG_E_NO_TABLE, "no such table");
	mg_query_end(two, &failure);
	assert_int_equal(mg_queries_running(queries, arena, &infos), 0);
	assert_int_equal(mg_queries_history(queries, arena, &infos), 2);
	assert_int_equal(infos[0].state, MG_QUERY_DONE);
	assert_int_equal(infos[1].state, MG_QUERY_FAILED);
	assert_string_equal(infos[1].sqlstate, "42P01");
	assert_string_equal(infos[1].error, "no such table");
	mg_arena_free(arena);
}

static void test_history_is_a_ring(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_query_info *infos;
	char sql[32];

	(void)state;
	for (int i = 0; i < MG_HISTORY_MAX + 25; i++) {
		(void)snprintf(sql, sizeof sql, "SELECT %d", i);
		mg_query_end(begin("s-1", "scott", sql, 0), NULL);
	}
	assert_int_equal(mg_queries_history(queries, arena, &infos), MG_HISTORY_MAX);
	assert_string_equal(infos[0].sql, "SELECT 25");
	assert_string_equal(infos[MG_HISTORY_MAX - 1].sql, "SELECT 1024");
	mg_arena_free(arena);
}

static void test_long_texts_are_cut_between_characters(void **state)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_query_info *infos;
	struct mg_sb sql = { 0 };

	(void)state;
	mg_sb_add(&sql, "x");
	for (int i = 0; i < 3000; i++) {
		mg_sb_add(&sql, "é");
	}
	mg_query_end(begin("s-1", "scott", mg_sb_text(&sql), 0), NULL);
	assert_int_equal(mg_queries_history(queries, arena, &infos), 1);
	assert_int_equal(strlen(infos[0].sql), MG_QUERY_TEXT_MAX - 1);
	assert_true(mg_utf8_valid(infos[0].sql, strlen(infos[0].sql)));
	mg_sb_fini(&sql);
	mg_arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cancel_by_id_and_by_whom, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time_limit_ends_only_its_query, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short_memory_ends_what_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_session_end_cancels_its_queries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_running_and_past_ones_are_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_history_is_a_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_texts_are_cut_between_characters, setup,
		                                teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
