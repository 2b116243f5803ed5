/*
 * print.c - a tree without exchanges as SQL: one subquery an operator, columns named c0, c1, ...
 *
 * The text says nothing that the plan does not say: sort keys carry their nulls' place, set
 * operations their ALL, and what has no column at all has a dummy one, because SQL knows no row
 * without columns.
 *
 * Traps kept in mind: NOT IN over rows is printed as (a, b) IN (SELECT ...), DuckDB's own meaning
 * of a mark join; a scalar subquery's second row must raise an error although the join is a LEFT
 * one.
 *
 * Pure; thread: the arena's owner.
 */
#include "sql/sql_text.h"

#include <inttypes.h>
#include <string.h>

#define unsupported(err, ...) mg_error_set((err), MG_E_UNSUPPORTED, __VA_ARGS__)

struct writer {
	struct mg_sb *sb;
	unsigned aliases;
	struct mg_error *err;
};

static int write_node(struct writer *writer, const struct mg_node *node);

/* ---- small pieces ---- */

static void add(struct writer *writer, const char *text)
{
	mg_sb_add(writer->sb, text);
}

struct alias {
	char text[16];
};

static struct alias alias_new(struct writer *writer)
{
	struct alias alias;
	unsigned n = ++writer->aliases;
	char digits[12];
	size_t count = 0;

	do {
		digits[count++] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	alias.text[0] = 't';
	for (size_t i = 0; i < count; i++) {
		alias.text[1 + i] = digits[count - 1 - i];
	}
	alias.text[1 + count] = '\0';
	return alias;
}

/* "a.c0 AS c0" for columns of one input, numbered from `at`. */
static void write_columns(struct writer *writer, const char *alias, size_t count, size_t at)
{
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(writer->sb, "%s%s.c%zu AS c%zu", at + i ? ", " : "", alias, i, at + i);
	}
}

static void write_dummy(struct writer *writer, size_t columns)
{
	if (!columns) {
		add(writer, "1 AS dummy");
	}
}

static int write_expr(struct writer *writer, const struct mg_expr *expr, const char *alias)
{
	const struct mg_expr_scope scope = { .left = alias };

	return mg_expr_text(writer->sb, expr, alias ? &scope : NULL, writer->err);
}

static int write_exprs(struct writer *writer, struct mg_expr *const *exprs, size_t count,
                       const char *alias, const char *between)
{
	for (size_t i = 0; i < count; i++) {
		add(writer, i ? between : "");
		int code = write_expr(writer, exprs[i], alias);

		if (code) {
			return code;
		}
	}
	return 0;
}

/* "expr AS c<at>, ..." */
static int write_items(struct writer *writer, struct mg_expr *const *exprs, size_t count,
                       const char *alias, size_t at)
{
	for (size_t i = 0; i < count; i++) {
		add(writer, at + i ? ", " : "");
		int code = write_expr(writer, exprs[i], alias);

		if (code) {
			return code;
		}
		mg_sb_addf(writer->sb, " AS c%zu", at + i);
	}
	return 0;
}

static int write_orders(struct writer *writer, const struct mg_order *orders, size_t count,
                        const char *alias)
{
	const struct mg_expr_scope scope = { .left = alias };

	return mg_orders_text(writer->sb, orders, count, &scope, writer->err);
}

static int write_from(struct writer *writer, const char *lead, const struct mg_node *node,
                      const char *alias)
{
	add(writer, lead);
	add(writer, "(");
	int code = write_node(writer, node);

	mg_sb_addf(writer->sb, ") %s", alias);
	return code;
}

/* ---- leaves ---- */

static int write_scan(struct writer *writer, const struct mg_node *node)
{
	struct mg_sb name = { 0 };

	add(writer, "SELECT ");
	for (size_t i = 0; i < node->column_count; i++) {
		add(writer, i ? ", " : "");
		if (node->cols[i]) {
			mg_sb_add_ident(writer->sb, node->cols[i]);
		} else {
			add(writer, "NULL");
		}
		mg_sb_addf(writer->sb, " AS c%zu", i);
	}
	write_dummy(writer, node->column_count);
	mg_sb_addf(&name, "%s.%s", node->schema, node->table);
	add(writer, " FROM temp.main.");
	mg_sb_add_ident(writer->sb, mg_sb_text(&name));
	mg_sb_fini(&name);
	return 0;
}

static int write_func(struct writer *writer, const struct mg_node *node)
{
	add(writer, "SELECT ");
	for (size_t i = 0; i < node->column_count; i++) {
		add(writer, i ? ", " : "");
		mg_sb_add_ident(writer->sb, node->cols[i]);
		mg_sb_addf(writer->sb, " AS c%zu", i);
	}
	write_dummy(writer, node->column_count);
	struct alias alias = alias_new(writer);

	mg_sb_addf(writer->sb, " FROM %s %s(", node->text, alias.text);
	for (size_t i = 0; i < node->func_name_count; i++) {
		add(writer, i ? ", " : "");
		mg_sb_add_ident(writer->sb, node->func_names[i]);
	}
	add(writer, ")");
	return 0;
}

static int write_empty(struct writer *writer, const struct mg_node *node)
{
	add(writer, "SELECT ");
	for (size_t i = 0; i < node->column_count; i++) {
		add(writer, i ? ", " : "");
		int code = mg_cast_open(writer->sb, node->types[i], false, writer->err);

		add(writer, "NULL");
		code = code ? code : mg_cast_close(writer->sb, node->types[i], writer->err);
		if (code) {
			return code;
		}
		mg_sb_addf(writer->sb, " AS c%zu", i);
	}
	write_dummy(writer, node->column_count);
	add(writer, " WHERE false");
	return 0;
}

static int write_values(struct writer *writer, const struct mg_node *node)
{
	if (!node->row_count) {
		return write_empty(writer, node);
	}
	add(writer, "SELECT ");
	struct alias alias = alias_new(writer);

	write_columns(writer, alias.text, node->column_count, 0);
	write_dummy(writer, node->column_count);
	for (size_t row = 0; row < node->row_count; row++) {
		add(writer, row ? ", (" : " FROM (VALUES (");
		int code = write_exprs(writer, node->row_values[row], node->column_count, NULL, ", ");

		if (code) {
			return code;
		}
		add(writer, node->column_count ? ")" : "0)");
	}
	mg_sb_addf(writer->sb, ") %s(", alias.text);
	for (size_t i = 0; i < node->column_count; i++) {
		mg_sb_addf(writer->sb, "%sc%zu", i ? ", " : "", i);
	}
	add(writer, node->column_count ? ")" : "dummy)");
	return 0;
}

/* ---- one input ---- */

static int write_project(struct writer *writer, const struct mg_node *node)
{
	struct alias alias = alias_new(writer);

	add(writer, "SELECT ");
	int code = write_items(writer, node->exprs, node->expr_count, alias.text, 0);

	write_dummy(writer, node->expr_count);
	return code ? code : write_from(writer, " FROM ", node->kids[0], alias.text);
}

/* SELECT of all the child's columns, then more expressions, FROM the child. */
static int write_select(struct writer *writer, const struct mg_node *node, const char *head,
                        struct mg_expr *const *more, size_t more_count, const char *alias)
{
	size_t columns = node->kids[0]->column_count;

	add(writer, head);
	write_columns(writer, alias, columns, 0);
	int code = write_items(writer, more, more_count, alias, columns);

	write_dummy(writer, columns + more_count);
	return code ? code : write_from(writer, " FROM ", node->kids[0], alias);
}

static int write_filter(struct writer *writer, const struct mg_node *node)
{
	struct alias alias = alias_new(writer);
	int code = write_select(writer, node, "SELECT ", NULL, 0, alias.text);

	add(writer, " WHERE ");
	return code ? code : write_exprs(writer, node->exprs, node->expr_count, alias.text, " AND ");
}

static int write_sorted(struct writer *writer, const struct mg_node *node)
{
	struct alias alias = alias_new(writer);
	int code = write_select(writer, node, "SELECT ", NULL, 0, alias.text);

	if (!code && node->key_count) {
		add(writer, " ORDER BY ");
		code = write_orders(writer, node->keys, node->key_count, alias.text);
	}
	if (node->has_limit) {
		mg_sb_addf(writer->sb, " LIMIT %" PRIu64, node->limit);
	}
	if (node->offset) {
		mg_sb_addf(writer->sb, " OFFSET %" PRIu64, node->offset);
	}
	return code;
}

static int write_distinct(struct writer *writer, const struct mg_node *node)
{
	struct alias alias = alias_new(writer);
	int code = 0;

	if (!node->group_count) {
		if (!node->kids[0]->column_count) {
			return unsupported(writer->err, "distinct rows without columns");
		}
		return write_select(writer, node, "SELECT DISTINCT ", NULL, 0, alias.text);
	}
	add(writer, "SELECT DISTINCT ON (");
	code = write_exprs(writer, node->groups, node->group_count, alias.text, ", ");
	code = code ? code : write_select(writer, node, ") ", NULL, 0, alias.text);
	if (!code && node->key_count) {
		add(writer, " ORDER BY ");
		code = write_orders(writer, node->keys, node->key_count, alias.text);
	}
	return code;
}

/* "(g0, g1)" of the groups in a set. */
static int write_set(struct writer *writer, const struct mg_node *node, const size_t *set,
                     size_t size, const char *alias)
{
	add(writer, "(");
	for (size_t i = 0; i < size; i++) {
		add(writer, i ? ", " : "");
		int code = write_expr(writer, node->groups[set[i]], alias);

		if (code) {
			return code;
		}
	}
	add(writer, ")");
	return 0;
}

static int write_group_by(struct writer *writer, const struct mg_node *node, const char *alias)
{
	if (!node->set_count) {
		add(writer, node->group_count ? " GROUP BY " : "");
		return write_exprs(writer, node->groups, node->group_count, alias, ", ");
	}
	for (size_t i = 0; i < node->set_count; i++) {
		add(writer, i ? ", " : " GROUP BY GROUPING SETS (");
		int code = write_set(writer, node, node->sets[i], node->set_sizes[i], alias);

		if (code) {
			return code;
		}
	}
	add(writer, ")");
	return 0;
}

static int write_aggregate(struct writer *writer, const struct mg_node *node)
{
	struct alias alias = alias_new(writer);

	if (!node->column_count) {
		return unsupported(writer->err, "aggregation without groups and aggregates");
	}
	add(writer, "SELECT ");
	int code = write_items(writer, node->groups, node->group_count, alias.text, 0);

	code = code ? code
	            : write_items(writer, node->exprs, node->expr_count, alias.text, node->group_count);
	for (size_t i = 0; !code && i < node->gfunc_count; i++) {
		add(writer, node->group_count + node->expr_count + i ? ", GROUPING" : "GROUPING");
		code = write_set(writer, node, node->gfuncs[i], node->gfunc_sizes[i], alias.text);
		mg_sb_addf(writer->sb, " AS c%zu", node->group_count + node->expr_count + i);
	}
	code = code ? code : write_from(writer, " FROM ", node->kids[0], alias.text);
	return code ? code : write_group_by(writer, node, alias.text);
}

/* ---- several inputs ---- */

static int write_setop(struct writer *writer, const struct mg_node *node)
{
	const char *name = node->op == MG_OP_UNION    ? " UNION"
	                   : node->op == MG_OP_EXCEPT ? " EXCEPT"
	                                              : " INTERSECT";

	for (size_t i = 0; i < node->kid_count; i++) {
		struct alias alias = alias_new(writer);

		if (i) {
			add(writer, name);
			add(writer, node->op == MG_OP_UNION || node->all ? " ALL " : " ");
		}
		int code = write_from(writer, "(SELECT * FROM ", node->kids[i], alias.text);

		add(writer, ")");
		if (code) {
			return code;
		}
	}
	return 0;
}

static int write_cte(struct writer *writer, const struct mg_node *node)
{
	mg_sb_addf(writer->sb, "WITH %s AS MATERIALIZED (", node->name);
	int code = write_node(writer, node->kids[0]);

	add(writer, ") SELECT * FROM (");
	code = code ? code : write_node(writer, node->kids[1]);
	mg_sb_addf(writer->sb, ") %s", alias_new(writer).text);
	return code;
}

static int write_recursive(struct writer *writer, const struct mg_node *node)
{
	mg_sb_addf(writer->sb, "WITH RECURSIVE %s(", node->name);
	for (size_t i = 0; i < node->column_count; i++) {
		mg_sb_addf(writer->sb, "%sc%zu", i ? ", " : "", i);
	}
	add(writer, node->column_count ? ") AS ((" : "dummy) AS ((");
	int code = write_node(writer, node->kids[0]);

	add(writer, node->all ? ") UNION ALL (" : ") UNION (");
	code = code ? code : write_node(writer, node->kids[1]);
	mg_sb_addf(writer->sb, ")) SELECT * FROM %s", node->name);
	return code;
}

/* ---- joins ---- */

static int write_cond(struct writer *writer, const struct mg_cond *cond, const char *left,
                      const char *right)
{
	add(writer, "(");
	int code = write_expr(writer, cond->left, left);

	mg_sb_addf(writer->sb, " %s ", mg_compare_text(cond->compare));
	code = code ? code : write_expr(writer, cond->right, right);
	add(writer, ")");
	return code;
}

/* All conditions and predicates with AND, "true" when there is none. */
static int write_on(struct writer *writer, const struct mg_node *node, const char *left,
                    const char *right)
{
	const struct mg_expr_scope scope = { left, right, node->kids[0]->column_count };
	bool any = false;

	for (size_t i = 0; i < node->cond_count; i++, any = true) {
		add(writer, any ? " AND " : "");
		int code = write_cond(writer, &node->conds[i], left, right);

		if (code) {
			return code;
		}
	}
	for (size_t i = 0; i < node->pred_count; i++, any = true) {
		add(writer, any ? " AND " : "");
		int code = mg_expr_text(writer->sb, node->preds[i], &scope, writer->err);

		if (code) {
			return code;
		}
	}
	add(writer, any ? "" : "true");
	return 0;
}

static bool cond_is(const struct mg_cond *cond, const char *compare)
{
	return strcmp(cond->compare, compare) == 0;
}

/* (x, y) IN (SELECT ...): DuckDB's own meaning of nulls in a row. */
static int write_in(struct writer *writer, const struct mg_node *node, const char *left,
                    const char *right)
{
	int code = 0;

	add(writer, node->cond_count > 1 ? "((" : "(");
	for (size_t i = 0; !code && i < node->cond_count; i++) {
		add(writer, i ? ", " : "");
		code = write_expr(writer, node->conds[i].left, left);
	}
	add(writer, node->cond_count > 1 ? ") IN (SELECT " : " IN (SELECT ");
	for (size_t i = 0; !code && i < node->cond_count; i++) {
		add(writer, i ? ", " : "");
		code = write_expr(writer, node->conds[i].right, right);
	}
	code = code ? code : write_from(writer, " FROM ", node->kids[1], right);
	add(writer, "))");
	return code;
}

/* EXISTS (SELECT 1 FROM right WHERE ...), or with `unknown`: where the correlation and the
 * predicates hold and the comparisons are unknown. */
static int write_exists(struct writer *writer, const struct mg_node *node, const char *left,
                        const char *right, bool unknown)
{
	const struct mg_expr_scope scope = { left, right, node->kids[0]->column_count };
	int code = write_from(writer, "EXISTS(SELECT 1 FROM ", node->kids[1], right);
	bool any = false;

	add(writer, " WHERE ");
	for (size_t pass = 0; pass < 2; pass++) {
		bool open = false;

		for (size_t i = 0; !code && i < node->cond_count; i++) {
			bool same = cond_is(&node->conds[i], "COMPARE_NOT_DISTINCT_FROM");

			if (same != (pass == 0)) {
				continue;
			}
			add(writer, any ? " AND " : "");
			if (pass == 1 && unknown && !open) {
				add(writer, "((");
				open = true;
			}
			any = true;
			code = write_cond(writer, &node->conds[i], left, right);
		}
		add(writer, open ? ") IS NULL)" : "");
	}
	for (size_t i = 0; !code && i < node->pred_count; i++, any = true) {
		add(writer, any ? " AND " : "");
		code = mg_expr_text(writer->sb, node->preds[i], &scope, writer->err);
	}
	add(writer, any ? ")" : "true)");
	return code;
}

static int write_mark(struct writer *writer, const struct mg_node *node, const char *left,
                      const char *right)
{
	size_t same = 0, equal = 0;

	for (size_t i = 0; i < node->cond_count; i++) {
		same += cond_is(&node->conds[i], "COMPARE_NOT_DISTINCT_FROM");
		equal += cond_is(&node->conds[i], "COMPARE_EQUAL");
	}
	size_t columns = node->kids[0]->column_count;
	int code;

	add(writer, "SELECT ");
	write_columns(writer, left, columns, 0);
	add(writer, columns ? ", " : "");
	if (node->cond_count && equal == node->cond_count && !node->pred_count) {
		code = write_in(writer, node, left, right);
	} else if (same == node->cond_count) {
		code = write_exists(writer, node, left, right, false);
	} else {
		add(writer, "(CASE WHEN ");
		code = write_exists(writer, node, left, right, false);
		add(writer, " THEN true WHEN ");
		code = code ? code : write_exists(writer, node, left, right, true);
		add(writer, " THEN CAST(NULL AS BOOLEAN) ELSE false END)");
	}
	mg_sb_addf(writer->sb, " AS c%zu", columns);
	return code ? code : write_from(writer, " FROM ", node->kids[0], left);
}

/* A scalar subquery: the right side grouped by its keys, with its first row and how many there
 * were; a second one is an error where the value is used. */
static int write_single(struct writer *writer, const struct mg_node *node, const char *left,
                        const char *right)
{
	size_t lefts = node->kids[0]->column_count, rights = node->kids[1]->column_count;
	struct alias inner = alias_new(writer);
	int code = 0;

	for (size_t i = 0; i < node->cond_count; i++) {
		if (!cond_is(&node->conds[i], "COMPARE_EQUAL") &&
		    !cond_is(&node->conds[i], "COMPARE_NOT_DISTINCT_FROM")) {
			return unsupported(writer->err, "scalar subquery joined by an inequality");
		}
	}
	if (!node->cond_count || node->pred_count) {
		return unsupported(writer->err, "scalar subquery joined by a predicate");
	}
	add(writer, "SELECT ");
	write_columns(writer, left, lefts, 0);
	for (size_t i = 0; i < rights; i++) {
		mg_sb_addf(writer->sb,
		           "%sCASE WHEN %s.many > 1 THEN error('More than one row returned by a subquery "
		           "used as an "
		           "expression - scalar subqueries can only return a single row.') ELSE %s.c%zu "
		           "END AS c%zu",
		           lefts + i ? ", " : "", right, right, i, lefts + i);
	}
	write_dummy(writer, lefts + rights);
	code = write_from(writer, " FROM ", node->kids[0], left);
	add(writer, " LEFT JOIN (SELECT ");
	for (size_t i = 0; i < rights; i++) {
		mg_sb_addf(writer->sb, "\"first\"(%s.c%zu) AS c%zu, ", inner.text, i, i);
	}
	for (size_t i = 0; !code && i < node->cond_count; i++) {
		code = write_expr(writer, node->conds[i].right, inner.text);
		mg_sb_addf(writer->sb, " AS k%zu, ", i);
	}
	add(writer, "count(*) AS many");
	code = code ? code : write_from(writer, " FROM ", node->kids[1], inner.text);
	add(writer, " GROUP BY ");
	for (size_t i = 0; !code && i < node->cond_count; i++) {
		add(writer, i ? ", " : "");
		code = write_expr(writer, node->conds[i].right, inner.text);
	}
	mg_sb_addf(writer->sb, ") %s ON ", right);
	for (size_t i = 0; !code && i < node->cond_count; i++) {
		add(writer, i ? " AND (" : "(");
		code = write_expr(writer, node->conds[i].left, left);
		mg_sb_addf(writer->sb, " %s %s.k%zu)", mg_compare_text(node->conds[i].compare), right, i);
	}
	return code;
}

static int write_join(struct writer *writer, const struct mg_node *node)
{
	static const char *const words[] = { " JOIN ",      " LEFT JOIN ", " RIGHT JOIN ",
		                                 " FULL JOIN ", " SEMI JOIN ", " ANTI JOIN ",
		                                 NULL,          NULL };
	struct alias left = alias_new(writer), right = alias_new(writer);
	size_t lefts = node->kids[0]->column_count, rights = node->kids[1]->column_count;

	if (node->join == MG_J_MARK) {
		return write_mark(writer, node, left.text, right.text);
	}
	if (node->join == MG_J_SINGLE) {
		return write_single(writer, node, left.text, right.text);
	}
	bool cross = node->join == MG_J_INNER && !node->cond_count && !node->pred_count;
	bool half = node->join == MG_J_SEMI || node->join == MG_J_ANTI;

	add(writer, "SELECT ");
	write_columns(writer, left.text, lefts, 0);
	write_columns(writer, right.text, half ? 0 : rights, lefts);
	write_dummy(writer, lefts + (half ? 0 : rights));
	int code = write_from(writer, " FROM ", node->kids[0], left.text);

	add(writer, node->asof ? " ASOF" : "");
	code = code ? code
	            : write_from(writer, cross ? " CROSS JOIN " : words[node->join], node->kids[1],
	                         right.text);
	if (!cross && !code) {
		add(writer, " ON ");
		code = write_on(writer, node, left.text, right.text);
	}
	return code;
}

/* ---- all together ---- */

static bool holds(const struct mg_type *type, const char *id)
{
	for (size_t i = 0; i < type->child_count; i++) {
		if (holds(type->children[i], id)) {
			return true;
		}
	}
	return mg_type_is(type, id);
}

/* Rows of a stage.  Values of an ENUM crossed as text, which has another order.  Inside of other
 * types they cannot be cast back: the engine breaks on STRUCT(m ENUM(...)).  A UNION whose member
 * is NULL arrives as NULL itself, without its tag. */
static int write_read(struct writer *writer, const struct mg_node *node)
{
	bool any = false;

	for (size_t i = 0; i < node->column_count; i++) {
		any = any || holds(node->types[i], "ENUM");
		if (holds(node->types[i], "ENUM") && !mg_type_is(node->types[i], "ENUM")) {
			return unsupported(writer->err, "an ENUM inside of another type between nodes");
		}
		if (holds(node->types[i], "UNION")) {
			return unsupported(writer->err, "a UNION between nodes");
		}
	}
	mg_sb_add(writer->sb, any ? "SELECT " : "SELECT *");
	for (size_t i = 0; any && i < node->column_count; i++) {
		mg_sb_add(writer->sb, i ? ", " : "");
		if (mg_type_is(node->types[i], "ENUM")) {
			mg_sb_addf(writer->sb, "CAST(c%zu AS ", i);
			int code = mg_type_text(writer->sb, node->types[i], writer->err);

			if (code) {
				return code;
			}
			mg_sb_addf(writer->sb, ") AS c%zu", i);
		} else {
			mg_sb_addf(writer->sb, "c%zu", i);
		}
	}
	mg_sb_addf(writer->sb, " FROM merganser_exchange(%u)", node->stage);
	return 0;
}

static int write_node(struct writer *writer, const struct mg_node *node)
{
	switch (node->op) {
	case MG_OP_SCAN:
		return write_scan(writer, node);
	case MG_OP_ROWS:
		return write_values(writer, node);
	case MG_OP_FUNC:
		return write_func(writer, node);
	case MG_OP_EMPTY:
		return write_empty(writer, node);
	case MG_OP_DUMMY:
		add(writer, "SELECT 1 AS dummy");
		return 0;
	case MG_OP_PROJECT:
		return write_project(writer, node);
	case MG_OP_FILTER:
		return write_filter(writer, node);
	case MG_OP_JOIN:
		return write_join(writer, node);
	case MG_OP_AGG:
		return write_aggregate(writer, node);
	case MG_OP_DISTINCT:
		return write_distinct(writer, node);
	case MG_OP_WINDOW:
	case MG_OP_UNNEST:
		return write_select(writer, node, "SELECT ", node->exprs, node->expr_count,
		                    alias_new(writer).text);
	case MG_OP_ORDER:
	case MG_OP_LIMIT:
	case MG_OP_TOPN:
		return write_sorted(writer, node);
	case MG_OP_UNION:
	case MG_OP_EXCEPT:
	case MG_OP_INTERSECT:
		return write_setop(writer, node);
	case MG_OP_CTE:
		return write_cte(writer, node);
	case MG_OP_RECCTE:
		return write_recursive(writer, node);
	case MG_OP_REF:
		mg_sb_addf(writer->sb, "SELECT * FROM %s", node->name);
		return 0;
	case MG_OP_READ:
		return write_read(writer, node);
	case MG_OP_EXCHANGE:
		break;
	}
	return unsupported(writer->err, "exchange inside of a stage");
}

int mg_plan_print(struct mg_arena *arena, const struct mg_node *node, char **sql,
                  struct mg_error *err)
{
	struct mg_sb sb = { 0 };
	struct writer writer = { .sb = &sb, .err = err };
	int code = write_node(&writer, node);

	*sql = code ? NULL : mg_arena_strdup(arena, mg_sb_text(&sb));
	mg_sb_fini(&sb);
	return code;
}
