/*
 * await.c - what is acknowledged and not applied yet: who reads it here waits for its lanes.
 *
 * No other node is asked.  Thread: any.
 */
#include "replica/replica_int.h"

#include "base/assert.h"

/* accepted: what the log has given, too. */
static int await_own(struct mg_replica *replica, const uint32_t *shards, size_t count,
                     bool accepted, const struct mg_patience *patience, struct mg_error *err)
{
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	for (size_t i = 0; i < count; i++) {
		uint32_t group = mg_replica__group(shards[i]);

		mg_assert(shards[i] <= replica->options.shard_count);
		uint64_t index = accepted ? mg_shard_sm_accepted(replica->shards[shards[i]]) : 0;

		pthread_mutex_lock(&replica->lock);
		index = replica->acked[group] > index ? replica->acked[group] : index;
		if (replica->applied[group] < index) {
			mg_grow(wait.reached, wait.reached_count, wait.reached_cap);
			wait.reached[wait.reached_count++] = (struct mg_reach){ group, index };
		}
		pthread_mutex_unlock(&replica->lock);
	}
	int code = wait.reached_count ? mg_replica__reach_with(replica, &wait, patience, err) : 0;

	mg_wait_fini(&wait);
	return code;
}

int mg_replica_await_acked(struct mg_replica *replica, const uint32_t *shards, size_t count,
                           const struct mg_patience *patience, struct mg_error *err)
{
	/* Alone, it has acknowledged in an earlier life what the log gives it now. */
	return await_own(replica, shards, count, mg_replica_is_alone(replica), patience, err);
}

int mg_replica_await_accepted(struct mg_replica *replica, const struct mg_patience *patience,
                              struct mg_error *err)
{
	size_t count = (size_t)replica->options.shard_count + 1;
	uint32_t *shards = mg_alloc(count * sizeof *shards);

	for (uint32_t i = 0; i < count; i++) {
		shards[i] = i;
	}
	int code = await_own(replica, shards, count, true, patience, err);

	mg_free(shards);
	return code;
}

/* arg: the replica.  A reader of several shards waits until they meet. */
void mg_replica__hurry(void *arg)
{
	const struct mg_replica *replica = arg;

	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		mg_shard_sm_want(replica->shards[i], mg_shard_sm_accepted(replica->shards[i]));
	}
}

bool mg_replica__moves(void *arg, const uint32_t *shards, size_t count)
{
	const struct mg_replica *replica = arg;
	bool any = false;

	for (size_t i = 0; i < count && !any; i++) {
		any = mg_shard_sm_moves(replica->shards[shards[i]]);
	}
	return any;
}
