/*
 * relay_link.c - the asking end of a connection that carries statements.
 *
 *     take: idle, or dial -> send, receive ... -> give: idle again, or closed
 *
 * owner: what comes in, and the connection: its loop; the rest under `lock`.
 */
#include "session/relay_int.h"

#include "base/assert.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/wait.h"

#include <inttypes.h>
#include <string.h>

enum { OPEN_MS = 8000, LOOK_MS = 50 };

struct mg_relay_link {
	atomic_int refs; /* the thread's or the list's, the connection's or its dial's, posts' */
	struct mg_relay *relay;
	uint64_t node;
	struct mg_relay_link *next; /* idle; under the relay's lock */
	/* owner: the loop */
	struct mg_conn *conn; /* NULL: closed */
	struct mg_relay_reader reader;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	struct mg_loop *loop; /* set when it is open */
	struct mg_buf **queue;
	size_t first, count, cap, bytes;
	size_t posted, written; /* frames that were sent; and that the loop has written */
	size_t dropped;         /* that it could not write any more */
	bool busy, paused, closed;
	struct mg_error why;
};

static void count_queued(struct mg_relay *relay, size_t come, size_t gone)
{
	(void)atomic_fetch_add(&relay->queued_bytes, come);
	(void)atomic_fetch_sub(&relay->queued_bytes, gone);
	mg_metric_add(relay->queued, (int64_t)come - (int64_t)gone);
}

static void unref(struct mg_relay_link *link)
{
	if (atomic_fetch_sub(&link->refs, 1) != 1) {
		return;
	}
	mg_assert(link->conn == NULL);
	count_queued(link->relay, 0, link->bytes);
	for (size_t i = link->first; i < link->count; i++) {
		mg_buf_unref(link->queue[i]);
	}
	mg_free(link->queue);
	mg_relay_reader_fini(&link->reader);
	pthread_cond_destroy(&link->changed);
	pthread_mutex_destroy(&link->lock);
	mg_free(link);
}

/* ---- the loop ---- */

static void note_end(struct mg_relay_link *link, const struct mg_error *err)
{
	pthread_mutex_lock(&link->lock);
	link->why = link->why.code ? link->why : *err;
	link->closed = true;
	pthread_cond_broadcast(&link->changed);
	pthread_mutex_unlock(&link->lock);
}

/* Silence counts while an answer is due and read. */
static void watch(struct mg_relay_link *link)
{
	pthread_mutex_lock(&link->lock);
	bool due = link->busy && !link->paused;

	pthread_mutex_unlock(&link->lock);
	mg_conn_idle_limit(link->conn, due ? MG_RELAY_SILENCE_MS : 0);
}

/* Takes the frame. */
static void hand_over(struct mg_relay_link *link, struct mg_buf *frame)
{
	pthread_mutex_lock(&link->lock);
	if (link->first > 0 && link->count == link->cap) {
		link->count -= link->first;
		memmove(link->queue, link->queue + link->first, link->count * sizeof(struct mg_buf *));
		link->first = 0;
	}
	mg_grow(link->queue, link->count, link->cap);
	link->queue[link->count++] = frame;
	link->bytes += frame->size;
	count_queued(link->relay, frame->size, 0);
	bool pause = !link->paused && link->bytes > MG_RELAY_QUEUE_HIGH;

	link->paused = link->paused || pause;
	pthread_cond_broadcast(&link->changed);
	pthread_mutex_unlock(&link->lock);
	if (pause) {
		mg_conn_pause_read(link->conn, true);
		watch(link);
	}
}

static long link_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_relay_link *link = state;
	struct mg_error err = { 0 };

	for (size_t at = 0, used; !err.code && at < size; at += used) {
		struct mg_buf *whole = NULL;

		(void)mg_relay_reader_take(&link->reader, bytes + at, size - at, &used, &whole, &err);
		if (whole) {
			hand_over(link, whole);
		}
	}
	if (err.code) {
		note_end(link, &err);
		mg_conn_close(conn);
	}
	return (long)size;
}

static void link_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct mg_relay_link *link = state;
	struct mg_error err = { 0 };

	(void)conn;
	link->conn = NULL;
	mg_error_set(&err, MG_E_DISCONNECTED, "node %" PRIu64 " hung up: %s", link->node,
	             reason[0] ? reason : "it has closed the connection");
	note_end(link, &err);
	unref(link);
}

static const struct mg_protocol link_protocol = {
	.name = "peer relay",
	.data = link_data,
	.closed = link_closed,
};

static void on_dialled(void *arg, struct mg_conn *conn, const struct mg_error *err)
{
	struct mg_relay_link *link = arg;

	if (!conn) {
		note_end(link, err);
		unref(link);
		return;
	}
	link->conn = conn;
	mg_conn_set_protocol(conn, &link_protocol, link);
	pthread_mutex_lock(&link->lock);
	bool given_up = link->closed;

	link->loop = mg_conn_loop(conn);
	pthread_cond_broadcast(&link->changed);
	pthread_mutex_unlock(&link->lock);
	if (given_up) {
		mg_conn_close(conn);
	}
}

static void post(struct mg_relay_link *link, void (*run)(void *arg), void *arg)
{
	(void)atomic_fetch_add(&link->refs, 1);
	mg_loop_post(link->loop, run, arg);
}

struct sending {
	struct mg_relay_link *link;
	struct mg_buf *frame;
};

static void send_now(void *arg)
{
	struct sending *sending = arg;
	struct mg_relay_link *link = sending->link;
	bool open = link->conn != NULL;

	if (open) {
		mg_conn_write_buf(link->conn, sending->frame);
		watch(link);
	}
	pthread_mutex_lock(&link->lock);
	link->written += open;
	link->dropped += !open;
	pthread_cond_broadcast(&link->changed);
	pthread_mutex_unlock(&link->lock);
	mg_buf_unref(sending->frame);
	mg_free(sending);
	unref(link);
}

static void resume_now(void *arg)
{
	struct mg_relay_link *link = arg;

	if (link->conn) {
		mg_conn_pause_read(link->conn, false);
		watch(link);
	}
	unref(link);
}

/* It is idle: silence is what is expected. */
static void rest_now(void *arg)
{
	struct mg_relay_link *link = arg;

	if (link->conn) {
		watch(link);
	}
	unref(link);
}

static void close_now(void *arg)
{
	struct mg_relay_link *link = arg;

	if (link->conn) {
		mg_conn_close(link->conn);
	}
	unref(link);
}

/* ---- the thread ---- */

/* Under the lock: a change, or a while. */
static void rest(struct mg_relay_link *link, unsigned ms)
{
	(void)mg_cond_wait_until(&link->changed, &link->lock, mg_clock_ms() + ms);
}

static struct mg_relay_link *link_new(struct mg_relay *relay, uint64_t node)
{
	struct mg_relay_link *link = mg_alloc0(sizeof *link);

	atomic_init(&link->refs, 2);
	link->relay = relay;
	link->node = node;
	link->reader.max = MG_RELAY_ANSWER_MAX;
	pthread_mutex_init(&link->lock, NULL);
	mg_cond_init(&link->changed);
	return link;
}

static void hang_up(struct mg_relay_link *link)
{
	pthread_mutex_lock(&link->lock);
	struct mg_loop *loop = link->closed ? NULL : link->loop;

	link->closed = true; /* a dial that comes now hangs up */
	pthread_mutex_unlock(&link->lock);
	if (loop) {
		post(link, close_now, link);
	}
	unref(link);
}

static struct mg_relay_link *take_idle(struct mg_relay *relay, uint64_t node)
{
	pthread_mutex_lock(&relay->lock);
	struct mg_relay_link **at = &relay->idle, *found;

	while (*at && (*at)->node != node) {
		at = &(*at)->next;
	}
	found = *at;
	if (found) {
		*at = found->next;
		relay->idle_count--;
	}
	pthread_mutex_unlock(&relay->lock);
	return found;
}

static bool is_closed(struct mg_relay_link *link)
{
	pthread_mutex_lock(&link->lock);
	bool closed = link->closed;

	link->busy = true;
	pthread_mutex_unlock(&link->lock);
	return closed;
}

static int dial(struct mg_relay *relay, uint64_t node, bool (*stopped)(void *arg), void *arg,
                struct mg_relay_link **out, struct mg_error *err)
{
	struct mg_relay_link *link = link_new(relay, node);
	uint64_t until = mg_clock_ms() + OPEN_MS;
	bool ended = false;

	link->busy = true;
	mg_peers_dial_relay(relay->peers, node, on_dialled, link);
	pthread_mutex_lock(&link->lock);
	while (!link->loop && !link->closed && !ended && mg_clock_ms() < until) {
		rest(link, LOOK_MS);
		ended = stopped(arg);
	}
	int code = link->closed ? link->why.code
	           : link->loop ? 0
	           : ended      ? mg_error_set(err, MG_E_CANCELLED, "the statement was cancelled")
	                   : mg_error_set(err, MG_E_TIMEOUT, "node %" PRIu64 " did not answer in %d ms",
	                                  node, OPEN_MS);

	if (link->closed && err) {
		*err = link->why;
	}
	pthread_mutex_unlock(&link->lock);
	if (code) {
		hang_up(link);
		return code;
	}
	*out = link;
	return 0;
}

int mg_relay_link_take(struct mg_relay *relay, uint64_t node, bool (*stopped)(void *arg), void *arg,
                       struct mg_relay_link **out, struct mg_error *err)
{
	struct mg_relay_link *link;

	*out = NULL;
	while ((link = take_idle(relay, node)) != NULL) {
		if (!is_closed(link)) {
			*out = link;
			return 0;
		}
		hang_up(link);
	}
	return dial(relay, node, stopped, arg, out, err);
}

void mg_relay_link_hold(struct mg_relay_link *link, bool waits)
{
	pthread_mutex_lock(&link->lock);
	link->busy = !waits;
	pthread_mutex_unlock(&link->lock);
	post(link, rest_now, link);
}

void mg_relay_drop(struct mg_relay_link *link, bool clean)
{
	mg_relay_link_give(link, clean);
}

void mg_relay_link_send(struct mg_relay_link *link, struct mg_buf *frame)
{
	struct sending *sending = mg_alloc(sizeof *sending);

	*sending = (struct sending){ link, frame };
	pthread_mutex_lock(&link->lock);
	link->posted++;
	pthread_mutex_unlock(&link->lock);
	post(link, send_now, sending);
}

int mg_relay_link_receive(struct mg_relay_link *link, unsigned wait_ms, struct mg_buf **out,
                          struct mg_error *err)
{
	int code = 0;
	bool resume = false;

	*out = NULL;
	pthread_mutex_lock(&link->lock);
	if (link->first == link->count && !link->closed) {
		rest(link, wait_ms);
	}
	if (link->first < link->count) {
		*out = link->queue[link->first++];
		link->bytes -= (*out)->size;
		count_queued(link->relay, 0, (*out)->size);
		resume = link->paused && link->bytes < MG_RELAY_QUEUE_LOW;
		link->paused = link->paused && !resume;
	} else if (link->closed) {
		code = link->why.code;
		if (err) {
			*err = link->why;
		}
	}
	pthread_mutex_unlock(&link->lock);
	if (resume) {
		post(link, resume_now, link);
	}
	return code;
}

bool mg_relay_link_sent_nothing(struct mg_relay_link *link)
{
	pthread_mutex_lock(&link->lock);
	while (link->written + link->dropped < link->posted) {
		rest(link, LOOK_MS);
	}
	bool nothing = link->written == 0;

	pthread_mutex_unlock(&link->lock);
	return nothing;
}

void mg_relay_link_give(struct mg_relay_link *link, bool reusable)
{
	struct mg_relay *relay = link->relay;

	pthread_mutex_lock(&link->lock);
	reusable = reusable && !link->closed && link->first == link->count;
	link->busy = false;
	link->posted = link->written = link->dropped = 0;
	pthread_mutex_unlock(&link->lock);
	if (reusable && !atomic_load(&relay->stopping)) {
		post(link, rest_now, link);
		pthread_mutex_lock(&relay->lock);
		reusable = relay->idle_count < MG_RELAY_IDLE_MAX;
		if (reusable) {
			link->next = relay->idle;
			relay->idle = link;
			relay->idle_count++;
		}
		pthread_mutex_unlock(&relay->lock);
	} else {
		reusable = false;
	}
	if (!reusable) {
		hang_up(link);
	}
}

void mg_relay_link_drop_idle(struct mg_relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	struct mg_relay_link *link = relay->idle;

	relay->idle = NULL;
	relay->idle_count = 0;
	pthread_mutex_unlock(&relay->lock);
	while (link) {
		struct mg_relay_link *next = link->next;

		hang_up(link);
		link = next;
	}
}
