/* define_int.h - what the files define*.c share: a statement of DDL under way. */
#ifndef MG_EXEC_DEFINE_INT_H
#define MG_EXEC_DEFINE_INT_H

#include "catalog/catalog.h"
#include "exec/define.h"
#include "exec/engine.h"
#include "sql/ddl.h"

struct mg_define {
	struct mg_engine *engine;
	struct mg_run *run;
	const struct mg_run_settings *settings;
	const struct mg_change_request *request;
	const char *statement; /* zero-terminated */
	struct mg_arena *arena;
	bool is_step; /* of a transaction, which frees it */
	const struct mg_catalog_data *data; /* as the statement found it */
	uint64_t epoch;
	struct mg_ddl ddl;
	const char *schema;    /* of the object */
	struct mg_table table; /* CREATE TABLE, ALTER TABLE: what becomes of it */
	struct mg_table old;   /* and what it has replaced, as far as files need to know */
	bool replaced;
	uint64_t loaded; /* bytes of its rows, CREATE TABLE ... AS */
	struct mg_view view; /* CREATE VIEW */
	uint64_t object_id;  /* CREATE of a macro, type, sequence */
	bool repeated;       /* it was done before, under its key */
	const char *comment; /* COMMENT ON: as DuckDB reads it; NULL: none */
	const char *replay;  /* for the planning database; NULL: as define.c makes it */
	/* Of `table`: defaults and conditions, for the wall. */
	const char **expressions;
	size_t expression_count;
};

/* On the newest version, while the epoch lasts; change may be called several times.  Inside of a
 * transaction it is a step of that. */
int mg_define__change_catalog(struct mg_define *define,
                              int (*change)(void *arg, struct mg_arena *arena,
                                            struct mg_catalog_data *data, struct mg_error *err),
                              struct mg_error *err);

int mg_define__step(struct mg_define *define,
                    int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                                  struct mg_error *err),
                    struct mg_error *err);
/* How the planning database is asked; alone: mg_plandb_try makes or drops something. */
struct mg_plan_settings mg_define__plan_settings(const struct mg_define *define, bool alone);

/* What the query of CREATE ... AS gives, and no more names than it has columns. */
int mg_define__bind_query(struct mg_define *define, const char **query, struct mg_bound *bound,
                          struct mg_error *err);
/* For mg_define_on_step. */
void mg_define__tell(enum mg_define_step step);
/* Names that nothing of users may have. */
int mg_define__check_name(const char *name, struct mg_error *err);
/* Functions that no client may call may not stand in a definition, either. */
int mg_define__check_expression(struct mg_define *define, const char *text, struct mg_error *err);

/* ---- define_table.c ---- */

/* Its rows are in the shards: who has got that far has all of them. */
void mg_define__note_whole(struct mg_define *define);

int mg_define__create_table(struct mg_define *define, struct mg_error *err);
int mg_define__drop_table(struct mg_define *define, struct mg_error *err);
/* Where a table stands in the planning database while its definition is tried. */
struct mg_define_place {
	const char *database, *schema, *name;
};

int mg_define__check_expressions(struct mg_define *define, struct mg_error *err);
/* Columns, constraints, keys and expressions of what stands there, into define->table. */
int mg_define__read_table(struct mg_define *define, struct mg_duck_conn *conn,
                          const struct mg_define_place *place, struct mg_error *err);
/* define_declared.c: define->table.declared, of what duckdb_columns(), duckdb_constraints() and
 * duckdb_tables() (create; NULL: no key, no COLLATE) say; the table's definition is read.  Fails:
 * MG_E_UNSUPPORTED collations. */
int mg_define__declare(struct mg_define *define, const struct mg_json *columns,
                       const struct mg_json *constraints, const char *create,
                       struct mg_error *err);
int mg_define__drop_in_shards(struct mg_define *define, const struct mg_table *table,
                              struct mg_error *err);
/* As flush of mg_write_load: a part of its rows is complete. */
int mg_define__append_rows(void *define, struct mg_redo *redo, struct mg_error *err);
/* A notice, when define->table has no partitions. */
void mg_define__say_reference(const struct mg_define *define);

/* ---- alter.c ---- */
int mg_define__alter_table(struct mg_define *define, struct mg_error *err);
int mg_define__alter_view(struct mg_define *define, struct mg_error *err);

/* ---- define_comment.c ---- */
int mg_define__comment(struct mg_define *define, struct mg_error *err);

/* ---- define_enum.c ---- */
/* The query's values become the definition. */
int mg_define__read_labels(struct mg_define *define, struct mg_error *err);

/* ---- define_once.c ---- */
/* define->repeated, when the key has done it.  Fails: MG_E_USAGE the key was used for something
 * else. */
int mg_define__look_for_done(struct mg_define *define, const struct mg_catalog_data *data,
                             struct mg_error *err);
void mg_define__note_done(const struct mg_define *define, struct mg_arena *arena,
                          struct mg_catalog_data *data);
/* There was nothing to do, which is to be so when it comes again. */
int mg_define__done_nothing(struct mg_define *define, struct mg_error *err);

/* ---- define_object.c: macros and types ---- */
/* *done: there is nothing to do (IF EXISTS, IF NOT EXISTS). */
int mg_define__check_object(const struct mg_define *define, bool *done, struct mg_error *err);
int mg_define__create_object(struct mg_define *define, struct mg_error *err);
int mg_define__drop_object(struct mg_define *define, struct mg_error *err);

#endif
