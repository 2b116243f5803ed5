/*
 * cmd_import.c - `import`: a folder of CSV, JSON or Parquet files into tables of a running cluster.
 *
 *     DIR/city.csv             table city
 *     DIR/orders/part-*.csv    table orders, of all files in that folder
 *
 * What goes where is a model: JSON or YAML that names for each table its files, columns and key.
 * Without one it is made from the folder, with the types that DuckDB sees in each table's first
 * file; --print-model shows it, to be changed and given back.
 *
 * Rule: a table's files are one transaction.  So a table that has rows is done, and an import that
 * was interrupted goes on when it is started again.
 */
#include "base/json.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/render.h"
#include "cli/yaml.h"
#include "os/file.h"
#include "store/duck.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MODEL_SIZE_MAX (16u << 20)
#define PIECE_BYTES (1u << 20)

const struct mg_option mg_options_import[] = {
	{ .name = "model",
	  .kind = MG_O_TEXT,
	  .value = "FILE",
	  .help = "JSON or YAML (.yaml, .yml) that says which table has which files, columns, key" },
	{ .name = "print-model", .kind = MG_O_FLAG, .help = "print the model, and import nothing" },
	{ .name = "append", .kind = MG_O_FLAG, .help = "add to tables that have rows" },
	{ .name = "overwrite", .kind = MG_O_FLAG, .help = "make tables that are there anew" },
	{ 0 },
};

struct table {
	const char *name, *format;
	char **files;
	size_t file_count, file_cap;
	const char **columns, **types;
	size_t column_count;
	const char **keys;
	size_t key_count;
};

struct job {
	struct mg_arena *arena;
	const char *dir;
	bool append, overwrite;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct table *tables;
	size_t count, cap;
	FILE *file; /* that is being sent */
	char *piece;
};

static mg_client *volatile running;
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
	if (running) {
		mg_client_cancel(running);
	}
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char *format_of(const char *name)
{
	static const char *const endings[][2] = { { ".csv", "csv" },     { ".tsv", "csv" },
		                                      { ".json", "json" },   { ".jsonl", "json" },
		                                      { ".ndjson", "json" }, { ".parquet", "parquet" } };
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++) {
		if (strcmp(dot, endings[i][0]) == 0) {
			return endings[i][1];
		}
	}
	return NULL;
}

static struct table *add_table(struct job *job, const char *name)
{
	mg_grow(job->tables, job->count, job->cap);
	struct table *table = &job->tables[job->count++];

	*table = (struct table){ .name = mg_arena_strdup(job->arena, name) };
	return table;
}

static void add_file(struct job *job, struct table *table, const char *path)
{
	if (table->file_count == table->file_cap) {
		size_t cap = table->file_cap ? 2 * table->file_cap : 16;
		char **files = mg_arena_new_array(job->arena, char *, cap);

		for (size_t i = 0; i < table->file_count; i++) {
			files[i] = table->files[i];
		}
		table->files = files;
		table->file_cap = cap;
	}
	table->files[table->file_count++] = mg_arena_strdup(job->arena, path);
}

/* The file of that name below the folder, or all that a pattern finds there, in their order. */
static int add_files(struct job *job, struct table *table, const char *pattern,
                     struct mg_error *err)
{
	glob_t found = { 0 };
	char *path = mg_path_join(job->dir, pattern);
	int code = 0;

	if (*pattern == '/' || strstr(pattern, "..")) {
		code = mg_error_set(err, MG_E_USAGE, "the files \"%s\" of table \"%s\" lie outside of the "
		                                     "folder",
		                    pattern, table->name);
	} else if (mg_file_exists(path)) {
		add_file(job, table, path);
	} else if (glob(path, 0, NULL, &found) != 0) {
		code = mg_error_set(err, MG_E_USAGE, "there are no files \"%s\" of table \"%s\"", path,
		                    table->name);
	}
	for (size_t i = 0; !code && i < found.gl_pathc; i++) {
		add_file(job, table, found.gl_pathv[i]);
	}
	globfree(&found);
	mg_free(path);
	return code;
}

/* Columns and types as DuckDB sees them in the first file. */
static int sniff(struct job *job, struct table *table, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	mg_sb_addf(&sql, "SELECT * FROM read_%s(", table->format);
	mg_sb_add_literal(&sql, table->files[0], strlen(table->files[0]));
	mg_sb_add_char(&sql, ')');
	int code = mg_duck_describe(job->conn, job->arena, mg_sb_text(&sql), &table->column_count,
	                            &table->columns, &table->types, err);

	mg_sb_fini(&sql);
	return code;
}

static int add_folder(struct job *job, const char *name, struct mg_error *err)
{
	char *path = mg_path_join(job->dir, name), **names = NULL;
	struct table *table = NULL;
	size_t count = 0;
	int code = mg_dir_list(path, &names, &count, err);

	for (size_t i = 0; !code && i < count; i++) {
		const char *format = names[i][0] == '.' ? NULL : format_of(names[i]);

		if (!format) { /* a README, say */
			continue;
		}
		if (!table) {
			table = add_table(job, name);
			table->format = format;
		}
		if (strcmp(format, table->format) != 0) {
			code = mg_error_set(err, MG_E_USAGE, "the folder \"%s\" holds %s and %s", path,
			                    table->format, format);
			mg_error_hint(err, "A table's files are of one format; a model can tell them apart.");
		} else {
			char *file = mg_path_join(path, names[i]);

			add_file(job, table, file);
			mg_free(file);
		}
	}
	mg_free(names);
	mg_free(path);
	return code;
}

static int model_of_folder(struct job *job, struct mg_error *err)
{
	char **names = NULL;
	size_t count = 0;
	int code = mg_dir_list(job->dir, &names, &count, err);

	for (size_t i = 0; i < count; i++) {
		char *path = mg_path_join(job->dir, names[i]);
		const char *format = format_of(names[i]);

		if (!code && names[i][0] != '.' && mg_dir_exists(path)) {
			code = add_folder(job, names[i], err);
		} else if (!code && format) {
			struct table *table = add_table(
				job, mg_arena_strndup(job->arena, names[i],
			                          (size_t)(strrchr(names[i], '.') - names[i])));

			table->format = format;
			add_file(job, table, path);
		}
		mg_free(path);
	}
	mg_free(names);
	if (!code && !job->count) {
		code = mg_error_set(err, MG_E_USAGE, "there is nothing to import in \"%s\"", job->dir);
		mg_error_hint(err, "Files end in .csv, .tsv, .json, .jsonl, .ndjson or .parquet.");
	}
	return code;
}

/* ---- the model ------------------------------------------------------------------------------- */

static int read_table(struct job *job, const struct mg_json *item, struct mg_error *err)
{
	const char *name = mg_json_get_text(item, "name"), *format = mg_json_get_text(item, "format");
	const struct mg_json *columns = mg_json_get(item, "columns");
	const struct mg_json *keys = mg_json_get(item, "partitioned_by");
	int code = 0;

	if (!name || !*name || !mg_json_is(mg_json_get(item, "files"), MG_JSON_ARRAY)) {
		return mg_error_set(err, MG_E_USAGE, "a table of the model needs \"name\" and \"files\"");
	}
	struct table *table = add_table(job, name);

	mg_json_each(pattern, mg_json_get(item, "files")) {
		code = code ? code : add_files(job, table, mg_json_text(pattern), err);
	}
	if (code) {
		return code;
	}
	format = format ? format : table->file_count ? format_of(table->files[0]) : NULL;
	if (!format || (strcmp(format, "csv") != 0 && strcmp(format, "json") != 0 &&
	                strcmp(format, "parquet") != 0)) {
		return mg_error_set(err, MG_E_USAGE,
		                    "table \"%s\" of the model needs a \"format\": csv, json or parquet",
		                    name);
	}
	table->format = mg_arena_strdup(job->arena, format);
	size_t most = columns ? columns->count : 0;

	table->columns = mg_arena_new_array(job->arena, const char *, most + 1);
	table->types = mg_arena_new_array(job->arena, const char *, most + 1);
	mg_json_each(column, columns) {
		table->columns[table->column_count] =
			mg_arena_strndup(job->arena, column->key.ptr, column->key.len);
		table->types[table->column_count++] = mg_json_text(column);
	}
	table->keys = mg_arena_new_array(job->arena, const char *, (keys ? keys->count : 0) + 1);
	mg_json_each(key, keys) {
		table->keys[table->key_count++] = mg_json_text(key);
	}
	return 0;
}

static bool is_yaml(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

static int parse_model(struct job *job, const char *path, const char *text, size_t size,
                       struct mg_json **out, struct mg_error *err)
{
	bool yaml = is_yaml(path);
	struct mg_sb json = { 0 };
	int code = yaml ? mg_yaml_to_json(text, size, &json, err) : 0;

	if (!code) {
		char *kept = yaml ? mg_arena_strndup(job->arena, mg_sb_text(&json), json.len)
		                  : mg_arena_strndup(job->arena, text, size);

		code = mg_json_parse(job->arena, kept, yaml ? json.len : size, out, err);
	}
	mg_sb_fini(&json);
	return code ? mg_error_wrap(err, "the model \"%s\" is no %s", path, yaml ? "YAML" : "JSON") : 0;
}

static int read_model(struct job *job, const char *path, struct mg_error *err)
{
	struct mg_json *model = NULL;
	char *text = NULL;
	size_t size = 0;
	int code = mg_file_read(path, MODEL_SIZE_MAX, &text, &size, err);

	code = code ? code : parse_model(job, path, text, size, &model, err);
	if (!code && !mg_json_is(mg_json_get(model, "tables"), MG_JSON_ARRAY)) {
		code = mg_error_set(err, MG_E_USAGE, "the model \"%s\" has no list \"tables\"", path);
		mg_error_hint(err, "--print-model shows how one looks.");
	}
	mg_json_each(item, code ? NULL : mg_json_get(model, "tables")) {
		code = code ? code : read_table(job, item, err);
	}
	mg_free(text);
	return code;
}

static void add_list(struct mg_sb *out, const char *const *items, size_t count, size_t skip)
{
	mg_sb_add_char(out, '[');
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(out, i ? ", " : "");
		mg_sb_add_json(out, items[i] + skip, strlen(items[i] + skip));
	}
	mg_sb_add_char(out, ']');
}

static void print_model(const struct job *job)
{
	struct mg_sb out = { 0 };
	size_t skip = strlen(job->dir) + (job->dir[strlen(job->dir) - 1] != '/');

	mg_sb_add(&out, "{\"tables\": [");
	for (size_t i = 0; i < job->count; i++) {
		const struct table *table = &job->tables[i];

		mg_sb_add(&out, i ? ",\n  {\"name\": " : "\n  {\"name\": ");
		mg_sb_add_json(&out, table->name, strlen(table->name));
		mg_sb_add(&out, ", \"files\": ");
		add_list(&out, (const char *const *)table->files, table->file_count, skip);
		mg_sb_addf(&out, ", \"format\": \"%s\",\n   \"partitioned_by\": ", table->format);
		add_list(&out, table->keys, table->key_count, 0);
		mg_sb_add(&out, ",\n   \"columns\": {");
		for (size_t c = 0; c < table->column_count; c++) {
			mg_sb_add(&out, c ? ", " : "");
			mg_sb_add_json(&out, table->columns[c], strlen(table->columns[c]));
			mg_sb_add(&out, ": ");
			mg_sb_add_json(&out, table->types[c], strlen(table->types[c]));
		}
		mg_sb_add(&out, "}}");
	}
	mg_sb_add(&out, "\n]}\n");
	fputs(mg_sb_text(&out), stdout);
	mg_sb_fini(&out);
}

/* ---- the cluster ----------------------------------------------------------------------------- */

static int on_input(void *arg, size_t size_max, const void **bytes, size_t *size)
{
	struct job *job = arg;

	*bytes = job->piece;
	*size = fread(job->piece, 1, size_max < PIECE_BYTES ? size_max : PIECE_BYTES, job->file);
	return ferror(job->file);
}

/* One statement; *rows: what it wrote, or the number that it answers. */
static int run(mg_client *client, const char *sql, uint64_t *rows)
{
	const struct mg_client_statement *statement = NULL;
	struct ArrowArray batch;
	int done = 0, code = mg_client_query(client, sql, 0);

	while (!code && !(code = mg_client_next_statement(client, &statement)) && statement) {
		bool answers = statement->column_count > 0;

		for (done = 0; !(code = mg_client_next_batch(client, &batch, &done)) && !done;) {
			struct mg_sb value = { 0 };

			mg_render_first_value(mg_client_schema(client), &batch, &value);
			*rows = strtoull(mg_sb_text(&value), NULL, 10);
			mg_sb_fini(&value);
			batch.release(&batch);
		}
		*rows = answers ? *rows : statement->rows;
	}
	return code;
}

static void add_names(struct mg_sb *sql, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, names[i]);
	}
}

static int create(mg_client *client, const struct table *table)
{
	struct mg_sb sql = { 0 };
	uint64_t ignored = 0;

	mg_sb_add(&sql, "CREATE OR REPLACE TABLE ");
	mg_sb_add_ident(&sql, table->name);
	mg_sb_add(&sql, " (");
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(&sql, i ? ", " : "");
		mg_sb_add_ident(&sql, table->columns[i]);
		mg_sb_addf(&sql, " %s", table->types[i]);
	}
	mg_sb_add_char(&sql, ')');
	if (table->key_count) {
		mg_sb_add(&sql, " PARTITIONED BY (");
		add_names(&sql, table->keys, table->key_count);
		mg_sb_add_char(&sql, ')');
	}
	int code = run(client, mg_sb_text(&sql), &ignored);

	mg_sb_fini(&sql);
	return code;
}

static int send_file(struct job *job, mg_client *client, const struct table *table,
                     const char *path, uint64_t *rows, struct mg_error *err)
{
	struct mg_sb sql = { 0 };

	job->file = fopen(path, "rb");
	if (!job->file) {
		return mg_error_errno(err, errno, "cannot open \"%s\"", path);
	}
	mg_sb_add(&sql, "COPY ");
	mg_sb_add_ident(&sql, table->name);
	mg_sb_add(&sql, " (");
	add_names(&sql, table->columns, table->column_count);
	mg_sb_addf(&sql, ") FROM STDIN (FORMAT %s)", table->format);
	int code = run(client, mg_sb_text(&sql), rows);

	mg_sb_fini(&sql);
	fclose(job->file);
	job->file = NULL;
	if (code) {
		*err = *mg_client_failure(client);
		(void)mg_error_wrap(err, "in \"%s\"", path);
	}
	return code;
}

/* All files of a table, or none. */
static int fill(struct job *job, mg_client *client, const struct table *table, struct mg_error *err)
{
	uint64_t all = 0, ignored = 0;
	bool several = table->file_count > 1;
	int code = several ? run(client, "BEGIN", &ignored) : 0;

	if (code) {
		*err = *mg_client_failure(client);
		return code;
	}
	for (size_t i = 0; !code && i < table->file_count; i++) {
		uint64_t rows = 0;

		code = send_file(job, client, table, table->files[i], &rows, err);
		all += rows;
		if (!code && several) {
			fprintf(stderr, "%s: %zu of %zu files, %llu rows\n", table->name, i + 1,
			        table->file_count, (unsigned long long)all);
		}
	}
	if (code && several && mg_client_error(client)->connected) {
		const struct mg_error why = *err;

		(void)run(client, "ROLLBACK", &ignored);
		*err = why;
		return why.code;
	}
	if (!code && several && (code = run(client, "COMMIT", &ignored)) != 0) {
		*err = *mg_client_failure(client);
	}
	if (!code) {
		printf("%s: %llu rows\n", table->name, (unsigned long long)all);
	}
	return code;
}

static int import_table(struct job *job, mg_client *client, const struct table *table,
                        struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	uint64_t rows = 0;

	mg_sb_add(&sql, "SELECT count(*) FROM ");
	mg_sb_add_ident(&sql, table->name);
	int code = run(client, mg_sb_text(&sql), &rows);
	bool there = !code;

	mg_sb_fini(&sql);
	if (code == MG_E_NO_TABLE) {
		code = 0;
	}
	if (!code && there && rows && !job->append && !job->overwrite) {
		printf("%s: %llu rows are there: nothing to do (--append, --overwrite)\n", table->name,
		       (unsigned long long)rows);
		return 0;
	}
	if (!code && (!there || job->overwrite)) {
		code = create(client, table);
	}
	if (code) {
		*err = *mg_client_failure(client);
		return code;
	}
	return fill(job, client, table, err);
}

static int import(struct job *job, const struct mg_options *options, int *exit_code,
                  struct mg_error *err)
{
	struct mg_connection connection = { 0 };
	struct sigaction action = { .sa_handler = on_interrupt };
	mg_client *client = NULL;
	int code = mg_connection_read(&connection, options, NULL, err);

	if (code) {
		mg_connection_fini(&connection);
		return code;
	}
	struct mg_client_options client_options = mg_connection_client_options(&connection);

	client_options.on_input = on_input;
	client_options.arg = job;
	sigaction(SIGINT, &action, NULL);
	code = mg_client_connect(&client, &client_options);
	running = client;
	if (code) {
		*err = *mg_client_failure(client);
		*exit_code = 2;
	}
	for (size_t i = 0; !code && i < job->count; i++) {
		code = import_table(job, client, &job->tables[i], err);
		*exit_code = mg_client_exit_code(code, true);
	}
	if (code && interrupted) {
		*exit_code = 130;
	}
	running = NULL;
	mg_client_close(client);
	mg_connection_fini(&connection);
	return code;
}

int mg_command_import(const struct mg_options *options)
{
	struct job job = { .arena = mg_arena_new(),
		               .dir = mg_options_argument(options, 0),
		               .append = mg_options_flag(options, "append"),
		               .overwrite = mg_options_flag(options, "overwrite"),
		               .piece = mg_alloc(PIECE_BYTES) };
	const struct mg_duck_options duck = { .threads = 2 };
	const char *model = mg_options_text(options, "model");
	struct mg_error err = { 0 };
	int exit_code = 0;
	int code = job.append && job.overwrite
	               ? mg_error_set(&err, MG_E_USAGE, "--append and --overwrite exclude each other")
	               : mg_duck_open(&job.duck, &duck, &err);

	code = code ? code : mg_duck_connect(job.duck, &job.conn, &err);
	if (!code) {
		code = model && *model ? read_model(&job, model, &err) : model_of_folder(&job, &err);
	}
	for (size_t i = 0; !code && i < job.count; i++) {
		code = job.tables[i].column_count ? 0 : sniff(&job, &job.tables[i], &err);
	}
	if (!code && mg_options_flag(options, "print-model")) {
		print_model(&job);
	} else if (!code) {
		code = import(&job, options, &exit_code, &err);
	}
	mg_duck_disconnect(job.conn);
	mg_duck_close(job.duck);
	mg_free(job.tables);
	mg_free(job.piece);
	mg_arena_free(job.arena);
	if (!code) {
		return 0;
	}
	int fallback = mg_cli_fail(&err);

	return exit_code ? exit_code : fallback;
}
