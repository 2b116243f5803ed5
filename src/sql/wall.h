/*
 * wall.h - what a statement's text asks for, read from its unbound AST; for plandb.c.
 */
#ifndef MG_SQL_WALL_H
#define MG_SQL_WALL_H

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

/* A table name in the text that is not a CTE's. */
struct mg_wall_table {
	const char *catalog, *schema, *name; /* "" when not written */
};

/* A function that is none of the engine's: a macro, or a mistake; or one that a macro of old may
 * have the name of. */
struct mg_wall_call {
	const char *name;
	bool table; /* in FROM */
};

struct mg_wall_view {
	const char *why; /* why the text may not run in the engine, or NULL */
	bool catalog;    /* reads catalog tables or functions, SHOW, DESCRIBE */
	bool draws;      /* nextval, currval */
	bool row_ids;    /* a column is called rowid */
	bool keys;       /* reads keys and values */
	bool own;        /* calls a function that is none of the engine's */
	bool bare;       /* a catalog table is named without its schema: a user's may be meant */
	struct mg_wall_table *tables; /* user tables named in the text (heap: mg_wall_view_fini) */
	size_t table_count, table_cap;
	struct mg_wall_table *described; /* likewise, inside of DESCRIBE: their rows are not read */
	size_t described_count, described_cap;
	struct mg_wall_call *calls; /* likewise; what their bodies ask for is not looked at here */
	size_t call_count, call_cap;
};

/* Adds to view what the text asks for.  Fails: MG_E_DENIED for what no client may ever call,
 * MG_E_UNSUPPORTED when the AST is none of a SELECT. */
int mg_wall_look(struct mg_arena *arena, const struct mg_json *ast, struct mg_wall_view *view,
                 struct mg_error *err);
void mg_wall_view_fini(struct mg_wall_view *view);

/* ---- functions.c: every function of the engine, sorted by what it may be used for ---- */
enum mg_function_class {
	MG_FUNCTION_UNKNOWN, /* none of the engine's: a user's, or a mistake */
	MG_FUNCTION_PURE, /* depends on its arguments alone, or is harmless: the text may run anywhere
	                   */
	MG_FUNCTION_PLANNED, /* fine, but only as the planning database evaluates it */
	MG_FUNCTION_KEYS,    /* reads keys and values */
	MG_FUNCTION_CATALOG, /* lists the catalog: the planning database answers it */
	MG_FUNCTION_DENIED   /* files, secrets, settings, logs, other SQL: never */
};

/* A table function that is no macro, either. */
int mg_wall_no_function(const char *name, struct mg_error *err);

enum mg_function_class mg_function_class(const char *name); /* scalars, aggregates, macros */
enum mg_function_class mg_table_function_class(const char *name);
/* Names that arguments of a function of ours may have (NULL-ended); NULL: it is none of those whose
 * names anybody looks at. */
const char *const *mg_function_arguments(const char *name);

#endif
