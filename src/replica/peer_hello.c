/*
 * peer_hello.c - who is let in: certificate, hello, and which of two connections stays.
 *
 * Rule: nothing of a connection is believed before its certificate names a node; nothing of raft is
 * read before both hellos are good.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/str.h"
#include "os/clock.h"
#include "replica/peers_int.h"

#include <inttypes.h>
#include <string.h>

#define REFUSAL_LOG_MS 1000

void mg_peers__hello(struct mg_peers *peers, struct mg_conn *conn, uint8_t kind)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello hello = {
		.kind = kind,
		.version_min = MG_LINK_VERSION_MIN,
		.version_max = MG_LINK_VERSION_MAX,
		.node = peers->options.self,
		.incarnation = mg_raft_host_incarnation(peers->host),
	};

	mg_copy_text(hello.cluster, sizeof hello.cluster, peers->options.cluster);
	mg_copy_text(hello.program, sizeof hello.program, peers->options.program);
	mg_copy_text(hello.name, sizeof hello.name, peers->options.name);
	mg_copy_text(hello.address, sizeof hello.address, peers->options.address);
	mg_conn_write(conn, bytes, mg_hello_encode(&hello, bytes));
}

void mg_peers__say_hello(struct mg_peers *peers, struct mg_conn *conn)
{
	mg_peers__hello(peers, conn, MG_HELLO);
}

int mg_peers__check_hello(const struct mg_peers *peers, const struct mg_hello *hello, uint64_t node,
                          struct mg_error *err)
{
	if (strcmp(hello->cluster, peers->options.cluster) != 0) {
		return mg_error_set(err, MG_E_DENIED,
		                    "node %" PRIu64 " belongs to cluster \"%s\", node %" PRIu64
		                    " to cluster \"%s\"",
		                    node, hello->cluster, peers->options.self, peers->options.cluster);
	}
	if (hello->version_min > MG_LINK_VERSION_MAX || hello->version_max < MG_LINK_VERSION_MIN) {
		return mg_error_set(err, MG_E_DENIED,
		                    "node %" PRIu64 " (%s) speaks versions %u to %u between nodes, node "
		                    "%" PRIu64 " (%s) versions %d to %d: upgrade the older one",
		                    node, hello->program, hello->version_min, hello->version_max,
		                    peers->options.self, peers->options.program, MG_LINK_VERSION_MIN,
		                    MG_LINK_VERSION_MAX);
	}
	if (node == peers->options.self) {
		return mg_error_set(err, MG_E_DENIED, "it is node %" PRIu64 ", as this one", node);
	}
	if (hello->node != node) {
		return mg_error_set(err, MG_E_DENIED,
		                    "it calls itself node %" PRIu64 " and shows the certificate of node "
		                    "%" PRIu64,
		                    hello->node, node);
	}
	return 0;
}

static void close_replaced(void *arg)
{
	mg_link__close(arg, "a newer connection of the same node is there");
	mg_link__unref(arg);
}

int mg_peers__establish(struct mg_link *link, const struct mg_hello *hello, size_t skip,
                        struct mg_error *err)
{
	struct mg_peers *peers = link->peers;
	struct mg_peer_node *node = link->node;
	struct mg_link *old = NULL;
	int code = 0;

	pthread_mutex_lock(&peers->lock);
	if (peers->stopping) {
		code = mg_error_set(err, MG_E_SHUTDOWN, "shutting down");
	} else if (node->removed) {
		code = mg_error_set(err, MG_E_DENIED,
		                    "node %" PRIu64 " is no node of this cluster any more", node->node);
	} else if (hello->incarnation < node->incarnation) {
		code = mg_error_set(err, MG_E_DENIED,
		                    "node %" PRIu64 " has been started since: this is an older process, or "
		                    "a copy of its data directory",
		                    node->node);
	} else if (link->dialled && node->link != NULL) {
		code = mg_error_set(err, MG_E_DUPLICATE, "the node has connected meanwhile");
	} else {
		old = node->link;
		node->link = mg_link__ref(link);
		link->number = ++peers->link_count;
		node->incarnation = hello->incarnation;
		node->opened_ms = mg_clock_ms();
		node->why[0] = '\0';
		mg_copy_text(node->program, sizeof node->program, hello->program);
		mg_copy_text(node->told_name, sizeof node->told_name, hello->name);
		mg_copy_text(node->told_address, sizeof node->told_address, hello->address);
		if (old != NULL) {
			mg_loop_post(old->loop, close_replaced, old);
		}
	}
	pthread_mutex_unlock(&peers->lock);
	if (code == 0) {
		mg_metric_add(peers->links, 1);
		mg_log(MG_LOG_INFO, "peer.connected",
		       "server=%" PRIu64 " address=%s dialled=%d incarnation=%" PRIu64 " program=%s",
		       node->node, mg_conn_peer(link->conn), link->dialled, hello->incarnation,
		       hello->program);
		mg_link__open(link, skip);
	}
	return code;
}

/* ---- accepting ---- */

static long refused_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	(void)conn;
	(void)state;
	(void)bytes;
	return (long)size;
}

static const struct mg_protocol refused_protocol = { .name = "peer", .data = refused_data };

/* The certificate may be anybody's, so nothing is remembered of it but a line, one in a second. */
static void refuse(struct mg_peers *peers, struct mg_conn *conn, const char *why)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello hello = { .kind = MG_HELLO_REFUSAL };
	uint64_t now_ms = mg_clock_ms();

	pthread_mutex_lock(&peers->lock);
	bool quiet = peers->refusal_logged_ms != 0 &&
	             now_ms - peers->refusal_logged_ms < REFUSAL_LOG_MS;

	peers->refusal_logged_ms = quiet ? peers->refusal_logged_ms : now_ms;
	pthread_mutex_unlock(&peers->lock);
	mg_metric_add(peers->refused, 1);
	mg_log(quiet ? MG_LOG_DEBUG : MG_LOG_WARN, "peer.refused", "address=%s reason=%s",
	       mg_conn_peer(conn), why);
	mg_copy_text(hello.text, sizeof hello.text, why);
	mg_conn_set_protocol(conn, &refused_protocol, NULL);
	mg_conn_write(conn, bytes, mg_hello_encode(&hello, bytes));
	mg_conn_close_after_write(conn);
}

static int check_cert(const struct mg_conn *conn, struct mg_error *err)
{
	const struct mg_peer_cert *cert = mg_conn_cert(conn);

	if (cert == NULL) {
		return mg_error_set(err, MG_E_DENIED, "it showed no certificate");
	}
	if (cert->node == 0) {
		return mg_error_set(err, MG_E_DENIED, "its certificate is no node's: %s",
		                    cert->good ? "it names a user" : cert->reason);
	}
	return 0;
}

static int welcome(struct mg_peers *peers, struct mg_conn *conn, const struct mg_hello *hello,
                   size_t size, struct mg_error *err)
{
	pthread_mutex_lock(&peers->lock);
	struct mg_peer_node *node = mg_peers__find_or_add(peers, mg_conn_cert(conn)->node);

	pthread_mutex_unlock(&peers->lock);
	if (node == NULL) {
		return mg_error_set(err, MG_E_LIMIT, "there are %d nodes already", MG_PEERS_MAX);
	}
	struct mg_link *link = mg_link__new(peers, node, conn, false);
	int code = mg_peers__establish(link, hello, size, err);

	if (code == 0) {
		mg_peers__say_hello(peers, conn); /* before any frame: those come by a post */
	} else {
		link->conn = NULL; /* it stays the listener's */
		mg_link__unref(link);
	}
	return code;
}

bool mg_peers_choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	struct mg_peers *peers = arg;
	struct mg_error err = { 0 };
	struct mg_hello hello;
	size_t told;

	pthread_mutex_lock(&peers->lock);
	bool ready = peers->started && !peers->stopping;

	pthread_mutex_unlock(&peers->lock);
	if (!ready) {
		mg_conn_close(conn);
		return false;
	}
	if (check_cert(conn, &err) == 0 && mg_hello_size(bytes, size, &told, &err) == 0) {
		if (told == 0 || told > size) {
			return false;
		}
		if (mg_hello_decode(bytes, told, &hello, &err) == 0) {
			if (hello.kind == MG_HELLO_REFUSAL) {
				(void)mg_error_set(&err, MG_E_PROTOCOL, "a refusal is no hello");
			} else if (mg_peers__check_hello(peers, &hello, mg_conn_cert(conn)->node, &err) == 0) {
				(void)(hello.kind == MG_HELLO
				           ? welcome(peers, conn, &hello, told, &err)
				           : mg_peers__welcome_beside(peers, conn, hello.kind, told, &err));
			}
		}
	}
	if (err.code == MG_E_SHUTDOWN) {
		mg_conn_close(conn);
		return false;
	}
	if (err.code != 0) {
		refuse(peers, conn, err.message);
	}
	return true;
}
