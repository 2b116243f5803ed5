/*
 * change.c - see change.h.
 *
 * What only adds rows waits for nobody but those who change tables; what depends on rows that are
 * there holds its table's shards, or the one that its rows are in, from before it reads until it
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

static int write_locked(struct mg_engine *engine, struct mg_run *run,
                        const struct mg_run_settings *settings,
                        const struct mg_change_request *request, uint64_t epoch,
                        struct mg_write_result *result, uint64_t *bytes, struct mg_error *err)
{
	struct mg_staging *staging = mg_staging_new(engine, epoch);
	struct parts parts = { .staging = staging };
	const struct mg_write_request write = { .statement = request->statement,
		                                    .input = request->input,
		                                    .lossless = request->rows->lossless,
		                                    .flush = take_part,
		                                    .flush_arg = &parts };
	struct mg_redo *redo = mg_redo_new();
	int code = mg_write_rows(engine, run, settings, &write, redo, result, err);

	*bytes = parts.bytes + mg_redo_total(redo);
	code = code ? code : mg_staging_publish(staging, redo, err);
	if (!code && mg_run_cancelled(run)) {
		code = mg_run_cancel_error(run, err); /* the last moment at which it can be */
	}
	if (!code && request->once.key) {
		struct mg_done outcome = { .rows = result->rows };

		mg_copy_text(outcome.verb, sizeof outcome.verb, result->verb);
		code =
			mg_outcome_add(mg_engine_outcomes(engine), epoch, &request->once, &outcome, redo, err);
	}
	code = code ? code : mg_replica_commit_in(mg_engine_replica(engine), epoch, redo, err);
	if (code == MG_E_UNKNOWN_OUTCOME && request->once.key) {
		mg_replica_renew(mg_engine_replica(engine), epoch);
	}
	mg_staging_close(staging, code);
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

/* The table's shards are locked. */
static int change_locked(struct mg_engine *engine, struct mg_run *run,
                         const struct mg_run_settings *settings,
                         const struct mg_change_request *request,
                         const struct mg_write_target *target, const uint32_t *shards, size_t count,
                         struct mg_write_result *result, struct mg_change_result *out, bool *again,
                         struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(engine);
	uint64_t epoch = 0;
	int code = mg_replica_begin(replica, &epoch, err);

	code = code ? code : look_for_outcome(engine, &request->once, out, err);
	if (out->repeated) {
		*again = false;
		return code;
	}
	if (!code) {
		mg_fresh_show_to_writer(engine);
	}
	*again = !code && !is_current(engine, target->table);
	if (!code && !*again && mode_of(target) == MG_LOCK_CHANGE) {
		code = mg_replica_long_barrier(replica, shards, count, mg_run_is_cancelled, run, err);
	}
	if (code || *again) {
		return code;
	}
	uint64_t bytes = 0;

	code = write_locked(engine, run, settings, request, epoch, result, &bytes, err);
	if (!code) {
		look_at_growth(engine, target->table, bytes, result->verb, out);
	}
	return code;
}

/* *again: the table was dropped or made anew while we waited for its shards; nothing was done. */
static int change_once(struct mg_engine *engine, struct mg_run *run,
                       const struct mg_run_settings *settings,
                       const struct mg_change_request *request, struct mg_write_result *result,
                       struct mg_change_result *out, bool *again, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(engine);
	struct mg_arena *arena = mg_arena_new();
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(engine));
	uint32_t *shards = NULL;
	struct mg_write_target target;
	size_t count = 0;
	int code = mg_write_target(data, arena, request->statement, &target, err);

	*again = false;
	if (code) {
		code = mg_write_refused(engine, run, settings, request->statement, code, err);
	} else {
		shards = target.one_shard ? mg_shard_ids(arena, target.shard, target.shard)
		                          : mg_table_shard_ids(arena, data, target.table, &count);
		count = target.one_shard ? 1 : count;
		code = mg_replica_lock(replica, mode_of(&target), shards, count, mg_run_is_cancelled, run,
		                       err);
	}
	if (!code) {
		code = change_locked(engine, run, settings, request, &target, shards, count, result, out,
		                     again, err);
		mg_replica_unlock(replica, mode_of(&target), shards, count);
	}
	mg_catalog_give(mg_engine_catalog(engine), data);
	mg_arena_free(arena);
	return code;
}

static int change(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_change_request *request,
                  struct mg_change_result *out, struct mg_error *err)
{
	struct mg_write_result result = { 0 };
	bool again = !settings->tx;
	int code = settings->tx ? mg_tx_change(engine, run, settings, request, &result, err) : 0;

	while (!code && again) {
		code = change_once(engine, run, settings, request, &result, out, &again, err);
	}
	if (!code && !out->repeated) {
		tell(out, result.verb, result.rows);
		out->returned = result.returning;
	}
	if (!code && out->notice[0] && request->rows->notice) {
		request->rows->notice(request->rows->arg, out->notice);
	}
	if (!code && result.returning) {
		code = mg_write_hand_out(&result, request->rows, err);
	}
	mg_write_result_fini(&result);
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
	code = change(engine, run, settings, request, out, err);
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
