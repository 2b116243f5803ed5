/*
 * change.c - see change.h.
 *
 * What only adds rows waits for nobody but those who change tables; what depends on rows that are
 * there holds its table's shards, or the slot that its rows are in, from before it reads until it
 * has committed, so no row changes in between.  Of several nodes the coordinator of writes alone
 * runs it, in one epoch from the look at the catalog to the commit: when that is over nothing has
 * happened, and who asked tries again.
 */
#include "exec/change.h"

#include "exec/blind.h"
#include "exec/engine.h"
#include "exec/fresh.h"
#include "exec/growth.h"
#include "exec/run.h"
#include "exec/staging.h"
#include "exec/tx.h"
#include "exec/write.h"
#include "replica/replica.h"

#include <stdio.h>

static enum mg_lock_mode mode_of(const struct mg_write_target *target)
{
	return target->reads || mg_table_has_keys(target->table) ? MG_LOCK_CHANGE : MG_LOCK_ADD;
}

/* The rows of a statement go to the shards in parts: how many bytes went so. */
struct parts {
	struct mg_staging *staging;
	uint64_t bytes;
};

static int take_part(void *arg, const struct mg_catalog_data *data, const struct mg_table *table,
                     struct mg_redo *redo, struct mg_error *err)
{
	struct parts *parts = arg;
	size_t before = mg_redo_total(redo);
	int code = mg_staging_take(parts->staging, data, table, redo, err);

	parts->bytes += before - mg_redo_total(redo);
	return code;
}

/* What was added to a reference table, which every node has. */
static void look_at_growth(struct mg_engine *engine, const struct mg_table *table, uint64_t bytes,
                           const char *verb, struct mg_change_result *out)
{
	uint64_t rows, sampled;

	if (mg_text_eq(verb, "DELETE") || mg_text_eq(verb, "TRUNCATE")) {
		mg_growth_forget(mg_engine_growth(engine), table);
	} else if (!table->key_count && !mg_text_eq(verb, "UPDATE")) {
		mg_engine_rows(engine, table, &rows, &sampled);
		(void)mg_growth_look(mg_engine_growth(engine), table, rows, bytes, out->notice,
		                     sizeof out->notice);
	}
}

/* ---- what is held ---- */

/* All shards of the table, or a key of one of them. */
struct held {
	struct mg_replica *replica;
	struct mg_run *run;
	enum mg_lock_mode mode;
	uint32_t *shards;
	size_t count;
	struct mg_key_lock key; /* of MG_LOCK_KEY */
};

static int hold(struct held *held, const struct mg_catalog_data *data, struct mg_arena *arena,
                const struct mg_write_target *target, struct mg_error *err)
{
	if (target->is_point && target->table->key_count) {
		held->mode = MG_LOCK_KEY;
		held->key.shard = target->point.shard;
		held->key.slot = target->point.slot;
		return mg_replica_lock_key(held->replica, &held->key, mg_run_is_cancelled, held->run, err);
	}
	held->mode = mode_of(target);
	held->shards = mg_table_shard_ids(arena, data, target->table, &held->count);
	return mg_replica_lock(held->replica, held->mode, held->shards, held->count,
	                       mg_run_is_cancelled, held->run, err);
}

static void let_go(const struct held *held)
{
	if (held->mode == MG_LOCK_KEY) {
		mg_replica_unlock_key(held->replica, &held->key);
	} else {
		mg_replica_unlock(held->replica, held->mode, held->shards, held->count);
	}
}

/* Until what it reads here is what was acknowledged. */
static int await_held(const struct held *held, uint64_t epoch, struct mg_error *err)
{
	switch (held->mode) {
	case MG_LOCK_KEY:
		return mg_replica_await_key(held->replica, &held->key, epoch, mg_run_is_cancelled,
		                            held->run, err);
	case MG_LOCK_CHANGE:
		return mg_replica_long_barrier(held->replica, held->shards, held->count,
		                               mg_run_is_cancelled, held->run, err);
	default:
		return 0;
	}
}

/* ---- one try ---- */

/* A change under way. */
struct change {
	struct mg_engine *engine;
	struct mg_run *run;
	const struct mg_run_settings *settings;
	const struct mg_change_request *request;
	struct mg_write_result result;
	struct mg_change_result *out;
	bool again; /* nothing was done, and it is to be tried once more */
	bool sure;  /* then after a barrier */
};

/* The rows that were read are those of the file that it has now; else it is tried again. */
static bool are_current(struct change *change, const struct held *held)
{
	change->again =
		held->mode == MG_LOCK_KEY && !mg_replica_key_stays(held->replica, &held->key);
	return !change->again;
}

/* What it writes is held. */
static int write_rows(struct change *change, const struct held *held, uint64_t epoch,
                      uint64_t *bytes, struct mg_error *err)
{
	struct mg_engine *engine = change->engine;
	const struct mg_change_request *request = change->request;
	struct mg_staging *staging = mg_staging_new(engine, epoch);
	struct parts parts = { .staging = staging };
	const struct mg_write_request write = { .statement = request->statement,
		                                    .input = request->input,
		                                    .lossless = request->rows->lossless,
		                                    .flush = take_part,
		                                    .flush_arg = &parts };
	struct mg_write_result *result = &change->result;
	struct mg_redo *redo = mg_redo_new();
	int code = mg_write_rows(engine, change->run, change->settings, &write, redo, result, err);

	*bytes = parts.bytes + mg_redo_total(redo);
	code = code ? code : mg_staging_publish(staging, redo, err);
	if (!code && mg_run_cancelled(change->run)) {
		code = mg_run_cancel_error(change->run, err); /* the last moment at which it can be */
	}
	if (!code && request->once.key) {
		struct mg_done outcome = { .rows = result->rows };

		mg_copy_text(outcome.verb, sizeof outcome.verb, result->verb);
		code =
			mg_outcome_add(mg_engine_outcomes(engine), epoch, &request->once, &outcome, redo, err);
	}
	if (!code && are_current(change, held)) {
		code = mg_replica_commit_in(held->replica, epoch, redo, err);
	}
	if (code == MG_E_UNKNOWN_OUTCOME && request->once.key) {
		mg_replica_renew(held->replica, epoch);
	}
	mg_staging_close(staging, change->again ? MG_E_UNAVAILABLE : code);
	mg_redo_free(redo);
	return code;
}

static void tell(struct mg_change_result *out, const char *verb, uint64_t rows)
{
	out->done = true;
	out->rows = rows;
	(void)snprintf(out->tag, sizeof out->tag, "%s%s %llu", verb,
	               mg_text_eq(verb, "INSERT") ? " 0" : "", (unsigned long long)rows);
}

/* What has the key was done before? */
static int look_for_outcome(struct mg_engine *engine, const struct mg_write_key *once,
                            struct mg_change_result *out, struct mg_error *err)
{
	struct mg_done outcome;
	int code = once->key ? mg_outcome_find(mg_engine_outcomes(engine), once, &outcome,
	                                       &out->repeated, err)
	                     : 0;

	if (!code && out->repeated) {
		tell(out, outcome.verb, outcome.rows);
	}
	return code;
}

/* Whether the table that the statement found is still the one of that name. */
static bool is_current(struct mg_engine *engine, const struct mg_table *table)
{
	const struct mg_catalog_data *now = mg_catalog_take(mg_engine_catalog(engine));
	const struct mg_table *found = mg_catalog_find_table(now, table->schema, table->name);
	bool current = found && mg_table_is_same(found, table);

	mg_catalog_give(mg_engine_catalog(engine), now);
	return current;
}

/* What was acknowledged of the key's rows is here, unless this node coordinates no more: a commit
 * tells that, but neither an error nor that there is no row does. */
static bool may_skip_barrier(const struct change *change, const struct held *held, uint64_t epoch)
{
	return held->mode == MG_LOCK_KEY && !change->sure && !change->request->once.key &&
	       mg_replica_key_is_here(held->replica, &held->key, epoch);
}

static int write_held(struct change *change, const struct held *held, uint64_t epoch,
                      const struct mg_table *table, struct mg_error *err)
{
	bool skip = may_skip_barrier(change, held, epoch);
	uint64_t bytes = 0;
	int code = skip ? 0 : await_held(held, epoch, err);

	code = code ? code : write_rows(change, held, epoch, &bytes, err);
	if (skip && code != MG_E_UNKNOWN_OUTCOME && (code || !change->result.rows)) {
		mg_error_clear(err);
		change->again = true;
		code = 0;
	}
	if (change->again) {
		mg_write_result_fini(&change->result);
		change->sure = true;
	} else if (!code) {
		look_at_growth(change->engine, table, bytes, change->result.verb, change->out);
	}
	return code;
}

static int change_held(struct change *change, const struct held *held,
                       const struct mg_write_target *target, struct mg_error *err)
{
	uint64_t epoch = 0;
	int code = mg_replica_begin(held->replica, &epoch, err);

	code = code ? code
	            : look_for_outcome(change->engine, &change->request->once, change->out, err);
	if (code || change->out->repeated) {
		return code;
	}
	mg_fresh_show_to_writer(change->engine);
	if (!is_current(change->engine, target->table)) { /* dropped or made anew while we waited */
		change->again = true;
		return 0;
	}
	return write_held(change, held, epoch, target->table, err);
}

static int change_once(struct change *change, struct mg_error *err)
{
	struct held held = { .replica = mg_engine_replica(change->engine), .run = change->run };
	struct mg_arena *arena = mg_arena_new();
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(change->engine));
	struct mg_write_target target;
	int code = mg_write_target(data, arena, change->request->statement, &target, err);

	change->again = false;
	if (code) {
		code = mg_write_refused(change->engine, change->run, change->settings,
		                        change->request->statement, code, err);
	} else {
		code = hold(&held, data, arena, &target, err);
		if (!code) {
			code = change_held(change, &held, &target, err);
			let_go(&held);
		}
	}
	mg_catalog_give(mg_engine_catalog(change->engine), data);
	mg_arena_free(arena);
	return code;
}

static int run_change(struct mg_engine *engine, struct mg_run *run,
                      const struct mg_run_settings *settings,
                      const struct mg_change_request *request, struct mg_change_result *out,
                      struct mg_error *err)
{
	struct change change = {
		.engine = engine, .run = run, .settings = settings, .request = request, .out = out
	};
	struct mg_write_result *result = &change.result;
	int code = settings->tx ? mg_tx_change(engine, run, settings, request, result, err)
	                        : change_once(&change, err);

	while (!code && change.again) {
		code = change_once(&change, err);
	}
	if (!code && !out->repeated) {
		tell(out, result->verb, result->rows);
		out->returned = result->returning;
	}
	if (!code && out->notice[0] && request->rows->notice) {
		request->rows->notice(request->rows->arg, out->notice);
	}
	if (!code && result->returning) {
		code = mg_write_hand_out(result, request->rows, err);
	}
	mg_write_result_fini(result);
	return code;
}

int mg_change_blind(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_change_request *request, struct mg_change_result *out,
                    bool *taken, struct mg_error *err)
{
	struct mg_blind *blind = mg_engine_blind(engine);
	uint64_t rows = 0;
	int code = 0;

	*taken = !request->once.key && mg_blind_knows(blind, request->statement, NULL);
	if (*taken) {
		code = mg_blind_run(blind, request->statement, taken, &rows, err);
	}
	if (code && code != MG_E_UNKNOWN_OUTCOME) { /* the ordinary way says why, or does it */
		mg_error_clear(err);
		*taken = false;
		code = 0;
	}
	if (*taken && !code) {
		mg_run_own_stats(run)->step = "literals";
		tell(out, "INSERT", rows);
	}
	return code;
}

int mg_change_run(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_change_request *request,
                  struct mg_change_result *out, struct mg_error *err)
{
	struct mg_outcomes *outcomes = mg_engine_outcomes(engine);
	const char *key = request->once.key;
	int code = key ? mg_outcome_enter(outcomes, key, mg_run_is_cancelled, run, err) : 0;

	if (code) {
		return code;
	}
	code = run_change(engine, run, settings, request, out, err);
	if (key) {
		mg_outcome_leave(outcomes, key);
	}
	return code;
}

int mg_change_look(struct mg_engine *engine, struct mg_run *run, const struct mg_write_key *once,
                   struct mg_change_result *out, struct mg_error *err)
{
	struct mg_outcomes *outcomes = mg_engine_outcomes(engine);
	uint64_t epoch = 0;
	int code = mg_outcome_enter(outcomes, once->key, mg_run_is_cancelled, run, err);

	if (code) {
		return code;
	}
	code = mg_replica_begin(mg_engine_replica(engine), &epoch, err);
	code = code ? code : look_for_outcome(engine, once, out, err);
	mg_outcome_leave(outcomes, once->key);
	return code;
}

/* ---- before the rows come ---- */

static int look_for_target(struct mg_engine *engine, const struct mg_run_settings *settings,
                           struct mg_str statement, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_tx_take_catalog(settings->tx, engine);
	struct mg_arena *arena = mg_arena_new();
	struct mg_write_target target;
	int code = mg_write_target(data, arena, statement, &target, err);

	mg_arena_free(arena);
	mg_catalog_give(mg_engine_catalog(engine), data);
	return code;
}

int mg_change_check(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_run_settings *settings, struct mg_str statement,
                    struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(engine);
	int code = settings->tx ? mg_tx_check_writes(settings->tx, err) : 0;

	if (code) {
		return code;
	}
	code = look_for_target(engine, settings, statement, err);
	if (code && !mg_replica_is_coordinator(replica)) { /* it may lag behind */
		mg_error_clear(err);
		code = mg_replica_read_barrier(replica, NULL, 0, NULL)
		           ? 0 /* not known: it is seen when it runs */
		           : look_for_target(engine, settings, statement, err);
	}
	return code ? mg_write_refused(engine, run, settings, statement, code, err) : 0;
}
