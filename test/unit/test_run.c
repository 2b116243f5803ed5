/* test_run.c - a cancel of a running statement is never lost, whenever it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exec/run.h"
#include "exec/write_int.h"
#include "os/clock.h"
#include "store/duck.h"

#include <pthread.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conns[2];

static int open_all(void **state)
{
	(void)state;
	struct mg_duck_options options = { .threads = 1 };
	return mg_duck_open(&duck, &options, NULL) || mg_duck_connect(duck, &conns[0], NULL) ||
	       mg_duck_connect(duck, &conns[1], NULL);
}

static int close_all(void **state)
{
	(void)state;
	mg_duck_disconnect(conns[0]);
	mg_duck_disconnect(conns[1]);
	mg_duck_close(duck);
	return 0;
}

/* The engine forgets an interrupt that comes before its statement starts. */
static void test_a_cancel_before_the_statement_starts(void **state)
{
	(void)state;
	struct mg_run *run = mg_run_new();
	struct mg_duck_result *result = NULL;
	struct mg_error err;
	mg_error_clear(&err);
	assert_int_equal(mg_run_attach_conn(run, conns[0], &err), 0);
	assert_int_equal(mg_run_attach_conn(run, conns[1], &err), 0);
	mg_run_cancel(run, MG_E_CANCELLED);
	assert_int_equal(mg_duck_query(conns[1], "SELECT 1", &result, &err), MG_E_CANCELLED);
	assert_int_equal(mg_duck_exec(conns[1], "SELECT 1", &err), MG_E_CANCELLED);
	assert_null(result);
	/* The connection that it has left, and both when it is over, are as before. */
	assert_int_equal(mg_duck_exec(conns[0], "SELECT 1", &err), 0);
	assert_int_equal(mg_run_attach_conn(run, NULL, &err), 0);
	assert_int_equal(mg_duck_exec(conns[1], "SELECT 1", &err), 0);
	assert_int_equal(mg_run_attach_conn(run, conns[0], &err), MG_E_CANCELLED);
	assert_int_equal(mg_duck_exec(conns[0], "SELECT 1", &err), 0);
	mg_run_free(run);
}

static void *cancel_soon(void *arg)
{
	mg_sleep_ms(20);
	mg_run_cancel(arg, MG_E_CANCELLED);
	return NULL;
}

/* What COPY reads, on a connection of its own, ends before it has a row. */
static void test_a_cancel_while_a_source_has_no_rows(void **state)
{
	(void)state;
	struct mg_write *write = mg_alloc0(sizeof *write);
	struct mg_error err;
	pthread_t thread;
	write->run = mg_run_new();
	write->arena = mg_arena_new();
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, write->run), 0);
	assert_int_equal(mg_write__source_on(write, conns[0],
	                                     "SELECT a.range FROM range(100000) a, range(50000) b "
	                                     "WHERE a.range * b.range < 0",
	                                     NULL, &err),
	                 MG_E_CANCELLED);
	pthread_join(thread, NULL);
	assert_int_equal(mg_duck_exec(conns[0], "SELECT 1", &err), 0);
	mg_write__close(write);
	mg_run_free(write->run);
	mg_arena_free(write->arena);
	mg_free(write);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cancel_before_the_statement_starts),
		cmocka_unit_test(test_a_cancel_while_a_source_has_no_rows),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
