/*
 * copy_writer.h - a result, batch by batch, as what DuckDB's COPY ... TO makes of it: CSV, JSON or
 * Parquet, written by a small DuckDB of its own.
 *
 *   a file:    open(fd)    put ... put  close    DuckDB writes the caller's descriptor
 *   as it is:  open(emit)  put ... put  close    bytes go to the caller while they are made
 *
 * Rule: emit is called by put and close alone, so on the caller's thread, and may wait there: then
 * DuckDB waits, too, with a pipe full of bytes.
 *
 * Types are what DuckDB's COPY makes of them.  Memory is bounded: MG_COPY_WRITER_MEMORY_BYTES, and
 * a row group of MG_COPY_PARQUET leaves as soon as it is full.
 *
 * Thread: one at a time; the writing itself has a thread of its own.  Blocks on the disk.
 */
#ifndef MG_STORE_COPY_WRITER_H
#define MG_STORE_COPY_WRITER_H

#include "base/error.h"
#include "base/mem.h"

#include <nanoarrow/nanoarrow.h>

#define MG_COPY_WRITER_MEMORY_BYTES (256ull << 20)
#define MG_COPY_WRITER_PIECE_BYTES (256u << 10) /* given to emit at once, at most */
/* Row groups of 32 MiB. */
#define MG_COPY_PARQUET "FORMAT parquet, ROW_GROUP_SIZE_BYTES 33554432"

struct mg_copy_writer;

struct mg_copy_writer_options {
	const char *how; /* COPY's own options: "FORMAT csv, HEADER false" */
	int fd; /* written from its start: a file (what it held is gone), or a pipe; borrowed */
	/* Instead of fd, when it is not NULL; takes buf over. */
	int (*emit)(void *arg, struct mg_buf *buf, struct mg_error *err);
	void *arg;
	const struct ArrowSchema *schema;
	size_t count;
	const char *const *names;
	const char *const *types; /* SQL text */
};

/* Fails: MG_E_BIND and others of DuckDB's, of options that it does not take: by the first put or
 * close. */
int mg_copy_writer_open(struct mg_copy_writer **out, const struct mg_copy_writer_options *options,
                        struct mg_error *err);
/* Takes batch over.  Fails also as emit does. */
int mg_copy_writer_put(struct mg_copy_writer *writer, struct ArrowArray *batch,
                       struct mg_error *err);
/* whole false: what was written is not whole, and is taken back as far as a file lets it; err is
 * left alone, and emit is not called.  Frees; NULL is fine. */
int mg_copy_writer_close(struct mg_copy_writer *writer, bool whole, struct mg_error *err);

#endif
