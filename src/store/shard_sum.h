/*
 * shard_sum.h - a sum over all that a shard holds: equal on two replicas when their rows, row ids,
 * tables, columns and types are, whatever the order in which rows lie in the file.
 *
 * For each table the rows are hashed with all their columns, and the hashes are added, in halves,
 * and xored; that with the table's name and columns, and the number of the next row, goes into one
 * digest.  The engine's hash of a value depends on nothing but the value and the engine's version.
 *
 * It reads every block that holds rows, so it also finds damage that nobody has met yet.
 *
 * Rule: no other database is touched, not even by a look at the engine's catalogs, which open them
 * all: one that is replaced by another of its name while this transaction is open would end the
 * engine.
 *
 * Thread: the connection's.
 */
#ifndef MG_STORE_SHARD_SUM_H
#define MG_STORE_SHARD_SUM_H

#include "store/duck.h"

#define MG_SHARD_SUM_BYTES 16

struct mg_shard_sum {
	uint64_t rows;
	uint8_t digest[MG_SHARD_SUM_BYTES];
};

/* Of the attached database, as the connection's open transaction sees it; tables: as
 * mg_shard_writer_tables says.  pace: called after each
 * piece of at most a million rows, with the microseconds that it took; false: give up.  May be
 * NULL.  Fails: MG_E_CANCELLED; MG_E_CORRUPT, MG_E_IO the file cannot be read. */
int mg_shard_sum(struct mg_duck_conn *conn, const char *database, const char *tables,
                 bool (*pace)(void *arg, uint64_t us), void *arg, struct mg_shard_sum *out,
                 struct mg_error *err);

#endif
