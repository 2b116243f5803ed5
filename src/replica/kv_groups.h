/*
 * kv_groups.h - this node's key-value groups, and what is asked of them, here or at their leaders.
 *
 *     any thread --call--> inbox -> raft thread: all that has come is one entry for each group, or,
 *                          when it only reads, one read index
 *                          applied here, or readable here: done
 *
 * Every server has a replica of every group, so the answer of a request is found where it is
 * applied, at the node that has asked, whoever leads the group.
 *
 * Thread: call, state: any; done: the raft thread, which it must not hold up.
 *
 * Bound: MG_KV_CALLS_BYTES of operations under way, then MG_E_BUSY.
 */
#ifndef MG_REPLICA_KV_GROUPS_H
#define MG_REPLICA_KV_GROUPS_H

#include "replica/kv_state.h"

#define MG_KV_CALLS_BYTES (64u << 20)
#define MG_KV_HELD_MS 10000

struct mg_replica;

/* Owned by its caller, with all that it points to, until done. */
struct mg_kv_call {
	uint32_t shard; /* of those of keys, from 0 */
	/* Only READs, or nothing at all: done then says that this node may be read. */
	bool reads;
	bool any; /* of reads: as this node has it, asking nobody */
	bool takes_parts; /* of reads: a value may be in parts; else that is MG_KV_TOO_LARGE */
	/* Told of MG_KV_LOCKED at once.  Else it waits while a transaction holds its keys, and fails
	 * after MG_KV_HELD_MS: MG_E_BUSY. */
	bool never_waits;
	bool is_settling; /* it ends what was begun: MG_KV_CALLS_BYTES is not for it */
	const struct mg_kv_op *ops;
	uint32_t count;
	struct mg_str id;
	/* DECIDE: what the other parts add to namespaces that have a quota. */
	const struct mg_kv_growth *grown;
	uint32_t grown_count;
	/* Once, maybe before mg_replica_kv_call returns.  err NULL: results are of its operations,
	 * until done returns.  Else its code: nothing happened; MG_E_UNKNOWN_OUTCOME: nobody knows. */
	void (*done)(struct mg_kv_call *call, const struct mg_error *err,
	             const struct mg_kv_result *results);
	/* From here on ours. */
	struct mg_kv_call *next;
	uint64_t number;
	size_t bytes;
	uint64_t until_ms;
};

uint32_t mg_replica_kv_shards(const struct mg_replica *replica); /* 0: the cluster has none */
/* Fails, with the words in which every door says so: MG_E_UNSUPPORTED the cluster has none,
 * MG_E_UNAVAILABLE it gets them, and this node has not begun with its replicas. */
int mg_replica_kv_check(const struct mg_replica *replica, struct mg_error *err);
/* Which shard a key belongs to. */
uint32_t mg_replica_kv_shard(const struct mg_replica *replica, struct mg_str space,
                             struct mg_str key);
/* The node that leads a shard, as this one knows; 0: not known.  Any thread; never waits. */
uint64_t mg_replica_kv_leader(const struct mg_replica *replica, uint32_t shard);
/* The time by which keys go (kv_clock.h), in ms since 1970; 0: there are no shards of keys. */
uint64_t mg_replica_kv_now_ms(struct mg_replica *replica);
void mg_replica_kv_call(struct mg_replica *replica, struct mg_kv_call *call);
/* To be read as this node has it. */
struct mg_kv_state *mg_replica_kv_state(struct mg_replica *replica, uint32_t shard);

#endif
