/*
 * copy_to.c - see copy_to.h.
 *
 * Rule: an option stands on a list or is refused, and its value is a literal; none of the list
 * names a file.
 */
#include "sql/copy_to.h"

#include "sql/dml_int.h"

#include <string.h>

static const struct mg_dml_known known[] = {
	{ "array", "array", "j" },
	{ "compression", "compression", "cjp" },
	{ "compression_level", "compression_level", "p" },
	{ "date_format", "dateformat", "cj" },
	{ "dateformat", "dateformat", "cj" },
	{ "delim", "delim", "c" },
	{ "delimiter", "delim", "c" },
	{ "escape", "escape", "c" },
	{ "force_quote", "force_quote", "c" },
	{ "header", "header", "c" },
	{ "null", "nullstr", "c" },
	{ "nullstr", "nullstr", "c" },
	{ "parquet_version", "parquet_version", "p" },
	{ "quote", "quote", "c" },
	{ "row_group_size", "row_group_size", "p" },
	{ "sep", "delim", "c" },
	{ "timestamp_format", "timestampformat", "cj" },
	{ "timestampformat", "timestampformat", "cj" },
};

/* A table is read by a statement of ours. */
static struct mg_str query_of(struct mg_arena *arena, const struct mg_dml *dml)
{
	struct mg_sb sql = { 0 };

	for (size_t i = 0; i < dml->column_count; i++) {
		mg_sb_add(&sql, i ? ", " : "SELECT ");
		mg_sb_add_ident(&sql, dml->columns[i]);
	}
	mg_sb_add(&sql, dml->column_count ? " FROM " : "FROM ");
	if (dml->catalog[0]) {
		mg_sb_add_ident(&sql, dml->catalog);
		mg_sb_add_char(&sql, '.');
	}
	if (dml->schema[0]) {
		mg_sb_add_ident(&sql, dml->schema);
		mg_sb_add_char(&sql, '.');
	}
	mg_sb_add_ident(&sql, dml->table);
	struct mg_str text = mg_str(mg_arena_strdup(arena, mg_sb_text(&sql)));

	mg_sb_fini(&sql);
	return text;
}

/* (query), which must read. */
static int take_query(struct mg_cursor *cursor, struct mg_str *out)
{
	const char *from = cursor->token.text.ptr + 1;
	struct mg_statement *statements = NULL;
	size_t count = 0;
	int code = mg_cursor_skip_parens(cursor);

	if (code) {
		return code;
	}
	*out = mg_cursor_between(from, cursor->end - 1);
	code = mg_statement_split(cursor->arena, *out, &statements, &count, cursor->err);
	if (!code && (count != 1 || statements[0].kind == MG_S_EMPTY)) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "COPY wants one query in its parentheses");
	}
	if (!code && statements[0].kind != MG_S_SELECT) {
		code = mg_error_set(cursor->err, MG_E_READ_ONLY, "COPY (%s ...) TO does not read",
		                    statements[0].verb);
		mg_error_hint(cursor->err, "Inside of the parentheses stands a SELECT.");
	}
	return code;
}

static int take_what(struct mg_cursor *cursor, struct mg_str *query)
{
	struct mg_dml dml = { .catalog = "", .schema = "", .table = "" };

	if (mg_token_is_sign(cursor->token, '(')) {
		return take_query(cursor, query);
	}
	int code = mg_dml__take_path(cursor, &dml);

	if (!code && mg_dml__is_column_list(cursor)) {
		code = mg_dml__take_columns(cursor, &dml.columns, &dml.column_count);
	}
	if (!code) {
		*query = query_of(cursor->arena, &dml);
	}
	return code;
}

/* A list of names is one of texts for us; DuckDB has it in parentheses. */
static void add_option(struct mg_sb *how, const struct mg_dml_option *option)
{
	size_t len = strlen(option->value);

	mg_sb_addf(how, ", %s ", option->name);
	if (*option->value == '[') {
		mg_sb_add_char(how, '(');
		mg_sb_add_len(how, option->value + 1, len - 2);
		mg_sb_add_char(how, ')');
	} else {
		mg_sb_add_len(how, option->value, len);
	}
}

static bool is_literal(const char *literal, const char *text)
{
	size_t len = strlen(text);

	return mg_text_eq_nocase(literal, text) || (strlen(literal) == len + 2 && *literal == '\'' &&
	                                            strncasecmp(literal + 1, text, len) == 0);
}

static bool is_true(const char *literal)
{
	return is_literal(literal, "true") || mg_text_eq(literal, "1");
}

static void note_option(const struct mg_dml_option *option, struct mg_copy_to *out)
{
	if (mg_text_eq(option->name, "header")) {
		out->header = is_true(option->value);
	} else if (mg_text_eq(option->name, "array")) {
		out->array = is_true(option->value);
	}
}

/* Bytes that are made on their way are not packed by DuckDB. */
static int check_packed(struct mg_cursor *cursor, const struct mg_dml *dml)
{
	for (size_t i = 0; i < dml->copy_option_count && !dml->copy_path; i++) {
		const struct mg_dml_option *option = &dml->copy_options[i];

		if (mg_text_eq(option->name, "compression") && !mg_text_eq(dml->copy_format, "parquet") &&
		    !is_literal(option->value, "none") && !is_literal(option->value, "uncompressed")) {
			int code = mg_error_set(cursor->err, MG_E_UNSUPPORTED,
			                        "COPY TO STDOUT does not compress %s", dml->copy_format);

			mg_error_hint(cursor->err, "Compress what comes, or take FORMAT parquet.");
			return code;
		}
	}
	return 0;
}

int mg_copy_to_parse(struct mg_arena *arena, struct mg_str text, struct mg_copy_to *out,
                     struct mg_error *err)
{
	struct mg_dml dml = { 0 };
	struct mg_cursor cursor;
	struct mg_sb how = { 0 };

	*out = (struct mg_copy_to){ .header = true, .how = "" };
	mg_cursor_init(&cursor, arena, text, err);
	mg_cursor_next(&cursor); /* COPY */
	int code = take_what(&cursor, &out->query);

	if (!code && !mg_cursor_take(&cursor, "to")) {
		code = mg_cursor_expected(&cursor, "TO");
	}
	code = code ? code : mg_dml__take_copy_end(&cursor, "STDOUT", &dml);
	code =
		code ? code
			 : mg_dml__take_copy_options(&cursor, known, sizeof known / sizeof *known, "TO", &dml);
	code = code ? code : check_packed(&cursor, &dml);
	if (code) {
		return code;
	}
	out->path = dml.copy_path;
	out->format = dml.copy_format;
	mg_sb_addf(&how, "FORMAT %s", out->format);
	for (size_t i = 0; i < dml.copy_option_count; i++) {
		add_option(&how, &dml.copy_options[i]);
		note_option(&dml.copy_options[i], out);
	}
	if (!mg_text_eq(out->format, "arrow")) {
		out->how = mg_arena_strdup(arena, mg_sb_text(&how));
	}
	mg_sb_fini(&how);
	return 0;
}
