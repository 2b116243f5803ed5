/*
 * http.h - HTTP/1.1 server side on llhttp, and the upgrade to WebSocket.
 *
 * Requests are handed to one handler when head (and, unless it asks to stream, body) have arrived.
 * Limits: head 64 KiB, headers 100, body as the route says (default 8 MiB), pipelined requests are
 * answered in order.  Smuggling shapes are refused with 400 and the connection closed.
 *
 * Everything here runs on the connection's loop; a handler that needs an engine takes the request
 * (mg_http_defer) and answers later from the loop (mg_loop_post), or gives a stream as body.
 */
#ifndef MG_NET_HTTP_H
#define MG_NET_HTTP_H

#include "base/str.h"
#include "net/net.h"
#include "net/stream.h"

struct mg_http_request;

/* Who takes a body as it comes.  Both on the loop; they answer nothing: who would, posts. */
struct mg_http_sink {
	void (*piece)(void *arg, const uint8_t *bytes, size_t size);
	void (*end)(void *arg); /* once, behind the last piece */
};

struct mg_http_handler {
	/* Head has arrived: return the body's limit in bytes, or 0 after having answered (refuses). It
	 * cannot defer. May be NULL: 8 MiB. */
	size_t (*head)(struct mg_http_request *request, void *arg);
	/* Head and body are here. Answer now, or defer. */
	void (*request)(struct mg_http_request *request, void *arg);
	void *arg;
};

/* For `head`: the body, if there is one, is not collected.  The request is handed over without it,
 * and the connection is not read until somebody takes it.  An answer before its end closes the
 * connection. */
void mg_http_stream_body(struct mg_http_request *request);
bool mg_http_is_streamed(const struct mg_http_request *request); /* it has a body that is so */
/* Once, by who has deferred the request.  Not when the client has gone. */
void mg_http_take_body(struct mg_http_request *request, const struct mg_http_sink *sink, void *arg);
/* A piece, or what one read of the connection has brought, may come after a pause. */
void mg_http_pause_body(struct mg_http_request *request, bool pause);
/* What the head announces; UINT64_MAX: it does not. */
uint64_t mg_http_body_length(const struct mg_http_request *request);

extern const struct mg_protocol mg_http_protocol;
/* State for mg_conn_set_protocol(conn, &mg_http_protocol, state). */
void *mg_http_state_new(const struct mg_http_handler *handler);

const char *mg_http_method(const struct mg_http_request *request);
/* Decoded, without query; "%00" in either is refused before a handler sees it. */
const char *mg_http_path(const struct mg_http_request *request);
/* Decoded parameter or NULL. */
const char *mg_http_query(struct mg_http_request *request, const char *name);
/* All of it as it came, without "?"; "" when there is none. */
const char *mg_http_query_text(const struct mg_http_request *request);
/* Value or NULL; case-insensitive. */
const char *mg_http_header(const struct mg_http_request *request, const char *name);
struct mg_str mg_http_body(const struct mg_http_request *request);
struct mg_conn *mg_http_conn(struct mg_http_request *request); /* NULL when the client has gone */
/* Lives until the answer is sent. */
struct mg_arena *mg_http_arena(struct mg_http_request *request);

/* Basic credentials of the request in arena; false when there are none. */
bool mg_http_basic(struct mg_http_request *request, const char **user, const char **password);

/* Answers.  extra: further header lines "Name: value\r\n..." or NULL. */
void mg_http_reply(struct mg_http_request *request, int status, const char *content_type,
                   const void *body, size_t size, const char *extra);
/* A large body without a copy: takes a ref of its own.  status: not 204, not 304. */
void mg_http_reply_buf(struct mg_http_request *request, int status, const char *content_type,
                       struct mg_buf *body, const char *extra);
/* {"error": {...}} with the status of the error's code. */
void mg_http_reply_error(struct mg_http_request *request, const struct mg_error *err);
/* Chunked body from a stream, of which it takes its own ref; trailers not used.  The request is
 * freed (see its arena's hooks) with the last block. After mg_stream_fail the connection is closed
 * without the last chunk, so the client sees a broken answer, never a short one.  When the client
 * goes away the stream is closed, and the producer's put fails. */
void mg_http_reply_stream(struct mg_http_request *request, int status, const char *content_type,
                          const char *extra, struct mg_stream *stream);
/* The same of a body whose size is known, and announced: a stream that ends with fewer bytes is as
 * one that has failed. */
void mg_http_reply_sized(struct mg_http_request *request, int status, const char *content_type,
                         const char *extra, struct mg_stream *stream, uint64_t size);
/* Instead of an answer, or in the middle of a stream while the request's arena lives: closes the
 * connection so that the client sees it broken. */
void mg_http_abort(struct mg_http_request *request);
/* Take the request beyond the handler's return.  It stays valid until answered; when the client
 * goes away first, gone(arg) is called on the loop, and one answer (or mg_http_abort) must still be
 * given: a no-op that frees it. */
void mg_http_defer(struct mg_http_request *request, void (*gone)(void *arg), void *arg);

/* ---- WebSocket (wslay) ---- */
struct mg_ws;
struct mg_ws_handler {
	void (*text)(struct mg_ws *ws, void *state, const char *text, size_t len);
	/* message may be kept with a ref. */
	void (*binary)(struct mg_ws *ws, void *state, struct mg_buf *message);
	void (*drain)(struct mg_ws *ws, void *state); /* write queue fell below MG_STREAM_LOW */
	/* The end, exactly once, for whatever reason; ws is invalid after. code: 1006 without a close
	 * frame. */
	void (*closed)(struct mg_ws *ws, void *state, int code, const char *reason);
	size_t message_max; /* bytes; larger closes with 1009 */
};
/* Upgrade a request (server), in its handler or deferred; the request is gone after. Returns NULL
 * after answering 4xx when it is no upgrade, or when the client has gone. The sub-protocol
 * merganser.v1 is echoed. */
struct mg_ws *mg_ws_accept(struct mg_http_request *request, const struct mg_ws_handler *handler,
                           void *state);
/* Client side on a dialled connection: sends the upgrade request with headers ("Name:
 * value\r\n..."). opened is called with 101, or with the status that refused, after which closed
 * follows with the server's text. */
struct mg_ws *mg_ws_connect(struct mg_conn *conn, const char *host, const char *path,
                            const char *headers, const struct mg_ws_handler *handler,
                            void (*opened)(struct mg_ws *ws, void *state, int http_status),
                            void *state);
void mg_ws_send_text(struct mg_ws *ws, const char *text, size_t len);
/* head (may be empty) and buf (may be NULL) go out as one binary message; buf is not copied. */
void mg_ws_send_binary(struct mg_ws *ws, const void *head, size_t head_size, struct mg_buf *buf);
void mg_ws_ping(struct mg_ws *ws);
uint64_t mg_ws_last_heard_ms(const struct mg_ws *ws); /* monotonic time of the last frame */
size_t mg_ws_queued(const struct mg_ws *ws);
void mg_ws_pause_read(struct mg_ws *ws, bool pause);
void mg_ws_close(struct mg_ws *ws, int code, const char *reason);
struct mg_conn *mg_ws_conn(struct mg_ws *ws);

#endif
