/*
 * server.h - the life of a server node, from the command line to the last byte.
 *
 * mg_server_main: lock the data directory, load the catalog (make one, with keys and an admin, when
 * there is none), open the engine, listen, serve until SIGTERM or SIGINT, drain, close.  A second
 * signal ends it at once.
 */
#ifndef MG_SERVER_SERVER_H
#define MG_SERVER_SERVER_H

#include "base/error.h"
#include "base/log.h"
#include "session/system_tables.h"

struct mg_server_options {
	const char *data_dir;           /* "./merganser-data" */
	const char *listen;             /* "0.0.0.0:8765" */
	const char *listen_http;        /* extra listener for HTTP alone, or NULL */
	const char *listen_redis;       /* and one for Redis clients, or NULL */
	const char *listen_peers;       /* and one for other nodes, or NULL */
	const char *advertise;          /* NULL: listen */
	const char *node_id;            /* NULL: as in node.json, else "server-1" */
	const char *join;               /* HOST:PORT,... of a cluster to enter with an empty data_dir */
	const char *tls_roots;          /* its CA's file; NULL when there is nothing to join */
	const char *join_password;      /* likewise */
	uint64_t join_timeout_ms;       /* of trying to reach it */
	uint64_t check_ms;              /* between two checks of all replicas; 0: none by itself */
	uint64_t dead_after_ms;         /* a server away so long loses its votes; 0: 5 minutes */
	unsigned threads;               /* engine threads; 0: what cgroup and machine give */
	unsigned loops;                 /* network threads; 0: 1 for 2 cores, else 2 */
	uint64_t memory_bytes;          /* 0: 75 % of what cgroup or machine gives */
	uint64_t query_memory_bytes;    /* 0: an eighth of that */
	uint64_t changes_bytes;         /* of changes that are kept for who follows them; 0: none */
	bool no_leases;                 /* each linearizable read asks a majority (raft/lease.h) */
	const char *python;             /* of jobs; NULL: what the build has set up, or python3 */
	bool no_jobs;                   /* no code of users is run here */
	const char *copy_paths;         /* directories that COPY may read, ':' between; or NULL */
	const char *copy_paths_write;   /* and write */
	uint64_t write_bytes;           /* rows of one statement that writes in memory; 0: 32 MiB */
	unsigned queries_max;           /* running at once; 0: twice the threads */
	uint64_t idle_ms;               /* an answer that nobody takes for so long is ended; 0: 5 min */
	size_t message_max;             /* of one message of a client or worker; 0: 16 MiB */
	uint64_t ping_timeout_ms;       /* a client silent for so long is gone; 0: 90 s */
	uint64_t worker_timeout_ms;     /* the same for a worker; 0: 7 s */
	bool plain_loopback, plain_any; /* --insecure-plaintext, --insecure-plaintext=any */
	const char *client_ca;          /* signs clients' certificates; NULL: tls/ca.crt of data_dir */
	bool require_client_cert;       /* a password alone opens no door */
	const char *tls_key_password;   /* of the server's own key when it is encrypted; or NULL */
	struct mg_log_options log;
	const struct mg_server_setting *settings; /* all of the above, for cluster.settings */
	size_t setting_count;
};

/* Returns an exit code: 0 after a clean stop, 1 for a local error, which is printed. */
int mg_server_main(const struct mg_server_options *options);

#endif
