/*
 * session.c - the sessions of a node: who is there, and how one is ended.
 *
 * Invariant, under the lock of mg_sessions: a session is in the list from open to close, and kill
 * is called only for one in the list.
 */
#include "session/session.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "os/clock.h"
#include "session/session_int.h"

#include <stdio.h>
#include <string.h>

enum { WATCHERS_MAX = 2, QUICK_LOOK_MS = 2 };

/* ---- what they share ---- */

int mg_sessions_new(struct mg_sessions **out, const struct mg_sessions_options *options,
                    struct mg_error *err)
{
	struct mg_sessions *sessions = mg_alloc0(sizeof *sessions);

	sessions->options = *options;
	pthread_mutex_init(&sessions->lock, NULL);
	sessions->pool = mg_pool_new(options->threads_max, options->queue_max);
	sessions->runners = mg_pool_new(options->threads_max, options->queue_max);
	sessions->admission = mg_admission_new(options->running_max, options->queue_max);
	sessions->watchers = mg_admission_new(WATCHERS_MAX, options->queue_max);
	mg_admission_wake_also(sessions->admission, sessions->watchers);
	sessions->open_metric =
		mg_metric_gauge("merganser_sessions", "", "Clients that are logged in.");
	int code = mg_queries_new(&sessions->queries, sessions->admission, options->slow_ms, err);
	struct mg_system_tables_options tables = { .engine = options->engine,
		                                       .queries = sessions->queries,
		                                       .replicas = options->replicas,
		                                       .arg = options->arg,
		                                       .settings = options->settings,
		                                       .setting_count = options->setting_count };

	code = code ? code : mg_system_tables_new(&sessions->tables, &tables, err);
	code = code ? code : mg_tx_watch_new(&sessions->tx_watch, sessions, err);
	if (code) {
		mg_sessions_free(sessions);
		return code;
	}
	if (options->peers) {
		sessions->relay =
			mg_relay_new(sessions, options->peers, options->threads_max, options->queue_max);
	}
	*out = sessions;
	return 0;
}

void mg_sessions_stop(struct mg_sessions *sessions)
{
	atomic_store(&sessions->stopping, true);
	if (sessions->queries) { /* else it never began */
		mg_queries_cancel_session(sessions->queries, NULL);
	}
	while (atomic_load(&sessions->quick) > 0) {
		mg_sleep_ms(QUICK_LOOK_MS);
	}
	mg_pool_stop(sessions->pool); /* every client is told, then */
	mg_relay_stop(sessions->relay);
	mg_pool_stop(sessions->runners);
	mg_sessions__drop_all(sessions); /* the engine is closed next */
	mg_tx_watch_stop(sessions->tx_watch);
}

size_t mg_sessions_shed(struct mg_sessions *sessions, size_t max)
{
	return mg_queries_shed(sessions->queries, max);
}

void mg_sessions_free(struct mg_sessions *sessions)
{
	if (!sessions) {
		return;
	}
	mg_sessions_stop(sessions);
	mg_assert(sessions->first == NULL);
	mg_relay_free(sessions->relay);
	mg_tx_watch_free(sessions->tx_watch);
	mg_pool_free(sessions->pool);
	mg_pool_free(sessions->runners);
	mg_system_tables_free(sessions->tables);
	mg_queries_free(sessions->queries);
	mg_admission_free(sessions->admission);
	mg_admission_free(sessions->watchers);
	pthread_mutex_destroy(&sessions->lock);
	mg_free(sessions);
}

struct mg_engine *mg_sessions_engine(struct mg_sessions *sessions)
{
	return sessions->options.engine;
}

struct mg_pool *mg_sessions_pool(struct mg_sessions *sessions)
{
	return sessions->pool;
}

struct mg_admission *mg_sessions_admission(struct mg_sessions *sessions)
{
	return sessions->admission;
}

struct mg_queries *mg_sessions_queries(struct mg_sessions *sessions)
{
	return sessions->queries;
}

struct mg_system_tables *mg_sessions_tables(struct mg_sessions *sessions)
{
	return sessions->tables;
}

size_t mg_sessions_count(struct mg_sessions *sessions)
{
	pthread_mutex_lock(&sessions->lock);
	size_t count = sessions->count;
	pthread_mutex_unlock(&sessions->lock);
	return count;
}

/* ---- one session ---- */

struct mg_session *mg_session_open(struct mg_sessions *sessions, const struct mg_session_open *open)
{
	struct mg_session *session = mg_alloc0(sizeof *session);

	session->sessions = sessions;
	atomic_init(&session->refs, 1);
	(void)snprintf(session->id, sizeof session->id, "%c-%llu", open->door[0],
	               atomic_fetch_add(&sessions->next_id, 1) + 1);
	session->user = mg_strdup(open->user);
	session->role = open->role;
	session->kill = open->kill;
	session->arg = open->arg;
	pthread_mutex_init(&session->lock, NULL);
	mg_settings_init(&session->settings);
	pthread_mutex_lock(&sessions->lock);
	session->link = &sessions->first;
	session->next = sessions->first;
	if (session->next) {
		session->next->link = &session->next;
	}
	sessions->first = session;
	sessions->count++;
	pthread_mutex_unlock(&sessions->lock);
	mg_metric_add(sessions->open_metric, 1);
	return session;
}

struct mg_session *mg_session_ref(struct mg_session *session)
{
	atomic_fetch_add(&session->refs, 1);
	return session;
}

void mg_session_unref(struct mg_session *session)
{
	if (!session || atomic_fetch_sub(&session->refs, 1) > 1) {
		return;
	}
	mg_assert(session->link == NULL);
	mg_session__drop_tx(session); /* begun when it was closed already */
	pthread_mutex_destroy(&session->lock);
	mg_seen_fini(&session->seen);
	mg_free(session->user);
	mg_free(session);
}

void mg_session_close(struct mg_session *session)
{
	struct mg_sessions *sessions = session->sessions;

	pthread_mutex_lock(&sessions->lock);
	bool open = session->link != NULL;
	if (open) {
		*session->link = session->next;
		if (session->next) {
			session->next->link = session->link;
		}
		session->link = NULL;
		session->kill = NULL;
		sessions->count--;
	}
	pthread_mutex_unlock(&sessions->lock);
	if (open) {
		mg_metric_add(sessions->open_metric, -1);
		mg_queries_cancel_session(sessions->queries, session->id);
		mg_session__drop_tx(session);
	}
}

const char *mg_session_id(const struct mg_session *session)
{
	return session->id;
}

const char *mg_session_user(const struct mg_session *session)
{
	return session->user;
}

enum mg_role mg_session_role(const struct mg_session *session)
{
	return session->role;
}

struct mg_settings mg_session_settings(struct mg_session *session)
{
	pthread_mutex_lock(&session->lock);
	struct mg_settings settings = session->settings;
	pthread_mutex_unlock(&session->lock);
	return settings;
}

int mg_session_set(struct mg_session *session, const char *name, const char *value,
                   struct mg_error *err)
{
	pthread_mutex_lock(&session->lock);
	int code = mg_settings_set(&session->settings, name, value, err);
	pthread_mutex_unlock(&session->lock);
	return code;
}

int mg_session_kill(struct mg_session *session, const char *id, struct mg_error *err)
{
	struct mg_sessions *sessions = session->sessions;
	struct mg_tx *tx = NULL;
	int code = 0;

	pthread_mutex_lock(&sessions->lock);
	struct mg_session *other = sessions->first;

	while (other && strcmp(other->id, id) != 0) {
		other = other->next;
	}
	if (!other) {
		code = mg_error_set(err, MG_E_NOT_FOUND, "there is no connection \"%s\"", id);
		mg_error_hint(err,
		              "SELECT DISTINCT session FROM cluster.queries shows connections that work.");
	} else if (session->role != MG_ROLE_ADMIN && strcmp(other->user, session->user) != 0) {
		code = mg_error_set(err, MG_E_DENIED, "connection \"%s\" belongs to another user", id);
	} else {
		void (*kill)(void *) = other->kill;

		tx = mg_session__tx(other);
		other->kill = NULL;
		if (kill) {
			kill(other->arg);
		}
	}
	pthread_mutex_unlock(&sessions->lock);
	if (tx) {
		mg_tx_end(tx, MG_TX_CLOSED);
		mg_tx_unref(tx);
	}
	if (!code) {
		mg_queries_cancel_session(sessions->queries, id);
		mg_log(MG_LOG_INFO, "session.killed", "session=%s by=%s", id, session->id);
		mg_system_tables_event(sessions->tables, "session.killed", id);
	}
	return code;
}
