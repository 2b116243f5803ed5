/*
 * sizes.c - how many rows an operator makes, as well as anybody knows.
 *
 * DuckDB estimates over the planning database, whose tables are samples.  A scan's size is the
 * catalog's; the factor between both is carried upwards, and a finished stage puts its count in
 * place of the guess, so that what stands above it is guessed anew.  Correctness never depends on
 * it.
 */
#include "sql/place.h"

#include "base/str.h"

#include <stdarg.h>

void mg_place_note(struct mg_place *place, const char *fmt, ...)
{
	if (!place->env->notes) {
		return;
	}
	va_list ap;
	va_start(ap, fmt);
	mg_sb_addv(place->env->notes, fmt, ap);
	va_end(ap);
	mg_sb_add_char(place->env->notes, '\n');
}

static const struct mg_table_place *table_of(struct mg_place *place, const struct mg_node *scan)
{
	return place->env->find_table(place->env->arg, scan->schema, scan->table);
}

/* Rows that an operator can make at most, or -1. */
static double rows_max(struct mg_place *place, const struct mg_node *node)
{
	switch (node->op) {
	case MG_OP_READ:
		return node->counted ? node->rows : -1;
	case MG_OP_SCAN: {
		const struct mg_table_place *table = table_of(place, node);
		return table ? (double)table->rows : -1;
	}
	case MG_OP_AGG:
		if (node->group_count == 0 && node->set_count == 0) {
			return 1;
		}
		return -1;
	case MG_OP_LIMIT:
	case MG_OP_TOPN:
		if (node->has_limit && node->limit <= 1000000) {
			return (double)node->limit;
		}
		return rows_max(place, node->kids[0]);
	case MG_OP_PROJECT:
	case MG_OP_FILTER:
	case MG_OP_ORDER:
	case MG_OP_WINDOW:
	case MG_OP_DISTINCT:
		return rows_max(place, node->kids[0]);
	case MG_OP_ROWS:
		return (double)node->row_count;
	case MG_OP_EMPTY:
		return 0;
	case MG_OP_DUMMY:
		return 1;
	case MG_OP_JOIN: {
		double left = rows_max(place, node->kids[0]);
		double right = rows_max(place, node->kids[1]);
		if (left >= 0 && (node->join == MG_J_SEMI || node->join == MG_J_ANTI ||
		                  node->join == MG_J_MARK || node->join == MG_J_SINGLE)) {
			return left;
		}
		return left >= 0 && left <= 1 && right >= 0 && right <= 1 ? 1 : -1;
	}
	default:
		return -1;
	}
}

/* How much larger the inputs are than the samples that DuckDB saw; -1: not known. */
static double scale_of(struct mg_node *const *kids, size_t count)
{
	double scale = -1;
	for (size_t i = 0; i < count; i++) {
		double kid = kids[i]->raw > 0 ? kids[i]->rows / kids[i]->raw : -1;
		scale = kid > scale ? kid : scale;
	}
	return scale;
}

/* Without an estimate of DuckDB's, or where it cannot be scaled. */
static double guess_rows(const struct mg_node *node, struct mg_node *const *kids, size_t count)
{
	double most = 0;
	double sum = 0;
	for (size_t i = 0; i < count; i++) {
		most = kids[i]->rows > most ? kids[i]->rows : most;
		sum += kids[i]->rows;
	}
	switch (node->op) {
	case MG_OP_FILTER:
		return most / 5;
	case MG_OP_AGG:
	case MG_OP_DISTINCT:
		return most / 4;
	case MG_OP_UNION:
		return sum;
	default:
		return count > 0 ? most : 1000;
	}
}

void mg_place_size(struct mg_place *place, struct mg_node *node, struct mg_node *const *kids,
                   size_t count)
{
	double scale = scale_of(kids, count);
	node->raw = node->rows;
	if (node->op == MG_OP_SCAN) {
		const struct mg_table_place *table = table_of(place, node);
		node->raw = table && table->sample_rows > 0 ? (double)table->sample_rows : node->rows;
	} else if (node->raw < 0 || (scale < 0 && node->op == MG_OP_FILTER) ||
	           node->op == MG_OP_UNION) {
		node->rows = node->raw >= 0 && count == 0 ? node->raw : guess_rows(node, kids, count);
	} else if (node->op == MG_OP_AGG || node->op == MG_OP_DISTINCT) {
		/* Many groups in the sample: most values are different, and more rows bring more of them.
		 */
		double kid = kids[0]->raw > 1 ? kids[0]->raw : 1;
		node->rows = node->raw * (scale >= 0 && (node->raw > kid / 10 || scale < 1) ? scale : 1);
		node->rows = node->rows < kids[0]->rows ? node->rows : kids[0]->rows;
	} else {
		node->rows = scale < 0 ? node->raw : node->raw * scale;
	}
	double most = rows_max(place, node);
	if (most >= 0 && (most < node->rows || node->op == MG_OP_SCAN)) {
		node->rows = most;
	}
	node->rows = node->rows < 0 ? 1000 : node->rows;
	node->counted = false;
}

double mg_place_rows(struct mg_place *place, const struct mg_node *node)
{
	double most = rows_max(place, node);
	return most >= 0 && (most < node->rows || node->rows < 0) ? most
	       : node->rows < 0                                   ? 1000
	                                                          : node->rows;
}

double mg_place_bytes(struct mg_place *place, const struct mg_node *node)
{
	double width = 1;
	for (size_t i = 0; i < node->column_count; i++) {
		width += mg_type_width(node->types[i]);
	}
	return mg_place_rows(place, node) * width;
}

/* A scan without filters, whose size the catalog knows. */
static bool is_bare(const struct mg_node *node)
{
	while (node->op == MG_OP_PROJECT) {
		node = node->kids[0];
	}
	return node->op == MG_OP_SCAN;
}

bool mg_place_known(struct mg_place *place, const struct mg_node *node)
{
	if (is_bare(node)) {
		return true;
	}
	double most = rows_max(place, node);
	return (most >= 0 && most <= 1000) || (node->op == MG_OP_READ && node->counted);
}
