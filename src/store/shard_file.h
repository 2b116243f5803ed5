/*
 * shard_file.h - the DuckDB file of one shard, from its making to its hash.
 *
 *   _mg.pending    what is in doubt, as of the last checkpoint (shard_write.h)
 *   _mg.meta       one row: applied index, term, commit number, catalog version, file format,
 * engine version; and whose file it is: cluster, shard, slots, sample _mg.layout     only when a
 * table lies in slot ranges: schema, table, slots, rows, first row id of each range user schemas
 * and tables: _mg_rid BIGINT, _mg_slot USMALLINT, then the user's columns; no constraints
 *
 * While it is made the file is called NNNN.duckdb.new; it gets its name only when it is complete,
 * closed and synced.  So a file with the right name is whole, whatever happened, and any other may
 * be removed.
 *
 * Thread: a shard file belongs to one thread at a time; several may be open in one mg_duck.
 */
#ifndef MG_STORE_SHARD_FILE_H
#define MG_STORE_SHARD_FILE_H

#include "store/duck.h"
#include "store/duck_append.h"

#define MG_SHARD_RID_BITS 48 /* _mg_rid = shard << 48 | sequence */

/* Whose file it is; also what is asked of a file found on disk. */
struct mg_shard_meta {
	const char *cluster_id;
	const char *sample;
	uint32_t shard, shard_count;
	uint16_t slot_first, slot_last;
	uint32_t file_format;
	uint64_t catalog_version;
};

struct mg_shard_file {
	struct mg_duck *duck;
	struct mg_duck_conn *conn; /* in a transaction while the file is made */
	char *path;                /* final name */
	char *new_path;
	char database[16]; /* attached as, "s17" or "laid17" */
	uint64_t next_rid;
	struct mg_shard_meta meta;
	struct mg_shard_table *tables; /* made in it, in their order */
	size_t table_count;
};

struct mg_shard_table {
	char *schema, *name;
};

/* Make and attach DIR/shards/NNNN.duckdb.new (a leftover is removed) and begin its transaction. */
int mg_shard_file_create(struct mg_shard_file **out, struct mg_duck *duck, const char *data_dir,
                         const struct mg_shard_meta *meta, struct mg_error *err);
/* CREATE TABLE with the hidden columns; types are SQL text. */
int mg_shard_file_table(struct mg_shard_file *file, const char *schema, const char *table,
                        const char *const *names, const char *const *types, size_t count,
                        struct mg_error *err);
/* A table was made in it by a statement of the caller's. */
void mg_shard_file_table_note(struct mg_shard_file *file, const char *schema, const char *table);
/* Store the tables of at least row_groups_min row groups (0: MG_SHARD_LAYOUT_ROW_GROUPS) in coarse
 * slot ranges, and say so in _mg.layout: *file is another one then.  After the last row, before
 * finish.  On failure *file is as it was, to be dropped. */
#define MG_SHARD_LAYOUT_ROW_GROUPS 50 /* of 122,880 rows; below, the load order stays */
int mg_shard_file_layout(struct mg_shard_file **file, uint32_t row_groups_min,
                         struct mg_error *err);
/* How many ranges a table of so many rows gets in a shard of so many slots: 12 to 16. */
uint32_t mg_shard_layout_ranges(uint64_t rows, uint32_t slots);
/* Write meta, commit, checkpoint, detach, sync, hash, and give it its name; frees file. sha256
 * holds 65 bytes. */
int mg_shard_file_finish(struct mg_shard_file *file, char *sha256, uint64_t *bytes,
                         struct mg_error *err);
/* Give up: detach and remove; NULL is fine. */
void mg_shard_file_drop(struct mg_shard_file *file);

/* Attach the complete file as "s<shard>".  Commits to it stay in memory, and only CHECKPOINT writes
 * it; what one that did not come to its end has overwritten is put back first (shard_undo.h). */
int mg_shard_file_attach(struct mg_duck_conn *conn, uint32_t shard, const char *path,
                         struct mg_error *err);
/* Whether the complete file at DIR/shards/NNNN.duckdb is the one described by meta (format,
 * cluster, sample, slots).  False also when there is none. */
bool mg_shard_file_matches(struct mg_duck *duck, const char *data_dir,
                           const struct mg_shard_meta *meta);
/* Whether the database that is attached as "s<shard>" is the one described by meta, whatever engine
 * wrote it, and what its replica reads at its start can be read; MG_E_CORRUPT when not: its slots
 * would lead to wrong rows. */
int mg_shard_file_check(struct mg_duck_conn *conn, const struct mg_shard_meta *meta,
                        struct mg_error *err);
/* Attach an empty database in memory as "s<shard>", described by meta and at index 0, in place of a
 * file that is lost or damaged: without tables, and gone when it is detached. */
int mg_shard_file_stand_in(struct mg_duck_conn *conn, const struct mg_shard_meta *meta,
                           struct mg_error *err);
/* Rows of tables in that complete file, added to rows[i]; a table that is not there has none. */
int mg_shard_file_counts(struct mg_duck *duck, const char *data_dir, uint32_t shard,
                         const char *const *schemas, const char *const *tables, size_t count,
                         uint64_t *rows, struct mg_error *err);
/* "shards/0003.duckdb" */
const char *mg_shard_file_name(struct mg_arena *arena, uint32_t shard);

#endif
