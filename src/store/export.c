/*
 * export.c - see export.h.
 *
 * A folder holds one file a table, SCHEMA.TABLE.parquet (without "main."), and export.json, which
 * lists the tables, files and rows, and tells a later --overwrite that the folder is ours.
 */
#include "store/export.h"

#include "os/file.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_BYTES (1ull << 30)
#define LIST_NAME "export.json"

struct mg_export {
	enum mg_export_format format;
	char *path, *new_path;
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_sb list; /* of export.json */
	char *schema, *table, *file; /* at hand; file: in the folder, NULL for a DuckDB file */
};

/* ---- open ---- */

static int target_check(const struct mg_export *export, bool overwrite, struct mg_error *err)
{
	if (!mg_file_exists(export->path)) {
		return 0;
	}
	if (!overwrite) {
		mg_error_set(err, MG_E_DUPLICATE, "\"%s\" is there already", export->path);
		mg_error_hint(err, "Choose another name, or replace it with --overwrite.");
		return MG_E_DUPLICATE;
	}
	bool is_dir = mg_dir_exists(export->path);
	char *list = mg_path_join(export->path, LIST_NAME);
	bool ours = export->format == MG_EXPORT_DUCKDB ? !is_dir : is_dir && mg_file_exists(list);
	mg_free(list);
	if (!ours) {
		mg_error_set(err, MG_E_DUPLICATE, "\"%s\" is not an export of this kind", export->path);
		mg_error_hint(err, "Nothing else is replaced: choose another name, or remove it yourself.");
		return MG_E_DUPLICATE;
	}
	return 0;
}

/* What is left of an export that did not end, and DuckDB's log beside it. */
static int leftovers_remove(const struct mg_export *export, struct mg_error *err)
{
	char *log = mg_format("%s.wal", export->new_path);
	int rc = mg_tree_remove(export->new_path, err);
	rc = rc ? rc : mg_file_remove(log, err);
	mg_free(log);
	return rc;
}

static int target_make(struct mg_export *export, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int rc = leftovers_remove(export, err);
	if (rc != 0 || export->format != MG_EXPORT_DUCKDB) {
		return rc ? rc : mg_dir_make(export->new_path, 0755, err);
	}
	mg_sb_add(&sql, "ATTACH ");
	mg_sb_add_literal(&sql, export->new_path, strlen(export->new_path));
	mg_sb_add(&sql, " AS exported (RECOVERY_MODE no_wal_writes)");
	rc = mg_duck_exec(export->conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return rc;
}

int mg_export_open(struct mg_export **out, enum mg_export_format format, const char *path,
                   bool overwrite, unsigned threads, struct mg_error *err)
{
	struct mg_export *export = mg_alloc0(sizeof *export);
	struct mg_duck_options options = { .threads = threads,
		                               .memory_bytes = MEMORY_BYTES,
		                               .lossless_arrow = true };
	export->format = format;
	export->path = mg_strdup(path);
	for (size_t len = strlen(path); len > 1 && export->path[len - 1] == '/'; len--) {
		export->path[len - 1] = '\0';
	}
	export->new_path = mg_format("%s.merganser-new", export->path);
	int rc = target_check(export, overwrite, err);
	if (rc == 0) {
		rc = mg_duck_open(&export->duck, &options, err);
	}
	if (rc == 0) {
		rc = mg_duck_connect(export->duck, &export->conn, err);
	}
	if (rc == 0) {
		rc = target_make(export, err);
	}
	if (rc != 0) {
		mg_export_drop(export);
		export = NULL;
	}
	*out = export;
	return rc;
}

struct mg_duck_conn *mg_export_conn(struct mg_export *export)
{
	return export->conn;
}

/* ---- a table ---- */

static void name_add(struct mg_sb *sb, const char *name)
{
	for (; *name; name++) {
		unsigned char byte = (unsigned char)*name;
		if (isalnum(byte) || byte == '_' || byte == '-') {
			mg_sb_add_char(sb, *name);
		} else {
			mg_sb_addf(sb, "%%%02X", byte);
		}
	}
}

static void table_forget(struct mg_export *export)
{
	mg_free(export->schema);
	mg_free(export->table);
	mg_free(export->file);
	export->schema = export->table = export->file = NULL;
}

static void file_name(struct mg_export *export)
{
	struct mg_sb name = { 0 };
	if (strcmp(export->schema, "main") != 0) {
		name_add(&name, export->schema);
		mg_sb_add_char(&name, '.');
	}
	name_add(&name, export->table);
	mg_sb_add(&name, export->format == MG_EXPORT_CSV ? ".csv" : ".parquet");
	export->file = mg_sb_take(&name);
}

int mg_export_begin(struct mg_export *export, const char *schema, const char *table,
                    const char *select, struct mg_sb *sql, struct mg_error *err)
{
	struct mg_sb make = { 0 };
	int rc = 0;
	table_forget(export);
	export->schema = mg_strdup(schema);
	export->table = mg_strdup(table);
	if (export->format == MG_EXPORT_DUCKDB) {
		mg_sb_add(&make, "CREATE SCHEMA IF NOT EXISTS exported.");
		mg_sb_add_ident(&make, schema);
		rc = mg_duck_exec(export->conn, mg_sb_text(&make), err);
		mg_sb_add(sql, "CREATE TABLE exported.");
		mg_sb_add_path(sql, schema, table);
		mg_sb_addf(sql, " AS %s", select);
	} else {
		file_name(export);
		char *path = mg_path_join(export->new_path, export->file);
		mg_sb_addf(sql, "COPY (%s) TO ", select);
		mg_sb_add_literal(sql, path, strlen(path));
		mg_sb_add(sql, export->format == MG_EXPORT_CSV ? " (FORMAT csv, HEADER)"
		                                               : " (FORMAT parquet)");
		mg_free(path);
	}
	mg_sb_fini(&make);
	return rc;
}

/* Rows that lie in the target; CSV is not read again, DuckDB counted what it wrote. */
static int rows_there(struct mg_export *export, int64_t *rows, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "SELECT count(*) FROM ");
	if (export->format == MG_EXPORT_DUCKDB) {
		mg_sb_add(&sql, "exported.");
		mg_sb_add_path(&sql, export->schema, export->table);
	} else {
		char *path = mg_path_join(export->new_path, export->file);
		mg_sb_add(&sql, "read_parquet(");
		mg_sb_add_literal(&sql, path, strlen(path));
		mg_sb_add_char(&sql, ')');
		mg_free(path);
	}
	int rc = mg_duck_int(export->conn, mg_sb_text(&sql), rows, err);
	mg_sb_fini(&sql);
	return rc;
}

int mg_export_end(struct mg_export *export, uint64_t rows, struct mg_error *err)
{
	int64_t there = (int64_t)rows;
	int rc = export->format == MG_EXPORT_CSV ? 0 : rows_there(export, &there, err);
	if (rc == 0 && (uint64_t)there != rows) {
		rc = mg_error_set(err, MG_E_CORRUPT,
		                  "table \"%s.%s\" has %llu rows, but %lld were written", export->schema,
		                  export->table, (unsigned long long)rows, (long long)there);
	}
	mg_sb_add(&export->list, export->list.len ? ",\n  {\"schema\": " : "  {\"schema\": ");
	mg_sb_add_json(&export->list, export->schema, strlen(export->schema));
	mg_sb_add(&export->list, ", \"table\": ");
	mg_sb_add_json(&export->list, export->table, strlen(export->table));
	if (export->file) {
		mg_sb_add(&export->list, ", \"file\": ");
		mg_sb_add_json(&export->list, export->file, strlen(export->file));
	}
	mg_sb_addf(&export->list, ", \"rows\": %llu}", (unsigned long long)rows);
	return rc;
}

/* ---- the end ---- */

static void export_free(struct mg_export *export)
{
	table_forget(export);
	mg_duck_disconnect(export->conn);
	mg_duck_close(export->duck);
	mg_sb_fini(&export->list);
	mg_free(export->path);
	mg_free(export->new_path);
	mg_free(export);
}

void mg_export_drop(struct mg_export *export)
{
	struct mg_error ignored;
	if (!export) {
		return;
	}
	mg_duck_disconnect(export->conn);
	mg_duck_close(export->duck);
	export->conn = NULL;
	export->duck = NULL;
	(void)leftovers_remove(export, &ignored);
	export_free(export);
}

static int folder_sync(const struct mg_export *export, struct mg_error *err)
{
	char *list = mg_path_join(export->new_path, LIST_NAME);
	char *text = mg_format("[\n%s\n]\n", export->list.len ? mg_sb_text(&export->list) : "");
	char **names = NULL;
	size_t count = 0;
	int rc = mg_file_write(list, text, strlen(text), 0644, err);
	if (rc == 0) {
		rc = mg_dir_list(export->new_path, &names, &count, err);
	}
	for (size_t i = 0; rc == 0 && i < count; i++) {
		char *path = mg_path_join(export->new_path, names[i]);
		rc = mg_file_sync(path, err);
		mg_free(path);
	}
	mg_free(names);
	mg_free(list);
	mg_free(text);
	return rc ? rc : mg_file_sync(export->new_path, err);
}

static int file_close(struct mg_export *export, struct mg_error *err)
{
	int rc = mg_duck_exec(export->conn, "CHECKPOINT exported; DETACH exported", err);
	return rc ? rc : mg_file_sync(export->new_path, err);
}

int mg_export_finish(struct mg_export *export, struct mg_error *err)
{
	int rc = export->format == MG_EXPORT_DUCKDB ? file_close(export, err)
	                                            : folder_sync(export, err);
	/* A folder cannot take the place of another in one step. */
	if (rc == 0 && export->format != MG_EXPORT_DUCKDB) {
		rc = mg_tree_remove(export->path, err);
	}
	if (rc == 0) {
		rc = mg_file_rename(export->new_path, export->path, err);
	}
	if (rc != 0) {
		mg_export_drop(export);
		return rc;
	}
	export_free(export);
	return 0;
}
