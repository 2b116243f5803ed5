/*
 * catalog_sm.c - see catalog_sm.h.
 *
 * Entries that change nothing (barriers, changes that lost) move the index in memory alone, until a
 * snapshot saves it.
 */
#include "replica/catalog_sm.h"

#include "base/assert.h"
#include "base/log.h"
#include "replica/lane.h"

#include <inttypes.h>
#include <stdio.h>

struct mg_catalog_sm {
	struct mg_sm seam;
	struct mg_catalog_sm_options options;
	struct mg_lane *lane;
	const struct mg_entry *entries; /* in hand until answered */
	size_t entry_count;
	uint64_t index; /* applied, of the lane */
	int failed, frozen;
};

static struct mg_catalog_sm *of(struct mg_sm *seam)
{
	return (struct mg_catalog_sm *)seam;
}

static struct mg_group *group_of(struct mg_catalog_sm *sm)
{
	struct mg_raft_node *node = mg_raft_host_node(sm->options.host);

	return node ? mg_raft_node_group(node, sm->options.group) : NULL;
}

static uint64_t version_of(struct mg_catalog *catalog)
{
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint64_t version = data->version;

	mg_catalog_give(catalog, data);
	return version;
}

static void tell_applied(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_group *group = group_of(sm);

	if (group && sm->failed) {
		mg_group_fail(group, sm->failed);
	} else if (group) {
		if (sm->options.on_applied) { /* first: who proposed it looks there */
			sm->options.on_applied(sm->options.arg, sm->options.group, sm->index);
		}
		mg_group_applied(group, sm->index);
	}
}

static void apply_batch(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_error err = { 0 };
	uint64_t before = version_of(sm->options.catalog);

	for (size_t i = 0; !sm->failed && i < sm->entry_count; i++) {
		const struct mg_entry *entry = &sm->entries[i];

		if (entry->type == MG_ENTRY_COMMAND) {
			sm->failed = mg_catalog_adopt(sm->options.catalog, (const char *)entry->data,
			                              entry->size, entry->index, &err);
		}
	}
	sm->index = sm->entries[sm->entry_count - 1].index;
	if (sm->failed) {
		mg_log(MG_LOG_ERROR, "catalog.broken", "error=\"%s\"", err.message);
	} else if (sm->options.on_change && version_of(sm->options.catalog) != before) {
		sm->options.on_change(sm->options.arg);
	}
	mg_raft_host_post(sm->options.host, tell_applied, sm);
}

static void sm_apply(struct mg_sm *seam, const struct mg_entry *entries, size_t count)
{
	struct mg_catalog_sm *sm = of(seam);

	mg_assert(count > 0);
	sm->entries = entries;
	sm->entry_count = count;
	mg_lane_run(sm->lane, apply_batch, sm);
}

static uint64_t sm_durable_index(struct mg_sm *seam)
{
	struct mg_catalog *catalog = of(seam)->options.catalog;
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint64_t applied = data->applied;

	mg_catalog_give(catalog, data);
	return applied;
}

static void tell_frozen(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_group *group = group_of(sm);
	char manifest[64];
	int size = snprintf(manifest, sizeof manifest, "{\"version\":%" PRIu64 "}",
	                    version_of(sm->options.catalog));

	if (group) {
		mg_group_frozen(group, sm->frozen, manifest, (size_t)size);
	}
}

static void freeze_now(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_error err = { 0 };

	sm->frozen = mg_catalog_note_applied(sm->options.catalog, sm->index, &err);
	mg_raft_host_post(sm->options.host, tell_frozen, sm);
}

static void sm_freeze(struct mg_sm *seam)
{
	struct mg_catalog_sm *sm = of(seam);

	mg_lane_run(sm->lane, freeze_now, sm);
}

/* A cluster of one has nobody to pull from. */
static void sm_pull(struct mg_sm *seam, uint64_t peer, const struct mg_manifest *manifest)
{
	struct mg_group *group = group_of(of(seam));

	(void)peer;
	(void)manifest;
	if (group) {
		mg_group_pulled(group, MG_E_UNSUPPORTED);
	}
}

static void sm_adopt(struct mg_sm *seam, const struct mg_manifest *manifest)
{
	struct mg_group *group = group_of(of(seam));

	(void)manifest;
	if (group) {
		mg_group_adopted(group, MG_E_UNSUPPORTED);
	}
}

static const struct mg_sm_ops ops = {
	.apply = sm_apply,
	.durable_index = sm_durable_index,
	.freeze = sm_freeze,
	.pull = sm_pull,
	.adopt = sm_adopt,
};

int mg_catalog_sm_open(struct mg_catalog_sm **out, const struct mg_catalog_sm_options *options,
                       struct mg_error *err)
{
	struct mg_catalog_sm *sm = mg_alloc0(sizeof *sm);

	*out = NULL;
	sm->seam.ops = &ops;
	sm->options = *options;
	int code = mg_lane_start(&sm->lane, err);

	if (code) {
		mg_free(sm);
		return code;
	}
	sm->index = sm_durable_index(&sm->seam);
	*out = sm;
	return 0;
}

struct mg_sm *mg_catalog_sm_seam(struct mg_catalog_sm *sm)
{
	return &sm->seam;
}

void mg_catalog_sm_stop(struct mg_catalog_sm *sm)
{
	mg_lane_stop(sm->lane);
}

void mg_catalog_sm_free(struct mg_catalog_sm *sm)
{
	if (sm) {
		mg_lane_free(sm->lane);
		mg_free(sm);
	}
}
