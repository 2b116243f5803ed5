/*
 * fuzz_raft_log.c - records of the node's log, as a restart reads them.
 *
 * The checksum would keep all but whole records out, so each one is sealed before it is read; a
 * number of an index is made small, so that no seed asks for gigabytes.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "raft/log_index.h"

#include <string.h>

#define SEED 7u
#define GROUPS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_count(void *arg, uint32_t segment, int items, int64_t bytes)
{
	int64_t *held = arg;

	(void)bytes;
	mg_assert(segment == 1);
	held[0] += items;
	mg_assert(held[0] >= 0);
}

/* Give the bytes at `record` a valid size, group, small indexes and checksum; false: no room. */
static bool tame(uint8_t *record, size_t left)
{
	struct mg_log_head head;

	if (left < MG_LOG_HEAD_SIZE) {
		return false;
	}
	mg_log_record_head(record, &head);
	head.size &= 0xff;
	head.group %= GROUPS;
	head.index = head.index == UINT64_MAX ? head.index : head.index & 0xfff;
	if (mg_log_record_size(head.size) > left) {
		return false;
	}
	uint8_t payload[256];

	memcpy(payload, record + MG_LOG_HEAD_SIZE, head.size);
	memset(payload + 10, 0, 6); /* of a state: the last entry */
	mg_log_record_write(record, &head, payload);
	mg_log_record_seal(record, 0, SEED);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t held = 0;
	struct mg_log_index index = { .count = on_count, .arg = &held };
	uint8_t *bytes = mg_alloc(size + 1);
	struct mg_log_head head;
	struct mg_error err = { 0 };

	memcpy(bytes, data, size);
	mg_log_record_read(bytes, size, SEED, &head);
	for (size_t at = 0; tame(bytes + at, size - at); at += mg_log_record_size(head.size)) {
		if (!mg_log_record_read(bytes + at, size - at, SEED, &head)) {
			mg_log_record_head(bytes + at, &head); /* of a kind that is none */
			continue;
		}
		int code = mg_log_index_apply(&index, &head, bytes + at + MG_LOG_HEAD_SIZE, 1, (uint32_t)at,
		                              false, &err);

		mg_assert(code == 0 || code == MG_E_CORRUPT);
	}
	(void)mg_log_index_check(&index, &err);
	mg_log_index_fini(&index);
	mg_free(bytes);
	return 0;
}
