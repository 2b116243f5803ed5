/*
 * core_cowsql.c - mg_core on the step interface of cowsql/raft 0.22.1.
 *
 * Translates events and updates, nothing else; what protects the library is in armour.c.
 *
 * Rule: the library sees neither payloads nor addresses.  It keeps terms and members only, so
 * entries go in without their bytes, except those of CHANGE entries, which are turned into its own
 * encoding for the step; the name of a member is its number in decimal.
 *
 * Ownership in the library's terms: entries of a message or proposal hang on one `batch`, which it
 * frees unless it hands the entries back to be stored; configurations that go in are its own from
 * then on.
 *
 * Its allocations are small and cannot fail here: they come from mg_alloc, which ends the process.
 *
 * Owner: the raft thread.
 */
#include "raft/core.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 24
#define FEATURES 1u /* capacity is reported */
#define MESSAGE_VERSION 2

struct mg_core {
	struct raft raft;
	struct raft_tracer tracer;
	void (*trace)(void *arg, const char *text);
	void *trace_arg;
	bool started;
	uint64_t now_ms;

	/* Of the last step; heap. */
	struct mg_message *messages;
	size_t message_cap;
	struct mg_entry *proposed;
	size_t proposed_cap;
	struct mg_entry barrier;
	struct raft_entry *entries;
	size_t entry_cap;
	struct raft_buffer *changes; /* CHANGE entries in the library's encoding */
	size_t change_count, change_cap;
};

const char *mg_raft_role_name(enum mg_raft_role role)
{
	static const char *const names[MG_RAFT_ROLE_COUNT] = { "follower", "candidate", "leader" };

	mg_assert((unsigned)role < MG_RAFT_ROLE_COUNT);
	return names[role];
}

/* ---- memory -----------------------------------------------------------------------------------
 */

static void *heap_malloc(void *data, size_t size)
{
	(void)data;
	return mg_alloc(size > 0 ? size : 1);
}

static void heap_free(void *data, void *ptr)
{
	(void)data;
	mg_free(ptr);
}

static void *heap_calloc(void *data, size_t count, size_t size)
{
	(void)data;
	mg_assert(size == 0 || count <= SIZE_MAX / size);
	return mg_alloc0(count * size > 0 ? count * size : 1);
}

static void *heap_realloc(void *data, void *ptr, size_t size)
{
	(void)data;
	mg_assert(size > 0);
	return mg_realloc(ptr, size);
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
	(void)data;
	(void)alignment;
	(void)size;
	mg_assert(!"the core allocates nothing aligned");
	return NULL;
}

static void heap_aligned_free(void *data, size_t alignment, void *ptr)
{
	(void)alignment;
	heap_free(data, ptr);
}

static struct raft_heap heap = {
	.malloc = heap_malloc,
	.free = heap_free,
	.calloc = heap_calloc,
	.realloc = heap_realloc,
	.aligned_alloc = heap_aligned_alloc,
	.aligned_free = heap_aligned_free,
};

/* ---- members ----------------------------------------------------------------------------------
 */

static void members_in(const struct mg_members *members, struct raft_configuration *out)
{
	mg_assert(mg_members_sound(members));
	raft_configuration_init(out);
	for (size_t i = 0; i < members->count; i++) {
		char name[NAME_SIZE];
		int role = members->list[i].role == MG_MEMBER_VOTER ? RAFT_VOTER : RAFT_STANDBY;

		(void)snprintf(name, sizeof name, "%" PRIu64, members->list[i].node);
		int rv = raft_configuration_add(out, members->list[i].node, name, role);

		mg_assert(rv == 0);
	}
}

static void members_out(const struct raft_configuration *configuration, struct mg_members *out)
{
	mg_assert(configuration->n <= MG_MEMBERS_MAX);
	out->count = configuration->n;
	for (unsigned i = 0; i < configuration->n; i++) {
		const struct raft_server *server = &configuration->servers[i];

		mg_assert(server->role == RAFT_VOTER || server->role == RAFT_STANDBY);
		out->list[i] = (struct mg_member){
			.node = server->id,
			.role = server->role == RAFT_VOTER ? MG_MEMBER_VOTER : MG_MEMBER_STANDBY,
		};
	}
}

static void snapshot_in(const struct mg_snapshot *snapshot, struct raft_snapshot_metadata *out)
{
	mg_assert(snapshot->index > 0);
	mg_assert(snapshot->term > 0);
	mg_assert(snapshot->members_index > 0 && snapshot->members_index <= snapshot->index);
	*out = (struct raft_snapshot_metadata){
		.index = snapshot->index,
		.term = snapshot->term,
		.configuration_index = snapshot->members_index,
	};
	members_in(&snapshot->members, &out->configuration);
}

/* ---- entries ----------------------------------------------------------------------------------
 */

static int change_in(struct mg_core *core, const struct mg_entry *entry, struct raft_entry *out,
                     struct mg_error *err)
{
	struct mg_members members;
	struct raft_configuration configuration;
	int rc = mg_members_decode(entry->data, entry->size, &members, err);

	if (rc != 0) {
		return rc;
	}
	mg_grow(core->changes, core->change_count, core->change_cap);
	members_in(&members, &configuration);
	int rv = raft_configuration_encode(&configuration, &core->changes[core->change_count]);

	mg_assert(rv == 0);
	raft_configuration_close(&configuration);
	out->buf = core->changes[core->change_count++];
	return 0;
}

/* Fill core->entries; `batch` is what they hang on.  Fails: MG_E_PROTOCOL. */
static int entries_in(struct mg_core *core, const struct mg_entry *entries, size_t count,
                      void *batch, struct mg_error *err)
{
	mg_assert(count < UINT_MAX);
	if (count > core->entry_cap) {
		core->entries = mg_realloc(core->entries, count * sizeof *core->entries);
		core->entry_cap = count;
	}
	for (size_t i = 0; i < count; i++) {
		struct raft_entry *out = &core->entries[i];

		*out = (struct raft_entry){ .term = entries[i].term, .batch = batch };
		switch (entries[i].type) {
		case MG_ENTRY_COMMAND:
			out->type = RAFT_COMMAND;
			break;
		case MG_ENTRY_BARRIER:
			out->type = RAFT_BARRIER;
			break;
		case MG_ENTRY_CHANGE:
			out->type = RAFT_CHANGE;
			int rc = change_in(core, &entries[i], out, err);

			if (rc != 0) {
				return rc;
			}
			break;
		default:
			return mg_error_set(err, MG_E_PROTOCOL, "entry %" PRIu64 " has the unknown type %u",
			                    entries[i].index, entries[i].type);
		}
	}
	return 0;
}

static void changes_clear(struct mg_core *core)
{
	for (size_t i = 0; i < core->change_count; i++) {
		raft_free(core->changes[i].base);
	}
	core->change_count = 0;
}

/* ---- messages ---------------------------------------------------------------------------------
 */

static int append_in(struct mg_core *core, const struct mg_message *message,
                     struct raft_message *out, struct mg_error *err)
{
	size_t count = message->append.count;
	uint64_t prev = message->append.prev_index;

	if ((prev == 0) != (message->append.prev_term == 0) || prev > UINT64_MAX / 2) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "an append behind index %" PRIu64 " of term %" PRIu64, prev,
		                    message->append.prev_term);
	}
	uint64_t term = message->append.prev_term;

	for (size_t i = 0; i < count; i++) {
		const struct mg_entry *entry = &message->append.entries[i];

		if (entry->index != prev + 1 + i || entry->term < term || entry->term == 0 ||
		    entry->term > message->term) {
			return mg_error_set(err, MG_E_PROTOCOL,
			                    "entry %" PRIu64 " of term %" PRIu64 " is out of place",
			                    entry->index, entry->term);
		}
		term = entry->term;
	}
	void *batch = count > 0 ? raft_malloc(1) : NULL;
	int rc = entries_in(core, message->append.entries, count, batch, err);

	if (rc != 0) {
		raft_free(batch);
		return rc;
	}
	out->type = RAFT_APPEND_ENTRIES;
	out->append_entries = (struct raft_append_entries){
		.term = message->term,
		.prev_log_index = prev,
		.prev_log_term = message->append.prev_term,
		.leader_commit = message->append.commit,
		.entries = count > 0 ? core->entries : NULL,
		.n_entries = (unsigned)count,
	};
	return 0;
}

static int install_in(struct mg_core *core, const struct mg_message *message,
                      struct raft_message *out, struct mg_error *err)
{
	const struct mg_snapshot *snapshot = &message->install.manifest.snapshot;

	if (core->raft.snapshot.installing) {
		return mg_error_set(err, MG_E_BUSY, "a snapshot is being installed");
	}
	if (snapshot->index == 0 || snapshot->term == 0 || snapshot->term > message->term ||
	    snapshot->members_index == 0 || snapshot->members_index > snapshot->index ||
	    !mg_members_sound(&snapshot->members)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a snapshot of index %" PRIu64 " is not sound",
		                    snapshot->index);
	}
	out->type = RAFT_INSTALL_SNAPSHOT;
	out->install_snapshot = (struct raft_install_snapshot){
		.term = message->term,
		.last_index = snapshot->index,
		.last_term = snapshot->term,
		.conf_index = snapshot->members_index,
		.data = { .base = raft_malloc(1), .len = 1 },
	};
	members_in(&snapshot->members, &out->install_snapshot.conf);
	return 0;
}

static void vote_in(const struct mg_message *message, struct raft_message *out)
{
	out->type = RAFT_REQUEST_VOTE;
	out->request_vote = (struct raft_request_vote){
		.version = MESSAGE_VERSION,
		.term = message->term,
		.candidate_id = message->peer,
		.last_log_index = message->vote.last_index,
		.last_log_term = message->vote.last_term,
		.disrupt_leader = message->vote.disrupt,
		.pre_vote = message->vote.pre_vote,
	};
}

static void vote_result_in(const struct mg_message *message, struct raft_message *out)
{
	out->type = RAFT_REQUEST_VOTE_RESULT;
	out->request_vote_result = (struct raft_request_vote_result){
		.version = MESSAGE_VERSION,
		.term = message->term,
		.vote_granted = message->vote_result.granted,
		.pre_vote = message->vote_result.pre_vote,
		.features = message->vote_result.features,
		.capacity = message->vote_result.capacity,
	};
}

/* Fails: MG_E_PROTOCOL, MG_E_BUSY; then nothing is left to free. */
static int message_in(struct mg_core *core, const struct mg_message *message,
                      struct raft_message *out, struct mg_error *err)
{
	if (message->peer == 0 || message->peer == core->raft.id || message->term == 0) {
		return mg_error_set(err, MG_E_PROTOCOL, "a message of node %" PRIu64 " and term %" PRIu64,
		                    message->peer, message->term);
	}
	out->server_id = message->peer;
	switch (message->kind) {
	case MG_MESSAGE_APPEND:
		return append_in(core, message, out, err);
	case MG_MESSAGE_APPEND_RESULT:
		out->type = RAFT_APPEND_ENTRIES_RESULT;
		out->append_entries_result = (struct raft_append_entries_result){
			.version = MESSAGE_VERSION,
			.term = message->term,
			.rejected = message->append_result.rejected,
			.last_log_index = message->append_result.last,
			.features = message->append_result.features,
			.capacity = message->append_result.capacity,
		};
		return 0;
	case MG_MESSAGE_VOTE:
		vote_in(message, out);
		return 0;
	case MG_MESSAGE_VOTE_RESULT:
		vote_result_in(message, out);
		return 0;
	case MG_MESSAGE_INSTALL:
		return install_in(core, message, out, err);
	case MG_MESSAGE_TIMEOUT_NOW:
		out->type = RAFT_TIMEOUT_NOW;
		out->timeout_now = (struct raft_timeout_now){
			.term = message->term,
			.last_log_index = message->timeout_now.last_index,
			.last_log_term = message->timeout_now.last_term,
		};
		return 0;
	}
	return mg_error_set(err, MG_E_PROTOCOL, "a message of the unknown kind %d", message->kind);
}

static void message_out(const struct raft_message *message, struct mg_message *out)
{
	*out = (struct mg_message){ .peer = message->server_id };
	switch (message->type) {
	case RAFT_APPEND_ENTRIES:
		out->kind = MG_MESSAGE_APPEND;
		out->term = message->append_entries.term;
		out->append.prev_index = message->append_entries.prev_log_index;
		out->append.prev_term = message->append_entries.prev_log_term;
		out->append.commit = message->append_entries.leader_commit;
		out->append.count = message->append_entries.n_entries;
		return;
	case RAFT_APPEND_ENTRIES_RESULT:
		out->kind = MG_MESSAGE_APPEND_RESULT;
		out->term = message->append_entries_result.term;
		out->append_result.rejected = message->append_entries_result.rejected;
		out->append_result.last = message->append_entries_result.last_log_index;
		out->append_result.features = message->append_entries_result.features;
		out->append_result.capacity = message->append_entries_result.capacity;
		return;
	case RAFT_REQUEST_VOTE:
		out->kind = MG_MESSAGE_VOTE;
		out->term = message->request_vote.term;
		out->vote.last_index = message->request_vote.last_log_index;
		out->vote.last_term = message->request_vote.last_log_term;
		out->vote.disrupt = message->request_vote.disrupt_leader;
		out->vote.pre_vote = message->request_vote.pre_vote;
		return;
	case RAFT_REQUEST_VOTE_RESULT:
		out->kind = MG_MESSAGE_VOTE_RESULT;
		out->term = message->request_vote_result.term;
		out->vote_result.granted = message->request_vote_result.vote_granted;
		out->vote_result.pre_vote = message->request_vote_result.pre_vote;
		out->vote_result.features = message->request_vote_result.features;
		out->vote_result.capacity = message->request_vote_result.capacity;
		return;
	case RAFT_INSTALL_SNAPSHOT:
		out->kind = MG_MESSAGE_INSTALL;
		out->term = message->install_snapshot.term;
		out->install.index = message->install_snapshot.last_index;
		return;
	case RAFT_TIMEOUT_NOW:
		out->kind = MG_MESSAGE_TIMEOUT_NOW;
		out->term = message->timeout_now.term;
		out->timeout_now.last_index = message->timeout_now.last_log_index;
		out->timeout_now.last_term = message->timeout_now.last_log_term;
		return;
	}
	mg_assert(!"the library sends only what it knows");
}

/* ---- steps ------------------------------------------------------------------------------------
 */

static int map_error(const struct mg_core *core, int rv, struct mg_error *err)
{
	switch (rv) {
	case RAFT_NOTLEADER:
		return mg_error_set(err, MG_E_UNAVAILABLE, "node %llu does not lead the group",
		                    core->raft.id);
	case RAFT_CANTCHANGE:
		return mg_error_set(err, MG_E_BUSY, "another change of members is under way");
	case RAFT_NOSPACE:
		return mg_error_set(err, MG_E_DISK_FULL,
		                    "a majority of the group's nodes is short of disk space");
	case RAFT_BADID:
	case RAFT_NOTFOUND:
		return mg_error_set(err, MG_E_NOT_FOUND, "the group has no such other voter");
	case RAFT_MALFORMED:
		return mg_error_set(err, MG_E_PROTOCOL, "a list of members is not sound");
	case RAFT_SHUTDOWN:
		return mg_error_set(err, MG_E_CORRUPT,
		                    "a peer holds another entry where ours is committed");
	default:
		return mg_error_set(err, MG_E_INTERNAL, "the raft library failed: %s", raft_strerror(rv));
	}
}

static struct raft_event event_new(const struct mg_core *core, enum raft_event_type type,
                                   uint64_t capacity_kib)
{
	return (struct raft_event){
		.time = core->now_ms,
		.type = type,
		.capacity = capacity_kib > USHRT_MAX ? USHRT_MAX : (unsigned short)capacity_kib,
	};
}

/* What is to be stored lies in `stored`, index by index, except the barrier that the library itself
 * puts in front of a new term. */
static void entries_out(struct mg_core *core, const struct raft_update *update,
                        const struct mg_entry *stored, struct mg_core_out *out)
{
	const struct raft_entry *batch = update->entries.batch;

	if (batch == &core->raft.barrier) {
		mg_assert(update->entries.n == 1);
		core->barrier = (struct mg_entry){
			.index = update->entries.index,
			.term = batch->term,
			.type = MG_ENTRY_BARRIER,
		};
		out->append = &core->barrier;
	} else {
		out->append = &stored[batch - core->entries];
		mg_assert(stored != NULL);
	}
	mg_assert(out->append->index == update->entries.index);
	out->append_count = update->entries.n;
	raft_free(batch[0].batch);
}

/* Hand the update out: `stored` is what update.entries points into, index by index. */
static void update_out(struct mg_core *core, struct raft_update *update,
                       const struct mg_entry *stored, struct mg_core_out *out)
{
	if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
		out->hard_state_changed = true;
	}
	if (update->flags & RAFT_UPDATE_SNAPSHOT) {
		out->install = true;
		raft_configuration_close(&update->snapshot.metadata.configuration);
		raft_free(update->snapshot.chunk.base);
	}
	if (update->flags & RAFT_UPDATE_ENTRIES) {
		entries_out(core, update, stored, out);
	}
	if (update->flags & RAFT_UPDATE_MESSAGES) {
		size_t count = update->messages.n;

		if (count > core->message_cap) {
			core->messages = mg_realloc(core->messages, count * sizeof *core->messages);
			core->message_cap = count;
		}
		for (size_t i = 0; i < count; i++) {
			message_out(&update->messages.batch[i], &core->messages[i]);
		}
		out->messages = core->messages;
		out->message_count = count;
	}
}

static int step(struct mg_core *core, struct raft_event *event, const struct mg_entry *stored,
                struct mg_core_out *out, struct mg_error *err)
{
	struct raft_update update = { 0 };
	int rv = raft_step(&core->raft, event, &update);
	int rc = rv == 0 ? 0 : map_error(core, rv, err);

	if (rv == 0) {
		update_out(core, &update, stored, out);
	}
	changes_clear(core);
	return rc;
}

static int step_start(struct mg_core *core, const struct mg_core_event *event,
                      struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_START, event->capacity_kib);
	struct raft_snapshot_metadata metadata;
	int rc = entries_in(core, event->start.entries, event->start.count, NULL, err);

	mg_assert(!core->started);
	mg_assert(event->start.first > 0);
	if (rc != 0) {
		changes_clear(core);
		return mg_error_wrap(err, "while reading the log of the group");
	}
	if (event->start.snapshot != NULL) {
		snapshot_in(event->start.snapshot, &metadata);
		raft.start.metadata = &metadata;
	}
	raft.start.term = event->start.hard_state.term;
	raft.start.voted_for = event->start.hard_state.vote;
	raft.start.start_index = event->start.first;
	raft.start.entries = core->entries;
	raft.start.n_entries = (unsigned)event->start.count;
	core->started = true;
	rc = step(core, &raft, NULL, out, err);
	mg_free(core->entries); /* as many as the log has; later steps need few */
	core->entries = NULL;
	core->entry_cap = 0;
	return rc;
}

static int step_message(struct mg_core *core, const struct mg_core_event *event,
                        struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_RECEIVE, event->capacity_kib);
	struct raft_message message = { 0 };
	char name[NAME_SIZE];
	int rc = message_in(core, event->message, &message, err);

	if (rc != 0) {
		changes_clear(core);
		return rc;
	}
	(void)snprintf(name, sizeof name, "%" PRIu64, event->message->peer);
	message.server_address = name;
	raft.receive.message = &message;
	const struct mg_entry *stored =
		event->message->kind == MG_MESSAGE_APPEND ? event->message->append.entries : NULL;

	return step(core, &raft, stored, out, err);
}

static int step_propose(struct mg_core *core, const struct mg_core_event *event,
                        struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_SUBMIT, event->capacity_kib);
	size_t count = event->propose.count;

	mg_assert(count > 0);
	if (count > core->proposed_cap) {
		core->proposed = mg_realloc(core->proposed, count * sizeof *core->proposed);
		core->proposed_cap = count;
	}
	for (size_t i = 0; i < count; i++) {
		mg_assert(count == 1 || event->propose.entries[i].type != MG_ENTRY_CHANGE);
		core->proposed[i] = event->propose.entries[i];
		core->proposed[i].index = raft_last_index(&core->raft) + 1 + i;
		core->proposed[i].term = core->raft.current_term;
	}
	void *batch = raft_malloc(1);
	int rc = entries_in(core, core->proposed, count, batch, err);

	if (rc != 0) {
		changes_clear(core);
	} else {
		raft.submit.entries = core->entries;
		raft.submit.n = (unsigned)count;
		rc = step(core, &raft, core->proposed, out, err);
	}
	if (rc != 0) {
		raft_free(batch);
	}
	return rc;
}

static int step_catch_up(struct mg_core *core, const struct mg_core_event *event,
                         struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_CATCH_UP, event->capacity_kib);
	int status;

	if (core->raft.state != RAFT_LEADER) {
		return map_error(core, RAFT_NOTLEADER, err);
	}
	if (core->raft.leader_state.promotee_id != 0 ||
	    core->raft.configuration_uncommitted_index != 0) {
		return map_error(core, RAFT_CANTCHANGE, err);
	}
	if (event->node == core->raft.id || raft_catch_up(&core->raft, event->node, &status) != 0) {
		return map_error(core, RAFT_BADID, err);
	}
	raft.catch_up.server_id = event->node;
	return step(core, &raft, NULL, out, err);
}

static int step_snapshot_taken(struct mg_core *core, const struct mg_core_event *event,
                               struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_SNAPSHOT, event->capacity_kib);
	const struct mg_snapshot *snapshot = event->taken.snapshot;
	uint64_t kept = snapshot->index - event->taken.compacted;

	mg_assert(event->taken.compacted <= snapshot->index);
	mg_assert(snapshot->index > core->raft.trail.snapshot.index);
	/* Not its commit index, which falls back when an old append comes late. */
	mg_assert(snapshot->index <= core->raft.last_stored);
	snapshot_in(snapshot, &raft.snapshot.metadata);
	raft.snapshot.trailing = kept > UINT_MAX ? UINT_MAX : (unsigned)kept;
	return step(core, &raft, NULL, out, err);
}

static int step_snapshot_stored(struct mg_core *core, const struct mg_core_event *event,
                                struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_PERSISTED_SNAPSHOT, event->capacity_kib);

	mg_assert(core->raft.snapshot.installing);
	mg_assert(event->snapshot->index == core->raft.trail.snapshot.index);
	snapshot_in(event->snapshot, &raft.persisted_snapshot.metadata);
	raft.persisted_snapshot.last = true;
	return step(core, &raft, NULL, out, err);
}

static int step_change_applied(struct mg_core *core, const struct mg_core_event *event,
                               struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_CONFIGURATION, event->capacity_kib);

	mg_assert(event->change.index > 0);
	raft.configuration.index = event->change.index;
	members_in(event->change.members, &raft.configuration.conf);
	return step(core, &raft, NULL, out, err);
}

/* As if it had never heard of that leader.  The library knows of this only after the whole timeout;
 * it asks for pre-votes then too, so a leader whom a majority still hears stays. */
static int step_lost(struct mg_core *core, const struct mg_core_event *event,
                     struct mg_core_out *out, struct mg_error *err)
{
	struct raft *raft = &core->raft;
	uint64_t node = event->lost.node;

	(void)out;
	(void)err;
	if (raft->state == RAFT_FOLLOWER && raft->follower_state.current_leader.id == node) {
		raft_free(raft->follower_state.current_leader.address);
		raft->follower_state.current_leader.address = NULL;
		raft->follower_state.current_leader.id = 0;
		/* Its timeout stays what it is: an append only sets the start of it. */
		raft->election_timer_start = core->now_ms + event->lost.wait_ms -
		                             raft->follower_state.randomized_election_timeout;
	}
	return 0;
}

static int step_simple(struct mg_core *core, const struct mg_core_event *event,
                       struct mg_core_out *out, struct mg_error *err)
{
	struct raft_event raft = event_new(core, RAFT_TIMEOUT, event->capacity_kib);

	if (event->kind == MG_CORE_STORED) {
		mg_assert(event->stored > core->raft.last_stored);
		mg_assert(event->stored <= raft_last_index(&core->raft));
		raft.type = RAFT_PERSISTED_ENTRIES;
		raft.persisted_entries.index = event->stored;
	} else if (event->kind == MG_CORE_TRANSFER) {
		raft.type = RAFT_TRANSFER;
		raft.transfer.server_id = event->node;
	}
	return step(core, &raft, NULL, out, err);
}

static enum mg_raft_role role_of(const struct mg_core *core)
{
	switch (core->raft.state) {
	case RAFT_LEADER:
		return MG_RAFT_LEADER;
	case RAFT_CANDIDATE:
		return MG_RAFT_CANDIDATE;
	default:
		return MG_RAFT_FOLLOWER;
	}
}

static uint64_t leader_of(const struct mg_core *core)
{
	const struct raft *raft = &core->raft;

	switch (raft->state) {
	case RAFT_LEADER:
		return raft->id;
	case RAFT_FOLLOWER:
		return raft->follower_state.current_leader.id;
	default:
		return 0;
	}
}

int mg_core_step(struct mg_core *core, const struct mg_core_event *event, struct mg_core_out *out,
                 struct mg_error *err)
{
	static int (*const steps[MG_CORE_EVENT_COUNT])(struct mg_core *, const struct mg_core_event *,
	                                               struct mg_core_out *, struct mg_error *) = {
		[MG_CORE_START] = step_start,
		[MG_CORE_MESSAGE] = step_message,
		[MG_CORE_STORED] = step_simple,
		[MG_CORE_SNAPSHOT_STORED] = step_snapshot_stored,
		[MG_CORE_TIMER] = step_simple,
		[MG_CORE_PROPOSE] = step_propose,
		[MG_CORE_CHANGE_APPLIED] = step_change_applied,
		[MG_CORE_SNAPSHOT_TAKEN] = step_snapshot_taken,
		[MG_CORE_TRANSFER] = step_simple,
		[MG_CORE_CATCH_UP] = step_catch_up,
		[MG_CORE_LOST] = step_lost,
	};

	mg_assert((unsigned)event->kind < MG_CORE_EVENT_COUNT);
	mg_assert(core->started || event->kind == MG_CORE_START);
	*out = (struct mg_core_out){ 0 };
	if (event->now_ms > core->now_ms) {
		core->now_ms = event->now_ms; /* the library asserts that time does not go back */
	}
	int rc = steps[event->kind](core, event, out, err);

	out->hard_state = (struct mg_hard_state){
		.term = core->raft.current_term,
		.vote = core->raft.voted_for,
	};
	out->commit = core->raft.commit_index;
	out->stored = core->raft.last_stored;
	out->next_timer_ms = raft_timeout(&core->raft);
	out->role = role_of(core);
	out->leader = leader_of(core);
	out->transferring = raft_transferee(&core->raft) != 0;
	return rc;
}

/* ---- life and looks ---------------------------------------------------------------------------
 */

static void on_trace(struct raft_tracer *tracer, int type, const void *info)
{
	const struct mg_core *core = tracer->impl;
	const struct raft_tracer_info *trace = info;

	if (type == RAFT_TRACER_DIAGNOSTIC && trace->diagnostic.level <= 3) {
		core->trace(core->trace_arg, trace->diagnostic.message);
	}
}

/* The library has one heap for the process, in which several nodes may live, each with a thread. */
static void set_heap(void)
{
	raft_heap_set(&heap);
}

static pthread_once_t heap_once = PTHREAD_ONCE_INIT;

struct mg_core *mg_core_new(const struct mg_core_options *options)
{
	struct mg_core *core = mg_alloc0(sizeof *core);
	char name[NAME_SIZE];

	mg_assert(options->self > 0);
	mg_assert(options->election_ms > options->heartbeat_ms && options->heartbeat_ms > 0);
	mg_assert(options->inflight_max > 0);
	(void)pthread_once(&heap_once, set_heap);
	(void)snprintf(name, sizeof name, "%" PRIu64, options->self);
	int rv = raft_init(&core->raft, NULL, NULL, options->self, name);

	mg_assert(rv == 0);
	/* Without a tracer the library does not even format its texts. */
	core->raft.tracer = NULL;
	if (options->trace != NULL) {
		core->trace = options->trace;
		core->trace_arg = options->trace_arg;
		core->tracer = (struct raft_tracer){ .impl = core, .version = 2, .emit = on_trace };
		core->raft.tracer = &core->tracer;
	}
	raft_seed(&core->raft, (unsigned)(options->seed ^ options->seed >> 32));
	raft_set_election_timeout(&core->raft, options->election_ms);
	raft_set_heartbeat_timeout(&core->raft, options->heartbeat_ms);
	raft_set_install_snapshot_timeout(&core->raft, options->install_ms);
	raft_set_pre_vote(&core->raft, true);
	raft_set_max_inflight_entries(&core->raft, options->inflight_max);
	raft_set_capacity_threshold(&core->raft, options->capacity_min_kib > USHRT_MAX
	                                             ? USHRT_MAX
	                                             : (unsigned short)options->capacity_min_kib);
	return core;
}

void mg_core_free(struct mg_core *core)
{
	if (core == NULL) {
		return;
	}
	raft_close(&core->raft, NULL);
	changes_clear(core);
	mg_free(core->messages);
	mg_free(core->proposed);
	mg_free(core->entries);
	mg_free(core->changes);
	mg_free(core);
}

void mg_core_info(const struct mg_core *core, struct mg_core_info *out)
{
	const struct raft *raft = &core->raft;

	mg_assert(core->started);
	*out = (struct mg_core_info){
		.term = raft->current_term,
		.vote = raft->voted_for,
		.role = role_of(core),
		.leader = leader_of(core),
		.commit = raft->commit_index,
		.stored = raft->last_stored,
		.last = raft_last_index((struct raft *)raft),
		.snapshot_index = raft->trail.snapshot.index,
		.installing = raft->snapshot.installing,
		.transferring = raft_transferee(raft) != 0,
		.committed_members_index = raft->configuration_committed_index,
		.pending_members_index = raft->configuration_uncommitted_index,
	};
	members_out(&raft->configuration, &out->members);
	members_out(raft->configuration_uncommitted_index != 0 ? &raft->configuration_committed
	                                                       : &raft->configuration,
	            &out->committed_members);
}

bool mg_core_match(const struct mg_core *core, uint64_t node, uint64_t *index)
{
	raft_index match;

	mg_assert(core->started);
	mg_assert(node > 0);
	if (raft_match_index(&core->raft, node, &match) != 0) {
		return false;
	}
	*index = match;
	return true;
}

enum mg_catch_up mg_core_catch_up(const struct mg_core *core, uint64_t node)
{
	int status;

	mg_assert(core->started);
	mg_assert(node > 0);
	if (raft_catch_up(&core->raft, node, &status) != 0) {
		return MG_CATCH_UP_NONE;
	}
	switch (status) {
	case RAFT_CATCH_UP_RUNNING:
		return MG_CATCH_UP_RUNNING;
	case RAFT_CATCH_UP_ABORTED:
		return MG_CATCH_UP_ABORTED;
	case RAFT_CATCH_UP_FINISHED:
		return MG_CATCH_UP_FINISHED;
	default:
		return MG_CATCH_UP_NONE;
	}
}
