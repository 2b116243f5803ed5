/*
 * snapshot_pull.h - fetches snapshots from other nodes.
 *
 *     new -> want ... -> done -> ... -> stop -> free
 *
 *     part   PART.part    what has come so far       PART.have   which chunks of it are good
 *     whole  PATH         named so only when every chunk and the whole were compared, the engine
 * and the format fit, `check` agreed, and all is on the disk
 *
 * Rule: nothing of a peer counts before its hash was compared.  A peer whose bytes do not fit its
 * own manifest is logged and left; another one that is connected is asked.
 *
 * It goes on where it was: after a lost connection, and after a start, when a peer still has the
 * same snapshot (by its hash).  At most two chunks are under way; connections are of their own
 * (mg_peers_dial_bulk), so raft's frames do not stand in line behind them.
 *
 * Thread: one of its own, which does one pull after the other.  stop before mg_peers_stop, free
 * after the loops.
 */
#ifndef MG_REPLICA_SNAPSHOT_PULL_H
#define MG_REPLICA_SNAPSHOT_PULL_H

#include "replica/peers.h"
#include "replica/snapshot_manifest.h"

struct mg_snapshot_puller;

struct mg_snapshot_want {
	uint32_t group;
	uint64_t index;     /* 0: the newest that the peer has */
	uint64_t peer;      /* asked first */
	bool only;          /* and nobody else */
	const char *path;   /* copied, as the next two */
	const char *part;   /* the same for all snapshots of the group, in the same directory */
	const char *engine; /* "": none */
	uint32_t format;
	/* Is the whole file, still under another name, what it should be?  Puller's thread; may be
	 * NULL. */
	int (*check)(void *arg, const char *path, const struct mg_snapshot_manifest *manifest,
	             struct mg_error *err);
	/* It is over, once.  manifest: of the file at path, until done returns; NULL with an error.
	 * Puller's thread, or the one that stops it. */
	void (*done)(void *arg, const struct mg_snapshot_manifest *manifest,
	             const struct mg_error *err);
	void *arg;
};

int mg_snapshot_puller_new(struct mg_snapshot_puller **out, struct mg_peers *peers,
                           struct mg_error *err);
void mg_snapshot_puller_want(struct mg_snapshot_puller *puller,
                             const struct mg_snapshot_want *want); /* any thread */
/* What is under way or waits ends with MG_E_SHUTDOWN.  Again is fine. */
void mg_snapshot_puller_stop(struct mg_snapshot_puller *puller);
void mg_snapshot_puller_free(struct mg_snapshot_puller *puller); /* NULL is fine */

#endif
