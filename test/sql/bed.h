/*
 * bed.h - the SQL test bed: a cluster of participants in one process, compared with plain DuckDB.
 *
 * One DuckDB instance holds the whole data (schema main).  A layout makes each table a reference
 * table or hashes it by one column; participant i sees its rows through temp views "main.table" of
 * its own connection, exactly as a node does.  Stages run over the participants one after another,
 * their rows cross as Arrow IPC in spools, the last stage runs on participant 0.
 */
#ifndef MG_TEST_SQL_BED_H
#define MG_TEST_SQL_BED_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "sql/plan.h"
#include "sql/plandb.h"
#include "store/duck.h"
#include "store/spool.h"

#define BED_PARTS_MAX 8
#define BED_STAGES_MAX 512
#define BED_FEW_BYTES 4096

struct bed_table {
	char *name;
	char **columns;
	char **types;
	size_t column_count;
	bool *hashable;
	uint64_t rows;
	/* layout */
	bool sharded;
	const char *keys[2];
	struct mg_table_place place;
};

struct bed_part {
	struct bed *bed;
	struct mg_duck_conn *conn;
	struct mg_duck_context context;
	struct mg_spool *spools[BED_STAGES_MAX];
	struct mg_spool *copies[BED_STAGES_MAX]; /* of participant 0: all rows of a copy_few stage */
};

struct bed {
	struct mg_duck *duck;
	struct mg_duck_conn *truth;
	struct mg_plandb *plandb;
	struct bed_table *tables;
	size_t table_count;
	/* layout */
	size_t parts_count;
	struct bed_part parts[BED_PARTS_MAX];
	uint16_t owner[16384];
	struct mg_spool_budget budget;
	uint64_t rows_moved;
	bool verbose;
};

/* Rows as text; a NULL pointer is the SQL NULL. */
struct bed_rows {
	struct mg_arena *arena;
	size_t column_count;
	size_t row_count, row_cap;
	char ***rows;
};

struct bed_query {
	char *name;
	char *text;
	/* what plain DuckDB says */
	struct bed_rows truth;
	const char **types;
	size_t column_count;
	bool fails;
	char *error;
};

enum bed_verdict { BED_EXACT, BED_TIES, BED_UNSUPPORTED, BED_WRONG };

/* cluster.c */
int bed_open(struct bed *bed, struct mg_error *err);
void bed_close(struct bed *bed);
/* After the data was made in schema main: read the catalog, fill the planning database. */
int bed_ready(struct bed *bed, struct mg_error *err);
/* shards, and how they lie on participants, from seed; tables as `placement` says:
 * "a:k,b:id" shards a by k, all others are reference tables; NULL: random. */
int bed_layout(struct bed *bed, const char *placement, size_t parts, size_t shards, uint64_t seed,
               struct mg_error *err);
void bed_layout_text(const struct bed *bed, struct mg_sb *sb);
void bed_layout_drop(struct bed *bed);
int bed_run_stage(void *arg, const struct mg_stage *stage, struct mg_count *count,
                  struct mg_error *err);
const struct mg_table_place *bed_find_table(void *arg, const char *schema, const char *table);
void bed_drop_spools(struct bed *bed);
int bed_fetch(struct mg_duck_conn *conn, const char *sql, struct bed_rows *rows,
              struct mg_error *err);
uint64_t bed_random(uint64_t *state);

/* compare.c */
bool bed_rows_same(const struct bed_rows *want, const struct bed_rows *got,
                   const char *const *types, bool *ordered);
bool bed_rows_contained(const struct bed_rows *all, const struct bed_rows *some,
                        const char *const *types);
bool bed_cell_same(const char *a, const char *b, const char *type);

/* gen.c: a random query over the tables of nasty.sql. */
char *bed_generate(uint64_t seed);

#endif
