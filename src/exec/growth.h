/*
 * growth.h - reference tables that grow large: each node has all of such a table, so who lets one
 * grow is told at MG_GROWTH_FIRST_BYTES, and again whenever it has doubled.
 *
 * What a table holds is roughly known: the bytes of rows that this node has seen being added, but
 * at least what its rows take at eight bytes a column.  Another coordinator begins with that, and
 * does not tell again what was told before.
 *
 * Thread: any.
 */
#ifndef MG_EXEC_GROWTH_H
#define MG_EXEC_GROWTH_H

#include "catalog/catalog.h"

#define MG_GROWTH_FIRST_BYTES 100000000ull
#define MG_GROWTH_TABLES_MAX 1024 /* that are followed; of more the oldest are forgotten */
#define MG_GROWTH_TEXT_SIZE 512

struct mg_growth;

struct mg_growth *mg_growth_new(void);
void mg_growth_free(struct mg_growth *growth); /* NULL is fine */
/* Rows of so many bytes were added to table, which held `rows` before, as far as is known.  True:
 * it is to be told now, which the log is, and text, unless text_size is 0. */
bool mg_growth_look(struct mg_growth *growth, const struct mg_table *table, uint64_t rows,
                    uint64_t bytes, char *text, size_t text_size);
/* Rows have gone: what it holds is asked anew. */
void mg_growth_forget(struct mg_growth *growth, const struct mg_table *table);

#endif
