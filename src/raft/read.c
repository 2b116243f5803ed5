/*
 * read.c - linearizable reads by term probes: one round trip, no log write; and, for a while after
 * a round, none at all.
 *
 * Rule: an index is handed out only if a majority of voters said, after the read was asked for,
 * that its term is at most ours, and each meant it durably.  Then no later leader can have
 * committed anything before the read began, and the leader's own commit index, once an entry of its
 * own term lies at it, holds all that was acknowledged.
 *
 * Reads that come while a round is under way wait for the next, which they all share; and all
 * groups that start a round in a turn share its frames, one for each peer (node.c).  A round that
 * gets no majority is sent again each heartbeat, until the reads' time is over.
 *
 * Answers promise not to vote, too, so a round that a majority has confirmed is a lease (lease.h):
 * until it ends reads are answered in the turn in which they come.  When half of it is gone a read
 * starts the next round behind itself, so who reads all the time never waits for one; who does not
 * read costs nothing.
 *
 * Order: the read has come, then its index is taken, then the clock is looked at.  The lease holds
 * at that look, so nobody else has led before it, and the index holds all that was acknowledged
 * when the read was asked for.  A pause before the look is seen by it; after it, however long, the
 * index stays right for this read.  The time of the turn (now_ms) would not do: it is that of the
 * turn's beginning, and a read may come, after a pause, within it.
 *
 * Bound: MG_READS_MAX reads of a group.
 *
 * Owner: the raft thread.
 */
#include "raft/raft_int.h"

#include "base/assert.h"

#include <inttypes.h>

bool mg_group__can_read(const struct mg_group *group)
{
	mg_assert(group->core != NULL);
	return !group->failed && group->role == MG_RAFT_LEADER &&
	       mg_group__term_of(group, group->commit) == group->term;
}

/* `list` was taken off the group first: callbacks may ask again. */
static void end_all(struct mg_group *group, struct mg_read *list, int error, uint64_t index,
                    uint64_t leader)
{
	mg_assert(error != 0 || index > 0);
	while (list != NULL) {
		struct mg_read *next = list->next;

		mg_assert(group->read_count > 0);
		group->read_count--;
		list->cb(list->arg, error, error == 0 ? index : 0, leader);
		mg_free(list);
		list = next;
	}
}

/* The clock is looked at before a probe is sent. */
static void probe_peers(struct mg_group *group)
{
	struct mg_raft_node *node = group->node;
	struct mg_core_info info;

	mg_core_info(group->core, &info);
	mg_assert(info.role == MG_RAFT_LEADER);
	group->round = node->round;
	group->round_term = group->term;
	group->round_ms = node->now_ms + node->options.heartbeat_ms;
	group->yes.count = group->promised.count = 0;
	mg_lease_round(&group->lease, mg_raft_node__boot_ms(node));
	for (size_t i = 0; i < info.members.count; i++) {
		const struct mg_member *member = &info.members.list[i];

		if (member->role != MG_MEMBER_VOTER || member->node == node->options.self) {
			continue;
		}
		struct mg_peer *peer = mg_raft_node__peer(node, member->node);

		if (peer->probe_count < MG_RAFT_FRAME_PROBES_MAX) {
			mg_grow(peer->probes, peer->probe_count, peer->probe_cap);
			peer->probes[peer->probe_count++] =
				(struct mg_probe){ .group = group->id, .term = group->term };
		}
	}
	mg_assert(group->round > 0);
}

/* Are they, with this node, a majority of the voters? */
static bool is_majority(const struct mg_group *group, const struct mg_members *who)
{
	struct mg_core_info info;
	size_t yes = 0;

	mg_core_info(group->core, &info);
	mg_assert(info.role == MG_RAFT_LEADER);
	mg_assert(info.term == group->round_term);
	for (size_t i = 0; i < info.members.count; i++) {
		const struct mg_member *member = &info.members.list[i];

		if (member->role == MG_MEMBER_VOTER &&
		    (member->node == group->node->options.self ||
		     mg_members_find(who, member->node) != NULL)) {
			yes++;
		}
	}
	return yes > mg_members_voters(&info.members) / 2;
}

static void finish_round(struct mg_group *group)
{
	struct mg_read *list = group->probing;

	mg_assert(list != NULL);
	mg_assert(group->round_index <= group->commit);
	if (!is_majority(group, &group->yes) && (group->node->rules & MG_RULE_PROBE)) {
		return;
	}
	group->probing = NULL;
	end_all(group, list, 0, group->round_index, group->node->options.self);
	mg_raft_node__dirty(group);
}

/* False: there is no lease.  The index comes before the clock. */
static bool answer_by_lease(struct mg_group *group)
{
	const struct mg_raft_node *node = group->node;
	struct mg_read *list = group->reads;
	uint64_t index = group->commit;

	if (group->lease.until_ms == 0) {
		return false;
	}
	uint64_t now_ms = mg_raft_node__boot_ms(node);

	if (!mg_lease_holds(&group->lease, now_ms)) {
		return false;
	}
	group->reads = NULL;
	if (group->probing == NULL && mg_lease_ages(&group->lease, now_ms, node->lease_ms)) {
		probe_peers(group);
	}
	end_all(group, list, 0, index, node->options.self);
	return true;
}

void mg_group__start_round(struct mg_group *group)
{
	/* Our own vote counts too, so it must be durable. */
	if (group->reads == NULL || group->hard_states > 0 || !mg_group__can_read(group) ||
	    answer_by_lease(group) || group->probing != NULL) {
		return;
	}
	group->probing = group->reads;
	group->reads = NULL;
	group->round_index = group->commit;
	mg_assert(group->round_index > 0);
	probe_peers(group);
	finish_round(group); /* of a single voter */
}

void mg_group__answer(struct mg_group *group, uint64_t from, uint64_t round,
                      const struct mg_probe *answer)
{
	mg_assert(from > 0);
	mg_assert(from != group->node->options.self);
	if (!answer->yes || group->failed || round != group->round || group->role != MG_RAFT_LEADER ||
	    group->term != group->round_term) {
		return;
	}
	/* Before the reads: what they are followed by finds the lease. */
	if (answer->promise && group->node->lease_ms > 0 &&
	    mg_members_set(&group->promised, from, MG_MEMBER_VOTER, NULL) == 0 &&
	    is_majority(group, &group->promised)) {
		mg_lease_confirm(&group->lease, group->term, group->node->lease_ms);
	}
	if (mg_members_set(&group->yes, from, MG_MEMBER_VOTER, NULL) == 0 && group->probing != NULL) {
		finish_round(group);
	}
}

void mg_group__fail_reads(struct mg_group *group, int error)
{
	struct mg_read *probing = group->probing, *reads = group->reads;
	uint64_t leader = mg_group__leader(group);

	mg_assert(error != 0);
	group->probing = NULL;
	group->reads = NULL;
	end_all(group, probing, error, 0, leader);
	end_all(group, reads, error, 0, leader);
}

static struct mg_read *take_expired(struct mg_read **list, uint64_t now, uint64_t *earliest)
{
	struct mg_read *gone = NULL;

	mg_assert(list != NULL);
	while (*list != NULL) {
		struct mg_read *read = *list;

		if (read->deadline_ms <= now) {
			*list = read->next;
			read->next = gone;
			gone = read;
		} else {
			*earliest = read->deadline_ms < *earliest ? read->deadline_ms : *earliest;
			list = &read->next;
		}
	}
	return gone;
}

void mg_group__expire_reads(struct mg_group *group)
{
	uint64_t now = group->node->now_ms, earliest = UINT64_MAX;

	if (group->reads == NULL && group->probing == NULL) {
		return;
	}
	if (now >= group->read_ms) {
		struct mg_read *probing = take_expired(&group->probing, now, &earliest);
		struct mg_read *reads = take_expired(&group->reads, now, &earliest);

		group->read_ms = earliest;
		mg_assert(group->read_ms > now);
		end_all(group, probing, MG_E_TIMEOUT, 0, 0);
		end_all(group, reads, MG_E_TIMEOUT, 0, 0);
	}
	if (group->probing != NULL && now >= group->round_ms) {
		probe_peers(group);
	}
}

/* ---- promises of a voter (lease.h) -----------------------------------------------------------
 */

/* A candidate may be elected by what is on its way to it. */
bool mg_group__promise(struct mg_group *group)
{
	uint64_t until_ms = mg_raft_node__boot_ms(group->node) + group->node->options.promise_ms;

	if (group->role == MG_RAFT_CANDIDATE) {
		return false;
	}
	mg_assert(until_ms >= group->promised_ms);
	group->promised_ms = until_ms;
	return true;
}

unsigned mg_group__promise_left(const struct mg_group *group)
{
	uint64_t now_ms = mg_raft_node__boot_ms(group->node);

	if (!(group->node->rules & MG_RULE_PROMISE) || now_ms >= group->promised_ms) {
		return 0;
	}
	mg_assert(group->promised_ms - now_ms <= group->node->options.promise_ms);
	return (unsigned)(group->promised_ms - now_ms);
}

/* ---- reads that come --------------------------------------------------------------------------
 */

int mg_group_read_index(struct mg_group *group, mg_read_cb cb, void *arg, struct mg_error *err)
{
	mg_assert(cb != NULL);
	mg_assert(!group->closed);
	if (group->failed || group->role != MG_RAFT_LEADER) {
		uint64_t leader = mg_group__leader(group);

		(void)mg_error_set(err, MG_E_UNAVAILABLE, "this node does not lead group %" PRIu32,
		                   group->id);
		if (leader != 0) {
			mg_error_detail(err, "Node %" PRIu64 " leads it.", leader);
		}
		return MG_E_UNAVAILABLE;
	}
	if (group->read_count >= MG_READS_MAX) {
		return mg_error_set(err, MG_E_BUSY, "%d reads wait in group %" PRIu32, MG_READS_MAX,
		                    group->id);
	}
	struct mg_read *read = mg_alloc(sizeof *read);

	*read = (struct mg_read){
		.next = group->reads,
		.deadline_ms = group->node->now_ms + group->node->options.read_timeout_ms,
		.cb = cb,
		.arg = arg,
	};
	if (group->reads == NULL && group->probing == NULL) {
		group->read_ms = read->deadline_ms;
	}
	group->reads = read;
	group->read_count++;
	mg_raft_node__dirty(group);
	return 0;
}
