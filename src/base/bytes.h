/*
 * bytes.h - little-endian numbers in and out of byte ranges whose ends are checked.
 *
 * Rule: a reader never reads past its end: it fails, stays failed, and hands out zeros, so that a
 * decoder checks once, at its end.  A writer's room is computed by its caller, hence asserted.
 *
 * Pure; any thread.
 */
#ifndef MG_BASE_BYTES_H
#define MG_BASE_BYTES_H

#include "base/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

struct mg_in {
	const uint8_t *at, *end;
	bool failed;
};

struct mg_out {
	uint8_t *data;
	size_t size, cap;
};

static inline struct mg_in mg_in(const uint8_t *data, size_t size)
{
	static const uint8_t nothing[1];

	mg_assert(data != NULL || size == 0);
	if (data == NULL) {
		data = nothing;
	}
	return (struct mg_in){ .at = data, .end = data + size };
}

/* All read, and nothing failed. */
static inline bool mg_in_done(const struct mg_in *in)
{
	return !in->failed && in->at == in->end;
}

/* `size` bytes in place, or NULL when there are fewer. */
static inline const uint8_t *mg_in_bytes(struct mg_in *in, size_t size)
{
	const uint8_t *at = in->at;

	if (in->failed || size > (size_t)(in->end - in->at)) {
		in->failed = true;
		return NULL;
	}
	in->at += size;
	return at;
}

static inline void mg_in_number(struct mg_in *in, void *value, size_t size)
{
	const uint8_t *at = mg_in_bytes(in, size);

	if (at == NULL) {
		memset(value, 0, size);
	} else {
		memcpy(value, at, size);
	}
}

static inline uint8_t mg_in_u8(struct mg_in *in)
{
	uint8_t value;

	mg_in_number(in, &value, sizeof value);
	return value;
}

static inline uint16_t mg_in_u16(struct mg_in *in)
{
	uint16_t value;

	mg_in_number(in, &value, sizeof value);
	return value;
}

static inline uint32_t mg_in_u32(struct mg_in *in)
{
	uint32_t value;

	mg_in_number(in, &value, sizeof value);
	return value;
}

static inline uint64_t mg_in_u64(struct mg_in *in)
{
	uint64_t value;

	mg_in_number(in, &value, sizeof value);
	return value;
}

static inline struct mg_out mg_out(uint8_t *data, size_t cap)
{
	mg_assert(data != NULL);
	return (struct mg_out){ .data = data, .cap = cap };
}

static inline void mg_out_bytes(struct mg_out *out, const void *data, size_t size)
{
	mg_assert(size <= out->cap - out->size);
	if (size > 0) {
		memcpy(out->data + out->size, data, size);
	}
	out->size += size;
}

static inline void mg_out_u8(struct mg_out *out, uint8_t value)
{
	mg_out_bytes(out, &value, sizeof value);
}

static inline void mg_out_u16(struct mg_out *out, uint16_t value)
{
	mg_out_bytes(out, &value, sizeof value);
}

static inline void mg_out_u32(struct mg_out *out, uint32_t value)
{
	mg_out_bytes(out, &value, sizeof value);
}

static inline void mg_out_u64(struct mg_out *out, uint64_t value)
{
	mg_out_bytes(out, &value, sizeof value);
}

#endif
