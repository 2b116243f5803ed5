/* write_int.h - what the files write*.c share: a statement under way, its rows, its redo. */
#ifndef MG_EXEC_WRITE_INT_H
#define MG_EXEC_WRITE_INT_H

#include "exec/engine.h"
#include "exec/gate.h"
#include "exec/write.h"
#include "store/spool.h"

/* A chunk of rows that is tried at once, so that what the planning database holds is bounded. */
#define MG_WRITE_CHUNK_ROWS 122880
#define MG_WRITE_CHUNK_BYTES (16u << 20)
/* A source that is needed at once. */
#define MG_WRITE_WHOLE_ROWS (1u << 20)
#define MG_WRITE_WHOLE_BYTES (64u << 20)

/* merganser_exchange(id) of a statement under way. */
enum {
	MG_WRITE_SOURCE,   /* a chunk of what the source gave */
	MG_WRITE_TRIED,    /* the chunk as the table would hold it */
	MG_WRITE_KEYS,     /* of all chunks: a row's id or NULL, and write->uniques */
	MG_WRITE_RETURNED, /* of the chunk */
	MG_WRITE_THERE,    /* ON CONFLICT: rows of the table, the id in front */
	MG_WRITE_MERGED,   /* MERGE: a chunk of all its rows */
	MG_WRITE_DEAD,     /* of a transaction that commits, of ON CONFLICT: ids of rows that go */
	MG_WRITE_SPOOLS
};

struct mg_write_spool {
	struct mg_spool *spool;
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema;
	uint64_t rows, bytes;
	bool sealed;
};

/* Rows on their way into the redo: one for each kind. */
struct mg_write_outlet {
	struct mg_write *write;
	enum mg_redo_kind kind;
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema;
	uint64_t rows;
};

struct mg_write_rids {
	int64_t *ids; /* heap */
	size_t count, cap;
};

struct mg_write {
	struct mg_engine *engine;
	struct mg_run *run;
	struct mg_run_settings settings; /* for what it reads */
	const struct mg_write_request *request;
	struct mg_arena *arena;
	const struct mg_catalog_data *data;
	const struct mg_table *table;
	const char *stored;   /* its name in the shards' files */
	const char **uniques; /* the columns of its keys: mg_table_key_columns */
	size_t unique_count;
	struct mg_dml dml;
	const char *text; /* zero-terminated */
	struct mg_redo *redo;
	bool *written; /* by shard: it gets rows, in the redo or flushed */
	struct mg_write_result *result;
	struct mg_spool_budget budget;
	struct mg_write_spool spools[MG_WRITE_SPOOLS];
	struct mg_write_outlet outlets[MG_REDO_DELETE + 1];
	struct mg_duck_context context; /* of the connections that try rows */
	struct mg_gate_pass pass;       /* of mg_write__reader */
	uint16_t owner[MG_SLOT_COUNT];  /* the shard of each slot */
	/* Of the source, from its first row on. */
	const char **source_names, **source_types;
	size_t source_columns;
	int64_t now_us;             /* what now() tells; 0: the moment, or the transaction's */
	bool has_rids;              /* the source's first column is rowid */
	struct mg_write_rids rids;  /* that the source found */
	struct mg_write_rids moved; /* of them, those whose row goes to another shard */
	struct mg_write_merge *merge;
	uint64_t merged_inserts; /* rows that MERGE adds */
	/* Of RETURNING, likewise. */
	const char **returned_names, **returned_types;
	size_t returned_columns;
};

/* ---- write_spool.c ---- */
void mg_write__open(struct mg_write *write);
void mg_write__close(struct mg_write *write);
/* Columns become c0, c1, ...  Rows are added to what is there, until it is sealed. */
int mg_write__spool_begin(struct mg_write *write, size_t id, const struct ArrowSchema *schema,
                          struct mg_error *err);
int mg_write__spool_put(struct mg_write *write, size_t id, struct ArrowArray *batch,
                        struct mg_error *err);
void mg_write__spool_seal(struct mg_write *write, size_t id);
/* Neither rows nor columns again. */
void mg_write__spool_drop(struct mg_write *write, size_t id);
/* No rows again, the same columns. */
int mg_write__spool_empty(struct mg_write *write, size_t id, struct mg_error *err);
/* Add the rows of sql. */
int mg_write__spool_query(struct mg_write *write, size_t id, struct mg_duck_conn *conn,
                          const char *sql, struct mg_error *err);
/* Rows of sql, whose last column is a slot, to the redo of its shards. */
int mg_write__redo_query(struct mg_write *write, enum mg_redo_kind kind, struct mg_duck_conn *conn,
                         const char *sql, struct mg_error *err);
/* The redo goes where the request says, when it holds so much.  Between two chunks. */
int mg_write__flush_from(struct mg_write *write, size_t bytes, struct mg_error *err);
/* A batch as it stands. */
int mg_write__redo_begin(struct mg_write *write, enum mg_redo_kind kind,
                         const struct ArrowSchema *schema, struct mg_error *err);
int mg_write__redo_put(struct mg_write *write, enum mg_redo_kind kind, uint32_t shard,
                       struct ArrowArray *batch, struct mg_error *err);

/* ---- SQL of the table (write_spool.c) ---- */
void mg_write__add_table(struct mg_sb *sql, const struct mg_write *write);
/* write_trial.c: in a try of the planning database, before anything is added to what add_trial
 * names. */
int mg_write__make_trial(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err);
void mg_write__add_trial(struct mg_sb *sql, const struct mg_write *write);
/* A text over the table's rows, as it is called there: without the schema in front of its name. */
struct mg_str mg_write__unqualify(const struct mg_write *write, struct mg_str text);
/* "main"."t" AS "a" */
void mg_write__add_target(struct mg_sb *sql, const struct mg_write *write);
/* a."name"; rowid when name is NULL. */
void mg_write__add_own(struct mg_sb *sql, const struct mg_write *write, const char *name);
void mg_write__add_columns(struct mg_sb *sql, const struct mg_write *write);
/* "c<i>::type, ..." of the table's columns, the first of which is column `first` of the spool. */
void mg_write__add_stored(struct mg_sb *sql, const struct mg_write *write, size_t first,
                          bool named);
void mg_write__add_slot(struct mg_sb *sql, const struct mg_write *write); /* mg_slot(...) */
/* ", mg_slot(...) AS slot, mg_slot(...)": the stored one, and the one that scatters. */
void mg_write__add_slots(struct mg_sb *sql, const struct mg_write *write);
/* SELECT of the id and the columns of the rows that a shard has, as the statement sees them; on the
 * connection of mg_write__reader. */
void mg_write__add_rows(struct mg_sb *sql, const struct mg_write *write, uint32_t shard);
/* SQL that casts an expression of a source to a type of the table. */
void mg_write__add_as(struct mg_sb *sql, const char *what, const char *type);
/* "::type", and "c<i>::type" of a spool's column. */
void mg_write__add_type(struct mg_sb *sql, const char *type);
void mg_write__add_cast(struct mg_sb *sql, size_t column, const char *type);

/* SELECT of the chunk in MG_WRITE_SOURCE under the source's names, without columns to skip. */
void mg_write__add_chunk(struct mg_sb *sql, const struct mg_write *write, const bool *skip);

/* ---- write.c ---- */
/* A connection that sees the stored rows as the statement does, with its context; whoever ends the
 * statement interrupts it.  Given back also when it failed. */
int mg_write__reader(struct mg_write *write, struct mg_duck_conn **out, struct mg_error *err);
void mg_write__reader_done(struct mg_write *write, struct mg_duck_conn *conn);
struct mg_plan_settings mg_write__plan_settings(struct mg_write *write);
/* Run sql, which reads, and hand its rows to `take` in chunks that lie in MG_WRITE_SOURCE, inside
 * of mg_plandb_try.  With write->has_rids the first column goes into write->rids as well, and
 * without take nowhere else.  Without both, all rows come to lie in MG_WRITE_SOURCE, not sealed. */
int mg_write__source(struct mg_write *write, const char *sql,
                     int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                     struct mg_error *err);
/* The same with the rows of sql on a connection of the caller's, which may be ended through the
 * run. */
int mg_write__source_on(struct mg_write *write, struct mg_duck_conn *conn, const char *sql,
                        int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                        struct mg_error *err);
/* The wall: what a text that reads would touch. */
int mg_write__look(struct mg_write *write, const char *sql, struct mg_plandb_view *view,
                   struct mg_error *err);
/* The same of a text whose rows are to be changed, which may not name their ids. */
int mg_write__look_at_rows(struct mg_write *write, const char *sql, struct mg_error *err);
/* DuckDB's own words for a syntax error, which is about the text as it was written. */
int mg_write__say_syntax(struct mg_write *write, int code, struct mg_error *err);
/* The whole statement, once the wall has seen its parts, as DuckDB understands it. */
int mg_write__check(struct mg_write *write, struct mg_error *err);
/* Rows of the table, from column `first` of spool `id` on, once more into it, for RETURNING. */
int mg_write__returning(struct mg_write *write, struct mg_duck_conn *conn, size_t id, size_t first,
                        struct mg_error *err);

/* ---- write_rids.c ---- */
/* Row ids; sorted when they are complete. */
int mg_write__rids_add(struct mg_write *write, struct mg_write_rids *rids,
                       const struct ArrowArray *batch, struct mg_error *err);
/* Sort and drop what comes twice; true when something did. */
bool mg_write__rids_unite(struct mg_write_rids *rids);
/* DELETE of the united ids, to the redo of their shards. */
int mg_write__rids_delete(struct mg_write *write, const struct mg_write_rids *rids,
                          struct mg_error *err);

/* ---- write_key.c ---- */
/* The key columns of the rows in MG_WRITE_TRIED; with_rids: they replace the rows of
 * MG_WRITE_SOURCE. */
int mg_write__keep_keys(struct mg_write *write, struct mg_duck_conn *conn, bool with_rids,
                        struct mg_error *err);
/* No two rows have one key, nor has one a key that is there. */
int mg_write__check_keys(struct mg_write *write, struct mg_error *err);

/* RETURNING's rows, by a query that makes them. */
int mg_write__return_query(struct mg_write *write, struct mg_duck_conn *conn, const char *sql,
                           struct mg_error *err);

/* INSERT with OR or ON CONFLICT; here: source runs in the planning database (write_conflict.c). */
int mg_write__conflict(struct mg_write *write, const char *source, bool here, struct mg_error *err);
/* INSERT of literals, without DuckDB; *done false: it is none (write_plain.c). */
int mg_write__plain(struct mg_write *write, bool *done, struct mg_error *err);
/* UPDATE and DELETE of rows of one shard, read there without a plan; *done false: it is none, or it
 * is not right, and nothing was done (write_point.c). */
int mg_write__point(struct mg_write *write, bool *done, struct mg_error *err);
/* COPY: what the client has sent, in chunks to take (write_copy.c). */
int mg_write__copy(struct mg_write *write,
                   int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                   struct mg_error *err);
int mg_write__insert(struct mg_write *write, struct mg_error *err); /* write_insert.c */
int mg_write__update(struct mg_write *write, struct mg_error *err); /* write_change.c */
int mg_write__delete(struct mg_write *write, struct mg_error *err); /* write_change.c */
int mg_write__merge(struct mg_write *write, struct mg_error *err);  /* write_merge.c */
/* What UPDATE sets a column to, or NULL. */
const struct mg_dml_set *mg_write__find_set(const struct mg_write *write, const char *column);
/* Rows of MG_WRITE_SOURCE, with the sets of dml, in the place of those whose ids they have; they
 * are in MG_WRITE_TRIED then. */
int mg_write__replace_rows(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err);
/* Rows of MG_WRITE_SOURCE into these columns, which are then in MG_WRITE_TRIED; without columns
 * `rows` times the defaults. */
int mg_write__insert_rows(struct mg_write *write, struct mg_duck_conn *conn,
                          const char *const *columns, size_t count, uint64_t rows,
                          struct mg_error *err);

#endif
