/*
 * explain.h - what EXPLAIN and EXPLAIN ANALYZE collect and print.
 */
#ifndef MG_EXEC_EXPLAIN_H
#define MG_EXEC_EXPLAIN_H

#include "exec/attempt.h"
#include "exec/coordinator.h"
#include "exec/way.h"

struct mg_explain;

struct mg_explain *mg_explain_new(void);
void mg_explain_free(struct mg_explain *explain);
/* The stages of a plan that was not run. */
void mg_explain_plan(struct mg_explain *explain, const struct mg_plan_env *env, const char *notes);
/* ANALYZE: one finished stage; stats by participant. */
void mg_explain_stage(struct mg_explain *explain, const struct mg_attempt *attempt,
                      const struct mg_stage *stage, const struct mg_exec_stats *stats);
/* ANALYZE: the coordinator's own last step over the shards that its part was given; stage NULL: the
 * statement has no stages. A statement that runs shard by shard has several. */
void mg_explain_answer(struct mg_explain *explain, const struct mg_attempt *attempt,
                       const struct mg_stage *stage, const struct mg_exec_stats *stats,
                       const struct mg_exec_reads *reads);
void mg_explain_notes(struct mg_explain *explain, const char *notes);
void mg_explain_restart(
	struct mg_explain *explain); /* a new attempt: forget the stages of the last */
void mg_explain_print(const struct mg_explain *explain, const struct mg_way *way,
                      const struct mg_run_stats *stats, const char *sql, bool analyze, bool json,
                      struct mg_sb *out);

#endif
