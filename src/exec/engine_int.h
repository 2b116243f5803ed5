/* engine_int.h - struct mg_engine from the inside: for engine*.c only. */
#ifndef MG_EXEC_ENGINE_INT_H
#define MG_EXEC_ENGINE_INT_H

#include "exec/blind.h"
#include "exec/copies.h"
#include "exec/engine.h"
#include "exec/gate.h"
#include "exec/hub.h"
#include "exec/keys.h"
#include "exec/outcome.h"
#include "exec/sequences.h"
#include "replica/replica.h"

#include <pthread.h>

/* An object of the catalog that the planning database shows; a table or view the engine, too. */
struct mg_shown {
	char *kind; /* the word behind DROP: MG_SHOWN_TABLE, MG_SHOWN_VIEW, MG_OBJECT_... */
	char *schema, *name;
	char *text; /* a view's SELECT, a table's definition: another one is another object */
	char *comments; /* those that are shown, as text; NULL: none */
	uint64_t id;
	uint64_t rows;        /* of a table, lately */
	uint64_t sample_rows; /* of them in the planning database */
	size_t sampled_keys;  /* whose indexes hold them there */
};

/* What happened to replicas before anybody listened; more, and the rest, are only logged. */
#define MG_EARLY_EVENTS_MAX 64

struct mg_early_event {
	char *event, *detail;
};

#define MG_SHOWN_TABLE "TABLE"
#define MG_SHOWN_VIEW "VIEW"

struct mg_engine {
	struct mg_engine_options options;
	char *data_dir, *spill_dir, *node_name, *address;
	struct mg_catalog *catalog;
	struct mg_duck *duck;
	struct mg_plandb *plandb;
	struct mg_hub *hub;
	struct mg_replica *replica;
	struct mg_duck_keys keys; /* of kv() */
	struct mg_copies *copies;
	struct mg_outcomes *outcomes;
	struct mg_sequences *sequences;
	struct mg_growth *growth;
	struct mg_blind *blind;
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
	atomic_ullong unshown_ms;       /* since when */
	atomic_bool was_ready;          /* the last time that it was asked */
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

/* ---- engine_shown.c ---- */
/* `object` is shown now; its pointers are copied. */
void mg_engine__note(struct mg_engine *engine, const struct mg_shown *object);
/* What a table is shown by: with another text it is another one. */
const char *mg_engine__text_of(const struct mg_table *table);
bool mg_engine__is_shown(struct mg_engine *engine, const char *kind, const char *schema,
                         const char *name);
/* Under shown_lock; NULL when it is not shown (any more). */
struct mg_shown *mg_engine__find_shown(struct mg_engine *engine, const struct mg_table *table);
/* May its keys have an index with rows in the planning database? */
bool mg_engine__has_room(struct mg_engine *engine, const struct mg_table *table);
/* sample_rows: NULL: as before. */
void mg_engine__note_rows(struct mg_engine *engine, const struct mg_table *table, uint64_t rows,
                          const uint64_t *sample_rows);
/* True: others were shown before. */
bool mg_engine__note_comments(struct mg_engine *engine, const char *kind, const char *schema,
                              const char *name, const char *comments);
void mg_engine__forget_shown(struct mg_engine *engine, size_t index);
/* Off the list, into *out, whose it is then; false: it was not on it. */
bool mg_engine__take_shown(struct mg_engine *engine, const struct mg_table *table,
                           struct mg_shown *out);
void mg_engine__shown_fini(struct mg_shown *shown);
void mg_engine__show_free(struct mg_engine *engine);

/* ---- engine_comments.c ---- */
/* Of tables and views that are shown. */
void mg_engine__show_comments(struct mg_engine *engine, const struct mg_catalog_data *data);

/* ---- engine_objects.c ---- */
/* Views, macros, types that are not shown yet.  tables: those are there already; whole: all of
 * them, so what still cannot be shown is broken, and does not only wait for a table to come. */
void mg_engine__show_objects(struct mg_engine *engine, struct mg_duck_conn *conn,
                             const struct mg_catalog_data *data, bool tables, bool whole);
/* Still in the catalog as it is shown: a view or an object. */
bool mg_engine__is_current_object(const struct mg_catalog_data *data,
                                  const struct mg_shown *shown);

#endif
