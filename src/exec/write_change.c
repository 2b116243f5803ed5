/*
 * write_change.c - UPDATE, DELETE and TRUNCATE.
 *
 *   UPDATE t AS a SET c = e FROM u WHERE w
 *       SELECT a.rowid, a.b, (e) FROM main.t AS a, u WHERE (w)
 *   DELETE FROM t AS a USING u WHERE w
 *       SELECT a.rowid FROM main.t AS a, u WHERE (w)
 *
 * The statement that reads finds the rows and what becomes of them, wherever they are; whole rows
 * then go into the redo, under the ids that they have.  A row whose partition key leads to another
 * shard is deleted here and inserted there.
 *
 * A user's own text may not name rowid: what it would mean there is no secret, but no promise.
 */
#include "exec/write_int.h"
#include "store/shard_file.h"

#include <string.h>

/* ---- the texts ---- */

/* "main"."t" AS "a", u WHERE (w) */
static void add_from(struct mg_sb *sql, const struct mg_write *write)
{
	const struct mg_dml *dml = &write->dml;

	mg_sb_add(sql, "\nFROM ");
	mg_write__add_target(sql, write);
	if (dml->from.len) {
		mg_sb_addf(sql, ", %.*s\n", MG_STR_ARG(dml->from));
	}
	if (dml->where.len) {
		mg_sb_addf(sql, "\nWHERE (%.*s\n)", MG_STR_ARG(dml->where));
	}
}

static void add_with(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add_len(sql, write->dml.with.ptr, write->dml.with.len);
	mg_sb_add(sql, write->dml.with.len ? "\n" : "");
}

static const char *taken(struct mg_write *write, struct mg_sb *sql)
{
	const char *text = mg_arena_strdup(write->arena, mg_sb_text(sql));

	mg_sb_fini(sql);
	return text;
}

/* What the text itself asks for: without the columns that we add. */
static int look(struct mg_write *write, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	add_with(&sql, write);
	mg_sb_add(&sql, "SELECT 1");
	for (size_t i = 0; i < write->dml.set_count; i++) {
		if (!write->dml.sets[i].is_default) {
			mg_sb_addf(&sql, ", (%.*s\n)", MG_STR_ARG(write->dml.sets[i].expr));
		}
	}
	add_from(&sql, write);
	const char *text = taken(write, &sql);

	/* The pieces are what they seem to be when they are well formed together here, and as they were
	 * written, in the check. */
	int code = mg_write__look_at_rows(write, text, err);

	return code ? code : mg_write__check(write, err);
}

/* ---- DELETE ---- */

/* Rows that are gone, for RETURNING. */
static int return_chunk(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;

	mg_duck_set_context(conn, &write->context);
	return mg_write__returning(write, conn, MG_WRITE_SOURCE, 1, err);
}

static const char *delete_text(struct mg_write *write)
{
	const struct mg_dml *dml = &write->dml;
	/* A row that USING finds twice is gone once, and returned once. */
	bool once = dml->returning.len && dml->from.len;
	struct mg_sb sql = { 0 };

	add_with(&sql, write);
	mg_sb_add(&sql, "SELECT ");
	mg_write__add_own(&sql, write, NULL);
	for (size_t i = 0; dml->returning.len && i < write->table->column_count; i++) {
		mg_sb_add(&sql, ", ");
		mg_write__add_own(&sql, write, write->table->columns[i].name);
	}
	if (once) {
		mg_sb_add(&sql, " FROM ");
		mg_write__add_target(&sql, write);
		mg_sb_add(&sql, " WHERE ");
		mg_write__add_own(&sql, write, NULL);
		mg_sb_add(&sql, " IN (SELECT ");
		mg_write__add_own(&sql, write, NULL);
	}
	add_from(&sql, write);
	mg_sb_add(&sql, once ? ")" : "");
	return taken(write, &sql);
}

int mg_write__delete(struct mg_write *write, struct mg_error *err)
{
	bool done = false;
	int code = mg_write__point(write, &done, err);

	if (code || done) {
		return code;
	}
	code = look(write, err);
	write->has_rids = write->settings.row_ids = true;
	code = code ? code
	            : mg_write__source(write, delete_text(write),
	                               write->dml.returning.len ? return_chunk : NULL, err);
	if (!code) {
		(void)mg_write__rids_unite(&write->rids);
		write->result->rows = write->rids.count;
		code = mg_write__rids_delete(write, &write->rids, err);
	}
	return code;
}

/* ---- UPDATE ---- */

const struct mg_dml_set *mg_write__find_set(const struct mg_write *write, const char *column)
{
	for (size_t i = 0; i < write->dml.set_count; i++) {
		if (mg_text_eq_nocase(write->dml.sets[i].column, column)) {
			return &write->dml.sets[i];
		}
	}
	return NULL;
}

static bool sets_any(const struct mg_write *write, const char *const *columns, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (mg_write__find_set(write, columns[i])) {
			return true;
		}
	}
	return false;
}

/* An INSERT, which fills in defaults, needs a column that it gets. */
static bool sets_all_to_default(const struct mg_write *write)
{
	for (size_t i = 0; i < write->table->column_count; i++) {
		const struct mg_dml_set *set = mg_write__find_set(write, write->table->columns[i].name);

		if (!set || !set->is_default) {
			return false;
		}
	}
	return true;
}

static const char *update_text(struct mg_write *write)
{
	struct mg_sb sql = { 0 };

	add_with(&sql, write);
	mg_sb_add(&sql, "SELECT ");
	mg_write__add_own(&sql, write, NULL);
	for (size_t i = 0; i < write->table->column_count; i++) {
		const char *name = write->table->columns[i].name;
		const struct mg_dml_set *set = mg_write__find_set(write, name);

		mg_sb_add(&sql, ", ");
		if (set) {
			/* DEFAULT is filled in when the row is tried. */
			struct mg_str expr = set->is_default ? MG_STR("NULL") : set->expr;

			mg_sb_addf(&sql, "(%.*s\n)", MG_STR_ARG(expr));
		} else {
			/* Another name, so that the expressions keep theirs, which errors tell. */
			mg_write__add_own(&sql, write, name);
			mg_sb_addf(&sql, " AS \"merganser %zu\"", i);
		}
	}
	add_from(&sql, write);
	return taken(write, &sql);
}

/* The chunk's new rows, as the table would hold them, into MG_WRITE_TRIED. */
static int try_rows(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	bool *skip = mg_arena_new_array(write->arena, bool, write->table->column_count + 1);
	struct mg_sb sql = { 0 };
	bool first = true;

	skip[0] = true;
	mg_sb_add(&sql, "INSERT INTO ");
	mg_write__add_trial(&sql, write);
	for (size_t i = 0; i < write->table->column_count; i++) {
		const char *name = write->table->columns[i].name;
		const struct mg_dml_set *set = mg_write__find_set(write, name);

		skip[i + 1] = set && set->is_default;
		if (!skip[i + 1]) {
			mg_sb_add(&sql, first ? " (" : ", ");
			mg_sb_add_ident(&sql, name);
			first = false;
		}
	}
	mg_sb_add(&sql, ") ");
	mg_write__add_chunk(&sql, write, skip);
	mg_sb_add(&sql, " RETURNING ");
	mg_write__add_columns(&sql, write);
	int code = mg_write__make_trial(write, conn, err);

	if (!code && write->spools[MG_WRITE_TRIED].spool) {
		code = mg_write__spool_empty(write, MG_WRITE_TRIED, err);
	}
	code = code ? code : mg_write__spool_query(write, MG_WRITE_TRIED, conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	if (!code && write->spools[MG_WRITE_TRIED].rows != write->spools[MG_WRITE_SOURCE].rows) {
		code = mg_error_set(err, MG_E_INTERNAL, "%llu rows were tried, and %llu came back",
		                    (unsigned long long)write->spools[MG_WRITE_SOURCE].rows,
		                    (unsigned long long)write->spools[MG_WRITE_TRIED].rows);
	}
	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_TRIED);
	}
	return code;
}

/* The ids beside the new rows: both come in the order of the source, by one thread. */
static void add_pairs(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_addf(sql,
	           " FROM (SELECT c0 AS \"merganser rid\" FROM merganser_exchange(%d)) POSITIONAL JOIN "
	           "(SELECT ",
	           MG_WRITE_SOURCE);
	mg_write__add_stored(sql, write, 0, true);
	mg_sb_addf(sql, " FROM merganser_exchange(%d))", MG_WRITE_TRIED);
}

/* The shard that the new slot leads to. */
static void add_shard(struct mg_sb *sql, const struct mg_write *write)
{
	mg_sb_add(sql, "CASE");
	for (uint32_t i = 1; i <= write->data->shard_count; i++) {
		mg_sb_add(sql, " WHEN ");
		mg_write__add_slot(sql, write);
		mg_sb_addf(sql, " <= %u THEN %u", write->data->shards[i].slot_last,
		           write->data->shards[i].id);
	}
	mg_sb_add(sql, " END");
}

static void add_moves(struct mg_sb *sql, const struct mg_write *write, const char *compare)
{
	mg_sb_addf(sql, " WHERE \"merganser rid\" >> %d %s ", MG_SHARD_RID_BITS, compare);
	add_shard(sql, write);
}

static int replace(struct mg_write *write, struct mg_duck_conn *conn, bool moves,
                   struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT \"merganser rid\" AS rid, ");
	mg_write__add_columns(&sql, write);
	mg_write__add_slots(&sql, write);
	add_pairs(&sql, write);
	if (moves) {
		add_moves(&sql, write, "=");
	}
	int code = mg_write__redo_query(write, MG_REDO_REPLACE, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

static int moved_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	(void)arg, (void)schema, (void)err;
	return 0;
}

static int moved_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_write *write = arg;

	(void)target;
	return mg_write__rids_add(write, &write->moved, batch, err);
}

static int move(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_duck_sink sink = { .begin = moved_begin, .put = moved_put, .arg = write };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT \"merganser rid\"");
	add_pairs(&sql, write);
	add_moves(&sql, write, "<>");
	int code = mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &sink, err);

	mg_sb_clear(&sql);
	mg_sb_add(&sql, "SELECT ");
	mg_write__add_columns(&sql, write);
	mg_write__add_slots(&sql, write);
	add_pairs(&sql, write);
	add_moves(&sql, write, "<>");
	code = code ? code : mg_write__redo_query(write, MG_REDO_INSERT, conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

int mg_write__replace_rows(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_table *table = write->table;
	bool moves = sets_any(write, table->keys, table->key_count);
	int code = try_rows(write, conn, err);

	code = code ? code : replace(write, conn, moves, err);
	if (!code && moves) {
		code = move(write, conn, err);
	}
	if (!code && sets_any(write, write->uniques, write->unique_count)) {
		code = mg_write__keep_keys(write, conn, true, err);
	}
	return code;
}

static int update_chunk(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;

	mg_duck_set_context(conn, &write->context);
	int code = mg_write__replace_rows(write, conn, err);

	if (!code && write->dml.returning.len) {
		code = mg_write__returning(write, conn, MG_WRITE_TRIED, 0, err);
	}
	return code;
}

int mg_write__update(struct mg_write *write, struct mg_error *err)
{
	bool done = false;
	int code = mg_write__point(write, &done, err);

	if (code || done) {
		return code;
	}
	code = look(write, err);
	write->has_rids = write->settings.row_ids = true;
	if (!code && sets_all_to_default(write)) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "UPDATE cannot set every column to DEFAULT");
		mg_error_hint(err, "Write the value of one of them.");
	}
	code = code ? code : mg_write__source(write, update_text(write), update_chunk, err);
	write->result->rows = write->rids.count;
	if (!code && mg_write__rids_unite(&write->rids)) {
		code = mg_error_set(err, MG_E_CARDINALITY,
		                    "a row of \"%s\" is to be updated twice by one statement",
		                    write->table->name);
		mg_error_hint(err, "FROM finds it with several rows; make it find one, for example with "
		                   "DISTINCT ON or an aggregate.");
	}
	if (!code && write->moved.count) {
		(void)mg_write__rids_unite(&write->moved);
		code = mg_write__rids_delete(write, &write->moved, err);
	}
	return code ? code : mg_write__check_keys(write, err);
}
