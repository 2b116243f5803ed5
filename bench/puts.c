/*
 * puts.c - the load generator of small writes: so many clients, each with a connection and a thread
 * of its own, each with one write under way.
 *
 *   puts insert URL USER PASSWORD ROOTS TABLE ROWS  CLIENTS SECONDS   our channel, INSERT of ROWS
 *   puts select URL USER PASSWORD ROOTS TABLE KEYS  CLIENTS SECONDS   keys below KEYS
 *   puts update URL USER PASSWORD ROOTS TABLE KEYS  CLIENTS SECONDS   likewise
 *   puts resp HOST:PORT ROOTS USER PASSWORD PIPELINE MIX KEYS  CLIENTS SECONDS   Redis' SET, GET
 *   puts rest HOST:PORT ROOTS BASIC                  MIX KEYS  CLIENTS SECONDS   HTTP, scans too
 *   puts etcd HOST:PORT ROOTS                        MIX KEYS  CLIENTS SECONDS   gRPC, Put, Range
 *   puts duckdb FILE                          ROWS  1       SECONDS   prepared INSERT, autocommit
 *
 * MIX is one of puts_mix.c, over keys below KEYS; `fill` writes each of these once, however long it
 * takes.  All network clients are of one kind: the same blocking TLS socket (net/client_tls.h), one
 * write, one read, no library between.  What they send is a key of 8 bytes and a value of 100; with
 * a PIPELINE so many commands at once, and the time of a sample is that of all.  The first fifth of
 * the time warms up and is not counted.  Prints one line of JSON.
 */
#include "puts_int.h"

#include "base/error.h"
#include "base/mem.h"
#include "os/clock.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { CLIENTS_MAX = 1024, SAMPLES_MAX = 4 << 20 };

_Noreturn void puts_fail(const char *what, const char *why)
{
	fprintf(stderr, "puts: %s: %s\n", what, why);
	exit(1);
}

uint64_t puts_random(struct worker *worker)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return worker->random;
}

/* ---- connections ---- */

void puts_connect(struct worker *worker, const char *address, const char *roots,
                  const char *protocol)
{
	const char *const alpn[] = { protocol, NULL };
	char *host = strdup(address), *port = strrchr(host, ':');
	const struct mg_tls_client_options tls = { .roots_file = roots,
		                                       .alpn = protocol ? alpn : NULL };
	struct mg_error err = { 0 };

	*port++ = '\0';
	const struct mg_client_socket_options options = {
		.host = host, .port = port, .tls = &tls, .timeout_ms = 10000, .wake_fd = -1
	};

	if (mg_client_socket_open(&worker->socket, &options, &err)) {
		puts_fail(address, err.message);
	}
	free(host);
}

void puts_read(struct worker *worker)
{
	struct mg_error err = { 0 };
	size_t got = 0;

	if (mg_client_socket_read(worker->socket, worker->in + worker->in_size,
	                          sizeof worker->in - worker->in_size, &got, &err)) {
		puts_fail("read", err.message);
	}
	worker->in_size += got;
	if (!got && mg_client_socket_wait(worker->socket, 30000) != MG_WAIT_BYTES) {
		puts_fail("read", "no answer in 30 s");
	}
}

void puts_send(struct worker *worker)
{
	struct mg_error err = { 0 };

	if (mg_client_socket_write(worker->socket, mg_sb_text(&worker->text), worker->text.len, &err)) {
		puts_fail("write", err.message);
	}
	worker->text.len = 0;
}

/* ---- our channel ---- */

static void ours_open(struct worker *worker)
{
	char **argv = worker->load->arguments;
	struct mg_client_options options = MG_CLIENT_OPTIONS_INIT;

	options.url = argv[0];
	options.user = argv[1];
	options.password = argv[2];
	options.tls_roots = argv[3];
	if (mg_client_connect(&worker->client, &options)) {
		puts_fail(argv[0], mg_client_error(worker->client)->message);
	}
}

static void run_ours(struct worker *worker, uint64_t rows)
{
	const struct mg_client_statement *statement = NULL;
	uint64_t seen = 0;
	int failed = mg_client_query_params(worker->client, mg_sb_text(&worker->text), worker->text.len,
	                                    mg_sb_text(&worker->params));

	failed = failed ? failed : mg_client_next_statement(worker->client, &statement);
	for (int done = 0; !failed && !done;) {
		struct ArrowArray batch = { 0 };

		failed = mg_client_next_batch(worker->client, &batch, &done);
		if (batch.release) {
			batch.release(&batch);
		}
	}
	if (!failed) {
		seen = statement->rows;
		failed = mg_client_next_statement(worker->client, &statement);
	}
	if (failed || seen != rows) {
		puts_fail("write", failed ? mg_client_error(worker->client)->message : "not all rows");
	}
}

static void insert_text(struct worker *worker, const char *table)
{
	mg_sb_addf(&worker->text, "INSERT INTO %s VALUES ", table);
	for (uint64_t i = 0; i < worker->load->rows; i++) {
		mg_sb_add(&worker->text, i ? ", (?, ?)" : "(?, ?)");
	}
}

static void insert_put(struct worker *worker, uint64_t key)
{
	uint64_t rows = worker->load->rows;

	if (!worker->text.len) {
		insert_text(worker, worker->load->arguments[4]);
	}
	worker->params.len = 0;
	for (uint64_t i = 0; i < rows; i++) {
		mg_sb_addf(&worker->params, "%c%llu,\"%s\"", i ? ',' : '[',
		           (unsigned long long)(key * rows + i), worker->value);
	}
	mg_sb_add_char(&worker->params, ']');
	run_ours(worker, rows);
}

static void select_put(struct worker *worker, uint64_t key)
{
	(void)key;
	if (!worker->text.len) {
		mg_sb_addf(&worker->text, "SELECT v FROM %s WHERE k = ?", worker->load->arguments[4]);
	}
	worker->params.len = 0;
	mg_sb_addf(&worker->params, "[%llu]",
	           (unsigned long long)(puts_random(worker) % worker->load->rows));
	run_ours(worker, 1);
}

static void update_put(struct worker *worker, uint64_t key)
{
	(void)key;
	if (!worker->text.len) {
		mg_sb_addf(&worker->text, "UPDATE %s SET v = ? WHERE k = ?", worker->load->arguments[4]);
	}
	worker->params.len = 0;
	mg_sb_addf(&worker->params, "[\"%s\",%llu]", worker->value,
	           (unsigned long long)(puts_random(worker) % worker->load->rows));
	run_ours(worker, 1);
}

static void ours_close(struct worker *worker)
{
	mg_client_close(worker->client);
}

/* ---- DuckDB in this process ---- */

static void duckdb_open_file(struct worker *worker)
{
	const char *file = worker->load->arguments[0];

	if (duckdb_open(file, &worker->database) == DuckDBError ||
	    duckdb_connect(worker->database, &worker->connection) == DuckDBError ||
	    duckdb_query(worker->connection, "CREATE OR REPLACE TABLE t (k BIGINT, v VARCHAR)", NULL) ==
	        DuckDBError) {
		puts_fail(file, "cannot be opened");
	}
	insert_text(worker, "t");
	if (duckdb_prepare(worker->connection, mg_sb_text(&worker->text), &worker->statement) ==
	    DuckDBError) {
		puts_fail(file, duckdb_prepare_error(worker->statement));
	}
}

static void duckdb_put(struct worker *worker, uint64_t key)
{
	uint64_t rows = worker->load->rows;

	for (uint64_t i = 0; i < rows; i++) {
		duckdb_bind_int64(worker->statement, 2 * i + 1, (int64_t)(key * rows + i));
		duckdb_bind_varchar(worker->statement, 2 * i + 2, worker->value);
	}
	if (duckdb_execute_prepared(worker->statement, NULL) == DuckDBError) {
		puts_fail("duckdb", "an INSERT failed");
	}
}

static void duckdb_close_file(struct worker *worker)
{
	duckdb_destroy_prepare(&worker->statement);
	duckdb_disconnect(&worker->connection);
	duckdb_close(&worker->database);
}

/* ---- the same loop for all ---- */

static void note(struct worker *worker, uint64_t us)
{
	if (worker->count < SAMPLES_MAX) {
		mg_grow(worker->samples, worker->count, worker->cap);
		worker->samples[worker->count++] = (uint32_t)us;
	}
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct load *load = worker->load;
	uint64_t key = (uint64_t)worker->number << 24, start, end;

	load->way->open(worker);
	(void)pthread_barrier_wait(&load->ready); /* all are connected */
	(void)pthread_barrier_wait(&load->ready); /* and the time is set */
	do {
		start = mg_clock_us();
		load->way->put(worker, key++);
		end = mg_clock_us();
		if (start >= load->from_us && !worker->ended) {
			note(worker, end - start);
		}
	} while (!worker->ended && end < load->until_us);
	load->way->close(worker);
	mg_sb_fini(&worker->text);
	mg_sb_fini(&worker->params);
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double ms_at(const uint32_t *samples, size_t count, double share)
{
	return count ? samples[(size_t)((double)(count - 1) * share)] / 1000.0 : 0;
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void report(const struct load *load, struct worker *workers, uint32_t clients,
                   double seconds, double cpu_s)
{
	size_t count = 0;

	for (uint32_t i = 0; i < clients; i++) {
		count += workers[i].count;
	}
	uint32_t *samples = mg_alloc((count + 1) * sizeof *samples);

	count = 0;
	for (uint32_t i = 0; i < clients; i++) {
		memcpy(samples + count, workers[i].samples, workers[i].count * sizeof *samples);
		count += workers[i].count;
		mg_free(workers[i].samples);
	}
	qsort(samples, count, sizeof *samples, by_size);
	printf("{\"clients\":%u,\"rows\":%llu,\"ops\":%zu,\"ops_s\":%.0f,\"p50_ms\":%.3f,"
	       "\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"client_cpu_s\":%.2f,\"seconds\":%.2f}\n",
	       clients, (unsigned long long)load->rows, count * load->pipeline,
	       (double)(count * load->pipeline) / seconds,
	       ms_at(samples, count, 0.5), ms_at(samples, count, 0.99), ms_at(samples, count, 0.999),
	       cpu_s, seconds);
	mg_free(samples);
}

static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (*end || !value || value > max) {
		puts_fail(text, "is no number that makes sense here");
	}
	return value;
}

static void run(struct load *load, uint32_t clients, uint64_t seconds)
{
	struct worker *workers = mg_alloc0(clients * sizeof *workers);

	pthread_barrier_init(&load->ready, NULL, clients + 1);
	for (uint32_t i = 0; i < clients; i++) {
		workers[i].load = load;
		/* Keys of another run of this program are others. */
		workers[i].number = (uint32_t)(mg_clock_us() & 0xffff) << 10 | i;
		workers[i].random = mg_clock_us() * 2654435761u + i + 1;
		memset(workers[i].value, 'a' + (int)(i % 26), VALUE_SIZE);
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) {
			puts_fail("thread", "there is none to be had");
		}
	}
	(void)pthread_barrier_wait(&load->ready);
	uint64_t now = mg_clock_us();
	double cpu = cpu_seconds();

	bool all = load->mix && load->mix->keys == KEYS_ALL;

	load->from_us = all ? now : now + seconds * 1000000 / 5;
	load->until_us = all ? UINT64_MAX : now + seconds * 1000000;
	(void)pthread_barrier_wait(&load->ready);
	for (uint32_t i = 0; i < clients; i++) {
		pthread_join(workers[i].thread, NULL);
	}
	double taken = all ? (double)(mg_clock_us() - now) / 1e6 : (double)seconds * 4 / 5;

	report(load, workers, clients, taken, cpu_seconds() - cpu);
	pthread_barrier_destroy(&load->ready);
	mg_free(workers);
}

int main(int argc, char **argv)
{
	const struct {
		const char *name;
		int arguments;
		int rows, pipeline, mix; /* which of them; 0: none */
		struct way way;
	} ways[] = {
		{ "insert", 6, 6, 0, 0, { ours_open, insert_put, ours_close } },
		{ "select", 6, 6, 0, 0, { ours_open, select_put, ours_close } },
		{ "update", 6, 6, 0, 0, { ours_open, update_put, ours_close } },
		{ "duckdb", 2, 2, 0, 0, { duckdb_open_file, duckdb_put, duckdb_close_file } },
		{ "resp", 7, 0, 5, 6, puts_resp },
		{ "rest", 5, 0, 0, 4, puts_rest },
		{ "etcd", 4, 0, 0, 3, puts_etcd },
	};

	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc > 1 && i < sizeof ways / sizeof *ways; i++) {
		int count = ways[i].arguments;
		char **words = argv + 1; /* its name, then its arguments */

		if (strcmp(argv[1], ways[i].name) == 0 && argc == 2 + count + 2) {
			struct load load = { .way = &ways[i].way, .arguments = argv + 2 };

			load.rows = ways[i].rows ? number(words[ways[i].rows], UINT32_MAX) : 1;
			load.pipeline = ways[i].pipeline ? number(words[ways[i].pipeline], PIPELINE_MAX) : 1;
			if (ways[i].mix) {
				load.mix = puts_mix(words[ways[i].mix]);
				load.keys = number(words[ways[i].mix + 1], UINT32_MAX);
				puts_mix_begin(&load);
			}
			run(&load, (uint32_t)number(argv[2 + count], CLIENTS_MAX),
			    number(argv[3 + count], 3600));
			return 0;
		}
	}
	puts_fail("usage", "puts insert|select|update URL USER PASSWORD ROOTS TABLE ROWS | "
	                   "resp HOST:PORT ROOTS USER PASSWORD PIPELINE MIX KEYS | "
	                   "rest HOST:PORT ROOTS BASIC MIX KEYS | etcd HOST:PORT ROOTS MIX KEYS | "
	                   "duckdb FILE ROWS, then CLIENTS SECONDS");
}
