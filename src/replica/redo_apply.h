/*
 * redo_apply.h - what a transaction writes (redo.h) into a shard's file, operation by operation:
 * the same for a replica (shard_redo.c) and for a worker's copy (exec/worker_follow.h).
 *
 * Rows of a staging table that replace or delete others take the same way as those of an entry,
 * batch by batch, so that conflicts and followers of the table see no difference.  Those that are
 * inserted are moved as they lie in the file; who follows the table finds them where they were
 * staged (changes_record.h).
 *
 * Thread: the writer's.
 */
#ifndef MG_REPLICA_REDO_APPLY_H
#define MG_REPLICA_REDO_APPLY_H

#include "replica/redo.h"
#include "store/shard_write.h"

struct mg_redo_apply {
	struct mg_shard_writer *writer; /* in a transaction, from the first operation on */
	uint32_t shard;
	/* Called in place of mg_redo_write, which it calls; NULL: nobody looks. */
	int (*op)(void *arg, const struct mg_redo_op *op, struct mg_error *err);
	void *arg;
};

/* One operation: not PUBLISH, which is what its rows are. */
int mg_redo_write(struct mg_shard_writer *writer, const struct mg_redo_op *op,
                  struct mg_error *err);
/* All operations of a redo, as encoded.  begin is called once they are decoded; it may be NULL. */
int mg_redo_apply(const struct mg_redo_apply *apply, struct mg_in in,
                  int (*begin)(void *arg, struct mg_error *err), struct mg_error *err);

#endif
