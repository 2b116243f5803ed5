/*
 * fuzz_http.c - bytes straight into the HTTP parser of a connection without a socket.
 *
 * Input: the first byte says how the rest is cut into pieces, so that every state of the parser
 * meets the end of a piece. The handler asks everything that can be asked, and answers in all the
 * ways there are.
 */
#include <stdlib.h>
#include <string.h>

#include "net/http.h"
#include "net/net_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink; /* so that nothing is optimised away */
static struct mg_http_request *deferred;

static void on_gone(void *arg)
{
	(void)arg;
	struct mg_http_request *request = deferred;

	deferred = NULL;
	mg_http_abort(request);
}

/* A body that is not collected, paused now and then. */
static void on_body_goes_on(void *arg)
{
	(void)arg;
	if (deferred != NULL) {
		mg_http_pause_body(deferred, false);
	}
}

static void on_body_answer(void *arg)
{
	struct mg_http_request *request = deferred;

	(void)arg;
	deferred = NULL;
	if (request != NULL) {
		mg_http_reply(request, 200, "text/plain", "", 0, NULL);
	}
}

static void on_body_piece(void *arg, const uint8_t *bytes, size_t size)
{
	sink += size;
	if (bytes[0] % 2) {
		mg_http_pause_body(deferred, true);
		mg_loop_post(arg, on_body_goes_on, NULL);
	}
}

static void on_body_end(void *arg)
{
	mg_loop_post(arg, on_body_answer, NULL);
}

static const struct mg_http_sink body_sink = { .piece = on_body_piece, .end = on_body_end };

static void on_ws_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	(void)state;
	mg_ws_send_text(ws, text, len);
}

static const struct mg_ws_handler ws_handler = { .text = on_ws_text, .message_max = 4096 };

static void answer_from_stream(struct mg_http_request *request)
{
	struct mg_stream *stream = mg_stream_new(mg_conn_loop(mg_http_conn(request)), NULL, NULL);

	mg_stream_finish(stream);
	mg_http_reply_stream(request, 200, "text/plain", NULL, stream);
	mg_stream_unref(stream);
}

static void on_request(struct mg_http_request *request, void *arg)
{
	const char *path = mg_http_path(request);
	const char *user = "";
	const char *password = "";
	const char *query = mg_http_query(request, "q");
	const char *header = mg_http_header(request, "x");
	struct mg_str body = mg_http_body(request);

	(void)arg;
	sink += strlen(path) + (query != NULL ? strlen(query) : 0) +
	        (header != NULL ? strlen(header) : 0) + body.len;
	sink += mg_http_basic(request, &user, &password) ? strlen(user) + strlen(password) : 0;
	switch (path[1]) {
	case 'b':
		if (deferred == NULL && mg_http_is_streamed(request)) {
			deferred = request;
			mg_http_defer(request, on_gone, NULL);
			mg_http_take_body(request, &body_sink, mg_conn_loop(mg_http_conn(request)));
			return;
		}
		break;
	case 'd':
		if (deferred == NULL) {
			deferred = request;
			mg_http_defer(request, on_gone, NULL);
			return;
		}
		break;
	case 's':
		answer_from_stream(request);
		return;
	case 'w':
		(void)mg_ws_accept(request, &ws_handler, NULL);
		return;
	case 'a':
		mg_http_abort(request);
		return;
	default:
		break;
	}
	mg_http_reply(request, 200, "text/plain", body.ptr, body.len, NULL);
}

static size_t on_head(struct mg_http_request *request, void *arg)
{
	(void)arg;
	if (mg_http_path(request)[1] == 'x') {
		mg_http_reply(request, 403, "text/plain", "no", 2, NULL);
		return 0;
	}
	if (mg_http_path(request)[1] == 'b') {
		mg_http_stream_body(request);
	}
	return 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mg_loop *loop;
	static const struct mg_http_handler handler = { .head = on_head, .request = on_request };

	if (loop == NULL) {
		loop = mg_loop__new("fuzz");
		mg_loop__enter(loop);
	}
	if (size < 1) {
		return 0;
	}
	size_t step = data[0] == 0 ? size : data[0];
	struct mg_conn *conn = mg_conn__new(loop, -1, MG_CONN_OPEN, NULL);
	uint64_t id = mg_conn_id(conn);

	mg_conn_set_protocol(conn, &mg_http_protocol, mg_http_state_new(&handler));
	for (size_t at = 1; at < size; at += step) {
		if (loop->conns == NULL || mg_conn_id(loop->conns) != id || conn->phase != MG_CONN_OPEN) {
			break;
		}
		mg_conn__feed(conn, data + at, size - at < step ? size - at : step);
		mg_loop__settle(loop);
	}
	if (loop->conns != NULL) {
		mg_conn_close(conn);
	}
	while (uv_run(&loop->uv, UV_RUN_NOWAIT) != 0 && loop->conns != NULL) {
		mg_loop__settle(loop);
	}
	mg_assert(loop->conns == NULL && deferred == NULL);
	return 0;
}
