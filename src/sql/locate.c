/*
 * locate.c - the location algebra: where the rows of an operator are, given where its inputs are.
 *
 * SINGLE  on the coordinator only
 * REPL    every participant holds all rows (reference tables, constants, broadcasts)
 * PART    every row is on exactly one participant; with keys, on the owner of the slot of the keys.
 *         Each key is a set of columns that all hold the hashed value.
 *
 * Rules that are easy to get wrong stand here alone, so that one test can check every case:
 * REPL joined with REPL is REPL (a broadcast counts as REPL); an outer join makes the keys of its
 * nullable side meaningless; equal columns stand for each other only after an INNER join; a join
 * that keeps rows of its replicated side must not run against a partitioned one.
 *
 * Pure: everything made lies in the caller's arena.
 */
#include "sql/place.h"

#include <string.h>

struct mg_dist mg_dist_of(enum mg_dist_kind kind)
{
	return (struct mg_dist){ .kind = kind };
}

/* A key of which no column is left is unknown, and with it the whole partitioning. */
static struct mg_dist normalized(struct mg_dist dist)
{
	for (size_t i = 0; i < dist.key_count; i++) {
		if (dist.kind != MG_DIST_PART || mg_cols_empty(&dist.keys[i])) {
			dist.keys = NULL;
			dist.key_count = 0;
		}
	}
	return dist;
}

struct mg_dist mg_dist_keyed(struct mg_arena *arena, struct mg_expr *const *keys, size_t count)
{
	struct mg_dist dist = { .kind = MG_DIST_PART, .key_count = count };
	dist.keys = mg_arena_new_array(arena, struct mg_cols, count + 1);
	for (size_t i = 0; i < count; i++) {
		long column = mg_expr_plain(keys[i]);
		if (column >= 0) {
			mg_cols_add(arena, &dist.keys[i], (size_t)column);
		}
	}
	return normalized(dist);
}

struct mg_dist mg_dist_map(struct mg_arena *arena, const struct mg_dist *dist,
                           const struct mg_cols *to, size_t count)
{
	struct mg_dist out = { .kind = dist->kind, .key_count = dist->key_count };
	out.keys = mg_arena_new_array(arena, struct mg_cols, dist->key_count + 1);
	for (size_t k = 0; k < dist->key_count; k++) {
		for (size_t c = 0; c < count; c++) {
			if (mg_cols_has(&dist->keys[k], c)) {
				mg_cols_union(arena, &out.keys[k], &to[c]);
			}
		}
	}
	return normalized(out);
}

struct mg_dist mg_dist_shift(struct mg_arena *arena, const struct mg_dist *dist, size_t by)
{
	struct mg_dist out = { .kind = dist->kind, .key_count = dist->key_count };
	out.keys = mg_arena_new_array(arena, struct mg_cols, dist->key_count + 1);
	for (size_t k = 0; k < dist->key_count; k++) {
		for (size_t c = 0; c < dist->keys[k].word_count * 64; c++) {
			if (mg_cols_has(&dist->keys[k], c)) {
				mg_cols_add(arena, &out.keys[k], c + by);
			}
		}
	}
	return normalized(out);
}

bool mg_dist_within(const struct mg_dist *dist, const struct mg_cols *cols)
{
	if (dist->kind != MG_DIST_PART) {
		return true;
	}
	for (size_t k = 0; k < dist->key_count; k++) {
		if (!mg_cols_meet(&dist->keys[k], cols)) {
			return false;
		}
	}
	return dist->key_count > 0;
}

/* Per hash position, the columns that all inputs have in common. */
static struct mg_dist intersection(struct mg_arena *arena, const struct mg_dist *const *dists,
                                   size_t count)
{
	struct mg_dist out = { .kind = MG_DIST_PART, .key_count = dists[0]->key_count };
	for (size_t i = 0; i < count; i++) {
		if (dists[i]->kind != MG_DIST_PART || dists[i]->key_count != out.key_count) {
			return mg_dist_of(MG_DIST_PART);
		}
	}
	out.keys = mg_arena_new_array(arena, struct mg_cols, out.key_count + 1);
	for (size_t k = 0; k < out.key_count; k++) {
		for (size_t c = 0; c < dists[0]->keys[k].word_count * 64; c++) {
			bool all = true;
			for (size_t i = 0; i < count; i++) {
				all = all && mg_cols_has(&dists[i]->keys[k], c);
			}
			if (all) {
				mg_cols_add(arena, &out.keys[k], c);
			}
		}
	}
	return normalized(out);
}

struct mg_dist mg_dist_union(struct mg_arena *arena, const struct mg_dist *const *dists,
                             size_t count)
{
	return intersection(arena, dists, count);
}

bool mg_dist_aligned(struct mg_arena *arena, const struct mg_dist *const *dists, size_t count)
{
	return intersection(arena, dists, count).key_count > 0;
}

/* ---- joins ---- */

bool mg_type_same_slot(const struct mg_type *a, const struct mg_type *b)
{
	if (!mg_type_hashable(a) || !mg_type_hashable(b)) {
		return false;
	}
	if (mg_type_is_integer(a) && mg_type_is_integer(b)) {
		return true;
	}
	return strcmp(a->id, b->id) == 0 && (!mg_type_is(a, "DECIMAL") || a->scale == b->scale);
}

bool mg_cond_is_equality(const struct mg_cond *cond)
{
	return strcmp(cond->compare, "COMPARE_EQUAL") == 0 ||
	       strcmp(cond->compare, "COMPARE_NOT_DISTINCT_FROM") == 0;
}

static bool cond_covers(const struct mg_cond *cond, const struct mg_cols *left,
                        const struct mg_cols *right)
{
	long l = mg_expr_plain(cond->left);
	long r = mg_expr_plain(cond->right);
	return l >= 0 && r >= 0 && mg_cols_has(left, (size_t)l) && mg_cols_has(right, (size_t)r) &&
	       mg_type_same_slot(cond->left->type, cond->right->type);
}

bool mg_dist_colocated(const struct mg_dist *left, const struct mg_dist *right,
                       const struct mg_cond *conds, size_t count)
{
	if (left->kind != MG_DIST_PART || right->kind != MG_DIST_PART ||
	    left->key_count != right->key_count) {
		return false;
	}
	for (size_t k = 0; k < left->key_count; k++) {
		bool found = false;
		for (size_t i = 0; i < count && !found; i++) {
			found = mg_cond_is_equality(&conds[i]) &&
			        cond_covers(&conds[i], &left->keys[k], &right->keys[k]);
		}
		if (!found) {
			return false;
		}
	}
	return left->key_count > 0;
}

/* After an INNER join, columns that its conditions equate stand for each other. */
static void add_equivalences(struct mg_arena *arena, struct mg_dist *dist, size_t left_columns,
                             const struct mg_cond *conds, size_t count)
{
	bool changed = true;
	while (changed) {
		changed = false;
		for (size_t i = 0; i < count; i++) {
			long l = mg_expr_plain(conds[i].left);
			long r = mg_expr_plain(conds[i].right);
			if (l < 0 || r < 0 || !mg_cond_is_equality(&conds[i]) ||
			    !mg_type_same_slot(conds[i].left->type, conds[i].right->type)) {
				continue;
			}
			size_t a = (size_t)l;
			size_t b = left_columns + (size_t)r;
			for (size_t k = 0; k < dist->key_count; k++) {
				struct mg_cols *key = &dist->keys[k];
				if (mg_cols_has(key, a) != mg_cols_has(key, b)) {
					mg_cols_add(arena, key, a);
					mg_cols_add(arena, key, b);
					changed = true;
				}
			}
		}
	}
}

/* Kinds under which a row of the left (right) side meets every match wherever it stands, when the
 * other side is complete everywhere. */
static bool keeps_left(enum mg_join_kind kind)
{
	return kind != MG_J_RIGHT && kind != MG_J_FULL;
}

static bool keeps_right(enum mg_join_kind kind, bool asof)
{
	return (kind == MG_J_INNER || kind == MG_J_RIGHT) && !asof;
}

bool mg_dist_join(struct mg_arena *arena, enum mg_join_kind kind, bool asof,
                  const struct mg_dist *left, size_t left_columns, const struct mg_dist *right,
                  const struct mg_cond *conds, size_t cond_count, bool colocated,
                  struct mg_dist *out)
{
	enum mg_dist_kind l = left->kind;
	enum mg_dist_kind r = right->kind;
	*out = mg_dist_of(MG_DIST_SINGLE);
	if (l == MG_DIST_REPL && r == MG_DIST_REPL) {
		*out = mg_dist_of(MG_DIST_REPL);
		return true;
	}
	if (l != MG_DIST_PART && r != MG_DIST_PART) {
		return true;
	}
	if (l == MG_DIST_SINGLE || r == MG_DIST_SINGLE) {
		return false;
	}
	if (r == MG_DIST_REPL) {
		if (!keeps_left(kind)) {
			return false;
		}
		*out = mg_dist_shift(arena, left, 0);
	} else if (l == MG_DIST_REPL) {
		if (!keeps_right(kind, asof)) {
			return false;
		}
		*out = mg_dist_shift(arena, right, left_columns);
	} else {
		if (!colocated) {
			return false;
		}
		*out = mg_dist_of(MG_DIST_PART);
		if (keeps_left(kind)) {
			*out = mg_dist_shift(arena, left, 0);
		} else if (kind == MG_J_RIGHT) {
			*out = mg_dist_shift(arena, right, left_columns);
		}
	}
	if (kind == MG_J_INNER && !asof) {
		add_equivalences(arena, out, left_columns, conds, cond_count);
	}
	return true;
}
