/*
 * text_rows.h - a few rows of text as one Arrow batch: what SHOW and EXPLAIN answer.
 *
 * Pure; thread: the owner of the struct.
 */
#ifndef MG_SESSION_TEXT_ROWS_H
#define MG_SESSION_TEXT_ROWS_H

#include "base/error.h"
#include "base/str.h"

#include <nanoarrow/nanoarrow.h>

struct mg_text_rows {
	struct ArrowSchema schema;
	struct ArrowArray array;
	size_t columns;
	uint64_t rows, bytes;
};

/* All columns are VARCHAR.  Fails: MG_E_NOMEM; then nothing is to be freed. */
int mg_text_rows_init(struct mg_text_rows *rows, const char *const *names, size_t columns,
                      struct mg_error *err);
/* One row: a value for each column. */
int mg_text_rows_add(struct mg_text_rows *rows, const struct mg_str *values, struct mg_error *err);
/* Of one column: a row for each line of the text, or one row. */
int mg_text_rows_add_text(struct mg_text_rows *rows, const struct mg_sb *text, bool by_line,
                          struct mg_error *err);
/* The array can be read; no more rows. */
int mg_text_rows_finish(struct mg_text_rows *rows, struct mg_error *err);
void mg_text_rows_fini(struct mg_text_rows *rows);

#endif
