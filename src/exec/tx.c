/*
 * tx.c - see tx.h: life, the snapshot, and a statement that writes.
 *
 * `lock` guards the state alone.  The connection and the tables belong to the statement that has
 * entered; whoever ends the transaction meanwhile only says so, and the statement gives them back
 * when it leaves.
 */
#include "exec/tx_int.h"

#include "base/assert.h"
#include "exec/fresh.h"
#include "exec/run.h"
#include "exec/write.h"
#include "os/clock.h"
#include "replica/replica.h"

#include <stdlib.h>
#include <string.h>

enum {
	SNAPSHOTS_MAX = 20, /* tries, while the catalog changes under them */
	CUT_MS_MAX = 15000, /* until all shards make one moment */
};

/* ---- life ---- */

struct mg_tx *mg_tx_new(struct mg_engine *engine, bool read_only)
{
	struct mg_tx *tx = mg_alloc0(sizeof *tx);

	tx->engine = engine;
	tx->read_only = read_only;
	tx->idle_since_ms = mg_clock_ms();
	tx->now_us = mg_clock_wall_us();
	atomic_init(&tx->refs, 1);
	pthread_mutex_init(&tx->lock, NULL);
	return tx;
}

struct mg_tx *mg_tx_ref(struct mg_tx *tx)
{
	atomic_fetch_add(&tx->refs, 1);
	return tx;
}

/* The snapshot and all that was written go: nobody has entered. */
static void give_back(struct mg_tx *tx)
{
	struct mg_gate *gate = mg_engine_gate(tx->engine);

	mg_gate_mute(gate, &tx->pass);
	mg_tx__forget_tables(tx);
	mg_tx__forget_steps(tx);
	if (tx->conn) {
		mg_duck_disconnect(tx->conn); /* rolls back */
		tx->conn = NULL;
	}
	mg_gate_leave(gate, &tx->pass);
	if (tx->attached) {
		tx->free_attached(tx->attached);
		tx->attached = NULL;
	}
	if (tx->data) {
		mg_catalog_give(mg_engine_catalog(tx->engine), tx->data);
		tx->data = NULL;
	}
	mg_free(tx->applied);
	tx->applied = NULL;
}

void mg_tx_unref(struct mg_tx *tx)
{
	if (!tx || atomic_fetch_sub(&tx->refs, 1) > 1) {
		return;
	}
	mg_assert(!tx->busy);
	give_back(tx);
	pthread_mutex_destroy(&tx->lock);
	mg_free(tx);
}

enum mg_tx_state mg_tx_state(struct mg_tx *tx)
{
	pthread_mutex_lock(&tx->lock);
	enum mg_tx_state state = tx->state;
	pthread_mutex_unlock(&tx->lock);
	return state;
}

uint64_t mg_tx_idle_since(struct mg_tx *tx)
{
	pthread_mutex_lock(&tx->lock);
	uint64_t since = tx->busy || tx->state == MG_TX_OVER ? 0 : tx->idle_since_ms;
	pthread_mutex_unlock(&tx->lock);
	return since;
}

static int say_over(enum mg_tx_end why, struct mg_error *err)
{
	if (why == MG_TX_EVICTED) {
		mg_error_set(err, MG_E_CONFLICT, "this node has taken over a newer copy of a shard");
		mg_error_hint(err, "ROLLBACK, and run the whole transaction again.");
		return MG_E_CONFLICT;
	}
	if (why == MG_TX_IDLE) {
		mg_error_set(err, MG_E_TRANSACTION,
		             "the transaction waited too long for its next statement and was rolled back");
		mg_error_hint(err, "Begin it again; SET idle_in_transaction_timeout = '30min' allows for "
		                   "more.");
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "25P03");
		}
		return MG_E_TRANSACTION;
	}
	mg_error_set(err, MG_E_TRANSACTION,
	             why == MG_TX_CLOSED ? "the transaction was ended by an operator"
	                                 : "the transaction is over");
	if (err) {
		mg_copy_text(err->sqlstate, sizeof err->sqlstate, "25P01");
	}
	return MG_E_TRANSACTION;
}

int mg_tx_say_lost(struct mg_error *err)
{
	struct mg_error why = *err;

	mg_error_set(err, MG_E_CONFLICT, "%s", why.message);
	mg_error_detail(err, "%s", why.detail);
	mg_error_hint(err, "The transaction is rolled back: run the whole of it again.");
	return MG_E_CONFLICT;
}

int mg_tx_enter(struct mg_tx *tx, struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&tx->lock);
	if (tx->state == MG_TX_OVER) {
		code = say_over(tx->why, err);
	} else if (tx->busy) {
		code = mg_error_set(err, MG_E_BUSY, "a statement of this transaction still runs");
		mg_error_hint(err, "Wait for its answer: a transaction does one thing at a time.");
	} else if (tx->state == MG_TX_FAILED) {
		code =
			mg_error_set(err, MG_E_TRANSACTION, "Current transaction is aborted (please ROLLBACK)");
	} else {
		tx->busy = true;
		tx->bound = false;
		(void)mg_tx_ref(tx);
	}
	pthread_mutex_unlock(&tx->lock);
	return code;
}

/* DuckDB's own transaction goes on only after what it calls errors of parsing, names and types. */
static bool breaks(struct mg_tx *tx, const struct mg_error *err)
{
	switch (err->code) {
	case MG_E_SYNTAX:
	case MG_E_NO_TABLE:
	case MG_E_NO_COLUMN:
	case MG_E_NO_FUNCTION:
	case MG_E_BIND:
	case MG_E_DENIED:
	case MG_E_UNSUPPORTED:
	case MG_E_READ_ONLY:
	case MG_E_USAGE:
	case MG_E_DUPLICATE: {
		int64_t one = 0;
		struct mg_error ignored;

		return tx->conn && mg_duck_int(tx->conn, "SELECT 1", &one, &ignored) != 0;
	}
	default:
		return true;
	}
}

void mg_tx_leave(struct mg_tx *tx, const struct mg_error *err)
{
	bool failed = err && err->code && (tx->bound || breaks(tx, err));

	pthread_mutex_lock(&tx->lock);
	mg_assert(tx->busy);
	tx->busy = false;
	tx->idle_since_ms = mg_clock_ms();
	if (failed && tx->state == MG_TX_OPEN) {
		tx->state = MG_TX_FAILED;
	}
	bool over = tx->state != MG_TX_OPEN; /* what failed is of no use any more */

	tx->held = tx->held && !over;
	pthread_mutex_unlock(&tx->lock);
	if (over) {
		give_back(tx);
	}
	mg_tx_unref(tx);
}

void mg_tx_bind(struct mg_tx *tx)
{
	tx->bound = true;
}

/* Under the gate's lock: somebody waits for all snapshots to go. */
static void evict(void *arg)
{
	struct mg_tx *tx = arg;

	pthread_mutex_lock(&tx->lock);
	bool first = tx->state != MG_TX_OVER;

	if (first) {
		tx->state = MG_TX_OVER;
		tx->why = MG_TX_EVICTED;
	}
	if (tx->busy && tx->conn) {
		mg_duck_interrupt(tx->conn);
	}
	pthread_mutex_unlock(&tx->lock);
	if (first && tx->evicted) {
		tx->evicted(tx->evicted_arg);
	}
}

void mg_tx_on_evicted(struct mg_tx *tx, void (*evicted)(void *arg), void *arg)
{
	tx->evicted = evicted;
	tx->evicted_arg = arg;
}

void mg_tx_attach(struct mg_tx *tx, void *thing, void (*free_thing)(void *thing))
{
	mg_assert(!tx->attached && !tx->conn);
	tx->attached = thing;
	tx->free_attached = free_thing;
	pthread_mutex_lock(&tx->lock);
	tx->held = true;
	pthread_mutex_unlock(&tx->lock);
}

void *mg_tx_attached(const struct mg_tx *tx)
{
	return tx->attached;
}

bool mg_tx_is_read_only(const struct mg_tx *tx)
{
	return tx->read_only;
}

bool mg_tx_is_evicted(struct mg_tx *tx)
{
	pthread_mutex_lock(&tx->lock);
	bool is = tx->state == MG_TX_OVER && tx->why == MG_TX_EVICTED && tx->held;
	pthread_mutex_unlock(&tx->lock);
	return is;
}

void mg_tx_reap(struct mg_tx *tx)
{
	pthread_mutex_lock(&tx->lock);
	bool now = tx->state == MG_TX_OVER && tx->why == MG_TX_EVICTED && tx->held && !tx->busy;

	tx->held = tx->held && !now;
	pthread_mutex_unlock(&tx->lock);
	if (now) {
		give_back(tx);
	}
}

void mg_tx_end(struct mg_tx *tx, enum mg_tx_end why)
{
	pthread_mutex_lock(&tx->lock);
	bool ours = tx->state != MG_TX_OVER;

	if (ours) {
		tx->state = MG_TX_OVER;
		tx->why = why;
	}
	bool now = tx->held && !tx->busy;

	tx->held = tx->held && !now;
	pthread_mutex_unlock(&tx->lock);
	if (now) { /* nobody enters any more */
		give_back(tx);
	}
}

void mg_tx_end_idle(struct mg_tx *tx)
{
	pthread_mutex_lock(&tx->lock);
	bool ours = tx->state != MG_TX_OVER && !tx->busy;

	if (ours) {
		tx->state = MG_TX_OVER;
		tx->why = MG_TX_IDLE;
	}
	bool now = ours && tx->held;

	tx->held = tx->held && !now;
	pthread_mutex_unlock(&tx->lock);
	if (now) {
		give_back(tx);
	}
}

int mg_tx_rollback(struct mg_tx *tx, struct mg_error *err)
{
	int code = 0;

	pthread_mutex_lock(&tx->lock);
	if (tx->committing) {
		code = mg_error_set(err, MG_E_BUSY, "the COMMIT of this transaction is under way");
		mg_error_hint(err, "Wait for its answer, which says what came of it.");
	} else if (tx->state == MG_TX_OVER && tx->why == MG_TX_COMMITTED) {
		code = say_over(tx->why, err);
	}
	bool ours = !code && tx->state != MG_TX_OVER;

	if (ours) { /* at once: no COMMIT comes in between */
		tx->state = MG_TX_OVER;
		tx->why = MG_TX_ROLLED_BACK;
	}
	pthread_mutex_unlock(&tx->lock);
	if (!code) {
		mg_tx_end(tx, MG_TX_ROLLED_BACK);
	}
	return code;
}

int mg_tx_commit_begin(struct mg_tx *tx, struct mg_error *err)
{
	pthread_mutex_lock(&tx->lock);
	int code = tx->state == MG_TX_OVER ? say_over(tx->why, err) : 0;

	tx->committing = !code;
	pthread_mutex_unlock(&tx->lock);
	return code;
}

void mg_tx_settle(struct mg_tx *tx, int code)
{
	pthread_mutex_lock(&tx->lock);
	if (code != MG_E_TRANSACTION) {
		bool ended = tx->state == MG_TX_OVER && code; /* otherwise, meanwhile */

		tx->state = MG_TX_OVER;
		tx->why = ended ? tx->why : code ? MG_TX_ROLLED_BACK : MG_TX_COMMITTED;
	}
	tx->committing = code == MG_E_UNKNOWN_OUTCOME;
	pthread_mutex_unlock(&tx->lock);
}

int mg_tx_commit(struct mg_tx *tx, struct mg_run *run, const struct mg_write_key *once,
                 bool *repeated, struct mg_error *err)
{
	struct mg_outcomes *outcomes = mg_engine_outcomes(tx->engine);
	const char *key = once ? once->key : NULL;
	int code = key ? mg_outcome_enter(outcomes, key, mg_run_is_cancelled, run, err) : 0;
	bool entered = key && !code;

	*repeated = false;
	if (!code) {
		code = mg_tx_has_changes(tx) || mg_tx_defines(tx)
		           ? mg_tx__commit(tx, run, key ? once : NULL, repeated, err)
		           : mg_tx_commit_begin(tx, err);
	}
	if (entered) {
		mg_outcome_leave(outcomes, key);
	}
	mg_tx_settle(tx, code);
	return code;
}

/* ---- the snapshot ---- */

/* "7,12,...": the applied index of each shard. */
static int read_applied(struct mg_tx *tx, const char *list, struct mg_error *err)
{
	const char *at = list ? list : "";

	for (uint32_t i = 0; i <= tx->data->shard_count; i++) {
		char *end = NULL;

		tx->applied[i] = strtoull(at, &end, 10);
		if (end == at) {
			return mg_error_set(err, MG_E_CORRUPT, "shard %u does not say what it holds", i);
		}
		at = *end == ',' ? end + 1 : end;
	}
	return 0;
}

struct cutting {
	struct mg_tx *tx;
	struct mg_run *run;
};

static bool is_over(void *arg)
{
	const struct cutting *cutting = arg;

	return mg_tx_state(cutting->tx) == MG_TX_OVER || mg_run_cancelled(cutting->run);
}

/* Of all shards. */
static int begin_cut(struct mg_tx *tx, struct mg_run *run, struct mg_error *err)
{
	struct cutting cutting = { tx, run };
	size_t count = (size_t)tx->data->shard_count + 1;
	struct mg_arena *arena = mg_arena_new();
	struct mg_cut cut = { .shards = mg_shard_ids(arena, 0, tx->data->shard_count),
		                  .count = count,
		                  .patient = true };
	uint64_t waited_ms;

	int code = mg_cuts_begin(mg_replica_cuts(mg_engine_replica(tx->engine)), &cut, CUT_MS_MAX,
	                         is_over, &cutting, &waited_ms, err);

	mg_arena_free(arena);
	return code && mg_run_cancelled(run) ? mg_run_cancel_error(run, err) : code;
}

/* One moment of all shards; DuckDB takes a snapshot of each when it is first touched. */
static int pin(struct mg_tx *tx, struct mg_run *run, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char *list = NULL;

	mg_sb_add(&sql, "SELECT string_agg(i, ',' ORDER BY s) FROM (");
	for (uint32_t i = 0; i <= tx->data->shard_count; i++) {
		mg_sb_addf(&sql, "%sSELECT %u AS s, applied_index::VARCHAR AS i FROM s%u._mg.meta",
		           i ? " UNION ALL " : "", i, i);
	}
	mg_sb_add_char(&sql, ')');
	int code = mg_duck_exec(tx->conn, "BEGIN", err);

	code = code ? code : mg_duck_set_now(tx->conn, tx->now_us, err);
	code = code ? code : begin_cut(tx, run, err);
	if (!code) {
		code = mg_duck_text(tx->conn, mg_sb_text(&sql), &list, err);
		mg_cuts_end(mg_replica_cuts(mg_engine_replica(tx->engine)));
	}
	code = code ? code : read_applied(tx, list, err);
	mg_free(list);
	mg_sb_fini(&sql);
	return code ? mg_error_wrap(err, "while taking a snapshot") : 0;
}

/* The catalog is as of the snapshot when it is the same before and after. */
static int snapshot_once(struct mg_tx *tx, struct mg_run *run, bool *again, struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(tx->engine);

	tx->data = mg_catalog_take(catalog);
	size_t shards = tx->data->shard_count + 1;

	tx->applied = mg_alloc0(shards * sizeof *tx->applied);
	struct mg_duck_conn *conn = NULL;
	int code = mg_gate_enter(mg_engine_gate(tx->engine), &tx->pass, evict, tx, err);

	code = code ? code : mg_duck_connect(mg_engine_duck(tx->engine), &conn, err);
	code = code ? code : mg_duck_count_progress(conn, err);
	pthread_mutex_lock(&tx->lock);
	tx->conn = conn;
	tx->held = true;
	pthread_mutex_unlock(&tx->lock);
	code = code ? code : pin(tx, run, err);
	const struct mg_catalog_data *now = mg_catalog_take(catalog);

	*again = !code && now->version != tx->data->version;
	mg_catalog_give(catalog, now);
	if (code || *again) {
		give_back(tx);
	}
	return code;
}

/* All that was acknowledged before is in the snapshot that comes. */
static int await_all(struct mg_tx *tx, struct mg_run *run, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(tx->engine);
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(tx->engine));
	size_t count = (size_t)data->shard_count + 1;
	uint64_t epoch;

	mg_catalog_give(mg_engine_catalog(tx->engine), data);
	struct mg_arena *arena = mg_arena_new();
	int code = mg_replica_begin(replica, &epoch, err);

	code = code ? code
	            : mg_replica_long_barrier(replica, mg_shard_ids(arena, 0, (uint32_t)count - 1),
	                                      count, mg_run_is_cancelled, run, err);
	mg_arena_free(arena);
	if (!code) {
		mg_fresh_show_to_writer(tx->engine);
	}
	return code && mg_run_cancelled(run) ? mg_run_cancel_error(run, err) : code;
}

int mg_tx_snapshot(struct mg_tx *tx, struct mg_run *run, struct mg_error *err)
{
	if (tx->conn) {
		return 0;
	}
	bool again = true;
	int code = await_all(tx, run, err);

	for (int i = 0; !code && again && i < SNAPSHOTS_MAX; i++) {
		code = snapshot_once(tx, run, &again, err);
	}
	if (!code && again) {
		code = mg_error_set(err, MG_E_BUSY, "tables come and go all the time: no snapshot of them");
		mg_error_hint(err, "Nothing was done: try again.");
	}
	return code;
}

const struct mg_catalog_data *mg_tx_data(const struct mg_tx *tx)
{
	return tx->data;
}

struct mg_duck_conn *mg_tx_conn(struct mg_tx *tx)
{
	return tx->conn;
}

int64_t mg_tx_now(const struct mg_tx *tx)
{
	return tx->now_us;
}

bool mg_tx_has_changes(const struct mg_tx *tx)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		if (!tx->tables[i].gone) {
			return true;
		}
	}
	return false;
}

/* Its statements take their catalog from its own copy, and are planned over the newest one. */
static bool is_current(const struct mg_tx *tx, const struct mg_table *table)
{
	struct mg_catalog *catalog = mg_engine_catalog(tx->engine);
	const struct mg_catalog_data *now = mg_catalog_take(catalog);
	const struct mg_table *found = mg_catalog_find_table(now, table->schema, table->name);
	bool current = found && mg_table_is_same(found, table);

	mg_catalog_give(catalog, now);
	return current;
}

/* name: NULL: it has none any more. */
static int refuse_changed(const char *name, struct mg_error *err)
{
	if (name) {
		mg_error_set(err, MG_E_CONFLICT,
		             "table \"%s\" was made or changed after the transaction began", name);
	} else {
		mg_error_set(err, MG_E_CONFLICT, "the table was dropped after the transaction began");
	}
	mg_error_hint(err, "ROLLBACK, and run the transaction again.");
	return MG_E_CONFLICT;
}

int mg_tx_check_table(const struct mg_tx *tx, const struct mg_table *table, struct mg_error *err)
{
	if (!tx->data) {
		return 0; /* the snapshot is still to come */
	}
	const struct mg_table *then = mg_catalog_find_table(tx->data, table->schema, table->name);

	if (then && mg_table_is_same(then, table) &&
	    (!mg_tx_defines(tx) || mg_tx_is_own_table(tx, then) || is_current(tx, then))) {
		return 0;
	}
	return refuse_changed(table->name, err);
}

/* ---- a statement that writes ---- */

int mg_tx_check_writes(const struct mg_tx *tx, struct mg_error *err)
{
	if (!tx->read_only) {
		return 0;
	}
	mg_error_set(err, MG_E_READ_ONLY, "the transaction was begun READ ONLY");
	mg_error_hint(err, "ROLLBACK, and BEGIN without READ ONLY.");
	return MG_E_READ_ONLY;
}

/* The table that the statement names, as far as it names one: the same now and in the snapshot. */
static int check_target(struct mg_tx *tx, struct mg_str statement, const struct mg_table **out,
                        struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(tx->engine);
	const struct mg_catalog_data *now = mg_tx_take_catalog(tx, tx->engine);
	struct mg_arena *arena = mg_arena_new();
	struct mg_write_target target;
	int code = 0;

	*out = NULL;
	if (!mg_write_target(now, arena, statement, &target, NULL)) {
		code = mg_tx_check_table(tx, target.table, err);
		*out = mg_catalog_find_table(tx->data, target.table->schema, target.table->name);
		if (!code && mg_tx_defines(tx) && !mg_tx_is_own_table(tx, *out)) {
			code = mg_error_set(err, MG_E_UNSUPPORTED,
			                    "a transaction that defines something writes only to tables of "
			                    "its own, and \"%s\" is none",
			                    target.table->name);
			mg_error_hint(err, "COMMIT first, and change its rows in a transaction of their own.");
		}
	}
	mg_arena_free(arena);
	mg_catalog_give(catalog, now);
	return code;
}

int mg_tx_change(struct mg_engine *engine, struct mg_run *run,
                 const struct mg_run_settings *settings, const struct mg_change_request *request,
                 struct mg_write_result *result, struct mg_error *err)
{
	struct mg_tx_rows *rows = mg_tx__rows_new(engine);
	const struct mg_write_request write = { .statement = request->statement,
		                                    .input = request->input,
		                                    .lossless = request->rows->lossless,
		                                    .flush = mg_tx__rows_take,
		                                    .flush_arg = rows };
	const struct mg_table *table = NULL;
	struct mg_tx *tx = settings->tx;
	struct mg_redo *redo = mg_redo_new();
	int code = mg_tx_check_writes(tx, err);

	code = code ? code : mg_tx_snapshot(tx, run, err);
	code = code ? code : check_target(tx, request->statement, &table, err);
	code = code ? code : mg_write_rows(engine, run, settings, &write, redo, result, err);
	if (!code && mg_run_cancelled(run)) {
		code = mg_run_cancel_error(run, err);
	}
	/* It may have been made anew in between, or be gone. */
	code = code ? code : check_target(tx, request->statement, &table, err);
	code = code || table ? code : refuse_changed(NULL, err);
	code = code ? code : mg_tx__rows_take(rows, NULL, table, redo, err);
	if (!code) {
		mg_tx_bind(tx); /* a part of its rows, or all, may stay when it fails */
		code = mg_tx__apply(tx, table, rows, err);
	}
	mg_tx__rows_free(rows);
	mg_redo_free(redo);
	return code;
}
