/*
 * sample.c - TPC-H generated in steps, each routed by slot into the open shard files.
 *
 *   thread A   generate step 0 | store step 0    | generate step 2 | store step 2 ...
 *   thread B                   | generate step 1 | store step 1    | generate step 3 ...
 *
 * Idea: a pipeline.  Each step lives in a private in-memory database; while one thread generates,
 * another stores, which costs about the same.  The generator keeps its distributions in global
 * variables and crashes when two steps run at once [ran], so one lock for the process lets in one
 * at a time.  Storing goes in the order of the steps, so the order of rows in a file and their ids
 * do not depend on the threads.  Then the files are finished in parallel.
 *
 * Memory: the steps being generated (about 1/20 of scale factor 1 each) and the unfinished row
 * group of each table and file, which DuckDB may spill; never the whole scale.
 *
 * Failure: the first error wins, all threads stop at the next step, half-made files are removed.
 */
#include "server/sample.h"

#include "codec/slot.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* A step makes about so much of scale factor 1. */
#define STEPS_PER_SCALE 20.0
#define STEPS_MAX 100000.0
#define THREADS_MAX 64
/* One generates, one stores, one waits with the next step ready. */
#define PIPELINE_THREADS 3
/* Rows handed to DuckDB's tables at the latest; the buffers in front of them are ours. */
#define BUFFERED_ROWS 4096
#define BUFFERED_ROWS_ALL 250000
/* Above so many files a chunk of 2048 rows has too few for each: sort each step by shard. */
#define SORT_SHARDS 48

struct tpch_table {
	const char *name, *key;
	const char *primary_key[2];
};

/* In the order of loading; small ones first, so that errors come early. */
static const struct tpch_table tables[] = {
	{ "region", NULL, { "r_regionkey", NULL } },
	{ "nation", NULL, { "n_nationkey", NULL } },
	{ "supplier", "s_suppkey", { "s_suppkey", NULL } },
	{ "customer", "c_custkey", { "c_custkey", NULL } },
	{ "part", "p_partkey", { "p_partkey", NULL } },
	{ "partsupp", "ps_partkey", { "ps_partkey", "ps_suppkey" } },
	{ "orders", "o_orderkey", { "o_orderkey", NULL } },
	{ "lineitem", "l_orderkey", { "l_orderkey", "l_linenumber" } },
};
#define TABLES (sizeof tables / sizeof *tables)

/* Held while dbgen runs, anywhere in the process. */
static pthread_mutex_t generator = PTHREAD_MUTEX_INITIALIZER;

struct columns {
	size_t count;
	const char **names, **types;
};

struct load {
	const struct mg_sample_options *options;
	struct mg_sample_file *results;
	struct mg_arena *arena;
	struct mg_duck_conn *conn; /* of the caller's thread */
	struct columns columns[TABLES];
	struct mg_shard_file **files; /* [shard_count + 1]; NULL: not wanted, or finished */
	struct mg_duck_appender **appenders[TABLES]; /* [shard_count], or [1] for a reference table */
	uint16_t *owner; /* [MG_SLOTS]: index of the shard among the partitions, from 0 */
	uint32_t steps;
	atomic_uint next; /* step or file to take */
	atomic_uint finished;

	pthread_mutex_t lock;
	pthread_cond_t turned;
	uint32_t turn; /* step that may store; guarded by lock, like failure */
	struct mg_error failure;
};

/* ---- shared state ---- */

static bool failed(struct load *load)
{
	if (load->options->stop && atomic_load(load->options->stop)) {
		pthread_mutex_lock(&load->lock);
		if (load->failure.code == 0) {
			mg_error_set(&load->failure, MG_E_CANCELLED, "bootstrap was stopped");
		}
		pthread_mutex_unlock(&load->lock);
	}
	pthread_mutex_lock(&load->lock);
	bool yes = load->failure.code != 0;
	pthread_mutex_unlock(&load->lock);
	return yes;
}

static void fail(struct load *load, const struct mg_error *err)
{
	pthread_mutex_lock(&load->lock);
	if (load->failure.code == 0) {
		load->failure = *err;
	}
	pthread_cond_broadcast(&load->turned);
	pthread_mutex_unlock(&load->lock);
}

static void report(struct load *load, const char *step, uint32_t done, uint32_t all)
{
	if (load->options->progress && all > 0) {
		pthread_mutex_lock(&load->lock);
		load->options->progress(load->options->arg, step, (double)done / all);
		pthread_mutex_unlock(&load->lock);
	}
}

/* Run body on count threads, this one included. */
static void parallel(struct load *load, unsigned count, void *(*body)(void *))
{
	pthread_t threads[THREADS_MAX];
	unsigned started = 0;
	atomic_store(&load->next, 0);
	atomic_store(&load->finished, 0);
	while (started + 1 < count && started < THREADS_MAX &&
	       pthread_create(&threads[started], NULL, body, load) == 0) {
		started++;
	}
	body(load);
	while (started > 0) {
		pthread_join(threads[--started], NULL);
	}
}

/* ---- opening the files ---- */

/* An empty copy of the generator's tables tells columns and types; nation and region, which SSB
 * needs, are always complete. */
static int columns_read(struct load *load, struct mg_error *err)
{
	int64_t there = 0;
	int rc = mg_duck_int(load->conn,
	                     "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'memory' AND "
	                     "table_name = 'lineitem'",
	                     &there, err);
	if (rc == 0 && there == 0) {
		pthread_mutex_lock(&generator);
		rc = mg_duck_exec(load->conn, "CALL dbgen(sf = 0.001)", err);
		pthread_mutex_unlock(&generator);
	}
	for (size_t t = 0; rc == 0 && t < TABLES; t++) {
		struct columns *columns = &load->columns[t];
		char sql[64];
		snprintf(sql, sizeof sql, "SELECT * FROM memory.main.%s", tables[t].name);
		rc = mg_duck_describe(load->conn, load->arena, sql, &columns->count, &columns->names,
		                      &columns->types, err);
	}
	return rc;
}

static int file_open(struct load *load, uint32_t shard, struct mg_error *err)
{
	const struct mg_sample_options *options = load->options;
	struct mg_shard_meta meta = options->meta;
	meta.shard = shard;
	meta.slot_first = options->shards[shard].slot_first;
	meta.slot_last = options->shards[shard].slot_last;
	int rc =
		mg_shard_file_create(&load->files[shard], options->duck, options->data_dir, &meta, err);
	struct mg_shard_file *file = load->files[shard];
	for (size_t t = 0; rc == 0 && options->scale_factor > 0 && t < TABLES; t++) {
		if ((tables[t].key == NULL) != (shard == 0)) {
			continue;
		}
		const struct columns *columns = &load->columns[t];
		struct mg_duck_appender **appender = &load->appenders[t][shard == 0 ? 0 : shard - 1];
		rc = mg_shard_file_table(file, "main", tables[t].name, columns->names, columns->types,
		                         columns->count, err);
		if (rc == 0) {
			rc = mg_duck_appender_open(appender, file->conn, file->database, "main", tables[t].name,
			                           &file->next_rid, err);
		}
	}
	return rc;
}

static int files_open(struct load *load, struct mg_error *err)
{
	const struct mg_sample_options *options = load->options;
	uint32_t count = options->meta.shard_count;
	load->files = mg_arena_new_array(load->arena, struct mg_shard_file *, count + 1);
	load->owner = mg_arena_new_array(load->arena, uint16_t, MG_SLOTS);
	for (size_t t = 0; t < TABLES; t++) {
		load->appenders[t] =
			mg_arena_new_array(load->arena, struct mg_duck_appender *, tables[t].key ? count : 1);
	}
	for (uint32_t shard = 1; shard <= count; shard++) {
		for (uint32_t slot = options->shards[shard].slot_first;
		     slot <= options->shards[shard].slot_last; slot++) {
			load->owner[slot] = (uint16_t)(shard - 1);
		}
	}
	int rc = 0;
	for (uint32_t shard = 0; rc == 0 && shard <= count; shard++) {
		if (options->wanted[shard]) {
			rc = file_open(load, shard, err);
		}
	}
	return rc;
}

/* ---- a step: generate, then store ---- */

static int generate(struct load *load, struct mg_duck_conn *conn, uint32_t step,
                    struct mg_error *err)
{
	int rc = mg_duck_execf(conn, err, "ATTACH ':memory:' AS g%u", step);
	if (rc == 0) {
		pthread_mutex_lock(&generator);
		rc = mg_duck_execf(conn, err,
		                   "CALL dbgen(sf = %.17g, children = %u, step = %u, catalog = 'g%u')",
		                   load->options->scale_factor, load->steps, step, step);
		pthread_mutex_unlock(&generator);
	}
	return rc;
}

static int table_store(struct load *load, struct mg_duck_conn *conn, uint32_t step, size_t t,
                       struct mg_error *err)
{
	uint32_t shards = load->options->meta.shard_count;
	char sql[256];
	if (!tables[t].key) {
		if (!load->appenders[t][0]) {
			return 0;
		}
		snprintf(sql, sizeof sql, "SELECT * FROM g%u.main.%s", step, tables[t].name);
		return mg_duck_route(conn, sql, NULL, load->appenders[t], 1, err);
	}
	if (shards > SORT_SHARDS) {
		snprintf(sql, sizeof sql,
		         "SELECT *, mg_slot(%s) AS slot FROM g%u.main.%s ORDER BY slot::UBIGINT * %u // "
		         "%u, rowid",
		         tables[t].key, step, tables[t].name, shards, MG_SLOTS);
	} else {
		snprintf(sql, sizeof sql, "SELECT *, mg_slot(%s) FROM g%u.main.%s", tables[t].key, step,
		         tables[t].name);
	}
	return mg_duck_route(conn, sql, load->owner, load->appenders[t], shards, err);
}

/* Hand over what is buffered where it pays, or everywhere when it is much in all. */
static int buffers_flush(struct load *load, struct mg_error *err)
{
	uint64_t all = 0;
	for (int pass = 0; pass < 2; pass++) {
		for (size_t t = 0; t < TABLES; t++) {
			uint32_t count = tables[t].key ? load->options->meta.shard_count : 1;
			for (uint32_t i = 0; i < count; i++) {
				struct mg_duck_appender *appender = load->appenders[t][i];
				uint64_t rows = appender ? mg_duck_appender_buffered(appender) : 0;
				if (pass == 0) {
					all += rows;
				} else if (rows >= BUFFERED_ROWS || (rows > 0 && all >= BUFFERED_ROWS_ALL)) {
					int rc = mg_duck_appender_flush(appender, err);
					if (rc != 0) {
						return rc;
					}
				}
			}
		}
	}
	return 0;
}

/* Wait until all earlier steps are stored; false when the load has failed. */
static bool turn_wait(struct load *load, uint32_t step)
{
	pthread_mutex_lock(&load->lock);
	while (load->turn != step && load->failure.code == 0) {
		pthread_cond_wait(&load->turned, &load->lock);
	}
	bool mine = load->failure.code == 0;
	pthread_mutex_unlock(&load->lock);
	return mine;
}

static void turn_end(struct load *load)
{
	pthread_mutex_lock(&load->lock);
	load->turn++;
	pthread_cond_broadcast(&load->turned);
	pthread_mutex_unlock(&load->lock);
}

static int step_run(struct load *load, struct mg_duck_conn *conn, uint32_t step,
                    struct mg_error *err)
{
	struct mg_error ignored;
	int rc = generate(load, conn, step, err);
	if (rc == 0 && turn_wait(load, step)) {
		for (size_t t = 0; rc == 0 && t < TABLES; t++) {
			rc = table_store(load, conn, step, t, err);
		}
		if (rc == 0) {
			rc = buffers_flush(load, err);
		}
		if (rc == 0) {
			turn_end(load);
			report(load, "tpch", atomic_fetch_add(&load->finished, 1) + 1, load->steps);
		}
	}
	(void)mg_duck_execf(conn, &ignored, "DETACH g%u", step);
	return rc;
}

static void *steps_run(void *arg)
{
	struct load *load = arg;
	struct mg_duck_conn *conn = NULL;
	struct mg_error err;
	mg_error_clear(&err);
	int rc = mg_duck_connect(load->options->duck, &conn, &err);
	while (rc == 0 && !failed(load)) {
		uint32_t step = atomic_fetch_add(&load->next, 1);
		if (step >= load->steps) {
			break;
		}
		rc = step_run(load, conn, step, &err);
	}
	if (rc != 0) {
		fail(load, &err);
	}
	mg_duck_disconnect(conn);
	return NULL;
}

/* ---- finishing the files ---- */

static int file_finish(struct load *load, uint32_t shard, struct mg_error *err)
{
	struct mg_sample_file *result = &load->results[shard];
	struct mg_shard_file *file = load->files[shard];
	int rc = 0;
	for (size_t t = 0; t < TABLES; t++) {
		if ((tables[t].key == NULL) == (shard == 0)) {
			struct mg_duck_appender **appender = &load->appenders[t][shard == 0 ? 0 : shard - 1];
			if (rc == 0) {
				rc = mg_duck_appender_close(*appender, err);
			} else {
				mg_duck_appender_drop(*appender);
			}
			*appender = NULL;
		}
	}
	if (rc == 0 && load->options->ssb) {
		rc = mg_ssb_fill(file, err);
	}
	load->files[shard] = NULL;
	if (rc != 0) {
		mg_shard_file_drop(file);
		return rc;
	}
	return mg_shard_file_finish(file, result->sha256, &result->bytes, err);
}

static void *files_finish(void *arg)
{
	struct load *load = arg;
	uint32_t count = load->options->meta.shard_count + 1;
	struct mg_error err;
	mg_error_clear(&err);
	while (!failed(load)) {
		uint32_t shard = atomic_fetch_add(&load->next, 1);
		if (shard >= count) {
			break;
		}
		if (load->files[shard] && file_finish(load, shard, &err) != 0) {
			fail(load, &err);
		}
		report(load, "finish", atomic_fetch_add(&load->finished, 1) + 1, count);
	}
	return NULL;
}

static void load_close(struct load *load)
{
	uint32_t shards = load->options->meta.shard_count;
	for (size_t t = 0; t < TABLES; t++) {
		for (uint32_t i = 0; load->appenders[t] && i < (tables[t].key ? shards : 1); i++) {
			mg_duck_appender_drop(load->appenders[t][i]);
		}
	}
	for (uint32_t i = 0; load->files && i <= shards; i++) {
		mg_shard_file_drop(load->files[i]);
	}
	mg_duck_disconnect(load->conn);
	mg_arena_free(load->arena);
	pthread_cond_destroy(&load->turned);
	pthread_mutex_destroy(&load->lock);
}

int mg_sample_make(const struct mg_sample_options *options, struct mg_sample_file *files,
                   struct mg_error *err)
{
	struct load load = { .options = options, .results = files, .arena = mg_arena_new() };
	pthread_mutex_init(&load.lock, NULL);
	pthread_cond_init(&load.turned, NULL);
	double steps = ceil(options->scale_factor * STEPS_PER_SCALE);
	load.steps = (uint32_t)(steps < STEPS_MAX ? steps : STEPS_MAX);
	int rc = mg_duck_connect(options->duck, &load.conn, err);
	if (rc == 0 && options->scale_factor > 0) {
		rc = columns_read(&load, err);
	}
	if (rc == 0) {
		rc = files_open(&load, err);
	}
	if (rc == 0 && options->scale_factor > 0) {
		parallel(&load, options->threads < PIPELINE_THREADS ? options->threads : PIPELINE_THREADS,
		         steps_run);
	}
	if (rc == 0 && !failed(&load)) {
		parallel(&load, options->threads, files_finish);
	}
	if (rc == 0 && failed(&load)) {
		if (err) {
			*err = load.failure;
		}
		rc = load.failure.code;
	}
	load_close(&load);
	return rc;
}

/* ---- what the catalog needs to know ---- */

static int rows_count(const struct mg_sample_options *options, struct mg_arena *arena,
                      struct mg_table *list, size_t count, uint64_t *shard_rows,
                      struct mg_error *err)
{
	const char **schemas = mg_arena_new_array(arena, const char *, count + 1);
	const char **names = mg_arena_new_array(arena, const char *, count + 1);
	uint64_t *rows = mg_arena_new_array(arena, uint64_t, count + 1);
	int rc = 0;
	for (size_t t = 0; t < count; t++) {
		schemas[t] = list[t].schema;
		names[t] = list[t].name;
		list[t].rows = 0;
	}
	for (uint32_t shard = 0; rc == 0 && shard <= options->meta.shard_count; shard++) {
		memset(rows, 0, count * sizeof *rows);
		shard_rows[shard] = 0;
		rc = mg_shard_file_counts(options->duck, options->data_dir, shard, schemas, names, count,
		                          rows, err);
		for (size_t t = 0; t < count; t++) {
			list[t].rows += rows[t];
			shard_rows[shard] += rows[t];
		}
	}
	return rc;
}

static void table_init(struct mg_table *table, struct mg_arena *arena, const char *schema,
                       const char *name, const char *key, const char *const primary_key[2],
                       const struct columns *columns, bool not_null)
{
	table->schema = schema;
	table->name = name;
	table->version = 1;
	table->column_count = columns->count;
	table->columns = mg_arena_new_array(arena, struct mg_column, columns->count);
	for (size_t i = 0; i < columns->count; i++) {
		table->columns[i] = (struct mg_column){ columns->names[i], columns->types[i], not_null };
	}
	table->keys = mg_arena_new_array(arena, const char *, 1);
	table->keys[0] = key;
	table->key_count = key ? 1 : 0;
	table->primary_key = mg_arena_new_array(arena, const char *, 2);
	for (size_t i = 0; i < 2 && primary_key[i]; i++) {
		table->primary_key[table->primary_key_count++] = primary_key[i];
	}
}

/* Columns of an SSB table, by an empty stand-in for the shard it would be made in. */
static int ssb_columns(struct mg_duck_conn *conn, struct mg_arena *arena,
                       const struct mg_ssb_table *table, struct columns *columns,
                       struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "SELECT * EXCLUDE (_mg_rid, _mg_slot) FROM (");
	const char *from = table->sql;
	for (const char *mark; (mark = strstr(from, "$D")) != NULL; from = mark + 2) {
		mg_sb_add_len(&sql, from, (size_t)(mark - from));
		mg_sb_add(&sql, "shape");
	}
	mg_sb_add(&sql, from);
	mg_sb_add_char(&sql, ')');
	int rc = mg_duck_describe(conn, arena, mg_sb_text(&sql), &columns->count, &columns->names,
	                          &columns->types, err);
	mg_sb_fini(&sql);
	return rc;
}

static int shape_make(struct mg_duck_conn *conn, struct mg_error *err)
{
	int rc = mg_duck_exec(conn, "ATTACH IF NOT EXISTS ':memory:' AS shape", err);
	for (size_t t = 0; rc == 0 && t < TABLES; t++) {
		rc = mg_duck_execf(conn, err,
		                   "CREATE OR REPLACE TABLE shape.main.%s AS SELECT 0::BIGINT AS _mg_rid, "
		                   "0::USMALLINT AS _mg_slot, *"
		                   " FROM memory.main.%s LIMIT 0",
		                   tables[t].name, tables[t].name);
	}
	return rc;
}

int mg_sample_tables(const struct mg_sample_options *options, struct mg_arena *arena,
                     struct mg_table **out, size_t *count, uint64_t *shard_rows,
                     struct mg_error *err)
{
	struct load load = { .options = options, .arena = arena };
	size_t ssb = options->ssb ? mg_ssb_table_count : 0;
	struct mg_table *list = mg_arena_new_array(arena, struct mg_table, TABLES + ssb);
	*out = list;
	*count = 0;
	if (options->scale_factor <= 0) {
		memset(shard_rows, 0, (options->meta.shard_count + 1) * sizeof *shard_rows);
		return 0;
	}
	int rc = mg_duck_connect(options->duck, &load.conn, err);
	if (rc == 0) {
		rc = columns_read(&load, err);
	}
	if (rc == 0 && ssb > 0) {
		rc = shape_make(load.conn, err);
	}
	for (size_t t = 0; rc == 0 && t < TABLES; t++) {
		table_init(&list[(*count)++], arena, "main", tables[t].name, tables[t].key,
		           tables[t].primary_key, &load.columns[t], true);
	}
	for (size_t t = 0; rc == 0 && t < ssb; t++) {
		const struct mg_ssb_table *table = &mg_ssb_tables[t];
		struct columns columns = { 0 };
		rc = ssb_columns(load.conn, arena, table, &columns, err);
		if (rc == 0) {
			table_init(&list[(*count)++], arena, "ssb", table->name, table->key, table->primary_key,
			           &columns, false);
		}
	}
	if (rc == 0) {
		rc = rows_count(options, arena, list, *count, shard_rows, err);
	}
	mg_duck_disconnect(load.conn);
	return rc;
}
