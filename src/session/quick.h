/*
 * quick.h - a statement that needs no thread: an INSERT that joins those of others (exec/blind.h).
 *
 *     begin --taken--> ... over (any thread) --> end, once, on whatever thread the door answers
 *
 * Rule: it is listed, counted and answered as if it had run in the ordinary way; what is not taken,
 * or did not happen, still does.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_QUICK_H
#define MG_SESSION_QUICK_H

#include "base/json.h"
#include "session/session.h"

struct mg_quick;

struct mg_quick_begin {
	struct mg_session *session; /* the caller's ref lasts until end */
	struct mg_str sql;
	const struct mg_json *params; /* or NULL */
	/* It is over: short, any thread, maybe before begin returns. */
	void (*over)(void *arg, struct mg_quick *quick);
	void *arg;
};

/* False: not taken, and over never comes. */
bool mg_quick_begin(const struct mg_quick_begin *begin);
/* *again: nothing happened, and it is to run in the ordinary way; then answer and err are nothing.
 * answer: until mg_quick_free.  Returns 0, or the code of err: MG_E_UNKNOWN_OUTCOME. */
int mg_quick_end(struct mg_quick *quick, bool *again, const struct mg_answer **answer,
                 struct mg_error *err);
/* Its query goes to the history, or nowhere, when it runs again. */
void mg_quick_free(struct mg_quick *quick);

#endif
