/* relay_int.h - what relay_ask.c, relay_link.c and relay_serve.c share. */
#ifndef MG_SESSION_RELAY_INT_H
#define MG_SESSION_RELAY_INT_H

#include "base/metrics.h"
#include "session/relay.h"
#include "session/relay_frame.h"

#include <pthread.h>
#include <stdatomic.h>

struct mg_relay_link;

struct mg_relay {
	struct mg_sessions *sessions;
	struct mg_peers *peers;
	/* Threads for others' statements, which wait for no other node: so that two nodes whose threads
	 * all wait for each other still answer. */
	struct mg_pool *pool;
	struct mg_metric *asked, *served, *queued;
	atomic_size_t queued_bytes; /* that have come and wait for their session's client */
	atomic_bool stopping;
	atomic_int serving; /* connections that others have opened */
	pthread_mutex_t lock;
	/* guarded by lock */
	struct mg_relay_link *idle; /* counted */
	size_t idle_count;
};

/* ---- relay_link.c: the asking end of a connection; one thread at a time, which may wait ---- */

/* An idle one, or a new one.  stopped: asked while it waits.  Fails: MG_E_CONNECT, MG_E_DENIED,
 * MG_E_TIMEOUT, MG_E_CANCELLED. */
int mg_relay_link_take(struct mg_relay *relay, uint64_t node, bool (*stopped)(void *arg), void *arg,
                       struct mg_relay_link **out, struct mg_error *err);
/* One that is kept for a transaction waits for its next statement, or that comes. */
void mg_relay_link_hold(struct mg_relay_link *link, bool waits);
/* Takes the frame. */
void mg_relay_link_send(struct mg_relay_link *link, struct mg_buf *frame);
/* The next frame, or NULL when none has come for wait_ms.  Fails: MG_E_DISCONNECTED, MG_E_PROTOCOL.
 */
int mg_relay_link_receive(struct mg_relay_link *link, unsigned wait_ms, struct mg_buf **out,
                          struct mg_error *err);
/* After receive has failed: nothing of what was sent has left this node.  Waits for the loop. */
bool mg_relay_link_sent_nothing(struct mg_relay_link *link);
/* Back; reusable: it has answered all that it was asked. */
void mg_relay_link_give(struct mg_relay_link *link, bool reusable);
void mg_relay_link_drop_idle(struct mg_relay *relay);

/* ---- relay_serve.c ---- */

/* For mg_peers_set_relay. */
bool mg_relay__take(void *arg, struct mg_conn *conn, uint64_t node, size_t skip);

#endif
