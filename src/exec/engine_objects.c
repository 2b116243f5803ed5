/*
 * engine_objects.c - views, macros, types and sequences of the catalog, in the planning database.
 *
 * The engine has the views too; macros and types it never meets, because the planning database has
 * put their bodies in their place before anything is printed for it.
 *
 * Objects may depend on one another and on tables in any order (OR REPLACE moves one behind those
 * that use it), so they are tried again while some come.  One whose tables are gone stays in the
 * catalog and is shown when they are back.
 */
#include "exec/engine_int.h"

#include "base/log.h"
#include "exec/sequences.h"

#include <string.h>

static int make_schema(struct mg_engine *engine, struct mg_duck_conn *conn, const char *schema,
                       struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "CREATE SCHEMA IF NOT EXISTS ");
	mg_sb_add_ident(&sql, schema);
	int code = conn ? mg_duck_exec(conn, mg_sb_text(&sql), err) : 0;

	code = code ? code : mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

static int show_view(struct mg_engine *engine, struct mg_duck_conn *conn,
                     const struct mg_view *view, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = make_schema(engine, conn, view->schema, err);

	mg_sb_add(&sql, "CREATE OR REPLACE VIEW ");
	mg_sb_add_path(&sql, view->schema, view->name);
	mg_view_add_definition(&sql, view);
	/* Here first: it may stand on macros, which the engine has not. */
	code = code ? code : mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	if (!code) {
		struct mg_error unused;

		(void)mg_duck_exec(conn, mg_sb_text(&sql), &unused);
		mg_engine__note(engine, &(struct mg_shown){ .kind = (char *)MG_SHOWN_VIEW,
		                                            .schema = (char *)view->schema,
		                                            .name = (char *)view->name,
		                                            .text = (char *)view->sql });
	}
	mg_sb_fini(&sql);
	return code;
}

static int show_object(struct mg_engine *engine, const struct mg_object *object,
                       struct mg_error *err)
{
	bool table_macro = mg_text_eq(object->kind, MG_OBJECT_TABLE_MACRO);
	struct mg_sb sql = { 0 };
	int code = make_schema(engine, NULL, object->schema, err);

	mg_sb_addf(&sql, "CREATE %s ", table_macro ? MG_OBJECT_MACRO : object->kind);
	mg_sb_add_path(&sql, object->schema, object->name);
	mg_sb_addf(&sql, " %s", object->sql);
	code = code ? code : mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	if (!code && mg_text_eq(object->kind, MG_OBJECT_SEQUENCE)) {
		mg_sb_clear(&sql);
		code = mg_sequences_resume(engine, object, &sql, err);
		code = code || !sql.len ? code : mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	}
	if (!code) {
		mg_engine__note(engine, &(struct mg_shown){ .kind = (char *)object->kind,
		                                            .schema = (char *)object->schema,
		                                            .name = (char *)object->name,
		                                            .text = (char *)object->sql,
		                                            .id = object->id });
	}
	mg_sb_fini(&sql);
	return code;
}

/* Say what of the kind cannot be shown, once nothing more comes. */
static bool came(int code, bool last, const char *kind, const char *schema, const char *name,
                 const struct mg_error *err)
{
	if (code && last) {
		mg_log(MG_LOG_WARN, "object.broken", "kind=\"%s\" object=%s.%s error=\"%s\"", kind, schema,
		       name, err->message);
	}
	return code == 0;
}

/* A view whose tables are gone, or are called otherwise, stands all the same, as in DuckDB, and
 * tells whoever reads it why it cannot be read.  Its text is not the catalog's, so it is tried
 * again. */
static void show_broken(struct mg_engine *engine, struct mg_duck_conn *conn,
                        const struct mg_view *view, const char *why)
{
	struct mg_sb text = { 0 }, sql = { 0 };
	struct mg_error err = { 0 };

	mg_sb_addf(&text, "view \"%s\" cannot be read: %s; it is: %s", view->name, why,
	           view->sql);
	mg_sb_add(&sql, "CREATE OR REPLACE VIEW ");
	mg_sb_add_path(&sql, view->schema, view->name);
	/* In its condition, which none who reads it can do without. */
	mg_sb_add(&sql, " AS SELECT NULL AS broken WHERE error(");
	mg_sb_add_literal(&sql, mg_sb_text(&text), text.len);
	mg_sb_add(&sql, ")::BOOLEAN");
	if (!mg_plandb_exec(engine->plandb, mg_sb_text(&sql), &err)) {
		(void)mg_duck_exec(conn, mg_sb_text(&sql), &err);
		mg_engine__note(engine, &(struct mg_shown){ .kind = (char *)MG_SHOWN_VIEW,
		                                            .schema = (char *)view->schema,
		                                            .name = (char *)view->name,
		                                            .text = (char *)"" });
	}
	mg_sb_fini(&text);
	mg_sb_fini(&sql);
}

/* One round; how many have come.  why: of the last round, what is wrong with each view. */
static size_t show_round(struct mg_engine *engine, struct mg_duck_conn *conn,
                         const struct mg_catalog_data *data, bool views, bool last,
                         char **why)
{
	size_t count = 0;

	for (size_t i = 0; i < data->object_count; i++) {
		const struct mg_object *object = &data->objects[i];
		struct mg_error err = { 0 };

		if (!mg_engine__is_shown(engine, object->kind, object->schema, object->name)) {
			count += came(show_object(engine, object, &err), last, object->kind, object->schema,
			              object->name, &err);
		}
	}
	for (size_t i = 0; views && i < data->view_count; i++) {
		const struct mg_view *view = &data->views[i];
		struct mg_error err = { 0 };

		if (!mg_engine__is_shown(engine, MG_SHOWN_VIEW, view->schema, view->name)) {
			bool shown = came(show_view(engine, conn, view, &err), last, MG_SHOWN_VIEW,
			                  view->schema, view->name, &err);

			if (!shown && why) {
				why[i] = mg_strdup(err.message);
			}
			count += shown;
		}
	}
	return count;
}

void mg_engine__show_objects(struct mg_engine *engine, struct mg_duck_conn *conn,
                             const struct mg_catalog_data *data, bool tables, bool whole)
{
	char **why = mg_alloc0((data->view_count + 1) * sizeof *why);

	while (show_round(engine, conn, data, tables, false, NULL)) {
	}
	if (tables) {
		(void)show_round(engine, conn, data, true, true, whole ? why : NULL);
	}
	/* Only now: a view of one that is broken must not find it. */
	for (size_t i = 0; i < data->view_count; i++) {
		if (why[i]) {
			show_broken(engine, conn, &data->views[i], why[i]);
			mg_free(why[i]);
		}
	}
	mg_free(why);
}

bool mg_engine__is_current_object(const struct mg_catalog_data *data, const struct mg_shown *shown)
{
	const struct mg_object *object =
		mg_catalog_find_object(data, shown->kind, shown->schema, shown->name);

	if (object) {
		return object->id == shown->id && mg_text_eq(object->sql, shown->text);
	}
	const struct mg_view *view = mg_text_eq(shown->kind, MG_SHOWN_VIEW)
	                                 ? mg_catalog_find_view(data, shown->schema, shown->name)
	                                 : NULL;

	return view && mg_text_eq(view->schema, shown->schema) &&
	       mg_text_eq(view->name, shown->name) && mg_text_eq(view->sql, shown->text);
}
