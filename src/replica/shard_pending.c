/*
 * shard_pending.c - what a shard knows beside its rows, in its file: what is in doubt, the fence,
 * and what belongs together.
 *
 * It is written with each checkpoint, and goes with the file to others.
 *
 * owner: the lane.
 */
#include "replica/shard_sm_int.h"

#include <inttypes.h>

/* Somebody reads a part of it when others are not there yet: it is not known which. */
bool mg_shard_sm__is_blind(const struct mg_shard_sm *sm)
{
	bool blind = sm->old;

	for (size_t i = 0; i < sm->part_count; i++) {
		blind = blind || sm->parts[i].old;
	}
	for (size_t i = 0; i < sm->decision_count; i++) {
		blind = blind || (sm->decisions[i].commit && sm->decisions[i].number == 0);
	}
	return blind;
}

static void encode_together(const struct mg_shard_sm *sm, struct mg_out *out, size_t seen)
{
	mg_out_u8(out, sm->old);
	for (size_t i = 0; i < sm->part_count; i++) {
		mg_out_u8(out, sm->parts[i].old);
	}
	for (size_t i = 0; i < sm->decision_count; i++) {
		const struct mg_decision *decision = &sm->decisions[i];
		size_t size = decision->shards ? decision->shards->size : 0;

		mg_out_u64(out, decision->number);
		mg_out_u32(out, (uint32_t)size);
		mg_out_bytes(out, size ? decision->shards->data : NULL, size);
	}
	mg_out_u32(out, (uint32_t)seen);
	for (size_t i = 0; i < seen; i++) {
		mg_out_u64(out, sm->seen[i]);
	}
}

/* Behind the rest, which is decoded. */
static void decode_together(struct mg_shard_sm *sm, struct mg_in *in)
{
	sm->old = mg_in_u8(in) == 1;
	for (size_t i = 0; i < sm->part_count; i++) {
		sm->parts[i].old = mg_in_u8(in) == 1;
	}
	for (size_t i = 0; i < sm->decision_count; i++) {
		struct mg_decision *decision = &sm->decisions[i];

		decision->number = mg_in_u64(in);
		uint32_t size = mg_in_u32(in);
		const uint8_t *shards = mg_in_bytes(in, size);

		decision->shards = shards && size ? mg_buf_copy(shards, size) : NULL;
	}
	uint32_t count = mg_in_u32(in);

	for (uint32_t i = 0; !in->failed && i < count; i++) {
		uint64_t seen = mg_in_u64(in);

		if (sm->seen && i < mg_cuts_count(sm->options.cuts)) {
			sm->seen[i] = seen;
		}
	}
}

/* What is in doubt, as bytes: u32 parts, each with transaction, home, u32 size, redo; u32
 * decisions, each with transaction, u8; u64 epoch of the fence.  Then, since commits have numbers:
 * u8 old; each part's u8 old; each decision's u64 number, u32 size, shards;
 * u32 count, u64 seen of each shard. */
struct mg_buf *mg_shard_sm__encode_pending(struct mg_shard_sm *sm)
{
	size_t seen = sm->seen ? mg_cuts_count(sm->options.cuts) : 0;
	size_t size = 21 + sm->decision_count * (sizeof(struct mg_txid) + 13) + 8 * seen;

	for (size_t i = 0; i < sm->part_count; i++) {
		size += sizeof(struct mg_txid) + 9 + sm->parts[i].redo->size;
	}
	for (size_t i = 0; i < sm->decision_count; i++) {
		size += sm->decisions[i].shards ? sm->decisions[i].shards->size : 0;
	}
	struct mg_buf *buf = mg_buf_new(size);

	if (!buf) {
		return NULL;
	}
	struct mg_out out = mg_out(buf->data, size);

	mg_out_u32(&out, (uint32_t)sm->part_count);
	for (size_t i = 0; i < sm->part_count; i++) {
		const struct mg_part *part = &sm->parts[i];

		mg_out_bytes(&out, &part->transaction, sizeof part->transaction);
		mg_out_u32(&out, part->home);
		mg_out_u32(&out, (uint32_t)part->redo->size);
		mg_out_bytes(&out, part->redo->data, part->redo->size);
	}
	mg_out_u32(&out, (uint32_t)sm->decision_count);
	for (size_t i = 0; i < sm->decision_count; i++) {
		mg_out_bytes(&out, &sm->decisions[i].transaction, sizeof(struct mg_txid));
		mg_out_u8(&out, sm->decisions[i].commit);
	}
	mg_out_u64(&out, mg_shard_sm__fence_at(sm, sm->index));
	encode_together(sm, &out, seen);
	buf->size = out.size;
	return buf;
}

/* Written when commits had no numbers. */
static void mark_old(struct mg_shard_sm *sm)
{
	for (size_t i = 0; i < sm->part_count; i++) {
		sm->parts[i].old = true;
	}
}

static int pending_decode(struct mg_shard_sm *sm, const struct mg_buf *buf, struct mg_error *err)
{
	struct mg_in in = mg_in(buf->data, buf->size);
	uint32_t count = mg_in_u32(&in);

	for (uint32_t i = 0; !in.failed && i < count; i++) {
		struct mg_command command = { 0 };

		mg_in_number(&in, &command.transaction, sizeof command.transaction);
		command.home = mg_in_u32(&in);
		uint32_t size = mg_in_u32(&in);
		const uint8_t *redo = mg_in_bytes(&in, size);

		if (redo) {
			mg_shard_sm__add_part(sm, &command, mg_buf_copy(redo, size));
		}
	}
	count = mg_in_u32(&in);
	for (uint32_t i = 0; !in.failed && i < count; i++) {
		struct mg_txid txid;

		mg_in_number(&in, &txid, sizeof txid);
		mg_shard_sm__add_decision(sm, &txid, mg_in_u8(&in) == 1, 0, NULL);
	}
	if (!in.failed && in.at != in.end) { /* before there were fences, there was none */
		mg_shard_sm__add_fence(sm, mg_in_u64(&in), 0);
	}
	if (!in.failed && in.at != in.end) {
		decode_together(sm, &in);
	} else {
		mark_old(sm);
	}
	return mg_in_done(&in) ? 0
	                       : mg_error_set(err, MG_E_CORRUPT,
	                                      "shard %" PRIu32 " does not know what it has prepared",
	                                      sm->options.shard);
}

void mg_shard_sm__forget_all(struct mg_shard_sm *sm)
{
	for (size_t i = 0; i < sm->part_count; i++) {
		mg_buf_unref(sm->parts[i].redo);
	}
	for (size_t i = 0; i < sm->decision_count; i++) {
		mg_buf_unref(sm->decisions[i].shards);
	}
	for (size_t i = 0; sm->seen && i < mg_cuts_count(sm->options.cuts); i++) {
		sm->seen[i] = 0;
	}
	sm->old = true;
	sm->part_count = sm->decision_count = sm->fence_count = 0;
}

int mg_shard_sm__read_pending(struct mg_shard_sm *sm, struct mg_error *err)
{
	struct mg_buf *pending = NULL;
	int code = mg_shard_writer_pending(sm->writer, &pending, err);

	pthread_mutex_lock(&sm->lock);
	mg_shard_sm__forget_all(sm);
	code = !code && pending && pending->size ? pending_decode(sm, pending, err) : code;
	pthread_mutex_unlock(&sm->lock);
	mg_buf_unref(pending);
	if (!code && sm->seen) {
		sm->blind = mg_shard_sm__is_blind(sm);
		sm->seen_is_newer = false;
		mg_cuts_publish_begin(sm->options.cuts, sm->options.shard);
		mg_cuts_publish_end(sm->options.cuts, sm->options.shard, sm->seen, sm->blind);
	}
	return code;
}
