/*
 * relay.h - statements that this node cannot run go to the one that can, and others' come here.
 *
 *     a session's thread: mg_relay_run --RUN--> the other node: a session of its own,
 * mg_session_run sink <-- BEGIN, BATCH ... DONE or FAILED --
 *
 * Rule: what comes back is what the statement answered there, whole and in order, or an error that
 * says whether something may have happened.  A statement that came so goes nowhere else.
 *
 * One connection carries one statement at a time; those that are idle are kept.  It is read only
 * while fewer than MG_RELAY_QUEUE_HIGH bytes wait for the session's client, so the other node's
 * statement waits, too.  Who hears nothing for MG_RELAY_SILENCE_MS hangs up: a node that works says
 * each half second how far it is.
 *
 * Nodes show each other certificates, so the other node's word on who the user is counts.
 *
 * Bounds: MG_RELAY_IDLE_MAX idle connections; MG_RELAY_PEERS_MAX that others have opened here.
 *
 * Thread: any, but as said.
 */
#ifndef MG_SESSION_RELAY_H
#define MG_SESSION_RELAY_H

#include "replica/peers.h"
#include "session/session.h"

#define MG_RELAY_QUEUE_HIGH (4u << 20)
#define MG_RELAY_QUEUE_LOW (2u << 20)
#define MG_RELAY_SILENCE_MS 15000
#define MG_RELAY_IDLE_MAX 16
#define MG_RELAY_PEERS_MAX 512

struct mg_relay;
struct mg_relay_link; /* a connection to another node */

/* Takes what others send from now on.  sessions and peers are borrowed.  threads_max, queue_max: of
 * others' statements, as in pool.h. */
struct mg_relay *mg_relay_new(struct mg_sessions *sessions, struct mg_peers *peers,
                              size_t threads_max, size_t queue_max);
/* Takes no more, and waits for what runs for others, which is cancelled with the sessions.  While
 * loops and peers are still there; again is fine, and so is NULL. */
void mg_relay_stop(struct mg_relay *relay);
/* After the loops.  NULL is fine. */
void mg_relay_free(struct mg_relay *relay);

struct mg_relay_ask {
	uint64_t node;
	struct mg_session *session; /* what it has seen goes along, and comes back; NULL: nothing */
	const char *user;
	enum mg_role role;
	const struct mg_settings *settings;
	struct mg_str statement; /* one */
	struct mg_query *query;  /* ended from outside: it is ended there */
	bool writes;
	struct mg_write_key once;
	const struct mg_write_input *input; /* of COPY; NULL: none */
	/* Statements of a transaction go over one connection, which belongs to it from BEGIN to its
	 * end: *link, NULL for BEGIN alone, which takes one, and NULL again when it is lost.  NULL:
	 * any. */
	struct mg_relay_link **link;
};

struct mg_relay_answer {
	bool began;           /* the sink has been given begin */
	bool nothing;         /* failed: nothing has happened, another try may be better */
	bool elsewhere;       /* likewise, because that node is not the one to ask */
	uint64_t coordinator; /* it says that this one is; 0: it does not know */
	char tag[64];
	char step[32];
	struct mg_run_stats stats; /* step points into this struct */
};

/* The statement at that node, its rows into the sink, on this thread; answer: that of the sink.
 * Does not call end.  Fails: as the statement; MG_E_UNAVAILABLE with out->nothing; of a connection
 * that was lost MG_E_UNKNOWN_OUTCOME for a statement that writes, else MG_E_NODE or, before the
 * first row, MG_E_UNAVAILABLE. */
int mg_relay_run(struct mg_relay *relay, const struct mg_relay_ask *ask, struct mg_sink *sink,
                 struct mg_answer *answer, struct mg_relay_answer *out, struct mg_error *err);

/* The connection of a transaction is given up; clean: it is over there, too, else it is rolled back
 * by that.  Does not wait. */
void mg_relay_drop(struct mg_relay_link *link, bool clean);

#endif
