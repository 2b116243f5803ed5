/* puts_rest.c - our keys over HTTP/1.1, which can be scanned in their order. */
#include "puts_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void rest_open(struct worker *worker)
{
	puts_connect(worker, worker->load->arguments[0], worker->load->arguments[1], "http/1.1");
}

/* Whether a whole answer has come; worker->in has a zero behind it. */
static bool is_whole(const struct worker *worker)
{
	const char *in = (const char *)worker->in, *body = strstr(in, "\r\n\r\n");
	const char *length = body ? strstr(in, "Content-Length: ") : NULL;

	if (!body) {
		return false;
	}
	if (length && length < body) {
		size_t size = strtoul(length + strlen("Content-Length: "), NULL, 10);

		return worker->in_size >= (size_t)(body - in) + 4 + size;
	}
	return worker->in_size > 5 && strcmp(in + worker->in_size - 5, "0\r\n\r\n") == 0;
}

/* The request in worker->text; its answer is 200 and has this in it. */
static void call(struct worker *worker, const char *expected)
{
	const char *in = (const char *)worker->in;

	puts_send(worker);
	worker->in_size = 0;
	do {
		puts_read(worker);
		if (worker->in_size == sizeof worker->in) {
			puts_fail("rest", "an answer that is too large");
		}
		worker->in[worker->in_size] = '\0';
	} while (!is_whole(worker));
	if (strncmp(in, "HTTP/1.1 200", 12) != 0 || !strstr(in, expected)) {
		worker->in[200] = '\0';
		puts_fail("rest", in);
	}
}

static void add_head(struct worker *worker, const char *method, const struct step *step)
{
	char hex[2 * sizeof step->key + 1];

	for (size_t i = 0; i < sizeof step->key; i++) {
		(void)snprintf(hex + 2 * i, 3, "%02x", (unsigned char)step->key[i]);
	}
	mg_sb_addf(&worker->text, "%s /kv/default", method);
	if (step->op == OP_SCAN) {
		mg_sb_addf(&worker->text, "?encoding=hex&values=base64&start=%s&limit=%llu", hex,
		           (unsigned long long)step->count);
	} else {
		mg_sb_addf(&worker->text, "/%s?encoding=hex", hex);
	}
	mg_sb_addf(&worker->text, " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic %s\r\n",
	           worker->load->arguments[2]);
}

static void rest_put(struct worker *worker, uint64_t unused)
{
	struct step step;

	(void)unused;
	if (!puts_next(worker, &step)) {
		return;
	}
	add_head(worker, step.op == OP_WRITE ? "PUT" : "GET", &step);
	if (step.op == OP_WRITE) {
		mg_sb_addf(&worker->text, "Content-Type: text/plain\r\nContent-Length: %d\r\n", VALUE_SIZE);
	}
	mg_sb_add(&worker->text, "\r\n");
	if (step.op == OP_WRITE) {
		mg_sb_add_len(&worker->text, worker->value, VALUE_SIZE);
	}
	call(worker, step.op == OP_WRITE  ? "{\"version\""
	             : step.op == OP_SCAN ? "\"value\": \""
	                                  : "\r\n\r\n");
}

static void rest_close(struct worker *worker)
{
	mg_client_socket_close(worker->socket);
}

const struct way puts_rest = { rest_open, rest_put, rest_close };
