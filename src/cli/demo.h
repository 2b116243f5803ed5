/*
 * demo.h - a whole throw-away cluster as child processes of this one.
 *
 * Servers count from 1, then workers.  The first server is made by bootstrap, the others join it;
 * the workers are at the first one, and so is the shell until it is gone.  Every child is killed by
 * the kernel when this process ends, however it ends.
 */
#ifndef MG_CLI_DEMO_H
#define MG_CLI_DEMO_H

#include "base/error.h"
#include "base/mem.h"

#include <signal.h>
#include <stdbool.h>

struct mg_demo_options {
	unsigned servers, workers;
	double scale_factor;
	unsigned shard_count, kv_shard_count; /* of tables, of keys and values */
	bool keep;                  /* leave the data directory */
	bool quiet;                 /* no transcript */
};

struct mg_demo;

/* Bootstrap (from the cache when it can), start, wait until all are ready. */
int mg_demo_start(struct mg_demo **out, const struct mg_demo_options *options,
                  struct mg_error *err);
void mg_demo_stop(struct mg_demo *demo);    /* NULL is fine; removes the folder unless kept */

const char *mg_demo_url(const struct mg_demo *demo); /* of all servers */
const char *mg_demo_user(const struct mg_demo *demo);
const char *mg_demo_password(const struct mg_demo *demo);
const char *mg_demo_roots(const struct mg_demo *demo);
const char *mg_demo_data_dir(const struct mg_demo *demo);

/* File of a plain DuckDB database with the same sample, which may not be there yet; NULL: no cache.
 */
const char *mg_demo_reference(const struct mg_demo *demo);
/* Set by a signal handler: stop waiting for nodes. */
extern volatile sig_atomic_t mg_demo_stopped;

/* .demo nodes | kill N | start N; returns an exit code. */
int mg_demo_meta(struct mg_demo *demo, size_t count, char **args);
/* A node of this name runs. */
bool mg_demo_runs(struct mg_demo *demo, const char *name);

#endif
