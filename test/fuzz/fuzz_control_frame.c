/* fuzz_control_frame.c - text frames that a client sends on wss /client. */
#include "base/assert.h"
#include "door/control_frame.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_control frame;
	struct mg_error err = { 0 };

	if (mg_control_parse(arena, (const char *)data, size, &frame, &err) == 0) {
		mg_assert(frame.kind == MG_CONTROL_PING || frame.id > 0);
		mg_assert(frame.kind != MG_CONTROL_QUERY || frame.sql.ptr[frame.sql.len] == '\0');
	} else {
		mg_assert(err.code == MG_E_PROTOCOL);
		mg_assert(strlen(err.message) < sizeof err.message);
	}
	mg_arena_free(arena);
	return 0;
}
