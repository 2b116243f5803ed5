/*
 * worker_node.h - the worker's side of the channel: copies of shards, and parts in queries.
 *
 * Files are kept by content: CACHE/<sha256>.duckdb, fetched by chunks into a .part file and
 * verified before they get that name, so a file under its name is whole, and several workers of a
 * machine share it.
 *
 * Threads: frames arrive on the channel's thread; each query has its own thread, to which stages
 * are handed; a fetcher thread verifies and attaches.
 */
#ifndef MG_EXEC_WORKER_NODE_H
#define MG_EXEC_WORKER_NODE_H

#include "base/error.h"
#include "exec/channel.h"
#include "exec/worker_servers.h"
#include "store/duck.h"

struct mg_worker_node;

struct mg_worker_node_options {
	const char *name;
	const char *cache_dir;
	unsigned threads;      /* 0: default */
	uint64_t memory_bytes; /* 0: default */
	uint64_t cache_bytes;  /* of all copies together; 0: half of what the disk has free */
	struct mg_worker_servers *servers; /* is told what the server says of others; borrowed */
};

int mg_worker_node_new(struct mg_worker_node **out, const struct mg_worker_node_options *options,
                       struct mg_error *err);
void mg_worker_node_free(struct mg_worker_node *node); /* the channel must be closed */
/* A channel is open: says hello. The node uses it until mg_worker_node_lost. */
void mg_worker_node_greet(struct mg_worker_node *node, struct mg_channel *channel);
int mg_worker_node_control(struct mg_worker_node *node, const struct mg_json *json,
                           struct mg_error *err);
int mg_worker_node_data(struct mg_worker_node *node, const struct mg_frame *frame,
                        struct mg_buf *payload, struct mg_error *err);
/* The channel is gone: queries end, copies stay. */
void mg_worker_node_lost(struct mg_worker_node *node);
bool mg_worker_node_idle(struct mg_worker_node *node);  /* no query is open */
void mg_worker_node_drain(struct mg_worker_node *node); /* ask the server for no more work */

#endif
