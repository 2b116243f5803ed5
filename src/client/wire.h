/*
 * wire.h - from a URL to a WebSocket or an HTTP answer, blocking.
 *
 * Thread: a wire belongs to one thread at a time; mg_wire_wake may be called from any thread and
 * from signal handlers.
 */
#ifndef MG_CLIENT_WIRE_H
#define MG_CLIENT_WIRE_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/client_tls.h"

/* Where a client goes, and as whom. All texts are borrowed. */
struct mg_endpoint {
	/* https://host:port, host:port or host; NULL: localhost:8765.  Several with commas between: the
	 * first that answers. */
	const char *url;
	const char *user, *password;
	struct mg_tls_client_options tls;
	uint64_t timeout_ms;            /* to connect; 0: 10 s */
	int wake_fd;                    /* -1: none */
};

struct mg_url {
	char host[256];
	char port[8];
	bool plain;                     /* http or ws instead of https or wss */
};

/* One server.  Fails: MG_E_USAGE. */
int mg_url_parse(const char *url, struct mg_url *out, struct mg_error *err);
/* Puts the first of a list into url, and returns what follows it, or NULL: that was the last. */
const char *mg_url_next(const char *urls, struct mg_sb *url);
/* Each of a list, or NULL.  Fails: MG_E_USAGE. */
int mg_url_check(const char *urls, struct mg_error *err);

/* A part of a path or a query. */
void mg_url_add_escaped(struct mg_sb *url, const char *text);
void mg_url_add_parameter(struct mg_sb *url, const char *name, const char *value); /* ?name=value */

/* One request on its own connection; the body of the answer is added to body (64 MiB at most).
 * headers: further lines "Name: value\r\n...", or NULL. */
int mg_http_fetch(const struct mg_endpoint *endpoint, const char *method, const char *path,
                  const char *content_type, const char *headers, struct mg_str request_body,
                  int *status, struct mg_sb *body, struct mg_error *err);

/* An event that a server sends; its texts are valid until take returns.  Without data it only says
 * where one would go on from. */
struct mg_event {
	struct mg_str name, id, data;
};
/* One GET on its own connection, whose answer is a text/event-stream, until take says false.  When
 * its status is another one than 200, *status and body say so.  Fails: as mg_http_fetch;
 * MG_E_DISCONNECTED when the answer ends; MG_E_TIMEOUT when not even a comment comes for 60 s. */
int mg_http_events(const struct mg_endpoint *endpoint, const char *path, const char *headers,
                   bool (*take)(void *arg, const struct mg_event *event), void *arg, int *status,
                   struct mg_sb *body, struct mg_error *err);

/* ---- WebSocket ------------------------------------------------------------------------------- */

#define MG_WIRE_MESSAGE_MAX (64u << 20)

struct mg_wire;

/* Connect, log in, upgrade.  Fails: MG_E_CONNECT, MG_E_AUTH (401), MG_E_DENIED (403),
 * MG_E_PROTOCOL, MG_E_CANCELLED when woken. */
int mg_wire_open(struct mg_wire **out, const struct mg_endpoint *endpoint, const char *path,
                 struct mg_error *err);
void mg_wire_close(struct mg_wire *wire);       /* says good-bye; NULL is fine */
int mg_wire_send_text(struct mg_wire *wire, const char *text, size_t len, struct mg_error *err);

int mg_wire_send_binary(struct mg_wire *wire, const void *bytes, size_t size, struct mg_error *err);

struct mg_wire_message {
	bool text;
	struct mg_buf *bytes;           /* the receiver's; text is zero-terminated behind its size */
};
/* The next message.  *wait tells MG_WAIT_BYTES (message is filled), MG_WAIT_WOKEN or
 * MG_WAIT_TIMEOUT.  Fails: MG_E_DISCONNECTED, MG_E_PROTOCOL. */
int mg_wire_receive(struct mg_wire *wire, int64_t timeout_ms, enum mg_client_wait *wait,
                    struct mg_wire_message *message, struct mg_error *err);

/* Shared by events.c, http.c and wire.c. */
struct mg_wire_answer {
	struct mg_client_socket *socket;
	int status;
	struct mg_sb raw; /* the head, and what has come behind it */
	size_t head_size;
};
/* A request, to the head of its answer.  Owns: the caller, also when it fails. */
int mg_wire__ask(const struct mg_endpoint *endpoint, const char *method, const char *path,
                 const char *content_type, const char *headers, struct mg_str request_body,
                 struct mg_wire_answer *out, struct mg_error *err);
void mg_wire__answer_fini(struct mg_wire_answer *answer);
/* Read some bytes onto sb; *end when the connection has ended. */
int mg_wire__read_more(struct mg_client_socket *socket, uint64_t timeout_ms, struct mg_sb *sb,
                       bool *end, struct mg_error *err);
/* To one server, whatever the endpoint says. */
int mg_wire__connect(const struct mg_endpoint *endpoint, const char *server, struct mg_url *url,
                     struct mg_client_socket **out, struct mg_error *err);
/* Another server of the list may do better than the one that failed so. */
bool mg_wire__may_go_on(int code);
/* The header of a login by password; nothing when a certificate alone logs in. */
void mg_wire__authorization(const struct mg_endpoint *endpoint, struct mg_sb *out);
/* The body behind a head that lies in raw. */
int mg_wire__read_body(struct mg_client_socket *socket, struct mg_arena *arena, struct mg_sb *raw,
                       size_t head_size, struct mg_sb *body, struct mg_error *err);
/* Read until the blank line; what came after it stays in sb behind *head_size. */
int mg_wire__read_head(struct mg_client_socket *socket, uint64_t timeout_ms, struct mg_sb *sb,
                       size_t *head_size, int *status, struct mg_error *err);
/* Value of a header in a head, or NULL; in arena. */
const char *mg_wire__header(struct mg_arena *arena, const char *head, const char *name);

#endif
