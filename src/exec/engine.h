/*
 * engine.h - this node's engine: a DuckDB with the shard files attached, the planning database, the
 * replicas that change both, and the workers that are connected.
 *
 * Attached names: "s0" is the reference group, "s1"... are the shards.  Views of the user's tables,
 * with the user's columns only, stand under their own names for original text.
 */
#ifndef MG_EXEC_ENGINE_H
#define MG_EXEC_ENGINE_H

#include "base/error.h"
#include "base/mem.h"
#include "catalog/catalog.h"
#include "exec/participant.h"
#include "sql/plandb.h"
#include "store/duck.h"

struct mg_blind;
struct mg_engine;
struct mg_gate;
struct mg_hub;
struct mg_outcomes;
struct mg_growth;
struct mg_sequences;
struct mg_peers;
struct mg_replica;

struct mg_engine_options {
	const char *data_dir;
	const char *node_name;
	const char *address;   /* advertised host:port */
	unsigned threads;      /* 0: by cgroup and cores */
	uint64_t memory_bytes; /* 0: 75 % of what the cgroup or machine gives */
	uint64_t
		query_memory_bytes; /* exchange rows of one query in memory; 0: an eighth of memory_bytes */
	uint64_t changes_bytes; /* that are kept of tables' changes; 0: none */
	bool no_leases;         /* raft/node.h */
	const char *copy_paths; /* directories that COPY may read (os/granted.h); borrowed */
	const char *copy_paths_write; /* and write; likewise */
	uint64_t write_bytes;   /* rows of a statement in memory (staging.h); 0: the default */
	struct mg_catalog *catalog; /* borrowed */
	uint64_t number;            /* of this node in the cluster */
	uint64_t dead_after_ms, check_ms; /* as in replica.h */
	struct mg_peers *peers;     /* borrowed, as in replica.h; NULL: there are no other servers */
};

/* With a server whose groups have others too it does not wait for them: mg_engine_unready does.
 * Also when it fails *out is to be closed. */
int mg_engine_open(struct mg_engine **out, const struct mg_engine_options *options,
                   struct mg_error *err);
/* Open has failed because the log is lost or damaged (replica.h). */
bool mg_engine_lost_log(const struct mg_engine *engine);
/* No statement runs any more: the replicas leave their groups, workers are let go.  Loops still
 * turn; then peers and loops are stopped, and close follows.  Again is fine. */
void mg_engine_stop(struct mg_engine *engine);
void mg_engine_close(struct mg_engine *engine); /* stops; NULL is fine */
/* Why this node does not serve, a sentence that stays; or NULL. */
const char *mg_engine_unready(struct mg_engine *engine);
/* What happens to nodes and leaders; NULL: nobody listens. */
void mg_engine_on_event(struct mg_engine *engine,
                        void (*tell)(void *arg, const char *event, const char *detail), void *arg);
/* Write all that is committed to the shards' files.  Fails: MG_E_BUSY when readers are in the way.
 */
int mg_engine_checkpoint(struct mg_engine *engine, struct mg_error *err);
struct mg_catalog *mg_engine_catalog(struct mg_engine *engine);
struct mg_plandb *mg_engine_plandb(struct mg_engine *engine);
struct mg_duck *mg_engine_duck(struct mg_engine *engine);
const char *mg_engine_spill_dir(struct mg_engine *engine); /* empty at each start */
struct mg_hub *mg_engine_hub(struct mg_engine *engine);
struct mg_replica *mg_engine_replica(struct mg_engine *engine);
struct mg_outcomes *mg_engine_outcomes(struct mg_engine *engine); /* writes with keys */
struct mg_growth *mg_engine_growth(struct mg_engine *engine);
struct mg_sequences *mg_engine_sequences(struct mg_engine *engine);
struct mg_blind *mg_engine_blind(struct mg_engine *engine);       /* INSERTs of many clients */
struct mg_gate *mg_engine_gate(struct mg_engine *engine);   /* whoever reads the shards enters */
struct mg_peers *mg_engine_peers(struct mg_engine *engine); /* NULL: there are no other servers */
/* Rows of the table as of a moment ago, and how many of them the planning database holds. */
void mg_engine_rows(struct mg_engine *engine, const struct mg_table *table, uint64_t *rows,
                    uint64_t *sample_rows);
/* A number that is another one when other objects of the catalog are shown.  An object is not,
 * until its shards' files have it. */
uint64_t mg_engine_shown(struct mg_engine *engine);
/* Show the catalog as it is, if it has changed; with `missing` also what could not be shown.
 * Blocks. */
void mg_engine_show(struct mg_engine *engine, bool missing);
/* The table is shown as it is here; else mg_engine_show is about to, or waits for its shards. */
bool mg_engine_shows(struct mg_engine *engine, const struct mg_table *table);
bool mg_engine_hides(const struct mg_engine *engine); /* the last time it was shown, any object */
unsigned mg_engine_threads(const struct mg_engine *engine);
bool mg_engine_threads_given(const struct mg_engine *engine); /* by the operator */
uint64_t mg_engine_memory(const struct mg_engine *engine);
void mg_engine_budget(struct mg_engine *engine,
                      struct mg_spool_budget *budget); /* a fresh one for a query */

/* A node as cluster.nodes and /status show it. */
struct mg_node_info {
	char id[64];
	const char *role;  /* "server", "worker" */
	const char *state; /* "joining", "ready", "draining", "down" */
	char address[80];
	char version[32];
	uint32_t shards; /* held and verified */
	uint32_t threads;
	uint64_t memory_bytes;
	uint64_t since_ms; /* wall clock, milliseconds; 0: not known, as threads and memory_bytes */
};
/* Copies at most max infos; returns how many there are. Any thread. */
size_t mg_engine_nodes(struct mg_engine *engine, struct mg_node_info *infos, size_t max);

/* ---- shared by servers and workers ---- */
/* Attach a verified shard file read-only as "s<id>". */
const char *mg_engine_node_name(const struct mg_engine *engine);
int mg_engine_attach(struct mg_duck *duck, uint32_t shard, const char *path, struct mg_error *err);
/* For writing, as the file of this process alone: a commit is in memory until a checkpoint. */
int mg_engine_attach_own(struct mg_duck *duck, uint32_t shard, const char *path,
                         struct mg_error *err);
/* Files are written by checkpoints that somebody asks for: not by size, and not at the end. */
int mg_engine_no_checkpoints(struct mg_duck *duck, struct mg_error *err);
int mg_engine_detach(struct mg_duck *duck, uint32_t shard, struct mg_error *err);
/* Tables as a participant sees them when it holds `shards` (ids from 1) and the reference group. */
void mg_engine_exec_tables(struct mg_arena *arena, const struct mg_table *tables,
                           size_t table_count, const uint32_t *shards, size_t shard_count,
                           struct mg_exec_table **out);
/* Give each table the column _mg_rid, the id of a stored row, in front. */
void mg_engine_exec_row_ids(struct mg_arena *arena, struct mg_exec_table *tables,
                            size_t table_count);
/* Threads and memory by default: what the cgroup, else the machine, gives. */
unsigned mg_engine_default_threads(void);
/* The even share of each of `nodes` nodes that run on the same cores, rounded; at least 1. */
unsigned mg_engine_share_of_cores(unsigned cores, size_t nodes);
uint64_t mg_engine_default_memory(void);

#endif
