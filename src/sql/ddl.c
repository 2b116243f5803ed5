/* ddl.c - see ddl.h. */
#include "sql/ddl_int.h"

#define NAMES_MAX 100000

static int not_yet(struct mg_cursor *cursor, const char *what, const char *hint)
{
	mg_error_set(cursor->err, MG_E_UNSUPPORTED, "%s is not supported yet", what);
	mg_error_hint(cursor->err, "%s", hint);
	return MG_E_UNSUPPORTED;
}

/* ---- lists of names ---- */

int mg_ddl__take_names(struct mg_cursor *cursor, const char *what, const char ***out, size_t *count)
{
	size_t cap = 0;

	*out = NULL;
	*count = 0;
	if (!mg_cursor_take_sign(cursor, '(')) {
		return mg_cursor_expected(cursor, "\"(\"");
	}
	do {
		if (*count == cap) {
			size_t more = cap ? 2 * cap : 8;
			const char **names = mg_arena_new_array(cursor->arena, const char *, more);

			for (size_t i = 0; i < *count; i++) {
				names[i] = (*out)[i];
			}
			*out = names;
			cap = more;
		}
		int code = mg_cursor_take_name(cursor, what, &(*out)[*count]);

		if (code) {
			return code;
		}
		(*count)++;
	} while (*count < NAMES_MAX && mg_cursor_take_sign(cursor, ','));
	return mg_cursor_take_sign(cursor, ')') ? 0 : mg_cursor_expected(cursor, "\")\"");
}

/* ---- CREATE TABLE ---- */

/* A list of names in front of AS, and not of definitions. */
static bool names_only(const struct mg_cursor *cursor)
{
	struct mg_cursor ahead = *cursor;
	struct mg_error ignored;

	ahead.err = &ignored;
	if (mg_cursor_skip_parens(&ahead)) {
		return false;
	}
	if (mg_cursor_take_two(&ahead, "partitioned", "by") && mg_cursor_skip_parens(&ahead)) {
		return false;
	}
	return mg_token_is(ahead.token, "as");
}

static int take_partitioned(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	if (!mg_cursor_take_two(cursor, "partitioned", "by")) {
		return 0;
	}
	if (ddl->key_count) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "PARTITIONED BY stands twice");
	}
	return mg_ddl__take_names(cursor, "a column's name", &ddl->keys, &ddl->key_count);
}

static int take_query(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	const char *start = cursor->token.text.ptr, *end = start;

	while (!mg_token_is_end(cursor->token)) {
		struct mg_cursor ahead = *cursor;

		if (mg_cursor_take(&ahead, "with") && mg_cursor_take_two(&ahead, "no", "data") &&
		    mg_token_is_end(ahead.token)) {
			ddl->no_data = true;
			break;
		}
		mg_cursor_next(cursor);
		end = cursor->end;
	}
	ddl->query = mg_cursor_between(start, end);
	return ddl->query.len ? 0 : mg_cursor_expected(cursor, "the query");
}

static int parse_table(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	int code = mg_cursor_take_path(cursor, "the table's name", &ddl->schema, &ddl->name);

	if (!code && mg_token_is_sign(cursor->token, '(')) {
		if (names_only(cursor)) {
			code = mg_ddl__take_names(cursor, "a column's name", &ddl->names, &ddl->name_count);
		} else {
			const char *start = cursor->token.text.ptr + 1;

			code = mg_cursor_skip_parens(cursor);
			ddl->columns = mg_cursor_between(start, code ? start : cursor->end - 1);
			if (!code && !ddl->columns.len) {
				code = mg_error_set(cursor->err, MG_E_SYNTAX, "a table must have a column");
			}
		}
	}
	code = code ? code : take_partitioned(cursor, ddl);
	if (!code && mg_cursor_take(cursor, "as")) {
		return ddl->columns.len ? mg_cursor_expected(cursor, "the end of the statement")
		                        : take_query(cursor, ddl);
	}
	if (!code && !ddl->columns.len) {
		code = mg_cursor_expected(cursor, "a list of columns, or AS and a query,");
	}
	return code || mg_token_is_end(cursor->token)
	           ? code
	           : mg_cursor_expected(cursor, "the end of the statement");
}

/* ---- CREATE VIEW, CREATE SCHEMA ---- */

static int parse_view(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	int code = mg_cursor_take_path(cursor, "the view's name", &ddl->schema, &ddl->name);

	if (!code && mg_token_is_sign(cursor->token, '(')) {
		code = mg_ddl__take_names(cursor, "a column's name", &ddl->names, &ddl->name_count);
	}
	if (!code && !mg_cursor_take(cursor, "as")) {
		code = mg_cursor_expected(cursor, "AS");
	}
	return code ? code : take_query(cursor, ddl);
}

/* An index that is kept in the catalog alone would promise what it does not do. */
static int refuse_index(struct mg_cursor *cursor)
{
	bool unique = mg_token_is(cursor->token, "unique");

	mg_error_set(cursor->err, MG_E_UNSUPPORTED,
	             "CREATE %sINDEX is not supported: there are no "
	             "indexes",
	             unique ? "UNIQUE " : "");
	mg_error_detail(cursor->err, "%s",
	                unique ? "The table would take rows with equal keys as before."
	                       : "Rows are found by the key of PARTITIONED BY and by the statistics of "
	                         "their row groups; an index would lie in the way of every write.");
	mg_error_hint(cursor->err, "%s",
	              unique
	                  ? "Declare UNIQUE or PRIMARY KEY in CREATE TABLE, or ALTER TABLE ... ADD "
	                    "PRIMARY KEY: each write is checked against it."
	                  : "Leave it out; for look-ups by a column: ALTER TABLE ... SET PARTITIONED "
	                    "BY (that column).");
	return MG_E_UNSUPPORTED;
}

static int parse_create(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	static const char temp_hint[] = "Use WITH for a result that one statement needs.";

	ddl->or_replace = mg_cursor_take_two(cursor, "or", "replace");
	if (mg_token_is(cursor->token, "temp") || mg_token_is(cursor->token, "temporary")) {
		return not_yet(cursor, "CREATE TEMP", temp_hint);
	}
	if (mg_cursor_take(cursor, "table")) {
		ddl->kind = MG_DDL_TABLE;
		ddl->tag = "CREATE TABLE";
	} else if (mg_cursor_take(cursor, "view")) {
		ddl->kind = MG_DDL_VIEW;
		ddl->tag = "CREATE VIEW";
	} else if (mg_cursor_take(cursor, "schema")) {
		ddl->kind = MG_DDL_SCHEMA;
		ddl->tag = "CREATE SCHEMA";
	} else if (!mg_ddl__take_object(cursor, ddl)) {
		if (mg_token_is(cursor->token, "index") || mg_token_is(cursor->token, "unique")) {
			return refuse_index(cursor);
		}
		return not_yet(cursor, "This CREATE",
		               "There are CREATE TABLE, VIEW, SCHEMA, MACRO, TYPE and SEQUENCE.");
	}
	ddl->if_not_exists = mg_cursor_take(cursor, "if");
	if (ddl->if_not_exists && !mg_cursor_take_two(cursor, "not", "exists")) {
		return mg_cursor_expected(cursor, "NOT EXISTS");
	}
	if (ddl->kind == MG_DDL_SCHEMA) {
		return mg_cursor_take_name(cursor, "the schema's name", &ddl->name);
	}
	return ddl->kind == MG_DDL_OBJECT  ? mg_ddl__parse_object(cursor, ddl)
	       : ddl->kind == MG_DDL_TABLE ? parse_table(cursor, ddl)
	                                   : parse_view(cursor, ddl);
}

/* ---- DROP ---- */

static int parse_drop(struct mg_cursor *cursor, struct mg_ddl *ddl)
{
	if (mg_cursor_take(cursor, "table")) {
		ddl->kind = MG_DDL_TABLE;
		ddl->tag = "DROP TABLE";
	} else if (mg_cursor_take(cursor, "view")) {
		ddl->kind = MG_DDL_VIEW;
		ddl->tag = "DROP VIEW";
	} else if (mg_cursor_take(cursor, "schema")) {
		ddl->kind = MG_DDL_SCHEMA;
		ddl->tag = "DROP SCHEMA";
	} else if (mg_cursor_take(cursor, "index")) {
		ddl->kind = MG_DDL_INDEX;
		ddl->tag = "DROP INDEX";
	} else if (!mg_ddl__take_object(cursor, ddl)) {
		return not_yet(cursor, "This DROP",
		               "There are DROP TABLE, VIEW, SCHEMA, MACRO, TYPE and SEQUENCE.");
	}
	ddl->if_exists = mg_cursor_take_two(cursor, "if", "exists");
	int code = ddl->kind == MG_DDL_SCHEMA
	               ? mg_cursor_take_name(cursor, "the schema's name", &ddl->name)
	               : mg_cursor_take_path(cursor, "the name", &ddl->schema, &ddl->name);

	ddl->cascade = !code && mg_cursor_take(cursor, "cascade");
	(void)(!code && mg_cursor_take(cursor, "restrict"));
	if (!code && mg_token_is_sign(cursor->token, ',')) {
		return not_yet(cursor, "DROP of several objects in one statement", "Drop one by one.");
	}
	return code || mg_token_is_end(cursor->token)
	           ? code
	           : mg_cursor_expected(cursor, "the end of the statement");
}

int mg_ddl_parse(struct mg_arena *arena, struct mg_str text, struct mg_ddl *out,
                 struct mg_error *err)
{
	struct mg_cursor cursor;

	*out = (struct mg_ddl){ .schema = "", .name = "", .column = "", .to = "" };
	mg_cursor_init(&cursor, arena, text, err);
	if (mg_cursor_take(&cursor, "create")) {
		out->verb = MG_DDL_CREATE;
		return parse_create(&cursor, out);
	}
	if (mg_cursor_take(&cursor, "drop")) {
		out->verb = MG_DDL_DROP;
		return parse_drop(&cursor, out);
	}
	if (mg_cursor_take(&cursor, "alter")) {
		out->verb = MG_DDL_ALTER;
		return mg_ddl__parse_alter(&cursor, out);
	}
	if (mg_cursor_take(&cursor, "comment")) {
		out->verb = MG_DDL_COMMENT;
		return mg_ddl__parse_comment(&cursor, out);
	}
	return not_yet(&cursor, "This statement", "There are CREATE, ALTER, DROP and COMMENT ON.");
}
