/*
 * fuzz_resp.c - bytes of a Redis client: whatever pieces they come in, the same commands come of
 * them, and none goes past its limits.
 *
 * Input: the first byte says how long the pieces are; the rest is parsed so, and at once.
 */
#include "base/assert.h"
#include "door/resp_parse.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mg_resp_limits limits = { .args = 100, .arg = 300, .command = 1000 };

static void note(struct mg_sb *seen, const struct mg_resp_command *command)
{
	size_t all = 0;

	mg_assert(command->count > 0 && command->count <= MG_RESP_LINE_MAX);
	for (size_t i = 0; i < command->count; i++) {
		const struct mg_str arg = command->args[i];
		struct mg_str half = { arg.ptr, arg.len / 2 };
		int64_t number = 0;

		all += arg.len;
		mg_sb_addf(seen, "%zu:", arg.len);
		mg_sb_add_len(seen, arg.ptr, arg.len);
		(void)mg_resp_int(arg, &number);
		(void)mg_resp_glob(arg, half);
		(void)mg_resp_glob(half, arg);
	}
	mg_assert(all <= MG_RESP_LINE_MAX);
	mg_sb_add(seen, "\n");
}

static void parse(struct mg_sb *seen, const uint8_t *data, size_t size, size_t piece)
{
	struct mg_resp_parser parser = { .limits = limits };
	char error[MG_RESP_ERROR_SIZE] = "";
	bool bad = false;

	for (size_t at = 0; at < size && !bad;) {
		size_t part = size - at < piece ? size - at : piece, used = 0;
		struct mg_resp_command *command = NULL;
		enum mg_resp_parsed parsed =
			mg_resp_parse(&parser, data + at, part, &used, &command, error);

		mg_assert(used <= part && (parsed != MG_RESP_MORE || used == part));
		at += used;
		bad = parsed == MG_RESP_BAD;
		if (parsed == MG_RESP_COMMAND) {
			note(seen, command);
			mg_resp_command_free(command);
		}
		mg_assert(bad || parsed == MG_RESP_COMMAND || used > 0);
	}
	mg_sb_add(seen, error);
	mg_resp_parser_fini(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_sb pieces = { 0 }, whole = { 0 };

	if (size < 2) {
		return 0;
	}
	parse(&pieces, data + 1, size - 1, data[0] ? data[0] : 1);
	parse(&whole, data + 1, size - 1, size);
	mg_assert(strcmp(mg_sb_text(&pieces), mg_sb_text(&whole)) == 0);
	mg_sb_fini(&pieces);
	mg_sb_fini(&whole);
	return 0;
}
