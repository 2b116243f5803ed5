/*
 * snapshot_source.h - gives other nodes the snapshots of this one.
 *
 *     new -> add a state machine for each group -> mg_peers_set_bulk(take) -> ... -> stop -> free
 *
 * Rule: what a manifest describes does not change: it is a copy of the file as of the freeze at its
 * index, made when somebody asks for that index, and no checkpoint runs while it is made.  Who asks
 * for an index that the file has left behind is refused and a snapshot is asked of the group, so
 * that the leader's next offer is one that is there.
 *
 * A copy stays until nobody has asked for it for keep_ms, or two newer ones of its group are there.
 *
 * Thread: one of its own reads, copies and hashes; loops only carry frames; the raft thread is
 * asked what a group's snapshot is.  stop before the loops stop, free after mg_raft_host_close.
 *
 * Bounds: MG_SNAPSHOT_CLIENTS connections; REQUESTS_MAX requests of one that are not answered.
 */
#ifndef MG_REPLICA_SNAPSHOT_SOURCE_H
#define MG_REPLICA_SNAPSHOT_SOURCE_H

#include "net/net.h"
#include "replica/raft_host.h"

#define MG_SNAPSHOT_CLIENTS 64

struct mg_snapshot_source;

struct mg_snapshot_source_options {
	struct mg_raft_host *host;
	uint64_t keep_ms;     /* 0: 10 minutes */
	uint64_t bytes_per_s; /* of chunks, over all connections; 0: no limit */
};

int mg_snapshot_source_new(struct mg_snapshot_source **out,
                           const struct mg_snapshot_source_options *options, struct mg_error *err);
/* For mg_peers_set_bulk; arg: the source. */
bool mg_snapshot_source_take(void *arg, struct mg_conn *conn, uint64_t node, size_t skip);
/* Ends its thread; whoever asks is hung up on.  Again is fine. */
void mg_snapshot_source_stop(struct mg_snapshot_source *source);
void mg_snapshot_source_free(struct mg_snapshot_source *source); /* NULL is fine */

/* How a state machine makes copies. */
struct mg_snapshot_state {
	uint32_t group;
	const char *engine; /* of the file; "" for none; borrowed */
	uint32_t format;
	/* The path, as heap text, of a durable file that holds exactly the state at index, and will not
	 * change; whose it is then.  Fails: MG_E_NOT_FOUND: it is at another index.  Source's thread.
	 */
	int (*copy)(void *arg, uint64_t index, char **path, struct mg_error *err);
	void *arg;
};
void mg_snapshot_source_add(struct mg_snapshot_source *source,
                            const struct mg_snapshot_state *state);
/* Its copy is not called any more when this returns; files stay, for the next life. */
void mg_snapshot_source_remove(struct mg_snapshot_source *source, uint32_t group);

#endif
