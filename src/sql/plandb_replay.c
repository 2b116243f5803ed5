/*
 * plandb_replay.c - what a transaction of a client has defined, for its own statements.
 *
 * The planning database shows what is committed.  A statement of a transaction that has made or
 * dropped something is planned, or tried, inside of a transaction of the planning database in which
 * that is done once more and which is rolled back.  DuckDB refuses to make one name in two
 * transactions at once, so these, and whoever changes what is shown, take turns: replay_lock.
 */
#include "sql/plandb_int.h"
#include "store/duck.h"

static int run_all(struct mg_plan_conn *conn, const struct mg_plan_replay *replay,
                   struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; !code && i < replay->count; i++) {
		code = mg_duck_exec(conn->duck, replay->statements[i], err);
	}
	if (code && code != MG_E_CANCELLED && code != MG_E_TIMEOUT) {
		struct mg_error why = *err;

		code = mg_error_set(err, MG_E_CONFLICT,
		                    "what this transaction has defined does not fit any more: %s",
		                    why.message);
		mg_error_hint(err, "Another client was first: ROLLBACK, and run the transaction again.");
	}
	return code;
}

int mg_plandb__replay(struct mg_plandb *db, struct mg_plan_conn *conn,
                      const struct mg_plan_settings *settings, bool begun, struct mg_error *err)
{
	bool alone = settings && settings->alone;

	if (!settings || (!settings->replay.count && !alone)) {
		return 0;
	}
	pthread_mutex_lock(&db->replay_lock);
	conn->replays = true;
	int code = begun || !settings->replay.count ? 0 : mg_duck_exec(conn->duck, "BEGIN", err);

	conn->replayed = !code && settings->replay.count;
	return code ? code : run_all(conn, &settings->replay, err);
}

void mg_plandb__replay_end(struct mg_plandb *db, struct mg_plan_conn *conn, bool roll_back)
{
	struct mg_error ignored;

	if (conn->replayed && roll_back) {
		(void)mg_plandb__roll_back(conn, &ignored);
	}
	if (conn->replays) {
		pthread_mutex_unlock(&db->replay_lock);
	}
	conn->replays = conn->replayed = false;
}

int mg_plandb_replay(struct mg_plandb *db, struct mg_duck_conn *duck,
                     const struct mg_plan_replay *replay, bool begun, struct mg_error *err)
{
	const struct mg_plan_settings settings = { .replay = *replay };
	int code = 0;

	for (size_t i = 0; i < MG_PLANDB_POOL; i++) {
		if (db->conns[i].duck == duck) {
			code = mg_plandb__replay(db, &db->conns[i], &settings, begun, err);
		}
	}
	return code;
}
