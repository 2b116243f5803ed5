/*
 * kv_sm.h - a key-value group's state machine: kv_state.h behind raft.
 *
 * Entries are applied on the raft thread itself, for that takes microseconds; only when the tree
 * cannot take more at the moment (its sorted tables are behind) the lane waits for it.  A snapshot
 * is a view of the tree, made a file `kv/snap-GROUP-INDEX.sst` when somebody asks; it arrives as
 * `kv/pull-GROUP-INDEX.sst` and is taken into the tree as it is.
 *
 * Thread: as shard_sm.h; get and scan of its state: any.
 */
#ifndef MG_REPLICA_KV_SM_H
#define MG_REPLICA_KV_SM_H

#include "raft/seams.h"
#include "replica/kv_state.h"
#include "replica/raft_host.h"
#include "replica/shard_check.h"
#include "replica/snapshot_pull.h"
#include "replica/snapshot_source.h"

struct mg_kv_sm;

struct mg_kv_sm_options {
	struct mg_raft_host *host;
	struct mg_lsm *lsm; /* borrowed; outlives it */
	uint32_t group;
	uint64_t self, incarnation; /* whose requests have somebody who waits */
	/* Raft thread.  Of an entry of this life of this node: its requests, in order; valid until it
	 * returns. */
	void (*on_results)(void *arg, uint32_t group, const struct mg_kv_results *results,
	                   size_t count);
	void (*on_applied)(void *arg, uint32_t group, uint64_t index);
	/* It is out of service, until another's state is put in: nobody may wait for it. */
	void (*on_failed)(void *arg, uint32_t group);
	void *arg;
	uint32_t shard; /* as shard_check.h counts them */
	/* As struct mg_shard_check_options. */
	void (*on_mark)(void *arg, uint32_t shard);
	void (*on_differs)(void *arg, uint32_t shard, const struct mg_members *good);
	void *check_arg;
	const char *dir; /* the node's data directory; borrowed */
	struct mg_snapshot_puller *puller; /* NULL: a cluster of one, as the next */
	struct mg_snapshot_source *source;
};

int mg_kv_sm_open(struct mg_kv_sm **out, const struct mg_kv_sm_options *options,
                  struct mg_error *err);
struct mg_sm *mg_kv_sm_seam(struct mg_kv_sm *sm);
struct mg_kv_state *mg_kv_sm_state(struct mg_kv_sm *sm);
/* 0, or why it is out of service.  Any thread. */
int mg_kv_sm_failed(struct mg_kv_sm *sm, struct mg_error *err);
struct mg_shard_check *mg_kv_sm_check(struct mg_kv_sm *sm);
/* "DIR/kv/pull-GROUP-INDEX.sst".  Owns: the caller. */
char *mg_kv_pulled_path(const char *dir, uint32_t group, uint64_t index);
/* ---- a replica that is damaged; the group is closed ---- */

/* Its group has failed.  False: the lane is still at it.  Raft thread. */
bool mg_kv_sm_rest(struct mg_kv_sm *sm);
/* As mg_shard_sm_pull_newest. */
void mg_kv_sm_pull_newest(struct mg_kv_sm *sm, const char *path, uint64_t index, uint64_t peer,
                          void (*done)(void *arg, const struct mg_snapshot_manifest *manifest,
                                       const struct mg_error *err),
                          void *arg);
/* The file `from`, at this index, in place of all that there is; the group may be opened. */
int mg_kv_sm_put_in(struct mg_kv_sm *sm, const char *from, uint64_t index, struct mg_error *err);
void mg_kv_sm_stop(struct mg_kv_sm *sm); /* before mg_raft_host_stop */
void mg_kv_sm_free(struct mg_kv_sm *sm); /* NULL is fine */

#endif
