/*
 * write_point.c - UPDATE and DELETE of rows of one shard (point.h), without a plan.
 *
 *   UPDATE t SET c = e WHERE key = 7
 *       SELECT _mg_rid AS rid, b, CAST((e) AS type), slot FROM (the shard's rows) AS t WHERE ...
 *
 * What many clients write at once is such statements: one SELECT where the rows are costs a
 * millisecond, where the plan, its run over the cluster and the try in the planning database take
 * twenty.
 *
 * Rule: it only succeeds.  What is an error (a value that does not fit, NULL where there may be
 * none), and what is large, is done by write_change.c, with DuckDB's messages.  So it is not for
 * transactions: what fails on their one connection would end them, and be told as that.
 *
 * Limit: ROWS_MAX rows in one batch.
 */
#include "exec/point.h"
#include "exec/run.h"
#include "exec/write_int.h"
#include "replica/replica.h"

enum { ROWS_MAX = 1024 };

/* What was found. */
struct point {
	struct mg_write *write;
	size_t columns; /* that are expected */
	struct ArrowSchema schema;
	struct ArrowArray batch;
	struct mg_point at;
};

static void point_close(struct point *point)
{
	if (point->schema.release) {
		ArrowSchemaRelease(&point->schema);
	}
	if (point->batch.release) {
		ArrowArrayRelease(&point->batch);
	}
}

static int take_schema(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct point *point = arg;
	const struct mg_table *table = point->write->table;
	bool good = (size_t)schema->n_children == point->columns &&
	            ArrowSchemaDeepCopy(schema, &point->schema) == NANOARROW_OK;

	for (size_t i = 0; good && i < table->column_count && i + 1 < point->columns; i++) {
		good = ArrowSchemaSetName(point->schema.children[i + 1], table->columns[i].name) ==
		       NANOARROW_OK;
	}
	return good ? 0 : mg_error_set(err, MG_E_INTERNAL, "other columns than expected");
}

/* A second batch is too much. */
static int take_batch(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct point *point = arg;

	(void)target;
	if (point->batch.release || batch->length > ROWS_MAX) {
		return mg_error_set(err, MG_E_LIMIT, "more rows than this is for");
	}
	ArrowArrayMove(batch, &point->batch);
	return 0;
}

/* ---- SQL ---- */

static void add_new_row(struct mg_sb *sql, const struct mg_write *write)
{
	for (size_t i = 0; i < write->table->column_count; i++) {
		const struct mg_column *column = &write->table->columns[i];
		const struct mg_dml_set *set = mg_write__find_set(write, column->name);

		mg_sb_add(sql, ", ");
		if (set) {
			char *expr = mg_format("(%.*s\n)", MG_STR_ARG(set->expr));

			mg_write__add_as(sql, expr, column->type); /* no name: the next one might mean it */
			mg_free(expr);
		} else {
			mg_write__add_own(sql, write, column->name);
		}
	}
	mg_sb_add(sql, ", ");
	mg_write__add_slot(sql, write);
	mg_sb_add(sql, " AS slot");
}

static char *select_text(const struct point *point)
{
	const struct mg_write *write = point->write;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT _mg_rid AS rid");
	if (write->dml.verb == MG_DML_UPDATE) {
		add_new_row(&sql, write);
	}
	mg_sb_add(&sql, " FROM (");
	mg_write__add_rows(&sql, write, point->at.shard);
	mg_sb_add(&sql, ") AS ");
	mg_sb_add_ident(&sql, write->dml.alias ? write->dml.alias : write->table->name);
	mg_sb_addf(&sql, " WHERE (%.*s\n)", MG_STR_ARG(write->dml.where));
	return mg_sb_take(&sql);
}

static int find_rows(struct point *point, struct mg_error *err)
{
	const struct mg_duck_sink sink = { .begin = take_schema, .put = take_batch, .arg = point };
	struct mg_duck_conn *conn = NULL;
	char *sql = select_text(point);
	int code = mg_write__reader(point->write, &conn, err);

	code = code ? code : mg_duck_scatter(conn, sql, NULL, 1, &sink, err);
	mg_write__reader_done(point->write, conn);
	mg_free(sql);
	return code;
}

/* ---- the redo ---- */

static bool has_nulls(const struct ArrowArray *column)
{
	const uint8_t *valid = column->buffers[0];

	return column->null_count != 0 && valid &&
	       ArrowBitCountSet(valid, column->offset, column->length) < column->length;
}

static bool has_forbidden_null(const struct point *point)
{
	const struct mg_table *table = point->write->table;

	for (size_t i = 0; i < table->column_count; i++) {
		if (table->columns[i].not_null && has_nulls(point->batch.children[i + 1])) {
			return true;
		}
	}
	return false;
}

static int replace(struct point *point, struct mg_error *err)
{
	struct mg_write *write = point->write;
	int code = mg_write__redo_begin(write, MG_REDO_REPLACE, &point->schema, err);

	return code ? code
	            : mg_write__redo_put(write, MG_REDO_REPLACE, point->at.shard, &point->batch, err);
}

static int take_away(struct point *point, struct mg_error *err)
{
	struct mg_write *write = point->write;
	int code = mg_write__rids_add(write, &write->rids, &point->batch, err);

	(void)mg_write__rids_unite(&write->rids);
	return code ? code : mg_write__rids_delete(write, &write->rids, err);
}

/* A damaged replica is not read, nor believed. */
static bool is_whole(const struct point *point)
{
	struct mg_replica *replica = mg_engine_replica(point->write->engine);

	return !mg_replica_whole(replica, &point->at.shard, 1, NULL);
}

int mg_write__point(struct mg_write *write, bool *done, struct mg_error *err)
{
	struct point point = { .write = write };
	bool update = write->dml.verb == MG_DML_UPDATE;
	struct mg_error found = { 0 };

	*done = false;
	if (write->settings.tx ||
	    !mg_point_find(write->data, write->arena, write->table, &write->dml, &point.at)) {
		return 0;
	}
	point.columns = update ? write->table->column_count + 2 : 1;
	int code = is_whole(&point) ? find_rows(&point, &found) : MG_E_UNAVAILABLE;

	if (code || !is_whole(&point) ||
	    (update && point.batch.release && has_forbidden_null(&point))) {
		point_close(&point);
		return 0;
	}
	write->result->rows = point.batch.release ? (uint64_t)point.batch.length : 0;
	if (write->result->rows) {
		code = update ? replace(&point, err) : take_away(&point, err);
	}
	mg_run_own_stats(write->run)->step = "point";
	*done = true;
	point_close(&point);
	return code;
}
