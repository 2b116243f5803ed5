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

#endif
