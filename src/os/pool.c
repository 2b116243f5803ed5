/*
 * pool.c - a bounded pool of threads with a bounded queue.
 *
 * Invariant, under the lock: idle threads wait only while the queue is empty, and whoever adds work
 * wakes an idle thread or makes one: the one that worked last, whose memory is warm, while those
 * at the bottom grow old and end.  Threads are detached and counted; stop waits for the count.
 */
#include "os/pool.h"

#include "base/mem.h"
#include "os/clock.h"
#include "os/thread.h"
#include "os/wait.h"

#include <pthread.h>

enum { THREADS_DEFAULT = 256, QUEUE_DEFAULT = 1024, IDLE_SECONDS = 60, STACK_SIZE = 8 << 20 };

struct work {
	void (*fn)(void *arg);
	void *arg;
};

/* A thread without work, on its own stack. */
struct idler {
	struct idler *below;
	pthread_cond_t wake;
	bool woken;
};

struct mg_pool {
	pthread_mutex_t lock;
	pthread_cond_t thread_ended;
	struct work *queue; /* ring of queue_max */
	size_t queue_max, first, count;
	size_t threads_max, threads;
	struct idler *idle; /* a stack: who came last is on top */
	size_t waking;      /* taken from it, and not yet here */
	bool stopping;
};

struct mg_pool *mg_pool_new(size_t threads_max, size_t queue_max)
{
	struct mg_pool *pool = mg_alloc0(sizeof *pool);

	pool->threads_max = threads_max ? threads_max : THREADS_DEFAULT;
	pool->queue_max = queue_max ? queue_max : QUEUE_DEFAULT;
	pool->queue = mg_alloc0(pool->queue_max * sizeof *pool->queue);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->thread_ended, NULL);
	return pool;
}

/* All under the lock. */
static void wake_top(struct mg_pool *pool)
{
	struct idler *top = pool->idle;

	pool->idle = top->below;
	pool->waking++;
	top->woken = true;
	pthread_cond_signal(&top->wake);
}

static void leave_stack(struct mg_pool *pool, const struct idler *self)
{
	struct idler **at = &pool->idle;

	while (*at != self) {
		at = &(*at)->below;
	}
	*at = self->below;
}

/* Returns false after a quiet minute. */
static bool rest(struct mg_pool *pool)
{
	struct idler self = { .below = pool->idle };
	uint64_t until_ms = mg_clock_ms() + IDLE_SECONDS * 1000ull;
	bool waits = true;

	mg_cond_init(&self.wake);
	pool->idle = &self;
	while (!self.woken && waits) {
		waits = mg_cond_wait_until(&self.wake, &pool->lock, until_ms);
	}
	if (self.woken) {
		pool->waking--;
	} else {
		leave_stack(pool, &self);
	}
	pthread_cond_destroy(&self.wake);
	return self.woken;
}

/* False when this thread shall end. */
static bool wait_for_work(struct mg_pool *pool)
{
	while (pool->count == 0) {
		if (pool->stopping || !rest(pool)) {
			return pool->count > 0;
		}
	}
	return true;
}

static void *thread_main(void *arg)
{
	struct mg_pool *pool = arg;

	mg_thread_patient(); /* a loop may have started it */
	pthread_mutex_lock(&pool->lock);
	while (wait_for_work(pool)) {
		struct work work = pool->queue[pool->first];

		pool->first = (pool->first + 1) % pool->queue_max;
		pool->count--;
		pthread_mutex_unlock(&pool->lock);
		work.fn(work.arg);
		pthread_mutex_lock(&pool->lock);
	}
	pool->threads--;
	pthread_cond_broadcast(&pool->thread_ended);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Under the lock; a system that gives no thread is no error while another one lives. */
static bool thread_start(struct mg_pool *pool)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	bool started = pthread_create(&thread, &attr, thread_main, pool) == 0;
	pthread_attr_destroy(&attr);
	if (started) {
		pool->threads++;
	}
	return started || pool->threads > 0;
}

int mg_pool_post(struct mg_pool *pool, void (*fn)(void *arg), void *arg, struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&pool->lock);
	if (pool->stopping) {
		code = mg_error_set(err, MG_E_SHUTDOWN, "the server is shutting down");
		goto out;
	}
	if (pool->count >= pool->queue_max) {
		code = mg_error_set(err, MG_E_BUSY, "too many requests wait, %zu", pool->count);
		mg_error_hint(err, "Try again in a moment.");
		goto out;
	}
	if (pool->idle) {
		wake_top(pool);
	} else if (pool->waking <= pool->count && pool->threads < pool->threads_max &&
	           !thread_start(pool)) {
		code = mg_error_set(err, MG_E_NOMEM, "cannot start a thread");
		goto out;
	}
	pool->queue[(pool->first + pool->count) % pool->queue_max] = (struct work){ fn, arg };
	pool->count++;
out:
	pthread_mutex_unlock(&pool->lock);
	return code;
}

size_t mg_pool_threads(struct mg_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	size_t threads = pool->threads;
	pthread_mutex_unlock(&pool->lock);
	return threads;
}

void mg_pool_stop(struct mg_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	while (pool->idle) {
		wake_top(pool);
	}
	while (pool->threads > 0) {
		pthread_cond_wait(&pool->thread_ended, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
}

void mg_pool_free(struct mg_pool *pool)
{
	if (!pool) {
		return;
	}
	mg_pool_stop(pool);
	pthread_cond_destroy(&pool->thread_ended);
	pthread_mutex_destroy(&pool->lock);
	mg_free(pool->queue);
	mg_free(pool);
}
