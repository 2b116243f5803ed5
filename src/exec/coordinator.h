/*
 * coordinator.h - runs one statement that reads, over the engine of this node and its workers.
 *
 * The way is chosen here (local, router, cut, gather, catalog), participants are chosen here, a
 * lost worker costs a new attempt here.  Blocks the calling thread until the last row is in the
 * sink; call it from a query thread, never from a loop.
 */
#ifndef MG_EXEC_COORDINATOR_H
#define MG_EXEC_COORDINATOR_H

#include "base/error.h"
#include "base/mem.h"
#include "sql/plan.h"

#include <nanoarrow/nanoarrow.h>

struct mg_engine; /* exec/engine.h: this node's DuckDB with its shards, planning database, workers
                   */
struct mg_run;    /* one running statement */
struct mg_seen;   /* codec/seen.h */
struct mg_tx;     /* exec/tx.h: a transaction over several statements */

/* How fresh a read is: all that was acknowledged before it began; at most so old; what is here. */
enum mg_consistency { MG_CONSISTENCY_LINEARIZABLE, MG_CONSISTENCY_BOUNDED, MG_CONSISTENCY_ANY };

enum mg_distributed { MG_DISTRIBUTED_FALSE, MG_DISTRIBUTED_TRUE, MG_DISTRIBUTED_FORCE };

struct mg_run_settings {
	enum mg_distributed distributed;
	bool summarize;
	enum mg_strategy strategy;
	char timezone[64];   /* "" : UTC */
	uint64_t timeout_ms; /* 0: none */
	enum mg_consistency consistency;
	uint64_t max_staleness_ms; /* of a bounded read */
	/* A statement of ours, whose rowid is the id of the stored row: no worker takes part, because
	 * the ids must be of now, and the text itself never runs. */
	bool row_ids;
	/* The open transaction that the statement belongs to and has entered (tx.h); NULL: it is one
	 * of its own. */
	struct mg_tx *tx;
};

/* For the statement's own answer, once, as a write needs it, whatever a session sees of reads. */
static inline struct mg_run_settings mg_run_whole(struct mg_run_settings settings)
{
	settings.strategy = MG_STRATEGY_AUTO;
	settings.summarize = true;
	if (settings.distributed == MG_DISTRIBUTED_FORCE) {
		settings.distributed = MG_DISTRIBUTED_TRUE;
	}
	return settings;
}

/* Where the rows go; called from the query's thread, one call at a time. */
struct mg_rows {
	/* Once, before the first batch. */
	int (*begin)(void *arg, const struct ArrowSchema *schema, size_t count,
	             const char *const *names, const char *const *types, struct mg_error *err);
	int (*batch)(void *arg, struct ArrowArray *batch, struct mg_error *err); /* borrowed */
	void (*notice)(void *arg, const char *text);                             /* may be NULL */
	bool lossless;     /* extension types for HUGEINT, UUID, ...; else plain Arrow */
	size_t batch_rows; /* join chunks up to so many rows; 0: 2048 */
	void *arg;
};

struct mg_run_stats {
	uint64_t rows, bytes;             /* of the answer */
	uint64_t moved_bytes, moved_rows; /* between nodes */
	uint32_t nodes, workers, shards;  /* that took part */
	uint32_t stages, attempts;
	uint32_t missed; /* workers that had not what is read in time: the server did their parts */
	uint32_t workers_there; /* of a statement that another node has run: connected to that one */
	uint64_t plan_micros, micros;
	uint32_t cut_shards;     /* several that this node has read as one cut; 0: it has not */
	uint64_t cut_waited_ms;  /* until they made one */
	uint64_t cut_node;       /* this node */
	const char *step; /* "catalog", "local", "router", "cut", "gather" */
	char reason[256]; /* why this step */
};

struct mg_duck_conn;

struct mg_run *mg_run_new(void);
void mg_run_free(struct mg_run *run);
/* Called before the statement reads the planning database, with the connection that it will read
 * on: fills what it asks for.  With *transaction set it has begun one there, whose snapshot the
 * statement reads, and which is rolled back after it. */
void mg_run_on_catalog(struct mg_run *run,
                       int (*fill)(void *arg, struct mg_duck_conn *conn, bool *transaction,
                                   struct mg_error *err),
                       void *arg);
/* What the statement's session has seen, to be filled before it runs: it reads nothing older. */
struct mg_seen *mg_run_seen(struct mg_run *run);
void mg_run_cancel(struct mg_run *run,
                   int code); /* any thread; code MG_E_CANCELLED or MG_E_TIMEOUT */
bool mg_run_cancelled(const struct mg_run *run);
/* The statement failed with MG_E_UNAVAILABLE before its first row because the coordinator of writes
 * should answer it: this node lags far behind, or holds a transaction in part, or it reads much and
 * workers are there. */
bool mg_run_belongs_elsewhere(const struct mg_run *run);
const char *mg_run_id(const struct mg_run *run); /* "q-0001-7f3a2b" */
void mg_run_progress(struct mg_run *run, double *done, uint64_t *rows, uint64_t *bytes,
                     uint32_t *nodes); /* any thread */
/* Of a statement that another node runs. */
void mg_run_set_progress(struct mg_run *run, double done, uint64_t rows, uint64_t bytes,
                         uint32_t nodes);
/* And what it has told at its end: all but the step, which is "relay" here. */
void mg_run_note_relayed(struct mg_run *run, const struct mg_run_stats *stats);
const struct mg_run_stats *mg_run_stats(const struct mg_run *run);

/* sql: one statement that reads (MG_S_SELECT), without EXPLAIN. */
int mg_coordinator_run(struct mg_engine *engine, struct mg_run *run,
                       const struct mg_run_settings *settings, struct mg_str sql,
                       const struct mg_rows *rows, struct mg_error *err);
/* Text (or JSON) of the plan; with analyze the statement is run, its rows dropped. */
int mg_coordinator_explain(struct mg_engine *engine, struct mg_run *run,
                           const struct mg_run_settings *settings, struct mg_str sql, bool analyze,
                           bool json, struct mg_sb *out, struct mg_error *err);

#endif
