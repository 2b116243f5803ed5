/*
 * statement_run.c - the statements of one request, one after the other.
 *
 * What reads goes to the coordinator as a query: listed, limited in time, with a slot; so does what
 * changes rows or tables, on the thread of the request.  What only changes or shows the session is
 * answered here.  Everything else is refused (request_check.c).  Settings are copied when a
 * statement begins.
 *
 * What only the coordinator of writes can run goes to it, when that is another node (anywhere.h,
 * relay.h), and comes back as if it had run here.
 *
 * Rule: between begin and end of an answer the sink gets rows of that statement only, and end is
 * given only to a statement that went well.
 */
#include "session/session.h"

#include "base/mem.h"
#include "exec/blind.h"
#include "exec/change.h"
#include "exec/define.h"
#include "exec/tx.h"
#include "replica/replica.h"
#include "session/anywhere.h"
#include "session/apart.h"
#include "session/changes_calls.h"
#include "session/copy_out.h"
#include "session/intake.h"
#include "session/kv_alter.h"
#include "session/kv_write.h"
#include "session/relay.h"
#include "session/session_int.h"
#include "session/text_rows.h"
#include "sql/statement.h"

#include <stdio.h>
#include <string.h>

/* One statement that is being run. */
struct job {
	struct mg_session *session;
	struct mg_sink *sink;
	struct mg_slot *slot; /* the client's, whatever becomes of the sink */
	struct mg_outcome *outcome;
	const struct mg_statement *statement;
	struct mg_str shown; /* the statement, as the client wrote it */
	struct mg_arena *arena;          /* of the request */
	struct mg_changes_calls changes; /* that it calls for */
	struct mg_settings settings;
	struct mg_query *query;     /* or NULL */
	pthread_mutex_t lock;       /* guards apart against who ends the query */
	struct mg_apart *apart;     /* runs the query; or NULL */
	bool left;                  /* the query was left to it (apart.h) */
	bool relayed;               /* another node has sent the statement */
	struct mg_write_key once;
	struct mg_intake intake;    /* of COPY */
	bool began;                 /* the sink has been given begin */
	struct mg_relay_answer far; /* of another node */
	struct mg_answer answer;
	struct mg_run_stats stats; /* of a statement without a query */
};

/* ---- statements that are answered here ---- */

static int answer_nothing(struct job *job, const char *tag, struct mg_error *err)
{
	int code = job->sink->begin(job->sink->arg, &job->answer, err);

	job->stats.step = "session";
	job->answer.stats = &job->stats;
	(void)snprintf(job->answer.tag, sizeof job->answer.tag, "%s", tag);
	return code ? code : job->sink->end(job->sink->arg, &job->answer, err);
}

/* rows is finished and given back here; it becomes the answer. */
static int answer_rows(struct job *job, struct mg_text_rows *rows, const char *const *names,
                       const struct mg_run_stats *stats, struct mg_error *err)
{
	static const char *const types[] = { "VARCHAR", "VARCHAR", "VARCHAR" };
	struct mg_sink *sink = job->sink;
	int code = mg_text_rows_finish(rows, err);

	job->answer.schema = &rows->schema;
	job->answer.count = rows->columns;
	job->answer.names = names;
	job->answer.types = types;
	if (!code) {
		code = sink->begin(sink->arg, &job->answer, err);
	}
	if (!code && rows->rows > 0) {
		code = sink->batch(sink->arg, &rows->array, err);
	}
	if (!code) {
		job->stats = *stats;
		job->stats.rows = rows->rows;
		job->stats.bytes = rows->bytes;
		job->answer.stats = &job->stats;
		(void)snprintf(job->answer.tag, sizeof job->answer.tag, "%s %llu", job->answer.verb,
		               (unsigned long long)rows->rows);
		code = sink->end(sink->arg, &job->answer, err);
	}
	mg_text_rows_fini(rows);
	return code;
}

static int run_show(struct job *job, struct mg_error *err)
{
	static const char *const all_names[] = { "name", "value", "description" };
	const char *name = job->statement->name;
	const char *const one_name[] = { name };
	bool all = mg_text_eq_nocase(name, "all");
	const struct mg_run_stats stats = { .step = "session" };
	struct mg_text_rows rows;
	int code = mg_text_rows_init(&rows, all ? all_names : one_name, all ? 3 : 1, err);

	if (code) {
		return code;
	}
	code = mg_settings_show(&job->settings, name, &rows, err);
	if (code) {
		mg_text_rows_fini(&rows);
		return code;
	}
	return answer_rows(job, &rows, all ? all_names : one_name, &stats, err);
}

static int run_set(struct job *job, struct mg_error *err)
{
	const struct mg_statement *statement = job->statement;
	struct mg_session *session = job->session;
	bool reset = statement->kind == MG_S_RESET;

	pthread_mutex_lock(&session->lock);
	int code = reset ? mg_settings_reset(&session->settings, statement->name, err)
	                 : mg_settings_set(&session->settings, statement->name, statement->value, err);
	pthread_mutex_unlock(&session->lock);
	return code ? code : answer_nothing(job, reset ? "RESET" : "SET", err);
}

static int run_cancel(struct job *job, struct mg_error *err)
{
	struct mg_session *session = job->session;
	bool cancel = job->statement->kind == MG_S_CANCEL;
	const char *only = session->role == MG_ROLE_ADMIN ? NULL : session->user;
	int code = cancel
	               ? mg_queries_cancel(session->sessions->queries, job->statement->name, only, err)
	               : mg_session_kill(session, job->statement->name, err);

	return code ? code : answer_nothing(job, cancel ? "CANCEL" : "KILL", err);
}

/* ---- queries ---- */

static int rows_begin(void *arg, const struct ArrowSchema *schema, size_t count,
                      const char *const *names, const char *const *types, struct mg_error *err)
{
	struct job *job = arg;

	job->answer.schema = schema;
	job->answer.count = count;
	job->answer.names = names;
	job->answer.types = types;
	job->began = true;
	mg_session_note_seen(job->session);
	return job->sink->begin(job->sink->arg, &job->answer, err);
}

static int rows_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct job *job = arg;

	return job->sink->batch(job->sink->arg, batch, err);
}

static void rows_notice(void *arg, const char *text)
{
	struct job *job = arg;

	if (job->sink->notice) {
		job->sink->notice(job->sink->arg, text);
	}
}

/* ---- at another node ---- */

/* link: of a transaction, or NULL. */
static int relay(struct job *job, uint64_t node, bool writes, struct mg_relay_link **link,
                 struct mg_error *err)
{
	const struct mg_relay_ask ask = {
		.node = node,
		.link = link,
		.session = job->session,
		.user = job->session->user,
		.role = job->session->role,
		.settings = &job->settings,
		.statement = job->statement->text,
		.query = job->query,
		.writes = writes,
		.once = job->once,
		.input = mg_intake_input(&job->intake),
	};

	return mg_relay_run(job->session->sessions->relay, &ask, job->sink, &job->answer, &job->far,
	                    err);
}

/* What it read there, or did. */
static int answer_relayed(struct job *job, struct mg_error *err)
{
	int code = job->far.began ? 0 : job->sink->begin(job->sink->arg, &job->answer, err);

	mg_run_note_relayed(mg_query_run(job->query), &job->far.stats);
	job->answer.stats = &job->far.stats;
	job->answer.elapsed_ms = mg_query_elapsed_ms(job->query);
	mg_copy_text(job->answer.tag, sizeof job->answer.tag, job->far.tag);
	return code ? code : job->sink->end(job->sink->arg, &job->answer, err);
}

/* Nobody coordinates that can be reached, or not this node: who has sent the statement hears where.
 */
static void tell_elsewhere(struct job *job)
{
	struct mg_replica *replica = mg_engine_replica(mg_sessions_engine(job->session->sessions));

	job->outcome->elsewhere = true;
	job->outcome->coordinator = mg_replica_coordinator(replica);
}

static int run_select(struct job *job, struct mg_error *err)
{
	struct mg_sb none = { 0 };
	int code = mg_apart_run(job->apart, job->query, job->slot, &none, &job->left, err);

	mg_slot_leave(job->slot);
	if (code) {
		return code;
	}
	job->answer.stats = mg_run_stats(mg_query_run(job->query));
	job->answer.elapsed_ms = mg_query_elapsed_ms(job->query);
	(void)snprintf(job->answer.tag, sizeof job->answer.tag, "%s %llu", job->answer.verb,
	               (unsigned long long)job->answer.stats->rows);
	return job->sink->end(job->sink->arg, &job->answer, err);
}

static int run_explain(struct job *job, struct mg_error *err)
{
	static const char *const names[] = { "plan" };
	const struct mg_statement *statement = job->statement;
	struct mg_sb plan = { 0 };
	struct mg_text_rows rows;
	int code = mg_apart_run(job->apart, job->query, job->slot, &plan, &job->left, err);

	mg_slot_leave(job->slot);
	if (!code) {
		code = mg_text_rows_init(&rows, names, 1, err);
	}
	if (!code) {
		code = mg_text_rows_add_text(&rows, &plan, !statement->json, err);
		if (code) {
			mg_text_rows_fini(&rows);
		} else {
			job->answer.elapsed_ms = mg_query_elapsed_ms(job->query);
			code = answer_rows(job, &rows, names, mg_run_stats(mg_query_run(job->query)), err);
		}
	}
	mg_sb_fini(&plan);
	return code;
}

/* Before the statement reads the schema "cluster": what its user may see. */
static int fill_catalog(void *arg, struct mg_duck_conn *conn, bool *transaction,
                        struct mg_error *err)
{
	struct job *job = arg;
	const struct mg_viewer viewer = {
		.user = job->session->user,
		.admin = job->session->role == MG_ROLE_ADMIN,
		.settings = &job->settings,
	};

	return mg_system_tables_refresh(job->session->sessions->tables, conn, job->statement->text,
	                                &job->changes, &viewer, transaction, err);
}

static bool query_stopped(void *arg)
{
	return mg_query_stopped(arg) != 0;
}

/* A query that was ended from outside failed for that reason, whatever broke first. */
static int say_why_stopped(struct job *job, struct mg_error *err)
{
	bool shutdown = atomic_load(&job->session->sessions->stopping);

	return mg_query_say_stopped(job->query, job->settings.run.timeout_ms, shutdown, err);
}

/* Who looks for the statement that blocks everybody must not wait behind it: the schema "cluster"
 * has slots of its own. */
static struct mg_admission *admission_of(const struct job *job)
{
	const struct mg_sessions *sessions = job->session->sessions;

	return mg_system_tables_named(job->statement->text) ? sessions->watchers : sessions->admission;
}

/* From any thread, once at most: the query is ended from outside. */
static void stop_query(void *arg)
{
	struct job *job = arg;

	if (job->sink->stop) {
		job->sink->stop(job->sink->arg);
	}
	pthread_mutex_lock(&job->lock);
	if (job->apart) {
		mg_apart_stop(job->apart);
	}
	pthread_mutex_unlock(&job->lock);
}

/* Returns the one before. */
static struct mg_apart *set_apart(struct job *job, struct mg_apart *apart)
{
	pthread_mutex_lock(&job->lock);
	struct mg_apart *before = job->apart;

	job->apart = apart;
	if (apart && mg_query_stopped(job->query)) {
		mg_apart_stop(apart);
	}
	pthread_mutex_unlock(&job->lock);
	return before;
}

/* Listed, limited in time, and known to the sink from now on. */
static void begin_query(struct job *job, void (*stop)(void *arg))
{
	const struct mg_query_begin begin = { .session = job->session->id,
		                                  .user = job->session->user,
		                                  .sql = job->shown,
		                                  .timeout_ms = job->settings.run.timeout_ms,
		                                  .stop = stop,
		                                  .arg = job };

	job->query = mg_query_begin(job->session->sessions->queries, &begin);
	job->answer.query_id = mg_query_id(job->query);
	mg_copy_text(job->outcome->query_id, sizeof job->outcome->query_id, job->answer.query_id);
	if (job->sink->query) {
		job->sink->query(job->sink->arg, job->query);
	}
}

static int run_here(struct job *job, struct mg_error *err)
{
	struct mg_sink *sink = job->sink;
	const struct mg_statement *statement = job->statement;
	const struct mg_rows rows = {
		.begin = rows_begin,
		.batch = rows_batch,
		.notice = rows_notice,
		.lossless = sink->lossless,
		.batch_rows = sink->batch_rows,
		.arg = job,
	};
	bool explain = statement->kind == MG_S_EXPLAIN;

	(void)set_apart(job, mg_apart_new(&(struct mg_apart_work){
							 .sessions = job->session->sessions,
							 .settings = job->settings.run,
							 .text = job->changes.text,
							 .rows = &rows,
							 .fill = fill_catalog,
							 .explain = explain,
							 .analyze = statement->analyze,
							 .json = statement->json,
						 }));
	job->slot->admission = admission_of(job);
	int code = mg_slot_enter(job->slot, query_stopped, job->query, err);

	if (!code) {
		mg_query_running(job->query);
		code = mg_changes_calls_fill(&job->changes, mg_sessions_engine(job->session->sessions),
		                             query_stopped, job->query, err);
	}
	if (!code) {
		code = explain ? run_explain(job, err) : run_select(job, err);
	}
	mg_slot_leave(job->slot);
	if (!job->left) {
		mg_apart_free(set_apart(job, NULL));
	}
	return code;
}

static int query_here(struct job *job, struct mg_error *err)
{
	const struct mg_statement *statement = job->statement;
	struct mg_str text = statement->kind == MG_S_EXPLAIN ? statement->body : statement->text;
	int code = mg_changes_calls_find(&job->changes, job->arena, text, err);

	code = code ? code : run_here(job, err);
	mg_system_tables_forget(job->session->sessions->tables, &job->changes);
	mg_changes_calls_fini(&job->changes);
	return code;
}

/* Only where writes are coordinated it can be read, it was found here. */
static int query_elsewhere(struct job *job, struct mg_error *err)
{
	struct mg_anywhere anywhere;
	uint64_t node = 0;
	int code;

	mg_anywhere_init(&anywhere, mg_sessions_engine(job->session->sessions), job->query,
	                 job->relayed);
	do {
		mg_error_clear(err);
		code = mg_anywhere_next(&anywhere, &node, err);
		if (code) {
			break;
		}
		code = node ? relay(job, node, false, NULL, err) : query_here(job, err);
		if (!code && node) {
			return answer_relayed(job, err);
		}
	} while (code && !job->left && !job->began && !job->far.began &&
	         mg_anywhere_again(&anywhere, err));
	if (job->relayed && code == MG_E_UNAVAILABLE) {
		tell_elsewhere(job);
	}
	return code;
}

/* ---- a transaction at another node ---- */

/* What a transaction that runs there has attached. */
struct far_tx {
	struct mg_relay_link *link; /* NULL: lost */
	uint64_t node;
	bool clean; /* it is over there, too */
};

static void far_free(void *thing)
{
	struct far_tx *far = thing;

	if (far->link) {
		mg_relay_drop(far->link, far->clean);
	}
	mg_free(far);
}

static int ignore_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	(void)arg, (void)answer, (void)err;
	return 0;
}

static int begin_there(struct job *job, struct far_tx *far, struct mg_error *err)
{
	struct mg_sink sink = { .begin = ignore_begin };
	struct mg_answer answer = { 0 };
	struct mg_relay_answer said;
	const struct mg_relay_ask ask = {
		.node = far->node,
		.user = job->session->user,
		.role = job->session->role,
		.settings = &job->settings,
		.statement = mg_tx_is_read_only(job->settings.run.tx) ? MG_STR("BEGIN READ ONLY")
		                                                      : MG_STR("BEGIN"),
		.query = job->query,
		.link = &far->link,
	};

	return mg_relay_run(job->session->sessions->relay, &ask, &sink, &answer, &said, err);
}

/* A transaction runs where writes are coordinated when it touches a table first, and stays there.
 * *there: at another node. */
static int find_place(struct job *job, bool *there, struct mg_error *err)
{
	struct mg_tx *tx = job->settings.run.tx;
	struct mg_sessions *sessions = job->session->sessions;
	struct mg_anywhere anywhere;
	uint64_t node = 0;

	*there = tx && mg_tx_attached(tx);
	if (!tx || *there || mg_tx_conn(tx) || !sessions->relay ||
	    job->statement->kind == MG_S_TRANSACTION || /* it has done nothing */
	    mg_system_tables_named(job->statement->text)) {
		return 0;
	}
	mg_anywhere_init(&anywhere, mg_sessions_engine(sessions), job->query, job->relayed);
	struct far_tx *far = NULL;
	int code = 0;

	do {
		mg_error_clear(err);
		code = mg_anywhere_next(&anywhere, &node, err);
		if (code || !node) {
			return code;
		}
		far = mg_alloc0(sizeof *far);
		far->node = node;
		code = begin_there(job, far, err);
		if (code) {
			far_free(far);
		}
	} while (code && mg_anywhere_again(&anywhere, err));
	if (code) {
		return code;
	}
	mg_tx_attach(tx, far, far_free);
	*there = true;
	return 0;
}

static int run_there(struct job *job, struct mg_error *err)
{
	struct mg_tx *tx = job->settings.run.tx;
	struct far_tx *far = mg_tx_attached(tx);
	bool commits = job->statement->kind == MG_S_TRANSACTION;

	mg_query_running(job->query);
	int code = commits ? mg_tx_commit_begin(tx, err) : 0;

	if (code) {
		return code;
	}
	/* Only BEGIN makes a connection: what runs on another one is not of this transaction. */
	code = far->link ? relay(job, far->node, commits, &far->link, err) : MG_E_UNAVAILABLE;
	if (!far->link && (code == MG_E_UNAVAILABLE || code == MG_E_NODE)) {
		code = mg_error_set(err, code, "the server that ran this transaction was lost");
	}
	if (commits) {
		/* Else nobody knows here what the connection still has open. */
		far->clean = !code;
		mg_tx_settle(tx, code);
	} else if (!code || !far->link) {
		mg_tx_bind(tx);
	}
	return code;
}

static int run_query(struct job *job, struct mg_error *err)
{
	struct mg_sink *sink = job->sink;

	begin_query(job, stop_query);
	/* The state of the cluster is what this node knows of it, with others or without. */
	if (mg_system_tables_named(job->statement->text)) {
		job->settings.run.consistency = MG_CONSISTENCY_ANY;
	} else {
		mg_session__copy_seen(job->session, mg_run_seen(mg_query_run(job->query)));
	}
	bool there = false;
	int code = find_place(job, &there, err);

	if (!code && there) {
		code = run_there(job, err);
		code = code ? code : answer_relayed(job, err);
	} else if (!code) {
		code = query_here(job, err);
	}
	if (code == MG_E_UNAVAILABLE && !job->settings.run.tx && !job->left && !job->began &&
	    mg_run_belongs_elsewhere(mg_query_run(job->query))) {
		code = query_elsewhere(job, err);
	}
	if (code && mg_query_stopped(job->query)) {
		code = say_why_stopped(job, err);
	}
	if (sink->query) {
		sink->query(sink->arg, NULL);
	}
	if (job->left) {
		mg_apart_leave(job->apart);
	} else {
		mg_query_end(job->query, code ? err : NULL);
	}
	job->query = NULL;
	job->apart = NULL;
	return code;
}

/* ---- changes ---- */

/* Nobody is left behind here: a change that is committing is waited for. */
static void stop_change(void *arg)
{
	struct job *job = arg;

	if (job->sink->stop) {
		job->sink->stop(job->sink->arg);
	}
}

static struct mg_change_request request_of(const struct job *job, const struct mg_rows *rows)
{
	return (struct mg_change_request){
		.statement = job->statement->text,
		.rows = rows,
		.partition_by_primary_key = job->settings.partition_by_primary_key,
		.once = job->once,
		.input = mg_intake_input(&job->intake),
	};
}

/* COMMIT; without a transaction, but with a key, it asks whether it was done before. */
static int commit_here(struct job *job, struct mg_run *run, struct mg_change_result *result,
                       struct mg_error *err)
{
	struct mg_engine *engine = mg_sessions_engine(job->session->sessions);
	struct mg_tx *tx = job->settings.run.tx;
	int code = tx ? mg_tx_commit(tx, run, &job->once, &result->repeated, err)
	              : mg_change_look(engine, run, &job->once, result, err);

	mg_copy_text(result->tag, sizeof result->tag, "COMMIT");
	return code || tx || result->repeated ? code : mg_session__no_transaction("commit", err);
}

static int carry_out_change(struct job *job, struct mg_change_result *result, struct mg_error *err)
{
	struct mg_sink *sink = job->sink;
	struct mg_engine *engine = mg_sessions_engine(job->session->sessions);
	const struct mg_rows rows = {
		.begin = rows_begin,
		.batch = rows_batch,
		.notice = rows_notice,
		.lossless = sink->lossless,
		.batch_rows = sink->batch_rows,
		.arg = job,
	};
	const struct mg_change_request request = request_of(job, &rows);
	struct mg_run *run = mg_query_run(job->query);

	if (job->statement->kind == MG_S_TRANSACTION) {
		return commit_here(job, run, result, err);
	}
	return job->statement->kind == MG_S_DML
	           ? mg_change_run(engine, run, &job->settings.run, &request, result, err)
	           : mg_define_run(engine, run, &job->settings.run, &request, result, err);
}

static int answer_change(struct job *job, const struct mg_change_result *result,
                         struct mg_error *err)
{
	mg_session_note_seen(job->session);
	int code = result->returned ? 0 : job->sink->begin(job->sink->arg, &job->answer, err);

	job->stats = *mg_run_stats(mg_query_run(job->query));
	job->stats.rows = result->rows;
	job->stats.step = result->repeated ? MG_STEP_REPEATED : "write";
	job->stats.reason[0] = '\0';
	job->answer.stats = &job->stats;
	job->answer.elapsed_ms = mg_query_elapsed_ms(job->query);
	mg_copy_text(job->answer.tag, sizeof job->answer.tag, result->tag);
	return code ? code : job->sink->end(job->sink->arg, &job->answer, err);
}

/* The change is made, but its rows, or the word that it is, did not reach the sink: whatever was in
 * the way, also a cancel, it must not sound as if nothing had happened. */
static int say_done(struct mg_error *err)
{
	if (mg_code_info(err->code)->retry == MG_RETRY_SAFE || err->code == MG_E_DISCONNECTED) {
		mg_error_set(err, MG_E_UNKNOWN_OUTCOME, "%s", err->message);
	}
	mg_error_detail(err, "The change is made; only its answer was not handed out.");
	return err->code;
}

static int change_here(struct job *job, struct mg_change_result *result, struct mg_error *err)
{
	struct mg_engine *engine = mg_sessions_engine(job->session->sessions);
	bool blind = job->statement->kind == MG_S_DML && !job->settings.run.tx &&
	             mg_blind_knows(mg_engine_blind(engine), job->statement->text, NULL);
	int code = 0;

	if (blind) { /* it only waits for others: that takes no slot */
		const struct mg_change_request request = request_of(job, NULL);

		mg_query_running(job->query);
		code = mg_change_blind(engine, mg_query_run(job->query), &request, result, &blind, err);
	}
	if (blind) {
		return code;
	}
	job->slot->admission = job->session->sessions->admission;
	code = mg_slot_enter(job->slot, query_stopped, job->query, err);
	if (!code) {
		mg_query_running(job->query);
		code = carry_out_change(job, result, err);
	}
	mg_slot_leave(job->slot);
	return code;
}

static int change_there(struct job *job, uint64_t node, struct mg_change_result *result,
                        struct mg_error *err)
{
	mg_query_running(job->query);
	int code = relay(job, node, true, NULL, err);

	result->done = !code || job->far.began; /* rows come when it has happened */
	return code;
}

/* Where writes are coordinated; *there: at another node. */
static int change_anywhere(struct job *job, struct mg_change_result *result, bool *there,
                           struct mg_error *err)
{
	struct mg_anywhere anywhere;
	uint64_t node = 0;
	int code;

	mg_anywhere_init(&anywhere, mg_sessions_engine(job->session->sessions), job->query,
	                 job->relayed);
	do {
		mg_error_clear(err);
		*result = (struct mg_change_result){ 0 };
		code = mg_anywhere_next(&anywhere, &node, err);
		if (code) {
			break;
		}
		code = node ? change_there(job, node, result, err) : change_here(job, result, err);
	} while (code && !result->done && mg_anywhere_again(&anywhere, err));
	if (job->relayed && code == MG_E_UNAVAILABLE && !result->done) {
		tell_elsewhere(job);
	}
	*there = node != 0;
	return code;
}

/* The rows of COPY, when it can store them.  What a transaction at another node has is known
 * there. */
static int take_rows(struct job *job, struct mg_error *err)
{
	struct mg_engine *engine = mg_sessions_engine(job->session->sessions);
	bool far = job->settings.run.tx && mg_tx_attached(job->settings.run.tx);
	int code = far ? 0
	               : mg_change_check(engine, mg_query_run(job->query), &job->settings.run,
	                                 job->statement->text, err);

	return code ? code
	            : mg_intake_take(&job->intake, engine, job->statement->text, job->relayed,
	                             job->sink, err);
}

static int run_change(struct job *job, struct mg_error *err)
{
	struct mg_sink *sink = job->sink;
	struct mg_change_result result = { 0 };
	bool there = false;

	begin_query(job, stop_change);
	int code = 0;

	if (mg_intake_is_wanted(job->statement->verb)) {
		code = take_rows(job, err);
	}
	code = code ? code : find_place(job, &there, err);

	if (!code && there) {
		code = run_there(job, err);
	} else if (!code) {
		code = job->settings.run.tx ? change_here(job, &result, err)
		                            : change_anywhere(job, &result, &there, err);
	}

	if (code && !result.done && code != MG_E_UNKNOWN_OUTCOME && mg_query_stopped(job->query)) {
		code = say_why_stopped(job, err);
	}
	if (!code) {
		code = there ? answer_relayed(job, err) : answer_change(job, &result, err);
	}
	if (code && result.done && !job->settings.run.tx) {
		code = say_done(err);
	}
	if (sink->query) {
		sink->query(sink->arg, NULL);
	}
	mg_query_end(job->query, code ? err : NULL);
	job->query = NULL;
	mg_intake_fini(&job->intake);
	return code;
}

/* ---- a request ---- */

static int run_in_transaction(struct job *job, struct mg_arena *arena, struct mg_error *err);

/* A query, whose rows become bytes on their way to the client, or to a file. */
static int run_copy_to(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	struct mg_statement query = { .kind = MG_S_SELECT, .verb = job->statement->verb };
	struct mg_copy_out copy;
	int code = mg_copy_out_init(&copy, arena, job->statement->text,
	                            mg_sessions_engine(job->session->sessions), job->sink, err);

	if (!code) {
		query.text = copy.to.query;
		job->statement = &query;
		job->sink = &copy.sink;
		code = run_in_transaction(job, arena, err);
	}
	mg_copy_out_fini(&copy);
	return code;
}

/* A query, whose rows are put as keys, or deleted. */
static int run_kv_write(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	struct mg_statement query = { .kind = MG_S_SELECT, .verb = job->statement->verb };
	const struct mg_kv_write_begin begin = {
		.engine = mg_sessions_engine(job->session->sessions),
		.client = job->sink,
		.statement = job->statement->text,
		.in_transaction = job->settings.run.tx != NULL,
		.has_key = job->once.key != NULL,
	};
	struct mg_kv_write write;
	int code = mg_kv_write_init(&write, arena, &begin, err);

	if (!code) {
		query.text = write.dml.query;
		job->statement = &query;
		job->sink = &write.sink;
		job->settings.run = mg_run_whole(job->settings.run);
		code = run_query(job, err) ? mg_kv_write_failed(&write, err) : 0;
	}
	mg_kv_write_fini(&write);
	return code;
}

static int run_namespace(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	const struct mg_kv_alter_begin begin = {
		.engine = mg_sessions_engine(job->session->sessions),
		.statement = job->statement->text,
		.is_admin = job->session->role == MG_ROLE_ADMIN,
		.in_transaction = job->settings.run.tx != NULL,
		.has_key = job->once.key != NULL,
	};
	int code = mg_kv_alter(arena, &begin, err);

	return code ? code : answer_nothing(job, "ALTER NAMESPACE", err);
}

/* What the engine runs. */
static int run_work(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	int code;

	switch (job->statement->kind) {
	case MG_S_SELECT:
		return run_query(job, err);
	case MG_S_EXPLAIN:
		code = mg_session__check_explained(arena, job->statement, err);
		return code ? code : run_query(job, err);
	default:
		return mg_kv_write_is(mg_sessions_engine(job->session->sessions), job->statement)
		           ? run_kv_write(job, arena, err)
		           : run_change(job, err);
	}
}

/* The transaction, when one is open, is the statement's alone meanwhile; a query that was left to
 * itself leaves it when it comes back. */
static int run_in_transaction(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	struct mg_tx *tx = job->settings.run.tx;
	int code = tx ? mg_tx_enter(tx, err) : 0;

	if (code) {
		return code;
	}
	code = run_work(job, arena, err);
	if (tx && (code == MG_E_UNAVAILABLE || code == MG_E_NODE)) {
		code = mg_tx_say_lost(err);
	}
	if (tx && !job->left) {
		mg_tx_leave(tx, code ? err : NULL);
	}
	return code;
}

static int run_transaction(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	const struct mg_statement *statement = job->statement;
	struct mg_tx *tx = job->settings.run.tx;
	int code;

	switch (statement->transaction) {
	case MG_TRANSACTION_BEGIN:
		code = mg_session_begin(job->session, statement->read_only, err);
		return code ? code : answer_nothing(job, "BEGIN", err);
	case MG_TRANSACTION_ROLLBACK:
		code = mg_session__rollback(job->session, err);
		return code ? code : answer_nothing(job, "ROLLBACK", err);
	case MG_TRANSACTION_COMMIT:
		if (!tx) {
			return job->once.key ? run_change(job, err)
			                     : mg_session__no_transaction("commit", err);
		}
		code = run_in_transaction(job, arena, err);
		mg_session__count_commit(code ? err : NULL);
		if (mg_tx_state(tx) == MG_TX_OVER) {
			mg_session__forget(job->session, tx);
		}
		return code;
	case MG_TRANSACTION_SAVEPOINT:
		break;
	}
	return mg_session__refuse(statement, err);
}

static int run_statement(struct job *job, struct mg_arena *arena, struct mg_error *err)
{
	switch (job->statement->kind) {
	case MG_S_SELECT:
	case MG_S_EXPLAIN:
	case MG_S_DML:
	case MG_S_DDL:
		return run_in_transaction(job, arena, err);
	case MG_S_TRANSACTION:
		return run_transaction(job, arena, err);
	case MG_S_COPY:
		return run_copy_to(job, arena, err);
	case MG_S_SET:
	case MG_S_RESET:
		return run_set(job, err);
	case MG_S_SHOW_SETTING:
		return run_show(job, err);
	case MG_S_NAMESPACE:
		return run_namespace(job, arena, err);
	case MG_S_CANCEL:
	case MG_S_KILL:
		return run_cancel(job, err);
	default:
		return mg_session__refuse(job->statement, err);
	}
}

static int run_one(struct mg_session *session, const struct mg_request *request,
                   struct mg_arena *arena, const struct mg_statement *statement,
                   struct mg_sink *sink, struct mg_outcome *outcome, struct mg_error *err)
{
	struct job job = { .session = session,
		               .sink = sink,
		               .slot = &sink->slot,
		               .outcome = outcome,
		               .statement = statement,
		               .shown = statement->text,
		               .arena = arena,
		               .relayed = request->relayed,
		               .once = request->once,
		               .lock = PTHREAD_MUTEX_INITIALIZER };

	outcome->query_id[0] = '\0';
	outcome->statement++;
	job.settings = mg_session_settings(session);
	job.settings.run.tx = mg_session__tx(session);
	job.answer.statement = outcome->statement;
	job.answer.query_id = "";
	job.answer.verb = statement->verb ? statement->verb : "";
	int code = request->in_transaction && !job.settings.run.tx ? mg_session__over(err)
	                                                           : run_statement(&job, arena, err);

	pthread_mutex_destroy(&job.lock);
	outcome->statements += code == 0;
	mg_tx_unref(job.settings.run.tx);
	return code;
}

int mg_session_run(struct mg_session *session, const struct mg_request *request,
                   struct mg_sink *sink, struct mg_outcome *outcome, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *statements = NULL;
	size_t count = 0;

	memset(outcome, 0, sizeof *outcome);
	sink->slot = (struct mg_slot){ .held = false };
	int code = mg_utf8_valid(request->sql.ptr, request->sql.len)
	               ? mg_statement_split(arena, request->sql, &statements, &count, err)
	               : mg_error_set(err, MG_E_SYNTAX, "the statement is not UTF-8");

	if (!code) {
		code = mg_session__check(arena, request, statements, &count, err);
	}
	for (size_t i = 0; !code && i < count; i++) {
		if (request->cancelled && request->cancelled(request->arg)) {
			code = mg_error_set(err, MG_E_CANCELLED, "the request was cancelled");
		} else {
			code = run_one(session, request, arena, &statements[i], sink, outcome, err);
		}
	}
	mg_arena_free(arena);
	return code;
}
