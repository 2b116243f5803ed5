/*
 * jobs.c - see jobs.h.
 *
 * owner: the list under lock; a job's own fields are its thread's until it has ended, and nobody's
 * after that; what is looked at while it runs is atomic.
 */
#include "job/jobs.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "job/job.h"
#include "os/clock.h"
#include "os/random.h"
#include "session/encode.h"
#include "session/running.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { RUNNING_MAX = 32 };
#define KEEP_MS (10u * 60 * 1000)
#define RESULTS_BYTES ((size_t)256 << 20) /* of ended jobs, together */

const char *const mg_job_state_names[] = { "waiting", "running", "done", "failed", "cancelled" };

struct mg_listed_job {
	atomic_int refs;
	struct mg_jobs *jobs;
	struct mg_listed_job *next; /* in the list, the oldest first */
	char id[96], user[64];
	struct mg_running running;
	_Atomic(enum mg_job_state) state;
	uint64_t started_ms;
	_Atomic(uint64_t) ended_ms; /* 0: not yet */
	struct mg_arena *arena;     /* of the texts that it was given */
	struct mg_job job;
	struct mg_error err;
	void (*ended)(void *arg);
	void *arg;
};

struct mg_jobs {
	struct mg_jobs_options options;
	char node[48];
	pthread_mutex_t lock;
	struct mg_listed_job *first, **last;
	size_t count;
	size_t results; /* bytes of ended ones */
	uint64_t number;
	bool stopping;
};

/* ---- one ---- */

void mg_listed_job_unref(struct mg_listed_job *listed)
{
	if (!listed || atomic_fetch_sub(&listed->refs, 1) > 1) {
		return;
	}
	mg_job_fini(&listed->job);
	mg_running_fini(&listed->running);
	mg_arena_free(listed->arena);
	mg_free(listed);
}

static struct mg_listed_job *ref(struct mg_listed_job *listed)
{
	(void)atomic_fetch_add(&listed->refs, 1);
	return listed;
}

const char *mg_listed_job_id(const struct mg_listed_job *listed)
{
	return listed->id;
}

enum mg_job_state mg_listed_job_state(const struct mg_listed_job *listed)
{
	return atomic_load(&listed->state);
}

static bool has_ended(const struct mg_listed_job *listed)
{
	return atomic_load(&listed->state) >= MG_JOB_DONE;
}

struct mg_str mg_listed_job_result(const struct mg_listed_job *listed)
{
	mg_assert(has_ended(listed));
	return (struct mg_str){ listed->job.result.ptr, listed->job.result.len };
}

const struct mg_error *mg_listed_job_error(const struct mg_listed_job *listed)
{
	mg_assert(has_ended(listed));
	return &listed->err;
}

void mg_listed_job_json(const struct mg_listed_job *listed, bool whole, struct mg_sb *out)
{
	bool ended = has_ended(listed);
	uint64_t ended_ms = atomic_load(&listed->ended_ms);

	mg_sb_addf(out, "{\"id\": \"%s\", \"user\": ", listed->id);
	mg_sb_add_json(out, listed->user, strlen(listed->user));
	mg_sb_addf(out,
	           ", \"state\": \"%s\", \"rows\": %" PRIu64 ", \"chunks\": %" PRIu64
	           ", \"elapsed_ms\": %" PRIu64,
	           mg_job_state_names[mg_listed_job_state(listed)], atomic_load(&listed->job.rows),
	           atomic_load(&listed->job.chunks),
	           (ended_ms ? ended_ms : mg_clock_ms()) - listed->started_ms);
	if (ended && whole) {
		mg_sb_add(out, ", \"printed\": ");
		mg_sb_add_json(out, mg_sb_text(&listed->job.printed), listed->job.printed.len);
	}
	if (ended && whole && listed->err.code) {
		mg_sb_add(out, ", \"error\": ");
		mg_error_json(out, &listed->err);
		mg_sb_add(out, ", \"traceback\": ");
		mg_sb_add_json(out, mg_sb_text(&listed->job.traceback), listed->job.traceback.len);
	}
	mg_sb_add_char(out, '}');
}

/* ---- its thread ---- */

static bool is_cancelled(void *arg)
{
	return atomic_load(&((struct mg_listed_job *)arg)->running.cancelled);
}

static void note_query(void *arg, struct mg_query *query)
{
	mg_running_set(&((struct mg_listed_job *)arg)->running, query);
}

static void note_ended(struct mg_listed_job *listed, int code)
{
	struct mg_jobs *jobs = listed->jobs;
	enum mg_job_state state = code == 0                       ? MG_JOB_DONE
	                          : atomic_load(&listed->running.cancelled) ? MG_JOB_CANCELLED
	                                                                    : MG_JOB_FAILED;
	char labels[40];

	if (state == MG_JOB_CANCELLED) {
		mg_error_set(&listed->err, MG_E_CANCELLED, "the job was cancelled");
	}
	(void)snprintf(labels, sizeof labels, "outcome=\"%s\"", mg_job_state_names[state]);
	mg_metric_add(mg_metric_counter("merganser_jobs_total", labels, "Jobs that have ended."), 1);
	mg_log(MG_LOG_INFO, "job.ended", "job=%s state=%s rows=%" PRIu64 " error=\"%s\"", listed->id,
	       mg_job_state_names[state], atomic_load(&listed->job.rows), listed->err.message);
	pthread_mutex_lock(&jobs->lock);
	jobs->results += listed->job.result.len;
	atomic_store(&listed->ended_ms, mg_clock_ms());
	atomic_store(&listed->state, state);
	pthread_mutex_unlock(&jobs->lock);
}

static void run(void *arg)
{
	struct mg_listed_job *listed = arg;
	struct mg_session *session = listed->job.session;

	atomic_store(&listed->state, MG_JOB_RUNNING);
	int code = mg_job_run(&listed->job, &listed->err);

	mg_session_close(session);
	mg_session_unref(session);
	mg_arena_free(listed->arena); /* what it was given; an ended one is kept for its result */
	listed->arena = NULL;
	listed->job.code = listed->job.values = listed->job.source = (struct mg_str){ 0 };
	note_ended(listed, code);
	if (listed->ended) {
		listed->ended(listed->arg);
	}
	mg_listed_job_unref(listed);
}

/* ---- the list: under its lock ---- */

static void drop(struct mg_jobs *jobs, struct mg_listed_job *listed)
{
	struct mg_listed_job **at = &jobs->first;

	while (*at && *at != listed) {
		at = &(*at)->next;
	}
	if (!*at) {
		return; /* it was dropped before */
	}
	*at = listed->next;
	if (jobs->last == &listed->next) {
		jobs->last = at;
	}
	jobs->count--;
	jobs->results -= listed->job.result.len;
	mg_listed_job_unref(listed);
}

/* Ended ones that are old, and, while there is too much of them, the oldest. */
static void drop_old(struct mg_jobs *jobs)
{
	uint64_t now_ms = mg_clock_ms();

	for (struct mg_listed_job *listed = jobs->first, *next; listed; listed = next) {
		bool many = jobs->count >= MG_JOBS_MAX || jobs->results > RESULTS_BYTES;

		next = listed->next;
		if (has_ended(listed) &&
		    (many || now_ms - atomic_load(&listed->ended_ms) > jobs->options.keep_ms)) {
			drop(jobs, listed);
		}
	}
}

static struct mg_listed_job *find(struct mg_jobs *jobs, const char *id)
{
	struct mg_listed_job *listed = jobs->first;

	while (listed && strcmp(listed->id, id) != 0) {
		listed = listed->next;
	}
	return listed;
}

static bool is_of(const struct mg_listed_job *listed, const char *user)
{
	return !user || strcmp(listed->user, user) == 0;
}

/* ---- from outside ---- */

static struct mg_str copy(struct mg_arena *arena, struct mg_str text)
{
	return (struct mg_str){ mg_arena_strndup(arena, text.len ? text.ptr : "", text.len),
		                    text.len };
}

static struct mg_listed_job *new_job(struct mg_jobs *jobs, const struct mg_job_begin *begin)
{
	struct mg_listed_job *listed = mg_alloc0(sizeof *listed);
	char chance[9];

	atomic_init(&listed->refs, 2); /* the list, and its thread */
	listed->jobs = jobs;
	listed->arena = mg_arena_new();
	listed->started_ms = mg_clock_ms();
	listed->ended = begin->ended;
	listed->arg = begin->arg;
	mg_running_init(&listed->running);
	mg_copy_text(listed->user, sizeof listed->user, mg_session_user(begin->session));
	(void)snprintf(listed->id, sizeof listed->id, "j-%s-%" PRIu64 "-%s", jobs->node,
	               ++jobs->number, mg_random_hex(chance, 4));
	listed->job = (struct mg_job){
		.nursery = jobs->options.nursery,
		.session = begin->session,
		.code = copy(listed->arena, begin->code),
		.values = copy(listed->arena, begin->values),
		.source = copy(listed->arena, begin->source),
		.stopped = is_cancelled,
		.query = note_query,
		.arg = listed,
	};
	return listed;
}

/* Each has a query thread. */
static void count_running(const struct mg_jobs *jobs, const char *user, size_t *all, size_t *own)
{
	for (const struct mg_listed_job *listed = jobs->first; listed; listed = listed->next) {
		*all += !has_ended(listed);
		*own += !has_ended(listed) && is_of(listed, user);
	}
}

static int enlist(struct mg_jobs *jobs, const struct mg_job_begin *begin,
                  struct mg_listed_job **out, struct mg_error *err)
{
	drop_old(jobs);
	if (jobs->stopping) {
		return mg_error_set(err, MG_E_SHUTDOWN, "the server is stopping");
	}
	size_t all = 0, own = 0;

	count_running(jobs, mg_session_user(begin->session), &all, &own);
	if (all >= RUNNING_MAX || own >= RUNNING_MAX / 2 || jobs->count >= MG_JOBS_MAX) {
		mg_error_set(err, MG_E_BUSY, "%zu jobs run at this server, %zu of them yours; there are "
		                             "%d, and %d for one user",
		             all, own, RUNNING_MAX, RUNNING_MAX / 2);
		mg_error_hint(err, "Nothing was begun: try again later, or at another server.");
		return MG_E_BUSY;
	}
	struct mg_listed_job *listed = new_job(jobs, begin);
	int code = mg_pool_post(mg_sessions_pool(jobs->options.sessions), run, listed, err);

	if (code) {
		atomic_store(&listed->refs, 1);
		mg_listed_job_unref(listed);
		return code;
	}
	*jobs->last = listed;
	jobs->last = &listed->next;
	jobs->count++;
	*out = ref(listed);
	return 0;
}

int mg_jobs_begin(struct mg_jobs *jobs, const struct mg_job_begin *begin,
                  struct mg_listed_job **out, struct mg_error *err)
{
	pthread_mutex_lock(&jobs->lock);
	int code = enlist(jobs, begin, out, err);

	pthread_mutex_unlock(&jobs->lock);
	if (code) {
		mg_session_close(begin->session);
		mg_session_unref(begin->session);
	}
	return code;
}

int mg_jobs_find(struct mg_jobs *jobs, const char *id, const char *user,
                 struct mg_listed_job **out, struct mg_error *err)
{
	pthread_mutex_lock(&jobs->lock);
	drop_old(jobs);
	struct mg_listed_job *listed = find(jobs, id);
	bool found = listed && is_of(listed, user);

	*out = found ? ref(listed) : NULL;
	pthread_mutex_unlock(&jobs->lock);
	if (found) {
		return 0;
	}
	mg_error_set(err, MG_E_NOT_FOUND, "this server has no job \"%.96s\"", id);
	mg_error_hint(err, "A job is known at the server that has begun it, whose name is in its id, "
	                   "while it runs and for %" PRIu64 " s after.",
	              jobs->options.keep_ms / 1000);
	return MG_E_NOT_FOUND;
}

size_t mg_jobs_list(struct mg_jobs *jobs, const char *user, struct mg_listed_job **out, size_t max)
{
	size_t count = 0;

	pthread_mutex_lock(&jobs->lock);
	drop_old(jobs);
	for (struct mg_listed_job *listed = jobs->first; listed && count < max;
	     listed = listed->next) {
		if (is_of(listed, user)) {
			out[count++] = ref(listed);
		}
	}
	pthread_mutex_unlock(&jobs->lock);
	return count;
}

static void stop(struct mg_jobs *jobs, struct mg_listed_job *listed)
{
	mg_running_cancel(&listed->running, mg_sessions_queries(jobs->options.sessions));
}

void mg_jobs_cancel(struct mg_jobs *jobs, struct mg_listed_job *listed)
{
	if (!has_ended(listed)) {
		stop(jobs, listed);
		return;
	}
	pthread_mutex_lock(&jobs->lock);
	drop(jobs, listed);
	pthread_mutex_unlock(&jobs->lock);
}

/* ---- life ---- */

struct mg_jobs *mg_jobs_new(const struct mg_jobs_options *options)
{
	struct mg_jobs *jobs = mg_alloc0(sizeof *jobs);

	jobs->options = *options;
	jobs->options.keep_ms = options->keep_ms ? options->keep_ms : KEEP_MS;
	jobs->options.node = NULL;
	mg_copy_text(jobs->node, sizeof jobs->node, options->node);
	pthread_mutex_init(&jobs->lock, NULL);
	jobs->last = &jobs->first;
	return jobs;
}

void mg_jobs_stop(struct mg_jobs *jobs)
{
	pthread_mutex_lock(&jobs->lock);
	jobs->stopping = true;
	for (struct mg_listed_job *listed = jobs->first; listed; listed = listed->next) {
		stop(jobs, listed);
	}
	pthread_mutex_unlock(&jobs->lock);
	mg_nursery_stop(jobs->options.nursery);
}

void mg_jobs_free(struct mg_jobs *jobs)
{
	if (!jobs) {
		return;
	}
	while (jobs->first) {
		drop(jobs, jobs->first);
	}
	pthread_mutex_destroy(&jobs->lock);
	mg_free(jobs);
}
