/*
 * run.h - struct mg_run from the inside: for coordinator.c and pump.c only.
 */
#ifndef MG_EXEC_RUN_H
#define MG_EXEC_RUN_H

#include "exec/attempt.h"
#include "exec/coordinator.h"

/* The attempt that a cancel must reach from now on; fails at once when the run is cancelled
 * already. */
int mg_run_attach(struct mg_run *run, struct mg_attempt *attempt, struct mg_error *err);
void mg_run_detach(struct mg_run *run);
/* The same for a statement that runs in the planning database, without an attempt; NULL: it is
 * over. */
int mg_run_attach_conn(struct mg_run *run, struct mg_duck_conn *conn, struct mg_error *err);
/* The hook of mg_run_on_catalog, when there is one. */
int mg_run_fill_catalog(struct mg_run *run, struct mg_duck_conn *conn, bool *transaction,
                        struct mg_error *err);
void mg_run_stage_begin(struct mg_run *run);
void mg_run_stage_end(struct mg_run *run);
/* For mg_run_belongs_elsewhere; returns the code, with err set. */
int mg_run_send_elsewhere(struct mg_run *run, struct mg_error *err);
struct mg_run_stats *mg_run_own_stats(struct mg_run *run); /* owner: the query's thread */
bool mg_run_is_cancelled(void *run); /* mg_run_cancelled, for who asks while it waits */
int mg_run_cancel_error(struct mg_run *run, struct mg_error *err);

#endif
