/*
 * duck_scatter.c - run a statement and give each row to the participant that owns its slot.
 *
 * Each chunk is split by one pass over its slots into selections, one per target, and copied column
 * by column into the target's pending chunk; a full one leaves as an Arrow batch of 2048 rows.  So
 * a batch is as large between nodes as inside DuckDB, however many targets there are.  Of wide rows
 * fewer make a full chunk (duck_cut.c).
 *
 * Memory: one chunk per target.  owner: the connection's thread.
 */
#include "store/duck_int.h"

#include "codec/slot.h"

#include <string.h>

/* A source chunk so large is passed on as it is when nothing has to be split. */
#define WHOLE_ROWS (MG_DUCK_CHUNK_ROWS / 2)

struct scatter {
	struct mg_duck_conn *conn;
	const struct mg_duck_sink *sink;
	const uint16_t *owner;
	size_t columns; /* given on: without the slot */
	duckdb_logical_type *types;
	uint32_t target_count;
	duckdb_data_chunk *pending;          /* per target; NULL until its first row */
	idx_t *rows;                         /* in pending */
	duckdb_selection_vector *selections; /* per target, of the chunk at hand */
	idx_t *selected;
	struct mg_duck_cutter cutter;
};

static int scatter_open(struct scatter *s, uint32_t targets, struct mg_error *err)
{
	s->target_count = targets;
	s->pending = mg_try_alloc(targets * sizeof *s->pending);
	s->rows = mg_try_alloc(targets * sizeof *s->rows);
	s->selections = mg_try_alloc(targets * sizeof *s->selections);
	s->selected = mg_try_alloc(targets * sizeof *s->selected);
	if (!s->pending || !s->rows || !s->selections || !s->selected) {
		s->target_count = 0;
		return mg_error_set(err, MG_E_NOMEM, "no memory to split rows for %u targets", targets);
	}
	for (uint32_t i = 0; i < targets; i++) {
		s->pending[i] = NULL;
		s->selections[i] = NULL;
		s->rows[i] = s->selected[i] = 0;
	}
	return 0;
}

static void scatter_close(struct scatter *s)
{
	for (uint32_t i = 0; i < s->target_count; i++) {
		duckdb_destroy_data_chunk(&s->pending[i]);
		if (s->selections[i]) {
			duckdb_destroy_selection_vector(s->selections[i]);
		}
	}
	mg_duck__cutter_close(&s->cutter);
	mg_free(s->pending);
	mg_free(s->rows);
	mg_free(s->selections);
	mg_free(s->selected);
}

static int put(struct scatter *s, uint32_t target, duckdb_data_chunk chunk, struct mg_error *err)
{
	int rc = 0;
	for (idx_t from = 0; rc == 0 && from < duckdb_data_chunk_get_size(chunk);) {
		struct ArrowArray batch;
		uint64_t bytes = 0;
		rc = mg_duck__cut(&s->cutter, chunk, &from, &batch, &bytes, err);
		if (rc == 0) {
			rc = s->sink->put(s->sink->arg, target, &batch, err);
			if (batch.release) {
				batch.release(&batch);
			}
		}
	}
	return rc;
}

static int flush(struct scatter *s, uint32_t target, struct mg_error *err)
{
	if (s->rows[target] == 0) {
		return 0;
	}
	duckdb_data_chunk_set_size(s->pending[target], s->rows[target]);
	int rc = put(s, target, s->pending[target], err);
	duckdb_data_chunk_reset(s->pending[target]);
	s->rows[target] = 0;
	return rc;
}

/* Copy the selected rows of chunk to the target's pending chunk; flush it whenever it is full. */
static int add(struct scatter *s, uint32_t target, duckdb_data_chunk chunk,
               duckdb_selection_vector selection, idx_t count, struct mg_error *err)
{
	if (!s->pending[target]) {
		s->pending[target] = duckdb_create_data_chunk(s->types, s->columns);
	}
	for (idx_t from = 0; from < count;) {
		/* What is pending may already be more than fits, since that was learnt in between. */
		idx_t fit = s->cutter.step > s->rows[target] ? s->cutter.step : s->rows[target] + 1;
		idx_t room = fit - s->rows[target];
		idx_t end = count - from < room ? count : from + room;
		for (size_t c = 0; c < s->columns; c++) {
			duckdb_vector_copy_sel(duckdb_data_chunk_get_vector(chunk, c),
			                       duckdb_data_chunk_get_vector(s->pending[target], c), selection,
			                       end, from, s->rows[target]);
		}
		s->rows[target] += end - from;
		from = end;
		if (s->rows[target] >= s->cutter.step) {
			int rc = flush(s, target, err);
			if (rc != 0) {
				return rc;
			}
		}
	}
	return 0;
}

static int split(struct scatter *s, duckdb_data_chunk chunk, struct mg_error *err)
{
	idx_t rows = duckdb_data_chunk_get_size(chunk);
	duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, s->columns);
	const uint16_t *slots = duckdb_vector_get_data(vector);
	uint64_t *validity = duckdb_vector_get_validity(vector);
	memset(s->selected, 0, s->target_count * sizeof *s->selected);
	for (idx_t row = 0; row < rows; row++) {
		if ((validity && !duckdb_validity_row_is_valid(validity, row)) || slots[row] >= MG_SLOTS) {
			return mg_error_set(err, MG_E_INTERNAL, "a row to be sent has no slot");
		}
		uint16_t target = s->owner[slots[row]];
		if (target >= s->target_count) {
			return mg_error_set(err, MG_E_INTERNAL, "slot %u has no owner", slots[row]);
		}
		if (!s->selections[target]) {
			s->selections[target] = duckdb_create_selection_vector(MG_DUCK_CHUNK_ROWS);
		}
		duckdb_selection_vector_get_data_ptr(s->selections[target])[s->selected[target]++] =
			(sel_t)row;
	}
	int rc = 0;
	for (uint32_t target = 0; rc == 0 && target < s->target_count; target++) {
		if (s->selected[target] > 0) {
			rc = add(s, target, chunk, s->selections[target], s->selected[target], err);
		}
	}
	return rc;
}

/* Without owners: large chunks as they are, small ones joined. */
static int pass(struct scatter *s, duckdb_data_chunk chunk, struct mg_error *err)
{
	idx_t rows = duckdb_data_chunk_get_size(chunk);
	if (rows >= WHOLE_ROWS) {
		int rc = flush(s, 0, err);
		return rc == 0 ? put(s, 0, chunk, err) : rc;
	}
	if (!s->selections[0]) {
		s->selections[0] = duckdb_create_selection_vector(MG_DUCK_CHUNK_ROWS);
		sel_t *sel = duckdb_selection_vector_get_data_ptr(s->selections[0]);
		for (sel_t i = 0; i < MG_DUCK_CHUNK_ROWS; i++) {
			sel[i] = i;
		}
	}
	return add(s, 0, chunk, s->selections[0], rows, err);
}

static int announce(struct scatter *s, struct mg_duck_result *res, struct mg_error *err)
{
	struct ArrowSchema schema;
	s->columns = res->count;
	s->types = res->types;
	if (s->owner) {
		if (res->count < 2 ||
		    duckdb_get_type_id(res->types[res->count - 1]) != DUCKDB_TYPE_USMALLINT) {
			return mg_error_set(err, MG_E_INTERNAL,
			                    "the last column of rows to be sent must be their slot");
		}
		s->columns = res->count - 1;
	}
	int rc = mg_duck__schema(s->conn, res->types, res->names, s->columns, &schema, err);
	if (rc == 0) {
		rc = mg_duck__cutter_open(&s->cutter, s->conn, s->types, s->columns, &schema, err);
		if (rc == 0 && s->sink->begin) {
			rc = s->sink->begin(s->sink->arg, &schema, err);
		}
		if (schema.release) {
			schema.release(&schema);
		}
	}
	return rc;
}

int mg_duck_scatter(struct mg_duck_conn *conn, const char *sql, const uint16_t *owner,
                    uint32_t target_count, const struct mg_duck_sink *sink, struct mg_error *err)
{
	struct scatter s = { .conn = conn, .sink = sink, .owner = owner };
	struct mg_duck_result *res = NULL;
	duckdb_data_chunk chunk = NULL;
	int rc = scatter_open(&s, owner ? target_count : 1, err);
	if (rc == 0) {
		rc = mg_duck_query(conn, sql, &res, err);
	}
	if (rc == 0) {
		rc = announce(&s, res, err);
	}
	while (rc == 0) {
		rc = mg_duck__fetch(res, &chunk, err);
		if (rc != 0 || !chunk) {
			break;
		}
		rc = owner ? split(&s, chunk, err) : pass(&s, chunk, err);
		duckdb_destroy_data_chunk(&chunk);
	}
	for (uint32_t i = 0; rc == 0 && i < s.target_count; i++) {
		rc = flush(&s, i, err);
	}
	scatter_close(&s);
	mg_duck_result_free(res);
	return rc;
}
