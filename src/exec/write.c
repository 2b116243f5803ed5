/*
 * write.c - see write.h.
 *
 *   text -> head (sql/dml.h) -> wall -> source: a SELECT, over the cluster like any other
 *        -> chunks of its rows -> tried in the planning database's table -> redo by slot
 *
 * Rule: DuckDB decides twice.  What the statement means is decided by statements that read, with
 * the rows that are there; what its rows become in the table (casts, defaults, constraints and the
 * words of their errors) by an INSERT into a real table with the same columns, which is taken back.
 *
 * owner: the query's thread.
 */
#include "exec/write.h"

#include "base/assert.h"
#include "exec/pump.h"
#include "exec/pivot.h"
#include "exec/run.h"
#include "exec/sequences.h"
#include "exec/staging.h"
#include "exec/tx.h"
#include "exec/write_int.h"
#include "replica/replica.h"

#include <string.h>

#define TEXT_MAX (16u << 20)

/* ---- the target ---- */

/* The catalog has one database, whose name may stand in front. */
static int find_table(const struct mg_catalog_data *data, const struct mg_dml *dml,
                      const struct mg_table **out, struct mg_error *err)
{
	bool known = !*dml->catalog || mg_text_eq_nocase(dml->catalog, "merganser");
	const char *schema = *dml->schema ? dml->schema : "main";

	*out = known ? mg_catalog_find_table(data, schema, dml->table) : NULL;
	if (!*out && !*dml->catalog && mg_text_eq_nocase(schema, "merganser")) {
		schema = "main";
		*out = mg_catalog_find_table(data, schema, dml->table);
	}
	if (*out) {
		return 0;
	}
	if (known && mg_catalog_find_view(data, schema, dml->table)) {
		mg_error_set(err, MG_E_BIND, "%s needs a table, and \"%s\" is a view", dml->name,
		             dml->table);
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, "42809");
			err->origin = MG_ORIGIN_PLANNER;
		}
		return MG_E_BIND;
	}
	mg_error_set(err, MG_E_NO_TABLE, "table with name %s%s%s does not exist", dml->schema,
	             *dml->schema ? "." : "", dml->table);
	if (err) {
		err->origin = MG_ORIGIN_PLANNER;
	}
	return MG_E_NO_TABLE;
}

int mg_write_target(const struct mg_catalog_data *data, struct mg_arena *arena,
                    struct mg_str statement, struct mg_write_target *out, struct mg_error *err)
{
	struct mg_dml dml;
	const struct mg_table *table = NULL;
	int code = mg_dml_parse(arena, statement, &dml, err);

	code = code ? code : find_table(data, &dml, &table, err);
	if (!code) {
		*out = (struct mg_write_target){
			.verb = dml.verb,
			.name = dml.name,
			.table = table,
			.reads = dml.reads || dml.conflict || mg_table_has_keys(table),
		};
		out->is_point = mg_point_find(data, arena, table, &dml, &out->point);
	}
	return code;
}

/* ---- asking the planning database ---- */

static int attach(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	return mg_run_attach_conn(arg, conn, err);
}

int mg_write__reader(struct mg_write *write, struct mg_duck_conn **out, struct mg_error *err)
{
	struct mg_tx *tx = write->settings.tx;
	int code = 0;

	*out = tx ? mg_tx_conn(tx) : NULL;
	if (!tx) {
		code = mg_gate_enter(mg_engine_gate(write->engine), &write->pass, NULL, NULL, err);
		code = code ? code : mg_duck_connect(mg_engine_duck(write->engine), out, err);
	}
	if (!code) {
		mg_duck_set_context(*out, &write->context);
		code = mg_run_attach_conn(write->run, *out, err);
	}
	return code;
}

void mg_write__reader_done(struct mg_write *write, struct mg_duck_conn *conn)
{
	(void)mg_run_attach_conn(write->run, NULL, NULL);
	if (conn && write->settings.tx) {
		mg_duck_set_context(conn, NULL);
	} else if (conn) {
		mg_duck_disconnect(conn);
	}
	mg_gate_leave(mg_engine_gate(write->engine), &write->pass);
}

struct mg_plan_settings mg_write__plan_settings(struct mg_write *write)
{
	const struct mg_table *table = write->table;
	bool elsewhere = table && mg_table_has_keys(table) && strcmp(table->schema, "main") != 0;

	return (struct mg_plan_settings){
		.timezone = write->settings.timezone,
		.now_us = write->settings.tx ? mg_tx_now(write->settings.tx) : write->now_us,
		.replay = mg_tx_replay(write->settings.tx),
		.attach = attach,
		.arg = write->run,
		.schema = elsewhere ? table->schema : NULL, /* write_trial.c */
	};
}

int mg_write__look(struct mg_write *write, const char *sql, struct mg_plandb_view *view,
                   struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);

	return mg_plandb_look(mg_engine_plandb(write->engine), write->arena, &settings, sql, view, err);
}

int mg_write__look_at_rows(struct mg_write *write, const char *sql, struct mg_error *err)
{
	struct mg_plandb_view view = { 0 };
	int code = mg_write__look(write, sql, &view, err);

	if (code) {
		return mg_write__say_syntax(write, code, err);
	}
	if (view.row_ids) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "row id of table \"%s\"", write->table->name);
		mg_error_hint(err, "Rows of a sharded table have no rowid; name them by their columns.");
	}
	return code;
}

int mg_write__check(struct mg_write *write, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);

	return mg_plandb_check(mg_engine_plandb(write->engine), write->arena, &settings, write->text,
	                       true, err);
}

/* ---- the source, in chunks ---- */

struct source {
	struct mg_write *write;
	struct mg_duck_conn *conn; /* of the caller, that reads; or NULL: it comes through the run */
	int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err);
};

static int source_begin(void *arg, const struct ArrowSchema *schema, size_t count,
                        const char *const *names, const char *const *types, struct mg_error *err)
{
	struct source *source = arg;
	struct mg_write *write = source->write;

	write->source_columns = count;
	write->source_names = mg_arena_new_array(write->arena, const char *, count + 1);
	write->source_types = mg_arena_new_array(write->arena, const char *, count + 1);
	for (size_t i = 0; i < count; i++) {
		write->source_names[i] = mg_arena_strdup(write->arena, names[i]);
		write->source_types[i] = mg_arena_strdup(write->arena, types[i]);
	}
	return mg_write__spool_begin(write, MG_WRITE_SOURCE, schema, err);
}

/* The chunk is complete: try it, and make room for the next one. */
static int source_flush(struct source *source, struct mg_error *err)
{
	struct mg_write *write = source->write;
	const struct mg_plan_settings settings = mg_write__plan_settings(write);

	mg_write__spool_seal(write, MG_WRITE_SOURCE);
	int code = mg_plandb_try(mg_engine_plandb(write->engine), &settings, source->take, write, err);

	code = code ? code : mg_write__flush_from(write, mg_staging_bytes(write->engine), err);
	if (!code && source->conn) { /* the planning database's has been in its place */
		code = mg_run_attach_conn(write->run, source->conn, err);
	}
	return code ? code : mg_write__spool_empty(write, MG_WRITE_SOURCE, err);
}

static int check_whole(const struct mg_write_spool *spool, uint64_t rows, struct mg_error *err)
{
	if (spool->rows + rows <= MG_WRITE_WHOLE_ROWS && spool->bytes <= MG_WRITE_WHOLE_BYTES) {
		return 0;
	}
	mg_error_set(err, MG_E_LIMIT, "ON CONFLICT takes at most %u rows and %u MB at once",
	             MG_WRITE_WHOLE_ROWS, MG_WRITE_WHOLE_BYTES >> 20);
	mg_error_hint(err, "Insert the rows in several statements.");
	return MG_E_LIMIT;
}

static int source_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct source *source = arg;
	const struct mg_write_spool *spool = &source->write->spools[MG_WRITE_SOURCE];
	int code = 0;

	if (source->write->has_rids) {
		code = mg_write__rids_add(source->write, &source->write->rids, batch, err);
	}
	if (code || (!source->take && source->write->has_rids)) {
		return code;
	}
	if (!source->take) {
		code = check_whole(spool, (uint64_t)batch->length, err);
		return code ? code : mg_write__spool_put(source->write, MG_WRITE_SOURCE, batch, err);
	}
	if (spool->rows + (uint64_t)batch->length > MG_WRITE_CHUNK_ROWS ||
	    /* A batch may have twice the bytes that one is cut at. */
	    (spool->rows && spool->bytes + 2 * MG_DUCK_BATCH_BYTES > MG_WRITE_CHUNK_BYTES)) {
		code = source_flush(source, err);
	}
	return code ? code : mg_write__spool_put(source->write, MG_WRITE_SOURCE, batch, err);
}

int mg_write__source(struct mg_write *write, const char *sql,
                     int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                     struct mg_error *err)
{
	struct source source = { .write = write, .take = take };
	const struct mg_rows rows = {
		.begin = source_begin, .batch = source_batch, .lossless = true, .arg = &source
	};
	int code =
		mg_coordinator_run(write->engine, write->run, &write->settings, mg_str(sql), &rows, err);

	/* RETURNING has columns also when it has no rows. */
	bool more = !code && take &&
	            (write->spools[MG_WRITE_SOURCE].rows > 0 ||
	             (write->result->returning && !write->result->columns.release));

	return more ? source_flush(&source, err) : code;
}

int mg_write__source_on(struct mg_write *write, struct mg_duck_conn *conn, const char *sql,
                        int (*take)(void *arg, struct mg_duck_conn *conn, struct mg_error *err),
                        struct mg_error *err)
{
	struct source source = { .write = write, .conn = conn, .take = take };
	const struct mg_rows rows = {
		.begin = source_begin, .batch = source_batch, .lossless = true, .arg = &source
	};
	struct mg_pump pump;

	mg_pump_init(&pump, write->run, &rows);
	int code = mg_run_attach_conn(write->run, conn, err);

	code = code ? code : mg_pump_query(&pump, conn, sql, err);
	mg_pump_fini(&pump);
	if (!code && write->spools[MG_WRITE_SOURCE].rows > 0) {
		code = source_flush(&source, err);
	}
	(void)mg_run_attach_conn(write->run, NULL, NULL);
	return code;
}

/* ---- RETURNING ---- */

static int keep_begin(void *arg, const struct ArrowSchema *schema, size_t count,
                      const char *const *names, const char *const *types, struct mg_error *err)
{
	struct mg_write_result *result = ((struct mg_write *)arg)->result;

	if (result->columns.release) {
		return 0; /* a further chunk has the columns of the first */
	}
	result->column_count = count;
	result->names = mg_arena_new_array(result->arena, const char *, count + 1);
	result->types = mg_arena_new_array(result->arena, const char *, count + 1);
	for (size_t i = 0; i < count; i++) {
		result->names[i] = mg_arena_strdup(result->arena, names[i]);
		result->types[i] = mg_arena_strdup(result->arena, types[i]);
	}
	return ArrowSchemaDeepCopy(schema, &result->columns) == NANOARROW_OK
	           ? 0
	           : mg_error_set(err, MG_E_NOMEM, "no memory for the rows of RETURNING");
}

/* The pump releases what is left in batch: nothing. */
static int keep_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_write_result *result = ((struct mg_write *)arg)->result;

	(void)err;
	mg_grow(result->batches, result->batch_count, result->batch_cap);
	ArrowArrayMove(batch, &result->batches[result->batch_count++]);
	return 0;
}

static int count_returned(struct mg_write *write, struct mg_error *err)
{
	write->result->bytes += write->spools[MG_WRITE_RETURNED].bytes;
	if (write->result->bytes <= MG_WRITE_RETURNING_MAX) {
		return 0;
	}
	mg_error_set(err, MG_E_LIMIT, "the rows of RETURNING are larger than %u MB",
	             MG_WRITE_RETURNING_MAX >> 20);
	mg_error_hint(err, "Write fewer rows at once, or return fewer columns.");
	return MG_E_LIMIT;
}

/* The rows as the text asked for them lie in MG_WRITE_RETURNED; keep them for the client. */
static int keep_returned(struct mg_write *write, struct mg_duck_conn *conn, struct mg_error *err)
{
	const struct mg_rows rows = {
		.begin = keep_begin, .batch = keep_batch, .lossless = write->request->lossless, .arg = write
	};
	struct mg_pump pump;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT ");
	for (size_t i = 0; i < write->returned_columns; i++) {
		mg_sb_add(&sql, i ? ", " : "");
		mg_write__add_cast(&sql, i, write->returned_types[i]);
		mg_sb_add(&sql, " AS ");
		mg_sb_add_ident(&sql, write->returned_names[i]);
	}
	mg_sb_addf(&sql, " FROM merganser_exchange(%d)", MG_WRITE_RETURNED);
	mg_pump_init(&pump, write->run, &rows);
	int code = mg_pump_query(&pump, conn, mg_sb_text(&sql), err);

	mg_pump_fini(&pump);
	mg_sb_fini(&sql);
	return code;
}

int mg_write__return_query(struct mg_write *write, struct mg_duck_conn *conn, const char *sql,
                           struct mg_error *err)
{
	int code = write->returned_names
	               ? mg_write__spool_empty(write, MG_WRITE_RETURNED, err)
	               : mg_duck_describe(conn, write->arena, sql, &write->returned_columns,
	                                  &write->returned_names, &write->returned_types, err);

	code = code ? code : mg_write__spool_query(write, MG_WRITE_RETURNED, conn, sql, err);
	if (!code) {
		mg_write__spool_seal(write, MG_WRITE_RETURNED);
		code = count_returned(write, err);
		code = code ? code : keep_returned(write, conn, err);
	}
	return code;
}

int mg_write__returning(struct mg_write *write, struct mg_duck_conn *conn, size_t id, size_t first,
                        struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "INSERT INTO ");
	mg_write__add_trial(&sql, write);
	mg_sb_add(&sql, " SELECT ");
	mg_write__add_stored(&sql, write, first, false);
	mg_sb_addf(&sql, " FROM merganser_exchange(%zu) RETURNING %.*s", id,
	           MG_STR_ARG(write->dml.returning));
	int code = mg_write__make_trial(write, conn, err);

	code = code ? code : mg_write__return_query(write, conn, mg_sb_text(&sql), err);

	mg_sb_fini(&sql);
	return code;
}

int mg_write_hand_out(struct mg_write_result *result, const struct mg_rows *rows,
                      struct mg_error *err)
{
	mg_assert(result->returning);
	int code = rows->begin(rows->arg, &result->columns, result->column_count, result->names,
	                       result->types, err);

	for (size_t i = 0; !code && i < result->batch_count; i++) {
		code = rows->batch(rows->arg, &result->batches[i], err);
	}
	return code;
}

void mg_write_result_fini(struct mg_write_result *result)
{
	for (size_t i = 0; i < result->batch_count; i++) {
		if (result->batches[i].release) {
			ArrowArrayRelease(&result->batches[i]);
		}
	}
	mg_free(result->batches);
	if (result->columns.release) {
		ArrowSchemaRelease(&result->columns);
	}
	mg_arena_free(result->arena);
	*result = (struct mg_write_result){ 0 };
}

/* ---- the whole ---- */

/* DuckDB's own words for what is no statement, where it has some. */
int mg_write__say_syntax(struct mg_write *write, int code, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);
	struct mg_error own;

	mg_error_clear(&own);
	if (code == MG_E_SYNTAX && mg_plandb_check(mg_engine_plandb(write->engine), write->arena,
	                                           &settings, write->text, false, &own)) {
		*err = own;
		code = own.code;
	}
	return code;
}

/* A name that looks like a file would be taken for one. */
static int say_no_table(struct mg_write *write, int code, struct mg_error *err)
{
	const struct mg_plan_settings settings = mg_write__plan_settings(write);
	const struct mg_dml *dml = &write->dml;
	struct mg_sb sql = { 0 };
	struct mg_error own;

	if (mg_dml_parse(write->arena, mg_str(write->text), &write->dml, NULL) || *dml->catalog ||
	    strpbrk(dml->table, "./\\:*?[")) {
		return code;
	}
	mg_sb_add(&sql, "SELECT 1 FROM ");
	if (*dml->schema) {
		mg_sb_add_ident(&sql, dml->schema);
		mg_sb_add_char(&sql, '.');
	}
	mg_sb_add_ident(&sql, dml->table);
	mg_error_clear(&own);
	if (mg_plandb_check(mg_engine_plandb(write->engine), write->arena, &settings, mg_sb_text(&sql),
	                    true, &own) == code) {
		*err = own;
		err->detail[0] = '\0'; /* it shows our text */
	}
	mg_sb_fini(&sql);
	return code;
}

int mg_write_refused(struct mg_engine *engine, struct mg_run *run,
                     const struct mg_run_settings *settings, struct mg_str statement, int code,
                     struct mg_error *err)
{
	struct mg_write *write = mg_alloc0(sizeof *write);

	write->engine = engine;
	write->run = run;
	write->settings = *settings;
	write->arena = mg_arena_new();
	write->text = mg_arena_strndup(write->arena, statement.ptr, statement.len);
	if (statement.len <= TEXT_MAX) {
		code = code == MG_E_NO_TABLE ? say_no_table(write, code, err)
		                             : mg_write__say_syntax(write, code, err);
	}
	mg_arena_free(write->arena);
	mg_free(write);
	return code;
}

/* INSERT INTO t PIVOT ...: the query stands there as it is, without parentheses around it. */
static int expand_source(struct mg_write *write, struct mg_error *err)
{
	struct mg_dml *dml = &write->dml;
	struct mg_str source = dml->source;

	if (dml->verb != MG_DML_INSERT || dml->values || !source.len) {
		return 0;
	}
	char *query = mg_arena_format(write->arena, "%.*s %.*s", MG_STR_ARG(dml->with),
	                              MG_STR_ARG(source));
	const char *expanded = NULL;
	int code = mg_pivot_expand(write->engine, write->run, &write->settings, write->arena,
	                           mg_str(query), &expanded, err);

	if (code || !expanded) {
		return code;
	}
	/* WITH in front of INSERT has gone in front of the query. */
	const char *head = dml->with.len ? dml->with.ptr + dml->with.len : write->text;

	write->text = mg_arena_format(write->arena, "%.*s %s %s", (int)(source.ptr - head), head,
	                              expanded, source.ptr + source.len);
	*dml = (struct mg_dml){ 0 };
	return mg_dml_parse(write->arena, mg_str(write->text), dml, err);
}

static int parse(struct mg_write *write, struct mg_error *err)
{
	struct mg_str statement = write->request->statement;

	if (statement.len > TEXT_MAX) {
		mg_error_set(err, MG_E_LIMIT, "a statement may have at most %u MB", TEXT_MAX >> 20);
		mg_error_hint(err, "Write the rows in several statements.");
		return MG_E_LIMIT;
	}
	const char *expanded = NULL;
	int code = mg_pivot_expand(write->engine, write->run, &write->settings, write->arena, statement,
	                           &expanded, err);

	if (code) {
		return code;
	}
	write->text = expanded ? expanded
	                       : mg_arena_strndup(write->arena, statement.ptr, statement.len);
	code = mg_dml_parse(write->arena, mg_str(write->text), &write->dml, err);
	code = code ? code : expand_source(write, err);
	return code ? code : find_table(write->data, &write->dml, &write->table, err);
}

/* RETURNING's list before anything of it is bound; DuckDB refuses what reads in it. */
static int look_at_returning(struct mg_write *write, struct mg_error *err)
{
	struct mg_plandb_view view;

	write->result->returning = write->dml.returning.len > 0;
	if (!write->dml.returning.len) {
		return 0;
	}
	int code = mg_write__look(
		write, mg_arena_format(write->arena, "SELECT %.*s", MG_STR_ARG(write->dml.returning)),
		&view, err);

	write->dml.returning = mg_write__unqualify(write, write->dml.returning);
	return code;
}

static int write_by_verb(struct mg_write *write, struct mg_error *err)
{
	return write->dml.verb == MG_DML_INSERT   ? mg_write__insert(write, err)
	       : write->dml.verb == MG_DML_UPDATE ? mg_write__update(write, err)
	       : write->dml.verb == MG_DML_MERGE  ? mg_write__merge(write, err)
	                                          : mg_write__delete(write, err);
}

/* In a transaction the planning database has newer sequences and macros than the statement. */
static bool draws(const struct mg_write *write)
{
	bool drawn = mg_sequences_drawn(write->data, write->text, write->table);

	if (!drawn && write->settings.tx) {
		struct mg_catalog *catalog = mg_engine_catalog(write->engine);
		const struct mg_catalog_data *newest = mg_catalog_take(catalog);

		drawn = mg_sequences_drawn(newest, write->text, write->table);
		mg_catalog_give(catalog, newest);
	}
	return drawn;
}

/* Values of sequences come from the text or from the table's defaults. */
static int draw_and_write(struct mg_write *write, struct mg_error *err)
{
	struct mg_sequences *sequences = mg_engine_sequences(write->engine);
	uint64_t epoch = 0;

	if (!draws(write)) {
		return write_by_verb(write, err);
	}
	if (write->settings.tx && mg_tx_makes_sequence(write->settings.tx)) {
		return mg_tx_refuse_drawing(err);
	}
	int code = mg_replica_begin(mg_engine_replica(write->engine), &epoch, err);

	code = code ? code : mg_sequences_begin(sequences, epoch, err);
	code = code ? code : write_by_verb(write, err);
	return code ? code : mg_sequences_keep(sequences, epoch, err);
}

int mg_write_rows(struct mg_engine *engine, struct mg_run *run,
                  const struct mg_run_settings *settings, const struct mg_write_request *request,
                  struct mg_redo *redo, struct mg_write_result *out, struct mg_error *err)
{
	struct mg_write *write = mg_alloc0(sizeof *write);

	*out = (struct mg_write_result){ .arena = mg_arena_new() };
	write->engine = engine;
	write->run = run;
	write->settings = mg_run_whole(*settings);
	write->request = request;
	write->redo = redo;
	write->result = out;
	write->arena = mg_arena_new();
	write->data = mg_tx_take_catalog(write->settings.tx, engine);
	int code = parse(write, err);

	if (code) {
		code = mg_write_refused(engine, run, &write->settings, request->statement, code, err);
	} else {
		out->verb = write->dml.name;
		out->schema = mg_arena_strdup(out->arena, write->table->schema);
		out->table = mg_arena_strdup(out->arena, write->table->name);
		mg_write__open(write);
		code = look_at_returning(write, err);
	}
	code = code ? code : draw_and_write(write, err);
	/* What the source read went to no client. */
	mg_run_own_stats(run)->rows = out->returning ? out->rows : 0;
	mg_run_own_stats(run)->bytes = out->bytes;
	if (mg_run_cancelled(run)) {
		code = mg_run_cancel_error(run, err);
	}
	mg_write__close(write);
	mg_catalog_give(mg_engine_catalog(engine), write->data);
	mg_arena_free(write->arena);
	mg_free(write);
	return code;
}
