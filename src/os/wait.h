/*
 * wait.h - waiting for others, by mg_clock_ms: nobody waits longer or shorter when people set the
 * clock.  Thread: any.
 */
#ifndef MG_OS_WAIT_H
#define MG_OS_WAIT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

void mg_cond_init(pthread_cond_t *cond);
/* As pthread_cond_wait, until this time at the latest.  False: it has come. */
bool mg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms);

/*
 * A waker: one thread sleeps until others have something for it, where every microsecond counts.
 * They wake it when they have let go of the lock that guards what they had for it.  With a
 * condition it would start running, often in their place, only to wait for that lock, and glibc
 * would have whoever lets go of the lock after that look for sleepers, in the kernel.
 */
struct mg_waker {
	sem_t tokens;
	atomic_int waking; /* threads that are about to touch it */
	bool sleeping;     /* and not woken yet; guarded by its owner's lock */
};

void mg_waker_init(struct mg_waker *waker);
/* Returns when nobody touches it any more who has called mg_waker_wake. */
void mg_waker_fini(struct mg_waker *waker);
/* Lets go of the lock, which the caller holds, and wakes the sleeper, or the next one to be. */
void mg_waker_wake(struct mg_waker *waker, pthread_mutex_t *lock);
/* The same, but only when it sleeps and nobody has woken it yet: it looks at what there is to do
 * under the lock before it sleeps. */
void mg_waker_wake_sleeper(struct mg_waker *waker, pthread_mutex_t *lock);
/* Lets go of the lock, sleeps until somebody wakes or this time comes (UINT64_MAX: never), now and
 * then without a reason, and takes the lock again. */
void mg_waker_sleep(struct mg_waker *waker, pthread_mutex_t *lock, uint64_t ms);

#endif
