/*
 * dml_copy.c - COPY ... FROM: the head, and the options that its reader may get; how options are
 * written is shared with COPY ... TO (copy_to.c).
 *
 *     COPY table [(columns)] FROM STDIN [[WITH] (FORMAT csv, HEADER, DELIMITER '|', ...)]
 *     COPY table [(columns)] FROM STDIN [[WITH] CSV HEADER DELIMITER AS '|' ...]
 *     COPY table [(columns)] FROM 'path' ...
 *
 * Rule: an option stands on a list or is refused.  None of the list names a file, so what the
 * client writes here reaches nothing but the bytes that it sends, or the one file that whoever
 * opens it grants (os/granted.h).
 */
#include "sql/dml_int.h"

#include <string.h>

#define OPTIONS_MAX 64

static const struct mg_dml_known known[] = {
	{ "all_varchar", "all_varchar", "c" },
	{ "auto_detect", "auto_detect", "cj" },
	{ "binary_as_string", "binary_as_string", "p" },
	{ "comment", "comment", "c" },
	{ "compression", "compression", "cj" },
	{ "date_format", "dateformat", "cj" },
	{ "dateformat", "dateformat", "cj" },
	{ "decimal_separator", "decimal_separator", "c" },
	{ "delim", "delim", "c" },
	{ "delimiter", "delim", "c" },
	{ "encoding", "encoding", "c" },
	{ "escape", "escape", "c" },
	{ "force_not_null", "force_not_null", "c" },
	{ "header", "header", "c" },
	{ "ignore_errors", "ignore_errors", "cj" },
	{ "max_line_size", "max_line_size", "c" },
	{ "maximum_object_size", "maximum_object_size", "j" },
	{ "new_line", "new_line", "c" },
	{ "null", "nullstr", "c" },
	{ "null_padding", "null_padding", "c" },
	{ "nullstr", "nullstr", "c" },
	{ "parallel", "parallel", "c" },
	{ "quote", "quote", "c" },
	{ "sample_size", "sample_size", "cj" },
	{ "sep", "delim", "c" },
	{ "skip", "skip", "c" },
	{ "strict_mode", "strict_mode", "c" },
	{ "thousands", "thousands", "c" },
	{ "timestamp_format", "timestampformat", "cj" },
	{ "timestampformat", "timestampformat", "cj" },
};

static const char *const formats[] = { "csv", "json", "parquet", "arrow" };

/* ---- values ---- */

/* A value as a literal of SQL: a string or number as it stands, a word as true, false or text. */
static int take_value(struct mg_cursor *cursor, struct mg_sb *out)
{
	struct mg_token token = cursor->token;

	if (token.kind == MG_T_STRING || token.kind == MG_T_NUMBER) {
		mg_sb_add_len(out, token.text.ptr, token.text.len);
		mg_cursor_next(cursor);
		return 0;
	}
	if (mg_token_is(token, "true") || mg_token_is(token, "on")) {
		mg_sb_add(out, "true");
	} else if (mg_token_is(token, "false") || mg_token_is(token, "off")) {
		mg_sb_add(out, "false");
	} else {
		const char *name = NULL;
		int code = mg_cursor_take_name(cursor, "a value", &name);

		if (!code) {
			mg_sb_add_literal(out, name, strlen(name));
		}
		return code;
	}
	mg_cursor_next(cursor);
	return 0;
}

static int take_list(struct mg_cursor *cursor, struct mg_sb *out)
{
	bool first = true;
	int code = 0;

	mg_cursor_next(cursor);
	mg_sb_add_char(out, '[');
	do {
		mg_sb_add(out, first ? "" : ", ");
		code = take_value(cursor, out);
		first = false;
	} while (!code && mg_cursor_take_sign(cursor, ','));
	mg_sb_add_char(out, ']');
	return code || mg_cursor_take_sign(cursor, ')') ? code : mg_cursor_expected(cursor, "\")\"");
}

/* ---- options ---- */

static int set_format(struct mg_cursor *cursor, struct mg_dml *out, const char *literal)
{
	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		char *quoted = mg_arena_format(cursor->arena, "'%s'", formats[i]);

		if (mg_text_eq_nocase(literal, quoted)) {
			out->copy_format = formats[i];
			return 0;
		}
	}
	int code = mg_error_set(cursor->err, MG_E_UNSUPPORTED, "COPY knows no format %s", literal);

	mg_error_hint(cursor->err, "There are csv, parquet, json and arrow.");
	return code;
}

static int add_option(struct mg_cursor *cursor, struct mg_dml *out, const char *name,
                      const char *literal)
{
	if (out->copy_option_count == OPTIONS_MAX) {
		return mg_error_set(cursor->err, MG_E_LIMIT, "COPY has more than %d options", OPTIONS_MAX);
	}
	out->copy_options[out->copy_option_count++] = (struct mg_dml_option){ name, literal };
	return 0;
}

static int take_option(struct mg_cursor *cursor, struct mg_dml *out)
{
	const char *name = NULL;
	struct mg_sb value = { 0 };
	int code = mg_cursor_take_name(cursor, "an option", &name);

	if (!code && mg_cursor_take_sign(cursor, '*')) {
		mg_sb_add(&value, MG_DML_ALL_COLUMNS);
	} else if (!code && mg_token_is_sign(cursor->token, '(')) {
		code = take_list(cursor, &value);
	} else if (!code && !mg_token_is_sign(cursor->token, ',') &&
	           !mg_token_is_sign(cursor->token, ')')) {
		code = take_value(cursor, &value);
	} else {
		mg_sb_add(&value, "true");
	}
	const char *literal = mg_arena_strdup(cursor->arena, mg_sb_text(&value));

	mg_sb_fini(&value);
	if (code) {
		return code;
	}
	if (mg_text_eq_nocase(name, "format")) {
		return set_format(cursor, out, literal);
	}
	return add_option(cursor, out, name, literal);
}

/* As PostgreSQL wrote them once: CSV HEADER DELIMITER AS '|'. */
static int take_bare_option(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const with_text[] = { "delimiter", "delim", "null", "quote", "escape" };
	const char *name = NULL;
	struct mg_sb value = { 0 };

	for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
		if (mg_cursor_take(cursor, formats[i])) {
			out->copy_format = formats[i];
			return 0;
		}
	}
	if (mg_cursor_take(cursor, "header")) {
		return add_option(cursor, out, "header", "true");
	}
	for (size_t i = 0; i < sizeof with_text / sizeof *with_text && !name; i++) {
		name = mg_cursor_take(cursor, with_text[i]) ? with_text[i] : NULL;
	}
	if (!name) {
		return mg_cursor_expected(cursor, "the end of the statement");
	}
	(void)mg_cursor_take(cursor, "as");
	int code = take_value(cursor, &value);

	code = code ? code
	            : add_option(cursor, out, name,
	                         mg_arena_strdup(cursor->arena, mg_sb_text(&value)));
	mg_sb_fini(&value);
	return code;
}

/* Under the names that the reader or writer has for them. */
static int check_options(struct mg_cursor *cursor, const struct mg_dml_known *list, size_t count,
                         const char *verb, struct mg_dml *out)
{
	for (size_t i = 0; i < out->copy_option_count; i++) {
		struct mg_dml_option *option = &out->copy_options[i];
		const char *as = NULL;

		for (size_t k = 0; k < count && !as; k++) {
			if (mg_text_eq_nocase(list[k].name, option->name) &&
			    strchr(list[k].formats, out->copy_format[0])) {
				as = list[k].as;
			}
		}
		if (!as) {
			return mg_error_set(cursor->err, MG_E_UNSUPPORTED,
			                    "COPY %s has no option \"%s\" for format %s", verb, option->name,
			                    out->copy_format);
		}
		if (mg_text_eq(option->value, MG_DML_ALL_COLUMNS) && !mg_text_eq(as, "force_quote")) {
			return mg_error_set(cursor->err, MG_E_SYNTAX, "option \"%s\" takes no \"*\"",
			                    option->name);
		}
		option->name = as;
	}
	return 0;
}

/* ---- a file ---- */

static bool ends_with(const char *text, size_t len, const char *end)
{
	size_t size = strlen(end);

	return len >= size && strncasecmp(text + len - size, end, size) == 0;
}

/* What the name of the file says, where the options say nothing, as in DuckDB. */
static void guess(struct mg_dml *out, bool format, bool compression)
{
	static const char *const endings[][2] = {
		{ ".parquet", "parquet" }, { ".json", "json" },    { ".jsonl", "json" },
		{ ".ndjson", "json" },     { ".arrow", "arrow" },  { ".arrows", "arrow" },
	};
	static const char *const packed[][2] = { { ".gz", "'gzip'" }, { ".zst", "'zstd'" } };
	size_t len = strlen(out->copy_path);
	const char *how = NULL;

	for (size_t i = 0; i < sizeof packed / sizeof *packed && !how; i++) {
		if (ends_with(out->copy_path, len, packed[i][0])) {
			how = packed[i][1];
			len -= strlen(packed[i][0]);
		}
	}
	for (size_t i = 0; format && i < sizeof endings / sizeof *endings; i++) {
		out->copy_format = ends_with(out->copy_path, len, endings[i][0]) ? endings[i][1]
		                                                                 : out->copy_format;
	}
	bool text = mg_text_eq(out->copy_format, "csv") || mg_text_eq(out->copy_format, "json");

	if (how && text && compression && out->copy_option_count < OPTIONS_MAX) {
		out->copy_options[out->copy_option_count++] = (struct mg_dml_option){ "compression", how };
	}
}

static bool has_option(const struct mg_dml *dml, const char *name)
{
	for (size_t i = 0; i < dml->copy_option_count; i++) {
		if (mg_text_eq_nocase(dml->copy_options[i].name, name)) {
			return true;
		}
	}
	return false;
}

/* 'it''s': no other string names a file.  NULL: it is another one. */
static const char *path_of(struct mg_cursor *cursor, struct mg_str literal)
{
	char *path = mg_arena_strndup(cursor->arena, literal.ptr, literal.len);
	size_t len = 0;

	if (literal.len < 3 || *literal.ptr != '\'' || literal.ptr[literal.len - 1] != '\'') {
		return NULL;
	}
	for (size_t i = 1; i + 1 < literal.len; i++) {
		path[len++] = literal.ptr[i];
		i += literal.ptr[i] == '\''; /* which stands twice */
	}
	path[len] = '\0';
	return path;
}

int mg_dml__take_copy_end(struct mg_cursor *cursor, const char *word, struct mg_dml *out)
{
	struct mg_token token = cursor->token;

	if (mg_cursor_take(cursor, word)) {
		return 0;
	}
	out->copy_path = token.kind == MG_T_STRING ? path_of(cursor, token.text) : NULL;
	if (!out->copy_path) {
		return mg_cursor_expected(
			cursor, mg_arena_format(cursor->arena, "%s or the path of a file", word));
	}
	mg_cursor_next(cursor);
	return 0;
}

int mg_dml__take_copy_options(struct mg_cursor *cursor, const struct mg_dml_known *list,
                              size_t count, const char *verb, struct mg_dml *out)
{
	int code = 0;

	out->copy_options = mg_arena_new_array(cursor->arena, struct mg_dml_option, OPTIONS_MAX);
	(void)mg_cursor_take(cursor, "with");
	if (mg_cursor_take_sign(cursor, '(')) {
		do {
			code = take_option(cursor, out);
		} while (!code && mg_cursor_take_sign(cursor, ','));
		if (!code && !mg_cursor_take_sign(cursor, ')')) {
			code = mg_cursor_expected(cursor, "\")\"");
		}
		if (!code && !mg_token_is_end(cursor->token)) {
			code = mg_cursor_expected(cursor, "the end of the statement");
		}
	}
	while (!code && !mg_token_is_end(cursor->token)) {
		code = take_bare_option(cursor, out);
	}
	bool format = out->copy_format != NULL;

	out->copy_format = format ? out->copy_format : "csv";
	if (!code && out->copy_path) {
		guess(out, !format, !has_option(out, "compression"));
	}
	return code ? code : check_options(cursor, list, count, verb, out);
}

int mg_dml__take_copy(struct mg_cursor *cursor, struct mg_dml *out)
{
	int code = mg_dml__take_path(cursor, out);

	if (!code && mg_dml__is_column_list(cursor)) {
		code = mg_dml__take_columns(cursor, &out->columns, &out->column_count);
	}
	if (!code && !mg_cursor_take(cursor, "from")) {
		code = mg_cursor_expected(cursor, "FROM");
	}
	code = code ? code : mg_dml__take_copy_end(cursor, "STDIN", out);
	return code ? code
	            : mg_dml__take_copy_options(cursor, known, sizeof known / sizeof *known, "FROM",
	                                        out);
}
