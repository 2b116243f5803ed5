/*
 * catalog_sm.h - the catalog as the state machine of group 0.
 *
 * A command is the text of the next version of the catalog; it counts when the version before it is
 * the current one, so of two changes that are made at the same time one wins everywhere.  The
 * catalog's file is saved with each version: there is nothing to do for a checkpoint.
 *
 * A snapshot is the text of the version at the freeze, kept in memory; it travels as the file
 * log/snap-catalog-INDEX.json, made when somebody asks, and arrives as log/pull-catalog-INDEX.json.
 *
 * Thread: as shard_sm.h.
 */
#ifndef MG_REPLICA_CATALOG_SM_H
#define MG_REPLICA_CATALOG_SM_H

#include "catalog/catalog.h"
#include "raft/seams.h"
#include "replica/raft_host.h"
#include "replica/snapshot_pull.h"
#include "replica/snapshot_source.h"

struct mg_catalog_sm;

struct mg_catalog_sm_options {
	struct mg_raft_host *host;
	struct mg_catalog *catalog; /* borrowed */
	uint32_t group;
	/* A version was published; on the lane, before who proposed it hears so. */
	void (*on_change)(void *arg);
	void (*on_applied)(void *arg, uint32_t group, uint64_t index); /* raft thread; may be NULL */
	void *arg;
	/* As in shard_sm.h; without them NULL. */
	const char *dir;
	struct mg_snapshot_puller *puller;
	struct mg_snapshot_source *source;
};

int mg_catalog_sm_open(struct mg_catalog_sm **out, const struct mg_catalog_sm_options *options,
                       struct mg_error *err);
struct mg_sm *mg_catalog_sm_seam(struct mg_catalog_sm *sm);
void mg_catalog_sm_stop(struct mg_catalog_sm *sm); /* before mg_raft_host_stop */
void mg_catalog_sm_free(struct mg_catalog_sm *sm);

#endif
