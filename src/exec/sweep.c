/* sweep.c - see sweep.h. */
#include "exec/sweep.h"

#include "base/json.h"
#include "base/log.h"
#include "exec/gate.h"
#include "replica/replica.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables that no version of the catalog names yet ---- */

struct made {
	uint64_t id;
	bool passed_over; /* by a sweep */
};

static struct {
	pthread_mutex_t lock;
	struct made *ids;
	size_t count, cap;
	bool again;
} making = { .lock = PTHREAD_MUTEX_INITIALIZER };

void mg_sweep_spare(uint64_t id)
{
	pthread_mutex_lock(&making.lock);
	mg_grow(making.ids, making.count, making.cap);
	making.ids[making.count++] = (struct made){ .id = id };
	pthread_mutex_unlock(&making.lock);
}

void mg_sweep_spare_no_more(uint64_t id)
{
	pthread_mutex_lock(&making.lock);
	for (size_t i = 0; i < making.count; i++) {
		if (making.ids[i].id == id) {
			making.again = making.again || making.ids[i].passed_over;
			making.ids[i] = making.ids[--making.count];
			break;
		}
	}
	if (!making.count) {
		mg_free(making.ids);
		making.ids = NULL;
		making.cap = 0;
	}
	pthread_mutex_unlock(&making.lock);
}

bool mg_sweep_is_due(void)
{
	pthread_mutex_lock(&making.lock);
	bool due = making.again;

	making.again = false;
	pthread_mutex_unlock(&making.lock);
	return due;
}

/* stored: as mg_table_stored has it. */
static bool is_being_made(const char *stored)
{
	const char *hash = strrchr(stored, '#');
	uint64_t id = hash ? strtoull(hash + 1, NULL, 10) : 0;
	bool found = false;

	pthread_mutex_lock(&making.lock);
	for (size_t i = 0; i < making.count && !found; i++) {
		found = making.ids[i].id == id;
		making.ids[i].passed_over = making.ids[i].passed_over || found;
	}
	pthread_mutex_unlock(&making.lock);
	return found;
}

/* ---- what was left behind ---- */

static bool is_named(struct mg_arena *arena, const struct mg_catalog_data *data, const char *schema,
                     const char *stored)
{
	for (size_t i = 0; i < data->table_count; i++) {
		if (mg_text_eq_nocase(data->tables[i].schema, schema) &&
		    mg_text_eq(mg_table_stored(arena, &data->tables[i]), stored)) {
			return true;
		}
	}
	return false;
}

/* What is in the files, before it is looked at who names it: a table that comes meanwhile is not
 * found, and one that was found is named by who has finished it. */
static int list_stored(struct mg_engine *engine, struct mg_arena *arena, struct mg_json **out,
                       struct mg_error *err)
{
	static const char sql[] =
		"SELECT coalesce(to_json(list({d: database_name, s: schema_name, t: table_name})), "
		"'[]')::VARCHAR FROM duckdb_tables() WHERE regexp_full_match(database_name, 's[0-9]+') "
		"AND schema_name <> '_mg'";
	struct mg_duck_conn *conn = NULL;
	struct mg_gate *gate = mg_engine_gate(engine);
	struct mg_gate_pass pass;
	char *text = NULL;
	int code = mg_gate_enter(gate, &pass, NULL, NULL, err);

	code = code ? code : mg_duck_connect(mg_engine_duck(engine), &conn, err);
	code = code ? code : mg_duck_text(conn, sql, &text, err);
	if (!code) {
		char *kept = mg_arena_strdup(arena, text ? text : "[]");

		code = mg_json_parse(arena, kept, strlen(kept), out, err);
	}
	mg_free(text);
	mg_duck_disconnect(conn);
	mg_gate_leave(gate, &pass);
	return code;
}

static void find_left(struct mg_engine *engine, struct mg_arena *arena, const struct mg_json *list,
                      struct mg_redo *redo)
{
	bool *made = mg_arena_new_array(arena, bool, list->count + 1);
	size_t i = 0;

	mg_json_each(item, list) {
		made[i++] = is_being_made(mg_json_get_text(item, "t"));
	}
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(engine));

	i = 0;
	mg_json_each(item, list) {
		const char *schema = mg_json_get_text(item, "s"), *table = mg_json_get_text(item, "t");
		uint32_t shard = (uint32_t)strtoul(mg_json_get_text(item, "d") + 1, NULL, 10);

		if (!made[i++] && !is_named(arena, data, schema, table)) {
			mg_log(MG_LOG_INFO, "table.swept", "shard=%u table=%s.%s", shard, schema, table);
			mg_redo_drop(redo, shard, schema, table);
		}
	}
	mg_catalog_give(mg_engine_catalog(engine), data);
}

static int change_nothing(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                          struct mg_error *err)
{
	(void)arg, (void)arena, (void)data, (void)err;
	return 0;
}

int mg_sweep(struct mg_engine *engine, uint64_t epoch, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_redo *redo = mg_redo_new();
	struct mg_json *list = NULL;
	const uint32_t *shards;
	int code = list_stored(engine, arena, &list, err);

	if (!code) {
		find_left(engine, arena, list, redo);
	}
	/* A version of the catalog that names one of them may still be on its way, from when this node
	 * coordinated before: it is for the version before this one, and comes too late. */
	if (!code && mg_redo_shards(redo, &shards) > 0) {
		code = mg_catalog_change(mg_engine_catalog(engine), change_nothing, NULL, err);
		code = code ? code : mg_replica_commit_in(mg_engine_replica(engine), epoch, redo, err);
	}
	mg_redo_free(redo);
	mg_arena_free(arena);
	return code;
}
