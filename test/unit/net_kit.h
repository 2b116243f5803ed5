/*
 * net_kit.h - what the tests of net/ share: a server on loopback, a blocking client that may
 * misbehave, and gates to wait at, so that no test sleeps to be in time.
 */
#ifndef MG_TEST_NET_KIT_H
#define MG_TEST_NET_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "auth/auth.h"
#include "net/http.h"
#include "net/net.h"
#include "net/stream.h"

#define KIT_UNUSED __attribute__((unused))

enum { KIT_PATIENCE_S = 20 }; /* after which a wait is a failure */

/* ---- gates: a number that grows, and somebody who waits for it ---- */

struct kit_gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	long count;
};

#define KIT_GATE                                               \
	{                                                          \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 \
	}

static KIT_UNUSED void kit_gate_add(struct kit_gate *gate, long count)
{
	pthread_mutex_lock(&gate->lock);
	gate->count += count;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

static KIT_UNUSED long kit_gate_count(struct kit_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	long count = gate->count;

	pthread_mutex_unlock(&gate->lock);
	return count;
}

/* Returns false when count was not reached in KIT_PATIENCE_S. */
static KIT_UNUSED bool kit_gate_wait(struct kit_gate *gate, long count)
{
	struct timespec until;
	int status = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += KIT_PATIENCE_S;
	pthread_mutex_lock(&gate->lock);
	while (gate->count < count && status == 0) {
		status = pthread_cond_timedwait(&gate->changed, &gate->lock, &until);
	}
	bool reached = gate->count >= count;

	pthread_mutex_unlock(&gate->lock);
	return reached;
}

static KIT_UNUSED void kit_gate_reset(struct kit_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->count = 0;
	pthread_mutex_unlock(&gate->lock);
}

static KIT_UNUSED void kit_on_loop_fn(void *arg)
{
	void **call = arg;
	void (*fn)(void *) = NULL;

	memcpy(&fn, &call[0], sizeof fn);
	fn(call[1]);
	kit_gate_add(call[2], 1);
}

/* Run fn on the loop and wait for it. */
static KIT_UNUSED void kit_on_loop(struct mg_loop *loop, void (*fn)(void *), void *arg)
{
	struct kit_gate done = KIT_GATE;
	void *call[3] = { NULL, arg, &done };

	memcpy(&call[0], &fn, sizeof fn);
	mg_loop_post(loop, kit_on_loop_fn, call);
	assert_true(kit_gate_wait(&done, 1));
}

/* ---- certificates of a test ---- */

struct kit_certs {
	char dir[64];
	char ca[96], ca_key[96], cert[96], key[96];
};

static KIT_UNUSED void kit_must(int status, const struct mg_error *err)
{
	if (status != 0) {
		fail_msg("%s", err->message);
	}
}

static KIT_UNUSED void kit_certs_make(struct kit_certs *certs, const char *common_name)
{
	struct mg_error err = { 0 };
	const char *dns[] = { "localhost", NULL };
	const char *ips[] = { "127.0.0.1", "::1", NULL };
	struct mg_cert_names names = { .common_name = common_name, .dns = dns, .ips = ips };

	(void)snprintf(certs->dir, sizeof certs->dir, "/tmp/mg-test-XXXXXX");
	assert_non_null(mkdtemp(certs->dir));
	(void)snprintf(certs->ca, sizeof certs->ca, "%s/ca.crt", certs->dir);
	(void)snprintf(certs->ca_key, sizeof certs->ca_key, "%s/ca.key", certs->dir);
	(void)snprintf(certs->cert, sizeof certs->cert, "%s/server.crt", certs->dir);
	(void)snprintf(certs->key, sizeof certs->key, "%s/server.key", certs->dir);
	kit_must(mg_cert_ca_create(certs->ca, certs->ca_key, "test CA", NULL, false, &err), &err);
	kit_must(mg_cert_server_create(certs->cert, certs->key, certs->ca, certs->ca_key, NULL, &names,
	                               false, &err),
	         &err);
}

static KIT_UNUSED void kit_certs_remove(struct kit_certs *certs)
{
	(void)unlink(certs->ca);
	(void)unlink(certs->ca_key);
	(void)unlink(certs->cert);
	(void)unlink(certs->key);
	(void)rmdir(certs->dir);
}

/* ---- a server ---- */

struct kit_server {
	struct mg_loop *loops[2];
	struct mg_listener *listener;
	struct mg_tls *tls;
	struct mg_http_handler http;
};

static KIT_UNUSED bool kit_choose_http(struct mg_conn *conn, void *arg, const uint8_t *bytes,
                                       size_t size)
{
	struct kit_server *server = arg;

	(void)bytes;
	(void)size;
	mg_conn_set_protocol(conn, &mg_http_protocol, mg_http_state_new(&server->http));
	return true;
}

/* certs NULL: plaintext. choose NULL: HTTP with server->http, which is set before. */
static KIT_UNUSED void kit_server_start(struct kit_server *server, const struct kit_certs *certs,
                                        struct mg_listen_options options)
{
	static const char *const alpn[] = { "http/1.1", NULL };
	struct mg_error err = { 0 };

	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to a socket that the server may have closed */
	kit_must(mg_loop_start(&server->loops[0], "net-0", &err), &err);
	kit_must(mg_loop_start(&server->loops[1], "net-1", &err), &err);
	if (certs != NULL) {
		struct mg_tls_server_options tls = { .cert_file = certs->cert,
			                                 .key_file = certs->key,
			                                 .alpn = alpn };

		kit_must(mg_tls_server(&server->tls, &tls, &err), &err);
	}
	options.tls = server->tls;
	if (options.host_port == NULL) {
		options.host_port = "127.0.0.1:0";
	}
	if (options.choose == NULL) {
		options.choose = kit_choose_http;
		options.arg = server;
	}
	kit_must(mg_listen(&server->listener, server->loops, 2, &options, &err), &err);
}

static KIT_UNUSED void kit_server_stop(struct kit_server *server)
{
	mg_listener_close(server->listener);
	mg_loop_stop(server->loops[0]);
	mg_loop_stop(server->loops[1]);
	mg_tls_unref(server->tls);
	memset(server, 0, sizeof *server);
}

static KIT_UNUSED const char *kit_address(const struct kit_server *server)
{
	static _Thread_local char text[32];

	(void)snprintf(text, sizeof text, "127.0.0.1:%u", mg_listener_port(server->listener));
	return text;
}

/* ---- a blocking client ---- */

struct kit_peer {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
};

static KIT_UNUSED struct kit_peer kit_peer_open(const struct kit_server *server)
{
	struct kit_peer peer = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	struct sockaddr_in where = { .sin_family = AF_INET };
	struct timeval patience = { .tv_sec = KIT_PATIENCE_S };

	where.sin_port = htons(mg_listener_port(server->listener));
	where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(peer.fd, (struct sockaddr *)&where, sizeof where), 0);
	(void)setsockopt(peer.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	(void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	return peer;
}

static KIT_UNUSED void kit_peer_tls(struct kit_peer *peer, const char *ca)
{
	peer->ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_load_verify_file(peer->ctx, ca), 1);
	SSL_CTX_set_verify(peer->ctx, SSL_VERIFY_PEER, NULL);
	peer->ssl = SSL_new(peer->ctx);
	(void)SSL_set1_host(peer->ssl, "localhost");
	assert_int_equal(SSL_set_fd(peer->ssl, peer->fd), 1);
	assert_int_equal(SSL_connect(peer->ssl), 1);
}

static KIT_UNUSED ssize_t kit_peer_write(struct kit_peer *peer, const void *bytes, size_t size)
{
	if (peer->ssl != NULL) {
		return SSL_write(peer->ssl, bytes, (int)size);
	}
	return send(peer->fd, bytes, size, MSG_NOSIGNAL);
}

static KIT_UNUSED void kit_peer_send(struct kit_peer *peer, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t sent = kit_peer_write(peer, at, size);

		if (sent <= 0) {
			return; /* The server may refuse before it has read all: what it says is what counts. */
		}
		at += sent;
		size -= (size_t)sent;
	}
}

static KIT_UNUSED void kit_peer_say(struct kit_peer *peer, const char *text)
{
	kit_peer_send(peer, text, strlen(text));
}

/* Bytes read, 0 at the end, negative when the connection broke. */
static KIT_UNUSED ssize_t kit_peer_read(struct kit_peer *peer, void *bytes, size_t size)
{
	if (peer->ssl == NULL) {
		return recv(peer->fd, bytes, size, 0);
	}
	int got = SSL_read(peer->ssl, bytes, (int)size);

	if (got > 0) {
		return got;
	}
	return SSL_get_error(peer->ssl, got) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* Until size bytes are there. */
static KIT_UNUSED void kit_peer_expect_size(struct kit_peer *peer, void *bytes, size_t size)
{
	char *at = bytes;

	while (size > 0) {
		ssize_t got = kit_peer_read(peer, at, size);

		assert_true(got > 0);
		at += got;
		size -= (size_t)got;
	}
}

/* Everything up to the end, as heap text; *clean: it ended and did not break. */
static KIT_UNUSED char *kit_peer_all(struct kit_peer *peer, bool *clean)
{
	size_t size = 0;
	size_t cap = 65536;
	char *text = malloc(cap + 1);

	for (;;) {
		ssize_t got = kit_peer_read(peer, text + size, cap - size);

		if (got <= 0) {
			if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
				fail_msg("the server neither answered nor closed in %d s", KIT_PATIENCE_S);
			}
			if (clean != NULL) {
				*clean = got == 0;
			}
			break;
		}
		size += (size_t)got;
		if (size == cap) {
			cap *= 2;
			text = realloc(text, cap + 1);
		}
	}
	text[size] = '\0';
	return text;
}

/* Up to and with mark; heap text. */
static KIT_UNUSED char *kit_peer_until(struct kit_peer *peer, const char *mark)
{
	size_t size = 0;
	char *text = calloc(1, 65536);

	while (strstr(text, mark) == NULL) {
		ssize_t got = kit_peer_read(peer, text + size, 1);

		assert_true(got == 1 && size < 65000);
		size++;
	}
	return text;
}

static KIT_UNUSED void kit_peer_close(struct kit_peer *peer)
{
	SSL_free(peer->ssl);
	SSL_CTX_free(peer->ctx);
	(void)close(peer->fd);
	peer->fd = -1;
	peer->ssl = NULL;
	peer->ctx = NULL;
}

/* With a reset instead of an end. */
static KIT_UNUSED void kit_peer_kill(struct kit_peer *peer)
{
	struct linger hard = { .l_onoff = 1 };

	(void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	kit_peer_close(peer);
}

#endif
