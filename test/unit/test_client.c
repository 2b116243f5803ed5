/*
 * test_client.c - the C client against a server that speaks the protocol, breaks it, stalls, lies
 * and goes away.  Rows are real ones of DuckDB.
 *
 * The server acts by the text of the statement; each statement's name says what it does.
 */
#include "net_kit.h"

#include <signal.h>

#include "merganser.h"

#include "base/json.h"
#include "client/client.h"
#include "client/wire.h"
#include "codec/arrow_ipc.h"
#include "codec/seen.h"
#include "store/duck.h"

enum { ROWS = 5000 };

static struct kit_server plain, secure;
static struct kit_certs certs;
static struct mg_buf *schema_bytes, *batch_bytes[16];
static size_t batch_count;
static struct kit_gate cancels = KIT_GATE;

#define HELLO                                                                                     \
	"{\"type\":\"hello\",\"protocol\":1,\"version\":\"0.1.0\",\"engine\":\"v1.5.5\",\"cluster\":" \
	"\"c\","                                                                                      \
	"\"node\":\"server-1\",\"user\":\"scott\",\"session\":\"s-1\",\"nodes\":4,\"workers\":3,"     \
	"\"shards\":11,\"new\":{\"members\":[\"are\",\"ignored\"]}}"

/* ---- the server ------------------------------------------------------------------------------ */

static void send_text(struct mg_ws *ws, const char *fmt, unsigned id)
{
	char text[1024];
	int len = snprintf(text, sizeof text, fmt, id);

	mg_ws_send_text(ws, text, (size_t)len);
}

static void send_binary(struct mg_ws *ws, uint8_t kind, unsigned id, struct mg_buf *bytes)
{
	uint8_t head[16] = { kind, 0, 0, 0, (uint8_t)id, (uint8_t)(id >> 8) };

	mg_ws_send_binary(ws, head, sizeof head, bytes);
}

static void send_begin(struct mg_ws *ws, unsigned id)
{
	send_text(ws,
	          "{\"type\":\"begin\",\"id\":%u,\"statement\":1,\"query\":\"q-1\",\"verb\":\"SELECT\","
	          "\"columns\":[\"i\",\"t\"],\"types\":[\"BIGINT\",\"VARCHAR\"]}",
	          id);
}

static void send_end(struct mg_ws *ws, unsigned id)
{
	send_text(ws,
	          "{\"type\":\"end\",\"id\":%u,\"statement\":1,\"rows\":5000,\"bytes\":96,"
	          "\"elapsed_ms\":12.5,\"step\":\"cut\",\"reason\":\"why\",\"nodes\":4,\"workers\":3,"
	          "\"shards\":11,\"moved_bytes\":7,\"tag\":\"SELECT 5000\"}",
	          id);
}

static void send_rows(struct mg_ws *ws, unsigned id, size_t count)
{
	send_begin(ws, id);
	send_binary(ws, 1, id, schema_bytes);
	for (size_t i = 0; i < count; i++) {
		send_binary(ws, 2, id, batch_bytes[i]);
	}
}

static void send_error(struct mg_ws *ws, unsigned id)
{
	send_text(ws,
	          "{\"type\":\"error\",\"id\":%u,\"statement\":1,\"query\":\"q-1\",\"error\":{\"code\":"
	          "\"no_table\",\"sqlstate\":\"42P01\",\"message\":\"no such table\",\"detail\":\"d\","
	          "\"hint\":\"h\",\"origin\":\"node\",\"node\":\"worker-2\",\"shard\":3,"
	          "\"retry\":\"never\"}}",
	          id);
}

/* seen: what came with it. */
static void act(struct mg_ws *ws, const char *sql, const char *seen, unsigned id)
{
	if (strcmp(sql, "rows") == 0) {
		send_rows(ws, id, batch_count);
		send_end(ws, id);
		send_text(ws, "{\"type\":\"done\",\"id\":%u}", id);
	} else if (strcmp(sql, "two statements") == 0) {
		send_text(ws, "{\"type\":\"begin\",\"id\":%u,\"statement\":1,\"verb\":\"SET\"}", id);
		send_end(ws, id);
		send_rows(ws, id, 1);
		send_end(ws, id);
		send_text(ws, "{\"type\":\"done\",\"id\":%u}", id);
	} else if (strcmp(sql, "fails late") == 0) {
		send_rows(ws, id, 1);
		send_error(ws, id);
	} else if (strcmp(sql, "fails") == 0) {
		send_error(ws, id);
	} else if (strcmp(sql, "goes away") == 0) {
		send_rows(ws, id, 1);
		mg_ws_close(ws, 1001, "going away");
	} else if (strcmp(sql, "garbage rows") == 0) {
		send_begin(ws, id);
		send_binary(ws, 1, id, schema_bytes);
		struct mg_buf *bad = mg_buf_copy("this is no Arrow message, is it?", 32);

		send_binary(ws, 2, id, bad);
		mg_buf_unref(bad);
	} else if (strcmp(sql, "rows without schema") == 0) {
		send_begin(ws, id);
		send_binary(ws, 2, id, batch_bytes[0]);
	} else if (strcmp(sql, "no json") == 0) {
		mg_ws_send_text(ws, "{\"type\":", 8);
	} else if (strcmp(sql, "short frame") == 0) {
		mg_ws_send_binary(ws, "abc", 3, NULL);
	} else if (strcmp(sql, "progress") == 0) {
		send_text(
			ws,
			"{\"type\":\"progress\",\"id\":%u,\"done\":0.25,\"rows\":7,\"bytes\":70,\"nodes\":4}",
			id);
		send_text(ws, "{\"type\":\"notice\",\"id\":%u,\"message\":\"mind the gap\"}", id);
		send_text(ws, "{\"type\":\"done\",\"id\":%u}", id);
	} else if (strncmp(sql, "says ", 5) == 0) {
		struct mg_sb text = { 0 };

		mg_sb_addf(&text, "{\"type\":\"notice\",\"id\":%u,\"message\":\"%s\"}", id, seen);
		mg_ws_send_text(ws, text.ptr, text.len);
		mg_sb_clear(&text);
		mg_sb_addf(&text, "{\"type\":\"done\",\"id\":%u,\"seen\":\"%s\"}", id, sql + 5);
		mg_ws_send_text(ws, text.ptr, text.len);
		mg_sb_fini(&text);
	}
	/* "stalls": until a cancel comes */
}

static void on_text(struct mg_ws *ws, void *state, const char *text, size_t len)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *frame = NULL;

	(void)state;
	if (mg_json_parse(arena, text, len, &frame, NULL) == 0) {
		const char *type = mg_json_text(mg_json_get(frame, "type"));
		unsigned id = (unsigned)mg_json_get_int(frame, "id", 0);

		if (strcmp(type, "query") == 0) {
			act(ws, mg_json_text(mg_json_get(frame, "sql")),
			    mg_json_text(mg_json_get(frame, "seen")), id);
		} else if (strcmp(type, "cancel") == 0) {
			kit_gate_add(&cancels, 1);
			send_text(
				ws,
				"{\"type\":\"error\",\"id\":%u,\"error\":{\"code\":\"cancelled\",\"sqlstate\":"
				"\"57014\",\"message\":\"cancelled\"}}",
				id);
		} else if (strcmp(type, "complete") == 0) {
			send_text(
				ws, "{\"type\":\"names\",\"id\":%u,\"tables\":[{\"name\":\"t\"}],\"functions\":[]}",
				id);
		}
	}
	mg_arena_free(arena);
}

static const struct mg_ws_handler handler = { .text = on_text, .message_max = 1 << 20 };

static void on_request(struct mg_http_request *request, void *arg)
{
	const char *user = "", *password = "";
	struct mg_ws *ws;

	(void)arg;
	if (strcmp(mg_http_path(request), "/status") == 0) {
		mg_http_reply(request, 200, "application/json", "{\"a\":1}", 7, NULL);
		return;
	}
	mg_http_basic(request, &user, &password);
	if (strcmp(password, "tiger") != 0) {
		int status = strcmp(user, "worker") == 0 ? 403 : 401;

		mg_http_reply(request, status, "text/plain", "no\n", 3, NULL);
		return;
	}
	ws = mg_ws_accept(request, &handler, NULL);
	if (ws) {
		mg_ws_send_text(ws, HELLO, strlen(HELLO));
	}
}

/* ---- set up ---------------------------------------------------------------------------------- */

static void make_rows(void)
{
	struct mg_error err = { 0 };
	struct mg_duck *duck;
	struct mg_duck_conn *conn;
	struct mg_duck_result *result;
	struct mg_arrow_encoder *encoder;
	bool done = false;
	uint64_t raw;

	kit_must(mg_duck_open(&duck, &(struct mg_duck_options){ .threads = 1 }, &err), &err);
	kit_must(mg_duck_connect(duck, &conn, &err), &err);
	kit_must(
		mg_duck_query(conn, "SELECT i, 'text ' || i AS t FROM range(5000) r(i)", &result, &err),
		&err);
	kit_must(mg_arrow_encoder_new(&encoder, mg_duck_result_schema(result), false, &err), &err);
	kit_must(mg_arrow_encode_schema(encoder, &schema_bytes, &err), &err);
	while (!done) {
		struct ArrowArray batch;

		kit_must(mg_duck_result_next(result, 1024, &batch, &done, &err), &err);
		if (!done) {
			assert_true(batch_count < 16);
			kit_must(
				mg_arrow_encode_batch(encoder, &batch, &batch_bytes[batch_count++], &raw, &err),
				&err);
			batch.release(&batch);
		}
	}
	mg_arrow_encoder_free(encoder);
	mg_duck_result_free(result);
	mg_duck_disconnect(conn);
	mg_duck_close(duck);
}

static int set_up(void **state)
{
	(void)state;
	make_rows();
	kit_certs_make(&certs, "localhost");
	plain.http.request = on_request;
	secure.http.request = on_request;
	kit_server_start(&plain, NULL, (struct mg_listen_options){ .plain_loopback = true });
	kit_server_start(&secure, &certs, (struct mg_listen_options){ 0 });
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	kit_server_stop(&plain);
	kit_server_stop(&secure);
	kit_certs_remove(&certs);
	mg_buf_unref(schema_bytes);
	for (size_t i = 0; i < batch_count; i++) {
		mg_buf_unref(batch_bytes[i]);
	}
	return 0;
}

static char url_text[64];

static struct mg_client_options to(const struct kit_server *server)
{
	struct mg_client_options options = MG_CLIENT_OPTIONS_INIT;

	(void)snprintf(url_text, sizeof url_text, "%s://%s", server == &plain ? "http" : "https",
	               kit_address(server));
	options.url = url_text;
	options.user = "scott";
	options.password = "tiger";
	options.connect_timeout_ms = 5000;
	return options;
}

static mg_client *connect_plain(void)
{
	struct mg_client_options options = to(&plain);
	mg_client *client;

	if (mg_client_connect(&client, &options)) {
		fail_msg("%s", mg_client_error(client)->message);
	}
	return client;
}

/* Rows of the current statement; the code of the end in *code. */
static int64_t count_rows(mg_client *client, int *code)
{
	int64_t rows = 0;
	int done = 0;

	for (;;) {
		struct ArrowArray batch;

		*code = mg_client_next_batch(client, &batch, &done);
		if (*code || done) {
			return rows;
		}
		rows += batch.length;
		batch.release(&batch);
	}
}

static void check_rows_work(mg_client *client)
{
	const struct mg_client_statement *s;
	int code;

	assert_int_equal(mg_client_query(client, "rows", 0), 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_int_equal(count_rows(client, &code), ROWS);
	assert_int_equal(code, 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_null(s);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_the_server_introduces_itself(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_client_info *info = mg_client_info(client);

	(void)state;
	assert_string_equal(info->node, "server-1");
	assert_string_equal(info->user, "scott");
	assert_int_equal(info->shards, 11);
	mg_client_close(client);
}

static void test_a_statement_gives_its_columns_rows_and_figures(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_client_statement *s;
	int code;

	(void)state;
	assert_int_equal(mg_client_query(client, "rows and more text", 4), 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_int_equal(s->column_count, 2);
	assert_string_equal(s->names[1], "t");
	assert_string_equal(s->types[0], "BIGINT");
	assert_non_null(mg_client_schema(client));
	assert_int_equal(mg_client_schema(client)->n_children, 2);
	assert_int_equal(count_rows(client, &code), ROWS);
	assert_int_equal(code, 0);
	assert_string_equal(s->tag, "SELECT 5000");
	assert_string_equal(s->step, "cut");
	assert_int_equal(s->moved_bytes, 7);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_null(s);
	mg_client_close(client);
}

static void test_rows_that_nobody_takes_are_passed_over(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_client_statement *s;
	int count = 0;

	(void)state;
	assert_int_equal(mg_client_query(client, "two statements", 0), 0);
	while (mg_client_next_statement(client, &s) == 0 && s) {
		count++;
	}
	assert_int_equal(count, 2);
	/* and a request that was left in the middle does not disturb the next */
	assert_int_equal(mg_client_query(client, "rows", 0), 0);
	check_rows_work(client);
	mg_client_close(client);
}

static void test_an_error_tells_all_it_knows_and_the_connection_lives(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_client_statement *s;
	const struct mg_client_error *e = mg_client_error(client);
	int code;

	(void)state;
	assert_int_equal(mg_client_query(client, "fails", 0), 0);
	assert_int_not_equal(mg_client_next_statement(client, &s), 0);
	assert_null(s);
	assert_string_equal(e->sqlstate, "42P01");
	assert_string_equal(e->name, "no_table");
	assert_string_equal(e->message, "no such table");
	assert_string_equal(e->hint, "h");
	assert_string_equal(e->origin, "node");
	assert_string_equal(e->node, "worker-2");
	assert_int_equal(e->shard, 3);
	assert_int_equal(e->exit_code, 3);
	assert_int_equal(e->connected, 1);
	assert_int_equal(mg_client_query(client, "fails late", 0), 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_true(count_rows(client, &code) > 0);
	assert_int_not_equal(code, 0);
	check_rows_work(client);
	assert_int_equal(e->code, 0);
	mg_client_close(client);
}

static void test_a_server_that_goes_away_is_a_lost_connection(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_client_statement *s;
	int code;

	(void)state;
	assert_int_equal(mg_client_query(client, "goes away", 0), 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	count_rows(client, &code);
	assert_int_equal(code, MG_E_DISCONNECTED);
	assert_int_equal(mg_client_error(client)->exit_code, 2);
	assert_int_equal(mg_client_error(client)->connected, 0);
	assert_int_equal(mg_client_query(client, "rows", 0), MG_E_DISCONNECTED);
	mg_client_close(client);
}

static void test_what_breaks_the_protocol_ends_the_connection(void **state)
{
	static const char *const lies[] = { "garbage rows", "rows without schema", "no json",
		                                "short frame" };

	(void)state;
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		mg_client *client = connect_plain();
		const struct mg_client_statement *s;
		int code;

		assert_int_equal(mg_client_query(client, lies[i], 0), 0);
		code = mg_client_next_statement(client, &s);
		if (code == 0) {
			count_rows(client, &code);
		}
		assert_int_equal(code, MG_E_PROTOCOL);
		assert_int_equal(mg_client_error(client)->connected, 0);
		mg_client_close(client);
	}
}

static void *cancel_soon(void *arg)
{
	struct timespec wait = { .tv_nsec = 50000000 };

	nanosleep(&wait, NULL);
	mg_client_cancel(arg);
	return NULL;
}

static void test_another_thread_cancels(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_client_statement *s;
	pthread_t thread;

	(void)state;
	kit_gate_reset(&cancels);
	assert_int_equal(mg_client_query(client, "stalls", 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, client), 0);
	assert_int_not_equal(mg_client_next_statement(client, &s), 0);
	pthread_join(thread, NULL);
	assert_string_equal(mg_client_error(client)->sqlstate, "57014");
	assert_int_equal(mg_client_error(client)->exit_code, 4);
	assert_int_equal(kit_gate_count(&cancels), 1);
	check_rows_work(client);
	mg_client_close(client);
}

static void test_a_cancel_between_requests_harms_nothing(void **state)
{
	mg_client *client = connect_plain();

	(void)state;
	mg_client_cancel(client);
	mg_client_cancel(client);
	check_rows_work(client);
	mg_client_close(client);
}

static void test_a_time_limit_cancels(void **state)
{
	struct mg_client_options options = to(&plain);
	const struct mg_client_statement *s;
	mg_client *client;

	(void)state;
	options.statement_timeout_ms = 50;
	assert_int_equal(mg_client_connect(&client, &options), 0);
	assert_int_equal(mg_client_query(client, "stalls", 0), 0);
	assert_int_not_equal(mg_client_next_statement(client, &s), 0);
	assert_int_equal(mg_client_error(client)->exit_code, 4);
	mg_client_close(client);
}

struct heard {
	struct mg_client_progress progress;
	char notice[256];
};

static void on_progress(void *arg, const struct mg_client_progress *progress)
{
	((struct heard *)arg)->progress = *progress;
}

static void on_notice(void *arg, const char *message)
{
	struct heard *heard = arg;

	(void)snprintf(heard->notice, sizeof heard->notice, "%s", message);
}

static void test_progress_and_notices_are_handed_on(void **state)
{
	struct mg_client_options options = to(&plain);
	const struct mg_client_statement *s;
	struct heard heard = { 0 };
	mg_client *client;

	(void)state;
	options.on_progress = on_progress;
	options.on_notice = on_notice;
	options.arg = &heard;
	assert_int_equal(mg_client_connect(&client, &options), 0);
	assert_int_equal(mg_client_query(client, "progress", 0), 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_null(s);
	assert_true(heard.progress.done == 0.25);
	assert_int_equal(heard.progress.rows, 7);
	assert_string_equal(heard.notice, "mind the gap");
	mg_client_close(client);
}

/* As text, of shards 0 and 1; what an answer says. */
static char *seen_text(const char *cluster, uint64_t version, uint64_t zero, uint64_t one)
{
	struct mg_seen seen = { 0 };
	struct mg_sb text = { 0 };

	mg_seen_version(&seen, mg_seen_cluster(cluster), version);
	mg_seen_index(&seen, 0, zero);
	mg_seen_index(&seen, 1, one);
	mg_seen_add(&text, &seen);
	mg_seen_fini(&seen);
	return mg_sb_take(&text);
}

static void check_says(mg_client *client, struct heard *heard, const char *says,
                       const char *expected_before, const char *expected_after)
{
	const struct mg_client_statement *s;
	char *sql = mg_format("says %s", says);

	assert_int_equal(mg_client_query(client, sql, 0), 0);
	assert_int_equal(mg_client_next_statement(client, &s), 0);
	assert_string_equal(heard->notice, expected_before);
	assert_string_equal(mg_client_seen(client), expected_after);
	mg_free(sql);
}

/* What answers have said goes along with the next statement, and to the next server. */
static void test_what_was_seen_goes_along(void **state)
{
	struct mg_client_options options = to(&plain);
	struct heard heard = { 0 };
	char *one = seen_text("c", 1, 5, 2), *two = seen_text("c", 2, 3, 9);
	char *both = seen_text("c", 2, 5, 9), *other = seen_text("d", 7, 7, 7);
	mg_client *client, *next;

	(void)state;
	options.on_notice = on_notice;
	options.arg = &heard;
	assert_int_equal(mg_client_connect(&client, &options), 0);
	assert_string_equal(mg_client_seen(client), "");
	check_says(client, &heard, one, "", one);
	check_says(client, &heard, two, one, both);
	check_says(client, &heard, one, both, both); /* an answer that was overtaken */
	check_says(client, &heard, "v2.what", both, both);
	options.seen = mg_client_seen(client);
	assert_int_equal(mg_client_connect(&next, &options), 0);
	mg_client_close(client);
	check_says(next, &heard, one, both, both);
	mg_client_close(next);
	/* It is another cluster's, as its hello says. */
	options.seen = other;
	assert_int_equal(mg_client_connect(&next, &options), 0);
	assert_string_equal(mg_client_seen(next), "");
	check_says(next, &heard, one, "", one);
	mg_client_close(next);
	mg_free(one);
	mg_free(two);
	mg_free(both);
	mg_free(other);
}

static void test_names_for_completion(void **state)
{
	mg_client *client = connect_plain();
	const struct mg_json *names;

	(void)state;
	assert_int_equal(mg_client_complete(client, &names), 0);
	assert_string_equal(
		mg_json_text(mg_json_get(mg_json_at(mg_json_get(names, "tables"), 0), "name")), "t");
	check_rows_work(client);
	mg_client_close(client);
}

static int connect_code(const struct mg_client_options *options)
{
	mg_client *client;
	int code = mg_client_connect(&client, options);

	assert_int_equal(code, mg_client_error(client)->code);
	assert_int_equal(mg_client_error(client)->exit_code, code ? 2 : 0);
	mg_client_close(client);
	return code;
}

static void test_who_is_let_in(void **state)
{
	struct mg_client_options options = to(&plain);

	(void)state;
	options.password = "wrong";
	assert_int_equal(connect_code(&options), MG_E_AUTH);
	options.user = "worker";
	assert_int_equal(connect_code(&options), MG_E_DENIED);
	options.url = "http://127.0.0.1:1";
	assert_int_equal(connect_code(&options), MG_E_CONNECT);
}

static void test_certificates_are_checked(void **state)
{
	struct mg_client_options options = to(&secure);
	struct kit_certs other;

	(void)state;
	kit_certs_make(&other, "localhost");
	assert_int_equal(connect_code(&options), MG_E_CONNECT); /* the system does not know our CA */
	options.tls_roots = other.ca;
	assert_int_equal(connect_code(&options), MG_E_CONNECT);
	options.insecure_skip_verify = 1;
	assert_int_equal(connect_code(&options), 0);
	options.insecure_skip_verify = 0;
	options.tls_roots = certs.ca;
	assert_int_equal(connect_code(&options), 0);
	options.tls_roots = "/nowhere/ca.crt";
	assert_int_equal(connect_code(&options), MG_E_CONNECT);
	kit_certs_remove(&other);
}

static void test_rows_over_tls(void **state)
{
	struct mg_client_options options = to(&secure);
	mg_client *client;

	(void)state;
	options.tls_roots = certs.ca;
	assert_int_equal(mg_client_connect(&client, &options), 0);
	for (int i = 0; i < 20; i++) {
		check_rows_work(client);
	}
	mg_client_close(client);
}

static void test_plain_http_is_fetched(void **state)
{
	struct mg_client_options options = to(&secure);
	struct mg_endpoint endpoint = { .url = options.url,
		                            .tls = { .roots_file = certs.ca },
		                            .wake_fd = -1 };
	struct mg_sb body = { 0 };
	struct mg_error err = { 0 };
	int status = 0;

	(void)state;
	assert_int_equal(mg_http_fetch(&endpoint, "GET", "/status", NULL, NULL, (struct mg_str){ 0 },
	                               &status,
	                               &body, &err), 0);
	assert_int_equal(status, 200);
	assert_string_equal(mg_sb_text(&body), "{\"a\":1}");
	mg_sb_fini(&body);
}

static void test_urls(void **state)
{
	static const struct {
		const char *text, *host, *port;
		bool plain;
	} good[] = {
		{ NULL, "localhost", "8765", false },
		{ "https://a.example:1/", "a.example", "1", false },
		{ "a.example", "a.example", "8765", false },
		{ "10.0.0.1:99", "10.0.0.1", "99", false },
		{ "https://[::1]:7", "::1", "7", false },
		{ "[::1]", "::1", "8765", false },
		{ "ws://h", "h", "8765", true },
	};
	static const char *const bad[] = { "", "ftp://h", "https://", "h:", "h:70000", "h:1x", "[::1",
		                               "https://u:p@h" };
	struct mg_url url;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(mg_url_parse(good[i].text, &url, NULL), 0);
		assert_string_equal(url.host, good[i].host);
		assert_string_equal(url.port, good[i].port);
		assert_int_equal(url.plain, good[i].plain);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(mg_url_parse(bad[i], &url, NULL), MG_E_USAGE);
	}
}

static void test_of_several_servers_the_first_that_answers(void **state)
{
	static const char *const bad[] = { ",h", "h,", "h,,i", "h,ftp://i" };
	struct mg_sb url = { 0 }, body = { 0 };
	struct mg_error err = { 0 };
	int status = 0;

	(void)state;
	const char *rest = mg_url_next("https://a:1,b:2", &url);

	assert_string_equal(mg_sb_text(&url), "https://a:1");
	assert_null(mg_url_next(rest, &url));
	assert_string_equal(mg_sb_text(&url), "b:2");
	mg_sb_fini(&url);
	assert_int_equal(mg_url_check("https://a:1,b:2", NULL), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(mg_url_check(bad[i], NULL), MG_E_USAGE);
	}
	/* Nobody listens at port 1. */
	char *urls = mg_format("https://127.0.0.1:1,%s", to(&secure).url);
	struct mg_endpoint several = { .url = urls, .tls = { .roots_file = certs.ca }, .wake_fd = -1 };

	assert_int_equal(mg_http_fetch(&several, "GET", "/status", NULL, NULL, (struct mg_str){ 0 },
	                               &status,
	                               &body, &err), 0);
	assert_int_equal(status, 200);
	several.url = "https://127.0.0.1:1,127.0.0.1:1";
	assert_int_equal(mg_http_fetch(&several, "GET", "/status", NULL, NULL, (struct mg_str){ 0 },
	                               &status,
	                               &body, &err), MG_E_CONNECT);
	mg_free(urls);
	mg_sb_fini(&body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_server_introduces_itself),
		cmocka_unit_test(test_a_statement_gives_its_columns_rows_and_figures),
		cmocka_unit_test(test_rows_that_nobody_takes_are_passed_over),
		cmocka_unit_test(test_an_error_tells_all_it_knows_and_the_connection_lives),
		cmocka_unit_test(test_a_server_that_goes_away_is_a_lost_connection),
		cmocka_unit_test(test_what_breaks_the_protocol_ends_the_connection),
		cmocka_unit_test(test_another_thread_cancels),
		cmocka_unit_test(test_a_cancel_between_requests_harms_nothing),
		cmocka_unit_test(test_a_time_limit_cancels),
		cmocka_unit_test(test_progress_and_notices_are_handed_on),
		cmocka_unit_test(test_what_was_seen_goes_along),
		cmocka_unit_test(test_names_for_completion),
		cmocka_unit_test(test_who_is_let_in),
		cmocka_unit_test(test_certificates_are_checked),
		cmocka_unit_test(test_rows_over_tls),
		cmocka_unit_test(test_plain_http_is_fetched),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_of_several_servers_the_first_that_answers),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
