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

#include "exec/engine.h"
#include "exec/pivot.h"
#include "exec/run.h"
#include "exec/tx.h"
#include "replica/replica.h"
#include "sql/kv_dml.h"

#include <pthread.h>
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

static void (*on_step)(enum mg_define_step step);

void mg_define_on_step(void (*step)(enum mg_define_step step))
{
	on_step = step;
}

void mg_define__tell(enum mg_define_step step)
{
	if (on_step) {
		on_step(step);
	}
}

/* ---- the catalog ---- */

static void remove_view(struct mg_catalog_data *data, const char *schema, const char *name)
{
	const struct mg_view *view = mg_catalog_find_view(data, schema, name);

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

static int add_view(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                    struct mg_error *err)
{
	const struct mg_define *define = arg;
	struct mg_view *views = mg_arena_new_array(arena, struct mg_view, data->view_count + 1);

	if (mg_catalog_find_table(data, define->view.schema, define->view.name)) {
		return mg_error_set(err, MG_E_DUPLICATE, "\"%s\" is a table, not a view",
		                    define->view.name);
	}
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

/* What is written there goes to keys and values, unless somebody had made it before that. */
static int create_schema(struct mg_define *define, struct mg_error *err)
{
	if (mg_text_eq_nocase(define->ddl.name, MG_KV_SCHEMA)) {
		mg_error_set(err, MG_E_BIND, "the schema \"%s\" is ours", define->ddl.name);
		mg_error_hint(err, "INSERT INTO kv.namespace puts keys, FROM kv('namespace') reads them.");
		return MG_E_BIND;
	}
	return mg_define__change_catalog(define, add_schema, err);
}

static int drop_object(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                       struct mg_error *err)
{
	const struct mg_define *define = arg;
	size_t kept = 0;

	(void)arena;
	(void)err;
	switch (define->ddl.kind) {
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
	case MG_DDL_TABLE:  /* define_table.c */
	case MG_DDL_OBJECT: /* define_object.c */
	case MG_DDL_INDEX:  /* there are none */
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
	struct mg_define *define = change->define;
	int code = check_epoch(define, err);

	code = code ? code : mg_define__look_for_done(define, data, err);
	if (!code && define->repeated) {
		return mg_error_set(err, MG_E_DUPLICATE, "it was done under its key meanwhile");
	}
	code = code ? code : change->change(define, arena, data, err);
	if (!code) {
		mg_define__note_done(define, arena, data);
	}
	return code;
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

/* ---- for the planning database ---- */

/* The statement as the planning database runs it, for those that follow in its transaction. */
static const char *replay_of(const struct mg_define *define)
{
	const struct mg_ddl *ddl = &define->ddl;
	static const char *const kinds[] = { "TABLE", "VIEW", "SCHEMA" };
	bool object = ddl->kind == MG_DDL_OBJECT;
	struct mg_sb sql = { 0 };

	if (define->replay) {
		return define->replay;
	}
	if (ddl->kind == MG_DDL_SCHEMA) {
		mg_sb_add(&sql, ddl->verb == MG_DDL_CREATE ? "CREATE SCHEMA IF NOT EXISTS " : "");
		mg_sb_add_ident(&sql, ddl->name);
	} else if (ddl->verb == MG_DDL_DROP) {
		mg_sb_addf(&sql, "DROP %s ", object ? ddl->object : kinds[ddl->kind]);
		mg_sb_add_path(&sql, define->schema, ddl->name);
	} else {
		bool macro = object && mg_text_eq(ddl->object, MG_OBJECT_TABLE_MACRO);

		mg_sb_addf(&sql, "CREATE OR REPLACE %s ",
		           macro ? MG_OBJECT_MACRO : object ? ddl->object : kinds[ddl->kind]);
		mg_sb_add_path(&sql, define->schema, ddl->name);
		if (ddl->kind == MG_DDL_TABLE) {
			mg_sb_add(&sql, " (");
			mg_table_add_definition(&sql, &define->table, true);
			mg_sb_add_char(&sql, ')');
		} else if (object) {
			mg_sb_addf(&sql, " %.*s", MG_STR_ARG(ddl->definition));
		} else {
			mg_view_add_definition(&sql, &define->view);
		}
	}
	const char *text = ddl->kind == MG_DDL_SCHEMA && ddl->verb == MG_DDL_DROP
	                       ? NULL /* an empty one stays, and does no harm */
	                       : mg_arena_strdup(define->arena, mg_sb_text(&sql));

	mg_sb_fini(&sql);
	return text;
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

int mg_define__bind_query(struct mg_define *define, const char **query, struct mg_bound *bound,
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

/* ---- views and schemas ---- */

/* A view of a PIVOT without values would have other columns each time, which no view of DuckDB has.
 */
static int say_pivot(struct mg_define *define, int code, struct mg_error *err)
{
	const char *expanded = NULL;
	struct mg_error ignored = { 0 };

	if (code != MG_E_UNSUPPORTED ||
	    mg_pivot_expand(define->engine, define->run, define->settings, define->arena,
	                    define->ddl.query, &expanded, &ignored) ||
	    !expanded) {
		return code;
	}
	mg_error_set(err, code,
	             "PIVOT statements with pivot elements extracted from the data cannot be used in "
	             "views");
	mg_error_hint(err, "The columns of a view are fixed when it is made: write the values, PIVOT "
	                   "... ON c IN (val1, val2), or CREATE TABLE ... AS, which takes those of "
	                   "now.");
	return code;
}

static int create_view(struct mg_define *define, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	struct mg_bound bound;
	struct mg_sb names = { 0 };
	const char *query;
	int code = mg_define__bind_query(define, &query, &bound, err);

	if (code) {
		return say_pivot(define, code, err);
	}
	define->view =
		(struct mg_view){ .schema = define->schema, .name = ddl->name, .sql = query };
	for (size_t i = 0; i < ddl->name_count; i++) {
		mg_sb_add(&names, i ? ", " : "(");
		mg_sb_add_ident(&names, ddl->names[i]);
	}
	if (ddl->name_count) {
		mg_sb_add_char(&names, ')');
		define->view.sql = mg_arena_format(define->arena, "SELECT * FROM (%s\n) AS q%s", query,
		                                   mg_sb_text(&names));
		define->view.declared =
			mg_arena_format(define->arena, "%s AS %s", mg_sb_text(&names), query);
	}
	mg_sb_fini(&names);
	return mg_define__change_catalog(define, add_view, err);
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
	if (mg_text_eq_nocase(name, "main")) {
		return mg_error_set(err, MG_E_BIND, "schema \"%s\" cannot be dropped", name);
	}
	if (objects) {
		mg_error_set(err, MG_E_BIND, "schema \"%s\" holds %zu object%s", name, objects,
		             objects == 1 ? "" : "s");
		mg_error_hint(err, define->ddl.cascade
		                       ? "CASCADE does not drop what a schema holds yet: drop that first."
		                       : "Drop what it holds first.");
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "2BP01");
		}
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
	bool view = mg_catalog_find_view(define->data, define->schema, ddl->name) != NULL;
	bool create = ddl->verb == MG_DDL_CREATE;
	bool there = ddl->kind == MG_DDL_SCHEMA  ? mg_catalog_has_schema(define->data, ddl->name)
	             : ddl->kind == MG_DDL_TABLE ? table
	                                         : view;
	static const char *const kinds[] = { "table", "view", "schema" };

	if (ddl->kind != MG_DDL_SCHEMA && !there && (table || view)) {
		int code = mg_error_set(err, create ? MG_E_DUPLICATE : MG_E_BIND,
		                        "\"%s\" is a %s, not a %s", ddl->name, table ? "table" : "view",
		                        kinds[ddl->kind]);

		if (!create && err) {
			mg_error_hint(err, "Use %s %s.",
			              ddl->verb == MG_DDL_DROP    ? "DROP"
			              : ddl->verb == MG_DDL_ALTER ? "ALTER"
			                                          : "COMMENT ON",
			              table ? "TABLE" : "VIEW");
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "42809");
		}
		return code;
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

/* There is none. */
static int check_index(const struct mg_ddl *ddl, bool *done, struct mg_error *err)
{
	*done = ddl->if_exists;
	if (!*done) {
		mg_error_set(err, MG_E_NO_TABLE, "Index with name %s does not exist!", ddl->name);
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "42704");
		}
	}
	return *done ? 0 : MG_E_NO_TABLE;
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
	switch (ddl->kind) {
	case MG_DDL_INDEX:
		return check_index(ddl, done, err);
	case MG_DDL_OBJECT:
		return mg_define__check_object(define, done, err);
	default:
		return check_table_or_view(define, done, err);
	}
}

int mg_define__check_name(const char *name, struct mg_error *err)
{
	if (!*name || strlen(name) > 200 || strpbrk(name, "\n#")) {
		return mg_error_set(err, MG_E_BIND,
		                    "a name has 1 to 200 bytes and neither # nor a line break");
	}
	if (strncasecmp(name, "_mg", 3) == 0 || mg_text_eq_nocase(name, "cluster")) {
		return mg_error_set(err, MG_E_BIND, "the name \"%s\" is ours", name);
	}
	return 0;
}

static int carry_out(struct mg_define *define, struct mg_error *err)
{
	bool create = define->ddl.verb == MG_DDL_CREATE;

	if (define->ddl.verb == MG_DDL_COMMENT) {
		return mg_define__comment(define, err);
	}
	if (define->ddl.verb == MG_DDL_ALTER) {
		return define->ddl.kind == MG_DDL_TABLE ? mg_define__alter_table(define, err)
		                                        : mg_define__alter_view(define, err);
	}
	switch (define->ddl.kind) {
	case MG_DDL_TABLE:
		return create ? mg_define__create_table(define, err) : mg_define__drop_table(define, err);
	case MG_DDL_VIEW:
		return create ? create_view(define, err)
		              : mg_define__change_catalog(define, drop_object, err);
	case MG_DDL_SCHEMA:
		return create ? create_schema(define, err) : drop_schema(define, err);
	case MG_DDL_OBJECT:
		return create ? mg_define__create_object(define, err) : mg_define__drop_object(define, err);
	case MG_DDL_INDEX:
		break;
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
	if (define->data) {
		mg_catalog_give(mg_engine_catalog(define->engine), define->data);
	}
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

	code = code || !tx ? code : mg_tx_snapshot(tx, define->run, err);
	return code ? code
	            : mg_replica_begin(mg_engine_replica(define->engine), &define->epoch, err);
}

/* Without the lock: a query may take long. */
static int prepare(struct mg_define *define, struct mg_error *err)
{
	const struct mg_ddl *ddl = &define->ddl;
	bool needed = ddl->kind == MG_DDL_OBJECT && ddl->query.len;

	if (needed && ddl->if_not_exists) {
		const struct mg_catalog_data *data =
			mg_tx_take_catalog(define->settings->tx, define->engine);

		needed = !mg_catalog_find_object(data, ddl->object, define->schema, ddl->name);
		mg_catalog_give(mg_engine_catalog(define->engine), data);
	}
	return needed ? mg_define__read_labels(define, err) : 0;
}

/* Under the lock, where it is needed. */
static int run_locked(struct mg_define *define, struct mg_error *err)
{
	bool done = false;
	int code = mg_define__check_name(define->schema, err);

	code = code ? code : mg_define__check_name(define->ddl.name, err);
	if (!code && define->ddl.verb != MG_DDL_COMMENT) {
		code = check_object(define, &done, err);
	}
	if (code) {
		return code;
	}
	return done ? mg_define__done_nothing(define, err) : carry_out(define, err);
}

/* As it was written when it was made: files and messages have it so. */
static const char *schema_of(const struct mg_define *define, const struct mg_catalog_data *data)
{
	const char *asked = *define->ddl.schema ? define->ddl.schema : "main";
	const char *made = mg_text_eq_nocase(asked, "main") ? "main" : NULL;

	for (size_t i = 0; !made && i < data->schema_count; i++) {
		made = mg_text_eq_nocase(data->schemas[i], asked) ? data->schemas[i] : NULL;
	}
	for (size_t i = 0; !made && i < data->table_count; i++) { /* those of bootstrap */
		made = mg_text_eq_nocase(data->tables[i].schema, asked) ? data->tables[i].schema : NULL;
	}
	return mg_arena_strdup(define->arena, made ? made : asked);
}

static int run(struct mg_define *define, struct mg_error *err)
{
	struct mg_tx *tx = define->settings->tx;
	/* What moves rows may take long: its change of the catalog looks once more. */
	bool moves_rows = define->ddl.query.len || define->ddl.verb == MG_DDL_ALTER;
	bool alone = !tx && !(define->ddl.kind == MG_DDL_TABLE && moves_rows);

	int code = begin(define, err);

	define->data = mg_tx_take_catalog(tx, define->engine);
	define->schema = schema_of(define, define->data);
	code = code ? code : mg_define__look_for_done(define, define->data, err);
	code = code || define->repeated ? code : prepare(define, err);
	if (code || define->repeated) {
		return code;
	}
	if (alone) {
		pthread_mutex_lock(&lock);
	}
	mg_catalog_give(mg_engine_catalog(define->engine), define->data);
	define->data = mg_tx_take_catalog(tx, define->engine);
	code = run_locked(define, err);
	if (alone) {
		pthread_mutex_unlock(&lock);
	}
	return code;
}

int mg_define_run(struct mg_engine *engine, struct mg_run *run_of,
                  const struct mg_run_settings *settings, const struct mg_change_request *request,
                  struct mg_change_result *out, struct mg_error *err)
{
	struct mg_define *define = mg_alloc0(sizeof *define);
	struct mg_outcomes *outcomes = mg_engine_outcomes(engine);
	const char *key = request->once.key;

	*define = (struct mg_define){ .engine = engine,
		                          .run = run_of,
		                          .settings = settings,
		                          .request = request,
		                          .arena = mg_arena_new() };
	define->statement =
		mg_arena_strndup(define->arena, request->statement.ptr, request->statement.len);
	int code = mg_ddl_parse(define->arena, mg_str(define->statement), &define->ddl, err);

	code = code || !key ? code : mg_outcome_enter(outcomes, key, mg_run_is_cancelled, run_of, err);
	if (!code) {
		code = run(define, err);
		if (key) {
			mg_outcome_leave(outcomes, key);
		}
	}
	if (code && define->repeated) { /* seen as it was to be done once more */
		mg_error_clear(err);
		code = 0;
	}
	if (!code) {
		out->done = true;
		mg_copy_text(out->tag, sizeof out->tag, define->ddl.tag);
		out->returned = false;
		out->repeated = define->repeated;
		out->rows = define->table.rows;
	}
	give_back(define);
	return code;
}
