/* fuzz_raft_frame.c - frames of a peer; what was understood must encode to the same bytes. */
#include "base/assert.h"
#include "raft/frame.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct mg_raft_frame *frame, const uint8_t *data, size_t size)
{
	bool message = frame->kind < MG_RAFT_FRAME_PROBE;
	struct mg_buf *again = message
	                           ? mg_raft_frame_message(frame->group, frame->from, &frame->message)
	                           : mg_raft_frame_probes(frame->kind, frame->from, frame->round,
	                                                  frame->probes, frame->probe_count);

	mg_assert(again != NULL);
	mg_raft_frame_number(again, frame->incarnation, frame->sequence);
	mg_assert(again->size == size);
	/* Flags may hold bits without a meaning, which do not come back. */
	mg_assert(frame->kind != MG_MESSAGE_APPEND || memcmp(again->data, data, size) == 0);
	mg_buf_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_raft_frame frame;
	struct mg_error err = { 0 };
	size_t told;

	if (mg_raft_frame_size(data, size, &told, &err) == 0 && told <= size && told > 0) {
		if (mg_raft_frame_decode(arena, data, told, &frame, &err) == 0) {
			check_again(&frame, data, told);
		} else {
			mg_assert(err.code == MG_E_PROTOCOL);
		}
	}
	mg_arena_free(arena);
	return 0;
}
