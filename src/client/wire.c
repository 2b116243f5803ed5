/*
 * wire.c - the client's side of a WebSocket, on wslay and the blocking socket.
 *
 * Rule: at most one message is taken from the socket for each call of mg_wire_receive.  What the
 * program does not ask for stays in the kernel's buffers, and so the server feels that its reader
 * is slow.
 *
 * Limit: messages up to MG_WIRE_MESSAGE_MAX bytes.
 */
#include "client/wire.h"

#include "base/assert.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <wslay/wslay.h>

#define HELLO_TIMEOUT_MS 15000
#define CLOSE_NORMAL 1000

struct mg_wire {
	struct mg_client_socket *socket;
	wslay_event_context_ptr ws;
	struct mg_sb early;             /* bytes that came right behind the upgrade's answer */
	size_t early_used;
	struct mg_buf *building;        /* the message that is being put together */
	bool building_text;
	bool in_control;                /* the current frame is ping, pong or close */
	/* Whole messages: more than one only when they fit into one read of wslay (4 KiB). */
	struct mg_wire_message *ready;
	size_t ready_count, ready_cap, ready_taken;
	bool too_large;
	bool failed;                    /* the socket is gone */
	struct mg_error error;
};

/* ---- what wslay calls ------------------------------------------------------------------------ */

static ssize_t on_recv(wslay_event_context_ptr ws, uint8_t *bytes, size_t size, int flags,
                       void *arg)
{
	struct mg_wire *wire = arg;
	size_t got = 0;

	(void)flags;
	if (wire->ready_count > 0) {
		wslay_event_set_error(ws, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (wire->early_used < wire->early.len) {
		got = wire->early.len - wire->early_used;
		got = got < size ? got : size;
		memcpy(bytes, wire->early.ptr + wire->early_used, got);
		wire->early_used += got;
		return (ssize_t)got;
	}
	if (mg_client_socket_read(wire->socket, bytes, size, &got, &wire->error)) {
		wire->failed = true;
		wslay_event_set_error(ws, WSLAY_ERR_CALLBACK_FAILURE);
		return -1;
	}
	if (got == 0) {
		wslay_event_set_error(ws, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	return (ssize_t)got;
}

static ssize_t on_send(wslay_event_context_ptr ws, const uint8_t *bytes, size_t size, int flags,
                       void *arg)
{
	struct mg_wire *wire = arg;

	(void)flags;
	if (mg_client_socket_write(wire->socket, bytes, size, &wire->error)) {
		wire->failed = true;
		wslay_event_set_error(ws, WSLAY_ERR_CALLBACK_FAILURE);
		return -1;
	}
	return (ssize_t)size;
}

static int on_mask(wslay_event_context_ptr ws, uint8_t *bytes, size_t size, void *arg)
{
	(void)ws;
	(void)arg;
	return getrandom(bytes, size, 0) == (ssize_t)size ? 0 : -1;
}

static bool make_room(struct mg_wire *wire, uint64_t more)
{
	struct mg_buf *old = wire->building, *bigger;
	size_t used = old ? old->size : 0;

	if (more > MG_WIRE_MESSAGE_MAX || used + more > MG_WIRE_MESSAGE_MAX) {
		return false;
	}
	if (old && used + more + 1 <= old->cap) {
		return true;
	}
	/* One byte more, so that text can be ended with a zero. */
	bigger = mg_buf_new(used + more + 1);
	if (!bigger) {
		return false;
	}
	if (old) {
		memcpy(bigger->data, old->data, used);
		bigger->size = used;
		mg_buf_unref(old);
	}
	wire->building = bigger;
	return true;
}

static void on_frame(wslay_event_context_ptr ws,
                     const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct mg_wire *wire = arg;

	(void)ws;
	wire->in_control = wslay_is_ctrl_frame(frame->opcode);
	if (wire->in_control) {
		return;
	}
	if (frame->opcode != WSLAY_CONTINUATION_FRAME) {
		wire->building_text = frame->opcode == WSLAY_TEXT_FRAME;
	}
	wire->too_large = wire->too_large || !make_room(wire, frame->payload_length);
}

static void on_chunk(wslay_event_context_ptr ws,
                     const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct mg_wire *wire = arg;

	(void)ws;
	if (wire->in_control || wire->too_large) {
		return;
	}
	mg_assert(wire->building->size + chunk->data_length < wire->building->cap);
	memcpy(wire->building->data + wire->building->size, chunk->data, chunk->data_length);
	wire->building->size += chunk->data_length;
}

static void on_message(wslay_event_context_ptr ws,
                       const struct wslay_event_on_msg_recv_arg *message, void *arg)
{
	struct mg_wire *wire = arg;

	(void)ws;
	if (!wslay_is_ctrl_frame(message->opcode) && wire->building) {
		wire->building->data[wire->building->size] = 0;
		mg_grow(wire->ready, wire->ready_count, wire->ready_cap);
		wire->ready[wire->ready_count++] =
			(struct mg_wire_message){ wire->building_text, wire->building };
		wire->building = NULL;
	}
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The server's own words for a login that it refuses: {"error": {"message", "hint"}}. */
static int login_refused(struct mg_wire *wire, int code, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb body = { 0 };
	struct mg_json *json = NULL;
	const struct mg_json *error = NULL;

	if (mg_wire__read_body(wire->socket, arena, &wire->early, wire->early_used, &body, NULL) == 0 &&
	    mg_json_parse(arena, mg_sb_text(&body), body.len, &json, NULL) == 0) {
		error = mg_json_get(json, "error");
	}
	mg_error_set(err, code, "%s",
	             error ? mg_json_text(mg_json_get(error, "message"))
	                   : "the server refused the login");
	mg_error_hint(err, "%s", mg_json_text(mg_json_get(error, "hint")));
	mg_sb_fini(&body);
	mg_arena_free(arena);
	return code;
}

static int refused(struct mg_wire *wire, int status, const struct mg_endpoint *endpoint,
                   struct mg_error *err)
{
	switch (status) {
	case 401:
		return login_refused(wire, MG_E_AUTH, err);
	case 403:
		return login_refused(wire, MG_E_DENIED, err);
	case 404:
		return mg_error_set(err, MG_E_CONNECT, "the server has no shell door; is it Merganser?");
	case 503:
		return mg_error_set(err, MG_E_CONNECT, "the server is not ready (503)");
	case 400:
		mg_error_set(err, MG_E_CONNECT, "the server answered HTTP 400 to the shell");
		if (endpoint->url && strncmp(endpoint->url, "http://", 7) == 0) {
			mg_error_hint(err, "Ports speak TLS: write https:// instead of http://.");
		}
		return MG_E_CONNECT;
	default:
		return mg_error_set(err, MG_E_CONNECT, "the server answered HTTP %d to the shell", status);
	}
}

static int upgrade(struct mg_wire *wire, const struct mg_endpoint *endpoint,
                   const struct mg_url *url, const char *path, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb request = { 0 };
	char key[25];
	const char *accept;
	int status = 0, code;

	mg_client_ws_key(key);
	mg_sb_addf(&request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\n"
	                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
	                     "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: merganser.v1\r\n",
	           path, url->host, url->port, key);
	mg_wire__authorization(endpoint, &request);
	mg_sb_add(&request, "\r\n");
	code = mg_client_socket_write(wire->socket, request.ptr, request.len, err);
	explicit_bzero(request.ptr, request.len);
	if (code == 0) {
		code = mg_wire__read_head(wire->socket, HELLO_TIMEOUT_MS, &wire->early, &wire->early_used,
		                          &status, err);
	}
	if (code == 0 && status != 101) {
		code = refused(wire, status, endpoint, err);
	}
	if (code == 0) {
		accept = mg_wire__header(arena, wire->early.ptr, "sec-websocket-accept");
		if (!accept || !mg_client_ws_accepts(key, accept)) {
			code = mg_error_set(err, MG_E_PROTOCOL, "the server does not speak WebSocket");
		}
	}
	mg_sb_fini(&request);
	mg_arena_free(arena);
	return code;
}

static int open_at(struct mg_wire **out, const struct mg_endpoint *endpoint, const char *server,
                   const char *path, struct mg_error *err)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.genmask_callback = on_mask,
		.on_frame_recv_start_callback = on_frame,
		.on_frame_recv_chunk_callback = on_chunk,
		.on_msg_recv_callback = on_message,
	};
	struct mg_wire *wire = mg_alloc0(sizeof *wire);
	struct mg_url url;
	int code = mg_wire__connect(endpoint, server, &url, &wire->socket, err);

	*out = NULL;
	if (code == 0) {
		code = upgrade(wire, endpoint, &url, path, err);
	}
	if (code == 0 && wslay_event_context_client_init(&wire->ws, &callbacks, wire) != 0) {
		wire->ws = NULL;
		code = mg_error_set(err, MG_E_NOMEM, "no memory for a WebSocket");
	}
	if (code) {
		mg_wire_close(wire);
		return code;
	}
	wslay_event_config_set_no_buffering(wire->ws, 1);
	*out = wire;
	return 0;
}

int mg_wire_open(struct mg_wire **out, const struct mg_endpoint *endpoint, const char *path,
                 struct mg_error *err)
{
	const char *rest = endpoint->url;
	struct mg_sb server = { 0 };
	int code;

	do {
		rest = mg_url_next(rest, &server);
		code = open_at(out, endpoint, mg_sb_text(&server), path, err);
	} while (rest && mg_wire__may_go_on(code));
	mg_sb_fini(&server);
	return code;
}

void mg_wire_close(struct mg_wire *wire)
{
	if (!wire) {
		return;
	}
	if (wire->ws) {
		if (!wire->failed && wslay_event_queue_close(wire->ws, CLOSE_NORMAL, NULL, 0) == 0) {
			wslay_event_send(wire->ws);
		}
		wslay_event_context_free(wire->ws);
	}
	mg_client_socket_close(wire->socket);
	mg_buf_unref(wire->building);
	for (size_t i = wire->ready_taken; i < wire->ready_count; i++) {
		mg_buf_unref(wire->ready[i].bytes);
	}
	mg_free(wire->ready);
	mg_sb_fini(&wire->early);
	mg_free(wire);
}

/* ---- messages -------------------------------------------------------------------------------- */

static int lost(struct mg_wire *wire, struct mg_error *err)
{
	if (wire->error.code) {
		return mg_error_set(err, wire->error.code, "%s", wire->error.message);
	}
	return mg_error_set(err, MG_E_DISCONNECTED, "the server closed the connection");
}

static int send_message(struct mg_wire *wire, uint8_t opcode, const void *bytes, size_t size,
                        struct mg_error *err)
{
	struct wslay_event_msg message = { opcode, bytes, size };

	if (wire->failed || wslay_event_queue_msg(wire->ws, &message) != 0 ||
	    wslay_event_send(wire->ws) != 0) {
		return lost(wire, err);
	}
	return 0;
}

int mg_wire_send_text(struct mg_wire *wire, const char *text, size_t len, struct mg_error *err)
{
	return send_message(wire, WSLAY_TEXT_FRAME, text, len, err);
}

int mg_wire_send_binary(struct mg_wire *wire, const void *bytes, size_t size, struct mg_error *err)
{
	return send_message(wire, WSLAY_BINARY_FRAME, bytes, size, err);
}

int mg_wire_receive(struct mg_wire *wire, int64_t timeout_ms, enum mg_client_wait *wait,
                    struct mg_wire_message *message, struct mg_error *err)
{
	for (;;) {
		int result = 0;

		if (wire->ready_count == 0) {
			result = wire->failed ? WSLAY_ERR_CALLBACK_FAILURE : wslay_event_recv(wire->ws);
		}

		if (wire->too_large) {
			wire->failed = true;
			return mg_error_set(err, MG_E_PROTOCOL, "the server sent a message over 64 MiB");
		}
		/* Pongs, and the answer to a close. */
		if (result == 0 && wslay_event_want_write(wire->ws)) {
			result = wslay_event_send(wire->ws);
		}
		if (wire->ready_count > 0) {
			*message = wire->ready[wire->ready_taken++];
			if (wire->ready_taken == wire->ready_count) {
				wire->ready_taken = wire->ready_count = 0;
			}
			*wait = MG_WAIT_BYTES;
			return 0;
		}
		if (result != 0 || wslay_event_get_close_received(wire->ws) ||
		    !wslay_event_want_read(wire->ws)) {
			wire->failed = true;
			return lost(wire, err);
		}
		*wait = mg_client_socket_wait(wire->socket, timeout_ms);
		if (*wait != MG_WAIT_BYTES) {
			return 0;
		}
	}
}
