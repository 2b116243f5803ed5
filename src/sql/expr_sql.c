/*
 * expr_sql.c - bound expressions as SQL text.
 *
 * A bound expression has every cast in it, so its text must not gain others when it is bound again.
 * Decimal arithmetic does: 16,2 - 16,2 becomes 17,2; so decimal results of functions are cast to
 * the plan's type, and widening casts that arithmetic would do by itself are left out under it
 * (they would widen once more and leave 64 bits).  What the binder took out of the arguments is put
 * back from function_data.
 *
 * Pure; any thread.
 */
#include "sql/sql_text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define unsupported(err, ...) mg_error_set((err), MG_E_UNSUPPORTED, __VA_ARGS__)

/* What a reference inside a lambda's body means: parameter, or a capture of the function. */
struct lambda_scope {
	const struct mg_expr *function;
	size_t params, first_capture;
	unsigned depth; /* names the parameters: p<depth>_<i> */
	const struct lambda_scope *outer;
};

struct printer {
	struct mg_sb *sb;
	const struct mg_expr_scope *scope;
	const struct lambda_scope *lambda; /* NULL outside of lambda bodies */
	bool inside;                       /* of an expression, not alone */
	struct mg_error *err;
};

static int print(struct printer *printer, const struct mg_expr *expr);

const char *mg_compare_text(const char *kind)
{
	static const char *const texts[][2] = {
		{ "COMPARE_EQUAL", "=" },
		{ "COMPARE_NOTEQUAL", "<>" },
		{ "COMPARE_LESSTHAN", "<" },
		{ "COMPARE_GREATERTHAN", ">" },
		{ "COMPARE_LESSTHANOREQUALTO", "<=" },
		{ "COMPARE_GREATERTHANOREQUALTO", ">=" },
		{ "COMPARE_NOT_DISTINCT_FROM", "IS NOT DISTINCT FROM" },
		{ "COMPARE_DISTINCT_FROM", "IS DISTINCT FROM" },
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (strcmp(kind, texts[i][0]) == 0) {
			return texts[i][1];
		}
	}
	return NULL;
}

static bool text_in(const char *text, const char *const *list)
{
	for (; *list; list++) {
		if (strcmp(text, *list) == 0) {
			return true;
		}
	}
	return false;
}

static void add(struct printer *printer, const char *text)
{
	mg_sb_add(printer->sb, text);
}

static int print_list(struct printer *printer, struct mg_expr *const *exprs, size_t count,
                      const char *between)
{
	for (size_t i = 0; i < count; i++) {
		add(printer, i ? between : "");
		int code = print(printer, exprs[i]);

		if (code) {
			return code;
		}
	}
	return 0;
}

static int print_orders(struct printer *printer, const struct mg_order *orders, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		bool inside = printer->inside;

		add(printer, i ? ", " : "");
		printer->inside = false;
		int code = print(printer, orders[i].expr);

		printer->inside = inside;

		if (code) {
			return code;
		}
		add(printer, orders[i].descending ? " DESC" : " ASC");
		add(printer, orders[i].nulls_first ? " NULLS FIRST" : " NULLS LAST");
	}
	return 0;
}

/* open a between b close */
static int print_pair(struct printer *printer, const char *open, const struct mg_expr *a,
                      const char *between, const struct mg_expr *b, const char *close)
{
	add(printer, open);
	int code = print(printer, a);

	add(printer, between);
	code = code ? code : print(printer, b);
	add(printer, close);
	return code;
}

/* SQL template: {0} {1} ... stand for the kids; any other brace is itself. */
static int print_raw(struct printer *printer, const struct mg_expr *expr)
{
	const char *at = expr->name;

	while (*at) {
		if (*at == '{' && isdigit((unsigned char)at[1])) {
			char *end;
			unsigned long index = strtoul(at + 1, &end, 10);

			if (*end == '}' && index < expr->kid_count) {
				int code = print(printer, expr->kids[index]);

				if (code) {
					return code;
				}
				at = end + 1;
				continue;
			}
		}
		mg_sb_add_char(printer->sb, *at++);
	}
	return 0;
}

/* ---- references ---- */

static int print_ref(struct printer *printer, const struct mg_expr *expr)
{
	const struct mg_expr_scope *scope = printer->scope;
	size_t index = expr->index;

	if (!scope) {
		return unsupported(printer->err, "column where there is none");
	}
	if (scope->right && index >= scope->left_count) {
		mg_sb_addf(printer->sb, "%s.c%zu", scope->right, index - scope->left_count);
	} else if (scope->left) {
		mg_sb_addf(printer->sb, "%s.c%zu", scope->left, index);
	} else {
		mg_sb_addf(printer->sb, "c%zu", index);
	}
	return 0;
}

/* Reference in a lambda's body: parameters count from the last one, then come the captures. */
static int print_lambda_ref(struct printer *printer, const struct mg_expr *expr)
{
	const struct lambda_scope *lambda = printer->lambda;

	if (!lambda) {
		return unsupported(printer->err, "lambda parameter outside of a lambda");
	}
	if (expr->index < lambda->params) {
		mg_sb_addf(printer->sb, "p%u_%zu", lambda->depth, lambda->params - 1 - expr->index);
		return 0;
	}
	size_t kid = lambda->first_capture + expr->index - lambda->params;

	if (kid >= lambda->function->kid_count) {
		return unsupported(printer->err, "lambda capture that is not there");
	}
	/* The captured expression stands outside of this lambda. */
	printer->lambda = lambda->outer;
	int code = print(printer, lambda->function->kids[kid]);

	printer->lambda = lambda;
	return code;
}

/* ---- functions ---- */

static int print_lambda(struct printer *printer, const struct mg_expr *expr)
{
	const struct mg_json *data = mg_json_get(expr->json, "function_data");
	bool reduce = strstr(expr->name, "reduce") != NULL;
	bool initial = mg_json_get_bool(data, "has_initial", false);
	struct lambda_scope scope = {
		.function = expr,
		.params = (reduce ? 2u : 1u) + (mg_json_get_bool(data, "has_index", false) ? 1u : 0u),
		.first_capture = initial ? 2 : 1,
		.depth = printer->lambda ? printer->lambda->depth + 1 : 0,
		.outer = printer->lambda,
	};

	if (expr->kid_count < scope.first_capture) {
		return unsupported(printer->err, "function %s without its list", expr->name);
	}
	mg_sb_add_ident(printer->sb, expr->name);
	add(printer, "(");
	int code = print(printer, expr->kids[0]);

	add(printer, ", lambda ");
	for (size_t i = 0; i < scope.params; i++) {
		mg_sb_addf(printer->sb, "%sp%u_%zu", i ? ", " : "", scope.depth, i);
	}
	add(printer, ": ");
	printer->lambda = &scope;
	code = code ? code : print(printer, expr->lambda);
	printer->lambda = scope.outer;
	if (initial && !code) {
		add(printer, ", ");
		code = print(printer, expr->kids[1]);
	}
	add(printer, ")");
	return code;
}

/* name("a" := x, ...): field names are the type's, or the arguments' aliases. */
static int print_named(struct printer *printer, const struct mg_expr *expr, size_t plain)
{
	const struct mg_type *type = expr->type;

	mg_sb_add_ident(printer->sb, expr->name);
	add(printer, "(");
	for (size_t i = 0; i < expr->kid_count; i++) {
		const struct mg_expr *kid = expr->kids[i];
		const char *name = i < plain ? NULL : kid->alias;

		add(printer, i ? ", " : "");
		if (!plain) { /* struct_pack, union_value */
			name = i < type->name_count ? type->names[i] : NULL;
		}
		if (i >= plain) {
			if (!name || !*name) {
				return unsupported(printer->err, "function %s without field names", expr->name);
			}
			mg_sb_add_ident(printer->sb, name);
			add(printer, " := ");
		}
		int code = print(printer, kid);

		if (code) {
			return code;
		}
	}
	add(printer, ")");
	return 0;
}

static int print_list_aggregate(struct printer *printer, const struct mg_expr *expr)
{
	const struct mg_json *bind = mg_json_get(mg_json_get(expr->json, "function_data"), "bind_data");
	const struct mg_json *inner = mg_json_get(mg_json_get(bind, "aggr_expr"), "function_data");
	const char *separator = mg_json_get_text(inner, "separator");

	mg_sb_add_ident(printer->sb, expr->name);
	add(printer, "(");
	int code = print_list(printer, expr->kids, expr->kid_count, ", ");

	if (separator) {
		add(printer, ", ");
		mg_sb_add_literal(printer->sb, separator, strlen(separator));
	}
	add(printer, ")");
	return code;
}

/* date_part(['year', 'month'], x): the list has become the names of the result's fields. */
static int print_date_parts(struct printer *printer, const struct mg_expr *expr)
{
	add(printer, "date_part([");
	for (size_t i = 0; i < expr->type->name_count; i++) {
		add(printer, i ? ", " : "");
		mg_sb_add_literal(printer->sb, expr->type->names[i], strlen(expr->type->names[i]));
	}
	add(printer, "], ");
	int code = print_list(printer, expr->kids, expr->kid_count, ", ");

	add(printer, ")");
	return code;
}

/* Operators with a function's name that can be called as one, where an infix text would be taken
 * for something else. */
static const char *callable_name(const char *name, size_t kids)
{
	static const char *const names[][2] = {
		{ "->", "json_extract" },
		{ "->>", "json_extract_string" },
		{ "!__postfix", "factorial" },
		{ "@", "abs" },
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(name, names[i][0]) == 0 && kids == (i < 2 ? 2 : 1)) {
			return names[i][1];
		}
	}
	return NULL;
}

static int print_symbol(struct printer *printer, const struct mg_expr *expr)
{
	const char *name = callable_name(expr->name, expr->kid_count);
	int code;

	if (name) {
		mg_sb_add_ident(printer->sb, name);
		add(printer, "(");
		code = print_list(printer, expr->kids, expr->kid_count, ", ");
	} else if (expr->kid_count == 2) {
		mg_sb_addf(printer->sb, "(");
		code = print(printer, expr->kids[0]);
		mg_sb_addf(printer->sb, " %s ", expr->name);
		code = code ? code : print(printer, expr->kids[1]);
	} else if (expr->kid_count == 1) {
		mg_sb_addf(printer->sb, "(%s ", expr->name);
		code = print(printer, expr->kids[0]);
	} else {
		return unsupported(printer->err, "function %s of %zu arguments", expr->name,
		                   expr->kid_count);
	}
	add(printer, ")");
	return code;
}

static int print_operand(struct printer *printer, const struct mg_expr *expr)
{
	struct mg_type narrow;
	expr = mg_decimal_bare(expr);
	if (mg_decimal_narrow(expr, &narrow)) {
		return mg_value_text(printer->sb, expr->json, &narrow, printer->err);
	}
	return print(printer, expr);
}

static int print_arithmetic(struct printer *printer, const struct mg_expr *expr)
{
	add(printer, "(");
	int code = print_operand(printer, expr->kids[0]);
	mg_sb_addf(printer->sb, " %s ", expr->name);
	code = code ? code : print_operand(printer, expr->kids[1]);
	add(printer, ")");
	return code;
}

static int print_decimal(struct printer *printer, const struct mg_expr *expr)
{
	int code;

	if (mg_decimal_is_arithmetic(expr) && mg_decimal_binds_alike(expr)) {
		return print_arithmetic(printer, expr);
	}
	add(printer, "CAST(");
	if (mg_decimal_is_arithmetic(expr)) {
		code = print_arithmetic(printer, expr);
	} else if (!isalpha((unsigned char)expr->name[0]) && expr->name[0] != '_') {
		code = print_symbol(printer, expr);
	} else {
		mg_sb_add_ident(printer->sb, expr->name);
		add(printer, "(");
		code = print_list(printer, expr->kids, expr->kid_count, ", ");
		add(printer, ")");
	}
	mg_sb_addf(printer->sb, " AS DECIMAL(%d,%d))", expr->type->width, expr->type->scale);
	return code;
}

/* A bound that was left out has become an empty list, which no function call takes. */
static bool is_open_bound(const struct mg_expr *expr)
{
	return expr->cls == MG_X_CONST && mg_type_is(expr->type, "LIST");
}

/* (list)[begin:end:step]; an open end before a step is written "-". */
static int print_slice(struct printer *printer, const struct mg_expr *expr)
{
	add(printer, "(");
	int code = print(printer, expr->kids[0]);

	for (size_t i = 1; !code && i < expr->kid_count; i++) {
		add(printer, i == 1 ? ")[" : ":");
		if (!is_open_bound(expr->kids[i])) {
			code = print(printer, expr->kids[i]);
		} else if (i == 2 && expr->kid_count == 4) {
			add(printer, "-");
		}
	}
	add(printer, "]");
	return code;
}

static int print_function(struct printer *printer, const struct mg_expr *expr)
{
	static const char *const slices[] = { "array_slice", "list_slice", NULL };
	static const char *const from_type[] = { "struct_pack", "union_value", NULL };
	static const char *const from_alias[] = { "struct_insert", "struct_update", NULL };
	const struct mg_json *data = mg_json_get(expr->json, "function_data");

	if (expr->lambda) {
		return print_lambda(printer, expr);
	}
	if (text_in(expr->name, from_type)) {
		return print_named(printer, expr, 0);
	}
	if (text_in(expr->name, from_alias)) {
		return print_named(printer, expr, 1);
	}
	if (text_in(expr->name, slices) && expr->kid_count > 2 &&
	    (is_open_bound(expr->kids[1]) || is_open_bound(expr->kids[2]))) {
		return print_slice(printer, expr);
	}
	if (mg_json_get(data, "part_codes")) {
		return print_date_parts(printer, expr);
	}
	if (mg_json_get(data, "bind_data")) {
		return print_list_aggregate(printer, expr);
	}
	if (mg_type_is(expr->type, "DECIMAL")) {
		return print_decimal(printer, expr);
	}
	if (!isalpha((unsigned char)expr->name[0]) && expr->name[0] != '_') {
		return print_symbol(printer, expr);
	}
	mg_sb_add_ident(printer->sb, expr->name);
	add(printer, "(");
	int code = print_list(printer, expr->kids, expr->kid_count, ", ");

	add(printer, ")");
	return code;
}

/* ---- aggregates and windows ---- */

/* One quantile: a value object or a bare number; a descending order is written as a minus. */
static int print_quantile(struct printer *printer, const struct mg_json *value, bool descending)
{
	struct mg_sb sb = { 0 };
	int code = 0;

	if (mg_json_is(value, MG_JSON_NUMBER)) {
		mg_sb_add(&sb, mg_json_text(value));
	} else {
		static const struct mg_type plain = { .id = "DOUBLE" };
		struct mg_type type = plain;
		const struct mg_json *json = mg_json_get(value, "type");
		const struct mg_json *info = mg_json_get(json, "type_info");

		type.id = mg_json_get_text(json, "id") ? mg_json_get_text(json, "id") : "DOUBLE";
		type.width = (int)mg_json_get_int(info, "width", 18);
		type.scale = (int)mg_json_get_int(info, "scale", 0);
		code = mg_value_text(&sb, value, &type, printer->err);
	}
	mg_sb_addf(printer->sb, descending ? "(-%s)" : "%s", mg_sb_text(&sb));
	mg_sb_fini(&sb);
	return code;
}

static bool quantile_is_zero(const struct mg_json *value)
{
	const struct mg_json *inner = mg_json_is(value, MG_JSON_OBJECT) ? mg_json_get(value, "value")
	                                                                : value;

	return strtod(mg_json_text(inner), NULL) == 0;
}

static int print_quantiles(struct printer *printer, const struct mg_expr *expr,
                           const struct mg_json *data)
{
	const struct mg_json *quantiles = mg_json_get(data, "quantiles");
	bool descending = mg_json_get_bool(data, "desc", false);
	/* A list of quantiles answers a list, and so does one quantile of lists. */
	bool list = quantiles->count > 1 ||
	            (mg_type_is(expr->type, "LIST") &&
	             !(expr->kid_count && mg_type_equal(expr->type, expr->kids[0]->type)));
	size_t i = 0;

	add(printer, list ? ", [" : ", ");
	mg_json_each(value, quantiles) {
		if (descending && quantile_is_zero(value)) {
			return unsupported(printer->err, "descending quantile 0");
		}
		add(printer, i++ ? ", " : "");
		int code = print_quantile(printer, value, descending);

		if (code) {
			return code;
		}
	}
	add(printer, list ? "]" : "");
	return 0;
}

/* Arguments that the binder has moved into the bind data. */
static int print_bind_data(struct printer *printer, const struct mg_expr *expr)
{
	static const char *const fixed[] = { "median", "mad", NULL };
	static const char *const joins[] = { "string_agg", "group_concat", "listagg", NULL };
	const struct mg_json *data = mg_json_get(expr->json, "function_data");

	if (!mg_json_is(data, MG_JSON_OBJECT) || data->count == 0 || text_in(expr->name, fixed)) {
		return 0;
	}
	if (mg_json_get(data, "quantiles")) {
		int code = print_quantiles(printer, expr, data);

		if (!code && mg_json_get(data, "sample_size")) {
			mg_sb_addf(printer->sb, ", %s", mg_json_text(mg_json_get(data, "sample_size")));
		}
		return code;
	}
	if (text_in(expr->name, joins)) {
		const struct mg_json *separator = mg_json_get(data, "separator");

		add(printer, ", ");
		mg_sb_add_literal(printer->sb, mg_json_text(separator),
		                  separator ? separator->text.len : 0);
		return 0;
	}
	if (strcmp(expr->name, "bitstring_agg") == 0 &&
	    mg_json_get_bool(mg_json_get(data, "min"), "is_null", true)) {
		/* The engine takes them from statistics of the table, and moved rows have none. */
		return unsupported(printer->err, "bitstring_agg without bounds");
	}
	if (strcmp(expr->name, "bitstring_agg") == 0) {
		const struct mg_type *type = expr->kids[0]->type;

		add(printer, ", ");
		int code = mg_value_text(printer->sb, mg_json_get(data, "min"), type, printer->err);

		add(printer, ", ");
		return code ? code
		            : mg_value_text(printer->sb, mg_json_get(data, "max"), type, printer->err);
	}
	return unsupported(printer->err, "bind data of aggregate %s", expr->name);
}

static const char *aggregate_name(const char *name)
{
	return strcmp(name, "count_star") == 0        ? "count"
	       : strcmp(name, "sum_no_overflow") == 0 ? "sum"
	                                              : name;
}

static int print_filter(struct printer *printer, const struct mg_expr *filter)
{
	if (!filter) {
		return 0;
	}
	add(printer, " FILTER (WHERE ");
	int code = print(printer, filter);

	add(printer, ")");
	return code;
}

static int print_aggregate(struct printer *printer, const struct mg_expr *expr)
{
	const char *name = aggregate_name(expr->name);

	mg_sb_add_ident(printer->sb, name);
	add(printer, expr->distinct ? "(DISTINCT " : "(");
	if (!expr->kid_count && strcmp(name, "count") == 0) {
		add(printer, "*");
	}
	int code = print_list(printer, expr->kids, expr->kid_count, ", ");

	code = code ? code : print_bind_data(printer, expr);
	if (!code && expr->order_count) {
		add(printer, " ORDER BY ");
		code = print_orders(printer, expr->orders, expr->order_count);
	}
	add(printer, ")");
	return code ? code : print_filter(printer, expr->filter);
}

static const char *window_name(const struct mg_expr *expr)
{
	static const char *const names[][2] = {
		{ "WINDOW_RANK", "rank" },
		{ "WINDOW_ROW_NUMBER", "row_number" },
		{ "WINDOW_RANK_DENSE", "dense_rank" },
		{ "WINDOW_LAG", "lag" },
		{ "WINDOW_LEAD", "lead" },
		{ "WINDOW_NTILE", "ntile" },
		{ "WINDOW_FIRST_VALUE", "first_value" },
		{ "WINDOW_LAST_VALUE", "last_value" },
		{ "WINDOW_PERCENT_RANK", "percent_rank" },
		{ "WINDOW_CUME_DIST", "cume_dist" },
		{ "WINDOW_NTH_VALUE", "nth_value" },
		{ "WINDOW_FILL", "fill" },
	};

	if (strcmp(expr->kind, "WINDOW_AGGREGATE") == 0) {
		return expr->name && *expr->name ? aggregate_name(expr->name) : NULL;
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(expr->kind, names[i][0]) == 0) {
			return names[i][1];
		}
	}
	return NULL;
}

/* RANGE: the binder has turned the offset into key -/+ offset; the offset is the second argument.
 */
static int print_offset(struct printer *printer, const struct mg_expr *expr, bool range)
{
	if (!expr) {
		return unsupported(printer->err, "window frame without an offset");
	}
	if (range) {
		while (expr->cls == MG_X_CAST && expr->kid_count) {
			expr = expr->kids[0];
		}
		if (expr->cls != MG_X_FUNCTION || expr->kid_count != 2 ||
		    (strcmp(expr->name, "+") != 0 && strcmp(expr->name, "-") != 0)) {
			return unsupported(printer->err, "range frame");
		}
		expr = expr->kids[1];
	}
	return print(printer, expr);
}

static int print_bound(struct printer *printer, const char *bound, const struct mg_expr *expr)
{
	if (strcmp(bound, "UNBOUNDED_PRECEDING") == 0 || strcmp(bound, "UNBOUNDED_FOLLOWING") == 0) {
		add(printer, bound[10] == 'P' ? "UNBOUNDED PRECEDING" : "UNBOUNDED FOLLOWING");
		return 0;
	}
	if (strncmp(bound, "CURRENT_ROW", 11) == 0) {
		add(printer, "CURRENT ROW");
		return 0;
	}
	int code = print_offset(printer, expr, strstr(bound, "RANGE") != NULL);

	add(printer, strstr(bound, "PRECEDING") ? " PRECEDING" : " FOLLOWING");
	return code;
}

static int print_frame(struct printer *printer, const struct mg_window *window)
{
	static const char *const excludes[][2] = {
		{ "NO_OTHER", "" },
		{ "CURRENT_ROW", " EXCLUDE CURRENT ROW" },
		{ "GROUP", " EXCLUDE GROUP" },
		{ "TIES", " EXCLUDE TIES" },
	};
	const char *start = window->start, *end = window->end;
	const char *mode = strstr(start, "ROWS") || strstr(end, "ROWS")       ? "ROWS"
	                   : strstr(start, "GROUPS") || strstr(end, "GROUPS") ? "GROUPS"
	                                                                      : "RANGE";

	mg_sb_addf(printer->sb, " %s BETWEEN ", mode);
	int code = print_bound(printer, start, window->start_expr);

	add(printer, " AND ");
	code = code ? code : print_bound(printer, end, window->end_expr);
	for (size_t i = 0; i < sizeof excludes / sizeof *excludes; i++) {
		if (strcmp(window->exclude, excludes[i][0]) == 0) {
			add(printer, excludes[i][1]);
			return code;
		}
	}
	return unsupported(printer->err, "window exclusion %s", window->exclude);
}

static int print_window_args(struct printer *printer, const struct mg_expr *expr, const char *name)
{
	const struct mg_window *window = expr->window;
	bool shifts = strcmp(expr->kind, "WINDOW_LAG") == 0 || strcmp(expr->kind, "WINDOW_LEAD") == 0;
	int code = print_list(printer, expr->kids, expr->kid_count, ", ");

	if (!expr->kid_count && strcmp(name, "count") == 0) {
		add(printer, "*");
	}
	if (!code && shifts && window->offset_expr) {
		add(printer, ", ");
		code = print(printer, window->offset_expr);
	}
	if (!code && shifts && window->default_expr) {
		add(printer, window->offset_expr ? ", " : ", 1, ");
		code = print(printer, window->default_expr);
	}
	code = code ? code : print_bind_data(printer, expr);
	if (!code && window->arg_order_count) {
		add(printer, " ORDER BY ");
		code = print_orders(printer, window->arg_orders, window->arg_order_count);
	}
	return code;
}

static int print_over(struct printer *printer, const struct mg_expr *expr)
{
	static const char *const framed[] = { "WINDOW_AGGREGATE", "WINDOW_FIRST_VALUE",
		                                  "WINDOW_LAST_VALUE", "WINDOW_NTH_VALUE", NULL };
	const struct mg_window *window = expr->window;
	int code = 0;

	add(printer, " OVER (");
	if (window->partition_count) {
		add(printer, "PARTITION BY ");
		code = print_list(printer, window->partitions, window->partition_count, ", ");
	}
	if (!code && window->order_count) {
		add(printer, " ORDER BY ");
		code = print_orders(printer, window->orders, window->order_count);
	}
	bool plain = strcmp(window->start, "UNBOUNDED_PRECEDING") == 0 &&
	             strcmp(window->end, "CURRENT_ROW_RANGE") == 0;

	if (!code && (text_in(expr->kind, framed) || (window->arg_order_count && !plain))) {
		code = print_frame(printer, window);
	}
	add(printer, ")");
	return code;
}

static int print_window(struct printer *printer, const struct mg_expr *expr)
{
	const char *name = window_name(expr);

	if (!name) {
		return unsupported(printer->err, "window function %s", expr->kind);
	}
	mg_sb_add_ident(printer->sb, name);
	add(printer, expr->distinct ? "(DISTINCT " : "(");
	int code = print_window_args(printer, expr, name);

	add(printer, expr->window->ignore_nulls ? " IGNORE NULLS)" : ")");
	code = code ? code : print_filter(printer, expr->filter);
	return code ? code : print_over(printer, expr);
}

/* ---- the other classes ---- */

static int print_case(struct printer *printer, const struct mg_expr *expr)
{
	size_t last = expr->kid_count - 1;

	add(printer, "(CASE");
	for (size_t i = 0; i < last; i += 2) {
		int code = print_pair(printer, " WHEN ", expr->kids[i], " THEN ", expr->kids[i + 1], "");

		if (code) {
			return code;
		}
	}
	add(printer, " ELSE ");
	int code = print(printer, expr->kids[last]);

	add(printer, " END)");
	return code;
}

static int print_between(struct printer *printer, const struct mg_expr *expr)
{
	bool lower = mg_json_get_bool(expr->json, "lower_inclusive", true);
	bool upper = mg_json_get_bool(expr->json, "upper_inclusive", true);

	if (lower && upper) {
		add(printer, "(");
		int code = print(printer, expr->kids[0]);

		code = code ? code
		            : print_pair(printer, " BETWEEN ", expr->kids[1], " AND ", expr->kids[2], ")");
		return code;
	}
	int code =
		print_pair(printer, "(", expr->kids[0], lower ? " >= " : " > ", expr->kids[1], " AND ");

	return code
	           ? code
	           : print_pair(printer, "", expr->kids[0], upper ? " <= " : " < ", expr->kids[2], ")");
}

static int print_operator(struct printer *printer, const struct mg_expr *expr)
{
	static const char *const around[][3] = {
		{ "OPERATOR_IS_NULL", "(", " IS NULL)" },
		{ "OPERATOR_IS_NOT_NULL", "(", " IS NOT NULL)" },
		{ "OPERATOR_NOT", "(NOT ", ")" },
		{ "OPERATOR_TRY", "TRY(", ")" },
	};

	for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
		if (strcmp(expr->kind, around[i][0]) == 0 && expr->kid_count == 1) {
			add(printer, around[i][1]);
			int code = print(printer, expr->kids[0]);

			add(printer, around[i][2]);
			return code;
		}
	}
	if (strcmp(expr->kind, "OPERATOR_COALESCE") == 0) {
		add(printer, "COALESCE(");
		int code = print_list(printer, expr->kids, expr->kid_count, ", ");

		add(printer, ")");
		return code;
	}
	bool in = strcmp(expr->kind, "COMPARE_IN") == 0;

	if ((in || strcmp(expr->kind, "COMPARE_NOT_IN") == 0) && expr->kid_count > 1) {
		add(printer, "(");
		int code = print(printer, expr->kids[0]);

		add(printer, in ? " IN (" : " NOT IN (");
		code = code ? code : print_list(printer, expr->kids + 1, expr->kid_count - 1, ", ");
		add(printer, "))");
		return code;
	}
	return unsupported(printer->err, "operator %s", expr->kind);
}

static int print_cast(struct printer *printer, const struct mg_expr *expr)
{
	int code = mg_cast_open(printer->sb, expr->type, expr->try_cast, printer->err);

	code = code ? code : print(printer, expr->kids[0]);
	return code ? code : mg_cast_close(printer->sb, expr->type, printer->err);
}

static int print_compare(struct printer *printer, const struct mg_expr *expr)
{
	const char *sign = mg_compare_text(expr->kind);

	if (!sign || expr->kid_count != 2) {
		return unsupported(printer->err, "comparison %s", expr->kind);
	}
	add(printer, "(");
	int code = print(printer, expr->kids[0]);

	mg_sb_addf(printer->sb, " %s ", sign);
	code = code ? code : print(printer, expr->kids[1]);
	add(printer, ")");
	return code;
}

static int print_conjunction(struct printer *printer, const struct mg_expr *expr)
{
	if (!expr->kid_count) {
		return unsupported(printer->err, "conjunction of nothing");
	}
	add(printer, "(");
	int code = print_list(printer, expr->kids, expr->kid_count,
	                      strcmp(expr->kind, "CONJUNCTION_OR") == 0 ? " OR " : " AND ");

	add(printer, ")");
	return code;
}

/* A plain number is an INTEGER inside of an expression; alone it could be taken for a column's
 * position. */
static int print_constant(struct printer *printer, const struct mg_expr *expr)
{
	const struct mg_json *value = mg_json_get(expr->json, "value");

	if (printer->inside && mg_type_is(expr->type, "INTEGER") && !expr->type->alias &&
	    mg_json_is(value, MG_JSON_NUMBER) && isdigit((unsigned char)value->text.ptr[0]) &&
	    value->text.len <= 9) {
		mg_sb_add(printer->sb, mg_json_text(value));
		return 0;
	}
	return mg_value_text(printer->sb, expr->json, expr->type, printer->err);
}

static int print(struct printer *printer, const struct mg_expr *expr)
{
	if (expr->cls != MG_X_CONST) {
		printer->inside = true;
	}
	switch (expr->cls) {
	case MG_X_REF:
		return print_ref(printer, expr);
	case MG_X_LAMBDA_REF:
		return print_lambda_ref(printer, expr);
	case MG_X_CONST:
		return print_constant(printer, expr);
	case MG_X_COMPARE:
		return print_compare(printer, expr);
	case MG_X_CONJUNCTION:
		return print_conjunction(printer, expr);
	case MG_X_CAST:
		return print_cast(printer, expr);
	case MG_X_CASE:
		return print_case(printer, expr);
	case MG_X_BETWEEN:
		return print_between(printer, expr);
	case MG_X_OPERATOR:
		return print_operator(printer, expr);
	case MG_X_FUNCTION:
		return print_function(printer, expr);
	case MG_X_AGGREGATE:
		return print_aggregate(printer, expr);
	case MG_X_WINDOW:
		return print_window(printer, expr);
	case MG_X_RAW:
		return print_raw(printer, expr);
	case MG_X_UNNEST: {
		add(printer, "unnest(");
		int code = print(printer, expr->kids[0]);

		add(printer, ")");
		return code;
	}
	case MG_X_PARAM:
		break;
	}
	return unsupported(printer->err, "parameter");
}

int mg_expr_text(struct mg_sb *sb, const struct mg_expr *expr, const struct mg_expr_scope *scope,
                 struct mg_error *err)
{
	struct printer printer = { .sb = sb, .scope = scope, .err = err };

	return print(&printer, expr);
}

int mg_orders_text(struct mg_sb *sb, const struct mg_order *orders, size_t count,
                   const struct mg_expr_scope *scope, struct mg_error *err)
{
	struct printer printer = { .sb = sb, .scope = scope, .err = err };

	return print_orders(&printer, orders, count);
}

int mg_expr_print(struct mg_arena *arena, const struct mg_expr *expr, const char *alias, char **sql,
                  struct mg_error *err)
{
	const struct mg_expr_scope scope = { .left = alias };
	struct mg_sb sb = { 0 };
	int code = mg_expr_text(&sb, expr, &scope, err);

	*sql = code ? NULL : mg_arena_strdup(arena, mg_sb_text(&sb));
	mg_sb_fini(&sb);
	return code;
}
