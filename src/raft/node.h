/*
 * node.h - a node's Raft groups: what the layers above see of consensus.
 *
 *     mg_raft_node_new                    seams and options
 *     mg_raft_node_birth | mg_raft_node_seed   once in the life of a replica: how its group begins
 * here mg_raft_node_open                   a replica starts with what the log holds of it
 *     mg_raft_node_receive, mg_group_*    events
 *     mg_raft_node_turn                   after events, and when wake_at says so
 *     mg_raft_node_free
 *
 * Rule: a proposal's callback says what is known.  0: committed and applied here.  Retry class
 * SAFE: it did not happen and never will.  MAYBE (MG_E_UNKNOWN_OUTCOME): nobody can tell yet.
 *
 * Callbacks run on the raft thread, never inside the call that was given them, out of
 * mg_raft_node_turn or an answer of a state machine; they may call anything here but
 * mg_raft_node_free and mg_raft_node_close.
 *
 * Owner: the raft thread.  Bounds: struct mg_raft_node_options.
 */
#ifndef MG_RAFT_NODE_H
#define MG_RAFT_NODE_H

#include "raft/core.h"
#include "raft/seams.h"

struct mg_raft_node;
struct mg_group;

struct mg_raft_node_options {
	uint64_t self;        /* node, from 1 */
	uint64_t incarnation; /* from 1, higher at each start of this node */
	struct mg_raft_log *log;
	struct mg_env *env;
	struct mg_net *net;
	/* Zeros choose what stands here. */
	unsigned election_ms;      /* 1,000 */
	unsigned heartbeat_ms;     /* 150 */
	unsigned inflight_max;     /* 1,024 entries sent to a peer and not acknowledged */
	unsigned capacity_min_kib; /* 4,096: refuse writes when a majority has less disk */
	uint64_t snapshot_bytes;   /* 64 MiB of entries applied: then a snapshot */
	uint64_t snapshot_entries; /* 1,000,000 likewise */
	/* 8,192 entries and 60,000 ms since the last one: a snapshot too, so that the next start has
	 * little to do again. */
	uint64_t snapshot_rest_entries;
	unsigned snapshot_rest_ms;
	/* 8,192 behind a snapshot, for followers that lag; fewer when they are more than
	 * snapshot_bytes, and one when there are no followers. */
	uint64_t keep_entries;
	uint64_t proposal_bytes_max;  /* 64 MiB of a group proposed and not applied: then BUSY */
	unsigned proposal_timeout_ms; /* 10,000: then its outcome is unknown */
	unsigned read_timeout_ms;     /* 5,000 */
	/* 250: how long a voter's promise lasts on which a lease stands (lease.h), and therefore how
	 * much later an election may be.  The same on all nodes. */
	unsigned promise_ms;
	bool no_leases; /* of this node as leader: each read makes a round, or shares one */
	/* What happens, for logs and checkers; may be NULL. */
	void (*on_role)(void *arg, uint32_t group, enum mg_raft_role role, uint64_t term);
	void (*on_leader)(void *arg, uint32_t group, uint64_t node); /* 0: not known, or closed here */
	void (*on_trace)(void *arg, uint32_t group, const char *text);
	void *watch_arg;
};

/* ---- the node ---------------------------------------------------------------------------------
 */

/* Owns: the caller frees it, after its log has stopped to call back. */
struct mg_raft_node *mg_raft_node_new(const struct mg_raft_node_options *options);
void mg_raft_node_free(
	struct mg_raft_node *node); /* what waits hears MG_E_UNKNOWN_OUTCOME or SHUTDOWN */

/* All that is due: what the log has stored, timers, proposals, reads; then flushes the log. */
void mg_raft_node_turn(struct mg_raft_node *node);

/* One whole frame of an authenticated peer.  Fails: MG_E_PROTOCOL, then hang up. */
int mg_raft_node_receive(struct mg_raft_node *node, uint64_t peer, const uint8_t *data, size_t size,
                         struct mg_error *err);

/* The connection to a peer has ended as it does when a process ends.  Where it led and this node
 * follows, this node asks for votes within a fraction of a second instead of an election timeout,
 * or when what it has promised is over (lease.h); voters of lower number first.  It may be wrong: a
 * leader whom a majority hears stays. */
void mg_raft_node_lost(struct mg_raft_node *node, uint64_t peer);

/* 0, or why the log failed: then nothing goes on, and the process must start again. */
int mg_raft_node_failed(const struct mg_raft_node *node);

/* ---- life of a replica ------------------------------------------------------------------------
 */

/* A new group of these members begins: each of them is told so, with the same members.
 * Fails: MG_E_DUPLICATE when the log holds the group. */
int mg_raft_node_birth(struct mg_raft_node *node, uint32_t group, const struct mg_members *members,
                       struct mg_error *err);
/* A replica begins with a snapshot, which its state machine already holds durably.
 * Fails: MG_E_DUPLICATE. */
int mg_raft_node_seed(struct mg_raft_node *node, uint32_t group, const struct mg_manifest *manifest,
                      struct mg_error *err);
/* A replica whose state is lost or damaged, while its log is whole, goes on with a snapshot of
 * another one, which its state machine will hold before it is opened again.  Its vote and what it
 * has acknowledged stay: entries behind the snapshot are kept, and those before it are in it.
 * done: it is durable.  The group is not open.  Fails, without done: MG_E_NOT_FOUND the log does
 * not hold the group; MG_E_BUSY the log does not hold what follows it: take a newer one. */
int mg_raft_node_reseed(struct mg_raft_node *node, uint32_t group,
                        const struct mg_manifest *manifest, mg_raft_log_done done, void *arg,
                        struct mg_error *err);
/* Start it.  `sm` stays the caller's and must live until the group is closed.
 * Fails: MG_E_NOT_FOUND nothing to start from; MG_E_CORRUPT; MG_E_DUPLICATE it is open. */
int mg_raft_node_open(struct mg_raft_node *node, uint32_t group, struct mg_sm *sm,
                      struct mg_group **out, struct mg_error *err);
/* Stop it; with `forget` the log drops it too.  What the state machine has in hand it must still
 * answer, with the group that it was given. */
void mg_raft_node_close(struct mg_group *group, bool forget);
/* The state machine has nothing in hand, nor is it given anything before the next turn. */
bool mg_group_is_idle(const struct mg_group *group);

struct mg_group *mg_raft_node_group(struct mg_raft_node *node,
                                    uint32_t group);                /* NULL when not open */
bool mg_raft_node_knows(struct mg_raft_node *node, uint32_t group); /* the log holds it */

/* ---- a group ----------------------------------------------------------------------------------
 */

struct mg_group_info {
	struct mg_core_info core;
	uint64_t applied;
	uint64_t first, last; /* entries in the log */
	bool can_read;        /* leader whose commit is of its own term */
	int failed;           /* why the replica is out of service, or 0 */
};

void mg_group_info(const struct mg_group *group, struct mg_group_info *out);
/* Leader: what a member is known to have stored.  False: this node does not lead, or it is no
 * member. */
bool mg_group_match(const struct mg_group *group, uint64_t node, uint64_t *index);
const struct mg_manifest *mg_group_snapshot(const struct mg_group *group); /* NULL: none yet */

/* error 0: applied at index.  leader: where to go when the error is MG_E_UNAVAILABLE; 0: unknown.
 */
typedef void (*mg_proposal_cb)(void *arg, int error, uint64_t index, uint64_t leader);

/* Propose a command; its bytes are copied.  Fails at once, with nothing done and no callback:
 * MG_E_UNAVAILABLE not leader (err's detail names who is), MG_E_BUSY, MG_E_LIMIT too large. */
int mg_group_propose(struct mg_group *group, const void *data, size_t size, mg_proposal_cb cb,
                     void *arg, struct mg_error *err);

enum mg_change { MG_CHANGE_ADD_STANDBY, MG_CHANGE_PROMOTE, MG_CHANGE_DEMOTE, MG_CHANGE_REMOVE };

/* Change the members by one step.  A promotion first measures whether the node keeps up, and is
 * refused with MG_E_BUSY until it does: ask again.  Fails: also MG_E_UNAVAILABLE, MG_E_NOT_FOUND,
 * MG_E_USAGE, MG_E_LIMIT. */
int mg_group_change(struct mg_group *group, enum mg_change change, uint64_t node, mg_proposal_cb cb,
                    void *arg, struct mg_error *err);

/* Give the leadership away, to the best voter when node is 0.  Ends by itself, either way. */
int mg_group_transfer(struct mg_group *group, uint64_t node, struct mg_error *err);

/* error 0: what is applied up to index, anywhere, is a linearizable answer. */
typedef void (*mg_read_cb)(void *arg, int error, uint64_t index, uint64_t leader);

/* The index to read at: everything acknowledged before this call lies at or below it.  In this turn
 * when the leader has a lease (lease.h); else one round trip, shared by all groups and all reads of
 * the moment.  Fails at once: MG_E_UNAVAILABLE, MG_E_BUSY. */
int mg_group_read_index(struct mg_group *group, mg_read_cb cb, void *arg, struct mg_error *err);

/* Somebody at another member waits for what this leader commits: it is told at once, and not only
 * with the next entry or some milliseconds later. */
void mg_group_tell(struct mg_group *group);

/* Take a snapshot soon, whatever the log's size. */
void mg_group_ask_snapshot(struct mg_group *group);

/* ---- answers of a state machine ---------------------------------------------------------------
 */

void mg_group_applied(struct mg_group *group, uint64_t index);
/* In its place: the entries could not be applied, and the replica is broken (mg_group_fail). */
void mg_group_not_applied(struct mg_group *group, int error);
void mg_group_frozen(struct mg_group *group, int error, const void *manifest, size_t size);
void mg_group_pulled(struct mg_group *group, int error);
void mg_group_adopted(struct mg_group *group, int error);
/* This replica is broken: it takes no part any more, until it is made anew. */
void mg_group_fail(struct mg_group *group, int error);

#endif
