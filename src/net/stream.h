/*
 * stream.h - a bounded queue of blocks from engine threads to one connection.
 *
 * The producer's put blocks while more than MG_STREAM_HIGH bytes wait, until the loop has drained
 * it below MG_STREAM_LOW, the stream is closed, or its idle limit has passed without a byte taken.
 */
#ifndef MG_NET_STREAM_H
#define MG_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

#define MG_STREAM_HIGH (4u << 20)
#define MG_STREAM_LOW (2u << 20)

struct mg_loop;
struct mg_stream;

/* wake: called on the loop's thread when blocks are there to take, or the stream has finished; may
 * be NULL for a stream that mg_http_reply_stream or mg_stream_set_wake will get. Not called after
 * mg_stream_close. */
struct mg_stream *mg_stream_new(struct mg_loop *loop, void (*wake)(void *arg), void *arg);
struct mg_stream *mg_stream_ref(struct mg_stream *stream);
void mg_stream_unref(struct mg_stream *stream);

/* producer: takes a ref on buf.  before_wait/after_wait (may be NULL) let the caller give back its
 * admission slot while it waits.  Fails: MG_E_DISCONNECTED, MG_E_CANCELLED, MG_E_TIMEOUT. */
int mg_stream_put(struct mg_stream *stream, struct mg_buf *buf, struct mg_error *err);
void mg_stream_on_wait(struct mg_stream *stream, void (*before)(void *), void (*after)(void *),
                       void *arg);
void mg_stream_idle_limit(struct mg_stream *stream, uint64_t ms);
/* A producer that is the loop itself never waits: it pushes while the stream is not full, which it
 * is with so many bytes from now on, and goes on when room is called, on the loop's thread, because
 * less than half of that is left.  As wake, room is not called after a close there. */
void mg_stream_set_room(struct mg_stream *stream, size_t high, void (*room)(void *arg), void *arg);
int mg_stream_push(struct mg_stream *stream, struct mg_buf *buf, struct mg_error *err);
bool mg_stream_is_full(struct mg_stream *stream);
void mg_stream_finish(struct mg_stream *stream); /* no more blocks */
/* No more blocks, and what came is not the whole: mg_http_reply_stream then cuts the connection. */
void mg_stream_fail(struct mg_stream *stream);

/* consumer, on the loop: next block (the caller's ref) or NULL; *finished when none will come after
 * it. After NULL, wake is called when there is more to take or the stream has finished. */
struct mg_buf *mg_stream_take(struct mg_stream *stream, bool *finished);
bool mg_stream_failed(struct mg_stream *stream); /* asked when finished */
/* Another consumer: its wake is called when blocks are there, also those that came before. */
void mg_stream_set_wake(struct mg_stream *stream, void (*wake)(void *arg), void *arg);
/* Reader is gone: producers fail. Any thread; but only after a close on the loop's own thread is it
 * certain that wake will not be called again, so the consumer closes there before it frees what
 * wake uses. */
void mg_stream_close(struct mg_stream *stream);
size_t mg_stream_queued(struct mg_stream *stream);

#endif
