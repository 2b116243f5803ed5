/*
 * log.h - the seam of a node's log: all Raft groups of a node in one order of records.
 *
 * Rule: what comes back after a crash is a prefix of what was put, in the order of the puts, over
 * all groups; and it holds at least every record whose `done` has run.  So a record is durable only
 * when all before it are, one sync serves every group, and nothing has to be atomic but one record.
 *
 * A log keeps for each group:
 *
 *     hard state       term and vote, the last one put
 *     snapshot mark    index, term and a manifest (bytes of the host), the last one put
 *     entries          first .. last without a gap; empty when last == first - 1
 *
 *     put ENTRY        index must be last + 1                    last grows
 *     put TRUNCATE     first <= index                            entries >= index are gone
 *     put SNAPSHOT     keep: first - 1 <= index <= last,         the mark of our own snapshot, or
 *                      the entries stay                          of what our state came from
 *                      reset: all entries are gone               first = index + 1, last = index
 *     put COMPACT      index <= mark; entries <= index may go        first = index + 1 (a smaller
 *                                                                one than first - 1: no change)
 *     put REMOVE       the group is forgotten; its number may be used again
 *
 * A group appears with its first record; its first entry may have index 1, or any after a reset.
 * These rules are the host's duty and are asserted, not reported.
 *
 * A put only gathers.  `flush` ends the batch: it is written and synced with one fdatasync, and
 * while that runs the next batch gathers.  Puts between two flushes share a sync.
 *
 * Reads see what was put, durable or not: a leader sends entries before its own disk has them.
 *
 * Files: when old segments go, the log first writes what still counts of their groups (hard state,
 * mark, live entries) again in front, or keeps the segment; how is its own matter.  After a crash
 * the tail behind the last whole record is cut; a broken record before others is MG_E_CORRUPT.
 *
 * Failure is final: after an error of writing or syncing, the log is failed.  The batch and all
 * later ones end in `done` with that error, nothing is tried again (a failed fsync says nothing
 * about the pages it lost), and the host acts as if the process had died.  Space is taken ahead of
 * use, so that a full disk shows in `capacity_kib` before a write can fail.
 *
 * Owner: the thread that owns the node (the "raft thread").  Every function here is called on it
 * and `done` runs on it, out of `poll`, in the order of the puts.  Files and threads of an
 * implementation stay inside: when results wait it calls `notify` of its options, on any thread,
 * and the owner answers with `poll`.
 *
 * Limits: MG_ENTRY_SIZE_MAX an entry, MG_MANIFEST_SIZE_MAX a manifest, MG_GROUPS_MAX groups.
 * What is put and not yet durable is bounded by the host (struct mg_raft_node_options).
 */
#ifndef MG_RAFT_LOG_H
#define MG_RAFT_LOG_H

#include "base/assert.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MG_ENTRY_SIZE_MAX (16u * 1024 * 1024)
#define MG_MANIFEST_SIZE_MAX (1024u * 1024)
#define MG_GROUPS_MAX 65536u

/* Stored in records and frames: never renumber. */
enum mg_entry_type {
	MG_ENTRY_COMMAND = 1, /* for the state machine */
	MG_ENTRY_BARRIER = 2, /* no content; the first of a leader's term */
	MG_ENTRY_CHANGE = 3,  /* members of the group, encoded by members.h */
};

/* An entry whose bytes belong to someone else: who hands it out says for how long. */
struct mg_entry {
	uint64_t index; /* from 1 */
	uint64_t term;  /* from 1 */
	uint8_t type;   /* enum mg_entry_type */
	uint32_t size;
	const uint8_t *data; /* not NULL when size > 0 */
};

/* Stored in records: never renumber. */
enum mg_raft_log_kind {
	MG_RAFT_LOG_ENTRY = 1,
	MG_RAFT_LOG_HARD_STATE = 2,
	MG_RAFT_LOG_TRUNCATE = 3,
	MG_RAFT_LOG_SNAPSHOT = 4,
	MG_RAFT_LOG_COMPACT = 5,
	MG_RAFT_LOG_REMOVE = 6,
};

struct mg_hard_state {
	uint64_t term; /* never falls */
	uint64_t vote; /* node that got our vote in this term; 0: none */
};

struct mg_snapshot_mark {
	uint64_t index; /* 0: none */
	uint64_t term;
	const uint8_t *manifest; /* the host's bytes, not read by the log */
	uint32_t manifest_size;
	bool reset; /* of a put: the snapshot replaces all entries */
};

/* One record to put.  Its bytes stay the caller's: put copies them before it returns. */
struct mg_raft_log_record {
	enum mg_raft_log_kind kind;
	union {
		struct mg_entry entry;
		struct mg_hard_state hard_state;
		uint64_t index; /* truncate, compact */
		struct mg_snapshot_mark snapshot;
	};
};

/* What the log holds of a group.  The manifest stays valid until the group's next put. */
struct mg_raft_log_state {
	uint32_t group;
	struct mg_hard_state hard_state; /* zeros: none was put */
	struct mg_snapshot_mark snapshot;
	uint64_t first, last; /* entries; last == first - 1: none */
	uint64_t bytes;       /* of the entries first .. last, as put */
};

/* Entries that were read.  Owner: the caller, who releases them. */
struct mg_entries {
	struct mg_entry *entries;
	size_t count;
	void *memory; /* the implementation's: what entries and their data lie in */
};

/* error: 0 when the records are durable, else the code that failed the log. */
typedef void (*mg_raft_log_done)(void *arg, uint64_t sequence, int error);

struct mg_raft_log;

struct mg_raft_log_ops {
	uint64_t (*put)(struct mg_raft_log *log, uint32_t group,
	                const struct mg_raft_log_record *records, size_t count, mg_raft_log_done done,
	                void *arg);
	void (*flush)(struct mg_raft_log *log);
	void (*poll)(struct mg_raft_log *log);
	bool (*state)(struct mg_raft_log *log, uint32_t group, struct mg_raft_log_state *out);
	bool (*meta)(struct mg_raft_log *log, uint32_t group, uint64_t index, struct mg_entry *out);
	int (*read)(struct mg_raft_log *log, uint32_t group, uint64_t from, uint64_t to,
	            size_t bytes_max, struct mg_entries *out, struct mg_error *err);
	void (*release)(struct mg_raft_log *log, struct mg_entries *entries);
	int (*replay)(struct mg_raft_log *log,
	              int (*each)(void *arg, const struct mg_raft_log_state *state,
	                          struct mg_error *err),
	              void *arg, struct mg_error *err);
	uint64_t (*capacity_kib)(struct mg_raft_log *log);
};

/* An implementation has this as its first member. */
struct mg_raft_log {
	const struct mg_raft_log_ops *ops;
};

/* Put `count` records of one group, in order.  Returns their sequence: 1, 2, ... a put.
 * `done` (may be NULL) runs once, after the sync that made them durable or the failure, never
 * inside put or flush.  Cannot fail: what fails later is told by `done`.
 * Blocks: never for the disk. */
static inline uint64_t mg_raft_log_put(struct mg_raft_log *log, uint32_t group,
                                       const struct mg_raft_log_record *records, size_t count,
                                       mg_raft_log_done done, void *arg)
{
	mg_assert(group < MG_GROUPS_MAX);
	mg_assert(count > 0);
	return log->ops->put(log, group, records, count, done, arg);
}

/* Hand what was put so far to the disk; nothing to do when nothing was put.  Once in each turn. */
static inline void mg_raft_log_flush(struct mg_raft_log *log)
{
	log->ops->flush(log);
}

/* Run the `done` of all that has become durable or failed.  They may put and flush. */
static inline void mg_raft_log_poll(struct mg_raft_log *log)
{
	log->ops->poll(log);
}

/* What is put of a group; false when it holds nothing.  Memory only. */
static inline bool mg_raft_log_state(struct mg_raft_log *log, uint32_t group,
                                     struct mg_raft_log_state *out)
{
	mg_assert(group < MG_GROUPS_MAX);
	return log->ops->state(log, group, out);
}

/* Index, term, type and size of one entry (data is NULL); false when it is not there.  Memory only:
 * an implementation keeps this of every live entry. */
static inline bool mg_raft_log_meta(struct mg_raft_log *log, uint32_t group, uint64_t index,
                                    struct mg_entry *out)
{
	mg_assert(index > 0);
	return log->ops->meta(log, group, index, out);
}

/* Entries from .. to - 1 as far as they fit bytes_max, but always at least one.  `from` must be
 * between first and last, else MG_E_NOT_FOUND; `to` may lie behind last + 1.
 * Owns: the caller releases out (also an empty one, zeroed).
 * Fails: MG_E_NOT_FOUND, MG_E_CORRUPT (checksum), MG_E_IO, MG_E_NOMEM.
 * Blocks: for a disk read when the entries are no longer in memory. */
static inline int mg_raft_log_read(struct mg_raft_log *log, uint32_t group, uint64_t from,
                                   uint64_t to, size_t bytes_max, struct mg_entries *out,
                                   struct mg_error *err)
{
	mg_assert(from > 0);
	mg_assert(from < to);
	return log->ops->read(log, group, from, to, bytes_max, out, err);
}

static inline void mg_raft_log_release(struct mg_raft_log *log, struct mg_entries *entries)
{
	log->ops->release(log, entries);
}

/* Tell the state of each group that holds anything, by their numbers: what the log held
 * when it was opened, before the first put.  Entries follow by meta and read.
 * Fails: what `each` returns ends it and is returned. */
static inline int mg_raft_log_replay(struct mg_raft_log *log,
                                     int (*each)(void *arg, const struct mg_raft_log_state *state,
                                                 struct mg_error *err),
                                     void *arg, struct mg_error *err)
{
	mg_assert(each != NULL);
	return log->ops->replay(log, each, arg, err);
}

/* How much can be put before the disk may be full, in KiB. */
static inline uint64_t mg_raft_log_capacity_kib(struct mg_raft_log *log)
{
	return log->ops->capacity_kib(log);
}

/* Let go the entries up to index; durable with some later batch, nobody waits for it. */
static inline void mg_raft_log_compact(struct mg_raft_log *log, uint32_t group, uint64_t index)
{
	struct mg_raft_log_record record = { .kind = MG_RAFT_LOG_COMPACT, .index = index };

	mg_assert(index > 0);
	(void)mg_raft_log_put(log, group, &record, 1, NULL, NULL);
}

#endif
