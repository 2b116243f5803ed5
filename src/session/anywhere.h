/*
 * anywhere.h - where a statement runs that only the coordinator of writes can run: here, or there.
 *
 *     init -> next -> it runs there -> failed, and again says so? -> next ...
 *
 * Rule: what has, or may have, happened is not tried again.  Until MG_ANYWHERE_MS have passed since
 * it began, a statement is tried where writes are coordinated at that moment; after that the last
 * error stays, and it says that nothing was done.
 *
 * Thread: one; it waits.
 */
#ifndef MG_SESSION_ANYWHERE_H
#define MG_SESSION_ANYWHERE_H

#include "session/session.h"

#define MG_ANYWHERE_MS 10000

struct mg_anywhere {
	struct mg_engine *engine;
	struct mg_query *query;
	bool only_here; /* another node has sent it */
	uint64_t until_ms;
};

void mg_anywhere_init(struct mg_anywhere *anywhere, struct mg_engine *engine,
                      struct mg_query *query, bool only_here);
/* *node: where writes are coordinated; 0: here.  Waits while nobody knows.  Fails:
 * MG_E_UNAVAILABLE, and with only_here at once; MG_E_CANCELLED. */
int mg_anywhere_next(struct mg_anywhere *anywhere, uint64_t *node, struct mg_error *err);
/* It failed so, and nothing has happened.  False: the error stays. */
bool mg_anywhere_again(struct mg_anywhere *anywhere, const struct mg_error *err);

#endif
