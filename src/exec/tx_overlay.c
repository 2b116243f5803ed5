/*
 * tx_overlay.c - what a transaction has written, as its own statements see it.
 *
 *   t, seen inside = rows of the snapshot, without those in "dead", and the rows of "own"
 *
 * "own" holds rows that were inserted, under ids of the transaction's own, and rows that replace
 * stored ones, under theirs; "dead" the ids of stored rows that were replaced or deleted.  Both are
 * temporary tables of the transaction's connection, so DuckDB keeps them within its memory and
 * spills them, and they go with the transaction.  A table is read as it is until the transaction
 * has written it, and without a join until it has replaced or deleted something there.
 *
 * Ids of own rows name their shard like stored ones and have bit MG_TX_OWN_RID_BIT set, which no
 * stored one has: a shard would have to draw 2^47 of them.
 *
 * Limit: the redo of a shard, as the statements wrote it: MG_REDO_BYTES_MAX.
 */
#include "exec/tx_int.h"

#include "base/assert.h"
#include "store/shard_file.h"
#include "store/spool.h"

#include <inttypes.h>
#include <string.h>

#define OWN_BIT (UINT64_C(1) << MG_TX_OWN_RID_BIT)

/* ---- tables ---- */

static struct mg_tx_table *find(const struct mg_tx *tx, const struct mg_table *table)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		if (tx->tables[i].table == table && !tx->tables[i].gone) {
			return &tx->tables[i];
		}
	}
	return NULL;
}

/* A table without partitions lies in shard 0; any shard that has the other has its columns. */
static int make(struct mg_tx *tx, const struct mg_table *table, bool own, struct mg_tx_table **out,
                struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb sql = { 0 };
	struct mg_tx_table made = {
		.table = table,
		.made = own,
		.own = mg_format("merganser own %zu", tx->table_count),
		.dead = mg_format("merganser dead %zu", tx->table_count),
	};

	mg_sb_add(&sql, "CREATE TEMP TABLE ");
	mg_sb_add_ident(&sql, made.own);
	if (own) {
		mg_sb_add(&sql, " (_mg_rid BIGINT, _mg_slot USMALLINT");
		for (size_t i = 0; i < table->column_count; i++) {
			mg_sb_add(&sql, ", ");
			mg_sb_add_ident(&sql, table->columns[i].name);
			mg_sb_addf(&sql, " %s", table->columns[i].type);
		}
		mg_sb_add(&sql, "); CREATE TEMP TABLE ");
	} else {
		mg_sb_add(&sql, " AS SELECT _mg_rid, _mg_slot, ");
		mg_table_add_stored_columns(&sql, table);
		mg_sb_addf(&sql, " FROM s%d.", table->key_count ? 1 : 0);
		mg_sb_add_path(&sql, table->schema, mg_table_stored(arena, table));
		mg_sb_add(&sql, " LIMIT 0; CREATE TEMP TABLE ");
	}
	mg_sb_add_ident(&sql, made.dead);
	mg_sb_add(&sql, " (\"merganser rid\" BIGINT)");
	int code = mg_duck_exec(tx->conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	mg_arena_free(arena);
	mg_grow(tx->tables, tx->table_count, tx->table_cap);
	tx->tables[tx->table_count++] = made; /* also on failure: the transaction is lost then */
	*out = &tx->tables[tx->table_count - 1];
	return code ? mg_error_wrap(err, "while keeping rows of table \"%s\"", table->name) : 0;
}

int mg_tx__make(struct mg_tx *tx, const struct mg_table *table, bool made, struct mg_error *err)
{
	struct mg_tx_table *unused;

	return make(tx, table, made, &unused, err);
}

void mg_tx__forget_tables(struct mg_tx *tx)
{
	for (size_t i = 0; i < tx->table_count; i++) {
		mg_free(tx->tables[i].own);
		mg_free(tx->tables[i].dead);
	}
	mg_free(tx->tables);
	tx->tables = NULL;
	tx->table_count = tx->table_cap = 0;
}

/* ---- what is shown ---- */

void mg_tx_show(const struct mg_tx *tx, struct mg_arena *arena, struct mg_exec_table *tables,
                size_t table_count, const uint32_t *shards, size_t shard_count)
{
	for (size_t i = 0; tx->table_count && i < table_count; i++) {
		const struct mg_table *table =
			mg_catalog_find_table(tx->data, tables[i].schema, tables[i].table);
		const struct mg_tx_table *written = table ? find(tx, table) : NULL;

		if (!written) {
			continue;
		}
		struct mg_exec_overlay *overlay = mg_arena_new_array(arena, struct mg_exec_overlay, 1);

		*overlay = (struct mg_exec_overlay){
			.own = written->own,
			.dead = written->has_dead ? written->dead : NULL,
		};
		if (table->key_count && shard_count < tx->data->shard_count) {
			overlay->shards = shards;
			overlay->shard_count = shard_count;
		}
		tables[i].overlay = overlay;
		if (written->made) {
			tables[i].database_count = 0;
		}
	}
}

bool mg_tx_text_may_run(const struct mg_tx *tx)
{
	bool may = true;

	for (size_t i = 0; i < tx->table_count; i++) {
		may = may && (tx->tables[i].gone || mg_text_eq(tx->tables[i].table->schema, "main"));
	}
	return may;
}

/* A temporary view comes before the engine's view of the same name, also where a view of users
 * names that; temporary schemas there are none. */
int mg_tx_show_text(struct mg_tx *tx, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	uint32_t *all = mg_shard_ids(arena, 1, tx->data->shard_count);
	int code = 0;

	for (size_t i = 0; !code && i < tx->table_count; i++) {
		struct mg_exec_table *seen;
		struct mg_sb sql = { 0 };

		if (tx->tables[i].gone) {
			continue;
		}
		mg_engine_exec_tables(arena, tx->tables[i].table, 1, all, tx->data->shard_count, &seen);
		mg_tx_show(tx, arena, seen, 1, all, tx->data->shard_count);
		mg_sb_add(&sql, "CREATE OR REPLACE TEMP VIEW ");
		mg_sb_add_ident(&sql, seen->table);
		mg_sb_add(&sql, " AS ");
		mg_exec_table_select(&sql, seen);
		code = mg_duck_exec(tx->conn, mg_sb_text(&sql), err);
		mg_sb_fini(&sql);
	}
	mg_arena_free(arena);
	return code;
}

/* ---- what a statement would store ---- */

/* merganser_exchange(kind): the rows of all shards that come in this way. */
struct mg_tx_rows {
	struct mg_spool_budget budget;
	struct mg_spool *spools[MG_REDO_DELETE + 1];
	uint64_t rows[MG_REDO_DELETE + 1];
};

struct mg_tx_rows *mg_tx__rows_new(struct mg_engine *engine)
{
	struct mg_tx_rows *rows = mg_alloc0(sizeof *rows);

	mg_engine_budget(engine, &rows->budget);
	return rows;
}

void mg_tx__rows_free(struct mg_tx_rows *rows)
{
	for (size_t i = 0; i <= MG_REDO_DELETE; i++) {
		mg_spool_unref(rows->spools[i]);
	}
	mg_free(rows);
}

static struct mg_spool *find_spool(void *arg, uint32_t stage)
{
	const struct mg_tx_rows *rows = arg;

	return stage <= MG_REDO_DELETE ? rows->spools[stage] : NULL;
}

static int put_op(struct mg_tx_rows *rows, const struct mg_redo_op *op, struct mg_error *err)
{
	struct mg_spool **spool = &rows->spools[op->kind];
	int code = 0;

	if (!*spool) {
		*spool = mg_spool_new(&rows->budget);
		code = mg_spool_set_schema(*spool, op->ipc_schema, err);
	}
	rows->rows[op->kind] += op->rows;
	return code ? code : mg_spool_put(*spool, op->ipc_batch, op->rows, err);
}

int mg_tx__rows_take(void *arg, const struct mg_catalog_data *data, const struct mg_table *table,
                     struct mg_redo *redo, struct mg_error *err)
{
	struct mg_tx_rows *rows = arg;
	const uint32_t *shards;
	size_t shard_count = mg_redo_shards(redo, &shards);
	int code = 0;

	(void)data, (void)table;
	for (size_t i = 0; !code && i < shard_count; i++) {
		size_t count;
		const struct mg_redo_op *ops = mg_redo_ops(redo, shards[i], &count);

		for (size_t k = 0; !code && k < count; k++) {
			mg_assert(ops[k].kind <= MG_REDO_DELETE);
			code = put_op(rows, &ops[k], err);
		}
	}
	mg_redo_clear(redo);
	return code;
}

static void add_temp(struct mg_sb *sql, const char *name)
{
	mg_sb_add(sql, "temp.main.");
	mg_sb_add_ident(sql, name);
}

/* The ids of this kind's rows are seen no more: own rows go, stored ones become dead. */
static int take_away(struct mg_tx *tx, struct mg_tx_table *to, enum mg_redo_kind kind,
                     struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = 0;

	if (to->has_own) {
		mg_sb_add(&sql, "DELETE FROM ");
		add_temp(&sql, to->own);
		mg_sb_addf(&sql, " WHERE _mg_rid IN (SELECT rid FROM merganser_exchange(%d))", kind);
		code = mg_duck_exec(tx->conn, mg_sb_text(&sql), err);
		mg_sb_clear(&sql);
	}
	mg_sb_add(&sql, "INSERT INTO ");
	add_temp(&sql, to->dead);
	mg_sb_addf(&sql, " SELECT n.rid FROM merganser_exchange(%d) AS n", kind);
	if (to->has_dead) {
		mg_sb_add(&sql, " ANTI JOIN ");
		add_temp(&sql, to->dead);
		mg_sb_add(&sql, " AS d ON n.rid = d.\"merganser rid\"");
	}
	mg_sb_addf(&sql, " WHERE (n.rid & %" PRIu64 ") = 0", OWN_BIT);
	code = code ? code : mg_duck_exec(tx->conn, mg_sb_text(&sql), err);
	to->has_dead = true;
	mg_sb_fini(&sql);
	return code;
}

/* The shard that a slot leads to, as the upper bits of an id. */
static void add_shard_bits(struct mg_sb *sql, const struct mg_tx *tx, const struct mg_table *table,
                           size_t slot)
{
	if (!table->key_count) {
		mg_sb_add(sql, "0::BIGINT");
		return;
	}
	mg_sb_add(sql, "CASE");
	for (uint32_t i = 1; i <= tx->data->shard_count; i++) {
		mg_sb_addf(sql, " WHEN c%zu <= %u THEN %" PRIu64 "::BIGINT", slot,
		           tx->data->shards[i].slot_last,
		           (uint64_t)tx->data->shards[i].id << MG_SHARD_RID_BITS);
	}
	mg_sb_add(sql, " END");
}

/* By place, as shards do it (shard_write.c): REPLACE has the id in front, INSERT gets one. */
static int put_in(struct mg_tx *tx, struct mg_tx_table *to, enum mg_redo_kind kind, uint64_t rows,
                  struct mg_error *err)
{
	bool replace = kind == MG_REDO_REPLACE;
	size_t first = replace ? 1 : 0, slot = first + to->table->column_count;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "INSERT INTO ");
	add_temp(&sql, to->own);
	if (replace) {
		mg_sb_add(&sql, " SELECT c0");
	} else {
		mg_sb_add(&sql, " SELECT ");
		add_shard_bits(&sql, tx, to->table, slot);
		mg_sb_addf(&sql, " + %" PRIu64 " + row_number() OVER ()", OWN_BIT + tx->rids);
		tx->rids += rows;
	}
	mg_sb_addf(&sql, ", c%zu", slot);
	for (size_t i = first; i < slot; i++) {
		mg_sb_addf(&sql, ", c%zu", i);
	}
	mg_sb_addf(&sql, " FROM merganser_exchange(%d) AS rows(", kind);
	for (size_t i = 0; i <= slot; i++) {
		mg_sb_addf(&sql, "%sc%zu", i ? ", " : "", i);
	}
	mg_sb_add_char(&sql, ')');
	int code = mg_duck_exec(tx->conn, mg_sb_text(&sql), err);

	to->has_own = true;
	mg_sb_fini(&sql);
	return code;
}

static int apply(struct mg_tx *tx, struct mg_tx_table *to, const struct mg_tx_rows *rows,
                 struct mg_error *err)
{
	int code = 0;

	for (int kind = MG_REDO_REPLACE; !code && kind <= MG_REDO_DELETE; kind++) {
		if (rows->spools[kind]) {
			code = take_away(tx, to, kind, err);
		}
	}
	for (int kind = MG_REDO_INSERT; !code && kind <= MG_REDO_REPLACE; kind++) {
		if (rows->spools[kind]) {
			code = put_in(tx, to, kind, rows->rows[kind], err);
		}
	}
	return code;
}

int mg_tx__apply(struct mg_tx *tx, const struct mg_table *table, struct mg_tx_rows *rows,
                 struct mg_error *err)
{
	const struct mg_duck_context context = { .find_spool = find_spool, .arg = rows };
	struct mg_tx_table *to = find(tx, table);
	bool any = false;

	for (size_t i = 0; i <= MG_REDO_DELETE; i++) {
		if (rows->spools[i]) {
			mg_spool_seal(rows->spools[i]);
			any = true;
		}
	}
	if (!any) {
		return 0;
	}
	int code = to ? 0 : make(tx, table, false, &to, err);

	if (!code) {
		mg_duck_set_context(tx->conn, &context);
		code = apply(tx, to, rows, err);
		mg_duck_set_context(tx->conn, NULL);
		code = code ? mg_error_wrap(err, "while keeping rows of table \"%s\"", table->name) : 0;
	}
	return code;
}
