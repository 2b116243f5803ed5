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
 * it waits, as long as it takes.
 *
 * owner: its thread, but for what `lock` guards.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
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
	bool wanted;
	bool closed, aside, kept; /* owner: the thread: how far it is */
	const char *why; /* until it is told */
	struct mg_members good;
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
	/* guarded by lock */
	struct sick *sick; /* by shard */
	bool kicked, stopping;
	/* guarded by lock: of the pull, or of the mark, that is under way */
	bool done;
	struct mg_error err;
	struct mg_manifest manifest; /* owned */
};

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
	char *text = mg_format("shard %" PRIu32 ": %s", shard, detail);

	mg_log(MG_LOG_WARN, "cluster.event", "event=%s detail=\"%s\"", event, text);
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

static void want(struct mg_mender *mender, uint32_t shard, const struct sick *wanted)
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
		tell(mender, "replica.damaged", shard, wanted->why);
		mg_replica__kick_placer(mender->replica);
	}
}

void mg_replica__mend(struct mg_replica *replica, uint32_t shard, const char *why,
                      const struct mg_members *good)
{
	struct sick sick = { .wanted = true, .why = why };

	if (good) {
		sick.good = *good;
	}
	want(replica->mender, shard, &sick);
}

void mg_replica__mend_stand_in(struct mg_replica *replica, uint32_t shard, const char *why)
{
	const struct sick sick = {
		.wanted = true, .closed = true, .aside = true, .kept = true, .why = why
	};

	want(replica->mender, shard, &sick);
}

/* ---- waiting ---- */

static bool is_stopping(struct mg_mender *mender)
{
	pthread_mutex_lock(&mender->lock);
	bool stopping = mender->stopping;
	pthread_mutex_unlock(&mender->lock);
	return stopping;
}

static struct timespec in_ms(uint64_t ms)
{
	uint64_t until = mg_clock_ms() + ms;

	return (struct timespec){ .tv_sec = (time_t)(until / 1000),
		                      .tv_nsec = (long)(until % 1000) * 1000000 };
}

/* False: the end. */
static bool rest(struct mg_mender *mender, uint64_t ms, bool for_kicks)
{
	struct timespec until = in_ms(ms);
	int timed_out = 0;

	pthread_mutex_lock(&mender->lock);
	while (!mender->stopping && !(for_kicks && mender->kicked) && timed_out == 0) {
		timed_out = pthread_cond_timedwait(&mender->changed, &mender->lock, &until);
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

/* What the group has in hand comes to its end first, but nothing new is begun. */
static void close_now(void *arg)
{
	struct closing *closing = arg;
	struct mg_group *group = mg_raft_host_group(closing->replica->host, closing->group);

	if (group) {
		mg_group_fail(group, MG_E_CORRUPT);
	}
	closing->closed = (!group || mg_group_is_idle(group)) &&
	                  (closing->group == 0 ||
	                   mg_shard_sm_rest(closing->replica->shards[closing->group - 1]));
	if (group && closing->closed) {
		mg_raft_node_close(group, false);
	}
}

/* The placer gives away what a node leads that mends something; not for ever, when nobody takes it.
 */
static void stop_leading(struct mg_mender *mender, uint32_t shard)
{
	struct closing own = { .replica = mender->replica, .group = mg_replica__group(shard) };
	struct closing first = { .replica = mender->replica, .group = 0 };
	uint64_t until = mg_clock_ms() + LEAVE_MS_MAX;

	do {
		mg_raft_host_call(mender->replica->host, look_now, &own);
		mg_raft_host_call(mender->replica->host, look_now, &first);
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
	char *kept = sick->kept ? NULL : mg_replica_kept_path(replica->options.dir, shard);
	struct mg_shard_meta meta;

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
	struct mg_manifest found;

	if (!err && !pulled->raft) {
		mg_error_set(&why, MG_E_BUSY, "the snapshot is not the group's newest any more");
	} else if (!err) {
		struct mg_in in = mg_in(pulled->raft->data, pulled->raft->size);

		if (mg_manifest_decode(&in, &found, &why) == 0) {
			mender->manifest = mg_manifest_copy(&found);
		}
	}
	end(mender, err ? err : why.code ? &why : NULL);
}

/* Those that are connected take turns; of the good ones, when some are known.  0: nobody. */
static uint64_t find_peer(struct mg_mender *mender, const struct mg_members *good, unsigned turn)
{
	struct mg_peers *peers = mender->replica->options.peers;
	size_t max = mg_peers_list(peers, NULL, 0) + 1;
	struct mg_peer_info *infos = mg_alloc0(max * sizeof *infos);
	size_t count = mg_peers_list(peers, infos, max), found = 0;
	uint64_t peer = 0;

	for (size_t i = 0; i < count && i < max; i++) {
		if (infos[i].connected && (!good->count || mg_members_find(good, infos[i].node))) {
			infos[found++] = infos[i];
		}
	}
	if (found) {
		peer = infos[turn % found].node;
	}
	mg_free(infos);
	return peer;
}

static int pull(struct mg_mender *mender, uint32_t shard, const char *path, uint64_t index,
                uint64_t peer, struct mg_error *err)
{
	mg_manifest_fini(&mender->manifest);
	begin(mender);
	mg_shard_sm_pull_newest(mender->replica->shards[shard], path, index, peer, on_pulled, mender);
	return await(mender, err);
}

struct marking {
	struct mg_mender *mender;
	uint32_t group;
	uint64_t mark; /* the log's own */
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
		(void)mg_raft_node_reseed(node, marking->group, &mender->manifest, on_marked, mender, &err);
	}
	if (err.code) {
		end(mender, &err);
	}
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
	struct mg_sm *seam = mg_shard_sm_seam(replica->shards[opening->shard]);

	if (!node) {
		opening->code = mg_error_set(&opening->err, MG_E_SHUTDOWN, "the server is stopping");
		return;
	}
	opening->code = mg_raft_node_open(node, number, seam, &group, &opening->err);
	if (!opening->code) {
		struct mg_group_info info;

		mg_group_info(group, &info);
		mg_replica__on_applied(replica, number, info.applied);
	}
}

/* The pulled file becomes the replica, and the group goes on. */
static int put_in(struct mg_mender *mender, uint32_t shard, const char *path, struct mg_error *err)
{
	struct mg_replica *replica = mender->replica;
	struct marking marking = { .mender = mender, .group = mg_replica__group(shard) };
	struct opening opening = { .replica = replica, .shard = shard };

	begin(mender);
	mg_raft_host_call(replica->host, mark_now, &marking);
	int code = await(mender, err);

	if (code) {
		return code;
	}
	code = mg_shard_sm_put_in(replica->shards[shard], path, mender->manifest.snapshot.index,
	                          mender->manifest.snapshot.term, err);
	if (!code) {
		mg_raft_host_call(replica->host, open_now, &opening);
		code = opening.code;
		*err = code ? opening.err : *err;
	}
	mender->sick[shard].aside = code == 0; /* what is attached now may be half of a replica */
	return code;
}

/* One try, with one other node.  *index: 0, or one that nobody has yet, so that whoever leads the
 * group makes a newer snapshot; then the same node is asked for its newest again: else two of them,
 * one of which does not lead, would each be asked for the wrong thing for ever. */
static int take_over(struct mg_mender *mender, uint32_t shard, unsigned *turn, uint64_t *index,
                     struct mg_error *err)
{
	struct sick *sick = &mender->sick[shard];
	uint64_t peer = find_peer(mender, &sick->good, *index ? *turn : (*turn)++);
	char *path = mg_format("%s/shards/mend-%04" PRIu32 ".duckdb", mender->replica->options.dir,
	                       shard);
	struct mg_error ignored;
	int code = peer ? 0
	                : mg_error_set(err, MG_E_UNAVAILABLE,
	                               "no other server is connected to take it from");

	(void)mg_file_remove(path, &ignored);
	code = code ? code : pull(mender, shard, path, *index, peer, err);
	*index = 0;
	if (!code && !sick->aside) {
		code = set_aside(mender, shard, err);
		sick->aside = code == 0;
	}
	code = code ? code : put_in(mender, shard, path, err);
	if (code && mg_file_exists(path)) {
		/* Too old: who is asked for just this one makes a newer one. */
		*index = code == MG_E_BUSY ? mender->manifest.snapshot.index + 1 : 0;
		(void)mg_file_remove(path, &ignored);
	}
	mg_free(path);
	return code;
}

static int begin_mending(struct mg_mender *mender, uint32_t shard, struct mg_error *err)
{
	struct sick *sick = &mender->sick[shard]; /* wanted: nobody else touches it */
	int code = sick->closed ? 0 : close_group(mender, shard, err);

	sick->closed = sick->closed || code == 0;
	return code;
}

static void mend(struct mg_mender *mender, uint32_t shard)
{
	struct sick *sick = &mender->sick[shard];
	struct relapse *relapse = &mender->relapses[shard];
	uint64_t start = mg_clock_ms(), again_ms = LOOK_MS, index = 0;
	struct mg_error err = { 0 };
	char told[sizeof err.message] = "";
	bool again = relapse->mended_ms && start - relapse->mended_ms < RELAPSE_MS;

	relapse->times = again && relapse->times < RELAPSES_MAX ? relapse->times + 1
	                 : again                                ? RELAPSES_MAX
	                                                        : 0;
	if (again && !rest(mender, 1000u << relapse->times, false)) {
		return;
	}

	for (unsigned turn = 0; !is_stopping(mender);) {
		err = (struct mg_error){ 0 };
		int code = begin_mending(mender, shard, &err);

		code = code ? code : take_over(mender, shard, &turn, &index, &err);
		if (!code) {
			break;
		}
		if (strcmp(told, err.message) != 0) {
			mg_copy_text(told, sizeof told, err.message);
			tell(mender, "replica.waits", shard, err.message);
		}
		if (!rest(mender, again_ms, false)) {
			return;
		}
		/* A newer snapshot is there soon; anything else may take its time. */
		again_ms = index                         ? LOOK_MS
		           : again_ms * 2 > AGAIN_MS_MAX ? AGAIN_MS_MAX
		                                         : again_ms * 2;
	}
	if (is_stopping(mender)) {
		return;
	}
	relapse->mended_ms = mg_clock_ms();
	pthread_mutex_lock(&mender->lock);
	*sick = (struct sick){ 0 };
	note_mending(mender, shard, false);
	pthread_mutex_unlock(&mender->lock);
	char *text = mg_format("at index %" PRIu64 ", in %" PRIu64 " ms",
	                       mender->manifest.snapshot.index, mg_clock_ms() - start);

	mg_metric_add(mender->rebuilt, 1);
	tell(mender, "replica.rebuilt", shard, text);
	mg_free(text);
	mg_replica__kick_placer(mender->replica);
}

/* ---- the thread ---- */

/* A replica that could not apply its log.  Alone, nobody has a better one. */
static void look_for_failures(struct mg_mender *mender)
{
	struct mg_replica *replica = mender->replica;

	for (uint32_t i = 0; !mg_replica_is_alone(replica) && i <= replica->options.shard_count; i++) {
		struct mg_error err = { 0 };

		int code = mg_shard_sm_failed(replica->shards[i], &err);

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
		for (uint32_t i = 0; i <= mender->replica->options.shard_count; i++) {
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
	size_t shards = (size_t)replica->options.shard_count + 1;
	pthread_condattr_t attributes;

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
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&mender->changed, &attributes);
	pthread_condattr_destroy(&attributes);
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
	mg_free(mender->sick);
	mg_free(mender->relapses);
	mg_free(replica->mending);
	pthread_cond_destroy(&mender->changed);
	pthread_mutex_destroy(&mender->lock);
	mg_free(mender);
}
