/*
 * fresh.h - what a statement reads is as new as its session asks, or it is not read.
 *
 * With several nodes this one may lag behind.  A statement is planned over what the node shows, and
 * then waits until what it has planned over is as new as asked; when a newer catalog has come
 * meanwhile, it is planned again.
 *
 * Thread: any that may block.
 */
#ifndef MG_EXEC_FRESH_H
#define MG_EXEC_FRESH_H

#include "exec/coordinator.h"
#include "replica/replica.h"

struct mg_fresh {
	struct mg_engine *engine;
	const struct mg_run_settings *settings;
	const struct mg_seen *seen; /* by its session, here or at other nodes; not less is read */
	const uint32_t *shards; /* that it will read; 0: the reference group */
	size_t count;
	bool objects;    /* it asks which tables there are */
	uint64_t shown;  /* mg_engine_shown before it was planned */
	bool missing;    /* planning has failed: an object may not be shown yet */
	struct mg_patience patience; /* with a node that lags behind; then MG_E_TIMEOUT */
};

/* *stale: something else is shown now.  Fails: MG_E_UNAVAILABLE, MG_E_TIMEOUT, MG_E_CANCELLED,
 * MG_E_SHUTDOWN. */
int mg_fresh_await(const struct mg_fresh *fresh, bool *stale, struct mg_error *err);

/* The catalog may name objects that the shards' files do not have yet, and that are not shown until
 * then: wait for them.  Nothing to do, nearly always.  Fails as mg_fresh_await. */
int mg_fresh_show(struct mg_engine *engine, const struct mg_patience *patience,
                  struct mg_error *err);
/* The same for a statement that writes, or that begins a transaction, at a node that may have begun
 * to coordinate just now.  What stays hidden the statement tells. */
void mg_fresh_show_to_writer(struct mg_engine *engine);

/* For the catalog's version that names tables whose rows have just been stored, which may come to a
 * node before they do: how far its shards must be to have them all (codec/seen.h).  Here they are
 * applied first, so the next statement finds the tables shown, also one that waits for nothing.
 * The caller's. */
char *mg_fresh_whole(struct mg_engine *engine);

#endif
