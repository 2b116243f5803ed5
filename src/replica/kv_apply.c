/*
 * kv_apply.c - see kv_state.h: what entries do to a group's keys.
 *
 * Everything here is a function of the entries so far, and of nothing else: so all replicas hold
 * the same, and who proposed a request finds its answer where it is applied.
 */
#include "replica/kv_state_int.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TICK_KEYS_MAX = 1000, NUMBER_TEXT = 24 };

#define CONDITION_EXPIRY                                                                  \
	(MG_KV_IF_EXPIRY_NONE | MG_KV_IF_EXPIRY_LATER | MG_KV_IF_EXPIRY_SOONER | MG_KV_IF_EXPIRY_ANY)

/* An operation under way. */
struct step {
	struct mg_kv_state *state;
	const struct mg_kv_op *op;
	struct mg_lsm_value stored; /* what `was` points into */
	struct mg_kv_found was;
	struct mg_kv_upload upload; /* PUT_STAGED */
	bool is_stored, is_there; /* it may be stored and have expired */
	struct mg_arena *arena;   /* of its answer; NULL: nobody wants one */
	size_t *work;             /* bytes of its request so far, wanted or not */
	struct mg_kv_result *result;
};

static size_t weight(const struct mg_kv_op *op, const struct mg_kv_found *found)
{
	return op->key.len + found->size + found->type.len + found->encoding.len;
}

static int find(struct step *step, struct mg_error *err)
{
	struct mg_kv_state *state = step->state;
	struct mg_str key = mg_kv__data_key(state, step->op->space, step->op->key, &state->key);
	int code = mg_lsm_batch_find(state->batch, key, &step->stored, err);

	if (code) {
		return code == MG_E_NOT_FOUND ? 0 : code;
	}
	code = mg_kv__record_read(step->stored.bytes, &step->was, err);
	step->is_stored = true;
	step->is_there = !code && mg_kv__is_there(&step->was, state->now_ms);
	return code;
}

/* What stood in the key, when `now` does not: NULL, or what will. */
static void drop_parts(struct step *step, const struct mg_kv_found *now)
{
	bool same = now && now->part_count &&
	            memcmp(now->parts, step->was.parts, sizeof now->parts) == 0;

	if (step->is_stored && !same) {
		mg_kv__drop_parts(step->state, &step->was);
	}
}

/* ---- changes ---- */

static void count(struct step *step, int64_t keys, int64_t bytes)
{
	struct mg_kv_space *space = mg_kv__space(step->state, step->op->space);

	space->keys += (uint64_t)keys;
	space->bytes += (uint64_t)bytes;
	space->changed = true;
	step->result->more_keys += keys;
	step->result->more_bytes += bytes;
}

static void forget_expiry(struct step *step)
{
	struct mg_kv_state *state = step->state;

	if (step->is_stored && step->was.expiry_ms) {
		mg_lsm_batch_remove(state->batch,
		                    mg_kv__expiry_key(state, step->was.expiry_ms, step->op->space,
		                                      step->op->key, &state->key));
	}
}

static void note_expiry(struct step *step, uint64_t expiry_ms)
{
	struct mg_kv_state *state = step->state;
	uint64_t first = atomic_load(&state->expiry_ms);

	mg_lsm_batch_put(state->batch,
	                 mg_kv__expiry_key(state, expiry_ms, step->op->space, step->op->key,
	                                   &state->key),
	                 (struct mg_str){ "", 0 });
	if (first == 0 || expiry_ms < first) {
		atomic_store(&state->expiry_ms, expiry_ms);
	}
}

/* For who watches keys.  now: what is stored, or a version alone. */
static void tell_change(struct step *step, enum mg_kv_change_kind kind,
                        const struct mg_kv_found *now)
{
	mg_kv_feed_add(step->state->feed,
	               &(struct mg_kv_change){ .kind = kind,
	                                       .version = now->version,
	                                       .created_ms = now->created_ms,
	                                       .changed_ms = step->state->now_ms,
	                                       .expiry_ms = now->expiry_ms,
	                                       .space = step->op->space,
	                                       .key = step->op->key,
	                                       .size = now->size,
	                                       .value = now->value,
	                                       .type = now->type,
	                                       .encoding = now->encoding });
}

static void take_away(struct step *step)
{
	struct mg_kv_state *state = step->state;

	if (step->is_stored) {
		const struct mg_kv_found gone = { .version = ++state->version };

		tell_change(step, step->is_there ? MG_KV_CHANGE_DELETE : MG_KV_CHANGE_EXPIRE, &gone);
		mg_lsm_batch_remove(state->batch, mg_kv__data_key(state, step->op->space, step->op->key,
		                                                  &state->key));
		forget_expiry(step);
		drop_parts(step, NULL);
		count(step, -1, -(int64_t)weight(step->op, &step->was));
	}
	step->result->version = 0;
}

/* now: value or parts and their size, type, encoding, expiry. */
static void store(struct step *step, struct mg_kv_found *now)
{
	struct mg_kv_state *state = step->state;
	uint64_t time_ms = state->now_ms;

	if (now->expiry_ms && now->expiry_ms <= time_ms) {
		take_away(step);
		return;
	}
	now->size = now->part_count ? now->size : now->value.len;
	now->version = ++state->version;
	now->created_ms = step->is_there ? step->was.created_ms : time_ms;
	now->changed_ms = time_ms;
	drop_parts(step, now);
	tell_change(step, MG_KV_CHANGE_PUT, now);
	mg_kv__record(now, &state->value);
	*step->work += state->value.len;
	mg_lsm_batch_put(state->batch,
	                 mg_kv__data_key(state, step->op->space, step->op->key, &state->key),
	                 (struct mg_str){ state->value.ptr, state->value.len });
	if (!step->is_stored || step->was.expiry_ms != now->expiry_ms) {
		forget_expiry(step);
		if (now->expiry_ms) {
			note_expiry(step, now->expiry_ms);
		}
	}
	count(step, !step->is_stored,
	      (int64_t)weight(step->op, now) -
	          (step->is_stored ? (int64_t)weight(step->op, &step->was) : 0));
	step->result->version = now->version;
}

/* ---- conditions ---- */

static uint64_t new_expiry(const struct step *step)
{
	const struct mg_kv_op *op = step->op;
	uint64_t time_ms = step->state->now_ms;

	bool keeps = op->flags & MG_KV_KEEP_EXPIRY && step->is_there;

	if (!(op->flags & MG_KV_EXPIRES) || (keeps && op->flags & MG_KV_EXPIRES_BY_DEFAULT)) {
		return keeps ? step->was.expiry_ms : 0;
	}
	if (op->flags & MG_KV_ABSOLUTE) {
		return op->expiry ? op->expiry : 1; /* 0 would be for ever */
	}
	return op->expiry < UINT64_MAX - time_ms ? time_ms + op->expiry : UINT64_MAX;
}

static bool expiry_fits(const struct step *step)
{
	uint16_t flags = step->op->flags;
	uint64_t was = step->was.expiry_ms, now = new_expiry(step);

	return !(flags & MG_KV_IF_EXPIRY_NONE && was != 0) &&
	       !(flags & MG_KV_IF_EXPIRY_ANY && was == 0) &&
	       !(flags & MG_KV_IF_EXPIRY_LATER && (was == 0 || now <= was)) &&
	       !(flags & MG_KV_IF_EXPIRY_SOONER && was != 0 && now >= was);
}

static enum mg_kv_status check(const struct step *step)
{
	const struct mg_kv_op *op = step->op;
	uint64_t version = step->is_there ? step->was.version : 0;

	if (op->flags & MG_KV_IF_ABSENT && step->is_there) {
		return MG_KV_PRESENT;
	}
	if (op->flags & MG_KV_IF_PRESENT && !step->is_there) {
		return MG_KV_ABSENT;
	}
	if (op->flags & MG_KV_IF_VERSION && op->number != version) {
		return MG_KV_OTHER_VERSION;
	}
	if (op->flags & CONDITION_EXPIRY && step->is_there && !expiry_fits(step)) {
		return MG_KV_OTHER_EXPIRY;
	}
	return MG_KV_DONE;
}

/* ---- quotas ---- */

static uint64_t left_of(uint64_t max, uint64_t elsewhere)
{
	return max > elsewhere ? max - elsewhere : 0;
}

/* Only what makes the namespace larger can be too much.  now: with its size. */
static bool is_over_quota(struct step *step, const struct mg_kv_found *now)
{
	const struct mg_kv_space *space = mg_kv__space(step->state, step->op->space);
	const struct mg_kv_limit *limit = &space->limit;
	bool goes = now->expiry_ms && now->expiry_ms <= step->state->now_ms;
	size_t was = step->is_stored ? weight(step->op, &step->was) : 0, is = weight(step->op, now);

	if (goes || step->state->unlimited) {
		return false;
	}
	if (limit->keys_max && !step->is_stored &&
	    space->keys + 1 > left_of(limit->keys_max, limit->keys_elsewhere)) {
		step->result->quota = limit->keys_max;
		step->result->quota_of_keys = true;
		return true;
	}
	if (limit->bytes_max && is > was &&
	    space->bytes + (is - was) > left_of(limit->bytes_max, limit->bytes_elsewhere)) {
		step->result->quota = limit->bytes_max;
		return true;
	}
	return false;
}

/* As store, of a value that may be another than before; now: its size only when it is in parts. */
static enum mg_kv_status fill(struct step *step, struct mg_kv_found *now)
{
	now->size = now->part_count ? now->size : now->value.len;
	if (is_over_quota(step, now)) {
		return MG_KV_OVER_QUOTA;
	}
	store(step, now);
	return MG_KV_DONE;
}

/* ---- operations ---- */

static enum mg_kv_status put(struct step *step)
{
	struct mg_kv_found now = { .value = step->op->value,
		                       .type = step->op->type,
		                       .encoding = step->op->encoding,
		                       .expiry_ms = new_expiry(step) };

	return fill(step, &now);
}

/* The parts are in the tree: they only become the key's. */
static enum mg_kv_status put_staged(struct step *step)
{
	const struct mg_kv_upload *upload = &step->upload;

	if (!upload->is_there) {
		return MG_KV_ABORTED;
	}
	struct mg_kv_found now = { .type = step->op->type,
		                       .encoding = step->op->encoding,
		                       .expiry_ms = new_expiry(step),
		                       .size = upload->size,
		                       .part_count = upload->count };

	memcpy(now.parts, upload->id, sizeof now.parts);
	if (is_over_quota(step, &now)) {
		return MG_KV_OVER_QUOTA;
	}
	mg_kv__take_upload(step->state, upload);
	if (now.expiry_ms && now.expiry_ms <= step->state->now_ms) {
		mg_kv__drop_parts(step->state, &now);
	}
	store(step, &now);
	return MG_KV_DONE;
}

/* As it is written by printf: no blanks, no plus, no leading zeros. */
static bool read_number(struct mg_str text, int64_t *out)
{
	char copy[NUMBER_TEXT], again[NUMBER_TEXT];

	if (text.len == 0 || text.len >= sizeof copy) {
		return false;
	}
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = '\0';
	if (sscanf(copy, "%" SCNd64, out) != 1) {
		return false;
	}
	snprintf(again, sizeof again, "%" PRId64, *out);
	return strlen(again) == text.len && memcmp(again, copy, text.len) == 0;
}

static enum mg_kv_status add(struct step *step)
{
	int64_t was = 0, sum = 0;
	char text[NUMBER_TEXT];

	if (step->is_there && !read_number(step->was.value, &was)) {
		return MG_KV_NO_NUMBER;
	}
	if (__builtin_add_overflow(was, (int64_t)step->op->number, &sum)) {
		return MG_KV_OVERFLOW;
	}
	snprintf(text, sizeof text, "%" PRId64, sum);
	struct mg_kv_found now = { .value = mg_str(text) };

	if (step->is_there) {
		now.type = step->was.type;
		now.encoding = step->was.encoding;
		now.expiry_ms = step->was.expiry_ms;
	} else {
		now.expiry_ms = new_expiry(step);
	}
	step->result->number = sum;
	return fill(step, &now);
}

static enum mg_kv_status append(struct step *step)
{
	struct mg_kv_found now = step->is_there
	                             ? step->was
	                             : (struct mg_kv_found){ .expiry_ms = new_expiry(step) };
	uint64_t size = now.size + step->op->value.len;
	struct mg_sb whole = { 0 };

	if (now.part_count || size > MG_KV_VALUE_MAX) {
		return MG_KV_TOO_LARGE;
	}
	mg_sb_add_len(&whole, now.value.ptr, now.value.len);
	mg_sb_add_len(&whole, step->op->value.ptr, step->op->value.len);
	now.value = (struct mg_str){ mg_sb_text(&whole), whole.len };
	step->result->number = (int64_t)size;
	enum mg_kv_status status = fill(step, &now);

	mg_sb_fini(&whole);
	return status;
}

static enum mg_kv_status expire(struct step *step)
{
	struct mg_kv_found now = step->was;

	if (!step->is_there) {
		return MG_KV_ABSENT;
	}
	now.expiry_ms = new_expiry(step);
	step->result->found = true;
	store(step, &now);
	return MG_KV_DONE;
}

static struct mg_str keep(struct step *step, struct mg_str text)
{
	char *copy = mg_arena_alloc(step->arena, text.len + 1);

	if (text.len) {
		memcpy(copy, text.ptr, text.len);
	}
	return (struct mg_str){ copy, text.len };
}

static void tell_was(struct step *step)
{
	struct mg_kv_result *result = step->result;

	result->found = true;
	*step->work += step->was.value.len + step->was.type.len + step->was.encoding.len;
	if (step->arena) {
		result->was = step->was;
		result->was.value = keep(step, step->was.value);
		result->was.type = keep(step, step->was.type);
		result->was.encoding = keep(step, step->was.encoding);
	}
}

static enum mg_kv_status execute(struct step *step)
{
	const struct mg_kv_op *op = step->op;
	enum mg_kv_status status = check(step);

	step->result->version = step->is_there ? step->was.version : 0;
	if (step->is_there && (op->kind == MG_KV_READ || op->flags & MG_KV_WANT_OLD)) {
		tell_was(step);
		if (step->was.part_count) {
			return MG_KV_TOO_LARGE; /* for an answer, of which every replica may keep a copy */
		}
	}
	if (status != MG_KV_DONE) {
		return status;
	}
	switch (op->kind) {
	case MG_KV_PUT:
		return put(step);
	case MG_KV_PUT_STAGED:
		return put_staged(step);
	case MG_KV_DELETE:
		step->result->found = step->is_there;
		if (step->is_there) {
			take_away(step);
		}
		return MG_KV_DONE;
	case MG_KV_ADD:
		return add(step);
	case MG_KV_APPEND:
		return append(step);
	case MG_KV_EXPIRE:
		return expire(step);
	default:
		return MG_KV_DONE; /* READ, CHECK */
	}
}

/* ---- requests ---- */

static int run_op(struct mg_kv_state *state, const struct mg_kv_op *op, struct mg_arena *arena,
                  size_t *work, struct mg_kv_result *result, struct mg_error *err)
{
	struct step step = {
		.state = state, .op = op, .arena = arena, .work = work, .result = result
	};
	bool held = false;
	int code = mg_kv__is_held(state, op->space, op->key, &held, err);

	code = code || held ? code : find(&step, err);
	if (!code && op->kind == MG_KV_PUT_STAGED) {
		code = mg_kv__find_staged(state, op, &step.upload, err);
	}
	if (!code) {
		result->status = held ? MG_KV_LOCKED : execute(&step);
		result->status = *work > MG_KV_WORK_MAX ? MG_KV_TOO_MUCH : result->status;
	}
	mg_lsm_value_free(&step.stored);
	return code;
}

struct mg_kv_before mg_kv__before(struct mg_kv_state *state)
{
	struct mg_kv_before before = { .version = state->version,
		                           .expiry_ms = atomic_load(&state->expiry_ms),
		                           .staged = atomic_load(&state->staged),
		                           .count = state->space_count,
		                           .changes = mg_kv_feed_mark(state->feed) };
	size_t size = before.count * sizeof *before.spaces;

	mg_lsm_batch_mark(state->batch);
	before.spaces = mg_alloc(size + 1);
	if (size) {
		memcpy(before.spaces, state->spaces, size);
	}
	return before;
}

void mg_kv__go_back(struct mg_kv_state *state, const struct mg_kv_before *before)
{
	mg_lsm_batch_back(state->batch);
	state->went_back = true;
	mg_kv_feed_back(state->feed, before->changes);
	state->version = before->version;
	atomic_store(&state->expiry_ms, before->expiry_ms);
	atomic_store(&state->staged, before->staged);
	state->space_count = before->count;
	state->space_last = 0;
	if (before->count) {
		memcpy(state->spaces, before->spaces, before->count * sizeof *before->spaces);
	}
}

void mg_kv__before_end(struct mg_kv_before *before)
{
	mg_free(before->spaces);
}

void mg_kv__tell_refused(struct mg_kv_result *list, uint32_t count, uint32_t refused)
{
	for (uint32_t i = 0; i < count; i++) {
		if (i != refused) {
			list[i] = (struct mg_kv_result){ .status = MG_KV_NOT_TRIED };
		}
	}
}

bool mg_kv_stops(const struct mg_kv_op *op, enum mg_kv_status status)
{
	return status == MG_KV_LOCKED || status == MG_KV_TOO_MUCH || status == MG_KV_ABORTED ||
	       (status == MG_KV_OVER_QUOTA && op->flags & MG_KV_TOGETHER) ||
	       (status != MG_KV_DONE && !(op->flags & MG_KV_ALONE));
}

int mg_kv__run(struct mg_kv_state *state, struct mg_in ops, uint32_t count, struct mg_arena *arena,
               struct mg_kv_result *list, uint32_t *refused, struct mg_error *err)
{
	size_t work = 0;
	int code = 0;

	*refused = count;
	for (uint32_t i = 0; !code && *refused == count && i < count; i++) {
		struct mg_kv_result ignored = { 0 };
		struct mg_kv_result *result = list ? &list[i] : &ignored;
		struct mg_kv_op op;
		bool good = mg_kv_op_next(&ops, &op);

		mg_assert(good); /* mg_kv_entry_decode has read it */
		code = run_op(state, &op, arena, &work, result, err);
		if (!code && mg_kv_stops(&op, result->status)) {
			*refused = i;
		}
	}
	return code;
}

/* results: NULL, nobody wants them. */
static int run_ops(struct mg_kv_state *state, const struct mg_kv_request *request,
                   struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	uint32_t count = request->op_count, refused;
	struct mg_kv_before before = count > 1 ? mg_kv__before(state) : (struct mg_kv_before){ 0 };
	struct mg_kv_result *list = results ? results->list : NULL;
	int code = mg_kv__run(state, request->ops, count, results ? arena : NULL, list, &refused, err);

	if (!code && refused < count && count > 1) {
		mg_kv__go_back(state, &before);
		if (list) {
			mg_kv__tell_refused(list, count, refused);
		}
	}
	mg_kv__before_end(&before);
	return code;
}

/* Under the same id: with the parts of another upload, when the key is free, or when there is room.
 */
static bool comes_again(const struct mg_kv_results *results)
{
	bool again = false;

	for (uint32_t i = 0; !again && i < results->count; i++) {
		enum mg_kv_status status = results->list[i].status;

		again = status == MG_KV_LOCKED || status == MG_KV_ABORTED || status == MG_KV_OVER_QUOTA;
	}
	return again;
}

/* One that its client has named: every replica keeps its answer. */
static int run_named(struct mg_kv_state *state, const struct mg_kv_request *request,
                     struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	struct mg_arena *own = results ? NULL : mg_arena_new();
	struct mg_arena *room = own ? own : arena;
	struct mg_kv_results answer = { .count = request->op_count };

	answer.list = results ? results->list
	                      : mg_arena_new_array(room, struct mg_kv_result, answer.count + 1);
	int code = mg_kv__recall(state, request, room, &answer, err);

	if (code == MG_E_NOT_FOUND) {
		code = run_ops(state, request, room, &answer, err);
		if (!code && !comes_again(&answer)) {
			mg_kv__remember(state, request, &answer);
		}
	}
	mg_arena_free(own);
	return code;
}

static int run_part(struct mg_kv_state *state, const struct mg_kv_request *request,
                    struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	struct mg_in ops = request->ops;
	struct mg_kv_op first;

	if (mg_kv_op_next(&ops, &first) && first.kind >= MG_KV_STAGE) {
		return mg_kv__run_upload(state, &first, results ? results->list : NULL, err);
	}
	struct mg_arena *own = results ? NULL : mg_arena_new();
	struct mg_kv_results answer = { .count = request->op_count };

	if (own) {
		answer.list = mg_arena_new_array(own, struct mg_kv_result, answer.count);
	}
	int code = mg_kv__run_part(state, request, own ? own : arena, own ? &answer : results, err);

	mg_arena_free(own);
	return code;
}

static bool is_part(const struct mg_kv_request *request)
{
	struct mg_in ops = request->ops;
	struct mg_kv_op op;

	return request->op_count > 0 && mg_kv_op_next(&ops, &op) && !mg_kv_has_key(op.kind);
}

static int run_request(struct mg_kv_state *state, const struct mg_kv_request *request,
                       struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	if (is_part(request)) {
		return run_part(state, request, arena, results, err);
	}
	return request->id.len ? run_named(state, request, arena, results, err)
	                       : run_ops(state, request, arena, results, err);
}

/* ---- time ---- */

/* A key, or the id of a request. */
static int let_go(struct mg_kv_state *state, const struct mg_kv_op *op, uint64_t expiry_ms,
                  struct mg_error *err)
{
	struct mg_kv_result ignored = { 0 };
	size_t work = 0;
	struct step step = { .state = state, .op = op, .work = &work, .result = &ignored };

	if (op->space.len == 0 && mg_kv__is_upload(op->key)) {
		return mg_kv__expire_upload(state, op->key, expiry_ms, err);
	}
	if (op->space.len == 0) {
		mg_lsm_batch_remove(state->batch, mg_kv__id_key(state, op->key, &state->key));
		mg_lsm_batch_remove(state->batch, mg_kv__expiry_key(state, expiry_ms, op->space, op->key,
		                                                    &state->key));
		return 0;
	}
	int code = find(&step, err);

	if (!code) {
		take_away(&step);
	}
	mg_lsm_value_free(&step.stored);
	return code;
}

/* What has expired goes, so many at once; the next tick goes on. */
static int tick(struct mg_kv_state *state, struct mg_error *err)
{
	struct mg_lsm_iter *iter = mg_kv__expiries(state, state->batch);
	uint64_t time_ms = atomic_load(&state->time_ms), expiry_ms, next_ms = 0, held_ms = 0;
	struct mg_str key, value, space, rest;
	struct mg_kv_op *gone = mg_alloc(TICK_KEYS_MAX * sizeof *gone);
	uint64_t *expiries = mg_alloc(TICK_KEYS_MAX * sizeof *expiries);
	size_t gone_count = 0;
	bool held = false;
	int code = 0;

	while (!code && next_ms == 0 && mg_lsm_iter_next(iter, &key, &value)) {
		if (!mg_kv__expiry_split(key, &expiry_ms, &space, &rest)) {
			code = mg_error_set(err, MG_E_CORRUPT, "keys and values: an expiry cannot be read");
		} else if (expiry_ms > time_ms || gone_count == TICK_KEYS_MAX) {
			next_ms = expiry_ms;
		} else if ((code = mg_kv__is_held(state, space, rest, &held, err)) != 0 || held) {
			held_ms = held_ms ? held_ms : expiry_ms; /* a transaction has seen it there */
		} else {
			expiries[gone_count] = expiry_ms;
			gone[gone_count++] = (struct mg_kv_op){
				.kind = MG_KV_DELETE,
				.space = { mg_strndup(space.ptr, space.len), space.len },
				.key = { mg_strndup(rest.ptr, rest.len), rest.len },
			};
		}
	}
	struct mg_error read = { 0 };
	int end_code = mg_lsm_iter_close(iter, &read);

	if (!code && end_code) {
		*err = read;
		code = end_code;
	}
	for (size_t i = 0; i < gone_count; i++) {
		code = code ? code : let_go(state, &gone[i], expiries[i], err);
		mg_free((char *)(uintptr_t)gone[i].space.ptr);
		mg_free((char *)(uintptr_t)gone[i].key.ptr);
	}
	mg_free(gone);
	mg_free(expiries);
	atomic_store(&state->expiry_ms, held_ms ? held_ms : next_ms);
	return code;
}

/* ---- entries ---- */

static void begin_results(const struct mg_kv_entry *entry, struct mg_arena *arena,
                          struct mg_kv_results **results)
{
	struct mg_in in = entry->requests;

	*results = mg_arena_new_array(arena, struct mg_kv_results, entry->count + 1);
	for (uint32_t i = 0; i < entry->count; i++) {
		struct mg_kv_request request;
		bool good = mg_kv_request_next(&in, &request);

		mg_assert(good);
		(*results)[i].number = request.number;
		(*results)[i].count = request.op_count;
		(*results)[i].list = mg_arena_new_array(arena, struct mg_kv_result, request.op_count + 1);
	}
}

/* The limits of an entry hold while it is applied. */
static void set_limits(struct mg_kv_state *state, const struct mg_kv_entry *entry, bool hold)
{
	struct mg_in in = entry->limits;
	struct mg_kv_limit limit;

	for (uint32_t i = 0; i < entry->limit_count && mg_kv_limit_next(&in, &limit); i++) {
		struct mg_kv_space *space = mg_kv__space(state, limit.space);

		limit.space = (struct mg_str){ 0 }; /* it is the entry's */
		space->limit = hold ? limit : (struct mg_kv_limit){ 0 };
	}
}

static int run_entry(struct mg_kv_state *state, const struct mg_kv_entry *entry,
                     struct mg_arena *arena, struct mg_kv_results *results, struct mg_error *err)
{
	struct mg_in in = entry->requests;
	int code = 0;

	if (entry->time_ms > atomic_load(&state->time_ms)) {
		atomic_store(&state->time_ms, entry->time_ms);
	}
	state->now_ms = atomic_load(&state->time_ms);
	set_limits(state, entry, true);
	for (uint32_t i = 0; !code && i < entry->count; i++) {
		struct mg_kv_request request;
		bool good = mg_kv_request_next(&in, &request);

		mg_assert(good);
		code = run_request(state, &request, arena, results ? &results[i] : NULL, err);
	}
	set_limits(state, entry, false);
	return code || entry->kind != MG_KV_TICK ? code : tick(state, err);
}

int mg_kv_state_apply(struct mg_kv_state *state, uint64_t index, uint64_t term,
                      const struct mg_kv_entry *entry, struct mg_arena *arena,
                      struct mg_kv_results **results, struct mg_error *err)
{
	int code = 0;

	if (entry && results) {
		begin_results(entry, arena, results);
	}
	if (entry) {
		code = run_entry(state, entry, results ? arena : NULL, results ? *results : NULL, err);
	}
	if (!code) {
		state->applied = index;
		state->term = term;
	}
	return code;
}

bool mg_kv_state_went_back(const struct mg_kv_state *state)
{
	return state->went_back;
}

int mg_kv_state_write(struct mg_kv_state *state, bool now, struct mg_error *err)
{
	mg_kv__put_stats(state);
	mg_kv__put_meta(state);
	int code = mg_lsm_batch_write(state->batch, now, err);

	if (!code) {
		mg_kv_feed_publish(state->feed); /* who finds the index finds the changes */
		atomic_store(&state->index, state->applied);
		atomic_fetch_sub(&state->holders, state->settled);
		state->settled = 0;
		state->went_back = false;
	}
	return code;
}
