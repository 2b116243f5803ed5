/*
 * write.h - a statement that writes, as the rows that it would store: everything up to the redo.
 *
 * It takes no lock and commits nothing.  The caller holds off other writers of what the statement
 * reads (mg_write_target tells), calls mg_write_rows, and commits the redo.
 *
 * Blocks; call it from a query thread, never from a loop.
 */
#ifndef MG_EXEC_WRITE_H
#define MG_EXEC_WRITE_H

#include "catalog/catalog.h"
#include "exec/coordinator.h"
#include "exec/point.h"
#include "replica/redo.h"
#include "sql/dml.h"

/* What a statement writes, from its text alone. */
struct mg_write_target {
	enum mg_dml_verb verb;
	const char *name;             /* "INSERT" */
	const struct mg_table *table; /* of data */
	/* What it stores depends on rows that are there: its own table's or others'.  Without it, it is
	 * rows of constants, and nobody need wait for anybody. */
	bool reads;
	/* The rows that it changes are there, and stay there; else in any of its table's shards. */
	bool is_point;
	struct mg_point point;
};

/* Fails: MG_E_SYNTAX, MG_E_UNSUPPORTED, MG_E_NO_TABLE, MG_E_BIND for a view. */
int mg_write_target(const struct mg_catalog_data *data, struct mg_arena *arena,
                    struct mg_str statement, struct mg_write_target *out, struct mg_error *err);

/* What mg_write_target refused with code, in DuckDB's words where it has some: where the mistake
 * is, and which table may be meant.  Returns the code of that. */
int mg_write_refused(struct mg_engine *engine, struct mg_run *run,
                     const struct mg_run_settings *settings, struct mg_str statement, int code,
                     struct mg_error *err);

/* Directories that COPY may read, or write, as os/granted.h has them; or NULL. */
const char *mg_write_copy_paths(const struct mg_engine *engine, bool written);

/* What a client has sent for COPY; borrowed, and read from its start, maybe several times. */
struct mg_write_input {
	int fd;
	uint64_t size;
};

struct mg_write_request {
	struct mg_str statement; /* one, without its ";" */
	const struct mg_write_input *input; /* COPY; NULL: the client has sent nothing */
	bool lossless;           /* RETURNING's rows: as struct mg_rows has it */
	/* The redo has more rows than should lie in memory: takes them from it, and may leave other
	 * operations.  They come from this table.  NULL: the redo holds all, up to its bound. */
	int (*flush)(void *arg, const struct mg_catalog_data *data, const struct mg_table *table,
	             struct mg_redo *redo, struct mg_error *err);
	void *flush_arg;
};

struct mg_write_result {
	struct mg_arena *arena;     /* of all texts below */
	const char *verb;           /* "INSERT" */
	const char *schema, *table; /* that it writes */
	uint64_t rows;              /* affected */
	bool returning;             /* it has rows for the client: mg_write_hand_out */
	size_t column_count;
	const char **names, **types;
	struct ArrowSchema columns;
	struct ArrowArray *batches;
	size_t batch_count, batch_cap;
	uint64_t bytes; /* of batches; at most MG_WRITE_RETURNING_MAX */
};

#define MG_WRITE_RETURNING_MAX (64u << 20)

/* Appends to redo what the statement stores, what has not been flushed; on failure what redo then
 * holds is of no use.
 * Fails: DuckDB's own errors with their SQLSTATEs, 23505 for a key that is there, MG_E_CARDINALITY
 * for a row that UPDATE ... FROM finds twice, MG_E_LIMIT from the redo, MG_E_CANCELLED,
 * MG_E_TIMEOUT. */
int mg_write_rows(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_write_request *request,
                  struct mg_redo *redo, struct mg_write_result *out, struct mg_error *err);
/* The rows of a query into a table of the same columns that need not be in the catalog: as INSERTs
 * in redo, which flush empties from time to time. */
struct mg_write_load {
	struct mg_str query; /* that reads, without its ";" */
	const struct mg_table *table;
	/* SQL that makes of a part of the query's rows, c0, c1 ... of merganser_exchange(0), the
	 * table's in the relation `from`, in the planning database; NULL: they are the table's. */
	const char *through, *from;
	int (*flush)(void *arg, struct mg_redo *redo, struct mg_error *err);
	void *arg;
};
int mg_write_load(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_write_load *load,
                  uint64_t *rows, struct mg_error *err);

/* RETURNING's rows, once the redo is committed; may be called once. */
int mg_write_hand_out(struct mg_write_result *result, const struct mg_rows *rows,
                      struct mg_error *err);
void mg_write_result_fini(struct mg_write_result *result); /* in any case */

#endif
