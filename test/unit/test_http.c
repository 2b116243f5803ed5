/* HTTP over real sockets: parsing, limits, refusals, deferred answers, streams and their
 * back-pressure. */
#include "net_kit.h"

static struct kit_server server;

/* ---- the server's side ---- */

enum { BLOCK = 100000, BIG_BLOCKS = 640 }; /* 64 MB: far more than all buffers together */

struct stream_job {
	struct mg_stream *stream;
	pthread_t thread;
	int blocks;
	bool fail_at_end;
	struct kit_gate waits, done;
	int status;
};

static struct stream_job job;

static void on_before(void *arg)
{
	kit_gate_add(&((struct stream_job *)arg)->waits, 1);
}

static void *produce(void *arg)
{
	struct stream_job *me = arg;

	for (int i = 0; i < me->blocks && me->status == 0; i++) {
		struct mg_buf *buf = mg_buf_new(BLOCK);

		memset(buf->data, 'a' + i % 26, BLOCK);
		buf->size = BLOCK;
		me->status = mg_stream_put(me->stream, buf, NULL);
		mg_buf_unref(buf);
	}
	if (me->fail_at_end) {
		mg_stream_fail(me->stream);
	} else {
		mg_stream_finish(me->stream);
	}
	kit_gate_add(&me->done, 1);
	return NULL;
}

static void start_stream(struct mg_http_request *request, int blocks, bool fail_at_end)
{
	job = (struct stream_job){
		.blocks = blocks, .fail_at_end = fail_at_end, .waits = KIT_GATE, .done = KIT_GATE
	};
	job.stream = mg_stream_new(mg_conn_loop(mg_http_conn(request)), NULL, NULL);
	mg_stream_on_wait(job.stream, on_before, NULL, &job);
	mg_http_reply_stream(request, 200, "application/octet-stream", NULL, job.stream);
	if (pthread_create(&job.thread, NULL, produce, &job) != 0) {
		abort();
	}
}

static void end_stream(void)
{
	pthread_join(job.thread, NULL);
	mg_stream_unref(job.stream);
}

/* Deferred requests wait here for the test. */
static struct mg_http_request *held;
static struct mg_loop *held_loop;
static struct kit_gate held_gate = KIT_GATE, gone_gate = KIT_GATE;

static void on_gone(void *arg)
{
	(void)arg;
	kit_gate_add(&gone_gate, 1);
}

static void reply_text(struct mg_http_request *request, const char *text)
{
	mg_http_reply(request, 200, "text/plain", text, strlen(text), NULL);
}

/* ---- a body that is not collected: it is paused after each piece, and summed ---- */

struct summed {
	struct mg_http_request *request;
	struct mg_loop *loop;
	size_t bytes;
	unsigned sum, pieces;
};

static void sum_goes_on(void *arg)
{
	struct summed *summed = arg;

	mg_http_pause_body(summed->request, false);
}

static void sum_piece(void *arg, const uint8_t *bytes, size_t size)
{
	struct summed *summed = arg;

	for (size_t i = 0; i < size; i++) {
		summed->sum = summed->sum * 31 + bytes[i];
	}
	summed->bytes += size;
	summed->pieces++;
	mg_http_pause_body(summed->request, true);
	mg_loop_post(summed->loop, sum_goes_on, summed);
}

static void sum_answer(void *arg)
{
	struct summed *summed = arg;
	char text[80];

	(void)snprintf(text, sizeof text, "%zu bytes, %u", summed->bytes, summed->sum);
	reply_text(summed->request, text);
}

static void sum_end(void *arg)
{
	struct summed *summed = arg;

	mg_loop_post(summed->loop, sum_answer, summed); /* behind those that go on */
}

static void sum_abort(void *arg)
{
	struct summed *summed = arg;

	mg_http_abort(summed->request);
	kit_gate_add(&gone_gate, 1);
}

static void sum_gone(void *arg)
{
	struct summed *summed = arg;

	mg_loop_post(summed->loop, sum_abort, summed);
}

static void sum_take(void *arg)
{
	static const struct mg_http_sink sum_sink = { .piece = sum_piece, .end = sum_end };
	struct summed *summed = arg;

	mg_http_take_body(summed->request, &sum_sink, summed);
}

static void sum_body(struct mg_http_request *request)
{
	struct summed *summed = mg_arena_alloc(mg_http_arena(request), sizeof *summed);

	*summed = (struct summed){ .request = request, .loop = mg_conn_loop(mg_http_conn(request)) };
	mg_http_defer(request, sum_gone, summed);
	if (!mg_http_is_streamed(request)) {
		sum_end(summed);
	} else if (mg_http_query(request, "later")) {
		mg_loop_post(summed->loop, sum_take, summed);
	} else {
		sum_take(summed);
	}
}

static void on_request(struct mg_http_request *request, void *arg)
{
	const char *path = mg_http_path(request);
	struct mg_str body = mg_http_body(request);
	const char *user = "none";
	const char *password = "none";
	char text[512];

	(void)arg;
	if (strcmp(path, "/echo") == 0) {
		mg_http_reply(request, 200, "text/plain", body.ptr, body.len, "X-Extra: yes\r\n");
	} else if (strcmp(path, "/hold") == 0) {
		held = request;
		held_loop = mg_conn_loop(mg_http_conn(request));
		mg_http_defer(request, on_gone, NULL);
		kit_gate_add(&held_gate, 1);
	} else if (strcmp(path, "/sum") == 0) {
		sum_body(request);
	} else if (strcmp(path, "/big") == 0) {
		start_stream(request, BIG_BLOCKS, false);
	} else if (strcmp(path, "/broken") == 0) {
		start_stream(request, 3, true);
	} else if (strcmp(path, "/short") == 0) {
		start_stream(request, 2, false);
	} else if (strcmp(path, "/error") == 0) {
		struct mg_error err = { 0 };

		(void)mg_error_set(&err, MG_E_NO_TABLE, "table \"x\" is not there");
		mg_http_reply_error(request, &err);
	} else if (strcmp(path, "/mute") == 0) {
		return;
	} else if (strcmp(path, "/abort") == 0) {
		mg_http_abort(request);
	} else {
		const char *q = mg_http_query(request, "q");

		(void)mg_http_basic(request, &user, &password);
		(void)snprintf(text, sizeof text, "%s %s q=%s user=%s password=%s", mg_http_method(request),
		               path, q != NULL ? q : "none", user, password);
		reply_text(request, text);
	}
}

static size_t on_head(struct mg_http_request *request, void *arg)
{
	(void)arg;
	if (strcmp(mg_http_path(request), "/denied") == 0) {
		struct mg_error err = { 0 };

		(void)mg_error_set(&err, MG_E_AUTH, "who are you");
		mg_http_reply_error(request, &err);
		return 0;
	}
	if (strncmp(mg_http_path(request), "/sum", 4) == 0) {
		mg_http_stream_body(request);
		return 10 << 20;
	}
	return strcmp(mg_http_path(request), "/echo") == 0 ? 300000 : 1000;
}

static int setup(void **state)
{
	(void)state;
	server.http = (struct mg_http_handler){ .head = on_head, .request = on_request };
	kit_server_start(&server, NULL, (struct mg_listen_options){ .connections_max = 100 });
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kit_server_stop(&server);
	return 0;
}

/* What the server says to bytes, up to the end of the connection. */
static char *talk(const void *bytes, size_t size)
{
	struct kit_peer peer = kit_peer_open(&server);

	kit_peer_send(&peer, bytes, size);
	char *answer = kit_peer_all(&peer, NULL);

	kit_peer_close(&peer);
	return answer;
}

static int count(const char *text, const char *part)
{
	int n = 0;

	for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
		n++;
	}
	return n;
}

#define CLOSE "Host: x\r\nConnection: close\r\n"

/* ---- ordinary life ---- */

static void test_request_is_decoded(void **state)
{
	static const char request[] = "GET /a%20b/%C3%A4?x=1&q=c%2Bd+e HTTP/1.1\r\n" CLOSE
								  "Authorization: Basic c2NvdHQ6dGk6Z2Vy\r\n\r\n";
	char *answer = talk(request, strlen(request));

	(void)state;
	assert_non_null(strstr(answer, "GET /a b/\xC3\xA4 q=c+d e user=scott password=ti:ger"));
	free(answer);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
	static const char requests[] = "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: "
	                               "x\r\nContent-Length: 4\r\n\r\ntwo!"
								   "GET /3 HTTP/1.1\r\n" CLOSE "\r\n";
	(void)state;
	for (size_t step = 1; step < sizeof requests; step += 7) { /* cut in all sorts of places */
		struct kit_peer peer = kit_peer_open(&server);

		kit_peer_send(&peer, requests, step);
		kit_peer_send(&peer, requests + step, strlen(requests) - step);
		char *answer = kit_peer_all(&peer, NULL);
		const char *one = strstr(answer, "GET /1");
		const char *two = strstr(answer, "two!");
		const char *three = strstr(answer, "GET /3");

		assert_true(one != NULL && two > one && three > two);
		assert_int_equal(count(answer, "HTTP/1.1 200 OK"), 3);
		free(answer);
		kit_peer_close(&peer);
	}
}

static void test_body_comes_chunked_too(void **state)
{
	static const char request[] =
		"POST /echo HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n"
		"5;ext=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n";
	char *answer = talk(request, strlen(request));

	(void)state;
	assert_non_null(strstr(answer, "hello world"));
	assert_non_null(strstr(answer, "X-Extra: yes"));
	free(answer);
}

static void test_client_that_expects_100_gets_it(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);

	(void)state;
	kit_peer_say(&peer, "POST /echo HTTP/1.1\r\n" CLOSE
	                    "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	char *answer = kit_peer_until(&peer, "\r\n\r\n");

	assert_non_null(strstr(answer, "HTTP/1.1 100 Continue"));
	free(answer);
	kit_peer_say(&peer, "ok");
	answer = kit_peer_all(&peer, NULL);
	assert_non_null(strstr(answer, "\r\n\r\nok"));
	free(answer);
	kit_peer_close(&peer);
}

static void test_head_has_the_headers_and_no_body(void **state)
{
	static const char request[] =
		"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\n" CLOSE "\r\n";
	char *answer = talk(request, strlen(request));

	(void)state;
	assert_non_null(strstr(answer, "Content-Length: 0"));
	assert_non_null(strstr(answer, "\r\n\r\nHTTP/1.1 200 OK"));
	free(answer);
}

static void test_http10_closes_unless_asked_and_streams_without_chunks(void **state)
{
	static const char request[] = "GET /short HTTP/1.0\r\n\r\n";
	char *answer = talk(request, strlen(request));

	(void)state;
	end_stream();
	assert_non_null(strstr(answer, "HTTP/1.0 200 OK"));
	assert_null(strstr(answer, "chunked"));
	assert_int_equal(strlen(strstr(answer, "\r\n\r\n") + 4), 2 * BLOCK);
	free(answer);
}

static void test_half_closed_client_gets_its_answer(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);

	(void)state;
	kit_peer_say(&peer, "GET /half HTTP/1.1\r\nHost: x\r\n\r\n");
	(void)shutdown(peer.fd, SHUT_WR);
	char *answer = kit_peer_all(&peer, NULL);

	assert_non_null(strstr(answer, "GET /half"));
	free(answer);
	kit_peer_close(&peer);
}

static void test_errors_are_json_with_a_fitting_status(void **state)
{
	static const char request[] = "GET /error HTTP/1.1\r\n" CLOSE "\r\n";
	char *answer = talk(request, strlen(request));

	(void)state;
	assert_non_null(strstr(answer, "HTTP/1.1 400 Bad Request"));
	assert_non_null(
		strstr(answer, "\"sqlstate\":\"42P01\",\"message\":\"table \\\"x\\\" is not there\""));
	free(answer);
	static const char denied[] = "POST /denied HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";

	answer = talk(denied, strlen(denied));
	assert_non_null(strstr(answer, "HTTP/1.1 401 Unauthorized"));
	assert_non_null(strstr(answer, "WWW-Authenticate: Basic"));
	assert_non_null(strstr(answer, "Connection: close"));
	free(answer);
	static const char mute[] = "GET /mute HTTP/1.1\r\nHost: x\r\n\r\n";

	answer = talk(mute, strlen(mute));
	assert_non_null(strstr(answer, "HTTP/1.1 500"));
	free(answer);
}

static void test_refusal_of_a_bodiless_request_keeps_the_connection(void **state)
{
	static const char requests[] =
		"GET /denied HTTP/1.1\r\nHost: x\r\n\r\nGET /after HTTP/1.1\r\n" CLOSE "\r\n";
	char *answer = talk(requests, strlen(requests));

	(void)state;
	assert_non_null(strstr(answer, "HTTP/1.1 401"));
	assert_non_null(strstr(answer, "GET /after"));
	free(answer);
}

/* ---- refusals ---- */

struct bad {
	const char *name, *bytes;
	const char *status;
};

static void test_smuggling_shapes_are_refused_and_the_connection_ends(void **state)
{
	static const struct bad table[] = {
		{ "both lengths",
		  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: "
		  "chunked\r\n\r\n0\r\n\r\n",
		  "400" },
		{ "both, other order",
		  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: "
		  "3\r\n\r\n0\r\n\r\n",
		  "400" },
		{ "two lengths",
		  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400" },
		{ "list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", "400" },
		{ "signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", "400" },
		{ "huge length",
		  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na", "400" },
		{ "bare LF", "GET / HTTP/1.1\nHost: x\n\n", "400" },
		{ "bare LF in headers", "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "400" },
		{ "space before colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400" },
		{ "folded header", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "400" },
		{ "other coding",
		  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		  "501" },
		{ "chunked twice",
		  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		  "" },
		{ "broken coding",
		  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "" },
		{ "bad chunk size",
		  "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
		  "chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
		  "400" },
		{ "no host", "GET / HTTP/1.1\r\n\r\n", "400" },
		{ "two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400" },
		{ "zero byte in path", "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", "400" },
		{ "cut escape in path", "GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n", "400" },
		{ "cut escape in query", "GET /?q=%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400" },
		{ "HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505" },
		{ "no HTTP", "*1\r\n$4\r\nPING\r\n", "400" },
		{ "noise", "\x80\x81\x82\x83\r\n\r\n", "400" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char text[1024];
		/* A second request behind: it must never be answered. */
		int len = snprintf(text, sizeof text, "%sGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
		                   table[i].bytes);
		char *answer = talk(text, (size_t)len);

		if (strncmp(answer, "HTTP/1.1 ", 9) != 0 || (answer[9] != '4' && answer[9] != '5') ||
		    strncmp(answer + 9, table[i].status, strlen(table[i].status)) != 0 ||
		    strstr(answer, "smuggled") != NULL || count(answer, "HTTP/1.1") != 1) {
			fail_msg("%s: %s", table[i].name, answer);
		}
		free(answer);
	}
}

static void test_limits_are_kept(void **state)
{
	struct mg_sb text = { 0 };

	(void)state;
	mg_sb_add(&text, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
	for (int i = 0; i < 70000; i++) {
		mg_sb_add_char(&text, 'x');
	}
	char *answer = talk(text.ptr, text.len);

	assert_non_null(strstr(answer, "HTTP/1.1 431"));
	free(answer);
	mg_sb_clear(&text);
	mg_sb_add(&text, "GET / HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < 100; i++) {
		mg_sb_add(&text, "A: b\r\n");
	}
	answer = talk(text.ptr, text.len);
	assert_non_null(strstr(answer, "HTTP/1.1 431"));
	free(answer);
	static const char announced[] =
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 300001\r\n\r\n";

	answer = talk(announced, strlen(announced));
	assert_non_null(strstr(answer, "HTTP/1.1 413"));
	free(answer);
	mg_sb_clear(&text);
	mg_sb_add(&text, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 4; i++) { /* 4 times 98,304 bytes, announced by nothing */
		mg_sb_add(&text, "18000\r\n");
		for (int j = 0; j < 0x18000; j++) {
			mg_sb_add_char(&text, 'y');
		}
		mg_sb_add(&text, "\r\n");
	}
	answer = talk(text.ptr, text.len);
	assert_non_null(strstr(answer, "HTTP/1.1 413"));
	free(answer);
	mg_sb_fini(&text);
}

/* ---- bodies that are not collected ---- */

/* A request at `path` with a body of so many bytes, in chunks of so many when that is not 0, and
 * what the server should answer. */
static void add_sum(struct mg_sb *out, const char *path, size_t size, size_t chunk, char *answer,
                    size_t room)
{
	char *body = malloc(size + 1);
	unsigned sum = 0;

	for (size_t i = 0; i < size; i++) {
		body[i] = (char)(i * 7 + i / 251);
		sum = sum * 31 + (uint8_t)body[i];
	}
	mg_sb_addf(out, "PUT %s HTTP/1.1\r\nHost: x\r\n", path);
	if (!chunk) {
		mg_sb_addf(out, "Content-Length: %zu\r\n\r\n", size);
		mg_sb_add_len(out, body, size);
	} else {
		mg_sb_add(out, "Transfer-Encoding: chunked\r\n\r\n");
		for (size_t at = 0; at < size; at += chunk) {
			size_t part = size - at < chunk ? size - at : chunk;

			mg_sb_addf(out, "%zx\r\n", part);
			mg_sb_add_len(out, body + at, part);
			mg_sb_add(out, "\r\n");
		}
		mg_sb_add(out, "0\r\nTrailer: x\r\n\r\n");
	}
	(void)snprintf(answer, room, "%zu bytes, %u", size, sum);
	free(body);
}

static void test_streamed_bodies_come_whole_and_in_order(void **state)
{
	static const size_t sizes[] = { 0, 1, 1000, 70000, 3 << 20 }, chunks[] = { 0, 777, 100000 };

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++) {
			struct mg_sb requests = { 0 };
			char first[80], second[80];

			add_sum(&requests, i % 2 ? "/sum" : "/sum?later=1", sizes[i], chunks[k], first,
			        sizeof first);
			add_sum(&requests, "/sum", 5, 0, second, sizeof second);
			mg_sb_add(&requests, "GET /3 HTTP/1.1\r\n" CLOSE "\r\n");
			char *answer = talk(requests.ptr, requests.len);
			const char *one = strstr(answer, first), *three = strstr(answer, "GET /3");

			assert_non_null(one);
			assert_true(strstr(one + 1, second) > one && three > one);
			assert_int_equal(count(answer, "HTTP/1.1 200 OK"), 3);
			free(answer);
			mg_sb_fini(&requests);
		}
	}
}

static void test_who_answers_before_the_body_ends_the_connection(void **state)
{
	(void)state;
	char *answer = talk("PUT /sum/none HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nabc",
	                    strlen("PUT /sum/none HTTP/1.1\r\nHost: x\r\nContent-Length: "
	                           "9000000\r\n\r\nabc"));

	assert_int_equal(count(answer, "HTTP/1.1 200 OK"), 1);
	assert_non_null(strstr(answer, "Connection: close"));
	free(answer);
}

static void test_streamed_body_that_breaks_off_or_is_none(void **state)
{
	static const char *const wrong[] = { "3\r\nabc\r\nzz\r\n", "3\r\nabcd\r\n", "3\r\nabc" };

	(void)state;
	kit_gate_reset(&gone_gate);
	for (size_t i = 0; i < 3; i++) {
		struct kit_peer peer = kit_peer_open(&server);

		kit_peer_say(&peer, "PUT /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
		kit_peer_say(&peer, wrong[i]);
		if (i < 2) {
			char *answer = kit_peer_all(&peer, NULL);

			assert_string_equal(answer, "");
			free(answer);
		}
		kit_peer_close(&peer);
		assert_true(kit_gate_wait(&gone_gate, (int)i + 1));
	}
}

/* ---- deferred ---- */

static void answer_held(void *arg)
{
	reply_text(held, arg);
}

static void test_deferred_request_is_answered_later_and_keeps_order(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);

	(void)state;
	kit_gate_reset(&held_gate);
	kit_peer_say(&peer,
	             "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\n" CLOSE "\r\n");
	assert_true(kit_gate_wait(&held_gate, 1));
	mg_loop_post(held_loop, answer_held, "late");
	char *answer = kit_peer_all(&peer, NULL);

	assert_true(strstr(answer, "late") < strstr(answer, "GET /second"));
	assert_non_null(strstr(answer, "GET /second"));
	free(answer);
	kit_peer_close(&peer);
}

static void test_client_that_goes_away_is_noticed_while_its_request_waits(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);

	(void)state;
	kit_gate_reset(&held_gate);
	kit_gate_reset(&gone_gate);
	kit_peer_say(&peer, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(kit_gate_wait(&held_gate, 1));
	kit_peer_close(&peer);
	assert_true(kit_gate_wait(&gone_gate, 1));
	kit_on_loop(held_loop, answer_held, "nobody"); /* frees it; ASan would tell */
}

static void test_abort_is_seen_as_broken(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);
	bool clean = true;

	(void)state;
	kit_peer_say(&peer, "GET /abort HTTP/1.1\r\nHost: x\r\n\r\n");
	char *answer = kit_peer_all(&peer, &clean);

	assert_false(clean);
	assert_string_equal(answer, "");
	free(answer);
	kit_peer_close(&peer);
}

/* ---- streams ---- */

static long resident_kb(void)
{
	long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
	(void)fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static size_t chunked_size(const char *body, bool *ended)
{
	size_t sum = 0;

	*ended = false;
	for (;;) {
		char *end = NULL;
		size_t size = strtoul(body, &end, 16);

		if (end == body || strncmp(end, "\r\n", 2) != 0) {
			return sum;
		}
		if (size == 0) {
			*ended = strcmp(end, "\r\n\r\n") == 0;
			return sum;
		}
		sum += size;
		body = end + 2 + size + 2;
	}
}

static void test_slow_reader_bounds_what_the_server_holds(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);
	bool ended = false;

	(void)state;
	kit_peer_say(&peer, "GET /big HTTP/1.1\r\n" CLOSE "\r\n");
	char *head = kit_peer_until(&peer, "\r\n\r\n");

	free(head);
	long before = resident_kb();

	/* The client sleeps: the producer must come to rest, with 4 MB and a block in the stream. */
	assert_true(kit_gate_wait(&job.waits, 1));
	assert_true(mg_stream_queued(job.stream) < MG_STREAM_HIGH + BLOCK);
	assert_true(resident_kb() - before < 24 * 1024);
	char *body = kit_peer_all(&peer, NULL);

	end_stream();
	assert_int_equal(job.status, 0);
	assert_int_equal(chunked_size(body, &ended), (size_t)BIG_BLOCKS * BLOCK);
	assert_true(ended);
	free(body);
	kit_peer_close(&peer);
}

static void test_client_killed_in_a_stream_frees_its_producer(void **state)
{
	struct kit_peer peer = kit_peer_open(&server);

	(void)state;
	kit_peer_say(&peer, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	char *head = kit_peer_until(&peer, "\r\n\r\n");

	free(head);
	assert_true(kit_gate_wait(&job.waits, 1));
	kit_peer_kill(&peer);
	assert_true(kit_gate_wait(&job.done, 1));
	end_stream();
	assert_int_equal(job.status, MG_E_DISCONNECTED);
}

static void test_failed_stream_never_looks_complete(void **state)
{
	static const char *const versions[] = { "1.1", "1.0" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct kit_peer peer = kit_peer_open(&server);
		char request[64];
		bool clean = true;
		bool ended = false;

		(void)snprintf(request, sizeof request, "GET /broken HTTP/%s\r\nHost: x\r\n\r\n",
		               versions[i]);
		kit_peer_say(&peer, request);
		char *answer = kit_peer_all(&peer, &clean);
		char *body = strstr(answer, "\r\n\r\n");

		end_stream();
		assert_false(clean);
		(void)chunked_size(body != NULL ? body + 4 : "", &ended);
		assert_false(ended);
		free(answer);
		kit_peer_close(&peer);
	}
}

static void test_client_that_reads_no_answers_is_not_read_from(void **state)
{
	static const char request[] = "GET /error HTTP/1.1\r\nHost: x\r\n\r\n";
	struct kit_peer peer = kit_peer_open(&server);
	struct timeval short_time = { .tv_usec = 300000 };
	size_t sent = 0;
	ssize_t got = 0;

	(void)state;
	(void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &short_time, sizeof short_time);
	while (sent < (64u << 20) && (got = kit_peer_write(&peer, request, strlen(request))) > 0) {
		sent += (size_t)got;
	}
	assert_true(got < 0); /* At some time it takes no more: its memory is bounded. */
	char bytes[65536];

	assert_true(kit_peer_read(&peer, bytes, sizeof bytes) > 0);
	kit_peer_kill(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_is_decoded),
		cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
		cmocka_unit_test(test_body_comes_chunked_too),
		cmocka_unit_test(test_client_that_expects_100_gets_it),
		cmocka_unit_test(test_streamed_bodies_come_whole_and_in_order),
		cmocka_unit_test(test_who_answers_before_the_body_ends_the_connection),
		cmocka_unit_test(test_streamed_body_that_breaks_off_or_is_none),
		cmocka_unit_test(test_head_has_the_headers_and_no_body),
		cmocka_unit_test(test_http10_closes_unless_asked_and_streams_without_chunks),
		cmocka_unit_test(test_half_closed_client_gets_its_answer),
		cmocka_unit_test(test_errors_are_json_with_a_fitting_status),
		cmocka_unit_test(test_refusal_of_a_bodiless_request_keeps_the_connection),
		cmocka_unit_test(test_smuggling_shapes_are_refused_and_the_connection_ends),
		cmocka_unit_test(test_limits_are_kept),
		cmocka_unit_test(test_deferred_request_is_answered_later_and_keeps_order),
		cmocka_unit_test(test_client_that_goes_away_is_noticed_while_its_request_waits),
		cmocka_unit_test(test_abort_is_seen_as_broken),
		cmocka_unit_test(test_slow_reader_bounds_what_the_server_holds),
		cmocka_unit_test(test_client_killed_in_a_stream_frees_its_producer),
		cmocka_unit_test(test_failed_stream_never_looks_complete),
		cmocka_unit_test(test_client_that_reads_no_answers_is_not_read_from),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
