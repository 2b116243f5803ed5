/*
 * write_plain.c - INSERT ... VALUES of literals alone, without DuckDB (plain_row.h).
 *
 * A row of constants needs nobody to bind it, and single rows are what many clients write at once:
 * this costs some microseconds where the planning database takes a millisecond.
 *
 * Two passes: the first one writes nothing, because a later row may not be plain.
 */
#include "exec/plain_row.h"
#include "exec/write_int.h"

/* Rows of one shard that wait. */
struct plain_batch {
	struct ArrowArray array;
	int64_t rows;
};

struct plain {
	struct mg_write *write;
	struct mg_plain_table table;
	struct mg_plain_value *values; /* of a row */
	struct ArrowSchema schema;
	struct plain_batch *batches; /* [shard_count + 1]; NULL in the first pass */
	struct mg_sb text;
};

/* ---- rows into batches ---- */

static int flush(struct plain *plain, uint32_t shard, struct mg_error *err)
{
	struct plain_batch *batch = &plain->batches[shard];
	int code =
		ArrowArrayFinishBuildingDefault(&batch->array, NULL) == NANOARROW_OK
			? 0
			: mg_error_set(err, MG_E_NOMEM, "no memory for %lld rows", (long long)batch->rows);

	code = code ? code
	            : mg_write__redo_put(plain->write, MG_REDO_INSERT, shard, &batch->array, err);
	ArrowArrayRelease(&batch->array);
	batch->rows = 0;
	return code;
}

static int append_row(struct plain *plain, struct mg_error *err)
{
	uint16_t slot = mg_plain_row_slot(&plain->table, plain->values, &plain->text);
	uint32_t shard = plain->write->owner[slot];
	struct plain_batch *batch = &plain->batches[shard];
	bool good = batch->rows > 0 || mg_plain_batch_begin(&plain->schema, &batch->array);

	good = good &&
	       mg_plain_row_append(&plain->table, plain->values, slot, &batch->array, &plain->text);
	batch->rows++;
	if (!good) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for %lld rows", (long long)batch->rows);
	}
	return batch->rows == MG_REDO_ROWS_MAX ? flush(plain, shard, err) : 0;
}

/* ---- passes ---- */

/* One row of the text into values, as the columns have them. */
static bool take_row(struct plain *plain, struct mg_plain_reader *reader)
{
	if (!mg_plain_take_sign(reader, '(')) {
		return false;
	}
	for (size_t i = 0; i < plain->table.value_count; i++) {
		if ((i && !mg_plain_take_sign(reader, ',')) ||
		    !mg_plain_take_value(reader, &plain->values[i])) {
			return false;
		}
	}
	return mg_plain_row_fits(&plain->table, plain->values) && mg_plain_take_sign(reader, ')');
}

/* All rows; *good false: not plain. */
static int pass(struct plain *plain, bool *good, struct mg_error *err)
{
	struct mg_plain_reader reader;
	int code = 0;

	mg_plain_reader_init(&reader, plain->write->dml.source);
	*good = mg_plain_take_word(&reader, "values");
	do {
		*good = *good && take_row(plain, &reader);
		if (*good && plain->batches) {
			code = append_row(plain, err);
		}
	} while (!code && *good && mg_plain_take_sign(&reader, ','));
	*good = *good && reader.token.kind == MG_T_END;
	return code;
}

static int store(struct plain *plain, struct mg_error *err)
{
	struct mg_write *write = plain->write;
	uint32_t shards = write->data->shard_count + 1;
	bool good = false;
	int code = mg_plain_schema(&plain->table, write->table, &plain->schema, err);

	code = code ? code : mg_write__redo_begin(write, MG_REDO_INSERT, &plain->schema, err);
	plain->batches = mg_arena_new_array(write->arena, struct plain_batch, shards);
	code = code ? code : pass(plain, &good, err);
	for (uint32_t i = 0; i < shards; i++) {
		if (!code && plain->batches[i].rows) {
			code = flush(plain, i, err);
		}
		if (plain->batches[i].array.release) {
			ArrowArrayRelease(&plain->batches[i].array);
		}
	}
	if (plain->schema.release) {
		ArrowSchemaRelease(&plain->schema);
	}
	return code;
}

int mg_write__plain(struct mg_write *write, bool *done, struct mg_error *err)
{
	struct plain plain = { .write = write };
	int code = 0;

	*done = false;
	if (!mg_plain_table_open(&plain.table, write->arena, write->table, &write->dml)) {
		return 0;
	}
	plain.values =
		mg_arena_new_array(write->arena, struct mg_plain_value, plain.table.value_count + 1);
	code = pass(&plain, done, err);
	if (!code && *done) {
		code = store(&plain, err);
	}
	mg_sb_fini(&plain.text);
	return code;
}
