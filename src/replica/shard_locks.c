/*
 * shard_locks.c - see shard_locks.h.
 */
#include "replica/shard_locks.h"

#include "base/assert.h"
#include "base/mem.h"
#include "os/clock.h"
#include "os/wait.h"

#include <inttypes.h>
#include <pthread.h>

enum { LOOK_MS = 50 }; /* how often who waits asks whether it should go on */

struct holders {
	uint32_t of[3];  /* by mode */
	uint32_t alters; /* that wait */
};

struct mg_shard_locks {
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct holders *shards;
	size_t count;
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
		pthread_cond_destroy(&locks->changed);
		pthread_mutex_destroy(&locks->lock);
		mg_free(locks->shards);
		mg_free(locks);
	}
}

static bool is_free(const struct holders *holders, enum mg_lock_mode mode)
{
	if (holders->of[MG_LOCK_ALTER]) {
		return false;
	}
	switch (mode) {
	case MG_LOCK_ADD:
		return !holders->alters;
	case MG_LOCK_CHANGE:
		return !holders->alters && !holders->of[MG_LOCK_CHANGE];
	case MG_LOCK_ALTER:
		return !holders->of[MG_LOCK_ADD] && !holders->of[MG_LOCK_CHANGE];
	}
	return false;
}

static bool are_free(const struct mg_shard_locks *locks, enum mg_lock_mode mode,
                     const uint32_t *shards, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_assert(shards[i] < locks->count);
		if (!is_free(&locks->shards[shards[i]], mode)) {
			return false;
		}
	}
	return true;
}

static void rest(struct mg_shard_locks *locks)
{
	(void)mg_cond_wait_until(&locks->changed, &locks->lock, mg_clock_ms() + LOOK_MS);
}

static void count_alters(struct mg_shard_locks *locks, const uint32_t *shards, size_t count, int by)
{
	for (size_t i = 0; i < count; i++) {
		locks->shards[shards[i]].alters += (uint32_t)by;
	}
}

int mg_shard_locks_take(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                        const uint32_t *shards, size_t count, bool (*stopped)(void *arg), void *arg,
                        struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&locks->lock);
	if (mode == MG_LOCK_ALTER) {
		count_alters(locks, shards, count, 1);
	}
	while (!code && !are_free(locks, mode, shards, count)) {
		rest(locks);
		if (stopped && stopped(arg)) {
			code = mg_error_set(err, MG_E_CANCELLED, "cancelled while it waited for other writers");
		}
	}
	if (mode == MG_LOCK_ALTER) {
		count_alters(locks, shards, count, -1);
	}
	for (size_t i = 0; !code && i < count; i++) {
		locks->shards[shards[i]].of[mode]++;
	}
	if (code) {
		pthread_cond_broadcast(&locks->changed); /* an ALTER less that others wait behind */
	}
	pthread_mutex_unlock(&locks->lock);
	return code;
}

bool mg_shard_locks_try_add(struct mg_shard_locks *locks, const uint32_t *shards, size_t count)
{
	pthread_mutex_lock(&locks->lock);
	bool taken = are_free(locks, MG_LOCK_ADD, shards, count);

	for (size_t i = 0; taken && i < count; i++) {
		locks->shards[shards[i]].of[MG_LOCK_ADD]++;
	}
	pthread_mutex_unlock(&locks->lock);
	return taken;
}

void mg_shard_locks_give(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                         const uint32_t *shards, size_t count)
{
	pthread_mutex_lock(&locks->lock);
	for (size_t i = 0; i < count; i++) {
		mg_assert(locks->shards[shards[i]].of[mode] > 0);
		locks->shards[shards[i]].of[mode]--;
	}
	pthread_cond_broadcast(&locks->changed);
	pthread_mutex_unlock(&locks->lock);
}
