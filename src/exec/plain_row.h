/*
 * plain_row.h - rows of literals in a table's types, without DuckDB.
 *
 * Rule: only what has one meaning is taken: a literal whose value in the column's type is exact and
 * beyond doubt, in a table without CHECK, defaults or a primary key.  Everything else, and all that
 * is wrong, is left to DuckDB, with its casts and its messages; test_write compares the two.
 *
 * Pure; any thread.
 */
#ifndef MG_EXEC_PLAIN_ROW_H
#define MG_EXEC_PLAIN_ROW_H

#include "base/mem.h"
#include "base/str.h"
#include "catalog/catalog.h"
#include "codec/arrow_ipc.h"
#include "codec/slot.h"
#include "sql/dml.h"
#include "sql/statement.h"

#define MG_PLAIN_KEYS_MAX 64

enum mg_plain_kind {
	PLAIN_NONE,
	PLAIN_INT,
	PLAIN_BOOL,
	PLAIN_DOUBLE,
	PLAIN_DECIMAL,
	PLAIN_TEXT,
	PLAIN_DATE
};

/* A column of the table. */
struct mg_plain_column {
	enum mg_plain_kind kind;
	enum ArrowType arrow;
	int64_t min;
	uint64_t max;     /* PLAIN_INT */
	int width, scale; /* PLAIN_DECIMAL */
	size_t source;    /* which value of a row; SIZE_MAX: NULL */
	bool not_null;
};

/* A literal, or what a column gets of it. */
struct mg_plain_value {
	enum { VALUE_NULL, VALUE_INT, VALUE_DECIMAL, VALUE_BOOL, VALUE_TEXT, VALUE_DOUBLE } kind;
	int64_t number; /* INT, DECIMAL without its point, BOOL */
	int scale;      /* DECIMAL: digits behind the point */
	int digits;
	double real;
	struct mg_str text; /* TEXT */
	bool quoted;        /* as written, in quotes */
};

/* What an INSERT ... VALUES puts into a table. */
struct mg_plain_table {
	struct mg_plain_column *columns;
	size_t count;
	size_t value_count; /* of a row */
	size_t keys[MG_PLAIN_KEYS_MAX];
	size_t key_count;
};

/* False: it is none for this file. */
bool mg_plain_table_open(struct mg_plain_table *plain, struct mg_arena *arena,
                         const struct mg_table *table, const struct mg_dml *dml);
/* The same of the columns of a table's partition key alone, in their order, each with a value.
 * Only mg_plain_row_fits and mg_plain_row_slot are for it. */
bool mg_plain_keys_open(struct mg_plain_table *plain, struct mg_arena *arena,
                        const struct mg_table *table);
/* Do the columns say no more than their types and NOT NULL, and maybe defaults? */
bool mg_plain_definition(const char *definition, bool defaults);
/* The table's columns, then the slot.  The caller releases it, also when it failed. */
int mg_plain_schema(const struct mg_plain_table *plain, const struct mg_table *table,
                    struct ArrowSchema *out, struct mg_error *err);
bool mg_plain_batch_begin(const struct ArrowSchema *schema, struct ArrowArray *batch);

/* ---- literals of a text ---- */

struct mg_plain_reader {
	struct mg_lexer lexer;
	struct mg_token token; /* the next one */
};

void mg_plain_reader_init(struct mg_plain_reader *reader, struct mg_str text);
bool mg_plain_take_sign(struct mg_plain_reader *reader, char sign);
bool mg_plain_take_word(struct mg_plain_reader *reader, const char *word);
bool mg_plain_take_value(struct mg_plain_reader *reader, struct mg_plain_value *out);
/* 1.5e3, as CAST('1.5e3' AS DOUBLE) has it. */
bool mg_plain_read_double(const char *text, struct mg_plain_value *out);

/* ---- rows ---- */

/* The values become those of their columns.  False: DuckDB decides. */
bool mg_plain_row_fits(const struct mg_plain_table *plain, struct mg_plain_value *values);
uint16_t mg_plain_row_slot(const struct mg_plain_table *plain, const struct mg_plain_value *values,
                           struct mg_sb *scratch);
/* False: no memory. */
bool mg_plain_row_append(const struct mg_plain_table *plain, const struct mg_plain_value *values,
                         uint16_t slot, struct ArrowArray *batch, struct mg_sb *scratch);

#endif
