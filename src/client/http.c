/*
 * http.c - URLs, and one blocking HTTP/1.1 request.
 *
 * Every request asks the server to close afterwards, so the end of the body is the end of the
 * connection, a Content-Length or the last chunk, whichever comes first.
 */
#include "client/wire.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_SIZE_MAX (64u << 10)
#define BODY_SIZE_MAX (64u << 20)
#define CONNECT_TIMEOUT_MS 10000
#define ANSWER_TIMEOUT_MS 60000
#define PORT "8765"

/* ---- URLs ------------------------------------------------------------------------------------ */

static bool port_fits(const char *text)
{
	return *text && strlen(text) <= 5 && strspn(text, "0123456789") == strlen(text) &&
	       strtol(text, NULL, 10) <= 65535;
}

int mg_url_parse(const char *url, struct mg_url *out, struct mg_error *err)
{
	const char *at = url ? url : "localhost", *scheme = strstr(at, "://"), *end, *colon;

	*out = (struct mg_url){ .port = PORT };
	if (scheme) {
		size_t len = (size_t)(scheme - at);

		out->plain = (len == 4 && strncmp(at, "http", 4) == 0) ||
		             (len == 2 && strncmp(at, "ws", 2) == 0);
		if (!out->plain && !(len == 5 && strncmp(at, "https", 5) == 0) &&
		    !(len == 3 && strncmp(at, "wss", 3) == 0)) {
			mg_error_set(err, MG_E_USAGE, "URL \"%s\" does not start with https://", url);
			return MG_E_USAGE;
		}
		at = scheme + 3;
	}
	end = at + strcspn(at, "/?#");
	colon = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : at - 1;
	if (*at == '[' && colon) {
		colon = colon + 1 < end && colon[1] == ':' ? colon + 1 : NULL;
	} else if (*at != '[') {
		colon = memchr(at, ':', (size_t)(end - at));
	}
	if (colon) {
		size_t len = (size_t)(end - colon - 1);

		memcpy(out->port, colon + 1, len < sizeof out->port ? len : sizeof out->port - 1);
		out->port[len < sizeof out->port ? len : sizeof out->port - 1] = '\0';
	}
	end = colon ? colon : end;
	if (*at == '[' && end[-1] == ']') {
		at++;
		end--;
	}
	if (end == at || *at == '[' || (size_t)(end - at) >= sizeof out->host ||
	    memchr(at, '@', (size_t)(end - at)) || !port_fits(out->port)) {
		mg_error_set(err, MG_E_USAGE, "\"%s\" is no URL of a server", url);
		mg_error_hint(err, "It should look like https://localhost:" PORT ".");
		return MG_E_USAGE;
	}
	memcpy(out->host, at, (size_t)(end - at));
	return 0;
}

void mg_url_add_escaped(struct mg_sb *url, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		mg_sb_addf(url, isalnum(*c) || strchr("-._", *c) ? "%c" : "%%%02X", *c);
	}
}

void mg_url_add_parameter(struct mg_sb *url, const char *name, const char *value)
{
	mg_sb_addf(url, "%c%s=", strchr(mg_sb_text(url), '?') ? '&' : '?', name);
	mg_url_add_escaped(url, value);
}

const char *mg_url_next(const char *urls, struct mg_sb *url)
{
	const char *at = urls ? urls : "localhost", *comma = strchr(at, ',');

	mg_sb_clear(url);
	mg_sb_add_len(url, at, comma ? (size_t)(comma - at) : strlen(at));
	return comma ? comma + 1 : NULL;
}

int mg_url_check(const char *urls, struct mg_error *err)
{
	struct mg_sb url = { 0 };
	int code = 0;

	do {
		struct mg_url parsed;

		urls = mg_url_next(urls, &url);
		code = mg_url_parse(mg_sb_text(&url), &parsed, err);
	} while (code == 0 && urls);
	mg_sb_fini(&url);
	return code;
}

bool mg_wire__may_go_on(int code)
{
	return code == MG_E_CONNECT || code == MG_E_DISCONNECTED || code == MG_E_TIMEOUT;
}

int mg_wire__connect(const struct mg_endpoint *endpoint, const char *server, struct mg_url *url,
                     struct mg_client_socket **out, struct mg_error *err)
{
	int code = mg_url_parse(server, url, err);

	if (code) {
		return code;
	}
	return mg_client_socket_open(out, &(struct mg_client_socket_options){
		.host = url->host,
		.port = url->port,
		.tls = url->plain ? NULL : &endpoint->tls,
		.timeout_ms = endpoint->timeout_ms ? endpoint->timeout_ms : CONNECT_TIMEOUT_MS,
		.wake_fd = endpoint->wake_fd,
	}, err);
}

void mg_wire__authorization(const struct mg_endpoint *endpoint, struct mg_sb *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct mg_sb plain = { 0 };

	if (!endpoint->user || (!endpoint->password && endpoint->tls.cert_file)) {
		return;
	}
	mg_sb_addf(&plain, "%s:%s", endpoint->user, endpoint->password ? endpoint->password : "");
	mg_sb_add(out, "Authorization: Basic ");
	for (size_t i = 0; i < plain.len; i += 3) {
		const uint8_t *p = (const uint8_t *)plain.ptr + i;
		size_t left = plain.len - i;
		uint32_t bits = (uint32_t)p[0] << 16 | (left > 1 ? (uint32_t)p[1] << 8 : 0) |
		                (left > 2 ? p[2] : 0u);

		mg_sb_add_char(out, digits[bits >> 18]);
		mg_sb_add_char(out, digits[bits >> 12 & 63]);
		mg_sb_add_char(out, left > 1 ? digits[bits >> 6 & 63] : '=');
		mg_sb_add_char(out, left > 2 ? digits[bits & 63] : '=');
	}
	mg_sb_add(out, "\r\n");
	explicit_bzero(plain.ptr, plain.len);
	mg_sb_fini(&plain);
}

/* ---- answers --------------------------------------------------------------------------------- */

int mg_wire__read_more(struct mg_client_socket *socket, uint64_t timeout_ms, struct mg_sb *sb,
                       bool *end, struct mg_error *err)
{
	char block[16384];
	size_t got = 0;

	*end = false;
	while (got == 0) {
		if (mg_client_socket_read(socket, block, sizeof block, &got, err)) {
			*end = true;
			return 0;
		}
		if (got == 0) {
			switch (mg_client_socket_wait(socket, (int64_t)timeout_ms)) {
			case MG_WAIT_WOKEN: return mg_error_set(err, MG_E_CANCELLED, "cancelled while waiting");
			case MG_WAIT_TIMEOUT:
				return mg_error_set(err, MG_E_TIMEOUT, "the server does not answer");
			case MG_WAIT_BYTES: break;
			}
		}
	}
	mg_sb_add_len(sb, block, got);
	return 0;
}

int mg_wire__read_head(struct mg_client_socket *socket, uint64_t timeout_ms, struct mg_sb *sb,
                       size_t *head_size, int *status, struct mg_error *err)
{
	const char *blank;
	bool end;

	while (!(blank = sb->ptr ? strstr(sb->ptr, "\r\n\r\n") : NULL)) {
		int code = mg_wire__read_more(socket, timeout_ms, sb, &end, err);

		if (code) {
			return code;
		}
		if (end || sb->len > HEAD_SIZE_MAX) {
			return mg_error_set(err, MG_E_CONNECT,
			                    sb->len ? "the server does not speak HTTP"
			                            : "the server closed the connection");
		}
	}
	*head_size = (size_t)(blank - sb->ptr) + 4;
	if (strncmp(sb->ptr, "HTTP/1.", 7) != 0 || sb->len < 12) {
		return mg_error_set(err, MG_E_CONNECT, "the server does not speak HTTP");
	}
	*status = (int)strtol(sb->ptr + 9, NULL, 10);
	return 0;
}

const char *mg_wire__header(struct mg_arena *arena, const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
		if (strncmp(line + 2, "\r\n", 2) == 0) {
			return NULL;
		}
		if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
			struct mg_str text = { line + 3 + len, strcspn(line + 3 + len, "\r") };

			text = mg_str_trim(text);
			return mg_arena_strndup(arena, text.ptr, text.len);
		}
	}
	return NULL;
}

static int read_until(struct mg_client_socket *socket, struct mg_sb *sb, size_t size,
                      struct mg_error *err)
{
	bool end = false;
	int code;

	while (sb->len < size) {
		code = mg_wire__read_more(socket, ANSWER_TIMEOUT_MS, sb, &end, err);
		if (code) {
			return code;
		}
		if (end) {
			return mg_error_set(err, MG_E_DISCONNECTED, "the answer broke off");
		}
	}
	return 0;
}

static int read_chunks(struct mg_client_socket *socket, struct mg_sb *raw, size_t at,
                       struct mg_sb *body, struct mg_error *err)
{
	for (;;) {
		const char *line_end;
		size_t size;
		int code;

		while (!(line_end = strstr(raw->ptr + at, "\r\n"))) {
			if (raw->len - at > 1024) {
				return mg_error_set(err, MG_E_PROTOCOL, "a chunk has no size");
			}
			code = read_until(socket, raw, raw->len + 1, err);
			if (code) {
				return code;
			}
		}
		if (!isxdigit((unsigned char)raw->ptr[at])) {
			return mg_error_set(err, MG_E_PROTOCOL, "a chunk has no size");
		}
		size = strtoul(raw->ptr + at, NULL, 16);
		at = (size_t)(line_end - raw->ptr) + 2;
		if (size == 0) {
			return 0;
		}
		if (size > BODY_SIZE_MAX || body->len + size > BODY_SIZE_MAX) {
			return mg_error_set(err, MG_E_LIMIT, "the answer is larger than 64 MiB");
		}
		code = read_until(socket, raw, at + size + 2, err);
		if (code) {
			return code;
		}
		mg_sb_add_len(body, raw->ptr + at, size);
		at += size + 2;
	}
}

int mg_wire__read_body(struct mg_client_socket *socket, struct mg_arena *arena, struct mg_sb *raw,
                       size_t head_size, struct mg_sb *body, struct mg_error *err)
{
	const char *length = mg_wire__header(arena, raw->ptr, "content-length");
	const char *coding = mg_wire__header(arena, raw->ptr, "transfer-encoding");
	bool end = false;
	int code;

	if (coding && strstr(coding, "chunked")) {
		return read_chunks(socket, raw, head_size, body, err);
	}
	if (length) {
		size_t size = strtoul(length, NULL, 10);

		if (size > BODY_SIZE_MAX) {
			return mg_error_set(err, MG_E_LIMIT, "the answer is larger than 64 MiB");
		}
		code = read_until(socket, raw, head_size + size, err);
		if (code == 0) {
			mg_sb_add_len(body, raw->ptr + head_size, size);
		}
		return code;
	}
	while (!end && raw->len < BODY_SIZE_MAX) {
		code = mg_wire__read_more(socket, ANSWER_TIMEOUT_MS, raw, &end, err);
		if (code) {
			return code;
		}
	}
	mg_sb_add_len(body, raw->ptr + head_size, raw->len - head_size);
	return 0;
}

static int connect_any(const struct mg_endpoint *endpoint, struct mg_url *url,
                       struct mg_client_socket **out, struct mg_error *err)
{
	const char *rest = endpoint->url;
	struct mg_sb server = { 0 };
	int code;

	do {
		rest = mg_url_next(rest, &server);
		code = mg_wire__connect(endpoint, mg_sb_text(&server), url, out, err);
	} while (rest && mg_wire__may_go_on(code));
	mg_sb_fini(&server);
	return code;
}

int mg_wire__ask(const struct mg_endpoint *endpoint, const char *method, const char *path,
                 const char *content_type, const char *headers, struct mg_str request_body,
                 struct mg_wire_answer *out, struct mg_error *err)
{
	struct mg_sb request = { 0 };
	struct mg_url url;
	int code = connect_any(endpoint, &url, &out->socket, err);

	if (code) {
		return code;
	}
	mg_sb_addf(&request, "%s %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n"
	                     "User-Agent: merganser\r\n", method, path, url.host, url.port);
	mg_wire__authorization(endpoint, &request);
	if (content_type) {
		mg_sb_addf(&request, "Content-Type: %s\r\nContent-Length: %zu\r\n", content_type,
		           request_body.len);
	}
	mg_sb_add(&request, headers ? headers : "");
	mg_sb_add(&request, "\r\n");
	mg_sb_add_len(&request, request_body.ptr ? request_body.ptr : "", request_body.len);
	code = mg_client_socket_write(out->socket, request.ptr, request.len, err);
	mg_sb_fini(&request);
	return code ? code
	            : mg_wire__read_head(out->socket, ANSWER_TIMEOUT_MS, &out->raw, &out->head_size,
	                                 &out->status, err);
}

void mg_wire__answer_fini(struct mg_wire_answer *answer)
{
	mg_client_socket_close(answer->socket);
	mg_sb_fini(&answer->raw);
}

int mg_http_fetch(const struct mg_endpoint *endpoint, const char *method, const char *path,
                  const char *content_type, const char *headers, struct mg_str request_body,
                  int *status, struct mg_sb *body, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_wire_answer answer = { 0 };
	int code = mg_wire__ask(endpoint, method, path, content_type, headers, request_body, &answer,
	                        err);

	if (code == 0) {
		code = mg_wire__read_body(answer.socket, arena, &answer.raw, answer.head_size, body, err);
	}
	*status = answer.status ? answer.status : *status;
	mg_wire__answer_fini(&answer);
	mg_arena_free(arena);
	return code;
}
