/*
 * test_plan_roundtrip.c - every statement: bind, read the plan, prune, print it whole, run the
 * print.
 *
 * Rule: the printed SQL gives the answer of the original text: the same number of rows, the same
 * types, the same values (doubles to 1e-9).  No distribution is needed for that, so this is the
 * judge of the reader and the printer.
 *
 * Usage: test_plan_roundtrip [-v] [suite ...]; suites: shapes values nasty tpch tpcds ssb
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sql/plandb.h"
#include "sql/statement.h"
#include "store/duck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct world {
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_plandb *plandb;
	size_t right, refused, wrong, failing;
	bool verbose;
};

static bool verbose;

static void must(int code, const struct mg_error *err, const char *what)
{
	if (code) {
		fprintf(stderr, "%.300s: %s %s\n", what, err->message, err->detail);
		fail();
	}
}

static void run(struct world *world, const char *sql)
{
	struct mg_error err;

	must(mg_duck_exec(world->conn, sql, &err), &err, sql);
}

/* ---- rows as texts ---- */

struct rows {
	size_t columns, count, cap;
	char ***cells; /* [row][column]; NULL for NULL */
};

static void rows_free(struct rows *rows)
{
	for (size_t i = 0; i < rows->count; i++) {
		for (size_t k = 0; k < rows->columns; k++) {
			mg_free(rows->cells[i][k]);
		}
		mg_free(rows->cells[i]);
	}
	mg_free(rows->cells);
}

static char *cell(const struct ArrowArray *array, int64_t row)
{
	const uint8_t *valid = array->buffers[0];
	int64_t at = array->offset + row;

	if (valid && !(valid[at / 8] >> (at % 8) & 1)) {
		return NULL;
	}
	const int32_t *offsets = (const int32_t *)array->buffers[1] + at;

	return mg_strndup((const char *)array->buffers[2] + offsets[0],
	                  (size_t)(offsets[1] - offsets[0]));
}

/* Run sql with every column as text. */
static int rows_get(struct world *world, const char *sql, size_t columns, struct rows *rows,
                    struct mg_error *err)
{
	struct mg_duck_result *result = NULL;
	struct mg_sb sb = { 0 };
	bool done = false;

	*rows = (struct rows){ .columns = columns };
	for (size_t i = 0; i < columns; i++) {
		mg_sb_addf(&sb, "%sCAST(x%zu AS VARCHAR)", i ? ", " : "SELECT ", i);
	}
	mg_sb_addf(&sb, " FROM (%s) t(", sql);
	for (size_t i = 0; i < columns; i++) {
		mg_sb_addf(&sb, "%sx%zu", i ? ", " : "", i);
	}
	mg_sb_add(&sb, ")");
	int code = mg_duck_query(world->conn, mg_sb_text(&sb), &result, err);

	while (!code && !done) {
		struct ArrowArray batch = { 0 };

		code = mg_duck_result_next(result, 2048, &batch, &done, err);
		for (int64_t row = 0; !code && !done && row < batch.length; row++) {
			mg_grow(rows->cells, rows->count, rows->cap);
			char **cells = mg_alloc0((columns + 1) * sizeof *cells);

			for (size_t i = 0; i < columns; i++) {
				cells[i] = cell(batch.children[i], batch.offset + row);
			}
			rows->cells[rows->count++] = cells;
		}
		if (batch.release) {
			batch.release(&batch);
		}
	}
	if (result) {
		mg_duck_result_free(result);
	}
	mg_sb_fini(&sb);
	return code;
}

static size_t sort_columns;

/* Numbers with a point or exponent are rounded, so that nearly equal rows sort alike. */
static void round_text(char *out, size_t size, const char *text)
{
	char *end;
	double value = text ? strtod(text, &end) : 0;

	if (text && *text && !*end && strpbrk(text, ".e")) {
		snprintf(out, size, "%.6g", value);
	} else {
		snprintf(out, size, "%s", text ? text : "\001");
	}
}

static int row_compare(const void *a, const void *b)
{
	char *const *left = *(char **const *)a, *const *right = *(char **const *)b;
	char x[256], y[256];

	for (size_t i = 0; i < sort_columns; i++) {
		round_text(x, sizeof x, left[i]);
		round_text(y, sizeof y, right[i]);
		int order = strcmp(x, y);

		if (order) {
			return order;
		}
	}
	return 0;
}

/* strcmp, but two doubles may differ by 1e-9. */
static bool cell_same(const char *a, const char *b, const char *type)
{
	if (!a || !b) {
		return a == b;
	}
	if (strcmp(a, b) == 0) {
		return true;
	}
	if (strcmp(type, "DOUBLE") != 0 && strcmp(type, "FLOAT") != 0) {
		return false;
	}
	double x = strtod(a, NULL), y = strtod(b, NULL);

	return fabs(x - y) <= 1e-9 * fmax(1, fmax(fabs(x), fabs(y)));
}

static bool rows_same(struct rows *want, struct rows *got, const char **types, char *why,
                      size_t size)
{
	if (want->count != got->count) {
		snprintf(why, size, "%zu rows for %zu", got->count, want->count);
		return false;
	}
	sort_columns = want->columns;
	if (want->count) {
		qsort(want->cells, want->count, sizeof *want->cells, row_compare);
		qsort(got->cells, got->count, sizeof *got->cells, row_compare);
	}
	for (size_t i = 0; i < want->count; i++) {
		for (size_t k = 0; k < want->columns; k++) {
			const char *a = want->cells[i][k], *b = got->cells[i][k];

			if (!cell_same(a, b, types[k])) {
				snprintf(why, size, "row %zu column %zu: %.80s for %.80s", i, k, b ? b : "NULL",
				         a ? a : "NULL");
				return false;
			}
		}
	}
	return true;
}

/* ---- one statement ---- */

enum outcome { RIGHT, REFUSED, WRONG, FAILING };

static enum outcome compare(struct world *world, struct mg_arena *arena, const char *text,
                            const struct mg_bound *bound, char *why, size_t size)
{
	struct rows want, got = { 0 };
	struct mg_error err, other;
	char *sql = NULL;
	const char **names, **types;
	size_t count;
	enum outcome outcome = WRONG;

	if (mg_plan_print(arena, bound->root, &sql, &err)) {
		snprintf(why, size, "print: %.300s", err.message);
		return REFUSED;
	}
	if (verbose) {
		printf("%s\n", sql);
	}
	int code = rows_get(world, text, bound->column_count, &want, &err);
	int code_got = rows_get(world, sql, bound->column_count, &got, &other);

	if (code || code_got) {
		snprintf(why, size, "%.300s", code ? err.message : other.message);
		outcome = code && code_got ? FAILING : WRONG;
	} else if (mg_duck_describe(world->conn, arena, sql, &count, &names, &types, &err)) {
		snprintf(why, size, "describe: %.300s", err.message);
	} else if (rows_same(&want, &got, bound->types, why, size)) {
		outcome = RIGHT;
		for (size_t i = 0; i < count; i++) {
			if (strcmp(types[i], bound->types[i]) != 0) {
				snprintf(why, size, "column %zu is %.80s for %.80s", i, types[i], bound->types[i]);
				outcome = WRONG;
			}
		}
	}
	rows_free(&want);
	rows_free(&got);
	return outcome;
}

static void check(struct world *world, const char *label, const char *text)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_bound bound;
	struct mg_error err;
	char why[400] = "";
	enum outcome outcome;
	static const char *const words[] = { "right", "REFUSED", "WRONG", "fails alike" };

	if (mg_plandb_bind(world->plandb, arena, NULL, text, &bound, &err)) {
		snprintf(why, sizeof why, "bind: %.200s %.150s", err.message, err.detail);
		outcome = REFUSED;
	} else if (!bound.root) {
		snprintf(why, sizeof why, "%s", bound.unsupported);
		outcome = REFUSED;
	} else {
		outcome = compare(world, arena, text, &bound, why, sizeof why);
	}
	world->right += outcome == RIGHT;
	world->refused += outcome == REFUSED;
	world->wrong += outcome == WRONG;
	world->failing += outcome == FAILING;
	if (verbose || outcome != RIGHT) {
		printf("%-12s %s: %s | %.150s\n", words[outcome], label, why, text);
	}
	mg_arena_free(arena);
}

/* ---- worlds ---- */

/* Copy every table into the planning database, through a file; views for the printed scans. */
static void world_link(struct world *world)
{
	char path[64], sql[256];
	struct mg_error err;
	struct rows tables;

	snprintf(path, sizeof path, "/tmp/mg_roundtrip_%d.db", (int)getpid());
	(void)unlink(path);
	snprintf(sql, sizeof sql, "ATTACH '%s' AS f; COPY FROM DATABASE memory TO f; DETACH f", path);
	run(world, sql);
	must(mg_plandb_open(&world->plandb, &err), &err, "plandb");
	snprintf(sql, sizeof sql, "ATTACH '%s' AS f (READ_ONLY)", path);
	must(mg_plandb_exec(world->plandb, sql, &err), &err, sql);
	must(rows_get(world, "SELECT table_name FROM duckdb_tables()", 1, &tables, &err), &err,
	     "tables");
	for (size_t i = 0; i < tables.count; i++) {
		snprintf(sql, sizeof sql, "CREATE TABLE main.\"%s\" AS FROM f.main.\"%s\"",
		         tables.cells[i][0], tables.cells[i][0]);
		must(mg_plandb_exec(world->plandb, sql, &err), &err, sql);
		snprintf(sql, sizeof sql, "CREATE TEMP VIEW \"main.%s\" AS FROM memory.main.\"%s\"",
		         tables.cells[i][0], tables.cells[i][0]);
		run(world, sql);
	}
	rows_free(&tables);
	must(mg_plandb_exec(world->plandb, "DETACH f", &err), &err, "detach");
	must(mg_plandb_seal(world->plandb, &err), &err, "seal");
	(void)unlink(path);
}

static void world_open(struct world *world)
{
	const struct mg_duck_options options = { .threads = 2,
		                                     .memory_bytes = 1u << 30,
		                                     .lossless_arrow = true };
	struct mg_error err;

	*world = (struct world){ 0 };
	must(mg_duck_open(&world->duck, &options, &err), &err, "open");
	must(mg_duck_load_tpch(world->duck, &err), &err, "tpch");
	must(mg_duck_connect(world->duck, &world->conn, &err), &err, "connect");
	run(world, "SET TimeZone = 'UTC'");
}

static void world_close(struct world *world, const char *suite)
{
	printf("%s: %zu right, %zu refused, %zu wrong, %zu fail alike\n", suite, world->right,
	       world->refused, world->wrong, world->failing);
	mg_plandb_close(world->plandb);
	mg_duck_disconnect(world->conn);
	mg_duck_close(world->duck);
}

static char *file_text(const char *name)
{
	const char *root = getenv("MG_SOURCE_ROOT");
	char path[1024];

	snprintf(path, sizeof path, "%s/test/sql/%s", root ? root : ".", name);
	FILE *file = fopen(path, "rb");

	if (!file) {
		fprintf(stderr, "cannot open %s\n", path);
		fail();
	}
	struct mg_sb sb = { 0 };
	char part[4096];
	size_t got;

	while ((got = fread(part, 1, sizeof part, file)) > 0) {
		mg_sb_add_len(&sb, part, got);
	}
	(void)fclose(file);
	return mg_sb_take(&sb);
}

/* Statements of a file; those of another kind than SELECT are set-up. */
static void run_file(struct world *world, const char *name, bool setup)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_statement *statements;
	struct mg_error err;
	char *text = file_text(name);
	size_t count;

	must(mg_statement_split(arena, mg_str(text), &statements, &count, &err), &err, name);
	for (size_t i = 0; i < count; i++) {
		char *sql = mg_strndup(statements[i].text.ptr, statements[i].text.len), label[64];

		snprintf(label, sizeof label, "%s %zu", name, i + 1);
		if (setup && statements[i].kind == MG_S_DDL) {
			run(world, sql);
		} else if (!setup && statements[i].kind == MG_S_SELECT) {
			check(world, label, sql);
		}
		mg_free(sql);
	}
	mg_free(text);
	mg_arena_free(arena);
}

static void run_queries(struct world *world, const char *function)
{
	struct rows rows;
	struct mg_error err;
	char sql[128], label[64];

	snprintf(sql, sizeof sql, "SELECT query_nr, rtrim(query, E'; \n') FROM %s()", function);
	must(rows_get(world, sql, 2, &rows, &err), &err, sql);
	for (size_t i = 0; i < rows.count; i++) {
		snprintf(label, sizeof label, "%s %s", function, rows.cells[i][0]);
		check(world, label, rows.cells[i][1]);
	}
	rows_free(&rows);
}

static void test_tpch(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	run(&world, "CALL dbgen(sf = 0.01)");
	world_link(&world);
	run_queries(&world, "tpch_queries");
	world_close(&world, "tpch");
	assert_int_equal(world.right, 22);
}

static void test_tpcds(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	run(&world, "CALL dsdgen(sf = 0.01)");
	world_link(&world);
	run_queries(&world, "tpcds_queries");
	world_close(&world, "tpcds");
	assert_int_equal(world.right, 99);
}

static void test_ssb(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	run(&world, "CALL dbgen(sf = 0.01)");
	run_file(&world, "ssb.sql", true);
	world_link(&world);
	run_file(&world, "ssb.sql", false);
	world_close(&world, "ssb");
	assert_int_equal(world.right, 13);
}

static void test_nasty(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	run_file(&world, "nasty.sql", true);
	world_link(&world);
	run_file(&world, "nasty.sql", false);
	world_close(&world, "nasty");
	assert_int_equal(world.wrong, 0);
	assert_true(world.right >= 105);
}

static void test_shapes(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	run_file(&world, "shapes.sql", true);
	world_link(&world);
	run_file(&world, "shapes.sql", false);
	world_close(&world, "shapes");
	assert_int_equal(world.wrong, 0);
	assert_int_equal(world.refused, 0);
	assert_true(world.right >= 52);
}

static void test_values(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	run_file(&world, "values.sql", true);
	world_link(&world);
	run_file(&world, "values.sql", false);
	world_close(&world, "values");
	assert_int_equal(world.wrong, 0);
	assert_true(world.right >= 100);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes), cmocka_unit_test(test_values), cmocka_unit_test(test_nasty),
		cmocka_unit_test(test_tpch),   cmocka_unit_test(test_tpcds),  cmocka_unit_test(test_ssb),
	};

	if (argc > 1 && strcmp(argv[1], "-v") == 0) {
		verbose = true;
		argc--;
		argv++;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1) {
		char pattern[64];

		snprintf(pattern, sizeof pattern, "test_%s", argv[1]);
		cmocka_set_test_filter(pattern);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
