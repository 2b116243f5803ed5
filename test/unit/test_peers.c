/*
 * Nodes over real TLS on loopback: three of them agree, fail over and heal; strangers, fools and
 * liars are refused in words; queues have their bounds.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "base/metrics.h"
#include "net_kit.h"
#include "os/file.h"
#include "raft/frame.h"
#include "replica/hello.h"
#include "replica/peers.h"
#include "unit/replica_kit.h"

#include <poll.h>
#include <sys/ioctl.h>

#define NODES 3
#define CLUSTER "0123456789abcdef0123456789abcdef"

static struct kit_certs certs, others;

static int setup(void **state)
{
	(void)state;
	kit_certs_make(&certs, "server");
	kit_certs_make(&others, "stranger");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return mg_tree_remove(certs.dir, NULL) || mg_tree_remove(others.dir, NULL);
}

/* ---- nodes ---- */

struct node {
	uint64_t self;
	char dir[128];
	bool up;
	uint16_t port; /* the same after each start */
	struct mg_loop *loops[2];
	struct mg_tls *tls, *accept, *dial;
	struct mg_listener *listener;
	struct mg_peers *peers;
	struct kit_replica replica;
};

static bool choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	if (strcmp(mg_conn_alpn(conn), MG_NET_ALPN_PEER) != 0) {
		mg_conn_close(conn);
		return false;
	}
	return mg_peers_choose(conn, arg, bytes, size);
}

static void copy_file(const char *from, const char *dir, const char *name)
{
	char *path = mg_path_join(dir, name);
	char *text = NULL;
	size_t size;

	assert_int_equal(mg_file_read(from, 1 << 16, &text, &size, NULL), 0);
	assert_int_equal(mg_file_write(path, text, size, 0600, NULL), 0);
	mg_free(text);
	mg_free(path);
}

static void node_make(struct node *node, uint64_t self, const struct kit_certs *of)
{
	char path[160];

	*node = (struct node){ .self = self };
	snprintf(node->dir, sizeof node->dir, "%s/node%d.XXXXXX", of->dir, (int)self);
	assert_non_null(mkdtemp(node->dir));
	snprintf(path, sizeof path, "%s/tls", node->dir);
	assert_int_equal(mg_dir_make(path, 0700, NULL), 0);
	copy_file(of->ca, node->dir, "tls/ca.crt");
	copy_file(of->ca_key, node->dir, "tls/ca.key");
}

/* limits: of queue and inbox; zeros: as they are. */
static void node_start(struct node *node, uint64_t members, size_t queue_bytes, size_t inbox_bytes)
{
	static const char *const http[] = { "http/1.1", NULL };
	struct mg_error err = { 0 };
	char address[32];

	for (int i = 0; i < 2; i++) {
		kit_must(mg_loop_start(&node->loops[i], "test", &err), &err);
	}
	kit_must(mg_peers_tls(node->dir, node->self, &node->accept, &node->dial, &err), &err);
	struct mg_tls_server_options tls = {
		.cert_file = certs.cert, .key_file = certs.key, .alpn = http, .peers = node->accept
	};

	kit_must(mg_tls_server(&node->tls, &tls, &err), &err);
	node->peers = mg_peers_new(&(struct mg_peers_options){ .self = node->self,
	                                                       .cluster = CLUSTER,
	                                                       .program = "test",
	                                                       .loop = node->loops[0],
	                                                       .tls = node->dial,
	                                                       .queue_bytes = queue_bytes,
	                                                       .inbox_bytes = inbox_bytes });
	kit_open(&node->replica, node->dir, node->self, members, mg_peers_net(node->peers));
	mg_peers_start(node->peers, node->replica.host);
	snprintf(address, sizeof address, "127.0.0.1:%u", node->port);
	kit_must(mg_listen(
				 &node->listener, node->loops, 2,
				 &(struct mg_listen_options){
					 .host_port = address, .tls = node->tls, .choose = choose, .arg = node->peers },
				 &err),
	         &err);
	node->port = mg_listener_port(node->listener);
	kit_must(mg_raft_host_start(node->replica.host, &err), &err);
	node->up = true;
}

static void node_stop(struct node *node)
{
	if (!node->up) {
		return;
	}
	node->up = false;
	mg_listener_close(node->listener);
	mg_peers_stop(node->peers);
	kit_stop(&node->replica);
	mg_loop_stop(node->loops[0]);
	mg_loop_stop(node->loops[1]);
	kit_close(&node->replica);
	mg_peers_free(node->peers);
	mg_tls_unref(node->tls);
	mg_tls_unref(node->accept);
	mg_tls_unref(node->dial);
}

static void name_each_other(struct node *nodes, size_t count)
{
	char address[32];

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count && nodes[i].up; j++) {
			snprintf(address, sizeof address, "127.0.0.1:%u", nodes[j].port);
			mg_peers_set(nodes[i].peers, nodes[j].self, address);
		}
	}
}

/* ---- waiting ---- */

/* Look again and again, until it is so; a test that waits in vain fails. */
#define AWAIT(condition)                                                       \
	for (uint64_t patience = mg_clock_ms() + KIT_PATIENCE_MS; !(condition);) { \
		if (mg_clock_ms() > patience) {                                        \
			fail_msg("waited in vain: " #condition);                           \
		}                                                                      \
		mg_sleep_ms(2);                                                        \
	}

static struct mg_peer_info info_of(struct node *node, uint64_t peer)
{
	struct mg_peer_info infos[16];
	size_t count = mg_peers_list(node->peers, infos, 16);

	for (size_t i = 0; i < count; i++) {
		if (infos[i].node == peer) {
			return infos[i];
		}
	}
	return (struct mg_peer_info){ 0 };
}

static bool leads(struct node *node)
{
	if (!node->up) {
		return false;
	}
	pthread_mutex_lock(&node->replica.lock);
	bool leader = node->replica.role == MG_RAFT_LEADER;

	pthread_mutex_unlock(&node->replica.lock);
	return leader;
}

static struct node *leader_of(struct node *nodes)
{
	for (int i = 0; i < NODES; i++) {
		if (leads(&nodes[i])) {
			return &nodes[i];
		}
	}
	return NULL;
}

/* Numbers first .. last, one after the other, each until somebody says that it is done.  An outcome
 * that nobody knows may make one of them twice. */
static void propose(struct node *nodes, uint32_t first, uint32_t last)
{
	for (uint32_t number = first; number <= last; number++) {
		int error = MG_E_UNAVAILABLE;

		while (error) {
			struct node *leader = NULL;
			struct kit_proposer proposer;

			AWAIT((leader = leader_of(nodes)) != NULL);
			kit_proposer_init(&proposer, &leader->replica, 0, 1);
			error = kit_propose(&proposer, number, number);
			kit_proposer_fini(&proposer);
		}
	}
}

static bool has(struct node *node, uint32_t number)
{
	struct kit_replica *replica = &node->replica;
	bool found = false;

	pthread_mutex_lock(&replica->lock);
	for (size_t i = replica->applied_count; i > 0 && !found; i--) {
		found = replica->applied[i - 1].number == number;
	}
	pthread_mutex_unlock(&replica->lock);
	return found;
}

/* All have numbers 1 .. last, and the same history. */
static void check_all(struct node *nodes, uint32_t last)
{
	for (int i = 0; i < NODES; i++) {
		AWAIT(has(&nodes[i], last));
	}
	for (int i = 0; i < NODES; i++) {
		struct kit_replica *a = &nodes[0].replica, *b = &nodes[i].replica;
		uint32_t next = 1;

		pthread_mutex_lock(&a->lock);
		if (i > 0) {
			pthread_mutex_lock(&b->lock);
		}
		size_t count = a->applied_count < b->applied_count ? a->applied_count : b->applied_count;

		assert_memory_equal(a->applied, b->applied, count * sizeof *a->applied);
		for (size_t at = 0; at < b->applied_count; at++) {
			next += b->applied[at].number == next;
		}
		assert_true(next > last);
		if (i > 0) {
			pthread_mutex_unlock(&b->lock);
		}
		pthread_mutex_unlock(&a->lock);
	}
}

/* ---- three nodes ---- */

static void start_all(struct node *nodes)
{
	for (int i = 0; i < NODES; i++) {
		node_make(&nodes[i], (uint64_t)i + 1, &certs);
		node_start(&nodes[i], NODES, 0, 0);
	}
	name_each_other(nodes, NODES);
}

static void stop_all(struct node *nodes)
{
	for (int i = 0; i < NODES; i++) {
		node_stop(&nodes[i]);
	}
}

static void test_a_leader_dies_and_comes_back(void **state)
{
	struct node nodes[NODES];

	(void)state;
	start_all(nodes);
	propose(nodes, 1, 100);
	check_all(nodes, 100);
	struct node *leader = leader_of(nodes);
	struct node *other = leader == &nodes[0] ? &nodes[1] : &nodes[0];
	uint64_t before = info_of(other, leader->self).incarnation;

	node_stop(leader);
	propose(nodes, 101, 200);
	node_start(leader, NODES, 0, 0);
	name_each_other(nodes, NODES);
	check_all(nodes, 200);
	AWAIT(info_of(other, leader->self).connected);
	assert_true(info_of(other, leader->self).incarnation > before);
	propose(nodes, 201, 220);
	check_all(nodes, 220);
	stop_all(nodes);
}

/* Told, not judged. */
static void measure(struct node *nodes, unsigned window, uint32_t count)
{
	struct kit_proposer proposer;
	struct node *leader = leader_of(nodes);

	if (leader == NULL) {
		return;
	}
	uint64_t start = mg_clock_us();

	kit_proposer_init(&proposer, &leader->replica, 1, window);
	if (kit_propose(&proposer, 1, count) == 0) {
		printf("             three nodes, %2u under way: %8.0f commits/s\n", window,
		       count * 1e6 / (double)(mg_clock_us() - start));
	}
	kit_proposer_fini(&proposer);
}

static void test_how_fast(void **state)
{
	struct node nodes[NODES];

	(void)state;
	start_all(nodes);
	propose(nodes, 1, 1);
	measure(nodes, 1, 200);
	measure(nodes, 32, 3000);
	stop_all(nodes);
}

/* Break every connection between the nodes, as a network does; returns how many ends. */
static int cut_all(const struct node *nodes)
{
	int ends = 0;

	for (int fd = 3; fd < 1024; fd++) {
		struct sockaddr_in ours = { 0 }, theirs = { 0 };
		socklen_t size = sizeof ours;

		if (getsockname(fd, (struct sockaddr *)&ours, &size) != 0 || ours.sin_family != AF_INET) {
			continue;
		}
		size = sizeof theirs;
		if (getpeername(fd, (struct sockaddr *)&theirs, &size) != 0) {
			continue;
		}
		for (int i = 0; i < NODES; i++) {
			if (ntohs(ours.sin_port) == nodes[i].port || ntohs(theirs.sin_port) == nodes[i].port) {
				ends += shutdown(fd, SHUT_RDWR) == 0;
				break;
			}
		}
	}
	return ends;
}

static void test_cut_connections_heal(void **state)
{
	struct node nodes[NODES];

	(void)state;
	start_all(nodes);
	for (uint32_t round = 0; round < 5; round++) {
		propose(nodes, round * 20 + 1, round * 20 + 20);
		for (int i = 0; i < NODES; i++) {
			AWAIT(info_of(&nodes[i], (uint64_t)((i + 1) % NODES) + 1).connected);
		}
		assert_true(cut_all(nodes) > 0);
	}
	propose(nodes, 101, 120);
	check_all(nodes, 120);
	stop_all(nodes);
}

/* ---- dialling what is not there, or not the right one ---- */

static void test_why_a_node_cannot_be_reached_is_told(void **state)
{
	struct node here, there, foreign;
	struct kit_server web = { 0 };
	char address[32];

	(void)state;
	node_make(&here, 3, &certs);
	node_make(&there, 2, &certs);
	node_make(&foreign, 1, &others);
	node_start(&here, NODES, 0, 0);
	node_start(&there, NODES, 0, 0);
	node_start(&foreign, NODES, 0, 0);
	kit_server_start(&web, &certs, (struct mg_listen_options){ 0 });

	snprintf(address, sizeof address, "127.0.0.1:%u", foreign.port);
	mg_peers_set(here.peers, 1, address);
	AWAIT(strstr(info_of(&here, 1).why, "certificate was refused"));
	mg_peers_set(here.peers, 1, kit_address(&web));
	AWAIT(strstr(info_of(&here, 1).why, "TLS handshake"));
	snprintf(address, sizeof address, "127.0.0.1:%u", there.port);
	mg_peers_set(here.peers, 1, address);
	AWAIT(strstr(info_of(&here, 1).why, "not of node 1 (node 2)"));
	mg_peers_set(here.peers, 2, "127.0.0.1:1");
	AWAIT(strstr(info_of(&here, 2).why, "refused"));
	assert_false(info_of(&here, 2).connected);
	/* And then it is told where the other one really is. */
	mg_peers_set(here.peers, 2, address);
	AWAIT(info_of(&here, 2).connected && info_of(&there, 3).connected);
	assert_string_equal(info_of(&there, 3).program, "test");
	assert_string_equal(info_of(&there, 3).address, "");
	/* A node that was removed is cut off, and comes in no more. */
	mg_peers_set(there.peers, 3, NULL);
	AWAIT(!info_of(&there, 3).connected);
	AWAIT(strstr(info_of(&here, 2).why, "no node of this cluster any more"));
	kit_server_stop(&web);
	node_stop(&here);
	node_stop(&there);
	node_stop(&foreign);
}

/* The node of the lower number dials too, when the other one cannot. */
static void test_the_lower_node_dials_when_it_must(void **state)
{
	struct node nodes[2];
	char address[32];

	(void)state;
	for (int i = 0; i < 2; i++) {
		node_make(&nodes[i], (uint64_t)i + 1, &certs);
		node_start(&nodes[i], NODES, 0, 0);
	}
	snprintf(address, sizeof address, "127.0.0.1:%u", nodes[1].port);
	mg_peers_set(nodes[0].peers, 2, address);
	AWAIT(info_of(&nodes[0], 2).connected && info_of(&nodes[1], 1).connected);
	node_stop(&nodes[0]);
	node_stop(&nodes[1]);
}

/* ---- guests by hand ---- */

struct guest {
	struct kit_peer peer;
	bool shaken; /* the handshake was done */
};

static struct guest knock(const struct node *node, const char *cert, const char *key,
                          const char *alpn)
{
	struct kit_server server = { .listener = node->listener };
	struct guest guest = { .peer = kit_peer_open(&server) };
	uint8_t list[64] = { (uint8_t)strlen(alpn) };

	memcpy(list + 1, alpn, strlen(alpn));
	guest.peer.ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_load_verify_file(guest.peer.ctx, certs.ca), 1);
	SSL_CTX_set_verify(guest.peer.ctx, SSL_VERIFY_PEER, NULL);
	if (cert) {
		assert_int_equal(SSL_CTX_use_certificate_chain_file(guest.peer.ctx, cert), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(guest.peer.ctx, key, SSL_FILETYPE_PEM), 1);
	}
	guest.peer.ssl = SSL_new(guest.peer.ctx);
	assert_int_equal(SSL_set_alpn_protos(guest.peer.ssl, list, 1 + list[0]), 0);
	assert_int_equal(SSL_set_fd(guest.peer.ssl, guest.peer.fd), 1);
	guest.shaken = SSL_connect(guest.peer.ssl) == 1;
	return guest;
}

static struct mg_hello hello_of(uint64_t node, uint64_t incarnation)
{
	return (struct mg_hello){
		.kind = MG_HELLO,
		.version_min = MG_LINK_VERSION_MIN,
		.version_max = MG_LINK_VERSION_MAX,
		.node = node,
		.incarnation = incarnation,
		.cluster = CLUSTER,
		.program = "guest",
	};
}

static void send_hello(struct guest *guest, const struct mg_hello *hello)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];

	kit_peer_send(&guest->peer, bytes, mg_hello_encode(hello, bytes));
}

static struct mg_hello read_hello(struct guest *guest)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX];
	struct mg_hello hello;
	size_t size;

	kit_peer_expect_size(&guest->peer, bytes, 4);
	assert_int_equal(mg_hello_size(bytes, 4, &size, NULL), 0);
	kit_peer_expect_size(&guest->peer, bytes + 4, size - 4);
	assert_int_equal(mg_hello_decode(bytes, size, &hello, NULL), 0);
	return hello;
}

/* Read to the end; how it ends does not matter. */
static void expect_end(struct guest *guest)
{
	uint8_t bytes[4096];

	while (kit_peer_read(&guest->peer, bytes, sizeof bytes) > 0) {
	}
	kit_peer_close(&guest->peer);
}

static void expect_refusal(struct guest *guest, const char *text)
{
	struct mg_hello hello = read_hello(guest);

	assert_int_equal(hello.kind, MG_HELLO_REFUSAL);
	if (!strstr(hello.text, text)) {
		fail_msg("\"%s\" does not say \"%s\"", hello.text, text);
	}
	expect_end(guest);
}

/* A bed: one node of a group of its own, and what guests may show. */
struct bed {
	struct node node;
	char cert[128], key[128];            /* node 9's */
	char user[128], user_key[128];       /* a user's, of the same CA */
	char foreign[128], foreign_key[128]; /* node 9's, of another CA */
};

static void bed_open(struct bed *bed, size_t queue_bytes, size_t inbox_bytes)
{
	struct mg_error err = { 0 };

	node_make(&bed->node, 1, &certs);
	node_start(&bed->node, 1, queue_bytes, inbox_bytes);
	kit_await_leader(&bed->node.replica);
	snprintf(bed->cert, sizeof bed->cert, "%s/9.crt", certs.dir);
	snprintf(bed->key, sizeof bed->key, "%s/9.key", certs.dir);
	snprintf(bed->user, sizeof bed->user, "%s/scott.crt", certs.dir);
	snprintf(bed->user_key, sizeof bed->user_key, "%s/scott.key", certs.dir);
	snprintf(bed->foreign, sizeof bed->foreign, "%s/9.crt", others.dir);
	snprintf(bed->foreign_key, sizeof bed->foreign_key, "%s/9.key", others.dir);
	kit_must(mg_cert_node_create(bed->cert, bed->key, certs.ca, certs.ca_key, NULL, 9, true, &err),
	         &err);
	kit_must(mg_cert_client_create(bed->user, bed->user_key, certs.ca, certs.ca_key, NULL, "scott",
	                               NULL, true, &err),
	         &err);
	kit_must(mg_cert_node_create(bed->foreign, bed->foreign_key, others.ca, others.ca_key, NULL, 9,
	                             true, &err),
	         &err);
}

static struct guest knock_as_node(struct bed *bed)
{
	struct guest guest = knock(&bed->node, bed->cert, bed->key, MG_NET_ALPN_PEER);

	assert_true(guest.shaken);
	return guest;
}

static struct guest enter(struct bed *bed, uint64_t incarnation)
{
	struct guest guest = knock_as_node(bed);
	struct mg_hello hello = hello_of(9, incarnation);

	send_hello(&guest, &hello);
	hello = read_hello(&guest);
	assert_int_equal(hello.kind, MG_HELLO);
	assert_int_equal(hello.node, 1);
	assert_true(hello.incarnation == mg_raft_host_incarnation(bed->node.replica.host));
	return guest;
}

static void expect_alive(struct bed *bed)
{
	struct kit_proposer proposer;

	kit_proposer_init(&proposer, &bed->node.replica, 0, 1);
	assert_int_equal(kit_propose(&proposer, 1, 3), 0);
	kit_proposer_fini(&proposer);
}

static int64_t metric(const char *name, const char *labels)
{
	return mg_metric_value(mg_metric_counter(name, labels, ""));
}

static void test_strangers_are_refused_in_words(void **state)
{
	struct bed bed;

	(void)state;
	bed_open(&bed, 0, 0);
	int64_t refused = metric("merganser_peer_refused_total", "");
	struct mg_hello hello = hello_of(9, 5);
	struct guest guest = knock(&bed.node, NULL, NULL, MG_NET_ALPN_PEER);

	assert_true(guest.shaken);
	send_hello(&guest, &hello);
	expect_refusal(&guest, "it showed no certificate");
	guest = knock(&bed.node, bed.foreign, bed.foreign_key, MG_NET_ALPN_PEER);
	send_hello(&guest, &hello);
	expect_refusal(&guest, "another CA has signed it");
	guest = knock(&bed.node, bed.user, bed.user_key, MG_NET_ALPN_PEER);
	send_hello(&guest, &hello);
	expect_refusal(&guest, "it names a user");
	guest = knock(&bed.node, bed.cert, bed.key, "merganser-pear");
	assert_false(guest.shaken);
	kit_peer_close(&guest.peer);

	guest = knock_as_node(&bed);
	kit_peer_say(&guest.peer, "GET / HTTP/1.1\r\n\r\n");
	expect_refusal(&guest, "a hello of 542393671 bytes");
	guest = knock_as_node(&bed);
	kit_peer_send(&guest.peer, "\x08\0\0\0\x07\0\0\0", 8);
	expect_refusal(&guest, "makes no sense");
	guest = knock_as_node(&bed);
	hello.kind = MG_HELLO_REFUSAL;
	send_hello(&guest, &hello);
	expect_refusal(&guest, "a refusal is no hello");

	guest = knock_as_node(&bed);
	hello = hello_of(9, 5);
	hello.cluster[0] = 'f';
	send_hello(&guest, &hello);
	expect_refusal(&guest, "node 9 belongs to cluster \"f123");
	guest = knock_as_node(&bed);
	hello = hello_of(9, 5);
	hello.version_min = hello.version_max = MG_LINK_VERSION_MAX + 1;
	send_hello(&guest, &hello);
	expect_refusal(&guest, "upgrade the older one");
	guest = knock_as_node(&bed);
	hello = hello_of(8, 5);
	send_hello(&guest, &hello);
	expect_refusal(&guest, "it calls itself node 8 and shows the certificate of node 9");
	assert_int_equal(metric("merganser_peer_refused_total", "") - refused, 9);
	assert_false(info_of(&bed.node, 9).connected);
	expect_alive(&bed);
	node_stop(&bed.node);
}

static void test_half_a_hello_and_broken_frames_cost_only_their_connection(void **state)
{
	uint8_t bytes[MG_HELLO_SIZE_MAX], big[64] = { 0 };
	struct bed bed;

	(void)state;
	bed_open(&bed, 0, 0);
	struct mg_hello hello = hello_of(9, 5);
	size_t size = mg_hello_encode(&hello, bytes);
	struct guest guest = knock_as_node(&bed);

	kit_peer_send(&guest.peer, bytes, size / 2);
	kit_peer_close(&guest.peer);
	/* In two halves it is whole. */
	guest = knock_as_node(&bed);
	kit_peer_send(&guest.peer, bytes, size / 2);
	kit_peer_send(&guest.peer, bytes + size / 2, size - size / 2);
	assert_int_equal(read_hello(&guest).kind, MG_HELLO);
	AWAIT(info_of(&bed.node, 9).connected);
	/* A frame of 2 GiB: refused by its size, before there is memory for it. */
	kit_peer_send(&guest.peer, "\0\0\0\x80", 4);
	expect_end(&guest);
	AWAIT(strstr(info_of(&bed.node, 9).why, "a peer's frame of 2147483648 bytes"));
	/* A frame of a good size that is none. */
	guest = enter(&bed, 5);
	big[0] = sizeof big;
	kit_peer_send(&guest.peer, big, sizeof big);
	expect_end(&guest);
	AWAIT(strstr(info_of(&bed.node, 9).why, "broke the protocol"));
	/* Half a frame, and gone. */
	guest = enter(&bed, 5);
	kit_peer_send(&guest.peer, big, sizeof big / 2);
	kit_peer_kill(&guest.peer);
	AWAIT(!info_of(&bed.node, 9).connected);
	expect_alive(&bed);
	node_stop(&bed.node);
}

static void test_the_newer_connection_stays_and_older_starts_are_refused(void **state)
{
	struct bed bed;

	(void)state;
	bed_open(&bed, 0, 0);
	struct guest first = enter(&bed, 5);
	struct guest second = enter(&bed, 5);
	struct guest third = enter(&bed, 6);
	struct mg_hello hello = hello_of(9, 5);

	expect_end(&first);
	expect_end(&second);
	struct guest late = knock_as_node(&bed);

	send_hello(&late, &hello);
	expect_refusal(&late, "has been started since");
	AWAIT(info_of(&bed.node, 9).connected && info_of(&bed.node, 9).incarnation == 6);
	kit_peer_close(&third.peer);
	AWAIT(!info_of(&bed.node, 9).connected);
	node_stop(&bed.node);
}

/* A node that hangs says nothing and takes no beat for an answer. */
static void test_beats_are_sent_and_silence_ends_a_connection(void **state)
{
	struct bed bed;
	uint32_t beat = 0;

	(void)state;
	bed_open(&bed, 0, 0);
	struct guest guest = enter(&bed, 5);

	for (int i = 0; i < 2; i++) {
		kit_peer_expect_size(&guest.peer, &beat, sizeof beat);
		assert_int_equal(beat, MG_LINK_BEAT_SIZE);
	}
	kit_peer_send(&guest.peer, &beat, sizeof beat);
	expect_end(&guest);
	AWAIT(strstr(info_of(&bed.node, 9).why, "it said nothing"));
	node_stop(&bed.node);
}

/* A frame in pieces of one byte reaches raft, and what raft says to it comes back. */
static void test_frames_come_in_any_pieces_and_are_answered(void **state)
{
	struct bed bed;
	struct mg_probe probe = { .group = KIT_GROUP, .term = 1000 };
	struct mg_buf *question = mg_raft_frame_probes(MG_RAFT_FRAME_PROBE, 9, 1, &probe, 1);
	struct mg_arena *arena = mg_arena_new();
	struct mg_raft_frame answer;
	uint32_t size = MG_LINK_BEAT_SIZE;
	uint8_t bytes[256];

	(void)state;
	bed_open(&bed, 0, 0);
	struct guest guest = enter(&bed, 5);

	mg_raft_frame_number(question, 5, 1);
	for (size_t i = 0; i < question->size; i++) {
		kit_peer_send(&guest.peer, question->data + i, 1);
	}
	while (size == MG_LINK_BEAT_SIZE) {
		kit_peer_expect_size(&guest.peer, &size, sizeof size);
	}
	assert_in_range(size, MG_RAFT_FRAME_HEAD_SIZE, sizeof bytes);
	memcpy(bytes, &size, sizeof size);
	kit_peer_expect_size(&guest.peer, bytes + sizeof size, size - sizeof size);
	assert_int_equal(mg_raft_frame_decode(arena, bytes, size, &answer, NULL), 0);
	assert_int_equal(answer.kind, MG_RAFT_FRAME_ANSWER);
	assert_int_equal(answer.from, 1);
	assert_int_equal(answer.probe_count, 1);
	assert_true(answer.probes[0].group == KIT_GROUP && answer.probes[0].yes);
	mg_arena_free(arena);
	mg_buf_unref(question);
	kit_peer_close(&guest.peer);
	node_stop(&bed.node);
}

/* ---- bounds ---- */

#define PIECE (256u * 1024)

/* A frame of raft for a group that is not here: taken, and of no consequence. */
static struct mg_buf *frame_of(uint64_t from, uint64_t sequence)
{
	static uint8_t data[PIECE];
	struct mg_entry entry = { .index = 1, .term = 1, .type = 1, .size = PIECE, .data = data };
	struct mg_message message = {
		.kind = MG_MESSAGE_APPEND,
		.term = 1,
		.append = { .entries = &entry, .count = 1 },
	};
	struct mg_buf *frame = mg_raft_frame_message(77, from, &message);

	assert_non_null(frame);
	mg_raft_frame_number(frame, 5, sequence);
	return frame;
}

#define SENT 200

struct sending {
	struct mg_net *net;
	uint64_t first, last;
};

static void send_many(void *arg)
{
	struct sending *sending = arg;

	for (uint64_t i = sending->first; i <= sending->last; i++) {
		sending->net->ops->send(sending->net, 9, frame_of(1, i));
	}
	sending->net->ops->flush(sending->net);
}

/* The sequence of the next frame; beats are passed over. */
static uint64_t next_frame(struct guest *guest)
{
	static uint8_t bytes[PIECE * 2];
	uint32_t size = MG_LINK_BEAT_SIZE;
	uint64_t sequence;

	while (size == MG_LINK_BEAT_SIZE) {
		kit_peer_expect_size(&guest->peer, &size, sizeof size);
	}
	assert_in_range(size, PIECE, sizeof bytes);
	memcpy(bytes, &size, sizeof size);
	kit_peer_expect_size(&guest->peer, bytes + sizeof size, size - sizeof size);
	memcpy(&sequence, bytes + 28, sizeof sequence);
	return sequence;
}

static void test_a_full_queue_drops_whole_frames_and_keeps_the_order(void **state)
{
	struct bed bed;

	(void)state;
	bed_open(&bed, 4 * PIECE, 0);
	struct guest guest = enter(&bed, 5);
	struct sending sending = { mg_peers_net(bed.node.peers), 1, SENT };
	int64_t before = metric("merganser_peer_frames_dropped_total", "reason=\"full\"");

	AWAIT(info_of(&bed.node, 9).connected);
	/* In one turn: the queue holds three, and a connection that has just drained takes some. */
	mg_raft_host_call(bed.node.replica.host, send_many, &sending);
	int64_t dropped = metric("merganser_peer_frames_dropped_total", "reason=\"full\"") - before;

	assert_true(dropped > SENT / 2);
	/* And one by one, to somebody who takes nothing: the system's buffers and ours, then no more.
	 */
	for (uint64_t i = SENT + 1; i <= 2 * SENT; i++) {
		sending.first = sending.last = i;
		mg_raft_host_call(bed.node.replica.host, send_many, &sending);
	}
	dropped = metric("merganser_peer_frames_dropped_total", "reason=\"full\"") - before;
	uint64_t last = 0;

	for (int64_t i = 0; i < 2 * SENT - dropped; i++) {
		uint64_t sequence = next_frame(&guest);

		assert_true(sequence > last);
		last = sequence;
	}
	kit_peer_close(&guest.peer);
	node_stop(&bed.node);
}

static void wait_gate(void *arg)
{
	(void)kit_gate_wait(arg, 1);
}

/* Send until it is all sent, or the other side takes no more for a second; returns the bytes. */
static size_t send_until_stuck(struct guest *guest, const struct mg_buf *buf, size_t from)
{
	while (from < buf->size) {
		int put = SSL_write(guest->peer.ssl, buf->data + from, (int)(buf->size - from));
		struct pollfd ready = { .fd = guest->peer.fd, .events = POLLOUT };

		if (put > 0) {
			from += (size_t)put;
		} else if (poll(&ready, 1, 1000) == 0) {
			break;
		}
	}
	return from;
}

static void test_who_sends_faster_than_raft_takes_has_to_wait(void **state)
{
	struct bed bed;
	struct kit_gate gate = KIT_GATE;
	int one = 1;

	(void)state;
	bed_open(&bed, 0, 4 * PIECE);
	struct guest guest = enter(&bed, 5);
	int64_t before = metric("merganser_peer_frames_received_total", "");
	uint64_t sequence = 1;
	size_t sent = 0;

	SSL_set_mode(guest.peer.ssl,
	             SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	assert_int_equal(ioctl(guest.peer.fd, FIONBIO, &one), 0);
	mg_raft_host_post(bed.node.replica.host, wait_gate, &gate);
	struct mg_buf *frame = frame_of(9, sequence);

	for (; sequence < SENT; sequence++) {
		sent = send_until_stuck(&guest, frame, 0);
		if (sent < frame->size) {
			break;
		}
		mg_buf_unref(frame);
		frame = frame_of(9, sequence + 1);
	}
	/* The inbox, and what the system keeps on both sides. */
	assert_true(sequence < SENT);
	assert_in_range(metric("merganser_peer_frames_received_total", "") - before, 4, 5);
	kit_gate_add(&gate, 1);
	while (sequence <= SENT) {
		sent = send_until_stuck(&guest, frame, sent);
		if (sent == frame->size) {
			mg_buf_unref(frame);
			frame = frame_of(9, ++sequence);
			sent = 0;
		}
	}
	mg_buf_unref(frame);
	AWAIT(metric("merganser_peer_frames_received_total", "") - before == SENT);
	assert_true(info_of(&bed.node, 9).connected);
	kit_peer_close(&guest.peer);
	node_stop(&bed.node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_leader_dies_and_comes_back),
		cmocka_unit_test(test_cut_connections_heal),
		cmocka_unit_test(test_why_a_node_cannot_be_reached_is_told),
		cmocka_unit_test(test_the_lower_node_dials_when_it_must),
		cmocka_unit_test(test_strangers_are_refused_in_words),
		cmocka_unit_test(test_half_a_hello_and_broken_frames_cost_only_their_connection),
		cmocka_unit_test(test_the_newer_connection_stays_and_older_starts_are_refused),
		cmocka_unit_test(test_beats_are_sent_and_silence_ends_a_connection),
		cmocka_unit_test(test_frames_come_in_any_pieces_and_are_answered),
		cmocka_unit_test(test_a_full_queue_drops_whole_frames_and_keeps_the_order),
		cmocka_unit_test(test_who_sends_faster_than_raft_takes_has_to_wait),
		cmocka_unit_test(test_how_fast),
	};

	mg_log_open(
		&(struct mg_log_options){ .level = getenv("MG_TEST_LOG") ? MG_LOG_DEBUG : MG_LOG_OFF });
	return cmocka_run_group_tests(tests, setup, teardown);
}
