/*
 * kv_upload.c - see kv_upload.h.
 *
 *     loop: piece -> window -> part (1 MiB) -> mg_replica_kv_call STAGE
 *     raft thread: done -> post
 *     loop: the next part; while one is under way and the window is full the client is not read
 *
 * A body of unknown length is staged once it is larger than a value may be that is put whole.
 *
 * owner: the request's loop; the call and its part, while it is out, the raft thread.
 */
#include "door/kv_upload.h"

#include "base/assert.h"

#include <sodium.h>
#include <stdatomic.h>
#include <string.h>
#include <xxhash.h>

enum {
	PART_BYTES = 1 << 20,
	WINDOW_BEGIN = 64 << 10,
	AGAIN_MS = 100,
	AGAIN_MAX = 50,
};

struct mg_kv_upload {
	struct mg_kv_call call; /* first: done finds the upload by it */
	struct mg_kv_op op;
	struct mg_replica *replica;
	struct mg_http_request *request; /* NULL: it is not asked for more */
	struct mg_loop *loop;
	void (*done)(void *arg, const struct mg_error *err); /* NULL: it was called */
	void *arg;
	struct mg_kv_staged staged;
	XXH3_state_t *digest;
	bool known;  /* the length is, and it is too much for one value */
	bool placed; /* it is one of `uploads` */
	uint8_t *window; /* bytes that came and are not staged */
	size_t size, cap;
	uint64_t total;
	uint8_t *part; /* PART_BYTES, once there is one */
	bool out;      /* the call, or the timer that repeats it */
	bool all, dropped; /* all bytes have come; nobody wants it any more */
	unsigned again;
	struct mg_timer *timer;
	struct mg_error err; /* of it all; code 0: none so far */
	struct mg_error call_err;
	enum mg_kv_status call_status;
	char value[MG_KV_STAGED_SIZE];
};

static atomic_int uploads;

int mg_kv_upload_count(void)
{
	return atomic_load(&uploads);
}

/* ---- its end ---- */

static void upload_free(struct mg_kv_upload *upload)
{
	XXH3_freeState(upload->digest);
	mg_timer_stop(upload->timer);
	mg_free(upload->window);
	mg_free(upload->part);
	atomic_fetch_sub(&uploads, upload->placed);
	mg_free(upload);
}

struct discard {
	struct mg_kv_call call; /* first */
	struct mg_kv_op op;
	char id[MG_KV_TX_ID];
};

static void on_discarded(struct mg_kv_call *call, const struct mg_error *err,
                         const struct mg_kv_result *results)
{
	(void)err;
	(void)results;
	mg_free(call); /* the struct begins with it */
}

static void discard(const struct mg_kv_upload *upload)
{
	struct discard *discard = mg_alloc0(sizeof *discard);

	memcpy(discard->id, upload->staged.id, sizeof discard->id);
	discard->op = (struct mg_kv_op){ .kind = MG_KV_DISCARD,
		                             .key = { discard->id, sizeof discard->id } };
	discard->call = (struct mg_kv_call){ .shard = upload->call.shard,
		                                 .is_settling = true,
		                                 .ops = &discard->op,
		                                 .count = 1,
		                                 .done = on_discarded };
	mg_replica_kv_call(upload->replica, &discard->call);
}

/* The last word to who has begun it. */
static void tell(void *arg)
{
	struct mg_kv_upload *upload = arg;
	void (*done)(void *, const struct mg_error *) = upload->done;

	upload->out = false;
	if (upload->dropped) {
		upload_free(upload);
		return;
	}
	upload->done = NULL;
	upload->request = NULL;
	done(upload->arg, upload->err.code ? &upload->err : NULL);
}

void mg_kv_upload_end(struct mg_kv_upload *upload, bool kept)
{
	if (!upload) {
		return;
	}
	upload->request = NULL;
	upload->dropped = true;
	if (!kept && upload->staged.count) {
		discard(upload);
	}
	if (!upload->out) {
		upload_free(upload);
	}
}

/* ---- parts ---- */

static void progress(struct mg_kv_upload *upload);
static void staged(void *arg);

/* Raft thread. */
static void on_staged(struct mg_kv_call *call, const struct mg_error *err,
                      const struct mg_kv_result *results)
{
	struct mg_kv_upload *upload = (struct mg_kv_upload *)call;

	upload->call_err = err ? *err : (struct mg_error){ 0 };
	upload->call_status = err ? MG_KV_DONE : results[0].status;
	mg_loop_post(upload->loop, staged, upload);
}

static void stage(struct mg_kv_upload *upload)
{
	upload->out = true;
	mg_replica_kv_call(upload->replica, &upload->call);
}

static void stage_again(void *arg)
{
	struct mg_kv_upload *upload = arg;

	mg_timer_stop(upload->timer);
	upload->timer = NULL;
	upload->out = false;
	if (upload->dropped) {
		upload_free(upload);
	} else {
		stage(upload);
	}
}

/* The same part twice is one, so who does not know what came of it asks again. */
static bool comes_again(struct mg_kv_upload *upload)
{
	int code = upload->call_err.code;

	return (code == MG_E_BUSY || code == MG_E_UNKNOWN_OUTCOME) && upload->again++ < AGAIN_MAX;
}

static void say_lost(struct mg_error *err)
{
	mg_error_set(err, MG_E_UNAVAILABLE, "what was staged of the value is gone: it came too slowly");
	mg_error_hint(err, "Nothing was changed: put it again. Each MiB has %u s.",
	              MG_KV_UPLOAD_KEEP_MS / 1000);
}

static void say_large(struct mg_error *err)
{
	mg_error_set(err, MG_E_LIMIT, "a value has up to %u MiB", MG_KV_LARGE_MAX >> 20);
	mg_error_hint(err, "Nothing was changed: put it under several keys.");
}

/* Loop: a part has been staged, or not. */
static void staged(void *arg)
{
	struct mg_kv_upload *upload = arg;

	if (upload->dropped) {
		upload->out = false;
		discard(upload); /* of this part, too, now that it is there */
		upload_free(upload);
		return;
	}
	if (comes_again(upload)) {
		upload->timer = mg_timer_start(upload->loop, AGAIN_MS, 0, stage_again, upload);
		return;
	}
	upload->out = false;
	upload->again = 0;
	if (upload->call_err.code == MG_E_UNKNOWN_OUTCOME) { /* of a part: nobody sees it */
		mg_error_set(&upload->err, MG_E_UNAVAILABLE, "a part of the value was not acknowledged");
		mg_error_hint(&upload->err, "Nothing was changed: put it again.");
	} else if (upload->call_err.code) {
		upload->err = upload->call_err;
	} else if (upload->call_status != MG_KV_DONE) {
		say_lost(&upload->err);
	}
	progress(upload);
}

/* Who turns out to be large is one of so many. */
static int take_place(struct mg_kv_upload *upload, struct mg_error *err)
{
	if (!upload->placed && atomic_fetch_add(&uploads, 1) >= MG_KV_UPLOADS_MAX) {
		atomic_fetch_sub(&uploads, 1);
		mg_error_set(err, MG_E_BUSY, "%d large values are being put at this server",
		             MG_KV_UPLOADS_MAX);
		mg_error_hint(err, "Nothing was changed: try again, or at another server.");
		return MG_E_BUSY;
	}
	upload->placed = true;
	return 0;
}

/* The first bytes of the window become the next part. */
static void take_part(struct mg_kv_upload *upload)
{
	size_t size = upload->size < PART_BYTES ? upload->size : PART_BYTES;

	if (take_place(upload, &upload->err)) {
		return;
	}
	upload->part = upload->part ? upload->part : mg_try_alloc(PART_BYTES);
	if (!upload->part) {
		mg_error_set(&upload->err, MG_E_NOMEM, "no memory for a part of a value");
		return;
	}
	memcpy(upload->part, upload->window, size);
	memmove(upload->window, upload->window + size, upload->size - size);
	upload->size -= size;
	upload->op.number = upload->staged.count++;
	upload->op.value = (struct mg_str){ (const char *)upload->part, size };
	stage(upload);
}

static bool is_part_due(const struct mg_kv_upload *upload)
{
	size_t least = upload->staged.count || upload->known ? PART_BYTES : MG_KV_VALUE_MAX + 1;
	bool rest = upload->all && upload->staged.count && upload->size > 0;

	return rest || upload->size >= least || (upload->known && upload->all && upload->size > 0);
}

/* Stages what is due; else, at the end, tells so: from a post, since this may be the body's own
 * call. */
static void progress(struct mg_kv_upload *upload)
{
	if (!upload->out && !upload->err.code && is_part_due(upload)) {
		take_part(upload);
	}
	if (upload->request) {
		bool pause = upload->err.code || (upload->out && is_part_due(upload));

		mg_http_pause_body(upload->request, pause);
	}
	if (!upload->out && upload->done && (upload->err.code || upload->all)) {
		upload->out = true;
		mg_loop_post(upload->loop, tell, upload);
	}
}

/* ---- the body ---- */

static bool grow(struct mg_kv_upload *upload, size_t needed)
{
	size_t cap = upload->cap ? upload->cap : WINDOW_BEGIN;

	while (cap < needed) {
		cap *= 2;
	}
	uint8_t *window = mg_try_alloc(cap);

	if (!window) {
		return false;
	}
	if (upload->size) {
		memcpy(window, upload->window, upload->size);
	}
	mg_free(upload->window);
	upload->window = window;
	upload->cap = cap;
	return true;
}

static void on_piece(void *arg, const uint8_t *bytes, size_t size)
{
	struct mg_kv_upload *upload = arg;

	if (upload->err.code || upload->dropped) {
		return; /* it is about to be answered */
	}
	if (upload->total + size > MG_KV_LARGE_MAX) {
		say_large(&upload->err);
	} else if (upload->size + size > upload->cap && !grow(upload, upload->size + size)) {
		mg_error_set(&upload->err, MG_E_NOMEM, "no memory for a part of a value");
	} else {
		memcpy(upload->window + upload->size, bytes, size);
		upload->size += size;
		upload->total += size;
		XXH3_128bits_update(upload->digest, bytes, size);
	}
	progress(upload);
}

static void on_end(void *arg)
{
	struct mg_kv_upload *upload = arg;

	upload->all = true;
	progress(upload);
}

static const struct mg_http_sink sink = { .piece = on_piece, .end = on_end };

int mg_kv_upload_begin(struct mg_kv_upload **out, struct mg_replica *replica,
                       struct mg_http_request *request, uint32_t shard,
                       void (*done)(void *arg, const struct mg_error *err), void *arg,
                       struct mg_error *err)
{
	*out = NULL;
	struct mg_kv_upload *upload = mg_alloc0(sizeof *upload);
	uint64_t length = mg_http_body_length(request);

	if (length != UINT64_MAX && take_place(upload, err)) {
		mg_free(upload);
		return MG_E_BUSY;
	}

	upload->replica = replica;
	upload->request = request;
	upload->loop = mg_conn_loop(mg_http_conn(request));
	upload->done = done;
	upload->arg = arg;
	upload->known = length != UINT64_MAX && length > MG_KV_VALUE_MAX;
	upload->digest = XXH3_createState();
	XXH3_128bits_reset(upload->digest);
	randombytes_buf(upload->staged.id, sizeof upload->staged.id);
	upload->op = (struct mg_kv_op){ .kind = MG_KV_STAGE,
		                            .key = { upload->staged.id, sizeof upload->staged.id } };
	upload->call = (struct mg_kv_call){
		.shard = shard, .ops = &upload->op, .count = 1, .done = on_staged
	};
	*out = upload;
	mg_http_take_body(request, &sink, upload);
	return 0;
}

void mg_kv_upload_value(struct mg_kv_upload *upload, uint8_t *kind, struct mg_str *value)
{
	mg_assert(upload->all && !upload->err.code);
	if (upload->staged.count == 0) {
		*kind = MG_KV_PUT;
		*value = (struct mg_str){ upload->window ? (const char *)upload->window : "",
			                      upload->size };
		return;
	}
	XXH128_hash_t hash = XXH3_128bits_digest(upload->digest);

	upload->staged.size = upload->total;
	upload->staged.digest[0] = hash.low64;
	upload->staged.digest[1] = hash.high64;
	mg_kv_staged_encode(&upload->staged, upload->value);
	mg_free(upload->window); /* it is not needed while the PUT is under way */
	upload->window = NULL;
	*kind = MG_KV_PUT_STAGED;
	*value = (struct mg_str){ upload->value, sizeof upload->value };
}
