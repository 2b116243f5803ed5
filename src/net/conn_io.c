/*
 * conn_io.c - the bytes of a connection: from the socket to the protocol, from the write queue to
 * the socket.
 *
 * Rule: what a protocol leaves unused is kept and given again before anything newer; what it writes
 * leaves in order.
 *
 * Traps that shaped it: OpenSSL may hold bytes that poll does not see, so a read goes on until it
 * would block or asks to be settled again; a write that would block must be repeated with the same
 * bytes, of which the queue's head consists; the error queue is emptied before each call.
 *
 * owner: the loop's thread.   Limits: net_int.h.
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "net/net_int.h"
#include "net/stream.h"

/* ---- reading ---- */

/* Give bytes to the protocol, or to the listener's choice of one; returns how many were used. */
static size_t give(struct mg_conn *conn, const uint8_t *bytes, size_t size)
{
	size_t used = 0;

	while (used < size && conn->phase == MG_CONN_OPEN && !conn->paused && conn->ssl_next == NULL) {
		const struct mg_protocol *protocol = conn->protocol;

		if (protocol == NULL) {
			if (conn->listener == NULL || !mg_listener__choose(conn, bytes + used, size - used)) {
				break;
			}
			continue;
		}
		long count = protocol->data(conn, conn->state, bytes + used, size - used);

		if (count < 0) {
			mg_conn__fail(conn, "%s: the peer broke the protocol", protocol->name);
			break;
		}
		mg_assert((size_t)count <= size - used);
		used += (size_t)count;
		if (protocol == conn->protocol) {
			break; /* It wants more, or it is busy. */
		}
	}
	return used;
}

/* Room for needed bytes in all; false when there shall or can be none. */
static bool grow_kept(struct mg_conn *conn, size_t needed)
{
	size_t cap = conn->kept_cap ? conn->kept_cap : 4096;

	while (cap < needed) {
		cap *= 2;
	}
	uint8_t *kept = needed <= MG_NET_KEPT_MAX ? mg_try_alloc(cap) : NULL;

	if (kept == NULL) {
		mg_conn__fail(conn, "no room for %zu bytes that wait for the protocol", needed);
		return false;
	}
	if (conn->kept_size > 0) {
		memcpy(kept, conn->kept, conn->kept_size);
	}
	mg_free(conn->kept);
	conn->kept = kept;
	conn->kept_cap = cap;
	return true;
}

static bool keep(struct mg_conn *conn, const uint8_t *bytes, size_t size)
{
	size_t needed = conn->kept_size + size;

	if (needed > conn->kept_cap && !grow_kept(conn, needed)) {
		return false;
	}
	memcpy(conn->kept + conn->kept_size, bytes, size);
	conn->kept_size = needed;
	return true;
}

void mg_conn__give_kept(struct mg_conn *conn)
{
	if (conn->kept_size == 0) {
		return;
	}
	size_t used = give(conn, conn->kept, conn->kept_size);

	conn->kept_size -= used;
	if (conn->kept_size == 0) {
		mg_free(conn->kept); /* Thousands of quiet connections must cost next to nothing. */
		conn->kept = NULL;
		conn->kept_cap = 0;
	} else if (used > 0) {
		memmove(conn->kept, conn->kept + used, conn->kept_size);
	}
}

void mg_conn__feed(struct mg_conn *conn, const uint8_t *bytes, size_t size)
{
	size_t used = 0;

	if (conn->kept_size == 0) {
		used = give(conn, bytes, size);
	}
	if (used < size && conn->phase == MG_CONN_OPEN && keep(conn, bytes + used, size - used) &&
	    conn->kept_size > size - used) {
		mg_conn__give_kept(conn);
	}
}

enum transfer { TRANSFER_DONE, TRANSFER_WAIT, TRANSFER_END, TRANSFER_ERROR };

static enum transfer ssl_result(struct mg_conn *conn, int status, bool reading)
{
	char text[160];
	int ssl_error = SSL_get_error(conn->ssl, status);

	switch (ssl_error) {
	case SSL_ERROR_WANT_READ:
		conn->write_wants_read = !reading;
		return TRANSFER_WAIT;
	case SSL_ERROR_WANT_WRITE:
		conn->read_wants_write = reading;
		return TRANSFER_WAIT;
	case SSL_ERROR_ZERO_RETURN:
		return TRANSFER_END;
	default:
		break;
	}
	conn->ssl_broken = true;
	if (ssl_error == SSL_ERROR_SYSCALL && ERR_peek_error() == 0) {
		(void)snprintf(conn->reason, sizeof conn->reason, "%s",
		               errno != 0 ? strerror(errno) : "the peer cut the connection");
		return TRANSFER_ERROR;
	}
	mg_tls__error_text(text, sizeof text);
	(void)snprintf(conn->reason, sizeof conn->reason, "TLS: %s", text);
	return TRANSFER_ERROR;
}

static enum transfer read_tls(struct mg_conn *conn, uint8_t *bytes, size_t size, size_t *got)
{
	*got = 0;
	while (size - *got >= MG_NET_RECORD_SIZE) {
		ERR_clear_error();
		errno = 0;
		int count = SSL_read(conn->ssl, bytes + *got, (int)(size - *got));

		if (count <= 0) {
			enum transfer result = ssl_result(conn, count, true);

			/* What was read before counts first; the end is met again by the next read. */
			return *got > 0 && result == TRANSFER_END ? TRANSFER_DONE : result;
		}
		*got += (size_t)count;
	}
	return TRANSFER_DONE;
}

static enum transfer read_plain(struct mg_conn *conn, uint8_t *bytes, size_t size, size_t *got)
{
	for (;;) {
		ssize_t count = recv(conn->fd, bytes, size, 0);

		if (count > 0) {
			*got = (size_t)count;
			return TRANSFER_DONE;
		}
		*got = 0;
		if (count == 0) {
			return TRANSFER_END;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return TRANSFER_WAIT;
		}
		if (errno != EINTR) {
			(void)snprintf(conn->reason, sizeof conn->reason, "%s", strerror(errno));
			return TRANSFER_ERROR;
		}
	}
}

void mg_conn__read(struct mg_conn *conn)
{
	uint8_t *bytes = conn->loop->read_bytes;

	for (int round = 0;
	     conn->phase == MG_CONN_OPEN && !conn->paused && conn->fd >= 0 && conn->ssl_next == NULL;
	     round++) {
		size_t got;

		if (round == MG_NET_READ_ROUNDS) {
			conn->more = true; /* The others first; poll may not tell us of what OpenSSL holds. */
			mg_loop__add_unsettled(conn->loop, conn);
			return;
		}
		conn->read_wants_write = false;
		enum transfer result = conn->ssl != NULL ? read_tls(conn, bytes, MG_NET_READ_SIZE, &got)
		                                         : read_plain(conn, bytes, MG_NET_READ_SIZE, &got);

		if (got > 0) {
			conn->last_io_ms = uv_now(&conn->loop->uv);
			mg_conn__feed(conn, bytes, got);
		}
		if (result == TRANSFER_WAIT) {
			mg_conn__arm(conn);
			return;
		}
		if (result == TRANSFER_END && conn->out != NULL) {
			mg_conn_close_after_write(conn); /* It may have ended only its own half. */
		} else if (result == TRANSFER_END) {
			mg_conn__fail(conn, "the peer closed the connection");
		} else if (result == TRANSFER_ERROR) {
			char reason[sizeof conn->reason];

			memcpy(reason, conn->reason, sizeof reason);
			mg_conn__fail(conn, "%s", reason);
		}
	}
}

void mg_conn__wake(struct mg_conn *conn)
{
	if (conn->phase == MG_CONN_DEAD) {
		return; /* It is being buried: nothing may bring it back to the list. */
	}
	conn->more = true;
	mg_loop__add_unsettled(conn->loop, conn);
}

void mg_conn_pause_read(struct mg_conn *conn, bool pause)
{
	mg_assert(mg_loop_is_current(conn->loop));
	if (conn->paused == pause) {
		return;
	}
	conn->paused = pause;
	mg_conn__arm(conn);
	if (!pause) {
		mg_conn__wake(conn);
	}
}

void mg_conn_set_protocol(struct mg_conn *conn, const struct mg_protocol *protocol, void *state)
{
	mg_assert(mg_loop_is_current(conn->loop));
	conn->protocol = protocol;
	conn->state = state;
	mg_conn__deadline(conn, 0, "");
	mg_conn__wake(conn);
}

/* ---- writing ---- */

void mg_conn__free_queue(struct mg_conn *conn)
{
	while (conn->out != NULL) {
		struct mg_piece *piece = conn->out;

		conn->out = piece->next;
		mg_buf_unref(piece->buf);
		mg_free(piece);
	}
	conn->out_end = &conn->out;
	conn->queued = 0;
}

static void append(struct mg_conn *conn, struct mg_buf *buf, bool open)
{
	struct mg_piece *piece = mg_alloc0(sizeof *piece);

	piece->buf = buf;
	piece->open = open;
	*conn->out_end = piece;
	conn->out_end = &piece->next;
}

static struct mg_piece *last_piece(struct mg_conn *conn)
{
	if (conn->out == NULL) {
		return NULL;
	}
	return (struct mg_piece *)((char *)conn->out_end - offsetof(struct mg_piece, next));
}

static void count_queued(struct mg_conn *conn, size_t size)
{
	if (conn->queued == 0) {
		conn->last_io_ms =
			uv_now(&conn->loop->uv); /* The idle limit is now the peer's time to take it. */
	}
	conn->queued += size;
	conn->was_filled = true;
	conn->was_high = conn->was_high || conn->queued >= MG_STREAM_LOW;
	mg_loop__add_unsettled(conn->loop, conn);
}

static bool can_write(const struct mg_conn *conn)
{
	mg_assert(mg_loop_is_current(conn->loop));
	return conn->phase < MG_CONN_FLUSHING && conn->ssl_next == NULL;
}

/* The last one that went out whole serves again: the heap takes its time with such sizes. */
static struct mg_buf *take_buf(struct mg_loop *loop, size_t size)
{
	struct mg_buf *spare = loop->spare;

	if (size > MG_NET_RECORD_SIZE / 4) {
		return mg_buf_new(size);
	}
	loop->spare = NULL;
	return spare ? spare : mg_buf_new(MG_NET_RECORD_SIZE);
}

static void give_back(struct mg_loop *loop, struct mg_buf *buf)
{
	if (loop->spare || buf->cap != MG_NET_RECORD_SIZE || buf->release ||
	    atomic_load(&buf->refs) != 1) {
		mg_buf_unref(buf);
		return;
	}
	buf->size = 0;
	loop->spare = buf;
}

void mg_conn_write(struct mg_conn *conn, const void *bytes, size_t size)
{
	if (!can_write(conn) || size == 0) {
		return;
	}
	struct mg_piece *last = last_piece(conn);

	if (last == NULL || !last->open || last->buf->cap - last->buf->size < size) {
		struct mg_buf *buf = take_buf(conn->loop, size);

		if (buf == NULL) {
			mg_conn__fail(conn, "no memory for %zu bytes to write", size);
			return;
		}
		append(conn, buf, true);
		last = last_piece(conn);
	}
	memcpy(last->buf->data + last->buf->size, bytes, size);
	last->buf->size += size;
	count_queued(conn, size);
}

void mg_conn_write_buf(struct mg_conn *conn, struct mg_buf *buf)
{
	if (buf->size <= MG_NET_RECORD_SIZE / 8) {
		mg_conn_write(conn, buf->data, buf->size); /* A copy costs less than a piece. */
		return;
	}
	if (!can_write(conn)) {
		return;
	}
	append(conn, mg_buf_ref(buf), false);
	count_queued(conn, buf->size);
}

static void consume(struct mg_conn *conn, size_t size)
{
	conn->queued -= size;
	conn->last_io_ms = uv_now(&conn->loop->uv);
	while (size > 0) {
		struct mg_piece *piece = conn->out;
		size_t left = piece->buf->size - piece->offset;

		if (size < left) {
			piece->offset += size;
			return;
		}
		size -= left;
		conn->out = piece->next;
		if (conn->out == NULL) {
			conn->out_end = &conn->out;
		}
		give_back(conn->loop, piece->buf);
		mg_free(piece);
	}
}

/* The queue's head as one record: in place when the first piece fills it, else gathered. A repeated
 * call yields the same bytes, perhaps with more behind them, as OpenSSL demands. */
static const uint8_t *head_record(struct mg_conn *conn, size_t *size)
{
	const struct mg_piece *piece = conn->out;
	size_t left = piece->buf->size - piece->offset;

	if (left >= MG_NET_RECORD_SIZE || piece->next == NULL) {
		*size = left < MG_NET_RECORD_SIZE ? left : MG_NET_RECORD_SIZE;
		return piece->buf->data + piece->offset;
	}
	*size = 0;
	for (; piece != NULL && *size < MG_NET_RECORD_SIZE; piece = piece->next) {
		left = piece->buf->size - piece->offset;
		if (left > MG_NET_RECORD_SIZE - *size) {
			left = MG_NET_RECORD_SIZE - *size;
		}
		memcpy(conn->loop->record + *size, piece->buf->data + piece->offset, left);
		*size += left;
	}
	return conn->loop->record;
}

static enum transfer write_tls(struct mg_conn *conn, size_t *put)
{
	size_t size;
	const uint8_t *bytes = head_record(conn, &size);

	ERR_clear_error();
	errno = 0;
	int count = SSL_write(conn->ssl, bytes, (int)size);

	*put = count > 0 ? (size_t)count : 0;
	return count > 0 ? TRANSFER_DONE : ssl_result(conn, count, false);
}

static enum transfer write_plain(struct mg_conn *conn, size_t *put)
{
	struct iovec parts[16];
	struct msghdr message = { .msg_iov = parts };
	const struct mg_piece *piece = conn->out;

	for (; piece != NULL && message.msg_iovlen < 16; piece = piece->next) {
		parts[message.msg_iovlen++] = (struct iovec){
			.iov_base = piece->buf->data + piece->offset,
			.iov_len = piece->buf->size - piece->offset,
		};
	}
	for (;;) {
		ssize_t count = sendmsg(conn->fd, &message, MSG_NOSIGNAL);

		*put = count > 0 ? (size_t)count : 0;
		if (count >= 0) {
			return TRANSFER_DONE;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return TRANSFER_WAIT;
		}
		if (errno != EINTR) {
			(void)snprintf(conn->reason, sizeof conn->reason, "%s", strerror(errno));
			return TRANSFER_ERROR;
		}
	}
}

static void tell_drained(struct mg_conn *conn)
{
	bool owed = (conn->was_high && conn->queued < MG_STREAM_LOW) ||
	            (conn->was_filled && conn->queued == 0);

	if (!owed || conn->phase != MG_CONN_OPEN) {
		return;
	}
	conn->was_high = false;
	conn->was_filled = conn->queued > 0;
	if (conn->protocol != NULL && conn->protocol->drain != NULL) {
		conn->protocol->drain(conn, conn->state);
	}
}

void mg_conn__flush(struct mg_conn *conn)
{
	size_t sum = 0;

	if (conn->fd < 0) {
		consume(conn, conn->queued); /* A fuzz target's connection: its output is of no interest. */
	}
	while (conn->out != NULL && sum < MG_NET_WRITE_ROUND) {
		size_t put;

		conn->write_wants_read = false;
		enum transfer result = conn->ssl != NULL ? write_tls(conn, &put) : write_plain(conn, &put);

		if (result == TRANSFER_WAIT) {
			break;
		}
		if (result != TRANSFER_DONE) {
			char reason[sizeof conn->reason];

			memcpy(reason, conn->reason, sizeof reason);
			mg_conn__fail(conn, "%s",
			              result == TRANSFER_END ? "the peer closed the connection" : reason);
			return;
		}
		consume(conn, put);
		sum += put;
	}
	if (conn->out == NULL && conn->phase == MG_CONN_FLUSHING) {
		mg_conn__linger(conn);
		return;
	}
	if (conn->out == NULL && conn->ssl_next != NULL) {
		mg_conn__start_tls(conn);
		return;
	}
	mg_conn__arm(conn);
	tell_drained(conn);
}
