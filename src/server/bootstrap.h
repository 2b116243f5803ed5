/*
 * bootstrap.h - make a cluster's first data directory: keys, users, sample data in shard files.
 *
 * Safe to run again at any time, also after being killed at any moment: it finishes what is missing
 * and keeps what is there (files by their hash).  The directory is locked meanwhile.  Blocks for as
 * long as it takes.
 */
#ifndef MG_SERVER_BOOTSTRAP_H
#define MG_SERVER_BOOTSTRAP_H

#include "base/error.h"
#include "catalog/catalog.h"

#include <stdatomic.h>
#include <stdio.h>

#define MG_BOOTSTRAP_SHARDS_MAX 1024 /* of tables, and of keys */
#define MG_BOOTSTRAP_KV_SHARDS 4
#define MG_BOOTSTRAP_TEXT 128

struct mg_bootstrap_options {
	const char *data_dir;
	const char *client_username; /* NULL: "admin" */
	const char *client_password; /* NULL: generated */
	const char *worker_password; /* NULL: generated */
	const char *join_password;   /* NULL: generated */
	const char *host;            /* one more name or address for the server certificate, or NULL */
	double tpch_scale_factor;    /* 0: no sample data */
	double tpcds_scale_factor;   /* its tables go to schema "tpcds"; 0: none */
	bool ssb;                    /* the Star Schema Benchmark's tables too, in schema "ssb" */
	uint32_t shard_count;        /* 0: as it is there, else 11 */
	uint32_t kv_shard_count;     /* of keys and values; 0: as it is there, else 4 */
	bool no_keys;                /* a new one has no shards of keys and values */
	bool overwrite;              /* start anew: keys, users and data */
	unsigned threads;            /* 0: by cores */
	uint64_t memory_bytes;       /* 0: a quarter of the machine's, at most 4 GiB */
	uint32_t layout_row_groups;  /* for tests: tables of so many lie in slot ranges; 0: 50 */
	/* May be NULL. step: "keys", "users", "check", "tpch", "tpcds", "finish"; done: 0..1; from any
	 * thread, one at a time. */
	void (*progress)(void *arg, const char *step, double done);
	void *arg;
	const atomic_bool *stop; /* ends it with MG_E_CANCELLED when true; NULL: none */
};

struct mg_bootstrap_report {
	char client_username[MG_BOOTSTRAP_TEXT];
	/* "" unless generated now. */
	char client_password[MG_BOOTSTRAP_TEXT], worker_password[MG_BOOTSTRAP_TEXT],
		join_password[MG_BOOTSTRAP_TEXT];
	bool changed;   /* anything at all */
	bool keys_made; /* a new CA */
	uint32_t shards_made, shards_kept;
	uint64_t rows, bytes; /* of all shard files */
	uint64_t millis;
};

int mg_bootstrap_run(const struct mg_bootstrap_options *options, struct mg_bootstrap_report *report,
                     struct mg_error *err);
/* The passwords that were generated, each on a line; nothing when there are none. */
void mg_bootstrap_print_passwords(const struct mg_bootstrap_report *report, FILE *out);
/* Whether all shard files of the catalog were finished; a server should not start before. */
bool mg_bootstrap_complete(const struct mg_catalog_data *data);

#endif
