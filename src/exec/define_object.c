/*
 * define_object.c - CREATE and DROP of macros, types and sequences.
 *
 * DuckDB carries the statement out in the planning database, which says what is wrong with it, and
 * it is rolled back.  The catalog keeps what stood behind the name.  A macro's bodies are looked at
 * by the wall twice: as they are written, before anything is bound, and as DuckDB has read them.
 */
#include "exec/define_int.h"

#include "base/json.h"
#include "exec/engine.h"
#include "os/random.h"
#include "sql/wall.h"
#include "store/duck.h"

#include <string.h>

static bool is_macro(const struct mg_define *define)
{
	return mg_text_eq(define->ddl.object, MG_OBJECT_MACRO) ||
	       mg_text_eq(define->ddl.object, MG_OBJECT_TABLE_MACRO);
}

static const struct mg_object *find_object(const struct mg_define *define)
{
	return mg_catalog_find_object(define->data, define->ddl.object, define->schema,
	                              define->ddl.name);
}

int mg_define__check_object(const struct mg_define *define, bool *done, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	bool there = find_object(define) != NULL;

	(void)err; /* DuckDB has words for the rest */
	*done = ddl->verb == MG_DDL_CREATE ? there && ddl->if_not_exists : !there && ddl->if_exists;
	return 0;
}

/* ---- what a macro asks for ---- */

/* A call by that name would mean something else, also inside of what we write ourselves. */
static int check_macro_name(const struct mg_define *define, struct mg_error *err)
{
	const char *name = define->ddl.name;

	if (mg_function_class(name) == MG_FUNCTION_UNKNOWN &&
	    mg_table_function_class(name) == MG_FUNCTION_UNKNOWN && strncmp(name, "mg_", 3) != 0 &&
	    strncmp(name, "merganser", 9) != 0) {
		return 0;
	}
	mg_error_set(err, MG_E_BIND, "a macro may not be called \"%s\", which is a function's name",
	             name);
	mg_error_hint(err, "Choose another name: every schema shares the built-in functions.");
	return MG_E_BIND;
}

/* Before anything is bound: files, secrets, settings. */
static int look_at(struct mg_define *define, const char *sql, bool constant, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, false);
	struct mg_plandb_view view;
	int code =
		mg_plandb_look(mg_engine_plandb(define->engine), define->arena, &settings, sql, &view, err);

	if (!code && view.row_ids) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "rowid is no column of a sharded table");
	}
	if (!code && constant && (view.tables || view.catalog || view.own)) {
		code = mg_error_set(err, MG_E_UNSUPPORTED,
		                    "a macro's default may not read tables or call macros: %s", sql);
	}
	return code;
}

static int look_at_bodies(struct mg_define *define, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	int code = 0;

	for (size_t i = 0; !code && i < ddl->body_count; i++) {
		code =
			look_at(define, ddl->bodies[i], i + ddl->default_count >= ddl->body_count, err);
	}
	return code;
}

/* ---- CREATE ---- */

struct trial {
	struct mg_define *define;
	struct mg_json *bodies; /* as DuckDB has read them */
};

static int try_create(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct trial *trial = arg;
	struct mg_define *define = trial->define;
	struct mg_sb sql = { 0 };
	char *text = NULL;
	int code = mg_duck_exec(conn, define->statement, err);

	if (!code && is_macro(define)) {
		mg_sb_add(&sql, "SELECT to_json(list(macro_definition))::VARCHAR FROM duckdb_functions() "
		                "WHERE NOT internal AND lower(schema_name) = lower(");
		mg_sb_add_literal(&sql, define->schema, strlen(define->schema));
		mg_sb_add_char(&sql, ')');
		mg_sb_add(&sql, " AND function_name = ");
		mg_sb_add_literal(&sql, define->ddl.name, strlen(define->ddl.name));
		mg_sb_addf(&sql, " AND function_type = '%s'",
		           mg_text_eq(define->ddl.object, MG_OBJECT_MACRO) ? "macro" : "table_macro");
		code = mg_duck_text(conn, mg_sb_text(&sql), &text, err);
	}
	if (!code && text) {
		char *kept = mg_arena_strdup(define->arena, text);

		code = mg_json_parse(define->arena, kept, strlen(kept), &trial->bodies, err);
	}
	mg_free(text);
	mg_sb_fini(&sql);
	return code;
}

static void remove_object(struct mg_catalog_data *data, const struct mg_define *define)
{
	const struct mg_object *object =
		mg_catalog_find_object(data, define->ddl.object, define->schema, define->ddl.name);

	if (object) {
		size_t at = (size_t)(object - data->objects);

		data->object_count--;
		memmove(&data->objects[at], &data->objects[at + 1],
		        (data->object_count - at) * sizeof *data->objects);
	}
}

static int add_object(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                      struct mg_error *err)
{
	const struct mg_define *define = arg;
	struct mg_object *objects =
		mg_arena_new_array(arena, struct mg_object, data->object_count + 1);

	(void)err;
	remove_object(data, define);
	memcpy(objects, data->objects, data->object_count * sizeof *objects);
	objects[data->object_count++] = (struct mg_object){
		.kind = define->ddl.object,
		.schema = mg_arena_strdup(arena, define->schema),
		.name = mg_arena_strdup(arena, define->ddl.name),
		.sql = mg_arena_strndup(arena, define->ddl.definition.ptr, define->ddl.definition.len),
		.id = define->object_id,
		.reserved = "",
	};
	data->objects = objects;
	return 0;
}

int mg_define__create_object(struct mg_define *define, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, true);
	struct trial trial = { .define = define };
	bool table = mg_text_eq(define->ddl.object, MG_OBJECT_TABLE_MACRO);
	int code = is_macro(define) ? check_macro_name(define, err) : 0;

	if (!code && define->ddl.query.len && !define->ddl.definition.len) {
		code = mg_error_set(err, MG_E_CONFLICT, "type \"%s\" was dropped meanwhile",
		                    define->ddl.name);
		mg_error_hint(err, "Nothing was done: try again.");
	}
	define->object_id = mg_random_u64() >> 12 | 1; /* a number that JSON keeps */
	code = code ? code : look_at_bodies(define, err);
	code = code ? code
	            : mg_plandb_try(mg_engine_plandb(define->engine), &settings, try_create, &trial,
	                            err);
	mg_json_each(body, trial.bodies) {
		const char *format = table ? "%s" : "SELECT %s";

		code = code ? code
		            : look_at(define, mg_arena_format(define->arena, format, mg_json_text(body)),
		                      false, err);
	}
	return code ? code : mg_define__change_catalog(define, add_object, err);
}

/* ---- DROP ---- */

static int try_drop(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_define *define = arg;
	struct mg_sb sql = { 0 };

	mg_sb_addf(&sql, "DROP %s ", define->ddl.object);
	mg_sb_add_path(&sql, define->schema, define->ddl.name);
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	if (code && err && mg_text_eq(err->sqlstate, "2BP01")) {
		mg_error_hint(err, define->ddl.cascade
		                       ? "CASCADE does not drop what depends on it yet: drop that first."
		                       : "Drop what depends on it first.");
	}
	mg_sb_fini(&sql);
	return code;
}

static int take_object(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                       struct mg_error *err)
{
	(void)arena;
	(void)err;
	remove_object(data, arg);
	return 0;
}

/* DuckDB would call it a "Macro Function" and offer functions and types of its own, which nobody
 * can drop. */
static int refuse_missing(const struct mg_define *define, int code, struct mg_error *err)
{
	if (is_macro(define)) {
		bool table = mg_text_eq(define->ddl.object, MG_OBJECT_TABLE_MACRO);

		return mg_error_set(err, code, "%s \"%s\" does not exist",
		                    table ? "table macro" : "macro", define->ddl.name);
	}
	if (err && !mg_text_eq(define->ddl.object, MG_OBJECT_SEQUENCE)) {
		err->hint[0] = '\0';
	}
	return code;
}

int mg_define__drop_object(struct mg_define *define, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, true);
	int code =
		mg_plandb_try(mg_engine_plandb(define->engine), &settings, try_drop, define, err);

	/* One that is broken is in the catalog alone. */
	if (code && strstr(err->message, "does not exist")) {
		bool there = find_object(define) != NULL;

		if (there) {
			mg_error_clear(err);
		}
		code = there ? 0 : refuse_missing(define, code, err);
	}
	return code ? code : mg_define__change_catalog(define, take_object, err);
}
