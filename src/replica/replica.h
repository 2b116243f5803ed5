/*
 * replica.h - this node's replicas of the catalog and of the shards, and how they are changed.
 *
 *     group 0      the catalog            group 1      shard 0, the tables without partitions
 *     group n + 1  shard n
 *
 * A change of rows is a redo (redo.h), committed whole or not at all over all its shards, under
 * locks of them.
 *
 * Rule: what commit has answered with 0 is in the log of a majority and applied here.
 *
 * Thread: any, but not the raft thread.  Everything here may block on the disk.
 */
#ifndef MG_REPLICA_REPLICA_H
#define MG_REPLICA_REPLICA_H

#include "catalog/catalog.h"
#include "replica/redo.h"
#include "store/duck.h"

struct mg_replica;

struct mg_replica_options {
	const char *dir;            /* the node's data directory */
	struct mg_duck *duck;       /* files attached for writing as s0, s1, ...; borrowed */
	struct mg_catalog *catalog; /* borrowed; changed through the log from now on */
	uint32_t shard_count;       /* without shard 0 */
	/* Before rows of a shard change; and after a version of the catalog was published, before its
	 * maker hears so.  On threads of the replica. */
	void (*on_write)(void *arg, uint32_t shard);
	void (*on_catalog)(void *arg);
	void *arg;
};

/* Blocks until all that the log holds is applied and this node can serve. */
int mg_replica_open(struct mg_replica **out, const struct mg_replica_options *options,
                    struct mg_error *err);
/* Writes checkpoints, so that the next start has nothing to do.  NULL is fine. */
void mg_replica_close(struct mg_replica *replica);

/* Commit and apply.  0: it happened.  MG_E_UNKNOWN_OUTCOME: nobody knows yet.  Any other: nothing
 * happened, and never will. */
int mg_replica_commit(struct mg_replica *replica, const struct mg_redo *redo, struct mg_error *err);

/* The same, but each shard by itself: rows of tables that no version of the catalog names yet,
 * which count only with that.  On failure some of them may be stored. */
int mg_replica_append(struct mg_replica *replica, const struct mg_redo *redo, struct mg_error *err);

/* What a writer means to do with the tables of a shard, from before it reads them until it has
 * committed. */
enum mg_lock_mode {
	MG_LOCK_ADD,    /* new rows, whatever is there: beside other ADDs and one CHANGE */
	MG_LOCK_CHANGE, /* rows that depend on those that are there: beside ADDs */
	MG_LOCK_ALTER,  /* tables come, go or change: alone */
};
/* All shards or none; who holds some asks for no more.  stopped: asked while it waits, may be NULL.
 * Fails: MG_E_CANCELLED. */
int mg_replica_lock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                    size_t count, bool (*stopped)(void *arg), void *arg, struct mg_error *err);
void mg_replica_unlock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                       size_t count);

/* Between these no transaction becomes visible in one shard and not yet in another: a reader
 * touches its shards here, and has a consistent cut of them.  Short. */
void mg_replica_cut_begin(struct mg_replica *replica);
void mg_replica_cut_end(struct mg_replica *replica);

/* Write all that is committed to the shard's file; nothing when it holds that.  Fails: MG_E_BUSY
 * when a reader is in the way: later. */
int mg_replica_checkpoint(struct mg_replica *replica, uint32_t shard, struct mg_error *err);
/* Rows of the shard have ever been changed since it was loaded. */
bool mg_replica_wrote(struct mg_replica *replica, uint32_t shard);

/* 0, or why this node cannot write any more. */
int mg_replica_failed(struct mg_replica *replica, struct mg_error *err);

#endif
