/* TLS, listening and dialling: who is believed, what is refused, reload, silence, limits. */
#include <sys/resource.h>

#include "net_kit.h"

static struct kit_certs certs, others;

/* ---- a server that echoes bytes, or upgrades to TLS when told "S" ---- */

static struct kit_gate conns_closed = KIT_GATE;
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER; /* two loops write what was seen */
static char closed_reason[256];
static char seen_alpn[32];
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
	pthread_mutex_unlock(&seen_lock);
	mg_conn_set_protocol(conn, &echo, NULL);
	return true;
}

static void start(struct kit_server *server, bool tls, struct mg_listen_options options)
{
	options.choose = choose_echo;
	kit_server_start(server, tls ? &certs : NULL, options);
}

static int setup(void **state)
{
	(void)state;
	kit_certs_make(&certs, "node-1");
	kit_certs_make(&others, "stranger");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_certs_remove(&certs);
	kit_certs_remove(&others);
	return 0;
}

static void expect_echo(struct kit_peer *peer, const char *text)
{
	char got[64] = "";

	kit_peer_say(peer, text);
	kit_peer_expect_size(peer, got, strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

/* ---- dialling ---- */

struct dialled {
	struct mg_loop *loop;
	struct mg_conn *conn;
	struct mg_error err;
	struct kit_gate done, closed;
	size_t to_get;
	uint64_t sum;
};

static long dialled_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct dialled *dialled = state;

	(void)conn;
	for (size_t i = 0; i < size; i++) {
		dialled->sum += bytes[i];
	}
	if (dialled->to_get <= size) {
		kit_gate_add(&dialled->done, 1);
	}
	dialled->to_get -= size < dialled->to_get ? size : dialled->to_get;
	return (long)size;
}

static void dialled_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct dialled *dialled = state;

	(void)conn;
	(void)reason;
	dialled->conn = NULL;
	kit_gate_add(&dialled->closed, 1);
}

static const struct mg_protocol dialled_protocol = { .name = "test",
	                                                 .data = dialled_data,
	                                                 .closed = dialled_closed };

static void on_dialled(struct mg_conn *conn, const struct mg_error *err, void *arg)
{
	struct dialled *dialled = arg;

	if (conn != NULL) {
		dialled->conn = conn;
		mg_conn_set_protocol(conn, &dialled_protocol, dialled);
	} else {
		dialled->err = *err;
	}
	kit_gate_add(&dialled->done, 1);
}

static void dial(struct dialled *dialled, const char *host, uint16_t port,
                 const struct mg_tls_client_options *options, uint64_t timeout_ms)
{
	struct mg_tls *tls = NULL;
	struct mg_error err = { 0 };
	char address[300];

	*dialled = (struct dialled){ .done = KIT_GATE, .closed = KIT_GATE };
	if (options != NULL) {
		kit_must(mg_tls_client(&tls, options, &err), &err);
	}
	kit_must(mg_loop_start(&dialled->loop, "dial", &err), &err);
	(void)snprintf(address, sizeof address, "%s:%u", host, port);
	mg_dial(dialled->loop, address, tls, timeout_ms, on_dialled, dialled);
	mg_tls_unref(tls);
	assert_true(kit_gate_wait(&dialled->done, 1));
}

static void test_certificate_is_checked_against_roots_and_name(void **state)
{
	struct kit_server server = { 0 };
	struct dialled dialled;
	struct mg_tls_client_options right = { .roots_file = certs.ca };
	struct mg_tls_client_options wrong = { .roots_file = others.ca };
	struct mg_tls_client_options careless = { .insecure_skip_verify = true };
	struct mg_tls_client_options system = { 0 };

	(void)state;
	start(&server, true, (struct mg_listen_options){ 0 });
	uint16_t port = mg_listener_port(server.listener);

	dial(&dialled, "localhost", port, &right, 0);
	assert_non_null(dialled.conn);
	mg_loop_stop(dialled.loop);
	dial(&dialled, "127.0.0.1", port, &right, 0);
	assert_non_null(dialled.conn);
	mg_loop_stop(dialled.loop);
	dial(&dialled, "localhost", port, &wrong, 0);
	assert_null(dialled.conn);
	assert_int_equal(dialled.err.code, MG_E_CONNECT);
	assert_non_null(strstr(dialled.err.message, "certificate"));
	assert_non_null(strstr(dialled.err.hint, "--tls-roots"));
	mg_loop_stop(dialled.loop);
	dial(&dialled, "localhost", port, &system, 0);
	assert_null(dialled.conn);
	mg_loop_stop(dialled.loop);
	dial(&dialled, "localhost", port, &careless, 0);
	assert_non_null(dialled.conn);
	mg_loop_stop(dialled.loop);
	kit_server_stop(&server);
}

static void test_name_mismatch_is_refused(void **state)
{
	struct kit_server server = { 0 };
	struct dialled dialled;
	struct mg_tls_client_options right = { .roots_file = certs.ca };

	(void)state;
	start(&server, true, (struct mg_listen_options){ .host_port = "127.0.0.2:0" });
	dial(&dialled, "127.0.0.2", mg_listener_port(server.listener), &right, 0);
	assert_null(dialled.conn);
	assert_non_null(strstr(dialled.err.message, "IP address mismatch"));
	mg_loop_stop(dialled.loop);
	kit_server_stop(&server);
}

static void test_dial_errors_say_what_and_where(void **state)
{
	struct kit_server server = { 0 };
	struct dialled dialled;
	struct mg_tls_client_options right = { .roots_file = certs.ca };

	(void)state;
	start(&server, false, (struct mg_listen_options){ 0 });
	uint16_t port = mg_listener_port(server.listener);

	kit_server_stop(&server);
	dial(&dialled, "127.0.0.1", port, NULL, 0); /* nobody listens any more */
	assert_int_equal(dialled.err.code, MG_E_CONNECT);
	assert_non_null(strstr(dialled.err.message, "refused"));
	mg_loop_stop(dialled.loop);
	dial(&dialled, "no-such-host.invalid", 1, NULL, 0);
	assert_int_equal(dialled.err.code, MG_E_CONNECT);
	mg_loop_stop(dialled.loop);
	dial(&dialled, "::1", 1, NULL, 0); /* without brackets */
	assert_int_equal(dialled.err.code, MG_E_USAGE);
	mg_loop_stop(dialled.loop);
	/* Somebody who never says hello. */
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in where = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof where;

	assert_int_equal(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&where, &size), 0);
	dial(&dialled, "127.0.0.1", ntohs(where.sin_port), &right, 100);
	assert_int_equal(dialled.err.code, MG_E_CONNECT);
	assert_non_null(strstr(dialled.err.message, "100 ms"));
	mg_loop_stop(dialled.loop);
	(void)close(fd);
}

static void send_much(void *arg)
{
	struct dialled *dialled = arg;
	struct mg_buf *buf = mg_buf_new(1 << 20);

	memset(buf->data, 7, 1 << 20);
	buf->size = 1 << 20;
	mg_conn_write(dialled->conn, "xx", 2);
	for (int i = 0; i < 32;
	     i++) { /* 32 MiB and small pieces between: records are cut across them */
		mg_conn_write_buf(dialled->conn, buf);
		mg_conn_write(dialled->conn, "\1\2\3", 3);
	}
	mg_buf_unref(buf);
}

static void test_much_goes_both_ways_at_once(void **state)
{
	struct kit_server server = { 0 };
	struct dialled dialled;
	struct mg_tls_client_options right = { .roots_file = certs.ca };

	(void)state;
	for (int tls = 0; tls < 2; tls++) {
		start(&server, tls == 1, (struct mg_listen_options){ 0 });
		dial(&dialled, "localhost", mg_listener_port(server.listener), tls == 1 ? &right : NULL, 0);
		assert_non_null(dialled.conn);
		kit_gate_reset(&dialled.done);
		dialled.to_get = 2 + 32u * ((1 << 20) + 3);
		kit_on_loop(dialled.loop, send_much, &dialled);
		assert_true(kit_gate_wait(&dialled.done, 1));
		assert_int_equal(dialled.sum, 2 * 'x' + 32ull * ((7 << 20) + 6));
		mg_loop_stop(dialled.loop);
		kit_server_stop(&server);
	}
}

/* ---- the server's side of TLS ---- */

static void test_alpn_and_cipher_are_the_preferred_ones(void **state)
{
	struct kit_server server = { 0 };
	static const unsigned char offers[] = "\x02h2\x08http/1.1";

	(void)state;
	start(&server, true, (struct mg_listen_options){ 0 });
	struct kit_peer peer = kit_peer_open(&server);

	peer.ctx = SSL_CTX_new(TLS_client_method());
	peer.ssl = SSL_new(peer.ctx);
	assert_int_equal(SSL_set_alpn_protos(peer.ssl, offers, sizeof offers - 1), 0);
	(void)SSL_set_fd(peer.ssl, peer.fd);
	assert_int_equal(SSL_connect(peer.ssl), 1);
	assert_string_equal(SSL_get_version(peer.ssl), "TLSv1.3");
	assert_string_equal(SSL_get_cipher(peer.ssl), "TLS_AES_128_GCM_SHA256");
	expect_echo(&peer, "hello");
	assert_string_equal(seen_alpn, "http/1.1");
	kit_peer_close(&peer);
	/* Nothing in common, and a version that is too old: an alert, no connection. */
	peer = kit_peer_open(&server);
	peer.ctx = SSL_CTX_new(TLS_client_method());
	peer.ssl = SSL_new(peer.ctx);
	assert_int_equal(SSL_set_alpn_protos(peer.ssl, offers, 3), 0);
	(void)SSL_set_fd(peer.ssl, peer.fd);
	assert_int_not_equal(SSL_connect(peer.ssl), 1);
	kit_peer_close(&peer);
	peer = kit_peer_open(&server);
	peer.ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_security_level(peer.ctx, 0);
	peer.ssl = SSL_new(peer.ctx);
	(void)SSL_set_max_proto_version(peer.ssl, TLS1_1_VERSION);
	(void)SSL_set_fd(peer.ssl, peer.fd);
	assert_int_not_equal(SSL_connect(peer.ssl), 1);
	kit_peer_close(&peer);
	peer = kit_peer_open(&server);
	kit_peer_tls(&peer, certs.ca); /* and the server is well */
	expect_echo(&peer, "still here");
	kit_peer_close(&peer);
	kit_server_stop(&server);
}

static void test_reload_serves_new_connections_and_keeps_old_ones(void **state)
{
	struct kit_server server = { 0 };
	struct mg_error err = { 0 };
	struct mg_cert_names names = { .common_name = "renewed",
		                           .dns = (const char *[]){ "localhost", NULL } };

	(void)state;
	start(&server, true, (struct mg_listen_options){ 0 });
	struct kit_peer old = kit_peer_open(&server);

	kit_peer_tls(&old, certs.ca);
	expect_echo(&old, "before");
	kit_must(mg_cert_server_create(certs.cert, certs.key, certs.ca, certs.ca_key, NULL, &names,
	                               true, &err),
	         &err);
	kit_must(mg_tls_reload(server.tls, &err), &err);
	struct kit_peer fresh = kit_peer_open(&server);

	kit_peer_tls(&fresh, certs.ca);
	X509 *cert = SSL_get1_peer_certificate(fresh.ssl);
	char name[64] = "";

	(void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof name);
	assert_string_equal(name, "renewed");
	X509_free(cert);
	expect_echo(&fresh, "after");
	expect_echo(&old, "goes on");
	/* A broken file changes nothing. */
	assert_int_equal(truncate(certs.cert, 20), 0);
	assert_int_not_equal(mg_tls_reload(server.tls, &err), 0);
	struct kit_peer third = kit_peer_open(&server);

	kit_peer_tls(&third, certs.ca);
	expect_echo(&third, "as before");
	kit_peer_close(&old);
	kit_peer_close(&fresh);
	kit_peer_close(&third);
	kit_server_stop(&server);
	names = (struct mg_cert_names){ .common_name = "node-1",
		                            .dns = names.dns,
		                            .ips = (const char *[]){ "127.0.0.1", "::1", NULL } };
	kit_must(mg_cert_server_create(certs.cert, certs.key, certs.ca, certs.ca_key, NULL, &names,
	                               true, &err),
	         &err);
}

static void say_hello(void *arg)
{
	struct dialled *dialled = arg;

	if (dialled->conn != NULL) {
		mg_conn_write(dialled->conn, "hello", 5);
	}
}

static void test_client_certificates_are_asked_for_and_checked(void **state)
{
	struct kit_server server = { 0 };
	struct mg_error err = { 0 };
	struct dialled dialled;
	char cert[96], key[96];
	struct mg_tls_server_options options = { .cert_file = certs.cert,
		                                     .key_file = certs.key,
		                                     .client_ca_file = certs.ca };
	struct mg_tls_client_options none = { .roots_file = certs.ca };
	struct mg_tls_client_options right = { .roots_file = certs.ca,
		                                   .cert_file = cert,
		                                   .key_file = key };
	struct mg_tls_client_options wrong = { .roots_file = certs.ca,
		                                   .cert_file = others.cert,
		                                   .key_file = others.key };
	const struct mg_tls_client_options *all[] = { &none, &right, &wrong };

	(void)state;
	(void)snprintf(cert, sizeof cert, "%s/scott.crt", certs.dir);
	(void)snprintf(key, sizeof key, "%s/scott.key", certs.dir);
	kit_must(
		mg_cert_client_create(cert, key, certs.ca, certs.ca_key, NULL, "scott", NULL, false, &err),
		&err);
	kit_must(mg_tls_server(&server.tls, &options, &err), &err);
	start(&server, false, (struct mg_listen_options){ 0 }); /* with the context made above */
	for (int i = 0; i < 3; i++) {
		dial(&dialled, "localhost", mg_listener_port(server.listener), all[i], 0);
		kit_gate_reset(&dialled.done);
		dialled.to_get = 5;
		kit_on_loop(dialled.loop, say_hello, &dialled);
		if (i < 2) {
			assert_true(kit_gate_wait(&dialled.done, 1)); /* the echo */
		} else {
			assert_true(kit_gate_wait(&dialled.closed, 1));
			assert_int_equal(dialled.sum, 0);
		}
		mg_loop_stop(dialled.loop);
	}
	kit_server_stop(&server);
	(void)unlink(cert);
	(void)unlink(key);
}

static void test_wrong_files_are_named(void **state)
{
	struct mg_tls *tls = NULL;
	struct mg_error err = { 0 };
	struct mg_tls_server_options options = { .cert_file = "/nowhere/server.crt",
		                                     .key_file = certs.key };

	(void)state;
	assert_int_not_equal(mg_tls_server(&tls, &options, &err), 0);
	assert_non_null(strstr(err.message, "/nowhere/server.crt"));
	options = (struct mg_tls_server_options){ .cert_file = certs.cert, .key_file = others.key };
	assert_int_not_equal(mg_tls_server(&tls, &options, &err), 0);
	assert_null(tls);
}

/* ---- plaintext, silence, limits ---- */

static void test_plaintext_is_told_to_use_tls(void **state)
{
	struct kit_server server = { 0 };
	static const struct {
		const char *say, *hear;
		size_t size, hear_size;
	} table[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request", 27, 24 },
		{ "*1\r\n$4\r\nPING\r\n", "-ERR this port speaks TLS", 14, 25 },
		{ "\0\0\0\x08\0\3\0\0", "E\0\0\0\x3eSFATAL", 8, 11 }, /* PostgreSQL without TLS */
		{ "\x01\x02\x03\x04", "this port speaks TLS; use https://", 4, 34 },
	};

	(void)state;
	start(&server, true, (struct mg_listen_options){ 0 });
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct kit_peer peer = kit_peer_open(&server);

		kit_peer_send(&peer, table[i].say, table[i].size);
		char *answer = kit_peer_all(&peer, NULL);

		assert_memory_equal(answer, table[i].hear, table[i].hear_size);
		free(answer);
		kit_peer_close(&peer);
	}
	kit_server_stop(&server);
	start(&server, true, (struct mg_listen_options){ .plain_loopback = true });
	struct kit_peer peer = kit_peer_open(&server);

	expect_echo(&peer, "plain");
	kit_peer_close(&peer);
	kit_server_stop(&server);
}

static struct kit_peer ask_like_postgres(struct kit_server *server, const char *bytes, size_t size)
{
	struct kit_peer peer = kit_peer_open(server);

	for (size_t i = 0; i < 4; i++) {
		kit_peer_send(&peer, bytes + i, 1);
	}
	kit_peer_send(&peer, bytes + 4, size - 4);
	return peer;
}

static void test_postgres_asks_for_tls_in_its_own_way(void **state)
{
	static const char wants_tls[] = "\0\0\0\x08\x04\xd2\x16\x2f!";
	static const char wants_gss[] = "\0\0\0\x08\x04\xd2\x16\x30";
	struct kit_server server = { 0 };
	char answer[2] = "";

	(void)state;
	start(&server, true, (struct mg_listen_options){ 0 });
	struct kit_peer peer = ask_like_postgres(&server, wants_gss, 8);

	kit_peer_expect_size(&peer, answer, 1);
	assert_string_equal(answer, "N");
	kit_peer_send(&peer, wants_tls, 8);
	kit_peer_expect_size(&peer, answer, 1);
	assert_string_equal(answer, "S");
	kit_peer_tls(&peer, certs.ca);
	char got[9] = "";

	kit_peer_send(&peer, "\0\0\0\x08\0\3\0\0", 8);
	kit_peer_expect_size(&peer, got, 8);
	assert_memory_equal(got, "\0\0\0\x08\0\3\0\0", 8); /* it reached the protocol */
	kit_peer_close(&peer);
	/* Nobody else may come that way. */
	peer = ask_like_postgres(&server, wants_tls, 8);
	kit_peer_expect_size(&peer, answer, 1);
	kit_peer_tls(&peer, certs.ca);
	kit_peer_say(&peer, "GET / HTTP/1.1\r\n\r\n");
	char *all = kit_peer_all(&peer, NULL);

	assert_string_equal(all, "");
	free(all);
	kit_peer_close(&peer);
	/* And nothing may come along. */
	peer = kit_peer_open(&server);
	kit_peer_send(&peer, wants_tls, 9);
	all = kit_peer_all(&peer, NULL);
	assert_string_equal(all, "");
	free(all);
	kit_peer_close(&peer);
	kit_server_stop(&server);
}

static void expect_end(struct kit_peer *peer)
{
	char *answer = kit_peer_all(peer, NULL); /* fails when the server waits for ever */

	free(answer);
	kit_peer_close(peer);
}

static void test_silence_is_closed_in_every_phase(void **state)
{
	struct kit_server server = { 0 };
	static const char half_hello[] = "\x16\x03\x01\x02\x00\x01\x00";

	(void)state;
	start(&server, true, (struct mg_listen_options){ .hello_ms = 300, .plain_loopback = true });
	struct kit_peer peer = kit_peer_open(&server); /* not a byte */

	expect_end(&peer);
	peer = kit_peer_open(&server); /* half a hello */
	kit_peer_send(&peer, half_hello, sizeof half_hello - 1);
	expect_end(&peer);
	peer = kit_peer_open(&server); /* a handshake and no more */
	kit_peer_tls(&peer, certs.ca);
	expect_end(&peer);
	peer = kit_peer_open(&server); /* too little to choose a protocol */
	kit_peer_send(&peer, "x", 1);
	expect_end(&peer);
	peer = kit_peer_open(&server); /* a hello that is noise */
	kit_peer_send(&peer, "\x16\x03\x01\x00\x05zzzzz", 10);
	expect_end(&peer);
	kit_server_stop(&server);
}

static bool set_idle(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	(void)arg;
	(void)bytes;
	(void)size;
	mg_conn_idle_limit(conn, 300);
	mg_conn_set_protocol(conn, &echo, NULL);
	return true;
}

static void test_idle_limit_closes_and_says_why(void **state)
{
	struct kit_server server = { 0 };

	(void)state;
	kit_gate_reset(&conns_closed);
	kit_server_start(&server, &certs, (struct mg_listen_options){ .choose = set_idle });
	struct kit_peer peer = kit_peer_open(&server);

	kit_peer_tls(&peer, certs.ca);
	expect_echo(&peer, "hello");
	expect_end(&peer);
	assert_true(kit_gate_wait(&conns_closed, 1));
	assert_non_null(strstr(closed_reason, "300 ms"));
	kit_server_stop(&server);
}

static void test_connections_over_the_limit_are_closed(void **state)
{
	struct kit_server server = { 0 };

	(void)state;
	kit_gate_reset(&conns_closed);
	start(&server, false, (struct mg_listen_options){ .connections_max = 2 });
	struct kit_peer one = kit_peer_open(&server);
	struct kit_peer two = kit_peer_open(&server);

	expect_echo(&one, "one");
	expect_echo(&two, "two");
	struct kit_peer three = kit_peer_open(&server);

	expect_end(&three);
	kit_peer_close(&one);
	assert_true(kit_gate_wait(&conns_closed, 1));
	struct kit_peer four;

	for (int tries = 0;; tries++) { /* The place is free a moment after "closed" was heard. */
		char got[4] = "";

		four = kit_peer_open(&server);
		kit_peer_say(&four, "four");
		if (kit_peer_read(&four, got, 4) > 0) {
			break;
		}
		assert_true(tries < 1000);
		kit_peer_close(&four);
	}
	kit_peer_close(&two);
	kit_peer_close(&four);
	kit_server_stop(&server);
}

/* The listener runs out of descriptors, waits, and serves whoever has stayed. */
static void test_listener_survives_a_process_without_descriptors(void **state)
{
	struct kit_server server = { 0 };
	struct rlimit before, none;

	(void)state;
	start(&server, false, (struct mg_listen_options){ 0 });
	struct kit_peer warm = kit_peer_open(&server);

	expect_echo(&warm, "warm"); /* accepted: its descriptor is among the used ones */
	struct kit_peer peer = { .fd = socket(AF_INET, SOCK_STREAM, 0) };
	struct sockaddr_in where = { .sin_family = AF_INET };

	where.sin_port = htons(mg_listener_port(server.listener));
	where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	int next = dup(0);

	assert_true(next >= 0);
	none.rlim_cur = (rlim_t)next; /* this one and all above are taken away */
	(void)close(next);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(connect(peer.fd, (struct sockaddr *)&where, sizeof where), 0);
	kit_peer_say(&peer, "patience");
	assert_int_equal(dup(0), -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	char got[8];

	kit_peer_expect_size(&peer, got, sizeof got);
	assert_memory_equal(got, "patience", 8);
	kit_peer_close(&peer);
	kit_peer_close(&warm);
	kit_server_stop(&server);
}

/* ---- many at once ---- */

enum { GUESTS = 8, VISITS = 30 };

static struct kit_server *crowded;

/* Every kind of visit, in another order for each guest. */
static void *visit(void *arg)
{
	unsigned seed = *(unsigned *)arg;
	char bytes[1000] = "hello";

	for (int i = 0; i < VISITS; i++) {
		struct kit_peer peer = kit_peer_open(crowded);
		unsigned what = (seed + (unsigned)i * 7) % 6;

		if (what >= 3) {
			kit_peer_tls(&peer, certs.ca);
		}
		if (what == 1) {
			kit_peer_send(&peer, "\x16\x03\x01", 3); /* half a hello */
		} else if (what == 2 || what == 4) {
			kit_peer_send(&peer, bytes, sizeof bytes); /* and never reads the echo */
		} else if (what == 5) {
			kit_peer_send(&peer, bytes, sizeof bytes);
			kit_peer_expect_size(&peer, bytes, sizeof bytes);
			assert_memory_equal(bytes, "hello", 6);
		}
		if (i % 2 == 0) {
			kit_peer_kill(&peer);
		} else {
			kit_peer_close(&peer);
		}
	}
	return NULL;
}

static void test_crowd_comes_and_goes_in_every_way(void **state)
{
	struct kit_server server = { 0 };
	pthread_t threads[GUESTS];
	unsigned seeds[GUESTS];

	(void)state;
	start(&server, true, (struct mg_listen_options){ .plain_loopback = true });
	crowded = &server;
	for (unsigned i = 0; i < GUESTS; i++) {
		seeds[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, visit, &seeds[i]), 0);
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		pthread_join(threads[i], NULL);
	}
	struct kit_peer peer = kit_peer_open(&server);

	kit_peer_tls(&peer, certs.ca);
	expect_echo(&peer, "and the server is well");
	/* Stopped with a guest inside, and one on the doorstep. */
	struct kit_peer late = kit_peer_open(&server);

	kit_server_stop(&server);
	kit_peer_close(&late);
	kit_peer_close(&peer);
}

static void test_port_in_use_is_an_error_that_says_so(void **state)
{
	struct kit_server server = { 0 };
	struct mg_listener *second = NULL;
	struct mg_error err = { 0 };
	char address[32];

	(void)state;
	start(&server, false, (struct mg_listen_options){ 0 });
	(void)snprintf(address, sizeof address, "%s", kit_address(&server));
	struct mg_listen_options options = { .host_port = address, .choose = choose_echo };

	assert_int_equal(mg_listen(&second, server.loops, 2, &options, &err), MG_E_IO);
	assert_null(second);
	assert_non_null(strstr(err.message, "address in use"));
	options.host_port = "127.0.0.1";
	assert_int_equal(mg_listen(&second, server.loops, 2, &options, &err), MG_E_USAGE);
	options.host_port = "127.0.0.1:99999";
	assert_int_equal(mg_listen(&second, server.loops, 2, &options, &err), MG_E_USAGE);
	kit_server_stop(&server);
	/* And it is free again at once. */
	start(&server, false, (struct mg_listen_options){ .host_port = address });
	kit_server_stop(&server);
}

/* ---- TLS on a live connection ---- */

static void test_tls_starts_on_a_live_connection(void **state)
{
	struct kit_server server = { 0 };
	struct mg_tls_server_options options = { .cert_file = certs.cert, .key_file = certs.key };
	struct mg_error err = { 0 };
	char answer[2] = "";

	(void)state;
	kit_must(mg_tls_server(&inner_tls, &options, &err), &err);
	start(&server, false, (struct mg_listen_options){ 0 });
	struct kit_peer peer = kit_peer_open(&server);

	kit_peer_say(&peer, "S");
	kit_peer_expect_size(&peer, answer, 1);
	assert_string_equal(answer, "S");
	kit_peer_tls(&peer, certs.ca);
	expect_echo(&peer, "secret");
	kit_peer_close(&peer);
	/* Bytes that came along with the request are not from the one who will be behind TLS. */
	kit_gate_reset(&conns_closed);
	peer = kit_peer_open(&server);
	kit_peer_say(&peer, "Sinjected");
	kit_peer_expect_size(&peer, answer, 1);
	expect_end(&peer);
	assert_true(kit_gate_wait(&conns_closed, 1));
	kit_server_stop(&server);
	mg_tls_unref(inner_tls);
	inner_tls = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_certificate_is_checked_against_roots_and_name),
		cmocka_unit_test(test_name_mismatch_is_refused),
		cmocka_unit_test(test_dial_errors_say_what_and_where),
		cmocka_unit_test(test_much_goes_both_ways_at_once),
		cmocka_unit_test(test_alpn_and_cipher_are_the_preferred_ones),
		cmocka_unit_test(test_reload_serves_new_connections_and_keeps_old_ones),
		cmocka_unit_test(test_client_certificates_are_asked_for_and_checked),
		cmocka_unit_test(test_wrong_files_are_named),
		cmocka_unit_test(test_plaintext_is_told_to_use_tls),
		cmocka_unit_test(test_postgres_asks_for_tls_in_its_own_way),
		cmocka_unit_test(test_silence_is_closed_in_every_phase),
		cmocka_unit_test(test_idle_limit_closes_and_says_why),
		cmocka_unit_test(test_connections_over_the_limit_are_closed),
		cmocka_unit_test(test_listener_survives_a_process_without_descriptors),
		cmocka_unit_test(test_crowd_comes_and_goes_in_every_way),
		cmocka_unit_test(test_port_in_use_is_an_error_that_says_so),
		cmocka_unit_test(test_tls_starts_on_a_live_connection),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
