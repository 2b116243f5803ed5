/*
 * lexer.c - tokens of SQL text, as DuckDB 1.5.5 sees them.
 *
 * Only where a token ends matters here: a semicolon inside of a string, a quoted name, a dollar
 * quote or a comment must not end a statement.  What is not closed becomes MG_T_BAD and ends the
 * text.
 *
 * Facts, each with a test: comments nest; "--" and "/" "*" end an operator; backslash escapes only
 * in E''; a dollar tag is empty or a name, case-sensitive, and no quote starts after a digit or
 * "?"; the blanks of Unicode are blanks, but U+2028 and U+0085 are letters.
 *
 * Pure; any thread.
 */
#include "sql/statement.h"

#include <string.h>

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static bool is_ident_start(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c >= 0x80;
}

static bool is_ident(unsigned char c)
{
	return is_ident_start(c) || is_digit(c) || c == '$';
}

static bool is_operator(unsigned char c)
{
	return c && strchr("+-*/<>=~!@#%^&|`:", c) != NULL;
}

/* Bytes of the blank at ptr, 0 when there is none. */
static size_t blank_length(const char *ptr, const char *end)
{
	const unsigned char *at = (const unsigned char *)ptr;
	size_t left = (size_t)(end - ptr);

	if (left && (*at == ' ' || (*at >= '\t' && *at <= '\r'))) {
		return 1;
	}
	if (left >= 2 && at[0] == 0xc2 && at[1] == 0xa0) {
		return 2;
	}
	if (left < 3) {
		return 0;
	}
	bool space =
		(at[0] == 0xe2 && at[1] == 0x80 && ((at[2] >= 0x80 && at[2] <= 0x8b) || at[2] == 0xaf)) ||
		(at[0] == 0xe2 && at[1] == 0x81 && (at[2] == 0x9f || at[2] == 0xa0)) ||
		(at[0] == 0xe3 && at[1] == 0x80 && at[2] == 0x80) ||
		(at[0] == 0xef && at[1] == 0xbb && at[2] == 0xbf);

	return space ? 3 : 0;
}

static bool starts(const struct mg_lexer *lexer, const char *ptr, const char *two)
{
	return lexer->end - ptr >= 2 && ptr[0] == two[0] && ptr[1] == two[1];
}

/* End of the nested comment at ptr, or NULL. */
static const char *comment_end(const struct mg_lexer *lexer, const char *ptr)
{
	size_t depth = 0;

	do {
		if (starts(lexer, ptr, "/*")) {
			depth++;
			ptr += 2;
		} else if (starts(lexer, ptr, "*/")) {
			depth--;
			ptr += 2;
		} else if (ptr == lexer->end) {
			return NULL;
		} else {
			ptr++;
		}
	} while (depth);
	return ptr;
}

/* End behind the closing quote of a text that opens before ptr; doubled quotes stay inside. */
static const char *quote_end(const struct mg_lexer *lexer, const char *ptr, char quote,
                             bool escapes)
{
	for (; ptr < lexer->end; ptr++) {
		if (escapes && *ptr == '\\' && ptr + 1 < lexer->end) {
			ptr++;
		} else if (*ptr == quote) {
			if (ptr + 1 == lexer->end || ptr[1] != quote) {
				return ptr + 1;
			}
			ptr++;
		}
	}
	return NULL;
}

/* End of the name that starts at ptr; blanks of Unicode end it. */
static const char *ident_end(const struct mg_lexer *lexer, const char *ptr)
{
	while (ptr < lexer->end && is_ident((unsigned char)*ptr) && !blank_length(ptr, lexer->end)) {
		ptr++;
	}
	return ptr;
}

static const char *number_end(const struct mg_lexer *lexer, const char *ptr)
{
	for (; ptr < lexer->end; ptr++) {
		unsigned char c = (unsigned char)*ptr;
		bool sign = (c == '+' || c == '-') && (ptr[-1] == 'e' || ptr[-1] == 'E') &&
		            ptr + 1 < lexer->end && is_digit((unsigned char)ptr[1]);

		if (!sign && c != '.' && c != '$' && !(c < 0x80 && is_ident(c))) {
			break;
		}
	}
	return ptr;
}

/* $tag$...$tag$ at ptr: its end; ptr itself when no quote opens there; NULL when it is not closed.
 */
static const char *dollar_end(const struct mg_lexer *lexer, const char *ptr)
{
	const char *tag = ptr + 1;

	if (tag < lexer->end && is_ident_start((unsigned char)*tag)) {
		while (tag < lexer->end && *tag != '$' && is_ident((unsigned char)*tag)) {
			tag++;
		}
	}
	if (tag == lexer->end || *tag != '$') {
		return ptr;
	}
	size_t len = (size_t)(tag + 1 - ptr);
	const char *close = memmem(tag + 1, (size_t)(lexer->end - tag - 1), ptr, len);

	return close ? close + len : NULL;
}

static struct mg_token token_to(struct mg_lexer *lexer, enum mg_token_kind kind, const char *end)
{
	struct mg_token token = { kind, { lexer->ptr, 0 } };

	if (!end) {
		token.kind = MG_T_BAD;
		end = lexer->end;
	}
	token.text.len = (size_t)(end - lexer->ptr);
	lexer->ptr = end;
	return token;
}

static struct mg_token param(struct mg_lexer *lexer)
{
	const char *ptr = lexer->ptr + 1;

	if (ptr < lexer->end && *ptr == '"' && *lexer->ptr == '$') {
		return token_to(lexer, MG_T_PARAM, quote_end(lexer, ptr + 1, '"', false));
	}
	/* "?" takes digits alone: ?ELSE is a parameter and a word. */
	while (*lexer->ptr == '?' && ptr < lexer->end && *ptr >= '0' && *ptr <= '9') {
		ptr++;
	}
	if (*lexer->ptr == '?' && (ptr == lexer->end || *ptr != '$')) {
		return token_to(lexer, MG_T_PARAM, ptr);
	}
	/* A "$" right behind opens no quote, so it belongs here. */
	while (ptr < lexer->end && is_ident((unsigned char)*ptr) && !blank_length(ptr, lexer->end)) {
		ptr++;
	}
	return token_to(lexer, MG_T_PARAM, ptr);
}

static struct mg_token operator_token(struct mg_lexer *lexer)
{
	const char *ptr = lexer->ptr;

	while (ptr < lexer->end && is_operator((unsigned char)*ptr) && !starts(lexer, ptr, "--") &&
	       !starts(lexer, ptr, "/*")) {
		ptr++;
	}
	return token_to(lexer, MG_T_OPERATOR, ptr == lexer->ptr ? ptr + 1 : ptr);
}

/* False when a comment is not closed. */
static bool skip_blanks(struct mg_lexer *lexer)
{
	for (;;) {
		size_t blank = blank_length(lexer->ptr, lexer->end);

		if (blank) {
			lexer->ptr += blank;
		} else if (starts(lexer, lexer->ptr, "--")) {
			while (lexer->ptr < lexer->end && *lexer->ptr != '\n' && *lexer->ptr != '\r') {
				lexer->ptr++;
			}
		} else if (starts(lexer, lexer->ptr, "/*")) {
			const char *end = comment_end(lexer, lexer->ptr);

			if (!end) {
				return false;
			}
			lexer->ptr = end;
		} else {
			return true;
		}
	}
}

void mg_lex_init(struct mg_lexer *lexer, struct mg_str sql)
{
	lexer->ptr = sql.ptr ? sql.ptr : "";
	lexer->end = lexer->ptr + sql.len;
}

struct mg_token mg_lex_next(struct mg_lexer *lexer)
{
	if (!skip_blanks(lexer)) {
		return token_to(lexer, MG_T_BAD, NULL);
	}
	if (lexer->ptr == lexer->end) {
		return token_to(lexer, MG_T_END, lexer->end);
	}
	unsigned char c = (unsigned char)*lexer->ptr;

	if (c == '\'') {
		return token_to(lexer, MG_T_STRING, quote_end(lexer, lexer->ptr + 1, '\'', false));
	}
	if (c == '"') {
		return token_to(lexer, MG_T_QUOTED, quote_end(lexer, lexer->ptr + 1, '"', false));
	}
	if ((c == 'e' || c == 'E') && lexer->ptr + 1 < lexer->end && lexer->ptr[1] == '\'') {
		return token_to(lexer, MG_T_STRING, quote_end(lexer, lexer->ptr + 2, '\'', true));
	}
	if (is_ident_start(c)) {
		return token_to(lexer, MG_T_WORD, ident_end(lexer, lexer->ptr));
	}
	if (is_digit(c) ||
	    (c == '.' && lexer->ptr + 1 < lexer->end && is_digit((unsigned char)lexer->ptr[1]))) {
		return token_to(lexer, MG_T_NUMBER, number_end(lexer, lexer->ptr + 1));
	}
	if (c == '$') {
		const char *end = dollar_end(lexer, lexer->ptr);

		return end == lexer->ptr ? param(lexer) : token_to(lexer, MG_T_STRING, end);
	}
	if (c == '?') {
		return param(lexer);
	}
	return operator_token(lexer);
}
