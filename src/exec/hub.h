/*
 * hub.h - the server's side of its workers: who is connected, which shards each holds, which
 * queries each works for.
 *
 * A worker logs in by the upgrade to /worker, says hello, is leased shards, fetches their files by
 * chunks, proves each by its SHA-256, and is then ready.  A lease ends with the connection or with
 * MG_HUB_SILENCE_MS without a sign of life.  From then on its copies follow: what a shard here has
 * applied it is sent, and applies too (hub_follow.c).  Every shard also lies here, so a lost worker
 * is a gap that the server fills.
 *
 * Thread: any.
 */
#ifndef MG_EXEC_HUB_H
#define MG_EXEC_HUB_H

#include "base/error.h"
#include "exec/channel.h"
#include "exec/engine.h"

#define MG_HUB_WORKERS_MAX 1000
#define MG_HUB_SILENCE_MS 7000
#define MG_HUB_CHUNK (1u << 20)

#define MG_HUB_TOLD_MS 10000

struct mg_hub;
struct mg_worker;
struct mg_attempt;

int mg_hub_new(struct mg_hub **out, struct mg_engine *engine, const char *data_dir,
               struct mg_error *err);
void mg_hub_free(struct mg_hub *hub);
/* Before the first worker: how long one may be silent, the bytes of one message; 0: as it is. */
void mg_hub_limits(struct mg_hub *hub, uint64_t silence_ms, size_t message_max);
/* Take over an authenticated upgrade to /worker; on the request's loop. */
void mg_hub_accept(struct mg_hub *hub, struct mg_http_request *request);
/* Once a second: pings, ends leases of silent workers. */
void mg_hub_tick(struct mg_hub *hub);
size_t mg_hub_nodes(struct mg_hub *hub, struct mg_node_info *infos, size_t max);
/* Told of "worker.joined", "worker.ready", "worker.full", "worker.draining", "worker.left"; must be
 * short and not call the hub.  NULL: nobody. */
void mg_hub_on_event(struct mg_hub *hub,
                     void (*on_event)(void *arg, const char *event, const char *worker), void *arg);
/* A copy of a shard on a worker. */
struct mg_hub_copy {
	const char *worker;
	uint32_t shard;
	const char *state; /* "copying", "ready"; "behind": it lacks what has been applied here */
	bool known;        /* index, lag and lag_ms are */
	uint64_t index;    /* of the shard's log, applied there */
	uint64_t lag;      /* entries of the log that were applied here and not there */
	uint64_t lag_ms;   /* for how long the first of them has been here */
};
/* Each of them; must not call the hub. */
void mg_hub_copies(struct mg_hub *hub, void (*each)(void *arg, const struct mg_hub_copy *copy),
                   void *arg);
uint64_t mg_hub_bytes_moved(struct mg_hub *hub);
/* Stop giving a worker new work; true when it is known. */
bool mg_hub_drain(struct mg_hub *hub, const char *id);

/* ---- files to copy ---- */
/* A shard whose file a worker wants and that is not offered: the next one behind *shard. */
bool mg_hub_wanted_shard(struct mg_hub *hub, uint32_t *shard);
/* Where a copy of its file belongs, to be offered.  Owns: the caller. */
char *mg_hub_copy_path(const struct mg_hub *hub, uint32_t shard);
/* This file, which does not change, holds the shard as of this index.  False: it is of no use, for
 * what came behind it is forgotten by now, or it cannot be opened. */
bool mg_hub_offer(struct mg_hub *hub, uint32_t shard, uint64_t index, uint64_t term,
                  const char *path, const char *sha256, uint64_t bytes);

/* ---- for queries ---- */
/* Workers that are ready, each with a reference and the shards that it holds (ids from 1, sorted)
 * and is not behind with. */
struct mg_hub_member {
	struct mg_worker *worker;
	uint32_t *shards;
	size_t shard_count;
	unsigned threads;
};
void mg_hub_members(struct mg_hub *hub, struct mg_arena *arena, struct mg_hub_member **out,
                    size_t *count);
/* Workers that are connected. */
uint32_t mg_hub_workers(struct mg_hub *hub);
/* The coordinator of writes, another server, has told how many are connected there; and whether
 * some may be: it has not told for MG_HUB_TOLD_MS, or it has any. */
void mg_hub_told_elsewhere(struct mg_hub *hub, uint32_t workers);
bool mg_hub_may_be_elsewhere(struct mg_hub *hub);
/* Threads that this server's part in a statement should count on: its share of the cores when other
 * nodes run on them as well. */
unsigned mg_hub_server_threads(struct mg_hub *hub);
/* It has not answered in time: no query asks it until it has said something.  An attempt's lock may
 * be held. */
void mg_hub_is_late(struct mg_hub *hub, struct mg_worker *worker);
struct mg_worker *mg_worker_ref(struct mg_worker *worker);
void mg_worker_unref(struct mg_worker *worker);
const char *mg_worker_id(const struct mg_worker *worker);
struct mg_channel *mg_worker_channel(struct mg_worker *worker);
/* A query draws its number, and only then looks for members: copies that it finds stay until it is
 * removed. */
uint64_t mg_hub_add_query(struct mg_hub *hub);
/* From now on frames that name the number reach it (mg_attempt_on_...), until removed. */
void mg_hub_show_query(struct mg_hub *hub, uint64_t number, struct mg_attempt *query);
/* Counts that this worker, or with NULL the server, reads these shards for a query that workers may
 * take part in.  False when the worker is lost: if that was before mg_hub_show_query, nobody else
 * will tell. */
bool mg_hub_ask(struct mg_hub *hub, struct mg_worker *worker, const uint32_t *shards, size_t count);
void mg_hub_remove_query(struct mg_hub *hub, uint64_t number);

#endif
