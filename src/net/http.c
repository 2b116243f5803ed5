/*
 * http.c - HTTP/1.1, server side: bytes to requests, one after the other.
 *
 * llhttp parses, strictly: both lengths, two lengths, a bare LF, a space before the colon are
 * errors, answered with 400 and the end of the connection, since nobody can know where the next
 * request begins.
 *
 * Rule: one request at a time. From its handler's call until its answer is in the write queue,
 * reading is paused unless the handler answered at once; so pipelined answers keep their order,
 * nothing piles up, and a client that goes away meanwhile is noticed.
 *
 * owner: the connection's loop.   Limits: http_int.h.
 */
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#include "net/http_int.h"

/* ---- requests ---- */

static struct mg_http_request *request_new(struct mg_http *http)
{
	struct mg_http_request *request = mg_alloc0(sizeof *request);

	request->http = http;
	request->arena = mg_arena_new();
	request->method = "";
	request->path = "";
	return request;
}

void mg_http__free_request(struct mg_http_request *request)
{
	if (request == NULL) {
		return;
	}
	mg_stream_unref(request->stream);
	if (request->text.ptr != NULL) {
		OPENSSL_cleanse(request->text.ptr, request->text.len); /* It holds passwords. */
	}
	mg_sb_fini(&request->text);
	mg_free(request->body);
	mg_arena_free(request->arena);
	mg_free(request);
}

void mg_http__done(struct mg_http_request *request)
{
	struct mg_http *http = request->http;

	request->done = true;
	if (request->in_handler) {
		return; /* Whoever called the handler goes on. */
	}
	if (http == NULL) {
		mg_http__free_request(request);
		return;
	}
	mg_assert(http->active == request);
	http->active = NULL;
	if (http->parsing == request) { /* the rest of its body is not wanted */
		http->parsing = NULL;
		mg_conn__deadline(http->conn, 0, "");
	}
	if (!request->keep_alive) {
		http->closing = true;
		mg_conn_close_after_write(http->conn);
	} else {
		mg_conn_idle_limit(http->conn, MG_HTTP_KEEP_MS);
		mg_conn_pause_read(http->conn, http->blocked);
	}
	mg_http__free_request(request);
}

/* The request is complete: hand it over. Returns false when it stays with the handler or has left
 * HTTP. */
static bool dispatch(struct mg_http *http)
{
	struct mg_http_request *request = http->parsing;

	http->parsing = NULL;
	http->active = request;
	mg_conn_idle_limit(http->conn, 0); /* Work may take long; the client may not. */
	if (!request->answered) {
		request->in_handler = true;
		http->handler->request(request, http->handler->arg);
		if (!request->answered && !request->deferred && !request->upgraded) {
			mg_http__refuse(request, 500, MG_E_INTERNAL, "the request was not answered");
		}
		request->in_handler = false;
	}
	if (request->upgraded) {
		http->active = NULL;
		mg_http__free_request(request);
		return false;
	}
	if (!request->done) {
		mg_conn_pause_read(http->conn, true);
		return false;
	}
	mg_http__done(request);
	return !http->closing;
}

/* ---- bodies that are not collected ---- */

void mg_http_stream_body(struct mg_http_request *request)
{
	request->streams = true;
}

bool mg_http_is_streamed(const struct mg_http_request *request)
{
	return request->handed;
}

uint64_t mg_http_body_length(const struct mg_http_request *request)
{
	return request->body_length;
}

static void set_pause(struct mg_http_request *request)
{
	if (request->http != NULL && !request->ended && !request->answered) {
		bool pause = request->sink == NULL || request->body_paused;

		mg_conn_pause_read(request->http->conn, pause);
		/* The client waits for us then. */
		mg_conn_idle_limit(request->http->conn, pause ? 0 : MG_HTTP_BODY_IDLE_MS);
	}
}

void mg_http_take_body(struct mg_http_request *request, const struct mg_http_sink *sink, void *arg)
{
	mg_assert(request->handed && request->sink == NULL);
	request->sink = sink;
	request->sink_arg = arg;
	set_pause(request);
}

void mg_http_pause_body(struct mg_http_request *request, bool pause)
{
	request->body_paused = pause;
	set_pause(request);
}

/* The head is here; the handler takes the body when it likes. */
static void hand_over(struct mg_http *http)
{
	struct mg_http_request *request = http->parsing;

	http->active = request;
	request->handed = true;
	set_pause(request);
	request->in_handler = true;
	http->handler->request(request, http->handler->arg);
	if (!request->answered && !request->deferred) {
		mg_http__refuse(request, 500, MG_E_INTERNAL, "the request was not answered");
	}
	request->in_handler = false;
	if (request->done) {
		mg_http__done(request);
	}
}

static void end_body(struct mg_http *http)
{
	struct mg_http_request *request = http->active;

	http->parsing = NULL;
	request->ended = true;
	mg_conn_idle_limit(http->conn, 0);
	mg_conn_pause_read(http->conn, true);
	request->sink->end(request->sink_arg);
}

/* Bytes may be parsed: those of a new request, or of a body that somebody takes. */
static bool is_wanted(const struct mg_http *http)
{
	const struct mg_http_request *active = http->active;

	return !http->closing && (active == NULL || (active->sink != NULL && !active->ended &&
	                                             !active->body_paused));
}

/* ---- parsing: calls from llhttp ---- */

static struct mg_http *of(llhttp_t *parser)
{
	return parser->data;
}

/* Answer and let nothing follow; llhttp stops at the -1. */
static int refuse(struct mg_http *http, int status, int code, const char *message)
{
	http->closing = true;
	http->broken = http->active != NULL; /* its handler has it, and answers */
	if (!http->broken) {
		mg_http__refuse(http->parsing, status, code, message);
	}
	return -1;
}

static int refuse_body(struct mg_http *http)
{
	char message[128];

	snprintf(message, sizeof message,
	         "the body of the request is larger than this path takes, %zu KiB; send less at once",
	         http->parsing->body_limit >> 10);
	return refuse(http, 413, MG_E_LIMIT, message);
}

static int count_head(struct mg_http *http, size_t size)
{
	struct mg_http_request *request = http->parsing;

	request->head_size += size;
	if (request->head_size > MG_HTTP_HEAD_MAX) {
		return refuse(http, 431, MG_E_LIMIT, "the head of the request is longer than 65536 bytes");
	}
	return 0;
}

static int on_begin(llhttp_t *parser)
{
	struct mg_http *http = of(parser);

	if (http->parsing == NULL) {
		http->parsing = request_new(http);
	}
	mg_conn__deadline(http->conn, MG_HTTP_HEAD_MS, "the head of a request took too long");
	mg_conn_idle_limit(http->conn, MG_HTTP_BODY_IDLE_MS);
	return 0;
}

static int on_target(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_http *http = of(parser);

	if (count_head(http, size) != 0) {
		return -1;
	}
	mg_sb_add_len(&http->parsing->text, at, size);
	return 0;
}

static int on_target_end(llhttp_t *parser)
{
	mg_sb_add_char(&of(parser)->parsing->text, '\0');
	of(parser)->parsing->in_value = true; /* so that the next name begins a header */
	return 0;
}

static int on_name(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_http *http = of(parser);
	struct mg_http_request *request = http->parsing;

	if (count_head(http, size + 4) != 0) {
		return -1;
	}
	if ((parser->flags & F_TRAILING) != 0) {
		return 0; /* Trailers are counted and dropped. */
	}
	if (request->in_value) {
		if (request->header_count == MG_HTTP_HEADERS_MAX) {
			return refuse(http, 431, MG_E_LIMIT, "the request has more than 100 headers");
		}
		request->headers[request->header_count++].name = request->text.len;
		request->in_value = false;
	}
	mg_sb_add_len(&request->text, at, size);
	return 0;
}

static int on_name_end(llhttp_t *parser)
{
	struct mg_http_request *request = of(parser)->parsing;

	if ((parser->flags & F_TRAILING) != 0) {
		return 0;
	}
	mg_sb_add_char(&request->text, '\0');
	request->headers[request->header_count - 1].value = request->text.len;
	return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_http *http = of(parser);

	if (count_head(http, size) != 0) {
		return -1;
	}
	if ((parser->flags & F_TRAILING) == 0) {
		mg_sb_add_len(&http->parsing->text, at, size);
	}
	return 0;
}

static int on_value_end(llhttp_t *parser)
{
	struct mg_http_request *request = of(parser)->parsing;

	if ((parser->flags & F_TRAILING) != 0) {
		return 0;
	}
	struct mg_http_header *header = &request->headers[request->header_count - 1];

	while (request->text.len > header->value &&
	       strchr(" \t", request->text.ptr[request->text.len - 1]) != NULL) {
		request->text.len--;
	}
	mg_sb_add_char(&request->text, '\0');
	request->in_value = true;
	return 0;
}

static int on_extension(llhttp_t *parser, const char *at, size_t size)
{
	(void)at;
	return count_head(of(parser), size);
}

static int on_chunk(llhttp_t *parser)
{
	struct mg_http *http = of(parser);
	const struct mg_http_request *request = http->parsing;

	if (!request->streams && parser->content_length > request->body_limit - request->body_size) {
		return refuse_body(http);
	}
	/* Empty bytes around tiny chunks are a toy for attackers, too; but a body that is taken as it
	 * comes is bounded by who takes it. */
	return request->streams ? 0 : count_head(http, 1);
}

/* What llhttp lets pass and we do not. */
static int check_head(struct mg_http *http, const llhttp_t *parser)
{
	struct mg_http_request *request = http->parsing;
	int status = mg_http__set_target(request);

	if (parser->http_major != 1) {
		return refuse(http, 505, MG_E_PROTOCOL, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	}
	if (status != 0) {
		return refuse(http, status, MG_E_PROTOCOL, "the target of the request is not a valid path");
	}
	size_t hosts = mg_http__count(request, "host");

	if (hosts > 1 || (hosts == 0 && !request->is_http10)) {
		return refuse(http, 400, MG_E_PROTOCOL, "a request has exactly one Host header");
	}
	const char *encoding = mg_http_header(request, "transfer-encoding");

	if (encoding != NULL && (strcasecmp(encoding, "chunked") != 0 ||
	                         mg_http__count(request, "transfer-encoding") > 1)) {
		return refuse(http, 501, MG_E_UNSUPPORTED, "no transfer encoding but chunked is known");
	}
	if (encoding != NULL && request->is_http10) {
		return refuse(http, 400, MG_E_PROTOCOL, "HTTP/1.0 has no chunked bodies");
	}
	return 0;
}

static int ask_handler(struct mg_http *http, const llhttp_t *parser)
{
	struct mg_http_request *request = http->parsing;
	bool chunked = (parser->flags & F_CHUNKED) != 0;
	uint64_t length = (parser->flags & F_CONTENT_LENGTH) != 0 ? parser->content_length : 0;
	bool has_body = chunked || length > 0;

	request->body_limit = MG_HTTP_BODY_MAX_DEFAULT;
	request->body_length = chunked ? UINT64_MAX : length;
	if (http->handler->head != NULL) {
		request->keep_alive = request->keep_alive &&
		                      !has_body; /* If it refuses, the body is not read. */
		request->in_handler = true;
		request->body_limit = http->handler->head(request, http->handler->arg);
		request->in_handler = false;
		if (request->answered) {
			http->closing = !request->keep_alive;
			return has_body ? -1 : 0;
		}
		request->keep_alive = llhttp_should_keep_alive(parser) != 0;
	}
	if (length > request->body_limit) {
		return refuse_body(http);
	}
	if (has_body) { /* a byte now and then is no client of ours */
		mg_conn__deadline(http->conn, MG_HTTP_BODY_MS, "the body of a request took too long");
	}
	if (has_body && mg_http__has_token(request, "expect", "100-continue") && !request->is_http10) {
		static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

		mg_conn_write(http->conn, text, sizeof text - 1);
	}
	request->streams = request->streams && has_body;
	return request->streams ? HPE_PAUSED : 0;
}

static int on_head(llhttp_t *parser)
{
	struct mg_http *http = of(parser);
	struct mg_http_request *request = http->parsing;

	mg_conn__deadline(http->conn, 0, "");
	request->method = llhttp_method_name((llhttp_method_t)parser->method);
	request->is_head = parser->method == HTTP_HEAD;
	request->is_http10 = parser->http_minor == 0;
	request->keep_alive = llhttp_should_keep_alive(parser) != 0;
	parser->upgrade =
		0; /* Who upgrades swaps the protocol; an upgrade nobody takes up is a plain request. */
	if (check_head(http, parser) != 0) {
		return -1;
	}
	return ask_handler(http, parser);
}

/* It grows with what has really come, whatever length was announced. */
static bool grow_body(struct mg_http_request *request, size_t needed)
{
	size_t cap = request->body_cap != 0 ? request->body_cap : 4096;

	while (cap < needed) {
		cap *= 2;
	}
	uint8_t *body = mg_try_alloc(cap);

	if (body == NULL) {
		return false;
	}
	if (request->body_size > 0) {
		memcpy(body, request->body, request->body_size);
	}
	mg_free(request->body);
	request->body = body;
	request->body_cap = cap;
	return true;
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_http *http = of(parser);
	struct mg_http_request *request = http->parsing;
	size_t needed = request->body_size + size;

	if (request->streams) {
		request->sink->piece(request->sink_arg, (const uint8_t *)at, size);
		return 0;
	}
	if (needed > request->body_limit) {
		return refuse_body(http);
	}
	if (needed + 1 > request->body_cap && !grow_body(request, needed + 1)) {
		return refuse(http, 429, MG_E_NOMEM, "no memory for the body of the request");
	}
	memcpy(request->body + request->body_size, at, size);
	request->body_size = needed;
	request->body[needed] = 0;
	return 0;
}

static int on_complete(llhttp_t *parser)
{
	mg_conn__deadline(of(parser)->conn, 0, "");
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_message_begin = on_begin,
	.on_url = on_target,
	.on_url_complete = on_target_end,
	.on_header_field = on_name,
	.on_header_field_complete = on_name_end,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_end,
	.on_chunk_extension_name = on_extension,
	.on_chunk_extension_value = on_extension,
	.on_chunk_header = on_chunk,
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

/* ---- the protocol ---- */

void *mg_http_state_new(const struct mg_http_handler *handler)
{
	struct mg_http *http = mg_alloc0(sizeof *http);

	http->handler = handler;
	llhttp_init(&http->parser, HTTP_REQUEST, &settings);
	http->parser.data = http;
	return http;
}

static void free_http(struct mg_http *http)
{
	if (http->parsing != http->active) {
		mg_http__free_request(http->parsing);
	}
	mg_free(http);
}

/* llhttp has stopped at bytes that are no HTTP, or at one of our own refusals. */
static void fail(struct mg_http *http)
{
	struct mg_http_request *request = http->parsing;

	if (http->active != NULL) {
		http->closing = http->broken = true;
		return;
	}
	if (!http->closing) {
		if (request == NULL) {
			request = http->parsing = request_new(http);
		}
		http->closing = true;
		request->keep_alive = false;
		if (llhttp_get_errno(&http->parser) == HPE_PAUSED_H2_UPGRADE) {
			mg_http__refuse(request, 505, MG_E_PROTOCOL, "HTTP/2 is not spoken here");
		} else {
			mg_http__refuse(request, 400, MG_E_PROTOCOL, llhttp_get_error_reason(&http->parser));
		}
	}
	mg_conn_close_after_write(http->conn);
}

/* One call of the parser; returns the bytes used, which are all after an error. */
static size_t parse(struct mg_http *http, const uint8_t *bytes, size_t size, bool *complete)
{
	llhttp_errno_t status = llhttp_execute(&http->parser, (const char *)bytes, size);

	*complete = false;
	if (status == HPE_OK) {
		return size;
	}
	if (status != HPE_PAUSED) {
		fail(http);
		return size;
	}
	const char *at = llhttp_get_error_pos(&http->parser);

	*complete = true;
	llhttp_resume(&http->parser);
	return (size_t)(at - (const char *)bytes);
}

static long http_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_http *http = state;
	size_t used = 0;

	if (http->conn == NULL) {
		http->conn = conn;
		mg_conn_idle_limit(conn, MG_HTTP_KEEP_MS);
	}
	while (used < size && is_wanted(http)) {
		bool complete;

		if (http->active == NULL && mg_conn_write_queued(conn) > MG_HTTP_QUEUE_MAX) {
			http->blocked = true; /* It sends requests and reads no answers. */
			mg_conn_pause_read(conn, true);
			break;
		}
		used += parse(http, bytes + used, size - used, &complete);
		if (http->broken) {
			return -1;
		}
		if (complete && http->active != NULL) {
			end_body(http);
		} else if (complete && http->parsing->streams) {
			hand_over(http);
		} else if (complete && !dispatch(http)) {
			if (mg_conn_state(conn) != http) { /* upgraded */
				free_http(http);
			}
			return (long)used;
		}
	}
	return http->closing ? (long)size : (long)used;
}

static void http_drain(struct mg_conn *conn, void *state)
{
	struct mg_http *http = state;

	if (http->blocked && mg_conn_write_queued(conn) == 0) {
		http->blocked = false;
		if (http->active == NULL) {
			mg_conn_pause_read(conn, false);
		}
	}
	if (http->active != NULL && http->active->stream != NULL) {
		mg_http__pump(http->active);
	}
}

static void http_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_http *http = state;
	struct mg_http_request *request = http->active;

	(void)conn;
	(void)reason;
	if (request != NULL) {
		request->http = NULL;
		if (request->stream != NULL) {
			mg_stream_close(request->stream); /* The producer stops. */
			if (request->gone != NULL) {
				request->gone(request->gone_arg); /* The last it hears of this request. */
			}
			mg_http__free_request(request);
		} else if (request->gone != NULL) {
			request->gone(request->gone_arg);
		}
	}
	free_http(http);
}

const struct mg_protocol mg_http_protocol = {
	.name = "http",
	.data = http_data,
	.drain = http_drain,
	.closed = http_closed,
};
