/*
 * query.c - the list of running statements, the ring of past ones, and their time limits.
 *
 * Invariants, under the lock: a query is in the list from begin to end; stop is called at most
 * once, and never after end.  The hook runs under the lock, so it must be short and must not come
 * back here. One watchdog thread sleeps until the nearest time limit.
 *
 * Limits: MG_HISTORY_MAX past queries, MG_QUERY_TEXT_MAX bytes of each text.
 */
#include "session/query.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "os/clock.h"
#include "os/wait.h"
#include "session/admission.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
	WATCHDOG_SLEEP_US = 60 * 1000000,
	SHED_AGE_MS = 250, /* what began later is ended last: it can hardly be what took the memory */
};

const char *const mg_query_state_names[] = { "queued", "running", "done", "failed", "cancelled" };

struct mg_query {
	struct mg_query *next, **link; /* in the list */
	struct mg_queries *queries;
	struct mg_run *run;
	char session[24];
	char *user, *sql;
	enum mg_query_state state; /* under the lock */
	atomic_int stopped;
	uint64_t started_ms;            /* wall clock */
	uint64_t begin_us, deadline_us; /* monotonic; 0: no limit */
	void (*stop)(void *arg);
	void *arg;
};

struct past {
	struct mg_query_info info;
	char *user, *sql, *reason, *error;
};

struct mg_queries {
	pthread_mutex_t lock;
	pthread_cond_t limits_changed;
	pthread_t watchdog;
	bool watched; /* the thread was started */
	bool stopping;
	struct mg_admission *admission;
	uint64_t slow_ms;
	struct mg_query *first;
	struct past *history; /* ring */
	size_t history_first, history_count;
	struct mg_metric *latency, *rows, *bytes, *moved, *shed;
};

/* Under the lock. */
static void query_stop(struct mg_query *query, int code)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&query->stopped, &none, code)) {
		return;
	}
	mg_run_cancel(query->run, code);
	if (query->stop) {
		query->stop(query->arg);
	}
}

static void *watchdog_main(void *arg)
{
	struct mg_queries *queries = arg;

	pthread_mutex_lock(&queries->lock);
	while (!queries->stopping) {
		uint64_t now = mg_clock_us(), next = now + WATCHDOG_SLEEP_US;
		bool ended = false;

		for (struct mg_query *query = queries->first; query; query = query->next) {
			if (query->deadline_us == 0 || atomic_load(&query->stopped)) {
				continue;
			}
			if (query->deadline_us <= now) {
				query_stop(query, MG_E_TIMEOUT);
				ended = true;
			} else if (query->deadline_us < next) {
				next = query->deadline_us;
			}
		}
		if (ended) {
			mg_admission_wake(queries->admission);
		}
		(void)mg_cond_wait_until(&queries->limits_changed, &queries->lock,
		                         mg_clock_ms() + (next - now + 999) / 1000);
	}
	pthread_mutex_unlock(&queries->lock);
	return NULL;
}

int mg_queries_new(struct mg_queries **out, struct mg_admission *admission, uint64_t slow_ms,
                   struct mg_error *err)
{
	struct mg_queries *queries = mg_alloc0(sizeof *queries);

	queries->admission = admission;
	queries->slow_ms = slow_ms;
	queries->history = mg_alloc0(MG_HISTORY_MAX * sizeof *queries->history);
	queries->latency = mg_metric_histogram("merganser_query_seconds", "", "Time a statement took.");
	queries->rows = mg_metric_counter("merganser_query_rows_total", "", "Rows answered.");
	queries->bytes = mg_metric_counter("merganser_query_bytes_total", "", "Bytes of answers.");
	queries->moved =
		mg_metric_counter("merganser_moved_bytes_total", "", "Bytes moved between nodes.");
	queries->shed = mg_metric_counter("merganser_statements_shed_total", "",
	                                  "Statements ended because the memory was used up.");
	pthread_mutex_init(&queries->lock, NULL);
	mg_cond_init(&queries->limits_changed);
	int failed = pthread_create(&queries->watchdog, NULL, watchdog_main, queries);

	queries->watched = failed == 0;
	if (failed) {
		mg_queries_free(queries);
		*out = NULL;
		return mg_error_errno(err, failed, "cannot start the thread that ends statements in time");
	}
	*out = queries;
	return 0;
}

static void past_fini(struct past *past)
{
	mg_free(past->user);
	mg_free(past->sql);
	mg_free(past->reason);
	mg_free(past->error);
	memset(past, 0, sizeof *past);
}

void mg_queries_free(struct mg_queries *queries)
{
	if (!queries) {
		return;
	}
	pthread_mutex_lock(&queries->lock);
	mg_assert(queries->first == NULL);
	queries->stopping = true;
	pthread_cond_signal(&queries->limits_changed);
	pthread_mutex_unlock(&queries->lock);
	if (queries->watched) {
		pthread_join(queries->watchdog, NULL);
	}
	for (size_t i = 0; i < MG_HISTORY_MAX; i++) {
		past_fini(&queries->history[i]);
	}
	pthread_cond_destroy(&queries->limits_changed);
	pthread_mutex_destroy(&queries->lock);
	mg_free(queries->history);
	mg_free(queries);
}

/* At most max bytes, not cut inside a character. */
static size_t cut_text(struct mg_str text, size_t max)
{
	size_t len = text.len < max ? text.len : max;

	while (len < text.len && len > 0 && ((unsigned char)text.ptr[len] & 0xc0) == 0x80) {
		len--;
	}
	return len;
}

struct mg_query *mg_query_begin(struct mg_queries *queries, const struct mg_query_begin *begin)
{
	struct mg_query *query = mg_alloc0(sizeof *query);

	query->queries = queries;
	query->run = mg_run_new();
	(void)snprintf(query->session, sizeof query->session, "%s", begin->session);
	query->user = mg_strdup(begin->user);
	query->sql = mg_strndup(begin->sql.ptr, cut_text(begin->sql, MG_QUERY_TEXT_MAX));
	query->started_ms = (uint64_t)mg_clock_wall_ms();
	query->begin_us = mg_clock_us();
	query->deadline_us = begin->timeout_ms ? query->begin_us + begin->timeout_ms * 1000u : 0;
	query->stop = begin->stop;
	query->arg = begin->arg;
	pthread_mutex_lock(&queries->lock);
	query->link = &queries->first;
	query->next = queries->first;
	if (query->next) {
		query->next->link = &query->next;
	}
	queries->first = query;
	if (query->deadline_us) {
		pthread_cond_signal(&queries->limits_changed);
	}
	pthread_mutex_unlock(&queries->lock);
	return query;
}

struct mg_run *mg_query_run(struct mg_query *query)
{
	return query->run;
}

const char *mg_query_id(const struct mg_query *query)
{
	return mg_run_id(query->run);
}

void mg_query_running(struct mg_query *query)
{
	pthread_mutex_lock(&query->queries->lock);
	query->state = MG_QUERY_RUNNING;
	pthread_mutex_unlock(&query->queries->lock);
}

void mg_query_left(struct mg_query *query)
{
	pthread_mutex_lock(&query->queries->lock);
	query->state = MG_QUERY_CANCELLED;
	pthread_mutex_unlock(&query->queries->lock);
}

int mg_query_stopped(const struct mg_query *query)
{
	return atomic_load(&query->stopped);
}

int mg_query_say_stopped(const struct mg_query *query, uint64_t timeout_ms, bool shutdown,
                         struct mg_error *err)
{
	int code = mg_query_stopped(query);

	if (code == MG_E_TIMEOUT) {
		mg_error_set(err, MG_E_TIMEOUT, "the statement took longer than its limit of %llu ms",
		             (unsigned long long)timeout_ms);
		mg_error_hint(err, "SET statement_timeout = '0' takes the limit off.");
		return code;
	}
	if (code == MG_E_NOMEM) {
		mg_error_set(err, MG_E_NOMEM,
		             "the statement was ended because the server's memory is used up");
		mg_error_hint(err,
		              "Try again when less runs, or ask for less at once: long lists and texts "
		              "of one row have to fit into memory.");
		return code;
	}
	if (shutdown) {
		return mg_error_set(err, MG_E_SHUTDOWN, "the server is shutting down");
	}
	return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
}

double mg_query_elapsed_ms(const struct mg_query *query)
{
	return (double)(mg_clock_us() - query->begin_us) / 1e3;
}

/* What is known of a query whatever its state; texts are borrowed. */
static void fill_info(const struct mg_query *query, struct mg_query_info *info)
{
	memset(info, 0, sizeof *info);
	(void)snprintf(info->id, sizeof info->id, "%s", mg_run_id(query->run));
	memcpy(info->session, query->session, sizeof info->session);
	info->user = query->user;
	info->sql = query->sql;
	info->step = info->reason = info->error = "";
	info->state = query->state;
	info->started_ms = query->started_ms;
	info->elapsed_ms = mg_query_elapsed_ms(query);
}

static void fill_stats(const struct mg_query *query, struct mg_query_info *info)
{
	const struct mg_run_stats *stats = mg_run_stats(query->run);

	info->step = stats->step ? stats->step : "";
	info->rows = stats->rows;
	info->bytes = stats->bytes;
	info->moved_bytes = stats->moved_bytes;
	info->nodes = stats->nodes;
	info->workers = stats->workers;
	info->shards = stats->shards;
	info->done = 1;
}

/* Metrics and the slow-query log; texts of statements go to the log cut and only when they are
 * slow. */
static void account(struct mg_queries *queries, const struct mg_query_info *info)
{
	char labels[96];

	(void)snprintf(labels, sizeof labels, "step=\"%s\",outcome=\"%s\"",
	               info->step[0] ? info->step : "none", mg_query_state_names[info->state]);
	mg_metric_add(mg_metric_counter("merganser_queries_total", labels, "Statements that ended."),
	              1);
	mg_metric_observe(queries->latency, info->elapsed_ms / 1000);
	mg_metric_add(queries->rows, (int64_t)info->rows);
	mg_metric_add(queries->bytes, (int64_t)info->bytes);
	mg_metric_add(queries->moved, (int64_t)info->moved_bytes);
	if (queries->slow_ms && info->elapsed_ms >= (double)queries->slow_ms) {
		mg_log(MG_LOG_WARN, "query.slow",
		       "query=%s session=%s user=%s state=%s step=%s elapsed_ms=%.1f rows=%llu "
		       "moved_bytes=%llu sql=%.*s",
		       info->id, info->session, info->user, mg_query_state_names[info->state],
		       info->step[0] ? info->step : "none", info->elapsed_ms,
		       (unsigned long long)info->rows, (unsigned long long)info->moved_bytes,
		       (int)cut_text(mg_str(info->sql), 200), info->sql);
	}
}

/* Under the lock. */
static void unlist(struct mg_query *query)
{
	*query->link = query->next;
	if (query->next) {
		query->next->link = query->link;
	}
}

void mg_query_end(struct mg_query *query, const struct mg_error *err)
{
	struct mg_queries *queries = query->queries;
	bool failed = err && err->code;
	struct past past = { 0 };

	fill_info(query, &past.info);
	fill_stats(query, &past.info);
	past.info.state = !failed ? MG_QUERY_DONE
	                  : err->code == MG_E_CANCELLED || err->code == MG_E_TIMEOUT
	                      ? MG_QUERY_CANCELLED
	                      : MG_QUERY_FAILED;
	if (failed) {
		memcpy(past.info.sqlstate, err->sqlstate, sizeof past.info.sqlstate);
	}
	account(queries, &past.info);
	past.reason = mg_strdup(mg_run_stats(query->run)->reason);
	past.error = mg_strdup(failed ? err->message : "");

	pthread_mutex_lock(&queries->lock);
	unlist(query);
	past.user = query->user;
	past.sql = query->sql;
	size_t at = (queries->history_first + queries->history_count) % MG_HISTORY_MAX;
	struct past oldest = queries->history[at];

	if (queries->history_count == MG_HISTORY_MAX) {
		queries->history_first = (queries->history_first + 1) % MG_HISTORY_MAX;
	} else {
		queries->history_count++;
	}
	queries->history[at] = past;
	pthread_mutex_unlock(&queries->lock);
	past_fini(&oldest);
	mg_run_free(query->run);
	mg_free(query);
}

void mg_query_drop(struct mg_query *query)
{
	struct mg_queries *queries = query->queries;

	pthread_mutex_lock(&queries->lock);
	unlist(query);
	pthread_mutex_unlock(&queries->lock);
	mg_run_free(query->run);
	mg_free(query->user);
	mg_free(query->sql);
	mg_free(query);
}

int mg_queries_cancel(struct mg_queries *queries, const char *id, const char *user,
                      struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&queries->lock);
	struct mg_query *query = queries->first;

	while (query && strcmp(mg_run_id(query->run), id) != 0) {
		query = query->next;
	}
	if (!query) {
		code = mg_error_set(err, MG_E_NOT_FOUND, "no query \"%s\" is running", id);
		mg_error_hint(err, "SELECT * FROM cluster.queries shows what runs.");
	} else if (user && strcmp(query->user, user) != 0) {
		code = mg_error_set(err, MG_E_DENIED, "query \"%s\" belongs to another user", id);
	} else {
		query_stop(query, MG_E_CANCELLED);
		mg_admission_wake(queries->admission);
	}
	pthread_mutex_unlock(&queries->lock);
	return code;
}

void mg_queries_cancel_session(struct mg_queries *queries, const char *session)
{
	pthread_mutex_lock(&queries->lock);
	for (struct mg_query *query = queries->first; query; query = query->next) {
		if (!session || strcmp(query->session, session) == 0) {
			query_stop(query, MG_E_CANCELLED);
		}
	}
	mg_admission_wake(queries->admission);
	pthread_mutex_unlock(&queries->lock);
}

/* Under the lock: newest first, those of that age. */
static size_t shed_aged(struct mg_queries *queries, size_t max, bool old)
{
	size_t count = 0;

	for (struct mg_query *query = queries->first; query && count < max; query = query->next) {
		if (query->state == MG_QUERY_RUNNING && !atomic_load(&query->stopped) &&
		    (mg_query_elapsed_ms(query) >= SHED_AGE_MS) == old) {
			mg_log(MG_LOG_WARN, "query.shed", "query=%s user=%s elapsed_ms=%.0f",
			       mg_run_id(query->run), query->user, mg_query_elapsed_ms(query));
			query_stop(query, MG_E_NOMEM);
			count++;
		}
	}
	return count;
}

size_t mg_queries_shed(struct mg_queries *queries, size_t max)
{
	pthread_mutex_lock(&queries->lock);
	size_t count = shed_aged(queries, max, true);

	count += shed_aged(queries, max - count, false);
	pthread_mutex_unlock(&queries->lock);
	mg_metric_add(queries->shed, (int64_t)count);
	return count;
}

size_t mg_queries_running(struct mg_queries *queries, struct mg_arena *arena,
                          struct mg_query_info **out)
{
	size_t count = 0;

	pthread_mutex_lock(&queries->lock);
	for (struct mg_query *query = queries->first; query; query = query->next) {
		count++;
	}
	struct mg_query_info *infos = mg_arena_new_array(arena, struct mg_query_info, count + 1);
	size_t at = count;

	/* The list has the newest first. */
	for (struct mg_query *query = queries->first; query; query = query->next) {
		struct mg_query_info *info = &infos[--at];

		fill_info(query, info);
		info->user = mg_arena_strdup(arena, info->user);
		info->sql = mg_arena_strdup(arena, info->sql);
		mg_run_progress(query->run, &info->done, &info->rows, &info->bytes, &info->nodes);
	}
	pthread_mutex_unlock(&queries->lock);
	*out = infos;
	return count;
}

size_t mg_queries_history(struct mg_queries *queries, struct mg_arena *arena,
                          struct mg_query_info **out)
{
	pthread_mutex_lock(&queries->lock);
	size_t count = queries->history_count;
	struct mg_query_info *infos = mg_arena_new_array(arena, struct mg_query_info, count + 1);

	for (size_t i = 0; i < count; i++) {
		const struct past *past = &queries->history[(queries->history_first + i) % MG_HISTORY_MAX];

		infos[i] = past->info;
		infos[i].user = mg_arena_strdup(arena, past->user);
		infos[i].sql = mg_arena_strdup(arena, past->sql);
		infos[i].reason = mg_arena_strdup(arena, past->reason);
		infos[i].error = mg_arena_strdup(arena, past->error);
	}
	pthread_mutex_unlock(&queries->lock);
	*out = infos;
	return count;
}
