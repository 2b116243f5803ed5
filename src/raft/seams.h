/*
 * seams.h - what consensus asks of the world: time and chance, a network, state machines.
 *
 * Rule: nothing above these seams (and log.h) touches a clock, a socket, a file or a thread.  Each
 * has a real implementation and one in test/sim.
 *
 * All functions are called on the raft thread and answer at once; what takes longer is begun, and
 * ends by one of the mg_group_ functions of node.h, again on the raft thread.
 */
#ifndef MG_RAFT_SEAMS_H
#define MG_RAFT_SEAMS_H

#include "base/mem.h"
#include "raft/message.h"

/* ---- time and chance --------------------------------------------------------------------------
 */

struct mg_env;

struct mg_env_ops {
	uint64_t (*now_ms)(struct mg_env *env);  /* monotonic */
	uint64_t (*boot_ms)(struct mg_env *env); /* too, and counts while the machine sleeps */
	uint64_t (*random)(struct mg_env *env);
	/* Call mg_raft_node_turn at this time at the latest; the last call counts. */
	void (*wake_at)(struct mg_env *env, uint64_t ms);
};

struct mg_env {
	const struct mg_env_ops *ops;
};

/* ---- network ----------------------------------------------------------------------------------
 */

struct mg_net;

struct mg_net_ops {
	/* Takes the reference.  May drop, and may gather until the end of the turn; what is not dropped
	 * comes to mg_raft_node_receive of the peer, whole.  Bounded for each peer by what it drops
	 * then. */
	void (*send)(struct mg_net *net, uint64_t peer, struct mg_buf *frame);
	/* The turn is over: what was gathered may go.  May be NULL. */
	void (*flush)(struct mg_net *net);
};

struct mg_net {
	const struct mg_net_ops *ops;
};

/* ---- state machine of one group ---------------------------------------------------------------
 */

struct mg_sm;

struct mg_sm_ops {
	/* Apply these entries, in order, each once; those that are no COMMAND only move the index.
	 * They stay as they are until mg_group_applied(last index), before which nothing else is begun.
	 * Applying cannot fail: what does is corruption, told by mg_group_fail. */
	void (*apply)(struct mg_sm *sm, const struct mg_entry *entries, size_t count);

	/* What a crash leaves applied.  After a start, the index to go on behind. */
	uint64_t (*durable_index)(struct mg_sm *sm);

	/* Make all that is applied durable and describe it: answer mg_group_frozen.  Nothing is applied
	 * meanwhile.  The state described is kept until the next freeze or adopt has ended. */
	void (*freeze)(struct mg_sm *sm);

	/* Fetch what the manifest describes from `peer` or anyone who has it, check it and make it
	 * durable beside the present state, which stays: answer mg_group_pulled.  The manifest is
	 * valid until then. */
	void (*pull)(struct mg_sm *sm, uint64_t peer, const struct mg_manifest *manifest);

	/* Replace the state by what was pulled: answer mg_group_adopted.  Asked again after a crash
	 * when durable_index lies below the manifest's. */
	void (*adopt)(struct mg_sm *sm, const struct mg_manifest *manifest);
};

/* An implementation has this as its first member. */
struct mg_sm {
	const struct mg_sm_ops *ops;
};

#endif
