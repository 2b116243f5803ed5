/*
 * worker_fetch.h - copies of shard files on a worker: leased, fetched, verified, attached; and how
 * many threads the engine has, which changes as slowly.
 *
 * What this machine cannot keep (the cache is full, its disk is, a file cannot be read) is
 * declined: the server gives it to another or reads it itself, and the worker does its part with
 * the rest.
 *
 * Thread: lease, threads, chunk, connect and disconnect by the channel's thread; the work is done
 * by the fetcher's own.
 */
#ifndef MG_EXEC_WORKER_FETCH_H
#define MG_EXEC_WORKER_FETCH_H

#include "exec/channel.h"
#include "exec/worker_follow.h"
#include "store/duck.h"

struct mg_fetch;

/* threads: that the engine was opened with; cache_bytes: what all copies in the folder may take
 * together. */
int mg_fetch_new(struct mg_fetch **out, struct mg_duck *duck, unsigned threads,
                 const char *cache_dir, uint64_t cache_bytes, struct mg_error *err);
void mg_fetch_free(struct mg_fetch *fetch); /* NULL is fine */
void mg_fetch_connect(struct mg_fetch *fetch, struct mg_channel *channel);
void mg_fetch_disconnect(
	struct mg_fetch *fetch); /* what is held stays, and is shown again after connect */
int mg_fetch_lease(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err);
/* The engine is to use so many threads.  Fewer than now wait for the tasks that run to end. */
void mg_fetch_threads(struct mg_fetch *fetch, unsigned threads);
/* Data frames of kinds CHUNK and HASHES. */
int mg_fetch_chunk(struct mg_fetch *fetch, const struct mg_frame *frame, struct mg_buf *payload,
                   struct mg_error *err);
void mg_fetch_hashes(struct mg_fetch *fetch, const struct mg_frame *frame, struct mg_buf *payload);
/* Which cluster it is, before its leases. */
void mg_fetch_welcome(struct mg_fetch *fetch, const char *cluster);
/* Applies what comes for the copies; borrowed. */
struct mg_follower *mg_fetch_follower(struct mg_fetch *fetch);
/* The server takes a lease back: the copy goes when no query has it pinned. */
int mg_fetch_release(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err);
/* A query begins to use a shard; false when it is not held (verified and attached).  Any thread. */
bool mg_fetch_pin(struct mg_fetch *fetch, uint32_t shard);
void mg_fetch_unpin(struct mg_fetch *fetch, uint32_t shard);

#endif
