/*
 * copy_to.h - COPY ... TO: what is read, where it goes, and as what it is written.
 *
 *     COPY (query) TO STDOUT [[WITH] (FORMAT csv, HEADER, DELIMITER '|', ...)]
 *     COPY table [(columns)] TO 'path' ...
 *
 * Pure; any thread.
 */
#ifndef MG_SQL_COPY_TO_H
#define MG_SQL_COPY_TO_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

struct mg_copy_to {
	struct mg_str query; /* one statement that reads, as the client wrote it or made of its table */
	const char *path;    /* of a file of the server, or NULL: STDOUT */
	const char *format;  /* "csv", "json", "parquet", "arrow" */
	const char *how;     /* DuckDB's options, "FORMAT csv, HEADER true"; of arrow: "" */
	bool header;         /* csv: there is a line of names */
	bool array;          /* json: one array */
};

/* text: one statement without its ";".  Fails: MG_E_SYNTAX, MG_E_UNSUPPORTED, MG_E_LIMIT,
 * MG_E_READ_ONLY: it copies what does not read. */
int mg_copy_to_parse(struct mg_arena *arena, struct mg_str text, struct mg_copy_to *out,
                     struct mg_error *err);

#endif
