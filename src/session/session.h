/*
 * session.h - a client's state, and the one way in which every door runs statements.
 *
 * mg_sessions is what the sessions of a node share: threads, slots, the list of queries, the system
 * tables.  mg_session is one client: who it is and what it has SET.  mg_session_run executes the
 * text of one request on the calling thread, which is a query thread, and gives rows to a sink.
 *
 * Life: mg_sessions_new -> sessions come and go -> mg_sessions_stop (before the loops stop) ->
 * free. Thread: any; requests of one session may run at once.
 */
#ifndef MG_SESSION_SESSION_H
#define MG_SESSION_SESSION_H

#include "base/error.h"
#include "base/str.h"
#include "catalog/catalog.h"
#include "exec/coordinator.h"
#include "exec/engine.h"
#include "exec/outcome.h"
#include "os/pool.h"
#include "session/admission.h"
#include "session/query.h"
#include "session/settings.h"
#include "session/system_tables.h"

struct mg_peers;
struct mg_sessions;
struct mg_session;

struct mg_sessions_options {
	struct mg_engine *engine; /* borrowed */
	size_t running_max;       /* statements that work at once; 0: max(2, 2 * cores) */
	size_t queue_max;         /* that wait for their turn; 0: 1,024 */
	size_t threads_max;       /* 0: 256 */
	uint64_t slow_ms;         /* log statements that take longer; 0: never */
	struct mg_peers *peers;   /* to other nodes, borrowed; NULL: there are none */
	/* See system_tables.h; may be NULL. */
	size_t (*replicas)(void *arg, struct mg_replica_info *infos, size_t max);
	void *arg;
	const struct mg_server_setting *settings;
	size_t setting_count;
};

int mg_sessions_new(struct mg_sessions **out, const struct mg_sessions_options *options,
                    struct mg_error *err);
void mg_sessions_stop(struct mg_sessions *sessions); /* cancels what runs, waits for the threads */
/* Memory is used up: end at most max statements; returns how many.  Any thread. */
size_t mg_sessions_shed(struct mg_sessions *sessions, size_t max);
void mg_sessions_free(struct mg_sessions *sessions); /* NULL is fine */
struct mg_engine *mg_sessions_engine(struct mg_sessions *sessions);
struct mg_pool *mg_sessions_pool(struct mg_sessions *sessions);
struct mg_admission *mg_sessions_admission(struct mg_sessions *sessions);
struct mg_queries *mg_sessions_queries(struct mg_sessions *sessions);
struct mg_system_tables *mg_sessions_tables(struct mg_sessions *sessions);
size_t mg_sessions_count(struct mg_sessions *sessions);

struct mg_session_open {
	const char *user;
	enum mg_role role;
	const char *door; /* "shell", "http": first letter of the id */
	/* KILL: close the connection; called from any thread, at most once, never after
	 * mg_session_close. */
	void (*kill)(void *arg);
	void *arg;
};
struct mg_session *mg_session_open(struct mg_sessions *sessions,
                                   const struct mg_session_open *open);
struct mg_session *mg_session_ref(struct mg_session *session);
void mg_session_unref(struct mg_session *session); /* NULL is fine */
/* The client is gone: out of the list, its queries cancelled.  Its memory goes with the last unref.
 */
void mg_session_close(struct mg_session *session);
const char *mg_session_id(const struct mg_session *session); /* "s-12" */
const char *mg_session_user(const struct mg_session *session);
enum mg_role mg_session_role(const struct mg_session *session);
struct mg_settings mg_session_settings(struct mg_session *session);
/* BEGIN.  Waits for nothing.  Fails: 25001 when one is open, MG_E_BUSY. */
int mg_session_begin(struct mg_session *session, bool read_only, struct mg_error *err);
/* "": none, "open", "failed": only ROLLBACK is left. */
const char *mg_session_transaction(struct mg_session *session);
int mg_session_set(struct mg_session *session, const char *name, const char *value,
                   struct mg_error *err);
/* What the session has seen, as text that its client carries from node to node (codec/seen.h); no
 * text before it has seen anything.  Settings say whether a read keeps to it. */
void mg_session_add_seen(struct mg_session *session, struct mg_sb *out);
/* It has seen this, too, elsewhere.  Fails: MG_E_USAGE, for no such text, or another cluster's. */
int mg_session_see(struct mg_session *session, struct mg_str text, struct mg_error *err);
/* An answer of this node is about to be given to it. */
void mg_session_note_seen(struct mg_session *session);
/* End a connection by its session's id.  Fails: MG_E_NOT_FOUND, MG_E_DENIED. */
int mg_session_kill(struct mg_session *session, const char *id, struct mg_error *err);

/* The step of a write that was done before, under its key. */
#define MG_STEP_REPEATED "repeated"

/* What is known of one statement's answer. */
struct mg_answer {
	uint32_t statement;          /* from 1 */
	const char *query_id, *verb; /* query_id: "" for SET and the like */
	/* begin; count 0: a statement without rows */
	const struct ArrowSchema *schema;
	size_t count;
	const char *const *names, *const *types;
	/* Of COPY ... TO STDOUT, whose rows are its bytes (copy_out.h); or NULL. */
	const char *media_type;
	/* end */
	const struct mg_run_stats *stats;
	double elapsed_ms;
	char tag[64]; /* "SELECT 3" */
};

/* Where answers go; called from the thread that runs the request.  A sink's error ends the request.
 */
struct mg_sink {
	int (*begin)(void *arg, const struct mg_answer *answer, struct mg_error *err);
	int (*batch)(void *arg, struct ArrowArray *batch, struct mg_error *err);
	int (*end)(void *arg, const struct mg_answer *answer, struct mg_error *err);
	void (*notice)(void *arg, const char *text); /* may be NULL */
	/* The next piece of what the client sends for COPY, the caller's; *out NULL: that was all.  May
	 * wait, until `stop`.  NULL: it sends nothing. */
	int (*input)(void *arg, struct mg_buf **out, struct mg_error *err);
	/* The query that runs now, or NULL when it is over; may be NULL.  For progress. */
	void (*query)(void *arg, struct mg_query *query);
	/* The query is ended from outside: wake the thread if it waits in the sink.  May be NULL.  Any
	 * thread; short; must not call back into the session. */
	void (*stop)(void *arg);
	void *arg;
	bool lossless;
	size_t batch_rows;
	struct mg_slot slot; /* filled by mg_session_run; for mg_stream_on_wait */
};

/* Where a request ended: of use when it failed. */
struct mg_outcome {
	uint32_t statements; /* answered in full */
	uint32_t statement;  /* the last one begun, from 1 */
	char query_id[40];
	bool elsewhere;       /* nothing was done: this node is not the one to ask */
	uint64_t coordinator; /* but this one; 0: not known */
};

struct mg_request {
	struct mg_str sql;
	bool one_read;  /* one statement that reads, nothing else (HTTP) */
	bool one_write; /* one statement that changes rows or tables, nothing else (HTTP) */
	/* Another node has sent it: what cannot be run here fails at once, with outcome->elsewhere. */
	bool relayed;
	/* Its statements belong to the open transaction: without one each fails with 25P01, so that
	 * none becomes a transaction of its own. */
	bool in_transaction;
	struct mg_write_key once; /* of one statement; the key is hex digits */
	/* Asked between statements; true ends the request with MG_E_CANCELLED. */
	bool (*cancelled)(void *arg);
	void *arg;
};

int mg_session_run(struct mg_session *session, const struct mg_request *request,
                   struct mg_sink *sink, struct mg_outcome *outcome, struct mg_error *err);

#endif
