/*
 * render.h - rows to text: box tables as DuckDB draws them, CSV, JSON, Markdown, lines, Arrow,
 * Parquet.
 *
 * A statement is begin, batches, end; or abort, which takes back what was not written yet (a
 * failed statement has no rows).  Formats that stream write whenever a megabyte is full; the box
 * keeps the first and last rows only, unless all are wanted.
 *
 * Parquet is one result a file; a failed statement leaves an empty one.
 *
 * Thread: one at a time.
 */
#ifndef MG_CLI_RENDER_H
#define MG_CLI_RENDER_H

#include "base/error.h"
#include "base/str.h"

#include <nanoarrow/nanoarrow.h>
#include <stdio.h>

enum mg_format {
	MG_FORMAT_BOX,
	MG_FORMAT_CSV,
	MG_FORMAT_JSON,
	MG_FORMAT_JSONL,
	MG_FORMAT_MARKDOWN,
	MG_FORMAT_LINE,
	MG_FORMAT_ARROW,
	MG_FORMAT_PARQUET,
	MG_FORMAT_COUNT
};

#define MG_FORMAT_CHOICES "box|csv|json|jsonl|markdown|line|arrow|parquet"

bool mg_format_parse(const char *text, enum mg_format *out);
const char *mg_format_name(enum mg_format format);

struct mg_render_options {
	enum mg_format format;
	FILE *out;
	size_t rows_max;            /* box: more are cut in the middle; 0: all */
	size_t width_max;           /* box: columns of the terminal; 0: no limit */
	bool color;
	bool no_header;             /* csv */
	bool *holds_result;         /* parquet: set when out holds one, which takes no other */
};

struct mg_render_table {
	const char *verb;           /* "SELECT"; EXPLAIN is shown as plain text in a box */
	size_t count;               /* columns; 0: no rows will come */
	const char *const *names;
	const char *const *types;   /* DuckDB's type texts */
	const struct ArrowSchema *schema;   /* NULL when count is 0 */
};

struct mg_render;

/* COPY ... TO STDOUT: its rows are bytes, which no format changes. */
bool mg_render_is_bytes(const char *verb, size_t count);

/* Fails: MG_E_USAGE for parquet to a terminal. */
int mg_render_new(struct mg_render **out, const struct mg_render_options *options,
                  struct mg_error *err);
void mg_render_free(struct mg_render *render);      /* NULL is fine */
int mg_render_begin(struct mg_render *render, const struct mg_render_table *table,
                    struct mg_error *err);
/* May take batch over: then its release is NULL. */
int mg_render_batch(struct mg_render *render, struct ArrowArray *batch, struct mg_error *err);
int mg_render_end(struct mg_render *render, struct mg_error *err);
void mg_render_abort(struct mg_render *render);
/* The reader of a pipe went away (| head): an end, not a failure. */
bool mg_render_pipe_broken(const struct mg_render *render);

/* Text of the first row's first column is added to out; nothing when there is none or it is NULL.
 */
void mg_render_first_value(const struct ArrowSchema *schema, const struct ArrowArray *batch,
                           struct mg_sb *out);

/* "BIGINT[]" to "int64[]", "DECIMAL(15,2)" to "decimal(15,2)": as DuckDB's shell heads columns. */
void mg_type_short(const char *type, struct mg_sb *out);

#endif
