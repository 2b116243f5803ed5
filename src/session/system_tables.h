/*
 * system_tables.h - the schema "cluster": what the node knows, as tables.
 *
 * The tables are real ones in the planning database, so that any SQL works over them; those that a
 * statement names are filled anew before it runs, one CREATE OR REPLACE each, under one lock, and
 * for the eyes of its user: the statement reads the snapshot of a transaction that begins under the
 * same lock, so what somebody else fills in a moment later is never seen.
 *
 * Thread: any.
 */
#ifndef MG_SESSION_SYSTEM_TABLES_H
#define MG_SESSION_SYSTEM_TABLES_H

#include "base/error.h"
#include "base/str.h"
#include "exec/engine.h"
#include "session/changes_calls.h"
#include "session/query.h"

#define MG_EVENTS_MAX 1000

struct mg_system_tables;
struct mg_settings;

/* One copy of one shard. */
struct mg_replica_info {
	uint32_t shard;
	char node[64];
	const char *role;  /* "leader", "voter", "standby" of servers; "worker" */
	const char *state; /* "ready", "copying", "behind", "down" */
	/* Entries of its log that are committed and not there; of a worker, applied and not there; -1:
	 * not known. */
	int64_t lag;
	/* Of a worker: for how long the first of them has been missing, and what it has applied; -1:
	 * not known. */
	int64_t lag_ms, applied;
};

/* An option of this node, as it was started. */
struct mg_server_setting {
	const char *name, *value, *standard; /* value, standard: or NULL */
	const char *source;                  /* "flag", "environment", "file", "default" */
	const char *description;
};

/* Who looks.  Texts of others' statements and the server's settings are for admins. */
struct mg_viewer {
	const char *user;
	bool admin;
	const struct mg_settings *settings; /* of the session */
};

struct mg_system_tables_options {
	struct mg_engine *engine;   /* borrowed */
	struct mg_queries *queries; /* borrowed */
	/* Copies at most max infos; returns how many there are.  NULL: servers hold every shard. */
	size_t (*replicas)(void *arg, struct mg_replica_info *infos, size_t max);
	void *arg;
	/* The node's own settings, for cluster.settings; borrowed. */
	const struct mg_server_setting *settings;
	size_t setting_count;
};

/* Makes the schema and its tables, empty. */
int mg_system_tables_new(struct mg_system_tables **out,
                         const struct mg_system_tables_options *options, struct mg_error *err);
void mg_system_tables_free(struct mg_system_tables *tables); /* NULL is fine */
/* Fill the tables that sql names, and those of its calls of cluster.changes, and begin a
 * transaction on conn that sees them so; *transaction false: it names none. */
int mg_system_tables_refresh(struct mg_system_tables *tables, struct mg_duck_conn *conn,
                             struct mg_str sql, struct mg_changes_calls *calls,
                             const struct mg_viewer *viewer, bool *transaction,
                             struct mg_error *err);
/* The statement with these calls is over: their rows go. */
void mg_system_tables_forget(struct mg_system_tables *tables, const struct mg_changes_calls *calls);
/* Something happened that cluster.events shall show; texts are copied. */
void mg_system_tables_event(struct mg_system_tables *tables, const char *event, const char *detail);

/* ---- for tests and the two above ---- */
#define MG_SYSTEM_TABLE_COUNT 12
/* Bits of the tables that sql names: 1 << index; 1 << MG_SYSTEM_TABLE_COUNT: cluster.changes. */
uint32_t mg_system_tables_named(struct mg_str sql);
const char *mg_system_table_name(size_t index);
const char *mg_system_table_column(size_t index, size_t column); /* NULL past the last one */
/* The statement that makes and fills the table at index. */
void mg_system_table_sql(struct mg_system_tables *tables, size_t index,
                         const struct mg_viewer *viewer, struct mg_sb *out);

#endif
