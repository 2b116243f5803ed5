/*
 * tx_handles.c - see tx_handles.h.
 *
 * A handle whose transaction was ended for being idle stays for TELL_MS more, or until room is
 * needed.  Sessions are opened and closed outside of the lock.
 */
#include "door/tx_handles.h"

#include "base/mem.h"
#include "os/clock.h"
#include "os/random.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { TELL_MS = 600000 };

struct handle {
	char id[MG_TX_HANDLE_SIZE];
	struct mg_session *session;
	uint64_t used_ms; /* taken last */
};

struct mg_tx_handles {
	struct mg_sessions *sessions;
	pthread_mutex_t lock;
	struct handle *list; /* under lock */
	size_t count, cap;
	bool closed;
};

struct mg_tx_handles *mg_tx_handles_new(struct mg_sessions *sessions)
{
	struct mg_tx_handles *handles = mg_alloc0(sizeof *handles);

	handles->sessions = sessions;
	pthread_mutex_init(&handles->lock, NULL);
	return handles;
}

static void end(struct mg_session *session)
{
	if (session) {
		mg_session_close(session);
		mg_session_unref(session);
	}
}

/* The session of a handle that is taken out of the list.  Under the lock. */
static struct mg_session *take_out(struct mg_tx_handles *handles, size_t i)
{
	struct mg_session *session = handles->list[i].session;

	handles->list[i] = handles->list[--handles->count];
	return session;
}

/* One that nobody will ask for any more; NULL: none.  max: there is need of room. */
static struct mg_session *take_stale(struct mg_tx_handles *handles)
{
	uint64_t now = mg_clock_ms();
	struct mg_session *stale = NULL;

	pthread_mutex_lock(&handles->lock);
	bool full = handles->count >= MG_TX_HANDLES_MAX;

	for (size_t i = 0; !stale && i < handles->count; i++) {
		const struct handle *handle = &handles->list[i];
		bool idle = now - handle->used_ms > MG_TX_HANDLE_IDLE_MS + (full ? 0 : TELL_MS);

		if (idle && strcmp(mg_session_transaction(handle->session), "open") != 0) {
			stale = take_out(handles, i);
		}
	}
	pthread_mutex_unlock(&handles->lock);
	return stale;
}

static bool add(struct mg_tx_handles *handles, struct mg_session *session,
                char id[MG_TX_HANDLE_SIZE])
{
	pthread_mutex_lock(&handles->lock);
	bool room = !handles->closed && handles->count < MG_TX_HANDLES_MAX;

	if (room) {
		mg_grow(handles->list, handles->count, handles->cap);
		struct handle *handle = &handles->list[handles->count++];

		*handle = (struct handle){ .session = session, .used_ms = mg_clock_ms() };
		mg_random_hex(handle->id, (MG_TX_HANDLE_SIZE - 1) / 2);
		memcpy(id, handle->id, MG_TX_HANDLE_SIZE);
	}
	pthread_mutex_unlock(&handles->lock);
	return room;
}

int mg_tx_handles_open(struct mg_tx_handles *handles, const char *user, enum mg_role role,
                       bool read_only, char id[MG_TX_HANDLE_SIZE], struct mg_error *err)
{
	struct mg_session *session;

	while ((session = take_stale(handles))) {
		end(session);
	}
	char limit[24];

	(void)snprintf(limit, sizeof limit, "%ums", MG_TX_HANDLE_IDLE_MS);
	session = mg_session_open(
		handles->sessions, &(struct mg_session_open){ .user = user, .role = role, .door = "http" });
	int code = mg_session_set(session, "idle_in_transaction_timeout", limit, err);

	code = code ? code : mg_session_begin(session, read_only, err);
	if (!code && !add(handles, session, id)) {
		code =
			mg_error_set(err, MG_E_BUSY, "%d transactions are open over HTTP", MG_TX_HANDLES_MAX);
		mg_error_hint(err, "Wait until some have ended, or send a list with \"transaction\": true "
		                   "to /db/execute.");
	}
	if (code) {
		end(session);
	}
	return code;
}

/* Under the lock; count: it is not there. */
static size_t find(const struct mg_tx_handles *handles, const char *id)
{
	size_t i = 0;

	while (i < handles->count && strcmp(handles->list[i].id, id) != 0) {
		i++;
	}
	return i;
}

int mg_tx_handles_take(struct mg_tx_handles *handles, const char *id, const char *user,
                       struct mg_session **out, struct mg_error *err)
{
	*out = NULL;
	pthread_mutex_lock(&handles->lock);
	size_t i = find(handles, id);

	if (i < handles->count && strcmp(mg_session_user(handles->list[i].session), user) == 0) {
		handles->list[i].used_ms = mg_clock_ms();
		*out = mg_session_ref(handles->list[i].session);
	}
	pthread_mutex_unlock(&handles->lock);
	if (*out) {
		return 0;
	}
	mg_error_set(err, MG_E_NOT_FOUND, "there is no open transaction \"%.40s\"", id);
	mg_error_hint(err,
	              "It was committed or rolled back, or waited for longer than %u s, or is "
	              "another server's; POST /db/tx opens one.",
	              MG_TX_HANDLE_IDLE_MS / 1000);
	return MG_E_NOT_FOUND;
}

void mg_tx_handles_drop(struct mg_tx_handles *handles, const char *id)
{
	pthread_mutex_lock(&handles->lock);
	size_t i = find(handles, id);
	struct mg_session *session = i < handles->count ? take_out(handles, i) : NULL;

	pthread_mutex_unlock(&handles->lock);
	end(session);
}

void mg_tx_handles_close(struct mg_tx_handles *handles)
{
	struct mg_session *session;

	if (!handles) {
		return;
	}
	do {
		pthread_mutex_lock(&handles->lock);
		handles->closed = true;
		session = handles->count ? take_out(handles, 0) : NULL;
		pthread_mutex_unlock(&handles->lock);
		end(session);
	} while (session);
}

void mg_tx_handles_free(struct mg_tx_handles *handles)
{
	if (!handles) {
		return;
	}
	mg_tx_handles_close(handles);
	pthread_mutex_destroy(&handles->lock);
	mg_free(handles->list);
	mg_free(handles);
}
