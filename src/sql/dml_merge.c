/*
 * dml_merge.c - the head of MERGE.
 *
 *     MERGE INTO table [AS alias] USING source {ON condition | USING (columns)}
 *     WHEN [NOT] MATCHED [BY SOURCE | BY TARGET] [AND condition] THEN ...
 *     [WHEN ...] [RETURNING ...]
 *
 * The source may be a join with conditions of its own: the last ON or USING in front of the first
 * WHEN is MERGE's.  A WHEN without a condition comes last of its kind, wherever it stands, as in
 * DuckDB.
 */
#include "sql/dml_int.h"

#include <string.h>

#define WHENS_MAX 1000

static const char *const when_words[] = { "when", "returning", NULL };

/* ---- the source ---- */

/* The name by which all columns of the source can be asked for. */
static const char *find_alias(struct mg_arena *arena, struct mg_str source)
{
	struct mg_cursor cursor;
	struct mg_error ignored = { 0 };
	const char *name = "unnamed_subquery";
	int code = 0;

	mg_cursor_init(&cursor, arena, source, &ignored);
	if (mg_token_is_sign(cursor.token, '(')) {
		code = mg_cursor_skip_parens(&cursor);
	} else {
		do {
			code = mg_cursor_take_name(&cursor, "a table", &name);
		} while (!code && mg_cursor_take_sign(&cursor, '.'));
		if (!code && mg_token_is_sign(cursor.token, '(')) {
			code = mg_cursor_skip_parens(&cursor);
		}
	}
	if (!code && !mg_token_is_end(cursor.token)) {
		(void)mg_cursor_take(&cursor, "as");
		code = mg_cursor_take_name(&cursor, "an alias", &name);
	}
	if (!code && mg_token_is_sign(cursor.token, '(')) {
		code = mg_cursor_skip_parens(&cursor);
	}
	return code || !mg_token_is_end(cursor.token) ? NULL : name;
}

static int take_source(struct mg_cursor *cursor, struct mg_dml *out)
{
	const char *start = cursor->token.text.ptr, *join = NULL;
	struct mg_token before = { MG_T_END, { "", 0 } };
	struct mg_str whole;
	size_t depth = 0;

	while (!mg_token_is_end(cursor->token) && (depth || !mg_token_is(cursor->token, "when"))) {
		bool name = mg_token_is(before, "as") || mg_token_is_sign(before, '.');

		if (!depth && !name && cursor->token.text.ptr > start &&
		    (mg_token_is(cursor->token, "on") || mg_token_is(cursor->token, "using"))) {
			join = cursor->token.text.ptr;
		}
		depth += mg_token_is_sign(cursor->token, '(') || mg_token_is_sign(cursor->token, '[') ||
		         mg_token_is_sign(cursor->token, '{');
		depth -= depth && (mg_token_is_sign(cursor->token, ')') ||
		                   mg_token_is_sign(cursor->token, ']') ||
		                   mg_token_is_sign(cursor->token, '}'));
		if (!depth && !name && join && mg_token_is(cursor->token, "case")) {
			/* Its WHENs are not ours. */
			static const char *const end[] = { "end", NULL };
			const struct mg_dml_ends ends = { .words = end, .cases = true };
			int code;

			mg_cursor_next(cursor);
			code = mg_dml__take_text(cursor, &ends, &whole);
			if (code) {
				return code;
			}
		}
		before = cursor->token;
		if (!mg_token_is_end(cursor->token)) {
			mg_cursor_next(cursor);
		}
	}
	if (!join) {
		return mg_cursor_expected(cursor, "ON or USING behind the source of MERGE");
	}
	out->source = mg_cursor_between(start, join);
	out->join = mg_cursor_between(join, cursor->end);
	out->source_alias = find_alias(cursor->arena, out->source);
	return 0;
}

/* ---- WHEN ---- */

static int take_match(struct mg_cursor *cursor, struct mg_dml_when *when)
{
	static const char *const then[] = { "then", NULL };
	const struct mg_dml_ends ends = { .words = then, .cases = true };
	bool not = mg_cursor_take(cursor, "not");

	if (!mg_cursor_take(cursor, "matched")) {
		return mg_cursor_expected(cursor, "MATCHED");
	}
	when->match = not ? MG_DML_NOT_MATCHED : MG_DML_MATCHED;
	if (not && mg_cursor_take(cursor, "by")) {
		if (mg_cursor_take(cursor, "source")) {
			when->match = MG_DML_NOT_MATCHED_BY_SOURCE;
		} else if (!mg_cursor_take(cursor, "target")) {
			return mg_cursor_expected(cursor, "SOURCE or TARGET");
		}
	}
	int code = mg_cursor_take(cursor, "and")
	               ? mg_dml__take_some_text(cursor, &ends, "a condition", &when->condition)
	               : 0;

	return code || mg_cursor_take(cursor, "then") ? code : mg_cursor_expected(cursor, "THEN");
}

/* [BY NAME | BY POSITION] [*] */
static int take_all(struct mg_cursor *cursor, struct mg_dml_when *when)
{
	when->all = true;
	if (mg_cursor_take(cursor, "by")) {
		when->by_name = mg_cursor_take(cursor, "name");
		if (!when->by_name && !mg_cursor_take(cursor, "position")) {
			return mg_cursor_expected(cursor, "NAME or POSITION");
		}
	}
	(void)mg_cursor_take_sign(cursor, '*');
	return 0;
}

static int take_values(struct mg_cursor *cursor, struct mg_dml_when *when)
{
	const char *start = cursor->token.text.ptr;
	int code = mg_token_is_sign(cursor->token, '(') ? mg_cursor_skip_parens(cursor)
	                                                : mg_cursor_expected(cursor, "\"(\"");

	if (code) {
		return code;
	}
	when->value_count = mg_dml__split_row(cursor->arena, mg_cursor_between(start, cursor->end),
	                                      &when->values);
	/* A comma may stand behind the last value. */
	when->value_count -= when->value_count > 1 && !when->values[when->value_count - 1].len;
	if (!when->value_count ||
	    (when->column_count && when->column_count != when->value_count)) {
		return mg_error_set(cursor->err, MG_E_SYNTAX, "INSERT of %zu columns has %zu values",
		                    when->column_count, when->value_count);
	}
	return 0;
}

static int take_insert(struct mg_cursor *cursor, struct mg_dml_when *when)
{
	int code = 0;

	when->then = MG_DML_THEN_INSERT;
	if (mg_cursor_take_two(cursor, "default", "values")) {
		return 0;
	}
	if (mg_dml__is_column_list(cursor)) {
		code = mg_dml__take_columns(cursor, &when->columns, &when->column_count);
	} else if (!mg_token_is(cursor->token, "values")) {
		return take_all(cursor, when);
	}
	if (!code && !mg_cursor_take(cursor, "values")) {
		code = mg_cursor_expected(cursor, "VALUES");
	}
	return code ? code : take_values(cursor, when);
}

static int take_update(struct mg_cursor *cursor, struct mg_dml *out, struct mg_dml_when *when)
{
	when->then = MG_DML_THEN_UPDATE;
	if (mg_token_is(cursor->token, "set") && mg_token_is_sign(mg_cursor_peek(cursor), '*')) {
		mg_cursor_next(cursor);
		return take_all(cursor, when);
	}
	if (!mg_token_is(cursor->token, "set")) {
		return take_all(cursor, when);
	}
	out->sets = NULL;
	out->set_count = 0;
	int code = mg_dml__take_sets(cursor, when_words, out);

	when->sets = out->sets;
	when->set_count = out->set_count;
	out->sets = NULL;
	out->set_count = 0;
	return code;
}

static int take_then(struct mg_cursor *cursor, struct mg_dml *out, struct mg_dml_when *when)
{
	const struct mg_dml_ends ends = { .words = when_words, .cases = true };
	int code = 0;

	if (mg_cursor_take(cursor, "update")) {
		code = take_update(cursor, out, when);
	} else if (mg_cursor_take(cursor, "delete")) {
		when->then = MG_DML_THEN_DELETE;
	} else if (mg_cursor_take(cursor, "insert")) {
		code = take_insert(cursor, when);
	} else if (mg_cursor_take_two(cursor, "do", "nothing")) {
		when->then = MG_DML_THEN_NOTHING;
	} else if (mg_cursor_take(cursor, "error")) {
		when->then = MG_DML_THEN_ERROR;
		code = mg_dml__take_text(cursor, &ends, &when->message);
	} else {
		code = mg_cursor_expected(cursor, "UPDATE, DELETE, INSERT, DO NOTHING or ERROR");
	}
	if (!code && when->match == MG_DML_NOT_MATCHED &&
	    (when->then == MG_DML_THEN_UPDATE || when->then == MG_DML_THEN_DELETE)) {
		code = mg_error_set(cursor->err, MG_E_SYNTAX,
		                    "WHEN NOT MATCHED (BY TARGET) cannot be combined with UPDATE or DELETE "
		                    "actions");
		mg_error_hint(cursor->err,
		              "Did you mean to use WHEN MATCHED or WHEN NOT MATCHED BY SOURCE?");
	}
	return code;
}

/* Those without a condition behind the others. */
static void order(struct mg_arena *arena, struct mg_dml *out)
{
	struct mg_dml_when *sorted = mg_arena_new_array(arena, struct mg_dml_when, out->when_count);
	size_t count = 0;

	for (int last = 0; last < 2; last++) {
		for (size_t i = 0; i < out->when_count; i++) {
			if ((out->whens[i].condition.len == 0) == (last == 1)) {
				sorted[count++] = out->whens[i];
			}
		}
	}
	out->whens = sorted;
}

static int take_whens(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const names[] = { "MATCHED", "NOT MATCHED", "NOT MATCHED BY SOURCE" };
	struct mg_dml_when *whens = NULL;
	size_t cap = 0;
	bool always[MG_DML_MATCH_COUNT] = { false };
	int code = 0;

	while (!code && mg_cursor_take(cursor, "when")) {
		if (out->when_count == WHENS_MAX) {
			return mg_error_set(cursor->err, MG_E_LIMIT, "more than %d WHEN", WHENS_MAX);
		}
		if (out->when_count == cap) {
			size_t more = cap ? cap * 2 : 8;
			struct mg_dml_when *grown =
				mg_arena_new_array(cursor->arena, struct mg_dml_when, more);

			if (cap) {
				memcpy(grown, whens, cap * sizeof *whens);
			}
			whens = grown;
			cap = more;
		}
		struct mg_dml_when *when = &whens[out->when_count++];

		*when = (struct mg_dml_when){ 0 };
		code = take_match(cursor, when);
		code = code ? code : take_then(cursor, out, when);
		if (!code && !when->condition.len && always[when->match]) {
			code = mg_error_set(cursor->err, MG_E_SYNTAX,
			                    "a WHEN %s without a condition was already defined",
			                    names[when->match]);
		}
		always[when->match] = always[when->match] || !when->condition.len;
	}
	out->whens = whens;
	if (!code && !out->when_count) {
		code = mg_cursor_expected(cursor, "WHEN");
	}
	if (!code) {
		order(cursor->arena, out);
	}
	return code;
}

int mg_dml__take_merge(struct mg_cursor *cursor, struct mg_dml *out)
{
	static const char *const words[] = { "using", NULL };
	int code = mg_cursor_take(cursor, "into") ? 0 : mg_cursor_expected(cursor, "INTO");

	code = code ? code : mg_dml__take_target(cursor, words, out);
	if (!code && !mg_cursor_take(cursor, "using")) {
		code = mg_cursor_expected(cursor, "USING");
	}
	code = code ? code : take_source(cursor, out);
	code = code ? code : take_whens(cursor, out);
	return code ? code : mg_dml__take_returning(cursor, out);
}
