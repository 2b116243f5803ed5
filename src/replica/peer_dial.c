/*
 * peer_dial.c - who dials whom, and when again.
 *
 *     kick, lost -> schedule -> on_time -> mg_dial -> on_dialled: hello -> answer_data -> link
 *
 * owner: the loop that dials; of a node its timer, dialing, refused and failures.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/random.h"
#include "replica/peers_int.h"

#include <inttypes.h>
#include <string.h>

enum {
	DIAL_MS = 5000,  /* to connect, with TLS */
	HELLO_MS = 5000, /* to be answered */
	BACK_OFF_MS = 50,
	BACK_OFF_MAX_MS = 2000,
	REFUSED_MS = 30000, /* somebody has to do something about it */
	OTHER_DIALS_MS = 1000,
	STEADY_MS = 10000, /* a connection that lived so long had no trouble */
};

static void schedule(struct mg_peer_node *node);

/* A copy of the address when the node is to be dialled now, else NULL. */
static char *wanted_address(struct mg_peer_node *node)
{
	struct mg_peers *peers = node->peers;

	pthread_mutex_lock(&peers->lock);
	bool wanted = peers->started && !peers->stopping && node->address != NULL && node->link == NULL;
	char *address = wanted ? mg_strdup(node->address) : NULL;

	pthread_mutex_unlock(&peers->lock);
	return address;
}

/* A dial has come to nothing; why is told once, until it changes. */
static void failed(struct mg_peer_node *node, const char *why)
{
	struct mg_peers *peers = node->peers;

	node->dialing = false;
	node->failures++;
	pthread_mutex_lock(&peers->lock);
	bool matters = node->link == NULL && !peers->stopping;
	bool news = matters && strncmp(node->why, why, sizeof node->why - 1) != 0;

	if (matters) {
		mg_copy_text(node->why, sizeof node->why, why);
	}
	pthread_mutex_unlock(&peers->lock);
	mg_log(news ? MG_LOG_WARN : MG_LOG_DEBUG, "peer.unreachable", "server=%" PRIu64 " reason=%s",
	       node->node, why);
	schedule(node);
}

/* The answer to our hello. */
static long answer_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct mg_link *link = state;
	struct mg_error err = { 0 };
	struct mg_hello hello;
	size_t told;

	(void)conn;
	if (mg_hello_size(bytes, size, &told, &err) == 0 && (told == 0 || told > size)) {
		return 0;
	}
	if (err.code == 0 && mg_hello_decode(bytes, told, &hello, &err) == 0) {
		if (hello.kind == MG_HELLO_REFUSAL) {
			link->refused = true;
			(void)mg_error_set(&err, MG_E_DENIED, "it refuses this node: %s", hello.text);
		} else if (mg_peers__check_hello(link->peers, &hello, link->node->node, &err) != 0) {
			link->refused = true;
		} else {
			link->node->dialing = mg_peers__establish(link, &hello, 0, &err) != 0;
		}
	}
	if (err.code != 0) {
		mg_link__close(link, "%s", err.message);
		return (long)size;
	}
	return (long)told;
}

static const struct mg_protocol answer_protocol = {
	.name = "peer hello",
	.data = answer_data,
	.closed = mg_link__closed,
};

static void on_no_answer(void *arg)
{
	mg_link__close(arg, "it did not answer the hello in %d ms", HELLO_MS);
}

/* Somebody is there: the right one? */
static int check_dialled(struct mg_peer_node *node, struct mg_conn *conn, struct mg_error *err)
{
	const struct mg_peer_cert *cert = mg_conn_cert(conn);

	if (!mg_text_eq(mg_conn_alpn(conn), MG_NET_ALPN_PEER)) {
		return mg_error_set(err, MG_E_PROTOCOL, "%s does not speak \"%s\"", mg_conn_peer(conn),
		                    MG_NET_ALPN_PEER);
	}
	if (cert == NULL || cert->node != node->node) {
		return mg_error_set(err, MG_E_DENIED,
		                    "%s shows a certificate that is not of node %" PRIu64 " (node %" PRIu64
		                    ")",
		                    mg_conn_peer(conn), node->node, cert != NULL ? cert->node : 0);
	}
	return 0;
}

static void on_dialled(struct mg_conn *conn, const struct mg_error *error, void *arg)
{
	struct mg_peer_node *node = arg;
	struct mg_error err = { 0 };

	if (conn == NULL) {
		node->refused = false;
		failed(node, error->message);
		return;
	}
	if (check_dialled(node, conn, &err) != 0) {
		mg_conn_close(conn);
		node->refused = true;
		failed(node, err.message);
		return;
	}
	struct mg_link *link = mg_link__new(node->peers, node, conn, true);

	link->timer = mg_timer_start(link->loop, HELLO_MS, 0, on_no_answer, link);
	mg_conn_set_protocol(conn, &answer_protocol, link);
	mg_peers__say_hello(node->peers, conn);
}

static void on_time(void *arg)
{
	struct mg_peer_node *node = arg;
	struct mg_peers *peers = node->peers;
	char *address = wanted_address(node);

	mg_timer_stop(node->timer);
	node->timer = NULL;
	if (address != NULL) {
		node->dialing = true;
		mg_dial(peers->options.loop, address, peers->options.tls, DIAL_MS, on_dialled, node);
	}
	mg_free(address);
}

/* When to try again: later each time, and not all at once. */
static uint64_t delay_of(const struct mg_peer_node *node)
{
	uint64_t ms = 0;

	if (node->refused) {
		ms = REFUSED_MS;
	} else if (node->failures > 0) {
		ms = node->failures > 6 ? BACK_OFF_MAX_MS : (uint64_t)BACK_OFF_MS << (node->failures - 1);
		ms = ms > BACK_OFF_MAX_MS ? BACK_OFF_MAX_MS : ms;
	}
	ms = ms / 2 + mg_random_below((uint32_t)(ms / 2 + 1));
	if (node->peers->options.self < node->node) {
		ms += OTHER_DIALS_MS + mg_random_below(OTHER_DIALS_MS / 2);
	}
	return ms;
}

static void schedule(struct mg_peer_node *node)
{
	char *address = node->timer == NULL && !node->dialing ? wanted_address(node) : NULL;

	if (address != NULL) {
		node->timer = mg_timer_start(node->peers->options.loop, delay_of(node), 0, on_time, node);
	}
	mg_free(address);
}

void mg_peers__kick(void *arg)
{
	struct mg_peer_node *node = arg;

	mg_timer_stop(node->timer);
	node->timer = NULL;
	node->failures = 0;
	node->refused = false;
	schedule(node);
}

/* ---- the end of a connection ---- */

static void on_lost(void *arg)
{
	struct mg_peer_node *node = arg;

	pthread_mutex_lock(&node->peers->lock);
	bool steady = mg_clock_ms() - node->opened_ms > STEADY_MS;
	pthread_mutex_unlock(&node->peers->lock);
	node->failures = steady ? 0 : node->failures + 1;
	node->refused = false;
	schedule(node);
}

bool mg_peers__lost(struct mg_link *link, const char *reason)
{
	struct mg_peers *peers = link->peers;
	struct mg_peer_node *node = link->node;
	const char *why = reason[0] != '\0' ? reason : "the node has closed the connection";

	if (!link->open) {
		if (link->dialled) {
			node->refused = link->refused;
			failed(node, why);
		}
		return false;
	}
	mg_metric_add(peers->links, -1);
	pthread_mutex_lock(&peers->lock);
	bool current = node->link == link;
	bool stopping = peers->stopping;

	if (current) {
		node->link = NULL;
		mg_copy_text(node->why, sizeof node->why, why);
		if (!stopping) {
			mg_loop_post(peers->options.loop, on_lost, node);
		}
	}
	pthread_mutex_unlock(&peers->lock);
	if (!stopping) {
		mg_log(MG_LOG_INFO, "peer.lost", "server=%" PRIu64 " reason=%s", node->node, why);
	}
	if (current) {
		mg_link__unref(link);
	}
	return current && !stopping;
}
