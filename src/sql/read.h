/*
 * read.h - what the two halves of the plan reader share: plan_read.c (operators),
 * plan_leaf.c (scans) and expr_read.c (types and expressions).
 *
 * Every function returns NULL after it has set the reader's error: MG_E_UNSUPPORTED with
 * the reason: plan JSON is DuckDB's own format, so what we do not know exactly we do not run.
 */
#ifndef MG_SQL_READ_H
#define MG_SQL_READ_H

#include "sql/ir.h"

/* A CTE or the outer rows of a correlated subquery, seen from its references. */
struct mg_read_name {
	uint64_t index; /* DuckDB's table index; unused on the delim stack */
	const char *name;
	const struct mg_type **types;
	size_t column_count;
	double rows;
};

struct mg_reader {
	struct mg_arena *arena;
	struct mg_error *err;
	struct mg_read_name *ctes; /* heap */
	size_t cte_count, cte_cap;
	struct mg_read_name *delims; /* heap; the innermost is last */
	size_t delim_count, delim_cap;
	unsigned names;   /* given so far */
	unsigned lambdas; /* how many lambda bodies we are in */
	uint64_t table;   /* of the input, for references that name it; UINT64_MAX: none */
};

#define mg_read_refuse(reader, ...) mg_error_set((reader)->err, MG_E_UNSUPPORTED, __VA_ARGS__)
#define mg_read_null(reader, ...) (mg_read_refuse(reader, __VA_ARGS__) ? NULL : NULL)

/* A number member that may be as large as 2^64-1. */
uint64_t mg_read_u64(const struct mg_json *object, const char *key, uint64_t fallback);

const struct mg_type *mg_read_type(struct mg_reader *reader, const struct mg_json *json);
/* Array of types; *count is set.  An empty array gives a non-NULL pointer too. */
const struct mg_type **mg_read_types(struct mg_reader *reader, const struct mg_json *array,
                                     size_t *count);
struct mg_expr *mg_read_expr(struct mg_reader *reader, const struct mg_json *json);
struct mg_expr **mg_read_exprs(struct mg_reader *reader, const struct mg_json *array,
                               size_t *count);
/* Array of {type, null_order, expression}. */
struct mg_order *mg_read_orders(struct mg_reader *reader, const struct mg_json *array,
                                size_t *count);

/* plan_keys.c: the text of kv(), into a leaf that has its columns. */
int mg_read_keys(struct mg_reader *reader, const struct mg_json *json, struct mg_node *node);

/* ---- operators ---- */

/* Does expr refer only to the first `limit` columns?  0 or an error. */
int mg_read_check(struct mg_reader *reader, const struct mg_expr *expr, size_t limit);
int mg_read_check_all(struct mg_reader *reader, struct mg_expr *const *exprs, size_t count,
                      size_t limit);
/* The child at index, with its estimate from the parallel tree. */
struct mg_node *mg_read_kid(struct mg_reader *reader, const struct mg_json *json,
                            const struct mg_json *explain, size_t index);
/* Node of one child with the child's columns and `more` after them. */
struct mg_node *mg_read_over(struct mg_reader *reader, enum mg_op op, struct mg_node *child,
                             size_t more);
/* Positions of a JSON array of numbers; what is no number becomes SIZE_MAX. */
size_t *mg_read_map(struct mg_reader *reader, const struct mg_json *array, size_t *count);
/* Keep the columns of a map of positions, in its order (pick_json: no map keeps all). */
struct mg_node *mg_read_pick(struct mg_reader *reader, struct mg_node *child, const size_t *map,
                             size_t count);
struct mg_node *mg_read_pick_json(struct mg_reader *reader, struct mg_node *child,
                                  const struct mg_json *array);

/* ---- leaves (plan_leaf.c) ---- */
struct mg_node *mg_read_get(struct mg_reader *reader, const struct mg_json *json,
                            const struct mg_json *explain);
struct mg_node *mg_read_empty(struct mg_reader *reader, const struct mg_json *json);
struct mg_node *mg_read_values(struct mg_reader *reader, const struct mg_json *json);

#endif
