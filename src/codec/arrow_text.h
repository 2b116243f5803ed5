/*
 * arrow_text.h - one value of an Arrow column as text, as DuckDB's shell shows it.
 *
 * Knows DuckDB's lossless extension types (HUGEINT, UHUGEINT, BIT, TIMETZ, UUID, JSON), nested
 * values, infinities; `type` is DuckDB's type text ("DECIMAL(15,2)") and may be NULL.
 * Pure; any thread.
 */
#ifndef MG_CODEC_ARROW_TEXT_H
#define MG_CODEC_ARROW_TEXT_H

#include "base/str.h"

#include <nanoarrow/nanoarrow.h>

struct mg_arrow_view; /* schema + array view of a whole batch, ready to read */

int mg_arrow_view_new(struct mg_arrow_view **out, const struct ArrowSchema *schema);
int mg_arrow_view_set(struct mg_arrow_view *view,
                      const struct ArrowArray *array); /* borrowed until next set */
void mg_arrow_view_free(struct mg_arrow_view *view);
int64_t mg_arrow_view_rows(const struct mg_arrow_view *view);
size_t mg_arrow_view_columns(const struct mg_arrow_view *view);
const char *mg_arrow_view_name(const struct mg_arrow_view *view, size_t column);
bool mg_arrow_view_is_null(const struct mg_arrow_view *view, size_t column, int64_t row);
bool mg_arrow_view_is_numeric(const struct mg_arrow_view *view,
                              size_t column); /* right-aligned in tables */
/* Text as CAST(x AS VARCHAR) in DuckDB; NULL writes nothing. */
void mg_arrow_view_text(const struct mg_arrow_view *view, size_t column, int64_t row,
                        struct mg_sb *out);
/* JSON value by the HTTP rules: BIGINT beyond 2^53, DECIMAL, HUGEINT, NaN and infinities as
 * strings, BLOB in base64, times in ISO 8601, LIST as array, STRUCT and MAP as objects. */
void mg_arrow_view_json(const struct mg_arrow_view *view, size_t column, int64_t row,
                        struct mg_sb *out);
/* DuckDB's name of a column's type, from the Arrow schema alone: "bigint", "decimal(15,2)",
 * "varchar[]". */
void mg_arrow_view_type(const struct mg_arrow_view *view, size_t column, struct mg_sb *out);

#endif
