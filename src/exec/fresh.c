/*
 * fresh.c - see fresh.h.
 *
 * What a linearizable read awaits holds all that anybody has seen.  Others wait for what their own
 * session has.
 */
#include "exec/fresh.h"

#include "codec/seen.h"
#include "exec/engine.h"
#include "replica/replica.h"

enum { WHOLE_MS_MAX = 10 * 1000, SHOW_MS_MAX = 10 * 1000, SHOWS_MAX = 8 };

static bool is_new_enough(const struct mg_fresh *fresh, struct mg_replica *replica)
{
	const struct mg_run_settings *settings = fresh->settings;

	switch (settings->consistency) {
	case MG_CONSISTENCY_ANY:
		return true;
	case MG_CONSISTENCY_BOUNDED:
		return mg_replica_is_fresh(replica, fresh->shards, fresh->count,
		                           settings->max_staleness_ms);
	case MG_CONSISTENCY_LINEARIZABLE:
		break;
	}
	return mg_replica_is_alone(replica);
}

/* The caller's. */
static uint32_t *all_shards(const struct mg_replica *replica, size_t *count)
{
	*count = (size_t)mg_replica_shards(replica) + 1;
	uint32_t *all = mg_alloc(*count * sizeof *all);

	for (size_t i = 0; i < *count; i++) {
		all[i] = (uint32_t)i;
	}
	return all;
}

/* A shard may be ahead of the version of the catalog that is shown, and have let go of what an
 * ALTER has replaced: the next barrier brings the version that says so, unless there was one more.
 */
int mg_fresh_show(struct mg_engine *engine, const struct mg_patience *patience,
                  struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(engine);
	size_t count;
	uint32_t *all = all_shards(replica, &count);
	int code = 0;

	mg_engine_show(engine, false);
	for (int i = 0; !code && i < SHOWS_MAX && mg_engine_hides(engine); i++) {
		code = mg_replica_try_barrier(replica, all, count, patience, err);
		if (!code) {
			mg_engine_show(engine, true);
		}
	}
	mg_free(all);
	return code;
}

void mg_fresh_show_to_writer(struct mg_engine *engine)
{
	const struct mg_patience patience = { .ms = SHOW_MS_MAX };
	struct mg_error ignored = { 0 };

	(void)mg_fresh_show(engine, &patience, &ignored);
}

/* A table that is not found may be one whose rows are on their way: its version of the catalog says
 * how far the shards must be. */
static int await_whole(const struct mg_fresh *fresh, struct mg_replica *replica,
                       struct mg_error *err)
{
	struct mg_catalog *catalog = mg_engine_catalog(fresh->engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	struct mg_seen whole = { 0 };
	int code = 0;

	for (size_t i = 0; !code && i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];
		struct mg_seen one = { 0 };

		if (table->whole && *table->whole && !mg_engine_shows(fresh->engine, table)) {
			code = mg_seen_parse(&one, mg_str(table->whole), err);
			mg_seen_merge(&whole, &one);
			mg_seen_fini(&one);
		}
	}
	mg_catalog_give(catalog, data);
	whole.all = false; /* nobody waits for that (engine_tables.c) */
	code = code ? code
	            : mg_replica_await_seen(replica, &whole, fresh->shards, fresh->count,
	                                    &fresh->patience, err);
	mg_seen_fini(&whole);
	return code;
}

static int await_missing(const struct mg_fresh *fresh, struct mg_replica *replica,
                         struct mg_error *err)
{
	int code = mg_replica_await_accepted(replica, &fresh->patience, err);

	return code ? code : await_whole(fresh, replica, err);
}

/* It asks which tables there are: a table that its session has seen is in all of its shards. */
static int await_objects(const struct mg_fresh *fresh, struct mg_replica *replica,
                         struct mg_error *err)
{
	size_t count;
	uint32_t *all = all_shards(replica, &count);
	int code = mg_replica_await_seen(replica, fresh->seen, all, count, &fresh->patience, err);

	mg_free(all);
	return code;
}

/* Whatever is asked for, one sees what one has written here, or seen anywhere, and tables that have
 * come. */
static int await_here(const struct mg_fresh *fresh, struct mg_replica *replica, bool *stale,
                      struct mg_error *err)
{
	int code = fresh->objects ? await_objects(fresh, replica, err)
	                          : mg_replica_await_seen(replica, fresh->seen, fresh->shards,
	                                                  fresh->count, &fresh->patience, err);

	if (!code) {
		code = fresh->missing
		           ? await_missing(fresh, replica, err)
		           : mg_replica_await_acked(replica, fresh->shards, fresh->count,
		                                    &fresh->patience, err);
	}
	if (!code && (fresh->missing || fresh->seen->any)) {
		mg_engine_show(fresh->engine, fresh->missing || fresh->objects);
		*stale = mg_engine_shown(fresh->engine) != fresh->shown;
	}
	return code;
}

int mg_fresh_await(const struct mg_fresh *fresh, bool *stale, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(fresh->engine);

	*stale = false;
	if (mg_replica_whole(replica, fresh->shards, fresh->count, err) ||
	    (fresh->missing && mg_replica_mends(replica))) {
		return mg_error_set(err, MG_E_TIMEOUT, "this node is making a damaged replica anew");
	}
	if (is_new_enough(fresh, replica)) {
		return await_here(fresh, replica, stale, err);
	}
	int code =
		mg_replica_try_barrier(replica, fresh->shards, fresh->count, &fresh->patience, err);

	if (!code && (fresh->missing || fresh->objects)) {
		code = mg_fresh_show(fresh->engine, &fresh->patience, err);
	} else if (!code) {
		mg_engine_show(fresh->engine, false);
	}
	if (!code) {
		*stale = mg_engine_shown(fresh->engine) != fresh->shown;
	}
	return code;
}

char *mg_fresh_whole(struct mg_engine *engine)
{
	const struct mg_patience patience = { .ms = WHOLE_MS_MAX, .patient = true };
	struct mg_replica *replica = mg_engine_replica(engine);
	struct mg_error late = { 0 };
	struct mg_seen seen = { 0 };
	struct mg_sb text = { 0 };

	mg_replica_note_seen(replica, &seen);
	(void)mg_replica_await_accepted(replica, &patience, &late);
	mg_seen_add(&text, &seen);
	char *whole = mg_sb_take(&text);

	mg_sb_fini(&text);
	mg_seen_fini(&seen);
	return whole;
}
