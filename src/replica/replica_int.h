/* replica_int.h - struct mg_replica from the inside: for replica.c, ask.c, changes.c, commit.c,
 * coordinator.c, look.c and placer.c only. */
#ifndef MG_REPLICA_REPLICA_INT_H
#define MG_REPLICA_REPLICA_INT_H

#include "os/file.h"
#include "replica/catalog_sm.h"
#include "replica/command.h"
#include "replica/cuts.h"
#include "replica/forward.h"
#include "replica/placement.h"
#include "replica/raft_host.h"
#include "replica/replica.h"
#include "replica/shard_locks.h"
#include "replica/shard_sm.h"

#include <pthread.h>
#include <stdatomic.h>

#define MG_REPLICA_KV_GROW_MAX 64 /* shards of keys that a cluster may get while it runs */

/* What ends by itself soon, or not: an election, a node that comes back. */
#define MG_REPLICA_PATIENCE_MS 10000

struct mg_checker;
struct mg_mender;
struct mg_placer;

/* A node that is not connected, and since when. */
struct mg_down {
	uint64_t number, since_ms;
};

struct mg_replica {
	struct mg_replica_options options;
	bool lost_log;    /* as open found it */
	bool self_begins; /* the first node: it has made births up */
	struct mg_disk_room room; /* in options.dir */
	struct mg_raft_host *host;
	struct mg_forward *forward; /* NULL: without peers */
	struct mg_snapshot_puller *puller;
	struct mg_snapshot_source *source;
	struct mg_disk *changes_disk; /* NULL: changes are not kept */
	pthread_mutex_t changes_lock;
	pthread_cond_t changes_more; /* monotonic */
	uint64_t changes_count;      /* guarded by changes_lock: how often more was published */
	unsigned changes_waiting;    /* likewise */
	struct mg_placer *placer;
	struct mg_mender *mender;
	struct mg_checker *checker;
	atomic_bool *mending; /* by shard, then by shard of keys: this replica is damaged */
	_Atomic uint64_t *leaders;     /* node, by group; 0: not known */
	atomic_bool alone;             /* no other node belongs to any group */
	_Atomic(const char *) unready; /* why this node does not serve, or NULL */
	struct mg_catalog_sm *catalog_sm;
	struct mg_shard_sm **shards; /* by id */
	struct mg_kv_groups *kv;     /* NULL: none; while kv_shards is 0, the placer's and stop's */
	_Atomic uint32_t kv_shards;  /* of keys; may rise from 0, once (kv_open.c) */
	struct mg_members kv_births; /* who votes in them to begin with; nobody: options.births */
	pthread_mutex_t kv_lock;     /* held while they begin, and while they end */
	/* Of those that begin while the node runs; owner: the placer. */
	bool kv_begun;
	uint64_t kv_retry_ms; /* they could not begin, and are not tried before then */
	struct mg_shard_locks *locks;
	struct mg_cuts *cuts; /* what several shards show together */
	/* Held while a transaction over several shards is made visible, so that one comes after the
	 * other in the log of each of them; guards commit_number, the last one that was given here. */
	pthread_mutex_t one_by_one;
	uint64_t commit_number;
	atomic_int log_failed;
	bool started, stopped;
	bool coordinates; /* there is a thread of coordinator.c */
	pthread_t coordinator;
	_Atomic uint64_t epoch; /* in which this node coordinates writes; 0: it does not */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic; of what is applied, and of stopping */
	pthread_cond_t leading; /* of lead_term, take_again, stopping: the coordinator's thread */
	/* guarded by lock */
	uint64_t *applied; /* index, by group */
	uint64_t *acked;   /* index, by group: writes of this node were acknowledged up to there */
	uint64_t
		*fresh_ms; /* by group: this node has what was acknowledged before then; 0: not known */
	uint64_t lead_term;  /* in which this node leads group 0; 0: it does not */
	uint64_t taken_term; /* the last one that coordinator.c has looked at */
	bool take_again;
	bool stopping;
	struct mg_down *downs;
	size_t down_count, down_cap;
	struct mg_group_look *kept_looks; /* of the placer's last round; NULL: none yet */
	size_t kept_look_count;
};

uint32_t mg_replica__group(uint32_t shard);
size_t mg_replica__group_count(const struct mg_replica *replica);
size_t mg_replica__group_max(const struct mg_replica *replica); /* it will not be more */
bool mg_replica__stopping(struct mg_replica *replica);

/* All of them have been caught up with, as mg_replica_read_barrier has it. */
int mg_replica__barrier_of_all(struct mg_replica *replica, struct mg_error *err);

/* ---- look.c ---- */

/* A group as this node sees it now. */
struct mg_group_look {
	bool open, leads;
	bool busy; /* a change of members, or of the leader, is under way */
	uint64_t leader, term, commit, applied;
	int failed;
	struct mg_members members;
	uint64_t match[MG_MEMBERS_MAX]; /* what each has stored; UINT64_MAX: not known here */
};

/* Of all groups, by number.  Not on the raft thread. */
void mg_replica__look(struct mg_replica *replica, struct mg_group_look *looks);
/* A group of tables, that is neither the catalog's nor one of keys. */
bool mg_replica__is_shard(const struct mg_replica *replica, uint32_t group);
bool mg_replica__is_of_keys(const struct mg_replica *replica, uint32_t group);
/* Begins, when the log does not hold it. */
int mg_replica__open_group(struct mg_replica *replica, uint32_t group, struct mg_sm *sm,
                           struct mg_error *err);
struct mg_group_look *mg_replica__looks(struct mg_replica *replica); /* owns: the caller */
/* For those who must not wait for the raft thread: mg_replica_servers.  Any thread. */
void mg_replica__keep_looks(struct mg_replica *replica, const struct mg_group_look *looks);
/* Of mg_raft_node_options; raft thread. */
void mg_replica__on_leader(void *arg, uint32_t group, uint64_t node);
bool mg_replica__is_alone(const struct mg_replica *replica, const struct mg_group_look *looks);
/* The catalog's nodes, in its order, as many as it has.  Owns: the caller. */
struct mg_placed_node *mg_replica__placed(struct mg_replica *replica,
                                          const struct mg_catalog_data *data);
/* Who has any shard, as a voter when it votes in every one. */
void mg_replica__members_of_shards(const struct mg_replica *replica,
                                   const struct mg_group_look *looks,
                               struct mg_members *out);
/* Has the node what it should have, in every group? */
bool mg_replica__is_placed(const struct mg_replica *replica, const struct mg_group_look *looks,
                           const struct mg_placed_node *nodes, size_t count, uint64_t node);
void mg_replica__node_id(const struct mg_catalog_data *data, uint64_t number, char *text,
                         size_t size);
/* Tell the peers where the catalog's nodes are. */
void mg_replica__name_peers(struct mg_replica *replica);

/* ---- placer.c ---- */

void mg_replica__make_placer(struct mg_replica *replica);
int mg_replica__start_placer(struct mg_replica *replica, struct mg_error *err);
void mg_replica__kick_placer(struct mg_replica *replica); /* any thread: look now */
void mg_replica__end_placer(struct mg_replica *replica);  /* soon */
void mg_replica__join_placer(struct mg_replica *replica); /* after the host's stop */
void mg_replica__free_placer(struct mg_replica *replica);

/* ---- mend.c ---- */

void mg_replica__make_mender(struct mg_replica *replica);
int mg_replica__start_mender(struct mg_replica *replica, struct mg_error *err);
void mg_replica__end_mender(struct mg_replica *replica);  /* soon */
void mg_replica__join_mender(struct mg_replica *replica); /* after the host's stop */
void mg_replica__free_mender(struct mg_replica *replica);
/* The replica is not what it should be: no reads of it from now on, and it is made anew from one of
 * `good` (nobody: of any other).  Any thread.  Again is fine. */
void mg_replica__mend(struct mg_replica *replica, uint32_t shard, const char *why,
                      const struct mg_members *good);
/* The same of one whose group is not open, and of whose file there is but a stand-in. */
void mg_replica__mend_stand_in(struct mg_replica *replica, uint32_t shard, const char *why);
bool mg_replica__is_mending(const struct mg_replica *replica, uint32_t shard);

/* ---- checker.c ---- */

void mg_replica__make_checker(struct mg_replica *replica);
int mg_replica__start_checker(struct mg_replica *replica, struct mg_error *err);
void mg_replica__end_checker(struct mg_replica *replica); /* soon */
void mg_replica__join_checker(struct mg_replica *replica); /* after the host's stop */
void mg_replica__free_checker(struct mg_replica *replica);
/* For struct mg_shard_sm_options. */
void mg_replica__on_mark(void *arg, uint32_t shard);
void mg_replica__on_differs(void *arg, uint32_t shard, const struct mg_members *good);

/* ---- ask.c: the leaders of groups, wherever they are ---- */

struct mg_reach {
	uint32_t group;
	uint64_t index;
};

/* Proposals that somebody waits for. */
struct mg_wait_for {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t open;
	struct mg_error err;
	bool fenced; /* one was refused: it is another coordinator's turn */
	bool maybe;  /* of one a try may have happened, whatever came of the next */
	/* Where they were applied, or refused by a fence; or may be read; 0: it failed.  In the order
	 * in which they were asked. */
	struct mg_reach *reached;
	size_t reached_count, reached_cap;
};

void mg_wait_init(struct mg_wait_for *wait);
void mg_wait_fini(struct mg_wait_for *wait);
/* Until all have ended; the worst error. */
int mg_wait_all(struct mg_wait_for *wait, struct mg_error *err);
/* What followed each other in one group is applied in that order.  When all have ended. */
bool mg_wait_in_order(const struct mg_wait_for *wait);
/* For others: nothing is open.  What was reached stays. */
void mg_wait_again(struct mg_wait_for *wait);

enum mg_tries {
	MG_TRY_ONCE, /* and only here */
	MG_TRY_SAFE, /* again, while it has not happened */
	MG_TRY_MORE, /* again, until it is known to have happened: it may happen twice */
};

/* Propose head (or nothing) and `rest` behind it, copied.  With `wait` its end is counted there.
 * Fails: MG_E_NOMEM, and then nothing was proposed. */
int mg_replica__propose(struct mg_replica *replica, uint32_t group, enum mg_tries tries,
                        const struct mg_command *head, const void *rest, size_t size,
                        struct mg_wait_for *wait, struct mg_error *err);
/* This node has applied all that the wait has reached.  Fails: MG_E_TIMEOUT, MG_E_SHUTDOWN. */
int mg_replica__reach(struct mg_replica *replica, const struct mg_wait_for *wait, unsigned ms,
                      struct mg_error *err);
/* The same, also MG_E_CANCELLED. */
int mg_replica__reach_with(struct mg_replica *replica, const struct mg_wait_for *wait,
                           const struct mg_patience *patience, struct mg_error *err);
/* All that the wait has reached is acknowledged: whoever reads here must see it. */
void mg_replica__note_acked(struct mg_replica *replica, const struct mg_wait_for *wait);
/* arg: the replica.  All shards are to apply at once what they have accepted.  For mg_cuts. */
void mg_replica__hurry(void *arg);
/* arg: the replica.  The lane of one of them is at work.  For mg_cuts. */
bool mg_replica__moves(void *arg, const uint32_t *shards, size_t count);
/* mg_replica_read_barrier, also in a cluster of one: whose log may not be applied yet at the start.
 */
int mg_replica__barrier(struct mg_replica *replica, const uint32_t *shards, size_t count,
                        struct mg_error *err);
/* The same on the raft thread, without anybody who waits: what is proposed is written into its
 * bytes, of which there are `cap`; then it is asked, once.  A write is tried again while it has not
 * happened.  NULL: no memory. */
struct mg_question;
struct mg_question *mg_replica__question(struct mg_replica *replica, enum mg_ask_kind kind,
                                         uint32_t group, size_t cap, mg_asked_cb done, void *arg);
uint8_t *mg_replica__question_bytes(struct mg_question *question);
void mg_replica__question_ask(struct mg_question *question, size_t size);
/* For forward.h: another node asks.  Raft thread. */
void mg_replica__serve(void *arg, const struct mg_ask *ask, mg_answer_cb answer, void *answer_arg);
/* For the state machines.  Raft thread. */
void mg_replica__on_applied(void *arg, uint32_t group, uint64_t index);

/* ---- coordinator.c ---- */

int mg_replica__coordinate(struct mg_replica *replica, struct mg_error *err); /* starts a thread */
/* For mg_raft_node_options.on_role, arg = replica. */
void mg_replica__on_role(void *arg, uint32_t group, enum mg_raft_role role, uint64_t term);
/* MG_E_UNAVAILABLE: go to the coordinator. */
int mg_replica__not_coordinator(struct mg_replica *replica, struct mg_error *err);

/* ---- changes.c ---- */

void mg_replica__init_changes(struct mg_replica *replica);
void mg_replica__fini_changes(struct mg_replica *replica);
/* Where shards keep their changes; before they open, and after they are freed. */
int mg_replica__open_changes(struct mg_replica *replica, struct mg_error *err);
void mg_replica__close_changes(struct mg_replica *replica);
struct mg_changes_log_options mg_replica__changes_of(struct mg_replica *replica, uint32_t shard);

/* ---- kv_resolve.c ---- */

/* Of a shard.  owner: the raft thread */
struct mg_kv_resolver {
	bool busy;
	uint32_t avoid; /* 1 more than the shard that could not be asked last; 0: none */
};

/* Settles what has waited in the shard for long, one after another.  This node leads the shard. */
void mg_replica__kv_resolve(struct mg_replica *replica, uint32_t shard,
                            struct mg_kv_resolver *resolver);

/* ---- kv_open.c ---- */

int mg_replica__open_kv(struct mg_replica *replica, struct mg_error *err);
/* The cluster may have got keys since the start.  True: they have begun here, and are not ready.
 * Placer's thread. */
bool mg_replica__grow_kv(struct mg_replica *replica, const struct mg_catalog_data *data);
void mg_replica__start_kv(struct mg_replica *replica);
void mg_replica__stop_kv(struct mg_replica *replica); /* before mg_raft_host_stop */
void mg_replica__stop_kv_checks(struct mg_replica *replica); /* sums end */
void mg_replica__free_kv(struct mg_replica *replica);

/* ---- kv_groups.c ---- */

/* Which rings whenever keys have changed. */
struct mg_kv_bell *mg_replica__kv_bell(struct mg_replica *replica);
/* 0, or why one of them is out of service. */
int mg_replica__kv_failed(struct mg_replica *replica, struct mg_error *err);
/* A group goes on with another's state, at this index.  Raft thread. */
void mg_replica__kv_reopened(struct mg_replica *replica, uint32_t group, uint64_t index);
bool mg_replica__kv_leads(const struct mg_replica *replica, uint32_t shard); /* raft thread */
struct mg_kv_sm *mg_replica__kv_sm(const struct mg_replica *replica, uint32_t shard);

/* ---- commit.c ---- */

/* MG_E_DISK_FULL: writing ends before the disk is full.  Any thread. */
int mg_replica__has_room(struct mg_replica *replica, struct mg_error *err);

/* End what others, or an earlier life, have left in doubt.  Behind the fence of this epoch. */
int mg_replica__resolve(struct mg_replica *replica, uint64_t epoch, struct mg_error *err);

#endif
