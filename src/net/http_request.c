/*
 * http_request.c - what a handler may ask a request: method, path, parameters, headers,
 * credentials.
 *
 * A path and its parameters are decoded once, into the request's arena. "%00" is refused with 400,
 * because texts here end at a zero byte and nobody shall see less than what was sent.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#include "net/http_int.h"

const char *mg_http_method(const struct mg_http_request *request)
{
	return request->method;
}

const char *mg_http_path(const struct mg_http_request *request)
{
	return request->path;
}

struct mg_conn *mg_http_conn(struct mg_http_request *request)
{
	return request->http != NULL ? request->http->conn : NULL;
}

struct mg_arena *mg_http_arena(struct mg_http_request *request)
{
	return request->arena;
}

struct mg_str mg_http_body(const struct mg_http_request *request)
{
	if (request->body == NULL) {
		return MG_STR("");
	}
	return (struct mg_str){ (const char *)request->body, request->body_size };
}

/* ---- headers ---- */

const char *mg_http_header(const struct mg_http_request *request, const char *name)
{
	for (size_t i = 0; i < request->header_count; i++) {
		if (strcasecmp(request->text.ptr + request->headers[i].name, name) == 0) {
			return request->text.ptr + request->headers[i].value;
		}
	}
	return NULL;
}

size_t mg_http__count(const struct mg_http_request *request, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < request->header_count; i++) {
		count += strcasecmp(request->text.ptr + request->headers[i].name, name) == 0;
	}
	return count;
}

static bool list_has(const char *list, const char *token)
{
	size_t len = strlen(token);

	while (*list != '\0') {
		list += strspn(list, " \t,");
		size_t item = strcspn(list, ",");
		size_t trimmed = item;

		while (trimmed > 0 && (list[trimmed - 1] == ' ' || list[trimmed - 1] == '\t')) {
			trimmed--;
		}
		if (trimmed == len && strncasecmp(list, token, len) == 0) {
			return true;
		}
		list += item;
	}
	return false;
}

bool mg_http__has_token(const struct mg_http_request *request, const char *name, const char *token)
{
	for (size_t i = 0; i < request->header_count; i++) {
		if (strcasecmp(request->text.ptr + request->headers[i].name, name) == 0 &&
		    list_has(request->text.ptr + request->headers[i].value, token)) {
			return true;
		}
	}
	return false;
}

/* ---- target ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decoded text in arena, or NULL for a broken or zero byte. */
static char *decode(struct mg_arena *arena, const char *text, size_t len, bool plus_is_blank)
{
	char *out = mg_arena_alloc(arena, len + 1);
	size_t count = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '%') {
			int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0 || (high == 0 && low == 0)) {
				return NULL;
			}
			c = (char)(high * 16 + low);
			i += 2;
		} else if (c == '+' && plus_is_blank) {
			c = ' ';
		}
		out[count++] = c;
	}
	out[count] = '\0';
	return out;
}

static int parse_params(struct mg_http_request *request)
{
	const char *at = request->query;

	if (at == NULL) {
		return 0;
	}
	request->params = mg_arena_new_array(request->arena, struct mg_http_param, MG_HTTP_PARAMS_MAX);
	while (*at != '\0') {
		size_t len = strcspn(at, "&");
		const char *equals = memchr(at, '=', len);
		size_t name_len = equals != NULL ? (size_t)(equals - at) : len;

		if (len > 0) {
			if (request->param_count == MG_HTTP_PARAMS_MAX) {
				return 400;
			}
			struct mg_http_param *param = &request->params[request->param_count++];

			param->name = decode(request->arena, at, name_len, true);
			param->value =
				equals != NULL ? decode(request->arena, equals + 1, len - name_len - 1, true) : "";
			if (param->name == NULL || param->value == NULL) {
				return 400;
			}
		}
		at += len + (at[len] == '&');
	}
	return 0;
}

int mg_http__set_target(struct mg_http_request *request)
{
	const char *target = mg_sb_text(&request->text);

	if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
		target = strchr(target, ':') +
		         3; /* The form that goes to proxies: the path begins after the host. */
		target += strcspn(target, "/?");
	}
	size_t len = strcspn(target, "?#");

	request->path = len == 0 ? "/" : decode(request->arena, target, len, false);
	if (request->path == NULL || (request->path[0] != '/' && strcmp(request->path, "*") != 0)) {
		request->path = "/";
		return 400;
	}
	if (target[len] == '?') {
		request->query =
			mg_arena_strndup(request->arena, target + len + 1, strcspn(target + len + 1, "#"));
	}
	return parse_params(request);
}

const char *mg_http_query(struct mg_http_request *request, const char *name)
{
	for (size_t i = 0; i < request->param_count; i++) {
		if (strcmp(request->params[i].name, name) == 0) {
			return request->params[i].value;
		}
	}
	return NULL;
}

const char *mg_http_query_text(const struct mg_http_request *request)
{
	return request->query ? request->query : "";
}

/* ---- Basic ---- */

struct secret {
	char *text;
	size_t size;
};

static void wipe(void *arg)
{
	struct secret *secret = arg;

	OPENSSL_cleanse(secret->text, secret->size);
}

/* Base64 of exactly one text; NULL when it is not. */
static char *decode_base64(struct mg_arena *arena, const char *text, size_t *size)
{
	size_t len = strlen(text);
	size_t pad = 0;

	while (pad < 2 && pad < len && text[len - 1 - pad] == '=') {
		pad++;
	}
	if (len == 0 || len % 4 != 0 ||
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") !=
	        len - pad) {
		return NULL;
	}
	struct secret *secret = mg_arena_alloc(arena, sizeof *secret);

	secret->size = len / 4 * 3 + 1;
	secret->text = mg_arena_alloc(arena, secret->size);
	mg_arena_defer(arena, wipe, secret);
	int count =
		EVP_DecodeBlock((unsigned char *)secret->text, (const unsigned char *)text, (int)len);

	if (count < (int)pad) {
		return NULL;
	}
	*size = (size_t)count - pad;
	secret->text[*size] = '\0';
	return secret->text;
}

bool mg_http_basic(struct mg_http_request *request, const char **user, const char **password)
{
	const char *header = mg_http_header(request, "authorization");
	size_t size = 0;

	if (header == NULL || strncasecmp(header, "Basic ", 6) != 0 ||
	    mg_http__count(request, "authorization") > 1) {
		return false;
	}
	header += 6 + strspn(header + 6, " ");
	char *text = decode_base64(request->arena, header, &size);
	char *colon = text != NULL ? memchr(text, ':', size) : NULL;

	if (colon == NULL || strlen(text) != size) {
		return false;
	}
	*colon = '\0';
	*user = text;
	*password = colon + 1;
	return true;
}
