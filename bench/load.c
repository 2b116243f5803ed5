/*
 * load.c - the load generator of the benchmarks: our client library against a server, and the peer,
 * DuckDB in this process, through the same timing code.
 *
 *   load queries URL USER PASSWORD ROOTS REPEAT SETUP FILE...   one line of JSON a file: times of
 * each repeat load stream  URL USER PASSWORD ROOTS REPEAT SETUP FILE      rows, bytes and seconds
 * of a whole answer load duckdb  DATABASE THREADS REPEAT FILE...                the peer of
 * queries: tables of one plain DuckDB file load fetch   DATABASE THREADS REPEAT FILE the peer of
 * stream: DuckDB's own fetch to Arrow
 *
 * SETUP is SQL that runs first, such as "SET strategy = 'cut'"; an empty text is none.
 */
#include "merganser.h"

#include "base/mem.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "store/duck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define SQL_MAX (1u << 20)

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "load: %s: %s\n", what, why);
	exit(1);
}

static char *read_sql(const char *path)
{
	struct mg_error err;
	char *text;
	size_t size;
	mg_error_clear(&err);
	if (mg_file_read(path, SQL_MAX, &text, &size, &err)) {
		fail(path, err.message);
	}
	return text;
}

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (*end || value < 0 || value > 1000000) {
		fail(text, "is no number that makes sense here");
	}
	return (int)value;
}

static double cpu_seconds(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* What one run of one statement gave. */
struct measure {
	uint64_t rows, bytes, moved;
	const char *step;
};

/* ---- our side ---- */

static mg_client *open_client(char **argv)
{
	struct mg_client_options options = MG_CLIENT_OPTIONS_INIT;
	options.url = argv[2];
	options.user = argv[3];
	options.password = argv[4];
	options.tls_roots = argv[5];
	mg_client *client = NULL;
	if (mg_client_connect(&client, &options)) {
		fail(argv[2], client ? mg_client_error(client)->message : "cannot connect");
	}
	return client;
}

static void run_client(mg_client *client, const char *sql, struct measure *out)
{
	const struct mg_client_statement *statement = NULL;
	*out = (struct measure){ .step = "" };
	if (mg_client_query(client, sql, 0)) {
		fail(sql, mg_client_error(client)->message);
	}
	for (;;) {
		if (mg_client_next_statement(client, &statement)) {
			fail(sql, mg_client_error(client)->message);
		}
		if (!statement) {
			return;
		}
		for (int done = 0; !done;) {
			struct ArrowArray batch = { 0 };
			if (mg_client_next_batch(client, &batch, &done)) {
				fail(sql, mg_client_error(client)->message);
			}
			if (!done) {
				out->rows += (uint64_t)batch.length;
				batch.release(&batch);
			}
		}
		out->bytes = statement->bytes;
		out->moved = statement->moved_bytes;
		out->step = statement->step && statement->step[0] ? strdup(statement->step) : "";
	}
}

/* ---- the peer ---- */

static struct mg_duck_conn *open_duck(char **argv, struct mg_duck **duck)
{
	struct mg_error err;
	struct mg_duck_conn *conn;
	mg_error_clear(&err);
	struct mg_duck_options options = { .path = argv[2],
		                               .threads = (unsigned)number(argv[3]),
		                               .lossless_arrow = true };
	if (mg_duck_open(duck, &options, &err) || mg_duck_connect(*duck, &conn, &err)) {
		fail(argv[2], err.message);
	}
	return conn;
}

static void run_duck(struct mg_duck_conn *conn, const char *sql, struct measure *out)
{
	struct mg_error err;
	struct mg_duck_result *result;
	mg_error_clear(&err);
	*out = (struct measure){ .step = "duckdb" };
	if (mg_duck_query(conn, sql, &result, &err)) {
		fail(sql, err.message);
	}
	for (bool done = false; !done;) {
		struct ArrowArray batch = { 0 };
		if (mg_duck_result_next(result, 2048, &batch, &done, &err)) {
			fail(sql, err.message);
		}
		if (!done) {
			out->rows += (uint64_t)batch.length;
			batch.release(&batch);
		}
	}
	mg_duck_result_free(result);
}

/* ---- the same loop for both ---- */

static void report(const char *path, const struct measure *measure, const double *ms, int repeat,
                   double cpu)
{
	const char *slash = strrchr(path, '/');
	printf("{\"name\":\"%s\",\"rows\":%llu,\"bytes\":%llu,\"moved_bytes\":%llu,\"step\":\"%s\","
	       "\"cpu_s\":%.4f,\"ms\":[",
	       slash ? slash + 1 : path, (unsigned long long)measure->rows,
	       (unsigned long long)measure->bytes, (unsigned long long)measure->moved, measure->step,
	       cpu);
	for (int i = 0; i < repeat; i++) {
		printf("%s%.3f", i ? "," : "", ms[i]);
	}
	printf("]}\n");
	fflush(stdout);
}

static void measure_files(mg_client *client, struct mg_duck_conn *conn, int repeat, char **files,
                          int count)
{
	double *ms = mg_alloc(sizeof *ms * (size_t)repeat);
	for (int f = 0; f < count; f++) {
		char *sql = read_sql(files[f]);
		struct measure measure = { .step = "" };
		double cpu = cpu_seconds();
		for (int i = 0; i < repeat; i++) {
			uint64_t start = mg_clock_us();
			if (client) {
				run_client(client, sql, &measure);
			} else {
				run_duck(conn, sql, &measure);
			}
			ms[i] = (double)(mg_clock_us() - start) / 1000;
		}
		report(files[f], &measure, ms, repeat, cpu_seconds() - cpu);
		mg_free(sql);
	}
	mg_free(ms);
}

int main(int argc, char **argv)
{
	bool ours = argc > 8 && (strcmp(argv[1], "queries") == 0 || strcmp(argv[1], "stream") == 0);
	bool peer = argc > 5 && (strcmp(argv[1], "duckdb") == 0 || strcmp(argv[1], "fetch") == 0);
	if (!ours && !peer) {
		fail("usage", "load queries|stream URL USER PASSWORD ROOTS REPEAT SETUP FILE... | load "
		              "duckdb|fetch DATABASE THREADS REPEAT FILE...");
	}
	if (ours) {
		mg_client *client = open_client(argv);
		struct measure ignored;
		if (argv[7][0]) {
			run_client(client, argv[7], &ignored);
		}
		measure_files(client, NULL, number(argv[6]), argv + 8, argc - 8);
		mg_client_close(client);
	} else {
		struct mg_duck *duck;
		struct mg_duck_conn *conn = open_duck(argv, &duck);
		measure_files(NULL, conn, number(argv[4]), argv + 5, argc - 5);
		mg_duck_disconnect(conn);
		mg_duck_close(duck);
	}
	return 0;
}
