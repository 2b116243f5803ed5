/*
 * hub_lease.c - who gets a copy of which shard.
 *
 * Rule: a copy is taken back only when no query that is open can have been given it.  A query's
 * number is drawn before it looks who holds what, so every query that may use the copy has a number
 * up to the one that was drawn last when the copy stopped being HELD.
 *
 * Each worker has an equal share of the shards, those that fewest others hold, as far as its cache
 * has room.  What a small cache cannot hold another worker may take beyond its share; what nobody
 * has, the server reads itself.  A small cache keeps what it is asked for most: a copy that others
 * are asked for instead makes room for a shard that nobody has, one at a time.
 *
 * owner: the hub's lock.
 */
#include "exec/hub_int.h"

#include "base/log.h"
#include "os/clock.h"

enum {
	ASKED_HALF_TICKS = 60, /* what was asked for a minute ago counts half */
	ASKED_MORE_MIN = 16,   /* a copy costs a transfer: so many questions more are worth one */
};

static bool has_copy(const struct mg_worker *worker, uint32_t shard)
{
	return worker->holding[shard] == MG_LEASED || worker->holding[shard] == MG_HELD;
}

static bool is_alive(const struct mg_worker *worker)
{
	return worker->greeted && !worker->lost && !worker->draining;
}

static size_t count_copies(const struct mg_worker *worker)
{
	size_t count = 0;
	for (uint32_t i = 1; i <= worker->hub->shard_count; i++) {
		count += has_copy(worker, i);
	}
	return count;
}

/* Bytes that lie in its cache for us, or are on their way. */
static uint64_t bytes_leased(const struct mg_worker *worker)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i <= worker->hub->shard_count; i++) {
		bool counts = has_copy(worker, i) || worker->holding[i] == MG_RELEASING;
		bytes += counts ? worker->hub->shards[i].bytes : 0;
	}
	return bytes;
}

/* May it be leased this shard, as far as room goes? */
static bool has_room(const struct mg_worker *worker, uint32_t shard)
{
	return worker->holding[shard] == MG_NOT_LEASED &&
	       (!worker->cache_bytes ||
	        bytes_leased(worker) + worker->hub->shards[shard].bytes <= worker->cache_bytes);
}

static size_t count_holders(const struct mg_hub *hub, uint32_t shard)
{
	size_t count = 0;
	for (size_t i = 0; i < hub->worker_count; i++) {
		count += hub->workers[i]->greeted && !hub->workers[i]->lost &&
		         has_copy(hub->workers[i], shard);
	}
	return count;
}

static size_t share_of_each(const struct mg_hub *hub)
{
	size_t alive = 0;
	for (size_t i = 0; i < hub->worker_count; i++) {
		alive += is_alive(hub->workers[i]);
	}
	return alive ? (hub->shard_count + alive - 1) / alive : hub->shard_count;
}

/* Nobody has it, and nobody but this worker could take it as part of its share. */
static bool is_left_over(const struct mg_hub *hub, const struct mg_worker *worker, uint32_t shard,
                         size_t share)
{
	for (size_t i = 0; i < hub->worker_count; i++) {
		const struct mg_worker *other = hub->workers[i];
		if (is_alive(other) &&
		    (has_copy(other, shard) ||
		     (other != worker && count_copies(other) < share && has_room(other, shard)))) {
			return false;
		}
	}
	return true;
}

/* The shard that it should hold next, or 0. */
static uint32_t choose(const struct mg_hub *hub, const struct mg_worker *worker, size_t share)
{
	bool within_share = count_copies(worker) < share;
	uint32_t best = 0;
	size_t best_holders = SIZE_MAX;
	for (uint32_t i = 1; i <= hub->shard_count; i++) {
		if (!has_room(worker, i) || (!within_share && !is_left_over(hub, worker, i, share))) {
			continue;
		}
		size_t holders = count_holders(hub, i);
		if (holders < best_holders ||
		    (holders == best_holders && hub->asked[i] > hub->asked[best])) {
			best = i;
			best_holders = holders;
		}
	}
	return best;
}

/* With the file that is offered, if it is: a worker that has a copy of its own may go on with that.
 */
static void add_lease(struct mg_worker *worker, struct mg_sb *json, uint32_t id)
{
	struct mg_hub *hub = worker->hub;
	const struct mg_shard *shard = &hub->shards[id];
	struct mg_hub_held *held = &worker->held[id];
	worker->holding[id] = MG_LEASED;
	held->claims = false;
	mg_sb_addf(json, "%s{\"id\":%u,\"bytes\":%llu",
	           json->len ? "," : "{\"type\":\"lease\",\"shards\":[", id,
	           (unsigned long long)shard->bytes);
	if (held->renews) {
		mg_sb_add(json, ",\"renew\":true");
	}
	if (mg_hub__is_fit(hub, id)) {
		struct mg_offer *offer = &hub->offers[id];
		held->wants = held->renews = false;
		held->leased = offer->index;
		held->leased_term = offer->term;
		mg_copy_text(held->sha256, sizeof held->sha256, shard->sha256);
		offer->used_ms = mg_clock_ms();
		mg_sb_addf(json, ",\"index\":%llu,\"term\":%llu,\"sha256\":\"%s\",\"chunk\":%u",
		           (unsigned long long)offer->index, (unsigned long long)offer->term,
		           shard->sha256, MG_HUB_CHUNK);
	}
	mg_sb_add_char(json, '}');
}

static void send_leases(struct mg_worker *worker, struct mg_sb *json)
{
	if (json->len) {
		mg_sb_add(json, "]}");
		mg_channel_send(worker->channel, mg_sb_text(json));
	}
	mg_sb_fini(json);
}

void mg_hub__lease(struct mg_hub *hub, struct mg_worker *worker)
{
	if (!is_alive(worker)) {
		return;
	}
	struct mg_sb json = { 0 };
	size_t share = share_of_each(hub);
	if (worker->holding[0] == MG_NOT_LEASED) {
		add_lease(worker, &json, 0); /* without it nothing can be read: it declines by itself */
	}
	for (uint32_t shard; (shard = choose(hub, worker, share)) != 0;) {
		add_lease(worker, &json, shard);
	}
	send_leases(worker, &json);
}

void mg_hub__lease_again(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard)
{
	struct mg_sb json = { 0 };
	if (is_alive(worker) && worker->holding[shard] == MG_LEASED && worker->held[shard].wants &&
	    mg_hub__is_fit(hub, shard)) {
		add_lease(worker, &json, shard);
		send_leases(worker, &json);
	}
}

void mg_hub__lease_all(struct mg_hub *hub)
{
	for (size_t i = 0; i < hub->worker_count; i++) {
		mg_hub__lease(hub, hub->workers[i]);
	}
}

void mg_hub__decline(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard)
{
	worker->holding[shard] = MG_DECLINED;
	/* What it has is what it can hold. */
	uint64_t bytes = bytes_leased(worker);
	if (!worker->cache_bytes || bytes < worker->cache_bytes) {
		worker->cache_bytes = bytes ? bytes : 1;
	}
	mg_hub__lease_all(hub);
}

/* ---- exchange ---- */

static bool is_in_use(const struct mg_hub *hub, uint64_t up_to)
{
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number <= up_to) {
			return true;
		}
	}
	return false;
}

/* Take back what no query can be using any more; then there is room for what is wanted. */
static void finish_release(struct mg_hub *hub, struct mg_worker *worker)
{
	struct mg_sb json = { 0 };
	if (is_in_use(hub, worker->release_after)) {
		return;
	}
	for (uint32_t i = 1; i <= hub->shard_count; i++) {
		if (worker->holding[i] == MG_RELEASING) {
			worker->holding[i] = MG_NOT_LEASED;
			mg_hub__forget_sent(worker, i);
			mg_channel_sendf(worker->channel, "{\"type\":\"release\",\"shard\":%u}", i);
			mg_log(MG_LOG_INFO, "shard.exchange", "worker=%s released=%u leased=%u", worker->id, i,
			       worker->wanted);
		}
	}
	if (worker->holding[worker->wanted] == MG_NOT_LEASED) {
		add_lease(worker, &json, worker->wanted);
		send_leases(worker, &json);
	}
	worker->wanted = 0;
}

/* Nobody has it, or is about to get it. */
static bool is_unheld(const struct mg_hub *hub, uint32_t shard)
{
	for (size_t i = 0; i < hub->worker_count; i++) {
		if (is_alive(hub->workers[i]) && hub->workers[i]->wanted == shard) {
			return false;
		}
	}
	return count_holders(hub, shard) == 0;
}

/* Begin to give up the copy that is asked for least, when a shard that nobody has would be asked
 * for much more. */
static void begin_release(struct mg_hub *hub, struct mg_worker *worker)
{
	uint32_t wanted = 0, victim = 0;
	for (uint32_t i = 1; i <= hub->shard_count; i++) {
		if (worker->holding[i] == MG_HELD &&
		    (!victim || worker->asked[i] < worker->asked[victim])) {
			victim = i;
		} else if (worker->holding[i] == MG_NOT_LEASED && hub->asked[i] > hub->asked[wanted] &&
		           is_unheld(hub, i)) {
			wanted = i;
		}
	}
	if (!wanted || !victim || hub->asked[wanted] < 2 * worker->asked[victim] + ASKED_MORE_MIN ||
	    bytes_leased(worker) - hub->shards[victim].bytes + hub->shards[wanted].bytes >
	        worker->cache_bytes) {
		return;
	}
	worker->holding[victim] = MG_RELEASING;
	worker->release_after = hub->next_query;
	worker->wanted = wanted;
}

static void forget_half(struct mg_hub *hub)
{
	for (uint32_t shard = 1; shard <= hub->shard_count; shard++) {
		hub->asked[shard] /= 2;
		for (size_t i = 0; i < hub->worker_count; i++) {
			hub->workers[i]->asked[shard] /= 2;
		}
	}
}

void mg_hub__exchange(struct mg_hub *hub)
{
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (is_alive(worker) && worker->cache_bytes) {
			if (!worker->wanted) {
				begin_release(hub, worker);
			}
			if (worker->wanted) {
				finish_release(hub, worker);
			}
		}
	}
	if (++hub->ticks % ASKED_HALF_TICKS == 0) {
		forget_half(hub);
	}
}
