/*
 * dml.c - see dml.h.
 *
 * A keyword is one only outside of parentheses, brackets and braces, and neither behind AS nor
 * behind a dot, where every word is a name.  "ON CONFLICT" may also be a join on a column of that
 * name; what follows tells.
 */
#include "sql/dml.h"

#include "sql/statement.h"

#include <string.h>

struct parser {
	struct mg_arena *arena;
	struct mg_lexer lexer;
	struct mg_token token; /* the next one, not yet taken */
	const char *end;       /* of the last token that was taken */
	struct mg_error *err;
};

/* ---- tokens ---- */

static bool word_is(struct mg_token token, const char *word)
{
	return token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, mg_str(word));
}

static bool word_in(struct mg_token token, const char *const *words)
{
	for (; *words; words++) {
		if (word_is(token, *words)) {
			return true;
		}
	}
	return false;
}

static bool is_sign(struct mg_token token, char sign)
{
	return token.kind == MG_T_OPERATOR && token.text.len == 1 && token.text.ptr[0] == sign;
}

static bool is_end(struct mg_token token)
{
	return token.kind == MG_T_END || token.kind == MG_T_BAD;
}

static void next(struct parser *parser)
{
	parser->end = parser->token.text.ptr + parser->token.text.len;
	parser->token = mg_lex_next(&parser->lexer);
}

static struct mg_token peek(const struct parser *parser)
{
	struct mg_lexer ahead = parser->lexer;

	return mg_lex_next(&ahead);
}

static bool take_word(struct parser *parser, const char *word)
{
	bool is = word_is(parser->token, word);

	if (is) {
		next(parser);
	}
	return is;
}

static bool take_sign(struct parser *parser, char sign)
{
	bool is = is_sign(parser->token, sign);

	if (is) {
		next(parser);
	}
	return is;
}

static int expected(struct parser *parser, const char *what)
{
	struct mg_token token = parser->token;

	if (is_end(token)) {
		return mg_error_set(parser->err, MG_E_SYNTAX, "%s is missing at the end of the statement",
		                    what);
	}
	return mg_error_set(parser->err, MG_E_SYNTAX, "%s is missing at \"%.*s\"", what,
	                    (int)(token.text.len < 60 ? token.text.len : 60), token.text.ptr);
}

/* A name without its quotes. */
static int take_name(struct parser *parser, const char *what, const char **out)
{
	struct mg_token token = parser->token;

	if (token.kind != MG_T_WORD && token.kind != MG_T_QUOTED) {
		return expected(parser, what);
	}
	char *name = mg_arena_strndup(parser->arena, token.text.ptr, token.text.len);

	if (token.kind == MG_T_QUOTED) {
		size_t len = 0;

		for (size_t i = 1; i + 1 < token.text.len; i++) {
			name[len++] = token.text.ptr[i];
			i += token.text.ptr[i] == '"';
		}
		name[len] = '\0';
	}
	*out = name;
	next(parser);
	return 0;
}

static struct mg_str between(const char *from, const char *to)
{
	return mg_str_trim((struct mg_str){ from, to > from ? (size_t)(to - from) : 0 });
}

/* ---- texts between keywords ---- */

/* A list of words that end a text; `on_conflict` also ends it. */
struct ends {
	const char *const *words;
	bool on_conflict;
	char sign; /* ',' ends it too; 0: none does */
};

/* "ON CONFLICT" of INSERT, and not of a join on a column that is called so. */
static bool is_on_conflict(const struct parser *parser)
{
	struct mg_lexer ahead = parser->lexer;
	struct mg_token token = mg_lex_next(&ahead);
	size_t depth = 0;

	if (!word_is(parser->token, "on") || !word_is(token, "conflict")) {
		return false;
	}
	token = mg_lex_next(&ahead);
	if (word_is(token, "on")) {
		return word_is(mg_lex_next(&ahead), "constraint");
	}
	if (is_sign(token, '(')) {
		do {
			depth += is_sign(token, '(');
			depth -= is_sign(token, ')');
			token = mg_lex_next(&ahead);
		} while (depth && !is_end(token));
	}
	return word_is(token, "do");
}

static bool ends_here(const struct parser *parser, const struct ends *ends, struct mg_token before)
{
	if (ends->sign && is_sign(parser->token, ends->sign)) {
		return true;
	}
	if (word_is(before, "as") || is_sign(before, '.')) {
		return false;
	}
	if (word_is(parser->token, "from") && word_is(before, "distinct")) {
		return false; /* IS DISTINCT FROM */
	}
	return word_in(parser->token, ends->words) || (ends->on_conflict && is_on_conflict(parser));
}

/* Everything up to one of the ends, or to the statement's. */
static int take_text(struct parser *parser, const struct ends *ends, struct mg_str *out)
{
	const char *start = parser->token.text.ptr;
	struct mg_token before = { MG_T_END, { "", 0 } };
	size_t depth = 0;

	parser->end = start;
	while (!is_end(parser->token) && (depth || !ends_here(parser, ends, before))) {
		bool opens = is_sign(parser->token, '(') || is_sign(parser->token, '[') ||
		             is_sign(parser->token, '{');
		bool closes = is_sign(parser->token, ')') || is_sign(parser->token, ']') ||
		              is_sign(parser->token, '}');

		if (closes && !depth) {
			return mg_error_set(parser->err, MG_E_SYNTAX, "\"%.*s\" closes nothing",
			                    MG_STR_ARG(parser->token.text));
		}
		depth += opens;
		depth -= closes;
		before = parser->token;
		next(parser);
	}
	if (parser->token.kind == MG_T_BAD || depth) {
		return mg_error_set(parser->err, MG_E_SYNTAX, "%s is not closed",
		                    depth ? "a parenthesis" : "a string, name or comment");
	}
	*out = between(start, parser->end);
	return 0;
}

static int take_some_text(struct parser *parser, const struct ends *ends, const char *what,
                          struct mg_str *out)
{
	int code = take_text(parser, ends, out);

	return code || out->len ? code : expected(parser, what);
}

static const char *const no_words[] = { NULL };

static int take_returning(struct parser *parser, struct mg_dml *out)
{
	const struct ends ends = { .words = no_words };

	if (!take_word(parser, "returning")) {
		return is_end(parser->token) ? 0 : expected(parser, "the end of the statement");
	}
	return take_some_text(parser, &ends, "the list of RETURNING", &out->returning);
}

static int take_where(struct parser *parser, struct mg_dml *out)
{
	static const char *const words[] = { "returning", NULL };
	const struct ends ends = { .words = words };

	if (!take_word(parser, "where")) {
		return 0;
	}
	return take_some_text(parser, &ends, "the condition of WHERE", &out->where);
}

/* ---- the table ---- */

static int take_table(struct parser *parser, struct mg_dml *out)
{
	const char *names[3] = { "", "", "" };
	size_t count = 0;
	int code = 0;

	do {
		if (count == 3) {
			return expected(parser, "a table's name of at most three parts");
		}
		code = take_name(parser, "the name of a table", &names[count++]);
	} while (!code && take_sign(parser, '.'));
	out->table = names[count - 1];
	out->schema = count > 1 ? names[count - 2] : "";
	out->catalog = count > 2 ? names[0] : "";
	return code;
}

/* [ONLY] table [*] [[AS] alias] of UPDATE and DELETE; words: what follows and is no alias. */
static int take_target(struct parser *parser, const char *const *words, struct mg_dml *out)
{
	struct mg_token after = peek(parser);

	/* ONLY changes nothing, since tables have no children; a table may be called so. */
	if (word_is(parser->token, "only") && (after.kind == MG_T_WORD || after.kind == MG_T_QUOTED) &&
	    !word_in(after, words) && !word_is(after, "as")) {
		next(parser);
	}
	int code = take_table(parser, out);

	if (code) {
		return code;
	}
	(void)take_sign(parser, '*');
	if (take_word(parser, "as") ||
	    ((parser->token.kind == MG_T_WORD || parser->token.kind == MG_T_QUOTED) &&
	     !word_in(parser->token, words))) {
		return take_name(parser, "the alias of the table", &out->alias);
	}
	return 0;
}

/* ---- INSERT ---- */

/* Does the parenthesis that is next hold names alone? */
static bool is_column_list(const struct parser *parser)
{
	struct mg_lexer ahead = parser->lexer;

	if (!is_sign(parser->token, '(')) {
		return false;
	}
	for (;;) {
		struct mg_token name = mg_lex_next(&ahead);
		struct mg_token after = mg_lex_next(&ahead);

		if ((name.kind != MG_T_WORD && name.kind != MG_T_QUOTED) ||
		    (!is_sign(after, ',') && !is_sign(after, ')'))) {
			return false;
		}
		if (is_sign(after, ')')) {
			return true;
		}
	}
}

/* The parenthesis of names. */
static int take_columns(struct parser *parser, const char ***out, size_t *count)
{
	size_t cap = 0;
	const char **list = NULL;
	int code = 0;

	*count = 0;
	next(parser);
	do {
		if (*count == MG_DML_COLUMNS_MAX) {
			return mg_error_set(parser->err, MG_E_LIMIT, "more than %d columns",
			                    MG_DML_COLUMNS_MAX);
		}
		if (*count == cap) {
			const char **grown =
				mg_arena_new_array(parser->arena, const char *, cap ? cap * 2 : 16);

			if (cap) {
				memcpy(grown, list, cap * sizeof *list);
			}
			list = grown;
			cap = cap ? cap * 2 : 16;
		}
		code = take_name(parser, "the name of a column", &list[*count]);
		*count += !code;
	} while (!code && take_sign(parser, ','));
	*out = list;
	return code || take_sign(parser, ')') ? code : expected(parser, "\")\"");
}

static int take_or(struct parser *parser, struct mg_dml *out)
{
	if (!take_word(parser, "or")) {
		return 0;
	}
	if (take_word(parser, "replace")) {
		out->conflict = MG_DML_CONFLICT_REPLACE;
	} else if (take_word(parser, "ignore")) {
		out->conflict = MG_DML_CONFLICT_IGNORE;
	} else {
		return expected(parser, "REPLACE or IGNORE");
	}
	return 0;
}

static int take_conflict(struct parser *parser, struct mg_dml *out);

static int take_source(struct parser *parser, struct mg_dml *out)
{
	static const char *const words[] = { "returning", NULL };
	const struct ends ends = { .words = words, .on_conflict = true };

	if (word_is(parser->token, "default") && word_is(peek(parser), "values")) {
		next(parser);
		next(parser);
		out->default_values = true;
		return 0;
	}
	out->values = word_is(parser->token, "values");
	return take_some_text(parser, &ends, "VALUES or SELECT", &out->source);
}

static int take_insert(struct parser *parser, struct mg_dml *out)
{
	int code = take_or(parser, out);

	if (!code && !take_word(parser, "into")) {
		code = expected(parser, "INTO");
	}
	code = code ? code : take_table(parser, out);
	if (!code && take_word(parser, "as")) {
		code = take_name(parser, "the alias of the table", &out->alias);
	}
	if (!code && is_column_list(parser)) {
		code = take_columns(parser, &out->columns, &out->column_count);
	} else if (!code && word_is(parser->token, "by")) {
		next(parser);
		out->by_name = take_word(parser, "name");
		if (!out->by_name && !take_word(parser, "position")) {
			code = expected(parser, "NAME or POSITION");
		}
	}
	code = code ? code : take_source(parser, out);
	code = code ? code : take_conflict(parser, out);
	return code ? code : take_returning(parser, out);
}

/* ---- UPDATE ---- */

static struct mg_dml_set *add_set(struct parser *parser, struct mg_dml *out, size_t *cap)
{
	if (out->set_count == *cap) {
		size_t more = *cap ? *cap * 2 : 8;
		struct mg_dml_set *grown = mg_arena_new_array(parser->arena, struct mg_dml_set, more);

		if (*cap) {
			memcpy(grown, out->sets, *cap * sizeof *grown);
		}
		out->sets = grown;
		*cap = more;
	}
	return &out->sets[out->set_count++];
}

static bool is_default(struct mg_str expr)
{
	return mg_str_eq_nocase(expr, MG_STR("default"));
}

/* The parts of "(a, b)" or "row(a, b)" as one text each; 0 when text is neither. */
static size_t split_row(struct mg_arena *arena, struct mg_str text, struct mg_str **out)
{
	struct mg_lexer lexer;
	struct mg_token token;
	size_t depth = 1, count = 0, cap = 4;
	struct mg_str *parts = mg_arena_new_array(arena, struct mg_str, cap);

	mg_lex_init(&lexer, text);
	token = mg_lex_next(&lexer);
	if (word_is(token, "row")) {
		token = mg_lex_next(&lexer);
	}
	if (!is_sign(token, '(')) {
		return 0;
	}
	const char *start = token.text.ptr + 1;

	for (;;) {
		token = mg_lex_next(&lexer);
		bool closes = is_sign(token, ')') || is_sign(token, ']') || is_sign(token, '}');

		if (is_end(token)) {
			return 0;
		}
		depth += is_sign(token, '(') || is_sign(token, '[') || is_sign(token, '{');
		depth -= closes;
		if (depth && !(depth == 1 && is_sign(token, ','))) {
			continue;
		}
		if (count == cap) {
			struct mg_str *grown = mg_arena_new_array(arena, struct mg_str, cap * 2);

			memcpy(grown, parts, cap * sizeof *parts);
			parts = grown;
			cap *= 2;
		}
		parts[count++] = between(start, token.text.ptr);
		start = token.text.ptr + 1;
		if (!depth) {
			*out = parts;
			return is_end(mg_lex_next(&lexer)) ? count : 0;
		}
	}
}

/* "= expr" with an operator that may run on into the expression: a =-1. */
static int take_equal(struct parser *parser)
{
	struct mg_token token = parser->token;

	if (token.kind != MG_T_OPERATOR || token.text.ptr[0] != '=') {
		return expected(parser, "\"=\"");
	}
	parser->lexer.ptr = token.text.ptr + 1;
	parser->token = mg_lex_next(&parser->lexer);
	return 0;
}

static int take_set(struct parser *parser, struct mg_dml *out, size_t *cap)
{
	static const char *const words[] = { "from", "where", "returning", NULL };
	const struct ends ends = { .words = words, .sign = ',' };
	const char *one = NULL;
	const char **columns = &one;
	size_t count = 1, parts_count = 0;
	struct mg_str expr, *parts = NULL;
	bool list = is_column_list(parser);
	int code = list ? take_columns(parser, &columns, &count)
	                : take_name(parser, "the name of a column", &one);

	if (!code && is_sign(parser->token, '.')) {
		code = mg_error_set(parser->err, MG_E_SYNTAX,
		                    "SET takes the name of a column alone, not \"%s.\"", columns[0]);
	}
	code = code ? code : take_equal(parser);
	code = code ? code : take_some_text(parser, &ends, "an expression", &expr);
	if (code) {
		return code;
	}
	parts_count = list ? split_row(parser->arena, expr, &parts) : 0;
	if (parts_count > 1 && parts_count != count) {
		return mg_error_set(parser->err, MG_E_SYNTAX, "SET of %zu columns has %zu values", count,
		                    parts_count);
	}
	for (size_t i = 0; i < count; i++) {
		struct mg_dml_set *set = add_set(parser, out, cap);

		/* One value for all of them is what DuckDB makes of one that is no row. */
		set->column = columns[i];
		set->expr = parts_count > 1 || (parts_count == 1 && count == 1) ? parts[i] : expr;
		set->is_default = is_default(set->expr);
		if (!set->expr.len) {
			return expected(parser, "an expression");
		}
	}
	return 0;
}

static int take_sets(struct parser *parser, struct mg_dml *out)
{
	size_t cap = 0;
	int code = take_word(parser, "set") ? 0 : expected(parser, "SET");

	do {
		code = code ? code : take_set(parser, out, &cap);
	} while (!code && take_sign(parser, ','));
	return code;
}

/* ON CONFLICT [target] DO NOTHING, or DO UPDATE SET ... [WHERE ...] */
static int take_conflict(struct parser *parser, struct mg_dml *out)
{
	static const char *const words[] = { "do", NULL };
	const struct ends ends = { .words = words };
	const char *start = parser->token.text.ptr;
	struct mg_str target;

	if (!is_on_conflict(parser)) {
		return 0;
	}
	if (out->conflict) {
		return mg_error_set(parser->err, MG_E_SYNTAX,
		                    "ON CONFLICT cannot stand beside INSERT OR %s",
		                    out->conflict == MG_DML_CONFLICT_REPLACE ? "REPLACE" : "IGNORE");
	}
	out->conflict = MG_DML_CONFLICT_CLAUSE;
	next(parser);
	next(parser);
	int code = take_text(parser, &ends, &target);

	if (!code && !take_word(parser, "do")) {
		code = expected(parser, "DO");
	}
	if (!code && take_word(parser, "update")) {
		code = take_sets(parser, out);
		code = code ? code : take_where(parser, out);
	} else if (!code && !take_word(parser, "nothing")) {
		code = expected(parser, "NOTHING or UPDATE");
	}
	out->conflict_text = between(start, parser->end);
	return code;
}

static int take_update(struct parser *parser, struct mg_dml *out)
{
	static const char *const words[] = { "set", NULL };
	static const char *const from_ends[] = { "where", "returning", NULL };
	const struct ends ends = { .words = from_ends };
	int code = take_target(parser, words, out);

	code = code ? code : take_sets(parser, out);
	if (!code && take_word(parser, "from")) {
		code = take_some_text(parser, &ends, "a table", &out->from);
	}
	code = code ? code : take_where(parser, out);
	return code ? code : take_returning(parser, out);
}

/* ---- DELETE, TRUNCATE ---- */

static int take_delete(struct parser *parser, struct mg_dml *out)
{
	static const char *const words[] = { "using", "where", "returning", NULL };
	static const char *const using_ends[] = { "where", "returning", NULL };
	const struct ends ends = { .words = using_ends };
	int code = take_word(parser, "from") ? 0 : expected(parser, "FROM");

	code = code ? code : take_target(parser, words, out);
	if (!code && take_word(parser, "using")) {
		code = take_some_text(parser, &ends, "a table", &out->from);
	}
	code = code ? code : take_where(parser, out);
	return code ? code : take_returning(parser, out);
}

static int take_truncate(struct parser *parser, struct mg_dml *out)
{
	struct mg_token after = peek(parser);

	if (word_is(parser->token, "table") && !is_end(after) && !is_sign(after, '.')) {
		next(parser);
	}
	int code = take_table(parser, out);

	return code || is_end(parser->token) ? code : expected(parser, "the end of the statement");
}

/* ---- the whole ---- */

static const struct {
	const char *word, *name;
	enum mg_dml_verb verb;
	int (*take)(struct parser *, struct mg_dml *);
} verbs[] = {
	{ "insert", "INSERT", MG_DML_INSERT, take_insert },
	{ "update", "UPDATE", MG_DML_UPDATE, take_update },
	{ "delete", "DELETE", MG_DML_DELETE, take_delete },
	{ "truncate", "TRUNCATE", MG_DML_TRUNCATE, take_truncate },
};

/* The definitions of WITH; the verb stands right behind the last one's ")". */
static int take_with(struct parser *parser, struct mg_dml *out)
{
	static const char *const part[] = { "as", "using", NULL };
	const char *start = parser->token.text.ptr;
	size_t depth = 0;
	bool closed = false;

	if (!word_is(parser->token, "with")) {
		return 0;
	}
	while (!is_end(parser->token)) {
		if (closed && parser->token.kind == MG_T_WORD && !word_in(parser->token, part)) {
			out->with = between(start, parser->end);
			return 0;
		}
		depth += is_sign(parser->token, '(');
		closed = is_sign(parser->token, ')') && depth == 1;
		depth -= is_sign(parser->token, ')') && depth > 0;
		next(parser);
	}
	return expected(parser, "a statement behind WITH");
}

/* Words that start what reads a table; in an expression they cost an unneeded caution. */
static bool may_read(struct mg_str text)
{
	static const char *const words[] = { "select",  "from",     "table", "with",      "pivot",
		                                 "unpivot", "describe", "show",  "summarize", NULL };
	struct mg_lexer lexer;

	mg_lex_init(&lexer, text);
	for (struct mg_token token = mg_lex_next(&lexer); !is_end(token); token = mg_lex_next(&lexer)) {
		if (word_in(token, words)) {
			return true;
		}
	}
	return false;
}

int mg_dml_parse(struct mg_arena *arena, struct mg_str text, struct mg_dml *out,
                 struct mg_error *err)
{
	struct parser parser = { .arena = arena, .err = err };

	*out = (struct mg_dml){ .catalog = "", .schema = "", .table = "" };
	mg_lex_init(&parser.lexer, text);
	parser.token = mg_lex_next(&parser.lexer);
	parser.end = parser.token.text.ptr;
	int code = take_with(&parser, out);

	if (code) {
		return code;
	}
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		if (take_word(&parser, verbs[i].word)) {
			out->verb = verbs[i].verb;
			out->name = verbs[i].name;
			code = verbs[i].take(&parser, out);
			out->reads = out->verb != MG_DML_INSERT || may_read(text);
			return code;
		}
	}
	if (word_is(parser.token, "merge")) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "MERGE is not supported yet");
		mg_error_hint(err, "Write INSERT ... ON CONFLICT, or UPDATE ... FROM and INSERT ... "
		                   "SELECT.");
		return code;
	}
	return expected(&parser, "INSERT, UPDATE, DELETE or TRUNCATE");
}
