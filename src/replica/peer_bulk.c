/*
 * peer_bulk.c - second connections between nodes, for what is large and must not delay raft:
 * snapshots (BULK) and statements (RELAY).
 *
 *     dial -> mg_dial -> hello of that kind -> the other end's hello -> done(connection)
 *     choose: a hello of that kind -> our hello -> take(connection)
 *
 * Rule: as for the first connection, nothing is believed before the certificate names a node and
 * both hellos are good.  Nothing is dialled again here: who wanted it knows whether it still does.
 *
 * owner: the loop of the connection.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/str.h"
#include "replica/peers_int.h"

#include <inttypes.h>
#include <string.h>

enum { DIAL_MS = 5000, HELLO_MS = 5000 };

/* A dial, until done is called. */
struct dial {
	struct mg_peers *peers;
	uint64_t node;
	uint8_t kind; /* enum mg_hello_kind */
	void (*done)(void *arg, struct mg_conn *conn, const struct mg_error *err);
	void *arg;
	struct mg_conn *conn;
	struct mg_timer *timer;
	struct mg_error err;
};

/* conn NULL: err says why. */
static void end(struct dial *dial, struct mg_conn *conn)
{
	mg_timer_stop(dial->timer);
	dial->done(dial->arg, conn, conn ? NULL : &dial->err);
	mg_free(dial);
}

static void dial_closed(struct mg_conn *conn, void *state, const char *reason)
{
	struct dial *dial = state;

	(void)conn;
	if (!dial->err.code) {
		mg_error_set(&dial->err, MG_E_DISCONNECTED, "node %" PRIu64 " hung up: %s", dial->node,
		             reason[0] ? reason : "it has closed the connection");
	}
	end(dial, NULL);
}

/* The answer to our hello. */
static long dial_data(struct mg_conn *conn, void *state, const uint8_t *bytes, size_t size)
{
	struct dial *dial = state;
	struct mg_hello hello;
	size_t told;

	if (dial->err.code) {
		return (long)size; /* it is being closed */
	}
	if (mg_hello_size(bytes, size, &told, &dial->err) == 0 && (told == 0 || told > size)) {
		return 0;
	}
	if (!dial->err.code && mg_hello_decode(bytes, told, &hello, &dial->err) == 0) {
		if (hello.kind == MG_HELLO_REFUSAL) {
			mg_error_set(&dial->err, MG_E_DENIED, "node %" PRIu64 " refuses this node: %s",
			             dial->node, hello.text);
		} else if (mg_peers__check_hello(dial->peers, &hello, dial->node, &dial->err) == 0) {
			end(dial, conn);
			return (long)told;
		}
	}
	mg_conn_close(conn);
	return (long)size;
}

static const struct mg_protocol dial_protocol = {
	.name = "peer bulk hello",
	.data = dial_data,
	.closed = dial_closed,
};

static void on_no_answer(void *arg)
{
	struct dial *dial = arg;

	if (!dial->err.code) {
		mg_error_set(&dial->err, MG_E_TIMEOUT, "node %" PRIu64 " did not answer the hello in %d ms",
		             dial->node, HELLO_MS);
		mg_conn_close(dial->conn);
	}
}

static void on_dialled(struct mg_conn *conn, const struct mg_error *error, void *arg)
{
	struct dial *dial = arg;
	const struct mg_peer_cert *cert = conn ? mg_conn_cert(conn) : NULL;

	if (!conn) {
		dial->err = *error;
		end(dial, NULL);
		return;
	}
	if (!mg_text_eq(mg_conn_alpn(conn), MG_NET_ALPN_PEER) || !cert || cert->node != dial->node) {
		mg_error_set(&dial->err, MG_E_DENIED, "%s is not node %" PRIu64, mg_conn_peer(conn),
		             dial->node);
		mg_conn_close(conn);
		end(dial, NULL);
		return;
	}
	dial->conn = conn;
	dial->timer = mg_timer_start(mg_conn_loop(conn), HELLO_MS, 0, on_no_answer, dial);
	mg_conn_set_protocol(conn, &dial_protocol, dial);
	mg_peers__hello(dial->peers, conn, dial->kind);
}

static void dial_beside(struct mg_peers *peers, uint64_t node, enum mg_hello_kind kind,
                        void (*done)(void *arg, struct mg_conn *conn, const struct mg_error *err),
                        void *arg)
{
	struct dial *dial = mg_alloc0(sizeof *dial);

	*dial = (struct dial){
		.peers = peers, .node = node, .kind = (uint8_t)kind, .done = done, .arg = arg
	};
	pthread_mutex_lock(&peers->lock);
	char *address = peers->stopping ? NULL : mg_peers__address(peers, node);

	if (address) {
		mg_dial(peers->options.loop, address, peers->options.tls, DIAL_MS, on_dialled, dial);
	}
	pthread_mutex_unlock(&peers->lock);
	if (!address) {
		mg_error_set(&dial->err, MG_E_CONNECT, "it is not known where node %" PRIu64 " is", node);
		end(dial, NULL);
	}
	mg_free(address);
}

void mg_peers_dial_bulk(struct mg_peers *peers, uint64_t node,
                        void (*done)(void *arg, struct mg_conn *conn, const struct mg_error *err),
                        void *arg)
{
	dial_beside(peers, node, MG_HELLO_BULK, done, arg);
}

void mg_peers_dial_relay(struct mg_peers *peers, uint64_t node,
                         void (*done)(void *arg, struct mg_conn *conn, const struct mg_error *err),
                         void *arg)
{
	dial_beside(peers, node, MG_HELLO_RELAY, done, arg);
}

void mg_peers_set_bulk(struct mg_peers *peers,
                       bool (*take)(void *arg, struct mg_conn *conn, uint64_t node, size_t skip),
                       void *arg)
{
	pthread_mutex_lock(&peers->lock);
	peers->bulk = (struct mg_taker){ take, arg };
	pthread_mutex_unlock(&peers->lock);
}

void mg_peers_set_relay(struct mg_peers *peers,
                        bool (*take)(void *arg, struct mg_conn *conn, uint64_t node, size_t skip),
                        void *arg)
{
	pthread_mutex_lock(&peers->lock);
	peers->relay = (struct mg_taker){ take, arg };
	pthread_mutex_unlock(&peers->lock);
}

int mg_peers__welcome_beside(struct mg_peers *peers, struct mg_conn *conn, uint8_t kind,
                             size_t size, struct mg_error *err)
{
	uint64_t node = mg_conn_cert(conn)->node;
	bool relay = kind == MG_HELLO_RELAY;

	pthread_mutex_lock(&peers->lock);
	bool removed = mg_peers__removed(peers, node);
	struct mg_taker taker = relay ? peers->relay : peers->bulk;
	pthread_mutex_unlock(&peers->lock);
	if (removed) {
		return mg_error_set(err, MG_E_DENIED,
		                    "node %" PRIu64 " is no node of this cluster any more", node);
	}
	if (!taker.take || !taker.take(taker.arg, conn, node, size)) {
		return mg_error_set(err, MG_E_BUSY, "this node %s now",
		                    relay ? "takes no statements" : "gives no snapshots");
	}
	mg_peers__say_hello(peers, conn);
	return 0;
}
