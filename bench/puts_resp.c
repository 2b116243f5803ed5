/* puts_resp.c - Redis' protocol, to our servers or Redis' own. */
#include "puts_int.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(VALUE_SIZE == 100, "add_command says so");

/* The answer at `at`: a line, or a string behind its length.  0: it has not come yet. */
static size_t answer_size(const struct worker *worker, size_t at)
{
	const char *begin = (const char *)worker->in + at;
	const char *end = memchr(begin, '\n', worker->in_size - at);
	size_t size = end ? (size_t)(end - begin) + 1 : 0;

	if (end && *begin == '$') {
		size += strtoul(begin + 1, NULL, 10) + 2;
	}
	return at + size <= worker->in_size ? size : 0;
}

/* Commands in worker->text; their answers begin so. */
static void call(struct worker *worker, const char *const *expected, size_t count)
{
	size_t at = 0, size;

	puts_send(worker);
	worker->in_size = 0;
	for (size_t i = 0; i < count; i++, at += size) {
		while ((size = answer_size(worker, at)) == 0) {
			puts_read(worker);
		}
		if (strncmp((const char *)worker->in + at, expected[i], strlen(expected[i])) != 0) {
			worker->in[at + size - 1] = '\0';
			puts_fail("resp", (const char *)worker->in + at);
		}
	}
}

static void add_word(struct mg_sb *out, const char *word)
{
	mg_sb_addf(out, "$%zu\r\n%s\r\n", strlen(word), word);
}

static void resp_open(struct worker *worker)
{
	static const char *const ok[] = { "+OK" };
	char **argv = worker->load->arguments;

	puts_connect(worker, argv[0], argv[1], NULL);
	mg_sb_add(&worker->text, "*3\r\n");
	add_word(&worker->text, "AUTH");
	add_word(&worker->text, argv[2]);
	add_word(&worker->text, argv[3]);
	call(worker, ok, 1);
}

static void add_command(struct worker *worker, const struct step *step)
{
	mg_sb_add(&worker->text, step->op == OP_WRITE ? "*3\r\n$3\r\nSET\r\n$8\r\n"
	                                              : "*2\r\n$3\r\nGET\r\n$8\r\n");
	mg_sb_add_len(&worker->text, step->key, sizeof step->key);
	if (step->op == OP_WRITE) {
		mg_sb_add(&worker->text, "\r\n$100\r\n");
		mg_sb_add_len(&worker->text, worker->value, VALUE_SIZE);
	}
	mg_sb_add(&worker->text, "\r\n");
}

static void resp_put(struct worker *worker, uint64_t unused)
{
	const char *expected[PIPELINE_MAX];
	struct step step;
	size_t count = 0;

	(void)unused;
	for (; count < worker->load->pipeline && puts_next(worker, &step); count++) {
		expected[count] = step.op == OP_WRITE ? "+OK" : "$100\r\n";
		add_command(worker, &step);
	}
	if (count) {
		call(worker, expected, count);
	}
}

static void resp_close(struct worker *worker)
{
	mg_client_socket_close(worker->socket);
}

const struct way puts_resp = { resp_open, resp_put, resp_close };
