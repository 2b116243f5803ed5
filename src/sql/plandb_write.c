/*
 * plandb_write.c - statements that write, tried in the planning database.
 *
 * Its tables are real ones, so what DuckDB says about rows there, it says about rows anywhere:
 * casts, defaults, constraints and their messages are its own.  Nothing stays: all of it happens in
 * a transaction that is rolled back, whatever became of it.
 *
 * The wall has seen every text of a user before it comes here.
 */
#include "sql/plandb_int.h"
#include "store/duck.h"

#include <string.h>

#define ROLLBACKS_MAX 3

static const char *zone_of(const struct mg_plan_settings *settings)
{
	return settings ? settings->timezone : NULL;
}

/* ---- what a text asks for ---- */

int mg_plandb_look(struct mg_plandb *db, struct mg_arena *arena,
                   const struct mg_plan_settings *settings, const char *sql,
                   struct mg_plandb_view *out, struct mg_error *err)
{
	struct mg_plan_conn *conn = mg_plandb__take(db, db->limit_ms, MG_PLANDB_WRITES, err);
	struct mg_wall_view view = { 0 };
	struct mg_bound bound = { 0 };

	*out = (struct mg_plandb_view){ 0 };
	if (!conn) {
		return MG_E_BUSY;
	}
	int code = mg_plandb__attach(settings, conn->duck, err);

	code = code ? code : mg_plandb__replay(db, conn, settings, false, err);
	code = code ? code : mg_plandb__look(db, conn, arena, sql, &view, &bound, err);
	code = mg_plandb__in_time(db, conn, code, err);
	out->tables = view.table_count > 0 || view.keys;
	out->catalog = view.catalog;
	out->row_ids = view.row_ids;
	out->own = view.own;
	mg_wall_view_fini(&view);
	(void)mg_plandb__attach(settings, NULL, NULL);
	mg_plandb__replay_end(db, conn, true);
	mg_plandb__give(db, conn);
	return code;
}

/* Well formed is what has an AST, and what has none because it is no SELECT. */
static int parse(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                 struct mg_error *err)
{
	struct mg_bound bound;
	struct mg_json *ast = NULL;
	int code = mg_plandb__ask_ast(conn, arena, sql, &ast, err);
	const char *type = code ? NULL : mg_json_get_text(ast, "error_type");

	if (code || !mg_json_get_bool(ast, "error", true) ||
	    (type && strcmp(type, "not implemented") == 0)) {
		return code;
	}
	code = mg_plandb__describe(conn, arena, sql, &bound, err);
	return code ? code : mg_error_set(err, MG_E_SYNTAX, "the statement cannot be parsed");
}

int mg_plandb_check(struct mg_plandb *db, struct mg_arena *arena,
                    const struct mg_plan_settings *settings, const char *sql, bool bind,
                    struct mg_error *err)
{
	struct mg_plan_conn *conn = mg_plandb__take(db, db->limit_ms, MG_PLANDB_WRITES, err);
	struct mg_bound bound;

	if (!conn) {
		return MG_E_BUSY;
	}
	int code = mg_plandb__set_zone(conn, zone_of(settings), err);

	code = code ? code : mg_plandb__replay(db, conn, settings, false, err);
	code = code ? code
	            : mg_plandb__attach(settings, bind && !conn->replayed ? conn->binder : conn->duck,
	                                err);
	if (!code) {
		code = bind ? mg_plandb__describe(conn, arena, sql, &bound, err)
		            : parse(conn, arena, sql, err);
	}
	code = mg_plandb__in_time(db, conn, code, err);
	(void)mg_plandb__attach(settings, NULL, NULL);
	mg_plandb__replay_end(db, conn, true);
	mg_plandb__give(db, conn);
	return code;
}

/* ---- rows that are tried ---- */

/* Whoever ends statements lets go of the connection first, so nothing interrupts this. */
int mg_plandb__roll_back(struct mg_plan_conn *conn, struct mg_error *err)
{
	int code = 0;

	for (int i = 0; i < ROLLBACKS_MAX; i++) {
		code = mg_duck_exec(conn->duck, "ROLLBACK", err);
		if (!code || strcmp(err->sqlstate, "25000") == 0) {
			return 0; /* done; or there is no transaction */
		}
	}
	return mg_error_wrap(err, "while the planning database takes rows back");
}

/* Names without a schema are looked for there first; NULL: where all connections stand. */
static int look_in(struct mg_plan_conn *conn, const char *schema, struct mg_error *err)
{
	struct mg_sb path = { 0 }, sql = { 0 };

	if (schema) {
		mg_sb_add_path(&path, "merganser", schema);
		mg_sb_add_char(&path, ',');
	}
	mg_sb_add(&path, "merganser.main");
	mg_sb_add(&sql, "SET search_path = ");
	mg_sb_add_literal(&sql, mg_sb_text(&path), path.len);
	int code = mg_duck_exec(conn->duck, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	mg_sb_fini(&path);
	return code;
}

int mg_plandb_try(struct mg_plandb *db, const struct mg_plan_settings *settings,
                  int (*work)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                  void *arg, struct mg_error *err)
{
	struct mg_plan_conn *conn = mg_plandb__take(db, db->limit_ms, MG_PLANDB_WRITES, err);
	struct mg_error why, undone;

	if (!conn) {
		return MG_E_BUSY;
	}
	mg_error_clear(&why);
	mg_error_clear(&undone);
	const char *schema = settings ? settings->schema : NULL;
	int code = mg_plandb__set_zone(conn, zone_of(settings), &why);

	code = code ? code : mg_plandb__attach(settings, conn->duck, &why);
	if (!code) {
		code = mg_duck_exec(conn->duck, "BEGIN", &why);
		if (!code && settings && settings->now_us) {
			code = mg_duck_set_now(conn->duck, settings->now_us, &why);
		}
		code = code ? code : mg_plandb__replay(db, conn, settings, true, &why);
		code = code || !schema ? code : look_in(conn, schema, &why); /* it may be made there */
		code = code ? code : work(arg, conn->duck, &why);
		(void)mg_plandb__attach(settings, NULL, NULL);
		mg_duck_set_context(conn->duck, NULL);
		if (!mg_plandb__unwatch(db, conn)) {
			code = mg_plandb__in_time(db, conn, code, &why);
		}
		int rolled = mg_plandb__roll_back(conn, &undone);

		mg_plandb__replay_end(db, conn, false);
		if (schema) {
			rolled = look_in(conn, NULL, &undone) || rolled ? undone.code : 0;
		}
		if (rolled && !code) {
			why = undone;
			code = rolled;
		}
	}
	mg_plandb__give(db, conn);
	if (code && err) {
		*err = why;
	}
	return code;
}
