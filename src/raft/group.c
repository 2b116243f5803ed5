/*
 * group.c - a group: steps of its core, and what follows from each.
 *
 * Rule: whatever leaves this node about a group depends only on what its log holds durably:
 * messages wait in `held` until the hard states put before them are stored, the core hears STORED
 * only after the sync, and nothing is applied above min(commit, stored).
 *
 * Steps are never nested: what follows a step puts records, sends or holds frames, and marks the
 * group dirty; proposals, reads and applying wait for the turn.
 *
 * Owner: the raft thread.
 */
#include "raft/raft_int.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

enum {
	LOST_STEPS = 20, /* of an election timeout: between voters who stand for a lost leader */
	TELL_MS = 5,
};

/* ---- log --------------------------------------------------------------------------------------
 */

static void on_durable(void *arg, uint64_t sequence, int error);

void mg_group__put(struct mg_group *group, const struct mg_raft_log_record *records, size_t count,
                   struct mg_wait wait)
{
	mg_assert(count > 0);
	mg_assert(group->wait_count <= group->wait_cap);
	if (group->wait_count == group->wait_cap) {
		size_t cap = group->wait_cap == 0 ? 8 : group->wait_cap * 2;
		struct mg_wait *waits = mg_alloc(cap * sizeof *waits);

		for (size_t i = 0; i < group->wait_count; i++) {
			waits[i] = group->waits[(group->wait_first + i) % group->wait_cap];
		}
		mg_free(group->waits);
		group->waits = waits;
		group->wait_first = 0;
		group->wait_cap = cap;
	}
	group->waits[(group->wait_first + group->wait_count++) % group->wait_cap] = wait;
	group->hard_states += wait.hard_state;
	(void)mg_raft_log_put(group->node->options.log, group->id, records, count, on_durable, group);
}

/* Entries from `cut` on are gone: what is being written of them must not be told as stored. */
static void clamp_waits(struct mg_group *group, uint64_t cut)
{
	mg_assert(cut > 0);
	for (size_t i = 0; i < group->wait_count; i++) {
		struct mg_wait *wait = &group->waits[(group->wait_first + i) % group->wait_cap];

		if (wait->last >= cut) {
			wait->last = cut - 1;
		}
	}
}

static void release_held(struct mg_group *group)
{
	mg_assert(group->hard_states == 0);
	for (size_t i = 0; i < group->held_count; i++) {
		mg_raft_node__send(group->node, group->held[i].peer, group->held[i].frame);
	}
	group->held_count = 0;
}

static void on_durable(void *arg, uint64_t sequence, int error)
{
	struct mg_group *group = arg;

	(void)sequence;
	mg_assert(group->wait_count > 0);
	struct mg_wait wait = group->waits[group->wait_first];

	group->wait_first = (group->wait_first + 1) % group->wait_cap;
	group->wait_count--;
	group->hard_states -= wait.hard_state;
	if (group->closed) {
		mg_group__free(group);
		return;
	}
	if (error != 0) {
		group->node->failed = error;
		mg_group_fail(group, error);
		return;
	}
	if (group->failed) {
		return;
	}
	if (group->hard_states == 0) {
		release_held(group);
	}
	/* The core has dropped what was under way before it waits for a snapshot. */
	mg_assert(wait.last == 0 || !group->core_waits);
	if (wait.last > group->stored) {
		struct mg_core_event event = { .kind = MG_CORE_STORED, .stored = wait.last };

		(void)mg_group__step(group, &event, NULL);
	}
	if (wait.mark) {
		mg_group__marked(group);
	}
	if (wait.install) {
		mg_group__install_stored(group);
	}
	mg_raft_node__dirty(group);
}

uint64_t mg_group__term_of(const struct mg_group *group, uint64_t index)
{
	struct mg_entry entry;

	mg_assert(group->core != NULL);
	if (index == 0) {
		return 0;
	}
	if (index == group->snapshot.snapshot.index) {
		return group->snapshot.snapshot.term;
	}
	return mg_raft_log_meta(group->node->options.log, group->id, index, &entry) ? entry.term : 0;
}

/* ---- messages out -----------------------------------------------------------------------------
 */

static void send_frame(struct mg_group *group, uint64_t peer, struct mg_buf *frame)
{
	if (frame == NULL) {
		return; /* no memory: as if the network had lost it */
	}
	if (!(group->node->rules & MG_RULE_HOLD) || group->hard_states == 0) {
		mg_assert(group->held_count == 0 || !(group->node->rules & MG_RULE_HOLD));
		mg_raft_node__send(group->node, peer, frame);
		return;
	}
	if (group->held_count == MG_HELD_MAX) {
		mg_buf_unref(frame);
		return;
	}
	mg_grow(group->held, group->held_count, group->held_cap);
	group->held[group->held_count++] = (struct mg_held){ .peer = peer, .frame = frame };
}

/* Entries come from the log; more bytes than a frame should have go in several. */
static void send_append(struct mg_group *group, const struct mg_message *message)
{
	struct mg_raft_log *log = group->node->options.log;
	struct mg_message piece = *message;
	uint64_t from = message->append.prev_index + 1;
	uint64_t to = from + message->append.count;
	struct mg_core_info info;

	mg_assert(message->append.entries == NULL);
	mg_core_info(group->core, &info);
	do {
		struct mg_entries entries = { 0 };

		if (from < to) {
			struct mg_error err = { 0 };
			int rc =
				mg_raft_log_read(log, group->id, from, to, MG_RAFT_FRAME_SIZE_SOFT, &entries, &err);

			if (rc == MG_E_NOMEM) {
				return;
			}
			if (rc != 0) {
				mg_log(MG_LOG_ERROR, "raft.log.read",
				       "group=%" PRIu32 " index=%" PRIu64 " error=%s", group->id, from,
				       err.message);
				mg_group_fail(group, rc);
				return;
			}
			mg_assert(entries.count > 0);
		}
		size_t now = mg_armour_farewell(group->node->rules, entries.entries, entries.count,
		                                group->commit, &info.committed_members, message->peer);

		piece.append.entries = entries.entries;
		piece.append.count = now;
		send_frame(group, message->peer,
		           mg_raft_frame_message(group->id, group->node->options.self, &piece));
		if (now == entries.count && now > 0) {
			piece.append.prev_index = entries.entries[now - 1].index;
			piece.append.prev_term = entries.entries[now - 1].term;
			from = piece.append.prev_index + 1;
		} else {
			from = to; /* the rest comes when the change is committed */
		}
		mg_raft_log_release(log, &entries);
	} while (from < to);
}

static void send_message(struct mg_group *group, const struct mg_message *message)
{
	struct mg_message copy = *message;

	mg_assert(message->peer > 0);
	mg_assert(message->peer != group->node->options.self);
	if (message->peer == MG_ARMOUR_NOBODY) {
		return;
	}
	switch (message->kind) {
	case MG_MESSAGE_APPEND:
		send_append(group, message);
		return;
	case MG_MESSAGE_INSTALL:
		mg_assert(message->install.index == group->snapshot.snapshot.index);
		copy.install.manifest = group->snapshot;
		break;
	case MG_MESSAGE_VOTE:
		/* The core asks on in that manner when its first try came to nothing: in terms that others
		 * may have led in between. */
		copy.vote.told = message->vote.disrupt && (message->term == group->told_to_stand + 1 ||
		                                           !(group->node->rules & MG_RULE_TOLD));
		break;
	case MG_MESSAGE_VOTE_RESULT:
		mg_armour_refusal(group->node->rules, group->term, &copy);
		break;
	case MG_MESSAGE_TIMEOUT_NOW:
		if (group->node->rules & MG_RULE_GIVEN) {
			mg_lease_give_away(&group->lease, group->term);
		}
		break;
	default:
		break;
	}
	send_frame(group, message->peer,
	           mg_raft_frame_message(group->id, group->node->options.self, &copy));
}

/* ---- what follows a step ----------------------------------------------------------------------
 */

/* Hard state and entries go into one put, so that one wait covers them in order. */
static void follow_log(struct mg_group *group, const struct mg_core_out *out)
{
	struct mg_raft_node *node = group->node;
	struct mg_wait wait = { .hard_state = out->hard_state_changed };
	size_t count = 0;

	while (out->append_count + 2 > node->record_cap) {
		node->record_cap = node->record_cap == 0 ? 64 : node->record_cap * 2;
		node->records = mg_realloc(node->records, node->record_cap * sizeof *node->records);
	}
	if (out->hard_state_changed) {
		node->records[count] = (struct mg_raft_log_record){
			.kind = MG_RAFT_LOG_HARD_STATE,
			.hard_state = out->hard_state,
		};
		if (out->hard_state.term == group->ballot.term) {
			mg_assert(out->hard_state.vote == 0 || out->hard_state.vote == group->ballot.vote);
			node->records[count].hard_state.vote = group->ballot.vote;
		}
		count++;
	}
	if (out->append_count > 0) {
		struct mg_raft_log_state state = { .first = 1 };
		uint64_t first = out->append[0].index;

		(void)mg_raft_log_state(node->options.log, group->id, &state);
		mg_assert(first >= state.first && first <= state.last + 1);
		mg_assert(first > group->applied);
		if (first <= state.last) {
			clamp_waits(group, first);
			node->records[count++] =
				(struct mg_raft_log_record){ .kind = MG_RAFT_LOG_TRUNCATE, .index = first };
		}
		for (size_t i = 0; i < out->append_count; i++) {
			if (out->append[i].type == MG_ENTRY_CHANGE && (node->rules & MG_RULE_MEMBERS)) {
				mg_lease_end(&group->lease);
			}
			node->records[count++] = (struct mg_raft_log_record){
				.kind = MG_RAFT_LOG_ENTRY,
				.entry = out->append[i],
			};
		}
		wait.last = first + out->append_count - 1;
	}
	if (count > 0) {
		mg_group__put(group, node->records, count, wait);
	}
}

void mg_group__tell_leader(struct mg_group *group, uint64_t leader)
{
	const struct mg_raft_node_options *options = &group->node->options;

	if (leader == group->leader) {
		return;
	}
	group->leader = leader;
	if (options->on_leader != NULL) {
		options->on_leader(options->watch_arg, group->id, leader);
	}
}

/* Nothing in a TIMEOUT_NOW that comes late tells its receiver that the leader has given up, so the
 * lease that ended with it does not come back before the next term. */
static void follow_transfer(struct mg_group *group, const struct mg_core_out *out)
{
	bool stays = out->role == MG_RAFT_LEADER && out->hard_state.term == group->term;

	if (group->transferring && !out->transferring && stays &&
	    group->not_taken_term != group->term) {
		group->not_taken_term = group->term; /* whoever tries on says it once */
		mg_log(MG_LOG_INFO, "raft.transfer.failed",
		       "group=%" PRIu32 " term=%" PRIu64 " leases=%s", group->id, group->term,
		       group->lease.given_term == group->term ? "next-term" : "now");
	}
	group->transferring = out->transferring;
}

static void follow_role(struct mg_group *group, const struct mg_core_out *out)
{
	struct mg_raft_node *node = group->node;
	bool changed = group->role != out->role || group->term != out->hard_state.term;
	bool led = group->role == MG_RAFT_LEADER && changed;

	mg_assert(out->hard_state.term >= group->term);
	group->role = out->role;
	group->term = out->hard_state.term;
	if (out->commit > group->commit) {
		group->commit = out->commit; /* the core's falls back when an old append comes late */
	}
	group->stored = out->stored;
	group->core_ms = out->next_timer_ms;
	if (group->role == MG_RAFT_LEADER && group->leader_term != group->term) {
		group->leader_term = group->term;
		group->barrier_due = out->append_count == 0;
	}
	if (!changed) {
		return;
	}
	mg_lease_end(&group->lease);
	if (led) {
		mg_group__fail_reads(group, MG_E_UNAVAILABLE);
		mg_group__refuse_queue(group, MG_E_UNAVAILABLE);
		mg_group__hurry_proposals(group);
	}
	if (group->role == MG_RAFT_LEADER) {
		mg_log(MG_LOG_DEBUG, "raft.leader", "group=%" PRIu32 " term=%" PRIu64, group->id,
		       group->term);
	}
	if (node->options.on_role != NULL) {
		node->options.on_role(node->options.watch_arg, group->id, group->role, group->term);
	}
}

int mg_group__step(struct mg_group *group, struct mg_core_event *event, struct mg_error *err)
{
	struct mg_raft_node *node = group->node;
	struct mg_core_out out;

	if (group->failed) {
		return mg_error_set(err, group->failed, "this replica of group %" PRIu32 " is broken",
		                    group->id);
	}
	mg_assert(!node->stepping);
	event->now_ms = node->now_ms;
	event->capacity_kib = mg_raft_log_capacity_kib(node->options.log);
	node->stepping = true;
	int rc = mg_core_step(group->core, event, &out, err);

	node->stepping = false;
	if (rc == MG_E_CORRUPT || rc == MG_E_INTERNAL) {
		mg_group_fail(group, rc);
		return rc;
	}
	if (rc != 0) {
		return rc;
	}
	follow_transfer(group, &out);
	follow_role(group, &out);
	mg_group__tell_leader(group, out.leader);
	follow_log(group, &out);
	if (out.install) {
		mg_group__install(group);
	}
	for (size_t i = 0; i < out.message_count && !group->failed; i++) {
		send_message(group, &out.messages[i]);
	}
	mg_raft_node__dirty(group);
	return 0;
}

/* ---- messages in ------------------------------------------------------------------------------
 */

static int on_append(struct mg_group *group, struct mg_message *message, struct mg_error *err)
{
	struct mg_core_info info;
	struct mg_core_event event = { .kind = MG_CORE_MESSAGE, .message = message };

	mg_core_info(group->core, &info);
	mg_armour_anchor(group->node->rules, &info, &group->snapshot.snapshot, message);
	const struct mg_entry *entries = message->append.entries;
	size_t count = message->append.count;

	do {
		size_t piece = mg_armour_piece(group->node->rules, entries, count);

		mg_assert(piece > 0 || count == 0);
		message->append.entries = piece > 0 ? entries : NULL;
		message->append.count = piece;
		int rc = mg_group__step(group, &event, err);

		if (rc != 0) {
			return rc;
		}
		if (piece > 0) {
			message->append.prev_index = entries[piece - 1].index;
			message->append.prev_term = entries[piece - 1].term;
			entries += piece;
			count -= piece;
		}
	} while (count > 0);
	return 0;
}

/* The host's own vote, noted in the log and beside the core, which keeps quiet as long as it thinks
 * that it has none. */
static void note_ballot(struct mg_group *group, uint64_t node)
{
	struct mg_raft_log_record record = { .kind = MG_RAFT_LOG_HARD_STATE };

	mg_assert(node > 0);
	mg_assert(group->ballot.term < group->term || group->ballot.vote == 0);
	group->ballot = (struct mg_hard_state){ .term = group->term, .vote = node };
	record.hard_state = group->ballot;
	mg_group__put(group, &record, 1, (struct mg_wait){ .hard_state = true });
}

/* Rule H: the answer to a request for a vote that the core would refuse unread. */
static int on_vote(struct mg_group *group, const struct mg_core_info *info,
                   const struct mg_message *request, struct mg_error *err)
{
	unsigned election_ms = group->node->options.election_ms;
	bool pre_vote = request->vote.pre_vote;
	struct mg_ballot ballot = {
		.last_index = info->last,
		.last_term = mg_group__term_of(group, info->last),
		.has_leader = group->heard_ms > 0 && group->node->now_ms < group->heard_ms + election_ms,
		.installing = group->pull >= MG_PULL_STORING,
	};

	mg_assert(info->role == MG_RAFT_FOLLOWER || !info->installing);
	if (!pre_vote && request->term > group->term && !ballot.installing &&
	    (!ballot.has_leader || request->vote.disrupt)) {
		struct mg_message raise = mg_armour_next_term(request->term - 1);
		struct mg_core_event event = { .kind = MG_CORE_MESSAGE, .message = &raise };
		int rc = mg_group__step(group, &event, err);

		if (rc != 0) {
			return rc;
		}
		mg_assert(group->term == request->term);
	}
	ballot.term = group->term;
	if (group->ballot.term == group->term) {
		ballot.vote = group->ballot.vote;
	} else if (info->term == group->term) {
		ballot.vote = info->vote; /* it was a voter earlier in this term */
	}
	struct mg_message answer = {
		.kind = MG_MESSAGE_VOTE_RESULT,
		.peer = request->peer,
		.term = pre_vote ? request->term : group->term,
		.vote_result = { .pre_vote = pre_vote,
		                 .granted = (pre_vote || request->term <= group->term) &&
		                            mg_armour_grants(&ballot, request) },
	};

	if (answer.vote_result.granted && !pre_vote && ballot.vote == 0) {
		note_ballot(group, request->peer);
	}
	send_message(group, &answer);
	return 0;
}

int mg_group__message(struct mg_group *group, struct mg_message *message, struct mg_error *err)
{
	struct mg_core_event event = { .kind = MG_CORE_MESSAGE, .message = message };
	struct mg_core_info info;

	mg_assert(message->peer > 0);
	mg_assert(message->peer != group->node->options.self);
	if (group->failed) {
		return 0;
	}
	if ((message->kind == MG_MESSAGE_APPEND || message->kind == MG_MESSAGE_INSTALL) &&
	    message->term >= group->term) {
		group->heard_ms = group->node->now_ms;
	}
	mg_core_info(group->core, &info);
	switch (message->kind) {
	case MG_MESSAGE_APPEND:
		return on_append(group, message, err);
	case MG_MESSAGE_INSTALL:
		return mg_group__on_install(group, message, err);
	case MG_MESSAGE_VOTE:
		if (!message->vote.told && mg_group__promise_left(group) > 0) {
			return 0; /* an answer would not help: who asks tries again by itself */
		}
		if (info.role == MG_RAFT_FOLLOWER && info.last > 0 &&
		    mg_armour_answers(group->node->rules, &info.members, group->node->options.self)) {
			return on_vote(group, &info, message, err);
		}
		if (!message->vote.pre_vote && message->term == group->ballot.term &&
		    group->ballot.vote != message->peer) {
			return 0; /* we have voted in this term */
		}
		break;
	case MG_MESSAGE_VOTE_RESULT:
		if (!mg_armour_counts(group->node->rules, info.role)) {
			return 0;
		}
		break;
	case MG_MESSAGE_TIMEOUT_NOW:
		if (mg_armour_elects_itself(group->node->rules, &info.members, group->node->options.self)) {
			return 0;
		}
		group->told_to_stand = message->term;
		break;
	default:
		break;
	}
	return mg_group__step(group, &event, err);
}

/* ---- turn -------------------------------------------------------------------------------------
 */

void mg_group__apply(struct mg_group *group)
{
	uint64_t upto = group->commit < group->stored ? group->commit : group->stored;

	mg_assert(!group->applying || group->batch.count > 0);
	if (group->failed || group->applying || group->freezing || group->pull >= MG_PULL_STORING ||
	    group->applied >= upto) {
		return;
	}
	struct mg_error err = { 0 };
	int rc = mg_raft_log_read(group->node->options.log, group->id, group->applied + 1, upto + 1,
	                          MG_APPLY_BYTES, &group->batch, &err);

	if (rc == MG_E_NOMEM) {
		return; /* at the next turn */
	}
	if (rc != 0) {
		mg_log(MG_LOG_ERROR, "raft.log.read", "group=%" PRIu32 " index=%" PRIu64 " error=%s",
		       group->id, group->applied + 1, err.message);
		mg_group_fail(group, rc);
		return;
	}
	mg_assert(group->batch.count > 0);
	group->applying = true;
	group->sm->ops->apply(group->sm, group->batch.entries, group->batch.count);
}

static void apply_change(struct mg_group *group, const struct mg_entry *entry)
{
	struct mg_members members;
	int rc = mg_members_decode(entry->data, entry->size, &members, NULL);

	mg_assert(entry->type == MG_ENTRY_CHANGE);
	mg_assert(rc == 0); /* the core has decoded it before */
	struct mg_core_event event = {
		.kind = MG_CORE_CHANGE_APPLIED,
		.change = { .index = entry->index, .members = &members },
	};

	(void)mg_group__step(group, &event, NULL);
}

void mg_group_applied(struct mg_group *group, uint64_t index)
{
	struct mg_raft_log *log = group->node->options.log;

	mg_assert(group->applying);
	mg_assert(index == group->batch.entries[group->batch.count - 1].index);
	struct mg_entries batch = group->batch;

	group->batch = (struct mg_entries){ 0 };
	group->applying = false;
	if (!group->closed && !group->failed) {
		group->applied = index;
		for (size_t i = 0; i < batch.count && !group->failed; i++) {
			if (batch.entries[i].type == MG_ENTRY_CHANGE) {
				apply_change(group, &batch.entries[i]);
			}
		}
		mg_group__settle(group, batch.entries, batch.count);
		mg_raft_node__dirty(group);
	}
	mg_raft_log_release(log, &batch);
	if (group->closed) {
		mg_group__free(group);
	}
}

void mg_group_not_applied(struct mg_group *group, int error)
{
	struct mg_entries batch = group->batch;

	mg_assert(group->applying);
	mg_assert(error != 0);
	group->batch = (struct mg_entries){ 0 };
	group->applying = false;
	mg_raft_log_release(group->node->options.log, &batch);
	mg_group_fail(group, error);
	if (group->closed) {
		mg_group__free(group);
	}
}

bool mg_group_is_idle(const struct mg_group *group)
{
	return !group->applying && !group->freezing && !group->marking &&
	       (group->pull == MG_PULL_NONE || group->pull == MG_PULL_READY);
}

static struct mg_told *find_told(struct mg_group *group, uint64_t node)
{
	struct mg_told *free_one = NULL;

	for (size_t i = 0; i < MG_MEMBERS_MAX; i++) {
		if (group->told[i].node == node) {
			return &group->told[i];
		}
		free_one = free_one || group->told[i].node ? free_one : &group->told[i];
	}
	if (free_one) {
		*free_one = (struct mg_told){ .node = node };
	}
	return free_one;
}

/* A follower hears of a commit with the next entry, or the next heartbeat.  When there is no next
 * entry it hears TELL_MS later, and at once when somebody there waits for it: who reads, and who
 * commits from there.  It is the heartbeat that the core would send later. */
static void tell_commit(struct mg_group *group)
{
	struct mg_core_info info;
	bool all = true;

	if (group->told_term != group->term) {
		memset(group->told, 0, sizeof group->told); /* also members that have gone */
		group->told_term = group->term;
		group->told_all = 0;
	}
	if (group->role != MG_RAFT_LEADER || group->commit == group->told_all) {
		return;
	}
	mg_core_info(group->core, &info);
	if (info.last != group->commit) {
		return;
	}
	if (group->tell_for != group->commit) {
		group->tell_for = group->commit;
		group->tell_ms = group->node->now_ms + TELL_MS;
	}
	if (!group->tell_now && group->node->now_ms < group->tell_ms) {
		return;
	}
	uint64_t term = mg_group__term_of(group, group->commit);

	for (size_t i = 0; term && i < info.members.count && !group->failed; i++) {
		uint64_t node = info.members.list[i].node, match = 0;
		struct mg_told *told = node == group->node->options.self ? NULL : find_told(group, node);

		if (!told || told->commit == group->commit) {
			continue;
		}
		if (!mg_core_match(group->core, node, &match) || match < group->commit) {
			all = false; /* when it has it */
			continue;
		}
		const struct mg_message message = {
			.kind = MG_MESSAGE_APPEND,
			.peer = node,
			.term = group->term,
			.append = { .prev_index = group->commit, .prev_term = term, .commit = group->commit },
		};

		told->commit = group->commit;
		send_message(group, &message);
	}
	group->told_all = all ? group->commit : group->told_all;
	group->tell_now = group->tell_now && !all;
}

void mg_group_tell(struct mg_group *group)
{
	mg_assert(!group->closed);
	group->tell_now = true;
	mg_raft_node__dirty(group);
}

void mg_group__turn(struct mg_group *group)
{
	mg_assert(!group->closed);
	mg_assert(!group->node->stepping);
	if (group->failed) {
		return;
	}
	mg_group__propose_queue(group);
	mg_group__start_round(group);
	tell_commit(group);
	mg_group__apply(group);
	mg_group__maybe_freeze(group);
	mg_group__arm(group);
}

/* Voters before this one, without the one that is lost. */
static unsigned rank_of(const struct mg_members *members, uint64_t self, uint64_t lost)
{
	unsigned rank = 0;

	for (size_t i = 0; i < members->count; i++) {
		const struct mg_member *member = &members->list[i];

		rank += member->role == MG_MEMBER_VOTER && member->node < self && member->node != lost;
	}
	return rank;
}

void mg_group__lost(struct mg_group *group, uint64_t peer)
{
	const struct mg_raft_node_options *options = &group->node->options;
	unsigned step_ms = options->election_ms / LOST_STEPS;
	struct mg_core_info info;

	mg_core_info(group->core, &info);
	if (group->failed || info.role != MG_RAFT_FOLLOWER || info.leader != peer) {
		return;
	}
	group->heard_ms = 0;
	if (mg_members_votes(&info.members, options->self)) {
		unsigned chance = (unsigned)(options->env->ops->random(options->env) % (step_ms + 1));
		unsigned rank = rank_of(&info.members, options->self, peer);
		/* Others may have promised a little later than this node, and would not answer; who asks
		 * in vain asks again an election timeout later. */
		unsigned left_ms = mg_group__promise_left(group) > 0 ? options->promise_ms : 0;
		struct mg_core_event event = {
			.kind = MG_CORE_LOST,
			.lost = { .node = peer, .wait_ms = left_ms + step_ms * (1 + 2 * rank) + chance },
		};

		(void)mg_group__step(group, &event, NULL);
	}
}

void mg_group__arm(struct mg_group *group)
{
	struct mg_raft_node *node = group->node;
	uint64_t deadline = group->core_ms;

	mg_assert(group->core != NULL);
	if (deadline <= node->now_ms) {
		deadline = node->now_ms + 1; /* the core's timer may lie in the past */
	}
	if ((group->queue != NULL || group->pending != NULL) && group->proposal_ms < deadline) {
		deadline = group->proposal_ms;
	}
	if ((group->reads != NULL || group->probing != NULL) && group->read_ms < deadline) {
		deadline = group->read_ms;
	}
	if (group->probing != NULL && group->round_ms < deadline) {
		deadline = group->round_ms;
	}
	if (group->role == MG_RAFT_LEADER && group->tell_for == group->commit &&
	    group->told_all != group->commit && group->tell_ms > node->now_ms &&
	    group->tell_ms < deadline) {
		deadline = group->tell_ms;
	}
	if (group->freeze_ms > node->now_ms && group->freeze_ms < deadline) {
		deadline = group->freeze_ms;
	}
	group->deadline_ms = deadline;
	if (deadline < node->deadline_ms) {
		node->deadline_ms = deadline;
	}
	mg_assert(node->deadline_ms <= group->deadline_ms);
}

/* Who has promised not to stand does not even get to that: the core's timer comes later. */
static void run_core_timer(struct mg_group *group)
{
	struct mg_core_event event = { .kind = MG_CORE_TIMER };
	struct mg_core_info info;

	mg_core_info(group->core, &info);
	bool alone = mg_armour_elects_itself(group->node->rules, &info.members,
	                                     group->node->options.self);
	unsigned left_ms = info.role == MG_RAFT_LEADER || alone ? 0 : mg_group__promise_left(group);

	if (left_ms > 0) {
		group->core_ms = group->node->now_ms + left_ms;
		return;
	}
	if (info.role == MG_RAFT_FOLLOWER && alone) {
		struct mg_message raise = mg_armour_next_term(info.term);
		struct mg_core_event first = { .kind = MG_CORE_MESSAGE, .message = &raise };

		(void)mg_group__step(group, &first, NULL);
	}
	(void)mg_group__step(group, &event, NULL);
}

void mg_group__timer(struct mg_group *group)
{
	uint64_t now = group->node->now_ms;

	mg_assert(now >= group->deadline_ms);
	if (group->failed) {
		group->deadline_ms = UINT64_MAX;
		return;
	}
	if (now >= group->core_ms) {
		run_core_timer(group);
	}
	mg_group__expire_proposals(group);
	mg_group__expire_reads(group);
	mg_raft_node__dirty(group);
	mg_group__arm(group);
	mg_assert(group->failed || group->deadline_ms > now);
}

/* ---- looks, end -------------------------------------------------------------------------------
 */

uint64_t mg_group__leader(const struct mg_group *group)
{
	struct mg_core_info info;

	mg_assert(group->core != NULL);
	mg_core_info(group->core, &info);
	mg_assert(info.leader != group->node->options.self || info.role == MG_RAFT_LEADER);
	return info.leader;
}

void mg_group_info(const struct mg_group *group, struct mg_group_info *out)
{
	struct mg_raft_log_state state = { .first = 1 };

	mg_assert(group->core != NULL);
	*out = (struct mg_group_info){ .applied = group->applied, .failed = group->failed };
	mg_core_info(group->core, &out->core);
	(void)mg_raft_log_state(group->node->options.log, group->id, &state);
	out->first = state.first;
	out->last = state.last;
	out->can_read = mg_group__can_read(group);
	mg_assert(out->applied <= out->core.last || group->pull >= MG_PULL_STORING);
}

bool mg_group_match(const struct mg_group *group, uint64_t node, uint64_t *index)
{
	mg_assert(group->core != NULL);
	mg_assert(node > 0);
	return mg_core_match(group->core, node, index);
}

int mg_group_transfer(struct mg_group *group, uint64_t node, struct mg_error *err)
{
	struct mg_core_event event = { .kind = MG_CORE_TRANSFER, .node = node };

	mg_assert(group->core != NULL);
	mg_assert(!group->closed);
	return mg_group__step(group, &event, err);
}

void mg_group_fail(struct mg_group *group, int error)
{
	mg_assert(error != 0);
	if (group->failed || group->closed) {
		return;
	}
	group->failed = error;
	mg_log(MG_LOG_ERROR, "raft.group.failed", "group=%" PRIu32 " code=%d applied=%" PRIu64,
	       group->id, error, group->applied);
	mg_group__tell_leader(group, 0); /* nothing is heard of it here any more */
	mg_group__fail_reads(group, error);
	mg_group__refuse_queue(group, error);
	mg_group__unknown(group, UINT64_MAX);
	mg_assert(group->pending == NULL);
}

/* When nobody will answer any more; else the last answer comes back here. */
void mg_group__free(struct mg_group *group)
{
	mg_assert(group->closed);
	mg_assert(!group->dirty);
	if (group->wait_count > 0 || group->applying || group->freezing ||
	    group->pull == MG_PULL_RUNNING || group->pull == MG_PULL_ADOPTING) {
		return;
	}
	for (size_t i = 0; i < group->held_count; i++) {
		mg_buf_unref(group->held[i].frame);
	}
	mg_manifest_fini(&group->snapshot);
	mg_manifest_fini(&group->taken);
	mg_manifest_fini(&group->pulled);
	mg_core_free(group->core);
	mg_free(group->waits);
	mg_free(group->held);
	mg_free(group);
}
