/*
 * worker_cache.h - the folder in which a worker keeps copies of shard files: how large it is, and
 * what goes when it is too large.
 *
 * Copies are <sha256>.duckdb, those under way <sha256>.part or <sha256>-<pid>.part; several workers
 * of a machine may share the folder, and these files.  A copy that has changed belongs to one
 * worker: own-<number>-<cluster>-<shard>.duckdb, where the number is that worker's as long as it
 * holds the lock on own-<number>.lock.  spill-<pid>-* holds what a running worker writes for its
 * queries.  Anything else is not ours and is left alone.
 *
 * Thread: any.  Blocks.
 */
#ifndef MG_EXEC_WORKER_CACHE_H
#define MG_EXEC_WORKER_CACHE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Half of what the copies take now and the disk has free. */
uint64_t mg_cache_default_bytes(const char *dir);
/* Remove copies that nobody uses, the least recently used first, until all together take at most
 * `bytes`.  may_remove is asked for each by its hash, or its name up to the ending; what another
 * process has open stays.  Returns the bytes that are left. */
uint64_t mg_cache_trim(const char *dir, uint64_t bytes,
                       bool (*may_remove)(void *arg, const char *name), void *arg);
/* A number of this process's own, for as long as the lock is held (mg_dir_unlock). */
int mg_cache_own_number(const char *dir, unsigned *number, int *lock, struct mg_error *err);
/* Before a copy that others may use, too, is renamed, or copied while nobody has it attached: one
 * worker of the folder does that at a time.  Waits so long, then fails: MG_E_BUSY.  Let go of with
 * mg_dir_unlock. */
int mg_cache_lock(const char *dir, uint64_t wait_ms, int *lock, struct mg_error *err);
/* Folders of workers that ended without tidying up. */
void mg_cache_remove_spills(const char *dir);

#endif
