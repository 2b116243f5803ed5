/*
 * sky.c - see sky.h.
 *
 * The tree is the array itself: the middle of a range divides it, along x, y and z in turn, so that
 * what is before it is not greater there, and what is behind it not less.  Its depth is the
 * logarithm of its size, whatever the points are.
 */
#include "store/sky.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct node {
	double at[3];
	int64_t index;
};

struct mg_sky_tree {
	size_t count;
	uint64_t chance; /* chooses what divides, always from the same seed */
	size_t compared;
	struct node nodes[];
};

struct mg_sky_point mg_sky_point(double ra, double dec)
{
	return (struct mg_sky_point){ { cos(dec) * cos(ra), cos(dec) * sin(ra), sin(dec) } };
}

/* ---- making ---- */

static void swap(struct node *a, struct node *b)
{
	struct node c = *a;

	*a = *b;
	*b = c;
}

static size_t below(struct mg_sky_tree *tree, size_t end)
{
	tree->chance = tree->chance * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (size_t)(tree->chance >> 32) % end;
}

/* Hoare's selection: what would stand at middle if all were in order, stands there; what is not
 * greater is before it, what is not less behind it.  What divides comes from anywhere: a place that
 * is always the same is the worst for some order of the points, as along a circle. */
static void divide(struct mg_sky_tree *tree, struct node *nodes, size_t count, size_t middle,
                   size_t axis)
{
	ptrdiff_t low = 0, high = (ptrdiff_t)count - 1, wanted = (ptrdiff_t)middle;

	while (low < high) {
		size_t range = (size_t)(high - low) + 1;
		double pivot = nodes[low + (ptrdiff_t)below(tree, range)].at[axis];
		ptrdiff_t i = low, j = high;

		tree->compared += range;
		while (i <= j) {
			while (nodes[i].at[axis] < pivot) {
				i++;
			}
			while (pivot < nodes[j].at[axis]) {
				j--;
			}
			if (i <= j) {
				swap(&nodes[i++], &nodes[j--]);
			}
		}
		low = j < wanted ? i : low;
		high = wanted < i ? j : high;
	}
}

static void build(struct mg_sky_tree *tree, struct node *nodes, size_t count, size_t axis)
{
	while (count > 1) {
		size_t middle = count / 2;

		divide(tree, nodes, count, middle, axis);
		axis = (axis + 1) % 3;
		build(tree, nodes, middle, axis); /* the other half is the loop's */
		nodes += middle + 1;
		count -= middle + 1;
	}
}

struct mg_sky_tree *mg_sky_tree_new(const struct mg_sky_point *points, size_t count)
{
	struct mg_sky_tree *tree = mg_try_alloc(sizeof *tree + count * sizeof *tree->nodes);

	if (!tree) {
		return NULL;
	}
	*tree = (struct mg_sky_tree){ .chance = 1 };
	for (size_t i = 0; i < count; i++) {
		const double *at = points[i].at;

		if (isfinite(at[0]) && isfinite(at[1]) && isfinite(at[2])) {
			tree->nodes[tree->count++] =
				(struct node){ { at[0], at[1], at[2] }, (int64_t)i };
		}
	}
	build(tree, tree->nodes, tree->count, 0);
	return tree;
}

size_t mg_sky_tree_compared(const struct mg_sky_tree *tree)
{
	return tree->compared;
}

void mg_sky_tree_free(struct mg_sky_tree *tree)
{
	mg_free(tree);
}

/* ---- asking ---- */

struct search {
	const double *at;
	double chord2;
	struct mg_sky_found *found;
	bool full;
};

static void keep(struct search *search, int64_t index)
{
	struct mg_sky_found *found = search->found;

	if (found->count == found->cap) {
		size_t cap = found->cap ? found->cap * 2 : 16;
		int64_t *more = mg_try_alloc(cap * sizeof *more);

		if (!more) {
			search->full = true;
			return;
		}
		if (found->count) {
			memcpy(more, found->index, found->count * sizeof *more);
		}
		mg_free(found->index);
		found->index = more;
		found->cap = cap;
	}
	found->index[found->count++] = index;
}

static double square(double x)
{
	return x * x;
}

/* A half is left out only when the distance along one axis alone is too large: that is what the
 * whole distance would have said, rounded or not. */
static void look(struct search *search, const struct node *nodes, size_t count, size_t axis)
{
	while (count > 0 && !search->full) {
		size_t middle = count / 2;
		const struct node *node = &nodes[middle];
		const double *at = search->at;
		double along = at[axis] - node->at[axis];
		bool far = square(along) > search->chord2;

		if (square(at[0] - node->at[0]) + square(at[1] - node->at[1]) +
		        square(at[2] - node->at[2]) <=
		    search->chord2) {
			keep(search, node->index);
		}
		axis = (axis + 1) % 3;
		if (!far || along < 0) {
			look(search, nodes, middle, axis);
		}
		if (far && along < 0) {
			return;
		}
		nodes += middle + 1;
		count -= middle + 1;
	}
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

bool mg_sky_tree_near(const struct mg_sky_tree *tree, const struct mg_sky_point *point,
                      double radius, struct mg_sky_found *found)
{
	struct search search = { .at = point->at,
		                     .chord2 = radius < M_PI ? square(2 * sin(radius / 2)) : INFINITY,
		                     .found = found };

	found->count = 0;
	if (!isfinite(point->at[0]) || !isfinite(point->at[1]) || !isfinite(point->at[2])) {
		return true;
	}
	look(&search, tree->nodes, tree->count, 0);
	if (found->count > 1) {
		qsort(found->index, found->count, sizeof *found->index, compare);
	}
	return !search.full;
}
