/* raft_kit.h - one mg_core for a test: short ways to start it and to step it. */
#ifndef MG_TEST_RAFT_KIT_H
#define MG_TEST_RAFT_KIT_H

#include "raft/armour.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct kit {
	struct mg_core *core;
	uint64_t now_ms;
	struct mg_core_out out;
	struct mg_error err;
};

static inline struct mg_members kit_voters(size_t count)
{
	struct mg_members members = { 0 };

	for (size_t i = 1; i <= count; i++) {
		members.list[members.count++] = (struct mg_member){ .node = i, .role = MG_MEMBER_VOTER };
	}
	return members;
}

/* A CHANGE entry; its bytes lie in `bytes`. */
static inline struct mg_entry kit_change(uint64_t index, uint64_t term,
                                         const struct mg_members *members,
                                         uint8_t bytes[MG_MEMBERS_SIZE_MAX])
{
	return (struct mg_entry){ .index = index,
		                      .term = term,
		                      .type = MG_ENTRY_CHANGE,
		                      .size = (uint32_t)mg_members_encode(members, bytes),
		                      .data = bytes };
}

static inline struct mg_entry kit_command(uint64_t index, uint64_t term)
{
	return (struct mg_entry){ .index = index,
		                      .term = term,
		                      .type = MG_ENTRY_COMMAND,
		                      .size = 1,
		                      .data = (const uint8_t *)"x" };
}

static inline int kit_step(struct kit *kit, struct mg_core_event event)
{
	event.now_ms = kit->now_ms;
	event.capacity_kib = 60000;
	mg_error_clear(&kit->err);
	return mg_core_step(kit->core, &event, &kit->out, &kit->err);
}

static inline void kit_new(struct kit *kit, uint64_t self)
{
	*kit = (struct kit){ .now_ms = 1000 };
	kit->core = mg_core_new(&(struct mg_core_options){
		.self = self,
		.seed = self,
		.election_ms = 1000,
		.heartbeat_ms = 100,
		.install_ms = 30000,
		.inflight_max = 64,
	});
}

/* Node `self` of `voters`, with the birth entry and `commands` commands of term 1. */
static inline void kit_start(struct kit *kit, uint64_t self, size_t voters, size_t commands)
{
	uint8_t bytes[MG_MEMBERS_SIZE_MAX];
	struct mg_members members = kit_voters(voters);
	struct mg_entry entries[64];

	mg_assert(commands < 64);
	kit_new(kit, self);
	entries[0] = kit_change(1, 1, &members, bytes);
	for (size_t i = 1; i <= commands; i++) {
		entries[i] = kit_command(i + 1, 1);
	}
	int rc = kit_step(kit, (struct mg_core_event){ .kind = MG_CORE_START,
	                                               .start.hard_state = { .term = 1 },
	                                               .start.first = 1,
	                                               .start.entries = entries,
	                                               .start.count = commands + 1 });

	mg_assert(rc == 0);
}

/* A node that starts from a snapshot of term 1. */
static inline void kit_start_snapshot(struct kit *kit, uint64_t self, size_t voters,
                                      const struct mg_snapshot *snapshot)
{
	(void)voters;
	kit_new(kit, self);
	int rc = kit_step(kit, (struct mg_core_event){ .kind = MG_CORE_START,
	                                               .start.hard_state = { .term = 1 },
	                                               .start.snapshot = snapshot,
	                                               .start.first = snapshot->index + 1 });

	mg_assert(rc == 0);
}

static inline int kit_message(struct kit *kit, const struct mg_message *message)
{
	return kit_step(kit, (struct mg_core_event){ .kind = MG_CORE_MESSAGE, .message = message });
}

static inline int kit_timer(struct kit *kit)
{
	kit->now_ms = kit->out.next_timer_ms;
	return kit_step(kit, (struct mg_core_event){ .kind = MG_CORE_TIMER });
}

static inline int kit_append(struct kit *kit, uint64_t leader, uint64_t term, uint64_t prev_index,
                             uint64_t prev_term, uint64_t commit, const struct mg_entry *entries,
                             size_t count)
{
	struct mg_message message = {
		.kind = MG_MESSAGE_APPEND,
		.peer = leader,
		.term = term,
		.append = { prev_index, prev_term, commit, entries, count },
	};

	return kit_message(kit, &message);
}

static inline void kit_stored(struct kit *kit, uint64_t index)
{
	int rc = kit_step(kit, (struct mg_core_event){ .kind = MG_CORE_STORED, .stored = index });

	mg_assert(rc == 0);
}

/* Elect it: time-out, pre-votes, votes of all other voters of three. */
static inline void kit_elect(struct kit *kit)
{
	struct mg_core_info info;

	(void)kit_timer(kit);
	mg_core_info(kit->core, &info);
	mg_assert(info.role == MG_RAFT_CANDIDATE);
	for (int pre_vote = 1; pre_vote >= 0; pre_vote--) {
		mg_core_info(kit->core, &info);
		for (size_t i = 0; i < info.members.count; i++) {
			struct mg_message vote = {
				.kind = MG_MESSAGE_VOTE_RESULT,
				.peer = info.members.list[i].node,
				.term = info.term + (uint64_t)pre_vote,
				.vote_result = { .granted = true,
				                 .pre_vote = pre_vote,
				                 .features = 1,
				                 .capacity = 60000 },
			};

			if (kit->out.role == MG_RAFT_CANDIDATE && (vote.peer == 2 || vote.peer == 3)) {
				(void)kit_message(kit, &vote);
				break;
			}
		}
	}
	mg_assert(kit->out.role == MG_RAFT_LEADER);
}

static inline int kit_result(struct kit *kit, uint64_t peer, uint64_t term, uint64_t rejected,
                             uint64_t last)
{
	struct mg_message message = {
		.kind = MG_MESSAGE_APPEND_RESULT,
		.peer = peer,
		.term = term,
		.append_result = { .rejected = rejected, .last = last, .features = 1, .capacity = 60000 },
	};

	return kit_message(kit, &message);
}

static inline void kit_free(struct kit *kit)
{
	mg_core_free(kit->core);
}

/* Does it abort?  In a child, whose words are dropped. */
static inline bool kit_aborts(void (*work)(void *arg), void *arg)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		(void)!freopen("/dev/null", "w", stderr);
		work(arg);
		_exit(0);
	}
	mg_assert(child > 0);
	mg_assert(waitpid(child, &status, 0) == child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
