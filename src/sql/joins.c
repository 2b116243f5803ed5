/*
 * joins.c - a join where neither side may have to move, and the cheapest of the ways where one
 * must.
 *
 * Equality conditions on hashable types (= and IS NOT DISTINCT FROM) may bring both sides together
 * by slot.  IN is three-valued: a NULL anywhere on its right side matters to every row, so a MARK
 * join may only be split by its correlation keys, which are IS NOT DISTINCT FROM; else its right
 * side goes to everybody.  When sizes decide, the cheaper-looking side is run in place and counted
 * first; a scan of a whole table is sized by the catalog and never run just to count it.
 */
#include "sql/place.h"

#include <string.h>

enum way {
	WAY_COLOCATED,
	WAY_BROADCAST_RIGHT,
	WAY_BROADCAST_LEFT,
	WAY_MOVE_RIGHT,
	WAY_MOVE_LEFT,
	WAY_MOVE_BOTH,
	WAY_GATHER,
	WAY_COUNT
};

static const char *const way_names[WAY_COUNT] = {
	"co-located", "broadcast right", "broadcast left", "move right",
	"move left",  "move both",       "gather",
};

static const char *const kind_names[] = {
	[MG_J_INNER] = "inner", [MG_J_LEFT] = "left", [MG_J_RIGHT] = "right", [MG_J_FULL] = "full",
	[MG_J_SEMI] = "semi",   [MG_J_ANTI] = "anti", [MG_J_MARK] = "mark",   [MG_J_SINGLE] = "single",
};

struct join {
	struct mg_node *node, *left, *right;
	struct mg_cond *conds; /* usable as hash keys */
	size_t cond_count;
	struct mg_cond *left_match; /* one for each key of the left side's location, or NULL */
	struct mg_cond *right_match;
	double cost[WAY_COUNT]; /* bytes that travel; negative: impossible */
};

/* ---- conditions ---- */

static bool cond_usable(const struct mg_cond *cond, bool only_not_distinct)
{
	if (!mg_cond_is_equality(cond) ||
	    (only_not_distinct && strcmp(cond->compare, "COMPARE_NOT_DISTINCT_FROM") != 0)) {
		return false;
	}
	return mg_type_same_slot(cond->left->type, cond->right->type);
}

static void usable_conds(struct mg_place *place, struct join *join)
{
	const struct mg_node *node = join->node;
	bool three_valued = false;
	for (size_t i = 0; i < node->cond_count && node->join == MG_J_MARK; i++) {
		three_valued = three_valued ||
		               strcmp(node->conds[i].compare, "COMPARE_NOT_DISTINCT_FROM") != 0;
	}
	join->conds = mg_arena_new_array(place->arena, struct mg_cond, node->cond_count + 1);
	for (size_t i = 0; i < node->cond_count; i++) {
		if (cond_usable(&node->conds[i], three_valued)) {
			join->conds[join->cond_count++] = node->conds[i];
		}
	}
}

static bool is_volatile(const struct mg_node *node)
{
	for (size_t i = 0; i < node->cond_count; i++) {
		if (mg_expr_volatile(node->conds[i].left) || mg_expr_volatile(node->conds[i].right)) {
			return true;
		}
	}
	for (size_t i = 0; i < node->pred_count; i++) {
		if (mg_expr_volatile(node->preds[i])) {
			return true;
		}
	}
	return false;
}

/* One condition for each key of a side's location, or NULL when they do not cover it. */
static struct mg_cond *match(struct mg_place *place, const struct join *join,
                             const struct mg_dist *dist, bool left)
{
	if (dist->kind != MG_DIST_PART || dist->key_count == 0) {
		return NULL;
	}
	struct mg_cond *out = mg_arena_new_array(place->arena, struct mg_cond, dist->key_count);
	for (size_t k = 0; k < dist->key_count; k++) {
		bool found = false;
		for (size_t i = 0; i < join->cond_count && !found; i++) {
			long column = mg_expr_plain(left ? join->conds[i].left : join->conds[i].right);
			found = column >= 0 && mg_cols_has(&dist->keys[k], (size_t)column);
			if (found) {
				out[k] = join->conds[i];
			}
		}
		if (!found) {
			return NULL;
		}
	}
	return out;
}

static struct mg_expr **side_keys(struct mg_place *place, const struct mg_cond *conds, size_t count,
                                  bool left)
{
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, count + 1);
	for (size_t i = 0; i < count; i++) {
		keys[i] = left ? conds[i].left : conds[i].right;
	}
	return keys;
}

/* ---- the result ---- */

static struct mg_node *joined(struct mg_place *place, const struct join *join, struct mg_node *left,
                              struct mg_node *right, bool colocated)
{
	if (!left || !right) {
		return NULL;
	}
	const struct mg_node *node = join->node;
	struct mg_node *copy = mg_node_copy(place->arena, node);
	copy->kids[0] = left;
	copy->kids[1] = right;
	if (!mg_dist_join(place->arena, node->join, node->asof, &left->dist, left->column_count,
	                  &right->dist, node->conds, node->cond_count, colocated, &copy->dist)) {
		mg_error_set(place->err, MG_E_INTERNAL, "a %s join was placed where its rows do not meet",
		             kind_names[node->join]);
		return NULL;
	}
	mg_place_size(place, copy, copy->kids, 2);
	return copy;
}

static struct mg_node *join_gathered(struct mg_place *place, const struct join *join)
{
	struct mg_node *left = mg_place_gather(place, join->left, "join");
	struct mg_node *right = left ? mg_place_gather(place, join->right, "join") : NULL;
	return joined(place, join, left, right, false);
}

/* ---- choosing ---- */

static bool may_broadcast_right(const struct join *join)
{
	return join->node->join != MG_J_RIGHT && join->node->join != MG_J_FULL &&
	       join->left->dist.kind == MG_DIST_PART;
}

static bool may_broadcast_left(const struct join *join)
{
	enum mg_join_kind kind = join->node->join;
	return (kind == MG_J_INNER || kind == MG_J_RIGHT) && !join->node->asof &&
	       join->right->dist.kind == MG_DIST_PART;
}

static void weigh(struct mg_place *place, struct join *join)
{
	double left = mg_place_bytes(place, join->left);
	double right = mg_place_bytes(place, join->right);
	double others = place->nodes > 1 ? place->nodes - 1 : 1;
	double share = others / place->nodes;
	/* Replicas are split where they are; what is not PART need not be gathered. */
	double move_left = join->left->dist.kind == MG_DIST_REPL ? 0 : left * share;
	double move_right = join->right->dist.kind == MG_DIST_REPL ? 0 : right * share;
	double smaller = left < right ? left : right;
	for (size_t i = 0; i < WAY_COUNT; i++) {
		join->cost[i] = -1;
	}
	if (mg_dist_colocated(&join->left->dist, &join->right->dist, join->conds, join->cond_count)) {
		join->cost[WAY_COLOCATED] = 0;
	}
	if (may_broadcast_right(join)) {
		join->cost[WAY_BROADCAST_RIGHT] = right * others;
	}
	if (may_broadcast_left(join)) {
		join->cost[WAY_BROADCAST_LEFT] = left * others;
	}
	if (join->left_match) {
		join->cost[WAY_MOVE_RIGHT] = move_right;
	}
	if (join->right_match) {
		join->cost[WAY_MOVE_LEFT] = move_left;
	}
	if (join->cond_count > 0) {
		join->cost[WAY_MOVE_BOTH] = move_left + move_right;
	}
	/* One participant then does all the work. */
	join->cost[WAY_GATHER] = (join->left->dist.kind == MG_DIST_PART ? left * share : 0) +
	                         (join->right->dist.kind == MG_DIST_PART ? right * share : 0) +
	                         8 * smaller + MG_PLACE_TINY_BYTES;
}

static enum way cheapest(const struct join *join)
{
	enum way best = WAY_GATHER;
	for (size_t i = WAY_COUNT; i-- > 0;) {
		if (join->cost[i] >= 0 && join->cost[i] <= join->cost[best]) {
			best = (enum way)i;
		}
	}
	return best;
}

static enum way first_possible(const struct join *join, const enum way *ways, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (join->cost[ways[i]] >= 0) {
			return ways[i];
		}
	}
	return WAY_GATHER;
}

static enum way forced(const struct join *join, enum mg_strategy strategy)
{
	static const enum way moves[] = { WAY_COLOCATED, WAY_MOVE_BOTH,       WAY_MOVE_RIGHT,
		                              WAY_MOVE_LEFT, WAY_BROADCAST_RIGHT, WAY_BROADCAST_LEFT };
	if (strategy == MG_STRATEGY_REPARTITION) {
		return first_possible(join, moves, sizeof moves / sizeof *moves);
	}
	double right = join->cost[WAY_BROADCAST_RIGHT];
	double left = join->cost[WAY_BROADCAST_LEFT];
	if (join->cost[WAY_COLOCATED] < 0 && (right >= 0 || left >= 0)) {
		return right < 0 || (left >= 0 && left < right) ? WAY_BROADCAST_LEFT : WAY_BROADCAST_RIGHT;
	}
	return cheapest(join);
}

/* Run a side in place when its size is only guessed. */
static bool count_side(struct mg_place *place, struct join *join, bool left)
{
	struct mg_node **side = left ? &join->left : &join->right;
	if (mg_place_known(place, *side)) {
		return true;
	}
	double guess = mg_place_rows(place, *side);
	*side = mg_place_keep(place, *side, "counted");
	if (!*side) {
		return false;
	}
	mg_place_note(place, "counted the %s side of a %s join: %.0f rows (%.0f estimated)",
	              left ? "left" : "right", kind_names[join->node->join],
	              mg_place_rows(place, *side), guess);
	weigh(place, join);
	return true;
}

/* Count what has to be counted before the choice is sure enough. */
static bool count_sides(struct mg_place *place, struct join *join)
{
	bool left_first = mg_place_bytes(place, join->left) <= mg_place_bytes(place, join->right);
	enum way way = cheapest(join);
	if (join->cost[way] == 0) {
		return true;
	}
	if (!count_side(place, join, left_first)) {
		return false;
	}
	double broadcast = join->cost[left_first ? WAY_BROADCAST_LEFT : WAY_BROADCAST_RIGHT];
	if (broadcast >= 0 && broadcast < MG_PLACE_TINY_BYTES) {
		return true;
	}
	/* Nothing is gained by knowing the other side when the choice would stand at a quarter of it.
	 */
	way = cheapest(join);
	bool stands = broadcast >= 0 && way == (left_first ? WAY_BROADCAST_LEFT : WAY_BROADCAST_RIGHT);
	for (size_t i = 0; i < WAY_COUNT && stands; i++) {
		stands = i == (size_t)way || join->cost[i] < 0 || join->cost[i] >= 4 * broadcast;
	}
	return stands || count_side(place, join, !left_first);
}

/* ---- doing it ---- */

/* A side whose rows only have to exist: equal rows need not travel twice. */
static struct mg_node *without_doubles(struct mg_place *place, const struct join *join,
                                       struct mg_node *right)
{
	enum mg_join_kind kind = join->node->join;
	if ((kind != MG_J_SEMI && kind != MG_J_ANTI && kind != MG_J_MARK) ||
	    join->node->pred_count > 0 || right->dist.kind != MG_DIST_PART || right->copied ||
	    right->column_count == 0) {
		return right;
	}
	struct mg_node *distinct = mg_node_new(place->arena, MG_OP_DISTINCT, 1, right->column_count);
	distinct->kids[0] = right;
	for (size_t i = 0; i < right->column_count; i++) {
		distinct->types[i] = right->types[i];
	}
	distinct->rows = right->rows;
	distinct->raw = right->raw;
	distinct->dist = right->dist;
	return distinct;
}

static struct mg_node *join_moved(struct mg_place *place, const struct join *join, enum way way)
{
	const struct mg_cond *used = join->conds;
	size_t count = join->cond_count;
	if (way == WAY_MOVE_RIGHT) {
		used = join->left_match;
		count = join->left->dist.key_count;
	} else if (way == WAY_MOVE_LEFT) {
		used = join->right_match;
		count = join->right->dist.key_count;
	}
	struct mg_node *left = join->left;
	struct mg_node *right = join->right;
	if (way != WAY_MOVE_RIGHT) {
		left = mg_place_rehash(place, left, side_keys(place, used, count, true), count, "join");
	}
	if (left && way != WAY_MOVE_LEFT) {
		right = mg_place_rehash(place, right, side_keys(place, used, count, false), count, "join");
	}
	return joined(place, join, left, right, true);
}

static struct mg_node *join_done(struct mg_place *place, const struct join *join, enum way way)
{
	mg_place_note(place, "%s join: %s (left %.0f rows, right %.0f rows, %.0f bytes travel)",
	              kind_names[join->node->join], way_names[way], mg_place_rows(place, join->left),
	              mg_place_rows(place, join->right), join->cost[way]);
	switch (way) {
	case WAY_COLOCATED:
		return joined(place, join, join->left, join->right, true);
	case WAY_BROADCAST_RIGHT:
		return joined(place, join, join->left,
		              mg_place_broadcast(place, without_doubles(place, join, join->right), "join"),
		              false);
	case WAY_BROADCAST_LEFT:
		return joined(place, join, mg_place_broadcast(place, join->left, "join"), join->right,
		              false);
	case WAY_MOVE_RIGHT:
	case WAY_MOVE_LEFT:
	case WAY_MOVE_BOTH:
		return join_moved(place, join, way);
	case WAY_GATHER:
	case WAY_COUNT:
		break;
	}
	return join_gathered(place, join);
}

struct mg_node *mg_place_join(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *regrouped = mg_place_regroup(place, node);
	if (regrouped != node) {
		mg_place_note(place, "%s join: moved down to the table that it filters",
		              kind_names[node->join]);
		return mg_place_node(place, regrouped);
	}
	struct join join = { .node = node };
	join.left = mg_place_node(place, node->kids[0]);
	join.right = join.left ? mg_place_node(place, node->kids[1]) : NULL;
	if (!join.right) {
		return NULL;
	}
	if (is_volatile(node)) {
		mg_place_note(place, "%s join: gathered, its condition must be computed once",
		              kind_names[node->join]);
		return join_gathered(place, &join);
	}
	struct mg_dist dist;
	if (mg_dist_join(place->arena, node->join, node->asof, &join.left->dist,
	                 join.left->column_count, &join.right->dist, node->conds, node->cond_count,
	                 false, &dist)) {
		if (dist.kind == MG_DIST_SINGLE) {
			return join_gathered(place, &join);
		}
		return joined(place, &join, join.left, join.right, false);
	}
	usable_conds(place, &join);
	join.left_match = match(place, &join, &join.left->dist, true);
	join.right_match = match(place, &join, &join.right->dist, false);
	weigh(place, &join);
	enum mg_strategy strategy = place->env->strategy;
	if (strategy == MG_STRATEGY_BROADCAST || strategy == MG_STRATEGY_REPARTITION) {
		return join_done(place, &join, forced(&join, strategy));
	}
	if (place->env->run && !count_sides(place, &join)) {
		return NULL;
	}
	return join_done(place, &join, cheapest(&join));
}
