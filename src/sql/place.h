/*
 * place.h - what the files that place operators share: distribute.c, joins.c, agg.c, agg_rules.c,
 * cut.c and locate.c.  Nobody else includes it.
 *
 * Placing walks the tree bottom-up.  A placed node knows where its rows are (node->dist) and holds
 * no exchange: whatever has to move becomes a finished stage at once, and an MG_OP_READ stands for
 * its rows.  So a decision that needs a size can run a subtree, count it and go on with what it
 * made.
 *
 * Functions that return a node return NULL when they fail; place->err says why.
 */
#ifndef MG_SQL_PLACE_H
#define MG_SQL_PLACE_H

#include "sql/plan.h"

#define MG_PLACE_GROUPS_GATHERED 50000 /* partial rows that may all go to the coordinator */
#define MG_PLACE_GROUPS_SURE 2000      /* estimated groups for which nobody counts */
#define MG_PLACE_TINY_BYTES (1024.0 * 1024.0)

/* A common table expression in scope: its rows, or its definition where that is cheap to repeat. */
struct mg_place_cte {
	const char *name;
	struct mg_node *node; /* placed READ, or unplaced definition when `inlined` */
	bool inlined;
	struct mg_place_cte *next;
};

struct mg_place {
	struct mg_plan_env *env;
	struct mg_arena *arena;
	struct mg_error *err;
	double nodes; /* participants */
	struct mg_place_cte *ctes;
	struct mg_count *counts; /* parallel to env->stages; rows UINT64_MAX: not run */
	size_t count_cap;
	size_t depth;
};

/* ---- locate.c: the location algebra; pure ---- */

struct mg_dist mg_dist_of(enum mg_dist_kind kind);
/* PART by the given key expressions over the node's own columns: position i is known by the column
 * that expression i plainly is; any other expression makes the whole key unknown. */
struct mg_dist mg_dist_keyed(struct mg_arena *arena, struct mg_expr *const *keys, size_t count);
/* Each column c of every key becomes the columns to[c]; columns >= count vanish. */
struct mg_dist mg_dist_map(struct mg_arena *arena, const struct mg_dist *dist,
                           const struct mg_cols *to, size_t count);
struct mg_dist mg_dist_shift(struct mg_arena *arena, const struct mg_dist *dist, size_t by);
/* Rows that agree on all of cols are on one participant. */
bool mg_dist_within(const struct mg_dist *dist, const struct mg_cols *cols);
/* Location of rows that lie in one of several PART inputs with the same columns. */
struct mg_dist mg_dist_union(struct mg_arena *arena, const struct mg_dist *const *dists,
                             size_t count);
/* Rows of the inputs that are equal in all columns are on one participant (all PART). */
bool mg_dist_aligned(struct mg_arena *arena, const struct mg_dist *const *dists, size_t count);
/* Both sides are PART and equal join keys share a participant. */
bool mg_dist_colocated(const struct mg_dist *left, const struct mg_dist *right,
                       const struct mg_cond *conds, size_t count);
/* Location of a join that every participant runs over what it holds.  False: such a join would be
 * wrong for these inputs.  colocated: see above (ignored unless both are PART). */
bool mg_dist_join(struct mg_arena *arena, enum mg_join_kind kind, bool asof,
                  const struct mg_dist *left, size_t left_columns, const struct mg_dist *right,
                  const struct mg_cond *conds, size_t cond_count, bool colocated,
                  struct mg_dist *out);
/* Both comparisons that hold only for rows with equal slots. */
bool mg_cond_is_equality(const struct mg_cond *cond);
bool mg_type_same_slot(const struct mg_type *a, const struct mg_type *b);

/* ---- distribute.c ---- */

struct mg_node *mg_place_node(struct mg_place *place, struct mg_node *node);
/* Fail with MG_E_UNSUPPORTED; NULL. */
struct mg_node *mg_place_refuse(struct mg_place *place, const char *reason);
/* The operator itself draws random numbers or the like. */
bool mg_place_volatile(const struct mg_node *node);

/* ---- sizes.c ---- */

/* Estimate of a copy that was just made (its `rows` are DuckDB's over the samples), given the
 * placed inputs of the operator. */
void mg_place_size(struct mg_place *place, struct mg_node *node, struct mg_node *const *kids,
                   size_t count);
double mg_place_rows(struct mg_place *place,
                     const struct mg_node *node); /* best guess, at least 0 */
double mg_place_bytes(struct mg_place *place, const struct mg_node *node);
bool mg_place_known(struct mg_place *place, const struct mg_node *node); /* the guess is a count */
void mg_place_note(struct mg_place *place, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- joins.c, agg.c, setops.c, ctes.c ---- */

struct mg_node *mg_place_union(struct mg_place *place, struct mg_node *node);
struct mg_node *mg_place_setop(struct mg_place *place, struct mg_node *node);
struct mg_node *mg_place_with(struct mg_place *place, struct mg_node *node);
struct mg_node *mg_place_ref(struct mg_place *place, struct mg_node *node);
struct mg_node *mg_place_recursive(struct mg_place *place, struct mg_node *node);
struct mg_node *mg_place_join(struct mg_place *place, struct mg_node *node);
/* ---- regroup.c: a semi or anti join, unplaced, further down where it is local; else itself ----
 */
struct mg_node *mg_place_regroup(struct mg_place *place, struct mg_node *join);
struct mg_node *mg_place_agg(struct mg_place *place, struct mg_node *node);

/* ---- agg_rules.c ---- */

/* How one aggregate is computed in two steps. */
struct mg_agg_split {
	struct mg_expr
		*pieces[6]; /* over the aggregate's input; RAW with `merge`, NULL when not mergeable */
	size_t piece_count;
	const char *final; /* template: {0}, {1}, ... are the columns of the pieces */
};
/* False: holistic, all rows of a group must meet. */
bool mg_agg_decompose(struct mg_arena *arena, const struct mg_expr *agg, struct mg_agg_split *out);
/* Same answer on every replica, whatever the order of the rows. */
bool mg_agg_stable(const struct mg_expr *agg);
/* DISTINCT makes no difference. */
bool mg_agg_ignores_distinct(const struct mg_expr *agg);

/* ---- cut.c ---- */

/* Run node (as a stage) with its rows shipped; the result reads them. */
struct mg_node *mg_place_ship(struct mg_place *place, struct mg_node *node, enum mg_ship ship,
                              struct mg_expr *const *keys, size_t key_count, const char *label);
struct mg_node *mg_place_gather(struct mg_place *place, struct mg_node *node, const char *label);
struct mg_node *mg_place_broadcast(struct mg_place *place, struct mg_node *node, const char *label);
struct mg_node *mg_place_rehash(struct mg_place *place, struct mg_node *node,
                                struct mg_expr *const *keys, size_t key_count, const char *label);
/* Replicated or single rows as one part of a partitioned set, by keys when key_count > 0. */
struct mg_node *mg_place_spread(struct mg_place *place, struct mg_node *node,
                                struct mg_expr *const *keys, size_t key_count);
/* Rows stay; afterwards they are counted when the environment can run stages. */
struct mg_node *mg_place_keep(struct mg_place *place, struct mg_node *node, const char *label);
int mg_place_result(struct mg_place *place, struct mg_node *node, struct mg_stage **out);

#endif
