/*
 * arrow_message.h - the frame around Arrow's flatbuffers.  Private to codec.
 *
 *   FFFFFFFF | u32 length of the header | flatbuffer Message, padded to 8 | body
 */
#ifndef MG_CODEC_ARROW_MESSAGE_H
#define MG_CODEC_ARROW_MESSAGE_H

#include "base/error.h"

#include <nanoarrow/ipc/flatcc_generated.h>
#include <stddef.h>

#define FB(name) org_apache_arrow_flatbuf_##name

/* One message, verified; it points into the bytes it was read from. */
struct mg_arrow__message {
	FB(Message_table_t) table;
	const uint8_t *body;
	size_t body_size;
	size_t size; /* with prefix, header and body */
};

/* Says MG_E_PROTOCOL: "bad Arrow message: <what>". */
int mg_arrow__bad(struct mg_error *err, const char *what);

/* The whole message at bytes, which must be 8-aligned. */
int mg_arrow__read_message(const uint8_t *bytes, size_t size, struct mg_arrow__message *m,
                           struct mg_error *err);

/* Everything that nanoarrow will follow in a schema is there and within bounds. */
int mg_arrow__check_schema(FB(Schema_table_t) schema, struct mg_error *err);

#endif
