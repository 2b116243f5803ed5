/*
 * apart.h - a statement that runs on a thread of its own, so that who asked for it can go.
 *
 * The engine cannot be interrupted inside one call of a function, and such a call may take minutes.
 * A statement that was ended from outside has MG_APART_GRACE_MS to come back; then its request is
 * answered without it, and it is left to end by itself: still listed, as cancelled, and without a
 * client.
 *
 * Thread: run belongs to the request's thread; stop may be called by any.
 */
#ifndef MG_SESSION_APART_H
#define MG_SESSION_APART_H

#include "base/error.h"
#include "base/str.h"
#include "exec/coordinator.h"
#include "session/admission.h"
#include "session/query.h"

#define MG_APART_GRACE_MS 500

struct mg_apart;
struct mg_sessions;

struct mg_apart_work {
	struct mg_sessions *sessions; /* borrowed; they stop only when every statement has ended */
	struct mg_run_settings settings;
	struct mg_str text;         /* copied */
	const struct mg_rows *rows; /* borrowed: called only while the request waits; so is the next */
	/* Of mg_run_on_catalog, with the argument of rows. */
	int (*fill)(void *arg, struct mg_duck_conn *conn, bool *transaction, struct mg_error *err);
	bool explain, analyze, json;
};

struct mg_apart *mg_apart_new(const struct mg_apart_work *work);
void mg_apart_free(struct mg_apart *apart); /* when it was not left; NULL is fine */

/* Run query to its end.  plan: gets EXPLAIN's text.  *left: the statement goes on without us; then
 * apart and query belong to it from mg_apart_leave on, and perhaps the slot.  Fails: what the
 * statement failed with; when it was left, MG_E_CANCELLED; MG_E_BUSY, MG_E_SHUTDOWN: it was not
 * begun. */
int mg_apart_run(struct mg_apart *apart, struct mg_query *query, struct mg_slot *slot,
                 struct mg_sb *plan, bool *left, struct mg_error *err);
/* After *left: the request touches neither apart nor query any more. */
void mg_apart_leave(struct mg_apart *apart);
/* The query was ended from outside: run returns soon.  Short; before or during run. */
void mg_apart_stop(struct mg_apart *apart);

#endif
