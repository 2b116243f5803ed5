/*
 * shell_channel.c - wss /client: several requests at once on one connection (docs/protocol.md).
 *
 *   loop   text frame -> request --post--> query thread: mg_session_run -> sink -> blocks
 *   loop   <- pump <- stream of the request <- blocks; last frame <- when the stream has ended
 *
 * Each request has its own stream, so one slow answer holds back nobody else's producer.  A block
 * is [kind u8]: 0 and a text frame, or 1 and the head of a binary message whose Arrow bytes are the
 * next block (so they are never copied).  The last frame of a request (done, error) lies in the
 * request and is sent when the stream has ended or was closed; so it is always the last and never
 * lost.
 *
 * Ending a request closes its stream: the thread that waits for the client wakes up, rows that wait
 * are dropped, for they belong to no answer.
 *
 * owner: a channel and its list belong to the loop; a request has two owners, loop and thread.
 * Limits: REQUESTS_MAX at once; MG_STREAM_HIGH in each stream, MG_STREAM_LOW in the write queue;
 * MG_WIRE_MESSAGE_MAX bytes a row.
 */
#include "door/doors_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "client/wire.h"
#include "codec/arrow_ipc.h"
#include "door/control_frame.h"
#include "door/link.h"
#include "session/running.h"
#include "mg_version.h"
#include "os/clock.h"
#include "session/inbox.h"
#include "session/intake.h"
#include "session/params.h"
#include "session/quick.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	REQUESTS_MAX = 16,
	MESSAGE_MAX = 16 << 20,
	TICK_MS = 250,
	PROGRESS_FROM_MS = 500,
	PROGRESS_QUEUED_MAX = 256 << 10, /* a client that is behind with rows gets no progress */
	SILENCE_MS = 90000,
	PINGS = 6, /* in the time of silence */
	HEAD_BLOCK_SIZE = 1 + MG_CLIENT_HEAD_SIZE,
};

enum { BLOCK_TEXT, BLOCK_HEAD };
enum { KIND_DATA = 3, KIND_GIVE_UP = 4 }; /* binary messages of clients */

struct request {
	struct request *next;    /* of the channel; loop */
	struct channel *channel; /* loop; NULL when the connection is gone */
	atomic_int refs;
	struct mg_loop *loop;
	struct mg_session *session; /* a ref */
	struct mg_stream *stream; /* NULL: no thread has it yet; loop, until it is started */
	uint32_t id;
	struct mg_arena *arena; /* of the frame */
	struct mg_str sql;
	const struct mg_json *params; /* or NULL */
	bool progress, lossless, input;
	uint64_t started_ms;
	struct mg_buf *head; /* loop: taken, its bytes not yet */
	struct mg_quick *quick; /* over, until it is answered; loop */
	struct mg_running running;
	struct mg_inbox inbox; /* of what COPY stores */
	/* thread */
	struct mg_arrow_encoder *encoder;
	struct mg_outcome outcome;
	char *last_frame; /* written before the stream is finished */
};

struct channel {
	struct mg_link link; /* first: it frees the whole */
	struct mg_doors *doors;
	struct mg_session *session;
	struct request *first;
	size_t count;
	struct mg_timer *tick, *heartbeat;
};
static_assert(offsetof(struct channel, link) == 0, "the link frees the channel");

/* ---- life of a request ---- */

static void request_unref(struct request *request)
{
	if (atomic_fetch_sub(&request->refs, 1) > 1) {
		return;
	}
	mg_buf_unref(request->head);
	mg_stream_unref(request->stream);
	mg_arrow_encoder_free(request->encoder);
	mg_session_unref(request->session);
	mg_running_fini(&request->running);
	mg_inbox_fini(&request->inbox);
	mg_free(request->last_frame);
	mg_arena_free(request->arena);
	mg_free(request);
}

/* Any thread: no more rows, and whoever makes them stops. */
static void request_cancel(struct request *request, struct mg_queries *queries)
{
	mg_running_cancel(&request->running, queries);
	mg_inbox_close(&request->inbox);
	if (request->stream) {
		mg_stream_close(request->stream);
	}
}

static struct request *request_find(struct channel *channel, uint32_t id)
{
	struct request *request = channel->first;

	while (request && request->id != id) {
		request = request->next;
	}
	return request;
}

/* ---- sink: on the query's thread ---- */

static int put_text(struct request *request, struct mg_sb *text, struct mg_error *err)
{
	size_t size = text->len;
	char *bytes = mg_sb_take(text);
	struct mg_buf *buf = mg_buf_wrap(bytes, size, mg_free, bytes);
	int code = mg_stream_put(request->stream, buf, err);

	mg_buf_unref(buf);
	return code;
}

/* A text frame begins with the byte of its kind. */
static struct mg_sb text_frame(void)
{
	struct mg_sb text = { 0 };

	mg_sb_add_char(&text, BLOCK_TEXT);
	return text;
}

static int put_arrow(struct request *request, uint8_t kind, uint64_t rows, struct mg_buf *buf,
                     struct mg_error *err)
{
	uint8_t head[HEAD_BLOCK_SIZE] = { BLOCK_HEAD };

	if (buf->size + MG_CLIENT_HEAD_SIZE > MG_WIRE_MESSAGE_MAX) {
		/* Batches are cut by bytes, so this is a single row. */
		mg_error_set(err, MG_E_LIMIT, "%s of %zu bytes is larger than a message to a client, %u MB",
		             kind == 1 ? "a list of columns" : "a row of the answer", buf->size,
		             MG_WIRE_MESSAGE_MAX >> 20);
		mg_error_hint(err, "Ask for it over HTTP (POST /db/query), which has no such limit, or "
		                   "select fewer columns.");
		mg_buf_unref(buf);
		return MG_E_LIMIT;
	}
	mg_control_head(head + 1, kind, request->id, rows);
	struct mg_buf *block = mg_buf_copy(head, sizeof head);
	int code = block ? mg_stream_put(request->stream, block, err)
	                 : mg_error_set(err, MG_E_NOMEM, "not enough memory for a frame");

	mg_buf_unref(block);
	if (!code) {
		code = mg_stream_put(request->stream, buf, err);
	}
	mg_buf_unref(buf);
	return code;
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct request *request = arg;
	struct mg_sb text = text_frame();
	struct mg_buf *schema = NULL;

	mg_control_begin(&text, request->id, answer);
	int code = put_text(request, &text, err);

	mg_arrow_encoder_free(request->encoder);
	request->encoder = NULL;
	if (!code && answer->count > 0) {
		code = mg_arrow_encoder_new(&request->encoder, answer->schema, false, err);
		if (!code) {
			code = mg_arrow_encode_schema(request->encoder, &schema, err);
		}
		if (!code) {
			code = put_arrow(request, 1, 0, schema, err);
		}
	}
	return code;
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct request *request = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw_bytes = 0;
	int code = mg_arrow_encode_batch(request->encoder, batch, &buf, &raw_bytes, err);

	return code ? code : put_arrow(request, 2, (uint64_t)batch->length, buf, err);
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct request *request = arg;
	struct mg_sb text = text_frame();

	mg_control_end(&text, request->id, answer);
	return put_text(request, &text, err);
}

static void sink_notice(void *arg, const char *message)
{
	struct request *request = arg;
	struct mg_sb text = text_frame();

	mg_control_notice(&text, request->id, message);
	(void)put_text(request, &text, NULL);
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct request *request = arg;

	mg_running_set(&request->running, query);
}

/* The client is asked for a piece, and sends it when it likes. */
static int sink_input(void *arg, struct mg_buf **out, struct mg_error *err)
{
	struct request *request = arg;
	struct mg_sb text = text_frame();

	mg_inbox_ask(&request->inbox);
	mg_control_more(&text, request->id, MG_INTAKE_PIECE_BYTES);
	int code = put_text(request, &text, err);

	return code ? code : mg_inbox_wait(&request->inbox, out, err);
}

static void sink_stop(void *arg)
{
	struct request *request = arg;

	mg_inbox_close(&request->inbox);
	mg_stream_close(request->stream);
}

static bool request_cancelled(void *arg)
{
	struct request *request = arg;

	return atomic_load(&request->running.cancelled);
}

static void request_over(void *arg);

/* The last frame of a request: how it ended, and how the session is now. */
static void add_last(struct mg_sb *out, struct mg_session *session, uint32_t id,
                     const struct mg_outcome *outcome, const struct mg_error *err)
{
	struct mg_sb seen = { 0 };

	mg_session_add_seen(session, &seen);
	const struct mg_control_state state = { .transaction = mg_session_transaction(session),
		                                    .seen = mg_sb_text(&seen) };

	if (err->code) {
		mg_control_error(out, id, outcome, err, &state);
	} else {
		mg_control_done(out, id, &state);
	}
	mg_sb_fini(&seen);
}

/* The stream was closed by a cancel, not by the client's going: then that is the reason. */
static void say_cancelled(struct request *request, struct mg_error *err)
{
	if (err->code == MG_E_DISCONNECTED && atomic_load(&request->running.cancelled)) {
		mg_error_set(err, MG_E_CANCELLED, "the request was cancelled");
	}
}

/* On a query thread: the whole request. */
static void request_run(void *arg)
{
	struct request *request = arg;
	struct mg_sb last = { 0 };
	struct mg_error err = { 0 };
	struct mg_sink sink = {
		.begin = sink_begin,
		.batch = sink_batch,
		.end = sink_end,
		.notice = sink_notice,
		.input = request->input ? sink_input : NULL,
		.query = sink_query,
		.stop = sink_stop,
		.arg = request,
		.lossless = request->lossless,
	};
	struct mg_request what = {
		.sql = request->sql,
		.cancelled = request_cancelled,
		.arg = request,
	};

	mg_stream_on_wait(request->stream, mg_slot_pause, mg_slot_resume, &sink.slot);
	int code = request->params ? mg_params_bind(request->arena, request->sql, request->params,
	                                            &what.sql, &err)
	                           : 0;

	code = code ? code
	            : mg_session_run(request->session, &what, &sink, &request->outcome, &err);
	if (code) {
		say_cancelled(request, &err);
	} else {
		mg_error_clear(&err);
	}
	add_last(&last, request->session, request->id, &request->outcome, &err);
	mg_stream_on_wait(request->stream, NULL, NULL, NULL);
	request->last_frame = mg_sb_take(&last);
	mg_stream_finish(request->stream);
	mg_loop_post(request->loop, request_over, request);
}

/* ---- from streams to the connection: on the loop ---- */

static void tick_when_needed(struct channel *channel);

static void request_remove(struct request *request)
{
	struct channel *channel = request->channel;
	struct request **link = &channel->first;

	while (*link != request) {
		mg_assert(*link != NULL);
		link = &(*link)->next;
	}
	*link = request->next;
	channel->count--;
	request->channel = NULL;
	request_unref(request);
}

static void send_block(struct request *request, struct mg_buf *buf)
{
	struct mg_ws *ws = request->channel->link.ws;

	if (request->head) {
		mg_ws_send_binary(ws, request->head->data + 1, MG_CLIENT_HEAD_SIZE, buf);
		mg_buf_unref(request->head);
		request->head = NULL;
	} else if (buf->data[0] == BLOCK_HEAD) {
		request->head = mg_buf_ref(buf);
	} else {
		mg_ws_send_text(ws, (const char *)buf->data + 1, buf->size - 1);
	}
	mg_buf_unref(buf);
}

/* Returns false when the write queue is full, so that the others need not try. */
static bool pump(struct request *request)
{
	struct channel *channel = request->channel;

	while (request->stream && channel->link.ws &&
	       mg_ws_queued(channel->link.ws) < MG_STREAM_LOW) {
		bool finished = false;
		struct mg_buf *buf = mg_stream_take(request->stream, &finished);

		if (buf) {
			send_block(request, buf);
		}
		if (finished) {
			if (channel->link.ws) {
				mg_ws_send_text(channel->link.ws, request->last_frame, strlen(request->last_frame));
			}
			/* Sending can have ended the connection, which removes every request. */
			if (request->channel) {
				request_remove(request);
			}
			return true;
		}
		if (!buf) {
			return true;
		}
	}
	return !request->stream;
}

static void request_wake(void *arg)
{
	struct request *request = arg;

	if (request->channel) {
		struct channel *channel = request->channel;

		(void)pump(request);
		tick_when_needed(channel);
	}
}

/* The thread is done with it.  When the stream was closed nobody else woke us for the last frame.
 */
static void request_over(void *arg)
{
	struct request *request = arg;

	request_wake(request);
	request_unref(request);
}

static void on_drain(struct mg_ws *ws, void *state)
{
	struct channel *channel = state;

	(void)ws;
	for (struct request *request = channel->first, *next; request; request = next) {
		next = request->next;
		if (!pump(request)) {
			break;
		}
	}
	tick_when_needed(channel);
}

/* ---- timers ---- */

static void on_tick(void *arg)
{
	struct channel *channel = arg;
	uint64_t now = mg_clock_ms();

	for (struct request *request = channel->first; request; request = request->next) {
		if (!request->progress || now - request->started_ms < PROGRESS_FROM_MS ||
		    mg_ws_queued(channel->link.ws) > PROGRESS_QUEUED_MAX) {
			continue;
		}
		struct mg_sb text = { 0 };

		pthread_mutex_lock(&request->running.lock);
		if (request->running.query) {
			double done = -1;
			uint64_t rows = 0, bytes = 0;
			uint32_t nodes = 0;

			mg_run_progress(mg_query_run(request->running.query), &done, &rows, &bytes, &nodes);
			mg_control_progress(&text, request->id, done, rows, bytes, nodes);
		}
		pthread_mutex_unlock(&request->running.lock);
		if (text.len > 0) {
			mg_ws_send_text(channel->link.ws, text.ptr, text.len);
		}
		mg_sb_fini(&text);
		if (!channel->link.ws) {
			return;
		}
	}
}

static void tick_when_needed(struct channel *channel)
{
	bool needed = false;

	for (struct request *request = channel->first; request; request = request->next) {
		needed = needed || request->progress;
	}
	if (needed && !channel->tick && channel->link.ws) {
		channel->tick = mg_timer_start(channel->link.loop, TICK_MS, TICK_MS, on_tick, channel);
	} else if (!needed && channel->tick) {
		mg_timer_stop(channel->tick);
		channel->tick = NULL;
	}
}

static uint64_t heartbeat_ms(const struct channel *channel)
{
	return channel->doors->options.silence_ms / PINGS;
}

/* A client that is only quiet answers pings; one that is gone without a word does not. */
static void on_heartbeat(void *arg)
{
	struct channel *channel = arg;
	uint64_t silent_ms = mg_clock_ms() - mg_ws_last_heard_ms(channel->link.ws);

	if (silent_ms > channel->doors->options.silence_ms) {
		mg_ws_close(channel->link.ws, 1001, "no sign of life");
	} else if (silent_ms > heartbeat_ms(channel)) {
		mg_ws_ping(channel->link.ws);
	}
}

/* ---- frames from the client ---- */

/* The answer to a request that never ran. */
static void send_error(struct channel *channel, uint32_t id, const struct mg_error *err)
{
	const struct mg_outcome outcome = { 0 };
	struct mg_sb text = { 0 };

	add_last(&text, channel->session, id, &outcome, err);
	mg_ws_send_text(channel->link.ws, mg_sb_text(&text), text.len);
	mg_sb_fini(&text);
}

/* Takes the frame's arena. */
static struct request *request_new(struct channel *channel, struct mg_arena *arena,
                                   const struct mg_control *frame)
{
	struct request *request = mg_alloc0(sizeof *request);

	request->channel = channel;
	request->loop = channel->link.loop;
	request->session = mg_session_ref(channel->session);
	request->id = frame->id;
	request->arena = arena;
	request->sql = frame->sql;
	request->params = frame->params;
	request->progress = frame->progress;
	request->lossless = frame->lossless;
	request->input = frame->input;
	request->started_ms = mg_clock_ms();
	mg_running_init(&request->running);
	mg_inbox_init(&request->inbox, channel->doors->options.idle_ms);
	atomic_init(&request->refs, 2);
	return request;
}

/* Its second owner is a thread of the pool. */
static void request_start(struct request *request)
{
	struct channel *channel = request->channel;
	struct mg_error err = { 0 };

	request->stream = mg_stream_new(channel->link.loop, request_wake, request);
	mg_stream_idle_limit(request->stream, channel->doors->options.idle_ms);
	if (mg_pool_post(mg_sessions_pool(channel->doors->sessions), request_run, request, &err)) {
		send_error(channel, request->id, &err);
		if (request->channel) {
			request_remove(request);
		}
		request_unref(request);
		return;
	}
	tick_when_needed(channel);
}

/* ---- a request without a thread ---- */

static void send_frame(struct channel *channel, struct mg_sb *text)
{
	if (channel->link.ws) {
		mg_ws_send_text(channel->link.ws, mg_sb_text(text), text->len);
	}
	mg_sb_clear(text);
}

static void send_quick(struct request *request, const struct mg_answer *answer, int code,
                       const struct mg_error *err)
{
	struct channel *channel = request->channel;
	struct mg_sb text = { 0 };

	if (code) {
		request->outcome.statement = 1;
		mg_copy_text(request->outcome.query_id, sizeof request->outcome.query_id,
		             answer->query_id);
	} else {
		mg_session_note_seen(request->session);
		mg_control_begin(&text, request->id, answer);
		send_frame(channel, &text);
		mg_control_end(&text, request->id, answer);
		send_frame(channel, &text);
	}
	add_last(&text, request->session, request->id, &request->outcome, err);
	send_frame(channel, &text);
	mg_sb_fini(&text);
}

/* On the loop. */
static void quick_answer(void *arg)
{
	struct request *request = arg;
	const struct mg_answer *answer = NULL;
	struct mg_error err;
	bool again = false;
	int code = mg_quick_end(request->quick, &again, &answer, &err);

	if (request->channel && !again) {
		send_quick(request, answer, code, &err);
	}
	mg_quick_free(request->quick);
	request->quick = NULL;
	if (request->channel && again) {
		request_start(request);
		return;
	}
	/* Sending can have ended the connection, which removes every request. */
	if (request->channel) {
		request_remove(request);
	}
	request_unref(request);
}

static void quick_over(void *arg, struct mg_quick *quick)
{
	struct request *request = arg;

	request->quick = quick;
	mg_loop_post(request->loop, quick_answer, request);
}

/* Takes the frame's arena. */
static void on_query(struct channel *channel, struct mg_arena *arena,
                     const struct mg_control *frame)
{
	struct mg_error err = { 0 };

	if (channel->count >= REQUESTS_MAX) {
		mg_error_set(&err, MG_E_BUSY, "%d requests run on this connection", REQUESTS_MAX);
		mg_error_hint(&err, "Wait for one of them, or open another connection.");
		send_error(channel, frame->id, &err);
		mg_arena_free(arena);
		return;
	}
	if (frame->seen.len > 0 && mg_session_see(channel->session, frame->seen, &err)) {
		send_error(channel, frame->id, &err);
		mg_arena_free(arena);
		return;
	}
	struct request *request = request_new(channel, arena, frame);
	struct request **last = &channel->first;

	/* At the end of the list: the oldest is pumped first. */
	while (*last) {
		last = &(*last)->next;
	}
	*last = request;
	channel->count++;
	if (!mg_quick_begin(&(struct mg_quick_begin){ .session = request->session,
	                                              .sql = request->sql,
	                                              .params = request->params,
	                                              .over = quick_over,
	                                              .arg = request })) {
		request_start(request);
	}
}

static void send_names(struct channel *channel, uint32_t id)
{
	struct mg_catalog *catalog = channel->doors->options.catalog;
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	struct mg_sb text = { 0 };

	mg_control_names(&text, id, data);
	mg_catalog_give(catalog, data);
	mg_ws_send_text(channel->link.ws, mg_sb_text(&text), text.len);
	mg_sb_fini(&text);
}

/* Takes the frame's arena. */
static void on_frame(struct channel *channel, struct mg_arena *arena,
                     const struct mg_control *frame)
{
	struct request *request = frame->id ? request_find(channel, frame->id) : NULL;

	switch (frame->kind) {
	case MG_CONTROL_QUERY:
		if (request) {
			mg_ws_close(channel->link.ws, 1002, "the id of a query is in use");
			break;
		}
		on_query(channel, arena, frame);
		return;
	case MG_CONTROL_CANCEL:
		if (request) { /* else it ended before: nothing is left to do */
			request_cancel(request, mg_sessions_queries(channel->doors->sessions));
		}
		break;
	case MG_CONTROL_COMPLETE:
		send_names(channel, frame->id);
		break;
	case MG_CONTROL_PING:
		mg_ws_send_text(channel->link.ws, "{\"type\":\"pong\"}", 15);
		break;
	}
	mg_arena_free(arena);
}

static void on_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_control frame;
	struct mg_error err = { 0 };

	if (mg_control_parse(arena, text, len, &frame, &err)) {
		err.message[120] = '\0'; /* the reason of a close frame is short */
		mg_ws_close(ws, 1002, err.message);
		mg_arena_free(arena);
	} else {
		on_frame(state, arena, &frame);
	}
}

static void unref_whole(void *arg)
{
	mg_buf_unref(arg);
}

static void on_binary(struct mg_ws *ws, void *state, struct mg_buf *message)
{
	struct channel *channel = state;
	uint32_t id = 0;

	if (message->size < MG_CLIENT_HEAD_SIZE ||
	    (message->data[0] != KIND_DATA && message->data[0] != KIND_GIVE_UP)) {
		mg_ws_close(ws, 1003, "no binary message but a piece of rows is expected here");
		return;
	}
	memcpy(&id, message->data + 4, sizeof id);
	struct request *request = request_find(channel, id);

	if (!request) { /* it has ended meanwhile */
		return;
	}
	size_t size = message->size - MG_CLIENT_HEAD_SIZE;
	struct mg_buf *piece =
		size ? mg_buf_wrap(message->data + MG_CLIENT_HEAD_SIZE, size, unref_whole,
	                       mg_buf_ref(message))
			 : NULL;

	if (!mg_inbox_put(&request->inbox, piece, message->data[0] == KIND_GIVE_UP)) {
		mg_ws_close(ws, 1002, "a piece of rows came that was not asked for");
	}
	mg_buf_unref(piece);
}

/* ---- life of the channel ---- */

static void on_closed(struct mg_ws *ws, void *state, int code, const char *reason)
{
	struct channel *channel = state;
	struct mg_queries *queries = mg_sessions_queries(channel->doors->sessions);

	(void)ws;
	mg_log(MG_LOG_DEBUG, "shell.closed", "session=%s code=%d reason=%s",
	       mg_session_id(channel->session), code, reason && reason[0] ? reason : "-");
	channel->link.ws = NULL;
	mg_timer_stop(channel->tick);
	mg_timer_stop(channel->heartbeat);
	channel->tick = channel->heartbeat = NULL;
	while (channel->first) {
		struct request *request = channel->first;

		request_cancel(request, queries);
		request_remove(request);
	}
	mg_session_close(channel->session);
	mg_session_unref(channel->session);
	mg_link_unref(&channel->link);
}

static void send_hello(struct channel *channel)
{
	struct mg_doors *doors = channel->doors;
	struct mg_door_counts counts;
	struct mg_sb text = { 0 };

	mg_doors_count(doors, &counts);
	mg_sb_addf(&text,
	           "{\"type\":\"hello\",\"protocol\":1,\"version\":\"%s\",\"engine\":\"%s\","
	           "\"cluster\":\"%s\",\"node\":",
	           MG_VERSION, mg_duck_version(), counts.cluster);
	mg_sb_add_json(&text, doors->node_name, strlen(doors->node_name));
	mg_sb_add(&text, ",\"user\":");
	mg_sb_add_json(&text, mg_session_user(channel->session),
	               strlen(mg_session_user(channel->session)));
	mg_sb_addf(&text, ",\"session\":\"%s\",\"nodes\":%u,\"workers\":%u,\"shards\":%u}",
	           mg_session_id(channel->session), counts.nodes, counts.workers, counts.shards);
	mg_ws_send_text(channel->link.ws, mg_sb_text(&text), text.len);
	mg_sb_fini(&text);
}

static const struct mg_ws_handler ws_handler = {
	.text = on_text,
	.binary = on_binary,
	.drain = on_drain,
	.closed = on_closed,
	.message_max = MESSAGE_MAX,
};

void mg_shell_channel_init(struct mg_doors *doors)
{
	struct mg_doors_options *options = &doors->options;

	options->silence_ms = options->silence_ms ? options->silence_ms : SILENCE_MS;
	doors->shell_handler = ws_handler;
	doors->shell_handler.message_max = options->message_max ? options->message_max : MESSAGE_MAX;
}

void mg_shell_channel(struct mg_doors *doors, struct mg_http_request *request, const char *user,
                      enum mg_role role)
{
	struct channel *channel = mg_alloc0(sizeof *channel);

	channel->doors = doors;
	mg_link_init(&channel->link, mg_conn_loop(mg_http_conn(request)));
	channel->session =
		mg_session_open(doors->sessions, &(struct mg_session_open){ .user = user,
	                                                                .role = role,
	                                                                .door = "shell",
	                                                                .kill = mg_link_kill,
	                                                                .arg = &channel->link });
	/* user lies in the request, which is gone after this. */
	struct mg_ws *ws = mg_ws_accept(request, &doors->shell_handler, channel);

	if (!ws) {
		mg_session_close(channel->session);
		mg_session_unref(channel->session);
		mg_link_unref(&channel->link);
		return;
	}
	channel->link.ws = ws;
	channel->heartbeat = mg_timer_start(channel->link.loop, heartbeat_ms(channel),
	                                    heartbeat_ms(channel), on_heartbeat, channel);
	mg_log(MG_LOG_DEBUG, "shell.open", "session=%s user=%s peer=%s",
	       mg_session_id(channel->session), mg_session_user(channel->session),
	       mg_conn_peer(mg_ws_conn(ws)));
	send_hello(channel);
}
