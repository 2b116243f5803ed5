/*
 * slot.h - which of the 16,384 hash slots a row belongs to.  The only hash that placement and
 * repartitioning know; frozen with file format 1, with test vectors in test/unit/test_slot.c.
 *
 * slot = top 14 bits of XXH3-64 over, for each key column in turn, a class tag byte and canonical
 * bytes: integers of any width and decimals without fraction as 128-bit little-endian (class 1);
 * decimals with fraction: trailing zeros stripped, scale byte, 128-bit value (class 2); floats as
 * double, -0 is 0, one NaN (class 3); text: length (u64) and bytes (class 4); blob likewise (5);
 * bool (6); date as days i32 (7); timestamp in microseconds i64 (8), with time zone (9); time (10);
 * interval refused; uuid 16 bytes (12); enum as its text (class 4); NULL: tag 0 and no bytes.
 */
#ifndef MG_CODEC_SLOT_H
#define MG_CODEC_SLOT_H

#include <stddef.h>
#include <stdint.h>

#define MG_SLOTS 16384

struct mg_slot_hash {
	uint8_t small[64]; /* canonical bytes collected so far */
	size_t used;
	void *state; /* XXH3 state once small is full; NULL before */
};

void mg_slot_begin(struct mg_slot_hash *hash);
void mg_slot_null(struct mg_slot_hash *hash);
void mg_slot_int(struct mg_slot_hash *hash, __int128 value);
void mg_slot_decimal(struct mg_slot_hash *hash, __int128 value, uint8_t scale);
void mg_slot_double(struct mg_slot_hash *hash, double value);
void mg_slot_text(struct mg_slot_hash *hash, const void *bytes, size_t len);
void mg_slot_bytes(struct mg_slot_hash *hash, uint8_t class_tag, const void *bytes, size_t len);
uint16_t mg_slot_end(struct mg_slot_hash *hash); /* frees the state */

/* Shard (from 0) of a slot when shard_count shards share all slots in equal contiguous ranges, and
 * the first slot of a shard (of shard_count: 16,384, the end of the last one). */
uint32_t mg_slot_shard(uint16_t slot, uint32_t shard_count);
uint16_t mg_slot_first(uint32_t shard, uint32_t shard_count);

#endif
