/*
 * test_blind.c - INSERTs that join those of others: each is stored as plain DuckDB stores it, whole
 * or not at all; what is not surely the same is not taken; locks and many threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "write_kit.h"

#include "exec/blind.h"
#include "replica/replica.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static const struct kit_table tables[] = {
	KIT_PLAIN_TABLES,
	KIT_ODD_TABLES,
	{ .schema = "main",
	  .name = "plain",
	  .columns = { { "k", "BIGINT" },
	               { "s", "VARCHAR", true },
	               { "d", "DECIMAL(10,2)" },
	               { "f", "DOUBLE" },
	               { "b", "BOOLEAN" },
	               { "i", "INTEGER" },
	               { "dt", "DATE" } },
	  .definition =
	      "k BIGINT, s VARCHAR NOT NULL, d DECIMAL(10,2), f DOUBLE, b BOOLEAN, i INTEGER, dt DATE",
	  .keys = { "k", "s" },
	  .id = 14 },
	{ .schema = "main",
	  .name = "pk",
	  .columns = { { "k", "BIGINT", true } },
	  .keys = { "k" },
	  .primary_key = { "k" },
	  .id = 15 },
	{ .schema = "main",
	  .name = "def",
	  .columns = { { "k", "BIGINT" }, { "a", "INTEGER" } },
	  .definition = "k BIGINT, a INTEGER DEFAULT 7",
	  .keys = { "k" },
	  .id = 16 },
	{ .schema = "main",
	  .name = "many",
	  .columns = { { "k", "BIGINT" } },
	  .keys = { "k" },
	  .id = 17 },
};

static int open_all(void **state)
{
	(void)state;
	kit_open(tables, sizeof tables / sizeof *tables);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	kit_close();
	return 0;
}

/* All rows as one text, of the engine or of plain DuckDB. */
static char *rows_of(const char *table, bool engine)
{
	static const uint32_t shards[] = { 0, 1, 2, 3 };
	char *sql = mg_format("SELECT coalesce(string_agg(r, '\n' ORDER BY r), '') FROM (SELECT "
	                      "t::VARCHAR AS r FROM main.\"%s\" t)",
	                      table);
	struct mg_duck_conn *conn = kit_conn;
	struct mg_error err;
	char *out = NULL;

	if (engine) {
		kit_must(mg_replica_read_barrier(mg_engine_replica(kit_engine), shards, 4, &err), &err,
		         "barrier");
		kit_must(mg_duck_connect(mg_engine_duck(kit_engine), &conn, &err), &err, "connect");
	}
	kit_must(mg_duck_text(conn, sql, &out, &err), &err, sql);
	if (engine) {
		mg_duck_disconnect(conn);
	}
	mg_free(sql);
	return out;
}

static void same_rows(const char *table)
{
	char *stored = rows_of(table, true), *plain = rows_of(table, false);

	assert_string_equal(stored, plain);
	mg_free(stored);
	mg_free(plain);
}

struct end {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t ended, failed;
};

static void on_end(void *arg, const struct mg_error *err)
{
	struct end *end = arg;

	pthread_mutex_lock(&end->lock);
	end->ended++;
	end->failed += err->code != 0;
	pthread_cond_signal(&end->changed);
	pthread_mutex_unlock(&end->lock);
}

static void await(struct end *end, size_t count)
{
	pthread_mutex_lock(&end->lock);
	while (end->ended < count) {
		pthread_cond_wait(&end->changed, &end->lock);
	}
	pthread_mutex_unlock(&end->lock);
	assert_int_equal(end->failed, 0);
}

/* Taken, and over. */
static bool put(const char *sql, const char *params, uint64_t *rows)
{
	struct end end = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };

	if (params) {
		kit_must(mg_json_parse(arena, params, strlen(params), &json, &err), &err, params);
	}
	bool taken =
		mg_blind_put(mg_engine_blind(kit_engine), mg_str(sql), json, rows, on_end, &end);

	if (taken) {
		await(&end, 1);
	}
	mg_arena_free(arena);
	return taken;
}

static void test_stored_as_duckdb_stores_it(void **state)
{
	static const struct {
		const char *sql, *params, *plain; /* plain: what DuckDB is given */
		uint64_t rows;
	} cases[] = {
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)",
		  "[1, \"a\", 2, 0.5, true, -7, \"2024-02-29\"]",
		  "(1, 'a', 2, 0.5, true, -7, '2024-02-29')", 1 },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)",
		  "[null, \"it's \\\"q\\\" \\u00e4\", null, 1e300, false, null, null]",
		  "(NULL, 'it''s \"q\" ä', NULL, CAST('1e300' AS DOUBLE), false, NULL, NULL)", 1 },
		{ "insert into main.plain (s, k) values (?, ?), ('lit', -5), (?, 6);",
		  "[\"x\", 999999999999999999, \"\"]",
		  "(999999999999999999, 'x', NULL, NULL, NULL, NULL, NULL), (-5, 'lit', NULL, NULL, NULL, "
		  "NULL, NULL), (6, '', NULL, NULL, NULL, NULL, NULL)",
		  3 },
		{ "INSERT INTO plain VALUES (7, 'seven', 1.25, -0.5, NULL, 7, '1970-01-01')", NULL,
		  "(7, 'seven', 1.25, -0.5, NULL, 7, '1970-01-01')", 1 },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?) -- again, bound already",
		  "[2, \"b\", 3, 7, null, 0, null]", "(2, 'b', 3, 7, NULL, 0, NULL)", 1 },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?) -- again, bound already",
		  "[3, \"b\", 3, 7, null, 0, null]", "(3, 'b', 3, 7, NULL, 0, NULL)", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *plain = mg_format("INSERT INTO main.plain VALUES %s", cases[i].plain);
		uint64_t rows = 0;

		if (!put(cases[i].sql, cases[i].params, &rows)) {
			fail_msg("%s: not taken", cases[i].sql);
		}
		assert_int_equal(rows, cases[i].rows);
		kit_sql(plain);
		mg_free(plain);
		same_rows("plain");
	}
}

/* Not even a row of it. */
static void test_what_is_not_taken(void **state)
{
	static const char *const cases[][2] = {
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "[1, 2, 2, 0.5, true, -7, null]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "[1, null, 2, 0.5, true, -7, null]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "[1, \"a\", 1.5, 1, true, -7, null]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)",
		  "[1, \"a\", 1, 1, true, 2147483648, null]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)",
		  "[1, \"a\", 1, 1, true, 1, \"2023-02-29\"]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)",
		  "[1, \"a\\u0000b\", 1, 1, true, 1, null]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "[1, \"a\", 1, 1, true, 1]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "[1, \"a\", 1, 1, true, 1, null, 2]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "[[1], \"a\", 1, 1, true, 1, null]" },
		{ "INSERT INTO plain VALUES (?, ?, ?, ?, ?, ?, ?)", "{\"k\": 1}" },
		{ "INSERT INTO plain (k, s) VALUES (?, ?), (?, ?)", "[1, \"a\", 2, null]" },
		{ "INSERT INTO plain (k) VALUES (?)", "[1]" },
		{ "INSERT INTO plain (k, s) VALUES ($1, $2)", "[1, \"a\"]" },
		{ "INSERT INTO plain (k, s) VALUES (?, ? || 'x')", "[1, \"a\"]" },
		{ "INSERT INTO plain (k, s) SELECT ?, ?", "[1, \"a\"]" },
		{ "INSERT INTO plain (k, s) VALUES (?, ?) RETURNING k", "[1, \"a\"]" },
		{ "INSERT INTO plain (k, s) VALUES (?, ?); SELECT 1", "[1, \"a\"]" },
		{ "INSERT INTO pk VALUES (?)", "[1]" },
		{ "INSERT INTO def VALUES (?, ?)", "[1, 2]" },
		{ "INSERT INTO v VALUES (?)", "[1]" },
		{ "INSERT INTO nope VALUES (?)", "[1]" },
		{ "INSERT INTO s.\"Odd name\" VALUES (?, ?, ?)", "[\"a\", 1, null]" },
		{ "DELETE FROM plain", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t rows = 0;

		if (put(cases[i][0], cases[i][1], &rows)) {
			fail_msg("%s %s: taken", cases[i][0], cases[i][1]);
		}
	}
	same_rows("plain");
	same_rows("pk");
	same_rows("def");
}

/* Who changes the tables of a shard keeps them out, and need not wait for those that come later. */
static void test_a_table_that_changes(void **state)
{
	static const uint32_t shards[] = { 1, 2, 3 };
	struct mg_replica *replica = mg_engine_replica(kit_engine);
	struct mg_error err;
	uint64_t rows = 0;

	(void)state;
	kit_must(mg_replica_lock(replica, MG_LOCK_ALTER, shards, 3, NULL, NULL, &err), &err, "lock");
	assert_false(put("INSERT INTO many VALUES (?)", "[-1]", &rows));
	assert_false(put("INSERT INTO many VALUES (?), (?)", "[-1, -2]", &rows));
	mg_replica_unlock(replica, MG_LOCK_ALTER, shards, 3);
	kit_must(mg_replica_lock(replica, MG_LOCK_CHANGE, shards, 3, NULL, NULL, &err), &err, "lock");
	assert_true(put("INSERT INTO many VALUES (?)", "[-1]", &rows));
	assert_true(put("INSERT INTO many VALUES (?), (?), (?), (?)", "[-2, -3, -4, -5]", &rows));
	mg_replica_unlock(replica, MG_LOCK_CHANGE, shards, 3);
	kit_sql("INSERT INTO main.many VALUES (-1), (-2), (-3), (-4), (-5)");
	same_rows("many");
}

/* ---- many at once ---- */

enum { THREADS = 8, PUTS = 300, WIDE = 5 };

struct client {
	struct end *end;
	int64_t first;
	size_t taken;
};

static void *run_client(void *arg)
{
	struct client *client = arg;

	for (int64_t i = 0; i < PUTS; i++) {
		struct mg_sb sql = { 0 };
		int64_t key = client->first + i * WIDE;
		uint64_t rows;

		/* One row, which has one shard, and several, which mostly do not. */
		mg_sb_addf(&sql, "INSERT INTO many VALUES (%lld)", (long long)key);
		for (int64_t k = 1; i % 3 == 0 && k < WIDE; k++) {
			mg_sb_addf(&sql, ", (%lld)", (long long)(key + k));
		}
		client->taken += mg_blind_put(mg_engine_blind(kit_engine), mg_str(mg_sb_text(&sql)), NULL,
		                              &rows, on_end, client->end);
		mg_sb_fini(&sql);
	}
	return NULL;
}

static void test_many_clients(void **state)
{
	struct end end = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };
	struct client clients[THREADS];
	pthread_t threads[THREADS];

	(void)state;
	for (size_t i = 0; i < THREADS; i++) {
		clients[i] = (struct client){ &end, (int64_t)i * PUTS * WIDE, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, run_client, &clients[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(clients[i].taken, PUTS);
	}
	await(&end, (size_t)THREADS * PUTS);
	kit_sql("INSERT INTO main.many SELECT i FROM range(8 * 300 * 5) r(i) WHERE i % 5 = 0 OR i // 5 "
	        "% 300 % 3 = 0");
	same_rows("many");
}

/* ---- an epoch that ends meanwhile ---- */

struct outcome {
	pthread_mutex_t lock;
	size_t ended, stored, unknown;
};

static void on_outcome(void *arg, const struct mg_error *err)
{
	struct outcome *outcome = arg;

	pthread_mutex_lock(&outcome->lock);
	outcome->ended++;
	outcome->stored += err->code == 0;
	outcome->unknown += err->code == MG_E_UNKNOWN_OUTCOME;
	pthread_mutex_unlock(&outcome->lock);
}

static size_t ended(struct outcome *outcome)
{
	pthread_mutex_lock(&outcome->lock);
	size_t count = outcome->ended;
	pthread_mutex_unlock(&outcome->lock);
	return count;
}

struct renewer {
	atomic_bool stop;
};

static void *renew(void *arg)
{
	struct renewer *renewer = arg;
	struct mg_replica *replica = mg_engine_replica(kit_engine);
	const struct timespec rest = { .tv_nsec = 500 * 1000 };

	while (!atomic_load(&renewer->stop)) {
		mg_replica_renew(replica, mg_replica_epoch(replica));
		nanosleep(&rest, NULL);
	}
	return NULL;
}

enum { LATE_FIRST = 1 << 20, LATE_PUTS = 20000 };

/* What was acknowledged is there; what was refused is not; nobody waits for ever. */
static void test_an_epoch_that_ends(void **state)
{
	struct outcome outcome = { PTHREAD_MUTEX_INITIALIZER, 0, 0, 0 };
	struct renewer renewer = { false };
	const struct timespec rest = { .tv_nsec = 1000 * 1000 };
	size_t taken = 0;
	pthread_t thread;
	struct mg_error err = { 0 };

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, renew, &renewer), 0);
	for (int64_t i = 0; i < LATE_PUTS; i++) {
		char *sql = mg_format("INSERT INTO many VALUES (%lld)", (long long)(LATE_FIRST + i));
		uint64_t rows;

		taken += mg_blind_put(mg_engine_blind(kit_engine), mg_str(sql), NULL, &rows, on_outcome,
		                      &outcome);
		mg_free(sql);
	}
	atomic_store(&renewer.stop, true);
	pthread_join(thread, NULL);
	while (ended(&outcome) < taken) {
		nanosleep(&rest, NULL);
	}
	assert_true(taken > 0);
	uint64_t epoch;

	while (mg_replica_begin(mg_engine_replica(kit_engine), &epoch, &err)) {
		nanosleep(&rest, NULL); /* the next one begins */
	}
	struct mg_duck_conn *conn = NULL;
	static const uint32_t shards[] = { 1, 2, 3 };
	int64_t there = 0;

	kit_must(mg_replica_read_barrier(mg_engine_replica(kit_engine), shards, 3, &err), &err,
	         "barrier");
	kit_must(mg_duck_connect(mg_engine_duck(kit_engine), &conn, &err), &err, "connect");
	kit_must(mg_duck_int(conn, "SELECT count(*) FROM main.many WHERE k >= 1 << 20", &there, &err),
	         &err, "count");
	mg_duck_disconnect(conn);
	assert_true((size_t)there >= outcome.stored);
	assert_true((size_t)there <= outcome.stored + outcome.unknown);
}

static void test_the_end(void **state)
{
	uint64_t rows = 0;

	(void)state;
	mg_blind_stop(mg_engine_blind(kit_engine));
	assert_false(put("INSERT INTO many VALUES (?)", "[1]", &rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stored_as_duckdb_stores_it),
		cmocka_unit_test(test_what_is_not_taken),
		cmocka_unit_test(test_a_table_that_changes),
		cmocka_unit_test(test_many_clients),
		cmocka_unit_test(test_an_epoch_that_ends),
		cmocka_unit_test(test_the_end), /* the last one */
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
