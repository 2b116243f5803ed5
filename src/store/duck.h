/*
 * duck.h - DuckDB behind a small face.  store/duck*.c alone includes duckdb.h.
 *
 * An instance (mg_duck) has its own memory limit, threads and spill directory; a connection
 * (mg_duck_conn) runs one statement at a time; rows leave as Arrow batches and as IPC buffers.
 * DuckDB's errors arrive as struct mg_error with the SQLSTATE that fits their kind.
 *
 * Thread: an instance is shared; a connection belongs to one thread at a time, except
 * mg_duck_interrupt and mg_duck_progress, which any thread may call while it is open.
 */
#ifndef MG_STORE_DUCK_H
#define MG_STORE_DUCK_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#include <nanoarrow/nanoarrow.h>

/* A batch of more than one row is not larger; joined ones (below) at most twice as large. */
#define MG_DUCK_BATCH_BYTES (4u << 20)

struct mg_duck;
struct mg_duck_conn;
struct mg_duck_result;

struct mg_duck_options {
	const char *path;         /* database file; NULL: in memory */
	unsigned threads;         /* 0: DuckDB's default */
	uint64_t memory_bytes;    /* 0: DuckDB's default */
	const char *spill_dir;    /* NULL: no spilling */
	uint64_t spill_bytes_max; /* 0: no limit of ours */
	bool lossless_arrow;      /* extension types for HUGEINT, UUID, ... */
};

const char *mg_duck_version(void); /* "v1.5.5" */
int mg_duck_open(struct mg_duck **out, const struct mg_duck_options *options, struct mg_error *err);
void mg_duck_close(struct mg_duck *duck);
int mg_duck_load_tpch(struct mg_duck *duck,
                      struct mg_error *err); /* dbgen and tpcds dsdgen, in process */

/* Second wall: from now on no statement reaches a file outside of dirs; ATTACH inside them still
 * works. */
int mg_duck_fence(struct mg_duck *duck, const char *const *dirs, size_t count,
                  struct mg_error *err);
/* How many threads run its statements from now on; fewer than now wait for tasks to end. */
int mg_duck_set_threads(struct mg_duck *duck, unsigned threads, struct mg_error *err);

int mg_duck_connect(struct mg_duck *duck, struct mg_duck_conn **out, struct mg_error *err);
void mg_duck_disconnect(struct mg_duck_conn *conn);
void mg_duck_interrupt(struct mg_duck_conn *conn);
/* DuckDB forgets an interrupt that comes before its statement starts.  A canceller that sets *stop
 * first and then interrupts is never lost: statements look at it before and after they start. NULL:
 * none. */
void mg_duck_set_stop(struct mg_duck_conn *conn, const atomic_bool *stop);
/* now() and its kin tell this moment (microseconds since 1970) until the open transaction ends. */
int mg_duck_set_now(struct mg_duck_conn *conn, int64_t us, struct mg_error *err);
/* From now on mg_duck_progress knows; not for connections that write much, as DuckDB counts at each
 * of its tasks and a tenth of such a statement's time may go there. */
int mg_duck_count_progress(struct mg_duck_conn *conn, struct mg_error *err);
double mg_duck_progress(struct mg_duck_conn *conn); /* 0..1, negative when unknown */

int mg_duck_exec(struct mg_duck_conn *conn, const char *sql,
                 struct mg_error *err); /* rows are dropped */
int mg_duck_execf(struct mg_duck_conn *conn, struct mg_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* First value of the first row as heap text, NULL when there is no row or it is NULL. */
int mg_duck_text(struct mg_duck_conn *conn, const char *sql, char **out, struct mg_error *err);
/* The same with $1 = value: a long text with doubled quotes costs the engine's lexer quadratic time
 * as a literal, and none as a parameter.  The connection keeps the newest few prepared. */
int mg_duck_text_of(struct mg_duck_conn *conn, const char *sql, struct mg_str value, char **out,
                    struct mg_error *err);
int mg_duck_int(struct mg_duck_conn *conn, const char *sql, int64_t *out, struct mg_error *err);

/* A statement that is planned once; its rows are dropped.  $1, $2, ... are UBIGINTs; where they
 * mean another type it is planned each time.  Belongs to the connection, and goes before it. */
struct mg_duck_prepared;
int mg_duck_prepare(struct mg_duck_prepared **out, struct mg_duck_conn *conn, const char *sql,
                    struct mg_error *err);
int mg_duck_prepared_run(struct mg_duck_prepared *prepared, const uint64_t *values, size_t count,
                         struct mg_error *err);
void mg_duck_prepared_free(struct mg_duck_prepared *prepared); /* NULL is fine */

/* Prepare without running: result names and types as SQL text, in arena.  Several statements or a
 * parameter are refused. */
int mg_duck_describe(struct mg_duck_conn *conn, struct mg_arena *arena, const char *sql,
                     size_t *count, const char ***names, const char ***types, struct mg_error *err);

/* Results that begin from now on are of plain Arrow types, at any depth (BIGNUM stays as it is), or
 * of extension types again.  Of databases with lossless_arrow; no result may be open. */
int mg_duck_set_plain(struct mg_duck_conn *conn, bool plain, struct mg_error *err);

/* Run and stream.  The result must be freed before the next statement of this connection. */
int mg_duck_query(struct mg_duck_conn *conn, const char *sql, struct mg_duck_result **out,
                  struct mg_error *err);
void mg_duck_result_free(struct mg_duck_result *result);
const struct ArrowSchema *
mg_duck_result_schema(const struct mg_duck_result *result); /* owned by result */
size_t mg_duck_result_columns(const struct mg_duck_result *result);
const char *mg_duck_result_name(const struct mg_duck_result *result, size_t column);
const char *mg_duck_result_type(const struct mg_duck_result *result, size_t column); /* SQL text */
/* Next batch (at most rows_max rows, joined from DuckDB's 2048-row chunks when rows_max is larger;
 * fewer rows when they are wide, in the end a single one);
 * *done at the end, then out is untouched.  Caller releases out. */
int mg_duck_result_next(struct mg_duck_result *result, size_t rows_max, struct ArrowArray *out,
                        bool *done, struct mg_error *err);

/* Run and scatter: the last column must be a USMALLINT slot; each row goes to sink->put with target
 * owner[slot], without that column, in batches of at most 2048 rows a target, fewer when they are
 * wide.
 * With owner NULL nothing is scattered and target is 0. */
struct mg_duck_sink {
	/* schema: of the rows given on; called once, before the first put; or NULL */
	int (*begin)(void *arg, const struct ArrowSchema *schema, struct mg_error *err);
	int (*put)(void *arg, uint32_t target, struct ArrowArray *batch,
	           struct mg_error *err); /* put does not own batch */
	void *arg;
};
int mg_duck_scatter(struct mg_duck_conn *conn, const char *sql, const uint16_t *owner,
                    uint32_t target_count, const struct mg_duck_sink *sink, struct mg_error *err);

/* ---- what a statement read ---- */
struct mg_duck_scan {
	const char *database, *schema, *table;
	uint64_t
		scanned;   /* rows that were looked at; fewer than the table has where statistics helped */
	uint64_t rows; /* of them those that passed the scan's own filters */
};
/* From now on this connection counts what its statements read. */
int mg_duck_profile(struct mg_duck_conn *conn, struct mg_error *err);
/* The scans of the statement that ended last; a table may come several times, or not at all when
 * its statistics were enough. */
void mg_duck_scans(struct mg_duck_conn *conn,
                   void (*each)(void *arg, const struct mg_duck_scan *scan), void *arg);

/* ---- what the functions merganser_exchange(id), mg_slot(...), mg_mine(...), mg_node() see ---- */
/* One per query and node, hung on each connection that works for the query; borrowed. */
struct mg_spool;
struct mg_duck_feed;
struct mg_duck_context {
	uint32_t node_index; /* mg_node() */
	const uint16_t
		*owner; /* [16384] participant of each slot; mg_mine(k...) = owner[slot] == node_index */
	/* The finished rows of a stage; NULL when there is none.  Called from DuckDB's threads. */
	struct mg_spool *(*find_spool)(void *arg, uint32_t stage);
	void *arg;
	struct mg_duck_feed *feed; /* of merganser_feed(); set by duck_feed.c alone */
};
void mg_duck_set_context(struct mg_duck_conn *conn,
                         const struct mg_duck_context *context); /* NULL: none */

#endif
