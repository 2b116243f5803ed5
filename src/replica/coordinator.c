/*
 * coordinator.c - which node coordinates writes: the leader of group 0, once it has fenced all
 * shards and has resolved what was in doubt.
 *
 *     leads group 0 -> FENCE in every shard -> all of it applied here -> resolve -> serves
 *     leads it no more: serves no more
 *
 * Rule: what a coordinator of a lower epoch has proposed lies before the fence, where the new one
 * has seen it, or is refused.
 *
 * An epoch is the term of group 0 and a number: a coordinator that has lost sight of how a
 * transaction ended fences its own once more, and resolves it with all others.
 */
#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "replica/replica_int.h"

#include <inttypes.h>

#define TIMES_BITS 20

enum { AGAIN_MS = 50 };

static uint64_t epoch_of(uint64_t term, uint64_t times)
{
	return term << TIMES_BITS | (times & ((1u << TIMES_BITS) - 1));
}

/* The wait holds where the fences are. */
static int fence(struct mg_replica *replica, uint64_t epoch, struct mg_wait_for *wait,
                 struct mg_error *err)
{
	const struct mg_command head = { .kind = MG_COMMAND_FENCE, .epoch = epoch };
	struct mg_error waited = { 0 };
	int code = 0;

	for (uint32_t i = 0; !code && i <= replica->options.shard_count; i++) {
		code = mg_replica__propose(replica, mg_replica__group(i), MG_TRY_MORE, &head, NULL, 0, wait,
		                           err);
	}
	int end = mg_wait_all(wait, &waited);

	if (!code && end) {
		*err = waited;
		code = end;
	}
	return code;
}

static int take_over(struct mg_replica *replica, uint64_t epoch, bool *fenced, struct mg_error *err)
{
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	int code = fence(replica, epoch, &wait, err);

	code = code ? code : mg_replica__reach(replica, &wait, MG_REPLICA_PATIENCE_MS, err);
	*fenced = wait.fenced;
	mg_wait_fini(&wait);
	code = code ? code : mg_replica__barrier(replica, NULL, 0, err); /* the catalog */
	return code ? code : mg_replica__resolve(replica, epoch, err);
}

/* Under the lock, which it gives up meanwhile.  0: the end. */
static uint64_t next_term(struct mg_replica *replica)
{
	while (!replica->stopping &&
	       (replica->lead_term == 0 ||
	        (replica->lead_term == replica->taken_term && !replica->take_again))) {
		pthread_cond_wait(&replica->leading, &replica->lock);
	}
	return replica->stopping ? 0 : replica->lead_term;
}

static void *coordinate(void *arg)
{
	struct mg_replica *replica = arg;
	uint64_t times = 0, term;

	pthread_mutex_lock(&replica->lock);
	while ((term = next_term(replica)) != 0) {
		uint64_t epoch = epoch_of(term, ++times), start = mg_clock_ms();
		struct mg_error err = { 0 };
		bool fenced = false;

		replica->take_again = false;
		pthread_mutex_unlock(&replica->lock);
		int code = take_over(replica, epoch, &fenced, &err);

		if (code) {
			mg_log(MG_LOG_WARN, "replica.takeover", "epoch=%" PRIu64 " error=\"%s\"", epoch,
			       err.message);
			mg_sleep_ms(AGAIN_MS);
		} else {
			mg_log(MG_LOG_INFO, "replica.coordinator",
			       "server=%" PRIu64 " epoch=%" PRIu64 " took_ms=%" PRIu64, replica->options.self,
			       epoch, mg_clock_ms() - start);
		}
		pthread_mutex_lock(&replica->lock);
		/* When a later one has fenced us, group 0 has another leader, which we shall hear. */
		replica->taken_term = code && !fenced ? replica->taken_term : term;
		if (!code && replica->lead_term == term && !replica->stopping) {
			atomic_store(&replica->epoch, epoch);
		}
		replica->take_again = replica->take_again || (code && !fenced);
	}
	pthread_mutex_unlock(&replica->lock);
	return NULL;
}

int mg_replica__coordinate(struct mg_replica *replica, struct mg_error *err)
{
	int failed = pthread_create(&replica->coordinator, NULL, coordinate, replica);

	replica->coordinates = failed == 0;
	return failed ? mg_error_errno(err, failed, "cannot start a thread for a coordinator") : 0;
}

void mg_replica__on_role(void *arg, uint32_t group, enum mg_raft_role role, uint64_t term)
{
	struct mg_replica *replica = arg;

	mg_replica__kick_placer(replica);
	if (group != 0) {
		return;
	}
	pthread_mutex_lock(&replica->lock);
	replica->lead_term = role == MG_RAFT_LEADER ? term : 0;
	if (atomic_load(&replica->epoch) >> TIMES_BITS != replica->lead_term) {
		atomic_store(&replica->epoch, 0);
	}
	pthread_cond_signal(&replica->leading);
	pthread_mutex_unlock(&replica->lock);
}

void mg_replica_renew(struct mg_replica *replica, uint64_t epoch)
{
	pthread_mutex_lock(&replica->lock);
	if (atomic_load(&replica->epoch) == epoch) {
		atomic_store(&replica->epoch, 0);
		replica->take_again = true;
		pthread_cond_signal(&replica->leading);
	}
	pthread_mutex_unlock(&replica->lock);
}

/* ---- questions ---- */

uint64_t mg_replica_epoch(struct mg_replica *replica)
{
	return atomic_load(&replica->epoch);
}

int mg_replica_begin(struct mg_replica *replica, uint64_t *epoch, struct mg_error *err)
{
	*epoch = mg_replica_epoch(replica);
	return *epoch ? 0 : mg_replica__not_coordinator(replica, err);
}

bool mg_replica_is_coordinator(struct mg_replica *replica)
{
	return atomic_load(&replica->epoch) != 0;
}

uint64_t mg_replica_self(const struct mg_replica *replica)
{
	return replica->options.self;
}

uint32_t mg_replica_shards(const struct mg_replica *replica)
{
	return replica->options.shard_count;
}

struct leader {
	struct mg_replica *replica;
	uint64_t node;
};

static void look_for_leader(void *arg)
{
	struct leader *leader = arg;
	struct mg_group *group = mg_raft_host_group(leader->replica->host, 0);
	struct mg_group_info info = { 0 };

	if (group) {
		mg_group_info(group, &info);
	}
	leader->node = info.core.leader;
}

uint64_t mg_replica_coordinator(struct mg_replica *replica)
{
	struct leader leader = { .replica = replica };

	mg_raft_host_call(replica->host, look_for_leader, &leader);
	return leader.node;
}

int mg_replica__not_coordinator(struct mg_replica *replica, struct mg_error *err)
{
	uint64_t node = mg_replica_coordinator(replica);

	mg_error_set(err, MG_E_UNAVAILABLE, "this node does not coordinate writes");
	if (node == replica->options.self) {
		mg_error_detail(err, "It is about to: it ends what others have left in doubt.");
	} else if (node != 0) {
		mg_error_detail(err, "Node %" PRIu64 " does.", node);
	} else {
		mg_error_detail(err, "An election is under way.");
	}
	mg_error_hint(err, "Nothing was written: try again.");
	return MG_E_UNAVAILABLE;
}
