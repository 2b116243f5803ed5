/*
 * channel.c - see channel.h.
 *
 * Rule: the WebSocket is touched on its loop alone; frames reach the handler in the order in which
 * they came.
 *
 * Three threads meet here: the loop (ws callbacks), the channel's own thread (handler) and whoever
 * sends.  `lock` guards the inbox and the counters; `ws` belongs to the loop.
 */
#include "exec/channel.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"

#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <xxhash.h>

#define INBOX_HIGH (16u << 20)
#define INBOX_LOW (8u << 20)

struct item {
	struct item *next;
	bool text;
	struct mg_buf *buf;
};

struct mg_channel {
	atomic_int refs;
	struct mg_ws *ws; /* owner: loop; NULL once closed */
	struct mg_loop *loop;
	struct mg_channel_handler handler;
	struct mg_ws_handler ws_handler; /* with its own limit */
	void (*opened)(void *arg, int status);
	char peer[80];
	bool same_host;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t inbox_changed, room;
	struct item *first, *last;
	size_t inbox_bytes;
	bool paused;   /* we hold the peer's frames back */
	size_t posted; /* bytes on their way to the loop */
	bool blocked;  /* the socket is slow: queue above the high mark */
	bool closed;
	bool abandoned; /* it never opened: its handler hears nothing */
	char reason[400];
	atomic_ullong heard_ms, bytes_sent;
};

/* ---- head ---- */

static void put_le(uint8_t *at, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		at[i] = (uint8_t)(value >> (8 * i));
	}
}

static uint64_t get_le(const uint8_t *at, size_t size)
{
	uint64_t value = 0;
	for (size_t i = 0; i < size; i++) {
		value |= (uint64_t)at[i] << (8 * i);
	}
	return value;
}

void mg_frame_encode(uint8_t head[MG_FRAME_HEAD], const struct mg_frame *frame, const void *payload,
                     size_t size)
{
	memset(head, 0, MG_FRAME_HEAD);
	head[0] = frame->kind;
	put_le(head + 8, frame->id, 8);
	put_le(head + 16, frame->stage, 4);
	put_le(head + 20, frame->target, 4);
	put_le(head + 24, frame->rows, 8);
	put_le(head + 32, XXH3_64bits(payload, size), 8);
}

int mg_frame_decode(const void *message, size_t size, struct mg_frame *frame, struct mg_error *err)
{
	const uint8_t *head = message;
	if (size < MG_FRAME_HEAD) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a data frame of %zu bytes is shorter than its head", size);
	}
	static const uint8_t zero[7];
	if (head[0] < MG_FRAME_SCHEMA || head[0] > MG_FRAME_ENTRIES ||
	    memcmp(head + 1, zero, sizeof zero) != 0) {
		return mg_error_set(err, MG_E_PROTOCOL, "unknown kind %u of data frame", head[0]);
	}
	*frame = (struct mg_frame){
		.kind = head[0],
		.id = get_le(head + 8, 8),
		.stage = (uint32_t)get_le(head + 16, 4),
		.target = (uint32_t)get_le(head + 20, 4),
		.rows = get_le(head + 24, 8),
	};
	if (get_le(head + 32, 8) != XXH3_64bits(head + MG_FRAME_HEAD, size - MG_FRAME_HEAD)) {
		return mg_error_set(err, MG_E_PROTOCOL, "the checksum of a data frame is wrong");
	}
	return 0;
}

/* ---- life ---- */

struct mg_channel *mg_channel_ref(struct mg_channel *channel)
{
	atomic_fetch_add(&channel->refs, 1);
	return channel;
}

void mg_channel_unref(struct mg_channel *channel)
{
	if (!channel || atomic_fetch_sub(&channel->refs, 1) != 1) {
		return;
	}
	mg_assert(!channel->first);
	pthread_cond_destroy(&channel->inbox_changed);
	pthread_cond_destroy(&channel->room);
	pthread_mutex_destroy(&channel->lock);
	mg_free(channel);
}

static struct mg_channel *channel_new(const struct mg_channel_handler *handler,
                                      struct mg_conn *conn)
{
	struct mg_channel *channel = mg_alloc0(sizeof *channel);
	atomic_init(&channel->refs, 2); /* the caller's and the loop's, given back in on_closed */
	channel->handler = *handler;
	channel->loop = mg_conn_loop(conn);
	channel->same_host = mg_conn_is_same_host(conn);
	mg_copy_text(channel->peer, sizeof channel->peer, mg_conn_peer(conn));
	pthread_mutex_init(&channel->lock, NULL);
	pthread_cond_init(&channel->inbox_changed, NULL);
	pthread_cond_init(&channel->room, NULL);
	atomic_init(&channel->heard_ms, mg_clock_ms());
	return channel;
}

/* ---- the channel's thread: hands frames to the handler ---- */

static void resume_reading(void *arg)
{
	struct mg_channel *channel = arg;
	if (channel->ws) {
		mg_ws_pause_read(channel->ws, false);
	}
	atomic_store(&channel->heard_ms, mg_clock_ms());
	mg_channel_unref(channel);
}

static struct item *take_item(struct mg_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	while (!channel->first && !channel->closed) {
		pthread_cond_wait(&channel->inbox_changed, &channel->lock);
	}
	struct item *item = channel->first;
	bool resume = false;
	if (item) {
		channel->first = item->next;
		channel->last = channel->first ? channel->last : NULL;
		channel->inbox_bytes -= item->buf->size;
		resume = channel->paused && channel->inbox_bytes < INBOX_LOW && !channel->closed;
		if (resume) {
			channel->paused = false;
		}
	}
	pthread_mutex_unlock(&channel->lock);
	if (resume) {
		mg_loop_post(channel->loop, resume_reading, mg_channel_ref(channel));
	}
	return item;
}

static int handle_text(struct mg_channel *channel, struct mg_buf *buf, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	int code = mg_json_parse(arena, (const char *)buf->data, buf->size, &json, err);
	if (!code && (!mg_json_is(json, MG_JSON_OBJECT) || !mg_json_get_text(json, "type"))) {
		code = mg_error_set(err, MG_E_PROTOCOL, "a control frame is no object with a type");
	}
	if (!code) {
		code = channel->handler.control(channel->handler.arg, json, err);
	}
	mg_arena_free(arena);
	return code;
}

static void payload_release(void *arg)
{
	mg_buf_unref(arg);
}

static int handle_binary(struct mg_channel *channel, struct mg_buf *buf, struct mg_error *err)
{
	struct mg_frame frame;
	int code = mg_frame_decode(buf->data, buf->size, &frame, err);
	if (code) {
		return code;
	}
	struct mg_buf *payload = mg_buf_wrap(buf->data + MG_FRAME_HEAD, buf->size - MG_FRAME_HEAD,
	                                     payload_release, mg_buf_ref(buf));
	code = channel->handler.data(channel->handler.arg, &frame, payload, err);
	mg_buf_unref(payload);
	return code;
}

static void *channel_thread(void *arg)
{
	struct mg_channel *channel = arg;
	bool failed = false;
	struct item *item;
	while ((item = take_item(channel))) {
		struct mg_error err;
		mg_error_clear(&err);
		int code = 0;
		if (!failed) {
			code = item->text ? handle_text(channel, item->buf, &err)
			                  : handle_binary(channel, item->buf, &err);
		}
		if (code) {
			failed = true;
			mg_channel_close(channel, err.message);
		}
		mg_buf_unref(item->buf);
		mg_free(item);
	}
	if (!channel->abandoned) {
		channel->handler.closed(channel->handler.arg, channel->reason);
	}
	mg_channel_unref(channel);
	return NULL;
}

static int start_thread(struct mg_channel *channel, struct mg_error *err)
{
	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	mg_channel_ref(channel);
	int failed = pthread_create(&thread, &attributes, channel_thread, channel);
	pthread_attr_destroy(&attributes);
	if (!failed) {
		return 0;
	}
	mg_channel_unref(channel);
	int code = mg_error_set(err, MG_E_NOMEM, "the system gives no thread for the connection of %s",
	                        channel->peer);
	mg_error_hint(err, "Raise the limit of threads (ulimit -u, pids.max of the container).");
	mg_log(MG_LOG_ERROR, "channel.refused", "peer=%s error=\"%s\"", channel->peer, err->message);
	return code;
}

/* A channel that never opened: nobody is told that it is closed. */
static void abandon(struct mg_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	channel->abandoned = channel->closed = true;
	pthread_cond_broadcast(&channel->inbox_changed);
	pthread_mutex_unlock(&channel->lock);
	mg_channel_unref(channel);
	mg_channel_unref(channel);
}

/* ---- WebSocket callbacks, on the loop ---- */

static void push(struct mg_channel *channel, bool text, struct mg_buf *buf)
{
	struct item *item = mg_alloc(sizeof *item);
	*item = (struct item){ .text = text, .buf = buf };
	atomic_store(&channel->heard_ms, mg_clock_ms());
	pthread_mutex_lock(&channel->lock);
	if (channel->last) {
		channel->last->next = item;
	} else {
		channel->first = item;
	}
	channel->last = item;
	channel->inbox_bytes += buf->size;
	bool pause = !channel->paused && channel->inbox_bytes > INBOX_HIGH;
	if (pause) {
		channel->paused = true;
	}
	pthread_cond_signal(&channel->inbox_changed);
	pthread_mutex_unlock(&channel->lock);
	if (pause) {
		mg_ws_pause_read(channel->ws, true);
	}
}

static void on_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	struct mg_buf *buf = mg_buf_copy(text, len);
	if (!buf) {
		mg_ws_close(ws, 1011, "out of memory");
		return;
	}
	push(state, true, buf);
}

static void on_binary(struct mg_ws *ws, void *state, struct mg_buf *message)
{
	(void)ws;
	push(state, false, mg_buf_ref(message));
}

static void on_drain(struct mg_ws *ws, void *state)
{
	(void)ws;
	struct mg_channel *channel = state;
	pthread_mutex_lock(&channel->lock);
	channel->blocked = false;
	pthread_cond_broadcast(&channel->room);
	pthread_mutex_unlock(&channel->lock);
}

static void on_closed(struct mg_ws *ws, void *state, int code, const char *reason)
{
	(void)ws;
	struct mg_channel *channel = state;
	channel->ws = NULL;
	pthread_mutex_lock(&channel->lock);
	channel->closed = true;
	if (!channel->reason[0]) {
		mg_copy_text(channel->reason, sizeof channel->reason,
		             reason && reason[0] ? reason
		             : code == 1000      ? "closed by the peer"
		                                 : "connection lost");
	}
	pthread_cond_broadcast(&channel->inbox_changed);
	pthread_cond_broadcast(&channel->room);
	pthread_mutex_unlock(&channel->lock);
	mg_channel_unref(channel);
}

static const struct mg_ws_handler channel_ws_handler = {
	.text = on_text,
	.binary = on_binary,
	.drain = on_drain,
	.closed = on_closed,
	.message_max = MG_CHANNEL_MESSAGE_MAX,
};

static void set_limits(struct mg_channel *channel)
{
	channel->ws_handler = channel_ws_handler;
	if (channel->handler.message_max > MG_CHANNEL_MESSAGE_MAX) {
		channel->ws_handler.message_max = channel->handler.message_max;
	}
}

struct mg_channel *mg_channel_accept(struct mg_http_request *request,
                                     const struct mg_channel_handler *handler)
{
	struct mg_channel *channel = channel_new(handler, mg_http_conn(request));
	struct mg_error err;
	mg_error_clear(&err);
	set_limits(channel);
	/* The thread first: once the upgrade is answered, a refusal has no words any more. */
	if (start_thread(channel, &err)) {
		mg_http_reply_error(request, &err);
		abandon(channel);
		return NULL;
	}
	channel->ws = mg_ws_accept(request, &channel->ws_handler, channel);
	if (!channel->ws) {
		abandon(channel);
		return NULL;
	}
	return channel;
}

static void on_opened(struct mg_ws *ws, void *state, int http_status)
{
	(void)ws;
	struct mg_channel *channel = state;
	channel->opened(channel->handler.arg, http_status);
}

struct mg_channel *mg_channel_connect(struct mg_conn *conn, const char *host, const char *path,
                                      const char *headers, const struct mg_channel_handler *handler,
                                      void (*opened)(void *arg, int status), struct mg_error *err)
{
	struct mg_channel *channel = channel_new(handler, conn);
	set_limits(channel);
	channel->opened = opened;
	if (start_thread(channel, err)) {
		abandon(channel);
		mg_conn_set_protocol(conn, NULL, NULL);
		mg_conn_close(conn);
		return NULL;
	}
	channel->ws =
		mg_ws_connect(conn, host, path, headers, &channel->ws_handler, on_opened, channel);
	return channel;
}

/* ---- sending: a message crosses to the loop ---- */

struct outgoing {
	struct mg_channel *channel;
	struct mg_buf *buf;
	bool text;
	size_t size;
	uint8_t head[MG_FRAME_HEAD];
};

static void send_on_loop(void *arg)
{
	struct outgoing *out = arg;
	struct mg_channel *channel = out->channel;
	bool blocked = false;
	if (channel->ws && out->text) {
		mg_ws_send_text(channel->ws, (const char *)out->buf->data, out->buf->size);
	} else if (channel->ws) {
		mg_ws_send_binary(channel->ws, out->head, MG_FRAME_HEAD, out->buf);
	}
	if (channel->ws) {
		blocked = mg_ws_queued(channel->ws) > MG_STREAM_HIGH;
	}
	pthread_mutex_lock(&channel->lock);
	channel->posted -= out->size;
	channel->blocked = blocked;
	pthread_cond_broadcast(&channel->room);
	pthread_mutex_unlock(&channel->lock);
	mg_buf_unref(out->buf);
	mg_channel_unref(channel);
	mg_free(out);
}

static void post(struct mg_channel *channel, struct outgoing *out)
{
	out->channel = mg_channel_ref(channel);
	out->size = out->buf->size + MG_FRAME_HEAD;
	pthread_mutex_lock(&channel->lock);
	channel->posted += out->size;
	bool closed = channel->closed;
	pthread_mutex_unlock(&channel->lock);
	atomic_fetch_add(&channel->bytes_sent, out->size);
	if (closed) {
		pthread_mutex_lock(&channel->lock);
		channel->posted -= out->size;
		pthread_mutex_unlock(&channel->lock);
		mg_buf_unref(out->buf);
		mg_channel_unref(channel);
		mg_free(out);
		return;
	}
	mg_loop_post(channel->loop, send_on_loop, out);
}

void mg_channel_send(struct mg_channel *channel, const char *text)
{
	struct outgoing *out = mg_alloc0(sizeof *out);
	out->text = true;
	out->buf = mg_buf_copy(text, strlen(text));
	if (!out->buf) {
		mg_free(out);
		mg_channel_close(channel, "out of memory");
		return;
	}
	post(channel, out);
}

void mg_channel_sendf(struct mg_channel *channel, const char *fmt, ...)
{
	struct mg_sb sb = { 0 };
	va_list ap;
	va_start(ap, fmt);
	mg_sb_addv(&sb, fmt, ap);
	va_end(ap);
	mg_channel_send(channel, mg_sb_text(&sb));
	mg_sb_fini(&sb);
}

int mg_channel_send_data(struct mg_channel *channel, const struct mg_frame *frame,
                         struct mg_buf *payload, struct mg_error *err)
{
	mg_assert(!mg_loop_is_current(channel->loop));
	pthread_mutex_lock(&channel->lock);
	while (!channel->closed && (channel->blocked || channel->posted > MG_STREAM_HIGH)) {
		pthread_cond_wait(&channel->room, &channel->lock);
	}
	bool closed = channel->closed;
	pthread_mutex_unlock(&channel->lock);
	if (closed) {
		return mg_error_set(err, MG_E_DISCONNECTED, "the connection to %s was lost: %s",
		                    channel->peer, channel->reason);
	}
	struct outgoing *out = mg_alloc0(sizeof *out);
	out->buf = mg_buf_ref(payload);
	mg_frame_encode(out->head, frame, payload->data, payload->size);
	post(channel, out);
	return 0;
}

/* ---- the rest ---- */

static void close_on_loop(void *arg)
{
	struct mg_channel *channel = arg;
	if (channel->ws) {
		mg_ws_close(channel->ws, 1000, channel->reason);
	}
	mg_channel_unref(channel);
}

static void abort_on_loop(void *arg)
{
	struct mg_channel *channel = arg;
	if (channel->ws) {
		mg_conn_close(mg_ws_conn(channel->ws));
	}
	mg_channel_unref(channel);
}

static void end(struct mg_channel *channel, const char *reason, void (*on_loop)(void *))
{
	pthread_mutex_lock(&channel->lock);
	bool closed = channel->closed;
	if (!channel->reason[0]) {
		mg_copy_text(channel->reason, sizeof channel->reason, reason);
	}
	pthread_mutex_unlock(&channel->lock);
	if (!closed) {
		mg_loop_post(channel->loop, on_loop, mg_channel_ref(channel));
	}
}

void mg_channel_close(struct mg_channel *channel, const char *reason)
{
	end(channel, reason, close_on_loop);
}

void mg_channel_abort(struct mg_channel *channel, const char *reason)
{
	end(channel, reason, abort_on_loop);
}

bool mg_channel_is_open(struct mg_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	bool open = !channel->closed;
	pthread_mutex_unlock(&channel->lock);
	return open;
}

static void ping_on_loop(void *arg)
{
	struct mg_channel *channel = arg;
	if (channel->ws) {
		uint64_t heard = mg_ws_last_heard_ms(channel->ws);
		if (heard > atomic_load(&channel->heard_ms)) {
			atomic_store(&channel->heard_ms, heard);
		}
		mg_ws_ping(channel->ws);
	}
	mg_channel_unref(channel);
}

void mg_channel_ping(struct mg_channel *channel)
{
	mg_loop_post(channel->loop, ping_on_loop, mg_channel_ref(channel));
}

uint64_t mg_channel_silence_ms(struct mg_channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	bool paused = channel->paused;
	pthread_mutex_unlock(&channel->lock);
	uint64_t heard = atomic_load(&channel->heard_ms), now = mg_clock_ms();
	return paused || heard >= now ? 0 : now - heard;
}

uint64_t mg_channel_bytes_sent(const struct mg_channel *channel)
{
	return atomic_load(&channel->bytes_sent);
}

bool mg_channel_is_same_host(const struct mg_channel *channel)
{
	return channel->same_host;
}

const char *mg_channel_peer(const struct mg_channel *channel)
{
	return channel->peer;
}
