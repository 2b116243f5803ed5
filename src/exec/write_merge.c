/*
 * write_merge.c - MERGE.
 *
 *   MERGE INTO t AS a USING s ON c WHEN MATCHED AND x THEN UPDATE SET v = e
 *                                  WHEN NOT MATCHED THEN INSERT VALUES (f)
 *                                  WHEN NOT MATCHED BY SOURCE THEN DELETE
 *       SELECT a.rowid, CASE WHEN (x) THEN 0 END, a.b, (e), NULL FROM s JOIN main.t AS a ON c
 *       UNION ALL
 *       SELECT NULL, 1, NULL, NULL, (f) FROM s ANTI JOIN main.t AS a ON c
 *       UNION ALL
 *       SELECT a.rowid, 2, NULL, NULL, NULL FROM main.t AS a ANTI JOIN s ON c
 *
 * So each WHEN sees the names that DuckDB lets it see, and one statement reads one moment.  A chunk
 * of its rows is then cut by what is to be done: UPDATE and INSERT go the ways that statements of
 * that name go.
 *
 * Rule: a row is updated by one row of the source at most, and not deleted as well (21000).  Where
 * DuckDB 1.5.5 takes any of them, this says so.  A row that is deleted several times is gone once,
 * returned once, and counted each time, as in DuckDB.
 */
#include "exec/write_merge.h"

#include <string.h>

/* ---- rows of one WHEN ---- */

/* "c<i> FROM" of MG_WRITE_MERGED's rows of a WHEN. */
static void add_rows_of(struct mg_sb *sql, size_t when)
{
	mg_sb_addf(sql, " FROM merganser_exchange(%d) WHERE c1 = %zu", MG_WRITE_MERGED, when);
}

static void keep_column(struct mg_write *write, struct mg_sb *sql, size_t column)
{
	mg_sb_add(sql, write->source_columns ? ", " : "SELECT ");
	mg_sb_addf(sql, "c%zu", column);
	write->source_names[write->source_columns] = write->merge->names[column];
	write->source_types[write->source_columns++] = write->merge->types[column];
}

/* MG_WRITE_SOURCE becomes what sql, without its FROM, asks of the WHEN's rows. */
static int fill_source(struct mg_write *write, struct mg_duck_conn *conn, struct mg_sb *sql,
                       size_t when, struct mg_error *err)
{
	add_rows_of(sql, when);
	mg_write__spool_drop(write, MG_WRITE_SOURCE);
	int code = mg_write__spool_query(write, MG_WRITE_SOURCE, conn, mg_sb_text(sql), err);

	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_SOURCE);
	}
	return code;
}

struct ids {
	struct mg_write *write;
	struct mg_write_rids *rids;
};

static int ids_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	const struct ids *ids = arg;

	(void)target;
	return mg_write__rids_add(ids->write, ids->rids, batch, err);
}

static int keep_ids(struct mg_write *write, struct mg_duck_conn *conn, size_t when,
                    struct mg_write_rids *rids, struct mg_error *err)
{
	struct ids ids = { write, rids };
	const struct mg_duck_sink sink = { .put = ids_put, .arg = &ids };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT c0");
	add_rows_of(&sql, when);
	int code = mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &sink, err);

	mg_sb_fini(&sql);
	return code;
}

/* ---- RETURNING ---- */

#define RETURNED "\"merganser returned\""

/* By a MERGE of the rows of spool `id`, from its column `first` on, so that DuckDB says what
 * merge_action is.  once: by their id in column 0, each row once. */
static int return_rows(struct mg_write *write, struct mg_duck_conn *conn, enum mg_dml_then then,
                       size_t id, size_t first, bool once, struct mg_error *err)
{
	const struct mg_table *table = write->table;
	struct mg_sb sql = { 0 };

	mg_sb_addf(&sql, "CREATE OR REPLACE TEMP TABLE " RETURNED " AS SELECT %s",
	           once ? "DISTINCT ON (c0) " : "");
	mg_write__add_stored(&sql, write, first, true);
	mg_sb_addf(&sql, " FROM merganser_exchange(%zu)", id);
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);

	mg_sb_clear(&sql);
	mg_sb_add(&sql, "MERGE INTO ");
	if (then == MG_DML_THEN_INSERT) {
		mg_write__add_target(&sql, write);
		mg_sb_add(&sql, " USING " RETURNED " ON false WHEN NOT MATCHED THEN INSERT *");
	} else {
		mg_sb_add(&sql, RETURNED " AS ");
		mg_sb_add_ident(&sql, write->dml.alias ? write->dml.alias : table->name);
		mg_sb_add(&sql, " USING (SELECT 1) AS \"merganser one\" ON true WHEN MATCHED THEN ");
		mg_sb_add(&sql, then == MG_DML_THEN_DELETE ? "DELETE" : "UPDATE SET ");
	}
	for (size_t i = 0; then == MG_DML_THEN_UPDATE && i < table->column_count; i++) {
		mg_sb_add(&sql, i ? ", " : "");
		mg_sb_add_ident(&sql, table->columns[i].name);
		mg_sb_add(&sql, " = ");
		mg_write__add_own(&sql, write, table->columns[i].name);
	}
	mg_sb_addf(&sql, " RETURNING %.*s", MG_STR_ARG(write->dml.returning));
	code = code ? code : mg_write__return_query(write, conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

/* ---- UPDATE ---- */

/* Whole new rows, with their ids in front. */
static int update_rows(struct mg_write *write, struct mg_duck_conn *conn, size_t index,
                       struct mg_error *err)
{
	const struct mg_dml_when *when = &write->dml.whens[index];
	const struct mg_write_merge *merge = write->merge;
	const struct mg_table *table = write->table;
	struct mg_sb sql = { 0 };

	keep_column(write, &sql, 0);
	for (size_t i = 0; i < table->column_count; i++) {
		size_t value = merge->first[index], column = merge->olds + i;

		for (size_t k = 0; k < when->set_count; k++) {
			if (mg_text_eq_nocase(when->sets[k].column, table->columns[i].name) &&
			    !when->sets[k].is_default) {
				column = value;
			}
			value += !when->sets[k].is_default;
		}
		keep_column(write, &sql, column);
	}
	int code = fill_source(write, conn, &sql, index, err);

	mg_sb_fini(&sql);
	write->dml.sets = when->sets;
	write->dml.set_count = when->set_count;
	code = code ? code : keep_ids(write, conn, index, &write->rids, err);
	code = code ? code : mg_write__replace_rows(write, conn, err);
	if (!code && write->dml.returning.len) {
		code = return_rows(write, conn, MG_DML_THEN_UPDATE, MG_WRITE_TRIED, 0, false, err);
	}
	return code;
}

/* ---- INSERT ---- */

static int insert_rows(struct mg_write *write, struct mg_duck_conn *conn, size_t index,
                       uint64_t count, struct mg_error *err)
{
	const struct mg_dml_when *when = &write->dml.whens[index];
	const char **columns =
		mg_arena_new_array(write->arena, const char *, when->value_count + 1);
	size_t named = 0, value = write->merge->first[index];
	struct mg_sb sql = { 0 };
	int code = 0;

	if (!when->column_count && when->value_count > write->table->column_count) {
		return mg_write_merge__say_count(write, when->value_count, err);
	}
	for (size_t i = 0; i < when->value_count; i++) {
		if (!mg_str_eq_nocase(when->values[i], MG_STR("default"))) {
			columns[named++] =
				when->column_count ? when->columns[i] : write->table->columns[i].name;
			keep_column(write, &sql, value++);
		}
	}
	if (named) {
		code = fill_source(write, conn, &sql, index, err);
	}
	mg_sb_fini(&sql);
	code = code ? code : mg_write__insert_rows(write, conn, columns, named, count, err);
	if (!code && write->dml.returning.len) {
		code = return_rows(write, conn, MG_DML_THEN_INSERT, MG_WRITE_TRIED, 0, false, err);
	}
	return code;
}

/* ---- DELETE, ERROR ---- */

/* RETURNING's rows are kept until it is known which come twice. */
static int delete_rows(struct mg_write *write, struct mg_duck_conn *conn, size_t index,
                       uint64_t count, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = keep_ids(write, conn, index, &write->merge->deleted, err);

	write->merge->deletes += count;
	if (!code && write->dml.returning.len) {
		mg_sb_add(&sql, "SELECT c0");
		for (size_t i = 0; i < write->table->column_count; i++) {
			mg_sb_addf(&sql, ", c%zu", write->merge->olds + i);
		}
		add_rows_of(&sql, index);
		code = mg_write__spool_query(write, MG_WRITE_THERE, conn, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	return code;
}

static int return_deleted(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;

	mg_duck_set_context(conn, &write->context);
	return return_rows(write, conn, MG_DML_THEN_DELETE, MG_WRITE_THERE, 1, true, err);
}

static int say_error(struct mg_write *write, struct mg_duck_conn *conn, size_t index,
                     struct mg_error *err)
{
	static const char *const matches[] = { "WHEN MATCHED", "WHEN NOT MATCHED",
		                                   "WHEN NOT MATCHED BY SOURCE" };
	const struct mg_dml_when *when = &write->dml.whens[index];
	struct mg_sb sql = { 0 };
	char *message = NULL;
	int code = 0;

	if (when->message.len) {
		mg_sb_addf(&sql, "SELECT coalesce(c%zu, 'NULL')", write->merge->first[index]);
		add_rows_of(&sql, index);
		mg_sb_add(&sql, " LIMIT 1");
		code = mg_duck_text(conn, mg_sb_text(&sql), &message, err);
	}
	if (!code) {
		code = mg_error_set(err, MG_E_DATA, "Merge error condition %s%s%.*s%s%s%s",
		                    matches[when->match], when->condition.len ? " AND (" : "",
		                    MG_STR_ARG(when->condition), when->condition.len ? ")" : "",
		                    message ? ": " : "", message ? message : "");
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "23000");
		}
	}
	mg_free(message);
	mg_sb_fini(&sql);
	return code;
}

/* ---- a chunk ---- */

static int take_when(struct mg_write *write, struct mg_duck_conn *conn, size_t index,
                     struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int64_t count = 0;

	mg_sb_add(&sql, "SELECT count(*)");
	add_rows_of(&sql, index);
	int code = mg_duck_int(conn, mg_sb_text(&sql), &count, err);

	mg_sb_fini(&sql);
	if (code || !count) {
		return code;
	}
	write->source_columns = 0;
	switch (write->dml.whens[index].then) {
	case MG_DML_THEN_UPDATE:
		return update_rows(write, conn, index, err);
	case MG_DML_THEN_INSERT:
		return insert_rows(write, conn, index, (uint64_t)count, err);
	case MG_DML_THEN_DELETE:
		return delete_rows(write, conn, index, (uint64_t)count, err);
	case MG_DML_THEN_ERROR:
		return say_error(write, conn, index, err);
	case MG_DML_THEN_NOTHING:
		break;
	}
	return 0;
}

static int take_chunk(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;
	struct mg_write_merge *merge = write->merge;
	int code = 0;

	mg_duck_set_context(conn, &write->context);
	/* MG_WRITE_SOURCE is what UPDATE and INSERT take: of each WHEN its own rows. */
	write->spools[MG_WRITE_MERGED] = write->spools[MG_WRITE_SOURCE];
	write->spools[MG_WRITE_SOURCE] = (struct mg_write_spool){ 0 };
	merge->names = write->source_names;
	merge->types = write->source_types;
	merge->columns = write->source_columns;
	size_t most = merge->columns + write->table->column_count + 2;

	write->source_names = mg_arena_new_array(write->arena, const char *, most);
	write->source_types = mg_arena_new_array(write->arena, const char *, most);
	for (size_t i = 0; !code && i < write->dml.when_count; i++) {
		code = take_when(write, conn, i, err);
	}
	mg_write__spool_drop(write, MG_WRITE_SOURCE);
	write->spools[MG_WRITE_SOURCE] = write->spools[MG_WRITE_MERGED];
	write->spools[MG_WRITE_MERGED] = (struct mg_write_spool){ 0 };
	write->source_names = merge->names;
	write->source_types = merge->types;
	write->source_columns = merge->columns;
	return code;
}

/* ---- the whole ---- */

/* Both are united. */
static bool meet(const struct mg_write_rids *a, const struct mg_write_rids *b)
{
	for (size_t i = 0, k = 0; i < a->count && k < b->count;) {
		if (a->ids[i] == b->ids[k]) {
			return true;
		}
		if (a->ids[i] < b->ids[k]) {
			i++;
		} else {
			k++;
		}
	}
	return false;
}

static int say_twice(const struct mg_write *write, struct mg_error *err)
{
	int code = mg_error_set(err, MG_E_CARDINALITY, "a row of \"%s\" is to be changed twice by one "
	                                               "MERGE",
	                        write->table->name);

	mg_error_hint(err, "Several rows of the source match it; make one match, for example with "
	                   "DISTINCT ON or an aggregate.");
	return code;
}

/* All rows are there. */
static int finish(struct mg_write *write, struct mg_error *err)
{
	struct mg_write_merge *merge = write->merge;
	const struct mg_plan_settings settings = mg_write__plan_settings(write);
	int code = 0;

	bool twice = mg_write__rids_unite(&write->rids);

	(void)mg_write__rids_unite(&merge->deleted);
	write->result->rows = write->rids.count + write->merged_inserts +
	                      (write->dml.returning.len ? merge->deleted.count : merge->deletes);
	if (twice || meet(&write->rids, &merge->deleted)) {
		return say_twice(write, err);
	}
	if (merge->deleted.count) {
		code = mg_write__rids_delete(write, &merge->deleted, err);
	}
	if (!code && write->moved.count) {
		(void)mg_write__rids_unite(&write->moved);
		code = mg_write__rids_delete(write, &write->moved, err);
	}
	if (!code && write->spools[MG_WRITE_THERE].spool) {
		mg_write__spool_seal(write, MG_WRITE_THERE);
		code =
			mg_plandb_try(mg_engine_plandb(write->engine), &settings, return_deleted, write, err);
	}
	return code ? code : mg_write__check_keys(write, err);
}

/* RETURNING has columns also when it has no rows. */
static int return_none(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;
	struct mg_sb sql = { 0 };

	mg_duck_set_context(conn, &write->context);
	mg_sb_add(&sql, "MERGE INTO ");
	mg_write__add_target(&sql, write);
	mg_sb_addf(&sql,
	           " USING (SELECT 1) AS \"merganser one\" ON false WHEN MATCHED THEN DELETE RETURNING "
	           "%.*s",
	           MG_STR_ARG(write->dml.returning));
	int code = mg_write__return_query(write, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

int mg_write__merge(struct mg_write *write, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);

	write->merge = mg_arena_new_array(write->arena, struct mg_write_merge, 1);
	*write->merge = (struct mg_write_merge){ 0 };
	write->merge->first = mg_arena_new_array(write->arena, size_t, write->dml.when_count + 1);
	int code = mg_write_merge__prepare(write, err);

	write->settings.row_ids = true;
	code = code ? code : mg_write__source(write, mg_write_merge__source(write), take_chunk, err);
	code = code ? code : finish(write, err);
	if (!code && write->result->returning && !write->result->columns.release) {
		code = mg_plandb_try(mg_engine_plandb(write->engine), &settings, return_none, write, err);
	}
	mg_free(write->merge->deleted.ids);
	return code;
}
