/*
 * play.c - clients, changes of members, and faults: all drawn from the seed.
 */
#include "sim.h"

#include "base/assert.h"

#include <string.h>

#define COMMAND_SIZE_MAX 6000
#define QUIET_MS 900

/* ---- clients ----------------------------------------------------------------------------------
 */

static void on_command(void *arg, int error, uint64_t index, uint64_t leader)
{
	(void)leader;
	sim_command_ended((uint64_t)(uintptr_t)arg, error, index);
}

static void propose(struct mg_group *group, uint32_t id)
{
	static uint8_t bytes[COMMAND_SIZE_MAX];
	size_t size = sizeof(uint64_t) + sim_below(sim_chance(20) ? COMMAND_SIZE_MAX - 8 : 100);
	uint64_t command = sim_command_new(id);

	memcpy(bytes, &command, sizeof command);
	if (mg_group_propose(group, bytes, size, on_command, (void *)(uintptr_t)command, NULL) != 0) {
		sim_command_withdrawn(command);
	}
}

struct asked {
	uint32_t group;
	uint64_t ms, committed;
};

static void on_read(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct asked *asked = arg;

	(void)leader;
	sim_read_ended(asked->group, asked->ms, asked->committed, error, index);
	mg_free(asked);
}

static void ask_read(struct mg_group *group, uint32_t id)
{
	struct asked *asked = mg_alloc(sizeof *asked);

	*asked = (struct asked){ .group = id, .ms = sim.now_ms, .committed = sim_committed(id) };
	if (mg_group_read_index(group, on_read, asked, NULL) != 0) {
		mg_free(asked);
	}
}

/* ---- a state that is lost, and made anew -------------------------------------------------------
 */

/* Another replica's snapshot, which that one still has, at `least` or behind it; NULL: nobody's. */
static const struct mg_manifest *find_snapshot(uint32_t id, uint32_t group, uint64_t least,
                                               struct sim_state *state)
{
	uint32_t first = (uint32_t)sim_below(SIM_NODES);

	for (uint32_t i = 0; i < SIM_NODES; i++) {
		uint32_t other = 1 + (first + i) % SIM_NODES;
		struct mg_group *source = other == id ? NULL : sim_group(other, group);
		const struct mg_manifest *manifest = source == NULL ? NULL : mg_group_snapshot(source);
		const struct sim_state *kept = &sim.nodes[other].models[group].kept;

		if (manifest != NULL && manifest->snapshot.index >= least &&
		    memcmp(manifest->data, kept, sizeof *kept) == 0) {
			*state = *kept;
			return manifest;
		}
		if (source != NULL && sim.nodes[other].paused_until == 0) {
			mg_group_ask_snapshot(source);
		}
	}
	return NULL;
}

static uint64_t mark_of(const struct sim_node *node, uint32_t group)
{
	struct mg_raft_log_state state = { .group = group };

	(void)mg_raft_log_state(node->node->options.log, group, &state);
	return state.snapshot.index;
}

/* Its file comes when the log's mark is durable. */
static void on_marked(void *arg, uint64_t sequence, int error)
{
	struct sim_model *model = arg;

	(void)sequence;
	if (error == 0 && model->mending) {
		model->now = model->durable = model->kept = model->mended;
		model->damaged = model->mending = false;
		sim.result.mended++;
		sim_trace("group %u of node %u is whole again", model->group, model->node);
		sim_open(model->node, model->group);
	}
}

static void mend(uint32_t id, uint32_t group)
{
	struct sim_node *node = &sim.nodes[id];
	struct sim_model *model = &node->models[group];
	const struct mg_manifest *manifest;

	if (!node->up || node->paused_until != 0 || !model->damaged || model->mending) {
		return;
	}
	uint64_t mark = mark_of(node, group);

	/* An older one will do as long as the log has what follows it. */
	manifest = find_snapshot(id, group, sim_chance(500) ? mark : 0, &model->mended);
	if (manifest != NULL) {
		uint64_t index = manifest->snapshot.index;
		int rc = mg_raft_node_reseed(node->node, group, manifest, on_marked, model, NULL);

		mg_assert(rc == 0 || (rc == MG_E_BUSY && index < mark));
		model->mending = rc == 0;
		sim.result.older += rc == 0 && index < mark;
		mg_raft_node_turn(node->node);
	}
}

/* One at a time: there must be somebody to take it from. */
static void damage(uint32_t id, uint32_t group)
{
	struct sim_node *node = &sim.nodes[id];
	struct sim_model *model = &node->models[group];
	struct mg_group *it = sim_group(id, group);
	struct sim_state ignored;
	bool others = false;

	for (uint32_t other = 1; other <= SIM_NODES; other++) {
		others = others || sim.nodes[other].models[group].damaged;
	}
	if (it == NULL || node->paused_until != 0 || others || !mg_group_is_idle(it) ||
	    find_snapshot(id, group, mark_of(node, group), &ignored) == NULL) {
		return;
	}
	sim_trace("group %u of node %u loses its state", group, id);
	sim_bank_no_reader(id);
	mg_raft_node_close(it, false);
	model->owner = NULL;
	model->damaged = true;
	model->refused_ms = 0; /* the group that is opened for it does not know of that */
	model->now = model->durable = model->kept = model->pulled = (struct sim_state){ 0 };
	mg_raft_node_turn(node->node);
}

static void mend_all(void)
{
	for (uint32_t id = 1; sim.profile.damage && id <= SIM_NODES; id++) {
		for (uint32_t group = 0; group < sim.profile.groups; group++) {
			if (sim.nodes[id].models[group].damaged && sim_chance(sim.calm ? 1000 : 50)) {
				mend(id, group);
			}
		}
	}
}

/* ---- members ----------------------------------------------------------------------------------
 */

struct mg_members sim_first_members(void)
{
	struct mg_members members = { 0 };

	for (size_t i = 1; i <= sim.profile.voters; i++) {
		(void)mg_members_set(&members, i, MG_MEMBER_VOTER, NULL);
	}
	return members;
}

/* Give a node that has no replica one to begin with: somebody's snapshot, else the birth entry. */
static void seed_replica(uint32_t id, uint32_t group)
{
	struct sim_node *node = &sim.nodes[id];
	struct mg_members members = sim_first_members();
	uint32_t first = 1 + (uint32_t)sim_below(SIM_NODES);
	int rc = MG_E_NOT_FOUND;

	if (!(sim.options.rules & MG_ARMOUR_START)) {
		rc = 0; /* control: it begins with nothing */
	}
	for (uint32_t i = 0; rc != 0 && i < SIM_NODES; i++) {
		uint32_t other = 1 + (first + i) % SIM_NODES;
		struct mg_group *source = sim_group(other, group);
		const struct mg_manifest *manifest = source == NULL ? NULL : mg_group_snapshot(source);
		const struct sim_state *kept = &sim.nodes[other].models[group].kept;

		if (manifest != NULL && memcmp(manifest->data, kept, sizeof *kept) == 0) {
			struct sim_model *model = &node->models[group];

			model->now = model->durable = model->kept = *kept;
			rc = mg_raft_node_seed(node->node, group, manifest, NULL);
		}
	}
	if (rc != 0) {
		rc = mg_raft_node_birth(node->node, group, &members, NULL);
	}
	mg_assert(rc == 0);
	sim_open(id, group);
	mg_raft_node_turn(node->node);
}

static void change_members(struct mg_group *group, uint32_t id)
{
	struct mg_group_info info;
	uint64_t node = 1 + sim_below(SIM_NODES);
	enum mg_change change;

	mg_group_info(group, &info);
	const struct mg_member *member = mg_members_find(&info.core.members, node);
	bool leaving = mg_members_voters(&info.core.members) > sim.profile.voters_min;

	if (member == NULL) {
		struct sim_node *target = &sim.nodes[node];

		change = MG_CHANGE_ADD_STANDBY;
		if (!target->up || target->paused_until != 0) {
			return;
		}
		if (target->models[id].damaged) {
			return;
		}
		if (mg_raft_node_group(target->node, id) == NULL) {
			seed_replica((uint32_t)node, id);
		}
		/* As the catalog does: a member only when its beginning is durable. */
		if ((sim.options.rules & MG_ARMOUR_START) && !target->disk.durable[id].present) {
			return;
		}
	} else if (member->role == MG_MEMBER_STANDBY) {
		change = sim_chance(150) ? MG_CHANGE_REMOVE : MG_CHANGE_PROMOTE;
	} else if (leaving && (node != group->node->options.self || sim_chance(300))) {
		change = sim_chance(300) ? MG_CHANGE_REMOVE : MG_CHANGE_DEMOTE;
	} else {
		return;
	}
	if (mg_group_change(group, change, node, NULL, NULL, NULL) == 0) {
		sim.result.changes++;
		sim_trace("group %u: change %d of node %llu", id, change, (unsigned long long)node);
	}
}

/* ---- what clients do --------------------------------------------------------------------------
 */

static void visit(uint32_t node, uint32_t id)
{
	struct mg_group *group = sim_group(node, id);

	if (group == NULL || group->role != MG_RAFT_LEADER) {
		return;
	}
	if (sim.profile.churn && !sim.calm && sim_chance(60)) {
		change_members(group, id);
	}
	bool quiet = sim.now_ms < sim.quiet_until && !sim.calm;

	for (uint64_t count = quiet ? 0 : 1 + sim_below(3); count > 0; count--) {
		propose(group, id);
	}
	if (sim_chance(800)) {
		ask_read(group, id);
	}
	if (!sim.calm && sim_chance(10)) {
		(void)mg_group_transfer(group, 0, NULL);
	}
	mg_raft_node_turn(sim.nodes[node].node);
}

void sim_play_client(void)
{
	uint32_t id = (uint32_t)sim_below(sim.profile.groups);

	mend_all();
	for (uint32_t node = 1; node <= SIM_NODES; node++) {
		visit(node, id);
	}
	uint32_t node = 1 + (uint32_t)sim_below(SIM_NODES);
	struct mg_group *group = sim_group(node, id);

	if (group != NULL && sim_chance(50)) { /* whoever it is */
		propose(group, id);
		ask_read(group, id);
		mg_raft_node_turn(sim.nodes[node].node);
	}
	if (group != NULL && sim.profile.snapshots && sim_chance(20)) {
		mg_group_ask_snapshot(group);
		mg_raft_node_turn(sim.nodes[node].node);
	}
	sim_bank_client();
	sim_push((struct sim_event){ .at = sim.now_ms + 5 + sim_below(20), .kind = SIM_CLIENT });
}

/* A leader that was stopped and goes on does not know yet that it is deposed. */
void sim_play_resumed(uint32_t node)
{
	for (uint32_t id = 0; id < sim.profile.groups; id++) {
		struct mg_group *group = sim_group(node, id);

		if (group != NULL && group->role == MG_RAFT_LEADER) {
			ask_read(group, id);
			propose(group, id);
		}
	}
}

/* ---- faults -----------------------------------------------------------------------------------
 */

static void pause_node(uint32_t node)
{
	for (uint32_t other = 1; other <= SIM_NODES; other++) { /* a leader if there is one */
		struct mg_group *group = sim_group(other, 0);

		if (group != NULL && group->role == MG_RAFT_LEADER) {
			node = other;
		}
	}
	struct sim_node *it = &sim.nodes[node];

	if (!it->up || it->paused_until != 0) {
		return;
	}
	it->paused_at = sim.now_ms;
	it->paused_until = sim.now_ms + 100 + sim_below(1200);
	it->sleeps = sim_chance(300);
	sim_trace("node %u %s until %llu", node, it->sleeps ? "sleeps" : "stops",
	          (unsigned long long)it->paused_until);
	sim_push((struct sim_event){
		.at = it->paused_until, .kind = SIM_RESUME, .node = node, .life = it->life });
}

static void cut_link(uint32_t from, uint32_t to, bool both)
{
	sim_trace("cut %u %s %u", from, both ? "<->" : "->", to);
	sim.cut[from][to] = true;
	if (both) {
		sim.cut[to][from] = true;
	}
}

/* Others notice the end of their connections to a node, or believe it. */
static void lose(uint32_t node, unsigned per_mille)
{
	for (uint32_t other = 1; other <= SIM_NODES; other++) {
		if (other != node && sim_chance(per_mille)) {
			sim_push((struct sim_event){
				.at = sim.now_ms + 1 + sim_below(40),
				.kind = SIM_LOST,
				.node = other,
				.from = node,
				.life = sim.nodes[other].life,
			});
		}
	}
}

/* ---- what leases must survive ----------------------------------------------------------------
 */

static uint32_t leader_of(uint32_t id)
{
	for (uint32_t node = 1; node <= SIM_NODES; node++) {
		struct mg_group *group = sim_group(node, id);

		if (group != NULL && group->role == MG_RAFT_LEADER) {
			return node;
		}
	}
	return 0;
}

static void cut_off(uint32_t leader, bool both)
{
	for (uint32_t other = 1; other <= SIM_NODES; other++) {
		if (other != leader) {
			cut_link(other, leader, both);
		}
	}
}

/* Some do not hear the leader any more, and stand, when they may; those whom they ask have just
 * been started. */
static void blink_some(uint32_t leader)
{
	for (uint32_t other = 1; other <= SIM_NODES; other++) {
		if (other != leader && sim_chance(500)) {
			cut_link(leader, other, true);
		} else if (other != leader) {
			sim_push((struct sim_event){ .at = sim.now_ms + 250 + sim_below(350),
			                             .kind = SIM_BLINK,
			                             .node = other,
			                             .from = leader,
			                             .life = sim.nodes[other].life });
		}
	}
}

void sim_play_blink(uint32_t node, uint32_t leader)
{
	if (node == leader) {
		blink_some(leader);
		return;
	}
	sim_trace("node %u blinks", node);
	sim_crash(node);
	sim_start(node);
	cut_link(leader, node, true); /* a connection takes a while */
}

/* A leader goes on without being heard, or without hearing that it leads no more. */
static void strike_leader(void)
{
	uint32_t id = (uint32_t)sim_below(sim.profile.groups), leader = leader_of(id);

	if (leader == 0) {
		return;
	}
	switch (sim_below(3)) {
	case 0:
		cut_off(leader, true);
		lose(leader, 1000);
		break;
	case 1:
		(void)mg_group_transfer(sim_group(leader, id), 0, NULL);
		mg_raft_node_turn(sim.nodes[leader].node);
		cut_off(leader, false);
		break;
	default: /* nobody's log gets longer than that of who stands later */
		sim.quiet_until = sim.now_ms + QUIET_MS;
		sim_push((struct sim_event){ .at = sim.now_ms + 60,
		                             .kind = SIM_BLINK,
		                             .node = leader,
		                             .from = leader,
		                             .life = sim.nodes[leader].life });
		break;
	}
}

void sim_play_fault(void)
{
	uint32_t node = 1 + (uint32_t)sim_below(SIM_NODES);
	bool stopped = sim.nodes[node].paused_until != 0;

	if (sim.calm) {
		return;
	}
	sim_push((struct sim_event){ .at = sim.now_ms + 50 + sim_below(700), .kind = SIM_FAULT });
	if (sim.profile.damage && sim_chance(150)) {
		damage(node, (uint32_t)sim_below(sim.profile.groups));
		return;
	}
	if (sim_chance(250)) {
		strike_leader();
		return;
	}
	if (sim_chance(200)) {
		lose(node, 500); /* and it lives */
	}
	switch (sim_below(7)) {
	case 0:
		if (!sim.nodes[node].up) {
			sim_start(node);
		} else {
			sim_crash(node); /* a stopped one too: kill -9 */
			lose(node, 800);
		}
		break;
	case 1:
		if (!sim.nodes[node].up) {
			sim_start(node);
		}
		break;
	case 2:
		cut_link(node, 1 + (uint32_t)sim_below(SIM_NODES), sim_chance(500));
		break;
	case 3:
		for (uint32_t other = 1; other <= SIM_NODES; other++) {
			cut_link(node, other, true);
		}
		break;
	case 4:
		if (!stopped) {
			pause_node(node);
		}
		break;
	default:
		memset(sim.cut, 0, sizeof sim.cut);
		break;
	}
}

void sim_play_begin(void)
{
	struct mg_members members = sim_first_members();

	for (uint32_t id = 0; id < sim.profile.groups; id++) {
		for (uint32_t node = 1; node <= sim.profile.voters; node++) {
			int rc = mg_raft_node_birth(sim.nodes[node].node, id, &members, NULL);

			mg_assert(rc == 0);
			sim_open(node, id);
			mg_raft_node_turn(sim.nodes[node].node);
		}
	}
	sim_push((struct sim_event){ .at = sim.now_ms + 10, .kind = SIM_CLIENT });
	sim_push((struct sim_event){ .at = sim.now_ms + 500, .kind = SIM_FAULT });
}
