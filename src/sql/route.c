/*
 * route.c - find the one slot that a statement can touch.
 *
 * Every sharded scan must stand below filters that pin all of its partition columns to constants
 * (=, IN, IS NULL, an OR of such, conjunctions of them), and all combinations must lie in one slot,
 * the same for all scans.  Constants are hashed as stored rows are (codec/slot.h).  DuckDB has
 * already copied constants across join equalities, so filters directly above a scan are enough.
 *
 * Pure.  Limit: COMBINATIONS_MAX constants a table; more are not one slot for our purposes.
 */
#include "sql/plan.h"

#include "codec/slot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COMBINATIONS_MAX 64
#define KEYS_MAX 8

struct route {
	struct mg_plan_env *env;
	bool found; /* a slot is known */
	uint16_t slot;
	bool failed;
};

/* Constants that a column may have. */
struct choice {
	const struct mg_expr *values[COMBINATIONS_MAX]; /* NULL: the SQL NULL */
	size_t count;
	bool pinned;
};

/* ---- constants to slots ---- */

static bool number_i128(const struct mg_json *value, __int128 *out)
{
	if (mg_json_is(value, MG_JSON_OBJECT)) {
		const struct mg_json *upper = mg_json_get(value, "upper");
		const struct mg_json *lower = mg_json_get(value, "lower");
		if (!upper || !lower) {
			return false;
		}
		unsigned __int128 high =
			(unsigned __int128)(uint64_t)strtoll(mg_json_text(upper), NULL, 10);
		*out = (__int128)(high << 64 | strtoull(mg_json_text(lower), NULL, 10));
		return true;
	}
	if (!mg_json_is(value, MG_JSON_NUMBER)) {
		return false;
	}
	const char *text = mg_json_text(value);
	char *end = NULL;
	errno = 0;
	if (text[0] == '-') {
		*out = strtoll(text, &end, 10);
	} else {
		*out = strtoull(text, &end, 10);
	}
	return errno == 0 && end != text && *end == '\0';
}

static bool hash_fixed(struct mg_slot_hash *hash, uint8_t class_tag, const struct mg_json *value,
                       size_t size)
{
	__int128 number = 0;
	uint8_t bytes[8];
	if (!number_i128(value, &number)) {
		return false;
	}
	for (size_t i = 0; i < size; i++) {
		bytes[i] = (uint8_t)((unsigned __int128)number >> (8 * i));
	}
	mg_slot_bytes(hash, class_tag, bytes, size);
	return true;
}

static bool hash_constant(struct mg_slot_hash *hash, const struct mg_expr *constant)
{
	if (!constant) {
		mg_slot_null(hash);
		return true;
	}
	const struct mg_type *type = constant->type;
	const struct mg_json *value = mg_json_get(constant->json, "value");
	__int128 number = 0;
	if (mg_type_is_integer(type)) {
		if (!number_i128(value, &number)) {
			return false;
		}
		mg_slot_int(hash, number);
		return true;
	}
	if (mg_type_is(type, "DECIMAL")) {
		if (!number_i128(value, &number)) {
			return false;
		}
		mg_slot_decimal(hash, number, (uint8_t)type->scale);
		return true;
	}
	if (mg_type_is(type, "VARCHAR") && !type->collation && mg_json_is(value, MG_JSON_STRING)) {
		mg_slot_text(hash, value->text.ptr, value->text.len);
		return true;
	}
	if (mg_type_is(type, "DATE")) {
		return hash_fixed(hash, 7, value, 4);
	}
	if (mg_type_is(type, "TIMESTAMP")) {
		return hash_fixed(hash, 8, value, 8);
	}
	if (mg_type_is(type, "TIMESTAMP WITH TIME ZONE")) {
		return hash_fixed(hash, 9, value, 8);
	}
	return false;
}

/* ---- filters to choices ---- */

static bool is_null(const struct mg_expr *constant)
{
	const struct mg_json *value = mg_json_get(constant->json, "value");
	return mg_json_get_bool(constant->json, "is_null", false) || !value ||
	       mg_json_is(value, MG_JSON_NULL);
}

static bool choice_add(struct choice *choice, const struct mg_expr *constant)
{
	if (choice->count == COMBINATIONS_MAX || constant->cls != MG_X_CONST) {
		return false;
	}
	if (!is_null(constant)) { /* = NULL is never true */
		choice->values[choice->count++] = constant;
	}
	return true;
}

/* Values of `column` for which expr can be true; false: not restricted by it. */
static bool read_filter(const struct mg_expr *expr, size_t column, struct choice *out)
{
	if (expr->cls == MG_X_COMPARE && strcmp(expr->kind, "COMPARE_EQUAL") == 0) {
		size_t at = mg_expr_plain(expr->kids[0]) == (long)column ? 1 : 0;
		return mg_expr_plain(expr->kids[1 - at]) == (long)column && choice_add(out, expr->kids[at]);
	}
	if (expr->cls == MG_X_OPERATOR && strcmp(expr->kind, "COMPARE_IN") == 0) {
		if (expr->kid_count == 0 || mg_expr_plain(expr->kids[0]) != (long)column) {
			return false;
		}
		for (size_t i = 1; i < expr->kid_count; i++) {
			if (!choice_add(out, expr->kids[i])) {
				return false;
			}
		}
		return true;
	}
	if (expr->cls == MG_X_OPERATOR && strcmp(expr->kind, "OPERATOR_IS_NULL") == 0) {
		if (mg_expr_plain(expr->kids[0]) != (long)column || out->count == COMBINATIONS_MAX) {
			return false;
		}
		out->values[out->count++] = NULL;
		return true;
	}
	if (expr->cls == MG_X_CONJUNCTION) {
		bool all = strcmp(expr->kind, "CONJUNCTION_OR") == 0;
		for (size_t i = 0; i < expr->kid_count; i++) {
			struct choice part = { .count = 0 };
			bool restricted = read_filter(expr->kids[i], column, all ? out : &part);
			if (!all && restricted) {
				*out = part;
				return true;
			}
			if (all && !restricted) {
				return false;
			}
		}
		return all && expr->kid_count > 0;
	}
	return false;
}

/* ---- scans ---- */

static void take_slot(struct route *route, uint16_t slot)
{
	if (route->found && route->slot != slot) {
		route->failed = true;
	}
	route->found = true;
	route->slot = slot;
}

static void hash_combinations(struct route *route, const struct choice *choices, size_t count)
{
	size_t at[KEYS_MAX] = { 0 };
	size_t total = 1;
	for (size_t k = 0; k < count; k++) {
		total *= choices[k].count;
		if (total > COMBINATIONS_MAX || total == 0) {
			route->failed = true;
			return;
		}
	}
	for (size_t n = 0; n < total && !route->failed; n++) {
		size_t rest = n;
		struct mg_slot_hash hash;
		mg_slot_begin(&hash);
		bool ok = true;
		for (size_t k = 0; k < count; k++) {
			at[k] = rest % choices[k].count;
			rest /= choices[k].count;
			ok = hash_constant(&hash, choices[k].values[at[k]]) && ok;
		}
		uint16_t slot = mg_slot_end(&hash);
		if (!ok) {
			route->failed = true;
			return;
		}
		take_slot(route, slot);
	}
}

/* filters: those directly above the scan, over its columns. */
static void route_scan(struct route *route, const struct mg_node *scan,
                       const struct mg_node *const *filters, size_t filter_count)
{
	const struct mg_table_place *table =
		route->env->find_table(route->env->arg, scan->schema, scan->table);
	if (!table) {
		route->failed = true;
		return;
	}
	if (table->key_count == 0) {
		return;
	}
	struct choice choices[KEYS_MAX];
	if (table->key_count > KEYS_MAX) {
		route->failed = true;
		return;
	}
	for (size_t k = 0; k < table->key_count; k++) {
		choices[k] = (struct choice){ .count = 0 };
		for (size_t c = 0; c < scan->column_count && !choices[k].pinned; c++) {
			if (!scan->cols[c] || !mg_text_eq_nocase(scan->cols[c], table->keys[k])) {
				continue;
			}
			for (size_t f = 0; f < filter_count && !choices[k].pinned; f++) {
				for (size_t i = 0; i < filters[f]->expr_count && !choices[k].pinned; i++) {
					choices[k].count = 0;
					choices[k].pinned = read_filter(filters[f]->exprs[i], c, &choices[k]);
				}
			}
		}
		if (!choices[k].pinned) {
			route->failed = true;
			return;
		}
	}
	hash_combinations(route, choices, table->key_count);
}

static void route_walk(struct route *route, const struct mg_node *node)
{
	const struct mg_node *filters[16];
	size_t count = 0;
	while (node->op == MG_OP_FILTER && count < sizeof filters / sizeof *filters) {
		filters[count++] = node;
		node = node->kids[0];
	}
	if (node->op == MG_OP_SCAN) {
		route_scan(route, node, filters, count);
		return;
	}
	for (size_t i = 0; i < node->kid_count && !route->failed; i++) {
		route_walk(route, node->kids[i]);
	}
}

bool mg_plan_one_slot(struct mg_plan_env *env, const struct mg_node *root, uint16_t *slot)
{
	struct route route = { .env = env };
	route_walk(&route, root);
	if (route.failed || !route.found) {
		return false;
	}
	*slot = route.slot;
	return true;
}
