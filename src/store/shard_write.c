/*
 * shard_write.c - see shard_write.h.
 *
 * Rows go in through DuckDB's appender, which costs no parsing and no plan.  Rows that exist are
 * found by their ids: few stand in the statement, many become its table merganser_exchange(0).
 */
#include "base/assert.h"
#include "codec/arrow_ipc.h"
#include "store/shard_undo.h"
#include "store/shard_write_int.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum {
	FEW_IDS = 32, /* that a statement names */
	UNSEEN_MAX = 1024,
};

static struct mg_spool *find_spool(void *arg, uint32_t stage)
{
	struct mg_shard_writer *writer = arg;

	return stage == 0 ? writer->spool : NULL;
}

/* ---- tables ---- */

static void forget_tables(struct mg_shard_writer *writer)
{
	for (size_t i = 0; i < writer->table_count; i++) {
		mg_free(writer->tables[i]);
	}
	writer->table_count = 0;
}

static void note_table(struct mg_shard_writer *writer, const char *schema, const char *table)
{
	mg_grow(writer->tables, writer->table_count, writer->table_cap);
	writer->tables[writer->table_count++] = mg_format("%s\n%s", schema, table);
}

static size_t find_table(const struct mg_shard_writer *writer, const char *schema,
                         const char *table)
{
	size_t len = strlen(schema), i = 0;

	while (i < writer->table_count &&
	       !(strncasecmp(writer->tables[i], schema, len) == 0 && writer->tables[i][len] == '\n' &&
	         strcmp(writer->tables[i] + len + 1, table) == 0)) {
		i++;
	}
	return i;
}

/* Rows for a table that is gone go nowhere, as if they had come before it went. */
static bool has_table(const struct mg_shard_writer *writer, const char *schema, const char *table)
{
	return find_table(writer, schema, table) < writer->table_count;
}

/* Names of tables hold no line break, which our catalog refuses. */
static int read_tables(struct mg_shard_writer *writer, struct mg_error *err)
{
	char *sql = mg_format("SELECT string_agg(schema_name || chr(10) || table_name || chr(10), '') "
	                      "FROM duckdb_tables() WHERE database_name = '%s'",
	                      writer->database);
	char *list = NULL, *rest = NULL;
	int code = mg_duck_text(writer->conn, sql, &list, err);

	forget_tables(writer);
	for (char *schema = list ? strtok_r(list, "\n", &rest) : NULL; schema;
	     schema = strtok_r(NULL, "\n", &rest)) {
		char *table = strtok_r(NULL, "\n", &rest);

		if (table) {
			note_table(writer, schema, table);
		}
	}
	writer->tables_changed = false;
	mg_free(list);
	mg_free(sql);
	return code;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *mg_shard_writer_tables(const struct mg_shard_writer *writer)
{
	const char **sorted = mg_alloc((writer->table_count + 1) * sizeof *sorted);
	struct mg_sb text = { 0 };

	for (size_t i = 0; i < writer->table_count; i++) {
		sorted[i] = writer->tables[i];
	}
	qsort(sorted, writer->table_count, sizeof *sorted, by_name);
	for (size_t i = 0; i < writer->table_count; i++) {
		if (strncmp(sorted[i], "_mg\n", 4) != 0) {
			mg_sb_addf(&text, "%s\n", sorted[i]);
		}
	}
	char *list = mg_strdup(mg_sb_text(&text));

	mg_sb_fini(&text);
	mg_free(sorted);
	return list;
}

/* ---- open ---- */

static int read_u64(struct mg_shard_writer *writer, const char *column, uint64_t *out,
                    struct mg_error *err)
{
	char *sql = mg_format("SELECT %s::BIGINT FROM %s._mg.meta", column, writer->database);
	int64_t value = 0;
	int code = mg_duck_int(writer->conn, sql, &value, err);

	*out = (uint64_t)value;
	mg_free(sql);
	return code;
}

static int read_meta(struct mg_shard_writer *writer, struct mg_error *err)
{
	char *sql = mg_format("SELECT concat_ws(', ', file_format, '''' || engine_version || '''', "
	                      "'''' || cluster_id || '''', shard, shard_count, slot_first, slot_last) "
	                      "|| chr(10) || '''' || replace(sample, '''', '''''') || '''' "
	                      "FROM %s._mg.meta",
	                      writer->database);
	int code = mg_duck_text(writer->conn, sql, &writer->identity, err);

	mg_free(sql);
	code = code ? code : read_u64(writer, "applied_index", &writer->applied, err);
	code = code ? code : read_u64(writer, "applied_term", &writer->term, err);
	code = code ? code : read_u64(writer, "next_rid", &writer->next_rid, err);
	if (!code && !writer->identity) {
		code = mg_error_set(err, MG_E_CORRUPT, "the file of %s does not say whose it is",
		                    writer->database);
	}
	int64_t pending = 0;

	if (!code) {
		sql = mg_format("SELECT count(*) FROM duckdb_tables() WHERE database_name = '%s' AND "
		                "schema_name = '_mg' AND table_name = 'pending'",
		                writer->database);
		code = mg_duck_int(writer->conn, sql, &pending, err);
		mg_free(sql);
	}
	writer->has_pending = writer->some_pending = pending > 0;
	return code;
}

/* `identity` has two parts, between which next_rid stands. */
static int prepare_meta(struct mg_shard_writer *writer, struct mg_error *err)
{
	const char *line = strchr(writer->identity, '\n');

	mg_assert(line != NULL);
	char *drop = mg_format("DELETE FROM %s._mg.meta", writer->database);
	char *put = mg_format("INSERT INTO %s._mg.meta VALUES ($1, $2, 0, 0, %.*s, $3, %s)",
	                      writer->database, (int)(line - writer->identity), writer->identity,
	                      line + 1);
	int code = mg_duck_prepare(&writer->drop_meta, writer->conn, drop, err);

	code = code ? code : mg_duck_prepare(&writer->put_meta, writer->conn, put, err);
	mg_free(put);
	mg_free(drop);
	return code;
}

int mg_shard_writer_open(struct mg_shard_writer **out, struct mg_duck *duck, const char *database,
                         struct mg_error *err)
{
	struct mg_shard_writer *writer = mg_alloc0(sizeof *writer);

	mg_copy_text(writer->database, sizeof writer->database, database);
	writer->budget.limit = UINT64_MAX; /* one batch, in memory already */
	writer->context = (struct mg_duck_context){ .find_spool = find_spool, .arg = writer };
	*out = NULL;
	int code = mg_duck_connect(duck, &writer->conn, err);

	if (!code) {
		mg_duck_set_context(writer->conn, &writer->context);
		code = read_meta(writer, err);
	}
	code = code ? code : prepare_meta(writer, err);
	code = code ? code : read_tables(writer, err);
	if (code) {
		mg_shard_writer_close(writer);
		return mg_error_wrap(err, "while opening %s for writing", database);
	}
	*out = writer;
	return 0;
}

/* ---- the open appender ---- */

static void forget_appender(struct mg_shard_writer *writer)
{
	mg_duck_inlet_free(writer->inlet);
	mg_buf_unref(writer->ipc_schema);
	mg_free(writer->schema);
	mg_free(writer->table);
	writer->inlet = NULL;
	writer->ipc_schema = NULL;
	writer->schema = writer->table = NULL;
	writer->unseen_count = 0;
}

int mg_shard_writer__end_append(struct mg_shard_writer *writer, struct mg_error *err)
{
	struct mg_duck_appender *appender = writer->appender;

	writer->appender = NULL;
	forget_appender(writer);
	return mg_duck_appender_close(appender, err);
}

/* Each entry of the log has a schema of its own, and mostly it is the one before. */
static bool same_bytes(const struct mg_buf *a, const struct mg_buf *b)
{
	return a == b || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

static bool is_appending(const struct mg_shard_writer *writer, const char *schema,
                         const char *table)
{
	return writer->appender && mg_text_eq(writer->schema, schema) &&
	       mg_text_eq(writer->table, table);
}

static int begin_append(struct mg_shard_writer *writer, const char *schema, const char *table,
                        struct mg_buf *ipc_schema, enum mg_duck_inlet_shape shape,
                        struct mg_error *err)
{
	if (is_appending(writer, schema, table) && same_bytes(writer->ipc_schema, ipc_schema)) {
		return 0;
	}
	int code = mg_shard_writer__end_append(writer, err);

	code = code ? code
	            : mg_duck_appender_open(&writer->appender, writer->conn, writer->database, schema,
	                                    table, &writer->next_rid, err);
	code = code ? code : mg_duck_inlet_new(&writer->inlet, writer->conn, ipc_schema, shape, err);
	if (!code) {
		writer->ipc_schema = mg_buf_ref(ipc_schema);
		writer->schema = mg_strdup(schema);
		writer->table = mg_strdup(table);
		writer->unseen_from = writer->next_rid;
	}
	return code;
}

void mg_shard_writer_close(struct mg_shard_writer *writer)
{
	if (!writer) {
		return;
	}
	mg_shard_writer_rollback(writer);
	mg_duck_prepared_free(writer->drop_meta);
	mg_duck_prepared_free(writer->put_meta);
	if (writer->conn) {
		mg_duck_disconnect(writer->conn);
	}
	forget_tables(writer);
	mg_free(writer->tables);
	mg_free(writer->unseen);
	mg_free(writer->identity);
	mg_free(writer);
}

uint64_t mg_shard_writer_applied(const struct mg_shard_writer *writer)
{
	return writer->applied;
}

uint64_t mg_shard_writer_term(const struct mg_shard_writer *writer)
{
	return writer->term;
}

/* ---- a transaction ---- */

int mg_shard_writer_begin(struct mg_shard_writer *writer, struct mg_error *err)
{
	mg_assert(!writer->in_transaction);
	int code = mg_duck_exec(writer->conn, "BEGIN", err);

	writer->in_transaction = code == 0;
	writer->rid_at_begin = writer->next_rid;
	return code;
}

void mg_shard_writer_rollback(struct mg_shard_writer *writer)
{
	struct mg_error ignored;

	mg_duck_appender_drop(writer->appender);
	writer->appender = NULL;
	forget_appender(writer);
	if (writer->in_transaction) {
		(void)mg_duck_exec(writer->conn, "ROLLBACK", &ignored);
		writer->in_transaction = false;
		writer->next_rid = writer->rid_at_begin;
		if (writer->tables_changed) {
			(void)read_tables(writer, &ignored);
		}
	}
}

static int write_meta(struct mg_shard_writer *writer, uint64_t index, uint64_t term,
                      struct mg_error *err)
{
	const uint64_t values[] = { index, term, writer->next_rid };
	int code = mg_duck_prepared_run(writer->drop_meta, NULL, 0, err);

	return code ? code : mg_duck_prepared_run(writer->put_meta, values, 3, err);
}

int mg_shard_writer_commit(struct mg_shard_writer *writer, uint64_t index, uint64_t term,
                           struct mg_error *err)
{
	mg_assert(writer->in_transaction && index > writer->applied);
	int code = mg_shard_writer__end_append(writer, err);

	code = code ? code : write_meta(writer, index, term, err);
	code = code ? code : mg_duck_exec(writer->conn, "COMMIT", err);
	if (code) {
		return mg_error_wrap(err, "while applying entries to %s", writer->database);
	}
	writer->in_transaction = false;
	writer->tables_changed = false;
	writer->applied = index;
	writer->term = term;
	return 0;
}

/* ---- rows ---- */

int mg_shard_writer_insert(struct mg_shard_writer *writer, const char *schema, const char *table,
                           struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                           struct mg_error *err)
{
	if (!has_table(writer, schema, table)) {
		return 0;
	}
	int code = begin_append(writer, schema, table, ipc_schema, MG_INLET_SLOT, err);

	return code ? code : mg_duck_inlet_put(writer->inlet, writer->appender, ipc_batch, err);
}

/* ---- ids of rows that exist ---- */

struct ids {
	struct ArrowArray batch; /* which holds them */
	const int64_t *list;
	size_t count, columns;
};

static void ids_close(struct ids *ids)
{
	if (ids->batch.release) {
		ArrowArrayRelease(&ids->batch);
	}
}

static int ids_open(struct ids *ids, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                    struct mg_error *err)
{
	struct mg_arrow_decoder *decoder = NULL;
	size_t used = 0;
	int code = mg_arrow_decoder_new(&decoder, err);

	*ids = (struct ids){ 0 };
	code = code ? code
	            : mg_arrow_decode_schema(decoder, ipc_schema->data, ipc_schema->size, &used, err);
	const struct ArrowSchema *schema = code ? NULL : mg_arrow_decoder_schema(decoder);

	if (schema && (!schema->n_children || !mg_text_eq(schema->children[0]->format, "l"))) {
		code = mg_error_set(err, MG_E_PROTOCOL, "rows to be replaced or deleted have no ids");
	}
	code = code ? code : mg_arrow_decode_batch(decoder, ipc_batch, &ids->batch, err);
	if (!code) {
		const struct ArrowArray *column = ids->batch.children[0];

		ids->columns = (size_t)ids->batch.n_children;
		ids->count = (size_t)column->length;
		ids->list = ids->count ? (const int64_t *)column->buffers[1] + column->offset : NULL;
	}
	mg_arrow_decoder_free(decoder);
	return code;
}

/* Are they many and near each other?  RETURNING fetches row by row, 30 us each; to scan what lies
 * between them then costs less, up to 2048 rows in half a million. */
static bool are_near(const struct ids *ids)
{
	int64_t least = INT64_MAX, most = INT64_MIN;

	for (size_t i = 0; i < ids->count; i++) {
		least = ids->list[i] < least ? ids->list[i] : least;
		most = ids->list[i] > most ? ids->list[i] : most;
	}
	return ids->count >= FEW_IDS && (uint64_t)most - (uint64_t)least < 256 * ids->count;
}

/* "WHERE the rows" */
static void add_where(struct mg_sb *sql, const struct ids *ids)
{
	mg_sb_add(sql, " WHERE _mg_rid IN (");
	if (ids->count >= FEW_IDS) {
		mg_sb_add(sql, "SELECT rid FROM merganser_exchange(0)");
	}
	for (size_t i = 0; ids->count < FEW_IDS && i < ids->count; i++) {
		mg_sb_addf(sql, "%s%lld", i ? ", " : "", (long long)ids->list[i]);
	}
	mg_sb_add_char(sql, ')');
}

void mg_shard_writer__add_table(struct mg_sb *sql, const struct mg_shard_writer *writer,
                                const char *schema, const char *table)
{
	mg_sb_addf(sql, "%s.", writer->database);
	mg_sb_add_path(sql, schema, table);
}

/* ---- rows as they were, for who watches ---- */

struct old_rows {
	const struct mg_shard_watch *watch;
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema;
};

static int old_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct old_rows *old = arg;
	int code = mg_arrow_encoder_new(&old->encoder, schema, false, err);

	return code ? code : mg_arrow_encode_schema(old->encoder, &old->schema, err);
}

static int old_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct old_rows *old = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	int code = mg_arrow_encode_batch(old->encoder, batch, &buf, &raw, err);

	(void)target;
	code = code ? code
	            : old->watch->old_rows(old->watch->arg, old->schema, buf, (uint32_t)batch->length,
	                                   err);
	mg_buf_unref(buf);
	return code;
}

/* from: "FROM table WHERE the rows". */
static int delete_watched(struct mg_shard_writer *writer, const char *from, bool near,
                          struct mg_error *err)
{
	struct old_rows old = { .watch = writer->watch };
	const struct mg_duck_sink sink = { .begin = old_begin, .put = old_put, .arg = &old };
	struct mg_sb sql = { 0 };

	mg_sb_addf(&sql, near ? "SELECT * %s" : "DELETE %s RETURNING *", from);
	int code = mg_duck_scatter(writer->conn, mg_sb_text(&sql), NULL, 1, &sink, err);

	mg_sb_clear(&sql);
	mg_sb_addf(&sql, "DELETE %s", from);
	code = code || !near ? code : mg_duck_exec(writer->conn, mg_sb_text(&sql), err);
	mg_arrow_encoder_free(old.encoder);
	mg_buf_unref(old.schema);
	mg_sb_fini(&sql);
	return code;
}

void mg_shard_writer_watch(struct mg_shard_writer *writer, const struct mg_shard_watch *watch)
{
	writer->watch = watch;
}

bool mg_shard_writer_has(const struct mg_shard_writer *writer, const char *schema,
                         const char *table)
{
	return has_table(writer, schema, table);
}

uint64_t mg_shard_writer_next_rid(const struct mg_shard_writer *writer)
{
	return writer->next_rid;
}

/* A spool with this one batch, which the statement reads; rows are only an estimate for it. */
static int lend_batch(struct mg_shard_writer *writer, struct mg_buf *ipc_schema,
                      struct mg_buf *ipc_batch, struct mg_error *err)
{
	writer->spool = mg_spool_new(&writer->budget);
	int code = mg_spool_set_schema(writer->spool, ipc_schema, err);

	code = code ? code : mg_spool_put(writer->spool, ipc_batch, 1, err);
	mg_spool_seal(writer->spool);
	return code;
}

static int delete_ids(struct mg_shard_writer *writer, const char *schema, const char *table,
                      const struct ids *ids, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, writer->watch ? "FROM " : "DELETE FROM ");
	mg_shard_writer__add_table(&sql, writer, schema, table);
	add_where(&sql, ids);
	int code = writer->watch ? delete_watched(writer, mg_sb_text(&sql), are_near(ids), err)
	                         : mg_duck_exec(writer->conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

/* Flushing the appender costs as much as the DELETE: rows that are replaced one after the other
 * wait in it together, unless one of them is replaced again. */
static bool is_unseen(const struct mg_shard_writer *writer, const struct ids *ids)
{
	for (size_t i = 0; i < ids->count; i++) {
		bool unseen = (uint64_t)ids->list[i] >= writer->unseen_from;

		for (size_t k = 0; !unseen && k < writer->unseen_count; k++) {
			unseen = writer->unseen[k] == ids->list[i];
		}
		if (unseen) {
			return true;
		}
	}
	return false;
}

static int show_rows(struct mg_shard_writer *writer, const char *schema, const char *table,
                     const struct ids *ids, struct mg_error *err)
{
	bool wait = is_appending(writer, schema, table) && ids->count < FEW_IDS &&
	            writer->unseen_count + ids->count <= UNSEEN_MAX && !is_unseen(writer, ids);

	return wait ? 0 : mg_shard_writer__end_append(writer, err);
}

static void note_unseen(struct mg_shard_writer *writer, const struct ids *ids)
{
	for (size_t i = 0; i < ids->count; i++) {
		mg_grow(writer->unseen, writer->unseen_count, writer->unseen_cap);
		writer->unseen[writer->unseen_count++] = ids->list[i];
	}
}

static int delete_rows(struct mg_shard_writer *writer, const char *schema, const char *table,
                       struct mg_buf *ipc_schema, struct mg_buf *ipc_batch, const struct ids *ids,
                       struct mg_error *err)
{
	int code = show_rows(writer, schema, table, ids, err);

	if (!code && ids->count >= FEW_IDS) {
		code = lend_batch(writer, ipc_schema, ipc_batch, err);
	}
	if (!code && ids->count) {
		code = delete_ids(writer, schema, table, ids, err);
	}
	mg_spool_unref(writer->spool);
	writer->spool = NULL;
	return code;
}

/* The columns by place: rid, the user's, slot. */
static int replace_rows(struct mg_shard_writer *writer, const char *schema, const char *table,
                        struct mg_buf *ipc_schema, struct mg_buf *ipc_batch, const struct ids *ids,
                        struct mg_error *err)
{
	if (ids->columns < 3) {
		return mg_error_set(err, MG_E_PROTOCOL, "rows to be replaced have no columns");
	}
	int code = delete_rows(writer, schema, table, ipc_schema, ipc_batch, ids, err);

	code = code ? code
	            : begin_append(writer, schema, table, ipc_schema, MG_INLET_RID_SLOT, err);
	code = code ? code : mg_duck_inlet_put(writer->inlet, writer->appender, ipc_batch, err);
	if (!code) {
		note_unseen(writer, ids);
	}
	return code;
}

int mg_shard_writer_replace(struct mg_shard_writer *writer, const char *schema, const char *table,
                            struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                            struct mg_error *err)
{
	struct ids ids;

	if (!has_table(writer, schema, table)) {
		return 0;
	}
	int code = ids_open(&ids, ipc_schema, ipc_batch, err);

	code = code ? code : replace_rows(writer, schema, table, ipc_schema, ipc_batch, &ids, err);
	ids_close(&ids);
	return code;
}

int mg_shard_writer_delete(struct mg_shard_writer *writer, const char *schema, const char *table,
                           struct mg_buf *ipc_schema, struct mg_buf *ipc_batch,
                           struct mg_error *err)
{
	struct ids ids;

	if (!has_table(writer, schema, table)) {
		return 0;
	}
	int code = ids_open(&ids, ipc_schema, ipc_batch, err);

	code = code ? code : delete_rows(writer, schema, table, ipc_schema, ipc_batch, &ids, err);
	ids_close(&ids);
	return code;
}

/* ---- tables come and go ---- */

int mg_shard_writer_create(struct mg_shard_writer *writer, const char *schema, const char *table,
                           const char *columns, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = mg_shard_writer__end_append(writer, err);

	mg_sb_addf(&sql, "CREATE SCHEMA IF NOT EXISTS %s.", writer->database);
	mg_sb_add_ident(&sql, schema);
	mg_sb_add(&sql, "; CREATE OR REPLACE TABLE ");
	mg_shard_writer__add_table(&sql, writer, schema, table);
	mg_sb_addf(&sql, " (_mg_rid BIGINT, _mg_slot USMALLINT, %s)", columns);
	code = code ? code : mg_duck_exec(writer->conn, mg_sb_text(&sql), err);
	if (!code && !has_table(writer, schema, table)) {
		note_table(writer, schema, table);
		writer->tables_changed = true;
	}
	mg_sb_fini(&sql);
	return code;
}

int mg_shard_writer_drop(struct mg_shard_writer *writer, const char *schema, const char *table,
                         struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = mg_shard_writer__end_append(writer, err);

	mg_sb_add(&sql, "DROP TABLE IF EXISTS ");
	mg_shard_writer__add_table(&sql, writer, schema, table);
	code = code ? code : mg_duck_exec(writer->conn, mg_sb_text(&sql), err);
	size_t at = find_table(writer, schema, table);

	if (!code && at < writer->table_count) {
		mg_free(writer->tables[at]);
		writer->tables[at] = writer->tables[--writer->table_count];
		writer->tables_changed = true;
	}
	mg_sb_fini(&sql);
	return code;
}

void mg_shard_writer__note_renamed(struct mg_shard_writer *writer, const char *schema,
                                   const char *from, const char *to)
{
	size_t at = find_table(writer, schema, from);

	if (at < writer->table_count) {
		mg_free(writer->tables[at]);
		writer->tables[at] = writer->tables[--writer->table_count];
	}
	note_table(writer, schema, to);
	writer->tables_changed = true;
}

/* ---- checkpoints ---- */

static int write_pending(struct mg_shard_writer *writer, const uint8_t *bytes, size_t size,
                         struct mg_error *err)
{
	if (size == 0 && !writer->some_pending) {
		return 0;
	}
	char *hex = mg_try_alloc(2 * size + 1), *ignored = NULL;
	char *sql = mg_format("INSERT INTO %s._mg.pending VALUES ($1)", writer->database);

	if (!hex) {
		mg_free(sql);
		return mg_error_set(err, MG_E_NOMEM, "no memory for %zu pending bytes", size);
	}
	(void)sodium_bin2hex(hex, 2 * size + 1, bytes, size);
	/* Files have the table from their birth, but for old ones: DDL holds up checkpoints. */
	int code = mg_duck_exec(writer->conn, "BEGIN", err);

	if (!code && !writer->has_pending) {
		code = mg_duck_execf(writer->conn, err, "CREATE TABLE %s._mg.pending (bytes VARCHAR)",
		                     writer->database);
	}
	code = code ? code
	            : mg_duck_execf(writer->conn, err, "DELETE FROM %s._mg.pending", writer->database);

	if (!code && size > 0) {
		code = mg_duck_text_of(writer->conn, sql, (struct mg_str){ hex, 2 * size }, &ignored, err);
	}
	struct mg_error also;

	(void)mg_duck_exec(writer->conn, code ? "ROLLBACK" : "COMMIT", code ? &also : err);
	writer->has_pending = writer->has_pending || code == 0;
	writer->some_pending = code || size > 0;
	mg_free(ignored);
	mg_free(sql);
	mg_free(hex);
	return code;
}

int mg_shard_writer_checkpoint(struct mg_shard_writer *writer, const void *pending, size_t size,
                               const char *path, struct mg_error *err)
{
	mg_assert(!writer->in_transaction);
	int code = write_pending(writer, pending, size, err);

	if (!code && path) {
		code = mg_shard_undo_save(writer->conn, writer->database, path, err);
	}
	code = code ? code : mg_duck_execf(writer->conn, err, "CHECKPOINT %s", writer->database);
	if (code && strstr(err->message, "transactions active")) {
		return mg_error_set(err, MG_E_BUSY, "readers with an older snapshot hold up a checkpoint");
	}
	if (!code && path) {
		mg_shard_undo_forget(path);
	}
	return code ? mg_error_wrap(err, "while writing the file of %s", writer->database) : 0;
}

static int from_hex(const char *hex, struct mg_buf **out, struct mg_error *err)
{
	size_t size = strlen(hex) / 2;
	struct mg_buf *buf = mg_buf_new(size);

	if (!buf) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for %zu pending bytes", size);
	}
	if (sodium_hex2bin(buf->data, size, hex, 2 * size, NULL, &buf->size, NULL) != 0 ||
	    buf->size != size) {
		mg_buf_unref(buf);
		return mg_error_set(err, MG_E_CORRUPT, "pending bytes are no hex digits");
	}
	*out = buf;
	return 0;
}

int mg_shard_writer_pending(struct mg_shard_writer *writer, struct mg_buf **out,
                            struct mg_error *err)
{
	char *hex = NULL;

	*out = NULL;
	if (!writer->has_pending) {
		return 0;
	}
	char *sql = mg_format("SELECT bytes FROM %s._mg.pending", writer->database);
	int code = mg_duck_text(writer->conn, sql, &hex, err);

	if (!code && hex) {
		code = from_hex(hex, out, err);
	}
	mg_free(hex);
	mg_free(sql);
	return code;
}
