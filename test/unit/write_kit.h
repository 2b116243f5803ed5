/*
 * write_kit.h - an engine over a small data directory, beside it a plain DuckDB with the same
 * tables, and a model of the shard files: what a redo makes of them can be compared with what plain
 * DuckDB makes of the same statement.
 *
 *   main.<t>    plain tables, as clients see them
 *   model.<t>   the same rows as the shards store them: _mg_rid, _mg_slot, and the shard
 */
#ifndef TEST_UNIT_WRITE_KIT_H
#define TEST_UNIT_WRITE_KIT_H

#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"
#include "codec/slot.h"
#include "exec/engine.h"
#include "exec/write.h"
#include "os/file.h"
#include "store/duck_append.h"
#include "store/shard_file.h"
#include "store/spool.h"

#include "write_tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIT_SHARDS 3

static char kit_dir[64];
static struct mg_duck *kit_duck;
static struct mg_duck_conn *kit_conn; /* plain tables and model */
static struct mg_catalog *kit_catalog;
static struct mg_engine *kit_engine;
static struct mg_run_settings kit_settings;
static const struct kit_table *kit_tables;
static size_t kit_table_count;
static uint16_t kit_owner[MG_SLOT_COUNT];

static inline void kit_must(int code, const struct mg_error *err, const char *what)
{
	if (code) {
		fail_msg("%s: %s (%s)", what, err->message, err->detail);
	}
}

static inline void kit_sql(const char *sql)
{
	struct mg_error err;

	kit_must(mg_duck_exec(kit_conn, sql, &err), &err, sql);
}

static inline int64_t kit_int(const char *sql)
{
	struct mg_error err;
	int64_t out = -1;

	kit_must(mg_duck_int(kit_conn, sql, &out, &err), &err, sql);
	return out;
}

static inline size_t kit_count(const char *const *list)
{
	size_t count = 0;

	while (count < 3 && list[count]) {
		count++;
	}
	return count;
}

static inline size_t kit_columns(const struct kit_table *table)
{
	size_t count = 0;

	while (count < 12 && table->columns[count].name) {
		count++;
	}
	return count;
}

/* ---- the data directory ---- */

static inline int kit_fill(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                           struct mg_error *err)
{
	(void)arg, (void)err;
	data->shard_count = KIT_SHARDS;
	data->sample = "";
	data->shards = mg_arena_new_array(arena, struct mg_shard, KIT_SHARDS + 1);
	for (uint32_t i = 0; i <= KIT_SHARDS; i++) {
		data->shards[i] = (struct mg_shard){ .id = i,
			                                 .file = mg_shard_file_name(arena, i),
			                                 .engine_version = mg_duck_version(),
			                                 .file_format = MG_FILE_FORMAT };
	}
	for (uint32_t slot = 0; slot < MG_SLOT_COUNT; slot++) {
		struct mg_shard *shard = &data->shards[slot * KIT_SHARDS / MG_SLOT_COUNT + 1];

		if (slot && kit_owner[slot - 1] != shard->id) {
			shard->slot_first = (uint16_t)slot;
		}
		shard->slot_last = (uint16_t)slot;
		kit_owner[slot] = (uint16_t)shard->id;
	}
	data->tables = mg_arena_new_array(arena, struct mg_table, kit_table_count);
	data->table_count = kit_table_count;
	for (size_t i = 0; i < kit_table_count; i++) {
		const struct kit_table *from = &kit_tables[i];
		struct mg_table *table = &data->tables[i];

		*table = (struct mg_table){ .schema = from->schema,
			                        .name = from->name,
			                        .id = from->id,
			                        .definition = from->definition ? from->definition : "" };
		table->column_count = kit_columns(from);
		table->columns = mg_arena_new_array(arena, struct mg_column, table->column_count);
		for (size_t c = 0; c < table->column_count; c++) {
			table->columns[c] = (struct mg_column){ .name = from->columns[c].name,
				                                    .type = from->columns[c].type,
				                                    .not_null = from->columns[c].not_null };
		}
		table->keys = (const char **)(uintptr_t)from->keys;
		table->key_count = kit_count(from->keys);
		table->primary_key = (const char **)(uintptr_t)from->primary_key;
		table->primary_key_count = kit_count(from->primary_key);
	}
	data->views = mg_arena_new_array(arena, struct mg_view, 1);
	data->views[0] = (struct mg_view){ .schema = "main", .name = "v", .sql = "SELECT * FROM t" };
	data->view_count = 1;
	return 0;
}

static struct mg_spool *kit_spool; /* merganser_exchange(1) of kit_conn */

static inline struct mg_spool *kit_find_spool(void *arg, uint32_t stage)
{
	(void)arg;
	return stage == 1 ? kit_spool : NULL;
}

static const struct mg_duck_context kit_context = { .owner = kit_owner,
	                                                .find_spool = kit_find_spool };

static inline void kit_plain_tables(void)
{
	kit_sql("CREATE SCHEMA model; CREATE SCHEMA IF NOT EXISTS \"other one\"; CREATE SCHEMA s");
	for (size_t i = 0; i < kit_table_count; i++) {
		const struct kit_table *table = &kit_tables[i];
		struct mg_sb sql = { 0 };

		mg_sb_addf(&sql, "CREATE TABLE \"%s\".\"%s\"(", table->schema, table->name);
		mg_sb_add(&sql, table->definition ? table->definition : "");
		for (size_t c = 0; !table->definition && c < kit_columns(table); c++) {
			mg_sb_addf(&sql, "%s\"%s\" %s%s", c ? ", " : "", table->columns[c].name,
			           table->columns[c].type, table->columns[c].not_null ? " NOT NULL" : "");
		}
		for (size_t k = 0; k < kit_count(table->primary_key); k++) {
			mg_sb_addf(&sql, "%s\"%s\"", k ? ", " : ", PRIMARY KEY (", table->primary_key[k]);
		}
		mg_sb_add(&sql, table->primary_key[0] ? "))" : ")");
		kit_sql(mg_sb_text(&sql));
		mg_sb_clear(&sql);
		if (table->rows) {
			mg_sb_addf(&sql, "INSERT INTO \"%s\".\"%s\" %s", table->schema, table->name,
			           table->rows);
			kit_sql(mg_sb_text(&sql));
		}
		mg_sb_fini(&sql);
	}
	kit_sql("CREATE VIEW v AS SELECT * FROM t");
}

static inline const char *kit_stored(const struct kit_table *table)
{
	static char name[64];

	snprintf(name, sizeof name, table->id ? "%s#%d" : "%s", table->name, (int)table->id);
	return name;
}

static inline void kit_add_slot(struct mg_sb *sql, const struct kit_table *table)
{
	for (size_t k = 0; k < kit_count(table->keys); k++) {
		mg_sb_addf(sql, "%s\"%s\"", k ? ", " : "mg_slot(", table->keys[k]);
	}
	mg_sb_add(sql, table->keys[0] ? ")" : "0::USMALLINT");
}

static inline void kit_shard_files(void)
{
	const struct mg_catalog_data *data = mg_catalog_take(kit_catalog);
	struct mg_shard_file *files[KIT_SHARDS + 1];
	struct mg_error err;

	for (uint32_t i = 0; i <= KIT_SHARDS; i++) {
		const struct mg_shard_meta meta = { .cluster_id = data->cluster_id,
			                                .sample = "",
			                                .shard = i,
			                                .shard_count = KIT_SHARDS,
			                                .slot_first = data->shards[i].slot_first,
			                                .slot_last = data->shards[i].slot_last,
			                                .file_format = MG_FILE_FORMAT };

		kit_must(mg_shard_file_create(&files[i], kit_duck, kit_dir, &meta, &err), &err, "create");
	}
	for (size_t t = 0; t < kit_table_count; t++) {
		const struct kit_table *table = &kit_tables[t];
		struct mg_duck_appender *appenders[KIT_SHARDS + 1] = { NULL };
		const char *names[12], *types[12];
		size_t count = kit_columns(table);
		struct mg_sb sql = { 0 };

		for (size_t c = 0; c < count; c++) {
			names[c] = table->columns[c].name;
			types[c] = table->columns[c].type;
		}
		for (uint32_t i = table->keys[0] ? 1 : 0; i <= (table->keys[0] ? KIT_SHARDS : 0); i++) {
			kit_must(mg_shard_file_table(files[i], table->schema, kit_stored(table), names, types,
			                             count, &err),
			         &err, "table");
			kit_must(mg_duck_appender_open(&appenders[i], files[i]->conn, files[i]->database,
			                               table->schema, kit_stored(table), &files[i]->next_rid,
			                               &err),
			         &err, "appender");
		}
		mg_sb_add(&sql, "SELECT *");
		if (table->keys[0]) {
			mg_sb_add(&sql, ", ");
			kit_add_slot(&sql, table);
		}
		mg_sb_addf(&sql, " FROM \"%s\".\"%s\"", table->schema, table->name);
		kit_must(mg_duck_route(kit_conn, mg_sb_text(&sql), table->keys[0] ? kit_owner : NULL,
		                       appenders, KIT_SHARDS + 1, &err),
		         &err, mg_sb_text(&sql));
		for (uint32_t i = 0; i <= KIT_SHARDS; i++) {
			kit_must(mg_duck_appender_close(appenders[i], &err), &err, "close");
		}
		mg_sb_fini(&sql);
	}
	for (uint32_t i = 0; i <= KIT_SHARDS; i++) {
		char sha256[65];
		uint64_t bytes;

		kit_must(mg_shard_file_finish(files[i], sha256, &bytes, &err), &err, "finish");
	}
	mg_catalog_give(kit_catalog, data);
}

/* model.<t>: the rows of the shard files, with their ids. */
static inline void kit_model(void)
{
	for (uint32_t i = 0; i <= KIT_SHARDS; i++) {
		char sql[160];

		snprintf(sql, sizeof sql, "ATTACH '%s/shards/%04u.duckdb' AS s%u (READ_ONLY)", kit_dir, i,
		         i);
		kit_sql(sql);
	}
	for (size_t t = 0; t < kit_table_count; t++) {
		const struct kit_table *table = &kit_tables[t];
		struct mg_sb sql = { 0 };

		mg_sb_addf(&sql, "CREATE TABLE model.\"%s\" AS ", table->name);
		for (uint32_t i = table->keys[0] ? 1 : 0; i <= (table->keys[0] ? KIT_SHARDS : 0); i++) {
			mg_sb_addf(&sql, "%sSELECT *, %u AS _shard FROM s%u.\"%s\".\"%s\"",
			           i > 1 ? " UNION ALL " : "", i, i, table->schema, kit_stored(table));
		}
		kit_sql(mg_sb_text(&sql));
		mg_sb_fini(&sql);
	}
	for (uint32_t i = 0; i <= KIT_SHARDS; i++) {
		char sql[64];

		snprintf(sql, sizeof sql, "DETACH s%u", i);
		kit_sql(sql);
	}
}

static inline void kit_open(const struct kit_table *tables, size_t count)
{
	static const char *const trees[] = { "log", "shards" };
	struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };
	struct mg_error err;

	kit_tables = tables;
	kit_table_count = count;
	snprintf(kit_dir, sizeof kit_dir, "/tmp/mg-write-XXXXXX");
	assert_non_null(mkdtemp(kit_dir));
	for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
		char *path = mg_path_join(kit_dir, trees[i]);

		kit_must(mg_dir_make(path, 0700, &err), &err, path);
		mg_free(path);
	}
	kit_must(mg_catalog_new(&kit_catalog, kit_dir, &err), &err, "catalog");
	kit_must(mg_catalog_change(kit_catalog, kit_fill, NULL, &err), &err, "catalog");
	kit_must(mg_duck_open(&kit_duck, &options, &err), &err, "open");
	kit_must(mg_duck_connect(kit_duck, &kit_conn, &err), &err, "connect");
	mg_duck_set_context(kit_conn, &kit_context);
	kit_sql("SET TimeZone = 'UTC'");
	kit_plain_tables();
	kit_shard_files();
	kit_model();
	struct mg_engine_options engine = { .data_dir = kit_dir,
		                                .node_name = "n1",
		                                .threads = 2,
		                                .memory_bytes = 512u << 20,
		                                .catalog = kit_catalog };

	kit_must(mg_engine_open(&kit_engine, &engine, &err), &err, "engine");
	kit_settings =
		(struct mg_run_settings){ .distributed = MG_DISTRIBUTED_TRUE, .summarize = true };
}

static inline void kit_close(void)
{
	mg_engine_close(kit_engine);
	mg_catalog_free(kit_catalog);
	mg_duck_disconnect(kit_conn);
	mg_duck_close(kit_duck);
	mg_tree_remove(kit_dir, NULL);
}

/* ---- a redo, applied to the model ---- */

/* Set-up and tear-down of a file's tests, which are about these tables. */
#define KIT_GROUP(tables) \
	static int open_all(void **state) \
	{ \
		(void)state; \
		kit_open(tables, sizeof(tables) / sizeof *(tables)); \
		return 0; \
	} \
	static int close_all(void **state) \
	{ \
		(void)state; \
		kit_close(); \
		return 0; \
	}

static inline const struct kit_table *kit_table(const char *schema, const char *name)
{
	for (size_t i = 0; i < kit_table_count; i++) {
		if (strcmp(kit_tables[i].schema, schema) == 0 &&
		    strcmp(kit_stored(&kit_tables[i]), name) == 0) {
			return &kit_tables[i];
		}
	}
	fail_msg("the redo names a table %s.%s", schema, name);
	return NULL;
}

static inline void kit_add_columns(struct mg_sb *sql, const struct kit_table *table)
{
	for (size_t c = 0; c < kit_columns(table); c++) {
		mg_sb_addf(sql, "%s\"%s\"", c ? ", " : "", table->columns[c].name);
	}
}

static inline void kit_apply_op(uint32_t shard, const struct mg_redo_op *op)
{
	const struct kit_table *table = kit_table(op->schema, op->table);
	struct mg_spool_budget budget = { .limit = 1u << 30, .spill_dir = "/tmp" };
	struct mg_sb sql = { 0 };
	struct mg_error err;
	char check[200];

	assert_true(op->rows > 0 && op->rows <= MG_REDO_ROWS_MAX);
	kit_spool = mg_spool_new(&budget);
	kit_must(mg_spool_set_schema(kit_spool, op->ipc_schema, &err), &err, "schema");
	kit_must(mg_spool_put(kit_spool, op->ipc_batch, op->rows, &err), &err, "batch");
	mg_spool_seal(kit_spool);
	assert_int_equal(kit_int("SELECT count(*) FROM merganser_exchange(1)"), op->rows);
	if (op->kind != MG_REDO_INSERT) {
		/* Each id is a row of that shard, and named once. */
		snprintf(check, sizeof check,
		         "SELECT count(DISTINCT _mg_rid) FROM model.\"%s\" WHERE _shard = %u AND _mg_rid "
		         "IN (SELECT rid FROM merganser_exchange(1))",
		         table->name, shard);
		assert_int_equal(kit_int(check), op->rows);
		mg_sb_addf(&sql,
		           "DELETE FROM model.\"%s\" WHERE _mg_rid IN (SELECT rid FROM "
		           "merganser_exchange(1))",
		           table->name);
		kit_sql(mg_sb_text(&sql));
		mg_sb_clear(&sql);
	}
	if (op->kind != MG_REDO_DELETE) {
		/* By place, as the shards do. */
		bool replace = op->kind == MG_REDO_REPLACE;
		size_t count = kit_columns(table);

		mg_sb_addf(&sql, "INSERT INTO model.\"%s\" SELECT %s, c%zu", table->name,
		           replace ? "c0" : "-1", count + replace);
		for (size_t c = 0; c < count; c++) {
			mg_sb_addf(&sql, ", c%zu::%s", c + replace, table->columns[c].type);
		}
		mg_sb_addf(&sql, ", %u FROM merganser_exchange(1) AS x(", shard);
		for (size_t c = 0; c <= count + replace; c++) {
			mg_sb_addf(&sql, "%sc%zu", c ? ", " : "", c);
		}
		mg_sb_add(&sql, ")");
		kit_sql(mg_sb_text(&sql));
	}
	mg_sb_fini(&sql);
	mg_spool_unref(kit_spool);
	kit_spool = NULL;
}

static inline void kit_apply(const struct mg_redo *redo)
{
	const uint32_t *shards;
	size_t count = mg_redo_shards(redo, &shards);

	for (size_t i = 0; i < count; i++) {
		size_t ops_count;
		const struct mg_redo_op *ops = mg_redo_ops(redo, shards[i], &ops_count);

		for (size_t k = 0; k < ops_count; k++) {
			kit_apply_op(shards[i], &ops[k]);
		}
	}
}

/* The model holds the plain table's rows, each in the shard of its slot. */
static inline void kit_compare(const struct kit_table *table, const char *statement)
{
	struct mg_sb sql = { 0 };

	for (int way = 0; way < 2; way++) {
		mg_sb_clear(&sql);
		mg_sb_add(&sql, "SELECT count(*) FROM (SELECT ");
		kit_add_columns(&sql, table);
		mg_sb_addf(&sql, " FROM \"%s\".\"%s\" EXCEPT ALL SELECT ", way ? "model" : table->schema,
		           table->name);
		kit_add_columns(&sql, table);
		mg_sb_addf(&sql, " FROM \"%s\".\"%s\")", way ? table->schema : "model", table->name);
		if (kit_int(mg_sb_text(&sql)) != 0) {
			fail_msg("%s: rows are %s", statement, way ? "too many" : "missing");
		}
	}
	mg_sb_clear(&sql);
	mg_sb_addf(&sql, "SELECT count(*) FROM model.\"%s\" WHERE _mg_slot IS DISTINCT FROM ",
	           table->name);
	kit_add_slot(&sql, table);
	mg_sb_addf(&sql,
	           table->keys[0] ? " OR _shard <> _mg_slot::INT * %d // 16384 + 1"
	                          : " OR _shard <> 0 * %d",
	           KIT_SHARDS);
	if (kit_int(mg_sb_text(&sql)) != 0) {
		fail_msg("%s: rows lie in the wrong shard", statement);
	}
	mg_sb_fini(&sql);
}

/* ---- rows as text ---- */

struct kit_rows {
	struct mg_sb text; /* a line for each row, values between bars */
	struct mg_arrow_view *view;
};

static inline int kit_rows_begin(void *arg, const struct ArrowSchema *schema, size_t count,
                                 const char *const *names, const char *const *types,
                                 struct mg_error *err)
{
	struct kit_rows *rows = arg;

	(void)err;
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(&rows->text, "%s %s|", names[i], types[i]);
	}
	mg_sb_add(&rows->text, "\n");
	assert_int_equal(mg_arrow_view_new(&rows->view, schema), 0);
	return 0;
}

static inline int kit_rows_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct kit_rows *rows = arg;

	(void)err;
	assert_int_equal(mg_arrow_view_set(rows->view, batch), 0);
	for (int64_t row = 0; row < batch->length; row++) {
		for (int64_t c = 0; c < batch->n_children; c++) {
			mg_arrow_view_text(rows->view, (size_t)c, row, &rows->text);
			mg_sb_add(&rows->text, "|");
		}
		mg_sb_add(&rows->text, "\n");
	}
	return 0;
}

static inline void kit_rows_fini(struct kit_rows *rows)
{
	if (rows->view) {
		mg_arrow_view_free(rows->view);
	}
	mg_sb_fini(&rows->text);
}

static inline int kit_compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Rows have no order between shards; the first line, the columns, stays. */
static inline void kit_sort(struct mg_sb *text)
{
	char *copy = mg_strdup(mg_sb_text(text)), *rest = NULL;
	char **lines = NULL;
	size_t count = 0, cap = 0;

	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		mg_grow(lines, count, cap);
		lines[count++] = line;
	}
	qsort(lines + 1, count - 1, sizeof *lines, kit_compare_lines);
	mg_sb_clear(text);
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(text, "%s\n", lines[i]);
	}
	mg_free(lines);
	mg_free(copy);
}

/* What plain DuckDB answers. */
static inline int kit_plain(const char *statement, struct kit_rows *rows, int64_t *affected,
                            struct mg_error *err)
{
	struct mg_duck_result *result = NULL;
	int code = mg_duck_query(kit_conn, statement, &result, err);
	bool done = false;

	*affected = 0;
	if (!code) {
		size_t count = mg_duck_result_columns(result);
		const char *names[64], *types[64];

		for (size_t i = 0; i < count && i < 64; i++) {
			names[i] = mg_duck_result_name(result, i);
			types[i] = mg_duck_result_type(result, i);
		}
		(void)kit_rows_begin(rows, mg_duck_result_schema(result), count, names, types, err);
	}
	while (!code && !done) {
		struct ArrowArray batch = { 0 };

		code = mg_duck_result_next(result, 2048, &batch, &done, err);
		if (!code && !done) {
			(void)kit_rows_batch(rows, &batch, err);
			*affected += batch.length;
			batch.release(&batch);
		}
	}
	mg_duck_result_free(result);
	return code;
}

static char kit_step[32]; /* which way the write took */

static inline int kit_write(const char *statement, struct mg_redo *redo,
                            struct mg_write_result *result, struct mg_error *err)
{
	const struct mg_write_request request = { .statement = mg_str(statement), .lossless = true };
	struct mg_run *run = mg_run_new();

	mg_error_clear(err);
	int code = mg_write_rows(kit_engine, run, &kit_settings, &request, redo, result, err);

	mg_copy_text(kit_step, sizeof kit_step, mg_run_stats(run)->step);
	mg_run_free(run);
	return code;
}

/* Both do the same: the same rows afterwards, the same count, the same RETURNING. */
static inline void kit_same(const char *schema, const char *table, const char *statement)
{
	struct mg_redo *redo = mg_redo_new();
	struct mg_write_result result;
	struct kit_rows want = { 0 }, have = { 0 };
	struct mg_error err;
	int64_t affected = 0;

	kit_must(kit_write(statement, redo, &result, &err), &err, statement);
	assert_string_equal(result.schema, schema);
	assert_string_equal(result.table, table);
	kit_sql("BEGIN");
	kit_must(kit_plain(statement, &want, &affected, &err), &err, statement);
	if (result.returning) {
		const struct mg_rows rows = {
			.begin = kit_rows_begin, .batch = kit_rows_batch, .lossless = true, .arg = &have
		};

		kit_must(mg_write_hand_out(&result, &rows, &err), &err, statement);
		if (strcmp(result.verb, "INSERT") != 0 || strstr(statement, "CONFLICT")) {
			kit_sort(&have.text);
			kit_sort(&want.text);
		}
		assert_string_equal(mg_sb_text(&have.text), mg_sb_text(&want.text));
	} else {
		sscanf(strchr(mg_sb_text(&want.text), '\n') + 1, "%ld", &affected);
	}
	if ((int64_t)result.rows != affected) {
		fail_msg("%s: %llu rows instead of %ld", statement, (unsigned long long)result.rows,
		         affected);
	}
	kit_apply(redo);
	for (size_t i = 0; i < kit_table_count; i++) {
		if (strcmp(kit_tables[i].name, table) == 0) {
			kit_compare(&kit_tables[i], statement);
		}
	}
	kit_sql("ROLLBACK");
	kit_rows_fini(&want);
	kit_rows_fini(&have);
	mg_write_result_fini(&result);
	mg_redo_free(redo);
}

/* The write fails; with `text`, the message begins so, else as DuckDB's does. */
static inline void kit_fails(const char *statement, const char *sqlstate, const char *text)
{
	struct mg_redo *redo = mg_redo_new();
	struct mg_write_result result;
	struct kit_rows want = { 0 };
	struct mg_error err, plain;
	int64_t affected;
	int code = kit_write(statement, redo, &result, &err);

	if (!code) {
		fail_msg("%s: did not fail", statement);
	}
	mg_error_clear(&plain);
	if (!text) {
		kit_sql("BEGIN");
		assert_int_not_equal(kit_plain(statement, &want, &affected, &plain), 0);
		kit_sql("ROLLBACK");
		text = plain.message;
	}
	if (strncmp(err.message, text, strlen(text)) != 0 || strcmp(err.sqlstate, sqlstate) != 0) {
		fail_msg("%s: %s \"%s\" instead of %s \"%s\"", statement, err.sqlstate, err.message,
		         sqlstate, text);
	}
	kit_rows_fini(&want);
	mg_write_result_fini(&result);
	mg_redo_free(redo);
}

#endif
