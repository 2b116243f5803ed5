/*
 * define_comment.c - COMMENT ON.
 *
 * The catalog alone has comments, and the planning database shows them (engine_comments.c).  What
 * is wrong with the statement DuckDB says, which tries it there.
 */
#include "exec/define_int.h"

#include "store/duck.h"

#include <string.h>

enum { TEXT_MAX = 64 << 10 }; /* each version of the catalog has all of them */

static const struct mg_comments *find_comments(const struct mg_define *define,
                                               const struct mg_catalog_data *data)
{
	const struct mg_table *table = mg_catalog_find_table(data, define->schema, define->ddl.name);
	const struct mg_view *view = mg_catalog_find_view(data, define->schema, define->ddl.name);

	return table ? &table->comments : view ? &view->comments : NULL;
}

static int say_nothing_there(const struct mg_define *define, struct mg_error *err)
{
	return mg_error_set(err, MG_E_NO_TABLE, "there is no table or view \"%s\"", define->ddl.name);
}

static int try_comment(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_define *define = arg;
	char *text = NULL;
	int code = mg_duck_exec(conn, define->replay, err);

	code = code ? code
	            : mg_duck_text(conn,
	                           mg_arena_format(define->arena, "SELECT (%.*s)::VARCHAR",
	                                           MG_STR_ARG(define->ddl.comment)),
	                           &text, err);
	define->comment = text ? mg_arena_strdup(define->arena, text) : NULL;
	mg_free(text);
	return code;
}

static int set_comment(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                       struct mg_error *err)
{
	const struct mg_define *define = arg;
	struct mg_comments *comments = (struct mg_comments *)find_comments(define, data);

	if (!comments) {
		return say_nothing_there(define, err);
	}
	*comments = mg_comments_with(arena, comments, define->ddl.column, define->comment);
	return 0;
}

int mg_define__comment(struct mg_define *define, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_define__plan_settings(define, true);
	struct mg_ddl *ddl = &define->ddl;
	struct mg_sb sql = { 0 };

	if (!find_comments(define, define->data)) {
		return say_nothing_there(define, err);
	}
	ddl->kind = mg_catalog_find_table(define->data, define->schema, ddl->name) ? MG_DDL_TABLE
	                                                                           : MG_DDL_VIEW;
	mg_sb_addf(&sql, "COMMENT ON %s ",
	           *ddl->column                ? "COLUMN"
	           : ddl->kind == MG_DDL_TABLE ? "TABLE"
	                                       : "VIEW");
	mg_sb_add_path(&sql, define->schema, ddl->name);
	if (*ddl->column) {
		mg_sb_add_char(&sql, '.');
		mg_sb_add_ident(&sql, ddl->column);
	}
	mg_sb_addf(&sql, " IS %.*s", MG_STR_ARG(ddl->comment));
	define->replay = mg_arena_strdup(define->arena, mg_sb_text(&sql));
	mg_sb_fini(&sql);
	int code = mg_plandb_try(mg_engine_plandb(define->engine), &settings, try_comment, define, err);

	if (!code && define->comment && strlen(define->comment) > TEXT_MAX) {
		code = mg_error_set(err, MG_E_LIMIT, "a comment has at most %d bytes", TEXT_MAX);
	}
	return code ? code : mg_define__change_catalog(define, set_comment, err);
}
