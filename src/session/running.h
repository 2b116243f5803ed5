/*
 * running.h - the query that a request runs now, for whoever wants to end it or look at it.
 *
 * The thread that runs the request sets and clears it (mg_sink.query); the lock keeps it alive
 * while another looks.  A cancel before, between or after queries is remembered.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_RUNNING_H
#define MG_SESSION_RUNNING_H

#include "session/session.h"

#include <pthread.h>
#include <stdatomic.h>

struct mg_running {
	atomic_bool cancelled;
	pthread_mutex_t lock;
	struct mg_query *query; /* under lock */
};

void mg_running_init(struct mg_running *running);
void mg_running_fini(struct mg_running *running);
void mg_running_set(struct mg_running *running, struct mg_query *query);
void mg_running_cancel(struct mg_running *running, struct mg_queries *queries);

#endif
