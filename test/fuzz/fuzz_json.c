/*
 * fuzz_json.c - text from anywhere into the JSON reader; what it takes must print to a text that it
 * takes again, and that prints to the same text.
 */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *tree = NULL;
	struct mg_json *again = NULL;
	struct mg_error err;
	bool valid = mg_json_valid((const char *)data, size);
	int code = mg_json_parse(arena, (const char *)data, size, &tree, &err);

	if (valid && code != MG_OK) {
		abort();
	}
	if (code == MG_OK) {
		struct mg_sb first = { 0 };
		struct mg_sb second = { 0 };
		mg_json_print(&first, tree);
		if (mg_json_parse(arena, mg_sb_text(&first), first.len, &again, &err) != MG_OK) {
			abort();
		}
		mg_json_print(&second, again);
		if (first.len != second.len || memcmp(first.ptr, second.ptr, first.len) != 0) {
			abort();
		}
		mg_sb_fini(&first);
		mg_sb_fini(&second);
	}
	mg_arena_free(arena);
	return 0;
}
