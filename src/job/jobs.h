/*
 * jobs.h - the jobs of a server: those that run, and, for a while, those that have ended.
 *
 * A job belongs to its user; admins see and end everybody's.  What is kept of ended ones is
 * bounded: MG_JOBS_MAX of them, their results together, and for how long.
 *
 * Thread: any.
 */
#ifndef MG_JOB_JOBS_H
#define MG_JOB_JOBS_H

#include "base/error.h"
#include "base/str.h"
#include "job/nursery.h"
#include "session/session.h"

enum mg_job_state { MG_JOB_WAITING, MG_JOB_RUNNING, MG_JOB_DONE, MG_JOB_FAILED, MG_JOB_CANCELLED };
extern const char *const mg_job_state_names[];

struct mg_jobs;
struct mg_listed_job; /* counted */

struct mg_jobs_options {
	struct mg_nursery *nursery;    /* borrowed, as the next one */
	struct mg_sessions *sessions;  /* whose threads they run on */
	const char *node;              /* for their ids; copied */
	uint64_t keep_ms;              /* an ended one; 0: 10 minutes */
};

struct mg_jobs *mg_jobs_new(const struct mg_jobs_options *options);
void mg_jobs_stop(struct mg_jobs *jobs); /* cancels all; the pool waits for their threads */
void mg_jobs_free(struct mg_jobs *jobs); /* none runs any more; NULL is fine */

struct mg_job_begin {
	struct mg_session *session; /* open; the job's from now on, closed at its end */
	struct mg_str code, values, source; /* as in job.h; copied */
	/* Called once, on its thread, when it has ended; may be NULL. */
	void (*ended)(void *arg);
	void *arg;
};

/* *out: counted for the caller.  Fails: MG_E_BUSY, MG_E_SHUTDOWN; then the session is closed, too,
 * and ended not called. */
int mg_jobs_begin(struct mg_jobs *jobs, const struct mg_job_begin *begin,
                  struct mg_listed_job **out, struct mg_error *err);
/* user NULL: anybody's.  Fails: MG_E_NOT_FOUND. */
int mg_jobs_find(struct mg_jobs *jobs, const char *id, const char *user,
                 struct mg_listed_job **out, struct mg_error *err);
/* Those of a user, or all, the newest last; each counted for the caller. */
size_t mg_jobs_list(struct mg_jobs *jobs, const char *user, struct mg_listed_job **out, size_t max);
/* It is to end soon; one that has ended is not kept any longer. */
void mg_jobs_cancel(struct mg_jobs *jobs, struct mg_listed_job *listed);
void mg_listed_job_unref(struct mg_listed_job *listed); /* NULL is fine */

#define MG_JOBS_MAX 1000 /* kept and running */

const char *mg_listed_job_id(const struct mg_listed_job *listed);
enum mg_job_state mg_listed_job_state(const struct mg_listed_job *listed);
/* {"id", "user", "state", "rows", "chunks", "elapsed_ms"}, and, when it is to be whole and has
 * ended, what it has printed and its error. */
void mg_listed_job_json(const struct mg_listed_job *listed, bool whole, struct mg_sb *out);
/* Of one that has ended; valid as long as it is counted. */
struct mg_str mg_listed_job_result(const struct mg_listed_job *listed);
const struct mg_error *mg_listed_job_error(const struct mg_listed_job *listed);

#endif
