/*
 * shard_late.c - see shard_late.h.
 *
 * The ids stand in the order of their entries.  When there are too many, the older half is
 * forgotten, and `from` says behind which index they are still whole.
 */
#include "replica/shard_late.h"

#include "base/assert.h"
#include "codec/arrow_ipc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct changed {
	uint64_t index;
	int64_t rid;
};

struct mg_shard_late {
	pthread_mutex_t lock;
	struct changed *rows;
	size_t count, cap;
	uint64_t from; /* rows of entries behind it are all here */
	uint64_t last; /* entry that changed anything */
};

struct mg_shard_late *mg_shard_late_new(void)
{
	struct mg_shard_late *late = mg_alloc0(sizeof *late);

	pthread_mutex_init(&late->lock, NULL);
	return late;
}

void mg_shard_late_free(struct mg_shard_late *late)
{
	if (late) {
		pthread_mutex_destroy(&late->lock);
		mg_free(late->rows);
		mg_free(late);
	}
}

/* Under the lock. */
static void forget_half(struct mg_shard_late *late)
{
	size_t gone = late->count / 2;

	/* An entry is kept whole or not at all. */
	while (gone < late->count && late->rows[gone].index == late->rows[gone - 1].index) {
		gone++;
	}
	late->from = late->rows[gone - 1].index;
	late->count -= gone;
	memmove(late->rows, late->rows + gone, late->count * sizeof *late->rows);
}

static void add_rids(struct mg_shard_late *late, uint64_t index, const struct ArrowArray *batch)
{
	const struct ArrowArray *column = batch->children[0];
	const int64_t *rids = (const int64_t *)column->buffers[1] + column->offset + batch->offset;

	for (int64_t i = 0; i < batch->length; i++) {
		if (late->count == MG_SHARD_LATE_MAX) {
			forget_half(late);
		}
		if (late->from == index) { /* the entry alone is more than that */
			return;
		}
		mg_grow(late->rows, late->count, late->cap);
		late->rows[late->count++] = (struct changed){ index, rids[i] };
	}
}

/* The ids stand in the first column (redo.h). */
static int decode(const struct mg_redo_op *op, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_arrow_decoder *decoder = NULL;
	size_t used = 0;
	int code = mg_arrow_decoder_new(&decoder, err);

	code = code ? code
	            : mg_arrow_decode_schema(decoder, op->ipc_schema->data, op->ipc_schema->size, &used,
	                                     err);
	if (!code) {
		const struct ArrowSchema *schema = mg_arrow_decoder_schema(decoder);

		code = schema->n_children > 0 && strcmp(schema->children[0]->format, "l") == 0
		           ? mg_arrow_decode_batch(decoder, op->ipc_batch, batch, err)
		           : mg_error_set(err, MG_E_CORRUPT, "rows to be changed have no ids");
	}
	mg_arrow_decoder_free(decoder);
	return code;
}

int mg_shard_late_note(struct mg_shard_late *late, uint64_t index, const struct mg_redo_op *op,
                       struct mg_error *err)
{
	struct ArrowArray batch = { 0 };
	bool changes = op->kind == MG_REDO_REPLACE || op->kind == MG_REDO_DELETE;
	int code = changes ? decode(op, &batch, err) : 0;

	if (!code) {
		pthread_mutex_lock(&late->lock);
		mg_assert(index >= late->last);
		late->last = index;
		if (changes) {
			add_rids(late, index, &batch);
		}
		pthread_mutex_unlock(&late->lock);
	}
	if (batch.release) {
		ArrowArrayRelease(&batch);
	}
	return code;
}

void mg_shard_late_reset(struct mg_shard_late *late, uint64_t index)
{
	pthread_mutex_lock(&late->lock);
	late->count = 0;
	late->from = late->last = index;
	pthread_mutex_unlock(&late->lock);
}

static int compare(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return left < right ? -1 : left > right;
}

enum mg_late mg_shard_late_since(struct mg_shard_late *late, uint64_t index, const int64_t *rids,
                                 size_t count)
{
	enum mg_late found = MG_LATE_NOTHING;

	pthread_mutex_lock(&late->lock);
	if (late->last > index) {
		found = count && late->from > index ? MG_LATE_UNKNOWN : MG_LATE_OTHERS;
	}
	for (size_t i = late->count; found == MG_LATE_OTHERS && count && i > 0; i--) {
		const struct changed *row = &late->rows[i - 1];

		if (row->index <= index) {
			break;
		}
		if (bsearch(&row->rid, rids, count, sizeof *rids, compare)) {
			found = MG_LATE_SAME;
		}
	}
	pthread_mutex_unlock(&late->lock);
	return found;
}
