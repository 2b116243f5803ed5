/* dml_int.h - what the readers of statement heads share (dml.c, dml_merge.c). */
#ifndef MG_SQL_DML_INT_H
#define MG_SQL_DML_INT_H

#include "sql/cursor.h"
#include "sql/dml.h"

/* A list of words that end a text; `on_conflict` also ends it. */
struct mg_dml_ends {
	const char *const *words;
	bool on_conflict;
	bool cases; /* words inside of CASE ... END end nothing */
	char sign;  /* ',' ends it too; 0: none does */
};

bool mg_dml__word_in(struct mg_token token, const char *const *words);
/* Everything up to one of the ends, or to the statement's. */
int mg_dml__take_text(struct mg_cursor *cursor, const struct mg_dml_ends *ends, struct mg_str *out);
int mg_dml__take_some_text(struct mg_cursor *cursor, const struct mg_dml_ends *ends,
                           const char *what, struct mg_str *out);
int mg_dml__take_returning(struct mg_cursor *cursor, struct mg_dml *out);
/* [[catalog .] schema .] table */
int mg_dml__take_path(struct mg_cursor *cursor, struct mg_dml *out);
/* [ONLY] table [*] [[AS] alias]; words: what follows and is no alias. */
int mg_dml__take_target(struct mg_cursor *cursor, const char *const *words, struct mg_dml *out);
/* Does the parenthesis that is next hold names alone? */
bool mg_dml__is_column_list(const struct mg_cursor *cursor);
/* The parenthesis of names. */
int mg_dml__take_columns(struct mg_cursor *cursor, const char ***out, size_t *count);
/* The parts of "(a, b)" or "row(a, b)" as one text each; 0 when text is neither. */
size_t mg_dml__split_row(struct mg_arena *arena, struct mg_str text, struct mg_str **out);
/* SET a = b, ... up to one of words, into out's sets. */
int mg_dml__take_sets(struct mg_cursor *cursor, const char *const *words, struct mg_dml *out);
bool mg_dml__is_default(struct mg_str expr);

/* MERGE's, behind the verb (dml_merge.c). */
int mg_dml__take_merge(struct mg_cursor *cursor, struct mg_dml *out);
/* COPY ... FROM's (dml_copy.c); the others serve COPY ... TO as well. */
int mg_dml__take_copy(struct mg_cursor *cursor, struct mg_dml *out);

/* An option of COPY, and what its reader or writer calls it. */
struct mg_dml_known {
	const char *name, *as;
	const char *formats; /* first letters: csv, json, parquet */
};
#define MG_DML_ALL_COLUMNS "*" /* an option's value, beside literals */

/* STDIN or STDOUT, which word names, or a path. */
int mg_dml__take_copy_end(struct mg_cursor *cursor, const char *word, struct mg_dml *out);
/* To the end of the statement.  verb: for messages, "FROM" or "TO". */
int mg_dml__take_copy_options(struct mg_cursor *cursor, const struct mg_dml_known *list,
                              size_t count, const char *verb, struct mg_dml *out);

#endif
