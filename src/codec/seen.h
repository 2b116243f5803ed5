/*
 * seen.h - what a session has seen, as a small text that goes with it from server to server.
 *
 *     v1.CLUSTER.VERSION.INDEX.INDEX ... .CHECK
 *
 * Hexadecimal numbers without leading zeros: a hash of the cluster's id (8 digits), the version of
 * the catalog, for each shard from 0 on the index in its group's log up to which the session has
 * seen, and a hash of all before (8 digits).  Where that would be longer than MG_SEEN_TEXT_MAX it
 * is "v1.CLUSTER.all.CHECK": whoever is to show what the session has seen asks the shards' leaders.
 *
 * Rule: what one has seen only grows; of two the maximum, number by number, has seen both.
 *
 * Pure; owner: the thread that has the struct.
 */
#ifndef MG_CODEC_SEEN_H
#define MG_CODEC_SEEN_H

#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MG_SEEN_TEXT_MAX 2048
#define MG_SEEN_SHARDS_MAX (MG_SEEN_TEXT_MAX / 2)
#define MG_SEEN_TEXTS_MAX 32 /* in a list */

/* A zeroed one has seen nothing. */
struct mg_seen {
	bool any;         /* something */
	bool all;         /* more than can be told */
	uint32_t cluster; /* mg_seen_cluster of its id */
	uint64_t version; /* of the catalog */
	uint64_t *indexes; /* by shard; owned */
	size_t count, cap;
};

void mg_seen_fini(struct mg_seen *seen); /* has seen nothing then */
uint32_t mg_seen_cluster(const char *cluster_id);
/* This version of the catalog, and this index of a shard; of one cluster. */
void mg_seen_version(struct mg_seen *seen, uint32_t cluster, uint64_t version);
void mg_seen_index(struct mg_seen *seen, size_t shard, uint64_t index);
/* Both; when other is of another cluster it replaces what was seen. */
void mg_seen_merge(struct mg_seen *seen, const struct mg_seen *other);
/* Nothing when nothing was seen. */
void mg_seen_add(struct mg_sb *out, const struct mg_seen *seen);
/* One text, or several with commas and blanks between, which are merged; seen is a zeroed one.
 * Fails: MG_E_USAGE for what mg_seen_add has not made, or of two clusters. */
int mg_seen_parse(struct mg_seen *seen, struct mg_str text, struct mg_error *err);

#endif
