/*
 * kv_resolve.c - a part of a transaction (kv_atomic.h) whose coordinator has not settled it: who
 * leads its group asks the one that decides, and settles it as that says.  Asking is a decision,
 * too: what was not decided by then never will be.
 *
 * owner: the raft thread
 */
#include "base/log.h"
#include "os/clock.h"
#include "replica/kv_groups.h"
#include "replica/replica_int.h"

#include <inttypes.h>
#include <string.h>

enum { PATIENCE_MS = 5000 };

struct resolving {
	struct mg_kv_call call; /* first */
	struct mg_kv_op op;
	char id[MG_KV_TX_ID];
	struct mg_replica *replica;
	uint32_t shard, decides;
	struct mg_kv_resolver *resolver;
};

/* Then the next one: at once, or, when it went wrong, with the next tick and one that another
 * shard decides. */
static void finish(struct resolving *resolving, bool avoid)
{
	struct mg_kv_resolver *resolver = resolving->resolver;
	struct mg_replica *replica = resolving->replica;
	uint32_t shard = resolving->shard;

	resolver->busy = false;
	resolver->avoid = avoid ? resolving->decides + 1 : 0;
	mg_free(resolving);
	if (!avoid && mg_replica__kv_leads(replica, shard)) {
		mg_replica__kv_resolve(replica, shard, resolver);
	}
}

static void on_settled(struct mg_kv_call *call, const struct mg_error *err,
                       const struct mg_kv_result *results)
{
	struct resolving *resolving = (struct resolving *)call;

	(void)results;
	if (err) {
		finish(resolving, true);
		return;
	}
	mg_log(MG_LOG_INFO, "kv.resolved", "shard=%" PRIu32 " happened=%d", resolving->shard,
	       resolving->op.number == 1);
	finish(resolving, false);
}

static void on_decision(struct mg_kv_call *call, const struct mg_error *err,
                        const struct mg_kv_result *results)
{
	struct resolving *resolving = (struct resolving *)call;

	if (err) {
		finish(resolving, true);
		return;
	}
	resolving->op.kind = MG_KV_SETTLE;
	resolving->op.number = results[0].number == 1;
	resolving->call.shard = resolving->shard;
	resolving->call.done = on_settled;
	mg_replica_kv_call(resolving->replica, &resolving->call);
}

void mg_replica__kv_resolve(struct mg_replica *replica, uint32_t shard,
                            struct mg_kv_resolver *resolver)
{
	struct mg_kv_state *state = mg_replica_kv_state(replica, shard);
	uint64_t now_ms = mg_clock_ms();
	uint32_t decides = 0, avoid = resolver->avoid ? resolver->avoid - 1 : UINT32_MAX;
	char id[MG_KV_TX_ID];

	resolver->avoid = 0;
	if (resolver->busy || now_ms < PATIENCE_MS ||
	    !mg_kv_state_waits(state, now_ms - PATIENCE_MS, avoid, id, &decides) ||
	    decides >= mg_replica_kv_shards(replica)) {
		return;
	}
	struct resolving *resolving = mg_alloc0(sizeof *resolving);

	memcpy(resolving->id, id, sizeof id);
	resolving->op = (struct mg_kv_op){ .kind = MG_KV_INQUIRE,
		                               .key = { resolving->id, sizeof resolving->id } };
	resolving->replica = replica;
	resolving->shard = shard;
	resolving->decides = decides;
	resolving->resolver = resolver;
	resolving->call = (struct mg_kv_call){
		.shard = decides, .is_settling = true, .ops = &resolving->op, .count = 1,
		.done = on_decision,
	};
	resolver->busy = true;
	mg_replica_kv_call(replica, &resolving->call);
}
