/*
 * check.c - what must never happen, and what must.
 *
 *     election safety   one leader of a term
 *     completeness      a new leader holds every entry that leaders of earlier terms committed
 *     log equality      one hash for each applied index, on all replicas, for ever
 *     no lost commit    an acknowledged command is at its index
 *     no ghost          a command that was said not to have happened never does; none happens twice
 *     no stale read     a read's index is not below what was applied anywhere when it was asked for
 *     liveness          in the calm at the end every group writes, reads, ends its change of
 * members, and all its members come to the same index
 */
#include "sim.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum command_end { COMMAND_OPEN, COMMAND_DONE, COMMAND_REFUSED, COMMAND_UNKNOWN };

struct applied {
	uint64_t term, hash, command;
	uint64_t under; /* no leader of a higher term had been elected when it was committed */
};

static struct {
	struct applied *log; /* from index 1 */
	size_t count, cap;
	uint32_t *leaders; /* by term */
	size_t leader_cap;
	uint64_t calm_committed, calm_acknowledged, acknowledged;
	uint64_t calm_reads, reads;
	uint64_t highest; /* term with a leader */
} groups[SIM_GROUPS_MAX];

static struct command {
	uint32_t group;
	enum command_end end;
	uint64_t index; /* where it was first applied */
} * commands;       /* from 1 */
static size_t command_count, command_cap;

void sim_check_begin(void)
{
	command_count = 1;
	mg_grow(commands, command_count, command_cap);
	memset(groups, 0, sizeof groups);
}

void sim_check_fini(void)
{
	for (size_t i = 0; i < SIM_GROUPS_MAX; i++) {
		sim.result.committed += groups[i].count;
		mg_free(groups[i].log);
		mg_free(groups[i].leaders);
	}
	memset(groups, 0, sizeof groups);
	mg_free(commands);
	commands = NULL;
	command_cap = 0;
}

uint64_t sim_committed(uint32_t group)
{
	return groups[group].count;
}

static void check_completeness(uint32_t node, uint32_t group, uint64_t term)
{
	uint64_t index = groups[group].count;
	const struct sim_replica_log *log = &sim.nodes[node].disk.put[group];

	while (index > 0 && groups[group].log[index - 1].under >= term) {
		index--;
	}
	if (index == 0 || index <= log->mark.index) {
		return;
	}
	if (index >= log->first + log->count || index < log->first ||
	    log->entries[index - log->first].term != groups[group].log[index - 1].term) {
		sim_fail("node %u leads term %" PRIu64 " of group %u without the committed entry %" PRIu64,
		         node, term, group, index);
	}
}

void sim_check_role(uint32_t node, uint32_t group, enum mg_raft_role role, uint64_t term)
{
	if (role != MG_RAFT_LEADER) {
		return;
	}
	sim.result.elections++;
	if (term >= groups[group].leader_cap) {
		size_t cap = (size_t)term * 2 + 64;

		groups[group].leaders = mg_realloc(groups[group].leaders, cap * sizeof(uint32_t));
		memset(groups[group].leaders + groups[group].leader_cap, 0,
		       (cap - groups[group].leader_cap) * sizeof(uint32_t));
		groups[group].leader_cap = cap;
	}
	if (groups[group].leaders[term] != 0 && groups[group].leaders[term] != node) {
		sim_fail("nodes %u and %u both lead term %" PRIu64 " of group %u",
		         groups[group].leaders[term], node, term, group);
	}
	groups[group].leaders[term] = node;
	groups[group].highest = term > groups[group].highest ? term : groups[group].highest;
	check_completeness(node, group, term);
}

static void note_command(uint32_t group, uint64_t index, uint64_t id)
{
	struct command *command = &commands[id];

	mg_assert(id < command_count);
	if (command->index != 0 || command->group != group) {
		sim_fail("command %" PRIu64 " of group %u is applied at %" PRIu64 " and at %" PRIu64, id,
		         group, command->index, index);
	}
	command->index = index;
	if (command->end == COMMAND_REFUSED) {
		sim_fail("command %" PRIu64 " was refused and is applied at %" PRIu64 " of group %u", id,
		         index, group);
	}
}

void sim_check_applied(uint32_t group, uint64_t index, uint64_t term, uint64_t hash,
                       uint64_t command)
{
	if (index <= groups[group].count) {
		if (groups[group].log[index - 1].hash != hash) {
			sim_fail("replicas of group %u differ at %" PRIu64, group, index);
		}
		return;
	}
	if (index != groups[group].count + 1) {
		sim_fail("group %u applies %" PRIu64 " when nobody has applied %" PRIu64, group, index,
		         index - 1);
		return;
	}
	mg_grow(groups[group].log, groups[group].count, groups[group].cap);
	groups[group].log[groups[group].count++] = (struct applied){
		.term = term,
		.hash = hash,
		.command = command,
		.under = groups[group].highest,
	};
	if (command != 0) {
		note_command(group, index, command);
	}
}

uint64_t sim_command_new(uint32_t group)
{
	mg_grow(commands, command_count, command_cap);
	commands[command_count] = (struct command){ .group = group };
	return command_count++;
}

void sim_command_withdrawn(uint64_t command)
{
	commands[command].end = COMMAND_REFUSED;
}

void sim_command_ended(uint64_t id, int error, uint64_t index)
{
	struct command *command = &commands[id];

	if (command->end != COMMAND_OPEN) {
		sim_fail("command %" PRIu64 " ended twice", id);
	}
	if (error == 0) {
		command->end = COMMAND_DONE;
		sim.result.acknowledged++;
		groups[command->group].acknowledged++;
		if (command->index != index || groups[command->group].log[index - 1].command != id) {
			sim_fail("command %" PRIu64 " was acknowledged at %" PRIu64
			         " but is applied at %" PRIu64,
			         id, index, command->index);
		}
	} else if (error == MG_E_UNKNOWN_OUTCOME) {
		command->end = COMMAND_UNKNOWN;
		sim.result.unknown++;
	} else {
		command->end = COMMAND_REFUSED;
		sim.result.refused++;
		if (command->index != 0) {
			sim_fail("command %" PRIu64 " was applied at %" PRIu64 " and is refused", id,
			         command->index);
		}
	}
}

void sim_read_ended(uint32_t group, uint64_t asked_ms, uint64_t committed_before, int error,
                    uint64_t index)
{
	if (error != 0) {
		return;
	}
	sim.result.reads++;
	sim.result.leased += asked_ms == sim.now_ms; /* no round is as short */
	groups[group].reads++;
	if (index < committed_before) {
		sim_fail("a read of group %u got index %" PRIu64 ", but %" PRIu64 " was applied before it",
		         group, index, committed_before);
	}
}

void sim_check_calm(void)
{
	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		groups[group].calm_committed = groups[group].count;
		groups[group].calm_acknowledged = groups[group].acknowledged;
		groups[group].calm_reads = groups[group].reads;
	}
}

static void check_members(uint32_t group, const struct mg_group_info *leader)
{
	for (size_t i = 0; i < leader->core.members.count; i++) {
		uint32_t node = (uint32_t)leader->core.members.list[i].node;
		struct mg_group *it = sim_group(node, group);
		struct mg_group_info info;

		if (it == NULL) {
			sim_fail("member %u of group %u has no replica", node, group);
			return;
		}
		mg_group_info(it, &info);
		if (info.applied < groups[group].calm_committed) {
			sim_fail("node %u has applied %" PRIu64 " of group %u in the calm, not %" PRIu64, node,
			         info.applied, group, groups[group].calm_committed);
		}
	}
}

/* Of the highest term; its term is 0: nobody leads. */
static struct mg_group_info leader_of(uint32_t group)
{
	struct mg_group_info info, leader = { 0 };

	for (uint32_t node = 1; node <= SIM_NODES; node++) {
		struct mg_group *it = sim_group(node, group);

		if (it != NULL) {
			mg_group_info(it, &info);
			leader = info.core.role == MG_RAFT_LEADER && info.core.term > leader.core.term ? info
			                                                                               : leader;
		}
	}
	return leader;
}

bool sim_check_led(void)
{
	bool led = true;

	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		led = led && leader_of(group).core.term != 0;
	}
	return led;
}

void sim_check_end(void)
{
	for (uint32_t group = 0; group < sim.profile.groups; group++) {
		struct mg_group_info leader = leader_of(group);

		if (leader.core.term == 0 ||
		    groups[group].acknowledged <= groups[group].calm_acknowledged) {
			sim_fail("group %u writes nothing in the calm", group);
		} else if (groups[group].reads <= groups[group].calm_reads) {
			sim_fail("group %u reads nothing in the calm", group);
		} else if (leader.core.pending_members_index != 0 &&
		           leader.core.pending_members_index <= leader.applied) {
			sim_fail("the change of members at %" PRIu64 " of group %u never ends",
			         leader.core.pending_members_index, group);
		} else {
			check_members(group, &leader);
		}
	}
}
