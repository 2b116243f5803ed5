/*
 * duck_append.h - rows of a statement into tables of shard files, each by its slot.
 *
 * An appender adds the two columns that every stored row has, _mg_rid and _mg_slot, in front.  Its
 * connection has a transaction open, so that full row groups are compressed and written while more
 * rows come, and nothing of them counts before COMMIT.
 *
 * Thread: an appender and its connection belong to one thread at a time.
 */
#ifndef MG_STORE_DUCK_APPEND_H
#define MG_STORE_DUCK_APPEND_H

#include "store/duck.h"

struct mg_duck_appender;

/* *next_rid is shared by all appenders of a shard: taken and advanced for each row. */
int mg_duck_appender_open(struct mg_duck_appender **out, struct mg_duck_conn *conn,
                          const char *database, const char *schema, const char *table,
                          uint64_t *next_rid, struct mg_error *err);
/* Hand buffered rows to the table (still not committed). */
int mg_duck_appender_flush(struct mg_duck_appender *appender, struct mg_error *err);
uint64_t mg_duck_appender_rows(const struct mg_duck_appender *appender);     /* in all */
uint64_t mg_duck_appender_buffered(const struct mg_duck_appender *appender); /* not yet flushed */
/* Flush and free; frees in any case; NULL is fine. */
int mg_duck_appender_close(struct mg_duck_appender *appender, struct mg_error *err);
/* Free without flushing. */
void mg_duck_appender_drop(struct mg_duck_appender *appender);

/* Run sql, whose last column is the slot, and append each row to appenders[owner[slot]], NULL
 * entries skipped. With owner NULL sql has no slot column, and all rows go to appenders[0] with
 * slot 0. */
int mg_duck_route(struct mg_duck_conn *conn, const char *sql, const uint16_t *owner,
                  struct mg_duck_appender *const *appenders, uint32_t count, struct mg_error *err);

#endif
