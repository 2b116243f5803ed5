/*
 * plandb.h - the private planning database: binds and optimizes user text, holds the catalog with
 * samples, and answers catalog questions (SHOW, DESCRIBE, information_schema) itself.
 *
 * It has its own small memory limit, a time-out (constants fold while planning), no external
 * access. Thread: any; a pool of connections behind a lock.
 */
#ifndef MG_SQL_PLANDB_H
#define MG_SQL_PLANDB_H

#include "base/error.h"
#include "base/json.h"
#include "sql/ir.h"

struct mg_duck_conn;
struct mg_duck_keys;
struct mg_plandb;

int mg_plandb_open(struct mg_plandb **out, struct mg_error *err);
void mg_plandb_close(struct mg_plandb *db);

/* Run catalog SQL of ours: CREATE TABLE, CREATE VIEW, INSERT of samples. */
int mg_plandb_exec(struct mg_plandb *db, const char *sql, struct mg_error *err);

/* The catalog is filled: from now on no file can be reached (enable_external_access = false). */
int mg_plandb_seal(struct mg_plandb *db, struct mg_error *err);

/* A connection to run a catalog_only statement on; give it back as it was. */
int mg_plandb_borrow(struct mg_plandb *db, const char *timezone, struct mg_duck_conn **out,
                     struct mg_error *err);
void mg_plandb_give_back(struct mg_plandb *db, struct mg_duck_conn *conn);

/* Statements that define something, once more for each statement of the transaction that they are
 * of. */
struct mg_plan_replay {
	const char *const *statements;
	size_t count;
};

/* The same on a borrowed connection, until it is given back; begun: it is in a transaction, else
 * one begins here.  The caller rolls back.  Fails: MG_E_CONFLICT they do not fit any more. */
int mg_plandb_replay(struct mg_plandb *db, struct mg_duck_conn *conn,
                     const struct mg_plan_replay *replay, bool begun, struct mg_error *err);

/* The session's settings that change meaning (TimeZone, default_collation, ...) for one call. */
struct mg_plan_settings {
	const char *timezone; /* or NULL */
	/* Called with each connection that works on the statement, and with NULL at the end, so that
	 * whoever cancels it can interrupt that; an error ends the bind.  NULL: nobody can. */
	int (*attach)(void *arg, struct mg_duck_conn *conn, struct mg_error *err);
	void *arg;
	/* A statement of ours that may name rowid, which then is the row's id in its shard
	 * (_mg_rid); the tables of whoever runs the plan must have that column. */
	bool row_ids;
	int64_t now_us; /* what now() tells, in microseconds since 1970; 0: the moment */
	struct mg_plan_replay replay; /* borrowed */
	bool alone; /* mg_plandb_try: the work makes or drops something */
	/* mg_plandb_try: a table of this schema is tried elsewhere, and its DEFAULTs name what is in it
	 * without it; or NULL. */
	const char *schema;
};

/* Bind and optimize: the tree, the result's names and types (as SQL texts).  When the statement is
 * fine but its plan cannot be serialised, is too dear, or holds what we do not know, root is NULL
 * and `unsupported` says why.  Fails: the parser's or binder's error with its own SQLSTATE and
 * MG_ORIGIN_PARSER/PLANNER; MG_E_DENIED and MG_E_NO_TABLE from the wall; MG_E_UNSUPPORTED for what
 * is no single statement that reads; MG_E_TIMEOUT, MG_E_NOMEM, MG_E_LIMIT when a plan that is
 * needed, because the text itself may not run, is too dear. */
struct mg_bound {
	struct mg_node *root;    /* pruned; NULL when unsupported (see reason) */
	const char *unsupported; /* reason, or NULL */
	const char *hint;        /* beside a reason: what to do instead; or NULL or "" */
	size_t column_count;
	const char **names;
	const char **types;       /* "DECIMAL(15,2)" */
	const char *text_refused; /* why the text may not run in the engine (wall.c), or NULL */
	bool draws;               /* values of sequences; then it is catalog_only */
	bool keys; /* reads keys and values: only servers have them */
	bool catalog_only;        /* reads only the catalog: run it on mg_plandb_borrow's connection */
};

/* Time for one bind (default 60 s, of which 5 s for a plan that can be done without), and for one
 * try of rows. */
void mg_plandb_set_limit(struct mg_plandb *db, int ms);
/* As mg_duck_set_keys: what kv() asks. */
void mg_plandb_set_keys(struct mg_plandb *db, const struct mg_duck_keys *keys);
int mg_plandb_bind(struct mg_plandb *db, struct mg_arena *arena,
                   const struct mg_plan_settings *settings, const char *sql, struct mg_bound *out,
                   struct mg_error *err);

/* ---- writes (plandb_write.c) ---- */

/* What a text that reads would touch, as the wall sees it. */
struct mg_plandb_view {
	bool tables;  /* of users, or keys and values */
	bool catalog; /* tables or functions of the catalog */
	bool row_ids; /* a column called rowid */
	bool own;     /* functions that are none of the engine's */
};

/* Fails as mg_plandb_bind does before it binds. */
int mg_plandb_look(struct mg_plandb *db, struct mg_arena *arena,
                   const struct mg_plan_settings *settings, const char *sql,
                   struct mg_plandb_view *out, struct mg_error *err);
/* Is the text of any kind well formed; with bind, which needs a text that the wall has seen, does
 * it mean something?  Nothing is run. */
int mg_plandb_check(struct mg_plandb *db, struct mg_arena *arena,
                    const struct mg_plan_settings *settings, const char *sql, bool bind,
                    struct mg_error *err);
/* Let work run statements on a connection inside of a transaction, and roll that back.  work may
 * set the connection's context.  Fails: what work returned; MG_E_TIMEOUT. */
int mg_plandb_try(struct mg_plandb *db, const struct mg_plan_settings *settings,
                  int (*work)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                  void *arg, struct mg_error *err);

#endif
