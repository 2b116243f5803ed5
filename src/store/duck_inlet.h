/*
 * duck_inlet.h - Arrow IPC batches of another process into tables of shard files.
 *
 * The other side made them with mg_duck_scatter.  An inlet knows the columns of one table and feeds
 * any number of its appenders, one batch after the other.
 *
 * Thread: an inlet belongs to one thread, like the appenders it feeds.
 */
#ifndef MG_STORE_DUCK_INLET_H
#define MG_STORE_DUCK_INLET_H

#include "store/duck_append.h"

struct mg_duck_inlet;

/* schema: an IPC schema message.  With has_slot its last column is the slot of each row and no
 * column of the table; else all slots are 0.  conn is borrowed. */
int mg_duck_inlet_new(struct mg_duck_inlet **out, struct mg_duck_conn *conn,
                      const struct mg_buf *schema, bool has_slot, struct mg_error *err);
void mg_duck_inlet_free(struct mg_duck_inlet *inlet); /* NULL is fine */
/* Append the rows of one IPC batch, with their row ids; MG_E_PROTOCOL for a bad batch. */
int mg_duck_inlet_put(struct mg_duck_inlet *inlet, struct mg_duck_appender *appender,
                      struct mg_buf *batch, struct mg_error *err);

#endif
