/* net_echo.h - a server that echoes bytes, for test_tls and test_listen. */
#ifndef MG_TEST_NET_ECHO_H
#define MG_TEST_NET_ECHO_H

#include "net_kit.h"

static struct kit_certs certs;

/* ---- a server that echoes bytes, or upgrades to TLS when told "S" ---- */

static struct kit_gate conns_closed = KIT_GATE;
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER; /* two loops write what was seen */
static char closed_reason[256];
static KIT_UNUSED char seen_alpn[32];
static KIT_UNUSED struct mg_peer_cert seen_cert; /* all zero: none */
static struct mg_tls *inner_tls;

static long echo_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	(void)state;
	if (!mg_conn_is_tls(conn) && inner_tls != NULL && bytes[0] == 'S') {
		mg_conn_write(conn, "S", 1);
		if (mg_conn_start_tls(conn, inner_tls, NULL) != 0) {
			return -1;
		}
		return 1;
	}
	mg_conn_write(conn, bytes, size);
	return (long)size;
}

static void echo_closed(struct mg_conn *conn, void *state, const char *reason)
{
	(void)conn;
	(void)state;
	pthread_mutex_lock(&seen_lock);
	(void)snprintf(closed_reason, sizeof closed_reason, "%s", reason);
	pthread_mutex_unlock(&seen_lock);
	kit_gate_add(&conns_closed, 1);
}

static const struct mg_protocol echo = { .name = "echo", .data = echo_data, .closed = echo_closed };

static bool choose_echo(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	(void)arg;
	(void)bytes;
	if (size < 2 && bytes[0] != 'S') {
		return false; /* wants two bytes to decide */
	}
	pthread_mutex_lock(&seen_lock);
	(void)snprintf(seen_alpn, sizeof seen_alpn, "%s", mg_conn_alpn(conn));
	seen_cert = mg_conn_cert(conn) != NULL ? *mg_conn_cert(conn) : (struct mg_peer_cert){ 0 };
	pthread_mutex_unlock(&seen_lock);
	mg_conn_set_protocol(conn, &echo, NULL);
	return true;
}

static KIT_UNUSED void start(struct kit_server *server, bool tls, struct mg_listen_options options)
{
	options.choose = choose_echo;
	kit_server_start(server, tls ? &certs : NULL, options);
}

static KIT_UNUSED void expect_echo(struct kit_peer *peer, const char *text)
{
	char got[64] = "";

	kit_peer_say(peer, text);
	kit_peer_expect_size(peer, got, strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static KIT_UNUSED void expect_end(struct kit_peer *peer)
{
	char *answer = kit_peer_all(peer, NULL); /* fails when the server waits for ever */

	free(answer);
	kit_peer_close(peer);
}

#endif
