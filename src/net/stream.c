/*
 * stream.c - a bounded queue of blocks from engine threads to one connection.
 *
 * Rule: at most MG_STREAM_HIGH bytes wait, plus the one block with which the mark was passed. A
 * producer that finds more waits until the loop has taken all but MG_STREAM_LOW; so the engine
 * stops when the reader does, and starts again in steps that are worth it.
 *
 * The loop is woken once per emptiness: a put into an empty queue posts a wake, further puts do
 * not, until the consumer has found the queue empty again.
 *
 * Thread: any; everything under lock, which is never held during a callback.
 */
#include <pthread.h>
#include <stdbool.h>

#include "base/assert.h"
#include "net/net.h"
#include "net/stream.h"
#include "os/clock.h"
#include "os/wait.h"

struct block {
	struct block *next;
	struct mg_buf *buf;
};

struct mg_stream {
	atomic_int refs;
	struct mg_loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t room; /* for producers: there is room, or the end */
	size_t high, low;    /* marks of `full` */
	void (*on_room)(void *arg); /* for a producer that cannot wait */
	void *on_room_arg;
	struct block *blocks;
	struct block **blocks_end;
	size_t queued; /* bytes */
	bool full;     /* passed the high mark and not yet below the low one */
	bool finished, failed, closed;
	bool wake_due;    /* the consumer found nothing and wants to hear of more */
	uint64_t taken;   /* blocks ever taken: a sign of life */
	uint64_t idle_ms; /* 0: wait for ever */
	void (*wake)(void *arg);
	void *wake_arg;
	void (*before_wait)(void *arg);
	void (*after_wait)(void *arg);
	void *wait_arg;
};

struct mg_stream *mg_stream_new(struct mg_loop *loop, void (*wake)(void *arg), void *arg)
{
	struct mg_stream *stream = mg_alloc0(sizeof *stream);

	atomic_init(&stream->refs, 1);
	stream->loop = loop;
	stream->blocks_end = &stream->blocks;
	stream->high = MG_STREAM_HIGH;
	stream->low = MG_STREAM_LOW;
	stream->wake_due = true;
	stream->wake = wake;
	stream->wake_arg = arg;
	(void)pthread_mutex_init(&stream->lock, NULL);
	mg_cond_init(&stream->room);
	return stream;
}

struct mg_stream *mg_stream_ref(struct mg_stream *stream)
{
	(void)atomic_fetch_add(&stream->refs, 1);
	return stream;
}

static void free_blocks(struct block *block)
{
	while (block != NULL) {
		struct block *next = block->next;

		mg_buf_unref(block->buf);
		mg_free(block);
		block = next;
	}
}

void mg_stream_unref(struct mg_stream *stream)
{
	if (stream == NULL || atomic_fetch_sub(&stream->refs, 1) != 1) {
		return;
	}
	free_blocks(stream->blocks);
	(void)pthread_cond_destroy(&stream->room);
	(void)pthread_mutex_destroy(&stream->lock);
	mg_free(stream);
}

/* ---- waking the consumer ---- */

static void run_wake(void *arg)
{
	struct mg_stream *stream = arg;

	pthread_mutex_lock(&stream->lock);
	void (*wake)(void *) = stream->closed ? NULL : stream->wake;
	void *wake_arg = stream->wake_arg;

	pthread_mutex_unlock(&stream->lock);
	if (wake != NULL) {
		wake(wake_arg);
	}
	mg_stream_unref(stream);
}

/* With the lock held: something happened that the consumer waits for. */
static void wake_consumer(struct mg_stream *stream)
{
	if (stream->wake_due && stream->wake != NULL && !stream->closed) {
		stream->wake_due = false;
		mg_loop_post(stream->loop, run_wake, mg_stream_ref(stream));
	}
}

void mg_stream_set_wake(struct mg_stream *stream, void (*wake)(void *arg), void *arg)
{
	pthread_mutex_lock(&stream->lock);
	stream->wake = wake;
	stream->wake_arg = arg;
	if (stream->blocks != NULL || stream->finished) {
		stream->wake_due = true;
		wake_consumer(stream);
	}
	pthread_mutex_unlock(&stream->lock);
}

/* ---- producer ---- */

/* With the lock held: wait for room; false when the reader took nothing for idle_ms. */
static bool wait_for_room(struct mg_stream *stream)
{
	uint64_t taken = stream->taken, until_ms = mg_clock_ms() + stream->idle_ms;

	while (stream->full && !stream->closed) {
		if (stream->idle_ms == 0) {
			(void)pthread_cond_wait(&stream->room, &stream->lock);
			continue;
		}
		if (mg_cond_wait_until(&stream->room, &stream->lock, until_ms)) {
			continue;
		}
		if (taken == stream->taken) {
			return false;
		}
		taken = stream->taken;
		until_ms = mg_clock_ms() + stream->idle_ms;
	}
	return true;
}

/* With the lock held on entry and return, but not during the hooks. */
static bool wait_with_hooks(struct mg_stream *stream)
{
	void (*before)(void *) = stream->before_wait;
	void (*after)(void *) = stream->after_wait;
	void *arg = stream->wait_arg;

	if (before != NULL) {
		pthread_mutex_unlock(&stream->lock);
		before(arg);
		pthread_mutex_lock(&stream->lock);
	}
	bool in_time = wait_for_room(stream);

	if (after != NULL) {
		pthread_mutex_unlock(&stream->lock);
		after(arg);
		pthread_mutex_lock(&stream->lock);
	}
	return in_time;
}

/* With the lock held. */
static void append(struct mg_stream *stream, struct mg_buf *buf)
{
	struct block *block = mg_alloc0(sizeof *block);

	block->buf = mg_buf_ref(buf);
	*stream->blocks_end = block;
	stream->blocks_end = &block->next;
	stream->queued += buf->size;
	stream->full = stream->full || stream->queued >= stream->high;
	wake_consumer(stream);
}

static int say_gone(struct mg_error *err)
{
	return mg_error_set(err, MG_E_DISCONNECTED, "the client has gone");
}

int mg_stream_put(struct mg_stream *stream, struct mg_buf *buf, struct mg_error *err)
{
	int code = 0;

	mg_assert(!mg_loop_is_current(stream->loop)); /* It would wait for itself. */
	pthread_mutex_lock(&stream->lock);
	mg_assert(!stream->finished);
	if (stream->full && !stream->closed && !wait_with_hooks(stream)) {
		code = mg_error_set(err, MG_E_TIMEOUT, "the client has taken nothing for %llu ms",
		                    (unsigned long long)stream->idle_ms);
	} else if (stream->closed) {
		code = say_gone(err);
	}
	if (code == 0) {
		append(stream, buf);
	}
	pthread_mutex_unlock(&stream->lock);
	return code;
}

int mg_stream_push(struct mg_stream *stream, struct mg_buf *buf, struct mg_error *err)
{
	pthread_mutex_lock(&stream->lock);
	int code = stream->closed ? say_gone(err) : 0;

	mg_assert(!stream->finished);
	if (code == 0) {
		append(stream, buf);
	}
	pthread_mutex_unlock(&stream->lock);
	return code;
}

bool mg_stream_is_full(struct mg_stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	bool full = stream->full;

	pthread_mutex_unlock(&stream->lock);
	return full;
}

void mg_stream_set_room(struct mg_stream *stream, size_t high, void (*room)(void *arg), void *arg)
{
	pthread_mutex_lock(&stream->lock);
	stream->high = high;
	stream->low = high / 2;
	stream->on_room = room;
	stream->on_room_arg = arg;
	pthread_mutex_unlock(&stream->lock);
}

void mg_stream_on_wait(struct mg_stream *stream, void (*before)(void *), void (*after)(void *),
                       void *arg)
{
	pthread_mutex_lock(&stream->lock);
	stream->before_wait = before;
	stream->after_wait = after;
	stream->wait_arg = arg;
	pthread_mutex_unlock(&stream->lock);
}

void mg_stream_idle_limit(struct mg_stream *stream, uint64_t ms)
{
	pthread_mutex_lock(&stream->lock);
	stream->idle_ms = ms;
	pthread_mutex_unlock(&stream->lock);
}

static void end(struct mg_stream *stream, bool failed)
{
	pthread_mutex_lock(&stream->lock);
	if (!stream->finished) {
		stream->finished = true;
		stream->failed = failed;
		wake_consumer(stream);
	}
	pthread_mutex_unlock(&stream->lock);
}

void mg_stream_finish(struct mg_stream *stream)
{
	end(stream, false);
}

void mg_stream_fail(struct mg_stream *stream)
{
	end(stream, true);
}

/* ---- consumer ---- */

static void run_room(void *arg)
{
	struct mg_stream *stream = arg;

	pthread_mutex_lock(&stream->lock);
	void (*room)(void *) = stream->closed ? NULL : stream->on_room;
	void *room_arg = stream->on_room_arg;

	pthread_mutex_unlock(&stream->lock);
	if (room != NULL) {
		room(room_arg);
	}
	mg_stream_unref(stream);
}

/* With the lock held; not from here: the consumer is in the middle of its work. */
static void tell_room(struct mg_stream *stream)
{
	if (stream->on_room != NULL) {
		mg_loop_post(stream->loop, run_room, mg_stream_ref(stream));
	}
}

struct mg_buf *mg_stream_take(struct mg_stream *stream, bool *finished)
{
	struct mg_buf *buf = NULL;

	pthread_mutex_lock(&stream->lock);
	struct block *block = stream->blocks;

	if (block != NULL) {
		buf = block->buf;
		stream->blocks = block->next;
		if (stream->blocks == NULL) {
			stream->blocks_end = &stream->blocks;
		}
		stream->queued -= buf->size;
		stream->taken++;
		mg_free(block);
		if (stream->full && stream->queued < stream->low) {
			stream->full = false;
			(void)pthread_cond_broadcast(&stream->room);
			tell_room(stream);
		}
	} else {
		stream->wake_due = true;
	}
	*finished = stream->blocks == NULL && stream->finished;
	pthread_mutex_unlock(&stream->lock);
	return buf;
}

bool mg_stream_failed(struct mg_stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	bool failed = stream->failed;

	pthread_mutex_unlock(&stream->lock);
	return failed;
}

void mg_stream_close(struct mg_stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	struct block *blocks = stream->blocks;

	stream->closed = true;
	stream->blocks = NULL;
	stream->blocks_end = &stream->blocks;
	stream->queued = 0;
	(void)pthread_cond_broadcast(&stream->room);
	pthread_mutex_unlock(&stream->lock);
	free_blocks(blocks);
}

size_t mg_stream_queued(struct mg_stream *stream)
{
	pthread_mutex_lock(&stream->lock);
	size_t queued = stream->queued;

	pthread_mutex_unlock(&stream->lock);
	return queued;
}
