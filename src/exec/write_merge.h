/* write_merge.h - what write_merge.c and write_merge_text.c share: a MERGE under way. */
#ifndef MG_EXEC_WRITE_MERGE_H
#define MG_EXEC_WRITE_MERGE_H

#include "exec/write_int.h"

struct mg_write_merge {
	size_t *first; /* the source's column at which the values of each WHEN begin */
	size_t olds;   /* ... at which the table's own begin; 0: there are none */
	uint64_t deletes;
	struct mg_write_rids deleted;
	/* Of all rows, while one WHEN has its own. */
	const char **names, **types;
	size_t columns;
};

/* The wall has seen its texts, DuckDB has bound it, and "all columns" are spelt out. */
int mg_write_merge__prepare(struct mg_write *write, struct mg_error *err);
/* The statement that reads: rid, action, the table's own columns, the values of each WHEN.  Fills
 * merge->first. */
const char *mg_write_merge__source(struct mg_write *write);
int mg_write_merge__say_count(const struct mg_write *write, size_t count, struct mg_error *err);

#endif
