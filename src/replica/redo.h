/*
 * redo.h - what a transaction writes, shard by shard, as rows: the payload of log entries.
 *
 * Text never goes into the log: random(), now() and defaults are evaluated once, by whoever makes
 * the redo, so every replica stores the same values.  A row's id is drawn by the shard's state
 * machine when it applies an INSERT, in log order, and so is equal everywhere too.
 *
 * As bytes (little-endian), the operations of one shard one after the other:
 *
 *     u8 kind   u8 schema length, schema   u8 table length, table   then by kind
 *     INSERT, REPLACE, DELETE   u32 rows, u32 size of the IPC schema, schema, u32 size, IPC batch;
 *                               a schema of size 0: as in the operation before
 *     CREATE                    u32 size, the columns as SQL: "a" INTEGER, "b" VARCHAR
 *     DROP                      nothing
 *     PUBLISH                   u8 kind of the rows, u8 length, the staging table
 *     MOVE                      u8 length, the staging table
 *
 * More rows than one entry should hold go into a staging table first: a CREATE and INSERTs like any
 * other, into a table that nobody reads.  When they are to be inserted it has the schema and the
 * columns of theirs, and MOVE makes it a part of that: its rows keep the ids that they drew.  Else
 * it is in MG_REDO_STAGING, its columns are those of the rows, without the slot, and PUBLISH makes
 * of them what a REPLACE or DELETE (or, in logs of earlier versions, an INSERT) of them would have
 * made of the table.  Both drop it.
 *
 * Thread: a redo belongs to one thread at a time.  Bound: MG_REDO_BYTES_MAX a shard.
 */
#ifndef MG_REPLICA_REDO_H
#define MG_REPLICA_REDO_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"

#define MG_REDO_BYTES_MAX (48u << 20)
#define MG_REDO_ROWS_MAX 2048 /* of one batch */
#define MG_REDO_STAGING "_mg_staging" /* schema of staging tables */

/* On disk: never renumber. */
enum mg_redo_kind {
	MG_REDO_INSERT = 1, /* the user's columns, then "slot" USMALLINT */
	MG_REDO_REPLACE =
		2, /* "rid" BIGINT, the user's columns, "slot": the row of that id becomes this */
	MG_REDO_DELETE = 3, /* "rid" BIGINT, "slot": of no meaning */
	MG_REDO_CREATE = 4, /* a table, with the hidden columns added */
	MG_REDO_DROP = 5,   /* the table, if it is there */
	MG_REDO_PUBLISH = 16,
	MG_REDO_MOVE = 17,
};

struct mg_redo_op {
	enum mg_redo_kind kind;
	const char *schema, *table; /* as stored in the shard's file */
	struct mg_buf *ipc_schema, *ipc_batch;
	uint32_t rows;
	const char *columns; /* CREATE */
	const char *staged;  /* PUBLISH: the table in MG_REDO_STAGING; MOVE: in the same schema */
	enum mg_redo_kind staged_kind;
};

struct mg_redo;

struct mg_redo *mg_redo_new(void);
void mg_redo_free(struct mg_redo *redo); /* NULL is fine */
void mg_redo_clear(struct mg_redo *redo);
/* Rows for a shard, behind what it has.  Takes references.  Equal texts and the same schema buffer
 * as the operation before cost nothing again.  Fails: MG_E_LIMIT. */
int mg_redo_rows(struct mg_redo *redo, uint32_t shard, enum mg_redo_kind kind, const char *schema,
                 const char *table, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                 uint32_t rows, struct mg_error *err);
void mg_redo_create(struct mg_redo *redo, uint32_t shard, const char *schema, const char *table,
                    const char *columns);
void mg_redo_drop(struct mg_redo *redo, uint32_t shard, const char *schema, const char *table);
/* kind: of the rows in the staging table. */
void mg_redo_publish(struct mg_redo *redo, uint32_t shard, enum mg_redo_kind kind,
                     const char *schema, const char *table, const char *staged);
void mg_redo_move(struct mg_redo *redo, uint32_t shard, const char *schema, const char *table,
                  const char *staged);
/* An operation of another redo.  Fails: as mg_redo_rows. */
int mg_redo_copy(struct mg_redo *redo, uint32_t shard, const struct mg_redo_op *op,
                 struct mg_error *err);
bool mg_redo_has_rows(enum mg_redo_kind kind); /* INSERT, REPLACE, DELETE */

/* Shards that have operations, ascending; the array is the redo's, and stays while nothing is
 * added. */
size_t mg_redo_shards(const struct mg_redo *redo, const uint32_t **shards);
const struct mg_redo_op *mg_redo_ops(const struct mg_redo *redo, uint32_t shard, size_t *count);

size_t mg_redo_size(const struct mg_redo *redo, uint32_t shard); /* as encoded */
size_t mg_redo_total(const struct mg_redo *redo);                /* of all shards */
void mg_redo_encode(const struct mg_redo *redo, uint32_t shard, struct mg_out *out);
/* Append what the bytes say to `redo` as operations of `shard`; everything is checked but the Arrow
 * inside.  Fails: MG_E_PROTOCOL. */
int mg_redo_decode(struct mg_redo *redo, uint32_t shard, struct mg_in *in, struct mg_error *err);

#endif
