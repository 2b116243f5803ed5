/*
 * dml.h - the head of a statement that writes: which table, which columns, and the texts in
 * between, which DuckDB reads.
 *
 * Only keywords outside of parentheses are looked for; what stands between them stays text, as it
 * was written.  Whether it is right SQL is DuckDB's to say: a caller hands it the whole statement
 * first, so what is read here is known to be well formed, and errors of this file are for those
 * that are not, and for what cannot be written yet.
 *
 * Pure; any thread.
 */
#ifndef MG_SQL_DML_H
#define MG_SQL_DML_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define MG_DML_COLUMNS_MAX 100000

enum mg_dml_verb { MG_DML_INSERT, MG_DML_UPDATE, MG_DML_DELETE, MG_DML_TRUNCATE, MG_DML_MERGE };

enum mg_dml_conflict {
	MG_DML_CONFLICT_NONE,
	MG_DML_CONFLICT_IGNORE,  /* INSERT OR IGNORE */
	MG_DML_CONFLICT_REPLACE, /* INSERT OR REPLACE */
	MG_DML_CONFLICT_CLAUSE   /* ON CONFLICT ... */
};

/* column = expr of UPDATE */
struct mg_dml_set {
	const char *column;
	struct mg_str expr; /* or DEFAULT */
	bool is_default;
};

/* Of MERGE: which rows a WHEN is about, and what it does. */
enum mg_dml_match {
	MG_DML_MATCHED,
	MG_DML_NOT_MATCHED,           /* BY TARGET: rows of the source */
	MG_DML_NOT_MATCHED_BY_SOURCE, /* rows of the table */
	MG_DML_MATCH_COUNT
};

enum mg_dml_then {
	MG_DML_THEN_UPDATE,
	MG_DML_THEN_DELETE,
	MG_DML_THEN_INSERT,
	MG_DML_THEN_NOTHING,
	MG_DML_THEN_ERROR
};

struct mg_dml_when {
	enum mg_dml_match match;
	enum mg_dml_then then;
	struct mg_str condition; /* or empty; of each match at most one is, and it is the last */
	/* UPDATE, INSERT: all columns of the source, by their place or their names */
	bool all, by_name;
	struct mg_dml_set *sets; /* UPDATE */
	size_t set_count;
	const char **columns; /* INSERT */
	size_t column_count; /* 0: none are named */
	struct mg_str *values;
	size_t value_count; /* 0: DEFAULT VALUES */
	struct mg_str message; /* ERROR; or empty */
};

/* Of COPY: under the name that DuckDB's reader has for it, the value as a literal of SQL. */
struct mg_dml_option {
	const char *name, *value;
};

struct mg_dml {
	enum mg_dml_verb verb;
	const char *name;                     /* "INSERT" */
	struct mg_str with;                   /* WITH ... in front of the verb, or empty */
	const char *catalog, *schema, *table; /* without quotes; "" when not written */
	const char *alias;                    /* or NULL */
	/* INSERT */
	const char **columns; /* column_count 0: none are named */
	size_t column_count;
	bool by_name;
	/* COPY ... FROM: an INSERT of what the client sends, or of a file of the server */
	const char *copy_path;   /* NULL: STDIN */
	const char *copy_format; /* "csv", "json", "parquet", "arrow"; NULL: it is no COPY */
	struct mg_dml_option *copy_options;
	size_t copy_option_count;
	bool values; /* source starts with VALUES */
	bool default_values;
	struct mg_str source; /* VALUES ..., SELECT ..., or empty with default_values */
	enum mg_dml_conflict conflict;
	struct mg_str conflict_text; /* ON CONFLICT ...; its SET and WHERE are sets and where too */
	/* UPDATE */
	struct mg_dml_set *sets;
	size_t set_count;
	/* UPDATE: FROM; DELETE: USING; without the word, or empty */
	struct mg_str from;
	struct mg_str where;     /* without the word, or empty */
	struct mg_str returning; /* without the word, or empty */
	/* MERGE; its source is behind USING */
	struct mg_str join;       /* ON condition, or USING (columns) */
	const char *source_alias; /* or NULL: the source is a join, or odd */
	struct mg_dml_when *whens;
	size_t when_count;
	/* Some word of an INSERT may start a table; the others read their own. */
	bool reads;
};

/* text: one statement without its ";".  Fails: MG_E_SYNTAX, MG_E_UNSUPPORTED, MG_E_LIMIT. */
int mg_dml_parse(struct mg_arena *arena, struct mg_str text, struct mg_dml *out,
                 struct mg_error *err);

#endif
