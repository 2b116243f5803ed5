/*
 * log_record.c - see log_record.h.
 */
#include "raft/log_record.h"

#include "base/bytes.h"
#include "raft/log.h"

#include <xxhash.h>

void mg_log_record_write(uint8_t *bytes, const struct mg_log_head *head, const void *payload)
{
	struct mg_out out = mg_out(bytes, mg_log_record_size(head->size));
	static const uint8_t zeros[MG_LOG_ALIGN];

	mg_assert(head->size == 0 || payload);
	mg_out_u64(&out, 0); /* the checksum, when it is sealed */
	mg_out_u32(&out, head->size);
	mg_out_u32(&out, head->group);
	mg_out_u64(&out, head->batch);
	mg_out_u64(&out, head->index);
	mg_out_u64(&out, head->term);
	mg_out_u8(&out, head->kind);
	mg_out_u8(&out, head->type);
	mg_out_u8(&out, head->flags);
	mg_out_bytes(&out, zeros, MG_LOG_HEAD_SIZE - out.size);
	mg_out_bytes(&out, payload, head->size);
	mg_out_bytes(&out, zeros, out.cap - out.size);
}

/* Returns the checksum that the record carries. *clean: what must be zero is. */
static uint64_t read_head(const uint8_t *bytes, struct mg_log_head *head, bool *clean)
{
	struct mg_in in = mg_in(bytes, MG_LOG_HEAD_SIZE);
	uint64_t sum = mg_in_u64(&in);

	head->size = mg_in_u32(&in);
	head->group = mg_in_u32(&in);
	head->batch = mg_in_u64(&in);
	head->index = mg_in_u64(&in);
	head->term = mg_in_u64(&in);
	head->kind = mg_in_u8(&in);
	head->type = mg_in_u8(&in);
	head->flags = mg_in_u8(&in);
	*clean = mg_in_u8(&in) == 0;
	*clean = mg_in_u32(&in) == 0 && *clean;
	mg_assert(mg_in_done(&in));
	return sum;
}

void mg_log_record_head(const uint8_t *bytes, struct mg_log_head *head)
{
	bool clean;

	(void)read_head(bytes, head, &clean);
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
	size_t size = mg_log_record_size(head.size);
	struct mg_out out = mg_out(record, size);

	mg_out_u64(&out, checksum(record, size, seed));
}

/* Cheap checks first: a search for records looks at every eighth byte. */
bool mg_log_record_read(const uint8_t *bytes, size_t left, uint64_t seed,
                        struct mg_log_head *head)
{
	if (left < MG_LOG_HEAD_SIZE) {
		return false;
	}
	bool clean;
	uint64_t sum = read_head(bytes, head, &clean);
	bool known = (head->kind >= MG_RAFT_LOG_ENTRY && head->kind <= MG_RAFT_LOG_REMOVE) ||
	             (head->kind >= MG_LOG_KIND_REWRITE && head->kind <= MG_LOG_KIND_SEAL);

	if (!known || !clean || head->group >= MG_GROUPS_MAX ||
	    head->size > MG_ENTRY_SIZE_MAX || mg_log_record_size(head->size) > left) {
		return false;
	}
	return sum == checksum(bytes, mg_log_record_size(head->size), seed);
}
