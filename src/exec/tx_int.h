/* tx_int.h - struct mg_tx from the inside: for tx*.c only. */
#ifndef MG_EXEC_TX_INT_H
#define MG_EXEC_TX_INT_H

#include "exec/gate.h"
#include "exec/tx.h"

#include <pthread.h>

/* Rows that the transaction has made have ids of its own until it commits. */
#define MG_TX_OWN_RID_BIT 47

/* A table that the transaction has written. */
struct mg_tx_table {
	const struct mg_table *table; /* of the snapshot's catalog */
	char *own;                    /* temporary table: _mg_rid, _mg_slot, the user's columns */
	char *dead;                   /* temporary table: ids of stored rows that are not seen */
	bool has_own, has_dead;       /* rows were ever in them */
	bool stored;                  /* ... of rows that replace stored ones */
	bool made;                    /* by the transaction: the shards do not have it */
	bool gone;                    /* and dropped again; table is NULL */
};

struct mg_tx {
	struct mg_engine *engine;
	bool read_only;
	int64_t now_us; /* when it began */
	atomic_int refs;

	pthread_mutex_t lock;
	/* guarded by lock */
	enum mg_tx_state state;
	enum mg_tx_end why;
	bool busy; /* a statement has entered and not left */
	/* Its COMMIT is on the way into the log, or nobody knows whether it came there. */
	bool committing;
	bool held; /* there may be something to give back */
	uint64_t idle_since_ms;

	void (*evicted)(void *arg);
	void *evicted_arg;

	/* Owner: the statement that has entered; without one, whoever ends it.  conn is set under lock.
	 */
	struct mg_duck_conn *conn; /* inside of a transaction of DuckDB; NULL before the first need */
	struct mg_gate_pass pass;  /* from before it has a connection until after */
	bool bound;                /* the statement that has entered must go well: mg_tx_bind */
	void *attached;
	void (*free_attached)(void *thing);
	const struct mg_catalog_data *data; /* of the snapshot */
	uint64_t *applied;                  /* [shard_count + 1]: index of the log in the snapshot */
	struct mg_tx_table *tables;
	size_t table_count, table_cap;
	uint64_t rids; /* ids of own rows that were given */
	/* What it has defined: data is a copy of base then, with all steps taken. */
	const struct mg_catalog_data *base;
	struct mg_tx_step *steps;
	size_t step_count, step_cap;
	const char **replay; /* of the steps, without NULLs */
	size_t replay_count, replay_cap;
};


/* ---- tx_overlay.c ---- */
/* What a statement would store, until it has ended: in memory, then in a file. */
struct mg_tx_rows;
struct mg_tx_rows *mg_tx__rows_new(struct mg_engine *engine);
void mg_tx__rows_free(struct mg_tx_rows *rows);
/* For mg_write_request.flush, with rows as arg: all of the redo, which is rows of one table. */
int mg_tx__rows_take(void *arg, const struct mg_catalog_data *data, const struct mg_table *table,
                     struct mg_redo *redo, struct mg_error *err);
/* It becomes what the transaction shows; once, at the end of a statement that reads. */
int mg_tx__apply(struct mg_tx *tx, const struct mg_table *table, struct mg_tx_rows *rows,
                 struct mg_error *err);
void mg_tx__forget_tables(struct mg_tx *tx);
/* Before its first row. */
int mg_tx__make(struct mg_tx *tx, const struct mg_table *table, bool made, struct mg_error *err);

/* ---- tx_define.c ---- */
void mg_tx__forget_steps(struct mg_tx *tx);
/* The last part of a COMMIT: redo, with the rows of its own tables, then one version of the
 * catalog.  epoch: in which its rows were staged, or 0. */
int mg_tx__publish(struct mg_tx *tx, struct mg_run *run, uint64_t epoch, struct mg_redo *redo,
                   struct mg_error *err);
void mg_tx__add_creates(const struct mg_tx *tx, struct mg_redo *redo);

/* ---- tx_commit.c ---- */
int mg_tx__commit(struct mg_tx *tx, struct mg_run *run, const struct mg_write_key *once,
                  bool *repeated, struct mg_error *err);

#endif
