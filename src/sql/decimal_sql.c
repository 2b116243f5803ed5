/*
 * decimal_sql.c - decimal arithmetic written so that DuckDB binds it to the type it had.
 *
 * A decimal expression printed as SQL may get another width: 16,2 - 16,2 becomes 17,2.  A CAST of
 * the result puts that right, but costs: TPC-H 1 spends a quarter more.  So arguments are written
 * as narrow as they are, and the CAST is left out where the binder's own rule gives the type back.
 *
 * Pure.
 */
#include "sql/sql_text.h"

#include <string.h>

/* Decimal + - *: leave out casts of an argument that only widen it at the same scale. */
const struct mg_expr *mg_decimal_bare(const struct mg_expr *expr)
{
	if (expr->cls == MG_X_CAST && !expr->try_cast && mg_type_is(expr->type, "DECIMAL") &&
	    mg_type_is(expr->kids[0]->type, "DECIMAL") &&
	    expr->kids[0]->type->scale == expr->type->scale &&
	    expr->kids[0]->type->width <= expr->type->width) {
		return expr->kids[0];
	}
	return expr;
}

bool mg_decimal_is_arithmetic(const struct mg_expr *expr)
{
	return expr->cls == MG_X_FUNCTION && expr->kid_count == 2 &&
	       mg_type_is(expr->type, "DECIMAL") && strlen(expr->name) == 1 &&
	       strchr("+-*", expr->name[0]);
}

/* The binder has widened a constant to its neighbour's type; written as narrow as it is, it is
 * bound to the same result type again. */
bool mg_decimal_narrow(const struct mg_expr *expr, struct mg_type *narrow)
{
	const struct mg_json *value = mg_json_get(expr->json, "value");
	if (expr->cls != MG_X_CONST || !mg_json_is(value, MG_JSON_NUMBER)) {
		return false;
	}
	struct mg_str digits = value->text;
	while (digits.len > 1 && (digits.ptr[0] == '-' || digits.ptr[0] == '0')) {
		digits.ptr++;
		digits.len--;
	}
	*narrow = *expr->type;
	int width = (int)digits.len > narrow->scale ? (int)digits.len : narrow->scale;
	narrow->width = width < narrow->width && width > 0 ? width : narrow->width;
	return true;
}

/* The type that DuckDB gives an argument of + - * as we write it; false when we are not sure. */
static bool written_type(const struct mg_expr *expr, struct mg_type *type)
{
	expr = mg_decimal_bare(expr);
	if (mg_decimal_narrow(expr, type)) {
		return true;
	}
	*type = *expr->type;
	return mg_type_is(type, "DECIMAL") &&
	       (expr->cls == MG_X_REF || expr->cls == MG_X_CAST || mg_decimal_is_arithmetic(expr));
}

/* DuckDB 1.5.5's binder: the digits that cannot overflow, but 64 bits stay 64 bits (and are
 * checked when they are computed). */
bool mg_decimal_binds_alike(const struct mg_expr *expr)
{
	enum { WIDTH_INT64 = 18, WIDTH_MAX = 38 };
	struct mg_type a, b;
	if (!written_type(expr->kids[0], &a) || !written_type(expr->kids[1], &b)) {
		return false;
	}
	int scale = a.scale > b.scale ? a.scale : b.scale;
	int before = a.width - a.scale > b.width - b.scale ? a.width - a.scale : b.width - b.scale;
	int width = scale + before + 1;
	if (strcmp(expr->name, "*") == 0) {
		scale = a.scale + b.scale;
		width = a.width + b.width;
	}
	if (width > WIDTH_INT64 && a.width <= WIDTH_INT64 && b.width <= WIDTH_INT64) {
		width = WIDTH_INT64;
	}
	width = width > WIDTH_MAX ? WIDTH_MAX : width;
	return expr->type->width == width && expr->type->scale == scale;
}
