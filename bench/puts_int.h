/* puts_int.h - the inside of puts.c, for its ways to write. */
#ifndef MG_BENCH_PUTS_INT_H
#define MG_BENCH_PUTS_INT_H

#include "merganser.h"

#include "base/str.h"
#include "net/client_tls.h"

#include <duckdb.h>
#include <pthread.h>
#include <stdatomic.h>

enum { VALUE_SIZE = 100, PIPELINE_MAX = 1024, SCAN_MAX = 100 /* as of YCSB */ };

struct worker;

/* One way to write; all calls by the worker's thread. */
struct way {
	void (*open)(struct worker *worker);
	void (*put)(struct worker *worker, uint64_t key);
	void (*close)(struct worker *worker);
};

/* What is asked of keys, in percent; the rest reads. */
struct mix {
	const char *name;
	unsigned writes, scans;
	enum { KEYS_EVEN, KEYS_ZIPF, KEYS_NEW, KEYS_ALL /* in order, until each was written */ } keys;
};

enum op { OP_READ, OP_WRITE, OP_SCAN };

struct step {
	enum op op;
	char key[8];    /* big-endian, so that keys are in order */
	uint64_t count; /* of keys that a scan reads */
};

struct load {
	const struct way *way;
	char **arguments; /* behind the way */
	uint64_t rows;    /* of one write; of select and update: keys */
	const struct mix *mix;
	uint64_t keys, pipeline;
	double zeta; /* of keys */
	atomic_uint_fast64_t next; /* of KEYS_ALL */
	uint64_t from_us, until_us;
	pthread_barrier_t ready;
};

struct worker {
	struct load *load;
	pthread_t thread;
	uint32_t number;
	mg_client *client;
	struct mg_client_socket *socket; /* etcd, resp, rest */
	uint32_t stream;
	uint8_t in[128 << 10];
	size_t in_size;
	uint64_t fresh; /* keys that were new */
	bool ended;     /* before its time: there is nothing left to do */
	duckdb_database database;
	duckdb_connection connection;
	duckdb_prepared_statement statement;
	struct mg_sb text, params;
	char value[VALUE_SIZE + 1];
	uint32_t *samples; /* us */
	size_t count, cap;
	uint64_t random;
};

_Noreturn void puts_fail(const char *what, const char *why);
uint64_t puts_random(struct worker *worker);
/* A TLS connection to HOST:PORT; protocol: of ALPN, or NULL. */
void puts_connect(struct worker *worker, const char *address, const char *roots,
                  const char *protocol);
/* More bytes into worker->in. */
void puts_read(struct worker *worker);
void puts_send(struct worker *worker); /* worker->text, which is empty then */

/* ---- puts_mix.c ---- */
/* NULL: there is none of that name. */
const struct mix *puts_mix(const char *name);
/* What zipfian keys of the load need, once. */
void puts_mix_begin(struct load *load);
/* False: it is all done, and the worker has ended. */
bool puts_next(struct worker *worker, struct step *step);

extern const struct way puts_etcd, puts_resp, puts_rest;

#endif
