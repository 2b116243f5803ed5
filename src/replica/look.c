/*
 * look.c - what this node knows of its groups, of the other nodes, and of who has what.
 *
 * Who leads is told by raft as it changes, and looked up by anyone without waiting.
 *
 * owner: any thread; groups are looked at on the raft thread, all in one post.
 */
#include "base/assert.h"
#include "base/str.h"
#include "os/clock.h"
#include "replica/replica_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct looking {
	struct mg_replica *replica;
	struct mg_group_look *looks;
};

static void look_at(struct mg_group *group, struct mg_group_look *look)
{
	struct mg_group_info info;

	mg_group_info(group, &info);
	*look = (struct mg_group_look){
		.open = true,
		.leads = info.core.role == MG_RAFT_LEADER,
		.busy = info.core.pending_members_index != 0 || info.core.transferring,
		.leader = info.core.leader,
		.term = info.core.term,
		.commit = info.core.commit,
		.applied = info.applied,
		.failed = info.failed,
		.members = info.core.members,
	};
	for (size_t i = 0; i < look->members.count; i++) {
		if (!look->leads || !mg_group_match(group, look->members.list[i].node, &look->match[i])) {
			look->match[i] = UINT64_MAX;
		}
	}
}

/* What its group has given it may not be applied yet.  Who does not serve yet has no time for that.
 */
static void look_at_shard(struct mg_replica *replica, struct mg_shard_sm *sm,
                          struct mg_group_look *look)
{
	uint64_t applied = mg_shard_sm_applied(sm);

	/* Whoever serves is judged by what it has accepted: readers wait anyway. */
	if (applied < look->applied && atomic_load(&replica->unready)) {
		mg_shard_sm_want(sm, look->applied);
		look->applied = applied;
	}
}

static void look_now(void *arg)
{
	struct looking *looking = arg;

	for (uint32_t i = 0; i < mg_replica__group_count(looking->replica); i++) {
		struct mg_group *group = mg_raft_host_group(looking->replica->host, i);

		looking->looks[i] = (struct mg_group_look){ 0 };
		if (group) {
			look_at(group, &looking->looks[i]);
		}
		if (group && mg_replica__is_shard(looking->replica, i)) {
			look_at_shard(looking->replica, looking->replica->shards[i - 1], &looking->looks[i]);
		}
	}
}

void mg_replica__look(struct mg_replica *replica, struct mg_group_look *looks)
{
	struct looking looking = { replica, looks };

	mg_raft_host_call(replica->host, look_now, &looking);
}

struct mg_group_look *mg_replica__looks(struct mg_replica *replica)
{
	struct mg_group_look *looks = mg_alloc0(mg_replica__group_max(replica) * sizeof *looks);

	mg_replica__look(replica, looks);
	return looks;
}

void mg_replica__keep_looks(struct mg_replica *replica, const struct mg_group_look *looks)
{
	size_t count = mg_replica__group_max(replica);

	pthread_mutex_lock(&replica->lock);
	if (replica->kept_look_count != count) {
		replica->kept_looks = mg_realloc(replica->kept_looks, count * sizeof *looks);
		replica->kept_look_count = count;
	}
	memcpy(replica->kept_looks, looks, count * sizeof *looks);
	pthread_mutex_unlock(&replica->lock);
}

/* Owns: the caller. */
static struct mg_group_look *kept_looks(struct mg_replica *replica)
{
	size_t count = mg_replica__group_max(replica);
	struct mg_group_look *looks = mg_alloc0(count * sizeof *looks);

	pthread_mutex_lock(&replica->lock);
	size_t kept = replica->kept_look_count < count ? replica->kept_look_count : count;

	if (kept) {
		memcpy(looks, replica->kept_looks, kept * sizeof *looks);
	}
	pthread_mutex_unlock(&replica->lock);
	if (!kept) {
		mg_replica__look(replica, looks);
	}
	return looks;
}

bool mg_replica__is_alone(const struct mg_replica *replica, const struct mg_group_look *looks)
{
	bool alone = true;

	for (size_t i = 0; i < mg_replica__group_count(replica); i++) {
		const struct mg_members *members = &looks[i].members;

		alone = alone && members->count == 1 && members->list[0].node == replica->options.self;
	}
	return alone;
}

bool mg_replica_is_alone(struct mg_replica *replica)
{
	return atomic_load(&replica->alone);
}

const char *mg_replica_unready(struct mg_replica *replica)
{
	return atomic_load(&replica->unready);
}

/* ---- nodes ---- */

/* Since when the node has been away, noted now or before; 0: it is there. */
static uint64_t note_down(struct mg_replica *replica, uint64_t number, bool connected, uint64_t now)
{
	uint64_t since = 0;
	size_t at = 0;

	pthread_mutex_lock(&replica->lock);
	while (at < replica->down_count && replica->downs[at].number != number) {
		at++;
	}
	if (at < replica->down_count && connected) {
		replica->downs[at] = replica->downs[--replica->down_count];
	} else if (at < replica->down_count) {
		since = replica->downs[at].since_ms;
	} else if (!connected) {
		mg_grow(replica->downs, replica->down_count, replica->down_cap);
		replica->downs[replica->down_count++] = (struct mg_down){ number, now };
		since = now;
	}
	pthread_mutex_unlock(&replica->lock);
	return since;
}

/* Away for so long that another one should have its vote. */
static bool is_dead(struct mg_replica *replica, const struct mg_placed_node *node)
{
	uint64_t now = mg_clock_ms();
	bool there = node->connected || node->state == MG_PLACED_REMOVED;
	uint64_t since = note_down(replica, node->number, there, now);

	return since && now - since >= replica->options.dead_after_ms;
}

struct mg_placed_node *mg_replica__placed(struct mg_replica *replica,
                                          const struct mg_catalog_data *data)
{
	struct mg_placed_node *nodes = mg_alloc0((data->node_count + 1) * sizeof *nodes);
	struct mg_peer_info *peers = mg_alloc0((data->node_count + 1) * sizeof *peers);
	size_t count = replica->options.peers
	                   ? mg_peers_list(replica->options.peers, peers, data->node_count + 1)
	                   : 0;

	count = count < data->node_count + 1 ? count : data->node_count + 1;
	for (size_t i = 0; i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];

		nodes[i] = (struct mg_placed_node){
			.number = node->number,
			.state = mg_text_eq(node->state, MG_NODE_MEMBER)     ? MG_PLACED_MEMBER
			         : mg_text_eq(node->state, MG_NODE_DRAINING) ? MG_PLACED_DRAINING
			                                                     : MG_PLACED_REMOVED,
			.connected = node->number == replica->options.self,
		};
		for (size_t k = 0; k < count && !nodes[i].connected; k++) {
			nodes[i].connected = peers[k].node == node->number && peers[k].connected;
		}
		nodes[i].dead = is_dead(replica, &nodes[i]);
	}
	mg_free(peers);
	return nodes;
}

void mg_replica__name_peers(struct mg_replica *replica)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);

	for (size_t i = 0; replica->options.peers && i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];
		bool removed = mg_text_eq(node->state, MG_NODE_REMOVED);

		mg_peers_set(replica->options.peers, node->number, removed ? NULL : node->address);
	}
	mg_catalog_give(replica->options.catalog, data);
}

void mg_replica__members_of_shards(const struct mg_replica *replica,
                                   const struct mg_group_look *looks, struct mg_members *out)
{
	size_t shards = mg_replica__group_count(replica) - 1, votes[MG_MEMBERS_MAX] = { 0 };

	*out = (struct mg_members){ 0 };
	for (size_t i = 1; i <= shards; i++) {
		const struct mg_members *members = &looks[i].members;

		for (size_t k = 0; k < members->count; k++) {
			const struct mg_member *member = &members->list[k];
			const struct mg_member *known = mg_members_find(out, member->node);

			if (!known && !mg_members_set(out, member->node, MG_MEMBER_STANDBY, NULL)) {
				known = &out->list[out->count - 1];
			}
			if (known && member->role == MG_MEMBER_VOTER) {
				votes[known - out->list]++;
			}
		}
	}
	for (size_t k = 0; k < out->count; k++) {
		out->list[k].role = votes[k] == shards ? MG_MEMBER_VOTER : MG_MEMBER_STANDBY;
	}
}

static bool has_role(const struct mg_members *members, const struct mg_members *wanted,
                     uint64_t node)
{
	const struct mg_member *is = mg_members_find(members, node);
	const struct mg_member *should = mg_members_find(wanted, node);

	return !should || (is && (is->role == MG_MEMBER_VOTER || should->role == MG_MEMBER_STANDBY));
}

bool mg_replica__is_placed(const struct mg_replica *replica, const struct mg_group_look *looks,
                           const struct mg_placed_node *nodes, size_t count, uint64_t node)
{
	struct mg_members all;
	bool placed = true;

	mg_replica__members_of_shards(replica, looks, &all);
	for (size_t i = 0; placed && i < mg_replica__group_count(replica); i++) {
		const struct mg_placement placement = {
			.nodes = nodes,
			.node_count = count,
			.self = replica->options.self,
			.catalog = i == 0,
			.members = &looks[i].members,
			.others = i == 0 ? &all : &looks[0].members,
		};
		struct mg_members wanted;

		mg_placement_wanted(&placement, &wanted);
		placed = has_role(&looks[i].members, &wanted, node);
	}
	return placed;
}

static uint32_t shards_of(const struct mg_replica *replica, const struct mg_group_look *looks,
                          uint64_t node)
{
	uint32_t count = 0;

	for (size_t i = 2; i <= (size_t)replica->options.shard_count + 1; i++) {
		count += mg_members_find(&looks[i].members, node) != NULL;
	}
	return count;
}

static const char *state_of(struct mg_replica *replica, const struct mg_group_look *looks,
                            const struct mg_placed_node *nodes, size_t count,
                            const struct mg_placed_node *node)
{
	if (!node->connected) {
		return "down";
	}
	if (node->state == MG_PLACED_DRAINING) {
		return "draining";
	}
	if (node->number == replica->options.self) {
		return mg_replica_unready(replica) ? "joining" : "ready";
	}
	return mg_replica__is_placed(replica, looks, nodes, count, node->number) ? "ready" : "joining";
}

static void program_of(struct mg_replica *replica, uint64_t number, char *text, size_t size)
{
	size_t count = replica->options.peers ? mg_peers_list(replica->options.peers, NULL, 0) : 0;
	struct mg_peer_info *peers = mg_alloc0((count + 1) * sizeof *peers);
	size_t found = count ? mg_peers_list(replica->options.peers, peers, count) : 0;

	text[0] = '\0';
	for (size_t i = 0; i < found && i < count; i++) {
		if (peers[i].node == number) {
			mg_copy_text(text, size, peers[i].program);
		}
	}
	mg_free(peers);
}

size_t mg_replica_servers(struct mg_replica *replica, struct mg_server_info *infos, size_t max)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	struct mg_group_look *looks = kept_looks(replica);
	struct mg_placed_node *nodes = mg_replica__placed(replica, data);
	size_t count = 0;

	for (size_t i = 0; i < data->node_count; i++) {
		if (nodes[i].state == MG_PLACED_REMOVED) {
			continue;
		}
		if (count < max) {
			struct mg_server_info *info = &infos[count];

			*info = (struct mg_server_info){
				.number = nodes[i].number,
				.state = state_of(replica, looks, nodes, data->node_count, &nodes[i]),
				.shards = shards_of(replica, looks, nodes[i].number),
			};
			mg_copy_text(info->id, sizeof info->id, data->nodes[i].id);
			mg_copy_text(info->address, sizeof info->address, data->nodes[i].address);
			program_of(replica, nodes[i].number, info->program, sizeof info->program);
		}
		count++;
	}
	mg_free(nodes);
	mg_free(looks);
	mg_catalog_give(replica->options.catalog, data);
	return count;
}

void mg_replica__node_id(const struct mg_catalog_data *data, uint64_t number, char *text,
                         size_t size)
{
	const struct mg_catalog_node *node = mg_catalog_find_node(data, number);

	if (node) {
		mg_copy_text(text, size, node->id);
	} else {
		(void)snprintf(text, size, "node %" PRIu64, number);
	}
}

/* ---- replicas ---- */

static void describe(struct mg_replica *replica, const struct mg_catalog_data *data,
                     const struct mg_group_look *look, size_t member, struct mg_copy_info *out)
{
	uint64_t node = look->members.list[member].node;
	bool here = node == replica->options.self;
	uint64_t at = here ? look->applied : look->match[member];

	out->node = node;
	out->leads = node == look->leader;
	out->votes = look->members.list[member].role == MG_MEMBER_VOTER;
	out->lag = at == UINT64_MAX ? -1 : look->commit > at ? (int64_t)(look->commit - at) : 0;
	mg_replica__node_id(data, node, out->id, sizeof out->id);
}

struct copies {
	struct mg_replica *replica;
	const struct mg_catalog_data *data;
	const struct mg_placed_node *nodes;
	struct mg_copy_info *infos;
	size_t count, max;
};

static void add_mending(struct copies *copies, uint32_t shard)
{
	uint64_t self = copies->replica->options.self;

	if (copies->count < copies->max) {
		struct mg_copy_info *info = &copies->infos[copies->count];

		*info = (struct mg_copy_info){
			.shard = shard, .node = self, .connected = true, .mending = true, .lag = -1
		};
		mg_replica__node_id(copies->data, self, info->id, sizeof info->id);
	}
	copies->count++;
}

static void add_copies(struct copies *copies, const struct mg_group_look *look, uint32_t shard)
{
	for (size_t i = 0; i < look->members.count; i++, copies->count++) {
		if (copies->count >= copies->max) {
			continue;
		}
		struct mg_copy_info *info = &copies->infos[copies->count];

		*info = (struct mg_copy_info){ .shard = shard };
		describe(copies->replica, copies->data, look, i, info);
		info->connected = info->node == copies->replica->options.self;
		for (size_t k = 0; k < copies->data->node_count; k++) {
			info->connected = info->connected || (copies->nodes[k].number == info->node &&
			                                      copies->nodes[k].connected);
		}
	}
}

/* Of the first `shards`. */
static size_t list_copies(struct mg_replica *replica, size_t shards, struct mg_copy_info *infos,
                          size_t max)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	struct mg_group_look *looks = mg_replica__looks(replica);
	struct mg_placed_node *nodes = mg_replica__placed(replica, data);
	struct copies copies = {
		.replica = replica, .data = data, .nodes = nodes, .infos = infos, .max = max
	};

	for (uint32_t shard = 0; shard < shards; shard++) {
		if (mg_replica__is_mending(replica, shard)) {
			add_mending(&copies, shard);
		} else {
			add_copies(&copies, &looks[mg_replica__group(shard)], shard);
		}
	}
	mg_free(nodes);
	mg_free(looks);
	mg_catalog_give(replica->options.catalog, data);
	return copies.count;
}

size_t mg_replica_copies(struct mg_replica *replica, struct mg_copy_info *infos, size_t max)
{
	return list_copies(replica, (size_t)replica->options.shard_count + 1, infos, max);
}

size_t mg_replica_all_copies(struct mg_replica *replica, struct mg_copy_info *infos, size_t max)
{
	return list_copies(replica, mg_replica__group_count(replica) - 1, infos, max);
}

/* ---- what is not where it should be ---- */

static const char *role_in(const struct mg_members *members, uint64_t node)
{
	const struct mg_member *member = mg_members_find(members, node);

	return !member ? "nothing" : member->role == MG_MEMBER_VOTER ? "voter" : "standby";
}

struct moves {
	struct mg_replica *replica;
	const struct mg_catalog_data *data;
	struct mg_move_info *infos;
	size_t count, max;
};

static void add_move(struct moves *moves, uint32_t group, uint64_t node, const char *is,
                     const char *should)
{
	if (moves->count < moves->max) {
		struct mg_move_info *info = &moves->infos[moves->count];

		*info = (struct mg_move_info){ .group = group, .is = is, .should = should };
		mg_replica__node_id(moves->data, node, info->id, sizeof info->id);
	}
	moves->count++;
}

static void add_moves(struct moves *moves, const struct mg_group_look *looks, uint32_t group,
                      const struct mg_placed_node *nodes)
{
	const struct mg_group_look *look = &looks[group];
	struct mg_members all, wanted;
	const struct mg_placement placement = {
		.nodes = nodes,
		.node_count = moves->data->node_count,
		.self = moves->replica->options.self,
		.catalog = group == 0,
		.members = &look->members,
		.others = group == 0 ? &all : &looks[0].members,
	};

	if (group == 0) {
		mg_replica__members_of_shards(moves->replica, looks, &all);
	}
	mg_placement_wanted(&placement, &wanted);
	for (size_t i = 0; look->open && i < moves->data->node_count; i++) {
		const char *is = role_in(&look->members, nodes[i].number);
		const char *should = role_in(&wanted, nodes[i].number);

		bool moves_now = nodes[i].connected || nodes[i].state == MG_PLACED_REMOVED;

		if (moves_now && !mg_text_eq(is, should)) {
			add_move(moves, group, nodes[i].number, is, should);
		} else if (group > 0 && look->leader != looks[0].leader &&
		           nodes[i].number == looks[0].leader) {
			add_move(moves, group, nodes[i].number, is, "leader");
		}
	}
}

size_t mg_replica_moves(struct mg_replica *replica, struct mg_move_info *infos, size_t max)
{
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);
	struct mg_group_look *looks = mg_replica__looks(replica);
	struct mg_placed_node *nodes = mg_replica__placed(replica, data);
	struct moves moves = { .replica = replica, .data = data, .infos = infos, .max = max };

	for (uint32_t i = 0; mg_catalog_find_node(data, replica->options.self) &&
	                     i < mg_replica__group_count(replica);
	     i++) {
		add_moves(&moves, looks, i, nodes);
	}
	mg_free(nodes);
	mg_free(looks);
	mg_catalog_give(replica->options.catalog, data);
	return moves.count;
}

void mg_replica_hurry(struct mg_replica *replica)
{
	mg_replica__kick_placer(replica);
}

int mg_replica_has_member(struct mg_replica *replica, uint64_t node, bool *is, struct mg_error *err)
{
	int code = mg_replica__barrier_of_all(replica, err);

	*is = false;
	if (code) {
		return code;
	}
	struct mg_group_look *looks = mg_replica__looks(replica);

	for (size_t i = 0; !*is && i < mg_replica__group_count(replica); i++) {
		*is = mg_members_find(&looks[i].members, node) != NULL;
	}
	mg_free(looks);
	return 0;
}

void mg_replica__on_leader(void *arg, uint32_t group, uint64_t node)
{
	struct mg_replica *replica = arg;

	if (group < mg_replica__group_max(replica)) {
		atomic_store(&replica->leaders[group], node);
	}
}

uint64_t mg_replica_leader(const struct mg_replica *replica, size_t group)
{
	mg_assert(group < mg_replica__group_max(replica));
	return atomic_load(&replica->leaders[group]);
}
