/*
 * kv_feed.h - what has changed lately in a key-value group, in memory, for those who watch keys.
 *
 *     add, mark, add, back, ... -> publish     who applies: a change is told once its batch is
 *                                              written, and what goes back leaves no trace
 *     read -> next, next, ... -> end           any thread, from its place on
 *
 * Changes lie behind one another in segments, which are counted: a reader holds one of them, not
 * the lock, while it looks.  A change has its version as its number, so a place is a version, and
 * means the same on every replica.
 *
 * Bound: `bytes_max`, but the newest segment stays; the oldest one goes first.  What lies before
 * it, before a start and before another node's snapshot is not known: MG_E_GONE.
 */
#ifndef MG_REPLICA_KV_FEED_H
#define MG_REPLICA_KV_FEED_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

#define MG_KV_FEED_BYTES (8u << 20)        /* of one group */
#define MG_KV_FEED_NODE_BYTES (64u << 20)  /* of all of a node: with more of them each has less */
#define MG_KV_FEED_SEGMENT_BYTES (256u << 10) /* or a change that is larger */

struct mg_kv_feed;

enum mg_kv_change_kind {
	MG_KV_CHANGE_PUT = 1,
	MG_KV_CHANGE_DELETE,
	MG_KV_CHANGE_EXPIRE,
};

struct mg_kv_change {
	enum mg_kv_change_kind kind;
	uint64_t version, created_ms, changed_ms;
	uint64_t expiry_ms; /* of a put; 0: none */
	struct mg_str space, key;
	struct mg_str value, type, encoding; /* of a put */
	uint64_t size; /* of its value, which is not told when it is in parts (kv_large.c) */
};

/* Where a reader is: what has this version or a lower one is behind it. */
struct mg_kv_place {
	uint64_t version;
	uint64_t position; /* ours: in bytes since the start, a hint; 0: not known */
};

/* The feed begins behind this version. */
struct mg_kv_feed *mg_kv_feed_new(uint64_t version);
void mg_kv_feed_free(struct mg_kv_feed *feed); /* NULL is fine */
/* Before the first change.  bytes_max 0: MG_KV_FEED_BYTES.  told: whenever changes were published,
 * on the thread that has done so, which it must not hold up; NULL: nobody. */
void mg_kv_feed_set(struct mg_kv_feed *feed, size_t bytes_max, void (*told)(void *arg), void *arg);

/* ---- who applies, one thread at a time ---- */

/* Copies it. */
void mg_kv_feed_add(struct mg_kv_feed *feed, const struct mg_kv_change *change);
size_t mg_kv_feed_mark(const struct mg_kv_feed *feed);
void mg_kv_feed_back(struct mg_kv_feed *feed, size_t mark); /* what was added since was not */
void mg_kv_feed_publish(struct mg_kv_feed *feed);
/* Nothing before this version is known any more, nor what was added. */
void mg_kv_feed_reset(struct mg_kv_feed *feed, uint64_t version);

/* ---- readers: any thread ---- */

/* Of the last change that is told. */
uint64_t mg_kv_feed_version(struct mg_kv_feed *feed);
/* How many bytes of changes are not behind a place that a read has given, and how many a feed keeps
 * at most. */
uint64_t mg_kv_feed_behind(struct mg_kv_feed *feed, const struct mg_kv_place *place);
size_t mg_kv_feed_bytes_max(const struct mg_kv_feed *feed);

/* A piece of what follows a place. */
struct mg_kv_changes {
	struct mg_kv_segment *segment; /* NULL: there is nothing */
	size_t at, end;
};

/* Fails: MG_E_GONE what follows the place is not kept any more. */
int mg_kv_feed_read(struct mg_kv_feed *feed, struct mg_kv_place *place,
                    struct mg_kv_changes *out, struct mg_error *err);
/* False: the end of the piece; read again.  The place moves behind the change, which is valid until
 * end. */
bool mg_kv_changes_next(struct mg_kv_changes *changes, struct mg_kv_place *place,
                        struct mg_kv_change *out);
void mg_kv_changes_end(struct mg_kv_changes *changes); /* again is fine */

#endif
