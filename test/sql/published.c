/*
 * published.c - TPC-H's published answers at scale factor 1 against the texts in queries/tpch, run
 * by the engine that every answer of ours is compared with.
 *
 *   published DIR_WITH_q01.sql..
 *
 * The answers come with DuckDB's generator (tpch_answers()): a header and rows, columns apart by |.
 * Numbers agree to a hundredth, as the specification asks, all else to the letter.
 */
#include "base/mem.h"
#include "base/str.h"
#include "codec/arrow_text.h"
#include "os/file.h"
#include "store/duck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "published: %s: %s\n", what, why);
	exit(1);
}

/* The answer of sql as published ones look: lines of values apart by |, without the header. */
static char *run(struct mg_duck_conn *conn, const char *sql)
{
	struct mg_error err;
	struct mg_duck_result *result;
	struct mg_arrow_view *view;
	struct mg_sb out = { 0 };
	mg_error_clear(&err);
	if (mg_duck_query(conn, sql, &result, &err)) {
		fail(sql, err.message);
	}
	if (mg_arrow_view_new(&view, mg_duck_result_schema(result))) {
		fail(sql, "no view of the answer");
	}
	for (bool done = false; !done;) {
		struct ArrowArray batch = { 0 };
		if (mg_duck_result_next(result, 2048, &batch, &done, &err)) {
			fail(sql, err.message);
		}
		if (done) {
			break;
		}
		mg_arrow_view_set(view, &batch);
		for (int64_t row = 0; row < batch.length; row++) {
			for (size_t column = 0; column < mg_arrow_view_columns(view); column++) {
				mg_sb_add(&out, column ? "|" : "");
				mg_arrow_view_text(view, column, row, &out);
			}
			mg_sb_add_char(&out, '\n');
		}
		ArrowArrayRelease(&batch);
	}
	mg_arrow_view_free(view);
	mg_duck_result_free(result);
	return mg_sb_take(&out);
}

static bool same_value(const char *a, size_t a_len, const char *b, size_t b_len)
{
	char *a_end, *b_end;
	if (a_len == b_len && memcmp(a, b, a_len) == 0) {
		return true;
	}
	double x = strtod(a, &a_end), y = strtod(b, &b_end);
	return a_end == a + a_len && b_end == b + b_len && fabs(x - y) <= 0.0100001;
}

/* Compare value by value; *rows counts lines. */
static bool same_answer(const char *ours, const char *published, size_t *rows)
{
	for (*rows = 0; *ours && *published;) {
		size_t a = strcspn(ours, "|\n"), b = strcspn(published, "|\n");
		if (!same_value(ours, a, published, b) || ours[a] != published[b]) {
			return false;
		}
		*rows += ours[a] == '\n';
		ours += a + (ours[a] != 0);
		published += b + (published[b] != 0);
	}
	return !*ours && !*published;
}

int main(int argc, char **argv)
{
	struct mg_error err;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	int wrong = 0;
	mg_error_clear(&err);
	if (argc != 2) {
		fail("usage", "published DIR");
	}
	struct mg_duck_options options = { .threads = 2, .lossless_arrow = true };
	if (mg_duck_open(&duck, &options, &err) || mg_duck_load_tpch(duck, &err) ||
	    mg_duck_connect(duck, &conn, &err) || mg_duck_exec(conn, "CALL dbgen(sf = 1)", &err)) {
		fail("generator", err.message);
	}
	for (int number = 1; number <= 22; number++) {
		char path[4096], sql[200];
		char *text, *answer = NULL;
		size_t size, rows = 0;
		snprintf(path, sizeof path, "%s/q%02d.sql", argv[1], number);
		snprintf(sql, sizeof sql,
		         "SELECT answer FROM tpch_answers() WHERE query_nr = %d AND scale_factor = 1",
		         number);
		if (mg_file_read(path, 1 << 20, &text, &size, &err) ||
		    mg_duck_text(conn, sql, &answer, &err) || !answer) {
			fail(path, err.message);
		}
		char *ours = run(conn, text);
		const char *body = strchr(answer, '\n');
		bool same = body && same_answer(ours, body + 1, &rows);
		printf("q%02d %s (%zu rows)\n", number, same ? "as published" : "DIFFERS", rows);
		wrong += !same;
		mg_free(ours);
		mg_free(text);
		mg_free(answer);
	}
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
	printf("%d passed, %d failed\n", 22 - wrong, wrong);
	return wrong != 0;
}
