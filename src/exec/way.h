/*
 * way.h - which way a statement takes, and why (the ladder of docs/sql.md).
 */
#ifndef MG_EXEC_WAY_H
#define MG_EXEC_WAY_H

#include "exec/coordinator.h"
#include "exec/engine.h"

enum mg_way_kind {
	MG_WAY_CATALOG,  /* in the planning database */
	MG_WAY_LOCAL,    /* here, over this server's files, no exchange */
	MG_WAY_ROUTER,   /* here, over the one shard that can hold the rows */
	MG_WAY_CUT,      /* stages over all participants; also gather, as a forced strategy */
	MG_WAY_PER_SHARD /* every shard by itself, unmerged */
};

struct mg_way {
	enum mg_way_kind kind;
	const char *step; /* "catalog", "local", "router", "cut", "gather", "per shard" */
	char reason[256];
	bool original_text;      /* the client's text may run in the engine */
	struct mg_table *tables; /* that the plan scans */
	size_t table_count;
	struct mg_table_place *places; /* parallel to tables */
	uint32_t *shards;              /* ids that hold rows for it */
	size_t shard_count;
	uint64_t bytes; /* of the partitioned tables that it scans */
	bool workers_would_help; /* and none is ready here */
};

int mg_way_choose(struct mg_way *way, struct mg_arena *arena, struct mg_engine *engine,
                  const struct mg_catalog_data *data, const struct mg_run_settings *settings,
                  const struct mg_bound *bound, struct mg_error *err);
const struct mg_table_place *mg_way_find_table(const struct mg_way *way, const char *schema,
                                               const char *table);
/* The cut did not work out: run locally, and say why. */
void mg_way_fall(struct mg_way *way, struct mg_run *run, const char *reason);

#endif
