/*
 * encode.h - the rows of one answer as a document: JSON, lines of JSON, CSV, an Arrow stream, or
 * Parquet.
 *
 * Blocks are given on as they fill (64 KiB of text, each batch of Arrow), so an answer of any size
 * needs a bounded amount of memory.  Parquet alone is given on at its end: until then it lies in a
 * file without a name in spill_dir, because its readers begin at its end.
 *
 * Pure but for Parquet; thread: each encoder has one owner.
 */
#ifndef MG_SESSION_ENCODE_H
#define MG_SESSION_ENCODE_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#include <nanoarrow/nanoarrow.h>

enum mg_format { MG_FORMAT_JSON, MG_FORMAT_NDJSON, MG_FORMAT_CSV, MG_FORMAT_ARROW,
                 MG_FORMAT_PARQUET };

#define MG_PARQUET_ANSWERS_MAX 4 /* of a process at once; more are refused */

struct mg_encode_options {
	enum mg_format format;
	bool pretty; /* JSON: indented */
	/* JSON: only "columns": [], "types": [], "values": [], for an object of the caller's. */
	bool members;
	const char *spill_dir; /* Parquet: where its file goes */
	uint64_t spill_bytes_max; /* and how large it gets; 0: half of what is free there */
	/* Takes over buf. */
	int (*emit)(void *arg, struct mg_buf *buf, struct mg_error *err);
	void *arg;
};

struct mg_encoder;

const char *mg_format_content_type(enum mg_format format);

struct mg_encoder *mg_encoder_new(const struct mg_encode_options *options);
void mg_encoder_free(struct mg_encoder *encoder); /* NULL is fine */
int mg_encoder_begin(struct mg_encoder *encoder, const struct ArrowSchema *schema, size_t count,
                     const char *const *names, const char *const *types, struct mg_error *err);
int mg_encoder_batch(struct mg_encoder *encoder, struct ArrowArray *batch, struct mg_error *err);
/* Also without begin: an answer without columns. */
int mg_encoder_end(struct mg_encoder *encoder, double took_ms, struct mg_error *err);

/* One CSV field as DuckDB's COPY ... (FORMAT csv) writes it. */
void mg_csv_add(struct mg_sb *out, const char *text, size_t len);

/* {"code": ..., "sqlstate": ..., "message": ..., ...} */
void mg_error_json(struct mg_sb *out, const struct mg_error *err);
/* And "index": which statement of a list, from 0.  done: so many of the list are done, and the list
 * as a whole must not be sent again. */
void mg_error_json_of(struct mg_sb *out, const struct mg_error *err, size_t index, size_t done);

#endif
