/*
 * tx_commit.c - a transaction's changes into the log.
 *
 *   own rows, dead ids -> one redo -> locks of its shards -> epoch -> read barrier
 *        -> nobody has changed the same since the snapshot? -> commit in that epoch -> unlock
 *
 * Rule: the first who commits wins.  A row that the transaction replaces or deletes must be as the
 * snapshot has it, and no row that came since may have a primary key that it writes; else nothing
 * happens, MG_E_CONFLICT, and the client runs the transaction again.  What it has only read is not
 * looked at: that is snapshot isolation, which allows write skew.
 *
 * Which rows others have changed is told by the shards (mg_replica_changed_since), from the index
 * of the log that the snapshot shows.  Nothing is read again where nothing has changed.
 */
#include "exec/run.h"
#include "exec/staging.h"
#include "exec/tx_int.h"
#include "exec/write_int.h"
#include "store/shard_file.h"

#include "base/assert.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <string.h>

#define OWN_BIT (UINT64_C(1) << MG_TX_OWN_RID_BIT)

/* One table on its way into the log. */
struct leaving {
	struct mg_write write; /* its redo is the transaction's */
	struct mg_tx_table *from;
	struct mg_write_rids replaced; /* dead ids, sorted: of stored rows that must be as they were */
};

static void open_leaving(struct leaving *leaving, struct mg_tx *tx, struct mg_tx_table *from,
                         struct mg_run *run, const struct mg_write_request *request,
                         struct mg_redo *redo, struct mg_write_result *result)
{
	struct mg_write *write = &leaving->write;

	leaving->from = from;
	write->engine = tx->engine;
	write->run = run;
	write->settings.tx = NULL; /* it looks at what is stored now */
	write->request = request;
	write->redo = redo;
	write->result = result;
	write->arena = mg_arena_new();
	write->data = tx->data;
	write->table = from->table;
	mg_write__open(write);
}

static void close_leaving(struct leaving *leaving)
{
	mg_write__close(&leaving->write);
	mg_free(leaving->replaced.ids);
	mg_arena_free(leaving->write.arena);
}

static void add_temp(struct mg_sb *sql, const char *name)
{
	mg_sb_add(sql, "temp.main.");
	mg_sb_add_ident(sql, name);
}

/* ---- the redo ---- */

/* Own rows that are new, or those that replace stored ones, with the slot that scatters at the end.
 */
static int add_rows(struct leaving *leaving, struct mg_duck_conn *conn, enum mg_redo_kind kind,
                    struct mg_error *err)
{
	struct mg_write *write = &leaving->write;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, kind == MG_REDO_REPLACE ? "SELECT _mg_rid AS rid, " : "SELECT ");
	mg_write__add_columns(&sql, write);
	mg_sb_add(&sql, ", _mg_slot AS slot, _mg_slot FROM ");
	add_temp(&sql, leaving->from->own);
	mg_sb_addf(&sql, " WHERE (_mg_rid & %" PRIu64 ") %s 0", OWN_BIT,
	           kind == MG_REDO_REPLACE ? "=" : "<>");
	int code = mg_write__redo_query(write, kind, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

static int rids_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct leaving *leaving = arg;

	(void)target;
	return mg_write__rids_add(&leaving->write, &leaving->replaced, batch, err);
}

static int deleted_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct leaving *leaving = arg;

	(void)target;
	return mg_write__rids_add(&leaving->write, &leaving->write.rids, batch, err);
}

/* Dead ids: all, and those that no own row replaces. */
static int add_deleted(struct leaving *leaving, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_duck_sink all = { .put = rids_put, .arg = leaving };
	const struct mg_duck_sink deleted = { .put = deleted_put, .arg = leaving };
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT \"merganser rid\" FROM ");
	add_temp(&sql, leaving->from->dead);
	int code = mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &all, err);

	if (leaving->from->has_own) {
		mg_sb_add(&sql, " ANTI JOIN ");
		add_temp(&sql, leaving->from->own);
		mg_sb_add(&sql, " ON \"merganser rid\" = _mg_rid");
	}
	code = code ? code : mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &deleted, err);
	mg_sb_fini(&sql);
	if (!code) {
		(void)mg_write__rids_unite(&leaving->replaced);
		(void)mg_write__rids_unite(&leaving->write.rids);
		code = mg_write__rids_delete(&leaving->write, &leaving->write.rids, err);
	}
	return code;
}

/* The keys of own rows, for mg_write__check_keys; the ids of all dead rows, which do not count. */
static int keep_keys(struct leaving *leaving, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_write *write = &leaving->write;
	struct mg_sb sql = { 0 };

	mg_sb_addf(&sql, "SELECT CASE WHEN (_mg_rid & %" PRIu64 ") = 0 THEN _mg_rid END", OWN_BIT);
	for (size_t i = 0; i < write->unique_count; i++) {
		mg_sb_add(&sql, ", ");
		mg_sb_add_ident(&sql, write->uniques[i]);
	}
	mg_sb_add(&sql, " FROM ");
	add_temp(&sql, leaving->from->own);
	int code = mg_write__spool_query(&leaving->write, MG_WRITE_KEYS, conn, mg_sb_text(&sql), err);

	if (!code && leaving->from->has_dead) {
		mg_sb_clear(&sql);
		mg_sb_add(&sql, "SELECT \"merganser rid\" FROM ");
		add_temp(&sql, leaving->from->dead);
		code = mg_write__spool_query(&leaving->write, MG_WRITE_DEAD, conn, mg_sb_text(&sql), err);
		if (!code) {
			mg_write__spool_seal(&leaving->write, MG_WRITE_DEAD);
		}
	}
	mg_sb_fini(&sql);
	return code;
}

static int gather(struct leaving *leaving, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_tx_table *from = leaving->from;
	int code = 0;

	/* A key may move from one row to another: what goes, goes first. */
	if (from->has_dead) {
		code = add_deleted(leaving, conn, err);
		if (!code && from->has_own) {
			code = add_rows(leaving, conn, MG_REDO_REPLACE, err);
		}
	}
	if (!code && from->has_own) {
		code = add_rows(leaving, conn, MG_REDO_INSERT, err);
	}
	if (!code && from->has_own && leaving->write.unique_count) {
		code = keep_keys(leaving, conn, err);
	}
	size_t bytes = mg_staging_bytes(leaving->write.engine);

	return code ? code : mg_write__flush_from(&leaving->write, bytes, err);
}

/* ---- conflicts ---- */

static int say_conflict(const struct mg_table *table, const char *what, struct mg_error *err)
{
	mg_error_set(err, MG_E_CONFLICT, "%s of table \"%s\" since this transaction began", what,
	             table->name);
	mg_error_hint(err, "Nothing was written: run the whole transaction again.");
	return MG_E_CONFLICT;
}

static uint32_t shard_of(int64_t rid)
{
	return (uint32_t)(rid >> MG_SHARD_RID_BITS);
}

/* Are the rows that go or are replaced still as they were?  *any: something has changed where the
 * table's rows lie. */
static int check_rows(const struct mg_tx *tx, const struct leaving *leaving, bool *any,
                      struct mg_error *err)
{
	const struct mg_write_rids *rids = &leaving->replaced;
	const struct mg_table *table = leaving->write.table;
	uint32_t first, last;
	size_t from = 0;

	mg_table_shards(tx->data, table, &first, &last);

	for (uint32_t shard = first; shard <= last; shard++) {
		size_t count = 0;

		while (from + count < rids->count && shard_of(rids->ids[from + count]) == shard) {
			count++;
		}
		switch (mg_replica_changed_since(mg_engine_replica(tx->engine), shard, tx->applied[shard],
		                                 rids->ids + from, count)) {
		case MG_LATE_NOTHING:
			break;
		case MG_LATE_OTHERS:
			*any = true;
			break;
		case MG_LATE_SAME:
			return say_conflict(table, "another transaction has changed the same rows", err);
		case MG_LATE_UNKNOWN:
			return say_conflict(table, "too many rows were changed to compare with those", err);
		}
		from += count;
	}
	return 0;
}

static int check_table(struct mg_tx *tx, struct leaving *leaving, struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(tx->engine);
	const struct mg_catalog_data *now = mg_catalog_take(catalog);
	const struct mg_table *table = leaving->write.table;
	const struct mg_table *current = mg_catalog_find_table(now, table->schema, table->name);
	bool any = false;
	int code = current ? mg_tx_check_table(tx, current, err)
	                   : say_conflict(table, "another client has dropped the rows", err);

	mg_catalog_give(catalog, now);
	code = code ? code : check_rows(tx, leaving, &any, err);
	if (!code && any && leaving->write.spools[MG_WRITE_KEYS].spool) {
		code = mg_write__check_keys(&leaving->write, err);
		if (code && err && strcmp(err->sqlstate, "23505") == 0) {
			code = say_conflict(table, "another transaction has inserted the same keys", err);
		}
	}
	return code;
}

/* ---- the whole ---- */

/* What is done once: was it done before? */
static int look_for_outcome(const struct mg_tx *tx, const struct mg_write_key *once, bool *repeated,
                            struct mg_error *err)
{
	struct mg_done done;

	return once ? mg_outcome_find(mg_engine_outcomes(tx->engine), once, &done, repeated, err) : 0;
}

static int note_outcome(const struct mg_tx *tx, const struct mg_write_key *once, uint64_t epoch,
                        struct mg_redo *redo, struct mg_error *err)
{
	const struct mg_done done = { .verb = "COMMIT" };

	return once ? mg_outcome_add(mg_engine_outcomes(tx->engine), epoch, once, &done, redo, err) : 0;
}

/* Its shards are locked.  epoch: in which its rows were staged, or 0. */
static int commit_locked(struct mg_tx *tx, struct leaving *leaving, struct mg_run *run,
                         uint64_t epoch, const struct mg_write_key *once, bool *repeated,
                         struct mg_redo *redo, const uint32_t *shards, size_t count,
                         struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(tx->engine);
	int code = epoch ? 0 : mg_replica_begin(replica, &epoch, err);

	code = code ? code
	            : mg_replica_long_barrier(replica, shards, count, mg_run_is_cancelled, run, err);
	code = code ? code : look_for_outcome(tx, once, repeated, err);
	if (code || *repeated) {
		return code;
	}
	for (size_t i = 0; !code && i < tx->table_count; i++) {
		code = tx->tables[i].gone ? 0 : check_table(tx, &leaving[i], err);
	}
	if (!code && mg_run_cancelled(run)) {
		code = mg_run_cancel_error(run, err); /* the last moment at which it can be */
	}
	code = code ? code : note_outcome(tx, once, epoch, redo, err);
	code = code ? code : mg_tx_commit_begin(tx, err);
	code = code ? code : mg_replica_commit_in(replica, epoch, redo, err);
	if (code == MG_E_UNKNOWN_OUTCOME && once) { /* who asks again with the key is to find it */
		mg_replica_renew(replica, epoch);
	}
	if (code == MG_E_UNAVAILABLE) { /* nothing happened, and what it has seen may be over */
		code = mg_error_set(err, MG_E_CONFLICT, "%s", err ? err->message : "");
		mg_error_hint(err, "Nothing was written: run the whole transaction again.");
	}
	return code;
}

/* New rows of tables without a primary key depend on nothing. */
static enum mg_lock_mode mode_of(const struct mg_tx *tx)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		if (tx->tables[i].gone || tx->tables[i].made) {
			continue;
		}
		if (tx->tables[i].has_dead || mg_table_has_keys(tx->tables[i].table)) {
			return MG_LOCK_CHANGE;
		}
	}
	return MG_LOCK_ADD;
}

int mg_tx__commit(struct mg_tx *tx, struct mg_run *run, const struct mg_write_key *once,
                  bool *repeated, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(tx->engine);
	struct leaving *leaving = mg_alloc0(tx->table_count * sizeof *leaving);
	struct mg_write_result result = { .verb = "COMMIT" };
	struct mg_staging *staging = mg_staging_new(tx->engine, 0);
	const struct mg_write_request request = { .flush = mg_staging_take, .flush_arg = staging };
	struct mg_redo *redo = mg_redo_new();
	const uint32_t *shards = NULL;
	int code = mg_run_attach_conn(run, tx->conn, err);

	mg_tx__add_creates(tx, redo);
	for (size_t i = 0; i < tx->table_count; i++) {
		if (tx->tables[i].gone) {
			continue;
		}
		open_leaving(&leaving[i], tx, &tx->tables[i], run, &request, redo, &result);
		code = code ? code : gather(&leaving[i], tx->conn, err);
	}
	(void)mg_run_attach_conn(run, NULL, NULL);
	code = code ? code : mg_staging_publish(staging, redo, err);
	size_t count = mg_redo_shards(redo, &shards);

	if (!code && mg_tx_defines(tx)) {
		code = mg_tx__publish(tx, run, mg_staging_epoch(staging), redo, err);
	} else if (!code && count > 0) { /* what was taken back again needs no commit */
		code = mg_replica_lock(replica, mode_of(tx), shards, count, mg_run_is_cancelled, run, err);
		if (!code) {
			code = commit_locked(tx, leaving, run, mg_staging_epoch(staging), once, repeated, redo,
			                     shards, count, err);
			mg_replica_unlock(replica, mode_of(tx), shards, count);
		}
	}
	for (size_t i = 0; i < tx->table_count; i++) {
		if (leaving[i].from) {
			close_leaving(&leaving[i]);
		}
	}
	mg_staging_close(staging, *repeated ? MG_E_CANCELLED : code);
	mg_redo_free(redo);
	mg_free(leaving);
	return code;
}
