/*
 * test_metrics.c - series are found again, counted from many threads, and printed as Prometheus
 * reads them.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"

enum { THREADS = 8, ADDS = 20000 };

static void *add_many(void *arg)
{
	for (int i = 0; i < ADDS; i++) {
		mg_metric_add(mg_metric_counter("test_adds_total", "kind=\"a\"", "Adds."), 1);
	}
	return arg;
}

static void test_adds_from_threads_are_all_counted(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(mg_metric_value(mg_metric_counter("test_adds_total", "kind=\"a\"", "")),
	                 THREADS * ADDS);
	assert_int_equal(mg_metric_value(mg_metric_counter("test_adds_total", "kind=\"b\"", "")), 0);
}

static void test_print_groups_series_by_name(void **state)
{
	struct mg_sb text = { 0 };

	(void)state;
	mg_metric_add(mg_metric_counter("test_zz_total", "x=\"1\"", "Help."), 3);
	mg_metric_set(mg_metric_gauge("test_gauge", "", "A gauge."), -7);
	mg_metric_add(mg_metric_counter("test_zz_total", "x=\"0\"", "Help."), 2);
	mg_metrics_print(&text);
	assert_non_null(strstr(mg_sb_text(&text),
	                       "# HELP test_zz_total Help.\n# TYPE test_zz_total counter\n"
	                       "test_zz_total{x=\"0\"} 2\ntest_zz_total{x=\"1\"} 3\n"));
	assert_non_null(strstr(mg_sb_text(&text), "# TYPE test_gauge gauge\ntest_gauge -7\n"));
	mg_sb_fini(&text);
}

static void test_histogram_is_cumulative(void **state)
{
	struct mg_metric *metric = mg_metric_histogram("test_seconds", "", "Times.");
	struct mg_sb text = { 0 };

	(void)state;
	mg_metric_observe(metric, 0.0001);
	mg_metric_observe(metric, 0.15);
	mg_metric_observe(metric, 1000);
	mg_metrics_print(&text);
	assert_non_null(strstr(mg_sb_text(&text), "test_seconds_bucket{le=\"0.0005\"} 1\n"));
	assert_non_null(strstr(mg_sb_text(&text), "test_seconds_bucket{le=\"0.1\"} 1\n"));
	assert_non_null(strstr(mg_sb_text(&text), "test_seconds_bucket{le=\"0.2\"} 2\n"));
	assert_non_null(strstr(mg_sb_text(&text),
	                       "test_seconds_bucket{le=\"+Inf\"} 3\n"
	                       "test_seconds_sum 1000.150100\ntest_seconds_count 3\n"));
	mg_sb_fini(&text);
}

static void test_too_many_series_are_one(void **state)
{
	struct mg_metric *metric = NULL;
	char labels[32];

	(void)state;
	for (int i = 0; i < MG_METRIC_MAX + 10; i++) {
		(void)snprintf(labels, sizeof labels, "n=\"%d\"", i);
		metric = mg_metric_counter("test_many_total", labels, "Many.");
	}
	assert_ptr_equal(metric, mg_metric_counter("test_other_total", "", "Other."));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_adds_from_threads_are_all_counted),
		cmocka_unit_test(test_print_groups_series_by_name),
		cmocka_unit_test(test_histogram_is_cumulative),
		cmocka_unit_test(test_too_many_series_are_one), /* last: it fills the registry */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
