/*
 * params.c - see params.h.
 *
 * Rule: every value that was given is used and every parameter has a value; else a user who
 * counted wrong would get an answer to another question.
 *
 * Limits: MG_PARAMS_MAX values, nesting of VALUE_DEPTH_MAX.
 */
#include "session/params.h"

#include "sql/statement.h"

#include <ctype.h>
#include <string.h>

enum { PARAMS_MAX = 10000, VALUE_DEPTH_MAX = 64 };

struct binding {
	struct mg_arena *arena;
	const struct mg_json *params;
	const struct mg_json **values; /* of an array, by index */
	bool *used;
	size_t count, next; /* next: of the plain ? */
	bool plain, numbered;
	struct mg_sb *out;
	struct mg_error *err;
};

/* ---- literals ---- */

static int add_value(struct binding *binding, const struct mg_json *value, int depth);

/* A JSON number is digits, sign, point and exponent; our reader lets NaN and infinities pass. */
static int add_number(struct binding *binding, struct mg_str text)
{
	bool whole = true;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (!isdigit((unsigned char)c) && !(c == '-' && i == 0)) {
			whole = false;
		}
		if (!isdigit((unsigned char)c) && !strchr("+-.eE", c)) {
			int code =
				mg_error_set(binding->err, MG_E_USAGE, "parameter value %.*s is no number",
			                 (int)(text.len < 40 ? text.len : 40), text.ptr);

			mg_error_hint(binding->err, "JSON has no such number: send the string \"nan\", "
			                            "\"inf\" or \"-inf\".");
			return code;
		}
	}
	if (whole) {
		mg_sb_addf(binding->out, text.ptr[0] == '-' ? "(%.*s)" : "%.*s", MG_STR_ARG(text));
	} else {
		mg_sb_addf(binding->out, "CAST('%.*s' AS DOUBLE)", MG_STR_ARG(text));
	}
	return 0;
}

static int add_text(struct binding *binding, struct mg_str text)
{
	if (memchr(text.ptr, '\0', text.len)) {
		return mg_error_set(binding->err, MG_E_USAGE, "a parameter value holds a zero character");
	}
	mg_sb_add_literal(binding->out, text.ptr, text.len);
	return 0;
}

static int add_list(struct binding *binding, const struct mg_json *list, int depth)
{
	mg_sb_add_char(binding->out, '[');
	mg_json_each(item, list) {
		if (item != list->child) {
			mg_sb_add(binding->out, ", ");
		}
		int code = add_value(binding, item, depth + 1);

		if (code) {
			return code;
		}
	}
	mg_sb_add_char(binding->out, ']');
	return 0;
}

static int add_struct(struct binding *binding, const struct mg_json *object, int depth)
{
	if (!object->child) {
		return mg_error_set(binding->err, MG_E_USAGE,
		                    "a parameter value is an object without members");
	}
	mg_sb_add_char(binding->out, '{');
	mg_json_each(item, object) {
		if (item != object->child) {
			mg_sb_add(binding->out, ", ");
		}
		int code = add_text(binding, item->key);

		if (code) {
			return code;
		}
		mg_sb_add(binding->out, ": ");
		code = add_value(binding, item, depth + 1);
		if (code) {
			return code;
		}
	}
	mg_sb_add_char(binding->out, '}');
	return 0;
}

static int add_value(struct binding *binding, const struct mg_json *value, int depth)
{
	if (depth > VALUE_DEPTH_MAX) {
		return mg_error_set(binding->err, MG_E_USAGE, "a parameter value is nested deeper than %d",
		                    VALUE_DEPTH_MAX);
	}
	switch (value->kind) {
	case MG_JSON_NULL:
		mg_sb_add(binding->out, "NULL");
		return 0;
	case MG_JSON_FALSE:
		mg_sb_add(binding->out, "FALSE");
		return 0;
	case MG_JSON_TRUE:
		mg_sb_add(binding->out, "TRUE");
		return 0;
	case MG_JSON_NUMBER:
		return add_number(binding, value->text);
	case MG_JSON_STRING:
		return add_text(binding, value->text);
	case MG_JSON_ARRAY:
		return add_list(binding, value, depth);
	case MG_JSON_OBJECT:
		return add_struct(binding, value, depth);
	}
	return mg_error_set(binding->err, MG_E_INTERNAL, "unknown kind of JSON value %d",
	                    (int)value->kind);
}

/* ---- which value ---- */

static int find_named(struct binding *binding, struct mg_str name, const struct mg_json **value)
{
	size_t index = 0;

	if (name.len >= 2 && name.ptr[0] == '"') {
		name = (struct mg_str){ name.ptr + 1, name.len - 2 };
	}
	if (!mg_json_is(binding->params, MG_JSON_OBJECT)) {
		return mg_error_set(binding->err, MG_E_USAGE,
		                    "parameter \"$%.*s\" needs \"params\" to be an object",
		                    MG_STR_ARG(name));
	}
	mg_json_each(item, binding->params) {
		if (mg_str_eq_nocase(item->key, name)) {
			binding->used[index] = true;
			*value = item;
			return 0;
		}
		index++;
	}
	return mg_error_set(binding->err, MG_E_USAGE, "no value for parameter \"$%.*s\"",
	                    MG_STR_ARG(name));
}

static int find_index(struct binding *binding, size_t index, const struct mg_json **value)
{
	if (mg_json_is(binding->params, MG_JSON_OBJECT)) {
		return mg_error_set(binding->err, MG_E_USAGE, "parameter %zu needs \"params\" to be a list",
		                    index + 1);
	}
	if (index >= binding->count) {
		return mg_error_set(binding->err, MG_E_USAGE, "no value for parameter %zu, %zu given",
		                    index + 1, binding->count);
	}
	binding->used[index] = true;
	*value = binding->values[index];
	return 0;
}

static int find_value(struct binding *binding, struct mg_str token, const struct mg_json **value)
{
	struct mg_str name = { token.ptr + 1, token.len - 1 };
	size_t number = 0;

	if (name.len == 0) {
		binding->plain = true;
	} else if (isdigit((unsigned char)name.ptr[0])) {
		binding->numbered = true;
		for (size_t i = 0; i < name.len && number <= PARAMS_MAX; i++) {
			number = number * 10 + (size_t)(name.ptr[i] - '0');
		}
		if (number == 0 || number > PARAMS_MAX) {
			return mg_error_set(binding->err, MG_E_USAGE, "there is no parameter \"%.*s\"",
			                    (int)(token.len < 40 ? token.len : 40), token.ptr);
		}
	} else {
		return find_named(binding, name, value);
	}
	if (binding->plain && binding->numbered) {
		return mg_error_set(binding->err, MG_E_USAGE,
		                    "parameters with and without numbers are mixed");
	}
	return find_index(binding, number ? number - 1 : binding->next++, value);
}

static int substitute(struct binding *binding, struct mg_str sql)
{
	struct mg_lexer lexer;
	const char *copied = sql.ptr;

	mg_lex_init(&lexer, sql);
	for (;;) {
		struct mg_token token = mg_lex_next(&lexer);
		const struct mg_json *value = NULL;

		if (token.kind == MG_T_END || token.kind == MG_T_BAD) {
			break; /* what is bad is left to the statement's own reader */
		}
		if (token.kind != MG_T_PARAM) {
			continue;
		}
		int code = find_value(binding, token.text, &value);

		if (code) {
			return code;
		}
		mg_sb_add_len(binding->out, copied, (size_t)(token.text.ptr - copied));
		mg_sb_add_char(binding->out, ' ');
		code = add_value(binding, value, 0);
		if (code) {
			return code;
		}
		mg_sb_add_char(binding->out, ' ');
		copied = token.text.ptr + token.text.len;
	}
	mg_sb_add_len(binding->out, copied, (size_t)(sql.ptr + sql.len - copied));
	return 0;
}

static int check_used(const struct binding *binding)
{
	size_t used = 0;

	for (size_t i = 0; i < binding->count; i++) {
		used += binding->used[i];
	}
	if (used < binding->count) {
		return mg_error_set(binding->err, MG_E_USAGE,
		                    "%zu parameter values are given, the statement uses %zu",
		                    binding->count, used);
	}
	return 0;
}

int mg_params_bind(struct mg_arena *arena, struct mg_str sql, const struct mg_json *params,
                   struct mg_str *out, struct mg_error *err)
{
	struct mg_sb text = { 0 };
	struct binding binding = { .arena = arena, .params = params, .out = &text, .err = err };

	if (mg_json_is(params, MG_JSON_NULL)) {
		binding.params = params = NULL;
	}
	if (params && params->kind != MG_JSON_ARRAY && params->kind != MG_JSON_OBJECT) {
		return mg_error_set(err, MG_E_USAGE, "\"params\" must be a list or an object");
	}
	if (params && params->count > PARAMS_MAX) {
		return mg_error_set(err, MG_E_USAGE, "more than %d parameter values", PARAMS_MAX);
	}
	if (params) {
		binding.values = mg_arena_alloc(arena, (params->count + 1) * sizeof *binding.values);
		binding.used = mg_arena_new_array(arena, bool, params->count + 1);
		mg_json_each(item, params) {
			binding.values[binding.count++] = item;
		}
	}
	int code = substitute(&binding, sql);

	if (!code) {
		code = check_used(&binding);
	}
	if (!code) {
		*out = (struct mg_str){ mg_arena_strndup(arena, mg_sb_text(&text), text.len), text.len };
	}
	mg_sb_fini(&text);
	return code;
}
