/*
 * fuzz_join.c - what a stranger says at POST /join, and what a server that is none answers.
 *
 * A request that is taken is passed on as it was understood.  Requests for certificates go to the
 * check that comes before anything is signed.
 */
#include "auth/auth.h"
#include "base/assert.h"
#include "server/join_wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_passed_on(struct mg_arena *arena, const struct mg_join_ask *ask)
{
	struct mg_join_ask again;
	struct mg_error err;
	struct mg_sb text = { 0 };

	mg_join_ask_write(ask, &text);
	mg_assert(mg_join_ask_read(arena, (struct mg_str){ text.ptr, text.len }, &again, &err) == 0);
	mg_assert(strcmp(ask->id, again.id) == 0 && strcmp(ask->address, again.address) == 0);
	mg_assert(strcmp(ask->node_request, again.node_request) == 0);
	mg_assert(strcmp(ask->server_request, again.server_request) == 0);
	mg_assert(strcmp(ask->version, again.version) == 0 && strcmp(ask->engine, again.engine) == 0);
	mg_assert(strcmp(ask->cluster, again.cluster) == 0 && ask->number == again.number);
	mg_assert(ask->file_format == again.file_format && ask->relayed == again.relayed);
	mg_sb_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_str body = { (const char *)data, size };
	struct mg_join_ask ask;
	struct mg_join_answer answer;
	struct mg_error err = { 0 };

	if (mg_join_ask_read(arena, body, &ask, &err) == 0) {
		check_passed_on(arena, &ask);
		(void)mg_cert_request_check(ask.node_request, &err);
	}
	if (mg_join_answer_read(arena, body, &answer, &err) == 0) {
		mg_assert(answer.number > 0 && strlen(answer.catalog.ptr) == answer.catalog.len);
	}
	mg_assert(mg_join_refusal_read(body, 409, &err) != 0);
	mg_arena_free(arena);
	return 0;
}
