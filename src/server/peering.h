/*
 * peering.h - how a server is reached by the others and reaches them: its certificate as a node,
 * and its peers.
 *
 *     open -> listener with accept -> join_loop -> engine with peers -> ... engine's stop -> stop
 *     -> loops stop -> engine's close -> free
 *
 * Thread: the node's main thread; choose on loops.
 */
#ifndef MG_SERVER_PEERING_H
#define MG_SERVER_PEERING_H

#include "net/net.h"
#include "replica/peers.h"

struct mg_peering;

/* Makes the node's certificate when there is none (mg_cert_node_ensure).  When that cannot be and
 * `alone` says that there are no others, it is told and *out has no peers.  Fails: as
 * mg_peers_tls. */
int mg_peering_open(struct mg_peering **out, const char *data_dir, uint64_t number, bool alone,
                    struct mg_error *err);
struct mg_tls *mg_peering_accept(struct mg_peering *peering); /* for mg_tls_server_options.peers */
struct mg_tls *mg_peering_dial(struct mg_peering *peering);   /* NULL: none, as the next */
/* The peers, on this loop.  The texts are copied. */
struct mg_peers *mg_peering_join_loop(struct mg_peering *peering, struct mg_loop *loop,
                                      const char *cluster, const char *name, const char *address);
/* For connections whose ALPN is MG_NET_ALPN_PEER; before join_loop they are closed. */
bool mg_peering_choose(struct mg_conn *conn, struct mg_peering *peering, const uint8_t *bytes,
                       size_t size);
/* Another certificate is there, or the old one ends soon: take it up, or make one. */
void mg_peering_reload(struct mg_peering *peering);
void mg_peering_stop(struct mg_peering *peering); /* NULL is fine, as for the next */
void mg_peering_free(struct mg_peering *peering);

/* What this program is called in hellos. */
const char *mg_peering_program(void);

#endif
