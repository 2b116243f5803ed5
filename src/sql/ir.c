/*
 * ir.c - helpers of the planner's tree: make, copy, walk and compare nodes and expressions; types;
 * sets of columns.
 *
 * Everything is allocated from the caller's arena and shared freely, because nobody changes a node
 * after it is reachable from another one.  The body of a lambda is opaque to walks that look for
 * columns: its references are parameters, and what it captures are ordinary kids.
 */
#include "sql/ir.h"

#include "base/assert.h"

#include <string.h>

/* ---- nodes ---- */

struct mg_node *mg_node_new(struct mg_arena *arena, enum mg_op op, size_t kid_count,
                            size_t column_count)
{
	struct mg_node *node = mg_arena_alloc(arena, sizeof *node);
	node->op = op;
	node->kids = mg_arena_new_array(arena, struct mg_node *, kid_count + 1);
	node->kid_count = kid_count;
	node->types = mg_arena_new_array(arena, const struct mg_type *, column_count + 1);
	node->column_count = column_count;
	node->rows = -1;
	return node;
}

struct mg_node *mg_node_copy(struct mg_arena *arena, const struct mg_node *node)
{
	struct mg_node *copy = mg_arena_alloc(arena, sizeof *copy);
	*copy = *node;
	copy->kids = mg_arena_new_array(arena, struct mg_node *, node->kid_count + 1);
	for (size_t i = 0; i < node->kid_count; i++) {
		copy->kids[i] = node->kids[i];
	}
	return copy;
}

struct mg_node *mg_node_project(struct mg_arena *arena, struct mg_node *child,
                                struct mg_expr **exprs, size_t count)
{
	struct mg_node *node = mg_node_new(arena, MG_OP_PROJECT, 1, count);
	node->kids[0] = child;
	node->exprs = exprs;
	node->expr_count = count;
	for (size_t i = 0; i < count; i++) {
		node->types[i] = exprs[i]->type;
	}
	node->rows = child->rows;
	node->counted = child->counted;
	return node;
}

/* ---- expressions ---- */

struct mg_expr *mg_expr_ref(struct mg_arena *arena, size_t index, const struct mg_type *type)
{
	struct mg_expr *expr = mg_arena_alloc(arena, sizeof *expr);
	expr->cls = MG_X_REF;
	expr->kind = "BOUND_REF";
	expr->index = index;
	expr->type = type;
	return expr;
}

struct mg_expr *mg_expr_raw(struct mg_arena *arena, const char *format, const struct mg_type *type,
                            size_t kid_count, struct mg_expr *const *kids)
{
	struct mg_expr *expr = mg_arena_alloc(arena, sizeof *expr);
	expr->cls = MG_X_RAW;
	expr->kind = "";
	expr->name = format;
	expr->type = type;
	expr->kid_count = kid_count;
	expr->kids = mg_arena_new_array(arena, struct mg_expr *, kid_count + 1);
	for (size_t i = 0; i < kid_count; i++) {
		expr->kids[i] = kids[i];
	}
	return expr;
}

struct mg_expr *mg_expr_copy(struct mg_arena *arena, const struct mg_expr *expr)
{
	struct mg_expr *copy = mg_arena_alloc(arena, sizeof *copy);
	*copy = *expr;
	return copy;
}

static struct mg_order *orders_remap(struct mg_arena *arena, const struct mg_order *orders,
                                     size_t count, const size_t *map)
{
	if (count == 0) {
		return NULL;
	}
	struct mg_order *copy = mg_arena_new_array(arena, struct mg_order, count);
	for (size_t i = 0; i < count; i++) {
		copy[i] = orders[i];
		copy[i].expr = mg_expr_remap(arena, orders[i].expr, map);
	}
	return copy;
}

static struct mg_expr **exprs_remap(struct mg_arena *arena, struct mg_expr *const *exprs,
                                    size_t count, const size_t *map)
{
	if (count == 0) {
		return NULL;
	}
	struct mg_expr **copy = mg_arena_new_array(arena, struct mg_expr *, count);
	for (size_t i = 0; i < count; i++) {
		copy[i] = mg_expr_remap(arena, exprs[i], map);
	}
	return copy;
}

static struct mg_window *window_remap(struct mg_arena *arena, const struct mg_window *window,
                                      const size_t *map)
{
	struct mg_window *copy = mg_arena_alloc(arena, sizeof *copy);
	*copy = *window;
	copy->partitions = exprs_remap(arena, window->partitions, window->partition_count, map);
	copy->orders = orders_remap(arena, window->orders, window->order_count, map);
	copy->arg_orders = orders_remap(arena, window->arg_orders, window->arg_order_count, map);
	copy->start_expr = mg_expr_remap(arena, window->start_expr, map);
	copy->end_expr = mg_expr_remap(arena, window->end_expr, map);
	copy->offset_expr = mg_expr_remap(arena, window->offset_expr, map);
	copy->default_expr = mg_expr_remap(arena, window->default_expr, map);
	return copy;
}

struct mg_expr *mg_expr_remap(struct mg_arena *arena, const struct mg_expr *expr, const size_t *map)
{
	if (!expr) {
		return NULL;
	}
	struct mg_expr *copy = mg_expr_copy(arena, expr);
	if (expr->cls == MG_X_REF) {
		mg_assert(map[expr->index] != SIZE_MAX);
		copy->index = map[expr->index];
		return copy;
	}
	copy->kids = exprs_remap(arena, expr->kids, expr->kid_count, map);
	copy->filter = mg_expr_remap(arena, expr->filter, map);
	copy->orders = orders_remap(arena, expr->orders, expr->order_count, map);
	if (expr->window) {
		copy->window = window_remap(arena, expr->window, map);
	}
	return copy;
}

static void orders_walk(const struct mg_order *orders, size_t count,
                        void (*fn)(const struct mg_expr *, void *), void *arg)
{
	for (size_t i = 0; i < count; i++) {
		mg_expr_walk(orders[i].expr, fn, arg);
	}
}

void mg_expr_walk(const struct mg_expr *expr, void (*fn)(const struct mg_expr *, void *), void *arg)
{
	if (!expr) {
		return;
	}
	fn(expr, arg);
	for (size_t i = 0; i < expr->kid_count; i++) {
		mg_expr_walk(expr->kids[i], fn, arg);
	}
	mg_expr_walk(expr->filter, fn, arg);
	orders_walk(expr->orders, expr->order_count, fn, arg);
	if (expr->window) {
		const struct mg_window *window = expr->window;
		for (size_t i = 0; i < window->partition_count; i++) {
			mg_expr_walk(window->partitions[i], fn, arg);
		}
		orders_walk(window->orders, window->order_count, fn, arg);
		orders_walk(window->arg_orders, window->arg_order_count, fn, arg);
		mg_expr_walk(window->start_expr, fn, arg);
		mg_expr_walk(window->end_expr, fn, arg);
		mg_expr_walk(window->offset_expr, fn, arg);
		mg_expr_walk(window->default_expr, fn, arg);
	}
}

struct refs_arg {
	struct mg_arena *arena;
	struct mg_cols *into;
};

static void refs_visit(const struct mg_expr *expr, void *arg)
{
	struct refs_arg *refs = arg;
	if (expr->cls == MG_X_REF) {
		mg_cols_add(refs->arena, refs->into, expr->index);
	}
}

void mg_expr_refs(struct mg_arena *arena, const struct mg_expr *expr, struct mg_cols *into)
{
	struct refs_arg arg = { arena, into };
	mg_expr_walk(expr, refs_visit, &arg);
}

/* Functions whose value is not decided by their arguments.  now() and its kin arrive as constants;
 * they stand here for the case that one does not. */
static const char *const volatile_names[] = {
	"random",
	"nextval",
	"currval",
	"gen_random_uuid",
	"uuid",
	"uuidv4",
	"uuidv7",
	"setseed",
	"now",
	"get_current_timestamp",
	"current_localtimestamp",
	"current_localtime",
	"transaction_timestamp",
	"txid_current",
	"sleep_ms",
	"write_log",
};

static void volatile_visit(const struct mg_expr *expr, void *arg)
{
	bool *found = arg;
	if (expr->cls == MG_X_FUNCTION && expr->name) {
		for (size_t i = 0; i < sizeof volatile_names / sizeof *volatile_names; i++) {
			if (strcmp(expr->name, volatile_names[i]) == 0) {
				*found = true;
			}
		}
	}
	if (expr->lambda) {
		mg_expr_walk(expr->lambda, volatile_visit, arg);
	}
}

bool mg_expr_volatile(const struct mg_expr *expr)
{
	bool found = false;
	mg_expr_walk(expr, volatile_visit, &found);
	return found;
}

/* ---- equality ---- */

static bool json_equal(const struct mg_json *a, const struct mg_json *b)
{
	if (!a || !b) {
		return a == b;
	}
	if (a == b) {
		return true;
	}
	if (a->kind != b->kind) {
		return false;
	}
	if (a->kind == MG_JSON_NUMBER || a->kind == MG_JSON_STRING) {
		return mg_str_eq(a->text, b->text);
	}
	if (a->count != b->count) {
		return false;
	}
	const struct mg_json *y = b->child;
	for (const struct mg_json *x = a->child; x && y; x = x->next, y = y->next) {
		if (!mg_str_eq(x->key, y->key)) {
			return false;
		}
		if (mg_str_eq(x->key, MG_STR("alias")) || mg_str_eq(x->key, MG_STR("query_location"))) {
			continue;
		}
		if (!json_equal(x, y)) {
			return false;
		}
	}
	return true;
}

static bool exprs_equal(struct mg_expr *const *a, struct mg_expr *const *b, size_t a_count,
                        size_t b_count)
{
	if (a_count != b_count) {
		return false;
	}
	for (size_t i = 0; i < a_count; i++) {
		if (!mg_expr_equal(a[i], b[i])) {
			return false;
		}
	}
	return true;
}

static bool orders_equal(const struct mg_order *a, const struct mg_order *b, size_t a_count,
                         size_t b_count)
{
	if (a_count != b_count) {
		return false;
	}
	for (size_t i = 0; i < a_count; i++) {
		if (a[i].descending != b[i].descending || a[i].nulls_first != b[i].nulls_first ||
		    !mg_expr_equal(a[i].expr, b[i].expr)) {
			return false;
		}
	}
	return true;
}

static bool windows_equal(const struct mg_window *a, const struct mg_window *b)
{
	if (!a || !b) {
		return a == b;
	}
	return exprs_equal(a->partitions, b->partitions, a->partition_count, b->partition_count) &&
	       orders_equal(a->orders, b->orders, a->order_count, b->order_count) &&
	       orders_equal(a->arg_orders, b->arg_orders, a->arg_order_count, b->arg_order_count) &&
	       mg_text_eq(a->start, b->start) && mg_text_eq(a->end, b->end) &&
	       mg_text_eq(a->exclude, b->exclude) && mg_expr_equal(a->start_expr, b->start_expr) &&
	       mg_expr_equal(a->end_expr, b->end_expr) &&
	       mg_expr_equal(a->offset_expr, b->offset_expr) &&
	       mg_expr_equal(a->default_expr, b->default_expr) && a->ignore_nulls == b->ignore_nulls;
}

bool mg_expr_equal(const struct mg_expr *a, const struct mg_expr *b)
{
	if (!a || !b) {
		return a == b;
	}
	if (a->cls != b->cls || a->index != b->index || a->distinct != b->distinct ||
	    a->try_cast != b->try_cast) {
		return false;
	}
	if (!mg_text_eq(a->kind, b->kind) || !mg_text_eq(a->name, b->name) ||
	    !mg_type_equal(a->type, b->type)) {
		return false;
	}
	switch (a->cls) {
	case MG_X_CONST:
	case MG_X_PARAM:
		if (!json_equal(a->json, b->json)) {
			return false;
		}
		break;
	case MG_X_BETWEEN:
		if (mg_json_get_bool(a->json, "lower_inclusive", true) !=
		        mg_json_get_bool(b->json, "lower_inclusive", true) ||
		    mg_json_get_bool(a->json, "upper_inclusive", true) !=
		        mg_json_get_bool(b->json, "upper_inclusive", true)) {
			return false;
		}
		break;
	case MG_X_FUNCTION:
	case MG_X_AGGREGATE:
	case MG_X_WINDOW:
		if (!json_equal(mg_json_get(a->json, "function_data"),
		                mg_json_get(b->json, "function_data"))) {
			return false;
		}
		break;
	default:
		break;
	}
	return exprs_equal(a->kids, b->kids, a->kid_count, b->kid_count) &&
	       mg_expr_equal(a->filter, b->filter) &&
	       orders_equal(a->orders, b->orders, a->order_count, b->order_count) &&
	       windows_equal(a->window, b->window) && mg_expr_equal(a->lambda, b->lambda);
}

/* A cast that keeps the slot: integers to integers keep their value or fail. */
static bool cast_keeps_slot(const struct mg_type *from, const struct mg_type *to)
{
	if (mg_type_is_integer(from) && mg_type_is_integer(to)) {
		return true;
	}
	return mg_type_is(from, "DECIMAL") && mg_type_is(to, "DECIMAL") && from->scale == to->scale &&
	       to->width >= from->width;
}

long mg_expr_plain(const struct mg_expr *expr)
{
	while (expr->cls == MG_X_CAST && !expr->try_cast &&
	       cast_keeps_slot(expr->kids[0]->type, expr->type)) {
		expr = expr->kids[0];
	}
	return expr->cls == MG_X_REF ? (long)expr->index : -1;
}

/* ---- types ---- */

static const char *const integer_names[] = {
	"TINYINT",  "SMALLINT",  "INTEGER",  "BIGINT",  "HUGEINT",
	"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
};

bool mg_type_is(const struct mg_type *type, const char *id)
{
	return strcmp(type->id, id) == 0;
}

bool mg_type_is_integer(const struct mg_type *type)
{
	for (size_t i = 0; i < sizeof integer_names / sizeof *integer_names; i++) {
		if (mg_type_is(type, integer_names[i])) {
			return true;
		}
	}
	return false;
}

bool mg_type_equal(const struct mg_type *a, const struct mg_type *b)
{
	if (a == b) {
		return true;
	}
	if (!a || !b || strcmp(a->id, b->id) != 0 || a->width != b->width || a->scale != b->scale ||
	    a->size != b->size) {
		return false;
	}
	if (a->child_count != b->child_count || a->name_count != b->name_count) {
		return false;
	}
	if (!mg_text_eq(a->alias, b->alias) || !mg_text_eq(a->collation, b->collation)) {
		return false;
	}
	for (size_t i = 0; i < a->child_count; i++) {
		if (!mg_type_equal(a->children[i], b->children[i])) {
			return false;
		}
	}
	for (size_t i = 0; i < a->name_count; i++) {
		if (!mg_text_eq(a->names[i], b->names[i])) {
			return false;
		}
	}
	return true;
}

struct type_info {
	struct mg_type type;
	double width;
	bool hashable;
};

/* Types without parameters, with their cost and whether the slot function takes them. */
static const struct type_info type_infos[] = {
	{ { .id = "BOOLEAN" }, 1, true },
	{ { .id = "TINYINT" }, 1, true },
	{ { .id = "SMALLINT" }, 2, true },
	{ { .id = "INTEGER" }, 4, true },
	{ { .id = "BIGINT" }, 8, true },
	{ { .id = "HUGEINT" }, 16, true },
	{ { .id = "UTINYINT" }, 1, true },
	{ { .id = "USMALLINT" }, 2, true },
	{ { .id = "UINTEGER" }, 4, true },
	{ { .id = "UBIGINT" }, 8, true },
	{ { .id = "UHUGEINT" }, 16, true },
	{ { .id = "FLOAT" }, 4, true },
	{ { .id = "DOUBLE" }, 8, true },
	{ { .id = "DECIMAL" }, 16, true },
	{ { .id = "VARCHAR" }, 24, true },
	{ { .id = "BLOB" }, 32, true },
	{ { .id = "DATE" }, 4, true },
	{ { .id = "TIME" }, 8, true },
	{ { .id = "TIMESTAMP" }, 8, true },
	{ { .id = "TIMESTAMP WITH TIME ZONE" }, 8, true },
	{ { .id = "UUID" }, 16, true },
	{ { .id = "ENUM" }, 2, true },
	{ { .id = "TIME WITH TIME ZONE" }, 8, false },
	{ { .id = "TIMESTAMP_S" }, 8, true },
	{ { .id = "TIMESTAMP_MS" }, 8, true },
	{ { .id = "TIMESTAMP_NS" }, 8, true },
	{ { .id = "INTERVAL" }, 16, false },
	{ { .id = "BIT" }, 16, false },
	{ { .id = "LIST" }, 64, false },
	{ { .id = "ARRAY" }, 64, false },
	{ { .id = "MAP" }, 96, false },
	{ { .id = "STRUCT" }, 32, false },
	{ { .id = "UNION" }, 32, false },
	{ { .id = "NULL" }, 1, false },
	{ { .id = "SQLNULL" }, 1, false },
	{ { .id = "UNKNOWN" }, 8, false },
};

static const struct type_info *type_info_find(const char *id)
{
	for (size_t i = 0; i < sizeof type_infos / sizeof *type_infos; i++) {
		if (strcmp(type_infos[i].type.id, id) == 0) {
			return &type_infos[i];
		}
	}
	return NULL;
}

bool mg_type_hashable(const struct mg_type *type)
{
	const struct type_info *info = type_info_find(type->id);
	return info && info->hashable && !type->collation;
}

double mg_type_width(const struct mg_type *type)
{
	const struct type_info *info = type_info_find(type->id);
	if (type->width > 0 && type->width <= 18) {
		return 8;
	}
	if (mg_type_is(type, "STRUCT")) {
		double sum = 1;
		for (size_t i = 0; i < type->child_count; i++) {
			sum += mg_type_width(type->children[i]);
		}
		return sum;
	}
	return info ? info->width : 8;
}

const struct mg_type *mg_type_simple(const char *id)
{
	const struct type_info *info = type_info_find(id);
	mg_assert(info != NULL);
	return &info->type;
}

/* ---- sets of columns ---- */

void mg_cols_add(struct mg_arena *arena, struct mg_cols *set, size_t column)
{
	size_t word = column / 64;
	if (word >= set->word_count) {
		uint64_t *words = mg_arena_new_array(arena, uint64_t, word + 1);
		if (set->word_count > 0) {
			memcpy(words, set->words, set->word_count * sizeof *words);
		}
		set->words = words;
		set->word_count = word + 1;
	}
	set->words[word] |= UINT64_C(1) << (column % 64);
}

bool mg_cols_has(const struct mg_cols *set, size_t column)
{
	size_t word = column / 64;
	return word < set->word_count && (set->words[word] >> (column % 64) & 1) != 0;
}

bool mg_cols_empty(const struct mg_cols *set)
{
	for (size_t i = 0; i < set->word_count; i++) {
		if (set->words[i] != 0) {
			return false;
		}
	}
	return true;
}

size_t mg_cols_count(const struct mg_cols *set)
{
	size_t count = 0;
	for (size_t i = 0; i < set->word_count; i++) {
		count += (size_t)__builtin_popcountll(set->words[i]);
	}
	return count;
}

void mg_cols_union(struct mg_arena *arena, struct mg_cols *into, const struct mg_cols *from)
{
	for (size_t i = 0; i < from->word_count * 64; i++) {
		if (mg_cols_has(from, i)) {
			mg_cols_add(arena, into, i);
		}
	}
}

bool mg_cols_meet(const struct mg_cols *a, const struct mg_cols *b)
{
	size_t count = a->word_count < b->word_count ? a->word_count : b->word_count;
	for (size_t i = 0; i < count; i++) {
		if ((a->words[i] & b->words[i]) != 0) {
			return true;
		}
	}
	return false;
}
