/*
 * follow_log.h - what a shard has applied lately, for copies of it on workers that follow.
 *
 *     lane:      add, add, ... end (they are committed, as one transaction of the engine) | drop
 *     follower:  covers (can a copy of this index go on?) -> next, next, ...
 *
 * What is kept are not the group's entries but what came of them: the redo of a WRITE that no fence
 * has refused, or of a transaction that was prepared long before and is committed now.  So who
 * follows needs to know nothing of fences, votes and transactions in doubt, and can hold nothing
 * that is not committed.
 *
 * Rule: batches follow each other without a gap, each a transaction of the lane; so a copy that has
 * applied up to a batch's index holds exactly what a reader here sees who finds that index in
 * `_mg.meta`.  Indexes and terms are those of the group's log: a copy that has followed another
 * server may be between two of our batches, and skips the records that it has.
 *
 * Kept in memory, the newest bytes_max bytes; who is behind takes a new copy of the file.
 *
 * As bytes (little-endian), a batch is one piece or several, each
 *
 *     u64 index of the batch before   u64 index   u64 term   u8 1: the last piece
 *     then records: u64 index, u32 size, redo
 *
 * Thread: the lane adds; anyone reads.
 */
#ifndef MG_REPLICA_FOLLOW_LOG_H
#define MG_REPLICA_FOLLOW_LOG_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#define MG_FOLLOW_HEAD 25u
#define MG_FOLLOW_PIECE (4u << 20) /* a piece is not larger, but for one record alone */

struct mg_follow_log;

/* ---- a piece ---- */

struct mg_follow_piece {
	uint64_t prev, index, term;
	bool last;
	struct mg_in records;
};
/* Everything is checked but the redos inside; index is not below prev.  Fails: MG_E_PROTOCOL. */
int mg_follow_piece_decode(const struct mg_buf *buf, struct mg_follow_piece *out,
                           struct mg_error *err);
/* The next record, or false.  Of a piece that was decoded. */
bool mg_follow_record_next(struct mg_follow_piece *piece, uint64_t *index, struct mg_in *redo);

/* ---- a batch ---- */

struct mg_follow_batch {
	atomic_int refs;
	uint64_t prev, prev_term, index, term;
	uint64_t ms; /* mg_clock_ms when it was committed */
	size_t bytes;
	struct mg_buf **pieces;
	size_t count, cap;
};
void mg_follow_batch_unref(struct mg_follow_batch *batch); /* NULL is fine */

/* ---- the log ---- */

struct mg_follow_log *mg_follow_log_new(size_t bytes_max);
void mg_follow_log_free(struct mg_follow_log *log); /* NULL is fine */
/* Called after each end and reset, on the lane; NULL: nobody. */
void mg_follow_log_watch(struct mg_follow_log *log, void (*more)(void *arg), void *arg);

/* The lane.  A batch that memory does not suffice for is forgotten with all before it. */
void mg_follow_log_add(struct mg_follow_log *log, uint64_t index, const void *redo, size_t size);
void mg_follow_log_end(struct mg_follow_log *log, uint64_t index, uint64_t term);
void mg_follow_log_drop(struct mg_follow_log *log); /* what was added came to nothing */
/* The shard is at this index now, and what led there is not known. */
void mg_follow_log_reset(struct mg_follow_log *log, uint64_t index, uint64_t term);

enum mg_follow {
	MG_FOLLOW_HERE,  /* all that it lacks is here, if anything */
	MG_FOLLOW_AHEAD, /* it has more than this shard */
	MG_FOLLOW_GONE,  /* it lacks what is gone, or is of another history */
};

/* Can a copy go on that has applied up to this index, whose entry was of this term? */
enum mg_follow mg_follow_log_covers(struct mg_follow_log *log, uint64_t index, uint64_t term);
/* The batch that holds what comes behind this index, with a reference; NULL when HERE: nothing
 * does. */
enum mg_follow mg_follow_log_next(struct mg_follow_log *log, uint64_t index,
                                  struct mg_follow_batch **out);
/* The index of the last batch.  *lag_ms: since when something is there that a copy at `index`
 * lacks; 0: it lacks nothing. */
uint64_t mg_follow_log_last(struct mg_follow_log *log, uint64_t index, uint64_t *lag_ms);

#endif
