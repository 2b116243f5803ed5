/* cluster.c - the test bed's data, layouts and stages; see bed.h. */
#include "bed.h"

#include "codec/arrow_ipc.h"
#include "codec/slot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t bed_random(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = *state;
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* ---- rows as text ---- */

static void rows_take(struct bed_rows *rows, const struct ArrowArrayView *view, int64_t count)
{
	for (int64_t r = 0; r < count; r++) {
		if (rows->row_count == rows->row_cap) {
			rows->row_cap = rows->row_cap ? rows->row_cap * 2 : 64;
			rows->rows = mg_realloc(rows->rows, rows->row_cap * sizeof *rows->rows);
		}
		char **row = mg_arena_new_array(rows->arena, char *, rows->column_count + 1);
		for (size_t c = 0; c < rows->column_count; c++) {
			const struct ArrowArrayView *column = view->children[c];
			if (!ArrowArrayViewIsNull(column, r)) {
				struct ArrowStringView text = ArrowArrayViewGetStringUnsafe(column, r);
				row[c] = mg_arena_strndup(rows->arena, text.data, (size_t)text.size_bytes);
			}
		}
		rows->rows[rows->row_count++] = row;
	}
}

static void rows_release(void *arg)
{
	mg_free(arg);
}

int bed_fetch(struct mg_duck_conn *conn, const char *sql, struct bed_rows *rows,
              struct mg_error *err)
{
	struct mg_duck_result *result = NULL;
	int rc = mg_duck_query(conn, sql, &result, err);
	if (rc != 0) {
		return rc;
	}
	rows->column_count = mg_duck_result_columns(result);
	struct ArrowArrayView view;
	struct ArrowError arrow;
	if (ArrowArrayViewInitFromSchema(&view, mg_duck_result_schema(result), &arrow) !=
	    NANOARROW_OK) {
		rc = mg_error_set(err, MG_E_INTERNAL, "the result's columns are not readable");
	}
	bool done = false;
	while (rc == 0 && !done) {
		struct ArrowArray batch = { 0 };
		rc = mg_duck_result_next(result, 2048, &batch, &done, err);
		if (rc == 0 && !done) {
			if (ArrowArrayViewSetArray(&view, &batch, &arrow) != NANOARROW_OK) {
				rc = mg_error_set(err, MG_E_INTERNAL, "a batch of the result is not readable");
			} else {
				rows_take(rows, &view, batch.length);
			}
			batch.release(&batch);
		}
	}
	ArrowArrayViewReset(&view);
	mg_duck_result_free(result);
	mg_arena_defer(rows->arena, rows_release, rows->rows);
	return rc;
}

/* ---- data and catalog ---- */

int bed_open(struct bed *bed, struct mg_error *err)
{
	struct mg_duck_options options = {
		.threads = 2, .memory_bytes = (uint64_t)2 << 30, .spill_dir = "/tmp", .lossless_arrow = true
	};
	bed->budget.limit = (uint64_t)1 << 30;
	bed->budget.spill_dir = "/tmp";
	int rc = mg_duck_open(&bed->duck, &options, err);
	rc = rc ? rc : mg_duck_load_tpch(bed->duck, err);
	rc = rc ? rc : mg_duck_connect(bed->duck, &bed->truth, err);
	rc = rc ? rc : mg_duck_exec(bed->truth, "SET TimeZone = 'UTC'", err);
	return rc ? rc : mg_plandb_open(&bed->plandb, err);
}

void bed_close(struct bed *bed)
{
	bed_layout_drop(bed);
	for (size_t i = 0; i < bed->table_count; i++) {
		struct bed_table *table = &bed->tables[i];
		for (size_t c = 0; c < table->column_count; c++) {
			mg_free(table->columns[c]);
			mg_free(table->types[c]);
		}
		mg_free(table->columns);
		mg_free(table->types);
		mg_free(table->hashable);
		mg_free(table->name);
	}
	mg_free(bed->tables);
	if (bed->truth) {
		mg_duck_disconnect(bed->truth);
	}
	if (bed->duck) {
		mg_duck_close(bed->duck);
	}
	if (bed->plandb) {
		mg_plandb_close(bed->plandb);
	}
}

static bool type_hashable(const char *type)
{
	static const char *const good[] = { "TINYINT",   "SMALLINT", "INTEGER", "BIGINT",
		                                "HUGEINT",   "VARCHAR",  "DATE",    "DECIMAL",
		                                "TIMESTAMP", "BOOLEAN",  "UBIGINT" };
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		if (strncmp(type, good[i], strlen(good[i])) == 0 && !strchr(type, '[') &&
		    (type[strlen(good[i])] == 0 || type[strlen(good[i])] == '(')) {
			return true;
		}
	}
	return false;
}

static int read_tables(struct bed *bed, struct mg_error *err)
{
	struct bed_rows rows = { .arena = mg_arena_new() };
	int rc = bed_fetch(bed->truth,
	                   "SELECT c.table_name, c.column_name, c.data_type FROM duckdb_columns() c "
	                   "JOIN duckdb_tables() t "
	                   "USING (database_name, schema_name, table_name) WHERE c.schema_name = "
	                   "'main' AND c.database_name = 'memory' "
	                   "ORDER BY c.table_name, c.column_index",
	                   &rows, err);
	size_t table_cap = 0;
	size_t cap = 0;
	for (size_t i = 0; rc == 0 && i < rows.row_count; i++) {
		char **row = rows.rows[i];
		struct bed_table *table = bed->table_count ? &bed->tables[bed->table_count - 1] : NULL;
		if (!table || strcmp(table->name, row[0]) != 0) {
			mg_grow(bed->tables, bed->table_count, table_cap);
			table = &bed->tables[bed->table_count++];
			*table = (struct bed_table){ .name = mg_strdup(row[0]) };
			cap = 0;
		}
		if (table->column_count == cap) {
			cap = cap ? cap * 2 : 16;
			table->columns = mg_realloc(table->columns, cap * sizeof *table->columns);
			table->types = mg_realloc(table->types, cap * sizeof *table->types);
			table->hashable = mg_realloc(table->hashable, cap * sizeof *table->hashable);
		}
		table->columns[table->column_count] = mg_strdup(row[1]);
		table->types[table->column_count] = mg_strdup(row[2]);
		table->hashable[table->column_count++] = type_hashable(row[2]);
	}
	mg_arena_free(rows.arena);
	for (size_t i = 0; rc == 0 && i < bed->table_count; i++) {
		int64_t count = 0;
		char *sql = mg_format("SELECT count(*) FROM main.\"%s\"", bed->tables[i].name);
		rc = mg_duck_int(bed->truth, sql, &count, err);
		bed->tables[i].rows = (uint64_t)count;
		mg_free(sql);
	}
	return rc;
}

/* The planning database gets at most 10,000 rows of each table, by way of a file. */
static int fill_plandb(struct bed *bed, struct mg_error *err)
{
	char path[64];
	snprintf(path, sizeof path, "/tmp/mg-bed-%ld.db", (long)getpid());
	unlink(path);
	int rc = mg_duck_execf(bed->truth, err, "ATTACH '%s' AS sample", path);
	for (size_t i = 0; rc == 0 && i < bed->table_count; i++) {
		const char *name = bed->tables[i].name;
		rc = mg_duck_execf(
			bed->truth, err,
			"CREATE TABLE sample.main.\"%s\" AS SELECT * FROM memory.main.\"%s\" LIMIT 10000", name,
			name);
	}
	rc = rc ? rc : mg_duck_exec(bed->truth, "DETACH sample", err);
	char *sql = mg_format("ATTACH '%s' AS sample (READ_ONLY)", path);
	rc = rc ? rc : mg_plandb_exec(bed->plandb, sql, err);
	mg_free(sql);
	for (size_t i = 0; rc == 0 && i < bed->table_count; i++) {
		const char *name = bed->tables[i].name;
		sql = mg_format("CREATE TABLE \"%s\" AS FROM sample.main.\"%s\"", name, name);
		rc = mg_plandb_exec(bed->plandb, sql, err);
		mg_free(sql);
	}
	rc = rc ? rc : mg_plandb_exec(bed->plandb, "DETACH sample", err);
	unlink(path);
	return rc;
}

int bed_ready(struct bed *bed, struct mg_error *err)
{
	int rc = read_tables(bed, err);
	return rc ? rc : fill_plandb(bed, err);
}

/* ---- layouts ---- */

static void place_table(struct bed_table *table, const char *placement, uint64_t *seed)
{
	table->sharded = false;
	table->keys[0] = NULL;
	table->keys[1] = NULL;
	size_t key_count = 0;
	if (placement) {
		size_t len = strlen(table->name);
		for (const char *at = placement; (at = strstr(at, table->name)); at += len) {
			if (at[len] == ':' && (at == placement || at[-1] == ',')) {
				size_t key_len = strcspn(at + len + 1, ",");
				for (size_t c = 0; c < table->column_count; c++) {
					if (strlen(table->columns[c]) == key_len &&
					    strncmp(table->columns[c], at + len + 1, key_len) == 0) {
						table->keys[key_count++] = table->columns[c];
					}
				}
				break;
			}
		}
	} else if (bed_random(seed) % 5 != 0) {
		size_t wanted = bed_random(seed) % 6 == 0 ? 2 : 1;
		/* Every column may be the key, the first ones more often: they are what joins use. */
		for (size_t tries = 0; tries < 50 && key_count < wanted; tries++) {
			size_t range = bed_random(seed) % 2 ? table->column_count
			                                    : (table->column_count + 3) / 4;
			size_t c = bed_random(seed) % range;
			if (table->hashable[c] && (key_count == 0 || table->keys[0] != table->columns[c])) {
				table->keys[key_count++] = table->columns[c];
			}
		}
	}
	table->sharded = key_count > 0;
	table->place =
		(struct mg_table_place){ .schema = "main",
		                         .table = table->name,
		                         .keys = table->keys,
		                         .key_count = key_count,
		                         .rows = table->rows,
		                         .sample_rows = table->rows < 10000 ? table->rows : 10000,
		                         .bytes = table->rows * table->column_count * 8 };
}

static int make_table(struct bed *bed, const struct bed_table *table, size_t shards,
                      struct mg_error *err)
{
	if (!table->sharded) {
		return 0;
	}
	(void)shards;
	return mg_duck_execf(bed->truth, err,
	                     "CREATE OR REPLACE TABLE lay.\"%s\" AS SELECT t.*, o.part AS _part FROM "
	                     "(SELECT *, mg_slot(\"%s\"%s%s%s) AS _slot "
	                     "FROM main.\"%s\") t JOIN lay._owner o ON o.slot = t._slot",
	                     table->name, table->keys[0], table->keys[1] ? ", \"" : "",
	                     table->keys[1] ? table->keys[1] : "", table->keys[1] ? "\"" : "",
	                     table->name);
}

static int make_view(struct bed_part *part, const struct bed_table *table, size_t index,
                     struct mg_error *err)
{
	struct mg_sb sb = { 0 };
	mg_sb_addf(&sb, "CREATE OR REPLACE TEMP VIEW \"main.%s\" AS SELECT ", table->name);
	for (size_t c = 0; c < table->column_count; c++) {
		mg_sb_add(&sb, c ? ", " : "");
		mg_sb_add_ident(&sb, table->columns[c]);
	}
	if (table->sharded) {
		mg_sb_addf(&sb, " FROM memory.lay.\"%s\" WHERE _part = %zu", table->name, index);
	} else {
		mg_sb_addf(&sb, " FROM memory.main.\"%s\"", table->name);
	}
	int rc = mg_duck_exec(part->conn, mg_sb_text(&sb), err);
	mg_sb_fini(&sb);
	return rc;
}

static struct mg_spool *find_spool(void *arg, uint32_t stage)
{
	struct bed_part *part = arg;
	if (stage >= MG_STAGE_COPY) {
		return stage - MG_STAGE_COPY < BED_STAGES_MAX ? part->copies[stage - MG_STAGE_COPY] : NULL;
	}
	return stage < BED_STAGES_MAX ? part->spools[stage] : NULL;
}

void bed_drop_spools(struct bed *bed)
{
	for (size_t i = 0; i < bed->parts_count; i++) {
		for (size_t s = 0; s < BED_STAGES_MAX; s++) {
			mg_spool_unref(bed->parts[i].spools[s]);
			mg_spool_unref(bed->parts[i].copies[s]);
			bed->parts[i].spools[s] = bed->parts[i].copies[s] = NULL;
		}
	}
}

void bed_layout_drop(struct bed *bed)
{
	bed_drop_spools(bed);
	for (size_t i = 0; i < bed->parts_count; i++) {
		if (bed->parts[i].conn) {
			mg_duck_disconnect(bed->parts[i].conn);
		}
	}
	memset(bed->parts, 0, sizeof bed->parts);
	bed->parts_count = 0;
}

static int make_owner(struct bed *bed, size_t shards, uint64_t *seed, struct mg_error *err)
{
	/* One layout in eight has all rows on one participant, which need not be the coordinator. */
	bool lonely = *seed != 0 && bed_random(seed) % 8 == 0;
	size_t lonely_part = bed_random(seed) % bed->parts_count;
	uint16_t shard_part[64];
	for (size_t s = 0; s < shards; s++) {
		shard_part[s] = (uint16_t)(lonely           ? lonely_part
		                           : *seed % 3 == 1 ? bed_random(seed) % bed->parts_count
		                                            : s % bed->parts_count);
	}
	for (size_t slot = 0; slot < 16384; slot++) {
		bed->owner[slot] = shard_part[mg_slot_shard((uint16_t)slot, (uint32_t)shards)];
	}
	struct mg_sb sb = { 0 };
	mg_sb_add(&sb, "CREATE OR REPLACE TABLE lay._owner AS SELECT i::USMALLINT AS slot, ([");
	for (size_t s = 0; s < shards; s++) {
		mg_sb_addf(&sb, "%s%u", s ? "," : "", shard_part[s]);
	}
	mg_sb_addf(&sb, "])[(i * %zu // 16384 + 1)::INTEGER]::USMALLINT AS part FROM range(16384) r(i)",
	           shards);
	int rc = mg_duck_exec(bed->truth, "CREATE SCHEMA IF NOT EXISTS lay", err);
	rc = rc ? rc : mg_duck_exec(bed->truth, mg_sb_text(&sb), err);
	mg_sb_fini(&sb);
	return rc;
}

int bed_layout(struct bed *bed, const char *placement, size_t parts, size_t shards, uint64_t seed,
               struct mg_error *err)
{
	bed_layout_drop(bed);
	bed->parts_count = parts;
	int rc = make_owner(bed, shards, &seed, err);
	for (size_t i = 0; rc == 0 && i < bed->table_count; i++) {
		place_table(&bed->tables[i], placement, &seed);
		rc = make_table(bed, &bed->tables[i], shards, err);
	}
	for (size_t p = 0; rc == 0 && p < parts; p++) {
		struct bed_part *part = &bed->parts[p];
		part->bed = bed;
		part->context = (struct mg_duck_context){
			.node_index = (uint32_t)p, .owner = bed->owner, .find_spool = find_spool, .arg = part
		};
		rc = mg_duck_connect(bed->duck, &part->conn, err);
		if (rc == 0) {
			mg_duck_set_context(part->conn, &part->context);
			rc = mg_duck_exec(part->conn, "SET TimeZone = 'UTC'", err);
		}
		for (size_t i = 0; rc == 0 && i < bed->table_count; i++) {
			rc = make_view(part, &bed->tables[i], p, err);
		}
	}
	return rc;
}

void bed_layout_text(const struct bed *bed, struct mg_sb *sb)
{
	mg_sb_addf(sb, "%zu participants", bed->parts_count);
	for (size_t i = 0; i < bed->table_count; i++) {
		const struct bed_table *table = &bed->tables[i];
		if (table->sharded) {
			mg_sb_addf(sb, ", %s by %s%s%s", table->name, table->keys[0], table->keys[1] ? "+" : "",
			           table->keys[1] ? table->keys[1] : "");
		}
	}
}

const struct mg_table_place *bed_find_table(void *arg, const char *schema, const char *table)
{
	struct bed *bed = arg;
	for (size_t i = 0; i < bed->table_count; i++) {
		if (strcmp(schema, "main") == 0 && strcmp(bed->tables[i].name, table) == 0) {
			return &bed->tables[i].place;
		}
	}
	return NULL;
}

/* ---- stages ---- */

struct shipping {
	struct bed *bed;
	const struct mg_stage *stage;
	size_t from;
	struct mg_arrow_encoder *encoder;
	struct mg_count *count;
};

static int ship_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct shipping *ship = arg;
	struct mg_buf *message = NULL;
	int rc = mg_arrow_encoder_new(&ship->encoder, schema, false, err);
	rc = rc ? rc : mg_arrow_encode_schema(ship->encoder, &message, err);
	for (size_t p = 0; rc == 0 && p < ship->bed->parts_count; p++) {
		rc = mg_spool_set_schema(ship->bed->parts[p].spools[ship->stage->id], message, err);
	}
	struct mg_spool *copy = ship->bed->parts[0].copies[ship->stage->id];
	rc = rc || !copy ? rc : mg_spool_set_schema(copy, message, err);
	mg_buf_unref(message);
	return rc;
}

static int ship_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct shipping *ship = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	int rc = mg_arrow_encode_batch(ship->encoder, batch, &buf, &raw, err);
	enum mg_ship kind = ship->stage->ship;
	for (size_t p = 0; rc == 0 && p < ship->bed->parts_count; p++) {
		size_t to = kind == MG_SHIP_KEEP     ? ship->from
		            : kind == MG_SHIP_GATHER ? 0
		            : kind == MG_SHIP_HASH   ? target
		                                     : p;
		if (to == p) {
			rc = mg_spool_put(ship->bed->parts[p].spools[ship->stage->id], buf,
			                  (uint64_t)batch->length, err);
			ship->bed->rows_moved += p != ship->from ? (uint64_t)batch->length : 0;
		}
	}
	struct mg_spool *copy = ship->bed->parts[0].copies[ship->stage->id];
	rc = rc || !copy ? rc : mg_spool_put(copy, buf, (uint64_t)batch->length, err);
	ship->count->rows += (uint64_t)batch->length;
	ship->count->bytes += raw;
	mg_buf_unref(buf);
	return rc;
}

int bed_run_stage(void *arg, const struct mg_stage *stage, struct mg_count *count,
                  struct mg_error *err)
{
	struct bed *bed = arg;
	if (stage->id >= BED_STAGES_MAX) {
		return mg_error_set(err, MG_E_LIMIT, "too many stages");
	}
	for (size_t p = 0; p < bed->parts_count; p++) {
		bed->parts[p].spools[stage->id] = mg_spool_new(&bed->budget);
	}
	if (stage->copy_few) {
		bed->parts[0].copies[stage->id] = mg_spool_new(&bed->budget);
	}
	int rc = 0;
	for (size_t p = 0; rc == 0 && p < (stage->everywhere ? bed->parts_count : 1); p++) {
		struct shipping ship = { .bed = bed, .stage = stage, .from = p, .count = count };
		struct mg_duck_sink sink = { .begin = ship_begin, .put = ship_put, .arg = &ship };
		rc = mg_duck_scatter(bed->parts[p].conn, stage->sql,
		                     stage->ship == MG_SHIP_HASH ? bed->owner : NULL,
		                     (uint32_t)bed->parts_count, &sink, err);
		mg_arrow_encoder_free(ship.encoder);
	}
	for (size_t p = 0; p < bed->parts_count; p++) {
		mg_spool_seal(bed->parts[p].spools[stage->id]);
	}
	if (stage->copy_few) {
		mg_spool_seal(bed->parts[0].copies[stage->id]);
		count->copied = count->bytes <= BED_FEW_BYTES;
	}
	if (rc != 0 && bed->verbose) {
		fprintf(stderr, "stage %u failed: %s\n%s\n", stage->id, err->message, stage->sql);
	}
	return rc;
}
