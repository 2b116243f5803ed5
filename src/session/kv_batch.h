/*
 * kv_batch.h - many puts or deletes of keys of one namespace, sent to their shards by batches.
 *
 *     init -> add, add, ... -> finish -> fini
 *
 * A batch is sent when it has MG_KV_BATCH_OPS operations or MG_KV_BATCH_BYTES, and waited for.
 * When all of it is one batch, that happens whole or not at all (kv_atomic.h); of several, each
 * shard's part of each does, which costs a third.  What was refused without having happened is sent
 * again for a while.
 *
 * Thread: one, that may wait.
 */
#ifndef MG_SESSION_KV_BATCH_H
#define MG_SESSION_KV_BATCH_H

#include "base/mem.h"
#include "replica/kv_atomic.h"

#define MG_KV_BATCH_OPS 4096u
#define MG_KV_BATCH_BYTES (4u << 20)
#define MG_KV_BATCH_RETRY_MS 10000u

struct mg_kv_batch {
	struct mg_replica *replica;
	struct mg_arena *arena; /* of the operations that are not sent yet */
	struct mg_kv_op *ops;   /* heap */
	size_t count, cap, bytes;
	uint64_t done; /* operations that have changed something */
	bool doubtful; /* of others nobody knows */
	bool begun;    /* a batch was sent */
	bool (*stopped)(void *arg); /* nothing is sent again */
	void *arg;
};

void mg_kv_batch_init(struct mg_kv_batch *batch, struct mg_replica *replica,
                      bool (*stopped)(void *arg), void *arg);
void mg_kv_batch_fini(struct mg_kv_batch *batch);
/* Copies op and its bytes.  Fails: as a call of kv_groups.h, for any operation of the batch. */
int mg_kv_batch_add(struct mg_kv_batch *batch, const struct mg_kv_op *op, struct mg_error *err);
/* The last batch.  Fails likewise. */
int mg_kv_batch_finish(struct mg_kv_batch *batch, struct mg_error *err);

#endif
