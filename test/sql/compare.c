/*
 * compare.c - are two sets of rows the same answer?
 *
 * Types, integers, decimals and text exactly; numbers inside of DOUBLE and FLOAT columns to 1e-9
 * relative, also when they lie in lists and structs.  Order is looked at apart.
 */
#include "bed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_inexact(const char *type)
{
	return strstr(type, "DOUBLE") || strstr(type, "FLOAT");
}

static bool number_starts(const char *text)
{
	return (text[0] >= '0' && text[0] <= '9') ||
	       ((text[0] == '-' || text[0] == '.') && text[1] >= '0' && text[1] <= '9');
}

/* Texts are equal but for numbers that differ by less than 1e-9 of their size. */
static bool numbers_close(const char *a, const char *b)
{
	while (*a && *b) {
		if (number_starts(a) && number_starts(b)) {
			char *a_end = NULL;
			char *b_end = NULL;
			double x = strtod(a, &a_end);
			double y = strtod(b, &b_end);
			double size = fabs(x) > fabs(y) ? fabs(x) : fabs(y);
			if (fabs(x - y) > 1e-9 * (size > 1 ? size : 1)) {
				return false;
			}
			a = a_end;
			b = b_end;
		} else if (*a++ != *b++) {
			return false;
		}
	}
	return *a == *b;
}

bool bed_cell_same(const char *a, const char *b, const char *type)
{
	if (!a || !b) {
		return a == b;
	}
	return strcmp(a, b) == 0 || (is_inexact(type) && numbers_close(a, b));
}

static bool row_same(char **a, char **b, size_t columns, const char *const *types)
{
	for (size_t c = 0; c < columns; c++) {
		if (!bed_cell_same(a[c], b[c], types[c])) {
			return false;
		}
	}
	return true;
}

struct sorted {
	char *key;
	char **row;
};

static int sorted_order(const void *a, const void *b)
{
	return strcmp(((const struct sorted *)a)->key, ((const struct sorted *)b)->key);
}

/* Rows by a text in which inexact numbers are rounded. */
static struct sorted *sort_rows(const struct bed_rows *rows, const char *const *types)
{
	struct sorted *out = mg_alloc0((rows->row_count + 1) * sizeof *out);
	for (size_t r = 0; r < rows->row_count; r++) {
		struct mg_sb sb = { 0 };
		for (size_t c = 0; c < rows->column_count; c++) {
			const char *cell = rows->rows[r][c];
			if (cell && is_inexact(types[c]) && number_starts(cell)) {
				mg_sb_addf(&sb, "%.6g|", strtod(cell, NULL));
			} else {
				mg_sb_addf(&sb, "%s|", cell ? cell : "\\N");
			}
		}
		out[r] = (struct sorted){ .key = mg_sb_take(&sb), .row = rows->rows[r] };
	}
	qsort(out, rows->row_count, sizeof *out, sorted_order);
	return out;
}

static void sorted_free(struct sorted *sorted, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_free(sorted[i].key);
	}
	mg_free(sorted);
}

/* Each row of some has its own partner in all. */
static bool match_each(const struct sorted *all, size_t all_count, const struct sorted *some,
                       size_t some_count, size_t columns, const char *const *types)
{
	bool *used = mg_alloc0(all_count + 1);
	bool ok = true;
	size_t from = 0;
	for (size_t s = 0; s < some_count && ok; s++) {
		bool found = false;
		for (size_t a = from; a < all_count && !found; a++) {
			if (!used[a] && row_same(all[a].row, some[s].row, columns, types)) {
				used[a] = true;
				found = true;
			}
		}
		while (from < all_count && used[from]) {
			from++;
		}
		ok = found;
	}
	mg_free(used);
	return ok;
}

bool bed_rows_same(const struct bed_rows *want, const struct bed_rows *got,
                   const char *const *types, bool *ordered)
{
	*ordered = true;
	if (want->row_count != got->row_count ||
	    (want->row_count > 0 && want->column_count != got->column_count)) {
		return false;
	}
	for (size_t r = 0; r < want->row_count && *ordered; r++) {
		*ordered = row_same(want->rows[r], got->rows[r], want->column_count, types);
	}
	if (*ordered) {
		return true;
	}
	struct sorted *a = sort_rows(want, types);
	struct sorted *b = sort_rows(got, types);
	bool same = true;
	for (size_t r = 0; r < want->row_count && same; r++) {
		same = row_same(a[r].row, b[r].row, want->column_count, types);
	}
	same = same || match_each(a, want->row_count, b, got->row_count, want->column_count, types);
	sorted_free(a, want->row_count);
	sorted_free(b, got->row_count);
	return same;
}

bool bed_rows_contained(const struct bed_rows *all, const struct bed_rows *some,
                        const char *const *types)
{
	struct sorted *a = sort_rows(all, types);
	struct sorted *b = sort_rows(some, types);
	bool ok = match_each(a, all->row_count, b, some->row_count, all->column_count, types);
	sorted_free(a, all->row_count);
	sorted_free(b, some->row_count);
	return ok;
}
