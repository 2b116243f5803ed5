/*
 * pivot.c - see pivot.h.
 *
 *   PIVOT source ON a, b IN (1, 2) USING ...
 *   SELECT * FROM (PIVOT source ON a IN ('x', 'y'), b IN (1, 2) USING ...)
 *
 * DuckDB itself does the same in two statements: it makes an enum of the distinct values, in their
 * order.  The values are asked for as text, which is what DuckDB names the columns by and compares
 * with.
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

/* " IN ('a', 'b')" for one expression. */
static int ask(struct mg_engine *engine, struct mg_run *run, const struct mg_run_settings *settings,
               struct mg_str source, struct mg_str item, struct mg_sb *out, struct mg_error *err)
{
	struct values values = { 0 };
	struct mg_sb sql = { 0 };
	struct mg_rows rows = { .begin = begin, .batch = batch, .lossless = true, .arg = &values };
	struct mg_run_settings own = *settings;
	own.distributed = MG_DISTRIBUTED_TRUE;
	own.summarize = true;
	mg_sb_addf(
		&sql,
		"SELECT v FROM (SELECT DISTINCT CAST((%.*s) AS VARCHAR) AS v, (%.*s) AS k FROM %.*s) AS mg "
		"WHERE v IS NOT NULL ORDER BY k",
		MG_STR_ARG(item), MG_STR_ARG(item), MG_STR_ARG(source));
	int code = mg_coordinator_run(engine, run, &own, mg_str(mg_sb_text(&sql)), &rows, err);
	if (!code && !values.count) {
		code = mg_error_set(err, MG_E_DATA, "PIVOT finds no values of %.*s", MG_STR_ARG(item));
	}
	if (!code) {
		mg_sb_addf(out, " IN (%s)", mg_sb_text(&values.list));
	}
	*mg_run_own_stats(run) = (struct mg_run_stats){ .step = "" };
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

int mg_pivot_expand(struct mg_engine *engine, struct mg_run *run,
                    const struct mg_run_settings *settings, struct mg_arena *arena,
                    struct mg_str sql, const char **out, struct mg_error *err)
{
	struct mg_lexer lexer;
	mg_lex_init(&lexer, sql);
	struct mg_token token = mg_lex_next(&lexer);
	*out = NULL;
	if (!is_word(token, "pivot") && !is_word(token, "pivot_wider")) {
		return 0;
	}
	const char *verb_end = token.text.ptr + token.text.len, *item_start = NULL;
	const char *end = sql.ptr + sql.len;
	struct mg_str source = { 0 };
	struct mg_sb text = { 0 };
	bool listed = false;
	int code = 0, depth = 0;
	for (bool done = false; !code && !done;) {
		token = mg_lex_next(&lexer);
		const char *at = token.kind == MG_T_END ? end : token.text.ptr;
		char c = token.kind == MG_T_OPERATOR && token.text.len == 1 ? token.text.ptr[0] : 0;
		depth += (c == '(' || c == '[') - (c == ')' || c == ']');
		if (!item_start) {
			done = is_end(token);
			if (depth == 0 && is_word(token, "on")) {
				source = between(verb_end, at);
				item_start = at + token.text.len;
				mg_sb_addf(&text, "SELECT * FROM (PIVOT %.*s ON ", MG_STR_ARG(source));
			}
			continue;
		}
		done = is_end(token) || (depth == 0 && ends_items(token));
		if (done || (depth == 0 && c == ',')) {
			struct mg_str item = between(item_start, at);
			mg_sb_add_len(&text, item.ptr, item.len);
			code = listed || !item.len ? 0 : ask(engine, run, settings, source, item, &text, err);
			mg_sb_add(&text, done ? " " : ", ");
			item_start = done ? at : at + 1;
			listed = false;
		}
		listed |= depth == 0 && is_word(token, "in");
	}
	if (!code && item_start) {
		mg_sb_add_len(&text, item_start, (size_t)(end - item_start));
		mg_sb_add(&text, "\n)");
		*out = mg_arena_strdup(arena, mg_sb_text(&text));
	}
	mg_sb_fini(&text);
	return code;
}
