/*
 * plan_keys.c - kv('namespace') as a leaf of a plan, and which of its keys a plan can need.
 *
 * Idea: keys lie in their order as bytes, which is that of texts.  A filter right above the leaf
 * that compares the key with constants bounds what is read; it stays where it is, so the bounds may
 * be generous, and only have to be right.
 *
 * Pure; thread: the arena's owner.
 */
#include "sql/read.h"
#include "sql/sql_text.h"
#include "store/duck_keys.h"

#include <string.h>

/* ---- the leaf ---- */

/* ", binary := true", or that of kv_dml.c; bounds never stand in a text that is planned. */
static int read_named(struct mg_reader *reader, const struct mg_json *named, struct mg_node *node,
                      struct mg_sb *text)
{
	mg_json_each(item, named) {
		const char *key = mg_json_get_text(item, "key");
		const struct mg_json *value = mg_json_get(item, "value");
		bool binary = mg_text_eq(key, "binary"), bytes = mg_text_eq(key, MG_DUCK_KEYS_BYTES);
		bool flag = mg_json_get_bool(value, "value", false);

		if ((!binary && !bytes) || mg_json_get_bool(value, "is_null", true)) {
			return mg_read_refuse(reader, "parameter of kv");
		}
		node->binary = node->binary || (binary && flag);
		mg_sb_addf(text, ", %s := %s", key, flag ? "true" : "false");
	}
	return 0;
}

int mg_read_keys(struct mg_reader *reader, const struct mg_json *json, struct mg_node *node)
{
	const struct mg_json *params = mg_json_get(json, "parameters");
	const struct mg_json *space = mg_json_at(params, 0);
	const struct mg_type *type = space ? mg_read_type(reader, mg_json_get(space, "type")) : NULL;
	struct mg_sb text = { 0 };
	int code = type && params->count == 1 ? 0 : mg_read_refuse(reader, "parameters of kv");

	mg_sb_add(&text, MG_DUCK_KEYS_NAME "(");
	code = code ? code : mg_value_text(&text, space, type, reader->err);
	code = code ? code
	            : read_named(reader, mg_json_get(json, "named_parameters"), node, &text);
	mg_sb_add_char(&text, ')');
	node->kv = true;
	node->text = mg_arena_strdup(reader->arena, mg_sb_text(&text));
	mg_sb_fini(&text);
	return code;
}

bool mg_plan_reads_keys(const struct mg_node *node)
{
	bool reads = node->kv;

	for (size_t i = 0; i < node->kid_count && !reads; i++) {
		reads = mg_plan_reads_keys(node->kids[i]);
	}
	return reads;
}

/* ---- bounds ---- */

/* Keys from `first` to before `end`; len 0: no bound. */
struct bounds {
	struct mg_arena *arena;
	struct mg_str first, end;
};

static int compare(struct mg_str a, struct mg_str b)
{
	int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static void from(struct bounds *bounds, struct mg_str key)
{
	if (key.len && (!bounds->first.len || compare(key, bounds->first) > 0)) {
		bounds->first = key;
	}
}

static void before(struct bounds *bounds, struct mg_str key)
{
	if (key.len && (!bounds->end.len || compare(key, bounds->end) < 0)) {
		bounds->end = key;
	}
}

/* The next key behind this one alone. */
static struct mg_str behind(struct bounds *bounds, struct mg_str key)
{
	char *room = mg_arena_alloc(bounds->arena, key.len + 1);

	memcpy(room, key.ptr, key.len);
	room[key.len] = '\0';
	return (struct mg_str){ room, key.len + 1 };
}

static bool is_key(const struct mg_expr *expr, const struct mg_node *leaf)
{
	return expr->cls == MG_X_REF && expr->index < leaf->column_count &&
	       mg_text_eq(leaf->cols[expr->index], "key") && !expr->type->collation;
}

static bool read_text(const struct mg_expr *expr, struct mg_str *out)
{
	const struct mg_json *value = mg_json_get(expr->json, "value");

	if (expr->cls != MG_X_CONST || !mg_type_is(expr->type, "VARCHAR") || expr->type->collation ||
	    mg_json_get_bool(expr->json, "is_null", true) || !mg_json_is(value, MG_JSON_STRING)) {
		return false;
	}
	*out = value->text;
	return true;
}

static void narrow_compare(struct bounds *bounds, const char *kind, struct mg_str text)
{
	if (mg_text_eq(kind, "COMPARE_EQUAL")) {
		from(bounds, text);
		before(bounds, behind(bounds, text));
	} else if (strncmp(kind, "COMPARE_GREATERTHAN", 19) == 0) {
		from(bounds, text);
	} else if (mg_text_eq(kind, "COMPARE_LESSTHAN")) {
		before(bounds, text);
	} else if (mg_text_eq(kind, "COMPARE_LESSTHANOREQUALTO")) {
		before(bounds, behind(bounds, text));
	}
}

static const char *mirrored(const char *kind)
{
	static const char *const pairs[][2] = {
		{ "COMPARE_EQUAL", "COMPARE_EQUAL" },
		{ "COMPARE_GREATERTHAN", "COMPARE_LESSTHAN" },
		{ "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN" },
		{ "COMPARE_GREATERTHANOREQUALTO", "COMPARE_LESSTHANOREQUALTO" },
		{ "COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO" },
	};

	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		if (mg_text_eq(kind, pairs[i][0])) {
			return pairs[i][1];
		}
	}
	return "";
}

/* All that begin so.  The last byte of a text is never 0xff. */
static void narrow_prefix(struct bounds *bounds, struct mg_str prefix)
{
	if (prefix.len) {
		char *room = mg_arena_strndup(bounds->arena, prefix.ptr, prefix.len);

		room[prefix.len - 1]++;
		from(bounds, prefix);
		before(bounds, (struct mg_str){ room, prefix.len });
	}
}

static void narrow_between(struct bounds *bounds, const struct mg_expr *expr)
{
	bool inclusive = mg_json_get_bool(expr->json, "upper_inclusive", true);
	struct mg_str text;

	if (read_text(expr->kids[1], &text)) {
		from(bounds, text);
	}
	if (read_text(expr->kids[2], &text)) {
		before(bounds, inclusive ? behind(bounds, text) : text);
	}
}

/* One of several that all must hold. */
static void narrow(struct bounds *bounds, const struct mg_expr *expr, const struct mg_node *leaf)
{
	struct mg_expr **kids = expr->kids;
	struct mg_str text;

	if (expr->cls == MG_X_COMPARE && is_key(kids[0], leaf) && read_text(kids[1], &text)) {
		narrow_compare(bounds, expr->kind, text);
	} else if (expr->cls == MG_X_COMPARE && is_key(kids[1], leaf) && read_text(kids[0], &text)) {
		narrow_compare(bounds, mirrored(expr->kind), text);
	} else if (expr->cls == MG_X_BETWEEN && is_key(kids[0], leaf)) {
		narrow_between(bounds, expr);
	} else if (expr->cls == MG_X_FUNCTION && expr->kid_count == 2 && is_key(kids[0], leaf) &&
	           read_text(kids[1], &text) &&
	           (mg_text_eq(expr->name, "prefix") || mg_text_eq(expr->name, "starts_with") ||
	            mg_text_eq(expr->name, "^@"))) {
		narrow_prefix(bounds, text);
	}
}

static void narrow_all(struct bounds *bounds, const struct mg_expr *expr,
                       const struct mg_node *leaf)
{
	if (expr->cls != MG_X_CONJUNCTION) {
		narrow(bounds, expr, leaf);
		return;
	}
	for (size_t i = 0; mg_text_eq(expr->kind, "CONJUNCTION_AND") && i < expr->kid_count; i++) {
		narrow(bounds, expr->kids[i], leaf);
	}
}

/* ---- the pass ---- */

static void add_bound(struct mg_sb *text, const char *name, struct mg_str bytes)
{
	if (!bytes.len) {
		return;
	}
	mg_sb_addf(text, ", %s := '", name);
	for (size_t i = 0; i < bytes.len; i++) {
		mg_sb_addf(text, "\\x%02X", (unsigned char)bytes.ptr[i]);
	}
	mg_sb_add(text, "'::BLOB");
}

/* In the place of the ")" at the end of a leaf's text. */
static void extend(struct mg_arena *arena, struct mg_node *leaf, const char *more)
{
	leaf->text = mg_arena_format(arena, "%.*s%s)", (int)strlen(leaf->text) - 1, leaf->text,
	                             more);
}

static struct mg_node *bounded(struct mg_arena *arena, const struct mg_node *filter)
{
	struct bounds bounds = { .arena = arena };
	struct mg_node *leaf = mg_node_copy(arena, filter->kids[0]);
	struct mg_sb more = { 0 };

	for (size_t i = 0; i < filter->expr_count; i++) {
		narrow_all(&bounds, filter->exprs[i], leaf);
	}
	add_bound(&more, MG_DUCK_KEYS_FIRST, bounds.first);
	add_bound(&more, MG_DUCK_KEYS_END, bounds.end);
	extend(arena, leaf, mg_sb_text(&more));
	mg_sb_fini(&more);
	return leaf;
}

/* Nobody asks for keys or values: the engine reads some column to count the rows, and then it does
 * not matter whether that is text. */
static struct mg_node *counted(struct mg_arena *arena, const struct mg_node *node)
{
	struct mg_node *leaf = mg_node_copy(arena, node);
	bool asked = node->binary;

	for (size_t i = 0; i < node->column_count; i++) {
		asked = asked || mg_text_eq(node->cols[i], "key") || mg_text_eq(node->cols[i], "value");
	}
	if (!asked) {
		extend(arena, leaf, ", binary := true");
	}
	return leaf;
}

struct mg_node *mg_plan_bound_keys(struct mg_arena *arena, struct mg_node *node)
{
	if (!mg_plan_reads_keys(node)) {
		return node;
	}
	if (node->kv) {
		return counted(arena, node);
	}
	struct mg_node *out = mg_node_copy(arena, node);

	for (size_t i = 0; i < node->kid_count; i++) {
		bool bounds = node->op == MG_OP_FILTER && node->kids[i]->kv && !node->kids[i]->binary;

		out->kids[i] =
			bounds ? bounded(arena, node) : mg_plan_bound_keys(arena, node->kids[i]);
	}
	return out;
}
