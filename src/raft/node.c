/*
 * node.c - a node: its groups, its frames in and out, its turns.
 *
 * Rule: a turn leaves nothing undone that could be done now: what the log has stored is told,
 * timers that are due have run, dirty groups have proposed, probed and applied, and the log has
 * been handed what was put.  Only then is the time of the next turn asked for.
 *
 * Timers of all groups are looked at together, at most every MG_TICK_MS: with thousands of groups
 * a scan costs less than a heap that every heartbeat changes.
 *
 * Owner: the raft thread.
 */
#include "raft/raft_int.h"

#include "base/assert.h"

#include <inttypes.h>

#define PEERS_MAX 4096

static void choose(unsigned *value, unsigned standard)
{
	if (*value == 0) {
		*value = standard;
	}
}

static void choose64(uint64_t *value, uint64_t standard)
{
	if (*value == 0) {
		*value = standard;
	}
}

struct mg_raft_node *mg_raft_node__new(const struct mg_raft_node_options *options, unsigned rules)
{
	struct mg_raft_node *node = mg_alloc0(sizeof *node);

	mg_assert(options->self > 0 && options->incarnation > 0);
	mg_assert(options->log != NULL && options->env != NULL && options->net != NULL);
	node->options = *options;
	node->rules = rules;
	choose(&node->options.election_ms, 1000);
	choose(&node->options.heartbeat_ms, 150);
	choose(&node->options.inflight_max, 1024);
	choose(&node->options.capacity_min_kib, 4096);
	choose64(&node->options.snapshot_bytes, 64u << 20);
	choose64(&node->options.snapshot_entries, 1000000);
	choose64(&node->options.snapshot_rest_entries, 8192);
	choose(&node->options.snapshot_rest_ms, 60000);
	choose64(&node->options.keep_entries, 8192);
	choose64(&node->options.proposal_bytes_max, 64u << 20);
	choose(&node->options.proposal_timeout_ms, 10000);
	choose(&node->options.read_timeout_ms, 5000);
	choose(&node->options.promise_ms, 250);
	node->lease_ms = node->options.no_leases ? 0 : mg_lease_ms(node->options.promise_ms);
	mg_assert(node->options.inflight_max <= MG_RAFT_FRAME_ENTRIES_MAX);
	node->now_ms = options->env->ops->now_ms(options->env);
	node->deadline_ms = UINT64_MAX;
	node->round = options->incarnation << 32 | 1; /* an answer to an earlier life's fits none */
	node->arena = mg_arena_new();
	return node;
}

struct mg_raft_node *mg_raft_node_new(const struct mg_raft_node_options *options)
{
	return mg_raft_node__new(options, MG_RULE_ALL);
}

void mg_raft_node_free(struct mg_raft_node *node)
{
	if (node == NULL) {
		return;
	}
	mg_assert(!node->stepping);
	for (size_t i = 0; i < node->group_cap; i++) {
		struct mg_group *group = node->groups[i];

		if (group == NULL) {
			continue;
		}
		/* Nobody answers any more: neither the log nor the state machines. */
		mg_raft_log_release(node->options.log, &group->batch);
		group->wait_count = 0;
		group->applying = group->freezing = false;
		group->pull = MG_PULL_NONE;
		mg_raft_node_close(group, false);
	}
	for (size_t i = 0; i < node->peer_count; i++) {
		mg_free(node->peers[i].probes);
	}
	mg_arena_free(node->arena);
	mg_free(node->peers);
	mg_free(node->groups);
	mg_free(node->records);
	mg_free(node);
}

void mg_raft_node_lost(struct mg_raft_node *node, uint64_t peer)
{
	mg_assert(peer != node->options.self);
	node->now_ms = node->options.env->ops->now_ms(node->options.env);
	for (size_t i = 0; i < node->group_cap; i++) {
		if (node->groups[i] != NULL) {
			mg_group__lost(node->groups[i], peer);
		}
	}
}

int mg_raft_node_failed(const struct mg_raft_node *node)
{
	mg_assert(node->options.self > 0);
	return node->failed;
}

/* ---- groups -----------------------------------------------------------------------------------
 */

struct mg_group *mg_raft_node_group(struct mg_raft_node *node, uint32_t group)
{
	mg_assert(group < MG_GROUPS_MAX);
	return group < node->group_cap ? node->groups[group] : NULL;
}

/* A crash may leave of a beginning its hard state alone, which is nothing to start from. */
bool mg_raft_node_knows(struct mg_raft_node *node, uint32_t group)
{
	struct mg_raft_log_state state;

	mg_assert(group < MG_GROUPS_MAX);
	return mg_raft_log_state(node->options.log, group, &state) &&
	       (state.snapshot.index > 0 || state.last >= state.first);
}

/* The hard state of a beginning: at least this term, and what the log has of an earlier try. */
static struct mg_hard_state first_hard_state(struct mg_raft_node *node, uint32_t group,
                                             uint64_t term)
{
	struct mg_raft_log_state state = { .group = group };

	mg_assert(term > 0);
	if (mg_raft_log_state(node->options.log, group, &state) && state.hard_state.term >= term) {
		return state.hard_state;
	}
	return (struct mg_hard_state){ .term = term };
}

void mg_raft_node__dirty(struct mg_group *group)
{
	mg_assert(!group->closed);
	if (!group->dirty) {
		group->dirty = true;
		group->next_dirty = group->node->dirty;
		group->node->dirty = group;
	}
}

static void clean(struct mg_group *group)
{
	struct mg_group **at = &group->node->dirty;

	while (group->dirty && *at != NULL) {
		if (*at == group) {
			*at = group->next_dirty;
			group->dirty = false;
			return;
		}
		at = &(*at)->next_dirty;
	}
	mg_assert(!group->dirty);
}

static int refuse_known(struct mg_raft_node *node, uint32_t group, struct mg_error *err)
{
	mg_assert(group < MG_GROUPS_MAX);
	if (mg_raft_node_knows(node, group)) {
		return mg_error_set(err, MG_E_DUPLICATE,
		                    "this node has a replica of group %" PRIu32 " already", group);
	}
	return 0;
}

int mg_raft_node_birth(struct mg_raft_node *node, uint32_t group, const struct mg_members *members,
                       struct mg_error *err)
{
	uint8_t bytes[MG_MEMBERS_SIZE_MAX];
	size_t size = mg_members_encode(members, bytes);
	struct mg_raft_log_record records[2] = {
		{ .kind = MG_RAFT_LOG_HARD_STATE, .hard_state = first_hard_state(node, group, 1) },
		{ .kind = MG_RAFT_LOG_ENTRY,
		  .entry = { .index = 1,
		             .term = 1,
		             .type = MG_ENTRY_CHANGE,
		             .size = (uint32_t)size,
		             .data = bytes } },
	};
	int rc = refuse_known(node, group, err);

	mg_assert(size > 0);
	if (rc == 0) {
		(void)mg_raft_log_put(node->options.log, group, records, 2, NULL, NULL);
	}
	return rc;
}

int mg_raft_node_seed(struct mg_raft_node *node, uint32_t group, const struct mg_manifest *manifest,
                      struct mg_error *err)
{
	size_t size = mg_manifest_size(manifest);
	uint8_t *bytes = mg_alloc(size);
	struct mg_out out = mg_out(bytes, size);
	int rc = refuse_known(node, group, err);

	mg_manifest_encode(&out, manifest);
	mg_assert(out.size == size);
	struct mg_raft_log_record records[2] = {
		{ .kind = MG_RAFT_LOG_HARD_STATE,
		  .hard_state = first_hard_state(node, group, manifest->snapshot.term) },
		{ .kind = MG_RAFT_LOG_SNAPSHOT,
		  .snapshot = { .index = manifest->snapshot.index,
		                .term = manifest->snapshot.term,
		                .manifest = bytes,
		                .manifest_size = (uint32_t)size,
		                .reset = true } },
	};

	if (rc == 0) {
		(void)mg_raft_log_put(node->options.log, group, records, 2, NULL, NULL);
	}
	mg_free(bytes);
	return rc;
}

/* Does the log hold the entry that the snapshot ends with?  Then what follows it fits. */
static bool holds_end(struct mg_raft_node *node, const struct mg_raft_log_state *state,
                      const struct mg_snapshot *snapshot)
{
	struct mg_entry entry;

	if (snapshot->index == state->snapshot.index) {
		return snapshot->term == state->snapshot.term;
	}
	return mg_raft_log_meta(node->options.log, state->group, snapshot->index, &entry) &&
	       entry.term == snapshot->term;
}

int mg_raft_node_reseed(struct mg_raft_node *node, uint32_t group,
                        const struct mg_manifest *manifest, mg_raft_log_done done, void *arg,
                        struct mg_error *err)
{
	const struct mg_snapshot *snapshot = &manifest->snapshot;
	struct mg_raft_log_state state = { .group = group, .first = 1 };

	mg_assert(mg_raft_node_group(node, group) == NULL);
	mg_assert(done != NULL);
	if (!mg_raft_node_knows(node, group)) {
		return mg_error_set(err, MG_E_NOT_FOUND, "the log does not hold group %" PRIu32, group);
	}
	(void)mg_raft_log_state(node->options.log, group, &state);
	bool follows = holds_end(node, &state, snapshot); /* what the log has behind it */

	if (snapshot->index < state.snapshot.index && !follows) {
		return mg_error_set(err, MG_E_BUSY,
		                    "the snapshot of group %" PRIu32 " is at index %" PRIu64
		                    ", older than the log, which begins behind %" PRIu64,
		                    group, snapshot->index, state.snapshot.index);
	}
	size_t size = mg_manifest_size(manifest);
	uint8_t *bytes = mg_alloc(size);
	struct mg_out out = mg_out(bytes, size);

	mg_manifest_encode(&out, manifest);
	mg_assert(out.size == size);
	struct mg_raft_log_record records[2] = {
		{ .kind = MG_RAFT_LOG_HARD_STATE,
		  .hard_state = first_hard_state(node, group, snapshot->term) },
		{ .kind = MG_RAFT_LOG_SNAPSHOT,
		  .snapshot = { .index = snapshot->index,
		                .term = snapshot->term,
		                .manifest = bytes,
		                .manifest_size = (uint32_t)size,
		                .reset = !follows } },
	};

	(void)mg_raft_log_put(node->options.log, group, records, 2, done, arg);
	mg_free(bytes);
	return 0;
}

/* The entries of the log as the core wants them at its start: CHANGE entries with their bytes,
 * which lie in the arena. */
static int start_entries(struct mg_raft_node *node, const struct mg_raft_log_state *state,
                         struct mg_arena *arena, struct mg_entry **out, struct mg_error *err)
{
	struct mg_raft_log *log = node->options.log;
	size_t count = (size_t)(state->last + 1 - state->first);
	struct mg_entry *entries = mg_try_alloc((count + 1) * sizeof *entries);

	*out = entries;
	if (entries == NULL) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a log of %zu entries", count);
	}
	for (size_t i = 0; i < count; i++) {
		bool found = mg_raft_log_meta(log, state->group, state->first + i, &entries[i]);

		mg_assert(found);
		if (entries[i].type != MG_ENTRY_CHANGE) {
			continue;
		}
		struct mg_entries one;
		int rc = mg_raft_log_read(log, state->group, state->first + i, state->first + i + 1, 1,
		                          &one, err);

		if (rc != 0) {
			return rc;
		}
		mg_assert(one.count == 1);
		entries[i] = one.entries[0];
		entries[i].data = (uint8_t *)mg_arena_strndup(arena, (const char *)one.entries[0].data,
		                                              one.entries[0].size);
		mg_raft_log_release(log, &one);
	}
	return 0;
}

/* The members that the core will start with: of the last CHANGE entry, or of the snapshot. */
static int start_members(const struct mg_entry *entries, size_t count,
                         const struct mg_manifest *snapshot, struct mg_members *out,
                         struct mg_error *err)
{
	mg_assert(count == 0 || entries != NULL);
	mg_assert(snapshot != NULL);
	for (size_t i = count; i > 0; i--) {
		if (entries[i - 1].type == MG_ENTRY_CHANGE) {
			return mg_members_decode(entries[i - 1].data, entries[i - 1].size, out, err);
		}
	}
	*out = snapshot->snapshot.members;
	return 0;
}

/* Changes up to what is applied are committed; the core only guesses it for all but the last. */
static void confirm_change(struct mg_group *group, const struct mg_raft_log_state *state,
                           const struct mg_entry *entries)
{
	struct mg_core_info info;

	mg_core_info(group->core, &info);
	mg_assert(info.pending_members_index == 0 || info.pending_members_index >= state->first);
	if (info.pending_members_index == 0 || info.pending_members_index > group->applied) {
		return;
	}
	mg_assert(entries[info.pending_members_index - state->first].type == MG_ENTRY_CHANGE);
	struct mg_core_event event = {
		.kind = MG_CORE_CHANGE_APPLIED,
		.change = { .index = info.pending_members_index, .members = &info.members },
	};

	(void)mg_group__step(group, &event, NULL);
}

static int start(struct mg_group *group, struct mg_raft_log_state *state, struct mg_arena *arena,
                 struct mg_entry **entries, struct mg_error *err)
{
	struct mg_raft_node *node = group->node;
	struct mg_members members = { 0 };
	size_t count = (size_t)(state->last + 1 - state->first);
	int rc = start_entries(node, state, arena, entries, err);

	if (rc == 0) {
		rc = mg_armour_start(node->rules, state, count > 0 ? (*entries)[0].type : 0, err);
	}
	if (rc == 0) {
		rc = mg_group__snapshot_of(state, &group->snapshot, err);
	}
	if (rc == 0) {
		rc = start_members(*entries, count, &group->snapshot, &members, err);
	}
	if (rc != 0) {
		return rc;
	}
	group->applied = group->sm->ops->durable_index(group->sm);
	if (group->applied > state->last) {
		return mg_error_set(err, MG_E_CORRUPT,
		                    "group %" PRIu32 " has applied %" PRIu64
		                    " but its log ends at %" PRIu64,
		                    group->id, group->applied, state->last);
	}
	if (mg_armour_elects_itself(node->rules, &members, node->options.self)) {
		state->hard_state.term++;
		state->hard_state.vote = node->options.self;
		struct mg_raft_log_record record = {
			.kind = MG_RAFT_LOG_HARD_STATE,
			.hard_state = state->hard_state,
		};

		mg_group__put(group, &record, 1, (struct mg_wait){ .hard_state = true });
	}
	if (state->hard_state.vote != 0) {
		group->ballot = state->hard_state;
	}
	struct mg_core_event event = {
		.kind = MG_CORE_START,
		.start = { .hard_state = state->hard_state,
		           .snapshot = state->snapshot.index > 0 ? &group->snapshot.snapshot : NULL,
		           .first = state->first,
		           .entries = *entries,
		           .count = count },
	};

	return mg_group__step(group, &event, err);
}

static void on_core_trace(void *arg, const char *text)
{
	const struct mg_group *group = arg;
	const struct mg_raft_node_options *options = &group->node->options;

	options->on_trace(options->watch_arg, group->id, text);
}

static struct mg_group *group_new(struct mg_raft_node *node, uint32_t id, struct mg_sm *sm)
{
	struct mg_group *group = mg_alloc0(sizeof *group);
	struct mg_env *env = node->options.env;

	mg_assert(sm != NULL);
	group->node = node;
	group->id = id;
	group->sm = sm;
	group->frozen_ms = node->now_ms;
	if (node->rules & MG_RULE_OPENING) {
		mg_group__promise(group);
	}
	group->core = mg_core_new(&(struct mg_core_options){
		.self = node->options.self,
		.seed = env->ops->random(env),
		.election_ms = node->options.election_ms,
		.heartbeat_ms = node->options.heartbeat_ms,
		/* INSTALL is an offer that the host answers when it has pulled (snapshot.c), so it is
	     * made again and again, each time with the newest snapshot. */
		.install_ms = node->options.election_ms,
		.inflight_max = node->options.inflight_max,
		.capacity_min_kib = node->options.capacity_min_kib,
		.trace = node->options.on_trace != NULL ? on_core_trace : NULL,
		.trace_arg = group,
	});
	return group;
}

int mg_raft_node_open(struct mg_raft_node *node, uint32_t id, struct mg_sm *sm,
                      struct mg_group **out, struct mg_error *err)
{
	struct mg_raft_log_state state = { .group = id, .first = 1 };
	struct mg_entry *entries = NULL;

	*out = NULL;
	if (mg_raft_node_group(node, id) != NULL) {
		return mg_error_set(err, MG_E_DUPLICATE, "group %" PRIu32 " is open", id);
	}
	node->now_ms = node->options.env->ops->now_ms(node->options.env);
	(void)mg_raft_log_state(node->options.log, id, &state);
	if (id >= node->group_cap) {
		size_t cap = ((size_t)id + 64) & ~(size_t)63;

		node->groups = mg_realloc(node->groups, cap * sizeof *node->groups);
		memset(node->groups + node->group_cap, 0, (cap - node->group_cap) * sizeof *node->groups);
		node->group_cap = cap;
	}
	struct mg_group *group = group_new(node, id, sm);
	struct mg_arena *arena = mg_arena_new();

	node->groups[id] = group;
	int rc = start(group, &state, arena, &entries, err);

	if (rc == 0) {
		confirm_change(group, &state, entries);
		if (group->applied < group->snapshot.snapshot.index) {
			mg_group__readopt(group);
		}
		mg_raft_node__dirty(group);
		*out = group;
	} else {
		group->failed = rc;
		mg_raft_node_close(group, false);
	}
	mg_free(entries);
	mg_arena_free(arena);
	return rc;
}

void mg_raft_node_close(struct mg_group *group, bool forget)
{
	struct mg_raft_node *node = group->node;
	struct mg_raft_log_record record = { .kind = MG_RAFT_LOG_REMOVE };

	mg_assert(!group->closed);
	mg_assert(node->groups[group->id] == group);
	if (!group->failed) {
		group->failed = MG_E_SHUTDOWN; /* no step any more */
		mg_group__fail_reads(group, MG_E_SHUTDOWN);
		mg_group__refuse_queue(group, MG_E_SHUTDOWN);
		mg_group__unknown(group, UINT64_MAX);
	}
	clean(group);
	mg_group__tell_leader(group, 0);
	group->closed = true;
	node->groups[group->id] = NULL;
	if (forget) {
		(void)mg_raft_log_put(node->options.log, group->id, &record, 1, NULL, NULL);
	}
	mg_group__free(group);
}

/* ---- frames -----------------------------------------------------------------------------------
 */

struct mg_peer *mg_raft_node__peer(struct mg_raft_node *node, uint64_t node_id)
{
	mg_assert(node_id > 0);
	mg_assert(node->peer_count <= node->peer_cap);
	for (size_t i = 0; i < node->peer_count; i++) {
		if (node->peers[i].node == node_id) {
			return &node->peers[i];
		}
	}
	mg_assert(node->peer_count < PEERS_MAX); /* peers are authenticated nodes of the cluster */
	mg_grow(node->peers, node->peer_count, node->peer_cap);
	node->peers[node->peer_count] = (struct mg_peer){ .node = node_id };
	return &node->peers[node->peer_count++];
}

void mg_raft_node__send(struct mg_raft_node *node, uint64_t peer_id, struct mg_buf *frame)
{
	struct mg_peer *peer = mg_raft_node__peer(node, peer_id);

	mg_assert(peer_id != node->options.self);
	mg_assert(frame->size >= MG_RAFT_FRAME_HEAD_SIZE);
	mg_raft_frame_number(frame, node->options.incarnation, ++peer->sequence);
	node->options.net->ops->send(node->options.net, peer_id, frame);
}

/* Each group says whether our term, which must be durable, is at most the asker's, and promises. */
static void on_probe(struct mg_raft_node *node, struct mg_raft_frame *frame)
{
	mg_assert(frame->probe_count > 0);
	for (size_t i = 0; i < frame->probe_count; i++) {
		struct mg_probe *probe = &frame->probes[i];
		struct mg_group *group = mg_raft_node_group(node, probe->group);
		bool known = group != NULL && !group->failed;

		probe->yes = known && group->hard_states == 0 && group->term <= probe->term;
		probe->promise = probe->yes && mg_group__promise(group);
		if (known && !(node->rules & MG_RULE_PROBE_TERM)) {
			probe->yes = true;
		}
		probe->term = known ? group->term : 0;
	}
	struct mg_buf *answer = mg_raft_frame_probes(MG_RAFT_FRAME_ANSWER, node->options.self,
	                                             frame->round, frame->probes, frame->probe_count);

	if (answer != NULL) {
		mg_raft_node__send(node, frame->from, answer);
	}
}

static void on_answer(struct mg_raft_node *node, const struct mg_raft_frame *frame)
{
	mg_assert(frame->probe_count > 0);
	for (size_t i = 0; i < frame->probe_count; i++) {
		struct mg_group *group = mg_raft_node_group(node, frame->probes[i].group);

		if (group != NULL) {
			mg_group__answer(group, frame->from, frame->round, &frame->probes[i]);
		}
	}
}

int mg_raft_node_receive(struct mg_raft_node *node, uint64_t peer, const uint8_t *data, size_t size,
                         struct mg_error *err)
{
	struct mg_raft_frame frame;
	struct mg_error why = { 0 };
	int rc;

	mg_assert(peer > 0 && peer != node->options.self);
	node->now_ms = node->options.env->ops->now_ms(node->options.env);
	mg_arena_free(node->arena);
	node->arena = mg_arena_new();
	rc = mg_raft_frame_decode(node->arena, data, size, &frame, err);
	if (rc != 0) {
		return rc;
	}
	if (frame.from != peer) {
		return mg_error_set(err, MG_E_PROTOCOL, "node %" PRIu64 " sent a frame of node %" PRIu64,
		                    peer, frame.from);
	}
	if (node->failed || !mg_armour_number(node->rules, &mg_raft_node__peer(node, peer)->seen,
	                                      frame.incarnation, frame.sequence)) {
		node->dropped++;
		return 0;
	}
	if (frame.kind == MG_RAFT_FRAME_PROBE) {
		on_probe(node, &frame);
		return 0;
	}
	if (frame.kind == MG_RAFT_FRAME_ANSWER) {
		on_answer(node, &frame);
		return 0;
	}
	struct mg_group *group = mg_raft_node_group(node, frame.group);

	if (group == NULL) {
		node->dropped++;
		return 0;
	}
	rc = mg_group__message(group, &frame.message, &why);
	if (rc == MG_E_PROTOCOL && err != NULL) {
		*err = why;
	}
	return rc == MG_E_PROTOCOL ? rc : 0;
}

/* ---- turns ------------------------------------------------------------------------------------
 */

static void run_timers(struct mg_raft_node *node)
{
	uint64_t earliest = UINT64_MAX;

	mg_assert(!node->stepping);
	for (size_t i = 0; i < node->group_cap; i++) {
		struct mg_group *group = node->groups[i];

		if (group == NULL) {
			continue;
		}
		if (group->deadline_ms <= node->now_ms) {
			mg_group__timer(group);
		}
		earliest = group->deadline_ms < earliest ? group->deadline_ms : earliest;
	}
	if (earliest < node->now_ms + MG_TICK_MS) {
		earliest = node->now_ms + MG_TICK_MS;
	}
	node->deadline_ms = earliest;
	mg_assert(node->deadline_ms > node->now_ms);
}

static void send_probes(struct mg_raft_node *node)
{
	bool sent = false;

	mg_assert(node->round > 0);
	for (size_t i = 0; i < node->peer_count; i++) {
		struct mg_peer *peer = &node->peers[i];

		if (peer->probe_count == 0) {
			continue;
		}
		struct mg_buf *frame = mg_raft_frame_probes(MG_RAFT_FRAME_PROBE, node->options.self,
		                                            node->round, peer->probes, peer->probe_count);

		peer->probe_count = 0;
		sent = true;
		if (frame != NULL) {
			mg_raft_node__send(node, peer->node, frame);
		}
	}
	node->round += sent;
}

void mg_raft_node_turn(struct mg_raft_node *node)
{
	struct mg_env *env = node->options.env;

	mg_assert(!node->stepping);
	node->now_ms = env->ops->now_ms(env);
	mg_raft_log_poll(node->options.log);
	if (node->now_ms >= node->deadline_ms) {
		run_timers(node);
	}
	while (node->dirty != NULL) {
		struct mg_group *group = node->dirty;

		node->dirty = group->next_dirty;
		group->dirty = false;
		mg_group__turn(group);
	}
	send_probes(node);
	/* Peers first: what they are sent does not wait for our disk, and comes back last. */
	if (node->options.net->ops->flush != NULL) {
		node->options.net->ops->flush(node->options.net);
	}
	mg_raft_log_flush(node->options.log);
	env->ops->wake_at(env, node->deadline_ms);
	mg_assert(node->dirty == NULL);
}
