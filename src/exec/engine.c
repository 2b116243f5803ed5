/*
 * engine.c - see engine.h.
 *
 * Rule: shard files are opened once, read-only, by one DuckDB instance; what a client may see of
 * them are the views.
 *
 * Thread: open and close by the node's main thread; everything else from any thread.
 */
#include "exec/engine.h"

#include "base/log.h"
#include "exec/hub.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/limits.h"
#include "store/shard_file.h"

#include "mg_version.h"

#include <stdio.h>
#include <string.h>

#define SAMPLE_ROWS_MIN 10000u
#define SAMPLE_ALL_ROWS 100000u /* reference tables up to here are sampled whole */

struct mg_engine {
	struct mg_engine_options options;
	char *data_dir, *spill_dir, *node_name, *address;
	struct mg_catalog *catalog;
	struct mg_duck *duck;
	struct mg_plandb *plandb;
	struct mg_hub *hub;
	uint64_t since_ms;
	uint64_t *sample_rows; /* by table of the catalog at start */
	bool threads_given;
};

unsigned mg_engine_default_threads(void)
{
	return mg_os_cores();
}

unsigned mg_engine_share_of_cores(unsigned cores, size_t nodes)
{
	size_t share = nodes ? (cores + nodes / 2) / nodes : cores;
	return share ? (unsigned)share : 1;
}

uint64_t mg_engine_default_memory(void)
{
	return mg_os_memory_bytes() / 4 * 3;
}

int mg_engine_attach(struct mg_duck *duck, uint32_t shard, const char *path, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(duck, &conn, err);
	if (!code) {
		struct mg_sb sql = { 0 };
		mg_sb_add(&sql, "ATTACH ");
		mg_sb_add_literal(&sql, path, strlen(path));
		mg_sb_addf(&sql, " AS s%u (READ_ONLY)", shard);
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
		mg_sb_fini(&sql);
		mg_duck_disconnect(conn);
	}
	return code ? mg_error_wrap(err, "while attaching shard %u", shard) : 0;
}

int mg_engine_detach(struct mg_duck *duck, uint32_t shard, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(duck, &conn, err);
	if (!code) {
		code = mg_duck_execf(conn, err, "DETACH s%u", shard);
		mg_duck_disconnect(conn);
	}
	return code;
}

void mg_engine_exec_tables(struct mg_arena *arena, const struct mg_table *tables,
                           size_t table_count, const uint32_t *shards, size_t shard_count,
                           struct mg_exec_table **out)
{
	const char **names = mg_arena_new_array(arena, const char *, shard_count + 1);
	const char **reference = mg_arena_new_array(arena, const char *, 1);
	for (size_t i = 0; i < shard_count; i++) {
		names[i] = mg_arena_format(arena, "s%u", shards[i]);
	}
	reference[0] = "s0";
	struct mg_exec_table *list = mg_arena_new_array(arena, struct mg_exec_table, table_count + 1);
	for (size_t i = 0; i < table_count; i++) {
		const struct mg_table *table = &tables[i];
		struct mg_exec_table *made = &list[i];
		made->schema = table->schema;
		made->table = table->name;
		made->column_count = table->column_count;
		made->columns = mg_arena_new_array(arena, const char *, table->column_count);
		made->types = mg_arena_new_array(arena, const char *, table->column_count);
		for (size_t c = 0; c < table->column_count; c++) {
			made->columns[c] = table->columns[c].name;
			made->types[c] = table->columns[c].type;
		}
		made->databases = table->key_count ? names : reference;
		made->database_count = table->key_count ? shard_count : 1;
	}
	*out = list;
}

void mg_engine_exec_row_ids(struct mg_arena *arena, struct mg_exec_table *tables,
                            size_t table_count)
{
	for (size_t i = 0; i < table_count; i++) {
		struct mg_exec_table *table = &tables[i];
		size_t count = table->column_count;
		const char **columns = mg_arena_new_array(arena, const char *, count + 1);
		const char **types = mg_arena_new_array(arena, const char *, count + 1);
		columns[0] = "_mg_rid";
		types[0] = "BIGINT";
		memcpy(columns + 1, table->columns, count * sizeof *columns);
		memcpy(types + 1, table->types, count * sizeof *types);
		table->columns = columns;
		table->types = types;
		table->column_count = count + 1;
	}
}

/* ---- views under the tables' own names, for original text ---- */

static int create_schema(struct mg_duck_conn *conn, const char *schema, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "CREATE SCHEMA IF NOT EXISTS ");
	mg_sb_add_ident(&sql, schema);
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

static int create_view(struct mg_duck_conn *conn, const struct mg_exec_table *table,
                       struct mg_error *err)
{
	int code = create_schema(conn, table->schema, err);
	if (code) {
		return code;
	}
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "CREATE OR REPLACE VIEW ");
	mg_sb_add_ident(&sql, table->schema);
	mg_sb_add_char(&sql, '.');
	mg_sb_add_ident(&sql, table->table);
	mg_sb_add(&sql, " AS ");
	mg_exec_table_select(&sql, table);
	code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

/* Is the attached file the one that the catalog means? A file of another place, load or cluster
 * opens as well, and would answer wrongly. */
static int check_shard(struct mg_engine *engine, const struct mg_catalog_data *data, uint32_t index,
                       struct mg_error *err)
{
	const struct mg_shard *shard = &data->shards[index];
	const struct mg_shard_meta meta = {
		.cluster_id = data->cluster_id,
		.sample = data->sample ? data->sample : "",
		.shard = shard->id,
		.shard_count = data->shard_count,
		.slot_first = shard->slot_first,
		.slot_last = shard->slot_last,
		.file_format = MG_FILE_FORMAT,
	};
	struct mg_duck_conn *conn = NULL;
	int code = mg_duck_connect(engine->duck, &conn, err);
	if (!code) {
		code = mg_shard_file_check(conn, &meta, err);
		mg_duck_disconnect(conn);
	}
	return code;
}

static int open_shards(struct mg_engine *engine, const struct mg_catalog_data *data,
                       struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_arena *arena = mg_arena_new();
	int code = 0;
	for (uint32_t i = 0; !code && data->table_count && i <= data->shard_count; i++) {
		const char *path = mg_arena_format(arena, "%s/%s", engine->data_dir, data->shards[i].file);
		code = mg_engine_attach(engine->duck, data->shards[i].id, path, err);
		code = code ? code : check_shard(engine, data, i, err);
		if (code) {
			mg_error_hint(
				err,
				"The file is damaged or missing; run \"merganser bootstrap\" again to rebuild it.");
		}
	}
	if (!code) {
		code = mg_duck_connect(engine->duck, &conn, err);
	}
	if (!code) {
		uint32_t *all = mg_arena_new_array(arena, uint32_t, data->shard_count + 1);
		for (uint32_t i = 0; i < data->shard_count; i++) {
			all[i] = i + 1;
		}
		struct mg_exec_table *tables;
		mg_engine_exec_tables(arena, data->tables, data->table_count, all, data->shard_count,
		                      &tables);
		for (size_t i = 0; !code && i < data->table_count; i++) {
			code = create_view(conn, &tables[i], err);
		}
		for (size_t i = 0; !code && i < data->view_count; i++) {
			const struct mg_view *view = &data->views[i];
			code = create_schema(conn, view->schema, err);
			if (!code) {
				code = mg_duck_execf(conn, err, "CREATE OR REPLACE VIEW \"%s\".\"%s\" AS %s",
				                     view->schema, view->name, view->sql);
			}
		}
	}
	mg_duck_disconnect(conn);
	mg_arena_free(arena);
	return code;
}

/* ---- the planning database: the same tables, real, with a sample ---- */

static void add_table_ddl(struct mg_sb *sql, const struct mg_table *table)
{
	mg_sb_add(sql, "CREATE SCHEMA IF NOT EXISTS ");
	mg_sb_add_ident(sql, table->schema);
	mg_sb_add(sql, "; CREATE TABLE ");
	mg_sb_add_ident(sql, table->schema);
	mg_sb_add_char(sql, '.');
	mg_sb_add_ident(sql, table->name);
	mg_sb_add_char(sql, '(');
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, table->columns[i].name);
		mg_sb_addf(sql, " %s%s", table->columns[i].type,
		           table->columns[i].not_null ? " NOT NULL" : "");
	}
	mg_sb_add_char(sql, ')');
}

/* The same fraction of every partitioned table, as a range of slots, so that joins keep matching.
 */
static double sample_fraction(const struct mg_catalog_data *data)
{
	uint64_t largest = 0;
	for (size_t i = 0; i < data->table_count; i++) {
		if (data->tables[i].key_count && data->tables[i].rows > largest) {
			largest = data->tables[i].rows;
		}
	}
	if (largest <= SAMPLE_ROWS_MIN) {
		return 1.0;
	}
	double fraction = (double)SAMPLE_ROWS_MIN / (double)largest;
	return fraction > 0.01 ? fraction : 0.01;
}

static void add_sample_sql(struct mg_sb *sql, const struct mg_engine *engine,
                           const struct mg_catalog_data *data, const struct mg_table *table,
                           double fraction)
{
	mg_sb_add(sql, "INSERT INTO ");
	mg_sb_add_ident(sql, table->schema);
	mg_sb_add_char(sql, '.');
	mg_sb_add_ident(sql, table->name);
	mg_sb_add(sql, " SELECT ");
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, table->columns[i].name);
	}
	unsigned last = (unsigned)(fraction * MG_SLOT_COUNT);
	/* Slots from 0 on lie in the first shard: its file alone is read unless the fraction is larger.
	 */
	mg_sb_add(sql, " FROM (");
	uint32_t first = table->key_count ? 1 : 0, end = table->key_count ? data->shard_count : 0;
	bool any = false;
	for (uint32_t i = first; i <= end; i++) {
		if (table->key_count && data->shards[i].slot_first > last) {
			break;
		}
		mg_sb_addf(sql, "%sSELECT * FROM s%u.", any ? " UNION ALL " : "", i);
		mg_sb_add_ident(sql, table->schema);
		mg_sb_add_char(sql, '.');
		mg_sb_add_ident(sql, table->name);
		any = true;
	}
	mg_sb_add_char(sql, ')');
	if (table->key_count && fraction < 1.0) {
		mg_sb_addf(sql, " WHERE _mg_slot < %u", last ? last : 1);
	} else if (!table->key_count) {
		mg_sb_addf(sql, " LIMIT %u", SAMPLE_ALL_ROWS);
	}
	(void)engine;
}

/* How many rows of each table the planner sees: its estimates are scaled by that. */
static int count_samples(struct mg_engine *engine, const struct mg_catalog_data *data,
                         struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_sb sql = { 0 };
	engine->sample_rows = mg_alloc0(sizeof *engine->sample_rows * (data->table_count + 1));
	int code = mg_plandb_borrow(engine->plandb, NULL, &conn, err);
	for (size_t i = 0; !code && i < data->table_count; i++) {
		int64_t rows = 0;
		mg_sb_clear(&sql);
		mg_sb_add(&sql, "SELECT count(*) FROM ");
		mg_sb_add_ident(&sql, data->tables[i].schema);
		mg_sb_add_char(&sql, '.');
		mg_sb_add_ident(&sql, data->tables[i].name);
		code = mg_duck_int(conn, mg_sb_text(&sql), &rows, err);
		engine->sample_rows[i] = (uint64_t)rows;
	}
	if (conn) {
		mg_plandb_give_back(engine->plandb, conn);
	}
	mg_sb_fini(&sql);
	return code;
}

uint64_t mg_engine_sample_rows(const struct mg_engine *engine, size_t table)
{
	return engine->sample_rows[table];
}

static int fill_plandb(struct mg_engine *engine, const struct mg_catalog_data *data,
                       struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	double fraction = sample_fraction(data);
	int code = 0;
	for (uint32_t i = 0; !code && data->table_count && i <= data->shard_count; i++) {
		mg_sb_clear(&sql);
		char path[4096];
		snprintf(path, sizeof path, "%s/%s", engine->data_dir, data->shards[i].file);
		mg_sb_add(&sql, "ATTACH ");
		mg_sb_add_literal(&sql, path, strlen(path));
		mg_sb_addf(&sql, " AS s%u (READ_ONLY)", i);
		code = mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	}
	for (size_t i = 0; !code && i < data->table_count; i++) {
		mg_sb_clear(&sql);
		add_table_ddl(&sql, &data->tables[i]);
		code = mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
		if (!code) {
			mg_sb_clear(&sql);
			add_sample_sql(&sql, engine, data, &data->tables[i], fraction);
			code = mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
		}
	}
	for (size_t i = 0; !code && i < data->view_count; i++) {
		mg_sb_clear(&sql);
		mg_sb_add(&sql, "CREATE SCHEMA IF NOT EXISTS ");
		mg_sb_add_ident(&sql, data->views[i].schema);
		mg_sb_add(&sql, "; CREATE VIEW ");
		mg_sb_add_ident(&sql, data->views[i].schema);
		mg_sb_add_char(&sql, '.');
		mg_sb_add_ident(&sql, data->views[i].name);
		mg_sb_addf(&sql, " AS %s", data->views[i].sql);
		code = mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	}
	for (uint32_t i = 0; !code && data->table_count && i <= data->shard_count; i++) {
		mg_sb_clear(&sql);
		mg_sb_addf(&sql, "DETACH s%u", i);
		code = mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	}
	if (!code) {
		code = mg_plandb_seal(engine->plandb, err);
	}
	if (!code) {
		code = count_samples(engine, data, err);
	}
	mg_sb_fini(&sql);
	return code ? mg_error_wrap(err, "while filling the planning database") : 0;
}

/* ---- life ---- */

static int open_duck(struct mg_engine *engine, struct mg_error *err)
{
	engine->spill_dir = mg_format("%s/spill", engine->data_dir);
	/* What an earlier life left behind, after kill -9. */
	mg_tree_remove(engine->spill_dir, NULL);
	int code = mg_dir_make(engine->spill_dir, 0700, err);
	if (code) {
		return code;
	}
	struct mg_duck_options options = {
		.threads = engine->options.threads,
		.memory_bytes = engine->options.memory_bytes,
		.spill_dir = engine->spill_dir,
		.lossless_arrow = true,
	};
	code = mg_duck_open(&engine->duck, &options, err);
	if (code) {
		return code;
	}
	char *shards = mg_format("%s/shards", engine->data_dir);
	const char *dirs[] = { shards, engine->spill_dir };
	code = mg_duck_fence(engine->duck, dirs, 2, err);
	mg_free(shards);
	return code;
}

int mg_engine_open(struct mg_engine **out, const struct mg_engine_options *options,
                   struct mg_error *err)
{
	struct mg_engine *engine = mg_alloc0(sizeof *engine);
	engine->options = *options;
	engine->data_dir = mg_strdup(options->data_dir);
	engine->node_name = mg_strdup(options->node_name);
	engine->address = mg_strdup(options->address ? options->address : "");
	engine->catalog = options->catalog;
	engine->since_ms = (uint64_t)mg_clock_wall_ms();
	engine->threads_given = options->threads > 0;
	engine->options.threads = options->threads ? options->threads : mg_engine_default_threads();
	engine->options.memory_bytes = options->memory_bytes ? options->memory_bytes
	                                                     : mg_engine_default_memory();
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	int code = open_duck(engine, err);
	if (!code) {
		code = open_shards(engine, data, err);
	}
	if (!code) {
		code = mg_plandb_open(&engine->plandb, err);
	}
	if (!code) {
		code = fill_plandb(engine, data, err);
	}
	if (!code) {
		code = mg_hub_new(&engine->hub, engine, engine->data_dir, err);
	}
	mg_catalog_give(engine->catalog, data);
	if (code) {
		mg_engine_close(engine);
		return code;
	}
	*out = engine;
	return 0;
}

void mg_engine_close(struct mg_engine *engine)
{
	if (!engine) {
		return;
	}
	mg_hub_free(engine->hub);
	mg_plandb_close(engine->plandb);
	mg_duck_close(engine->duck);
	if (engine->spill_dir) {
		mg_tree_remove(engine->spill_dir, NULL);
	}
	mg_free(engine->sample_rows);
	mg_free(engine->spill_dir);
	mg_free(engine->data_dir);
	mg_free(engine->node_name);
	mg_free(engine->address);
	mg_free(engine);
}

const char *mg_engine_node_name(const struct mg_engine *engine)
{
	return engine->node_name;
}

struct mg_catalog *mg_engine_catalog(struct mg_engine *engine)
{
	return engine->catalog;
}

struct mg_plandb *mg_engine_plandb(struct mg_engine *engine)
{
	return engine->plandb;
}

const char *mg_engine_spill_dir(struct mg_engine *engine)
{
	return engine->spill_dir;
}

struct mg_duck *mg_engine_duck(struct mg_engine *engine)
{
	return engine->duck;
}

struct mg_hub *mg_engine_hub(struct mg_engine *engine)
{
	return engine->hub;
}

unsigned mg_engine_threads(const struct mg_engine *engine)
{
	return engine->options.threads;
}

bool mg_engine_threads_given(const struct mg_engine *engine)
{
	return engine->threads_given;
}

uint64_t mg_engine_memory(const struct mg_engine *engine)
{
	return engine->options.memory_bytes;
}

void mg_engine_budget(struct mg_engine *engine, struct mg_spool_budget *budget)
{
	*budget = (struct mg_spool_budget){
		.limit = engine->options.query_memory_bytes ? engine->options.query_memory_bytes
		                                            : engine->options.memory_bytes / 8,
		.spill_dir = engine->spill_dir,
	};
}

size_t mg_engine_nodes(struct mg_engine *engine, struct mg_node_info *infos, size_t max)
{
	if (max) {
		struct mg_node_info *self = &infos[0];
		*self = (struct mg_node_info){ .role = "server", .state = "ready" };
		mg_copy_text(self->id, sizeof self->id, engine->node_name);
		mg_copy_text(self->address, sizeof self->address, engine->address);
		mg_copy_text(self->version, sizeof self->version, MG_VERSION);
		const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
		self->shards = data->shard_count;
		mg_catalog_give(engine->catalog, data);
		self->threads = engine->options.threads;
		self->memory_bytes = engine->options.memory_bytes;
		self->since_ms = engine->since_ms;
	}
	return 1 + mg_hub_nodes(engine->hub, infos ? infos + 1 : NULL, max ? max - 1 : 0);
}
