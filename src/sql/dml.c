/*
 * dml.c - see dml.h.
 *
 * A keyword is one only outside of parentheses, brackets and braces, and neither behind AS nor
 * behind a dot, where every word is a name.  "ON CONFLICT" may also be a join on a column of that
 * name; what follows tells.
 */
#include "sql/dml.h"

#include "sql/dml_int.h"

#include <string.h>

/* ---- tokens ---- */

bool mg_dml__word_in(struct mg_token token, const char *const *words)
{
	for (; *words; words++) {
		if (mg_token_is(token, *words)) {
			return true;
		}
	}
	return false;
}

/* ---- texts between keywords ---- */

/* "ON CONFLICT" of INSERT, and not of a join on a column that is called so. */
static bool is_on_conflict(const struct mg_cursor *cursor)
{
	struct mg_lexer ahead = cursor->lexer;
	struct mg_token token = mg_lex_next(&ahead);
	size_t depth = 0;

	if (!mg_token_is(cursor->token, "on") || !mg_token_is(token, "conflict")) {
		return false;
	}
	token = mg_lex_next(&ahead);
	if (mg_token_is(token, "on")) {
		return mg_token_is(mg_lex_next(&ahead), "constraint");
	}
	if (mg_token_is_sign(token, '(')) {
		do {
			depth += mg_token_is_sign(token, '(');
			depth -= mg_token_is_sign(token, ')');
			token = mg_lex_next(&ahead);
		} while (depth && !mg_token_is_end(token));
	}
	return mg_token_is(token, "do");
}

static bool ends_here(const struct mg_cursor *cursor, const struct mg_dml_ends *ends,
                      struct mg_token before)
{
	if (ends->sign && mg_token_is_sign(cursor->token, ends->sign)) {
		return true;
	}
	if (mg_token_is(before, "as") || mg_token_is_sign(before, '.')) {
		return false;
	}
	if (mg_token_is(cursor->token, "from") && mg_token_is(before, "distinct")) {
		return false; /* IS DISTINCT FROM */
	}
	return mg_dml__word_in(cursor->token, ends->words) ||
	       (ends->on_conflict && is_on_conflict(cursor));
}

/* Everything up to one of the ends, or to the statement's. */
int mg_dml__take_text(struct mg_cursor *cursor, const struct mg_dml_ends *ends, struct mg_str *out)
{
	const char *start = cursor->token.text.ptr;
	struct mg_token before = { MG_T_END, { "", 0 } };
	size_t depth = 0, cases = 0;

	cursor->end = start;
	while (!mg_token_is_end(cursor->token) &&
	       (depth || cases || !ends_here(cursor, ends, before))) {
		bool opens = mg_token_is_sign(cursor->token, '(') || mg_token_is_sign(cursor->token, '[') ||
		             mg_token_is_sign(cursor->token, '{');
		bool closes = mg_token_is_sign(cursor->token, ')') ||
		              mg_token_is_sign(cursor->token, ']') || mg_token_is_sign(cursor->token, '}');

		if (closes && !depth) {
			return mg_error_set(cursor->err, MG_E_SYNTAX, "\"%.*s\" closes nothing",
			                    MG_STR_ARG(cursor->token.text));
		}
		if (ends->cases && !depth && !mg_token_is(before, "as") && !mg_token_is_sign(before, '.')) {
			cases += mg_token_is(cursor->token, "case");
			cases -= cases && mg_token_is(cursor->token, "end");
		}
		depth += opens;
		depth -= closes;
		before = cursor->token;
		mg_cursor_next(cursor);
	}
	if (cursor->token.kind == MG_T_BAD || depth) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "%s is not closed",
		                    depth ? "a parenthesis" : "a string, name or comment");
	}
	*out = mg_cursor_between(start, cursor->end);
	return 0;
}

int mg_dml__take_some_text(struct mg_cursor *cursor, const struct mg_dml_ends *ends,
                           const char *what, struct mg_str *out)
{
	int code = mg_dml__take_text(cursor, ends, out);

	return code || out->len ? code : mg_cursor_expected(cursor, what);
}

static const char *const no_words[] = { NULL };

int mg_dml__take_returning(struct mg_cursor *cursor, struct mg_dml *out)
{
	const struct mg_dml_ends ends = { .words = no_words };

	if (!mg_cursor_take(cursor, "returning")) {
		return mg_token_is_end(cursor->token)
		           ? 0
		           : mg_cursor_expected(cursor, "the end of the statement");
	}
	return mg_dml__take_some_text(cursor, &ends, "the list of RETURNING", &out->returning);
}

static int take_where(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const words[] = { "returning", NULL };
	const struct mg_dml_ends ends = { .words = words };

	if (!mg_cursor_take(cursor, "where")) {
		return 0;
	}
	return mg_dml__take_some_text(cursor, &ends, "the condition of WHERE", &out->where);
}

/* ---- the table ---- */

int mg_dml__take_path(struct mg_cursor *cursor, struct mg_dml *out)
{
	const char *names[3] = { "", "", "" };
	size_t count = 0;
	int code = 0;

	do {
		if (count == 3) {
			return mg_cursor_expected(cursor, "a table's name of at most three parts");
		}
		code = mg_cursor_take_name(cursor, "the name of a table", &names[count++]);
	} while (!code && mg_cursor_take_sign(cursor, '.'));
	out->table = names[count - 1];
	out->schema = count > 1 ? names[count - 2] : "";
	out->catalog = count > 2 ? names[0] : "";
	return code;
}

/* [ONLY] table [*] [[AS] alias] of UPDATE and DELETE; words: what follows and is no alias. */
int mg_dml__take_target(struct mg_cursor *cursor, const char *const *words, struct mg_dml *out)
{
	struct mg_token after = mg_cursor_peek(cursor);

	/* ONLY changes nothing, since tables have no children; a table may be called so. */
	if (mg_token_is(cursor->token, "only") &&
	    (after.kind == MG_T_WORD || after.kind == MG_T_QUOTED) && !mg_dml__word_in(after, words) &&
	    !mg_token_is(after, "as")) {
		mg_cursor_next(cursor);
	}
	int code = mg_dml__take_path(cursor, out);

	if (code) {
		return code;
	}
	(void)mg_cursor_take_sign(cursor, '*');
	if (mg_cursor_take(cursor, "as") ||
	    ((cursor->token.kind == MG_T_WORD || cursor->token.kind == MG_T_QUOTED) &&
	     !mg_dml__word_in(cursor->token, words))) {
		return mg_cursor_take_name(cursor, "the alias of the table", &out->alias);
	}
	return 0;
}

/* ---- INSERT ---- */

/* Does the parenthesis that is next hold names alone? */
bool mg_dml__is_column_list(const struct mg_cursor *cursor)
{
	struct mg_lexer ahead = cursor->lexer;

	if (!mg_token_is_sign(cursor->token, '(')) {
		return false;
	}
	for (;;) {
		struct mg_token name = mg_lex_next(&ahead);
		struct mg_token after = mg_lex_next(&ahead);

		if ((name.kind != MG_T_WORD && name.kind != MG_T_QUOTED) ||
		    (!mg_token_is_sign(after, ',') && !mg_token_is_sign(after, ')'))) {
			return false;
		}
		if (mg_token_is_sign(after, ')')) {
			return true;
		}
	}
}

/* The parenthesis of names. */
int mg_dml__take_columns(struct mg_cursor *cursor, const char ***out, size_t *count)
{
	size_t cap = 0;
	const char **list = NULL;
	int code = 0;

	*count = 0;
	mg_cursor_next(cursor);
	do {
		if (*count == MG_DML_COLUMNS_MAX) {
			return mg_error_set(cursor->err, MG_E_LIMIT, "more than %d columns",
			                    MG_DML_COLUMNS_MAX);
		}
		if (*count == cap) {
			const char **grown =
				mg_arena_new_array(cursor->arena, const char *, cap ? cap * 2 : 16);

			if (cap) {
				memcpy(grown, list, cap * sizeof *list);
			}
			list = grown;
			cap = cap ? cap * 2 : 16;
		}
		code = mg_cursor_take_name(cursor, "the name of a column", &list[*count]);
		*count += !code;
	} while (!code && mg_cursor_take_sign(cursor, ','));
	*out = list;
	return code || mg_cursor_take_sign(cursor, ')') ? code : mg_cursor_expected(cursor, "\")\"");
}

static int take_or(struct mg_cursor *cursor, struct mg_dml *out)
{
	if (!mg_cursor_take(cursor, "or")) {
		return 0;
	}
	if (mg_cursor_take(cursor, "replace")) {
		out->conflict = MG_DML_CONFLICT_REPLACE;
	} else if (mg_cursor_take(cursor, "ignore")) {
		out->conflict = MG_DML_CONFLICT_IGNORE;
	} else {
		return mg_cursor_expected(cursor, "REPLACE or IGNORE");
	}
	return 0;
}

static int take_conflict(struct mg_cursor *cursor, struct mg_dml *out);

static int take_source(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const words[] = { "returning", NULL };
	const struct mg_dml_ends ends = { .words = words, .on_conflict = true };

	if (mg_token_is(cursor->token, "default") && mg_token_is(mg_cursor_peek(cursor), "values")) {
		mg_cursor_next(cursor);
		mg_cursor_next(cursor);
		out->default_values = true;
		return 0;
	}
	out->values = mg_token_is(cursor->token, "values");
	return mg_dml__take_some_text(cursor, &ends, "VALUES or SELECT", &out->source);
}

static int take_insert(struct mg_cursor *cursor, struct mg_dml *out)
{
	int code = take_or(cursor, out);

	if (!code && !mg_cursor_take(cursor, "into")) {
		code = mg_cursor_expected(cursor, "INTO");
	}
	code = code ? code : mg_dml__take_path(cursor, out);
	if (!code && mg_cursor_take(cursor, "as")) {
		code = mg_cursor_take_name(cursor, "the alias of the table", &out->alias);
	}
	if (!code && mg_dml__is_column_list(cursor)) {
		code = mg_dml__take_columns(cursor, &out->columns, &out->column_count);
	} else if (!code && mg_token_is(cursor->token, "by")) {
		mg_cursor_next(cursor);
		out->by_name = mg_cursor_take(cursor, "name");
		if (!out->by_name && !mg_cursor_take(cursor, "position")) {
			code = mg_cursor_expected(cursor, "NAME or POSITION");
		}
	}
	code = code ? code : take_source(cursor, out);
	code = code ? code : take_conflict(cursor, out);
	return code ? code : mg_dml__take_returning(cursor, out);
}

/* ---- UPDATE ---- */

static struct mg_dml_set *add_set(struct mg_cursor *cursor, struct mg_dml *out, size_t *cap)
{
	if (out->set_count == *cap) {
		size_t more = *cap ? *cap * 2 : 8;
		struct mg_dml_set *grown = mg_arena_new_array(cursor->arena, struct mg_dml_set, more);

		if (*cap) {
			memcpy(grown, out->sets, *cap * sizeof *grown);
		}
		out->sets = grown;
		*cap = more;
	}
	return &out->sets[out->set_count++];
}

bool mg_dml__is_default(struct mg_str expr)
{
	return mg_str_eq_nocase(expr, MG_STR("default"));
}

/* The parts of "(a, b)" or "row(a, b)" as one text each; 0 when text is neither. */
size_t mg_dml__split_row(struct mg_arena *arena, struct mg_str text, struct mg_str **out)
{
	struct mg_lexer lexer;
	struct mg_token token;
	size_t depth = 1, count = 0, cap = 4;
	struct mg_str *parts = mg_arena_new_array(arena, struct mg_str, cap);

	mg_lex_init(&lexer, text);
	token = mg_lex_next(&lexer);
	if (mg_token_is(token, "row")) {
		token = mg_lex_next(&lexer);
	}
	if (!mg_token_is_sign(token, '(')) {
		return 0;
	}
	const char *start = token.text.ptr + 1;

	for (;;) {
		token = mg_lex_next(&lexer);
		bool closes = mg_token_is_sign(token, ')') || mg_token_is_sign(token, ']') ||
		              mg_token_is_sign(token, '}');

		if (mg_token_is_end(token)) {
			return 0;
		}
		depth += mg_token_is_sign(token, '(') || mg_token_is_sign(token, '[') ||
		         mg_token_is_sign(token, '{');
		depth -= closes;
		if (depth && !(depth == 1 && mg_token_is_sign(token, ','))) {
			continue;
		}
		if (count == cap) {
			struct mg_str *grown = mg_arena_new_array(arena, struct mg_str, cap * 2);

			memcpy(grown, parts, cap * sizeof *parts);
			parts = grown;
			cap *= 2;
		}
		parts[count++] = mg_cursor_between(start, token.text.ptr);
		start = token.text.ptr + 1;
		if (!depth) {
			*out = parts;
			return mg_token_is_end(mg_lex_next(&lexer)) ? count : 0;
		}
	}
}

/* "= expr" with an operator that may run on into the expression: a =-1. */
static int take_equal(struct mg_cursor *cursor)
{
	struct mg_token token = cursor->token;

	if (token.kind != MG_T_OPERATOR || token.text.ptr[0] != '=') {
		return mg_cursor_expected(cursor, "\"=\"");
	}
	cursor->lexer.ptr = token.text.ptr + 1;
	cursor->token = mg_lex_next(&cursor->lexer);
	return 0;
}

static int take_set(struct mg_cursor *cursor, const char *const *words, struct mg_dml *out,
                    size_t *cap)
{
	const struct mg_dml_ends ends = { .words = words, .cases = true, .sign = ',' };
	const char *one = NULL;
	const char **columns = &one;
	size_t count = 1, parts_count = 0;
	struct mg_str expr, *parts = NULL;
	bool list = mg_dml__is_column_list(cursor);
	int code = list ? mg_dml__take_columns(cursor, &columns, &count)
	                : mg_cursor_take_name(cursor, "the name of a column", &one);

	if (!code && mg_token_is_sign(cursor->token, '.')) {
		code = mg_error_set(cursor->err, MG_E_SYNTAX,
		                    "SET takes the name of a column alone, not \"%s.\"", columns[0]);
	}
	code = code ? code : take_equal(cursor);
	code = code ? code : mg_dml__take_some_text(cursor, &ends, "an expression", &expr);
	if (code) {
		return code;
	}
	parts_count = list ? mg_dml__split_row(cursor->arena, expr, &parts) : 0;
	if (parts_count > 1 && parts_count != count) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "SET of %zu columns has %zu values", count,
		                    parts_count);
	}
	for (size_t i = 0; i < count; i++) {
		struct mg_dml_set *set = add_set(cursor, out, cap);

		/* One value for all of them is what DuckDB makes of one that is no row. */
		set->column = columns[i];
		set->expr = parts_count > 1 || (parts_count == 1 && count == 1) ? parts[i] : expr;
		set->is_default = mg_dml__is_default(set->expr);
		if (!set->expr.len) {
			return mg_cursor_expected(cursor, "an expression");
		}
	}
	return 0;
}

static const char *const set_ends[] = { "from", "where", "returning", NULL };

int mg_dml__take_sets(struct mg_cursor *cursor, const char *const *words, struct mg_dml *out)
{
	size_t cap = 0;
	int code = mg_cursor_take(cursor, "set") ? 0 : mg_cursor_expected(cursor, "SET");

	do {
		code = code ? code : take_set(cursor, words, out, &cap);
	} while (!code && mg_cursor_take_sign(cursor, ','));
	return code;
}

/* ON CONFLICT [target] DO NOTHING, or DO UPDATE SET ... [WHERE ...] */
static int take_conflict(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const words[] = { "do", NULL };
	const struct mg_dml_ends ends = { .words = words };
	const char *start = cursor->token.text.ptr;
	struct mg_str target;

	if (!is_on_conflict(cursor)) {
		return 0;
	}
	if (out->conflict) {
		return mg_error_set(cursor->err, MG_E_SYNTAX,
		                    "ON CONFLICT cannot stand beside INSERT OR %s",
		                    out->conflict == MG_DML_CONFLICT_REPLACE ? "REPLACE" : "IGNORE");
	}
	out->conflict = MG_DML_CONFLICT_CLAUSE;
	mg_cursor_next(cursor);
	mg_cursor_next(cursor);
	int code = mg_dml__take_text(cursor, &ends, &target);

	if (!code && !mg_cursor_take(cursor, "do")) {
		code = mg_cursor_expected(cursor, "DO");
	}
	if (!code && mg_cursor_take(cursor, "update")) {
		code = mg_dml__take_sets(cursor, set_ends, out);
		code = code ? code : take_where(cursor, out);
	} else if (!code && !mg_cursor_take(cursor, "nothing")) {
		code = mg_cursor_expected(cursor, "NOTHING or UPDATE");
	}
	out->conflict_text = mg_cursor_between(start, cursor->end);
	return code;
}

static int take_update(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const words[] = { "set", NULL };
	static const char *const from_ends[] = { "where", "returning", NULL };
	const struct mg_dml_ends ends = { .words = from_ends };
	int code = mg_dml__take_target(cursor, words, out);

	code = code ? code : mg_dml__take_sets(cursor, set_ends, out);
	if (!code && mg_cursor_take(cursor, "from")) {
		code = mg_dml__take_some_text(cursor, &ends, "a table", &out->from);
	}
	code = code ? code : take_where(cursor, out);
	return code ? code : mg_dml__take_returning(cursor, out);
}

/* ---- DELETE, TRUNCATE ---- */

static int take_delete(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const words[] = { "using", "where", "returning", NULL };
	static const char *const using_ends[] = { "where", "returning", NULL };
	const struct mg_dml_ends ends = { .words = using_ends };
	int code = mg_cursor_take(cursor, "from") ? 0 : mg_cursor_expected(cursor, "FROM");

	code = code ? code : mg_dml__take_target(cursor, words, out);
	if (!code && mg_cursor_take(cursor, "using")) {
		code = mg_dml__take_some_text(cursor, &ends, "a table", &out->from);
	}
	code = code ? code : take_where(cursor, out);
	return code ? code : mg_dml__take_returning(cursor, out);
}

static int take_truncate(struct mg_cursor *cursor, struct mg_dml *out)
{
	struct mg_token after = mg_cursor_peek(cursor);

	if (mg_token_is(cursor->token, "table") && !mg_token_is_end(after) &&
	    !mg_token_is_sign(after, '.')) {
		mg_cursor_next(cursor);
	}
	int code = mg_dml__take_path(cursor, out);

	return code || mg_token_is_end(cursor->token)
	           ? code
	           : mg_cursor_expected(cursor, "the end of the statement");
}

/* ---- the whole ---- */

static const struct {
	const char *word, *name;
	enum mg_dml_verb verb;
	int (*take)(struct mg_cursor *, struct mg_dml *);
} verbs[] = {
	{ "insert", "INSERT", MG_DML_INSERT, take_insert },
	{ "update", "UPDATE", MG_DML_UPDATE, take_update },
	{ "delete", "DELETE", MG_DML_DELETE, take_delete },
	{ "truncate", "TRUNCATE", MG_DML_TRUNCATE, take_truncate },
	{ "merge", "MERGE", MG_DML_MERGE, mg_dml__take_merge },
	{ "copy", "COPY", MG_DML_INSERT, mg_dml__take_copy },
};

/* The definitions of WITH; the verb stands right behind the last one's ")". */
static int take_with(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const part[] = { "as", "using", NULL };
	const char *start = cursor->token.text.ptr;
	size_t depth = 0;
	bool closed = false;

	if (!mg_token_is(cursor->token, "with")) {
		return 0;
	}
	while (!mg_token_is_end(cursor->token)) {
		if (closed && cursor->token.kind == MG_T_WORD && !mg_dml__word_in(cursor->token, part)) {
			out->with = mg_cursor_between(start, cursor->end);
			return 0;
		}
		depth += mg_token_is_sign(cursor->token, '(');
		closed = mg_token_is_sign(cursor->token, ')') && depth == 1;
		depth -= mg_token_is_sign(cursor->token, ')') && depth > 0;
		mg_cursor_next(cursor);
	}
	return mg_cursor_expected(cursor, "a statement behind WITH");
}

/* Words that start what reads a table; in an expression they cost an unneeded caution. */
static bool may_read(struct mg_str text)
{
	static const char *const words[] = { "select",  "from",     "table", "with",      "pivot",
		                                 "unpivot", "describe", "show",  "summarize", NULL };
	struct mg_lexer lexer;

	mg_lex_init(&lexer, text);
	for (struct mg_token token = mg_lex_next(&lexer); !mg_token_is_end(token);
	     token = mg_lex_next(&lexer)) {
		if (mg_dml__word_in(token, words)) {
			return true;
		}
	}
	return false;
}

int mg_dml_parse(struct mg_arena *arena, struct mg_str text, struct mg_dml *out,
                 struct mg_error *err)
{
	struct mg_cursor cursor;

	*out = (struct mg_dml){ .catalog = "", .schema = "", .table = "" };
	mg_cursor_init(&cursor, arena, text, err);
	cursor.end = cursor.token.text.ptr;
	int code = take_with(&cursor, out);

	if (code) {
		return code;
	}
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		if (mg_cursor_take(&cursor, verbs[i].word)) {
			out->verb = verbs[i].verb;
			out->name = verbs[i].name;
			code = verbs[i].take(&cursor, out);
			out->reads = out->verb != MG_DML_INSERT || (!out->copy_format && may_read(text));
			return code;
		}
	}
	return mg_cursor_expected(&cursor, "INSERT, UPDATE, DELETE, MERGE or TRUNCATE");
}
