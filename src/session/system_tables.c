/*
 * system_tables.c - columns and rows of the tables of the schema "cluster".
 *
 * Each table has a list of columns with SQL types and a function that writes its rows as VALUES;
 * the outer SELECT casts every column, so the types hold for any rows.  One statement replaces a
 * table, so a reader sees the old rows or the new ones, and the dropped table's memory is given
 * back at once.
 *
 * Limits: MG_EVENTS_MAX events; texts of statements are cut to SQL_SHOWN_MAX bytes.
 */
#include "session/system_tables.h"

#include "base/mem.h"
#include "codec/slot.h"
#include "os/clock.h"
#include "replica/kv_groups.h"
#include "replica/replica.h"
#include "session/settings.h"
#include "sql/cursor.h"
#include "sql/statement.h"
#include "store/duck.h"

#include <pthread.h>
#include <string.h>

enum { SQL_SHOWN_MAX = 1000, NODES_MAX = 256, REPLICAS_MAX = 65536, COLUMNS_MAX = 20 };

struct event {
	uint64_t at_ms;
	char *event, *detail;
};

struct mg_system_tables {
	struct mg_system_tables_options options;
	pthread_mutex_t lock; /* one refresh at a time */
	pthread_mutex_t events_lock;
	struct event events[MG_EVENTS_MAX]; /* ring */
	size_t events_first, events_count;
};

/* ---- rows as VALUES ---- */

struct rows {
	struct mg_system_tables *tables;
	const struct mg_viewer *viewer;
	struct mg_arena *arena;
	struct mg_sb *sb;
	size_t rows, column;
};

static void row_begin(struct rows *rows)
{
	mg_sb_add(rows->sb, rows->rows++ ? ",\n(" : "(");
	rows->column = 0;
}

static void row_end(struct rows *rows)
{
	mg_sb_add_char(rows->sb, ')');
}

static void comma(struct rows *rows)
{
	mg_sb_add(rows->sb, rows->column++ ? ", " : "");
}

static void add_text_max(struct rows *rows, const char *text, size_t max)
{
	comma(rows);
	if (!text) {
		mg_sb_add(rows->sb, "NULL");
		return;
	}
	size_t len = strnlen(text, max);

	while (text[len] && len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
		len--;
	}
	mg_sb_add_literal(rows->sb, text, len);
}

static void add_text(struct rows *rows, const char *text)
{
	add_text_max(rows, text, SIZE_MAX);
}

/* NULL for the empty text. */
static void add_text_or_null(struct rows *rows, const char *text)
{
	add_text(rows, text && text[0] ? text : NULL);
}

static void add_int(struct rows *rows, uint64_t value)
{
	comma(rows);
	mg_sb_addf(rows->sb, "%llu", (unsigned long long)value);
}

static void add_bool(struct rows *rows, bool value)
{
	comma(rows);
	mg_sb_add(rows->sb, value ? "true" : "false");
}

static void add_double(struct rows *rows, double value)
{
	comma(rows);
	mg_sb_addf(rows->sb, "%.3f", value);
}

/* NULL for 0. */
static void add_int_or_null(struct rows *rows, uint64_t value)
{
	if (value) {
		add_int(rows, value);
	} else {
		add_text(rows, NULL);
	}
}

/* Likewise. */
static void add_time(struct rows *rows, uint64_t ms)
{
	comma(rows);
	if (!ms) {
		mg_sb_add(rows->sb, "NULL");
		return;
	}
	mg_sb_addf(rows->sb, "epoch_ms(%llu)", (unsigned long long)ms);
}

static void add_list(struct rows *rows, const char **texts, size_t count)
{
	comma(rows);
	mg_sb_add(rows->sb, "CAST([");
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(rows->sb, i ? ", " : "");
		mg_sb_add_literal(rows->sb, texts[i], strlen(texts[i]));
	}
	mg_sb_add(rows->sb, "] AS VARCHAR[])");
}

/* ---- what each table holds ---- */

static size_t take_nodes(struct rows *rows, struct mg_node_info **nodes)
{
	*nodes = mg_arena_new_array(rows->arena, struct mg_node_info, NODES_MAX);
	size_t count = mg_engine_nodes(rows->tables->options.engine, *nodes, NODES_MAX);

	return count < NODES_MAX ? count : NODES_MAX;
}

static void fill_nodes(struct rows *rows, const struct mg_catalog_data *data)
{
	struct mg_node_info *nodes;
	size_t count = take_nodes(rows, &nodes);
	struct mg_replica *replica = mg_engine_replica(rows->tables->options.engine);
	const struct mg_catalog_node *leads =
		mg_catalog_find_node(data, mg_replica_coordinator(replica));

	for (size_t i = 0; i < count; i++) {
		bool server = mg_text_eq(nodes[i].role, "server");

		row_begin(rows);
		add_text(rows, nodes[i].id);
		add_text(rows, nodes[i].role);
		add_text(rows, nodes[i].state);
		add_text(rows, nodes[i].address);
		add_text(rows, nodes[i].version);
		add_int(rows, nodes[i].shards);
		add_int_or_null(rows, nodes[i].threads);
		add_int_or_null(rows, nodes[i].memory_bytes);
		add_time(rows, nodes[i].since_ms);
		add_bool(rows, server && leads && mg_text_eq(leads->id, nodes[i].id));
		row_end(rows);
	}
}

static void fill_shards(struct rows *rows, const struct mg_catalog_data *data)
{
	for (size_t i = 0; data->shards && i <= data->shard_count; i++) {
		const struct mg_shard *shard = &data->shards[i];

		row_begin(rows);
		add_int(rows, shard->id);
		add_text(rows, shard->id == 0 ? "reference" : "partition");
		add_int(rows, shard->slot_first);
		add_int(rows, shard->slot_last);
		add_int(rows, shard->rows);
		add_int(rows, shard->bytes);
		add_text(rows, shard->sha256);
		add_text_or_null(rows, shard->created);
		add_text(rows, shard->engine_version);
		add_int(rows, shard->file_format);
		row_end(rows);
	}
}

/* Below 0: it is not known. */
static void add_known(struct rows *rows, int64_t value)
{
	if (value >= 0) {
		add_int(rows, (uint64_t)value);
	} else {
		add_text(rows, NULL);
	}
}

static void add_replica(struct rows *rows, const struct mg_replica_info *info)
{
	row_begin(rows);
	add_int(rows, info->shard);
	add_text(rows, info->node);
	add_text(rows, info->role);
	add_text(rows, info->state);
	add_known(rows, info->lag);
	add_known(rows, info->lag_ms);
	add_known(rows, info->applied);
	row_end(rows);
}

static void fill_replicas(struct rows *rows, const struct mg_catalog_data *data)
{
	const struct mg_system_tables_options *options = &rows->tables->options;

	if (options->replicas) {
		size_t count = options->replicas(options->arg, NULL, 0), max = count + 64;

		max = max < REPLICAS_MAX ? max : REPLICAS_MAX;
		struct mg_replica_info *infos =
			mg_arena_new_array(rows->arena, struct mg_replica_info, max);

		count = options->replicas(options->arg, infos, max);
		for (size_t i = 0; i < count && i < max; i++) {
			add_replica(rows, &infos[i]);
		}
		return;
	}
	struct mg_node_info *nodes;
	size_t count = take_nodes(rows, &nodes);

	for (size_t i = 0; i < count; i++) {
		for (size_t shard = 0; mg_text_eq(nodes[i].role, "server") && shard <= data->shard_count;
		     shard++) {
			struct mg_replica_info info = {
				.shard = data->shards[shard].id,
				.role = nodes[i].role,
				.state = nodes[i].state,
				.lag = -1,
				.lag_ms = -1,
				.applied = -1,
			};

			mg_copy_text(info.node, sizeof info.node, nodes[i].id);
			add_replica(rows, &info);
		}
	}
}

static void fill_tables(struct rows *rows, const struct mg_catalog_data *data)
{
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];
		uint64_t count, sampled;

		mg_engine_rows(rows->tables->options.engine, table, &count, &sampled);
		row_begin(rows);
		add_text(rows, table->schema);
		add_text(rows, table->name);
		add_text(rows, table->key_count ? "partitioned" : "reference");
		add_list(rows, table->keys, table->key_count);
		add_list(rows, table->primary_key, table->primary_key_count);
		add_int(rows, table->column_count);
		add_int(rows, count);
		add_int(rows, table->bytes);
		row_end(rows);
	}
}

/* ---- namespaces of keys, as this node has them ---- */

struct spaces {
	struct mg_arena *arena;
	struct space {
		struct mg_str name;
		uint64_t keys, bytes;
	} *list;
	size_t count, cap;
};

static struct space *find_space(struct spaces *spaces, struct mg_str name)
{
	size_t i = 0;

	while (i < spaces->count && !mg_str_eq(spaces->list[i].name, name)) {
		i++;
	}
	if (i == spaces->count) {
		mg_grow(spaces->list, spaces->count, spaces->cap);
		spaces->list[spaces->count++] = (struct space){
			.name = { mg_arena_strndup(spaces->arena, name.ptr, name.len), name.len },
		};
	}
	return &spaces->list[i];
}

/* Once for each shard that has keys of it. */
static void add_space(void *arg, struct mg_str name, uint64_t keys, uint64_t bytes)
{
	struct space *space = find_space(arg, name);

	space->keys += keys;
	space->bytes += bytes;
}

static void add_seconds_or_null(struct rows *rows, uint64_t ms)
{
	if (ms) {
		add_double(rows, (double)ms / 1000);
	} else {
		add_text(rows, NULL);
	}
}

static void add_space_row(struct rows *rows, const struct space *space,
                          const struct mg_catalog_space *wanted)
{
	row_begin(rows);
	add_text(rows, space->name.ptr);
	add_int(rows, space->keys);
	add_int(rows, space->bytes);
	add_seconds_or_null(rows, wanted ? wanted->default_ttl_ms : 0);
	add_int_or_null(rows, wanted ? wanted->quota_bytes : 0);
	add_int_or_null(rows, wanted ? wanted->quota_keys : 0);
	row_end(rows);
}

/* Those that have keys, and those of which something is wanted. */
static void fill_kv_namespaces(struct rows *rows, const struct mg_catalog_data *data)
{
	struct mg_replica *replica = mg_engine_replica(rows->tables->options.engine);
	struct spaces spaces = { .arena = rows->arena };
	struct mg_error ignored;

	for (uint32_t i = 0; i < mg_replica_kv_shards(replica); i++) {
		(void)mg_kv_state_spaces(mg_replica_kv_state(replica, i), add_space, &spaces, &ignored);
	}
	for (size_t i = 0; i < data->space_count; i++) {
		(void)find_space(&spaces, mg_str(data->spaces[i].name));
	}
	for (size_t i = 0; i < spaces.count; i++) {
		add_space_row(rows, &spaces.list[i], mg_catalog_find_space(data, spaces.list[i].name));
	}
	mg_free(spaces.list);
}

struct sum {
	uint64_t keys, bytes;
};

static void add_to_sum(void *arg, struct mg_str name, uint64_t keys, uint64_t bytes)
{
	struct sum *sum = arg;

	(void)name;
	sum->keys += keys;
	sum->bytes += bytes;
}

static void fill_kv_shards(struct rows *rows, const struct mg_catalog_data *data)
{
	struct mg_replica *replica = mg_engine_replica(rows->tables->options.engine);
	uint32_t count = mg_replica_kv_shards(replica);
	struct mg_error ignored;

	(void)data;
	for (uint32_t i = 0; i < count; i++) {
		struct mg_kv_state *state = mg_replica_kv_state(replica, i);
		struct sum sum = { 0 };

		(void)mg_kv_state_spaces(state, add_to_sum, &sum, &ignored);
		row_begin(rows);
		add_int(rows, i);
		add_int(rows, mg_slot_first(i, count));
		add_int(rows, mg_slot_first(i + 1, count) - 1u);
		add_int(rows, sum.keys);
		add_int(rows, sum.bytes);
		add_int(rows, mg_kv_state_index(state));
		row_end(rows);
	}
}

/* The text of a statement, and what is said about it, is its user's: constants are data. */
static void fill_query(struct rows *rows, const struct mg_query_info *info, bool past)
{
	const struct mg_viewer *viewer = rows->viewer;
	bool shown = viewer->admin || strcmp(viewer->user, info->user) == 0;

	row_begin(rows);
	add_text(rows, info->id);
	add_text(rows, info->session);
	add_text(rows, info->user);
	add_text(rows, mg_query_state_names[info->state]);
	add_text_max(rows, shown ? info->sql : NULL, SQL_SHOWN_MAX);
	add_time(rows, info->started_ms);
	add_double(rows, info->elapsed_ms);
	if (past) {
		add_text_or_null(rows, info->step);
		add_text_or_null(rows, shown ? info->reason : NULL);
		add_int(rows, info->rows);
		add_int(rows, info->bytes);
		add_int(rows, info->moved_bytes);
		add_int(rows, info->nodes);
		add_int(rows, info->workers);
		add_int(rows, info->shards);
		add_text_or_null(rows, info->sqlstate);
		add_text_or_null(rows, shown ? info->error : NULL);
	} else {
		add_double(rows, info->done < 0 ? 0 : info->done);
		add_int(rows, info->rows);
		add_int(rows, info->bytes);
		add_int(rows, info->nodes);
	}
	row_end(rows);
}

static void fill_queries(struct rows *rows, const struct mg_catalog_data *data)
{
	struct mg_query_info *infos;
	size_t count = mg_queries_running(rows->tables->options.queries, rows->arena, &infos);

	(void)data;
	for (size_t i = 0; i < count; i++) {
		fill_query(rows, &infos[i], false);
	}
}

static void fill_query_history(struct rows *rows, const struct mg_catalog_data *data)
{
	struct mg_query_info *infos;
	size_t count = mg_queries_history(rows->tables->options.queries, rows->arena, &infos);

	(void)data;
	for (size_t i = 0; i < count; i++) {
		fill_query(rows, &infos[i], true);
	}
}

static void fill_users(struct rows *rows, const struct mg_catalog_data *data)
{
	static const char *const roles[] = { "none", "client", "worker", "admin" };

	for (size_t i = 0; i < data->user_count; i++) {
		row_begin(rows);
		add_text(rows, data->users[i].name);
		add_text(rows, roles[data->users[i].role]);
		row_end(rows);
	}
}

static void add_setting(struct rows *rows, const struct mg_server_setting *setting,
                        const char *scope)
{
	row_begin(rows);
	add_text(rows, setting->name);
	add_text(rows, setting->value);
	add_text(rows, setting->standard);
	add_text(rows, setting->source);
	add_text(rows, scope);
	add_text(rows, setting->description);
	row_end(rows);
}

static void fill_settings(struct rows *rows, const struct mg_catalog_data *data)
{
	const struct mg_system_tables_options *options = &rows->tables->options;
	const char *name, *standard, *description;

	(void)data;
	for (size_t i = 0; mg_settings_at(i, &name, &standard, &description); i++) {
		struct mg_sb value = { 0 };

		(void)mg_settings_get(rows->viewer->settings, name, &value, NULL);
		add_setting(rows,
		            &(struct mg_server_setting){
						.name = name,
						.value = mg_sb_text(&value),
						.standard = standard,
						.source = mg_text_eq(mg_sb_text(&value), standard) ? "default" : "set",
						.description = description,
					},
		            "session");
		mg_sb_fini(&value);
	}
	for (size_t i = 0; rows->viewer->admin && i < options->setting_count; i++) {
		add_setting(rows, &options->settings[i], "server");
	}
}

/* Jobs and key-value namespaces come with their own doors; the tables are there from the start. */
static void fill_none(struct rows *rows, const struct mg_catalog_data *data)
{
	(void)rows;
	(void)data;
}

static void fill_events(struct rows *rows, const struct mg_catalog_data *data)
{
	struct mg_system_tables *tables = rows->tables;

	(void)data;
	pthread_mutex_lock(&tables->events_lock);
	for (size_t i = 0; i < tables->events_count; i++) {
		const struct event *event = &tables->events[(tables->events_first + i) % MG_EVENTS_MAX];

		row_begin(rows);
		add_time(rows, event->at_ms);
		add_text(rows, event->event);
		add_text(rows, event->detail);
		row_end(rows);
	}
	pthread_mutex_unlock(&tables->events_lock);
}

struct column {
	const char *name, *type;
};

struct system_table {
	const char *name;
	void (*fill)(struct rows *rows, const struct mg_catalog_data *data);
	struct column columns[COLUMNS_MAX]; /* ends with a NULL name */
};

static const struct system_table table_list[MG_SYSTEM_TABLE_COUNT] = {
	{ "nodes",
	  fill_nodes,
	  { { "id", "VARCHAR" },
	    { "role", "VARCHAR" },
	    { "state", "VARCHAR" },
	    { "address", "VARCHAR" },
	    { "version", "VARCHAR" },
	    { "shards", "UINTEGER" },
	    { "threads", "UINTEGER" },
	    { "memory_bytes", "UBIGINT" },
	    { "since", "TIMESTAMP" },
	    { "coordinator", "BOOLEAN" } } },
	{ "shards",
	  fill_shards,
	  { { "id", "UINTEGER" },
	    { "kind", "VARCHAR" },
	    { "slot_first", "USMALLINT" },
	    { "slot_last", "USMALLINT" },
	    { "rows", "UBIGINT" },
	    { "bytes", "UBIGINT" },
	    { "sha256", "VARCHAR" },
	    { "created", "VARCHAR" },
	    { "engine_version", "VARCHAR" },
	    { "file_format", "UINTEGER" } } },
	{ "replicas",
	  fill_replicas,
	  { { "shard", "UINTEGER" },
	    { "node", "VARCHAR" },
	    { "role", "VARCHAR" },
	    { "state", "VARCHAR" },
	    { "lag", "UBIGINT" },
	    { "lag_ms", "UBIGINT" },
	    { "applied", "UBIGINT" } } },
	{ "tables",
	  fill_tables,
	  { { "schema", "VARCHAR" },
	    { "name", "VARCHAR" },
	    { "kind", "VARCHAR" },
	    { "partitioned_by", "VARCHAR[]" },
	    { "primary_key", "VARCHAR[]" },
	    { "columns", "UINTEGER" },
	    { "rows", "UBIGINT" },
	    { "bytes", "UBIGINT" } } },
	{ "queries",
	  fill_queries,
	  { { "id", "VARCHAR" },
	    { "session", "VARCHAR" },
	    { "user", "VARCHAR" },
	    { "state", "VARCHAR" },
	    { "sql", "VARCHAR" },
	    { "started", "TIMESTAMP" },
	    { "elapsed_ms", "DOUBLE" },
	    { "done", "DOUBLE" },
	    { "rows", "UBIGINT" },
	    { "bytes", "UBIGINT" },
	    { "nodes", "UINTEGER" } } },
	{ "query_history",
	  fill_query_history,
	  { { "id", "VARCHAR" },
	    { "session", "VARCHAR" },
	    { "user", "VARCHAR" },
	    { "state", "VARCHAR" },
	    { "sql", "VARCHAR" },
	    { "started", "TIMESTAMP" },
	    { "elapsed_ms", "DOUBLE" },
	    { "step", "VARCHAR" },
	    { "reason", "VARCHAR" },
	    { "rows", "UBIGINT" },
	    { "bytes", "UBIGINT" },
	    { "moved_bytes", "UBIGINT" },
	    { "nodes", "UINTEGER" },
	    { "workers", "UINTEGER" },
	    { "shards", "UINTEGER" },
	    { "sqlstate", "VARCHAR" },
	    { "error", "VARCHAR" } } },
	{ "users", fill_users, { { "name", "VARCHAR" }, { "role", "VARCHAR" } } },
	{ "settings",
	  fill_settings,
	  { { "name", "VARCHAR" },
	    { "value", "VARCHAR" },
	    { "default", "VARCHAR" },
	    { "source", "VARCHAR" },
	    { "scope", "VARCHAR" },
	    { "description", "VARCHAR" } } },
	{ "jobs",
	  fill_none,
	  { { "id", "VARCHAR" },
	    { "user", "VARCHAR" },
	    { "state", "VARCHAR" },
	    { "started", "TIMESTAMP" } } },
	{ "kv_namespaces",
	  fill_kv_namespaces,
	  { { "name", "VARCHAR" },
	    { "keys", "UBIGINT" },
	    { "bytes", "UBIGINT" },
	    { "default_ttl", "DOUBLE" },
	    { "quota_bytes", "UBIGINT" },
	    { "quota_keys", "UBIGINT" } } },
	{ "kv_shards",
	  fill_kv_shards,
	  { { "shard", "UINTEGER" },
	    { "slot_first", "USMALLINT" },
	    { "slot_last", "USMALLINT" },
	    { "keys", "UBIGINT" },
	    { "bytes", "UBIGINT" },
	    { "applied", "UBIGINT" } } },
	{ "events",
	  fill_events,
	  { { "at", "TIMESTAMP" }, { "event", "VARCHAR" }, { "detail", "VARCHAR" } } },
};

const char *mg_system_table_name(size_t index)
{
	return table_list[index].name;
}

const char *mg_system_table_column(size_t index, size_t column)
{
	return column < COLUMNS_MAX ? table_list[index].columns[column].name : NULL;
}

/* CREATE OR REPLACE TABLE with the columns alone when values is empty. */
static void table_sql(const struct system_table *table, const struct mg_sb *values,
                      struct mg_sb *out)
{
	mg_sb_addf(out, "CREATE OR REPLACE TABLE cluster.%s", table->name);
	if (values->len == 0) {
		for (size_t i = 0; table->columns[i].name; i++) {
			mg_sb_add(out, i ? ", " : " (");
			mg_sb_add_ident(out, table->columns[i].name);
			mg_sb_addf(out, " %s", table->columns[i].type);
		}
		mg_sb_add_char(out, ')');
		return;
	}
	mg_sb_add(out, " AS SELECT ");
	for (size_t i = 0; table->columns[i].name; i++) {
		mg_sb_addf(out, "%sCAST(c%zu AS %s) AS ", i ? ", " : "", i, table->columns[i].type);
		mg_sb_add_ident(out, table->columns[i].name);
	}
	mg_sb_addf(out, " FROM (VALUES %s) AS t(", values->ptr);
	for (size_t i = 0; table->columns[i].name; i++) {
		mg_sb_addf(out, "%sc%zu", i ? ", " : "", i);
	}
	mg_sb_add_char(out, ')');
}

void mg_system_table_sql(struct mg_system_tables *tables, size_t index,
                         const struct mg_viewer *viewer, struct mg_sb *out)
{
	struct mg_catalog *catalog = mg_engine_catalog(tables->options.engine);
	struct mg_sb values = { 0 };
	struct rows rows = {
		.tables = tables, .viewer = viewer, .arena = mg_arena_new(), .sb = &values
	};
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	table_list[index].fill(&rows, data);
	mg_catalog_give(catalog, data);
	table_sql(&table_list[index], &values, out);
	mg_sb_fini(&values);
	mg_arena_free(rows.arena);
}

/* ---- which tables a statement names ---- */

static uint32_t table_bit(struct mg_token token)
{
	for (size_t i = 0; i < MG_SYSTEM_TABLE_COUNT; i++) {
		if (mg_token_is_name(token, table_list[i].name)) {
			return 1u << i;
		}
	}
	return mg_token_is_name(token, "changes") ? 1u << MG_SYSTEM_TABLE_COUNT : 0;
}

uint32_t mg_system_tables_named(struct mg_str sql)
{
	struct mg_lexer lexer;
	uint32_t bits = 0;

	mg_lex_init(&lexer, sql);
	for (struct mg_token token = mg_lex_next(&lexer);
	     token.kind != MG_T_END && token.kind != MG_T_BAD;) {
		if (!mg_token_is_name(token, "cluster")) {
			token = mg_lex_next(&lexer);
			continue;
		}
		token = mg_lex_next(&lexer);
		if (mg_token_is_sign(token, '.')) {
			token = mg_lex_next(&lexer);
			bits |= table_bit(token);
		}
	}
	return bits;
}

/* ---- life ---- */

int mg_system_tables_new(struct mg_system_tables **out,
                         const struct mg_system_tables_options *options, struct mg_error *err)
{
	struct mg_plandb *plandb = mg_engine_plandb(options->engine);
	struct mg_system_tables *tables = mg_alloc0(sizeof *tables);
	const struct mg_sb none = { 0 };
	struct mg_sb sql = { 0 };

	tables->options = *options;
	pthread_mutex_init(&tables->lock, NULL);
	pthread_mutex_init(&tables->events_lock, NULL);
	int code = mg_plandb_exec(plandb, "CREATE SCHEMA IF NOT EXISTS cluster", err);

	for (size_t i = 0; !code && i < MG_SYSTEM_TABLE_COUNT; i++) {
		mg_sb_clear(&sql);
		table_sql(&table_list[i], &none, &sql);
		code = mg_plandb_exec(plandb, mg_sb_text(&sql), err);
	}
	for (size_t i = 0; !code && i < MG_CHANGES_CALLS_MAX; i++) {
		mg_sb_clear(&sql);
		mg_changes_call_empty(i, &sql);
		code = mg_plandb_exec(plandb, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	if (code) {
		mg_system_tables_free(tables);
		return mg_error_wrap(err, "while making the schema \"cluster\"");
	}
	*out = tables;
	return 0;
}

void mg_system_tables_free(struct mg_system_tables *tables)
{
	if (!tables) {
		return;
	}
	for (size_t i = 0; i < MG_EVENTS_MAX; i++) {
		mg_free(tables->events[i].event);
		mg_free(tables->events[i].detail);
	}
	pthread_mutex_destroy(&tables->events_lock);
	pthread_mutex_destroy(&tables->lock);
	mg_free(tables);
}

int mg_system_tables_refresh(struct mg_system_tables *tables, struct mg_duck_conn *conn,
                             struct mg_str sql, struct mg_changes_calls *calls,
                             const struct mg_viewer *viewer, bool *transaction,
                             struct mg_error *err)
{
	uint32_t bits = mg_system_tables_named(sql);
	struct mg_sb text = { 0 };
	int code = 0;

	*transaction = false;
	if (!bits) {
		return 0;
	}
	pthread_mutex_lock(&tables->lock);
	for (size_t i = 0; !code && i < MG_SYSTEM_TABLE_COUNT; i++) {
		if (bits & (1u << i)) {
			mg_sb_clear(&text);
			mg_system_table_sql(tables, i, viewer, &text);
			code = mg_duck_exec(conn, mg_sb_text(&text), err);
		}
	}
	code = code ? code : mg_changes_calls_store(calls, conn, err);
	if (!code) {
		code = mg_duck_exec(conn, "BEGIN TRANSACTION", err);
		*transaction = code == 0;
	}
	if (!code) {
		/* A transaction's snapshot is taken when it first looks. */
		code = mg_duck_exec(conn, "SELECT 0 FROM cluster.nodes LIMIT 0", err);
	}
	pthread_mutex_unlock(&tables->lock);
	mg_sb_fini(&text);
	return code;
}

void mg_system_tables_forget(struct mg_system_tables *tables, const struct mg_changes_calls *calls)
{
	struct mg_error ignored;
	struct mg_sb sql = { 0 };

	if (!calls->count) {
		return;
	}
	pthread_mutex_lock(&tables->lock);
	for (size_t i = 0; i < calls->count; i++) {
		mg_sb_clear(&sql);
		mg_changes_call_empty(i, &sql);
		(void)mg_plandb_exec(mg_engine_plandb(tables->options.engine), mg_sb_text(&sql), &ignored);
	}
	pthread_mutex_unlock(&tables->lock);
	mg_sb_fini(&sql);
}

void mg_system_tables_event(struct mg_system_tables *tables, const char *event, const char *detail)
{
	pthread_mutex_lock(&tables->events_lock);
	struct event *slot =
		&tables->events[(tables->events_first + tables->events_count) % MG_EVENTS_MAX];

	if (tables->events_count == MG_EVENTS_MAX) {
		tables->events_first = (tables->events_first + 1) % MG_EVENTS_MAX;
		mg_free(slot->event);
		mg_free(slot->detail);
	} else {
		tables->events_count++;
	}
	slot->at_ms = (uint64_t)mg_clock_wall_ms();
	slot->event = mg_strdup(event);
	slot->detail = mg_strdup(detail);
	pthread_mutex_unlock(&tables->events_lock);
}
