/* puts_resp.c - our keys and values as a Redis client asks for them. */
#include "puts_int.h"

#include <stdlib.h>
#include <string.h>

/* Whether a whole answer has come: a line, or a string behind its length. */
static bool is_whole(const struct worker *worker)
{
	const uint8_t *end = memchr(worker->in, '\n', worker->in_size);
	size_t line = end ? (size_t)(end - worker->in) + 1 : 0;

	if (!end || worker->in[0] != '$') {
		return end != NULL;
	}
	return worker->in_size >= line + strtoul((const char *)worker->in + 1, NULL, 10) + 2;
}

/* The command in worker->text; its answer begins so. */
static void call(struct worker *worker, const char *expected)
{
	puts_send(worker);
	worker->in_size = 0;
	while (!is_whole(worker)) {
		puts_read(worker);
	}
	if (strncmp((const char *)worker->in, expected, strlen(expected)) != 0) {
		worker->in[worker->in_size < 200 ? worker->in_size : 200] = '\0';
		puts_fail("resp", (const char *)worker->in);
	}
}

static void add_word(struct mg_sb *out, const void *bytes, size_t size)
{
	mg_sb_addf(out, "$%zu\r\n", size);
	mg_sb_add_len(out, bytes, size);
	mg_sb_add(out, "\r\n");
}

static void resp_open(struct worker *worker)
{
	char **argv = worker->load->arguments;

	puts_connect(worker, argv[0], argv[1], NULL);
	mg_sb_add(&worker->text, "*3\r\n");
	add_word(&worker->text, "AUTH", 4);
	add_word(&worker->text, argv[2], strlen(argv[2]));
	add_word(&worker->text, argv[3], strlen(argv[3]));
	call(worker, "+OK");
}

static void resp_set(struct worker *worker, uint64_t key)
{
	mg_sb_add(&worker->text, "*3\r\n");
	add_word(&worker->text, "SET", 3);
	add_word(&worker->text, &key, sizeof key);
	add_word(&worker->text, worker->value, VALUE_SIZE);
	call(worker, "+OK");
}

static void resp_open_filled(struct worker *worker)
{
	resp_open(worker);
	puts_fill(worker, resp_set);
}

static void resp_get(struct worker *worker, uint64_t unused)
{
	uint64_t key = puts_own_key(worker);

	(void)unused;
	mg_sb_add(&worker->text, "*2\r\n");
	add_word(&worker->text, "GET", 3);
	add_word(&worker->text, &key, sizeof key);
	call(worker, "$100\r\n");
}

static void resp_close(struct worker *worker)
{
	mg_client_socket_close(worker->socket);
}

const struct way puts_resp_set = { resp_open, resp_set, resp_close };
const struct way puts_resp_get = { resp_open_filled, resp_get, resp_close };
