/*
 * bins.h - bins of equal width, as numpy makes and fills them: numpy.histogram's edges, bit by bit,
 * and its choice of the bin for values at or near an edge.
 *
 * Pure; any thread.
 */
#ifndef MG_STORE_BINS_H
#define MG_STORE_BINS_H

#include <stdbool.h>
#include <stddef.h>

/* Owner of edges: the caller. */
struct mg_bins {
	size_t count;     /* of bins, at least 1 */
	double low, high; /* the first and the last edge */
	double *edges;    /* count + 1 of them */
};

/* Fills low, high and edges; count and the room for edges are the caller's.  Both ends the same:
 * half to each side, as numpy.  Returns NULL, or what is wrong with the range. */
const char *mg_bins_set(struct mg_bins *bins, double low, double high);

/* The bin of value as numpy.histogram finds it: below its upper edge, but the last bin has it.
 * False: value is outside, or NaN. */
bool mg_bins_find(const struct mg_bins *bins, double value, size_t *bin);

/* The bin of value as numpy.histogram2d finds it, which looks at the edges alone.  They differ only
 * where edges are so close that mg_bins_find's guess is off by more than one bin. */
bool mg_bins_search(const struct mg_bins *bins, double value, size_t *bin);

#endif
