/*
 * kv_large.c - see kv_state.h: values that are larger than an entry of the log may be.
 *
 *     STAGE id 0, STAGE id 1, ...   parts lie in the tree, and are nobody's
 *     PUT_STAGED id                 a key's record names them: all at once, with its conditions
 *     DISCARD id                    instead
 *
 * So bytes go through the log, and into the tree, once.  An upload to which nothing comes for
 * MG_KV_UPLOAD_KEEP_MS of the group's time goes: its client, or the server that was asked, is gone.
 *
 *     'u' id         u32 count of parts  u64 their bytes  u64 when it goes
 *     'c' id number  the bytes
 */
#include "replica/kv_state_int.h"

#include "base/assert.h"

#include <string.h>

enum { UPLOAD_SIZE = 4 + 8 + 8, REST_SIZE = 2 + MG_KV_TX_ID };

/* ---- what stands in the tree ---- */

/* No client's id of a request begins with a zero, and no decision's with these two. */
static struct mg_str rest_of(const char *id, char room[REST_SIZE])
{
	room[0] = '\0';
	room[1] = '\1';
	memcpy(room + 2, id, MG_KV_TX_ID);
	return (struct mg_str){ room, REST_SIZE };
}

bool mg_kv__is_upload(struct mg_str rest)
{
	return rest.len == REST_SIZE && rest.ptr[0] == '\0' && rest.ptr[1] == '\1';
}

static int read_upload(struct mg_str bytes, struct mg_kv_upload *out, struct mg_error *err)
{
	struct mg_in in = mg_in((const uint8_t *)bytes.ptr, bytes.len);

	out->is_there = true;
	out->count = mg_in_u32(&in);
	out->size = mg_in_u64(&in);
	out->expiry_ms = mg_in_u64(&in);
	return mg_in_done(&in) && out->count <= MG_KV_PARTS_MAX
	           ? 0
	           : mg_error_set(err, MG_E_CORRUPT, "keys and values: an upload cannot be read");
}

int mg_kv__read_uploads(struct mg_kv_state *state, struct mg_error *err)
{
	struct mg_lsm_iter *iter = mg_kv__all_uploads(state);
	struct mg_error read = { 0 };
	struct mg_kv_upload upload;
	struct mg_str key, value;
	int code = 0;

	atomic_store(&state->staged, 0);
	while (!code && mg_lsm_iter_next(iter, &key, &value)) {
		code = read_upload(value, &upload, err);
		atomic_fetch_add(&state->staged, upload.size);
	}
	int end_code = mg_lsm_iter_close(iter, &read);

	if (!code && end_code) {
		*err = read;
		code = end_code;
	}
	return code;
}

static int find(struct mg_kv_state *state, const char *id, struct mg_kv_upload *out,
                struct mg_error *err)
{
	struct mg_lsm_value value;

	*out = (struct mg_kv_upload){ 0 };
	memcpy(out->id, id, sizeof out->id);
	int code = mg_lsm_batch_find(state->batch, mg_kv__upload_key(state, id, &state->key), &value,
	                             err);

	if (code) {
		return code == MG_E_NOT_FOUND ? 0 : code;
	}
	code = read_upload(value.bytes, out, err);
	mg_lsm_value_free(&value);
	return code;
}

static struct mg_str expiry_key(struct mg_kv_state *state, const struct mg_kv_upload *upload)
{
	char room[REST_SIZE];

	return mg_kv__expiry_key(state, upload->expiry_ms, (struct mg_str){ "", 0 },
	                         rest_of(upload->id, room), &state->key);
}

static void put_upload(struct mg_kv_state *state, struct mg_kv_upload *upload)
{
	uint64_t first = atomic_load(&state->expiry_ms);
	uint8_t bytes[UPLOAD_SIZE];
	struct mg_out out = mg_out(bytes, sizeof bytes);

	if (upload->is_there) {
		mg_lsm_batch_remove(state->batch, expiry_key(state, upload));
	}
	upload->expiry_ms = state->now_ms + MG_KV_UPLOAD_KEEP_MS;
	mg_out_u32(&out, upload->count);
	mg_out_u64(&out, upload->size);
	mg_out_u64(&out, upload->expiry_ms);
	mg_lsm_batch_put(state->batch, expiry_key(state, upload), (struct mg_str){ "", 0 });
	mg_lsm_batch_put(state->batch, mg_kv__upload_key(state, upload->id, &state->key),
	                 (struct mg_str){ (const char *)bytes, sizeof bytes });
	if (first == 0 || upload->expiry_ms < first) {
		atomic_store(&state->expiry_ms, upload->expiry_ms);
	}
}

static void remove_parts(struct mg_kv_state *state, const char *id, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		mg_lsm_batch_remove(state->batch, mg_kv__part_key(state, id, i, &state->key));
	}
}

void mg_kv__take_upload(struct mg_kv_state *state, const struct mg_kv_upload *upload)
{
	mg_lsm_batch_remove(state->batch, expiry_key(state, upload));
	mg_lsm_batch_remove(state->batch, mg_kv__upload_key(state, upload->id, &state->key));
	atomic_fetch_sub(&state->staged, upload->size);
}

void mg_kv__drop_parts(struct mg_kv_state *state, const struct mg_kv_found *was)
{
	remove_parts(state, was->parts, was->part_count);
}

static int drop(struct mg_kv_state *state, const char *id, struct mg_error *err)
{
	struct mg_kv_upload upload;
	int code = find(state, id, &upload, err);

	if (!code && upload.is_there) {
		mg_kv__take_upload(state, &upload);
		remove_parts(state, id, upload.count);
	}
	return code;
}

/* ---- operations ---- */

/* The upload has ended, and its parts are a key's. */
static int is_taken(struct mg_kv_state *state, const char *id, bool *taken, struct mg_error *err)
{
	struct mg_lsm_value value = { 0 };
	int code = mg_lsm_batch_find(state->batch, mg_kv__part_key(state, id, 0, &state->key), &value,
	                             err);

	*taken = code == 0;
	mg_lsm_value_free(&value);
	return code == MG_E_NOT_FOUND ? 0 : code;
}

static int stage(struct mg_kv_state *state, const struct mg_kv_op *op, enum mg_kv_status *status,
                 struct mg_error *err)
{
	struct mg_kv_upload upload;
	bool taken = false;
	int code = find(state, op->key.ptr, &upload, err);

	*status = MG_KV_DONE;
	if (!code && !upload.is_there && op->number == 0) {
		code = is_taken(state, op->key.ptr, &taken, err);
	}
	if (taken) { /* it was asked twice, and comes late: a new upload would take the part away */
		return code;
	}
	if (code || op->number < upload.count) {
		return code; /* it came before, and its answer was lost */
	}
	if (op->number != upload.count) {
		*status = MG_KV_ABORTED; /* what came before it has gone */
		return 0;
	}
	if (upload.size + op->value.len > MG_KV_LARGE_MAX || upload.count == MG_KV_PARTS_MAX) {
		*status = MG_KV_TOO_LARGE;
		return 0;
	}
	mg_lsm_batch_put(state->batch,
	                 mg_kv__part_key(state, upload.id, upload.count, &state->key), op->value);
	upload.count++;
	upload.size += op->value.len;
	atomic_fetch_add(&state->staged, op->value.len);
	put_upload(state, &upload);
	return 0;
}

int mg_kv__run_upload(struct mg_kv_state *state, const struct mg_kv_op *op,
                      struct mg_kv_result *result, struct mg_error *err)
{
	enum mg_kv_status status = MG_KV_DONE;
	int code = op->kind == MG_KV_STAGE ? stage(state, op, &status, err)
	                                   : drop(state, op->key.ptr, err);

	if (result) {
		result->status = status;
	}
	return code;
}

int mg_kv__find_staged(struct mg_kv_state *state, const struct mg_kv_op *op,
                       struct mg_kv_upload *out, struct mg_error *err)
{
	struct mg_kv_staged staged;
	bool good = mg_kv_staged_decode(op->value, &staged);

	mg_assert(good); /* mg_kv_op_next has read it */
	int code = find(state, staged.id, out, err);

	out->is_there = !code && out->is_there && out->count == staged.count &&
	                out->size == staged.size;
	return code;
}

int mg_kv__expire_upload(struct mg_kv_state *state, struct mg_str rest, uint64_t expiry_ms,
                         struct mg_error *err)
{
	char room[REST_SIZE], id[MG_KV_TX_ID];

	memcpy(id, rest.ptr + 2, sizeof id);
	mg_lsm_batch_remove(state->batch,
	                    mg_kv__expiry_key(state, expiry_ms, (struct mg_str){ "", 0 },
	                                      rest_of(id, room), &state->key));
	return drop(state, id, err);
}
