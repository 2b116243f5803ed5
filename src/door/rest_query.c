/*
 * rest_query.c - GET and POST /db/query: one statement that reads, answered as JSON, CSV, NDJSON,
 * Arrow or Parquet.
 *
 *   loop: collect -> thread: parse, bind, run -> pending blocks --small--> one reply
 *                                                              --large--> stream of blocks
 *
 * Up to PENDING_MAX bytes are kept before anything is sent, so that a statement that fails late
 * still gets its status and error; after that the answer streams, and an error cuts the connection,
 * which no client can mistake for the end.
 *
 * owner: a call has two: the request (its arena's hook gives the reference back) and the thread.
 * Fields say which; request is NULL once it is answered or gone.
 */
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "door/doors_int.h"
#include "door/rest_sql.h"
#include "session/running.h"
#include "os/clock.h"
#include "session/copy_out.h"
#include "session/encode.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { PENDING_MAX = 256 << 10, PENDING_BLOCKS_MAX = 1024, ARROW_BATCH_ROWS = 16384 };

struct call {
	atomic_int refs;
	struct mg_doors *doors;
	struct mg_loop *loop;
	struct mg_http_request *request; /* loop */
	bool streaming;                  /* loop: the reply has begun */
	atomic_bool stopped;             /* the query was ended from outside */
	_Atomic(struct mg_stream *) stream;
	struct mg_running running; /* cancelled: the client went away */
	/* thread; what lies in the request is valid until it is answered */
	struct mg_arena *arena;
	struct mg_session *session;
	bool keeps_session; /* it is ?tx='s */
	struct mg_slot *slot;
	const char *q, *params, *content_type;
	struct mg_str body;
	bool is_post, pretty;
	enum mg_format format;
	const char *media_type; /* of COPY, whose bytes are the answer; or NULL */
	uint64_t started_us;
	struct mg_encoder *encoder;
	struct mg_buf *pending[PENDING_BLOCKS_MAX];
	size_t pending_count, pending_size;
	struct mg_outcome outcome;
	struct mg_error err;
};

static void call_unref(void *arg)
{
	struct call *call = arg;

	if (atomic_fetch_sub(&call->refs, 1) > 1) {
		return;
	}
	for (size_t i = 0; i < call->pending_count; i++) {
		mg_buf_unref(call->pending[i]);
	}
	mg_encoder_free(call->encoder);
	mg_stream_unref(atomic_load(&call->stream));
	mg_session_unref(call->session);
	mg_running_fini(&call->running);
	mg_arena_free(call->arena);
	mg_free(call);
}

/* Hook of the request's arena: the request is no more. */
static void request_freed(void *arg)
{
	struct call *call = arg;

	call->request = NULL;
	call_unref(call);
}

/* ---- the answer's bytes: on the thread ---- */

static void stream_on_loop(void *arg);

static void answer_head(const struct call *call, struct mg_sb *extra)
{
	mg_sb_addf(extra, "Merganser-Query: %s\r\nCache-Control: no-store\r\n",
	           call->outcome.query_id[0] ? call->outcome.query_id : "-");
	mg_rest_add_seen(extra, call->session);
}

static const char *content_type(const struct call *call)
{
	return call->media_type ? call->media_type : mg_format_content_type(call->format);
}

static int start_stream(struct call *call, struct mg_error *err)
{
	struct mg_stream *stream = mg_stream_new(call->loop, NULL, NULL);
	int code = 0;

	mg_stream_idle_limit(stream, call->doors->options.idle_ms);
	mg_stream_on_wait(stream, mg_slot_pause, mg_slot_resume, call->slot);
	atomic_store(&call->stream, stream);
	if (atomic_load(&call->stopped)) {
		mg_stream_close(stream); /* call_stop ran before it could see the stream */
	}
	(void)atomic_fetch_add(&call->refs, 1);
	mg_loop_post(call->loop, stream_on_loop, call);
	for (size_t i = 0; i < call->pending_count; i++) {
		if (!code) {
			code = mg_stream_put(stream, call->pending[i], err);
		}
		mg_buf_unref(call->pending[i]);
	}
	call->pending_count = 0;
	return code;
}

static int emit(void *arg, struct mg_buf *buf, struct mg_error *err)
{
	struct call *call = arg;
	struct mg_stream *stream = atomic_load(&call->stream);

	if (stream) {
		int code = mg_stream_put(stream, buf, err);

		mg_buf_unref(buf);
		return code;
	}
	call->pending[call->pending_count++] = buf;
	call->pending_size += buf->size;
	if (call->pending_size > PENDING_MAX || call->pending_count == PENDING_BLOCKS_MAX) {
		return start_stream(call, err);
	}
	return 0;
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct call *call = arg;

	call->media_type = answer->media_type;
	return call->media_type
	           ? 0
	           : mg_encoder_begin(call->encoder, answer->schema, answer->count, answer->names,
	                              answer->types, err);
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct call *call = arg;

	if (!call->media_type) {
		return mg_encoder_batch(call->encoder, batch, err);
	}
	struct mg_str bytes = mg_copy_out_bytes(batch);
	struct mg_buf *buf = mg_buf_copy(bytes.ptr, bytes.len);

	return buf ? emit(call, buf, err)
	           : mg_error_set(err, MG_E_NOMEM, "not enough memory for a block of the answer");
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct call *call = arg;

	(void)answer;
	return call->media_type
	           ? 0
	           : mg_encoder_end(call->encoder,
	                            (double)(mg_clock_us() - call->started_us) / 1000, err);
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct call *call = arg;

	mg_running_set(&call->running, query);
}

/* From any thread, under the lock of the list of queries: wake a thread that waits for the client.
 */
static void call_stop(void *arg)
{
	struct call *call = arg;

	atomic_store(&call->stopped, true);
	struct mg_stream *stream = atomic_load(&call->stream);

	if (stream) {
		mg_stream_close(stream);
	}
}

/* ---- the request: on the thread ---- */

/* {"sql": ..., "params": ...}, or the statement itself as text. */
static int read_body(struct call *call, struct mg_str *sql, const struct mg_json **params,
                     struct mg_error *err)
{
	struct mg_json *body = NULL;
	int code = mg_rest_read_body(call->arena, call->content_type, call->body, sql, &body, err);

	if (code || !body) {
		return code;
	}
	if (mg_json_get(body, "statements")) {
		mg_error_set(err, MG_E_USAGE, "one statement is taken here, not \"statements\"");
		mg_error_hint(err, "Lists of statements are for POST /db/execute.");
		return MG_E_USAGE;
	}
	return mg_rest_read_sql(body, sql, params, err);
}

static int read_query(struct call *call, struct mg_str *sql, const struct mg_json **params,
                      struct mg_error *err)
{
	struct mg_json *list = NULL;

	if (!call->q) {
		mg_error_set(err, MG_E_USAGE, "parameter \"q\" is missing");
		mg_error_hint(err, "GET /db/query?q=SELECT+1, or POST {\"sql\": \"SELECT 1\"}.");
		return MG_E_USAGE;
	}
	*sql = mg_str(mg_arena_strdup(call->arena, call->q));
	if (call->params) {
		if (mg_json_parse(call->arena, call->params, strlen(call->params), &list, err)) {
			return mg_error_wrap(err, "parameter \"params\" is not JSON");
		}
		*params = list;
	}
	return 0;
}

static int prepare(struct call *call, struct mg_str *sql, struct mg_error *err)
{
	const struct mg_json *params = NULL;
	int code = call->is_post && !call->q ? read_body(call, sql, &params, err)
	                                     : read_query(call, sql, &params, err);

	return code ? code : mg_rest_bind(call->arena, *sql, params, sql, err);
}

static void call_over(void *arg);

static void end_session(struct call *call)
{
	if (!call->keeps_session) {
		mg_session_close(call->session);
	}
}

static void call_run(void *arg)
{
	struct call *call = arg;
	struct mg_request what = { .one_read = true, .in_transaction = call->keeps_session };
	struct mg_sink sink = {
		.begin = sink_begin,
		.batch = sink_batch,
		.end = sink_end,
		.query = sink_query,
		.stop = call_stop,
		.arg = call,
		.lossless = call->format != MG_FORMAT_ARROW,
		.batch_rows = call->format >= MG_FORMAT_ARROW ? ARROW_BATCH_ROWS : 0,
	};

	call->slot = &sink.slot;
	call->started_us = mg_clock_us();
	call->encoder = mg_encoder_new(&(struct mg_encode_options){
		.format = call->format,
		.pretty = call->pretty,
		.spill_dir = mg_engine_spill_dir(mg_sessions_engine(call->doors->sessions)),
		.emit = emit,
		.arg = call });
	int code = atomic_load(&call->running.cancelled)
	               ? mg_error_set(&call->err, MG_E_DISCONNECTED, "the client has gone")
	               : prepare(call, &what.sql, &call->err);

	if (!code) {
		code = mg_session_run(call->session, &what, &sink, &call->outcome, &call->err);
	}
	struct mg_stream *stream = atomic_load(&call->stream);

	if (stream) {
		mg_stream_on_wait(stream, NULL, NULL, NULL);
		if (!code) {
			mg_stream_finish(stream);
		}
	}
	call->slot = NULL;
	end_session(call);
	mg_loop_post(call->loop, call_over, call);
}

/* ---- on the loop ---- */

static void stream_on_loop(void *arg)
{
	struct call *call = arg;
	struct mg_sb extra = { 0 };

	answer_head(call, &extra);
	call->streaming = true;
	if (call->request) {
		mg_rest_count(call->request, 200);
		mg_http_reply_stream(call->request, 200, content_type(call),
		                     mg_sb_text(&extra), atomic_load(&call->stream));
	}
	mg_sb_fini(&extra);
	call_unref(call);
}

static void reply_whole(struct call *call)
{
	struct mg_sb body = { 0 }, extra = { 0 };

	for (size_t i = 0; i < call->pending_count; i++) {
		mg_sb_add_len(&body, (const char *)call->pending[i]->data, call->pending[i]->size);
	}
	answer_head(call, &extra);
	mg_rest_count(call->request, 200);
	mg_http_reply(call->request, 200, content_type(call), mg_sb_text(&body),
	              body.len, mg_sb_text(&extra));
	mg_sb_fini(&body);
	mg_sb_fini(&extra);
}

/* The thread is done. */
static void call_over(void *arg)
{
	struct call *call = arg;

	if (!call->request) {
		; /* answered to the end, or the client has gone */
	} else if (call->streaming) {
		if (call->err.code) {
			mg_log(MG_LOG_INFO, "rest.cut", "query=%s error=%s", call->outcome.query_id,
			       call->err.message);
			mg_http_abort(call->request);
		}
	} else if (call->err.code) {
		mg_rest_error(call->request, &call->err, mg_rest_sql_status(&call->err));
	} else {
		reply_whole(call);
	}
	call_unref(call);
}

/* The client went away: stop the query. */
static void call_gone(void *arg)
{
	struct call *call = arg;

	mg_running_cancel(&call->running, mg_sessions_queries(call->doors->sessions));
	call_stop(call);
}

/* ---- what the request asks for: on the loop ---- */

static int format_of_name(const char *name, enum mg_format *format)
{
	static const struct {
		const char *name;
		enum mg_format format;
	} names[] = {
		{ "*/*", MG_FORMAT_JSON },
		{ "application/*", MG_FORMAT_JSON },
		{ "application/json", MG_FORMAT_JSON },
		{ "json", MG_FORMAT_JSON },
		{ "application/x-ndjson", MG_FORMAT_NDJSON },
		{ "application/jsonl", MG_FORMAT_NDJSON },
		{ "ndjson", MG_FORMAT_NDJSON },
		{ "jsonl", MG_FORMAT_NDJSON },
		{ "text/csv", MG_FORMAT_CSV },
		{ "text/*", MG_FORMAT_CSV },
		{ "csv", MG_FORMAT_CSV },
		{ "application/vnd.apache.arrow.stream", MG_FORMAT_ARROW },
		{ "arrow", MG_FORMAT_ARROW },
		{ "application/vnd.apache.parquet", MG_FORMAT_PARQUET },
		{ "parquet", MG_FORMAT_PARQUET },
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (mg_rest_is_type(name, names[i].name)) {
			*format = names[i].format;
			return 0;
		}
	}
	return MG_E_USAGE;
}

/* The first type of the list that we know; weights are not looked at, people write the best first.
 * A browser asks for pages first and takes anything: it gets JSON. */
static int choose_format(struct mg_http_request *request, enum mg_format *format,
                         struct mg_error *err)
{
	const char *name = mg_http_query(request, "format");
	const char *accept = mg_http_header(request, "accept");

	*format = MG_FORMAT_JSON;
	if (name) {
		return format_of_name(name, format)
		           ? mg_error_set(err, MG_E_USAGE,
		                          "format is json, ndjson, csv, arrow or parquet, not \"%s\"", name)
		           : 0;
	}
	for (const char *at = accept ? accept : ""; *at;) {
		char item[80] = "";
		size_t skip = strspn(at, " \t,"), len = strcspn(at + skip, ",");

		memcpy(item, at + skip, len < sizeof item ? len : sizeof item - 1);
		if (len > 0 && format_of_name(item, format) == 0) {
			return 0;
		}
		at += skip + len;
	}
	return 0;
}

/* The session of ?tx=, or one for this request. */
static int open_session(struct call *call, const char *user, enum mg_role role,
                        struct mg_error *err)
{
	struct mg_doors *doors = call->doors;
	const char *tx = mg_http_query(call->request, "tx");

	call->keeps_session = tx != NULL;
	if (tx) {
		return mg_tx_handles_take(doors->tx_handles, tx, user, &call->session, err);
	}
	call->session = mg_session_open(
		doors->sessions, &(struct mg_session_open){ .user = user, .role = role, .door = "http" });
	return 0;
}

static struct call *call_new(struct mg_doors *doors, struct mg_http_request *request)
{
	struct call *call = mg_alloc0(sizeof *call);

	call->doors = doors;
	call->loop = mg_conn_loop(mg_http_conn(request));
	call->request = request;
	call->arena = mg_arena_new();
	call->q = mg_http_query(request, "q");
	call->params = mg_http_query(request, "params");
	call->content_type = mg_http_header(request, "content-type");
	call->body = mg_http_body(request);
	call->is_post = strcmp(mg_http_method(request), "POST") == 0;
	call->pretty = mg_rest_flag(request, "pretty");
	mg_running_init(&call->running);
	atomic_init(&call->refs, 2);
	mg_arena_defer(mg_http_arena(request), request_freed, call);
	return call;
}

void mg_rest_query(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                   enum mg_role role)
{
	struct call *call = call_new(doors, request);
	int code = open_session(call, user, role, &call->err);

	code = code ? code : choose_format(request, &call->format, &call->err);
	if (!code) {
		code = mg_rest_settings(call->session, request, &call->err);
	}
	if (!code) {
		mg_http_defer(request, call_gone, call);
		code = mg_pool_post(mg_sessions_pool(doors->sessions), call_run, call, &call->err);
	}
	if (code) {
		if (call->session) {
			end_session(call);
		}
		mg_rest_error(request, &call->err, 0);
		call_unref(call);
	}
}
