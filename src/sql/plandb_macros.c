/*
 * plandb_macros.c - what a statement asks for by the macros that it calls.
 *
 * A macro's body was looked at when it was made.  It is once more with each statement, because what
 * it reads decides where that may run, and because a macro that it calls may be another one by now.
 */
#include "sql/plandb_int.h"

#include "store/duck.h"

#include <string.h>

#define CALLS_MAX 10000

static int find_macros(struct mg_plan_conn *conn, struct mg_arena *arena, const char *name,
                       struct mg_json **out, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *text = NULL;

	mg_sb_add(&sql, "SELECT to_json(list({kind: function_type, body: macro_definition}))::VARCHAR "
	                "FROM duckdb_functions() WHERE NOT internal AND function_type IN ('macro', "
	                "'table_macro') AND lower(function_name) = lower(");
	mg_sb_add_literal(&sql, name, strlen(name));
	mg_sb_add_char(&sql, ')');
	int code = mg_duck_text(conn->duck, mg_sb_text(&sql), &text, err);

	if (!code) {
		char *kept = mg_arena_strdup(arena, text ? text : "[]");

		code = mg_json_parse(arena, kept, strlen(kept), out, err);
	}
	mg_free(text);
	mg_sb_fini(&sql);
	return code;
}

/* The text means a macro of a user, which the engine that runs texts does not have. */
static void note_own(struct mg_wall_view *view)
{
	view->own = true;
	view->why = view->why ? view->why : "a function that is not on the list";
}

static int look_into(struct mg_plan_conn *conn, struct mg_arena *arena, const struct mg_json *macro,
                     struct mg_wall_view *view, struct mg_error *err)
{
	bool table = mg_text_eq(mg_json_get_text(macro, "kind"), "table_macro");
	const char *body = mg_json_get_text(macro, "body");
	struct mg_json *ast = NULL;
	const char *sql = mg_arena_format(arena, table ? "%s" : "SELECT %s", body ? body : "NULL");
	int code = mg_plandb__ask_ast(conn, arena, sql, &ast, err);

	return code ? code : mg_wall_look(arena, ast, view, err);
}

static bool is_known(const struct mg_wall_view *view, size_t index)
{
	for (size_t i = 0; i < index; i++) {
		if (mg_text_eq_nocase(view->calls[i].name, view->calls[index].name) &&
		    view->calls[i].table == view->calls[index].table) {
			return true;
		}
	}
	return false;
}

int mg_plandb__look_into_macros(struct mg_plan_conn *conn, struct mg_arena *arena,
                                struct mg_wall_view *view, struct mg_error *err)
{
	int code = 0;

	/* The list grows under way. */
	for (size_t i = 0; !code && i < view->call_count; i++) {
		struct mg_wall_call call = view->calls[i];
		struct mg_json *macros = NULL;
		bool table = false;

		if (i == CALLS_MAX) {
			return mg_error_set(err, MG_E_LIMIT, "a statement may call %d macros", CALLS_MAX);
		}
		if (is_known(view, i)) {
			continue;
		}
		code = find_macros(conn, arena, call.name, &macros, err);
		mg_json_each(macro, macros) {
			table = table || mg_text_eq(mg_json_get_text(macro, "kind"), "table_macro");
			code = code ? code : look_into(conn, arena, macro, view, err);
			note_own(view);
		}
		if (!code && call.table && !table &&
		    mg_table_function_class(call.name) == MG_FUNCTION_UNKNOWN) {
			code = mg_wall_no_function(call.name, err);
		}
	}
	return code;
}
