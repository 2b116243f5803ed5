/*
 * arrow_encode.c - Arrow arrays to IPC messages.
 *
 * nanoarrow writes the schema; record batches and dictionaries are built here with flatcc's
 * generated builders, because nanoarrow knows neither dictionaries nor compressed bodies there.
 * A batch is walked depth first; each node appends a FieldNode, each buffer a piece that points
 * into the array or, when it had to be rebased or compressed, into the scratch buffer.  Then the
 * header is built and everything is copied once, into the mg_buf that is handed out:
 *
 *   FFFFFFFF | header length | flatbuffer Message, padded to 8 | piece, padded to 8 | ...
 *
 * Rule: only what rows [offset, offset + length) use is written, with offsets that start at 0, so
 * that a slice of a large array costs no more than its own rows.
 *
 * Limits: nesting 64 deep; bodies and offsets as Arrow's 32- and 64-bit layouts allow.
 */
#include "codec/arrow_ipc.h"

#include "base/assert.h"
#include "codec/arrow_schema.h"

#include <lz4frame.h>
#include <nanoarrow/ipc/flatcc_generated.h>
#include <nanoarrow/nanoarrow_ipc.h>
#include <stdbool.h>
#include <string.h>

#define FB(name) org_apache_arrow_flatbuf_##name
#define COMPRESS_MIN 64 /* shorter buffers do not shrink: an LZ4 frame alone takes 15 bytes */

const uint8_t mg_arrow_end[8] = { 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0 };

/* Bytes of one buffer of the body: at ptr, or at offset `at` of scratch when ptr is NULL. */
struct piece {
	const uint8_t *ptr;
	size_t at;
	size_t len;
};

struct mg_arrow_encoder {
	struct ArrowSchema schema;  /* own copy */
	struct ArrowArrayView view; /* shape of the schema; set to each batch in turn */
	flatcc_builder_t builder;
	bool builder_ready;
	bool lz4;
	struct ArrowBuffer nodes;   /* FieldNode structs of the message in work */
	struct ArrowBuffer buffers; /* Buffer structs */
	struct ArrowBuffer pieces;  /* struct piece */
	struct ArrowBuffer scratch;
	int64_t body_size;
	uint64_t raw_size;
	int64_t next_dictionary;
	struct mg_buf *out; /* the messages made so far */
};

static int no_memory(struct mg_error *err)
{
	return mg_error_set(err, MG_E_NOMEM, "out of memory while encoding rows");
}

int mg_arrow_encoder_new(struct mg_arrow_encoder **out, const struct ArrowSchema *schema, bool lz4,
                         struct mg_error *err)
{
	struct mg_arrow_encoder *encoder = mg_alloc0(sizeof *encoder);
	struct ArrowError why = { { 0 } };
	encoder->lz4 = lz4;
	ArrowBufferInit(&encoder->nodes);
	ArrowBufferInit(&encoder->buffers);
	ArrowBufferInit(&encoder->pieces);
	ArrowBufferInit(&encoder->scratch);
	int code = MG_OK;
	if (ArrowSchemaDeepCopy(schema, &encoder->schema) != NANOARROW_OK) {
		code = no_memory(err);
		goto out;
	}
	if (ArrowArrayViewInitFromSchema(&encoder->view, &encoder->schema, &why) != NANOARROW_OK) {
		code = mg_error_set(err, MG_E_INTERNAL, "bad Arrow schema: %s", why.message);
		goto out;
	}
	code = mg_arrow__check_shape(&encoder->view, err);
	if (code) {
		goto out;
	}
	if (flatcc_builder_init(&encoder->builder) != 0) {
		code = no_memory(err);
		goto out;
	}
	encoder->builder_ready = true;
	*out = encoder;
	encoder = NULL;
out:
	mg_arrow_encoder_free(encoder);
	return code;
}

void mg_arrow_encoder_free(struct mg_arrow_encoder *encoder)
{
	if (!encoder) {
		return;
	}
	if (encoder->builder_ready) {
		flatcc_builder_clear(&encoder->builder);
	}
	ArrowArrayViewReset(&encoder->view);
	if (encoder->schema.release) {
		ArrowSchemaRelease(&encoder->schema);
	}
	ArrowBufferReset(&encoder->nodes);
	ArrowBufferReset(&encoder->buffers);
	ArrowBufferReset(&encoder->pieces);
	ArrowBufferReset(&encoder->scratch);
	mg_buf_unref(encoder->out);
	mg_free(encoder);
}

int mg_arrow_encode_schema(struct mg_arrow_encoder *encoder, struct mg_buf **out,
                           struct mg_error *err)
{
	struct ArrowIpcEncoder ipc;
	struct ArrowError why = { { 0 } };
	struct ArrowBuffer bytes;
	ArrowBufferInit(&bytes);
	if (ArrowIpcEncoderInit(&ipc) != NANOARROW_OK) {
		return no_memory(err);
	}
	int code = MG_OK;
	if (ArrowIpcEncoderEncodeSchema(&ipc, &encoder->schema, &why) != NANOARROW_OK) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "cannot encode result columns: %s", why.message);
	} else if (ArrowIpcEncoderFinalizeBuffer(&ipc, 1, &bytes) != NANOARROW_OK ||
	           (*out = mg_buf_copy(bytes.data, (size_t)bytes.size_bytes)) == NULL) {
		code = no_memory(err);
	}
	ArrowIpcEncoderReset(&ipc);
	ArrowBufferReset(&bytes);
	return code;
}

/* ---- pieces of a body ---- */

/* len bytes more of scratch; *at says where.  NULL when out of memory. */
static uint8_t *take_scratch(struct mg_arrow_encoder *e, size_t len, size_t *at)
{
	if (ArrowBufferReserve(&e->scratch, (int64_t)len + 8) != NANOARROW_OK) {
		return NULL;
	}
	size_t start = ((size_t)e->scratch.size_bytes + 7) & ~(size_t)7;
	if (ArrowBufferReserve(&e->scratch, (int64_t)(start + len) - e->scratch.size_bytes) !=
	    NANOARROW_OK) {
		return NULL;
	}
	e->scratch.size_bytes = (int64_t)(start + len);
	*at = start;
	return e->scratch.data + start;
}

static const uint8_t *piece_bytes(const struct mg_arrow_encoder *e, const struct piece *piece)
{
	return piece->ptr ? piece->ptr : e->scratch.data + piece->at;
}

/* Replace a piece by its compressed form: i64 length, LZ4 frame; or -1 and the bytes as they are.
 */
static bool compress_piece(struct mg_arrow_encoder *e, struct piece *piece)
{
	size_t bound = LZ4F_compressFrameBound(piece->len, NULL);
	size_t cap = 8 + (bound > piece->len ? bound : piece->len);
	size_t at;
	uint8_t *to = take_scratch(e, cap, &at);
	if (!to) {
		return false;
	}
	const uint8_t *from = piece_bytes(e, piece); /* after take_scratch, which may move scratch */
	int64_t written_size = (int64_t)piece->len;
	size_t packed = piece->len;
	if (piece->len >= COMPRESS_MIN) {
		packed = LZ4F_compressFrame(to + 8, cap - 8, from, piece->len, NULL);
	}
	if (LZ4F_isError(packed) || packed >= piece->len) {
		written_size = -1;
		packed = piece->len;
		memcpy(to + 8, from, packed);
	}
	memcpy(to, &written_size, 8);
	e->scratch.size_bytes = (int64_t)(at + 8 + packed);
	*piece = (struct piece){ NULL, at, 8 + packed };
	return true;
}

static bool add_piece(struct mg_arrow_encoder *e, struct piece piece)
{
	e->raw_size += piece.len;
	if (e->lz4 && piece.len > 0 && !compress_piece(e, &piece)) {
		return false;
	}
	FB(Buffer_t) where = { .offset = e->body_size, .length = (int64_t)piece.len };
	e->body_size += (int64_t)((piece.len + 7) & ~(size_t)7);
	return ArrowBufferAppend(&e->buffers, &where, sizeof where) == NANOARROW_OK &&
	       ArrowBufferAppend(&e->pieces, &piece, sizeof piece) == NANOARROW_OK;
}

static bool add_bytes(struct mg_arrow_encoder *e, const uint8_t *ptr, size_t len)
{
	/* A NULL pointer would be read as "in scratch"; of length 0 that is harmless. */
	mg_assert(ptr != NULL || len == 0);
	return add_piece(e, (struct piece){ ptr, 0, len });
}

/* Bits [start, start + length) so that the first one is bit 0 of the first byte. */
static bool add_bits(struct mg_arrow_encoder *e, const uint8_t *bits, int64_t start, int64_t length)
{
	size_t len = (size_t)(length + 7) / 8;
	if (start % 8 == 0 || length == 0) {
		return add_bytes(e, length ? bits + start / 8 : NULL, len);
	}
	size_t at;
	uint8_t *to = take_scratch(e, len, &at);
	if (!to) {
		return false;
	}
	memset(to, 0, len);
	for (int64_t i = 0; i < length; i++) {
		to[i / 8] = (uint8_t)(to[i / 8] | (ArrowBitGet(bits, start + i) << (i % 8)));
	}
	return add_piece(e, (struct piece){ NULL, at, len });
}

/* ---- nodes ---- */

static int64_t offset_at(const struct ArrowArrayView *view, int64_t index)
{
	const struct ArrowBufferView *offsets = &view->buffer_views[1];
	if (!offsets->data.data) {
		return 0; /* an array without rows may have none */
	}
	return view->layout.element_size_bits[1] == 32 ? offsets->data.as_int32[index]
	                                               : offsets->data.as_int64[index];
}

/* Offsets [start, start + length], moved so that the first one is 0. */
static bool add_offsets(struct mg_arrow_encoder *e, const struct ArrowArrayView *view,
                        int64_t start, int64_t length)
{
	size_t width = (size_t)view->layout.element_size_bits[1] / 8;
	size_t len = (size_t)(length + 1) * width;
	int64_t first = offset_at(view, start);
	if (first == 0 && view->buffer_views[1].data.data) {
		return add_bytes(e, view->buffer_views[1].data.as_uint8 + (size_t)start * width, len);
	}
	size_t at;
	uint8_t *to = take_scratch(e, len, &at);
	if (!to) {
		return false;
	}
	for (int64_t i = 0; i <= length; i++) {
		int64_t moved = offset_at(view, start + i) - first;
		memcpy(to + (size_t)i * width, &moved, width); /* little-endian: low bytes first */
	}
	return add_piece(e, (struct piece){ NULL, at, len });
}

/* Buffer i of rows [start, start + length); nulls says how many of them are NULL. */
static bool add_buffer(struct mg_arrow_encoder *e, const struct ArrowArrayView *view, int i,
                       int64_t start, int64_t length, int64_t nulls)
{
	const uint8_t *bytes = view->buffer_views[i].data.as_uint8;
	int64_t bits = view->layout.element_size_bits[i];
	switch (view->layout.buffer_type[i]) {
	case NANOARROW_BUFFER_TYPE_VALIDITY:
		return nulls ? add_bits(e, bytes, start, length) : add_bytes(e, NULL, 0);
	case NANOARROW_BUFFER_TYPE_DATA_OFFSET:
		return add_offsets(e, view, start, length);
	case NANOARROW_BUFFER_TYPE_DATA:
		if (i == 2) {
			int64_t first = offset_at(view, start);
			int64_t len = offset_at(view, start + length) - first;
			return add_bytes(e, len ? bytes + first : NULL, (size_t)len);
		}
		if (bits == 1) {
			return add_bits(e, bytes, start, length);
		}
		/* fall through */
	default:
		return add_bytes(e, length ? bytes + start * (bits / 8) : NULL,
		                 (size_t)(length * (bits / 8)));
	}
}

static int64_t count_nulls(const struct ArrowArrayView *view, int64_t start, int64_t length)
{
	if (view->storage_type == NANOARROW_TYPE_NA) {
		return length;
	}
	if (view->layout.buffer_type[0] != NANOARROW_BUFFER_TYPE_VALIDITY ||
	    !view->buffer_views[0].data.data || length == 0) {
		return 0;
	}
	return length - ArrowBitCountSet(view->buffer_views[0].data.as_uint8, start, length);
}

/* Rows of the node, counted from its own offset.  Depth is bounded by mg_arrow__check_shape. */
static bool add_node(struct mg_arrow_encoder *e, const struct ArrowArrayView *view, int64_t from,
                     int64_t length)
{
	int64_t start = view->offset + from;
	int64_t nulls = count_nulls(view, start, length);
	FB(FieldNode_t) node = { .length = length, .null_count = nulls };
	if (ArrowBufferAppend(&e->nodes, &node, sizeof node) != NANOARROW_OK) {
		return false;
	}
	for (int i = 0; i < NANOARROW_MAX_FIXED_BUFFERS; i++) {
		if (view->layout.buffer_type[i] != NANOARROW_BUFFER_TYPE_NONE &&
		    !add_buffer(e, view, i, start, length, nulls)) {
			return false;
		}
	}
	int64_t child_from = start;
	int64_t child_length = length;
	if (view->layout.buffer_type[1] == NANOARROW_BUFFER_TYPE_DATA_OFFSET) {
		child_from = offset_at(view, start);
		child_length = offset_at(view, start + length) - child_from;
	} else if (view->storage_type == NANOARROW_TYPE_FIXED_SIZE_LIST) {
		child_from = start * view->layout.child_size_elements;
		child_length = length * view->layout.child_size_elements;
	}
	for (int64_t i = 0; i < view->n_children; i++) {
		if (!add_node(e, view->children[i], child_from, child_length)) {
			return false;
		}
	}
	return true;
}

/* ---- messages ---- */

static void begin_message(struct mg_arrow_encoder *e)
{
	e->nodes.size_bytes = 0;
	e->buffers.size_bytes = 0;
	e->pieces.size_bytes = 0;
	e->scratch.size_bytes = 0;
	e->body_size = 0;
	flatcc_builder_reset(&e->builder);
}

/* The fields of a RecordBatch table, which a DictionaryBatch holds too. */
static bool build_batch_fields(struct mg_arrow_encoder *e, int64_t length)
{
	flatcc_builder_t *b = &e->builder;
	size_t node_count = (size_t)e->nodes.size_bytes / sizeof(FB(FieldNode_t));
	size_t buffer_count = (size_t)e->buffers.size_bytes / sizeof(FB(Buffer_t));
	if (FB(RecordBatch_length_add)(b, length) ||
	    FB(RecordBatch_nodes_create)(b, (const FB(FieldNode_t) *)(void *)e->nodes.data,
	                                 node_count) ||
	    FB(RecordBatch_buffers_create)(b, (const FB(Buffer_t) *)(void *)e->buffers.data,
	                                   buffer_count)) {
		return false;
	}
	return !e->lz4 || FB(RecordBatch_compression_create)(b, FB(CompressionType_LZ4_FRAME),
	                                                     FB(BodyCompressionMethod_BUFFER)) == 0;
}

/* Header of a record batch, or of dictionary number `dictionary` when that is not negative. */
static bool build_header(struct mg_arrow_encoder *e, int64_t length, int64_t dictionary)
{
	flatcc_builder_t *b = &e->builder;
	if (FB(Message_start_as_root)(b) || FB(Message_version_add)(b, FB(MetadataVersion_V5))) {
		return false;
	}
	if (dictionary < 0) {
		if (FB(Message_header_RecordBatch_start)(b) || !build_batch_fields(e, length) ||
		    FB(Message_header_RecordBatch_end)(b)) {
			return false;
		}
	} else if (FB(Message_header_DictionaryBatch_start)(b) ||
	           FB(DictionaryBatch_id_add)(b, dictionary) || FB(DictionaryBatch_data_start)(b) ||
	           !build_batch_fields(e, length) || FB(DictionaryBatch_data_end)(b) ||
	           FB(Message_header_DictionaryBatch_end)(b)) {
		return false;
	}
	return FB(Message_bodyLength_add)(b, e->body_size) == 0 && FB(Message_end_as_root)(b) != 0;
}

/* Room for `more` bytes behind what out holds. */
static bool reserve_out(struct mg_arrow_encoder *e, size_t more)
{
	size_t used = e->out ? e->out->size : 0;
	if (e->out && e->out->cap - used >= more) {
		return true;
	}
	struct mg_buf *grown = mg_buf_new(used + more);
	if (!grown) {
		return false;
	}
	if (used) {
		memcpy(grown->data, e->out->data, used);
		grown->size = used;
	}
	mg_buf_unref(e->out);
	e->out = grown;
	return true;
}

static bool finish_message(struct mg_arrow_encoder *e)
{
	size_t header = flatcc_builder_get_buffer_size(&e->builder);
	size_t padded = (header + 7) & ~(size_t)7;
	if (!reserve_out(e, 8 + padded + (size_t)e->body_size)) {
		return false;
	}
	uint8_t *to = e->out->data + e->out->size;
	uint32_t prefix[2] = { UINT32_MAX, (uint32_t)padded };
	memcpy(to, prefix, 8);
	if (!flatcc_builder_copy_buffer(&e->builder, to + 8, header)) {
		return false;
	}
	memset(to + 8 + header, 0, padded - header);
	to += 8 + padded;
	const struct piece *pieces = (const struct piece *)(void *)e->pieces.data;
	size_t count = (size_t)e->pieces.size_bytes / sizeof *pieces;
	for (size_t i = 0; i < count; i++) {
		size_t len = pieces[i].len;
		size_t whole = (len + 7) & ~(size_t)7;
		if (len) {
			memcpy(to, piece_bytes(e, &pieces[i]), len);
			memset(to + len, 0, whole - len);
		}
		to += whole;
	}
	e->out->size = (size_t)(to - e->out->data);
	return true;
}

/* Dictionary messages of this node and all below, numbered as nanoarrow numbers them in the schema.
 */
static bool encode_dictionaries(struct mg_arrow_encoder *e, const struct ArrowArrayView *view)
{
	if (view->dictionary) {
		const struct ArrowArrayView *values = view->dictionary;
		int64_t id = e->next_dictionary++;
		begin_message(e);
		if (!add_node(e, values, 0, values->length) || !build_header(e, values->length, id) ||
		    !finish_message(e)) {
			return false;
		}
	}
	for (int64_t i = 0; i < view->n_children; i++) {
		if (!encode_dictionaries(e, view->children[i])) {
			return false;
		}
	}
	return true;
}

static bool encode_rows(struct mg_arrow_encoder *e)
{
	begin_message(e);
	for (int64_t i = 0; i < e->view.n_children; i++) {
		if (!add_node(e, e->view.children[i], e->view.offset, e->view.length)) {
			return false;
		}
	}
	return build_header(e, e->view.length, -1) && finish_message(e);
}

int mg_arrow_encode_batch(struct mg_arrow_encoder *encoder, const struct ArrowArray *array,
                          struct mg_buf **out, uint64_t *raw_bytes, struct mg_error *err)
{
	struct ArrowError why = { { 0 } };
	if (mg_arrow__set_view(&encoder->view, array, &why) != NANOARROW_OK) {
		return mg_error_set(err, MG_E_INTERNAL, "rows do not fit their columns: %s", why.message);
	}
	mg_buf_unref(encoder->out);
	encoder->out = NULL;
	encoder->raw_size = 0;
	encoder->next_dictionary = 0;
	if (!encode_dictionaries(encoder, &encoder->view) || !encode_rows(encoder)) {
		return no_memory(err);
	}
	*out = encoder->out;
	encoder->out = NULL;
	if (raw_bytes) {
		*raw_bytes = encoder->raw_size;
	}
	return MG_OK;
}
