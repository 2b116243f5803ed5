/*
 * test_relay.c - statements of one node's session at another: two nodes in this process, each with
 * an engine, sessions and a listener of its own, and real TLS between them.
 *
 * Their data have nothing to do with each other, so whatever comes back has run there.
 */
#include "peers_kit.h"

#include "exec/engine.h"
#include "session/encode.h"
#include "session/relay_int.h"
#include "session/session_int.h"
#include "store/shard_file.h"

enum { NODES = 2, SHARDS = 2 };

struct node {
	struct kit_net net;
	struct mg_raft_host *host; /* only what peers need of it */
	struct mg_catalog *catalog;
	struct mg_engine *engine;
	struct mg_sessions *sessions;
	bool up;
};

static struct kit_certs certs;
static struct node nodes[NODES];
static struct mg_error err;

static void ok(int code, const struct mg_error *error)
{
	if (code) {
		fail_msg("%s (%s)", error->message, error->detail);
	}
}

/* ---- nodes ---- */

static int fill(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                struct mg_error *error)
{
	(void)arg;
	(void)error;
	data->shard_count = SHARDS;
	data->sample = "";
	data->shards = mg_arena_new_array(arena, struct mg_shard, SHARDS + 1);
	for (uint32_t i = 0; i <= SHARDS; i++) {
		data->shards[i] = (struct mg_shard){
			.id = i,
			.slot_first = (uint16_t)(i == 2 ? 8192 : 0),
			.slot_last = (uint16_t)(i == 1   ? 8191
			                        : i == 2 ? 16383
			                                 : 0),
			.file = mg_shard_file_name(arena, i),
			.engine_version = mg_duck_version(),
			.file_format = MG_FILE_FORMAT,
		};
	}
	return 0;
}

static void make_directory(const char *dir)
{
	static const char *const trees[] = { "", "log", "shards" };

	for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
		char *path = mg_path_join(dir, trees[i]);

		ok(mg_dir_make(path, 0700, &err), &err);
		mg_free(path);
	}
}

static void open_engine(struct node *node)
{
	char *dir = mg_format("%s/data", node->net.dir);

	make_directory(dir);
	ok(mg_catalog_new(&node->catalog, dir, &err), &err);
	ok(mg_catalog_change(node->catalog, fill, NULL, &err), &err);
	const struct mg_engine_options options = {
		.data_dir = dir,
		.node_name = node->net.self == 1 ? "one" : "two",
		.threads = 2,
		.memory_bytes = 512u << 20,
		.catalog = node->catalog,
	};

	ok(mg_engine_open(&node->engine, &options, &err), &err);
	mg_free(dir);
}

static void node_start(struct node *node)
{
	open_engine(node);
	kit_net_open(&node->net, &certs);
	const struct mg_raft_host_options host = { .dir = node->net.dir,
		                                       .self = node->net.self,
		                                       .net = mg_peers_net(node->net.peers) };

	ok(mg_raft_host_open(&node->host, &host, &err), &err);
	ok(mg_raft_host_start(node->host, &err), &err);
	const struct mg_sessions_options options = { .engine = node->engine, .peers = node->net.peers };

	ok(mg_sessions_new(&node->sessions, &options, &err), &err);
	mg_peers_start(node->net.peers, node->host);
	kit_net_listen(&node->net);
	node->up = true;
}

static void node_stop(struct node *node)
{
	if (!node->up) {
		return;
	}
	node->up = false;
	mg_listener_close(node->net.listener);
	mg_sessions_stop(node->sessions);
	mg_raft_host_stop(node->host);
	mg_engine_close(node->engine);
	kit_net_stop(&node->net);
	mg_raft_host_close(node->host);
	mg_sessions_free(node->sessions);
	kit_net_free(&node->net);
	mg_catalog_free(node->catalog);
}

static int begin(void **state)
{
	(void)state;
	kit_certs_make(&certs, "server");
	for (size_t i = 0; i < NODES; i++) {
		char *dir = mg_format("%s/node%zu", certs.dir, i + 1);

		ok(mg_dir_make(dir, 0700, &err), &err);
		mg_free(dir);
		nodes[i] = (struct node){ 0 };
		kit_net_make(&nodes[i].net, i + 1, &certs);
		node_start(&nodes[i]);
	}
	kit_net_name(&nodes[0].net, &nodes[1].net);
	kit_net_name(&nodes[1].net, &nodes[0].net);
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (size_t i = 0; i < NODES; i++) {
		node_stop(&nodes[i]);
	}
	ok(mg_tree_remove(certs.dir, &err), &err);
	return 0;
}

/* ---- a session at node 1 that asks node 2 ---- */

struct asker {
	struct mg_query *query;
	struct mg_settings settings;
	struct mg_encoder *encoder;
	struct mg_sb text, notices; /* the answer as CSV */
	struct mg_answer answer;
	struct mg_relay_answer out;
	struct kit_gate began;
	struct kit_gate *go; /* rows are taken when it opens; NULL: at once */
	uint64_t rows;
	int fail_at; /* a batch that the sink refuses; 0: none */
	int batches;
	struct mg_error err;
	int code;
};

static int emit(void *arg, struct mg_buf *buf, struct mg_error *error)
{
	struct asker *asker = arg;

	(void)error;
	mg_sb_add_len(&asker->text, (const char *)buf->data, buf->size);
	mg_buf_unref(buf);
	return 0;
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *error)
{
	struct asker *asker = arg;

	asker->encoder = mg_encoder_new(
		&(struct mg_encode_options){ .format = MG_FORMAT_CSV, .emit = emit, .arg = asker });
	kit_gate_add(&asker->began, 1);
	return mg_encoder_begin(asker->encoder, answer->schema, answer->count, answer->names,
	                        answer->types, error);
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *error)
{
	struct asker *asker = arg;

	if (asker->go) {
		assert_true(kit_gate_wait(asker->go, 1));
	}
	if (++asker->batches == asker->fail_at) {
		return mg_error_set(error, MG_E_DISCONNECTED, "the client has gone");
	}
	asker->rows += (uint64_t)batch->length;
	return asker->rows > 10000 ? 0 : mg_encoder_batch(asker->encoder, batch, error);
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *error)
{
	(void)arg;
	(void)answer;
	(void)error;
	fail_msg("the relay ends no answer");
	return 0;
}

static void sink_notice(void *arg, const char *text)
{
	struct asker *asker = arg;

	mg_sb_add(&asker->notices, text);
}

static void asker_init(struct asker *asker)
{
	static const struct kit_gate closed = KIT_GATE;

	*asker = (struct asker){ .began = closed };
	mg_settings_init(&asker->settings);
}

static void asker_fini(struct asker *asker)
{
	mg_sb_fini(&asker->text);
	mg_sb_fini(&asker->notices);
}

/* link: of a transaction, or NULL. */
static void ask_over(struct asker *asker, const char *sql, bool writes, struct mg_relay_link **link)
{
	const struct mg_query_begin listed = { .session = "s-1", .user = "ada", .sql = mg_str(sql) };
	struct mg_sink sink = { .begin = sink_begin,
		                    .batch = sink_batch,
		                    .end = sink_end,
		                    .notice = sink_notice,
		                    .arg = asker,
		                    .lossless = true };

	asker->query = mg_query_begin(mg_sessions_queries(nodes[0].sessions), &listed);
	const struct mg_relay_ask what = { .node = 2,
		                               .user = "ada",
		                               .role = MG_ROLE_ADMIN,
		                               .settings = &asker->settings,
		                               .statement = mg_str(sql),
		                               .query = asker->query,
		                               .writes = writes,
		                               .link = link };

	asker->code = mg_relay_run(nodes[0].sessions->relay, &what, &sink, &asker->answer, &asker->out,
	                           &asker->err);
	if (asker->encoder && !asker->code) {
		ok(mg_encoder_end(asker->encoder, 0, &err), &err);
	}
	mg_encoder_free(asker->encoder);
	asker->encoder = NULL;
	mg_query_end(asker->query, asker->code ? &asker->err : NULL);
	asker->query = NULL;
}

static void ask(struct asker *asker, const char *sql, bool writes)
{
	ask_over(asker, sql, writes, NULL);
}

/* Of a statement that goes well. */
static void check(const char *sql, bool writes, const char *answer, const char *tag)
{
	struct asker asker;

	asker_init(&asker);
	ask(&asker, sql, writes);
	ok(asker.code, &asker.err);
	assert_string_equal(mg_sb_text(&asker.text), answer);
	assert_string_equal(asker.out.tag, tag);
	assert_int_equal(asker.out.began, answer[0] != '\0');
	asker_fini(&asker);
}

static size_t running_at(const struct node *node)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_query_info *infos;
	size_t count = mg_queries_running(mg_sessions_queries(node->sessions), arena, &infos);

	mg_arena_free(arena);
	return count;
}

/* ---- tests ---- */

static void test_statements_run_there(void **state)
{
	struct asker asker;

	(void)state;
	asker_init(&asker);
	ask(&asker, "CREATE TABLE t (k INTEGER, v VARCHAR)", true);
	ok(asker.code, &asker.err);
	assert_non_null(strstr(mg_sb_text(&asker.notices), "reference table"));
	assert_string_equal(asker.out.tag, "CREATE TABLE");
	asker_fini(&asker);
	check("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, '\xc3\xa4')", true, "", "INSERT 0 3");
	check("SELECT * FROM t ORDER BY k", false, "k,v\n1,a\n2,\n3,\xc3\xa4\n", "SELECT 3");
	check("SELECT * FROM t WHERE k > 5", false, "k,v\n", "SELECT 0");
	check("UPDATE t SET k = k + 10 WHERE k = 2 RETURNING k", true, "k\n12\n", "UPDATE 1");
	check("SELECT 170141183460469231731687303715884105727::HUGEINT AS h", false,
	      "h\n170141183460469231731687303715884105727\n", "SELECT 1");
	check("DROP TABLE t", true, "", "DROP TABLE");
}

static void test_settings_go_along(void **state)
{
	struct asker asker;

	(void)state;
	asker_init(&asker);
	ok(mg_settings_set(&asker.settings, "TimeZone", "Asia/Tokyo", &err), &err);
	ask(&asker, "SELECT current_setting('TimeZone') AS z", false);
	ok(asker.code, &asker.err);
	assert_string_equal(mg_sb_text(&asker.text), "z\nAsia/Tokyo\n");
	asker_fini(&asker);
}

static void test_an_error_is_the_other_nodes_own(void **state)
{
	struct asker asker;

	(void)state;
	asker_init(&asker);
	ask(&asker, "SELECT nothing FROM nowhere", false);
	assert_int_equal(asker.code, MG_E_NO_TABLE);
	assert_string_equal(asker.err.sqlstate, "42P01");
	assert_non_null(strstr(asker.err.message, "nowhere"));
	assert_false(asker.out.nothing);
	asker_fini(&asker);
	check("SELECT 1 AS a", false, "a\n1\n", "SELECT 1"); /* on the same connection */
}

static void test_rows_come_as_they_are_taken(void **state)
{
	struct kit_gate go = KIT_GATE;
	struct asker asker;

	(void)state;
	asker_init(&asker);
	kit_gate_add(&go, 1);
	asker.go = &go;
	ask(&asker, "SELECT i, repeat('x', 100) AS x FROM range(2000000) AS r(i)", false);
	ok(asker.code, &asker.err);
	assert_int_equal(asker.rows, 2000000);
	assert_int_equal(asker.out.stats.rows, 2000000);
	asker_fini(&asker);
}

struct later {
	struct asker asker;
	const char *sql;
	bool writes;
};

static void *ask_later(void *arg)
{
	struct later *later = arg;

	ask(&later->asker, later->sql, later->writes);
	return NULL;
}

/* While nobody takes its rows the statement waits there, and its rows there and on the way are few.
 */
static void test_a_slow_client_holds_back_the_statement(void **state)
{
	struct kit_gate go = KIT_GATE;
	struct later later = { .sql = "SELECT i, repeat('x', 1000) AS x FROM range(300000) AS r(i)" };
	pthread_t thread;

	(void)state;
	asker_init(&later.asker);
	later.asker.go = &go;
	assert_int_equal(pthread_create(&thread, NULL, ask_later, &later), 0);
	assert_true(kit_gate_wait(&later.asker.began, 1));
	struct mg_relay *relay = nodes[0].sessions->relay;
	size_t before, now = 0;

	AWAIT(atomic_load(&relay->queued_bytes) > MG_RELAY_QUEUE_HIGH);
	do { /* until it stands still */
		before = now;
		mg_sleep_ms(200);
		now = atomic_load(&relay->queued_bytes);
	} while (now != before);
	assert_true(now < 2 * MG_RELAY_QUEUE_HIGH);
	assert_int_equal(running_at(&nodes[1]), 1);
	kit_gate_add(&go, 1);
	pthread_join(thread, NULL);
	ok(later.asker.code, &later.asker.err);
	assert_int_equal(later.asker.rows, 300000);
	assert_int_equal(atomic_load(&relay->queued_bytes), 0);
	asker_fini(&later.asker);
}

static void test_a_cancel_ends_it_there(void **state)
{
	struct later later = {
		.sql = "SELECT count(*) FROM range(100000000) AS a(i), range(100000) AS b(j) "
			   "WHERE (i * j) % 7 = 8"
	};
	pthread_t thread;

	(void)state;
	asker_init(&later.asker);
	assert_int_equal(pthread_create(&thread, NULL, ask_later, &later), 0);
	AWAIT(running_at(&nodes[1]) == 1);
	mg_queries_cancel_session(mg_sessions_queries(nodes[0].sessions), "s-1");
	pthread_join(thread, NULL);
	assert_int_equal(later.asker.code, MG_E_CANCELLED);
	AWAIT(running_at(&nodes[1]) == 0);
	asker_fini(&later.asker);
}

static void test_a_client_that_goes_ends_it_there(void **state)
{
	struct asker asker;

	(void)state;
	asker_init(&asker);
	asker.fail_at = 3;
	ask(&asker, "SELECT i FROM range(100000000000) AS r(i)", false);
	assert_int_equal(asker.code, MG_E_DISCONNECTED);
	AWAIT(running_at(&nodes[1]) == 0);
	asker_fini(&asker);
	check("SELECT 1 AS a", false, "a\n1\n", "SELECT 1");
}

/* A statement over a transaction's connection; returns its code. */
static int ask_in(struct mg_relay_link **link, const char *sql)
{
	struct asker asker;

	asker_init(&asker);
	ask_over(&asker, sql, true, link);
	asker_fini(&asker);
	return asker.code;
}

/* A connection with an open transaction runs nothing else, and one without none of its statements,
 * whatever the asking side does wrong. */
static void test_a_transaction_is_nobody_elses(void **state)
{
	struct mg_relay *relay = nodes[0].sessions->relay;
	struct mg_relay_link *link = NULL;

	(void)state;
	check("CREATE TABLE own (k INTEGER)", true, "", "CREATE TABLE");
	mg_relay_link_drop_idle(relay);
	assert_int_equal(ask_in(&link, "BEGIN"), 0);
	assert_int_equal(ask_in(&link, "INSERT INTO own VALUES (1)"), 0);
	mg_relay_drop(link, true);
	assert_int_equal(relay->idle_count, 1);
	assert_int_equal(ask_in(NULL, "INSERT INTO own VALUES (2)"), MG_E_PROTOCOL);
	assert_int_equal(relay->idle_count, 0);
	check("SELECT * FROM own", false, "k\n", "SELECT 0");
	link = NULL;
	assert_int_equal(ask_in(&link, "BEGIN"), 0);
	assert_int_equal(ask_in(&link, "INSERT INTO own VALUES (3)"), 0);
	assert_int_equal(ask_in(&link, "COMMIT"), 0);
	assert_int_equal(ask_in(&link, "INSERT INTO own VALUES (4)"), MG_E_PROTOCOL);
	assert_null(link);
	check("SELECT * FROM own", false, "k\n3\n", "SELECT 1");
	check("DROP TABLE own", true, "", "DROP TABLE");
}

static void test_what_belongs_to_a_transaction_is_none_of_its_own(void **state)
{
	const struct mg_session_open open = { .user = "ada", .role = MG_ROLE_ADMIN, .door = "http" };
	struct mg_session *session = mg_session_open(nodes[0].sessions, &open);
	const struct mg_request request = { .sql = MG_STR("CREATE TABLE late (k INTEGER)"),
		                                .in_transaction = true };
	struct mg_outcome outcome;
	struct mg_sink sink = { .lossless = true };

	(void)state;
	assert_int_equal(mg_session_run(session, &request, &sink, &outcome, &err), MG_E_TRANSACTION);
	assert_string_equal(err.sqlstate, "25P01");
	assert_int_equal(outcome.statements, 0);
	mg_session_close(session);
	mg_session_unref(session);
}

enum { THREADS = 8, TIMES = 20 };

static void *ask_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < TIMES; i++) {
		check("SELECT 42 AS a", false, "a\n42\n", "SELECT 1");
	}
	return NULL;
}

static void test_many_at_once_share_connections(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (size_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, ask_often, NULL), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	struct mg_relay *relay = nodes[0].sessions->relay;

	assert_in_range(relay->idle_count, 1, THREADS);
	assert_in_range(atomic_load(&nodes[1].sessions->relay->serving), 1, THREADS);
}

static void test_a_node_that_is_lost_is_told_apart(void **state)
{
	struct later reads = { .sql = "SELECT count(*) FROM range(100000000) AS a(i), "
		                          "range(100000) AS b(j) WHERE (i * j) % 7 = 8" };
	pthread_t thread;
	struct asker asker;

	(void)state;
	asker_init(&reads.asker);
	assert_int_equal(pthread_create(&thread, NULL, ask_later, &reads), 0);
	AWAIT(running_at(&nodes[1]) == 1);
	node_stop(&nodes[1]);
	pthread_join(thread, NULL);
	/* Cancelled by its shutdown, or hung up on: either way nothing has happened. */
	assert_true(reads.asker.code == MG_E_UNAVAILABLE || reads.asker.code == MG_E_SHUTDOWN);
	assert_true(reads.asker.out.nothing);
	asker_fini(&reads.asker);
	asker_init(&asker);
	ask(&asker, "INSERT INTO t VALUES (1)", true);
	for (int i = 0; i < 1000 && asker.code == MG_E_UNKNOWN_OUTCOME; i++) {
		asker_fini(&asker); /* an idle connection had ended, and nobody had heard of it yet */
		mg_sleep_ms(10);
		asker_init(&asker);
		ask(&asker, "INSERT INTO t VALUES (1)", true);
	}
	assert_int_equal(asker.code, MG_E_UNAVAILABLE); /* not reached: nothing has happened */
	assert_true(asker.out.nothing);
	asker_fini(&asker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statements_run_there),
		cmocka_unit_test(test_settings_go_along),
		cmocka_unit_test(test_an_error_is_the_other_nodes_own),
		cmocka_unit_test(test_rows_come_as_they_are_taken),
		cmocka_unit_test(test_a_slow_client_holds_back_the_statement),
		cmocka_unit_test(test_a_cancel_ends_it_there),
		cmocka_unit_test(test_a_client_that_goes_ends_it_there),
		cmocka_unit_test(test_a_transaction_is_nobody_elses),
		cmocka_unit_test(test_what_belongs_to_a_transaction_is_none_of_its_own),
		cmocka_unit_test(test_many_at_once_share_connections),
		cmocka_unit_test(test_a_node_that_is_lost_is_told_apart), /* the last one */
	};

	return cmocka_run_group_tests(tests, begin, end);
}
