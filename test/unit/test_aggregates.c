/* test_aggregates.c - minmax and the histograms as aggregates of the engine: many threads and
 * groups, single states for all rows, and memory that ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/duck_int.h"

#include <stdio.h>
#include <string.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

static int open_all(void **state)
{
	struct mg_error err;
	struct mg_duck_options options = {
		.threads = 4, .memory_bytes = 64u << 20, .spill_dir = "/tmp"
	};

	(void)state;
	if (mg_duck_open(&duck, &options, &err) != 0 || mg_duck_connect(duck, &conn, &err) != 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	return 0;
}

/* Every state has been freed, also those of statements that failed. */
static int close_all(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	size_t left = atomic_load(&duck->aggregate_bytes);
	mg_duck_close(duck);
	if (left) {
		fprintf(stderr, "%zu bytes of states are left\n", left);
	}
	return left != 0;
}

static void answers(const char *sql, const char *expected)
{
	struct mg_error err;
	char *text = NULL;

	mg_error_clear(&err);
	if (mg_duck_text(conn, sql, &text, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
	assert_string_equal(text ? text : "NULL", expected);
	mg_free(text);
}

static void fails(const char *sql, const char *words)
{
	struct mg_error err;
	char *text = NULL;

	mg_error_clear(&err);
	assert_int_not_equal(mg_duck_text(conn, sql, &text, &err), 0);
	if (!strstr(err.message, words)) {
		fail_msg("%s: %s", sql, err.message);
	}
}

static void test_many_threads(void **state)
{
	(void)state;
	answers("SELECT minmax(i)::VARCHAR FROM range(1000000) t(i)", "{'min': 0.0, 'max': 999999.0}");
	answers("SELECT mg_histogram(i, 4, [0, 1000000])::VARCHAR FROM range(1000000) t(i)",
	        "{'counts': [250000, 250000, 250000, 250000], "
	        "'edges': [0.0, 250000.0, 500000.0, 750000.0, 1000000.0]}");
	answers("SELECT mg_histogram2d(i, -i, 2, [[0, 1000000], [-1000000, 0]])::VARCHAR "
	        "FROM range(1000000) t(i)",
	        "{'counts': [[0, 500000], [499999, 1]], 'xedges': [0.0, 500000.0, 1000000.0], "
	        "'yedges': [-1000000.0, -500000.0, 0.0]}");
}

static void test_many_groups(void **state)
{
	(void)state;
	answers("SELECT count(*)::VARCHAR FROM (SELECT i % 5000 g, minmax(i) m, mg_histogram(i, 2, "
	        "[0, 100000]) h, mg_histogram(i, 2) f FROM range(100000) t(i) GROUP BY g) WHERE "
	        "m.min = g AND m.max = 95000 + g AND h.counts = [10, 10] AND f.counts = [10, 10] AND "
	        "f.edges[1] = g",
	        "5000");
}

/* Where DuckDB has one state for all rows of a chunk (aggregate_shim.cpp). */
static void test_one_state_for_all_rows(void **state)
{
	(void)state;
	answers("SELECT DISTINCT (minmax(i) OVER ())::VARCHAR FROM range(10000) t(i)",
	        "{'min': 0.0, 'max': 9999.0}");
	answers("SELECT (mg_histogram(i, 2, [0, 10000])).counts::VARCHAR FROM range(10000) t(i) "
	        "GROUP BY 1 + i // 100000",
	        "[5000, 5000]");
	answers("SELECT DISTINCT (minmax(i) FILTER (i > 10) OVER ())::VARCHAR FROM range(10000) t(i)",
	        "{'min': 11.0, 'max': 9999.0}");
	answers("SELECT (mg_histogram_sum(h)).counts::VARCHAR FROM (SELECT mg_histogram(i, 1, [0, "
	        "10000]) h FROM range(10000) t(i) GROUP BY i % 3000) GROUP BY len(h.counts)",
	        "[10000]");
	answers("SELECT minmax(i)::VARCHAR FROM range(10000) t(i) GROUP BY 1 + i // 100000",
	        "{'min': 0.0, 'max': 9999.0}");
}

/* A state that has answered goes on to take rows.  (The histograms as window functions are for the
 * engine alone: the wall refuses them.) */
static void test_running(void **state)
{
	(void)state;
	answers("SELECT string_agg(h.counts::VARCHAR || h.edges::VARCHAR, ' ' ORDER BY i) FROM (SELECT "
	        "i, mg_histogram(i, 2) OVER (ROWS UNBOUNDED PRECEDING) h FROM range(1, 4) t(i))",
	        "[0, 1][0.5, 1.0, 1.5] [1, 1][1.0, 1.5, 2.0] [1, 2][1.0, 2.0, 3.0]");
	answers("SELECT count(*)::VARCHAR FROM (SELECT i, minmax(i) OVER (ORDER BY i ROWS BETWEEN 9 "
	        "PRECEDING AND CURRENT ROW) m FROM range(5000) t(i)) "
	        "WHERE m.min = greatest(i - 9, 0) AND m.max = i",
	        "5000");
}

static void test_identities(void **state)
{
	(void)state;
	answers("SELECT minmax(NULL::DOUBLE)::VARCHAR", "{'min': nan, 'max': nan}");
	answers("SELECT minmax(x)::VARCHAR FROM (VALUES ('inf'::DOUBLE), ('nan'), (NULL), (-0.0)) t(x)",
	        "{'min': 0.0, 'max': 0.0}");
	answers("SELECT mg_histogram(i)::VARCHAR FROM range(0) t(i)", "NULL");
	answers("SELECT mg_histogram(NULL::DOUBLE, 1)::VARCHAR",
	        "{'counts': [0], 'edges': [0.0, 1.0]}");
}

/* 16 MB are for states here, a quarter of the memory. */
static void test_memory_ends(void **state)
{
	(void)state;
	fails("SELECT mg_histogram(i) FROM range(10000000) t(i)", "too much memory for a histogram");
	fails("SELECT mg_histogram2d(i, i, 3000, [[0, 1], [0, 1]]) FROM range(10) t(i)",
	      "too much memory for a histogram");
	fails("SELECT i, mg_histogram(i, 1000, [0, 1]) FROM range(100000) t(i) GROUP BY i",
	      "too much memory for a histogram");
	fails("SELECT i, mg_histogram(i, 10000) FROM range(1000) t(i) GROUP BY i",
	      "too much memory for a histogram");
	fails("SELECT mg_histogram(i, 10, [0, i]) FROM range(100000) t(i)", "must be the same");
	assert_int_equal(atomic_load(&duck->aggregate_bytes), 0);
	answers("SELECT (mg_histogram(i, 3)).counts::VARCHAR FROM range(300000) t(i)",
	        "[100000, 100000, 100000]");
	assert_int_equal(atomic_load(&duck->aggregate_bytes), 0);
}

/* Here 2 Mi numbers, as the memory is small. */
static void test_found_targets_end(void **state)
{
	(void)state;
	answers("SELECT sum(len(crossmatch([i, 0], (SELECT list([j, 0.5]) FROM range(1000) u(j)), 4)))"
	        "::VARCHAR FROM range(4096) t(i)",
	        "4096000");
	fails("SELECT sum(len(crossmatch([i, 0], (SELECT list([j, 0.5]) FROM range(1100) u(j)), 4))) "
	      "FROM range(4096) t(i)",
	      "crossmatch finds too many targets");
}

/* What follows a NULL in a list that is the same for all rows is nowhere in memory. */
static void test_nulls_in_constant_lists(void **state)
{
	(void)state;
	fails("SELECT mg_histogram(i, 3, [NULL, 1]) FROM range(10000) t(i)", "must be finite");
	fails("SELECT mg_histogram(i, 3, [NULL, NULL]) FROM range(10000) t(i)", "must be finite");
	answers("SELECT sum(len(crossmatch([NULL, NULL, NULL], [[i, 0, 0]], 4)))::VARCHAR "
	        "FROM range(10000) t(i)",
	        "0");
	answers("SELECT sum(len(crossmatch([1, i], [[NULL, NULL], [NULL, 0], [0, 0]], 4)))::VARCHAR "
	        "FROM range(10000) t(i)",
	        "10000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_many_groups),
		cmocka_unit_test(test_one_state_for_all_rows),
		cmocka_unit_test(test_running),
		cmocka_unit_test(test_identities),
		cmocka_unit_test(test_memory_ends),
		cmocka_unit_test(test_found_targets_end),
		cmocka_unit_test(test_nulls_in_constant_lists),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
