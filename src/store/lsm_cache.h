/*
 * lsm_cache.h - values that were read lately, by their keys, for lsm.c: a look here costs a small
 * part of one into the tree.
 *
 *     reader: find -> the tree, for what was not found -> put
 *     writer: begin_write -> the tree -> end_write
 *
 * Rule: what it has is what the tree says.  Who writes drops keys before the tree has their new
 * values, and what was read while somebody wrote is not put.
 *
 * Thread: any, at once.  Bound: bytes; keys and values of more than MG_LSM_CACHED_MAX stay out.
 */
#ifndef MG_STORE_LSM_CACHE_H
#define MG_STORE_LSM_CACHE_H

#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

#define MG_LSM_CACHED_MAX 4096u /* bytes of a key with its value */

struct mg_lsm_cache;
struct mg_lsm_record; /* a key and its value, counted */

struct mg_lsm_cache *mg_lsm_cache_new(size_t bytes);
void mg_lsm_cache_free(struct mg_lsm_cache *cache); /* NULL is fine */

uint64_t mg_lsm_cache_hash(struct mg_str key);

/* Of each key its record, to be unreferenced, and its value; NULL: it is not here.  Returns what
 * put wants to know. */
uint64_t mg_lsm_cache_find(struct mg_lsm_cache *cache, const struct mg_str *keys,
                           const uint64_t *hashes, size_t count, struct mg_lsm_record **records,
                           struct mg_str *values);
void mg_lsm_record_unref(struct mg_lsm_record *record);
/* What the tree has said since. */
void mg_lsm_cache_put(struct mg_lsm_cache *cache, uint64_t found, struct mg_str key, uint64_t hash,
                      struct mg_str value);

/* Keys that change from here on, by their hashes. */
void mg_lsm_cache_begin_write(struct mg_lsm_cache *cache, const uint64_t *hashes, size_t count);
void mg_lsm_cache_begin_write_any(struct mg_lsm_cache *cache); /* they may be all */
void mg_lsm_cache_end_write(struct mg_lsm_cache *cache);
size_t mg_lsm_cache_bytes(struct mg_lsm_cache *cache); /* of records, now */

#endif
