/*
 * outcome.h - what a write with a key has done, stored with it: sent again, at any server, before
 * or after a change of the coordinator, it is not done again.
 *
 *     enter -> find -> (write -> add to its redo -> commit) -> leave
 *
 * The record is a row of a table of ours in one of the shards that the redo writes to, so it is
 * there if and only if the write has happened.  A write that nobody knows the end of ends its
 * epoch: behind the fence of the next one it either lies in the log, where find sees it, or never
 * happens.
 *
 * Rule: between enter and leave nobody else carries out what has this key.
 *
 * At the coordinator of writes.  Records are kept for MG_OUTCOME_KEEP_MS.
 *
 * Thread: any that may block.
 */
#ifndef MG_EXEC_OUTCOME_H
#define MG_EXEC_OUTCOME_H

#include "exec/engine.h"
#include "replica/redo.h"

#define MG_OUTCOME_KEY_MAX 64 /* hex digits */
#define MG_OUTCOME_KEEP_MS (3600u * 1000)

struct mg_outcomes;

/* A key, and of what: the same key for something else is refused. */
struct mg_write_key {
	const char *key; /* NULL: none, hex digits */
	uint64_t digest;
};

struct mg_done {
	char verb[32]; /* "INSERT" */
	uint64_t rows;
};

struct mg_outcomes *mg_outcomes_new(struct mg_engine *engine);
void mg_outcomes_free(struct mg_outcomes *outcomes); /* NULL is fine */

/* stopped: asked while it waits for another.  Fails: MG_E_USAGE what is no key; MG_E_CANCELLED. */
int mg_outcome_enter(struct mg_outcomes *outcomes, const char *key, bool (*stopped)(void *arg),
                     void *arg, struct mg_error *err);
void mg_outcome_leave(struct mg_outcomes *outcomes, const char *key);
/* The key was used for something else: MG_E_KEY_REUSED. */
int mg_outcome_refuse(struct mg_error *err);
/* Fails: as that; as a read. */
int mg_outcome_find(struct mg_outcomes *outcomes, const struct mg_write_key *key,
                    struct mg_done *out, bool *found, struct mg_error *err);
/* Fails: as a commit in that epoch, in which the table is made when it is not there. */
int mg_outcome_add(struct mg_outcomes *outcomes, uint64_t epoch, const struct mg_write_key *key,
                   const struct mg_done *outcome, struct mg_redo *redo, struct mg_error *err);
/* Records that are too old go, some of them.  At the coordinator of this epoch. */
int mg_outcomes_expire(struct mg_outcomes *outcomes, uint64_t epoch, struct mg_error *err);

#endif
