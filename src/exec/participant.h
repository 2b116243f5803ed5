/*
 * participant.h - one node's part in one query: runs stages on its own DuckDB over the shards it
 * was given, keeps and ships their rows.  The same code serves the coordinator's own part and a
 * worker.
 *
 * A participant owns a connection with temp views "schema.table" over its shards, its spools by
 * stage id and the query's context.  Life: open -> run, accept ... -> close.  cancel from any
 * thread.
 */
#ifndef MG_EXEC_PARTICIPANT_H
#define MG_EXEC_PARTICIPANT_H

#include "base/error.h"
#include "base/mem.h"
#include "exec/reads.h"
#include "sql/plan.h"
#include "store/duck.h"
#include "store/spool.h"

/* What an open transaction has changed in a table: temporary tables of its connection (tx.h). */
struct mg_exec_overlay {
	const char *own;        /* its rows: _mg_rid, _mg_slot, the user's columns */
	const char *dead;       /* "merganser rid": rows of the databases that are not seen; or NULL */
	const uint32_t *shards; /* own rows of these alone; shard_count 0: all */
	size_t shard_count;
};

/* A table as the participant must see it: which attached databases hold rows of it here. */
struct mg_exec_table {
	const char *schema, *table;
	const char *stored;   /* its name in the databases */
	const char **columns;        /* the user's, in order */
	const char **stored_columns; /* their names in the databases */
	size_t column_count;
	const char **databases; /* attached names, e.g. "s3"; none: an empty table */
	size_t database_count;
	const char **types;                    /* SQL types of columns, for the empty table */
	const struct mg_exec_overlay *overlay; /* or NULL */
};

/* Append the SELECT that is this table: its columns over all its databases, or no rows. */
void mg_exec_table_select(struct mg_sb *sql, const struct mg_exec_table *table);

struct mg_cuts;

struct mg_exec_open {
	struct mg_duck *duck;
	struct mg_gate *gate; /* of the engine's shards; NULL: their files stay */
	/* A transaction's, with its snapshot; borrowed until it is given back.  NULL: a new one. */
	struct mg_duck_conn *conn;
	uint32_t node_index;
	uint32_t node_count;
	const uint16_t *owner; /* [16384], copied */
	const struct mg_exec_table *tables;
	size_t table_count;
	const char *timezone;           /* or NULL */
	struct mg_spool_budget *budget; /* borrowed */
	bool lz4;                       /* compress what leaves this node */
	bool profile;                   /* count what is read, for mg_participant_reads */
	/* Of the shards that the whole query reads, wherever; NULL: there is one, or they do not change
	 * here.  Open fails with MG_E_UNAVAILABLE when they make no cut for so long. */
	struct mg_cuts *cuts;
	const uint32_t *cut_shards;
	size_t cut_count;
	unsigned cut_wait_ms;
	bool cut_patient;
	bool (*cut_stopped)(void *arg); /* or NULL */
	void *cut_stopped_arg;
	const uint32_t *touched; /* without tables: shards that the text may read */
	size_t touched_count;
	/* Not NULL: open only takes its snapshot, of all cut_shards, and notes the index that each is
	 * at; then mg_participant_share follows. */
	uint64_t *cut_at;
	/* Rows that leave for another participant; schema first (rows 0), then batches; any thread of
	 * the query.  Takes no ownership.  May block for back-pressure. */
	int (*send)(void *arg, uint32_t stage, uint32_t target, bool schema, struct mg_buf *buf,
	            uint64_t rows, struct mg_error *err);
	void *arg;
};

/* What a stage made here. */
struct mg_exec_stats {
	uint64_t rows, bytes;           /* made, raw */
	uint64_t rows_sent, bytes_sent; /* to other participants, as encoded */
	uint64_t micros;
	bool copied; /* with copy_few: the coordinator has been sent all rows, or there are none */
};

/* As a target: every participant but the sender. */
#define MG_EXEC_EVERYBODY UINT32_MAX

struct mg_participant;

int mg_participant_open(struct mg_participant **out, const struct mg_exec_open *open,
                        struct mg_error *err);
/* Other views of the same names, in the place of those that it has; over the same snapshots. */
int mg_participant_show(struct mg_participant *part, const struct mg_exec_table *tables,
                        size_t table_count, struct mg_error *err);
/* Who does which part of it, in place of what open was told: node_count, owner, tables. */
int mg_participant_share(struct mg_participant *part, const struct mg_exec_open *open,
                         struct mg_error *err);
/* `conn` is in a transaction: it touches these shards, and finds the index that each is at. */
int mg_participant_touch(struct mg_duck_conn *conn, const uint32_t *shards, size_t count,
                         uint64_t *at, struct mg_error *err);
void mg_participant_close(struct mg_participant *part); /* cancels what runs; NULL is fine */
/* A borrowed connection is its owner's again: nothing runs any more, and late cancels miss it. */
void mg_participant_give_back(struct mg_participant *part);
void mg_participant_cancel(struct mg_participant *part); /* any thread; idempotent */
double
mg_participant_progress(struct mg_participant *part); /* of the running stage, 0..1; any thread */
/* One stage of a query to run here. */
struct mg_exec_order {
	uint32_t stage;
	enum mg_ship ship; /* any but RESULT */
	const char *sql;
	bool copy_few; /* see mg_stage */
};
/* Run one stage: blocks until all rows are kept or sent. */
int mg_participant_run(struct mg_participant *part, const struct mg_exec_order *order,
                       struct mg_exec_stats *stats, struct mg_error *err);
/* Rows that came from another participant. Any thread. */
int mg_participant_accept(struct mg_participant *part, uint32_t stage, bool schema,
                          struct mg_buf *buf, uint64_t rows, struct mg_error *err);
/* No more rows of this stage will come: readers may start. */
void mg_participant_seal(struct mg_participant *part, uint32_t stage);
/* The schema message of a stage's rows with a reference, or NULL. */
struct mg_buf *mg_participant_schema(struct mg_participant *part, uint32_t stage);
/* What the statement that ended last read here; reads is cleared first. Only with profile. */
void mg_participant_reads(struct mg_participant *part, struct mg_exec_reads *reads);
/* For how long its shards made no cut, while it was opened. */
uint64_t mg_participant_waited_ms(const struct mg_participant *part);
/* Connection to run a result stage or original text on (coordinator). */
struct mg_duck_conn *mg_participant_conn(struct mg_participant *part);

#endif
