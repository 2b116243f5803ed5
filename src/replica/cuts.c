/*
 * cuts.c - see cuts.h.
 *
 * One lock for the node, held for some comparisons of numbers; only the lanes' publishing and the
 * readers' touching last longer, and those are counted, not locked.
 */
#include "replica/cuts.h"

#include "base/assert.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/wait.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

enum { LOOK_MS = 50 }; /* whether a reader is wanted no more */

struct shard {
	uint64_t *seen;    /* by shard */
	uint64_t accepted; /* the highest commit that its log is known to hold */
	bool blind, publishing;
};

struct mg_cuts {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic */
	size_t count;
	void (*hurry)(void *arg);
	bool (*moves)(void *arg, const uint32_t *shards, size_t count);
	void *lanes; /* their arg */
	/* guarded by lock */
	struct shard *shards;
	uint64_t entered;                       /* the highest commit of all */
	size_t touching, waiting;               /* readers */
	size_t listening;                       /* of one shard */
	size_t publishers;                      /* lanes that wait for readers */
	uint64_t hold_until_ms, again_after_ms; /* of the last hold */
};

struct mg_cuts *mg_cuts_new(size_t count)
{
	struct mg_cuts *cuts = mg_alloc0(sizeof *cuts);

	cuts->count = count;
	cuts->shards = mg_alloc0(count * sizeof *cuts->shards);
	for (size_t i = 0; i < count; i++) {
		cuts->shards[i].seen = mg_alloc0(count * sizeof *cuts->shards[i].seen);
	}
	pthread_mutex_init(&cuts->lock, NULL);
	mg_cond_init(&cuts->changed);
	return cuts;
}

void mg_cuts_free(struct mg_cuts *cuts)
{
	if (!cuts) {
		return;
	}
	mg_assert(cuts->touching == 0 && cuts->waiting == 0 && cuts->listening == 0);
	for (size_t i = 0; i < cuts->count; i++) {
		mg_free(cuts->shards[i].seen);
	}
	mg_free(cuts->shards);
	pthread_cond_destroy(&cuts->changed);
	pthread_mutex_destroy(&cuts->lock);
	mg_free(cuts);
}

size_t mg_cuts_count(const struct mg_cuts *cuts)
{
	return cuts->count;
}

void mg_cuts_on_wait(struct mg_cuts *cuts, void (*hurry)(void *arg),
                     bool (*moves)(void *arg, const uint32_t *shards, size_t count), void *arg)
{
	cuts->hurry = hurry;
	cuts->moves = moves;
	cuts->lanes = arg;
}

/* Under the lock; until then, or until something has changed. */
static void wait_until(struct mg_cuts *cuts, uint64_t ms)
{
	(void)mg_cond_wait_until(&cuts->changed, &cuts->lock, ms);
}

/* ---- lanes ---- */

/* Under the lock. */
static bool enter(struct mg_cuts *cuts, uint64_t number, uint64_t now_ms)
{
	if (number > cuts->entered && cuts->waiting > 0 && now_ms < cuts->hold_until_ms) {
		return false;
	}
	cuts->entered = number > cuts->entered ? number : cuts->entered;
	return true;
}

bool mg_cuts_try_enter(struct mg_cuts *cuts, uint64_t number, uint64_t now_ms)
{
	pthread_mutex_lock(&cuts->lock);
	bool entered = enter(cuts, number, now_ms);
	pthread_mutex_unlock(&cuts->lock);
	return entered;
}

void mg_cuts_enter(struct mg_cuts *cuts, uint64_t number)
{
	pthread_mutex_lock(&cuts->lock);
	while (!enter(cuts, number, mg_clock_ms())) {
		wait_until(cuts, cuts->hold_until_ms);
	}
	pthread_mutex_unlock(&cuts->lock);
}

/* Under the lock. */
static bool publish(struct mg_cuts *cuts, uint32_t shard)
{
	mg_assert(shard < cuts->count && !cuts->shards[shard].publishing);
	cuts->shards[shard].publishing = cuts->touching == 0;
	return cuts->shards[shard].publishing;
}

bool mg_cuts_try_publish(struct mg_cuts *cuts, uint32_t shard)
{
	pthread_mutex_lock(&cuts->lock);
	bool may = publish(cuts, shard);
	pthread_mutex_unlock(&cuts->lock);
	return may;
}

void mg_cuts_publish_begin(struct mg_cuts *cuts, uint32_t shard)
{
	pthread_mutex_lock(&cuts->lock);
	cuts->publishers++;
	while (!publish(cuts, shard)) {
		pthread_cond_wait(&cuts->changed, &cuts->lock);
	}
	cuts->publishers--;
	pthread_mutex_unlock(&cuts->lock);
}

/* Under the lock. */
static void note_accepted(struct mg_cuts *cuts, uint32_t shard, uint64_t number)
{
	uint64_t *own = &cuts->shards[shard].accepted;

	*own = number > *own ? number : *own;
}

void mg_cuts_accept(struct mg_cuts *cuts, uint32_t shard, uint64_t number)
{
	pthread_mutex_lock(&cuts->lock);
	mg_assert(shard < cuts->count);
	note_accepted(cuts, shard, number);
	if (cuts->listening > 0) {
		pthread_cond_broadcast(&cuts->changed);
	}
	pthread_mutex_unlock(&cuts->lock);
}

void mg_cuts_publish_end(struct mg_cuts *cuts, uint32_t number, const uint64_t *seen, bool blind)
{
	struct shard *shard = &cuts->shards[number];

	pthread_mutex_lock(&cuts->lock);
	mg_assert(shard->publishing);
	shard->publishing = false;
	if (seen) {
		memcpy(shard->seen, seen, cuts->count * sizeof *seen);
		shard->blind = blind;
		cuts->entered = seen[number] > cuts->entered ? seen[number] : cuts->entered;
		note_accepted(cuts, number, seen[number]);
	}
	pthread_cond_broadcast(&cuts->changed);
	pthread_mutex_unlock(&cuts->lock);
}

uint64_t mg_cuts_highest(struct mg_cuts *cuts)
{
	pthread_mutex_lock(&cuts->lock);
	uint64_t highest = cuts->entered;
	pthread_mutex_unlock(&cuts->lock);
	return highest;
}

bool mg_cuts_awaited(struct mg_cuts *cuts)
{
	pthread_mutex_lock(&cuts->lock);
	bool awaited = cuts->waiting > 0;
	pthread_mutex_unlock(&cuts->lock);
	return awaited;
}

/* ---- readers, under the lock ---- */

/* Of shards that are not read, too: what is seen here has been committed in each of its shards, so
 * whoever reads those later sees it. */
static bool is_cut(const struct mg_cuts *cuts, const struct mg_cut *cut)
{
	for (size_t i = 0; i < cut->count; i++) {
		const struct shard *shard = &cuts->shards[cut->shards[i]];

		mg_assert(cut->shards[i] < cuts->count);
		if (shard->publishing || shard->blind) {
			return false;
		}
		for (size_t other = 0; other < cuts->count; other++) {
			if (shard->seen[other] > cuts->shards[other].seen[other]) {
				return false;
			}
		}
	}
	return true;
}

/* A hold that came to nothing is not made again at once: else a shard that lags would keep the
 * others back for as long as somebody reads. */
static void begin_waiting(struct mg_cuts *cuts, struct mg_cut *cut, uint64_t now_ms)
{
	if (!cut->waits) {
		cut->waits = true;
		cuts->waiting++;
	}
	if (now_ms >= cuts->again_after_ms) {
		cuts->hold_until_ms = now_ms + MG_CUTS_HOLD_MS;
		cuts->again_after_ms = cuts->hold_until_ms + MG_CUTS_HOLD_MS;
	}
}

static void end_waiting(struct mg_cuts *cuts, struct mg_cut *cut, bool well)
{
	if (cut->waits) {
		cut->waits = false;
		cuts->waiting--;
		cuts->again_after_ms = well && cuts->waiting == 0 ? 0 : cuts->again_after_ms;
		if (cuts->waiting == 0) {
			pthread_cond_broadcast(&cuts->changed);
		}
	}
}

static bool begin(struct mg_cuts *cuts, struct mg_cut *cut, uint64_t now_ms)
{
	if (!is_cut(cuts, cut)) {
		begin_waiting(cuts, cut, now_ms);
		return false;
	}
	if (cuts->publishers > 0) {
		return false;
	}
	end_waiting(cuts, cut, true);
	cuts->touching++;
	return true;
}

/* Commits come one after the other: who made one visible has waited for all shards of those
 * before.  So it is about the last one alone.  That a later one is here is no answer: who asks this
 * node for another shard, and waits for nobody, would miss what it was told. */
static bool is_told(const struct mg_cuts *cuts, struct mg_cuts_told *told)
{
	const struct shard *shard = &cuts->shards[told->shard];
	bool all = true;

	if (!told->noted) {
		if (shard->publishing || shard->blind) {
			return false; /* what comes may have been seen */
		}
		told->noted = true;
		told->number = shard->seen[told->shard];
	}
	for (size_t i = 0; all && i < cuts->count; i++) {
		all = shard->seen[i] < told->number || cuts->shards[i].accepted >= told->number;
	}
	return all;
}

/* ---- readers ---- */

bool mg_cuts_try_begin(struct mg_cuts *cuts, struct mg_cut *cut, uint64_t now_ms)
{
	pthread_mutex_lock(&cuts->lock);
	bool begun = begin(cuts, cut, now_ms);
	pthread_mutex_unlock(&cuts->lock);
	return begun;
}

void mg_cuts_give_up(struct mg_cuts *cuts, struct mg_cut *cut)
{
	pthread_mutex_lock(&cuts->lock);
	end_waiting(cuts, cut, false);
	pthread_mutex_unlock(&cuts->lock);
}

static int say_late(unsigned wait_ms, struct mg_error *err)
{
	mg_error_set(err, MG_E_UNAVAILABLE,
	             "this node has a transaction in some of the shards and, for %u ms, not yet in "
	             "others",
	             wait_ms);
	mg_error_hint(err, "Try again; it is there as a whole when its shards have caught up.");
	return MG_E_UNAVAILABLE;
}

/* Under the lock: the shards from which something has to come before this is a cut; they may be
 * others than those that are read.  behind has room for all. */
static size_t find_behind(const struct mg_cuts *cuts, const struct mg_cut *cut, uint32_t *behind)
{
	size_t count = 0;

	for (uint32_t other = 0; other < cuts->count; other++) {
		bool is = false;

		for (size_t i = 0; i < cut->count && !is; i++) {
			const struct shard *shard = &cuts->shards[cut->shards[i]];

			is = shard->seen[other] > cuts->shards[other].seen[other] ||
			     (cut->shards[i] == other && (shard->publishing || shard->blind));
		}
		if (is) {
			behind[count++] = other;
		}
	}
	return count;
}

int mg_cuts_begin(struct mg_cuts *cuts, struct mg_cut *cut, unsigned wait_ms,
                  bool (*stopped)(void *arg), void *arg, uint64_t *waited_ms, struct mg_error *err)
{
	uint64_t start = mg_clock_ms(), now = start, until = start + wait_ms;
	bool patient = cut->patient && cuts->moves, ended = false;
	uint32_t *behind = NULL;

	pthread_mutex_lock(&cuts->lock);
	bool begun = begin(cuts, cut, now);

	if (!begun && cuts->hurry) {
		/* What lanes get from now on they apply at once: it is awaited. */
		pthread_mutex_unlock(&cuts->lock);
		cuts->hurry(cuts->lanes);
		pthread_mutex_lock(&cuts->lock);
		begun = begin(cuts, cut, now);
	}
	if (!begun && patient) {
		behind = mg_alloc(cuts->count * sizeof *behind);
	}
	while (!begun && !ended && now < until) {
		wait_until(cuts, now + LOOK_MS < until ? now + LOOK_MS : until);
		size_t count = behind ? find_behind(cuts, cut, behind) : 0;

		pthread_mutex_unlock(&cuts->lock);
		now = mg_clock_ms();
		ended = stopped && stopped(arg);
		until = count && cuts->moves(cuts->lanes, behind, count) ? now + wait_ms : until;
		pthread_mutex_lock(&cuts->lock);
		begun = begin(cuts, cut, now);
	}
	end_waiting(cuts, cut, false);
	pthread_mutex_unlock(&cuts->lock);
	mg_free(behind);
	*waited_ms = now - start;
	if (begun) {
		return 0;
	}
	return ended ? mg_error_set(err, MG_E_CANCELLED, "cancelled") : say_late(wait_ms, err);
}

void mg_cuts_end(struct mg_cuts *cuts)
{
	pthread_mutex_lock(&cuts->lock);
	mg_assert(cuts->touching > 0);
	cuts->touching--;
	if (cuts->touching == 0) {
		pthread_cond_broadcast(&cuts->changed);
	}
	pthread_mutex_unlock(&cuts->lock);
}

bool mg_cuts_try_told(struct mg_cuts *cuts, struct mg_cuts_told *told)
{
	pthread_mutex_lock(&cuts->lock);
	mg_assert(told->shard < cuts->count);
	bool yes = is_told(cuts, told);
	pthread_mutex_unlock(&cuts->lock);
	return yes;
}

int mg_cuts_await_told(struct mg_cuts *cuts, uint32_t shard, unsigned wait_ms,
                       bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	struct mg_cuts_told told = { .shard = shard };
	bool ended = false;

	if (mg_cuts_try_told(cuts, &told)) {
		return 0;
	}
	uint64_t now = mg_clock_ms(), until = now + wait_ms;

	pthread_mutex_lock(&cuts->lock);
	cuts->listening++;
	bool yes = is_told(cuts, &told);

	while (!yes && !ended && now < until) {
		wait_until(cuts, now + LOOK_MS < until ? now + LOOK_MS : until);
		now = mg_clock_ms();
		ended = stopped && stopped(arg);
		yes = is_told(cuts, &told);
	}
	cuts->listening--;
	pthread_mutex_unlock(&cuts->lock);
	if (yes) {
		return 0;
	}
	return ended ? mg_error_set(err, MG_E_CANCELLED, "cancelled") : say_late(wait_ms, err);
}

bool mg_cuts_is_behind(struct mg_cuts *cuts, uint32_t shard)
{
	bool behind = false;

	pthread_mutex_lock(&cuts->lock);
	mg_assert(shard < cuts->count);
	for (size_t i = 0; i < cuts->count && !behind; i++) {
		behind = cuts->shards[i].seen[shard] > cuts->shards[shard].seen[shard];
	}
	pthread_mutex_unlock(&cuts->lock);
	return behind;
}
