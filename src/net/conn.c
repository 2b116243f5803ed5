/*
 * conn.c - one connection: a socket, perhaps TLS on it, a protocol, and a write queue.
 *
 *   CONNECTING -> HANDSHAKE -> OPEN -> FLUSHING -> LINGER -> DEAD     (dialled)
 *   FIRST ------> HANDSHAKE -> OPEN ...                              (accepted; plain: no HANDSHAKE)
 *   and from everywhere to DEAD.
 *
 * Rule: a connection that is closed is DEAD at once for its user (no data, writes are dropped), but its protocol
 * hears "closed" and its memory goes only in mg_loop__settle, never inside a call of its own.
 *
 * Traps that shaped it: OpenSSL may hold bytes that poll does not see, so a read goes on until it would block
 * or asks to be settled again; a write that would block must be repeated with the same bytes, of which the
 * queue's head consists; the error queue is emptied before each call; a close with unread input makes
 * the kernel throw away our last answer, so we linger until the peer has ended too.
 *
 * owner: the loop's thread.   Limits: net_int.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/net_int.h"
#include "net/stream.h"

static atomic_uint_fast64_t next_id = 1;

/* ---- birth ---- */

void mg_conn__set_peer(struct mg_conn *conn)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof address;
	char text[INET6_ADDRSTRLEN] = "";

	if (conn->fd < 0 || getpeername(conn->fd, (struct sockaddr *)&address, &size) != 0) {
		return;
	}
	if (address.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&address;

		(void)inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
		(void)snprintf(conn->peer, sizeof conn->peer, "%s:%u", text, ntohs(in->sin_port));
		conn->loopback = (ntohl(in->sin_addr.s_addr) >> 24) == 127;
	} else if (address.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&address;
		const struct in6_addr *ip = &in->sin6_addr;

		(void)inet_ntop(AF_INET6, ip, text, sizeof text);
		(void)snprintf(conn->peer, sizeof conn->peer, "[%s]:%u", text, ntohs(in->sin6_port));
		conn->loopback =
			IN6_IS_ADDR_LOOPBACK(ip) || (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == 127);
	}
}

struct mg_conn *mg_conn__new(struct mg_loop *loop, int fd, enum mg_conn_phase phase, struct mg_error *err)
{
	struct mg_conn *conn = mg_alloc0(sizeof *conn);

	conn->loop = loop;
	conn->fd = fd;
	conn->phase = phase;
	conn->id = atomic_fetch_add(&next_id, 1);
	conn->out_end = &conn->out;
	conn->last_io_ms = uv_now(&loop->uv);
	if (fd >= 0) {
		int one = 1;
		int status = uv_poll_init(&loop->uv, &conn->poll, fd);

		if (status != 0) {
			(void)close(fd);
			mg_free(conn);
			(void)mg_error_set(err, MG_E_IO, "cannot watch a socket: %s", uv_strerror(status));
			return NULL;
		}
		conn->polled = true;
		conn->poll.data = conn;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
		mg_conn__set_peer(conn);
	}
	mg_loop__add_conn(loop, conn);
	mg_conn__arm(conn);
	return conn;
}

/* ---- death ---- */

static void free_conn(struct mg_conn *conn)
{
	mg_free(conn->kept);
	mg_free(conn);
}

static void on_poll_closed(uv_handle_t *handle)
{
	free_conn(handle->data);
}

static void free_queue(struct mg_conn *conn)
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

static void tell_closed(struct mg_conn *conn)
{
	const struct mg_protocol *protocol = conn->protocol;

	conn->protocol = NULL;
	if (protocol != NULL && protocol->closed != NULL) {
		protocol->closed(conn, conn->state, conn->reason);
	}
}

/* The one place where a connection ends. */
static void bury(struct mg_conn *conn)
{
	mg_assert(conn->phase == MG_CONN_DEAD);
	tell_closed(conn);
	if (conn->listener != NULL) {
		mg_listener__gone(conn);
	}
	mg_loop__remove_conn(conn->loop, conn);
	free_queue(conn);
	if (conn->ssl != NULL) {
		if (!conn->ssl_broken && SSL_is_init_finished(conn->ssl)) {
			ERR_clear_error();
			(void)SSL_shutdown(conn->ssl); /* A kindness: the peer can tell an end from a cut. */
			ERR_clear_error();
		}
		SSL_free(conn->ssl);
	}
	SSL_free(conn->ssl_next);
	if (!conn->polled) {
		free_conn(conn);
		return;
	}
	(void)uv_poll_stop(&conn->poll);
	uv_close((uv_handle_t *)&conn->poll, on_poll_closed);
	(void)close(conn->fd);
	conn->fd = -1;
}

void mg_conn__fail(struct mg_conn *conn, const char *fmt, ...)
{
	if (conn->phase == MG_CONN_DEAD) {
		return;
	}
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(conn->reason, sizeof conn->reason, fmt, ap);
	va_end(ap);
	conn->phase = MG_CONN_DEAD;
	mg_conn__arm(conn);
	mg_loop__add_unsettled(conn->loop, conn);
}

void mg_conn_close(struct mg_conn *conn)
{
	mg_assert(mg_loop_is_current(conn->loop));
	mg_conn__fail(conn, "%s", "");
}

void mg_conn__cut(struct mg_conn *conn)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	if (conn->fd >= 0 && conn->phase != MG_CONN_DEAD) {
		(void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	}
	conn->ssl_broken = true; /* no close_notify */
	mg_conn__fail(conn, "%s", "");
}

void mg_conn_close_after_write(struct mg_conn *conn)
{
	mg_assert(mg_loop_is_current(conn->loop));
	if (conn->phase >= MG_CONN_FLUSHING) {
		return;
	}
	if (conn->phase < MG_CONN_OPEN) {
		mg_conn_close(conn);
		return;
	}
	conn->phase = MG_CONN_FLUSHING;
	if (conn->idle_ms == 0 || conn->idle_ms > MG_NET_FLUSH_MS) {
		mg_conn_idle_limit(conn, MG_NET_FLUSH_MS);
	}
	mg_conn__arm(conn);
	mg_loop__add_unsettled(conn->loop, conn);
}

/* All was written: say so to the peer, and wait a little for its end. */
static void linger(struct mg_conn *conn)
{
	conn->phase = MG_CONN_LINGER;
	tell_closed(conn);
	if (conn->phase == MG_CONN_DEAD) {
		return;
	}
	if (conn->fd < 0) {
		mg_conn__fail(conn, "%s", "");
		return;
	}
	if (conn->ssl != NULL) {
		ERR_clear_error();
		(void)SSL_shutdown(conn->ssl);
		conn->ssl_broken = true;
	}
	(void)shutdown(conn->fd, SHUT_WR);
	mg_conn__deadline(conn, MG_NET_LINGER_MS, "");
	mg_conn__arm(conn);
}

static void discard_input(struct mg_conn *conn)
{
	for (int round = 0; round < MG_NET_READ_ROUNDS; round++) {
		ssize_t got = recv(conn->fd, conn->loop->read_bytes, MG_NET_READ_SIZE, 0);

		if (got > 0 || (got < 0 && errno == EINTR)) {
			continue;
		}
		if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
			mg_conn__fail(conn, "%s", "");
		}
		return;
	}
}

/* ---- watching ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

void mg_conn__arm(struct mg_conn *conn)
{
	int events = 0;

	switch (conn->phase) {
	case MG_CONN_CONNECTING:
		events = UV_WRITABLE;
		break;
	case MG_CONN_FIRST:
	case MG_CONN_LINGER:
		events = UV_READABLE;
		break;
	case MG_CONN_HANDSHAKE:
		events = conn->read_wants_write ? UV_WRITABLE : UV_READABLE;
		break;
	case MG_CONN_OPEN:
		/* Without reading, only the end of the peer is of interest: who waits for it is told. */
		events = conn->paused ? UV_DISCONNECT : UV_READABLE;
		if (conn->out != NULL || conn->read_wants_write) {
			events |= UV_WRITABLE;
		}
		break;
	case MG_CONN_FLUSHING:
		events = UV_WRITABLE;
		if (conn->write_wants_read) {
			events |= UV_READABLE;
		}
		break;
	case MG_CONN_DEAD:
		break;
	}
	if (!conn->polled || events == conn->poll_events) {
		return;
	}
	conn->poll_events = events;
	if (events == 0) {
		(void)uv_poll_stop(&conn->poll);
	} else {
		(void)uv_poll_start(&conn->poll, events, on_poll);
	}
}

void mg_conn__deadline(struct mg_conn *conn, uint64_t ms, const char *reason)
{
	conn->deadline_ms = ms == 0 ? 0 : uv_now(&conn->loop->uv) + ms;
	conn->deadline_reason = reason;
}

void mg_conn__sweep(struct mg_conn *conn, uint64_t now_ms)
{
	if (conn->deadline_ms != 0 && now_ms >= conn->deadline_ms) {
		mg_conn__fail(conn, "%s", conn->deadline_reason);
	} else if (conn->idle_ms != 0 && now_ms - conn->last_io_ms >= conn->idle_ms) {
		mg_conn__fail(conn, "no byte came or went for %llu ms", (unsigned long long)conn->idle_ms);
	}
}

void mg_conn_idle_limit(struct mg_conn *conn, uint64_t ms)
{
	conn->idle_ms = ms;
	conn->last_io_ms = uv_now(&conn->loop->uv);
}

/* ---- TLS handshake ---- */

static void opened(struct mg_conn *conn)
{
	void (*fn)(struct mg_conn *, void *) = conn->opened;

	conn->phase = MG_CONN_OPEN;
	if (conn->protocol != NULL) {
		mg_conn__deadline(conn, 0, "");
	}
	conn->more = true; /* Data may have come with the last handshake message. */
	mg_conn__arm(conn);
	mg_loop__add_unsettled(conn->loop, conn);
	if (fn != NULL) {
		conn->opened = NULL;
		mg_conn__deadline(conn, 0, "");
		fn(conn, conn->opened_arg);
	}
}

/* Why a handshake failed, for the peer's owner: certificates first, they are the usual reason. */
static void fail_handshake(struct mg_conn *conn, int ssl_error)
{
	char text[160];
	long verify = SSL_get_verify_result(conn->ssl);

	conn->ssl_broken = true;
	if (verify != X509_V_OK) {
		mg_conn__fail(conn, "the peer's certificate was refused: %s",
		              X509_verify_cert_error_string(verify));
		return;
	}
	if (ssl_error == SSL_ERROR_SYSCALL && ERR_peek_error() == 0) {
		mg_conn__fail(conn, "TLS handshake was cut off: %s",
		              errno != 0 ? strerror(errno) : "the peer closed the connection");
		return;
	}
	mg_tls__error_text(text, sizeof text);
	mg_conn__fail(conn, "TLS handshake failed: %s", text);
}

static void do_handshake(struct mg_conn *conn)
{
	ERR_clear_error();
	errno = 0;
	int status = SSL_do_handshake(conn->ssl);

	conn->read_wants_write = false;
	if (status == 1) {
		const unsigned char *alpn = NULL;
		unsigned size = 0;

		SSL_get0_alpn_selected(conn->ssl, &alpn, &size);
		if (size > 0 && size < sizeof conn->alpn) {
			memcpy(conn->alpn, alpn, size);
		}
		conn->last_io_ms = uv_now(&conn->loop->uv);
		opened(conn);
		return;
	}
	int ssl_error = SSL_get_error(conn->ssl, status);

	if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE) {
		conn->read_wants_write = ssl_error == SSL_ERROR_WANT_WRITE;
		mg_conn__arm(conn);
		return;
	}
	fail_handshake(conn, ssl_error);
}

void mg_conn__handshake(struct mg_conn *conn, SSL *ssl)
{
	mg_assert(conn->ssl == NULL);
	conn->ssl = ssl;
	conn->phase = MG_CONN_HANDSHAKE;
	if (SSL_set_fd(ssl, conn->fd) != 1) {
		mg_conn__fail(conn, "cannot give the socket to TLS");
		return;
	}
	do_handshake(conn);
}

int mg_conn_start_tls(struct mg_conn *conn, struct mg_tls *tls, struct mg_error *err)
{
	if (conn->phase != MG_CONN_OPEN || conn->ssl != NULL || conn->ssl_next != NULL) {
		return mg_error_set(err, MG_E_PROTOCOL, "TLS cannot be started here");
	}
	SSL *ssl = mg_tls__open(tls, NULL, err);

	if (ssl == NULL) {
		return MG_E_IO;
	}
	conn->ssl_next = ssl; /* After what is queued, such as the answer that announces it. */
	mg_conn__deadline(conn, MG_NET_HELLO_MS, "no TLS hello came in time");
	mg_loop__add_unsettled(conn->loop, conn);
	return 0;
}

/* The queue is empty: now the peer may say its hello. Bytes that came before it are not from it. */
static void start_tls(struct mg_conn *conn)
{
	SSL *ssl = conn->ssl_next;

	conn->ssl_next = NULL;
	if (conn->kept_size > 0) {
		SSL_free(ssl);
		mg_conn__fail(conn, "bytes came between the request for TLS and its start");
		return;
	}
	mg_conn__handshake(conn, ssl);
}

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

static bool keep(struct mg_conn *conn, const uint8_t *bytes, size_t size)
{
	size_t needed = conn->kept_size + size;

	if (needed > conn->kept_cap) {
		size_t cap = conn->kept_cap ? conn->kept_cap : 4096;

		while (cap < needed) {
			cap *= 2;
		}
		if (needed > MG_NET_KEPT_MAX) {
			mg_conn__fail(conn, "more than %d bytes wait for the protocol", MG_NET_KEPT_MAX);
			return false;
		}
		conn->kept = mg_realloc(conn->kept, cap);
		conn->kept_cap = cap;
	}
	memcpy(conn->kept + conn->kept_size, bytes, size);
	conn->kept_size = needed;
	return true;
}

static void give_kept(struct mg_conn *conn)
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
		give_kept(conn);
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
			return *got > 0 && result != TRANSFER_ERROR ? TRANSFER_DONE : result;
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

	for (int round = 0; conn->phase == MG_CONN_OPEN && !conn->paused && conn->fd >= 0 && conn->ssl_next == NULL; round++) {
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
		conn->last_io_ms = uv_now(&conn->loop->uv); /* The idle limit is now the peer's time to take it. */
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

void mg_conn_write(struct mg_conn *conn, const void *bytes, size_t size)
{
	if (!can_write(conn) || size == 0) {
		return;
	}
	struct mg_piece *last = last_piece(conn);

	if (last == NULL || !last->open || last->buf->cap - last->buf->size < size) {
		struct mg_buf *buf = mg_buf_new(size > MG_NET_RECORD_SIZE / 4 ? size : MG_NET_RECORD_SIZE);

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
		mg_buf_unref(piece->buf);
		mg_free(piece);
	}
}

/* The queue's head as one record: in place when the first piece fills it, else gathered. A repeated call
 * yields the same bytes, perhaps with more behind them, as OpenSSL demands. */
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
	bool owed = (conn->was_high && conn->queued < MG_STREAM_LOW) || (conn->was_filled && conn->queued == 0);

	if (!owed || conn->phase != MG_CONN_OPEN) {
		return;
	}
	conn->was_high = false;
	conn->was_filled = conn->queued > 0;
	if (conn->protocol != NULL && conn->protocol->drain != NULL) {
		conn->protocol->drain(conn, conn->state);
	}
}

static void flush(struct mg_conn *conn)
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
			mg_conn__fail(conn, "%s", result == TRANSFER_END ? "the peer closed the connection" : reason);
			return;
		}
		consume(conn, put);
		sum += put;
	}
	if (conn->out == NULL && conn->phase == MG_CONN_FLUSHING) {
		linger(conn);
		return;
	}
	if (conn->out == NULL && conn->ssl_next != NULL) {
		start_tls(conn);
		return;
	}
	mg_conn__arm(conn);
	tell_drained(conn);
}

/* ---- events ---- */

static void on_connected(struct mg_conn *conn)
{
	int error = 0;
	socklen_t size = sizeof error;

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
		error = errno;
	}
	if (error != 0) {
		mg_conn__fail(conn, "%s", strerror(error));
		return;
	}
	mg_conn__set_peer(conn);
	mg_dial__connected(conn);
	if (conn->phase == MG_CONN_CONNECTING) {
		opened(conn); /* No TLS was asked for. */
	}
}

static void on_event(struct mg_conn *conn, int events)
{
	switch (conn->phase) {
	case MG_CONN_CONNECTING:
		on_connected(conn);
		return;
	case MG_CONN_FIRST:
		mg_listener__first(conn);
		return;
	case MG_CONN_HANDSHAKE:
		do_handshake(conn);
		return;
	case MG_CONN_LINGER:
		discard_input(conn);
		return;
	case MG_CONN_DEAD:
		return;
	case MG_CONN_OPEN:
	case MG_CONN_FLUSHING:
		break;
	}
	if ((events & UV_WRITABLE) != 0 || conn->write_wants_read) {
		flush(conn);
	}
	if ((events & UV_READABLE) != 0 || conn->read_wants_write) {
		mg_conn__read(conn);
	}
	if ((events & UV_DISCONNECT) != 0 && conn->paused) {
		mg_conn__fail(conn, "the peer closed the connection");
	}
}

/* The socket is in error and libuv has stopped to watch it. What came before the error still counts. */
static void on_error(struct mg_conn *conn)
{
	conn->poll_events = 0;
	if (conn->phase == MG_CONN_OPEN) {
		mg_conn__read(conn);
	} else if (conn->phase == MG_CONN_CONNECTING) {
		on_connected(conn);
	}
	if (conn->phase != MG_CONN_DEAD) {
		mg_conn__fail(conn, "the connection was lost");
	}
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct mg_conn *conn = poll->data;
	struct mg_loop *loop = conn->loop;

	if (status < 0) {
		on_error(conn);
	} else {
		on_event(conn, events);
	}
	mg_loop__settle(loop);
}

void mg_conn__settle(struct mg_conn *conn)
{
	if (conn->more && conn->phase == MG_CONN_OPEN) {
		conn->more = false;
		give_kept(conn);
		mg_conn__read(conn);
	}
	if (conn->phase == MG_CONN_OPEN || conn->phase == MG_CONN_FLUSHING) {
		flush(conn);
	}
	if (conn->phase == MG_CONN_DEAD) {
		/* Whoever made it dead has also asked to be settled once more; only the last call buries. */
		if (!conn->unsettled) {
			bury(conn);
		}
	}
}

/* ---- questions ---- */

void *mg_conn_state(struct mg_conn *conn)
{
	return conn->state;
}

struct mg_loop *mg_conn_loop(struct mg_conn *conn)
{
	return conn->loop;
}

uint64_t mg_conn_id(const struct mg_conn *conn)
{
	return conn->id;
}

const char *mg_conn_peer(const struct mg_conn *conn)
{
	return conn->peer;
}

const char *mg_conn_alpn(const struct mg_conn *conn)
{
	return conn->alpn;
}

bool mg_conn_is_tls(const struct mg_conn *conn)
{
	return conn->ssl != NULL;
}

bool mg_conn_is_loopback(const struct mg_conn *conn)
{
	return conn->loopback;
}

size_t mg_conn_write_queued(const struct mg_conn *conn)
{
	return conn->queued;
}
