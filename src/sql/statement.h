/*
 * statement.h - our lexer over SQL text: splits statements, tells their kind, takes off EXPLAIN,
 * and reads the statements that DuckDB does not have (our SET, CANCEL, KILL, ...).
 */
#ifndef MG_SQL_STATEMENT_H
#define MG_SQL_STATEMENT_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

enum mg_token_kind {
	MG_T_END,
	MG_T_WORD,
	MG_T_QUOTED,
	MG_T_STRING,
	MG_T_NUMBER,
	MG_T_PARAM,
	MG_T_OPERATOR,
	MG_T_BAD
};

struct mg_token {
	enum mg_token_kind kind;
	struct mg_str text; /* as written */
};

struct mg_lexer {
	const char *ptr, *end;
};

void mg_lex_init(struct mg_lexer *lexer, struct mg_str sql);
struct mg_token mg_lex_next(struct mg_lexer *lexer); /* blanks and comments skipped */

enum mg_statement_kind {
	MG_S_EMPTY,
	/* SELECT, WITH, FROM, VALUES, TABLE, PIVOT, UNPIVOT, SUMMARIZE, DESCRIBE, SHOW: all that reads;
	 * and what starts like no statement, so that the parser says what is wrong. */
	MG_S_SELECT,
	MG_S_EXPLAIN,
	MG_S_SET,
	MG_S_RESET,
	MG_S_SHOW_SETTING,
	MG_S_CANCEL,
	MG_S_KILL,
	MG_S_USE,
	MG_S_DML,
	MG_S_DDL,
	MG_S_NAMESPACE, /* ALTER, CREATE, DROP NAMESPACE: of keys and values */
	MG_S_TRANSACTION,
	MG_S_COPY,
	MG_S_PREPARE,
	MG_S_REFUSED /* ATTACH, PRAGMA, CALL, LOAD, ... */
};

enum mg_transaction_verb {
	MG_TRANSACTION_BEGIN,
	MG_TRANSACTION_COMMIT,
	MG_TRANSACTION_ROLLBACK,
	MG_TRANSACTION_SAVEPOINT /* SAVEPOINT, RELEASE, ROLLBACK TO */
};

struct mg_statement {
	enum mg_statement_kind kind;
	struct mg_str text;          /* without the final ; */
	struct mg_str body;          /* EXPLAIN: the explained statement */
	const char *verb;            /* upper-case first word, e.g. "INSERT" */
	bool analyze, json, verbose; /* EXPLAIN */
	char name[64];               /* SET, RESET, SHOW: setting; CANCEL, KILL: id */
	char value[512];             /* SET: value without quotes */
	enum mg_transaction_verb transaction;
	bool read_only; /* BEGIN READ ONLY */
};

/* Split text into statements (arena array).  Fails: MG_E_SYNTAX for an open quote or comment, NUL
 * bytes. */
int mg_statement_split(struct mg_arena *arena, struct mg_str text, struct mg_statement **out,
                       size_t *count, struct mg_error *err);

/* True when text (typed so far in a shell) ends a statement: ";" at the end, or a
 * last line of only "/" (which the shell takes off). */
bool mg_statement_complete(struct mg_str text);

/* ---- the wall (wall.c) ---- */
struct mg_json;
/* Decide from the unbound AST (json_serialize_sql) whether the original text may run in the engine:
 * only SELECTs over known tables and CTEs with functions on the allow-list.  Returns 0; *why is
 * NULL when allowed, else a reason (then only SQL printed from the bound plan may run). A function
 * or table function that no client may ever call (files, secrets, settings, logs) fails with
 * MG_E_DENIED. */
int mg_wall_check(struct mg_arena *arena, const struct mg_json *ast, const char **why,
                  struct mg_error *err);

#endif
