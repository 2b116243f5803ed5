/*
 * sequences.h - sequences of the catalog: nextval() gives a value once, on whatever server, and
 * after whatever has crashed.
 *
 * DuckDB's own sequence in the planning database of the coordinator of writes counts; the catalog
 * says up to where.  A statement is answered, and what it writes goes into the log, only when the
 * catalog has reserved every value that it may have drawn:
 *
 *     begin (epoch) -> the statement draws -> keep -> commit, or rows to the client
 *
 * Another coordinator begins behind what was reserved.  So values never come twice; a crash,
 * another coordinator and a statement that fails leave gaps.
 *
 * Thread: any that may block.  Not inside of a change of the catalog.
 */
#ifndef MG_EXEC_SEQUENCES_H
#define MG_EXEC_SEQUENCES_H

#include "exec/engine.h"

/* How many values are reserved beyond those that a statement has drawn. */
#define MG_SEQUENCE_RESERVE 1000

struct mg_sequences;

struct mg_sequences *mg_sequences_new(struct mg_engine *engine);
void mg_sequences_free(struct mg_sequences *sequences); /* NULL is fine */

/* May a statement that writes to the table draw, by its text, by macros or by defaults? */
bool mg_sequences_drawn(const struct mg_catalog_data *data, const char *text,
                        const struct mg_table *table);
/* From now on all sequences of the catalog stand behind what others may have given in earlier
 * epochs.  Fails: as the planning database. */
int mg_sequences_begin(struct mg_sequences *sequences, uint64_t epoch, struct mg_error *err);
/* What has been drawn in this epoch will not be drawn in another.  Fails: as a change of the
 * catalog in that epoch; then nothing of it may be shown or stored. */
int mg_sequences_keep(struct mg_sequences *sequences, uint64_t epoch, struct mg_error *err);
/* On a node that does not coordinate, so that it need not count far when it does: some steps. */
void mg_sequences_follow(struct mg_sequences *sequences);

/* Of a sequence that the planning database has just made: SQL that lets it go on behind what is
 * reserved; nothing when it is new. */
int mg_sequences_resume(struct mg_engine *engine, const struct mg_object *object, struct mg_sb *out,
                        struct mg_error *err);

#endif
