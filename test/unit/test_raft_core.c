/*
 * test_raft_core.c - mg_core: what a step says that the host must do.
 */
#include "raft_kit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
/* after the above */
#include <cmocka.h>

static void test_follower_stores_before_it_acknowledges(void **state)
{
	struct kit kit;
	struct mg_entry entries[2] = { kit_command(2, 2), kit_command(3, 2) };

	(void)state;
	kit_start(&kit, 1, 3, 0);
	assert_int_equal(kit_append(&kit, 2, 2, 1, 1, 1, entries, 2), 0);
	assert_true(kit.out.hard_state_changed);
	assert_int_equal(kit.out.hard_state.term, 2);
	assert_int_equal(kit.out.append_count, 2);
	assert_int_equal(kit.out.append[0].index, 2);
	assert_ptr_equal(kit.out.append, entries);
	assert_int_equal(kit.out.message_count, 0);
	kit_stored(&kit, 3);
	assert_int_equal(kit.out.message_count, 1);
	assert_int_equal(kit.out.messages[0].kind, MG_MESSAGE_APPEND_RESULT);
	assert_int_equal(kit.out.messages[0].append_result.last, 3);
	kit_free(&kit);
}

static void test_conflict_starts_at_the_first_other_entry(void **state)
{
	struct kit kit;
	struct mg_entry entries[3] = { kit_command(2, 1), kit_command(3, 3), kit_command(4, 3) };

	(void)state;
	kit_start(&kit, 1, 3, 4);
	assert_int_equal(kit_append(&kit, 2, 3, 1, 1, 1, entries, 3), 0);
	assert_int_equal(kit.out.append_count, 2);
	assert_int_equal(kit.out.append[0].index, 3);
	assert_int_equal(kit.out.append[0].term, 3);
	kit_free(&kit);
}

static void test_leader_commits_by_majority(void **state)
{
	struct kit kit;
	struct mg_entry command = kit_command(0, 0);

	(void)state;
	kit_start(&kit, 1, 3, 0);
	kit_elect(&kit);
	assert_int_equal(kit_result(&kit, 2, 2, 0, 1), 0);
	assert_int_equal(kit_step(&kit, (struct mg_core_event){ .kind = MG_CORE_PROPOSE,
	                                                        .propose = { &command, 1 } }),
	                 0);
	assert_int_equal(kit.out.append_count, 1);
	assert_int_equal(kit.out.append[0].index, 2);
	assert_int_equal(kit.out.append[0].term, 2);
	assert_int_equal(kit.out.append[0].size, 1);
	assert_int_equal(kit.out.commit, 1);
	kit_stored(&kit, 2);
	assert_int_equal(kit.out.commit, 1);
	assert_int_equal(kit_result(&kit, 2, 2, 0, 2), 0);
	assert_int_equal(kit.out.commit, 2);
	kit_free(&kit);
}

static void test_old_terms_are_not_committed_by_counting(void **state)
{
	struct kit kit;

	(void)state;
	kit_start(&kit, 1, 3, 3);
	kit_elect(&kit);
	assert_int_equal(kit_result(&kit, 2, 2, 0, 4), 0);
	assert_int_equal(kit_result(&kit, 3, 2, 0, 4), 0);
	assert_int_equal(kit.out.commit, 1);
	kit_free(&kit);
}

/* Whom it was to lead does not stand. */
static void test_a_transfer_that_fails_is_given_up(void **state)
{
	struct kit kit;
	bool told = false;

	(void)state;
	kit_start(&kit, 1, 3, 0);
	assert_int_equal(kit.out.leader, 0);
	kit_elect(&kit);
	assert_int_equal(kit.out.leader, 1);
	assert_int_equal(kit_result(&kit, 2, 2, 0, 1), 0);
	assert_int_equal(kit_result(&kit, 3, 2, 0, 1), 0);
	assert_int_equal(
		kit_step(&kit, (struct mg_core_event){ .kind = MG_CORE_TRANSFER, .node = 2 }), 0);
	for (size_t i = 0; i < kit.out.message_count; i++) {
		told = told || kit.out.messages[i].kind == MG_MESSAGE_TIMEOUT_NOW;
	}
	assert_true(told && kit.out.transferring);
	for (int i = 0; i < 50 && kit.out.transferring; i++) {
		assert_int_equal(kit_timer(&kit), 0);
		assert_int_equal(kit_result(&kit, 2, 2, 0, 1), 0);
		assert_int_equal(kit_result(&kit, 3, 2, 0, 1), 0);
	}
	assert_false(kit.out.transferring);
	assert_int_equal(kit.out.role, MG_RAFT_LEADER);
	assert_int_equal(kit.out.hard_state.term, 2);
	kit_free(&kit);
}

static int kit_lose(struct kit *kit, uint64_t node)
{
	return kit_step(kit, (struct mg_core_event){ .kind = MG_CORE_LOST, .lost = { node, 50 } });
}

static void test_a_follower_without_its_leader_stands_soon(void **state)
{
	struct kit kit;
	struct mg_message ask = {
		.kind = MG_MESSAGE_VOTE,
		.peer = 3,
		.term = 3,
		.vote = { .last_index = 4, .last_term = 1, .pre_vote = true },
	};

	(void)state;
	kit_start(&kit, 1, 3, 3);
	assert_int_equal(kit_append(&kit, 2, 2, 4, 1, 1, NULL, 0), 0);
	assert_int_equal(kit_lose(&kit, 3), 0); /* who does not lead */
	assert_true(kit.out.next_timer_ms >= kit.now_ms + 1000);
	assert_int_equal(kit_message(&kit, &ask), 0);
	assert_false(kit.out.messages[0].vote_result.granted);

	assert_int_equal(kit_lose(&kit, 2), 0);
	assert_int_equal(kit.out.next_timer_ms, kit.now_ms + 50);
	assert_int_equal(kit_message(&kit, &ask), 0); /* another one may stand, too */
	assert_true(kit.out.messages[0].vote_result.granted);
	assert_int_equal(kit_append(&kit, 2, 2, 4, 1, 1, NULL, 0), 0); /* it lives */
	assert_true(kit.out.next_timer_ms >= kit.now_ms + 1000);

	assert_int_equal(kit_lose(&kit, 2), 0);
	assert_int_equal(kit_timer(&kit), 0);
	assert_int_equal(kit.out.role, MG_RAFT_CANDIDATE);
	assert_int_equal(kit.out.message_count, 2);
	assert_int_equal(kit.out.messages[0].kind, MG_MESSAGE_VOTE);
	assert_true(kit.out.messages[0].vote.pre_vote); /* a leader whom others hear stays */
	assert_int_equal(kit.out.hard_state.term, 2);
	kit_free(&kit);
}

static void test_proposal_of_a_follower_is_refused(void **state)
{
	struct kit kit;
	struct mg_entry command = kit_command(0, 0);

	(void)state;
	kit_start(&kit, 1, 3, 0);
	assert_int_equal(kit_step(&kit, (struct mg_core_event){ .kind = MG_CORE_PROPOSE,
	                                                        .propose = { &command, 1 } }),
	                 MG_E_UNAVAILABLE);
	assert_int_equal(kit.out.append_count, 0);
	kit_free(&kit);
}

static void test_one_change_of_members_at_a_time(void **state)
{
	struct kit kit;
	uint8_t bytes[MG_MEMBERS_SIZE_MAX];
	struct mg_members members = kit_voters(3);

	(void)state;
	kit_start(&kit, 1, 3, 0);
	kit_elect(&kit);
	assert_int_equal(mg_members_set(&members, 4, MG_MEMBER_STANDBY, NULL), 0);
	struct mg_entry change = kit_change(0, 0, &members, bytes);
	struct mg_core_event propose = { .kind = MG_CORE_PROPOSE, .propose = { &change, 1 } };
	struct mg_core_info info;

	assert_int_equal(kit_step(&kit, propose), 0);
	mg_core_info(kit.core, &info);
	assert_int_equal(info.pending_members_index, 2);
	assert_int_equal(info.members.count, 4);
	assert_int_equal(info.committed_members.count, 3);
	assert_int_equal(kit_step(&kit, propose), MG_E_BUSY);
	kit_stored(&kit, 2);
	assert_int_equal(kit_result(&kit, 2, 2, 0, 2), 0);
	assert_int_equal(kit.out.commit, 2);
	assert_int_equal(kit_step(&kit, (struct mg_core_event){ .kind = MG_CORE_CHANGE_APPLIED,
	                                                        .change = { 2, &members } }),
	                 0);
	mg_core_info(kit.core, &info);
	assert_int_equal(info.pending_members_index, 0);
	assert_int_equal(info.committed_members_index, 2);
	kit_free(&kit);
}

static void test_snapshot_replaces_a_log_that_lacks_it(void **state)
{
	struct kit kit;
	struct mg_message install = {
		.kind = MG_MESSAGE_INSTALL,
		.peer = 2,
		.term = 3,
		.install.manifest.snapshot = { .index = 20,
		                               .term = 2,
		                               .members = kit_voters(3),
		                               .members_index = 1 },
	};
	struct mg_core_info info;

	(void)state;
	kit_start(&kit, 1, 3, 3);
	assert_int_equal(kit_message(&kit, &install), 0);
	assert_true(kit.out.install);
	mg_core_info(kit.core, &info);
	assert_true(info.installing);
	assert_int_equal(kit_message(&kit, &install), MG_E_BUSY);
	assert_int_equal(
		kit_step(&kit, (struct mg_core_event){ .kind = MG_CORE_SNAPSHOT_STORED,
	                                           .snapshot = &install.install.manifest.snapshot }),
		0);
	mg_core_info(kit.core, &info);
	assert_false(info.installing);
	assert_int_equal(info.commit, 20);
	assert_int_equal(info.last, 20);
	assert_int_equal(kit.out.messages[0].append_result.last, 20);
	kit_free(&kit);
}

static void test_leader_sends_a_snapshot_for_what_it_compacted(void **state)
{
	struct kit kit;
	struct mg_snapshot snapshot = {
		.index = 9, .term = 1, .members = kit_voters(3), .members_index = 1
	};
	bool found = false;

	(void)state;
	kit_start(&kit, 1, 3, 12);
	struct mg_entry none = kit_command(14, 1);

	assert_int_equal(kit_append(&kit, 2, 1, 13, 1, 13, &none, 0), 0);
	assert_int_equal(kit_step(&kit, (struct mg_core_event){ .kind = MG_CORE_SNAPSHOT_TAKEN,
	                                                        .taken = { &snapshot, 7 } }),
	                 0);
	kit.now_ms += 5000;
	kit.out.next_timer_ms = kit.now_ms;
	kit_elect(&kit);
	/* Node 3 has nothing behind its birth entry. */
	assert_int_equal(kit_result(&kit, 3, 2, 13, 1), 0);
	for (size_t i = 0; i < kit.out.message_count; i++) {
		if (kit.out.messages[i].kind == MG_MESSAGE_INSTALL) {
			assert_int_equal(kit.out.messages[i].install.index, 9);
			found = true;
		}
	}
	assert_true(found);
	kit_free(&kit);
}

static void test_messages_that_make_no_sense_are_refused(void **state)
{
	struct kit kit;
	struct mg_entry gap = kit_command(5, 1), old = kit_command(2, 9), odd = kit_command(2, 1);
	struct mg_message message = { .kind = MG_MESSAGE_APPEND, .peer = 1, .term = 2 };

	(void)state;
	odd.type = 9;
	kit_start(&kit, 1, 3, 0);
	assert_int_equal(kit_append(&kit, 2, 2, 1, 1, 1, &gap, 1), MG_E_PROTOCOL);
	assert_int_equal(kit_append(&kit, 2, 2, 1, 1, 1, &old, 1), MG_E_PROTOCOL);
	assert_int_equal(kit_append(&kit, 2, 2, 1, 1, 1, &odd, 1), MG_E_PROTOCOL);
	assert_int_equal(kit_append(&kit, 2, 2, 1, 0, 1, NULL, 0), MG_E_PROTOCOL);
	assert_int_equal(kit_message(&kit, &message), MG_E_PROTOCOL); /* from itself */
	odd = kit_command(2, 1);
	odd.type = MG_ENTRY_CHANGE;
	assert_int_equal(kit_append(&kit, 2, 2, 1, 1, 1, &odd, 1), MG_E_PROTOCOL);
	kit_free(&kit);
}

static void test_committed_conflict_is_corruption(void **state)
{
	struct kit kit;
	struct mg_entry other = kit_command(2, 3), none = kit_command(4, 1);

	(void)state;
	kit_start(&kit, 1, 3, 2);
	assert_int_equal(kit_append(&kit, 2, 1, 3, 1, 3, &none, 0), 0);
	assert_int_equal(kit.out.commit, 3);
	assert_int_equal(kit_append(&kit, 3, 3, 1, 1, 3, &other, 1), MG_E_CORRUPT);
	kit_free(&kit);
}

static void test_members_bytes(void **state)
{
	struct mg_members members = kit_voters(3), back;
	uint8_t bytes[MG_MEMBERS_SIZE_MAX];

	(void)state;
	members.list[2].role = MG_MEMBER_STANDBY;
	size_t size = mg_members_encode(&members, bytes);

	assert_int_equal(mg_members_decode(bytes, size, &back, NULL), 0);
	assert_int_equal(back.count, 3);
	assert_int_equal(mg_members_voters(&back), 2);
	for (size_t cut = 0; cut < size; cut++) {
		assert_int_equal(mg_members_decode(bytes, cut, &back, NULL), MG_E_PROTOCOL);
	}
	bytes[2] = 2; /* node 2 twice */
	assert_int_equal(mg_members_decode(bytes, size, &back, NULL), MG_E_PROTOCOL);
	assert_int_equal(mg_members_remove(&members, 9, NULL), MG_E_NOT_FOUND);
	assert_int_equal(mg_members_remove(&members, 1, NULL), 0);
	assert_int_equal(mg_members_remove(&members, 2, NULL), MG_E_USAGE);
	for (uint64_t node = 10; members.count < MG_MEMBERS_MAX; node++) {
		assert_int_equal(mg_members_set(&members, node, MG_MEMBER_STANDBY, NULL), 0);
	}
	assert_int_equal(mg_members_set(&members, 99, MG_MEMBER_STANDBY, NULL), MG_E_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_follower_stores_before_it_acknowledges),
		cmocka_unit_test(test_conflict_starts_at_the_first_other_entry),
		cmocka_unit_test(test_leader_commits_by_majority),
		cmocka_unit_test(test_old_terms_are_not_committed_by_counting),
		cmocka_unit_test(test_a_transfer_that_fails_is_given_up),
		cmocka_unit_test(test_a_follower_without_its_leader_stands_soon),
		cmocka_unit_test(test_proposal_of_a_follower_is_refused),
		cmocka_unit_test(test_one_change_of_members_at_a_time),
		cmocka_unit_test(test_snapshot_replaces_a_log_that_lacks_it),
		cmocka_unit_test(test_leader_sends_a_snapshot_for_what_it_compacted),
		cmocka_unit_test(test_messages_that_make_no_sense_are_refused),
		cmocka_unit_test(test_committed_conflict_is_corruption),
		cmocka_unit_test(test_members_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
