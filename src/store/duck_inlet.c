/*
 * duck_inlet.c - see duck_inlet.h.
 *
 * Idea: a batch of at most 2048 rows becomes DuckDB's vectors by reference; with _mg_rid and
 * _mg_slot in front they go to the appender, which copies them.  So the batch lives until then.
 *
 * Rule: as in duck_exchange.c, DuckDB gets a borrowed array, because it may let go of an array
 * before it has read all columns.
 */
#include "store/duck_inlet.h"

#include "codec/arrow_ipc.h"
#include "codec/slot.h"
#include "store/duck_int.h"

#include <string.h>

#define HIDDEN_COLUMNS 2

struct mg_duck_inlet {
	struct mg_duck_conn *conn;
	struct mg_arrow_decoder *decoder;
	duckdb_arrow_converted_schema converted;
	duckdb_data_chunk out; /* hidden columns, then the table's; made with the first batch */
	size_t columns;        /* of the table, without hidden ones */
	size_t first;          /* of the batch, that is the table's */
	bool has_slot;
};

void mg_duck_inlet_free(struct mg_duck_inlet *inlet)
{
	if (inlet) {
		duckdb_destroy_data_chunk(&inlet->out);
		duckdb_destroy_arrow_converted_schema(&inlet->converted);
		mg_arrow_decoder_free(inlet->decoder);
		mg_free(inlet);
	}
}

int mg_duck_inlet_new(struct mg_duck_inlet **out, struct mg_duck_conn *conn,
                      const struct mg_buf *schema, enum mg_duck_inlet_shape shape,
                      struct mg_error *err)
{
	struct mg_duck_inlet *inlet = mg_alloc0(sizeof *inlet);
	struct ArrowSchema copy = { 0 };
	size_t used = 0;
	inlet->conn = conn;
	inlet->has_slot = shape != MG_INLET_PLAIN;
	inlet->first = shape == MG_INLET_RID_SLOT ? 1 : 0;
	size_t own = inlet->first + (inlet->has_slot ? 1 : 0);
	*out = NULL;
	int rc = mg_arrow_decoder_new(&inlet->decoder, err);
	if (rc == 0) {
		rc = mg_arrow_decode_schema(inlet->decoder, schema->data, schema->size, &used, err);
	}
	if (rc == 0) {
		const struct ArrowSchema *read = mg_arrow_decoder_schema(inlet->decoder);
		if (read->n_children <= (int64_t)own) {
			rc = mg_error_set(err, MG_E_PROTOCOL, "rows to be stored have no columns");
		} else if (ArrowSchemaDeepCopy(read, &copy) != NANOARROW_OK) {
			rc = mg_error_set(err, MG_E_NOMEM, "no memory for the columns of rows to be stored");
		}
	}
	if (rc == 0) {
		inlet->columns = (size_t)copy.n_children - own;
		rc =
			mg_duck__error_data(err, duckdb_schema_from_arrow(conn->con, &copy, &inlet->converted));
	}
	if (copy.release) {
		copy.release(&copy);
	}
	if (rc != 0) {
		mg_duck_inlet_free(inlet);
		return rc;
	}
	*out = inlet;
	return 0;
}

/* The chunk that goes to the appender, of the types that the first batch turned out to have. */
static void out_make(struct mg_duck_inlet *inlet, duckdb_data_chunk source)
{
	size_t count = inlet->columns + HIDDEN_COLUMNS;
	duckdb_logical_type *types = mg_alloc(count * sizeof *types);
	types[0] = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
	types[1] = duckdb_create_logical_type(DUCKDB_TYPE_USMALLINT);
	for (size_t c = 0; c < inlet->columns; c++) {
		types[c + HIDDEN_COLUMNS] =
			duckdb_vector_get_column_type(duckdb_data_chunk_get_vector(source, inlet->first + c));
	}
	inlet->out = duckdb_create_data_chunk(types, count);
	for (size_t c = 0; c < count; c++) {
		duckdb_destroy_logical_type(&types[c]);
	}
	mg_free(types);
}

/* The values of a column of ours, which has one in each row; else, and of another type, NULL. */
static const void *hidden(duckdb_data_chunk source, size_t column, duckdb_type want, idx_t rows)
{
	duckdb_vector vector = duckdb_data_chunk_get_vector(source, column);
	duckdb_logical_type type = duckdb_vector_get_column_type(vector);
	bool good = duckdb_get_type_id(type) == want;
	uint64_t *validity = duckdb_vector_get_validity(vector);
	duckdb_destroy_logical_type(&type);
	for (idx_t row = 0; good && validity && row < rows; row++) {
		good = duckdb_validity_row_is_valid(validity, row);
	}
	return good ? duckdb_vector_get_data(vector) : NULL;
}

static int find_hidden(const struct mg_duck_inlet *inlet, duckdb_data_chunk source, idx_t rows,
                       const int64_t **rids, const uint16_t **slots, struct mg_error *err)
{
	*rids = inlet->first ? hidden(source, 0, DUCKDB_TYPE_BIGINT, rows) : NULL;
	*slots = inlet->has_slot ? hidden(source, inlet->first + inlet->columns,
	                                  DUCKDB_TYPE_USMALLINT, rows)
	                         : NULL;
	bool good = (*rids || !inlet->first) && (*slots || !inlet->has_slot);
	for (idx_t row = 0; good && *slots && row < rows; row++) {
		good = (*slots)[row] < MG_SLOTS;
	}
	return good ? 0 : mg_error_set(err, MG_E_PROTOCOL, "a row to be stored has no slot or no id");
}

static int append(struct mg_duck_inlet *inlet, struct mg_duck_appender *appender,
                  duckdb_data_chunk source, struct mg_error *err)
{
	idx_t rows = duckdb_data_chunk_get_size(source);
	const int64_t *rids = NULL;
	const uint16_t *slots = NULL;
	int rc = find_hidden(inlet, source, rows, &rids, &slots, err);
	if (rc != 0) {
		return rc;
	}
	if (!inlet->out) {
		out_make(inlet, source);
	}
	duckdb_data_chunk_reset(inlet->out);
	uint16_t *to = duckdb_vector_get_data(duckdb_data_chunk_get_vector(inlet->out, 1));
	if (slots) {
		memcpy(to, slots, rows * sizeof *to);
	} else {
		memset(to, 0, rows * sizeof *to);
	}
	for (size_t c = 0; c < inlet->columns; c++) {
		duckdb_vector_reference_vector(duckdb_data_chunk_get_vector(inlet->out, c + HIDDEN_COLUMNS),
		                               duckdb_data_chunk_get_vector(source, inlet->first + c));
	}
	return mg_duck__appender_put(appender, inlet->out, rids, rows, err);
}

static void borrowed_release(struct ArrowArray *array)
{
	array->release = NULL;
}

int mg_duck_inlet_put(struct mg_duck_inlet *inlet, struct mg_duck_appender *appender,
                      struct mg_buf *batch, struct mg_error *err)
{
	struct ArrowArray array = { 0 };
	duckdb_data_chunk source = NULL;
	int rc = mg_arrow_decode_batch(inlet->decoder, batch, &array, err);
	if (rc != 0) {
		return rc;
	}
	if (array.length > MG_DUCK_CHUNK_ROWS) {
		rc = mg_error_set(err, MG_E_PROTOCOL, "a batch to be stored has more than %d rows",
		                  MG_DUCK_CHUNK_ROWS);
	}
	if (rc == 0) {
		rc = mg_duck__mend(mg_arrow_decoder_schema(inlet->decoder), &array, err);
	}
	if (rc == 0 && array.length > 0) {
		struct ArrowArray borrowed = array;
		borrowed.release = borrowed_release;
		rc = mg_duck__error_data(err, duckdb_data_chunk_from_arrow(inlet->conn->con, &borrowed,
		                                                           inlet->converted, &source));
		if (rc == 0) {
			rc = append(inlet, appender, source, err);
		}
	}
	duckdb_destroy_data_chunk(&source);
	if (array.release) {
		array.release(&array);
	}
	return rc;
}
