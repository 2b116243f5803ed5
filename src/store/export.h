/*
 * export.h - a copy of tables for others: one DuckDB file, or a folder of Parquet or CSV files.
 *
 *   open -> for each table: begin -> run its statement on conn -> end -> finish (or drop)
 *
 * Everything is written beside the target, under the name PATH.merganser-new, and gets its name
 * when it is whole and synced; so a kill leaves nothing under the final name, and the next export
 * removes what it left.
 *
 * Thread: one at a time; blocks.
 */
#ifndef MG_STORE_EXPORT_H
#define MG_STORE_EXPORT_H

#include "base/str.h"
#include "store/duck.h"

enum mg_export_format { MG_EXPORT_DUCKDB, MG_EXPORT_PARQUET, MG_EXPORT_CSV };

struct mg_export;

/* Fails: MG_E_DUPLICATE when path is there and overwrite is not set, or is nothing that an export
 * made. */
int mg_export_open(struct mg_export **out, enum mg_export_format format, const char *path,
                   bool overwrite, unsigned threads, struct mg_error *err);
/* The engine that writes, alone; other databases may be attached to it. */
struct mg_duck_conn *mg_export_conn(struct mg_export *export);
/* Add to *sql the statement that stores the rows of `select`; its one row counts them. */
int mg_export_begin(struct mg_export *export, const char *schema, const char *table,
                    const char *select, struct mg_sb *sql, struct mg_error *err);
/* After it ran: rows, which the source counted, must be there. */
int mg_export_end(struct mg_export *export, uint64_t rows, struct mg_error *err);
/* Give it its name.  Frees in any case. */
int mg_export_finish(struct mg_export *export, struct mg_error *err);
void mg_export_drop(struct mg_export *export); /* remove what is there; NULL is fine */

#endif
