/*
 * gather.c - the floor of the ladder: which columns and rows of each base table a statement needs.
 *
 * Every table that the plan scans becomes one stage that brings the union of the columns that its
 * scans read, and the rows that pass the filters of at least one of them, to the coordinator, where
 * the original text runs over views.  A filter that cannot be printed is left out: more rows
 * travel, the answer is the same.
 */
#include "sql/place.h"

#include "base/str.h"

#include <string.h>

struct need {
	const char *schema, *table;
	const char **cols; /* union of all scans' columns */
	const struct mg_type **types;
	size_t col_count, col_cap;
	const char **filters; /* SQL over t.c0, t.c1, ...: one for each scan */
	size_t filter_count, filter_cap;
	bool all_rows; /* a scan without filter */
	double rows;
	bool sharded;
};

struct gather {
	struct mg_plan_env *env;
	struct need *needs;
	size_t count, cap;
};

#define arena_grow(arena, ptr, count, cap)                                \
	do {                                                                  \
		if ((count) == (cap)) {                                           \
			(cap) = (cap) ? (cap)*2 : 8;                                  \
			void *grown = mg_arena_alloc((arena), (cap) * sizeof *(ptr)); \
			if (count) {                                                  \
				memcpy(grown, (ptr), (count) * sizeof *(ptr));            \
			}                                                             \
			(ptr) = grown;                                                \
		}                                                                 \
	} while (0)

static struct need *need_of(struct gather *gather, const struct mg_node *scan)
{
	for (size_t i = 0; i < gather->count; i++) {
		if (strcmp(gather->needs[i].schema, scan->schema) == 0 &&
		    strcmp(gather->needs[i].table, scan->table) == 0) {
			return &gather->needs[i];
		}
	}
	const struct mg_table_place *table =
		gather->env->find_table(gather->env->arg, scan->schema, scan->table);
	arena_grow(gather->env->arena, gather->needs, gather->count, gather->cap);
	gather->needs[gather->count] = (struct need){ .schema = scan->schema,
		                                          .table = scan->table,
		                                          .sharded = table && table->key_count > 0 };
	gather->needs[gather->count].rows = table ? (double)table->rows : -1;
	return &gather->needs[gather->count++];
}

/* Position of scan's columns in the union; a column nobody can read (SIZE_MAX) is not in it. */
static size_t *add_columns(struct gather *gather, struct need *need, const struct mg_node *scan)
{
	struct mg_arena *arena = gather->env->arena;
	size_t *map = mg_arena_new_array(arena, size_t, scan->column_count + 1);
	for (size_t c = 0; c < scan->column_count; c++) {
		map[c] = SIZE_MAX;
		for (size_t i = 0; scan->cols[c] && i < need->col_count && map[c] == SIZE_MAX; i++) {
			map[c] = strcmp(need->cols[i], scan->cols[c]) == 0 ? i : SIZE_MAX;
		}
		if (!scan->cols[c] || map[c] != SIZE_MAX) {
			continue;
		}
		size_t cap = need->col_cap;
		arena_grow(arena, need->types, need->col_count, cap);
		arena_grow(arena, need->cols, need->col_count, need->col_cap);
		need->types[need->col_count] = scan->types[c];
		need->cols[need->col_count] = scan->cols[c];
		map[c] = need->col_count++;
	}
	return map;
}

/* SQL of all filter expressions over t.c<position>, or NULL. */
static const char *filter_text(struct gather *gather, const struct mg_node *const *filters,
                               size_t count, const size_t *map)
{
	struct mg_arena *arena = gather->env->arena;
	struct mg_sb sb = { 0 };
	for (size_t f = 0; f < count; f++) {
		for (size_t i = 0; i < filters[f]->expr_count; i++) {
			struct mg_cols used = { 0 };
			char *text = NULL;
			mg_expr_refs(arena, filters[f]->exprs[i], &used);
			bool readable = !mg_expr_volatile(filters[f]->exprs[i]);
			for (size_t c = 0; c < used.word_count * 64; c++) {
				readable = readable && (!mg_cols_has(&used, c) || map[c] != SIZE_MAX);
			}
			if (!readable || mg_expr_print(arena, mg_expr_remap(arena, filters[f]->exprs[i], map),
			                               "t", &text, NULL) != 0) {
				continue;
			}
			mg_sb_addf(&sb, "%s(%s)", sb.len ? " AND " : "", text);
		}
	}
	const char *out = sb.len ? mg_arena_strdup(arena, mg_sb_text(&sb)) : NULL;
	mg_sb_fini(&sb);
	return out;
}

static void collect(struct gather *gather, const struct mg_node *node)
{
	const struct mg_node *filters[16];
	size_t count = 0;
	while (node->op == MG_OP_FILTER && count < sizeof filters / sizeof *filters) {
		filters[count++] = node;
		node = node->kids[0];
	}
	if (node->op == MG_OP_SCAN) {
		struct need *need = need_of(gather, node);
		size_t *map = add_columns(gather, need, node);
		const char *filter = filter_text(gather, filters, count, map);
		if (!filter) {
			need->all_rows = true;
			return;
		}
		arena_grow(gather->env->arena, need->filters, need->filter_count, need->filter_cap);
		need->filters[need->filter_count++] = filter;
		return;
	}
	for (size_t i = 0; i < node->kid_count; i++) {
		collect(gather, node->kids[i]);
	}
}

/* SELECT t.c0 AS "a", ... FROM (SELECT "a" AS c0, ... FROM temp.main."schema.table") t WHERE ... */
static const char *need_sql(struct gather *gather, const struct need *need)
{
	struct mg_sb sb = { 0 };
	struct mg_sb name = { 0 };
	mg_sb_addf(&name, "%s.%s", need->schema, need->table);
	mg_sb_add(&sb, "SELECT ");
	for (size_t i = 0; i < need->col_count; i++) {
		mg_sb_addf(&sb, "%st.c%zu AS ", i ? ", " : "", i);
		mg_sb_add_ident(&sb, need->cols[i]);
	}
	mg_sb_add(&sb, need->col_count ? " FROM (SELECT " : "1 AS _mg_row FROM (SELECT 1 AS c0");
	for (size_t i = 0; i < need->col_count; i++) {
		mg_sb_add(&sb, i ? ", " : "");
		mg_sb_add_ident(&sb, need->cols[i]);
		mg_sb_addf(&sb, " AS c%zu", i);
	}
	mg_sb_add(&sb, " FROM temp.main.");
	mg_sb_add_ident(&sb, mg_sb_text(&name));
	mg_sb_add(&sb, ") t");
	for (size_t i = 0; i < need->filter_count && !need->all_rows; i++) {
		mg_sb_addf(&sb, "%s(%s)", i ? " OR " : " WHERE ", need->filters[i]);
	}
	const char *out = mg_arena_strdup(gather->env->arena, mg_sb_text(&sb));
	mg_sb_fini(&sb);
	mg_sb_fini(&name);
	return out;
}

static struct mg_stage *need_stage(struct gather *gather, const struct need *need)
{
	struct mg_arena *arena = gather->env->arena;
	struct mg_stage *stage = mg_arena_alloc(arena, sizeof *stage);
	if (gather->env->next_stage == 0) {
		gather->env->next_stage = 1;
	}
	stage->id = gather->env->next_stage++;
	stage->ship = MG_SHIP_GATHER;
	stage->everywhere = need->sharded;
	stage->sql = need_sql(gather, need);
	stage->label = "base table";
	stage->types = need->types;
	stage->column_count = need->col_count;
	stage->scans = mg_arena_new_array(arena, const char *, 1);
	stage->scans[0] = mg_arena_format(arena, "%s.%s", need->schema, need->table);
	stage->scan_count = 1;
	stage->rows_estimate = need->rows;
	return stage;
}

int mg_plan_gather(struct mg_plan_env *env, const struct mg_node *root, struct mg_stage ***stages,
                   const char ***tables, size_t *count, struct mg_error *err)
{
	struct gather gather = { .env = env };
	(void)err;
	if (root) {
		collect(&gather, root);
	}
	*stages = mg_arena_new_array(env->arena, struct mg_stage *, gather.count + 1);
	*tables = mg_arena_new_array(env->arena, const char *, gather.count + 1);
	*count = gather.count;
	for (size_t i = 0; i < gather.count; i++) {
		(*stages)[i] = need_stage(&gather, &gather.needs[i]);
		(*tables)[i] = (*stages)[i]->scans[0];
	}
	return 0;
}
