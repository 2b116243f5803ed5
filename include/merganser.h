/*
 * merganser.h - the C client of Merganser: statements out, Arrow batches back.
 *
 *	struct mg_client_options options = MG_CLIENT_OPTIONS_INIT;
 *	mg_client *client;
 *	const struct mg_client_statement *statement;
 *	struct ArrowArray batch;
 *	int done;
 *
 *	options.url = "https://localhost:8765";
 *	options.user = "scott";
 *	options.password = "tiger";
 *	options.tls_roots = "merganser-data/tls/ca.crt";
 *	if (mg_client_connect(&client, &options) || mg_client_query(client, "SELECT 42 AS a", 0)) {
 *		fprintf(stderr, "%s\n", mg_client_error(client)->message);
 *	}
 *	while (mg_client_next_statement(client, &statement) == 0 && statement) {
 *		while (mg_client_next_batch(client, &batch, &done) == 0 && !done) {
 *			...                     (columns: mg_client_schema(client))
 *			batch.release(&batch);
 *		}
 *	}
 *	mg_client_close(client);
 *
 * Every function returns 0 or a positive code, and then mg_client_error tells the story.  Rows are
 * streamed: a client that does not ask for the next batch holds up the server, not its memory.
 * When a statement fails after batches were given, those rows belong to no answer.
 *
 * Thread: a client belongs to one thread at a time, except mg_client_cancel.  A program should
 * ignore SIGPIPE.
 */
#ifndef MERGANSER_H
#define MERGANSER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MG_API
#define MG_API __attribute__((visibility("default")))
#endif

/* The Arrow C data interface, as every Arrow library defines it. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
	const char *format;
	const char *name;
	const char *metadata;
	int64_t flags;
	int64_t n_children;
	struct ArrowSchema **children;
	struct ArrowSchema *dictionary;
	void (*release)(struct ArrowSchema *);
	void *private_data;
};

struct ArrowArray {
	int64_t length;
	int64_t null_count;
	int64_t offset;
	int64_t n_buffers;
	int64_t n_children;
	const void **buffers;
	struct ArrowArray **children;
	struct ArrowArray *dictionary;
	void (*release)(struct ArrowArray *);
	void *private_data;
};
#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
	int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
	int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
	const char *(*get_last_error)(struct ArrowArrayStream *);
	void (*release)(struct ArrowArrayStream *);
	void *private_data;
};
#endif

typedef struct mg_client mg_client;

/* What a running statement tells of itself; done is negative when the share is unknown. */
struct mg_client_progress {
	double done;
	uint64_t rows, bytes;
	unsigned nodes;
};

struct mg_client_options {
	size_t size;                    /* sizeof this struct: set by MG_CLIENT_OPTIONS_INIT */
	/* https://host:port; NULL: https://localhost:8765.  Several with commas between: the first that
	 * answers. */
	const char *url;
	const char *user, *password;    /* NULL both: the certificate logs in whom it names */
	const char *tls_roots;          /* PEM file of the cluster's CA; NULL: the system's roots */
	const char *tls_cert, *tls_key; /* client certificate, or NULL */
	int insecure_skip_verify;       /* take any certificate */
	int plain_types; /* no Arrow extension types: HUGEINT and others as text or double */
	uint64_t connect_timeout_ms;    /* 0: 10 s */
	uint64_t statement_timeout_ms;  /* 0: none; cancels a request that takes longer */
	void (*on_progress)(void *arg, const struct mg_client_progress *progress);
	void (*on_notice)(void *arg, const char *message);
	void *arg;
	const char *tls_key_password;   /* of an encrypted tls_key, or NULL */
	/* COPY ... FROM STDIN: the next piece of the rows, at most size_max bytes, which stay until the
	 * next call; *size 0: that was all.  Anything but 0: the client gives up, and nothing is
	 * stored.  NULL: this program sends no rows. */
	int (*on_input)(void *arg, size_t size_max, const void **bytes, size_t *size);
	/* What a connection before has seen (mg_client_seen), which this one goes on from; or NULL. */
	const char *seen;
};
#define MG_CLIENT_OPTIONS_INIT { .size = sizeof(struct mg_client_options) }

/* The other side, as it introduced itself. */
struct mg_client_info {
	const char *version, *engine, *cluster, *node, *user, *session;
	unsigned nodes, workers, shards;
};

/* A statement of the current request.  The part after `types` is filled when all rows were taken.
 */
struct mg_client_statement {
	unsigned number;                /* from 1 */
	const char *query;              /* its id, as in cluster.queries */
	const char *verb;               /* "SELECT" */
	size_t column_count;            /* 0: no rows come */
	const char *const *names;
	const char *const *types;       /* DuckDB's type texts */
	const char *tag;                /* "SELECT 3" */
	const char *step;               /* how it ran: "local", "cut", "gather", ... */
	const char *reason;             /* why not better, or "" */
	uint64_t rows, bytes, moved_bytes;
	double elapsed_ms;
	unsigned nodes, workers, shards;
};

struct mg_client_error {
	int code;                       /* 0: none */
	const char *name;               /* "no_table" */
	const char *sqlstate;           /* five characters */
	const char *message, *detail, *hint;
	const char *origin;             /* "parser", "planner", "node", "merge", or "" */
	const char *node;               /* where, or "" */
	unsigned shard;                 /* 0: none */
	unsigned statement;             /* which of the request, from 1; 0: none */
	int exit_code;                  /* what a program should exit with */
	int connected;                  /* the connection can be used further */
};

/* Connect and log in.  *out is set also when it fails, to ask for the error; close it always. */
MG_API int mg_client_connect(mg_client **out, const struct mg_client_options *options);
MG_API void mg_client_close(mg_client *client);     /* NULL is fine */
MG_API const struct mg_client_info *mg_client_info(const mg_client *client);
MG_API const struct mg_client_error *mg_client_error(const mg_client *client);

/* Send statements, separated by ; - size 0: sql is zero-terminated.  What was left of the request
 * before is cancelled and thrown away. */
MG_API int mg_client_query(mg_client *client, const char *sql, size_t size);
/* The same with values in the place of ?, $1 (params: a JSON array) or $name (a JSON object), such
 * as [1,"Bern",null].  NULL: none. */
MG_API int mg_client_query_params(mg_client *client, const char *sql, size_t size,
                                  const char *params);
/* The next statement's answer begins (rows left of the one before are thrown away), or NULL when
 * every statement was answered.  *out lives until the next call. */
MG_API int mg_client_next_statement(mg_client *client, const struct mg_client_statement **out);
/* Columns of the current statement, owned by the client; NULL when it has none. */
MG_API const struct ArrowSchema *mg_client_schema(const mg_client *client);
/* The next batch, which the caller releases; *done at the end, and then *out is not touched. */
MG_API int mg_client_next_batch(mg_client *client, struct ArrowArray *out, int *done);
/* The transaction of the session, as of the last answer: "" none, "open", or "failed", when only
 * ROLLBACK is left.  A lost connection ends it. */
MG_API const char *mg_client_transaction(const mg_client *client);
/* What this connection has seen, to go on from at another server: there, too, no statement reads
 * less, whatever its read_consistency.  A short text, which lives until the next call, or "". */
MG_API const char *mg_client_seen(mg_client *client);
/* End the running request; it fails with sqlstate 57014.  Any thread, any signal handler. */
MG_API void mg_client_cancel(mg_client *client);

#ifdef __cplusplus
}
#endif
#endif
