/*
 * kv_open.c - key-value groups begin: with the node, or while it runs, when its cluster gets them.
 *
 *     the catalog says how many, and which servers vote in them -> placer: tree, states
 *     -> raft thread: groups, all with that beginning of their log -> each has a leader: they count
 *
 * Who was no voter then begins in the same way: whoever leads the groups takes it in as it does
 * with any server.  A node that is killed in between goes on at its next start.  One that cannot
 * begin (its disk) tries again, every RETRY_MS: what has begun stays, the rest is made anew.
 */
#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/kv_groups_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_MS = 5000 };

/* ---- the tree ---- */

/* It is kept under another name, and an empty one stands in its place. */
static int replace_tree(struct mg_kv_groups *groups, const char *dir, char **damage,
                        struct mg_error *err)
{
	char *tree = mg_path_join(dir, "db"), *kept = mg_dir_keep(dir, "damaged-");
	const struct mg_lsm_options lsm = { .dir = tree };
	struct mg_error why = *err;
	int code = mg_file_rename(tree, kept, err);

	code = code ? code : mg_lsm_open(&groups->lsm, &lsm, err);
	*damage = mg_format("%s; it is kept as \"%s\"", why.message, kept);
	mg_free(kept);
	mg_free(tree);
	return code;
}

/* A server that has joined has what others gave it beside the tree, which is made from that. */
static bool is_seeded(const char *dir, uint32_t first)
{
	struct mg_error ignored;
	char **names = NULL;
	size_t count = 0;
	bool seeded = false;

	if (mg_dir_list(dir, &names, &count, &ignored) == 0) {
		for (size_t i = 0; i < count; i++) {
			unsigned long long index;
			unsigned group;

			seeded = seeded || (sscanf(names[i], "pull-%u-%llu.sst", &group, &index) == 2 &&
			                    group == first);
		}
		mg_free(names);
	}
	return seeded;
}

/* What others have, too, is set aside when it cannot be opened; *damage: why, then.  The groups are
 * made anew from those of others. */
static int open_tree(struct mg_kv_groups *groups, const char *dir, char **damage,
                     struct mg_error *err)
{
	char *tree = mg_path_join(dir, "db");
	const struct mg_lsm_options lsm = { .dir = tree };
	const struct mg_replica_options *options = &groups->replica->options;
	uint32_t first = options->shard_count + 2;
	bool lost = !groups->grows && !mg_file_exists(tree) && !is_seeded(dir, first) &&
	            mg_raft_node_knows(mg_raft_host_node(groups->replica->host), first);
	int code = mg_lsm_open(&groups->lsm, &lsm, err);

	if (!code && lost && options->others) {
		*damage = mg_format("\"%s\" is missing", tree);
	} else if (code == MG_E_CORRUPT && options->others) {
		code = replace_tree(groups, dir, damage, err);
	} else if (code == MG_E_CORRUPT) {
		mg_error_hint(err, "Nobody else has a replica: restore \"%s\" from a backup.", tree);
	}
	mg_free(tree);
	return code;
}

/* A node of many groups keeps less of each. */
static size_t feed_bytes(uint32_t count)
{
	size_t share = MG_KV_FEED_NODE_BYTES / count;

	return share < MG_KV_FEED_BYTES ? share : MG_KV_FEED_BYTES;
}

static int open_states(struct mg_kv_groups *groups, struct mg_error *err)
{
	struct mg_replica *replica = groups->replica;
	const struct mg_replica_options *options = &replica->options;
	int code = 0;

	for (uint32_t i = 0; !code && i < groups->count; i++) {
		struct kv_group *group = &groups->list[i];

		group->groups = groups;
		group->number = options->shard_count + 2 + i;
		struct mg_kv_sm_options sm = {
			.host = replica->host,
			.lsm = groups->lsm,
			.group = group->number,
			.self = options->self,
			.incarnation = mg_raft_host_incarnation(replica->host),
			.dir = options->dir,
			.puller = replica->puller,
			.source = replica->source,
			.shard = group->number - 1,
			.on_mark = mg_replica__on_mark,
			.on_differs = mg_replica__on_differs,
			.check_arg = replica,
		};

		mg_kv__listen(groups, &sm);
		code = mg_kv_sm_open(&group->sm, &sm, err);
	}
	return code;
}

static void free_states(struct mg_kv_groups *groups)
{
	for (uint32_t i = 0; i < groups->count; i++) {
		mg_kv_sm_free(groups->list[i].sm);
		groups->list[i].sm = NULL;
	}
	mg_lsm_close(groups->lsm);
	groups->lsm = NULL;
}

static void close_states(struct mg_kv_groups *groups)
{
	for (uint32_t i = 0; i < groups->count; i++) {
		if (groups->list[i].sm) {
			mg_kv_sm_stop(groups->list[i].sm);
		}
	}
	free_states(groups);
}

/* The tree and what is in it; or an empty one, when only others have it whole. */
static int open_all(struct mg_kv_groups *groups, const char *dir, char **damage,
                    struct mg_error *err)
{
	int code = open_tree(groups, dir, damage, err);

	code = code ? code : open_states(groups, err);
	if (code == MG_E_CORRUPT && groups->lsm && !*damage && groups->replica->options.others) {
		close_states(groups);
		code = replace_tree(groups, dir, damage, err);
		code = code ? code : open_states(groups, err);
	}
	return code;
}

static int open_group(struct kv_group *group, const char *damage, struct mg_error *err)
{
	struct mg_kv_groups *groups = group->groups;
	struct mg_kv_state *state = mg_kv_sm_state(group->sm);

	mg_kv_clock_saw(&groups->clock, mg_kv_state_time_ms(state));
	mg_kv_feed_set(mg_kv_state_feed(state), feed_bytes(groups->count), mg_kv_bell_ring,
	               groups->bell);
	if (damage) {
		mg_kv_state_condemn(state);
		mg_replica__mend_stand_in(groups->replica, group->number - 1, damage);
		return 0;
	}
	return mg_replica__open_group(groups->replica, group->number, mg_kv_sm_seam(group->sm), err);
}

static struct mg_kv_groups *groups_new(struct mg_replica *replica, uint32_t count, bool grows)
{
	struct mg_kv_groups *groups = mg_alloc0(sizeof *groups + count * sizeof groups->list[0]);

	groups->replica = replica;
	groups->count = count;
	groups->grows = grows;
	groups->last = &groups->first;
	groups->bell = mg_kv_bell_new();
	pthread_mutex_init(&groups->lock, NULL);
	mg_kv_clock_init(&groups->clock);
	return groups;
}

/* Their states have stopped. */
static void groups_free(struct mg_kv_groups *groups)
{
	free_states(groups);
	mg_kv_bell_free(groups->bell);
	pthread_mutex_destroy(&groups->lock);
	mg_kv_clock_fini(&groups->clock);
	mg_free(groups);
}

/* Who votes in the groups to begin with; nobody: who votes in all others. */
static void take_births(struct mg_replica *replica, const struct mg_catalog_data *data)
{
	replica->kv_births = (struct mg_members){ 0 };
	for (size_t i = 0; i < data->kv_born_count; i++) {
		(void)mg_members_set(&replica->kv_births, strtoull(data->kv_born[i], NULL, 10),
		                     MG_MEMBER_VOTER, NULL);
	}
}

static int open_dir(struct mg_kv_groups *groups, char **damage, struct mg_error *err)
{
	char *dir = mg_path_join(groups->replica->options.dir, "kv");
	int code = mg_dir_make(dir, 0700, err);

	code = code ? code : open_all(groups, dir, damage, err);
	mg_free(dir);
	return code;
}

int mg_replica__open_kv(struct mg_replica *replica, struct mg_error *err)
{
	uint32_t count = mg_replica_kv_shards(replica);
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	char *damage = NULL;

	take_births(replica, data);
	mg_catalog_give(replica->options.catalog, data);
	if (count == 0) {
		return 0;
	}
	replica->kv = groups_new(replica, count, false);
	int code = open_dir(replica->kv, &damage, err);

	for (uint32_t i = 0; !code && i < count; i++) {
		code = open_group(&replica->kv->list[i], damage, err);
	}
	mg_free(damage);
	return code;
}

/* ---- while the node runs ---- */

struct beginning {
	struct mg_kv_groups *groups;
	int code;
	bool led;
	struct mg_error err;
};

static void begin_now(void *arg)
{
	struct beginning *beginning = arg;
	struct mg_kv_groups *groups = beginning->groups;

	if (!mg_raft_host_node(groups->replica->host)) {
		beginning->code = mg_error_set(&beginning->err, MG_E_SHUTDOWN, "the server is stopping");
	}
	for (uint32_t i = 0; !beginning->code && i < groups->count; i++) {
		if (!mg_raft_host_group(groups->replica->host, groups->list[i].number)) {
			beginning->code = open_group(&groups->list[i], NULL, &beginning->err);
		}
	}
}

static void look_now(void *arg)
{
	struct beginning *beginning = arg;

	beginning->led = true;
	for (uint32_t i = 0; i < beginning->groups->count; i++) {
		struct mg_group *group = mg_raft_host_group(beginning->groups->replica->host,
		                                            beginning->groups->list[i].number);
		struct mg_group_info info = { 0 };

		if (group) {
			mg_group_info(group, &info);
		}
		beginning->led = beginning->led && group && !info.failed && info.core.leader != 0;
	}
}

/* What nothing has been in yet; nothing is left of it when it fails. */
static int make_groups(struct mg_replica *replica, const struct mg_catalog_data *data,
                       struct mg_error *err)
{
	struct mg_kv_groups *groups = groups_new(replica, data->kv_shards, true);
	char *damage = NULL;
	int code = open_dir(groups, &damage, err);

	mg_free(damage);
	if (code) {
		close_states(groups);
		groups_free(groups);
		return code;
	}
	take_births(replica, data);
	replica->kv = groups;
	return 0;
}

/* Under kv_lock.  What a try before this one has begun stays. */
static void begin(struct mg_replica *replica, const struct mg_catalog_data *data)
{
	struct beginning beginning = { 0 };

	beginning.code = replica->kv ? 0 : make_groups(replica, data, &beginning.err);
	if (!beginning.code) {
		beginning.groups = replica->kv;
		mg_raft_host_call(replica->host, begin_now, &beginning);
	}
	replica->kv_begun = beginning.code == 0;
	replica->kv_retry_ms = mg_clock_ms() + RETRY_MS;
	if (replica->kv_begun) {
		mg_log(MG_LOG_INFO, "kv.begin", "shards=%" PRIu32, data->kv_shards);
	} else if (beginning.code != MG_E_SHUTDOWN) {
		mg_log(MG_LOG_ERROR, "kv.begin", "shards=%" PRIu32 " error=\"%s\" again_in_ms=%d",
		       data->kv_shards, beginning.err.message, RETRY_MS);
	}
}

bool mg_replica__grow_kv(struct mg_replica *replica, const struct mg_catalog_data *data)
{
	struct beginning beginning = { 0 };

	if (mg_replica_kv_shards(replica) || data->kv_shards == 0) {
		return false;
	}
	if (data->kv_shards > MG_REPLICA_KV_GROW_MAX) {
		return false; /* the next start has room for them */
	}
	pthread_mutex_lock(&replica->kv_lock);
	if (!replica->kv_begun && !mg_replica__stopping(replica) &&
	    mg_clock_ms() >= replica->kv_retry_ms) {
		begin(replica, data);
	}
	beginning.groups = replica->kv;
	pthread_mutex_unlock(&replica->kv_lock);
	if (!replica->kv_begun) {
		return false;
	}
	mg_raft_host_call(replica->host, look_now, &beginning);
	if (beginning.led) {
		atomic_store(&replica->kv_shards, beginning.groups->count);
		mg_replica__start_kv(replica);
		mg_log(MG_LOG_INFO, "kv.ready", "shards=%" PRIu32, beginning.groups->count);
	}
	return !beginning.led;
}

/* ---- the wish ---- */

struct wish {
	uint32_t shards;
	struct mg_members voters;
};

static int refuse_other(const struct mg_catalog_data *data, uint32_t shards, struct mg_error *err)
{
	if (data->kv_shards == 0 || data->kv_shards == shards) {
		return 0;
	}
	return mg_error_set(err, MG_E_DUPLICATE,
	                    "this cluster has %" PRIu32 " shards of keys already", data->kv_shards);
}

static int make_wish(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                     struct mg_error *err)
{
	const struct wish *wish = arg;
	int code = refuse_other(data, wish->shards, err);

	if (code || data->kv_shards) {
		return code;
	}
	data->kv_shards = wish->shards;
	data->kv_born_count = 0;
	data->kv_born = mg_arena_new_array(arena, const char *, wish->voters.count);
	for (size_t i = 0; i < wish->voters.count; i++) {
		if (wish->voters.list[i].role == MG_MEMBER_VOTER) {
			data->kv_born[data->kv_born_count++] =
				mg_arena_format(arena, "%" PRIu64, wish->voters.list[i].node);
		}
	}
	return 0;
}

int mg_replica_enable_keys(struct mg_replica *replica, uint32_t shards, struct mg_error *err)
{
	struct wish wish = { .shards = shards };

	if (shards == 0 || shards > MG_REPLICA_KV_GROW_MAX) {
		mg_error_set(err, MG_E_USAGE, "a cluster gets from 1 to %d shards of keys",
		             MG_REPLICA_KV_GROW_MAX);
		return MG_E_USAGE;
	}
	/* So that this node knows the members of the catalog's group as they are now. */
	int code = mg_replica_read_barrier(replica, NULL, 0, err);

	if (code) {
		return code;
	}
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	bool there = data->kv_shards != 0;

	code = refuse_other(data, shards, err);
	mg_catalog_give(replica->options.catalog, data);
	if (code || there) {
		return code;
	}
	struct mg_group_look *looks = mg_replica__looks(replica);

	wish.voters = looks[0].members;
	mg_free(looks);
	return mg_catalog_change_anywhere(replica->options.catalog, make_wish, &wish, err);
}

/* ---- life ---- */

void mg_replica__start_kv(struct mg_replica *replica)
{
	if (mg_replica_kv_shards(replica)) {
		mg_raft_host_post(replica->host, mg_kv__tick_all, replica->kv);
	}
}

void mg_replica__stop_kv(struct mg_replica *replica)
{
	pthread_mutex_lock(&replica->kv_lock); /* none begins from now on */
	struct mg_kv_groups *groups = replica->kv;

	if (groups) {
		pthread_mutex_lock(&groups->lock);
		groups->ended = true;
		pthread_mutex_unlock(&groups->lock);
	}
	for (uint32_t i = 0; groups && i < groups->count; i++) {
		if (groups->list[i].sm) {
			mg_kv_sm_stop(groups->list[i].sm);
		}
	}
	pthread_mutex_unlock(&replica->kv_lock);
}

void mg_replica__stop_kv_checks(struct mg_replica *replica)
{
	pthread_mutex_lock(&replica->kv_lock);
	for (uint32_t i = 0; replica->kv && i < replica->kv->count; i++) {
		if (replica->kv->list[i].sm) {
			mg_shard_check_stop(mg_kv_sm_check(replica->kv->list[i].sm), false);
		}
	}
	pthread_mutex_unlock(&replica->kv_lock);
}

void mg_replica__free_kv(struct mg_replica *replica)
{
	struct mg_kv_groups *groups = replica->kv;

	if (groups) {
		groups_free(groups);
	}
	pthread_mutex_destroy(&replica->kv_lock);
}
