/*
 * prune.c - remove the columns that nobody asks for.
 *
 * One pass from the root down: each operator is told which of its columns are needed and answers
 * with a node whose columns are exactly those, in their old order.  (DuckDB's own pass is switched
 * off, because with it some plans cannot be serialised.)  References to a CTE are visited before
 * its definition, which then keeps the union of what they need.
 *
 * A scan that still has a column without a name was asked for a row id: refused.
 *
 * Pure; thread: the arena's owner.
 */
#include "sql/ir.h"

#include <string.h>

/* The projections right above the references to one CTE, while its main part is pruned. */
struct cte_uses {
	const char *name;
	struct mg_node **projects; /* heap */
	size_t count, cap;
	struct cte_uses *outer;
};

struct pruner {
	struct mg_arena *arena;
	struct cte_uses *uses;
	struct mg_error *err;
};

static struct mg_node *prune(struct pruner *pruner, struct mg_node *node,
                             const struct mg_cols *need);

/* ---- helpers ---- */

/* Old position -> new position of the columns in need; SIZE_MAX for the others. */
static size_t *map_new(struct pruner *pruner, const struct mg_cols *need, size_t columns,
                       size_t extra)
{
	size_t *map = mg_arena_new_array(pruner->arena, size_t, columns + extra + 1);
	size_t next = 0;

	for (size_t i = 0; i < columns + extra; i++) {
		map[i] = i < columns && mg_cols_has(need, i) ? next++ : SIZE_MAX;
	}
	return map;
}

static void need_exprs(struct pruner *pruner, struct mg_cols *need, struct mg_expr *const *exprs,
                       size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_expr_refs(pruner->arena, exprs[i], need);
	}
}

static void need_orders(struct pruner *pruner, struct mg_cols *need, const struct mg_order *orders,
                        size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_expr_refs(pruner->arena, orders[i].expr, need);
	}
}

static struct mg_cols need_all(struct pruner *pruner, size_t columns)
{
	struct mg_cols need = { 0 };

	for (size_t i = 0; i < columns; i++) {
		mg_cols_add(pruner->arena, &need, i);
	}
	return need;
}

static struct mg_cols need_copy(struct pruner *pruner, const struct mg_cols *need)
{
	struct mg_cols copy = { 0 };

	mg_cols_union(pruner->arena, &copy, need);
	return copy;
}

static struct mg_expr **remap_exprs(struct pruner *pruner, struct mg_expr *const *exprs,
                                    size_t count, const size_t *map)
{
	struct mg_expr **out = mg_arena_new_array(pruner->arena, struct mg_expr *, count + 1);

	for (size_t i = 0; i < count; i++) {
		out[i] = mg_expr_remap(pruner->arena, exprs[i], map);
	}
	return out;
}

static struct mg_order *remap_orders(struct pruner *pruner, const struct mg_order *orders,
                                     size_t count, const size_t *map)
{
	struct mg_order *out = mg_arena_new_array(pruner->arena, struct mg_order, count + 1);

	for (size_t i = 0; i < count; i++) {
		out[i] = orders[i];
		out[i].expr = mg_expr_remap(pruner->arena, orders[i].expr, map);
	}
	return out;
}

/* The columns of need, whose old positions are seen through map (NULL: unchanged); columns: how
 * many old ones there were. */
static struct mg_node *pick(struct pruner *pruner, struct mg_node *node, const struct mg_cols *need,
                            const size_t *map, size_t columns)
{
	struct mg_expr **exprs = mg_arena_new_array(pruner->arena, struct mg_expr *, columns + 1);
	size_t count = 0;
	bool same = true;

	for (size_t i = 0; i < columns; i++) {
		if (mg_cols_has(need, i)) {
			size_t at = map ? map[i] : i;

			same = same && at == count;
			exprs[count++] = mg_expr_ref(pruner->arena, at, node->types[at]);
		}
	}
	return same && count == node->column_count ? node
	                                           : mg_node_project(pruner->arena, node, exprs, count);
}

/* Copy of node over new kids, with these types. */
static struct mg_node *over(struct pruner *pruner, const struct mg_node *node,
                            struct mg_node *child)
{
	struct mg_node *copy = mg_node_copy(pruner->arena, node);

	copy->kids[0] = child;
	copy->types = child->types;
	copy->column_count = child->column_count;
	return copy;
}

/* ---- operators ---- */

static struct mg_node *prune_leaf(struct pruner *pruner, struct mg_node *node,
                                  const struct mg_cols *need)
{
	struct mg_node *copy = mg_node_copy(pruner->arena, node);
	size_t count = mg_cols_count(need), at = 0;

	copy->types = mg_arena_new_array(pruner->arena, const struct mg_type *, count + 1);
	copy->cols = mg_arena_new_array(pruner->arena, const char *, count + 1);
	for (size_t i = 0; i < node->column_count; i++) {
		if (!mg_cols_has(need, i)) {
			continue;
		}
		if (!node->cols[i]) {
			(void)mg_error_set(pruner->err, MG_E_UNSUPPORTED, "row id of table \"%s\"",
			                   node->table ? node->table : "");
			return NULL;
		}
		copy->types[at] = node->types[i];
		copy->cols[at++] = node->cols[i];
	}
	copy->column_count = at;
	return copy;
}

static struct mg_node *prune_ref(struct pruner *pruner, struct mg_node *node,
                                 const struct mg_cols *need)
{
	struct cte_uses *uses = pruner->uses;

	while (uses && strcmp(uses->name, node->name) != 0) {
		uses = uses->outer;
	}
	if (!uses) { /* a recursive table keeps its columns */
		return pick(pruner, node, need, NULL, node->column_count);
	}
	struct mg_node *ref = mg_node_copy(pruner->arena, node);
	struct mg_expr **exprs =
		mg_arena_new_array(pruner->arena, struct mg_expr *, node->column_count + 1);
	size_t count = 0;

	for (size_t i = 0; i < node->column_count; i++) {
		if (mg_cols_has(need, i)) {
			exprs[count++] = mg_expr_ref(pruner->arena, i, node->types[i]);
		}
	}
	struct mg_node *project = mg_node_project(pruner->arena, ref, exprs, count);

	mg_grow(uses->projects, uses->count, uses->cap);
	uses->projects[uses->count++] = project;
	return project;
}

static struct mg_node *prune_cte(struct pruner *pruner, struct mg_node *node,
                                 const struct mg_cols *need)
{
	struct cte_uses uses = { .name = node->name, .outer = pruner->uses };
	struct mg_node *out = NULL;
	struct mg_cols want = { 0 };

	pruner->uses = &uses;
	struct mg_node *main = prune(pruner, node->kids[1], need);

	pruner->uses = uses.outer;
	if (!main || !uses.count) {
		out = main; /* nobody reads it */
		goto out;
	}
	for (size_t i = 0; i < uses.count; i++) {
		need_exprs(pruner, &want, uses.projects[i]->exprs, uses.projects[i]->expr_count);
	}
	size_t columns = node->kids[0]->column_count;
	struct mg_node *definition = prune(pruner, node->kids[0], &want);

	if (!definition) {
		goto out;
	}
	size_t *map = map_new(pruner, &want, columns, 0);

	for (size_t i = 0; i < uses.count; i++) {
		struct mg_node *project = uses.projects[i];

		/* Made above for this pass alone, so it may be changed. */
		project->exprs = remap_exprs(pruner, project->exprs, project->expr_count, map);
		project->kids[0]->types = definition->types;
		project->kids[0]->column_count = definition->column_count;
	}
	out = mg_node_copy(pruner->arena, node);
	out->kids[0] = definition;
	out->kids[1] = main;
	out->types = main->types;
	out->column_count = main->column_count;
out:
	mg_free(uses.projects);
	return out;
}

static struct mg_node *prune_project(struct pruner *pruner, struct mg_node *node,
                                     const struct mg_cols *need)
{
	struct mg_expr **exprs =
		mg_arena_new_array(pruner->arena, struct mg_expr *, node->expr_count + 1);
	struct mg_cols want = { 0 };
	size_t count = 0;

	for (size_t i = 0; i < node->expr_count; i++) {
		if (mg_cols_has(need, i)) {
			exprs[count++] = node->exprs[i];
		}
	}
	need_exprs(pruner, &want, exprs, count);
	size_t columns = node->kids[0]->column_count;
	struct mg_node *child = prune(pruner, node->kids[0], &want);

	if (!child) {
		return NULL;
	}
	if (!count && child->op == MG_OP_DUMMY) {
		return child;
	}
	exprs = remap_exprs(pruner, exprs, count, map_new(pruner, &want, columns, 0));
	struct mg_node *out = mg_node_project(pruner->arena, child, exprs, count);

	out->rows = node->rows;
	return out;
}

/* Operators that give on their child's columns: filter, order, top-n, limit, distinct on. */
static struct mg_node *prune_through(struct pruner *pruner, struct mg_node *node,
                                     const struct mg_cols *need)
{
	struct mg_cols want = need_copy(pruner, need);
	size_t columns = node->column_count;

	need_exprs(pruner, &want, node->exprs, node->expr_count);
	need_exprs(pruner, &want, node->groups, node->group_count);
	need_orders(pruner, &want, node->keys, node->key_count);
	struct mg_node *child = prune(pruner, node->kids[0], &want);

	if (!child) {
		return NULL;
	}
	size_t *map = map_new(pruner, &want, columns, 0);
	struct mg_node *out = over(pruner, node, child);

	out->exprs = remap_exprs(pruner, node->exprs, node->expr_count, map);
	out->groups = remap_exprs(pruner, node->groups, node->group_count, map);
	out->keys = remap_orders(pruner, node->keys, node->key_count, map);
	return pick(pruner, out, need, map, columns);
}

/* Window and unnest: child columns, then expressions.  An unnest changes the number of rows, so its
 * expressions stay. */
static struct mg_node *prune_append(struct pruner *pruner, struct mg_node *node,
                                    const struct mg_cols *need)
{
	size_t columns = node->kids[0]->column_count;
	struct mg_expr **exprs =
		mg_arena_new_array(pruner->arena, struct mg_expr *, node->expr_count + 1);
	size_t *at = mg_arena_new_array(pruner->arena, size_t, node->expr_count + 1);
	size_t count = 0;
	struct mg_cols want = { 0 };

	for (size_t i = 0; i < columns; i++) {
		if (mg_cols_has(need, i)) {
			mg_cols_add(pruner->arena, &want, i);
		}
	}
	for (size_t i = 0; i < node->expr_count; i++) {
		if (node->op == MG_OP_UNNEST || mg_cols_has(need, columns + i)) {
			at[count] = columns + i;
			exprs[count++] = node->exprs[i];
		}
	}
	if (!count) {
		return prune(pruner, node->kids[0], need);
	}
	need_exprs(pruner, &want, exprs, count);
	struct mg_node *child = prune(pruner, node->kids[0], &want);

	if (!child) {
		return NULL;
	}
	size_t *map = map_new(pruner, &want, columns, node->expr_count);
	struct mg_node *out = mg_node_new(pruner->arena, node->op, 1, child->column_count + count);

	out->kids[0] = child;
	out->rows = node->rows;
	memcpy(out->types, child->types, child->column_count * sizeof *out->types);
	out->exprs = remap_exprs(pruner, exprs, count, map);
	out->expr_count = count;
	for (size_t i = 0; i < count; i++) {
		map[at[i]] = child->column_count + i;
		out->types[child->column_count + i] = exprs[i]->type;
	}
	return pick(pruner, out, need, map, node->column_count);
}

static struct mg_node *prune_agg(struct pruner *pruner, struct mg_node *node,
                                 const struct mg_cols *need)
{
	size_t groups = node->group_count, aggs = node->expr_count;
	struct mg_expr **exprs = mg_arena_new_array(pruner->arena, struct mg_expr *, aggs + 1);
	size_t *map = mg_arena_new_array(pruner->arena, size_t, node->column_count + 1);
	struct mg_cols want = { 0 };
	size_t count = 0;

	for (size_t i = 0; i < aggs; i++) {
		/* An ungrouped aggregate yields its one row even when nobody reads it. */
		bool last = !groups && !node->set_count && !count && i + 1 == aggs;

		if (mg_cols_has(need, groups + i) || last) {
			map[groups + i] = groups + count;
			exprs[count++] = node->exprs[i];
		} else {
			map[groups + i] = SIZE_MAX;
		}
	}
	need_exprs(pruner, &want, node->groups, groups);
	need_exprs(pruner, &want, exprs, count);
	size_t columns = node->kids[0]->column_count;
	struct mg_node *child = prune(pruner, node->kids[0], &want);

	if (!child) {
		return NULL;
	}
	size_t *below = map_new(pruner, &want, columns, 0);
	struct mg_node *out = mg_node_copy(pruner->arena, node);

	out->kids[0] = child;
	out->groups = remap_exprs(pruner, node->groups, groups, below);
	out->exprs = remap_exprs(pruner, exprs, count, below);
	out->expr_count = count;
	out->column_count = groups + count + node->gfunc_count;
	out->types = mg_arena_new_array(pruner->arena, const struct mg_type *, out->column_count + 1);
	for (size_t i = 0; i < groups; i++) {
		map[i] = i;
	}
	for (size_t i = 0; i < node->gfunc_count; i++) {
		map[groups + aggs + i] = groups + count + i;
	}
	for (size_t i = 0; i < node->column_count; i++) {
		if (map[i] != SIZE_MAX) {
			out->types[map[i]] = node->types[i];
		}
	}
	return pick(pruner, out, need, map, node->column_count);
}

static struct mg_cond *remap_conds(struct pruner *pruner, const struct mg_node *node,
                                   const size_t *left, const size_t *right)
{
	struct mg_cond *conds = mg_arena_new_array(pruner->arena, struct mg_cond, node->cond_count + 1);

	for (size_t i = 0; i < node->cond_count; i++) {
		conds[i].compare = node->conds[i].compare;
		conds[i].left = mg_expr_remap(pruner->arena, node->conds[i].left, left);
		conds[i].right = mg_expr_remap(pruner->arena, node->conds[i].right, right);
	}
	return conds;
}

static struct mg_node *prune_join(struct pruner *pruner, struct mg_node *node,
                                  const struct mg_cols *need)
{
	size_t lefts = node->kids[0]->column_count, rights = node->kids[1]->column_count;
	bool mark = node->join == MG_J_MARK;
	struct mg_cols both = { 0 }, left = { 0 }, right = { 0 };

	need_exprs(pruner, &both, node->preds, node->pred_count);
	for (size_t i = 0; i < node->column_count; i++) {
		if (mg_cols_has(need, i) && (i < lefts || !mark)) {
			mg_cols_add(pruner->arena, &both, i);
		}
	}
	for (size_t i = 0; i < node->cond_count; i++) {
		mg_expr_refs(pruner->arena, node->conds[i].left, &left);
		mg_expr_refs(pruner->arena, node->conds[i].right, &right);
	}
	for (size_t i = 0; i < lefts + rights; i++) {
		if (mg_cols_has(&both, i)) {
			mg_cols_add(pruner->arena, i < lefts ? &left : &right, i < lefts ? i : i - lefts);
		}
	}
	struct mg_node *l = prune(pruner, node->kids[0], &left);
	struct mg_node *r = l ? prune(pruner, node->kids[1], &right) : NULL;

	if (!r) {
		return NULL;
	}
	size_t *left_map = map_new(pruner, &left, lefts, 0),
		   *right_map = map_new(pruner, &right, rights, 0);
	size_t *map = mg_arena_new_array(pruner->arena, size_t, lefts + rights + 2);

	for (size_t i = 0; i < lefts + rights; i++) {
		map[i] = i < lefts                          ? left_map[i]
		         : right_map[i - lefts] == SIZE_MAX ? SIZE_MAX
		                                            : l->column_count + right_map[i - lefts];
	}
	bool tail = node->join != MG_J_SEMI && node->join != MG_J_ANTI && !mark;
	struct mg_node *out = mg_node_copy(pruner->arena, node);

	out->kids[0] = l;
	out->kids[1] = r;
	out->conds = remap_conds(pruner, node, left_map, right_map);
	out->preds = remap_exprs(pruner, node->preds, node->pred_count, map);
	out->column_count = l->column_count + (tail ? r->column_count : mark ? 1 : 0);
	out->types = mg_arena_new_array(pruner->arena, const struct mg_type *, out->column_count + 1);
	memcpy(out->types, l->types, l->column_count * sizeof *out->types);
	if (tail) {
		memcpy(out->types + l->column_count, r->types, r->column_count * sizeof *out->types);
	} else if (mark) {
		out->types[l->column_count] = node->types[lefts];
		map[lefts] = l->column_count;
	}
	return pick(pruner, out, need, map, node->column_count);
}

static struct mg_node *prune_union(struct pruner *pruner, struct mg_node *node,
                                   const struct mg_cols *need)
{
	struct mg_node *out = mg_node_copy(pruner->arena, node);

	for (size_t i = 0; i < node->kid_count; i++) {
		out->kids[i] = prune(pruner, node->kids[i], need);
		if (!out->kids[i]) {
			return NULL;
		}
	}
	out->types = out->kids[0]->types;
	out->column_count = out->kids[0]->column_count;
	return out;
}

static struct mg_node *prune_values(struct pruner *pruner, struct mg_node *node,
                                    const struct mg_cols *need)
{
	struct mg_node *out = mg_node_copy(pruner->arena, node);
	size_t count = mg_cols_count(need), at = 0;

	out->types = mg_arena_new_array(pruner->arena, const struct mg_type *, count + 1);
	out->row_values = mg_arena_new_array(pruner->arena, struct mg_expr **, node->row_count + 1);
	for (size_t row = 0; row < node->row_count; row++) {
		out->row_values[row] = mg_arena_new_array(pruner->arena, struct mg_expr *, count + 1);
	}
	for (size_t i = 0; i < node->column_count; i++) {
		if (!mg_cols_has(need, i)) {
			continue;
		}
		out->types[at] = node->types[i];
		for (size_t row = 0; row < node->row_count; row++) {
			out->row_values[row][at] = node->row_values[row][i];
		}
		at++;
	}
	out->column_count = at;
	return out;
}

/* Operators whose every column has a meaning: the children keep all. */
static struct mg_node *prune_nothing(struct pruner *pruner, struct mg_node *node,
                                     const struct mg_cols *need)
{
	struct mg_node *out = mg_node_copy(pruner->arena, node);

	for (size_t i = 0; i < node->kid_count; i++) {
		struct mg_cols all = need_all(pruner, node->kids[i]->column_count);

		out->kids[i] = prune(pruner, node->kids[i], &all);
		if (!out->kids[i]) {
			return NULL;
		}
	}
	return pick(pruner, out, need, NULL, node->column_count);
}

static struct mg_node *prune(struct pruner *pruner, struct mg_node *node,
                             const struct mg_cols *need)
{
	switch (node->op) {
	case MG_OP_SCAN:
	case MG_OP_FUNC:
		return prune_leaf(pruner, node, need);
	case MG_OP_REF:
		return prune_ref(pruner, node, need);
	case MG_OP_ROWS:
		return prune_values(pruner, node, need);
	case MG_OP_PROJECT:
		return prune_project(pruner, node, need);
	case MG_OP_CTE:
		return prune_cte(pruner, node, need);
	case MG_OP_FILTER:
	case MG_OP_ORDER:
	case MG_OP_TOPN:
	case MG_OP_LIMIT:
		return prune_through(pruner, node, need);
	case MG_OP_DISTINCT:
		return node->group_count ? prune_through(pruner, node, need)
		                         : prune_nothing(pruner, node, need);
	case MG_OP_WINDOW:
	case MG_OP_UNNEST:
		return prune_append(pruner, node, need);
	case MG_OP_AGG:
		return prune_agg(pruner, node, need);
	case MG_OP_JOIN:
		return prune_join(pruner, node, need);
	case MG_OP_UNION:
		return prune_union(pruner, node, need);
	case MG_OP_EMPTY:
	case MG_OP_DUMMY:
	case MG_OP_EXCEPT:
	case MG_OP_INTERSECT:
	case MG_OP_RECCTE:
	case MG_OP_EXCHANGE:
	case MG_OP_READ:
		break;
	}
	return prune_nothing(pruner, node, need);
}

int mg_plan_prune(struct mg_arena *arena, struct mg_node *root, struct mg_node **out,
                  struct mg_error *err)
{
	struct mg_error own;
	struct pruner pruner = { .arena = arena, .err = err ? err : &own };
	struct mg_cols all = need_all(&pruner, root->column_count);

	*out = prune(&pruner, root, &all);
	return *out ? 0 : pruner.err->code;
}
