/*
 * transaction.c - see transaction.h.
 *
 * Order of locks: that of the sessions' list, a session's, a transaction's.  A transaction is ended
 * outside of them: that gives its connection back to the engine, which may take a moment.
 */
#include "session/transaction.h"

#include "base/log.h"
#include "base/metrics.h"
#include "os/clock.h"
#include "os/wait.h"
#include "session/session_int.h"

#include <stdio.h>

enum { AGAIN_MS = 1000 };

/* ---- the open one ---- */

struct mg_tx *mg_session__tx(struct mg_session *session)
{
	pthread_mutex_lock(&session->lock);
	struct mg_tx *tx = session->tx ? mg_tx_ref(session->tx) : NULL;
	pthread_mutex_unlock(&session->lock);
	return tx;
}

const char *mg_session_transaction(struct mg_session *session)
{
	struct mg_tx *tx = mg_session__tx(session);
	const char *state = !tx ? "" : mg_tx_state(tx) == MG_TX_OPEN ? "open" : "failed";

	mg_tx_unref(tx);
	return state;
}

static struct mg_tx *take_tx(struct mg_session *session)
{
	pthread_mutex_lock(&session->lock);
	struct mg_tx *tx = session->tx;

	session->tx = NULL;
	pthread_mutex_unlock(&session->lock);
	return tx;
}

static size_t count_open(struct mg_sessions *sessions)
{
	size_t count = 0;

	pthread_mutex_lock(&sessions->lock);
	for (struct mg_session *session = sessions->first; session; session = session->next) {
		pthread_mutex_lock(&session->lock);
		count += session->tx && mg_tx_state(session->tx) != MG_TX_OVER;
		pthread_mutex_unlock(&session->lock);
	}
	pthread_mutex_unlock(&sessions->lock);
	return count;
}

static int say(struct mg_error *err, const char *sqlstate, const char *text)
{
	(void)mg_error_set(err, MG_E_TRANSACTION, "%s", text);
	if (err) {
		mg_copy_text(err->sqlstate, sizeof err->sqlstate, sqlstate);
	}
	return MG_E_TRANSACTION;
}

static void watch_more(void *watch);

int mg_session_begin(struct mg_session *session, bool read_only, struct mg_error *err)
{
	struct mg_sessions *sessions = session->sessions;

	if (count_open(sessions) >= MG_TRANSACTIONS_MAX) {
		mg_error_set(err, MG_E_BUSY, "%d transactions are open on this server",
		             MG_TRANSACTIONS_MAX);
		mg_error_hint(err, "Wait until some have ended, or run the statements without BEGIN.");
		return MG_E_BUSY;
	}
	struct mg_tx *tx = mg_tx_new(mg_sessions_engine(sessions), read_only);

	mg_tx_on_evicted(tx, watch_more, sessions->tx_watch);
	pthread_mutex_lock(&session->lock);
	bool open = session->tx != NULL;

	session->tx = open ? session->tx : tx;
	pthread_mutex_unlock(&session->lock);
	if (open) {
		mg_tx_unref(tx);
		return say(err, "25001", "cannot start a transaction within a transaction");
	}
	watch_more(sessions->tx_watch);
	return 0;
}

void mg_session__count_commit(const struct mg_error *err)
{
	const char *how = !err || !err->code                  ? "outcome=\"committed\""
	                  : err->code == MG_E_CONFLICT        ? "outcome=\"conflict\""
	                  : err->code == MG_E_UNKNOWN_OUTCOME ? "outcome=\"unknown\""
	                                                      : "outcome=\"failed\"";

	mg_metric_add(mg_metric_counter("merganser_commits_total", how,
	                                "COMMIT of transactions over several statements."),
	              1);
}

int mg_session__no_transaction(const char *what, struct mg_error *err)
{
	char text[80];

	(void)snprintf(text, sizeof text, "cannot %s - no transaction is active", what);
	return say(err, "25P01", text);
}

int mg_session__over(struct mg_error *err)
{
	return say(err, "25P01", "the transaction is over");
}

int mg_session__rollback(struct mg_session *session, struct mg_error *err)
{
	struct mg_tx *tx = mg_session__tx(session);

	if (!tx) {
		return mg_session__no_transaction("rollback", err);
	}
	int code = mg_tx_rollback(tx, err);

	if (!code) {
		mg_session__forget(session, tx);
	}
	mg_tx_unref(tx);
	return code;
}

void mg_session__forget(struct mg_session *session, struct mg_tx *tx)
{
	pthread_mutex_lock(&session->lock);
	bool ours = session->tx == tx;

	session->tx = ours ? NULL : session->tx;
	pthread_mutex_unlock(&session->lock);
	if (ours) {
		mg_tx_unref(tx);
	}
}

static void end_soon(struct mg_tx_watch *watch, struct mg_tx *tx);

void mg_session__drop_tx(struct mg_session *session)
{
	struct mg_tx *tx = take_tx(session);

	if (tx) {
		end_soon(session->sessions->tx_watch, tx);
	}
}

/* ---- those that wait ---- */

struct mg_tx_watch {
	struct mg_sessions *sessions;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	/* under lock */
	bool started, stopping, more;
	struct mg_tx **dying; /* whose sessions were closed, on loops: with their references */
	size_t dying_count, dying_cap;
};

/* A session whose transaction is to be ended. */
struct late {
	struct mg_tx *tx;
	char session[24];
};

static void watch_more(void *arg)
{
	struct mg_tx_watch *watch = arg;

	pthread_mutex_lock(&watch->lock);
	watch->more = true;
	pthread_cond_signal(&watch->changed);
	pthread_mutex_unlock(&watch->lock);
}

/* Takes the reference.  A loop must not wait for the engine, which gives up a snapshot; when the
 * server stops it may. */
static void end_soon(struct mg_tx_watch *watch, struct mg_tx *tx)
{
	pthread_mutex_lock(&watch->lock);
	bool now = watch->stopping;
	if (!now) {
		mg_grow(watch->dying, watch->dying_count, watch->dying_cap);
		watch->dying[watch->dying_count++] = tx;
		watch->more = true;
		pthread_cond_signal(&watch->changed);
	}
	pthread_mutex_unlock(&watch->lock);
	if (now) {
		mg_tx_end(tx, MG_TX_CLOSED);
		mg_tx_unref(tx);
	}
}

static void end_dying(struct mg_tx_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	while (watch->dying_count) {
		struct mg_tx *tx = watch->dying[--watch->dying_count];

		pthread_mutex_unlock(&watch->lock);
		mg_tx_end(tx, MG_TX_CLOSED);
		mg_tx_unref(tx);
		pthread_mutex_lock(&watch->lock);
	}
	pthread_mutex_unlock(&watch->lock);
}

/* Those that have waited too long, each with a reference; *next: when to look again; 0: no need.
 * One that works now can be late only its whole limit from now. */
static size_t find_late(struct mg_sessions *sessions, struct late **out, uint64_t *next)
{
	uint64_t now = mg_clock_ms();
	size_t count = 0, cap = 0;
	struct late *found = NULL;

	*next = 0;
	pthread_mutex_lock(&sessions->lock);
	for (struct mg_session *session = sessions->first; session; session = session->next) {
		pthread_mutex_lock(&session->lock);
		uint64_t limit = session->settings.idle_in_transaction_ms;
		bool open = session->tx && mg_tx_state(session->tx) != MG_TX_OVER;
		uint64_t since = open ? mg_tx_idle_since(session->tx) : 0;
		uint64_t until = (since ? since : now) + limit;

		if ((session->tx && mg_tx_is_evicted(session->tx)) ||
		    (open && limit && since && until <= now)) {
			mg_grow(found, count, cap);
			found[count].tx = mg_tx_ref(session->tx);
			mg_copy_text(found[count++].session, sizeof found->session, session->id);
		} else if (open && limit && (!*next || until < *next)) {
			*next = until;
		}
		pthread_mutex_unlock(&session->lock);
	}
	pthread_mutex_unlock(&sessions->lock);
	*out = found;
	return count;
}

static void end_late(struct mg_sessions *sessions, uint64_t *next)
{
	struct late *found;
	size_t count = find_late(sessions, &found, next);

	for (size_t i = 0; i < count; i++) {
		bool evicted = mg_tx_is_evicted(found[i].tx);

		mg_log(MG_LOG_INFO, evicted ? "transaction.evicted" : "transaction.idle", "session=%s",
		       found[i].session);
		if (evicted) {
			mg_tx_reap(found[i].tx);
		} else {
			mg_tx_end_idle(found[i].tx);
		}
		mg_tx_unref(found[i].tx);
	}
	mg_free(found);
	if (count && !*next) { /* one may have entered a statement just now */
		*next = mg_clock_ms() + AGAIN_MS;
	}
}

static void wait_until(struct mg_tx_watch *watch, uint64_t next)
{
	if (next) {
		(void)mg_cond_wait_until(&watch->changed, &watch->lock, next);
	} else {
		(void)pthread_cond_wait(&watch->changed, &watch->lock);
	}
}

static void *watch_main(void *arg)
{
	struct mg_tx_watch *watch = arg;
	uint64_t next = 0;

	pthread_mutex_lock(&watch->lock);
	while (!watch->stopping) {
		if (!watch->more) {
			wait_until(watch, next);
		}
		watch->more = false;
		pthread_mutex_unlock(&watch->lock);
		end_dying(watch);
		end_late(watch->sessions, &next);
		pthread_mutex_lock(&watch->lock);
	}
	pthread_mutex_unlock(&watch->lock);
	return NULL;
}

int mg_tx_watch_new(struct mg_tx_watch **out, struct mg_sessions *sessions, struct mg_error *err)
{
	struct mg_tx_watch *watch = mg_alloc0(sizeof *watch);

	watch->sessions = sessions;
	pthread_mutex_init(&watch->lock, NULL);
	mg_cond_init(&watch->changed);
	int failed = pthread_create(&watch->thread, NULL, watch_main, watch);

	watch->started = failed == 0;
	*out = watch;
	return failed ? mg_error_errno(err, failed, "cannot start the thread that ends transactions")
	              : 0;
}

void mg_tx_watch_stop(struct mg_tx_watch *watch)
{
	if (!watch || !watch->started) {
		return;
	}
	pthread_mutex_lock(&watch->lock);
	watch->stopping = true;
	pthread_cond_signal(&watch->changed);
	pthread_mutex_unlock(&watch->lock);
	pthread_join(watch->thread, NULL);
	watch->started = false;
	end_dying(watch);
}

void mg_tx_watch_free(struct mg_tx_watch *watch)
{
	if (!watch) {
		return;
	}
	mg_tx_watch_stop(watch);
	mg_free(watch->dying);
	pthread_cond_destroy(&watch->changed);
	pthread_mutex_destroy(&watch->lock);
	mg_free(watch);
}

void mg_sessions__drop_all(struct mg_sessions *sessions)
{
	struct mg_session *session;

	if (sessions->tx_watch) {
		end_dying(sessions->tx_watch);
	}
	do { /* one by one: each is ended outside of the lock */
		pthread_mutex_lock(&sessions->lock);
		for (session = sessions->first; session; session = session->next) {
			struct mg_tx *tx = mg_session__tx(session);
			bool open = tx && mg_tx_state(tx) != MG_TX_OVER;

			mg_tx_unref(tx);
			if (open) {
				break;
			}
		}
		struct mg_tx *tx = session ? mg_session__tx(session) : NULL;
		pthread_mutex_unlock(&sessions->lock);
		if (tx) {
			mg_tx_end(tx, MG_TX_CLOSED);
		}
		mg_tx_unref(tx);
	} while (session);
}
