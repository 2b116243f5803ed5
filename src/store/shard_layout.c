/*
 * shard_layout.c - large tables of a new shard file in coarse slot ranges.
 *
 *   load order   | all slots | all slots | all slots | ...            NNNN.duckdb.new
 *   laid out     | slots 0..95, load order | slots 96..191 | ...      NNNN.duckdb.laid.new
 *
 * Why: work on such a table can be shared by slot ranges only where a range lies together; in load
 * order each range would read the whole table (up to 14 times the cost [ran]).  In full slot order
 * the load order would be lost, and with it what zone maps are worth (a scan of one month 0.8 ->
 * 23.7 ms [ran]).  So 12 to 16 ranges, the load order inside, and only where each of them gets
 * several row groups.
 *
 * Two passes: the rows are loaded as they come; then a second file takes them, sorted by range and
 * row id, which DuckDB does within its memory limit, spilling beyond it.  Twelve scans, each with a
 * filter on one range, need no sort, but cost three times as much (1.2 million rows of lineitem:
 * sorted 1.65 s, scans 4.6 s, plain copy 1.0 s of CPU [ran]).  Row ids are given anew in the order
 * of the second file, so that row groups have ranges of ids that do not overlap.
 *
 * A reader learns it from _mg.layout, which is there when any table of the file is laid out: one
 * row for each range with its slots, its rows and its first row id.
 *
 * owner: the file's thread.
 */
#include "store/shard_file.h"

#include "base/str.h"
#include "codec/slot.h"
#include "store/shard_file_int.h"

#include <string.h>

#define ROW_GROUP_ROWS 122880u
#define RANGES_MIN 12u
#define RANGES_MAX 16u
#define RANGE_ROW_GROUPS 4u /* no work unit is smaller */

struct layout {
	struct mg_arena *arena;
	struct mg_shard_file *from, *to;
	struct mg_duck_conn *reader;
	uint64_t *rows;    /* of each table of `from` */
	uint64_t rows_min; /* of a table that is laid out */
	uint16_t *owner;   /* [MG_SLOTS] all 0: one target */
};

uint32_t mg_shard_layout_ranges(uint64_t rows, uint32_t slots)
{
	uint64_t ranges = rows / ROW_GROUP_ROWS / RANGE_ROW_GROUPS;
	ranges = ranges < RANGES_MIN ? RANGES_MIN : ranges > RANGES_MAX ? RANGES_MAX : ranges;
	return ranges > slots ? slots : (uint32_t)ranges;
}

static char *table_name(const char *database, const struct mg_shard_table *table)
{
	struct mg_sb name = { 0 };
	mg_sb_addf(&name, "%s.", database);
	mg_sb_add_path(&name, table->schema, table->name);
	char *text = mg_sb_take(&name);
	mg_sb_fini(&name);
	return text;
}

/* Rows of the file's tables, from inside of its transaction.  Not from duckdb_tables(): that looks
 * into every attached database, and their CHECKPOINT fails meanwhile [ran]. */
static int rows_count(struct layout *layout, bool *any, struct mg_error *err)
{
	const struct mg_shard_file *from = layout->from;
	int rc = 0;
	layout->rows = mg_arena_new_array(layout->arena, uint64_t, from->table_count + 1);
	*any = false;
	for (size_t i = 0; rc == 0 && i < from->table_count; i++) {
		int64_t rows = 0;
		char *name = table_name(from->database, &from->tables[i]);
		char *sql = mg_format("SELECT count(*) FROM %s", name);
		rc = mg_duck_int(from->conn, sql, &rows, err);
		mg_free(sql);
		mg_free(name);
		layout->rows[i] = (uint64_t)rows;
		*any = *any || layout->rows[i] >= layout->rows_min;
	}
	return rc;
}

/* ---- the second file ---- */

static int range_note(struct layout *layout, const struct mg_shard_table *table,
                      uint32_t slot_first, uint32_t slot_last, uint64_t *rid, struct mg_error *err)
{
	int64_t rows = 0;
	char *name = table_name(layout->from->database, table);
	char *count = mg_format("SELECT count(*) FROM %s WHERE _mg_slot BETWEEN %u AND %u", name,
	                        slot_first, slot_last);
	struct mg_sb sql = { 0 };
	int rc = mg_duck_int(layout->reader, count, &rows, err);
	mg_sb_addf(&sql, "INSERT INTO %s._mg.layout VALUES (", layout->to->database);
	mg_sb_add_literal(&sql, table->schema, strlen(table->schema));
	mg_sb_add(&sql, ", ");
	mg_sb_add_literal(&sql, table->name, strlen(table->name));
	mg_sb_addf(&sql, ", %u, %u, %lld, %llu)", slot_first, slot_last, (long long)rows,
	           (unsigned long long)*rid);
	if (rc == 0) {
		rc = mg_duck_exec(layout->to->conn, mg_sb_text(&sql), err);
	}
	*rid += (uint64_t)rows;
	mg_sb_fini(&sql);
	mg_free(count);
	mg_free(name);
	return rc;
}

/* Range of a slot: (slot - first) * ranges // slots, so range i starts at i * slots / ranges, up.
 */
static int ranges_note(struct layout *layout, const struct mg_shard_table *table, uint32_t ranges,
                       uint32_t slots, struct mg_error *err)
{
	uint32_t first = layout->to->meta.slot_first;
	uint64_t rid = layout->to->next_rid;
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < ranges; i++) {
		uint32_t from = first + (i * slots + ranges - 1) / ranges;
		uint32_t to = first + ((i + 1) * slots + ranges - 1) / ranges - 1;
		rc = range_note(layout, table, from, to, &rid, err);
	}
	return rc;
}

static int rows_copy(struct layout *layout, const struct mg_shard_table *table, uint64_t rows,
                     struct mg_duck_appender *appender, struct mg_error *err)
{
	const struct mg_shard_meta *meta = &layout->to->meta;
	uint32_t slots = (uint32_t)meta->slot_last - meta->slot_first + 1;
	uint32_t ranges = mg_shard_layout_ranges(rows, slots);
	char *name = table_name(layout->from->database, table);
	struct mg_sb sql = { 0 };
	int rc = 0;
	mg_sb_addf(&sql, "SELECT * EXCLUDE (_mg_rid, _mg_slot), _mg_slot FROM %s", name);
	if (rows >= layout->rows_min) {
		mg_sb_addf(&sql, " ORDER BY (_mg_slot::INTEGER - %u) * %u // %u, _mg_rid", meta->slot_first,
		           ranges, slots);
		rc = ranges_note(layout, table, ranges, slots, err);
	}
	if (rc == 0) {
		rc = mg_duck_route(layout->reader, mg_sb_text(&sql), layout->owner, &appender, 1, err);
	}
	mg_sb_fini(&sql);
	mg_free(name);
	return rc;
}

static int table_copy(struct layout *layout, size_t index, struct mg_error *err)
{
	const struct mg_shard_table *table = &layout->from->tables[index];
	struct mg_shard_file *to = layout->to;
	struct mg_duck_appender *appender = NULL;
	const char **names = NULL;
	const char **types = NULL;
	size_t count = 0;
	char *name = table_name(layout->from->database, table);
	char *sql = mg_format("SELECT * EXCLUDE (_mg_rid, _mg_slot) FROM %s", name);
	int rc = mg_duck_describe(layout->reader, layout->arena, sql, &count, &names, &types, err);
	mg_free(sql);
	mg_free(name);
	if (rc == 0) {
		rc = mg_shard_file_table(to, table->schema, table->name, names, types, count, err);
	}
	if (rc == 0) {
		rc = mg_duck_appender_open(&appender, to->conn, to->database, table->schema, table->name,
		                           &to->next_rid, err);
	}
	if (rc == 0) {
		rc = rows_copy(layout, table, layout->rows[index], appender, err);
	}
	if (rc == 0) {
		return mg_duck_appender_close(appender, err);
	}
	mg_duck_appender_drop(appender);
	return rc;
}

static int file_copy(struct layout *layout, struct mg_error *err)
{
	struct mg_shard_file *from = layout->from;
	int rc = mg_duck_exec(from->conn, "COMMIT", err);
	if (rc == 0) {
		rc = mg_shard_file__create(&layout->to, from->duck, from->path, "laid.new", "laid",
		                           &from->meta, err);
	}
	if (rc == 0) {
		rc = mg_duck_connect(from->duck, &layout->reader, err);
	}
	if (rc == 0) {
		rc = mg_duck_execf(layout->to->conn, err,
		                   "CREATE TABLE %s._mg.layout (schema_name VARCHAR, table_name VARCHAR, "
		                   "slot_first USMALLINT, slot_last USMALLINT, rows UBIGINT, rid_first "
		                   "BIGINT)",
		                   layout->to->database);
	}
	for (size_t i = 0; rc == 0 && i < from->table_count; i++) {
		rc = table_copy(layout, i, err);
	}
	mg_duck_disconnect(layout->reader);
	return rc;
}

int mg_shard_file_layout(struct mg_shard_file **file, uint32_t row_groups_min, struct mg_error *err)
{
	struct layout layout = { .arena = mg_arena_new(), .from = *file };
	bool any = false;
	int rc = 0;
	if (row_groups_min == 0) {
		row_groups_min = MG_SHARD_LAYOUT_ROW_GROUPS;
	}
	layout.rows_min = (uint64_t)row_groups_min * ROW_GROUP_ROWS;
	layout.owner = mg_arena_new_array(layout.arena, uint16_t, MG_SLOTS);
	if ((*file)->meta.shard > 0) { /* reference tables have no slots */
		rc = rows_count(&layout, &any, err);
	}
	if (rc == 0 && any) {
		rc = file_copy(&layout, err);
		if (rc == 0) {
			mg_shard_file_drop(layout.from);
			*file = layout.to;
		} else {
			mg_error_wrap(err, "while laying out shard %u in slot ranges", (*file)->meta.shard);
			mg_shard_file_drop(layout.to);
		}
	}
	mg_arena_free(layout.arena);
	return rc;
}
