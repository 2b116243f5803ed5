/*
 * replica_kit.h - a replica for tests of src/replica: a host, one group, a state machine that keeps
 * the commands it was told, and applies them on a thread of its own.
 *
 * The list is in memory, so a start applies the whole log again: what it holds then is what the
 * log has kept.
 */
#ifndef MG_TEST_REPLICA_KIT_H
#define MG_TEST_REPLICA_KIT_H

#include "base/assert.h"
#include "base/mem.h"
#include "os/clock.h"
#include "replica/raft_host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KIT_GROUP 1
#define KIT_SEGMENT (1024u * 1024)
/* Long enough for a machine in trouble, short enough to end a test that hangs. */
#define KIT_PATIENCE_MS 30000

/* A command: who said it, and its how many-th. */
struct kit_command {
	uint32_t from, number;
};

struct kit_replica {
	struct mg_sm sm; /* first */
	struct mg_raft_host *host;
	struct mg_group *group; /* raft thread */
	pthread_t applier;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	const struct mg_entry *entries; /* in hand */
	size_t count;
	bool ending;
	struct kit_command *applied;
	size_t applied_count, applied_cap;
	uint64_t applied_index;
	enum mg_raft_role role;
	uint64_t leader;
};

static void kit_apply(struct mg_sm *sm, const struct mg_entry *entries, size_t count)
{
	struct kit_replica *replica = (struct kit_replica *)sm;

	pthread_mutex_lock(&replica->lock);
	mg_assert(replica->count == 0);
	replica->entries = entries;
	replica->count = count;
	pthread_cond_broadcast(&replica->changed);
	pthread_mutex_unlock(&replica->lock);
}

static uint64_t kit_durable_index(struct mg_sm *sm)
{
	(void)sm;
	return 0;
}

static void kit_freeze(struct mg_sm *sm)
{
	(void)sm;
	mg_assert(!"no test writes enough for a snapshot");
}

static void kit_pull(struct mg_sm *sm, uint64_t peer, const struct mg_manifest *manifest)
{
	(void)sm;
	(void)peer;
	(void)manifest;
	mg_assert(!"nobody has a snapshot to offer");
}

static void kit_adopt(struct mg_sm *sm, const struct mg_manifest *manifest)
{
	(void)sm;
	(void)manifest;
	mg_assert(!"nothing was pulled");
}

static const struct mg_sm_ops kit_sm_ops = {
	.apply = kit_apply,
	.durable_index = kit_durable_index,
	.freeze = kit_freeze,
	.pull = kit_pull,
	.adopt = kit_adopt,
};

static void kit_answer(void *arg)
{
	struct kit_replica *replica = arg;

	if (mg_raft_host_node(replica->host)) {
		mg_group_applied(replica->group, replica->applied_index);
	}
}

static void *kit_applier(void *arg)
{
	struct kit_replica *replica = arg;

	pthread_mutex_lock(&replica->lock);
	for (;;) {
		while (!replica->count && !replica->ending) {
			pthread_cond_wait(&replica->changed, &replica->lock);
		}
		if (!replica->count) {
			break;
		}
		for (size_t i = 0; i < replica->count; i++) {
			const struct mg_entry *entry = &replica->entries[i];

			mg_assert(entry->index == replica->applied_index + 1);
			replica->applied_index = entry->index;
			if (entry->type == MG_ENTRY_COMMAND) {
				mg_assert(entry->size >= sizeof(struct kit_command));
				mg_grow(replica->applied, replica->applied_count, replica->applied_cap);
				memcpy(&replica->applied[replica->applied_count++], entry->data,
				       sizeof(struct kit_command));
			}
		}
		replica->count = 0;
		pthread_cond_broadcast(&replica->changed);
		/* Under our lock: applied_index is read by the answer, and nothing is applied before it. */
		mg_raft_host_post(replica->host, kit_answer, replica);
	}
	pthread_mutex_unlock(&replica->lock);
	return NULL;
}

static void kit_on_role(void *arg, uint32_t group, enum mg_raft_role role, uint64_t term)
{
	struct kit_replica *replica = arg;

	(void)group;
	(void)term;
	pthread_mutex_lock(&replica->lock);
	replica->role = role;
	pthread_cond_broadcast(&replica->changed);
	pthread_mutex_unlock(&replica->lock);
}

/* A replica of KIT_GROUP on node `self` of nodes 1 .. members, born when the log is empty; its host
 * is not started yet. */
static void kit_open_with(struct kit_replica *replica, const char *dir, uint64_t self,
                          uint64_t members, struct mg_net *net,
                          void (*on_failed)(void *arg, int code))
{
	struct mg_error err = { 0 };
	struct mg_raft_host_options options = {
		.dir = dir,
		.self = self,
		.net = net,
		.log_segment_bytes = KIT_SEGMENT,
		.on_failed = on_failed,
		.raft = { .election_ms = 300,
		          .heartbeat_ms = 50,
		          .on_role = kit_on_role,
		          .watch_arg = replica },
	};

	*replica = (struct kit_replica){ .sm = { &kit_sm_ops } };
	pthread_mutex_init(&replica->lock, NULL);
	pthread_cond_init(&replica->changed, NULL);
	if (mg_raft_host_open(&replica->host, &options, &err)) {
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	struct mg_raft_node *node = mg_raft_host_node(replica->host);
	struct mg_members list = { 0 };

	for (uint64_t i = 1; i <= members; i++) {
		mg_assert(mg_members_set(&list, i, MG_MEMBER_VOTER, NULL) == 0);
	}
	if (!mg_raft_node_knows(node, KIT_GROUP)) {
		mg_assert(mg_raft_node_birth(node, KIT_GROUP, &list, NULL) == 0);
	}
	mg_assert(mg_raft_node_open(node, KIT_GROUP, &replica->sm, &replica->group, &err) == 0);
	mg_assert(pthread_create(&replica->applier, NULL, kit_applier, replica) == 0);
}

static void kit_open(struct kit_replica *replica, const char *dir, uint64_t self, uint64_t members,
                     struct mg_net *net)
{
	kit_open_with(replica, dir, self, members, net, NULL);
}

/* The first half of the end: nothing is applied and nothing is sent any more. */
static void kit_stop(struct kit_replica *replica)
{
	/* First the state machine, which may be reading what the node has handed it. */
	pthread_mutex_lock(&replica->lock);
	bool first = !replica->ending;

	replica->ending = true;
	pthread_cond_broadcast(&replica->changed);
	pthread_mutex_unlock(&replica->lock);
	if (first) {
		pthread_join(replica->applier, NULL);
	}
	mg_raft_host_stop(replica->host);
}

static void kit_close(struct kit_replica *replica)
{
	kit_stop(replica);
	mg_raft_host_close(replica->host);
	mg_free(replica->applied);
	pthread_cond_destroy(&replica->changed);
	pthread_mutex_destroy(&replica->lock);
}

static void kit_wait(struct kit_replica *replica, const char *what)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += KIT_PATIENCE_MS / 1000;
	if (pthread_cond_timedwait(&replica->changed, &replica->lock, &until) != 0) {
		fprintf(stderr, "waited %u ms in vain for %s\n", KIT_PATIENCE_MS, what);
		abort();
	}
}

static void kit_await_leader(struct kit_replica *replica)
{
	pthread_mutex_lock(&replica->lock);
	while (replica->role != MG_RAFT_LEADER) {
		kit_wait(replica, "leadership");
	}
	pthread_mutex_unlock(&replica->lock);
}

static __attribute__((unused)) void kit_await_applied(struct kit_replica *replica, size_t commands)
{
	pthread_mutex_lock(&replica->lock);
	while (replica->applied_count < commands) {
		kit_wait(replica, "commands to be applied");
	}
	pthread_mutex_unlock(&replica->lock);
}

/* ---- proposing --------------------------------------------------------------------------------
 */

/* One that proposes, with a window of so many under way. */
struct kit_proposer {
	struct kit_replica *replica;
	uint32_t from;
	unsigned window;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned under_way;
	uint32_t acknowledged; /* in order, because the log is */
	int error;             /* the first one */
	void (*on_ack)(struct kit_proposer *proposer, uint32_t number);
};

struct kit_proposal {
	struct kit_proposer *proposer;
	struct kit_command command;
};

static void kit_proposed(void *arg, int error, uint64_t index, uint64_t leader)
{
	struct kit_proposal *proposal = arg;
	struct kit_proposer *proposer = proposal->proposer;

	(void)index;
	(void)leader;
	pthread_mutex_lock(&proposer->lock);
	if (error) {
		proposer->error = proposer->error ? proposer->error : error;
	} else {
		mg_assert(proposal->command.number > proposer->acknowledged);
		proposer->acknowledged = proposal->command.number;
		if (proposer->on_ack) {
			proposer->on_ack(proposer, proposal->command.number);
		}
	}
	proposer->under_way--;
	pthread_cond_signal(&proposer->changed);
	pthread_mutex_unlock(&proposer->lock);
	mg_free(proposal);
}

static void kit_propose_now(void *arg)
{
	struct kit_proposal *proposal = arg;
	struct kit_replica *replica = proposal->proposer->replica;
	int code = mg_raft_host_node(replica->host)
	               ? mg_group_propose(replica->group, &proposal->command, sizeof proposal->command,
	                                  kit_proposed, proposal, NULL)
	               : MG_E_SHUTDOWN;

	if (code) {
		kit_proposed(proposal, code, 0, 0);
	}
}

static void kit_proposer_init(struct kit_proposer *proposer, struct kit_replica *replica,
                              uint32_t from, unsigned window)
{
	*proposer = (struct kit_proposer){ .replica = replica, .from = from, .window = window };
	pthread_mutex_init(&proposer->lock, NULL);
	pthread_cond_init(&proposer->changed, NULL);
}

static void kit_proposer_fini(struct kit_proposer *proposer)
{
	pthread_cond_destroy(&proposer->changed);
	pthread_mutex_destroy(&proposer->lock);
}

/* Propose numbers first .. last, and wait for all; ends early at an error.  Returns it. */
static int kit_propose(struct kit_proposer *proposer, uint32_t first, uint32_t last)
{
	for (uint32_t number = first; number <= last; number++) {
		struct kit_proposal *proposal = mg_alloc(sizeof *proposal);

		*proposal = (struct kit_proposal){ proposer, { proposer->from, number } };
		pthread_mutex_lock(&proposer->lock);
		while (proposer->under_way == proposer->window) {
			pthread_cond_wait(&proposer->changed, &proposer->lock);
		}
		bool go = !proposer->error;
		proposer->under_way += go;
		pthread_mutex_unlock(&proposer->lock);
		if (!go) {
			mg_free(proposal);
			break;
		}
		mg_raft_host_post(proposer->replica->host, kit_propose_now, proposal);
	}
	pthread_mutex_lock(&proposer->lock);
	while (proposer->under_way) {
		pthread_cond_wait(&proposer->changed, &proposer->lock);
	}
	int error = proposer->error;
	pthread_mutex_unlock(&proposer->lock);
	return error;
}

#endif
