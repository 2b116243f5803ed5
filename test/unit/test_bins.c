/* test_bins.c - numpy's edges and bins: vectors that numpy 2.4 made, and what is no range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/bins.h"

#include <math.h>
#include <string.h>

enum { BINS = 40 };

static double room[BINS + 1];

static struct mg_bins make(size_t count, double low, double high)
{
	struct mg_bins bins = { .count = count, .edges = room };

	assert_true(count <= BINS);
	assert_null(mg_bins_set(&bins, low, high));
	return bins;
}

static void same(const struct mg_bins *bins, const double *edges)
{
	assert_memory_equal(bins->edges, edges, (bins->count + 1) * sizeof *edges);
}

static void test_edges_are_linspace(void **state)
{
	(void)state;
	struct mg_bins bins = make(3, 0, 1);
	same(&bins, (double[]){ 0, 0x1.5555555555555p-2, 0x1.5555555555555p-1, 1 });
	bins = make(7, 0.1, 0.7);
	same(&bins, (double[]){ 0x1.999999999999ap-4, 0x1.7c57c57c57c58p-3, 0x1.15f15f15f15f2p-2,
	                        0x1.6db6db6db6db6p-2, 0x1.c57c57c57c57cp-2, 0x1.0ea0ea0ea0ea1p-1,
	                        0x1.3a83a83a83a83p-1, 0x1.6666666666666p-1 });
	bins = make(2, 5, 5); /* half to each side */
	same(&bins, (double[]){ 4.5, 5, 5.5 });
	bins = make(2, -0.0, 1);
	assert_false(signbit(bins.edges[0]));
}

/* A step that is no number: numpy divides first. */
static void test_edges_of_the_smallest_numbers(void **state)
{
	(void)state;
	struct mg_bins bins = { .count = 3, .edges = room };

	assert_non_null(mg_bins_set(&bins, 0, 5e-324)); /* two edges would be the same */
	bins = make(2, 0, 1e-323);
	same(&bins, (double[]){ 0, 5e-324, 1e-323 });
}

static void test_what_is_no_range(void **state)
{
	(void)state;
	const double wrong[][2] = {
		{ 1, 0 },         { NAN, 1 },       { 0, NAN },          { NAN, NAN }, { -INFINITY, 0 },
		{ 0, INFINITY },  { -1e308, 1e308 }, { 1e17, 1e17 + 16 }, { 1e300, 1e300 },
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct mg_bins bins = { .count = 10, .edges = room };

		assert_non_null(mg_bins_set(&bins, wrong[i][0], wrong[i][1]));
	}
}

static void test_a_value_lies_between_its_edges(void **state)
{
	(void)state;
	struct mg_bins bins = make(10, 0, 1);
	size_t at = 0;

	for (size_t i = 0; i <= 10; i++) {
		size_t expected = i < 10 ? i : 9; /* the last bin has its upper edge */

		assert_true(mg_bins_find(&bins, bins.edges[i], &at));
		assert_int_equal(at, expected);
		assert_true(mg_bins_search(&bins, bins.edges[i], &at));
		assert_int_equal(at, expected);
		if (i > 0) {
			assert_true(mg_bins_find(&bins, nextafter(bins.edges[i], 0), &at));
			assert_int_equal(at, i - 1);
		}
	}
	const double outside[] = { -5e-324, nextafter(1, 2), NAN, INFINITY, -INFINITY };

	for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
		assert_false(mg_bins_find(&bins, outside[i], &at));
		assert_false(mg_bins_search(&bins, outside[i], &at));
	}
	assert_true(mg_bins_find(&bins, -0.0, &at));
	assert_int_equal(at, 0);
}

/* 100 of the smallest numbers in 40 bins: a step of 2.5 is rounded to 2, and the guess is far off.
 * numpy.histogram moves it by one bin at most, numpy.histogram2d looks at the edges. */
static void test_where_numpys_two_ways_differ(void **state)
{
	(void)state;
	const double least = 5e-324;
	struct mg_bins bins = make(40, 0, 100 * least);
	size_t at = 0;

	assert_true(bins.edges[39] == 78 * least);
	assert_true(mg_bins_find(&bins, 79 * least, &at));
	assert_int_equal(at, 32);
	assert_true(mg_bins_search(&bins, 79 * least, &at));
	assert_int_equal(at, 39);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges_are_linspace),
		cmocka_unit_test(test_edges_of_the_smallest_numbers),
		cmocka_unit_test(test_what_is_no_range),
		cmocka_unit_test(test_a_value_lies_between_its_edges),
		cmocka_unit_test(test_where_numpys_two_ways_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
