/*
 * arrow_message.c - messages found in bytes, and schema messages checked.
 *
 * flatcc's verifier makes sure that every table and vector lies inside of the header; it does not
 * demand that optional tables are there, which nanoarrow's schema reader does.
 */
#include "codec/arrow_message.h"

#include "base/assert.h"
#include "base/mem.h"
#include "codec/arrow_ipc.h"
#include "codec/arrow_schema.h"

#include <stdbool.h>

#define UNION_MEMBERS_MAX 127

int mg_arrow__bad(struct mg_error *err, const char *what)
{
	return mg_error_set(err, MG_E_PROTOCOL, "bad Arrow message: %s", what);
}

static uint32_t read_u32(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
	       (uint32_t)from[3] << 24;
}

/* Prefix at bytes: *header is the length of the flatbuffer, 0 at the end of a stream. */
static int read_prefix(const uint8_t *bytes, size_t *header, struct mg_error *err)
{
	if (read_u32(bytes) != UINT32_MAX) {
		return mg_arrow__bad(err, "it does not start with the continuation mark");
	}
	uint32_t length = read_u32(bytes + 4);
	if (length > INT32_MAX || length % 8 != 0) {
		return mg_arrow__bad(err, "impossible length of the header");
	}
	*header = length;
	return MG_OK;
}

/* Verify the flatbuffer (8-aligned) and find the length of the body. */
static int read_header(const uint8_t *header, size_t header_size, struct mg_arrow__message *m,
                       struct mg_error *err)
{
	mg_assert(((uintptr_t)header & 7) == 0);
	if (FB(Message_verify_as_root)(header, header_size) != flatcc_verify_ok) {
		return mg_arrow__bad(err, "the header is damaged");
	}
	m->table = FB(Message_as_root)(header);
	if (!m->table || FB(Message_version)(m->table) != FB(MetadataVersion_V5) ||
	    !FB(Message_header_get)(m->table)) {
		return mg_arrow__bad(err, "not a message of metadata version 5");
	}
	int64_t body = FB(Message_bodyLength)(m->table);
	if (body < 0 || body % 8 != 0) {
		return mg_arrow__bad(err, "impossible length of the body");
	}
	m->body_size = (size_t)body;
	return MG_OK;
}

/* The whole message at bytes (8-aligned). */
int mg_arrow__read_message(const uint8_t *bytes, size_t size, struct mg_arrow__message *m,
                           struct mg_error *err)
{
	size_t header;
	if (size < 8) {
		return mg_arrow__bad(err, "it is cut off");
	}
	int code = read_prefix(bytes, &header, err);
	if (code) {
		return code;
	}
	if (header == 0 || header > size - 8) {
		return mg_arrow__bad(err, "it is cut off");
	}
	code = read_header(bytes + 8, header, m, err);
	if (code) {
		return code;
	}
	if (m->body_size > size - 8 - header) {
		return mg_arrow__bad(err, "its body is cut off");
	}
	m->body = bytes + 8 + header;
	m->size = 8 + header + m->body_size;
	return MG_OK;
}

int mg_arrow_message_size(const void *bytes, size_t size, size_t size_max, size_t *message_size,
                          bool *end, struct mg_error *err)
{
	*message_size = 0;
	*end = false;
	if (size < 8) {
		return MG_OK;
	}
	size_t header;
	int code = read_prefix(bytes, &header, err);
	if (code) {
		return code;
	}
	if (header == 0) {
		*message_size = 8;
		*end = true;
		return MG_OK;
	}
	if (header > size_max || size_max - header < 8) {
		return mg_error_set(err, MG_E_LIMIT, "an Arrow message is larger than %zu bytes", size_max);
	}
	if (size - 8 < header) {
		return MG_OK;
	}
	/* The bytes of a stream may lie at any address. */
	struct mg_buf *copy = mg_buf_copy((const uint8_t *)bytes + 8, header);
	if (!copy) {
		return mg_error_set(err, MG_E_NOMEM, "out of memory while reading a message");
	}
	struct mg_arrow__message m = { 0 };
	code = read_header(copy->data, header, &m, err);
	mg_buf_unref(copy);
	if (code) {
		return code;
	}
	if (m.body_size > size_max - 8 - header) {
		return mg_error_set(err, MG_E_LIMIT, "an Arrow message is larger than %zu bytes", size_max);
	}
	if (m.body_size <= size - 8 - header) {
		*message_size = 8 + header + m.body_size;
	}
	return MG_OK;
}

/* ---- schemas ---- */

static int check_metadata(FB(KeyValue_vec_t) pairs, struct mg_error *err)
{
	for (size_t i = 0; i < FB(KeyValue_vec_len)(pairs); i++) {
		FB(KeyValue_table_t) pair = FB(KeyValue_vec_at)(pairs, i);
		if (!pair || !FB(KeyValue_key)(pair) || !FB(KeyValue_value)(pair)) {
			return mg_arrow__bad(err, "metadata without a key or value");
		}
	}
	return MG_OK;
}

static int check_decimal(FB(Field_table_t) field, struct mg_error *err)
{
	FB(Decimal_table_t) decimal = (FB(Decimal_table_t))FB(Field_type_get)(field);
	int32_t precision = FB(Decimal_precision)(decimal);
	int32_t scale = FB(Decimal_scale)(decimal);
	if (precision < 1 || precision > MG_ARROW_DECIMAL_MAX || scale < 0 || scale > precision) {
		return mg_arrow__bad(err, "an impossible decimal type");
	}
	return MG_OK;
}

/* Everything nanoarrow will follow is there.  The depth is bounded by flatcc's verifier too. */
static int check_fields(FB(Field_vec_t) fields, unsigned depth, struct mg_error *err)
{
	if (depth > MG_ARROW_DEPTH_MAX) {
		return mg_arrow__bad(err, "columns are nested too deep");
	}
	for (size_t i = 0; i < FB(Field_vec_len)(fields); i++) {
		FB(Field_table_t) field = FB(Field_vec_at)(fields, i);
		if (!field || !FB(Field_type_get)(field)) {
			return mg_arrow__bad(err, "a column without a type");
		}
		FB(Field_vec_t) children = FB(Field_children)(field);
		if (FB(Field_type_type)(field) == FB(Type_Union) &&
		    FB(Field_vec_len)(children) > UNION_MEMBERS_MAX) {
			return mg_arrow__bad(err, "a union of too many members");
		}
		FB(DictionaryEncoding_table_t) coding = FB(Field_dictionary)(field);
		if (coding && !FB(DictionaryEncoding_indexType)(coding)) {
			return mg_arrow__bad(err, "a dictionary without a type of index");
		}
		int code = check_metadata(FB(Field_custom_metadata)(field), err);
		if (code == MG_OK && FB(Field_type_type)(field) == FB(Type_Decimal)) {
			code = check_decimal(field, err);
		}
		if (code == MG_OK) {
			code = check_fields(children, depth + 1, err);
		}
		if (code) {
			return code;
		}
	}
	return MG_OK;
}

int mg_arrow__check_schema(FB(Schema_table_t) schema, struct mg_error *err)
{
	int code = check_metadata(FB(Schema_custom_metadata)(schema), err);
	return code ? code : check_fields(FB(Schema_fields)(schema), 0, err);
}
