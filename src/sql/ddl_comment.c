/*
 * ddl_comment.c - COMMENT ON TABLE t, VIEW v, COLUMN t.c IS 'text' or NULL.
 *
 * The text stays as it is written, for DuckDB to read: all that stands there is one literal.
 */
#include "sql/ddl_int.h"

enum { PARTS_MAX = 4 }; /* catalog . schema . table . column */

static int refuse(struct mg_cursor *cursor)
{
	mg_error_set(cursor->err, MG_E_UNSUPPORTED, "COMMENT ON %.*s is not supported",
	             MG_STR_ARG(cursor->token.text));
	mg_error_hint(cursor->err, "There are COMMENT ON TABLE, VIEW and COLUMN.");
	return MG_E_UNSUPPORTED;
}

/* [[catalog .] schema .] table . column */
static int take_column(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	const char *parts[PARTS_MAX];
	size_t count = 0;
	int code = 0;

	do {
		code = count == PARTS_MAX
		           ? mg_error_set(cursor->err, MG_E_SYNTAX, "the column's name has too many parts")
		           : mg_cursor_take_name(cursor, "the column's name", &parts[count++]);
	} while (!code && mg_cursor_take_sign(cursor, '.'));
	if (code) {
		return code;
	}
	if (count < 2) {
		return mg_cursor_expected(cursor, "\".\" and the column behind the table's name");
	}
	if (count == PARTS_MAX && !mg_text_eq_nocase(parts[0], "merganser")) {
		return mg_error_set(cursor->err, MG_E_BIND, "there is no database \"%s\" here", parts[0]);
	}
	ddl->column = parts[count - 1];
	ddl->name = parts[count - 2];
	ddl->schema = count > 2 ? parts[count - 3] : "";
	return 0;
}

int mg_ddl__parse_comment(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	int code = 0;

	ddl->tag = "COMMENT";
	if (!mg_cursor_take(cursor, "on")) {
		return mg_cursor_expected(cursor, "ON");
	}
	if (mg_cursor_take(cursor, "column")) {
		code = take_column(cursor, ddl);
	} else if (mg_cursor_take(cursor, "table") || mg_cursor_take(cursor, "view")) {
		code = mg_cursor_take_path(cursor, "the name", &ddl->schema, &ddl->name);
	} else {
		return refuse(cursor);
	}
	if (!code && !mg_cursor_take(cursor, "is")) {
		code = mg_cursor_expected(cursor, "IS");
	}
	const char *start = cursor->token.text.ptr;

	if (!code && cursor->token.kind != MG_T_STRING && !mg_token_is(cursor->token, "null")) {
		code = mg_cursor_expected(cursor, "a text in quotes, or NULL,");
	}
	if (!code) {
		mg_cursor_next(cursor);
		ddl->comment = mg_cursor_between(start, cursor->end);
	}
	return code || mg_token_is_end(cursor->token)
	           ? code
	           : mg_cursor_expected(cursor, "the end of the statement");
}
