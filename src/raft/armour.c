/*
 * armour.c - the ten rules around the core; why each is needed is told in armour.h.
 *
 * Rule: pure functions of what they are given.  Each begins with its bit of the mask; with the bit
 * off it lets everything pass, which is only for tests that show what happens then.
 */
#include "raft/armour.h"

#include "base/assert.h"

#include <inttypes.h>

/* A.  Entries at or below our snapshot are committed, so the leader's are the same as ours were. */
void mg_armour_anchor(unsigned rules, const struct mg_core_info *info,
                      const struct mg_snapshot *snapshot, struct mg_message *append)
{
	mg_assert(append->kind == MG_MESSAGE_APPEND);
	mg_assert(append->append.count == 0 || append->append.entries != NULL);
	if (!(rules & MG_ARMOUR_ANCHOR) || info->installing || snapshot->index == 0 ||
	    append->append.prev_index >= snapshot->index || append->term < info->term) {
		return; /* an older leader is refused by its term, whatever it says */
	}
	uint64_t known = snapshot->index - append->append.prev_index;
	size_t cut = known < append->append.count ? (size_t)known : append->append.count;

	append->append.entries = cut < append->append.count ? append->append.entries + cut : NULL;
	append->append.count -= cut;
	append->append.prev_index = snapshot->index;
	append->append.prev_term = snapshot->term;
	mg_assert(append->append.count == 0 || append->append.entries[0].index == snapshot->index + 1);
}

/* B. */
size_t mg_armour_piece(unsigned rules, const struct mg_entry *entries, size_t count)
{
	mg_assert(count == 0 || entries != NULL);
	if (!(rules & MG_ARMOUR_PIECES)) {
		return count;
	}
	for (size_t i = 1; i < count; i++) {
		if (entries[i].type == MG_ENTRY_CHANGE) {
			mg_assert(i > 0);
			return i;
		}
	}
	return count;
}

/* C. */
int mg_armour_promotion(unsigned rules, const struct mg_core *core, uint64_t node,
                        struct mg_error *err)
{
	struct mg_core_info info;
	uint64_t match;

	mg_assert(node > 0);
	mg_core_info(core, &info);
	if (info.role != MG_RAFT_LEADER) {
		return mg_error_set(err, MG_E_UNAVAILABLE, "this node does not lead the group");
	}
	if (!mg_core_match(core, node, &match)) {
		return mg_error_set(err, MG_E_NOT_FOUND, "node %" PRIu64 " is no member of the group",
		                    node);
	}
	if (!(rules & MG_ARMOUR_PROMOTION)) {
		return 0;
	}
	mg_assert(info.last >= match);
	if (match < info.committed_members_index || info.last - match > MG_PROMOTION_LAG_MAX) {
		return mg_error_set(err, MG_E_BUSY,
		                    "node %" PRIu64 " has not caught up: it has %" PRIu64 " of %" PRIu64
		                    " entries",
		                    node, match, info.last);
	}
	for (size_t i = 0; i < info.members.count; i++) {
		const struct mg_member *member = &info.members.list[i];

		if (member->role != MG_MEMBER_VOTER || member->node == node) {
			continue;
		}
		bool found = mg_core_match(core, member->node, &match);

		mg_assert(found);
		if (match < info.committed_members_index) {
			(void)mg_error_set(err, MG_E_BUSY,
			                   "node %" PRIu64 " does not know the group's members yet",
			                   member->node);
			mg_error_hint(err, "Wait until it is back, or remove it first.");
			return MG_E_BUSY;
		}
	}
	return 0;
}

/* D. */
bool mg_armour_number(unsigned rules, struct mg_armour_peer *peer, uint64_t incarnation,
                      uint64_t sequence)
{
	bool newer = incarnation > peer->incarnation ||
	             (incarnation == peer->incarnation && sequence > peer->sequence);

	mg_assert(incarnation > 0 && sequence > 0); /* the frame's decoder has seen to it */
	if (newer) {
		peer->incarnation = incarnation;
		peer->sequence = sequence;
	}
	mg_assert(peer->incarnation >= incarnation);
	return newer || !(rules & MG_ARMOUR_NUMBERS);
}

/* E. */
int mg_armour_start(unsigned rules, const struct mg_raft_log_state *state, uint8_t first_type,
                    struct mg_error *err)
{
	bool empty = state->last < state->first;

	mg_assert(state->last + 1 >= state->first);
	mg_assert(state->first > 0);
	if (state->snapshot.index == 0) {
		if (empty && !(rules & MG_ARMOUR_START)) {
			return 0;
		}
		if (empty) {
			return mg_error_set(err, MG_E_NOT_FOUND,
			                    "group %" PRIu32 " has neither a birth entry nor a snapshot",
			                    state->group);
		}
		if (state->first != 1 || first_type != MG_ENTRY_CHANGE) {
			return mg_error_set(err, MG_E_CORRUPT,
			                    "the log of group %" PRIu32 " has lost its beginning: it starts "
			                    "at %" PRIu64 " without a snapshot",
			                    state->group, state->first);
		}
		return 0;
	}
	if (state->first > state->snapshot.index + 1) {
		return mg_error_set(err, MG_E_CORRUPT,
		                    "the log of group %" PRIu32 " has a gap between its snapshot %" PRIu64
		                    " and its first entry %" PRIu64,
		                    state->group, state->snapshot.index, state->first);
	}
	return 0;
}

/* F.  The receiver steps up to the higher term, as it does for any other message. */
void mg_armour_refusal(unsigned rules, uint64_t own_term, struct mg_message *message)
{
	mg_assert(message->kind == MG_MESSAGE_VOTE_RESULT);
	mg_assert(message->term > 0);
	if ((rules & MG_ARMOUR_REFUSAL) && message->vote_result.pre_vote &&
	    !message->vote_result.granted && own_term > message->term) {
		message->term = own_term;
	}
}

/* G. */
bool mg_armour_elects_itself(unsigned rules, const struct mg_members *members, uint64_t node)
{
	const struct mg_member *member = mg_members_find(members, node);

	mg_assert(node > 0 && node != MG_ARMOUR_NOBODY);
	return (rules & MG_ARMOUR_TERM) && member != NULL && member->role == MG_MEMBER_VOTER &&
	       mg_members_voters(members) == 1;
}

struct mg_message mg_armour_next_term(uint64_t term)
{
	mg_assert(term < UINT64_MAX);
	return (struct mg_message){
		.kind = MG_MESSAGE_VOTE,
		.peer = MG_ARMOUR_NOBODY,
		.term = term + 1,
		.vote = { .disrupt = true }, /* heard in spite of a leader; its empty log gets no vote */
	};
}

/* H.  Whether a vote counts is the candidate's matter, who looks at its own members. */
bool mg_armour_answers(unsigned rules, const struct mg_members *members, uint64_t self)
{
	mg_assert(self > 0);
	mg_assert(members->count <= MG_MEMBERS_MAX);
	return (rules & MG_ARMOUR_BALLOT) && !mg_members_votes(members, self);
}

bool mg_armour_grants(const struct mg_ballot *ballot, const struct mg_message *request)
{
	bool current = request->vote.last_term > ballot->last_term ||
	               (request->vote.last_term == ballot->last_term &&
	                request->vote.last_index >= ballot->last_index);

	mg_assert(request->kind == MG_MESSAGE_VOTE);
	mg_assert(request->vote.pre_vote || request->term <= ballot->term);
	if (ballot->installing || (ballot->has_leader && !request->vote.disrupt) || !current) {
		return false;
	}
	return request->vote.pre_vote ||
	       (request->term == ballot->term && (ballot->vote == 0 || ballot->vote == request->peer));
}

/* I. */
size_t mg_armour_farewell(unsigned rules, const struct mg_entry *entries, size_t count,
                          uint64_t committed, const struct mg_members *members, uint64_t peer)
{
	struct mg_members changed;

	mg_assert(count == 0 || entries != NULL);
	mg_assert(peer > 0);
	if (!(rules & MG_ARMOUR_FAREWELL) || !mg_members_votes(members, peer)) {
		return count;
	}
	for (size_t i = 0; i < count; i++) {
		if (entries[i].type == MG_ENTRY_CHANGE && entries[i].index > committed) {
			int rc = mg_members_decode(entries[i].data, entries[i].size, &changed, NULL);

			mg_assert(rc == 0); /* the core has decoded it before */
			if (!mg_members_votes(&changed, peer)) {
				return i;
			}
		}
	}
	return count;
}

int mg_armour_keeps_vote(unsigned rules, const struct mg_members *members, uint64_t self,
                         struct mg_error *err)
{
	mg_assert(self > 0);
	mg_assert(members->count > 0);
	if (!(rules & MG_ARMOUR_FAREWELL) || mg_members_votes(members, self)) {
		return 0;
	}
	(void)mg_error_set(err, MG_E_USAGE, "node %" PRIu64 " leads the group", self);
	mg_error_hint(err, "Transfer the leadership first.");
	return MG_E_USAGE;
}

/* J.  Who is no candidate needs no result; a higher term it learns from every other message. */
bool mg_armour_counts(unsigned rules, enum mg_raft_role role)
{
	mg_assert((unsigned)role < MG_RAFT_ROLE_COUNT);
	return !(rules & MG_ARMOUR_COUNTING) || role == MG_RAFT_CANDIDATE;
}
