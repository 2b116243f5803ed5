/*
 * pump.c - see pump.h.
 *
 * Rule: a batch is handed on only while the statement is not cancelled; begin comes once, before
 * the first.
 */
#include "exec/pump.h"

#include "codec/arrow_ipc.h"
#include "exec/run.h"

#include <string.h>

#define BATCH_ROWS 2048
#define KEPT_BYTES_MAX (64 << 20)

void mg_pump_init(struct mg_pump *pump, struct mg_run *run, const struct mg_rows *rows)
{
	*pump = (struct mg_pump){ .run = run, .rows = rows };
}

void mg_pump_fini(struct mg_pump *pump)
{
	if (pump->view) {
		ArrowArrayViewReset(pump->view);
		mg_free(pump->view);
	}
	if (pump->schema.release) {
		ArrowSchemaRelease(&pump->schema);
	}
}

/* The result's schema under the result's names: Arrow forbids nothing that SQL allows in names. */
static int make_schema(struct mg_pump *pump, const struct mg_duck_result *result,
                       struct mg_error *err)
{
	if (ArrowSchemaDeepCopy(mg_duck_result_schema(result), &pump->schema) != NANOARROW_OK) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for the answer's schema");
	}
	for (int64_t i = 0; i < pump->schema.n_children; i++) {
		if (ArrowSchemaSetName(pump->schema.children[i], mg_duck_result_name(result, (size_t)i)) !=
		    NANOARROW_OK) {
			return mg_error_set(err, MG_E_NOMEM, "no memory for the answer's schema");
		}
	}
	pump->view = mg_alloc0(sizeof *pump->view);
	if (ArrowArrayViewInitFromSchema(pump->view, &pump->schema, NULL) != NANOARROW_OK) {
		return mg_error_set(err, MG_E_INTERNAL, "the answer's Arrow schema is not known");
	}
	return 0;
}

/* Tell the sink names and types; they live in arena, so the result may be gone by then. */
static int announce(struct mg_pump *pump, size_t count, const char **names, const char **types,
                    struct mg_error *err)
{
	int code = pump->before ? pump->before(pump->arg, err) : 0;
	if (code) {
		return code;
	}
	pump->began = true;
	return pump->rows->begin(pump->rows->arg, &pump->schema, count, names, types, err);
}

static size_t copy_heads(struct mg_arena *arena, const struct mg_duck_result *result,
                         const char ***names, const char ***types)
{
	size_t count = mg_duck_result_columns(result);
	*names = mg_arena_new_array(arena, const char *, count + 1);
	*types = mg_arena_new_array(arena, const char *, count + 1);
	for (size_t i = 0; i < count; i++) {
		(*names)[i] = mg_arena_strdup(arena, mg_duck_result_name(result, i));
		(*types)[i] = mg_arena_strdup(arena, mg_duck_result_type(result, i));
	}
	return count;
}

static int begin(struct mg_pump *pump, struct mg_arena *arena, const struct mg_duck_result *result,
                 struct mg_error *err)
{
	const char **names, **types;
	if (pump->began) {
		return (int64_t)mg_duck_result_columns(result) == pump->schema.n_children
		           ? 0
		           : mg_error_set(err, MG_E_INTERNAL,
		                          "two parts of an answer have different columns");
	}
	int code = make_schema(pump, result, err);
	if (code) {
		return code;
	}
	size_t count = copy_heads(arena, result, &names, &types);
	return announce(pump, count, names, types, err);
}

static int hand_on(struct mg_pump *pump, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_run_stats *stats = mg_run_own_stats(pump->run);
	stats->rows += (uint64_t)batch->length;
	if (ArrowArrayViewSetArray(pump->view, batch, NULL) == NANOARROW_OK) {
		stats->bytes += mg_arrow_buffer_bytes(pump->view);
	}
	return pump->rows->batch(pump->rows->arg, batch, err);
}

static int drain(struct mg_pump *pump, struct mg_arena *arena, struct mg_duck_result *result,
                 struct mg_error *err)
{
	size_t rows_max = pump->rows->batch_rows ? pump->rows->batch_rows : BATCH_ROWS;
	int code = begin(pump, arena, result, err);
	while (!code) {
		struct ArrowArray batch = { 0 };
		bool done = false;
		if (mg_run_cancelled(pump->run)) {
			return mg_run_cancel_error(pump->run, err);
		}
		code = mg_duck_result_next(result, rows_max, &batch, &done, err);
		if (code || done) {
			break;
		}
		code = hand_on(pump, &batch, err);
		if (batch.release) {
			ArrowArrayRelease(&batch);
		}
	}
	return code;
}

/* For clients that did not ask for DuckDB's extension types: the nearest plain Arrow type, as whose
 * text or number a column is better read than as the engine's own (a BIT as bytes).  What is nested
 * arrives as the engine's. */
static const char *plain_type(const char *type)
{
	static const char *const table[][2] = {
		{ "HUGEINT", "DECIMAL(38,0)" }, { "UHUGEINT", "DECIMAL(38,0)" },
		{ "UUID", "VARCHAR" },          { "BIT", "VARCHAR" },
		{ "BIGNUM", "VARCHAR" },        { "TIME WITH TIME ZONE", "VARCHAR" },
		{ "JSON", "VARCHAR" },
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		if (mg_text_eq(type, table[i][0])) {
			return table[i][1];
		}
	}
	return NULL;
}

/* sql itself, or sql with columns cast to plain types around it. */
static int plain_sql(const struct mg_pump *pump, struct mg_arena *arena, struct mg_duck_conn *conn,
                     const char *sql, const char **out, struct mg_error *err)
{
	size_t count = pump->known;
	const char *const *names = pump->names;
	const char *const *types = pump->types;
	bool any = false;
	int code = 0;
	if (!count) {
		const char **own_names, **own_types;
		code = mg_duck_describe(conn, arena, sql, &count, &own_names, &own_types, err);
		names = own_names;
		types = own_types;
	}
	struct mg_sb text = { 0 }, renamed = { 0 };
	for (size_t i = 0; !code && i < count; i++) {
		const char *plain = plain_type(types[i]);
		any |= plain != NULL;
		mg_sb_add(&text, i ? ", " : "");
		mg_sb_addf(&text, plain ? "CAST(x%zu AS %s) AS " : "x%zu%.0s AS ", i, plain ? plain : "");
		mg_sb_add_ident(&text, names[i]);
		mg_sb_addf(&renamed, "%sx%zu", i ? ", " : "", i);
	}
	*out = !code && any ? mg_arena_format(arena, "SELECT %s FROM (%s\n) AS mg(%s)",
	                                      mg_sb_text(&text), sql, mg_sb_text(&renamed))
	                    : sql;
	mg_sb_fini(&text);
	mg_sb_fini(&renamed);
	return code;
}

int mg_pump_query(struct mg_pump *pump, struct mg_duck_conn *conn, const char *sql,
                  struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_duck_result *result = NULL;
	int code = 0;
	if (!pump->rows->lossless) {
		code = plain_sql(pump, arena, conn, sql, &sql, err);
		code = code ? code : mg_duck_set_plain(conn, true, err);
	}
	if (!code) {
		code = mg_duck_query(conn, sql, &result, err);
	}
	if (!code) {
		code = drain(pump, arena, result, err);
	}
	mg_duck_result_free(result);
	(void)mg_duck_set_plain(conn, false, NULL);
	mg_arena_free(arena);
	return code;
}

/* ---- answers of the planning database ---- */

/* A whole answer in memory. */
struct kept {
	struct ArrowArray *batches;
	size_t count, cap;
	uint64_t bytes;
	size_t columns;
	const char **names, **types;
};

static int keep_all(struct mg_pump *pump, struct mg_duck_result *result, struct kept *kept,
                    struct mg_error *err)
{
	size_t rows_max = pump->rows->batch_rows ? pump->rows->batch_rows : BATCH_ROWS;
	for (;;) {
		struct ArrowArray batch = { 0 };
		bool done = false;
		if (mg_run_cancelled(pump->run)) {
			return mg_run_cancel_error(pump->run, err);
		}
		int code = mg_duck_result_next(result, rows_max, &batch, &done, err);
		if (code || done) {
			return code;
		}
		mg_grow(kept->batches, kept->count, kept->cap);
		kept->batches[kept->count++] = batch;
		if (ArrowArrayViewSetArray(pump->view, &batch, NULL) == NANOARROW_OK) {
			kept->bytes += mg_arrow_buffer_bytes(pump->view);
		}
		if (kept->bytes > KEPT_BYTES_MAX) {
			code = mg_error_set(err, MG_E_LIMIT, "the answer from the catalog is larger than %d MB",
			                    KEPT_BYTES_MAX >> 20);
			mg_error_hint(err, "Ask for fewer rows or columns.");
			return code;
		}
	}
}

static int keep(struct mg_pump *pump, struct mg_arena *arena, struct mg_duck_conn *conn,
                const char *sql, struct kept *kept, struct mg_error *err)
{
	struct mg_duck_result *result = NULL;
	int code = pump->rows->lossless ? 0 : plain_sql(pump, arena, conn, sql, &sql, err);
	if (!code && !pump->rows->lossless) {
		code = mg_duck_set_plain(conn, true, err);
	}
	if (!code) {
		code = mg_duck_query(conn, sql, &result, err);
	}
	if (!code) {
		code = make_schema(pump, result, err);
	}
	if (!code) {
		kept->columns = copy_heads(arena, result, &kept->names, &kept->types);
		code = keep_all(pump, result, kept, err);
	}
	mg_duck_result_free(result);
	(void)mg_duck_set_plain(conn, false, NULL);
	return code;
}

/* The connections are few and all planning needs them, so the answer is complete, and the
 * connection given back, before the first row meets a client that may be slow. */
/* In the statement's transaction, one of its own when it has none. */
static int set_now(struct mg_duck_conn *conn, int64_t now_us, bool *transaction,
                   struct mg_error *err)
{
	int code = *transaction ? 0 : mg_duck_exec(conn, "BEGIN", err);

	*transaction = *transaction || code == 0;
	return code ? code : mg_duck_set_now(conn, now_us, err);
}

int mg_pump_plandb(struct mg_pump *pump, struct mg_plandb *plandb, const char *timezone,
                   int64_t now_us, const char *sql, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_duck_conn *conn = NULL;
	struct kept kept = { 0 };
	int code = mg_plandb_borrow(plandb, timezone, &conn, err);
	if (!code) {
		code = mg_run_attach_conn(pump->run, conn, err);
		if (!code) {
			bool transaction = false;

			code = mg_run_fill_catalog(pump->run, conn, &transaction, err);
			if (!code && pump->replay.count) {
				code = mg_plandb_replay(plandb, conn, &pump->replay, transaction, err);
				transaction = true;
			}
			if (!code && now_us) {
				code = set_now(conn, now_us, &transaction, err);
			}
			code = code ? code : keep(pump, arena, conn, sql, &kept, err);
			(void)mg_run_attach_conn(pump->run, NULL, NULL);
			if (transaction) {
				(void)mg_duck_exec(conn, "ROLLBACK", NULL);
			}
		}
		mg_plandb_give_back(plandb, conn);
	}
	if (!code && pump->held) {
		code = pump->held(pump->held_arg, err);
	}
	if (!code) {
		code = announce(pump, kept.columns, kept.names, kept.types, err);
	}
	for (size_t i = 0; i < kept.count; i++) {
		code = code ? code : hand_on(pump, &kept.batches[i], err);
		if (kept.batches[i].release) {
			ArrowArrayRelease(&kept.batches[i]);
		}
	}
	mg_free(kept.batches);
	mg_arena_free(arena);
	return code;
}

int mg_pump_end(struct mg_pump *pump, struct mg_error *err)
{
	return pump->began ? 0 : mg_error_set(err, MG_E_INTERNAL, "the statement gave no result");
}

static int drop_begin(void *arg, const struct ArrowSchema *schema, size_t count,
                      const char *const *names, const char *const *types, struct mg_error *err)
{
	(void)arg, (void)schema, (void)count, (void)names, (void)types, (void)err;
	return 0;
}

static int drop_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	(void)arg, (void)batch, (void)err;
	return 0;
}

struct mg_rows mg_pump_nowhere(void)
{
	return (struct mg_rows){ .begin = drop_begin, .batch = drop_batch, .lossless = true };
}
