/* placement.c - see placement.h. */
#include "replica/placement.h"

#include "base/assert.h"

static const struct mg_placed_node *find(const struct mg_placed_node *nodes, size_t count,
                                         uint64_t number)
{
	for (size_t i = 0; i < count; i++) {
		if (nodes[i].number == number) {
			return &nodes[i];
		}
	}
	return NULL;
}

static bool is_connected(const struct mg_placement *at, uint64_t node)
{
	const struct mg_placed_node *known = find(at->nodes, at->node_count, node);

	return node == at->self || (known && known->connected && known->state != MG_PLACED_REMOVED);
}

enum { RANK_MAX = 5 };

/* How much a node should vote; 0: not at all.  Shards look at group 0 rather than at who votes in
 * them: so all of them take the same nodes, without which group 0 could not follow. */
static int rank(const struct mg_placement *at, const struct mg_placed_node *node)
{
	bool there = is_connected(at, node->number), other = mg_members_votes(at->others, node->number);

	if (node->state != MG_PLACED_MEMBER) {
		return 0;
	}
	if (node->dead && !there) {
		return 1;
	}
	if (at->catalog ? mg_members_votes(at->members, node->number) : other) {
		return RANK_MAX;
	}
	return 1 + 2 * there + other;
}

void mg_placement_wanted(const struct mg_placement *at, struct mg_members *out)
{
	*out = (struct mg_members){ 0 };
	for (int wanted = RANK_MAX; wanted > 0; wanted--) {
		for (size_t i = 0; i < at->node_count && out->count < MG_MEMBERS_MAX; i++) {
			enum mg_member_role role =
				mg_members_voters(out) < MG_PLACEMENT_VOTERS ? MG_MEMBER_VOTER : MG_MEMBER_STANDBY;

			if (rank(at, &at->nodes[i]) == wanted) {
				(void)mg_members_set(out, at->nodes[i].number, role, NULL);
			}
		}
	}
}

/* Would those be enough that vote without this node? */
static bool can_do_without(const struct mg_placement *at, uint64_t node)
{
	size_t voters = 0, connected = 0;

	for (size_t i = 0; i < at->members->count; i++) {
		const struct mg_member *member = &at->members->list[i];

		if (member->role == MG_MEMBER_VOTER && member->node != node) {
			voters++;
			connected += is_connected(at, member->node);
		}
	}
	return connected > voters / 2;
}

/* Another voter to lead in place of this node; 0: none. */
static uint64_t successor(const struct mg_placement *at, const struct mg_members *wanted)
{
	for (size_t i = 0; i < at->members->count; i++) {
		uint64_t node = at->members->list[i].node;

		if (node != at->self && mg_members_votes(at->members, node) &&
		    mg_members_votes(wanted, node) && is_connected(at, node)) {
			return node;
		}
	}
	return 0;
}

static struct mg_placement_step step(enum mg_placement_kind kind, uint64_t node)
{
	return (struct mg_placement_step){ node ? kind : MG_STEP_NONE, node };
}

/* Take the vote from this member, or the rest when it has none; `gone`: both at once. */
static struct mg_placement_step take_away(const struct mg_placement *at,
                                          const struct mg_members *wanted, uint64_t node, bool gone)
{
	if (!at->catalog && mg_members_votes(at->others, node)) {
		return step(MG_STEP_NONE, 0);
	}
	if (node == at->self) {
		return step(MG_STEP_TRANSFER, successor(at, wanted));
	}
	if (!mg_members_votes(at->members, node)) {
		bool stays = mg_members_find(wanted, node) != NULL;
		/* Who leads a shard gives it away once group 0 has told it that it has no vote there. */
		bool is_needed = at->catalog && !gone && mg_members_find(at->others, node) != NULL;

		return step(stays || is_needed ? MG_STEP_NONE : MG_STEP_REMOVE, node);
	}
	if (!can_do_without(at, node)) {
		return step(MG_STEP_NONE, 0);
	}
	return step(gone ? MG_STEP_REMOVE : MG_STEP_DEMOTE, node);
}

static struct mg_placement_step remove_gone(const struct mg_placement *at,
                                            const struct mg_members *wanted)
{
	struct mg_placement_step next = { 0 };

	for (size_t i = 0; next.kind == MG_STEP_NONE && i < at->members->count; i++) {
		uint64_t node = at->members->list[i].node;
		const struct mg_placed_node *known = find(at->nodes, at->node_count, node);

		if (!known || known->state == MG_PLACED_REMOVED) {
			next = take_away(at, wanted, node, true);
		}
	}
	return next;
}

static bool is_dead(const struct mg_placement *at, uint64_t node)
{
	const struct mg_placed_node *known = find(at->nodes, at->node_count, node);

	return known && known->dead && !is_connected(at, node);
}

/* Somebody who is there, and has the rows, would vote in place of one that is dead. */
static bool has_replacement(const struct mg_placement *at, const struct mg_members *wanted)
{
	for (size_t i = 0; i < wanted->count; i++) {
		uint64_t node = wanted->list[i].node;

		if (mg_members_votes(wanted, node) && !mg_members_votes(at->members, node) &&
		    mg_members_find(at->members, node) && is_connected(at, node)) {
			return true;
		}
	}
	return false;
}

static struct mg_placement_step demote_dead(const struct mg_placement *at,
                                            const struct mg_members *wanted)
{
	struct mg_placement_step next = { 0 };
	bool replaced = !at->catalog || has_replacement(at, wanted);

	for (size_t i = 0; replaced && next.kind == MG_STEP_NONE && i < at->members->count; i++) {
		uint64_t node = at->members->list[i].node;

		if (is_dead(at, node) && mg_members_votes(at->members, node) &&
		    !mg_members_votes(wanted, node)) {
			next = take_away(at, wanted, node, false);
		}
	}
	return next;
}

static struct mg_placement_step add_missing(const struct mg_placement *at,
                                            const struct mg_members *wanted)
{
	for (size_t i = 0; i < wanted->count; i++) {
		uint64_t node = wanted->list[i].node;

		if (!is_connected(at, node)) {
			continue;
		}
		if (!mg_members_find(at->members, node)) {
			return step(MG_STEP_ADD, node);
		}
		if (mg_members_votes(wanted, node) && !mg_members_votes(at->members, node) &&
		    (!at->catalog || mg_members_votes(at->others, node))) {
			return step(MG_STEP_PROMOTE, node);
		}
	}
	return step(MG_STEP_NONE, 0);
}

/* All that should vote and can do so; then others may go. */
static bool is_complete(const struct mg_placement *at, const struct mg_members *wanted)
{
	for (size_t i = 0; i < wanted->count; i++) {
		uint64_t node = wanted->list[i].node;

		if (mg_members_votes(wanted, node) && is_connected(at, node) &&
		    !mg_members_votes(at->members, node)) {
			return false;
		}
	}
	return true;
}

static struct mg_placement_step remove_spare(const struct mg_placement *at,
                                             const struct mg_members *wanted)
{
	struct mg_placement_step next = { 0 };

	for (size_t i = 0; next.kind == MG_STEP_NONE && i < at->members->count; i++) {
		uint64_t node = at->members->list[i].node;

		if (!mg_members_find(wanted, node) ||
		    (mg_members_votes(at->members, node) && !mg_members_votes(wanted, node))) {
			next = take_away(at, wanted, node, false);
		}
	}
	return next;
}

struct mg_placement_step mg_placement_next(const struct mg_placement *at)
{
	struct mg_members wanted;

	mg_assert(mg_members_sound(at->members));
	mg_placement_wanted(at, &wanted);
	if (mg_members_voters(&wanted) == 0) {
		return step(MG_STEP_NONE, 0); /* the last ones stay */
	}
	struct mg_placement_step next = remove_gone(at, &wanted);

	if (next.kind == MG_STEP_NONE) {
		next = demote_dead(at, &wanted);
	}
	if (next.kind == MG_STEP_NONE) {
		next = add_missing(at, &wanted);
	}
	if (next.kind == MG_STEP_NONE && is_complete(at, &wanted)) {
		next = remove_spare(at, &wanted);
	}
	return next;
}

const char *mg_placement_kind_name(enum mg_placement_kind kind)
{
	static const char *const names[] = { "none", "add", "promote", "demote", "remove", "transfer" };

	mg_assert((size_t)kind < sizeof names / sizeof *names);
	return names[kind];
}
