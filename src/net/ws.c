/*
 * ws.c - WebSocket (RFC 6455) on a connection: the server side by upgrade, the client side by
 * dialling.
 *
 * Two ways in. Whole binary messages, which carry all the data there is, are read here: from the
 * socket's bytes into the message's own buffer, unmasked on the way. Everything else (texts,
 * fragments, control frames, and whatever is wrong) goes to wslay, frame by frame; it checks UTF-8
 * and the rules, and answers pings and closes. wslay alone unmasks byte by byte, which costs one
 * CPU second a GiB.
 *
 * Data is written here: a frame's head and then the caller's buffer, uncopied, into the
 * connection's queue, where every frame lies whole; so control frames of wslay never fall into the
 * middle of one.
 *
 * Masking: a client must mask. Over TLS nobody between could be fooled by our bytes, and the key is
 * zero, which leaves the payload as it is and saves a copy of gigabytes; over plaintext it is
 * random.
 *
 * owner: the connection's loop.   Limits: message_max; CLOSE_MS for the peer's answer to a close.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <wslay/wslay.h>

#include "net/ws_int.h"

enum {
	CLOSE_MS = 30000,
	FRAME_HEAD_MAX = 14,
};

/* to = from, masked or unmasked; at: the offset of both in the payload. */
static void copy_masked(uint8_t *to, const uint8_t *from, size_t size, const uint8_t *mask,
                        uint64_t at)
{
	uint8_t turned[8];
	uint64_t key;

	for (size_t i = 0; i < sizeof turned; i++) {
		turned[i] = mask[(at + i) & 3];
	}
	memcpy(&key, turned, sizeof key);
	if (key == 0) {
		memcpy(to, from, size);
		return;
	}
	for (; size >= sizeof key; size -= sizeof key) {
		uint64_t word;

		memcpy(&word, from, sizeof word);
		word ^= key;
		memcpy(to, &word, sizeof word);
		from += sizeof word;
		to += sizeof word;
	}
	for (size_t i = 0; i < size; i++) {
		to[i] = from[i] ^ turned[i];
	}
}

/* ---- reading: wslay's callbacks ---- */

static ssize_t on_recv(wslay_event_context_ptr wslay, uint8_t *bytes, size_t size, int flags,
                       void *arg)
{
	struct mg_ws *ws = arg;

	(void)flags;
	if (ws->in_size == 0 || ws->conn->paused) {
		wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (size > ws->in_size) {
		size = ws->in_size;
	}
	memcpy(bytes, ws->in, size);
	ws->in += size;
	ws->in_size -= size;
	return (ssize_t)size;
}

static void refuse_message(struct mg_ws *ws, uint16_t code, const char *why)
{
	(void)wslay_event_queue_close(ws->wslay, code, (const uint8_t *)why, strlen(why));
	wslay_event_shutdown_read(ws->wslay);
	ws->broken = true;
}

/* Room for size more bytes and a zero behind them. */
static bool reserve(struct mg_ws *ws, size_t size)
{
	struct mg_buf *old = ws->message;
	size_t used = old != NULL ? old->size : 0;

	if (old != NULL && old->cap - used > size) {
		return true;
	}
	struct mg_buf *fresh = mg_buf_new(used + size + 1 + (old != NULL ? used : 0));

	if (fresh == NULL) {
		return false;
	}
	if (old != NULL) {
		memcpy(fresh->data, old->data, used);
		fresh->size = used;
		mg_buf_unref(old);
	}
	ws->message = fresh;
	return true;
}

static void on_frame(wslay_event_context_ptr wslay,
                     const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct mg_ws *ws = arg;
	size_t used = ws->message != NULL ? ws->message->size : 0;

	(void)wslay;
	ws->in_control = wslay_is_ctrl_frame(frame->opcode) != 0;
	if (ws->in_control) {
		return;
	}
	if (frame->payload_length > ws->handler->message_max - used) {
		refuse_message(ws, WSLAY_CODE_MESSAGE_TOO_BIG, "the message is too large");
	} else if (!reserve(ws, (size_t)frame->payload_length)) {
		refuse_message(ws, WSLAY_CODE_MESSAGE_TOO_BIG, "no memory for the message");
	}
}

static void on_piece(wslay_event_context_ptr wslay,
                     const struct wslay_event_on_frame_recv_chunk_arg *piece, void *arg)
{
	struct mg_ws *ws = arg;

	(void)wslay;
	if (ws->in_control || ws->broken) {
		return;
	}
	mg_assert(ws->message->cap - ws->message->size > piece->data_length);
	memcpy(ws->message->data + ws->message->size, piece->data, piece->data_length);
	ws->message->size += piece->data_length;
}

static void on_message(wslay_event_context_ptr wslay,
                       const struct wslay_event_on_msg_recv_arg *message, void *arg)
{
	struct mg_ws *ws = arg;
	struct mg_buf *buf = ws->message;

	(void)wslay;
	if (message->opcode == WSLAY_CONNECTION_CLOSE) {
		if (message->msg_length > 2) { /* behind the code */
			(void)snprintf(ws->reason, sizeof ws->reason, "%.*s", (int)message->msg_length - 2,
			               (const char *)message->msg + 2);
		}
		return;
	}
	if (wslay_is_ctrl_frame(message->opcode)) {
		return;
	}
	mg_assert(buf != NULL);
	ws->message = NULL;
	buf->data[buf->size] = 0; /* Texts are also zero-terminated. */
	if (message->opcode == WSLAY_TEXT_FRAME && ws->handler->text != NULL) {
		ws->handler->text(ws, ws->state, (const char *)buf->data, buf->size);
	} else if (message->opcode == WSLAY_BINARY_FRAME && ws->handler->binary != NULL) {
		ws->handler->binary(ws, ws->state, buf);
	}
	mg_buf_unref(buf);
}

/* ---- writing ---- */

static ssize_t on_send(wslay_event_context_ptr wslay, const uint8_t *bytes, size_t size, int flags,
                       void *arg)
{
	struct mg_ws *ws = arg;

	(void)wslay;
	(void)flags;
	mg_conn_write(ws->conn, bytes, size);
	return (ssize_t)size;
}

static int on_mask(wslay_event_context_ptr wslay, uint8_t *key, size_t size, void *arg)
{
	(void)wslay;
	(void)arg;
	return RAND_bytes(key, (int)size) == 1 ? 0 : -1;
}

/* wslay's control frames into the queue; the end when both sides have said close, or one has broken
 * the rules. */
static void send_control(struct mg_ws *ws)
{
	if (wslay_event_want_write(ws->wslay) && wslay_event_send(ws->wslay) != 0) {
		mg_conn__fail(ws->conn, "no memory for a control frame");
		return;
	}
	if (!wslay_event_get_close_sent(ws->wslay)) {
		return;
	}
	if (wslay_event_get_close_received(ws->wslay) || !wslay_event_get_read_enabled(ws->wslay)) {
		mg_conn_close_after_write(ws->conn);
	}
}

static bool can_send(const struct mg_ws *ws)
{
	return ws->open && !ws->close_asked && ws->conn->phase == MG_CONN_OPEN &&
	       !wslay_event_get_close_sent(ws->wslay) && !ws->broken;
}

/* The head of a whole frame; returns its length. */
static size_t frame_head(uint8_t *head, uint8_t opcode, uint64_t size, const uint8_t *mask)
{
	size_t len = 2;
	int width = size < 126 ? 0 : size <= UINT16_MAX ? 2 : 8;
	uint8_t code = width == 0 ? (uint8_t)size : width == 2 ? 126 : 127;

	head[0] = (uint8_t)(0x80 | opcode);
	head[1] = (uint8_t)(code | (mask != NULL ? 0x80 : 0));
	for (int i = width - 1; i >= 0; i--) {
		head[len++] = (uint8_t)(size >> (8 * i));
	}
	if (mask != NULL) {
		memcpy(head + len, mask, 4);
		len += 4;
	}
	return len;
}

/* Write bytes masked; at: their offset in the payload. */
static void write_masked(struct mg_ws *ws, const uint8_t *bytes, size_t size, const uint8_t *mask,
                         uint64_t at)
{
	uint8_t piece[4096];

	while (size > 0) {
		size_t count = size < sizeof piece ? size : sizeof piece;

		copy_masked(piece, bytes, count, mask, at);
		mg_conn_write(ws->conn, piece, count);
		bytes += count;
		at += count;
		size -= count;
	}
}

static void send_frame(struct mg_ws *ws, uint8_t opcode, const void *head, size_t head_size,
                       struct mg_buf *buf)
{
	uint8_t bytes[FRAME_HEAD_MAX];
	uint8_t mask[4] = { 0 };
	bool masked = ws->client && !mg_conn_is_tls(ws->conn);
	uint64_t size = head_size + (buf != NULL ? buf->size : 0);

	if (!can_send(ws)) {
		return;
	}
	if (masked && RAND_bytes(mask, sizeof mask) != 1) {
		mg_conn__fail(ws->conn, "no random bytes");
		return;
	}
	mg_conn_write(ws->conn, bytes, frame_head(bytes, opcode, size, ws->client ? mask : NULL));
	if (masked) {
		write_masked(ws, head, head_size, mask, 0);
		if (buf != NULL) {
			write_masked(ws, buf->data, buf->size, mask, head_size);
		}
		return;
	}
	mg_conn_write(ws->conn, head, head_size);
	if (buf != NULL) {
		mg_conn_write_buf(ws->conn, buf);
	}
}

void mg_ws_send_text(struct mg_ws *ws, const char *text, size_t len)
{
	send_frame(ws, WSLAY_TEXT_FRAME, text, len, NULL);
}

void mg_ws_send_binary(struct mg_ws *ws, const void *head, size_t head_size, struct mg_buf *buf)
{
	send_frame(ws, WSLAY_BINARY_FRAME, head, head_size, buf);
}

void mg_ws_ping(struct mg_ws *ws)
{
	send_frame(ws, WSLAY_PING, "", 0, NULL);
}

void mg_ws_close(struct mg_ws *ws, int code, const char *reason)
{
	mg_assert(mg_loop_is_current(ws->conn->loop));
	if (!ws->open) {
		mg_conn_close(ws->conn);
		return;
	}
	if (ws->close_asked || ws->conn->phase != MG_CONN_OPEN) {
		return;
	}
	ws->close_asked = true;
	size_t len = reason != NULL ? strlen(reason) : 0;

	if (len > 122) {
		len = 122; /* A control frame holds 125 bytes, two of them the code. */
	}
	while (len > 0 && !mg_utf8_valid(reason, len)) {
		len--;
	}
	(void)wslay_event_queue_close(ws->wslay, (uint16_t)code, (const uint8_t *)reason, len);
	mg_conn__deadline(ws->conn, CLOSE_MS, "the peer did not answer the close");
	mg_conn_pause_read(ws->conn, false); /* or its answer would never be read */
	send_control(ws);
}

/* ---- the protocol ---- */

/* wslay has given up without a close frame of its own, as it does for a length of 2^63. */
static void break_off(struct mg_ws *ws)
{
	static const uint8_t code[] = { WSLAY_CODE_PROTOCOL_ERROR >> 8,
		                            WSLAY_CODE_PROTOCOL_ERROR & 0xff };

	if (can_send(ws)) {
		send_frame(ws, WSLAY_CONNECTION_CLOSE, code, sizeof code, NULL);
		ws->broken_code = WSLAY_CODE_PROTOCOL_ERROR;
	}
	ws->broken = true;
	mg_conn_close_after_write(ws->conn);
}

/* The head of the frame that begins at bytes; false when it has not come whole. */
static bool parse_head(struct mg_ws_frame *frame, const uint8_t *bytes, size_t size)
{
	if (size < 2) {
		return false;
	}
	uint8_t code = bytes[1] & 0x7f;
	size_t width = code < 126 ? 0 : code == 126 ? 2 : 8;

	*frame = (struct mg_ws_frame){ .masked = (bytes[1] & 0x80) != 0 };
	frame->head_size = 2 + width + (frame->masked ? 4 : 0);
	if (size < frame->head_size) {
		return false;
	}
	frame->size = width == 0 ? code : 0;
	for (size_t i = 0; i < width; i++) {
		frame->size = frame->size << 8 | bytes[2 + i];
	}
	frame->minimal = width == 0 || frame->size > (width == 2 ? 125 : UINT16_MAX);
	if (frame->masked) {
		memcpy(frame->mask, bytes + 2 + width, 4);
	}
	return true;
}

/* A whole binary message in one frame, with nothing about it that wslay would have to judge. */
static bool is_plain_binary(const struct mg_ws *ws, const struct mg_ws_frame *frame, uint8_t first)
{
	return first == (0x80 | WSLAY_BINARY_FRAME) && frame->masked != ws->client && frame->minimal &&
	       frame->size <= ws->handler->message_max && ws->message == NULL;
}

/* Begin a frame; false when its head is not whole. A head that is read here counts as used. */
static bool begin_frame(struct mg_ws *ws, const uint8_t *bytes, size_t size, size_t *used)
{
	struct mg_ws_frame *frame = &ws->frame;

	if (!parse_head(frame, bytes, size)) {
		return false;
	}
	frame->direct = is_plain_binary(ws, frame, bytes[0]) && reserve(ws, (size_t)frame->size);
	if (frame->direct) {
		*used += frame->head_size;
	} else {
		/* A length of 2^63 and more is refused by wslay; the sum must not wrap before that. */
		frame->wslay_left = frame->size > INT64_MAX ? UINT64_MAX : frame->head_size + frame->size;
	}
	return true;
}

static size_t read_direct(struct mg_ws *ws, const uint8_t *bytes, size_t size)
{
	struct mg_buf *message = ws->message;
	size_t left = (size_t)ws->frame.size - message->size;
	size_t count = size < left ? size : left;

	copy_masked(message->data + message->size, bytes, count, ws->frame.mask, message->size);
	message->size += count;
	if (count == left) {
		ws->frame.direct = false;
		ws->message = NULL;
		if (ws->handler->binary != NULL) {
			ws->handler->binary(ws, ws->state, message);
		}
		mg_buf_unref(message);
	}
	return count;
}

static size_t read_by_wslay(struct mg_ws *ws, const uint8_t *bytes, size_t size)
{
	size_t given = size < ws->frame.wslay_left ? size : (size_t)ws->frame.wslay_left;

	ws->in = bytes;
	ws->in_size = given;
	if (wslay_event_recv(ws->wslay) != 0) {
		break_off(ws);
		return size;
	}
	if (!wslay_event_get_read_enabled(ws->wslay)) {
		return size; /* After a close nothing counts. */
	}
	ws->frame.wslay_left -= given - ws->in_size;
	return given - ws->in_size;
}

static long ws_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_ws *ws = state;
	size_t used = 0;

	ws->last_heard_ms = uv_now(&conn->loop->uv);
	do {
		bool between = !ws->frame.direct && ws->frame.wslay_left == 0;

		if (between && !begin_frame(ws, bytes + used, size - used, &used)) {
			break;
		}
		/* Also with no bytes left: an empty message is complete with its head. */
		used += ws->frame.direct ? read_direct(ws, bytes + used, size - used)
		                         : read_by_wslay(ws, bytes + used, size - used);
	} while (used < size && conn->phase == MG_CONN_OPEN && !conn->paused);
	send_control(ws);
	return (long)used;
}

static void ws_drain(struct mg_conn *conn, void *state)
{
	struct mg_ws *ws = state;

	(void)conn;
	if (ws->handler->drain != NULL) {
		ws->handler->drain(ws, ws->state);
	}
}

static void ws_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_ws *ws = state;
	int code = WSLAY_CODE_ABNORMAL_CLOSURE;

	(void)conn;
	if (wslay_event_get_close_received(ws->wslay)) {
		code = wslay_event_get_status_code_received(ws->wslay);
	} else if (wslay_event_get_close_sent(ws->wslay)) {
		code = wslay_event_get_status_code_sent(ws->wslay);
	} else if (ws->broken_code != 0) {
		code = ws->broken_code;
	}
	if (ws->handler->closed != NULL) {
		ws->handler->closed(ws, ws->state, code, ws->reason[0] != '\0' ? ws->reason : reason);
	}
	mg_ws__free(ws);
}

const struct mg_protocol mg_ws__protocol = {
	.name = "websocket",
	.data = ws_data,
	.drain = ws_drain,
	.closed = ws_closed,
};

struct mg_ws *mg_ws__new(struct mg_conn *conn, bool client, const struct mg_ws_handler *handler,
                         void *state)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.genmask_callback = on_mask,
		.on_frame_recv_start_callback = on_frame,
		.on_frame_recv_chunk_callback = on_piece,
		.on_msg_recv_callback = on_message,
	};
	struct mg_ws *ws = mg_alloc0(sizeof *ws);
	int status = client ? wslay_event_context_client_init(&ws->wslay, &callbacks, ws)
	                    : wslay_event_context_server_init(&ws->wslay, &callbacks, ws);

	mg_assert(status == 0); /* It fails for lack of a few hundred bytes only. */
	wslay_event_config_set_no_buffering(ws->wslay, 1);
	wslay_event_config_set_max_recv_msg_length(ws->wslay, handler->message_max);
	ws->conn = conn;
	ws->client = client;
	ws->handler = handler;
	ws->state = state;
	ws->last_heard_ms = uv_now(&conn->loop->uv);
	return ws;
}

void mg_ws__free(struct mg_ws *ws)
{
	wslay_event_context_free(ws->wslay);
	mg_buf_unref(ws->message);
	mg_free(ws->shake);
	mg_free(ws);
}

void mg_ws__accept_key(const char *key, char *out)
{
	uint8_t digest[SHA_DIGEST_LENGTH];
	char text[64];
	int len = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);

	(void)SHA1((const unsigned char *)text, (size_t)len, digest);
	(void)EVP_EncodeBlock((unsigned char *)out, digest, sizeof digest);
}

/* ---- questions ---- */

uint64_t mg_ws_last_heard_ms(const struct mg_ws *ws)
{
	return ws->last_heard_ms;
}

size_t mg_ws_queued(const struct mg_ws *ws)
{
	return ws->conn->queued;
}

void mg_ws_pause_read(struct mg_ws *ws, bool pause)
{
	mg_conn_pause_read(ws->conn, pause && !ws->close_asked);
}

struct mg_conn *mg_ws_conn(struct mg_ws *ws)
{
	return ws->conn;
}
