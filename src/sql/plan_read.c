/*
 * plan_read.c - DuckDB's optimized plan, from JSON to our tree.
 *
 * Projection maps become projections, filters that DuckDB pushed into a scan become a filter above
 * it, and a correlated subquery (DELIM_JOIN) becomes two CTEs (the outer rows, and their distinct
 * correlation columns) and an ordinary join, so that no later pass knows about any of them.
 * Every reference is checked against the columns below it: a plan that does not fit is refused,
 * never trusted.
 *
 * Estimates come from the tree of EXPLAIN (FORMAT JSON), walked in parallel as far as both agree.
 *
 * Pure; thread: the arena's owner.
 */
#include "sql/read.h"
#include "sql/sql_text.h"

#include <stdlib.h>
#include <string.h>

static struct mg_node *read_node(struct mg_reader *reader, const struct mg_json *json,
                                 const struct mg_json *explain);

/* ---- small helpers ---- */

struct limit_arg {
	size_t limit;
	bool beyond;
};

static void limit_visit(const struct mg_expr *expr, void *arg)
{
	struct limit_arg *limit = arg;

	if (expr->cls == MG_X_REF && expr->index >= limit->limit) {
		limit->beyond = true;
	}
}

/* Does expr refer only to the first `limit` columns? */
int mg_read_check(struct mg_reader *reader, const struct mg_expr *expr, size_t limit)
{
	struct limit_arg arg = { limit, false };

	mg_expr_walk(expr, limit_visit, &arg);
	return arg.beyond
	           ? mg_read_refuse(reader, "reference beyond the %zu columns of its input", limit)
	           : 0;
}

int mg_read_check_all(struct mg_reader *reader, struct mg_expr *const *exprs, size_t count,
                      size_t limit)
{
	for (size_t i = 0; i < count; i++) {
		if (mg_read_check(reader, exprs[i], limit)) {
			return -1;
		}
	}
	return 0;
}

static int check_orders(struct mg_reader *reader, const struct mg_order *orders, size_t count,
                        size_t limit)
{
	for (size_t i = 0; i < count; i++) {
		if (mg_read_check(reader, orders[i].expr, limit)) {
			return -1;
		}
	}
	return 0;
}

static const char *fresh_name(struct mg_reader *reader, const char *prefix)
{
	return mg_arena_format(reader->arena, "%s%u", prefix, ++reader->names);
}

static void take_types(struct mg_node *node, size_t at, const struct mg_node *from)
{
	for (size_t i = 0; i < from->column_count; i++) {
		node->types[at + i] = from->types[i];
	}
}

/* Node of one child with the child's columns and `more` after them. */
struct mg_node *mg_read_over(struct mg_reader *reader, enum mg_op op, struct mg_node *child,
                             size_t more)
{
	struct mg_node *node = mg_node_new(reader->arena, op, 1, child->column_count + more);

	node->kids[0] = child;
	take_types(node, 0, child);
	return node;
}

/* Keep the columns of a map of positions, in its order; no map: all. */
struct mg_node *mg_read_pick(struct mg_reader *reader, struct mg_node *child, const size_t *map,
                             size_t count)
{
	struct mg_expr **exprs = mg_arena_new_array(reader->arena, struct mg_expr *, count + 1);
	bool same = count == child->column_count;

	for (size_t i = 0; i < count; i++) {
		if (map[i] >= child->column_count) {
			return mg_read_null(reader, "projection of column %zu of %zu", map[i],
			                    child->column_count);
		}
		same = same && map[i] == i;
		exprs[i] = mg_expr_ref(reader->arena, map[i], child->types[map[i]]);
	}
	return same ? child : mg_node_project(reader->arena, child, exprs, count);
}

/* Positions of a JSON array of numbers. */
size_t *mg_read_map(struct mg_reader *reader, const struct mg_json *array, size_t *count)
{
	size_t n = mg_json_is(array, MG_JSON_ARRAY) ? array->count : 0;
	size_t *map = mg_arena_new_array(reader->arena, size_t, n + 1);

	*count = n;
	size_t i = 0;

	mg_json_each(item, n ? array : NULL) {
		map[i++] = mg_json_is(item, MG_JSON_NUMBER) ? (size_t)strtoull(mg_json_text(item), NULL, 10)
		                                            : SIZE_MAX;
	}
	return map;
}

struct mg_node *mg_read_pick_json(struct mg_reader *reader, struct mg_node *child,
                                  const struct mg_json *array)
{
	size_t count;
	size_t *map = mg_read_map(reader, array, &count);

	return count ? mg_read_pick(reader, child, map, count) : child;
}

struct mg_node *mg_read_kid(struct mg_reader *reader, const struct mg_json *json,
                            const struct mg_json *explain, size_t index)
{
	const struct mg_json *kids = mg_json_get(json, "children");
	const struct mg_json *pairs = mg_json_get(explain, "children");
	const struct mg_json *kid = mg_json_at(kids, index);

	if (!kid) {
		return mg_read_null(reader, "operator %s without its input",
		                    mg_json_text(mg_json_get(json, "type")));
	}
	if (!pairs || pairs->count != kids->count) {
		pairs = NULL;
	}
	return read_node(reader, kid, mg_json_at(pairs, index));
}

/* ---- operators over one input ---- */

/* Below a lateral table function DuckDB leaves references as (table, column) pairs; they mean the
 * child when it carries that table's index. */
static struct mg_node *read_projection(struct mg_reader *reader, const struct mg_json *json,
                                       const struct mg_json *explain)
{
	const struct mg_json *below = mg_json_at(mg_json_get(json, "children"), 0);
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	uint64_t outer = reader->table;
	size_t count;

	if (!child) {
		return NULL;
	}
	reader->table = mg_read_u64(below, "table_index", UINT64_MAX);
	struct mg_expr **exprs = mg_read_exprs(reader, mg_json_get(json, "expressions"), &count);

	reader->table = outer;
	if (!exprs || mg_read_check_all(reader, exprs, count, child->column_count)) {
		return NULL;
	}
	return mg_node_project(reader->arena, child, exprs, count);
}

static struct mg_node *read_where(struct mg_reader *reader, const struct mg_json *json,
                                  const struct mg_json *explain)
{
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	size_t count;
	struct mg_expr **exprs = child ? mg_read_exprs(reader, mg_json_get(json, "expressions"), &count)
	                               : NULL;

	if (!exprs || mg_read_check_all(reader, exprs, count, child->column_count)) {
		return NULL;
	}
	if (count) {
		struct mg_node *node = mg_read_over(reader, MG_OP_FILTER, child, 0);

		node->exprs = exprs;
		node->expr_count = count;
		child = node;
	}
	return mg_read_pick_json(reader, child, mg_json_get(json, "projection_map"));
}

static struct mg_node *read_order(struct mg_reader *reader, const struct mg_json *json,
                                  const struct mg_json *explain, bool top)
{
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);

	if (!child) {
		return NULL;
	}
	struct mg_node *node = mg_read_over(reader, top ? MG_OP_TOPN : MG_OP_ORDER, child, 0);

	node->keys = mg_read_orders(reader, mg_json_get(json, "orders"), &node->key_count);
	if (!node->keys || check_orders(reader, node->keys, node->key_count, child->column_count)) {
		return NULL;
	}
	if (top) {
		node->has_limit = true;
		node->limit = mg_read_u64(json, "limit", 0);
		node->offset = mg_read_u64(json, "offset", 0);
		return node;
	}
	return mg_read_pick_json(reader, node, mg_json_get(json, "projections"));
}

static int read_limit_value(struct mg_reader *reader, const struct mg_json *value, bool *set,
                            uint64_t *out)
{
	const char *type = mg_json_get_text(value, "type");

	if (!type || strcmp(type, "UNSET") == 0) {
		return 0;
	}
	if (strcmp(type, "CONSTANT_VALUE") != 0) {
		return mg_read_refuse(reader, "limit by %s",
		                      strcmp(type, "CONSTANT_PERCENTAGE") == 0 ? "percent" : "expression");
	}
	*set = true;
	*out = mg_read_u64(value, "constant_integer", 0);
	return 0;
}

static struct mg_node *read_limit(struct mg_reader *reader, const struct mg_json *json,
                                  const struct mg_json *explain)
{
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	bool has_offset = false;

	if (!child) {
		return NULL;
	}
	struct mg_node *node = mg_read_over(reader, MG_OP_LIMIT, child, 0);

	if (read_limit_value(reader, mg_json_get(json, "limit_val"), &node->has_limit, &node->limit) ||
	    read_limit_value(reader, mg_json_get(json, "offset_val"), &has_offset, &node->offset)) {
		return NULL;
	}
	return node;
}

/* DuckDB's one row has a column, which counts in positions above it; pruning removes it. */
static struct mg_node *read_dummy(struct mg_reader *reader)
{
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_DUMMY, 0, 0);
	struct mg_expr **exprs = mg_arena_new_array(reader->arena, struct mg_expr *, 1);

	node->rows = 1;
	exprs[0] =
		mg_expr_raw(reader->arena, "CAST(NULL AS INTEGER)", mg_type_simple("INTEGER"), 0, NULL);
	return mg_node_project(reader->arena, node, exprs, 1);
}

/* [[0, 1], [0], []] */
static int read_sets(struct mg_reader *reader, const struct mg_json *json, size_t group_count,
                     size_t ***sets, size_t **sizes, size_t *count)
{
	size_t n = json ? json->count : 0;

	*sets = mg_arena_new_array(reader->arena, size_t *, n + 1);
	*sizes = mg_arena_new_array(reader->arena, size_t, n + 1);
	*count = 0;
	mg_json_each(item, json) {
		size_t i = (*count)++;

		(*sets)[i] = mg_read_map(reader, item, &(*sizes)[i]);
		for (size_t k = 0; k < (*sizes)[i]; k++) {
			if ((*sets)[i][k] >= group_count) {
				return mg_read_refuse(reader, "grouping set beyond the groups");
			}
		}
	}
	return 0;
}

static struct mg_node *read_aggregate(struct mg_reader *reader, const struct mg_json *json,
                                      const struct mg_json *explain)
{
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	size_t group_count, count;
	struct mg_expr **groups =
		child ? mg_read_exprs(reader, mg_json_get(json, "groups"), &group_count) : NULL;
	struct mg_expr **exprs =
		groups ? mg_read_exprs(reader, mg_json_get(json, "expressions"), &count) : NULL;

	if (!exprs || mg_read_check_all(reader, groups, group_count, child->column_count) ||
	    mg_read_check_all(reader, exprs, count, child->column_count)) {
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		if (exprs[i]->cls != MG_X_AGGREGATE) {
			return mg_read_null(reader, "aggregation by what is no aggregate");
		}
	}
	const struct mg_json *functions = mg_json_get(json, "grouping_functions");
	size_t gfuncs = functions ? functions->count : 0;

	if (!group_count && !count && !gfuncs) {
		/* HAVING true: one row whatever the input is. */
		return read_dummy(reader);
	}
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_AGG, 1, group_count + count + gfuncs);

	node->kids[0] = child;
	node->groups = groups;
	node->group_count = group_count;
	node->exprs = exprs;
	node->expr_count = count;
	for (size_t i = 0; i < node->column_count; i++) {
		node->types[i] = i < group_count           ? groups[i]->type
		                 : i < group_count + count ? exprs[i - group_count]->type
		                                           : mg_type_simple("BIGINT");
	}
	if (read_sets(reader, mg_json_get(json, "grouping_sets"), group_count, &node->sets,
	              &node->set_sizes, &node->set_count) ||
	    read_sets(reader, functions, group_count, &node->gfuncs, &node->gfunc_sizes,
	              &node->gfunc_count)) {
		return NULL;
	}
	if (node->set_count == 1 && node->set_sizes[0] == group_count) {
		node->set_count = 0;
	}
	return node;
}

static struct mg_node *read_distinct(struct mg_reader *reader, const struct mg_json *json,
                                     const struct mg_json *explain)
{
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	const char *kind = mg_json_get_text(json, "distinct_type");

	if (!child || !kind) {
		return child ? mg_read_null(reader, "distinct without a type") : NULL;
	}
	struct mg_node *node = mg_read_over(reader, MG_OP_DISTINCT, child, 0);

	if (strcmp(kind, "DISTINCT") == 0) {
		return node;
	}
	node->groups = mg_read_exprs(reader, mg_json_get(json, "distinct_targets"), &node->group_count);
	node->keys = mg_read_orders(reader, mg_json_get(mg_json_get(json, "order_by"), "orders"),
	                            &node->key_count);
	if (!node->groups || !node->keys ||
	    mg_read_check_all(reader, node->groups, node->group_count, child->column_count) ||
	    check_orders(reader, node->keys, node->key_count, child->column_count)) {
		return NULL;
	}
	return node->group_count ? node : mg_read_null(reader, "distinct on nothing");
}

static struct mg_node *read_append(struct mg_reader *reader, const struct mg_json *json,
                                   const struct mg_json *explain, enum mg_op op)
{
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	size_t count;
	struct mg_expr **exprs = child ? mg_read_exprs(reader, mg_json_get(json, "expressions"), &count)
	                               : NULL;

	if (!exprs || mg_read_check_all(reader, exprs, count, child->column_count)) {
		return NULL;
	}
	struct mg_node *node = mg_read_over(reader, op, child, count);

	node->exprs = exprs;
	node->expr_count = count;
	for (size_t i = 0; i < count; i++) {
		if (exprs[i]->cls != (op == MG_OP_WINDOW ? MG_X_WINDOW : MG_X_UNNEST)) {
			return mg_read_null(reader, "%s over another expression",
			                    op == MG_OP_WINDOW ? "window" : "unnest");
		}
		node->types[child->column_count + i] = exprs[i]->type;
	}
	return node;
}

/* ---- operators over several inputs ---- */

static struct mg_node *read_setop(struct mg_reader *reader, const struct mg_json *json,
                                  const struct mg_json *explain, enum mg_op op)
{
	const struct mg_json *kids = mg_json_get(json, "children");
	size_t count = kids ? kids->count : 0;
	struct mg_node *node = NULL;

	for (size_t i = 0; i < count; i++) {
		struct mg_node *kid = mg_read_kid(reader, json, explain, i);

		if (!kid) {
			return NULL;
		}
		if (!node) {
			node = mg_node_new(reader->arena, op, count, kid->column_count);
			take_types(node, 0, kid);
		}
		if (kid->column_count != node->column_count) {
			return mg_read_null(reader, "set operation over different widths");
		}
		node->kids[i] = kid;
	}
	if (!node || (op != MG_OP_UNION && count != 2)) {
		return mg_read_null(reader, "set operation over %zu inputs", count);
	}
	/* UNION without ALL carries a DISTINCT above it, so the union itself keeps all. */
	node->all = op == MG_OP_UNION || mg_json_get_bool(json, "setop_all", true);
	return node;
}

static int join_kind(struct mg_reader *reader, const struct mg_json *json, enum mg_join_kind *kind)
{
	static const char *const names[] = { "INNER", "LEFT", "RIGHT", "FULL",
		                                 "SEMI",  "ANTI", "MARK",  "SINGLE" };
	const char *type = mg_json_get_text(json, "join_type");

	for (size_t i = 0; type && i < sizeof names / sizeof *names; i++) {
		if (strcmp(type, names[i]) == 0) {
			*kind = (enum mg_join_kind)i;
			return 0;
		}
	}
	if (type && strcmp(type, "OUTER") == 0) {
		*kind = MG_J_FULL;
		return 0;
	}
	return mg_read_refuse(reader, "join %s", type ? type : "without a type");
}

static struct mg_node *join_new(struct mg_reader *reader, struct mg_node *left,
                                struct mg_node *right, enum mg_join_kind kind)
{
	bool rights = kind != MG_J_SEMI && kind != MG_J_ANTI && kind != MG_J_MARK;
	size_t more = rights ? right->column_count : kind == MG_J_MARK ? 1 : 0;
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_JOIN, 2, left->column_count + more);

	node->kids[0] = left;
	node->kids[1] = right;
	node->join = kind;
	take_types(node, 0, left);
	if (rights) {
		take_types(node, left->column_count, right);
	} else if (kind == MG_J_MARK) {
		node->types[left->column_count] = mg_type_simple("BOOLEAN");
	}
	return node;
}

/* The join's projection maps, one for each side. */
static struct mg_node *join_pick(struct mg_reader *reader, const struct mg_json *json,
                                 struct mg_node *join)
{
	size_t left_count, right_count;
	size_t *left = mg_read_map(reader, mg_json_get(json, "left_projection_map"), &left_count);
	size_t *right = mg_read_map(reader, mg_json_get(json, "right_projection_map"), &right_count);
	size_t lefts = join->kids[0]->column_count, rights = join->column_count - lefts;
	size_t *map = mg_arena_new_array(reader->arena, size_t,
	                                 left_count + right_count + join->column_count + 1);
	size_t n = 0;

	if (!left_count && !right_count) {
		return join;
	}
	for (size_t i = 0; i < (left_count ? left_count : lefts); i++) {
		map[n++] = left_count ? left[i] : i;
	}
	bool mapped = right_count && (join->join < MG_J_SEMI || join->join == MG_J_SINGLE);

	for (size_t i = 0; i < (mapped ? right_count : rights); i++) {
		map[n++] = lefts + (mapped ? right[i] : i);
	}
	return mg_read_pick(reader, join, map, n);
}

static int read_conditions(struct mg_reader *reader, const struct mg_json *json,
                           struct mg_node *join)
{
	const struct mg_json *conditions = mg_json_get(json, "conditions");

	join->conds =
		mg_arena_new_array(reader->arena, struct mg_cond, (conditions ? conditions->count : 0) + 1);
	mg_json_each(condition, conditions) {
		struct mg_cond *cond = &join->conds[join->cond_count++];

		cond->compare = mg_json_get_text(condition, "comparison");
		if (!cond->compare || !mg_compare_text(cond->compare)) {
			return mg_read_refuse(reader, "join condition %s",
			                      cond->compare ? cond->compare : "of another form");
		}
		cond->left = mg_read_expr(reader, mg_json_get(condition, "left"));
		cond->right = cond->left ? mg_read_expr(reader, mg_json_get(condition, "right")) : NULL;
		if (!cond->right || mg_read_check(reader, cond->left, join->kids[0]->column_count) ||
		    mg_read_check(reader, cond->right, join->kids[1]->column_count)) {
			return -1;
		}
	}
	return 0;
}

static int read_predicate(struct mg_reader *reader, const struct mg_json *predicate,
                          struct mg_node *join)
{
	if (!mg_json_is(predicate, MG_JSON_OBJECT)) {
		return 0;
	}
	join->preds = mg_arena_new_array(reader->arena, struct mg_expr *, 1);
	join->preds[0] = mg_read_expr(reader, predicate);
	join->pred_count = 1;
	if (!join->preds[0]) {
		return -1;
	}
	return mg_read_check(reader, join->preds[0],
	                     join->kids[0]->column_count + join->kids[1]->column_count);
}

/* Comparison joins, with both inputs read. */
static struct mg_node *join_finish(struct mg_reader *reader, const struct mg_json *json,
                                   struct mg_node *left, struct mg_node *right, bool asof)
{
	enum mg_join_kind kind;

	if (join_kind(reader, json, &kind)) {
		return NULL;
	}
	if (asof && kind != MG_J_INNER && kind != MG_J_LEFT) {
		return mg_read_null(reader, "asof join of another kind than inner and left");
	}
	struct mg_node *join = join_new(reader, left, right, kind);

	join->asof = asof;
	if (read_conditions(reader, json, join) ||
	    read_predicate(reader, mg_json_get(json, "predicate"), join)) {
		return NULL;
	}
	return join_pick(reader, json, join);
}

static struct mg_node *read_join(struct mg_reader *reader, const struct mg_json *json,
                                 const struct mg_json *explain, bool asof)
{
	struct mg_node *left = mg_read_kid(reader, json, explain, 0);
	struct mg_node *right = left ? mg_read_kid(reader, json, explain, 1) : NULL;

	return right ? join_finish(reader, json, left, right, asof) : NULL;
}

static struct mg_node *read_any_join(struct mg_reader *reader, const struct mg_json *json,
                                     const struct mg_json *explain)
{
	struct mg_node *left = mg_read_kid(reader, json, explain, 0);
	struct mg_node *right = left ? mg_read_kid(reader, json, explain, 1) : NULL;
	enum mg_join_kind kind;

	if (!right || join_kind(reader, json, &kind)) {
		return NULL;
	}
	struct mg_node *join = join_new(reader, left, right, kind);

	if (read_predicate(reader, mg_json_get(json, "condition"), join)) {
		return NULL;
	}
	return join_pick(reader, json, join);
}

static struct mg_node *read_cross(struct mg_reader *reader, const struct mg_json *json,
                                  const struct mg_json *explain)
{
	struct mg_node *left = mg_read_kid(reader, json, explain, 0);
	struct mg_node *right = left ? mg_read_kid(reader, json, explain, 1) : NULL;

	return right ? join_new(reader, left, right, MG_J_INNER) : NULL;
}

/* ---- names: CTEs and correlated subqueries ---- */

static struct mg_read_name name_of(const char *name, uint64_t index, const struct mg_node *node)
{
	return (struct mg_read_name){ index, name, node->types, node->column_count, node->rows };
}

static struct mg_node *ref_new(struct mg_reader *reader, const struct mg_read_name *to)
{
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_REF, 0, to->column_count);

	memcpy(node->types, to->types, to->column_count * sizeof *to->types);
	node->name = to->name;
	node->rows = to->rows;
	return node;
}

static struct mg_node *cte_new(struct mg_reader *reader, const char *name,
                               struct mg_node *definition, struct mg_node *main)
{
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_CTE, 2, main->column_count);

	node->kids[0] = definition;
	node->kids[1] = main;
	take_types(node, 0, main);
	node->name = name;
	node->rows = main->rows;
	return node;
}

static struct mg_node *read_cte(struct mg_reader *reader, const struct mg_json *json,
                                const struct mg_json *explain)
{
	struct mg_node *definition = mg_read_kid(reader, json, explain, 0);

	if (!definition) {
		return NULL;
	}
	const char *name = fresh_name(reader, "cte");

	mg_grow(reader->ctes, reader->cte_count, reader->cte_cap);
	reader->ctes[reader->cte_count++] =
		name_of(name, mg_read_u64(json, "table_index", UINT64_MAX), definition);
	struct mg_node *main = mg_read_kid(reader, json, explain, 1);

	return main ? cte_new(reader, name, definition, main) : NULL;
}

static struct mg_node *read_cte_ref(struct mg_reader *reader, const struct mg_json *json)
{
	uint64_t index = mg_read_u64(json, "cte_index", UINT64_MAX);

	if (mg_json_get_bool(json, "is_recurring", false)) {
		return mg_read_null(reader, "recurring table");
	}
	for (size_t i = reader->cte_count; i-- > 0;) {
		if (reader->ctes[i].index == index) {
			return ref_new(reader, &reader->ctes[i]);
		}
	}
	return mg_read_null(reader, "reference to an unknown CTE");
}

static struct mg_node *read_recursive(struct mg_reader *reader, const struct mg_json *json,
                                      const struct mg_json *explain)
{
	const struct mg_json *keys = mg_json_get(json, "key_targets");

	if ((keys && keys->count > 0) || mg_json_get_bool(json, "ref_recurring", false)) {
		return mg_read_null(reader, "recursive CTE with keys");
	}
	struct mg_node *first = mg_read_kid(reader, json, explain, 0);

	if (!first) {
		return NULL;
	}
	const char *name = fresh_name(reader, "rec");

	mg_grow(reader->ctes, reader->cte_count, reader->cte_cap);
	reader->ctes[reader->cte_count++] =
		name_of(name, mg_read_u64(json, "table_index", UINT64_MAX), first);
	struct mg_node *next = mg_read_kid(reader, json, explain, 1);

	if (!next || next->column_count != first->column_count) {
		return next ? mg_read_null(reader, "recursive CTE over different widths") : NULL;
	}
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_RECCTE, 2, first->column_count);

	node->kids[0] = first;
	node->kids[1] = next;
	take_types(node, 0, first);
	node->name = name;
	node->all = mg_json_get_bool(json, "union_all", false);
	return node;
}

/* Outer rows and distinct correlation columns become CTEs; then the join is an ordinary one. */
static struct mg_node *read_delim_join(struct mg_reader *reader, const struct mg_json *json,
                                       const struct mg_json *explain)
{
	if (mg_json_get_bool(json, "delim_flipped", false)) {
		return mg_read_null(reader, "flipped delim join");
	}
	struct mg_node *left = mg_read_kid(reader, json, explain, 0);
	size_t count;

	if (!left) {
		return NULL;
	}
	struct mg_read_name outer = name_of(fresh_name(reader, "outer"), 0, left);
	struct mg_expr **columns =
		mg_read_exprs(reader, mg_json_get(json, "duplicate_eliminated_columns"), &count);

	if (!columns || mg_read_check_all(reader, columns, count, left->column_count)) {
		return NULL;
	}
	struct mg_node *keys = mg_node_project(reader->arena, ref_new(reader, &outer), columns, count);
	struct mg_node *distinct = mg_read_over(reader, MG_OP_DISTINCT, keys, 0);
	const char *name = fresh_name(reader, "delim");

	distinct->rows = keys->rows;
	mg_grow(reader->delims, reader->delim_count, reader->delim_cap);
	reader->delims[reader->delim_count++] = name_of(name, 0, distinct);
	struct mg_node *right = mg_read_kid(reader, json, explain, 1);

	reader->delim_count--;
	struct mg_node *join = right ? join_finish(reader, json, ref_new(reader, &outer), right, false)
	                             : NULL;

	return join ? cte_new(reader, outer.name, left, cte_new(reader, name, distinct, join)) : NULL;
}

static struct mg_node *read_delim_get(struct mg_reader *reader)
{
	if (!reader->delim_count) {
		return mg_read_null(reader, "correlation without an outer query");
	}
	return ref_new(reader, &reader->delims[reader->delim_count - 1]);
}

/* ---- all together ---- */

static struct mg_node *read_operator(struct mg_reader *reader, const char *op,
                                     const struct mg_json *json, const struct mg_json *explain)
{
	static const struct {
		const char *name;
		struct mg_node *(*read)(struct mg_reader *, const struct mg_json *, const struct mg_json *);
	} readers[] = {
		{ "GET", mg_read_get },
		{ "PROJECTION", read_projection },
		{ "FILTER", read_where },
		{ "LIMIT", read_limit },
		{ "AGGREGATE_AND_GROUP_BY", read_aggregate },
		{ "DISTINCT", read_distinct },
		{ "ANY_JOIN", read_any_join },
		{ "CROSS_PRODUCT", read_cross },
		{ "MATERIALIZED_CTE", read_cte },
		{ "RECURSIVE_CTE", read_recursive },
		{ "DELIM_JOIN", read_delim_join },
	};

	for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
		if (strcmp(op, readers[i].name) == 0) {
			return readers[i].read(reader, json, explain);
		}
	}
	if (strcmp(op, "COMPARISON_JOIN") == 0 || strcmp(op, "ASOF_JOIN") == 0) {
		return read_join(reader, json, explain, op[0] == 'A');
	}
	if (strcmp(op, "ORDER_BY") == 0 || strcmp(op, "TOP_N") == 0) {
		return read_order(reader, json, explain, op[0] == 'T');
	}
	if (strcmp(op, "WINDOW") == 0 || strcmp(op, "UNNEST") == 0) {
		return read_append(reader, json, explain, op[0] == 'W' ? MG_OP_WINDOW : MG_OP_UNNEST);
	}
	if (strcmp(op, "UNION") == 0) {
		return read_setop(reader, json, explain, MG_OP_UNION);
	}
	if (strcmp(op, "EXCEPT") == 0 || strcmp(op, "INTERSECT") == 0) {
		return read_setop(reader, json, explain, op[0] == 'E' ? MG_OP_EXCEPT : MG_OP_INTERSECT);
	}
	if (strcmp(op, "EMPTY_RESULT") == 0) {
		return mg_read_empty(reader, json);
	}
	if (strcmp(op, "EXPRESSION_GET") == 0) {
		return mg_read_values(reader, json);
	}
	if (strcmp(op, "CTE_REF") == 0) {
		return read_cte_ref(reader, json);
	}
	if (strcmp(op, "DELIM_GET") == 0) {
		return read_delim_get(reader);
	}
	if (strcmp(op, "DUMMY_SCAN") == 0) {
		return read_dummy(reader);
	}
	return mg_read_null(reader, "operator %s", op);
}

static struct mg_node *read_node(struct mg_reader *reader, const struct mg_json *json,
                                 const struct mg_json *explain)
{
	const char *op = mg_json_get_text(json, "type");

	if (!op || strncmp(op, "LOGICAL_", 8) != 0) {
		return mg_read_null(reader, "operator %s", op ? op : "without a type");
	}
	struct mg_node *node = read_operator(reader, op + 8, json, explain);

	if (!node) {
		return NULL;
	}
	const char *estimate =
		mg_json_get_text(mg_json_get(explain, "extra_info"), "Estimated Cardinality");

	if (estimate) {
		node->rows = strtod(estimate, NULL);
	}
	for (size_t i = 0; node->rows < 0 && i < node->kid_count; i++) {
		node->rows = node->kids[i]->rows > 1 ? node->kids[i]->rows : -1;
	}
	return node;
}

int mg_plan_read_sized(struct mg_arena *arena, const struct mg_json *plan,
                       const struct mg_json *explain, struct mg_node **out, struct mg_error *err)
{
	struct mg_error own;
	struct mg_reader reader = { .arena = arena, .err = err ? err : &own, .table = UINT64_MAX };

	*out = read_node(&reader, plan, explain);
	mg_free(reader.ctes);
	mg_free(reader.delims);
	return *out ? 0 : reader.err->code;
}

int mg_plan_read(struct mg_arena *arena, const struct mg_json *plan, struct mg_node **out,
                 struct mg_error *err)
{
	return mg_plan_read_sized(arena, plan, NULL, out, err);
}
