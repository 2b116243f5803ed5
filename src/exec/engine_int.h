/* engine_int.h - struct mg_engine from the inside: for engine*.c only. */
#ifndef MG_EXEC_ENGINE_INT_H
#define MG_EXEC_ENGINE_INT_H

#include "exec/copies.h"
#include "exec/engine.h"
#include "exec/gate.h"
#include "exec/hub.h"
#include "exec/outcome.h"
#include "replica/replica.h"

#include <pthread.h>

/* A table or view that the engine and the planning database show. */
struct mg_shown {
	char *schema, *name;
	char *text; /* a view's SELECT, a table's definition: another one is another object */
	uint64_t id;
	bool view;
	uint64_t rows;        /* of a table, lately */
	uint64_t sample_rows; /* of them in the planning database */
};

/* What happened to replicas before anybody listened; more, and the rest, are only logged. */
#define MG_EARLY_EVENTS_MAX 64

struct mg_early_event {
	char *event, *detail;
};

struct mg_engine {
	struct mg_engine_options options;
	char *data_dir, *spill_dir, *node_name, *address;
	struct mg_catalog *catalog;
	struct mg_duck *duck;
	struct mg_plandb *plandb;
	struct mg_hub *hub;
	struct mg_replica *replica;
	struct mg_copies *copies;
	struct mg_outcomes *outcomes;
	struct mg_gate *gate;
	atomic_bool measured;            /* false: rows have changed since */
	_Atomic(struct mg_hub *) served; /* the hub, from when all is open: before, nothing is told */
	uint64_t since_ms;
	bool threads_given, stopped;
	pthread_mutex_t event_lock; /* guards tell, tell_arg; held while it is called */
	void (*tell)(void *arg, const char *event, const char *detail);
	void *tell_arg;
	struct mg_early_event early[MG_EARLY_EVENTS_MAX]; /* nobody has listened yet */
	size_t early_count;
	const char **damaged; /* by shard, while the replicas are opened: why its file is; or NULL */

	pthread_mutex_t show_lock;      /* held while objects come and go */
	_Atomic uint64_t shown_version; /* of the catalog, all of which was tried to show */
	_Atomic uint64_t shown_changes; /* objects that have come and gone */
	atomic_bool unshown;            /* something of the catalog could not be shown: try again */
	pthread_mutex_t shown_lock;     /* guards shown */
	struct mg_shown *shown;
	size_t shown_count, shown_cap;
};

/* ---- engine_tables.c ---- */
/* Views over all shards, and the planning database with its sample, as `data` says.  Once.
 * all: what cannot be shown is an error; else it is tried again later. */
int mg_engine__show(struct mg_engine *engine, const struct mg_catalog_data *data, bool all,
                    struct mg_error *err);
/* The catalog has changed: what came, went or is another one now.  What fails is tried again by the
 * thread of copies.h. */
void mg_engine__show_again(struct mg_engine *engine);
/* Count rows anew, and sample again what has outgrown its sample.  One thread at a time. */
void mg_engine__measure(struct mg_engine *engine);
void mg_engine__show_free(struct mg_engine *engine);

#endif
