/*
 * peers.h - the network behind a node's groups: one connection to each other node.
 *
 *     new -> raft host with mg_peers_net -> start -> set addresses
 *     listener: a connection whose ALPN is MG_NET_ALPN_PEER goes to mg_peers_choose
 *     mg_raft_host_stop, mg_peers_stop -> loops stop -> mg_raft_host_close -> mg_peers_free
 *
 * Rule: a frame reaches raft only from a node that has shown a certificate of the cluster's CA with
 * its number, and a hello of this cluster; and in the order in which that node sent it.  Frames may
 * be lost, never doubled or late: each connection begins with none.
 *
 * A pair of nodes shares one connection.  The node of the higher number dials at once, the other
 * one when that has not helped for a second, so that they seldom do it together; when two are there
 * the newer one stays.  Back-off: 50 ms to 2 s, with chance in it; 30 s after a refusal, which
 * comes in words and is logged when it changes.  In silence both ends send a beat each second; an
 * end that hears nothing for 5 s hangs up.
 *
 * Loops never touch raft: what arrives is posted to the host, a post for all that has gathered.
 * What raft sends in a turn leaves together at its end.
 *
 * Bounds: queue_bytes to send to a peer, then frames are dropped whole (raft sends again);
 * inbox_bytes that raft has not taken yet, then the connection is not read; MG_PEERS_MAX nodes.
 */
#ifndef MG_REPLICA_PEERS_H
#define MG_REPLICA_PEERS_H

#include "net/net.h"
#include "replica/raft_host.h"

#define MG_PEERS_MAX 4096

struct mg_peers;

struct mg_peers_options {
	uint64_t self;
	const char *cluster;        /* its id; 255 bytes at most, as the next */
	const char *program;        /* which version this is, for the others' logs */
	const char *name, *address; /* how this node is called, and where it is; NULL: not told */
	struct mg_loop *loop;       /* that dials, and keeps what it has dialled */
	struct mg_tls *tls;         /* to dial with: the client's half of mg_peers_tls; borrowed */
	size_t queue_bytes;         /* 0: 32 MiB */
	size_t inbox_bytes;         /* 0: 8 MiB */
};

/* Both halves of a node's TLS, from `tls/` of its data directory: server for
 * mg_tls_server_options.peers, client for dialling.  Makes the node's certificate when there is
 * none (mg_cert_node_ensure).  Fails: as that; MG_E_IO.  Blocks. */
int mg_peers_tls(const char *data_dir, uint64_t self, struct mg_tls **server,
                 struct mg_tls **client, struct mg_error *err);

/* Owns: the caller. */
struct mg_peers *mg_peers_new(const struct mg_peers_options *options);
struct mg_net *mg_peers_net(struct mg_peers *peers); /* for the host of the next line */

/* Frames that are not raft's: they lie between its own, with its size and head, and are of a kind
 * from here on.  All on the raft thread. */
#define MG_PEERS_MESSAGE_MIN 32
struct mg_peers_messages {
	/* Fails: MG_E_PROTOCOL, then the connection is closed.  Not called when the node has ended. */
	int (*take)(void *arg, uint64_t node, const uint8_t *data, size_t size, struct mg_error *err);
	/* A connection has ended: what was sent over it and is not answered never will be. */
	void (*lost)(void *arg, uint64_t connection);
	void *arg;
};
/* Before start. */
void mg_peers_set_messages(struct mg_peers *peers, const struct mg_peers_messages *messages);
/* Raft thread; takes the frame.  Returns the connection that it goes over, 0: none, it is not sent.
 */
uint64_t mg_peers_send(struct mg_peers *peers, uint64_t node, struct mg_buf *frame);

/* Dial and accept from now on; what comes is posted to the host. */
void mg_peers_start(struct mg_peers *peers, struct mg_raft_host *host);

/* Where a node is, or where it is now; NULL: it is no node of the cluster any more, and refused.
 * A node that was never named here may connect: it may know of us before we know of it.
 * Any thread. */
void mg_peers_set(struct mg_peers *peers, uint64_t node, const char *host_port);

/* For mg_listen_options.choose, arg = peers: the hello of a node. */
bool mg_peers_choose(struct mg_conn *conn, void *arg, const uint8_t *bytes, size_t size);

/* A second connection to a node, for what is large.  done: once, on the loop that dials, with both
 * hellos said (it sets the protocol), or NULL and why; or at once, here, when the address is not
 * known.  Any thread, before mg_peers_stop. */
void mg_peers_dial_bulk(struct mg_peers *peers, uint64_t node,
                        void (*done)(void *arg, struct mg_conn *conn, const struct mg_error *err),
                        void *arg);
/* Who takes those that others dial: on the connection's loop, sets the protocol, whose first `skip`
 * bytes are the hello.  False: it is refused.  take NULL: nobody. */
void mg_peers_set_bulk(struct mg_peers *peers,
                       bool (*take)(void *arg, struct mg_conn *conn, uint64_t node, size_t skip),
                       void *arg);

/* The same for a connection that carries statements (session/relay.h). */
void mg_peers_dial_relay(struct mg_peers *peers, uint64_t node,
                         void (*done)(void *arg, struct mg_conn *conn, const struct mg_error *err),
                         void *arg);
void mg_peers_set_relay(struct mg_peers *peers,
                        bool (*take)(void *arg, struct mg_conn *conn, uint64_t node, size_t skip),
                        void *arg);

struct mg_peer_info {
	uint64_t node;
	char address[128]; /* "": not known */
	bool connected;
	uint64_t incarnation;                  /* of its last hello; 0: none yet */
	char program[64];                      /* likewise */
	char told_name[64], told_address[256]; /* likewise; "": it did not say */
	char why[256];                         /* why it is not connected, or was not the last time */
};

/* Any thread; returns how many there are, fills in up to max. */
size_t mg_peers_list(struct mg_peers *peers, struct mg_peer_info *infos, size_t max);
/* One that is connected, of `among` (NULL: of all): with each turn the next.  0: nobody. */
uint64_t mg_peers_one_of(struct mg_peers *peers, const struct mg_members *among, unsigned turn);

/* Hang up, and dial no more.  Any thread, before its loops stop. */
void mg_peers_stop(struct mg_peers *peers);
/* After its loops and its host have ended.  NULL is fine. */
void mg_peers_free(struct mg_peers *peers);

#endif
