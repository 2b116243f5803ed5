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
	uint32_t shard;
	bool *busy;
};

static void on_settled(struct mg_kv_call *call, const struct mg_error *err,
                       const struct mg_kv_result *results)
{
	struct resolving *resolving = (struct resolving *)call;

	(void)results;
	if (!err) {
		mg_log(MG_LOG_INFO, "kv.resolved", "shard=%" PRIu32 " happened=%d", resolving->shard,
		       resolving->op.number == 1);
	}
	*resolving->busy = false;
	mg_free(resolving);
}

static void on_decision(struct mg_kv_call *call, const struct mg_error *err,
                        const struct mg_kv_result *results)
{
	struct resolving *resolving = (struct resolving *)call;

	if (err) { /* the next tick asks again */
		*resolving->busy = false;
		mg_free(resolving);
		return;
	}
	resolving->op.kind = MG_KV_SETTLE;
	resolving->op.number = results[0].number == 1;
	resolving->call.shard = resolving->shard;
	resolving->call.done = on_settled;
	mg_replica_kv_call(resolving->replica, &resolving->call);
}

void mg_replica__kv_resolve(struct mg_replica *replica, uint32_t shard, bool *busy)
{
	struct mg_kv_state *state = mg_replica_kv_state(replica, shard);
	uint64_t now_ms = (uint64_t)mg_clock_wall_ms();
	uint32_t decides = 0;
	char id[MG_KV_TX_ID];

	if (*busy || now_ms < PATIENCE_MS ||
	    !mg_kv_state_waits(state, now_ms - PATIENCE_MS, id, &decides) ||
	    decides >= mg_replica_kv_shards(replica)) {
		return;
	}
	struct resolving *resolving = mg_alloc0(sizeof *resolving);

	memcpy(resolving->id, id, sizeof id);
	resolving->op = (struct mg_kv_op){ .kind = MG_KV_INQUIRE,
		                               .key = { resolving->id, sizeof resolving->id } };
	resolving->replica = replica;
	resolving->shard = shard;
	resolving->busy = busy;
	resolving->call = (struct mg_kv_call){
		.shard = decides, .is_settling = true, .ops = &resolving->op, .count = 1,
		.done = on_decision,
	};
	*busy = true;
	mg_replica_kv_call(replica, &resolving->call);
}
