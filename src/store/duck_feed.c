/*
 * duck_feed.c - see duck_feed.h.
 *
 * Idea: a short queue between the thread that puts and the one thread of DuckDB that reads; a batch
 * is handed on in slices of at most 2048 rows, by reference, and released when the last slice was
 * used up.  DuckDB's own Arrow scan is not used: it accepts filters and projections that nobody
 * applies.
 *
 * owner: queue fields: lock; reading fields: the thread that DuckDB scans with.
 */
#include "store/duck_feed.h"

#include "base/assert.h"
#include "store/duck_int.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

struct mg_duck_feed {
	struct mg_duck_conn *conn;
	struct mg_duck_context context;
	struct ArrowSchema schema; /* named c0, c1, ... */
	char *sql;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct ArrowArray waiting[MG_FEED_BATCHES_MAX];
	size_t first, count;
	bool complete, broken; /* no more rows: as it should be, or not */
	bool ended;            /* the statement; failure is what became of it */
	int wake;              /* or -1 */
	struct mg_error failure;
	/* reading */
	duckdb_arrow_converted_schema converted;
	struct ArrowArray batch;
	int64_t row;
	size_t *wanted;
	struct ArrowArray *columns;
	struct ArrowArray **pointers;
	duckdb_data_chunk source;
};

/* Under the lock: something has changed for who puts. */
static void tell(struct mg_duck_feed *feed)
{
	pthread_cond_broadcast(&feed->changed);
	if (feed->wake >= 0) {
		(void)eventfd_write(feed->wake, 1); /* it fails only when it is told already */
	}
}

/* ---- the table function ---- */

static void fail_bind(duckdb_bind_info info, struct mg_duck_conn *conn, struct mg_error *err)
{
	if (conn) {
		mg_duck__fail(conn, err);
	}
	duckdb_bind_set_error(info, err->message);
}

static void bind(duckdb_bind_info info)
{
	struct mg_duck *duck = duckdb_bind_get_extra_info(info);
	duckdb_client_context client = NULL;
	struct mg_error err;
	mg_error_clear(&err);
	duckdb_table_function_get_client_context(info, &client);
	struct mg_duck_conn *conn = mg_duck__find(duck, client);
	struct mg_duck_feed *feed = conn && conn->context ? conn->context->feed : NULL;
	int rc = 0;
	if (!feed) {
		rc = mg_error_set(&err, MG_E_BIND, "merganser_feed only works while rows are written");
	}
	if (rc == 0) {
		rc = mg_duck__announce(info, conn, &feed->schema, &err);
	}
	if (rc == 0) {
		duckdb_destroy_arrow_converted_schema(&feed->converted);
		rc = mg_duck__error_data(
			&err, duckdb_schema_from_arrow(conn->con, &feed->schema, &feed->converted));
	}
	if (rc != 0) {
		fail_bind(info, conn, &err);
		return;
	}
	duckdb_bind_set_bind_data(info, feed, NULL);
}

static void init(duckdb_init_info info)
{
	duckdb_init_set_max_threads(info, 1);
}

/* Wait for the next batch with rows; *more false when there is none. */
static int batch_take(struct mg_duck_feed *feed, bool *more, struct mg_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&feed->lock);
	while (feed->count == 0 && !feed->complete && !feed->broken) {
		pthread_cond_wait(&feed->changed, &feed->lock);
	}
	*more = feed->count > 0 && !feed->broken;
	if (feed->broken) {
		rc = mg_error_set(err, MG_E_CANCELLED, "the rows to be written ended early");
	} else if (*more) {
		ArrowArrayMove(&feed->waiting[feed->first], &feed->batch);
		feed->first = (feed->first + 1) % MG_FEED_BATCHES_MAX;
		feed->count--;
		feed->row = 0;
		tell(feed);
	}
	pthread_mutex_unlock(&feed->lock);
	return rc;
}

/* Let go of what the last output refers to. */
static void output_forget(struct mg_duck_feed *feed)
{
	duckdb_destroy_data_chunk(&feed->source);
	if (feed->batch.release && feed->row >= feed->batch.length) {
		feed->batch.release(&feed->batch);
	}
}

static int read_chunk(struct mg_duck_feed *feed, duckdb_data_chunk output, bool *more,
                      struct mg_error *err)
{
	int rc = 0;
	*more = true;
	output_forget(feed);
	while (rc == 0 && *more && !feed->batch.release) {
		rc = batch_take(feed, more, err);
		if (rc == 0 && *more && feed->batch.length == 0) {
			feed->batch.release(&feed->batch);
		}
	}
	if (rc != 0 || !*more) {
		return rc;
	}
	int64_t left = feed->batch.length - feed->row;
	int64_t rows = left < MG_DUCK_CHUNK_ROWS ? left : MG_DUCK_CHUNK_ROWS;
	size_t count = (size_t)feed->schema.n_children;
	struct ArrowArray slice;
	mg_duck__slice(&slice, feed->columns, feed->pointers, &feed->batch, feed->wanted, count,
	               feed->row, rows);
	rc = mg_duck__error_data(err, duckdb_data_chunk_from_arrow(feed->conn->con, &slice,
	                                                           feed->converted, &feed->source));
	for (size_t i = 0; rc == 0 && i < count; i++) {
		duckdb_vector_reference_vector(duckdb_data_chunk_get_vector(output, i),
		                               duckdb_data_chunk_get_vector(feed->source, i));
	}
	feed->row += rows;
	duckdb_data_chunk_set_size(output, (idx_t)rows);
	return rc;
}

static void function(duckdb_function_info info, duckdb_data_chunk output)
{
	struct mg_duck_feed *feed = duckdb_function_get_bind_data(info);
	struct mg_error err;
	bool more = false;
	mg_error_clear(&err);
	if (read_chunk(feed, output, &more, &err) != 0) {
		mg_duck__fail(feed->conn, &err);
		duckdb_function_set_error(info, err.message);
		return;
	}
	if (!more) {
		duckdb_data_chunk_set_size(output, 0);
	}
}

int mg_duck__register_feed(struct mg_duck *duck, duckdb_connection con, struct mg_error *err)
{
	duckdb_table_function table = duckdb_create_table_function();
	int rc = 0;
	duckdb_table_function_set_name(table, "merganser_feed");
	duckdb_table_function_set_extra_info(table, duck, NULL);
	duckdb_table_function_set_bind(table, bind);
	duckdb_table_function_set_init(table, init);
	duckdb_table_function_set_function(table, function);
	if (duckdb_register_table_function(con, table) != DuckDBSuccess) {
		rc = mg_error_set(err, MG_E_INTERNAL, "cannot register the function \"merganser_feed\"");
	}
	duckdb_destroy_table_function(&table);
	return rc;
}

/* ---- the statement ---- */

static void *statement_run(void *arg)
{
	struct mg_duck_feed *feed = arg;
	struct mg_error err;
	mg_error_clear(&err);
	(void)mg_duck_exec(feed->conn, feed->sql, &err);
	pthread_mutex_lock(&feed->lock);
	feed->failure = err;
	feed->ended = true;
	tell(feed);
	pthread_mutex_unlock(&feed->lock);
	return NULL;
}

static void feed_free(struct mg_duck_feed *feed)
{
	mg_duck_set_context(feed->conn, NULL);
	duckdb_destroy_data_chunk(&feed->source);
	duckdb_destroy_arrow_converted_schema(&feed->converted);
	if (feed->batch.release) {
		feed->batch.release(&feed->batch);
	}
	for (; feed->count > 0; feed->count--) {
		feed->waiting[feed->first].release(&feed->waiting[feed->first]);
		feed->first = (feed->first + 1) % MG_FEED_BATCHES_MAX;
	}
	if (feed->schema.release) {
		feed->schema.release(&feed->schema);
	}
	pthread_cond_destroy(&feed->changed);
	pthread_mutex_destroy(&feed->lock);
	mg_free(feed->wanted);
	mg_free(feed->columns);
	mg_free(feed->pointers);
	mg_free(feed->sql);
	mg_free(feed);
}

/* Columns by number: names of a result may be equal, those of a table may not. */
static int schema_take(struct mg_duck_feed *feed, const struct ArrowSchema *schema,
                       struct mg_error *err)
{
	bool taken = schema->n_children > 0 &&
	             ArrowSchemaDeepCopy(schema, &feed->schema) == NANOARROW_OK;
	for (int64_t i = 0; taken && i < schema->n_children; i++) {
		char name[24];
		snprintf(name, sizeof name, "c%lld", (long long)i);
		taken = ArrowSchemaSetName(feed->schema.children[i], name) == NANOARROW_OK;
	}
	return taken ? 0 : mg_error_set(err, MG_E_NOMEM, "no memory for the columns of the rows");
}

int mg_duck_feed_open(struct mg_duck_feed **out, struct mg_duck_conn *conn,
                      const struct ArrowSchema *schema, const char *sql, struct mg_error *err)
{
	struct mg_duck_feed *feed = mg_alloc0(sizeof *feed);
	size_t count = (size_t)schema->n_children;
	feed->conn = conn;
	feed->context.feed = feed;
	feed->wake = -1;
	feed->sql = mg_strdup(sql);
	feed->wanted = mg_alloc0((count + 1) * sizeof *feed->wanted);
	feed->columns = mg_alloc0((count + 1) * sizeof *feed->columns);
	feed->pointers = mg_alloc0((count + 1) * sizeof *feed->pointers);
	for (size_t i = 0; i < count; i++) {
		feed->wanted[i] = i;
	}
	pthread_mutex_init(&feed->lock, NULL);
	pthread_cond_init(&feed->changed, NULL);
	mg_duck_set_context(conn, &feed->context);
	int rc = schema_take(feed, schema, err);
	int failed = rc == 0 ? pthread_create(&feed->thread, NULL, statement_run, feed) : 0;
	if (failed) {
		rc = mg_error_errno(err, failed, "cannot start a thread that writes rows");
	}
	if (rc != 0) {
		feed_free(feed);
		feed = NULL;
	}
	*out = feed;
	return rc;
}

void mg_duck_feed_wake(struct mg_duck_feed *feed, int fd)
{
	pthread_mutex_lock(&feed->lock);
	feed->wake = fd;
	if (feed->ended) {
		tell(feed);
	}
	pthread_mutex_unlock(&feed->lock);
}

/* Under the lock.  Takes batch over. */
static int put(struct mg_duck_feed *feed, struct ArrowArray *batch, struct mg_error *err)
{
	if (!feed->ended) {
		size_t at = (feed->first + feed->count++) % MG_FEED_BATCHES_MAX;

		ArrowArrayMove(batch, &feed->waiting[at]);
		pthread_cond_broadcast(&feed->changed);
		return 0;
	}
	int rc = feed->failure.code ? feed->failure.code : MG_E_INTERNAL;

	if (err) {
		*err = feed->failure;
	}
	if (feed->failure.code == 0) {
		mg_error_set(err, MG_E_INTERNAL, "the writing of rows ended before the rows did");
	}
	ArrowArrayRelease(batch);
	return rc;
}

int mg_duck_feed_put(struct mg_duck_feed *feed, struct ArrowArray *batch, struct mg_error *err)
{
	pthread_mutex_lock(&feed->lock);
	mg_assert(!feed->complete && !feed->broken);
	while (feed->count == MG_FEED_BATCHES_MAX && !feed->ended) {
		pthread_cond_wait(&feed->changed, &feed->lock);
	}
	int rc = put(feed, batch, err);

	pthread_mutex_unlock(&feed->lock);
	return rc;
}

int mg_duck_feed_offer(struct mg_duck_feed *feed, struct ArrowArray *batch, bool *taken,
                       struct mg_error *err)
{
	pthread_mutex_lock(&feed->lock);
	mg_assert(!feed->complete && !feed->broken);
	*taken = feed->count < MG_FEED_BATCHES_MAX || feed->ended;
	int rc = *taken ? put(feed, batch, err) : 0;

	pthread_mutex_unlock(&feed->lock);
	return rc;
}

void mg_duck_feed_finish(struct mg_duck_feed *feed, bool whole)
{
	pthread_mutex_lock(&feed->lock);
	feed->complete = whole;
	feed->broken = !whole;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
}

bool mg_duck_feed_ended(struct mg_duck_feed *feed)
{
	pthread_mutex_lock(&feed->lock);
	bool ended = feed->ended;

	pthread_mutex_unlock(&feed->lock);
	return ended;
}

int mg_duck_feed_close(struct mg_duck_feed *feed, bool whole, struct mg_error *err)
{
	mg_duck_feed_finish(feed, whole);
	pthread_join(feed->thread, NULL);
	int rc = whole ? feed->failure.code : 0;
	if (rc != 0 && err) {
		*err = feed->failure;
	}
	feed_free(feed);
	return rc;
}

void mg_duck_feed_select(struct mg_sb *sql, const char *const *names, const char *const *types,
                         size_t count)
{
	mg_sb_add(sql, "SELECT ");
	for (size_t i = 0; i < count; i++) {
		mg_sb_addf(sql, i ? ", c%zu" : "c%zu", i);
		if (strcmp(types[i], "\"NULL\"") != 0) {
			mg_sb_addf(sql, "::%s", types[i]);
		}
		mg_sb_add(sql, " AS ");
		mg_sb_add_ident(sql, names[i]);
	}
	mg_sb_add(sql, " FROM merganser_feed()");
}
