/*
 * coordinator.c - see coordinator.h.
 *
 * Rule: whichever way is taken, the rows are those that one DuckDB over all rows would give; a way
 * that cannot promise that is not taken, and the reason is told.
 *
 * With several nodes: what is read here is as new as asked (fresh.h), and several shards are one
 * cut (replica/cuts.h).  Where that takes long the statement goes to the coordinator of writes.
 *
 * Files: run.c holds struct mg_run; way.c chooses; this file carries out.
 */
#include "exec/coordinator.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "exec/attempt.h"
#include "exec/explain.h"
#include "exec/fresh.h"
#include "exec/keys.h"
#include "exec/pivot.h"
#include "exec/pump.h"
#include "exec/run.h"
#include "exec/sequences.h"
#include "exec/tx.h"
#include "exec/way.h"
#include "os/clock.h"
#include "replica/replica.h"

#include <stdio.h>
#include <string.h>

#define ATTEMPTS_MAX 4 /* the last one asks no worker, so it cannot lose one */
#define PLANS_MAX 8    /* while the catalog changes */
/* A table that was there is not: the catalog may say why soon. */
#define ALTERED_WAIT_MS 20
#define ALTERED_WAITS_MAX 4
/* That this node may lag behind before another one is asked; where nobody else can be asked. */
#define LAG_MS 1000
#define LAG_MS_MAX 15000

/* A statement under way: what is the same for all its attempts. */
struct job {
	struct mg_engine *engine;
	struct mg_run *run;
	const struct mg_run_settings *settings;
	const struct mg_rows *rows;
	struct mg_arena *arena;
	const struct mg_catalog_data *data;
	struct mg_bound bound;
	struct mg_way way;
	const char *text; /* zero-terminated */
	struct mg_pump pump;
	struct mg_explain *explain; /* EXPLAIN ANALYZE collects here; or NULL */
	bool plan_only;
	uint64_t epoch;  /* in which this node coordinates writes; 0: it does not, or it is all alone */
	uint64_t drawn_in; /* the epoch in which it draws values of sequences */
	uint32_t *reads; /* shards, with 0 for the reference group */
	size_t read_count;
	uint64_t shown; /* mg_engine_shown before it was planned */
	bool stale;     /* it is another one, now that it was to answer */
};

/* ---- the last step: SQL on the coordinator's own connection, rows to the sink ---- */

/* EXPLAIN ANALYZE: what the last step made and read, since `before` and `start`. */
static void explain_answer(struct job *job, struct mg_attempt *attempt,
                           const struct mg_stage *stage, const struct mg_run_stats *before,
                           uint64_t start)
{
	const struct mg_run_stats *now = mg_run_stats(job->run);
	struct mg_exec_stats stats = { .rows = now->rows - before->rows,
		                           .bytes = now->bytes - before->bytes,
		                           .micros = mg_clock_us() - start };
	struct mg_exec_reads reads = { 0 };
	mg_participant_reads(mg_attempt_local(attempt), &reads);
	mg_explain_answer(job->explain, attempt, stage, &stats, &reads);
	mg_exec_reads_fini(&reads);
}

/* stage: the last one of a cut, or NULL. */
static int finish(struct job *job, struct mg_attempt *attempt, const struct mg_stage *stage,
                  const char *sql, struct mg_error *err)
{
	struct mg_run_stats before = *mg_run_stats(job->run);
	uint64_t start = mg_clock_us();
	mg_attempt_finish(attempt);
	int code = mg_pump_query(&job->pump, mg_participant_conn(mg_attempt_local(attempt)), sql, err);
	if (!code && job->explain) {
		explain_answer(job, attempt, stage, &before, start);
	}
	if (code && err->origin == MG_ORIGIN_NONE) {
		err->origin = MG_ORIGIN_MERGE;
	}
	return code;
}

/* The statement's own names and types around the columns c0, c1... of a stage. */
static const char *dress(struct job *job, const char *sql, long shard)
{
	struct mg_sb out = { 0 };
	mg_sb_add(&out, "SELECT ");
	if (shard >= 0) {
		mg_sb_addf(&out, "CAST(%ld AS INTEGER) AS shard, ", shard);
	}
	for (size_t i = 0; i < job->bound.column_count; i++) {
		char column[24];
		snprintf(column, sizeof column, "c%zu", i);
		mg_sb_add(&out, i ? ", " : "");
		mg_cast_add(&out, column, job->bound.types[i]);
		mg_sb_add(&out, " AS ");
		mg_sb_add_ident(&out, job->bound.names[i]);
	}
	mg_sb_addf(&out, " FROM (%s) AS mg", sql);
	const char *text = mg_arena_strdup(job->arena, mg_sb_text(&out));
	mg_sb_fini(&out);
	return text;
}

/* ---- running stages for the planner ---- */

struct stage_run {
	struct job *job;
	struct mg_attempt *attempt;
};

static int run_stage(void *arg, const struct mg_stage *stage, struct mg_count *count,
                     struct mg_error *err)
{
	struct stage_run *at = arg;
	struct mg_exec_stats stats[MG_ATTEMPT_PARTICIPANTS_MAX];
	mg_run_stage_begin(at->job->run);
	int code = mg_attempt_run_stage(at->attempt, stage, count, stats, err);
	if (!code) {
		mg_run_stage_end(at->job->run);
		if (at->job->explain) {
			mg_explain_stage(at->job->explain, at->attempt, stage, stats);
		}
	}
	return code;
}

static const struct mg_table_place *find_table(void *arg, const char *schema, const char *table)
{
	struct stage_run *at = arg;
	return mg_way_find_table(&at->job->way, schema, table);
}

static void plan_env(struct job *job, struct stage_run *at, size_t participants,
                     struct mg_sb *notes, struct mg_plan_env *env)
{
	*env = (struct mg_plan_env){
		.arena = job->arena,
		.participants = participants,
		.strategy = job->settings->strategy,
		.find_table = find_table,
		.run = at->attempt ? run_stage : NULL,
		.arg = at,
		.next_stage = 1,
		.notes = notes,
	};
}

/* A text whose plan is not known may read any. */
static bool reads_reference(const struct job *job)
{
	bool any = !job->bound.root;
	for (size_t i = 0; i < job->way.table_count && !any; i++) {
		any = job->way.tables[i].key_count == 0;
	}
	return any;
}

/* Another node may answer what this one cannot. */
static bool asks_others(const struct job *job)
{
	return !job->epoch && !mg_replica_is_alone(mg_engine_replica(job->engine));
}

static void note_cut(struct job *job, struct mg_attempt *attempt, size_t shards)
{
	struct mg_run_stats *stats = mg_run_own_stats(job->run);
	if (shards < 2 || job->settings->tx) {
		return;
	}
	stats->cut_shards = (uint32_t)shards;
	stats->cut_waited_ms += mg_participant_waited_ms(mg_attempt_local(attempt));
	stats->cut_node = mg_replica_self(mg_engine_replica(job->engine));
	mg_metric_add(mg_metric_counter("merganser_cut_reads_total",
	                                job->epoch ? "server=\"coordinator\"" : "server=\"other\"",
	                                "Reads of several shards as one cut, at this server."),
	              1);
}

static int open_attempt(struct job *job, bool workers, const uint32_t *shards, size_t shard_count,
                        bool views, struct mg_attempt **out, struct mg_error *err)
{
	struct mg_attempt_options options = {
		.engine = job->engine,
		.name = mg_run_id(job->run),
		.timezone = job->settings->timezone,
		.tables = job->way.tables,
		.table_count = views ? job->way.table_count : 0,
		.workers = workers && !job->settings->row_ids && !job->settings->tx,
		.row_ids = job->settings->row_ids,
		.tx = job->settings->tx,
		.profile = job->explain != NULL,
		.reference = reads_reference(job),
		.shards = shards,
		.shard_count = shard_count,
		.data = job->data,
		.cut_wait_ms = asks_others(job) ? LAG_MS : LAG_MS_MAX,
		.cut_patient = !asks_others(job),
		.cut_stopped = mg_run_is_cancelled,
		.cut_stopped_arg = job->run,
	};
	int code = mg_attempt_open(out, &options, err);
	if (code && mg_run_cancelled(job->run)) {
		return mg_run_cancel_error(job->run, err);
	}
	if (code == MG_E_UNAVAILABLE && asks_others(job) && !job->pump.began) {
		return mg_run_send_elsewhere(job->run, err);
	}
	if (!code) {
		note_cut(job, *out, shard_count + options.reference);
		code = mg_run_attach(job->run, *out, err);
		if (code) {
			mg_attempt_close(*out);
			*out = NULL;
		}
	}
	return code;
}

static void close_attempt(struct job *job, struct mg_attempt *attempt)
{
	struct mg_run_stats *stats = mg_run_own_stats(job->run);
	stats->moved_bytes += mg_attempt_moved_bytes(attempt);
	stats->moved_rows += mg_attempt_moved_rows(attempt);
	mg_run_detach(job->run);
	mg_attempt_close(attempt);
}

/* ---- the ways ---- */

/* Original text, or the printed plan where the text may not run, over the given shards, here alone.
 */
static int run_local(struct job *job, const uint32_t *shards, size_t shard_count,
                     struct mg_error *err)
{
	struct mg_attempt *attempt = NULL;
	char *sql = NULL;
	bool text = job->way.original_text;
	int code = 0;
	if (!text) {
		code = mg_plan_print(job->arena, job->bound.root, &sql, err);
	}
	if (!code && text && job->settings->tx && mg_tx_has_changes(job->settings->tx)) {
		code = mg_tx_show_text(job->settings->tx, err);
	}
	if (!code) {
		/* Text reads the views of the engine itself. */
		code = open_attempt(job, false, shards, shard_count, !text, &attempt, err);
	}
	if (!code) {
		code = finish(job, attempt, NULL, text ? job->text : dress(job, sql, -1), err);
		close_attempt(job, attempt);
	}
	return code;
}

/* Every shard by itself, unmerged: distributed = force, or summarize = false.  All as of one
 * moment: one attempt, over one cut, whose views are of one shard after the other. */
static int run_per_shard(struct job *job, struct mg_error *err)
{
	struct mg_attempt *attempt = NULL;
	char *sql = NULL;
	int code = mg_plan_print(job->arena, job->bound.root, &sql, err);
	code = code ? code
	            : open_attempt(job, false, job->way.shards, job->way.shard_count, true, &attempt,
	                           err);
	if (code) {
		return code;
	}
	for (size_t i = 0; !code && i < job->way.shard_count; i++) {
		uint32_t shard = job->way.shards[i];
		code = mg_attempt_show_shard(attempt, shard, err);
		code = code ? code
		            : finish(job, attempt, NULL,
		                     dress(job, sql, job->settings->summarize ? -1 : (long)shard), err);
	}
	close_attempt(job, attempt);
	return code;
}

static void note_attempt(struct job *job, struct mg_attempt *attempt)
{
	struct mg_run_stats *stats = mg_run_own_stats(job->run);
	stats->nodes = (uint32_t)mg_attempt_part_count(attempt);
	stats->workers = stats->nodes - 1;
	stats->attempts++;
	stats->missed += mg_attempt_missed(attempt);
}

static int run_cut_once(struct job *job, bool workers, bool *again, struct mg_error *err)
{
	struct mg_attempt *attempt = NULL;
	*again = false;
	int code =
		open_attempt(job, workers, job->way.shards, job->way.shard_count, true, &attempt, err);
	if (code) {
		return code;
	}
	note_attempt(job, attempt);
	struct stage_run at = { .job = job, .attempt = attempt };
	struct mg_sb notes = { 0 };
	struct mg_plan_env env;
	plan_env(job, &at, mg_attempt_part_count(attempt), &notes, &env);
	struct mg_stage *result = NULL;
	code = mg_plan_distribute(&env, job->bound.root, &result, err);
	if (!code) {
		mg_run_own_stats(job->run)->stages = (uint32_t)env.stage_count;
		code = finish(job, attempt, result, dress(job, result->sql, -1), err);
	}
	if (code && mg_attempt_is_lost(attempt) && !job->pump.began && !mg_run_cancelled(job->run)) {
		*again = true;
	}
	if (job->explain) {
		mg_explain_notes(job->explain, mg_sb_text(&notes));
	}
	mg_sb_fini(&notes);
	close_attempt(job, attempt);
	return code;
}

static int run_cut(struct job *job, struct mg_error *err)
{
	int code = 0;
	bool again = true;
	for (int i = 0; again && i < ATTEMPTS_MAX; i++) {
		if (i) {
			mg_log(MG_LOG_WARN, "query.retry", "query=%s attempt=%d reason=\"%s\"",
			       mg_run_id(job->run), i + 1, err->message);
		}
		mg_error_clear(err);
		if (job->explain) {
			mg_explain_restart(job->explain);
		}
		bool workers = job->settings->distributed != MG_DISTRIBUTED_FALSE && i + 1 < ATTEMPTS_MAX;
		code = run_cut_once(job, workers, &again, err);
	}
	if (code == MG_E_UNSUPPORTED && !job->pump.began) {
		mg_way_fall(&job->way, job->run, err->message);
		mg_error_clear(err);
		if (job->explain) {
			mg_explain_restart(job->explain); /* its stages are not in the answer */
		}
		code = run_local(job, job->way.shards, job->way.shard_count, err);
	}
	return code;
}

/* The values that the answer holds will not come again. */
static int keep_drawn(void *arg, struct mg_error *err)
{
	const struct job *job = arg;

	return mg_sequences_keep(mg_engine_sequences(job->engine), job->drawn_in, err);
}

/* Where writes are coordinated sequences count. */
static int begin_drawing(struct job *job, struct mg_error *err)
{
	if (job->settings->tx && mg_tx_makes_sequence(job->settings->tx)) {
		return mg_tx_refuse_drawing(err);
	}
	int code = mg_replica_begin(mg_engine_replica(job->engine), &job->drawn_in, err);

	if (code == MG_E_UNAVAILABLE) {
		return mg_run_send_elsewhere(job->run, err);
	}
	job->pump.held = keep_drawn;
	job->pump.held_arg = job;
	return code ? code
	            : mg_sequences_begin(mg_engine_sequences(job->engine), job->drawn_in, err);
}

static int run_catalog(struct job *job, struct mg_error *err)
{
	int code = job->bound.draws ? begin_drawing(job, err) : 0;

	if (code) {
		return code;
	}
	int64_t now_us = job->settings->tx ? mg_tx_now(job->settings->tx) : 0;

	job->pump.replay = mg_tx_replay(job->settings->tx);
	return mg_pump_plandb(&job->pump, mg_engine_plandb(job->engine), job->settings->timezone,
	                      now_us, job->text, err);
}

/* ---- the whole ---- */

static int attach_conn(void *run, struct mg_duck_conn *conn, struct mg_error *err)
{
	return mg_run_attach_conn(run, conn, err);
}

/* Over what is shown now. */
static int plan(struct job *job, struct mg_str sql, struct mg_error *err)
{
	job->data = mg_tx_take_catalog(job->settings->tx, job->engine);
	job->text = mg_arena_strndup(job->arena, sql.ptr, sql.len);
	const char *expanded = NULL;
	int code =
		mg_pivot_expand(job->engine, job->run, job->settings, job->arena, sql, &expanded, err);
	if (code) {
		return code;
	}
	job->text = expanded ? expanded : job->text;
	struct mg_plan_settings settings = {
		.timezone = job->settings->timezone,
		.now_us = job->settings->tx ? mg_tx_now(job->settings->tx) : 0,
		.replay = mg_tx_replay(job->settings->tx),
		.attach = attach_conn,
		.arg = job->run,
		.row_ids = job->settings->row_ids,
	};
	code = mg_plandb_bind(mg_engine_plandb(job->engine), job->arena, &settings, job->text,
	                      &job->bound, err);
	return code ? code
	            : mg_way_choose(&job->way, job->arena, job->engine, job->data, job->settings,
	                            &job->bound, err);
}

/* planned: or not, and then what is missing may lie in any of them. */
static void find_reads(struct job *job, bool planned)
{
	uint32_t last = job->data->shard_count;
	job->reads = mg_arena_new_array(job->arena, uint32_t, (size_t)last + 1);
	job->read_count = 0;
	if (!planned || (job->way.kind != MG_WAY_CATALOG && reads_reference(job))) {
		job->reads[job->read_count++] = 0;
	}
	for (uint32_t i = 1; !planned && i <= last; i++) {
		job->reads[job->read_count++] = i;
	}
	for (size_t i = 0; planned && i < job->way.shard_count; i++) {
		job->reads[job->read_count++] = job->way.shards[i];
	}
}

/* Of the catalog.  A view that reads no table still stands in some FROM. */
static bool reads_objects(const struct job *job)
{
	return job->way.kind == MG_WAY_CATALOG || job->way.table_count > 0 || !job->bound.root ||
	       strcasestr(job->text, "from") != NULL;
}

/* Workers serve the coordinator of writes; what they would share goes there. */
static bool belongs_to_workers(const struct job *job)
{
	return job->settings->consistency == MG_CONSISTENCY_LINEARIZABLE &&
	       job->way.workers_would_help && !job->plan_only && asks_others(job) &&
	       mg_hub_may_be_elsewhere(mg_engine_hub(job->engine));
}

/* An object that was not found may have come at another node. */
static bool may_be_missing(int code)
{
	return code == MG_E_NO_TABLE || code == MG_E_NO_COLUMN || code == MG_E_NO_FUNCTION ||
	       code == MG_E_BIND;
}

/* planned: the code of planning.  *stale: it has to be planned again. */
static int await_fresh(struct job *job, int planned, uint64_t shown, bool *stale,
                       struct mg_error *err)
{
	struct mg_error late = { 0 };
	*stale = false;
	if (planned && !may_be_missing(planned)) {
		return planned;
	}
	find_reads(job, !planned);
	if (!planned && belongs_to_workers(job)) {
		return mg_run_send_elsewhere(job->run, err);
	}
	if (!planned && !job->read_count && !reads_objects(job)) {
		return 0;
	}
	const struct mg_fresh fresh = {
		.engine = job->engine,
		.settings = job->settings,
		.seen = mg_run_seen(job->run),
		.shards = job->reads,
		.count = job->plan_only ? 0 : job->read_count,
		.shown = shown,
		.missing = planned != 0,
		.objects = !planned && job->way.kind == MG_WAY_CATALOG,
		.patience = { .ms = asks_others(job) ? LAG_MS : LAG_MS_MAX,
		              .patient = !asks_others(job),
		              .stopped = mg_run_is_cancelled,
		              .arg = job->run },
	};
	int code = mg_fresh_await(&fresh, stale, &late);
	if (code && mg_run_cancelled(job->run)) {
		return mg_run_cancel_error(job->run, err);
	}
	if (code == MG_E_TIMEOUT && asks_others(job) && !job->plan_only) {
		return mg_run_send_elsewhere(job->run, err);
	}
	if (code) {
		*err = late;
		return code;
	}
	return *stale ? 0 : planned;
}

/* What was bound is what the engine shows, what will be read is what the catalog says: both must be
 * the same tables.  A version of the catalog is there a moment before it is shown. */
static bool is_of_one_version(const struct job *job)
{
	bool one = true;
	for (size_t i = 0; i < job->way.table_count && one; i++) {
		one = mg_engine_shows(job->engine, &job->way.tables[i]);
	}
	return one;
}

static void forget_plan(struct job *job, struct mg_error *err)
{
	mg_catalog_give(mg_engine_catalog(job->engine), job->data);
	mg_error_clear(err);
	job->bound = (struct mg_bound){ 0 };
}

/* How new it is its snapshot says, which the first statement that needs one takes. */
static int plan_in_transaction(struct job *job, struct mg_str sql, struct mg_error *err)
{
	struct mg_tx *tx = job->settings->tx;
	uint64_t shown = job->shown = mg_engine_shown(job->engine);
	int code = plan(job, sql, err);
	if (mg_tx_conn(tx) || (code && !may_be_missing(code)) || (!code && job->bound.catalog_only)) {
		return code;
	}
	struct mg_error none = { 0 };
	int snapshot = mg_tx_snapshot(tx, job->run, &none);
	if (snapshot) {
		*err = none;
		return snapshot;
	}
	if (shown == mg_engine_shown(job->engine) && job->data->version == mg_tx_data(tx)->version) {
		return code;
	}
	forget_plan(job, err);
	job->shown = mg_engine_shown(job->engine);
	return plan(job, sql, err);
}

static int plan_fresh(struct job *job, struct mg_str sql, struct mg_error *err)
{
	if (job->settings->tx) {
		return plan_in_transaction(job, sql, err);
	}
	struct mg_replica *replica = mg_engine_replica(job->engine);
	bool stale = true;
	int code = 0;
	for (int i = 0; stale && i < PLANS_MAX; i++) {
		uint64_t shown = job->shown = mg_engine_shown(job->engine);
		if (i) {
			forget_plan(job, err);
		}
		job->epoch = mg_replica_is_alone(replica) ? 0 : mg_replica_epoch(replica);
		code = plan(job, sql, err);
		if (!code && !is_of_one_version(job)) {
			mg_engine_show(job->engine, true);
			continue;
		}
		code = await_fresh(job, code, shown, &stale, err);
	}
	if (!code && stale) {
		code = mg_error_set(err, MG_E_UNAVAILABLE, "the catalog changes all the time");
		mg_error_hint(err, "Try again.");
	}
	return code;
}

/* All that was acknowledged of keys and values is seen. */
static int await_keys(struct job *job, struct mg_error *err)
{
	bool any = job->settings->consistency == MG_CONSISTENCY_ANY;

	return !job->bound.keys || any || job->plan_only
	           ? 0
	           : mg_keys_await(mg_engine_replica(job->engine), err);
}

static int prepare(struct job *job, struct mg_str sql, struct mg_error *err)
{
	uint64_t start = mg_clock_us();
	job->arena = job->arena ? job->arena : mg_arena_new();
	int code = plan_fresh(job, sql, err);
	code = code ? code : await_keys(job, err);
	struct mg_run_stats *stats = mg_run_own_stats(job->run);
	stats->plan_micros = mg_clock_us() - start;
	if (!code) {
		stats->step = job->way.step;
		mg_copy_text(stats->reason, sizeof stats->reason, job->way.reason);
		stats->shards = (uint32_t)job->way.shard_count;
		stats->nodes = 1;
	}
	return code;
}

static void release(struct job *job)
{
	mg_catalog_give(mg_engine_catalog(job->engine), job->data);
	mg_arena_free(job->arena);
}

/* Of the tables that it reads: others may come and go. */
static bool any_altered(const struct job *job)
{
	const struct mg_catalog_data *now = mg_tx_take_catalog(NULL, job->engine);
	bool altered = false;
	for (size_t i = 0; i < job->way.table_count && !altered; i++) {
		const struct mg_table *planned = &job->way.tables[i];
		const struct mg_table *table = mg_catalog_find_table(now, planned->schema, planned->name);
		altered = !table || !mg_table_is_same(table, planned);
	}
	mg_catalog_give(mg_engine_catalog(job->engine), now);
	return altered;
}

/* What one shard shows, the others of the same transactions are about to show: who hears of it here
 * and asks there must not miss it. */
static int await_told(struct job *job, struct mg_error *err)
{
	if (job->settings->tx || job->read_count != 1) { /* several are read as one cut */
		return 0;
	}
	int code = mg_cuts_await_told(mg_replica_cuts(mg_engine_replica(job->engine)), job->reads[0],
	                              asks_others(job) ? LAG_MS : LAG_MS_MAX, mg_run_is_cancelled,
	                              job->run, err);
	return code == MG_E_UNAVAILABLE && asks_others(job) ? mg_run_send_elsewhere(job->run, err)
	                                                    : code;
}

/* All that answers is bound, its snapshots are taken, and the first row is about to go. */
static int before_answer(void *arg, struct mg_error *err)
{
	struct job *job = arg;

	/* A text that runs as it stands has found whatever was there under its names. */
	job->stale = job->shown != mg_engine_shown(job->engine) &&
	             (job->settings->tx || !job->bound.root || any_altered(job));
	return job->stale
	           ? mg_error_set(err, MG_E_UNAVAILABLE, "the catalog changes all the time")
	           : await_told(job, err);
}

static int carry_out(struct job *job, struct mg_error *err)
{
	mg_pump_init(&job->pump, job->run, job->rows);
	job->pump.before = job->explain || job->way.kind == MG_WAY_CATALOG ? NULL : before_answer;
	job->pump.arg = job;
	if (job->way.kind != MG_WAY_PER_SHARD) {
		job->pump.known = job->bound.column_count;
		job->pump.names = job->bound.names;
		job->pump.types = job->bound.types;
	}
	int code = 0;
	switch (job->way.kind) {
	case MG_WAY_CATALOG:
		code = run_catalog(job, err);
		break;
	case MG_WAY_LOCAL:
	case MG_WAY_ROUTER:
		code = run_local(job, job->way.shards, job->way.shard_count, err);
		break;
	case MG_WAY_CUT:
		code = run_cut(job, err);
		break;
	case MG_WAY_PER_SHARD:
		code = run_per_shard(job, err);
		break;
	}
	if (!code) {
		code = mg_pump_end(&job->pump, err);
	}
	mg_pump_fini(&job->pump);
	if (mg_run_cancelled(job->run)) {
		code = mg_run_cancel_error(job->run, err);
	}
	return code;
}

/* By nobody who asked for it: the node takes over a shard's file, or the engine stopped all threads
 * of the statement for the error of one and told of the stop first. */
static bool was_interrupted(const struct job *job, int code)
{
	return code == MG_E_CANCELLED && !mg_run_cancelled(job->run) && !job->settings->tx;
}

static int say_interrupted(struct mg_error *err)
{
	mg_error_set(err, MG_E_BUSY, "the statement was interrupted at this node");
	mg_error_hint(err, "Try again in a moment, or at another node.");
	return MG_E_BUSY;
}

/* Tables were altered between planning and answering: what was planned may mean something else by
 * then, or find nothing.  A shard may also have let go of a table before the catalog has; then the
 * catalog is waited for. */
static bool begins_again(struct job *job, int code, unsigned tries)
{
	if (job->pump.began || mg_run_cancelled(job->run) || tries == PLANS_MAX) {
		return false;
	}
	if (job->stale || was_interrupted(job, code)) {
		return true;
	}
	bool gone = may_be_missing(code);
	if (gone && job->shown == mg_engine_shown(job->engine)) {
		if (mg_replica_is_alone(mg_engine_replica(job->engine)) || tries > ALTERED_WAITS_MAX) {
			return false;
		}
		mg_sleep_ms(ALTERED_WAIT_MS << tries);
		mg_engine_show(job->engine, true);
	}
	return gone;
}

static int run_planned(struct job *job, struct mg_str sql, struct mg_error *err)
{
	int code = prepare(job, sql, err);
	for (unsigned tries = 1; !code; tries++) {
		job->stale = false;
		code = carry_out(job, err);
		if (!code || !begins_again(job, code, tries)) {
			break;
		}
		mg_log(MG_LOG_INFO, "query.begun_again", "query=%s try=%u reason=\"%s\"",
		       mg_run_id(job->run), tries, err->message);
		forget_plan(job, err);
		code = prepare(job, sql, err);
	}
	return was_interrupted(job, code) ? say_interrupted(err) : code;
}

int mg_coordinator_run(struct mg_engine *engine, struct mg_run *run,
                       const struct mg_run_settings *settings, struct mg_str sql,
                       const struct mg_rows *rows, struct mg_error *err)
{
	struct job job = { .engine = engine, .run = run, .settings = settings, .rows = rows };
	uint64_t start = mg_clock_us();
	int code = run_planned(&job, sql, err);
	if (code == MG_E_CORRUPT) {
		mg_replica_suspect(mg_engine_replica(engine));
	}
	mg_run_own_stats(run)->micros = mg_clock_us() - start;
	release(&job);
	return code;
}

/* ---- EXPLAIN ---- */

/* The plan as it would be cut now, without running anything. */
static int plan_only(struct job *job, struct mg_explain *explain, struct mg_error *err)
{
	struct mg_hub_member *members;
	size_t member_count;
	mg_hub_members(mg_engine_hub(job->engine), job->arena, &members, &member_count);
	for (size_t i = 0; i < member_count; i++) {
		mg_worker_unref(members[i].worker);
	}
	struct stage_run at = { .job = job };
	struct mg_sb notes = { 0 };
	struct mg_plan_env env;
	plan_env(job, &at, member_count + 1, &notes, &env);
	struct mg_stage *result = NULL;
	int code = mg_plan_distribute(&env, job->bound.root, &result, err);
	if (code == MG_E_UNSUPPORTED) {
		mg_way_fall(&job->way, job->run, err->message);
		mg_error_clear(err);
		code = 0;
	}
	mg_explain_plan(explain, &env, mg_sb_text(&notes));
	mg_sb_fini(&notes);
	return code;
}

int mg_coordinator_explain(struct mg_engine *engine, struct mg_run *run,
                           const struct mg_run_settings *settings, struct mg_str sql, bool analyze,
                           bool json, struct mg_sb *out, struct mg_error *err)
{
	struct mg_explain *explain = mg_explain_new();
	struct mg_rows nowhere = mg_pump_nowhere();
	struct job job = {
		.engine = engine, .run = run, .settings = settings, .rows = &nowhere, .plan_only = !analyze
	};
	uint64_t start = mg_clock_us();
	int code = prepare(&job, sql, err);
	if (!code && job.way.kind == MG_WAY_CUT) {
		code = plan_only(&job, explain, err);
	}
	if (!code && analyze) {
		job.explain = explain;
		code = carry_out(&job, err);
		mg_run_own_stats(run)->micros = mg_clock_us() - start;
	}
	if (!code) {
		char *printed = NULL;
		if (job.way.kind != MG_WAY_CUT && !job.way.original_text && job.bound.root) {
			code = mg_plan_print(job.arena, job.bound.root, &printed, err);
		}
		if (!code) {
			mg_explain_print(explain, &job.way, mg_run_stats(run), printed ? printed : job.text,
			                 analyze, json, out);
		}
	}
	mg_explain_free(explain);
	release(&job);
	return code;
}
