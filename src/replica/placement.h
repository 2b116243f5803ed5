/*
 * placement.h - where the replicas of a group should be, and the next step towards it.
 *
 * Wanted: a replica on every node that is a member of the cluster, MG_PLACEMENT_VOTERS of them with
 * a vote, the others as standbys, which have the rows and are the next to vote.  In group 0 who
 * votes already goes on, then come nodes that are there, those first that vote in every shard; in a
 * shard who votes in group 0, then nodes that are there.  A node that has been away for long (dead)
 * comes after all that are there: its vote goes to one of them, and it stays a standby when it is
 * back.
 *
 * One step at a time, each of them safe by itself, so that whoever leads the group next goes on:
 *
 *     comes: ADD -> PROMOTE; in group 0 only when it votes in all shards
 *     goes:  others first -> DEMOTE -> REMOVE; in the shards only when it has no vote in group 0,
 *            and from group 0 only when it has no shard: from there it knows that it goes
 *     gone:  REMOVE
 *     dead, and another one is there:  DEMOTE -> then that one comes.  Not the other way round:
 *            nobody is promoted while a voter does not know all members (armour.h, C), and a group
 *            of three that lacks one can lose no other anyway
 *
 * so that the leader of group 0, who coordinates writes, has a vote in every shard.
 *
 * Rule: never a step after which the voters that are connected are no majority.
 *
 * Pure; any thread.
 */
#ifndef MG_REPLICA_PLACEMENT_H
#define MG_REPLICA_PLACEMENT_H

#include "raft/members.h"

#define MG_PLACEMENT_VOTERS 3

enum mg_placed {
	MG_PLACED_MEMBER,   /* should have replicas */
	MG_PLACED_DRAINING, /* should have none, and is there */
	MG_PLACED_REMOVED,  /* is no node any more */
};

struct mg_placed_node {
	uint64_t number;
	enum mg_placed state;
	bool connected; /* or this node itself */
	bool dead;      /* not connected, for longer than its vote is kept for it */
};

struct mg_placement {
	const struct mg_placed_node *nodes; /* by number */
	size_t node_count;
	uint64_t self; /* leads the group */
	bool catalog;  /* it is group 0 */
	const struct mg_members *members;
	/* Of a shard: the members of group 0.  Of group 0: who has any shard, as a voter when it votes
	 * in every one. */
	const struct mg_members *others;
};

enum mg_placement_kind {
	MG_STEP_NONE,
	MG_STEP_ADD,
	MG_STEP_PROMOTE,
	MG_STEP_DEMOTE,
	MG_STEP_REMOVE,
	MG_STEP_TRANSFER, /* this node leads and goes: to that one */
};

struct mg_placement_step {
	enum mg_placement_kind kind;
	uint64_t node;
};

/* The members that the group should have, whoever leads it.  Nobody: nothing is to be done. */
void mg_placement_wanted(const struct mg_placement *placement, struct mg_members *out);
struct mg_placement_step mg_placement_next(const struct mg_placement *placement);
const char *mg_placement_kind_name(enum mg_placement_kind kind);

#endif
