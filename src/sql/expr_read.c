/*
 * expr_read.c - types and bound expressions of a plan, from JSON.
 *
 * The JSON tells what DuckDB's binder decided: every reference is a position and every cast is
 * there.  What the children do not hold (quantiles, separators, lambda bodies, field names) lies in
 * "function_data"; a function that has bind data which we cannot put back into SQL is refused here,
 * so that whatever was read can be printed.
 *
 * Pure; thread: the arena's owner.
 */
#include "sql/read.h"

#include <stdlib.h>
#include <string.h>

uint64_t mg_read_u64(const struct mg_json *object, const char *key, uint64_t fallback)
{
	const struct mg_json *value = mg_json_get(object, key);

	if (!mg_json_is(value, MG_JSON_NUMBER)) {
		return fallback;
	}
	return strtoull(mg_json_text(value), NULL, 10);
}

static bool text_in(const char *text, const char *const *list)
{
	for (; text && *list; list++) {
		if (strcmp(text, *list) == 0) {
			return true;
		}
	}
	return false;
}

/* ---- types ---- */

static int type_members(struct mg_reader *reader, const struct mg_json *info, struct mg_type *type,
                        bool skip_first)
{
	const struct mg_json *members = mg_json_get(info, "child_types");
	size_t count = members ? members->count : 0;

	type->children = mg_arena_new_array(reader->arena, const struct mg_type *, count + 1);
	type->names = mg_arena_new_array(reader->arena, const char *, count + 1);
	mg_json_each(member, members) {
		if (skip_first) { /* The tag of a union. */
			skip_first = false;
			continue;
		}
		const char *name = mg_json_get_text(member, "first");

		type->names[type->name_count++] = name ? name : "";
		type->children[type->child_count] = mg_read_type(reader, mg_json_get(member, "second"));
		if (!type->children[type->child_count++]) {
			return -1;
		}
	}
	return 0;
}

static int type_child(struct mg_reader *reader, const struct mg_json *info, struct mg_type *type)
{
	type->children = mg_arena_new_array(reader->arena, const struct mg_type *, 1);
	type->children[0] = mg_read_type(reader, mg_json_get(info, "child_type"));
	type->child_count = 1;
	return type->children[0] ? 0 : -1;
}

static int type_map(struct mg_reader *reader, const struct mg_json *info, struct mg_type *type)
{
	const struct mg_json *pair = mg_json_get(mg_json_get(info, "child_type"), "type_info");

	if (type_members(reader, pair, type, false)) {
		return -1;
	}
	type->name_count = 0;
	type->names = NULL;
	return type->child_count == 2
	           ? 0
	           : mg_read_refuse(reader, "map type of %zu parts", type->child_count);
}

static int type_enum(struct mg_reader *reader, const struct mg_json *info, struct mg_type *type)
{
	const struct mg_json *values = mg_json_get(info, "values");

	if (!mg_json_is(values, MG_JSON_ARRAY)) {
		return mg_read_refuse(reader, "enum type without values");
	}
	type->names = mg_arena_new_array(reader->arena, const char *, values->count + 1);
	mg_json_each(value, values) {
		type->names[type->name_count++] = mg_json_text(value);
	}
	return 0;
}

const struct mg_type *mg_read_type(struct mg_reader *reader, const struct mg_json *json)
{
	static const char *const unknown[] = {
		"UNKNOWN",  "ANY",      "LAMBDA", "INVALID", "AGGREGATE_STATE", "AGGREGATE_STATE<?>",
		"POINTER",  "VALIDITY", "TABLE",  "USER",    "UNBOUND",         "GEOMETRY",
		"TEMPLATE", "TYPE",     NULL
	};
	const char *id = mg_json_get_text(json, "id");
	const struct mg_json *info = mg_json_get(json, "type_info");
	struct mg_type *type;

	if (!id || text_in(id, unknown)) {
		return mg_read_null(reader, "type %s", id ? id : "without a name");
	}
	type = mg_arena_alloc(reader->arena, sizeof *type);
	type->id = strcmp(id, "SQLNULL") == 0 ? "NULL" : mg_arena_strdup(reader->arena, id);
	const char *alias = mg_json_get_text(info, "alias");

	if (alias && *alias) {
		if (strcmp(alias, "GEOMETRY") == 0 || strcmp(alias, "WKB_BLOB") == 0) {
			return mg_read_null(reader, "type %s", alias);
		}
		type->alias = mg_arena_strdup(reader->arena, alias);
	}
	const char *collation = mg_json_get_text(info, "collation");

	if (collation && *collation) {
		type->collation = mg_arena_strdup(reader->arena, collation);
	}
	int code = 0;

	if (strcmp(id, "DECIMAL") == 0) {
		type->width = (int)mg_json_get_int(info, "width", 0);
		type->scale = (int)mg_json_get_int(info, "scale", 0);
		if (type->width < 1 || type->width > 38 || type->scale < 0 || type->scale > type->width) {
			return mg_read_null(reader, "decimal type (%d,%d)", type->width, type->scale);
		}
	} else if (strcmp(id, "LIST") == 0) {
		code = type_child(reader, info, type);
	} else if (strcmp(id, "ARRAY") == 0) {
		type->size = mg_read_u64(info, "size", 0);
		code = type_child(reader, info, type);
	} else if (strcmp(id, "STRUCT") == 0 || strcmp(id, "UNION") == 0) {
		code = type_members(reader, info, type, id[0] == 'U');
	} else if (strcmp(id, "MAP") == 0) {
		code = type_map(reader, info, type);
	} else if (strcmp(id, "ENUM") == 0) {
		code = type_enum(reader, info, type);
	}
	return code ? NULL : type;
}

const struct mg_type **mg_read_types(struct mg_reader *reader, const struct mg_json *array,
                                     size_t *count)
{
	size_t n = array ? array->count : 0;
	const struct mg_type **types = mg_arena_new_array(reader->arena, const struct mg_type *, n + 1);

	*count = 0;
	mg_json_each(item, array) {
		types[*count] = mg_read_type(reader, item);
		if (!types[(*count)++]) {
			return NULL;
		}
	}
	return types;
}

/* ---- expressions ---- */

struct mg_expr **mg_read_exprs(struct mg_reader *reader, const struct mg_json *array, size_t *count)
{
	size_t n = array ? array->count : 0;
	struct mg_expr **exprs = mg_arena_new_array(reader->arena, struct mg_expr *, n + 1);

	*count = 0;
	mg_json_each(item, array) {
		exprs[*count] = mg_read_expr(reader, item);
		if (!exprs[(*count)++]) {
			return NULL;
		}
	}
	return exprs;
}

struct mg_order *mg_read_orders(struct mg_reader *reader, const struct mg_json *array,
                                size_t *count)
{
	size_t n = array ? array->count : 0;
	struct mg_order *orders = mg_arena_new_array(reader->arena, struct mg_order, n + 1);

	*count = 0;
	mg_json_each(item, array) {
		struct mg_order *order = &orders[(*count)++];
		const char *nulls = mg_json_get_text(item, "null_order");
		const char *type = mg_json_get_text(item, "type");

		if (!nulls || !type ||
		    (strcmp(nulls, "NULLS FIRST") != 0 && strcmp(nulls, "NULLS LAST") != 0)) {
			return mg_read_null(reader, "sort order without a place for nulls");
		}
		order->descending = strcmp(type, "DESCENDING") == 0;
		order->nulls_first = strcmp(nulls, "NULLS FIRST") == 0;
		order->expr = mg_read_expr(reader, mg_json_get(item, "expression"));
		if (!order->expr) {
			return NULL;
		}
	}
	return orders;
}

/* The children in the order that ir.h tells for each class. */
static int read_kids(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr,
                     const char *const *keys)
{
	size_t count = 0;

	while (keys[count]) {
		count++;
	}
	expr->kids = mg_arena_new_array(reader->arena, struct mg_expr *, count);
	for (expr->kid_count = 0; expr->kid_count < count; expr->kid_count++) {
		struct mg_expr *kid = mg_read_expr(reader, mg_json_get(json, keys[expr->kid_count]));

		if (!kid) {
			return -1;
		}
		expr->kids[expr->kid_count] = kid;
	}
	return 0;
}

static int read_children(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr)
{
	expr->kids = mg_read_exprs(reader, mg_json_get(json, "children"), &expr->kid_count);
	return expr->kids ? 0 : -1;
}

static int read_case(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr)
{
	const struct mg_json *checks = mg_json_get(json, "case_checks");
	size_t count = checks ? checks->count * 2 + 1 : 1;

	expr->kids = mg_arena_new_array(reader->arena, struct mg_expr *, count);
	mg_json_each(check, checks) {
		struct mg_expr *when = mg_read_expr(reader, mg_json_get(check, "when_expr"));
		struct mg_expr *then = when ? mg_read_expr(reader, mg_json_get(check, "then_expr")) : NULL;

		if (!then) {
			return -1;
		}
		expr->kids[expr->kid_count++] = when;
		expr->kids[expr->kid_count++] = then;
	}
	expr->kids[expr->kid_count] = mg_read_expr(reader, mg_json_get(json, "else_expr"));
	return expr->kids[expr->kid_count++] ? 0 : -1;
}

/* Is each member of data one of these (a NULL-ended list)? */
static bool data_only(const struct mg_json *data, const char *const *keys)
{
	mg_json_each(member, data) {
		char key[32];

		if (member->key.len >= sizeof key) {
			return false;
		}
		memcpy(key, member->key.ptr, member->key.len);
		key[member->key.len] = '\0';
		if (!text_in(key, keys)) {
			return false;
		}
	}
	return true;
}

static size_t array_count(const struct mg_json *json, const char *key)
{
	const struct mg_json *array = mg_json_get(json, key);

	return mg_json_is(array, MG_JSON_ARRAY) ? array->count : 0;
}

static int read_lambda(struct mg_reader *reader, const struct mg_json *data, struct mg_expr *expr)
{
	static const char *const known[] = { "list_transform", "array_transform", "list_apply",
		                                 "array_apply",    "apply",           "list_filter",
		                                 "array_filter",   "filter",          "list_reduce",
		                                 "array_reduce",   "reduce",          NULL };

	if (!text_in(expr->name, known)) {
		return mg_read_refuse(reader, "lambda in function %s", expr->name);
	}
	reader->lambdas++;
	expr->lambda = mg_read_expr(reader, mg_json_get(data, "lambda_expr"));
	reader->lambdas--;
	return expr->lambda ? 0 : -1;
}

/* list_aggregate(list, 'name', more...): more has gone into the bind data. */
static bool list_aggregate_known(const struct mg_json *data)
{
	const struct mg_json *aggregate = mg_json_get(mg_json_get(data, "bind_data"), "aggr_expr");
	const struct mg_json *inner = mg_json_get(aggregate, "function_data");
	size_t original = array_count(aggregate, "original_arguments");

	if (original > array_count(aggregate, "children")) {
		return mg_json_get_text(inner, "separator") != NULL;
	}
	return array_count(aggregate, "children") == 1;
}

static int read_function_data(struct mg_reader *reader, const struct mg_json *json,
                              struct mg_expr *expr)
{
	static const char *const arithmetic[] = { "check_overflow", "return_type", "arguments", NULL };
	static const char *const variable[] = { "variable_return_type", NULL };
	static const char *const lambda[] = { "return_type", "lambda_expr", "has_index", "has_initial",
		                                  NULL };
	static const char *const list_names[] = { "list_aggregate", "list_aggr", "array_aggregate",
		                                      "array_aggr",     "aggregate", NULL };
	const struct mg_json *data = mg_json_get(json, "function_data");

	if (strcmp(expr->name, "nextval") == 0 || strcmp(expr->name, "currval") == 0) {
		return mg_read_refuse(reader, "function %s: sequences live on the coordinator", expr->name);
	}
	if (strcmp(expr->name, "age") == 0 && expr->kid_count == 1) {
		return mg_read_refuse(reader, "function age of one value: the coordinator's clock counts");
	}
	if (strcmp(expr->name, "alias") == 0) {
		return mg_read_refuse(reader, "function alias: it answers the names of the text itself");
	}
	if (mg_json_is(data, MG_JSON_OBJECT) && data->count > 0) {
		if (mg_json_is(mg_json_get(data, "lambda_expr"), MG_JSON_OBJECT) &&
		    data_only(data, lambda)) {
			return read_lambda(reader, data, expr);
		}
		if (text_in(expr->name, list_names) && list_aggregate_known(data)) {
			return 0;
		}
		if (strcmp(expr->name, "date_part") == 0 || strcmp(expr->name, "datepart") == 0) {
			return array_count(data, "part_codes") > 0
			           ? 0
			           : mg_read_refuse(reader, "function %s without its parts", expr->name);
		}
		if (!data_only(data, arithmetic) && !data_only(data, variable) &&
		    !data_only(data, lambda)) {
			return mg_read_refuse(reader, "bind data of function %s", expr->name);
		}
	}
	if (array_count(json, "original_arguments") > expr->kid_count) {
		return mg_read_refuse(reader, "function %s has lost arguments", expr->name);
	}
	return 0;
}

static int read_function(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr)
{
	if (!expr->name || !*expr->name) {
		return mg_read_refuse(reader, "function without a name");
	}
	if (read_children(reader, json, expr)) {
		return -1;
	}
	return read_function_data(reader, json, expr);
}

/* Bind data of aggregates and of windows over them. */
static int aggregate_data(struct mg_reader *reader, const struct mg_json *json,
                          const struct mg_expr *expr)
{
	static const char *const known[] = { "quantiles", "order", "desc",        "separator",
		                                 "min",       "max",   "sample_size", NULL };
	const struct mg_json *data = mg_json_get(json, "function_data");

	if (mg_json_is(data, MG_JSON_OBJECT) && data->count > 0) {
		const struct mg_json *quantiles = mg_json_get(data, "quantiles");

		if (!data_only(data, known) || (quantiles && quantiles->count == 0)) {
			return mg_read_refuse(reader, "bind data of aggregate %s", expr->name);
		}
		return 0;
	}
	if (array_count(json, "original_arguments") > expr->kid_count) {
		return mg_read_refuse(reader, "aggregate %s has lost arguments", expr->name);
	}
	return 0;
}

static int read_aggregate(struct mg_reader *reader, const struct mg_json *json,
                          struct mg_expr *expr)
{
	const struct mg_json *filter = mg_json_get(json, "filter");
	const struct mg_json *orders = mg_json_get(mg_json_get(json, "order_bys"), "orders");
	const char *kind = mg_json_get_text(json, "aggregate_type");

	if (!expr->name || !*expr->name) {
		return mg_read_refuse(reader, "aggregate without a name");
	}
	expr->distinct = kind && strcmp(kind, "DISTINCT") == 0;
	if (read_children(reader, json, expr)) {
		return -1;
	}
	if (mg_json_is(filter, MG_JSON_OBJECT)) {
		expr->filter = mg_read_expr(reader, filter);
		if (!expr->filter) {
			return -1;
		}
	}
	expr->orders = mg_read_orders(reader, orders, &expr->order_count);
	if (!expr->orders) {
		return -1;
	}
	return aggregate_data(reader, json, expr);
}

static int read_optional(struct mg_reader *reader, const struct mg_json *json, const char *key,
                         struct mg_expr **out)
{
	const struct mg_json *value = mg_json_get(json, key);

	if (!mg_json_is(value, MG_JSON_OBJECT)) {
		return 0;
	}
	*out = mg_read_expr(reader, value);
	return *out ? 0 : -1;
}

static int read_window(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr)
{
	struct mg_window *window = mg_arena_alloc(reader->arena, sizeof *window);

	expr->window = window;
	expr->distinct = mg_json_get_bool(json, "distinct", false);
	window->ignore_nulls = mg_json_get_bool(json, "ignore_nulls", false);
	window->start = mg_json_get_text(json, "start");
	window->end = mg_json_get_text(json, "end");
	window->exclude = mg_json_get_text(json, "exclude_clause");
	if (!window->start || !window->end) {
		return mg_read_refuse(reader, "window without a frame");
	}
	if (!window->exclude) {
		window->exclude = "NO_OTHER";
	}
	if (read_children(reader, json, expr)) {
		return -1;
	}
	window->partitions =
		mg_read_exprs(reader, mg_json_get(json, "partitions"), &window->partition_count);
	window->orders = mg_read_orders(reader, mg_json_get(json, "orders"), &window->order_count);
	window->arg_orders =
		mg_read_orders(reader, mg_json_get(json, "arg_orders"), &window->arg_order_count);
	if (!window->partitions || !window->orders || !window->arg_orders ||
	    read_optional(reader, json, "filters", &expr->filter) ||
	    read_optional(reader, json, "start_expr", &window->start_expr) ||
	    read_optional(reader, json, "end_expr", &window->end_expr) ||
	    read_optional(reader, json, "offset_expr", &window->offset_expr) ||
	    read_optional(reader, json, "default_expr", &window->default_expr)) {
		return -1;
	}
	return aggregate_data(reader, json, expr);
}

static int read_ref(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr)
{
	uint64_t index = mg_read_u64(json, "index", UINT64_MAX);

	if (index > 100000) {
		return mg_read_refuse(reader, "reference to column %llu", (unsigned long long)index);
	}
	expr->index = (size_t)index;
	expr->cls = reader->lambdas ? MG_X_LAMBDA_REF : MG_X_REF;
	return 0;
}

static int read_column_ref(struct mg_reader *reader, const struct mg_json *json,
                           struct mg_expr *expr)
{
	const struct mg_json *binding = mg_json_get(json, "binding");
	uint64_t column = mg_read_u64(binding, "column_index", UINT64_MAX);

	if (reader->table == UINT64_MAX || reader->lambdas || column > 100000 ||
	    mg_read_u64(binding, "table_index", UINT64_MAX) != reader->table) {
		return mg_read_refuse(reader, "unresolved column reference");
	}
	expr->cls = MG_X_REF;
	expr->index = (size_t)column;
	return 0;
}

static int read_constant(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *expr)
{
	const struct mg_json *value = mg_json_get(json, "value");

	expr->cls = MG_X_CONST;
	expr->json = value;
	expr->type = mg_read_type(reader, mg_json_get(value, "type"));
	return expr->type ? 0 : -1;
}

/* The class's own members; the common ones are there. */
static int read_class(struct mg_reader *reader, const struct mg_json *json, const char *cls,
                      struct mg_expr *expr)
{
	static const char *const compare[] = { "left", "right", NULL };
	static const char *const child[] = { "child", NULL };
	static const char *const between[] = { "input", "lower", "upper", NULL };

	if (strcmp(cls, "BOUND_REF") == 0) {
		return read_ref(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_COLUMN_REF") == 0) {
		return read_column_ref(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_CONSTANT") == 0) {
		return read_constant(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_COMPARISON") == 0) {
		expr->cls = MG_X_COMPARE;
		return read_kids(reader, json, expr, compare);
	}
	if (strcmp(cls, "BOUND_CONJUNCTION") == 0) {
		expr->cls = MG_X_CONJUNCTION;
		return read_children(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_CAST") == 0) {
		expr->cls = MG_X_CAST;
		expr->try_cast = mg_json_get_bool(json, "try_cast", false);
		return read_kids(reader, json, expr, child);
	}
	if (strcmp(cls, "BOUND_CASE") == 0) {
		expr->cls = MG_X_CASE;
		return read_case(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_BETWEEN") == 0) {
		expr->cls = MG_X_BETWEEN;
		return read_kids(reader, json, expr, between);
	}
	if (strcmp(cls, "BOUND_OPERATOR") == 0) {
		expr->cls = MG_X_OPERATOR;
		return read_children(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_FUNCTION") == 0) {
		expr->cls = MG_X_FUNCTION;
		return read_function(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_AGGREGATE") == 0) {
		expr->cls = MG_X_AGGREGATE;
		return read_aggregate(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_WINDOW") == 0) {
		expr->cls = MG_X_WINDOW;
		return read_window(reader, json, expr);
	}
	if (strcmp(cls, "BOUND_UNNEST") == 0) {
		expr->cls = MG_X_UNNEST;
		return read_kids(reader, json, expr, child);
	}
	return mg_read_refuse(reader, "expression %s", cls);
}

struct mg_expr *mg_read_expr(struct mg_reader *reader, const struct mg_json *json)
{
	const char *cls = mg_json_get_text(json, "expression_class");
	const char *kind = mg_json_get_text(json, "type");
	const struct mg_json *type = mg_json_get(json, "return_type");
	struct mg_expr *expr;

	if (!cls || !kind) {
		return mg_read_null(reader, "expression without a class");
	}
	expr = mg_arena_alloc(reader->arena, sizeof *expr);
	expr->kind = kind;
	expr->json = json;
	expr->name = mg_json_get_text(json, "name");
	expr->alias = mg_json_get_text(json, "alias");
	if (mg_json_is(type, MG_JSON_OBJECT)) {
		expr->type = mg_read_type(reader, type);
		if (!expr->type) {
			return NULL;
		}
	} else {
		expr->type = mg_type_simple("BOOLEAN"); /* comparisons and their like carry none */
	}
	if (read_class(reader, json, cls, expr)) {
		return NULL;
	}
	return expr;
}
