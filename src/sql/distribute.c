/*
 * distribute.c - walk the pruned tree bottom-up, derive where each operator's rows are, and move
 * rows where an operator could not be right without it.
 *
 * Correctness rests on three rules: a placed node's dist tells the truth; an operator runs on every
 * participant over what it holds only when locate.c (or the rule beside it here) says that the
 * union of the parts is the answer; and replicas never diverge: what may choose differently on each
 * participant (LIMIT, windows, unordered or inexact aggregates, random()) is SINGLE on replicated
 * input.  Joins and aggregates have files of their own.
 *
 * The depth of a tree is limited so that no query can exhaust the stack.
 */
#include "sql/place.h"

#include "base/str.h"

#include <string.h>

#define DEPTH_MAX 500

/* ---- helpers ---- */

bool mg_place_volatile(const struct mg_node *node)
{
	for (size_t i = 0; i < node->expr_count; i++) {
		if (mg_expr_volatile(node->exprs[i])) {
			return true;
		}
	}
	for (size_t i = 0; i < node->group_count; i++) {
		if (mg_expr_volatile(node->groups[i])) {
			return true;
		}
	}
	for (size_t i = 0; i < node->row_count; i++) {
		for (size_t c = 0; c < node->column_count; c++) {
			if (mg_expr_volatile(node->row_values[i][c])) {
				return true;
			}
		}
	}
	return false;
}

struct mg_node *mg_place_refuse(struct mg_place *place, const char *reason)
{
	mg_error_set(place->err, MG_E_UNSUPPORTED, "%s", reason);
	return NULL;
}

static struct mg_node *with_kid(struct mg_place *place, const struct mg_node *node,
                                struct mg_node *kid)
{
	struct mg_node *copy = mg_node_copy(place->arena, node);
	copy->kids[0] = kid;
	copy->dist = kid->dist;
	mg_place_size(place, copy, &kid, 1);
	return copy;
}

/* Placed first child of node, or NULL. */
static struct mg_node *first_kid(struct mg_place *place, struct mg_node *node)
{
	return mg_place_node(place, node->kids[0]);
}

/* References to the columns of node that may be hash keys. */
static struct mg_expr **hash_columns(struct mg_place *place, const struct mg_node *node,
                                     size_t *count)
{
	struct mg_expr **keys =
		mg_arena_new_array(place->arena, struct mg_expr *, node->column_count + 1);
	*count = 0;
	for (size_t i = 0; i < node->column_count; i++) {
		if (mg_type_hashable(node->types[i])) {
			keys[(*count)++] = mg_expr_ref(place->arena, i, node->types[i]);
		}
	}
	return keys;
}

/* ---- leaves and operators that keep the location ---- */

static struct mg_node *place_scan(struct mg_place *place, struct mg_node *node)
{
	const struct mg_table_place *table =
		place->env->find_table(place->env->arg, node->schema, node->table);
	if (!table) {
		mg_error_set(place->err, MG_E_UNSUPPORTED,
		             "the plan reads \"%s.%s\", which is not a stored table", node->schema,
		             node->table);
		return NULL;
	}
	struct mg_node *copy = mg_node_copy(place->arena, node);
	mg_place_size(place, copy, NULL, 0);
	if (place->env->participants <= 1 && place->env->strategy == MG_STRATEGY_AUTO) {
		copy->dist = mg_dist_of(MG_DIST_SINGLE); /* alone: nothing to cut */
		return copy;
	}
	if (table->key_count == 0) {
		copy->dist = mg_dist_of(MG_DIST_REPL);
		return copy;
	}
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, table->key_count);
	size_t found = 0;
	for (size_t k = 0; k < table->key_count; k++) {
		for (size_t i = 0; i < node->column_count && found == k; i++) {
			if (node->cols[i] && mg_text_eq_nocase(node->cols[i], table->keys[k])) {
				keys[found++] = mg_expr_ref(place->arena, i, node->types[i]);
			}
		}
	}
	copy->dist = found == table->key_count ? mg_dist_keyed(place->arena, keys, found)
	                                       : mg_dist_of(MG_DIST_PART);
	return copy;
}

static struct mg_node *place_constant(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *copy = mg_node_copy(place->arena, node);
	mg_place_size(place, copy, NULL, 0);
	copy->dist = mg_dist_of(MG_DIST_REPL);
	return copy;
}

static struct mg_node *place_project(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = first_kid(place, node);
	if (!kid) {
		return NULL;
	}
	struct mg_node *copy = with_kid(place, node, kid);
	struct mg_cols *to = mg_arena_new_array(place->arena, struct mg_cols, kid->column_count + 1);
	for (size_t i = 0; i < node->expr_count; i++) {
		long column = mg_expr_plain(node->exprs[i]);
		if (column >= 0) {
			mg_cols_add(place->arena, &to[column], i);
		}
	}
	copy->dist = mg_dist_map(place->arena, &kid->dist, to, kid->column_count);
	return copy;
}

static struct mg_node *place_same(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = first_kid(place, node);
	return kid ? with_kid(place, node, kid) : NULL;
}

/* ---- order and limits ---- */

static struct mg_node *place_order(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = first_kid(place, node);
	kid = kid ? mg_place_gather(place, kid, "rows") : NULL;
	return kid ? with_kid(place, node, kid) : NULL;
}

static struct mg_node *place_limit(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = first_kid(place, node);
	if (!kid) {
		return NULL;
	}
	if (kid->dist.kind == MG_DIST_PART && node->has_limit &&
	    node->limit <= UINT64_MAX - node->offset) {
		struct mg_node *part = with_kid(place, node, kid);
		part->limit = node->limit + node->offset;
		part->offset = 0;
		double most = (double)part->limit * place->nodes;
		part->rows = kid->rows < most ? kid->rows : most;
		kid = part;
	}
	kid = mg_place_gather(place, kid, node->op == MG_OP_TOPN ? "top rows" : "rows");
	return kid ? with_kid(place, node, kid) : NULL;
}

/* ---- DISTINCT, windows ---- */

static struct mg_node *place_distinct(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = first_kid(place, node);
	if (!kid) {
		return NULL;
	}
	struct mg_cols on = { 0 };
	bool stable = true;
	size_t key_count = 0;
	struct mg_expr **keys = hash_columns(place, node, &key_count);
	for (size_t i = 0; node->group_count == 0 && i < node->column_count; i++) {
		mg_cols_add(place->arena, &on, i);
	}
	if (node->group_count > 0) {
		keys = mg_arena_new_array(place->arena, struct mg_expr *, node->group_count);
		key_count = 0;
	}
	for (size_t i = 0; i < node->group_count; i++) {
		long column = mg_expr_plain(node->groups[i]);
		if (column >= 0) {
			mg_cols_add(place->arena, &on, (size_t)column);
		}
		stable = stable && !mg_expr_volatile(node->groups[i]);
		if (mg_type_hashable(node->groups[i]->type)) {
			keys[key_count++] = node->groups[i];
		}
	}
	if (mg_dist_within(&kid->dist, &on)) {
		return with_kid(place, node, kid);
	}
	if (!stable) {
		kid = mg_place_gather(place, kid, "rows");
		return kid ? with_kid(place, node, kid) : NULL;
	}
	struct mg_node *part = with_kid(place, node, kid);
	bool hash = key_count > 0 && place->env->strategy != MG_STRATEGY_BROADCAST;
	if (hash && place->env->strategy != MG_STRATEGY_REPARTITION) {
		if (place->env->run && mg_place_rows(place, kid) > MG_PLACE_GROUPS_SURE) {
			part = mg_place_keep(place, part, "distinct");
		}
		hash = part && mg_place_rows(place, part) > MG_PLACE_GROUPS_GATHERED;
	}
	if (!part) {
		return NULL;
	}
	mg_place_note(place, "distinct: on each participant, then %s (%.0f rows)",
	              hash ? "repartitioned" : "gathered", mg_place_rows(place, part));
	part = hash ? mg_place_rehash(place, part, keys, key_count, "distinct")
	            : mg_place_gather(place, part, "distinct");
	return part ? with_kid(place, node, part) : NULL;
}

/* Row numbers that only have to be different from each other. */
static bool is_row_id(const struct mg_node *node)
{
	for (size_t i = 0; i < node->expr_count; i++) {
		const struct mg_expr *expr = node->exprs[i];
		if (!expr->alias || strcmp(expr->alias, "delim_index") != 0 ||
		    strcmp(expr->kind, "WINDOW_ROW_NUMBER") != 0) {
			return false;
		}
	}
	return node->expr_count > 0;
}

/* Partition expressions that all windows of node share and that may be hash keys. */
static struct mg_expr **common_partitions(struct mg_place *place, const struct mg_node *node,
                                          size_t *count)
{
	*count = 0;
	const struct mg_window *first = node->expr_count > 0 ? node->exprs[0]->window : NULL;
	if (!first) {
		return NULL;
	}
	struct mg_expr **keys =
		mg_arena_new_array(place->arena, struct mg_expr *, first->partition_count + 1);
	for (size_t p = 0; p < first->partition_count; p++) {
		bool everywhere = mg_type_hashable(first->partitions[p]->type) &&
		                  !mg_expr_volatile(first->partitions[p]);
		for (size_t i = 1; i < node->expr_count && everywhere; i++) {
			const struct mg_window *other = node->exprs[i]->window;
			bool found = false;
			for (size_t q = 0; other && q < other->partition_count; q++) {
				found = found || mg_expr_equal(first->partitions[p], other->partitions[q]);
			}
			everywhere = found;
		}
		if (everywhere) {
			keys[(*count)++] = first->partitions[p];
		}
	}
	return keys;
}

static struct mg_node *place_window(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = first_kid(place, node);
	if (!kid) {
		return NULL;
	}
	if (kid->dist.kind == MG_DIST_PART && is_row_id(node)) {
		struct mg_node *copy = with_kid(place, node, kid);
		copy->op = MG_OP_PROJECT;
		copy->exprs = mg_arena_new_array(place->arena, struct mg_expr *, node->column_count);
		copy->expr_count = node->column_count;
		for (size_t i = 0; i < kid->column_count; i++) {
			copy->exprs[i] = mg_expr_ref(place->arena, i, kid->types[i]);
		}
		for (size_t i = kid->column_count; i < node->column_count; i++) {
			copy->exprs[i] = mg_expr_raw(
				place->arena, "(row_number() OVER () + (CAST(mg_node() AS BIGINT) << 48))",
				mg_type_simple("BIGINT"), 0, NULL);
		}
		return copy;
	}
	size_t key_count = 0;
	struct mg_expr **keys = common_partitions(place, node, &key_count);
	struct mg_cols cols = { 0 };
	for (size_t i = 0; i < key_count; i++) {
		long column = mg_expr_plain(keys[i]);
		if (column >= 0) {
			mg_cols_add(place->arena, &cols, (size_t)column);
		}
	}
	if (!mg_dist_within(&kid->dist, &cols)) {
		mg_place_note(place, "window: rows %s (%.0f rows estimated)",
		              key_count ? "repartitioned by PARTITION BY" : "gathered",
		              mg_place_rows(place, kid));
		kid = key_count ? mg_place_rehash(place, kid, keys, key_count, "window")
		                : mg_place_gather(place, kid, "window");
	}
	return kid ? with_kid(place, node, kid) : NULL;
}

/* ---- the walk ---- */

/* Replicas could come to different answers. */
static bool unstable(const struct mg_node *node)
{
	switch (node->op) {
	case MG_OP_LIMIT:
	case MG_OP_TOPN:
	case MG_OP_WINDOW:
	case MG_OP_UNNEST:
		return true;
	case MG_OP_DISTINCT:
		return node->group_count > 0;
	case MG_OP_AGG:
		for (size_t i = 0; i < node->expr_count; i++) {
			if (!mg_agg_stable(node->exprs[i])) {
				return true;
			}
		}
		return mg_place_volatile(node);
	default:
		return mg_place_volatile(node);
	}
}

/* Strategy GATHER, the floor of the ladder: base tables, pruned and filtered, go to the coordinator
 * at once. */
static struct mg_node *place_gathered(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *scan = place_scan(place, node->op == MG_OP_FILTER ? node->kids[0] : node);
	struct mg_node *rows = scan && node->op == MG_OP_FILTER ? with_kid(place, node, scan) : scan;
	return rows ? mg_place_gather(place, rows, "table") : NULL;
}

static bool is_table(const struct mg_node *node)
{
	return node->op == MG_OP_SCAN || (node->op == MG_OP_FILTER && node->kids[0]->op == MG_OP_SCAN);
}

static struct mg_node *place_any(struct mg_place *place, struct mg_node *node)
{
	if (place->env->strategy == MG_STRATEGY_GATHER && is_table(node)) {
		return place_gathered(place, node);
	}
	switch (node->op) {
	case MG_OP_SCAN:
		return place_scan(place, node);
	case MG_OP_ROWS:
	case MG_OP_FUNC:
	case MG_OP_EMPTY:
	case MG_OP_DUMMY:
		return place_constant(place, node);
	case MG_OP_PROJECT:
		return place_project(place, node);
	case MG_OP_FILTER:
	case MG_OP_UNNEST:
		return place_same(place, node);
	case MG_OP_JOIN:
		return mg_place_join(place, node);
	case MG_OP_AGG:
		return mg_place_agg(place, node);
	case MG_OP_DISTINCT:
		return place_distinct(place, node);
	case MG_OP_WINDOW:
		return place_window(place, node);
	case MG_OP_ORDER:
		return place_order(place, node);
	case MG_OP_LIMIT:
	case MG_OP_TOPN:
		return place_limit(place, node);
	case MG_OP_UNION:
		return mg_place_union(place, node);
	case MG_OP_EXCEPT:
	case MG_OP_INTERSECT:
		return mg_place_setop(place, node);
	case MG_OP_CTE:
		return mg_place_with(place, node);
	case MG_OP_REF:
		return mg_place_ref(place, node);
	case MG_OP_RECCTE:
		return mg_place_recursive(place, node);
	case MG_OP_READ:
		return node;
	case MG_OP_EXCHANGE:
		break;
	}
	return mg_place_refuse(place, "the plan holds an operator that cannot be placed");
}

struct mg_node *mg_place_node(struct mg_place *place, struct mg_node *node)
{
	if (place->depth >= DEPTH_MAX) {
		return mg_place_refuse(place, "the plan is nested too deeply");
	}
	place->depth++;
	struct mg_node *out = place_any(place, node);
	place->depth--;
	if (out && out->op != MG_OP_READ && out->dist.kind == MG_DIST_REPL && unstable(out)) {
		out = mg_place_gather(place, out, "rows");
	}
	return out;
}

/* Sequences live on the coordinator: a plan that draws numbers must not be cut. */
static void find_nextval(const struct mg_expr *expr, void *arg)
{
	bool *found = arg;
	if (expr->cls == MG_X_FUNCTION && expr->name &&
	    (strcmp(expr->name, "nextval") == 0 || strcmp(expr->name, "setseed") == 0)) {
		*found = true;
	}
}

static bool uses_nextval(const struct mg_node *node)
{
	bool found = false;
	for (size_t i = 0; i < node->expr_count; i++) {
		mg_expr_walk(node->exprs[i], find_nextval, &found);
	}
	for (size_t i = 0; i < node->kid_count && !found; i++) {
		found = uses_nextval(node->kids[i]);
	}
	return found;
}

int mg_plan_distribute(struct mg_plan_env *env, struct mg_node *root, struct mg_stage **result,
                       struct mg_error *err)
{
	struct mg_error local;
	if (!err) {
		err = &local;
	}
	mg_error_clear(err);
	struct mg_place place = {
		.env = env, .arena = env->arena, .err = err, .nodes = (double)env->participants
	};
	if (uses_nextval(root)) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "the plan draws numbers from a sequence");
	}
	/* What cannot be printed is found before anything runs. */
	char *sql = NULL;
	int rc = mg_plan_print(env->arena, root, &sql, err);
	if (rc != 0) {
		return rc;
	}
	if (!env->run) {
		mg_place_note(&place, "sizes are estimates; movements are decided at run time");
	}
	struct mg_node *placed = mg_place_node(&place, root);
	placed = placed ? mg_place_gather(&place, placed, "rows") : NULL;
	if (!placed) {
		return err->code;
	}
	return mg_place_result(&place, placed, result);
}
