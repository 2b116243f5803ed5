/*
 * apart.c - see apart.h.
 *
 * Rule, under the lock: `left` is set by the request's thread only, and never while the statement's
 * thread is inside of what the request owns (`inside`).  A statement that was left is ended by
 * whichever comes second: the statement's thread, which sets `done`, or the request's, which sets
 * `gone`.
 *
 * Slots: a statement that was left gives its slot back, so that others run, while fewer than
 * LEFT_FREE_MAX are left; past that it keeps the slot until it ends.  So the threads that are busy
 * with nobody's statements are bounded by LEFT_FREE_MAX plus the slots.
 */
#include "session/apart.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "exec/tx.h"
#include "os/clock.h"
#include "os/wait.h"
#include "session/session_int.h"

#include <pthread.h>

enum { LEFT_FREE_MAX = 8 };

struct mg_apart {
	struct mg_apart_work work;
	char *text;
	struct mg_query *query;
	struct mg_admission *keeps; /* left with its slot; NULL: without */
	bool counted;               /* left without its slot: one of LEFT_FREE_MAX */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopped, inside, left, gone, done; /* under lock */
	/* owner: the statement's thread until done */
	struct mg_sb plan;
	struct mg_error err;
	int code;
};

struct mg_apart *mg_apart_new(const struct mg_apart_work *work)
{
	struct mg_apart *apart = mg_alloc0(sizeof *apart);

	apart->work = *work;
	apart->text = mg_strndup(work->text.ptr, work->text.len);
	apart->work.text.ptr = apart->text;
	pthread_mutex_init(&apart->lock, NULL);
	mg_cond_init(&apart->changed);
	return apart;
}

void mg_apart_free(struct mg_apart *apart)
{
	if (!apart) {
		return;
	}
	mg_sb_fini(&apart->plan);
	pthread_cond_destroy(&apart->changed);
	pthread_mutex_destroy(&apart->lock);
	mg_free(apart->text);
	mg_free(apart);
}

/* ---- the statement's thread ---- */

/* Before it touches what the request owns. */
static int enter(struct mg_apart *apart, struct mg_error *err)
{
	pthread_mutex_lock(&apart->lock);
	bool left = apart->left;

	apart->inside = !left;
	pthread_mutex_unlock(&apart->lock);
	return left ? mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled") : 0;
}

static void leave(struct mg_apart *apart)
{
	pthread_mutex_lock(&apart->lock);
	apart->inside = false;
	pthread_cond_signal(&apart->changed);
	pthread_mutex_unlock(&apart->lock);
}

static int rows_begin(void *arg, const struct ArrowSchema *schema, size_t count,
                      const char *const *names, const char *const *types, struct mg_error *err)
{
	struct mg_apart *apart = arg;
	int code = enter(apart, err);

	if (!code) {
		code = apart->work.rows->begin(apart->work.rows->arg, schema, count, names, types, err);
		leave(apart);
	}
	return code;
}

static int rows_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_apart *apart = arg;
	int code = enter(apart, err);

	if (!code) {
		code = apart->work.rows->batch(apart->work.rows->arg, batch, err);
		leave(apart);
	}
	return code;
}

static void rows_notice(void *arg, const char *text)
{
	struct mg_apart *apart = arg;

	if (!enter(apart, NULL)) {
		if (apart->work.rows->notice) {
			apart->work.rows->notice(apart->work.rows->arg, text);
		}
		leave(apart);
	}
}

static int fill_catalog(void *arg, struct mg_duck_conn *conn, bool *transaction,
                        struct mg_error *err)
{
	struct mg_apart *apart = arg;
	int code = enter(apart, err);

	if (!code) {
		code = apart->work.fill(apart->work.rows->arg, conn, transaction, err);
		leave(apart);
	}
	return code;
}

static struct mg_metric *left_metric(void)
{
	return mg_metric_gauge("merganser_statements_left", "",
	                       "Statements that were ended but have not come back from the engine.");
}

/* Both are done with it: what the request would have done. */
static void end_alone(struct mg_apart *apart)
{
	struct mg_sessions *sessions = apart->work.sessions;

	mg_log(MG_LOG_INFO, "query.came_back", "query=%s elapsed_ms=%.0f", mg_query_id(apart->query),
	       mg_query_elapsed_ms(apart->query));
	mg_error_set(&apart->err, MG_E_CANCELLED, "the statement was cancelled");
	mg_query_end(apart->query, &apart->err);
	if (apart->work.settings.tx) {
		mg_tx_leave(apart->work.settings.tx, &apart->err);
	}
	if (apart->keeps) {
		mg_admission_leave(apart->keeps);
	}
	if (apart->counted) {
		atomic_fetch_sub(&sessions->left_free, 1);
	}
	mg_metric_add(left_metric(), -1);
	mg_apart_free(apart);
}

static void run(void *arg)
{
	struct mg_apart *apart = arg;
	const struct mg_apart_work *work = &apart->work;
	struct mg_engine *engine = work->sessions->options.engine;
	struct mg_run *run = mg_query_run(apart->query);

	mg_run_on_catalog(run, fill_catalog, apart);
	if (work->explain) {
		apart->code = mg_coordinator_explain(engine, run, &work->settings, work->text,
		                                     work->analyze, work->json, &apart->plan, &apart->err);
	} else {
		const struct mg_rows rows = {
			.begin = rows_begin,
			.batch = rows_batch,
			.notice = rows_notice,
			.lossless = work->rows->lossless,
			.batch_rows = work->rows->batch_rows,
			.arg = apart,
		};

		apart->code =
			mg_coordinator_run(engine, run, &work->settings, work->text, &rows, &apart->err);
	}
	pthread_mutex_lock(&apart->lock);
	bool gone = apart->gone;

	apart->done = true;
	pthread_cond_signal(&apart->changed);
	pthread_mutex_unlock(&apart->lock);
	if (gone) {
		end_alone(apart);
	}
}

/* ---- the request's thread ---- */

/* What a statement that is left takes along. */
static void hand_over(struct mg_apart *apart, struct mg_slot *slot)
{
	struct mg_sessions *sessions = apart->work.sessions;

	apart->counted = atomic_fetch_add(&sessions->left_free, 1) < LEFT_FREE_MAX;
	if (!apart->counted) {
		atomic_fetch_sub(&sessions->left_free, 1);
		apart->keeps = slot->held ? slot->admission : NULL;
		slot->held = false;
	}
	mg_metric_add(left_metric(), 1);
	mg_log(MG_LOG_WARN, "query.left", "query=%s elapsed_ms=%.0f keeps_slot=%s",
	       mg_query_id(apart->query), mg_query_elapsed_ms(apart->query),
	       apart->keeps ? "true" : "false");
}

/* Until it is done, or was stopped and has had its time: then false, and it is left. */
static bool wait_for(struct mg_apart *apart, struct mg_slot *slot)
{
	uint64_t until_ms = 0;
	bool over = false;

	pthread_mutex_lock(&apart->lock);
	while (!apart->done && !(over && !apart->inside)) {
		if (!apart->stopped || over) {
			pthread_cond_wait(&apart->changed, &apart->lock);
			continue;
		}
		if (!until_ms) {
			until_ms = mg_clock_ms() + MG_APART_GRACE_MS;
		}
		over = !mg_cond_wait_until(&apart->changed, &apart->lock, until_ms);
	}
	bool done = apart->done;

	if (!done) {
		hand_over(apart, slot);
		apart->left = true;
	}
	pthread_mutex_unlock(&apart->lock);
	return done;
}

int mg_apart_run(struct mg_apart *apart, struct mg_query *query, struct mg_slot *slot,
                 struct mg_sb *plan, bool *left, struct mg_error *err)
{
	struct mg_sessions *sessions = apart->work.sessions;

	*left = false;
	apart->query = query;
	int code = mg_pool_post(sessions->runners, run, apart, err);

	if (code) {
		return code;
	}
	if (wait_for(apart, slot)) {
		*plan = apart->plan;
		apart->plan = (struct mg_sb){ 0 };
		if (apart->code && err) {
			*err = apart->err;
		}
		return apart->code;
	}
	*left = true;
	mg_query_left(query); /* not under our lock, which is taken under the list's */
	return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
}

void mg_apart_leave(struct mg_apart *apart)
{
	pthread_mutex_lock(&apart->lock);
	bool done = apart->done;

	mg_assert(apart->left);
	apart->gone = true;
	pthread_mutex_unlock(&apart->lock);
	if (done) {
		end_alone(apart);
	}
}

void mg_apart_stop(struct mg_apart *apart)
{
	pthread_mutex_lock(&apart->lock);
	apart->stopped = true;
	pthread_cond_signal(&apart->changed);
	pthread_mutex_unlock(&apart->lock);
}
