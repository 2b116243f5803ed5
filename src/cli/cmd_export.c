/*
 * cmd_export.c - `merganser export`: tables as a DuckDB file or a folder of Parquet or CSV files.
 *
 * Two sources: a data directory that no server holds (its shard files are attached read-only), or
 * with --url a running cluster, table by table through the client's channel.  Users' columns only:
 * _mg_rid, _mg_slot and the schema _mg stay behind, as do views, keys and constraints.
 *
 * Signals are taken by a thread of their own, which cancels what runs; the half-made target goes.
 */
#include "cli/commands.h"
#include "cli/connect.h"
#include "codec/arrow_text.h"
#include "exec/engine.h"
#include "os/file.h"
#include "os/limits.h"
#include "server/bootstrap.h"
#include "store/duck_feed.h"
#include "store/export.h"
#include "store/shard_file.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct mg_option mg_options_export[] = {
	MG_OPTION_DATA_DIR(
		NULL, "the data directory to read when there is no --url; its server must be down"),
	{ .name = "output",
	  .alias = "o",
	  .kind = MG_O_TEXT,
	  .value = "PATH",
	  .help = "the DuckDB file, or the folder of Parquet or CSV files, to make" },
	{ .name = "format",
	  .kind = MG_O_CHOICE,
	  .choices = "duckdb|parquet|csv",
	  .fallback = "duckdb",
	  .help = "one DuckDB file, or a folder with a file for each table" },
	{ .name = "overwrite", .kind = MG_O_FLAG, .help = "replace an export that is there" },
	MG_OPTION_THREADS("0: what the machine gives"),
	{ 0 },
};

struct name {
	const char *schema, *table;
	bool wanted;
};

struct job {
	const struct mg_options *options;
	struct mg_arena *arena;
	struct mg_export *export;
	struct name *names; /* all tables of the source */
	size_t count, wanted;
	uint64_t rows; /* of all tables */
	/* what a signal cancels; under lock */
	pthread_t watcher;
	bool watched;
	pthread_mutex_t lock;
	struct mg_duck_conn *conn;
	mg_client *client;
	atomic_bool stop; /* set by a signal */
	atomic_bool done; /* the watcher may go */
	atomic_int signal;
};

/* ---- signals ---- */

static void *watch(void *arg)
{
	struct job *job = arg;
	sigset_t set;
	int number = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	while (sigwait(&set, &number) == 0 && !atomic_load(&job->done)) {
		atomic_store(&job->signal, number);
		atomic_store(&job->stop, true);
		pthread_mutex_lock(&job->lock);
		if (job->client) {
			mg_client_cancel(job->client);
		}
		if (job->conn) {
			mg_duck_interrupt(job->conn);
		}
		pthread_mutex_unlock(&job->lock);
	}
	return NULL;
}

static void watch_start(struct job *job)
{
	sigset_t set;

	pthread_mutex_init(&job->lock, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	job->watched = pthread_create(&job->watcher, NULL, watch, job) == 0;
}

static void watch_stop(struct job *job)
{
	if (job->watched) {
		atomic_store(&job->done, true);
		pthread_kill(job->watcher, SIGTERM);
		pthread_join(job->watcher, NULL);
	}
	pthread_mutex_destroy(&job->lock);
}

static void watch_conn(struct job *job, struct mg_duck_conn *conn)
{
	pthread_mutex_lock(&job->lock);
	job->conn = conn;
	pthread_mutex_unlock(&job->lock);
}

static void watch_client(struct job *job, mg_client *client)
{
	pthread_mutex_lock(&job->lock);
	job->client = client;
	pthread_mutex_unlock(&job->lock);
}

static int stopped(struct job *job, struct mg_error *err)
{
	return atomic_load(&job->stop)
	           ? mg_error_set(err, MG_E_CANCELLED, "the export was stopped; nothing was written")
	           : 0;
}

/* ---- which tables ---- */

/* "orders" or "main.orders" is the table of that name, whatever its case, as in SQL. */
static bool is_named(const struct name *name, const char *text)
{
	const char *dot = strchr(text, '.');
	size_t len = dot ? (size_t)(dot - text) : 0;

	if (!dot) {
		return mg_text_eq_nocase(name->table, text) && mg_text_eq_nocase(name->schema, "main");
	}
	return strlen(name->schema) == len && strncasecmp(name->schema, text, len) == 0 &&
	       mg_text_eq_nocase(name->table, dot + 1);
}

static int choose(struct job *job, struct mg_error *err)
{
	size_t arguments = mg_options_arguments(job->options);

	for (size_t i = 0; i < job->count; i++) {
		job->names[i].wanted = arguments == 0;
	}
	for (size_t a = 0; a < arguments; a++) {
		const char *text = mg_options_argument(job->options, a);
		bool found = false;

		for (size_t i = 0; i < job->count; i++) {
			if (is_named(&job->names[i], text)) {
				job->names[i].wanted = found = true;
			}
		}
		if (!found) {
			mg_error_set(err, MG_E_NO_TABLE, "there is no table \"%s\" to export", text);
			mg_error_hint(err, "Write schema.table for tables outside of the schema main.");
			return MG_E_NO_TABLE;
		}
	}
	for (size_t i = 0; i < job->count; i++) {
		job->wanted += job->names[i].wanted;
	}
	return job->wanted ? 0 : mg_error_set(err, MG_E_NOT_FOUND, "there are no tables to export");
}

static void tell(struct job *job, size_t number, const struct name *name, uint64_t rows)
{
	job->rows += rows;
	fprintf(stderr, "%zu/%zu  %s.%s  %llu rows\n", number, job->wanted, name->schema, name->table,
	        (unsigned long long)rows);
}

static int target_open(struct job *job, struct mg_error *err)
{
	static const char *const names[] = { "duckdb", "parquet", "csv" };
	const char *format = mg_options_text(job->options, "format");
	int kind = 0;

	while (strcmp(names[kind], format) != 0) {
		kind++;
	}
	int rc = mg_export_open(&job->export, (enum mg_export_format)kind,
	                        mg_options_text(job->options, "output"),
	                        mg_options_flag(job->options, "overwrite"),
	                        (unsigned)mg_options_int(job->options, "threads"), err);
	if (rc == 0) {
		mg_duck_set_stop(mg_export_conn(job->export), &job->stop);
		watch_conn(job, mg_export_conn(job->export));
	}
	return rc;
}

/* ---- from a data directory ---- */

static int shard_attach(struct job *job, const struct mg_catalog_data *data, uint32_t shard,
                        struct mg_error *err)
{
	struct mg_duck_conn *conn = mg_export_conn(job->export);
	const struct mg_shard *info = &data->shards[shard];
	char *path = mg_path_join(mg_options_text(job->options, "data-dir"), info->file);
	struct mg_shard_meta meta = {
		.cluster_id = data->cluster_id,
		.sample = data->sample,
		.shard = shard,
		.shard_count = data->shard_count,
		.slot_first = info->slot_first,
		.slot_last = info->slot_last,
		.file_format = MG_FILE_FORMAT,
	};
	struct mg_sb sql = { 0 };
	int rc = 0;

	if (!mg_file_exists(path)) {
		rc = mg_error_set(err, MG_E_NOT_FOUND, "the file \"%s\" of shard %u is not there", path,
		                  shard);
		mg_error_hint(err, "A directory without all shards is exported with its server up, "
		                   "through --url.");
	} else {
		mg_sb_add(&sql, "ATTACH ");
		mg_sb_add_literal(&sql, path, strlen(path));
		mg_sb_addf(&sql, " AS s%u (READ_ONLY)", shard);
		rc = mg_duck_exec(conn, mg_sb_text(&sql), err);
	}
	if (rc == 0) {
		rc = mg_shard_file_check(conn, &meta, err);
	}
	mg_sb_fini(&sql);
	mg_free(path);
	return rc;
}

/* Users' columns of all parts of a table; count: how many rows instead. */
static void add_select(struct mg_sb *sql, const struct mg_catalog_data *data,
                       const struct mg_table *table, const char *stored, bool count)
{
	uint32_t first, last;

	mg_table_shards(data, table, &first, &last);
	mg_sb_add(sql, count ? "SELECT sum(n)::BIGINT FROM (" : "");
	for (uint32_t shard = first; shard <= last; shard++) {
		mg_sb_add(sql, shard > first ? " UNION ALL SELECT " : "SELECT ");
		if (!count) {
			mg_table_add_stored_columns(sql, table);
		}
		mg_sb_addf(sql, count ? "count(*) AS n FROM s%u." : " FROM s%u.", shard);
		mg_sb_add_path(sql, table->schema, stored);
	}
	mg_sb_add(sql, count ? ")" : "");
}

static int table_copy(struct job *job, const struct mg_catalog_data *data,
                      const struct mg_table *table, int64_t *rows, struct mg_error *err)
{
	struct mg_duck_conn *conn = mg_export_conn(job->export);
	struct mg_sb count = { 0 }, select = { 0 }, sql = { 0 };
	int64_t written = 0;

	const char *stored = mg_table_stored(job->arena, table);
	add_select(&count, data, table, stored, true);
	add_select(&select, data, table, stored, false);
	int rc = mg_duck_int(conn, mg_sb_text(&count), rows, err);

	if (rc == 0) {
		rc = mg_export_begin(job->export, table->schema, table->name, mg_sb_text(&select), &sql,
		                     err);
	}
	if (rc == 0) {
		rc = mg_duck_int(conn, mg_sb_text(&sql), &written, err);
	}
	if (rc == 0 && written != *rows) {
		rc = mg_error_set(err, MG_E_CORRUPT, "of %lld rows %lld were written", (long long)*rows,
		                  (long long)written);
	}
	if (rc == 0) {
		rc = mg_export_end(job->export, (uint64_t)*rows, err);
	}
	mg_sb_fini(&count);
	mg_sb_fini(&select);
	mg_sb_fini(&sql);
	return rc == 0 ? 0
	               : mg_error_wrap(err, "while exporting \"%s.%s\"", table->schema, table->name);
}

static int tables_copy(struct job *job, const struct mg_catalog_data *data, struct mg_error *err)
{
	size_t number = 0;
	int rc = 0;

	(void)mg_os_files_raise();
	for (uint32_t shard = 0; rc == 0 && shard <= data->shard_count; shard++) {
		rc = shard_attach(job, data, shard, err);
	}
	for (size_t i = 0; rc == 0 && i < job->count; i++) {
		int64_t rows = 0;

		if (!job->names[i].wanted) {
			continue;
		}
		rc = stopped(job, err);
		if (rc == 0) {
			rc = table_copy(job, data, &data->tables[i], &rows, err);
		}
		if (rc == 0) {
			tell(job, ++number, &job->names[i], (uint64_t)rows);
		}
	}
	return rc;
}

static int directory_export(struct job *job, const struct mg_catalog_data *data,
                            struct mg_error *err)
{
	if (!mg_bootstrap_complete(data)) {
		mg_error_set(err, MG_E_CORRUPT, "the shard files of \"%s\" are not complete",
		             mg_options_text(job->options, "data-dir"));
		mg_error_hint(err, "`merganser bootstrap` finishes what is missing.");
		return MG_E_CORRUPT;
	}
	job->count = data->table_count;
	job->names = mg_arena_new_array(job->arena, struct name, job->count + 1);
	for (size_t i = 0; i < job->count; i++) {
		job->names[i] = (struct name){ data->tables[i].schema, data->tables[i].name, false };
	}
	int rc = choose(job, err);

	if (rc == 0) {
		rc = target_open(job, err);
	}
	return rc ? rc : tables_copy(job, data, err);
}

/* What was written and is only in the log goes into the files, as when a server starts and stops.
 */
static int settle(const char *dir, struct mg_catalog *catalog, struct mg_error *err)
{
	const struct mg_engine_options options = { .data_dir = dir,
		                                       .node_name = "export",
		                                       .catalog = catalog };
	struct mg_engine *engine = NULL;
	char *log = mg_path_join(dir, "log/raft");
	int rc = 0;

	if (mg_dir_exists(log)) {
		rc = mg_engine_open(&engine, &options, err);
		rc = rc ? rc : mg_engine_checkpoint(engine, err);
		mg_engine_close(engine);
	}
	mg_free(log);
	return rc;
}

static int from_directory(struct job *job, struct mg_error *err)
{
	const char *dir = mg_options_text(job->options, "data-dir");
	struct mg_catalog *catalog = NULL;
	int lock = -1;
	int rc = mg_dir_exists(dir) ? 0 : MG_E_NOT_FOUND;

	if (rc == 0) {
		rc = mg_dir_lock(dir, &lock, err);
		if (rc == MG_E_BUSY) {
			mg_error_hint(err, "A server runs there: export through it, with --url.");
		}
	}
	if (rc == 0) {
		rc = mg_catalog_load(&catalog, dir, err);
	}
	if (rc == MG_E_NOT_FOUND) {
		mg_error_set(err, MG_E_NOT_FOUND, "there is no cluster in \"%s\"", dir);
		mg_error_hint(err, "--data-dir names another folder, --url a running cluster.");
	}
	if (rc == 0) {
		rc = settle(dir, catalog, err);
	}
	if (rc == 0) {
		const struct mg_catalog_data *data = mg_catalog_take(catalog);

		rc = directory_export(job, data, err);
		mg_catalog_give(catalog, data);
	}
	mg_catalog_free(catalog);
	mg_dir_unlock(lock);
	return rc;
}

/* ---- from a running cluster ---- */

static int client_failed(mg_client *client, struct mg_error *err)
{
	*err = *mg_client_failure(client);
	return err->code ? err->code
	                 : mg_error_set(err, MG_E_PROTOCOL, "the server answered without rows");
}

/* The two text columns of the answer. */
static int names_take(struct job *job, mg_client *client, struct mg_error *err)
{
	struct mg_arrow_view *view = NULL;
	struct ArrowArray batch;
	size_t room = 0;
	int done = 0;
	int rc = mg_arrow_view_new(&view, mg_client_schema(client));

	while (rc == 0 && mg_client_next_batch(client, &batch, &done) == 0 && !done) {
		rc = mg_arrow_view_set(view, &batch);
		for (int64_t row = 0; rc == 0 && row < batch.length; row++) {
			struct mg_sb schema = { 0 }, table = { 0 };

			mg_arrow_view_text(view, 0, row, &schema);
			mg_arrow_view_text(view, 1, row, &table);
			if (job->count == room) {
				struct name *more = mg_arena_new_array(job->arena, struct name, room * 2 + 64);

				if (job->count > 0) {
					memcpy(more, job->names, job->count * sizeof *more);
				}
				job->names = more;
				room = room * 2 + 64;
			}
			job->names[job->count++] =
				(struct name){ mg_arena_strdup(job->arena, mg_sb_text(&schema)),
				               mg_arena_strdup(job->arena, mg_sb_text(&table)), false };
			mg_sb_fini(&schema);
			mg_sb_fini(&table);
		}
		ArrowArrayRelease(&batch);
	}
	mg_arrow_view_free(view);
	if (rc != 0) {
		return mg_error_set(err, MG_E_PROTOCOL, "the list of tables cannot be read");
	}
	return done ? 0 : client_failed(client, err);
}

static int next_statement(mg_client *client, const struct mg_client_statement **statement,
                          struct mg_error *err)
{
	*statement = NULL;
	if (mg_client_next_statement(client, statement) || !*statement) {
		return client_failed(client, err);
	}
	return 0;
}

/* To the end of the answer: what comes behind the rows is asked for too. */
static int answer_end(mg_client *client, struct mg_error *err)
{
	const struct mg_client_statement *statement = NULL;

	return mg_client_next_statement(client, &statement) ? client_failed(client, err) : 0;
}

static int names_ask(struct job *job, mg_client *client, struct mg_error *err)
{
	static const char sql[] = "SELECT \"schema\", name FROM cluster.tables ORDER BY ALL";
	const struct mg_client_statement *statement;
	int rc = mg_client_query(client, sql, strlen(sql)) ? client_failed(client, err) : 0;

	if (rc == 0) {
		rc = next_statement(client, &statement, err);
	}
	if (rc == 0 && (statement->column_count != 2 || !mg_client_schema(client))) {
		rc = client_failed(client, err);
	}
	if (rc == 0) {
		rc = names_take(job, client, err);
	}
	return rc ? rc : answer_end(client, err);
}

static int rows_feed(struct mg_duck_feed *feed, mg_client *client, uint64_t *rows,
                     struct mg_error *err)
{
	int rc = 0;
	int done = 0;

	while (rc == 0) {
		struct ArrowArray batch;

		if (mg_client_next_batch(client, &batch, &done)) {
			return client_failed(client, err);
		}
		if (done) {
			break;
		}
		*rows += (uint64_t)batch.length;
		rc = mg_duck_feed_put(feed, &batch, err);
	}
	return rc;
}

static int table_store(struct job *job, mg_client *client, const struct name *name,
                       const struct mg_client_statement *statement, uint64_t *rows,
                       struct mg_error *err)
{
	struct mg_duck_feed *feed = NULL;
	struct mg_sb select = { 0 }, sql = { 0 };

	mg_duck_feed_select(&select, statement->names, statement->types, statement->column_count);
	int rc =
		mg_export_begin(job->export, name->schema, name->table, mg_sb_text(&select), &sql, err);
	if (rc == 0) {
		rc = mg_duck_feed_open(&feed, mg_export_conn(job->export), mg_client_schema(client),
		                       mg_sb_text(&sql), err);
	}
	if (rc == 0) {
		rc = rows_feed(feed, client, rows, err);
		int closed = mg_duck_feed_close(feed, rc == 0, err);

		rc = rc ? rc : closed;
	}
	mg_sb_fini(&select);
	mg_sb_fini(&sql);
	return rc ? rc : mg_export_end(job->export, *rows, err);
}

static int table_fetch(struct job *job, mg_client *client, const struct name *name, uint64_t *rows,
                       struct mg_error *err)
{
	const struct mg_client_statement *statement;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "SELECT * FROM ");
	mg_sb_add_path(&sql, name->schema, name->table);
	int rc = mg_client_query(client, mg_sb_text(&sql), sql.len) ? client_failed(client, err) : 0;

	if (rc == 0) {
		rc = next_statement(client, &statement, err);
	}
	if (rc == 0 && (statement->column_count == 0 || !mg_client_schema(client))) {
		struct ArrowArray none;
		int done = 0;

		(void)mg_client_next_batch(client, &none, &done); /* it knows why */
		rc = client_failed(client, err);
	}
	if (rc == 0) {
		rc = table_store(job, client, name, statement, rows, err);
	}
	if (rc == 0 && statement->rows != *rows) {
		rc = mg_error_set(err, MG_E_PROTOCOL, "the server sent %llu rows of %llu",
		                  (unsigned long long)*rows, (unsigned long long)statement->rows);
	}
	if (rc == 0) {
		rc = answer_end(client, err);
	}
	mg_sb_fini(&sql);
	return rc == 0 ? 0 : mg_error_wrap(err, "while exporting \"%s.%s\"", name->schema, name->table);
}

static int from_client(struct job *job, mg_client *client, struct mg_error *err)
{
	size_t number = 0;
	int rc = names_ask(job, client, err);

	if (rc == 0) {
		rc = choose(job, err);
	}
	if (rc == 0) {
		rc = target_open(job, err);
	}
	for (size_t i = 0; rc == 0 && i < job->count; i++) {
		uint64_t rows = 0;

		if (!job->names[i].wanted) {
			continue;
		}
		rc = stopped(job, err);
		if (rc == 0) {
			rc = table_fetch(job, client, &job->names[i], &rows, err);
		}
		if (rc == 0) {
			tell(job, ++number, &job->names[i], rows);
		}
	}
	return rc;
}

static int from_url(struct job *job, bool *refused, struct mg_error *err)
{
	struct mg_connection connection = { 0 };
	mg_client *client = NULL;
	int rc = mg_connection_read(&connection, job->options, NULL, err);

	if (rc == 0) {
		struct mg_client_options options = mg_connection_client_options(&connection);

		rc = mg_client_connect(&client, &options);
		if (rc) {
			*err = *mg_client_failure(client);
			*refused = true;
		}
	}
	if (rc == 0) {
		watch_client(job, client);
		rc = from_client(job, client, err);
		watch_client(job, NULL);
	}
	mg_client_close(client);
	mg_connection_fini(&connection);
	return rc;
}

/* ---- the command ---- */

static int finish(struct job *job, int rc, struct mg_error *err)
{
	watch_conn(job, NULL);
	if (job->export && rc == 0) {
		mg_duck_set_stop(mg_export_conn(job->export), NULL);
		return mg_export_finish(job->export, err);
	}
	mg_export_drop(job->export);
	return rc;
}

int mg_command_export(const struct mg_options *options)
{
	struct job job = { .options = options, .arena = mg_arena_new() };
	struct mg_error err = { 0 };
	bool refused = false;
	int rc = 0;
	int exit_code = 0;

	if (!mg_options_text(options, "output")) {
		rc = mg_error_set(&err, MG_E_USAGE, "where to?  Option \"--output\" is missing");
		mg_error_hint(&err, "merganser export -o out.duckdb");
	}
	watch_start(&job);
	if (rc == 0) {
		rc = mg_options_text(options, "url") ? from_url(&job, &refused, &err)
		                                     : from_directory(&job, &err);
	}
	rc = finish(&job, rc, &err);
	watch_stop(&job);
	if (rc) {
		exit_code = refused ? mg_cli_fail_connect(&err) : mg_cli_fail(&err);
		exit_code = atomic_load(&job.signal) == SIGINT ? 130 : exit_code;
	} else {
		fprintf(stderr, "\"%s\" is ready: %zu tables, %llu rows\n",
		        mg_options_text(options, "output"), job.wanted, (unsigned long long)job.rows);
	}
	mg_arena_free(job.arena);
	return exit_code;
}
