/*
 * wall.c - what a statement's text asks for, decided on its unbound AST before anything is bound.
 *
 * DuckDB has no rights inside, so text is let in by lists only: functions by name (functions.c),
 * tables by what the catalog has, classes of expressions and tables by what we know.  Everything
 * unknown is refused for the text; then only SQL that we print from the bound plan may run.  What
 * could reach a file, a secret, a setting or other SQL ends the statement.
 *
 * CTE names are scoped as SQL scopes them: WITH t AS (SELECT * FROM t) reads the table t.
 *
 * Pure; thread: any, a walk belongs to one.
 */
#include "sql/wall.h"
#include "sql/statement.h"

#include <string.h>

struct scope {
	const char *name;
	const struct scope *outer;
};

struct walker {
	struct mg_wall_view *view;
	struct mg_error *err;
	unsigned described; /* inside of DESCRIBE's query: tables are not read */
};

static int walk(struct walker *walker, const struct mg_json *json, const struct scope *scope);

/* ---- helpers ---- */

static const char *member(const struct mg_json *json, const char *key)
{
	const char *text = mg_json_get_text(json, key);

	return text ? text : "";
}

static bool text_in(const char *text, const char *const *list)
{
	for (; *list; list++) {
		if (mg_text_eq_nocase(text, *list)) {
			return true;
		}
	}
	return false;
}

static void refuse_text(struct walker *walker, const char *why)
{
	if (!walker->view->why) {
		walker->view->why = why;
	}
}

static int deny(struct walker *walker, const char *what, const char *name)
{
	int code = mg_error_set(walker->err, MG_E_DENIED, "%s \"%s\" is not allowed", what, name);

	mg_error_hint(walker->err,
	              "Files, secrets, settings and logs of the server cannot be reached by SQL.");
	return code;
}

static int walk_kids(struct walker *walker, const struct mg_json *json, const struct scope *scope)
{
	mg_json_each(kid, json) {
		int code = walk(walker, kid, scope);

		if (code) {
			return code;
		}
	}
	return 0;
}

/* ---- tables ---- */

static bool is_cte(const struct scope *scope, const char *name)
{
	for (; scope; scope = scope->outer) {
		if (mg_text_eq_nocase(scope->name, name)) {
			return true;
		}
	}
	return false;
}

/* Views that come with the engine; in the main schema, so no schema tells them. */
static bool is_catalog_table(const char *schema, const char *name)
{
	static const char *const schemas[] = { "information_schema", "pg_catalog", "cluster", NULL };
	static const char *const views[] = { "duckdb_columns",       "duckdb_constraints",
		                                 "duckdb_databases",     "duckdb_indexes",
		                                 "duckdb_schemas",       "duckdb_tables",
		                                 "duckdb_types",         "duckdb_views",
		                                 "pragma_database_list", "sqlite_master",
		                                 "sqlite_schema",        "sqlite_temp_master",
		                                 "sqlite_temp_schema",   NULL };
	static const char *const pg[] = { "pg_am",        "pg_attrdef",   "pg_attribute",
		                              "pg_class",     "pg_collation", "pg_constraint",
		                              "pg_database",  "pg_depend",    "pg_description",
		                              "pg_enum",      "pg_index",     "pg_indexes",
		                              "pg_namespace", "pg_proc",      "pg_sequence",
		                              "pg_sequences", "pg_tables",    "pg_tablespace",
		                              "pg_type",      "pg_views",     NULL };

	if (*schema) {
		return text_in(schema, schemas) ||
		       (mg_text_eq_nocase(schema, "main") && text_in(name, views));
	}
	return text_in(name, views) || text_in(name, pg);
}

static int walk_table(struct walker *walker, const struct mg_json *json, const struct scope *scope)
{
	static const char *const denied[] = {
		"duckdb_logs",    "pg_settings",     "pg_prepared_statements",
		"duckdb_secrets", "duckdb_settings", NULL
	};
	struct mg_wall_view *view = walker->view;
	const char *catalog = member(json, "catalog_name");
	const char *schema = member(json, "schema_name");
	const char *name = member(json, "table_name");

	if (text_in(name, denied)) {
		return deny(walker, "table", name);
	}
	if (mg_json_is(mg_json_get(json, "at_clause"), MG_JSON_OBJECT)) {
		refuse_text(walker, "the statement reads a table AT a version");
	}
	if (!*catalog && (!*schema || mg_text_eq_nocase(schema, "recurring")) && is_cte(scope, name)) {
		return 0;
	}
	if (*catalog || mg_text_eq_nocase(schema, "merganser")) {
		refuse_text(walker, "a table is named with its database");
	}
	if (is_catalog_table(schema, name)) {
		view->catalog = true;
		view->bare = view->bare || !*schema || mg_text_eq_nocase(schema, "main");
		refuse_text(walker, "the statement reads catalog tables");
		return 0;
	}
	struct mg_wall_table table = { catalog, schema, name };

	if (walker->described) {
		mg_grow(view->described, view->described_count, view->described_cap);
		view->described[view->described_count++] = table;
	} else {
		mg_grow(view->tables, view->table_count, view->table_cap);
		view->tables[view->table_count++] = table;
	}
	return 0;
}

/* SHOW TABLES, DESCRIBE t, SUMMARIZE t. */
static int walk_show(struct walker *walker, const struct mg_json *json, const struct scope *scope)
{
	bool summary = strcmp(member(json, "show_type"), "SUMMARY") == 0;
	int code;

	if (!summary) {
		walker->view->catalog = true;
		refuse_text(walker, "the statement describes the catalog");
	}
	walker->described += !summary;
	code = walk_kids(walker, json, scope);
	walker->described -= !summary;
	return code;
}

/* ---- functions ---- */

/* Schemas in which the engine's own functions can be named. */
static bool own_schema(const struct mg_json *json)
{
	static const char *const schemas[] = { "", "main", "pg_catalog", "system", NULL };

	return text_in(member(json, "schema"), schemas) && text_in(member(json, "catalog"), schemas);
}

static void note_name(struct mg_wall_view *view, const char *name, bool table)
{
	mg_grow(view->calls, view->call_count, view->call_cap);
	view->calls[view->call_count++] = (struct mg_wall_call){ name, table };
}

static void note_call(struct walker *walker, const char *name, bool table)
{
	walker->view->own = true;
	note_name(walker->view, name, table);
	refuse_text(walker, "a function that is not on the list");
}

int mg_wall_no_function(const char *name, struct mg_error *err)
{
	return mg_error_set(err, MG_E_NO_FUNCTION, "table function with name %s does not exist", name);
}

static int walk_table_function(struct walker *walker, const struct mg_json *json,
                               const struct scope *scope)
{
	const struct mg_json *function = mg_json_get(json, "function");
	const char *name = member(function, "function_name");

	switch (mg_table_function_class(name)) {
	case MG_FUNCTION_DENIED:
		return deny(walker, "table function", name);
	case MG_FUNCTION_UNKNOWN:
		note_call(walker, name, true);
		break;
	case MG_FUNCTION_KEYS:
		walker->view->keys = true;
		note_name(walker->view, name, true);
		break;
	case MG_FUNCTION_CATALOG:
		walker->view->catalog = true;
		refuse_text(walker, "the statement reads catalog functions");
		break;
	case MG_FUNCTION_PLANNED:
		refuse_text(walker, "a table function that only the planner may call");
		break;
	case MG_FUNCTION_PURE:
		break;
	}
	if (!own_schema(function)) {
		refuse_text(walker, "a function is named with its schema");
	}
	/* The function itself is done; its arguments, and the rest of the table's members, are not. */
	mg_json_each(kid, function) {
		int code = walk(walker, kid, scope);

		if (code) {
			return code;
		}
	}
	return walk(walker, mg_json_get(json, "sample"), scope);
}

/* Settings that tell the meaning of SQL may be asked for; others hold paths. */
static bool is_open_setting(const struct mg_json *json)
{
	static const char *const open[] = { "timezone",
		                                "calendar",
		                                "default_order",
		                                "default_null_order",
		                                "default_collation",
		                                "integer_division",
		                                "ieee_floating_point_ops",
		                                "schema",
		                                "search_path",
		                                "old_implicit_casting",
		                                "order_by_non_integer_literal",
		                                "scalar_subquery_error_on_multiple_rows",
		                                NULL };
	const struct mg_json *value =
		mg_json_get(mg_json_at(mg_json_get(json, "children"), 0), "value");

	return text_in(member(value, "value"), open);
}

/* What a named argument must be, if its value plainly is something else; or NULL.  The types alone
 * tell bins and range apart, so one would be taken for the other. */
static const char *must_be(const char *function, const char *argument, const struct mg_json *value)
{
	if (!mg_text_eq_nocase(argument, "bins")) {
		return mg_text_eq(member(value, "class"), "CONSTANT") ? "[low, high]" : NULL;
	}
	return mg_text_eq(member(value, "function_name"), "list_value") &&
	               !mg_text_eq_nocase(function, "mg_histogram2d")
	           ? "a number"
	           : NULL;
}

/* The name in f(x, name := value), which DuckDB ignores. */
static int check_argument(struct walker *walker, const char *function, const char *const *names,
                          const struct mg_json *value)
{
	const char *name = member(value, "alias");

	if (!*name) {
		return 0;
	}
	if (!text_in(name, names)) {
		mg_error_set(walker->err, MG_E_BIND, "function \"%s\" has no argument named \"%s\"",
		             function, name);
		mg_error_hint(walker->err, *names ? "It has bins := and range := ."
		                                  : "Its arguments have no names.");
		return MG_E_BIND;
	}
	const char *wanted = must_be(function, name, value);

	return wanted ? mg_error_set(walker->err, MG_E_BIND, "\"%s\" of function \"%s\" must be %s",
	                             name, function, wanted)
	              : 0;
}

static int check_arguments(struct walker *walker, const struct mg_json *json)
{
	const char *function = member(json, "function_name");
	const char *const *names = mg_function_arguments(function);
	int code = 0;

	if (!names) {
		return 0;
	}
	mg_json_each(kid, mg_json_get(json, "children")) {
		code = code ? code : check_argument(walker, function, names, kid);
	}
	return code;
}

static int walk_function(struct walker *walker, const struct mg_json *json,
                         const struct scope *scope)
{
	const char *name = member(json, "function_name");
	int code = check_arguments(walker, json);

	if (code) {
		return code;
	}

	if (mg_text_eq_nocase(name, "current_setting") && !is_open_setting(json)) {
		return deny(walker, "function", name);
	}

	switch (mg_function_class(name)) {
	case MG_FUNCTION_DENIED:
		return deny(walker, "function", name);
	case MG_FUNCTION_PURE:
		break;
	case MG_FUNCTION_UNKNOWN:
		note_call(walker, name, false);
		break;
	case MG_FUNCTION_KEYS: /* tables alone */
	case MG_FUNCTION_PLANNED:
	case MG_FUNCTION_CATALOG:
		walker->view->draws = walker->view->draws || mg_text_eq_nocase(name, "nextval") ||
		                      mg_text_eq_nocase(name, "currval");
		refuse_text(walker, "a function that only the planner may call");
		break;
	}
	if (!own_schema(json)) {
		refuse_text(walker, "a function is named with its schema");
	}
	return walk_kids(walker, json, scope);
}

/* Their states have memory, and DuckDB 1.5.5 does not destroy all states of a window: those of a
 * frame with EXCLUDE are forgotten, and after an error others, too; or threads wait for ever. */
static int check_window(struct walker *walker, const char *name)
{
	static const char *const refused[] = { "mg_histogram", "mg_histogram2d", "mg_histogram_sum",
		                                   "mg_histogram2d_sum", NULL };

	if (!text_in(name, refused)) {
		return 0;
	}
	mg_error_set(walker->err, MG_E_UNSUPPORTED, "%s is no window function", name);
	mg_error_hint(walker->err, "GROUP BY what the windows are, or ask a subquery for each window.");
	return MG_E_UNSUPPORTED;
}

/* ---- expressions ---- */

static void check_column(struct walker *walker, const struct mg_json *json)
{
	/* A lone name that no column has is one of these functions without its parentheses. */
	static const char *const values[] = {
		"current_catalog", "current_database", "current_role", "current_schema",
		"current_user",    "session_user",     "user",         NULL
	};
	const struct mg_json *names = mg_json_get(json, "column_names");

	if (names && names->count == 1 && text_in(mg_json_text(names->child), values)) {
		refuse_text(walker, "a value that only the planner may give");
	}

	mg_json_each(name, names) {
		if (mg_str_eq_nocase(name->text, MG_STR("rowid"))) {
			walker->view->row_ids = true;
			refuse_text(walker, "rowid is no column of a sharded table");
		}
	}
	/* catalog.schema.table.column, or fields of structs: the binder decides; the engine has no such
	 * names, so more than schema.table.column may mean something else there. */
	if (names && names->count > 3) {
		refuse_text(walker, "a column is named with its database");
	}
}

/* Types of users are not known to the engine. */
static int check_type(struct walker *walker, const struct mg_json *type)
{
	static const char *const known[] = { "json",   "bignum",  "varint", "variant",
		                                 "int128", "uint128", NULL };
	const char *id = member(type, "id");

	if (strcmp(id, "UNBOUND") == 0 || strcmp(id, "USER") == 0) {
		const struct mg_json *info = mg_json_get(type, "type_info");

		if (!text_in(member(info, "name"), known)) {
			refuse_text(walker, "a type that is not DuckDB's own");
		}
	}
	return 0;
}

static int walk_expression(struct walker *walker, const char *cls, const struct mg_json *json,
                           const struct scope *scope)
{
	static const char *const known[] = { "CONSTANT",
		                                 "OPERATOR",
		                                 "COMPARISON",
		                                 "CONJUNCTION",
		                                 "CASE",
		                                 "BETWEEN",
		                                 "SUBQUERY",
		                                 "STAR",
		                                 "LAMBDA",
		                                 "LAMBDA_REF",
		                                 "COLLATE",
		                                 "DEFAULT",
		                                 "POSITIONAL_REFERENCE",
		                                 "WINDOW",
		                                 "TYPE",
		                                 NULL };

	if (strcmp(cls, "FUNCTION") == 0) {
		return walk_function(walker, json, scope);
	}
	if (strcmp(cls, "WINDOW") == 0 && *member(json, "function_name")) {
		int code = check_window(walker, member(json, "function_name"));

		return code ? code : walk_function(walker, json, scope);
	}
	if (strcmp(cls, "COLUMN_REF") == 0) {
		check_column(walker, json);
		return 0;
	}
	if (strcmp(cls, "CONSTANT") == 0) {
		return 0; /* values hold types, but no names */
	}
	if (strcmp(cls, "CAST") == 0) {
		int code = check_type(walker, mg_json_get(json, "cast_type"));

		return code ? code : walk(walker, mg_json_get(json, "child"), scope);
	}
	if (!text_in(cls, known)) {
		refuse_text(walker, strcmp(cls, "PARAMETER") == 0 ? "a parameter without a value"
		                                                  : "an unknown expression");
	}
	return walk_kids(walker, json, scope);
}

static int walk_from(struct walker *walker, const char *type, const struct mg_json *json,
                     const struct scope *scope)
{
	static const char *const known[] = { "JOIN",  "SUBQUERY",   "EXPRESSION_LIST",
		                                 "EMPTY", "EMPTY_FROM", "PIVOT",
		                                 NULL };

	if (strcmp(type, "BASE_TABLE") == 0) {
		return walk_table(walker, json, scope);
	}
	if (strcmp(type, "TABLE_FUNCTION") == 0) {
		return walk_table_function(walker, json, scope);
	}
	if (strcmp(type, "SHOW_REF") == 0) {
		return walk_show(walker, json, scope);
	}
	if (!text_in(type, known)) {
		refuse_text(walker, "an unknown kind of table");
	}
	return walk_kids(walker, json, scope);
}

/* ---- queries ---- */

/* The definitions, each in the scope of those before it, then the rest in the scope of all. */
static int walk_ctes(struct walker *walker, const struct mg_json *node, const struct mg_json *entry,
                     const struct scope *scope)
{
	if (!entry) {
		mg_json_each(kid, node) {
			int code = mg_str_eq(kid->key, MG_STR("cte_map")) ? 0 : walk(walker, kid, scope);

			if (code) {
				return code;
			}
		}
		return 0;
	}
	int code = walk(walker, mg_json_get(entry, "value"), scope);
	struct scope inner = { member(entry, "key"), scope };

	return code ? code : walk_ctes(walker, node, entry->next, &inner);
}

/* The right side of a recursive definition sees its own name. */
static int walk_recursive(struct walker *walker, const struct mg_json *node,
                          const struct scope *scope)
{
	struct scope inner = { member(node, "cte_name"), scope };

	mg_json_each(kid, node) {
		bool left = mg_str_eq(kid->key, MG_STR("left"));
		int code = walk(walker, kid, left ? scope : &inner);

		if (code) {
			return code;
		}
	}
	return 0;
}

static int walk_query(struct walker *walker, const char *type, const struct mg_json *node,
                      const struct scope *scope)
{
	static const char *const known[] = { "SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE",
		                                 "CTE_NODE", NULL };
	const struct mg_json *map = mg_json_get(mg_json_get(node, "cte_map"), "map");

	if (!text_in(type, known)) {
		refuse_text(walker, "an unknown kind of query");
	}
	if (map && map->child) {
		return walk_ctes(walker, node, map->child, scope);
	}
	return strcmp(type, "RECURSIVE_CTE_NODE") == 0 ? walk_recursive(walker, node, scope)
	                                               : walk_kids(walker, node, scope);
}

/* Does text end so? */
static bool ends(const char *text, const char *end)
{
	size_t len = strlen(text), tail = strlen(end);

	return len >= tail && strcmp(text + len - tail, end) == 0;
}

static bool is_from(const char *type)
{
	static const char *const types[] = {
		"BASE_TABLE", "TABLE_FUNCTION",  "SHOW_REF", "JOIN",        "EXPRESSION_LIST",
		"EMPTY",      "EMPTY_FROM",      "PIVOT",    "COLUMN_DATA", "DELIM_GET",
		"CTE",        "BOUND_TABLE_REF", "INVALID",  NULL
	};

	return text_in(type, types);
}

static int walk(struct walker *walker, const struct mg_json *json, const struct scope *scope)
{
	if (!json) {
		return 0;
	}
	if (json->kind != MG_JSON_OBJECT) {
		return json->kind == MG_JSON_ARRAY ? walk_kids(walker, json, scope) : 0;
	}
	const char *cls = member(json, "class"), *type = member(json, "type");

	if (*cls) {
		return walk_expression(walker, cls, json, scope);
	}
	if (ends(type, "_NODE")) {
		return walk_query(walker, type, json, scope);
	}
	if (is_from(type) || (strcmp(type, "SUBQUERY") == 0 && mg_json_get(json, "subquery"))) {
		return walk_from(walker, type, json, scope);
	}
	return walk_kids(walker, json, scope); /* modifiers, maps, pivots: only what is inside counts */
}

int mg_wall_look(struct mg_arena *arena, const struct mg_json *ast, struct mg_wall_view *view,
                 struct mg_error *err)
{
	struct walker walker = { .view = view, .err = err };
	const struct mg_json *statements = mg_json_get(ast, "statements");

	(void)arena;
	if (mg_json_get_bool(ast, "error", false) || !statements) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "only a statement that reads can be checked");
	}
	if (statements->count != 1) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "one statement at a time");
	}
	return walk(&walker, statements, NULL);
}

void mg_wall_view_fini(struct mg_wall_view *view)
{
	mg_free(view->tables);
	mg_free(view->described);
	mg_free(view->calls);
	*view = (struct mg_wall_view){ 0 };
}

int mg_wall_check(struct mg_arena *arena, const struct mg_json *ast, const char **why,
                  struct mg_error *err)
{
	struct mg_wall_view view = { 0 };
	int code = mg_wall_look(arena, ast, &view, err);

	for (size_t i = 0; !code && i < view.call_count; i++) {
		code = view.calls[i].table ? mg_wall_no_function(view.calls[i].name, err) : 0;
	}
	*why = code ? NULL : view.why;
	mg_wall_view_fini(&view);
	return code;
}
