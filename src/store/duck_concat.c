/*
 * duck_concat.c - join small batches of one schema into a large one by copying buffers.
 *
 * DuckDB gives 2048 rows at a time; readers outside want fewer, larger batches.  Joining by whole
 * buffers runs at memory speed, where appending value by value would cost more than the scan.
 *
 * Works on what DuckDB writes: no offsets into arrays, plain and large variable-size layouts,
 * dictionaries that are the same in every part (an ENUM's values).  Anything else is refused, never
 * guessed: then the caller hands the parts on one by one.
 */
#include "store/duck_int.h"

#include <errno.h>
#include <string.h>

struct job {
	const struct ArrowArray **parts; /* count of them, all of one field */
	size_t count;
	int64_t rows;
};

static int append_validity(const struct job *job, struct ArrowArray *out)
{
	struct ArrowBitmap *bitmap = ArrowArrayValidityBitmap(out);
	int64_t nulls = 0;
	for (size_t i = 0; i < job->count; i++) {
		const struct ArrowArray *part = job->parts[i];
		const uint8_t *bits = part->buffers[0];
		int64_t set = bits ? ArrowBitCountSet(bits, part->offset, part->length) : part->length;
		nulls += part->length - set;
	}
	out->null_count = nulls;
	if (nulls == 0) {
		return 0;
	}
	if (ArrowBitmapReserve(bitmap, job->rows) != NANOARROW_OK) {
		return ENOMEM;
	}
	memset(bitmap->buffer.data, 0, (size_t)bitmap->buffer.capacity_bytes);
	for (size_t i = 0; i < job->count; i++) {
		const struct ArrowArray *part = job->parts[i];
		const uint8_t *bits = part->buffers[0];
		if (!bits) {
			ArrowBitmapAppendUnsafe(bitmap, 1, part->length);
			continue;
		}
		for (int64_t k = 0; k < part->length; k++) {
			ArrowBitmapAppendUnsafe(bitmap, (uint8_t)ArrowBitGet(bits, part->offset + k), 1);
		}
	}
	return 0;
}

static int append_bits(const struct job *job, struct ArrowBuffer *buffer)
{
	if (ArrowBufferResize(buffer, (job->rows + 7) / 8, 0) != NANOARROW_OK) {
		return ENOMEM;
	}
	memset(buffer->data, 0, (size_t)buffer->size_bytes);
	int64_t at = 0;
	for (size_t i = 0; i < job->count; i++) {
		const uint8_t *bits = job->parts[i]->buffers[1];
		for (int64_t k = 0; k < job->parts[i]->length; k++, at++) {
			ArrowBitSetTo(buffer->data, at, (uint8_t)ArrowBitGet(bits, job->parts[i]->offset + k));
		}
	}
	return 0;
}

static int append_fixed(const struct job *job, struct ArrowBuffer *buffer, int index, int64_t width)
{
	if (ArrowBufferReserve(buffer, job->rows * width) != NANOARROW_OK) {
		return ENOMEM;
	}
	for (size_t i = 0; i < job->count; i++) {
		const struct ArrowArray *part = job->parts[i];
		const uint8_t *bytes = part->buffers[index];
		if (part->length > 0) {
			ArrowBufferAppendUnsafe(buffer, bytes + part->offset * width, part->length * width);
		}
	}
	return 0;
}

static int64_t offset_at(const struct ArrowArray *part, int64_t row, bool large)
{
	return large ? ((const int64_t *)part->buffers[1])[part->offset + row]
	             : ((const int32_t *)part->buffers[1])[part->offset + row];
}

/* Offsets that start at 0 and run on over the parts; *total: where they end. */
static int append_offsets(const struct job *job, struct ArrowBuffer *buffer, bool large,
                          int64_t *total)
{
	int64_t width = large ? 8 : 4;
	if (ArrowBufferResize(buffer, (job->rows + 1) * width, 0) != NANOARROW_OK) {
		return ENOMEM;
	}
	int64_t base = 0;
	int64_t row = 0;
	if (large) {
		((int64_t *)(void *)buffer->data)[0] = 0;
	} else {
		((int32_t *)(void *)buffer->data)[0] = 0;
	}
	for (size_t i = 0; i < job->count; i++) {
		const struct ArrowArray *part = job->parts[i];
		if (part->length == 0) {
			continue;
		}
		int64_t first = offset_at(part, 0, large);
		for (int64_t k = 1; k <= part->length; k++) {
			int64_t value = base + offset_at(part, k, large) - first;
			row++;
			if (large) {
				((int64_t *)(void *)buffer->data)[row] = value;
			} else {
				((int32_t *)(void *)buffer->data)[row] = (int32_t)value;
			}
		}
		base += offset_at(part, part->length, large) - first;
	}
	*total = base;
	return large || base <= INT32_MAX ? 0 : EOVERFLOW;
}

static int append_text(const struct job *job, struct ArrowArray *out, bool large)
{
	int64_t total = 0;
	int rc = append_offsets(job, ArrowArrayBuffer(out, 1), large, &total);
	struct ArrowBuffer *bytes = ArrowArrayBuffer(out, 2);
	if (rc == 0 && ArrowBufferReserve(bytes, total) != NANOARROW_OK) {
		rc = ENOMEM;
	}
	for (size_t i = 0; rc == 0 && i < job->count; i++) {
		const struct ArrowArray *part = job->parts[i];
		if (part->length > 0) {
			int64_t first = offset_at(part, 0, large);
			int64_t size = offset_at(part, part->length, large) - first;
			if (size > 0) {
				ArrowBufferAppendUnsafe(bytes, (const uint8_t *)part->buffers[2] + first, size);
			}
		}
	}
	return rc;
}

static int concat_field(const struct ArrowSchema *schema, const struct job *job,
                        struct ArrowArray *out);

/* The children of all parts as a job of its own. */
static int concat_child(const struct ArrowSchema *schema, const struct job *job, int64_t child,
                        struct ArrowArray *out)
{
	const struct ArrowArray **parts = mg_alloc(job->count * sizeof *parts);
	struct job inner = { parts, job->count, 0 };
	for (size_t i = 0; i < job->count; i++) {
		parts[i] = job->parts[i]->children[child];
		inner.rows += parts[i]->length;
	}
	int rc = concat_field(schema->children[child], &inner, out->children[child]);
	mg_free(parts);
	return rc;
}

static int concat_children(const struct ArrowSchema *schema, const struct job *job,
                           struct ArrowArray *out)
{
	int rc = 0;
	for (int64_t i = 0; rc == 0 && i < schema->n_children; i++) {
		rc = concat_child(schema, job, i, out);
	}
	return rc;
}

/* DuckDB starts the offsets of every list at 0 and gives children exactly as long as they end. */
static int concat_list(const struct ArrowSchema *schema, const struct job *job,
                       struct ArrowArray *out, bool large)
{
	int64_t total = 0;
	for (size_t i = 0; i < job->count; i++) {
		const struct ArrowArray *part = job->parts[i];
		if (part->length > 0 &&
		    (offset_at(part, 0, large) != 0 ||
		     offset_at(part, part->length, large) != part->children[0]->length)) {
			return ENOTSUP;
		}
	}
	int rc = append_offsets(job, ArrowArrayBuffer(out, 1), large, &total);
	return rc == 0 ? concat_child(schema, job, 0, out) : rc;
}

static int concat_buffers(const struct ArrowSchema *schema, const struct ArrowSchemaView *view,
                          const struct job *job, struct ArrowArray *out)
{
	switch (view->storage_type) {
	case NANOARROW_TYPE_NA:
		out->null_count = job->rows;
		return 0;
	case NANOARROW_TYPE_BOOL:
		return append_bits(job, ArrowArrayBuffer(out, 1));
	case NANOARROW_TYPE_STRING:
	case NANOARROW_TYPE_BINARY:
		return append_text(job, out, false);
	case NANOARROW_TYPE_LARGE_STRING:
	case NANOARROW_TYPE_LARGE_BINARY:
		return append_text(job, out, true);
	case NANOARROW_TYPE_STRUCT:
	case NANOARROW_TYPE_FIXED_SIZE_LIST:
		return concat_children(schema, job, out);
	case NANOARROW_TYPE_LIST:
	case NANOARROW_TYPE_MAP:
		return concat_list(schema, job, out, false);
	case NANOARROW_TYPE_LARGE_LIST:
		return concat_list(schema, job, out, true);
	case NANOARROW_TYPE_SPARSE_UNION: {
		int rc = append_fixed(job, ArrowArrayBuffer(out, 0), 0, 1);
		return rc == 0 ? concat_children(schema, job, out) : rc;
	}
	default: {
		int64_t bits = view->layout.element_size_bits[1];
		if (view->layout.buffer_type[1] != NANOARROW_BUFFER_TYPE_DATA || bits <= 0 ||
		    bits % 8 != 0) {
			return ENOTSUP;
		}
		return append_fixed(job, ArrowArrayBuffer(out, 1), 1, bits / 8);
	}
	}
}

static int concat_field(const struct ArrowSchema *schema, const struct job *job,
                        struct ArrowArray *out)
{
	struct ArrowSchemaView view;
	struct ArrowError ignored;
	if (ArrowSchemaViewInit(&view, schema, &ignored) != NANOARROW_OK) {
		return ENOTSUP;
	}
	int rc = 0;
	if (schema->dictionary) {
		/* Indices are copied below; the values are those of the first part. */
		struct job values = { NULL, 1, job->parts[0]->dictionary->length };
		const struct ArrowArray *first = job->parts[0]->dictionary;
		values.parts = &first;
		rc = concat_field(schema->dictionary, &values, out->dictionary);
	}
	if (rc == 0 && view.layout.buffer_type[0] == NANOARROW_BUFFER_TYPE_VALIDITY) {
		rc = append_validity(job, out);
	}
	if (rc == 0) {
		rc = concat_buffers(schema, &view, job, out);
	}
	out->length = job->rows;
	out->offset = 0;
	return rc;
}

int mg_duck__concat(const struct ArrowSchema *schema, const struct ArrowArray *parts, size_t count,
                    struct ArrowArray *out, struct mg_error *err)
{
	struct ArrowError why = { "" };
	const struct ArrowArray **list = mg_alloc(count * sizeof *list);
	struct job job = { list, count, 0 };
	for (size_t i = 0; i < count; i++) {
		list[i] = &parts[i];
		job.rows += parts[i].length;
	}
	int failed = ArrowArrayInitFromSchema(out, schema, &why);
	if (failed == NANOARROW_OK) {
		failed = concat_field(schema, &job, out);
		if (failed == 0) {
			failed = ArrowArrayFinishBuilding(out, NANOARROW_VALIDATION_LEVEL_MINIMAL, &why);
		}
		if (failed != 0) {
			out->release(out);
		}
	}
	mg_free(list);
	if (failed == 0) {
		return 0;
	}
	int code = failed == ENOMEM ? MG_E_NOMEM : MG_E_UNSUPPORTED;
	return mg_error_set(err, code, "cannot join %zu batches: %s", count,
	                    why.message[0] ? why.message : strerror(failed));
}
