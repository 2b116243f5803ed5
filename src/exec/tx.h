/*
 * tx.h - a transaction over several statements: one snapshot, and what it has changed so far.
 *
 *     new -> enter, statement, leave -> ... -> commit or end -> unref
 *
 * The snapshot is a read transaction of DuckDB over all shards of this node, taken by the first
 * statement that needs it.  What the transaction writes lies in temporary tables of the same
 * connection (tx_overlay.c) and is seen by its own statements alone; nothing of it goes into the
 * log before commit, which checks that nobody else has changed the same rows since (tx_commit.c).
 * It holds no lock between its statements, so nobody ever waits for it.
 *
 * Rule: a statement that fails while it runs leaves a transaction that can only be rolled back; one
 * that DuckDB does not understand leaves it as it was.
 *
 * Thread: any; one statement at a time, between enter and leave.
 */
#ifndef MG_EXEC_TX_H
#define MG_EXEC_TX_H

#include "catalog/catalog.h"
#include "exec/change.h"
#include "exec/engine.h"
#include "replica/redo.h"

struct mg_tx;
struct mg_write_result; /* exec/write.h */

enum mg_tx_state {
	MG_TX_OPEN,
	MG_TX_FAILED, /* a statement failed: only ROLLBACK is left */
	MG_TX_OVER
};
/* Why it is over. */
enum mg_tx_end {
	MG_TX_COMMITTED,
	MG_TX_ROLLED_BACK,
	MG_TX_IDLE,
	MG_TX_CLOSED,
	MG_TX_EVICTED /* the node takes over a snapshot of a shard (gate.h) */
};

struct mg_tx *mg_tx_new(struct mg_engine *engine, bool read_only); /* borrows engine */
struct mg_tx *mg_tx_ref(struct mg_tx *tx);
void mg_tx_unref(struct mg_tx *tx); /* the last one rolls back; NULL is fine */
enum mg_tx_state mg_tx_state(struct mg_tx *tx);
/* Since when it waits for its next statement, mg_clock_ms; 0: it works, or is over. */
uint64_t mg_tx_idle_since(struct mg_tx *tx);
/* Called once at most, from any thread and shortly, when it was evicted: mg_tx_reap is to be called
 * soon.  Before its first statement. */
void mg_tx_on_evicted(struct mg_tx *tx, void (*evicted)(void *arg), void *arg);
/* It was evicted and not reaped yet. */
bool mg_tx_is_evicted(struct mg_tx *tx);
/* Something of the caller's that goes with what the transaction holds: the way to another node that
 * runs it.  By a statement of it; once. */
void mg_tx_attach(struct mg_tx *tx, void *thing, void (*free_thing)(void *thing));
void *mg_tx_attached(const struct mg_tx *tx); /* or NULL */
bool mg_tx_is_read_only(const struct mg_tx *tx);
/* Give back what an evicted one holds, unless a statement of it runs, which then does so. */
void mg_tx_reap(struct mg_tx *tx);

/* A statement begins.  Fails: 25P02 after a failure, 25P03 when it was ended for being idle,
 * MG_E_BUSY while another statement of it runs. */
int mg_tx_enter(struct mg_tx *tx, struct mg_error *err);
/* Of a statement that fails because of a server, and would be tried again by itself: in a
 * transaction, which it ends, that is of no use.  Makes it MG_E_CONFLICT, and says so. */
int mg_tx_say_lost(struct mg_error *err);
/* It ends; err: how it failed, NULL or without code: it did not. */
void mg_tx_leave(struct mg_tx *tx, const struct mg_error *err);
/* By the statement that has entered: it has changed what the transaction is, so whatever it fails
 * with from now on, only ROLLBACK is left then. */
void mg_tx_bind(struct mg_tx *tx);
/* Roll back, at once or as soon as the running statement has left.  Does nothing when it is over.
 */
void mg_tx_end(struct mg_tx *tx, enum mg_tx_end why);
/* The same for MG_TX_IDLE, unless a statement has entered meanwhile. */
void mg_tx_end_idle(struct mg_tx *tx);
/* ROLLBACK of the client.  Fails: MG_E_BUSY while its COMMIT is under way and cannot be undone any
 * more; 25P01 when it was committed. */
int mg_tx_rollback(struct mg_tx *tx, struct mg_error *err);
/* Between enter and leave; it is over then, whatever comes of it.  once: its key, NULL: none; the
 * record of it is stored with the rows, and *repeated when another one has done it: then this one
 * wrote nothing.  What defines something leaves none.  Fails: MG_E_CONFLICT others changed the same
 * rows or keys since: nothing happened; MG_E_UNKNOWN_OUTCOME; what a write fails with. */
int mg_tx_commit(struct mg_tx *tx, struct mg_run *run, const struct mg_write_key *once,
                 bool *repeated, struct mg_error *err);
/* The last moment at which it can be ended otherwise; then mg_tx_settle.  Fails: it was ended. */
int mg_tx_commit_begin(struct mg_tx *tx, struct mg_error *err);
/* What came of it; MG_E_TRANSACTION: it was no COMMIT, the state is as before. */
void mg_tx_settle(struct mg_tx *tx, int code);

/* ---- for statements between enter and leave ---- */

/* Take the snapshot, when there is none yet: where writes are coordinated, because there alone a
 * transaction over several shards becomes visible at once.  Fails: MG_E_UNAVAILABLE; run was
 * cancelled meanwhile. */
int mg_tx_snapshot(struct mg_tx *tx, struct mg_run *run, struct mg_error *err);
struct mg_duck_conn *mg_tx_conn(struct mg_tx *tx);                /* with the snapshot */
const struct mg_catalog_data *mg_tx_data(const struct mg_tx *tx); /* of the snapshot */
int64_t mg_tx_now(const struct mg_tx *tx); /* what now() tells, in microseconds since 1970 */
bool mg_tx_has_changes(const struct mg_tx *tx);
/* The table is the one that the snapshot has.  Fails: MG_E_CONFLICT. */
int mg_tx_check_table(const struct mg_tx *tx, const struct mg_table *table, struct mg_error *err);
/* Make each table, which is made of these shards (ids from 1), one that shows what the transaction
 * has changed. */
void mg_tx_show(const struct mg_tx *tx, struct mg_arena *arena, struct mg_exec_table *tables,
                size_t table_count, const uint32_t *shards, size_t shard_count);
int mg_tx_check_writes(const struct mg_tx *tx, struct mg_error *err); /* MG_E_READ_ONLY */

/* ---- what it defines (tx_define.c) ---- */

/* A step: one object that is made, changed or dropped. */
struct mg_tx_step {
	/* On a copy of the catalog: at once, and once more on the newest version at COMMIT. */
	int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
	              struct mg_error *err);
	void *arg; /* the transaction's when mg_tx_define has returned 0 */
	void (*free_arg)(void *arg);
	const char *kind; /* the word behind DROP; the texts live as long as arg */
	const char *schema, *name;
	const char *replay;           /* SQL for the planning database, or NULL */
	const struct mg_table *made;  /* a new table, or NULL */
};

/* With a snapshot, by the statement that has entered.  Fails: MG_E_UNSUPPORTED rows of a table that
 * was there before have been changed; as `change`. */
int mg_tx_define(struct mg_tx *tx, const struct mg_tx_step *step, struct mg_error *err);
/* It has defined something. */
bool mg_tx_defines(const struct mg_tx *tx);
/* It has made a sequence, of which nobody draws before it is committed. */
bool mg_tx_makes_sequence(const struct mg_tx *tx);
/* What draws in it is refused then; returns the code. */
int mg_tx_refuse_drawing(struct mg_error *err);
/* Of its own CREATE, not yet committed. */
bool mg_tx_is_own_table(const struct mg_tx *tx, const struct mg_table *table);
/* Rows of a table of its own. */
int mg_tx_load(struct mg_tx *tx, const struct mg_table *table, struct mg_redo *redo,
               struct mg_error *err);
struct mg_plan_replay mg_tx_replay(const struct mg_tx *tx); /* NULL: nothing */
/* The catalog as its statements see it, to be given back; NULL: the current one. */
const struct mg_catalog_data *mg_tx_take_catalog(const struct mg_tx *tx, struct mg_engine *engine);

/* Original text can read what it has changed: all of it lies in schema main. */
bool mg_tx_text_may_run(const struct mg_tx *tx);
/* Text that runs on its connection sees the changes from now on, also through views of users. */
int mg_tx_show_text(struct mg_tx *tx, struct mg_error *err);
/* mg_change_run inside of a transaction. */
int mg_tx_change(struct mg_engine *engine, struct mg_run *run,
                 const struct mg_run_settings *settings, const struct mg_change_request *request,
                 struct mg_write_result *result, struct mg_error *err);

#endif
