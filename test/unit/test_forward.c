/*
 * test_forward.c - requests between two nodes over TLS: answered, lost, late, too many, nonsense.
 */
#include "base/bytes.h"
#include "replica/forward.h"
#include "unit/peers_kit.h"

enum { NODES = 2, MS = 60 * 1000 };

static struct kit_certs certs;

struct kept {
	mg_answer_cb cb;
	void *arg;
};

struct node {
	struct kit_net net;
	struct mg_raft_host *host;
	struct mg_forward *forward;
	struct kit_gate served;
	/* owner: its raft thread */
	bool silent; /* keeps what it is asked */
	struct kept *kept;
	size_t kept_count, kept_cap;
};

static struct node nodes[NODES];

/* ---- nodes ---- */

/* An answer that says what was asked. */
static void serve(void *arg, const struct mg_ask *ask, mg_answer_cb cb, void *cb_arg)
{
	struct node *node = arg;
	struct mg_answer answer = { .index = ask->size, .leader = ask->group };

	for (size_t i = 0; i < ask->size; i++) {
		if (ask->data[i] != (uint8_t)ask->size) {
			answer.error = MG_E_CORRUPT;
		}
	}
	answer.error = ask->kind == MG_ASK_READ ? MG_FENCED : answer.error;
	if (node->silent) {
		mg_grow(node->kept, node->kept_count, node->kept_cap);
		node->kept[node->kept_count++] = (struct kept){ cb, cb_arg };
	} else {
		cb(cb_arg, &answer);
	}
	kit_gate_add(&node->served, 1);
}

static void node_start(struct node *node)
{
	const struct mg_raft_host_options options = { .dir = node->net.dir, .self = node->net.self };
	struct mg_raft_host_options host = options;
	struct mg_error err = { 0 };

	kit_net_open(&node->net, &certs);
	host.net = mg_peers_net(node->net.peers);
	kit_must(mg_raft_host_open(&node->host, &host, &err), &err);
	node->forward = mg_forward_new(&(struct mg_forward_options){
		.host = node->host, .peers = node->net.peers, .serve = serve, .arg = node });
	kit_must(mg_raft_host_start(node->host, &err), &err);
	mg_peers_start(node->net.peers, node->host);
	kit_net_listen(&node->net);
}

static void stop_forward(void *arg)
{
	mg_forward_stop(arg);
}

/* Like a process that ends: its requests are its own. */
static void node_stop(struct node *node)
{
	mg_listener_close(node->net.listener);
	mg_raft_host_stop(node->host);
	mg_raft_host_call(node->host, stop_forward, node->forward);
	kit_net_stop(&node->net);
	for (size_t i = 0; i < node->kept_count; i++) { /* nobody hears it */
		node->kept[i].cb(node->kept[i].arg, &(struct mg_answer){ .error = MG_E_SHUTDOWN });
	}
	mg_raft_host_close(node->host);
	mg_forward_free(node->forward);
	kit_net_free(&node->net);
	mg_free(node->kept);
	node->kept = NULL;
	node->kept_count = node->kept_cap = 0;
	node->host = NULL;
}

static bool connected(struct node *node)
{
	struct mg_peer_info infos[NODES];

	return mg_peers_list(node->net.peers, infos, NODES) > 0 && infos[0].connected;
}

static int begin(void **state)
{
	(void)state;
	kit_certs_make(&certs, "server");
	for (size_t i = 0; i < NODES; i++) {
		char *dir = mg_format("%s/node%zu", certs.dir, i + 1);

		nodes[i] = (struct node){ .served = KIT_GATE };
		assert_int_equal(mg_dir_make(dir, 0700, NULL), 0);
		kit_net_make(&nodes[i].net, i + 1, &certs);
		node_start(&nodes[i]);
		mg_free(dir);
	}
	kit_net_name(&nodes[1].net, &nodes[0].net);
	AWAIT(connected(&nodes[0]) && connected(&nodes[1]));
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (size_t i = 0; i < NODES; i++) {
		if (nodes[i].host) {
			node_stop(&nodes[i]);
		}
	}
	return mg_tree_remove(certs.dir, NULL);
}

/* ---- asking ---- */

struct question {
	uint64_t node;
	struct mg_ask ask;
	unsigned timeout_ms;
	size_t times;
	struct kit_gate answered;
	struct mg_answer answer; /* the last one */
	size_t errors;
};

static void on_answer(void *arg, const struct mg_answer *answer)
{
	struct question *question = arg;

	question->answer = *answer;
	question->errors += answer->error != 0;
	kit_gate_add(&question->answered, 1);
}

static void ask_now(void *arg)
{
	struct question *question = arg;

	for (size_t i = 0; i < question->times; i++) {
		mg_forward_ask(nodes[0].forward, question->node, &question->ask, question->timeout_ms,
		               on_answer, question);
	}
}

/* Of node 1, to node 2 or another. */
static struct question question_of(uint64_t node, enum mg_ask_kind kind, uint32_t group,
                                   const uint8_t *data, size_t size)
{
	return (struct question){ .node = node,
		                      .ask = { kind, group, data, size },
		                      .timeout_ms = MS,
		                      .times = 1,
		                      .answered = KIT_GATE };
}

static void ask(struct question *question)
{
	mg_raft_host_call(nodes[0].host, ask_now, question);
}

static void expect(struct question *question, int error)
{
	assert_true(kit_gate_wait(&question->answered, (long)question->times));
	assert_int_equal(question->answer.error, error);
	assert_int_equal(question->errors, error ? question->times : 0);
}

static void be_silent(void *arg)
{
	((struct node *)arg)->silent = true;
}

static void say_all(void *arg)
{
	struct node *node = arg;

	for (size_t i = 0; i < node->kept_count; i++) {
		node->kept[i].cb(node->kept[i].arg, &(struct mg_answer){ .index = 77 });
	}
	node->kept_count = 0;
	node->silent = false;
}

static void set_silent(void)
{
	mg_raft_host_call(nodes[1].host, be_silent, &nodes[1]);
}

/* ---- tests ---- */

static void test_what_is_asked_is_answered(void **state)
{
	static const size_t sizes[] = { 0, 1, 1000, 1 << 20, MG_ENTRY_SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint8_t *data = mg_alloc(sizes[i] + 1);
		struct question question;

		memset(data, (uint8_t)sizes[i], sizes[i] + 1);
		question = question_of(2, MG_ASK_PROPOSE, 40 + (uint32_t)i, data, sizes[i]);
		ask(&question);
		expect(&question, 0);
		assert_int_equal(question.answer.index, sizes[i]);
		assert_int_equal(question.answer.leader, 40 + i);
		mg_free(data);
	}
	struct question read = question_of(2, MG_ASK_READ, 7, NULL, 0);

	read.times = 1000;
	ask(&read);
	expect(&read, MG_FENCED);
}

static void test_what_cannot_be_sent_did_not_happen(void **state)
{
	struct question nobody = question_of(9, MG_ASK_READ, 1, NULL, 0);
	struct question large = question_of(2, MG_ASK_PROPOSE, 1, NULL, MG_ENTRY_SIZE_MAX + 1);

	(void)state;
	ask(&nobody);
	expect(&nobody, MG_E_UNAVAILABLE);
	ask(&large);
	expect(&large, MG_E_LIMIT);
}

static void test_a_connection_that_breaks_leaves_it_unknown(void **state)
{
	struct question question = question_of(2, MG_ASK_PROPOSE, 1, NULL, 0);

	(void)state;
	set_silent();
	ask(&question);
	assert_true(kit_gate_wait(&nodes[1].served, 1));
	assert_int_equal(kit_gate_count(&question.answered), 0);
	node_stop(&nodes[1]);
	expect(&question, MG_E_UNKNOWN_OUTCOME);
}

static void test_an_answer_that_is_late_is_not_one(void **state)
{
	struct question late = question_of(2, MG_ASK_PROPOSE, 1, NULL, 0);
	struct question next = question_of(2, MG_ASK_PROPOSE, 1, NULL, 0);

	(void)state;
	set_silent();
	late.timeout_ms = 20;
	ask(&next); /* that has more time, and went first */
	ask(&late);
	expect(&late, MG_E_UNKNOWN_OUTCOME);
	assert_true(kit_gate_wait(&nodes[1].served, 2));
	mg_raft_host_call(nodes[1].host, say_all, &nodes[1]);
	expect(&next, 0);
	assert_int_equal(next.answer.index, 77);
	assert_int_equal(kit_gate_count(&late.answered), 1);
}

static void test_too_many_are_refused(void **state)
{
	struct question many = question_of(2, MG_ASK_READ, 1, NULL, 0);
	struct question more = question_of(2, MG_ASK_READ, 1, NULL, 0);

	(void)state;
	set_silent();
	many.times = MG_FORWARD_COUNT_MAX;
	ask(&many);
	ask(&more);
	expect(&more, MG_E_BUSY);
	mg_raft_host_call(nodes[0].host, stop_forward, nodes[0].forward);
	expect(&many, MG_E_UNKNOWN_OUTCOME);
	more = question_of(2, MG_ASK_READ, 1, NULL, 0);
	ask(&more);
	expect(&more, MG_E_SHUTDOWN);
}

/* ---- nonsense ---- */

struct nonsense {
	uint8_t version, kind, what;
	size_t body;
};

static void send_nonsense(void *arg)
{
	const struct nonsense *nonsense = arg;
	struct mg_buf *frame = mg_buf_new(36 + nonsense->body);

	memset(frame->data, 0, 36 + nonsense->body);
	frame->data[0] = (uint8_t)(36 + nonsense->body);
	frame->data[4] = nonsense->version;
	frame->data[5] = nonsense->kind;
	frame->data[6] = nonsense->what;
	frame->data[36 + nonsense->body - 1] = 0xab; /* of an error: none there is */
	frame->size = 36 + nonsense->body;
	assert_true(mg_peers_send(nodes[0].net.peers, 2, frame) != 0);
}

static void test_nonsense_ends_the_connection(void **state)
{
	static struct nonsense list[] = {
		{ 2, 32, 1, 1 }, /* a version to come */
		{ 1, 32, 9, 1 }, /* asks for nothing */
		{ 1, 40, 1, 1 }, /* of no kind */
		{ 1, 33, 0, 1 }, /* cut */
		{ 1, 33, 0, 2 }, /* an error that is none */
		{ 1, 33, 0, 3 }, /* too long */
	};

	(void)state;
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct question question = question_of(2, MG_ASK_PROPOSE, 1, NULL, 0);
		struct question next = question_of(2, MG_ASK_PROPOSE, 1, NULL, 0);

		set_silent();
		ask(&question);
		mg_raft_host_call(nodes[0].host, send_nonsense, &list[i]);
		expect(&question, MG_E_UNKNOWN_OUTCOME);
		mg_raft_host_call(nodes[1].host, say_all, &nodes[1]);
		AWAIT(connected(&nodes[0]) && connected(&nodes[1]));
		ask(&next);
		expect(&next, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_asked_is_answered, begin, end),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_sent_did_not_happen, begin, end),
		cmocka_unit_test_setup_teardown(test_a_connection_that_breaks_leaves_it_unknown, begin,
		                                end),
		cmocka_unit_test_setup_teardown(test_an_answer_that_is_late_is_not_one, begin, end),
		cmocka_unit_test_setup_teardown(test_too_many_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_nonsense_ends_the_connection, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
