/*
 * changes_log.h - what the entries of one shard have changed, in their order, for those who follow
 * its tables: the newest part of it, in files of this node.
 *
 *     lane: open -> old*, add ... -> publish | drop -> ... -> sync -> ... -> close
 *     reader (any thread): mg_changes_reader_open -> next ... -> close
 *
 * It is written where entries are applied, because there alone a row's id and what a row was before
 * are known; and so every replica has the same, by the indexes of the group's log.  It is not the
 * group's log: that one ends behind each checkpoint, holds no old rows, and is read by the raft
 * thread alone.
 *
 * Rule: a reader sees what is committed and applied, and nothing else.  A crash leaves of it what
 * the shard's file has applied, or nothing: what is applied again is written again.  A log that
 * cannot be written begins anew, so it never keeps the shard from applying.
 *
 *     NNNN-SSSSSSSSSS.log   shard, number of the segment: a head, then records up to a MARK
 *     head                  "mgchange"  u32 version  u32 shard  u64 base: all behind it stands here
 *
 * Bound: bytes_max and one batch of entries; readers have one segment open, and may be told that it
 * is gone.
 */
#ifndef MG_REPLICA_CHANGES_LOG_H
#define MG_REPLICA_CHANGES_LOG_H

#include "base/error.h"
#include "base/mem.h"
#include "os/disk.h"
#include "replica/changes_record.h"

struct mg_changes_log;
struct mg_changes_reader;

struct mg_changes_log_options {
	struct mg_disk *disk; /* borrowed; shared with the other shards' logs */
	uint32_t shard;
	uint64_t bytes_max;
	/* More is published.  On the lane. */
	void (*notify)(void *arg);
	void *arg;
};

/* index: what the shard's file has applied.  What is damaged, or does not reach it, is removed; so
 * it does not fail. */
struct mg_changes_log *mg_changes_log_open(const struct mg_changes_log_options *options,
                                           uint64_t index);
void mg_changes_log_close(struct mg_changes_log *log); /* no reader is left; NULL is fine */

/* ---- on the lane; log NULL: nothing ---- */

/* The next record, with its columns (its number is chosen here) and rows; both may be NULL. */
void mg_changes_log_add(struct mg_changes_log *log, const struct mg_changes_record *record,
                        const struct mg_buf *ipc_schema, const struct mg_buf *payload);
/* What was added counts, up to index. */
void mg_changes_log_publish(struct mg_changes_log *log, uint64_t index);
/* What was added did not happen. */
void mg_changes_log_drop(struct mg_changes_log *log);
/* All up to index is on the disk; before the shard's file says that it has applied it. */
void mg_changes_log_sync(struct mg_changes_log *log, uint64_t index);
/* The shard is another one's copy as of index. */
void mg_changes_log_reset(struct mg_changes_log *log, uint64_t index);

/* ---- any thread ---- */

/* Changes behind *after, up to *to, are here. */
void mg_changes_log_range(struct mg_changes_log *log, uint64_t *after, uint64_t *to);

/* Records behind this index.  Fails: MG_E_GONE, MG_E_IO. */
int mg_changes_reader_open(struct mg_changes_reader **out, struct mg_changes_log *log,
                           uint64_t after, struct mg_error *err);
/* The next one; texts and payload stay until the next call, *columns is borrowed likewise (NULL:
 * it has none).  *more false: there is none yet, and out->index is what that holds for.
 * Fails: MG_E_GONE; MG_E_CORRUPT, MG_E_IO, MG_E_NOMEM. */
int mg_changes_reader_next(struct mg_changes_reader *reader, struct mg_changes_record *out,
                           struct mg_buf **columns, bool *more, struct mg_error *err);
/* The last one was MOVED: the next ones are its rows, as INSERTs of its entry into its table.
 * Fails: MG_E_GONE when they are not kept any more, also from the next calls; MG_E_CORRUPT. */
int mg_changes_reader_enter(struct mg_changes_reader *reader, struct mg_error *err);
void mg_changes_reader_close(struct mg_changes_reader *reader); /* NULL is fine */

#endif
