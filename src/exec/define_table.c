/*
 * define_table.c - CREATE and DROP of tables.
 *
 *     CREATE: DuckDB reads the definition -> table in the shards -> rows of AS -> catalog
 *     DROP:   catalog -> table out of the shards
 *
 * Rule: one version of the catalog is the border; what the shards hold beside it is swept.
 */
#include "exec/define_int.h"

#include "base/json.h"
#include "base/log.h"
#include "exec/fresh.h"
#include "exec/growth.h"
#include "exec/pivot.h"
#include "exec/run.h"
#include "exec/sweep.h"
#include "exec/tx.h"
#include "exec/write.h"
#include "os/random.h"
#include "replica/replica.h"
#include "sql/cursor.h"

#include <string.h>

/* ---- what DuckDB makes of its definition ---- */

/* The value of `select` as JSON. */
static int ask_json(struct mg_define *define, struct mg_duck_conn *conn, const char *select,
                    const struct mg_define_place *place, struct mg_json **out,
                    struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *text = NULL;

	mg_sb_addf(&sql, "SELECT to_json(list(x))::VARCHAR FROM (%s WHERE database_name = ", select);
	mg_sb_add_literal(&sql, place->database, strlen(place->database));
	mg_sb_add(&sql, " AND lower(schema_name) = lower("); /* older ones stay as they were written */
	mg_sb_add_literal(&sql, place->schema, strlen(place->schema));
	mg_sb_add_char(&sql, ')');
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
		if (strncasecmp(column->name, "_mg_", 4) == 0) {
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

/* The column whose values have no slot, when that is what is wrong. */
static int explain_key(struct mg_define *define, struct mg_duck_conn *conn, const char *from,
                       int code, struct mg_error *err)
{
	const struct mg_table *table = &define->table;

	for (size_t i = 0; err && strstr(err->message, "hashed to a slot") && i < table->column_count;
	     i++) {
		const struct mg_column *column = &table->columns[i];
		struct mg_error ignored;
		struct mg_sb sql = { 0 };
		bool is_key = false;

		for (size_t k = 0; k < table->key_count; k++) {
			is_key = is_key || mg_text_eq(table->keys[k], column->name);
		}
		mg_sb_add(&sql, "SELECT mg_slot(");
		mg_sb_add_ident(&sql, column->name);
		mg_sb_add(&sql, from);
		bool refused = is_key && mg_duck_exec(conn, mg_sb_text(&sql), &ignored);

		mg_sb_fini(&sql);
		if (refused) {
			code = mg_error_set(err, MG_E_UNSUPPORTED,
			                    "column \"%s\" cannot partition a table: its type is %s",
			                    column->name, column->type);
			mg_error_hint(err, "Columns of numbers, text, BLOB, BOOLEAN, DATE, TIME, TIMESTAMP, "
			                   "UUID and ENUM can.");
			return code;
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
	struct mg_sb sql = { 0 }, from = { 0 };

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
	mg_sb_add(&from, ") FROM ");
	mg_sb_add_ident(&from, place->database);
	mg_sb_add_char(&from, '.');
	mg_sb_add_path(&from, place->schema, place->name);
	mg_sb_add(&sql, mg_sb_text(&from));
	int code = table->key_count ? mg_duck_exec(conn, mg_sb_text(&sql), err) : 0;

	code = code ? explain_key(define, conn, mg_sb_text(&from), code, err) : 0;
	mg_sb_fini(&sql);
	mg_sb_fini(&from);
	return code;
}

static bool names_collation(const struct mg_define *define)
{
	struct mg_str text = define->ddl.columns.len ? define->ddl.columns : define->ddl.action;

	return text.len && strcasestr(mg_arena_strndup(define->arena, text.ptr, text.len), "collate");
}

int mg_define__read_table(struct mg_define *define, struct mg_duck_conn *conn,
                          const struct mg_define_place *place, struct mg_error *err)
{
	static const char columns_sql[] =
		"SELECT {name: column_name, type: data_type, nullable: is_nullable, initial: "
		"column_default} FROM duckdb_columns()";
	static const char constraints_sql[] =
		"SELECT {type: constraint_type, expression: expression, text: constraint_text, columns: "
		"constraint_column_names} FROM duckdb_constraints()";
	static const char create_sql[] = "SELECT sql FROM duckdb_tables()";
	struct mg_json *columns = NULL, *constraints = NULL, *create = NULL;
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
	if (!code && (mg_table_has_keys(table) || names_collation(define))) {
		code = ask_json(define, conn, create_sql, place, &create, err);
	}
	code = code ? code : read_keys(define, conn, place, err);
	code = code ? code : check_keys(table, err);
	table->definition = mg_arena_strdup(define->arena, mg_sb_text(&text));
	code = code ? code
	            : mg_define__declare(define, columns, constraints,
	                                 create ? mg_json_text(mg_json_at(create, 0)) : NULL, err);
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

/* Only a generated column has AS outside of parentheses.  duckdb_columns() shows its expression as
 * a default, which it is not: the table could not be made in any shard. */
static bool generates(struct mg_str columns)
{
	struct mg_lexer lexer;
	struct mg_token token;
	size_t depth = 0;

	mg_lex_init(&lexer, columns);
	while (!mg_token_is_end(token = mg_lex_next(&lexer))) {
		depth += mg_token_is_sign(token, '(');
		depth -= depth && mg_token_is_sign(token, ')');
		if (!depth && mg_token_is(token, "as")) {
			return true;
		}
	}
	return false;
}

/* In a transaction of the planning database, which is rolled back: DuckDB reads the definition. */
static int try_table(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_define *define = arg;
	const struct mg_define_place place = { "merganser", define->schema, define->ddl.name };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, define->ddl.or_replace ? "CREATE OR REPLACE TABLE " : "CREATE TABLE ");
	mg_sb_add_path(&sql, define->schema, define->ddl.name);
	mg_sb_addf(&sql, " (%.*s)", MG_STR_ARG(define->ddl.columns));
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	if (code && err && strcasestr(err->message, "foreign key")) {
		return refuse_foreign_key(err);
	}
	if (!code && generates(define->ddl.columns)) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "generated columns are not supported yet");
		mg_error_hint(err, "Leave the column out, and compute it in a view of the table.");
	}
	return code ? code : mg_define__read_table(define, conn, &place, err);
}

/* ---- CREATE ---- */

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

/* What files need to know of a table that goes, as the version has it that it goes with. */
static void note_old(struct mg_define *define, const struct mg_table *old)
{
	define->old = (struct mg_table){
		.schema = mg_arena_strdup(define->arena, old->schema),
		.name = mg_arena_strdup(define->arena, old->name),
		.id = old->id,
		.key_count = old->key_count,
		.stored = mg_arena_strdup(define->arena, old->stored ? old->stored : ""),
	};
}

static int add_table(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                     struct mg_error *err)
{
	struct mg_define *define = arg;
	struct mg_table *tables = mg_arena_new_array(arena, struct mg_table, data->table_count + 1);
	const struct mg_table *old =
		mg_catalog_find_table(data, define->table.schema, define->table.name);

	/* While its rows were loaded others may have used the name. */
	if (mg_catalog_find_view(data, define->table.schema, define->table.name) ||
	    (old && !define->ddl.or_replace)) {
		return mg_error_set(err, MG_E_DUPLICATE, "\"%s\" is there already", define->table.name);
	}
	define->replaced = old != NULL;
	if (old) {
		note_old(define, old);
	}
	remove_table(data, define->table.schema, define->table.name);
	memcpy(tables, data->tables, data->table_count * sizeof *tables);
	tables[data->table_count++] = define->table;
	data->tables = tables;
	return 0;
}

/* No default, no constraint. */
void mg_define_in_shards(const struct mg_catalog_data *data, const struct mg_table *table,
                         struct mg_redo *redo)
{
	struct mg_arena *arena = mg_arena_new();
	const char *stored = mg_table_stored(arena, table);
	struct mg_sb columns = { 0 };
	uint32_t first, last;

	mg_table_shards(data, table, &first, &last);
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
	uint32_t first, last;

	mg_table_shards(define->data, table, &first, &last);
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
	struct mg_define *define = arg;

	define->loaded += mg_redo_total(redo);
	if (define->settings->tx) {
		return mg_tx_load(define->settings->tx, &define->table, redo, err);
	}
	return mg_replica_append_in(mg_engine_replica(define->engine), define->epoch, redo, err);
}

/* So that nobody is shown a part of it. */
void mg_define__note_whole(struct mg_define *define)
{
	char *whole = mg_fresh_whole(define->engine);

	define->table.whole = mg_arena_strdup(define->arena, whole);
	mg_free(whole);
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
	mg_define__tell(MG_DEFINE_MADE);
	if (define->ddl.query.len && !define->ddl.no_data) {
		code = fill_table(define, err);
		mg_define__note_whole(define);
	}
	mg_define__tell(MG_DEFINE_FILLED);
	code = code ? code : mg_define__change_catalog(define, add_table, err);
	mg_define__tell(MG_DEFINE_PUBLISHED);
	if (code && code != MG_E_UNKNOWN_OUTCOME) {
		(void)mg_define__drop_in_shards(define, &define->table, &ignored);
	} else if (!code && define->replaced) {
		(void)mg_define__drop_in_shards(define, &define->old, &ignored); /* else it is swept */
	}
	if (code == MG_E_UNKNOWN_OUTCOME) { /* nobody writes until it is known which table there is */
		mg_replica_renew(mg_engine_replica(define->engine), define->epoch);
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

	code = code ? code : mg_define__bind_query(define, &query, &bound, err);
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
	char large[MG_GROWTH_TEXT_SIZE];
	bool is_large = mg_growth_look(mg_engine_growth(define->engine), &define->table, 0,
	                               define->loaded, large, sizeof large);

	if (is_large && rows->notice) {
		rows->notice(rows->arg, large);
	} else if (!define->table.key_count && rows->notice) {
		rows->notice(rows->arg,
		             "the table is a reference table: every node has all of it; PARTITIONED BY "
		             "(column) behind the columns spreads it over the shards");
	}
}

int mg_define__create_table(struct mg_define *define, struct mg_error *err)
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

/* ---- DROP ---- */

static int take_table(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                      struct mg_error *err)
{
	struct mg_define *define = arg;
	const struct mg_table *table = mg_catalog_find_table(data, define->schema, define->ddl.name);

	(void)arena;
	if (!table) { /* another name, or none, since this statement began */
		return mg_error_set(err, MG_E_NO_TABLE, "there is no table \"%s\"", define->ddl.name);
	}
	note_old(define, table);
	remove_table(data, define->schema, define->ddl.name);
	return 0;
}

int mg_define__drop_table(struct mg_define *define, struct mg_error *err)
{
	const struct mg_table *table =
		mg_catalog_find_table(define->data, define->schema, define->ddl.name);
	if (define->settings->tx) {
		return mg_define__change_catalog(define, take_table, err);
	}
	struct mg_replica *replica = mg_engine_replica(define->engine);
	size_t count;
	uint32_t *shards = mg_table_shard_ids(define->arena, define->data, table, &count);
	int code = mg_replica_lock(replica, MG_LOCK_ALTER, shards, count, mg_run_is_cancelled,
	                           define->run, err);

	if (!code) {
		struct mg_error left = { 0 };

		code = mg_define__change_catalog(define, take_table, err);
		mg_define__tell(MG_DEFINE_PUBLISHED);
		if (!code && mg_define__drop_in_shards(define, &define->old, &left)) {
			/* The next coordinator sweeps it. */
			mg_log(MG_LOG_WARN, "table.left", "table=%s.%s error=\"%s\"", table->schema,
			       table->name, left.message);
		}
		mg_replica_unlock(replica, MG_LOCK_ALTER, shards, count);
	}
	return code;
}
