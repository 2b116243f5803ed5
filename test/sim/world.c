/*
 * world.c - events, clock, network, and the life and death of nodes.
 *
 * Rule: one event at a time, in the order of time and then of making; after each, the node it was
 * for has its turn.  A node that is paused (a stopped process) sees nothing until it goes on, and
 * then everything; a node that died sees none of the events of its earlier life.
 */
#include "sim.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CALM_MS 8000
#define PROMISE_MS 250
#define ELECTION_MS_MAX 3000 /* at the end, to be over */

struct sim_world sim;

/* ---- chance -----------------------------------------------------------------------------------
 */

uint64_t sim_random(void)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	sim.random ^= sim.random << 17;
	return sim.random * 0x2545f4914f6cdd1du >> 11;
}

uint64_t sim_below(uint64_t bound)
{
	return bound == 0 ? 0 : sim_random() % bound;
}

bool sim_chance(uint64_t per_mille)
{
	return sim_below(1000) < per_mille;
}

void sim_fail(const char *fmt, ...)
{
	va_list ap;

	if (sim.failure[0] != '\0') {
		return; /* the first one counts */
	}
	va_start(ap, fmt);
	(void)vsnprintf(sim.failure, sizeof sim.failure, fmt, ap);
	va_end(ap);
	sim_trace("FAILURE: %s", sim.failure);
}

void sim_trace(const char *fmt, ...)
{
	va_list ap;

	if (!sim.options.trace) {
		return;
	}
	printf("%8llu ", (unsigned long long)sim.now_ms);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* ---- events -----------------------------------------------------------------------------------
 */

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void sim_push(struct sim_event event)
{
	event.order = ++sim.order;
	mg_grow(sim.queue, sim.queue_count, sim.queue_cap);
	size_t at = sim.queue_count++;

	while (at > 0 && earlier(&event, &sim.queue[(at - 1) / 2])) {
		sim.queue[at] = sim.queue[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	sim.queue[at] = event;
}

static struct sim_event pop(void)
{
	struct sim_event first = sim.queue[0], last = sim.queue[--sim.queue_count];
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < sim.queue_count && earlier(&sim.queue[child + 1], &sim.queue[child])) {
			child++;
		}
		if (child >= sim.queue_count || !earlier(&sim.queue[child], &last)) {
			break;
		}
		sim.queue[at] = sim.queue[child];
		at = child;
	}
	if (sim.queue_count > 0) {
		sim.queue[at] = last;
	}
	return first;
}

/* ---- a node's clock, chance and network -------------------------------------------------------
 */

static struct sim_node *of_env(struct mg_env *env)
{
	return (struct sim_node *)((char *)env - offsetof(struct sim_node, env));
}

static struct sim_node *of_net(struct mg_net *net)
{
	return (struct sim_node *)((char *)net - offsetof(struct sim_node, net));
}

static uint64_t on_now(struct mg_env *env)
{
	const struct sim_node *node = of_env(env);

	return node->clock_offset + (sim.now_ms - node->slept_ms) * node->clock_rate / 1000;
}

static uint64_t on_boot(struct mg_env *env)
{
	const struct sim_node *node = of_env(env);

	return sim.options.sleepy ? on_now(env)
	                          : node->clock_offset + sim.now_ms * node->clock_rate / 1000;
}

static uint64_t on_random(struct mg_env *env)
{
	(void)env;
	return sim_random();
}

static void on_wake_at(struct mg_env *env, uint64_t ms)
{
	struct sim_node *node = of_env(env);
	uint64_t local = ms > node->clock_offset ? ms - node->clock_offset : 0;

	if (ms == UINT64_MAX) {
		node->wake_ms = UINT64_MAX;
		return;
	}
	node->wake_ms = (local * 1000 + node->clock_rate - 1) / node->clock_rate + node->slept_ms;
	if (node->wake_ms <= sim.now_ms) {
		node->wake_ms = sim.now_ms + 1;
	}
}

static void on_send(struct mg_net *net, uint64_t peer, struct mg_buf *frame)
{
	uint32_t from = of_net(net)->id, to = (uint32_t)peer;
	int copies = 1;

	mg_assert(to >= 1 && to <= SIM_NODES);
	if (sim.cut[from][to] || sim_chance(sim.profile.drop)) {
		mg_buf_unref(frame);
		return;
	}
	copies += !sim.profile.fifo && sim_chance(sim.profile.duplicate);
	for (int i = 0; i < copies; i++) {
		uint64_t at = sim.now_ms + 1 + sim_below(10);

		if (!sim.calm && sim_chance(20)) {
			at += sim_below(300);
		}
		if (sim.profile.fifo && at < sim.arrival[from][to]) {
			at = sim.arrival[from][to];
		}
		sim.arrival[from][to] = at;
		sim_push((struct sim_event){
			.at = at, .kind = SIM_FRAME, .node = to, .from = from, .frame = mg_buf_ref(frame) });
	}
	mg_buf_unref(frame);
}

/* ---- life of a node ---------------------------------------------------------------------------
 */

static void on_role(void *arg, uint32_t group, enum mg_raft_role role, uint64_t term)
{
	const struct sim_node *node = arg;

	sim_trace("node %u group %u: %s of term %llu", node->id, group, mg_raft_role_name(role),
	          (unsigned long long)term);
	sim_check_role(node->id, group, role, term);
}

static void on_trace(void *arg, uint32_t group, const char *text)
{
	const struct sim_node *node = arg;

	sim_trace("node %u group %u: %s", node->id, group, text);
}

struct mg_group *sim_group(uint32_t node, uint32_t group)
{
	const struct sim_node *it = &sim.nodes[node];

	return it->up && it->paused_until == 0 ? mg_raft_node_group(it->node, group) : NULL;
}

void sim_open(uint32_t id, uint32_t group)
{
	struct sim_node *node = &sim.nodes[id];
	struct sim_model *model = &node->models[group];
	struct mg_group *opened;
	struct mg_error err = { 0 };

	sim_bank_no_reader(id);
	sim_model_reset(model);
	int rc = mg_raft_node_open(node->node, group, &model->base, &opened, &err);

	if (rc == 0) {
		model->owner = opened;
	} else if (rc != MG_E_NOT_FOUND) {
		sim_fail("node %u cannot open group %u: %s", id, group, err.message);
	}
}

void sim_start(uint32_t id)
{
	static const struct mg_env_ops env = {
		.now_ms = on_now,
		.boot_ms = on_boot,
		.random = on_random,
		.wake_at = on_wake_at,
	};
	static const struct mg_net_ops net = { .send = on_send };
	struct sim_node *node = &sim.nodes[id];

	mg_assert(!node->up);
	sim_trace("node %u starts", id);
	node->env.ops = &env;
	node->net.ops = &net;
	node->id = id;
	node->up = true;
	node->life++;
	node->paused_until = 0;
	node->clock_offset = 1000 + sim_below(1000000);
	node->clock_rate = 1000 - sim.profile.clock_off + sim_below(2 * sim.profile.clock_off + 1);
	node->slept_ms = 0;
	node->cuts = mg_cuts_new(SIM_GROUPS_MAX);
	node->node = mg_raft_node__new(
		&(struct mg_raft_node_options){
			.self = id,
			.incarnation = ++sim.incarnation,
			.log = &node->disk.base,
			.env = &node->env,
			.net = &node->net,
			.election_ms = 150,
			.heartbeat_ms = 40,
			.inflight_max = 64,
			.snapshot_entries = sim.profile.snapshots ? 50 : 1000000,
			.snapshot_rest_entries = sim.profile.snapshots ? 20 : 0,
			.snapshot_rest_ms = 2000,
			.keep_entries = 8,
			.proposal_timeout_ms = 3000,
			.read_timeout_ms = 1000,
			.promise_ms = PROMISE_MS,
			.no_leases = !sim.profile.leases,
			.on_role = on_role,
			.on_trace = sim.options.trace ? on_trace : NULL,
			.watch_arg = node,
		},
		sim.options.rules);
	node->node->lease_ms *= sim.options.overstay ? 3 : 1;
	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		if (mg_raft_node_knows(node->node, group) && !node->models[group].damaged) {
			sim_open(id, group);
		}
	}
	mg_raft_node_turn(node->node);
	sim_bank_node_starts(id);
}

void sim_crash(uint32_t id)
{
	struct sim_node *node = &sim.nodes[id];

	mg_assert(node->up);
	sim_trace("node %u dies", id);
	sim.result.crashes++;
	node->up = false;
	node->life++;
	node->paused_until = 0;
	for (uint32_t group = 0; group < SIM_GROUPS_MAX; group++) {
		sim_model_crash(&node->models[group]);
	}
	sim_bank_no_reader(id);
	mg_cuts_free(node->cuts);
	node->cuts = NULL;
	mg_raft_node_free(node->node);
	node->node = NULL;
	sim_disk_crash(&node->disk);
}

static void check_replicas(struct sim_node *node)
{
	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		struct mg_group *it = node->up ? mg_raft_node_group(node->node, group) : NULL;

		if (it != NULL && it->failed != 0) {
			sim_fail("replica of group %u on node %u is broken: code %d", group, node->id,
			         it->failed);
		}
	}
}

static void turn(struct sim_node *node)
{
	if (node->up && sim.failure[0] == '\0') {
		mg_raft_node_turn(node->node);
		check_replicas(node);
	}
}

/* ---- one event --------------------------------------------------------------------------------
 */

static void deliver(struct sim_node *node, const struct sim_event *event)
{
	struct mg_error err = { 0 };

	if (!node->up || sim.cut[event->from][event->node]) {
		return;
	}
	if (mg_raft_node_receive(node->node, event->from, event->frame->data, event->frame->size,
	                         &err) != 0) {
		sim_fail("node %u refuses a frame of node %u: %s", event->node, event->from, err.message);
	}
}

static void handle(const struct sim_event *event)
{
	struct sim_node *node = &sim.nodes[event->node];

	switch (event->kind) {
	case SIM_CLIENT:
		sim_play_client();
		return;
	case SIM_FAULT:
		sim_play_fault();
		return;
	case SIM_FRAME:
		deliver(node, event);
		break;
	case SIM_RESUME:
		if (node->life == event->life) {
			node->paused_until = 0;
			node->slept_ms += node->sleeps ? sim.now_ms - node->paused_at : 0;
			sim_play_resumed(event->node);
		}
		break;
	case SIM_READ:
		if (node->life == event->life) {
			sim_bank_read(event->node);
		}
		return;
	case SIM_LOST:
		if (node->up && node->life == event->life) {
			mg_raft_node_lost(node->node, event->from);
		}
		break;
	case SIM_BLINK:
		if (node->up && node->life == event->life && !sim.calm) {
			sim_play_blink(event->node, event->from);
		}
		return;
	case SIM_SYNC:
		if (node->life == event->life) {
			sim_disk_synced(&node->disk);
		}
		break;
	default:
		if (node->life == event->life) {
			sim_model_event(&node->models[event->group], event);
		}
		break;
	}
	turn(node);
}

/* Put off what a stopped process cannot see; true when it was. */
static bool put_off(struct sim_event event)
{
	const struct sim_node *node = &sim.nodes[event.node];

	if (event.kind == SIM_CLIENT || event.kind == SIM_FAULT || event.kind == SIM_RESUME ||
	    node->paused_until == 0) {
		return false;
	}
	event.at = node->paused_until + 1;
	sim_push(event);
	return true;
}

static struct sim_node *next_to_wake(void)
{
	struct sim_node *first = NULL;

	for (uint32_t id = 1; id <= SIM_NODES; id++) {
		struct sim_node *node = &sim.nodes[id];

		if (node->up && node->paused_until == 0 &&
		    (first == NULL || node->wake_ms < first->wake_ms)) {
			first = node;
		}
	}
	return first;
}

static void run_until(uint64_t end_ms)
{
	while (sim.failure[0] == '\0') {
		struct sim_node *node = next_to_wake();
		uint64_t at = sim.queue_count > 0 ? sim.queue[0].at : UINT64_MAX;

		sim.result.events++;
		if (node != NULL && node->wake_ms < at) {
			if (node->wake_ms >= end_ms) {
				break;
			}
			sim.now_ms = node->wake_ms;
			node->wake_ms = sim.now_ms + 1;
			turn(node);
			continue;
		}
		if (at >= end_ms) {
			break;
		}
		struct sim_event event = pop();

		sim.now_ms = event.at;
		if (!put_off(event)) {
			handle(&event);
			mg_buf_unref(event.frame);
		}
	}
	sim.now_ms = sim.failure[0] == '\0' ? end_ms : sim.now_ms;
}

/* ---- a run ------------------------------------------------------------------------------------
 */

static void draw_profile(void)
{
	struct sim_profile *profile = &sim.profile;

	profile->churn = sim_chance(600);
	profile->fifo = sim_chance(500);
	profile->snapshots = sim_chance(700);
	profile->groups = (uint32_t)(1 + (sim_chance(300) ? sim_below(SIM_GROUPS_MAX) : 0));
	profile->voters = profile->churn ? 3 : SIM_NODES;
	profile->voters_min = profile->churn && sim_chance(300) ? 1 : 3;
	profile->drop = sim_chance(667) ? (unsigned)sim_below(60) : 0;
	profile->duplicate = sim_chance(500) ? (unsigned)sim_below(50) : 0;
	profile->disk_slow = sim_chance(300) ? (unsigned)sim_below(60) : 0;
	if (sim.options.slow_disk) {
		profile->disk_slow = 333;
	}
	profile->apply_ms = sim_chance(500) ? (unsigned)sim_below(40) : 0;
	profile->damage = profile->snapshots && sim_chance(500);
	profile->leases = sim_chance(800);
	profile->clock_off = sim.options.drift ? 600 : sim_chance(500) ? 100 : 20;
}

static void begin(const struct sim_options *options)
{
	memset(&sim, 0, sizeof sim);
	sim.options = *options;
	sim.random = options->seed * 0x9e3779b97f4a7c15u + 1;
	for (int i = 0; i < 20; i++) {
		(void)sim_random();
	}
	sim.now_ms = 1000;
	draw_profile();
	sim_check_begin();
	sim_bank_begin();
	for (uint32_t id = 1; id <= SIM_NODES; id++) {
		sim_disk_init(&sim.nodes[id].disk, id);
		for (uint32_t group = 0; group < SIM_GROUPS_MAX; group++) {
			sim_model_init(&sim.nodes[id].models[group], id, group);
		}
		sim_start(id);
	}
	sim_play_begin();
}

static void be_calm(void)
{
	sim_trace("calm");
	sim.calm = true;
	sim.profile.drop = sim.profile.duplicate = sim.profile.disk_slow = 0;
	memset(sim.cut, 0, sizeof sim.cut);
	for (uint32_t id = 1; id <= SIM_NODES; id++) {
		if (!sim.nodes[id].up) {
			sim_start(id);
		}
	}
	sim_check_calm();
}

static void finish(void)
{
	for (uint32_t id = 1; id <= SIM_NODES; id++) {
		if (sim.nodes[id].up) {
			sim.options.trace = false;
			sim_crash(id);
		}
		sim_disk_fini(&sim.nodes[id].disk);
	}
	while (sim.queue_count > 0) {
		mg_buf_unref(pop().frame);
	}
	mg_free(sim.queue);
	sim_check_fini();
	sim_bank_fini();
}

bool sim_run(const struct sim_options *options, struct sim_result *result, char *failure,
             size_t failure_size)
{
	mg_assert(options->virtual_ms > CALM_MS);
	begin(options);
	run_until(1000 + options->virtual_ms - CALM_MS);
	if (sim.failure[0] == '\0') {
		be_calm();
		run_until(1000 + options->virtual_ms);
		/* An election may just have begun: where frames overtake each other, followers miss some.
		 */
		for (uint64_t ms = 100; ms <= ELECTION_MS_MAX && !sim_check_led(); ms += 100) {
			run_until(1000 + options->virtual_ms + ms);
		}
	}
	if (sim.failure[0] == '\0') {
		sim_check_end();
		sim_bank_check_end();
	}
	bool good = sim.failure[0] == '\0';

	(void)snprintf(failure, failure_size, "%s (after %llu ms)", sim.failure,
	               (unsigned long long)sim.now_ms);
	finish();
	*result = sim.result;
	return good;
}
