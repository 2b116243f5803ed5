/*
 * write_insert.c - INSERT.
 *
 * VALUES that read no table run in the planning database as they stand, so that DEFAULT and the
 * cast of each value are DuckDB's own.  Everything else is a source whose rows come in chunks.
 */
#include "exec/run.h"
#include "exec/write_int.h"

#include <string.h>

/* "INSERT INTO table (columns) " */
static void add_head(struct mg_sb *sql, const struct mg_write *write, const char *const *columns,
                     size_t count)
{
	mg_sb_add(sql, "INSERT INTO ");
	mg_write__add_trial(sql, write);
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(sql, i ? ", " : " (");
		mg_sb_add_ident(sql, columns[i]);
	}
	mg_sb_add(sql, count ? ") " : " ");
}

/* The rows in MG_WRITE_TRIED are needed once more. */
static bool is_needed_again(const struct mg_write *write)
{
	return write->dml.returning.len > 0 || write->unique_count > 0;
}

/* What the table would hold lies in MG_WRITE_TRIED. */
static int store(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT ");
	mg_write__add_columns(&sql, write);
	mg_write__add_slots(&sql, write);
	mg_sb_add(&sql, " FROM (SELECT ");
	mg_write__add_stored(&sql, write, 0, true);
	mg_sb_addf(&sql, " FROM merganser_exchange(%d))", MG_WRITE_TRIED);
	int code = mg_write__redo_query(write, MG_REDO_INSERT, conn, mg_sb_text(&sql), err);

	if (!code && write->unique_count) {
		code = mg_write__keep_keys(write, conn, false, err);
	}
	mg_sb_fini(&sql);
	return code;
}

int mg_write__insert_rows(struct mg_write *write, struct mg_duck_conn *conn,
                          const char *const *columns, size_t count, uint64_t rows,
                          struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = mg_write__make_trial(write, conn, err);

	if (!code && write->spools[MG_WRITE_TRIED].spool) {
		code = mg_write__spool_empty(write, MG_WRITE_TRIED, err);
	}
	add_head(&sql, write, columns, count);
	if (count) {
		mg_write__add_chunk(&sql, write, NULL);
	} else {
		mg_sb_add(&sql, "DEFAULT VALUES");
	}
	mg_sb_add(&sql, "\nRETURNING ");
	mg_write__add_columns(&sql, write);
	for (uint64_t i = 0; !code && i < (count ? 1 : rows); i++) {
		code = mg_write__spool_query(write, MG_WRITE_TRIED, conn, mg_sb_text(&sql), err);
	}
	mg_sb_fini(&sql);
	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_TRIED);
		code = store(write, conn, err);
	}
	write->merged_inserts += rows;
	return code;
}

/* sql is an INSERT without RETURNING. */
static int try_rows(struct mg_write *write, struct mg_duck_conn *conn, struct mg_sb *sql,
                    struct mg_error *err)
{
	bool again = is_needed_again(write);
	int code = mg_write__make_trial(write, conn, err);

	mg_duck_set_context(conn, &write->context);
	mg_sb_add(sql, "\nRETURNING ");
	mg_write__add_columns(sql, write);
	if (!again) {
		mg_write__add_slots(sql, write);
		return code ? code
		            : mg_write__redo_query(write, MG_REDO_INSERT, conn, mg_sb_text(sql), err);
	}
	if (!code && write->spools[MG_WRITE_TRIED].spool) {
		code = mg_write__spool_empty(write, MG_WRITE_TRIED, err);
	}
	code = code ? code : mg_write__spool_query(write, MG_WRITE_TRIED, conn, mg_sb_text(sql), err);
	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_TRIED);
		code = store(write, conn, err);
	}
	if (!code && write->dml.returning.len) {
		code = mg_write__returning(write, conn, MG_WRITE_TRIED, 0, err);
	}
	return code;
}

/* The statement's own text. */
static int try_text(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;
	const struct mg_dml *dml = &write->dml;
	struct mg_sb sql = { 0 };

	mg_sb_add_len(&sql, dml->with.ptr, dml->with.len);
	mg_sb_add(&sql, dml->with.len ? "\n" : "");
	add_head(&sql, write, dml->columns, dml->column_count);
	mg_sb_add(&sql, dml->default_values ? "DEFAULT VALUES" : "");
	mg_sb_add_len(&sql, dml->source.ptr, dml->source.len);
	int code = try_rows(write, conn, &sql, err);

	mg_sb_fini(&sql);
	return code;
}

/* A chunk of the source. */
static int try_chunk(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct mg_write *write = arg;
	const struct mg_dml *dml = &write->dml;
	struct mg_sb sql = { 0 };

	if (dml->by_name) {
		add_head(&sql, write, write->source_names, write->source_columns);
	} else {
		add_head(&sql, write, dml->columns, dml->column_count);
	}
	mg_write__add_chunk(&sql, write, NULL);
	int code = try_rows(write, conn, &sql, err);

	mg_sb_fini(&sql);
	return code;
}

/* WITH ... and the source as one statement that reads. */
static const char *source_text(struct mg_write *write)
{
	const struct mg_dml *dml = &write->dml;

	if (!dml->with.len) {
		return mg_arena_strndup(write->arena, dml->source.ptr, dml->source.len);
	}
	return mg_arena_format(write->arena, "%.*s\n%.*s", MG_STR_ARG(dml->with),
	                       MG_STR_ARG(dml->source));
}

static int try_here(struct mg_write *write, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);

	return mg_plandb_try(mg_engine_plandb(write->engine), &settings, try_text, write, err);
}

int mg_write__insert(struct mg_write *write, struct mg_error *err)
{
	const struct mg_dml *dml = &write->dml;
	struct mg_plandb_view view = { 0 };
	bool done = false;

	if (dml->copy_format) {
		int copied = mg_write__copy(write, try_chunk, err);

		mg_run_own_stats(write->run)->step = "copy";
		copied = copied ? copied : mg_write__check_keys(write, err);
		write->result->rows = write->outlets[MG_REDO_INSERT].rows;
		return copied;
	}
	int code = mg_write__plain(write, &done, err);

	if (code || done) {
		mg_run_own_stats(write->run)->step = "literals";
		write->result->rows = write->outlets[MG_REDO_INSERT].rows;
		return code;
	}

	if (dml->default_values && dml->with.len) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "WITH has no use beside DEFAULT VALUES");
	}
	const char *source = source_text(write);

	code = dml->default_values ? 0 : mg_write__look(write, source, &view, err);
	if (code) {
		return code;
	}
	bool here = dml->default_values || (dml->values && !view.tables && !view.catalog);

	if (dml->conflict) {
		code = mg_write__conflict(write, source, here, err);
		return code ? code : mg_write__check_keys(write, err);
	}
	if (here) {
		mg_run_own_stats(write->run)->step = "values";
		code = try_here(write, err);
	} else {
		code = mg_write__check(write, err);
		code = code ? code : mg_write__source(write, source, try_chunk, err);
	}
	code = code ? code : mg_write__check_keys(write, err);
	write->result->rows = write->outlets[MG_REDO_INSERT].rows;
	return code;
}
