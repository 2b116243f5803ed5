/*
 * tx_define.c - CREATE and DROP inside of a transaction.
 *
 * The transaction has a copy of the catalog of its snapshot, which each step changes; its
 * statements are planned over that (sql/plandb_replay.c) and read its own tables from its overlay
 * alone, as the shards do not have them.  COMMIT makes those tables in the shards, with their rows,
 * under names that nobody sees; then one version of the catalog takes all steps at once, on
 * whatever others have made of it meanwhile.  What a crash leaves in between is swept (sweep.h).
 *
 * Rule: the catalog's version alone decides.  So rows of tables that were there before cannot be
 * changed in the same transaction: they would need a decision of their own.
 */
#include "exec/tx_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/define.h"
#include "exec/fresh.h"
#include "exec/run.h"
#include "exec/sweep.h"
#include "replica/replica.h"

#include <string.h>

enum { FIT_TRIES_MAX = 100 };

bool mg_tx_defines(const struct mg_tx *tx)
{
	return tx->step_count > 0;
}

bool mg_tx_makes_sequence(const struct mg_tx *tx)
{
	for (size_t i = 0; i < tx->step_count; i++) {
		const struct mg_tx_step *step = &tx->steps[i];

		if (mg_text_eq(step->kind, MG_OBJECT_SEQUENCE) && step->replay &&
		    strncmp(step->replay, "CREATE", strlen("CREATE")) == 0) {
			return true;
		}
	}
	return false;
}

int mg_tx_refuse_drawing(struct mg_error *err)
{
	mg_error_set(err, MG_E_UNSUPPORTED,
	             "nextval in a transaction that has made a sequence is not supported");
	mg_error_detail(err, "Values are reserved in the catalog, which has the sequence from COMMIT "
	                     "on.");
	mg_error_hint(err, "COMMIT first, then draw.");
	return MG_E_UNSUPPORTED;
}

bool mg_tx_is_own_table(const struct mg_tx *tx, const struct mg_table *table)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		if (tx->tables[i].made && !tx->tables[i].gone && tx->tables[i].table->id == table->id) {
			return true;
		}
	}
	return false;
}

struct mg_plan_replay mg_tx_replay(const struct mg_tx *tx)
{
	return tx ? (struct mg_plan_replay){ tx->replay, tx->replay_count }
	          : (struct mg_plan_replay){ 0 };
}

const struct mg_catalog_data *mg_tx_take_catalog(const struct mg_tx *tx, struct mg_engine *engine)
{
	return tx && tx->step_count ? mg_catalog_ref(tx->data)
	                            : mg_catalog_take(mg_engine_catalog(engine));
}

void mg_tx__forget_steps(struct mg_tx *tx)
{
	for (size_t i = 0; i < tx->step_count; i++) {
		tx->steps[i].free_arg(tx->steps[i].arg);
	}
	mg_free(tx->steps);
	mg_free(tx->replay);
	tx->steps = NULL;
	tx->replay = NULL;
	tx->step_count = tx->step_cap = tx->replay_count = tx->replay_cap = 0;
	if (tx->base) {
		mg_catalog_give(mg_engine_catalog(tx->engine), tx->base);
		tx->base = NULL;
	}
}

/* ---- a step ---- */

static int check_rows(const struct mg_tx *tx, struct mg_error *err)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		if (tx->tables[i].made || tx->tables[i].gone) {
			continue;
		}
		mg_error_set(err, MG_E_UNSUPPORTED,
		             "a transaction that has changed rows of table \"%s\" cannot define anything",
		             tx->tables[i].table->name);
		mg_error_hint(err, "COMMIT first: its rows and the new definitions are two transactions.");
		return MG_E_UNSUPPORTED;
	}
	return 0;
}

static const struct mg_table *find_by_id(const struct mg_catalog_data *data,
                                         const struct mg_table *table)
{
	const struct mg_table *found = mg_catalog_find_table(data, table->schema, table->name);

	return found && found->id == table->id ? found : NULL;
}

/* What the tables of the transaction are called lies in the copy. */
static void move_to(struct mg_tx *tx, const struct mg_catalog_data *next)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		struct mg_tx_table *table = &tx->tables[i];

		table->table = table->gone ? NULL : find_by_id(next, table->table);
		table->gone = !table->table;
	}
	if (tx->base) {
		mg_catalog_give(mg_engine_catalog(tx->engine), tx->data);
	} else {
		tx->base = tx->data;
	}
	tx->data = next;
}

int mg_tx_define(struct mg_tx *tx, const struct mg_tx_step *step, struct mg_error *err)
{
	const struct mg_catalog_data *next = NULL;
	int code = check_rows(tx, err);

	code = code ? code : mg_catalog_fork(tx->data, step->change, step->arg, &next, err);
	if (!code && step->made) {
		code = mg_tx__make(tx, find_by_id(next, step->made), true, err);
		if (code) { /* the transaction is lost */
			mg_tx_bind(tx);
			tx->tables[tx->table_count - 1].gone = true;
			tx->tables[tx->table_count - 1].table = NULL;
			mg_catalog_give(mg_engine_catalog(tx->engine), next);
		}
	}
	if (code) {
		return code;
	}
	move_to(tx, next);
	mg_grow(tx->steps, tx->step_count, tx->step_cap);
	tx->steps[tx->step_count++] = *step;
	if (step->replay) {
		mg_grow(tx->replay, tx->replay_count, tx->replay_cap);
		tx->replay[tx->replay_count++] = step->replay;
	}
	return 0;
}

int mg_tx_load(struct mg_tx *tx, const struct mg_table *table, struct mg_redo *redo,
               struct mg_error *err)
{
	const struct mg_table *own = find_by_id(tx->data, table);

	mg_assert(own);
	mg_tx_bind(tx);
	struct mg_tx_rows *rows = mg_tx__rows_new(tx->engine);
	int code = mg_tx__rows_take(rows, NULL, own, redo, err);

	code = code ? code : mg_tx__apply(tx, own, rows, err);
	mg_tx__rows_free(rows);
	return code;
}

/* ---- COMMIT ---- */

void mg_tx__add_creates(const struct mg_tx *tx, struct mg_redo *redo)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		const struct mg_table *table = tx->tables[i].table;

		if (!tx->tables[i].made || tx->tables[i].gone) {
			continue;
		}
		mg_define_in_shards(tx->data, table, redo);
	}
}

static void spare(const struct mg_tx *tx, bool begin)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		if (tx->tables[i].made && !tx->tables[i].gone) {
			(begin ? mg_sweep_spare : mg_sweep_spare_no_more)(tx->tables[i].table->id);
		}
	}
}

/* Drops of tables that are not in `kept`; how many. */
static size_t add_drops(const struct mg_catalog_data *from, const struct mg_catalog_data *kept,
                        struct mg_redo *redo)
{
	struct mg_arena *arena = mg_arena_new();
	size_t count = 0;

	for (size_t i = 0; i < from->table_count; i++) {
		const struct mg_table *table = &from->tables[i];
		uint32_t first, last;

		if (find_by_id(kept, table)) {
			continue;
		}
		mg_table_shards(from, table, &first, &last);
		for (uint32_t shard = first; shard <= last; shard++) {
			mg_redo_drop(redo, shard, table->schema, mg_table_stored(arena, table));
		}
		count++;
	}
	mg_arena_free(arena);
	return count;
}

/* What stands under a name, as text: equal texts, the same object. */
static void describe(const struct mg_catalog_data *data, const struct mg_tx_step *step,
                     struct mg_sb *out)
{
	const struct mg_table *table = mg_catalog_find_table(data, step->schema, step->name);
	const struct mg_view *view = mg_catalog_find_view(data, step->schema, step->name);
	const struct mg_object *object =
		mg_catalog_find_object(data, step->kind, step->schema, step->name);

	if (mg_text_eq(step->kind, "SCHEMA")) {
		mg_sb_add(out, mg_catalog_has_schema(data, step->name) ? "there" : "");
		return;
	}
	mg_sb_add(out, mg_catalog_has_schema(data, step->schema) ? "in a schema " : "");
	if (object) {
		mg_sb_addf(out, "%llu %s", (unsigned long long)object->id, object->sql);
		return;
	}
	if (!mg_text_eq(step->kind, "TABLE") && !mg_text_eq(step->kind, "VIEW")) {
		return;
	}
	if (table) {
		mg_sb_addf(out, "%llu %s", (unsigned long long)table->id, table->definition);
	}
	if (view) {
		mg_sb_addf(out, "view %s", view->sql);
	}
}

/* The schema may be the transaction's own. */
static bool makes_schema(const struct mg_tx *tx, const char *schema)
{
	for (size_t i = 0; i < tx->step_count; i++) {
		if (mg_text_eq(tx->steps[i].kind, "SCHEMA") &&
		    mg_text_eq_nocase(tx->steps[i].name, schema)) {
			return true;
		}
	}
	return false;
}

static int check_step(const struct mg_tx *tx, const struct mg_tx_step *step,
                      const struct mg_catalog_data *now, struct mg_error *err)
{
	struct mg_sb before = { 0 }, after = { 0 };

	describe(tx->base, step, &before);
	describe(now, step, &after);
	bool same = mg_text_eq(mg_sb_text(&before), mg_sb_text(&after)) &&
	            (mg_text_eq(step->kind, "SCHEMA") || mg_catalog_has_schema(now, step->schema) ||
	             makes_schema(tx, step->schema));

	mg_sb_fini(&before);
	mg_sb_fini(&after);
	if (same) {
		return 0;
	}
	mg_error_set(err, MG_E_CONFLICT,
	             "\"%s\" was made, changed or dropped since this transaction began", step->name);
	mg_error_hint(err, "Nothing was written: run the whole transaction again.");
	return MG_E_CONFLICT;
}

struct publication {
	const struct mg_tx *tx;
	uint64_t epoch;
	uint64_t fits;     /* the version of the catalog on which all steps were tried */
	bool moved;        /* there is a newer one */
	char *whole; /* how far shards are that have the rows of its tables; heap, or NULL */
};

static void add_whole(const struct publication *publication, struct mg_arena *arena,
                      struct mg_catalog_data *data)
{
	const struct mg_tx *tx = publication->tx;

	for (size_t i = 0; i < tx->table_count; i++) {
		const struct mg_tx_table *own = &tx->tables[i];
		const struct mg_table *table =
			own->made && own->has_own && !own->gone ? find_by_id(data, own->table) : NULL;

		if (table && publication->whole) {
			data->tables[table - data->tables].whole = mg_arena_strdup(arena, publication->whole);
		}
	}
}

/* On the newest version, maybe several times. */
static int take_steps(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                      struct mg_error *err)
{
	struct publication *publication = arg;
	const struct mg_tx *tx = publication->tx;
	uint64_t now = 0;
	int code = mg_replica_begin(mg_engine_replica(tx->engine), &now, err);

	if (!code && now != publication->epoch) {
		code = mg_error_set(err, MG_E_UNAVAILABLE, "another node has coordinated writes meanwhile");
	}
	for (size_t i = 0; !code && i < tx->step_count; i++) {
		code = check_step(tx, &tx->steps[i], data, err);
	}
	if (!code && data->version != publication->fits) {
		publication->moved = true;
		code = mg_error_set(err, MG_E_BUSY, "the catalog is being changed by others");
	}
	for (size_t i = 0; !code && i < tx->step_count; i++) {
		code = tx->steps[i].change(tx->steps[i].arg, arena, data, err);
	}
	if (!code) {
		add_whole(publication, arena, data);
	}
	return code;
}

static int check_steps(const struct mg_tx *tx, struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(tx->engine);
	const struct mg_catalog_data *now = mg_catalog_take(catalog);
	int code = 0;

	for (size_t i = 0; !code && i < tx->step_count; i++) {
		code = check_step(tx, &tx->steps[i], now, err);
	}
	mg_catalog_give(catalog, now);
	return code;
}

static int try_nothing(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	(void)arg, (void)conn, (void)err;
	return 0;
}

/* What the steps stand on (the tables of a view, the type of a column) may have gone or changed
 * since they were made: they are done once more over what is there now. */
static int check_fit(struct publication *publication, struct mg_error *err)
{
	const struct mg_tx *tx = publication->tx;
	const struct mg_plan_settings settings = { .now_us = tx->now_us,
		                                       .replay = mg_tx_replay(tx),
		                                       .alone = true };
	struct mg_catalog *catalog = mg_engine_catalog(tx->engine);
	const struct mg_catalog_data *now = mg_catalog_take(catalog);

	publication->fits = now->version;
	publication->moved = false;
	mg_catalog_give(catalog, now);
	mg_engine_show(tx->engine, false);
	return mg_plandb_try(mg_engine_plandb(tx->engine), &settings, try_nothing, NULL, err);
}

/* Others may change the catalog in between: an ALTER TABLE, which holds no lock of ours.  The first
 * time whether it fits was asked before the rows were stored. */
static int change_catalog(struct publication *publication, struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(publication->tx->engine);
	int code = 0;

	for (int i = 0; i < FIT_TRIES_MAX; i++) {
		code = i ? check_fit(publication, err) : 0;
		code = code ? code : mg_catalog_change(catalog, take_steps, publication, err);
		if (!publication->moved) {
			break;
		}
	}
	return code;
}

static void drop_tables(const struct mg_tx *tx, uint64_t epoch, const struct mg_catalog_data *from,
                        const struct mg_catalog_data *kept)
{
	struct mg_redo *redo = mg_redo_new();
	struct mg_error left = { 0 };

	/* Else the next coordinator sweeps them. */
	if (add_drops(from, kept, redo) &&
	    mg_replica_commit_in(mg_engine_replica(tx->engine), epoch, redo, &left)) {
		mg_log(MG_LOG_WARN, "table.left", "error=\"%s\"", left.message);
	}
	mg_redo_free(redo);
}

static int publish_locked(struct mg_tx *tx, struct mg_run *run, uint64_t epoch,
                          struct mg_redo *redo, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(tx->engine);
	struct publication publication = { .tx = tx, .epoch = epoch };
	const uint32_t *shards;
	int code = epoch ? 0 : mg_replica_begin(replica, &publication.epoch, err);

	code = code ? code : check_steps(tx, err);
	code = code ? code : check_fit(&publication, err);
	if (!code && mg_run_cancelled(run)) {
		code = mg_run_cancel_error(run, err); /* the last moment at which it can be */
	}
	code = code ? code : mg_tx_commit_begin(tx, err);
	if (!code && mg_redo_shards(redo, &shards)) {
		code = mg_replica_commit_in(replica, publication.epoch, redo, err);
		if (code == MG_E_UNKNOWN_OUTCOME) { /* the catalog decides, and does not know of it */
			code = mg_error_set(err, MG_E_UNAVAILABLE, "a shard did not answer in time");
		}
	}
	if (!code) {
		publication.whole = mg_fresh_whole(tx->engine);
		code = change_catalog(&publication, err);
		if (!code) {
			drop_tables(tx, publication.epoch, tx->base, tx->data);
		} else if (code != MG_E_UNKNOWN_OUTCOME) {
			drop_tables(tx, publication.epoch, tx->data, tx->base);
		} else { /* nobody writes until it is known which tables there are */
			mg_replica_renew(replica, publication.epoch);
		}
	}
	if (code == MG_E_UNAVAILABLE || code == MG_E_DUPLICATE || publication.moved) {
		code = mg_error_set(err, MG_E_CONFLICT, "%s", err ? err->message : "");
		mg_error_hint(err, "Nothing was written: run the whole transaction again.");
	}
	mg_free(publication.whole);
	return code;
}

int mg_tx__publish(struct mg_tx *tx, struct mg_run *run, uint64_t epoch, struct mg_redo *redo,
                   struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(tx->engine);
	struct mg_redo *drops = mg_redo_new();
	const uint32_t *found = NULL;
	uint32_t *shards = NULL;

	(void)add_drops(tx->base, tx->data, drops);
	size_t count = mg_redo_shards(drops, &found);
	int code = 0;

	mg_define_lock(); /* before those of shards, as everywhere */
	if (count) {
		shards = mg_alloc(count * sizeof *shards);
		memcpy(shards, found, count * sizeof *shards);
		code = mg_replica_lock(replica, MG_LOCK_ALTER, shards, count, mg_run_is_cancelled, run,
		                       err);
	}
	bool locked = count && !code;

	if (!code) {
		spare(tx, true);
		code = publish_locked(tx, run, epoch, redo, err);
		spare(tx, false);
	}
	if (locked) {
		mg_replica_unlock(replica, MG_LOCK_ALTER, shards, count);
	}
	mg_define_unlock();
	mg_free(shards);
	mg_redo_free(drops);
	return code;
}
