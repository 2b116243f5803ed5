/*
 * ddl.h - the head of a statement that makes, alters, drops or comments on a table, view, schema,
 * macro or type.
 *
 * As dml.h: the texts in between are DuckDB's to read; here stands which object it is about, and
 * what DuckDB does not have: PARTITIONED BY.
 *
 * Pure; any thread.
 */
#ifndef MG_SQL_DDL_H
#define MG_SQL_DDL_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

enum mg_ddl_verb { MG_DDL_CREATE, MG_DDL_DROP, MG_DDL_ALTER, MG_DDL_COMMENT };
enum mg_ddl_kind { MG_DDL_TABLE, MG_DDL_VIEW, MG_DDL_SCHEMA, MG_DDL_INDEX, MG_DDL_OBJECT };

/* What ALTER does, by what becomes of the rows. */
enum mg_alter {
	MG_ALTER_DEFINITION,  /* what new rows must be like: defaults, constraints */
	MG_ALTER_COLUMN_NAME, /* `column` is called `to` */
	MG_ALTER_NAME,        /* the object is called `to` */
	MG_ALTER_ROWS,        /* a column comes, goes or gets another type: all rows are made anew */
	MG_ALTER_PARTITIONS   /* PARTITIONED BY `keys`, or by nothing */
};

struct mg_ddl {
	enum mg_ddl_verb verb;
	enum mg_ddl_kind kind;
	const char *tag; /* "CREATE TABLE" */
	bool or_replace, if_not_exists, if_exists, cascade;
	const char *schema, *name; /* "" when not written; a schema's name stands in `name` */
	/* CREATE TABLE: what stands between the parentheses, or empty with AS. */
	struct mg_str columns;
	const char **keys; /* PARTITIONED BY */
	size_t key_count;
	struct mg_str query; /* CREATE TABLE ... AS, CREATE VIEW ... AS: the SELECT, or empty */
	bool no_data;        /* WITH NO DATA */
	const char **names;  /* of columns, in front of AS */
	size_t name_count;
	/* MG_DDL_OBJECT (ddl_object.c): MG_OBJECT_... of catalog.h */
	const char *object;
	struct mg_str definition; /* what stands behind the name */
	/* Bodies and defaults of a macro, each as a statement that reads. */
	const char **bodies;
	size_t body_count, default_count; /* the last of them are defaults */
	/* ALTER */
	enum mg_alter alter;
	struct mg_str action;   /* all behind the table's name, for DuckDB; empty with PARTITIONS */
	const char *column;     /* that it is about; "" when it names none */
	bool drops_column;      /* that one goes, and no part of it alone */
	const char *to;         /* new name */
	struct mg_str using_by; /* the expression behind USING, or empty */
	/* COMMENT, on a table, view or `column` */
	struct mg_str comment; /* a literal, or NULL */
};

/* text: one statement without its ";".  Fails: MG_E_SYNTAX, MG_E_UNSUPPORTED for DDL that does not
 * exist here yet. */
int mg_ddl_parse(struct mg_arena *arena, struct mg_str text, struct mg_ddl *out,
                 struct mg_error *err);

#endif
