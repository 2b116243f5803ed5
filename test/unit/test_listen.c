/* Listening: what speaks on the port, silence, limits, many guests at once. */
#include <sys/resource.h>

#include "net_echo.h"

static int setup(void **state)
{
	(void)state;
	kit_certs_make(&certs, "node-1");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_certs_remove(&certs);
	return 0;
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

static void test_silence_is_closed_in_every_phase(void **state)
{
	struct kit_server server = { 0 };
	static const char half_hello[] = "\x16\x03\x01\x02\x00\x01\x00";

	(void)state;
	/* A handshake has to fit into it on a busy machine. */
	start(&server, true, (struct mg_listen_options){ .hello_ms = 1500, .plain_loopback = true });
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
	/* The check alone says the same, and keeps nothing. */
	const char *const busy[] = { "127.0.0.1:0", address };

	mg_error_clear(&err);
	assert_int_equal(mg_listen_check(busy, 2, &err), MG_E_IO);
	assert_non_null(strstr(err.message, "address in use"));
	kit_server_stop(&server);
	const char *const twice[] = { address, address };

	assert_int_equal(mg_listen_check(twice, 2, &err), MG_E_IO);
	assert_int_equal(mg_listen_check(busy, 2, &err), 0);
	/* And it is free again at once. */
	start(&server, false, (struct mg_listen_options){ .host_port = address });
	kit_server_stop(&server);
}

static void test_a_bad_address_is_told_what_to_write(void **state)
{
	static const char *const bad[] = { "abc",           "127.0.0.1",
		                               "127.0.0.1:",    "127.0.0.1:99999",
		                               "::1:80",        "no.such.host.invalid:80",
		                               "192.0.2.1:8765" };
	struct mg_error err;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		mg_error_clear(&err);
		assert_int_not_equal(mg_listen_check(&bad[i], 1, &err), 0);
		assert_non_null(strstr(err.message, bad[i]));
		assert_non_null(strstr(err.hint, "0.0.0.0"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_bad_address_is_told_what_to_write),
		cmocka_unit_test(test_plaintext_is_told_to_use_tls),
		cmocka_unit_test(test_postgres_asks_for_tls_in_its_own_way),
		cmocka_unit_test(test_silence_is_closed_in_every_phase),
		cmocka_unit_test(test_idle_limit_closes_and_says_why),
		cmocka_unit_test(test_connections_over_the_limit_are_closed),
		cmocka_unit_test(test_listener_survives_a_process_without_descriptors),
		cmocka_unit_test(test_crowd_comes_and_goes_in_every_way),
		cmocka_unit_test(test_port_in_use_is_an_error_that_says_so),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
