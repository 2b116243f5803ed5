/*
 * regroup.c - semi and anti joins go down to the table that they filter, where they are local.
 *
 * DuckDB orders joins for one machine, so IN and EXISTS may stand above a join that moves rows
 * which they would have thrown away.  (A join B) semi C on A.k = C.k is (A semi C) join B; when k
 * is the partition key of both tables nothing travels for the semi join, and less for the other.
 * TPC-H 18 moves 13.6 MB less at scale factor 1 by that.
 *
 * Rule: a join goes down only to where it is co-located; anywhere else the order stays DuckDB's.
 *
 * Pure; the tree is copied where it changes.
 */
#include "sql/place.h"

#include "base/str.h"

#define DEPTH_MAX 200

/* The table whose only partition key this column is, seen through what keeps values; or NULL. */
static const struct mg_table_place *key_of(struct mg_place *place, const struct mg_node *node,
                                           size_t column)
{
	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		const struct mg_expr *expr = NULL;
		switch (node->op) {
		case MG_OP_SCAN: {
			const struct mg_table_place *table =
				place->env->find_table(place->env->arg, node->schema, node->table);
			bool key = table && table->key_count == 1 && node->cols[column] &&
			           mg_text_eq_nocase(node->cols[column], table->keys[0]);
			return key ? table : NULL;
		}
		case MG_OP_FILTER:
			break;
		case MG_OP_PROJECT:
			expr = node->exprs[column];
			break;
		case MG_OP_AGG:
			if (node->set_count || column >= node->group_count) {
				return NULL;
			}
			expr = node->groups[column];
			break;
		default:
			return NULL;
		}
		if (expr) {
			if (expr->cls != MG_X_REF) {
				return NULL;
			}
			column = expr->index;
		}
		node = node->kids[0];
	}
	return NULL;
}

/* Both sides of one condition are the partition keys of their tables, of the same type. */
static bool is_local(struct mg_place *place, const struct mg_node *left, const struct mg_node *join)
{
	for (size_t i = 0; i < join->cond_count; i++) {
		const struct mg_cond *cond = &join->conds[i];
		if (mg_cond_is_equality(cond) && cond->left->cls == MG_X_REF &&
		    cond->right->cls == MG_X_REF && mg_type_equal(cond->left->type, cond->right->type) &&
		    key_of(place, left, cond->left->index) &&
		    key_of(place, join->kids[1], cond->right->index)) {
			return true;
		}
	}
	return false;
}

/* The same join over `left`, whose columns are the old ones through map. */
static struct mg_node *over(struct mg_place *place, const struct mg_node *join,
                            struct mg_node *left, const size_t *map)
{
	struct mg_node *out = mg_node_new(place->arena, MG_OP_JOIN, 2, left->column_count);
	out->kids[0] = left;
	out->kids[1] = join->kids[1];
	for (size_t i = 0; i < left->column_count; i++) {
		out->types[i] = left->types[i];
	}
	out->join = join->join;
	out->rows = join->rows;
	out->cond_count = join->cond_count;
	out->conds = mg_arena_new_array(place->arena, struct mg_cond, join->cond_count);
	for (size_t i = 0; i < join->cond_count; i++) {
		out->conds[i] = join->conds[i];
		out->conds[i].left = mg_expr_remap(place->arena, join->conds[i].left, map);
	}
	return out;
}

/* Columns of the left input that the conditions use all lie in [from, to). */
static bool uses_only(struct mg_place *place, const struct mg_node *join, size_t from, size_t to)
{
	struct mg_cols used = { 0 };
	for (size_t i = 0; i < join->cond_count; i++) {
		mg_expr_refs(place->arena, join->conds[i].left, &used);
	}
	for (size_t c = 0; c < join->kids[0]->column_count; c++) {
		if (mg_cols_has(&used, c) && (c < from || c >= to)) {
			return false;
		}
	}
	return true;
}

static struct mg_node *sink(struct mg_place *place, struct mg_node *join, int depth);

/* Under a projection of plain columns. */
static struct mg_node *sink_project(struct mg_place *place, struct mg_node *join, int depth)
{
	const struct mg_node *project = join->kids[0];
	size_t *map = mg_arena_new_array(place->arena, size_t, project->column_count + 1);
	struct mg_cols used = { 0 };
	for (size_t i = 0; i < join->cond_count; i++) {
		mg_expr_refs(place->arena, join->conds[i].left, &used);
	}
	for (size_t c = 0; c < project->column_count; c++) {
		map[c] = SIZE_MAX;
		if (mg_cols_has(&used, c)) {
			if (project->exprs[c]->cls != MG_X_REF) {
				return NULL;
			}
			map[c] = project->exprs[c]->index;
		}
	}
	struct mg_node *below = sink(place, over(place, join, project->kids[0], map), depth + 1);
	if (!below) {
		return NULL;
	}
	struct mg_node *copy = mg_node_copy(place->arena, project);
	copy->kids[0] = below;
	return copy;
}

/* Into the side of a join that the conditions speak of. */
static struct mg_node *sink_join(struct mg_place *place, struct mg_node *join, int depth)
{
	const struct mg_node *inner = join->kids[0];
	size_t left = inner->kids[0]->column_count;
	bool to_left = (inner->join == MG_J_INNER || inner->join == MG_J_LEFT) &&
	               uses_only(place, join, 0, left);
	bool to_right = inner->join == MG_J_INNER && uses_only(place, join, left, inner->column_count);
	if (inner->asof || (!to_left && !to_right)) {
		return NULL;
	}
	size_t *map = mg_arena_new_array(place->arena, size_t, inner->column_count + 1);
	for (size_t c = 0; c < inner->column_count; c++) {
		map[c] = to_left ? (c < left ? c : SIZE_MAX) : (c >= left ? c - left : SIZE_MAX);
	}
	size_t side = to_left ? 0 : 1;
	struct mg_node *below = over(place, join, inner->kids[side], map);
	struct mg_node *sunk = sink(place, below, depth + 1);
	if (!sunk) {
		return NULL;
	}
	struct mg_node *copy = mg_node_copy(place->arena, inner);
	copy->kids[side] = sunk;
	return copy;
}

/* The join as deep as it may go; NULL when it is not local anywhere below. */
static struct mg_node *sink(struct mg_place *place, struct mg_node *join, int depth)
{
	const struct mg_node *left = join->kids[0];
	if (depth > DEPTH_MAX) {
		return NULL;
	}
	if (left->op == MG_OP_JOIN) {
		return sink_join(place, join, depth);
	}
	if (left->op == MG_OP_PROJECT) {
		struct mg_node *sunk = sink_project(place, join, depth);
		if (sunk) {
			return sunk;
		}
	}
	return is_local(place, left, join) ? join : NULL;
}

static bool may_sink(const struct mg_node *node)
{
	if (node->op != MG_OP_JOIN || (node->join != MG_J_SEMI && node->join != MG_J_ANTI) ||
	    node->pred_count || node->asof) {
		return false;
	}
	for (size_t i = 0; i < node->cond_count; i++) {
		if (mg_expr_volatile(node->conds[i].left) || mg_expr_volatile(node->conds[i].right)) {
			return false;
		}
	}
	return node->cond_count > 0;
}

struct mg_node *mg_place_regroup(struct mg_place *place, struct mg_node *join)
{
	if (!may_sink(join) ||
	    (join->kids[0]->op != MG_OP_JOIN && join->kids[0]->op != MG_OP_PROJECT)) {
		return join;
	}
	struct mg_node *sunk = sink(place, join, 0);
	return sunk ? sunk : join;
}
