/*
 * pool.h - threads that are used again: what may block for seconds runs here and never on a loop.
 * A new thread costs more than its start: an engine that allocates by thread finds no warm memory.
 *
 * Threads are made when work waits and none is idle, up to threads_max, and end after a quiet
 * minute.  Work past that waits in a queue of queue_max; past that it is refused.
 *
 * Thread: any.
 */
#ifndef MG_OS_POOL_H
#define MG_OS_POOL_H

#include "base/error.h"

#include <stddef.h>

struct mg_pool;

/* 0: the default (256 threads, 1,024 waiting). */
struct mg_pool *mg_pool_new(size_t threads_max, size_t queue_max);
/* Run fn(arg) on a thread.  Fails: MG_E_BUSY, MG_E_SHUTDOWN; then fn is not called. */
int mg_pool_post(struct mg_pool *pool, void (*fn)(void *arg), void *arg, struct mg_error *err);
size_t mg_pool_threads(struct mg_pool *pool);
/* Refuse new work, wait for all that was taken. */
void mg_pool_stop(struct mg_pool *pool);
void mg_pool_free(struct mg_pool *pool); /* stops first; NULL is fine */

#endif
