/*
 * fuzz_arrow_ipc.c - a schema message and a batch, as they come from a peer.
 *
 * What the decoder takes is read to the last value, as text and as JSON, and must encode again to
 * something that decodes; so a length that slipped through is found by the sanitizer.
 */
#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"

#include <stdbool.h>
#include <stdlib.h>

#define VALUES_READ_MAX 100000 /* LZ4 and bitmaps let a small input hold a hundred million */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_small(const struct ArrowArray *array)
{
	bool small = array->length <= VALUES_READ_MAX;
	for (int64_t i = 0; i < array->n_children && small; i++) {
		small = is_small(array->children[i]);
	}
	return small;
}

static void read_values(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
	struct mg_arrow_view *view = NULL;
	struct mg_sb text = { 0 };
	if (mg_arrow_view_new(&view, schema) != MG_OK || mg_arrow_view_set(view, array) != MG_OK) {
		abort();
	}
	for (size_t column = 0; column < mg_arrow_view_columns(view); column++) {
		mg_arrow_view_type(view, column, &text);
		for (int64_t row = 0; row < mg_arrow_view_rows(view); row++) {
			mg_arrow_view_is_null(view, column, row);
			mg_arrow_view_text(view, column, row, &text);
			mg_arrow_view_json(view, column, row, &text);
			if (text.len > 1 << 20) {
				mg_sb_clear(&text);
			}
		}
	}
	mg_sb_fini(&text);
	mg_arrow_view_free(view);
}

static void encode_again(const struct ArrowSchema *schema, const struct ArrowArray *array)
{
	struct mg_arrow_encoder *encoder = NULL;
	struct mg_arrow_decoder *decoder = NULL;
	struct mg_buf *head = NULL;
	struct mg_buf *rows = NULL;
	struct ArrowArray out = { 0 };
	struct mg_error err;
	if (mg_arrow_encoder_new(&encoder, schema, true, &err) != MG_OK) {
		return;
	}
	if (mg_arrow_encode_schema(encoder, &head, &err) == MG_OK) {
		if (mg_arrow_encode_batch(encoder, array, &rows, NULL, &err) != MG_OK ||
		    mg_arrow_decoder_new(&decoder, &err) != MG_OK ||
		    mg_arrow_decode_schema(decoder, head->data, head->size, NULL, &err) != MG_OK ||
		    mg_arrow_decode_batch(decoder, rows, &out, &err) != MG_OK) {
			abort();
		}
		ArrowArrayRelease(&out);
	}
	mg_buf_unref(rows);
	mg_buf_unref(head);
	mg_arrow_decoder_free(decoder);
	mg_arrow_encoder_free(encoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arrow_decoder *decoder = NULL;
	struct mg_error err;
	struct ArrowArray array = { 0 };
	size_t used = 0;
	size_t message = 0;
	bool end = false;
	mg_arrow_message_size(data, size, 1 << 20, &message, &end, &err);
	mg_arrow_decoder_new(&decoder, &err);
	if (mg_arrow_decode_schema(decoder, data, size, &used, &err) == MG_OK) {
		struct mg_buf *rows = mg_buf_copy(data + used, size - used);
		if (mg_arrow_decode_batch(decoder, rows, &array, &err) == MG_OK) {
			const struct ArrowSchema *schema = mg_arrow_decoder_schema(decoder);
			if (is_small(&array)) {
				read_values(schema, &array);
				encode_again(schema, &array);
			}
			ArrowArrayRelease(&array);
		}
		mg_buf_unref(rows);
	}
	mg_arrow_decoder_free(decoder);
	return 0;
}
