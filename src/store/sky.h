/*
 * sky.h - points on the sphere, and which of many lie near one: a k-d tree over unit vectors.
 *
 * Thread: making belongs to one; a tree that is made may be read by any number.
 */
#ifndef MG_STORE_SKY_H
#define MG_STORE_SKY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mg_sky_point {
	double at[3];
};

/* The unit vector of right ascension and declination, in radian. */
struct mg_sky_point mg_sky_point(double ra, double dec);

struct mg_sky_tree;

/* Of the points, which are copied; those with a coordinate that is not finite are never near
 * anything.  NULL: out of memory. */
struct mg_sky_tree *mg_sky_tree_new(const struct mg_sky_point *points, size_t count);
void mg_sky_tree_free(struct mg_sky_tree *tree); /* NULL is fine */
/* How many points making it looked at, each as often as it did: for tests. */
size_t mg_sky_tree_compared(const struct mg_sky_tree *tree);

/* Where the indices go, from the least to the greatest.  Owner of index: the caller, mg_free. */
struct mg_sky_found {
	int64_t *index;
	size_t count, cap;
};

/* The points at most radius (radian, from 0 on; a half circle is all) from one, measured as the
 * chord: 2 sin(radius / 2). found->count is set anew. False: out of memory. */
bool mg_sky_tree_near(const struct mg_sky_tree *tree, const struct mg_sky_point *point,
                      double radius, struct mg_sky_found *found);

#endif
