/*
 * compare.c - runs query files on the cluster and on plain DuckDB, in turn, and compares.
 *
 * Equal means: the same column types; integers, decimals, dates and texts the same to the last
 * character; DOUBLE and FLOAT to 1e-9 of the larger; rows in the same order when the query orders
 * them, else as a set.  Each side runs each query twice and its better time counts, so that neither
 * pays for a first touch of its files.
 *
 * Limit: answers are held as text in memory; meant for benchmarks' answers.
 */
#include "cli/compare.h"

#include "cli/connect.h"
#include "codec/arrow_text.h"
#include "os/clock.h"
#include "os/file.h"
#include "store/duck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUERY_SIZE_MAX (1u << 20)
#define TOLERANCE 1e-9
#define RUNS 2
#define BATCH_ROWS 65536

struct answer {
	struct mg_arena *arena;
	size_t columns;
	const char **types;
	const char **cells;         /* rows * columns; NULL is NULL */
	size_t rows, cap;
	double ms;
	char step[16];              /* how the cluster ran it */
	unsigned nodes;
};

struct compare {
	mg_client *client;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
};

static void answer_fini(struct answer *answer)
{
	mg_arena_free(answer->arena);
	mg_free(answer->cells);
	*answer = (struct answer){ 0 };
}

static void answer_begin(struct answer *answer, size_t columns)
{
	answer->arena = mg_arena_new();
	answer->columns = columns;
	answer->types = mg_arena_new_array(answer->arena, const char *, columns + 1);
}

static int answer_batch(struct answer *answer, struct mg_arrow_view *view,
                        const struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_sb text = { 0 };
	int64_t rows;

	if (mg_arrow_view_set(view, batch)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a batch cannot be read");
	}
	rows = mg_arrow_view_rows(view);
	if (answer->rows + (size_t)rows > answer->cap) {
		answer->cap = (answer->rows + (size_t)rows) * 2;
		answer->cells =
			mg_realloc(answer->cells, answer->cap * answer->columns * sizeof *answer->cells);
	}
	for (int64_t row = 0; row < rows; row++) {
		for (size_t i = 0; i < answer->columns; i++) {
			const char **cell = &answer->cells[answer->rows * answer->columns + i];

			*cell = NULL;
			if (!mg_arrow_view_is_null(view, i, row)) {
				mg_sb_clear(&text);
				mg_arrow_view_text(view, i, row, &text);
				*cell = mg_arena_strndup(answer->arena, mg_sb_text(&text), text.len);
			}
		}
		answer->rows++;
	}
	mg_sb_fini(&text);
	return 0;
}

/* ---- the two sides --------------------------------------------------------------------------- */

static int run_merganser(struct compare *c, const char *sql, struct answer *answer,
                         struct mg_error *err)
{
	uint64_t started = mg_clock_us();
	const struct mg_client_statement *s = NULL;
	struct mg_arrow_view *view = NULL;
	int done = 0, code = mg_client_query(c->client, sql, 0);

	code = code ? code : mg_client_next_statement(c->client, &s);
	if (code == 0 && s) {
		answer_begin(answer, s->column_count);
		for (size_t i = 0; i < s->column_count; i++) {
			answer->types[i] = mg_arena_strdup(answer->arena, s->types[i]);
		}
		if (!mg_client_schema(c->client) || mg_arrow_view_new(&view, mg_client_schema(c->client))) {
			code = mg_client_next_batch(c->client, &(struct ArrowArray){ 0 }, &done);
			code = code ? code : mg_error_set(err, MG_E_PROTOCOL, "a query without columns");
			*err = mg_client_failure(c->client)->code ? *mg_client_failure(c->client) : *err;
			return code;
		}
	}
	while (code == 0 && s && !done) {
		struct ArrowArray batch;

		code = mg_client_next_batch(c->client, &batch, &done);
		if (code == 0 && !done) {
			code = answer_batch(answer, view, &batch, err);
			batch.release(&batch);
		}
	}
	mg_arrow_view_free(view);
	if (code == 0 && s) {
		snprintf(answer->step, sizeof answer->step, "%s", s->step);
		answer->nodes = s->nodes;
		code = mg_client_next_statement(c->client, &s);
	}
	answer->ms = (double)(mg_clock_us() - started) / 1000;
	if (code && mg_client_failure(c->client)->code) {
		*err = *mg_client_failure(c->client);
	}
	return code;
}

static int run_plain(struct compare *c, const char *sql, struct answer *answer,
                     struct mg_error *err)
{
	uint64_t started = mg_clock_us();
	struct mg_duck_result *result = NULL;
	struct mg_arrow_view *view = NULL;
	bool done = false;
	int code = mg_duck_query(c->conn, sql, &result, err);

	if (code == 0) {
		answer_begin(answer, mg_duck_result_columns(result));
		for (size_t i = 0; i < answer->columns; i++) {
			answer->types[i] = mg_arena_strdup(answer->arena, mg_duck_result_type(result, i));
		}
		if (mg_arrow_view_new(&view, mg_duck_result_schema(result))) {
			code = mg_error_set(err, MG_E_INTERNAL, "DuckDB's columns cannot be read");
		}
	}
	while (code == 0 && !done) {
		struct ArrowArray batch;

		code = mg_duck_result_next(result, BATCH_ROWS, &batch, &done, err);
		if (code == 0 && !done) {
			code = answer_batch(answer, view, &batch, err);
			ArrowArrayRelease(&batch);
		}
	}
	answer->ms = (double)(mg_clock_us() - started) / 1000;
	mg_arrow_view_free(view);
	mg_duck_result_free(result);
	return code;
}

typedef int (*runner)(struct compare *c, const char *sql, struct answer *answer,
                      struct mg_error *err);

/* Twice; the better time, and the last answer. */
static int run_side(struct compare *c, runner run, const char *sql, struct answer *answer,
                    struct mg_error *err)
{
	double best = INFINITY;
	int code = 0;

	for (int i = 0; i < RUNS && code == 0; i++) {
		answer_fini(answer);
		code = run(c, sql, answer, err);
		best = answer->ms < best ? answer->ms : best;
	}
	answer->ms = best;
	return code;
}

/* ---- equality -------------------------------------------------------------------------------- */

static bool is_inexact(const char *type)
{
	return mg_text_eq_nocase(type, "DOUBLE") || mg_text_eq_nocase(type, "FLOAT");
}

static bool cells_equal(const char *a, const char *b, bool inexact)
{
	double x, y, larger;

	if (!a || !b) {
		return a == b;
	}
	if (!inexact || strcmp(a, b) == 0) {
		return strcmp(a, b) == 0;
	}
	x = strtod(a, NULL);
	y = strtod(b, NULL);
	larger = fabs(x) > fabs(y) ? fabs(x) : fabs(y);
	return fabs(x - y) <= TOLERANCE * larger;
}

static size_t sort_columns;

static int compare_rows(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	for (size_t i = 0; i < sort_columns; i++) {
		int order = x[i] && y[i] ? strcmp(x[i], y[i]) : (x[i] != NULL) - (y[i] != NULL);

		if (order) {
			return order;
		}
	}
	return 0;
}

static void sort_rows(struct answer *answer)
{
	sort_columns = answer->columns;
	if (answer->rows > 1) {
		qsort(answer->cells, answer->rows, answer->columns * sizeof *answer->cells, compare_rows);
	}
}

/* The first difference in why; the rows are sorted first when the query does not order them. */
static bool answers_equal(struct answer *ours, struct answer *plain, bool ordered,
                          struct mg_sb *why)
{
	if (ours->columns != plain->columns || ours->rows != plain->rows) {
		mg_sb_addf(why, "%zu columns and %zu rows, not %zu and %zu", ours->columns, ours->rows,
		           plain->columns, plain->rows);
		return false;
	}
	for (size_t i = 0; i < ours->columns; i++) {
		if (!mg_text_eq_nocase(ours->types[i], plain->types[i])) {
			mg_sb_addf(why, "column %zu is %s, not %s", i + 1, ours->types[i], plain->types[i]);
			return false;
		}
	}
	if (!ordered) {
		sort_rows(ours);
		sort_rows(plain);
	}
	for (size_t at = 0; at < ours->rows * ours->columns; at++) {
		size_t column = at % ours->columns;

		if (!cells_equal(ours->cells[at], plain->cells[at], is_inexact(ours->types[column]))) {
			mg_sb_addf(why, "row %zu, column %zu: \"%s\", not \"%s\"", at / ours->columns + 1,
			           column + 1, ours->cells[at] ? ours->cells[at] : "NULL",
			           plain->cells[at] ? plain->cells[at] : "NULL");
			return false;
		}
	}
	return true;
}

/* ---- plain DuckDB ---------------------------------------------------------------------------- */

static int fill_plain(struct compare *c, const struct mg_compare_options *options,
                      struct mg_error *err)
{
	char *draft;
	int code;

	if (!options->reference) {
		return mg_duck_execf(c->conn, err, "CALL dbgen(sf = %.17g)", options->scale_factor);
	}
	draft = mg_format("%s.%d", options->reference, (int)getpid());
	code = mg_duck_execf(c->conn, err, "ATTACH '%s' AS draft", draft);
	code = code ? code : mg_duck_execf(c->conn, err, "CALL dbgen(sf = %.17g, catalog = 'draft')",
	                                   options->scale_factor);
	code = code ? code : mg_duck_exec(c->conn, "DETACH draft", err);
	code = code ? code : mg_file_rename(draft, options->reference, err);
	mg_file_remove(draft, NULL);
	mg_free(draft);
	return code;
}

static int open_plain(struct compare *c, const struct mg_compare_options *options,
                      struct mg_error *err)
{
	struct mg_duck_options duck = { .lossless_arrow = true };
	bool filled = options->reference && mg_file_exists(options->reference);
	int code = mg_duck_open(&c->duck, &duck, err);

	code = code ? code : mg_duck_load_tpch(c->duck, err);
	code = code ? code : mg_duck_connect(c->duck, &c->conn, err);
	if (code == 0 && !filled) {
		code = fill_plain(c, options, err);
	}
	if (code == 0 && options->reference) {
		code = mg_duck_execf(c->conn, err, "ATTACH '%s' AS plain (READ_ONLY)", options->reference);
		code = code ? code : mg_duck_exec(c->conn, "USE plain", err);
	}
	return code;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int run_query(struct compare *c, const char *name, const char *sql, bool *equal,
                     double *ours_ms, double *plain_ms, struct mg_error *err)
{
	struct answer ours = { 0 }, plain = { 0 };
	struct mg_sb why = { 0 };
	int code = run_side(c, run_plain, sql, &plain, err);

	if (code == 0) {
		code = run_side(c, run_merganser, sql, &ours, err);
		if (code && code != MG_E_DISCONNECTED) {
			mg_sb_add(&why, err->message);
			*equal = false;
			code = 0;
		} else if (code == 0) {
			*equal = answers_equal(&ours, &plain, strcasestr(sql, "order by") != NULL, &why);
		}
	}
	if (code == 0) {
		printf("%-8s %9.1f ms %9.1f ms %7.2fx %8zu row%s  %-11s %u node%s  %s\n", name, ours.ms,
		       plain.ms, plain.ms > 0 ? ours.ms / plain.ms : 0, plain.rows,
		       plain.rows == 1 ? " " : "s", ours.step, ours.nodes, ours.nodes == 1 ? " " : "s",
		       *equal ? "equal" : "differs");
		fflush(stdout);
		if (why.len) {
			fprintf(stderr, "  %s: %s\n", name, why.ptr);
		}
		*ours_ms += ours.ms;
		*plain_ms += plain.ms;
	}
	mg_sb_fini(&why);
	answer_fini(&ours);
	answer_fini(&plain);
	return code;
}

static int run_folder(struct compare *c, const char *folder, bool *all_equal, struct mg_error *err)
{
	char **names = NULL;
	size_t count = 0, queries = 0, equals = 0;
	double ours_ms = 0, plain_ms = 0;
	int code = mg_dir_list(folder, &names, &count, err);

	fprintf(stderr,
	        "query       merganser   plain DuckDB    ratio      answer  way of merganser\n");
	for (size_t i = 0; i < count && code == 0; i++) {
		char *path = mg_path_join(folder, names[i]), *sql = NULL;
		size_t len = strlen(names[i]), size;
		bool equal = false;

		if (len > 4 && strcmp(names[i] + len - 4, ".sql") == 0) {
			names[i][len - 4] = '\0';
			code = mg_file_read(path, QUERY_SIZE_MAX, &sql, &size, err);
			code = code ? code : run_query(c, names[i], sql, &equal, &ours_ms, &plain_ms, err);
			queries++;
			equals += equal;
		}
		mg_free(sql);
		mg_free(path);
	}
	mg_free(names);
	if (code == 0 && queries == 0) {
		code = mg_error_set(err, MG_E_NOT_FOUND, "there is no .sql file in \"%s\"", folder);
	}
	if (code == 0) {
		fprintf(stderr, "%zu of %zu equal; in all %.0f ms beside %.0f ms: %.2fx\n", equals, queries,
		        ours_ms, plain_ms, plain_ms > 0 ? ours_ms / plain_ms : 0);
	}
	*all_equal = code == 0 && equals == queries;
	return code;
}

int mg_compare_run(mg_client *client, const struct mg_compare_options *options, bool *all_equal,
                   struct mg_error *err)
{
	struct compare c = { .client = client };
	int code = open_plain(&c, options, err);

	*all_equal = false;
	if (code == 0) {
		code = run_folder(&c, options->folder, all_equal, err);
	}
	mg_duck_disconnect(c.conn);
	mg_duck_close(c.duck);
	return code;
}
