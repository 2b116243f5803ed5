/*
 * plan_leaf.c - the leaves of a plan: tables with the filters that were pushed into them, range and
 * unnest, kv() (plan_keys.c), VALUES, and the empty result.
 *
 * Part of plan_read.c's pass; thread: the arena's owner.
 */
#include "sql/read.h"
#include "sql/sql_text.h"
#include "store/duck_keys.h"

#include <string.h>

enum { COLUMNS_MAX = 100000 };

/* ---- leaves ---- */

static struct mg_expr *operator_expr(struct mg_reader *reader, enum mg_expr_class cls,
                                     const char *kind, size_t kids)
{
	struct mg_expr *expr = mg_arena_alloc(reader->arena, sizeof *expr);

	expr->cls = cls;
	expr->kind = kind;
	expr->type = mg_type_simple("BOOLEAN");
	expr->kids = mg_arena_new_array(reader->arena, struct mg_expr *, kids + 1);
	expr->kid_count = kids;
	return expr;
}

static struct mg_expr *constant_expr(struct mg_reader *reader, const struct mg_json *value)
{
	struct mg_expr *expr = mg_arena_alloc(reader->arena, sizeof *expr);

	expr->cls = MG_X_CONST;
	expr->kind = "VALUE_CONSTANT";
	expr->json = value;
	expr->type = mg_read_type(reader, mg_json_get(value, "type"));
	return expr->type ? expr : NULL;
}

static int read_filter(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *column,
                       struct mg_expr **out);

/* AND drops parts that are only hints; OR with such a part says nothing at all. */
static int read_filters(struct mg_reader *reader, const struct mg_json *json,
                        struct mg_expr *column, bool any, struct mg_expr **out)
{
	const struct mg_json *parts = mg_json_get(json, "child_filters");
	struct mg_expr *both = operator_expr(reader, MG_X_CONJUNCTION,
	                                     any ? "CONJUNCTION_OR" : "CONJUNCTION_AND",
	                                     parts ? parts->count : 0);

	both->kid_count = 0;
	mg_json_each(part, parts) {
		struct mg_expr *expr = NULL;

		if (read_filter(reader, part, column, &expr)) {
			return -1;
		}
		if (expr) {
			both->kids[both->kid_count++] = expr;
		} else if (any) {
			return 0;
		}
	}
	if (both->kid_count) {
		*out = both->kid_count == 1 ? both->kids[0] : both;
	}
	return 0;
}

static int read_filter_in(struct mg_reader *reader, const struct mg_json *json,
                          struct mg_expr *column, struct mg_expr **out)
{
	const struct mg_json *values = mg_json_get(json, "values");
	struct mg_expr *expr =
		operator_expr(reader, MG_X_OPERATOR, "COMPARE_IN", 1 + (values ? values->count : 0));
	size_t i = 1;

	expr->kids[0] = column;
	mg_json_each(value, values) {
		expr->kids[i] = constant_expr(reader, value);
		if (!expr->kids[i++]) {
			return -1;
		}
	}
	*out = expr;
	return i > 1 ? 0 : mg_read_refuse(reader, "filter over an empty list");
}

static int read_filter_member(struct mg_reader *reader, const struct mg_json *json,
                              struct mg_expr *column, struct mg_expr **out)
{
	size_t index = (size_t)mg_read_u64(json, "child_idx", SIZE_MAX);

	if (!mg_type_is(column->type, "STRUCT") || index >= column->type->child_count) {
		return mg_read_refuse(reader, "filter on a field that is not there");
	}
	struct mg_expr *member = mg_expr_raw(
		reader->arena, mg_arena_format(reader->arena, "struct_extract_at({0}, %zu)", index + 1),
		column->type->children[index], 1, &column);

	return read_filter(reader, mg_json_get(json, "child_filter"), member, out);
}

/* A filter that was pushed into a scan: *out stays NULL when it is only a hint. */
static int read_filter(struct mg_reader *reader, const struct mg_json *json, struct mg_expr *column,
                       struct mg_expr **out)
{
	const char *kind = mg_json_get_text(json, "filter_type");

	if (!kind) {
		return mg_read_refuse(reader, "pushed-down filter without a type");
	}
	if (strcmp(kind, "OPTIONAL_FILTER") == 0 || strcmp(kind, "DYNAMIC_FILTER") == 0 ||
	    strcmp(kind, "BLOOM_FILTER") == 0) {
		return 0;
	}
	if (strcmp(kind, "CONJUNCTION_AND") == 0 || strcmp(kind, "CONJUNCTION_OR") == 0) {
		return read_filters(reader, json, column, kind[12] == 'O', out);
	}
	if (strcmp(kind, "IN_FILTER") == 0) {
		return read_filter_in(reader, json, column, out);
	}
	if (strcmp(kind, "STRUCT_EXTRACT") == 0) {
		return read_filter_member(reader, json, column, out);
	}
	if (strcmp(kind, "IS_NULL") == 0 || strcmp(kind, "IS_NOT_NULL") == 0) {
		*out = operator_expr(
			reader, MG_X_OPERATOR,
			kind[3] == 'N' && kind[4] == 'U' ? "OPERATOR_IS_NULL" : "OPERATOR_IS_NOT_NULL", 1);
		(*out)->kids[0] = column;
		return 0;
	}
	if (strcmp(kind, "CONSTANT_COMPARISON") == 0) {
		const char *compare = mg_json_get_text(json, "comparison_type");

		if (!compare || !mg_compare_text(compare)) {
			return mg_read_refuse(reader, "pushed-down comparison %s",
			                      compare ? compare : "without a type");
		}
		struct mg_expr *expr = operator_expr(reader, MG_X_COMPARE, compare, 2);

		expr->kids[0] = column;
		expr->kids[1] = constant_expr(reader, mg_json_get(json, "constant"));
		*out = expr;
		return expr->kids[1] ? 0 : -1;
	}
	if (strcmp(kind, "EXPRESSION_FILTER") == 0 && column->cls == MG_X_REF) {
		struct mg_expr *expr = mg_read_expr(reader, mg_json_get(json, "expr"));

		if (!expr || mg_read_check(reader, expr, 1)) {
			return -1;
		}
		*out = mg_expr_remap(reader->arena, expr, &column->index);
		return 0;
	}
	return mg_read_refuse(reader, "pushed-down filter %s", kind);
}

/* Filters of a scan as a filter above it; keys are positions in the table. */
static struct mg_node *read_table_filters(struct mg_reader *reader, const struct mg_json *json,
                                          struct mg_node *scan, const size_t *ids)
{
	const struct mg_json *filters = mg_json_get(mg_json_get(json, "table_filters"), "filters");
	size_t count = filters ? filters->count : 0;
	struct mg_expr **exprs = mg_arena_new_array(reader->arena, struct mg_expr *, count + 1);
	size_t kept = 0;

	mg_json_each(filter, filters) {
		uint64_t key = mg_read_u64(filter, "key", UINT64_MAX);
		size_t at = 0;

		while (at < scan->column_count && ids[at] != key) {
			at++;
		}
		if (at == scan->column_count) {
			return mg_read_null(reader, "pushed-down filter on a column that is not read");
		}
		if (read_filter(reader, mg_json_get(filter, "value"),
		                mg_expr_ref(reader->arena, at, scan->types[at]), &exprs[kept])) {
			return NULL;
		}
		kept += exprs[kept] != NULL;
	}
	if (!kept) {
		return scan;
	}
	struct mg_node *node = mg_read_over(reader, MG_OP_FILTER, scan, 0);

	node->exprs = exprs;
	node->expr_count = kept;
	return node;
}

/* Column positions in the table, and the scan's columns from them. */
static struct mg_node *read_columns(struct mg_reader *reader, const struct mg_json *json,
                                    enum mg_op op, size_t **ids_out)
{
	const struct mg_json *indexes = mg_json_get(json, "column_indexes");
	const struct mg_json *names = mg_json_get(json, "names");
	size_t type_count;
	const struct mg_type **types =
		mg_read_types(reader, mg_json_get(json, "returned_types"), &type_count);
	size_t count = indexes ? indexes->count : 0;

	if (!types || !names || names->count != type_count || count > COLUMNS_MAX) {
		return types ? mg_read_null(reader, "scan whose names and types differ") : NULL;
	}
	const char **texts = mg_arena_new_array(reader->arena, const char *, type_count + 1);
	size_t n = 0;

	mg_json_each(name, names) {
		texts[n++] = mg_json_text(name);
	}
	struct mg_node *node = mg_node_new(reader->arena, op, 0, count);
	size_t *ids = mg_arena_new_array(reader->arena, size_t, count + 1);
	size_t i = 0;

	node->cols = mg_arena_new_array(reader->arena, const char *, count + 1);
	node->func_names = texts;
	node->func_name_count = type_count;
	mg_json_each(index, indexes) {
		const struct mg_json *part = mg_json_get(index, "child_indexes");

		(void)part; /* only tells that a part of a struct would do; the whole is right too */
		ids[i] = (size_t)mg_read_u64(index, "index", UINT64_MAX);
		node->types[i] = ids[i] < type_count ? types[ids[i]] : mg_type_simple("BIGINT");
		node->cols[i] = ids[i] < type_count ? texts[ids[i]] : NULL;
		i++;
	}
	*ids_out = ids;
	return node;
}

static struct mg_node *read_table(struct mg_reader *reader, const struct mg_json *json)
{
	const struct mg_json *data = mg_json_get(json, "function_data");
	const char *catalog = mg_json_get_text(data, "catalog");
	const char *schema = mg_json_get_text(data, "schema");
	const char *table = mg_json_get_text(data, "table");
	size_t *ids;

	if (!catalog || !schema || !table) {
		return mg_read_null(reader, "scan of a table without a name");
	}
	if (strcmp(catalog, "system") == 0 || strcmp(catalog, "temp") == 0) {
		return mg_read_null(reader, "table of the %s catalog", catalog);
	}
	if (mg_json_is(mg_json_get(mg_json_get(json, "extra_info"), "sample_options"),
	               MG_JSON_OBJECT)) {
		return mg_read_null(reader, "sample of a table");
	}
	struct mg_node *scan = read_columns(reader, json, MG_OP_SCAN, &ids);

	if (!scan) {
		return NULL;
	}
	scan->schema = schema;
	scan->table = table;
	scan->func_names = NULL;
	scan->func_name_count = 0;
	struct mg_node *node = read_table_filters(reader, json, scan, ids);

	return node ? mg_read_pick_json(reader, node, mg_json_get(json, "projection_ids")) : NULL;
}

/* FROM t, unnest(t.list) and FROM t, range(t.n): one row becomes many. */
static struct mg_node *read_lateral(struct mg_reader *reader, const struct mg_json *json,
                                    const struct mg_json *explain, const char *function)
{
	size_t type_count, map_count, *ids;
	const struct mg_type **types =
		mg_read_types(reader, mg_json_get(json, "returned_types"), &type_count);
	struct mg_node *columns = read_columns(reader, json, MG_OP_FUNC, &ids);
	struct mg_node *child = mg_read_kid(reader, json, explain, 0);
	size_t *input = mg_read_map(reader, mg_json_get(json, "projected_input"), &map_count);

	if (!types || !columns || !child) {
		return NULL;
	}
	/* The first columns of the child are the arguments. */
	const struct mg_json *inputs = mg_json_get(json, "input_table_types");
	size_t args = inputs ? inputs->count : 0;

	if (type_count != 1 || args < 1 || args > 3 || args > child->column_count) {
		return mg_read_null(reader, "table function %s with %zu arguments", function, args);
	}
	struct mg_expr *refs[3];

	for (size_t i = 0; i < args; i++) {
		refs[i] = mg_expr_ref(reader->arena, i, child->types[i]);
	}
	static const char *const list[] = { "", "{0}", "{0}, {1}", "{0}, {1}, {2}" };
	const char *text =
		strcmp(function, "unnest") == 0
			? "unnest({0})"
			: mg_arena_format(reader->arena, "unnest(\"%s\"(%s))", function, list[args]);
	struct mg_node *node = mg_read_over(reader, MG_OP_UNNEST, child, 1);

	node->exprs = mg_arena_new_array(reader->arena, struct mg_expr *, 1);
	node->exprs[0] = mg_expr_raw(reader->arena, text, types[0], args, refs);
	node->expr_count = 1;
	node->types[child->column_count] = types[0];
	size_t *map = mg_arena_new_array(reader->arena, size_t, columns->column_count + map_count + 1);
	size_t n = 0;

	while (n < columns->column_count) {
		map[n++] = child->column_count;
	}
	for (size_t i = 0; i < map_count; i++) {
		map[n++] = input[i];
	}
	return mg_read_pick(reader, node, map, n);
}

/* kv('namespace') */
static struct mg_node *read_keys(struct mg_reader *reader, const struct mg_json *json)
{
	size_t *ids;
	struct mg_node *node = read_columns(reader, json, MG_OP_FUNC, &ids);

	if (!node || mg_read_keys(reader, json, node)) {
		return NULL;
	}
	node->rows = 1000;
	return mg_read_pick_json(reader, node, mg_json_get(json, "projection_ids"));
}

static struct mg_node *read_range(struct mg_reader *reader, const struct mg_json *json,
                                  const char *function)
{
	const struct mg_json *params = mg_json_get(json, "parameters");
	const struct mg_json *named = mg_json_get(json, "named_parameters");
	struct mg_sb sb = { 0 };
	size_t *ids;
	struct mg_node *node = read_columns(reader, json, MG_OP_FUNC, &ids);
	bool first = true;

	if (!node || (named && named->count > 0)) {
		return node ? mg_read_null(reader, "named parameters of %s", function) : NULL;
	}
	for (size_t i = 0; i < node->column_count; i++) {
		if (!node->cols[i]) {
			return mg_read_null(reader, "hidden column of %s", function);
		}
	}
	mg_sb_addf(&sb, "%s(", function);
	mg_json_each(param, params) {
		const struct mg_type *type = mg_read_type(reader, mg_json_get(param, "type"));

		mg_sb_add(&sb, first ? "" : ", ");
		first = false;
		if (!type || mg_value_text(&sb, param, type, reader->err)) {
			mg_sb_fini(&sb);
			return NULL;
		}
	}
	mg_sb_add(&sb, ")");
	node->text = mg_arena_strdup(reader->arena, mg_sb_text(&sb));
	node->rows = 1000;
	mg_sb_fini(&sb);
	return mg_read_pick_json(reader, node, mg_json_get(json, "projection_ids"));
}

struct mg_node *mg_read_get(struct mg_reader *reader, const struct mg_json *json,
                            const struct mg_json *explain)
{
	const char *name = mg_json_get_text(json, "name");
	const struct mg_json *kids = mg_json_get(json, "children");
	const struct mg_json *filters = mg_json_get(mg_json_get(json, "table_filters"), "filters");

	if (!name) {
		return mg_read_null(reader, "scan without a function");
	}
	if (mg_read_u64(json, "ordinality_idx", UINT64_MAX) != UINT64_MAX) {
		return mg_read_null(reader, "table function with ordinality");
	}
	if (strcmp(name, "seq_scan") == 0) {
		return read_table(reader, json);
	}
	if (filters && filters->count > 0) {
		return mg_read_null(reader, "pushed-down filter on table function %s", name);
	}
	bool series = strcmp(name, "range") == 0 || strcmp(name, "generate_series") == 0;

	if (kids && kids->count == 1 && (series || strcmp(name, "unnest") == 0)) {
		return read_lateral(reader, json, explain, name);
	}
	if (kids && kids->count == 0 &&
	    (series || strcmp(name, "repeat") == 0 || strcmp(name, "unnest") == 0)) {
		return read_range(reader, json, name);
	}
	if (kids && kids->count == 0 && strcmp(name, MG_DUCK_KEYS_NAME) == 0) {
		return read_keys(reader, json);
	}
	return mg_read_null(reader, "table function %s", name);
}

struct mg_node *mg_read_empty(struct mg_reader *reader, const struct mg_json *json)
{
	size_t count;
	const struct mg_type **types = mg_read_types(reader, mg_json_get(json, "return_types"), &count);

	if (!types) {
		return NULL;
	}
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_EMPTY, 0, count);

	memcpy(node->types, types, count * sizeof *types);
	node->rows = 0;
	return node;
}

struct mg_node *mg_read_values(struct mg_reader *reader, const struct mg_json *json)
{
	const struct mg_json *rows = mg_json_get(json, "expressions");
	const struct mg_json *kid = mg_json_at(mg_json_get(json, "children"), 0);
	const char *below = mg_json_get_text(kid, "type");
	size_t count;
	const struct mg_type **types = mg_read_types(reader, mg_json_get(json, "expr_types"), &count);

	if (!types || !below || strcmp(below, "LOGICAL_DUMMY_SCAN") != 0) {
		return types ? mg_read_null(reader, "correlated VALUES") : NULL;
	}
	struct mg_node *node = mg_node_new(reader->arena, MG_OP_ROWS, 0, count);

	memcpy(node->types, types, count * sizeof *types);
	node->row_values =
		mg_arena_new_array(reader->arena, struct mg_expr **, (rows ? rows->count : 0) + 1);
	mg_json_each(row, rows) {
		size_t width;
		struct mg_expr **values = mg_read_exprs(reader, row, &width);

		if (!values || width != count || mg_read_check_all(reader, values, width, 0)) {
			return values && width != count ? mg_read_null(reader, "VALUES of different widths")
			                                : NULL;
		}
		node->row_values[node->row_count++] = values;
	}
	node->rows = (double)node->row_count;
	return node;
}
