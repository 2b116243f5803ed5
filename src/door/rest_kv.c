/*
 * rest_kv.c - keys and values over HTTP: /kv/{namespace}/{key} (the rest of /kv/: rest_kv_scan.c,
 * rest_kv_batch.c), and /set, /query, /subscribe as clients of old know them (their keys lie in the
 * namespace "default").
 *
 *     loop: request -> struct ask -> mg_replica_kv_call
 *     raft thread: done: what is to be answered is copied -> post
 *     loop: reply
 *
 * A value that is larger than an operation may be comes by kv_upload.h, and goes by kv_download.h.
 *
 * owner: the connection's loop, but between call and post the raft thread.
 */
#include "door/doors_int.h"
#include "door/kv_download.h"
#include "door/kv_redirect.h"
#include "door/kv_text.h"
#include "door/kv_upload.h"
#include "door/rest_sql.h"
#include "replica/kv_groups.h"
#include "replica/kv_terms.h"
#include "replica/replica.h"

#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SPACE "default"
#define KV_PATH "/kv/"
#define WATCH "/watch" /* no key, to GET; ?encoding=hex names the one that is called so */

struct ask;

/* On the loop; the call has ended, and the client is there. */
typedef void answer_fn(struct ask *ask);

struct ask {
	struct mg_kv_call call; /* first: done finds the ask by it */
	struct mg_kv_op op;
	struct mg_doors *doors;
	struct mg_http_request *request; /* its arena holds this */
	struct mg_loop *loop;
	answer_fn *answer;
	bool gone; /* loop */
	struct mg_error err;
	struct mg_kv_result result;
	struct mg_buf *bytes; /* what its texts lie in */
	struct mg_kv_upload *upload; /* PUT of a body that is streamed */
	bool calls; /* else, of an upload: its parts come */
	/* POST /query: the key as it came; when it is not there, and is the hex of another one. */
	struct mg_str other;
};

/* ---- calls ---- */

static void abort_now(void *arg)
{
	struct ask *ask = arg;

	mg_http_abort(ask->request);
}

static void ask_gone(void *arg)
{
	struct ask *ask = arg;

	ask->gone = true;
	if (ask->upload && !ask->calls) {
		mg_kv_upload_end(ask->upload, false);
		ask->upload = NULL;
		mg_loop_post(ask->loop, abort_now, ask);
	}
}

/* Its PUT has ended. */
static void end_upload(struct ask *ask)
{
	bool done = ask->err.code ? ask->err.code == MG_E_UNKNOWN_OUTCOME
	                          : ask->result.status == MG_KV_DONE;

	mg_kv_upload_end(ask->upload, done);
	ask->upload = NULL;
}

static void ask_ended(void *arg)
{
	struct ask *ask = arg;

	end_upload(ask);
	if (ask->gone) {
		mg_http_abort(ask->request);
	} else if (ask->err.code) {
		mg_rest_error(ask->request, &ask->err, 0);
	} else {
		ask->answer(ask);
	}
}

static void free_bytes(void *arg)
{
	struct ask *ask = arg;

	mg_buf_unref(ask->bytes);
	ask->bytes = NULL;
}

static struct mg_str keep(struct mg_buf *bytes, struct mg_str text)
{
	const char *at = (const char *)bytes->data + bytes->size;

	if (text.len) {
		memcpy(bytes->data + bytes->size, text.ptr, text.len);
	}
	bytes->size += text.len;
	return (struct mg_str){ at, text.len };
}

/* Raft thread. */
static void ask_done(struct mg_kv_call *call, const struct mg_error *err,
                     const struct mg_kv_result *results)
{
	struct ask *ask = (struct ask *)call;

	if (err) {
		ask->err = *err;
	} else if (call->count) {
		struct mg_kv_found *was = &ask->result.was;

		ask->result = results[0];
		ask->bytes = mg_buf_new(was->value.len + was->type.len + was->encoding.len + 1);
		if (ask->bytes) {
			was->value = keep(ask->bytes, was->value);
			was->type = keep(ask->bytes, was->type);
			was->encoding = keep(ask->bytes, was->encoding);
		} else {
			mg_error_set(&ask->err, MG_E_NOMEM, "no memory for a value");
		}
	}
	mg_loop_post(ask->loop, ask_ended, ask);
}

static struct mg_replica *replica_of(const struct ask *ask)
{
	return mg_engine_replica(ask->doors->options.engine);
}

/* Of the operation in ask->op. */
static void start(struct ask *ask)
{
	ask->call.shard = mg_replica_kv_shard(replica_of(ask), ask->op.space, ask->op.key);
	ask->call.reads = ask->op.kind == MG_KV_READ;
	ask->call.ops = &ask->op;
	ask->call.count = 1;
	ask->call.done = ask_done;
	ask->calls = true;
	mg_replica_kv_call(replica_of(ask), &ask->call);
}

/* NULL after an answer: the cluster has no such shards. */
static struct ask *ask_new(struct mg_doors *doors, struct mg_http_request *request,
                           answer_fn *answer)
{
	struct mg_error err = { 0 };

	if (mg_replica_kv_check(mg_engine_replica(doors->options.engine), &err)) {
		mg_rest_error(request, &err, 0);
		return NULL;
	}
	struct ask *ask = mg_arena_alloc(mg_http_arena(request), sizeof *ask);

	ask->doors = doors;
	ask->request = request;
	ask->loop = mg_conn_loop(mg_http_conn(request));
	ask->answer = answer;
	mg_arena_defer(mg_http_arena(request), free_bytes, ask);
	return ask;
}

static void begin(struct ask *ask)
{
	mg_http_defer(ask->request, ask_gone, ask);
	start(ask);
}

static void on_uploaded(void *arg, const struct mg_error *err)
{
	struct ask *ask = arg;

	if (err) {
		ask->err = *err;
		ask_ended(ask);
		return;
	}
	mg_kv_upload_value(ask->upload, &ask->op.kind, &ask->op.value);
	start(ask);
}

/* The value is still to come. */
static void begin_upload(struct ask *ask)
{
	struct mg_error err = { 0 };
	uint32_t shard = mg_replica_kv_shard(replica_of(ask), ask->op.space, ask->op.key);

	mg_http_defer(ask->request, ask_gone, ask);
	if (mg_kv_upload_begin(&ask->upload, replica_of(ask), ask->request, shard, on_uploaded, ask,
	                       &err)) {
		mg_rest_error(ask->request, &err, 0);
	}
}

static void refuse(struct mg_http_request *request, int status, const char *what, const char *hint)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_USAGE, "%s", what);
	mg_error_hint(&err, "%s", hint);
	mg_rest_error(request, &err, status);
}

static void reply(struct mg_http_request *request, int status, const char *type,
                  struct mg_str body, const char *extra)
{
	mg_rest_count(request, status);
	mg_http_reply(request, status, type, body.ptr, body.len, extra);
}

/* ---- names and keys ---- */

/* Namespace and key of /kv/NAMESPACE/KEY.  False after an answer. */
static bool read_path(struct mg_http_request *request, struct mg_kv_op *op)
{
	const char *rest = mg_http_path(request) + strlen(KV_PATH), *slash = strchr(rest, '/');
	const char *encoding = mg_http_query(request, "encoding");
	struct mg_arena *arena = mg_http_arena(request);

	op->space = (struct mg_str){ rest, slash ? (size_t)(slash - rest) : strlen(rest) };
	op->key = mg_str(slash ? slash + 1 : NULL);
	if (!mg_kv_is_space(op->space)) {
		refuse(request, 400, "this is no name of a namespace",
		       "Up to 64 letters, digits, \"_\", \"-\" and \".\".");
		return false;
	}
	if (encoding && !(mg_text_eq(encoding, "hex")      ? mg_kv_from_hex(arena, op->key, &op->key)
	                  : mg_text_eq(encoding, "base64") ? mg_kv_from_base64(arena, op->key, &op->key)
	                                                   : false)) {
		refuse(request, 400, "the key is not what ?encoding= says",
		       "?encoding=hex or base64; without it the key is the text itself.");
		return false;
	}
	if (op->key.len == 0 || op->key.len > MG_KV_KEY_MAX) {
		refuse(request, op->key.len ? 413 : 400, "a key has 1 to 65,536 bytes",
		       "/kv/NAMESPACE/KEY");
		return false;
	}
	return true;
}

/* ---- conditions ---- */

static char *etag(char *room, size_t size, uint64_t version)
{
	snprintf(room, size, "\"%" PRIu64 "\"", version);
	return room;
}

/* If-Match: "VERSION" or *; If-None-Match: *.  False after an answer. */
static bool read_conditions(struct mg_http_request *request, struct mg_kv_op *op)
{
	const char *match = mg_http_header(request, "If-Match");
	const char *none = mg_http_header(request, "If-None-Match");
	unsigned long long version;
	char end;

	if (match && strcmp(match, "*") == 0) {
		op->flags |= MG_KV_IF_PRESENT;
	} else if (match && sscanf(match, "\"%20llu\"%c", &version, &end) == 1) {
		op->flags |= MG_KV_IF_VERSION;
		op->number = version;
	} else if (match) {
		refuse(request, 400, "If-Match is no ETag of ours",
		       "It is one version as an answer's ETag said it, or *.");
		return false;
	}
	if (none && op->kind == MG_KV_PUT && strcmp(none, "*") == 0) {
		op->flags |= MG_KV_IF_ABSENT;
	} else if (none && op->kind == MG_KV_PUT) {
		refuse(request, 400, "If-None-Match of a PUT is not *",
		       "* puts the key only when there is none.");
		return false;
	}
	return true;
}

bool mg_rest_kv_id(struct mg_http_request *request, const char *user, struct mg_str *out)
{
	const char *key = mg_http_header(request, "Idempotency-Key");
	unsigned char digest[MG_KV_ID_MAX / 2];
	struct mg_sb text = { 0 };

	if (!key) {
		return true;
	}
	if (!*key || strlen(key) > MG_ONCE_KEY_SIZE_MAX) {
		refuse(request, 400, "Idempotency-Key is empty or too long", "1 to 255 bytes.");
		return false;
	}
	mg_sb_addf(&text, "%zu:%s:%s", strlen(user), user, key);
	crypto_generichash(digest, sizeof digest, (const unsigned char *)text.ptr, text.len, NULL, 0);
	digest[0] = digest[0] ? digest[0] : 1; /* what begins with a zero is no client's */
	*out = (struct mg_str){
		mg_arena_strndup(mg_http_arena(request), (const char *)digest, sizeof digest),
		sizeof digest,
	};
	mg_sb_fini(&text);
	return true;
}

/* ?ttl=SECONDS or none.  False after an answer. */
static bool read_ttl(struct mg_http_request *request, struct mg_kv_op *op)
{
	const char *text = mg_http_query(request, "ttl");
	char *end = NULL;
	double seconds = text ? strtod(text, &end) : 0;

	if (mg_text_eq(text, "none")) {
		op->flags |= MG_KV_FOR_GOOD;
		return true;
	}
	if (text && (*end || !isfinite(seconds) || seconds <= 0 || seconds > MG_KV_TTL_S_MAX)) {
		refuse(request, 400, "?ttl= is no number of seconds",
		       "From 0.001 on, as ?ttl=60 or ?ttl=0.5; ?ttl=none keeps the key for good.");
		return false;
	}
	if (text) {
		op->flags |= MG_KV_EXPIRES;
		op->expiry = (uint64_t)ceil(seconds * 1000);
	}
	return true;
}

/* False after an answer. */
static bool read_consistency(struct mg_http_request *request, struct ask *ask)
{
	const char *word = mg_http_query(request, "consistency");

	ask->call.any = mg_text_eq(word, "any");
	if (word && !ask->call.any && !mg_text_eq(word, "linearizable") &&
	    !mg_text_eq(word, "bounded")) {
		refuse(request, 400, "?consistency= is not known", "linearizable, bounded or any.");
		return false;
	}
	return true;
}

/* ---- GET, HEAD, PUT, DELETE /kv/{ns}/{key} ---- */

static void answer_absent(struct ask *ask)
{
	struct mg_error err = { 0 };

	mg_error_set(&err, MG_E_NOT_FOUND, "there is no such key");
	mg_rest_error(ask->request, &err, 404);
}

static void add_headers(struct mg_sb *extra, const struct mg_kv_found *was)
{
	char tag[32];

	mg_sb_addf(extra, "ETag: %s\r\n", etag(tag, sizeof tag, was->version));
	if (was->encoding.len) {
		mg_sb_addf(extra, "Content-Encoding: %.*s\r\n", MG_STR_ARG(was->encoding));
	}
	if (was->expiry_ms) {
		mg_sb_addf(extra, "Merganser-Expires-Ms: %" PRIu64 "\r\n", was->expiry_ms);
	}
	mg_sb_add(extra, "Cache-Control: no-store\r\n");
}

static const char *type_of(struct ask *ask, const struct mg_kv_found *was)
{
	return was->type.len
	           ? mg_arena_strndup(mg_http_arena(ask->request), was->type.ptr, was->type.len)
	           : "application/octet-stream";
}

static bool begin_download(void *arg, const struct mg_kv_found *found, struct mg_sb *extra,
                           const char **type)
{
	struct ask *ask = arg;

	if (!found) {
		answer_absent(ask);
		return false;
	}
	add_headers(extra, found);
	*type = type_of(ask, found);
	return true;
}

static void answer_get(struct ask *ask)
{
	const struct mg_kv_found *was = &ask->result.was;
	const char *none = mg_http_header(ask->request, "If-None-Match");
	bool is_head = strcmp(mg_http_method(ask->request), "HEAD") == 0;
	char tag[32];
	struct mg_sb extra = { 0 };

	if (!ask->result.found) {
		answer_absent(ask);
		return;
	}
	add_headers(&extra, was);
	etag(tag, sizeof tag, was->version);
	if (none && (strcmp(none, tag) == 0 || strcmp(none, "*") == 0)) {
		reply(ask->request, 304, NULL, (struct mg_str){ 0 }, mg_sb_text(&extra));
	} else if (was->part_count && !is_head) {
		mg_kv_download(ask->doors, ask->request, ask->op.space, ask->op.key, begin_download, ask);
	} else { /* of HEAD only the size counts */
		reply(ask->request, 200, type_of(ask, was), (struct mg_str){ was->value.ptr, was->size },
		      mg_sb_text(&extra));
	}
	mg_sb_fini(&extra);
}

static void answer_refused(struct ask *ask)
{
	char tag[32];
	struct mg_error err = { 0 };

	if (ask->result.status == MG_KV_OTHER_REQUEST) {
		mg_error_set(&err, MG_E_USAGE, "this Idempotency-Key was used for another request");
		mg_error_hint(&err, "A key names one request; take a new one for each.");
		mg_rest_error(ask->request, &err, 422);
		return;
	}
	if (ask->result.status == MG_KV_ABORTED) {
		mg_error_set(&err, MG_E_UNAVAILABLE, "what was staged of the value is gone");
		mg_error_hint(&err, "Nothing was changed: put it again.");
		mg_rest_error(ask->request, &err, 0);
		return;
	}
	if (ask->result.status == MG_KV_OVER_QUOTA) {
		(void)mg_kv_say_over_quota(&err, ask->op.space, &ask->result);
		mg_rest_error(ask->request, &err, 0);
		return;
	}
	mg_error_set(&err, MG_E_CONFLICT,
	             ask->result.version ? "the key's version is %s" : "there is no such key",
	             etag(tag, sizeof tag, ask->result.version));
	mg_error_hint(&err, "Nothing was changed: read the key again.");
	mg_rest_error(ask->request, &err, 412);
}

static void answer_put(struct ask *ask)
{
	char tag[32];
	struct mg_sb extra = { 0 }, json = { 0 };

	if (ask->result.status != MG_KV_DONE) {
		answer_refused(ask);
		return;
	}
	mg_sb_addf(&extra, "ETag: %s\r\n", etag(tag, sizeof tag, ask->result.version));
	mg_sb_addf(&json, "{\"version\": %" PRIu64 "}\n", ask->result.version);
	reply(ask->request, 200, "application/json", (struct mg_str){ json.ptr, json.len },
	      mg_sb_text(&extra));
	mg_sb_fini(&extra);
	mg_sb_fini(&json);
}

static void answer_delete(struct ask *ask)
{
	if (ask->result.status != MG_KV_DONE) {
		answer_refused(ask);
	} else if (!ask->result.found) {
		answer_absent(ask);
	} else {
		reply(ask->request, 204, NULL, (struct mg_str){ 0 }, NULL);
	}
}

static struct mg_str header(struct mg_http_request *request, const char *name)
{
	return mg_str(mg_http_header(request, name));
}

void mg_rest_kv(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                enum mg_role role)
{
	const char *method = mg_http_method(request);
	bool put = strcmp(method, "PUT") == 0, del = strcmp(method, "DELETE") == 0;
	const char *rest = mg_http_path(request) + strlen(KV_PATH), *slash = strchr(rest, '/');
	struct ask *ask = ask_new(doors, request, put ? answer_put : del ? answer_delete : answer_get);

	(void)role;
	if (!ask) {
		return;
	}
	if (strcmp(method, "GET") == 0 && !slash) {
		mg_rest_kv_scan(doors, request, rest);
		return;
	}
	if (strcmp(method, "GET") == 0 && strcmp(slash, WATCH) == 0) {
		mg_rest_kv_watch(doors, request, (struct mg_str){ rest, (size_t)(slash - rest) });
		return;
	}
	ask->op.kind = put ? MG_KV_PUT : del ? MG_KV_DELETE : MG_KV_READ;
	ask->call.takes_parts = true;
	if (strcmp(method, "POST") == 0) {
		mg_rest_kv_batch(doors, request, user);
	} else if (read_path(request, &ask->op) && read_consistency(request, ask) &&
	           (!(put || del) || (read_conditions(request, &ask->op) &&
	                              mg_rest_kv_id(request, user, &ask->call.id))) &&
	           (!put || read_ttl(request, &ask->op))) {
		if (put) {
			ask->op.value = mg_http_body(request);
			ask->op.type = header(request, "Content-Type");
			ask->op.encoding = header(request, "Content-Encoding");
		}
		if (ask->op.type.len > MG_KV_TYPE_MAX || ask->op.encoding.len > MG_KV_TYPE_MAX) {
			refuse(request, 400, "Content-Type or Content-Encoding is too long",
			       "255 bytes are kept of each.");
		} else if ((put || del) && mg_kv_redirect(doors, request, ask->op.space, ask->op.key)) {
			return; /* it has answered */
		} else if (mg_http_is_streamed(request)) {
			begin_upload(ask);
		} else {
			begin(ask);
		}
	}
}

/* ---- PUT /set, POST /query ---- */

static void add_entry(struct mg_sb *json, struct mg_str key, struct mg_str type,
                      struct mg_str encoding, struct mg_str value)
{
	mg_sb_add(json, "{\"");
	mg_kv_add_hex(json, key);
	mg_sb_add(json, "\": {\"content_type\": ");
	mg_sb_add_json(json, type.ptr, type.len);
	mg_sb_add(json, ", \"encoding\": ");
	mg_sb_add_json(json, encoding.ptr, encoding.len);
	mg_sb_add(json, ", \"value\": \"");
	mg_kv_add_hex(json, value);
	mg_sb_add(json, "\"}}\n");
}

static void answer_entry(struct ask *ask, struct mg_str type, struct mg_str encoding,
                         struct mg_str value)
{
	struct mg_sb json = { 0 };

	add_entry(&json, ask->op.key, type, encoding, value);
	reply(ask->request, 200, "application/json", (struct mg_str){ json.ptr, json.len },
	      "Cache-Control: no-store\r\n");
	mg_sb_fini(&json);
}

static void answer_set(struct ask *ask)
{
	if (ask->result.status != MG_KV_DONE) {
		answer_refused(ask);
		return;
	}
	answer_entry(ask, ask->op.type, ask->op.encoding, ask->op.value);
}

/* "key", "content_type", "encoding" and "value" of the body.  False after an answer. */
static bool read_set(struct mg_http_request *request, struct mg_kv_op *op)
{
	struct mg_arena *arena = mg_http_arena(request);
	struct mg_str body = mg_http_body(request);
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };

	if (mg_json_parse(arena, body.ptr, body.len, &json, &err) ||
	    !mg_json_is(json, MG_JSON_OBJECT)) {
		refuse(request, 400, "the body is no JSON object",
		       "{\"key\": hex, \"content_type\": text, \"encoding\": text, \"value\": hex}");
		return false;
	}
	static const char *const names[] = { "key", "content_type", "encoding", "value" };
	struct mg_str texts[4];

	for (size_t i = 0; i < 4; i++) {
		const struct mg_json *member = mg_json_get(json, names[i]);

		if (!member || !mg_json_is(member, MG_JSON_STRING)) {
			mg_error_set(&err, MG_E_USAGE, "\"%s\" is missing, or no text", names[i]);
			mg_error_hint(&err, "{\"key\": hex, \"content_type\": text, \"encoding\": text, "
			                    "\"value\": hex}");
			mg_rest_error(request, &err, 400);
			return false;
		}
		texts[i] = member->text;
	}
	op->type = texts[1];
	op->encoding = texts[2];
	if (!mg_kv_from_hex(arena, texts[0], &op->key) ||
	    !mg_kv_from_hex(arena, texts[3], &op->value)) {
		refuse(request, 400, "\"key\" or \"value\" is not hex", "Two digits for each byte.");
		return false;
	}
	bool large = op->key.len > MG_KV_KEY_MAX || op->value.len > MG_KV_VALUE_MAX;

	if (large || op->key.len == 0 || !mg_kv_is_header(op->type) || !mg_kv_is_header(op->encoding)) {
		refuse(request, large ? 413 : 400, "the key or a text is too long, or empty",
		       "A key has 1 to 65,536 bytes, a type and an encoding up to 255, a value up to "
		       "4 MiB; PUT /kv/default/KEY takes 64 MiB.");
		return false;
	}
	return true;
}

void mg_rest_kv_set(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                    enum mg_role role)
{
	struct ask *ask = ask_new(doors, request, answer_set);

	(void)user;
	(void)role;
	if (ask && read_set(request, &ask->op)) {
		ask->op.kind = MG_KV_PUT;
		ask->op.space = MG_STR(DEFAULT_SPACE);
		begin(ask);
	}
}

static void answer_query(struct ask *ask)
{
	const struct mg_kv_found *was = &ask->result.was;

	if (ask->result.status == MG_KV_TOO_LARGE) {
		refuse(ask->request, 413, "the value is larger than 4 MiB, too large for this answer",
		       "GET /kv/default/KEY gives it.");
	} else if (ask->result.found) {
		answer_entry(ask, was->type, was->encoding, was->value);
	} else if (ask->other.len) {
		ask->op.key = ask->other;
		ask->other = (struct mg_str){ 0 };
		mg_buf_unref(ask->bytes);
		ask->bytes = NULL;
		start(ask);
	} else {
		answer_absent(ask);
	}
}

void mg_rest_kv_query(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                      enum mg_role role)
{
	struct ask *ask = ask_new(doors, request, answer_query);
	const char *type = mg_http_header(request, "Content-Type");
	bool hex = mg_rest_is_type(type, "text/plain") ||
	           mg_rest_is_type(type, "application/x-www-form-urlencoded");
	struct mg_str body = mg_http_body(request);

	(void)user;
	(void)role;
	if (!ask) {
		return;
	}
	ask->op.kind = MG_KV_READ;
	ask->op.space = MG_STR(DEFAULT_SPACE);
	ask->op.key = body;
	if (hex && !mg_kv_from_hex(mg_http_arena(request), mg_str_trim(body), &ask->op.key)) {
		refuse(request, 400, "the body is not the hex of a key",
		       "Two digits for each byte; or send the bytes as application/octet-stream.");
		return;
	}
	if (ask->op.key.len == 0 || ask->op.key.len > MG_KV_KEY_MAX) {
		refuse(request, ask->op.key.len ? 413 : 400, "a key has 1 to 65,536 bytes",
		       "The body is the key.");
		return;
	}
	if (!hex && !type) {
		(void)mg_kv_from_hex(mg_http_arena(request), mg_str_trim(body), &ask->other);
	}
	begin(ask);
}

/* ---- POST /subscribe ---- */

void mg_rest_kv_subscribe(struct mg_doors *doors, struct mg_http_request *request,
                          const char *user, enum mg_role role)
{
	struct mg_replica *replica = mg_engine_replica(doors->options.engine);
	struct mg_str body = mg_http_body(request);
	struct mg_json *json = NULL;
	struct mg_error err = { 0 };

	(void)user;
	(void)role;
	if (mg_json_parse(mg_http_arena(request), body.ptr, body.len, &json, &err) ||
	    !mg_json_get_text(json, "ip") || !mg_json_get(json, "port")) {
		refuse(request, 400, "the body has no \"ip\" and \"port\"",
		       "{\"ip\": \"10.0.0.7\", \"port\": 19090}");
	} else if (mg_replica_is_coordinator(replica)) {
		reply(request, 200, "text/plain", MG_STR("Subscribed"), NULL);
	} else {
		reply(request, 418, "text/plain", MG_STR("I am not a master"), NULL);
	}
}
