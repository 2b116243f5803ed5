/*
 * sql_text.h - from types, values and expressions back to SQL text; what the printing files share.
 *
 * What is printed must bind again to exactly the type it had: constants carry a cast, decimal
 * results are cast to the type that the plan says.
 */
#ifndef MG_SQL_SQL_TEXT_H
#define MG_SQL_SQL_TEXT_H

#include "sql/ir.h"

/* Append a type that a CAST may name.  Fails: MG_E_UNSUPPORTED. */
int mg_type_text(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err);

/* A cast of what is appended between the two, to any type (type_cast.c).
 * Fails: MG_E_UNSUPPORTED. */
int mg_cast_open(struct mg_sb *sb, const struct mg_type *type, bool try_cast, struct mg_error *err);
int mg_cast_close(struct mg_sb *sb, const struct mg_type *type, struct mg_error *err);
/* Holds a struct without field names, which no CAST can name. */
bool mg_type_unnamed(const struct mg_type *type);
/* A type from the text that the engine describes it with, or NULL. */
const struct mg_type *mg_type_parse(struct mg_arena *arena, const char *text);

/* Append a constant: value is the JSON object {type, is_null, value}, type its type. */
int mg_value_text(struct mg_sb *sb, const struct mg_json *value, const struct mg_type *type,
                  struct mg_error *err);

/* Names of the columns that references mean: column i is left.c<i>, or right.c<i - left_count>
 * from left_count on.  left NULL: plain c<i>. */
struct mg_expr_scope {
	const char *left, *right;
	size_t left_count;
};

int mg_expr_text(struct mg_sb *sb, const struct mg_expr *expr, const struct mg_expr_scope *scope,
                 struct mg_error *err);
/* "a ASC NULLS LAST, ..." */
int mg_orders_text(struct mg_sb *sb, const struct mg_order *orders, size_t count,
                   const struct mg_expr_scope *scope, struct mg_error *err);
/* SQL of a COMPARE_ kind ("="), or NULL. */
const char *mg_compare_text(const char *kind);

/* ---- decimal_sql.c: decimal + - * ---- */
bool mg_decimal_is_arithmetic(const struct mg_expr *expr);
/* The expression without casts that only widen it at the same scale. */
const struct mg_expr *mg_decimal_bare(const struct mg_expr *expr);
/* A constant's narrowest type; false: it is none, or too large to tell. */
bool mg_decimal_narrow(const struct mg_expr *expr, struct mg_type *narrow);
/* Written with bare, narrow arguments the expression has its own type again. */
bool mg_decimal_binds_alike(const struct mg_expr *expr);

#endif
