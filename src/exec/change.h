/*
 * change.h - a statement that changes rows: locks, rows, commit.
 *
 * Thread: any that may block: it waits for other writers, the log and the disk.
 */
#ifndef MG_EXEC_CHANGE_H
#define MG_EXEC_CHANGE_H

#include "exec/coordinator.h"
#include "exec/growth.h"
#include "exec/outcome.h"
#include "exec/write.h"

struct mg_change_request {
	struct mg_str statement;       /* one, without its ";" */
	const struct mg_rows *rows;    /* RETURNING's rows and notices; begin is only called for rows */
	const struct mg_write_input *input; /* COPY: as mg_write_request has it */
	bool partition_by_primary_key; /* CREATE TABLE without PARTITIONED BY */
	/* What has this key is done once, and the next time only told. */
	struct mg_write_key once;
};

struct mg_change_result {
	char tag[64];  /* "INSERT 0 3", "CREATE TABLE" */
	uint64_t rows; /* affected */
	bool returned; /* rows were handed out */
	bool repeated; /* it was done before, under its key */
	char notice[MG_GROWTH_TEXT_SIZE]; /* for who writes; or "" */
	bool done;     /* it happened, even when an error says that its rows were not handed out */
};

/* Whether what the statement writes to is there, before its rows are asked for; what it reads is
 * not looked at.  Fails: as mg_change_run would, with nothing done. */
int mg_change_check(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_run_settings *settings, struct mg_str statement,
                    struct mg_error *err);

/* statement: one, of kind MG_S_DML.  0: it happened, whole.  MG_E_UNKNOWN_OUTCOME: nobody knows.
 * Any other: nothing happened, unless out->done. */
int mg_change_run(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_change_request *request,
                  struct mg_change_result *out, struct mg_error *err);

/* What has this key was done before, as out->repeated says; nothing is done.  Where writes are
 * coordinated.  Fails: MG_E_KEY_REUSED; as a read. */
int mg_change_look(struct mg_engine *engine, struct mg_run *run, const struct mg_write_key *once,
                   struct mg_change_result *out, struct mg_error *err);

/* An INSERT that depends on no row that is there, together with those of others (blind.h).  *taken
 * false: it is none, or nothing happened; then mg_change_run is to do it. */
int mg_change_blind(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_change_request *request, struct mg_change_result *out,
                    bool *taken, struct mg_error *err);

#endif
