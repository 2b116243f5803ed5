/*
 * kv_watch.h - the changes of a namespace's keys over all shards, from a place on.
 *
 *     open -> mg_kv_await_begin -> begin -> next, next, ..., rest -> token      again when told
 *     close
 *
 * A place is one version for each shard, and as a token a text for clients, "v1.12.0.7": versions
 * are those of the groups, so every server understands it, and finds what follows in its feeds
 * (kv_feed.h).  Changes of one key come in order, each once; those of different shards as they lie.
 *
 * Thread: a watch has one at a time, which may be a loop: nothing here waits.
 */
#ifndef MG_REPLICA_KV_WATCH_H
#define MG_REPLICA_KV_WATCH_H

#include "replica/kv_feed.h"
#include "replica/kv_groups.h"

#include <stdatomic.h>

#define MG_KV_WATCH_TURN_BYTES (64u << 10) /* looked at until next says LATER */

/* ---- who wants to hear that something has changed ---- */

/* Owned by who listens, from listen to unlisten. */
struct mg_kv_listener {
	/* Where changes are applied, and once until mg_kv_heard: it must be quick.  Not any more after
	 * unlisten. */
	void (*wake)(void *arg);
	void *arg;
	/* From here on ours. */
	atomic_bool woken;
	struct mg_kv_listener *next;
};

void mg_kv_listen(struct mg_replica *replica, struct mg_kv_listener *listener);
void mg_kv_unlisten(struct mg_replica *replica, struct mg_kv_listener *listener);
/* What is published from now on wakes again; then look. */
void mg_kv_heard(struct mg_kv_listener *listener);

/* All listeners of a node; its feeds ring it. */
struct mg_kv_bell *mg_kv_bell_new(void);
void mg_kv_bell_free(struct mg_kv_bell *bell); /* NULL is fine */
void mg_kv_bell_ring(void *bell);

/* ---- a watch ---- */

struct mg_kv_watch;

enum mg_kv_next {
	MG_KV_NEXT_CHANGE,
	MG_KV_NEXT_NONE,  /* until a listener is woken */
	MG_KV_NEXT_LATER, /* there may be more: let others have their turn */
	MG_KV_NEXT_GONE,  /* err: what follows is not kept any more */
};

/* space, prefix: copied.  from: NULL, "" or "now": what changes after begin; else a token.  Fails:
 * MG_E_USAGE it is none, or of a cluster with other shards. */
int mg_kv_watch_open(struct mg_kv_watch **out, struct mg_replica *replica, struct mg_str space,
                     struct mg_str prefix, const char *from, struct mg_error *err);
void mg_kv_watch_close(struct mg_kv_watch *watch); /* NULL is fine */
/* any: nobody has awaited what the token's server had.  Fails: MG_E_GONE the token is too old, or
 * is ahead of this cluster. */
int mg_kv_watch_begin(struct mg_kv_watch *watch, bool any, struct mg_error *err);
/* *out is valid until the next call, or rest. */
enum mg_kv_next mg_kv_watch_next(struct mg_kv_watch *watch, struct mg_kv_change *out,
                                 struct mg_error *err);
/* Holds nothing of the feeds until next; to be called where one stops before NONE and LATER. */
void mg_kv_watch_rest(struct mg_kv_watch *watch);
/* Bytes of changes that lie behind it since it has begun, whether they were asked for or not. */
uint64_t mg_kv_watch_looked(const struct mg_kv_watch *watch);
void mg_kv_watch_token(const struct mg_kv_watch *watch, struct mg_sb *out);
/* A token, by one call for each shard, from 0. */
void mg_kv_token_add(struct mg_sb *out, uint32_t shard, uint64_t version);
/* It had seen all there was once, and is about to lose what it has not: half of what a feed keeps
 * lies before it. */
bool mg_kv_watch_is_slow(const struct mg_kv_watch *watch);

#endif
