/*
 * attempt.h - one attempt at a statement over participants: the coordinator's own part and workers.
 *
 * Participant 0 is this server.  A stage is run on all of them at once and is over when each has
 * said that it ran, by which time its rows have been delivered (channels keep order); then
 * everybody seals it.
 *
 * What a worker reads is what this server would read in its place: it takes its snapshot of each
 * shard at the index of the log at which our own snapshot is.  A worker that does not have that
 * within MG_ATTEMPT_PIN_MS, or is beyond it already, takes no part, and we do it.  What goes
 * wrong on a worker's side ends the attempt: lost says whether another attempt elsewhere makes
 * sense.
 *
 * Thread: open, run_stage, close by the query's thread; cancel from any; on_... by channels.
 */
#ifndef MG_EXEC_ATTEMPT_H
#define MG_EXEC_ATTEMPT_H

#include "base/json.h"
#include "exec/channel.h"
#include "exec/engine.h"
#include "exec/hub.h"
#include "exec/participant.h"

#define MG_ATTEMPT_PARTICIPANTS_MAX 256
#define MG_ATTEMPT_PIN_MS 50 /* that a worker may need until it holds what is read */

struct mg_attempt;

struct mg_attempt_options {
	struct mg_engine *engine;
	const char *name; /* the statement's id, for logs */
	const char *timezone;
	const struct mg_table *tables; /* that the statement reads */
	size_t table_count;
	bool workers;           /* may take part */
	bool row_ids;           /* the tables have _mg_rid too; without workers */
	struct mg_tx *tx;       /* whose snapshot and changes are read; without workers; or NULL */
	bool profile;           /* count what is read: mg_attempt_reads */
	bool reference;         /* it reads tables without partitions, too */
	const uint32_t *shards; /* shards to cover (ids from 1) */
	size_t shard_count;
	const struct mg_catalog_data *data;
	/* Several shards are read as one cut (replica/cuts.h); when they make none for so long, open
	 * fails with MG_E_UNAVAILABLE. */
	unsigned cut_wait_ms;
	bool cut_patient;                  /* replica/cuts.h */
	bool (*cut_stopped)(void *arg);    /* asked meanwhile; may be NULL */
	void *cut_stopped_arg;
};

/* What a stage did on each participant, for EXPLAIN ANALYZE. */
struct mg_attempt_part {
	char node[64];
	bool remote;
	uint32_t *shards;
	size_t shard_count;
};

int mg_attempt_open(struct mg_attempt **out, const struct mg_attempt_options *options,
                    struct mg_error *err);
void mg_attempt_close(struct mg_attempt *attempt);
/* From now on the tables here are those of this one of its shards, as of the same moment.  Without
 * workers. */
int mg_attempt_show_shard(struct mg_attempt *attempt, uint32_t shard, struct mg_error *err);
int mg_attempt_run_stage(struct mg_attempt *attempt, const struct mg_stage *stage,
                         struct mg_count *count, struct mg_exec_stats *stats_of_part,
                         struct mg_error *err);
/* All stages have run: from now on only the local connection is used, and the loss of a worker
 * means nothing. */
void mg_attempt_finish(struct mg_attempt *attempt);
void mg_attempt_cancel(struct mg_attempt *attempt); /* any thread */
void mg_attempt_cancel_parts(
	struct mg_attempt *attempt); /* end what runs, without calling it cancelled */
bool mg_attempt_is_lost(const struct mg_attempt *attempt); /* a participant was lost: try again */
size_t mg_attempt_part_count(const struct mg_attempt *attempt);
const struct mg_attempt_part *mg_attempt_part(const struct mg_attempt *attempt, size_t index);
/* What that part read in the stage that ended last. */
const struct mg_exec_reads *mg_attempt_reads(const struct mg_attempt *attempt, size_t index);
struct mg_participant *mg_attempt_local(struct mg_attempt *attempt);
/* Workers that had not what is read in time: this server did their parts. */
uint32_t mg_attempt_missed(const struct mg_attempt *attempt);
uint64_t mg_attempt_moved_bytes(const struct mg_attempt *attempt);
uint64_t mg_attempt_moved_rows(const struct mg_attempt *attempt);
uint64_t
mg_attempt_rows_seen(const struct mg_attempt *attempt); /* rows and bytes that stages made so far */
uint64_t mg_attempt_bytes_seen(const struct mg_attempt *attempt);
double mg_attempt_progress(struct mg_attempt *attempt); /* of the running stage; any thread */

/* ---- from the hub ---- */
void mg_attempt_ref(struct mg_attempt *attempt);
void mg_attempt_unref(struct mg_attempt *attempt);
int mg_attempt_on_data(struct mg_attempt *attempt, const struct mg_worker *from,
                       const struct mg_frame *frame, struct mg_buf *payload, struct mg_error *err);
int mg_attempt_on_ran(struct mg_attempt *attempt, const struct mg_worker *from,
                      const struct mg_json *json, struct mg_error *err);
/* missed: why it cannot; or NULL. */
void mg_attempt_on_pinned(struct mg_attempt *attempt, const struct mg_worker *from,
                          const char *missed);
void mg_attempt_on_lost(struct mg_attempt *attempt, const struct mg_worker *worker,
                        const char *reason);

#endif
