/*
 * cursor.h - walks over the tokens of a statement and takes what it expects: for the readers of
 * statement heads.
 *
 * Pure; a cursor belongs to one thread.
 */
#ifndef MG_SQL_CURSOR_H
#define MG_SQL_CURSOR_H

#include "base/mem.h"
#include "sql/statement.h"

struct mg_cursor {
	struct mg_arena *arena;
	struct mg_lexer lexer;
	struct mg_token token; /* the next one, not yet taken */
	const char *end;       /* of the last token that was taken */
	struct mg_error *err;
};

void mg_cursor_init(struct mg_cursor *cursor, struct mg_arena *arena, struct mg_str text,
                    struct mg_error *err);
void mg_cursor_next(struct mg_cursor *cursor);
struct mg_token mg_cursor_peek(const struct mg_cursor *cursor); /* the one behind the next */

bool mg_token_is(struct mg_token token, const char *word);
bool mg_token_is_sign(struct mg_token token, char sign);
bool mg_token_is_end(struct mg_token token);
/* A word, or a name in quotes, that means this name, whatever its case. */
bool mg_token_is_name(struct mg_token token, const char *name);

bool mg_cursor_take(struct mg_cursor *cursor, const char *word);
bool mg_cursor_take_two(struct mg_cursor *cursor, const char *first, const char *second);
bool mg_cursor_take_sign(struct mg_cursor *cursor, char sign);
/* A name without its quotes.  Fails: MG_E_SYNTAX, "what is missing". */
int mg_cursor_take_name(struct mg_cursor *cursor, const char *what, const char **out);
/* [schema .] name; schema "" when not written.  A catalog in front must be "merganser". */
int mg_cursor_take_path(struct mg_cursor *cursor, const char *what, const char **schema,
                        const char **name);
int mg_cursor_expected(struct mg_cursor *cursor, const char *what);
/* From a place of the text to another, trimmed. */
struct mg_str mg_cursor_between(const char *from, const char *to);
/* Over a parenthesis and all in it; the next token opens it. */
int mg_cursor_skip_parens(struct mg_cursor *cursor);

#endif
