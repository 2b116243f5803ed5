/*
 * agg.c - aggregation of partitioned rows.
 *
 * In order of preference: every group is whole on one participant already; partial aggregates where
 * the rows are, brought together and finished; for DISTINCT over one argument, partial by (groups,
 * argument) first, so that each value travels once; raw rows repartitioned by the groups, where
 * DuckDB's own function sees all of them; raw rows gathered.
 *
 * Grouping sets are applied by the final step only.  Partial rows are counted before it is decided
 * whether the coordinator finishes (few groups) or all participants do (many).
 */
#include "sql/place.h"

#include <string.h>

#define RAW_ROWS_GATHERED 10000

struct agg {
	struct mg_node *node;
	struct mg_node *kid; /* placed */
	size_t *hashed;      /* groups that are in every set and may be hash keys */
	size_t hashed_count;
	struct mg_cols local; /* columns of kid that are groups in every set */
	double rows;          /* groups, estimated */
};

/* The pieces of all aggregates, each made once, and the final expression of each aggregate. */
struct pieces {
	struct mg_expr **exprs;
	size_t count;
	const char **finals;  /* parallel to the node's aggregates; NULL for a DISTINCT one */
	size_t (*columns)[6]; /* index into exprs of the pieces of each aggregate */
	size_t *column_counts;
};

static bool in_all_sets(const struct mg_node *node, size_t group)
{
	for (size_t s = 0; s < node->set_count; s++) {
		bool found = false;
		for (size_t i = 0; i < node->set_sizes[s]; i++) {
			found = found || node->sets[s][i] == group;
		}
		if (!found) {
			return false;
		}
	}
	return true;
}

static struct agg prepare(struct mg_place *place, struct mg_node *node, struct mg_node *kid)
{
	struct agg agg = { .node = node, .kid = kid };
	struct mg_node *sized = mg_node_copy(place->arena, node);
	mg_place_size(place, sized, &kid, 1);
	agg.rows = sized->rows;
	agg.hashed = mg_arena_new_array(place->arena, size_t, node->group_count + 1);
	for (size_t i = 0; i < node->group_count; i++) {
		if (!in_all_sets(node, i)) {
			continue;
		}
		long column = mg_expr_plain(node->groups[i]);
		if (column >= 0) {
			mg_cols_add(place->arena, &agg.local, (size_t)column);
		}
		if (mg_type_hashable(node->groups[i]->type)) {
			agg.hashed[agg.hashed_count++] = i;
		}
	}
	return agg;
}

static struct mg_node *finish(struct mg_place *place, const struct agg *agg, struct mg_node *kid,
                              struct mg_dist dist)
{
	if (!kid) {
		return NULL;
	}
	struct mg_node *copy = mg_node_copy(place->arena, agg->node);
	copy->kids[0] = kid;
	copy->dist = dist;
	mg_place_size(place, copy, &agg->kid, 1);
	return copy;
}

/* Groups are the first columns of the output. */
static struct mg_dist local_dist(struct mg_place *place, const struct agg *agg)
{
	const struct mg_node *node = agg->node;
	struct mg_cols *to =
		mg_arena_new_array(place->arena, struct mg_cols, agg->kid->column_count + 1);
	for (size_t i = 0; i < node->group_count; i++) {
		long column = mg_expr_plain(node->groups[i]);
		if (column >= 0 && in_all_sets(node, i)) {
			mg_cols_add(place->arena, &to[column], i);
		}
	}
	return mg_dist_map(place->arena, &agg->kid->dist, to, agg->kid->column_count);
}

static struct mg_expr **group_refs(struct mg_place *place, const struct mg_node *node)
{
	struct mg_expr **refs =
		mg_arena_new_array(place->arena, struct mg_expr *, node->group_count + 1);
	for (size_t i = 0; i < node->group_count; i++) {
		refs[i] = mg_expr_ref(place->arena, i, node->groups[i]->type);
	}
	return refs;
}

/* Location keys of the hashed groups, as columns of a node whose first columns are the groups. */
static struct mg_expr **hash_refs(struct mg_place *place, const struct agg *agg)
{
	struct mg_expr **refs =
		mg_arena_new_array(place->arena, struct mg_expr *, agg->hashed_count + 1);
	for (size_t i = 0; i < agg->hashed_count; i++) {
		refs[i] =
			mg_expr_ref(place->arena, agg->hashed[i], agg->node->groups[agg->hashed[i]]->type);
	}
	return refs;
}

static struct mg_node *new_agg(struct mg_place *place, struct mg_node *kid, struct mg_expr **groups,
                               size_t group_count, struct mg_expr **exprs, size_t expr_count)
{
	struct mg_node *node = mg_node_new(place->arena, MG_OP_AGG, 1, group_count + expr_count);
	node->kids[0] = kid;
	node->groups = groups;
	node->group_count = group_count;
	node->exprs = exprs;
	node->expr_count = expr_count;
	for (size_t i = 0; i < group_count; i++) {
		node->types[i] = groups[i]->type;
	}
	for (size_t i = 0; i < expr_count; i++) {
		node->types[group_count + i] = exprs[i]->type;
	}
	node->dist = kid->dist.kind == MG_DIST_PART ? mg_dist_of(MG_DIST_PART) : kid->dist;
	return node;
}

/* ---- pieces ---- */

static size_t piece_index(struct pieces *pieces, struct mg_expr *piece)
{
	for (size_t i = 0; i < pieces->count; i++) {
		if (mg_expr_equal(pieces->exprs[i], piece) &&
		    mg_text_eq(pieces->exprs[i]->merge, piece->merge)) {
			return i;
		}
	}
	pieces->exprs[pieces->count] = piece;
	return pieces->count++;
}

static bool is_distinct(const struct mg_expr *expr)
{
	return expr->distinct && !mg_agg_ignores_distinct(expr);
}

/* False when an aggregate that is not DISTINCT cannot be split. */
static bool collect_pieces(struct mg_place *place, const struct mg_node *node, bool skip_distinct,
                           struct pieces *out)
{
	size_t count = node->expr_count;
	*out = (struct pieces){ .exprs =
		                        mg_arena_new_array(place->arena, struct mg_expr *, count * 6 + 1) };
	out->finals = mg_arena_new_array(place->arena, const char *, count + 1);
	out->columns = mg_arena_alloc(place->arena, (count + 1) * sizeof *out->columns);
	out->column_counts = mg_arena_new_array(place->arena, size_t, count + 1);
	for (size_t i = 0; i < count; i++) {
		if (skip_distinct && is_distinct(node->exprs[i])) {
			continue;
		}
		struct mg_agg_split split;
		if (!mg_agg_decompose(place->arena, node->exprs[i], &split)) {
			return false;
		}
		out->finals[i] = split.final;
		out->column_counts[i] = split.piece_count;
		for (size_t p = 0; p < split.piece_count; p++) {
			out->columns[i][p] = piece_index(out, split.pieces[p]);
		}
	}
	return true;
}

/* Final expression of aggregate i, its pieces being columns from `base` on. */
static struct mg_expr *final_of(struct mg_place *place, const struct mg_node *node,
                                const struct pieces *pieces, size_t i, size_t base)
{
	struct mg_expr *kids[6];
	for (size_t p = 0; p < pieces->column_counts[i]; p++) {
		size_t column = pieces->columns[i][p];
		kids[p] = mg_expr_ref(place->arena, base + column, pieces->exprs[column]->type);
	}
	return mg_expr_raw(place->arena, pieces->finals[i], node->exprs[i]->type,
	                   pieces->column_counts[i], kids);
}

/* ---- bringing partial rows together ---- */

/* Decide by the number of partial rows; *hash says what was done. */
static struct mg_node *bring_together(struct mg_place *place, struct mg_node *partial,
                                      double groups, struct mg_expr **keys, size_t key_count,
                                      bool *hash, const char *label)
{
	enum mg_strategy strategy = place->env->strategy;
	*hash = key_count > 0 && strategy != MG_STRATEGY_BROADCAST;
	if (*hash && strategy != MG_STRATEGY_REPARTITION) {
		if (place->env->run && groups > MG_PLACE_GROUPS_SURE) {
			partial = mg_place_keep(place, partial, label);
			if (!partial) {
				return NULL;
			}
		}
		*hash = mg_place_rows(place, partial) > MG_PLACE_GROUPS_GATHERED;
	}
	mg_place_note(place, "aggregate: %s, then %s (%.0f rows%s)", label,
	              *hash ? "repartitioned by the groups" : "gathered", mg_place_rows(place, partial),
	              partial->counted ? " counted" : " estimated");
	return *hash ? mg_place_rehash(place, partial, keys, key_count, label)
	             : mg_place_gather(place, partial, label);
}

static struct mg_node *two_phase(struct mg_place *place, const struct agg *agg)
{
	const struct mg_node *node = agg->node;
	struct pieces pieces;
	if (!collect_pieces(place, node, false, &pieces) ||
	    (node->group_count == 0 && pieces.count == 0)) {
		return NULL;
	}
	struct mg_node *partial =
		new_agg(place, agg->kid, node->groups, node->group_count, pieces.exprs, pieces.count);
	double groups = agg->rows;
	double rows = mg_place_rows(place, agg->kid);
	partial->rows = groups * place->nodes < rows ? groups * place->nodes : rows;
	bool hash = false;
	struct mg_node *moved = bring_together(place, partial, groups, hash_refs(place, agg),
	                                       agg->hashed_count, &hash, "partial");
	struct mg_node *final = finish(place, agg, moved, mg_dist_of(MG_DIST_SINGLE));
	if (!final) {
		return NULL;
	}
	final->groups = group_refs(place, node);
	final->exprs = mg_arena_new_array(place->arena, struct mg_expr *, node->expr_count + 1);
	for (size_t i = 0; i < node->expr_count; i++) {
		final->exprs[i] = final_of(place, node, &pieces, i, node->group_count);
	}
	final->dist = moved->dist;
	return final;
}

/* ---- DISTINCT over one argument ---- */

/* The argument of all DISTINCT aggregates of node, or NULL. */
static struct mg_expr *distinct_argument(const struct mg_node *node)
{
	static const char *const names[] = { "count", "sum", "sum_no_overflow", "avg" };
	struct mg_expr *argument = NULL;
	for (size_t i = 0; i < node->expr_count; i++) {
		const struct mg_expr *expr = node->exprs[i];
		if (!is_distinct(expr)) {
			continue;
		}
		bool known = false;
		for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
			known = known || strcmp(expr->name, names[n]) == 0;
		}
		if (!known || expr->filter || expr->order_count > 0 || expr->kid_count != 1 ||
		    (argument && !mg_expr_equal(argument, expr->kids[0]))) {
			return NULL;
		}
		argument = expr->kids[0];
	}
	return argument && mg_type_hashable(argument->type) && !mg_expr_volatile(argument) ? argument
	                                                                                   : NULL;
}

static struct mg_expr **merges_of(struct mg_place *place, const struct pieces *pieces, size_t base)
{
	struct mg_expr **exprs = mg_arena_new_array(place->arena, struct mg_expr *, pieces->count + 1);
	for (size_t i = 0; i < pieces->count; i++) {
		struct mg_expr *column = mg_expr_ref(place->arena, base + i, pieces->exprs[i]->type);
		exprs[i] =
			mg_expr_raw(place->arena, pieces->exprs[i]->merge, pieces->exprs[i]->type, 1, &column);
	}
	return exprs;
}

static struct mg_expr *plain_aggregate(struct mg_place *place, const struct mg_expr *distinct,
                                       struct mg_expr *argument)
{
	struct mg_expr *copy = mg_expr_copy(place->arena, distinct);
	copy->distinct = false;
	copy->kids = mg_arena_new_array(place->arena, struct mg_expr *, 1);
	copy->kids[0] = argument;
	return copy;
}

/* Whole groups of (groups, argument) rows are together in `moved`: merge doubles, then finish. */
static struct mg_node *distinct_finish(struct mg_place *place, const struct agg *agg,
                                       struct mg_node *moved, const struct pieces *pieces,
                                       struct mg_expr *argument)
{
	const struct mg_node *node = agg->node;
	size_t groups = node->group_count;
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, groups + 1);
	memcpy(keys, group_refs(place, node), groups * sizeof *keys);
	keys[groups] = mg_expr_ref(place->arena, groups, argument->type);
	struct mg_node *merged = new_agg(place, moved, keys, groups + 1,
	                                 merges_of(place, pieces, groups + 1), pieces->count);
	merged->rows = moved->rows;
	struct mg_node *final = finish(place, agg, merged, moved->dist);
	final->groups = group_refs(place, node);
	final->exprs = mg_arena_new_array(place->arena, struct mg_expr *, node->expr_count + 1);
	for (size_t i = 0; i < node->expr_count; i++) {
		final->exprs[i] = is_distinct(node->exprs[i])
		                      ? plain_aggregate(place, node->exprs[i], keys[groups])
		                      : final_of(place, node, pieces, i, groups + 1);
	}
	return final;
}

/* No groups and many values: each value on one participant, a second partial step, then the end. */
static struct mg_node *distinct_ungrouped(struct mg_place *place, const struct agg *agg,
                                          struct mg_node *moved, const struct pieces *pieces,
                                          struct mg_expr *argument)
{
	const struct mg_node *node = agg->node;
	struct mg_expr *key = mg_expr_ref(place->arena, 0, argument->type);
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, 1);
	keys[0] = key;
	struct mg_node *merged =
		new_agg(place, moved, keys, 1, merges_of(place, pieces, 1), pieces->count);
	merged->rows = moved->rows;
	merged->dist = moved->dist;
	/* Merged pieces stand first, then those of the DISTINCT aggregates over single values. */
	struct mg_node *plain = mg_node_copy(place->arena, node);
	plain->exprs = mg_arena_new_array(place->arena, struct mg_expr *, node->expr_count + 1);
	struct pieces second = *pieces;
	second.exprs = mg_arena_new_array(place->arena, struct mg_expr *,
	                                  pieces->count + node->expr_count * 6 + 1);
	memcpy(second.exprs, merges_of(place, pieces, 1), pieces->count * sizeof *second.exprs);
	for (size_t i = 0; i < node->expr_count; i++) {
		struct mg_agg_split split;
		if (!is_distinct(node->exprs[i])) {
			continue;
		}
		if (!mg_agg_decompose(place->arena, plain_aggregate(place, node->exprs[i], key), &split)) {
			mg_error_set(place->err, MG_E_INTERNAL, "a distinct aggregate lost its rule");
			return NULL;
		}
		second.finals[i] = split.final;
		second.column_counts[i] = split.piece_count;
		for (size_t p = 0; p < split.piece_count; p++) {
			second.columns[i][p] = second.count;
			second.exprs[second.count++] = split.pieces[p];
		}
	}
	struct mg_node *partial = new_agg(place, merged, NULL, 0, second.exprs, second.count);
	struct mg_node *gathered = mg_place_gather(place, partial, "partial");
	struct mg_node *final = finish(place, agg, gathered, mg_dist_of(MG_DIST_SINGLE));
	if (!final) {
		return NULL;
	}
	final->exprs = plain->exprs;
	for (size_t i = 0; i < node->expr_count; i++) {
		final->exprs[i] = final_of(place, node, &second, i, 0);
	}
	return final;
}

static struct mg_node *two_phase_distinct(struct mg_place *place, const struct agg *agg)
{
	const struct mg_node *node = agg->node;
	struct mg_expr *argument = node->set_count == 0 ? distinct_argument(node) : NULL;
	struct pieces pieces;
	if (!argument || !collect_pieces(place, node, true, &pieces) ||
	    (node->group_count > 0 && agg->hashed_count == 0)) {
		return NULL;
	}
	for (size_t i = 0; i < pieces.count; i++) {
		if (!pieces.exprs[i]->merge) {
			return NULL;
		}
	}
	size_t groups = node->group_count;
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, groups + 1);
	for (size_t i = 0; i < groups; i++) {
		keys[i] = node->groups[i];
	}
	keys[groups] = argument;
	struct mg_node *partial =
		new_agg(place, agg->kid, keys, groups + 1, pieces.exprs, pieces.count);
	partial->rows = mg_place_rows(place, agg->kid);
	struct mg_expr **by = hash_refs(place, agg);
	size_t by_count = agg->hashed_count;
	if (groups == 0) {
		by[0] = mg_expr_ref(place->arena, 0, argument->type);
		by_count = 1;
	}
	bool hash = false;
	struct mg_node *moved =
		bring_together(place, partial, partial->rows, by, by_count, &hash, "distinct");
	if (!moved) {
		return NULL;
	}
	return groups == 0 && hash ? distinct_ungrouped(place, agg, moved, &pieces, argument)
	                           : distinct_finish(place, agg, moved, &pieces, argument);
}

/* ---- the rest ---- */

static bool uses_volatile(const struct mg_node *node)
{
	for (size_t i = 0; i < node->group_count; i++) {
		if (mg_expr_volatile(node->groups[i])) {
			return true;
		}
	}
	return false;
}

static struct mg_node *raw_rows(struct mg_place *place, const struct agg *agg)
{
	double rows = mg_place_rows(place, agg->kid);
	enum mg_strategy strategy = place->env->strategy;
	bool hash = agg->hashed_count > 0 && !uses_volatile(agg->node) &&
	            strategy != MG_STRATEGY_BROADCAST &&
	            (rows > RAW_ROWS_GATHERED || strategy == MG_STRATEGY_REPARTITION);
	mg_place_note(place, "aggregate: an aggregate needs all rows of a group; rows %s (%.0f rows)",
	              hash ? "repartitioned by the groups" : "gathered", rows);
	if (!hash) {
		return finish(place, agg, mg_place_gather(place, agg->kid, "raw rows"),
		              mg_dist_of(MG_DIST_SINGLE));
	}
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, agg->hashed_count);
	for (size_t i = 0; i < agg->hashed_count; i++) {
		keys[i] = agg->node->groups[agg->hashed[i]];
	}
	struct mg_dist dist = mg_dist_keyed(place->arena, hash_refs(place, agg), agg->hashed_count);
	return finish(place, agg, mg_place_rehash(place, agg->kid, keys, agg->hashed_count, "raw rows"),
	              dist);
}

struct mg_node *mg_place_agg(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *kid = mg_place_node(place, node->kids[0]);
	if (!kid) {
		return NULL;
	}
	struct agg agg = prepare(place, node, kid);
	if (mg_dist_within(&kid->dist, &agg.local)) {
		return finish(place, &agg, kid, local_dist(place, &agg));
	}
	struct mg_node *out = NULL;
	if (!uses_volatile(node)) {
		out = two_phase(place, &agg);
		if (!out && place->err->code == 0) {
			out = two_phase_distinct(place, &agg);
		}
	}
	return out || place->err->code != 0 ? out : raw_rows(place, &agg);
}
