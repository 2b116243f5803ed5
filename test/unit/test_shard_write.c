/*
 * test_shard_write.c - rows into the file of a shard by its writer, and what a crash leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/slot.h"
#include "os/file.h"
#include "store/shard_file.h"
#include "store/shard_write.h"
#include "unit/batch_kit.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARD 3

static char *dir;
static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static struct mg_shard_writer *writer;
static struct mg_error err;

#define ok(call)                                                             \
	do {                                                                     \
		int code_ = (call);                                                  \
		if (code_) {                                                         \
			fail_msg("%s: %d %s %s", #call, code_, err.message, err.detail); \
		}                                                                    \
	} while (0)

static char *path_of(const char *name)
{
	return mg_format("%s/%s", dir, name);
}

/* ---- a shard's file, and the life of the process over it ---- */

static void make_file(void)
{
	static const char *const names[] = { "k", "e", "l" };
	static const char *const types[] = { "INTEGER", "ENUM('low', 'high')", "VARCHAR[]" };
	const struct mg_shard_meta meta = { .cluster_id = "0123",
		                                .sample = "it's",
		                                .shard = SHARD,
		                                .shard_count = 4,
		                                .slot_last = 16383,
		                                .file_format = 1 };
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };
	struct mg_shard_file *file = NULL;
	char sha256[65];
	uint64_t bytes;
	char *shards = path_of("shards");

	ok(mg_dir_make(shards, 0700, &err));
	ok(mg_duck_open(&duck, &options, &err));
	ok(mg_shard_file_create(&file, duck, dir, &meta, &err));
	ok(mg_shard_file_table(file, "main", "t", names, types, 3, &err));
	ok(mg_shard_file_finish(file, sha256, &bytes, &err));
	mg_duck_close(duck);
	mg_free(shards);
}

/* Opens `name` of the directory as a server does. */
static void live(const char *name)
{
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };
	char *path = path_of(name);

	ok(mg_duck_open(&duck, &options, &err));
	ok(mg_duck_connect(duck, &conn, &err));
	ok(mg_duck_exec(conn, "SET GLOBAL wal_autocheckpoint = '1TB'", &err));
	ok(mg_shard_file_attach(conn, SHARD, path, &err));
	ok(mg_shard_writer_open(&writer, duck, "s3", &err));
	mg_free(path);
}

static void die(void)
{
	mg_shard_writer_close(writer);
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	writer = NULL;
}

static int begin(void **state)
{
	(void)state;
	char name[] = "/tmp/mg-shard-write-XXXXXX";

	dir = mg_strdup(mkdtemp(name));
	make_file();
	live("shards/0003.duckdb");
	return 0;
}

static int end(void **state)
{
	(void)state;
	die();
	mg_tree_remove(dir, NULL);
	mg_free(dir);
	return 0;
}

/* ---- batches ---- */

/* The rows of a statement, all in one batch. */
static struct batch rows_of(const char *select)
{
	struct batch batch;

	ok(batch_make(&batch, conn, select, &err));
	assert_non_null(batch.rows);
	return batch;
}

static void insert(const char *select)
{
	struct batch batch = rows_of(select);

	ok(mg_shard_writer_insert(writer, "main", "t", batch.schema, batch.rows, &err));
	batch_fini(&batch);
}

static void replace(const char *select)
{
	struct batch batch = rows_of(select);

	ok(mg_shard_writer_replace(writer, "main", "t", batch.schema, batch.rows, &err));
	batch_fini(&batch);
}

static void erase(const char *select)
{
	struct batch batch = rows_of(select);

	ok(mg_shard_writer_delete(writer, "main", "t", batch.schema, batch.rows, &err));
	batch_fini(&batch);
}

static void expect(const char *sql, const char *want)
{
	char *text = NULL;

	ok(mg_duck_text(conn, sql, &text, &err));
	assert_non_null(text);
	assert_string_equal(text, want);
	mg_free(text);
}

static const char all_rows[] =
	"SELECT string_agg(concat_ws(':', _mg_rid & 65535, _mg_slot, k, e, l), ' ' ORDER BY _mg_rid) "
	"FROM s3.main.t";

/* ---- tests ---- */

static void test_rows_come_change_and_go(void **state)
{
	(void)state;
	ok(mg_shard_writer_begin(writer, &err));
	insert("SELECT 1 AS k, 'low'::ENUM('low', 'high') AS e, ['a', NULL] AS l, 7::USMALLINT AS slot "
	       "UNION ALL SELECT 2, NULL, [], 8::USMALLINT");
	insert("SELECT 3 AS k, 'high'::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, 9::USMALLINT "
	       "AS slot");
	ok(mg_shard_writer_commit(writer, 5, 1, &err));
	expect(all_rows, "0:7:1:low:[a, NULL] 1:8:2:[] 2:9:3:high");
	assert_int_equal(mg_shard_writer_applied(writer), 5);

	/* In one transaction: what was just inserted is replaced, then deleted. */
	ok(mg_shard_writer_begin(writer, &err));
	insert("SELECT 4 AS k, 'low'::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, 1::USMALLINT AS "
	       "slot");
	replace("SELECT (3::BIGINT << 48) + i AS rid, 10 + i::INTEGER AS k, "
	        "'high'::ENUM('low', 'high') AS e, ['z'] AS l, 7::USMALLINT AS slot "
	        "FROM (VALUES (0), (3)) AS v(i)");
	erase("SELECT (3::BIGINT << 48) + 1 AS rid");
	ok(mg_shard_writer_commit(writer, 6, 1, &err));
	expect(all_rows, "0:7:10:high:[z] 2:9:3:high 3:7:13:high:[z]");
	expect("SELECT concat_ws(' ', applied_index, next_rid & 65535, shard, sample, cluster_id) "
	       "FROM s3._mg.meta",
	       "6 4 3 it's 0123");
}

static void test_a_rollback_leaves_nothing(void **state)
{
	(void)state;
	ok(mg_shard_writer_begin(writer, &err));
	insert("SELECT 1 AS k, NULL::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, 7::USMALLINT AS "
	       "slot");
	mg_shard_writer_rollback(writer);
	expect("SELECT count(*)::VARCHAR FROM s3.main.t", "0");
	ok(mg_shard_writer_begin(writer, &err));
	insert("SELECT 2 AS k, NULL::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, 7::USMALLINT AS "
	       "slot");
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	expect(all_rows, "0:7:2"); /* the id was given back */
}

static void test_tables_come_and_go(void **state)
{
	(void)state;
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_create(writer, "other", "x#1", "\"a b\" INTEGER, c DECIMAL(5, 2)", &err));
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	expect("SELECT count(*)::VARCHAR FROM s3.other.\"x#1\"", "0");
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_drop(writer, "other", "x#1", &err));
	ok(mg_shard_writer_drop(writer, "other", "x#1", &err));
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	expect("SELECT count(*)::VARCHAR FROM duckdb_tables() WHERE schema_name = 'other'", "0");
}

/* ---- rows that are read again ---- */

struct seen {
	uint64_t rows, batches, largest;
	struct mg_buf *schema; /* of the first batch; borrowed */
	bool same_schema;
};

/* As those who publish do: each batch goes into another table of the same file at once. */
static int see(void *arg, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch, uint32_t rows,
               struct mg_error *error)
{
	struct seen *seen = arg;

	seen->same_schema = !seen->schema || (seen->same_schema && seen->schema == ipc_schema);
	seen->schema = ipc_schema;
	seen->rows += rows;
	seen->batches++;
	seen->largest = rows > seen->largest ? rows : seen->largest;
	return mg_shard_writer_insert(writer, "main", "t", ipc_schema, ipc_batch, error);
}

static void stage(int from, int to)
{
	char *select = mg_format("SELECT i::INTEGER AS k, 'low'::ENUM('low', 'high') AS e, "
	                         "[i::VARCHAR, NULL] AS l, (i %% 9)::USMALLINT AS slot "
	                         "FROM range(%d, %d) t(i)",
	                         from, to);
	struct batch batch = rows_of(select);

	ok(mg_shard_writer_insert(writer, "_mg_staging", "0#1", batch.schema, batch.rows, &err));
	batch_fini(&batch);
	mg_free(select);
}

/* Committed before and in this transaction, with ids of other rows in between. */
static void test_rows_are_read_in_their_order(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_create(writer, "_mg_staging", "0#1",
	                          "k INTEGER, e ENUM('low', 'high'), l VARCHAR[]", &err));
	for (int i = 0; i < 4; i++) {
		stage(2000 * i, 2000 * (i + 1));
		insert("SELECT -1 AS k, NULL::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, "
		       "7::USMALLINT AS slot");
	}
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	ok(mg_shard_writer_begin(writer, &err));
	stage(8000, 9000);
	ok(mg_shard_writer_read(writer, "_mg_staging", "0#1", see, &seen, &err));
	ok(mg_shard_writer_drop(writer, "_mg_staging", "0#1", &err));
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	assert_int_equal(seen.rows, 9000);
	assert_true(seen.batches > 1 && seen.largest <= 2048);
	assert_true(seen.same_schema);
	expect("SELECT concat_ws(' ', count(*), count(DISTINCT _mg_rid), bool_and(e = 'low'), bool_and("
	       "l = [k::VARCHAR, NULL]), bool_and(_mg_slot = k % 9)) FROM s3.main.t WHERE k >= 0",
	       "9000 9000 true true true");
	expect("SELECT count(*)::VARCHAR FROM (SELECT k, lag(k) OVER (ORDER BY _mg_rid) AS before FROM "
	       "s3.main.t WHERE k >= 0) WHERE k <> before + 1",
	       "0");
}

/* Bytes that the program has, without the engine's. */
static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

struct wide {
	size_t before, most, rows;
};

static int see_wide(void *arg, struct mg_buf *ipc_schema, struct mg_buf *ipc_batch, uint32_t rows,
                    struct mg_error *error)
{
	struct wide *wide = arg;
	size_t now = allocated();

	wide->most = now > wide->before + wide->most ? now - wide->before : wide->most;
	wide->rows += rows;
	return mg_shard_writer_insert(writer, "main", "w", ipc_schema, ipc_batch, error);
}

/* Fewer rows than a page may have, and far more bytes. */
static void test_wide_rows_are_not_all_in_memory(void **state)
{
	struct wide wide = { 0 };

	(void)state;
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_create(writer, "_mg_staging", "0#1", "k INTEGER, v VARCHAR", &err));
	ok(mg_shard_writer_create(writer, "main", "w", "k INTEGER, v VARCHAR", &err));
	for (int i = 0; i < 50; i++) {
		char *select = mg_format("SELECT i::INTEGER AS k, repeat(chr(65 + (i %% 26)::INTEGER), "
		                         "2 << 20) AS v, 0::USMALLINT AS slot FROM range(%d, %d) t(i)",
		                         i, i + 1);
		struct batch batch = rows_of(select);

		ok(mg_shard_writer_insert(writer, "_mg_staging", "0#1", batch.schema, batch.rows, &err));
		batch_fini(&batch);
		mg_free(select);
		insert("SELECT -1 AS k, NULL::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, "
		       "7::USMALLINT AS slot"); /* ids in between */
	}
	wide.before = allocated();
	ok(mg_shard_writer_read(writer, "_mg_staging", "0#1", see_wide, &wide, &err));
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	assert_int_equal(wide.rows, 50);
	assert_true(wide.most < 64u << 20);
	expect("SELECT concat_ws(' ', count(*), count(DISTINCT k), sum(k), bool_and(v = "
	       "repeat(chr(65 + k % 26), 2 << 20))) FROM s3.main.w",
	       "50 50 1225 true");
}

static void test_an_empty_table_gives_no_rows(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_read(writer, "main", "t", see, &seen, &err));
	mg_shard_writer_rollback(writer);
	assert_int_equal(seen.rows, 0);
}

/* ---- rows that are moved ---- */

static void stage_beside(int from, int to)
{
	char *select = mg_format("SELECT i::INTEGER AS k, 'high'::ENUM('low', 'high') AS e, "
	                         "[i::VARCHAR] AS l, (i %% 9)::USMALLINT AS slot "
	                         "FROM range(%d, %d) t(i)",
	                         from, to);
	struct batch batch = rows_of(select);

	ok(mg_shard_writer_insert(writer, "main", "0#1", batch.schema, batch.rows, &err));
	batch_fini(&batch);
	mg_free(select);
}

static void begin_staging(void)
{
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_create(writer, "main", "0#1",
	                          "k INTEGER, e ENUM('low', 'high'), l VARCHAR[]", &err));
	stage_beside(0, 2000);
}

static const char moved_rows[] =
	"SELECT concat_ws(' ', count(*), sum(k), min(_mg_rid) & 65535, max(_mg_rid) & 65535, "
	"bool_and(l = [k::VARCHAR]), bool_and(_mg_slot = k % 9)) FROM s3.main.t WHERE e = 'high'";
/* A table that has been replaced is another one for the engine. */
static const char table_oid[] = "SELECT table_oid::VARCHAR FROM duckdb_tables() WHERE "
								"database_name = 's3' AND table_name = '%s'";

static char *oid_of(const char *table)
{
	char *sql = mg_format(table_oid, table), *oid = NULL;

	ok(mg_duck_text(conn, sql, &oid, &err));
	mg_free(sql);
	return oid;
}

/* Their rows are in the file already, and are not written again. */
static void test_a_table_without_rows_is_replaced(void **state)
{
	struct mg_duck_conn *reader = NULL;

	(void)state;
	begin_staging();
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	ok(mg_duck_connect(duck, &reader, &err));
	ok(mg_duck_exec(reader, "BEGIN; SELECT count(*) FROM s3.main.t", &err));
	char *empty = oid_of("t");

	ok(mg_shard_writer_begin(writer, &err));
	stage_beside(2000, 3000); /* in the same transaction, too */
	ok(mg_shard_writer_move(writer, "main", "0#1", "t", &err));
	assert_false(mg_shard_writer_has(writer, "main", "0#1"));
	insert("SELECT 7 AS k, 'low'::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, 7::USMALLINT AS "
	       "slot");
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	expect(moved_rows, "3000 4498500 0 2999 true true");
	expect("SELECT concat_ws(' ', count(*), max(_mg_rid) & 65535) FROM s3.main.t", "3001 3000");
	char *now = oid_of("t");

	assert_string_not_equal(now, empty);
	int64_t seen = -1;

	ok(mg_duck_int(reader, "SELECT count(*) FROM s3.main.t", &seen, &err)); /* as it began */
	assert_int_equal(seen, 0);
	mg_duck_disconnect(reader);
	ok(mg_shard_writer_checkpoint(writer, NULL, 0, NULL, &err));
	expect("SELECT string_agg(table_name, ' ') FROM duckdb_tables() WHERE database_name = 's3' AND "
	       "schema_name = 'main'",
	       "t");
	mg_free(now);
	mg_free(empty);
}

static void test_behind_rows_that_are_there_others_are_put(void **state)
{
	(void)state;
	begin_staging();
	insert("SELECT 7 AS k, 'low'::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, 7::USMALLINT AS "
	       "slot");
	char *before = oid_of("t");

	ok(mg_shard_writer_move(writer, "main", "0#1", "t", &err));
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	char *now = oid_of("t");

	assert_string_equal(now, before);
	expect(moved_rows, "2000 1999000 0 1999 true true");
	expect("SELECT concat_ws(' ', count(*), max(_mg_rid) & 65535) FROM s3.main.t", "2001 2000");
	expect("SELECT count(*)::VARCHAR FROM duckdb_tables() WHERE table_name = '0#1'", "0");
	mg_free(now);
	mg_free(before);
}

static void test_a_move_that_is_taken_back_leaves_both_tables(void **state)
{
	(void)state;
	begin_staging();
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_move(writer, "main", "0#1", "t", &err));
	mg_shard_writer_rollback(writer);
	assert_true(mg_shard_writer_has(writer, "main", "0#1"));
	expect("SELECT concat_ws(' ', (SELECT count(*) FROM s3.main.t), (SELECT count(*) FROM "
	       "s3.main.\"0#1\"))",
	       "0 2000");
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_move(writer, "main", "0#1", "t", &err));
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	expect(moved_rows, "2000 1999000 0 1999 true true");
}

/* Rows for a table that is gone go nowhere; and types that differ are not taken over. */
static void test_a_move_to_another_table_or_none(void **state)
{
	(void)state;
	begin_staging();
	ok(mg_shard_writer_create(writer, "main", "u",
	                          "k BIGINT, e ENUM('low', 'high'), l VARCHAR[]", &err));
	ok(mg_shard_writer_move(writer, "main", "0#1", "u", &err));
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	expect("SELECT concat_ws(' ', count(*), typeof(min(k))) FROM s3.main.u", "2000 BIGINT");
	begin_staging();
	ok(mg_shard_writer_move(writer, "main", "0#1", "gone", &err));
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	expect("SELECT count(*)::VARCHAR FROM duckdb_tables() WHERE table_name IN ('0#1', 'gone')",
	       "0");
}

/* What a kill leaves is a copy of the file as it lies there: DuckDB writes nothing to it between
 * checkpoints. */
static void crash(const char *copy)
{
	char *command = mg_format("cp '%s/shards/0003.duckdb' '%s/%s'", dir, dir, copy);

	assert_int_equal(system(command), 0);
	die();
	live(copy);
	mg_free(command);
}

static void test_a_crash_leaves_the_last_checkpoint(void **state)
{
	(void)state;
	struct mg_buf *pending = NULL;

	ok(mg_shard_writer_begin(writer, &err));
	insert("SELECT i::INTEGER AS k, NULL::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, "
	       "7::USMALLINT AS slot FROM range(2000) AS r(i)");
	ok(mg_shard_writer_commit(writer, 9, 1, &err));
	ok(mg_shard_writer_checkpoint(writer, "in doubt", 8, NULL, &err));
	ok(mg_shard_writer_begin(writer, &err));
	erase("SELECT (3::BIGINT << 48) + i AS rid FROM range(1000) AS r(i)");
	ok(mg_shard_writer_commit(writer, 10, 1, &err));
	expect("SELECT count(*)::VARCHAR FROM s3.main.t", "1000");
	crash("copy-1.duckdb");
	assert_int_equal(mg_shard_writer_applied(writer), 9);
	expect("SELECT count(*)::VARCHAR FROM s3.main.t", "2000");
	ok(mg_shard_writer_pending(writer, &pending, &err));
	assert_non_null(pending);
	assert_int_equal(pending->size, 8);
	assert_memory_equal(pending->data, "in doubt", 8);
	mg_buf_unref(pending);
}

static void test_a_crash_before_and_after_a_move(void **state)
{
	(void)state;
	begin_staging();
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	ok(mg_shard_writer_checkpoint(writer, NULL, 0, NULL, &err));
	ok(mg_shard_writer_begin(writer, &err));
	ok(mg_shard_writer_move(writer, "main", "0#1", "t", &err));
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	crash("copy-1.duckdb");
	assert_int_equal(mg_shard_writer_applied(writer), 1);
	assert_true(mg_shard_writer_has(writer, "main", "0#1"));
	expect("SELECT count(*)::VARCHAR FROM s3.main.t", "0");
	ok(mg_shard_writer_begin(writer, &err)); /* the log brings it again */
	ok(mg_shard_writer_move(writer, "main", "0#1", "t", &err));
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	ok(mg_shard_writer_checkpoint(writer, NULL, 0, NULL, &err));
	die();
	live("copy-1.duckdb");
	assert_false(mg_shard_writer_has(writer, "main", "0#1"));
	expect(moved_rows, "2000 1999000 0 1999 true true");
}

static void test_nothing_pending_is_nothing(void **state)
{
	(void)state;
	struct mg_buf *pending = NULL;

	ok(mg_shard_writer_checkpoint(writer, "x", 1, NULL, &err));
	ok(mg_shard_writer_checkpoint(writer, NULL, 0, NULL, &err));
	ok(mg_shard_writer_pending(writer, &pending, &err));
	assert_null(pending);
}

static void test_readers_do_not_hold_up_a_checkpoint(void **state)
{
	(void)state;
	struct mg_duck_conn *reader = NULL;

	ok(mg_shard_writer_begin(writer, &err));
	insert("SELECT i::INTEGER AS k, NULL::ENUM('low', 'high') AS e, NULL::VARCHAR[] AS l, "
	       "7::USMALLINT AS slot FROM range(2000) AS r(i)");
	ok(mg_shard_writer_commit(writer, 1, 1, &err));
	ok(mg_duck_connect(duck, &reader, &err));
	ok(mg_duck_exec(reader, "BEGIN; SELECT count(*) FROM s3.main.t", &err));
	ok(mg_shard_writer_begin(writer, &err));
	replace("SELECT (3::BIGINT << 48) + i AS rid, 0::INTEGER AS k, NULL::ENUM('low', 'high') AS e, "
	        "NULL::VARCHAR[] AS l, 7::USMALLINT AS slot FROM range(100) AS r(i)");
	ok(mg_shard_writer_commit(writer, 2, 1, &err));
	ok(mg_shard_writer_checkpoint(writer, NULL, 0, NULL, &err));
	mg_duck_disconnect(reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows_come_change_and_go, begin, end),
		cmocka_unit_test_setup_teardown(test_a_rollback_leaves_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_tables_come_and_go, begin, end),
		cmocka_unit_test_setup_teardown(test_rows_are_read_in_their_order, begin, end),
		cmocka_unit_test_setup_teardown(test_wide_rows_are_not_all_in_memory, begin, end),
		cmocka_unit_test_setup_teardown(test_an_empty_table_gives_no_rows, begin, end),
		cmocka_unit_test_setup_teardown(test_a_table_without_rows_is_replaced, begin, end),
		cmocka_unit_test_setup_teardown(test_behind_rows_that_are_there_others_are_put, begin, end),
		cmocka_unit_test_setup_teardown(test_a_move_that_is_taken_back_leaves_both_tables, begin,
	                                    end),
		cmocka_unit_test_setup_teardown(test_a_move_to_another_table_or_none, begin, end),
		cmocka_unit_test_setup_teardown(test_a_crash_before_and_after_a_move, begin, end),
		cmocka_unit_test_setup_teardown(test_a_crash_leaves_the_last_checkpoint, begin, end),
		cmocka_unit_test_setup_teardown(test_nothing_pending_is_nothing, begin, end),
		cmocka_unit_test_setup_teardown(test_readers_do_not_hold_up_a_checkpoint, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
