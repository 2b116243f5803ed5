/*
 * snapshot.c - own snapshots that let the log go, and those of a leader that replace it.
 *
 *     own      freeze -> frozen -> mark put -> marked: core told, log compacted
 *     pulled   INSTALL -> pull -> pulled (READY) -> INSTALL again: core drops its log (STORING)
 *              -> mark put -> adopt (ADOPTING) -> adopted: core told
 *
 * Rule: the log lets an entry go only when a durable snapshot holds it; and the core hears of an
 * INSTALL it would act on only when all bytes are here, because from then until SNAPSHOT_STORED it
 * takes no entries and gives no votes.  What we pull may be older than what the leader has by then;
 * its own INSTALLs, which it repeats, carry its term.
 *
 * A crash between mark and adopt leaves the mark ahead of the state machine: then adopt is asked
 * for again at the start (mg_group__readopt).
 *
 * Owner: the raft thread.
 */
#include "raft/raft_int.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>

/* Put the mark of a manifest, with `wait` saying whose. */
static void put_mark(struct mg_group *group, const struct mg_manifest *manifest, bool reset,
                     struct mg_wait wait)
{
	size_t size = mg_manifest_size(manifest);
	uint8_t *bytes = mg_alloc(size);
	struct mg_out out = mg_out(bytes, size);

	mg_manifest_encode(&out, manifest);
	mg_assert(out.size == size);
	struct mg_raft_log_record record = {
		.kind = MG_RAFT_LOG_SNAPSHOT,
		.snapshot = { .index = manifest->snapshot.index,
		              .term = manifest->snapshot.term,
		              .manifest = bytes,
		              .manifest_size = (uint32_t)size,
		              .reset = reset },
	};

	mg_assert(wait.mark != wait.install);
	mg_group__put(group, &record, 1, wait);
	mg_free(bytes);
}

int mg_group__snapshot_of(const struct mg_raft_log_state *state, struct mg_manifest *out,
                          struct mg_error *err)
{
	struct mg_in in = mg_in(state->snapshot.manifest, state->snapshot.manifest_size);
	int rc;

	*out = (struct mg_manifest){ 0 };
	mg_assert(state->group < MG_GROUPS_MAX);
	if (state->snapshot.index == 0) {
		return 0;
	}
	rc = mg_manifest_decode(&in, out, err);
	if (rc != 0 || !mg_in_done(&in) || out->snapshot.index != state->snapshot.index ||
	    out->snapshot.term != state->snapshot.term) {
		*out = (struct mg_manifest){ 0 };
		return mg_error_set(err, MG_E_CORRUPT,
		                    "the log's snapshot mark of group %" PRIu32 " is damaged",
		                    state->group);
	}
	*out = mg_manifest_copy(out);
	mg_assert(out->snapshot.index > 0);
	return 0;
}

/* ---- own snapshots ----------------------------------------------------------------------------
 */

static bool wants_snapshot(const struct mg_group *group)
{
	const struct mg_raft_node_options *options = &group->node->options;
	struct mg_raft_log_state state = { .first = 1 };
	uint64_t known = group->snapshot.snapshot.index;

	mg_assert(group->applied >= known);
	if (group->applied == known) {
		return false;
	}
	if (group->snapshot_asked || group->applied - known >= options->snapshot_entries ||
	    (group->applied - known >= options->snapshot_rest_entries &&
	     group->node->now_ms - group->frozen_ms >= options->snapshot_rest_ms)) {
		return true;
	}
	(void)mg_raft_log_state(options->log, group->id, &state);
	/* Of its bytes, the share that a snapshot would free. */
	uint64_t from = state.first > known ? state.first : known + 1;

	mg_assert(from > 0);
	return state.bytes >= options->snapshot_bytes && group->applied >= from &&
	       (group->applied - from + 1) >= (state.last - state.first + 1) / 2;
}

void mg_group__maybe_freeze(struct mg_group *group)
{
	struct mg_core_info info;

	if (group->failed || group->applying || group->freezing || group->marking ||
	    group->node->now_ms < group->freeze_ms || group->pull >= MG_PULL_STORING ||
	    !wants_snapshot(group)) {
		return;
	}
	mg_core_info(group->core, &info);
	if (info.committed_members_index == 0 || info.committed_members_index > group->applied ||
	    group->commit < group->applied) {
		return; /* after a start: the members as of this index are not known yet */
	}
	mg_assert(mg_group__term_of(group, group->applied) > 0);
	group->snapshot_asked = false;
	group->freezing = true;
	mg_manifest_fini(&group->taken);
	group->taken.snapshot = (struct mg_snapshot){
		.index = group->applied,
		.term = mg_group__term_of(group, group->applied),
		.members = info.committed_members,
		.members_index = info.committed_members_index,
	};
	group->sm->ops->freeze(group->sm);
}

void mg_group_frozen(struct mg_group *group, int error, const void *manifest, size_t size)
{
	mg_assert(group->freezing);
	mg_assert(size <= MG_MANIFEST_SIZE_MAX);
	group->freezing = false;
	if (group->closed) {
		mg_group__free(group);
		return;
	}
	mg_raft_node__dirty(group);
	if (error != 0) {
		struct mg_env *env = group->node->options.env;

		group->freeze_ms = env->ops->now_ms(env) + MG_FREEZE_REST_MS;
	}
	if (error != 0 || group->failed) {
		mg_log(MG_LOG_WARN, "raft.snapshot.failed", "group=%" PRIu32 " code=%d", group->id, error);
		return;
	}
	mg_assert(group->taken.snapshot.index == group->applied);
	struct mg_manifest made = { .snapshot = group->taken.snapshot,
		                        .data = manifest,
		                        .size = (uint32_t)size };

	group->taken = mg_manifest_copy(&made);
	group->frozen_ms = group->node->now_ms;
	group->marking = true;
	put_mark(group, &group->taken, false, (struct mg_wait){ .mark = true });
}

/* How many entries to keep behind a snapshot: fewer when they are large, and hardly any when nobody
 * can lag. */
static uint64_t keep(const struct mg_group *group, const struct mg_raft_log_state *state,
                     const struct mg_core_info *info)
{
	const struct mg_raft_node_options *options = &group->node->options;
	uint64_t count = state->last + 1 - state->first, fit = options->keep_entries;

	mg_assert(state->last + 1 >= state->first);
	if (info->members.count == 1 && info->members.list[0].node == options->self) {
		return options->keep_entries < 1 ? options->keep_entries : 1;
	}
	if (state->bytes > options->snapshot_bytes) {
		fit = (uint64_t)((double)options->snapshot_bytes / (double)state->bytes * (double)count);
	}
	return fit < options->keep_entries ? fit : options->keep_entries;
}

/* Up to where entries may go, so that members that lag a little still find theirs. */
static uint64_t compacted(const struct mg_group *group, const struct mg_snapshot *snapshot)
{
	const struct mg_raft_node_options *options = &group->node->options;
	struct mg_raft_log_state state = { .first = 1 };
	struct mg_core_info info;

	mg_core_info(group->core, &info);
	(void)mg_raft_log_state(options->log, group->id, &state);
	uint64_t kept = keep(group, &state, &info);
	uint64_t upto = snapshot->index > kept ? snapshot->index - kept : 0;

	/* A leader keeps more for its slowest member, as long as the log has room for it. */
	for (size_t i = 0; info.role == MG_RAFT_LEADER && i < info.members.count; i++) {
		uint64_t match;

		if (state.bytes < 2 * options->snapshot_bytes &&
		    info.members.list[i].node != options->self &&
		    mg_core_match(group->core, info.members.list[i].node, &match) && match < upto) {
			upto = match;
		}
	}
	mg_assert(upto <= snapshot->index);
	return upto;
}

void mg_group__marked(struct mg_group *group)
{
	struct mg_manifest taken = group->taken;
	struct mg_raft_log_state state = { .first = 1 };

	mg_assert(group->marking);
	group->marking = false;
	group->taken = (struct mg_manifest){ 0 };
	if (group->pull >= MG_PULL_STORING || taken.snapshot.index <= group->snapshot.snapshot.index) {
		mg_manifest_fini(&taken); /* a leader's snapshot came in between */
		return;
	}
	struct mg_core_event event = {
		.kind = MG_CORE_SNAPSHOT_TAKEN,
		.taken = { .snapshot = &taken.snapshot, .compacted = compacted(group, &taken.snapshot) },
	};

	mg_manifest_fini(&group->snapshot);
	group->snapshot = taken;
	event.taken.snapshot = &group->snapshot.snapshot;
	if (mg_group__step(group, &event, NULL) != 0) {
		return;
	}
	(void)mg_raft_log_state(group->node->options.log, group->id, &state);
	mg_assert(state.snapshot.index == group->snapshot.snapshot.index);
	if (event.taken.compacted >= state.first) {
		mg_raft_log_compact(group->node->options.log, group->id, event.taken.compacted);
	}
}

void mg_group_ask_snapshot(struct mg_group *group)
{
	mg_assert(!group->closed);
	mg_assert(group->core != NULL);
	group->snapshot_asked = true;
	mg_raft_node__dirty(group);
}

const struct mg_manifest *mg_group_snapshot(const struct mg_group *group)
{
	mg_assert(group->core != NULL);
	return group->snapshot.snapshot.index > 0 ? &group->snapshot : NULL;
}

/* ---- a leader's snapshot ----------------------------------------------------------------------
 */

static int pass_on(struct mg_group *group, struct mg_message *message, struct mg_error *err)
{
	struct mg_core_event event = { .kind = MG_CORE_MESSAGE, .message = message };

	mg_assert(message->kind == MG_MESSAGE_INSTALL);
	mg_assert(message->install.manifest.snapshot.index > 0);
	return mg_group__step(group, &event, err);
}

/* Would the core do nothing but answer? */
static bool is_known(const struct mg_group *group, const struct mg_message *message)
{
	const struct mg_snapshot *snapshot = &message->install.manifest.snapshot;

	mg_assert(snapshot->index > 0);
	return message->term < group->term || snapshot->index <= group->snapshot.snapshot.index ||
	       mg_group__term_of(group, snapshot->index) == snapshot->term;
}

int mg_group__on_install(struct mg_group *group, struct mg_message *message, struct mg_error *err)
{
	const struct mg_snapshot *offered = &message->install.manifest.snapshot;

	if (group->failed || group->pull >= MG_PULL_STORING) {
		return 0;
	}
	if (is_known(group, message)) {
		return pass_on(group, message, err);
	}
	if (group->pull == MG_PULL_READY &&
	    (group->pulled.snapshot.index <= group->commit ||
	     mg_group__term_of(group, group->pulled.snapshot.index) == group->pulled.snapshot.term)) {
		mg_manifest_fini(&group->pulled); /* meanwhile we got as far by entries */
		group->pull = MG_PULL_NONE;
	}
	if (group->pull == MG_PULL_READY && group->pulled.snapshot.term <= message->term) {
		if (group->applying || group->freezing) {
			return 0; /* it comes again */
		}
		message->install.manifest = group->pulled;
		return pass_on(group, message, err);
	}
	if (group->pull == MG_PULL_NONE) {
		mg_log(MG_LOG_INFO, "raft.snapshot.pull",
		       "group=%" PRIu32 " index=%" PRIu64 " from=%" PRIu64, group->id, offered->index,
		       message->peer);
		group->pulled = mg_manifest_copy(&message->install.manifest);
		group->pull = MG_PULL_RUNNING;
		mg_assert(group->pulled.snapshot.index > group->commit);
		group->sm->ops->pull(group->sm, message->peer, &group->pulled);
	}
	return 0;
}

void mg_group_pulled(struct mg_group *group, int error)
{
	mg_assert(group->pull == MG_PULL_RUNNING);
	mg_assert(group->pulled.snapshot.index > 0);
	group->pull = error == 0 ? MG_PULL_READY : MG_PULL_NONE;
	if (error != 0) {
		mg_log(MG_LOG_WARN, "raft.snapshot.pull.failed",
		       "group=%" PRIu32 " index=%" PRIu64 " code=%d", group->id,
		       group->pulled.snapshot.index, error);
		mg_manifest_fini(&group->pulled);
	}
	if (group->closed) {
		mg_group__free(group);
	}
}

/* The core has dropped its log for group->pulled. */
void mg_group__install(struct mg_group *group)
{
	mg_assert(group->pull == MG_PULL_READY);
	mg_assert(!group->applying && !group->freezing);
	for (size_t i = 0; i < group->wait_count; i++) {
		group->waits[(group->wait_first + i) % group->wait_cap].last = 0;
	}
	group->pull = MG_PULL_STORING;
	group->core_waits = true;
	put_mark(group, &group->pulled, true, (struct mg_wait){ .install = true });
}

void mg_group__install_stored(struct mg_group *group)
{
	mg_assert(group->pull == MG_PULL_STORING);
	mg_assert(group->pulled.snapshot.index > group->applied);
	group->pull = MG_PULL_ADOPTING;
	group->sm->ops->adopt(group->sm, &group->pulled);
}

void mg_group__readopt(struct mg_group *group)
{
	mg_assert(group->pull == MG_PULL_NONE);
	mg_assert(group->snapshot.snapshot.index > group->applied);
	group->pulled = mg_manifest_copy(&group->snapshot);
	group->pull = MG_PULL_ADOPTING;
	group->core_waits = false;
	group->sm->ops->adopt(group->sm, &group->pulled);
}

void mg_group_adopted(struct mg_group *group, int error)
{
	mg_assert(group->pull == MG_PULL_ADOPTING);
	mg_assert(group->pulled.snapshot.index > group->applied);
	group->pull = MG_PULL_NONE;
	if (group->closed) {
		mg_group__free(group);
		return;
	}
	if (error != 0) {
		mg_group_fail(group, error);
		return;
	}
	mg_manifest_fini(&group->snapshot);
	group->snapshot = group->pulled;
	group->pulled = (struct mg_manifest){ 0 };
	group->applied = group->snapshot.snapshot.index;
	mg_group__unknown(group, group->applied);
	if (group->core_waits) {
		struct mg_core_event event = {
			.kind = MG_CORE_SNAPSHOT_STORED,
			.snapshot = &group->snapshot.snapshot,
		};

		group->core_waits = false;
		(void)mg_group__step(group, &event, NULL);
	}
	mg_raft_node__dirty(group);
}
