/*
 * replica.c - see replica.h: life of the groups, and how commands get into the log.
 *
 * Threads: callers post to the raft thread and wait for the proposals' ends; the raft thread never
 * waits for them.
 */
#include "replica/replica_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum {
	SELF = 1, /* a cluster of one */
	START_MS_MAX = 600 * 1000,
	CHECKPOINT_MS_MAX = 5 * 1000,
	KEEP_ENTRIES = 1, /* behind a snapshot: there is no follower that lags */
	PROPOSAL_MS_MAX = 60 * 1000,
};

uint32_t mg_replica__group(uint32_t shard)
{
	return shard + 1;
}

/* ---- proposals ---- */

void mg_wait_init(struct mg_wait_for *wait)
{
	*wait = (struct mg_wait_for){ 0 };
	pthread_mutex_init(&wait->lock, NULL);
	pthread_cond_init(&wait->changed, NULL);
}

void mg_wait_fini(struct mg_wait_for *wait)
{
	pthread_mutex_destroy(&wait->lock);
	pthread_cond_destroy(&wait->changed);
}

static void wait_add(struct mg_wait_for *wait)
{
	pthread_mutex_lock(&wait->lock);
	wait->open++;
	pthread_mutex_unlock(&wait->lock);
}

/* One of them is over.  The worst error stays: that an outcome is unknown, before others. */
static void wait_end(struct mg_wait_for *wait, const struct mg_error *err)
{
	pthread_mutex_lock(&wait->lock);
	if (err && err->code && (!wait->err.code || err->code == MG_E_UNKNOWN_OUTCOME)) {
		wait->err = *err;
	}
	wait->open--;
	pthread_cond_broadcast(&wait->changed);
	pthread_mutex_unlock(&wait->lock);
}

int mg_wait_all(struct mg_wait_for *wait, struct mg_error *err)
{
	pthread_mutex_lock(&wait->lock);
	while (wait->open > 0) {
		pthread_cond_wait(&wait->changed, &wait->lock);
	}
	int code = wait->err.code;

	if (code && err) {
		*err = wait->err;
	}
	wait->err = (struct mg_error){ 0 };
	pthread_mutex_unlock(&wait->lock);
	return code;
}

/* On its way to the raft thread, and until it has ended. */
struct proposal {
	struct mg_replica *replica;
	struct mg_wait_for *wait; /* NULL: nobody waits */
	uint32_t group;
	size_t size;
	uint8_t bytes[];
};

static void proposal_end(struct proposal *proposal, const struct mg_error *err)
{
	if (proposal->wait) {
		wait_end(proposal->wait, err);
	}
	mg_free(proposal);
}

static void on_decided(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct proposal *proposal = arg;
	struct mg_error err = { 0 };

	(void)index;
	(void)leader;
	if (error == MG_E_UNKNOWN_OUTCOME) {
		mg_error_set(&err, error, "nobody knows yet whether the write happened");
		mg_error_hint(&err, "Read what it would have changed before trying again.");
	} else if (error) {
		mg_error_set(&err, error, "the write did not happen: its group cannot take it now");
		mg_error_hint(&err, "Try again.");
	}
	proposal_end(proposal, &err);
}

static void propose_now(void *arg)
{
	struct proposal *proposal = arg;
	struct mg_raft_node *node = mg_raft_host_node(proposal->replica->host);
	struct mg_group *group = node ? mg_raft_node_group(node, proposal->group) : NULL;
	struct mg_error err = { 0 };
	int code =
		group ? mg_group_propose(group, proposal->bytes, proposal->size, on_decided, proposal, &err)
			  : mg_error_set(&err, MG_E_SHUTDOWN, "the server is stopping");

	if (code) {
		proposal_end(proposal, &err);
	}
}

int mg_replica__propose(struct mg_replica *replica, uint32_t group, const struct mg_command *head,
                        const void *rest, size_t size, struct mg_wait_for *wait,
                        struct mg_error *err)
{
	size_t cap = size + (head ? MG_COMMAND_HEAD_MAX : 0);
	struct proposal *proposal = mg_try_alloc(sizeof *proposal + cap);

	if (!proposal) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a write of %zu bytes", size);
	}
	*proposal = (struct proposal){ .replica = replica, .wait = wait, .group = group };
	struct mg_out out = mg_out(proposal->bytes, cap);

	if (head) {
		mg_command_encode_head(&out, head);
	}
	mg_out_bytes(&out, rest, size);
	proposal->size = out.size;
	if (wait) {
		wait_add(wait);
	}
	mg_raft_host_post(replica->host, propose_now, proposal);
	return 0;
}

/* ---- the catalog ---- */

static int propose_catalog(void *arg, const char *text, size_t len, struct mg_error *err)
{
	struct mg_replica *replica = arg;
	struct mg_wait_for wait;

	mg_wait_init(&wait);
	int code = mg_replica__propose(replica, 0, NULL, text, len, &wait, err);

	code = code ? code : mg_wait_all(&wait, err);
	mg_wait_fini(&wait);
	return code;
}

/* ---- life ---- */

static int birth(struct mg_replica *replica, uint32_t group, struct mg_error *err)
{
	struct mg_raft_node *node = mg_raft_host_node(replica->host);
	const struct mg_members members = { .list = { { SELF, MG_MEMBER_VOTER } }, .count = 1 };

	return mg_raft_node_knows(node, group) ? 0 : mg_raft_node_birth(node, group, &members, err);
}

static int open_group(struct mg_replica *replica, uint32_t group, struct mg_sm *sm,
                      struct mg_error *err)
{
	struct mg_group *opened;
	int code = birth(replica, group, err);

	return code ? code
	            : mg_raft_node_open(mg_raft_host_node(replica->host), group, sm, &opened, err);
}

static int open_groups(struct mg_replica *replica, struct mg_error *err)
{
	const struct mg_replica_options *options = &replica->options;
	const struct mg_catalog_sm_options catalog = {
		.host = replica->host,
		.catalog = options->catalog,
		.on_change = options->on_catalog,
		.arg = options->arg,
	};
	int code = mg_catalog_sm_open(&replica->catalog_sm, &catalog, err);

	code = code ? code : open_group(replica, 0, mg_catalog_sm_seam(replica->catalog_sm), err);
	for (uint32_t i = 0; !code && i <= options->shard_count; i++) {
		const struct mg_shard_sm_options shard = {
			.host = replica->host,
			.duck = options->duck,
			.shard = i,
			.group = mg_replica__group(i),
			.on_write = options->on_write,
			.arg = options->arg,
		};

		code = mg_shard_sm_open(&replica->shards[i], &shard, err);
		code = code ? code
		            : open_group(replica, shard.group, mg_shard_sm_seam(replica->shards[i]), err);
	}
	return code;
}

struct look {
	struct mg_replica *replica;
	bool ready; /* all lead and have applied what they had to */
	int failed;
};

static void look_now(void *arg)
{
	struct look *look = arg;
	struct mg_raft_node *node = mg_raft_host_node(look->replica->host);

	look->ready = true;
	for (uint32_t i = 0; node && i <= mg_replica__group(look->replica->options.shard_count); i++) {
		struct mg_group *group = mg_raft_node_group(node, i);
		struct mg_group_info info = { 0 };

		if (!group) {
			continue;
		}
		mg_group_info(group, &info);
		look->failed = look->failed ? look->failed : info.failed;
		look->ready = look->ready && info.can_read && info.applied >= info.core.commit;
	}
}

static void rest_ms(long ms)
{
	const struct timespec time = { .tv_nsec = ms * 1000000L };

	(void)nanosleep(&time, NULL);
}

static int wait_ready(struct mg_replica *replica, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + START_MS_MAX;
	struct look look = { .replica = replica };

	while (!look.ready && mg_clock_ms() < until) {
		mg_raft_host_call(replica->host, look_now, &look);
		int code = mg_replica_failed(replica, err);

		if (code || look.failed) {
			return code ? code
			            : mg_error_set(err, look.failed, "the log of a shard cannot be applied");
		}
		if (!look.ready) {
			rest_ms(2);
		}
	}
	return look.ready ? 0
	                  : mg_error_set(err, MG_E_TIMEOUT, "the log was not applied in %d s",
	                                 START_MS_MAX / 1000);
}

static void on_log_failed(void *arg, int code)
{
	struct mg_replica *replica = arg;

	atomic_store(&replica->log_failed, code);
	mg_log(MG_LOG_ERROR, "raft.log.failed", "code=%d", code);
}

int mg_replica_open(struct mg_replica **out, const struct mg_replica_options *options,
                    struct mg_error *err)
{
	struct mg_replica *replica = mg_alloc0(sizeof *replica);
	const struct mg_raft_host_options host = {
		.dir = options->dir,
		.self = SELF,
		.raft = { .proposal_timeout_ms = PROPOSAL_MS_MAX, .keep_entries = KEEP_ENTRIES },
		.on_failed = on_log_failed,
		.on_failed_arg = replica,
	};
	size_t count = (size_t)options->shard_count + 1;
	uint64_t start = mg_clock_ms();

	*out = NULL;
	replica->options = *options;
	replica->shards = mg_alloc0(count * sizeof *replica->shards);
	replica->locks = mg_shard_locks_new(count);
	pthread_rwlock_init(&replica->cut, NULL);
	int code = mg_raft_host_open(&replica->host, &host, err);

	code = code ? code : open_groups(replica, err);
	code = code ? code : mg_raft_host_start(replica->host, err);
	if (!code) {
		replica->started = true;
		code = wait_ready(replica, err);
	}
	code = code ? code : mg_replica__resolve(replica, err);
	if (code) {
		mg_replica_close(replica);
		return mg_error_wrap(err, "while opening the log");
	}
	mg_catalog_set_log(options->catalog, propose_catalog, replica);
	mg_log(MG_LOG_INFO, "replica.open", "groups=%zu took_ms=%" PRIu64, count + 1,
	       mg_clock_ms() - start);
	*out = replica;
	return 0;
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
	struct mg_raft_node *node = mg_raft_host_node(ask->replica->host);
	struct mg_group *group = node ? mg_raft_node_group(node, ask->group) : NULL;
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

	if (!mg_shard_sm_dirty(replica->shards[shard])) {
		return 0;
	}
	for (;;) {
		mg_raft_host_call(replica->host, ask_now, &ask);
		if (ask.done || ask.failed) {
			return ask.failed
			           ? mg_error_set(err, ask.failed, "shard %" PRIu32 " is out of service", shard)
			           : 0;
		}
		if (mg_clock_ms() >= until) {
			return mg_error_set(err, MG_E_BUSY, "shard %" PRIu32 " could not be written yet",
			                    shard);
		}
		rest_ms(2);
	}
}

bool mg_replica_wrote(struct mg_replica *replica, uint32_t shard)
{
	return mg_shard_sm_wrote(replica->shards[shard]);
}

/* What the files do not hold yet is in the log: this only saves the next start its time. */
static void write_checkpoints(struct mg_replica *replica)
{
	for (uint32_t i = 0; i <= replica->options.shard_count; i++) {
		struct mg_error err = { 0 };

		(void)mg_replica_checkpoint(replica, i, &err);
	}
}

void mg_replica_close(struct mg_replica *replica)
{
	if (!replica) {
		return;
	}
	size_t count = (size_t)replica->options.shard_count + 1;

	mg_catalog_set_log(replica->options.catalog, NULL, NULL);
	if (replica->started) {
		write_checkpoints(replica);
	}
	for (size_t i = 0; i < count; i++) {
		if (replica->shards[i]) {
			mg_shard_sm_stop(replica->shards[i]);
		}
	}
	if (replica->catalog_sm) {
		mg_catalog_sm_stop(replica->catalog_sm);
	}
	mg_raft_host_close(replica->host);
	for (size_t i = 0; i < count; i++) {
		mg_shard_sm_free(replica->shards[i]);
	}
	mg_catalog_sm_free(replica->catalog_sm);
	pthread_rwlock_destroy(&replica->cut);
	mg_free(replica->shards);
	mg_shard_locks_free(replica->locks);
	mg_free(replica);
}

int mg_replica_lock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                    size_t count, bool (*stopped)(void *arg), void *arg, struct mg_error *err)
{
	return mg_shard_locks_take(replica->locks, mode, shards, count, stopped, arg, err);
}

void mg_replica_unlock(struct mg_replica *replica, enum mg_lock_mode mode, const uint32_t *shards,
                       size_t count)
{
	mg_shard_locks_give(replica->locks, mode, shards, count);
}

void mg_replica_cut_begin(struct mg_replica *replica)
{
	pthread_rwlock_rdlock(&replica->cut);
}

void mg_replica_cut_end(struct mg_replica *replica)
{
	pthread_rwlock_unlock(&replica->cut);
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
	return code;
}
