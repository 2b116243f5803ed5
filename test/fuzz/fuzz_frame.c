/* fuzz_frame.c - heads of data frames between servers and workers: any bytes are refused or
 * understood. */
#include "exec/channel.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mg_frame frame, again;
	struct mg_error err;
	mg_error_clear(&err);
	if (mg_frame_decode(data, size, &frame, &err) == 0) {
		uint8_t head[MG_FRAME_HEAD];
		mg_frame_encode(head, &frame, data + MG_FRAME_HEAD, size - MG_FRAME_HEAD);
		if (memcmp(head, data, MG_FRAME_HEAD) != 0) {
			abort();
		}
	}
	/* The same payload behind a head of ours must be understood. */
	if (size >= MG_FRAME_HEAD) {
		uint8_t *message = malloc(size);
		memcpy(message, data, size);
		struct mg_frame made = {
			.kind = 1 + data[0] % 3, .id = size, .stage = data[1], .target = data[2], .rows = 7
		};
		mg_frame_encode(message, &made, message + MG_FRAME_HEAD, size - MG_FRAME_HEAD);
		if (mg_frame_decode(message, size, &again, &err) != 0 || again.id != size ||
		    again.rows != 7) {
			abort();
		}
		free(message);
	}
	return 0;
}
