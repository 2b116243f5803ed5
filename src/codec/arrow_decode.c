/*
 * arrow_decode.c - IPC messages to Arrow arrays; nothing in the bytes is believed.
 *
 * nanoarrow reads the schema (after mg_arrow__check_schema has made sure that no table it follows
 * is missing); batches are read here, because its decoder trusts counts of nodes and buffers in
 * dictionaries, lets lengths overflow and does not look at text.  A node is decoded with the
 * length its parent demands, and each of its buffers is checked as soon as it is taken:
 *
 *   validity   covers the rows, and its zero bits number exactly null_count
 *   offsets    start at 0 or more, never fall; the last one lies within data or is the child's
 * length data       covers the rows;  text is UTF-8, and no value starts inside a character type
 * ids   name a member of the union;  indexes lie within their dictionary
 *
 * Uncompressed buffers are not copied: each holds a reference on the mg_buf.
 *
 * Limits: 2^31-1 rows or values a node, 2^20 where values take no bytes (columns of NULL, empty
 * structs), so that a few bytes cannot stand for billions of values; LZ4 only; a compressed buffer
 * grows at most 256-fold (LZ4 itself stops at 255), so a message of n bytes never takes more than
 * about 256 n.
 */
#include "codec/arrow_ipc.h"

#include "base/assert.h"
#include "base/str.h"
#include "codec/arrow_message.h"
#include "codec/arrow_schema.h"

#include <limits.h>
#include <lz4frame.h>
#include <nanoarrow/nanoarrow_ipc.h>
#include <stdbool.h>
#include <string.h>

#define LENGTH_MAX INT32_MAX
#define BODILESS_LENGTH_MAX (1 << 20)
#define LZ4_GROWTH_MAX 256

/* A dictionary-coded field, numbered in depth-first order. */
struct dictionary {
	int64_t id;                       /* of its messages */
	const struct ArrowSchema *values; /* in the decoder's schema */
	const struct ArrowArrayView *shape;
	struct ArrowArray array; /* released unless a batch is being decoded */
};

struct mg_arrow_decoder {
	struct ArrowSchema schema;
	struct ArrowArrayView shape; /* of schema; never set to data */
	struct dictionary *dictionaries;
	size_t dictionary_count;
	size_t dictionary_cap;
	LZ4F_dctx *lz4; /* made when first needed */
};

static int no_memory(struct mg_error *err)
{
	return mg_error_set(err, MG_E_NOMEM, "out of memory while decoding rows");
}

/* ---- the decoder ---- */

int mg_arrow_decoder_new(struct mg_arrow_decoder **out, struct mg_error *err)
{
	(void)err;
	struct mg_arrow_decoder *decoder = mg_alloc0(sizeof *decoder);
	ArrowArrayViewInitFromType(&decoder->shape, NANOARROW_TYPE_UNINITIALIZED);
	*out = decoder;
	return MG_OK;
}

static void drop_arrays(struct mg_arrow_decoder *decoder)
{
	for (size_t i = 0; i < decoder->dictionary_count; i++) {
		if (decoder->dictionaries[i].array.release) {
			ArrowArrayRelease(&decoder->dictionaries[i].array);
		}
	}
}

static void forget_schema(struct mg_arrow_decoder *decoder)
{
	drop_arrays(decoder);
	mg_free(decoder->dictionaries);
	decoder->dictionaries = NULL;
	decoder->dictionary_count = 0;
	decoder->dictionary_cap = 0;
	ArrowArrayViewReset(&decoder->shape);
	if (decoder->schema.release) {
		ArrowSchemaRelease(&decoder->schema);
	}
}

void mg_arrow_decoder_free(struct mg_arrow_decoder *decoder)
{
	if (!decoder) {
		return;
	}
	forget_schema(decoder);
	LZ4F_freeDecompressionContext(decoder->lz4);
	mg_free(decoder);
}

const struct ArrowSchema *mg_arrow_decoder_schema(const struct mg_arrow_decoder *decoder)
{
	return decoder->schema.release ? &decoder->schema : NULL;
}

/* ---- schema ---- */

/* List the dictionary-coded fields below a node, depth first. */
static int list_dictionaries(struct mg_arrow_decoder *d, const struct ArrowSchema *schema,
                             const struct ArrowArrayView *shape,
                             const struct ArrowIpcDictionaryEncodings *encodings,
                             struct mg_error *err)
{
	if (schema->dictionary) {
		const struct ArrowIpcDictionaryEncoding *coding =
			ArrowIpcDictionaryEncodingsFind(encodings, schema);
		if (!coding || !shape->dictionary) {
			return mg_arrow__bad(err, "a dictionary without a number");
		}
		for (size_t i = 0; i < d->dictionary_count; i++) {
			if (d->dictionaries[i].id == coding->id) {
				return mg_arrow__bad(err, "two columns share a dictionary");
			}
		}
		mg_grow(d->dictionaries, d->dictionary_count, d->dictionary_cap);
		d->dictionaries[d->dictionary_count++] = (struct dictionary){
			.id = coding->id,
			.values = schema->dictionary,
			.shape = shape->dictionary,
		};
	}
	for (int64_t i = 0; i < schema->n_children; i++) {
		int code = list_dictionaries(d, schema->children[i], shape->children[i], encodings, err);
		if (code) {
			return code;
		}
	}
	return MG_OK;
}

/* Take over a schema that nanoarrow has read. */
static int adopt_schema(struct mg_arrow_decoder *d, struct ArrowSchema *schema,
                        const struct ArrowIpcDictionaryEncodings *encodings, struct mg_error *err)
{
	struct ArrowError why = { { 0 } };
	forget_schema(d);
	ArrowSchemaMove(schema, &d->schema);
	mg_arrow__repair_maps(&d->schema);
	int code = MG_OK;
	if (ArrowArrayViewInitFromSchema(&d->shape, &d->schema, &why) != NANOARROW_OK) {
		code = mg_error_set(err, MG_E_PROTOCOL, "bad Arrow schema: %s", why.message);
	}
	if (code == MG_OK) {
		code = mg_arrow__check_shape(&d->shape, err);
	}
	if (code == MG_OK) {
		code = list_dictionaries(d, &d->schema, &d->shape, encodings, err);
	}
	if (code) {
		forget_schema(d);
	}
	return code;
}

static int decode_schema(struct mg_arrow_decoder *d, const uint8_t *bytes,
                         const struct mg_arrow__message *m, struct mg_error *err)
{
	struct ArrowIpcDecoder ipc;
	struct ArrowIpcDictionaryEncodings encodings;
	struct ArrowSchema schema = { 0 };
	struct ArrowError why = { { 0 } };
	struct ArrowBufferView view = { .data.as_uint8 = bytes, .size_bytes = (int64_t)m->size };
	if (ArrowIpcDecoderInit(&ipc) != NANOARROW_OK) {
		return no_memory(err);
	}
	int code = MG_OK;
	if (ArrowIpcDecoderDecodeHeader(&ipc, view, &why) != NANOARROW_OK ||
	    ipc.endianness != NANOARROW_IPC_ENDIANNESS_LITTLE ||
	    ArrowIpcDecoderDecodeSchemaWithDictionaries(&ipc, &schema, &encodings, &why) !=
	        NANOARROW_OK) {
		code = mg_error_set(err, MG_E_PROTOCOL, "bad Arrow schema: %s",
		                    why.message[0] ? why.message : "not little-endian");
		goto out;
	}
	code = adopt_schema(d, &schema, &encodings, err);
	ArrowIpcDictionaryEncodingsReset(&encodings);
out:
	if (schema.release) {
		ArrowSchemaRelease(&schema);
	}
	ArrowIpcDecoderReset(&ipc);
	return code;
}

int mg_arrow_decode_schema(struct mg_arrow_decoder *decoder, const void *bytes, size_t size,
                           size_t *used, struct mg_error *err)
{
	struct mg_buf *copy = NULL;
	const uint8_t *from = bytes;
	if (((uintptr_t)bytes & 7) != 0) {
		copy = mg_buf_copy(bytes, size);
		if (!copy) {
			return no_memory(err);
		}
		from = copy->data;
	}
	struct mg_arrow__message m = { 0 };
	int code = mg_arrow__read_message(from, size, &m, err);
	if (code) {
		goto out;
	}
	if (FB(Message_header_type)(m.table) != FB(MessageHeader_Schema) || m.body_size != 0) {
		code = mg_arrow__bad(err, "a schema was expected");
		goto out;
	}
	code = mg_arrow__check_schema((FB(Schema_table_t))FB(Message_header_get)(m.table), err);
	if (code == MG_OK) {
		code = decode_schema(decoder, from, &m, err);
	}
	if (code == MG_OK && used) {
		*used = m.size;
	}
out:
	mg_buf_unref(copy);
	return code;
}

/* ---- buffers of a batch ---- */

/* Where the walk over one batch stands. */
struct walk {
	struct mg_arrow_decoder *decoder;
	struct mg_buf *buf; /* holds the body */
	const uint8_t *body;
	size_t body_size;
	bool lz4;
	FB(FieldNode_vec_t) nodes;
	FB(Buffer_vec_t) buffers;
	size_t next_node;
	size_t next_buffer;
	size_t next_dictionary;
	struct mg_error *err;
};

static void drop_reference(struct ArrowBufferAllocator *allocator, uint8_t *ptr, int64_t size)
{
	(void)ptr;
	(void)size;
	mg_buf_unref(allocator->private_data);
}

static void share(struct walk *w, const uint8_t *ptr, size_t len, struct ArrowBuffer *out)
{
	if (len == 0) {
		return;
	}
	out->data = (uint8_t *)(uintptr_t)ptr; /* consumers only read it */
	out->size_bytes = (int64_t)len;
	out->capacity_bytes = (int64_t)len;
	out->allocator = ArrowBufferDeallocator(drop_reference, mg_buf_ref(w->buf));
}

static int decompress(struct walk *w, const uint8_t *from, size_t len, size_t size,
                      struct ArrowBuffer *out)
{
	struct mg_arrow_decoder *d = w->decoder;
	if (!d->lz4 && LZ4F_isError(LZ4F_createDecompressionContext(&d->lz4, LZ4F_VERSION))) {
		return no_memory(w->err);
	}
	if (size / LZ4_GROWTH_MAX > len) {
		return mg_arrow__bad(w->err, "impossible size of a compressed buffer");
	}
	if (ArrowBufferReserve(out, (int64_t)size + 1) != NANOARROW_OK) {
		return no_memory(w->err);
	}
	size_t made = size;
	size_t taken = len;
	LZ4F_resetDecompressionContext(d->lz4);
	size_t rest = LZ4F_decompress(d->lz4, out->data, &made, from, &taken, NULL);
	if (rest != 0 || made != size || taken != len) {
		return mg_arrow__bad(w->err, "a compressed buffer is damaged");
	}
	out->size_bytes = (int64_t)size;
	return MG_OK;
}

/* The next buffer, uncompressed; *out is initialised whatever happens. */
static int take_buffer(struct walk *w, struct ArrowBuffer *out)
{
	ArrowBufferInit(out);
	if (w->next_buffer >= FB(Buffer_vec_len)(w->buffers)) {
		return mg_arrow__bad(w->err, "it has too few buffers");
	}
	FB(Buffer_struct_t) entry = FB(Buffer_vec_at)(w->buffers, w->next_buffer++);
	int64_t offset = FB(Buffer_offset)(entry);
	int64_t length = FB(Buffer_length)(entry);
	if (offset < 0 || length < 0 || offset % 8 != 0 || (uint64_t)offset > w->body_size ||
	    (uint64_t)length > w->body_size - (uint64_t)offset) {
		return mg_arrow__bad(w->err, "a buffer lies outside of the body");
	}
	const uint8_t *from = w->body + offset;
	if (!w->lz4 || length == 0) {
		share(w, from, (size_t)length, out);
		return MG_OK;
	}
	if (length < 8) {
		return mg_arrow__bad(w->err, "a compressed buffer without its size");
	}
	int64_t size;
	memcpy(&size, from, 8);
	if (size == -1) {
		share(w, from + 8, (size_t)length - 8, out);
		return MG_OK;
	}
	if (size < 0) {
		return mg_arrow__bad(w->err, "impossible size of a compressed buffer");
	}
	return decompress(w, from + 8, (size_t)length - 8, (size_t)size, out);
}

/* ---- checks of single buffers ---- */

static int64_t offset_at(const struct ArrowBuffer *offsets, size_t width, int64_t index)
{
	if (width == 4) {
		int32_t small;
		memcpy(&small, offsets->data + index * 4, 4);
		return small;
	}
	int64_t large;
	memcpy(&large, offsets->data + index * 8, 8);
	return large;
}

/* Non-falling offsets for length values; *first and *last bound the data.  An empty buffer is given
 * its zero when there are no rows, so that a reader may always look at the first offset. */
static int check_offsets(struct walk *w, struct ArrowBuffer *offsets, size_t width, int64_t length,
                         int64_t *first, int64_t *last)
{
	if (offsets->size_bytes == 0 && length == 0) {
		if (ArrowBufferAppendFill(offsets, 0, (int64_t)width) != NANOARROW_OK) {
			return no_memory(w->err);
		}
	}
	if (offsets->size_bytes / (int64_t)width < length + 1) {
		return mg_arrow__bad(w->err, "too few offsets");
	}
	int64_t before = offset_at(offsets, width, 0);
	*first = before;
	if (before < 0) {
		return mg_arrow__bad(w->err, "a negative offset");
	}
	for (int64_t i = 1; i <= length; i++) {
		int64_t now = offset_at(offsets, width, i);
		if (now < before) {
			return mg_arrow__bad(w->err, "falling offsets");
		}
		before = now;
	}
	*last = before;
	return MG_OK;
}

static int check_validity(struct walk *w, const struct ArrowBuffer *bits, int64_t length,
                          int64_t null_count)
{
	if (bits->size_bytes == 0) {
		return null_count == 0 ? MG_OK : mg_arrow__bad(w->err, "NULLs without a bitmap");
	}
	if (bits->size_bytes < (length + 7) / 8) {
		return mg_arrow__bad(w->err, "the bitmap of NULLs is too short");
	}
	if (length - ArrowBitCountSet(bits->data, 0, length) != null_count) {
		return mg_arrow__bad(w->err, "the count of NULLs is wrong");
	}
	return MG_OK;
}

static int check_text(struct walk *w, const struct ArrowBuffer *data,
                      const struct ArrowBuffer *offsets, size_t width, int64_t length)
{
	int64_t first = offset_at(offsets, width, 0);
	int64_t last = offset_at(offsets, width, length);
	if (!mg_utf8_valid((const char *)data->data + first, (size_t)(last - first))) {
		return mg_arrow__bad(w->err, "text that is not UTF-8");
	}
	for (int64_t i = 0; i < length; i++) {
		int64_t at = offset_at(offsets, width, i);
		if (at < last && (data->data[at] & 0xC0) == 0x80) {
			return mg_arrow__bad(w->err, "text that starts inside a character");
		}
	}
	return MG_OK;
}

static int check_type_ids(struct walk *w, const struct ArrowArrayView *shape,
                          const struct ArrowBuffer *ids, int64_t length)
{
	bool known[256] = { false };
	if (ids->size_bytes < length || !shape->union_type_id_map) {
		return mg_arrow__bad(w->err, "too few type numbers of a union");
	}
	for (int64_t i = 0; i < shape->n_children; i++) {
		known[(uint8_t)shape->union_type_id_map[128 + i]] = true;
	}
	for (int64_t i = 0; i < length; i++) {
		if (!known[ids->data[i]]) {
			return mg_arrow__bad(w->err, "an unknown type number of a union");
		}
	}
	return MG_OK;
}

static uint64_t index_at(const struct ArrowBuffer *data, enum ArrowType type, int64_t row)
{
	const uint8_t *at = data->data;
	switch (type) {
	case NANOARROW_TYPE_UINT8:
		return at[row];
	case NANOARROW_TYPE_INT8:
		return (uint64_t)(int64_t)(int8_t)at[row];
	case NANOARROW_TYPE_UINT16:
		return ((const uint16_t *)(const void *)at)[row];
	case NANOARROW_TYPE_INT16:
		return (uint64_t)(int64_t)((const int16_t *)(const void *)at)[row];
	case NANOARROW_TYPE_UINT32:
		return ((const uint32_t *)(const void *)at)[row];
	case NANOARROW_TYPE_INT32:
		return (uint64_t)(int64_t)((const int32_t *)(const void *)at)[row];
	default:
		return ((const uint64_t *)(const void *)at)[row];
	}
}

static int check_indexes(struct walk *w, const struct ArrowArrayView *shape,
                         struct ArrowArray *array, const struct ArrowArray *values)
{
	const uint8_t *valid = array->null_count ? array->buffers[0] : NULL;
	const struct ArrowBuffer *data = ArrowArrayBuffer(array, 1);
	for (int64_t i = 0; i < array->length; i++) {
		if (valid && !ArrowBitGet(valid, i)) {
			continue;
		}
		if (index_at(data, shape->storage_type, i) >= (uint64_t)values->length) {
			return mg_arrow__bad(w->err, "an index beyond its dictionary");
		}
	}
	return MG_OK;
}

/* ---- nodes ---- */

/* Buffers 1 and 2 of text, blobs and lists.  *child_length: what a list's child must hold. */
static int decode_variable(struct walk *w, const struct ArrowArrayView *shape,
                           struct ArrowArray *array, int64_t *child_length)
{
	size_t width = (size_t)shape->layout.element_size_bits[1] / 8;
	struct ArrowBuffer offsets;
	struct ArrowBuffer data;
	int64_t first = 0;
	int64_t last = 0;
	ArrowBufferInit(&data);
	int code = take_buffer(w, &offsets);
	if (code == MG_OK) {
		code = check_offsets(w, &offsets, width, array->length, &first, &last);
	}
	if (code || shape->layout.buffer_type[2] == NANOARROW_BUFFER_TYPE_NONE) {
		*child_length = last;
		goto out;
	}
	code = take_buffer(w, &data);
	if (code == MG_OK && data.size_bytes < last) {
		code = mg_arrow__bad(w->err, "text or blobs are cut off");
	}
	if (code == MG_OK && !data.data && ArrowBufferReserve(&data, 1) != NANOARROW_OK) {
		code = no_memory(w->err); /* readers may not like a NULL even for empty values */
	}
	if (code == MG_OK && (shape->storage_type == NANOARROW_TYPE_STRING ||
	                      shape->storage_type == NANOARROW_TYPE_LARGE_STRING)) {
		code = check_text(w, &data, &offsets, width, array->length);
	}
	if (code == MG_OK) {
		ArrowArraySetBuffer(array, 2, &data);
	}
out:
	if (code == MG_OK) {
		ArrowArraySetBuffer(array, 1, &offsets);
	}
	ArrowBufferReset(&offsets); /* after a set both are empty */
	ArrowBufferReset(&data);
	return code;
}

/* Buffer i of fixed width. */
static int decode_fixed(struct walk *w, const struct ArrowArrayView *shape,
                        struct ArrowArray *array, int i)
{
	struct ArrowBuffer buffer;
	int code = take_buffer(w, &buffer);
	if (code == MG_OK) {
		switch (shape->layout.buffer_type[i]) {
		case NANOARROW_BUFFER_TYPE_VALIDITY:
			code = check_validity(w, &buffer, array->length, array->null_count);
			break;
		case NANOARROW_BUFFER_TYPE_TYPE_ID:
			code = check_type_ids(w, shape, &buffer, array->length);
			break;
		default: {
			uint64_t bits = (uint64_t)shape->layout.element_size_bits[i] * (uint64_t)array->length;
			if ((uint64_t)buffer.size_bytes < (bits + 7) / 8) {
				code = mg_arrow__bad(w->err, "values are cut off");
			} else if (!buffer.data && ArrowBufferReserve(&buffer, 8) != NANOARROW_OK) {
				code = no_memory(w->err);
			}
			break;
		}
		}
	}
	if (code == MG_OK) {
		ArrowArraySetBuffer(array, i, &buffer);
	}
	ArrowBufferReset(&buffer);
	return code;
}

static int attach_dictionary(struct walk *w, const struct ArrowArrayView *shape,
                             struct ArrowArray *array)
{
	struct mg_arrow_decoder *d = w->decoder;
	mg_assert(w->next_dictionary < d->dictionary_count && array->dictionary != NULL);
	struct dictionary *dictionary = &d->dictionaries[w->next_dictionary++];
	if (!dictionary->array.release) {
		return mg_arrow__bad(w->err, "a dictionary is missing");
	}
	int code = check_indexes(w, shape, array, &dictionary->array);
	if (code) {
		return code;
	}
	if (array->dictionary->release) {
		ArrowArrayRelease(array->dictionary);
	}
	ArrowArrayMove(&dictionary->array, array->dictionary);
	return MG_OK;
}

/* Do values of this node take no bytes, neither here nor below? */
static bool is_bodiless(const struct ArrowArrayView *shape)
{
	switch (shape->storage_type) {
	case NANOARROW_TYPE_NA:
		return true;
	case NANOARROW_TYPE_STRUCT:
		return shape->n_children == 0;
	case NANOARROW_TYPE_FIXED_SIZE_LIST:
		return shape->layout.child_size_elements == 0;
	case NANOARROW_TYPE_FIXED_SIZE_BINARY:
		return shape->layout.element_size_bits[1] == 0;
	default:
		return false;
	}
}

/* One node and all below, which must hold exactly `length` values. */
static int decode_node(struct walk *w, const struct ArrowArrayView *shape, int64_t length,
                       struct ArrowArray *array)
{
	if (w->next_node >= FB(FieldNode_vec_len)(w->nodes)) {
		return mg_arrow__bad(w->err, "it has too few nodes");
	}
	FB(FieldNode_struct_t) node = FB(FieldNode_vec_at)(w->nodes, w->next_node++);
	int64_t nulls = FB(FieldNode_null_count)(node);
	if (length < 0 || length > LENGTH_MAX || FB(FieldNode_length)(node) != length || nulls < 0 ||
	    nulls > length) {
		return mg_arrow__bad(w->err, "columns of different lengths");
	}
	if (length > BODILESS_LENGTH_MAX && is_bodiless(shape)) {
		return mg_arrow__bad(w->err, "too many values that take no bytes");
	}
	bool nullable = shape->layout.buffer_type[0] == NANOARROW_BUFFER_TYPE_VALIDITY ||
	                shape->storage_type == NANOARROW_TYPE_NA;
	if (nulls > 0 && !nullable) {
		return mg_arrow__bad(w->err, "NULLs without a bitmap");
	}
	array->length = length;
	array->null_count = nulls;
	array->offset = 0;
	int64_t child_length = length;
	for (int i = 0; i < NANOARROW_MAX_FIXED_BUFFERS; i++) {
		enum ArrowBufferType type = shape->layout.buffer_type[i];
		if (type == NANOARROW_BUFFER_TYPE_NONE) {
			break;
		}
		bool variable = type == NANOARROW_BUFFER_TYPE_DATA_OFFSET;
		int code = variable ? decode_variable(w, shape, array, &child_length)
		                    : decode_fixed(w, shape, array, i);
		if (code) {
			return code;
		}
		if (variable) {
			break;
		}
	}
	if (shape->storage_type == NANOARROW_TYPE_FIXED_SIZE_LIST) {
		child_length = length * shape->layout.child_size_elements;
	}
	for (int64_t i = 0; i < shape->n_children; i++) {
		int code = decode_node(w, shape->children[i], child_length, array->children[i]);
		if (code) {
			return code;
		}
	}
	return shape->dictionary ? attach_dictionary(w, shape, array) : MG_OK;
}

/* ---- batches ---- */

static int begin_walk(struct walk *w, FB(RecordBatch_table_t) batch,
                      const struct mg_arrow__message *m)
{
	FB(BodyCompression_table_t) compression = FB(RecordBatch_compression)(batch);
	if (compression) {
		if (FB(BodyCompression_codec)(compression) != FB(CompressionType_LZ4_FRAME) ||
		    FB(BodyCompression_method)(compression) != FB(BodyCompressionMethod_BUFFER)) {
			return mg_error_set(w->err, MG_E_UNSUPPORTED, "Arrow compression other than LZ4");
		}
		w->lz4 = true;
	}
	w->nodes = FB(RecordBatch_nodes)(batch);
	w->buffers = FB(RecordBatch_buffers)(batch);
	w->body = m->body;
	w->body_size = m->body_size;
	int64_t length = FB(RecordBatch_length)(batch);
	return length < 0 || length > LENGTH_MAX ? mg_arrow__bad(w->err, "impossible number of rows")
	                                         : MG_OK;
}

static int end_walk(const struct walk *w)
{
	if (w->next_node != FB(FieldNode_vec_len)(w->nodes) ||
	    w->next_buffer != FB(Buffer_vec_len)(w->buffers)) {
		return mg_arrow__bad(w->err, "it has more nodes or buffers than its schema");
	}
	return MG_OK;
}

static int decode_dictionary(struct mg_arrow_decoder *d, struct mg_buf *buf,
                             const struct mg_arrow__message *m, struct mg_error *err)
{
	FB(DictionaryBatch_table_t)
	header = (FB(DictionaryBatch_table_t))FB(Message_header_get)(m->table);
	FB(RecordBatch_table_t) batch = FB(DictionaryBatch_data)(header);
	struct dictionary *dictionary = NULL;
	for (size_t i = 0; i < d->dictionary_count; i++) {
		if (d->dictionaries[i].id == FB(DictionaryBatch_id)(header)) {
			dictionary = &d->dictionaries[i];
		}
	}
	if (!dictionary || !batch || FB(DictionaryBatch_isDelta)(header) || dictionary->array.release) {
		return mg_arrow__bad(err, "an unexpected dictionary");
	}
	struct ArrowArray array = { 0 };
	struct walk w = { .decoder = d, .buf = buf, .err = err };
	int code = begin_walk(&w, batch, m);
	if (code) {
		return code;
	}
	if (ArrowArrayInitFromSchema(&array, dictionary->values, NULL) != NANOARROW_OK) {
		return no_memory(err);
	}
	code = decode_node(&w, dictionary->shape, FB(RecordBatch_length)(batch), &array);
	if (code == MG_OK) {
		code = end_walk(&w);
	}
	if (code == MG_OK && ArrowArrayFinishBuilding(&array, NANOARROW_VALIDATION_LEVEL_NONE, NULL)) {
		code = no_memory(err);
	}
	if (code) {
		ArrowArrayRelease(&array);
		return code;
	}
	ArrowArrayMove(&array, &dictionary->array);
	return MG_OK;
}

static int decode_rows(struct mg_arrow_decoder *d, struct mg_buf *buf,
                       const struct mg_arrow__message *m, struct ArrowArray *out,
                       struct mg_error *err)
{
	FB(RecordBatch_table_t) batch = (FB(RecordBatch_table_t))FB(Message_header_get)(m->table);
	struct ArrowArray array = { 0 };
	struct walk w = { .decoder = d, .buf = buf, .err = err };
	int code = begin_walk(&w, batch, m);
	if (code) {
		return code;
	}
	if (ArrowArrayInitFromSchema(&array, &d->schema, NULL) != NANOARROW_OK) {
		return no_memory(err);
	}
	array.length = FB(RecordBatch_length)(batch);
	array.null_count = 0;
	if (array.length > BODILESS_LENGTH_MAX && is_bodiless(&d->shape)) {
		code = mg_arrow__bad(err, "too many rows without columns");
	}
	for (int64_t i = 0; i < d->shape.n_children && code == MG_OK; i++) {
		code = decode_node(&w, d->shape.children[i], array.length, array.children[i]);
	}
	if (code == MG_OK) {
		code = end_walk(&w);
	}
	if (code == MG_OK && ArrowArrayFinishBuilding(&array, NANOARROW_VALIDATION_LEVEL_NONE, NULL)) {
		code = no_memory(err);
	}
	if (code) {
		ArrowArrayRelease(&array);
		return code;
	}
	ArrowArrayMove(&array, out);
	return MG_OK;
}

/* Dictionaries, then one batch, then nothing. */
static int decode_messages(struct mg_arrow_decoder *d, struct mg_buf *buf, struct ArrowArray *out,
                           struct mg_error *err)
{
	size_t at = 0;
	for (;;) {
		struct mg_arrow__message m = { 0 };
		int code = mg_arrow__read_message(buf->data + at, buf->size - at, &m, err);
		if (code) {
			return code;
		}
		at += m.size;
		switch (FB(Message_header_type)(m.table)) {
		case FB(MessageHeader_DictionaryBatch):
			code = decode_dictionary(d, buf, &m, err);
			if (code) {
				return code;
			}
			break;
		case FB(MessageHeader_RecordBatch):
			return at == buf->size ? decode_rows(d, buf, &m, out, err)
			                       : mg_arrow__bad(err, "bytes behind the batch");
		default:
			return mg_arrow__bad(err, "a batch was expected");
		}
	}
}

int mg_arrow_decode_batch(struct mg_arrow_decoder *decoder, struct mg_buf *buf,
                          struct ArrowArray *out, struct mg_error *err)
{
	if (!decoder->schema.release) {
		return mg_arrow__bad(err, "rows before their schema");
	}
	struct mg_buf *held = mg_buf_ref(buf);
	if (((uintptr_t)buf->data & 7) != 0) {
		mg_buf_unref(held);
		held = mg_buf_copy(buf->data, buf->size);
		if (!held) {
			return no_memory(err);
		}
	}
	int code = decode_messages(decoder, held, out, err);
	drop_arrays(decoder);
	mg_buf_unref(held);
	return code;
}
