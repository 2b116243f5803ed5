/* WebSockets: our client against our server over TLS and plaintext, and a raw client that breaks
 * rules. */
#include <stdatomic.h>

#include "net_kit.h"

enum { MESSAGE_MAX = 16 << 20 };

static struct kit_server server;
static struct kit_certs certs;

/* ---- the server's side: an echo ---- */

enum { FLOOD_BLOCK = 100000, FLOOD_BLOCKS = 640 }; /* 64 MB */

struct socket_state {
	int texts, binaries;
	int flood; /* blocks still to send */
};

static struct kit_gate flood_waits = KIT_GATE;
static atomic_size_t flood_peak;

static struct kit_gate server_closed = KIT_GATE;
static struct kit_gate sockets_closed = KIT_GATE; /* of all tests together */
static atomic_long sockets_opened;
static pthread_mutex_t close_lock = PTHREAD_MUTEX_INITIALIZER; /* two loops may close at once */
static int server_close_code;
static char server_close_reason[256];

/* As a door would: as much as the queue takes, the rest when it has drained. */
static void on_server_drain(struct mg_ws *ws, void *state)
{
	struct socket_state *socket = state;

	while (socket->flood > 0 && mg_ws_queued(ws) < MG_STREAM_LOW) {
		struct mg_buf *buf = mg_buf_new(FLOOD_BLOCK);

		buf->size = FLOOD_BLOCK;
		memset(buf->data, FLOOD_BLOCKS - socket->flood, FLOOD_BLOCK);
		mg_ws_send_binary(ws, "", 0, buf);
		mg_buf_unref(buf);
		socket->flood--;
	}
	if (mg_ws_queued(ws) > atomic_load(&flood_peak)) {
		atomic_store(&flood_peak, mg_ws_queued(ws));
	}
	if (socket->flood > 0) {
		kit_gate_add(&flood_waits, 1);
	}
}

static void on_server_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	struct socket_state *socket = state;

	socket->texts++;
	if (strcmp(text, "flood") == 0) {
		socket->flood = FLOOD_BLOCKS;
		on_server_drain(ws, socket);
	} else if (strcmp(text, "close me") == 0) {
		mg_ws_close(ws, 1000, "as you wish");
	} else if (strcmp(text, "ping me") == 0) {
		mg_ws_ping(ws);
		mg_ws_send_text(ws, "pinged", 6);
	} else {
		mg_ws_send_text(ws, text, len);
	}
}

static void on_server_binary(struct mg_ws *ws, void *state, struct mg_buf *message)
{
	struct socket_state *socket = state;

	socket->binaries++;
	mg_ws_send_binary(ws, "HEAD", 4, message);
}

static void on_server_closed(struct mg_ws *ws, void *state, int code, const char *reason)
{
	(void)ws;
	pthread_mutex_lock(&close_lock);
	server_close_code = code;
	(void)snprintf(server_close_reason, sizeof server_close_reason, "%s", reason);
	pthread_mutex_unlock(&close_lock);
	free(state);
	kit_gate_add(&server_closed, 1);
	kit_gate_add(&sockets_closed, 1);
}

static const struct mg_ws_handler server_handler = {
	.text = on_server_text,
	.binary = on_server_binary,
	.drain = on_server_drain,
	.closed = on_server_closed,
	.message_max = MESSAGE_MAX,
};

static struct mg_http_request *held;

static void accept_held(void *arg)
{
	struct socket_state *state = calloc(1, sizeof *state);

	(void)arg;
	if (mg_ws_accept(held, &server_handler, state) == NULL) {
		free(state);
	} else {
		atomic_fetch_add(&sockets_opened, 1);
	}
}

static void on_request(struct mg_http_request *request, void *arg)
{
	const char *user = "";
	const char *password = "";

	(void)arg;
	if (strcmp(mg_http_path(request), "/client") == 0 && mg_http_basic(request, &user, &password) &&
	    strcmp(password, "tiger") != 0) {
		mg_http_reply(request, 401, "text/plain", "wrong password\n", 15, NULL);
	} else if (strcmp(mg_http_path(request), "/late") == 0) {
		held = request;
		mg_http_defer(request, NULL, NULL);
		mg_loop_post(mg_conn_loop(mg_http_conn(request)), accept_held, NULL);
	} else {
		held = request;
		accept_held(NULL);
	}
}

/* ---- our client ---- */

struct client {
	struct mg_loop *loop;
	struct mg_ws *ws;
	const char *host_port, *path, *headers;
	struct mg_error err;
	int opened_status, close_code;
	char close_reason[256];
	char text[256];
	struct mg_buf *binary;
	struct mg_buf *to_send;
	struct kit_gate dialled, opened, messages, closed;
};

static void on_client_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	struct client *client = state;

	(void)ws;
	(void)len;
	(void)snprintf(client->text, sizeof client->text, "%s", text);
	kit_gate_add(&client->messages, 1);
}

static void on_client_binary(struct mg_ws *ws, void *state, struct mg_buf *message)
{
	struct client *client = state;

	(void)ws;
	mg_buf_unref(client->binary);
	client->binary = mg_buf_ref(message);
	kit_gate_add(&client->messages, 1);
}

static void on_client_closed(struct mg_ws *ws, void *state, int code, const char *reason)
{
	struct client *client = state;

	(void)ws;
	client->ws = NULL;
	client->close_code = code;
	(void)snprintf(client->close_reason, sizeof client->close_reason, "%s", reason);
	kit_gate_add(&client->closed, 1);
}

static const struct mg_ws_handler client_handler = {
	.text = on_client_text,
	.binary = on_client_binary,
	.closed = on_client_closed,
	.message_max = MESSAGE_MAX + 4,
};

static void on_opened(struct mg_ws *ws, void *state, int http_status)
{
	struct client *client = state;

	(void)ws;
	client->opened_status = http_status;
	kit_gate_add(&client->opened, 1);
}

static void on_dialled(struct mg_conn *conn, const struct mg_error *err, void *arg)
{
	struct client *client = arg;

	if (conn != NULL) {
		client->ws = mg_ws_connect(conn, "localhost", client->path, client->headers,
		                           &client_handler, on_opened, client);
	} else {
		client->err = *err;
	}
	kit_gate_add(&client->dialled, 1);
}

static void client_start(struct client *client, const char *path, const char *headers, bool tls)
{
	struct mg_tls_client_options options = { .roots_file = certs.ca };
	struct mg_tls *roots = NULL;
	struct mg_error err = { 0 };
	char address[32];

	*client = (struct client){ .path = path,
		                       .headers = headers,
		                       .dialled = KIT_GATE,
		                       .opened = KIT_GATE,
		                       .messages = KIT_GATE,
		                       .closed = KIT_GATE };
	if (tls) {
		kit_must(mg_tls_client(&roots, &options, &err), &err);
	}
	kit_must(mg_loop_start(&client->loop, "client", &err), &err);
	(void)snprintf(address, sizeof address, "localhost:%u", mg_listener_port(server.listener));
	mg_dial(client->loop, address, roots, 10000, on_dialled, client);
	mg_tls_unref(roots);
	assert_true(kit_gate_wait(&client->dialled, 1));
	if (client->err.code != 0) {
		fail_msg("%s", client->err.message);
	}
}

static void client_stop(struct client *client)
{
	mg_loop_stop(client->loop);
	mg_buf_unref(client->binary);
}

static void send_text(void *arg)
{
	struct client *client = arg;

	mg_ws_send_text(client->ws, client->text, strlen(client->text));
}

static void send_binary(void *arg)
{
	struct client *client = arg;

	mg_ws_send_binary(client->ws, "", 0, client->to_send);
}

static void say(struct client *client, const char *text)
{
	(void)snprintf(client->text, sizeof client->text, "%s", text);
	kit_on_loop(client->loop, send_text, client);
}

static int setup(void **state)
{
	(void)state;
	kit_certs_make(&certs, "node-1");
	server.http = (struct mg_http_handler){ .request = on_request };
	kit_server_start(&server, &certs, (struct mg_listen_options){ .plain_loopback = true });
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_server_stop(&server);
	kit_certs_remove(&certs);
	return 0;
}

/* After each test: whatever was opened is closed, so the next one counts only its own. */
static int wait_for_all_closed(void **state)
{
	(void)state;
	return kit_gate_wait(&sockets_closed, atomic_load(&sockets_opened)) ? 0 : -1;
}

/* ---- our client and our server ---- */

static struct mg_buf *pattern(size_t size)
{
	struct mg_buf *buf = mg_buf_new(size + 1);

	for (size_t i = 0; i < size; i++) {
		buf->data[i] = (uint8_t)(i * 31 + (i >> 12));
	}
	buf->size = size;
	return buf;
}

static void echo_sizes(bool tls, const char *path)
{
	static const size_t sizes[] = { 0, 1, 125, 126, 65535, 65536, 1000003, MESSAGE_MAX };
	struct client client;
	long messages = 0;

	client_start(&client, path, NULL, tls);
	assert_true(kit_gate_wait(&client.opened, 1));
	assert_int_equal(client.opened_status, 101);
	say(&client, "gr\xC3\xBC\xC3\x9F dich");
	assert_true(kit_gate_wait(&client.messages, ++messages));
	assert_string_equal(client.text, "gr\xC3\xBC\xC3\x9F dich");
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		client.to_send = pattern(sizes[i]);
		kit_on_loop(client.loop, send_binary, &client);
		assert_true(kit_gate_wait(&client.messages, ++messages));
		assert_int_equal(client.binary->size, sizes[i] + 4);
		assert_memory_equal(client.binary->data, "HEAD", 4);
		assert_memory_equal(client.binary->data + 4, client.to_send->data, sizes[i]);
		mg_buf_unref(client.to_send);
	}
	say(&client, "ping me");
	assert_true(kit_gate_wait(&client.messages, ++messages));
	assert_string_equal(client.text, "pinged");
	kit_gate_reset(&server_closed);
	say(&client, "close me");
	assert_true(kit_gate_wait(&client.closed, 1));
	assert_int_equal(client.close_code, 1000);
	assert_string_equal(client.close_reason, "as you wish");
	assert_true(kit_gate_wait(&server_closed, 1));
	assert_int_equal(server_close_code, 1000);
	client_stop(&client);
}

static void test_messages_of_all_sizes_come_back_over_tls(void **state)
{
	(void)state;
	echo_sizes(true, "/client");
}

static void test_messages_of_all_sizes_come_back_over_plaintext(void **state)
{
	(void)state;
	echo_sizes(false, "/client");
}

static void test_deferred_request_can_be_upgraded(void **state)
{
	(void)state;
	echo_sizes(true, "/late");
}

static void close_from_client(void *arg)
{
	mg_ws_close(((struct client *)arg)->ws, 1001, "going");
}

static void test_close_of_the_client_reaches_the_server(void **state)
{
	struct client client;

	(void)state;
	kit_gate_reset(&server_closed);
	client_start(&client, "/client", NULL, true);
	assert_true(kit_gate_wait(&client.opened, 1));
	kit_on_loop(client.loop, close_from_client, &client);
	assert_true(kit_gate_wait(&server_closed, 1));
	assert_int_equal(server_close_code, 1001);
	assert_string_equal(server_close_reason, "going");
	assert_true(kit_gate_wait(&client.closed, 1));
	client_stop(&client);
}

static void test_message_over_the_limit_closes_with_1009(void **state)
{
	struct client client;

	(void)state;
	kit_gate_reset(&server_closed);
	client_start(&client, "/client", NULL, true);
	assert_true(kit_gate_wait(&client.opened, 1));
	client.to_send = pattern(MESSAGE_MAX + 1);
	kit_on_loop(client.loop, send_binary, &client);
	assert_true(kit_gate_wait(&client.closed, 1));
	assert_true(kit_gate_wait(&server_closed, 1));
	assert_int_equal(server_close_code, 1009);
	assert_int_equal(kit_gate_count(&client.messages), 0);
	mg_buf_unref(client.to_send);
	client_stop(&client);
}

static void test_refused_upgrade_tells_status_and_reason(void **state)
{
	struct client client;

	(void)state;
	client_start(&client, "/client", "Authorization: Basic c2NvdHQ6bGlvbg==\r\n", true);
	assert_true(kit_gate_wait(&client.closed, 1));
	assert_int_equal(kit_gate_count(&client.opened), 1);
	assert_int_equal(client.opened_status, 401);
	assert_non_null(strstr(client.close_reason, "wrong password"));
	client_stop(&client);
}

static void test_stopping_loop_closes_its_sockets(void **state)
{
	struct client client;

	(void)state;
	kit_gate_reset(&server_closed);
	client_start(&client, "/client", NULL, true);
	assert_true(kit_gate_wait(&client.opened, 1));
	client_stop(&client);
	assert_int_equal(kit_gate_count(&client.closed), 1);
	assert_true(kit_gate_wait(&server_closed, 1));
	assert_int_equal(server_close_code, 1006);
}

/* ---- a raw client ---- */

#define UPGRADE(extra)                                                                    \
	"GET /client HTTP/1.1\r\nHost: x:1\r\nUpgrade: websocket\r\nConnection: keep-alive, " \
	"Upgrade\r\n" extra "\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"

static struct kit_peer raw_open(void)
{
	struct kit_peer peer = kit_peer_open(&server);

	kit_peer_say(&peer, UPGRADE(KEY VERSION "Sec-WebSocket-Protocol: other, merganser.v1\r\n"));
	char *answer = kit_peer_until(&peer, "\r\n\r\n");

	assert_non_null(strstr(answer, "HTTP/1.1 101"));
	assert_non_null(strstr(
		answer, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")); /* the RFC's own example */
	assert_non_null(strstr(answer, "Sec-WebSocket-Protocol: merganser.v1"));
	free(answer);
	return peer;
}

static void raw_frame(struct kit_peer *peer, uint8_t first, const char *payload, size_t size)
{
	uint8_t head[8] = { first, (uint8_t)(0x80 | size), 1, 2, 3, 4 };
	uint8_t masked[125];

	for (size_t i = 0; i < size; i++) {
		masked[i] = (uint8_t)payload[i] ^ head[2 + i % 4];
	}
	kit_peer_send(peer, head, 6);
	kit_peer_send(peer, masked, size);
}

static void raw_expect(struct kit_peer *peer, const char *bytes, size_t size)
{
	char got[256];

	kit_peer_expect_size(peer, got, size);
	assert_memory_equal(got, bytes, size);
}

static void test_upgrades_that_are_none_are_refused(void **state)
{
	static const struct {
		const char *request, *status;
	} table[] = {
		{ "GET /client HTTP/1.1\r\nHost: x:1\r\nConnection: close\r\n\r\n", "426" },
		{ "GET /client HTTP/1.1\r\nHost: x:1\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n",
		  "426" },
		{ UPGRADE(KEY "Connection: close\r\n"), "426" },
		{ UPGRADE(KEY "Connection: close\r\nSec-WebSocket-Version: 8\r\n"), "426" },
		{ UPGRADE(VERSION "Connection: close\r\n"), "400" },
		{ UPGRADE(VERSION "Connection: close\r\nSec-WebSocket-Key: short\r\n"), "400" },
		{ UPGRADE(VERSION KEY KEY "Connection: close\r\n"), "400" },
		{ UPGRADE(VERSION KEY "Connection: close\r\nSec-WebSocket-Protocol: chat\r\n"), "400" },
		{ UPGRADE(VERSION KEY "Connection: close\r\nOrigin: https://evil.example\r\n"), "403" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct kit_peer peer = kit_peer_open(&server);

		kit_peer_say(&peer, table[i].request);
		char *answer = kit_peer_all(&peer, NULL);

		if (strncmp(answer, "HTTP/1.1 ", 9) != 0 || strncmp(answer + 9, table[i].status, 3) != 0) {
			fail_msg("%zu: %s", i, answer);
		}
		free(answer);
		kit_peer_close(&peer);
	}
	struct kit_peer peer = kit_peer_open(&server);

	kit_peer_say(&peer, UPGRADE(VERSION KEY "Origin: https://x:1\r\n"));
	char *answer = kit_peer_until(&peer, "\r\n\r\n");

	assert_non_null(strstr(answer, "HTTP/1.1 101"));
	free(answer);
	kit_peer_close(&peer);
}

static void test_fragments_are_joined_around_control_frames(void **state)
{
	struct kit_peer peer = raw_open();

	(void)state;
	raw_frame(&peer, 0x01, "Hel", 3);
	raw_frame(&peer, 0x89, "hi", 2);
	raw_expect(&peer, "\x8a\x02hi", 4); /* the pong comes at once */
	raw_frame(&peer, 0x00, "lo ", 3);
	raw_frame(&peer, 0x80, "you", 3);
	raw_expect(&peer, "\x81\x09Hello you", 11);
	raw_frame(&peer, 0x02, "a", 1);
	raw_frame(&peer, 0x00, "", 0);
	raw_frame(&peer, 0x80, "b", 1);
	raw_expect(&peer,
	           "\x82\x06"
	           "HEADab",
	           8);
	kit_peer_close(&peer);
}

static void test_frame_and_upgrade_in_one_packet(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);
	char bytes[512];
	int len = snprintf(bytes, sizeof bytes, "%s", UPGRADE(KEY VERSION));

	(void)state;
	memcpy(bytes + len, "\x81\x82\0\0\0\0hi", 8);
	kit_peer_send(&peer, bytes, (size_t)len + 8);
	char *answer = kit_peer_until(&peer, "\r\n\r\n");

	free(answer);
	raw_expect(&peer, "\x81\x02hi", 4);
	kit_peer_close(&peer);
}

static void test_every_byte_alone_is_as_good_as_all_together(void **state)
{
	struct kit_peer peer = raw_open();
	static const uint8_t frame[] = { 0x81,    0x85,    9,       8,       7,      6,
		                             'H' ^ 9, 'e' ^ 8, 'l' ^ 7, 'l' ^ 6, 'o' ^ 9 };

	(void)state;
	for (size_t i = 0; i < sizeof frame; i++) {
		kit_peer_send(&peer, frame + i, 1);
	}
	raw_expect(&peer, "\x81\x05Hello", 7);
	kit_peer_close(&peer);
}

static void test_binary_message_in_single_bytes_and_an_empty_one(void **state)
{
	struct kit_peer peer = raw_open();
	uint8_t frame[8 + 200] = { 0x82, 0xfe, 0, 200, 9, 8, 7, 6 };
	char expected[4 + 4 + 200] = "\x82\x7e\0\xccHEAD";

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		frame[8 + i] = (uint8_t)(i ^ frame[4 + i % 4]);
		expected[8 + i] = (char)i;
	}
	for (size_t step = 1; step < 40; step += 3) {
		for (size_t at = 0; at < sizeof frame; at += step) {
			size_t left = sizeof frame - at;

			kit_peer_send(&peer, frame + at, left < step ? left : step);
		}
		raw_expect(&peer, expected, sizeof expected);
	}
	kit_peer_send(&peer, "\x82\x80\1\2\3\4", 6); /* nothing behind it */
	raw_expect(&peer, "\x82\x04HEAD", 6);
	kit_peer_close(&peer);
}

static void test_client_that_sleeps_bounds_what_the_server_queues(void **state)
{
	struct kit_peer peer = raw_open();
	uint8_t head[10];
	char *block = malloc(FLOOD_BLOCK);

	(void)state;
	kit_gate_reset(&flood_waits);
	raw_frame(&peer, 0x81, "flood", 5);
	assert_true(kit_gate_wait(&flood_waits, 1)); /* its queue is full, and it waits for drain */
	for (int i = 0; i < FLOOD_BLOCKS; i++) {
		kit_peer_expect_size(&peer, head, sizeof head);
		assert_int_equal(head[1], 127);
		kit_peer_expect_size(&peer, block, FLOOD_BLOCK);
		assert_int_equal((uint8_t)block[FLOOD_BLOCK - 1], (uint8_t)i);
	}
	assert_true(atomic_load(&flood_peak) < MG_STREAM_LOW + 2 * FLOOD_BLOCK);
	free(block);
	kit_peer_close(&peer);
}

static void test_broken_frames_close_with_the_right_code(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t size;
		int code;
	} table[] = {
		{ "2^62 bytes", "\x82\xff\x40\0\0\0\0\0\0\0\1\2\3\4x", 15, 1009 },
		{ "2^63 bytes", "\x82\xff\x80\0\0\0\0\0\0\0\1\2\3\4", 14, 1002 },
		{ "message_max + 1", "\x82\xff\0\0\0\0\1\0\0\1\1\2\3\4x", 15, 1009 },
		{ "not masked",
		  "\x82\x03"
		  "abc",
		  5, 1002 },
		{ "reserved bit", "\xc2\x81\0\0\0\0a", 7, 1002 },
		{ "unknown opcode", "\x83\x81\0\0\0\0a", 7, 1002 },
		{ "long control frame", "\x89\xfe\0\x7e\0\0\0\0", 8, 1002 },
		{ "fragmented control frame", "\x09\x81\0\0\0\0a", 7, 1002 },
		{ "continuation of nothing", "\x80\x81\0\0\0\0a", 7, 1002 },
		{ "text that is no UTF-8", "\x81\x82\0\0\0\0\xff\xfe", 8, 1007 },
		{ "length not minimal", "\x82\xfe\0\x01\0\0\0\0a", 9, 1002 },
		{ "close with a reserved code", "\x88\x82\0\0\0\0\x03\xed", 8, 1002 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct kit_peer peer = raw_open();
		uint8_t answer[4] = { 0 };

		kit_gate_reset(&server_closed);
		kit_peer_send(&peer, table[i].bytes, table[i].size);
		for (size_t got = 0; got < 4; got++) {
			if (kit_peer_read(&peer, answer + got, 1) != 1) {
				fail_msg("%s: no close frame", table[i].name);
			}
		}
		if (answer[0] != 0x88 || answer[2] * 256 + answer[3] != table[i].code) {
			fail_msg("%s: closed with %d", table[i].name, answer[2] * 256 + answer[3]);
		}
		char *rest = kit_peer_all(&peer, NULL); /* and the connection ends */

		free(rest);
		assert_true(kit_gate_wait(&server_closed, 1));
		kit_peer_close(&peer);
	}
}

static void test_limit_counts_fragments_together(void **state)
{
	struct kit_peer peer = raw_open();
	uint8_t head[14] = { 0x02, 0xff, 0, 0, 0, 0, 0, 0x80, 0, 0 }; /* 8 MiB, mask 0 */
	uint8_t answer[4];
	char *zeros = calloc(1, 8 << 20);

	(void)state;
	kit_peer_send(&peer, head, sizeof head);
	kit_peer_send(&peer, zeros, 8 << 20);
	head[0] = 0x00;
	kit_peer_send(&peer, head, sizeof head);
	kit_peer_send(&peer, zeros, 8 << 20);
	kit_peer_send(&peer, "\0\x81\0\0\0\0a", 7); /* one byte more */
	kit_peer_expect_size(&peer, answer, 4);
	assert_int_equal(answer[0], 0x88);
	assert_int_equal(answer[2] * 256 + answer[3], 1009);
	free(zeros);
	kit_peer_close(&peer);
}

static void test_killed_client_is_an_abnormal_end(void **state)
{
	struct kit_peer peer = raw_open();

	(void)state;
	kit_gate_reset(&server_closed);
	kit_peer_send(&peer, "\x82\xff\0\0\0\0\0\x80\0\0\0\0\0\0only a part",
	              25); /* 8 MiB were announced */
	kit_peer_kill(&peer);
	assert_true(kit_gate_wait(&server_closed, 1));
	assert_int_equal(server_close_code, 1006);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_messages_of_all_sizes_come_back_over_tls,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_messages_of_all_sizes_come_back_over_plaintext,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_deferred_request_can_be_upgraded, wait_for_all_closed),
		cmocka_unit_test_teardown(test_close_of_the_client_reaches_the_server, wait_for_all_closed),
		cmocka_unit_test_teardown(test_message_over_the_limit_closes_with_1009,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_refused_upgrade_tells_status_and_reason,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_stopping_loop_closes_its_sockets, wait_for_all_closed),
		cmocka_unit_test_teardown(test_upgrades_that_are_none_are_refused, wait_for_all_closed),
		cmocka_unit_test_teardown(test_fragments_are_joined_around_control_frames,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_frame_and_upgrade_in_one_packet, wait_for_all_closed),
		cmocka_unit_test_teardown(test_every_byte_alone_is_as_good_as_all_together,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_binary_message_in_single_bytes_and_an_empty_one,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_client_that_sleeps_bounds_what_the_server_queues,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_broken_frames_close_with_the_right_code,
		                          wait_for_all_closed),
		cmocka_unit_test_teardown(test_limit_counts_fragments_together, wait_for_all_closed),
		cmocka_unit_test_teardown(test_killed_client_is_an_abnormal_end, wait_for_all_closed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
