/*
 * system_tables.h - the schema "cluster": what the node knows, as tables.
 *
 * The tables are real ones in the planning database, so that any SQL works over them; those that a
 * statement names are filled anew before it runs, one CREATE OR REPLACE each, under one lock.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_SYSTEM_TABLES_H
#define MG_SESSION_SYSTEM_TABLES_H

#include "base/error.h"
#include "base/str.h"
#include "exec/engine.h"
#include "session/query.h"

#define MG_EVENTS_MAX 1000

struct mg_system_tables;

/* One copy of one shard. */
struct mg_replica_info {
	uint32_t shard;
	char node[64];
	const char *role;  /* "server", "worker" */
	const char *state; /* "ready", "copying", ... */
};

struct mg_system_tables_options {
	struct mg_engine *engine;   /* borrowed */
	struct mg_queries *queries; /* borrowed */
	/* Copies at most max infos; returns how many there are.  NULL: servers hold every shard. */
	size_t (*replicas)(void *arg, struct mg_replica_info *infos, size_t max);
	void *arg;
};

/* Makes the schema and its tables, empty. */
int mg_system_tables_new(struct mg_system_tables **out,
                         const struct mg_system_tables_options *options, struct mg_error *err);
void mg_system_tables_free(struct mg_system_tables *tables); /* NULL is fine */
/* Fill the tables that sql names. */
int mg_system_tables_refresh(struct mg_system_tables *tables, struct mg_str sql,
                             struct mg_error *err);
/* Something happened that cluster.events shall show; texts are copied. */
void mg_system_tables_event(struct mg_system_tables *tables, const char *event, const char *detail);

/* ---- for tests and the two above ---- */
#define MG_SYSTEM_TABLE_COUNT 11
/* Bits of the tables that sql names: 1 << index. */
uint32_t mg_system_tables_named(struct mg_str sql);
const char *mg_system_table_name(size_t index);
const char *mg_system_table_column(size_t index, size_t column); /* NULL past the last one */
/* The statement that makes and fills the table at index. */
void mg_system_table_sql(struct mg_system_tables *tables, size_t index, struct mg_sb *out);

#endif
