/*
 * ddl_alter.c - the head of ALTER: what it is about, and what becomes of the rows.
 *
 * What the action means, and what is wrong with it, DuckDB says; here stands only what we must know
 * to carry it out.  An action that is not known counts as one of the definition alone.
 */
#include "sql/ddl_int.h"

static int at_end(struct mg_cursor *cursor)
{
	return mg_token_is_end(cursor->token) ? 0
	                                      : mg_cursor_expected(cursor, "the end of the statement");
}

/* name[.field ...]; *nested: a part of the column. */
static int take_column(struct mg_cursor *cursor, struct mg_ddl *ddl, bool *nested)
{
	const char *field;
	int code = mg_cursor_take_name(cursor, "the column's name", &ddl->column);

	*nested = false;
	while (!code && mg_cursor_take_sign(cursor, '.')) {
		*nested = true;
		code = mg_cursor_take_name(cursor, "the field's name", &field);
	}
	return code;
}

static int parse_add(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	static const char *const constraints[] = { "constraint", "primary", "unique", "check",
		                                       "foreign" };
	bool nested;

	for (size_t i = 0; i < sizeof constraints / sizeof *constraints; i++) {
		if (mg_token_is(cursor->token, constraints[i])) {
			return 0;
		}
	}
	(void)mg_cursor_take(cursor, "column");
	if (mg_cursor_take(cursor, "if") && !mg_cursor_take_two(cursor, "not", "exists")) {
		return mg_cursor_expected(cursor, "NOT EXISTS");
	}
	ddl->alter = MG_ALTER_ROWS;
	return take_column(cursor, ddl, &nested);
}

static int parse_drop(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	bool nested;

	if (mg_token_is(cursor->token, "constraint")) {
		return 0;
	}
	(void)mg_cursor_take(cursor, "column");
	(void)mg_cursor_take_two(cursor, "if", "exists");
	ddl->alter = MG_ALTER_ROWS;
	int code = take_column(cursor, ddl, &nested);

	ddl->drops_column = !nested;
	return code;
}

static int parse_rename(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	bool nested = false;
	int code = 0;

	if (mg_token_is(cursor->token, "constraint")) {
		return 0;
	}
	ddl->alter = MG_ALTER_NAME;
	if (!mg_token_is(cursor->token, "to") || mg_token_is(mg_cursor_peek(cursor), "to")) {
		(void)mg_cursor_take(cursor, "column");
		code = take_column(cursor, ddl, &nested);
		ddl->alter = nested ? MG_ALTER_ROWS : MG_ALTER_COLUMN_NAME;
	}
	if (!code && !mg_cursor_take(cursor, "to")) {
		code = mg_cursor_expected(cursor, "TO");
	}
	code = code ? code : mg_cursor_take_name(cursor, "the new name", &ddl->to);
	return code ? code : at_end(cursor);
}

/* The type may hold parentheses and words, but no USING outside of them. */
static int parse_type(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	ddl->alter = MG_ALTER_ROWS;
	while (!mg_token_is_end(cursor->token) && !mg_token_is(cursor->token, "using")) {
		if (!mg_token_is_sign(cursor->token, '(')) {
			mg_cursor_next(cursor);
		} else if (mg_cursor_skip_parens(cursor)) {
			return MG_E_SYNTAX;
		}
	}
	if (mg_cursor_take(cursor, "using")) {
		const char *start = cursor->token.text.ptr;

		while (!mg_token_is_end(cursor->token)) {
			mg_cursor_next(cursor);
		}
		ddl->using_by = mg_cursor_between(start, cursor->end);
		return ddl->using_by.len ? 0 : mg_cursor_expected(cursor, "the expression");
	}
	return 0;
}

static int parse_column(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	bool nested;

	(void)mg_cursor_take(cursor, "column");
	int code = take_column(cursor, ddl, &nested);

	if (!code && mg_cursor_take(cursor, "set")) {
		(void)mg_cursor_take(cursor, "data");
	}
	if (!code && mg_cursor_take(cursor, "type")) {
		code = parse_type(cursor, ddl);
	}
	return code;
}

static int parse_table(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	const char *start = cursor->token.text.ptr;
	int code = 0;

	ddl->alter = MG_ALTER_DEFINITION;
	if (mg_cursor_take_two(cursor, "reset", "partitioned")) {
		ddl->alter = MG_ALTER_PARTITIONS;
		return mg_cursor_take(cursor, "by") ? at_end(cursor) : mg_cursor_expected(cursor, "BY");
	}
	if (mg_cursor_take_two(cursor, "set", "partitioned")) {
		ddl->alter = MG_ALTER_PARTITIONS;
		if (!mg_cursor_take(cursor, "by")) {
			return mg_cursor_expected(cursor, "BY");
		}
		code = mg_ddl__take_names(cursor, "a column's name", &ddl->keys, &ddl->key_count);
		return code ? code : at_end(cursor);
	}
	if (mg_cursor_take(cursor, "add")) {
		code = parse_add(cursor, ddl);
	} else if (mg_cursor_take(cursor, "drop")) {
		code = parse_drop(cursor, ddl);
	} else if (mg_cursor_take(cursor, "rename")) {
		code = parse_rename(cursor, ddl);
	} else if (mg_cursor_take(cursor, "alter")) {
		code = parse_column(cursor, ddl);
	} else if (mg_token_is_end(cursor->token)) {
		code = mg_cursor_expected(cursor, "ADD, DROP, RENAME, ALTER, SET or RESET");
	}
	while (!code && !mg_token_is_end(cursor->token)) {
		mg_cursor_next(cursor);
	}
	ddl->action = mg_cursor_between(start, cursor->end);
	return code;
}

static int parse_view(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	ddl->alter = MG_ALTER_NAME;
	if (!mg_cursor_take_two(cursor, "rename", "to")) {
		mg_error_set(cursor->err, MG_E_UNSUPPORTED, "of a view only the name can be altered");
		mg_error_hint(cursor->err, "ALTER VIEW ... RENAME TO, or CREATE OR REPLACE VIEW.");
		return MG_E_UNSUPPORTED;
	}
	int code = mg_cursor_take_name(cursor, "the new name", &ddl->to);

	return code ? code : at_end(cursor);
}

int mg_ddl__parse_alter(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	bool view = mg_cursor_take(cursor, "view");

	ddl->kind = view ? MG_DDL_VIEW : MG_DDL_TABLE;
	ddl->tag = view ? "ALTER VIEW" : "ALTER TABLE";
	if (!view && !mg_cursor_take(cursor, "table")) {
		mg_error_set(cursor->err, MG_E_UNSUPPORTED, "this ALTER is not supported");
		mg_error_hint(cursor->err, "There are ALTER TABLE and ALTER VIEW.");
		return MG_E_UNSUPPORTED;
	}
	ddl->if_exists = mg_cursor_take_two(cursor, "if", "exists");
	(void)(!view && mg_token_is(cursor->token, "only") &&
	       !mg_token_is_sign(mg_cursor_peek(cursor), '.') && mg_cursor_take(cursor, "only"));
	int code = mg_cursor_take_path(cursor, "the name", &ddl->schema, &ddl->name);

	return code ? code : view ? parse_view(cursor, ddl) : parse_table(cursor, ddl);
}
