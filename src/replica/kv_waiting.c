/*
 * kv_waiting.c - a group's parts of transactions over several groups (kv_atomic.h): what waits
 * until it is decided, and holds its keys meanwhile.
 *
 * What waits is nothing but the operations: while nobody else may touch their keys, and time stands
 * still for them, they do later what they would have done when they were prepared.
 *
 *     't' id      u32 who decides  u64 time when it came  u32 count of operations
 *                 u8 size and bytes of the client's id of the request, the operations
 *     'l' key     id
 *     'r' 0 id    'C': it was decided here that it happens; 'A': that it never will
 */
#include "replica/kv_state_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"

#include <string.h>

enum { DECISION_ID = 1 + MG_KV_TX_ID };
#define NO_VERSION (UINT64_C(1) << 63)

/* ---- keys that are held ---- */

int mg_kv__is_held(struct mg_kv_state *state, struct mg_str space, struct mg_str key, bool *held,
                   struct mg_error *err)
{
	struct mg_lsm_value value;

	*held = false;
	if (state->waiting_count == 0) {
		return 0;
	}
	int code = mg_lsm_batch_find(state->batch, mg_kv__lock_key(state, space, key, &state->key),
	                             &value, err);

	if (code) {
		return code == MG_E_NOT_FOUND ? 0 : code;
	}
	*held = true;
	mg_lsm_value_free(&value);
	return 0;
}

uint64_t mg_kv_state_releases(const struct mg_kv_state *state)
{
	return atomic_load(&state->releases);
}

static void hold(struct mg_kv_state *state, struct mg_in ops, uint32_t count, struct mg_str id)
{
	struct mg_kv_op op;

	for (uint32_t i = 0; i < count && mg_kv_op_next(&ops, &op); i++) {
		mg_lsm_batch_put(state->batch, mg_kv__lock_key(state, op.space, op.key, &state->key), id);
	}
}

static void let_go(struct mg_kv_state *state, struct mg_in ops, uint32_t count)
{
	struct mg_kv_op op;

	for (uint32_t i = 0; i < count && mg_kv_op_next(&ops, &op); i++) {
		mg_lsm_batch_remove(state->batch, mg_kv__lock_key(state, op.space, op.key, &state->key));
	}
}

/* ---- who waits ---- */

static void note_waiting(struct mg_kv_state *state, const char *id, uint32_t decides)
{
	mg_grow(state->waiting, state->waiting_count, state->waiting_cap);
	struct mg_kv_waiting *waiting = &state->waiting[state->waiting_count++];

	*waiting = (struct mg_kv_waiting){ .decides = decides, .seen_ms = mg_clock_ms() };
	memcpy(waiting->id, id, MG_KV_TX_ID);
	atomic_fetch_add(&state->holders, 1);
}

/* Its place; or how many there are. */
static size_t find_waiting(const struct mg_kv_state *state, const char *id)
{
	size_t i = 0;

	while (i < state->waiting_count && memcmp(state->waiting[i].id, id, MG_KV_TX_ID) != 0) {
		i++;
	}
	return i;
}

static void forget_waiting(struct mg_kv_state *state, const char *id)
{
	size_t i = find_waiting(state, id);

	mg_assert(i < state->waiting_count);
	state->waiting[i] = state->waiting[--state->waiting_count];
	state->settled++;
	atomic_fetch_add(&state->releases, 1);
}

bool mg_kv_state_waits(const struct mg_kv_state *state, uint64_t since_ms, uint32_t avoid,
                       char *id, uint32_t *decides)
{
	const struct mg_kv_waiting *oldest = NULL;

	for (size_t i = 0; i < state->waiting_count; i++) {
		const struct mg_kv_waiting *waiting = &state->waiting[i];

		if (waiting->seen_ms <= since_ms && waiting->decides != avoid &&
		    (!oldest || waiting->seen_ms < oldest->seen_ms)) {
			oldest = waiting;
		}
	}
	if (oldest) {
		memcpy(id, oldest->id, MG_KV_TX_ID);
		*decides = oldest->decides;
	}
	return oldest != NULL;
}

/* ---- what stands in the tree ---- */

struct part {
	uint32_t decides;
	uint64_t since_ms;
	struct mg_kv_request request; /* without the transaction's own operation */
};

static void put_part(struct mg_kv_state *state, struct mg_str id, const struct part *part)
{
	uint8_t bytes[4 + 8 + 4 + 1];
	struct mg_out out = mg_out(bytes, sizeof bytes);
	const struct mg_in *ops = &part->request.ops;
	struct mg_sb record = { 0 };

	mg_out_u32(&out, part->decides);
	mg_out_u64(&out, part->since_ms);
	mg_out_u32(&out, part->request.op_count);
	mg_out_u8(&out, (uint8_t)part->request.id.len);
	mg_sb_add_len(&record, (const char *)bytes, out.size);
	mg_sb_add_len(&record, part->request.id.ptr ? part->request.id.ptr : "", part->request.id.len);
	mg_sb_add_len(&record, (const char *)ops->at, (size_t)(ops->end - ops->at));
	mg_lsm_batch_put(state->batch, mg_kv__waiting_key(state, id, &state->key),
	                 (struct mg_str){ record.ptr, record.len });
	mg_sb_fini(&record);
}

static int read_part(struct mg_str bytes, struct part *out, struct mg_error *err)
{
	struct mg_in in = mg_in((const uint8_t *)bytes.ptr, bytes.len);

	*out = (struct part){ .decides = mg_in_u32(&in), .since_ms = mg_in_u64(&in) };
	out->request.op_count = mg_in_u32(&in);
	uint8_t size = mg_in_u8(&in);
	const uint8_t *id = mg_in_bytes(&in, size);

	out->request.id = (struct mg_str){ (const char *)id, id ? size : 0 };
	out->request.ops = in;
	struct mg_kv_op op;
	bool good = !in.failed;

	for (uint32_t i = 0; good && i < out->request.op_count; i++) {
		good = mg_kv_op_next(&in, &op);
	}
	return good && mg_in_done(&in)
	           ? 0
	           : mg_error_set(err, MG_E_CORRUPT,
	                          "keys and values: a transaction that waits cannot be read");
}

int mg_kv__read_waiting(struct mg_kv_state *state, struct mg_error *err)
{
	struct mg_lsm_iter *iter = mg_kv__all_waiting(state);
	struct mg_str key, value;
	struct part part;
	int code = 0;

	state->waiting_count = 0;
	state->settled = 0;
	atomic_store(&state->holders, 0);
	atomic_fetch_add(&state->releases, 1); /* some may have been settled in between */
	while (!code && mg_lsm_iter_next(iter, &key, &value)) {
		code = read_part(value, &part, err);
		if (!code && key.len == MG_KV_PREFIX + 1 + MG_KV_TX_ID) {
			note_waiting(state, key.ptr + MG_KV_PREFIX + 1, part.decides);
		}
	}
	struct mg_error read = { 0 };
	int end_code = mg_lsm_iter_close(iter, &read);

	if (!code && end_code) {
		*err = read;
		code = end_code;
	}
	return code;
}

/* ---- decisions ---- */

static struct mg_str decision_id(struct mg_str id, char room[DECISION_ID])
{
	room[0] = '\0';
	memcpy(room + 1, id.ptr, MG_KV_TX_ID);
	return (struct mg_str){ room, DECISION_ID };
}

/* *out: 'C', 'A', or 0: it was not decided. */
static int find_decision(struct mg_kv_state *state, struct mg_str id, char *out,
                         struct mg_error *err)
{
	char room[DECISION_ID];
	struct mg_lsm_value value;
	struct mg_str key = mg_kv__id_key(state, decision_id(id, room), &state->key);
	int code = mg_lsm_batch_find(state->batch, key, &value, err);

	*out = 0;
	if (code) {
		return code == MG_E_NOT_FOUND ? 0 : code;
	}
	*out = value.bytes.len == 1 ? value.bytes.ptr[0] : 0;
	mg_lsm_value_free(&value);
	return *out == 'C' || *out == 'A'
	           ? 0
	           : mg_error_set(err, MG_E_CORRUPT, "keys and values: a decision cannot be read");
}

/* One that it happens stays until the coordinator has settled all parts, for good if that has died;
 * one that it does not only keeps a DECIDE that is late from changing that, and such a one has its
 * own last moment, long before this goes. */
static void put_decision(struct mg_kv_state *state, struct mg_str id, char decision)
{
	char room[DECISION_ID];

	mg_kv__keep_id(state, decision_id(id, room), (struct mg_str){ &decision, 1 }, decision == 'C');
}

/* ---- operations ---- */

/* Only looks, then takes all back but the lock.  What versions it will make is not known yet: those
 * that it makes now are such that no condition can have guessed one.  Whether a namespace would
 * hold too much is for who knows all parts to say. */
static int prepare(struct mg_kv_state *state, struct mg_str id, const struct part *part,
                   struct mg_arena *arena, struct mg_kv_results *rest, struct mg_error *err)
{
	uint32_t count = part->request.op_count, refused;
	struct mg_kv_before before = mg_kv__before(state);

	state->version = NO_VERSION;
	state->unlimited = true;
	int code = mg_kv__run(state, part->request.ops, count, arena, rest->list, &refused, err);

	state->unlimited = false;
	if (!code) {
		mg_kv__go_back(state, &before);
		if (refused < count) {
			mg_kv__tell_refused(rest->list, count, refused);
		} else {
			put_part(state, id, part);
			hold(state, part->request.ops, count, id);
			note_waiting(state, id.ptr, part->decides);
		}
	}
	mg_kv__before_end(&before);
	return code;
}

static int decide(struct mg_kv_state *state, struct mg_str id, const struct part *part,
                  struct mg_arena *arena, struct mg_kv_results *rest, struct mg_error *err)
{
	uint32_t count = part->request.op_count, refused;
	struct mg_kv_before before = mg_kv__before(state);
	int code = mg_kv__run(state, part->request.ops, count, arena, rest->list, &refused, err);

	if (!code && refused < count) {
		mg_kv__go_back(state, &before);
		mg_kv__tell_refused(rest->list, count, refused);
	} else if (!code) {
		put_decision(state, id, 'C');
		if (part->request.id.len) {
			mg_kv__remember(state, &part->request, rest);
		}
	}
	mg_kv__before_end(&before);
	return code;
}

/* What waited happens, with the time as it was.  It cannot be refused: should it be, by an error of
 * ours, then the group lives on. */
static int happen(struct mg_kv_state *state, const struct part *part, struct mg_arena *arena,
                  struct mg_kv_results *results, struct mg_error *err)
{
	uint32_t count = part->request.op_count, refused;
	struct mg_kv_result *list = mg_arena_new_array(arena, struct mg_kv_result, count + 1);
	struct mg_kv_results rest = { .count = count, .list = list + 1 };

	struct mg_kv_before before = mg_kv__before(state);

	list[0] = results->list[0];
	state->now_ms = part->since_ms;
	state->unlimited = true;
	int code = mg_kv__run(state, part->request.ops, count, arena, rest.list, &refused, err);

	state->unlimited = false;
	state->now_ms = atomic_load(&state->time_ms);
	if (!code && refused < count) {
		mg_log(MG_LOG_ERROR, "kv.lost", "operation=%u status=%d", (unsigned)refused,
		       (int)rest.list[refused].status);
		mg_kv__go_back(state, &before);
		mg_kv__tell_refused(rest.list, count, refused);
	} else if (!code && part->request.id.len) {
		mg_kv__remember(state, &part->request, &rest);
	}
	mg_kv__before_end(&before);
	*results = (struct mg_kv_results){ results->number, count + 1, list };
	return code;
}

static int settle(struct mg_kv_state *state, const struct mg_kv_op *op, struct mg_arena *arena,
                  struct mg_kv_results *results, struct mg_error *err)
{
	struct mg_lsm_value value;
	struct part part;
	struct mg_str key = mg_kv__waiting_key(state, op->key, &state->key);
	int code = mg_lsm_batch_find(state->batch, key, &value, err);

	if (code) {
		return code == MG_E_NOT_FOUND ? 0 : code; /* it never waited, or it was settled before */
	}
	code = read_part(value.bytes, &part, err);
	if (!code) {
		mg_lsm_batch_remove(state->batch, mg_kv__waiting_key(state, op->key, &state->key));
		let_go(state, part.request.ops, part.request.op_count);
		forget_waiting(state, op->key.ptr);
		results->list[0].found = true;
	}
	if (!code && op->number == 1) {
		code = happen(state, &part, arena, results, err);
	}
	mg_lsm_value_free(&value);
	return code;
}

static int inquire(struct mg_kv_state *state, const struct mg_kv_op *op,
                   struct mg_kv_result *result, struct mg_error *err)
{
	char decision = 0;
	int code = find_decision(state, op->key, &decision, err);

	if (!code && decision == 0) {
		put_decision(state, op->key, 'A');
	}
	result->number = decision == 'C';
	return code;
}

static int run_first(struct mg_kv_state *state, const struct mg_kv_op *op, const struct part *part,
                     struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	struct mg_kv_results rest = { .count = part->request.op_count, .list = results->list + 1 };
	int code = MG_E_NOT_FOUND;
	char decision = 0;

	if (part->request.id.len) {
		code = mg_kv__recall(state, &part->request, arena, &rest, err);
	}
	if (code != MG_E_NOT_FOUND) {
		results->list[0].found = true;
		return code;
	}
	if (op->kind == MG_KV_PREPARE && find_waiting(state, op->key.ptr) < state->waiting_count) {
		results->list[0].status = MG_KV_LOCKED; /* by itself: nobody sends it twice */
		mg_kv__tell_refused(rest.list, rest.count, rest.count);
		return 0;
	}
	if (op->kind == MG_KV_PREPARE) {
		return prepare(state, op->key, part, arena, &rest, err);
	}
	code = find_decision(state, op->key, &decision, err);
	if (!code && (decision || state->now_ms > op->expiry)) {
		results->list[0].status = MG_KV_ABORTED;
		mg_kv__tell_refused(rest.list, rest.count, rest.count);
		return 0;
	}
	return code ? code : decide(state, op->key, part, arena, &rest, err);
}

int mg_kv__run_part(struct mg_kv_state *state, const struct mg_kv_request *request,
                    struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	struct part part = { .since_ms = state->now_ms, .request = *request };
	struct mg_kv_op op;
	bool good = mg_kv_op_next(&part.request.ops, &op);
	char room[DECISION_ID];

	mg_assert(good);
	part.request.op_count--;
	part.decides = (uint32_t)op.number;
	switch (op.kind) {
	case MG_KV_SETTLE:
		return settle(state, &op, arena, results, err);
	case MG_KV_INQUIRE:
		return inquire(state, &op, &results->list[0], err);
	case MG_KV_FORGET:
		mg_lsm_batch_remove(state->batch,
		                    mg_kv__id_key(state, decision_id(op.key, room), &state->key));
		return 0;
	default:
		return run_first(state, &op, &part, arena, results, err);
	}
}
