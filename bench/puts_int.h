/* puts_int.h - the inside of puts.c, for its ways to write. */
#ifndef MG_BENCH_PUTS_INT_H
#define MG_BENCH_PUTS_INT_H

#include "merganser.h"

#include "base/str.h"
#include "net/client_tls.h"

#include <duckdb.h>
#include <pthread.h>

enum { VALUE_SIZE = 100, OWN_KEYS = 64 };

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
	struct mg_client_socket *socket; /* etcd, resp */
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

_Noreturn void puts_fail(const char *what, const char *why);
uint64_t puts_random(struct worker *worker);
/* A TLS connection to HOST:PORT; protocol: of ALPN, or NULL. */
void puts_connect(struct worker *worker, const char *address, const char *roots,
                  const char *protocol);
/* More bytes into worker->in. */
void puts_read(struct worker *worker);
void puts_send(struct worker *worker); /* worker->text, which is empty then */
/* OWN_KEYS of its own, by put, to be read: one of them at random. */
void puts_fill(struct worker *worker, void (*put)(struct worker *worker, uint64_t key));
uint64_t puts_own_key(struct worker *worker);

extern const struct way puts_etcd_put, puts_etcd_get;
extern const struct way puts_resp_set, puts_resp_get;

#endif
