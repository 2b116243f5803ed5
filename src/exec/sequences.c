/*
 * sequences.c - see sequences.h.
 *
 * A sequence's place is its last value, not a count: DuckDB tells no other, and a cycle's values
 * come again anyway.  What lies between two values is counted in steps, over the end of a cycle.
 *
 *     base ... last ........ reserved        window = steps from base to reserved
 *
 * A value is covered when it is at most `window` steps behind `base`.
 */
#include "exec/sequences.h"

#include "base/json.h"
#include "base/log.h"
#include "exec/engine_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STEPS_A_TRY = 2000000,  /* nextval() in one transaction of the planning database */
	STEPS_TO_FOLLOW = 50000 /* while a version of the catalog is shown */
};

/* What this node knows of a sequence as the coordinator of an epoch. */
struct counted {
	uint64_t id, epoch;
	bool based;
	int64_t base;
	uint64_t window;
};

struct mg_sequences {
	struct mg_engine *engine;
	pthread_mutex_t lock; /* held while sequences are moved or reserved; guards what follows */
	struct counted *counted;
	size_t count, cap;
};

/* As the planning database has it. */
struct state {
	int64_t start, min, max, step;
	bool cycle, used; /* used: last counts */
	int64_t last;
};

struct mg_sequences *mg_sequences_new(struct mg_engine *engine)
{
	struct mg_sequences *sequences = mg_alloc0(sizeof *sequences);

	sequences->engine = engine;
	pthread_mutex_init(&sequences->lock, NULL);
	return sequences;
}

void mg_sequences_free(struct mg_sequences *sequences)
{
	if (sequences) {
		pthread_mutex_destroy(&sequences->lock);
		mg_free(sequences->counted);
		mg_free(sequences);
	}
}

static bool is_sequence(const struct mg_object *object)
{
	return mg_text_eq(object->kind, MG_OBJECT_SEQUENCE);
}

bool mg_sequences_drawn(const struct mg_catalog_data *data, const char *text,
                        const struct mg_table *table)
{
	bool any = false;
	bool drawn = strcasestr(text, "nextval") || strcasestr(table->definition, "nextval");

	for (size_t i = 0; i < data->object_count; i++) {
		any = any || is_sequence(&data->objects[i]);
		drawn = drawn || strcasestr(data->objects[i].sql, "nextval");
	}
	return any && drawn;
}

/* ---- steps ---- */

/* From one value to another that is not before it; 0 when it is. */
static uint64_t steps_between(const struct state *state, int64_t from, int64_t to)
{
	__int128 step = state->step;
	__int128 ahead = ((__int128)to - from) / step;

	if (ahead < 0 && state->cycle) {
		__int128 end = step > 0 ? state->max : state->min;
		__int128 begin = step > 0 ? state->min : state->max;

		ahead = (end - from) / step + 1 + (to - begin) / step;
	}
	return ahead < 0 ? 0 : (uint64_t)ahead;
}

/* The value so many steps behind, or the last one that there is. */
static int64_t value_behind(const struct state *state, int64_t from, uint64_t steps)
{
	__int128 step = state->step;
	__int128 end = step > 0 ? state->max : state->min;
	__int128 begin = step > 0 ? state->min : state->max;
	__int128 left = (end - from) / step; /* before the end, or the cycle's */

	if ((__int128)steps <= left) {
		return (int64_t)(from + (__int128)steps * step);
	}
	if (!state->cycle) {
		return (int64_t)(from + left * step);
	}
	__int128 period = (end - begin) / step + 1;
	__int128 rest = ((__int128)steps - left - 1) % period;

	return (int64_t)(begin + rest * step);
}

/* ---- the planning database ---- */

struct question {
	struct mg_arena *arena;
	const char *sql;
	char *text; /* the answer, in arena; or NULL */
};

static int ask(void *arg, struct mg_duck_conn *conn, struct mg_error *err)
{
	struct question *question = arg;
	char *text = NULL;
	int code = mg_duck_text(conn, question->sql, &text, err);

	question->text = text ? mg_arena_strdup(question->arena, text) : NULL;
	mg_free(text);
	return code;
}

static int64_t number_of(const struct mg_json *json, const char *key)
{
	const char *text = mg_json_get_text(json, key);

	return text ? strtoll(text, NULL, 10) : 0;
}

/* *found: there is one. */
static int look(struct mg_engine *engine, struct mg_arena *arena, const struct mg_object *object,
                struct state *out, bool *found, struct mg_error *err)
{
	struct mg_sb sql = { 0 };
	struct question question = { .arena = arena };
	struct mg_json *json = NULL;

	mg_sb_add(&sql, "SELECT to_json({start: start_value::VARCHAR, min: min_value::VARCHAR, max: "
	                "max_value::VARCHAR, step: increment_by::VARCHAR, cycle: \"cycle\", last: "
	                "last_value::VARCHAR})::VARCHAR FROM duckdb_sequences() WHERE database_name = "
	                "'merganser' AND schema_name = ");
	mg_sb_add_literal(&sql, object->schema, strlen(object->schema));
	mg_sb_add(&sql, " AND sequence_name = ");
	mg_sb_add_literal(&sql, object->name, strlen(object->name));
	question.sql = mg_sb_text(&sql);
	int code = mg_plandb_try(engine->plandb, NULL, ask, &question, err);

	*found = !code && question.text;
	if (*found) {
		code = mg_json_parse(arena, question.text, strlen(question.text), &json, err);
		*out = (struct state){
			.start = number_of(json, "start"),
			.min = number_of(json, "min"),
			.max = number_of(json, "max"),
			.step = number_of(json, "step"),
			.cycle = mg_json_get_bool(json, "cycle", false),
			.used = mg_json_get_text(json, "last") != NULL,
			.last = number_of(json, "last"),
		};
		if (!code && !out->step) {
			code = mg_error_set(err, MG_E_INTERNAL, "a sequence without steps");
		}
	}
	mg_sb_fini(&sql);
	return code;
}

/* A transaction that is rolled back does not give values back. */
static int draw(struct mg_engine *engine, struct mg_arena *arena, const struct mg_object *object,
                uint64_t steps, struct mg_error *err)
{
	struct mg_sb path = { 0 }, sql = { 0 };
	struct question question = { .arena = arena };
	int code = 0;

	mg_sb_add_path(&path, object->schema, object->name);
	while (!code && steps) {
		uint64_t now = steps < STEPS_A_TRY ? steps : STEPS_A_TRY;

		mg_sb_clear(&sql);
		mg_sb_add(&sql, "SELECT count(nextval(");
		mg_sb_add_literal(&sql, mg_sb_text(&path), path.len);
		mg_sb_addf(&sql, ")) FROM range(%llu)", (unsigned long long)now);
		question.sql = mg_sb_text(&sql);
		code = mg_plandb_try(engine->plandb, NULL, ask, &question, err);
		steps -= now;
	}
	mg_sb_fini(&path);
	mg_sb_fini(&sql);
	return code;
}

/* How far the planning database lies behind what is reserved. */
static uint64_t steps_left(const struct state *state, const struct mg_object *object)
{
	if (!*object->reserved) {
		return 0;
	}
	int64_t reserved = strtoll(object->reserved, NULL, 10);

	return state->used ? steps_between(state, state->last, reserved)
	                   : steps_between(state, state->start, reserved) + 1;
}

/* ---- epochs ---- */

static struct counted *find_counted(struct mg_sequences *sequences, uint64_t id)
{
	for (size_t i = 0; i < sequences->count; i++) {
		if (sequences->counted[i].id == id) {
			return &sequences->counted[i];
		}
	}
	mg_grow(sequences->counted, sequences->count, sequences->cap);
	sequences->counted[sequences->count] = (struct counted){ .id = id };
	return &sequences->counted[sequences->count++];
}

static int begin(struct mg_sequences *sequences, struct mg_arena *arena,
                 const struct mg_object *object, uint64_t epoch, struct mg_error *err)
{
	struct counted *counted = find_counted(sequences, object->id);
	struct state state;
	bool found;

	if (counted->epoch == epoch) {
		return 0;
	}
	int code = look(sequences->engine, arena, object, &state, &found, err);

	if (code || !found) {
		return code;
	}
	code = draw(sequences->engine, arena, object, steps_left(&state, object), err);
	if (!code) {
		*counted = (struct counted){
			.id = object->id,
			.epoch = epoch,
			.based = *object->reserved != '\0',
			.base = strtoll(object->reserved, NULL, 10),
		};
	}
	return code;
}

/* ---- reserving ---- */

struct reservation {
	struct mg_sequences *sequences;
	uint64_t id, epoch;
	char value[32];
};

static int reserve(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                   struct mg_error *err)
{
	const struct reservation *reservation = arg;
	uint64_t epoch = 0;
	int code = mg_replica_begin(reservation->sequences->engine->replica, &epoch, err);

	if (!code && epoch != reservation->epoch) {
		code = mg_error_set(err, MG_E_UNAVAILABLE, "another node has coordinated writes meanwhile");
		mg_error_hint(err, "Nothing was done: try again.");
	}
	for (size_t i = 0; !code && i < data->object_count; i++) {
		if (is_sequence(&data->objects[i]) && data->objects[i].id == reservation->id) {
			data->objects[i].reserved = mg_arena_strdup(arena, reservation->value);
		}
	}
	return code;
}

static int keep(struct mg_sequences *sequences, struct mg_arena *arena,
                const struct mg_object *object, uint64_t epoch, struct mg_error *err)
{
	struct counted *counted = find_counted(sequences, object->id);
	struct reservation reservation = { sequences, object->id, epoch, "" };
	struct state state;
	bool found;
	int code = look(sequences->engine, arena, object, &state, &found, err);

	if (code || !found || !state.used ||
	    (counted->epoch == epoch && counted->based &&
	     steps_between(&state, counted->base, state.last) <= counted->window)) {
		return code;
	}
	int64_t to = value_behind(&state, state.last, MG_SEQUENCE_RESERVE);

	(void)snprintf(reservation.value, sizeof reservation.value, "%lld", (long long)to);
	code = mg_catalog_change(sequences->engine->catalog, reserve, &reservation, err);
	if (!code) {
		*counted = (struct counted){ .id = object->id,
			                         .epoch = epoch,
			                         .based = true,
			                         .base = state.last,
			                         .window = steps_between(&state, state.last, to) };
	}
	return code;
}

/* One of them after the other, in an epoch. */
static int each(struct mg_sequences *sequences, uint64_t epoch,
                int (*work)(struct mg_sequences *sequences, struct mg_arena *arena,
                            const struct mg_object *object, uint64_t epoch, struct mg_error *err),
                struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	int code = 0;

	pthread_mutex_lock(&sequences->lock);
	const struct mg_catalog_data *data = mg_catalog_take(sequences->engine->catalog);

	for (size_t i = 0; !code && i < data->object_count; i++) {
		code = is_sequence(&data->objects[i])
		           ? work(sequences, arena, &data->objects[i], epoch, err)
		           : 0;
	}
	mg_catalog_give(sequences->engine->catalog, data);
	pthread_mutex_unlock(&sequences->lock);
	mg_arena_free(arena);
	return code;
}

int mg_sequences_begin(struct mg_sequences *sequences, uint64_t epoch, struct mg_error *err)
{
	return each(sequences, epoch, begin, err) ? mg_error_wrap(err, "while a sequence goes on") : 0;
}

int mg_sequences_keep(struct mg_sequences *sequences, uint64_t epoch, struct mg_error *err)
{
	return each(sequences, epoch, keep, err)
	           ? mg_error_wrap(err, "while values of a sequence are reserved")
	           : 0;
}

/* ---- nodes that do not coordinate ---- */

void mg_sequences_follow(struct mg_sequences *sequences)
{
	/* Who holds it may wait for the catalog, which waits for us. */
	if (pthread_mutex_trylock(&sequences->lock)) {
		return;
	}
	struct mg_arena *arena = mg_arena_new();
	const struct mg_catalog_data *data = mg_catalog_take(sequences->engine->catalog);
	struct mg_error err = { 0 };

	for (size_t i = 0; !err.code && i < data->object_count; i++) {
		const struct mg_object *object = &data->objects[i];
		struct state state;
		bool found = false;

		if (!is_sequence(object) || !*object->reserved ||
		    mg_replica_epoch(sequences->engine->replica) ||
		    look(sequences->engine, arena, object, &state, &found, &err) || !found) {
			continue;
		}
		uint64_t steps = steps_left(&state, object);

		(void)draw(sequences->engine, arena, object,
		           steps < STEPS_TO_FOLLOW ? steps : STEPS_TO_FOLLOW, &err);
	}
	if (err.code) {
		mg_log(MG_LOG_INFO, "sequence.follow", "error=\"%s\"", err.message);
	}
	mg_catalog_give(sequences->engine->catalog, data);
	pthread_mutex_unlock(&sequences->lock);
	mg_arena_free(arena);
}

int mg_sequences_resume(struct mg_engine *engine, const struct mg_object *object, struct mg_sb *out,
                        struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct state state;
	bool found = false;
	int code = *object->reserved ? look(engine, arena, object, &state, &found, err) : 0;

	if (!code && found) {
		struct mg_sb path = { 0 };

		mg_sb_add_path(&path, object->schema, object->name);
		mg_sb_addf(out,
		           "CREATE OR REPLACE SEQUENCE %s INCREMENT BY %lld MINVALUE %lld MAXVALUE %lld "
		           "START WITH %lld %s; SELECT nextval(",
		           mg_sb_text(&path), (long long)state.step, (long long)state.min,
		           (long long)state.max, strtoll(object->reserved, NULL, 10),
		           state.cycle ? "CYCLE" : "NO CYCLE");
		mg_sb_add_literal(out, mg_sb_text(&path), path.len);
		mg_sb_add_char(out, ')');
		mg_sb_fini(&path);
	}
	mg_arena_free(arena);
	return code;
}
