/* kv_sm.c - see kv_sm.h. */
#include "replica/kv_sm.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/kv_check.h"
#include "replica/lane.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* A batch of the tree is not made larger than that. */
#define BATCH_BYTES (1u << 20)
enum { FULL_LOOK_MS = 200, FULL_LOOKS = 5 };

struct mg_kv_sm {
	struct mg_sm seam;
	struct mg_kv_sm_options options;
	struct mg_kv_state *state;
	struct mg_shard_check *check;
	struct mg_lane *lane;
	uint64_t durable; /* index; owner: the raft thread */
	uint64_t in_hand; /* likewise: the last entry of what the lane has */
	/* What the entries in hand answer. */
	struct mg_arena *arena;
	struct answered {
		struct mg_kv_results *list;
		size_t count;
	} *answered;
	size_t answered_count, answered_cap;
	bool in_lane; /* what is in hand; owner: the raft thread */
	atomic_bool stopping;
	int frozen, pulled, adopted;
	uint64_t adopt_index;
	pthread_mutex_t lock; /* guards the rest */
	struct mg_lsm_view *view;    /* of the last freeze */
	struct mg_lsm_view *copying; /* being written as a file: who does so frees it when replaced */
	uint64_t view_index;
	struct mg_error failed;
};

static struct mg_kv_sm *of(struct mg_sm *seam)
{
	return (struct mg_kv_sm *)seam;
}

static struct mg_group *group_of(struct mg_kv_sm *sm)
{
	return mg_raft_host_group(sm->options.host, sm->options.group);
}

static void fail(struct mg_kv_sm *sm, const struct mg_error *err)
{
	mg_log(MG_LOG_ERROR, "kv.broken", "group=%" PRIu32 " error=\"%s\"", sm->options.group,
	       err->message);
	pthread_mutex_lock(&sm->lock);
	sm->failed = *err;
	pthread_mutex_unlock(&sm->lock);
	mg_kv_state_condemn(sm->state);
}

int mg_kv_sm_failed(struct mg_kv_sm *sm, struct mg_error *err)
{
	pthread_mutex_lock(&sm->lock);
	int code = sm->failed.code;

	if (code && err) {
		*err = sm->failed;
	}
	pthread_mutex_unlock(&sm->lock);
	return code;
}

/* ---- entries ---- */

static void tell_results(struct mg_kv_sm *sm)
{
	for (size_t i = 0; i < sm->answered_count; i++) {
		sm->options.on_results(sm->options.arg, sm->options.group, sm->answered[i].list,
		                       sm->answered[i].count);
	}
	sm->answered_count = 0;
	mg_arena_free(sm->arena);
	sm->arena = NULL;
}

/* Raft thread: all that is in hand is in the tree, or the replica is broken. */
static void tell_applied(void *arg)
{
	struct mg_kv_sm *sm = arg;
	struct mg_group *group = group_of(sm);
	int failed = mg_kv_sm_failed(sm, NULL);

	sm->in_lane = false;
	if (!group) {
		return;
	}
	if (failed) {
		mg_group_not_applied(group, failed);
		sm->options.on_failed(sm->options.arg, sm->options.group);
		return;
	}
	tell_results(sm);
	sm->options.on_applied(sm->options.arg, sm->options.group, sm->in_hand);
	mg_group_applied(group, sm->in_hand);
}

/* The disk is full: nothing is wrong with the keys, and what is there is read meanwhile. */
static void await_room(struct mg_kv_sm *sm, const struct mg_error *err)
{
	mg_log(MG_LOG_WARN, "kv.disk_full", "group=%" PRIu32 " error=\"%s\"", sm->options.group,
	       err->message);
	for (int i = 0; i < FULL_LOOKS && !atomic_load(&sm->stopping); i++) {
		mg_sleep_ms(FULL_LOOK_MS);
	}
}

static void write_slowly(void *arg)
{
	struct mg_kv_sm *sm = arg;
	struct mg_error err = { 0 };
	int code = mg_kv_state_write(sm->state, false, &err);

	while (code == MG_E_DISK_FULL && !atomic_load(&sm->stopping)) {
		await_room(sm, &err);
		code = mg_kv_state_write(sm->state, false, &err);
	}
	if (code == MG_E_DISK_FULL) {
		return; /* the server stops; what was not applied stands in the log */
	}
	if (code) {
		fail(sm, &err);
	}
	mg_raft_host_post(sm->options.host, tell_applied, sm);
}

/* The lane waits for it. */
static bool is_later(int code)
{
	return code == MG_E_BUSY || code == MG_E_DISK_FULL;
}

/* Somebody here waits for what this entry does. */
static bool is_ours(const struct mg_kv_sm *sm, const struct mg_kv_entry *entry)
{
	return entry->origin == sm->options.self && entry->incarnation == sm->options.incarnation &&
	       entry->count > 0;
}

/* The tree holds exactly what there is at this index, unless it takes nothing at the moment; then
 * what is behind this entry is applied all the same. */
static int mark(struct mg_kv_sm *sm, uint64_t index, const struct mg_checking *checking,
                struct mg_error *err)
{
	int code = mg_kv_state_write(sm->state, true, err);

	if (!code) {
		mg_shard_check_mark(sm->check, index, checking, NULL);
	} else if (is_later(code)) {
		mg_shard_check_miss(sm->check, index, checking);
	}
	return is_later(code) ? 0 : code;
}

static int compare(struct mg_kv_sm *sm, uint64_t index, const struct mg_kv_entry *entry,
                   struct mg_error *err)
{
	struct mg_command command;
	int code = mg_kv_check_decode(entry, &command, err);

	if (!code && command.kind == MG_COMMAND_CHECK) {
		code = mark(sm, index, &command.checking, err);
	} else if (!code) {
		mg_shard_check_put(sm->check, &command.checked);
	}
	return code;
}

static int apply_entry(struct mg_kv_sm *sm, const struct mg_entry *entry, struct mg_error *err)
{
	bool is_command = entry->type == MG_ENTRY_COMMAND;
	struct mg_kv_entry command = { 0 };
	struct mg_kv_results *list = NULL;
	int code = is_command ? mg_kv_entry_decode(entry->data, entry->size, &command, err) : 0;
	bool ours = is_command && !code && is_ours(sm, &command);

	if (ours && !sm->arena) {
		sm->arena = mg_arena_new();
	}
	code = code ? code
	            : mg_kv_state_apply(sm->state, entry->index, entry->term,
	                                is_command ? &command : NULL, sm->arena, ours ? &list : NULL,
	                                err);
	if (!code && command.kind == MG_KV_COMPARE) {
		code = compare(sm, entry->index, &command, err);
	}
	if (!code && ours) {
		mg_grow(sm->answered, sm->answered_count, sm->answered_cap);
		sm->answered[sm->answered_count++] = (struct answered){ list, command.count };
	}
	return code;
}

static void sm_apply(struct mg_sm *seam, const struct mg_entry *entries, size_t count)
{
	struct mg_kv_sm *sm = of(seam);
	struct mg_error err = { 0 };
	size_t bytes = 0;
	int code = 0;

	mg_assert(count > 0);
	sm->in_hand = entries[count - 1].index;
	for (size_t i = 0; !code && i < count; i++) {
		code = apply_entry(sm, &entries[i], &err);
		bytes += entries[i].size;
		bool full = bytes >= BATCH_BYTES || mg_kv_state_went_back(sm->state);

		if (!code && full && i + 1 < count) {
			bytes = 0;
			code = mg_kv_state_write(sm->state, true, &err);
			code = is_later(code) ? 0 : code; /* then with what comes next */
		}
	}
	code = code ? code : mg_kv_state_write(sm->state, true, &err);
	if (is_later(code)) {
		sm->in_lane = true;
		mg_lane_run(sm->lane, write_slowly, sm);
		return;
	}
	if (code) {
		fail(sm, &err);
	}
	tell_applied(sm);
}

static uint64_t sm_durable_index(struct mg_sm *seam)
{
	return of(seam)->durable;
}

/* ---- snapshots for others ---- */

static void replace_view(struct mg_kv_sm *sm, struct mg_lsm_view *view, uint64_t index)
{
	pthread_mutex_lock(&sm->lock);
	struct mg_lsm_view *before = sm->view;

	sm->view = view;
	sm->view_index = index;
	bool is_copied = before && before == sm->copying;

	pthread_mutex_unlock(&sm->lock);
	if (!is_copied) {
		mg_lsm_view_free(before);
	}
}

static void tell_frozen(void *arg)
{
	struct mg_kv_sm *sm = arg;
	struct mg_group *group = group_of(sm);
	char manifest[64];
	int size = snprintf(manifest, sizeof manifest, "{\"index\":%" PRIu64 "}",
	                    mg_kv_state_index(sm->state));

	if (!sm->frozen) {
		sm->durable = mg_kv_state_index(sm->state);
	}
	if (group) {
		mg_group_frozen(group, sm->frozen, manifest, (size_t)size);
	}
}

static void freeze_now(void *arg)
{
	struct mg_kv_sm *sm = arg;
	struct mg_error err = { 0 };

	sm->frozen = mg_lsm_flush(sm->options.lsm, &err);
	if (sm->frozen) {
		mg_log(MG_LOG_WARN, "kv.freeze", "group=%" PRIu32 " error=\"%s\"", sm->options.group,
		       err.message);
	} else if (sm->options.source) {
		replace_view(sm, mg_lsm_view_new(sm->options.lsm), mg_kv_state_index(sm->state));
	}
	mg_raft_host_post(sm->options.host, tell_frozen, sm);
}

static void sm_freeze(struct mg_sm *seam)
{
	struct mg_kv_sm *sm = of(seam);

	mg_lane_run(sm->lane, freeze_now, sm);
}

/* NULL: there is none of that index. */
static struct mg_lsm_view *begin_copy(struct mg_kv_sm *sm, uint64_t index, struct mg_error *err)
{
	pthread_mutex_lock(&sm->lock);
	mg_assert(!sm->copying); /* the source has one thread */
	sm->copying = sm->view_index == index ? sm->view : NULL;
	struct mg_lsm_view *view = sm->copying;

	if (!view) {
		mg_error_set(err, MG_E_NOT_FOUND,
		             "keys of group %" PRIu32 " are at index %" PRIu64 ", not %" PRIu64,
		             sm->options.group, sm->view_index, index);
	}
	pthread_mutex_unlock(&sm->lock);
	return view;
}

static void end_copy(struct mg_kv_sm *sm, struct mg_lsm_view *view)
{
	pthread_mutex_lock(&sm->lock);
	bool was_replaced = sm->view != view;

	sm->copying = NULL;
	pthread_mutex_unlock(&sm->lock);
	if (was_replaced) {
		mg_lsm_view_free(view);
	}
}

/* Without the lock: it takes its time, and the raft thread takes that with each entry. */
static int make_copy(void *arg, uint64_t index, char **path, struct mg_error *err)
{
	struct mg_kv_sm *sm = arg;
	struct mg_lsm_view *view = begin_copy(sm, index, err);

	if (!view) {
		return MG_E_NOT_FOUND;
	}
	char *copy = mg_format("%s/kv/snap-%" PRIu32 "-%" PRIu64 ".sst", sm->options.dir,
	                       sm->options.group, index);
	int code = mg_lsm_export(sm->options.lsm, view, mg_kv_state_prefix(sm->state), copy, err);

	end_copy(sm, view);
	if (code) {
		mg_free(copy);
		return code;
	}
	*path = copy;
	return 0;
}

/* ---- snapshots of others ---- */

char *mg_kv_pulled_path(const char *dir, uint32_t group, uint64_t index)
{
	return mg_format("%s/kv/pull-%" PRIu32 "-%" PRIu64 ".sst", dir, group, index);
}

static void tell_pulled(void *arg)
{
	struct mg_kv_sm *sm = arg;
	struct mg_group *group = group_of(sm);

	if (group) {
		mg_group_pulled(group, sm->pulled);
	}
}

static void on_pulled(void *arg, const struct mg_snapshot_manifest *manifest,
                      const struct mg_error *err)
{
	struct mg_kv_sm *sm = arg;

	(void)manifest;
	sm->pulled = err ? err->code : 0;
	mg_raft_host_post(sm->options.host, tell_pulled, sm);
}

/* want: index, peer, path, only, done, arg. */
static void pull(struct mg_kv_sm *sm, struct mg_snapshot_want want)
{
	char *part = mg_format("%s/kv/pull-%" PRIu32, sm->options.dir, sm->options.group);

	want.group = sm->options.group;
	want.part = part;
	want.engine = mg_lsm_version();
	want.format = MG_KV_FORMAT;
	mg_snapshot_puller_want(sm->options.puller, &want);
	mg_free(part);
}

static void sm_pull(struct mg_sm *seam, uint64_t peer, const struct mg_manifest *manifest)
{
	struct mg_kv_sm *sm = of(seam);
	uint64_t index = manifest->snapshot.index;

	if (!sm->options.puller) {
		sm->pulled = MG_E_UNSUPPORTED;
		tell_pulled(sm);
		return;
	}
	char *path = mg_kv_pulled_path(sm->options.dir, sm->options.group, index);

	pull(sm, (struct mg_snapshot_want){
				 .index = index, .peer = peer, .path = path, .done = on_pulled, .arg = sm });
	mg_free(path);
}

static void tell_adopted(void *arg)
{
	struct mg_kv_sm *sm = arg;
	struct mg_group *group = group_of(sm);

	if (!sm->adopted) {
		sm->durable = sm->adopt_index;
	}
	if (group && !sm->adopted) {
		sm->options.on_applied(sm->options.arg, sm->options.group, sm->adopt_index);
	}
	if (group) {
		mg_group_adopted(group, sm->adopted);
	}
	if (group && sm->adopted) {
		sm->options.on_failed(sm->options.arg, sm->options.group);
	}
}

static void adopt_now(void *arg)
{
	struct mg_kv_sm *sm = arg;
	char *path = mg_kv_pulled_path(sm->options.dir, sm->options.group, sm->adopt_index);
	struct mg_error err = { 0 }, ignored;

	mg_shard_check_stop(sm->check, true);
	int code = mg_kv_state_replace(sm->state, path, &err);

	if (!code && mg_kv_state_index(sm->state) != sm->adopt_index) {
		code = mg_error_set(&err, MG_E_CORRUPT,
		                    "a snapshot of index %" PRIu64 " holds index %" PRIu64,
		                    sm->adopt_index, mg_kv_state_index(sm->state));
	}
	if (code) {
		fail(sm, &err);
	} else {
		(void)mg_file_remove(path, &ignored);
		replace_view(sm, NULL, 0);
		mg_log(MG_LOG_INFO, "kv.adopted", "group=%" PRIu32 " index=%" PRIu64, sm->options.group,
		       sm->adopt_index);
	}
	sm->adopted = code;
	mg_free(path);
	mg_raft_host_post(sm->options.host, tell_adopted, sm);
}

static void sm_adopt(struct mg_sm *seam, const struct mg_manifest *manifest)
{
	struct mg_kv_sm *sm = of(seam);

	sm->adopt_index = manifest->snapshot.index;
	mg_lane_run(sm->lane, adopt_now, sm);
}

/* ---- damage ---- */

bool mg_kv_sm_rest(struct mg_kv_sm *sm)
{
	return !sm->in_lane;
}

void mg_kv_sm_pull_newest(struct mg_kv_sm *sm, const char *path, uint64_t index, uint64_t peer,
                          void (*done)(void *arg, const struct mg_snapshot_manifest *manifest,
                                       const struct mg_error *err),
                          void *arg)
{
	pull(sm, (struct mg_snapshot_want){ .index = index,
	                                    .peer = peer,
	                                    .only = index == 0,
	                                    .path = path,
	                                    .done = done,
	                                    .arg = arg });
}

int mg_kv_sm_put_in(struct mg_kv_sm *sm, const char *from, uint64_t index, struct mg_error *err)
{
	mg_shard_check_stop(sm->check, true);
	int code = mg_kv_state_replace(sm->state, from, err);

	if (!code && mg_kv_state_index(sm->state) != index) {
		mg_kv_state_condemn(sm->state);
		code = mg_error_set(err, MG_E_CORRUPT,
		                    "keys at index %" PRIu64 ", and their snapshot is of %" PRIu64,
		                    mg_kv_state_index(sm->state), index);
	}
	if (code) {
		return code;
	}
	replace_view(sm, NULL, 0);
	sm->durable = index;
	sm->answered_count = 0; /* of what was applied before, and is not told any more */
	mg_arena_free(sm->arena);
	sm->arena = NULL;
	pthread_mutex_lock(&sm->lock);
	sm->failed = (struct mg_error){ 0 };
	pthread_mutex_unlock(&sm->lock);
	return 0;
}

/* Copies and pulled files of an earlier life, but what a crash has kept from being adopted. */
static void remove_leftovers(const struct mg_kv_sm *sm)
{
	char *dir = mg_path_join(sm->options.dir, "kv"), **names = NULL;
	struct mg_error ignored;
	size_t count = 0;

	if (mg_dir_list(dir, &names, &count, &ignored) == 0) {
		for (size_t i = 0; i < count; i++) {
			unsigned long long index;
			unsigned group;
			bool copy = sscanf(names[i], "snap-%u-%llu", &group, &index) == 2;
			bool pulled = sscanf(names[i], "pull-%u-%llu", &group, &index) == 2;
			bool mend = sscanf(names[i], "mend-%u", &group) == 1;
			bool old = copy || mend || (pulled && index <= sm->durable);
			char *path = old && group == sm->options.group ? mg_path_join(dir, names[i]) : NULL;

			if (path) {
				(void)mg_file_remove(path, &ignored);
			}
			mg_free(path);
		}
		mg_free(names);
	}
	mg_free(dir);
}

/* ---- life ---- */

static const struct mg_sm_ops ops = {
	.apply = sm_apply,
	.durable_index = sm_durable_index,
	.freeze = sm_freeze,
	.pull = sm_pull,
	.adopt = sm_adopt,
};

int mg_kv_sm_open(struct mg_kv_sm **out, const struct mg_kv_sm_options *options,
                  struct mg_error *err)
{
	struct mg_kv_sm *sm = mg_alloc0(sizeof *sm);

	*out = NULL;
	sm->seam.ops = &ops;
	sm->options = *options;
	int code = mg_kv_state_open(&sm->state, options->lsm, options->group, err);

	code = code ? code : mg_lane_start(&sm->lane, err);
	if (code) {
		mg_kv_state_close(sm->state);
		mg_free(sm);
		return code;
	}
	pthread_mutex_init(&sm->lock, NULL);
	sm->durable = mg_kv_state_index(sm->state);
	sm->check = mg_shard_check_new(
		&(struct mg_shard_check_options){ .lsm = options->lsm,
	                                      .self = options->self,
	                                      .shard = options->shard,
	                                      .on_mark = options->on_mark,
	                                      .on_differs = options->on_differs,
	                                      .arg = options->check_arg });
	remove_leftovers(sm);
	if (options->source) {
		replace_view(sm, mg_lsm_view_new(options->lsm), sm->durable);
		mg_snapshot_source_add(options->source,
		                       &(struct mg_snapshot_state){ .group = options->group,
		                                                    .engine = mg_lsm_version(),
		                                                    .format = MG_KV_FORMAT,
		                                                    .copy = make_copy,
		                                                    .arg = sm });
	}
	*out = sm;
	return 0;
}

struct mg_sm *mg_kv_sm_seam(struct mg_kv_sm *sm)
{
	return &sm->seam;
}

struct mg_kv_state *mg_kv_sm_state(struct mg_kv_sm *sm)
{
	return sm->state;
}

struct mg_shard_check *mg_kv_sm_check(struct mg_kv_sm *sm)
{
	return sm->check;
}

void mg_kv_sm_stop(struct mg_kv_sm *sm)
{
	atomic_store(&sm->stopping, true);
	if (sm->options.source) {
		mg_snapshot_source_remove(sm->options.source, sm->options.group);
	}
	mg_lane_stop(sm->lane);
}

void mg_kv_sm_free(struct mg_kv_sm *sm)
{
	if (sm) {
		mg_lane_free(sm->lane);
		mg_shard_check_free(sm->check);
		mg_lsm_view_free(sm->view);
		mg_arena_free(sm->arena);
		mg_kv_state_close(sm->state);
		pthread_mutex_destroy(&sm->lock);
		mg_free(sm->answered);
		mg_free(sm);
	}
}
