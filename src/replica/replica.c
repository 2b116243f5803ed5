/*
 * replica.c - see replica.h: life of the groups, and checkpoints.
 *
 * The rest: ask.c (proposals and reads), commit.c (transactions), coordinator.c (who may commit).
 */
#include "replica/replica_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/wait.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum {
	FIRST = 1, /* the node whose bootstrap made the cluster */
	START_MS_MAX = 600 * 1000,
	CHECKPOINT_MS_MAX = 5 * 1000,
	LEAVE_MS_MAX = 1000,
	PROPOSAL_MS_MAX = 60 * 1000,
	DEAD_AFTER_MS = 5 * 60 * 1000,
};
/* What was applied lately, for workers that follow: of all shards, of each at least. */
#define FOLLOW_BYTES_MAX (128u << 20)
#define FOLLOW_BYTES_MIN (2u << 20)

uint32_t mg_replica__group(uint32_t shard)
{
	return shard + 1;
}

size_t mg_replica__group_count(const struct mg_replica *replica)
{
	return (size_t)replica->options.shard_count + 2 + atomic_load(&replica->kv_shards);
}

size_t mg_replica__group_max(const struct mg_replica *replica)
{
	uint32_t kv_shards = replica->options.kv_shards;

	return (size_t)replica->options.shard_count + 2 +
	       (kv_shards ? kv_shards : MG_REPLICA_KV_GROW_MAX);
}

bool mg_replica__is_shard(const struct mg_replica *replica, uint32_t group)
{
	return group > 0 && group <= replica->options.shard_count + 1;
}

bool mg_replica__is_of_keys(const struct mg_replica *replica, uint32_t group)
{
	return group > replica->options.shard_count + 1;
}

bool mg_replica__stopping(struct mg_replica *replica)
{
	pthread_mutex_lock(&replica->lock);
	bool stopping = replica->stopping;
	pthread_mutex_unlock(&replica->lock);
	return stopping;
}

/* ---- the catalog ---- */

/* Twice does no harm: the second time it is not the version after the current one. */
static int propose_catalog(void *arg, const char *text, size_t len, bool anywhere,
                           struct mg_error *err)
{
	struct mg_replica *replica = arg;
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	anywhere = anywhere && !atomic_load(&replica->alone);
	int code = mg_replica__propose(replica, 0, anywhere ? MG_TRY_MORE : MG_TRY_ONCE, NULL, text,
	                               len, &wait, err);

	code = code ? code : mg_wait_all(&wait, err);
	if (!code && mg_replica__reach(replica, &wait, MG_REPLICA_PATIENCE_MS, err)) {
		/* It is committed: whoever takes it for failed would undo what others will see. */
		code = mg_error_set(err, MG_E_UNKNOWN_OUTCOME,
		                    "the catalog was changed, and this node does not show it yet");
	}
	mg_wait_fini(&wait);
	return code;
}

/* ---- life ---- */

/* The groups began long ago when the catalog names others: without its log the first node would
 * begin them again, alone. */
static int check_first(struct mg_replica *replica, struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	int code = 0;

	for (size_t i = 0; replica->options.peers && !code && i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];

		if (node->number != replica->options.self && !mg_text_eq(node->state, MG_NODE_REMOVED)) {
			code = mg_error_set(err, MG_E_NOT_FOUND,
			                    "log/raft of the data directory is lost or incomplete, and server "
			                    "\"%.64s\" belongs to this cluster, too",
			                    node->id);
			mg_error_hint(err, "Put the whole directory back as it was.  When it is lost: "
			                   "merganser cluster remove, on another server, then start this one "
			                   "with an empty directory and --join; it becomes a new node.");
		}
	}
	mg_catalog_give(replica->options.catalog, data);
	return code;
}

static int birth(struct mg_replica *replica, uint32_t group, struct mg_error *err)
{
	struct mg_raft_node *node = mg_raft_host_node(replica->host);
	bool later = group > replica->options.shard_count + 1 && replica->kv_births.count > 0;
	const struct mg_members *births = later ? &replica->kv_births : &replica->options.births;

	if (mg_raft_node_knows(node, group)) {
		return 0;
	}
	if (!later && replica->self_begins && check_first(replica, err)) {
		return MG_E_NOT_FOUND;
	}
	return births->count
	           ? mg_raft_node_birth(node, group, births, err)
	           : mg_error_set(err, MG_E_NOT_FOUND, "this node has not got group %" PRIu32, group);
}

int mg_replica__open_group(struct mg_replica *replica, uint32_t group, struct mg_sm *sm,
                           struct mg_error *err)
{
	struct mg_group *opened = NULL;
	struct mg_group_info info;
	int code = birth(replica, group, err);

	replica->lost_log = replica->lost_log || code == MG_E_NOT_FOUND;
	code = code ? code
	            : mg_raft_node_open(mg_raft_host_node(replica->host), group, sm, &opened, err);
	if (!code) {
		mg_group_info(opened, &info);
		mg_replica__on_applied(replica, group, info.applied);
	}
	return code;
}

static void on_catalog(void *arg)
{
	struct mg_replica *replica = arg;

	mg_replica__name_peers(replica);
	mg_replica__kick_placer(replica);
	if (replica->options.on_catalog) {
		replica->options.on_catalog(replica->options.arg);
	}
}

static void on_write(void *arg, uint32_t shard)
{
	const struct mg_replica *replica = arg;

	replica->options.on_write(replica->options.arg, shard);
}

/* A file that is replaced. */
struct swapping {
	const struct mg_replica *replica;
	uint32_t shard;
	int (*swap)(void *arg, struct mg_error *err);
	void *arg;
};

/* Nobody reads yet. */
static int swap_and_forget(void *arg, struct mg_error *err)
{
	const struct swapping *swapping = arg;
	int code = swapping->swap(swapping->arg, err);

	mg_shard_locks_forget(swapping->replica->locks, swapping->shard);
	return code;
}

static int gate(void *arg, uint32_t shard, int (*swap)(void *swap_arg, struct mg_error *err),
                void *swap_arg, struct mg_error *err)
{
	const struct mg_replica *replica = arg;
	struct swapping swapping = { replica, shard, swap, swap_arg };

	return replica->options.gate(replica->options.arg, shard, swap_and_forget, &swapping, err);
}

/* Of each shard. */
static size_t follow_bytes(uint32_t shards)
{
	size_t part = FOLLOW_BYTES_MAX / (shards + 1u);

	return part > FOLLOW_BYTES_MIN ? part : FOLLOW_BYTES_MIN;
}

static int open_shard(struct mg_replica *replica, uint32_t number, struct mg_error *err)
{
	const struct mg_replica_options *options = &replica->options;
	const struct mg_shard_sm_options shard = {
		.host = replica->host,
		.duck = options->duck,
		.shard = number,
		.group = mg_replica__group(number),
		.on_write = options->on_write ? on_write : NULL,
		.on_applied = mg_replica__on_applied,
		.gate = options->gate ? gate : NULL,
		.self = options->self,
		.on_mark = mg_replica__on_mark,
		.on_differs = mg_replica__on_differs,
		.cuts = replica->cuts,
		.arg = replica,
		.dir = options->peers ? options->dir : NULL,
		.puller = replica->puller,
		.source = replica->source,
		.changes = mg_replica__changes_of(replica, number),
		.stands_in = options->damaged && options->damaged[number],
		.follow_bytes = follow_bytes(options->shard_count),
	};
	int code = mg_shard_sm_open(&replica->shards[number], &shard, err);

	if (!code && shard.stands_in) {
		mg_replica__mend_stand_in(replica, number, options->damaged[number]);
		return 0;
	}
	return code ? code
	            : mg_replica__open_group(replica, shard.group,
	                                     mg_shard_sm_seam(replica->shards[number]), err);
}

static int open_groups(struct mg_replica *replica, struct mg_error *err)
{
	const struct mg_replica_options *options = &replica->options;
	const struct mg_catalog_sm_options catalog = {
		.host = replica->host,
		.catalog = options->catalog,
		.on_change = on_catalog,
		.on_applied = mg_replica__on_applied,
		.arg = replica,
		.dir = options->peers ? options->dir : NULL,
		.puller = replica->puller,
		.source = replica->source,
	};
	int code = mg_catalog_sm_open(&replica->catalog_sm, &catalog, err);

	code = code ? code : mg_replica__open_group(replica, 0, mg_catalog_sm_seam(replica->catalog_sm),
	                                            err);
	for (uint32_t i = 0; !code && i <= options->shard_count; i++) {
		code = open_shard(replica, i, err);
	}
	return code ? code : mg_replica__open_kv(replica, err);
}

static void rest_ms(long ms)
{
	const struct timespec time = { .tv_nsec = ms * 1000000L };

	(void)nanosleep(&time, NULL);
}

struct look {
	struct mg_replica *replica;
	int failed;
};

static void look_now(void *arg)
{
	struct look *look = arg;
	struct mg_raft_node *node = mg_raft_host_node(look->replica->host);

	for (uint32_t i = 0; node && i < mg_replica__group_count(look->replica); i++) {
		struct mg_group *group = mg_raft_node_group(node, i);
		struct mg_group_info info = { 0 };

		if (group) {
			mg_group_info(group, &info);
		}
		look->failed = look->failed ? look->failed : info.failed;
	}
}

/* Why waiting for anything is in vain, or 0. */
static int look_for_failures(struct mg_replica *replica, struct mg_error *err)
{
	struct look look = { .replica = replica };
	int code = mg_replica_failed(replica, err);

	if (!code) {
		mg_raft_host_call(replica->host, look_now, &look);
		code = mg_replica_failed(replica, err); /* which says more */
	}
	return code || !look.failed
	           ? code
	           : mg_error_set(err, look.failed, "the log of a shard cannot be applied");
}

int mg_replica__barrier_of_all(struct mg_replica *replica, struct mg_error *err)
{
	size_t count = (size_t)replica->options.shard_count + 1;
	uint32_t *all = mg_alloc(count * sizeof *all);

	for (uint32_t i = 0; i < count; i++) {
		all[i] = i;
	}
	int code = mg_replica__barrier(replica, all, count, err);

	mg_free(all);
	return code;
}

/* Until there is nothing to wait for but others. */
static int await(struct mg_replica *replica, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + START_MS_MAX;
	int code;

	do {
		code = look_for_failures(replica, err);
		if (code) {
			break;
		}
		code = mg_replica__barrier_of_all(replica, err);
	} while ((code == MG_E_UNAVAILABLE || code == MG_E_TIMEOUT) && mg_clock_ms() < until);
	return code;
}

int mg_replica_wait(struct mg_replica *replica, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + START_MS_MAX;
	int code = await(replica, err);

	/* Alone, nobody else can coordinate. */
	while (!code && atomic_load(&replica->alone) && !mg_replica_is_coordinator(replica)) {
		code = look_for_failures(replica, err);
		if (!code && mg_clock_ms() >= until) {
			code = mg_error_set(err, MG_E_TIMEOUT, "the log was not applied in %d s",
			                    START_MS_MAX / 1000);
		}
		rest_ms(1);
	}
	return code;
}

static void on_log_failed(void *arg, int code)
{
	struct mg_replica *replica = arg;

	atomic_store(&replica->log_failed, code);
	mg_log(MG_LOG_ERROR, "raft.log.failed", "code=%d", code);
}

static struct mg_replica *replica_new(const struct mg_replica_options *options)
{
	struct mg_replica *replica = mg_alloc0(sizeof *replica);

	replica->options = *options;
	replica->options.self = options->peers ? options->self : FIRST;
	replica->options.dead_after_ms =
		options->dead_after_ms ? options->dead_after_ms : DEAD_AFTER_MS;
	if (replica->options.self == FIRST && options->births.count == 0) {
		replica->self_begins = true;
		replica->options.births =
			(struct mg_members){ .list = { { FIRST, MG_MEMBER_VOTER } }, .count = 1 };
	}
	atomic_store(&replica->unready, "this node is starting");
	atomic_store(&replica->kv_shards, options->kv_shards);
	pthread_mutex_init(&replica->kv_lock, NULL);
	replica->shards = mg_alloc0(((size_t)options->shard_count + 1) * sizeof *replica->shards);
	replica->applied = mg_alloc0(mg_replica__group_max(replica) * sizeof *replica->applied);
	replica->acked = mg_alloc0(mg_replica__group_max(replica) * sizeof *replica->acked);
	replica->fresh_ms = mg_alloc0(mg_replica__group_max(replica) * sizeof *replica->fresh_ms);
	replica->leaders = mg_alloc0(mg_replica__group_max(replica) * sizeof *replica->leaders);
	replica->locks = mg_shard_locks_new((size_t)options->shard_count + 1);
	replica->cuts = mg_cuts_new((size_t)options->shard_count + 1);
	mg_cuts_on_wait(replica->cuts, mg_replica__hurry, mg_replica__moves, replica);
	pthread_mutex_init(&replica->one_by_one, NULL);
	mg_replica__init_changes(replica);
	pthread_mutex_init(&replica->lock, NULL);
	mg_cond_init(&replica->changed);
	pthread_cond_init(&replica->leading, NULL);
	mg_replica__make_placer(replica);
	mg_replica__make_mender(replica);
	mg_replica__make_checker(replica);
	return replica;
}

static int open_host(struct mg_replica *replica, struct mg_error *err)
{
	const struct mg_replica_options *options = &replica->options;
	const struct mg_raft_host_options host = {
		.dir = options->dir,
		.self = options->self,
		.net = options->peers ? mg_peers_net(options->peers) : NULL,
		.raft = { .proposal_timeout_ms = PROPOSAL_MS_MAX,
		          .election_ms = options->election_ms,
		          .heartbeat_ms = options->heartbeat_ms,
		          .no_leases = options->no_leases,
		          .on_role = mg_replica__on_role,
		          .on_leader = mg_replica__on_leader,
		          .watch_arg = replica },
		.on_failed = on_log_failed,
		.on_failed_arg = replica,
	};

	int code = mg_raft_host_open(&replica->host, &host, err);

	replica->lost_log = code == MG_E_CORRUPT;
	if (!code && options->peers) {
		const struct mg_snapshot_source_options source = { .host = replica->host };

		code = mg_snapshot_source_new(&replica->source, &source, err);
		code = code ? code : mg_snapshot_puller_new(&replica->puller, options->peers, err);
	}
	return code;
}

static int look_around(struct mg_replica *replica, struct mg_error *err)
{
	struct mg_group_look *looks = mg_replica__looks(replica);
	bool alone = mg_replica__is_alone(replica, looks);
	int code = 0;

	atomic_store(&replica->alone, alone);
	if (!alone && !replica->options.peers) {
		code = mg_error_set(err, MG_E_UNAVAILABLE,
		                    "this data directory is one of %zu of its cluster",
		                    looks[0].members.count);
		mg_error_hint(err, "Start it with the others: \"merganser server\".");
	}
	mg_free(looks);
	return code;
}

/* Nothing after it fails but the last thread, so that it ends by mg_replica_stop. */

static void join_others(struct mg_replica *replica)
{
	if (replica->options.peers) {
		const struct mg_forward_options forward = {
			.host = replica->host,
			.peers = replica->options.peers,
			.serve = mg_replica__serve,
			.arg = replica,
		};

		replica->forward = mg_forward_new(&forward);
		mg_peers_set_bulk(replica->options.peers, mg_snapshot_source_take, replica->source);
		mg_replica__name_peers(replica);
		mg_peers_start(replica->options.peers, replica->host);
	}
}

int mg_replica_open(struct mg_replica **out, const struct mg_replica_options *options,
                    struct mg_error *err)
{
	struct mg_replica *replica = replica_new(options);
	uint64_t start = mg_clock_ms();

	*out = replica;
	int code = open_host(replica, err);

	code = code ? code : mg_replica__open_changes(replica, err);
	code = code ? code : open_groups(replica, err);
	code = code ? code : mg_replica__coordinate(replica, err);
	code = code ? code : mg_raft_host_start(replica->host, err);
	replica->started = code == 0;
	if (!code) {
		join_others(replica);
		mg_replica__start_kv(replica);
	}
	code = code ? code : look_around(replica, err);
	if (!code && atomic_load(&replica->alone)) {
		code = mg_replica_wait(replica, err);
		atomic_store(&replica->unready, NULL);
	}
	code = code ? code : mg_replica__start_mender(replica, err);
	code = code ? code : mg_replica__start_checker(replica, err);
	code = code ? code : mg_replica__start_placer(replica, err);
	if (code) {
		return mg_error_wrap(err, "while opening the log");
	}
	mg_catalog_set_log(options->catalog, propose_catalog, replica);
	mg_log(MG_LOG_INFO, "replica.open", "groups=%zu took_ms=%" PRIu64,
	       mg_replica__group_count(replica), mg_clock_ms() - start);
	return 0;
}

bool mg_replica_lost_log(const struct mg_replica *replica)
{
	return replica->lost_log;
}

/* ---- checkpoints ---- */

struct ask {
	struct mg_replica *replica;
	uint32_t group;
	uint64_t index; /* to be in a snapshot; 0: as much as is applied now */
	bool done;
	int failed;
};

static void ask_now(void *arg)
{
	struct ask *ask = arg;
	struct mg_group *group = mg_raft_host_group(ask->replica->host, ask->group);
	struct mg_group_info info = { .failed = MG_E_SHUTDOWN };

	if (group) {
		mg_group_info(group, &info);
		const struct mg_manifest *snapshot = mg_group_snapshot(group);

		ask->index = ask->index ? ask->index : info.applied;
		ask->done = snapshot && snapshot->snapshot.index >= ask->index;
		if (!ask->done) {
			mg_group_ask_snapshot(group);
		}
	}
	ask->failed = info.failed;
}

int mg_replica_checkpoint(struct mg_replica *replica, uint32_t shard, struct mg_error *err)
{
	struct ask ask = { .replica = replica, .group = mg_replica__group(shard) };
	uint64_t until = mg_clock_ms() + CHECKPOINT_MS_MAX;

	if (mg_replica__is_mending(replica, shard)) {
		return mg_error_set(err, MG_E_BUSY, "shard %" PRIu32 " is being made anew", shard);
	}
	if (!mg_shard_sm_changing(replica->shards[shard]) &&
	    !mg_shard_sm_dirty(replica->shards[shard])) {
		return 0;
	}
	struct mg_error failure = { 0 };
	uint64_t failed = mg_shard_sm_freezes_failed(replica->shards[shard], &failure);

	for (;;) {
		mg_raft_host_call(replica->host, ask_now, &ask);
		if (ask.done || ask.failed) {
			return ask.failed
			           ? mg_error_set(err, ask.failed, "shard %" PRIu32 " is out of service", shard)
			           : 0;
		}
		if (mg_shard_sm_freezes_failed(replica->shards[shard], &failure) != failed) {
			*err = failure;
			return failure.code;
		}
		if (mg_clock_ms() >= until) {
			return mg_error_set(err, MG_E_BUSY, "shard %" PRIu32 " could not be written yet",
			                    shard);
		}
		rest_ms(2);
	}
}

struct mg_follow_log *mg_replica_follow(struct mg_replica *replica, uint32_t shard)
{
	return mg_shard_sm_follow(replica->shards[shard]);
}

void mg_replica_want(struct mg_replica *replica, uint32_t shard, uint64_t index)
{
	mg_shard_sm_want(replica->shards[shard], index);
}

bool mg_replica_file_state(struct mg_replica *replica, uint32_t shard, uint64_t *index,
                           uint64_t *term)
{
	return !mg_replica__is_mending(replica, shard) &&
	       mg_shard_sm_file_state(replica->shards[shard], index, term);
}

int mg_replica_read_file(struct mg_replica *replica, uint32_t shard, uint64_t index,
                         int (*read)(void *arg, struct mg_error *err), void *arg,
                         struct mg_error *err)
{
	return mg_shard_sm_read_file(replica->shards[shard], index, read, arg, err);
}

enum mg_late mg_replica_changed_since(struct mg_replica *replica, uint32_t shard, uint64_t index,
                                      const int64_t *rids, size_t count)
{
	return mg_shard_sm_changed_since(replica->shards[shard], index, rids, count);
}

/* What the files do not hold yet is in the log: this only saves the next start its time. */
static void write_checkpoints(struct mg_replica *replica)
{
	int code = 0;

	for (uint32_t i = 0; i <= replica->options.shard_count && code != MG_E_DISK_FULL; i++) {
		struct mg_error err = { 0 };

		code = mg_replica_checkpoint(replica, i, &err);
	}
}

struct leave {
	struct mg_replica *replica;
	size_t leads; /* groups that others could lead, and do not yet */
};

static void leave_now(void *arg)
{
	struct leave *leave = arg;

	leave->leads = 0;
	for (uint32_t i = 0; i < mg_replica__group_count(leave->replica); i++) {
		struct mg_group *group = mg_raft_host_group(leave->replica->host, i);
		struct mg_group_info info = { 0 };

		if (group) {
			mg_group_info(group, &info);
		}
		if (info.core.role == MG_RAFT_LEADER) {
			leave->leads += info.core.transferring || mg_group_transfer(group, 0, NULL) == 0;
		}
	}
}

/* Others lead at once what this node leads; else they would have to miss it first. */
static void lead_no_more(struct mg_replica *replica)
{
	struct leave leave = { .replica = replica, .leads = 1 };
	uint64_t until = mg_clock_ms() + LEAVE_MS_MAX;

	while (!atomic_load(&replica->alone) && leave.leads && mg_clock_ms() < until) {
		mg_raft_host_call(replica->host, leave_now, &leave);
		if (leave.leads) {
			rest_ms(5);
		}
	}
}

static void end_asking(void *arg)
{
	mg_forward_stop(arg);
}

static void stop_coordinating(struct mg_replica *replica)
{
	pthread_mutex_lock(&replica->lock);
	replica->stopping = true;
	atomic_store(&replica->epoch, 0);
	pthread_cond_broadcast(&replica->changed);
	pthread_cond_signal(&replica->leading);
	pthread_mutex_unlock(&replica->lock);
}

void mg_replica_stop(struct mg_replica *replica)
{
	if (replica->stopped) {
		return;
	}
	replica->stopped = true;
	mg_replica__end_placer(replica);
	mg_replica__end_mender(replica);
	mg_replica__end_checker(replica);
	if (replica->started) {
		lead_no_more(replica);
		write_checkpoints(replica);
	}
	stop_coordinating(replica);
	if (replica->puller) {
		mg_snapshot_puller_stop(replica->puller);
	}
	if (replica->source) {
		mg_snapshot_source_stop(replica->source);
	}
	for (size_t i = 0; i <= replica->options.shard_count; i++) {
		if (replica->shards[i]) {
			mg_shard_sm_stop(replica->shards[i]);
		}
	}
	mg_replica__stop_kv(replica);
	if (replica->catalog_sm) {
		mg_catalog_sm_stop(replica->catalog_sm);
	}
	if (replica->host) {
		mg_raft_host_stop(replica->host);
	}
	if (replica->forward) {
		mg_raft_host_call(replica->host, end_asking, replica->forward);
	}
	if (replica->coordinates) {
		pthread_join(replica->coordinator, NULL);
	}
	mg_replica__join_mender(replica);
	mg_replica__join_checker(replica);
	mg_replica__join_placer(replica);
}

void mg_replica_close(struct mg_replica *replica)
{
	if (!replica) {
		return;
	}
	mg_replica_stop(replica);
	mg_catalog_set_log(replica->options.catalog, NULL, NULL);
	mg_raft_host_close(replica->host);
	mg_forward_free(replica->forward);
	mg_snapshot_source_free(replica->source);
	mg_snapshot_puller_free(replica->puller);
	for (size_t i = 0; i <= replica->options.shard_count; i++) {
		mg_shard_sm_free(replica->shards[i]);
	}
	mg_replica__free_kv(replica);
	mg_replica__close_changes(replica);
	mg_catalog_sm_free(replica->catalog_sm);
	mg_replica__free_placer(replica);
	mg_replica__free_mender(replica);
	mg_replica__free_checker(replica);
	mg_cuts_free(replica->cuts);
	pthread_mutex_destroy(&replica->one_by_one);
	mg_replica__fini_changes(replica);
	pthread_cond_destroy(&replica->changed);
	pthread_cond_destroy(&replica->leading);
	pthread_mutex_destroy(&replica->lock);
	mg_free(replica->downs);
	mg_free(replica->applied);
	mg_free(replica->acked);
	mg_free(replica->fresh_ms);
	mg_free(replica->leaders);
	mg_free(replica->kept_looks);
	mg_free(replica->shards);
	mg_shard_locks_free(replica->locks);
	mg_free(replica);
}

int mg_replica_lock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                    size_t count, bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	int code = mg_shard_locks_take(replica->locks, mode, shards, count, stopped, arg, err);

	if (!code && mode != MG_LOCK_ADD) {
		const struct mg_patience patience = { MG_REPLICA_PATIENCE_MS, true, stopped, arg };

		code = mg_replica_await_acked(replica, shards, count, &patience, err);
		if (code) {
			mg_shard_locks_give(replica->locks, mode, shards, count);
		}
	}
	return code;
}

bool mg_replica_try_lock(struct mg_replica *replica, const uint32_t *shards, size_t count)
{
	return mg_shard_locks_try_add(replica->locks, shards, count);
}

void mg_replica_unlock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                       size_t count)
{
	mg_shard_locks_give(replica->locks, mode, shards, count);
}

int mg_replica_lock_key(struct mg_replica *replica, struct mg_key_lock *key,
                        bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	return mg_shard_locks_take_key(replica->locks, key, stopped, arg, err);
}

void mg_replica_unlock_key(struct mg_replica *replica, const struct mg_key_lock *key)
{
	mg_shard_locks_give_key(replica->locks, key);
}

bool mg_replica_key_is_here(struct mg_replica *replica, const struct mg_key_lock *key,
                            uint64_t epoch)
{
	return mg_shard_locks_key_is_here(replica->locks, key, epoch) &&
	       !mg_replica_whole(replica, &key->shard, 1, NULL);
}

void mg_replica_doubt(struct mg_replica *replica, uint64_t epoch, const uint32_t *shards,
                      size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mg_shard_locks_doubt(replica->locks, shards[i], epoch);
	}
}

bool mg_replica_key_stays(struct mg_replica *replica, const struct mg_key_lock *key)
{
	return mg_shard_locks_key_stays(replica->locks, key);
}

int mg_replica_await_key(struct mg_replica *replica, const struct mg_key_lock *key, uint64_t epoch,
                         bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	int code = mg_replica_long_barrier(replica, &key->shard, 1, stopped, arg, err);

	if (!code) {
		mg_shard_locks_key_awaited(replica->locks, key, epoch);
	}
	return code;
}

struct mg_cuts *mg_replica_cuts(struct mg_replica *replica)
{
	return replica->cuts;
}

int mg_replica_failed(struct mg_replica *replica, struct mg_error *err)
{
	int code = atomic_load(&replica->log_failed);

	if (code) {
		mg_error_set(err, code, "this server cannot write its log");
		mg_error_hint(err, "Make room or mend the disk, then start the server again.");
		return code;
	}
	for (uint32_t i = 0; !code && i <= replica->options.shard_count; i++) {
		code = replica->shards[i] ? mg_shard_sm_failed(replica->shards[i], err) : 0;
	}
	return code ? code : mg_replica__kv_failed(replica, err);
}
