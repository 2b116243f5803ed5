/*
 * shard_locks.h - who may write what in which shard at the same time (modes: replica.h).
 *
 * A lock belongs to no thread.  All shards of a request are taken at once, so nobody holds some
 * while it waits for others.  Whoever waits goes before those that come after it and that it could
 * not be beside.
 *
 * Whoever changes rows of one key need not ask what else has been written, as long as the rows of
 * that key are here as they were left (mg_shard_locks_key_is_here).
 *
 * Thread: any.
 */
#ifndef MG_REPLICA_SHARD_LOCKS_H
#define MG_REPLICA_SHARD_LOCKS_H

#include "replica/replica.h"

struct mg_shard_locks;

struct mg_shard_locks *mg_shard_locks_new(size_t shard_count);
void mg_shard_locks_free(struct mg_shard_locks *locks); /* nobody holds or waits any more */
/* Any mode but KEY.  Fails: MG_E_CANCELLED when stopped said so. */
int mg_shard_locks_take(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                        const uint32_t *shards, size_t count, bool (*stopped)(void *arg), void *arg,
                        struct mg_error *err);
/* MG_LOCK_ADD, without waiting. */
bool mg_shard_locks_try_add(struct mg_shard_locks *locks, const uint32_t *shards, size_t count);
void mg_shard_locks_give(struct mg_shard_locks *locks, enum mg_lock_mode mode,
                         const uint32_t *shards, size_t count);

/* MG_LOCK_KEY of key->shard and key->slot; sets the rest of it.  Fails: as the others. */
int mg_shard_locks_take_key(struct mg_shard_locks *locks, struct mg_key_lock *key,
                            bool (*stopped)(void *arg), void *arg, struct mg_error *err);
void mg_shard_locks_give_key(struct mg_shard_locks *locks, const struct mg_key_lock *key);
/* Since the last barrier over the shard in this epoch nobody has given back a lock under which rows
 * of the key may have changed.  While the key is held. */
bool mg_shard_locks_key_is_here(struct mg_shard_locks *locks, const struct mg_key_lock *key,
                                uint64_t epoch);
/* The shard's file is another one: nothing of it is known to be here. */
void mg_shard_locks_forget(struct mg_shard_locks *locks, uint32_t shard);
/* It is the one that it was when the key was taken. */
bool mg_shard_locks_key_stays(struct mg_shard_locks *locks, const struct mg_key_lock *key);
/* Nobody knows yet what became of a write to the shard: in this epoch no key of it is known to be
 * here any more.  Before its lock is given back. */
void mg_shard_locks_doubt(struct mg_shard_locks *locks, uint32_t shard, uint64_t epoch);
/* A barrier over the shard that began after the key was taken is over, in this epoch. */
void mg_shard_locks_key_awaited(struct mg_shard_locks *locks, const struct mg_key_lock *key,
                                uint64_t epoch);

#endif
