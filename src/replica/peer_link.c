/*
 * peer_link.c - the bytes of one connection between nodes, after the hellos and before their end.
 *
 *     raft thread --send--> out --flush: one post--> loop: pump -> connection
 *     connection -> loop: whole frames -> in --one post--> raft thread: deliver
 *
 * Rule: a frame's size is checked before there is memory for it, and a frame is whole or not at
 * all: what does not fit the queue is dropped, what a closed connection leaves is forgotten.
 *
 * owner: as peers_int.h says, field by field.
 */
#include "base/assert.h"
#include "base/log.h"
#include "net/stream.h"
#include "os/clock.h"
#include "raft/frame.h"
#include "replica/peers_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BEAT_MS 1000
#define SILENCE_MS 5000
#define KIND_AT 5          /* in the head of a frame */
#define FRAME_OVERHEAD 128 /* what a frame in a queue costs beside its bytes */

/* ---- queues ---- */

static void push(struct mg_link_queue *queue, struct mg_buf *buf)
{
	if (queue->count == queue->cap && queue->first > queue->cap / 2) {
		queue->count -= queue->first;
		memmove(queue->list, queue->list + queue->first, queue->count * sizeof *queue->list);
		queue->first = 0;
	}
	mg_grow(queue->list, queue->count, queue->cap);
	queue->list[queue->count++] = buf;
	queue->bytes += buf->size + FRAME_OVERHEAD;
}

static struct mg_buf *pop(struct mg_link_queue *queue)
{
	if (queue->first == queue->count) {
		queue->first = queue->count = 0;
		return NULL;
	}
	struct mg_buf *buf = queue->list[queue->first++];

	queue->bytes -= buf->size + FRAME_OVERHEAD;
	return buf;
}

static void empty(struct mg_link_queue *queue)
{
	for (struct mg_buf *buf = pop(queue); buf != NULL; buf = pop(queue)) {
		mg_buf_unref(buf);
	}
	mg_free(queue->list);
	*queue = (struct mg_link_queue){ 0 };
}

/* ---- life ---- */

struct mg_link *mg_link__new(struct mg_peers *peers, struct mg_peer_node *node,
                             struct mg_conn *conn, bool dialled)
{
	struct mg_link *link = mg_alloc0(sizeof *link);

	atomic_init(&link->refs, 1);
	pthread_mutex_init(&link->lock, NULL);
	link->peers = peers;
	link->node = node;
	link->loop = mg_conn_loop(conn);
	link->conn = conn;
	link->dialled = dialled;
	return link;
}

struct mg_link *mg_link__ref(struct mg_link *link)
{
	(void)atomic_fetch_add(&link->refs, 1);
	return link;
}

void mg_link__unref(struct mg_link *link)
{
	if (atomic_fetch_sub(&link->refs, 1) != 1) {
		return;
	}
	mg_assert(link->conn == NULL && link->timer == NULL);
	empty(&link->out);
	empty(&link->in);
	pthread_mutex_destroy(&link->lock);
	mg_free(link);
}

void mg_link__close(struct mg_link *link, const char *fmt, ...)
{
	va_list ap;

	mg_assert(mg_loop_is_current(link->loop));
	if (link->conn == NULL || link->why[0] != '\0') {
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(link->why, sizeof link->why, fmt, ap);
	va_end(ap);
	mg_conn_close(link->conn);
}

static void tell_lost(void *arg)
{
	struct mg_link *link = arg;
	struct mg_raft_node *node = mg_raft_host_node(link->peers->host);

	if (link->peers->messages.lost != NULL) {
		link->peers->messages.lost(link->peers->messages.arg, link->number);
	}
	if (link->ended && node != NULL) {
		mg_raft_node_lost(node, link->node->node);
	}
	mg_link__unref(link);
}

void mg_link__closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_link *link = state;

	(void)conn;
	link->conn = NULL;
	mg_timer_stop(link->timer);
	link->timer = NULL;
	mg_buf_unref(link->frame);
	link->frame = NULL;
	pthread_mutex_lock(&link->lock);
	link->closed = true;
	empty(&link->out);
	pthread_mutex_unlock(&link->lock);
	bool ours = link->why[0] != '\0';

	link->ended = mg_peers__lost(link, ours ? link->why : reason) && !ours;
	/* Behind all that it has brought, and nothing more goes over it. */
	if (link->number != 0) {
		mg_raft_host_post(link->peers->host, tell_lost, link);
		return;
	}
	mg_link__unref(link);
}

/* ---- out ---- */

bool mg_link__send(struct mg_link *link, struct mg_buf *frame)
{
	pthread_mutex_lock(&link->lock);
	bool fits = !link->closed && (link->out.bytes == 0 || link->out.bytes + frame->size <=
	                                                          link->peers->options.queue_bytes);

	if (fits) {
		push(&link->out, frame);
	}
	pthread_mutex_unlock(&link->lock);
	return fits;
}

/* Give the connection what it takes; its drain comes back for the rest. */
static void pump(struct mg_link *link)
{
	while (link->conn != NULL && mg_conn_write_queued(link->conn) < MG_STREAM_HIGH) {
		pthread_mutex_lock(&link->lock);
		struct mg_buf *frame = pop(&link->out);

		link->out_posted = frame != NULL;
		pthread_mutex_unlock(&link->lock);
		if (frame == NULL) {
			return;
		}
		mg_metric_add(link->peers->sent_frames, 1);
		mg_metric_add(link->peers->sent_bytes, (int64_t)frame->size);
		mg_conn_write_buf(link->conn, frame);
		mg_buf_unref(frame);
		link->said = true;
	}
}

static void on_flush(void *arg)
{
	pump(arg);
	mg_link__unref(arg);
}

/* A loop that has raft's turn sends at once: the disk's lane, which comes next, would be put before
 * it, and its peers could begin only when that has given its write to the disk. */
void mg_link__flush(struct mg_link *link)
{
	if (mg_loop_is_current(link->loop)) {
		pump(link);
		if (link->conn != NULL) {
			mg_conn_flush(link->conn);
		}
		return;
	}
	pthread_mutex_lock(&link->lock);
	bool post = !link->out_posted && !link->closed;

	link->out_posted = link->out_posted || post;
	pthread_mutex_unlock(&link->lock);
	if (post && !mg_peers__post(link->peers, link->loop, on_flush, mg_link__ref(link))) {
		mg_link__unref(link);
	}
}

static void link_drain(struct mg_conn *conn, void *state)
{
	(void)conn;
	pump(state);
}

/* ---- in: the raft thread ---- */

static void on_broken(void *arg)
{
	mg_link__close(arg, "it broke the protocol between nodes");
	mg_link__unref(arg);
}

static void on_taken(void *arg)
{
	struct mg_link *link = arg;

	pthread_mutex_lock(&link->lock);
	link->paused = false;
	pthread_mutex_unlock(&link->lock);
	if (link->conn != NULL) {
		link->heard_ms = mg_clock_ms();
		mg_conn_pause_read(link->conn, false);
	}
	mg_link__unref(link);
}

static void tell_loop(struct mg_link *link, void (*fn)(void *arg))
{
	if (!mg_peers__post(link->peers, link->loop, fn, mg_link__ref(link))) {
		mg_link__unref(link);
	}
}

static void receive(struct mg_link *link, struct mg_raft_node *node, const struct mg_buf *frame)
{
	const struct mg_peers_messages *messages = &link->peers->messages;
	struct mg_error err = { 0 };
	int code = 0;

	if (node == NULL || link->broken) {
		return;
	}
	if (messages->take != NULL && frame->data[KIND_AT] >= MG_PEERS_MESSAGE_MIN) {
		code = messages->take(messages->arg, link->node->node, frame->data, frame->size, &err);
	} else {
		code = mg_raft_node_receive(node, link->node->node, frame->data, frame->size, &err);
	}
	if (code == 0) {
		return;
	}
	mg_log(MG_LOG_WARN, "peer.protocol", "server=%" PRIu64 " error=%s", link->node->node,
	       err.message);
	link->broken = true;
	tell_loop(link, on_broken);
}

static void deliver(void *arg)
{
	struct mg_link *link = arg;
	struct mg_raft_node *node = mg_raft_host_node(link->peers->host);

	pthread_mutex_lock(&link->lock);
	struct mg_link_queue in = link->in;

	link->in = (struct mg_link_queue){ 0 };
	link->in_posted = false;
	bool paused = link->paused;
	pthread_mutex_unlock(&link->lock);
	for (struct mg_buf *frame = pop(&in); frame != NULL; frame = pop(&in)) {
		receive(link, node, frame);
		mg_buf_unref(frame);
	}
	empty(&in);
	if (paused) {
		tell_loop(link, on_taken);
	}
	mg_link__unref(link);
}

/* ---- in: the loop ---- */

/* A frame is whole: raft takes it, with all that come until it looks. */
static void hand_over(struct mg_link *link, struct mg_buf *frame)
{
	struct mg_peers *peers = link->peers;

	mg_metric_add(peers->received_frames, 1);
	mg_metric_add(peers->received_bytes, (int64_t)frame->size);
	pthread_mutex_lock(&link->lock);
	push(&link->in, frame);
	bool post = !link->in_posted;
	bool pause = !link->paused && link->in.bytes >= peers->options.inbox_bytes;

	link->in_posted = true;
	link->paused = link->paused || pause;
	pthread_mutex_unlock(&link->lock);
	if (pause) {
		mg_conn_pause_read(link->conn, true);
	}
	if (post) {
		mg_raft_host_post(peers->host, deliver, mg_link__ref(link));
	}
}

/* The size of a frame is there.  False: it is none. */
static bool begin_frame(struct mg_link *link)
{
	struct mg_error err = { 0 };
	uint32_t told;

	memcpy(&told, link->head, sizeof told);
	link->head_size = 0;
	if (told == MG_LINK_BEAT_SIZE) {
		return true;
	}
	if (mg_raft_frame_size(link->head, sizeof link->head, &link->frame_size, &err) != 0) {
		mg_log(MG_LOG_WARN, "peer.protocol", "server=%" PRIu64 " error=%s", link->node->node,
		       err.message);
		mg_link__close(link, "%s", err.message);
		return false;
	}
	link->frame = mg_buf_new(link->frame_size);
	if (link->frame == NULL) {
		mg_link__close(link, "no memory for a frame of %zu bytes", link->frame_size);
		return false;
	}
	memcpy(link->frame->data, link->head, sizeof link->head);
	link->frame->size = sizeof link->head;
	return true;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Bytes of the frame that comes in, or of its size; returns how many were used. */
static size_t take(struct mg_link *link, const uint8_t *bytes, size_t size)
{
	struct mg_buf *frame = link->frame;

	if (frame == NULL) {
		size_t count = least(size, sizeof link->head - link->head_size);

		memcpy(link->head + link->head_size, bytes, count);
		link->head_size += count;
		return link->head_size < sizeof link->head || begin_frame(link) ? count : 0;
	}
	size_t count = least(size, link->frame_size - frame->size);

	memcpy(frame->data + frame->size, bytes, count);
	frame->size += count;
	if (frame->size == link->frame_size) {
		link->frame = NULL;
		hand_over(link, frame);
	}
	return count;
}

static long link_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_link *link = state;
	size_t used = least(size, link->skip);

	(void)conn;
	link->skip -= used;
	link->heard_ms = mg_clock_ms();
	/* paused is set by this thread alone, and cleared by it. */
	while (used < size && !link->paused) {
		size_t count = take(link, bytes + used, size - used);

		if (count == 0) {
			return (long)size; /* it is closed */
		}
		used += count;
	}
	return (long)used;
}

static const struct mg_protocol link_protocol = {
	.name = "peer",
	.data = link_data,
	.drain = link_drain,
	.closed = mg_link__closed,
};

static void on_beat(void *arg)
{
	struct mg_link *link = arg;
	uint64_t now_ms = mg_clock_ms();
	uint32_t beat = MG_LINK_BEAT_SIZE;

	if (!link->paused && now_ms - link->heard_ms > SILENCE_MS) {
		mg_link__close(link, "it said nothing for %d ms", SILENCE_MS);
		return;
	}
	if (!link->said) {
		mg_conn_write(link->conn, &beat, sizeof beat);
	}
	link->said = false;
}

void mg_link__open(struct mg_link *link, size_t skip)
{
	mg_assert(mg_loop_is_current(link->loop) && link->conn != NULL && !link->open);
	link->open = true;
	link->skip = skip;
	link->heard_ms = mg_clock_ms();
	mg_timer_stop(link->timer);
	link->timer = mg_timer_start(link->loop, BEAT_MS, BEAT_MS, on_beat, link);
	mg_conn_set_protocol(link->conn, &link_protocol, link);
}
