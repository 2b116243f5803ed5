/*
 * shard_file.c - making shard files.
 *
 * DuckDB's log is off (RECOVERY_MODE no_wal_writes): commits stay in memory until the one
 * CHECKPOINT at the end, apart from full row groups, which are written early to blocks that nothing
 * refers to yet.  One transaction per file, on a connection of its own, because DuckDB writes to
 * one attached file per transaction.
 *
 * The file is hashed only after DETACH: closing any descriptor of it would drop DuckDB's lock on
 * it.
 */
#include "store/shard_file.h"

#include "base/str.h"
#include "os/file.h"
#include "store/shard_file_int.h"
#include "store/shard_undo.h"

#include <stdio.h>
#include <string.h>

static const char meta_table[] =
	"CREATE SCHEMA %s._mg; CREATE TABLE %s._mg.meta ("
	"applied_index UBIGINT, applied_term UBIGINT, commit_number UBIGINT, catalog_version UBIGINT, "
	"file_format UINTEGER, engine_version VARCHAR, cluster_id VARCHAR, shard UINTEGER, shard_count "
	"UINTEGER, "
	"slot_first USMALLINT, slot_last USMALLINT, next_rid UBIGINT, sample VARCHAR); "
	"CREATE TABLE %s._mg.pending (bytes VARCHAR)";

const char *mg_shard_file_name(struct mg_arena *arena, uint32_t shard)
{
	return mg_arena_format(arena, "shards/%04u.duckdb", shard);
}

static char *path_of(const char *data_dir, uint32_t shard)
{
	return mg_format("%s/shards/%04u.duckdb", data_dir, shard);
}

static void add_text(struct mg_sb *sql, const char *text)
{
	mg_sb_add_literal(sql, text, strlen(text));
}

static int attach(struct mg_duck_conn *conn, const char *path, const char *database,
                  const char *options, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "ATTACH ");
	add_text(&sql, path);
	mg_sb_addf(&sql, " AS %s (%s)", database, options);
	int rc = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return rc;
}

/* What DuckDB may have left beside a file.  Nothing of ours is in it but the mark of a checkpoint
 * that did not come to its end, and half a mark would keep the file from being opened. */
static int remove_logs(const char *path, struct mg_error *err)
{
	static const char *const endings[] = { ".wal", ".wal.checkpoint", ".wal.recovery" };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < sizeof endings / sizeof *endings; i++) {
		char *name = mg_format("%s%s", path, endings[i]);
		rc = mg_file_remove(name, err);
		mg_free(name);
	}
	return rc;
}

static int remove_all(const char *path, struct mg_error *err)
{
	int rc = mg_file_remove(path, err);
	return rc ? rc : remove_logs(path, err);
}

int mg_shard_file_attach(struct mg_duck_conn *conn, uint32_t shard, const char *path,
                         struct mg_error *err)
{
	char database[16];
	snprintf(database, sizeof database, "s%u", shard);
	int rc = mg_shard_undo_apply(path, err);
	if (rc == 0) {
		rc = remove_logs(path, err);
	}
	return rc ? rc : attach(conn, path, database, "RECOVERY_MODE no_wal_writes", err);
}

int mg_shard_file__create(struct mg_shard_file **out, struct mg_duck *duck, const char *path,
                          const char *ending, const char *prefix, const struct mg_shard_meta *meta,
                          struct mg_error *err)
{
	struct mg_shard_file *file = mg_alloc0(sizeof *file);
	file->duck = duck;
	file->meta = *meta;
	file->path = mg_strdup(path);
	file->new_path = mg_format("%s.%s", path, ending);
	file->next_rid = (uint64_t)meta->shard << MG_SHARD_RID_BITS;
	*out = NULL;
	int rc = remove_all(file->new_path, err);
	if (rc == 0) {
		rc = mg_duck_connect(duck, &file->conn, err);
	}
	if (rc == 0) {
		char database[sizeof file->database];
		snprintf(database, sizeof database, "%s%u", prefix, meta->shard);
		rc = attach(file->conn, file->new_path, database, "RECOVERY_MODE no_wal_writes", err);
		if (rc == 0) {
			memcpy(file->database, database, sizeof database);
		}
	}
	if (rc == 0) {
		rc = mg_duck_exec(file->conn, "BEGIN", err);
	}
	if (rc == 0) {
		rc = mg_duck_execf(file->conn, err, meta_table, file->database, file->database,
		                   file->database);
	}
	if (rc != 0) {
		mg_error_wrap(err, "while making shard file %u", meta->shard);
		mg_shard_file_drop(file);
		return rc;
	}
	*out = file;
	return 0;
}

int mg_shard_file_create(struct mg_shard_file **out, struct mg_duck *duck, const char *data_dir,
                         const struct mg_shard_meta *meta, struct mg_error *err)
{
	char *path = path_of(data_dir, meta->shard);
	int rc = mg_shard_file__create(out, duck, path, "new", "s", meta, err);
	mg_free(path);
	return rc;
}

int mg_shard_file_table(struct mg_shard_file *file, const char *schema, const char *table,
                        const char *const *names, const char *const *types, size_t count,
                        struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_addf(&sql, "CREATE SCHEMA IF NOT EXISTS %s.", file->database);
	mg_sb_add_ident(&sql, schema);
	mg_sb_addf(&sql, "; CREATE TABLE %s.", file->database);
	mg_sb_add_path(&sql, schema, table);
	mg_sb_add(&sql, " (_mg_rid BIGINT, _mg_slot USMALLINT");
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(&sql, ", ");
		mg_sb_add_ident(&sql, names[i]);
		mg_sb_addf(&sql, " %s", types[i]);
	}
	mg_sb_add_char(&sql, ')');
	int rc = mg_duck_exec(file->conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	if (rc == 0) {
		mg_shard_file_table_note(file, schema, table);
	}
	return rc;
}

void mg_shard_file_table_note(struct mg_shard_file *file, const char *schema, const char *table)
{
	file->tables = mg_realloc(file->tables, (file->table_count + 1) * sizeof *file->tables);
	file->tables[file->table_count++] =
		(struct mg_shard_table){ mg_strdup(schema), mg_strdup(table) };
}

static int meta_write(struct mg_duck_conn *conn, const char *database,
                      const struct mg_shard_meta *meta, uint64_t next_rid, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_addf(&sql, "INSERT INTO %s._mg.meta VALUES (0, 0, 0, %llu, %u, ", database,
	           (unsigned long long)meta->catalog_version, meta->file_format);
	add_text(&sql, mg_duck_version());
	mg_sb_add(&sql, ", ");
	add_text(&sql, meta->cluster_id);
	mg_sb_addf(&sql, ", %u, %u, %u, %u, %llu, ", meta->shard, meta->shard_count, meta->slot_first,
	           meta->slot_last, (unsigned long long)next_rid);
	add_text(&sql, meta->sample);
	mg_sb_add_char(&sql, ')');
	int rc = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return rc;
}

static void file_free(struct mg_shard_file *file)
{
	mg_duck_disconnect(file->conn);
	for (size_t i = 0; i < file->table_count; i++) {
		mg_free(file->tables[i].schema);
		mg_free(file->tables[i].name);
	}
	mg_free(file->tables);
	mg_free(file->path);
	mg_free(file->new_path);
	mg_free(file);
}

static int file_close(struct mg_shard_file *file, struct mg_error *err)
{
	int rc = mg_duck_exec(file->conn, "COMMIT", err);
	if (rc == 0) {
		rc = mg_duck_execf(file->conn, err, "CHECKPOINT %s", file->database);
	}
	if (rc == 0) {
		rc = mg_duck_execf(file->conn, err, "DETACH %s", file->database);
	}
	if (rc == 0) {
		file->database[0] = '\0';
	}
	return rc;
}

int mg_shard_file_finish(struct mg_shard_file *file, char *sha256, uint64_t *bytes,
                         struct mg_error *err)
{
	int rc = meta_write(file->conn, file->database, &file->meta, file->next_rid, err);
	if (rc == 0) {
		rc = file_close(file, err);
	}
	if (rc == 0) {
		rc = mg_file_sync(file->new_path, err);
	}
	if (rc == 0) {
		rc = mg_file_sha256(file->new_path, sha256, err);
	}
	if (rc == 0) {
		rc = mg_file_size(file->new_path, bytes, err);
	}
	if (rc == 0) {
		rc = mg_shard_undo_remove(file->path, err);
	}
	if (rc == 0) {
		rc = mg_file_rename(file->new_path, file->path, err);
	}
	if (rc != 0) {
		mg_error_wrap(err, "while finishing shard file %u", file->meta.shard);
		mg_shard_file_drop(file);
		return rc;
	}
	file_free(file);
	return 0;
}

void mg_shard_file_drop(struct mg_shard_file *file)
{
	if (!file) {
		return;
	}
	struct mg_error ignored;
	if (file->conn && file->database[0]) {
		(void)mg_duck_exec(file->conn, "ROLLBACK", &ignored);
		(void)mg_duck_execf(file->conn, &ignored, "DETACH %s", file->database);
	}
	(void)remove_all(file->new_path, &ignored);
	file_free(file);
}

static void add_meta_filter(struct mg_sb *sql, const char *database,
                            const struct mg_shard_meta *meta)
{
	mg_sb_addf(sql,
	           "SELECT count(*) FROM %s._mg.meta WHERE file_format = %u AND shard = %u AND "
	           "shard_count = %u"
	           " AND slot_first = %u AND slot_last = %u",
	           database, meta->file_format, meta->shard, meta->shard_count, meta->slot_first,
	           meta->slot_last);
	mg_sb_add(sql, " AND cluster_id = ");
	add_text(sql, meta->cluster_id);
	mg_sb_add(sql, " AND sample = ");
	add_text(sql, meta->sample);
}

/* A file of another release is whole, and stays. */
static int check_format(struct mg_duck_conn *conn, const char *database,
                        const struct mg_shard_meta *meta, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int64_t format = 0;
	mg_sb_addf(&sql, "SELECT max(file_format) FROM %s._mg.meta", database);
	int rc = mg_duck_int(conn, mg_sb_text(&sql), &format, err);
	mg_sb_fini(&sql);
	if (rc == 0 && format > 0 && format != (int64_t)meta->file_format) {
		rc = mg_error_set(err, MG_E_UNSUPPORTED,
		                  "the file of shard %u has format %lld; this program reads format %u",
		                  meta->shard, (long long)format, meta->file_format);
		mg_error_hint(err, "Start the release that made it.");
	}
	return rc;
}

/* What a replica reads at its start besides; old files have no such table (shard_write.h). */
static int check_pending(struct mg_duck_conn *conn, const char *database, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int64_t there = 0, ignored;
	mg_sb_addf(&sql,
	           "SELECT count(*) FROM duckdb_tables() WHERE database_name = '%s' AND schema_name = "
	           "'_mg' AND table_name = 'pending'",
	           database);
	int rc = mg_duck_int(conn, mg_sb_text(&sql), &there, err);
	mg_sb_fini(&sql);
	if (rc == 0 && there) {
		mg_sb_addf(&sql, "SELECT coalesce(sum(strlen(bytes)), 0)::BIGINT FROM %s._mg.pending",
		           database);
		rc = mg_duck_int(conn, mg_sb_text(&sql), &ignored, err);
		mg_sb_fini(&sql);
	}
	return rc;
}

int mg_shard_file_check(struct mg_duck_conn *conn, const struct mg_shard_meta *meta,
                        struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	char database[16];
	int64_t found = 0;
	snprintf(database, sizeof database, "s%u", meta->shard);
	add_meta_filter(&sql, database, meta);
	int rc = mg_duck_int(conn, mg_sb_text(&sql), &found, err);
	mg_sb_fini(&sql);
	if (rc == 0 && found != 1) {
		rc = check_format(conn, database, meta, err);
	}
	/* A table or column that is not there is another file's, too. */
	bool foreign = rc == MG_E_NO_TABLE || rc == MG_E_NO_COLUMN;
	if (foreign || (rc == 0 && found != 1)) {
		rc = mg_error_set(err, MG_E_CORRUPT,
		                  "the file of shard %u is not the one that the catalog means: its "
		                  "cluster, data, slots or format differ",
		                  meta->shard);
	}
	return rc ? rc : check_pending(conn, database, err);
}

int mg_shard_file_stand_in(struct mg_duck_conn *conn, const struct mg_shard_meta *meta,
                           struct mg_error *err)
{
	char database[16];
	snprintf(database, sizeof database, "s%u", meta->shard);
	int rc = mg_duck_execf(conn, err, "ATTACH ':memory:' AS %s", database);
	if (rc == 0) {
		rc = mg_duck_execf(conn, err, meta_table, database, database, database);
	}
	return rc ? rc
	          : meta_write(conn, database, meta, (uint64_t)meta->shard << MG_SHARD_RID_BITS, err);
}

/* Attach the complete file read-only as `database` of 16 bytes; *conn NULL when that fails. */
static int look_open(struct mg_duck *duck, const char *data_dir, uint32_t shard,
                     struct mg_duck_conn **conn, char *database, struct mg_error *err)
{
	char *path = path_of(data_dir, shard);
	snprintf(database, 16, "look%u", shard);
	*conn = NULL;
	int rc = mg_file_exists(path)
	             ? 0
	             : mg_error_set(err, MG_E_NOT_FOUND, "there is no file \"%s\"", path);
	if (rc == 0) {
		rc = mg_duck_connect(duck, conn, err);
	}
	if (rc == 0) {
		rc = attach(*conn, path, database, "READ_ONLY", err);
		if (rc != 0) {
			mg_duck_disconnect(*conn);
			*conn = NULL;
		}
	}
	mg_free(path);
	return rc;
}

static void look_close(struct mg_duck_conn *conn, const char *database)
{
	struct mg_error ignored;
	(void)mg_duck_execf(conn, &ignored, "DETACH %s", database);
	mg_duck_disconnect(conn);
}

bool mg_shard_file_matches(struct mg_duck *duck, const char *data_dir,
                           const struct mg_shard_meta *meta)
{
	struct mg_error ignored;
	struct mg_duck_conn *conn = NULL;
	struct mg_sb sql = { 0 };
	char database[16];
	int64_t found = 0;
	if (look_open(duck, data_dir, meta->shard, &conn, database, &ignored) != 0) {
		return false;
	}
	add_meta_filter(&sql, database, meta);
	mg_sb_add(&sql, " AND engine_version = ");
	add_text(&sql, mg_duck_version());
	if (mg_duck_int(conn, mg_sb_text(&sql), &found, &ignored) != 0) {
		found = 0;
	}
	look_close(conn, database);
	mg_sb_fini(&sql);
	return found == 1;
}

static int look_count(struct mg_duck_conn *conn, const char *database, const char *schema,
                      const char *table, uint64_t *rows, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int64_t found = 0;
	/* Without deleted rows, as after a load, the engine's own number is exact. */
	mg_sb_addf(&sql,
	           "SELECT coalesce(sum(estimated_size), 0)::BIGINT FROM duckdb_tables() WHERE "
	           "database_name = '%s' AND schema_name = ",
	           database);
	add_text(&sql, schema);
	mg_sb_add(&sql, " AND table_name = ");
	add_text(&sql, table);
	int rc = mg_duck_int(conn, mg_sb_text(&sql), &found, err);
	*rows += (uint64_t)found;
	mg_sb_fini(&sql);
	return rc;
}

int mg_shard_file_counts(struct mg_duck *duck, const char *data_dir, uint32_t shard,
                         const char *const *schemas, const char *const *tables, size_t count,
                         uint64_t *rows, struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	char database[16];
	int rc = look_open(duck, data_dir, shard, &conn, database, err);
	if (rc != 0) {
		return rc;
	}
	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = look_count(conn, database, schemas[i], tables[i], &rows[i], err);
	}
	look_close(conn, database);
	return rc;
}
