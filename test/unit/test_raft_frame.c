/*
 * test_raft_frame.c - frames between nodes: there and back, and every way to be short.
 */
#include "base/assert.h"
#include "raft/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static struct mg_entry entries[2] = {
	{ .index = 8,
	  .term = 3,
	  .type = MG_ENTRY_COMMAND,
	  .size = 5,
	  .data = (const uint8_t *)"hello" },
	{ .index = 9, .term = 4, .type = MG_ENTRY_BARRIER },
};

static void messages(struct mg_message out[6])
{
	static const struct mg_members members = {
		.list = { { 1, MG_MEMBER_VOTER }, { 7, MG_MEMBER_STANDBY } },
		.count = 2,
	};

	memset(out, 0, 6 * sizeof *out);
	for (int i = 0; i < 6; i++) {
		out[i].kind = (enum mg_message_kind)(i + 1);
		out[i].peer = 2;
		out[i].term = 5;
	}
	out[0].append.prev_index = 7;
	out[0].append.prev_term = 3;
	out[0].append.commit = 6;
	out[0].append.entries = entries;
	out[0].append.count = 2;
	out[1].append_result.rejected = 9;
	out[1].append_result.last = 4;
	out[1].append_result.features = 1;
	out[1].append_result.capacity = 60000;
	out[2].vote.last_index = 11;
	out[2].vote.last_term = 3;
	out[2].vote.disrupt = true;
	out[2].vote.told = true;
	out[3].vote_result.granted = true;
	out[3].vote_result.pre_vote = true;
	out[3].vote_result.capacity = 17;
	out[4].install.index = 100;
	out[4].install.manifest.snapshot.index = 100;
	out[4].install.manifest.snapshot.term = 4;
	out[4].install.manifest.snapshot.members = members;
	out[4].install.manifest.snapshot.members_index = 90;
	out[4].install.manifest.data = (const uint8_t *)"files";
	out[4].install.manifest.size = 5;
	out[5].timeout_now.last_index = 12;
	out[5].timeout_now.last_term = 5;
}

static void test_each_message_comes_back(void **state)
{
	struct mg_message sent[6];

	(void)state;
	messages(sent);
	for (int i = 0; i < 6; i++) {
		struct mg_arena *arena = mg_arena_new();
		struct mg_buf *bytes = mg_raft_frame_message(3, 2, &sent[i]);
		struct mg_raft_frame frame;
		struct mg_error err;
		size_t size;

		assert_int_equal(mg_raft_frame_decode(arena, bytes->data, bytes->size, &frame, &err),
		                 MG_E_PROTOCOL); /* no number yet */
		mg_raft_frame_number(bytes, 77, 88);
		assert_int_equal(mg_raft_frame_size(bytes->data, bytes->size, &size, &err), 0);
		assert_int_equal(size, bytes->size);
		assert_int_equal(mg_raft_frame_decode(arena, bytes->data, bytes->size, &frame, &err), 0);
		assert_int_equal(frame.group, 3);
		assert_int_equal(frame.from, 2);
		assert_int_equal(frame.incarnation, 77);
		assert_int_equal(frame.sequence, 88);
		assert_int_equal(frame.message.kind, i + 1);
		/* The same bytes again, now made of what was decoded. */
		struct mg_buf *again = mg_raft_frame_message(3, 2, &frame.message);

		mg_raft_frame_number(again, 77, 88);
		assert_int_equal(again->size, bytes->size);
		assert_memory_equal(again->data, bytes->data, bytes->size);
		mg_buf_unref(again);
		mg_buf_unref(bytes);
		mg_arena_free(arena);
	}
}

static void test_probes_come_back(void **state)
{
	struct mg_probe probes[2] = { { .group = 1, .term = 9, .yes = true, .promise = true },
		                          { .group = 65535 } };
	struct mg_arena *arena = mg_arena_new();
	struct mg_raft_frame frame;

	(void)state;
	for (uint8_t kind = MG_RAFT_FRAME_PROBE; kind <= MG_RAFT_FRAME_ANSWER; kind++) {
		struct mg_buf *bytes = mg_raft_frame_probes(kind, 4, 123, probes, 2);

		mg_raft_frame_number(bytes, 1, 1);
		assert_int_equal(mg_raft_frame_decode(arena, bytes->data, bytes->size, &frame, NULL), 0);
		assert_int_equal(frame.round, 123);
		assert_int_equal(frame.probe_count, 2);
		assert_int_equal(frame.probes[0].term, 9);
		assert_int_equal(frame.probes[0].yes, kind == MG_RAFT_FRAME_ANSWER);
		assert_int_equal(frame.probes[0].promise, kind == MG_RAFT_FRAME_ANSWER);
		assert_false(frame.probes[1].yes || frame.probes[1].promise);
		assert_int_equal(frame.probes[1].group, 65535);
		mg_buf_unref(bytes);
	}
	mg_arena_free(arena);
}

static void test_short_and_long_frames_are_refused(void **state)
{
	struct mg_message sent[6];

	(void)state;
	messages(sent);
	for (int i = 0; i < 6; i++) {
		struct mg_buf *bytes = mg_raft_frame_message(3, 2, &sent[i]);
		struct mg_arena *arena = mg_arena_new();
		struct mg_raft_frame frame;

		mg_raft_frame_number(bytes, 1, 1);
		for (uint32_t cut = 0; cut < bytes->size; cut++) {
			uint8_t *copy = malloc(cut + 1);

			memcpy(copy, bytes->data, cut);
			if (cut >= 4) {
				memcpy(copy, &cut, 4);
			}
			assert_int_equal(mg_raft_frame_decode(arena, copy, cut, &frame, NULL), MG_E_PROTOCOL);
			free(copy);
		}
		mg_buf_unref(bytes);
		mg_arena_free(arena);
	}
}

static void test_sizes_that_cannot_be_are_refused(void **state)
{
	static const uint32_t sizes[] = { 0, MG_RAFT_FRAME_HEAD_SIZE - 1, MG_RAFT_FRAME_SIZE_MAX + 1,
		                              UINT32_MAX };
	size_t size;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(mg_raft_frame_size((const uint8_t *)&sizes[i], 4, &size, NULL),
		                 MG_E_PROTOCOL);
	}
	assert_int_equal(mg_raft_frame_size((const uint8_t *)sizes, 3, &size, NULL), 0);
	assert_int_equal(size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_message_comes_back),
		cmocka_unit_test(test_probes_come_back),
		cmocka_unit_test(test_short_and_long_frames_are_refused),
		cmocka_unit_test(test_sizes_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
