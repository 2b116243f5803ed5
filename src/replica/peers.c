/*
 * peers.c - see peers.h: which nodes there are, what raft sends them, and the life of it all.
 *
 * The rest: peer_dial.c (who dials whom, and when), peer_hello.c (who is let in), peer_link.c (the
 * bytes of a connection).
 *
 * owner: the table under peers->lock.
 */
#include "replica/peers.h"

#include "auth/auth.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/str.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/peers_int.h"

#include <inttypes.h>
#include <string.h>

enum { QUEUE_BYTES = 32 << 20, INBOX_BYTES = 8 << 20 };

bool mg_peers__post(struct mg_peers *peers, struct mg_loop *loop, void (*fn)(void *), void *arg)
{
	pthread_mutex_lock(&peers->lock);
	bool post = !peers->stopping;

	if (post) {
		mg_loop_post(loop, fn, arg);
	}
	pthread_mutex_unlock(&peers->lock);
	return post;
}

/* ---- the table: nodes by their numbers; they stay until the end ---- */

/* Where it is, or belongs. */
static size_t place_of(const struct mg_peers *peers, uint64_t node)
{
	size_t low = 0, high = peers->node_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (peers->nodes[middle]->node < node) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static struct mg_peer_node *find(const struct mg_peers *peers, uint64_t node)
{
	size_t at = place_of(peers, node);

	return at < peers->node_count && peers->nodes[at]->node == node ? peers->nodes[at] : NULL;
}

struct mg_peer_node *mg_peers__find_or_add(struct mg_peers *peers, uint64_t number)
{
	struct mg_peer_node *node = find(peers, number);

	if (node != NULL || peers->node_count == MG_PEERS_MAX) {
		return node;
	}
	size_t at = place_of(peers, number);

	node = mg_alloc0(sizeof *node);
	node->peers = peers;
	node->node = number;
	mg_grow(peers->nodes, peers->node_count, peers->node_cap);
	memmove(peers->nodes + at + 1, peers->nodes + at,
	        (peers->node_count - at) * sizeof(struct mg_peer_node *));
	peers->nodes[at] = node;
	peers->node_count++;
	return node;
}

char *mg_peers__address(const struct mg_peers *peers, uint64_t number)
{
	const struct mg_peer_node *node = find(peers, number);

	return node && node->address ? mg_strdup(node->address) : NULL;
}

bool mg_peers__removed(const struct mg_peers *peers, uint64_t number)
{
	const struct mg_peer_node *node = find(peers, number);

	return node && node->removed;
}

/* ---- the net of raft: its thread alone ---- */

uint64_t mg_peers_send(struct mg_peers *peers, uint64_t number, struct mg_buf *frame)
{
	pthread_mutex_lock(&peers->lock);
	struct mg_peer_node *node = find(peers, number);
	struct mg_link *link = node != NULL && node->link != NULL ? mg_link__ref(node->link) : NULL;

	pthread_mutex_unlock(&peers->lock);
	if (link == NULL) {
		mg_metric_add(peers->dropped_down, 1);
		mg_buf_unref(frame);
		return 0;
	}
	uint64_t sent = mg_link__send(link, frame) ? link->number : 0;

	if (sent == 0) {
		mg_metric_add(peers->dropped_full, 1);
		mg_buf_unref(frame);
	}
	if (link->dirty) {
		mg_link__unref(link);
		return sent;
	}
	link->dirty = true;
	link->next_dirty = peers->dirty;
	peers->dirty = link;
	return sent;
}

static void net_send(struct mg_net *net, uint64_t number, struct mg_buf *frame)
{
	(void)mg_peers_send((struct mg_peers *)net, number, frame);
}

static void net_flush(struct mg_net *net)
{
	struct mg_peers *peers = (struct mg_peers *)net;

	while (peers->dirty != NULL) {
		struct mg_link *link = peers->dirty;

		peers->dirty = link->next_dirty;
		link->dirty = false;
		mg_link__flush(link);
		mg_link__unref(link);
	}
}

static const struct mg_net_ops net_ops = { .send = net_send, .flush = net_flush };

struct mg_net *mg_peers_net(struct mg_peers *peers)
{
	return &peers->net;
}

void mg_peers_set_messages(struct mg_peers *peers, const struct mg_peers_messages *messages)
{
	mg_assert(!peers->started);
	peers->messages = *messages;
}

/* ---- life ---- */

int mg_peers_tls(const char *data_dir, uint64_t self, struct mg_tls **server,
                 struct mg_tls **client, struct mg_error *err)
{
	static const char *const alpn[] = { MG_NET_ALPN_PEER, NULL };
	char *cert = mg_path_join(data_dir, "tls/node.crt");
	char *key = mg_path_join(data_dir, "tls/node.key");
	char *ca = mg_path_join(data_dir, "tls/ca.crt");
	struct mg_tls_server_options accept = {
		.cert_file = cert, .key_file = key, .client_ca_file = ca, .alpn = alpn
	};
	struct mg_tls_client_options dial = {
		.cert_file = cert, .key_file = key, .roots_file = ca, .alpn = alpn, .any_host = true
	};
	int code = mg_cert_node_ensure(data_dir, self, err);

	*server = *client = NULL;
	if (code == 0) {
		code = mg_tls_server(server, &accept, err);
	}
	if (code == 0) {
		code = mg_tls_client(client, &dial, err);
	}
	if (code != 0) {
		mg_tls_unref(*server);
		*server = NULL;
	}
	mg_free(ca);
	mg_free(key);
	mg_free(cert);
	return code;
}

static void make_metrics(struct mg_peers *peers)
{
	static const char dropped[] = "merganser_peer_frames_dropped_total";
	static const char why[] = "Frames to other nodes that were not sent.";

	peers->sent_frames = mg_metric_counter("merganser_peer_frames_sent_total", "",
	                                       "Frames of consensus sent to other nodes.");
	peers->sent_bytes = mg_metric_counter("merganser_peer_bytes_sent_total", "",
	                                      "Bytes of consensus sent to other nodes.");
	peers->received_frames = mg_metric_counter("merganser_peer_frames_received_total", "",
	                                           "Frames of consensus that came from other nodes.");
	peers->received_bytes = mg_metric_counter("merganser_peer_bytes_received_total", "",
	                                          "Bytes of consensus that came from other nodes.");
	peers->dropped_full = mg_metric_counter(dropped, "reason=\"full\"", why);
	peers->dropped_down = mg_metric_counter(dropped, "reason=\"not_connected\"", why);
	peers->refused = mg_metric_counter("merganser_peer_refused_total", "",
	                                   "Connections as a node that were refused.");
	peers->links = mg_metric_gauge("merganser_peer_connections", "", "Other nodes connected.");
}

struct mg_peers *mg_peers_new(const struct mg_peers_options *options)
{
	struct mg_peers *peers = mg_alloc0(sizeof *peers);

	mg_assert(options->self > 0 && options->loop != NULL && options->tls != NULL);
	mg_assert(options->cluster != NULL && strlen(options->cluster) <= MG_HELLO_TEXT_MAX);
	peers->net.ops = &net_ops;
	peers->options = *options;
	peers->options.cluster = mg_strdup(options->cluster);
	peers->options.program = mg_strdup(options->program != NULL ? options->program : "");
	peers->options.name = mg_strdup(options->name != NULL ? options->name : "");
	peers->options.address = mg_strdup(options->address != NULL ? options->address : "");
	peers->options.queue_bytes = options->queue_bytes != 0 ? options->queue_bytes : QUEUE_BYTES;
	peers->options.inbox_bytes = options->inbox_bytes != 0 ? options->inbox_bytes : INBOX_BYTES;
	pthread_mutex_init(&peers->lock, NULL);
	make_metrics(peers);
	return peers;
}

void mg_peers_start(struct mg_peers *peers, struct mg_raft_host *host)
{
	mg_assert(mg_raft_host_self(host) == peers->options.self);
	pthread_mutex_lock(&peers->lock);
	peers->host = host;
	peers->started = true;
	for (size_t i = 0; i < peers->node_count; i++) {
		mg_loop_post(peers->options.loop, mg_peers__kick, peers->nodes[i]);
	}
	pthread_mutex_unlock(&peers->lock);
}

static void close_removed(void *arg)
{
	mg_link__close(arg, "it is no node of this cluster any more");
	mg_link__unref(arg);
}

void mg_peers_set(struct mg_peers *peers, uint64_t number, const char *host_port)
{
	if (number == peers->options.self) {
		return;
	}
	pthread_mutex_lock(&peers->lock);
	struct mg_peer_node *node = mg_peers__find_or_add(peers, number);

	if (node != NULL &&
	    (node->removed != (host_port == NULL) || !mg_text_eq(node->address, host_port))) {
		mg_free(node->address);
		node->address = host_port != NULL ? mg_strdup(host_port) : NULL;
		node->removed = host_port == NULL;
		if (peers->started && !peers->stopping) {
			mg_loop_post(peers->options.loop, mg_peers__kick, node);
		}
		if (node->removed && node->link != NULL && !peers->stopping) {
			mg_loop_post(node->link->loop, close_removed, mg_link__ref(node->link));
		}
	}
	pthread_mutex_unlock(&peers->lock);
	if (node == NULL) {
		mg_log(MG_LOG_WARN, "peer.too_many", "server=%" PRIu64 " max=%d", number, MG_PEERS_MAX);
	}
}

size_t mg_peers_list(struct mg_peers *peers, struct mg_peer_info *infos, size_t max)
{
	pthread_mutex_lock(&peers->lock);
	size_t count = peers->node_count;

	for (size_t i = 0; i < count && i < max; i++) {
		const struct mg_peer_node *node = peers->nodes[i];

		infos[i] = (struct mg_peer_info){ .node = node->node,
			                              .connected = node->link != NULL,
			                              .incarnation = node->incarnation };
		mg_copy_text(infos[i].address, sizeof infos[i].address, node->address);
		mg_copy_text(infos[i].program, sizeof infos[i].program, node->program);
		mg_copy_text(infos[i].told_name, sizeof infos[i].told_name, node->told_name);
		mg_copy_text(infos[i].told_address, sizeof infos[i].told_address, node->told_address);
		mg_copy_text(infos[i].why, sizeof infos[i].why, node->why);
	}
	pthread_mutex_unlock(&peers->lock);
	return count;
}

static bool is_one_of(const struct mg_peer_node *node, const struct mg_members *among)
{
	return node->link && (!among || mg_members_find(among, node->node));
}

uint64_t mg_peers_one_of(struct mg_peers *peers, const struct mg_members *among, unsigned turn)
{
	size_t found = 0, at = 0;
	uint64_t one = 0;

	pthread_mutex_lock(&peers->lock);
	for (size_t i = 0; i < peers->node_count; i++) {
		found += is_one_of(peers->nodes[i], among);
	}
	for (size_t i = 0; found && i < peers->node_count; i++) {
		if (is_one_of(peers->nodes[i], among) && at++ == turn % found) {
			one = peers->nodes[i]->node;
		}
	}
	pthread_mutex_unlock(&peers->lock);
	return one;
}

static void close_stopping(void *arg)
{
	mg_link__close(arg, "this node stops");
	mg_link__unref(arg);
}

void mg_peers_stop(struct mg_peers *peers)
{
	pthread_mutex_lock(&peers->lock);
	for (size_t i = 0; i < peers->node_count && !peers->stopping; i++) {
		struct mg_link *link = peers->nodes[i]->link;

		if (link != NULL) {
			mg_loop_post(link->loop, close_stopping, mg_link__ref(link));
		}
	}
	peers->stopping = true;
	pthread_mutex_unlock(&peers->lock);
}

void mg_peers_free(struct mg_peers *peers)
{
	if (peers == NULL) {
		return;
	}
	while (peers->dirty != NULL) {
		struct mg_link *link = peers->dirty;

		peers->dirty = link->next_dirty;
		mg_link__unref(link);
	}
	for (size_t i = 0; i < peers->node_count; i++) {
		mg_assert(peers->nodes[i]->link == NULL);
		mg_free(peers->nodes[i]->address);
		mg_free(peers->nodes[i]);
	}
	mg_free(peers->nodes);
	mg_free((char *)peers->options.cluster);
	mg_free((char *)peers->options.program);
	mg_free((char *)peers->options.name);
	mg_free((char *)peers->options.address);
	pthread_mutex_destroy(&peers->lock);
	mg_free(peers);
}
