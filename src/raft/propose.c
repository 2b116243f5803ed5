/*
 * propose.c - commands and changes of members: from the caller to the entry that decides them.
 *
 * Rule: a proposal ends once.  It is refused before it has an entry (SAFE), or its entry's index is
 * applied: with its term it happened, with another term it never will (the index is committed to
 * something else, SAFE).  A leader that is deposed keeps it pending, because its entry may yet be
 * committed by the next one; only time, a snapshot over it, or the end of the replica make its
 * outcome unknown.
 *
 * Bound: proposal_bytes_max of a group, queued and pending; MG_PROPOSE_COUNT_MAX entries a step.
 *
 * Owner: the raft thread.
 */
#include "raft/raft_int.h"

#include "base/assert.h"

#include <inttypes.h>
#include <string.h>

/* What an empty proposal counts for. */
#define PROPOSAL_OVERHEAD 64
/* That a leader which is none any more waits for the next one to commit its entries. */
#define LOST_MS 10000

static void end(struct mg_group *group, struct mg_proposal *proposal, int error, uint64_t leader)
{
	mg_assert(group->proposal_bytes >= proposal->size + PROPOSAL_OVERHEAD);
	mg_assert(error != 0 || proposal->index > 0);
	group->proposal_bytes -= proposal->size + PROPOSAL_OVERHEAD;
	if (proposal->cb != NULL) {
		proposal->cb(proposal->arg, error, proposal->index, leader);
	}
	mg_free(proposal);
}

/* End a list that was taken off first, because callbacks may propose again. */
static void end_all(struct mg_group *group, struct mg_proposal *list, int error, uint64_t leader)
{
	mg_assert(error != 0);
	mg_assert(group->core != NULL);
	while (list != NULL) {
		struct mg_proposal *next = list->next;

		end(group, list, error, leader);
		list = next;
	}
}

static int refuse_not_leader(struct mg_group *group, struct mg_error *err)
{
	uint64_t leader = mg_group__leader(group);

	mg_assert(leader != group->node->options.self || group->role == MG_RAFT_LEADER);
	mg_assert(group->node->options.self > 0);
	(void)mg_error_set(err, MG_E_UNAVAILABLE, "this node does not lead group %" PRIu32, group->id);
	if (leader != 0) {
		mg_error_detail(err, "Node %" PRIu64 " leads it.", leader);
	} else {
		mg_error_detail(err, "An election is under way.");
	}
	return MG_E_UNAVAILABLE;
}

static int enqueue(struct mg_group *group, uint8_t type, const void *data, size_t size,
                   mg_proposal_cb cb, void *arg, struct mg_error *err)
{
	const struct mg_raft_node_options *options = &group->node->options;
	uint64_t cost = size + PROPOSAL_OVERHEAD;

	if (group->failed) {
		return mg_error_set(err, group->failed, "this replica of group %" PRIu32 " is broken",
		                    group->id);
	}
	if (group->role != MG_RAFT_LEADER) {
		return refuse_not_leader(group, err);
	}
	if (size > MG_ENTRY_SIZE_MAX) {
		return mg_error_set(err, MG_E_LIMIT, "a write of %zu bytes is over the limit of %u", size,
		                    MG_ENTRY_SIZE_MAX);
	}
	/* One that is larger than the bound alone may go when nothing else does. */
	if (group->proposal_bytes > 0 && group->proposal_bytes + cost > options->proposal_bytes_max) {
		(void)mg_error_set(err, MG_E_BUSY,
		                   "group %" PRIu32 " has %" PRIu64 " bytes of writes under way", group->id,
		                   group->proposal_bytes);
		mg_error_hint(err, "Try again in a moment.");
		return MG_E_BUSY;
	}
	struct mg_proposal *proposal = mg_try_alloc(sizeof *proposal + size);

	if (proposal == NULL) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a write of %zu bytes", size);
	}
	*proposal = (struct mg_proposal){
		.deadline_ms = group->node->now_ms + options->proposal_timeout_ms,
		.cb = cb,
		.arg = arg,
		.size = (uint32_t)size,
		.type = type,
	};
	if (size > 0) {
		memcpy(proposal->data, data, size);
	}
	if (group->queue == NULL && group->pending == NULL) {
		group->proposal_ms = proposal->deadline_ms;
	}
	if (group->queue == NULL) {
		group->queue_end = &group->queue;
	}
	*group->queue_end = proposal;
	group->queue_end = &proposal->next;
	group->proposal_bytes += cost;
	mg_assert(group->queue != NULL);
	mg_raft_node__dirty(group);
	return 0;
}

int mg_group_propose(struct mg_group *group, const void *data, size_t size, mg_proposal_cb cb,
                     void *arg, struct mg_error *err)
{
	mg_assert(data != NULL || size == 0);
	mg_assert(!group->closed);
	return enqueue(group, MG_ENTRY_COMMAND, data, size, cb, arg, err);
}

/* ---- from the queue to the core ---------------------------------------------------------------
 */

/* Insert behind all of the same or lower index: a deposed leader that leads again may give an index
 * a second time. */
static void pend(struct mg_group *group, struct mg_proposal *proposal)
{
	struct mg_proposal **at = &group->pending;

	mg_assert(proposal->index > 0);
	mg_assert(proposal->term > 0);
	while (*at != NULL && (*at)->index <= proposal->index) {
		at = &(*at)->next;
	}
	proposal->next = *at;
	*at = proposal;
}

static size_t take_batch(struct mg_group *group, struct mg_entry entries[MG_PROPOSE_COUNT_MAX],
                         struct mg_proposal **list)
{
	struct mg_proposal *last = NULL;
	size_t count = 0, bytes = 0;

	mg_assert(group->queue != NULL);
	*list = group->queue;
	for (struct mg_proposal *each = group->queue; each != NULL; each = each->next) {
		bool change = each->type == MG_ENTRY_CHANGE;

		if (count == MG_PROPOSE_COUNT_MAX || (count > 0 && (change || bytes > MG_APPLY_BYTES))) {
			break;
		}
		entries[count++] =
			(struct mg_entry){ .type = each->type, .size = each->size, .data = each->data };
		bytes += each->size;
		last = each;
		if (change) {
			break;
		}
	}
	group->queue = last->next;
	last->next = NULL;
	mg_assert(count > 0);
	return count;
}

void mg_group__barrier(struct mg_group *group)
{
	struct mg_entry barrier = { .type = MG_ENTRY_BARRIER };
	struct mg_core_event event = { .kind = MG_CORE_PROPOSE, .propose = { &barrier, 1 } };

	mg_assert(group->role == MG_RAFT_LEADER);
	mg_assert(group->barrier_due);
	/* When it fails (a full disk) the next turn tries again. */
	group->barrier_due = mg_group__step(group, &event, NULL) != 0;
}

void mg_group__propose_queue(struct mg_group *group)
{
	struct mg_entry entries[MG_PROPOSE_COUNT_MAX];

	if (group->barrier_due && group->role == MG_RAFT_LEADER) {
		mg_group__barrier(group);
	}
	while (group->queue != NULL && group->role == MG_RAFT_LEADER) {
		struct mg_raft_log_state state = { .first = 1 };
		struct mg_proposal *list;
		size_t count = take_batch(group, entries, &list);
		struct mg_core_event event = { .kind = MG_CORE_PROPOSE, .propose = { entries, count } };
		uint64_t term = group->term;

		(void)mg_raft_log_state(group->node->options.log, group->id, &state);
		int rc = mg_group__step(group, &event, NULL);

		if (rc != 0) {
			end_all(group, list, rc, mg_group__leader(group));
			continue;
		}
		for (uint64_t index = state.last + 1; list != NULL; index++) {
			struct mg_proposal *next = list->next;

			list->index = index;
			list->term = term;
			pend(group, list);
			list = next;
		}
	}
	mg_assert(group->queue == NULL || group->role != MG_RAFT_LEADER);
	if (group->queue != NULL) {
		mg_group__refuse_queue(group, MG_E_UNAVAILABLE);
	}
}

/* ---- ends -------------------------------------------------------------------------------------
 */

void mg_group__settle(struct mg_group *group, const struct mg_entry *entries, size_t count)
{
	mg_assert(count > 0);
	mg_assert(entries[count - 1].index == group->applied);
	while (group->pending != NULL && group->pending->index <= group->applied) {
		struct mg_proposal *proposal = group->pending;

		group->pending = proposal->next;
		mg_assert(proposal->index >= entries[0].index);
		bool mine = entries[proposal->index - entries[0].index].term == proposal->term;

		end(group, proposal, mine ? 0 : MG_E_UNAVAILABLE, mg_group__leader(group));
	}
}

void mg_group__refuse_queue(struct mg_group *group, int error)
{
	struct mg_proposal *list = group->queue;

	mg_assert(error != 0);
	mg_assert(group->core != NULL);
	group->queue = NULL;
	end_all(group, list, error, mg_group__leader(group));
}

/* Pending proposals up to an index can no longer be told. */
void mg_group__unknown(struct mg_group *group, uint64_t upto)
{
	mg_assert(upto > 0);
	while (group->pending != NULL && group->pending->index <= upto) {
		struct mg_proposal *proposal = group->pending;

		group->pending = proposal->next;
		end(group, proposal, MG_E_UNKNOWN_OUTCOME, 0);
	}
	mg_assert(group->pending == NULL || group->pending->index > upto);
}

/* The next leader says soon what became of them, or nobody does for long. */
void mg_group__hurry_proposals(struct mg_group *group)
{
	uint64_t until = group->node->now_ms + LOST_MS;

	for (struct mg_proposal *proposal = group->pending; proposal; proposal = proposal->next) {
		proposal->deadline_ms = proposal->deadline_ms < until ? proposal->deadline_ms : until;
	}
	if (group->pending != NULL && until < group->proposal_ms) {
		group->proposal_ms = until;
	}
}

void mg_group__expire_proposals(struct mg_group *group)
{
	uint64_t now = group->node->now_ms, earliest = UINT64_MAX;
	struct mg_proposal *gone = NULL, **at = &group->pending;

	if ((group->pending == NULL && group->queue == NULL) || now < group->proposal_ms) {
		return;
	}
	while (*at != NULL) {
		struct mg_proposal *proposal = *at;

		if (proposal->deadline_ms <= now) {
			*at = proposal->next;
			proposal->next = gone;
			gone = proposal;
		} else {
			earliest = proposal->deadline_ms < earliest ? proposal->deadline_ms : earliest;
			at = &proposal->next;
		}
	}
	/* The queue is emptied in each turn, so what waits there has just come. */
	if (group->queue != NULL && group->queue->deadline_ms < earliest) {
		earliest = group->queue->deadline_ms;
	}
	group->proposal_ms = earliest > now ? earliest : now + 1;
	mg_assert(group->proposal_ms > now);
	end_all(group, gone, MG_E_UNKNOWN_OUTCOME, 0);
}

/* ---- members ----------------------------------------------------------------------------------
 */

/* The core measures by what the node stores from now on: a group at rest gives it something. */
static int measure(struct mg_group *group, uint64_t node, struct mg_error *err)
{
	struct mg_core_event event = { .kind = MG_CORE_CATCH_UP, .node = node };
	int rc = mg_group__step(group, &event, err);

	mg_assert(node != group->node->options.self || rc != 0);
	group->barrier_due = group->barrier_due || rc == 0;
	mg_raft_node__dirty(group);
	return rc;
}

static int promote(struct mg_group *group, struct mg_members *members, uint64_t node,
                   struct mg_error *err)
{
	const struct mg_member *member = mg_members_find(members, node);

	mg_assert(group->role == MG_RAFT_LEADER);
	if (member == NULL) {
		return mg_error_set(err, MG_E_NOT_FOUND, "node %" PRIu64 " is no member of group %" PRIu32,
		                    node, group->id);
	}
	if (member->role == MG_MEMBER_VOTER) {
		return mg_error_set(err, MG_E_DUPLICATE, "node %" PRIu64 " votes already", node);
	}
	enum mg_catch_up status = mg_core_catch_up(group->core, node);

	if (status != MG_CATCH_UP_FINISHED) {
		int rc = status == MG_CATCH_UP_RUNNING ? 0 : measure(group, node, err);

		return rc != 0 ? rc : mg_error_set(err, MG_E_BUSY, "node %" PRIu64 " is catching up", node);
	}
	int rc = mg_armour_promotion(group->node->rules, group->core, node, err);

	mg_assert(rc != 0 || member->role == MG_MEMBER_STANDBY);
	return rc != 0 ? rc : mg_members_set(members, node, MG_MEMBER_VOTER, err);
}

static int demote(struct mg_members *members, uint64_t node, struct mg_error *err)
{
	const struct mg_member *member = mg_members_find(members, node);

	mg_assert(members->count > 0);
	mg_assert(node > 0);
	if (member == NULL) {
		return mg_error_set(err, MG_E_NOT_FOUND, "node %" PRIu64 " is no member", node);
	}
	if (member->role == MG_MEMBER_VOTER && mg_members_voters(members) == 1) {
		return mg_error_set(err, MG_E_USAGE, "node %" PRIu64 " is the last voter", node);
	}
	return mg_members_set(members, node, MG_MEMBER_STANDBY, err);
}

int mg_group_change(struct mg_group *group, enum mg_change change, uint64_t node, mg_proposal_cb cb,
                    void *arg, struct mg_error *err)
{
	struct mg_core_info info;
	uint8_t bytes[MG_MEMBERS_SIZE_MAX];
	int rc = MG_E_USAGE;

	mg_assert(node > 0);
	mg_assert(!group->closed);
	if (group->failed || group->role != MG_RAFT_LEADER) {
		return refuse_not_leader(group, err);
	}
	mg_core_info(group->core, &info);
	/* Nor before an entry of our own term is committed: else we and the leader before us could each
	 * stand on a list that is one step from the old one and two from the other (Ongaro, "bug in
	 * single-server membership changes", raft-dev, 2015). */
	if (info.pending_members_index != 0 || info.transferring || !mg_group__can_read(group)) {
		return mg_error_set(err, MG_E_BUSY, "another change of group %" PRIu32 " is under way",
		                    group->id);
	}
	switch (change) {
	case MG_CHANGE_ADD_STANDBY:
		rc = mg_members_find(&info.members, node) != NULL
		         ? mg_error_set(err, MG_E_DUPLICATE, "node %" PRIu64 " is a member already", node)
		         : mg_members_set(&info.members, node, MG_MEMBER_STANDBY, err);
		break;
	case MG_CHANGE_PROMOTE:
		rc = promote(group, &info.members, node, err);
		break;
	case MG_CHANGE_DEMOTE:
		rc = demote(&info.members, node, err);
		break;
	case MG_CHANGE_REMOVE:
		rc = mg_members_remove(&info.members, node, err);
		break;
	}
	if (rc == 0) {
		rc =
			mg_armour_keeps_vote(group->node->rules, &info.members, group->node->options.self, err);
	}
	if (rc != 0) {
		return rc;
	}
	return enqueue(group, MG_ENTRY_CHANGE, bytes, mg_members_encode(&info.members, bytes), cb, arg,
	               err);
}
