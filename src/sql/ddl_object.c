/*
 * ddl_object.c - CREATE and DROP of macros, types and sequences, as far as we read them.
 *
 * Their texts are DuckDB's to read.  Of a macro the wall wants to see every body and every default
 * before anything is bound, so they are cut out here:
 *
 *     f(a, b := 1) AS a + b, (a) AS a        f(n) AS TABLE SELECT * FROM range(n)
 *
 * An expression has no comma outside of parentheses, and a table macro in DuckDB 1.5 has one body.
 * What DuckDB has made of it is looked at once more (exec/define_object.c).
 */
#include "catalog/catalog.h"
#include "sql/ddl_int.h"

#include <string.h>

#define BODIES_MAX 1000

bool mg_ddl__take_object(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	bool create = ddl->verb == MG_DDL_CREATE;

	ddl->kind = MG_DDL_OBJECT;
	if (mg_cursor_take(cursor, "macro") || mg_cursor_take(cursor, "function")) {
		bool table = !create && mg_cursor_take(cursor, "table");

		ddl->object = table ? MG_OBJECT_TABLE_MACRO : MG_OBJECT_MACRO;
		ddl->tag = create ? "CREATE MACRO" : "DROP MACRO";
		return true;
	}
	if (mg_cursor_take(cursor, "type")) {
		ddl->object = MG_OBJECT_TYPE;
		ddl->tag = create ? "CREATE TYPE" : "DROP TYPE";
		return true;
	}
	if (mg_cursor_take(cursor, "sequence")) {
		ddl->object = MG_OBJECT_SEQUENCE;
		ddl->tag = create ? "CREATE SEQUENCE" : "DROP SEQUENCE";
		return true;
	}
	return false;
}

static int add_body(struct mg_cursor *cursor, struct mg_ddl *ddl, struct mg_str text, bool query)
{
	if (ddl->body_count == BODIES_MAX) {
		return mg_error_set(cursor->err, MG_E_LIMIT, "a macro has at most %d bodies and defaults",
		                    BODIES_MAX);
	}
	if (!text.len) {
		return mg_cursor_expected(cursor, "the macro's body");
	}
	if (!ddl->bodies) {
		ddl->bodies = mg_arena_new_array(cursor->arena, const char *, BODIES_MAX);
	}
	ddl->bodies[ddl->body_count++] =
		mg_arena_format(cursor->arena, query ? "%.*s" : "SELECT (%.*s\n)", MG_STR_ARG(text));
	return 0;
}

/* Up to a comma, or the end, or the parenthesis that closes what is around it. */
static int skip_expression(struct mg_cursor *cursor, struct mg_str *out)
{
	const char *start = cursor->token.text.ptr, *end = start;

	while (!mg_token_is_end(cursor->token) && !mg_token_is_sign(cursor->token, ',') &&
	       !mg_token_is_sign(cursor->token, ')')) {
		bool opens = mg_token_is_sign(cursor->token, '(') || mg_token_is_sign(cursor->token, '[') ||
		             mg_token_is_sign(cursor->token, '{');

		if (opens && mg_token_is_sign(cursor->token, '(')) {
			int code = mg_cursor_skip_parens(cursor);

			if (code) {
				return code;
			}
		} else if (opens) {
			unsigned depth = 0;

			do {
				depth += mg_token_is_sign(cursor->token, '[') ||
				         mg_token_is_sign(cursor->token, '{');
				depth -= mg_token_is_sign(cursor->token, ']') ||
				         mg_token_is_sign(cursor->token, '}');
				mg_cursor_next(cursor);
			} while (depth && !mg_token_is_end(cursor->token));
		} else {
			mg_cursor_next(cursor);
		}
		end = cursor->end;
	}
	*out = mg_cursor_between(start, end);
	return 0;
}

/* (a, b INTEGER, c := 1) */
static int parse_parameters(struct mg_cursor *cursor, struct mg_str *defaults, size_t *count)
{
	if (!mg_cursor_take_sign(cursor, '(')) {
		return mg_cursor_expected(cursor, "the macro's parameters in parentheses");
	}
	while (!mg_cursor_take_sign(cursor, ')')) {
		struct mg_str text;
		int code = skip_expression(cursor, &text);

		if (code || mg_token_is_end(cursor->token)) {
			return code ? code : mg_cursor_expected(cursor, "\")\"");
		}
		const char *from = memmem(text.ptr, text.len, ":=", 2);

		from = from ? from : memmem(text.ptr, text.len, "=>", 2);
		if (from && *count < BODIES_MAX) {
			defaults[(*count)++] = mg_cursor_between(from + 2, text.ptr + text.len);
		}
		(void)mg_cursor_take_sign(cursor, ',');
	}
	return 0;
}

static int parse_macro(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	struct mg_str *defaults = mg_arena_new_array(cursor->arena, struct mg_str, BODIES_MAX);
	size_t count = 0;
	int code;

	do {
		struct mg_str body;

		code = parse_parameters(cursor, defaults, &count);
		if (!code && !mg_cursor_take(cursor, "as")) {
			code = mg_cursor_expected(cursor, "AS");
		}
		if (!code && mg_cursor_take(cursor, "table")) {
			const char *start = cursor->token.text.ptr;

			ddl->object = MG_OBJECT_TABLE_MACRO;
			while (!mg_token_is_end(cursor->token)) {
				mg_cursor_next(cursor);
			}
			code = add_body(cursor, ddl, mg_cursor_between(start, cursor->end), true);
		} else if (!code) {
			code = skip_expression(cursor, &body);
			code = code ? code : add_body(cursor, ddl, body, false);
		}
	} while (!code && mg_cursor_take_sign(cursor, ','));
	for (size_t i = 0; !code && i < count; i++) {
		code = add_body(cursor, ddl, defaults[i], false);
		ddl->default_count++;
	}
	return code || mg_token_is_end(cursor->token)
	           ? code
	           : mg_cursor_expected(cursor, "the end of the statement");
}

/* What may stand in a type is names, numbers and labels.  A query, wherever the engine would take
 * one, would be run as it stands, here and on every node, past the wall. */
static int check_labels(struct mg_cursor *cursor)
{
	do {
		mg_cursor_next(cursor);
	} while (cursor->token.kind == MG_T_STRING &&
	         (mg_cursor_next(cursor), mg_token_is_sign(cursor->token, ',')));
	if (mg_token_is_sign(cursor->token, ')')) {
		return 0;
	}
	mg_error_set(cursor->err, MG_E_UNSUPPORTED, "an ENUM has labels that are written as strings");
	mg_error_hint(cursor->err, "CREATE TYPE ... AS ENUM ('a', 'b'), or ENUM (SELECT ...) alone.");
	return MG_E_UNSUPPORTED;
}

static bool is_one_of(struct mg_token token, const char *const *words, size_t count)
{
	bool is = false;

	for (size_t i = 0; i < count && !is; i++) {
		is = mg_token_is(token, words[i]);
	}
	return is;
}

static bool begins_select(const struct mg_cursor *cursor)
{
	static const char *const words[] = { "select", "from", "values", "table" };
	struct mg_cursor next = *cursor;

	mg_cursor_next(&next);
	return is_one_of(cursor->token, words, sizeof words / sizeof *words) ||
	       (mg_token_is(cursor->token, "with") && !mg_token_is(next.token, "time"));
}

static bool begins_query(const struct mg_cursor *cursor)
{
	static const char *const words[] = { "pivot",   "unpivot",   "show",    "desc", "describe",
		                                 "explain", "summarize", "execute", "call", "pragma" };

	return begins_select(cursor) ||
	       is_one_of(cursor->token, words, sizeof words / sizeof *words);
}

static int check_type(struct mg_cursor cursor)
{
	int code = 0;

	while (!code && !mg_token_is_end(cursor.token)) {
		bool labels = mg_token_is(cursor.token, "enum");

		if (begins_query(&cursor)) {
			mg_error_set(cursor.err, MG_E_UNSUPPORTED, "\"%.*s\" has no place in a type",
			             MG_STR_ARG(cursor.token.text));
			mg_error_hint(cursor.err, "A field of that name goes into double quotes.");
			return MG_E_UNSUPPORTED;
		}
		mg_cursor_next(&cursor);
		if (labels && mg_token_is_sign(cursor.token, '(')) {
			code = check_labels(&cursor);
		}
	}
	return code;
}

/* AS ENUM (SELECT ...), and nothing behind it: the query is run once, as one of the client's, and
 * its labels take its place. */
static bool take_labels_query(struct mg_cursor cursor, struct mg_ddl *ddl)
{
	if (!mg_cursor_take_two(&cursor, "as", "enum") || !mg_token_is_sign(cursor.token, '(')) {
		return false;
	}
	struct mg_cursor inside = cursor;
	const char *start = cursor.token.text.ptr + 1;

	mg_cursor_next(&inside);
	if (!begins_select(&inside) || mg_cursor_skip_parens(&cursor) ||
	    !mg_token_is_end(cursor.token)) {
		return false;
	}
	ddl->query = mg_cursor_between(start, cursor.end - 1);
	ddl->definition = (struct mg_str){ 0 };
	return true;
}

int mg_ddl__parse_object(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	bool macro = mg_text_eq(ddl->object, MG_OBJECT_MACRO);
	int code = mg_cursor_take_path(cursor, macro ? "the macro's name" : "the name", &ddl->schema,
	                               &ddl->name);
	struct mg_cursor rest = *cursor;
	const char *start = cursor->token.text.ptr;

	while (!mg_token_is_end(rest.token)) {
		mg_cursor_next(&rest);
	}
	ddl->definition = code ? (struct mg_str){ 0 } : mg_cursor_between(start, rest.end);
	if (!code && !ddl->definition.len && !mg_text_eq(ddl->object, MG_OBJECT_SEQUENCE)) {
		code = mg_cursor_expected(cursor, macro ? "the macro's parameters" : "AS");
	}
	if (!code && mg_text_eq(ddl->object, MG_OBJECT_TYPE) && !take_labels_query(*cursor, ddl)) {
		code = check_type(*cursor);
	}
	return code || !macro ? code : parse_macro(cursor, ddl);
}
