/*
 * test_replica.c - transactions over shards of a node: real files, a real log, and kills.
 */
#include "unit/shards_kit.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, KILLS = 6 };

static char *dir;
static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static struct mg_catalog *catalog;
static struct mg_replica *replica;

/* ---- a directory, and a process over it ---- */

static void live(void)
{
	const struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };

	ok(mg_catalog_load(&catalog, dir, &err));
	ok(mg_duck_open(&duck, &options, &err));
	ok(mg_duck_connect(duck, &conn, &err));
	ok(mg_duck_exec(conn,
	                "SET GLOBAL wal_autocheckpoint = '1TB'; PRAGMA disable_checkpoint_on_shutdown",
	                &err));
	for (uint32_t i = 0; i <= SHARDS; i++) {
		ok(mg_duck_execf(conn, &err,
		                 "ATTACH '%s/shards/%04u.duckdb' AS s%u (RECOVERY_MODE no_wal_writes)", dir,
		                 i, i));
	}
	ok(mg_replica_open(&replica,
	                   &(struct mg_replica_options){
						   .dir = dir, .duck = duck, .catalog = catalog, .shard_count = SHARDS },
	                   &err));
}

static void end_life(void)
{
	mg_replica_close(replica);
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	mg_catalog_free(catalog);
}

static int begin(void **state)
{
	(void)state;
	dir = make_directory();
	live();
	return 0;
}

static int end(void **state)
{
	(void)state;
	end_life();
	mg_tree_remove(dir, NULL);
	mg_free(dir);
	return 0;
}

/* ---- rows ---- */

static void create_table(void)
{
	struct mg_redo *redo = mg_redo_new();

	for (uint32_t i = 1; i <= SHARDS; i++) {
		mg_redo_create(redo, i, "main", "t", "k INTEGER, v VARCHAR");
	}
	ok(mg_replica_commit(replica, redo, &err));
	mg_redo_free(redo);
}

/* The same row in each of the shards. */
static struct mg_redo *row_everywhere(struct mg_duck_conn *on, int key)
{
	struct mg_redo *redo = mg_redo_new();
	char *select = mg_format("SELECT %d::INTEGER AS k, 'v%d' AS v, 7::USMALLINT AS slot", key, key);

	for (uint32_t i = 1; i <= SHARDS; i++) {
		add_rows(on, redo, i, MG_REDO_INSERT, select, 1);
	}
	mg_free(select);
	return redo;
}

static int64_t ask(const char *sql)
{
	int64_t value = -1;

	ok(mg_duck_int(conn, sql, &value, &err));
	return value;
}

/* ---- tests ---- */

static void test_a_commit_is_in_all_shards_and_stays(void **state)
{
	(void)state;
	struct mg_redo *redo;

	create_table();
	redo = row_everywhere(conn, 1);
	ok(mg_replica_commit(replica, redo, &err));
	mg_redo_free(redo);
	redo = mg_redo_new();
	add_rows(conn, redo, 2, MG_REDO_REPLACE,
	         "SELECT _mg_rid AS rid, 100::INTEGER AS k, 'new' AS v, 7::USMALLINT AS slot FROM s2.t",
	         1);
	ok(mg_replica_commit(replica, redo, &err));
	mg_redo_free(redo);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask("SELECT count(*) FROM s1.t WHERE k = 1"), 1);
		assert_int_equal(ask("SELECT count(*) FROM s2.t WHERE k = 100 AND v = 'new'"), 1);
		assert_int_equal(ask("SELECT count(*) FROM s2.t"), 1);
		assert_int_equal(ask("SELECT count(*) FROM s3.t WHERE k = 1"), 1);
		end_life();
		live();
	}
}

/* More than one entry holds: in parts, and all or nothing. */
static void test_a_large_write_goes_in_parts(void **state)
{
	(void)state;
	struct mg_redo *redo = mg_redo_new();

	create_table();
	for (int i = 0; i < 30; i++) {
		add_rows(conn, redo, 1, MG_REDO_INSERT,
		         "SELECT i::INTEGER AS k, repeat('x', 500) AS v, 7::USMALLINT AS slot "
		         "FROM range(2048) AS r(i)",
		         2048);
	}
	assert_true(mg_redo_size(redo, 1) > 16 << 20);
	ok(mg_replica_commit(replica, redo, &err));
	assert_int_equal(ask("SELECT count(*) FROM s1.t"), 30 * 2048);
	mg_redo_free(redo);
}

static void test_rows_for_a_table_that_went_go_nowhere(void **state)
{
	(void)state;
	struct mg_redo *redo, *drop = mg_redo_new();

	create_table();
	redo = row_everywhere(conn, 1);
	mg_redo_drop(drop, 2, "main", "t");
	ok(mg_replica_commit(replica, drop, &err));
	ok(mg_replica_commit(replica, redo, &err));
	assert_int_equal(ask("SELECT count(*) FROM s3.t"), 1);
	assert_int_equal(mg_replica_failed(replica, &err), 0);
	mg_redo_free(redo);
	mg_redo_free(drop);
}

static int add_table(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                     struct mg_error *error)
{
	(void)error;
	struct mg_table *tables = mg_arena_new_array(arena, struct mg_table, data->table_count + 1);

	memcpy(tables, data->tables, data->table_count * sizeof *tables);
	tables[data->table_count] = (struct mg_table){
		.schema = "main",
		.name = arg,
		.columns = mg_arena_new_array(arena, struct mg_column, 1),
		.column_count = 1,
		.definition = "",
	};
	tables[data->table_count].columns[0] = (struct mg_column){ .name = "a", .type = "INTEGER" };
	data->tables = tables;
	data->table_count++;
	return 0;
}

static void *change_catalog(void *arg)
{
	struct mg_error own = { 0 };

	return mg_catalog_change(catalog, add_table, arg, &own) == 0 ? arg : NULL;
}

static void test_the_catalog_changes_through_the_log(void **state)
{
	(void)state;
	char names[8][8];
	pthread_t threads[8];

	for (int i = 0; i < 8; i++) {
		(void)snprintf(names[i], sizeof names[i], "t%d", i);
		assert_int_equal(pthread_create(&threads[i], NULL, change_catalog, names[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		void *made;

		pthread_join(threads[i], &made);
		assert_ptr_equal(made, names[i]);
	}
	end_life();
	live();
	const struct mg_catalog_data *data = mg_catalog_take(catalog);

	assert_int_equal(data->table_count, 8);
	assert_true(data->applied > 0);
	mg_catalog_give(catalog, data);
}

/* ---- readers: a cut shows all of a transaction or nothing ---- */

static atomic_bool reading;

static void *read_cuts(void *arg)
{
	struct mg_duck_conn *own = NULL;
	struct mg_error error = { 0 };
	intptr_t torn = 0;

	(void)arg;
	assert_int_equal(mg_duck_connect(duck, &own, &error), 0);
	while (atomic_load(&reading)) {
		char *counts = NULL;

		mg_replica_cut_begin(replica);
		assert_int_equal(mg_duck_exec(own,
		                              "BEGIN; SELECT 1 FROM s1._mg.meta UNION ALL SELECT 1 FROM "
		                              "s2._mg.meta UNION ALL SELECT 1 FROM s3._mg.meta",
		                              &error),
		                 0);
		mg_replica_cut_end(replica);
		assert_int_equal(mg_duck_text(own,
		                              "SELECT ((SELECT count(*) FROM s1.t) = (SELECT count(*) FROM "
		                              "s2.t) AND (SELECT count(*) FROM s2.t) = (SELECT count(*) "
		                              "FROM s3.t))::VARCHAR",
		                              &counts, &error),
		                 0);
		torn += strcmp(counts, "true") != 0;
		mg_free(counts);
		assert_int_equal(mg_duck_exec(own, "ROLLBACK", &error), 0);
	}
	mg_duck_disconnect(own);
	return (void *)torn;
}

/* So many of them that there is always one: a commit comes through all the same. */
static void test_readers_see_all_of_a_transaction_or_nothing(void **state)
{
	(void)state;
	pthread_t readers[THREADS];

	create_table();
	atomic_store(&reading, true);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&readers[i], NULL, read_cuts, NULL), 0);
	}
	for (int i = 0; i < 60; i++) {
		struct mg_redo *redo = row_everywhere(conn, i);

		ok(mg_replica_commit(replica, redo, &err));
		mg_redo_free(redo);
	}
	atomic_store(&reading, false);
	for (int i = 0; i < THREADS; i++) {
		void *torn;

		pthread_join(readers[i], &torn);
		assert_null(torn);
	}
}

/* ---- kills ---- */

struct writer {
	int first, pipe;
};

static void *write_for_ever(void *arg)
{
	struct writer *writer = arg;
	struct mg_duck_conn *own = NULL;

	ok(mg_duck_connect(duck, &own, &err));
	for (int key = writer->first;; key += THREADS) {
		struct mg_error error = { 0 };
		struct mg_redo *redo = row_everywhere(own, key);

		if (mg_replica_commit(replica, redo, &error) != 0 ||
		    write(writer->pipe, &key, sizeof key) != sizeof key) {
			_exit(1);
		}
		mg_redo_free(redo);
	}
	return NULL;
}

/* Writes in a child, kills it in the middle, and returns how many keys it said to be written. */
static size_t write_and_die(int first, int *acked, size_t max)
{
	int ends[2];
	size_t count = 0;

	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct writer writers[THREADS];
		pthread_t thread;

		close(ends[0]);
		live();
		for (int i = 0; i < THREADS; i++) {
			writers[i] = (struct writer){ first + i, ends[1] };
			pthread_create(&thread, NULL, write_for_ever, &writers[i]);
		}
		pthread_join(thread, NULL);
		_exit(0);
	}
	close(ends[1]);
	while (count < 40 && read(ends[0], &acked[count], sizeof *acked) == sizeof *acked) {
		count++;
	}
	kill(child, SIGKILL);
	/* What it had said before it died counts as well. */
	while (count < max && read(ends[0], &acked[count], sizeof *acked) == sizeof *acked) {
		count++;
	}
	close(ends[0]);
	waitpid(child, NULL, 0);
	assert_true(count >= 40);
	return count;
}

static void test_what_was_acknowledged_survives_kills(void **state)
{
	(void)state;
	static int acked[KILLS * 1000];
	size_t count = 0;

#ifdef __SANITIZE_THREAD__
	skip(); /* a fork takes all locks of DuckDB's allocator, more than the sanitizer can count */
#endif
	create_table();
	for (int i = 0; i < KILLS; i++) {
		end_life(); /* the child holds the files */
		count += write_and_die(i * 100000, acked + count, sizeof acked / sizeof *acked - count);
		live();
		/* Whole transactions, each once. */
		assert_int_equal(ask("SELECT count(*) FROM s1.t FULL JOIN s2.t USING (k) FULL JOIN s3.t "
		                     "USING (k) WHERE s1.t.v IS NULL OR s2.t.v IS NULL OR s3.t.v IS NULL"),
		                 0);
		assert_int_equal(ask("SELECT count(*) - count(DISTINCT k) FROM s1.t"), 0);
		assert_int_equal(ask("SELECT count(*) - count(DISTINCT _mg_rid) FROM s1.t"), 0);
		for (size_t k = 0; k < count; k++) {
			char sql[96];

			(void)snprintf(sql, sizeof sql, "SELECT count(*) FROM s3.t WHERE k = %d", acked[k]);
			assert_int_equal(ask(sql), 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_commit_is_in_all_shards_and_stays, begin, end),
		cmocka_unit_test_setup_teardown(test_a_large_write_goes_in_parts, begin, end),
		cmocka_unit_test_setup_teardown(test_rows_for_a_table_that_went_go_nowhere, begin, end),
		cmocka_unit_test_setup_teardown(test_the_catalog_changes_through_the_log, begin, end),
		cmocka_unit_test_setup_teardown(test_readers_see_all_of_a_transaction_or_nothing, begin,
		                                end),
		cmocka_unit_test_setup_teardown(test_what_was_acknowledged_survives_kills, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
