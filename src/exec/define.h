/*
 * define.h - statements that make, alter or drop tables, views and schemas.
 *
 * DuckDB reads the definition in the planning database, where it is tried and rolled back; what it
 * made of it goes into the catalog.  A table's own files come first: its name there is new, so
 * nobody sees it until the catalog names it, and a table that never got so far is swept away by the
 * next coordinator of writes.
 *
 * Thread: any that may block.
 */
#ifndef MG_EXEC_DEFINE_H
#define MG_EXEC_DEFINE_H

#include "exec/change.h"

/* Held from a look at the catalog until it has changed. */
void mg_define_lock(void);
void mg_define_unlock(void);
/* CREATE of the table, under its stored name, in the shards that it lies in. */
void mg_define_in_shards(const struct mg_catalog_data *data, const struct mg_table *table,
                         struct mg_redo *redo);

/* statement: one, of kind MG_S_DDL.  Notices go to request->rows. */
int mg_define_run(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_change_request *request,
                  struct mg_change_result *out, struct mg_error *err);

/* Between the steps of CREATE TABLE, DROP TABLE (PUBLISHED alone) and an ALTER TABLE that moves
 * rows; for tests that end the process there. */
enum mg_define_step { MG_DEFINE_MADE, MG_DEFINE_FILLED, MG_DEFINE_PUBLISHED };
void mg_define_on_step(void (*step)(enum mg_define_step step)); /* NULL: nothing */

#endif
