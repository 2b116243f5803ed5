/*
 * point.h - does an UPDATE or DELETE find its rows in one shard, by their partition key?
 *
 *     UPDATE t SET c = c + 1 WHERE key = 7 AND d > 0
 *
 * Such a statement need not hold the other shards of its table, and its rows can be read where they
 * are, without a plan (write_point.c).
 *
 * Rule: only texts are taken whose meaning is beyond doubt: columns of the table, literals,
 * operators of SQL, CASE.  No function, no subquery, no cast, no parameter; so nothing of them
 * needs the wall (sql/wall.h), and they mean the same in whichever engine they are read.
 *
 * Pure; any thread.
 */
#ifndef MG_EXEC_POINT_H
#define MG_EXEC_POINT_H

#include "catalog/catalog.h"
#include "sql/dml.h"

/* Where all rows are that it may change, and where they stay. */
struct mg_point {
	uint32_t shard; /* 0: the whole of a reference table, and slot says nothing */
	uint16_t slot;
};

/* False: that is not known. */
bool mg_point_find(const struct mg_catalog_data *data, struct mg_arena *arena,
                   const struct mg_table *table, const struct mg_dml *dml, struct mg_point *out);
/* A keyword of DuckDB that may not be any name; for its test. */
bool mg_point_is_reserved(struct mg_str word);

#endif
