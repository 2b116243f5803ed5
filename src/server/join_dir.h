/*
 * join_dir.h - a data directory for a server that enters a running cluster, made by asking one of
 * its servers (join.h).
 *
 * Rule: the directory is a member's or it is none: log/catalog.json comes last.  A kill at any
 * point before leaves keys that the next try uses; a try that fails leaves nothing.
 *
 * Thread: the main thread; blocks.
 */
#ifndef MG_SERVER_JOIN_DIR_H
#define MG_SERVER_JOIN_DIR_H

#include "base/error.h"
#include "server/join_wire.h"

struct mg_join_options {
	const char *data_dir;  /* locked; without a catalog */
	const char *seeds;     /* HOST:PORT,... */
	const char *tls_roots; /* a CA's file */
	const char *password;
	const char *node_id; /* NULL: made of the address */
	const char *address; /* where others reach this node */
	uint64_t timeout_ms; /* of trying while no server is there */
	/* Wait; true: stop trying. */
	bool (*pause)(void *arg, unsigned ms);
	/* What a person should know meanwhile. */
	void (*say)(void *arg, const char *text);
	void *arg;
};

/* Is what is needed for a try given?  Before anything is made.  Fails: MG_E_USAGE. */
int mg_join_check(const struct mg_join_options *options, struct mg_error *err);
int mg_join_dir_make(const struct mg_join_options *options, struct mg_error *err);
/* A directory that is a member's already: of the cluster whose CA is in the file?  Fails:
 * MG_E_USAGE. */
int mg_join_dir_check(const char *data_dir, const char *tls_roots, struct mg_error *err);

/* New certificates for a member, by its own: asks at `seeds` until one answers, each once. */
struct mg_join_renewal {
	const char *data_dir;
	const char *seeds;   /* HOST:PORT,... */
	const char *cluster; /* id */
	uint64_t number;
	const char *node_id, *address;
	int wake_fd; /* readable: give up (MG_E_CANCELLED); -1: none */
};
int mg_join_renew(const struct mg_join_renewal *renewal, struct mg_error *err);

/* For who asks for certificates with the keys of a directory, as reenter.c does.  server_key: the
 * name in it of the key whose certificate clients see.  Requests for both: */
int mg_join_requests(const char *data_dir, const char *server_key, struct mg_arena *arena,
                     struct mg_join_ask *ask, struct mg_error *err);
/* The key for clients: a certificate that was given to a member from outside stays. */
const char *mg_join_server_key(const char *data_dir);
/* The certificates are of these keys, by the directory's own CA, which takes the place of the
 * answer's. */
int mg_join_answer_check(const char *data_dir, const char *server_key, struct mg_arena *arena,
                         struct mg_join_answer *answer, struct mg_error *err);

#endif
