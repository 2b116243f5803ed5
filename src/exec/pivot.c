/*
 * pivot.c - see pivot.h.
 *
 *   PIVOT source ON a, b IN (1, 2) USING ...
 *   SELECT * FROM (PIVOT source ON a IN ('x', 'y'), b IN (1, 2) USING ...)
 *
 * Also in parentheses and behind WITH; what asks for the values sees the common table expressions
 * that the PIVOT sees.
 *
 * DuckDB itself does the same in two statements: it makes an enum of the distinct values as text,
 * in the order of the text (10, 100, 9).  The values are asked for as text, which is what DuckDB
 * names the columns by and compares with.
 */
#include "exec/pivot.h"

#include "codec/arrow_text.h"
#include "exec/run.h"
#include "sql/statement.h"

#include <string.h>

/* Values of one ON expression, as a list of literals. */
struct values {
	struct mg_sb list;
	struct mg_arrow_view *view;
	size_t count;
};

static int begin(void *arg, const struct ArrowSchema *schema, size_t count,
                 const char *const *names, const char *const *types, struct mg_error *err)
{
	struct values *values = arg;
	(void)count, (void)names, (void)types;
	return mg_arrow_view_new(&values->view, schema)
	           ? mg_error_set(err, MG_E_INTERNAL, "no view of the values of PIVOT")
	           : 0;
}

static int batch(void *arg, struct ArrowArray *array, struct mg_error *err)
{
	struct values *values = arg;
	if (mg_arrow_view_set(values->view, array)) {
		return mg_error_set(err, MG_E_INTERNAL, "no view of the values of PIVOT");
	}
	for (int64_t row = 0; row < array->length; row++) {
		if (++values->count > MG_PIVOT_VALUES_MAX) {
			return mg_error_set(err, MG_E_LIMIT, "PIVOT would make more than %d columns",
			                    MG_PIVOT_VALUES_MAX);
		}
		struct mg_sb text = { 0 };
		mg_arrow_view_text(values->view, 0, row, &text);
		mg_sb_add(&values->list, values->list.len ? ", " : "");
		mg_sb_add_literal(&values->list, mg_sb_text(&text), text.len);
		mg_sb_fini(&text);
	}
	return 0;
}

enum { DEPTH_MAX = 100 };

/* What asks, and for whom. */
struct asker {
	struct mg_engine *engine;
	struct mg_run *run;
	struct mg_run_settings settings;
};

/* Common table expressions that are seen from a place: those of the queries around it, and these.
 */
struct with {
	const struct with *outer;
	bool recursive;
	struct mg_sb list; /* "a AS (...), b AS (...)" */
	unsigned depth;    /* in queries */
};

static void add_lists(const struct with *with, struct mg_sb *out)
{
	if (with) {
		add_lists(with->outer, out);
		mg_sb_add(out, out->len && with->list.len ? ", " : "");
		mg_sb_add_len(out, mg_sb_text(&with->list), with->list.len);
	}
}

static bool is_recursive(const struct with *with)
{
	return with && (with->recursive || is_recursive(with->outer));
}

/* A comment up to the end of the line takes nothing else with it. */
static void add_piece(struct mg_sb *out, struct mg_str piece)
{
	mg_sb_add_len(out, piece.ptr, piece.len);
	mg_sb_add(out, memmem(piece.ptr, piece.len, "--", 2) ? "\n" : "");
}

static void add_question(struct mg_sb *sql, const struct with *with, struct mg_str source,
                         struct mg_str item)
{
	struct mg_sb lists = { 0 };
	add_lists(with, &lists);
	if (lists.len) {
		mg_sb_add(sql, is_recursive(with) ? "WITH RECURSIVE " : "WITH ");
		mg_sb_add_len(sql, mg_sb_text(&lists), lists.len);
		mg_sb_add_char(sql, ' ');
	}
	mg_sb_add(sql, "SELECT v FROM (SELECT DISTINCT CAST((");
	add_piece(sql, item);
	mg_sb_add(sql, ") AS VARCHAR) AS v FROM ");
	add_piece(sql, source);
	mg_sb_add(sql, ") AS mg WHERE v IS NOT NULL ORDER BY v");
	mg_sb_fini(&lists);
}

/* " IN ('a', 'b')" for one expression. */
static int ask(const struct asker *asker, const struct with *with, struct mg_str source,
               struct mg_str item, struct mg_sb *out, struct mg_error *err)
{
	struct values values = { 0 };
	struct mg_sb sql = { 0 };
	struct mg_rows rows = { .begin = begin, .batch = batch, .lossless = true, .arg = &values };
	add_question(&sql, with, source, item);
	int code = mg_coordinator_run(asker->engine, asker->run, &asker->settings,
	                              mg_str(mg_sb_text(&sql)), &rows, err);
	if (!code && !values.count) {
		code = mg_error_set(err, MG_E_DATA, "PIVOT finds no values of %.*s", MG_STR_ARG(item));
	}
	if (!code) {
		mg_sb_addf(out, " IN (%s)", mg_sb_text(&values.list));
	}
	*mg_run_own_stats(asker->run) = (struct mg_run_stats){ .step = "" };
	if (values.view) {
		mg_arrow_view_free(values.view);
	}
	mg_sb_fini(&values.list);
	mg_sb_fini(&sql);
	return code;
}

static bool is_word(struct mg_token token, const char *word)
{
	return token.kind == MG_T_WORD && mg_str_eq_nocase(token.text, mg_str(word));
}

static bool is_pivot(struct mg_token token)
{
	return is_word(token, "pivot") || is_word(token, "pivot_wider");
}

/* A sign of one character, or 0. */
static char sign_of(struct mg_token token)
{
	return token.kind == MG_T_OPERATOR && token.text.len == 1 ? token.text.ptr[0] : 0;
}

static int depth_of(char sign)
{
	return (sign == '(' || sign == '[') - (sign == ')' || sign == ']');
}

static bool ends_items(struct mg_token token)
{
	static const char *const words[] = { "using", "group", "order", "limit", "offset" };
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (is_word(token, words[i])) {
			return true;
		}
	}
	return false;
}

static bool is_end(struct mg_token token)
{
	return token.kind == MG_T_END || token.kind == MG_T_BAD;
}

static struct mg_str between(const char *from, const char *to)
{
	return mg_str_trim((struct mg_str){ from, (size_t)(to - from) });
}

static void add(struct mg_sb *out, const char *from, const char *to)
{
	mg_sb_add_len(out, from, (size_t)(to - from));
}

/* sql begins with PIVOT.  One without ON stays as it is, for the engine to say why. */
static int write_values(const struct asker *asker, const struct with *with, struct mg_str sql,
                        struct mg_sb *out, struct mg_error *err)
{
	struct mg_lexer lexer;
	mg_lex_init(&lexer, sql);
	struct mg_token token = mg_lex_next(&lexer);
	const char *verb_end = token.text.ptr + token.text.len, *item_start = NULL;
	const char *end = sql.ptr + sql.len;
	struct mg_str source = { 0 };
	bool listed = false;
	int code = 0, depth = 0;
	for (bool done = false; !code && !done;) {
		token = mg_lex_next(&lexer);
		const char *at = token.kind == MG_T_END ? end : token.text.ptr;
		char sign = sign_of(token);
		depth += depth_of(sign);
		if (!item_start) {
			done = is_end(token);
			if (depth == 0 && is_word(token, "on")) {
				source = between(verb_end, at);
				item_start = at + token.text.len;
				mg_sb_add(out, "SELECT * FROM (PIVOT ");
				add_piece(out, source);
				mg_sb_add(out, " ON ");
			}
			continue;
		}
		done = is_end(token) || (depth == 0 && ends_items(token));
		if (done || (depth == 0 && sign == ',')) {
			struct mg_str item = between(item_start, at);
			add_piece(out, item);
			code = listed || !item.len ? 0 : ask(asker, with, source, item, out, err);
			mg_sb_add(out, done ? " " : ", ");
			item_start = done ? at : at + 1;
			listed = false;
		}
		listed |= depth == 0 && is_word(token, "in");
	}
	if (!item_start) {
		mg_sb_add_len(out, sql.ptr, sql.len);
	} else if (!code) {
		add(out, item_start, end);
		mg_sb_add(out, "\n)");
	}
	return code;
}

/* What a parenthesis holds that the lexer stands behind; then it stands behind its end, too. */
static struct mg_str take_group(struct mg_lexer *lexer)
{
	const char *from = lexer->ptr;
	for (int depth = 1;;) {
		struct mg_token token = mg_lex_next(lexer);
		depth += depth_of(sign_of(token));
		if (is_end(token) || depth == 0) {
			return (struct mg_str){
				from, (size_t)((is_end(token) ? lexer->end : token.text.ptr) - from)
			};
		}
	}
}

static int expand_query(const struct asker *asker, const struct with *outer, struct mg_str sql,
                        struct mg_sb *out, struct mg_error *err);

/* Text with the queries in its parentheses expanded, where they may hold a PIVOT. */
static int expand_groups(const struct asker *asker, const struct with *with, struct mg_str sql,
                         struct mg_sb *out, struct mg_error *err)
{
	struct mg_lexer lexer;
	mg_lex_init(&lexer, sql);
	const char *copied = sql.ptr;
	int code = 0;
	for (struct mg_token token = mg_lex_next(&lexer); !code && !is_end(token);
	     token = mg_lex_next(&lexer)) {
		struct mg_lexer ahead = lexer;
		struct mg_token next = sign_of(token) == '(' ? mg_lex_next(&ahead) : (struct mg_token){ 0 };
		if (is_pivot(next) || is_word(next, "with")) {
			add(out, copied, lexer.ptr);
			code = expand_query(asker, with, take_group(&lexer), out, err);
			mg_sb_add(out, ")");
			copied = lexer.ptr;
		}
	}
	add(out, copied, sql.ptr + sql.len);
	return code;
}

static int expand_main(const struct asker *asker, const struct with *with, struct mg_str sql,
                       struct mg_sb *out, struct mg_error *err)
{
	struct mg_lexer lexer;
	mg_lex_init(&lexer, sql);
	if (!is_pivot(mg_lex_next(&lexer))) {
		return expand_groups(asker, with, sql, out, err);
	}
	struct mg_sb text = { 0 };
	int code = expand_groups(asker, with, sql, &text, err);
	code = code ? code : write_values(asker, with, mg_str(mg_sb_text(&text)), out, err);
	mg_sb_fini(&text);
	return code;
}

/* `name [(columns)] AS [[NOT] MATERIALIZED] (query)`, each of which sees those before it.  Behind
 * the last one stands the lexer. */
static int expand_list(const struct asker *asker, struct with *with, struct mg_lexer *lexer,
                       struct mg_error *err)
{
	const char *copied = lexer->ptr;
	bool body = false;
	int code = 0;
	while (!code) {
		struct mg_token token = mg_lex_next(lexer);
		if (is_end(token)) {
			break;
		}
		if (sign_of(token) != '(' || !body) {
			body = is_word(token, "as") || is_word(token, "materialized");
			if (sign_of(token) == '(') {
				(void)take_group(lexer);
			}
			continue;
		}
		struct mg_sb one = { 0 };
		add(&one, copied, lexer->ptr);
		code = expand_query(asker, with, take_group(lexer), &one, err);
		mg_sb_add(&with->list, with->list.len ? ", " : "");
		mg_sb_add_len(&with->list, mg_sb_text(&one), one.len);
		mg_sb_add(&with->list, ")");
		mg_sb_fini(&one);
		struct mg_lexer ahead = *lexer;
		if (sign_of(mg_lex_next(&ahead)) != ',') {
			break;
		}
		*lexer = ahead;
		copied = lexer->ptr;
		body = false;
	}
	return code;
}

static bool holds_pivot(struct mg_str sql)
{
	char *text = mg_strndup(sql.ptr, sql.len);
	bool holds = strcasestr(text, "pivot") != NULL;
	mg_free(text);
	return holds;
}

static int expand_query(const struct asker *asker, const struct with *outer, struct mg_str sql,
                        struct mg_sb *out, struct mg_error *err)
{
	struct with with = { .outer = outer, .depth = outer ? outer->depth + 1 : 1 };
	struct mg_lexer lexer, ahead;
	if (mg_run_cancelled(asker->run)) {
		return mg_run_cancel_error(asker->run, err);
	}
	if (with.depth > DEPTH_MAX) {
		/* Left as it is, whoever asks for its values would expand it again. */
		if (holds_pivot(sql)) {
			return mg_error_set(err, MG_E_LIMIT, "a PIVOT stands deeper than %d queries",
			                    DEPTH_MAX);
		}
		mg_sb_add_len(out, sql.ptr, sql.len);
		return 0;
	}
	mg_lex_init(&lexer, sql);
	if (!is_word(mg_lex_next(&lexer), "with")) {
		return expand_main(asker, &with, sql, out, err);
	}
	ahead = lexer;
	if (is_word(mg_lex_next(&ahead), "recursive")) {
		lexer = ahead;
		with.recursive = true;
	}
	int code = expand_list(asker, &with, &lexer, err);
	mg_sb_add(out, with.recursive ? "WITH RECURSIVE " : "WITH ");
	mg_sb_add_len(out, mg_sb_text(&with.list), with.list.len);
	mg_sb_add_char(out, ' ');
	struct mg_str rest = { lexer.ptr, (size_t)(lexer.end - lexer.ptr) };
	code = code ? code : expand_main(asker, &with, rest, out, err);
	mg_sb_fini(&with.list);
	return code;
}

int mg_pivot_expand(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_run_settings *settings, struct mg_arena *arena,
                    struct mg_str sql, const char **out, struct mg_error *err)
{
	struct asker asker = { .engine = engine, .run = run, .settings = *settings };
	const char *text = mg_arena_strndup(arena, sql.ptr, sql.len);
	struct mg_sb expanded = { 0 };
	*out = NULL;
	if (!strcasestr(text, "pivot")) {
		return 0;
	}
	asker.settings.distributed = MG_DISTRIBUTED_TRUE;
	asker.settings.summarize = true;
	int code = expand_query(&asker, NULL, mg_str(text), &expanded, err);
	if (!code && strcmp(mg_sb_text(&expanded), text) != 0) {
		*out = mg_arena_strdup(arena, mg_sb_text(&expanded));
	}
	mg_sb_fini(&expanded);
	return code;
}
