/* running.c - see running.h. */
#include "session/running.h"

void mg_running_init(struct mg_running *running)
{
	atomic_init(&running->cancelled, false);
	pthread_mutex_init(&running->lock, NULL);
	running->query = NULL;
}

void mg_running_fini(struct mg_running *running)
{
	pthread_mutex_destroy(&running->lock);
}

void mg_running_set(struct mg_running *running, struct mg_query *query)
{
	pthread_mutex_lock(&running->lock);
	running->query = query;
	pthread_mutex_unlock(&running->lock);
}

void mg_running_cancel(struct mg_running *running, struct mg_queries *queries)
{
	atomic_store(&running->cancelled, true);
	pthread_mutex_lock(&running->lock);
	if (running->query) {
		(void)mg_queries_cancel(queries, mg_query_id(running->query), NULL, NULL);
	}
	pthread_mutex_unlock(&running->lock);
}
