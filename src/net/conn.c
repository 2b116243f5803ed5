/*
 * conn.c - one connection: a socket, perhaps TLS on it, a protocol, and a write queue.
 *
 *   CONNECTING -> HANDSHAKE -> OPEN -> FLUSHING -> LINGER -> DEAD  (dialled)
 *   FIRST ------> HANDSHAKE -> OPEN ...                   (accepted; plain: no HANDSHAKE)
 *   and from everywhere to DEAD.
 *
 * Rule: a connection that is closed is DEAD at once for its user (no data, writes are dropped), but
 * its protocol hears "closed" and its memory goes only in mg_loop__settle, never inside a call of
 * its own.
 *
 * A close with unread input makes the kernel throw away our last answer, so we linger until the
 * peer has ended too. conn_io.c moves the bytes.
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

static atomic_uint_fast64_t next_id = 1;

/* ---- birth ---- */

/* Who talks to an address of its own host has the same one at both ends. */
static bool same_address(int fd, const struct sockaddr_storage *peer)
{
	struct sockaddr_storage own;
	socklen_t size = sizeof own;

	if (getsockname(fd, (struct sockaddr *)&own, &size) != 0 || own.ss_family != peer->ss_family) {
		return false;
	}
	if (own.ss_family == AF_INET) {
		return ((const struct sockaddr_in *)&own)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)peer)->sin_addr.s_addr;
	}
	return own.ss_family == AF_INET6 &&
	       memcmp(&((const struct sockaddr_in6 *)&own)->sin6_addr,
	              &((const struct sockaddr_in6 *)peer)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

void mg_conn__set_peer(struct mg_conn *conn)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof address;
	char text[INET6_ADDRSTRLEN] = "";

	if (conn->fd < 0 || getpeername(conn->fd, (struct sockaddr *)&address, &size) != 0) {
		return;
	}
	conn->same_host = same_address(conn->fd, &address);
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
		conn->loopback = IN6_IS_ADDR_LOOPBACK(ip) ||
		                 (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == 127);
	}
}

/* A peer that has lost its power says nothing: after 60 s of silence the kernel asks six times. */
static void set_options(int fd)
{
	int one = 1;
	int idle_s = 60;
	int interval_s = 10;
	int tries = 6;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

struct mg_conn *mg_conn__new(struct mg_loop *loop, int fd, enum mg_conn_phase phase,
                             struct mg_error *err)
{
	struct mg_conn *conn = mg_alloc0(sizeof *conn);

	conn->loop = loop;
	conn->fd = fd;
	conn->phase = phase;
	conn->id = atomic_fetch_add(&next_id, 1);
	conn->out_end = &conn->out;
	conn->last_io_ms = uv_now(&loop->uv);
	if (fd >= 0) {
		int status = uv_poll_init(&loop->uv, &conn->poll, fd);

		if (status != 0) {
			(void)close(fd);
			mg_free(conn);
			(void)mg_error_set(err, MG_E_IO, "cannot watch a socket: %s", uv_strerror(status));
			return NULL;
		}
		conn->polled = true;
		conn->poll.data = conn;
		set_options(fd);
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
	mg_conn__free_queue(conn);
	if (conn->ssl != NULL) {
		if (!conn->ssl_broken && SSL_is_init_finished(conn->ssl)) {
			ERR_clear_error();
			(void)SSL_shutdown(conn->ssl); /* A kindness: the peer can tell an end from a cut. */
			ERR_clear_error();
		}
		SSL_free(conn->ssl);
	}
	SSL_free(conn->ssl_next);
	mg_free(conn->cert);
	mg_tls_unref(conn->tls);
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
void mg_conn__linger(struct mg_conn *conn)
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
		conn->cert = mg_peer_cert__take(conn->ssl);
		conn->last_io_ms = uv_now(&conn->loop->uv);
		opened(conn);
		mg_conn__wake(conn); /* what has come behind the handshake OpenSSL may have read already */
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
	conn->tls = mg_tls__ref(tls); /* Its ALPN list is asked for during the handshake. */
	conn->ssl_next = ssl;         /* After what is queued, such as the answer that announces it. */
	mg_conn__deadline(conn, MG_NET_HELLO_MS, "no TLS hello came in time");
	mg_loop__add_unsettled(conn->loop, conn);
	return 0;
}

/* The queue is empty: now the peer may say its hello. Bytes that came before it are not from it. */
void mg_conn__start_tls(struct mg_conn *conn)
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
		mg_conn__flush(conn);
	}
	if ((events & UV_READABLE) != 0 || conn->read_wants_write) {
		mg_conn__read(conn);
	}
	if ((events & UV_DISCONNECT) != 0 && conn->paused) {
		mg_conn__fail(conn, "the peer closed the connection");
	}
}

/* The socket is in error and libuv has stopped to watch it. What came before the error still
 * counts. */
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
		mg_conn__give_kept(conn);
		mg_conn__read(conn);
	}
	if (conn->phase == MG_CONN_OPEN || conn->phase == MG_CONN_FLUSHING) {
		mg_conn__flush(conn);
	}
	if (conn->phase == MG_CONN_DEAD) {
		/* Whoever made it dead has asked to be settled once more; only the last call buries. */
		if (!conn->unsettled) {
			bury(conn);
		}
	}
}

void mg_conn_flush(struct mg_conn *conn)
{
	if (conn->phase == MG_CONN_OPEN) {
		mg_conn__flush(conn);
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

const struct mg_peer_cert *mg_conn_cert(const struct mg_conn *conn)
{
	return conn->cert;
}

bool mg_conn_is_same_host(const struct mg_conn *conn)
{
	return conn->loopback || conn->same_host;
}

size_t mg_conn_write_queued(const struct mg_conn *conn)
{
	return conn->queued;
}
