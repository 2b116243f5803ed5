/*
 * duck_mend.c - lists of ENUM values as DuckDB can read them.
 *
 * DuckDB 1.5.5 reads a list whose rows are all empty or NULL, and whose first offset is 0, without
 * its values' dictionary, and then looks for it (INTERNAL Error).  So such lists get one value more
 * in front that no row has: their first offset is 1.
 *
 * Thread: any.
 */
#include "store/duck_int.h"

#include <string.h>

static size_t width_of(const char *format)
{
	switch (format[0]) {
	case 'c':
	case 'C':
		return 1;
	case 's':
	case 'S':
		return 2;
	case 'i':
	case 'I':
		return 4;
	default:
		return 8;
	}
}

static bool replace(struct ArrowArray *array, int64_t i, struct ArrowBuffer *with)
{
	struct ArrowBuffer *buffer = ArrowArrayBuffer(array, i);

	ArrowBufferReset(buffer);
	ArrowBufferMove(with, buffer);
	array->buffers[i] = buffer->data;
	return true;
}

/* Indexes into the dictionary, with one more in front. */
static bool lengthen(struct ArrowArray *values, size_t width)
{
	struct ArrowBuffer data;
	size_t len = (size_t)values->length * width;
	const uint8_t *bits = values->buffers[0];

	ArrowBufferInit(&data);
	if (ArrowBufferAppendFill(&data, 0, (int64_t)width) != NANOARROW_OK ||
	    (len && ArrowBufferAppend(&data, values->buffers[1], (int64_t)len) != NANOARROW_OK)) {
		ArrowBufferReset(&data);
		return false;
	}
	if (bits) {
		struct ArrowBitmap moved;

		ArrowBitmapInit(&moved);
		bool done = ArrowBitmapAppend(&moved, 1, 1) == NANOARROW_OK;

		for (int64_t i = 0; done && i < values->length; i++) {
			done = ArrowBitmapAppend(&moved, (uint8_t)ArrowBitGet(bits, i), 1) == NANOARROW_OK;
		}
		if (!done) {
			ArrowBitmapReset(&moved);
			ArrowBufferReset(&data);
			return false;
		}
		(void)replace(values, 0, &moved.buffer);
	}
	(void)replace(values, 1, &data);
	values->length++;
	return true;
}

static bool move_offsets(struct ArrowArray *list, size_t width)
{
	struct ArrowBuffer moved;

	ArrowBufferInit(&moved);
	for (int64_t i = 0; i <= list->length; i++) {
		int64_t offset = 0;

		memcpy(&offset, (const uint8_t *)list->buffers[1] + (size_t)i * width, width);
		offset++;
		if (ArrowBufferAppend(&moved, &offset, (int64_t)width) != NANOARROW_OK) {
			ArrowBufferReset(&moved);
			return false;
		}
	}
	return replace(list, 1, &moved);
}

bool mg_duck__needs_mending(const struct ArrowSchema *schema)
{
	bool list = strcmp(schema->format, "+l") == 0 || strcmp(schema->format, "+L") == 0;
	bool needs = list && schema->children[0]->dictionary;

	for (int64_t i = 0; i < schema->n_children && !needs; i++) {
		needs = mg_duck__needs_mending(schema->children[i]);
	}
	return needs;
}

/* Depth is that of a decoded array, which the decoder bounds. */
static bool mend(const struct ArrowSchema *schema, struct ArrowArray *array)
{
	bool list = strcmp(schema->format, "+l") == 0 || strcmp(schema->format, "+L") == 0;
	bool done = true;

	for (int64_t i = 0; i < schema->n_children && done; i++) {
		done = mend(schema->children[i], array->children[i]);
	}
	if (!done || !list || !schema->children[0]->dictionary || !array->buffers[1]) {
		return done;
	}
	return lengthen(array->children[0], width_of(schema->children[0]->format)) &&
	       move_offsets(array, schema->format[1] == 'l' ? 4 : 8);
}

int mg_duck__mend(const struct ArrowSchema *schema, struct ArrowArray *batch, struct mg_error *err)
{
	return mend(schema, batch) ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for the rows");
}
