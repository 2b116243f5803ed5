/* kv_state.c - see kv_state.h: what stands in the tree, and reading it; kv_apply.c changes it. */
#include "replica/kv_state_int.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

enum {
	META_SIZE = 8 + 4 * 8,
	RECORD_HEAD = 4 + 4 * 8,
	STATS_SIZE = 16,
	READS_FEW = 64, /* at once, without a heap */
	/* Of a record: what stands in the place of the value are the upload's id, size and count. */
	IN_PARTS = 2,
	PARTS_SIZE = MG_KV_TX_ID + 8 + 4,
};

/* ---- keys of the tree ---- */

static void add_big_endian(struct mg_sb *out, uint64_t value, size_t size)
{
	for (size_t i = size; i-- > 0;) {
		mg_sb_add_char(out, (char)(value >> (8 * i)));
	}
}

static void add_begin(const struct mg_kv_state *state, char kind, struct mg_sb *out)
{
	mg_sb_add_len(out, state->prefix, sizeof state->prefix);
	mg_sb_add_char(out, kind);
}

static void begin_key(const struct mg_kv_state *state, char kind, struct mg_sb *out)
{
	mg_sb_clear(out);
	add_begin(state, kind, out);
}

static struct mg_str as_key(const struct mg_sb *text)
{
	return (struct mg_str){ text->ptr, text->len };
}

static void add_space(struct mg_sb *out, struct mg_str space)
{
	mg_sb_add_char(out, (char)space.len);
	mg_sb_add_len(out, space.ptr, space.len);
}

struct mg_str mg_kv__meta_key(const struct mg_kv_state *state, struct mg_sb *room)
{
	begin_key(state, 'm', room);
	return as_key(room);
}

static void add_key(const struct mg_kv_state *state, char kind, struct mg_str space,
                    struct mg_str key, struct mg_sb *out)
{
	add_begin(state, kind, out);
	add_space(out, space);
	mg_sb_add_len(out, key.ptr, key.len);
}

static struct mg_str of_key(const struct mg_kv_state *state, char kind, struct mg_str space,
                            struct mg_str key, struct mg_sb *room)
{
	mg_sb_clear(room);
	add_key(state, kind, space, key, room);
	return as_key(room);
}

static struct mg_str of_id(const struct mg_kv_state *state, char kind, struct mg_str id,
                           struct mg_sb *room)
{
	begin_key(state, kind, room);
	mg_sb_add_len(room, id.ptr, id.len);
	return as_key(room);
}

struct mg_str mg_kv__data_key(const struct mg_kv_state *state, struct mg_str space,
                              struct mg_str key, struct mg_sb *room)
{
	return of_key(state, 'd', space, key, room);
}

struct mg_str mg_kv__stats_key(const struct mg_kv_state *state, struct mg_str space,
                               struct mg_sb *room)
{
	begin_key(state, 'n', room);
	add_space(room, space);
	return as_key(room);
}

struct mg_str mg_kv__expiry_key(const struct mg_kv_state *state, uint64_t expiry_ms,
                                struct mg_str space, struct mg_str key, struct mg_sb *room)
{
	begin_key(state, 'x', room);
	add_big_endian(room, expiry_ms, 8);
	add_space(room, space);
	mg_sb_add_len(room, key.ptr, key.len);
	return as_key(room);
}

struct mg_str mg_kv__id_key(const struct mg_kv_state *state, struct mg_str id, struct mg_sb *room)
{
	return of_id(state, 'r', id, room);
}

struct mg_str mg_kv__part_key(const struct mg_kv_state *state, const char *id, uint32_t number,
                              struct mg_sb *room)
{
	(void)of_id(state, 'c', (struct mg_str){ id, MG_KV_TX_ID }, room);
	add_big_endian(room, number, 4);
	return as_key(room);
}

struct mg_str mg_kv__upload_key(const struct mg_kv_state *state, const char *id,
                                struct mg_sb *room)
{
	return of_id(state, 'u', (struct mg_str){ id, MG_KV_TX_ID }, room);
}

struct mg_str mg_kv__waiting_key(const struct mg_kv_state *state, struct mg_str id,
                                 struct mg_sb *room)
{
	return of_id(state, 't', id, room);
}

struct mg_str mg_kv__lock_key(const struct mg_kv_state *state, struct mg_str space,
                              struct mg_str key, struct mg_sb *room)
{
	return of_key(state, 'l', space, key, room);
}

/* Of one kind: from its first to behind its last. */
static void range(const struct mg_kv_state *state, char kind, struct mg_sb *first,
                  struct mg_sb *end)
{
	begin_key(state, kind, first);
	begin_key(state, (char)(kind + 1), end);
}

static int corrupt(struct mg_error *err, const char *what)
{
	return mg_error_set(err, MG_E_CORRUPT, "keys and values: %s cannot be read", what);
}

bool mg_kv__expiry_split(struct mg_str key, uint64_t *expiry_ms, struct mg_str *space,
                         struct mg_str *rest)
{
	struct mg_in in = mg_in((const uint8_t *)key.ptr, key.len);
	const uint8_t *at = mg_in_bytes(&in, MG_KV_PREFIX + 1), *big = mg_in_bytes(&in, 8);
	uint8_t size = mg_in_u8(&in);
	const uint8_t *name = mg_in_bytes(&in, size);

	*expiry_ms = 0;
	for (size_t i = 0; big && i < 8; i++) {
		*expiry_ms = *expiry_ms << 8 | big[i];
	}
	*space = (struct mg_str){ (const char *)name, size };
	*rest = (struct mg_str){ (const char *)in.at, (size_t)(in.end - in.at) };
	return at && !in.failed;
}

/* ---- values of the tree ---- */

void mg_kv__record(const struct mg_kv_found *found, struct mg_sb *out)
{
	uint8_t head[RECORD_HEAD], parts[PARTS_SIZE];
	struct mg_out bytes = mg_out(head, sizeof head), tail = mg_out(parts, sizeof parts);

	mg_out_u8(&bytes, found->part_count ? IN_PARTS : MG_KV_FORMAT);
	mg_out_u8(&bytes, (uint8_t)found->type.len);
	mg_out_u8(&bytes, (uint8_t)found->encoding.len);
	mg_out_u8(&bytes, 0);
	mg_out_u64(&bytes, found->version);
	mg_out_u64(&bytes, found->created_ms);
	mg_out_u64(&bytes, found->changed_ms);
	mg_out_u64(&bytes, found->expiry_ms);
	mg_sb_clear(out);
	mg_sb_add_len(out, (const char *)head, sizeof head);
	mg_sb_add_len(out, found->type.ptr, found->type.len);
	mg_sb_add_len(out, found->encoding.ptr, found->encoding.len);
	if (found->part_count) {
		mg_out_bytes(&tail, found->parts, sizeof found->parts);
		mg_out_u64(&tail, found->size);
		mg_out_u32(&tail, found->part_count);
		mg_sb_add_len(out, (const char *)parts, sizeof parts);
	} else {
		mg_sb_add_len(out, found->value.ptr, found->value.len);
	}
}

static bool read_parts(struct mg_in *in, struct mg_kv_found *out)
{
	const uint8_t *id = mg_in_bytes(in, sizeof out->parts);

	out->size = mg_in_u64(in);
	out->part_count = mg_in_u32(in);
	out->value = (struct mg_str){ "", 0 };
	if (id) {
		memcpy(out->parts, id, sizeof out->parts);
	}
	return mg_in_done(in) && out->part_count > 0 && out->part_count <= MG_KV_PARTS_MAX &&
	       out->size <= MG_KV_LARGE_MAX;
}

int mg_kv__record_read(struct mg_str bytes, struct mg_kv_found *out, struct mg_error *err)
{
	struct mg_in in = mg_in((const uint8_t *)bytes.ptr, bytes.len);
	uint8_t format = mg_in_u8(&in), type = mg_in_u8(&in), encoding = mg_in_u8(&in);

	(void)mg_in_u8(&in);
	out->version = mg_in_u64(&in);
	out->created_ms = mg_in_u64(&in);
	out->changed_ms = mg_in_u64(&in);
	out->expiry_ms = mg_in_u64(&in);
	out->type = (struct mg_str){ (const char *)mg_in_bytes(&in, type), type };
	out->encoding = (struct mg_str){ (const char *)mg_in_bytes(&in, encoding), encoding };
	out->value = (struct mg_str){ (const char *)in.at, (size_t)(in.end - in.at) };
	out->size = out->value.len;
	out->part_count = 0;
	bool good = !in.failed && (format == MG_KV_FORMAT ||
	                           (format == IN_PARTS && read_parts(&in, out)));

	return good ? 0 : corrupt(err, "a value");
}

void mg_kv__put_meta(struct mg_kv_state *state)
{
	uint8_t bytes[META_SIZE];
	struct mg_out out = mg_out(bytes, sizeof bytes);

	mg_out_u32(&out, MG_KV_FORMAT);
	mg_out_u32(&out, 0);
	mg_out_u64(&out, state->applied);
	mg_out_u64(&out, state->term);
	mg_out_u64(&out, atomic_load(&state->time_ms));
	mg_out_u64(&out, state->version);
	mg_lsm_batch_put(state->batch, mg_kv__meta_key(state, &state->key),
	                 (struct mg_str){ (const char *)bytes, sizeof bytes });
}

static int read_meta(struct mg_kv_state *state, struct mg_error *err)
{
	struct mg_lsm_value value;
	int code = mg_lsm_get(state->lsm, mg_kv__meta_key(state, &state->key), &value, err);

	if (code == MG_E_NOT_FOUND) {
		return 0;
	}
	if (code) {
		return code;
	}
	struct mg_in in = mg_in((const uint8_t *)value.bytes.ptr, value.bytes.len);
	uint32_t format = mg_in_u32(&in);

	(void)mg_in_u32(&in);
	state->applied = mg_in_u64(&in);
	state->term = mg_in_u64(&in);
	atomic_store(&state->time_ms, mg_in_u64(&in));
	state->version = mg_in_u64(&in);
	if (format > MG_KV_FORMAT) {
		code = mg_error_set(err, MG_E_UNSUPPORTED,
		                    "keys and values are of format %u, and this program knows %u", format,
		                    MG_KV_FORMAT);
	} else if (!mg_in_done(&in)) {
		code = corrupt(err, "how far they are");
	}
	mg_lsm_value_free(&value);
	return code;
}

/* ---- what namespaces hold ---- */

struct mg_kv_space *mg_kv__space(struct mg_kv_state *state, struct mg_str name)
{
	for (size_t i = 0; i < state->space_count; i++) {
		struct mg_kv_space *space = &state->spaces[(state->space_last + i) % state->space_count];

		if (mg_str_eq((struct mg_str){ space->name, space->name_len }, name)) {
			state->space_last = (size_t)(space - state->spaces);
			return space;
		}
	}
	mg_grow(state->spaces, state->space_count, state->space_cap);
	state->space_last = state->space_count++;
	struct mg_kv_space *space = &state->spaces[state->space_last];

	*space = (struct mg_kv_space){ .name_len = (uint8_t)name.len };
	memcpy(space->name, name.ptr, name.len);
	return space;
}

void mg_kv__put_stats(struct mg_kv_state *state)
{
	for (size_t i = 0; i < state->space_count; i++) {
		struct mg_kv_space *space = &state->spaces[i];
		const struct mg_str name = { space->name, space->name_len };
		uint8_t bytes[STATS_SIZE];
		struct mg_out out = mg_out(bytes, sizeof bytes);

		if (!space->changed) {
			continue;
		}
		space->changed = false;
		mg_out_u64(&out, space->keys);
		mg_out_u64(&out, space->bytes);
		struct mg_str key = mg_kv__stats_key(state, name, &state->key);

		if (space->keys) {
			mg_lsm_batch_put(state->batch, key,
			                 (struct mg_str){ (const char *)bytes, sizeof bytes });
		} else {
			mg_lsm_batch_remove(state->batch, key);
		}
	}
}

static int read_stats(struct mg_str key, struct mg_str value, struct mg_str *name, uint64_t *keys,
                      uint64_t *bytes, struct mg_error *err)
{
	struct mg_in in = mg_in((const uint8_t *)value.ptr, value.len);
	size_t head = MG_KV_PREFIX + 2;

	*name = (struct mg_str){ key.ptr + head, key.len < head ? 0 : key.len - head };
	*keys = mg_in_u64(&in);
	*bytes = mg_in_u64(&in);
	return key.len <= head || name->len > MG_KV_SPACE_MAX || !mg_in_done(&in)
	           ? corrupt(err, "how many there are")
	           : 0;
}

static int read_spaces(struct mg_kv_state *state,
                       void (*take)(void *arg, struct mg_str space, uint64_t keys, uint64_t bytes),
                       void *arg, struct mg_error *err)
{
	struct mg_sb first = { 0 }, end = { 0 };
	struct mg_str key, value, name;
	uint64_t keys, bytes;
	int code = 0;

	range(state, 'n', &first, &end);
	struct mg_lsm_iter *iter = mg_lsm_iter_open(state->lsm, as_key(&first), as_key(&end));

	while (!code && mg_lsm_iter_next(iter, &key, &value)) {
		code = read_stats(key, value, &name, &keys, &bytes, err);
		if (!code) {
			take(arg, name, keys, bytes);
		}
	}
	struct mg_error read = { 0 };
	int end_code = mg_lsm_iter_close(iter, &read);

	if (!code && end_code) {
		*err = read;
		code = end_code;
	}
	mg_sb_fini(&first);
	mg_sb_fini(&end);
	return code;
}


static void remember_space(void *arg, struct mg_str name, uint64_t keys, uint64_t bytes)
{
	struct mg_kv_space *space = mg_kv__space(arg, name);

	space->keys = keys;
	space->bytes = bytes;
}

static struct mg_lsm_iter *all_of(struct mg_kv_state *state, char kind)
{
	struct mg_sb first = { 0 }, end = { 0 };

	range(state, kind, &first, &end);
	struct mg_lsm_iter *iter = mg_lsm_iter_open(state->lsm, as_key(&first), as_key(&end));

	mg_sb_fini(&first);
	mg_sb_fini(&end);
	return iter;
}

struct mg_lsm_iter *mg_kv__all_waiting(struct mg_kv_state *state)
{
	return all_of(state, 't');
}

struct mg_lsm_iter *mg_kv__all_uploads(struct mg_kv_state *state)
{
	return all_of(state, 'u');
}

/* ---- expiry ---- */

struct mg_lsm_iter *mg_kv__expiries(struct mg_kv_state *state, struct mg_lsm_batch *batch)
{
	struct mg_sb first = { 0 }, end = { 0 };

	range(state, 'x', &first, &end);
	struct mg_lsm_iter *iter =
		batch ? mg_lsm_batch_iter(batch, as_key(&first), as_key(&end))
			  : mg_lsm_iter_open(state->lsm, as_key(&first), as_key(&end));

	mg_sb_fini(&first);
	mg_sb_fini(&end);
	return iter;
}

static int read_first_expiry(struct mg_kv_state *state, struct mg_error *err)
{
	struct mg_lsm_iter *iter = mg_kv__expiries(state, NULL);
	struct mg_str key, value, space, rest;
	uint64_t expiry_ms = 0;
	bool good = !mg_lsm_iter_next(iter, &key, &value) ||
	            mg_kv__expiry_split(key, &expiry_ms, &space, &rest);

	atomic_store(&state->expiry_ms, expiry_ms);
	int code = mg_lsm_iter_close(iter, err);

	return code ? code : good ? 0 : corrupt(err, "an expiry");
}

/* ---- life ---- */

static int reload(struct mg_kv_state *state, struct mg_error *err)
{
	atomic_store(&state->index, 0);
	atomic_store(&state->time_ms, 0);
	state->applied = state->term = state->version = 0;
	state->space_count = state->space_last = 0;
	int code = read_meta(state, err);

	code = code ? code : read_spaces(state, remember_space, state, err);
	code = code ? code : read_first_expiry(state, err);
	code = code ? code : mg_kv__read_waiting(state, err);
	code = code ? code : mg_kv__read_uploads(state, err);
	if (!code) {
		state->now_ms = atomic_load(&state->time_ms);
		mg_kv_feed_reset(state->feed, state->version);
		atomic_store(&state->index, state->applied);
	}
	return code;
}

int mg_kv_state_replace(struct mg_kv_state *state, const char *path, struct mg_error *err)
{
	pthread_rwlock_wrlock(&state->replacing);
	atomic_store(&state->index, 0); /* who waits for an index waits for the new one */
	mg_lsm_batch_free(state->batch); /* of entries that the file may hold, too */
	state->batch = mg_lsm_batch_new(state->lsm);
	int code = mg_lsm_import(state->lsm, mg_kv_state_prefix(state), path, err);

	code = code ? code : reload(state, err);
	atomic_store(&state->condemned, code != 0);
	pthread_rwlock_unlock(&state->replacing);
	return code;
}

int mg_kv_state_open(struct mg_kv_state **out, struct mg_lsm *lsm, uint32_t group,
                     struct mg_error *err)
{
	struct mg_kv_state *state = mg_alloc0(sizeof *state);

	for (size_t i = 0; i < sizeof state->prefix; i++) {
		state->prefix[i] = (char)(group >> (8 * (sizeof state->prefix - 1 - i)));
	}
	state->lsm = lsm;
	state->batch = mg_lsm_batch_new(lsm);
	state->feed = mg_kv_feed_new(0);
	pthread_rwlock_init(&state->replacing, NULL);
	int code = reload(state, err);

	if (code) {
		mg_kv_state_close(state);
		state = NULL;
	}
	*out = state;
	return code;
}

void mg_kv_state_close(struct mg_kv_state *state)
{
	if (state) {
		mg_lsm_batch_free(state->batch);
		mg_kv_feed_free(state->feed);
		pthread_rwlock_destroy(&state->replacing);
		mg_sb_fini(&state->key);
		mg_sb_fini(&state->value);
		mg_free(state->spaces);
		mg_free(state->waiting);
		mg_free(state);
	}
}

void mg_kv_state_condemn(struct mg_kv_state *state)
{
	atomic_store(&state->condemned, true);
}

bool mg_kv_state_is_condemned(const struct mg_kv_state *state)
{
	return atomic_load(&state->condemned);
}

uint64_t mg_kv_state_index(const struct mg_kv_state *state)
{
	return atomic_load(&state->index);
}

uint64_t mg_kv_state_time_ms(const struct mg_kv_state *state)
{
	return atomic_load(&state->time_ms);
}

uint64_t mg_kv_state_expiry_ms(const struct mg_kv_state *state)
{
	return atomic_load(&state->expiry_ms);
}

uint64_t mg_kv_state_staged(const struct mg_kv_state *state)
{
	return atomic_load(&state->staged);
}

struct mg_kv_feed *mg_kv_state_feed(struct mg_kv_state *state)
{
	return state->feed;
}

struct mg_str mg_kv_state_prefix(const struct mg_kv_state *state)
{
	return (struct mg_str){ state->prefix, sizeof state->prefix };
}

/* ---- reading ---- */

bool mg_kv__is_there(const struct mg_kv_found *found, uint64_t now_ms)
{
	return found->expiry_ms == 0 || found->expiry_ms > now_ms;
}

/* Readers may be a loop or the raft thread: they do not wait for somebody who replaces it all. */
static int begin_reading(struct mg_kv_state *state, struct mg_error *err)
{
	if (atomic_load(&state->condemned)) {
		mg_error_set(err, MG_E_UNAVAILABLE,
		             "this server's replica of the keys was damaged and is being made anew");
		mg_error_hint(err, "Try again in a moment, or at another server.");
		return MG_E_UNAVAILABLE;
	}
	if (pthread_rwlock_tryrdlock(&state->replacing) == 0) {
		return 0;
	}
	mg_error_set(err, MG_E_UNAVAILABLE, "this node is taking keys over from another one");
	mg_error_hint(err, "Try again.");
	return MG_E_UNAVAILABLE;
}

static void end_reading(struct mg_kv_state *state)
{
	pthread_rwlock_unlock(&state->replacing);
}

/* What a value of the tree says of its key, if anything. */
static int take_record(struct mg_kv_state *state, const struct mg_lsm_value *value,
                       struct mg_kv_result *result, struct mg_error *err)
{
	int code = value->bytes.ptr ? mg_kv__record_read(value->bytes, &result->was, err) : 0;

	result->found = !code && value->bytes.ptr &&
	                mg_kv__is_there(&result->was, mg_kv_state_time_ms(state));
	result->version = result->found ? result->was.version : 0;
	return code;
}

/* The operations' keys in the tree, one behind the other in `room`. */
static void make_keys(struct mg_kv_state *state, const struct mg_kv_op *ops, size_t count,
                      struct mg_str *keys, struct mg_sb *room)
{
	for (size_t i = 0; i < count; i++) {
		size_t begin = room->len;

		add_key(state, 'd', ops[i].space, ops[i].key, room);
		keys[i].len = room->len - begin;
	}
	for (size_t i = 0, at = 0; i < count; at += keys[i++].len) {
		keys[i].ptr = room->ptr + at; /* it has ceased to move */
	}
}

int mg_kv_state_read(struct mg_kv_state *state, const struct mg_kv_op *ops, size_t count,
                     struct mg_kv_result *results, struct mg_lsm_value *values,
                     struct mg_error *err)
{
	struct mg_str few[READS_FEW], *keys = count > READS_FEW ? mg_alloc(count * sizeof *keys) : few;
	struct mg_sb room = { 0 };
	int code = begin_reading(state, err);

	if (!code) {
		make_keys(state, ops, count, keys, &room);
		code = mg_lsm_get_many(state->lsm, keys, count, values, err);
		end_reading(state);
	}
	size_t got = code ? 0 : count;

	for (size_t i = 0; !code && i < count; i++) {
		code = take_record(state, &values[i], &results[i], err);
	}
	for (size_t i = 0; code && i < got; i++) {
		mg_lsm_value_free(&values[i]);
	}
	mg_sb_fini(&room);
	if (keys != few) {
		mg_free(keys);
	}
	return code;
}

int mg_kv_state_get(struct mg_kv_state *state, struct mg_str space, struct mg_str key,
                    struct mg_kv_found *out, struct mg_lsm_value *value, struct mg_error *err)
{
	const struct mg_kv_op op = { .kind = MG_KV_READ, .space = space, .key = key };
	struct mg_kv_result result = { 0 };

	*value = (struct mg_lsm_value){ 0 };
	int code = mg_kv_state_read(state, &op, 1, &result, value, err);

	if (!code && !result.found) {
		mg_lsm_value_free(value);
		code = MG_E_NOT_FOUND;
	}
	*out = result.was;
	return code;
}

int mg_kv_state_held(struct mg_kv_state *state, struct mg_str space, struct mg_str key, bool *held,
                     struct mg_error *err)
{
	struct mg_lsm_value value = { 0 };
	struct mg_sb room = { 0 };

	*held = false;
	if (!atomic_load(&state->holders)) {
		return 0;
	}
	int code = begin_reading(state, err);

	if (code) {
		return code;
	}
	code = mg_lsm_get(state->lsm, mg_kv__lock_key(state, space, key, &room), &value, err);
	*held = code == 0;
	end_reading(state);
	mg_sb_fini(&room);
	mg_lsm_value_free(&value);
	return code == MG_E_NOT_FOUND ? 0 : code;
}

int mg_kv_state_spaces(struct mg_kv_state *state,
                       void (*take)(void *arg, struct mg_str space, uint64_t keys, uint64_t bytes),
                       void *arg, struct mg_error *err)
{
	int code = begin_reading(state, err);

	if (!code) {
		code = read_spaces(state, take, arg, err);
		end_reading(state);
	}
	return code;
}

void mg_kv_state_use(struct mg_kv_state *state, struct mg_str space, uint64_t *keys,
                     uint64_t *bytes)
{
	struct mg_sb room = { 0 };
	struct mg_lsm_value value = { 0 };
	struct mg_str key = mg_kv__stats_key(state, space, &room), name;
	struct mg_error ignored;

	*keys = *bytes = 0;
	if (mg_lsm_get(state->lsm, key, &value, &ignored) == 0) {
		(void)read_stats(key, value.bytes, &name, keys, bytes, &ignored);
		mg_lsm_value_free(&value);
	}
	mg_sb_fini(&room);
}

struct mg_kv_iter {
	struct mg_kv_state *state;
	struct mg_lsm_iter *iter;
	size_t head; /* bytes of the tree's key before that of the namespace */
	struct mg_error err;
	/* Of the last key that was given and is in parts: where it is, and where those are. */
	struct mg_kv_found found;
	struct mg_sb at, part;
	char *whole;
	char texts[2 * MG_KV_TYPE_MAX];
	uint32_t parts_given;
	bool away; /* iter is at a part */
};

struct mg_kv_iter *mg_kv_iter_open(struct mg_kv_state *state, struct mg_str space,
                                   struct mg_str first, struct mg_str end)
{
	struct mg_kv_iter *iter = mg_alloc0(sizeof *iter);
	struct mg_sb from = { 0 }, to = { 0 };

	iter->state = state;
	iter->head = MG_KV_PREFIX + 2 + space.len;
	(void)mg_kv__data_key(state, space, first, &from);
	(void)mg_kv__data_key(state, space, end, &to);
	if (end.len == 0) {
		to.ptr[to.len - 1]++; /* behind all of the namespace; its last byte is no 0xff */
	}
	if (begin_reading(state, &iter->err) == 0) {
		iter->iter = mg_lsm_iter_open(state->lsm, as_key(&from), as_key(&to));
		end_reading(state);
	}
	mg_sb_fini(&from);
	mg_sb_fini(&to);
	return iter;
}

/* Who reads its parts moves the iterator: what was given of the key lies here meanwhile. */
static struct mg_str keep_place(struct mg_kv_iter *iter, struct mg_str stored,
                                struct mg_kv_found *found)
{
	mg_sb_clear(&iter->at);
	mg_sb_add_len(&iter->at, stored.ptr, stored.len);
	memcpy(iter->texts, found->type.ptr, found->type.len);
	memcpy(iter->texts + MG_KV_TYPE_MAX, found->encoding.ptr, found->encoding.len);
	found->type.ptr = iter->texts;
	found->encoding.ptr = iter->texts + MG_KV_TYPE_MAX;
	iter->found = *found;
	iter->parts_given = 0;
	return as_key(&iter->at);
}

bool mg_kv_iter_next(struct mg_kv_iter *iter, struct mg_str *key, struct mg_kv_found *found)
{
	struct mg_str stored, value;

	if (iter->away) {
		iter->away = false;
		mg_free(iter->whole);
		iter->whole = NULL;
		mg_sb_add_char(&iter->at, '\0'); /* the first key that may be behind it */
		mg_lsm_iter_seek(iter->iter, as_key(&iter->at));
	}
	while (!iter->err.code && mg_lsm_iter_next(iter->iter, &stored, &value)) {
		if (!mg_kv__record_read(value, found, &iter->err) &&
		    mg_kv__is_there(found, mg_kv_state_time_ms(iter->state))) {
			if (found->part_count) {
				stored = keep_place(iter, stored, found);
			}
			*key = (struct mg_str){ stored.ptr + iter->head, stored.len - iter->head };
			return true;
		}
	}
	return false;
}

/* Parts stand before all keys, so the iterator's end does not keep it from them. */
bool mg_kv_iter_part(struct mg_kv_iter *iter, struct mg_str *part)
{
	struct mg_str stored;

	if (iter->err.code || iter->parts_given == iter->found.part_count) {
		return false;
	}
	struct mg_str wanted =
		mg_kv__part_key(iter->state, iter->found.parts, iter->parts_given, &iter->part);

	if (!iter->away) {
		iter->away = true;
		mg_lsm_iter_seek(iter->iter, wanted);
	}
	if (!mg_lsm_iter_next(iter->iter, &stored, part) || !mg_str_eq(stored, wanted)) {
		if (!mg_lsm_iter_failed(iter->iter)) {
			corrupt(&iter->err, "a part of a value");
		}
		return false;
	}
	iter->parts_given++;
	return true;
}

bool mg_kv_iter_whole(struct mg_kv_iter *iter, struct mg_str *value)
{
	size_t size = (size_t)iter->found.size, used = 0;
	struct mg_str part;

	mg_free(iter->whole);
	iter->whole = mg_try_alloc(size + 1);
	if (!iter->whole) {
		mg_error_set(&iter->err, MG_E_NOMEM, "no memory for a value of %zu bytes", size);
	}
	while (mg_kv_iter_part(iter, &part)) {
		if (part.len > size - used) {
			corrupt(&iter->err, "a value in parts");
			return false;
		}
		memcpy(iter->whole + used, part.ptr, part.len);
		used += part.len;
	}
	*value = (struct mg_str){ iter->whole, used };
	return !iter->err.code && used == size;
}

bool mg_kv_iter_failed(const struct mg_kv_iter *iter)
{
	return iter->err.code || mg_lsm_iter_failed(iter->iter);
}

int mg_kv_iter_close(struct mg_kv_iter *iter, struct mg_error *err)
{
	struct mg_error read = { 0 };

	if (!iter) {
		return 0;
	}
	int code = iter->iter ? mg_lsm_iter_close(iter->iter, &read) : 0;

	if (iter->err.code || code) {
		*err = iter->err.code ? iter->err : read;
		code = err->code;
	}
	mg_sb_fini(&iter->at);
	mg_sb_fini(&iter->part);
	mg_free(iter->whole);
	mg_free(iter);
	return code;
}

int mg_kv_state_scan(struct mg_kv_state *state, struct mg_str space, struct mg_str first,
                     struct mg_str end,
                     bool (*take)(void *arg, struct mg_str key, const struct mg_kv_found *found),
                     void *arg, struct mg_error *err)
{
	struct mg_kv_iter *iter = mg_kv_iter_open(state, space, first, end);
	struct mg_kv_found found;
	struct mg_str key;

	while (mg_kv_iter_next(iter, &key, &found) && take(arg, key, &found)) {
	}
	return mg_kv_iter_close(iter, err);
}
