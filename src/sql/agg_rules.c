/*
 * agg_rules.c - how each aggregate is computed in two steps: pieces where the rows are, and a final
 * expression over the pieces of one group.
 *
 * Templates: {0}, {1} are the arguments (pieces) or the pieces' columns (final); %F becomes the
 * aggregate's FILTER clause and %A " AND condition" of it; %T is the bound type of the result, %S
 * the type that sums of the first argument have, so that re-binding the text cannot drift.
 * Variances and covariances ship counts, means and central moments and are merged pairwise (Chan):
 * sums of squares lose digits.  What is not in the table is holistic.
 */
#include "sql/place.h"

#include "base/str.h"

#include <string.h>

enum piece_type { T_RESULT, T_BIGINT, T_DOUBLE, T_SUM, T_ARG0, T_ARG1 };

struct piece_rule {
	const char *text;
	enum piece_type type;
	const char *merge; /* of two pieces of one value, or NULL */
};

enum rule_flags {
	R_NUMBER = 1,  /* DOUBLE result over a number */
	R_INEXACT = 2, /* only over FLOAT and DOUBLE */
	R_EXACT = 4,   /* only over integers and decimals */
	R_SAME_ON_REPLICAS = 8,
	R_NO_DISTINCT = 16, /* DISTINCT changes nothing */
	R_RANGE = 32        /* of a histogram: only with its range, which tells the edges */
};

struct agg_rule {
	const char *name;
	size_t args;
	unsigned flags;
	struct piece_rule pieces[6];
	const char *final;
};

#define COUNT_SUM "CAST(coalesce(sum({0}), 0) AS BIGINT)"
#define CAST_SUM "CAST(sum({0}) AS %T)"
#define SELF(fn) { { fn "({0})%F", T_RESULT, fn "({0})" } }, fn "({0})"

/* (n, m, s) of two sets of rows; the list holds one entry for each participant with rows. */
#define MOMENTS2                                                                                 \
	"list_reduce(list(struct_pack(n := CAST({0} AS DOUBLE), m := {1}, s := {2})) FILTER (WHERE " \
	"{0} > 0), "                                                                                 \
	"lambda a, b: struct_pack(n := a.n + b.n, m := a.m + (b.m - a.m) * b.n / (a.n + b.n), "      \
	"s := a.s + b.s + (b.m - a.m) * (b.m - a.m) * a.n * b.n / (a.n + b.n)))"
#define VARIANCE_PIECES                                                                       \
	{                                                                                         \
		{ "count({0})%F", T_BIGINT, NULL }, { "avg(CAST({0} AS DOUBLE))%F", T_DOUBLE, NULL }, \
		{                                                                                     \
			"(var_pop({0})%F * count({0})%F)", T_DOUBLE, NULL                                 \
		}                                                                                     \
	}
#define VAR_POP "((" MOMENTS2 ").s / nullif(sum({0}), 0))"
#define VAR_SAMP "((" MOMENTS2 ").s / nullif(sum({0}) - 1, 0))"

/* Pairs: {0} n, {1} mean of x, {2} mean of y, {3} Sxy. */
#define MOMENTS_XY                                                                               \
	"list_reduce(list(struct_pack(n := {0}, x := {1}, y := {2}, c := {3})) FILTER (WHERE {0} > " \
	"0), "                                                                                       \
	"lambda a, b: struct_pack(n := a.n + b.n, x := a.x + (b.x - a.x) * b.n / (a.n + b.n), "      \
	"y := a.y + (b.y - a.y) * b.n / (a.n + b.n), "                                               \
	"c := a.c + b.c + (b.x - a.x) * (b.y - a.y) * a.n * b.n / (a.n + b.n)))"
#define COVARIANCE_PIECES                                             \
	{                                                                 \
		{ "CAST(regr_count({0}, {1})%F AS DOUBLE)", T_DOUBLE, NULL }, \
			{ "regr_avgx({0}, {1})%F", T_DOUBLE, NULL },              \
			{ "regr_avgy({0}, {1})%F", T_DOUBLE, NULL },              \
		{                                                             \
			"regr_sxy({0}, {1})%F", T_DOUBLE, NULL                    \
		}                                                             \
	}

#define ARG_PIECES(fn, best)                                             \
	{ { fn "({0}, {1})%F", T_RESULT, NULL },                             \
	  { best "({1}) FILTER (WHERE {0} IS NOT NULL%A)", T_ARG1, NULL } }, \
		fn "({0}, {1})"
#define ARG_NULL_PIECES(fn, best) \
	{ { fn "({0}, {1})%F", T_RESULT, NULL }, { best "({1})%F", T_ARG1, NULL } }, fn "({0}, {1})"

/* NaN: that participant had no finite value. */
#define NOT_NAN(end)                                                        \
	"coalesce(" end "(struct_extract({0}, '" end "')) FILTER (WHERE NOT "   \
	"isnan(struct_extract({0}, '" end "'))), CAST('nan' AS DOUBLE))"
#define MINMAX "struct_pack(\"min\" := " NOT_NAN("min") ", \"max\" := " NOT_NAN("max") ")"
#define HISTOGRAM(name, args) \
	{ { name "(" args ")%F", T_RESULT, name "_sum({0})" } }, name "_sum({0})"

static const struct agg_rule rules[] = {
	{ "count_star", 0, R_SAME_ON_REPLICAS, { { "count(*)%F", T_BIGINT, COUNT_SUM } }, COUNT_SUM },
	{ "count", 0, R_SAME_ON_REPLICAS, { { "count(*)%F", T_BIGINT, COUNT_SUM } }, COUNT_SUM },
	{ "count", 1, R_SAME_ON_REPLICAS, { { "count({0})%F", T_BIGINT, COUNT_SUM } }, COUNT_SUM },
	{ "count_if",
	  1,
	  R_SAME_ON_REPLICAS,
	  { { "count_if({0})%F", T_RESULT, "CAST(coalesce(sum({0}), 0) AS %T)" } },
	  "CAST(coalesce(sum({0}), 0) AS %T)" },
	{ "countif",
	  1,
	  R_SAME_ON_REPLICAS,
	  { { "count_if({0})%F", T_RESULT, "CAST(coalesce(sum({0}), 0) AS %T)" } },
	  "CAST(coalesce(sum({0}), 0) AS %T)" },
	{ "sum", 1, 0, { { "sum({0})%F", T_RESULT, CAST_SUM } }, CAST_SUM },
	{ "sum_no_overflow", 1, 0, { { "sum({0})%F", T_RESULT, CAST_SUM } }, CAST_SUM },
	{ "fsum", 1, R_NUMBER, { { "fsum({0})%F", T_DOUBLE, "fsum({0})" } }, "fsum({0})" },
	{ "kahan_sum", 1, R_NUMBER, { { "fsum({0})%F", T_DOUBLE, "fsum({0})" } }, "fsum({0})" },
	{ "sumkahan", 1, R_NUMBER, { { "fsum({0})%F", T_DOUBLE, "fsum({0})" } }, "fsum({0})" },
	{ "avg",
	  1,
	  R_NUMBER | R_EXACT | R_SAME_ON_REPLICAS,
	  { { "sum({0})%F", T_SUM, "CAST(sum({0}) AS %S)" }, { "count({0})%F", T_BIGINT, COUNT_SUM } },
	  "(CAST(sum({0}) AS DOUBLE) / nullif(sum({1}), 0))" },
	{ "avg",
	  1,
	  R_NUMBER | R_INEXACT,
	  { { "sum(CAST({0} AS DOUBLE))%F", T_DOUBLE, "sum({0})" },
	    { "count({0})%F", T_BIGINT, COUNT_SUM } },
	  "(CAST(sum({0}) AS DOUBLE) / nullif(sum({1}), 0))" },
	{ "min", 1, R_SAME_ON_REPLICAS | R_NO_DISTINCT, SELF("min") },
	{ "max", 1, R_SAME_ON_REPLICAS | R_NO_DISTINCT, SELF("max") },
	{ "bool_and", 1, R_SAME_ON_REPLICAS | R_NO_DISTINCT, SELF("bool_and") },
	{ "bool_or", 1, R_SAME_ON_REPLICAS | R_NO_DISTINCT, SELF("bool_or") },
	{ "bit_and", 1, R_SAME_ON_REPLICAS | R_NO_DISTINCT, SELF("bit_and") },
	{ "bit_or", 1, R_SAME_ON_REPLICAS | R_NO_DISTINCT, SELF("bit_or") },
	{ "bit_xor", 1, R_SAME_ON_REPLICAS, SELF("bit_xor") },
	{ "product", 1, 0, SELF("product") },
	{ "any_value", 1, R_NO_DISTINCT, SELF("any_value") },
	/* These may take a NULL row, so the piece of a participant without rows must not win. */
	{ "first",
	  1,
	  R_NO_DISTINCT,
	  { { "\"first\"({0})%F", T_RESULT, NULL }, { "count(*)%F", T_BIGINT, NULL } },
	  "\"first\"({0}) FILTER (WHERE {1} > 0)" },
	{ "arbitrary",
	  1,
	  R_NO_DISTINCT,
	  { { "\"first\"({0})%F", T_RESULT, NULL }, { "count(*)%F", T_BIGINT, NULL } },
	  "\"first\"({0}) FILTER (WHERE {1} > 0)" },
	{ "last",
	  1,
	  R_NO_DISTINCT,
	  { { "\"last\"({0})%F", T_RESULT, NULL }, { "count(*)%F", T_BIGINT, NULL } },
	  "\"last\"({0}) FILTER (WHERE {1} > 0)" },
	{ "arg_min", 2, R_NO_DISTINCT, ARG_PIECES("arg_min", "min") },
	{ "argmin", 2, R_NO_DISTINCT, ARG_PIECES("arg_min", "min") },
	{ "min_by", 2, R_NO_DISTINCT, ARG_PIECES("arg_min", "min") },
	{ "arg_max", 2, R_NO_DISTINCT, ARG_PIECES("arg_max", "max") },
	{ "argmax", 2, R_NO_DISTINCT, ARG_PIECES("arg_max", "max") },
	{ "max_by", 2, R_NO_DISTINCT, ARG_PIECES("arg_max", "max") },
	{ "arg_min_null", 2, R_NO_DISTINCT, ARG_NULL_PIECES("arg_min_null", "min") },
	{ "arg_max_null", 2, R_NO_DISTINCT, ARG_NULL_PIECES("arg_max_null", "max") },
	{ "var_pop", 1, R_NUMBER, VARIANCE_PIECES, VAR_POP },
	{ "stddev_pop", 1, R_NUMBER, VARIANCE_PIECES, "sqrt(" VAR_POP ")" },
	{ "var_samp", 1, R_NUMBER, VARIANCE_PIECES, VAR_SAMP },
	{ "variance", 1, R_NUMBER, VARIANCE_PIECES, VAR_SAMP },
	{ "stddev", 1, R_NUMBER, VARIANCE_PIECES, "sqrt(" VAR_SAMP ")" },
	{ "stddev_samp", 1, R_NUMBER, VARIANCE_PIECES, "sqrt(" VAR_SAMP ")" },
	{ "covar_pop", 2, R_NUMBER, COVARIANCE_PIECES, "((" MOMENTS_XY ").c / nullif(sum({0}), 0))" },
	{ "covar_samp", 2, R_NUMBER, COVARIANCE_PIECES,
	  "((" MOMENTS_XY ").c / nullif(sum({0}) - 1, 0))" },
	{ "minmax",
	  1,
	  R_SAME_ON_REPLICAS | R_NO_DISTINCT,
	  { { "minmax({0})%F", T_RESULT, MINMAX } },
	  MINMAX },
	{ "mg_histogram", 2, R_SAME_ON_REPLICAS | R_RANGE, HISTOGRAM("mg_histogram", "{0}, {1}") },
	{ "mg_histogram", 3, R_SAME_ON_REPLICAS | R_RANGE, HISTOGRAM("mg_histogram", "{0}, {1}, {2}") },
	{ "mg_histogram2d", 3, R_SAME_ON_REPLICAS | R_RANGE,
	  HISTOGRAM("mg_histogram2d", "{0}, {1}, {2}") },
	{ "mg_histogram2d", 4, R_SAME_ON_REPLICAS | R_RANGE,
	  HISTOGRAM("mg_histogram2d", "{0}, {1}, {2}, {3}") },
	{ "mg_histogram_sum", 1, R_SAME_ON_REPLICAS, SELF("mg_histogram_sum") },
	{ "mg_histogram2d_sum", 1, R_SAME_ON_REPLICAS, SELF("mg_histogram2d_sum") },
	{ "regr_sxy", 2, R_NUMBER, COVARIANCE_PIECES, "(" MOMENTS_XY ").c" },
};

static bool is_number(const struct mg_type *type)
{
	return mg_type_is_integer(type) || mg_type_is(type, "DECIMAL") || mg_type_is(type, "FLOAT") ||
	       mg_type_is(type, "DOUBLE");
}

/* Is there a range among the arguments?  bins are a BIGINT or a list of it. */
static bool has_range(const struct mg_expr *agg)
{
	for (size_t i = 0; i < agg->kid_count; i++) {
		const struct mg_type *type = agg->kids[i]->type;

		if (mg_type_is(type, "STRUCT") ||
		    (mg_type_is(type, "LIST") && !mg_type_is(type->children[0], "BIGINT"))) {
			return true;
		}
	}
	return false;
}

static bool rule_fits(const struct agg_rule *rule, const struct mg_expr *agg)
{
	if (strcmp(rule->name, agg->name) != 0 || rule->args != agg->kid_count) {
		return false;
	}
	if (rule->flags & R_NUMBER) {
		if (!mg_type_is(agg->type, "DOUBLE")) {
			return false;
		}
		for (size_t i = 0; i < agg->kid_count; i++) {
			if (!is_number(agg->kids[i]->type)) {
				return false;
			}
		}
	}
	if (rule->flags & R_RANGE && !has_range(agg)) {
		return false;
	}
	if (rule->flags & (R_EXACT | R_INEXACT)) {
		const struct mg_type *type = agg->kids[0]->type;
		bool exact = (mg_type_is_integer(type) && !mg_type_is(type, "UHUGEINT")) ||
		             mg_type_is(type, "DECIMAL");
		return exact == ((rule->flags & R_EXACT) != 0);
	}
	return true;
}

static const struct agg_rule *rule_find(const struct mg_expr *agg)
{
	if (agg->cls != MG_X_AGGREGATE || !agg->name) {
		return NULL;
	}
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		if (rule_fits(&rules[i], agg)) {
			return &rules[i];
		}
	}
	return NULL;
}

static const struct mg_type *sum_type(struct mg_arena *arena, const struct mg_type *arg)
{
	if (mg_type_is_integer(arg)) {
		return mg_type_simple("HUGEINT");
	}
	struct mg_type *type = mg_arena_alloc(arena, sizeof *type);
	type->id = "DECIMAL";
	type->width = 38;
	type->scale = arg->scale;
	return type;
}

static const struct mg_type *piece_type(struct mg_arena *arena, enum piece_type type,
                                        const struct mg_expr *agg)
{
	switch (type) {
	case T_BIGINT:
		return mg_type_simple("BIGINT");
	case T_DOUBLE:
		return mg_type_simple("DOUBLE");
	case T_SUM:
		return sum_type(arena, agg->kids[0]->type);
	case T_ARG0:
		return agg->kids[0]->type;
	case T_ARG1:
		return agg->kids[1]->type;
	case T_RESULT:
		break;
	}
	return agg->type;
}

/* Put types and the filter into a template. */
static const char *expand(struct mg_arena *arena, const char *text, const struct mg_expr *agg)
{
	struct mg_sb sb = { 0 };
	bool ok = true;
	for (const char *at = text; *at; at++) {
		if (at[0] != '%') {
			mg_sb_add_char(&sb, *at);
			continue;
		}
		at++;
		char *type = NULL;
		if (*at == 'F' && agg->filter) {
			mg_sb_addf(&sb, " FILTER (WHERE {%zu})", agg->kid_count);
		} else if (*at == 'A' && agg->filter) {
			mg_sb_addf(&sb, " AND {%zu}", agg->kid_count);
		} else if (*at == 'T' || *at == 'S') {
			const struct mg_type *wanted = *at == 'T' ? agg->type
			                                          : sum_type(arena, agg->kids[0]->type);
			ok = ok && mg_type_print(arena, wanted, &type, NULL) == 0;
			mg_sb_add(&sb, type ? type : "");
		}
	}
	const char *out = ok ? mg_arena_strdup(arena, mg_sb_text(&sb)) : NULL;
	mg_sb_fini(&sb);
	return out;
}

static struct mg_expr *make_piece(struct mg_arena *arena, const struct piece_rule *rule,
                                  const struct mg_expr *agg)
{
	struct mg_expr **kids = mg_arena_new_array(arena, struct mg_expr *, agg->kid_count + 1);
	size_t count = 0;
	for (; count < agg->kid_count; count++) {
		kids[count] = agg->kids[count];
	}
	if (agg->filter) {
		kids[count++] = agg->filter;
	}
	const char *text = expand(arena, rule->text, agg);
	if (!text) {
		return NULL;
	}
	struct mg_expr *piece =
		mg_expr_raw(arena, text, piece_type(arena, rule->type, agg), count, kids);
	piece->merge = rule->merge ? expand(arena, rule->merge, agg) : NULL;
	return piece;
}

bool mg_agg_decompose(struct mg_arena *arena, const struct mg_expr *agg, struct mg_agg_split *out)
{
	const struct agg_rule *rule = rule_find(agg);
	if (!rule || agg->order_count > 0 || (agg->distinct && !(rule->flags & R_NO_DISTINCT))) {
		return false;
	}
	*out = (struct mg_agg_split){ .final = expand(arena, rule->final, agg) };
	if (!out->final) {
		return false;
	}
	for (size_t i = 0; i < sizeof rule->pieces / sizeof *rule->pieces && rule->pieces[i].text;
	     i++) {
		out->pieces[i] = make_piece(arena, &rule->pieces[i], agg);
		if (!out->pieces[i]) {
			return false;
		}
		out->piece_count++;
	}
	return true;
}

bool mg_agg_stable(const struct mg_expr *agg)
{
	if (agg->cls != MG_X_AGGREGATE) {
		return true;
	}
	const struct agg_rule *rule = rule_find(agg);
	if (!rule || agg->order_count > 0) {
		return false;
	}
	bool sum = strcmp(rule->name, "sum") == 0 || strcmp(rule->name, "sum_no_overflow") == 0;
	return (rule->flags & R_SAME_ON_REPLICAS) != 0 ||
	       (sum && (mg_type_is(agg->type, "HUGEINT") || mg_type_is(agg->type, "DECIMAL")));
}

bool mg_agg_ignores_distinct(const struct mg_expr *agg)
{
	const struct agg_rule *rule = rule_find(agg);
	return rule && (rule->flags & R_NO_DISTINCT) != 0;
}
