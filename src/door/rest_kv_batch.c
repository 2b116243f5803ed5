/*
 * rest_kv_batch.c - POST /kv/{namespace}/batch: operations on keys of any shards that happen
 * together or not at all.
 *
 *     {"ops": [{"op": "check", "key": "a", "if_version": 7},
 *              {"op": "put", "key": "b", "value": "x", "content_type": "text/plain", "ttl": 60},
 *              {"op": "get" | "delete", "key": "c"},
 *              {"op": "add", "key": "n", "by": 1}, {"op": "append", "key": "l", "value": "more"}]}
 *     {"results": [{"version": 7}, {"version": 9}, ...]}
 *
 * "key_hex", "key_base64", "value_hex", "value_base64" stand for what is no text; in the answer,
 * too.  Each may have "if_version", "if_absent" or "if_present".
 *
 * owner: the connection's loop, but between call and post the raft thread.
 */
#include "door/doors_int.h"
#include "door/kv_json.h"
#include "replica/kv_atomic.h"
#include "replica/kv_terms.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct batch {
	struct mg_kv_atomic atomic; /* first */
	struct mg_http_request *request; /* its arena holds this */
	struct mg_loop *loop;
	struct mg_kv_op *ops;
	bool gone; /* loop */
	int status;
	struct mg_error err;
	struct mg_sb json;
};

static const struct {
	const char *name;
	uint8_t kind;
} kinds[] = {
	{ "get", MG_KV_READ },      { "put", MG_KV_PUT },       { "delete", MG_KV_DELETE },
	{ "add", MG_KV_ADD },       { "append", MG_KV_APPEND }, { "check", MG_KV_CHECK },
};

static const char *name_of(uint8_t kind)
{
	size_t i = 0;

	while (kinds[i].kind != kind) {
		i++;
	}
	return kinds[i].name;
}

/* ---- the answer ---- */

static void add_bytes(struct mg_sb *json, const char *name, struct mg_str bytes)
{
	bool text = mg_utf8_valid(bytes.ptr, bytes.len);

	mg_sb_addf(json, "\"%s%s\": ", name, text ? "" : "_base64");
	mg_kv_add_bytes(json, text ? MG_KV_FORM_TEXT : MG_KV_FORM_BASE64, bytes);
}

static void add_result(struct mg_sb *json, const struct mg_kv_op *op,
                       const struct mg_kv_result *result)
{
	mg_sb_addf(json, "{\"version\": %" PRIu64, result->version);
	if (op->kind == MG_KV_READ && result->found) {
		mg_sb_add(json, ", ");
		add_bytes(json, "value", result->was.value);
		mg_sb_add(json, ", \"content_type\": ");
		mg_sb_add_json(json, result->was.type.ptr, result->was.type.len);
		mg_sb_add(json, ", \"encoding\": ");
		mg_sb_add_json(json, result->was.encoding.ptr, result->was.encoding.len);
	} else if (op->kind == MG_KV_DELETE) {
		mg_sb_addf(json, ", \"deleted\": %s", result->found ? "true" : "false");
	} else if (op->kind == MG_KV_ADD) {
		mg_sb_addf(json, ", \"number\": %" PRId64, result->number);
	}
	mg_sb_add_char(json, '}');
}

static const char *why(const struct mg_kv_op *op, const struct mg_kv_result *result)
{
	switch (result->status) {
	case MG_KV_NO_NUMBER:
		return "its value is no integer";
	case MG_KV_OVERFLOW:
		return "the sum would not fit into 64 bits";
	case MG_KV_TOO_LARGE:
		return op->kind == MG_KV_READ ? "its value is larger than 4 MiB: GET it by itself"
		                              : "the value would be larger than 4 MiB";
	default:
		return result->version ? "it is there, with version" : "there is no such key";
	}
}

static void tell_refused(struct batch *batch, uint32_t at, const struct mg_kv_result *result)
{
	const struct mg_kv_op *op = &batch->ops[at];
	struct mg_sb key = { 0 };
	char version[24] = "";

	if (result->status == MG_KV_OTHER_REQUEST) {
		mg_error_set(&batch->err, MG_E_USAGE, "this Idempotency-Key was used for another request");
		mg_error_hint(&batch->err, "A key names one request; take a new one for each.");
		batch->status = 422;
		return;
	}
	if (result->status == MG_KV_TOO_MUCH) {
		mg_error_set(&batch->err, MG_E_LIMIT,
		             "the batch reads and writes more than %u MiB in a shard",
		             MG_KV_WORK_MAX >> 20);
		mg_error_hint(&batch->err, "Nothing was changed: send it in parts.");
		batch->status = 413;
		return;
	}
	if (result->status == MG_KV_OVER_QUOTA) {
		(void)mg_kv_say_over_quota(&batch->err, op->space, result);
		return;
	}
	if (result->version && (result->status == MG_KV_PRESENT ||
	                        result->status == MG_KV_OTHER_VERSION)) {
		snprintf(version, sizeof version, " %" PRIu64, result->version);
	}
	add_bytes(&key, "key", op->key);
	mg_error_set(&batch->err, MG_E_CONFLICT, "operation %" PRIu32 ", %s of %.200s: %s%s", at,
	             name_of(op->kind), mg_sb_text(&key), why(op, result), version);
	mg_error_hint(&batch->err, "Nothing was changed: read the keys again.");
	batch->status = 412;
	mg_sb_fini(&key);
}

static void batch_gone(void *arg)
{
	struct batch *batch = arg;

	batch->gone = true;
}

static void batch_ended(void *arg)
{
	struct batch *batch = arg;

	if (batch->gone) {
		mg_http_abort(batch->request);
	} else if (batch->err.code) {
		mg_rest_error(batch->request, &batch->err, batch->status);
	} else {
		mg_rest_count(batch->request, 200);
		mg_http_reply(batch->request, 200, "application/json", batch->json.ptr, batch->json.len,
		              "Cache-Control: no-store\r\n");
	}
}

/* Raft thread. */
static void batch_done(struct mg_kv_atomic *atomic, const struct mg_error *err,
                       const struct mg_kv_result *results)
{
	struct batch *batch = (struct batch *)atomic;
	uint32_t refused = 0;

	while (!err && refused < atomic->count &&
	       (results[refused].status == MG_KV_DONE || results[refused].status == MG_KV_NOT_TRIED)) {
		refused++;
	}
	if (err) {
		batch->err = *err;
	} else if (refused < atomic->count) {
		tell_refused(batch, refused, &results[refused]);
	} else {
		mg_sb_add(&batch->json, "{\"results\": [");
		for (uint32_t i = 0; i < atomic->count; i++) {
			mg_sb_add(&batch->json, i ? ",\n" : "\n");
			add_result(&batch->json, &batch->ops[i], &results[i]);
		}
		mg_sb_add(&batch->json, "]}\n");
	}
	mg_loop_post(batch->loop, batch_ended, batch);
}

static void free_json(void *arg)
{
	mg_sb_fini(arg);
}

/* ---- the request ---- */

static int bad(struct mg_error *err, size_t at, const char *what, const char *hint)
{
	mg_error_set(err, MG_E_USAGE, "operation %zu: %s", at, what);
	mg_error_hint(err, "%s", hint);
	return MG_E_USAGE;
}

/* The member, as text, as NAME_hex or as NAME_base64.  False: it is none of them, or broken. */
static bool read_bytes(struct mg_arena *arena, const struct mg_json *item, const char *name,
                       struct mg_str *out)
{
	char hex[24], base64[24];

	snprintf(hex, sizeof hex, "%s_hex", name);
	snprintf(base64, sizeof base64, "%s_base64", name);
	const struct mg_json *text = mg_json_get(item, name), *digits = mg_json_get(item, hex);
	const struct mg_json *coded = mg_json_get(item, base64);

	if (text && !digits && !coded && mg_json_is(text, MG_JSON_STRING)) {
		*out = text->text;
		return true;
	}
	if (digits && !text && !coded && mg_json_is(digits, MG_JSON_STRING)) {
		return mg_kv_from_hex(arena, digits->text, out);
	}
	return coded && !text && !digits && mg_json_is(coded, MG_JSON_STRING) &&
	       mg_kv_from_base64(arena, coded->text, out);
}

static bool read_integer(const struct mg_json *value, int64_t *out)
{
	char *end = NULL;

	if (!value || !mg_json_is(value, MG_JSON_NUMBER)) {
		return false;
	}
	errno = 0;
	*out = strtoll(value->text.ptr, &end, 10);
	return errno == 0 && end == value->text.ptr + value->text.len;
}

/* False: it is there, and is neither true nor false. */
static bool read_flag(const struct mg_json *item, const char *name, uint16_t flag, uint16_t *flags)
{
	const struct mg_json *value = mg_json_get(item, name);

	*flags |= value && mg_json_is(value, MG_JSON_TRUE) ? flag : 0;
	return !value || mg_json_is(value, MG_JSON_TRUE) || mg_json_is(value, MG_JSON_FALSE);
}

static int read_conditions(const struct mg_json *item, size_t at, struct mg_kv_op *op,
                           struct mg_error *err)
{
	const struct mg_json *version = mg_json_get(item, "if_version");
	int64_t number = 0;

	if (version && (!read_integer(version, &number) || number < 0)) {
		return bad(err, at, "\"if_version\" is no version", "As an answer's \"version\" said it.");
	}
	if (version && op->kind == MG_KV_ADD) {
		return bad(err, at, "\"add\" has no \"if_version\"", "Put a \"check\" before it.");
	}
	if (version) {
		op->flags |= MG_KV_IF_VERSION;
		op->number = (uint64_t)number;
	}
	if (!read_flag(item, "if_absent", MG_KV_IF_ABSENT, &op->flags) ||
	    !read_flag(item, "if_present", MG_KV_IF_PRESENT, &op->flags)) {
		return bad(err, at, "\"if_absent\" or \"if_present\" is neither true nor false",
		           "Without quotes.");
	}
	if (op->kind == MG_KV_CHECK && op->flags == 0) {
		return bad(err, at, "a \"check\" of nothing",
		           "\"if_version\", \"if_absent\" or \"if_present\".");
	}
	return 0;
}

static int read_ttl(const struct mg_json *item, size_t at, struct mg_kv_op *op,
                    struct mg_error *err)
{
	const struct mg_json *ttl = mg_json_get(item, "ttl");
	double seconds = mg_json_get_double(item, "ttl", 0);

	if (!ttl) {
		return 0;
	}
	if (mg_json_is(ttl, MG_JSON_NULL)) {
		op->flags |= MG_KV_FOR_GOOD;
		return 0;
	}
	if (op->kind != MG_KV_PUT || !mg_json_is(ttl, MG_JSON_NUMBER) || !isfinite(seconds) ||
	    seconds <= 0 || seconds > MG_KV_TTL_S_MAX) {
		return bad(err, at, "\"ttl\" is no number of seconds of a \"put\"",
		           "From 0.001 on; null keeps the key for good.");
	}
	op->flags |= MG_KV_EXPIRES;
	op->expiry = (uint64_t)ceil(seconds * 1000);
	return 0;
}

static int read_op(struct mg_arena *arena, const struct mg_json *item, size_t at,
                   struct mg_kv_op *op, struct mg_error *err)
{
	const char *name = mg_json_get_text(item, "op");
	size_t i = 0, count = sizeof kinds / sizeof kinds[0];
	int64_t by = 1;

	while (i < count && !mg_text_eq(name, kinds[i].name)) {
		i++;
	}
	if (i == count) {
		return bad(err, at, "\"op\" is not known", "get, put, delete, add, append or check.");
	}
	op->kind = kinds[i].kind;
	if (!read_bytes(arena, item, "key", &op->key) || op->key.len == 0 ||
	    op->key.len > MG_KV_KEY_MAX) {
		return bad(err, at, "\"key\" is missing, or no key",
		           "1 to 65,536 bytes, as \"key\", \"key_hex\" or \"key_base64\".");
	}
	if ((op->kind == MG_KV_PUT || op->kind == MG_KV_APPEND) &&
	    (!read_bytes(arena, item, "value", &op->value) || op->value.len > MG_KV_VALUE_MAX)) {
		return bad(err, at, "\"value\" is missing, or no value",
		           "Up to 4 MiB, as \"value\", \"value_hex\" or \"value_base64\".");
	}
	op->type = mg_str(mg_json_get_text(item, "content_type"));
	op->encoding = mg_str(mg_json_get_text(item, "encoding"));
	if (!mg_kv_is_header(op->type) || !mg_kv_is_header(op->encoding)) {
		return bad(err, at, "\"content_type\" or \"encoding\" is none",
		           "Up to 255 characters that may stand in a header.");
	}
	if (op->kind == MG_KV_ADD && mg_json_get(item, "by") &&
	    !read_integer(mg_json_get(item, "by"), &by)) {
		return bad(err, at, "\"by\" is no integer of 64 bits", "Without it, 1 is added.");
	}
	op->number = op->kind == MG_KV_ADD ? (uint64_t)by : 0;
	int code = read_conditions(item, at, op, err);

	return code ? code : read_ttl(item, at, op, err);
}

static int read_ops(struct batch *batch, struct mg_str space, struct mg_error *err)
{
	struct mg_arena *arena = mg_http_arena(batch->request);
	struct mg_str body = mg_http_body(batch->request);
	struct mg_json *json = NULL;
	int code = mg_json_parse(arena, body.ptr, body.len, &json, err);
	const struct mg_json *list = code ? NULL : mg_json_get(json, "ops");

	if (code) {
		return code;
	}
	if (!mg_json_is(list, MG_JSON_ARRAY) || list->count == 0 || list->count > MG_KV_OPS_MAX) {
		mg_error_set(err, MG_E_USAGE, "\"ops\" is missing, or no list of 1 to %u operations",
		             MG_KV_OPS_MAX);
		mg_error_hint(err, "{\"ops\": [{\"op\": \"put\", \"key\": \"a\", \"value\": \"1\"}]}");
		return MG_E_USAGE;
	}
	batch->ops = mg_arena_new_array(arena, struct mg_kv_op, list->count);
	batch->atomic.ops = batch->ops;
	mg_json_each(item, list)
	{
		struct mg_kv_op *op = &batch->ops[batch->atomic.count];

		code = code ? code : read_op(arena, item, batch->atomic.count, op, err);
		op->space = space;
		batch->atomic.count++;
	}
	return code;
}

void mg_rest_kv_batch(struct mg_doors *doors, struct mg_http_request *request, const char *user)
{
	const char *space = mg_http_path(request) + strlen("/kv/"), *slash = strchr(space, '/');
	struct batch *batch = mg_arena_alloc(mg_http_arena(request), sizeof *batch);
	const struct mg_str name = { space, slash ? (size_t)(slash - space) : 0 };

	batch->request = request;
	batch->loop = mg_conn_loop(mg_http_conn(request));
	batch->atomic.done = batch_done;
	if (slash && !mg_kv_is_space(name)) {
		(void)mg_kv_refuse_space(&batch->err);
		mg_rest_error(request, &batch->err, 400);
	} else if (!slash || strcmp(slash, "/batch") != 0) {
		mg_error_set(&batch->err, MG_E_USAGE, "POST is not for keys");
		mg_error_hint(&batch->err,
		              "GET, PUT or DELETE /kv/NAMESPACE/KEY, or POST /kv/NAMESPACE/batch.");
		mg_rest_error(request, &batch->err, 405);
	} else if (read_ops(batch, name, &batch->err)) {
		mg_rest_error(request, &batch->err, 400);
	} else if (mg_rest_kv_id(request, user, &batch->atomic.id)) {
		mg_arena_defer(mg_http_arena(request), free_json, &batch->json);
		mg_http_defer(request, batch_gone, batch);
		mg_replica_kv_atomic(mg_engine_replica(doors->options.engine), &batch->atomic);
	}
}
