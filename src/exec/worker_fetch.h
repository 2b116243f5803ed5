/*
 * worker_fetch.h - copies of shard files on a worker: leased, fetched, verified, attached.
 *
 * Thread: lease, chunk, connect and disconnect by the channel's thread; the work is done by the
 * fetcher's own.
 */
#ifndef MG_EXEC_WORKER_FETCH_H
#define MG_EXEC_WORKER_FETCH_H

#include "exec/channel.h"
#include "store/duck.h"

struct mg_fetch;

int mg_fetch_new(struct mg_fetch **out, struct mg_duck *duck, const char *cache_dir,
                 struct mg_error *err);
void mg_fetch_free(struct mg_fetch *fetch); /* NULL is fine */
void mg_fetch_connect(struct mg_fetch *fetch, struct mg_channel *channel);
void mg_fetch_disconnect(
	struct mg_fetch *fetch); /* what is held stays, and is shown again after connect */
int mg_fetch_lease(struct mg_fetch *fetch, const struct mg_json *json, struct mg_error *err);
int mg_fetch_chunk(struct mg_fetch *fetch, uint32_t shard, uint32_t chunk, struct mg_buf *payload,
                   struct mg_error *err);
bool mg_fetch_holds(struct mg_fetch *fetch, uint32_t shard); /* verified and attached; any thread */

#endif
