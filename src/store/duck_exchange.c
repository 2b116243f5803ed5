/*
 * duck_exchange.c - merganser_exchange(id): the finished rows of a stage as a table.
 *
 * Idea: a stage's rows lie in a sealed spool as IPC batches; every scanning thread takes the next
 * batch, decodes it and hands DuckDB's vectors on by reference.  Nothing waits in here, because a
 * table function cannot yield.  DuckDB's own Arrow scan is not used: it accepts filters and
 * projections that nobody applies.
 *
 *   bind        context of the connection -> spool -> schema -> columns, exact row count
 *   init        which columns are wanted: the conversion is set up for these alone
 *   local init  a decoder for each thread
 *   function    next batch -> chunk of at most 2048 rows
 *
 * Rules: the vectors handed on point into the batch, so batch and source chunk live until the
 * thread's next call; whoever keeps rows longer than that copies them, as DuckDB's operators do.
 * ENUM columns arrive as VARCHAR (their values), since a dictionary is not a type.
 *
 * Thread: bind and init the statement's, the rest DuckDB's.  Limit: 2048 rows a chunk, 64 readers.
 */
#include "store/duck_int.h"

#include "codec/arrow_ipc.h"
#include "store/spool.h"

#include <string.h>

#define READERS_MAX 64

struct bound {
	struct mg_duck_conn *conn;
	struct mg_spool *spool;
	struct ArrowSchema schema; /* all columns */
};

/* Of one scan; shared by its threads. */
struct scan {
	const struct bound *bound;
	size_t *columns; /* wanted columns, as indexes of the schema */
	size_t *outputs; /* and where they go in the output chunk */
	size_t column_count;
	duckdb_arrow_converted_schema converted;
	size_t item_count;
	atomic_size_t next;
};

/* Of one thread.  batch, columns and source stay until the next call: the last output refers to
 * them. */
struct reader {
	struct scan *scan;
	struct mg_arrow_decoder *decoder;
	struct ArrowArray batch;    /* decoded; released when it was given completely */
	int64_t row;                /* first row of batch not yet given */
	struct ArrowArray *columns; /* the wanted ones, as slices: shallow copies of batch's children */
	struct ArrowArray **pointers;
	duckdb_data_chunk source;
};

/* ---- batches ---- */

/* Let go of what the last output refers to. */
static void output_forget(struct reader *reader)
{
	duckdb_destroy_data_chunk(&reader->source);
	if (reader->batch.release && reader->row == reader->batch.length) {
		reader->batch.release(&reader->batch);
	}
}

/* The next batch with rows; *more false when there is none. */
static int batch_take(struct reader *reader, bool *more, struct mg_error *err)
{
	struct scan *scan = reader->scan;
	*more = true;
	while (!reader->batch.release) {
		struct mg_buf *buf = NULL;
		size_t index = atomic_fetch_add(&scan->next, 1);
		if (index >= scan->item_count) {
			*more = false;
			return 0;
		}
		int rc = mg_spool_get(scan->bound->spool, index, &buf, err);
		if (rc == 0) {
			rc = mg_arrow_decode_batch(reader->decoder, buf, &reader->batch, err);
			if (rc == 0) {
				rc = mg_duck__mend(mg_arrow_decoder_schema(reader->decoder), &reader->batch, err);
				if (rc != 0) {
					ArrowArrayRelease(&reader->batch);
				}
			}
		}
		mg_buf_unref(buf);
		if (rc != 0) {
			reader->batch.release = NULL;
			return rc;
		}
		reader->row = 0;
		if (reader->batch.length == 0) {
			reader->batch.release(&reader->batch);
		}
	}
	return 0;
}

/* ---- bind ---- */

static void bound_free(void *arg)
{
	struct bound *bound = arg;
	if (bound->schema.release) {
		bound->schema.release(&bound->schema);
	}
	mg_spool_unref(bound->spool);
	mg_free(bound);
}

static void bind_fail(duckdb_bind_info info, struct mg_duck_conn *conn, const struct mg_error *err)
{
	if (conn) {
		mg_duck__fail(conn, err);
	}
	duckdb_bind_set_error(info, err->message);
}

static int schema_read(struct bound *bound, uint32_t stage, struct mg_error *err)
{
	struct mg_buf *message = mg_spool_schema(bound->spool);
	struct mg_arrow_decoder *decoder = NULL;
	size_t used = 0;
	if (!message) {
		return mg_error_set(err, MG_E_INTERNAL, "exchange %u has no columns", stage);
	}
	int rc = mg_arrow_decoder_new(&decoder, err);
	if (rc == 0) {
		rc = mg_arrow_decode_schema(decoder, message->data, message->size, &used, err);
	}
	if (rc == 0 &&
	    ArrowSchemaDeepCopy(mg_arrow_decoder_schema(decoder), &bound->schema) != NANOARROW_OK) {
		rc = mg_error_set(err, MG_E_NOMEM, "no memory for the columns of exchange %u", stage);
	}
	mg_arrow_decoder_free(decoder);
	return rc;
}

static void bind(duckdb_bind_info info)
{
	struct mg_duck *duck = duckdb_bind_get_extra_info(info);
	duckdb_client_context client = NULL;
	struct mg_error err;
	int rc = 0;
	mg_error_clear(&err);
	duckdb_table_function_get_client_context(info, &client);
	struct mg_duck_conn *conn = mg_duck__find(duck, client);
	struct bound *bound = mg_alloc0(sizeof *bound);
	bound->conn = conn;

	duckdb_value value = duckdb_bind_get_parameter(info, 0);
	int64_t id = duckdb_get_int64(value);
	duckdb_destroy_value(&value);
	const struct mg_duck_context *context = conn ? conn->context : NULL;
	if (!context || !context->find_spool) {
		rc = mg_error_set(&err, MG_E_BIND,
		                  "merganser_exchange only works inside of a distributed statement");
	} else if (id < 0 || id > UINT32_MAX) {
		rc = mg_error_set(&err, MG_E_BIND, "there is no exchange %lld", (long long)id);
	}
	if (rc == 0) {
		struct mg_spool *spool = context->find_spool(context->arg, (uint32_t)id);
		if (!spool) {
			rc = mg_error_set(&err, MG_E_INTERNAL, "exchange %lld is not there", (long long)id);
		} else {
			bound->spool = mg_spool_ref(spool);
			rc = schema_read(bound, (uint32_t)id, &err);
		}
	}
	if (rc == 0) {
		rc = mg_duck__announce(info, conn, &bound->schema, &err);
	}
	if (rc != 0) {
		bind_fail(info, conn, &err);
		bound_free(bound);
		return;
	}
	duckdb_bind_set_cardinality(info, mg_spool_rows(bound->spool), true);
	duckdb_bind_set_bind_data(info, bound, bound_free);
}

/* ---- init ---- */

static void scan_free(void *arg)
{
	struct scan *scan = arg;
	duckdb_destroy_arrow_converted_schema(&scan->converted);
	mg_free(scan->columns);
	mg_free(scan->outputs);
	mg_free(scan);
}

/* DuckDB's view of the wanted columns alone. */
static int scan_convert(struct scan *scan, struct mg_error *err)
{
	struct ArrowSchema wanted;
	ArrowSchemaInit(&wanted);
	int rc = 0;
	bool made = ArrowSchemaSetTypeStruct(&wanted, (int64_t)scan->column_count) == NANOARROW_OK;
	for (size_t i = 0; made && i < scan->column_count; i++) {
		wanted.children[i]->release(wanted.children[i]);
		made = ArrowSchemaDeepCopy(scan->bound->schema.children[scan->columns[i]],
		                           wanted.children[i]) == NANOARROW_OK;
	}
	if (!made) {
		rc = mg_error_set(err, MG_E_NOMEM, "no memory for the columns of an exchange");
	} else {
		rc = mg_duck__error_data(
			err, duckdb_schema_from_arrow(scan->bound->conn->con, &wanted, &scan->converted));
	}
	if (wanted.release) {
		wanted.release(&wanted);
	}
	return rc;
}

static void init(duckdb_init_info info)
{
	const struct bound *bound = duckdb_init_get_bind_data(info);
	struct scan *scan = mg_alloc0(sizeof *scan);
	struct mg_error err;
	mg_error_clear(&err);
	idx_t asked = duckdb_init_get_column_count(info);
	scan->bound = bound;
	scan->columns = mg_alloc0((asked + 1) * sizeof *scan->columns);
	scan->outputs = mg_alloc0((asked + 1) * sizeof *scan->outputs);
	for (idx_t i = 0; i < asked; i++) {
		idx_t index = duckdb_init_get_column_index(info, i);
		/* Others are row numbers that only count(*) asks for; their values are never read. */
		if (index < (idx_t)bound->schema.n_children) {
			scan->columns[scan->column_count] = (size_t)index;
			scan->outputs[scan->column_count++] = (size_t)i;
		}
	}
	if (scan_convert(scan, &err) != 0) {
		mg_duck__fail(bound->conn, &err);
		duckdb_init_set_error(info, err.message);
		scan_free(scan);
		return;
	}
	scan->item_count = mg_spool_count(bound->spool);
	size_t items = scan->item_count;
	duckdb_init_set_max_threads(info, items < 1 ? 1 : items > READERS_MAX ? READERS_MAX : items);
	duckdb_init_set_init_data(info, scan, scan_free);
}

/* ---- one thread ---- */

static void reader_free(void *arg)
{
	struct reader *reader = arg;
	duckdb_destroy_data_chunk(&reader->source);
	if (reader->batch.release) {
		reader->batch.release(&reader->batch);
	}
	mg_free(reader->columns);
	mg_free(reader->pointers);
	mg_arrow_decoder_free(reader->decoder);
	mg_free(reader);
}

static void local_init(duckdb_init_info info)
{
	const struct bound *bound = duckdb_init_get_bind_data(info);
	struct mg_buf *schema = mg_spool_schema(bound->spool);
	struct reader *reader = mg_alloc0(sizeof *reader);
	struct mg_error err;
	size_t used = 0;
	mg_error_clear(&err);
	int rc = mg_arrow_decoder_new(&reader->decoder, &err);
	if (rc == 0) {
		rc = mg_arrow_decode_schema(reader->decoder, schema->data, schema->size, &used, &err);
	}
	if (rc != 0) {
		mg_duck__fail(bound->conn, &err);
		duckdb_init_set_error(info, err.message);
		reader_free(reader);
		return;
	}
	duckdb_init_set_init_data(info, reader, reader_free);
}

/* Rows in output; *more false at the end. */
static int read_chunk(struct reader *reader, duckdb_data_chunk output, bool *more,
                      struct mg_error *err)
{
	struct scan *scan = reader->scan;
	output_forget(reader);
	int rc = batch_take(reader, more, err);
	if (rc != 0 || !*more) {
		return rc;
	}
	int64_t left = reader->batch.length - reader->row;
	int64_t count = left < MG_DUCK_CHUNK_ROWS ? left : MG_DUCK_CHUNK_ROWS;
	if (scan->column_count > 0) {
		struct ArrowArray slice;
		mg_duck__slice(&slice, reader->columns, reader->pointers, &reader->batch, scan->columns,
		               scan->column_count, reader->row, count);
		rc = mg_duck__error_data(err,
		                         duckdb_data_chunk_from_arrow(scan->bound->conn->con, &slice,
		                                                      scan->converted, &reader->source));
		for (size_t i = 0; rc == 0 && i < scan->column_count; i++) {
			duckdb_vector_reference_vector(duckdb_data_chunk_get_vector(output, scan->outputs[i]),
			                               duckdb_data_chunk_get_vector(reader->source, i));
		}
	}
	reader->row += count;
	duckdb_data_chunk_set_size(output, (idx_t)count);
	return rc;
}

static void function(duckdb_function_info info, duckdb_data_chunk output)
{
	struct reader *reader = duckdb_function_get_local_init_data(info);
	struct mg_error err;
	bool more = false;
	mg_error_clear(&err);
	if (!reader->scan) {
		reader->scan = duckdb_function_get_init_data(info);
		reader->columns = mg_alloc0((reader->scan->column_count + 1) * sizeof *reader->columns);
		reader->pointers = mg_alloc0((reader->scan->column_count + 1) * sizeof *reader->pointers);
	}
	if (read_chunk(reader, output, &more, &err) != 0) {
		mg_duck__fail(reader->scan->bound->conn, &err);
		duckdb_function_set_error(info, err.message);
		return;
	}
	if (!more) {
		duckdb_data_chunk_set_size(output, 0);
	}
}

int mg_duck__register_exchange(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	duckdb_table_function table = duckdb_create_table_function();
	duckdb_logical_type id = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
	int rc = 0;
	duckdb_table_function_set_name(table, "merganser_exchange");
	duckdb_table_function_add_parameter(table, id);
	duckdb_table_function_set_extra_info(table, duck, NULL);
	duckdb_table_function_set_bind(table, bind);
	duckdb_table_function_set_init(table, init);
	duckdb_table_function_set_local_init(table, local_init);
	duckdb_table_function_set_function(table, function);
	duckdb_table_function_supports_projection_pushdown(table, true);
	if (duckdb_register_table_function(con, table) != DuckDBSuccess) {
		rc =
			mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"merganser_exchange\"");
	}
	duckdb_destroy_logical_type(&id);
	duckdb_destroy_table_function(&table);
	return rc;
}
