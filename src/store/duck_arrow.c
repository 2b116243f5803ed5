/*
 * duck_arrow.c - Arrow as the rows of a table function: its columns, and slices of its batches.
 *
 * Rule: DuckDB only ever gets borrowed arrays.  It lets go of an array as soon as column 0 is
 * converted and needed no memory of it (BOOLEAN), though the other columns still point into it.
 *
 * Thread: any.
 */
#include "store/duck_int.h"

#include <string.h>

/* Nothing: whoever made the slice owns the batch. */
static void borrowed_release(struct ArrowArray *array)
{
	array->release = NULL;
}

/* A row of NULLs: of a list without any row DuckDB does not look at the offsets (duck_mend.c). */
static bool append_nulls(struct ArrowArray *array)
{
	bool done = true;
	for (int64_t i = 0; i < array->n_children && done; i++) {
		done = ArrowArrayAppendNull(array->children[i], 1) == NANOARROW_OK;
	}
	return done && ArrowArrayFinishElement(array) == NANOARROW_OK;
}

/* An array without rows, to learn DuckDB's types: the converted schema does not tell them. */
static int empty_chunk(struct mg_duck_conn *conn, struct ArrowSchema *schema,
                       duckdb_arrow_converted_schema converted, duckdb_data_chunk *out,
                       struct mg_error *err)
{
	struct ArrowArray array;
	memset(&array, 0, sizeof array);
	if (ArrowArrayInitFromSchema(&array, schema, NULL) != NANOARROW_OK ||
	    ArrowArrayStartAppending(&array) != NANOARROW_OK ||
	    (mg_duck__needs_mending(schema) && !append_nulls(&array)) ||
	    ArrowArrayFinishBuilding(&array, NANOARROW_VALIDATION_LEVEL_NONE, NULL) != NANOARROW_OK) {
		if (array.release) {
			array.release(&array);
		}
		return mg_error_set(err, MG_E_PROTOCOL, "the columns of the rows are not readable");
	}
	int rc = mg_duck__mend(schema, &array, err);
	struct ArrowArray borrowed = array;
	borrowed.release = borrowed_release;
	if (rc == 0) {
		rc = mg_duck__error_data(
			err, duckdb_data_chunk_from_arrow(conn->con, &borrowed, converted, out));
	}
	array.release(&array);
	return rc;
}

int mg_duck__announce(duckdb_bind_info info, struct mg_duck_conn *conn, struct ArrowSchema *schema,
                      struct mg_error *err)
{
	duckdb_arrow_converted_schema converted = NULL;
	duckdb_data_chunk chunk = NULL;
	int rc = mg_duck__error_data(err, duckdb_schema_from_arrow(conn->con, schema, &converted));
	if (rc == 0) {
		rc = empty_chunk(conn, schema, converted, &chunk, err);
	}
	for (int64_t i = 0; rc == 0 && i < schema->n_children; i++) {
		duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, (idx_t)i);
		duckdb_logical_type type = duckdb_vector_get_column_type(vector);
		const char *name = schema->children[i]->name;
		duckdb_bind_add_result_column(info, name ? name : "", type);
		duckdb_destroy_logical_type(&type);
	}
	duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_arrow_converted_schema(&converted);
	return rc;
}

/* Each column has the offset itself, because DuckDB reads text wrongly behind an offset of the
 * whole array. */
void mg_duck__slice(struct ArrowArray *out, struct ArrowArray *columns,
                    struct ArrowArray **pointers, const struct ArrowArray *batch,
                    const size_t *wanted, size_t count, int64_t row, int64_t rows)
{
	static const void *no_validity[1];
	for (size_t i = 0; i < count; i++) {
		struct ArrowArray *column = &columns[i];
		*column = *batch->children[wanted[i]];
		if (rows != column->length) {
			column->offset += row;
			column->length = rows;
			column->null_count = column->null_count == 0 ? 0 : -1;
		}
		pointers[i] = column;
	}
	*out = (struct ArrowArray){
		.length = rows,
		.n_buffers = 1,
		.buffers = no_validity,
		.n_children = (int64_t)count,
		.children = pointers,
		.release = borrowed_release,
	};
}
