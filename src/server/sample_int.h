/*
 * sample_int.h - what the files sample*.c share: the sets of tables, the frames between a generator
 * process and us, and the storing of their rows.  No other file includes it.
 */
#ifndef MG_SERVER_SAMPLE_INT_H
#define MG_SERVER_SAMPLE_INT_H

#include "os/process.h"
#include "server/sample.h"

/* ---- sets of tables that a generator of DuckDB makes ---- */

struct mg_sample_def {
	const char *name, *key; /* key NULL: reference table */
	const char *primary_key[2];
};

struct mg_sample_set {
	const char *name; /* as a generator process is asked for it */
	const struct mg_sample_def *tables;
	size_t count;      /* at most MG_SAMPLE_TABLES_MAX */
	const char *shape; /* SQL: all tables, with next to no rows, in the instance's own memory */
	/* Into how many parts a scale factor is cut, so that one part needs little memory; 1 for a
	 * generator that knows no parts: what does not fit its memory limit is spilled then. */
	uint32_t (*parts)(double scale_factor);
	/* Make part `part` of `parts` in `catalog`. */
	int (*make)(struct mg_duck_conn *conn, double scale_factor, uint32_t parts, uint32_t part,
	            const char *catalog, struct mg_error *err);
};

#define MG_SAMPLE_TABLES_MAX 32
extern const struct mg_sample_set mg_sample_tpch;
const struct mg_sample_set *mg_sample_set_find(const char *name); /* NULL: none */

/* ---- what a generator process writes to its standard output ---- */

/*
 * For each part: SCHEMA of a table before its first batch in the process, BATCH ..., PART_END. Both
 * sides are the same program on the same machine, so a struct is a format; its values are checked.
 * Standard input brings the owners: uint16_t[MG_SLOTS], shard from 0, or MG_SAMPLE_NOBODY.
 */
enum mg_sample_frame_kind {
	MG_SAMPLE_SCHEMA = 1, /* table; size bytes: IPC schema message */
	MG_SAMPLE_BATCH,      /* table, shard; size bytes: IPC batch of at most 2048 rows */
	MG_SAMPLE_PART_END,   /* part */
	MG_SAMPLE_ERROR,      /* code; size bytes: struct mg_error's message, a zero, its hint */
};

struct mg_sample_frame {
	uint32_t kind;
	uint32_t table;
	uint32_t number; /* shard from 0, part, or code */
	uint32_t size;
};

#define MG_SAMPLE_NOBODY 0xFFFF
#define MG_SAMPLE_FRAME_MAX (64u << 20)

/* ---- sample_feed.c: generator processes and their frames, in the order of the parts ---- */

struct mg_sample_feed;

struct mg_sample_feed_options {
	const struct mg_sample_set *set;
	double scale_factor;
	uint32_t parts;
	unsigned children;
	uint64_t child_bytes;  /* memory limit of a child's engine */
	const char *spill_dir; /* each child's has its number behind it */
	uint32_t shard_count;
	bool reference;        /* whether tables without a key are wanted */
	const uint16_t *owner; /* [MG_SLOTS] */
	bool (*stopped)(void *arg);
	void *arg;
};

/* The children end with the calling thread, whatever ends it. */
int mg_sample_feed_open(struct mg_sample_feed **out, const struct mg_sample_feed_options *options,
                        struct mg_error *err);
/* Next SCHEMA, BATCH or PART_END, checked; *bytes (may be NULL) is the caller's to unref.  *done
 * after the last part. */
int mg_sample_feed_next(struct mg_sample_feed *feed, struct mg_sample_frame *frame,
                        struct mg_buf **bytes, bool *done, struct mg_error *err);
void mg_sample_feed_close(struct mg_sample_feed *feed); /* ends the children; NULL is fine */

/* ---- sample_store.c: rows into the appenders of the open files ---- */

struct mg_sample_target {
	struct mg_shard_file *file;                               /* NULL: not wanted */
	struct mg_duck_appender *appenders[MG_SAMPLE_TABLES_MAX]; /* NULL: not in this file */
};

struct mg_sample_store;

/* threads: how many store at once; targets[target_count]: 0 is the reference file. */
int mg_sample_store_open(struct mg_sample_store **out, struct mg_duck *duck,
                         const struct mg_sample_set *set, struct mg_sample_target *targets,
                         uint32_t target_count, unsigned threads, struct mg_error *err);
/* The columns of a table, before its first batch; takes no reference. */
int mg_sample_store_schema(struct mg_sample_store *store, uint32_t table, struct mg_buf *schema,
                           struct mg_error *err);
/* Give a batch to the thread of its target; blocks while that has much to do.  Takes the reference.
 * Fails when any thread has failed. */
int mg_sample_store_put(struct mg_sample_store *store, uint32_t table, uint32_t target,
                        struct mg_buf *batch, struct mg_error *err);
bool mg_sample_store_failed(struct mg_sample_store *store); /* any thread */
/* Wait until all is stored, or with drop until the threads have let go; frees in any case. */
int mg_sample_store_close(struct mg_sample_store *store, bool drop, struct mg_error *err);

#endif
