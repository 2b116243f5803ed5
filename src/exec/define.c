/*
 * define.c - see define.h.
 *
 * One statement at a time: `lock` is held from the look at the catalog until it has changed. CREATE
 * TABLE AS and ALTER TABLE move rows, which may take long, without it; their change of the catalog
 * looks once more.
 *
 * Of several nodes the coordinator of writes alone runs it, in one epoch: the files are made,
 * filled and dropped in it, and the catalog is changed only while it lasts.
 */
#include "exec/define_int.h"

#include "base/json.h"
#include "base/log.h"
#include "exec/engine.h"
#include "exec/pivot.h"
#include "exec/run.h"
#include "exec/sweep.h"
#include "exec/tx.h"
#include "exec/write.h"
#include "os/random.h"
#include "replica/replica.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void mg_define_lock(void)
{
	pthread_mutex_lock(&lock);
}

void mg_define_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* ---- the catalog ---- */

const struct mg_view *mg_define__find_view(const struct mg_catalog_data *data, const char *schema,
                                           const char *name)
{
	for (size_t i = 0; i < data->view_count; i++) {
		if (mg_text_eq_nocase(data->views[i].schema, schema) &&
		    mg_text_eq_nocase(data->views[i].name, name)) {
			return &data->views[i];
		}
	}
	return NULL;
}

static void remove_table(struct mg_catalog_data *data, const char *schema, const char *name)
{
	const struct mg_table *table = mg_catalog_find_table(data, schema, name);

	if (table) {
		size_t at = (size_t)(table - data->tables);

		data->table_count--;
		memmove(&data->tables[at], &data->tables[at + 1],
		        (data->table_count - at) * sizeof *data->tables);
	}
}

static void remove_view(struct mg_catalog_data *data, const char *schema, const char *name)
{
	const struct mg_view *view = mg_define__find_view(data, schema, name);

	if (view) {
		size_t at = (size_t)(view - data->views);

		data->view_count--;
		memmove(&data->views[at], &data->views[at + 1],
		        (data->view_count - at) * sizeof *data->views);
	}
}

/* Others may have swept, or defined, since this node has stopped to coordinate. */
static int check_epoch(const struct mg_define *define, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(define->engine);
	uint64_t now = 0;
	int code = mg_replica_begin(replica, &now, err);

	if (!code && now != define->epoch) {
		code = mg_error_set(err, MG_E_UNAVAILABLE, "another node has coordinated writes meanwhile");
		mg_error_hint(err, "Nothing was done: try again.");
	}
	return code;
}

static int add_table(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                     struct mg_error *err)
{
	struct mg_define *define = arg;
	struct mg_table *tables = mg_arena_new_array(arena, struct mg_table, data->table_count + 1);
	const struct mg_table *old =
		mg_catalog_find_table(data, define->table.schema, define->table.name);

	/* While its rows were loaded others may have used the name. */
	if (mg_define__find_view(data, define->table.schema, define->table.name) ||
	    (old && !define->ddl.or_replace)) {
		return mg_error_set(err, MG_E_DUPLICATE, "\"%s\" is there already", define->table.name);
	}
	define->replaced = old != NULL;
	if (old) {
		define->old = (struct mg_table){
			.schema = mg_arena_strdup(define->arena, old->schema),
			.name = mg_arena_strdup(define->arena, old->name),
			.id = old->id,
			.key_count = old->key_count,
		};
	}
	remove_table(data, define->table.schema, define->table.name);
	memcpy(tables, data->tables, data->table_count * sizeof *tables);
	tables[data->table_count++] = define->table;
	data->tables = tables;
	return 0;
}

static int add_view(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                    struct mg_error *err)
{
	const struct mg_define *define = arg;
	struct mg_view *views = mg_arena_new_array(arena, struct mg_view, data->view_count + 1);

	(void)err;
	remove_view(data, define->view.schema, define->view.name);
	memcpy(views, data->views, data->view_count * sizeof *views);
	views[data->view_count++] = define->view;
	data->views = views;
	return 0;
}

static int add_schema(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                      struct mg_error *err)
{
	const struct mg_define *define = arg;
	const char **schemas = mg_arena_new_array(arena, const char *, data->schema_count + 1);

	(void)err;
	for (size_t i = 0; i < data->schema_count; i++) {
		schemas[i] = data->schemas[i];
	}
	schemas[data->schema_count++] = define->ddl.name;
	data->schemas = schemas;
	return 0;
}

static int drop_object(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                       struct mg_error *err)
{
	const struct mg_define *define = arg;
	size_t kept = 0;

	(void)arena;
	(void)err;
	switch (define->ddl.kind) {
	case MG_DDL_TABLE:
		remove_table(data, define->schema, define->ddl.name);
		break;
	case MG_DDL_VIEW:
		remove_view(data, define->schema, define->ddl.name);
		break;
	case MG_DDL_SCHEMA:
		for (size_t i = 0; i < data->schema_count; i++) {
			if (!mg_text_eq_nocase(data->schemas[i], define->ddl.name)) {
				data->schemas[kept++] = data->schemas[i];
			}
		}
		data->schema_count = kept;
		break;
	case MG_DDL_OBJECT: /* define_object.c */
		break;
	}
	return 0;
}

struct catalog_change {
	struct mg_define *define;
	int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
	              struct mg_error *err);
};

/* On the newest version, maybe several times. */
static int change_in_epoch(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                           struct mg_error *err)
{
	const struct catalog_change *change = arg;
	int code = check_epoch(change->define, err);

	return code ? code : change->change(change->define, arena, data, err);
}

int mg_define__change_catalog(struct mg_define *define,
                              int (*change)(void *arg, struct mg_arena *arena,
                                            struct mg_catalog_data *data, struct mg_error *err),
                              struct mg_error *err)
{
	if (define->settings->tx) {
		return mg_define__step(define, change, err);
	}
	struct catalog_change in_epoch = { define, change };

	return mg_catalog_change(mg_engine_catalog(define->engine), change_in_epoch, &in_epoch, err);
}

/* ---- what DuckDB makes of a table's definition ---- */

static void add_path(struct mg_sb *sql, const char *schema, const char *name)
{
	mg_sb_add_ident(sql, schema);
	mg_sb_add_char(sql, '.');
	mg_sb_add_ident(sql, name);
}

/* The statement as the planning database runs it, for those that follow in its transaction. */
static const char *replay_of(const struct mg_define *define)
{
	const struct mg_ddl *ddl = &define->ddl;
	static const char *const kinds[] = { "TABLE", "VIEW", "SCHEMA" };
	bool object = ddl->kind == MG_DDL_OBJECT;
	struct mg_sb sql = { 0 };

	if (ddl->kind == MG_DDL_SCHEMA) {
		mg_sb_add(&sql, ddl->verb == MG_DDL_CREATE ? "CREATE SCHEMA IF NOT EXISTS " : "");
		mg_sb_add_ident(&sql, ddl->name);
	} else if (ddl->verb == MG_DDL_DROP) {
		mg_sb_addf(&sql, "DROP %s ", object ? ddl->object : kinds[ddl->kind]);
		add_path(&sql, define->schema, ddl->name);
	} else {
		bool macro = object && mg_text_eq(ddl->object, MG_OBJECT_TABLE_MACRO);

		mg_sb_addf(&sql, "CREATE OR REPLACE %s ",
		           macro ? MG_OBJECT_MACRO : object ? ddl->object : kinds[ddl->kind]);
		add_path(&sql, define->schema, ddl->name);
		mg_sb_addf(&sql, object                      ? " %s"
		                 : ddl->kind == MG_DDL_TABLE ? " (%s)"
		                                             : " AS %s",
		           object ? mg_arena_strndup(define->arena, ddl->definition.ptr,
		                                     ddl->definition.len)
		           : ddl->kind == MG_DDL_TABLE ? define->table.definition
		                                       : define->view.sql);
	}
	const char *text = ddl->kind == MG_DDL_SCHEMA && ddl->verb == MG_DDL_DROP
	                       ? NULL /* an empty one stays, and does no harm */
	                       : mg_arena_strdup(define->arena, mg_sb_text(&sql));

	mg_sb_fini(&sql);
	return text;
}

/* The value of `select` as JSON. */
static int ask_json(struct mg_define *define, struct mg_duck_conn *conn, const char *select,
                    const struct mg_define_place *place, struct mg_json **out,
                    struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *text = NULL;

	mg_sb_addf(&sql, "SELECT to_json(list(x))::VARCHAR FROM (%s WHERE database_name = ", select);
	mg_sb_add_literal(&sql, place->database, strlen(place->database));
	mg_sb_add(&sql, " AND schema_name = ");
	mg_sb_add_literal(&sql, place->schema, strlen(place->schema));
	mg_sb_add(&sql, " AND table_name = ");
	mg_sb_add_literal(&sql, place->name, strlen(place->name));
	mg_sb_add(&sql, ") AS rows(x)");
	int code = mg_duck_text(conn, mg_sb_text(&sql), &text, err);

	if (!code) {
		char *kept = mg_arena_strdup(define->arena, text ? text : "[]");

		code = mg_json_parse(define->arena, kept, strlen(kept), out, err);
	}
	mg_free(text);
	mg_sb_fini(&sql);
	return code;
}

struct mg_plan_settings mg_define__plan_settings(const struct mg_define *define, bool alone)
{
	return (struct mg_plan_settings){
		.timezone = define->settings->timezone,
		.now_us = define->settings->tx ? mg_tx_now(define->settings->tx) : 0,
		.replay = mg_tx_replay(define->settings->tx),
		.alone = alone,
	};
}

/* Functions that no client may call may not stand in a definition, either. */
int mg_define__check_expression(struct mg_define *define, const char *text, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, false);
	struct mg_plandb_view view;
	char *sql = mg_arena_format(define->arena, "SELECT %s", text);
	int code =
		mg_plandb_look(mg_engine_plandb(define->engine), define->arena, &settings, sql, &view, err);

	if (!code && view.tables) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "a definition may not read tables: %s", text);
	}
	return code;
}

static int read_columns(struct mg_define *define, const struct mg_json *columns, struct mg_sb *text,
                        struct mg_error *err)
{
	struct mg_table *table = &define->table;

	table->columns = mg_arena_new_array(define->arena, struct mg_column, columns->count + 1);
	mg_json_each(item, columns) {
		struct mg_column *column = &table->columns[table->column_count++];
		const char *initial = mg_json_get_text(item, "initial");

		column->name = mg_json_get_text(item, "name");
		column->type = mg_json_get_text(item, "type");
		column->not_null = !mg_json_get_bool(item, "nullable", true);
		if (strncmp(column->name, "_mg_", 4) == 0) {
			return mg_error_set(err, MG_E_BIND,
			                    "a column may not be called \"%s\": names that "
			                    "begin with _mg_ are ours",
			                    column->name);
		}
		mg_sb_add(text, table->column_count > 1 ? ", " : "");
		mg_sb_add_ident(text, column->name);
		mg_sb_addf(text, " %s%s", column->type, column->not_null ? " NOT NULL" : "");
		if (initial && *initial && !mg_text_eq_nocase(initial, "NULL")) {
			mg_sb_addf(text, " DEFAULT (%s)", initial);
			define->expressions[define->expression_count++] = initial;
		}
	}
	return 0;
}

static void read_primary_key(struct mg_define *define, const struct mg_json *names)
{
	struct mg_table *table = &define->table;

	table->primary_key = mg_arena_new_array(define->arena, const char *, names->count + 1);
	mg_json_each(name, names) {
		table->primary_key[table->primary_key_count++] = mg_json_text(name);
	}
}

static void read_unique(struct mg_define *define, const struct mg_json *names)
{
	struct mg_table *table = &define->table;
	struct mg_key *uniques =
		mg_arena_new_array(define->arena, struct mg_key, table->unique_count + 1);
	struct mg_key *key = &uniques[table->unique_count];

	for (size_t i = 0; i < table->unique_count; i++) {
		uniques[i] = table->uniques[i];
	}
	key->columns = mg_arena_new_array(define->arena, const char *, names->count + 1);
	mg_json_each(name, names) {
		key->columns[key->count++] = mg_json_text(name);
	}
	table->uniques = uniques;
	table->unique_count++;
}

/* Rows of equal keys must lie in one shard to be found. */
static int check_key(const struct mg_table *table, const struct mg_key *key, const char *what,
                     struct mg_error *err)
{
	for (size_t k = 0; k < table->key_count; k++) {
		bool found = false;

		for (size_t i = 0; i < key->count; i++) {
			found = found || mg_text_eq_nocase(key->columns[i], table->keys[k]);
		}
		if (!found) {
			mg_error_set(err, MG_E_UNSUPPORTED,
			             "%s must hold \"%s\", by which the table is partitioned", what,
			             table->keys[k]);
			mg_error_hint(err, "Rows of equal keys must lie in one shard to be found: partition by "
			                   "a part of the key, add the column to it, or leave PARTITIONED BY "
			                   "out.");
			return MG_E_UNSUPPORTED;
		}
	}
	return 0;
}

static int check_keys(const struct mg_table *table, struct mg_error *err)
{
	const struct mg_key primary = { table->primary_key, table->primary_key_count };
	int code = primary.count ? check_key(table, &primary, "the primary key", err) : 0;

	for (size_t i = 0; !code && i < table->unique_count; i++) {
		code = check_key(table, &table->uniques[i], "UNIQUE", err);
	}
	return code;
}

/* It would have to be looked for in other shards with every row. */
static int refuse_foreign_key(struct mg_error *err)
{
	mg_error_set(err, MG_E_UNSUPPORTED, "FOREIGN KEY is not supported yet");
	mg_error_hint(err, "Leave REFERENCES out; a LEFT JOIN finds rows that refer to nothing.");
	return MG_E_UNSUPPORTED;
}

static int read_constraints(struct mg_define *define, const struct mg_json *constraints,
                            struct mg_sb *text, struct mg_error *err)
{
	int code = 0;

	mg_json_each(item, constraints) {
		const char *type = mg_json_get_text(item, "type");

		if (code || mg_text_eq(type, "NOT NULL")) {
			continue;
		}
		if (mg_text_eq(type, "PRIMARY KEY")) {
			read_primary_key(define, mg_json_get(item, "columns"));
		} else if (mg_text_eq(type, "UNIQUE")) {
			read_unique(define, mg_json_get(item, "columns"));
		} else if (mg_text_eq(type, "CHECK")) {
			define->expressions[define->expression_count++] = mg_json_get_text(item, "expression");
			mg_sb_addf(text, ", CHECK (%s)", mg_json_get_text(item, "expression"));
		} else if (mg_text_eq(type, "FOREIGN KEY")) {
			code = refuse_foreign_key(err);
		} else {
			code = mg_error_set(err, MG_E_UNSUPPORTED, "%s is not supported yet", type);
			mg_error_hint(err, "There are NOT NULL, CHECK, DEFAULT, PRIMARY KEY and UNIQUE.");
		}
	}
	return code;
}

/* The partition key's columns, as the table calls them, and of a type that can be hashed. */
static int read_keys(struct mg_define *define, struct mg_duck_conn *conn,
                     const struct mg_define_place *place, struct mg_error *err)
{
	struct mg_table *table = &define->table;

	if (!define->ddl.key_count && define->ddl.verb == MG_DDL_CREATE &&
	    define->request->partition_by_primary_key) {
		define->ddl.keys = table->primary_key;
		define->ddl.key_count = table->primary_key_count;
	}
	struct mg_sb sql = { 0 };

	table->keys = mg_arena_new_array(define->arena, const char *, define->ddl.key_count + 1);
	mg_sb_add(&sql, "SELECT mg_slot(");
	for (size_t k = 0; k < define->ddl.key_count; k++) {
		const char *name = NULL;

		for (size_t i = 0; i < table->column_count && !name; i++) {
			name = mg_text_eq_nocase(table->columns[i].name, define->ddl.keys[k])
			           ? table->columns[i].name
			           : NULL;
		}
		if (!name) {
			mg_sb_fini(&sql);
			return mg_error_set(err, MG_E_NO_COLUMN,
			                    "PARTITIONED BY names \"%s\", which is no column of the table",
			                    define->ddl.keys[k]);
		}
		table->keys[table->key_count++] = name;
		mg_sb_add(&sql, k ? ", " : "");
		mg_sb_add_ident(&sql, name);
	}
	mg_sb_add(&sql, ") FROM ");
	mg_sb_add_ident(&sql, place->database);
	mg_sb_add_char(&sql, '.');
	add_path(&sql, place->schema, place->name);
	int code = table->key_count ? mg_duck_exec(conn, mg_sb_text(&sql), err) : 0;

	mg_sb_fini(&sql);
	return code;
}

int mg_define__read_table(struct mg_define *define, struct mg_duck_conn *conn,
                          const struct mg_define_place *place, struct mg_error *err)
{
	static const char columns_sql[] =
		"SELECT {name: column_name, type: data_type, nullable: is_nullable, initial: "
		"column_default} FROM duckdb_columns()";
	static const char constraints_sql[] =
		"SELECT {type: constraint_type, expression: expression, columns: "
		"constraint_column_names} FROM duckdb_constraints()";
	struct mg_json *columns = NULL, *constraints = NULL;
	struct mg_table *table = &define->table;
	struct mg_sb text = { 0 };
	int code = ask_json(define, conn, columns_sql, place, &columns, err);

	table->column_count = table->primary_key_count = table->unique_count = table->key_count = 0;
	code = code ? code : ask_json(define, conn, constraints_sql, place, &constraints, err);
	if (!code) {
		define->expression_count = 0;
		define->expressions = mg_arena_new_array(define->arena, const char *,
		                                         columns->count + constraints->count + 1);
	}
	code = code ? code : read_columns(define, columns, &text, err);
	code = code ? code : read_constraints(define, constraints, &text, err);
	code = code ? code : read_keys(define, conn, place, err);
	code = code ? code : check_keys(table, err);
	table->definition = mg_arena_strdup(define->arena, mg_sb_text(&text));
	mg_sb_fini(&text);
	return code;
}

int mg_define__check_expressions(struct mg_define *define, struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < define->expression_count; i++) {
		code = mg_define__check_expression(define, define->expressions[i], err);
	}
	return code;
}

/* In a transaction of the planning database, which is rolled back: DuckDB reads the definition. */
static int try_table(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_define *define = arg;
	const struct mg_define_place place = { "merganser", define->schema, define->ddl.name };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, define->ddl.or_replace ? "CREATE OR REPLACE TABLE " : "CREATE TABLE ");
	add_path(&sql, define->schema, define->ddl.name);
	mg_sb_addf(&sql, " (%.*s)", MG_STR_ARG(define->ddl.columns));
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	if (code && err && strcasestr(err->message, "foreign key")) {
		return refuse_foreign_key(err);
	}
	return code ? code : mg_define__read_table(define, conn, &place, err);
}

/* ---- CREATE TABLE ---- */

/* No default, no constraint. */
void mg_define_in_shards(const struct mg_catalog_data *data, const struct mg_table *table,
                         struct mg_redo *redo)
{
	struct mg_arena *arena = mg_arena_new();
	const char *stored = mg_table_stored(arena, table);
	struct mg_sb columns = { 0 };
	uint32_t first = table->key_count ? 1 : 0;
	uint32_t last = table->key_count ? data->shard_count : 0;

	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(&columns, i ? ", " : "");
		mg_sb_add_ident(&columns, table->columns[i].name);
		mg_sb_addf(&columns, " %s", table->columns[i].type);
	}
	for (uint32_t i = first; i <= last; i++) {
		mg_redo_create(redo, i, table->schema, stored, mg_sb_text(&columns));
	}
	mg_sb_fini(&columns);
	mg_arena_free(arena);
}

int mg_define__drop_in_shards(struct mg_define *define, const struct mg_table *table,
                              struct mg_error *err)
{
	struct mg_redo *redo = mg_redo_new();
	uint32_t first = table->key_count ? 1 : 0;
	uint32_t last = table->key_count ? define->data->shard_count : 0;

	for (uint32_t i = first; i <= last; i++) {
		mg_redo_drop(redo, i, table->schema, mg_table_stored(define->arena, table));
	}
	int code = mg_replica_commit_in(mg_engine_replica(define->engine), define->epoch, redo, err);

	mg_redo_free(redo);
	return code;
}

/* A part of the query's rows is complete. */
int mg_define__append_rows(void *arg, struct mg_redo *redo, struct mg_error *err)
{
	const struct mg_define *define = arg;

	if (define->settings->tx) {
		return mg_tx_load(define->settings->tx, &define->table, redo, err);
	}
	return mg_replica_append_in(mg_engine_replica(define->engine), define->epoch, redo, err);
}

/* The rows of CREATE TABLE ... AS, while nobody sees the table. */
static int fill_table(struct mg_define *define, struct mg_error *err)
{
	const struct mg_write_load load = {
		.query = define->ddl.query,
		.table = &define->table,
		.flush = mg_define__append_rows,
		.arg = define,
	};

	return mg_write_load(define->engine, define->run, define->settings, &load, &define->table.rows,
	                     err);
}

/* Files first, then rows, then the catalog: what ends in between is swept by the next coordinator.
 */
static int publish_table(struct mg_define *define, struct mg_error *err)
{
	if (define->settings->tx) {
		int code = mg_define__change_catalog(define, add_table, err);

		if (code || !define->ddl.query.len || define->ddl.no_data) {
			return code;
		}
		mg_tx_bind(define->settings->tx); /* the table is there, with rows or without */
		return fill_table(define, err);
	}
	struct mg_redo *redo = mg_redo_new();
	struct mg_error ignored;

	mg_define_in_shards(define->data, &define->table, redo);
	int code = mg_replica_commit_in(mg_engine_replica(define->engine), define->epoch, redo, err);

	mg_redo_free(redo);
	if (code) {
		return code;
	}
	code = define->ddl.query.len && !define->ddl.no_data ? fill_table(define, err) : 0;
	code = code ? code : mg_define__change_catalog(define, add_table, err);
	if (code && code != MG_E_UNKNOWN_OUTCOME) {
		(void)mg_define__drop_in_shards(define, &define->table, &ignored);
	} else if (!code && define->replaced) {
		(void)mg_define__drop_in_shards(define, &define->old, &ignored); /* else it is swept */
	}
	return code;
}

/* What the query of CREATE ... AS gives, and no more names than it has columns. */
static int bind_query(struct mg_define *define, const char **query, struct mg_bound *bound,
                      struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, false);
	const struct mg_ddl *ddl = &define->ddl;

	*query = mg_arena_strndup(define->arena, ddl->query.ptr, ddl->query.len);
	int code = mg_plandb_bind(mg_engine_plandb(define->engine), define->arena, &settings, *query,
	                          bound, err);

	if (!code && ddl->name_count > bound->column_count) {
		code = mg_error_set(err, MG_E_BIND, "%zu names for the %zu columns of the query",
		                    ddl->name_count, bound->column_count);
	}
	return code;
}

/* A second "a" becomes "a_1", as in DuckDB. */
static void name_apart(struct mg_define *define, const char **names, size_t index)
{
	const char *name = names[index];

	for (unsigned number = 1;; number++) {
		bool taken = false;

		for (size_t i = 0; i < index && !taken; i++) {
			taken = mg_text_eq_nocase(names[i], names[index]);
		}
		if (!taken) {
			return;
		}
		names[index] = mg_arena_format(define->arena, "%s_%u", name, number);
	}
}

/* Its columns, and its rows later, are of the values that are there now. */
static int expand_pivot(struct mg_define *define, struct mg_error *err)
{
	struct mg_ddl *ddl = &define->ddl;
	const char *expanded = NULL;
	int code = mg_pivot_expand(define->engine, define->run, define->settings, define->arena,
	                           ddl->query, &expanded, err);

	if (expanded) {
		ddl->query = mg_str(expanded);
	}
	return code;
}

/* Columns of a query's result, as the text between the parentheses of CREATE TABLE. */
static int columns_of_query(struct mg_define *define, struct mg_error *err)
{
	struct mg_ddl *ddl = &define->ddl;
	struct mg_bound bound;
	struct mg_sb text = { 0 };
	const char *query;
	int code = expand_pivot(define, err);

	code = code ? code : bind_query(define, &query, &bound, err);

	if (code) {
		return code;
	}
	for (size_t i = 0; i < ddl->name_count; i++) {
		bound.names[i] = ddl->names[i];
	}
	for (size_t i = 0; i < bound.column_count; i++) {
		name_apart(define, bound.names, i);
		mg_sb_add(&text, i ? ", " : "");
		mg_sb_add_ident(&text, bound.names[i]);
		mg_sb_addf(&text, " %s", bound.types[i]);
	}
	ddl->columns = mg_str(mg_arena_strdup(define->arena, mg_sb_text(&text)));
	mg_sb_fini(&text);
	return 0;
}

void mg_define__say_reference(const struct mg_define *define)
{
	const struct mg_rows *rows = define->request->rows;

	if (!define->table.key_count && rows->notice) {
		rows->notice(rows->arg,
		             "the table is a reference table: every node has all of it; PARTITIONED BY "
		             "(column) behind the columns spreads it over the shards");
	}
}

static int create_table(struct mg_define *define, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	const struct mg_plan_settings settings = mg_define__plan_settings(define, true);
	int code = ddl->query.len ? columns_of_query(define, err) : 0;

	define->table = (struct mg_table){
		.schema = define->schema,
		.name = ddl->name,
		.id = mg_random_u64() >> 12 | 1, /* a number that JSON keeps */
		.definition = "",
	};
	code = code
	           ? code
	           : mg_plandb_try(mg_engine_plandb(define->engine), &settings, try_table, define, err);
	code = code ? code : mg_define__check_expressions(define, err);
	mg_sweep_spare(define->table.id);
	code = code ? code : publish_table(define, err);
	mg_sweep_spare_no_more(define->table.id);
	if (!code) {
		mg_define__say_reference(define);
	}
	return code;
}

/* ---- CREATE VIEW, CREATE SCHEMA ---- */

static int create_view(struct mg_define *define, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	struct mg_bound bound;
	struct mg_sb text = { 0 };
	const char *query;
	int code = bind_query(define, &query, &bound, err);

	if (code) {
		return code;
	}
	if (ddl->name_count) {
		mg_sb_addf(&text, "SELECT * FROM (%s\n) AS q(", query);
		for (size_t i = 0; i < ddl->name_count; i++) {
			mg_sb_add(&text, i ? ", " : "");
			mg_sb_add_ident(&text, ddl->names[i]);
		}
		mg_sb_add_char(&text, ')');
	} else {
		mg_sb_add(&text, query);
	}
	define->view = (struct mg_view){ .schema = define->schema,
		                             .name = ddl->name,
		                             .sql = mg_arena_strdup(define->arena, mg_sb_text(&text)) };
	mg_sb_fini(&text);
	return mg_define__change_catalog(define, add_view, err);
}

/* ---- DROP ---- */

static int drop_table(struct mg_define *define, struct mg_error *err)
{
	const struct mg_table *table =
		mg_catalog_find_table(define->data, define->schema, define->ddl.name);
	if (define->settings->tx) {
		return mg_define__change_catalog(define, drop_object, err);
	}
	struct mg_replica *replica = mg_engine_replica(define->engine);
	uint32_t first = table->key_count ? 1 : 0;
	size_t count = table->key_count ? define->data->shard_count : 1;
	uint32_t *shards = mg_arena_new_array(define->arena, uint32_t, count);

	for (size_t i = 0; i < count; i++) {
		shards[i] = first + (uint32_t)i;
	}
	int code = mg_replica_lock(replica, MG_LOCK_ALTER, shards, count, mg_run_is_cancelled,
	                           define->run, err);

	if (!code) {
		struct mg_error left = { 0 };

		code = mg_define__change_catalog(define, drop_object, err);
		if (!code && mg_define__drop_in_shards(define, table, &left)) {
			/* The next coordinator sweeps it. */
			mg_log(MG_LOG_WARN, "table.left", "table=%s.%s error=\"%s\"", table->schema,
			       table->name, left.message);
		}
		mg_replica_unlock(replica, MG_LOCK_ALTER, shards, count);
	}
	return code;
}

static int drop_schema(struct mg_define *define, struct mg_error *err)
{
	const char *name = define->ddl.name;
	size_t objects = 0;

	for (size_t i = 0; i < define->data->table_count; i++) {
		objects += mg_text_eq_nocase(define->data->tables[i].schema, name);
	}
	for (size_t i = 0; i < define->data->view_count; i++) {
		objects += mg_text_eq_nocase(define->data->views[i].schema, name);
	}
	for (size_t i = 0; i < define->data->object_count; i++) {
		objects += mg_text_eq_nocase(define->data->objects[i].schema, name);
	}
	if (objects || mg_text_eq_nocase(name, "main")) {
		mg_error_set(err, MG_E_BIND, "schema \"%s\" holds %zu objects", name, objects);
		mg_error_hint(err, "Drop them first.");
		return MG_E_BIND;
	}
	return mg_define__change_catalog(define, drop_object, err);
}

/* ---- the statement ---- */

/* *done: there is nothing to do (IF EXISTS, IF NOT EXISTS). */
static int check_table_or_view(const struct mg_define *define, bool *done, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	bool table = mg_catalog_find_table(define->data, define->schema, ddl->name) != NULL;
	bool view = mg_define__find_view(define->data, define->schema, ddl->name) != NULL;
	bool create = ddl->verb == MG_DDL_CREATE;
	bool there = ddl->kind == MG_DDL_SCHEMA  ? mg_catalog_has_schema(define->data, ddl->name)
	             : ddl->kind == MG_DDL_TABLE ? table
	                                         : view;
	static const char *const kinds[] = { "table", "view", "schema" };

	if (ddl->kind != MG_DDL_SCHEMA && !there && (table || view)) {
		return mg_error_set(err, create ? MG_E_DUPLICATE : MG_E_NO_TABLE,
		                    "\"%s\" is a %s, not a %s", ddl->name, table ? "table" : "view",
		                    kinds[ddl->kind]);
	}
	if (create && there && !ddl->or_replace) {
		*done = ddl->if_not_exists;
		return *done ? 0
		             : mg_error_set(err, MG_E_DUPLICATE, "the %s \"%s\" is there already",
		                            kinds[ddl->kind], ddl->name);
	}
	if (!create && !there) {
		*done = ddl->if_exists;
		return *done ? 0
		             : mg_error_set(err, MG_E_NO_TABLE, "there is no %s \"%s\"", kinds[ddl->kind],
		                            ddl->name);
	}
	return 0;
}

static int check_object(const struct mg_define *define, bool *done, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;

	*done = false;
	if (ddl->kind != MG_DDL_SCHEMA && !mg_catalog_has_schema(define->data, define->schema)) {
		*done = ddl->verb != MG_DDL_CREATE && ddl->if_exists;
		return *done ? 0
		             : mg_error_set(err, MG_E_BIND, "there is no schema \"%s\"", define->schema);
	}
	return ddl->kind == MG_DDL_OBJECT ? mg_define__check_object(define, done, err)
	                                  : check_table_or_view(define, done, err);
}

int mg_define__check_name(const char *name, struct mg_error *err)
{
	if (!*name || strlen(name) > 200 || strpbrk(name, "\n#")) {
		return mg_error_set(err, MG_E_BIND,
		                    "a name has 1 to 200 bytes and neither # nor a line break");
	}
	if (strncmp(name, "_mg", 3) == 0 || mg_text_eq_nocase(name, "cluster")) {
		return mg_error_set(err, MG_E_BIND, "the name \"%s\" is ours", name);
	}
	return 0;
}

static int carry_out(struct mg_define *define, struct mg_error *err)
{
	bool create = define->ddl.verb == MG_DDL_CREATE;

	if (define->ddl.verb == MG_DDL_ALTER) {
		return define->ddl.kind == MG_DDL_TABLE ? mg_define__alter_table(define, err)
		                                        : mg_define__alter_view(define, err);
	}
	switch (define->ddl.kind) {
	case MG_DDL_TABLE:
		return create ? create_table(define, err) : drop_table(define, err);
	case MG_DDL_VIEW:
		return create ? create_view(define, err)
		              : mg_define__change_catalog(define, drop_object, err);
	case MG_DDL_SCHEMA:
		return create ? mg_define__change_catalog(define, add_schema, err)
		              : drop_schema(define, err);
	case MG_DDL_OBJECT:
		return create ? mg_define__create_object(define, err) : mg_define__drop_object(define, err);
	}
	return mg_error_set(err, MG_E_INTERNAL, "DDL of an unknown kind");
}

static void free_define(void *arg)
{
	struct mg_define *define = arg;

	mg_arena_free(define->arena);
	mg_free(define);
}

/* The transaction has it from here on, when it is a step of it. */
static void give_back(struct mg_define *define)
{
	mg_catalog_give(mg_engine_catalog(define->engine), define->data);
	if (!define->is_step) {
		free_define(define);
	}
}

int mg_define__step(struct mg_define *define,
                    int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                                  struct mg_error *err),
                    struct mg_error *err)
{
	static const char *const kinds[] = { "TABLE", "VIEW", "SCHEMA" };
	const struct mg_ddl *ddl = &define->ddl;
	bool makes_table = ddl->verb == MG_DDL_CREATE && ddl->kind == MG_DDL_TABLE;
	const struct mg_tx_step step = {
		.change = change,
		.arg = define,
		.free_arg = free_define,
		.kind = ddl->kind == MG_DDL_OBJECT ? ddl->object : kinds[ddl->kind],
		.schema = define->schema,
		.name = ddl->name,
		.replay = replay_of(define),
		.made = makes_table ? &define->table : NULL,
	};
	int code = mg_tx_define(define->settings->tx, &step, err);

	define->is_step = code == 0;
	return code;
}

/* What the transaction has seen so far, before it is its statement's turn. */
static int begin(struct mg_define *define, struct mg_error *err)
{
	struct mg_tx *tx = define->settings->tx;
	int code = tx ? mg_tx_check_writes(tx, err) : 0;

	code = code || !tx ? code : mg_tx_snapshot(tx, err);
	return code ? code
	            : mg_replica_begin(mg_engine_replica(define->engine), &define->epoch, err);
}

int mg_define_run(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_change_request *request,
                  struct mg_change_result *out, struct mg_error *err)
{
	struct mg_define *define = mg_alloc0(sizeof *define);
	bool done = false;

	*define = (struct mg_define){ .engine = engine,
		                          .run = run,
		                          .settings = settings,
		                          .request = request,
		                          .arena = mg_arena_new() };
	define->statement =
		mg_arena_strndup(define->arena, request->statement.ptr, request->statement.len);
	int code = mg_ddl_parse(define->arena, mg_str(define->statement), &define->ddl, err);
	/* What moves rows may take long: its change of the catalog looks once more. */
	bool moves_rows = define->ddl.query.len || define->ddl.verb == MG_DDL_ALTER;
	bool alone = !settings->tx && !(define->ddl.kind == MG_DDL_TABLE && moves_rows);

	if (alone) {
		pthread_mutex_lock(&lock);
	}
	code = code ? code : begin(define, err);
	define->data = mg_tx_take_catalog(settings->tx, engine);
	define->schema = *define->ddl.schema ? define->ddl.schema : "main";
	code = code ? code : mg_define__check_name(define->schema, err);
	code = code ? code : mg_define__check_name(define->ddl.name, err);
	code = code ? code : check_object(define, &done, err);
	code = code || done ? code : carry_out(define, err);
	if (alone) {
		pthread_mutex_unlock(&lock);
	}
	if (!code) {
		out->done = true;
		mg_copy_text(out->tag, sizeof out->tag, define->ddl.tag);
		out->returned = false;
		out->rows = define->table.rows;
	}
	give_back(define);
	return code;
}
