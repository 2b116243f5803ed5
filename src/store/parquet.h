/*
 * parquet.h - a result, batch by batch, as one Parquet file, written by a small DuckDB of its own.
 *
 * Types are what DuckDB's COPY ... TO (FORMAT parquet) makes of them.  Memory is bounded: a row
 * group of MG_PARQUET_GROUP_BYTES leaves as soon as it is full.
 *
 * Thread: one at a time; the writing itself has a thread of its own.  Blocks on the disk.
 */
#ifndef MG_STORE_PARQUET_H
#define MG_STORE_PARQUET_H

#include "base/error.h"

#include <nanoarrow/nanoarrow.h>

#define MG_PARQUET_GROUP_BYTES (32ull << 20)
#define MG_PARQUET_MEMORY_BYTES (256ull << 20)

struct mg_parquet;

struct mg_parquet_options {
	int fd; /* written from its start: a file (what it held is gone), or a pipe; borrowed */
	const struct ArrowSchema *schema;
	size_t count;
	const char *const *names;
	const char *const *types;   /* SQL text */
};

int mg_parquet_open(struct mg_parquet **out, const struct mg_parquet_options *options,
                    struct mg_error *err);
/* Takes batch over. */
int mg_parquet_put(struct mg_parquet *parquet, struct ArrowArray *batch, struct mg_error *err);
/* whole false: what was written is no Parquet file and is taken back as far as the file lets it;
 * err is left alone.  Frees; NULL is fine. */
int mg_parquet_close(struct mg_parquet *parquet, bool whole, struct mg_error *err);

#endif
