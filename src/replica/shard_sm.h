/*
 * shard_sm.h - one shard as a state machine: its group's entries into its file.
 *
 * Entries are accepted at once and applied soon: who reads waits for what he needs
 * (shard_accept.c).
 *
 * Rule: what a batch of entries changes and the index behind it are one transaction of the file's
 * engine; so a start goes on behind what the last checkpoint wrote, and nothing is applied twice.
 * A transaction in doubt (prepared, not yet settled) is held in memory and goes into the file with
 * a checkpoint, as does the highest epoch that was fenced: a command of a lower one changes
 * nothing.
 *
 * Thread: made and freed by the node's; apply and freeze are called on the raft thread and run on a
 * lane of their own; the questions may be asked by any thread.
 */
#ifndef MG_REPLICA_SHARD_SM_H
#define MG_REPLICA_SHARD_SM_H

#include "raft/seams.h"
#include "replica/changes_log.h"
#include "replica/command.h"
#include "replica/cuts.h"
#include "replica/follow_log.h"
#include "replica/raft_host.h"
#include "replica/replica.h"
#include "replica/shard_check.h"
#include "replica/snapshot_pull.h"
#include "replica/snapshot_source.h"
#include "store/duck.h"
#include "store/shard_file.h"

struct mg_shard_sm;

enum mg_adopt_step { MG_ADOPT_BEGUN, MG_ADOPT_DETACHED, MG_ADOPT_RENAMED, MG_ADOPT_ATTACHED };

struct mg_shard_sm_options {
	struct mg_raft_host *host;
	struct mg_duck *duck; /* has the file attached for writing, as "s<shard>" */
	uint32_t shard, group;
	/* Before rows of it change; on the lane. */
	void (*on_write)(void *arg, uint32_t shard);
	/* On the lane, or raft's thread; may be NULL. */
	void (*on_applied)(void *arg, uint32_t group, uint64_t index);
	/* Keep new readers of the shard's database out, await or interrupt the running ones, call swap
	 * once, return what it says, let readers in again.  Nobody may have a transaction open that has
	 * touched the database when swap is called.  On the lane; NULL: there are no readers. */
	int (*gate)(void *arg, uint32_t shard, int (*swap)(void *swap_arg, struct mg_error *err),
	            void *swap_arg, struct mg_error *err);
	struct mg_cuts *cuts; /* of the node; borrowed; NULL: nobody reads several shards */
	/* Between the steps of adopting; for tests that end the process there.  May be NULL. */
	void (*on_step)(void *arg, enum mg_adopt_step step);
	uint64_t self; /* node */
	/* As in shard_check.h. */
	void (*on_mark)(void *arg, uint32_t shard);
	void (*on_differs)(void *arg, uint32_t shard, const struct mg_members *good);
	void *arg;
	/* Snapshots of others, and for others; without them (a cluster of one) NULL. */
	const char *dir; /* the node's data directory: the file is shards/NNNN.duckdb; borrowed */
	bool stands_in;  /* what is attached is mg_shard_file_stand_in: the group is not opened yet */
	struct mg_snapshot_puller *puller; /* stopped before this is freed */
	struct mg_snapshot_source *source;
	/* What entries change is kept there (changes_log.h); bytes_max 0: nowhere. */
	struct mg_changes_log_options changes;
	size_t follow_bytes; /* of what was applied lately, kept for workers' copies (follow_log.h) */
};

int mg_shard_sm_open(struct mg_shard_sm **out, const struct mg_shard_sm_options *options,
                     struct mg_error *err);
struct mg_sm *mg_shard_sm_seam(struct mg_shard_sm *sm);
/* Ends the lane.  Before mg_raft_host_stop. */
void mg_shard_sm_stop(struct mg_shard_sm *sm);
void mg_shard_sm_free(struct mg_shard_sm *sm); /* NULL is fine */

/* ---- a file that is damaged; the group is closed and the lane rests ---- */

/* The file, if it is there, is called `kept` from now on (in the same directory; NULL: it is
 * removed), and a stand-in is attached in its place.  Any thread; may wait for readers. */
int mg_shard_sm_set_aside(struct mg_shard_sm *sm, const char *kept,
                          const struct mg_shard_meta *meta, struct mg_error *err);
/* The file `from`, at this index, in place of the stand-in; the group may be opened.  On failure it
 * is to be set aside again. */
int mg_shard_sm_put_in(struct mg_shard_sm *sm, const char *from, uint64_t index, uint64_t term,
                       struct mg_error *err);
/* Pull the newest snapshot that the peer has to `path`; or this index, from anyone: whoever leads
 * the group and lacks it makes a newer one. */
void mg_shard_sm_pull_newest(struct mg_shard_sm *sm, const char *path, uint64_t index,
                             uint64_t peer,
                             void (*done)(void *arg, const struct mg_snapshot_manifest *manifest,
                                          const struct mg_error *err),
                             void *arg);

enum mg_outcome_known { MG_OUTCOME_NONE, MG_OUTCOME_COMMIT, MG_OUTCOME_ABORT };

/* What this shard, as a home, has decided. */
enum mg_outcome_known mg_shard_sm_decided(struct mg_shard_sm *sm, const struct mg_txid *txid);
/* The number of that commit, and in *shards its shards as a command has them, which is the
 * caller's; 0 and NULL: not known, or it is none. */
uint64_t mg_shard_sm_commit(struct mg_shard_sm *sm, const struct mg_txid *txid,
                            struct mg_buf **shards);

struct mg_in_doubt {
	struct mg_txid transaction;
	uint32_t home;
};
/* Prepared here and not settled; and decided here and not forgotten (home is this shard).  Copies
 * at most max; returns how many there are. */
size_t mg_shard_sm_in_doubt(struct mg_shard_sm *sm, struct mg_in_doubt *list, size_t max);
size_t mg_shard_sm_decisions(struct mg_shard_sm *sm, struct mg_in_doubt *list, size_t max);

/* A transaction is in doubt here. */
bool mg_shard_sm_holds(struct mg_shard_sm *sm, const struct mg_txid *txid);
/* The last entry that its group has given it, and the last one that is applied.  Any thread. */
uint64_t mg_shard_sm_accepted(struct mg_shard_sm *sm);
/* Nothing beyond this index is visible, or becomes so before it is higher. */
uint64_t mg_shard_sm_showing(struct mg_shard_sm *sm);
uint64_t mg_shard_sm_applied(struct mg_shard_sm *sm);
/* Its group has failed: what is accepted and not applied is forgotten.  False: the lane is still at
 * it.  Raft thread. */
bool mg_shard_sm_rest(struct mg_shard_sm *sm);
/* It is at work: what it has accepted will be applied, if not soon.  Any thread. */
bool mg_shard_sm_moves(struct mg_shard_sm *sm);
/* Somebody waits until this index is applied: no time is to be lost.  Any thread. */
void mg_shard_sm_want(struct mg_shard_sm *sm, uint64_t index);
/* Whether the command of this epoch that was accepted at this index, in this life of the node, was
 * refused by a fence. */
bool mg_shard_sm_refused(struct mg_shard_sm *sm, uint64_t epoch, uint64_t index);

/* The highest epoch that was fenced here; 0: none. */
uint64_t mg_shard_sm_fence(struct mg_shard_sm *sm);

/* What it has applied lately, for copies that follow; stays while it does. */
struct mg_follow_log *mg_shard_sm_follow(struct mg_shard_sm *sm);
/* The state that the file itself holds, as of its last checkpoint.  False: not known. */
bool mg_shard_sm_file_state(struct mg_shard_sm *sm, uint64_t *index, uint64_t *term);
/* `read` looks at the file while no checkpoint writes to it.  Fails: MG_E_NOT_FOUND: it does not
 * hold this index any more; as read does.  Any thread; a checkpoint meanwhile is put off. */
int mg_shard_sm_read_file(struct mg_shard_sm *sm, uint64_t index,
                          int (*read)(void *arg, struct mg_error *err), void *arg,
                          struct mg_error *err);

/* Something is applied that the file does not hold. */
bool mg_shard_sm_dirty(struct mg_shard_sm *sm);
/* Rows are being applied that are neither visible nor counted as dirty yet; on_write was called. */
bool mg_shard_sm_changing(struct mg_shard_sm *sm);

struct mg_shard_check *mg_shard_sm_check(struct mg_shard_sm *sm);

/* See mg_replica_changed_since. */
enum mg_late mg_shard_sm_changed_since(struct mg_shard_sm *sm, uint64_t index, const int64_t *rids,
                                       size_t count);

struct mg_changes_log *mg_shard_sm_changes(struct mg_shard_sm *sm); /* NULL: they are not kept */

/* How many checkpoints have failed, but for readers in the way; and why the last one did. */
uint64_t mg_shard_sm_freezes_failed(struct mg_shard_sm *sm, struct mg_error *err);

/* Why it has stopped applying, or 0. */
int mg_shard_sm_failed(struct mg_shard_sm *sm, struct mg_error *err);

#endif
