/* session_int.h - what session.c, request_check.c and statement_run.c share. */
#ifndef MG_SESSION_SESSION_INT_H
#define MG_SESSION_SESSION_INT_H

#include "codec/seen.h"
#include "session/relay.h"
#include "session/session.h"
#include "session/transaction.h"
#include "sql/statement.h"

#include <pthread.h>
#include <stdatomic.h>

struct mg_sessions {
	struct mg_sessions_options options;
	struct mg_pool *pool;    /* requests */
	struct mg_pool *runners; /* their statements (apart.c) */
	atomic_int left_free;    /* statements that nobody waits for, without a slot */
	struct mg_admission *admission;
	struct mg_admission *watchers; /* slots for statements that look at the schema "cluster" */
	struct mg_queries *queries;
	struct mg_relay *relay; /* NULL: there is no other node */
	struct mg_system_tables *tables;
	struct mg_tx_watch *tx_watch;
	pthread_mutex_t lock;
	struct mg_session *first; /* open sessions; under the lock */
	size_t count;
	atomic_ullong next_id;
	atomic_bool stopping;
	atomic_int quick; /* statements that no thread waits for (quick.h) */
	struct mg_metric *open_metric;
};

struct mg_session {
	struct mg_session *next, **link; /* in the list, until close */
	struct mg_sessions *sessions;
	atomic_int refs;
	char id[24];
	char *user;
	enum mg_role role;
	void (*kill)(void *arg); /* under the list's lock; NULL once called or closed */
	void *arg;
	pthread_mutex_t lock;
	struct mg_settings settings; /* under lock */
	struct mg_tx *tx;            /* under lock: that is open (transaction.h); or NULL */
	struct mg_seen seen;         /* under lock: here and at other nodes */
};

/* ---- session_seen.c ---- */
/* out: a zeroed one. */
void mg_session__copy_seen(struct mg_session *session, struct mg_seen *out);

/* ---- request_check.c ---- */
/* Takes the empty statements out, and refuses what the request may not hold. */
int mg_session__check(struct mg_arena *arena, const struct mg_request *request,
                      struct mg_statement *statements, size_t *count, struct mg_error *err);
int mg_session__check_explained(struct mg_arena *arena, const struct mg_statement *statement,
                                struct mg_error *err);
int mg_session__refuse(const struct mg_statement *statement, struct mg_error *err);

#endif
