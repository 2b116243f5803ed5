/* test_duck.c - the engine behind store/duck.h: statements, errors, streams, slots, progress,
 * interrupt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "codec/slot.h"
#include "os/clock.h"
#include "store/duck.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mg_duck *duck;
static struct mg_duck_conn *conn;

static int open_all(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_options options = {
		.threads = 2, .memory_bytes = 1u << 30, .spill_dir = "/tmp", .lossless_arrow = true
	};
	if (mg_duck_open(&duck, &options, &err) != 0 || mg_duck_connect(duck, &conn, &err) != 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

static void exec_ok(const char *sql)
{
	struct mg_error err;
	mg_error_clear(&err);
	if (mg_duck_exec(conn, sql, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
}

/* By now_shim.cpp, which knows how DuckDB 1.5.5 lays out a transaction. */
static void test_now_is_what_was_set(void **state)
{
	static const char now[] = "SELECT epoch_us(now())",
					  date[] = "SELECT epoch_us(today()::TIMESTAMP)";
	static const int64_t day_us = INT64_C(86400000000);
	struct mg_error err;
	int64_t us = 0;

	(void)state;
	assert_int_equal(mg_duck_set_now(conn, 1, &err), MG_E_INTERNAL); /* no transaction is open */
	exec_ok("SET TimeZone = 'UTC'; BEGIN");
	assert_int_equal(mg_duck_set_now(conn, 20000 * day_us + 5, &err), 0);
	assert_int_equal(mg_duck_int(conn, now, &us, &err), 0);
	assert_true(us == 20000 * day_us + 5);
	assert_int_equal(mg_duck_int(conn, date, &us, &err), 0);
	assert_true(us == 20000 * day_us);
	exec_ok("ROLLBACK");
	assert_int_equal(mg_duck_int(conn, now, &us, &err), 0);
	assert_true(us > 20000 * day_us + 5);
}

static void test_version_and_values(void **state)
{
	(void)state;
	struct mg_error err;
	char *text = NULL;
	int64_t number = 0;
	assert_string_equal(mg_duck_version(), "v1.5.5");
	assert_int_equal(mg_duck_text(conn, "SELECT 'ab' || 'c';", &text, &err), 0);
	assert_string_equal(text, "abc");
	mg_free(text);
	assert_int_equal(mg_duck_text(conn, "SELECT NULL::VARCHAR", &text, &err), 0);
	assert_null(text);
	assert_int_equal(mg_duck_text(conn, "SELECT 12.5::DOUBLE", &text, &err), 0);
	assert_string_equal(text, "12.5");
	mg_free(text);
	assert_int_equal(mg_duck_int(conn, "SELECT sum(i) FROM range(1001) t(i)", &number, &err), 0);
	assert_int_equal(number, 500500);
	assert_int_equal(mg_duck_int(conn, "SELECT 1 WHERE false", &number, &err), MG_E_NOT_FOUND);
	assert_int_equal(mg_duck_int(conn, "SELECT 'x'", &number, &err), MG_E_INTERNAL);
}

static void test_settings_are_ours(void **state)
{
	(void)state;
	struct mg_error err;
	char *text = NULL;
	static const char *const pairs[][2] = {
		{ "autoload_known_extensions", "false" },
		{ "autoinstall_known_extensions", "false" },
		{ "threads", "2" },
		{ "memory_limit", "1.0 GiB" },
		{ "temp_directory", "/tmp" },
		{ "wal_autocheckpoint", "931.3 GiB" },
		{ "arrow_lossless_conversion", "true" },
	};
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		char sql[128];
		snprintf(sql, sizeof sql, "SELECT current_setting('%s')::VARCHAR", pairs[i][0]);
		assert_int_equal(mg_duck_text(conn, sql, &text, &err), 0);
		assert_string_equal(text, pairs[i][1]);
		mg_free(text);
	}
}

static void test_errors_have_codes(void **state)
{
	(void)state;
	static const struct {
		const char *sql;
		int code;
		const char *sqlstate;
	} cases[] = {
		{ "SELEC 1", MG_E_SYNTAX, "42601" },
		{ "SELECT * FROM nowhere", MG_E_NO_TABLE, "42P01" },
		{ "SELECT x.a FROM range(3) t(i)", MG_E_NO_TABLE, "42P01" },
		{ "SELECT nope FROM range(3) t(i)", MG_E_NO_COLUMN, "42703" },
		{ "SELECT t.nope FROM range(3) t(i)", MG_E_NO_COLUMN, "42703" },
		{ "SELECT nofunction(1)", MG_E_NO_FUNCTION, "42883" },
		{ "SELECT * FROM nofunction(1)", MG_E_NO_FUNCTION, "42883" },
		{ "SELECT sum('a'::DATE)", MG_E_NO_FUNCTION, "42883" },
		{ "SELECT i FROM range(3) t(i), range(3) u(i)", MG_E_BIND, "42702" },
		{ "SELECT i, count(*) FROM range(3) t(i)", MG_E_BIND, "42803" },
		{ "SELECT 'a'::INTEGER", MG_E_DATA, "22P02" },
		{ "SELECT i::TINYINT FROM range(300) t(i)", MG_E_DATA, "22003" },
		{ "SELECT 9223372036854775807 + i FROM range(3) t(i)", MG_E_DATA, "22003" },
		{ "SELECT (SELECT i FROM range(3) t(i))", MG_E_CARDINALITY, "21000" },
		{ "SELECT error('mine')", MG_E_DATA, "22000" },
		{ "CREATE TABLE dup(a INT); CREATE TABLE dup(a INT)", MG_E_DUPLICATE, "42P07" },
		{ "SELECT 1::NOTYPE", MG_E_BIND, "42704" },
		{ "SELECT * FROM noschema.t", MG_E_NO_TABLE, "42P01" },
		{ "SET nosetting = 1", MG_E_USAGE, "42704" },
		{ "ATTACH '/nonexistent/dir/x.duckdb'", MG_E_IO, "58030" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mg_error err;
		struct mg_duck_result *res = NULL;
		mg_error_clear(&err);
		int rc = mg_duck_exec(conn, cases[i].sql, &err);
		if (rc != cases[i].code || strcmp(err.sqlstate, cases[i].sqlstate) != 0) {
			fail_msg("%s: code %d, sqlstate %s: %s", cases[i].sql, rc, err.sqlstate, err.message);
		}
		/* The same by the streaming way, which sees other error objects of the engine. */
		mg_error_clear(&err);
		rc = mg_duck_query(conn, cases[i].sql, &res, &err);
		while (rc == 0) {
			struct ArrowArray array;
			bool done = false;
			rc = mg_duck_result_next(res, 2048, &array, &done, &err);
			if (rc == 0 && done) {
				break;
			}
			if (rc == 0) {
				array.release(&array);
			}
		}
		if (rc != cases[i].code || strcmp(err.sqlstate, cases[i].sqlstate) != 0) {
			fail_msg("streamed %s: code %d, sqlstate %s: %s", cases[i].sql, rc, err.sqlstate,
			         err.message);
		}
		mg_duck_result_free(res);
	}
}

static void test_error_text_is_split(void **state)
{
	(void)state;
	struct mg_error err;
	exec_ok("CREATE OR REPLACE TABLE lineitem(a INT)");
	assert_int_equal(mg_duck_exec(conn, "SELECT * FROM lineitme", &err), MG_E_NO_TABLE);
	assert_string_equal(err.message, "table with name lineitme does not exist");
	assert_string_equal(err.hint, "Did you mean \"lineitem\"?");
	assert_non_null(strstr(err.detail, "LINE 1: SELECT * FROM lineitme"));
}

/* Settings and CASCADE are not to be had here. */
static void test_advice_can_be_followed(void **state)
{
	struct mg_error err;

	(void)state;
	exec_ok("CREATE SEQUENCE drawn; CREATE TABLE draws (i INT DEFAULT nextval('drawn'))");
	mg_error_clear(&err);
	assert_int_equal(mg_duck_exec(conn, "DROP SEQUENCE drawn", &err), MG_E_BIND);
	assert_string_equal(err.sqlstate, "2BP01");
	assert_string_equal(err.detail, "table \"draws\" depends on sequence \"drawn\".");
	mg_error_clear(&err);
	assert_int_equal(mg_duck_exec(conn, "SELECT (SELECT i FROM range(3) r(i))", &err),
	                 MG_E_CARDINALITY);
	assert_null(strstr(err.detail, "SET"));
	assert_non_null(strstr(err.hint, "LIMIT 1"));
	mg_error_clear(&err);
	exec_ok("SET memory_limit = '20MB'");
	assert_int_equal(
		mg_duck_exec(conn, "SELECT list(i) FROM range(10000000) r(i) GROUP BY i % 1000000", &err),
		MG_E_NOMEM);
	exec_ok("SET memory_limit = '1GiB'");
	assert_string_equal(err.detail, "");
	assert_non_null(strstr(err.hint, "--memory-limit"));
}

/* Sum the first column over all batches; returns the number of batches. */
static size_t stream_sum(const char *sql, size_t rows_max, int64_t *rows, int64_t *sum)
{
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	size_t batches = 0;
	*rows = *sum = 0;
	mg_error_clear(&err);
	if (mg_duck_query(conn, sql, &res, &err) != 0) {
		fail_msg("%s", err.message);
	}
	for (;;) {
		struct ArrowArray array;
		bool done = false;
		if (mg_duck_result_next(res, rows_max, &array, &done, &err) != 0) {
			fail_msg("%s", err.message);
		}
		if (done) {
			break;
		}
		assert_true((size_t)array.length <= (rows_max > 2048 ? rows_max : 2048));
		const int64_t *values = array.children[0]->buffers[1];
		for (int64_t i = 0; i < array.length; i++) {
			*sum += values[i + array.children[0]->offset];
		}
		*rows += array.length;
		batches++;
		array.release(&array);
	}
	mg_duck_result_free(res);
	return batches;
}

/* 3,000 columns are 24 kB a row and 49 MB a chunk; batches stay small, joined or not. */
static void test_wide_results_are_cut_by_bytes(void **state)
{
	(void)state;
	enum { COLUMNS = 3000, ROWS = 5000 };
	int64_t rows = 0, sum = 0;
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "SELECT i");
	for (int i = 1; i < COLUMNS; i++) {
		mg_sb_addf(&sql, ", i AS c%d", i);
	}
	mg_sb_addf(&sql, " FROM range(%d) t(i)", ROWS);
	size_t least = (size_t)ROWS * COLUMNS * 8 / MG_DUCK_BATCH_BYTES;
	size_t batches = stream_sum(mg_sb_text(&sql), 2048, &rows, &sum);
	assert_int_equal(rows, ROWS);
	assert_int_equal(sum, (int64_t)ROWS * (ROWS - 1) / 2);
	assert_in_range(batches, least, least * 3);
	batches = stream_sum(mg_sb_text(&sql), 65536, &rows, &sum);
	assert_int_equal(rows, ROWS);
	assert_int_equal(sum, (int64_t)ROWS * (ROWS - 1) / 2);
	assert_in_range(batches, least / 2, least * 2);
	mg_sb_fini(&sql);
	/* Rows that are wide only at first: the batches grow again. */
	batches = stream_sum("SELECT i, CASE WHEN i < 2048 THEN repeat('x', 20000) END FROM "
	                     "range(400000) t(i)",
	                     2048, &rows, &sum);
	assert_int_equal(rows, 400000);
	assert_true(batches < 400);
}

struct seen_scans {
	uint64_t rows, scanned;
	size_t count;
	char last[64];
};

static void see_scan(void *arg, const struct mg_duck_scan *scan)
{
	struct seen_scans *seen = arg;
	seen->count++;
	seen->rows += scan->rows;
	seen->scanned += scan->scanned;
	snprintf(seen->last, sizeof seen->last, "%s|%s|%s", scan->database, scan->schema, scan->table);
}

static void test_profile_counts_what_is_read(void **state)
{
	(void)state;
	struct seen_scans seen = { 0 };
	mg_duck_scans(conn, see_scan, &seen);
	assert_int_equal(seen.count, 0);
	struct mg_duck_conn *own = NULL;
	struct mg_error err;
	int64_t rows = 0;
	mg_error_clear(&err);
	assert_int_equal(mg_duck_connect(duck, &own, &err), 0);
	assert_int_equal(mg_duck_profile(own, &err), 0);
	assert_int_equal(
		mg_duck_exec(own,
	                 "ATTACH ':memory:' AS s7; CREATE SCHEMA s7.\"a.b\"; CREATE TABLE "
	                 "s7.\"a.b\".\"it's \"\", {1=2}\" AS SELECT i FROM range(5000) t(i)",
	                 &err),
		0);
	assert_int_equal(
		mg_duck_int(own,
	                "SELECT count(*) FROM (FROM s7.\"a.b\".\"it's \"\", {1=2}\" x JOIN "
	                "s7.\"a.b\".\"it's \"\", {1=2}\" y ON x.i = y.i + 4000 OR x.i = y.i * "
	                "9999)",
	                &rows, &err),
		0);
	mg_duck_scans(own, see_scan, &seen);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.rows, 10000);
	assert_int_equal(seen.scanned, 10000);
	assert_string_equal(seen.last, "s7|a.b|it's \", {1=2}");
	seen = (struct seen_scans){ 0 };
	assert_int_equal(mg_duck_int(own, "SELECT sum(range)::BIGINT FROM range(10)", &rows, &err), 0);
	mg_duck_scans(own, see_scan, &seen);
	assert_int_equal(seen.count, 0);
	assert_int_equal(mg_duck_exec(own, "DETACH s7", &err), 0);
	mg_duck_disconnect(own);
}

static void test_streams_all_rows(void **state)
{
	(void)state;
	int64_t rows = 0;
	int64_t sum = 0;
	size_t small = stream_sum("SELECT i FROM range(1000000) t(i)", 2048, &rows, &sum);
	assert_int_equal(rows, 1000000);
	assert_int_equal(sum, 499999500000);
	size_t joined = stream_sum("SELECT i FROM range(1000000) t(i)", 65536, &rows, &sum);
	assert_int_equal(rows, 1000000);
	assert_int_equal(sum, 499999500000);
	assert_true(joined * 20 < small);
	assert_int_equal(stream_sum("SELECT i FROM range(10) t(i) WHERE i > 10", 65536, &rows, &sum),
	                 0);
}

/* Joined batches of every type must read as the same values: read them back by the engine's own
 * text. */
static void test_join_keeps_every_type(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	mg_error_clear(&err);
	int rc = mg_duck_query(
		conn,
		"SELECT CASE WHEN i % 7 = 0 THEN NULL ELSE i END AS a, i % 2 = 0 AS b, repeat('x', (i % "
		"20)::INT) AS c, [i, i + 1] AS d,"
		" {'p': i, 'q': 'v' || i} AS e, MAP {i: 'm'} AS f, (i % 3)::VARCHAR::ENUM('0', '1', '2') "
		"AS g, i::HUGEINT AS h,"
		" NULL AS n, [i, i, i]::INT[3] AS k, union_value(u := i) AS m FROM range(5000) t(i)",
		&res, &err);
	if (rc != 0) {
		fail_msg("%s", err.message);
	}
	struct ArrowArray array;
	bool done = false;
	assert_int_equal(mg_duck_result_next(res, 8192, &array, &done, &err), 0);
	assert_false(done);
	assert_int_equal(array.length, 5000);
	struct ArrowArrayView view;
	struct ArrowError why;
	assert_int_equal(ArrowArrayViewInitFromSchema(&view, mg_duck_result_schema(res), &why),
	                 NANOARROW_OK);
	if (ArrowArrayViewSetArray(&view, &array, &why) != NANOARROW_OK ||
	    ArrowArrayViewValidate(&view, NANOARROW_VALIDATION_LEVEL_FULL, &why) != NANOARROW_OK) {
		fail_msg("%s", why.message);
	}
	for (int64_t i = 0; i < 5000; i++) {
		assert_int_equal(ArrowArrayViewIsNull(view.children[0], i), i % 7 == 0);
		if (i % 7 != 0) {
			assert_int_equal(ArrowArrayViewGetIntUnsafe(view.children[0], i), i);
		}
		assert_int_equal(ArrowArrayViewGetIntUnsafe(view.children[1], i), i % 2 == 0);
		assert_int_equal(ArrowArrayViewGetStringUnsafe(view.children[2], i).size_bytes, i % 20);
		int64_t at = ArrowArrayViewListChildOffset(view.children[3], i);
		assert_int_equal(at, 2 * i);
		assert_int_equal(ArrowArrayViewGetIntUnsafe(view.children[3]->children[0], at + 1), i + 1);
		assert_int_equal(ArrowArrayViewGetIntUnsafe(view.children[4]->children[0], i), i);
		char text[16];
		snprintf(text, sizeof text, "v%d", (int)i);
		struct ArrowStringView q = ArrowArrayViewGetStringUnsafe(view.children[4]->children[1], i);
		assert_int_equal(q.size_bytes, strlen(text));
		assert_memory_equal(q.data, text, (size_t)q.size_bytes);
		assert_int_equal(ArrowArrayViewGetIntUnsafe(view.children[6], i), i % 3);
	}
	ArrowArrayViewReset(&view);
	array.release(&array);
	assert_int_equal(mg_duck_result_next(res, 8192, &array, &done, &err), 0);
	assert_true(done);
	mg_duck_result_free(res);
}

static void test_late_error_of_a_stream(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	int rc = mg_duck_query(
		conn, "SELECT CASE WHEN i = 900000 THEN error('late') ELSE i END FROM range(1000000) t(i)",
		&res, &err);
	assert_int_equal(rc, 0);
	int64_t rows = 0;
	while (rc == 0) {
		struct ArrowArray array;
		bool done = false;
		rc = mg_duck_result_next(res, 2048, &array, &done, &err);
		assert_false(done);
		if (rc == 0) {
			rows += array.length;
			array.release(&array);
		}
	}
	assert_int_equal(rc, MG_E_DATA);
	assert_string_equal(err.message, "late");
	assert_true(rows > 0 && rows <= 900000);
	mg_duck_result_free(res);
	exec_ok("SELECT 1");
}

static void test_abandoned_stream_leaves_connection_usable(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	struct ArrowArray array;
	bool done = false;
	assert_int_equal(
		mg_duck_query(conn, "SELECT i, hash(i) FROM range(100000000) t(i)", &res, &err), 0);
	assert_int_equal(mg_duck_result_next(res, 2048, &array, &done, &err), 0);
	mg_duck_result_free(res);
	assert_int_equal(array.length, 2048); /* rows outlive their result */
	array.release(&array);
	exec_ok("SELECT 1");
}

/* One thread fills the buffer and waits; the other works on rows that take a minute and give
 * nothing. */
static void test_abandoned_slow_stream_ends_at_once(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	struct ArrowArray array;
	bool done = false;
	exec_ok("CREATE OR REPLACE TABLE slow AS SELECT i FROM range(2000000) t(i)");
	assert_int_equal(
		mg_duck_query(conn,
	                  "SELECT i FROM slow WHERE i < 1000000 OR "
	                  "length(regexp_replace(repeat(i::VARCHAR, 200), '[0-9]', 'xx', 'g')) < 0",
	                  &res, &err),
		0);
	assert_int_equal(mg_duck_result_next(res, 2048, &array, &done, &err), 0);
	array.release(&array);
	uint64_t start = mg_clock_ms();
	mg_duck_result_free(res);
	exec_ok("SELECT 1");
	assert_true(mg_clock_ms() - start < 20000); /* of the minute, on a machine that is busy */
	exec_ok("DROP TABLE slow");
}

static void test_describe(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_arena *arena = mg_arena_new();
	size_t count = 0;
	const char **names = NULL;
	const char **types = NULL;
	const char *sql = "SELECT 1 AS a, 1.50::DECIMAL(15,2) AS b, [1]::INT[] AS c, {'x': 1, 'y z': "
					  "'v'} AS d, MAP {'k': 1.0::DOUBLE} AS e,"
					  " 'p'::ENUM('p', 'it''s') AS f, now()::TIMESTAMPTZ AS g, '{}'::JSON AS h, "
					  "[1,2]::INT[2] AS i, uuid() AS j, 1::HUGEINT AS \"k k\"";
	static const char *const expected[] = { "INTEGER",
		                                    "DECIMAL(15,2)",
		                                    "INTEGER[]",
		                                    "STRUCT(\"x\" INTEGER, \"y z\" VARCHAR)",
		                                    "MAP(VARCHAR, DOUBLE)",
		                                    "ENUM('p', 'it''s')",
		                                    "TIMESTAMP WITH TIME ZONE",
		                                    "JSON",
		                                    "INTEGER[2]",
		                                    "UUID",
		                                    "HUGEINT" };
	if (mg_duck_describe(conn, arena, sql, &count, &names, &types, &err) != 0) {
		fail_msg("%s", err.message);
	}
	assert_int_equal(count, 11);
	assert_string_equal(names[10], "k k");
	for (size_t i = 0; i < count; i++) {
		assert_string_equal(types[i], expected[i]);
	}
	/* Every text is a type the engine reads. */
	for (size_t i = 0; i < count; i++) {
		char cast[256];
		snprintf(cast, sizeof cast, "SELECT NULL::%s", types[i]);
		exec_ok(cast);
	}
	assert_int_equal(
		mg_duck_describe(conn, arena, "SELECT 1; SELECT 2", &count, &names, &types, &err),
		MG_E_UNSUPPORTED);
	assert_int_equal(mg_duck_describe(conn, arena, "SELECT ?::INT", &count, &names, &types, &err),
	                 MG_E_UNSUPPORTED);
	assert_int_equal(mg_duck_describe(conn, arena, "  -- nothing", &count, &names, &types, &err),
	                 MG_E_SYNTAX);
	assert_int_equal(
		mg_duck_describe(conn, arena, "SELECT nope FROM range(2)", &count, &names, &types, &err),
		MG_E_NO_COLUMN);
	mg_arena_free(arena);
}

static void test_several_statements_stream_the_last(void **state)
{
	(void)state;
	int64_t rows = 0;
	int64_t sum = 0;
	stream_sum("CREATE OR REPLACE TEMP TABLE tt AS SELECT 5::BIGINT AS i; INSERT INTO tt VALUES "
	           "(6); SELECT i FROM tt",
	           2048, &rows, &sum);
	assert_int_equal(sum, 11);
	/* A PIVOT without IN list is two statements for the engine. */
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	assert_int_equal(
		mg_duck_query(conn, "PIVOT (SELECT i % 3 AS k, i FROM range(9) t(i)) ON k USING sum(i)",
	                  &res, &err),
		0);
	assert_int_equal(mg_duck_result_columns(res), 3);
	mg_duck_result_free(res);
}

/* ---- slots ---- */

static uint16_t slot_of_int(__int128 value)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_int(&hash, value);
	return mg_slot_end(&hash);
}

static int64_t sql_int(const char *fmt, ...)
{
	char sql[512];
	va_list ap;
	struct mg_error err;
	int64_t out = -1;
	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	if (mg_duck_int(conn, sql, &out, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
	return out;
}

static void test_slot_sql_equals_c(void **state)
{
	(void)state;
	struct mg_slot_hash hash;
	static const char *const types[] = { "TINYINT",      "SMALLINT",     "INTEGER", "BIGINT",
		                                 "HUGEINT",      "DOUBLE",       "FLOAT",   "DECIMAL(10,2)",
		                                 "DECIMAL(3,0)", "DECIMAL(30,4)" };
	for (int v = -3; v < 100; v += 17) {
		for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
			int64_t slot = sql_int("SELECT mg_slot((%d)::%s)", v, types[t]);
			if (t == 5 || t == 6) {
				mg_slot_begin(&hash);
				mg_slot_double(&hash, v);
				assert_int_equal(slot, mg_slot_end(&hash));
			} else {
				assert_int_equal(slot, slot_of_int(v));
			}
		}
	}
	assert_int_equal(sql_int("SELECT mg_slot(200::UTINYINT)"), slot_of_int(200));
	assert_int_equal(sql_int("SELECT mg_slot(18446744073709551615::UBIGINT)"),
	                 slot_of_int((__int128)UINT64_MAX));
	mg_slot_begin(&hash);
	mg_slot_decimal(&hash, 150, 2);
	assert_int_equal(sql_int("SELECT mg_slot(1.50::DECIMAL(9,2))"), mg_slot_end(&hash));
	assert_int_equal(sql_int("SELECT mg_slot(1.5::DECIMAL(9,1))"),
	                 sql_int("SELECT mg_slot(1.500::DECIMAL(38,3))"));
	mg_slot_begin(&hash);
	mg_slot_text(&hash, "hello, this is longer than twelve bytes", 39);
	assert_int_equal(sql_int("SELECT mg_slot('hello, this is longer than twelve bytes')"),
	                 mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_text(&hash, "b", 1);
	assert_int_equal(sql_int("SELECT mg_slot('b'::ENUM('a', 'b'))"), mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_null(&hash);
	uint16_t null_slot = mg_slot_end(&hash);
	assert_int_equal(sql_int("SELECT mg_slot(NULL::INT)"), null_slot);
	assert_int_equal(sql_int("SELECT mg_slot(NULL)"), null_slot);
	mg_slot_begin(&hash);
	mg_slot_int(&hash, 7);
	mg_slot_null(&hash);
	mg_slot_text(&hash, "x", 1);
	assert_int_equal(sql_int("SELECT mg_slot(7, NULL::VARCHAR, 'x')"), mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_bytes(&hash, 7, &(int32_t){ 10 }, 4);
	assert_int_equal(sql_int("SELECT mg_slot(DATE '1970-01-11')"), mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_bytes(&hash, 8, &(int64_t){ -1500000 }, 8);
	uint16_t ts = mg_slot_end(&hash);
	assert_int_equal(sql_int("SELECT mg_slot(TIMESTAMP '1969-12-31 23:59:58.5')"), ts);
	assert_int_equal(sql_int("SELECT mg_slot('1969-12-31 23:59:58.5'::TIMESTAMP_MS)"), ts);
	assert_int_equal(sql_int("SELECT mg_slot('1969-12-31 23:59:58.5'::TIMESTAMP_NS)"), ts);
	assert_int_equal(sql_int("SELECT mg_slot('2000-01-01'::TIMESTAMP_S)"),
	                 sql_int("SELECT mg_slot('2000-01-01'::TIMESTAMP)"));
	assert_int_equal(sql_int("SELECT mg_slot('infinity'::TIMESTAMP_S)"),
	                 sql_int("SELECT mg_slot('infinity'::TIMESTAMP)"));
	static const uint8_t uuid[16] = { 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0,
		                              1,    2,    3,    4,    5,    6,    7,    8 };
	mg_slot_begin(&hash);
	mg_slot_bytes(&hash, 12, uuid, 16);
	assert_int_equal(sql_int("SELECT mg_slot('12345678-9abc-def0-0102-030405060708'::UUID)"),
	                 mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_bytes(&hash, 6, "\1", 1);
	assert_int_equal(sql_int("SELECT mg_slot(true)"), mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_bytes(&hash, 5, "ab", 2);
	assert_int_equal(sql_int("SELECT mg_slot('ab'::BLOB)"), mg_slot_end(&hash));
}

static void test_slot_of_vectors(void **state)
{
	(void)state;
	/* Constant, dictionary and flat vectors give the same; NULLs inside of vectors too. */
	assert_int_equal(sql_int("SELECT count(*) FROM (SELECT i, CASE WHEN i %% 5 = 0 THEN NULL ELSE "
	                         "i END AS k FROM range(100000) t(i)) a"
	                         " WHERE mg_slot(k) <> mg_slot(k::HUGEINT) OR mg_slot(k) >= 16384"),
	                 0);
	assert_int_equal(sql_int("SELECT count(DISTINCT mg_slot(i)) FROM range(1000000) t(i)"), 16384);
	exec_ok("CREATE OR REPLACE TABLE words AS SELECT 'word number ' || (i % 50) AS w FROM "
	        "range(100000) t(i)");
	assert_int_equal(sql_int("SELECT count(*) FROM words WHERE mg_slot(w) <> mg_slot(w || '')"), 0);
	struct mg_error err;
	static const char *const refused[] = {
		"SELECT mg_slot(INTERVAL 1 DAY)", "SELECT mg_slot([1])",
		"SELECT mg_slot({'a': 1})",       "SELECT mg_slot('12:00:00+01'::TIMETZ)",
		"SELECT mg_slot('101'::BIT)",     "SELECT mg_slot()"
	};
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		assert_int_not_equal(mg_duck_exec(conn, refused[i], &err), 0);
		assert_int_not_equal(err.code, MG_E_INTERNAL);
	}
}

static void test_mine_and_node(void **state)
{
	(void)state;
	struct mg_error err;
	uint16_t *owner = calloc(MG_SLOTS, sizeof *owner);
	for (size_t i = 0; i < MG_SLOTS; i++) {
		owner[i] = (uint16_t)(i % 3);
	}
	int64_t total = 0;
	for (uint32_t node = 0; node < 3; node++) {
		struct mg_duck_context context = { .node_index = node, .owner = owner };
		mg_duck_set_context(conn, &context);
		assert_int_equal(sql_int("SELECT mg_node()"), node);
		assert_int_equal(sql_int("SELECT count(*) FROM range(100000) t(i) WHERE mg_mine(i) <> "
		                         "(mg_slot(i) %% 3 = %u)",
		                         node),
		                 0);
		total += sql_int("SELECT count(*) FROM range(100000) t(i) WHERE mg_mine(i)");
	}
	assert_int_equal(total, 100000);
	mg_duck_set_context(conn, NULL);
	assert_int_not_equal(mg_duck_exec(conn, "SELECT mg_node()", &err), 0);
	assert_int_not_equal(mg_duck_exec(conn, "SELECT mg_mine(i) FROM range(3) t(i)", &err), 0);
	free(owner);
}

/* ---- control ---- */

struct watch {
	uint32_t delay_ms;
	bool wait_for_progress; /* instead, as long as the statement runs */
	atomic_bool stop, over;
	double progress_seen;
};

static void *interrupt_later(void *arg)
{
	struct watch *watch = arg;
	for (uint32_t waited = 0; watch->wait_for_progress
	                              ? !atomic_load(&watch->over) && watch->progress_seen <= 0
	                              : waited < watch->delay_ms;
	     waited += 10) {
		mg_sleep_ms(10);
		double now = mg_duck_progress(conn);
		if (now > watch->progress_seen) {
			watch->progress_seen = now;
		}
	}
	atomic_store(&watch->stop, true);
	mg_duck_interrupt(conn);
	return NULL;
}

static void test_interrupt(void **state)
{
	(void)state;
	struct mg_error err;
	struct watch watch = { .delay_ms = 200 };
	pthread_t thread;
	pthread_create(&thread, NULL, interrupt_later, &watch);
	/* For minutes, if nothing ended it. */
	int rc = mg_duck_exec(
		conn, "SELECT sum(hash(a.i + b.i)) FROM range(100000) a(i), range(1000000) b(i)", &err);
	pthread_join(thread, NULL);
	assert_int_equal(rc, MG_E_CANCELLED);
	assert_string_equal(err.sqlstate, "57014");
	exec_ok("SELECT 1");
}

static void test_stop_before_start_is_not_lost(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	atomic_bool stop;
	atomic_init(&stop, true);
	mg_duck_set_stop(conn, &stop);
	assert_int_equal(mg_duck_exec(conn, "SELECT 1", &err), MG_E_CANCELLED);
	assert_int_equal(mg_duck_query(conn, "SELECT 1", &res, &err), MG_E_CANCELLED);
	mg_duck_set_stop(conn, NULL);
	exec_ok("SELECT 1");
}

struct race {
	atomic_bool stop;
	uint32_t wait_us;
};

static void *stop_soon(void *arg)
{
	struct race *race = arg;
	usleep(race->wait_us);
	atomic_store(&race->stop, true);
	mg_duck_interrupt(conn);
	return NULL;
}

/* One flag and one interrupt, whenever they come, end a statement that would run for minutes. */
static void test_one_interrupt_is_enough(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 60; i++) {
		struct race race = { .wait_us = i * 37 };
		struct mg_error err;
		pthread_t thread;
		atomic_init(&race.stop, false);
		mg_duck_set_stop(conn, &race.stop);
		pthread_create(&thread, NULL, stop_soon, &race);
		int rc = mg_duck_exec(
			conn, "SELECT sum(hash(a.i + b.i)) FROM range(1000000) a(i), range(1000000) b(i)",
			&err);
		pthread_join(thread, NULL);
		assert_int_equal(rc, MG_E_CANCELLED);
	}
	mg_duck_set_stop(conn, NULL);
	exec_ok("SELECT 1");
}

static void test_progress_is_true(void **state)
{
	(void)state;
	struct mg_error err;
	struct watch watch = { .wait_for_progress = true };
	pthread_t thread;
	assert_int_equal(mg_duck_count_progress(conn, &err), 0);
	exec_ok("CREATE OR REPLACE TABLE big AS SELECT i, hash(i) AS h FROM range(3000000) t(i)");
	pthread_create(&thread, NULL, interrupt_later, &watch);
	/* For half a minute, if nothing ended it. */
	(void)mg_duck_exec(conn, "SELECT sum(length(repeat(i::VARCHAR, 3000))) FROM big", &err);
	atomic_store(&watch.over, true);
	pthread_join(thread, NULL);
	assert_true(watch.progress_seen > 0 && watch.progress_seen <= 1);
}

static void test_threads_change_under_way(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_options options = { .threads = 2 };
	struct mg_duck *other = NULL;
	struct mg_duck_conn *inside = NULL;
	int64_t threads = 0;
	mg_error_clear(&err);
	assert_int_equal(mg_duck_open(&other, &options, &err), 0);
	assert_int_equal(mg_duck_connect(other, &inside, &err), 0);
	assert_int_equal(mg_duck_set_threads(other, 1, &err), 0);
	assert_int_equal(mg_duck_int(inside, "SELECT current_setting('threads')", &threads, &err), 0);
	assert_int_equal(threads, 1);
	assert_int_not_equal(mg_duck_set_threads(other, 0, &err), 0);
	assert_int_equal(mg_duck_int(inside, "SELECT current_setting('threads')", &threads, &err), 0);
	assert_int_equal(threads, 1);
	mg_duck_disconnect(inside);
	mg_duck_close(other);
}

static void test_fence(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck *fenced = NULL;
	struct mg_duck_conn *inside = NULL;
	struct mg_duck_options options = { .threads = 1 };
	char dir[] = "/tmp/mg-fence-XXXXXX";
	const char *dirs[] = { dir };
	assert_non_null(mkdtemp(dir));
	assert_int_equal(mg_duck_open(&fenced, &options, &err), 0);
	assert_int_equal(mg_duck_fence(fenced, dirs, 1, &err), 0);
	assert_int_equal(mg_duck_connect(fenced, &inside, &err), 0);
	assert_int_equal(mg_duck_exec(inside, "SELECT * FROM read_text('/etc/passwd')", &err),
	                 MG_E_DENIED);
	if (mg_duck_execf(inside, &err, "ATTACH '%s/x.duckdb' AS x; CREATE TABLE x.t(a INT)", dir) !=
	    0) {
		fail_msg("%s", err.message);
	}
	mg_duck_disconnect(inside);
	mg_duck_close(fenced);
	char path[64];
	snprintf(path, sizeof path, "%s/x.duckdb", dir);
	remove(path);
	remove(dir);
}

static void test_tpch_loads_twice(void **state)
{
	(void)state;
	struct mg_error err;
	assert_int_equal(mg_duck_load_tpch(duck, &err), 0);
	exec_ok("ATTACH ':memory:' AS gen; CALL dbgen(sf = 0.01, catalog = 'gen')");
	assert_int_equal(sql_int("SELECT count(*) FROM gen.lineitem"), 60175);
	exec_ok("DETACH gen");
	assert_int_equal(sql_int("SELECT count(*) FROM tpcds_queries()"), 99);
	struct mg_duck *second = NULL;
	struct mg_duck_options options = { .threads = 1 };
	assert_int_equal(mg_duck_open(&second, &options, &err), 0);
	assert_int_equal(mg_duck_load_tpch(second, &err), 0);
	mg_duck_close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_and_values),
		cmocka_unit_test(test_settings_are_ours),
		cmocka_unit_test(test_errors_have_codes),
		cmocka_unit_test(test_error_text_is_split),
		cmocka_unit_test(test_advice_can_be_followed),
		cmocka_unit_test(test_streams_all_rows),
		cmocka_unit_test(test_wide_results_are_cut_by_bytes),
		cmocka_unit_test(test_profile_counts_what_is_read),
		cmocka_unit_test(test_join_keeps_every_type),
		cmocka_unit_test(test_late_error_of_a_stream),
		cmocka_unit_test(test_abandoned_stream_leaves_connection_usable),
		cmocka_unit_test(test_abandoned_slow_stream_ends_at_once),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_several_statements_stream_the_last),
		cmocka_unit_test(test_slot_sql_equals_c),
		cmocka_unit_test(test_slot_of_vectors),
		cmocka_unit_test(test_mine_and_node),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_stop_before_start_is_not_lost),
		cmocka_unit_test(test_one_interrupt_is_enough),
		cmocka_unit_test(test_progress_is_true),
		cmocka_unit_test(test_fence),
		cmocka_unit_test(test_threads_change_under_way),
		cmocka_unit_test(test_now_is_what_was_set),
		cmocka_unit_test(test_tpch_loads_twice),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
