/* wait.c - see wait.h. */
#include "os/wait.h"

#include "base/assert.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

static struct timespec time_of(uint64_t ms)
{
	return (struct timespec){
		.tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};
}

void mg_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
}

bool mg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms)
{
	const struct timespec until = time_of(ms);

	return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
}

void mg_waker_init(struct mg_waker *waker)
{
	int failed = sem_init(&waker->tokens, 0, 0);

	mg_assert(!failed);
	atomic_init(&waker->waking, 0);
	waker->sleeping = false;
}

void mg_waker_fini(struct mg_waker *waker)
{
	while (atomic_load(&waker->waking)) {
		(void)sched_yield();
	}
	(void)sem_destroy(&waker->tokens);
}

void mg_waker_wake(struct mg_waker *waker, pthread_mutex_t *lock)
{
	(void)atomic_fetch_add(&waker->waking, 1);
	pthread_mutex_unlock(lock);
	(void)sem_post(&waker->tokens);
	(void)atomic_fetch_sub(&waker->waking, 1);
}

void mg_waker_wake_sleeper(struct mg_waker *waker, pthread_mutex_t *lock)
{
	if (waker->sleeping) {
		waker->sleeping = false; /* once */
		mg_waker_wake(waker, lock);
	} else {
		pthread_mutex_unlock(lock);
	}
}

void mg_waker_sleep(struct mg_waker *waker, pthread_mutex_t *lock, uint64_t ms)
{
	const struct timespec until = time_of(ms);

	waker->sleeping = true;
	pthread_mutex_unlock(lock);
	if (ms == UINT64_MAX) {
		(void)sem_wait(&waker->tokens);
	} else {
		(void)sem_clockwait(&waker->tokens, CLOCK_MONOTONIC, &until);
	}
	pthread_mutex_lock(lock);
	waker->sleeping = false;
}
