/*
 * placer.c - brings replicas to where they should be, one step at a time, and knows whether this
 * node serves.
 *
 * Every node runs it.  Who leads a group changes its members (placement.h), once it has seen the
 * catalog as of now; but shards belong to the leader of group 0, who coordinates writes, so that
 * these need no hop: another one that leads a shard gives it to that node, when it has a vote there
 * and does not lag, one shard at a time.
 *
 * Who has a damaged replica, or a full disk, gives all that it leads to others, who may be able to
 * write.  Whether their disks are full, too, is not known here, so that is tried seldom.
 *
 * The coordinator also writes into the catalog how nodes call themselves and where they are, as
 * their hellos say.
 *
 * owner: its thread, but for what `lock` guards.
 */
#include "base/log.h"
#include "base/str.h"
#include "catalog/node_table.h"
#include "os/clock.h"
#include "os/wait.h"
#include "replica/replica_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	IDLE_MS = 1000,
	BUSY_MS = 150,
	SETTLE_MS = 1500, /* after an election, before shards are moved */
	LAG_MAX = 64,     /* entries: more to fetch would keep writers waiting */
	/* On a full disk: for so long leadership is given away, and not again before; twice as long
	 * each time. */
	YIELD_MS = 5000,
	YIELD_REST_MS = 30 * 1000,
	YIELD_REST_MS_MAX = 600 * 1000,
};

struct mg_placer {
	struct mg_replica *replica;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* monotonic */
	bool kicked, stopping;  /* guarded by lock */
	/* owner: the thread */
	struct mg_group_look *looks;
	struct mg_placed_node *nodes, *before; /* of this round and the one before */
	size_t node_count, before_count;
	uint64_t *commits;  /* of the round before, by group */
	uint64_t leader;    /* of group 0, lately */
	uint64_t leader_ms; /* since when */
	bool caught_up;     /* a read barrier has passed since it last served not */
	bool wants_current; /* a step waits for the catalog as of now */
	uint64_t full_ms;   /* since when leadership was given away on a full disk; 0: there is room */
	unsigned full_rest_ms;
	char refused[160];  /* the last claim that the catalog did not take */
	char trouble[160];  /* the last step that was refused */
};

/* ---- events ---- */

static void tell(struct mg_placer *placer, const char *event, const char *detail)
{
	const struct mg_replica_options *options = &placer->replica->options;

	mg_log(MG_LOG_INFO, event, "detail=%s", detail);
	if (options->on_event) {
		options->on_event(options->arg, event, detail);
	}
}

static void tell_of(struct mg_placer *placer, const struct mg_catalog_data *data, const char *event,
                    uint64_t node)
{
	char name[80];

	mg_replica__node_id(data, node, name, sizeof name);
	tell(placer, event, name);
}

static const struct mg_placed_node *find(const struct mg_placed_node *nodes, size_t count,
                                         uint64_t number)
{
	for (size_t i = 0; i < count; i++) {
		if (nodes[i].number == number) {
			return &nodes[i];
		}
	}
	return NULL;
}

static void tell_changes(struct mg_placer *placer, const struct mg_catalog_data *data)
{
	for (size_t i = 0; placer->before && i < placer->node_count; i++) {
		const struct mg_placed_node *now = &placer->nodes[i];
		const struct mg_placed_node *was = find(placer->before, placer->before_count, now->number);

		if (!was) {
			tell_of(placer, data, "node.joined", now->number);
		} else if (was->state != now->state) {
			tell_of(placer, data,
			        now->state == MG_PLACED_REMOVED    ? "node.removed"
			        : now->state == MG_PLACED_DRAINING ? "node.draining"
			                                           : "node.member",
			        now->number);
		}
		if (now->state != MG_PLACED_REMOVED && (was && was->connected) != now->connected) {
			tell_of(placer, data, now->connected ? "node.up" : "node.down", now->number);
		}
		if (now->dead && was && !was->dead) {
			tell_of(placer, data, "node.dead", now->number);
		}
	}
	if (placer->looks[0].leader != placer->leader) {
		placer->leader = placer->looks[0].leader;
		placer->leader_ms = mg_clock_ms();
		if (placer->leader) {
			tell_of(placer, data, "leader.changed", placer->leader);
		} else {
			tell(placer, "leader.lost", "an election is under way");
		}
	}
}

/* ---- does this node serve? ---- */

/* Why not, as its groups look now; NULL: it may. */
static const char *look_for_faults(struct mg_placer *placer)
{
	struct mg_replica *replica = placer->replica;
	uint64_t self = replica->options.self;
	const struct mg_placed_node *own = find(placer->nodes, placer->node_count, self);

	if (own && own->state != MG_PLACED_MEMBER) {
		return own->state == MG_PLACED_REMOVED ? "this node was removed from the cluster"
		                                       : "this node is being drained";
	}
	if (mg_replica_mends(replica)) {
		return "a damaged replica of this node is being made anew from another node";
	}
	for (size_t i = 0; i < mg_replica__group_count(replica); i++) {
		const struct mg_group_look *look = &placer->looks[i];

		if (look->failed || !look->open) {
			return "a replica of this node is out of service: see its log";
		}
		if (!look->leader) {
			return "a shard has no leader: a majority of its nodes must be there";
		}
		if (look->applied < placer->commits[i]) {
			return "this node lags behind: it is catching up";
		}
	}
	if (own &&
	    !mg_replica__is_placed(replica, placer->looks, placer->nodes, placer->node_count, self)) {
		return "this node is joining: it has no vote yet in every shard";
	}
	if (placer->looks[0].leader == self && !mg_replica_is_coordinator(replica)) {
		return "this node is about to coordinate writes: it ends what was left in doubt";
	}
	return NULL;
}

static void judge(struct mg_placer *placer)
{
	struct mg_replica *replica = placer->replica;
	const char *why = look_for_faults(placer);

	if (why) {
		placer->caught_up = false;
	} else if (!placer->caught_up) {
		struct mg_error err = { 0 };

		if (mg_replica__barrier_of_all(replica, &err)) {
			why = "this node is catching up with the others";
		} else {
			placer->caught_up = true;
		}
	}
	const char *was = atomic_exchange(&replica->unready, why);

	if (!was != !why) {
		mg_log(MG_LOG_INFO, why ? "replica.unready" : "replica.ready", "reason=\"%s\"",
		       why ? why : "");
	}
	for (size_t i = 0; i < mg_replica__group_count(replica); i++) {
		placer->commits[i] = placer->looks[i].commit;
	}
}

/* ---- steps, on the raft thread ---- */

struct move {
	struct mg_replica *replica;
	uint32_t group;
	struct mg_placement_step step;
	int code;
	struct mg_error err;
};

static void move_now(void *arg)
{
	static const enum mg_change changes[] = {
		[MG_STEP_ADD] = MG_CHANGE_ADD_STANDBY,
		[MG_STEP_PROMOTE] = MG_CHANGE_PROMOTE,
		[MG_STEP_DEMOTE] = MG_CHANGE_DEMOTE,
		[MG_STEP_REMOVE] = MG_CHANGE_REMOVE,
	};
	struct move *move = arg;
	struct mg_group *group = mg_raft_host_group(move->replica->host, move->group);

	if (!group) {
		move->code = MG_E_SHUTDOWN;
	} else if (move->step.kind == MG_STEP_TRANSFER) {
		move->code = mg_group_transfer(group, move->step.node, &move->err);
	} else {
		move->code = mg_group_change(group, changes[move->step.kind], move->step.node, NULL, NULL,
		                             &move->err);
	}
}

/* Begun; that it has ended, the next rounds see. */
static void make_move(struct mg_placer *placer, uint32_t group, struct mg_placement_step step)
{
	struct move move = { .replica = placer->replica, .group = group, .step = step };
	const char *name = mg_placement_kind_name(step.kind);

	mg_raft_host_call(placer->replica->host, move_now, &move);
	if (!move.code) {
		mg_log(MG_LOG_INFO, "placement.step", "group=%" PRIu32 " step=%s server=%" PRIu64, group,
		       name, step.node);
		placer->trouble[0] = '\0';
	} else if (move.code != MG_E_BUSY && move.code != MG_E_UNAVAILABLE &&
	           strncmp(move.err.message, placer->trouble, sizeof placer->trouble - 1) != 0) {
		mg_copy_text(placer->trouble, sizeof placer->trouble, move.err.message);
		mg_log(MG_LOG_WARN, "placement.refused",
		       "group=%" PRIu32 " step=%s server=%" PRIu64 " error=\"%s\"", group, name, step.node,
		       move.err.message);
	}
}

/* ---- what to do ---- */

static bool is_connected(const struct mg_placer *placer, uint64_t number)
{
	const struct mg_placed_node *node = find(placer->nodes, placer->node_count, number);

	return node && node->connected;
}

static struct mg_placement_step next_step(struct mg_placer *placer, uint32_t group)
{
	struct mg_members all;
	const struct mg_placement placement = {
		.nodes = placer->nodes,
		.node_count = placer->node_count,
		.self = placer->replica->options.self,
		.catalog = group == 0,
		.members = &placer->looks[group].members,
		.others = group == 0 ? &all : &placer->looks[0].members,
	};

	if (group == 0) {
		mg_replica__members_of_shards(placer->replica, placer->looks, &all);
	}
	return mg_placement_next(&placement);
}

/* The coordinator, when this shard should be given to it; else 0. */
static uint64_t better_leader(const struct mg_placer *placer, uint32_t group)
{
	const struct mg_group_look *look = &placer->looks[group];
	uint64_t to = placer->looks[0].leader;
	bool close_by = false;

	if (group == 0 || to == 0 || to == placer->replica->options.self ||
	    !mg_members_votes(&look->members, to) || !is_connected(placer, to) ||
	    mg_clock_ms() - placer->leader_ms < SETTLE_MS) {
		return 0;
	}
	for (size_t i = 0; i < look->members.count; i++) {
		close_by = close_by || (look->members.list[i].node == to && look->match[i] != UINT64_MAX &&
		                        look->match[i] + LAG_MAX >= look->commit);
	}
	return close_by ? to : 0;
}

static bool leads_any(const struct mg_placer *placer)
{
	bool leads = false;

	for (uint32_t i = 0; i < mg_replica__group_count(placer->replica) && !leads; i++) {
		leads = placer->looks[i].open && placer->looks[i].leads;
	}
	return leads;
}

/* Nothing is written by those whom a node with a full disk leads. */
static bool yields_full_disk(struct mg_placer *placer)
{
	uint64_t now_ms = mg_clock_ms();

	if (!leads_any(placer) || !mg_replica__has_room(placer->replica, NULL)) {
		placer->full_ms = 0;
		return false;
	}
	if (!placer->full_ms) {
		placer->full_ms = now_ms;
		placer->full_rest_ms = YIELD_REST_MS;
	} else if (now_ms - placer->full_ms >= YIELD_MS + placer->full_rest_ms) {
		placer->full_ms = now_ms;
		placer->full_rest_ms *= 2;
		if (placer->full_rest_ms > YIELD_REST_MS_MAX) {
			placer->full_rest_ms = YIELD_REST_MS_MAX;
		}
	}
	return now_ms - placer->full_ms < YIELD_MS;
}

/* A node with a damaged replica cannot coordinate writes, nor lead that shard: another voter that
 * is there should; 0: none. */
static uint64_t whole_leader(const struct mg_placer *placer, uint32_t group)
{
	const struct mg_group_look *look = &placer->looks[group];
	uint64_t self = placer->replica->options.self;
	size_t count = look->members.count, own = 0;

	while (own < count && look->members.list[own].node != self) {
		own++;
	}
	/* The next one behind it, and so on round: what several give away each of them gets. */
	for (size_t i = 1; i <= count; i++) {
		const struct mg_member *member = &look->members.list[(own + i) % count];

		if (member->node != self && member->role == MG_MEMBER_VOTER &&
		    is_connected(placer, member->node) && look->match[i] != UINT64_MAX &&
		    look->match[i] + LAG_MAX >= look->commit) {
			return member->node;
		}
	}
	return 0;
}

/* Whether there is more to do soon.  current: the catalog is as of now. */
static bool place(struct mg_placer *placer, bool current)
{
	bool moved = false, more = false;
	bool yields = yields_full_disk(placer) || mg_replica_mends(placer->replica);

	placer->wants_current = false;
	for (uint32_t i = 0; i < mg_replica__group_count(placer->replica); i++) {
		const struct mg_group_look *look = &placer->looks[i];

		if (!look->open || !look->leads || look->failed) {
			continue;
		}
		uint64_t whole = yields ? whole_leader(placer, i) : 0;
		struct mg_placement_step step = { MG_STEP_TRANSFER,
			                              whole ? whole : better_leader(placer, i) };
		bool away = step.node != 0;

		step = away ? step : next_step(placer, i);
		more = more || look->busy || step.kind != MG_STEP_NONE;
		if (look->busy || step.kind == MG_STEP_NONE || (away && moved && !whole)) {
			continue;
		}
		if (!away && !current) {
			placer->wants_current = true;
			continue;
		}
		moved = moved || away;
		make_move(placer, i, step);
	}
	return more;
}

/* ---- names and addresses ---- */

static void enter(struct mg_placer *placer, const struct mg_catalog_data *data, uint64_t number,
                  const char *id, const char *address)
{
	const struct mg_catalog_node *node = mg_catalog_find_node(data, number);
	const struct mg_node_claim claim = { .number = number, .id = id, .address = address };
	struct mg_error err = { 0 };
	uint64_t entered;

	if (!id[0] || !address[0] || !node || mg_text_eq(node->state, MG_NODE_REMOVED) ||
	    (mg_text_eq(node->id, id) && mg_text_eq(node->address, address))) {
		return;
	}
	int code = mg_node_enter(placer->replica->options.catalog, &claim, &entered, &err);

	if (!code) {
		mg_log(MG_LOG_INFO, "node.entered", "server=%" PRIu64 " id=%s address=%s", number, id,
		       address);
		placer->refused[0] = '\0';
	} else if (code != MG_E_UNAVAILABLE &&
	           strncmp(err.message, placer->refused, sizeof placer->refused - 1) != 0) {
		mg_copy_text(placer->refused, sizeof placer->refused, err.message);
		mg_log(MG_LOG_WARN, "node.refused", "server=%" PRIu64 " error=\"%s\"", number, err.message);
	}
}

static void enter_all(struct mg_placer *placer, const struct mg_catalog_data *data)
{
	const struct mg_replica_options *options = &placer->replica->options;
	size_t max = data->node_count + 1;
	struct mg_peer_info *peers = mg_alloc0(max * sizeof *peers);
	size_t count = mg_peers_list(options->peers, peers, max);

	if (options->name && options->address) {
		enter(placer, data, options->self, options->name, options->address);
	}
	for (size_t i = 0; i < count && i < max; i++) {
		if (peers[i].connected) {
			enter(placer, data, peers[i].node, peers[i].told_name, peers[i].told_address);
		}
	}
	mg_free(peers);
}

/* ---- rounds ---- */

/* Returns when to look again. */
static unsigned look_round(struct mg_placer *placer)
{
	struct mg_replica *replica = placer->replica;
	bool coordinates = mg_replica_is_coordinator(replica), current = coordinates, more = false;
	struct mg_error err = { 0 };

	if (placer->wants_current && !current) {
		current = mg_replica_read_barrier(replica, NULL, 0, &err) == 0;
	}
	const struct mg_catalog_data *data = mg_catalog_take(replica->options.catalog);

	more = mg_replica__grow_kv(replica, data);
	mg_replica__look(replica, placer->looks);
	mg_replica__keep_looks(replica, placer->looks);
	placer->before = placer->nodes;
	placer->before_count = placer->node_count;
	placer->nodes = mg_replica__placed(replica, data);
	placer->node_count = data->node_count;
	atomic_store(&replica->alone, mg_replica__is_alone(replica, placer->looks));
	tell_changes(placer, data);
	mg_free(placer->before);
	placer->before = NULL;
	/* A cluster that has not named its nodes has one. */
	if (replica->options.peers && mg_catalog_find_node(data, replica->options.self)) {
		more = place(placer, current) || more;
		if (coordinates) {
			enter_all(placer, data);
		}
	}
	mg_catalog_give(replica->options.catalog, data);
	judge(placer);
	return more || atomic_load(&replica->unready) ? BUSY_MS : IDLE_MS;
}

/* Until the time has come, or something has changed.  False: the end. */
static bool rest(struct mg_placer *placer, unsigned ms)
{
	uint64_t until_ms = mg_clock_ms() + ms;

	pthread_mutex_lock(&placer->lock);
	while (!placer->kicked && !placer->stopping &&
	       mg_cond_wait_until(&placer->changed, &placer->lock, until_ms)) {
	}
	placer->kicked = false;
	bool goes_on = !placer->stopping;
	pthread_mutex_unlock(&placer->lock);
	return goes_on;
}

static void *work(void *arg)
{
	struct mg_placer *placer = arg;
	unsigned ms = 0; /* at once, the first time */

	while (rest(placer, ms)) {
		ms = look_round(placer);
	}
	return NULL;
}

void mg_replica__kick_placer(struct mg_replica *replica)
{
	struct mg_placer *placer = replica->placer;

	pthread_mutex_lock(&placer->lock);
	placer->kicked = true;
	pthread_cond_signal(&placer->changed);
	pthread_mutex_unlock(&placer->lock);
}

void mg_replica__make_placer(struct mg_replica *replica)
{
	struct mg_placer *placer = mg_alloc0(sizeof *placer);
	size_t groups = mg_replica__group_max(replica);

	placer->replica = replica;
	placer->looks = mg_alloc0(groups * sizeof *placer->looks);
	placer->commits = mg_alloc0(groups * sizeof *placer->commits);
	pthread_mutex_init(&placer->lock, NULL);
	mg_cond_init(&placer->changed);
	replica->placer = placer;
}

int mg_replica__start_placer(struct mg_replica *replica, struct mg_error *err)
{
	struct mg_placer *placer = replica->placer;
	int failed = pthread_create(&placer->thread, NULL, work, placer);

	placer->started = failed == 0;
	return failed ? mg_error_errno(err, failed, "cannot start a thread to place replicas") : 0;
}

void mg_replica__end_placer(struct mg_replica *replica)
{
	struct mg_placer *placer = replica->placer;

	pthread_mutex_lock(&placer->lock);
	placer->stopping = true;
	pthread_cond_signal(&placer->changed);
	pthread_mutex_unlock(&placer->lock);
}

void mg_replica__join_placer(struct mg_replica *replica)
{
	if (replica->placer->started) {
		pthread_join(replica->placer->thread, NULL);
		replica->placer->started = false;
	}
}

void mg_replica__free_placer(struct mg_replica *replica)
{
	struct mg_placer *placer = replica->placer;

	mg_free(placer->nodes);
	mg_free(placer->looks);
	mg_free(placer->commits);
	pthread_cond_destroy(&placer->changed);
	pthread_mutex_destroy(&placer->lock);
	mg_free(placer);
}
