/*
 * cut.c - exchanges: a placed subtree becomes a stage (SQL text, where it runs, where its rows go)
 * and an MG_OP_READ of that stage takes its place.
 *
 * A stage runs as soon as it is made when the environment can run stages, so that later decisions
 * know its size.  A stage whose text, place and shipping equal those of an earlier one is not made
 * twice. Rows of a replica never travel: each participant keeps its part by mg_mine(keys) or
 * mg_node() = 0.
 */
#include "sql/place.h"

#include "base/assert.h"
#include "base/str.h"

#include <string.h>

/* ---- what a subtree reads ---- */

struct reads {
	struct mg_arena *arena;
	struct mg_stage *stage;
	size_t input_cap, scan_cap;
};

static void add_input(struct reads *reads, uint32_t id)
{
	struct mg_stage *stage = reads->stage;
	for (size_t i = 0; i < stage->input_count; i++) {
		if (stage->inputs[i] == id) {
			return;
		}
	}
	if (stage->input_count == reads->input_cap) {
		reads->input_cap = reads->input_cap ? reads->input_cap * 2 : 8;
		uint32_t *inputs = mg_arena_new_array(reads->arena, uint32_t, reads->input_cap);
		for (size_t i = 0; i < stage->input_count; i++) {
			inputs[i] = stage->inputs[i];
		}
		stage->inputs = inputs;
	}
	stage->inputs[stage->input_count++] = id;
}

static void add_scan(struct reads *reads, const char *schema, const char *table)
{
	struct mg_stage *stage = reads->stage;
	const char *name = mg_arena_format(reads->arena, "%s.%s", schema, table);
	for (size_t i = 0; i < stage->scan_count; i++) {
		if (strcmp(stage->scans[i], name) == 0) {
			return;
		}
	}
	if (stage->scan_count == reads->scan_cap) {
		reads->scan_cap = reads->scan_cap ? reads->scan_cap * 2 : 8;
		const char **scans = mg_arena_new_array(reads->arena, const char *, reads->scan_cap);
		for (size_t i = 0; i < stage->scan_count; i++) {
			scans[i] = stage->scans[i];
		}
		stage->scans = scans;
	}
	stage->scans[stage->scan_count++] = name;
}

static void collect_reads(struct reads *reads, const struct mg_node *node)
{
	if (node->op == MG_OP_READ) {
		add_input(reads, node->stage & ~MG_STAGE_COPY);
	} else if (node->op == MG_OP_SCAN) {
		add_scan(reads, node->schema, node->table);
	}
	for (size_t i = 0; i < node->kid_count; i++) {
		collect_reads(reads, node->kids[i]);
	}
}

static bool exprs_volatile(struct mg_expr *const *exprs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (mg_expr_volatile(exprs[i])) {
			return true;
		}
	}
	return false;
}

static bool tree_volatile(const struct mg_node *node)
{
	if (exprs_volatile(node->exprs, node->expr_count) ||
	    exprs_volatile(node->groups, node->group_count) ||
	    exprs_volatile(node->preds, node->pred_count)) {
		return true;
	}
	for (size_t i = 0; i < node->cond_count; i++) {
		if (mg_expr_volatile(node->conds[i].left) || mg_expr_volatile(node->conds[i].right)) {
			return true;
		}
	}
	for (size_t i = 0; i < node->row_count; i++) {
		if (exprs_volatile(node->row_values[i], node->column_count)) {
			return true;
		}
	}
	for (size_t i = 0; i < node->kid_count; i++) {
		if (tree_volatile(node->kids[i])) {
			return true;
		}
	}
	return false;
}

/* ---- stages ---- */

static struct mg_stage *find_same(struct mg_place *place, const struct mg_stage *stage,
                                  size_t *index)
{
	for (size_t i = 0; i < place->env->stage_count; i++) {
		struct mg_stage *old = place->env->stages[i];
		if (old->ship == stage->ship && old->everywhere == stage->everywhere &&
		    strcmp(old->sql, stage->sql) == 0) {
			*index = i;
			return old;
		}
	}
	return NULL;
}

static void add_stage(struct mg_place *place, struct mg_stage *stage)
{
	struct mg_plan_env *env = place->env;
	if (env->stage_count == env->stage_cap) {
		size_t cap = env->stage_cap ? env->stage_cap * 2 : 8;
		struct mg_stage **stages = mg_arena_new_array(place->arena, struct mg_stage *, cap);
		for (size_t i = 0; i < env->stage_count; i++) {
			stages[i] = env->stages[i];
		}
		env->stages = stages;
		env->stage_cap = cap;
	}
	if (env->stage_count >= place->count_cap) {
		size_t cap = env->stage_cap;
		struct mg_count *counts = mg_arena_new_array(place->arena, struct mg_count, cap);
		for (size_t i = 0; i < cap; i++) {
			counts[i] = i < place->count_cap ? place->counts[i]
			                                 : (struct mg_count){ .rows = UINT64_MAX };
		}
		place->counts = counts;
		place->count_cap = cap;
	}
	if (env->next_stage == 0) {
		env->next_stage = 1;
	}
	stage->id = env->next_stage++;
	env->stages[env->stage_count++] = stage;
}

/* SQL of the stage: the subtree, and for hash shipping the slot as last column. */
static int stage_sql(struct mg_place *place, const struct mg_node *node, enum mg_ship ship,
                     struct mg_expr *const *keys, size_t key_count, const char **out)
{
	char *inner = NULL;
	int rc = mg_plan_print(place->arena, node, &inner, place->err);
	if (rc != 0 || ship != MG_SHIP_HASH) {
		*out = inner;
		return rc;
	}
	struct mg_sb sb = { 0 };
	mg_sb_add(&sb, "SELECT *, mg_slot(");
	for (size_t i = 0; i < key_count; i++) {
		char *key = NULL;
		rc = mg_expr_print(place->arena, keys[i], "s", &key, place->err);
		if (rc != 0) {
			mg_sb_fini(&sb);
			return rc;
		}
		mg_sb_addf(&sb, "%s%s", i ? ", " : "", key);
	}
	mg_sb_addf(&sb, ") AS slot FROM (%s) s", inner);
	*out = mg_arena_strdup(place->arena, mg_sb_text(&sb));
	mg_sb_fini(&sb);
	return 0;
}

static struct mg_stage *make_stage(struct mg_place *place, const struct mg_node *node,
                                   enum mg_ship ship, struct mg_expr *const *keys, size_t key_count,
                                   const char *label)
{
	struct mg_stage *stage = mg_arena_alloc(place->arena, sizeof *stage);
	if (stage_sql(place, node, ship, keys, key_count, &stage->sql) != 0) {
		return NULL;
	}
	stage->ship = ship;
	stage->everywhere = node->dist.kind != MG_DIST_SINGLE;
	stage->copy_few = ship == MG_SHIP_KEEP && node->dist.kind == MG_DIST_PART;
	stage->label = label;
	stage->types = node->types;
	stage->column_count = node->column_count;
	stage->rows_estimate = mg_place_rows(place, node);
	struct reads reads = { .arena = place->arena, .stage = stage };
	collect_reads(&reads, node);
	return stage;
}

static struct mg_node *read_of(struct mg_place *place, const struct mg_stage *stage, size_t index,
                               const struct mg_node *from)
{
	struct mg_node *read = mg_node_new(place->arena, MG_OP_READ, 0, from->column_count);
	for (size_t i = 0; i < from->column_count; i++) {
		read->types[i] = from->types[i];
	}
	read->stage = stage->id;
	read->rows = stage->rows_estimate;
	read->raw = from->raw;
	if (place->counts[index].rows != UINT64_MAX) {
		double copies =
			stage->ship == MG_SHIP_KEEP && from->dist.kind == MG_DIST_REPL ? place->nodes : 1;
		read->rows = (double)place->counts[index].rows / copies;
		read->counted = true;
		read->copied = place->counts[index].copied;
	}
	return read;
}

struct mg_node *mg_place_ship(struct mg_place *place, struct mg_node *node, enum mg_ship ship,
                              struct mg_expr *const *keys, size_t key_count, const char *label)
{
	struct mg_stage *stage = make_stage(place, node, ship, keys, key_count, label);
	if (!stage) {
		return NULL;
	}
	size_t index = place->env->stage_count;
	struct mg_stage *same = tree_volatile(node) ? NULL : find_same(place, stage, &index);
	if (same) {
		stage = same;
	} else {
		add_stage(place, stage);
		if (place->env->run) {
			struct mg_count count = { 0 };
			if (place->env->run(place->env->arg, stage, &count, place->err) != 0) {
				return NULL;
			}
			place->counts[index] = count;
		}
	}
	struct mg_node *read = read_of(place, stage, index, node);
	switch (ship) {
	case MG_SHIP_KEEP:
		read->dist = node->dist;
		break;
	case MG_SHIP_BROADCAST:
		read->dist = mg_dist_of(MG_DIST_REPL);
		break;
	case MG_SHIP_HASH:
		read->dist = mg_dist_keyed(place->arena, keys, key_count);
		break;
	case MG_SHIP_GATHER:
	case MG_SHIP_RESULT:
		read->dist = mg_dist_of(MG_DIST_SINGLE);
		break;
	}
	return read;
}

int mg_place_result(struct mg_place *place, struct mg_node *node, struct mg_stage **out)
{
	mg_assert(node->dist.kind == MG_DIST_SINGLE);
	struct mg_stage *stage = make_stage(place, node, MG_SHIP_RESULT, NULL, 0, "result");
	if (!stage) {
		return place->err->code;
	}
	add_stage(place, stage);
	*out = stage;
	return 0;
}

/* ---- ways to move rows ---- */

/* Where rows set out from: the coordinator alone if it has a copy of all of them. */
static struct mg_node *source_of(struct mg_place *place, struct mg_node *node)
{
	if (!node->copied) {
		return node;
	}
	struct mg_node *copy = mg_node_copy(place->arena, node);
	copy->stage += MG_STAGE_COPY;
	copy->copied = false;
	copy->dist = mg_dist_of(MG_DIST_SINGLE);
	return copy;
}

struct mg_node *mg_place_gather(struct mg_place *place, struct mg_node *node, const char *label)
{
	node = source_of(place, node);
	if (node->dist.kind == MG_DIST_SINGLE) {
		return node;
	}
	if (node->dist.kind == MG_DIST_REPL) {
		struct mg_node *copy = mg_node_copy(place->arena, node);
		copy->dist = mg_dist_of(MG_DIST_SINGLE);
		return copy;
	}
	return mg_place_ship(place, node, MG_SHIP_GATHER, NULL, 0, label);
}

struct mg_node *mg_place_broadcast(struct mg_place *place, struct mg_node *node, const char *label)
{
	if (node->dist.kind == MG_DIST_REPL) {
		return node;
	}
	return mg_place_ship(place, source_of(place, node), MG_SHIP_BROADCAST, NULL, 0, label);
}

static struct mg_node *filtered(struct mg_place *place, struct mg_node *node,
                                struct mg_expr *condition, struct mg_dist dist)
{
	struct mg_node *filter = mg_node_new(place->arena, MG_OP_FILTER, 1, node->column_count);
	filter->kids[0] = node;
	for (size_t i = 0; i < node->column_count; i++) {
		filter->types[i] = node->types[i];
	}
	filter->exprs = mg_arena_new_array(place->arena, struct mg_expr *, 1);
	filter->exprs[0] = condition;
	filter->expr_count = 1;
	filter->rows = node->rows;
	filter->raw = node->raw;
	filter->counted = node->counted;
	filter->dist = dist;
	return filter;
}

static struct mg_node *split(struct mg_place *place, struct mg_node *node,
                             struct mg_expr *const *keys, size_t key_count)
{
	struct mg_sb sb = { 0 };
	mg_sb_add(&sb, "mg_mine(");
	for (size_t i = 0; i < key_count; i++) {
		mg_sb_addf(&sb, "%s{%zu}", i ? ", " : "", i);
	}
	mg_sb_add(&sb, ")");
	const char *format = mg_arena_strdup(place->arena, mg_sb_text(&sb));
	mg_sb_fini(&sb);
	struct mg_expr *mine =
		mg_expr_raw(place->arena, format, mg_type_simple("BOOLEAN"), key_count, keys);
	return filtered(place, node, mine, mg_dist_keyed(place->arena, keys, key_count));
}

struct mg_node *mg_place_rehash(struct mg_place *place, struct mg_node *node,
                                struct mg_expr *const *keys, size_t key_count, const char *label)
{
	if (node->dist.kind == MG_DIST_REPL) {
		return split(place, node, keys, key_count);
	}
	return mg_place_ship(place, source_of(place, node), MG_SHIP_HASH, keys, key_count, label);
}

struct mg_node *mg_place_spread(struct mg_place *place, struct mg_node *node,
                                struct mg_expr *const *keys, size_t key_count)
{
	if (node->dist.kind == MG_DIST_PART) {
		return node;
	}
	if (key_count > 0) {
		return mg_place_rehash(place, node, keys, key_count, "spread");
	}
	node = mg_place_broadcast(place, node, "spread");
	if (!node) {
		return NULL;
	}
	struct mg_expr *first =
		mg_expr_raw(place->arena, "(mg_node() = 0)", mg_type_simple("BOOLEAN"), 0, NULL);
	return filtered(place, node, first, mg_dist_of(MG_DIST_PART));
}

struct mg_node *mg_place_keep(struct mg_place *place, struct mg_node *node, const char *label)
{
	if (node->op == MG_OP_READ) {
		return node;
	}
	return mg_place_ship(place, node, MG_SHIP_KEEP, NULL, 0, label);
}
