/*
 * kv_scan.h - the keys of a namespace over all shards, in order.
 *
 *     open -> next, next, ... -> close
 *
 * Each shard is read as of one moment, which is not before `open` was called: what was acknowledged
 * by then is seen.  Of several shards these moments may differ by some milliseconds.
 *
 * Thread: one at a time, and one that may wait: neither a loop nor the raft thread; but await_begin
 * is for any.
 */
#ifndef MG_REPLICA_KV_SCAN_H
#define MG_REPLICA_KV_SCAN_H

#include "replica/kv_groups.h"

struct mg_kv_scan;

/* From `first` to before `end` (len 0: all).  any: as this node has it, asking nobody.  Fails:
 * MG_E_UNSUPPORTED the cluster has no such shards; as a read of kv_groups.h. */
int mg_kv_scan_open(struct mg_kv_scan **out, struct mg_replica *replica, struct mg_str space,
                    struct mg_str first, struct mg_str end, bool any, struct mg_error *err);
/* False: the end, or an error, which close tells.  Valid until the next call. */
bool mg_kv_scan_next(struct mg_kv_scan *scan, struct mg_str *key, struct mg_kv_found *found);
/* The value, in parts, of the key that next has given; as mg_kv_iter_whole. */
bool mg_kv_scan_whole(struct mg_kv_scan *scan, struct mg_str *value);
/* From where one must watch to miss nothing that this scan does not show (kv_watch.h). */
void mg_kv_scan_token(const struct mg_kv_scan *scan, struct mg_sb *out);
int mg_kv_scan_close(struct mg_kv_scan *scan, struct mg_error *err); /* NULL is fine */

/* done: when what was acknowledged before can be read here, of all shards; as of a call of
 * kv_groups.h, on its thread. */
void mg_kv_await_begin(struct mg_replica *replica,
                       void (*done)(void *arg, const struct mg_error *err), void *arg);
/* The same, and waits for it. */
int mg_kv_await(struct mg_replica *replica, struct mg_error *err);

#endif
