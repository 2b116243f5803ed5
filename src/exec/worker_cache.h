/*
 * worker_cache.h - the folder in which a worker keeps copies of shard files: how large it is, and
 * what goes when it is too large.
 *
 * Copies are <sha256>.duckdb, those under way <sha256>.part or <sha256>-<pid>.part; spill-<pid>-*
 * holds what a running worker writes for its queries.  Anything else is not ours and is left alone.
 * The folder may be shared by several workers of a machine.
 *
 * Thread: any.  Blocks.
 */
#ifndef MG_EXEC_WORKER_CACHE_H
#define MG_EXEC_WORKER_CACHE_H

#include <stdbool.h>
#include <stdint.h>

/* Half of what the copies take now and the disk has free. */
uint64_t mg_cache_default_bytes(const char *dir);
/* Remove copies that nobody uses, the least recently used first, until all together take at most
 * `bytes`.  may_remove is asked for each by its hash; what another process has open stays.  Returns
 * the bytes that are left. */
uint64_t mg_cache_trim(const char *dir, uint64_t bytes,
                       bool (*may_remove)(void *arg, const char *sha256), void *arg);
/* Folders of workers that ended without tidying up. */
void mg_cache_remove_spills(const char *dir);

#endif
