/*
 * plandb.c - the planning database.
 *
 * An instance of its own holds the catalog (real tables with samples) in a database that is called
 * as clients see it.  Its optimizer is reduced to what we can read and what holds for any rows:
 * most of all statistics_propagation is off, because the samples are not the truth.  That setting
 * is read back at open: without it plans would be wrong without a word.
 *
 * Planning executes (constants fold), so it has a small memory limit, and a watchdog thread
 * interrupts a connection whose time is up.
 *
 * Each optimization of a text costs what it costs DuckDB, which is seconds for thousands of
 * conditions.  So it is done once: names and types come from a second connection that does not
 * optimize, estimates are only asked for where the plan was cheap, and a text that may run in the
 * engine as it is gets less time here: when that is over, the engine does the work once more.
 *
 * Text of users passes the wall (wall.c) before it is bound.
 *
 * owner: any thread; the lock guards the pool and the deadlines, nothing is run under it.
 */
#include "os/clock.h"
#include "os/wait.h"
#include "sql/plandb_int.h"
#include "sql/statement.h"
#include "sql/wall.h"
#include "store/duck.h"
#include "store/duck_keys.h"

#include <string.h>

enum {
	WAIT_MS_MAX = 20 * 1000, /* for one of them */
	PLAN_MS_MAX = 60 * 1000, /* for a text that runs only as a plan */
	SPARE_MS_MAX = 5 * 1000, /* for the plan of a text that may run without one */
	ESTIMATE_MS_MAX = 300,   /* a plan that took longer gets no estimates: they cost as much */
	SQL_MB_MAX = 16,
	AST_MB_MAX = 128, /* of JSON; the wall must read it */
	PLAN_MB_MAX = 64, /* of JSON; past it the text runs without a plan, or not at all */
	CATALOG_MS_MAX = 60 * 1000,
	OWN_MS_MAX = 3600 * 1000, /* SQL of ours: filling with samples */
	MEMORY_MB = 512,
};

/* Optimizers that make operators which cannot be serialised, that only make sense within one
 * process, or that believe the samples' statistics.  unused_columns: with it some plans fail to
 * serialise. */
static const char disabled[] =
	"unused_columns,statistics_propagation,compressed_materialization,join_filter_pushdown,late_"
	"materialization,"
	"in_clause,column_lifetime,build_side_probe_side,sum_rewriter,duplicate_groups,common_subplan,"
	"window_self_join,top_n_window_elimination,regex_range,limit_pushdown,row_group_pruner,"
	"sampling_pushdown,"
	"empty_result_pullup,unnest_rewriter,extension";

/* Connections that each use may have at once; planning may have them all. */
static const size_t used_max[MG_PLANDB_USES] = { MG_PLANDB_POOL, 2, 6 };

/* ---- time limit ---- */

static void *watch(void *arg)
{
	struct mg_plandb *db = arg;

	pthread_mutex_lock(&db->lock);
	while (!db->closing) {
		uint64_t now = mg_clock_ms(), next = UINT64_MAX;

		for (size_t i = 0; i < MG_PLANDB_POOL; i++) {
			struct mg_plan_conn *conn = &db->conns[i];

			if (!conn->busy) {
				continue;
			}
			if (now >= conn->until_ms) {
				/* Again every tenth of a second, until it is given back. */
				conn->expired = true;
				mg_duck_interrupt(conn->duck);
				mg_duck_interrupt(conn->binder);
				conn->until_ms = now + 100;
			}
			next = conn->until_ms < next ? conn->until_ms : next;
		}
		if (next != UINT64_MAX) {
			(void)mg_cond_wait_until(&db->changed, &db->lock, next);
		} else {
			pthread_cond_wait(&db->changed, &db->lock);
		}
	}
	pthread_mutex_unlock(&db->lock);
	return NULL;
}

struct mg_plan_conn *mg_plandb__take(struct mg_plandb *db, int ms, enum mg_plandb_use use,
                                     struct mg_error *err)
{
	struct mg_plan_conn *conn = NULL;
	uint64_t until_ms = mg_clock_ms() + WAIT_MS_MAX;

	pthread_mutex_lock(&db->lock);
	while (!conn) {
		for (size_t i = 0; i < MG_PLANDB_POOL && !conn && db->used[use] < used_max[use]; i++) {
			conn = db->conns[i].busy ? NULL : &db->conns[i];
		}
		if (!conn && !mg_cond_wait_until(&db->freed, &db->lock, until_ms)) {
			pthread_mutex_unlock(&db->lock);
			mg_error_set(err, MG_E_BUSY, "the planner is busy with other statements");
			mg_error_hint(err, "Try again; a large constant expression may be computed there.");
			return NULL;
		}
	}
	conn->busy = true;
	conn->use = use;
	db->used[use]++;
	conn->expired = false;
	conn->until_ms = mg_clock_ms() + (uint64_t)ms;
	conn->limit_ms = ms;
	pthread_cond_signal(&db->changed);
	pthread_mutex_unlock(&db->lock);
	return conn;
}

/* From now on ms at most, if that is less than what is left. */
static void hurry(struct mg_plandb *db, struct mg_plan_conn *conn, int ms)
{
	uint64_t until_ms = mg_clock_ms() + (uint64_t)ms;

	pthread_mutex_lock(&db->lock);
	if (!conn->expired && until_ms < conn->until_ms) {
		conn->until_ms = until_ms;
		conn->limit_ms = ms;
		pthread_cond_signal(&db->changed);
	}
	pthread_mutex_unlock(&db->lock);
}

void mg_plandb__give(struct mg_plandb *db, struct mg_plan_conn *conn)
{
	pthread_mutex_lock(&db->lock);
	conn->busy = false;
	db->used[conn->use]--;
	pthread_cond_broadcast(&db->freed); /* who waits may wait for different things */
	pthread_mutex_unlock(&db->lock);
}

bool mg_plandb__unwatch(struct mg_plandb *db, struct mg_plan_conn *conn)
{
	pthread_mutex_lock(&db->lock);
	bool expired = conn->expired;

	conn->until_ms = mg_clock_ms() + OWN_MS_MAX;
	pthread_mutex_unlock(&db->lock);
	return !expired;
}

/* After each step: a step that ended, well or not, when the time was up is the last one.  (A
 * constant function call cannot be interrupted inside; the next step would only repeat it.) */
int mg_plandb__in_time(struct mg_plandb *db, struct mg_plan_conn *conn, int code,
                       struct mg_error *err)
{
	pthread_mutex_lock(&db->lock);
	bool expired = conn->expired;
	int limit_ms = conn->limit_ms;

	pthread_mutex_unlock(&db->lock);
	if (!expired) {
		return code;
	}
	code = mg_error_set(err, MG_E_TIMEOUT, "planning took longer than %d ms", limit_ms);
	mg_error_hint(err, "Constant expressions are computed while planning; make them smaller.");
	return code;
}

int mg_plandb__set_zone(struct mg_plan_conn *conn, const char *zone, struct mg_error *err)
{
	struct mg_sb sb = { 0 };

	if (!zone || !*zone) {
		zone = "UTC";
	}
	if (strcmp(conn->zone, zone) == 0) {
		return 0;
	}
	if (strlen(zone) >= MG_PLANDB_ZONE_MAX) {
		return mg_error_set(err, MG_E_USAGE, "the name of the time zone is too long");
	}
	mg_sb_add(&sb, "SET TimeZone = ");
	mg_sb_add_literal(&sb, zone, strlen(zone));
	int code = mg_duck_exec(conn->duck, mg_sb_text(&sb), err);

	conn->zone[0] = '\0'; /* when one has it and the other has not, it is set again */
	code = code ? code : mg_duck_exec(conn->binder, mg_sb_text(&sb), err);
	if (!code) {
		mg_copy_text(conn->zone, sizeof conn->zone, zone);
	}
	mg_sb_fini(&sb);
	return code;
}

/* ---- open and close ---- */

static int check_setting(struct mg_duck_conn *conn, const char *name, const char *want,
                         struct mg_error *err)
{
	struct mg_sb sb = { 0 };
	char *have = NULL;

	mg_sb_addf(&sb, "SELECT current_setting('%s')::VARCHAR", name);
	int code = mg_duck_text(conn, mg_sb_text(&sb), &have, err);

	if (!code && (!have || !strstr(have, want))) {
		code = mg_error_set(err, MG_E_INTERNAL,
		                    "the planning database has \"%s\" = \"%s\" without \"%s\"", name,
		                    have ? have : "", want);
	}
	mg_free(have);
	mg_sb_fini(&sb);
	return code;
}

static int open_conn(struct mg_plandb *db, struct mg_plan_conn *conn, struct mg_error *err)
{
	int code = mg_duck_connect(db->duck, &conn->duck, err);

	code = code ? code : mg_duck_connect(db->duck, &conn->binder, err);
	code = code ? code : mg_duck_exec(conn->duck, "USE merganser.main", err);
	code = code ? code : mg_duck_exec(conn->binder, "USE merganser.main", err);
	code = code ? code : mg_duck_exec(conn->binder, "PRAGMA disable_optimizer", err);
	code = code ? code : mg_duck_exec(conn->duck, "SET explain_output = 'optimized_only'", err);
	code = code ? code : mg_plandb__set_zone(conn, "UTC", err);
	code = code ? code : check_setting(conn->duck, "explain_output", "optimized_only", err);
	return code ? code
	            : check_setting(conn->duck, "disabled_optimizers", "statistics_propagation", err);
}

static int open_all(struct mg_plandb *db, struct mg_error *err)
{
	const struct mg_duck_options options = {
		.threads = 1,
		.memory_bytes = (uint64_t)MEMORY_MB << 20,
		.lossless_arrow = true,
	};
	struct mg_duck_conn *conn = NULL;
	struct mg_sb sb = { 0 };
	int code = mg_duck_open(&db->duck, &options, err);

	code = code ? code : mg_duck_connect(db->duck, &conn, err);
	mg_sb_addf(&sb, "SET disabled_optimizers = '%s'", disabled);
	code = code ? code : mg_duck_exec(conn, mg_sb_text(&sb), err);
	code = code ? code : mg_duck_exec(conn, "ATTACH ':memory:' AS merganser", err);
	if (conn) {
		mg_duck_disconnect(conn);
	}
	for (size_t i = 0; !code && i < MG_PLANDB_POOL; i++) {
		code = open_conn(db, &db->conns[i], err);
	}
	/* Each connection stands in "merganser" now: nothing needs the first database any more. */
	code = code ? code : mg_duck_exec(db->conns[0].duck, "DETACH memory", err);
	mg_sb_fini(&sb);
	return code;
}

int mg_plandb_open(struct mg_plandb **out, struct mg_error *err)
{
	struct mg_plandb *db = mg_alloc0(sizeof *db);

	*out = NULL;
	db->limit_ms = PLAN_MS_MAX;
	db->views = -1;
	pthread_mutex_init(&db->lock, NULL);
	pthread_mutex_init(&db->replay_lock, NULL);
	mg_cond_init(&db->freed);
	mg_cond_init(&db->changed);
	int code = open_all(db, err);

	if (!code) {
		db->watched = pthread_create(&db->watchdog, NULL, watch, db) == 0;
		code = db->watched ? 0
		                   : mg_error_set(err, MG_E_NOMEM, "cannot start the planner's watchdog");
	}
	if (code) {
		mg_plandb_close(db);
		return mg_error_wrap(err, "while opening the planning database");
	}
	*out = db;
	return 0;
}

void mg_plandb_close(struct mg_plandb *db)
{
	if (!db) {
		return;
	}
	if (db->watched) {
		pthread_mutex_lock(&db->lock);
		db->closing = true;
		pthread_cond_signal(&db->changed);
		pthread_mutex_unlock(&db->lock);
		pthread_join(db->watchdog, NULL);
	}
	for (size_t i = 0; i < MG_PLANDB_POOL; i++) {
		if (db->conns[i].duck) {
			mg_duck_disconnect(db->conns[i].duck);
		}
		if (db->conns[i].binder) {
			mg_duck_disconnect(db->conns[i].binder);
		}
	}
	if (db->duck) {
		mg_duck_close(db->duck);
	}
	pthread_cond_destroy(&db->freed);
	pthread_cond_destroy(&db->changed);
	pthread_mutex_destroy(&db->lock);
	pthread_mutex_destroy(&db->replay_lock);
	mg_free(db);
}

int mg_plandb_exec(struct mg_plandb *db, const char *sql, struct mg_error *err)
{
	struct mg_plan_conn *conn = mg_plandb__take(db, OWN_MS_MAX, MG_PLANDB_PLANS, err);

	if (!conn) {
		return MG_E_BUSY;
	}
	pthread_mutex_lock(&db->replay_lock);
	int code = mg_duck_exec(conn->duck, sql, err);

	pthread_mutex_unlock(&db->replay_lock);
	if (code) {
		err->origin = MG_ORIGIN_PLANNER;
	}
	if (strcasestr(sql, "view")) {
		pthread_mutex_lock(&db->lock);
		db->views = -1;
		pthread_mutex_unlock(&db->lock);
	}
	mg_plandb__give(db, conn);
	return code;
}

int mg_plandb_seal(struct mg_plandb *db, struct mg_error *err)
{
	return mg_plandb_exec(db, "SET enable_external_access = false", err);
}

void mg_plandb_set_limit(struct mg_plandb *db, int ms)
{
	db->limit_ms = ms;
}

void mg_plandb_set_keys(struct mg_plandb *db, const struct mg_duck_keys *keys)
{
	mg_duck_set_keys(db->duck, keys);
}

int mg_plandb_borrow(struct mg_plandb *db, const char *timezone, struct mg_duck_conn **out,
                     struct mg_error *err)
{
	struct mg_plan_conn *conn = mg_plandb__take(db, CATALOG_MS_MAX, MG_PLANDB_LENT, err);

	*out = NULL;
	if (!conn) {
		return MG_E_BUSY;
	}
	int code = mg_plandb__set_zone(conn, timezone, err);

	*out = code ? NULL : conn->duck;
	if (code) {
		mg_plandb__give(db, conn);
	}
	return code;
}

void mg_plandb_give_back(struct mg_plandb *db, struct mg_duck_conn *duck)
{
	for (size_t i = 0; i < MG_PLANDB_POOL; i++) {
		if (db->conns[i].duck == duck) {
			mg_plandb__replay_end(db, &db->conns[i], false);
			mg_plandb__give(db, &db->conns[i]);
		}
	}
}

/* ---- bind ---- */

/* SELECT function($1) of a text, whose one value is JSON of at most mb_max. */
static int ask_json(struct mg_plan_conn *conn, struct mg_arena *arena, const char *question,
                    const char *text, size_t mb_max, struct mg_json **out, struct mg_error *err)
{
	char *json = NULL;
	struct mg_error why;
	int code = mg_duck_text_of(conn->duck, question, mg_str(text), &json, err);
	size_t len = json ? strlen(json) : 0;

	if (!code && !json) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "a constant of the plan has no JSON form");
	} else if (!code && len > mb_max << 20) {
		code = mg_error_set(err, MG_E_LIMIT, "the statement is too large: %zu MB as a tree",
		                    len >> 20);
		mg_error_hint(err, "Load long lists of constants as a table and join it.");
	}
	if (!code && mg_json_parse(arena, json, len, out, &why)) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "the engine's plan cannot be read: %s",
		                    why.message);
	}
	mg_free(json);
	return code;
}

int mg_plandb__describe(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                        struct mg_bound *out, struct mg_error *err)
{
	struct mg_duck_conn *duck = conn->replayed ? conn->duck : conn->binder;
	int code = mg_duck_describe(duck, arena, sql, &out->column_count, &out->names, &out->types,
	                            err);

	if (code && err) {
		err->origin = code == MG_E_SYNTAX ? MG_ORIGIN_PARSER : MG_ORIGIN_PLANNER;
		if (code == MG_E_NO_TABLE && strstr(err->message, "schema \"kv\" does not exist")) {
			mg_error_hint(err, "Keys and values are read by FROM kv('namespace').");
		}
	}
	return code;
}

/* The text has no AST: a syntax error, or a statement that is no SELECT. */
static int explain_no_ast(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                          const struct mg_json *ast, struct mg_bound *out, struct mg_error *err)
{
	const char *type = mg_json_get_text(ast, "error_type");
	const char *message = mg_json_get_text(ast, "error_message");
	struct mg_lexer lexer;

	if (type && strcmp(type, "not implemented") != 0) {
		int code = mg_plandb__describe(conn, arena, sql, out, err);

		return code ? code
		            : mg_error_set(err, MG_E_SYNTAX, "%s",
		                           message ? message : "the statement cannot be parsed");
	}
	mg_lex_init(&lexer, mg_str(sql));
	if (mg_str_eq_nocase(mg_lex_next(&lexer).text, MG_STR("pivot"))) {
		int code = mg_error_set(err, MG_E_UNSUPPORTED, "PIVOT needs the values of its columns");

		mg_error_hint(err, "Write them: PIVOT t ON c IN (1, 2, 3) USING ...");
		return code;
	}
	return mg_error_set(err, MG_E_UNSUPPORTED, "only a statement that reads can be planned");
}

/* A table name that looks like a file would be opened as one if no table had it. */
static int check_file_names(struct mg_plan_conn *conn, const struct mg_wall_table *tables,
                            size_t count, struct mg_error *err)
{
	for (size_t i = 0; i < count; i++) {
		const char *name = tables[i].name;
		struct mg_sb sb = { 0 };
		int64_t found = 0;

		if (!strpbrk(name, "./\\:*?[")) {
			continue;
		}
		mg_sb_add(
			&sb,
			"SELECT (SELECT count(*) FROM duckdb_tables() WHERE lower(table_name) = lower(n)) + "
			"(SELECT count(*) FROM duckdb_views() WHERE lower(view_name) = lower(n)) FROM "
			"(SELECT ");
		mg_sb_add_literal(&sb, name, strlen(name));
		mg_sb_add(&sb, " AS n)");
		int code = mg_duck_int(conn->duck, mg_sb_text(&sb), &found, err);

		mg_sb_fini(&sb);
		if (!code && !found) {
			code = mg_error_set(err, MG_E_NO_TABLE, "table with name %s does not exist", name);
			mg_error_hint(err, "Files of the server cannot be read.");
		}
		if (code) {
			return code;
		}
	}
	return 0;
}

/* Does a table of users have a name of the catalog's own views?  Then it is meant, and not answered
 * from samples. */
static int check_shadows(struct mg_plan_conn *conn, const struct mg_wall_view *view,
                         struct mg_bound *out, struct mg_error *err)
{
	int64_t shadows = 0;

	if (!out->catalog_only || !view->bare) {
		return 0;
	}
	int code = mg_duck_int(conn->duck,
	                       "SELECT count(*) FROM duckdb_tables() JOIN duckdb_views() v "
	                       "ON lower(table_name) = v.view_name WHERE v.internal "
	                       "AND v.schema_name <> 'information_schema'", /* not without its name */
	                       &shadows, err);

	out->catalog_only = shadows == 0;
	return code;
}

/* Most catalogs have no view, and then nobody needs to look for one. */
static int count_views(struct mg_plandb *db, struct mg_plan_conn *conn, int64_t *views,
                       struct mg_error *err)
{
	pthread_mutex_lock(&db->lock);
	*views = db->views;
	pthread_mutex_unlock(&db->lock);
	if (*views >= 0 && !conn->replayed) {
		return 0;
	}
	int code = mg_duck_int(conn->duck, "SELECT count(*) FROM duckdb_views() WHERE NOT internal",
	                       views, err);

	if (!code && !conn->replayed) {
		pthread_mutex_lock(&db->lock);
		db->views = *views;
		pthread_mutex_unlock(&db->lock);
	}
	return code;
}

/* Text that names a view runs only as the plan: the engine has tables alone. */
static int check_views(struct mg_plandb *db, struct mg_plan_conn *conn,
                       const struct mg_wall_view *view, struct mg_bound *out, struct mg_error *err)
{
	int64_t views = 0;

	if (out->text_refused || !view->table_count) {
		return 0;
	}
	int code = count_views(db, conn, &views, err);

	if (code || !views) {
		return code;
	}
	struct mg_sb sb = { 0 };

	mg_sb_add(&sb,
	          "SELECT count(*) FROM duckdb_views() WHERE NOT internal AND lower(view_name) IN (");
	for (size_t i = 0; i < view->table_count; i++) {
		mg_sb_add(&sb, i ? ", lower(" : "lower(");
		mg_sb_add_literal(&sb, view->tables[i].name, strlen(view->tables[i].name));
		mg_sb_add(&sb, ")");
	}
	mg_sb_add(&sb, ")");
	code = mg_duck_int(conn->duck, mg_sb_text(&sb), &views, err);
	if (views) {
		out->text_refused = "the statement names a view";
	}
	mg_sb_fini(&sb);
	return code;
}

int mg_plandb__ask_ast(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                       struct mg_json **out, struct mg_error *err)
{
	return ask_json(conn, arena, "SELECT json_serialize_sql($1::VARCHAR)", sql, AST_MB_MAX, out,
	                err);
}

/* The wall: what the text asks for, before anything of it is bound. */
int mg_plandb__look(struct mg_plandb *db, struct mg_plan_conn *conn, struct mg_arena *arena,
                    const char *sql, struct mg_wall_view *view, struct mg_bound *out,
                    struct mg_error *err)
{
	struct mg_json *ast = NULL;
	int code = mg_plandb__ask_ast(conn, arena, sql, &ast, err);

	if (code) {
		return code;
	}
	if (mg_json_get_bool(ast, "error", true)) {
		return explain_no_ast(conn, arena, sql, ast, out, err);
	}
	code = mg_wall_look(arena, ast, view, err);
	code = code ? code : mg_plandb__look_into_macros(conn, arena, view, err);
	if (!code) {
		code = check_file_names(conn, view->tables, view->table_count, err);
	}
	if (!code) {
		code = check_file_names(conn, view->described, view->described_count, err);
	}
	if (!code) {
		out->text_refused = view->why;
		out->draws = view->draws && !view->table_count;
		out->keys = view->keys;
		out->catalog_only = (view->catalog || view->draws) && !view->table_count;
		code = check_views(db, conn, view, out, err);
		code = code ? code : check_shadows(conn, view, out, err);
	}
	if (code && err) {
		err->origin = MG_ORIGIN_PLANNER;
	}
	return code;
}

/* Types as both sides write them differ in quotes and blanks. */
static bool same_type(const char *a, const char *b)
{
	for (;;) {
		while (*a == '"' || *a == ' ') {
			a++;
		}
		while (*b == '"' || *b == ' ') {
			b++;
		}
		if (*a != *b) {
			return false;
		}
		if (!*a) {
			return true;
		}
		a++;
		b++;
	}
}

/* The plan may have lost an alias (JSON) or a wider type: cast the result to what was described. */
static int cast_root(struct mg_arena *arena, struct mg_bound *out, struct mg_error *err)
{
	struct mg_node *root = out->root;
	struct mg_expr **exprs = mg_arena_new_array(arena, struct mg_expr *, root->column_count + 1);
	bool any = false;

	if (root->column_count != out->column_count) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "the plan has %zu columns, the statement %zu",
		                    root->column_count, out->column_count);
	}
	for (size_t i = 0; i < root->column_count; i++) {
		char *text = NULL;

		exprs[i] = mg_expr_ref(arena, i, root->types[i]);
		if (mg_type_print(arena, root->types[i], &text, err)) {
			continue; /* a type without SQL form needs no cast: it is passed on as it is */
		}
		if (same_type(text, out->types[i]) || strchr(out->types[i], '{') ||
		    strcmp(out->types[i], "\"NULL\"") == 0) {
			continue;
		}
		const char *format = mg_arena_format(arena, "CAST({0} AS %s)", out->types[i]);
		struct mg_type *type = mg_arena_alloc(arena, sizeof *type);

		*type = *root->types[i];
		if (strcmp(out->types[i], "JSON") == 0) {
			type->alias = "JSON";
		}
		exprs[i] = mg_expr_raw(arena, format, type, 1, &exprs[i]);
		any = true;
	}
	if (any) {
		out->root = mg_node_project(arena, root, exprs, root->column_count);
	}
	mg_error_clear(err);
	return 0;
}

/* EXPLAIN's tree with the estimated rows, or NULL: then the planner guesses. */
static struct mg_json *estimates(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql)
{
	struct mg_duck_result *result = NULL;
	struct ArrowArray batch = { 0 };
	struct mg_json *out = NULL;
	struct mg_error ignored;
	bool done = false;
	struct mg_sb sb = { 0 };

	mg_sb_add(&sb, "EXPLAIN (FORMAT JSON) ");
	mg_sb_add(&sb, sql);
	if (mg_duck_query(conn->duck, mg_sb_text(&sb), &result, &ignored) ||
	    mg_duck_result_next(result, 1, &batch, &done, &ignored) || done) {
		goto out;
	}
	/* Columns explain_key and explain_value, one row of text. */
	const struct ArrowSchema *schema = mg_duck_result_schema(result);

	if (schema->n_children == 2 && strcmp(schema->children[1]->format, "u") == 0 &&
	    batch.length == 1) {
		const struct ArrowArray *text = batch.children[1];
		const int32_t *offsets = (const int32_t *)text->buffers[1] + text->offset;
		const char *bytes = (const char *)text->buffers[2] + offsets[0];

		if (mg_json_parse(arena, bytes, (size_t)(offsets[1] - offsets[0]), &out, &ignored)) {
			out = NULL;
		}
	}
out:
	if (batch.release) {
		batch.release(&batch);
	}
	mg_duck_result_free(result);
	mg_sb_fini(&sb);
	return out;
}

/* A plan without joins, aggregates and their like leaves nothing to choose. */
static bool needs_estimates(const struct mg_json *plan)
{
	static const char *const simple[] = { "LOGICAL_GET",       "LOGICAL_PROJECTION",
		                                  "LOGICAL_FILTER",    "LOGICAL_TOP_N",
		                                  "LOGICAL_LIMIT",     "LOGICAL_ORDER_BY",
		                                  "LOGICAL_DUMMY_SCAN" };
	const char *type = mg_json_get_text(plan, "type");
	bool known = false;

	for (size_t i = 0; type && i < sizeof simple / sizeof *simple; i++) {
		known = known || strcmp(type, simple[i]) == 0;
	}
	if (!known) {
		return true;
	}
	mg_json_each(kid, mg_json_get(plan, "children")) {
		if (needs_estimates(kid)) {
			return true;
		}
	}
	return false;
}

/* The text binds, but has no plan: a constant of it cannot be computed, which is the statement's
 * own error, or the engine cannot serialise what it planned, which is none. */
static int explain_no_plan(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                           const struct mg_json *answer, struct mg_error *err)
{
	const char *message = mg_json_get_text(answer, "error_message");
	size_t count;
	const char **names, **types;
	int code = mg_duck_describe(conn->duck, arena, sql, &count, &names, &types, err);

	if (code) {
		if (err) {
			err->origin = MG_ORIGIN_PLANNER;
		}
		return code;
	}
	return mg_error_set(err, MG_E_UNSUPPORTED, "no plan: %s",
	                    message ? message : "no reason given");
}

/* Row ids that a plan asks for are the column that every stored row has.  Where the plan only wants
 * some column, to count rows, nobody asks for it, and it goes with the pruning. */
static void name_row_ids(struct mg_node *node)
{
	for (size_t i = 0; node->op == MG_OP_SCAN && i < node->column_count; i++) {
		node->cols[i] = node->cols[i] ? node->cols[i] : "_mg_rid";
	}
	for (size_t i = 0; i < node->kid_count; i++) {
		name_row_ids(node->kids[i]);
	}
}

static int ask_plan(struct mg_plandb *db, struct mg_plan_conn *conn, struct mg_arena *arena,
                    const char *sql, bool optimize, struct mg_json **out, struct mg_error *err)
{
	int code = ask_json(conn, arena,
	                    optimize ? "SELECT json_serialize_plan($1::VARCHAR, optimize := true)"
	                             : "SELECT json_serialize_plan($1::VARCHAR, optimize := false)",
	                    sql, PLAN_MB_MAX, out, err);

	/* A plan that came late is a plan: nothing dear follows. */
	code = code ? mg_plandb__in_time(db, conn, code, err) : 0;
	if (!code && mg_json_get_bool(*out, "error", true)) {
		return explain_no_plan(conn, arena, sql, *out, err);
	}
	return code;
}

static int read_plan(struct mg_arena *arena, const struct mg_json *answer,
                     const struct mg_json *explain, bool row_ids, struct mg_bound *out,
                     struct mg_error *err)
{
	struct mg_node *node = NULL;
	int code = mg_plan_read_sized(arena, mg_json_at(mg_json_get(answer, "plans"), 0),
	                              mg_json_at(explain, 0), &node, err);

	if (!code && row_ids) {
		name_row_ids(node);
	}
	code = code ? code : mg_plan_prune(arena, node, &out->root, err);
	if (!code) {
		out->keys = out->keys || mg_plan_reads_keys(out->root); /* by a view */
		out->root = mg_plan_bound_keys(arena, out->root);
	}
	return code ? code : cast_root(arena, out, err);
}

/* Constants of BIT and BIGNUM that the optimizer has computed are raw bytes, which no JSON holds.
 * Before it they are casts of texts.  *why: what was wrong with the optimizer's plan. */
static int plan_raw_constants(struct mg_plandb *db, struct mg_plan_conn *conn,
                              struct mg_arena *arena, const char *sql, bool row_ids,
                              const struct mg_error *why, struct mg_bound *out,
                              struct mg_error *err)
{
	struct mg_json *answer = NULL;
	int code = ask_plan(db, conn, arena, sql, false, &answer, err);
	const char *type = code ? NULL : mg_plandb__raw_type(answer);

	if (code || !type) {
		if (err) {
			*err = *why;
		}
		return why->code;
	}
	if (mg_plandb__has_moments(answer)) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "a constant of type %s beside the current time",
		                    type);
		mg_error_hint(err, "Write the time as a constant, too.");
		return code;
	}
	char *text = NULL;
	struct mg_error unread;

	code = read_plan(arena, answer, NULL, row_ids, out, &unread);
	code = code ? code : mg_plan_print(arena, out->root, &text, &unread);
	if (code) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "a constant of type %s: %s", type,
		                    unread.message);
		mg_error_hint(err, "Compare the column's CAST to VARCHAR with a text instead.");
		return code;
	}
	return 0;
}

static int plan(struct mg_plandb *db, struct mg_plan_conn *conn, struct mg_arena *arena,
                const char *sql, bool row_ids, struct mg_bound *out, struct mg_error *err)
{
	struct mg_json *answer = NULL;
	struct mg_error why;
	uint64_t start = mg_clock_ms();

	mg_error_clear(&why);
	int code = ask_plan(db, conn, arena, sql, true, &answer, &why);
	bool cheap = mg_clock_ms() - start <= ESTIMATE_MS_MAX;

	if (code == MG_E_UNSUPPORTED) {
		return plan_raw_constants(db, conn, arena, sql, row_ids, &why, out, err);
	}
	if (code) {
		if (err) {
			*err = why;
		}
		return code;
	}
	const struct mg_json *plans = mg_json_get(answer, "plans");

	if (!plans || plans->count != 1) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "one statement at a time");
	}
	const struct mg_json *explain =
		cheap && needs_estimates(mg_json_at(plans, 0)) ? estimates(conn, arena, sql) : NULL;

	code = read_plan(arena, answer, explain, row_ids, out, err);
	if ((code && code != MG_E_UNSUPPORTED) || !mg_plandb__raw_type(plans)) {
		return code;
	}
	char *text = NULL;

	code = code ? mg_error_set(&why, code, "%s", err ? err->message : "")
	            : mg_plan_print(arena, out->root, &text, &why);
	return code ? plan_raw_constants(db, conn, arena, sql, row_ids, &why, out, err) : 0;
}

/* Errors of planning that are not the statement's own. */
static bool is_too_dear(int code)
{
	return code == MG_E_TIMEOUT || code == MG_E_NOMEM || code == MG_E_LIMIT;
}

int mg_plandb__attach(const struct mg_plan_settings *settings, struct mg_duck_conn *duck,
                      struct mg_error *err)
{
	return settings && settings->attach ? settings->attach(settings->arg, duck, err) : 0;
}

static int refuse_draws(struct mg_error *err)
{
	mg_error_set(err, MG_E_UNSUPPORTED, "nextval and currval beside tables are not supported yet");
	mg_error_hint(err, "Let a column have DEFAULT nextval('...'), and INSERT the others.");
	return MG_E_UNSUPPORTED;
}

/* *fall: what failed is not the statement, but our knowledge of it.  *began: a transaction of the
 * connection, to be rolled back. */
static int bind_text(struct mg_plandb *db, struct mg_plan_conn *conn, struct mg_arena *arena,
                     const struct mg_plan_settings *settings, const char *sql, struct mg_bound *out,
                     bool *fall, bool *began, struct mg_error *err)
{
	struct mg_wall_view view = { 0 };
	int code = mg_plandb__attach(settings, conn->duck, err);

	code = code ? code : mg_plandb__set_zone(conn, settings ? settings->timezone : NULL, err);
	code = code ? code : mg_plandb__replay(db, conn, settings, false, err);
	*began = conn->replayed;
	code = code ? code : mg_plandb__look(db, conn, arena, sql, &view, out, err);
	code = mg_plandb__in_time(db, conn, code, err);
	bool draws = view.draws;

	mg_wall_view_fini(&view);
	if (code || draws != out->draws) {
		return code ? code : refuse_draws(err);
	}
	bool text_runs = !out->text_refused;

	if (text_runs) {
		hurry(db, conn, SPARE_MS_MAX);
	}
	code = mg_plandb__attach(settings, conn->replayed ? conn->duck : conn->binder, err);
	code = code
	           ? code
	           : mg_plandb__in_time(db, conn, mg_plandb__describe(conn, arena, sql, out, err), err);
	code = code ? code : mg_plandb__attach(settings, conn->duck, err);
	if (!code && out->catalog_only) {
		out->unsupported = "only catalog tables are read";
		return 0;
	}
	if (!code && settings && settings->now_us) { /* now() is folded into the plan */
		code = *began ? 0 : mg_duck_exec(conn->duck, "BEGIN", err);
		*began = *began || code == 0;
		code = code ? code : mg_duck_set_now(conn->duck, settings->now_us, err);
	}
	if (!code) {
		code = plan(db, conn, arena, sql, settings && settings->row_ids, out, err);
		*fall = code == MG_E_UNSUPPORTED;
	}
	*fall = *fall || (text_runs && is_too_dear(code));
	return code;
}

int mg_plandb_bind(struct mg_plandb *db, struct mg_arena *arena,
                   const struct mg_plan_settings *settings, const char *sql, struct mg_bound *out,
                   struct mg_error *err)
{
	struct mg_error why;

	*out = (struct mg_bound){ 0 };
	if (strlen(sql) > (size_t)SQL_MB_MAX << 20) {
		return mg_error_set(err, MG_E_LIMIT, "a statement may have at most %d MB", SQL_MB_MAX);
	}
	struct mg_plan_conn *conn = mg_plandb__take(db, db->limit_ms, MG_PLANDB_PLANS, err);

	if (!conn) {
		return MG_E_BUSY;
	}
	mg_error_clear(&why);
	bool fall = false, began = false;
	int code = bind_text(db, conn, arena, settings, sql, out, &fall, &began, &why);

	(void)mg_plandb__attach(settings, NULL, NULL);
	if (began) {
		struct mg_error undone;

		(void)mg_plandb__unwatch(db, conn);
		if (mg_plandb__roll_back(conn, &undone) && !code) {
			why = undone;
			code = undone.code;
		}
	}
	mg_plandb__replay_end(db, conn, false);
	mg_plandb__give(db, conn);
	if (fall) {
		out->root = NULL;
		out->unsupported = mg_arena_strdup(arena, why.message);
		out->hint = mg_arena_strdup(arena, why.hint);
		code = 0;
	}
	if (code && err) {
		*err = why;
	}
	return code;
}
