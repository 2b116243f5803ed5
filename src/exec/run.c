/*
 * run.c - one running statement as others see it: its id, its progress, and how to end it.
 *
 * Rule: a cancel that comes before, between or during attempts is never lost: the flag is set
 * first, and whoever attaches an attempt looks at it.
 *
 * `lock` guards attempt, code and the counters that other threads read.
 */
#include "exec/run.h"

#include "codec/seen.h"
#include "os/clock.h"
#include "os/random.h"

#include <pthread.h>
#include <stdio.h>

struct mg_run {
	char id[40];
	struct mg_run_stats stats; /* owner: the query's thread */
	pthread_mutex_t lock;
	struct mg_attempt *attempt; /* with a reference; NULL between attempts */
	struct mg_duck_conn *conn;  /* of the planning database while the statement runs there */
	int code;                   /* 0, MG_E_CANCELLED, MG_E_TIMEOUT or MG_E_NOMEM */
	atomic_bool stopped;        /* code is set, for conn: the engine forgets early interrupts */
	uint32_t stages_done, stages_planned;
	/* As another node has told; nodes 0: it has not. */
	double told_done;
	uint64_t told_rows, told_bytes;
	uint32_t told_nodes;
	bool elsewhere; /* owner: the query's thread */
	struct mg_seen seen; /* likewise */
	int (*fill)(void *arg, struct mg_duck_conn *conn, bool *transaction, struct mg_error *err);
	void *fill_arg;
};

struct mg_run *mg_run_new(void)
{
	static atomic_uint counter;
	struct mg_run *run = mg_alloc0(sizeof *run);
	uint8_t noise[3];
	mg_random_bytes(noise, sizeof noise);
	snprintf(run->id, sizeof run->id, "q-%04u-%02x%02x%02x", atomic_fetch_add(&counter, 1) + 1,
	         noise[0], noise[1], noise[2]);
	pthread_mutex_init(&run->lock, NULL);
	run->stats.step = "";
	return run;
}

void mg_run_free(struct mg_run *run)
{
	if (run) {
		mg_seen_fini(&run->seen);
		pthread_mutex_destroy(&run->lock);
		mg_free(run);
	}
}

void mg_run_on_catalog(struct mg_run *run,
                       int (*fill)(void *arg, struct mg_duck_conn *conn, bool *transaction,
                                   struct mg_error *err),
                       void *arg)
{
	run->fill = fill;
	run->fill_arg = arg;
}

int mg_run_fill_catalog(struct mg_run *run, struct mg_duck_conn *conn, bool *transaction,
                        struct mg_error *err)
{
	*transaction = false;
	return run->fill ? run->fill(run->fill_arg, conn, transaction, err) : 0;
}

struct mg_seen *mg_run_seen(struct mg_run *run)
{
	return &run->seen;
}

void mg_run_cancel(struct mg_run *run, int code)
{
	pthread_mutex_lock(&run->lock);
	if (!run->code) {
		run->code = code;
		atomic_store(&run->stopped, true);
	}
	struct mg_attempt *attempt = run->attempt;
	if (attempt) {
		mg_attempt_ref(attempt);
	}
	if (run->conn) {
		mg_duck_interrupt(run->conn); /* under the lock, so that it is still the statement's own */
	}
	pthread_mutex_unlock(&run->lock);
	if (attempt) {
		mg_attempt_cancel(attempt);
		mg_attempt_unref(attempt);
	}
}

bool mg_run_cancelled(const struct mg_run *run)
{
	struct mg_run *own = (struct mg_run *)run;
	pthread_mutex_lock(&own->lock);
	bool cancelled = own->code != 0;
	pthread_mutex_unlock(&own->lock);
	return cancelled;
}

bool mg_run_is_cancelled(void *run)
{
	return mg_run_cancelled(run);
}

int mg_run_cancel_error(struct mg_run *run, struct mg_error *err)
{
	pthread_mutex_lock(&run->lock);
	int code = run->code;
	pthread_mutex_unlock(&run->lock);
	if (code == MG_E_TIMEOUT) {
		mg_error_set(err, code, "the statement took longer than its time limit");
		mg_error_hint(err, "Raise it with SET statement_timeout = '60s', or 0 for none.");
		return code;
	}
	if (code == MG_E_NOMEM) {
		return mg_error_set(err, code, "the memory of the server is used up");
	}
	return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
}

const char *mg_run_id(const struct mg_run *run)
{
	return run->id;
}

int mg_run_attach(struct mg_run *run, struct mg_attempt *attempt, struct mg_error *err)
{
	pthread_mutex_lock(&run->lock);
	int code = run->code;
	if (!code) {
		mg_attempt_ref(attempt);
		run->attempt = attempt;
		run->stages_done = 0;
	}
	pthread_mutex_unlock(&run->lock);
	return code ? mg_run_cancel_error(run, err) : 0;
}

void mg_run_detach(struct mg_run *run)
{
	pthread_mutex_lock(&run->lock);
	struct mg_attempt *attempt = run->attempt;
	run->attempt = NULL;
	pthread_mutex_unlock(&run->lock);
	if (attempt) {
		mg_attempt_unref(attempt);
	}
}

int mg_run_attach_conn(struct mg_run *run, struct mg_duck_conn *conn, struct mg_error *err)
{
	pthread_mutex_lock(&run->lock);
	int code = conn ? run->code : 0;
	if (!code && conn != run->conn) {
		if (run->conn) {
			mg_duck_set_stop(run->conn, NULL);
		}
		if (conn) {
			mg_duck_set_stop(conn, &run->stopped);
		}
		run->conn = conn;
	}
	pthread_mutex_unlock(&run->lock);
	return code ? mg_run_cancel_error(run, err) : 0;
}

void mg_run_stage_begin(struct mg_run *run)
{
	pthread_mutex_lock(&run->lock);
	if (run->stages_planned <= run->stages_done + 1) {
		run->stages_planned = run->stages_done + 2; /* this one and the last */
	}
	pthread_mutex_unlock(&run->lock);
}

void mg_run_stage_end(struct mg_run *run)
{
	pthread_mutex_lock(&run->lock);
	run->stages_done++;
	pthread_mutex_unlock(&run->lock);
}

int mg_run_send_elsewhere(struct mg_run *run, struct mg_error *err)
{
	run->elsewhere = true;
	mg_error_set(err, MG_E_UNAVAILABLE, "this is read where writes are coordinated");
	mg_error_hint(err, "Try again; or SET read_consistency = 'any' to read what this node has.");
	return MG_E_UNAVAILABLE;
}

bool mg_run_belongs_elsewhere(const struct mg_run *run)
{
	return run->elsewhere;
}

struct mg_run_stats *mg_run_own_stats(struct mg_run *run)
{
	return &run->stats;
}

const struct mg_run_stats *mg_run_stats(const struct mg_run *run)
{
	return &run->stats;
}

void mg_run_set_progress(struct mg_run *run, double done, uint64_t rows, uint64_t bytes,
                         uint32_t nodes)
{
	pthread_mutex_lock(&run->lock);
	run->told_done = done;
	run->told_rows = rows;
	run->told_bytes = bytes;
	run->told_nodes = nodes;
	pthread_mutex_unlock(&run->lock);
}

void mg_run_note_relayed(struct mg_run *run, const struct mg_run_stats *stats)
{
	run->stats = *stats;
	run->stats.step = "relay";
}

void mg_run_progress(struct mg_run *run, double *done, uint64_t *rows, uint64_t *bytes,
                     uint32_t *nodes)
{
	*done = -1;
	*rows = *bytes = 0;
	*nodes = 1;
	pthread_mutex_lock(&run->lock);
	struct mg_attempt *attempt = run->attempt;
	uint32_t stages_done = run->stages_done,
			 planned = run->stages_planned ? run->stages_planned : 1;
	if (attempt) {
		mg_attempt_ref(attempt);
	} else if (run->told_nodes) {
		*done = run->told_done;
		*rows = run->told_rows;
		*bytes = run->told_bytes;
		*nodes = run->told_nodes;
	}
	pthread_mutex_unlock(&run->lock);
	if (!attempt) {
		return;
	}
	double stage = mg_attempt_progress(attempt);
	*rows = mg_attempt_rows_seen(attempt);
	*bytes = mg_attempt_bytes_seen(attempt);
	*nodes = (uint32_t)mg_attempt_part_count(attempt);
	if (stage >= 0 || stages_done) {
		double share = ((double)stages_done + (stage > 0 ? stage : 0)) / planned;
		*done = share > 1 ? 1 : share;
	}
	mg_attempt_unref(attempt);
}
