/* anywhere.c - see anywhere.h. */
#include "session/anywhere.h"

#include "base/log.h"
#include "os/clock.h"
#include "replica/replica.h"

#include <inttypes.h>

enum { LOOK_MS = 20 };

void mg_anywhere_init(struct mg_anywhere *anywhere, struct mg_engine *engine,
                      struct mg_query *query, bool only_here)
{
	*anywhere = (struct mg_anywhere){
		.engine = engine,
		.query = query,
		.only_here = only_here,
		.until_ms = mg_clock_ms() + MG_ANYWHERE_MS,
	};
}

static int give_up(struct mg_replica *replica, struct mg_error *err)
{
	uint64_t epoch;

	if (mg_replica_begin(replica, &epoch, err) == 0) { /* from this moment on */
		mg_error_set(err, MG_E_UNAVAILABLE, "this node has only just begun to coordinate writes");
		mg_error_hint(err, "Nothing was done: try again.");
	}
	return err->code;
}

int mg_anywhere_next(struct mg_anywhere *anywhere, uint64_t *node, struct mg_error *err)
{
	struct mg_replica *replica = mg_engine_replica(anywhere->engine);

	for (;;) {
		*node = 0;
		if (mg_replica_is_coordinator(replica)) {
			return 0;
		}
		if (anywhere->only_here) {
			return give_up(replica, err);
		}
		if (mg_query_stopped(anywhere->query)) {
			return mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled");
		}
		*node = mg_replica_coordinator(replica);
		if (*node && *node != mg_replica_self(replica)) {
			return 0;
		}
		if (mg_clock_ms() >= anywhere->until_ms) {
			return give_up(replica, err);
		}
		mg_sleep_ms(LOOK_MS);
	}
}

bool mg_anywhere_again(struct mg_anywhere *anywhere, const struct mg_error *err)
{
	bool passes = err->code == MG_E_UNAVAILABLE || err->code == MG_E_SHUTDOWN; /* of the other */

	if (anywhere->only_here || !passes || mg_query_stopped(anywhere->query) ||
	    mg_clock_ms() >= anywhere->until_ms) {
		return false;
	}
	mg_log(MG_LOG_INFO, "query.again", "query=%s reason=\"%s\"", mg_query_id(anywhere->query),
	       err->message);
	mg_sleep_ms(LOOK_MS);
	return true;
}
