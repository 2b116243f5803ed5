/*
 * slot.c - slots from key values.
 *
 * The canonical bytes of a key are gathered in 64 bytes inside the struct, which holds nearly all
 * keys, and hashed at once; only longer ones use XXH3's streaming state.  Both give the same hash,
 * and the byte layout is frozen: every stored row depends on it.
 *
 *   class tag (1 byte) | canonical bytes          for each key column in turn
 *   0                    NULL
 *   1                    i128 little-endian        integers, decimals without fraction
 *   2                    scale u8, i128            decimals with fraction, trailing zeros stripped
 *   3                    f64 bits, -0 as 0, NaN as 0x7ff8000000000000
 *   4                    length u64, bytes         text
 *   others               bytes                     fixed width per class (see slot.h)
 */
#include "codec/slot.h"

#include "base/assert.h"

#include <string.h>
#include <xxhash.h>

enum {
	TAG_NULL = 0,
	TAG_INT = 1,
	TAG_DECIMAL = 2,
	TAG_DOUBLE = 3,
	TAG_TEXT = 4,
	TAG_BLOB = 5,
};

_Static_assert(MG_SLOTS == 1 << 14, "a slot is the top 14 bits of the hash");

void mg_slot_begin(struct mg_slot_hash *hash)
{
	hash->used = 0;
	hash->state = NULL;
}

static void feed(struct mg_slot_hash *hash, const void *bytes, size_t len)
{
	if (!hash->state && len <= sizeof hash->small - hash->used) {
		if (len) {
			memcpy(hash->small + hash->used, bytes, len);
		}
		hash->used += len;
		return;
	}
	if (!hash->state) {
		hash->state = XXH3_createState();
		mg_assert(hash->state != NULL);
		XXH3_64bits_reset(hash->state);
		XXH3_64bits_update(hash->state, hash->small, hash->used);
	}
	XXH3_64bits_update(hash->state, bytes, len);
}

static void store_le(uint8_t *to, unsigned __int128 value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		to[i] = (uint8_t)(value >> (8 * i));
	}
}

void mg_slot_null(struct mg_slot_hash *hash)
{
	uint8_t tag = TAG_NULL;
	feed(hash, &tag, 1);
}

void mg_slot_int(struct mg_slot_hash *hash, __int128 value)
{
	uint8_t bytes[17] = { TAG_INT };
	store_le(bytes + 1, (unsigned __int128)value, 16);
	feed(hash, bytes, sizeof bytes);
}

void mg_slot_decimal(struct mg_slot_hash *hash, __int128 value, uint8_t scale)
{
	while (scale > 0 && value % 10 == 0) {
		value /= 10;
		scale--;
	}
	if (scale == 0) {
		mg_slot_int(hash, value);
		return;
	}
	uint8_t bytes[18] = { TAG_DECIMAL, scale };
	store_le(bytes + 2, (unsigned __int128)value, 16);
	feed(hash, bytes, sizeof bytes);
}

void mg_slot_double(struct mg_slot_hash *hash, double value)
{
	uint64_t bits = UINT64_C(0x7ff8000000000000);
	if (value == 0) {
		bits = 0;
	} else if (value == value) {
		memcpy(&bits, &value, sizeof bits);
	}
	uint8_t bytes[9] = { TAG_DOUBLE };
	store_le(bytes + 1, bits, 8);
	feed(hash, bytes, sizeof bytes);
}

static void feed_counted(struct mg_slot_hash *hash, uint8_t tag, const void *data, size_t len)
{
	uint8_t head[9] = { tag };
	store_le(head + 1, len, 8);
	feed(hash, head, sizeof head);
	feed(hash, data, len);
}

void mg_slot_text(struct mg_slot_hash *hash, const void *bytes, size_t len)
{
	feed_counted(hash, TAG_TEXT, bytes, len);
}

void mg_slot_bytes(struct mg_slot_hash *hash, uint8_t class_tag, const void *bytes, size_t len)
{
	mg_assert(class_tag > TAG_TEXT);
	if (class_tag == TAG_BLOB) {
		feed_counted(hash, class_tag, bytes, len);
		return;
	}
	feed(hash, &class_tag, 1);
	feed(hash, bytes, len);
}

uint16_t mg_slot_end(struct mg_slot_hash *hash)
{
	uint64_t value;
	if (hash->state) {
		value = XXH3_64bits_digest(hash->state);
		XXH3_freeState(hash->state);
		hash->state = NULL;
	} else {
		value = XXH3_64bits(hash->small, hash->used);
	}
	hash->used = 0;
	return (uint16_t)(value >> 50);
}

uint16_t mg_slot_first(uint32_t shard, uint32_t shard_count)
{
	mg_assert(shard_count > 0 && shard_count <= MG_SLOTS && shard <= shard_count);
	return (uint16_t)(((uint64_t)shard * MG_SLOTS + shard_count - 1) / shard_count);
}

/* The greatest shard whose first slot is not above: inverse of the rounding up in mg_slot_first. */
uint32_t mg_slot_shard(uint16_t slot, uint32_t shard_count)
{
	mg_assert(shard_count > 0 && shard_count <= MG_SLOTS && slot < MG_SLOTS);
	return (uint32_t)((uint64_t)slot * shard_count / MG_SLOTS);
}
