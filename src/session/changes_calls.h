/*
 * changes_calls.h - SELECT * FROM cluster.changes('table'[, 'from']): what is kept of a table's
 * changes, as a table of one statement.
 *
 *     find -> fill -> store -> the statement runs -> forget -> fini
 *
 * Each call becomes a table of the planning database, cluster.changes_1 and so on, which holds its
 * rows while the statement runs.  They are read from the logs of changes before that, into a spool.
 *
 * Thread: a statement's.  Bound: MG_CHANGES_CALLS_MAX calls, MG_CHANGES_CALL_BYTES each.
 */
#ifndef MG_SESSION_CHANGES_CALLS_H
#define MG_SESSION_CHANGES_CALLS_H

#include "exec/engine.h"
#include "store/spool.h"

#define MG_CHANGES_CALLS_MAX 4
#define MG_CHANGES_CALL_BYTES (16u << 20) /* of their rows as text */

struct mg_changes_call {
	const char *table, *from;
	struct mg_spool *spool; /* made by fill */
};

struct mg_changes_calls {
	struct mg_arena *arena; /* of the caller */
	struct mg_str text;     /* the statement, with tables in the place of calls */
	struct mg_changes_call calls[MG_CHANGES_CALLS_MAX];
	size_t count;
	struct mg_spool_budget budget;
};

/* Fails: MG_E_USAGE arguments that are no literals; MG_E_LIMIT. */
int mg_changes_calls_find(struct mg_changes_calls *calls, struct mg_arena *arena,
                          struct mg_str text, struct mg_error *err);
void mg_changes_calls_fini(struct mg_changes_calls *calls);
/* Fails: as mg_feed_run; MG_E_LIMIT. */
int mg_changes_calls_fill(struct mg_changes_calls *calls, struct mg_engine *engine,
                          bool (*stopped)(void *arg), void *arg, struct mg_error *err);

/* ---- for system_tables.c, under its lock ---- */
/* The statement that makes table `index` (from 0) without rows. */
void mg_changes_call_empty(size_t index, struct mg_sb *sql);
int mg_changes_calls_store(struct mg_changes_calls *calls, struct mg_duck_conn *conn,
                           struct mg_error *err);

#endif
