/*
 * shard_late.h - which rows of a shard were changed lately, for transactions that have read it as
 * it was before.
 *
 *     lane: begin, rows ..., end          any thread: since
 *
 * Every replica notes what its log changes, whoever wrote it.  Rows that came are only counted;
 * those that were replaced or deleted are kept by their ids, the newest MG_SHARD_LATE_MAX of them,
 * so a transaction that is older than that window does not know.
 *
 * Thread: one that notes, any that asks.
 */
#ifndef MG_REPLICA_SHARD_LATE_H
#define MG_REPLICA_SHARD_LATE_H

#include "replica/redo.h"
#include "replica/replica.h"

#define MG_SHARD_LATE_MAX 65536 /* ids, 16 bytes each */

struct mg_shard_late;

struct mg_shard_late *mg_shard_late_new(void);
void mg_shard_late_free(struct mg_shard_late *late); /* NULL is fine */
/* The entry at this index changes the shard so; before readers can see it. */
int mg_shard_late_note(struct mg_shard_late *late, uint64_t index, const struct mg_redo_op *op,
                       struct mg_error *err);
/* The shard is another one's copy as of this index: what led to it is not known. */
void mg_shard_late_reset(struct mg_shard_late *late, uint64_t index);
/* What entries behind index have changed; rids: sorted. */
enum mg_late mg_shard_late_since(struct mg_shard_late *late, uint64_t index, const int64_t *rids,
                                 size_t count);

#endif
