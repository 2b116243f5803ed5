/*
 * reads.h - how many rows a node has read of each table in each shard, for EXPLAIN ANALYZE.
 *
 * Thread: the owner's.
 */
#ifndef MG_EXEC_READS_H
#define MG_EXEC_READS_H

#include "store/duck.h"

#include <stddef.h>
#include <stdint.h>

#define MG_EXEC_TABLE_NAME 136
#define MG_EXEC_READS_MAX 16384

/* Rows that a node read of one table in one shard; shard 0 is the reference group. */
struct mg_exec_read {
	uint32_t shard;
	char table[MG_EXEC_TABLE_NAME]; /* "schema.table", cut */
	uint64_t rows, scanned;         /* given to the statement; looked at */
};
/* One entry for each shard and table. */
struct mg_exec_reads {
	struct mg_exec_read *items;
	size_t count, cap;
};
/* Add to the entry of shard and table, which is made when there is none; nothing beyond
 * MG_EXEC_READS_MAX entries. */
void mg_exec_reads_add(struct mg_exec_reads *reads, uint32_t shard, const char *table,
                       uint64_t rows, uint64_t scanned);
void mg_exec_reads_clear(struct mg_exec_reads *reads);
void mg_exec_reads_fini(struct mg_exec_reads *reads);
/* What DuckDB's profile tells of one scan; arg: the reads.  Scans of no shard are left out. */
void mg_exec_reads_add_scan(void *arg, const struct mg_duck_scan *scan);

#endif
