/*
 * setops.c - UNION ALL, EXCEPT and INTERSECT over inputs that lie in different places.
 *
 * A union leaves partitioned inputs where they are; replicated and single ones are spread, so that
 * each of their rows is in one place only.  EXCEPT and INTERSECT compare whole rows: equal rows
 * meet when the inputs agree on one key, else all inputs move by all columns that can be hashed.
 */
#include "sql/place.h"

static struct mg_node **place_kids(struct mg_place *place, struct mg_node *node, bool *part,
                                   bool *repl)
{
	struct mg_node **kids = mg_arena_new_array(place->arena, struct mg_node *, node->kid_count + 1);
	*part = false;
	*repl = true;
	for (size_t i = 0; i < node->kid_count; i++) {
		kids[i] = mg_place_node(place, node->kids[i]);
		if (!kids[i]) {
			return NULL;
		}
		*part = *part || kids[i]->dist.kind == MG_DIST_PART;
		*repl = *repl && kids[i]->dist.kind == MG_DIST_REPL;
	}
	return kids;
}

/* Common location of those kids that are PART. */
static struct mg_dist common_dist(struct mg_place *place, struct mg_node *const *kids, size_t count)
{
	const struct mg_dist **dists =
		mg_arena_new_array(place->arena, const struct mg_dist *, count + 1);
	size_t parts = 0;
	for (size_t i = 0; i < count; i++) {
		if (kids[i]->dist.kind == MG_DIST_PART) {
			dists[parts++] = &kids[i]->dist;
		}
	}
	return mg_dist_union(place->arena, dists, parts);
}

/* One column of each key of dist, over node. */
static struct mg_expr **keys_of(struct mg_place *place, const struct mg_dist *dist,
                                const struct mg_node *node, size_t *count)
{
	struct mg_expr **keys = mg_arena_new_array(place->arena, struct mg_expr *, dist->key_count + 1);
	*count = 0;
	for (size_t k = 0; k < dist->key_count; k++) {
		for (size_t c = 0; c < node->column_count; c++) {
			if (mg_cols_has(&dist->keys[k], c)) {
				keys[(*count)++] = mg_expr_ref(place->arena, c, node->types[c]);
				break;
			}
		}
	}
	return keys;
}

static struct mg_node *with_kids(struct mg_place *place, const struct mg_node *node,
                                 struct mg_node **kids, struct mg_dist dist)
{
	struct mg_node *copy = mg_node_copy(place->arena, node);
	for (size_t i = 0; i < node->kid_count; i++) {
		copy->kids[i] = kids[i];
	}
	copy->dist = dist;
	mg_place_size(place, copy, kids, node->kid_count);
	return copy;
}

static bool gather_kids(struct mg_place *place, struct mg_node **kids, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		kids[i] = mg_place_gather(place, kids[i], "rows");
		if (!kids[i]) {
			return false;
		}
	}
	return true;
}

struct mg_node *mg_place_union(struct mg_place *place, struct mg_node *node)
{
	bool part = false;
	bool repl = true;
	struct mg_node **kids = place_kids(place, node, &part, &repl);
	if (!kids) {
		return NULL;
	}
	if (!part) {
		if (!repl && !gather_kids(place, kids, node->kid_count)) {
			return NULL;
		}
		return with_kids(place, node, kids, mg_dist_of(repl ? MG_DIST_REPL : MG_DIST_SINGLE));
	}
	struct mg_dist dist = common_dist(place, kids, node->kid_count);
	for (size_t i = 0; i < node->kid_count; i++) {
		if (kids[i]->dist.kind == MG_DIST_PART) {
			continue;
		}
		size_t count = 0;
		struct mg_expr **keys = keys_of(place, &dist, kids[i], &count);
		kids[i] = mg_place_spread(place, kids[i], keys, count);
		if (!kids[i]) {
			return NULL;
		}
	}
	return with_kids(place, node, kids, common_dist(place, kids, node->kid_count));
}

/* Columns whose values have the same slot in every input of a set operation. */
static struct mg_expr **shared_hash_columns(struct mg_place *place, const struct mg_node *node,
                                            struct mg_node *const *kids, size_t *count)
{
	struct mg_expr **keys =
		mg_arena_new_array(place->arena, struct mg_expr *, node->column_count + 1);
	*count = 0;
	for (size_t c = 0; c < node->column_count; c++) {
		bool shared = true;
		for (size_t i = 0; i < node->kid_count; i++) {
			shared = shared && mg_type_same_slot(node->types[c], kids[i]->types[c]);
		}
		if (shared) {
			keys[(*count)++] = mg_expr_ref(place->arena, c, node->types[c]);
		}
	}
	return keys;
}

/* EXCEPT and INTERSECT. */
struct mg_node *mg_place_setop(struct mg_place *place, struct mg_node *node)
{
	bool part = false;
	bool repl = true;
	struct mg_node **kids = place_kids(place, node, &part, &repl);
	if (!kids) {
		return NULL;
	}
	if (repl) {
		return with_kids(place, node, kids, mg_dist_of(MG_DIST_REPL));
	}
	const struct mg_dist **dists =
		mg_arena_new_array(place->arena, const struct mg_dist *, node->kid_count + 1);
	for (size_t i = 0; i < node->kid_count; i++) {
		dists[i] = &kids[i]->dist;
	}
	if (part && mg_dist_aligned(place->arena, dists, node->kid_count)) {
		return with_kids(place, node, kids, mg_dist_union(place->arena, dists, node->kid_count));
	}
	size_t key_count = 0;
	struct mg_expr **keys = shared_hash_columns(place, node, kids, &key_count);
	if (!part || key_count == 0) {
		return gather_kids(place, kids, node->kid_count)
		           ? with_kids(place, node, kids, mg_dist_of(MG_DIST_SINGLE))
		           : NULL;
	}
	mg_place_note(place, "set operation: all inputs repartitioned");
	for (size_t i = 0; i < node->kid_count; i++) {
		kids[i] = mg_place_rehash(place, kids[i], keys, key_count, "set operation");
		if (!kids[i]) {
			return NULL;
		}
	}
	return with_kids(place, node, kids, common_dist(place, kids, node->kid_count));
}
