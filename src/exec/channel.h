/*
 * channel.h - frames between a server and a worker over one WebSocket.
 *
 * Text messages are JSON control frames; binary messages are a 40-byte head and a payload:
 *
 *   offset  size  field
 *        0     1  kind        1 schema, 2 batch, 3 chunk of a shard file, 4 hashes of its chunks,
 *                             5 what a shard has applied (replica/follow_log.h)
 *        1     7  zero
 *        8     8  id          query number; 3, 4, 5: shard id
 *       16     4  stage       chunk: chunk number
 *       20     4  target      participant, or 0xffffffff for everybody
 *       24     8  rows
 *       32     8  checksum    XXH3-64 of the payload
 *
 * Received frames are handed, in order, to one handler on the channel's own thread, so a handler
 * may block on a disk or on another channel without holding up a loop.  Sending is possible from
 * any thread; data waits while more than MG_STREAM_HIGH bytes are queued, control does not.  A
 * frame that does not parse or whose checksum is wrong closes the channel: its peer cannot be
 * trusted.
 */
#ifndef MG_EXEC_CHANNEL_H
#define MG_EXEC_CHANNEL_H

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/http.h"

#define MG_HUB_PROTOCOL 2 /* between a server and its workers (docs/protocol.md) */

/* Rows are cut into batches far below this; a single row may need more than a batch has. */
#define MG_CHANNEL_MESSAGE_MAX (64u << 20)

enum mg_frame_kind {
	MG_FRAME_SCHEMA = 1,
	MG_FRAME_BATCH = 2,
	MG_FRAME_CHUNK = 3,
	MG_FRAME_HASHES = 4,
	MG_FRAME_ENTRIES = 5,
};

struct mg_frame {
	uint8_t kind;
	uint64_t id;
	uint32_t stage, target;
	uint64_t rows;
};

struct mg_channel;

struct mg_channel_handler {
	/* json lives until the handler returns.  A code other than 0 closes the channel. */
	int (*control)(void *arg, const struct mg_json *json, struct mg_error *err);
	/* payload may be kept with a ref. */
	int (*data)(void *arg, const struct mg_frame *frame, struct mg_buf *payload,
	            struct mg_error *err);
	/* Last call, on the channel's thread; the channel itself lives until unref. */
	void (*closed)(void *arg, const char *reason);
	void *arg;
	size_t message_max; /* bytes of one message; at least MG_CHANNEL_MESSAGE_MAX is taken */
};

/* Server: take over an upgrade request (on its loop). NULL when the request was no upgrade, or no
 * thread can be had for the channel; either way the peer has been answered. */
struct mg_channel *mg_channel_accept(struct mg_http_request *request,
                                     const struct mg_channel_handler *handler);
/* Worker: on a dialled connection (on its loop); opened is called with the HTTP status of the
 * upgrade. NULL when no thread can be had: MG_E_NOMEM, and the connection is closed. */
struct mg_channel *mg_channel_connect(struct mg_conn *conn, const char *host, const char *path,
                                      const char *headers, const struct mg_channel_handler *handler,
                                      void (*opened)(void *arg, int status), struct mg_error *err);

struct mg_channel *mg_channel_ref(struct mg_channel *channel);
void mg_channel_unref(struct mg_channel *channel);

/* Any thread.  text is copied. */
void mg_channel_send(struct mg_channel *channel, const char *text);
void mg_channel_sendf(struct mg_channel *channel, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Any thread but a loop's; takes a ref on payload. Fails MG_E_DISCONNECTED. */
int mg_channel_send_data(struct mg_channel *channel, const struct mg_frame *frame,
                         struct mg_buf *payload, struct mg_error *err);
void mg_channel_close(struct mg_channel *channel, const char *reason); /* any thread */
/* Without the closing handshake, for a peer that does not answer any more. */
void mg_channel_abort(struct mg_channel *channel, const char *reason);
bool mg_channel_is_open(struct mg_channel *channel);
/* Milliseconds since the peer was last heard; 0 while we ourselves hold its frames back. Any
 * thread. */
uint64_t mg_channel_silence_ms(struct mg_channel *channel);
void mg_channel_ping(struct mg_channel *channel); /* any thread */
uint64_t mg_channel_bytes_sent(const struct mg_channel *channel);
bool mg_channel_is_same_host(const struct mg_channel *channel);
const char *mg_channel_peer(const struct mg_channel *channel);

/* ---- the head, pure (fuzzed) ---- */
#define MG_FRAME_HEAD 40
#define MG_FRAME_PAYLOAD_MAX (MG_CHANNEL_MESSAGE_MAX - MG_FRAME_HEAD)
void mg_frame_encode(uint8_t head[MG_FRAME_HEAD], const struct mg_frame *frame, const void *payload,
                     size_t size);
int mg_frame_decode(const void *message, size_t size, struct mg_frame *frame, struct mg_error *err);

#endif
