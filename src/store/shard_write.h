/*
 * shard_write.h - changes to the file of one shard, by its log's entries.
 *
 *     open -> begin -> insert, replace, delete, create, drop ... -> commit -> ... -> checkpoint
 *
 * The file is attached with RECOVERY_MODE no_wal_writes: a commit is in memory, and the file holds
 * what the last checkpoint wrote.  The applied index stands in `_mg.meta` of the same file and
 * changes in the same transaction, so after a crash it says exactly what the file holds.
 *
 * Rule: no statement here is an UPDATE: with one, DuckDB refuses checkpoints while older readers
 * run.  A row changes by DELETE and INSERT in one transaction.
 *
 * What the state machine holds beside the tables (transactions in doubt) is given to the checkpoint
 * as bytes, which lie in `_mg.pending`, made when there are any.
 *
 * Thread: one at a time.
 */
#ifndef MG_STORE_SHARD_WRITE_H
#define MG_STORE_SHARD_WRITE_H

#include "store/duck.h"

struct mg_shard_writer;

/* `database` is attached for writing.  Owns a connection of its own. */
int mg_shard_writer_open(struct mg_shard_writer **out, struct mg_duck *duck, const char *database,
                         struct mg_error *err);
void mg_shard_writer_close(struct mg_shard_writer *writer);             /* NULL is fine */
uint64_t mg_shard_writer_applied(const struct mg_shard_writer *writer); /* committed in memory */
uint64_t mg_shard_writer_term(const struct mg_shard_writer *writer);    /* of that entry */

/* Who wants to know what rows were before they are replaced or deleted: "_mg_rid", "_mg_slot" and
 * the user's columns, the rows in any order, in one batch or several, while the call that takes
 * them away runs. */
struct mg_shard_watch {
	int (*old_rows)(void *arg, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch, uint32_t rows,
	                struct mg_error *err);
	void *arg;
};
/* watch: borrowed; NULL: nobody. */
void mg_shard_writer_watch(struct mg_shard_writer *writer, const struct mg_shard_watch *watch);
bool mg_shard_writer_has(const struct mg_shard_writer *writer, const char *schema,
                         const char *table);
/* The id that the next inserted row gets; those of one batch follow each other. */
uint64_t mg_shard_writer_next_rid(const struct mg_shard_writer *writer);

int mg_shard_writer_begin(struct mg_shard_writer *writer, struct mg_error *err);
/* Rows as redo.h says; row ids of an INSERT are drawn here. */
int mg_shard_writer_insert(struct mg_shard_writer *writer, const char *schema, const char *table,
                           struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                           struct mg_error *err);
int mg_shard_writer_replace(struct mg_shard_writer *writer, const char *schema, const char *table,
                            struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                            struct mg_error *err);
int mg_shard_writer_delete(struct mg_shard_writer *writer, const char *schema, const char *table,
                           struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                           struct mg_error *err);
int mg_shard_writer_create(struct mg_shard_writer *writer, const char *schema, const char *table,
                           const char *columns, struct mg_error *err);
int mg_shard_writer_drop(struct mg_shard_writer *writer, const char *schema, const char *table,
                         struct mg_error *err);

/* The rows of `from`, which goes, with their ids become rows of `to`, of the same schema and with
 * the same columns; without it they are gone.  (shard_move.c) */
int mg_shard_writer_move(struct mg_shard_writer *writer, const char *schema, const char *from,
                         const char *to, struct mg_error *err);

/* The rows of a table in which rows were only inserted, in that order, in batches: the columns,
 * then "slot".  batch may write to other tables.  (shard_read.c) */
int mg_shard_writer_read(struct mg_shard_writer *writer, const char *schema, const char *table,
                         int (*batch)(void *arg, struct mg_buf *ipc_schema,
                                      struct mg_buf *ipc_batch, uint32_t rows,
                                      struct mg_error *err),
                         void *arg, struct mg_error *err);

/* The tables that it has now, but for ours (_mg): "schema\ntable\n" of each, sorted.  Owns: the
 * caller. */
char *mg_shard_writer_tables(const struct mg_shard_writer *writer);

/* All entries up to `index` are in. */
int mg_shard_writer_commit(struct mg_shard_writer *writer, uint64_t index, uint64_t term,
                           struct mg_error *err);
void mg_shard_writer_rollback(struct mg_shard_writer *writer);
/* Write all that is committed to the file, durably, and `pending` with it.  `path` is the file's:
 * until its new checkpoint is whole, the one before can be had back (shard_undo.h); NULL: a file
 * that may be lost.  Fails: MG_E_BUSY when a reader with an older snapshot is in the way (after
 * DDL): later. */
int mg_shard_writer_checkpoint(struct mg_shard_writer *writer, const void *pending, size_t size,
                               const char *path, struct mg_error *err);
/* What the last checkpoint was given; NULL when nothing.  The caller unrefs. */
int mg_shard_writer_pending(struct mg_shard_writer *writer, struct mg_buf **out,
                            struct mg_error *err);

#endif
