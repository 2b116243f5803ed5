/* cursor.c - see cursor.h. */
#include "sql/cursor.h"

#include <ctype.h>

void mg_cursor_init(struct mg_cursor *cursor, struct mg_arena *arena, struct mg_str text,
                    struct mg_error *err)
{
	*cursor = (struct mg_cursor){ .arena = arena, .end = text.ptr, .err = err };
	mg_lex_init(&cursor->lexer, text);
	cursor->token = mg_lex_next(&cursor->lexer);
}

void mg_cursor_next(struct mg_cursor *cursor)
{
	cursor->end = cursor->token.text.ptr + cursor->token.text.len;
	cursor->token = mg_lex_next(&cursor->lexer);
}

struct mg_token mg_cursor_peek(const struct mg_cursor *cursor)
{
	struct mg_lexer ahead = cursor->lexer;

	return mg_lex_next(&ahead);
}

bool mg_token_is(struct mg_token token, const char *word)
{
	return token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, mg_str(word));
}

bool mg_token_is_sign(struct mg_token token, char sign)
{
	return token.kind == MG_T_OPERATOR && token.text.len == 1 && token.text.ptr[0] == sign;
}

bool mg_token_is_name(struct mg_token token, const char *name)
{
	struct mg_str text = token.text;

	if (token.kind == MG_T_WORD) {
		return mg_str_eq_nocase(text, mg_str(name));
	}
	if (token.kind != MG_T_QUOTED || text.len < 2) {
		return false;
	}
	const char *at = text.ptr + 1, *end = text.ptr + text.len - 1;

	while (at < end && *name && tolower((unsigned char)*at) == tolower((unsigned char)*name)) {
		at += *at == '"' && at + 1 < end ? 2 : 1; /* a quote is doubled */
		name++;
	}
	return at == end && !*name;
}

bool mg_token_is_end(struct mg_token token)
{
	return token.kind == MG_T_END || token.kind == MG_T_BAD;
}

bool mg_cursor_take(struct mg_cursor *cursor, const char *word)
{
	bool is = mg_token_is(cursor->token, word);

	if (is) {
		mg_cursor_next(cursor);
	}
	return is;
}

bool mg_cursor_take_two(struct mg_cursor *cursor, const char *first, const char *second)
{
	bool is = mg_token_is(cursor->token, first) && mg_token_is(mg_cursor_peek(cursor), second);

	if (is) {
		mg_cursor_next(cursor);
		mg_cursor_next(cursor);
	}
	return is;
}

bool mg_cursor_take_sign(struct mg_cursor *cursor, char sign)
{
	bool is = mg_token_is_sign(cursor->token, sign);

	if (is) {
		mg_cursor_next(cursor);
	}
	return is;
}

int mg_cursor_expected(struct mg_cursor *cursor, const char *what)
{
	struct mg_token token = cursor->token;

	if (mg_token_is_end(token)) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "%s is missing at the end of the statement",
		                    what);
	}
	return mg_error_set(cursor->err, MG_E_SYNTAX, "%s is missing at \"%.*s\"", what,
	                    (int)(token.text.len < 60 ? token.text.len : 60), token.text.ptr);
}

int mg_cursor_take_name(struct mg_cursor *cursor, const char *what, const char **out)
{
	struct mg_token token = cursor->token;

	if (token.kind != MG_T_WORD && token.kind != MG_T_QUOTED) {
		return mg_cursor_expected(cursor, what);
	}
	char *name = mg_arena_strndup(cursor->arena, token.text.ptr, token.text.len);

	if (token.kind == MG_T_QUOTED) {
		size_t len = 0;

		for (size_t i = 1; i + 1 < token.text.len; i++) {
			name[len++] = token.text.ptr[i];
			i += token.text.ptr[i] == '"';
		}
		name[len] = '\0';
	}
	*out = name;
	mg_cursor_next(cursor);
	return 0;
}

int mg_cursor_take_path(struct mg_cursor *cursor, const char *what, const char **schema,
                        const char **name)
{
	const char *parts[3];
	size_t count = 0;
	int code = 0;

	do {
		code = count == 3 ? mg_error_set(cursor->err, MG_E_SYNTAX, "%s has too many parts", what)
		                  : mg_cursor_take_name(cursor, what, &parts[count++]);
	} while (!code && mg_cursor_take_sign(cursor, '.'));
	if (code) {
		return code;
	}
	if (count == 3 && !mg_text_eq_nocase(parts[0], "merganser")) {
		return mg_error_set(cursor->err, MG_E_BIND, "there is no database \"%s\" here", parts[0]);
	}
	*schema = count > 1 ? parts[count - 2] : "";
	*name = parts[count - 1];
	return 0;
}

struct mg_str mg_cursor_between(const char *from, const char *to)
{
	return mg_str_trim((struct mg_str){ from, to > from ? (size_t)(to - from) : 0 });
}

int mg_cursor_skip_parens(struct mg_cursor *cursor)
{
	size_t depth = 0;

	do {
		depth += mg_token_is_sign(cursor->token, '(');
		depth -= mg_token_is_sign(cursor->token, ')');
		mg_cursor_next(cursor);
	} while (depth && !mg_token_is_end(cursor->token));
	return depth ? mg_error_set(cursor->err, MG_E_SYNTAX, "a parenthesis is not closed") : 0;
}
