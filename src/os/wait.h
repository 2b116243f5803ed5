/*
 * wait.h - waiting for others, by mg_clock_ms: nobody waits longer or shorter when people set the
 * clock.  Thread: any.
 */
#ifndef MG_OS_WAIT_H
#define MG_OS_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void mg_cond_init(pthread_cond_t *cond);
/* As pthread_cond_wait, until this time at the latest.  False: it has come. */
bool mg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms);

#endif
