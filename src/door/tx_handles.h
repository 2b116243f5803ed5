/*
 * tx_handles.h - transactions over HTTP: which session a handle stands for.
 *
 *     open (POST /db/tx) -> take, take ... (?tx=) -> drop (commit, rollback)
 *
 * A handle belongs to its user, and to this node.  The session behind it ends a transaction that
 * waits for MG_TX_HANDLE_IDLE_MS (session/transaction.h); the handle then says so for a while, so
 * that its client hears why.
 *
 * Limit: MG_TX_HANDLES_MAX.
 *
 * Thread: any.
 */
#ifndef MG_DOOR_TX_HANDLES_H
#define MG_DOOR_TX_HANDLES_H

#include "session/session.h"

#define MG_TX_HANDLES_MAX 512
#define MG_TX_HANDLE_IDLE_MS 60000u
#define MG_TX_HANDLE_SIZE 33 /* 32 hex digits and a zero */

struct mg_tx_handles;

struct mg_tx_handles *mg_tx_handles_new(struct mg_sessions *sessions);
/* Rolls back what is open; NULL is fine.  Again is fine. */
void mg_tx_handles_close(struct mg_tx_handles *handles);
void mg_tx_handles_free(struct mg_tx_handles *handles); /* closes; NULL is fine */

/* A session with an open transaction.  Fails: MG_E_BUSY too many. */
int mg_tx_handles_open(struct mg_tx_handles *handles, const char *user, enum mg_role role,
                       bool read_only, char id[MG_TX_HANDLE_SIZE], struct mg_error *err);
/* Its session, with a reference.  Fails: MG_E_NOT_FOUND, also when it is another user's. */
int mg_tx_handles_take(struct mg_tx_handles *handles, const char *id, const char *user,
                       struct mg_session **out, struct mg_error *err);
/* The transaction is over: closes the session.  An id that is gone is fine. */
void mg_tx_handles_drop(struct mg_tx_handles *handles, const char *id);

#endif
