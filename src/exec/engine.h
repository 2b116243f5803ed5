/*
 * engine.h - this node's engine: a DuckDB with the shard files attached read-only, the planning
 * database, and the workers that are connected.  Servers and workers both have one.
 */
#ifndef MG_EXEC_ENGINE_H
#define MG_EXEC_ENGINE_H

#include "base/error.h"
#include "base/mem.h"
#include "catalog/catalog.h"
#include "sql/plandb.h"
#include "store/duck.h"

struct mg_engine;

struct mg_engine_options {
	const char *data_dir;
	const char *node_name;
	unsigned threads;              /* 0: by cgroup and cores */
	uint64_t memory_bytes;         /* 0: 75 % of what the cgroup or machine gives */
	struct mg_catalog *catalog;    /* borrowed; NULL on a worker */
};

int mg_engine_open(struct mg_engine **out, const struct mg_engine_options *options, struct mg_error *err);
void mg_engine_close(struct mg_engine *engine);
struct mg_catalog *mg_engine_catalog(struct mg_engine *engine);
struct mg_plandb *mg_engine_plandb(struct mg_engine *engine);
struct mg_duck *mg_engine_duck(struct mg_engine *engine);

/* A node as cluster.nodes and /status show it. */
struct mg_node_info {
	char id[64];
	const char *role;              /* "server", "worker" */
	const char *state;             /* "joining", "ready", "draining", "down" */
	char address[80];
	char version[32];
	uint32_t shards;               /* held and verified */
	uint32_t threads;
	uint64_t memory_bytes;
	uint64_t since_ms;             /* wall clock, milliseconds */
};
/* Copies at most max infos; returns how many there are. Any thread. */
size_t mg_engine_nodes(struct mg_engine *engine, struct mg_node_info *infos, size_t max);

#endif
