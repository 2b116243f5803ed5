/*
 * shard_locks.c - see shard_locks.h.
 *
 * Who waits stands in a queue, so that a steady stream of writers that may be beside each other
 * does not keep out one that may not.
 *
 * Each shard counts the locks that were given back.  `others` is that count when the last one was
 * not of a key, `keys` when the last one was of a key of that bucket, `awaited` the count before
 * the last barrier.  `files` counts how often its file was replaced, which counts as a write.
 */
#include "replica/shard_locks.h"

#include "base/assert.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/wait.h"

#include <pthread.h>

enum {
	LOOK_MS = 50, /* how often who waits asks whether it should go on */
	BUCKETS = 1024,
};

struct holders {
	uint32_t of[MG_LOCK_ALTER + 1]; /* by mode */
	uint16_t *buckets;              /* that are held: of[MG_LOCK_KEY] */
	size_t bucket_cap;
	uint64_t given, others, awaited, epoch; /* epoch: in which it was awaited */
	uint64_t files, doubtful; /* doubtful: the epoch of a write that nobody knows the end of */
	uint64_t keys[BUCKETS];
};

/* What is asked for, by who waits. */
struct request {
	struct request *next;
	enum mg_lock_mode mode;
	const uint32_t *shards;
	size_t count;
	uint16_t bucket; /* of MG_LOCK_KEY */
};

struct mg_shard_locks {
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct holders *shards;
	size_t count;
	struct request *waiting; /* the oldest first */
};

struct mg_shard_locks *mg_shard_locks_new(size_t shard_count)
{
	struct mg_shard_locks *locks = mg_alloc0(sizeof *locks);

	pthread_mutex_init(&locks->lock, NULL);
	mg_cond_init(&locks->changed);
	locks->shards = mg_alloc0(shard_count * sizeof *locks->shards);
	locks->count = shard_count;
	return locks;
}

void mg_shard_locks_free(struct mg_shard_locks *locks)
{
	if (locks) {
		for (size_t i = 0; i < locks->count; i++) {
			mg_free(locks->shards[i].buckets);
		}
		pthread_cond_destroy(&locks->changed);
		pthread_mutex_destroy(&locks->lock);
		mg_free(locks->shards);
		mg_free(locks);
	}
}

/* ---- who may be beside whom ---- */

static bool may_be_beside(enum mg_lock_mode a, enum mg_lock_mode b)
{
	static const bool beside[MG_LOCK_ALTER + 1][MG_LOCK_ALTER + 1] = {
		[MG_LOCK_ADD] = { [MG_LOCK_ADD] = true, [MG_LOCK_KEY] = true, [MG_LOCK_CHANGE] = true },
		[MG_LOCK_KEY] = { [MG_LOCK_ADD] = true }, /* and other keys */
		[MG_LOCK_CHANGE] = { [MG_LOCK_ADD] = true },
	};

	return beside[a][b];
}

static bool is_bucket_held(const struct holders *holders, uint16_t bucket)
{
	uint32_t i = 0;

	while (i < holders->of[MG_LOCK_KEY] && holders->buckets[i] != bucket) {
		i++;
	}
	return i < holders->of[MG_LOCK_KEY];
}

static bool is_free(const struct holders *holders, const struct request *request)
{
	for (int mode = MG_LOCK_ADD; mode <= MG_LOCK_ALTER; mode++) {
		bool keys = mode == MG_LOCK_KEY && request->mode == MG_LOCK_KEY;

		if (keys ? is_bucket_held(holders, request->bucket)
		         : holders->of[mode] && !may_be_beside(request->mode, (enum mg_lock_mode)mode)) {
			return false;
		}
	}
	return true;
}

static bool share_a_shard(const struct request *a, const struct request *b)
{
	for (size_t i = 0; i < a->count; i++) {
		for (size_t k = 0; k < b->count; k++) {
			if (a->shards[i] == b->shards[k]) {
				return true;
			}
		}
	}
	return false;
}

static bool is_in_the_way(const struct request *earlier, const struct request *request)
{
	bool keys = earlier->mode == MG_LOCK_KEY && request->mode == MG_LOCK_KEY;
	bool beside =
		keys ? earlier->bucket != request->bucket : may_be_beside(earlier->mode, request->mode);

	return !beside && share_a_shard(earlier, request);
}

/* Free of those that hold, and of those that have waited for longer. */
static bool is_due(const struct mg_shard_locks *locks, const struct request *request)
{
	for (size_t i = 0; i < request->count; i++) {
		mg_assert(request->shards[i] < locks->count);
		if (!is_free(&locks->shards[request->shards[i]], request)) {
			return false;
		}
	}
	for (const struct request *it = locks->waiting; it && it != request; it = it->next) {
		if (is_in_the_way(it, request)) {
			return false;
		}
	}
	return true;
}

/* ---- the queue ---- */

static void queue(struct mg_shard_locks *locks, struct request *request)
{
	struct request **link = &locks->waiting;

	while (*link) {
		link = &(*link)->next;
	}
	*link = request;
}

static void leave_queue(struct mg_shard_locks *locks, const struct request *request)
{
	struct request **link = &locks->waiting;

	while (*link != request) {
		link = &(*link)->next;
	}
	*link = request->next;
}

static void hold(struct mg_shard_locks *locks, const struct request *request)
{
	for (size_t i = 0; i < request->count; i++) {
		struct holders *holders = &locks->shards[request->shards[i]];

		if (request->mode == MG_LOCK_KEY) {
			mg_grow(holders->buckets, holders->of[MG_LOCK_KEY], holders->bucket_cap);
			holders->buckets[holders->of[MG_LOCK_KEY]] = request->bucket;
		}
		holders->of[request->mode]++;
	}
}

/* Under the lock. */
static int take(struct mg_shard_locks *locks, struct request *request, bool (*stopped)(void *arg),
                void *arg, struct mg_error *err)
{
	int code = 0;

	queue(locks, request);
	while (!code && !is_due(locks, request)) {
		(void)mg_cond_wait_until(&locks->changed, &locks->lock, mg_clock_ms() + LOOK_MS);
		if (stopped && stopped(arg)) {
			code = mg_error_set(err, MG_E_CANCELLED, "cancelled while it waited for other writers");
		}
	}
	leave_queue(locks, request);
	if (code) {
		pthread_cond_broadcast(&locks->changed); /* one less that others wait behind */
	} else {
		hold(locks, request);
	}
	return code;
}

int mg_shard_locks_take(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                        const uint32_t *shards, size_t count, bool (*stopped)(void *arg), void *arg,
                        struct mg_error *err)
{
	struct request request = { .mode = mode, .shards = shards, .count = count };

	pthread_mutex_lock(&locks->lock);
	int code = take(locks, &request, stopped, arg, err);

	pthread_mutex_unlock(&locks->lock);
	return code;
}

bool mg_shard_locks_try_add(struct mg_shard_locks *locks, const uint32_t *shards, size_t count)
{
	const struct request request = { .mode = MG_LOCK_ADD, .shards = shards, .count = count };

	pthread_mutex_lock(&locks->lock);
	bool due = is_due(locks, &request);

	if (due) {
		hold(locks, &request);
	}
	pthread_mutex_unlock(&locks->lock);
	return due;
}

void mg_shard_locks_give(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                         const uint32_t *shards, size_t count)
{
	pthread_mutex_lock(&locks->lock);
	for (size_t i = 0; i < count; i++) {
		struct holders *holders = &locks->shards[shards[i]];

		mg_assert(holders->of[mode] > 0);
		holders->of[mode]--;
		holders->others = ++holders->given;
	}
	pthread_cond_broadcast(&locks->changed);
	pthread_mutex_unlock(&locks->lock);
}

/* ---- keys ---- */

static uint16_t bucket_of(const struct mg_key_lock *key)
{
	return key->slot % BUCKETS;
}

int mg_shard_locks_take_key(struct mg_shard_locks *locks, struct mg_key_lock *key,
                            bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	struct request request = {
		.mode = MG_LOCK_KEY, .shards = &key->shard, .count = 1, .bucket = bucket_of(key)
	};

	pthread_mutex_lock(&locks->lock);
	int code = take(locks, &request, stopped, arg, err);

	key->at = locks->shards[key->shard].given;
	key->file = locks->shards[key->shard].files;
	pthread_mutex_unlock(&locks->lock);
	return code;
}

void mg_shard_locks_give_key(struct mg_shard_locks *locks, const struct mg_key_lock *key)
{
	struct holders *holders = &locks->shards[key->shard];
	uint16_t bucket = bucket_of(key);
	uint32_t at = 0;

	pthread_mutex_lock(&locks->lock);
	while (at < holders->of[MG_LOCK_KEY] && holders->buckets[at] != bucket) {
		at++;
	}
	mg_assert(at < holders->of[MG_LOCK_KEY]);
	holders->buckets[at] = holders->buckets[--holders->of[MG_LOCK_KEY]];
	holders->keys[bucket] = ++holders->given;
	pthread_cond_broadcast(&locks->changed);
	pthread_mutex_unlock(&locks->lock);
}

bool mg_shard_locks_key_is_here(struct mg_shard_locks *locks, const struct mg_key_lock *key,
                                uint64_t epoch)
{
	pthread_mutex_lock(&locks->lock);
	const struct holders *holders = &locks->shards[key->shard];
	bool here = holders->epoch == epoch && holders->doubtful != epoch &&
	            holders->others <= holders->awaited &&
	            holders->keys[bucket_of(key)] <= holders->awaited;

	pthread_mutex_unlock(&locks->lock);
	return here;
}

void mg_shard_locks_forget(struct mg_shard_locks *locks, uint32_t shard)
{
	pthread_mutex_lock(&locks->lock);
	struct holders *holders = &locks->shards[shard];

	holders->others = ++holders->given;
	holders->files++;
	pthread_mutex_unlock(&locks->lock);
}

/* A barrier may come before such a write, which then happens behind it. */
void mg_shard_locks_doubt(struct mg_shard_locks *locks, uint32_t shard, uint64_t epoch)
{
	pthread_mutex_lock(&locks->lock);
	locks->shards[shard].doubtful = epoch;
	pthread_mutex_unlock(&locks->lock);
}

bool mg_shard_locks_key_stays(struct mg_shard_locks *locks, const struct mg_key_lock *key)
{
	pthread_mutex_lock(&locks->lock);
	bool stays = locks->shards[key->shard].files == key->file;

	pthread_mutex_unlock(&locks->lock);
	return stays;
}

void mg_shard_locks_key_awaited(struct mg_shard_locks *locks, const struct mg_key_lock *key,
                                uint64_t epoch)
{
	pthread_mutex_lock(&locks->lock);
	struct holders *holders = &locks->shards[key->shard];

	if (epoch > holders->epoch || (epoch == holders->epoch && key->at > holders->awaited)) {
		holders->epoch = epoch;
		holders->awaited = key->at;
	}
	pthread_mutex_unlock(&locks->lock);
}
