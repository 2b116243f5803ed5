/*
 * kv_id.c - requests that their clients have named: the same one again has the same answer, and
 * changes nothing more.
 *
 * What is kept:   u64 digest of the operations, then for each of them
 *     u8 status  u8 found  u64 version  u64 number
 *     u64 version, created, changed, expiry, and u32 size of value, type, encoding, of what was
 *     there, with their bytes
 */
#include "replica/kv_state_int.h"

#include <string.h>
#include <xxhash.h>

enum { FLAGS_AT = 2, EXPIRY_AT = 22, OP_HEAD = 30 }; /* kv_command.h */

/* What the client did not say, and may be another the next time. */
static const uint8_t *add_without_default(XXH3_state_t *state, const uint8_t *at, uint16_t flags)
{
	uint8_t head[OP_HEAD];
	struct mg_out out = mg_out(head + FLAGS_AT, sizeof flags);

	memcpy(head, at, sizeof head);
	mg_out_u16(&out, flags & (uint16_t)~(MG_KV_EXPIRES | MG_KV_EXPIRES_BY_DEFAULT));
	memset(head + EXPIRY_AT, 0, OP_HEAD - EXPIRY_AT);
	XXH3_64bits_update(state, head, sizeof head);
	return at + OP_HEAD;
}

/* Of a value in parts the bytes count, and not how they came here. */
static uint64_t digest(const struct mg_kv_request *request)
{
	struct mg_in ops = request->ops;
	struct mg_kv_op op;
	const uint8_t *from = ops.at;
	XXH3_state_t *state = XXH3_createState();

	XXH3_64bits_reset(state);
	for (uint32_t i = 0; i < request->op_count; i++) {
		const uint8_t *begin = ops.at;

		if (!mg_kv_op_next(&ops, &op)) {
			break;
		}
		if (op.flags & MG_KV_EXPIRES_BY_DEFAULT) {
			XXH3_64bits_update(state, from, (size_t)(begin - from));
			from = add_without_default(state, begin, op.flags);
		}
		if (op.kind == MG_KV_PUT_STAGED) {
			const uint8_t *id = (const uint8_t *)op.value.ptr;

			XXH3_64bits_update(state, from, (size_t)(id - from));
			from = id + MG_KV_TX_ID;
		}
	}
	XXH3_64bits_update(state, from, (size_t)(request->ops.end - from));
	uint64_t sum = XXH3_64bits_digest(state);

	XXH3_freeState(state);
	return sum;
}

/* ---- writing ---- */

static void add(struct mg_sb *out, const void *bytes, size_t size)
{
	mg_sb_add_len(out, bytes, size);
}

static void add_text(struct mg_sb *out, struct mg_str text)
{
	uint32_t size = (uint32_t)text.len;

	add(out, &size, sizeof size);
	add(out, text.ptr ? text.ptr : "", text.len);
}

static void add_result(struct mg_sb *out, const struct mg_kv_result *result)
{
	const uint8_t head[] = { (uint8_t)result->status, result->found };
	const struct mg_kv_found *was = &result->was;
	const uint64_t numbers[] = { result->version, (uint64_t)result->number, was->version,
		                         was->created_ms, was->changed_ms,          was->expiry_ms };

	add(out, head, sizeof head);
	add(out, numbers, sizeof numbers);
	add_text(out, was->value);
	add_text(out, was->type);
	add_text(out, was->encoding);
}

void mg_kv__keep_id(struct mg_kv_state *state, struct mg_str id, struct mg_str value,
                    bool for_good)
{
	uint64_t first = atomic_load(&state->expiry_ms);
	uint64_t expiry_ms = atomic_load(&state->time_ms) + MG_KV_ID_KEEP_MS;

	mg_lsm_batch_put(state->batch, mg_kv__id_key(state, id, &state->key), value);
	if (for_good) {
		return;
	}
	mg_lsm_batch_put(state->batch,
	                 mg_kv__expiry_key(state, expiry_ms, (struct mg_str){ "", 0 }, id, &state->key),
	                 (struct mg_str){ "", 0 });
	if (first == 0 || expiry_ms < first) {
		atomic_store(&state->expiry_ms, expiry_ms);
	}
}

void mg_kv__remember(struct mg_kv_state *state, const struct mg_kv_request *request,
                     const struct mg_kv_results *results)
{
	uint64_t sum = digest(request);
	struct mg_sb record = { 0 };

	add(&record, &sum, sizeof sum);
	for (uint32_t i = 0; i < results->count; i++) {
		add_result(&record, &results->list[i]);
	}
	mg_kv__keep_id(state, request->id, (struct mg_str){ record.ptr, record.len }, false);
	mg_sb_fini(&record);
}

/* ---- reading ---- */

static struct mg_str read_text(struct mg_in *in, struct mg_arena *arena)
{
	uint32_t size = mg_in_u32(in);
	const uint8_t *at = mg_in_bytes(in, size);

	return at ? (struct mg_str){ mg_arena_strndup(arena, (const char *)at, size), size }
	          : (struct mg_str){ 0 };
}

static void read_result(struct mg_in *in, struct mg_arena *arena, struct mg_kv_result *result)
{
	struct mg_kv_found *was = &result->was;

	result->status = mg_in_u8(in);
	result->found = mg_in_u8(in) == 1;
	result->version = mg_in_u64(in);
	result->number = (int64_t)mg_in_u64(in);
	was->version = mg_in_u64(in);
	was->created_ms = mg_in_u64(in);
	was->changed_ms = mg_in_u64(in);
	was->expiry_ms = mg_in_u64(in);
	was->value = read_text(in, arena);
	was->size = was->value.len; /* none that is in parts was told */
	was->type = read_text(in, arena);
	was->encoding = read_text(in, arena);
}

int mg_kv__recall(struct mg_kv_state *state, const struct mg_kv_request *request,
                  struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	struct mg_lsm_value value;
	int code = mg_lsm_batch_find(state->batch, mg_kv__id_key(state, request->id, &state->key),
	                             &value, err);

	if (code) {
		return code;
	}
	struct mg_in in = mg_in((const uint8_t *)value.bytes.ptr, value.bytes.len);
	bool same = mg_in_u64(&in) == digest(request);

	for (uint32_t i = 0; i < results->count; i++) {
		if (same) {
			read_result(&in, arena, &results->list[i]);
		} else {
			results->list[i] = (struct mg_kv_result){ .status = MG_KV_OTHER_REQUEST };
		}
	}
	if (same && !mg_in_done(&in)) {
		code = mg_error_set(err, MG_E_CORRUPT, "keys and values: an answer cannot be read");
	}
	mg_lsm_value_free(&value);
	return code;
}
