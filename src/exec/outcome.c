/*
 * outcome.c - see outcome.h.
 *
 *     _mg.outcome(key, digest, verb, rows, at_ms)    in each shard that has ever had one
 */
#include "exec/outcome.h"

#include "base/json.h"
#include "base/log.h"
#include "codec/arrow_ipc.h"
#include "exec/gate.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS \
	"\"key\" VARCHAR, \"digest\" UBIGINT, \"verb\" VARCHAR, \"rows\" UBIGINT, \"at_ms\" UBIGINT"

enum { LOOK_MS = 50, EXPIRE_MAX = 2000 };

struct mg_outcomes {
	struct mg_engine *engine;
	pthread_mutex_t make_lock; /* held while a table is made */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	char (*busy)[MG_OUTCOME_KEY_MAX + 1];
	size_t count, cap;
};

struct mg_outcomes *mg_outcomes_new(struct mg_engine *engine)
{
	struct mg_outcomes *outcomes = mg_alloc0(sizeof *outcomes);

	outcomes->engine = engine;
	pthread_mutex_init(&outcomes->make_lock, NULL);
	pthread_mutex_init(&outcomes->lock, NULL);
	mg_cond_init(&outcomes->changed);
	return outcomes;
}

void mg_outcomes_free(struct mg_outcomes *outcomes)
{
	if (outcomes) {
		mg_free(outcomes->busy);
		pthread_cond_destroy(&outcomes->changed);
		pthread_mutex_destroy(&outcomes->lock);
		pthread_mutex_destroy(&outcomes->make_lock);
		mg_free(outcomes);
	}
}

/* ---- who is at it ---- */

static size_t find_busy(const struct mg_outcomes *outcomes, const char *key)
{
	size_t i = 0;

	while (i < outcomes->count && strcmp(outcomes->busy[i], key) != 0) {
		i++;
	}
	return i;
}

/* Under the lock. */
static void rest(struct mg_outcomes *outcomes)
{
	(void)mg_cond_wait_until(&outcomes->changed, &outcomes->lock, mg_clock_ms() + LOOK_MS);
}

int mg_outcome_enter(struct mg_outcomes *outcomes, const char *key, bool (*stopped)(void *arg),
                     void *arg, struct mg_error *err)
{
	size_t len = strlen(key);
	bool ended = false;

	if (!len || len > MG_OUTCOME_KEY_MAX || strspn(key, "0123456789abcdef") != len) {
		return mg_error_set(err, MG_E_USAGE, "a key of a write that is none");
	}
	pthread_mutex_lock(&outcomes->lock);
	while (find_busy(outcomes, key) < outcomes->count && !ended) {
		rest(outcomes);
		ended = stopped(arg);
	}
	if (!ended) {
		mg_grow(outcomes->busy, outcomes->count, outcomes->cap);
		memcpy(outcomes->busy[outcomes->count++], key, len + 1);
	}
	pthread_mutex_unlock(&outcomes->lock);
	return ended ? mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled") : 0;
}

void mg_outcome_leave(struct mg_outcomes *outcomes, const char *key)
{
	pthread_mutex_lock(&outcomes->lock);
	size_t at = find_busy(outcomes, key);

	memcpy(outcomes->busy[at], outcomes->busy[outcomes->count - 1], sizeof *outcomes->busy);
	outcomes->count--;
	pthread_cond_broadcast(&outcomes->changed);
	pthread_mutex_unlock(&outcomes->lock);
}

/* ---- the shards' files ---- */

static int ask(struct mg_outcomes *outcomes, const char *sql, char **out, struct mg_error *err)
{
	struct mg_gate *gate = mg_engine_gate(outcomes->engine);
	struct mg_duck_conn *conn = NULL;
	struct mg_gate_pass pass;
	int code = mg_gate_enter(gate, &pass, NULL, NULL, err);

	*out = NULL;
	code = code ? code : mg_duck_connect(mg_engine_duck(outcomes->engine), &conn, err);
	code = code ? code : mg_duck_text(conn, sql, out, err);
	mg_duck_disconnect(conn);
	mg_gate_leave(gate, &pass);
	return code;
}

/* Shards that have the table, as JSON numbers in an arena. */
static int list_shards(struct mg_outcomes *outcomes, struct mg_arena *arena, struct mg_json **out,
                       struct mg_error *err)
{
	static const char sql[] =
		"SELECT coalesce(to_json(list(database_name[2:]::INTEGER)), '[]')::VARCHAR FROM "
		"duckdb_tables() WHERE schema_name = '_mg' AND table_name = 'outcome' AND "
		"regexp_full_match(database_name, 's[0-9]+')";
	char *text;
	int code = ask(outcomes, sql, &text, err);

	if (!code) {
		char *kept = mg_arena_strdup(arena, text ? text : "[]");

		code = mg_json_parse(arena, kept, strlen(kept), out, err);
	}
	mg_free(text);
	return code;
}

/* Of all shards that have records, with the shard in front. */
static void add_records(struct mg_sb *sql, const struct mg_json *shards)
{
	const char *between = "";

	mg_json_each(item, shards) {
		mg_sb_addf(sql, "%sSELECT %.*s AS shard, * FROM s%.*s._mg.outcome", between,
		           MG_STR_ARG(item->text), MG_STR_ARG(item->text));
		between = " UNION ALL ";
	}
}

static int barrier(struct mg_outcomes *outcomes, const struct mg_json *shards, struct mg_error *err)
{
	uint32_t *list = mg_alloc((shards->count + 1) * sizeof *list);
	size_t count = 0;

	mg_json_each(item, shards) {
		list[count++] = (uint32_t)strtoul(item->text.ptr, NULL, 10);
	}
	int code = mg_replica_read_barrier(mg_engine_replica(outcomes->engine), list, count, err);

	mg_free(list);
	return code;
}

int mg_outcome_refuse(struct mg_error *err)
{
	mg_error_set(err, MG_E_KEY_REUSED, "the Idempotency-Key was used for another request");
	mg_error_hint(err, "Each write needs a key of its own; only the same may come again.");
	return MG_E_KEY_REUSED;
}

static int read_found(struct mg_arena *arena, const char *text, const struct mg_write_key *key,
                      struct mg_done *out, struct mg_error *err)
{
	char *kept = mg_arena_strdup(arena, text);
	struct mg_json *json = NULL;
	int code = mg_json_parse(arena, kept, strlen(kept), &json, err);

	if (code) {
		return code;
	}
	if (strtoull(mg_json_get_text(json, "digest"), NULL, 10) != key->digest) {
		return mg_outcome_refuse(err);
	}
	mg_copy_text(out->verb, sizeof out->verb, mg_json_get_text(json, "verb"));
	out->rows = strtoull(mg_json_get_text(json, "rows"), NULL, 10);
	return 0;
}

/* A replica that is being made anew has no records, and one of them may be the one. */
static int check_whole(const struct mg_outcomes *outcomes, struct mg_error *err)
{
	if (!mg_replica_mends(mg_engine_replica(outcomes->engine))) {
		return 0;
	}
	mg_error_set(err, MG_E_UNAVAILABLE,
	             "a replica of this server is being made anew: what became of the "
	             "Idempotency-Key is not known here");
	mg_error_hint(err, "Try again in a moment.");
	return MG_E_UNAVAILABLE;
}

int mg_outcome_find(struct mg_outcomes *outcomes, const struct mg_write_key *key,
                    struct mg_done *out, bool *found, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *shards = NULL;
	struct mg_sb sql = { 0 };
	char *text = NULL;
	int code = check_whole(outcomes, err);

	*found = false;
	code = code ? code : list_shards(outcomes, arena, &shards, err);
	if (!code && shards->count) {
		code = barrier(outcomes, shards, err);
		mg_sb_add(&sql, "SELECT to_json({digest: digest::VARCHAR, verb: verb, rows: "
		                "rows::VARCHAR})::VARCHAR FROM (");
		add_records(&sql, shards);
		mg_sb_addf(&sql, ") WHERE \"key\" = '%s' LIMIT 1", key->key);
		code = code ? code : ask(outcomes, mg_sb_text(&sql), &text, err);
	}
	if (!code && text) {
		*found = true;
		code = read_found(arena, text, key, out, err);
	}
	mg_free(text);
	mg_sb_fini(&sql);
	mg_arena_free(arena);
	return code;
}

/* ---- records come ---- */

/* Rows of a statement of the engine, for a redo. */
struct batch {
	struct mg_redo *redo;
	uint32_t shard;
	enum mg_redo_kind kind;
	struct mg_arrow_encoder *encoder;
	struct mg_buf *schema;
	uint64_t rows;
};

static int batch_begin(void *arg, const struct ArrowSchema *schema, struct mg_error *err)
{
	struct batch *batch = arg;
	int code = mg_arrow_encoder_new(&batch->encoder, schema, false, err);

	return code ? code : mg_arrow_encode_schema(batch->encoder, &batch->schema, err);
}

static int batch_put(void *arg, uint32_t target, struct ArrowArray *array, struct mg_error *err)
{
	struct batch *batch = arg;
	struct mg_buf *rows = NULL;
	uint64_t raw;
	int code = mg_arrow_encode_batch(batch->encoder, array, &rows, &raw, err);

	(void)target;
	code = code ? code
	            : mg_redo_rows(batch->redo, batch->shard, batch->kind, "_mg", "outcome",
	                           batch->schema, rows, (uint32_t)array->length, err);
	batch->rows += (uint64_t)array->length;
	mg_buf_unref(rows);
	return code;
}

/* *rows: how many. */
static int add_to_redo(struct mg_outcomes *outcomes, struct mg_redo *redo, uint32_t shard,
                       enum mg_redo_kind kind, const char *select, uint64_t *rows,
                       struct mg_error *err)
{
	struct batch batch = { .redo = redo, .shard = shard, .kind = kind };
	const struct mg_duck_sink sink = { .begin = batch_begin, .put = batch_put, .arg = &batch };
	struct mg_gate *gate = mg_engine_gate(outcomes->engine);
	struct mg_duck_conn *conn = NULL;
	struct mg_gate_pass pass;
	int code = mg_gate_enter(gate, &pass, NULL, NULL, err);

	code = code ? code : mg_duck_connect(mg_engine_duck(outcomes->engine), &conn, err);
	code = code ? code : mg_duck_scatter(conn, select, NULL, 1, &sink, err);
	mg_duck_disconnect(conn);
	mg_gate_leave(gate, &pass);
	mg_arrow_encoder_free(batch.encoder);
	mg_buf_unref(batch.schema);
	*rows = batch.rows;
	return code;
}

static bool is_among(const struct mg_json *shards, uint32_t shard)
{
	bool found = false;

	mg_json_each(item, shards) {
		found = found || strtoul(item->text.ptr, NULL, 10) == shard;
	}
	return found;
}

/* One at a time, and only here: who coordinated before has made it or never will. */
static int make_table(struct mg_outcomes *outcomes, uint64_t epoch, uint32_t shard,
                      struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *shards = NULL;

	pthread_mutex_lock(&outcomes->make_lock);
	int code = mg_replica_read_barrier(mg_engine_replica(outcomes->engine), &shard, 1, err);

	code = code ? code : list_shards(outcomes, arena, &shards, err);
	if (!code && !is_among(shards, shard)) {
		struct mg_redo *redo = mg_redo_new();

		mg_redo_create(redo, shard, "_mg", "outcome", COLUMNS);
		code = mg_replica_commit_in(mg_engine_replica(outcomes->engine), epoch, redo, err);
		mg_redo_free(redo);
	}
	pthread_mutex_unlock(&outcomes->make_lock);
	mg_arena_free(arena);
	return code;
}

int mg_outcome_add(struct mg_outcomes *outcomes, uint64_t epoch, const struct mg_write_key *key,
                   const struct mg_done *outcome, struct mg_redo *redo, struct mg_error *err)
{
	const uint32_t *shards;
	uint32_t home = mg_redo_shards(redo, &shards) ? shards[0] : 0;
	uint64_t rows;
	char select[400];
	int code = make_table(outcomes, epoch, home, err);

	if (code == MG_E_UNKNOWN_OUTCOME) { /* of the table alone */
		/* It may come yet, and must not find a table of records: the fence keeps it out. */
		mg_replica_renew(mg_engine_replica(outcomes->engine), epoch);
		code = mg_error_set(err, MG_E_UNAVAILABLE, "a shard did not answer in time");
		mg_error_hint(err, "Nothing was written: try again.");
	}
	(void)snprintf(select, sizeof select,
	               "SELECT '%s' AS \"key\", %" PRIu64 "::UBIGINT AS digest, '%s' AS verb, %" PRIu64
	               "::UBIGINT AS \"rows\", %" PRIu64 "::UBIGINT AS at_ms, 0::USMALLINT AS slot",
	               key->key, key->digest, outcome->verb, outcome->rows,
	               (uint64_t)mg_clock_wall_ms());
	return code ? code : add_to_redo(outcomes, redo, home, MG_REDO_INSERT, select, &rows, err);
}

/* ---- records go ---- */

int mg_outcomes_expire(struct mg_outcomes *outcomes, uint64_t epoch, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *shards = NULL;
	int code = list_shards(outcomes, arena, &shards, err);

	mg_json_each(item, shards) {
		uint32_t shard = (uint32_t)strtoul(item->text.ptr, NULL, 10);
		struct mg_redo *redo = mg_redo_new();
		uint64_t rows = 0;
		char select[200];

		(void)snprintf(select, sizeof select,
		               "SELECT _mg_rid AS rid FROM s%u._mg.outcome WHERE at_ms < %" PRIu64
		               " LIMIT %d",
		               shard, (uint64_t)mg_clock_wall_ms() - MG_OUTCOME_KEEP_MS, EXPIRE_MAX);
		code = code ? code : add_to_redo(outcomes, redo, shard, MG_REDO_DELETE, select, &rows, err);
		if (!code && rows) {
			code = mg_replica_commit_in(mg_engine_replica(outcomes->engine), epoch, redo, err);
		}
		mg_redo_free(redo);
	}
	mg_arena_free(arena);
	return code;
}
