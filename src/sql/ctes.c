/*
 * ctes.c - common table expressions, the outer rows of correlated subqueries, recursion.
 *
 * A definition that is read more than once becomes a stage whose rows stay where they are, unless
 * it is a mere scan, which is cheaper to repeat; one that is read once is put in its place.
 */
#include "sql/place.h"

#include "base/str.h"

#include <string.h>

static size_t count_refs(const struct mg_node *node, const char *name)
{
	size_t count = node->op == MG_OP_REF && mg_text_eq(node->name, name);
	for (size_t i = 0; i < node->kid_count; i++) {
		count += count_refs(node->kids[i], name);
	}
	return count;
}

/* Cheaper to compute again than to keep: a scan with filters and projections. */
static bool is_cheap(const struct mg_node *node)
{
	while ((node->op == MG_OP_PROJECT || node->op == MG_OP_FILTER) && !mg_place_volatile(node)) {
		node = node->kids[0];
	}
	return node->op == MG_OP_SCAN ||
	       ((node->op == MG_OP_ROWS || node->op == MG_OP_DUMMY) && !mg_place_volatile(node));
}

static struct mg_place_cte *cte_find(struct mg_place *place, const char *name)
{
	for (struct mg_place_cte *cte = place->ctes; cte; cte = cte->next) {
		if (strcmp(cte->name, name) == 0) {
			return cte;
		}
	}
	return NULL;
}

static void cte_add(struct mg_place *place, const char *name, struct mg_node *node, bool inlined)
{
	struct mg_place_cte *cte = mg_arena_alloc(place->arena, sizeof *cte);
	*cte = (struct mg_place_cte){
		.name = name, .node = node, .inlined = inlined, .next = place->ctes
	};
	place->ctes = cte;
}

/* Make the definition known; afterwards references to it can be placed. */
static bool cte_define(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *def = node->kids[0];
	if (count_refs(node->kids[1], node->name) <= 1 || is_cheap(def)) {
		cte_add(place, node->name, def, true);
		return true;
	}
	def = mg_place_node(place, def);
	def = def ? mg_place_keep(place, def, "shared") : NULL;
	if (!def) {
		return false;
	}
	cte_add(place, node->name, def, false);
	return true;
}

struct mg_node *mg_place_with(struct mg_place *place, struct mg_node *node)
{
	return cte_define(place, node) ? mg_place_node(place, node->kids[1]) : NULL;
}

struct mg_node *mg_place_ref(struct mg_place *place, struct mg_node *node)
{
	struct mg_place_cte *cte = cte_find(place, node->name);
	if (!cte) {
		return mg_place_refuse(place, "a recursive table is read outside its recursive term");
	}
	if (cte->node->column_count != node->column_count) {
		return mg_place_refuse(place,
		                       "a reference and its common table expression differ in columns");
	}
	return cte->inlined ? mg_place_node(place, cte->node) : mg_node_copy(place->arena, cte->node);
}

/* ---- recursion: the recursive term runs on the coordinator; what does not depend on it is placed
 * as usual and gathered ---- */

static bool depends(struct mg_place *place, const struct mg_node *node, const char *name)
{
	if (node->op == MG_OP_REF) {
		if (mg_text_eq(node->name, name)) {
			return true;
		}
		const struct mg_place_cte *cte = cte_find(place, node->name);
		return cte && cte->inlined && depends(place, cte->node, name);
	}
	for (size_t i = 0; i < node->kid_count; i++) {
		if (depends(place, node->kids[i], name)) {
			return true;
		}
	}
	return false;
}

static struct mg_node *recursive_term(struct mg_place *place, struct mg_node *node,
                                      const char *name)
{
	if (node->op == MG_OP_CTE) {
		if (depends(place, node->kids[0], name)) {
			cte_add(place, node->name, node->kids[0], true);
		} else if (!cte_define(place, node)) {
			return NULL;
		}
		return recursive_term(place, node->kids[1], name);
	}
	if (!depends(place, node, name)) {
		struct mg_node *placed = mg_place_node(place, node);
		return placed ? mg_place_gather(place, placed, "recursion") : NULL;
	}
	if (node->op == MG_OP_REF && !mg_text_eq(node->name, name)) {
		return recursive_term(place, cte_find(place, node->name)->node, name);
	}
	if (node->op == MG_OP_RECCTE) {
		return mg_place_refuse(
			place, "a recursive common table expression inside another one's recursive term");
	}
	struct mg_node *copy = mg_node_copy(place->arena, node);
	for (size_t i = 0; i < node->kid_count; i++) {
		copy->kids[i] = recursive_term(place, node->kids[i], name);
		if (!copy->kids[i]) {
			return NULL;
		}
	}
	mg_place_size(place, copy, copy->kids, copy->kid_count);
	copy->dist = mg_dist_of(MG_DIST_SINGLE);
	return copy;
}

struct mg_node *mg_place_recursive(struct mg_place *place, struct mg_node *node)
{
	struct mg_node *first = mg_place_node(place, node->kids[0]);
	first = first ? mg_place_gather(place, first, "recursion") : NULL;
	struct mg_node *term = first ? recursive_term(place, node->kids[1], node->name) : NULL;
	if (!term) {
		return NULL;
	}
	struct mg_node *copy = mg_node_copy(place->arena, node);
	copy->kids[0] = first;
	copy->kids[1] = term;
	mg_place_size(place, copy, copy->kids, 2);
	copy->dist = mg_dist_of(MG_DIST_SINGLE);
	return copy;
}
