/*
 * seen.c - what a session has seen at this node, and what it has seen at others (codec/seen.h).
 *
 * Asked when a reader has its snapshot and before it answers.  What a lane makes visible it says
 * before it does: so whatever was read of a shard is in what is noted of it, and little else, for
 * nobody should wait for what he has not seen.  Where one shard shows a transaction that another
 * one does not show yet, all that this one has accepted is noted: who reads one shard has waited
 * until that holds it (cuts.h).
 *
 * Thread: any.
 */
#include "replica/replica_int.h"

#include "base/assert.h"
#include "codec/seen.h"
#include "os/clock.h"
#include "os/wait.h"

#include <inttypes.h>

enum { LOOK_MS = 50 };

void mg_replica_note_seen(struct mg_replica *replica, struct mg_seen *seen)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);

	mg_seen_version(seen, mg_seen_cluster(data->cluster_id), data->version);
	mg_catalog_give(replica->options.catalog, data);
	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		struct mg_shard_sm *sm = replica->shards[i];
		bool behind = mg_cuts_is_behind(replica->cuts, i); /* first: what comes is shown by then */

		mg_seen_index(seen, i, behind ? mg_shard_sm_accepted(sm) : mg_shard_sm_showing(sm));
	}
	pthread_mutex_lock(&replica->lock);
	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		uint32_t group = mg_replica__group(i);

		mg_seen_index(seen, i, replica->acked[group]);
		mg_seen_index(seen, i, replica->applied[group]);
	}
	pthread_mutex_unlock(&replica->lock);
}

bool mg_replica_has_seen(struct mg_replica *replica, const struct mg_seen *seen)
{
	bool has = true;

	pthread_mutex_lock(&replica->lock);
	for (uint32_t i = 0; has && i < seen->count && i <= replica->options.shard_count; i++) {
		has = replica->applied[mg_replica__group(i)] >= seen->indexes[i];
	}
	pthread_mutex_unlock(&replica->lock);
	return has;
}

static uint64_t version_here(struct mg_replica *replica)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	uint64_t version = data->version;

	mg_catalog_give(replica->options.catalog, data);
	return version;
}

static int await_version(struct mg_replica *replica, uint64_t version,
                         const struct mg_patience *patience, struct mg_error *err)
{
	uint64_t now = mg_clock_ms(), until = now + patience->ms;
	bool stopping = false, ended = false;

	while (version_here(replica) < version && now < until && !stopping &&
	       !ended) {
		pthread_mutex_lock(&replica->lock);
		stopping = replica->stopping;
		(void)mg_cond_wait_until(&replica->changed, &replica->lock,
		                         now + LOOK_MS < until ? now + LOOK_MS : until);
		pthread_mutex_unlock(&replica->lock);
		now = mg_clock_ms();
		ended = patience->stopped && patience->stopped(patience->arg);
	}
	if (version_here(replica) >= version) {
		return 0;
	}
	return stopping ? mg_error_set(err, MG_E_SHUTDOWN, "the server is stopping")
	       : ended  ? mg_error_set(err, MG_E_CANCELLED, "cancelled while this node catches up")
	                : mg_error_set(err, MG_E_TIMEOUT,
	                               "this node has not in %u ms the version %" PRIu64
	                               " of the catalog, which the session has seen",
	                               patience->ms, version);
}

int mg_replica_await_seen(struct mg_replica *replica, const struct mg_seen *seen,
                          const uint32_t *shards, size_t count,
                          const struct mg_patience *patience, struct mg_error *err)
{
	struct mg_wait_for wait;

	if (!seen->any) {
		return 0;
	}
	if (seen->all) {
		return mg_replica_try_barrier(replica, shards, count, patience, err);
	}
	mg_wait_init(&wait);
	for (size_t i = 0; i < count; i++) {
		uint32_t group = mg_replica__group(shards[i]);
		uint64_t index = shards[i] < seen->count ? seen->indexes[shards[i]] : 0;

		mg_assert(shards[i] <= replica->options.shard_count);
		mg_grow(wait.reached, wait.reached_count, wait.reached_cap);
		wait.reached[wait.reached_count++] = (struct mg_reach){ group, index };
	}
	int code = await_version(replica, seen->version, patience, err);

	code = code ? code : mg_replica__reach_with(replica, &wait, patience, err);
	mg_wait_fini(&wait);
	return code;
}
