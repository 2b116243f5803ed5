/* shard_sm_int.h - struct mg_shard_sm from the inside: for shard_*.c only. */
#ifndef MG_REPLICA_SHARD_SM_INT_H
#define MG_REPLICA_SHARD_SM_INT_H

#include "replica/lane.h"
#include "replica/redo.h"
#include "replica/shard_late.h"
#include "replica/shard_sm.h"
#include "store/shard_write.h"

#include <pthread.h>

/* A part of a prepared transaction. */
struct mg_part {
	struct mg_txid transaction;
	uint32_t home;
	bool old; /* of a log version in which commits have no number */
	struct mg_buf *redo;
};

struct mg_decision {
	struct mg_txid transaction;
	bool commit;
	uint64_t number;       /* of the commit; 0: not known */
	struct mg_buf *shards; /* that it is about, as in a command; or NULL */
};

/* From this index on only this epoch or a higher one counts. */
struct mg_fence {
	uint64_t epoch, index;
};

struct mg_shard_sm {
	struct mg_sm seam;
	struct mg_shard_sm_options options;
	struct mg_shard_writer *writer;
	struct mg_lane *lane;
	struct mg_shard_late *late; /* which rows changed lately */
	struct mg_changes_log *changes; /* how they changed, for who follows; or NULL */
	struct mg_follow_log *follow;   /* what was applied, for copies of workers */
	const struct mg_txid *together; /* the transaction over several shards that is being applied */
	struct mg_shard_check *check;
	uint64_t index, term;       /* applied, of the lane */
	size_t at;                  /* of the batch in hand: what is being applied */
	uint64_t durable;           /* as of the start, or adopted */
	atomic_bool stopping;
	bool writing;               /* the batch in hand has begun a transaction of the engine */
	/* See cuts.h; of the lane. */
	uint64_t *seen;     /* by shard, with what the batch in hand has applied; NULL without cuts */
	bool old;           /* no fence yet since when all commits are numbered */
	bool blind;         /* as it was published */
	bool seen_is_newer; /* than what was published */

	const struct mg_entry *entries; /* of the lane: the batch in hand */
	size_t entry_count;

	/* In the raft thread's hand until it is answered. */
	const struct mg_entry *given;
	size_t given_count;
	int frozen, pulled, adopted;
	uint64_t adopt_index, adopt_term;

	/* Who waits for a file in place of a damaged one. */
	void (*mended)(void *arg, const struct mg_snapshot_manifest *manifest,
	               const struct mg_error *err);
	void *mended_arg;

	/* Held while the file is written, copied or replaced; before `lock`. */
	pthread_mutex_t file_lock;
	/* Guarded by file_lock: what the file holds. */
	uint64_t checkpointed, checkpointed_term;
	bool checkpoint_known; /* false: a checkpoint has failed, or it is no file */

	pthread_mutex_t lock;
	/* guarded by lock */
	struct mg_part *parts; /* in the order of their entries */
	size_t part_count, part_cap;
	struct mg_decision *decisions;
	size_t decision_count, decision_cap;
	/* Of this life, and the one that the file had at its start or when it was adopted; epochs and
	 * indexes rise. */
	struct mg_fence *fences;
	size_t fence_count, fence_cap;
	bool dirty, changing;
	/* Accepted, and not applied yet (shard_accept.c). */
	struct mg_accepted *queue, **queue_end;
	size_t queue_bytes;
	uint64_t accepted; /* 0: nothing in this life */
	uint64_t showing;  /* likewise: becomes visible, or is */
	uint64_t applied;  /* index, for other threads */
	uint64_t wanted; /* somebody waits until this index is applied */
	bool draining;   /* the lane is at it, or will be at once */
	bool looking;    /* the raft thread will look when it is due */
	int failed;
	struct mg_error failure;
	uint64_t freezes_failed;
	struct mg_error freeze_failure; /* of the last of them */
};

/* ---- shard_sm.c ---- */

struct mg_group *mg_shard_sm__group(struct mg_shard_sm *sm); /* raft thread; NULL: it is closed */
/* Note why it applies nothing any more. */
void mg_shard_sm__fail(struct mg_shard_sm *sm, const struct mg_error *err);
/* Under the lock.  add_part and add_decision take the bytes. */
void mg_shard_sm__add_part(struct mg_shard_sm *sm, const struct mg_command *command,
                           struct mg_buf *redo);
void mg_shard_sm__add_decision(struct mg_shard_sm *sm, const struct mg_txid *txid, bool commit,
                               uint64_t number, struct mg_buf *shards);
void mg_shard_sm__add_fence(struct mg_shard_sm *sm, uint64_t epoch, uint64_t index);
uint64_t mg_shard_sm__fence_of(const struct mg_shard_sm *sm);
/* The fence that counts for who has applied no more than this index. */
uint64_t mg_shard_sm__fence_at(const struct mg_shard_sm *sm, uint64_t index);
/* On the lane: all of them, as one transaction and what it shows.  It notes no failure. */
int mg_shard_sm__apply(struct mg_shard_sm *sm, const struct mg_entry *entries, size_t count,
                       struct mg_error *err);

/* ---- shard_accept.c ---- */

void mg_shard_sm__accept(struct mg_sm *seam, const struct mg_entry *entries, size_t count);
/* On the lane: all that is accepted is applied.  0, or why the shard is broken. */
int mg_shard_sm__drain(struct mg_shard_sm *sm);
void mg_shard_sm__forget_queue(struct mg_shard_sm *sm);

/* ---- shard_show.c ---- */

/* Something is not in the file yet: rows, or transactions in doubt. */
void mg_shard_sm__note_state(struct mg_shard_sm *sm, bool dirty);
/* What was applied up to this entry, the last one, is committed and shown. */
int mg_shard_sm__show(struct mg_shard_sm *sm, const struct mg_entry *last, struct mg_error *err);
/* Before the rows of a commit are applied; and after. */
int mg_shard_sm__enter_commit(struct mg_shard_sm *sm, uint64_t number, struct mg_error *err);
void mg_shard_sm__note_commit(struct mg_shard_sm *sm, const struct mg_command *command);

/* ---- shard_pending.c ---- */

/* A part of something may be here when others are not there yet, and it is not known which. */
bool mg_shard_sm__is_blind(const struct mg_shard_sm *sm);
/* What is in doubt, the fence, and what belongs together, as bytes; NULL: no memory.  And back: in
 * place of what is known. */
struct mg_buf *mg_shard_sm__encode_pending(struct mg_shard_sm *sm);
int mg_shard_sm__read_pending(struct mg_shard_sm *sm, struct mg_error *err);
void mg_shard_sm__forget_all(struct mg_shard_sm *sm); /* under the lock */

/* ---- shard_redo.c ---- */

/* All operations of a redo, in the batch in hand; the lane. */
int mg_shard_sm__apply_redo(struct mg_shard_sm *sm, struct mg_in in, struct mg_error *err);

/* ---- shard_changes.c: an operation on its way into the log of changes; the lane ---- */

struct mg_shard_change {
	struct mg_shard_sm *sm;
	const struct mg_redo_op *op;
	struct mg_shard_watch watch;
	uint64_t first_rid;
	bool told; /* false: there is no log, or the table is ours, or gone */
};

/* Before the operation is written, and after. */
void mg_shard_change_begin(struct mg_shard_change *change, struct mg_shard_sm *sm,
                           const struct mg_redo_op *op);
void mg_shard_change_end(struct mg_shard_change *change, bool done);

/* ---- shard_snapshot.c ---- */

void mg_shard_sm__freeze(struct mg_sm *seam);
void mg_shard_sm__pull(struct mg_sm *seam, uint64_t peer, const struct mg_manifest *manifest);
void mg_shard_sm__adopt(struct mg_sm *seam, const struct mg_manifest *manifest);
/* Pull what `want` says: index, peer, only, path, done; the rest, with what a file must be, is the
 * same for each, and done's arg is the state machine. */
void mg_shard_sm__want(struct mg_shard_sm *sm, struct mg_snapshot_want want);
/* Under file_lock, nobody reads: the file at `from` in place of what is attached.  Then what it
 * holds is what is known. */
int mg_shard_sm__replace_file(struct mg_shard_sm *sm, struct mg_duck_conn *conn, const char *from,
                              struct mg_error *err);
/* What the attached database holds, in place of what is known. */
int mg_shard_sm__open_writer(struct mg_shard_sm *sm, struct mg_error *err);
char *mg_shard_sm__file_path(const struct mg_shard_sm *sm); /* owns: the caller */
/* Call swap when nobody reads the shard. */
int mg_shard_sm__gate(struct mg_shard_sm *sm, int (*swap)(void *arg, struct mg_error *err),
                      void *arg, struct mg_error *err);
/* Others may have its snapshots from now on; what an earlier life left is removed. */
void mg_shard_sm__begin_giving(struct mg_shard_sm *sm);
void mg_shard_sm__end_giving(struct mg_shard_sm *sm);

#endif
