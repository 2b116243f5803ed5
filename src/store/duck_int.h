/*
 * duck_int.h - what the files duck*.c share: the structs behind duck.h.  No other file includes it.
 */
#ifndef MG_STORE_DUCK_INT_H
#define MG_STORE_DUCK_INT_H

#include "base/str.h"
#include "store/duck.h"
#include "store/duck_keys.h"

#include <duckdb.h>
#include <pthread.h>

#define MG_DUCK_CHUNK_ROWS 2048 /* DuckDB's vector size: no chunk is larger */
#define MG_DUCK_JOIN_MAX 64     /* chunks joined into one batch at most */
#define MG_DUCK_KEPT_MAX 4      /* prepared statements of a connection */

/* Owner: whoever opened it.  conns is guarded by lock, so that DuckDB's threads find a context. */
struct mg_duck {
	duckdb_database db;
	pthread_mutex_t lock;
	struct mg_duck_conn *conns;
	bool lossless;
	_Atomic(const struct mg_duck_keys *) keys; /* of kv(); or NULL */
	/* Of the states of our aggregates, which DuckDB does not count. */
	atomic_size_t aggregate_bytes;
	size_t aggregate_bytes_max;
};

/* Owner: one thread at a time; context and failure are also read by DuckDB's threads under lock. */
struct mg_duck_conn {
	struct mg_duck *duck;
	struct mg_duck_conn *next;
	duckdb_connection con;
	duckdb_arrow_options arrow;
	duckdb_arrow_options other; /* not in use now; NULL: not asked for yet */
	bool plain;                 /* arrow has no extension types */
	idx_t id;
	const struct mg_duck_context *context;
	const atomic_bool *stop;
	struct mg_error failure; /* what one of our functions said; code 0: nothing */
	/* Of mg_duck_text_of: statements that were prepared before; the place of the next one. */
	struct {
		char *sql;
		duckdb_prepared_statement statement;
	} kept[MG_DUCK_KEPT_MAX];
	size_t kept_next;
};

/* duck_cut.c: chunks to batches that can be sent. */
struct mg_duck_cutter {
	struct mg_duck_conn *conn;
	duckdb_logical_type *types; /* borrowed */
	size_t columns;
	struct ArrowArrayView view; /* to measure with */
	duckdb_selection_vector all;
	idx_t step; /* rows that fit into a batch, as far as we know */
	bool opened;
};

struct mg_duck_result {
	struct mg_duck_conn *conn;
	duckdb_prepared_statement prepared;
	duckdb_result result;
	bool opened; /* result is set */
	bool ended;
	struct mg_arena *arena;
	size_t count;
	duckdb_logical_type *types;
	const char **names;
	const char **texts; /* SQL text of each type */
	struct ArrowSchema schema;
	struct mg_duck_cutter cutter;
	duckdb_data_chunk chunk; /* that is being handed on, from row chunk_at; or NULL */
	idx_t chunk_at;
	/* Batches that could not be joined wait here, from held_at to held_count. */
	struct ArrowArray held[MG_DUCK_JOIN_MAX];
	size_t held_at, held_count;
	bool apart; /* this schema cannot be joined: one chunk is one batch */
};

/* duck_error.c: err from DuckDB's message; returns the code. */
int mg_duck__error(struct mg_error *err, const char *message);
int mg_duck__error_data(struct mg_error *err,
                        duckdb_error_data data); /* destroys data; 0 when it holds none */
/* The same, but what our own function said before wins. */
int mg_duck__failed(struct mg_duck_conn *conn, struct mg_error *err, const char *message);
/* Any thread: keep err as the reason of the failure that DuckDB is about to report. */
void mg_duck__fail(struct mg_duck_conn *conn, const struct mg_error *err);
void mg_duck__failure_clear(struct mg_duck_conn *conn); /* before and after each statement */

/* duck_type.c: SQL text of a type. */
void mg_duck__type_text(struct mg_sb *sb, duckdb_logical_type type);

/* duck.c: the connection behind a client context, which is destroyed; NULL when it is not ours.
 * It stays valid while the statement runs. */
struct mg_duck_conn *mg_duck__find(struct mg_duck *duck, duckdb_client_context context);

/* duck_result.c: next chunk of rows, never an empty one; NULL at the end (*err untouched, code 0)
 * or on failure (the code is returned). */
int mg_duck__fetch(struct mg_duck_result *result, duckdb_data_chunk *chunk, struct mg_error *err);
int mg_duck__to_arrow(struct mg_duck_conn *conn, duckdb_data_chunk chunk, struct ArrowArray *out,
                      struct mg_error *err);
int mg_duck__schema(struct mg_duck_conn *conn, duckdb_logical_type *types, const char **names,
                    size_t count, struct ArrowSchema *out, struct mg_error *err);

/* duck_cut.c: rows of chunk from *from on, as many as fit, as a batch; *from moves behind them,
 * *bytes is their size.  types and schema: of the first `columns` columns; types must stay. */
int mg_duck__cutter_open(struct mg_duck_cutter *cutter, struct mg_duck_conn *conn,
                         duckdb_logical_type *types, size_t columns,
                         const struct ArrowSchema *schema, struct mg_error *err);
void mg_duck__cutter_close(struct mg_duck_cutter *cutter);
int mg_duck__cut(struct mg_duck_cutter *cutter, duckdb_data_chunk chunk, idx_t *from,
                 struct ArrowArray *out, uint64_t *bytes, struct mg_error *err);

/* duck_concat.c: one array of all the rows, by copying; fails MG_E_UNSUPPORTED for layouts it does
 * not know. */
int mg_duck__concat(const struct ArrowSchema *schema, const struct ArrowArray *parts, size_t count,
                    struct ArrowArray *out, struct mg_error *err);

/* duck_append.c: give the rows of chunk their ids in column 0, new ones when rids is NULL, and
 * append them. */
struct mg_duck_appender;
int mg_duck__appender_put(struct mg_duck_appender *appender, duckdb_data_chunk chunk,
                          const int64_t *rids, idx_t rows, struct mg_error *err);

/* duck_slot.c: add one column of a chunk's rows to their hashes. */
const char *mg_duck__slot_refuses(duckdb_logical_type type); /* NULL: hashable */
void mg_duck__slots(duckdb_vector *keys, size_t key_count, size_t rows, uint16_t *slots);

/* duck_arrow.c: Arrow as the rows of a table function. */
/* Columns of the function as the schema's, by the schema's names. */
int mg_duck__announce(duckdb_bind_info info, struct mg_duck_conn *conn, struct ArrowSchema *schema,
                      struct mg_error *err);
/* Rows [row, row + rows) of the wanted columns of batch, borrowed: *out lives as long as batch,
 * columns[count] and pointers[count] do. */
/* duck_mend.c: what was decoded, as DuckDB can read it.  Fails: MG_E_NOMEM. */
bool mg_duck__needs_mending(const struct ArrowSchema *schema); /* anything would change */
int mg_duck__mend(const struct ArrowSchema *schema, struct ArrowArray *batch, struct mg_error *err);
void mg_duck__slice(struct ArrowArray *out, struct ArrowArray *columns,
                    struct ArrowArray **pointers, const struct ArrowArray *batch,
                    const size_t *wanted, size_t count, int64_t row, int64_t rows);

/* duck_functions.c, duck_exchange.c, duck_keys.c, duck_feed.c */
int mg_duck__register_functions(struct mg_duck *duck, duckdb_connection con, struct mg_error *err);
int mg_duck__register_exchange(struct mg_duck *duck, duckdb_connection con, struct mg_error *err);
int mg_duck__register_keys(struct mg_duck *duck, duckdb_connection con, struct mg_error *err);
int mg_duck__register_feed(struct mg_duck *duck, duckdb_connection con, struct mg_error *err);
/* duck_histogram.c, duck_histogram_sum.c, duck_minmax.c, duck_sky.c */
int mg_duck__register_histograms(struct mg_duck *duck, duckdb_connection con, struct mg_error *err);
int mg_duck__register_histogram_sums(struct mg_duck *duck, duckdb_connection con,
                                     struct mg_error *err);
int mg_duck__register_minmax(duckdb_connection con, struct mg_error *err);
int mg_duck__register_sky(struct mg_duck *duck, duckdb_connection con, struct mg_error *err);

/* tpch_shim.cpp: 0, or 1 with a text in message. */
int mg_tpch_shim_register(void *database, char *message, size_t size);

/* aggregate_shim.cpp: before an aggregate is registered; false: this DuckDB is another one.  In its
 * update the state of a row is states[mg_aggregate_shim_row(row)]. */
bool mg_aggregate_shim_prepare(void *function);
size_t mg_aggregate_shim_row(size_t row);

/* now_shim.cpp: false when no transaction is open. */
bool mg_now_shim_set(void *connection, int64_t us);

#endif
