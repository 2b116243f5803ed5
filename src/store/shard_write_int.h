/* shard_write_int.h - a writer of a shard's file: for shard_write.c, shard_read.c, shard_move.c. */
#ifndef MG_STORE_SHARD_WRITE_INT_H
#define MG_STORE_SHARD_WRITE_INT_H

#include "base/str.h"
#include "store/duck_append.h"
#include "store/duck_inlet.h"
#include "store/shard_write.h"
#include "store/spool.h"

struct mg_shard_writer {
	struct mg_duck_conn *conn;
	struct mg_duck_context context;
	struct mg_spool_budget budget;
	struct mg_spool *spool; /* the batch that a statement reads */
	char database[16];
	bool in_transaction;
	bool has_pending;  /* the table is there */
	bool some_pending; /* and may have rows */
	char **tables; /* "schema\ntable" of what the file has; as of the transaction */
	size_t table_count, table_cap;
	bool tables_changed; /* by the open transaction */
	const struct mg_shard_watch *watch;

	/* Of _mg.meta: what changes, and the rest as SQL values. */
	uint64_t applied, term, next_rid, rid_at_begin;
	char *identity;
	struct mg_duck_prepared *drop_meta, *put_meta;

	/* The table that rows are being appended to, with columns as in ipc_schema. */
	struct mg_duck_appender *appender;
	struct mg_duck_inlet *inlet;
	struct mg_buf *ipc_schema;
	char *schema, *table;
	/* What it has that no statement sees yet: new rows from this id on, and these in the place of
	 * others. */
	uint64_t unseen_from;
	int64_t *unseen;
	size_t unseen_count, unseen_cap;
};

/* Rows appended so far are seen by statements from now on. */
int mg_shard_writer__end_append(struct mg_shard_writer *writer, struct mg_error *err);
/* database.schema.table */
void mg_shard_writer__add_table(struct mg_sb *sql, const struct mg_shard_writer *writer,
                                const char *schema, const char *table);
/* A table has another name, in the open transaction. */
void mg_shard_writer__note_renamed(struct mg_shard_writer *writer, const char *schema,
                                   const char *from, const char *to);

#endif
