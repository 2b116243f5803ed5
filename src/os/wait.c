/* wait.c - see wait.h. */
#include "os/wait.h"

#include <errno.h>
#include <time.h>

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
	const struct timespec until = {
		.tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
}
