/*
 * test_placement.c - the steps of placement, played to their end: they get there, one at a
 * time, and never leave a group without a majority.
 */
#include "replica/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SHARDS = 3, STEPS_MAX = 200 };

#define M MG_PLACED_MEMBER
#define D MG_PLACED_DRAINING
#define R MG_PLACED_REMOVED

/* A cluster: group 0 and the shards, all led by one node. */
struct world {
	struct mg_placed_node nodes[8];
	size_t count;
	struct mg_members groups[SHARDS + 1];
	uint64_t leader;
	char story[2048];
};

static void add_node(struct world *world, enum mg_placed state, bool connected)
{
	struct mg_placed_node *node = &world->nodes[world->count++];

	*node = (struct mg_placed_node){
		.number = world->count, .state = state, .connected = connected
	};
}

/* All groups have these nodes as voters. */
static void vote(struct world *world, const char *digits)
{
	for (size_t i = 0; i <= SHARDS; i++) {
		world->groups[i] = (struct mg_members){ 0 };
		for (const char *c = digits; *c; c++) {
			assert_int_equal(
				mg_members_set(&world->groups[i], (uint64_t)(*c - '0'), MG_MEMBER_VOTER, NULL), 0);
		}
	}
	world->leader = (uint64_t)(digits[0] - '0');
}

static void check(const struct world *world)
{
	for (size_t i = 0; i <= SHARDS; i++) {
		size_t voters = 0, there = 0;

		assert_true(mg_members_sound(&world->groups[i]));
		for (size_t k = 0; k < world->groups[i].count; k++) {
			uint64_t node = world->groups[i].list[k].node;

			if (mg_members_votes(&world->groups[i], node)) {
				voters++;
				there += node <= world->count && world->nodes[node - 1].connected;
			}
		}
		assert_true(there > voters / 2);
		/* Who votes for the catalog's leader may be it, and then leads the shards. */
		for (size_t k = 0; i == 0 && k < world->groups[0].count; k++) {
			uint64_t node = world->groups[0].list[k].node;
			bool gone = node > world->count || world->nodes[node - 1].state == R;

			for (size_t s = 1; mg_members_votes(&world->groups[0], node) && !gone && s <= SHARDS;
			     s++) {
				assert_true(mg_members_votes(&world->groups[s], node));
			}
		}
	}
}

static struct mg_placement_step next(const struct world *world, size_t group)
{
	struct mg_members all = { 0 };
	const struct mg_placement placement = {
		.nodes = world->nodes,
		.node_count = world->count,
		.self = world->leader,
		.catalog = group == 0,
		.members = &world->groups[group],
		.others = group == 0 ? &all : &world->groups[0],
	};

	for (uint64_t node = 1; node <= world->count; node++) {
		bool everywhere = true, somewhere = false;

		for (size_t i = 1; i <= SHARDS; i++) {
			somewhere = somewhere || mg_members_find(&world->groups[i], node);
			everywhere = everywhere && mg_members_votes(&world->groups[i], node);
		}
		if (somewhere) {
			assert_int_equal(mg_members_set(&all, node,
			                                everywhere ? MG_MEMBER_VOTER : MG_MEMBER_STANDBY, NULL),
			                 0);
		}
	}
	return mg_placement_next(&placement);
}

static void play(struct world *world, size_t group, struct mg_placement_step step)
{
	struct mg_members *members = &world->groups[group];
	size_t len = strlen(world->story);

	snprintf(world->story + len, sizeof world->story - len, "%s%zu:%s%d", len ? " " : "", group,
	         mg_placement_kind_name(step.kind), (int)step.node);
	switch (step.kind) {
	case MG_STEP_NONE:
		break;
	case MG_STEP_ADD:
		assert_null(mg_members_find(members, step.node));
		assert_int_equal(mg_members_set(members, step.node, MG_MEMBER_STANDBY, NULL), 0);
		break;
	case MG_STEP_PROMOTE:
		assert_non_null(mg_members_find(members, step.node));
		assert_int_equal(mg_members_set(members, step.node, MG_MEMBER_VOTER, NULL), 0);
		break;
	case MG_STEP_DEMOTE:
		assert_int_equal(mg_members_set(members, step.node, MG_MEMBER_STANDBY, NULL), 0);
		break;
	case MG_STEP_REMOVE:
		assert_true(step.node != world->leader);
		for (size_t i = 1; group == 0 && world->nodes[step.node - 1].state != R && i <= SHARDS;
		     i++) {
			assert_null(mg_members_find(&world->groups[i], step.node));
		}
		assert_int_equal(mg_members_remove(members, step.node, NULL), 0);
		break;
	case MG_STEP_TRANSFER:
		assert_true(mg_members_votes(members, step.node));
		world->leader = step.node;
		break;
	}
}

/* Until there is nothing more to do; the groups take turns, from the first one or the last one. */
static void play_all(struct world *world, bool backwards)
{
	int steps = 0;
	bool moved = true;

	while (moved) {
		moved = false;
		for (size_t i = 0; i <= SHARDS; i++) {
			size_t group = backwards ? SHARDS - i : i;
			struct mg_placement_step step = next(world, group);

			if (step.kind != MG_STEP_NONE) {
				play(world, group, step);
				check(world);
				moved = true;
			}
			if (++steps > STEPS_MAX) {
				fail_msg("it never ends: %s", world->story);
			}
		}
	}
}

static void assert_voters(const struct world *world, const char *digits, const char *standbys)
{
	for (size_t i = 0; i <= SHARDS; i++) {
		char voters[16] = "", others[16] = "";

		for (uint64_t node = 1; node <= 9; node++) {
			const struct mg_member *member = mg_members_find(&world->groups[i], node);
			char *text = member && member->role == MG_MEMBER_VOTER ? voters : others;

			if (member) {
				text[strlen(text) + 1] = '\0';
				text[strlen(text)] = (char)('0' + node);
			}
		}
		assert_string_equal(voters, digits);
		assert_string_equal(others, standbys);
	}
}

static void test_one_node_is_left_alone(void **state)
{
	struct world world = { 0 };

	(void)state;
	add_node(&world, M, true);
	vote(&world, "1");
	play_all(&world, false);
	assert_string_equal(world.story, "");
}

static void test_nodes_that_come_vote_in_the_shards_first(void **state)
{
	(void)state;
	for (int backwards = 0; backwards < 2; backwards++) {
		struct world world = { 0 };

		add_node(&world, M, true);
		vote(&world, "1");
		for (int i = 0; i < 4; i++) {
			add_node(&world, M, true);
		}
		play_all(&world, backwards);
		assert_voters(&world, "123", "45");
	}
}

static void test_who_is_not_there_is_not_waited_for(void **state)
{
	struct world world = { 0 };

	(void)state;
	add_node(&world, M, true);
	add_node(&world, M, false);
	add_node(&world, M, true);
	vote(&world, "1");
	play_all(&world, false);
	assert_voters(&world, "13", "");
	world.nodes[1].connected = true;
	play_all(&world, false);
	assert_voters(&world, "123", "");
}

static void test_a_drained_node_gives_up_all(void **state)
{
	(void)state;
	for (int backwards = 0; backwards < 2; backwards++) {
		struct world world = { 0 };

		add_node(&world, D, true); /* it leads */
		add_node(&world, M, true);
		add_node(&world, M, true);
		add_node(&world, M, true);
		vote(&world, "123");
		play_all(&world, backwards);
		assert_voters(&world, "234", "");
		assert_true(world.leader != 1);
	}
}

static void test_the_last_ones_stay(void **state)
{
	struct world world = { 0 };

	(void)state;
	add_node(&world, D, true);
	vote(&world, "1");
	play_all(&world, false);
	add_node(&world, D, true);
	play_all(&world, false);
	assert_string_equal(world.story, "");
}

static void test_a_node_that_is_gone_is_replaced(void **state)
{
	struct world world = { 0 };

	(void)state;
	add_node(&world, M, true);
	add_node(&world, R, false);
	add_node(&world, M, true);
	add_node(&world, M, true); /* under the old name */
	vote(&world, "123");
	play_all(&world, false);
	assert_voters(&world, "134", "");
}

static void test_no_step_leaves_too_few(void **state)
{
	struct world world = { 0 };

	(void)state;
	/* Without 3, one of two would be there. */
	add_node(&world, M, true);
	add_node(&world, M, false);
	add_node(&world, D, true);
	vote(&world, "123");
	play_all(&world, false);
	assert_voters(&world, "123", "");
	world.nodes[1].connected = true;
	play_all(&world, false);
	assert_voters(&world, "12", "");
}

static void test_a_drained_node_may_come_back(void **state)
{
	struct world world = { 0 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		add_node(&world, M, true);
	}
	vote(&world, "123");
	world.nodes[1].state = D;
	play_all(&world, false);
	assert_voters(&world, "13", "");
	world.nodes[1].state = M;
	play_all(&world, true);
	assert_voters(&world, "123", "");
}

static void set(struct world *world, size_t group, uint64_t node, enum mg_member_role role)
{
	assert_int_equal(mg_members_set(&world->groups[group], node, role, NULL), 0);
}

static struct world four_nodes(void)
{
	struct world world = { 0 };

	for (int i = 0; i < 4; i++) {
		add_node(&world, M, true);
	}
	vote(&world, "123");
	for (size_t i = 0; i <= SHARDS; i++) {
		set(&world, i, 4, MG_MEMBER_STANDBY);
	}
	return world;
}

/* Wherever the replacement goes down and the drain is undone, all have the same voters again. */
static void test_a_drain_is_undone_while_its_replacement_is_down(void **state)
{
	(void)state;
	for (size_t promoted = 0; promoted <= SHARDS; promoted++) {
		for (int order = 0; order < 4; order++) {
			struct world world = four_nodes();

			world.nodes[2].state = D;
			for (size_t i = 1; i <= promoted; i++) {
				set(&world, i, 4, MG_MEMBER_VOTER);
			}
			world.nodes[3].connected = false;
			if (order & 2) {
				play_all(&world, order & 1);
			}
			world.nodes[2].state = M;
			play_all(&world, order & 1);
			assert_voters(&world, "123", "4");
			world.nodes[3].connected = true;
			play_all(&world, order & 1);
			assert_voters(&world, "123", "4");
		}
	}
}

/* A standby that is down keeps nobody from voting, even when some shards have chosen it. */
static void test_who_is_there_votes_first(void **state)
{
	(void)state;
	for (size_t promoted = 0; promoted <= SHARDS; promoted++) {
		for (int backwards = 0; backwards < 2; backwards++) {
			struct world world = four_nodes();

			add_node(&world, M, true);
			world.nodes[2].state = D;
			world.nodes[3].connected = false;
			for (size_t i = 1; i <= promoted; i++) {
				set(&world, i, 4, MG_MEMBER_VOTER);
			}
			play_all(&world, backwards);
			assert_voters(&world, "125", "4");
			world.nodes[3].connected = true;
			play_all(&world, backwards);
			assert_voters(&world, "125", "4");
		}
	}
}

/* Some shards have chosen one node, some the other. */
static void test_shards_agree(void **state)
{
	(void)state;
	for (int backwards = 0; backwards < 2; backwards++) {
		struct world world = four_nodes();

		add_node(&world, M, true);
		world.nodes[2].state = D;
		set(&world, 1, 4, MG_MEMBER_VOTER);
		set(&world, 2, 5, MG_MEMBER_VOTER);
		play_all(&world, backwards);
		assert_voters(&world, "124", "5");
	}
}

static void test_a_drain_is_undone_half_way(void **state)
{
	(void)state;
	for (int backwards = 0; backwards < 2; backwards++) {
		struct world world = four_nodes();

		for (size_t i = 0; i <= SHARDS; i++) {
			set(&world, i, 4, MG_MEMBER_VOTER);
			set(&world, i, 3, i == 1 ? MG_MEMBER_VOTER : MG_MEMBER_STANDBY);
		}
		play_all(&world, backwards);
		assert_voters(&world, "124", "3");
	}
}

/* The coordinator would get a shard back at once that it gave away. */
static void test_shards_are_given_away_after_group_0(void **state)
{
	struct world world = four_nodes();

	(void)state;
	world.nodes[0].state = D;
	for (size_t i = 1; i <= SHARDS; i++) {
		set(&world, i, 4, MG_MEMBER_VOTER);
		assert_int_equal(next(&world, i).kind, MG_STEP_NONE);
	}
	set(&world, 0, 4, MG_MEMBER_VOTER);
	assert_int_equal(next(&world, 1).kind, MG_STEP_NONE);
	assert_int_equal(next(&world, 0).kind, MG_STEP_TRANSFER);
	world.groups[0].list[0].role = MG_MEMBER_STANDBY;
	assert_int_equal(next(&world, 1).kind, MG_STEP_TRANSFER);
}

/* One that leads a shard would not hear that it has to give it away. */
static void test_group_0_keeps_who_has_a_shard(void **state)
{
	struct world world = four_nodes();

	(void)state;
	world.nodes[0].state = D;
	world.leader = 4;
	for (size_t i = 0; i <= SHARDS; i++) {
		set(&world, i, 4, MG_MEMBER_VOTER);
	}
	set(&world, 0, 1, MG_MEMBER_STANDBY);
	for (size_t i = 1; i <= SHARDS; i++) {
		assert_int_equal(next(&world, 0).kind, MG_STEP_NONE);
		assert_int_equal(mg_members_remove(&world.groups[i], 1, NULL), 0);
	}
	assert_int_equal(next(&world, 0).kind, MG_STEP_REMOVE);
}

static void die(struct world *world, uint64_t node)
{
	world->nodes[node - 1].connected = false;
	world->nodes[node - 1].dead = true;
}

static void test_a_dead_voter_is_replaced_and_comes_back_without_a_vote(void **state)
{
	(void)state;
	for (int backwards = 0; backwards < 2; backwards++) {
		struct world world = four_nodes();

		world.nodes[2].connected = false; /* for a moment */
		play_all(&world, backwards);
		assert_voters(&world, "123", "4");
		world.nodes[2].dead = true;
		play_all(&world, backwards);
		assert_voters(&world, "124", "3");
		world.nodes[2].connected = true;
		world.nodes[2].dead = false;
		play_all(&world, backwards);
		assert_voters(&world, "124", "3");
	}
}

static void test_a_dead_voter_that_nobody_can_replace_stays(void **state)
{
	struct world world = four_nodes();

	(void)state;
	world.count = 3;
	for (size_t i = 0; i <= SHARDS; i++) {
		assert_int_equal(mg_members_remove(&world.groups[i], 4, NULL), 0);
	}
	die(&world, 3);
	play_all(&world, false);
	assert_string_equal(world.story, "");

	world = four_nodes();
	die(&world, 3);
	world.nodes[3].connected = false;
	play_all(&world, false);
	assert_string_equal(world.story, "");
}

/* One that enters while a voter is dead takes its place, too. */
static void test_who_enters_replaces_a_dead_voter(void **state)
{
	struct world world = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++) {
		add_node(&world, M, true);
	}
	vote(&world, "123");
	die(&world, 3);
	play_all(&world, true);
	assert_voters(&world, "124", "3");
}

/* ---- any history ---- */

static unsigned chance(uint64_t *seed, unsigned below)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(*seed >> 33) % below;
}

static bool majorities_are_there(const struct world *world)
{
	for (size_t i = 0; i <= SHARDS; i++) {
		size_t voters = 0, there = 0;

		for (size_t k = 0; k < world->groups[i].count; k++) {
			uint64_t node = world->groups[i].list[k].node;

			if (mg_members_votes(&world->groups[i], node)) {
				voters++;
				there += world->nodes[node - 1].connected;
			}
		}
		if (there <= voters / 2) {
			return false;
		}
	}
	return true;
}

/* A node comes, goes, dies or is drained, unless the cluster would stand still then. */
static void disturb(struct world *world, uint64_t *seed)
{
	struct world before = *world;
	struct mg_placed_node *node = &world->nodes[chance(seed, (unsigned)world->count)];

	switch (chance(seed, 5)) {
	case 0:
	case 1:
		node->connected = true;
		node->dead = false;
		break;
	case 2:
		node->connected = false;
		break;
	case 3:
		node->connected = false;
		node->dead = true;
		break;
	case 4:
		node->state = node->state == M ? D : M;
		break;
	}
	if (!majorities_are_there(world) || !world->nodes[world->leader - 1].connected) {
		*world = before;
	}
}

/* Every step of any history keeps a majority connected (check), it comes to rest, and when all are
 * there in the end three of them vote, the same in all groups. */
static void test_no_history_loses_a_majority(void **state)
{
	(void)state;
	for (uint64_t run = 1; run <= 3000; run++) {
		uint64_t seed = run;
		struct world world = { 0 };
		unsigned count = 3 + chance(&seed, 4);

		for (unsigned i = 0; i < count; i++) {
			add_node(&world, M, true);
		}
		vote(&world, "1");
		play_all(&world, run & 1);
		for (int i = 0; i < 12; i++) {
			disturb(&world, &seed);
			for (unsigned steps = chance(&seed, 6); steps > 0; steps--) {
				size_t group = chance(&seed, SHARDS + 1);

				play(&world, group, next(&world, group));
				check(&world);
			}
			world.story[0] = '\0';
		}
		for (unsigned i = 0; i < count; i++) {
			world.nodes[i] = (struct mg_placed_node){ i + 1, M, true, false };
		}
		play_all(&world, run & 1);
		for (size_t i = 0; i <= SHARDS; i++) {
			assert_int_equal(mg_members_voters(&world.groups[i]), 3);
			assert_int_equal(world.groups[i].count, count);
			for (uint64_t node = 1; node <= count; node++) {
				assert_int_equal(mg_members_votes(&world.groups[i], node),
				                 mg_members_votes(&world.groups[0], node));
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_node_is_left_alone),
		cmocka_unit_test(test_nodes_that_come_vote_in_the_shards_first),
		cmocka_unit_test(test_who_is_not_there_is_not_waited_for),
		cmocka_unit_test(test_a_drained_node_gives_up_all),
		cmocka_unit_test(test_the_last_ones_stay),
		cmocka_unit_test(test_a_node_that_is_gone_is_replaced),
		cmocka_unit_test(test_no_step_leaves_too_few),
		cmocka_unit_test(test_a_drained_node_may_come_back),
		cmocka_unit_test(test_a_drain_is_undone_while_its_replacement_is_down),
		cmocka_unit_test(test_who_is_there_votes_first),
		cmocka_unit_test(test_shards_agree),
		cmocka_unit_test(test_a_drain_is_undone_half_way),
		cmocka_unit_test(test_shards_are_given_away_after_group_0),
		cmocka_unit_test(test_group_0_keeps_who_has_a_shard),
		cmocka_unit_test(test_a_dead_voter_is_replaced_and_comes_back_without_a_vote),
		cmocka_unit_test(test_a_dead_voter_that_nobody_can_replace_stays),
		cmocka_unit_test(test_who_enters_replaces_a_dead_voter),
		cmocka_unit_test(test_no_history_loses_a_majority),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
