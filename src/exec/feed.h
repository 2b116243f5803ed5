/*
 * feed.h - the changes of a table, told to one who follows it: in the order of each shard's log,
 * from a place that a token names, or after all rows that are there.
 *
 * Rule: each change is told once, by its place (shard, index, n): what is told is what this node
 * has applied, which no node can lose, and every node tells the same.  A token that was told stands
 * for all changes before it.
 *
 * Rows of one entry come together.  A transaction over several shards is told shard by shard, under
 * one commit id.
 *
 * Thread: one that may block for as long as it follows.  Memory: one operation of the log, or one
 * batch of a snapshot, whatever the client does.
 */
#ifndef MG_EXEC_FEED_H
#define MG_EXEC_FEED_H

#include "exec/engine.h"

enum mg_feed_op {
	MG_FEED_READ,     /* a row that is there, of the snapshot */
	MG_FEED_INSERT,
	MG_FEED_UPDATE,
	MG_FEED_DELETE,
	MG_FEED_DROP,     /* the table's part in a shard is gone */
	MG_FEED_COLUMNS,  /* they are called so from now on: row */
	MG_FEED_RESOLVED, /* token */
	MG_FEED_END,      /* nothing follows: reason */
};

struct mg_feed_event {
	enum mg_feed_op op;
	uint32_t shard;
	uint64_t index;        /* of the entry in the shard's log; READ: as of it */
	uint64_t n;            /* row of the entry, or of the shard's snapshot; from 0 */
	const char *commit;    /* rows that were committed together; NULL: READ */
	int64_t rid;           /* of the row */
	const char *row, *old; /* JSON objects; NULL: none, or not known; COLUMNS: row is a list */
	const char *token;     /* RESOLVED */
	const char *reason;    /* END: "dropped", "replaced" */
};

const char *mg_feed_op_name(enum mg_feed_op op); /* "insert" */

struct mg_feed_options {
	struct mg_engine *engine; /* borrowed */
	const char *table;        /* "name", "schema.name" */
	const char *from;         /* "now", "start", "0", "kept" (all that is kept), or a token */
	bool follow;              /* else it ends with what was acknowledged before the call */
	uint64_t limit;           /* end with the entry that makes it so many rows; 0: none */
	uint64_t heartbeat_ms;    /* a token at least so often */
	bool (*stopped)(void *arg);
	/* The feed is good: events come from now on. */
	int (*begin)(void *arg, struct mg_error *err);
	/* Its texts are valid during the call.  An error ends the feed. */
	int (*event)(void *arg, const struct mg_feed_event *event, struct mg_error *err);
	/* Nothing more is there now: what was told may go. */
	int (*flush)(void *arg, struct mg_error *err);
	void *arg;
};

/* Blocks until it ends.  Fails: before begin MG_E_NO_TABLE, MG_E_BIND a view, MG_E_USAGE,
 * MG_E_GONE, MG_E_UNSUPPORTED changes are not kept; then also MG_E_GONE when it was too slow;
 * MG_E_CANCELLED stopped; what event says. */
int mg_feed_run(const struct mg_feed_options *options, struct mg_error *err);

#endif
