/*
 * listen.c - one port on all loops, and what an accepted connection speaks.
 *
 * Every loop has its own listening socket (SO_REUSEPORT), so the kernel spreads connections and no
 * loop passes sockets to another. The first byte decides: 0x16 is a TLS hello; all else is
 * plaintext, which is served where it is allowed and elsewhere told, in its own words, to come back
 * with TLS.
 *
 * owner: a listener belongs to whoever opened it; an acceptor and its connections to their loop.
 * Limits: connections_max; hello_ms from accept to the first bytes that choose a protocol.
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "net/net_int.h"

enum {
	BACKLOG = 1024,
	ACCEPTS_PER_TURN = 64,
	ACCEPT_PAUSE_MS = 100, /* after the process has run out of descriptors */
	PORT_TRIES = 20,       /* port 0: another process may take it between two loops' sockets */
};

struct mg_acceptor {
	struct mg_listener *listener;
	struct mg_loop *loop;
	struct mg_acceptor *next; /* of the loop */
	size_t index;             /* in the listener */
	uv_poll_t poll;
	struct mg_timer *pause;
	int fd;
	bool started;
};

struct mg_listener {
	atomic_int refs; /* the opener, acceptors, connections */
	atomic_size_t connections;
	struct mg_listen_options options;
	uint16_t port;
	pthread_mutex_t lock; /* guards acceptors' entries */
	size_t acceptor_count;
	struct mg_acceptor **acceptors; /* NULL: closed with its loop */
};

static void listener_unref(struct mg_listener *listener)
{
	if (atomic_fetch_sub(&listener->refs, 1) != 1) {
		return;
	}
	mg_tls_unref(listener->options.tls);
	(void)pthread_mutex_destroy(&listener->lock);
	mg_free(listener->acceptors);
	mg_free(listener);
}

/* ---- the first bytes ---- */

#define TLS_HINT "this port speaks TLS; use https://\n"

/* ErrorResponse: 'E', length, fields that end with a zero byte, a zero byte. */
static const char postgres_hint[] =
	"E\0\0\0\x3eSFATAL\0C28000\0Mthis port speaks TLS; use sslmode=require\0";

/* One answer for each kind of guest that may have knocked. */
static void refuse_plain(struct mg_conn *conn, const uint8_t *bytes)
{
	static_assert(sizeof postgres_hint == 1 + 0x3e, "the length counts itself and the fields");
	static const char http_hint[] =
		"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 35\r\n"
		"Connection: close\r\n\r\n" TLS_HINT;
	static const char redis_hint[] = "-ERR this port speaks TLS\r\n";

	mg_log(MG_LOG_DEBUG, "net.plain_refused", "peer=%s", conn->peer);
	conn->phase = MG_CONN_OPEN;
	if (bytes[0] >= 'A' && bytes[0] <= 'Z') {
		mg_conn_write(conn, http_hint, sizeof http_hint - 1);
	} else if (bytes[0] == '*') {
		mg_conn_write(conn, redis_hint, sizeof redis_hint - 1);
	} else if (bytes[0] == 0) {
		mg_conn_write(conn, postgres_hint, sizeof postgres_hint);
	} else {
		mg_conn_write(conn, TLS_HINT, sizeof TLS_HINT - 1);
	}
	mg_conn_close_after_write(conn);
}

static bool plain_allowed(const struct mg_conn *conn)
{
	const struct mg_listen_options *options = &conn->listener->options;

	return options->tls == NULL || options->plain_any ||
	       (options->plain_loopback && conn->loopback);
}

static void begin_tls(struct mg_conn *conn)
{
	SSL *ssl = mg_tls__open(conn->listener->options.tls, NULL, NULL);

	if (ssl == NULL) {
		mg_conn__fail(conn, "no memory for TLS");
		return;
	}
	mg_conn__handshake(conn, ssl);
}

/* PostgreSQL's two questions before TLS, 8 bytes each. True when bytes are one and it is dealt
 * with. What comes along with the first is refused: it was said before TLS and would seem to come
 * from behind it. */
static bool answer_postgres(struct mg_conn *conn, const uint8_t *bytes, size_t size)
{
	static const uint8_t wants_tls[] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f };
	static const uint8_t wants_gss[] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30 };
	uint8_t taken[8];
	int least = sizeof wants_tls;
	bool gss = size >= 8 && memcmp(bytes, wants_gss, 8) == 0;

	if (size < 8 && memcmp(bytes, wants_tls, size < 7 ? size : 7) == 0) {
		/* Not to be woken again and again by the bytes that are left there. */
		(void)setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
		return true;
	}
	if (!gss && (size < 8 || memcmp(bytes, wants_tls, 8) != 0)) {
		return false;
	}
	least = 1;
	(void)setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
	if ((!gss && size > 8) || recv(conn->fd, taken, sizeof taken, 0) != sizeof taken ||
	    send(conn->fd, gss ? "N" : "S", 1, MSG_NOSIGNAL) != 1) {
		mg_conn__fail(conn, "bytes came between the request for TLS and its start");
	} else if (!gss) {
		conn->only_postgres = true;
		begin_tls(conn);
	}
	return true;
}

void mg_listener__first(struct mg_conn *conn)
{
	uint8_t bytes[9];
	ssize_t got = recv(conn->fd, bytes, sizeof bytes, MSG_PEEK);
	bool has_tls = conn->listener->options.tls != NULL;

	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
		return;
	}
	if (got <= 0) {
		mg_conn__fail(conn, "the peer closed the connection");
		return;
	}
	if (has_tls && bytes[0] == 0x16) {
		begin_tls(conn);
	} else if (has_tls && bytes[0] == 0 && answer_postgres(conn, bytes, (size_t)got)) {
		return;
	} else if (plain_allowed(conn)) {
		conn->phase = MG_CONN_OPEN;
		mg_conn__arm(conn);
		mg_conn__read(conn);
	} else {
		refuse_plain(conn, bytes);
	}
}

/* Returns false when nothing was chosen yet, or the connection is closing. */
bool mg_listener__choose(struct mg_conn *conn, const uint8_t *bytes, size_t size)
{
	const struct mg_listen_options *options = &conn->listener->options;

	if (conn->only_postgres && bytes[0] != 0) {
		mg_conn__fail(conn, "only PostgreSQL may follow its request for TLS");
		return false;
	}
	if (!options->choose(conn, options->arg, bytes, size)) {
		if (size >= MG_NET_CHOOSE_MAX) {
			mg_conn__fail(conn, "no protocol within %d bytes", MG_NET_CHOOSE_MAX);
		}
		return false;
	}
	return conn->protocol != NULL;
}

void mg_listener__gone(struct mg_conn *conn)
{
	struct mg_listener *listener = conn->listener;

	if (conn->reason[0] != '\0') {
		mg_log(MG_LOG_DEBUG, "net.closed", "conn=%llu peer=%s reason=%s",
		       (unsigned long long)conn->id, conn->peer, conn->reason);
	}
	conn->listener = NULL;
	(void)atomic_fetch_sub(&listener->connections, 1);
	listener_unref(listener);
}

/* ---- accepting ---- */

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void on_pause_over(void *arg)
{
	struct mg_acceptor *acceptor = arg;

	mg_timer_stop(acceptor->pause);
	acceptor->pause = NULL;
	(void)uv_poll_start(&acceptor->poll, UV_READABLE, on_acceptable);
}

/* No descriptor or memory left: the connection stays in the queue, so poll would call again at
 * once. */
static void pause_accepting(struct mg_acceptor *acceptor, int error)
{
	mg_log(MG_LOG_WARN, "net.accept_failed", "port=%u reason=%s", acceptor->listener->port,
	       strerror(error));
	(void)uv_poll_stop(&acceptor->poll);
	acceptor->pause = mg_timer_start(acceptor->loop, ACCEPT_PAUSE_MS, 0, on_pause_over, acceptor);
}

static void welcome(struct mg_acceptor *acceptor, int fd)
{
	struct mg_listener *listener = acceptor->listener;
	const struct mg_listen_options *options = &listener->options;

	if (atomic_fetch_add(&listener->connections, 1) >= options->connections_max) {
		(void)atomic_fetch_sub(&listener->connections, 1);
		(void)close(fd);
		mg_log(MG_LOG_DEBUG, "net.connections_max", "port=%u max=%zu", listener->port,
		       options->connections_max);
		return;
	}
	struct mg_conn *conn = mg_conn__new(acceptor->loop, fd, MG_CONN_FIRST, NULL);

	if (conn == NULL) {
		(void)atomic_fetch_sub(&listener->connections, 1);
		return;
	}
	(void)atomic_fetch_add(&listener->refs, 1);
	conn->listener = listener;
	mg_conn__deadline(conn, options->hello_ms, "it was silent for too long");
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
	struct mg_acceptor *acceptor = poll->data;
	struct mg_loop *loop = acceptor->loop;

	(void)status;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			welcome(acceptor, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			pause_accepting(acceptor, errno);
			break;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			break;
		}
		/* Everything else is the fault of the one who knocked and ran away. */
	}
	mg_loop__settle(loop);
}

static void on_acceptor_closed(uv_handle_t *handle)
{
	struct mg_acceptor *acceptor = handle->data;

	listener_unref(acceptor->listener);
	mg_free(acceptor);
}

static void acceptor_close(void *arg)
{
	struct mg_acceptor *acceptor = arg;
	struct mg_acceptor **link = &acceptor->loop->acceptors;

	while (*link != acceptor) {
		link = &(*link)->next;
	}
	*link = acceptor->next;
	pthread_mutex_lock(&acceptor->listener->lock);
	acceptor->listener->acceptors[acceptor->index] = NULL;
	pthread_mutex_unlock(&acceptor->listener->lock);
	mg_timer_stop(acceptor->pause);
	(void)uv_poll_stop(&acceptor->poll);
	uv_close((uv_handle_t *)&acceptor->poll, on_acceptor_closed);
	(void)close(acceptor->fd);
}

void mg_acceptor__close_all(struct mg_loop *loop)
{
	while (loop->acceptors != NULL) {
		acceptor_close(loop->acceptors);
	}
}

static void acceptor_start(void *arg)
{
	struct mg_acceptor *acceptor = arg;

	acceptor->next = acceptor->loop->acceptors;
	acceptor->loop->acceptors = acceptor;
	acceptor->poll.data = acceptor;
	int status = uv_poll_init(&acceptor->loop->uv, &acceptor->poll, acceptor->fd);

	mg_assert(status == 0); /* a fresh socket of our own */
	(void)uv_poll_start(&acceptor->poll, UV_READABLE, on_acceptable);
}

/* ---- opening ---- */

int mg_net_split(const char *host_port, char *host, size_t host_size, char *port, size_t port_size,
                 struct mg_error *err)
{
	const char *colon = strrchr(host_port, ':');
	size_t len = colon != NULL ? (size_t)(colon - host_port) : 0;
	char *end = NULL;
	unsigned long number = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9' || *end != '\0' || number > 65535) {
		return mg_error_set(err, MG_E_USAGE, "\"%s\" is no address of the form HOST:PORT",
		                    host_port);
	}
	if (len >= 2 && host_port[0] == '[' && host_port[len - 1] == ']') {
		host_port++;
		len -= 2;
	} else if (memchr(host_port, ':', len) != NULL) {
		return mg_error_set(err, MG_E_USAGE, "\"%s\": an IPv6 address must stand in brackets",
		                    host_port);
	}
	if (len >= host_size) {
		return mg_error_set(err, MG_E_USAGE, "\"%s\": the name of the host is too long", host_port);
	}
	memcpy(host, host_port, len);
	host[len] = '\0';
	(void)snprintf(port, port_size, "%lu", number);
	return 0;
}

static int bind_one(const struct addrinfo *address, uint16_t port, bool reuse_port, int *out)
{
	int one = 1;
	int zero = 0;
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_storage where;

	if (fd < 0) {
		return errno;
	}
	memcpy(&where, address->ai_addr, address->ai_addrlen);
	if (address->ai_family == AF_INET6) {
		((struct sockaddr_in6 *)&where)->sin6_port = htons(port);
		/* "[::]" listens to IPv4 too. */
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
	} else {
		((struct sockaddr_in *)&where)->sin_port = htons(port);
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (reuse_port) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	}
	if (bind(fd, (struct sockaddr *)&where, address->ai_addrlen) != 0) {
		int error = errno;

		(void)close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage where = { 0 };
	socklen_t size = sizeof where;

	(void)getsockname(fd, (struct sockaddr *)&where, &size);
	return where.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&where)->sin6_port)
	                                   : ntohs(((struct sockaddr_in *)&where)->sin_port);
}

/* Sockets for all loops on one port. A socket that does not share its port is bound first, because
 * SO_REUSEPORT would let a second server of the same user take half of the first one's connections.
 */
static int bind_all(const struct addrinfo *address, uint16_t port, struct mg_listener *listener)
{
	size_t done = 0;
	int probe = -1;
	int error = bind_one(address, port, false, &probe);

	if (error != 0) {
		return error;
	}
	(void)close(probe);
	for (; done < listener->acceptor_count && error == 0; done++) {
		int *fd = &listener->acceptors[done]->fd;

		error = bind_one(address, port, true, fd);
		if (error != 0) {
			break;
		}
		if (listen(*fd, BACKLOG) != 0) {
			error = errno;
		}
		port = port_of(*fd);
	}
	if (error != 0) {
		for (size_t i = 0; i < listener->acceptor_count; i++) {
			if (listener->acceptors[i]->fd >= 0) {
				(void)close(listener->acceptors[i]->fd);
				listener->acceptors[i]->fd = -1;
			}
		}
		return error;
	}
	listener->port = port;
	return 0;
}

static int resolve(const char *host_port, struct addrinfo **found, uint16_t *number,
                   struct mg_error *err)
{
	char host[256], port[8];
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
		                      .ai_socktype = SOCK_STREAM,
		                      .ai_flags = AI_PASSIVE };
	int status = mg_net_split(host_port, host, sizeof host, port, sizeof port, err);

	if (status != 0) {
		mg_error_hint(err, "Give the address to listen on as HOST:PORT, such as 127.0.0.1:8765; "
		                   "0.0.0.0:8765 is every address of this machine.");
		return status;
	}
	int unknown = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, found);

	if (unknown != 0) {
		(void)mg_error_set(err, MG_E_USAGE, "cannot listen on \"%s\": %s", host_port,
		                   gai_strerror(unknown));
		mg_error_hint(err, "Give a name or address of this machine; 0.0.0.0 is all of them.");
		return MG_E_USAGE;
	}
	*number = (uint16_t)strtoul(port, NULL, 10);
	return 0;
}

static int listen_failed(const char *host_port, int error, struct mg_error *err)
{
	if (error == EADDRINUSE) {
		(void)mg_error_set(err, MG_E_IO, "cannot listen on \"%s\": address in use", host_port);
		mg_error_hint(err, "Another program has this port: see \"ss -ltnp\", or choose another one "
		                   "with --listen.");
		return MG_E_IO;
	}
	int code = mg_error_errno(err, error, "cannot listen on \"%s\"", host_port);

	if (error == EADDRNOTAVAIL) {
		mg_error_hint(err, "Give a name or address of this machine; 0.0.0.0 is all of them.");
	} else if (error == EACCES) {
		mg_error_hint(err, "Ports below 1024 are for root: choose another one with --listen.");
	}
	return code;
}

static int open_sockets(struct mg_listener *listener, const char *host_port, struct mg_error *err)
{
	struct addrinfo *found = NULL;
	uint16_t number = 0;
	int status = resolve(host_port, &found, &number, err);
	int error = EADDRNOTAVAIL;

	if (status != 0) {
		return status;
	}
	for (const struct addrinfo *address = found; address != NULL && error != 0;
	     address = address->ai_next) {
		for (int i = 0; i < PORT_TRIES; i++) {
			error = bind_all(address, number, listener);
			if (error != EADDRINUSE || number != 0) {
				break;
			}
		}
	}
	freeaddrinfo(found);
	return error == 0 ? 0 : listen_failed(host_port, error, err);
}

int mg_listen_check(const char *const *host_ports, size_t count, struct mg_error *err)
{
	int fds[MG_LISTEN_CHECK_MAX];
	size_t bound = 0;
	int status = 0;

	mg_assert(count <= MG_LISTEN_CHECK_MAX);
	for (; bound < count; bound++) {
		struct addrinfo *found = NULL;
		uint16_t number = 0;
		int error = EADDRNOTAVAIL;

		status = resolve(host_ports[bound], &found, &number, err);
		if (status != 0) {
			break;
		}
		for (const struct addrinfo *address = found; address != NULL && error != 0;
		     address = address->ai_next) {
			error = bind_one(address, number, false, &fds[bound]);
		}
		freeaddrinfo(found);
		/* Two sockets may be bound to one port (SO_REUSEADDR) until one of them listens. */
		if (error == 0 && bound + 1 < count && listen(fds[bound], 1) != 0) {
			error = errno;
			(void)close(fds[bound]);
		}
		if (error != 0) {
			status = listen_failed(host_ports[bound], error, err);
			break;
		}
	}
	while (bound > 0) {
		(void)close(fds[--bound]);
	}
	return status;
}

int mg_listen(struct mg_listener **out, struct mg_loop **loops, size_t loop_count,
              const struct mg_listen_options *options, struct mg_error *err)
{
	struct mg_listener *listener = mg_alloc0(sizeof *listener);

	*out = NULL;
	mg_assert(loop_count > 0 && options->choose != NULL);
	atomic_init(&listener->refs, 1 + (int)loop_count);
	(void)pthread_mutex_init(&listener->lock, NULL);
	listener->options = *options;
	listener->options.host_port = NULL; /* the caller's */
	listener->options.tls = mg_tls__ref(options->tls);
	if (options->connections_max == 0) {
		listener->options.connections_max = MG_NET_CONNECTIONS_MAX;
	}
	if (options->hello_ms == 0) {
		listener->options.hello_ms = MG_NET_HELLO_MS;
	}
	listener->acceptor_count = loop_count;
	listener->acceptors = mg_alloc0(loop_count * sizeof *listener->acceptors);
	for (size_t i = 0; i < loop_count; i++) {
		struct mg_acceptor *acceptor = mg_alloc0(sizeof *acceptor);

		*acceptor =
			(struct mg_acceptor){ .listener = listener, .loop = loops[i], .index = i, .fd = -1 };
		listener->acceptors[i] = acceptor;
	}
	int status = open_sockets(listener, options->host_port, err);

	for (size_t i = 0; i < loop_count; i++) {
		if (status == 0) {
			mg_loop_post(loops[i], acceptor_start, listener->acceptors[i]);
		} else {
			mg_free(listener->acceptors[i]);
			listener_unref(listener);
		}
	}
	if (status != 0) {
		listener_unref(listener);
		return status;
	}
	*out = listener;
	return 0;
}

uint16_t mg_listener_port(const struct mg_listener *listener)
{
	return listener->port;
}

void mg_listener_close(struct mg_listener *listener)
{
	if (listener == NULL) {
		return;
	}
	pthread_mutex_lock(&listener->lock);
	for (size_t i = 0; i < listener->acceptor_count; i++) {
		struct mg_acceptor *acceptor = listener->acceptors[i];

		if (acceptor != NULL) {
			mg_loop_post(acceptor->loop, acceptor_close, acceptor);
		}
	}
	pthread_mutex_unlock(&listener->lock);
	listener_unref(listener);
}
