/*
 * staging.h - rows of a statement that are more than its redo should hold: into hidden tables of
 * the shards, part by part, and in one moment into their own.
 *
 *     new -> take (the redo has grown), take ... -> publish -> commit in its epoch -> close
 *
 * A part is an entry of each shard like any other write (mg_replica_append_in), into a table that
 * no version of the catalog names. What the commit then says is only: these rows, too. So memory
 * and entries stay small, and all of it happens or nothing. Rows that are inserted lie in a table
 * like their own, and are moved as they are (redo.h); the file holds them once.
 *
 * Rule: until the commit only this statement knows of its tables. It drops them when it fails; when
 * it cannot, whoever coordinates next does (sweep.h).
 *
 * Thread: the query's.  Blocks as a commit does.
 */
#ifndef MG_EXEC_STAGING_H
#define MG_EXEC_STAGING_H

#include "catalog/catalog.h"
#include "exec/engine.h"
#include "replica/redo.h"

#define MG_STAGING_BYTES_MAX (32u << 20)

struct mg_staging;

/* So much of a statement's redo may lie in memory. */
size_t mg_staging_bytes(const struct mg_engine *engine);

/* epoch: in which the statement runs; 0: the one of the moment at which it first has too many rows.
 */
struct mg_staging *mg_staging_new(struct mg_engine *engine, uint64_t epoch);
/* All rows of this table leave the redo; other operations stay.  staging: the
 * statement's (mg_write_request.flush).  Fails: as mg_replica_append_in; nothing has happened then,
 * also when it is not known whether a part was stored. */
int mg_staging_take(void *staging, const struct mg_catalog_data *data,
                    const struct mg_table *table, struct mg_redo *redo, struct mg_error *err);
/* When rows were taken: what the redo still has is taken as well, so that all stay in their order,
 * and behind it come operations that make of them what they would have been. */
int mg_staging_publish(struct mg_staging *staging, struct mg_redo *redo, struct mg_error *err);
/* In which the redo is to be committed; 0: nothing was taken, and any will do. */
uint64_t mg_staging_epoch(const struct mg_staging *staging);
/* code: of the commit, or of what has failed before. NULL is fine. */
void mg_staging_close(struct mg_staging *staging, int code);

#endif
