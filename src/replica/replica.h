/*
 * replica.h - this node's replicas of the catalog and of the shards, and how they are changed.
 *
 *     group 0      the catalog            group 1      shard 0, the tables without partitions
 *     group n + 1  shard n            behind those     shards of keys and values (kv_groups.h)
 *
 * A change of rows is a redo (redo.h), committed whole or not at all over all its shards, under
 * locks of them.
 *
 * Rule: what commit has answered with 0 is in the log of a majority and applied here.
 *
 * Of several nodes one coordinates writes: the leader of group 0, once it has fenced what others
 * may still have on its way (coordinator.c).  It alone commits; whoever leads the shards.  A
 * statement is evaluated there so:
 *
 *     lock -> epoch -> read barrier -> read -> commit_in that epoch -> unlock
 *
 * Then it is refused when another node has coordinated meanwhile.
 *
 * Thread: any, but not the raft thread.  Everything here may block on the disk, and with several
 * nodes on others.
 */
#ifndef MG_REPLICA_REPLICA_H
#define MG_REPLICA_REPLICA_H

#include "catalog/catalog.h"
#include "raft/message.h"
#include "replica/cuts.h"
#include "replica/redo.h"
#include "store/duck.h"
#include "store/shard_file.h"

struct mg_changes_log;
struct mg_peers;
struct mg_replica;
struct mg_seen; /* codec/seen.h */

struct mg_replica_options {
	const char *dir;            /* the node's data directory */
	struct mg_duck *duck;       /* files attached for writing as s0, s1, ...; borrowed */
	struct mg_catalog *catalog; /* borrowed; changed through the log from now on */
	uint32_t shard_count;       /* without shard 0 */
	uint32_t kv_shards;         /* of keys and values (kv_groups.h); 0: there are none */
	uint64_t check_ms;      /* between two checks of all shards; 0: only when asked */
	/* By shard, why its file is damaged, or NULL: a stand-in is attached (store/shard_file.h), and
	 * a file is taken from another node.  NULL: all are whole.  Borrowed until open returns. */
	const char *const *damaged;
	bool others; /* another server has a replica of everything */
	/* Of several nodes; zeros: a cluster of one. */
	uint64_t self;            /* node, from 1 */
	struct mg_members births; /* of a group that the log does not hold: the same on each of them */
	struct mg_peers *peers;   /* borrowed; started by open, stopped by the caller */
	const char *name, *address; /* of this node, for the catalog; borrowed; NULL: as it says */
	unsigned election_ms, heartbeat_ms; /* 0: as raft/node.h */
	bool no_leases;                     /* likewise */
	uint64_t changes_bytes; /* of changes that are kept for who follows them; 0: none */
	uint64_t dead_after_ms; /* away so long, a node loses its votes to others; 0: 5 minutes */
	/* Before rows of a shard change; and after a version of the catalog was published, before its
	 * maker hears so.  On threads of the replica. */
	void (*on_write)(void *arg, uint32_t shard);
	void (*on_catalog)(void *arg);
	/* A leader, a node came or went: for people.  May be NULL. */
	void (*on_event)(void *arg, const char *event, const char *detail);
	/* As in shard_sm.h.  NULL: nobody reads the shards but through the replica. */
	int (*gate)(void *arg, uint32_t shard, int (*swap)(void *swap_arg, struct mg_error *err),
	            void *swap_arg, struct mg_error *err);
	void *arg;
};

/* Blocks until all that the log holds is applied and this node can serve, when no other node
 * belongs to its groups.  Else it does not wait: mg_replica_wait and mg_replica_unready do.
 *
 * The end, also when it fails, with peers: stop -> mg_peers_stop, its loops -> close ->
 * mg_peers_free.  Fails: as mg_raft_host_open; MG_E_NOT_FOUND a group has not begun here (births,
 * seed.h); MG_E_UNAVAILABLE there are other nodes and no peers. */
int mg_replica_open(struct mg_replica **out, const struct mg_replica_options *options,
                    struct mg_error *err);
/* Why open has failed: the log is lost or damaged, and with it this node's votes. */
bool mg_replica_lost_log(const struct mg_replica *replica);
/* Until each group has a leader, and this node has applied what was acknowledged before.  Fails:
 * MG_E_TIMEOUT, MG_E_UNAVAILABLE after ten minutes. */
int mg_replica_wait(struct mg_replica *replica, struct mg_error *err);
/* Writes checkpoints, so that the next start has nothing to do; then the node leaves its groups,
 * and all that waits here ends.  Again is fine. */
void mg_replica_stop(struct mg_replica *replica);
/* Stops, and frees: nobody is in here any more.  NULL is fine. */
void mg_replica_close(struct mg_replica *replica);

/* 0: it happened: who awaits the read barrier, or locks the shards, sees it; what makes or drops
 * tables is applied here already.  MG_E_UNKNOWN_OUTCOME: nobody knows yet.  Any other: nothing
 * happened, and never will. */
int mg_replica_commit(struct mg_replica *replica, const struct mg_redo *redo, struct mg_error *err);
/* The same, in the epoch in which what it depends on was read.  Fails: also MG_E_UNAVAILABLE, when
 * that is over. */
int mg_replica_commit_in(struct mg_replica *replica, uint64_t epoch, const struct mg_redo *redo,
                         struct mg_error *err);

/* err->code 0: it happened, at this index of the group's log; else as commit_in's. */
typedef void (*mg_asked_cb)(void *arg, const struct mg_error *err, uint64_t index);

/* ---- writes of many, without a thread for each (exec/blind.h) ---- */

/* mg_replica_commit_in; decided is called, once it is known to happen, before all of its shards
 * have heard of it: what is prepared from then on does not wait for them.  Not when it is in one
 * shard, and not when it fails. */
int mg_replica_commit_ahead(struct mg_replica *replica, uint64_t epoch, const struct mg_redo *redo,
                            void (*decided)(void *arg), void *arg, struct mg_error *err);

/* Run on the raft thread, soon.  Any thread; not after mg_replica_stop. */
void mg_replica_post(struct mg_replica *replica, void (*run)(void *arg), void *arg);
/* 0, or why nothing may be written now: the log has failed, the disk is nearly full. */
int mg_replica_may_write(struct mg_replica *replica, struct mg_error *err);
/* The redo's operations of one shard, of at most MG_REPLICA_WRITE_MAX bytes, as one entry.  done
 * comes once, maybe before this returns; its err as commit_in's.  Raft thread. */
#define MG_REPLICA_WRITE_MAX (8u << 20)
void mg_replica_write_now(struct mg_replica *replica, uint64_t epoch, uint32_t shard,
                          const struct mg_redo *redo,
                          mg_asked_cb done, void *arg);

/* ---- who coordinates ---- */

bool mg_replica_is_coordinator(struct mg_replica *replica);
uint64_t mg_replica_coordinator(struct mg_replica *replica); /* node; 0: not known */
uint64_t mg_replica_self(const struct mg_replica *replica);
uint32_t mg_replica_shards(const struct mg_replica *replica); /* without shard 0 */
/* In which this node coordinates writes; higher each time; 0: it does not. */
uint64_t mg_replica_epoch(struct mg_replica *replica);
/* The same for a statement that writes.  Fails: MG_E_UNAVAILABLE another node does, or none yet. */
int mg_replica_begin(struct mg_replica *replica, uint64_t *epoch, struct mg_error *err);

/* ---- who is where ---- */

/* Why none of these shards can be read here, or 0: a damaged replica is being made anew.
 * Fails: MG_E_UNAVAILABLE. */
int mg_replica_whole(struct mg_replica *replica, const uint32_t *shards, size_t count,
                     struct mg_error *err);

bool mg_replica_mends(const struct mg_replica *replica); /* any of them */

/* What a replica of a group is, and what it should be instead, as far as this node knows. */
struct mg_move_info {
	uint32_t group; /* 0: the catalog; else shard + 1 */
	char id[64];    /* of its node */
	const char *is, *should; /* "leader", "voter", "standby", "nothing" */
};
/* Of nodes that are there: nobody moves to one that is not.  0: all is where it should be. */
size_t mg_replica_moves(struct mg_replica *replica, struct mg_move_info *infos, size_t max);
/* Look now for what is to be moved, rather than soon. */
void mg_replica_hurry(struct mg_replica *replica);

/* ---- are the replicas equal? (shard_check.h) ---- */

/* Check all shards now, unless that is under way; it takes its time. */
void mg_replica_ask_check(struct mg_replica *replica);
bool mg_replica_checks(struct mg_replica *replica); /* it is under way, asked for at this node */
struct mg_check_state;
void mg_replica_checked(struct mg_replica *replica, uint32_t shard, struct mg_check_state *out);
/* A statement has found damage in what it read here: all files are read, and those that cannot be
 * are made anew. */
void mg_replica_suspect(struct mg_replica *replica);

/* What a file of this shard must say of itself. */
void mg_replica_shard_meta(const struct mg_catalog_data *data, uint32_t shard,
                           struct mg_shard_meta *out);
/* "DIR/shards/damaged-NNNN-YYYYMMDDTHHMMSSZ.duckdb": what a damaged file of the shard is kept as;
 * of those before it only the newest stays.  Owns: the caller. */
char *mg_replica_kept_path(const char *dir, uint32_t shard);

/* No other node belongs to the groups of this one. */
bool mg_replica_is_alone(struct mg_replica *replica);
/* Why this node does not serve (a sentence that stays), or NULL: it has a vote in every group that
 * is placed on it, each has a leader, and it has caught up. */
const char *mg_replica_unready(struct mg_replica *replica);
/* The node that leads a group, as this one knows; 0: not known.  Any thread; never waits. */
uint64_t mg_replica_leader(const struct mg_replica *replica, size_t group);
/* A cluster without shards of keys gets so many, soon: each server makes its replicas when it sees
 * that wish in the catalog.  Again is fine.  Fails: MG_E_USAGE, MG_E_DUPLICATE it has another
 * number of them; as mg_catalog_change_anywhere. */
int mg_replica_enable_keys(struct mg_replica *replica, uint32_t shards, struct mg_error *err);

/* Servers of the catalog, this one too. */
struct mg_server_info {
	uint64_t number;
	char id[64], address[128];
	const char *state; /* "joining", "ready", "draining", "down" */
	char program[64];  /* "": not known */
	uint32_t shards;   /* that it has replicas of */
};
/* As they looked when the placer looked last, up to a second ago.  Returns how many there are.  Any
 * thread; does not wait for the raft thread once the placer has looked. */
size_t mg_replica_servers(struct mg_replica *replica, struct mg_server_info *infos, size_t max);

/* A replica of a shard. */
struct mg_copy_info {
	uint32_t shard;
	uint64_t node;
	char id[64];
	bool leads, votes, connected;
	bool mending; /* of this node: it is being made anew */
	int64_t lag; /* entries that are committed and not yet there; -1: not known here */
};
size_t mg_replica_copies(struct mg_replica *replica, struct mg_copy_info *infos, size_t max);
/* Those of shards of keys, too, which are counted on behind the tables'. */
size_t mg_replica_all_copies(struct mg_replica *replica, struct mg_copy_info *infos, size_t max);
/* *is: does the node belong to a group, group 0 too, as of now?  May wait, and fails, as a read
 * barrier over all shards. */
int mg_replica_has_member(struct mg_replica *replica, uint64_t node, bool *is,
                          struct mg_error *err);

/* What was committed in this epoch may still be on its way, and should be known soon: the epoch
 * ends and the next one's fence decides.  Nothing when it is over. */
void mg_replica_renew(struct mg_replica *replica, uint64_t epoch);

/* For how long who reads waits until this node has applied what it is to show. */
struct mg_patience {
	unsigned ms;
	bool patient; /* only the time counts in which no lane of what is awaited is at work */
	bool (*stopped)(void *arg); /* asked meanwhile: MG_E_CANCELLED; may be NULL */
	void *arg;
};

/* Returns when this node has applied all of these shards and of the catalog that was acknowledged,
 * anywhere, before the call.  Fails: MG_E_UNAVAILABLE a group has no leader that a majority
 * follows; MG_E_TIMEOUT this node lags behind; MG_E_SHUTDOWN.  A cluster of one
 * asks nobody. */
int mg_replica_read_barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                            struct mg_error *err);
/* Returns when this node has applied what it has acknowledged itself; asks nobody.  A write may be
 * acknowledged before it is applied.  Fails: MG_E_TIMEOUT, MG_E_CANCELLED, MG_E_SHUTDOWN. */
int mg_replica_await_acked(struct mg_replica *replica, const uint32_t *shards, size_t count,
                           const struct mg_patience *patience, struct mg_error *err);
/* Returns when this node has applied what its logs have given it, of all shards; asks nobody. */
int mg_replica_await_accepted(struct mg_replica *replica, const struct mg_patience *patience,
                              struct mg_error *err);
/* Of the catalog and of all shards: what this node shows, and what it has acknowledged; all that
 * was read here before is in it. */
void mg_replica_note_seen(struct mg_replica *replica, struct mg_seen *seen);
/* Returns when this node has applied all of the catalog and of these shards that a session has seen
 * elsewhere; asks nobody, unless that was too much to be told.  Fails: MG_E_TIMEOUT this node lags
 * behind, MG_E_CANCELLED, MG_E_SHUTDOWN; as the barrier. */
int mg_replica_await_seen(struct mg_replica *replica, const struct mg_seen *seen,
                          const uint32_t *shards, size_t count,
                          const struct mg_patience *patience, struct mg_error *err);
/* This node has applied all of it, of the shards. */
bool mg_replica_has_seen(struct mg_replica *replica, const struct mg_seen *seen);
/* As the barrier, with this patience for a node that lags behind; then MG_E_TIMEOUT. */
int mg_replica_try_barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                           const struct mg_patience *patience, struct mg_error *err);
/* As the barrier, for as long as lanes are at work and nobody has stopped it. */
int mg_replica_long_barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                            bool (*stopped)(void *arg), void *arg, struct mg_error *err);
/* What this node has of these shards and of the catalog is at most so old: a barrier has said so.
 */
bool mg_replica_is_fresh(struct mg_replica *replica, const uint32_t *shards, size_t count,
                         uint64_t max_ms);

/* As commit_in, but each shard by itself: rows of tables that no version of the catalog names yet,
 * which count only with that.  On failure some of them may be stored. */
int mg_replica_append_in(struct mg_replica *replica, uint64_t epoch, const struct mg_redo *redo,
                         struct mg_error *err);

/* What has changed in a shard since a snapshot of it. */
enum mg_late {
	MG_LATE_NOTHING,
	MG_LATE_OTHERS, /* rows, but none of those that were asked for */
	MG_LATE_SAME,   /* some of those were replaced or deleted */
	MG_LATE_UNKNOWN /* too much has changed to tell */
};
/* index: _mg.meta's applied_index as the snapshot shows it; rids: ids of stored rows, sorted.  Who
 * asks holds the shard's lock and has awaited the read barrier, else more may come. */
enum mg_late mg_replica_changed_since(struct mg_replica *replica, uint32_t shard, uint64_t index,
                                      const int64_t *rids, size_t count);

/* What a writer means to do with the tables of a shard, from before it reads them until it has
 * committed. */
enum mg_lock_mode {
	MG_LOCK_ADD,    /* new rows, whatever is there: beside other ADDs, KEYs and one CHANGE */
	MG_LOCK_KEY,    /* rows of one slot that depend on those of it: beside ADDs and other slots */
	MG_LOCK_CHANGE, /* rows that depend on those that are there: beside ADDs */
	MG_LOCK_ALTER,  /* tables come, go or change: alone */
};
/* All shards or none; who holds some asks for no more.  Who CHANGEs or ALTERs finds all applied
 * that was acknowledged here.  stopped: asked while it waits, may be NULL.  Fails: MG_E_CANCELLED;
 * MG_E_TIMEOUT, MG_E_SHUTDOWN. */
int mg_replica_lock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                    size_t count, bool (*stopped)(void *arg), void *arg, struct mg_error *err);
/* MG_LOCK_ADD, when nobody is in the way. */
bool mg_replica_try_lock(struct mg_replica *replica, const uint32_t *shards, size_t count);
void mg_replica_unlock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                       size_t count);

/* MG_LOCK_KEY: of rows that are all in one slot of one shard. */
struct mg_key_lock {
	uint32_t shard;
	uint16_t slot;
	uint64_t at, file; /* set by the lock */
};
int mg_replica_lock_key(struct mg_replica *replica, struct mg_key_lock *key,
                        bool (*stopped)(void *arg), void *arg, struct mg_error *err);
void mg_replica_unlock_key(struct mg_replica *replica, const struct mg_key_lock *key);
/* Whoever holds the key sees here all that was acknowledged of its rows, without a barrier, if this
 * node still coordinates in that epoch, which its commit will tell.  Else it calls await_key. */
bool mg_replica_key_is_here(struct mg_replica *replica, const struct mg_key_lock *key,
                            uint64_t epoch);
/* A write to these shards has ended with MG_E_UNKNOWN_OUTCOME: in this epoch none of their keys is
 * known to be here any more.  Commits do so themselves; for who writes with write_now. */
void mg_replica_doubt(struct mg_replica *replica, uint64_t epoch, const uint32_t *shards,
                      size_t count);
/* The shard's file has not been replaced since the key was locked: ask once its rows are read. */
bool mg_replica_key_stays(struct mg_replica *replica, const struct mg_key_lock *key);
/* As mg_replica_long_barrier over the key's shard. */
int mg_replica_await_key(struct mg_replica *replica, const struct mg_key_lock *key, uint64_t epoch,
                         bool (*stopped)(void *arg), void *arg, struct mg_error *err);

/* Where a reader of several shards takes a cut of them: cuts.h.  What it has awaited with a barrier
 * before is in it. */
struct mg_cuts *mg_replica_cuts(struct mg_replica *replica);

/* Write all that is committed to the shard's file; nothing when it holds that.  Fails: MG_E_BUSY
 * when a reader is in the way: later; MG_E_DISK_FULL. */
int mg_replica_checkpoint(struct mg_replica *replica, uint32_t shard, struct mg_error *err);

/* ---- copies of shards on workers ---- */

/* What the shard has applied lately; stays until close. */
struct mg_follow_log *mg_replica_follow(struct mg_replica *replica, uint32_t shard);
/* Somebody waits for this index: what is accepted is to be applied at once. */
void mg_replica_want(struct mg_replica *replica, uint32_t shard, uint64_t index);
/* As in shard_sm.h. */
bool mg_replica_file_state(struct mg_replica *replica, uint32_t shard, uint64_t *index,
                           uint64_t *term);
int mg_replica_read_file(struct mg_replica *replica, uint32_t shard, uint64_t index,
                         int (*read)(void *arg, struct mg_error *err), void *arg,
                         struct mg_error *err);

/* ---- changes, for who follows a table ---- */

/* Of a shard, as applied here; NULL: they are not kept.  Stays until close. */
struct mg_changes_log *mg_replica_changes(struct mg_replica *replica, uint32_t shard);
/* A number that is another one when more of them, of any shard, are there; wait until it is, or has
 * been kicked, at most so long. */
uint64_t mg_replica_changes_count(struct mg_replica *replica);
void mg_replica_changes_wait(struct mg_replica *replica, uint64_t count, unsigned ms);
void mg_replica_changes_kick(struct mg_replica *replica);

/* 0, or why this node cannot write any more. */
int mg_replica_failed(struct mg_replica *replica, struct mg_error *err);

#endif
