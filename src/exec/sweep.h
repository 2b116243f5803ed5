/*
 * sweep.h - tables in shard files that no version of the catalog names: of statements that were
 * interrupted.
 *
 * Rule: what a statement of this process is making is spared until it has ended; what others made
 * cannot be named any more, because their epoch is over.
 *
 * Thread: any that may block.
 */
#ifndef MG_EXEC_SWEEP_H
#define MG_EXEC_SWEEP_H

#include "exec/engine.h"

/* A table of this id is being made, and will be named or dropped. */
void mg_sweep_spare(uint64_t id);
void mg_sweep_spare_no_more(uint64_t id);
/* A sweep has spared what has ended since: once true, until that is so again. */
bool mg_sweep_is_due(void);
/* At the coordinator of this epoch, beside its statements.  Fails: as a commit. */
int mg_sweep(struct mg_engine *engine, uint64_t epoch, struct mg_error *err);

#endif
