/* staging.c - see staging.h. */
#include "exec/staging.h"

#include "base/log.h"
#include "exec/engine_int.h"
#include "exec/sweep.h"
#include "os/random.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <string.h>

/* Rows of one table that come in one way, in one table of each shard that has any. */
struct stage {
	char *schema, *table; /* as the shards' files have it */
	enum mg_redo_kind kind;
	char *staged;
	char *columns;
	bool *made; /* by shard */
};

struct mg_staging {
	struct mg_engine *engine;
	struct mg_arena *arena;
	uint64_t epoch, id;
	uint32_t shard_count;
	bool doubt; /* a part may still be on its way */
	struct stage *stages;
	size_t count, cap;
};

size_t mg_staging_bytes(const struct mg_engine *engine)
{
	uint64_t bytes = engine->options.write_bytes;

	return bytes && bytes < MG_STAGING_BYTES_MAX ? (size_t)bytes : MG_STAGING_BYTES_MAX;
}

struct mg_staging *mg_staging_new(struct mg_engine *engine, uint64_t epoch)
{
	struct mg_staging *staging = mg_alloc0(sizeof *staging);

	staging->engine = engine;
	staging->arena = mg_arena_new();
	staging->epoch = epoch;
	return staging;
}

uint64_t mg_staging_epoch(const struct mg_staging *staging)
{
	return staging->count ? staging->epoch : 0;
}

/* ---- a staging table ---- */

/* Of rows that change others, by place (redo.h); ours keep their names for themselves. */
static char *columns_of(const struct mg_table *table, enum mg_redo_kind kind)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "\"rid\" BIGINT");
	for (size_t i = 0; kind != MG_REDO_DELETE && i < table->column_count; i++) {
		mg_sb_addf(&sql, ", c%zu %s", i, table->columns[i].type);
	}
	return mg_sb_take(&sql);
}

/* As the table's own. */
static char *columns_like(const struct mg_table *table)
{
	struct mg_sb sql = { 0 };

	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(&sql, i ? ", " : "");
		mg_sb_add_ident(&sql, mg_column_stored(&table->columns[i]));
		mg_sb_addf(&sql, " %s", table->columns[i].type);
	}
	return mg_sb_take(&sql);
}

/* Where the rows wait: those that are to be moved beside their table. */
static const char *schema_of(const struct stage *stage)
{
	return stage->kind == MG_REDO_INSERT ? stage->schema : MG_REDO_STAGING;
}

static bool is_of(struct mg_staging *staging, const struct mg_table *table,
                  const struct mg_redo_op *op)
{
	return table && mg_text_eq(op->schema, table->schema) &&
	       mg_text_eq(op->table, mg_table_stored(staging->arena, table));
}

/* NULL: there is none, and the operation is not of this table. */
static struct stage *stage_of(struct mg_staging *staging, const struct mg_table *table,
                              const struct mg_redo_op *op)
{
	for (size_t i = 0; i < staging->count; i++) {
		struct stage *stage = &staging->stages[i];

		if (stage->kind == op->kind && mg_text_eq(stage->schema, op->schema) &&
		    mg_text_eq(stage->table, op->table)) {
			return stage;
		}
	}
	if (!is_of(staging, table, op)) {
		return NULL;
	}
	mg_grow(staging->stages, staging->count, staging->cap);
	struct stage *stage = &staging->stages[staging->count];

	*stage = (struct stage){
		.schema = mg_strdup(op->schema),
		.table = mg_strdup(op->table),
		.kind = op->kind,
		.staged = mg_format("%zu#%" PRIu64, staging->count, staging->id),
		.columns = op->kind == MG_REDO_INSERT ? columns_like(table) : columns_of(table, op->kind),
		.made = mg_alloc0(((size_t)staging->shard_count + 1) * sizeof *stage->made),
	};
	staging->count++;
	return stage;
}

/* ---- rows ---- */

/* What is ours of a shard's operations goes to `part`, the rest to `rest`. */
static int divide(struct mg_staging *staging, const struct mg_table *table,
                  const struct mg_redo *redo, uint32_t shard, struct mg_redo *part,
                  struct mg_redo *rest, struct mg_error *err)
{
	size_t count;
	const struct mg_redo_op *ops = mg_redo_ops(redo, shard, &count);
	int code = 0;

	for (size_t i = 0; !code && i < count; i++) {
		const struct mg_redo_op *op = &ops[i];
		bool rows = mg_redo_has_rows(op->kind) && strncmp(op->schema, "_mg", 3) != 0;
		struct stage *stage = rows ? stage_of(staging, table, op) : NULL;

		if (!stage) {
			code = mg_redo_copy(rest, shard, op, err);
			continue;
		}
		if (!stage->made[shard]) {
			mg_redo_create(part, shard, schema_of(stage), stage->staged, stage->columns);
			stage->made[shard] = true;
		}
		code = mg_redo_rows(part, shard, MG_REDO_INSERT, schema_of(stage), stage->staged,
		                    op->ipc_schema, op->ipc_batch, op->rows, err);
	}
	return code;
}

static int take(struct mg_staging *staging, const struct mg_table *table, struct mg_redo *redo,
                struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(staging->engine);
	struct mg_redo *part = mg_redo_new(), *rest = mg_redo_new();
	const uint32_t *shards;
	size_t count = mg_redo_shards(redo, &shards);
	int code = 0;

	for (size_t i = 0; !code && i < count; i++) {
		code = divide(staging, table, redo, shards[i], part, rest, err);
	}
	mg_redo_clear(redo);
	code = code ? code : mg_replica_append_in(replica, staging->epoch, part, err);
	mg_redo_free(part);
	if (code == MG_E_UNKNOWN_OUTCOME) {
		staging->doubt = true;
		code = mg_error_set(err, MG_E_UNAVAILABLE, "a shard did not answer in time");
		mg_error_hint(err, "Nothing was written: try again.");
	}
	count = mg_redo_shards(rest, &shards);
	for (size_t i = 0; !code && i < count; i++) {
		size_t ops_count;
		const struct mg_redo_op *ops = mg_redo_ops(rest, shards[i], &ops_count);

		for (size_t k = 0; !code && k < ops_count; k++) {
			code = mg_redo_copy(redo, shards[i], &ops[k], err);
		}
	}
	mg_redo_free(rest);
	return code;
}

static int begin(struct mg_staging *staging, const struct mg_catalog_data *data,
                 struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(staging->engine);

	if (staging->id) {
		return 0;
	}
	int code = staging->epoch ? 0 : mg_replica_begin(replica, &staging->epoch, err);

	if (!code) {
		staging->shard_count = data->shard_count;
		staging->id = mg_random_u64() >> 12 | 1;
		mg_sweep_spare(staging->id);
		mg_log(MG_LOG_INFO, "staging.begin", "id=%" PRIu64, staging->id);
	}
	return code;
}

int mg_staging_take(void *arg, const struct mg_catalog_data *data, const struct mg_table *table,
                    struct mg_redo *redo, struct mg_error *err)
{
	struct mg_staging *staging = arg;
	int code = begin(staging, data, err);

	return code ? code : take(staging, table, redo, err);
}

/* What goes, goes first, as a key may move from one row to another. */
int mg_staging_publish(struct mg_staging *staging, struct mg_redo *redo, struct mg_error *err)
{
	static const enum mg_redo_kind order[] = { MG_REDO_DELETE, MG_REDO_REPLACE, MG_REDO_INSERT };
	int code = 0;

	if (staging->count) {
		mg_log(MG_LOG_INFO, "publishing.begin", "id=%" PRIu64, staging->id);
		code = take(staging, NULL, redo, err);
	}
	for (size_t k = 0; !code && k < sizeof order / sizeof order[0]; k++) {
		for (size_t i = 0; i < staging->count; i++) {
			const struct stage *stage = &staging->stages[i];

			for (uint32_t shard = 0; stage->kind == order[k] && shard <= staging->shard_count;
			     shard++) {
				if (stage->made[shard] && stage->kind == MG_REDO_INSERT) {
					mg_redo_move(redo, shard, stage->schema, stage->table, stage->staged);
				} else if (stage->made[shard]) {
					mg_redo_publish(redo, shard, stage->kind, stage->schema, stage->table,
					                stage->staged);
				}
			}
		}
	}
	return code;
}

/* ---- the end ---- */

static int drop_all(struct mg_staging *staging, struct mg_error *err)
{
	struct mg_redo *redo = mg_redo_new();

	for (size_t i = 0; i < staging->count; i++) {
		for (uint32_t shard = 0; shard <= staging->shard_count; shard++) {
			if (staging->stages[i].made[shard]) {
				mg_redo_drop(redo, shard, schema_of(&staging->stages[i]),
				             staging->stages[i].staged);
			}
		}
	}
	int code =
		mg_replica_append_in(mg_engine_replica(staging->engine), staging->epoch, redo, err);

	mg_redo_free(redo);
	return code;
}

void mg_staging_close(struct mg_staging *staging, int code)
{
	if (!staging) {
		return;
	}
	bool unknown = code == MG_E_UNKNOWN_OUTCOME || staging->doubt;
	struct mg_error err = { 0 };

	if (staging->count && code && !unknown && drop_all(staging, &err)) {
		mg_log(MG_LOG_WARN, "staging.left", "id=%" PRIu64 " error=\"%s\"", staging->id,
		       err.message);
		unknown = true;
	}
	/* Something of it may still be on its way: behind the next fence it is known, and swept; a
	 * sweep of this epoch must not take a table from in front of its MOVE. */
	if (staging->count && unknown) {
		mg_replica_renew(mg_engine_replica(staging->engine), staging->epoch);
	}
	if (staging->id) {
		mg_sweep_spare_no_more(staging->id);
	}
	for (size_t i = 0; i < staging->count; i++) {
		mg_free(staging->stages[i].schema);
		mg_free(staging->stages[i].table);
		mg_free(staging->stages[i].staged);
		mg_free(staging->stages[i].columns);
		mg_free(staging->stages[i].made);
	}
	mg_free(staging->stages);
	mg_arena_free(staging->arena);
	mg_free(staging);
}
