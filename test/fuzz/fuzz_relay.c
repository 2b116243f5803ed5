/* fuzz_relay.c - frames of statements between nodes: what was understood and is said again is
 * understood the same; and a reader that is fed in pieces finds the same frames as one that is fed
 * at once. */
#include "base/assert.h"
#include "session/relay_frame.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frame(const uint8_t *data, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_relay_frame frame, again;
	struct mg_error err = { 0 };

	if (mg_relay_frame_decode(arena, data, size, &frame, &err) != 0) {
		mg_assert(err.code == MG_E_PROTOCOL);
		mg_arena_free(arena);
		return;
	}
	struct mg_buf *once = mg_relay_frame_encode(&frame);
	size_t behind = frame.kind == MG_RELAY_BATCH ? frame.batch.size : 0;
	struct mg_buf *whole = mg_buf_new(once->size + behind);

	memcpy(whole->data, once->data, once->size);
	if (behind) {
		memcpy(whole->data + once->size, frame.batch.data, behind);
	}
	whole->size = once->size + behind;
	mg_assert(mg_relay_frame_decode(arena, whole->data, whole->size, &again, &err) == 0);
	struct mg_buf *twice = mg_relay_frame_encode(&again);

	mg_assert(twice->size == once->size && memcmp(twice->data, once->data, once->size) == 0);
	mg_buf_unref(twice);
	mg_buf_unref(whole);
	mg_buf_unref(once);
	mg_arena_free(arena);
}

/* How many frames there are, and how long they are together; UINT64_MAX: nonsense. */
static uint64_t read_in_steps(const uint8_t *data, size_t size, size_t step)
{
	struct mg_relay_reader reader = { .max = 1 << 20 };
	struct mg_error err = { 0 };
	uint64_t seen = 0;

	for (size_t at = 0; !err.code && at < size;) {
		size_t end = at + step < size ? at + step : size;

		while (!err.code && at < end) {
			struct mg_buf *whole = NULL;
			size_t used = 0;

			(void)mg_relay_reader_take(&reader, data + at, end - at, &used, &whole, &err);
			at += used;
			if (whole) {
				frame(whole->data, whole->size);
				seen = seen * 31 + whole->size;
				mg_buf_unref(whole);
			}
		}
	}
	mg_relay_reader_fini(&reader);
	return err.code ? UINT64_MAX : seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	frame(data, size);
	mg_assert(read_in_steps(data, size, 1) == read_in_steps(data, size, 65536));
	return 0;
}
