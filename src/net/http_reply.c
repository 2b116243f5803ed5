/*
 * http_reply.c - answers: whole ones, errors, and bodies that come from a stream.
 *
 * Rule: an answer that could not be completed never looks complete. The length is announced, or the
 * last chunk is missing, or (HTTP/1.0) the connection is reset instead of closed.
 *
 * owner: the connection's loop.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/http_int.h"

/* "Not Found" from llhttp's "NOT_FOUND". */
static const char *status_text(int status, char *text, size_t size)
{
	bool upper = true;
	size_t len = 0;

	for (const char *name = llhttp_status_name((llhttp_status_t)status);
	     *name != '\0' && len + 1 < size; name++) {
		text[len++] = *name == '_' ? ' ' : (char)(upper || status == 200 ? *name : *name | 0x20);
		upper = *name == '_';
	}
	text[len] = '\0';
	return text;
}

/* "Date: ..." is the same for a second. */
static const char *date_text(void)
{
	static _Thread_local char text[40];
	static _Thread_local time_t then;
	time_t now = time(NULL);

	if (now != then) {
		struct tm tm;

		then = now;
		(void)gmtime_r(&now, &tm);
		(void)strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	}
	return text;
}

/* length: of the body; -1: chunked or until the end of the connection; -2: none is announced. */
static void write_head(struct mg_http_request *request, int status, const char *content_type,
                       long long length, const char *extra)
{
	struct mg_sb *head = &(struct mg_sb){ 0 };
	char text[64];

	mg_assert(status >= 200 && status <= 599);

	mg_sb_addf(head, "HTTP/1.%d %d %s\r\nDate: %s\r\nServer: merganser\r\n",
	           request->is_http10 ? 0 : 1, status, status_text(status, text, sizeof text),
	           date_text());
	if (content_type != NULL) {
		mg_sb_addf(head, "Content-Type: %s\r\n", content_type);
	}
	if (length >= 0) {
		mg_sb_addf(head, "Content-Length: %lld\r\n", length);
	} else if (request->chunked) {
		mg_sb_add(head, "Transfer-Encoding: chunked\r\n");
	}
	if (!request->keep_alive) {
		mg_sb_add(head, "Connection: close\r\n");
	} else if (request->is_http10) {
		mg_sb_add(head, "Connection: keep-alive\r\n");
	}
	if (status == 401 && (extra == NULL || strcasestr(extra, "www-authenticate:") == NULL)) {
		mg_sb_add(head, "WWW-Authenticate: Basic realm=\"merganser\", charset=\"UTF-8\"\r\n");
	}
	mg_sb_add(head, extra != NULL ? extra : "");
	mg_sb_add(head, "\r\n");
	mg_conn_write(request->http->conn, head->ptr, head->len);
	mg_sb_fini(head);
	mg_conn_idle_limit(request->http->conn, MG_HTTP_REPLY_IDLE_MS);
}

/* Marks the one answer of a request; false when there is nobody to send it to. */
static bool begin(struct mg_http_request *request)
{
	mg_assert(!request->answered && !request->upgraded);
	request->answered = true;
	request->keep_alive = request->keep_alive && (!request->handed || request->ended);
	if (request->http == NULL) {
		mg_http__free_request(request); /* The client went before. */
		return false;
	}
	mg_assert(mg_loop_is_current(mg_conn_loop(request->http->conn)));
	return true;
}

static void write_whole(struct mg_http_request *request, int status, const char *content_type,
                        const void *body, size_t size, const char *extra)
{
	bool bodiless = status == 204 || status == 304;

	write_head(request, status, content_type, bodiless ? -2 : (long long)size, extra);
	if (!bodiless && !request->is_head) {
		mg_conn_write(request->http->conn, body, size);
	}
}

void mg_http_reply(struct mg_http_request *request, int status, const char *content_type,
                   const void *body, size_t size, const char *extra)
{
	if (begin(request)) {
		write_whole(request, status, content_type, body, size, extra);
		mg_http__done(request);
	}
}

void mg_http_reply_buf(struct mg_http_request *request, int status, const char *content_type,
                       struct mg_buf *body, const char *extra)
{
	if (begin(request)) {
		write_head(request, status, content_type, (long long)body->size, extra);
		if (!request->is_head) {
			mg_conn_write_buf(request->http->conn, body);
		}
		mg_http__done(request);
	}
}

/* ---- errors ---- */

static void add_member(struct mg_sb *json, const char *name, const char *text)
{
	mg_sb_addf(json, "%s\"%s\":", json->ptr[json->len - 1] == '{' ? "" : ",", name);
	mg_sb_add_json(json, text, strlen(text));
}

static void error_json(struct mg_sb *json, const struct mg_error *err)
{
	static const char *const retries[] = { "never", "safe", "maybe" };
	const struct mg_code_info *info = mg_code_info(err->code);

	mg_sb_add(json, "{\"error\":{");
	add_member(json, "code", info->name);
	add_member(json, "sqlstate", err->sqlstate[0] != '\0' ? err->sqlstate : info->sqlstate);
	add_member(json, "message", err->message);
	add_member(json, "detail", err->detail);
	add_member(json, "hint", err->hint);
	add_member(json, "retry", retries[info->retry]);
	mg_sb_add(json, "}}\n");
}

static void write_error(struct mg_http_request *request, int status, const struct mg_error *err)
{
	struct mg_sb json = { 0 };

	error_json(&json, err);
	write_whole(request, status, "application/json", json.ptr, json.len,
	            status == 503 || status == 429 ? "Retry-After: 1\r\n" : NULL);
	mg_sb_fini(&json);
}

void mg_http_reply_error(struct mg_http_request *request, const struct mg_error *err)
{
	if (begin(request)) {
		write_error(request, mg_code_info(err->code)->http_status, err);
		mg_http__done(request);
	}
}

/* Our own refusal, while the request is still being parsed or in its handler's call. */
void mg_http__refuse(struct mg_http_request *request, int status, int code, const char *message)
{
	struct mg_error err;

	if (request->answered) {
		return;
	}
	mg_error_clear(&err);
	(void)mg_error_set(&err, code, "%s", message != NULL ? message : "the bytes are no HTTP");
	request->answered = true;
	request->done = true;
	request->keep_alive = false;
	write_error(request, status, &err);
}

/* ---- streams ---- */

static void on_wake(void *arg)
{
	mg_http__pump(arg);
}

static void cut(struct mg_http_request *request)
{
	request->keep_alive = false;
	mg_conn__cut(request->http->conn);
}

static void end_stream(struct mg_http_request *request)
{
	struct mg_conn *conn = request->http->conn;

	if (mg_stream_failed(request->stream) || request->left > 0) {
		cut(request); /* http_closed frees the request. */
		return;
	}
	if (request->chunked) {
		mg_conn_write(conn, "0\r\n\r\n", 5);
	}
	mg_stream_close(request->stream);
	mg_http__done(request);
}

static void write_block(struct mg_http_request *request, struct mg_buf *buf)
{
	struct mg_conn *conn = request->http->conn;
	char size[24];

	if (buf->size == 0) {
		return; /* An empty chunk would be the last one. */
	}
	if (!request->chunked) {
		mg_assert(!request->sized || buf->size <= request->left);
		request->left -= request->sized ? buf->size : 0;
		mg_conn_write_buf(conn, buf);
		return;
	}
	int len = snprintf(size, sizeof size, "%zx\r\n", buf->size);

	mg_conn_write(conn, size, (size_t)len);
	mg_conn_write_buf(conn, buf);
	mg_conn_write(conn, "\r\n", 2);
}

/* From the stream to the write queue, as far as that is short. */
void mg_http__pump(struct mg_http_request *request)
{
	if (request->done) {
		return;
	}
	while (mg_conn_write_queued(request->http->conn) < MG_HTTP_QUEUE_MAX) {
		bool finished;
		struct mg_buf *buf = mg_stream_take(request->stream, &finished);

		if (buf != NULL) {
			write_block(request, buf);
			mg_buf_unref(buf);
		}
		if (finished) {
			end_stream(request);
			return;
		}
		if (buf == NULL) {
			return;
		}
	}
}

/* length: as of write_head. */
static void reply_stream(struct mg_http_request *request, int status, const char *content_type,
                         const char *extra, struct mg_stream *stream, long long length)
{
	if (request->http == NULL) {
		mg_stream_close(stream);
	}
	if (!begin(request)) {
		return;
	}
	request->chunked = length < 0 && !request->is_http10;
	request->sized = length >= 0;
	request->left = length >= 0 ? (uint64_t)length : 0;
	request->keep_alive = request->keep_alive && (request->chunked || request->sized);
	write_head(request, status, content_type, length, extra);
	if (request->is_head) {
		mg_stream_close(stream);
		mg_http__done(request);
		return;
	}
	request->stream = mg_stream_ref(stream);
	mg_stream_set_wake(stream, on_wake, request);
	mg_http__pump(request);
}

void mg_http_reply_stream(struct mg_http_request *request, int status, const char *content_type,
                          const char *extra, struct mg_stream *stream)
{
	reply_stream(request, status, content_type, extra, stream, -1);
}

void mg_http_reply_sized(struct mg_http_request *request, int status, const char *content_type,
                         const char *extra, struct mg_stream *stream, uint64_t size)
{
	reply_stream(request, status, content_type, extra, stream, (long long)size);
}

/* ---- the rest ---- */

void mg_http_abort(struct mg_http_request *request)
{
	if (request->http == NULL) {
		request->answered = true;
		mg_http__free_request(request);
		return;
	}
	cut(request);
	if (request->stream == NULL) {
		request->answered = true;
		mg_http__done(request);
	}
}

void mg_http_defer(struct mg_http_request *request, void (*gone)(void *arg), void *arg)
{
	request->deferred = true;
	request->gone = gone;
	request->gone_arg = arg;
}
