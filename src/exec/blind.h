/*
 * blind.h - INSERT ... VALUES of many clients, together: what depends on no row that is there.
 *
 *     text, values -> bound once (blind_bind.c) -> rows of a shard that wait -> an entry of its log
 *                                               -> rows of several shards    -> a transaction
 *
 * The rows of all who come while an entry of the shard is on its way become the next one, so many
 * clients share an entry, its sync and its lock.  Nobody's thread waits: the end is a call.
 *
 * Rule: a statement is taken whole or not at all, and only when nothing in it could fail alone;
 * what is not taken runs in the ordinary way, with DuckDB's casts and messages.
 *
 * Thread: any.
 */
#ifndef MG_EXEC_BLIND_H
#define MG_EXEC_BLIND_H

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

struct mg_blind;
struct mg_engine;

/* How it ended: err->code 0: it is committed.  MG_E_UNKNOWN_OUTCOME: nobody knows.  Any other:
 * nothing happened, and the statement may run in the ordinary way.  Once; raft's thread or one of
 * ours: short, and never back into mg_blind_put. */
typedef void (*mg_blind_cb)(void *arg, const struct mg_error *err);

/* Fails: the system gives no thread. */
int mg_blind_new(struct mg_blind **out, struct mg_engine *engine, struct mg_error *err);
/* Takes nothing any more and waits for what is under way.  Before the replicas stop; again is fine.
 */
void mg_blind_stop(struct mg_blind *blind);
void mg_blind_free(struct mg_blind *blind); /* stops; NULL is fine */

/* sql: one statement, with or without its ";".  params: values of its ?, or NULL.  True: it is
 * taken, *rows is how many it inserts, and cb comes, maybe before this returns.  False: it is not
 * taken, and cb never comes.  Never blocks for long; what is large is not taken. */
bool mg_blind_put(struct mg_blind *blind, struct mg_str sql, const struct mg_json *params,
                  uint64_t *rows, mg_blind_cb cb, void *arg);
/* It is worth a try; cheap. */
bool mg_blind_knows(struct mg_blind *blind, struct mg_str sql, const struct mg_json *params);
/* The same, and waits for the end; *taken.  For threads that may block. */
int mg_blind_run(struct mg_blind *blind, struct mg_str sql, bool *taken, uint64_t *rows,
                 struct mg_error *err);

#endif
