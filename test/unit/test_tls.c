/* TLS and dialling: who is believed, what is refused, reload, TLS on a live connection. */
#include "net_echo.h"

#include <netinet/tcp.h>

static struct kit_certs others;

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

static int corked_fd;

static void cork(int on)
{
	assert_int_equal(setsockopt(corked_fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on), 0);
}

/* From the server's last word on nothing leaves. */
static void cork_the_last_flight(const SSL *ssl, int where, int how)
{
	(void)where, (void)how;
	if (SSL_get_state(ssl) == TLS_ST_CR_FINISHED) {
		cork(1);
	}
}

/* The end of the handshake and the first bytes come in one segment, and nothing behind them. */
static void test_bytes_come_with_the_end_of_the_handshake(void **state)
{
	struct kit_server server = { 0 };

	(void)state;
	start(&server, true, (struct mg_listen_options){ 0 });
	for (int i = 0; i < 20; i++) {
		struct kit_peer peer = kit_peer_open(&server);

		corked_fd = peer.fd;
		peer.ctx = SSL_CTX_new(TLS_client_method());
		peer.ssl = SSL_new(peer.ctx);
		SSL_set_info_callback(peer.ssl, cork_the_last_flight);
		(void)SSL_set_fd(peer.ssl, peer.fd);
		assert_int_equal(SSL_connect(peer.ssl), 1);
		assert_int_equal(SSL_write(peer.ssl, "hello", 5), 5);
		cork(0);
		char back[5];

		kit_peer_expect_size(&peer, back, sizeof back);
		assert_memory_equal(back, "hello", sizeof back);
		kit_peer_close(&peer);
	}
	kit_server_stop(&server);
}

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
		assert_true(kit_gate_wait(&dialled.done, 1)); /* the echo: a bad one is told later */
		assert_int_equal(seen_cert.good, i == 1);
		assert_string_equal(seen_cert.name, i == 0 ? "" : i == 1 ? "scott" : "stranger");
		assert_string_equal(seen_cert.reason, i < 2 ? "" : "another CA has signed it");
		assert_true(i == 0 || seen_cert.until_s > (int64_t)time(NULL));
		mg_loop_stop(dialled.loop);
	}
	kit_server_stop(&server);
	(void)unlink(cert);
	(void)unlink(key);
}

/* Node 7 is told from users: by its ALPN it is shown, and checked by, what is for nodes. */
static void test_nodes_get_certificates_of_their_own(void **state)
{
	static const char *const http[] = { "http/1.1", NULL };
	static const char *const peer[] = { MG_NET_ALPN_PEER, NULL };
	struct kit_server server = { 0 };
	struct mg_error err = { 0 };
	struct dialled dialled;
	char cert[96], key[96], foreign[96], foreign_key[96];
	struct mg_tls *peers = NULL;
	/* To clients this server is a stranger: another CA has signed its certificate. */
	struct mg_tls_server_options options = {
		.cert_file = others.cert, .key_file = others.key, .client_ca_file = others.ca, .alpn = http
	};
	struct mg_tls_server_options for_peers = {
		.cert_file = cert, .key_file = key, .client_ca_file = certs.ca, .alpn = peer
	};
	struct mg_tls_client_options node = {
		.roots_file = certs.ca, .cert_file = cert, .key_file = key, .alpn = peer, .any_host = true
	};
	struct mg_tls_client_options stranger = { .roots_file = certs.ca,
		                                      .cert_file = foreign,
		                                      .key_file = foreign_key,
		                                      .alpn = peer,
		                                      .any_host = true };
	struct mg_tls_client_options client = {
		.roots_file = others.ca, .cert_file = cert, .key_file = key, .alpn = http
	};
	const struct mg_tls_client_options *all[] = { &node, &stranger, &client };

	(void)state;
	(void)snprintf(cert, sizeof cert, "%s/node.crt", certs.dir);
	(void)snprintf(key, sizeof key, "%s/node.key", certs.dir);
	(void)snprintf(foreign, sizeof foreign, "%s/node.crt", others.dir);
	(void)snprintf(foreign_key, sizeof foreign_key, "%s/node.key", others.dir);
	kit_must(mg_cert_node_create(cert, key, certs.ca, certs.ca_key, NULL, 7, false, &err), &err);
	kit_must(
		mg_cert_node_create(foreign, foreign_key, others.ca, others.ca_key, NULL, 7, false, &err),
		&err);
	kit_must(mg_tls_server(&peers, &for_peers, &err), &err);
	options.peers = peers;
	kit_must(mg_tls_server(&server.tls, &options, &err), &err);
	start(&server, false, (struct mg_listen_options){ 0 });
	for (int i = 0; i < 3; i++) {
		dial(&dialled, "localhost", mg_listener_port(server.listener), all[i], 0);
		assert_non_null(dialled.conn);
		assert_string_equal(mg_conn_alpn(dialled.conn), i < 2 ? MG_NET_ALPN_PEER : "http/1.1");
		/* What the server shows. */
		assert_int_equal(mg_conn_cert(dialled.conn)->node, i < 2 ? 7 : 0);
		assert_false(mg_conn_cert(dialled.conn)->good && i < 2);
		kit_gate_reset(&dialled.done);
		dialled.to_get = 5;
		kit_on_loop(dialled.loop, say_hello, &dialled);
		assert_true(kit_gate_wait(&dialled.done, 1));
		/* What it sees: as a client, a node is nobody, whoever has signed it. */
		assert_int_equal(seen_cert.node, i == 0 ? 7 : 0);
		assert_false(seen_cert.good);
		assert_string_equal(seen_cert.reason,
		                    i == 0 ? "it is a node's, not a user's" : "another CA has signed it");
		mg_loop_stop(dialled.loop);
	}
	kit_server_stop(&server);
	mg_tls_unref(peers);
	(void)unlink(cert);
	(void)unlink(key);
	(void)unlink(foreign);
	(void)unlink(foreign_key);
}

static void test_encrypted_keys_want_their_passphrase(void **state)
{
	char cert[96], key[96];
	struct mg_error err = { 0 };
	struct mg_tls *tls = NULL;
	struct mg_tls_client_options options = { .roots_file = certs.ca,
		                                     .cert_file = cert,
		                                     .key_file = key };

	(void)state;
	(void)snprintf(cert, sizeof cert, "%s/locked.crt", certs.dir);
	(void)snprintf(key, sizeof key, "%s/locked.key", certs.dir);
	kit_must(mg_cert_client_create(cert, key, certs.ca, certs.ca_key, NULL, "scott", "sesame",
	                               false, &err),
	         &err);
	assert_true(mg_tls_key_encrypted(key));
	assert_false(mg_tls_key_encrypted(certs.key));
	assert_false(mg_tls_key_encrypted("/nowhere/a.key"));
	assert_int_equal(mg_tls_client(&tls, &options, &err), MG_E_USAGE);
	assert_non_null(strstr(err.message, "needs its passphrase"));
	assert_non_null(strstr(err.hint, "--tls-key-password-file"));
	options.key_password = "wrong";
	assert_int_equal(mg_tls_client(&tls, &options, &err), MG_E_USAGE);
	assert_non_null(strstr(err.message, "is wrong"));
	options.key_password = "sesame";
	kit_must(mg_tls_client(&tls, &options, &err), &err);
	kit_must(mg_tls_reload(tls, &err), &err); /* it is remembered */
	mg_tls_unref(tls);
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
	assert_non_null(strstr(err.message, "No such file or directory"));
	options = (struct mg_tls_server_options){ .cert_file = certs.cert, .key_file = others.key };
	assert_int_not_equal(mg_tls_server(&tls, &options, &err), 0);
	assert_null(tls);
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
		cmocka_unit_test(test_bytes_come_with_the_end_of_the_handshake),
		cmocka_unit_test(test_certificate_is_checked_against_roots_and_name),
		cmocka_unit_test(test_name_mismatch_is_refused),
		cmocka_unit_test(test_dial_errors_say_what_and_where),
		cmocka_unit_test(test_much_goes_both_ways_at_once),
		cmocka_unit_test(test_alpn_and_cipher_are_the_preferred_ones),
		cmocka_unit_test(test_reload_serves_new_connections_and_keeps_old_ones),
		cmocka_unit_test(test_client_certificates_are_asked_for_and_checked),
		cmocka_unit_test(test_nodes_get_certificates_of_their_own),
		cmocka_unit_test(test_encrypted_keys_want_their_passphrase),
		cmocka_unit_test(test_wrong_files_are_named),
		cmocka_unit_test(test_tls_starts_on_a_live_connection),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
