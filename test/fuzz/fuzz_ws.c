/*
 * fuzz_ws.c - bytes straight into a WebSocket of a connection without a socket.
 *
 * Input: the first byte says how the rest is cut into pieces, the second whether it goes to a
 * server, a client, or a client that still waits for the answer to its upgrade.
 */
#include <stdlib.h>
#include <string.h>

#include "net/net_int.h"
#include "net/ws_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 70000 };

static bool ended;

static void on_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	(void)state;
	mg_assert(strlen(text) <= len && mg_utf8_valid(text, len));
	if (len == 1) {
		mg_ws_close(ws, 1000, text);
	} else if (len == 2) {
		mg_ws_pause_read(ws, true);
	}
	mg_ws_send_text(ws, text, len);
}

static void on_binary(struct mg_ws *ws, void *state, struct mg_buf *message)
{
	(void)state;
	mg_assert(message->size <= MESSAGE_MAX);
	mg_ws_send_binary(ws, "head", 4, message);
}

static void on_closed(struct mg_ws *ws, void *state, int code, const char *reason)
{
	(void)ws;
	(void)state;
	mg_assert(code >= 1000 && code < 5000 && reason != NULL);
	ended = true;
}

static void on_opened(struct mg_ws *ws, void *state, int http_status)
{
	(void)state;
	(void)http_status;
	mg_ws_send_text(ws, "hello", 5);
}

static const struct mg_ws_handler handler = {
	.text = on_text,
	.binary = on_binary,
	.closed = on_closed,
	.message_max = MESSAGE_MAX,
};

static void open_socket(struct mg_conn *conn, uint8_t kind)
{
	if (kind % 3 == 2) {
		(void)mg_ws_connect(conn, "host", "/", NULL, &handler, on_opened, NULL);
		return;
	}
	struct mg_ws *ws = mg_ws__new(conn, kind % 3 == 1, &handler, NULL);

	ws->open = true;
	mg_conn_set_protocol(conn, &mg_ws__protocol, ws);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mg_loop *loop;

	if (loop == NULL) {
		loop = mg_loop__new("fuzz");
		mg_loop__enter(loop);
	}
	if (size < 2) {
		return 0;
	}
	size_t step = data[0] == 0 ? size : data[0];
	struct mg_conn *conn = mg_conn__new(loop, -1, MG_CONN_OPEN, NULL);

	ended = false;
	open_socket(conn, data[1]);
	for (size_t at = 2; at < size && !ended && conn->phase == MG_CONN_OPEN; at += step) {
		mg_conn__feed(conn, data + at, size - at < step ? size - at : step);
		mg_loop__settle(loop);
	}
	if (!ended) {
		mg_conn_close(conn);
	}
	while (uv_run(&loop->uv, UV_RUN_NOWAIT) != 0 && loop->conns != NULL) {
		mg_loop__settle(loop);
	}
	mg_assert(loop->conns == NULL && ended);
	return 0;
}
