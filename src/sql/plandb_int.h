/* plandb_int.h - what plandb.c and plandb_write.c share. */
#ifndef MG_SQL_PLANDB_INT_H
#define MG_SQL_PLANDB_INT_H

#include "sql/plandb.h"
#include "sql/wall.h"

#include <pthread.h>

enum {
	MG_PLANDB_POOL = 16, /* more than cores: a constant call that cannot be interrupted keeps one */
	MG_PLANDB_ZONE_MAX = 64,
};

/* What a connection is taken for; each use has a limit, so that the others always find one. */
enum mg_plandb_use {
	MG_PLANDB_PLANS,
	MG_PLANDB_LENT,   /* users' catalog statements */
	MG_PLANDB_WRITES, /* rows are tried in a table */
	MG_PLANDB_USES
};

struct mg_plan_conn {
	struct mg_duck_conn *duck;
	struct mg_duck_conn *binder;   /* optimizes nothing: for names and types */
	char zone[MG_PLANDB_ZONE_MAX]; /* TimeZone that is set */
	enum mg_plandb_use use;
	bool busy;
	bool replays;             /* holds replay_lock */
	bool replayed;            /* is in a transaction with the client's definitions */
	bool expired;             /* the watchdog has interrupted it */
	uint64_t until_ms; /* while busy: its deadline */
	int limit_ms;      /* that the deadline stands for */
};

struct mg_plandb {
	struct mg_duck *duck;
	struct mg_plan_conn conns[MG_PLANDB_POOL];
	size_t used[MG_PLANDB_USES]; /* of conns, now */
	pthread_mutex_t lock;
	pthread_cond_t freed;   /* a connection is free again */
	pthread_cond_t changed; /* for the watchdog: a deadline was set, or the end has come */
	pthread_t watchdog;
	pthread_mutex_t replay_lock; /* held while objects come and go, for good or to be rolled back */
	bool watched, closing;
	int limit_ms;  /* for one bind; set once, at open */
	int64_t views; /* how many the catalog has; negative: to be counted */
};

struct mg_plan_conn *mg_plandb__take(struct mg_plandb *db, int ms, enum mg_plandb_use use,
                                     struct mg_error *err);
void mg_plandb__give(struct mg_plandb *db, struct mg_plan_conn *conn);
/* The watchdog lets the connection be until it is given back. False: it has interrupted it. */
bool mg_plandb__unwatch(struct mg_plandb *db, struct mg_plan_conn *conn);
int mg_plandb__in_time(struct mg_plandb *db, struct mg_plan_conn *conn, int code,
                       struct mg_error *err);
/* plandb_replay.c: from now until the end this connection sees settings->replay; begun: it is in a
 * transaction already.  Ended also when it failed; roll_back: nobody else does. */
int mg_plandb__replay(struct mg_plandb *db, struct mg_plan_conn *conn,
                      const struct mg_plan_settings *settings, bool begun, struct mg_error *err);
void mg_plandb__replay_end(struct mg_plandb *db, struct mg_plan_conn *conn, bool roll_back);
int mg_plandb__set_zone(struct mg_plan_conn *conn, const char *zone, struct mg_error *err);
/* From now on whoever ends the statement interrupts this connection; NULL: none. */
int mg_plandb__attach(const struct mg_plan_settings *settings, struct mg_duck_conn *duck,
                      struct mg_error *err);
/* plandb_write.c: end a transaction that was begun on conn->duck, whatever became of it. */
int mg_plandb__roll_back(struct mg_plan_conn *conn, struct mg_error *err);
int mg_plandb__ask_ast(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                       struct mg_json **out, struct mg_error *err);
/* plandb_macros.c: what the bodies of the macros ask for that view->calls names, and of those that
 * they call, as if it stood in the text.  Fails: as the wall; MG_E_NO_FUNCTION. */
int mg_plandb__look_into_macros(struct mg_plan_conn *conn, struct mg_arena *arena,
                                struct mg_wall_view *view, struct mg_error *err);
int mg_plandb__describe(struct mg_plan_conn *conn, struct mg_arena *arena, const char *sql,
                        struct mg_bound *out, struct mg_error *err);
/* The wall: fills view, which the caller ends, and of out what follows from it. */
int mg_plandb__look(struct mg_plandb *db, struct mg_plan_conn *conn, struct mg_arena *arena,
                    const char *sql, struct mg_wall_view *view, struct mg_bound *out,
                    struct mg_error *err);

/* plandb_raw.c: the first type in the plan whose constants are raw bytes, which no JSON holds; or
 * NULL. */
const char *mg_plandb__raw_type(const struct mg_json *plan);
/* It calls what is of one moment only where the optimizer has made it a constant. */
bool mg_plandb__has_moments(const struct mg_json *plan);

#endif
