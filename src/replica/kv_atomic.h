/*
 * kv_atomic.h - operations on keys of several shards that happen together or not at all.
 *
 *     PREPARE   each shard but the last: would it happen?  Then its keys are held until
 *     DECIDE    the last one: its own operations, and that the transaction happens, in one entry
 *     SETTLE    the others: what waited happens; only now the answer
 *     FORGET    the last one again, when all have answered
 *
 * Two-phase commit after Gray, with the decision in a replicated log, so no death of a node leaves
 * it open: who leads a shard whose part waits for 5 s asks the shard that decides (kv_resolve.c),
 * and by asking makes sure that nothing is decided later.  Readers and writers of held keys wait;
 * so one who has seen the transaction at one shard sees it at all.
 *
 * What it adds to namespaces that have a quota is counted between PREPARE and DECIDE, here, for no
 * shard knows all of it; the last one looks at its own part, beside that.
 *
 * First all shards but the last are asked at once, and a held key sends everybody home; then one
 * after the other in the order of their numbers, waiting where keys are held: nobody can wait in a
 * circle.
 *
 * Thread: any; done: the raft thread.
 */
#ifndef MG_REPLICA_KV_ATOMIC_H
#define MG_REPLICA_KV_ATOMIC_H

#include "replica/kv_groups.h"

/* Owned by its caller, with all that it points to, until done. */
struct mg_kv_atomic {
	const struct mg_kv_op *ops;
	uint32_t count;
	/* The client's of the request: the same one again has the same answer; len 0: none.  One that
	 * was refused is tried anew when several shards have a part in it. */
	struct mg_str id;
	/* As of mg_kv_call; results in the order of ops. */
	void (*done)(struct mg_kv_atomic *atomic, const struct mg_error *err,
	             const struct mg_kv_result *results);
};

void mg_replica_kv_atomic(struct mg_replica *replica, struct mg_kv_atomic *atomic);

#endif
