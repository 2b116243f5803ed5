/*
 * mend.c - makes a damaged replica of this node anew, from one of another node.
 *
 *     damaged -> no reads, no leadership -> the group closes
 *             -> the newest snapshot of another node -> the file goes aside
 *             -> a mark in the log -> put in -> the group opens
 *
 * Rule: the log of the group stays, and with it this node's votes and what it has acknowledged:
 * only what was made of it is made again.  A snapshot is taken only if the log holds what follows
 * it, or is all older than it.
 *
 * While the group is closed this node neither votes nor leads in it.  What was damaged is kept
 * under another name (kept.c), for people, but only when there is something to put in its place:
 * what fails on all nodes alike is no damage of their files.  With nobody to take a snapshot from
 * it waits, as long as it takes; other replicas have their turn meanwhile.
 *
 * Replicas of tables have their shards' numbers, those of keys follow: of these the tree is set
 * aside as a whole when it cannot be opened at the start (kv_groups.c), and what a group has in it
 * is replaced.
 *
 * owner: its thread, but for what `lock` guards.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/wait.h"
#include "replica/kv_sm.h"
#include "replica/replica_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	LOOK_MS = 500,
	STEP_MS = 5,
	AGAIN_MS_MAX = 30 * 1000,
	RELAPSE_MS = 60 * 1000,
	RELAPSES_MAX = 8, /* doublings of a second */
	LEAVE_MS_MAX = 3000, /* for another node to lead what this one leads */
	IDLE_MS_MAX = 60 * 1000,
};

/* A replica that is to be made anew. */
struct sick {
	bool wanted; /* guarded by lock; then the rest is the thread's */
	bool closed, aside, kept; /* how far it is */
	bool pulled;              /* a whole file is there, which `manifest` describes */
	struct mg_manifest manifest; /* owned */
	struct mg_members good;
	uint64_t start_ms, next_ms, rest_ms; /* of tries */
	unsigned turn;
	/* 0, or one that nobody has yet, so that whoever leads the group makes a newer snapshot; then
	 * the same node is asked for its newest again: else two of them, one of which does not lead,
	 * would each be asked for the wrong thing for ever. */
	uint64_t index;
	char told[sizeof((struct mg_error *)0)->message]; /* why it waits */
};

/* Who breaks again as soon as it is mended rests for longer each time. */
struct relapse {
	uint64_t mended_ms; /* when last; 0: never */
	unsigned times;
};

struct mg_mender {
	struct mg_replica *replica;
	pthread_t thread;
	bool started;
	struct mg_metric *damaged, *rebuilt, *mending;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic */
	struct relapse *relapses; /* by shard; owner: the thread */
	struct sick *sick;        /* by shard */
	/* guarded by lock */
	bool kicked, stopping;
	/* guarded by lock: of the pull, or of the mark, that is under way */
	bool done;
	struct mg_error err;
	struct mg_manifest manifest; /* owned */
};

/* ---- replicas of keys ---- */

static uint32_t replica_count(const struct mg_replica *replica)
{
	return replica->options.shard_count + 1 + atomic_load(&replica->kv_shards);
}

/* NULL: it is one of tables. */
static struct mg_kv_sm *keys_of(const struct mg_replica *replica, uint32_t shard)
{
	uint32_t tables = replica->options.shard_count + 1;

	return shard < tables ? NULL : mg_replica__kv_sm(replica, shard - tables);
}

/* ---- questions ---- */

bool mg_replica__is_mending(const struct mg_replica *replica, uint32_t shard)
{
	return atomic_load(&replica->mending[shard]);
}

bool mg_replica_mends(const struct mg_replica *replica)
{
	bool any = false;

	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		any = any || mg_replica__is_mending(replica, i);
	}
	return any;
}

int mg_replica_whole(struct mg_replica *replica, const uint32_t *shards, size_t count,
                     struct mg_error *err)
{
	for (size_t i = 0; i < count; i++) {
		if (mg_replica__is_mending(replica, shards[i])) {
			mg_error_set(err, MG_E_UNAVAILABLE,
			             "this server's replica of shard %" PRIu32
			             " was damaged and is being made anew",
			             shards[i]);
			mg_error_hint(err, "Try again in a moment, or at another server.");
			return MG_E_UNAVAILABLE;
		}
	}
	return 0;
}

/* ---- asking for it ---- */

static void tell(struct mg_mender *mender, const char *event, uint32_t shard, const char *detail)
{
	const struct mg_replica_options *options = &mender->replica->options;
	uint32_t tables = options->shard_count + 1;
	char *text = shard < tables ? mg_format("shard %" PRIu32 ": %s", shard, detail)
	                            : mg_format("shard %" PRIu32 " of keys: %s", shard - tables,
	                                        detail);

	mg_log(MG_LOG_WARN, event, "detail=%s", text);
	if (options->on_event) {
		options->on_event(options->arg, event, text);
	}
	mg_free(text);
}

static void note_mending(struct mg_mender *mender, uint32_t shard, bool mending)
{
	atomic_store(&mender->replica->mending[shard], mending);
	mg_metric_add(mender->mending, mending ? 1 : -1);
}

static void want(struct mg_mender *mender, uint32_t shard, const struct sick *wanted,
                 const char *why)
{
	struct sick *sick = &mender->sick[shard];

	pthread_mutex_lock(&mender->lock);
	bool fresh = !sick->wanted;

	if (fresh) {
		*sick = *wanted;
		mender->kicked = true;
		pthread_cond_broadcast(&mender->changed);
		note_mending(mender, shard, true);
	}
	pthread_mutex_unlock(&mender->lock);
	if (fresh) {
		mg_metric_add(mender->damaged, 1);
		tell(mender, "replica.damaged", shard, why);
		mg_replica__kick_placer(mender->replica);
	}
}

void mg_replica__mend(struct mg_replica *replica, uint32_t shard, const char *why,
                      const struct mg_members *good)
{
	struct sick sick = { .wanted = true };

	if (good) {
		sick.good = *good;
	}
	want(replica->mender, shard, &sick, why);
}

void mg_replica__mend_stand_in(struct mg_replica *replica, uint32_t shard, const char *why)
{
	const struct sick sick = { .wanted = true, .closed = true, .aside = true, .kept = true };

	want(replica->mender, shard, &sick, why);
}

/* ---- waiting ---- */

static bool is_stopping(struct mg_mender *mender)
{
	pthread_mutex_lock(&mender->lock);
	bool stopping = mender->stopping;
	pthread_mutex_unlock(&mender->lock);
	return stopping;
}

/* False: the end. */
static bool rest(struct mg_mender *mender, uint64_t ms, bool for_kicks)
{
	uint64_t until_ms = mg_clock_ms() + ms;

	pthread_mutex_lock(&mender->lock);
	while (!mender->stopping && !(for_kicks && mender->kicked) &&
	       mg_cond_wait_until(&mender->changed, &mender->lock, until_ms)) {
	}
	if (for_kicks) {
		mender->kicked = false;
	}
	bool goes_on = !mender->stopping;
	pthread_mutex_unlock(&mender->lock);
	return goes_on;
}

/* Until `done`, which always comes: from the puller, or the log. */
static int await(struct mg_mender *mender, struct mg_error *err)
{
	pthread_mutex_lock(&mender->lock);
	while (!mender->done) {
		pthread_cond_wait(&mender->changed, &mender->lock);
	}
	*err = mender->err;
	pthread_mutex_unlock(&mender->lock);
	return err->code;
}

static void begin(struct mg_mender *mender)
{
	pthread_mutex_lock(&mender->lock);
	mender->done = false;
	mender->err = (struct mg_error){ 0 };
	pthread_mutex_unlock(&mender->lock);
}

static void end(struct mg_mender *mender, const struct mg_error *err)
{
	pthread_mutex_lock(&mender->lock);
	mender->done = true;
	if (err) {
		mender->err = *err;
	}
	pthread_cond_broadcast(&mender->changed);
	pthread_mutex_unlock(&mender->lock);
}

/* ---- the group goes to rest ---- */

struct closing {
	struct mg_replica *replica;
	uint32_t group;
	bool leads, closed;
};

static void look_now(void *arg)
{
	struct closing *closing = arg;
	struct mg_group *group = mg_raft_host_group(closing->replica->host, closing->group);
	struct mg_group_info info = { 0 };

	if (group) {
		mg_group_info(group, &info);
	}
	closing->leads = !info.failed && info.core.role == MG_RAFT_LEADER;
}

static bool rests(const struct closing *closing)
{
	uint32_t shard = closing->group - 1;
	struct mg_kv_sm *keys = closing->group ? keys_of(closing->replica, shard) : NULL;

	return closing->group == 0 ||
	       (keys ? mg_kv_sm_rest(keys) : mg_shard_sm_rest(closing->replica->shards[shard]));
}

/* What the group has in hand comes to its end first, but nothing new is begun. */
static void close_now(void *arg)
{
	struct closing *closing = arg;
	struct mg_group *group = mg_raft_host_group(closing->replica->host, closing->group);

	if (group) {
		mg_group_fail(group, MG_E_CORRUPT);
	}
	closing->closed = (!group || mg_group_is_idle(group)) && rests(closing);
	if (group && closing->closed) {
		mg_raft_node_close(group, false);
	}
}

/* The placer gives away what a node leads that mends tables; not for ever, when nobody takes it. */
static void stop_leading(struct mg_mender *mender, uint32_t shard)
{
	struct closing own = { .replica = mender->replica, .group = mg_replica__group(shard) };
	struct closing first = { .replica = mender->replica, .group = 0 };
	uint64_t until = mg_clock_ms() + LEAVE_MS_MAX;

	do {
		mg_raft_host_call(mender->replica->host, look_now, &own);
		mg_raft_host_call(mender->replica->host, look_now, &first);
		first.leads = first.leads && !keys_of(mender->replica, shard);
	} while ((own.leads || first.leads) && mg_clock_ms() < until &&
	         rest(mender, 10 * STEP_MS, false));
}

static int close_group(struct mg_mender *mender, uint32_t shard, struct mg_error *err)
{
	struct mg_replica *replica = mender->replica;
	struct closing closing = { .replica = replica, .group = mg_replica__group(shard) };
	uint64_t until = mg_clock_ms() + IDLE_MS_MAX;

	stop_leading(mender, shard);
	do {
		mg_raft_host_call(replica->host, close_now, &closing);
	} while (!closing.closed && mg_clock_ms() < until && rest(mender, STEP_MS, false));
	if (!closing.closed) {
		return mg_error_set(err, MG_E_BUSY,
		                    "the replica of shard %" PRIu32 " does not come to rest", shard);
	}
	mg_replica__on_applied(replica, closing.group, 0); /* nothing can be read here */
	return 0;
}

static int set_aside(struct mg_mender *mender, uint32_t shard, struct mg_error *err)
{
	struct mg_replica *replica = mender->replica;
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	struct sick *sick = &mender->sick[shard];
	bool keeps = !sick->kept && !keys_of(replica, shard);
	char *kept = keeps ? mg_replica_kept_path(replica->options.dir, shard) : NULL;
	struct mg_shard_meta meta;

	if (keys_of(replica, shard)) { /* what it has in the tree goes when another's is put in */
		mg_catalog_give(replica->options.catalog, data);
		mg_free(kept);
		return 0;
	}
	mg_replica_shard_meta(data, shard, &meta);
	int code = mg_shard_sm_set_aside(replica->shards[shard], kept, &meta, err);

	if (!code && kept) {
		tell(mender, "replica.set_aside", shard, kept);
	}
	sick->kept = sick->kept || code == 0; /* what comes later is a copy of another one's */
	mg_free(kept);
	mg_catalog_give(replica->options.catalog, data);
	return code;
}

/* ---- a good one ---- */

static void on_pulled(void *arg, const struct mg_snapshot_manifest *pulled,
                      const struct mg_error *err)
{
	struct mg_mender *mender = arg;
	struct mg_error why = { 0 };

	if (!err && mg_snapshot_manifest_mark(pulled, &mender->manifest, &why)) {
		err = &why;
	}
	end(mender, err);
}

/* They have left the cluster. */
static bool are_gone(struct mg_mender *mender, const struct mg_members *good)
{
	struct mg_catalog *catalog = mender->replica->options.catalog;
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	bool gone = true;

	for (size_t i = 0; i < good->count; i++) {
		const struct mg_catalog_node *node = mg_catalog_find_node(data, good->list[i].node);

		gone = gone && (!node || mg_text_eq(node->state, MG_NODE_REMOVED));
	}
	mg_catalog_give(catalog, data);
	return gone;
}

/* From one of the good ones, while some are known. */
static int pull(struct mg_mender *mender, uint32_t shard, const char *path, struct mg_error *err)
{
	struct mg_replica *replica = mender->replica;
	struct sick *sick = &mender->sick[shard];
	bool any = are_gone(mender, &sick->good);
	uint64_t peer = mg_peers_one_of(replica->options.peers, any ? NULL : &sick->good,
	                                sick->index ? sick->turn : sick->turn++);
	struct mg_error ignored;

	if (!peer) {
		return mg_error_set(err, MG_E_UNAVAILABLE,
		                    "no other server is connected to take it from");
	}
	(void)mg_file_remove(path, &ignored);
	mg_manifest_fini(&sick->manifest);
	begin(mender);
	if (keys_of(replica, shard)) {
		mg_kv_sm_pull_newest(keys_of(replica, shard), path, sick->index, peer, on_pulled, mender);
	} else {
		mg_shard_sm_pull_newest(replica->shards[shard], path, sick->index, peer, on_pulled, mender);
	}
	int code = await(mender, err);

	sick->index = 0;
	sick->pulled = code == 0;
	sick->manifest = mender->manifest;
	mender->manifest = (struct mg_manifest){ 0 };
	if (code == MG_E_BUSY && mg_file_exists(path)) {
		sick->index = 1; /* it was not the newest any more */
	}
	return code;
}

struct marking {
	struct mg_mender *mender;
	uint32_t group;
	const struct mg_manifest *manifest;
};

static void on_marked(void *arg, uint64_t sequence, int error)
{
	struct mg_error err = { 0 };

	(void)sequence;
	if (error) {
		mg_error_set(&err, error, "this server cannot write its log");
	}
	end(arg, error ? &err : NULL);
}

static void mark_now(void *arg)
{
	const struct marking *marking = arg;
	struct mg_mender *mender = marking->mender;
	struct mg_raft_node *node = mg_raft_host_node(mender->replica->host);
	struct mg_error err = { 0 };

	if (!node) {
		mg_error_set(&err, MG_E_SHUTDOWN, "the server is stopping");
	} else {
		(void)mg_raft_node_reseed(node, marking->group, marking->manifest, on_marked, mender, &err);
	}
	if (err.code) {
		end(mender, &err);
	}
}

/* The log goes on behind what was pulled; again is fine. */
static int mark(struct mg_mender *mender, uint32_t shard, struct mg_error *err)
{
	struct sick *sick = &mender->sick[shard];
	struct marking marking = { .mender = mender,
		                       .group = mg_replica__group(shard),
		                       .manifest = &sick->manifest };

	begin(mender);
	mg_raft_host_call(mender->replica->host, mark_now, &marking);
	int code = await(mender, err);

	if (code == MG_E_BUSY) { /* too old: who is asked for just this one makes a newer one */
		sick->index = sick->manifest.snapshot.index + 1;
		sick->pulled = false;
	}
	return code;
}

struct opening {
	struct mg_replica *replica;
	uint32_t shard;
	int code;
	struct mg_error err;
};

static void open_now(void *arg)
{
	struct opening *opening = arg;
	struct mg_replica *replica = opening->replica;
	struct mg_raft_node *node = mg_raft_host_node(replica->host);
	struct mg_group *group = NULL;
	uint32_t number = mg_replica__group(opening->shard);
	struct mg_kv_sm *keys = keys_of(replica, opening->shard);
	struct mg_sm *seam = keys ? mg_kv_sm_seam(keys)
	                          : mg_shard_sm_seam(replica->shards[opening->shard]);

	if (!node) {
		opening->code = mg_error_set(&opening->err, MG_E_SHUTDOWN, "the server is stopping");
		return;
	}
	opening->code = mg_raft_node_open(node, number, seam, &group, &opening->err);
	if (!opening->code) {
		struct mg_group_info info;

		mg_group_info(group, &info);
		if (keys) {
			mg_replica__kv_reopened(replica, number, info.applied);
		} else {
			mg_replica__on_applied(replica, number, info.applied);
		}
	}
}

/* The pulled file becomes the replica, and the group goes on. */
static int put_in(struct mg_mender *mender, uint32_t shard, const char *path, struct mg_error *err)
{
	struct mg_replica *replica = mender->replica;
	struct sick *sick = &mender->sick[shard];
	struct opening opening = { .replica = replica, .shard = shard };
	const struct mg_snapshot *at = &sick->manifest.snapshot;
	struct mg_kv_sm *keys = keys_of(replica, shard);
	int code = keys ? mg_kv_sm_put_in(keys, path, at->index, err)
	                : mg_shard_sm_put_in(replica->shards[shard], path, at->index, at->term, err);

	if (code == MG_E_BUSY && mg_file_exists(path)) {
		return code; /* readers do not end: nothing has happened */
	}
	if (!code) {
		mg_raft_host_call(replica->host, open_now, &opening);
		code = opening.code;
		*err = code ? opening.err : *err;
	}
	sick->pulled = false;
	sick->aside = code == 0; /* what is attached now may be half of a replica */
	return code;
}

/* One try, with one other node. */
static int take_over(struct mg_mender *mender, uint32_t shard, struct mg_error *err)
{
	struct sick *sick = &mender->sick[shard];
	const char *dir = mender->replica->options.dir;
	char *path = keys_of(mender->replica, shard)
	                 ? mg_format("%s/kv/mend-%" PRIu32 ".sst", dir, mg_replica__group(shard))
	                 : mg_format("%s/shards/mend-%04" PRIu32 ".duckdb", dir, shard);
	struct mg_error ignored;
	int code = sick->pulled ? 0 : pull(mender, shard, path, err);

	if (!code && !sick->aside) {
		code = set_aside(mender, shard, err);
		sick->aside = code == 0;
	}
	code = code ? code : mark(mender, shard, err);
	code = code ? code : put_in(mender, shard, path, err);
	/* While readers of the shard do not end, the file is good for the next try. */
	sick->pulled = sick->pulled && code == MG_E_BUSY;
	if (!sick->pulled) {
		(void)mg_file_remove(path, &ignored);
	}
	mg_free(path);
	return code;
}

static int try_once(struct mg_mender *mender, uint32_t shard, struct mg_error *err)
{
	struct sick *sick = &mender->sick[shard]; /* wanted: nobody else touches it */
	int code = sick->closed ? 0 : close_group(mender, shard, err);

	sick->closed = sick->closed || code == 0;
	return code ? code : take_over(mender, shard, err);
}

static void begin_tries(struct mg_mender *mender, uint32_t shard)
{
	struct sick *sick = &mender->sick[shard];
	struct relapse *relapse = &mender->relapses[shard];
	uint64_t now = mg_clock_ms();
	bool again = relapse->mended_ms && now - relapse->mended_ms < RELAPSE_MS;

	relapse->times = again && relapse->times < RELAPSES_MAX ? relapse->times + 1
	                 : again                                ? RELAPSES_MAX
	                                                        : 0;
	sick->start_ms = now;
	sick->next_ms = again ? now + (1000u << relapse->times) : now;
	sick->rest_ms = LOOK_MS;
}

static void put_off(struct mg_mender *mender, uint32_t shard, const char *why)
{
	struct sick *sick = &mender->sick[shard];

	if (strcmp(sick->told, why) != 0) {
		mg_copy_text(sick->told, sizeof sick->told, why);
		tell(mender, "replica.waits", shard, why);
	}
	/* A newer snapshot is there soon; anything else may take its time. */
	sick->rest_ms = sick->index ? LOOK_MS : sick->rest_ms;
	sick->next_ms = mg_clock_ms() + sick->rest_ms;
	sick->rest_ms = sick->rest_ms * 2 > AGAIN_MS_MAX ? AGAIN_MS_MAX : sick->rest_ms * 2;
}

static void note_mended(struct mg_mender *mender, uint32_t shard)
{
	struct sick *sick = &mender->sick[shard];
	uint64_t now = mg_clock_ms();
	char *text = mg_format("at index %" PRIu64 ", in %" PRIu64 " ms", sick->manifest.snapshot.index,
	                       now - sick->start_ms);

	mender->relapses[shard].mended_ms = now;
	mg_manifest_fini(&sick->manifest);
	pthread_mutex_lock(&mender->lock);
	*sick = (struct sick){ 0 };
	note_mending(mender, shard, false);
	pthread_mutex_unlock(&mender->lock);
	mg_metric_add(mender->rebuilt, 1);
	tell(mender, "replica.rebuilt", shard, text);
	mg_free(text);
	mg_replica__kick_placer(mender->replica);
}

/* One try, if it is time for one. */
static void mend(struct mg_mender *mender, uint32_t shard)
{
	struct sick *sick = &mender->sick[shard];
	struct mg_error err = { 0 };

	if (!sick->start_ms) {
		begin_tries(mender, shard);
	}
	if (mg_clock_ms() < sick->next_ms) {
		return;
	}
	if (try_once(mender, shard, &err)) {
		put_off(mender, shard, err.message);
	} else {
		note_mended(mender, shard);
	}
}

/* ---- the thread ---- */

/* A replica that could not apply its log.  Alone, nobody has a better one. */
static void look_for_failures(struct mg_mender *mender)
{
	struct mg_replica *replica = mender->replica;

	for (uint32_t i = 0; !mg_replica_is_alone(replica) && i < replica_count(replica); i++) {
		struct mg_error err = { 0 };
		struct mg_kv_sm *keys = keys_of(replica, i);
		int code = keys ? mg_kv_sm_failed(keys, &err)
		                : mg_shard_sm_failed(replica->shards[i], &err);

		/* What a newer release has written is no damage. */
		if (code && code != MG_E_PROTOCOL) {
			mg_replica__mend(replica, i, err.message, NULL);
		}
	}
}

static bool is_wanted(struct mg_mender *mender, uint32_t shard)
{
	pthread_mutex_lock(&mender->lock);
	bool wanted = mender->sick[shard].wanted;
	pthread_mutex_unlock(&mender->lock);
	return wanted;
}

static void *work(void *arg)
{
	struct mg_mender *mender = arg;

	do {
		look_for_failures(mender);
		for (uint32_t i = 0; i < replica_count(mender->replica) && !is_stopping(mender); i++) {
			if (is_wanted(mender, i)) {
				mend(mender, i);
			}
		}
	} while (rest(mender, LOOK_MS, true));
	return NULL;
}

void mg_replica__make_mender(struct mg_replica *replica)
{
	struct mg_mender *mender = mg_alloc0(sizeof *mender);
	size_t shards = mg_replica__group_max(replica) - 1;

	mender->replica = replica;
	mender->sick = mg_alloc0(shards * sizeof *mender->sick);
	mender->relapses = mg_alloc0(shards * sizeof *mender->relapses);
	mender->damaged = mg_metric_counter("merganser_replicas_damaged_total", "",
	                                    "Replicas of this server that were found damaged.");
	mender->rebuilt = mg_metric_counter("merganser_replicas_rebuilt_total", "",
	                                    "Replicas that were made anew from another server.");
	mender->mending =
		mg_metric_gauge("merganser_replicas_mending", "",
	                    "Damaged replicas that serve nothing until they are made anew.");
	pthread_mutex_init(&mender->lock, NULL);
	mg_cond_init(&mender->changed);
	replica->mending = mg_alloc0(shards * sizeof *replica->mending);
	replica->mender = mender;
}

int mg_replica__start_mender(struct mg_replica *replica, struct mg_error *err)
{
	struct mg_mender *mender = replica->mender;

	if (!replica->options.peers) {
		return 0;
	}
	int failed = pthread_create(&mender->thread, NULL, work, mender);

	mender->started = failed == 0;
	return failed ? mg_error_errno(err, failed, "cannot start a thread to mend replicas") : 0;
}

void mg_replica__end_mender(struct mg_replica *replica)
{
	struct mg_mender *mender = replica->mender;

	pthread_mutex_lock(&mender->lock);
	mender->stopping = true;
	pthread_cond_broadcast(&mender->changed);
	pthread_mutex_unlock(&mender->lock);
}

void mg_replica__join_mender(struct mg_replica *replica)
{
	if (replica->mender->started) {
		pthread_join(replica->mender->thread, NULL);
		replica->mender->started = false;
	}
}

void mg_replica__free_mender(struct mg_replica *replica)
{
	struct mg_mender *mender = replica->mender;

	mg_manifest_fini(&mender->manifest);
	for (uint32_t i = 0; i < replica_count(replica); i++) {
		mg_manifest_fini(&mender->sick[i].manifest);
	}
	mg_free(mender->sick);
	mg_free(mender->relapses);
	mg_free(replica->mending);
	pthread_cond_destroy(&mender->changed);
	pthread_mutex_destroy(&mender->lock);
	mg_free(mender);
}
