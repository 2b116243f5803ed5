/*
 * snapshot_wire.c - see snapshot_wire.h.
 *
 * owner: what comes in, and the connection: its loop; the rest under `lock`.
 */
#include "replica/snapshot_wire.h"

#include "base/assert.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/wait.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

enum { ANSWERS_MAX = 4, LOOK_MS = 100, OPEN_MS = 15000 };

struct mg_snapshot_wire {
	atomic_int refs; /* the thread's, the connection's or its dial's, posts' */
	uint64_t node;
	/* owner: the loop */
	struct mg_conn *conn; /* NULL: closed */
	uint8_t head[4];
	size_t head_size;
	struct mg_buf *frame;
	size_t frame_size;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	struct mg_loop *loop; /* set when it is open */
	struct mg_buf *answers[ANSWERS_MAX];
	size_t answer_count;
	bool closed;
	struct mg_error why;
};

static void unref(struct mg_snapshot_wire *wire)
{
	if (atomic_fetch_sub(&wire->refs, 1) != 1) {
		return;
	}
	mg_assert(wire->conn == NULL);
	for (size_t i = 0; i < wire->answer_count; i++) {
		mg_buf_unref(wire->answers[i]);
	}
	mg_buf_unref(wire->frame);
	pthread_cond_destroy(&wire->changed);
	pthread_mutex_destroy(&wire->lock);
	mg_free(wire);
}

/* ---- the loop ---- */

static void note_end(struct mg_snapshot_wire *wire, const struct mg_error *err)
{
	pthread_mutex_lock(&wire->lock);
	wire->why = wire->why.code ? wire->why : *err;
	wire->closed = true;
	pthread_cond_broadcast(&wire->changed);
	pthread_mutex_unlock(&wire->lock);
}

/* A frame is whole. */
static int hand_over(struct mg_snapshot_wire *wire, struct mg_error *err)
{
	pthread_mutex_lock(&wire->lock);
	bool room = wire->answer_count < ANSWERS_MAX;

	if (room) {
		wire->answers[wire->answer_count++] = wire->frame;
		wire->frame = NULL;
		pthread_cond_broadcast(&wire->changed);
	}
	pthread_mutex_unlock(&wire->lock);
	return room ? 0 : mg_error_set(err, MG_E_PROTOCOL, "it answers what nobody has asked");
}

static int begin_frame(struct mg_snapshot_wire *wire, struct mg_error *err)
{
	int code = mg_snapshot_frame_size(wire->head, MG_SNAPSHOT_FRAME_MAX, &wire->frame_size, err);

	wire->head_size = 0;
	wire->frame = code ? NULL : mg_buf_new(wire->frame_size);
	if (!code && !wire->frame) {
		code =
			mg_error_set(err, MG_E_NOMEM, "no memory for a frame of %zu bytes", wire->frame_size);
	}
	if (!code) {
		memcpy(wire->frame->data, wire->head, sizeof wire->head);
		wire->frame->size = sizeof wire->head;
	}
	return code;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Some of the bytes; *used: how many. */
static int take(struct mg_snapshot_wire *wire, const uint8_t *bytes, size_t size, size_t *used,
                struct mg_error *err)
{
	if (!wire->frame) {
		*used = least(size, sizeof wire->head - wire->head_size);
		memcpy(wire->head + wire->head_size, bytes, *used);
		wire->head_size += *used;
		return wire->head_size < sizeof wire->head ? 0 : begin_frame(wire, err);
	}
	*used = least(size, wire->frame_size - wire->frame->size);
	memcpy(wire->frame->data + wire->frame->size, bytes, *used);
	wire->frame->size += *used;
	return wire->frame->size < wire->frame_size ? 0 : hand_over(wire, err);
}

static long wire_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_snapshot_wire *wire = state;
	struct mg_error err = { 0 };

	for (size_t at = 0, used; !err.code && at < size; at += used) {
		(void)take(wire, bytes + at, size - at, &used, &err);
	}
	if (err.code) {
		note_end(wire, &err);
		mg_conn_close(conn);
	}
	return (long)size;
}

static void wire_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_snapshot_wire *wire = state;
	struct mg_error err = { 0 };

	(void)conn;
	wire->conn = NULL;
	mg_error_set(&err, MG_E_DISCONNECTED, "node %" PRIu64 " hung up: %s", wire->node,
	             reason[0] ? reason : "it has closed the connection");
	note_end(wire, &err);
	unref(wire);
}

static const struct mg_protocol wire_protocol = {
	.name = "peer bulk",
	.data = wire_data,
	.closed = wire_closed,
};

static void on_dialled(void *arg, struct mg_conn *conn, const struct mg_error *err)
{
	struct mg_snapshot_wire *wire = arg;

	if (!conn) {
		note_end(wire, err);
		unref(wire);
		return;
	}
	wire->conn = conn;
	mg_conn_set_protocol(conn, &wire_protocol, wire);
	pthread_mutex_lock(&wire->lock);
	bool given_up = wire->closed;

	wire->loop = mg_conn_loop(conn);
	pthread_cond_broadcast(&wire->changed);
	pthread_mutex_unlock(&wire->lock);
	if (given_up) {
		mg_conn_close(conn);
	}
}

/* ---- the thread ---- */

/* Under the lock: a change, or a while. */
static void rest(struct mg_snapshot_wire *wire)
{
	(void)mg_cond_wait_until(&wire->changed, &wire->lock, mg_clock_ms() + LOOK_MS);
}

int mg_snapshot_wire_open(struct mg_snapshot_wire **out, struct mg_peers *peers, uint64_t node,
                          const atomic_bool *stop, struct mg_error *err)
{
	struct mg_snapshot_wire *wire = mg_alloc0(sizeof *wire);
	uint64_t until = mg_clock_ms() + OPEN_MS;

	*out = NULL;
	atomic_init(&wire->refs, 2);
	wire->node = node;
	pthread_mutex_init(&wire->lock, NULL);
	mg_cond_init(&wire->changed);
	mg_peers_dial_bulk(peers, node, on_dialled, wire);
	pthread_mutex_lock(&wire->lock);
	while (!wire->loop && !wire->closed && !atomic_load(stop) && mg_clock_ms() < until) {
		rest(wire);
	}
	int code = wire->closed ? wire->why.code
	           : wire->loop ? 0
	           : atomic_load(stop)
	               ? mg_error_set(err, MG_E_SHUTDOWN, "this node stops")
	               : mg_error_set(err, MG_E_TIMEOUT, "node %" PRIu64 " did not answer", node);

	if (wire->closed && err) {
		*err = wire->why;
	}
	pthread_mutex_unlock(&wire->lock);
	if (code) {
		mg_snapshot_wire_close(wire);
		return code;
	}
	*out = wire;
	return 0;
}

struct sending {
	struct mg_snapshot_wire *wire;
	struct mg_buf *frame;
};

static void send_now(void *arg)
{
	struct sending *sending = arg;

	if (sending->wire->conn && sending->frame) {
		mg_conn_write_buf(sending->wire->conn, sending->frame);
	}
	mg_buf_unref(sending->frame);
	unref(sending->wire);
	mg_free(sending);
}

void mg_snapshot_wire_send(struct mg_snapshot_wire *wire, const struct mg_snapshot_frame *frame)
{
	struct sending *sending = mg_alloc(sizeof *sending);

	*sending = (struct sending){ wire, mg_snapshot_frame_encode(frame) };
	(void)atomic_fetch_add(&wire->refs, 1);
	mg_loop_post(wire->loop, send_now, sending);
}

int mg_snapshot_wire_receive(struct mg_snapshot_wire *wire, uint64_t timeout_ms,
                             const atomic_bool *stop, struct mg_buf **buf,
                             struct mg_snapshot_frame *out, struct mg_error *err)
{
	uint64_t until = mg_clock_ms() + timeout_ms;
	int code = 0;

	*buf = NULL;
	pthread_mutex_lock(&wire->lock);
	while (!wire->answer_count && !wire->closed && !atomic_load(stop) && mg_clock_ms() < until) {
		rest(wire);
	}
	if (wire->answer_count) {
		*buf = wire->answers[0];
		wire->answer_count--;
		memmove(wire->answers, wire->answers + 1, wire->answer_count * sizeof *wire->answers);
	} else if (wire->closed) {
		code = wire->why.code;
		if (err) {
			*err = wire->why;
		}
	} else {
		code = atomic_load(stop) ? mg_error_set(err, MG_E_SHUTDOWN, "this node stops")
		                         : mg_error_set(err, MG_E_TIMEOUT,
		                                        "node %" PRIu64 " did not answer in %" PRIu64 " s",
		                                        wire->node, timeout_ms / 1000);
	}
	pthread_mutex_unlock(&wire->lock);
	return code ? code : mg_snapshot_frame_decode((*buf)->data, (*buf)->size, out, err);
}

static void close_now(void *arg)
{
	struct mg_snapshot_wire *wire = arg;

	if (wire->conn) {
		mg_conn_close(wire->conn);
	}
	unref(wire);
}

void mg_snapshot_wire_close(struct mg_snapshot_wire *wire)
{
	if (!wire) {
		return;
	}
	pthread_mutex_lock(&wire->lock);
	struct mg_loop *loop = wire->closed ? NULL : wire->loop;

	wire->closed = true; /* a dial that comes now hangs up */
	pthread_mutex_unlock(&wire->lock);
	if (loop) {
		(void)atomic_fetch_add(&wire->refs, 1);
		mg_loop_post(loop, close_now, wire);
	}
	unref(wire);
}
