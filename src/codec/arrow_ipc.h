/*
 * arrow_ipc.h - Arrow IPC messages: the only form in which rows cross a thread, node or client.
 *
 * A stream is a schema message, record batch messages and an end.  Each message here is one
 * mg_buf in the encapsulated format (0xFFFFFFFF, length, flatbuffer, padding, body), so buffers can
 * be queued, spooled, sent and concatenated as they are.  Bodies may be LZ4-compressed.
 * Decoding validates everything (lengths, offsets, UTF-8) before a value can be touched.
 *
 * Pure; thread: each encoder or decoder has one owner.
 */
#ifndef MG_CODEC_ARROW_IPC_H
#define MG_CODEC_ARROW_IPC_H

#include "base/error.h"
#include "base/mem.h"

#include <nanoarrow/nanoarrow.h>

struct mg_arrow_encoder;
struct mg_arrow_decoder;

int mg_arrow_encoder_new(struct mg_arrow_encoder **out, const struct ArrowSchema *schema, bool lz4,
                         struct mg_error *err);
void mg_arrow_encoder_free(struct mg_arrow_encoder *encoder);
int mg_arrow_encode_schema(struct mg_arrow_encoder *encoder, struct mg_buf **out,
                           struct mg_error *err);
/* One or more messages (dictionaries, then the batch) in one buffer; array is not released.
 * *raw_bytes: size before compression. */
int mg_arrow_encode_batch(struct mg_arrow_encoder *encoder, const struct ArrowArray *array,
                          struct mg_buf **out, uint64_t *raw_bytes, struct mg_error *err);
/* Bytes that the buffers of a batch hold, with those of its children; dictionaries do not count. */
uint64_t mg_arrow_buffer_bytes(const struct ArrowArrayView *view);
/* The 8 bytes that end a stream. */
extern const uint8_t mg_arrow_end[8];

int mg_arrow_decoder_new(struct mg_arrow_decoder **out, struct mg_error *err);
void mg_arrow_decoder_free(struct mg_arrow_decoder *decoder);
/* Read the schema message at the start of bytes; *used: its length.  The decoder keeps it. */
int mg_arrow_decode_schema(struct mg_arrow_decoder *decoder, const void *bytes, size_t size,
                           size_t *used, struct mg_error *err);
const struct ArrowSchema *mg_arrow_decoder_schema(const struct mg_arrow_decoder *decoder);
/* Decode a buffer made by mg_arrow_encode_batch (dictionary messages, then a batch) into an array
 * that the caller releases; it may keep a reference on buf. */
int mg_arrow_decode_batch(struct mg_arrow_decoder *decoder, struct mg_buf *buf,
                          struct ArrowArray *out, struct mg_error *err);

/* Split a byte stream into messages: length of the whole message at bytes, 0 when more is needed;
 * fails on garbage or when it passes size_max. */
int mg_arrow_message_size(const void *bytes, size_t size, size_t size_max, size_t *message_size,
                          bool *end, struct mg_error *err);

#endif
