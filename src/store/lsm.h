/*
 * lsm.h - ordered keys and their values on disk: RocksDB behind a small face.
 *
 *     open -> batch_new -> put, remove, find -> write        what was written is in memory
 *             flush                                           and now on disk
 *             get; iter_open -> next ... -> iter_close
 *             view_new -> export_                             a range as of one moment, as a file
 *     close
 *
 * Rule: it has no log of its own.  What a crash leaves is all batches up to one of them, in the
 * order in which they were written, and at least those before the last flush; so a batch says by
 * itself how far its writer has come, and its writer's log does the rest.
 *
 * Thread: any, at once; a batch, an iterator and a value belong to one.
 */
#ifndef MG_STORE_LSM_H
#define MG_STORE_LSM_H

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>

struct mg_lsm;
struct mg_lsm_batch;
struct mg_lsm_iter;
struct mg_lsm_view;

struct mg_lsm_options {
	const char *dir;       /* made when missing; its parent is there */
	size_t memtable_bytes; /* until a sorted table is written; 0: 16 MiB */
	size_t cache_bytes;    /* of blocks of sorted tables; 0: 32 MiB */
	size_t values_bytes;   /* of values that were read lately; 0: 32 MiB */
};

const char *mg_lsm_version(void); /* "7.8.3": of the files, for manifests */

/* Owns: the caller.  Fails: MG_E_CORRUPT, MG_E_IO, MG_E_DISK_FULL. */
int mg_lsm_open(struct mg_lsm **out, const struct mg_lsm_options *options, struct mg_error *err);
void mg_lsm_close(struct mg_lsm *lsm); /* flushes, when the disk has room; NULL is fine */

/* ---- reading ---- */

struct mg_lsm_value {
	struct mg_str bytes;
	void *pin;
	struct mg_lsm_record *record;
};

/* MG_E_NOT_FOUND, without a message, when there is none.  Fails also: MG_E_CORRUPT, MG_E_IO. */
int mg_lsm_get(struct mg_lsm *lsm, struct mg_str key, struct mg_lsm_value *out,
               struct mg_error *err);
/* Several keys at once, for who reads and will read them again (lsm_cache.h): what is not there has
 * bytes.ptr NULL.  Fails: likewise, and then there is nothing to free. */
int mg_lsm_get_many(struct mg_lsm *lsm, const struct mg_str *keys, size_t count,
                    struct mg_lsm_value *out, struct mg_error *err);
void mg_lsm_value_free(struct mg_lsm_value *value);

/* Keys from `first` to before `end`, as of this moment; `end` empty: to the last one. */
struct mg_lsm_iter *mg_lsm_iter_open(struct mg_lsm *lsm, struct mg_str first, struct mg_str end);
/* False: the end, or an error, which iter_close tells.  Both are valid until the next call. */
bool mg_lsm_iter_next(struct mg_lsm_iter *iter, struct mg_str *key, struct mg_str *value);
/* The end, which next has said, is an error. */
bool mg_lsm_iter_failed(const struct mg_lsm_iter *iter);
/* Go on at the first key that is not before this one. */
void mg_lsm_iter_seek(struct mg_lsm_iter *iter, struct mg_str key);
int mg_lsm_iter_close(struct mg_lsm_iter *iter, struct mg_error *err);

/* ---- writing ---- */

struct mg_lsm_batch *mg_lsm_batch_new(struct mg_lsm *lsm);
void mg_lsm_batch_free(struct mg_lsm_batch *batch); /* NULL is fine */
void mg_lsm_batch_put(struct mg_lsm_batch *batch, struct mg_str key, struct mg_str value);
void mg_lsm_batch_remove(struct mg_lsm_batch *batch, struct mg_str key);
/* As mg_lsm_get, but sees what the batch will have written. */
int mg_lsm_batch_find(struct mg_lsm_batch *batch, struct mg_str key, struct mg_lsm_value *out,
                      struct mg_error *err);
/* As mg_lsm_iter_open, but sees what the batch will have written so far. */
struct mg_lsm_iter *mg_lsm_batch_iter(struct mg_lsm_batch *batch, struct mg_str first,
                                      struct mg_str end);
/* Back to the last mark: what was put and removed since is undone. */
void mg_lsm_batch_mark(struct mg_lsm_batch *batch);
void mg_lsm_batch_back(struct mg_lsm_batch *batch);
/* All of it or nothing; the batch is empty then.  May wait for sorted tables to be written and
 * merged, unless `now`: then MG_E_BUSY, with the batch as it was.  Fails: MG_E_IO, MG_E_DISK_FULL.
 */
int mg_lsm_batch_write(struct mg_lsm_batch *batch, bool now, struct mg_error *err);

/* Returns when all that was written is durable.  Fails: MG_E_IO; MG_E_DISK_FULL, also when less
 * than 32 MB are free, and then nothing was tried. */
int mg_lsm_flush(struct mg_lsm *lsm, struct mg_error *err);

/* The first key behind all that begin with the prefix, in room for prefix.len bytes; len 0: there
 * is none. */
struct mg_str mg_lsm_behind(struct mg_str prefix, char *room);

/* ---- a range as a file ---- */

struct mg_lsm_view *mg_lsm_view_new(struct mg_lsm *lsm); /* what is there now */
void mg_lsm_view_free(struct mg_lsm_view *view);         /* NULL is fine */
/* As mg_lsm_iter_open, of keys that begin with the prefix, as the view holds them; past the
 * cache. */
struct mg_lsm_iter *mg_lsm_view_iter(struct mg_lsm_view *view, struct mg_str prefix);
/* What the view holds of keys that begin with the prefix (something must) becomes a durable file.
 * A file that was there is replaced. */
int mg_lsm_export(struct mg_lsm *lsm, struct mg_lsm_view *view, struct mg_str prefix,
                  const char *path, struct mg_error *err);
/* Keys that begin with the prefix become those of a file that export has made; durable then.  The
 * file stays.  A crash in between leaves what there was, or nothing, or the new ones. */
int mg_lsm_import(struct mg_lsm *lsm, struct mg_str prefix, const char *path,
                  struct mg_error *err);

#endif
