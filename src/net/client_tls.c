/*
 * client_tls.c - the blocking client socket: getaddrinfo, connect, OpenSSL, poll.
 *
 * The descriptor never blocks; all waiting is in one poll over it and the wake descriptor.  The
 * peer's certificate is checked against the roots and its names against the host that was asked
 * for, unless verification is switched off.
 */
#include "net/client_tls.h"

#include "base/assert.h"
#include "base/str.h"
#include "net/net_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define WRITE_TIMEOUT_MS 60000

struct mg_client_socket {
	int fd, wake_fd;
	SSL_CTX *ctx;
	SSL *ssl;
	char host[256];
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static enum mg_client_wait wait_for(struct mg_client_socket *s, short events, int64_t timeout_ms)
{
	int64_t until = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;

	for (;;) {
		struct pollfd fds[2] = { { s->fd, events, 0 }, { s->wake_fd, POLLIN, 0 } };
		int64_t left = timeout_ms < 0 ? 60000 : until - now_ms();
		int ready =
			poll(fds, s->wake_fd >= 0 ? 2 : 1, left < 0 ? 0 : (int)(left > 60000 ? 60000 : left));

		if (ready > 0 && s->wake_fd >= 0 && fds[1].revents) {
			return MG_WAIT_WOKEN;
		}
		if (ready > 0) {
			return MG_WAIT_BYTES;
		}
		if (now_ms() >= until) {
			return MG_WAIT_TIMEOUT;
		}
	}
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static const char *ssl_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	return reason ? reason : "the peer does not speak TLS";
}

static int tls_setup(struct mg_client_socket *s, const struct mg_tls_client_options *tls,
                     struct mg_error *err)
{
	struct in6_addr ip;
	X509_VERIFY_PARAM *param;

	s->ctx = SSL_CTX_new(TLS_client_method());
	if (!s->ctx) {
		return mg_error_set(err, MG_E_INTERNAL, "cannot set up TLS: %s", ssl_reason());
	}
	SSL_CTX_set_min_proto_version(s->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(s->ctx, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE |
	                             SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(s->ctx, tls->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	if (tls->insecure_skip_verify) {
		/* nothing to check against */
	} else if (tls->roots_file) {
		if (SSL_CTX_load_verify_locations(s->ctx, tls->roots_file, NULL) != 1) {
			mg_error_set(err, MG_E_CONNECT, "cannot read certificates from \"%s\"",
			             tls->roots_file);
			mg_error_hint(err, "It should be the ca.crt of the cluster's data directory.");
			return MG_E_CONNECT;
		}
	} else {
		SSL_CTX_set_default_verify_paths(s->ctx);
	}
	mg_tls__offer(s->ctx, tls->alpn);
	if (mg_tls__identity(s->ctx, tls->cert_file, tls->key_file, tls->key_password, err)) {
		return MG_E_USAGE;
	}
	s->ssl = SSL_new(s->ctx);
	if (!s->ssl || SSL_set_fd(s->ssl, s->fd) != 1) {
		return mg_error_set(err, MG_E_INTERNAL, "cannot set up TLS: %s", ssl_reason());
	}
	param = SSL_get0_param(s->ssl);
	if (tls->any_host) {
		return 0;
	}
	if (inet_pton(AF_INET, s->host, &ip) == 1 || inet_pton(AF_INET6, s->host, &ip) == 1) {
		X509_VERIFY_PARAM_set1_ip_asc(param, s->host);
	} else {
		SSL_set_tlsext_host_name(s->ssl, s->host);
		X509_VERIFY_PARAM_set1_host(param, s->host, 0);
	}
	return 0;
}

static int tls_failed(struct mg_client_socket *s, const char *port, struct mg_error *err)
{
	long verify = SSL_get_verify_result(s->ssl);

	if (verify != X509_V_OK) {
		mg_error_set(err, MG_E_CONNECT, "the certificate of %s:%s is not accepted: %s", s->host,
		             port, X509_verify_cert_error_string(verify));
		if (verify == X509_V_ERR_HOSTNAME_MISMATCH || verify == X509_V_ERR_IP_ADDRESS_MISMATCH) {
			mg_error_hint(err, "It names other hosts; a server that is started with --advertise "
			                   "%s:%s adds this one.", s->host, port);
		} else {
			mg_error_hint(err, "Give the cluster's CA with --tls-roots DIR/tls/ca.crt, or use "
			                   "--insecure-skip-verify.");
		}
		if (err) {
			mg_copy_text(err->sqlstate, sizeof err->sqlstate, MG_CLIENT_UNTRUSTED);
		}
		return MG_E_CONNECT;
	}
	return mg_error_set(err, MG_E_CONNECT, "no TLS with %s:%s: %s", s->host, port, ssl_reason());
}

static int tls_handshake(struct mg_client_socket *s, const struct mg_client_socket_options *options,
                         struct mg_error *err)
{
	int64_t until = now_ms() + (int64_t)options->timeout_ms;
	int code = tls_setup(s, options->tls, err);

	if (code) {
		return code;
	}
	for (;;) {
		int done, why;
		enum mg_client_wait wait;

		ERR_clear_error();
		done = SSL_connect(s->ssl);
		if (done == 1) {
			return 0;
		}
		why = SSL_get_error(s->ssl, done);
		if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
			return tls_failed(s, options->port, err);
		}
		wait = wait_for(s, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until - now_ms());
		if (wait == MG_WAIT_WOKEN) {
			return mg_error_set(err, MG_E_CANCELLED, "cancelled while connecting");
		}
		if (wait == MG_WAIT_TIMEOUT) {
			return mg_error_set(err, MG_E_CONNECT, "%s:%s does not answer the TLS hello", s->host,
			                    options->port);
		}
	}
}

/* ---- TCP ------------------------------------------------------------------------------------- */

/* 0, or an errno; ECANCELED when woken. */
static int connect_one(struct mg_client_socket *s, const struct addrinfo *address,
                       uint64_t timeout_ms)
{
	int error = 0, one = 1;
	socklen_t len = sizeof error;
	enum mg_client_wait wait;

	s->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0) {
		return errno;
	}
	if (connect(s->fd, address->ai_addr, address->ai_addrlen) != 0) {
		if (errno != EINPROGRESS) {
			error = errno;
		} else {
			wait = wait_for(s, POLLOUT, (int64_t)timeout_ms);
			if (wait != MG_WAIT_BYTES) {
				error = wait == MG_WAIT_WOKEN ? ECANCELED : ETIMEDOUT;
			} else if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
				error = errno;
			}
		}
	}
	if (error) {
		close(s->fd);
		s->fd = -1;
		return error;
	}
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	return 0;
}

static int connect_any(struct mg_client_socket *s, const struct mg_client_socket_options *options,
                       struct mg_error *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int failed = getaddrinfo(options->host, options->port, &hints, &list), last = ECONNREFUSED;

	if (failed) {
		return mg_error_set(err, MG_E_CONNECT, "cannot find host \"%s\": %s", options->host,
		                    gai_strerror(failed));
	}
	for (struct addrinfo *at = list; at && s->fd < 0; at = at->ai_next) {
		int error = connect_one(s, at, options->timeout_ms);

		if (error == ECANCELED) {
			freeaddrinfo(list);
			return mg_error_set(err, MG_E_CANCELLED, "cancelled while connecting");
		}
		last = error ? error : last;
	}
	freeaddrinfo(list);
	if (s->fd < 0) {
		mg_error_set(err, MG_E_CONNECT, "cannot connect to %s:%s: %s", options->host, options->port,
		             strerror(last));
		if (last == ECONNREFUSED) {
			mg_error_hint(err, "Is the server running?  `merganser server` starts one.");
		}
		return MG_E_CONNECT;
	}
	return 0;
}

int mg_client_socket_open(struct mg_client_socket **out,
                          const struct mg_client_socket_options *options, struct mg_error *err)
{
	struct mg_client_socket *s = mg_alloc0(sizeof *s);
	int code;

	*out = NULL;
	s->fd = -1;
	s->wake_fd = options->wake_fd;
	strncpy(s->host, options->host, sizeof s->host - 1);
	code = connect_any(s, options, err);
	if (code == 0 && options->tls) {
		code = tls_handshake(s, options, err);
	}
	if (code) {
		mg_client_socket_close(s);
		return code;
	}
	*out = s;
	return 0;
}

void mg_client_socket_close(struct mg_client_socket *socket)
{
	if (!socket) {
		return;
	}
	if (socket->ssl) {
		if (SSL_is_init_finished(socket->ssl)) {
			SSL_shutdown(socket->ssl);
		}
		SSL_free(socket->ssl);
	}
	SSL_CTX_free(socket->ctx);
	ERR_clear_error();
	if (socket->fd >= 0) {
		close(socket->fd);
	}
	mg_free(socket);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int disconnected(struct mg_error *err)
{
	return mg_error_set(err, MG_E_DISCONNECTED, "the connection to the server was lost");
}

int mg_client_socket_read(struct mg_client_socket *socket, void *bytes, size_t size, size_t *got,
                          struct mg_error *err)
{
	*got = 0;
	if (!socket->ssl) {
		ssize_t count = recv(socket->fd, bytes, size, 0);

		if (count > 0) {
			*got = (size_t)count;
			return 0;
		}
		return count < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : disconnected(err);
	}
	ERR_clear_error();
	if (SSL_read_ex(socket->ssl, bytes, size, got) == 1) {
		return 0;
	}
	*got = 0;
	switch (SSL_get_error(socket->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: return 0;
	default: return disconnected(err);
	}
}

enum mg_client_wait mg_client_socket_wait(struct mg_client_socket *socket, int64_t timeout_ms)
{
	if (socket->ssl && SSL_pending(socket->ssl) > 0) {
		return MG_WAIT_BYTES;
	}
	return wait_for(socket, POLLIN, timeout_ms);
}

/* One step: bytes taken, 0 when the socket is full (then *events says what to wait for), or -1. */
static ssize_t write_some(struct mg_client_socket *s, const void *bytes, size_t size, short *events)
{
	size_t done = 0;

	*events = POLLOUT;
	if (!s->ssl) {
		ssize_t count = send(s->fd, bytes, size, MSG_NOSIGNAL);

		return count >= 0 ? count : errno == EAGAIN || errno == EINTR ? 0 : -1;
	}
	ERR_clear_error();
	if (SSL_write_ex(s->ssl, bytes, size, &done) == 1) {
		return (ssize_t)done;
	}
	switch (SSL_get_error(s->ssl, 0)) {
	case SSL_ERROR_WANT_READ: *events = POLLIN; return 0;
	case SSL_ERROR_WANT_WRITE: return 0;
	default: return -1;
	}
}

int mg_client_socket_write(struct mg_client_socket *socket, const void *bytes, size_t size,
                           struct mg_error *err)
{
	const uint8_t *at = bytes;
	int wake_fd = socket->wake_fd;

	while (size > 0) {
		short events;
		ssize_t done = write_some(socket, at, size, &events);

		if (done < 0) {
			return disconnected(err);
		}
		at += done;
		size -= (size_t)done;
		if (done == 0) {
			enum mg_client_wait wait;

			/* A message cannot be left half sent, so a wake-up waits for its end. */
			socket->wake_fd = -1;
			wait = wait_for(socket, events, WRITE_TIMEOUT_MS);
			socket->wake_fd = wake_fd;
			if (wait == MG_WAIT_TIMEOUT) {
				return mg_error_set(err, MG_E_TIMEOUT, "the server takes no bytes");
			}
		}
	}
	return 0;
}

/* ---- WebSocket ------------------------------------------------------------------------------- */

void mg_client_ws_key(char out[25])
{
	uint8_t bytes[16];

	mg_assert(RAND_bytes(bytes, sizeof bytes) == 1);
	EVP_EncodeBlock((unsigned char *)out, bytes, sizeof bytes);
}

bool mg_client_ws_accepts(const char *key, const char *accept)
{
	static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t digest[EVP_MAX_MD_SIZE];
	char text[25 + sizeof suffix], wanted[64];
	unsigned size = 0;
	size_t key_len = strnlen(key, 24);

	memcpy(text, key, key_len);
	memcpy(text + key_len, suffix, sizeof suffix);
	if (EVP_Digest(text, key_len + sizeof suffix - 1, digest, &size, EVP_sha1(), NULL) != 1) {
		return false;
	}
	EVP_EncodeBlock((unsigned char *)wanted, digest, (int)size);
	return strcmp(wanted, accept) == 0;
}
