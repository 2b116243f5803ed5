/*
 * shard_undo.h - what a checkpoint overwrites of a shard's file is kept until it is complete.
 *
 * DuckDB writes the rows of a checkpoint to free blocks, and its header last, into the older of two
 * places.  But its lists of tables and row groups lie in blocks that they share with those of the
 * checkpoint before, and these it writes where they are.  A process that is killed, or a machine
 * that loses power, in the middle of such a write leaves a block whose checksum is wrong, and
 * neither checkpoint can be read.
 *
 *     save     headers and those blocks -> NNNN.duckdb.undo, on the disk; then the checkpoint
 *     forget   the checkpoint's header is on the disk: the copy is of no use
 *     apply    before the file is opened: where the header has not come, the blocks go back
 *
 * A rollback journal, as of SQLite ("Atomic Commit In SQLite", 3.5).  Whoever puts another file in
 * the place of NNNN.duckdb removes the journal first: it would be taken for that one's.
 *
 * Thread: one at a time for a file.  Errors: those of files; MG_E_CORRUPT.
 */
#ifndef MG_STORE_SHARD_UNDO_H
#define MG_STORE_SHARD_UNDO_H

#include "store/duck.h"

/* `path` is attached as `database`, and nobody checkpoints it meanwhile.  A journal that is there
 * since a checkpoint that failed stays: what is in the file now may be torn. */
int mg_shard_undo_save(struct mg_duck_conn *conn, const char *database, const char *path,
                       struct mg_error *err);
void mg_shard_undo_forget(const char *path);
/* The file is attached nowhere.  Nothing to do, nearly always; also when there is no file. */
int mg_shard_undo_apply(const char *path, struct mg_error *err);
/* Absent is fine.  It is gone for good with the name that is put there next (mg_file_rename). */
int mg_shard_undo_remove(const char *path, struct mg_error *err);

#endif
