/*
 * shard_locks.h - who may write what in which shard at the same time (modes: replica.h).
 *
 * A lock belongs to no thread.  All shards of a request are taken at once, so nobody holds some
 * while it waits for others.  Whoever wants to ALTER goes before those that come after it.
 *
 * Thread: any.
 */
#ifndef MG_REPLICA_SHARD_LOCKS_H
#define MG_REPLICA_SHARD_LOCKS_H

#include "replica/replica.h"

struct mg_shard_locks;

struct mg_shard_locks *mg_shard_locks_new(size_t shard_count);
void mg_shard_locks_free(struct mg_shard_locks *locks); /* nobody holds or waits any more */
/* Fails: MG_E_CANCELLED when stopped said so. */
int mg_shard_locks_take(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                        const uint32_t *shards, size_t count, bool (*stopped)(void *arg), void *arg,
                        struct mg_error *err);
/* MG_LOCK_ADD, without waiting. */
bool mg_shard_locks_try_add(struct mg_shard_locks *locks, const uint32_t *shards, size_t count);
void mg_shard_locks_give(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                         const uint32_t *shards, size_t count);

#endif
