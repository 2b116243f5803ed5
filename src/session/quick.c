/* quick.c - see quick.h. */
#include "session/quick.h"

#include "base/mem.h"
#include "exec/blind.h"
#include "exec/run.h"
#include "session/session_int.h"

#include <stdio.h>

struct mg_quick {
	struct mg_sessions *sessions;
	struct mg_query *query;
	void (*over)(void *arg, struct mg_quick *quick);
	void *arg;
	uint64_t rows;
	struct mg_error err;
	struct mg_run_stats stats;
	struct mg_answer answer;
};

static void on_end(void *arg, const struct mg_error *err)
{
	struct mg_quick *quick = arg;

	quick->err = *err;
	quick->over(quick->arg, quick);
}

static bool is_in_transaction(struct mg_session *session)
{
	pthread_mutex_lock(&session->lock);
	bool is = session->tx != NULL;
	pthread_mutex_unlock(&session->lock);
	return is;
}

bool mg_quick_begin(const struct mg_quick_begin *begin)
{
	struct mg_session *session = begin->session;
	struct mg_sessions *sessions = session->sessions;
	struct mg_blind *blind = mg_engine_blind(sessions->options.engine);

	if (!mg_blind_knows(blind, begin->sql, begin->params) || is_in_transaction(session)) {
		return false;
	}
	atomic_fetch_add(&sessions->quick, 1); /* first: who stops looks at it after that */
	if (atomic_load(&sessions->stopping)) {
		atomic_fetch_sub(&sessions->quick, 1);
		return false;
	}
	struct mg_quick *quick = mg_alloc0(sizeof *quick);
	const struct mg_query_begin query = { .session = session->id,
		                                  .user = session->user,
		                                  .sql = begin->sql };

	quick->sessions = sessions;
	quick->over = begin->over;
	quick->arg = begin->arg;
	quick->query = mg_query_begin(sessions->queries, &query);
	mg_query_running(quick->query);
	if (!mg_blind_put(blind, begin->sql, begin->params, &quick->rows, on_end, quick)) {
		quick->err.code = MG_E_UNAVAILABLE; /* it was never there */
		mg_quick_free(quick);
		return false;
	}
	return true;
}

int mg_quick_end(struct mg_quick *quick, bool *again, const struct mg_answer **answer,
                 struct mg_error *err)
{
	int code = quick->err.code;

	*again = code && code != MG_E_UNKNOWN_OUTCOME;
	*err = quick->err;
	quick->stats = *mg_run_stats(mg_query_run(quick->query));
	quick->stats.rows = quick->rows;
	quick->stats.step = "write";
	quick->answer = (struct mg_answer){
		.statement = 1,
		.query_id = mg_query_id(quick->query),
		.verb = "INSERT",
		.stats = &quick->stats,
		.elapsed_ms = mg_query_elapsed_ms(quick->query),
	};
	(void)snprintf(quick->answer.tag, sizeof quick->answer.tag, "INSERT 0 %llu",
	               (unsigned long long)quick->rows);
	*answer = &quick->answer;
	return code;
}

void mg_quick_free(struct mg_quick *quick)
{
	struct mg_sessions *sessions = quick->sessions;
	bool happened = !quick->err.code || quick->err.code == MG_E_UNKNOWN_OUTCOME;

	if (happened) {
		struct mg_run_stats *stats = mg_run_own_stats(mg_query_run(quick->query));

		stats->step = "literals";
		stats->rows = 0;
		mg_query_end(quick->query, quick->err.code ? &quick->err : NULL);
	} else {
		mg_query_drop(quick->query);
	}
	mg_free(quick);
	atomic_fetch_sub(&sessions->quick, 1); /* after it the queries may be gone */
}
