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

/* Which columns of a batch are none of the table's. */
enum mg_duck_inlet_shape {
	MG_INLET_PLAIN,    /* none: all slots are 0 */
	MG_INLET_SLOT,     /* the last one: the row's slot */
	MG_INLET_RID_SLOT, /* that, and the first one: the row's id, which is not a new one */
};
/* schema: an IPC schema message.  conn is borrowed. */
int mg_duck_inlet_new(struct mg_duck_inlet **out, struct mg_duck_conn *conn,
                      const struct mg_buf *schema, enum mg_duck_inlet_shape shape,
                      struct mg_error *err);
void mg_duck_inlet_free(struct mg_duck_inlet *inlet); /* NULL is fine */
/* Append the rows of one IPC batch, with their row ids; MG_E_PROTOCOL for a bad batch. */
int mg_duck_inlet_put(struct mg_duck_inlet *inlet, struct mg_duck_appender *appender,
                      struct mg_buf *batch, struct mg_error *err);

#endif
