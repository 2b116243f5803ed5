/*
 * http_int.h - what http.c (parsing), http_request.c (questions), http_reply.c (answers) and ws.c
 * share.
 *
 * owner: the connection's loop.
 */
#ifndef MG_NET_HTTP_INT_H
#define MG_NET_HTTP_INT_H

#include <llhttp.h>

#include "net/http.h"
#include "net/net_int.h"

enum {
	MG_HTTP_HEAD_MAX = 64 * 1024, /* bytes of target, headers, trailers, chunk extensions */
	MG_HTTP_HEADERS_MAX = 100,
	MG_HTTP_BODY_MAX_DEFAULT = 8 << 20,
	MG_HTTP_HEAD_MS = 30000, /* for the whole head, however slowly it drips */
	MG_HTTP_BODY_IDLE_MS = 30000,
	MG_HTTP_BODY_MS = 300000,
	MG_HTTP_KEEP_MS = 120000,       /* between requests */
	MG_HTTP_REPLY_IDLE_MS = 300000, /* a client that takes no byte of its answer */
	MG_HTTP_QUEUE_MAX = 256 * 1024, /* bytes of answers in the write queue before we wait */
	MG_HTTP_PARAMS_MAX = 100,
};

struct mg_http;

struct mg_http_header {
	size_t name, value; /* offsets in text */
};

struct mg_http_param {
	const char *name, *value; /* decoded */
};

struct mg_http_request {
	struct mg_http *http; /* NULL: the client has gone */
	struct mg_arena *arena;
	struct mg_sb text; /* target, then name and value of each header, each ended by 0 */
	struct mg_http_header headers[MG_HTTP_HEADERS_MAX];
	size_t header_count;
	size_t head_size;
	bool in_value; /* parsing: the last piece belonged to a value */
	const char *method;
	const char *path;
	const char *query;            /* undecoded, or NULL */
	struct mg_http_param *params; /* parsed on first use */
	size_t param_count;
	bool params_parsed;
	bool is_head, is_http10, keep_alive;
	size_t body_limit;
	uint8_t *body;
	size_t body_size, body_cap;
	uint64_t body_length; /* that was announced; UINT64_MAX: none was */
	bool streams;         /* the body goes to the sink */
	bool handed, ended;   /* then: the handler has it; all of its body has come */
	const struct mg_http_sink *sink; /* NULL: nobody takes it yet */
	void *sink_arg;
	bool body_paused;
	bool in_handler; /* the handler's call has not returned: do not free yet */
	bool answered;   /* no further answer */
	bool done;       /* all of the answer is in the write queue */
	bool deferred;
	bool upgraded; /* the connection belongs to a WebSocket now */
	void (*gone)(void *arg);
	void *gone_arg;
	struct mg_stream *stream; /* body of the answer */
	bool chunked;
	bool sized;    /* its size was announced */
	uint64_t left; /* of that */
};

struct mg_http {
	const struct mg_http_handler *handler;
	struct mg_conn *conn; /* NULL until the first bytes */
	llhttp_t parser;
	struct mg_http_request *parsing; /* its head or body is arriving; active, too, if streamed */
	struct mg_http_request *active;  /* handed over and not done */
	bool closing;                    /* nothing more is read */
	bool broken;                     /* and nothing can be answered */
	bool blocked;                    /* reading is paused until the write queue is empty */
};

/* http.c: the answer of an active request is complete. May free request. */
void mg_http__done(struct mg_http_request *request);
void mg_http__free_request(struct mg_http_request *request);
/* http_reply.c */
void mg_http__pump(struct mg_http_request *request);
void mg_http__refuse(struct mg_http_request *request, int status, int code, const char *message);
/* http_request.c: split and decode the target; 0 or an HTTP status. */
int mg_http__set_target(struct mg_http_request *request);
/* A token of a comma list in header name, such as "upgrade" in Connection. */
bool mg_http__has_token(const struct mg_http_request *request, const char *name, const char *token);
size_t mg_http__count(const struct mg_http_request *request, const char *name);

#endif
