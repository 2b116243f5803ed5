/*
 * alter.c - ALTER TABLE and ALTER VIEW.
 *
 *     lock the table's shards -> DuckDB says what becomes of the definition -> are the rows fit?
 *        names, defaults, constraints:   catalog
 *        columns, partitions:            table of a new id in the shards -> its rows -> catalog
 *
 * Rule: one version of the catalog is the border.  Before it the old table is all there is, and
 * what was made for the new one is swept away by the next coordinator of writes; behind it the new
 * one is, with its rows, and the old one's are.  Nobody sees anything in between, because the rows
 * of the new table lie under a name that no version named.
 *
 * DuckDB alters a temporary table of the planning database, whatever the action: empty, to say what
 * comes of it, and then filled with each part of the rows in turn.  So casts, defaults, fields of
 * structs and all messages are its own, and what a default evaluates to goes into the log as rows.
 *
 * Writers of the table's shards wait meanwhile; readers do not.
 */
#include "exec/define_int.h"

#include "base/log.h"
#include "exec/gate.h"
#include "exec/run.h"
#include "exec/sequences.h"
#include "exec/sweep.h"
#include "exec/write_int.h"
#include "os/random.h"
#include "replica/replica.h"

#include <string.h>

struct alter {
	struct mg_define *define;
	const struct mg_table *from; /* as it is, under the lock */
	bool changes;                /* what DuckDB makes of it is something else */
	bool other_rows;             /* and not of as many columns of the same types */
};

static const struct mg_ddl *ddl_of(const struct alter *alter)
{
	return &alter->define->ddl;
}

/* ---- what DuckDB makes of it ---- */

/* The table under its name, which messages tell, and out of everybody's way. */
static void add_temp(struct mg_sb *sql, const struct alter *alter)
{
	mg_sb_add(sql, "temp.main.");
	mg_sb_add_ident(sql, alter->from->name);
}

static void add_create(struct mg_sb *sql, const struct alter *alter, bool with_key)
{
	mg_sb_add(sql, "CREATE TEMP TABLE ");
	mg_sb_add_ident(sql, alter->from->name);
	mg_sb_add_char(sql, '(');
	mg_table_add_definition(sql, alter->from, with_key);
	mg_sb_add_char(sql, ')');
}

static void add_action(struct mg_sb *sql, const struct alter *alter)
{
	mg_sb_add(sql, "ALTER TABLE ");
	add_temp(sql, alter);
	mg_sb_addf(sql, " %.*s", MG_STR_ARG(ddl_of(alter)->action));
}

static bool is_key(const struct mg_table *table, const char *column)
{
	bool is = false;

	for (size_t i = 0; i < table->key_count; i++) {
		is = is || mg_text_eq_nocase(table->keys[i], column);
	}
	return is;
}

static bool equal_columns(const struct mg_table *a, const struct mg_table *b)
{
	bool equal = a->column_count == b->column_count;

	for (size_t i = 0; equal && i < a->column_count; i++) {
		equal = mg_text_eq(a->columns[i].name, b->columns[i].name) &&
		        mg_text_eq(a->columns[i].type, b->columns[i].type) &&
		        a->columns[i].not_null == b->columns[i].not_null;
	}
	return equal && a->primary_key_count == b->primary_key_count &&
	       a->unique_count == b->unique_count;
}

static bool equal_types(const struct mg_table *a, const struct mg_table *b)
{
	bool equal = a->column_count == b->column_count;

	for (size_t i = 0; equal && i < a->column_count; i++) {
		equal = mg_text_eq(a->columns[i].type, b->columns[i].type);
	}
	return equal;
}

/* The partition key behind the action: as before, but for a column that is called otherwise. */
static void keep_keys(const struct alter *alter)
{
	struct mg_define *define = alter->define;
	struct mg_ddl *ddl = &define->ddl;

	if (ddl->alter == MG_ALTER_PARTITIONS) {
		return;
	}
	ddl->key_count = alter->from->key_count;
	ddl->keys = mg_arena_new_array(define->arena, const char *, ddl->key_count + 1);
	for (size_t i = 0; i < ddl->key_count; i++) {
		const char *key = alter->from->keys[i];
		bool renamed =
			ddl->alter == MG_ALTER_COLUMN_NAME && mg_text_eq_nocase(key, ddl->column);

		ddl->keys[i] = renamed ? ddl->to : key;
	}
}

/* mg_plandb_try's work: what stands there before, and behind the action. */
static int try_action(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct alter *alter = arg;
	struct mg_define *define = alter->define;
	const struct mg_define_place place = { "temp", "main", alter->from->name };
	const struct mg_ddl after = define->ddl;
	struct mg_table before;
	struct mg_sb sql = { 0 };

	add_create(&sql, alter, true);
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	define->ddl.key_count = 0; /* whether it holds the partition key is asked behind the action */
	code = code ? code : mg_define__read_table(define, conn, &place, err);
	before = define->table;
	define->ddl = after;
	if (!code && after.action.len && after.alter != MG_ALTER_NAME) {
		mg_sb_clear(&sql);
		add_action(&sql, alter);
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	}
	keep_keys(alter);
	code = code ? code : mg_define__read_table(define, conn, &place, err);
	alter->changes = after.alter == MG_ALTER_PARTITIONS || after.using_by.len ||
	                 !equal_columns(&before, &define->table) ||
	                 !mg_text_eq(before.definition, define->table.definition) ||
	                 !mg_text_eq(before.declared, define->table.declared);
	alter->other_rows = !code && !equal_types(&before, &define->table);
	mg_sb_fini(&sql);
	return code;
}

/* ---- what DuckDB does not know: partitions ---- */

/* As slot.h hashes them: equal values of equal classes lie together. */
static const char *hash_class(const char *type)
{
	static const char *const classes[][2] = {
		{ "TINYINT", "number" },   { "SMALLINT", "number" },  { "INTEGER", "number" },
		{ "BIGINT", "number" },    { "HUGEINT", "number" },   { "UTINYINT", "number" },
		{ "USMALLINT", "number" }, { "UINTEGER", "number" },  { "UBIGINT", "number" },
		{ "UHUGEINT", "number" },  { "DECIMAL(", "decimal" }, { "FLOAT", "float" },
		{ "DOUBLE", "float" },     { "VARCHAR", "text" },     { "ENUM(", "text" },
	};

	for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
		const char *name = classes[i][0];
		size_t len = strlen(name);

		if (name[len - 1] == '(' ? strncmp(type, name, len) == 0 : mg_text_eq(type, name)) {
			return classes[i][1];
		}
	}
	return type;
}

static int check_drop(const struct alter *alter, struct mg_error *err)
{
	const struct mg_ddl *ddl = ddl_of(alter);

	if (!ddl->drops_column || !is_key(alter->from, ddl->column)) {
		return 0;
	}
	mg_error_set(err, MG_E_UNSUPPORTED,
	             "cannot drop column \"%s\": table \"%s\" is partitioned by it", ddl->column,
	             alter->from->name);
	mg_error_hint(err, "First ALTER TABLE ... SET PARTITIONED BY (another column), or RESET "
	                   "PARTITIONED BY.");
	return MG_E_UNSUPPORTED;
}

/* Tables that are joined where they lie stay so. */
static int check_class(const struct alter *alter, struct mg_error *err)
{
	const struct mg_ddl *ddl = ddl_of(alter);
	const struct mg_column *before = mg_table_find_column(alter->from, ddl->column);
	const struct mg_column *after = mg_table_find_column(&alter->define->table, ddl->column);

	if (ddl->alter != MG_ALTER_ROWS || !before || !after || !is_key(alter->from, ddl->column) ||
	    mg_text_eq(hash_class(before->type), hash_class(after->type))) {
		return 0;
	}
	mg_error_set(err, MG_E_UNSUPPORTED,
	             "cannot make %s of column \"%s\", which is %s: table \"%s\" is partitioned by it",
	             after->type, ddl->column, before->type, alter->from->name);
	mg_error_hint(err, "First ALTER TABLE ... RESET PARTITIONED BY; afterwards SET PARTITIONED BY "
	                   "(%s).",
	              ddl->column);
	return MG_E_UNSUPPORTED;
}

/* ---- are the rows fit? ---- */

struct question {
	struct mg_duck_conn *conn;
	struct mg_gate_pass pass;
	const char *rows; /* SELECT of the table as it is */
};

static int ask(struct alter *alter, const struct question *question, const char *sql, bool *any,
               struct mg_error *err)
{
	struct mg_run *run = alter->define->run;
	int64_t found = 0;
	int code = mg_run_attach_conn(run, question->conn, err);

	code = code ? code : mg_duck_int(question->conn, sql, &found, err);
	(void)mg_run_attach_conn(run, NULL, NULL);
	*any = found != 0;
	return mg_run_cancelled(run) ? mg_run_cancel_error(run, err) : code;
}

static int check_nulls(struct alter *alter, const struct question *question, const char *column,
                       struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	bool any = false;

	mg_sb_addf(&sql, "SELECT count(*) FROM (SELECT 1 FROM (%s) WHERE ", question->rows);
	mg_sb_add_ident(&sql, column);
	mg_sb_add(&sql, " IS NULL LIMIT 1)");
	int code = ask(alter, question, mg_sb_text(&sql), &any, err);

	mg_sb_fini(&sql);
	if (!code && any) {
		code = mg_error_set(err, MG_E_DATA, "NOT NULL constraint failed: %s.%s",
		                    alter->from->name, column);
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "23502");
		}
	}
	return code;
}

static int check_unique(struct alter *alter, const struct question *question, struct mg_error *err)
{
	const struct mg_table *table = &alter->define->table;
	struct mg_sb sql = { 0 };
	bool any = false;

	mg_sb_addf(&sql, "SELECT count(*) FROM (SELECT 1 FROM (%s) GROUP BY ", question->rows);
	for (size_t i = 0; i < table->primary_key_count; i++) {
		mg_sb_add(&sql, i ? ", " : "");
		mg_sb_add_ident(&sql, table->primary_key[i]);
	}
	mg_sb_add(&sql, " HAVING count(*) > 1 LIMIT 1)");
	int code = ask(alter, question, mg_sb_text(&sql), &any, err);

	mg_sb_fini(&sql);
	if (!code && any) {
		code = mg_error_set(err, MG_E_DATA, "Data contains duplicates on indexed column(s)");
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "23505");
		}
	}
	return code;
}

static void interrupt(void *conn)
{
	mg_duck_interrupt(conn);
}

/* Nobody changes them while the lock is held. */
static int check_rows(struct alter *alter, struct mg_error *err)
{
	struct mg_define *define = alter->define;
	const struct mg_table *table = &define->table;
	struct question question = { 0 };
	struct mg_sb rows = { 0 };
	struct mg_exec_table *seen;
	uint32_t *all = mg_shard_ids(define->arena, 1, define->data->shard_count);

	mg_engine_exec_tables(define->arena, alter->from, 1, all, define->data->shard_count, &seen);
	mg_exec_table_select(&rows, seen);
	question.rows = mg_sb_text(&rows);
	int code =
		mg_duck_connect(mg_engine_duck(define->engine), &question.conn, err);

	code = code ? code
	            : mg_gate_enter(mg_engine_gate(define->engine), &question.pass, interrupt,
	                            question.conn, err);
	for (size_t i = 0; !code && i < table->column_count; i++) {
		const struct mg_column *before = mg_table_find_column(alter->from, table->columns[i].name);

		if (table->columns[i].not_null && before && !before->not_null) {
			code = check_nulls(alter, &question, before->name, err);
		}
	}
	if (!code && table->primary_key_count && !alter->from->primary_key_count) {
		code = check_unique(alter, &question, err);
	}
	mg_gate_mute(mg_engine_gate(define->engine), &question.pass);
	mg_duck_disconnect(question.conn);
	mg_gate_leave(mg_engine_gate(define->engine), &question.pass);
	mg_sb_fini(&rows);
	if (code == MG_E_CANCELLED && !mg_run_cancelled(define->run)) {
		code = mg_error_set(err, MG_E_BUSY, "a shard's file is being replaced");
		mg_error_hint(err, "Nothing was done: try again.");
	}
	return code;
}

/* ---- the catalog ---- */

static struct mg_table *find_unchanged(const struct alter *alter, struct mg_catalog_data *data,
                                       struct mg_error *err)
{
	struct mg_table *table = (struct mg_table *)mg_catalog_find_table(data, alter->from->schema,
	                                                                  alter->from->name);

	if (table && mg_table_is_same(table, alter->from)) {
		return table;
	}
	mg_error_set(err, MG_E_CONFLICT, "table \"%s\" was dropped or made anew meanwhile",
	             alter->from->name);
	mg_error_hint(err, "Nothing was done: try again.");
	return NULL;
}

static int replace_table(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                         struct mg_error *err)
{
	const struct mg_define *define = arg;
	const struct mg_ddl *ddl = &define->ddl;
	const struct alter alter = { .define = arg, .from = &define->old };
	struct mg_table *table = find_unchanged(&alter, data, err);

	if (!table) {
		return MG_E_CONFLICT;
	}
	/* Those of this version: COMMENT ON waits for no ALTER. */
	const struct mg_comments comments =
		mg_comments_altered(arena, &table->comments, &define->table, ddl->column,
	                        ddl->alter == MG_ALTER_COLUMN_NAME ? ddl->to : "");

	*table = define->table;
	table->comments = comments;
	return 0;
}

static bool is_taken(const struct mg_catalog_data *data, const char *schema, const char *name)
{
	return mg_catalog_find_table(data, schema, name) || mg_catalog_find_view(data, schema, name);
}

static int say_taken(const struct mg_define *define, struct mg_error *err)
{
	return mg_error_set(err, MG_E_DUPLICATE,
	                    "Could not rename \"%s\" to \"%s\": another entry with this name already "
	                    "exists!",
	                    define->ddl.name, define->ddl.to);
}

static int rename_table(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                        struct mg_error *err)
{
	struct mg_define *define = arg;

	if (is_taken(data, define->schema, define->ddl.to)) {
		return say_taken(define, err);
	}
	return replace_table(define, arena, data, err);
}

static int rename_view(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                       struct mg_error *err)
{
	const struct mg_define *define = arg;
	const struct mg_view *view = mg_catalog_find_view(data, define->schema, define->ddl.name);

	if (!view) {
		return mg_error_set(err, MG_E_NO_TABLE, "there is no view \"%s\"", define->ddl.name);
	}
	if (is_taken(data, define->schema, define->ddl.to)) {
		return say_taken(define, err);
	}
	data->views[view - data->views].name = mg_arena_strdup(arena, define->ddl.to);
	return 0;
}

/* ---- carrying it out ---- */

/* The same rows under the names that they were stored under. */
static void keep_stored(const struct alter *alter)
{
	struct mg_table *table = &alter->define->table;
	const struct mg_table *from = alter->from;

	table->id = from->id;
	table->whole = from->whole;
	table->rows = from->rows;
	table->stored = from->stored && *from->stored             ? from->stored
	                : mg_text_eq(table->name, from->name) ? ""
	                                                          : from->name;
	for (size_t i = 0; i < table->column_count; i++) {
		const char *stored = mg_column_stored(&from->columns[i]);

		table->columns[i].stored = mg_text_eq(stored, table->columns[i].name) ? "" : stored;
	}
}

/* The query for all rows, and what makes the new ones of them. */
static void add_query(struct mg_sb *sql, const struct alter *alter)
{
	for (size_t i = 0; i < alter->from->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "SELECT ");
		mg_sb_add_ident(sql, alter->from->columns[i].name);
	}
	mg_sb_add(sql, " FROM ");
	mg_sb_add_path(sql, alter->from->schema, alter->from->name);
}

static void add_through(struct mg_sb *sql, const struct alter *alter)
{
	add_create(sql, alter, false);
	mg_sb_add(sql, "; INSERT INTO ");
	add_temp(sql, alter);
	for (size_t i = 0; i < alter->from->column_count; i++) {
		mg_sb_add(sql, i ? ", " : " SELECT ");
		mg_write__add_cast(sql, i, alter->from->columns[i].type);
	}
	mg_sb_addf(sql, " FROM merganser_exchange(%d); ", MG_WRITE_SOURCE);
	add_action(sql, alter);
}

static int move_rows(struct alter *alter, struct mg_error *err)
{
	struct mg_define *define = alter->define;
	struct mg_run_settings settings = *define->settings;
	struct mg_sb query = { 0 }, through = { 0 }, from = { 0 };

	if (strcasestr(mg_arena_strndup(define->arena, ddl_of(alter)->action.ptr,
	                                               ddl_of(alter)->action.len),
	                              "nextval")) {
		mg_error_set(err, MG_E_UNSUPPORTED, "nextval for rows that are there is not supported");
		mg_error_hint(err, "ADD COLUMN without it, UPDATE, then ALTER COLUMN ... SET DEFAULT.");
		return MG_E_UNSUPPORTED;
	}
	settings.distributed = MG_DISTRIBUTED_FALSE;
	settings.consistency = MG_CONSISTENCY_LINEARIZABLE;
	add_query(&query, alter);
	add_through(&through, alter);
	add_temp(&from, alter);
	bool as_they_are = ddl_of(alter)->alter == MG_ALTER_PARTITIONS;
	const struct mg_write_load load = {
		.query = mg_str(mg_sb_text(&query)),
		.table = &define->table,
		.through = as_they_are ? NULL : mg_sb_text(&through),
		.from = mg_sb_text(&from),
		.flush = mg_define__append_rows,
		.arg = define,
	};
	struct mg_sequences *sequences = mg_engine_sequences(define->engine);
	bool draws = mg_sequences_drawn(define->data, "", &define->table); /* by a macro */
	int code = draws ? mg_sequences_begin(sequences, define->epoch, err) : 0;

	code = code ? code
	            : mg_write_load(define->engine, define->run, &settings, &load, &define->table.rows,
	                            err);
	code = code || !draws ? code : mg_sequences_keep(sequences, define->epoch, err);

	mg_sb_fini(&query);
	mg_sb_fini(&through);
	mg_sb_fini(&from);
	return code;
}

/* Files, rows, catalog; then what was there before goes.  What ends in between is swept. */
static int make_anew(struct alter *alter, struct mg_error *err)
{
	struct mg_define *define = alter->define;
	struct mg_redo *redo = mg_redo_new();
	struct mg_error left = { 0 };

	define->table.id = mg_random_u64() >> 12 | 1; /* a number that JSON keeps */
	mg_sweep_spare(define->table.id);
	mg_define_in_shards(define->data, &define->table, redo);
	int code = mg_replica_commit_in(mg_engine_replica(define->engine), define->epoch, redo, err);

	mg_redo_free(redo);
	if (!code) {
		mg_define__tell(MG_DEFINE_MADE);
		code = move_rows(alter, err);
		mg_define__note_whole(define);
		mg_define__tell(MG_DEFINE_FILLED);
		code = code ? code : mg_define__change_catalog(define, replace_table, err);
		if (code && code != MG_E_UNKNOWN_OUTCOME) {
			(void)mg_define__drop_in_shards(define, &define->table, &left);
		}
	}
	if (code == MG_E_UNKNOWN_OUTCOME) { /* before a sweep of this epoch may take it */
		mg_replica_renew(mg_engine_replica(define->engine), define->epoch);
	}
	mg_sweep_spare_no_more(define->table.id);
	mg_define__tell(MG_DEFINE_PUBLISHED);
	if (!code && mg_define__drop_in_shards(define, &define->old, &left)) {
		mg_log(MG_LOG_WARN, "table.left", "table=%s.%s error=\"%s\"", alter->from->schema,
		       alter->from->name, left.message);
	}
	return code;
}

static int alter_locked(struct alter *alter, const uint32_t *shards, size_t count,
                        struct mg_error *err)
{
	struct mg_define *define = alter->define;
	const struct mg_plan_settings settings = mg_define__plan_settings(define, false);
	const struct mg_ddl *ddl = &define->ddl;
	int code = mg_replica_long_barrier(mg_engine_replica(define->engine), shards, count,
	                                   mg_run_is_cancelled, define->run, err);

	define->old = *alter->from;
	define->table = (struct mg_table){ .schema = alter->from->schema,
		                               .name = ddl->alter == MG_ALTER_NAME ? ddl->to
		                                                                   : alter->from->name,
		                               .version = alter->from->version + 1,
		                               .stored = "" };
	code = code ? code : check_drop(alter, err);
	if (!code && ddl->using_by.len) {
		char *text = mg_arena_strndup(define->arena, ddl->using_by.ptr, ddl->using_by.len);

		code = mg_define__check_expression(define, text, err);
	}
	if (!code) {
		struct mg_plandb *plandb = mg_engine_plandb(define->engine);

		code = mg_plandb_try(plandb, &settings, try_action, alter, err);
	}
	code = code ? code : mg_define__check_expressions(define, err);
	code = code ? code : check_class(alter, err);
	if (!code && !alter->changes && ddl->alter != MG_ALTER_NAME) {
		return mg_define__done_nothing(define, err);
	}
	if (code) {
		return code;
	}
	switch (ddl->alter) {
	case MG_ALTER_NAME:
		keep_stored(alter);
		return mg_define__change_catalog(define, rename_table, err);
	case MG_ALTER_DEFINITION:
	case MG_ALTER_COLUMN_NAME:
		if (alter->other_rows) { /* DuckDB knows an action that the parser does not */
			return mg_error_set(err, MG_E_UNSUPPORTED, "this ALTER is not supported");
		}
		keep_stored(alter);
		code = check_rows(alter, err);
		return code ? code : mg_define__change_catalog(define, replace_table, err);
	case MG_ALTER_ROWS:
	case MG_ALTER_PARTITIONS:
		break;
	}
	return make_anew(alter, err);
}

/* The table as it is now. */
static int find_again(struct alter *alter, struct mg_error *err)
{
	struct mg_define *define = alter->define;
	struct mg_catalog *catalog = mg_engine_catalog(define->engine);

	mg_catalog_give(catalog, define->data);
	define->data = mg_catalog_take(catalog);
	alter->from = mg_catalog_find_table(define->data, define->schema, define->ddl.name);
	return alter->from ? 0
	                   : mg_error_set(err, MG_E_NO_TABLE, "there is no table \"%s\"",
	                                  define->ddl.name);
}

/* Until the shards that are locked are those of the table, which nobody else alters then. */
static int lock(struct alter *alter, uint32_t **shards, size_t *count, struct mg_error *err)
{
	struct mg_define *define = alter->define;
	struct mg_replica *replica = mg_engine_replica(define->engine);
	int code = find_again(alter, err);

	while (!code) {
		bool partitioned = alter->from->key_count > 0;

		*shards = mg_table_shard_ids(define->arena, define->data, alter->from, count);
		code = mg_replica_lock(replica, MG_LOCK_ALTER, *shards, *count, mg_run_is_cancelled,
		                       define->run, err);
		if (code) {
			break;
		}
		code = find_again(alter, err);
		if (!code && partitioned == (alter->from->key_count > 0)) {
			break;
		}
		mg_replica_unlock(replica, MG_LOCK_ALTER, *shards, *count);
	}
	return code;
}

static int refuse_in_transaction(const struct mg_define *define, struct mg_error *err)
{
	mg_error_set(err, MG_E_UNSUPPORTED, "%s is not supported in a transaction", define->ddl.tag);
	mg_error_detail(err, "It looks at the rows, or writes them anew, under a lock of the table's "
	                     "shards, which no transaction holds between its statements.");
	mg_error_hint(err, "Run it before BEGIN or behind COMMIT: it is a transaction of its own. "
	                   "CREATE, DROP and ALTER VIEW may stand inside.");
	return MG_E_UNSUPPORTED;
}

int mg_define__alter_table(struct mg_define *define, struct mg_error *err)
{
	struct alter alter = { .define = define };
	uint32_t *shards = NULL;
	size_t count = 0;
	bool renamed = define->ddl.alter == MG_ALTER_NAME;
	int code = define->settings->tx ? refuse_in_transaction(define, err)
	           : renamed            ? mg_define__check_name(define->ddl.to, err)
	                                : 0;

	code = code ? code : lock(&alter, &shards, &count, err);
	if (code) {
		return code;
	}
	code = alter_locked(&alter, shards, count, err);
	if (code == MG_E_UNKNOWN_OUTCOME) { /* nobody writes until it is known which table there is */
		mg_replica_renew(mg_engine_replica(define->engine), define->epoch);
	}
	mg_replica_unlock(mg_engine_replica(define->engine), MG_LOCK_ALTER, shards, count);
	if (!code && define->ddl.alter == MG_ALTER_PARTITIONS) {
		mg_define__say_reference(define);
	}
	define->table.rows = 0; /* of the answer: ALTER counts none */
	return code;
}

int mg_define__alter_view(struct mg_define *define, struct mg_error *err)
{
	struct mg_sb replay = { 0 };
	int code = mg_define__check_name(define->ddl.to, err);

	mg_sb_add(&replay, "ALTER VIEW ");
	mg_sb_add_path(&replay, define->schema, define->ddl.name);
	mg_sb_add(&replay, " RENAME TO ");
	mg_sb_add_ident(&replay, define->ddl.to);
	define->replay = mg_arena_strdup(define->arena, mg_sb_text(&replay));
	mg_sb_fini(&replay);
	return code ? code : mg_define__change_catalog(define, rename_view, err);
}
