/*
 * feed_rows.c - a record of a shard's changes as events, a row each.
 */
#include "exec/feed_int.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- batches ---- */

void mg_feed__shape_fini(struct mg_feed_shape *shape)
{
	mg_arrow_view_free(shape->view);
	mg_arrow_decoder_free(shape->decoder);
	mg_buf_unref(shape->schema);
	*shape = (struct mg_feed_shape){ 0 };
}

int mg_feed__shape_of(struct mg_feed_shape *shape, struct mg_buf *schema, struct mg_error *err)
{
	size_t used = 0;

	if (!schema) {
		return mg_error_set(err, MG_E_CORRUPT, "changes have no columns");
	}
	if (shape->schema == schema) {
		return 0;
	}
	mg_feed__shape_fini(shape);
	int code = mg_arrow_decoder_new(&shape->decoder, err);

	code = code ? code
	            : mg_arrow_decode_schema(shape->decoder, schema->data, schema->size, &used, err);
	if (!code && mg_arrow_view_new(&shape->view, mg_arrow_decoder_schema(shape->decoder))) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "a column's type cannot be written as text");
	}
	if (!code) {
		shape->schema = mg_buf_ref(schema);
	}
	return code;
}

int mg_feed__batch_of(struct mg_feed_shape *shape, const void *data, size_t size,
                      struct ArrowArray *array, struct mg_error *err)
{
	struct mg_buf *copy = mg_buf_copy(data, size);
	int code = copy ? mg_arrow_decode_batch(shape->decoder, copy, array, err)
	                : mg_error_set(err, MG_E_NOMEM, "no memory for %zu bytes of changes", size);

	mg_buf_unref(copy);
	if (!code && mg_arrow_view_set(shape->view, array)) {
		code = mg_error_set(err, MG_E_CORRUPT, "changes do not have their columns");
	}
	return code;
}

const int64_t *mg_feed__rids(const struct ArrowArray *array)
{
	const struct ArrowArray *column = array->children[0];

	return (const int64_t *)column->buffers[1] + column->offset + array->offset;
}

/* The first column holds ids. */
static int check_rids(const struct mg_feed_shape *shape, const struct ArrowArray *array,
                      struct mg_error *err)
{
	const struct ArrowSchema *schema = mg_arrow_decoder_schema(shape->decoder);
	bool good = schema->n_children > 0 && strcmp(schema->children[0]->format, "l") == 0 &&
	            array->n_children > 0;

	return good ? 0 : mg_error_set(err, MG_E_CORRUPT, "changes have no row ids");
}

void mg_feed__add_row(const struct mg_feed *feed, const struct mg_feed_shape *shape, int64_t row,
                      size_t first, size_t last, struct mg_sb *out)
{
	size_t end = mg_arrow_view_columns(shape->view) - last;
	bool known = end - first == feed->column_count;

	for (size_t i = first; i < end; i++) {
		const char *name = known ? feed->columns[i - first] : mg_arrow_view_name(shape->view, i);

		mg_sb_add(out, i > first ? ", " : "{");
		mg_sb_add_json(out, name, strlen(name));
		mg_sb_add(out, ": ");
		mg_arrow_view_json(shape->view, i, row, out);
	}
	mg_sb_add_char(out, '}');
}

/* ---- rows as they were ---- */

static void hide_old(struct mg_feed *feed)
{
	if (feed->old_array.release) {
		ArrowArrayRelease(&feed->old_array);
	}
	feed->old_spool = NULL;
}

void mg_feed__forget_old(struct mg_feed *feed, struct mg_feed_shard *shard)
{
	if (feed->old_spool == shard->old_rows) {
		hide_old(feed);
	}
	mg_spool_unref(shard->old_rows);
	shard->old_rows = NULL;
	shard->old_count = 0;
}

static int compare_old(const void *a, const void *b)
{
	int64_t left = ((const struct mg_feed_old *)a)->rid;
	int64_t right = ((const struct mg_feed_old *)b)->rid;

	return left < right ? -1 : left > right;
}

/* The batch in old_shape's view: rows that go together mostly lie together. */
static int show_old(struct mg_feed *feed, const struct mg_feed_shard *shard, uint32_t batch,
                    struct mg_error *err)
{
	struct mg_buf *buf = NULL;

	if (feed->old_spool == shard->old_rows && feed->old_batch == batch) {
		return 0;
	}
	hide_old(feed);
	int code = mg_feed__shape_of(&feed->old_shape, mg_spool_schema(shard->old_rows), err);

	code = code ? code : mg_spool_get(shard->old_rows, batch, &buf, err);
	code = code ? code
	            : mg_feed__batch_of(&feed->old_shape, buf->data, buf->size, &feed->old_array, err);
	mg_buf_unref(buf);
	if (!code) {
		feed->old_spool = shard->old_rows;
		feed->old_batch = batch;
	}
	return code;
}

/* *out: the row as it was, until the next one; NULL: not known. */
static int find_old(struct mg_feed *feed, const struct mg_feed_shard *shard, int64_t rid,
                    const char **out, struct mg_error *err)
{
	const struct mg_feed_old key = { .rid = rid };
	const struct mg_feed_old *found =
		shard->old_count ? bsearch(&key, shard->old, shard->old_count, sizeof key, compare_old)
						 : NULL;
	int code = found ? show_old(feed, shard, found->batch, err) : 0;

	*out = NULL;
	if (!code && found) {
		mg_sb_clear(&feed->old_row);
		mg_feed__add_row(feed, &feed->old_shape, found->row, 2, 0, &feed->old_row);
		*out = mg_sb_text(&feed->old_row);
	}
	return code;
}

/* The batch, with the ids of its rows. */
static int keep_batch(struct mg_feed *feed, struct mg_feed_shard *shard,
                      const struct mg_changes_record *record, const struct ArrowArray *array,
                      struct mg_buf *columns, struct mg_error *err)
{
	if (!shard->old_rows) {
		shard->old_rows = mg_spool_new(&feed->old_budget);
	}
	struct mg_buf *copy = mg_buf_copy(record->payload, record->payload_size);
	uint32_t batch = (uint32_t)mg_spool_count(shard->old_rows);
	int code = copy ? mg_spool_set_schema(shard->old_rows, columns, err)
	                : mg_error_set(err, MG_E_NOMEM, "no memory for %zu bytes of changes",
	                               record->payload_size);

	code = code ? code : mg_spool_put(shard->old_rows, copy, (uint64_t)array->length, err);
	mg_buf_unref(copy);
	for (int64_t i = 0; !code && i < array->length; i++) {
		mg_grow(shard->old, shard->old_count, shard->old_cap);
		shard->old[shard->old_count++] =
			(struct mg_feed_old){ mg_feed__rids(array)[i], batch, (uint32_t)i };
	}
	return code;
}

static int keep_old(struct mg_feed *feed, struct mg_feed_shard *shard,
                    const struct mg_changes_record *record, struct mg_buf *columns,
                    struct mg_error *err)
{
	struct ArrowArray array = { 0 };

	hide_old(feed);
	int code = mg_feed__shape_of(&feed->old_shape, columns, err);

	code = code ? code
	            : mg_feed__batch_of(&feed->old_shape, record->payload, record->payload_size,
	                                &array, err);
	code = code ? code : check_rids(&feed->old_shape, &array, err);
	if (!code && mg_arrow_view_columns(feed->old_shape.view) < 2) {
		code = mg_error_set(err, MG_E_CORRUPT, "rows as they were have no columns");
	}
	code = code ? code : keep_batch(feed, shard, record, &array, columns, err);
	if (array.release) {
		ArrowArrayRelease(&array);
	}
	return code;
}

/* ---- events ---- */

int mg_feed__tell(struct mg_feed *feed, const struct mg_feed_event *event, struct mg_error *err)
{
	if (feed->options->stopped && feed->options->stopped(feed->options->arg)) {
		return mg_error_set(err, MG_E_CANCELLED, "the feed was ended");
	}
	return feed->options->event(feed->options->arg, event, err);
}

static void write_commit(struct mg_sb *out, const struct mg_feed_shard *shard,
                         const struct mg_changes_record *record)
{
	mg_sb_clear(out);
	if (!record->together) {
		mg_sb_addf(out, "%" PRIu32 "-%" PRIu64, shard->shard, record->index);
		return;
	}
	for (size_t i = 0; i < sizeof record->transaction; i++) {
		mg_sb_addf(out, "%02x", record->transaction.bytes[i]);
	}
}

static int tell_rows(struct mg_feed *feed, struct mg_feed_shard *shard,
                     const struct mg_changes_record *record, const struct ArrowArray *array,
                     struct mg_error *err)
{
	bool inserts = record->kind == MG_CHANGES_INSERT;
	bool deletes = record->kind == MG_CHANGES_DELETE;
	const int64_t *rids = inserts ? NULL : mg_feed__rids(array);
	int code = 0;

	for (int64_t i = 0; !code && i < array->length; i++) {
		int64_t rid = inserts ? (int64_t)record->first_rid + i : rids[i];
		const char *old = NULL;

		mg_sb_clear(&feed->row);
		if (!deletes) { /* the slot is last */
			mg_feed__add_row(feed, &feed->shape, i, inserts ? 0 : 1, 1, &feed->row);
		}
		code = inserts ? 0 : find_old(feed, shard, rid, &old, err);
		code = code ? code
		            : mg_feed__tell(feed,
		                     &(struct mg_feed_event){
								 .op = inserts   ? MG_FEED_INSERT
		                               : deletes ? MG_FEED_DELETE
		                                         : MG_FEED_UPDATE,
								 .shard = shard->shard,
								 .index = record->index,
								 .n = shard->n++,
								 .commit = mg_sb_text(&feed->commit),
								 .rid = rid,
								 .row = deletes ? NULL : mg_sb_text(&feed->row),
								 .old = old,
							 },
		                     err);
		feed->rows++;
		feed->untold = true;
	}
	return code;
}

static int tell_operation(struct mg_feed *feed, struct mg_feed_shard *shard,
                          const struct mg_changes_record *record, struct mg_buf *columns,
                          struct mg_error *err)
{
	struct ArrowArray array = { 0 };
	size_t columns_min = record->kind == MG_CHANGES_REPLACE ? 3
	                     : record->kind == MG_CHANGES_INSERT ? 2
	                                                         : 1;
	int code = mg_feed__shape_of(&feed->shape, columns, err);

	code = code ? code
	            : mg_feed__batch_of(&feed->shape, record->payload, record->payload_size, &array,
	                                err);
	if (!code && mg_arrow_view_columns(feed->shape.view) < columns_min) {
		code = mg_error_set(err, MG_E_CORRUPT, "changed rows have no columns");
	}
	if (!code && record->kind != MG_CHANGES_INSERT) {
		code = check_rids(&feed->shape, &array, err);
	}
	if (shard->old_rows) {
		mg_spool_seal(shard->old_rows);
	}
	if (shard->old_count > 1) {
		qsort(shard->old, shard->old_count, sizeof *shard->old, compare_old);
	}
	code = code ? code : tell_rows(feed, shard, record, &array, err);
	if (array.release) {
		ArrowArrayRelease(&array);
	}
	return code;
}

int mg_feed__record(struct mg_feed *feed, struct mg_feed_shard *shard,
                    const struct mg_changes_record *record, struct mg_buf *columns,
                    struct mg_error *err)
{
	int code = 0;

	write_commit(&feed->commit, shard, record);
	switch (record->kind) {
	case MG_CHANGES_OLD:
		return keep_old(feed, shard, record, columns, err);
	case MG_CHANGES_INSERT:
	case MG_CHANGES_REPLACE:
	case MG_CHANGES_DELETE:
		code = tell_operation(feed, shard, record, columns, err);
		break;
	case MG_CHANGES_DROP:
		shard->over = true;
		code = mg_feed__tell(feed,
		                     &(struct mg_feed_event){ .op = MG_FEED_DROP,
		                                              .shard = shard->shard,
		                                              .index = record->index,
		                                              .n = shard->n++,
		                                              .commit = mg_sb_text(&feed->commit) },
		                     err);
		break;
	case MG_CHANGES_MOVED: /* they come next */
		code = mg_changes_reader_enter(shard->reader, err);
		break;
	case MG_CHANGES_COLUMNS:
	case MG_CHANGES_CREATE:
	case MG_CHANGES_MARK:
		break;
	}
	mg_feed__forget_old(feed, shard);
	return code;
}
