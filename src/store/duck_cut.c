/*
 * duck_cut.c - chunks of a statement as Arrow batches that are never too large to be sent.
 *
 * DuckDB hands on up to 2048 rows at a time however wide they are: of 7,500 columns that is over
 * 100 MB, of documents gigabytes, more than Arrow's 32-bit offsets can hold.  So a chunk is
 * converted in pieces of as many rows as fit into MG_DUCK_BATCH_BYTES.  The number is learnt: a
 * piece that came out too large is converted again in parts, and the statement goes on with their
 * size; pieces that come out small let it grow again.  A statement of ordinary rows pays for the
 * measuring alone.
 *
 * Rule: a batch of more than one row is at most MG_DUCK_BATCH_BYTES large; a single row may be
 * larger, and whoever sends it decides. Values of an ENUM's dictionary do not count: they are the
 * same for one row and for all.
 *
 * owner: the connection's thread.
 */
#include "codec/arrow_ipc.h"
#include "store/duck_int.h"

#include <string.h>

int mg_duck__cutter_open(struct mg_duck_cutter *cutter, struct mg_duck_conn *conn,
                         duckdb_logical_type *types, size_t columns,
                         const struct ArrowSchema *schema, struct mg_error *err)
{
	struct ArrowError why = { { 0 } };
	*cutter = (struct mg_duck_cutter){
		.conn = conn, .types = types, .columns = columns, .step = MG_DUCK_CHUNK_ROWS
	};
	if (ArrowArrayViewInitFromSchema(&cutter->view, schema, &why) != NANOARROW_OK) {
		ArrowArrayViewReset(&cutter->view);
		return mg_error_set(err, MG_E_INTERNAL, "the columns of a result are not readable: %s",
		                    why.message);
	}
	cutter->opened = true;
	return 0;
}

void mg_duck__cutter_close(struct mg_duck_cutter *cutter)
{
	if (cutter->opened) {
		ArrowArrayViewReset(&cutter->view);
		cutter->opened = false;
	}
	if (cutter->all) {
		duckdb_destroy_selection_vector(cutter->all);
		cutter->all = NULL;
	}
}

/* Rows [from, from + rows) of chunk as an array. */
static int convert(struct mg_duck_cutter *cutter, duckdb_data_chunk chunk, idx_t from, idx_t rows,
                   struct ArrowArray *out, struct mg_error *err)
{
	if (from == 0 && rows == duckdb_data_chunk_get_size(chunk)) {
		return mg_duck__to_arrow(cutter->conn, chunk, out, err);
	}
	if (!cutter->all) {
		cutter->all = duckdb_create_selection_vector(MG_DUCK_CHUNK_ROWS);
		sel_t *sel = duckdb_selection_vector_get_data_ptr(cutter->all);
		for (sel_t i = 0; i < MG_DUCK_CHUNK_ROWS; i++) {
			sel[i] = i;
		}
	}
	duckdb_data_chunk piece = duckdb_create_data_chunk(cutter->types, cutter->columns);
	for (size_t c = 0; c < cutter->columns; c++) {
		duckdb_vector_copy_sel(duckdb_data_chunk_get_vector(chunk, c),
		                       duckdb_data_chunk_get_vector(piece, c), cutter->all, from + rows,
		                       from, 0);
	}
	duckdb_data_chunk_set_size(piece, rows);
	int rc = mg_duck__to_arrow(cutter->conn, piece, out, err);
	duckdb_destroy_data_chunk(&piece);
	return rc;
}

int mg_duck__cut(struct mg_duck_cutter *cutter, duckdb_data_chunk chunk, idx_t *from,
                 struct ArrowArray *out, uint64_t *bytes, struct mg_error *err)
{
	idx_t left = duckdb_data_chunk_get_size(chunk) - *from;
	for (;;) {
		idx_t rows = left < cutter->step ? left : cutter->step;
		int rc = convert(cutter, chunk, *from, rows, out, err);
		if (rc != 0 && rows == 1) {
			return rc;
		}
		if (rc != 0) {
			/* Most likely more text than Arrow's offsets can count. */
			mg_error_clear(err);
			cutter->step = rows / 2;
			continue;
		}
		*bytes = ArrowArrayViewSetArray(&cutter->view, out, NULL) == NANOARROW_OK
		             ? mg_arrow_buffer_bytes(&cutter->view)
		             : 0;
		if (*bytes > MG_DUCK_BATCH_BYTES && rows > 1) {
			out->release(out);
			idx_t fit = (idx_t)((uint64_t)rows * MG_DUCK_BATCH_BYTES / *bytes);
			cutter->step = fit < 1 ? 1 : fit < rows ? fit : rows - 1;
			continue;
		}
		if (rows == cutter->step && *bytes < MG_DUCK_BATCH_BYTES / 4) {
			cutter->step = rows * 2 < MG_DUCK_CHUNK_ROWS ? rows * 2 : MG_DUCK_CHUNK_ROWS;
		}
		*from += rows;
		return 0;
	}
}
