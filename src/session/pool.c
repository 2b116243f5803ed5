/*
 * pool.c - a bounded pool of threads with a bounded queue.
 *
 * Invariant, under the lock: idle threads wait only while the queue is empty, and whoever adds work
 * wakes an idle thread or makes one.  Threads are detached and counted; stop waits for the count.
 */
#include "session/pool.h"

#include "base/mem.h"

#include <pthread.h>
#include <time.h>

enum { THREADS_DEFAULT = 256, QUEUE_DEFAULT = 1024, IDLE_SECONDS = 60, STACK_SIZE = 8 << 20 };

struct work {
	void (*fn)(void *arg);
	void *arg;
};

struct mg_pool {
	pthread_mutex_t lock;
	pthread_cond_t work_came, thread_ended;
	struct work *queue; /* ring of queue_max */
	size_t queue_max, first, count;
	size_t threads_max, threads, idle;
	bool stopping;
};

struct mg_pool *mg_pool_new(size_t threads_max, size_t queue_max)
{
	struct mg_pool *pool = mg_alloc0(sizeof *pool);
	pthread_condattr_t attr;

	pool->threads_max = threads_max ? threads_max : THREADS_DEFAULT;
	pool->queue_max = queue_max ? queue_max : QUEUE_DEFAULT;
	pool->queue = mg_alloc0(pool->queue_max * sizeof *pool->queue);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work_came, &attr);
	pthread_cond_init(&pool->thread_ended, &attr);
	pthread_condattr_destroy(&attr);
	return pool;
}

/* Wait for work; false when this thread shall end.  Under the lock. */
static bool wait_for_work(struct mg_pool *pool)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_SECONDS;
	while (pool->count == 0) {
		if (pool->stopping) {
			return false;
		}
		pool->idle++;
		int status = pthread_cond_timedwait(&pool->work_came, &pool->lock, &until);
		pool->idle--;
		if (status != 0 && pool->count == 0) {
			return false;
		}
	}
	return true;
}

static void *thread_main(void *arg)
{
	struct mg_pool *pool = arg;

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
	if (pool->idle <= pool->count && pool->threads < pool->threads_max && !thread_start(pool)) {
		code = mg_error_set(err, MG_E_NOMEM, "cannot start a thread");
		goto out;
	}
	pool->queue[(pool->first + pool->count) % pool->queue_max] = (struct work){ fn, arg };
	pool->count++;
	pthread_cond_signal(&pool->work_came);
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
	pthread_cond_broadcast(&pool->work_came);
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
	pthread_cond_destroy(&pool->work_came);
	pthread_mutex_destroy(&pool->lock);
	mg_free(pool->queue);
	mg_free(pool);
}
