/*
 * transaction.h - the transaction that a session has open: from BEGIN to COMMIT, ROLLBACK, the
 * session's end, or the limit of its idleness.
 *
 * Rule: a transaction that was ended from outside stays the session's until it says COMMIT (which
 * fails) or ROLLBACK, so that no later statement of it becomes one of its own.
 *
 * Limit: MG_TRANSACTIONS_MAX open ones a node, each a snapshot of all shards.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_TRANSACTION_H
#define MG_SESSION_TRANSACTION_H

#include "exec/tx.h"
#include "session/session.h"

#define MG_TRANSACTIONS_MAX 1000

/* One thread, which ends those that wait for too long. */
struct mg_tx_watch;

int mg_tx_watch_new(struct mg_tx_watch **out, struct mg_sessions *sessions, struct mg_error *err);
/* What was to be ended has been, and what ends from now on does so at once: before the engine
 * closes. */
void mg_tx_watch_stop(struct mg_tx_watch *watch); /* NULL is fine */
void mg_tx_watch_free(struct mg_tx_watch *watch); /* NULL is fine */

/* Fails: 25P01 when none is open; MG_E_BUSY while a COMMIT of it is under way. */
int mg_session__rollback(struct mg_session *session, struct mg_error *err);
int mg_session__no_transaction(const char *what, struct mg_error *err); /* says 25P01 */
int mg_session__over(struct mg_error *err);                             /* likewise */
/* The open one, with a reference, or NULL. */
struct mg_tx *mg_session__tx(struct mg_session *session);
/* COMMIT has ended it, one way or the other. */
void mg_session__forget(struct mg_session *session, struct mg_tx *tx);
void mg_session__count_commit(const struct mg_error *err); /* for the metrics; NULL: it went well */
/* The session is closed: roll back. */
void mg_session__drop_tx(struct mg_session *session);
/* The node stops: all of them. */
void mg_sessions__drop_all(struct mg_sessions *sessions);

#endif
