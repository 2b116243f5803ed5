/*
 * peers_kit.h - the network of a node in a test: loops, real TLS, a listener on loopback, peers.
 */
#ifndef MG_TEST_PEERS_KIT_H
#define MG_TEST_PEERS_KIT_H

#include "net_kit.h"
#include "os/clock.h"
#include "os/file.h"
#include "replica/peers.h"

#define KIT_CLUSTER "0123456789abcdef0123456789abcdef"

/* Look again and again, until it is so; a test that waits in vain fails. */
#define AWAIT(condition)                                                    \
	for (uint64_t patience = mg_clock_ms() + 60 * 1000ull; !(condition);) { \
		if (mg_clock_ms() > patience) {                                     \
			fail_msg("waited in vain: " #condition);                        \
		}                                                                   \
		mg_sleep_ms(2);                                                     \
	}

struct kit_net {
	uint64_t self;
	char dir[128];
	uint16_t port; /* the same after each start */
	struct mg_loop *loops[2];
	struct mg_tls *tls, *accept, *dial;
	struct mg_listener *listener;
	struct mg_peers *peers;
};

static void kit_copy(const char *from, const char *to)
{
	char *command = mg_format("cp -a '%s' '%s'", from, to);

	assert_int_equal(system(command), 0);
	mg_free(command);
}

/* The node's directory, which is there, gets what its certificate is made with. */
static void kit_net_make(struct kit_net *net, uint64_t self, const struct kit_certs *of)
{
	*net = (struct kit_net){ .self = self };
	snprintf(net->dir, sizeof net->dir, "%s/node%d", of->dir, (int)self);
	char *tls = mg_path_join(net->dir, "tls");

	assert_int_equal(mg_dir_make(tls, 0700, NULL), 0);
	kit_copy(of->ca, tls);
	kit_copy(of->ca_key, tls);
	mg_free(tls);
}

static void kit_net_open(struct kit_net *net, const struct kit_certs *of)
{
	static const char *const http[] = { "http/1.1", NULL };
	struct mg_error err = { 0 };

	for (int i = 0; i < 2; i++) {
		kit_must(mg_loop_start(&net->loops[i], "test", &err), &err);
	}
	kit_must(mg_peers_tls(net->dir, net->self, &net->accept, &net->dial, &err), &err);
	const struct mg_tls_server_options tls = {
		.cert_file = of->cert, .key_file = of->key, .alpn = http, .peers = net->accept
	};

	kit_must(mg_tls_server(&net->tls, &tls, &err), &err);
	net->peers = mg_peers_new(&(struct mg_peers_options){ .self = net->self,
	                                                      .cluster = KIT_CLUSTER,
	                                                      .program = "test",
	                                                      .loop = net->loops[0],
	                                                      .tls = net->dial });
}

static bool kit_net_choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size)
{
	return mg_peers_choose(conn, arg, bytes, size);
}

/* After mg_peers_start. */
static void kit_net_listen(struct kit_net *net)
{
	struct mg_error err = { 0 };
	char address[32];

	snprintf(address, sizeof address, "127.0.0.1:%u", net->port);
	kit_must(mg_listen(&net->listener, net->loops, 2,
	                   &(struct mg_listen_options){ .host_port = address,
	                                                .tls = net->tls,
	                                                .choose = kit_net_choose,
	                                                .arg = net->peers },
	                   &err),
	         &err);
	net->port = mg_listener_port(net->listener);
}

/* The host has stopped. */
static void kit_net_stop(struct kit_net *net)
{
	mg_peers_stop(net->peers);
	mg_loop_stop(net->loops[0]);
	mg_loop_stop(net->loops[1]);
}

/* And has closed. */
static void kit_net_free(struct kit_net *net)
{
	mg_peers_free(net->peers);
	mg_tls_unref(net->tls);
	mg_tls_unref(net->accept);
	mg_tls_unref(net->dial);
}

static void kit_net_name(struct kit_net *net, const struct kit_net *other)
{
	char address[32];

	snprintf(address, sizeof address, "127.0.0.1:%u", other->port);
	mg_peers_set(net->peers, other->self, address);
}

#endif
