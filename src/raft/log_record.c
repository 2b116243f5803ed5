/*
 * log_record.c - see log_record.h.
 */
#include "raft/log_record.h"

#include "base/assert.h"
#include "raft/log.h"

#include <string.h>
#include <xxhash.h>

static void put_u32(uint8_t *out, uint32_t value)
{
	for (int i = 0; i < 4; i++) {
		out[i] = (uint8_t)(value >> (8 * i));
	}
}

static uint32_t get_u32(const uint8_t *bytes)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		value |= (uint32_t)bytes[i] << (8 * i);
	}
	return value;
}

void mg_log_put_u64(uint8_t *out, uint64_t value)
{
	put_u32(out, (uint32_t)value);
	put_u32(out + 4, (uint32_t)(value >> 32));
}

uint64_t mg_log_get_u64(const uint8_t *bytes)
{
	return get_u32(bytes) | (uint64_t)get_u32(bytes + 4) << 32;
}

void mg_log_record_write(uint8_t *out, const struct mg_log_head *head, const void *payload)
{
	mg_assert(head->size == 0 || payload);
	mg_log_put_u64(out, 0);
	put_u32(out + 8, head->size);
	put_u32(out + 12, head->group);
	mg_log_put_u64(out + 16, head->batch);
	mg_log_put_u64(out + 24, head->index);
	mg_log_put_u64(out + 32, head->term);
	out[40] = head->kind;
	out[41] = head->type;
	out[42] = head->flags;
	memset(out + 43, 0, MG_LOG_HEAD_SIZE - 43);
	if (head->size) {
		memcpy(out + MG_LOG_HEAD_SIZE, payload, head->size);
	}
	size_t end = MG_LOG_HEAD_SIZE + head->size;

	memset(out + end, 0, mg_log_record_size(head->size) - end);
}

void mg_log_record_head(const uint8_t *bytes, struct mg_log_head *head)
{
	*head = (struct mg_log_head){
		.size = get_u32(bytes + 8),
		.group = get_u32(bytes + 12),
		.batch = mg_log_get_u64(bytes + 16),
		.index = mg_log_get_u64(bytes + 24),
		.term = mg_log_get_u64(bytes + 32),
		.kind = bytes[40],
		.type = bytes[41],
		.flags = bytes[42],
	};
}

static uint64_t checksum(const uint8_t *record, size_t size, uint64_t seed)
{
	return XXH3_64bits_withSeed(record + 8, size - 8, seed);
}

void mg_log_record_seal(uint8_t *record, uint8_t flags, uint64_t seed)
{
	struct mg_log_head head;

	record[42] |= flags;
	mg_log_record_head(record, &head);
	mg_log_put_u64(record, checksum(record, mg_log_record_size(head.size), seed));
}

/* Cheap checks first: a search for records looks at every eighth byte. */
bool mg_log_record_read(const uint8_t *bytes, size_t left, uint64_t seed,
                        struct mg_log_head *head)
{
	if (left < MG_LOG_HEAD_SIZE) {
		return false;
	}
	mg_log_record_head(bytes, head);
	bool known = (head->kind >= MG_RAFT_LOG_ENTRY && head->kind <= MG_RAFT_LOG_REMOVE) ||
	             (head->kind >= MG_LOG_KIND_REWRITE && head->kind <= MG_LOG_KIND_SEAL);

	if (!known || bytes[43] || get_u32(bytes + 44) || head->group >= MG_GROUPS_MAX ||
	    head->size > MG_ENTRY_SIZE_MAX || mg_log_record_size(head->size) > left) {
		return false;
	}
	return mg_log_get_u64(bytes) == checksum(bytes, mg_log_record_size(head->size), seed);
}
