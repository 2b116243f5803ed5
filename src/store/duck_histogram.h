/*
 * duck_histogram.h - the state that mg_histogram, mg_histogram2d and their sums share: counts for
 * bins of one or two axes, or, while no range is known, the values themselves.
 *
 * A state is one pointer (NULL: no row yet), so DuckDB may move it.  Its memory is counted: DuckDB
 * does not see it, and its size comes from outside.
 *
 * Thread: DuckDB's; a histogram belongs to one at a time.
 */
#ifndef MG_STORE_DUCK_HISTOGRAM_H
#define MG_STORE_DUCK_HISTOGRAM_H

#include "store/bins.h"
#include "store/duck_int.h"

#define MG_HISTOGRAM_AXES 2
#define MG_HISTOGRAM_BINS 50               /* without bins := n */
#define MG_HISTOGRAM_BINS_MAX (1u << 24)   /* of both axes together */

/* What a call asks for. */
struct mg_histogram_spec {
	size_t axes;
	size_t bins[MG_HISTOGRAM_AXES];
	double range[MG_HISTOGRAM_AXES][2];
	bool ranged;
};

struct mg_histogram {
	struct mg_duck *duck; /* whose memory is counted */
	struct mg_histogram_spec spec;
	struct mg_bins axes[MG_HISTOGRAM_AXES]; /* edges are allocated; set when spec is ranged */
	size_t cells;                           /* bins of all axes */
	int64_t *counts;                        /* NULL until there is a range */
	double *values;                         /* without a range: of each row, axis by axis */
	size_t rows, rows_cap;
	size_t bytes; /* counted */
	/* While its answer is written; here because DuckDB may throw then, and destroys the state. */
	struct mg_histogram *settled;
};

bool mg_histogram__same(const struct mg_histogram_spec *a, const struct mg_histogram_spec *b);
extern const char mg_histogram_differs[]; /* what is wrong when they are not */

/* Each returns NULL, or what is wrong; then the histogram is as it was (a new one: NULL). */
const char *mg_histogram__new(struct mg_duck *duck, const struct mg_histogram_spec *spec,
                              struct mg_histogram **out);
/* One row: value[i] of each axis; what is not finite, or outside of the range, is left out. */
const char *mg_histogram__add(struct mg_histogram *histogram, const double *value);
const char *mg_histogram__count(int64_t *counts, const int64_t *more, size_t cells);
/* Adds the rows of source, which stays; *target may be NULL.  Both must ask for the same. */
const char *mg_histogram__combine(const struct mg_histogram *source, struct mg_histogram **target);
/* Counts of the kept values, from the least to the greatest, as a histogram of its own. */
const char *mg_histogram__settle(const struct mg_histogram *histogram, struct mg_histogram **out);
void mg_histogram__free(struct mg_histogram *histogram); /* NULL is fine */

/* STRUCT(counts BIGINT[], edges DOUBLE[]), or (counts BIGINT[][], xedges DOUBLE[], yedges
 * DOUBLE[]); the caller destroys it. */
duckdb_logical_type mg_histogram__type(size_t axes);

/* ---- the callbacks of every such aggregate; its extra info is the struct mg_duck ---- */
idx_t mg_histogram__size(duckdb_function_info info);
void mg_histogram__init(duckdb_function_info info, duckdb_aggregate_state state);
void mg_histogram__combine_all(duckdb_function_info info, duckdb_aggregate_state *source,
                               duckdb_aggregate_state *target, idx_t count);
void mg_histogram__finalize(duckdb_function_info info, duckdb_aggregate_state *source,
                            duckdb_vector result, idx_t count, idx_t offset);
void mg_histogram__destroy(duckdb_aggregate_state *states, idx_t count);
/* The histogram of a state. */
struct mg_histogram **mg_histogram__of(duckdb_aggregate_state state);

#endif
