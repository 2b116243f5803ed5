/*
 * inbox.h - one piece of bytes on its way from a loop to the thread that has asked for it.
 *
 * The thread asks its client for a piece and waits; whoever sends without being asked is told so.
 * So nothing is queued, and a client is never ahead of the server.
 */
#ifndef MG_SESSION_INBOX_H
#define MG_SESSION_INBOX_H

#include "base/error.h"
#include "base/mem.h"

#include <pthread.h>

struct mg_inbox {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t idle_ms; /* that a piece may take to come */
	/* guarded by lock */
	bool asked, came, given_up, closed;
	struct mg_buf *piece; /* that came; NULL: the end */
};

void mg_inbox_init(struct mg_inbox *inbox, uint64_t idle_ms);
void mg_inbox_fini(struct mg_inbox *inbox);
/* From now on a piece may come; call it before the client is asked. */
void mg_inbox_ask(struct mg_inbox *inbox);
/* The thread: the piece, or NULL at the end.  Fails: MG_E_CANCELLED; MG_E_TIMEOUT when none came in
 * idle_ms, which closes it. */
int mg_inbox_wait(struct mg_inbox *inbox, struct mg_buf **out, struct mg_error *err);
/* The loop: takes a ref; NULL: no more.  given_up: what came is not to be stored.  What comes after
 * the close, on its way when the client was told, is dropped.  false: nobody has asked. */
bool mg_inbox_put(struct mg_inbox *inbox, struct mg_buf *piece, bool given_up);
/* Any thread: who waits goes on. */
void mg_inbox_close(struct mg_inbox *inbox);

#endif
