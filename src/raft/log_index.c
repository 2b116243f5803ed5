/*
 * log_index.c - see log_index.h.
 *
 * A restart reads records in the order of the log, but old segments have gone, so what it reads of
 * a group may begin anywhere: entries 9.. first and, rewritten in front, 5..8 after them.  Entries
 * whose record has not come yet are holes (segment 0); at the end there must be none.
 */
#include "raft/log_index.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <string.h>

#define STATE_FIXED 32u /* vote, last, mark index, mark term; then the manifest */
/* Entries of a group that a restart believes: 1.6 GB of places. */
#define SPAN_MAX (UINT64_C(1) << 26)

/* ---- groups ---- */

static void group_free(struct mg_log_group *group)
{
	mg_free(group->manifest);
	mg_free(group->places);
	mg_free(group);
}

void mg_log_index_fini(struct mg_log_index *index)
{
	for (size_t i = 0; i < index->cap; i++) {
		if (index->groups[i]) {
			group_free(index->groups[i]);
		}
	}
	mg_free(index->groups);
	index->groups = NULL;
	index->cap = 0;
}

struct mg_log_group *mg_log_index_find(const struct mg_log_index *index, uint32_t group)
{
	return group < index->cap ? index->groups[group] : NULL;
}

static struct mg_log_group *find_or_make(struct mg_log_index *index, uint32_t id)
{
	mg_assert(id < MG_GROUPS_MAX);
	if (id >= index->cap) {
		size_t cap = index->cap ? index->cap : 64;

		while (cap <= id) {
			cap *= 2;
		}
		index->groups = mg_realloc(index->groups, cap * sizeof(*index->groups));
		memset(index->groups + index->cap, 0, (cap - index->cap) * sizeof(*index->groups));
		index->cap = cap;
	}
	if (!index->groups[id]) {
		struct mg_log_group *group = mg_alloc0(sizeof *group);

		group->id = id;
		group->first = 1;
		index->groups[id] = group;
	}
	return index->groups[id];
}

/* ---- what counts where ---- */

static void gain(struct mg_log_index *index, uint32_t segment, size_t payload)
{
	index->count(index->arg, segment, 1, (int64_t)mg_log_record_size(payload));
}

static void lose(struct mg_log_index *index, uint32_t segment, size_t payload)
{
	if (segment) {
		index->count(index->arg, segment, -1, -(int64_t)mg_log_record_size(payload));
	}
}

static void set_hard_state(struct mg_log_index *index, struct mg_log_group *group,
                           struct mg_hard_state state, uint32_t segment)
{
	lose(index, group->hard_state_segment, 0);
	group->hard_state = state;
	group->hard_state_segment = segment;
	gain(index, segment, 0);
}

static void set_mark(struct mg_log_index *index, struct mg_log_group *group, uint64_t at,
                     uint64_t term, const uint8_t *manifest, uint32_t size, uint32_t segment)
{
	uint8_t *copy = mg_alloc(size + 1);

	if (size) {
		memcpy(copy, manifest, size);
	}
	lose(index, group->mark_segment, group->mark.manifest_size);
	mg_free(group->manifest);
	group->manifest = copy;
	group->mark = (struct mg_snapshot_mark){
		.index = at, .term = term, .manifest = copy, .manifest_size = size
	};
	group->mark_segment = segment;
	gain(index, segment, size);
}

/* ---- entries ---- */

const struct mg_log_place *mg_log_group_place(const struct mg_log_group *group, uint64_t entry)
{
	mg_assert(entry >= group->first && entry <= group->last);
	return &group->places[group->head + (size_t)(entry - group->first)];
}

static struct mg_log_place *place_of(struct mg_log_group *group, uint64_t entry)
{
	return &group->places[group->head + (size_t)(entry - group->first)];
}

static void forget(struct mg_log_index *index, struct mg_log_group *group, uint64_t entry)
{
	const struct mg_log_place *place = mg_log_group_place(group, entry);

	lose(index, place->segment, place->size);
	group->bytes -= place->segment ? place->size : 0;
}

/* Entries from `from` on go. */
static void cut_tail(struct mg_log_index *index, struct mg_log_group *group, uint64_t from)
{
	while (group->last >= group->first && group->last >= from) {
		forget(index, group, group->last);
		group->last--;
	}
	if (from < group->first) {
		group->first = from;
		group->last = from - 1;
	}
}

/* Entries up to `upto` go. */
static void cut_head(struct mg_log_index *index, struct mg_log_group *group, uint64_t upto)
{
	while (group->first <= upto && group->first <= group->last) {
		forget(index, group, group->first);
		group->first++;
		group->head++;
	}
	if (group->first <= upto) {
		group->first = upto + 1;
		group->last = upto;
	}
	if (group->last < group->first) {
		group->head = 0;
	}
}

/* Room for entries from .. to, which join or overlap those that are there; new ones are holes. */
static void make_room(struct mg_log_group *group, uint64_t from, uint64_t to)
{
	size_t count = mg_log_group_count(group);
	size_t before = group->first > from ? (size_t)(group->first - from) : 0;
	size_t after = to > group->last ? (size_t)(to - group->last) : 0;

	if (!before && !after) {
		return;
	}
	if (before > group->head || group->head + count + after > group->cap) {
		/* What was cut off in front is room again, unless nearly all of it is in use. */
		size_t need = before + count + after;
		size_t cap = need > group->cap / 2 ? need * 2 + 16 : group->cap;
		struct mg_log_place *places = mg_alloc(cap * sizeof *places);

		if (count) {
			memcpy(places + before, group->places + group->head, count * sizeof *places);
		}
		mg_free(group->places);
		group->places = places;
		group->cap = cap;
		group->head = before;
	}
	group->head -= before;
	group->first -= before;
	group->last += after;
	memset(group->places + group->head, 0, before * sizeof *group->places);
	memset(group->places + group->head + before + count, 0, after * sizeof *group->places);
}

static void set_entry(struct mg_log_index *index, struct mg_log_group *group,
                      const struct mg_log_head *head, uint32_t segment, uint32_t offset)
{
	if (mg_log_group_count(group) == 0 && head->index != group->first) {
		group->first = head->index;
		group->last = head->index - 1;
	}
	make_room(group, head->index, head->index);
	if (place_of(group, head->index)->segment) {
		forget(index, group, head->index);
	}
	*place_of(group, head->index) = (struct mg_log_place){ .term = head->term,
		                                                   .segment = segment,
		                                                   .offset = offset,
		                                                   .size = head->size,
		                                                   .type = head->type };
	group->bytes += head->size;
	gain(index, segment, head->size);
}

/* ---- STATE ---- */

void mg_log_group_state(const struct mg_log_group *group, struct mg_log_head *head,
                        uint8_t **payload)
{
	uint32_t size = STATE_FIXED + group->mark.manifest_size;
	uint8_t *bytes = mg_alloc(size);

	*head = (struct mg_log_head){ .size = size,
		                          .group = group->id,
		                          .index = group->first,
		                          .term = group->hard_state.term,
		                          .kind = MG_LOG_KIND_STATE };
	struct mg_out out = mg_out(bytes, size);

	mg_out_u64(&out, group->hard_state.vote);
	mg_out_u64(&out, group->last);
	mg_out_u64(&out, group->mark.index);
	mg_out_u64(&out, group->mark.term);
	mg_out_bytes(&out, group->manifest, group->mark.manifest_size);
	*payload = bytes;
}

static int apply_state(struct mg_log_index *index, struct mg_log_group *group,
                       const struct mg_log_head *head, const uint8_t *payload, uint32_t segment,
                       struct mg_error *err)
{
	struct mg_in in = mg_in(payload, head->size);
	uint64_t vote = mg_in_u64(&in), last = mg_in_u64(&in);
	uint64_t mark = mg_in_u64(&in), mark_term = mg_in_u64(&in);

	if (in.failed || head->index == 0) {
		return mg_error_set(err, MG_E_CORRUPT, "the state of group %u is too short", group->id);
	}

	if (last + 1 < head->index || last - (head->index - 1) > SPAN_MAX) {
		return mg_error_set(err, MG_E_CORRUPT, "group %u has entries from %llu to %llu", group->id,
		                    (unsigned long long)head->index, (unsigned long long)last);
	}
	set_hard_state(index, group,
	               (struct mg_hard_state){ head->term, vote }, segment);
	if (mark) {
		set_mark(index, group, mark, mark_term, in.at, (uint32_t)(in.end - in.at), segment);
	}
	cut_tail(index, group, last + 1);
	cut_head(index, group, head->index - 1);
	if (mg_log_group_count(group) == 0) {
		group->first = head->index;
		group->last = head->index - 1;
	}
	make_room(group, head->index, last);
	return 0;
}

/* ---- records ---- */

static int misfit(const struct mg_log_head *head, const struct mg_log_group *group, bool strict,
                  struct mg_error *err)
{
	mg_assert(!strict);
	return mg_error_set(err, MG_E_CORRUPT,
	                    "record %u of group %u with index %llu does not fit entries %llu to %llu",
	                    head->kind, head->group, (unsigned long long)head->index,
	                    (unsigned long long)group->first, (unsigned long long)group->last);
}

static void remove_group(struct mg_log_index *index, struct mg_log_group *group)
{
	cut_tail(index, group, group->first);
	lose(index, group->hard_state_segment, 0);
	lose(index, group->mark_segment, group->mark.manifest_size);
	index->groups[group->id] = NULL;
	group_free(group);
}

/* New: nothing of the group was seen, so its first record may stand anywhere in its history. */
static int apply_entry(struct mg_log_index *index, struct mg_log_group *group, bool fresh,
                       const struct mg_log_head *head, uint32_t segment, uint32_t offset,
                       bool strict, struct mg_error *err)
{
	bool next = head->index == group->last + 1;
	bool rewrite = head->kind == MG_LOG_KIND_REWRITE;
	bool empty = mg_log_group_count(group) == 0;

	if (head->index == 0 || (!rewrite && !next && (strict || !fresh)) ||
	    (rewrite && head->index > group->last + 1 && !fresh)) {
		return misfit(head, group, strict, err);
	}
	/* A rewritten one in front of what was seen: all between is still to come. */
	if (!strict && !empty && head->index < group->first && group->last - head->index >= SPAN_MAX) {
		return misfit(head, group, strict, err);
	}
	set_entry(index, group, head, segment, offset);
	return 0;
}

int mg_log_index_apply(struct mg_log_index *index, const struct mg_log_head *head,
                       const uint8_t *payload, uint32_t segment, uint32_t offset, bool strict,
                       struct mg_error *err)
{
	if (head->kind == MG_LOG_KIND_SEAL) {
		return 0;
	}
	bool fresh = mg_log_index_find(index, head->group) == NULL;
	struct mg_log_group *group = find_or_make(index, head->group);
	bool empty = mg_log_group_count(group) == 0;

	mg_assert(segment > 0);
	/* Nothing may overflow behind it; a vote is no index. */
	if (head->index == UINT64_MAX && head->kind != MG_RAFT_LOG_HARD_STATE) {
		return misfit(head, group, strict, err);
	}
	switch (head->kind) {
	case MG_RAFT_LOG_ENTRY:
	case MG_LOG_KIND_REWRITE:
		return apply_entry(index, group, fresh || (empty && !strict), head, segment, offset, strict,
		                   err);
	case MG_RAFT_LOG_HARD_STATE:
		mg_assert(!strict || head->term >= group->hard_state.term);
		set_hard_state(index, group, (struct mg_hard_state){ head->term, head->index }, segment);
		return 0;
	case MG_RAFT_LOG_TRUNCATE:
		if (head->index == 0 || (strict && head->index < group->first)) {
			return misfit(head, group, strict, err);
		}
		cut_tail(index, group, head->index);
		return 0;
	case MG_RAFT_LOG_SNAPSHOT:
		mg_assert(!strict || (head->flags & MG_LOG_FLAG_RESET) || head->index <= group->last);
		set_mark(index, group, head->index, head->term, payload, head->size, segment);
		if (head->flags & MG_LOG_FLAG_RESET) {
			cut_tail(index, group, group->first);
			group->first = head->index + 1;
			group->last = head->index;
		}
		return 0;
	case MG_RAFT_LOG_COMPACT:
		mg_assert(!strict || head->index <= group->mark.index);
		cut_head(index, group, head->index);
		return 0;
	case MG_RAFT_LOG_REMOVE:
		remove_group(index, group);
		return 0;
	case MG_LOG_KIND_STATE:
		return apply_state(index, group, head, payload, segment, err);
	default:
		return misfit(head, group, strict, err);
	}
}

int mg_log_index_check(const struct mg_log_index *index, struct mg_error *err)
{
	for (size_t i = 0; i < index->cap; i++) {
		const struct mg_log_group *group = index->groups[i];

		for (uint64_t at = group ? group->first : 1; group && at <= group->last; at++) {
			if (mg_log_group_place(group, at)->segment == 0) {
				return mg_error_set(err, MG_E_CORRUPT, "entry %llu of group %u is missing",
				                    (unsigned long long)at, group->id);
			}
		}
	}
	return 0;
}
