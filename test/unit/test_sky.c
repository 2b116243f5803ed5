/* test_sky.c - the k-d tree finds what looking at every point finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/sky.h"

#include <math.h>
#include <stdlib.h>

static uint64_t seed = 1;

static double chance(void)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double)(seed >> 11) / 9007199254740992.0;
}

static void check(const struct mg_sky_point *points, size_t count, double radius)
{
	struct mg_sky_tree *tree = mg_sky_tree_new(points, count);
	struct mg_sky_found found = { 0 };
	double chord = 2 * sin(radius / 2);

	assert_non_null(tree);
	for (size_t i = 0; i < 200; i++) {
		struct mg_sky_point at = mg_sky_point(7 * chance(), 3 * chance() - 1.5);
		size_t expected = 0;

		at = i < count && i % 2 ? points[i] : at;
		assert_true(mg_sky_tree_near(tree, &at, radius, &found));
		for (size_t p = 0; p < count; p++) {
			double x = at.at[0] - points[p].at[0], y = at.at[1] - points[p].at[1],
				   z = at.at[2] - points[p].at[2];

			if (x * x + y * y + z * z <= chord * chord) {
				assert_true(expected < found.count);
				assert_int_equal(found.index[expected], p);
				expected++;
			}
		}
		assert_int_equal(found.count, expected);
	}
	mg_free(found.index);
	mg_sky_tree_free(tree);
}

static void test_finds_what_is_near(void **state)
{
	struct mg_sky_point points[1000];

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		points[i] = mg_sky_point(7 * chance(), 3 * chance() - 1.5);
	}
	for (size_t count = 0; count < 1000; count = count * 3 + 1) {
		check(points, count, 0);
		check(points, count, 0.05);
		check(points, count, 1);
	}
}

static void test_points_that_are_the_same_or_on_a_line(void **state)
{
	struct mg_sky_point points[500];

	(void)state;
	for (size_t i = 0; i < 500; i++) {
		points[i] = mg_sky_point((double)(i % 7), 0);
	}
	check(points, 500, 0);
	check(points, 500, 0.5);
	for (size_t i = 0; i < 500; i++) {
		points[i] = mg_sky_point((double)i / 100, 0);
	}
	check(points, 500, 0.02);
}

static void test_what_is_nowhere(void **state)
{
	struct mg_sky_point points[] = { mg_sky_point(1, 1), mg_sky_point(NAN, 1),
		                             mg_sky_point(1, INFINITY), mg_sky_point(2, 1) };
	struct mg_sky_point nowhere = { { NAN, 0, 0 } }, behind = mg_sky_point(1 + M_PI, -1);
	struct mg_sky_found found = { 0 };
	struct mg_sky_tree *tree = mg_sky_tree_new(points, 4);

	(void)state;
	assert_true(mg_sky_tree_near(tree, &nowhere, 4, &found));
	assert_int_equal(found.count, 0);
	assert_true(mg_sky_tree_near(tree, &behind, M_PI, &found)); /* a half circle is everywhere */
	assert_int_equal(found.count, 2);
	assert_int_equal(found.index[0], 0);
	assert_int_equal(found.index[1], 3);
	mg_free(found.index);
	mg_sky_tree_free(tree);
}

/* Orders in which a fixed place of the range is a bad choice, again and again. */
static void test_making_is_quick_in_any_order(void **state)
{
	enum { COUNT = 200000 };
	struct mg_sky_point *points = mg_alloc(COUNT * sizeof *points);

	(void)state;
	for (int order = 0; order < 5; order++) {
		for (size_t i = 0; i < COUNT; i++) {
			double at = (double)i / COUNT;
			double pipe = i < COUNT / 2 ? at : 1 - at;

			points[i] = order == 0   ? mg_sky_point(2 * M_PI * at, 0) /* a circle */
			            : order == 1 ? mg_sky_point(pipe, pipe)       /* there and back */
			            : order == 2 ? mg_sky_point(at, at)
			            : order == 3 ? mg_sky_point(1, 1) /* all the same */
			                         : mg_sky_point(M_PI * (1 - at) * 0.9, 0);
		}
		if (order == 4) { /* x grows, but the least is in the middle */
			points[COUNT / 2] = mg_sky_point(M_PI, 0);
		}
		struct mg_sky_tree *tree = mg_sky_tree_new(points, COUNT);

		assert_non_null(tree);
		/* some 3 passes for each of the 18 levels; thousands, if the middle divided */
		assert_true(mg_sky_tree_compared(tree) < (size_t)COUNT * 18 * 6);
		mg_sky_tree_free(tree);
	}
	mg_free(points);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_what_is_near),
		cmocka_unit_test(test_points_that_are_the_same_or_on_a_line),
		cmocka_unit_test(test_what_is_nowhere),
		cmocka_unit_test(test_making_is_quick_in_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
