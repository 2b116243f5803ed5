/*
 * duck_result.c - one statement run as a stream of chunks, handed on as Arrow batches.
 *
 * The text may hold several statements (DuckDB turns a PIVOT without IN list into two): all but the
 * last run at once, the last one streams.  DuckDB computes ahead only as far as its streaming
 * buffer (about 1 MB) allows, so a slow reader holds the query back.  The first chunk may come
 * before the query has ended, therefore each fetch can fail.
 *
 * owner: the connection's thread.  Limit: one open result for each connection.
 */
#include "store/duck_int.h"

#include <string.h>

static bool stopped(const struct mg_duck_conn *conn)
{
	return conn->stop && atomic_load(conn->stop);
}

/* ---- run ---- */

/* Start the prepared statement and wait for its first rows. */
static int start(struct mg_duck_result *res, struct mg_error *err)
{
	struct mg_duck_conn *conn = res->conn;
	duckdb_pending_result pending = NULL;
	int rc = 0;
	if (duckdb_pending_prepared_streaming(res->prepared, &pending) != DuckDBSuccess) {
		rc = mg_duck__failed(conn, err, duckdb_pending_error(pending));
		goto out;
	}
	if (stopped(conn)) {
		/* From here on DuckDB keeps an interrupt, but one that came before was lost: give it again.
		 * The statement must be executed even so: one that is dropped here runs to its end at the
		 * next cleanup. */
		duckdb_interrupt(conn->con);
	}
	if (duckdb_execute_pending(pending, &res->result) != DuckDBSuccess) {
		const char *message = duckdb_result_error(&res->result);
		rc = mg_duck__failed(conn, err, message ? message : duckdb_pending_error(pending));
		duckdb_destroy_result(&res->result);
		goto out;
	}
	res->opened = true;
out:
	duckdb_destroy_pending(&pending);
	return rc;
}

/* Run all statements but the last and prepare that one. */
static int prepare(struct mg_duck_result *res, const char *sql, struct mg_error *err)
{
	struct mg_duck_conn *conn = res->conn;
	duckdb_extracted_statements statements = NULL;
	int rc = 0;
	idx_t count = duckdb_extract_statements(conn->con, sql, &statements);
	const char *message = count == 0 ? duckdb_extract_statements_error(statements) : NULL;
	if (message) {
		rc = mg_duck__failed(conn, err, message);
	} else if (count == 0) {
		rc = mg_error_set(err, MG_E_SYNTAX, "the statement is empty");
	}
	for (idx_t i = 0; rc == 0 && i < count; i++) {
		duckdb_destroy_prepare(&res->prepared);
		if (duckdb_prepare_extracted_statement(conn->con, statements, i, &res->prepared) !=
		    DuckDBSuccess) {
			rc = mg_duck__failed(conn, err, duckdb_prepare_error(res->prepared));
		} else if (i + 1 < count) {
			rc = start(res, err);
			duckdb_destroy_result(&res->result);
			res->opened = false;
		}
	}
	duckdb_destroy_extracted(&statements);
	return rc;
}

static int columns_read(struct mg_duck_result *res, struct mg_error *err)
{
	res->count = (size_t)duckdb_column_count(&res->result);
	res->types = mg_arena_new_array(res->arena, duckdb_logical_type, res->count + 1);
	res->names = mg_arena_new_array(res->arena, const char *, res->count + 1);
	res->texts = mg_arena_new_array(res->arena, const char *, res->count + 1);
	for (size_t i = 0; i < res->count; i++) {
		struct mg_sb sb = { 0 };
		res->types[i] = duckdb_column_logical_type(&res->result, i);
		res->names[i] = mg_arena_strdup(res->arena, duckdb_column_name(&res->result, i));
		mg_duck__type_text(&sb, res->types[i]);
		res->texts[i] = mg_arena_strdup(res->arena, mg_sb_text(&sb));
		mg_sb_fini(&sb);
	}
	int rc = mg_duck__schema(res->conn, res->types, res->names, res->count, &res->schema, err);
	return rc ? rc
	          : mg_duck__cutter_open(&res->cutter, res->conn, res->types, res->count, &res->schema,
	                                 err);
}

int mg_duck_query(struct mg_duck_conn *conn, const char *sql, struct mg_duck_result **out,
                  struct mg_error *err)
{
	struct mg_duck_result *res = mg_alloc0(sizeof *res);
	res->conn = conn;
	res->arena = mg_arena_new();
	mg_duck__failure_clear(conn);
	int rc = 0;
	if (stopped(conn)) {
		rc = mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
	}
	if (rc == 0) {
		rc = prepare(res, sql, err);
	}
	if (rc == 0) {
		rc = start(res, err);
	}
	if (rc == 0) {
		rc = columns_read(res, err);
	}
	if (rc != 0) {
		mg_duck_result_free(res);
		res = NULL;
	}
	*out = res;
	return rc;
}

static void held_release(struct mg_duck_result *res)
{
	for (size_t i = res->held_at; i < res->held_count; i++) {
		res->held[i].release(&res->held[i]);
	}
	res->held_at = res->held_count = 0;
}

void mg_duck_result_free(struct mg_duck_result *res)
{
	if (!res) {
		return;
	}
	held_release(res);
	duckdb_destroy_data_chunk(&res->chunk);
	mg_duck__cutter_close(&res->cutter);
	if (res->schema.release) {
		res->schema.release(&res->schema);
	}
	for (size_t i = 0; i < res->count; i++) {
		duckdb_destroy_logical_type(&res->types[i]);
	}
	if (res->opened) {
		/* A stream not read to its end stops here: its tasks see that nobody takes their rows. */
		duckdb_destroy_result(&res->result);
	}
	duckdb_destroy_prepare(&res->prepared);
	/* What our functions said about an abandoned stream concerns nobody. */
	mg_duck__failure_clear(res->conn);
	mg_arena_free(res->arena);
	mg_free(res);
}

const struct ArrowSchema *mg_duck_result_schema(const struct mg_duck_result *res)
{
	return &res->schema;
}

size_t mg_duck_result_columns(const struct mg_duck_result *res)
{
	return res->count;
}

const char *mg_duck_result_name(const struct mg_duck_result *res, size_t column)
{
	return res->names[column];
}

const char *mg_duck_result_type(const struct mg_duck_result *res, size_t column)
{
	return res->texts[column];
}

/* ---- rows ---- */

int mg_duck__fetch(struct mg_duck_result *res, duckdb_data_chunk *chunk, struct mg_error *err)
{
	*chunk = NULL;
	while (!res->ended) {
		if (stopped(res->conn)) {
			return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
		}
		duckdb_data_chunk next = duckdb_fetch_chunk(res->result);
		if (!next) {
			res->ended = true;
			const char *message = duckdb_result_error(&res->result);
			return message && *message ? mg_duck__failed(res->conn, err, message) : 0;
		}
		if (duckdb_data_chunk_get_size(next) > 0) {
			*chunk = next;
			return 0;
		}
		duckdb_destroy_data_chunk(&next);
	}
	return 0;
}

int mg_duck__to_arrow(struct mg_duck_conn *conn, duckdb_data_chunk chunk, struct ArrowArray *out,
                      struct mg_error *err)
{
	memset(out, 0, sizeof *out);
	return mg_duck__error_data(err, duckdb_data_chunk_to_arrow(conn->arrow, chunk, out));
}

int mg_duck__schema(struct mg_duck_conn *conn, duckdb_logical_type *types, const char **names,
                    size_t count, struct ArrowSchema *out, struct mg_error *err)
{
	memset(out, 0, sizeof *out);
	return mg_duck__error_data(err, duckdb_to_arrow_schema(conn->arrow, types, names, count, out));
}

/* A chunk as a batch, or as much of it as fits into one; *done at the end. */
static int batch_next(struct mg_duck_result *res, struct ArrowArray *out, uint64_t *bytes,
                      bool *done, struct mg_error *err)
{
	if (!res->chunk) {
		int rc = mg_duck__fetch(res, &res->chunk, err);
		if (rc != 0) {
			return rc;
		}
		res->chunk_at = 0;
	}
	*done = res->chunk == NULL;
	if (*done) {
		return 0;
	}
	int rc = mg_duck__cut(&res->cutter, res->chunk, &res->chunk_at, out, bytes, err);
	if (rc != 0 || res->chunk_at == duckdb_data_chunk_get_size(res->chunk)) {
		duckdb_destroy_data_chunk(&res->chunk);
	}
	return rc;
}

/* Fill held with chunks for one batch of at most rows_max rows, and not many more bytes than a
 * batch has. */
static int hold(struct mg_duck_result *res, size_t rows_max, struct mg_error *err)
{
	size_t rows = 0;
	uint64_t bytes = 0;
	bool ended = false;
	int rc = 0;
	res->held_at = 0;
	res->held_count = 0;
	while (rc == 0 && !ended && res->held_count < MG_DUCK_JOIN_MAX &&
	       (res->held_count == 0 || (!res->apart && bytes < MG_DUCK_BATCH_BYTES &&
	                                 rows + MG_DUCK_CHUNK_ROWS <= rows_max))) {
		struct ArrowArray *next = &res->held[res->held_count];
		uint64_t size = 0;
		rc = batch_next(res, next, &size, &ended, err);
		if (rc == 0 && !ended) {
			rows += (size_t)next->length;
			bytes += size;
			res->held_count++;
		}
	}
	return rc;
}

int mg_duck_result_next(struct mg_duck_result *res, size_t rows_max, struct ArrowArray *out,
                        bool *done, struct mg_error *err)
{
	*done = false;
	if (res->held_at == res->held_count) {
		int rc = hold(res, rows_max, err);
		if (rc != 0) {
			return rc;
		}
		if (res->held_count > 1) {
			rc = mg_duck__concat(&res->schema, res->held, res->held_count, out, err);
			if (rc == 0) {
				held_release(res);
				return 0;
			}
			if (rc != MG_E_UNSUPPORTED) {
				return rc;
			}
			mg_error_clear(err);
			res->apart = true;
		}
	}
	if (res->held_at == res->held_count) {
		*done = true;
		return 0;
	}
	ArrowArrayMove(&res->held[res->held_at++], out);
	return 0;
}
