/*
 * worker_follow.h - a worker's copies of shards follow them: what a server's shard has applied is
 * applied here, too, and queries take their snapshots at exactly the places that they were asked
 * for.
 *
 *     open -> batch, batch, ... -> close
 *             pin (query, shard -> index) -> "pinned" or "missed" -> take, or drop
 *
 * Rule: one thread applies and takes the snapshots.  So a snapshot of several shards is of all of
 * them as they stand between two batches; and a copy does not go beyond a place that the oldest pin
 * waits for.  A pin that cannot be had is answered at once.
 *
 * A copy is written to its file from time to time; what is not there a server sends again.
 *
 * Thread: open, close: the fetcher's; batch, pin, take, drop, connect: the channel's.  Bound: a
 * copy's queue, MG_FOLLOWER_QUEUE_MAX.
 */
#ifndef MG_EXEC_WORKER_FOLLOW_H
#define MG_EXEC_WORKER_FOLLOW_H

#include "base/json.h"
#include "exec/channel.h"
#include "store/duck.h"

#define MG_FOLLOWER_QUEUE_MAX (192u << 20)
#define MG_FOLLOWER_PINS_MAX 512

struct mg_follower;

struct mg_follower_options {
	struct mg_duck *duck;
	/* On the applying thread: this copy is of a file that others use, too, and is about to change.
	 * It waits until it is closed and opened again. */
	void (*needs_own)(void *arg, uint32_t shard);
	/* Applying to it has failed: it is of no use any more. */
	void (*broken)(void *arg, uint32_t shard);
	void *arg;
};

int mg_follower_new(struct mg_follower **out, const struct mg_follower_options *options,
                    struct mg_error *err);
void mg_follower_stop(struct mg_follower *follower); /* ends its thread; again is fine */
/* Every copy is closed; stops; NULL is fine. */
void mg_follower_free(struct mg_follower *follower);

/* The database "s<shard>" is attached; `own`: for writing.  What of it has been applied. */
int mg_follower_open(struct mg_follower *follower, uint32_t shard, bool own, uint64_t *index,
                     uint64_t *term, struct mg_error *err);
/* Write it to its file, and let go of it.  stays: it is opened again, at the same place, and what
 * came for it waits for that. */
void mg_follower_close(struct mg_follower *follower, uint32_t shard, bool stays);
bool mg_follower_at(struct mg_follower *follower, uint32_t shard, uint64_t *index,
                    uint64_t *term); /* false: it is not open */

void mg_follower_connect(struct mg_follower *follower, struct mg_channel *channel);
/* What has come and is not applied is forgotten, and all pins. */
void mg_follower_disconnect(struct mg_follower *follower);
/* Fails: MG_E_PROTOCOL. */
int mg_follower_batch(struct mg_follower *follower, uint32_t shard, struct mg_buf *piece,
                      struct mg_error *err);
/* at: [[shard, index], ...].  The answer goes to the server.  Fails: MG_E_PROTOCOL. */
int mg_follower_pin(struct mg_follower *follower, uint64_t query, const struct mg_json *at,
                    struct mg_error *err);
/* The connection whose transaction is the snapshot, which is the caller's; NULL: there is none. */
struct mg_duck_conn *mg_follower_take(struct mg_follower *follower, uint64_t query);
void mg_follower_drop(struct mg_follower *follower, uint64_t query); /* none is fine */

#endif
