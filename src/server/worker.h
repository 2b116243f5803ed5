/*
 * worker.h - the life of a worker: dial a server, log in, serve, and dial again, the next one of
 * those that it knows, when the connection is lost, with pauses that grow from 0.1 s to 5 s.
 *
 * SIGTERM: asks for no more work, finishes what runs (at most 10 s), leaves.  A wrong password ends
 * it with code 2 at once; a server that is not there is waited for.
 */
#ifndef MG_SERVER_WORKER_H
#define MG_SERVER_WORKER_H

#include "base/error.h"
#include "base/log.h"

#include <stddef.h>

struct mg_worker_options {
	const char *server;    /* "localhost:8765", or several: "a:8765,b:8765" */
	const char *tls_roots; /* CA file; NULL: the system's */
	bool insecure_skip_verify;
	const char *tls_cert, *tls_key; /* or NULL */
	const char *tls_key_password;   /* of an encrypted key, or NULL */
	const char *username;           /* "worker" */
	const char *password;           /* NULL: the certificate logs in */
	const char *name;               /* NULL: "worker-" and the host's name */
	const char *cache_dir; /* NULL: $XDG_CACHE_HOME/merganser/shards or ~/.cache/merganser/shards */
	unsigned threads;
	uint64_t memory_bytes, cache_bytes; /* 0: default */
	size_t message_max;                 /* of one message of the server; 0: 16 MiB */
	uint64_t ping_timeout_ms;           /* a server silent for so long is gone; 0: 15 s */
	struct mg_log_options log;
};

/* Returns an exit code. */
int mg_worker_main(const struct mg_worker_options *options);

#endif
