/*
 * test_replica.c - transactions over shards of a node: real files, a real log, and kills.
 */
#include "os/clock.h"
#include "replica/replica_int.h"
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
		char *path = mg_format("%s/shards/%04u.duckdb", dir, i);

		ok(mg_shard_file_attach(conn, i, path, &err));
		mg_free(path);
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

/* All that was acknowledged: that may be a little more than is applied. */
static void see_all(void)
{
	static const uint32_t shards[] = { 0, 1, 2, 3 };

	ok(mg_replica_read_barrier(replica, shards, SHARDS + 1, &err));
}

static int64_t ask(const char *sql)
{
	int64_t value = -1;

	see_all();
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
	see_all();
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
		static const uint32_t shards[] = { 1, 2, 3 };
		struct mg_cut cut = { .shards = shards, .count = 3 };
		char *counts = NULL;
		uint64_t waited;

		assert_int_equal(mg_cuts_begin(mg_replica_cuts(replica), &cut, 60000, NULL, NULL, &waited,
		                               &error),
		                 0);
		assert_int_equal(mg_duck_exec(own,
		                              "BEGIN; SELECT 1 FROM s1._mg.meta UNION ALL SELECT 1 FROM "
		                              "s2._mg.meta UNION ALL SELECT 1 FROM s3._mg.meta",
		                              &error),
		                 0);
		mg_cuts_end(mg_replica_cuts(replica));
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

/* ---- a lane that takes long ---- */

/* Nothing is published while somebody touches the shards. */
static void *hold_lanes(void *arg)
{
	static const uint32_t shards[] = { 1, 2, 3 };
	struct mg_cut cut = { .shards = shards, .count = 3 };
	struct mg_error error;
	uint64_t waited;
	atomic_int *step = arg;

	assert_int_equal(
		mg_cuts_begin(mg_replica_cuts(replica), &cut, 1000, NULL, NULL, &waited, &error), 0);
	atomic_store(step, 1);
	while (atomic_load(step) < 2) {
		mg_sleep_ms(1);
	}
	mg_sleep_ms(500); /* many times the patience of who reads */
	mg_cuts_end(mg_replica_cuts(replica));
	return NULL;
}

static bool yes(void *arg)
{
	(void)arg;
	return true;
}

static void test_a_reader_waits_while_a_lane_is_at_work(void **state)
{
	static const uint32_t shards[] = { 1, 2, 3 };
	struct mg_patience patience = { .ms = 20 };
	atomic_int step = 0;
	pthread_t holder;

	(void)state;
	create_table();
	see_all();
	assert_int_equal(pthread_create(&holder, NULL, hold_lanes, &step), 0);
	while (atomic_load(&step) < 1) {
		mg_sleep_ms(1);
	}
	struct mg_redo *redo = row_everywhere(conn, 1);

	ok(mg_replica_commit(replica, redo, &err)); /* acknowledged, and not applied */
	mg_redo_free(redo);
	assert_int_equal(mg_replica_try_barrier(replica, shards, 3, &patience, &err), MG_E_TIMEOUT);
	patience = (struct mg_patience){ .ms = 60000, .patient = true, .stopped = yes };
	assert_int_equal(mg_replica_try_barrier(replica, shards, 3, &patience, &err), MG_E_CANCELLED);
	assert_int_equal(
		mg_replica_long_barrier(replica, shards, 3, yes, NULL, &err), MG_E_CANCELLED);
	patience = (struct mg_patience){ .ms = 100, .patient = true };
	atomic_store(&step, 2);
	ok(mg_replica_try_barrier(replica, shards, 3, &patience, &err));
	pthread_join(holder, NULL);
	assert_int_equal(ask("SELECT count(*) FROM s1.t"), 1);
}

/* ---- a transaction that is here in part ---- */

static bool meet(uint32_t a, uint32_t b)
{
	const uint32_t shards[] = { a, b };
	struct mg_cut cut = { .shards = shards, .count = 2 };
	uint64_t waited;
	int code = mg_cuts_begin(mg_replica_cuts(replica), &cut, 0, NULL, NULL, &waited, &err);

	if (!code) {
		mg_cuts_end(mg_replica_cuts(replica));
	}
	return code == 0;
}

/* As it is, or as the version of the log before had it: without what follows the transaction. */
static void put(uint32_t shard, const struct mg_command *head, const void *rest, size_t size,
                bool old)
{
	uint8_t bytes[4096];
	struct mg_out out = mg_out(bytes, sizeof bytes);
	struct mg_wait_for wait;

	mg_command_encode_head(&out, head);
	bool numbered = head->kind == MG_COMMAND_DECIDE || head->kind == MG_COMMAND_COMMIT;

	out.size -= old && numbered ? sizeof head->number : 0;
	bytes[0] = old ? 2 : bytes[0];
	mg_out_bytes(&out, old && numbered ? NULL : rest, old && numbered ? 0 : size);
	mg_wait_init(&wait);
	ok(mg_replica__propose(replica, mg_replica__group(shard), MG_TRY_ONCE, NULL, bytes, out.size,
	                       &wait, &err));
	ok(mg_wait_all(&wait, &err));
	ok(mg_replica__reach(replica, &wait, 60000, &err));
	mg_wait_fini(&wait);
}

/* A row in shards 1, 2 and 3, prepared, decided in 1 and committed in 2: then the coordinator is
 * gone. */
static void commit_in_part(bool old)
{
	static const uint32_t shards[] = { 1, 2, 3 };
	struct mg_command head = { .kind = MG_COMMAND_PREPARE,
		                       .epoch = mg_replica_epoch(replica),
		                       .transaction = { { 9 } },
		                       .home = 1,
		                       .commit = true,
		                       .number = 1000 };
	struct mg_redo *redo = row_everywhere(conn, 1);

	for (uint32_t i = 1; i <= 3; i++) {
		uint8_t bytes[2048];
		struct mg_out out = mg_out(bytes, sizeof bytes);

		mg_redo_encode(redo, i, &out);
		put(i, &head, bytes, out.size, old);
	}
	mg_redo_free(redo);
	head.kind = MG_COMMAND_DECIDE;
	put(1, &head, shards, sizeof shards, old);
	head.kind = MG_COMMAND_COMMIT;
	put(2, &head, shards, sizeof shards, old);
	assert_int_equal(ask("SELECT count(*) FROM s1.t"), 1);
	assert_int_equal(ask("SELECT count(*) FROM s2.t"), 1);
	assert_int_equal(ask("SELECT count(*) FROM s3.t"), 0);
}

static void check_part(bool old)
{
	create_table();
	assert_true(meet(1, 3));
	commit_in_part(old);
	/* What 1 and 2 share, too: who reads 3 later must see what was seen here. */
	assert_false(meet(1, 2));
	assert_false(meet(1, 3));
	assert_false(meet(2, 3));
	assert_false(meet(0, 2));
	/* The next life ends it. */
	end_life();
	live();
	assert_int_equal(ask("SELECT count(*) FROM s3.t"), 1);
	for (uint32_t i = 0; i < 3; i++) {
		assert_true(meet(i, 3));
	}
	/* And goes on behind it. */
	struct mg_redo *redo = row_everywhere(conn, 2);

	ok(mg_replica_commit(replica, redo, &err));
	mg_redo_free(redo);
	see_all();
	assert_true(meet(1, 2) && meet(2, 3));
	assert_true(old || mg_cuts_highest(mg_replica_cuts(replica)) > 1000);
}

static void test_a_transaction_that_is_here_in_part_is_not_read(void **state)
{
	(void)state;
	check_part(false);
}

/* From a log whose commits have no numbers: which shards belong together is not known. */
static void test_a_transaction_of_an_older_log_is_not_read_in_part(void **state)
{
	(void)state;
	check_part(true);
}

/* A checkpoint of one shard may be older than that of another: what belongs together is known from
 * the files alone. */
static void test_checkpoints_know_what_belongs_together(void **state)
{
	(void)state;
	struct mg_cuts *cuts = mg_cuts_new(SHARDS + 1);
	uint32_t shards[] = { 1, 2, 3 };

	create_table();
	for (uint32_t i = 1; i <= 3; i++) {
		ok(mg_replica_checkpoint(replica, i, &err));
	}
	struct mg_redo *redo = row_everywhere(conn, 1);

	ok(mg_replica_commit(replica, redo, &err));
	mg_redo_free(redo);
	ok(mg_replica_checkpoint(replica, 1, &err));
	/* As a start sees them, before it applies its log. */
	char *copy = mg_format("%s/copy", dir);

	ok(mg_dir_make(copy, 0700, &err));
	for (uint32_t i = 0; i < 3; i++) {
		struct mg_shard_sm *sm = NULL;
		char *from = mg_format("%s/shards/%04u.duckdb", dir, shards[i]);
		char *to = mg_format("%s/%u.duckdb", copy, shards[i]);
		struct mg_duck *own = NULL;
		struct mg_duck_conn *on = NULL;
		const struct mg_duck_options options = { .threads = 1, .lossless_arrow = true };

		ok(mg_file_copy(from, to, &err));
		ok(mg_duck_open(&own, &options, &err));
		ok(mg_duck_connect(own, &on, &err));
		ok(mg_duck_execf(on, &err, "ATTACH '%s' AS s%u", to, shards[i]));
		ok(mg_shard_sm_open(&sm,
		                    &(struct mg_shard_sm_options){ .duck = own,
		                                                   .shard = shards[i],
		                                                   .group = shards[i] + 1,
		                                                   .cuts = cuts },
		                    &err));
		mg_shard_sm_free(sm);
		mg_duck_disconnect(on);
		mg_duck_close(own);
		mg_free(from);
		mg_free(to);
	}
	for (size_t i = 0; i < 2; i++) { /* 1 and 2; then 2 and 3 */
		struct mg_cut cut = { .shards = shards + i, .count = 2 };
		bool begun = mg_cuts_try_begin(cuts, &cut, 0);

		assert_int_equal(begun, i == 1);
		if (begun) {
			mg_cuts_end(cuts);
		} else {
			mg_cuts_give_up(cuts, &cut);
		}
	}
	mg_cuts_free(cuts);
	mg_free(copy);
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
		cmocka_unit_test_setup_teardown(test_a_reader_waits_while_a_lane_is_at_work, begin, end),
		cmocka_unit_test_setup_teardown(test_a_transaction_that_is_here_in_part_is_not_read, begin,
		                                end),
		cmocka_unit_test_setup_teardown(test_a_transaction_of_an_older_log_is_not_read_in_part,
		                                begin, end),
		cmocka_unit_test_setup_teardown(test_checkpoints_know_what_belongs_together, begin, end),
		cmocka_unit_test_setup_teardown(test_what_was_acknowledged_survives_kills, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
