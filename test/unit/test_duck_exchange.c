/* test_duck_exchange.c - rows out of DuckDB by scatter, through IPC and a spool, and in again by
 * merganser_exchange. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "codec/arrow_ipc.h"
#include "codec/slot.h"
#include "store/duck.h"
#include "store/spool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGES 8

static struct mg_duck *duck;
static struct mg_duck_conn *conn;
static struct mg_spool_budget budget;
static struct mg_spool *spools[STAGES];

static struct mg_spool *find(void *arg, uint32_t stage)
{
	(void)arg;
	return stage < STAGES ? spools[stage] : NULL;
}

static const struct mg_duck_context context = { .find_spool = find };

static int open_all(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_options options = { .threads = 4, .lossless_arrow = true };
	budget.limit = 1 << 20;
	budget.spill_dir = "/tmp";
	if (mg_duck_open(&duck, &options, &err) != 0 || mg_duck_connect(duck, &conn, &err) != 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	mg_duck_set_context(conn, &context);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	return 0;
}

static int clear_spools(void **state)
{
	(void)state;
	for (size_t i = 0; i < STAGES; i++) {
		mg_spool_unref(spools[i]);
		spools[i] = NULL;
	}
	return 0;
}

/* ---- a sink that encodes into spools 1 + target ---- */

struct encode {
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema;
	bool lz4;
	size_t batches, largest;
	uint64_t largest_bytes; /* of a batch with more than one row */
};

static int encode_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct encode *encode = arg;
	int rc = mg_arrow_encoder_new(&encode->encoder, schema, encode->lz4, err);
	return rc == 0 ? mg_arrow_encode_schema(encode->encoder, &encode->schema, err) : rc;
}

static int encode_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct encode *encode = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	encode->batches++;
	encode->largest = (size_t)batch->length > encode->largest ? (size_t)batch->length
	                                                          : encode->largest;
	int rc = mg_arrow_encode_batch(encode->encoder, batch, &buf, &raw, err);
	if (batch->length > 1 && raw > encode->largest_bytes) {
		encode->largest_bytes = raw;
	}
	if (rc == 0) {
		rc = mg_spool_put(spools[1 + target], buf, (uint64_t)batch->length, err);
		mg_buf_unref(buf);
	}
	return rc;
}

/* Run sql and spool its rows for so many targets. */
static struct encode scatter(const char *sql, const uint16_t *owner, uint32_t targets, bool lz4)
{
	struct mg_error err;
	struct encode encode = { .lz4 = lz4 };
	struct mg_duck_sink sink = { encode_begin, encode_put, &encode };
	clear_spools(NULL);
	for (uint32_t i = 0; i < targets; i++) {
		spools[1 + i] = mg_spool_new(&budget);
	}
	mg_error_clear(&err);
	if (mg_duck_scatter(conn, sql, owner, targets, &sink, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
	for (uint32_t i = 0; i < targets; i++) {
		assert_int_equal(mg_spool_set_schema(spools[1 + i], encode.schema, &err), 0);
		mg_spool_seal(spools[1 + i]);
	}
	mg_buf_unref(encode.schema);
	mg_arrow_encoder_free(encode.encoder);
	return encode;
}

static int64_t sql_int(const char *sql)
{
	struct mg_error err;
	int64_t out = -1;
	mg_error_clear(&err);
	if (mg_duck_int(conn, sql, &out, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
	return out;
}

static void exec_ok(const char *sql)
{
	struct mg_error err;
	if (mg_duck_exec(conn, sql, &err) != 0) {
		fail_msg("%s: %s", sql, err.message);
	}
}

/* ---- types ---- */

struct type_case {
	const char *name;
	const char *value;   /* from i */
	const char *arrives; /* typeof at the other side; NULL: the same */
};

static const struct type_case type_cases[] = {
	{ "boolean", "i % 2 = 0", NULL },
	{ "tinyint", "(i % 100)::TINYINT", NULL },
	{ "utinyint", "(i % 200)::UTINYINT", NULL },
	{ "smallint", "i::SMALLINT", NULL },
	{ "usmallint", "i::USMALLINT", NULL },
	{ "integer", "-i::INTEGER", NULL },
	{ "uinteger", "i::UINTEGER", NULL },
	{ "bigint", "i * 1000000000000", NULL },
	{ "ubigint", "18446744073709551615::UBIGINT - i::UBIGINT", NULL },
	{ "hugeint", "170141183460469231731687303715884105727::HUGEINT - i", NULL },
	{ "uhugeint", "340282366920938463463374607431768211455::UHUGEINT - i::UHUGEINT", NULL },
	{ "float", "CASE i % 4 WHEN 0 THEN 'nan' WHEN 1 THEN '-inf' ELSE i::VARCHAR END::FLOAT", NULL },
	{ "double", "CASE i % 4 WHEN 0 THEN 'nan' WHEN 1 THEN 'inf' ELSE (i / 3)::VARCHAR END::DOUBLE",
	  NULL },
	{ "decimal4", "(i % 100 / 10)::DECIMAL(4,1)", NULL },
	{ "decimal9", "(i / 7)::DECIMAL(9,3)", NULL },
	{ "decimal18", "(i / 7)::DECIMAL(18,5)", NULL },
	{ "decimal38", "(i::DECIMAL(38,10)) * -1.5", NULL },
	{ "varchar",
	  "CASE WHEN i % 3 = 0 THEN '' WHEN i % 3 = 1 THEN 'short' ELSE repeat('long é', i::INT % 50) "
	  "END",
	  NULL },
	{ "blob", "('\\xAA\\x00' || i)::VARCHAR::BLOB", NULL },
	{ "bit", "(CASE WHEN i % 2 = 0 THEN '10101' ELSE '111000111' END)::BIT", NULL },
	{ "bignum", "(i::VARCHAR || '000000000000000000000000000000000000000000000001')::BIGNUM",
	  NULL },
	{ "date", "DATE '1970-01-01' + i::INT - 2000", NULL },
	{ "date_inf", "CASE WHEN i % 2 = 0 THEN 'infinity' ELSE '-infinity' END::DATE", NULL },
	{ "time", "TIME '00:00:00.000001' + INTERVAL (i) SECOND", NULL },
	{ "timetz", "('12:00:00+0' || (i % 9))::TIMETZ", NULL },
	{ "timestamp", "TIMESTAMP '1969-12-31 23:59:59.999999' + INTERVAL (i) HOUR", NULL },
	{ "timestamp_s", "(TIMESTAMP '2000-01-01' + INTERVAL (i) HOUR)::TIMESTAMP_S", NULL },
	{ "timestamp_ms", "(TIMESTAMP '2000-01-01' + INTERVAL (i) HOUR)::TIMESTAMP_MS", NULL },
	{ "timestamp_ns", "(TIMESTAMP '2000-01-01' + INTERVAL (i) HOUR)::TIMESTAMP_NS", NULL },
	{ "timestamptz", "(TIMESTAMP '2000-01-01' + INTERVAL (i) HOUR)::TIMESTAMPTZ", NULL },
	{ "timestamp_inf", "CASE WHEN i % 2 = 0 THEN 'infinity' ELSE '-infinity' END::TIMESTAMP",
	  NULL },
	{ "interval", "INTERVAL (i) MONTH + INTERVAL (i) DAY + INTERVAL (i) SECOND", NULL },
	{ "uuid", "md5(i::VARCHAR)::UUID", NULL },
	{ "json", "('{\"a\": ' || i || '}')::JSON", NULL },
	{ "enum", "(i % 3)::VARCHAR::ENUM('2', '1', '0')", "VARCHAR" },
	{ "list", "CASE WHEN i % 4 = 0 THEN [] WHEN i % 4 = 1 THEN [NULL] ELSE [i, i + 1] END", NULL },
	{ "list_text", "['a' || i, NULL, repeat('b', 30)]", NULL },
	{ "list_list", "[[i], [], NULL, [i, i]]", NULL },
	{ "array", "[i, i, NULL]::BIGINT[3]", NULL },
	{ "struct", "{'a': i, 'b': 'text ' || i, 'c': {'d': [i]}}", NULL },
	{ "map", "MAP {i: 'v' || i, i + 1: NULL}", NULL },
	{ "union",
	  "CASE WHEN i % 2 = 0 THEN union_value(n := i)::UNION(n BIGINT, s VARCHAR) ELSE 'x'::UNION(n "
	  "BIGINT, s VARCHAR) END",
	  NULL },
	{ "list_struct", "[{'k': i, 'e': NULL::INT}, NULL]", NULL },
	{ "null", "NULL::INTEGER", NULL },
};

static void round_trip(const struct type_case *c, bool lz4)
{
	char sql[512];
	struct mg_error err;
	char *type = NULL;
	char *want = NULL;
	snprintf(sql, sizeof sql,
	         "CREATE OR REPLACE TABLE src AS SELECT i, v FROM range(5000) a(i) LEFT JOIN (SELECT "
	         "i, %s AS v FROM range(5000) t(i) WHERE i %% 11 <> 10) USING (i) ORDER BY i",
	         c->value);
	exec_ok(sql);
	scatter("SELECT i, v FROM src", NULL, 1, lz4);
	assert_int_equal(
		mg_duck_text(conn, "SELECT any_value(typeof(v)) FROM merganser_exchange(1)", &type, &err),
		0);
	assert_int_equal(mg_duck_text(conn, "SELECT any_value(typeof(v)) FROM src", &want, &err), 0);
	if (strcmp(type, c->arrives ? c->arrives : want) != 0) {
		fail_msg("%s: %s arrives as %s", c->name, want, type);
	}
	mg_free(type);
	mg_free(want);
	int64_t same = sql_int("SELECT count(*) FROM src JOIN merganser_exchange(1) x USING (i) WHERE "
	                       "src.v::VARCHAR IS NOT DISTINCT FROM x.v::VARCHAR");
	int64_t equal = c->arrives ? 5000
	                           : sql_int("SELECT count(*) FROM src JOIN merganser_exchange(1) x "
	                                     "USING (i) WHERE src.v IS NOT DISTINCT FROM x.v");
	if (same != 5000 || equal != 5000) {
		fail_msg("%s: %d rows show the same, %d are equal", c->name, (int)same, (int)equal);
	}
}

static void test_all_types_round_trip(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof type_cases / sizeof *type_cases; i++) {
		round_trip(&type_cases[i], i % 2 == 0);
		round_trip(&type_cases[i], i % 2 != 0);
	}
}

static void test_all_types_at_once_and_subsets(void **state)
{
	(void)state;
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql,
	          "CREATE OR REPLACE TABLE src AS SELECT * FROM range(5000) a(i) LEFT JOIN (SELECT i");
	size_t count = sizeof type_cases / sizeof *type_cases;
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(&sql, ", %s AS \"%s\"", type_cases[i].value, type_cases[i].name);
	}
	mg_sb_add(&sql, " FROM range(5000) t(i) WHERE i % 11 <> 10) USING (i) ORDER BY i");
	exec_ok(mg_sb_text(&sql));
	scatter("SELECT * FROM src", NULL, 1, false);
	/* Every single column alone, and in pairs in the other order. */
	for (size_t i = 0; i < count; i++) {
		const char *a = type_cases[i].name;
		const char *b = type_cases[(i + 5) % count].name;
		mg_sb_clear(&sql);
		mg_sb_addf(&sql,
		           "SELECT count(*) FROM (SELECT md5(string_agg(coalesce(\"%s\"::VARCHAR, '-'), "
		           "',' ORDER BY \"%s\"::VARCHAR)) AS h FROM src) a"
		           " JOIN (SELECT md5(string_agg(coalesce(\"%s\"::VARCHAR, '-'), ',' ORDER BY "
		           "\"%s\"::VARCHAR)) AS h FROM merganser_exchange(1)) b USING (h)",
		           a, a, a, a);
		assert_int_equal(sql_int(mg_sb_text(&sql)), 1);
		mg_sb_clear(&sql);
		mg_sb_addf(
			&sql,
			"SELECT count(*) FROM (SELECT \"%s\"::VARCHAR AS p, \"%s\"::VARCHAR AS q, i FROM src "
			"EXCEPT SELECT \"%s\"::VARCHAR, \"%s\"::VARCHAR, i FROM merganser_exchange(1))",
			b, a, b, a);
		assert_int_equal(sql_int(mg_sb_text(&sql)), 0);
	}
	mg_sb_fini(&sql);
	assert_int_equal(sql_int("SELECT count(*) FROM merganser_exchange(1)"), 5000);
	assert_int_equal(sql_int("SELECT count(*) FROM merganser_exchange(1) WHERE i >= 4990"), 10);
	assert_int_equal(sql_int("SELECT count(*) FROM (SELECT 1 FROM merganser_exchange(1) LIMIT 3)"),
	                 3);
}

static void test_no_rows(void **state)
{
	(void)state;
	struct encode encode =
		scatter("SELECT i, 'x' AS t, [i] AS l, {'a': i} AS s FROM range(10) t(i) WHERE i > 10",
	            NULL, 1, false);
	assert_int_equal(encode.batches, 0);
	assert_int_equal(sql_int("SELECT count(*) FROM merganser_exchange(1)"), 0);
	assert_int_equal(
		sql_int("SELECT count(t) + coalesce(sum(len(l)), 0)::BIGINT FROM merganser_exchange(1)"),
		0);
}

/* Two columns of one name are no error of a stage; by place both can be read. */
static void test_equal_names(void **state)
{
	(void)state;
	scatter("SELECT i AS a, i + 1 AS a, i + 2 AS \"A\" FROM range(10) t(i)", NULL, 1, false);
	assert_int_equal(
		sql_int("SELECT sum(x + 10 * y + 100 * z)::BIGINT FROM merganser_exchange(1) t(x, y, z)"),
		45 + 550 + 6500);
}

static void test_missing_exchange_and_no_context(void **state)
{
	(void)state;
	struct mg_error err;
	assert_int_equal(mg_duck_exec(conn, "SELECT * FROM merganser_exchange(7)", &err),
	                 MG_E_INTERNAL);
	assert_string_equal(err.message, "exchange 7 is not there");
	assert_int_equal(mg_duck_exec(conn, "SELECT * FROM merganser_exchange(-1)", &err), MG_E_BIND);
	mg_duck_set_context(conn, NULL);
	assert_int_equal(mg_duck_exec(conn, "SELECT * FROM merganser_exchange(1)", &err), MG_E_BIND);
	mg_duck_set_context(conn, &context);
	exec_ok("SELECT 1");
}

static void test_garbage_is_refused(void **state)
{
	(void)state;
	struct mg_error err;
	scatter("SELECT i, 'text ' || i AS t FROM range(100) t(i)", NULL, 1, false);
	struct mg_spool *bad = mg_spool_new(&budget);
	struct mg_buf *junk = mg_buf_copy("\xff\xff\xff\xff\x10\0\0\0 not a flatbuffer....", 30);
	assert_int_equal(mg_spool_set_schema(bad, mg_spool_schema(spools[1]), &err), 0);
	assert_int_equal(mg_spool_put(bad, junk, 5, &err), 0);
	mg_spool_seal(bad);
	mg_buf_unref(junk);
	spools[3] = bad;
	int rc = mg_duck_exec(conn, "SELECT sum(i) FROM merganser_exchange(3)", &err);
	assert_true(rc == MG_E_PROTOCOL || rc == MG_E_CORRUPT);
	assert_int_equal(sql_int("SELECT sum(i) FROM merganser_exchange(1)"), 4950);
}

/* ---- scatter ---- */

static uint16_t *owners(uint32_t targets)
{
	uint16_t *owner = calloc(MG_SLOTS, sizeof *owner);
	for (size_t i = 0; i < MG_SLOTS; i++) {
		owner[i] = (uint16_t)(i * targets / MG_SLOTS);
	}
	return owner;
}

static void test_scatter_places_every_row_once(void **state)
{
	(void)state;
	uint16_t *owner = owners(5);
	exec_ok("CREATE OR REPLACE TABLE src AS SELECT i, repeat('v', (i % 40)::INT) AS t, CASE WHEN i "
	        "% 3 = 0 THEN NULL ELSE [i] END AS l FROM range(300000) t(i)");
	struct encode encode = scatter("SELECT *, mg_slot(i) FROM src", owner, 5, false);
	assert_int_equal(encode.largest, 2048);
	assert_true(encode.batches <= 300000 / 2048 + 1 + 5);
	int64_t rows = 0;
	for (int target = 0; target < 5; target++) {
		char sql[512];
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM (SELECT i, t, l FROM merganser_exchange(%d) EXCEPT ALL "
		         "SELECT i, t, l FROM src"
		         " WHERE mg_slot(i)::INT * 5 // 16384 = %d)",
		         1 + target, target);
		assert_int_equal(sql_int(sql), 0);
		rows += (int64_t)mg_spool_rows(spools[1 + target]);
	}
	assert_int_equal(rows, 300000);
	assert_int_equal(
		sql_int("SELECT count(DISTINCT i) FROM (SELECT i FROM merganser_exchange(1) UNION ALL "
	            "SELECT i FROM merganser_exchange(2)"
	            " UNION ALL SELECT i FROM merganser_exchange(3) UNION ALL SELECT i FROM "
	            "merganser_exchange(4) UNION ALL SELECT i FROM merganser_exchange(5))"),
		300000);
	/* Filtered to little chunks, the batches are full all the same. */
	encode = scatter("SELECT *, mg_slot(i) FROM src WHERE i % 10 = 0", owner, 5, false);
	assert_true(encode.batches <= 30000 / 2048 + 1 + 5);
	free(owner);
}

/* Rows so wide that 2048 of them are 60 MB, now and then one that alone is more than a batch. */
static void test_wide_rows_are_cut_by_bytes(void **state)
{
	(void)state;
	uint16_t *owner = owners(3);
	exec_ok(
		"CREATE OR REPLACE TABLE src AS SELECT i, CASE WHEN i % 1500 = 7 THEN repeat('x', "
		"6000000) WHEN i % 5 = 0 THEN NULL ELSE repeat(chr(97 + (i % 26)::INT), 30000) END AS t, "
		"CASE WHEN i % 3 = 0 THEN NULL ELSE [i, NULL, i + 1] END AS l, {'a': i, 'b': ['s' || i]} "
		"AS s, MAP {i: 'm' || i} AS m, i % 2 = 0 AS b, [i, i + 1]::BIGINT[2] AS r, "
		"('e' || (i % 3))::ENUM('e0', 'e1', 'e2') AS e FROM range(3000) t(i)");
	for (uint32_t targets = 1; targets <= 3; targets += 2) {
		struct encode encode =
			scatter(targets == 1 ? "SELECT * FROM src" : "SELECT *, mg_slot(i) FROM src",
		            targets == 1 ? NULL : owner, targets, false);
		assert_true(encode.largest_bytes > MG_DUCK_BATCH_BYTES / 4);
		assert_true(encode.largest_bytes <= MG_DUCK_BATCH_BYTES + 65536);
		int64_t rows = 0;
		for (uint32_t target = 1; target <= targets; target++) {
			char sql[512];
			snprintf(
				sql, sizeof sql,
				"SELECT count(*) FROM merganser_exchange(%u) x JOIN src y USING (i) WHERE x.t IS "
				"NOT DISTINCT FROM y.t AND x.l IS NOT DISTINCT FROM y.l AND x.s = y.s AND x.m = "
				"y.m AND x.b = y.b AND x.r = y.r AND x.e = y.e::VARCHAR",
				target);
			rows += sql_int(sql);
			assert_true(mg_spool_rows(spools[target]) > 0);
		}
		assert_int_equal(rows, 3000);
	}
	free(owner);
}

static void test_scatter_refuses(void **state)
{
	(void)state;
	struct mg_error err;
	struct encode encode = { 0 };
	struct mg_duck_sink sink = { encode_begin, encode_put, &encode };
	uint16_t *owner = owners(2);
	assert_int_equal(mg_duck_scatter(conn, "SELECT 1, 2", owner, 2, &sink, &err), MG_E_INTERNAL);
	assert_int_equal(mg_duck_scatter(conn, "SELECT nope", owner, 2, &sink, &err), MG_E_NO_COLUMN);
	assert_int_equal(mg_duck_scatter(conn, "SELECT 1, NULL::USMALLINT", owner, 2, &sink, &err),
	                 MG_E_INTERNAL);
	mg_buf_unref(encode.schema);
	mg_arrow_encoder_free(encode.encoder);
	free(owner);
}

/* Larger batches than DuckDB's, as a foreign producer may send, are cut. */
static void test_large_batches_are_cut(void **state)
{
	(void)state;
	struct mg_error err;
	struct mg_duck_result *res = NULL;
	struct encode encode = { 0 };
	clear_spools(NULL);
	spools[1] = mg_spool_new(&budget);
	exec_ok("CREATE OR REPLACE TABLE src AS SELECT i, CASE WHEN i % 7 = 0 THEN NULL ELSE 'text "
	        "number ' || i END AS t, i % 2 = 0 AS b, [i, i] AS l, {'a': i, 's': 's' || i} AS s,"
	        " [i, i + 1]::BIGINT[2] AS r, MAP {i: 1} AS m FROM range(10000) t(i)");
	assert_int_equal(mg_duck_query(conn, "SELECT * FROM src", &res, &err), 0);
	assert_int_equal(encode_begin(&encode, mg_duck_result_schema(res), &err), 0);
	for (;;) {
		struct ArrowArray array;
		bool done = false;
		assert_int_equal(mg_duck_result_next(res, 8192, &array, &done, &err), 0);
		if (done) {
			break;
		}
		assert_int_equal(encode_put(&encode, 0, &array, &err), 0);
		array.release(&array);
	}
	mg_duck_result_free(res);
	assert_true(encode.largest > 2048);
	assert_int_equal(mg_spool_set_schema(spools[1], encode.schema, &err), 0);
	mg_spool_seal(spools[1]);
	mg_buf_unref(encode.schema);
	mg_arrow_encoder_free(encode.encoder);
	static const char *const columns[] = { "i", "t", "b", "l", "s", "r", "m" };
	for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
		char sql[256];
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM src JOIN merganser_exchange(1) x USING (i) WHERE src.%s IS "
		         "NOT DISTINCT FROM x.%s",
		         columns[i], columns[i]);
		if (sql_int(sql) != 10000) {
			fail_msg("column %s differs", columns[i]);
		}
	}
}

/* ---- many threads, many connections ---- */

static void *query_often(void *arg)
{
	(void)arg;
	struct mg_error err;
	struct mg_duck_conn *mine = NULL;
	if (mg_duck_connect(duck, &mine, &err) != 0) {
		abort();
	}
	mg_duck_set_context(mine, &context);
	for (int i = 0; i < 20; i++) {
		int64_t out = 0;
		if (mg_duck_int(mine,
		                "SELECT sum(length(t))::BIGINT + sum(i)::BIGINT FROM merganser_exchange(1)",
		                &out, &err) != 0) {
			fprintf(stderr, "%s\n", err.message);
			abort();
		}
		if (out != 1950000 + 4999950000) {
			fprintf(stderr, "%lld\n", (long long)out);
			abort();
		}
	}
	mg_duck_disconnect(mine);
	return NULL;
}

static void test_parallel_readers(void **state)
{
	(void)state;
	pthread_t threads[4];
	scatter("SELECT i, repeat('v', (i % 40)::INT) AS t FROM range(100000) t(i)", NULL, 1, true);
	assert_true(atomic_load(&budget.used) > 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, query_often, NULL);
	}
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	/* A self join reads one spool twice at once; a spool's string memory must survive build sides.
	 */
	assert_int_equal(sql_int("SELECT count(*) FROM merganser_exchange(1) a JOIN "
	                         "merganser_exchange(1) b ON a.i = b.i AND a.t = b.t"),
	                 100000);
	assert_int_equal(sql_int("SELECT count(*) FROM (SELECT t, i FROM merganser_exchange(1) ORDER "
	                         "BY t DESC, i LIMIT 50000)"),
	                 50000);
	exec_ok("CREATE OR REPLACE TABLE copy AS SELECT * FROM merganser_exchange(1)");
	assert_int_equal(sql_int("SELECT count(DISTINCT t) FROM copy"), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_all_types_round_trip, clear_spools),
		cmocka_unit_test_teardown(test_all_types_at_once_and_subsets, clear_spools),
		cmocka_unit_test_teardown(test_no_rows, clear_spools),
		cmocka_unit_test_teardown(test_equal_names, clear_spools),
		cmocka_unit_test_teardown(test_missing_exchange_and_no_context, clear_spools),
		cmocka_unit_test_teardown(test_garbage_is_refused, clear_spools),
		cmocka_unit_test_teardown(test_scatter_places_every_row_once, clear_spools),
		cmocka_unit_test_teardown(test_wide_rows_are_cut_by_bytes, clear_spools),
		cmocka_unit_test_teardown(test_scatter_refuses, clear_spools),
		cmocka_unit_test_teardown(test_large_batches_are_cut, clear_spools),
		cmocka_unit_test_teardown(test_parallel_readers, clear_spools),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
