/*
 * log_index.h - what a log on files holds, in memory: of each group its hard state, its mark, and
 * where each live entry lies; of each segment how much of it still counts.
 *
 * Rule: an item (hard state, mark, entry) counts for the segment that holds its newest record, and
 * for no other.  So a segment without items may go, once what took its items away is durable.
 *
 * `apply` is the one way in, for records that are put and for those that a restart reads back.
 *
 * owner: the raft thread.  24 bytes an entry.
 */
#ifndef MG_RAFT_LOG_INDEX_H
#define MG_RAFT_LOG_INDEX_H

#include "raft/log.h"
#include "raft/log_record.h"

/* Where an entry lies. */
struct mg_log_place {
	uint64_t term;
	uint32_t segment; /* 0: not known yet, while a restart reads */
	uint32_t offset;  /* of the record in its segment */
	uint32_t size;    /* of the payload */
	uint8_t type;
};

struct mg_log_group {
	uint32_t id;
	struct mg_hard_state hard_state;
	uint32_t hard_state_segment; /* 0: none was put */
	struct mg_snapshot_mark mark;
	uint8_t *manifest;     /* mark.manifest, ours */
	uint32_t mark_segment; /* 0: none */
	uint64_t first, last;  /* entries; last == first - 1: none */
	uint64_t bytes;        /* payloads of first .. last */
	struct mg_log_place *places; /* ring-free: places[head] is entry `first` */
	size_t head, cap;
};

struct mg_log_index {
	struct mg_log_group **groups; /* by id; NULL: holds nothing */
	size_t cap;
	/* Items and bytes of records that a segment gains or loses. */
	void (*count)(void *arg, uint32_t segment, int items, int64_t bytes);
	void *arg;
};

void mg_log_index_fini(struct mg_log_index *index);
/* NULL when the group holds nothing. */
struct mg_log_group *mg_log_index_find(const struct mg_log_index *index, uint32_t group);
static inline size_t mg_log_group_count(const struct mg_log_group *group)
{
	return (size_t)(group->last + 1 - group->first);
}
/* entry must be between first and last. */
const struct mg_log_place *mg_log_group_place(const struct mg_log_group *group, uint64_t entry);

/* Take in a record that lies at segment, offset.  strict: the host's duties are asserted; else (a
 * restart) what does not fit is MG_E_CORRUPT. */
int mg_log_index_apply(struct mg_log_index *index, const struct mg_log_head *head,
                       const uint8_t *payload, uint32_t segment, uint32_t offset, bool strict,
                       struct mg_error *err);
/* After the last record of a restart: no entry is missing. */
int mg_log_index_check(const struct mg_log_index *index, struct mg_error *err);

/* The STATE record of a group: head without batch and kind's flags, payload on the heap. */
void mg_log_group_state(const struct mg_log_group *group, struct mg_log_head *head,
                        uint8_t **payload);

#endif
