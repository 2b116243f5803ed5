/*
 * catalog_sm.c - see catalog_sm.h.
 *
 * Entries that change nothing (barriers, changes that lost) move the index in memory alone, until a
 * snapshot saves it.
 */
#include "replica/catalog_sm.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/file.h"
#include "replica/lane.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES_MAX (256u << 20)

struct mg_catalog_sm {
	struct mg_sm seam;
	struct mg_catalog_sm_options options;
	struct mg_lane *lane;
	const struct mg_entry *entries; /* in hand until answered */
	size_t entry_count;
	uint64_t index; /* applied, of the lane */
	int failed, frozen, pulled, adopted;
	uint64_t adopt_index;
	pthread_mutex_t lock;
	const struct mg_catalog_data *snapshot; /* as of the last freeze; guarded by lock */
};

static struct mg_catalog_sm *of(struct mg_sm *seam)
{
	return (struct mg_catalog_sm *)seam;
}

static struct mg_group *group_of(struct mg_catalog_sm *sm)
{
	return mg_raft_host_group(sm->options.host, sm->options.group);
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
		mg_group_not_applied(group, sm->failed);
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

/* The current version is what a snapshot shows from now on. */
static void keep_snapshot(struct mg_catalog_sm *sm)
{
	const struct mg_catalog_data *data = mg_catalog_take(sm->options.catalog);

	pthread_mutex_lock(&sm->lock);
	const struct mg_catalog_data *before = sm->snapshot;

	sm->snapshot = data;
	pthread_mutex_unlock(&sm->lock);
	mg_catalog_give(sm->options.catalog, before);
}

static void freeze_now(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_error err = { 0 };

	sm->frozen = mg_catalog_note_applied(sm->options.catalog, sm->index, &err);
	if (!sm->frozen) {
		keep_snapshot(sm);
	}
	mg_raft_host_post(sm->options.host, tell_frozen, sm);
}

static void sm_freeze(struct mg_sm *seam)
{
	struct mg_catalog_sm *sm = of(seam);

	mg_lane_run(sm->lane, freeze_now, sm);
}

/* ---- snapshots of others, and for others ---- */

static int write_copy(const struct mg_catalog_data *data, const char *path, struct mg_error *err)
{
	struct mg_sb text = { 0 };

	mg_catalog_text(data, &text);
	int code = mg_file_write(path, mg_sb_text(&text), text.len, 0600, err);

	mg_sb_fini(&text);
	return code;
}

static int make_copy(void *arg, uint64_t index, char **path, struct mg_error *err)
{
	struct mg_catalog_sm *sm = arg;
	char *copy = mg_format("%s/log/snap-catalog-%" PRIu64 ".json", sm->options.dir, index);

	pthread_mutex_lock(&sm->lock);
	int code = sm->snapshot->applied == index
	               ? write_copy(sm->snapshot, copy, err)
	               : mg_error_set(err, MG_E_NOT_FOUND,
	                              "the catalog is at index %" PRIu64 ", not %" PRIu64,
	                              sm->snapshot->applied, index);

	pthread_mutex_unlock(&sm->lock);
	if (code) {
		mg_free(copy);
		return code;
	}
	*path = copy;
	return 0;
}

static char *pulled_path(const struct mg_catalog_sm *sm, uint64_t index)
{
	return mg_format("%s/log/pull-catalog-%" PRIu64 ".json", sm->options.dir, index);
}

static void tell_pulled(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_group *group = group_of(sm);

	if (group) {
		mg_group_pulled(group, sm->pulled);
	}
}

static void on_pulled(void *arg, const struct mg_snapshot_manifest *manifest,
                      const struct mg_error *err)
{
	struct mg_catalog_sm *sm = arg;

	(void)manifest;
	sm->pulled = err ? err->code : 0;
	mg_raft_host_post(sm->options.host, tell_pulled, sm);
}

static void sm_pull(struct mg_sm *seam, uint64_t peer, const struct mg_manifest *manifest)
{
	struct mg_catalog_sm *sm = of(seam);
	struct mg_group *group = group_of(sm);

	if (!sm->options.puller) { /* a cluster of one has nobody to pull from */
		if (group) {
			mg_group_pulled(group, MG_E_UNSUPPORTED);
		}
		return;
	}
	char *path = pulled_path(sm, manifest->snapshot.index);
	char *part = mg_format("%s/log/pull-catalog", sm->options.dir);

	mg_snapshot_puller_want(sm->options.puller,
	                        &(struct mg_snapshot_want){ .group = sm->options.group,
	                                                    .index = manifest->snapshot.index,
	                                                    .peer = peer,
	                                                    .path = path,
	                                                    .part = part,
	                                                    .engine = "",
	                                                    .format = MG_CATALOG_FORMAT,
	                                                    .done = on_pulled,
	                                                    .arg = sm });
	mg_free(part);
	mg_free(path);
}

static void tell_adopted(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	struct mg_group *group = group_of(sm);

	if (group && !sm->adopted && sm->options.on_applied) {
		sm->options.on_applied(sm->options.arg, sm->options.group, sm->adopt_index);
	}
	if (group) {
		mg_group_adopted(group, sm->adopted);
	}
}

/* The catalog's file is replaced by one rename, as with each version. */
static void adopt_now(void *arg)
{
	struct mg_catalog_sm *sm = arg;
	char *path = pulled_path(sm, sm->adopt_index), *text = NULL;
	struct mg_error err = { 0 }, ignored;
	size_t size = 0;
	int code = mg_file_read(path, TEXT_BYTES_MAX, &text, &size, &err);

	code = code ? code : mg_catalog_replace(sm->options.catalog, text, size, sm->adopt_index, &err);
	if (code) {
		mg_log(MG_LOG_ERROR, "catalog.broken", "error=\"%s\"", err.message);
	} else {
		(void)mg_file_remove(path, &ignored);
		sm->index = sm->adopt_index;
		keep_snapshot(sm);
		mg_log(MG_LOG_INFO, "catalog.adopted", "index=%" PRIu64, sm->index);
		if (sm->options.on_change) {
			sm->options.on_change(sm->options.arg);
		}
	}
	sm->adopted = code;
	mg_free(text);
	mg_free(path);
	mg_raft_host_post(sm->options.host, tell_adopted, sm);
}

static void sm_adopt(struct mg_sm *seam, const struct mg_manifest *manifest)
{
	struct mg_catalog_sm *sm = of(seam);

	sm->adopt_index = manifest->snapshot.index;
	if (!sm->options.dir) {
		sm->adopted = MG_E_UNSUPPORTED;
		tell_adopted(sm);
		return;
	}
	mg_lane_run(sm->lane, adopt_now, sm);
}

/* Copies and pulled texts of an earlier life, but what a crash has kept from being adopted. */
static void remove_leftovers(const struct mg_catalog_sm *sm)
{
	char *dir = mg_path_join(sm->options.dir, "log"), **names = NULL;
	struct mg_error ignored;
	unsigned long long index;
	size_t count = 0;

	if (mg_dir_list(dir, &names, &count, &ignored) == 0) {
		for (size_t i = 0; i < count; i++) {
			bool old = sscanf(names[i], "snap-catalog-%llu", &index) == 1 ||
			           (sscanf(names[i], "pull-catalog-%llu", &index) == 1 && index <= sm->index);
			char *path = old ? mg_path_join(dir, names[i]) : NULL;

			if (path) {
				(void)mg_file_remove(path, &ignored);
			}
			mg_free(path);
		}
		mg_free(names);
	}
	mg_free(dir);
}

static void begin_giving(struct mg_catalog_sm *sm)
{
	keep_snapshot(sm);
	if (sm->options.dir) {
		remove_leftovers(sm);
	}
	if (sm->options.source) {
		mg_assert(sm->options.dir != NULL);
		mg_snapshot_source_add(sm->options.source,
		                       &(struct mg_snapshot_state){ .group = sm->options.group,
		                                                    .engine = "",
		                                                    .format = MG_CATALOG_FORMAT,
		                                                    .copy = make_copy,
		                                                    .arg = sm });
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
	pthread_mutex_init(&sm->lock, NULL);
	begin_giving(sm);
	*out = sm;
	return 0;
}

struct mg_sm *mg_catalog_sm_seam(struct mg_catalog_sm *sm)
{
	return &sm->seam;
}

void mg_catalog_sm_stop(struct mg_catalog_sm *sm)
{
	if (sm->options.source) {
		mg_snapshot_source_remove(sm->options.source, sm->options.group);
	}
	mg_lane_stop(sm->lane);
}

void mg_catalog_sm_free(struct mg_catalog_sm *sm)
{
	if (sm) {
		mg_lane_free(sm->lane);
		mg_catalog_give(sm->options.catalog, sm->snapshot);
		pthread_mutex_destroy(&sm->lock);
		mg_free(sm);
	}
}
