/*
 * engine_tables.c - what the catalog says, as objects: a view over all shards in the engine, a real
 * table with a sample in the planning database.
 *
 * Rule: an object is there before the statement that made it is answered, and gone before the one
 * that dropped it is: the catalog's state machine calls show_again in between.
 *
 * A table without partitions is sampled whole up to a size; others are sampled by the same range of
 * slots, so that joins keep matching.  Past so many keys (engine_shown.c) a table with keys has no
 * sample: it is planned by its count of rows.
 */
#include "exec/engine_int.h"

#include "exec/growth.h"

#include "base/json.h"
#include "base/log.h"
#include "codec/seen.h"
#include "codec/arrow_ipc.h"
#include "os/clock.h"
#include "store/spool.h"

#include <string.h>

#define SAMPLE_ROWS_MIN 10000u
#define SAMPLE_ROWS_LEAST 1000u /* fewer of a larger table are no sample of it */
#define SAMPLE_ALL_ROWS 100000u /* reference tables up to here are sampled whole */

/* ---- views under the tables' own names, for original text ---- */

static int create_schema(struct mg_duck_conn *conn, const char *schema, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "CREATE SCHEMA IF NOT EXISTS ");
	mg_sb_add_ident(&sql, schema);
	int code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

static int create_view(struct mg_duck_conn *conn, const struct mg_exec_table *table,
                       struct mg_error *err)
{
	int code = create_schema(conn, table->schema, err);
	if (code) {
		return code;
	}
	struct mg_sb sql = { 0 };
	mg_sb_add(&sql, "CREATE OR REPLACE VIEW ");
	mg_sb_add_path(&sql, table->schema, table->table);
	mg_sb_add(&sql, " AS ");
	mg_exec_table_select(&sql, table);
	code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

/* ---- the planning database: the same tables, real, with a sample ---- */

static void add_table_ddl(struct mg_sb *sql, const struct mg_table *table, bool replace)
{
	mg_sb_add(sql, "CREATE SCHEMA IF NOT EXISTS ");
	mg_sb_add_ident(sql, table->schema);
	mg_sb_add(sql, replace ? "; CREATE OR REPLACE TABLE " : "; CREATE TABLE ");
	mg_sb_add_path(sql, table->schema, table->name);
	mg_sb_add_char(sql, '(');
	mg_table_add_definition(sql, table, true);
	mg_sb_add_char(sql, ')');
}

/* The same fraction of every partitioned table, as a range of slots, so that joins keep matching;
 * rows: of each table. */
static double sample_fraction(const struct mg_catalog_data *data, const uint64_t *rows)
{
	uint64_t largest = 0;
	for (size_t i = 0; i < data->table_count; i++) {
		if (data->tables[i].key_count && rows[i] > largest) {
			largest = rows[i];
		}
	}
	if (largest <= SAMPLE_ROWS_MIN) {
		return 1.0;
	}
	double fraction = (double)SAMPLE_ROWS_MIN / (double)largest;
	return fraction > 0.01 ? fraction : 0.01;
}

static void add_sample_sql(struct mg_sb *sql, struct mg_arena *arena,
                           const struct mg_catalog_data *data, const struct mg_table *table,
                           double fraction)
{
	mg_sb_add(sql, "SELECT ");
	for (size_t i = 0; i < table->column_count; i++) {
		mg_sb_add(sql, i ? ", " : "");
		mg_sb_add_ident(sql, mg_column_stored(&table->columns[i]));
	}
	unsigned last = (unsigned)(fraction * MG_SLOT_COUNT);
	/* Slots from 0 on lie in the first shard: its file alone is read unless the fraction is larger.
	 */
	mg_sb_add(sql, " FROM (");
	uint32_t first, end;
	bool any = false;
	mg_table_shards(data, table, &first, &end);
	for (uint32_t i = first; i <= end; i++) {
		if (table->key_count && data->shards[i].slot_first > last) {
			break;
		}
		mg_sb_addf(sql, "%sSELECT * FROM s%u.", any ? " UNION ALL " : "", i);
		mg_sb_add_path(sql, table->schema, mg_table_stored(arena, table));
		any = true;
	}
	mg_sb_add_char(sql, ')');
	if (table->key_count && fraction < 1.0) {
		mg_sb_addf(sql, " WHERE _mg_slot < %u", last ? last : 1);
	} else if (!table->key_count) {
		mg_sb_addf(sql, " LIMIT %u", SAMPLE_ALL_ROWS);
	}
}

/* How many rows the shards hold of each table, as DuckDB knows it without a scan: deleted ones
 * count until a checkpoint. */
static int measure(struct mg_duck_conn *conn, const struct mg_catalog_data *data, uint64_t *rows,
                   struct mg_error *err)
{
	static const char sql[] =
		"SELECT to_json(list({s: s, t: t, n: n}))::VARCHAR FROM (SELECT schema_name AS s, "
		"table_name AS t, sum(estimated_size)::BIGINT AS n FROM duckdb_tables() WHERE "
		"regexp_full_match(database_name, 's[0-9]+') AND schema_name <> '_mg' GROUP BY ALL)";
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *list = NULL;
	char *text = NULL;
	int code = mg_duck_text(conn, sql, &text, err);

	memset(rows, 0, data->table_count * sizeof *rows);
	if (!code && text) {
		code = mg_json_parse(arena, text, strlen(text), &list, err);
	}
	mg_json_each(item, list) {
		for (size_t i = 0; i < data->table_count; i++) {
			const struct mg_table *table = &data->tables[i];

			if (mg_text_eq(mg_json_get_text(item, "s"), table->schema) &&
			    mg_text_eq(mg_json_get_text(item, "t"), mg_table_stored(arena, table))) {
				rows[i] = (uint64_t)mg_json_get_int(item, "n", 0);
			}
		}
	}
	mg_free(text);
	mg_arena_free(arena);
	return code;
}

/* ---- objects come ---- */

/* The rows of a statement of the engine, for the planning database. */
struct sample {
	struct mg_spool_budget budget;
	struct mg_spool *spool;
	struct mg_arrow_encoder *encoder;
};

static int sample_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct sample *sample = arg;
	struct mg_buf *message = NULL;
	int code = mg_arrow_encoder_new(&sample->encoder, schema, false, err);

	code = code ? code : mg_arrow_encode_schema(sample->encoder, &message, err);
	code = code ? code : mg_spool_set_schema(sample->spool, message, err);
	mg_buf_unref(message);
	return code;
}

static int sample_put(void *arg, uint32_t target, struct ArrowArray *batch, struct mg_error *err)
{
	struct sample *sample = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw;
	int code = mg_arrow_encode_batch(sample->encoder, batch, &buf, &raw, err);

	(void)target;
	code = code ? code : mg_spool_put(sample->spool, buf, (uint64_t)batch->length, err);
	mg_buf_unref(buf);
	return code;
}

static struct mg_spool *sample_spool(void *arg, uint32_t stage)
{
	const struct sample *sample = arg;

	return stage == 0 ? sample->spool : NULL;
}

/* Into the planning database's own table; *rows: how many the planner sees, by which its estimates
 * are scaled.  Shards are read one by one, so a row that moves may be there twice: where a key
 * forbids it, one of them stays, and what was there before, which counts: else such a table would
 * be sampled again and again, and grow by each row that comes and goes. */
static int load_sample(struct mg_engine *engine, const struct mg_table *table,
                       struct sample *sample, uint64_t *rows, struct mg_error *err)
{
	const struct mg_duck_context context = { .find_spool = sample_spool, .arg = sample };
	struct mg_duck_conn *conn = NULL;
	struct mg_error ignored;
	struct mg_sb sql = { 0 }, name = { 0 };
	int64_t count = 0;

	mg_sb_add_path(&name, table->schema, table->name);
	bool keyed = mg_table_has_keys(table);

	mg_sb_add(&sql, "BEGIN; ");
	if (!keyed) {
		mg_sb_addf(&sql, "DELETE FROM %s; ", mg_sb_text(&name));
	}
	mg_sb_addf(&sql, "INSERT %sINTO %s SELECT * FROM merganser_exchange(0); COMMIT",
	           keyed ? "OR IGNORE " : "", mg_sb_text(&name));
	int code = mg_plandb_borrow(engine->plandb, NULL, &conn, err);

	if (!code) {
		mg_duck_set_context(conn, &context);
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
		if (code) {
			(void)mg_duck_exec(conn, "ROLLBACK", &ignored);
		} else if (keyed) {
			mg_sb_clear(&sql);
			mg_sb_addf(&sql, "SELECT count(*) FROM %s", mg_sb_text(&name));
			code = mg_duck_int(conn, mg_sb_text(&sql), &count, err);
			*rows = code ? *rows : (uint64_t)count;
		}
		mg_duck_set_context(conn, NULL);
		mg_plandb_give_back(engine->plandb, conn);
	}
	mg_sb_fini(&name);
	mg_sb_fini(&sql);
	return code;
}

static int take_sample(struct mg_engine *engine, struct mg_duck_conn *conn,
                       const struct mg_catalog_data *data, const struct mg_table *table,
                       double fraction, uint64_t *rows, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb sql = { 0 };
	struct sample sample = { .budget = { .limit = UINT64_MAX } };
	const struct mg_duck_sink sink = { .begin = sample_begin, .put = sample_put, .arg = &sample };

	*rows = 0;
	if (!mg_engine__has_room(engine, table)) {
		mg_arena_free(arena);
		return 0;
	}
	sample.spool = mg_spool_new(&sample.budget);
	add_sample_sql(&sql, arena, data, table, fraction);
	int code = mg_duck_scatter(conn, mg_sb_text(&sql), NULL, 1, &sink, err);

	if (!code) {
		mg_spool_seal(sample.spool);
		*rows = mg_spool_rows(sample.spool);
		code = *rows ? load_sample(engine, table, &sample, rows, err) : 0;
	}
	mg_arrow_encoder_free(sample.encoder);
	mg_spool_unref(sample.spool);
	mg_sb_fini(&sql);
	mg_arena_free(arena);
	return code;
}

/* What was begun must not be in the way of the next try. */
static void take_back(struct mg_engine *engine, const struct mg_table *table)
{
	struct mg_error ignored;
	struct mg_sb sql = { 0 };

	mg_sb_add(&sql, "DROP TABLE IF EXISTS ");
	mg_sb_add_path(&sql, table->schema, table->name);
	(void)mg_plandb_exec(engine->plandb, mg_sb_text(&sql), &ignored);
	mg_sb_fini(&sql);
}

/* Rows that it began with may still be on their way to a shard here.  Where there are too many
 * shards to say how far they must be, nobody waits. */
static int check_whole(struct mg_engine *engine, const struct mg_table *table,
                       struct mg_error *err)
{
	struct mg_seen whole = { 0 };

	if (!table->whole || !*table->whole || mg_replica_is_alone(engine->replica)) {
		return 0;
	}
	int code = mg_seen_parse(&whole, mg_str(table->whole), err);

	if (!code && !mg_replica_has_seen(engine->replica, &whole)) {
		code = mg_error_set(err, MG_E_UNAVAILABLE, "some of its rows are not here yet");
	}
	mg_seen_fini(&whole);
	return code;
}

/* replace: over what is shown under its name. */
static int show_table(struct mg_engine *engine, struct mg_duck_conn *conn,
                      const struct mg_catalog_data *data, const struct mg_table *table,
                      bool replace, uint64_t total, double fraction, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_sb sql = { 0 };
	uint32_t *all = mg_shard_ids(arena, 1, data->shard_count);
	struct mg_exec_table *made;
	uint64_t rows = 0;

	mg_engine_exec_tables(arena, table, 1, all, data->shard_count, &made);
	int code = check_whole(engine, table, err);

	code = code ? code : create_view(conn, made, err);
	if (!code) {
		add_table_ddl(&sql, table, replace);
		code = mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	}
	if (!code && fraction > 0) {
		code = take_sample(engine, conn, data, table, fraction, &rows, err);
		if (code) {
			take_back(engine, table);
		}
		if (code == MG_E_CORRUPT) {
			mg_replica_suspect(engine->replica);
		}
	}
	if (!code) {
		mg_engine__note(engine, &(struct mg_shown){ .kind = (char *)MG_SHOWN_TABLE,
		                                            .schema = (char *)table->schema,
		                                            .name = (char *)table->name,
		                                            .text = (char *)mg_engine__text_of(table),
		                                            .id = table->id,
		                                            .rows = total,
		                                            .sample_rows = rows });
		mg_engine__note_rows(engine, table, total, &rows);
	}
	mg_sb_fini(&sql);
	mg_arena_free(arena);
	return code ? mg_error_wrap(err, "while showing table \"%s\"", table->name) : 0;
}

/* Schemas stay until the next start: an empty one does no harm. */
static int show_schemas(struct mg_engine *engine, struct mg_duck_conn *conn,
                        const struct mg_catalog_data *data, struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < data->schema_count; i++) {
		struct mg_sb sql = { 0 };

		mg_sb_add(&sql, "CREATE SCHEMA IF NOT EXISTS ");
		mg_sb_add_ident(&sql, data->schemas[i]);
		code = create_schema(conn, data->schemas[i], err);
		code = code ? code : mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
		mg_sb_fini(&sql);
	}
	return code;
}

/* The planning database does not take its definition, and will not: one table less, and no reason
 * for a node not to serve the others. */
static bool is_refused(const struct mg_error *err)
{
	return err->origin == MG_ORIGIN_PLANNER && strncmp(err->sqlstate, "42", 2) == 0;
}

/* Not now: the shards may not hold it yet. */
static void postpone(struct mg_engine *engine, const char *what, const struct mg_error *err)
{
	bool refused = is_refused(err);

	mg_log(refused ? MG_LOG_ERROR : MG_LOG_INFO, "catalog.unshown", "object=%s reason=\"%s\"", what,
	       err->message);
	if (!refused) {
		atomic_store(&engine->unshown, true);
	}
}

/* What it stands on has been dropped: one table less, and no reason not to start. */
static bool lacks_an_object(const struct mg_error *err)
{
	return strncmp(err->sqlstate, "42", 2) == 0;
}

int mg_engine__show(struct mg_engine *engine, const struct mg_catalog_data *data, bool all,
                    struct mg_error *err)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_gate_pass pass;
	uint64_t *rows = mg_alloc0((data->table_count + 1) * sizeof *rows);
	int code = mg_gate_enter(engine->gate, &pass, NULL, NULL, err);

	code = code ? code : mg_duck_connect(engine->duck, &conn, err);

	code = code ? code : mg_plandb_seal(engine->plandb, err);
	code = code ? code : show_schemas(engine, conn, data, err);
	code = code ? code : measure(conn, data, rows, err);
	double fraction = sample_fraction(data, rows);

	if (!code) {
		mg_engine__show_objects(engine, conn, data, false, false);
	}
	for (size_t i = 0; !code && i < data->table_count; i++) {
		code = show_table(engine, conn, data, &data->tables[i], false, rows[i], fraction, err);
		if (code && (!all || lacks_an_object(err))) {
			postpone(engine, data->tables[i].name, err);
			mg_error_clear(err);
			code = 0;
		}
	}
	if (!code) {
		mg_engine__show_objects(engine, conn, data, true, !atomic_load(&engine->unshown));
		mg_engine__show_comments(engine, data);
	}
	atomic_store(&engine->shown_version, data->version);
	mg_duck_disconnect(conn);
	mg_gate_leave(engine->gate, &pass);
	mg_free(rows);
	return code ? mg_error_wrap(err, "while showing the tables of the catalog") : 0;
}

/* ---- objects go ---- */

/* What others depend on cannot go before them. */
static int drop(struct mg_engine *engine, struct mg_duck_conn *conn, const struct mg_shown *shown,
                struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	int code = 0;

	if (mg_text_eq(shown->kind, MG_SHOWN_TABLE) || mg_text_eq(shown->kind, MG_SHOWN_VIEW)) {
		mg_sb_add(&sql, "DROP VIEW IF EXISTS ");
		mg_sb_add_path(&sql, shown->schema, shown->name);
		code = mg_duck_exec(conn, mg_sb_text(&sql), err);
	}
	mg_sb_clear(&sql);
	mg_sb_addf(&sql, "DROP %s IF EXISTS ", shown->kind);
	mg_sb_add_path(&sql, shown->schema, shown->name);
	code = code ? code : mg_plandb_exec(engine->plandb, mg_sb_text(&sql), err);
	mg_sb_fini(&sql);
	return code;
}

static bool is_in(const struct mg_catalog_data *data, const struct mg_shown *shown)
{
	if (!mg_text_eq(shown->kind, MG_SHOWN_TABLE)) {
		return mg_engine__is_current_object(data, shown);
	}
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];

		if (mg_text_eq(table->schema, shown->schema) && mg_text_eq(table->name, shown->name)) {
			return table->id == shown->id && mg_text_eq(mg_engine__text_of(table), shown->text);
		}
	}
	return false;
}

/* From the newest on, as others may depend on the older ones; again while some go. */
static void drop_what_went(struct mg_engine *engine, struct mg_duck_conn *conn,
                           const struct mg_catalog_data *data)
{
	bool again = true;

	for (size_t pass = 0; again; pass++) {
		bool some = false;

		again = false;
		for (size_t i = engine->shown_count; i-- > 0;) {
			struct mg_error err = { 0 };

			if (is_in(data, &engine->shown[i])) {
				continue;
			}
			if (!drop(engine, conn, &engine->shown[i], &err)) {
				some = true;
				mg_engine__forget_shown(engine, i);
			} else if (pass) {
				mg_log(MG_LOG_ERROR, "catalog.show", "dropped=%s.%s error=\"%s\"",
				       engine->shown[i].schema, engine->shown[i].name, err.message);
				mg_engine__forget_shown(engine, i);
			} else {
				again = true;
			}
		}
		again = again && (some || !pass);
	}
}

static bool is_altered(struct mg_engine *engine, const struct mg_catalog_data *data,
                       const struct mg_table *table)
{
	pthread_mutex_lock(&engine->shown_lock);
	const struct mg_shown *shown = mg_engine__find_shown(engine, table);
	bool altered = shown && !is_in(data, shown);

	pthread_mutex_unlock(&engine->shown_lock);
	return altered;
}

/* Tables that are others now, under the same name: at no moment is one missing.  Who plans while
 * it happens hears of it by two changes of the count.  Where the shards do not have the new one
 * yet, the old one goes. */
static void replace_altered(struct mg_engine *engine, struct mg_duck_conn *conn,
                            const struct mg_catalog_data *data)
{
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];
		struct mg_error err = { 0 };
		struct mg_shown old;

		if (!is_altered(engine, data, table) || !mg_engine__take_shown(engine, table, &old)) {
			continue;
		}
		(void)atomic_fetch_add(&engine->shown_changes, 1);
		if (show_table(engine, conn, data, table, true, old.rows, 0, &err)) {
			mg_log(MG_LOG_INFO, "catalog.show", "altered=%s.%s error=\"%s\"", table->schema,
			       table->name, err.message);
			mg_error_clear(&err);
			(void)drop(engine, conn, &old, &err);
			(void)atomic_fetch_add(&engine->shown_changes, 1);
		}
		atomic_store(&engine->measured, false);
		mg_engine__shown_fini(&old);
	}
}

void mg_engine__show_again(struct mg_engine *engine)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_gate_pass pass;
	struct mg_error err = { 0 };
	bool unshown = false;

	pthread_mutex_lock(&engine->show_lock);
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	int code = mg_gate_enter(engine->gate, &pass, NULL, NULL, &err);

	code = code ? code : mg_duck_connect(engine->duck, &conn, &err);
	if (!code) {
		replace_altered(engine, conn, data);
		drop_what_went(engine, conn, data);
		code = show_schemas(engine, conn, data, &err);
	}
	if (!code) {
		mg_engine__show_objects(engine, conn, data, false, false);
	}
	for (size_t i = 0; !code && i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];

		if (!mg_engine__is_shown(engine, MG_SHOWN_TABLE, table->schema, table->name) &&
		    show_table(engine, conn, data, table, false, table->rows, 0, &err)) {
			bool refused = is_refused(&err);

			mg_log(refused || mg_replica_is_alone(engine->replica) ? MG_LOG_ERROR : MG_LOG_INFO,
			       "catalog.show", "table=%s error=\"%s\"", table->name, err.message);
			unshown = unshown || !refused;
		}
	}
	if (!code) {
		mg_engine__show_objects(engine, conn, data, true, !unshown);
		mg_engine__show_comments(engine, data);
	}
	if (code) {
		mg_log(MG_LOG_ERROR, "catalog.show", "error=\"%s\"", err.message);
	}
	if (!atomic_load(&engine->unshown)) { /* first: who sees the one reads the other */
		atomic_store(&engine->unshown_ms, mg_clock_ms());
	}
	atomic_store(&engine->unshown, unshown || code);
	atomic_store(&engine->shown_version, data->version);
	mg_duck_disconnect(conn);
	mg_gate_leave(engine->gate, &pass);
	mg_catalog_give(engine->catalog, data);
	mg_sequences_follow(engine->sequences);
	pthread_mutex_unlock(&engine->show_lock);
}

uint64_t mg_engine_shown(struct mg_engine *engine)
{
	return atomic_load(&engine->shown_changes);
}

void mg_engine_show(struct mg_engine *engine, bool missing)
{
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	bool old = data->version != atomic_load(&engine->shown_version);

	mg_catalog_give(engine->catalog, data);
	if (old || (missing && atomic_load(&engine->unshown))) {
		mg_engine__show_again(engine);
	}
}

bool mg_engine_hides(const struct mg_engine *engine)
{
	return atomic_load(&engine->unshown);
}

/* ---- tables that grow ---- */

/* A sample that the table has outgrown leads the planner astray.  A table that is small beside the
 * largest has a small one, though it is as it should be. */
static bool is_outgrown(struct mg_engine *engine, const struct mg_table *table, uint64_t rows,
                        double fraction)
{
	double due = table->key_count ? fraction * (double)rows : (double)rows;
	uint64_t before, sample_rows;

	mg_engine_rows(engine, table, &before, &sample_rows);
	return rows > SAMPLE_ROWS_LEAST && sample_rows < SAMPLE_ROWS_LEAST &&
	       (double)sample_rows < due / 2;
}

void mg_engine__measure(struct mg_engine *engine)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_gate_pass pass;
	struct mg_error err = { 0 };
	const struct mg_catalog_data *data = mg_catalog_take(engine->catalog);
	uint64_t *rows = mg_alloc0((data->table_count + 1) * sizeof *rows);
	int code = mg_gate_enter(engine->gate, &pass, NULL, NULL, &err);

	code = code ? code : mg_duck_connect(engine->duck, &conn, &err);

	code = code ? code : measure(conn, data, rows, &err);
	double fraction = sample_fraction(data, rows);

	for (size_t i = 0; !code && i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];
		uint64_t sample_rows;
		bool again = is_outgrown(engine, table, rows[i], fraction);

		code = again ? take_sample(engine, conn, data, table, fraction, &sample_rows, &err) : 0;
		mg_engine__note_rows(engine, table, rows[i], again && !code ? &sample_rows : NULL);
		if (mg_replica_is_coordinator(engine->replica)) {
			(void)mg_growth_look(engine->growth, table, rows[i], 0, NULL, 0);
		}
	}
	if (code) {
		/* A table may go while it is looked at: the next time it is not there. */
		mg_log(MG_LOG_INFO, "catalog.measure", "error=\"%s\"", err.message);
	}
	mg_duck_disconnect(conn);
	mg_gate_leave(engine->gate, &pass);
	mg_free(rows);
	mg_catalog_give(engine->catalog, data);
}
