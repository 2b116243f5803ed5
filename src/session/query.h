/*
 * query.h - which statements run, which ran, and how one is ended from outside.
 *
 * A query is one statement of one request.  It is listed from its start until its end, and then
 * kept as plain data in a ring of MG_HISTORY_MAX.  Ending one (cancel, kill, time limit, shutdown)
 * sets its run's flag and calls the hook of its door, which wakes a thread that waits for a slow
 * client.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_QUERY_H
#define MG_SESSION_QUERY_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "exec/coordinator.h"

#define MG_HISTORY_MAX 1000
#define MG_QUERY_TEXT_MAX 4096 /* bytes of a statement that are kept */

struct mg_admission;
struct mg_queries;
struct mg_query;

enum mg_query_state {
	MG_QUERY_QUEUED,
	MG_QUERY_RUNNING,
	MG_QUERY_DONE,
	MG_QUERY_FAILED,
	MG_QUERY_CANCELLED
};
extern const char *const mg_query_state_names[];

/* What a query looks like from outside; texts live in the arena it was listed into. */
struct mg_query_info {
	char id[40], session[24], node[48];
	const char *user, *sql;
	const char *step;           /* "cut", ... or "" */
	const char *reason, *error; /* or "" */
	char sqlstate[6];
	enum mg_query_state state;
	uint64_t started_ms;     /* wall clock */
	double elapsed_ms, done; /* done: 0..1, negative when unknown */
	uint64_t rows, bytes, moved_bytes;
	uint32_t nodes, workers, shards;
};

/* slow_ms: a statement that takes longer is logged; 0: never. admission: woken on cancel; borrowed.
 * Fails: the system gives no thread. */
int mg_queries_new(struct mg_queries **out, struct mg_admission *admission, uint64_t slow_ms,
                   struct mg_error *err);
void mg_queries_free(struct mg_queries *queries); /* no query may be listed; NULL is fine */

struct mg_query_begin {
	const char *session, *user;
	struct mg_str sql;
	uint64_t timeout_ms; /* 0: none */
	/* Called once at most, when the query is ended from outside; on the ender's thread. */
	void (*stop)(void *arg);
	void *arg;
};
struct mg_query *mg_query_begin(struct mg_queries *queries, const struct mg_query_begin *begin);
struct mg_run *mg_query_run(struct mg_query *query); /* until mg_query_end */
const char *mg_query_id(const struct mg_query *query);
void mg_query_running(struct mg_query *query); /* it has its slot */
void mg_query_left(struct mg_query *query);    /* ended, its client told, but it still runs */
/* Move to the history and free; err NULL or without code: it went well. After it stop is not
 * called. */
void mg_query_end(struct mg_query *query, const struct mg_error *err);
/* As if it had never begun. */
void mg_query_drop(struct mg_query *query);
/* 0, or why the query was ended from outside: MG_E_CANCELLED, MG_E_TIMEOUT, MG_E_NOMEM. Any thread.
 */
int mg_query_stopped(const struct mg_query *query);
/* That in words; shutdown: the server ends all.  Returns the code. */
int mg_query_say_stopped(const struct mg_query *query, uint64_t timeout_ms, bool shutdown,
                         struct mg_error *err);
double mg_query_elapsed_ms(const struct mg_query *query);

/* user NULL: may end anybody's.  Fails: MG_E_NOT_FOUND, MG_E_DENIED. */
int mg_queries_cancel(struct mg_queries *queries, const char *id, const char *user,
                      struct mg_error *err);
/* Every query of a session, or of all for NULL. */
void mg_queries_cancel_session(struct mg_queries *queries, const char *session);

/* Memory is used up: end at most max running queries, the newest of those first that run long
 * enough to have used it; returns how many. */
size_t mg_queries_shed(struct mg_queries *queries, size_t max);

/* Copies, newest last, in arena. */
size_t mg_queries_running(struct mg_queries *queries, struct mg_arena *arena,
                          struct mg_query_info **out);
size_t mg_queries_history(struct mg_queries *queries, struct mg_arena *arena,
                          struct mg_query_info **out);

#endif
