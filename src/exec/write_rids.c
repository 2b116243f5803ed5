/*
 * write_rids.c - the ids of the rows that a statement changes or takes away.
 *
 * Limit: as many as the redo of all shards could hold, 8 bytes each.
 */
#include "exec/write_int.h"
#include "store/shard_file.h"

#include "base/assert.h"

#include <stdlib.h>

int mg_write__rids_add(struct mg_write *write, struct mg_write_rids *rids,
                       const struct ArrowArray *batch, struct mg_error *err)
{
	const struct ArrowArray *column = batch->children[0];
	const int64_t *values = (const int64_t *)column->buffers[1] + column->offset + batch->offset;
	size_t count = (size_t)batch->length;
	size_t max = (size_t)(write->data->shard_count + 1) * (MG_REDO_BYTES_MAX / sizeof *values);

	if (count > max - rids->count) {
		mg_error_set(err, MG_E_LIMIT, "one statement changes more than %zu rows", max);
		mg_error_hint(err, "Change the rows in several statements.");
		return MG_E_LIMIT;
	}
	for (size_t i = 0; i < count; i++) {
		mg_grow(rids->ids, rids->count, rids->cap);
		rids->ids[rids->count++] = values[i];
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return left < right ? -1 : left > right;
}

bool mg_write__rids_unite(struct mg_write_rids *rids)
{
	size_t kept = 0;

	if (rids->count) {
		qsort(rids->ids, rids->count, sizeof *rids->ids, compare);
	}
	for (size_t i = 0; i < rids->count; i++) {
		if (!i || rids->ids[i] != rids->ids[i - 1]) {
			rids->ids[kept++] = rids->ids[i];
		}
	}
	bool twice = kept < rids->count;

	rids->count = kept;
	return twice;
}

static uint32_t shard_of(int64_t rid)
{
	return (uint32_t)(rid >> MG_SHARD_RID_BITS);
}

/* One batch of ids as an array of columns "rid" and "slot", which says nothing. */
static int make_batch(const struct ArrowSchema *schema, const int64_t *ids, size_t count,
                      struct ArrowArray *out, struct mg_error *err)
{
	bool made = ArrowArrayInitFromSchema(out, schema, NULL) == NANOARROW_OK &&
	            ArrowArrayStartAppending(out) == NANOARROW_OK;

	for (size_t i = 0; made && i < count; i++) {
		made = ArrowArrayAppendInt(out->children[0], ids[i]) == NANOARROW_OK &&
		       ArrowArrayAppendInt(out->children[1], 0) == NANOARROW_OK &&
		       ArrowArrayFinishElement(out) == NANOARROW_OK;
	}
	made = made && ArrowArrayFinishBuildingDefault(out, NULL) == NANOARROW_OK;
	return made ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for the ids of %zu rows", count);
}

static int make_schema(struct ArrowSchema *schema, struct mg_error *err)
{
	ArrowSchemaInit(schema);
	bool made = ArrowSchemaSetTypeStruct(schema, 2) == NANOARROW_OK &&
	            ArrowSchemaSetType(schema->children[0], NANOARROW_TYPE_INT64) == NANOARROW_OK &&
	            ArrowSchemaSetName(schema->children[0], "rid") == NANOARROW_OK &&
	            ArrowSchemaSetType(schema->children[1], NANOARROW_TYPE_UINT16) == NANOARROW_OK &&
	            ArrowSchemaSetName(schema->children[1], "slot") == NANOARROW_OK;

	return made ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for the ids of rows");
}

int mg_write__rids_delete(struct mg_write *write, const struct mg_write_rids *rids,
                          struct mg_error *err)
{
	struct ArrowSchema schema;
	int code = make_schema(&schema, err);

	code = code ? code : mg_write__redo_begin(write, MG_REDO_DELETE, &schema, err);
	for (size_t from = 0; !code && from < rids->count;) {
		uint32_t shard = shard_of(rids->ids[from]);
		struct ArrowArray batch = { 0 };
		size_t count = 1;

		mg_assert(shard <= write->data->shard_count);
		while (count < MG_REDO_ROWS_MAX && from + count < rids->count &&
		       shard_of(rids->ids[from + count]) == shard) {
			count++;
		}
		code = make_batch(&schema, rids->ids + from, count, &batch, err);
		code = code ? code : mg_write__redo_put(write, MG_REDO_DELETE, shard, &batch, err);
		if (batch.release) {
			ArrowArrayRelease(&batch);
		}
		from += count;
	}
	if (schema.release) {
		ArrowSchemaRelease(&schema);
	}
	return code;
}
