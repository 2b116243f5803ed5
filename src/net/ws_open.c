/*
 * ws_open.c - how a connection becomes a WebSocket: the upgrade, as server and as client.
 *
 * The server refuses what is no clean upgrade with 4xx, and a page of another site (its Origin is
 * not our Host), since browsers send a user's cached password along wherever a page wants to
 * connect. The client checks the answer's key; any answer but 101 ends the connection, and its text
 * is the reason.
 *
 * owner: the connection's loop.   Limits: HEAD_MAX bytes of an answer; MG_NET_HELLO_MS for it.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "net/ws_int.h"

enum {
	HEAD_MAX = 64 * 1024,
	BODY_KEPT = 2000, /* bytes of a refusal that become the reason */
};

/* ---- server ---- */

static void refuse(struct mg_http_request *request, int status, const char *text, const char *extra)
{
	mg_http_reply(request, status, "text/plain", text, strlen(text), extra);
}

/* No Origin: not a browser. */
static bool origin_is_ours(const struct mg_http_request *request)
{
	const char *origin = mg_http_header(request, "origin");
	const char *host = mg_http_header(request, "host");

	if (origin == NULL) {
		return true;
	}
	const char *authority = strstr(origin, "://");

	return authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0;
}

/* 16 bytes in base64. */
static bool key_is_valid(const char *key)
{
	return key != NULL && strlen(key) == 24 &&
	       strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == 22 &&
	       strcmp(key + 22, "==") == 0;
}

/* Answers and returns false when it is no upgrade that we can follow. */
static bool check(struct mg_http_request *request)
{
	const char *version = mg_http_header(request, "sec-websocket-version");

	if (strcmp(request->method, "GET") != 0 || request->is_http10 || request->body_size > 0 ||
	    !mg_http__has_token(request, "upgrade", "websocket") ||
	    !mg_http__has_token(request, "connection", "upgrade")) {
		refuse(request, 426, "this path is a WebSocket\n",
		       "Upgrade: websocket\r\nConnection: Upgrade\r\n");
		return false;
	}
	if (version == NULL || strcmp(version, "13") != 0) {
		refuse(request, 426, "only version 13 of WebSocket is spoken here\n",
		       "Sec-WebSocket-Version: 13\r\n");
		return false;
	}
	if (!key_is_valid(mg_http_header(request, "sec-websocket-key")) ||
	    mg_http__count(request, "sec-websocket-key") > 1) {
		refuse(request, 400, "Sec-WebSocket-Key is not 16 bytes in base64\n", NULL);
		return false;
	}
	if (mg_http_header(request, "sec-websocket-protocol") != NULL &&
	    !mg_http__has_token(request, "sec-websocket-protocol", MG_WS_SUBPROTOCOL)) {
		refuse(request, 400, "the only sub-protocol here is " MG_WS_SUBPROTOCOL "\n", NULL);
		return false;
	}
	if (!origin_is_ours(request)) {
		refuse(request, 403, "pages of other sites may not connect\n", NULL);
		return false;
	}
	return true;
}

struct mg_ws *mg_ws_accept(struct mg_http_request *request, const struct mg_ws_handler *handler,
                           void *state)
{
	char text[256], accept[MG_WS_ACCEPT_SIZE];
	struct mg_http *http = request->http;

	if (http == NULL) {
		mg_http_abort(request); /* The client went before. */
		return NULL;
	}
	if (!check(request)) {
		return NULL;
	}
	mg_ws__accept_key(mg_http_header(request, "sec-websocket-key"), accept);
	bool named = mg_http_header(request, "sec-websocket-protocol") != NULL;
	int len =
		snprintf(text, sizeof text,
	             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	             "Sec-WebSocket-Accept: %s\r\n%s\r\n",
	             accept, named ? "Sec-WebSocket-Protocol: " MG_WS_SUBPROTOCOL "\r\n" : "");
	struct mg_conn *conn = http->conn;
	struct mg_ws *ws = mg_ws__new(conn, false, handler, state);

	ws->open = true;
	mg_conn_write(conn, text, (size_t)len);
	mg_conn_idle_limit(conn, 0);
	request->upgraded = true;
	if (!request->in_handler) {
		/* A deferred request: nobody is left to clean up after HTTP. */
		mg_http__free_request(request);
		http->active = NULL;
		mg_free(http);
	}
	mg_conn_set_protocol(conn, &mg_ws__protocol, ws);
	mg_conn_pause_read(conn, false);
	return ws;
}

/* ---- client ---- */

/* What is needed until the answer has come. */
struct mg_ws_shake {
	llhttp_t parser;
	char accept[MG_WS_ACCEPT_SIZE]; /* what the server must say */
	void (*opened)(struct mg_ws *ws, void *state, int http_status);
	size_t head_size;
	char name[32], value[64]; /* of the header that arrives; longer ones are of no interest */
	size_t name_len, value_len;
	bool in_value;
	bool accepted, upgrade; /* the two headers were right */
	char body[BODY_KEPT];
	size_t body_len;
	bool complete;
};

static int count(struct mg_ws_shake *shake, size_t size)
{
	shake->head_size += size;
	return shake->head_size > HEAD_MAX ? -1 : 0;
}

static void add(char *text, size_t size, size_t *len, const char *at, size_t count_)
{
	for (size_t i = 0; i < count_ && *len + 1 < size; i++) {
		text[(*len)++] = at[i];
	}
	text[*len] = '\0';
}

static struct mg_ws_shake *shake_of(llhttp_t *parser)
{
	return ((struct mg_ws *)parser->data)->shake;
}

static int on_name(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_ws_shake *shake = shake_of(parser);

	if (shake->in_value) {
		shake->in_value = false;
		shake->name_len = 0;
		shake->value_len = 0;
	}
	add(shake->name, sizeof shake->name, &shake->name_len, at, size);
	return count(shake, size);
}

static int on_value(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_ws_shake *shake = shake_of(parser);

	add(shake->value, sizeof shake->value, &shake->value_len, at, size);
	return count(shake, size);
}

static int on_value_end(llhttp_t *parser)
{
	struct mg_ws_shake *shake = shake_of(parser);

	shake->in_value = true;
	if (strcasecmp(shake->name, "sec-websocket-accept") == 0) {
		shake->accepted = shake->value_len > 0 && strcmp(shake->value, shake->accept) == 0;
	} else if (strcasecmp(shake->name, "upgrade") == 0) {
		shake->upgrade = shake->value_len > 0 && strcasecmp(shake->value, "websocket") == 0;
	}
	shake->value_len = 0;
	return 0;
}

static int on_head(llhttp_t *parser)
{
	return parser->status_code == 101 ? 2 : 0; /* 2: what follows is not HTTP */
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
	struct mg_ws_shake *shake = shake_of(parser);

	add(shake->body, sizeof shake->body, &shake->body_len, at, size);
	return count(shake, size);
}

static int on_complete(llhttp_t *parser)
{
	shake_of(parser)->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_header_field = on_name,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_end,
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

/* Our servers say why in JSON; of others the first line is kept. */
static void say_refused(struct mg_ws *ws, int status)
{
	struct mg_ws_shake *shake = ws->shake;
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;

	(void)mg_json_parse(arena, shake->body, strlen(shake->body), &json, NULL);
	const struct mg_json *error = mg_json_get(json, "error");
	const char *hint = mg_json_get_text(error, "hint");

	if (error != NULL) {
		(void)snprintf(ws->reason, sizeof ws->reason, "%s%s%s",
		               mg_json_text(mg_json_get(error, "message")),
		               hint != NULL && hint[0] != '\0' ? ". " : "", hint != NULL ? hint : "");
	} else {
		shake->body[strcspn(shake->body, "\r\n")] = '\0';
		(void)snprintf(ws->reason, sizeof ws->reason, "the server answered %d %s", status,
		               shake->body);
	}
	mg_arena_free(arena);
}

/* The server has answered with something else. */
static void refused(struct mg_ws *ws, int status)
{
	struct mg_ws_shake *shake = ws->shake;

	say_refused(ws, status);
	void (*opened)(struct mg_ws *, void *, int) = shake->opened;

	shake->opened = NULL;
	if (opened != NULL) {
		opened(ws, ws->state, status);
	}
	mg_conn_close(ws->conn);
}

static void accepted(struct mg_ws *ws)
{
	struct mg_ws_shake *shake = ws->shake;
	void (*opened)(struct mg_ws *, void *, int) = shake->opened;

	if (!shake->accepted || !shake->upgrade) {
		mg_conn__fail(ws->conn, "the server's answer to the upgrade is wrong");
		return;
	}
	ws->open = true;
	ws->shake = NULL;
	mg_free(shake);
	mg_conn_set_protocol(ws->conn, &mg_ws__protocol, ws);
	if (opened != NULL) {
		opened(ws, ws->state, 101);
	}
}

static long shake_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_ws *ws = state;
	struct mg_ws_shake *shake = ws->shake;
	llhttp_errno_t status = llhttp_execute(&shake->parser, (const char *)bytes, size);
	int http_status = shake->parser.status_code;
	size_t used = size;

	if (status != HPE_OK) {
		used = (size_t)(llhttp_get_error_pos(&shake->parser) - (const char *)bytes);
	}
	if (http_status == 101 && (status == HPE_PAUSED || status == HPE_PAUSED_UPGRADE)) {
		accepted(ws); /* frees shake */
		return (long)used;
	}
	if (status == HPE_OK && !shake->complete) {
		return (long)size;
	}
	if (shake->complete) {
		refused(ws, http_status);
	} else {
		mg_conn__fail(conn, "the server does not speak HTTP");
	}
	return (long)size;
}

static void shake_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_ws *ws = state;
	struct mg_ws_shake *shake = ws->shake;
	int status = shake->parser.status_code;

	(void)conn;
	if (shake->opened != NULL && status > 0 && llhttp_finish(&shake->parser) == HPE_PAUSED) {
		refused(ws, status); /* an answer that ends with the connection */
	}
	if (ws->handler->closed != NULL) {
		ws->handler->closed(ws, ws->state, WSLAY_CODE_ABNORMAL_CLOSURE,
		                    ws->reason[0] != '\0' ? ws->reason : reason);
	}
	mg_ws__free(ws);
}

static const struct mg_protocol shake_protocol = {
	.name = "websocket upgrade",
	.data = shake_data,
	.closed = shake_closed,
};

struct mg_ws *mg_ws_connect(struct mg_conn *conn, const char *host, const char *path,
                            const char *headers, const struct mg_ws_handler *handler,
                            void (*opened)(struct mg_ws *ws, void *state, int http_status),
                            void *state)
{
	struct mg_ws *ws = mg_ws__new(conn, true, handler, state);
	struct mg_ws_shake *shake = mg_alloc0(sizeof *shake);
	struct mg_sb request = { 0 };
	uint8_t random[16];
	char key[32];

	ws->shake = shake;
	shake->opened = opened;
	llhttp_init(&shake->parser, HTTP_RESPONSE, &settings);
	shake->parser.data = ws;
	mg_conn_set_protocol(conn, &shake_protocol, ws);
	mg_conn__deadline(conn, MG_NET_HELLO_MS, "the server did not answer the upgrade");
	if (RAND_bytes(random, sizeof random) != 1) {
		mg_conn__fail(conn, "no random bytes");
		return ws;
	}
	(void)EVP_EncodeBlock((unsigned char *)key, random, sizeof random);
	mg_ws__accept_key(key, shake->accept);
	mg_sb_addf(&request,
	           "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
	           "Sec-WebSocket-Protocol: " MG_WS_SUBPROTOCOL "\r\n%s\r\n",
	           path, host, key, headers != NULL ? headers : "");
	mg_conn_write(conn, request.ptr, request.len);
	mg_sb_fini(&request);
	return ws;
}
