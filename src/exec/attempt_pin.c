/*
 * attempt_pin.c - workers take their snapshots, see attempt_int.h.
 *
 * Rule: a part is a worker's only when it has said that it reads its shards exactly at the indexes
 * that our own snapshot has; and all of them together are waited for once, MG_ATTEMPT_PIN_MS at
 * most.  One that lets us wait is asked by nobody until it has said something.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "exec/attempt_int.h"
#include "os/clock.h"
#include "os/wait.h"

#include <string.h>

static bool is_given(const struct part *part, uint32_t shard)
{
	bool given = shard == 0; /* the reference group is everybody's */

	for (size_t i = 0; i < part->info.shard_count && !given; i++) {
		given = part->info.shards[i] == shard;
	}
	return given;
}

static void ask(struct mg_attempt *attempt, struct part *part, const uint32_t *shards,
                const uint64_t *at, size_t count)
{
	struct mg_sb json = { 0 };
	bool first = true;

	mg_sb_addf(&json, "{\"type\":\"pin\",\"query\":%llu,\"at\":[",
	           (unsigned long long)attempt->number);
	for (size_t i = 0; i < count; i++) {
		if (is_given(part, shards[i])) {
			mg_sb_addf(&json, "%s[%u,%llu]", first ? "" : ",", shards[i],
			           (unsigned long long)at[i]);
			first = false;
		}
	}
	mg_sb_add(&json, "]}");
	mg_channel_send(mg_worker_channel(part->worker), mg_sb_text(&json));
	mg_sb_fini(&json);
}

/* Under the lock. */
static void await(struct mg_attempt *attempt)
{
	uint64_t until = mg_clock_ms() + MG_ATTEMPT_PIN_MS;
	size_t waiting = 1;

	while (waiting && !attempt->cancelled) {
		waiting = 0;
		for (size_t i = 1; i < attempt->part_count; i++) {
			waiting += attempt->parts[i].asked && !attempt->parts[i].lost;
		}
		if (waiting && !mg_cond_wait_until(&attempt->changed, &attempt->lock, until)) {
			break;
		}
	}
}

static void count(const char *labels)
{
	mg_metric_add(mg_metric_counter("merganser_worker_parts_total", labels,
	                                "Parts of statements that a worker was to do: it has what is "
	                                "read, it did not say so in time, it has something else."),
	              1);
}

/* Under the lock: what it was given is ours.  It is to be closed and let go of. */
static void take_over(struct mg_attempt *attempt, size_t index)
{
	struct mg_attempt_part *own = &attempt->parts[0].info;
	const struct mg_attempt_part *info = &attempt->parts[index].info;

	memcpy(own->shards + own->shard_count, info->shards, info->shard_count * sizeof *own->shards);
	own->shard_count += info->shard_count;
	for (size_t slot = 0; slot < MG_SLOT_COUNT; slot++) {
		uint16_t owner = attempt->owner[slot];

		attempt->owner[slot] = owner == index ? 0 : owner > index ? (uint16_t)(owner - 1) : owner;
	}
	memmove(&attempt->parts[index], &attempt->parts[index + 1],
	        (attempt->part_count - index - 1) * sizeof *attempt->parts);
	attempt->part_count--;
	attempt->missed++;
}

void mg_attempt__pin(struct mg_attempt *attempt, const uint32_t *shards, const uint64_t *at,
                     size_t count_of_shards)
{
	struct mg_hub *hub = mg_engine_hub(attempt->options.engine);

	pthread_mutex_lock(&attempt->lock);
	for (size_t i = 1; i < attempt->part_count; i++) {
		attempt->parts[i].asked = true;
	}
	for (size_t i = 1; i < attempt->part_count; i++) {
		ask(attempt, &attempt->parts[i], shards, at, count_of_shards);
	}
	await(attempt);
	for (size_t i = 1; i < attempt->part_count;) {
		struct part *part = &attempt->parts[i];
		struct mg_worker *worker = part->worker;
		bool late = part->asked && !part->lost;

		if (part->pinned && !part->lost) {
			count("outcome=\"pinned\"");
			i++;
			continue;
		}
		count(late ? "outcome=\"late\"" : part->lost ? "outcome=\"lost\"" : "outcome=\"missed\"");
		/* Without letting go of the lock: who is lost meanwhile is either seen here or told when
		 * nobody is pinning any more; and an answer that comes now is heard after "late". */
		take_over(attempt, i);
		mg_channel_sendf(mg_worker_channel(worker), "{\"type\":\"close\",\"query\":%llu}",
		                 (unsigned long long)attempt->number);
		if (late) {
			mg_hub_is_late(hub, worker);
			mg_log(MG_LOG_INFO, "worker.late", "worker=%s query=%s", mg_worker_id(worker),
			       attempt->options.name);
		}
		mg_worker_unref(worker);
	}
	attempt->pinning = false;
	pthread_mutex_unlock(&attempt->lock);
}
