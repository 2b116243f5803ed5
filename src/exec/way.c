/*
 * way.c - see way.h.
 *
 * The first rule that fits decides:
 *   catalog     nothing but catalog tables and functions
 *   per shard   distributed = force, or summarize = false
 *   local       no partitioned table; or strategy = local; or no worker may or can help; or too
 *               little to share; or keys and values are read
 *   router      the partition key is pinned to one slot
 *   cut         everything else; gather when forced
 * A plan that the planner does not know runs locally as original text: this server holds every
 * shard.
 */
#include "exec/way.h"

#include "exec/hub.h"
#include "exec/run.h"
#include "exec/tx.h"

#include <stdio.h>
#include <string.h>

#define SMALL_BYTES (1u << 20) /* less is scanned here sooner than elsewhere */

/* ---- which tables the plan scans ---- */

/* What a scan of the whole table reads, at least roughly: files are compressed, exchanges are not.
 */
static uint64_t table_bytes(const struct mg_table *table)
{
	uint64_t wide = table->rows * table->column_count * 8;
	return table->bytes > wide ? table->bytes : wide;
}

static void add_table(struct mg_way *way, const struct mg_table *named, uint64_t rows,
                      uint64_t sample_rows)
{
	struct mg_table counted = *named;
	const struct mg_table *table = &counted;
	counted.rows = rows;
	for (size_t i = 0; i < way->table_count; i++) {
		if (mg_text_eq(way->tables[i].schema, table->schema) &&
		    mg_text_eq(way->tables[i].name, table->name)) {
			return;
		}
	}
	way->places[way->table_count] = (struct mg_table_place){
		.schema = table->schema,
		.table = table->name,
		.keys = table->keys,
		.key_count = table->key_count,
		.rows = table->rows,
		.bytes = table_bytes(table),
		.sample_rows = sample_rows,
	};
	way->tables[way->table_count++] = *table;
	if (table->key_count) {
		way->bytes += table_bytes(table);
	}
}

static int collect(struct mg_way *way, struct mg_engine *engine, const struct mg_catalog_data *data,
                   const struct mg_node *node, struct mg_error *err)
{
	if (node->op == MG_OP_SCAN) {
		const struct mg_table *table = mg_catalog_find_table(data, node->schema, node->table);
		if (!table) {
			return mg_error_set(err, MG_E_NO_TABLE, "table \"%s.%s\" has no rows on this cluster",
			                    node->schema, node->table);
		}
		uint64_t rows, sample_rows;
		mg_engine_rows(engine, table, &rows, &sample_rows);
		add_table(way, table, rows, sample_rows);
	}
	int code = 0;
	for (size_t i = 0; !code && i < node->kid_count; i++) {
		code = collect(way, engine, data, node->kids[i], err);
	}
	return code;
}

const struct mg_table_place *mg_way_find_table(const struct mg_way *way, const char *schema,
                                               const char *table)
{
	for (size_t i = 0; i < way->table_count; i++) {
		if (mg_text_eq(way->places[i].schema, schema) && mg_text_eq(way->places[i].table, table)) {
			return &way->places[i];
		}
	}
	return NULL;
}

static bool is_partitioned(const struct mg_way *way)
{
	for (size_t i = 0; i < way->table_count; i++) {
		if (way->places[i].key_count) {
			return true;
		}
	}
	return false;
}

/* ---- router ---- */

static const struct mg_table_place *find_place(void *arg, const char *schema, const char *table)
{
	return mg_way_find_table(arg, schema, table);
}

static bool one_shard(struct mg_way *way, struct mg_arena *arena,
                      const struct mg_catalog_data *data, const struct mg_node *root,
                      uint32_t *shard)
{
	struct mg_plan_env env = {
		.arena = arena, .participants = 1, .find_table = find_place, .arg = way, .next_stage = 1
	};
	uint16_t slot;
	if (!mg_plan_one_slot(&env, root, &slot)) {
		return false;
	}
	for (uint32_t i = 1; i <= data->shard_count; i++) {
		if (data->shards[i].slot_first <= slot && slot <= data->shards[i].slot_last) {
			*shard = i;
			return true;
		}
	}
	return false;
}

/* Nothing but count(*) of a whole table: DuckDB knows it without a scan, so there is nothing to
 * share. */
static bool is_plain_count(const struct mg_node *node)
{
	while (node->op == MG_OP_PROJECT) {
		node = node->kids[0];
	}
	if (node->op != MG_OP_AGG || node->group_count || node->kids[0]->op != MG_OP_SCAN) {
		return false;
	}
	for (size_t i = 0; i < node->expr_count; i++) {
		if (!mg_text_eq(node->exprs[i]->name, "count_star") || node->exprs[i]->filter) {
			return false;
		}
	}
	return true;
}

/* ---- the choice ---- */

static int take(struct mg_way *way, enum mg_way_kind kind, const char *step, const char *reason)
{
	way->kind = kind;
	way->step = step;
	mg_copy_text(way->reason, sizeof way->reason, reason);
	return 0;
}

static size_t ready_workers(struct mg_engine *engine, struct mg_arena *arena)
{
	struct mg_hub_member *members;
	size_t count;
	mg_hub_members(mg_engine_hub(engine), arena, &members, &count);
	for (size_t i = 0; i < count; i++) {
		mg_worker_unref(members[i].worker);
	}
	return count;
}

static int refuse(const struct mg_bound *bound, const char *what, struct mg_error *err)
{
	mg_error_set(err, MG_E_UNSUPPORTED, "%s: %s", what,
	             bound->unsupported ? bound->unsupported : "unknown plan");
	if (bound->hint && *bound->hint) {
		mg_error_hint(err, "%s", bound->hint);
	}
	return MG_E_UNSUPPORTED;
}

int mg_way_choose(struct mg_way *way, struct mg_arena *arena, struct mg_engine *engine,
                  const struct mg_catalog_data *data, const struct mg_run_settings *settings,
                  const struct mg_bound *bound, struct mg_error *err)
{
	*way = (struct mg_way){ 0 };
	/* Inside of a transaction that has changed rows, text is for what has no plan. */
	bool changed = settings->tx && !bound->catalog_only && mg_tx_has_changes(settings->tx);

	/* The plan has what bounds the keys that are read. */
	way->original_text = !bound->text_refused && !settings->row_ids &&
	                     !(bound->keys && bound->root) &&
	                     !(changed && (bound->root || !mg_tx_text_may_run(settings->tx)));
	way->tables = mg_arena_new_array(arena, struct mg_table, data->table_count + 1);
	way->places = mg_arena_new_array(arena, struct mg_table_place, data->table_count + 1);
	way->shards = mg_arena_new_array(arena, uint32_t, data->shard_count + 1);
	for (uint32_t i = 1; i <= data->shard_count; i++) {
		way->shards[way->shard_count++] = i;
	}
	if (bound->catalog_only) {
		way->shard_count = 0;
		return take(way, MG_WAY_CATALOG, "catalog", "only catalog tables are read");
	}
	if (bound->root) {
		int code = collect(way, engine, data, bound->root, err);
		for (size_t i = 0; !code && settings->tx && i < way->table_count; i++) {
			code = mg_tx_check_table(settings->tx, &way->tables[i], err);
		}
		if (code) {
			return code;
		}
	}
	if (settings->distributed == MG_DISTRIBUTED_FORCE || !settings->summarize) {
		if (!bound->root) {
			return refuse(bound, "the statement cannot run shard by shard", err);
		}
		way->original_text = false;
		return take(way, MG_WAY_PER_SHARD, "per shard",
		            settings->summarize ? "distributed = force" : "summarize = false");
	}
	if (!bound->root) {
		char reason[200];
		snprintf(reason, sizeof reason, "not distributed: %s",
		         bound->unsupported ? bound->unsupported : "unknown plan");
		if (!way->original_text) {
			return refuse(bound,
			              settings->row_ids ? "these rows cannot be found"
			              : changed ? "a transaction that has changed rows cannot read this way"
			                        : bound->text_refused,
			              err);
		}
		return take(way, MG_WAY_LOCAL, "local", reason);
	}
	bool forced = settings->strategy != MG_STRATEGY_AUTO && settings->strategy != MG_STRATEGY_LOCAL;
	if (!is_partitioned(way)) {
		way->shard_count = 0;
		return take(way, MG_WAY_LOCAL, "local", "no partitioned table is read");
	}
	if (settings->strategy == MG_STRATEGY_LOCAL) {
		return take(way, MG_WAY_LOCAL, "local", "strategy = local");
	}
	uint32_t shard;
	if (!forced && one_shard(way, arena, data, bound->root, &shard)) {
		way->shards[0] = shard;
		way->shard_count = 1;
		way->original_text = false;
		return take(way, MG_WAY_ROUTER, "router", "the partition key is pinned to one shard");
	}
	if (bound->keys) {
		return take(way, MG_WAY_LOCAL, "local", "keys and values are read, which workers have not");
	}
	way->workers_would_help = forced && settings->distributed != MG_DISTRIBUTED_FALSE &&
	                          !settings->tx && !ready_workers(engine, arena);
	if (settings->strategy == MG_STRATEGY_GATHER) {
		return take(way, MG_WAY_CUT, "gather", "strategy = gather");
	}
	if (forced) {
		return take(way, MG_WAY_CUT, "cut", "the strategy is forced");
	}
	if (settings->distributed == MG_DISTRIBUTED_FALSE) {
		return take(way, MG_WAY_LOCAL, "local", "distributed = false");
	}
	if (settings->row_ids) {
		return take(way, MG_WAY_LOCAL, "local", "rows are chosen for writing");
	}
	if (settings->tx) {
		return take(way, MG_WAY_LOCAL, "local", "inside of a transaction: its snapshot is here");
	}
	if (!ready_workers(engine, arena)) {
		way->workers_would_help = !is_plain_count(bound->root) && way->bytes >= SMALL_BYTES;
		return take(way, MG_WAY_LOCAL, "local",
		            "no worker is ready; this server holds every shard");
	}
	if (is_plain_count(bound->root)) {
		return take(way, MG_WAY_LOCAL, "local", "a count of all rows needs no scan");
	}
	if (way->bytes < SMALL_BYTES) {
		return take(way, MG_WAY_LOCAL, "local", "less than 1 MB to scan");
	}
	return take(way, MG_WAY_CUT, "cut", "");
}

void mg_way_fall(struct mg_way *way, struct mg_run *run, const char *reason)
{
	way->kind = MG_WAY_LOCAL;
	way->step = "local";
	snprintf(way->reason, sizeof way->reason, "not distributed: %s", reason);
	mg_run_own_stats(run)->step = way->step;
	mg_copy_text(mg_run_own_stats(run)->reason, sizeof way->reason, way->reason);
}
