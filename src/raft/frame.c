/*
 * frame.c - frames between nodes, both ways.  Layout and rule: frame.h.  Pure.
 */
#include "raft/frame.h"

#include "base/assert.h"
#include "base/bytes.h"

#include <inttypes.h>
#include <string.h>

#define VERSION 1
#define AT_SIZE 0
#define AT_INCARNATION 20
#define PROBE_SIZE 12
#define ANSWER_SIZE 13

enum { FLAG_DISRUPT = 1, FLAG_GRANTED = 1, FLAG_PRE_VOTE = 2, FLAG_TOLD = 4 };
enum { FLAG_YES = 1, FLAG_PROMISE = 2 };

/* ---- out --------------------------------------------------------------------------------------
 */

static void head_out(struct mg_out *out, size_t size, uint8_t kind, uint32_t group, uint64_t from)
{
	mg_assert(size >= MG_RAFT_FRAME_HEAD_SIZE && size <= MG_RAFT_FRAME_SIZE_MAX);
	mg_assert(from > 0);
	mg_out_u32(out, (uint32_t)size);
	mg_out_u8(out, VERSION);
	mg_out_u8(out, kind);
	mg_out_u16(out, 0);
	mg_out_u32(out, group);
	mg_out_u64(out, from);
	mg_out_u64(out, 0);
	mg_out_u64(out, 0);
	mg_assert(out->size == MG_RAFT_FRAME_HEAD_SIZE);
}

static size_t body_size(const struct mg_message *message)
{
	size_t size = 8;

	switch (message->kind) {
	case MG_MESSAGE_APPEND:
		size += 3 * 8 + 4;
		for (size_t i = 0; i < message->append.count; i++) {
			size += MG_RAFT_FRAME_ENTRY_OVERHEAD + message->append.entries[i].size;
		}
		return size;
	case MG_MESSAGE_APPEND_RESULT:
		return size + 2 * 8 + 2 * 2;
	case MG_MESSAGE_VOTE:
		return size + 2 * 8 + 1;
	case MG_MESSAGE_VOTE_RESULT:
		return size + 1 + 2 * 2;
	case MG_MESSAGE_INSTALL:
		return size + mg_manifest_size(&message->install.manifest);
	case MG_MESSAGE_TIMEOUT_NOW:
		return size + 2 * 8;
	}
	mg_assert(!"a message has one of its kinds");
	return 0;
}

static void append_out(struct mg_out *out, const struct mg_message *message)
{
	mg_assert(message->append.count <= MG_RAFT_FRAME_ENTRIES_MAX);
	mg_out_u64(out, message->append.prev_index);
	mg_out_u64(out, message->append.prev_term);
	mg_out_u64(out, message->append.commit);
	mg_out_u32(out, (uint32_t)message->append.count);
	for (size_t i = 0; i < message->append.count; i++) {
		const struct mg_entry *entry = &message->append.entries[i];

		mg_assert(entry->index == message->append.prev_index + 1 + i);
		mg_out_u64(out, entry->term);
		mg_out_u8(out, entry->type);
		mg_out_u32(out, entry->size);
		mg_out_bytes(out, entry->data, entry->size);
	}
}

static void body_out(struct mg_out *out, const struct mg_message *message)
{
	uint8_t flags = 0;

	mg_out_u64(out, message->term);
	switch (message->kind) {
	case MG_MESSAGE_APPEND:
		append_out(out, message);
		return;
	case MG_MESSAGE_APPEND_RESULT:
		mg_out_u64(out, message->append_result.rejected);
		mg_out_u64(out, message->append_result.last);
		mg_out_u16(out, message->append_result.features);
		mg_out_u16(out, message->append_result.capacity);
		return;
	case MG_MESSAGE_VOTE:
		flags |= message->vote.disrupt ? FLAG_DISRUPT : 0;
		flags |= message->vote.pre_vote ? FLAG_PRE_VOTE : 0;
		flags |= message->vote.told ? FLAG_TOLD : 0;
		mg_out_u64(out, message->vote.last_index);
		mg_out_u64(out, message->vote.last_term);
		mg_out_u8(out, flags);
		return;
	case MG_MESSAGE_VOTE_RESULT:
		flags |= message->vote_result.granted ? FLAG_GRANTED : 0;
		flags |= message->vote_result.pre_vote ? FLAG_PRE_VOTE : 0;
		mg_out_u8(out, flags);
		mg_out_u16(out, message->vote_result.features);
		mg_out_u16(out, message->vote_result.capacity);
		return;
	case MG_MESSAGE_INSTALL:
		mg_manifest_encode(out, &message->install.manifest);
		return;
	case MG_MESSAGE_TIMEOUT_NOW:
		mg_out_u64(out, message->timeout_now.last_index);
		mg_out_u64(out, message->timeout_now.last_term);
		return;
	}
}

struct mg_buf *mg_raft_frame_message(uint32_t group, uint64_t from,
                                     const struct mg_message *message)
{
	size_t size = MG_RAFT_FRAME_HEAD_SIZE + body_size(message);
	struct mg_buf *frame = mg_buf_new(size);

	mg_assert(group < MG_GROUPS_MAX);
	if (frame == NULL) {
		return NULL;
	}
	struct mg_out out = mg_out(frame->data, size);

	head_out(&out, size, (uint8_t)message->kind, group, from);
	body_out(&out, message);
	mg_assert(out.size == size);
	frame->size = size;
	return frame;
}

struct mg_buf *mg_raft_frame_probes(uint8_t kind, uint64_t from, uint64_t round,
                                    const struct mg_probe *probes, size_t count)
{
	size_t each = kind == MG_RAFT_FRAME_PROBE ? PROBE_SIZE : ANSWER_SIZE;
	size_t size = MG_RAFT_FRAME_HEAD_SIZE + 8 + 4 + count * each;

	mg_assert(kind == MG_RAFT_FRAME_PROBE || kind == MG_RAFT_FRAME_ANSWER);
	mg_assert(count > 0 && count <= MG_RAFT_FRAME_PROBES_MAX);
	struct mg_buf *frame = mg_buf_new(size);

	if (frame == NULL) {
		return NULL;
	}
	struct mg_out out = mg_out(frame->data, size);

	head_out(&out, size, kind, 0, from);
	mg_out_u64(&out, round);
	mg_out_u32(&out, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		mg_out_u32(&out, probes[i].group);
		mg_out_u64(&out, probes[i].term);
		if (kind == MG_RAFT_FRAME_ANSWER) {
			uint8_t flags = probes[i].yes ? FLAG_YES : 0;

			flags |= probes[i].promise ? FLAG_PROMISE : 0;
			mg_out_u8(&out, flags);
		}
	}
	mg_assert(out.size == size);
	frame->size = size;
	return frame;
}

void mg_raft_frame_number(struct mg_buf *frame, uint64_t incarnation, uint64_t sequence)
{
	mg_assert(frame->size >= MG_RAFT_FRAME_HEAD_SIZE);
	mg_assert(incarnation > 0 && sequence > 0);
	memcpy(frame->data + AT_INCARNATION, &incarnation, sizeof incarnation);
	memcpy(frame->data + AT_INCARNATION + sizeof incarnation, &sequence, sizeof sequence);
}

/* ---- in ---------------------------------------------------------------------------------------
 */

int mg_raft_frame_size(const uint8_t *data, size_t available, size_t *size, struct mg_error *err)
{
	uint32_t told;

	*size = 0;
	if (available < sizeof told) {
		return 0;
	}
	memcpy(&told, data + AT_SIZE, sizeof told);
	if (told < MG_RAFT_FRAME_HEAD_SIZE || told > MG_RAFT_FRAME_SIZE_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL, "a peer's frame of %" PRIu32 " bytes", told);
	}
	*size = told;
	mg_assert(*size >= MG_RAFT_FRAME_HEAD_SIZE);
	return 0;
}

/* Entries' array is allocated only after the bytes of that many entries are known to be there. */
static bool append_in(struct mg_arena *arena, struct mg_in *in, struct mg_message *out)
{
	out->append.prev_index = mg_in_u64(in);
	out->append.prev_term = mg_in_u64(in);
	out->append.commit = mg_in_u64(in);
	uint32_t count = mg_in_u32(in);

	if (in->failed || count > MG_RAFT_FRAME_ENTRIES_MAX ||
	    out->append.prev_index > UINT64_MAX / 2 ||
	    (size_t)(in->end - in->at) < (size_t)count * MG_RAFT_FRAME_ENTRY_OVERHEAD) {
		return false;
	}
	struct mg_entry *entries = count == 0 ? NULL
	                                      : mg_arena_new_array(arena, struct mg_entry, count);

	for (uint32_t i = 0; i < count; i++) {
		entries[i].index = out->append.prev_index + 1 + i;
		entries[i].term = mg_in_u64(in);
		entries[i].type = mg_in_u8(in);
		entries[i].size = mg_in_u32(in);
		entries[i].data = mg_in_bytes(in, entries[i].size);
		if (in->failed || entries[i].size > MG_ENTRY_SIZE_MAX ||
		    entries[i].type < MG_ENTRY_COMMAND || entries[i].type > MG_ENTRY_CHANGE) {
			return false;
		}
	}
	out->append.entries = entries;
	out->append.count = count;
	return true;
}

static bool message_in(struct mg_arena *arena, struct mg_in *in, struct mg_message *out,
                       struct mg_error *err)
{
	uint8_t flags;

	out->term = mg_in_u64(in);
	if (out->term == 0) {
		return false;
	}
	switch (out->kind) {
	case MG_MESSAGE_APPEND:
		return append_in(arena, in, out);
	case MG_MESSAGE_APPEND_RESULT:
		out->append_result.rejected = mg_in_u64(in);
		out->append_result.last = mg_in_u64(in);
		out->append_result.features = mg_in_u16(in);
		out->append_result.capacity = mg_in_u16(in);
		return true;
	case MG_MESSAGE_VOTE:
		out->vote.last_index = mg_in_u64(in);
		out->vote.last_term = mg_in_u64(in);
		flags = mg_in_u8(in);
		out->vote.disrupt = flags & FLAG_DISRUPT;
		out->vote.pre_vote = flags & FLAG_PRE_VOTE;
		out->vote.told = flags & FLAG_TOLD;
		return true;
	case MG_MESSAGE_VOTE_RESULT:
		flags = mg_in_u8(in);
		out->vote_result.granted = flags & FLAG_GRANTED;
		out->vote_result.pre_vote = flags & FLAG_PRE_VOTE;
		out->vote_result.features = mg_in_u16(in);
		out->vote_result.capacity = mg_in_u16(in);
		return true;
	case MG_MESSAGE_INSTALL:
		if (mg_manifest_decode(in, &out->install.manifest, err) != 0) {
			return false;
		}
		out->install.index = out->install.manifest.snapshot.index;
		return true;
	case MG_MESSAGE_TIMEOUT_NOW:
		out->timeout_now.last_index = mg_in_u64(in);
		out->timeout_now.last_term = mg_in_u64(in);
		return true;
	}
	return false;
}

static bool probes_in(struct mg_arena *arena, struct mg_in *in, struct mg_raft_frame *out)
{
	size_t each = out->kind == MG_RAFT_FRAME_PROBE ? PROBE_SIZE : ANSWER_SIZE;

	out->round = mg_in_u64(in);
	uint32_t count = mg_in_u32(in);

	if (in->failed || count == 0 || count > MG_RAFT_FRAME_PROBES_MAX ||
	    (size_t)(in->end - in->at) != (size_t)count * each) {
		return false;
	}
	out->probes = mg_arena_new_array(arena, struct mg_probe, count);
	out->probe_count = count;
	for (uint32_t i = 0; i < count; i++) {
		out->probes[i].group = mg_in_u32(in);
		out->probes[i].term = mg_in_u64(in);
		uint8_t flags = out->kind == MG_RAFT_FRAME_ANSWER ? mg_in_u8(in) : 0;

		out->probes[i].yes = flags & FLAG_YES;
		out->probes[i].promise = flags & FLAG_PROMISE;
		if (out->probes[i].group >= MG_GROUPS_MAX) {
			return false;
		}
	}
	return true;
}

int mg_raft_frame_decode(struct mg_arena *arena, const uint8_t *data, size_t size,
                         struct mg_raft_frame *out, struct mg_error *err)
{
	struct mg_in in = mg_in(data, size);
	uint32_t told = mg_in_u32(&in);
	uint8_t version = mg_in_u8(&in);

	*out = (struct mg_raft_frame){ .kind = mg_in_u8(&in) };
	uint16_t zero = mg_in_u16(&in);

	out->group = mg_in_u32(&in);
	out->from = mg_in_u64(&in);
	out->incarnation = mg_in_u64(&in);
	out->sequence = mg_in_u64(&in);
	if (in.failed || told != size || size > MG_RAFT_FRAME_SIZE_MAX || zero != 0) {
		return mg_error_set(err, MG_E_PROTOCOL, "a peer's frame of %zu bytes is damaged", size);
	}
	if (version != VERSION) {
		return mg_error_set(err, MG_E_PROTOCOL, "a peer speaks version %u of the protocol, not %d",
		                    version, VERSION);
	}
	if (out->from == 0 || out->incarnation == 0 || out->sequence == 0 ||
	    out->group >= MG_GROUPS_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL, "a peer's frame has no number");
	}
	bool sound;

	if (out->kind == MG_RAFT_FRAME_PROBE || out->kind == MG_RAFT_FRAME_ANSWER) {
		sound = probes_in(arena, &in, out);
	} else {
		out->message.kind = out->kind;
		out->message.peer = out->from;
		sound = message_in(arena, &in, &out->message, err);
	}
	if (!sound || !mg_in_done(&in)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a peer's frame of kind %u is damaged", out->kind);
	}
	mg_assert(out->from > 0);
	return 0;
}
