/*
 * hub_follow.c - workers' copies follow the shards.
 *
 *     lane: a batch is committed --tell--> feeder of each worker --batch--> the worker applies it
 *                                                      <--applied, index--
 *
 * Rule: what a copy is sent are the shard's batches, one after the other from the index that it
 * holds; a copy whose next batch is gone, because it is too slow or was away for too long, is made
 * anew.  So a copy is at an index of the log, always, and an index says exactly what it holds.
 *
 * Each worker has a feeder, a thread of its own, because sending waits for a slow one.  Bounds: a
 * worker has UNDER_WAY_MAX bytes, or one batch, and MG_HUB_SENT_MAX batches of a shard that it has
 * not told to have applied; what it has not been sent stays in the shard's follow log, which has a
 * bound of its own.
 */
#include "exec/hub_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/engine.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/follow_log.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <string.h>

enum { CLAIM_MS = 2000, LOOK_MS = 1000, BEHIND_MS = 200 };
#define UNDER_WAY_MAX (16u << 20)

struct mg_hub_feeder {
	struct mg_hub *hub;
	struct mg_worker *worker; /* with a reference */
	pthread_t thread;
	atomic_bool ending;
	uint32_t next; /* shard to begin with, so that each has its turn */
};

static struct mg_follow_log *log_of(const struct mg_hub *hub, uint32_t shard)
{
	return mg_replica_follow(mg_engine_replica(hub->engine), shard);
}

void mg_hub__kick_feeders(struct mg_hub *hub)
{
	pthread_mutex_lock(&hub->feed_lock);
	hub->feed_count++;
	pthread_cond_broadcast(&hub->feed_more);
	pthread_mutex_unlock(&hub->feed_lock);
}

static void on_more(void *arg)
{
	mg_hub__kick_feeders(arg);
}

void mg_hub__watch_logs(struct mg_hub *hub, bool watch)
{
	for (uint32_t i = 0; i <= hub->shard_count; i++) {
		mg_follow_log_watch(log_of(hub, i), watch ? on_more : NULL, hub);
	}
}

/* ---- what a copy is worth; under the hub's lock ---- */

void mg_hub__forget_sent(struct mg_worker *worker, uint32_t shard)
{
	struct mg_hub_held *held = &worker->held[shard];

	for (size_t i = 0; i < held->sent_count; i++) {
		worker->bytes_under_way -= held->under_way[i].bytes;
	}
	held->sent_count = 0;
}

static void renew(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard)
{
	struct mg_hub_held *held = &worker->held[shard];

	mg_log(MG_LOG_INFO, "copy.renew", "worker=%s shard=%" PRIu32 " index=%" PRIu64, worker->id,
	       shard, held->claims ? held->claimed : held->sent);
	worker->holding[shard] = MG_LEASED;
	held->claims = false;
	held->wants = held->renews = true;
	mg_hub__lease_again(hub, worker, shard);
}

/* A copy that is ahead, of a server that was quicker than this one, waits for it a little. */
static void judge(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard)
{
	struct mg_hub_held *held = &worker->held[shard];

	if (worker->holding[shard] != MG_LEASED || !held->claims) {
		return;
	}
	switch (mg_follow_log_covers(log_of(hub, shard), held->claimed, held->claimed_term)) {
	case MG_FOLLOW_HERE:
		held->claims = held->wants = held->renews = false;
		held->index = held->sent = held->claimed;
		mg_hub__forget_sent(worker, shard);
		worker->holding[shard] = MG_HELD;
		mg_hub__tell_ready(hub, worker);
		break;
	case MG_FOLLOW_AHEAD:
		mg_replica_want(mg_engine_replica(hub->engine), shard, held->claimed);
		if (mg_clock_ms() < held->claimed_ms + CLAIM_MS) {
			break;
		}
		renew(hub, worker, shard);
		break;
	case MG_FOLLOW_GONE:
		renew(hub, worker, shard);
		break;
	}
}

void mg_hub__claim(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard, uint64_t index,
                   uint64_t term)
{
	struct mg_hub_held *held = &worker->held[shard];

	if (worker->holding[shard] == MG_LEASED) {
		held->claims = true;
		held->claimed = index;
		held->claimed_term = term;
		held->claimed_ms = mg_clock_ms();
		judge(hub, worker, shard);
	}
}

int mg_hub__on_applied(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard, uint64_t index,
                       struct mg_error *err)
{
	struct mg_hub_held *held = &worker->held[shard];
	size_t done = 0;
	int code = 0;

	pthread_mutex_lock(&hub->lock);
	bool held_now = worker->holding[shard] == MG_HELD || worker->holding[shard] == MG_RELEASING;

	while (held_now && done < held->sent_count && held->under_way[done].index <= index) {
		worker->bytes_under_way -= held->under_way[done++].bytes;
	}
	if (held_now && (done == 0 || held->under_way[done - 1].index != index)) {
		code = mg_error_set(err, MG_E_PROTOCOL,
		                    "worker \"%s\" has applied what it was not sent of shard %" PRIu32,
		                    worker->id, shard);
	} else if (held_now) {
		held->index = index;
		held->sent_count -= done;
		memmove(held->under_way, held->under_way + done,
		        held->sent_count * sizeof *held->under_way);
	}
	worker->late = false;
	pthread_mutex_unlock(&hub->lock);
	mg_hub__kick_feeders(hub);
	return code;
}

/* ---- the feeder ---- */

/* Under the lock: the next batch of this shard, when it may be sent now. */
static struct mg_follow_batch *next_batch(struct mg_hub *hub, struct mg_worker *worker,
                                          uint32_t shard)
{
	struct mg_hub_held *held = &worker->held[shard];
	struct mg_follow_batch *batch = NULL;
	bool follows = worker->holding[shard] == MG_HELD || worker->holding[shard] == MG_RELEASING;

	if (!follows || held->sent_count == MG_HUB_SENT_MAX) {
		return NULL;
	}
	if (mg_follow_log_next(log_of(hub, shard), held->sent, &batch) == MG_FOLLOW_GONE) {
		if (worker->holding[shard] == MG_HELD) { /* else it goes anyway */
			mg_hub__forget_sent(worker, shard);
			renew(hub, worker, shard);
		}
		return NULL;
	}
	if (batch && worker->bytes_under_way &&
	    worker->bytes_under_way + batch->bytes > UNDER_WAY_MAX) {
		mg_follow_batch_unref(batch);
		return NULL;
	}
	if (batch) {
		held->sent = batch->index;
		held->under_way[held->sent_count++] = (struct mg_sent){ batch->index, batch->bytes };
		worker->bytes_under_way += batch->bytes;
	}
	return batch;
}

static void send_batch(struct mg_worker *worker, uint32_t shard,
                       const struct mg_follow_batch *batch)
{
	const struct mg_frame frame = { .kind = MG_FRAME_ENTRIES, .id = shard };
	struct mg_error err = { 0 };
	int code = 0;

	for (size_t i = 0; !code && i < batch->count; i++) {
		code = mg_channel_send_data(worker->channel, &frame, batch->pieces[i], &err);
	}
}

/* One batch of some shard; false: there is none. */
static bool feed(struct mg_hub_feeder *feeder)
{
	struct mg_hub *hub = feeder->hub;
	struct mg_follow_batch *batch = NULL;
	uint32_t shard = 0, count = hub->shard_count + 1;

	pthread_mutex_lock(&hub->lock);
	for (uint32_t i = 0; !batch && i < count && !feeder->worker->lost; i++) {
		shard = (feeder->next + i) % count;
		judge(hub, feeder->worker, shard);
		batch = next_batch(hub, feeder->worker, shard);
	}
	pthread_mutex_unlock(&hub->lock);
	feeder->next = shard + 1;
	if (batch) {
		send_batch(feeder->worker, shard, batch);
		mg_follow_batch_unref(batch);
	}
	return batch != NULL;
}

static void *work(void *arg)
{
	struct mg_hub_feeder *feeder = arg;
	struct mg_hub *hub = feeder->hub;

	while (!atomic_load(&feeder->ending)) {
		pthread_mutex_lock(&hub->feed_lock);
		uint64_t count = hub->feed_count;
		pthread_mutex_unlock(&hub->feed_lock);

		if (feed(feeder)) {
			continue;
		}
		pthread_mutex_lock(&hub->feed_lock);
		if (count == hub->feed_count && !atomic_load(&feeder->ending)) {
			(void)mg_cond_wait_until(&hub->feed_more, &hub->feed_lock, mg_clock_ms() + LOOK_MS);
		}
		pthread_mutex_unlock(&hub->feed_lock);
	}
	return NULL;
}

int mg_hub__start_feeder(struct mg_hub *hub, struct mg_worker *worker, struct mg_error *err)
{
	struct mg_hub_feeder *feeder = mg_alloc0(sizeof *feeder);

	feeder->hub = hub;
	feeder->worker = worker;
	if (pthread_create(&feeder->thread, NULL, work, feeder) != 0) {
		mg_free(feeder);
		return mg_error_set(err, MG_E_NOMEM, "no thread to keep a worker's copies current");
	}
	worker->feeder = feeder;
	return 0;
}

void mg_hub__end_feeder(struct mg_worker *worker)
{
	struct mg_hub_feeder *feeder = worker->feeder;

	if (feeder) {
		atomic_store(&feeder->ending, true);
		mg_hub__kick_feeders(feeder->hub);
		pthread_join(feeder->thread, NULL);
		worker->feeder = NULL;
		mg_free(feeder);
	}
}

void mg_hub_is_late(struct mg_hub *hub, struct mg_worker *worker)
{
	pthread_mutex_lock(&hub->lock);
	worker->late = true;
	pthread_mutex_unlock(&hub->lock);
}

/* A copy that nobody asks is some 50 ms behind, and catches up when it is asked. */
bool mg_hub__is_behind(const struct mg_worker *worker, uint32_t shard)
{
	uint64_t lag_ms;

	(void)mg_follow_log_last(log_of(worker->hub, shard), worker->held[shard].index, &lag_ms);
	return lag_ms > BEHIND_MS;
}

/* ---- what is to be seen of it ---- */

static struct mg_hub_copy copy_of(const struct mg_worker *worker, uint32_t shard)
{
	const struct mg_hub_held *held = &worker->held[shard];
	struct mg_hub_copy copy = { .worker = worker->id, .shard = shard, .state = "copying" };

	if (worker->holding[shard] != MG_LEASED) {
		uint64_t last = mg_follow_log_last(log_of(worker->hub, shard), held->index, &copy.lag_ms);

		copy.known = true;
		copy.index = held->index;
		copy.lag = last > held->index ? last - held->index : 0;
		copy.state = copy.lag ? "behind" : "ready";
	}
	return copy;
}

void mg_hub_copies(struct mg_hub *hub, void (*each)(void *arg, const struct mg_hub_copy *copy),
                   void *arg)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->worker_count; i++) {
		const struct mg_worker *worker = hub->workers[i];

		for (uint32_t shard = 0; worker->greeted && shard <= hub->shard_count; shard++) {
			enum mg_holding holding = worker->holding[shard];

			if (holding == MG_LEASED || holding == MG_HELD || holding == MG_RELEASING) {
				const struct mg_hub_copy copy = copy_of(worker, shard);

				each(arg, &copy);
			}
		}
	}
	pthread_mutex_unlock(&hub->lock);
}
