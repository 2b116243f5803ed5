/*
 * puts.c - the load generator of small writes: so many clients, each with a connection and a thread
 * of its own, each with one write under way.
 *
 *   puts insert URL USER PASSWORD ROOTS TABLE ROWS  CLIENTS SECONDS   our channel, INSERT of ROWS
 *   puts select URL USER PASSWORD ROOTS TABLE KEYS  CLIENTS SECONDS   keys below KEYS
 *   puts update URL USER PASSWORD ROOTS TABLE KEYS  CLIENTS SECONDS   likewise
 *   puts etcd   HOST:PORT ROOTS                     CLIENTS SECONDS   gRPC, KV.Put
 *   puts duckdb FILE                          ROWS  1       SECONDS   prepared INSERT, autocommit
 *
 * Both network clients are of one kind: the same blocking TLS socket (net/client_tls.h), one write,
 * one read, no library between.  What they send is a key of 8 bytes and a value of 100.  The first
 * fifth of the time warms up and is not counted.  Prints one line of JSON.
 */
#include "merganser.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/client_tls.h"
#include "os/clock.h"

#include <duckdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { VALUE_SIZE = 100, CLIENTS_MAX = 1024, SAMPLES_MAX = 4 << 20 };

struct worker;

/* One way to write; all calls by the worker's thread. */
struct way {
	void (*open)(struct worker *worker);
	void (*put)(struct worker *worker, uint64_t key);
	void (*close)(struct worker *worker);
};

struct load {
	const struct way *way;
	char **arguments; /* behind the way */
	uint64_t rows;    /* of one write; of select and update: keys */
	uint64_t from_us, until_us;
	pthread_barrier_t ready;
};

struct worker {
	const struct load *load;
	pthread_t thread;
	uint32_t number;
	mg_client *client;
	struct mg_client_socket *socket; /* etcd */
	uint32_t stream;
	uint8_t in[16384];
	size_t in_size;
	duckdb_database database;
	duckdb_connection connection;
	duckdb_prepared_statement statement;
	struct mg_sb text, params;
	char value[VALUE_SIZE + 1];
	uint32_t *samples; /* us */
	size_t count, cap;
	uint64_t random;
};

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "puts: %s: %s\n", what, why);
	exit(1);
}

static uint64_t next_random(struct worker *worker)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	return worker->random;
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
		fail(argv[0], mg_client_error(worker->client)->message);
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
		fail("write", failed ? mg_client_error(worker->client)->message : "not all rows");
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
	           (unsigned long long)(next_random(worker) % worker->load->rows));
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
	           (unsigned long long)(next_random(worker) % worker->load->rows));
	run_ours(worker, 1);
}

static void ours_close(struct worker *worker)
{
	mg_client_close(worker->client);
}

/* ---- etcd: HTTP/2 and protobuf by hand, as much as a Put needs ---- */

enum { H2_HEAD = 9, H2_DATA = 0, H2_HEADERS = 1, H2_SETTINGS = 4, H2_PING = 6, H2_WINDOW = 8 };
enum { H2_END_STREAM = 1, H2_ACK = 1, H2_END_HEADERS = 4 };

static void add_frame(struct mg_sb *out, uint8_t kind, uint8_t flags, uint32_t stream,
                      const void *data, size_t size)
{
	const char head[H2_HEAD] = { (char)(size >> 16),  (char)(size >> 8),    (char)size,
		                         (char)kind,          (char)flags,          (char)(stream >> 24),
		                         (char)(stream >> 16), (char)(stream >> 8), (char)stream };

	mg_sb_add_len(out, head, sizeof head);
	mg_sb_add_len(out, data, size);
}

static void send_all(struct worker *worker, struct mg_sb *out)
{
	struct mg_error err = { 0 };

	if (mg_client_socket_write(worker->socket, mg_sb_text(out), out->len, &err)) {
		fail("etcd", err.message);
	}
	out->len = 0;
}

static void etcd_open(struct worker *worker)
{
	static const char *const alpn[] = { "h2", NULL };
	static const char window[4] = { 0x3f, (char)0xff, 0, 0 };
	/* No table of headers: we look at none of the answer's. */
	static const char settings[6] = { 0, 1, 0, 0, 0, 0 };
	char *host = strdup(worker->load->arguments[0]), *port = strrchr(host, ':');
	const struct mg_tls_client_options tls = { .roots_file = worker->load->arguments[1],
		                                       .alpn = alpn };
	struct mg_error err = { 0 };

	*port++ = '\0';
	const struct mg_client_socket_options options = {
		.host = host, .port = port, .tls = &tls, .timeout_ms = 10000, .wake_fd = -1
	};

	if (mg_client_socket_open(&worker->socket, &options, &err)) {
		fail("etcd", err.message);
	}
	free(host);
	mg_sb_add(&worker->text, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	add_frame(&worker->text, H2_SETTINGS, 0, 0, settings, sizeof settings);
	add_frame(&worker->text, H2_WINDOW, 0, 0, window, sizeof window);
	send_all(worker, &worker->text);
	worker->stream = 1;
}

/* A literal header without a place in the table. */
static void add_header(struct mg_sb *out, const char *name, const char *value)
{
	mg_sb_add_char(out, 0);
	mg_sb_add_char(out, (char)strlen(name));
	mg_sb_add(out, name);
	mg_sb_add_char(out, (char)strlen(value));
	mg_sb_add(out, value);
}

static void add_put(struct worker *worker, uint64_t key)
{
	struct mg_sb headers = { 0 }, data = { 0 };
	char key_bytes[8];

	add_header(&headers, ":method", "POST");
	add_header(&headers, ":scheme", "https");
	add_header(&headers, ":path", "/etcdserverpb.KV/Put");
	add_header(&headers, ":authority", "localhost");
	add_header(&headers, "te", "trailers");
	add_header(&headers, "content-type", "application/grpc");
	add_frame(&worker->text, H2_HEADERS, H2_END_HEADERS, worker->stream, headers.ptr, headers.len);
	mg_sb_fini(&headers);

	memcpy(key_bytes, &key, sizeof key_bytes);
	const char prefix[5] = { 0, 0, 0, 0, 2 + sizeof key_bytes + 2 + VALUE_SIZE };

	mg_sb_add_len(&data, prefix, sizeof prefix);
	mg_sb_add_char(&data, 0x0a); /* field 1: key */
	mg_sb_add_char(&data, sizeof key_bytes);
	mg_sb_add_len(&data, key_bytes, sizeof key_bytes);
	mg_sb_add_char(&data, 0x12); /* field 2: value */
	mg_sb_add_char(&data, VALUE_SIZE);
	mg_sb_add_len(&data, worker->value, VALUE_SIZE);
	add_frame(&worker->text, H2_DATA, H2_END_STREAM, worker->stream, data.ptr, data.len);
	mg_sb_fini(&data);
}

/* Take whole frames; true when the answer to our stream has ended. */
static bool take_frames(struct worker *worker, bool *answered)
{
	bool ended = false;
	size_t at = 0;

	while (!ended && worker->in_size - at >= H2_HEAD) {
		const uint8_t *head = worker->in + at;
		size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
		uint32_t stream = (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 |
		                  (uint32_t)head[7] << 8 | head[8];

		if (size > sizeof worker->in - H2_HEAD) {
			fail("etcd", "a frame that is too large");
		}
		if (worker->in_size - at < H2_HEAD + size) {
			break;
		}
		if ((head[3] == H2_SETTINGS || head[3] == H2_PING) && !(head[4] & H2_ACK)) {
			add_frame(&worker->text, head[3], H2_ACK, 0, head + H2_HEAD,
			          head[3] == H2_PING ? size : 0);
		}
		if (stream == worker->stream && head[3] == H2_DATA && size > 5) {
			*answered = true; /* an error comes without a message */
		}
		ended = stream == worker->stream && (head[3] == H2_DATA || head[3] == H2_HEADERS) &&
		        (head[4] & H2_END_STREAM);
		at += H2_HEAD + size;
	}
	memmove(worker->in, worker->in + at, worker->in_size - at);
	worker->in_size -= at;
	return ended;
}

static void etcd_put(struct worker *worker, uint64_t key)
{
	struct mg_error err = { 0 };
	bool answered = false;

	add_put(worker, key);
	send_all(worker, &worker->text);
	while (!take_frames(worker, &answered)) {
		size_t got = 0;

		if (mg_client_socket_read(worker->socket, worker->in + worker->in_size,
		                          sizeof worker->in - worker->in_size, &got, &err)) {
			fail("etcd", err.message);
		}
		worker->in_size += got;
		if (!got && mg_client_socket_wait(worker->socket, 30000) != MG_WAIT_BYTES) {
			fail("etcd", "no answer in 30 s");
		}
	}
	if (!answered) {
		fail("etcd", "a Put was refused");
	}
	worker->stream += 2;
}

static void etcd_close(struct worker *worker)
{
	mg_client_socket_close(worker->socket);
}

/* ---- DuckDB in this process ---- */

static void duckdb_open_file(struct worker *worker)
{
	const char *file = worker->load->arguments[0];

	if (duckdb_open(file, &worker->database) == DuckDBError ||
	    duckdb_connect(worker->database, &worker->connection) == DuckDBError ||
	    duckdb_query(worker->connection, "CREATE OR REPLACE TABLE t (k BIGINT, v VARCHAR)", NULL) ==
	        DuckDBError) {
		fail(file, "cannot be opened");
	}
	insert_text(worker, "t");
	if (duckdb_prepare(worker->connection, mg_sb_text(&worker->text), &worker->statement) ==
	    DuckDBError) {
		fail(file, duckdb_prepare_error(worker->statement));
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
		fail("duckdb", "an INSERT failed");
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
	const struct load *load = worker->load;
	uint64_t key = (uint64_t)worker->number << 24, start, end;

	load->way->open(worker);
	(void)pthread_barrier_wait((pthread_barrier_t *)&load->ready); /* all are connected */
	(void)pthread_barrier_wait((pthread_barrier_t *)&load->ready); /* and the time is set */
	do {
		start = mg_clock_us();
		load->way->put(worker, key++);
		end = mg_clock_us();
		if (start >= load->from_us) {
			note(worker, end - start);
		}
	} while (end < load->until_us);
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
	       clients, (unsigned long long)load->rows, count, (double)count / seconds,
	       ms_at(samples, count, 0.5), ms_at(samples, count, 0.99), ms_at(samples, count, 0.999),
	       cpu_s, seconds);
	mg_free(samples);
}

static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (*end || !value || value > max) {
		fail(text, "is no number that makes sense here");
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
			fail("thread", "there is none to be had");
		}
	}
	(void)pthread_barrier_wait(&load->ready);
	uint64_t now = mg_clock_us();
	double cpu = cpu_seconds();

	load->from_us = now + seconds * 1000000 / 5;
	load->until_us = now + seconds * 1000000;
	(void)pthread_barrier_wait(&load->ready);
	for (uint32_t i = 0; i < clients; i++) {
		pthread_join(workers[i].thread, NULL);
	}
	report(load, workers, clients, (double)seconds * 4 / 5, cpu_seconds() - cpu);
	pthread_barrier_destroy(&load->ready);
	mg_free(workers);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		int rows; /* which of them; 0: none, it is one row */
		struct way way;
	} ways[] = {
		{ "insert", 6, 6, { ours_open, insert_put, ours_close } },
		{ "select", 6, 6, { ours_open, select_put, ours_close } },
		{ "update", 6, 6, { ours_open, update_put, ours_close } },
		{ "etcd", 2, 0, { etcd_open, etcd_put, etcd_close } },
		{ "duckdb", 2, 2, { duckdb_open_file, duckdb_put, duckdb_close_file } },
	};

	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc > 1 && i < sizeof ways / sizeof *ways; i++) {
		int count = ways[i].arguments;

		if (strcmp(argv[1], ways[i].name) == 0 && argc == 2 + count + 2) {
			struct load load = { .way = &ways[i].way, .arguments = argv + 2, .rows = 1 };

			if (ways[i].rows) {
				load.rows = number(argv[1 + ways[i].rows], UINT32_MAX);
			}
			run(&load, (uint32_t)number(argv[2 + count], CLIENTS_MAX),
			    number(argv[3 + count], 3600));
			return 0;
		}
	}
	fail("usage", "puts insert|select|update URL USER PASSWORD ROOTS TABLE ROWS CLIENTS SECONDS | "
	              "puts etcd HOST:PORT ROOTS CLIENTS SECONDS | puts duckdb FILE ROWS 1 SECONDS");
}
