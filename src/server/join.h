/*
 * join.h - how a server enters a cluster, seen from inside: who may, with which number, and the
 * certificates it goes home with.
 *
 *   the one that asks      any node              the node that has tls/ca.key
 *   keys, requests   --->  cannot sign: pass on  --->  secret or certificate?  fits?
 *   keeps its keys   <---                        <---  number, certificates, catalog
 *
 * Rule: a node that has ever had replicas does not come back without them: what it had voted for
 * and acknowledged is lost with its directory, so it can only be another node; one that has lost
 * its log says so itself (reenter.h).  A private key never
 * travels.  Who the certificates name is decided here; of a request only
 * the key counts.
 *
 * Thread: any that may block.
 */
#ifndef MG_SERVER_JOIN_H
#define MG_SERVER_JOIN_H

#include "catalog/catalog.h"
#include "door/doors.h"
#include "server/join_wire.h"

/* Of the node that is asked; borrowed. */
struct mg_join_host {
	const char *data_dir;
	struct mg_catalog *catalog;
	uint64_t self;        /* number */
	bool other_client_ca; /* clients' certificates are signed by others: they name no node */
	/* Returns when the catalog here holds what was acknowledged before.  NULL: it does. */
	int (*catch_up)(void *arg, struct mg_error *err);
	/* *has: does the node belong to a group, as of now?  NULL: none does. */
	int (*has_replicas)(void *arg, uint64_t number, bool *has, struct mg_error *err);
	void *arg;
};

/* For mg_doors_options.join: answer is filled with 0.  Fails: MG_E_AUTH; MG_E_USAGE; MG_E_DUPLICATE
 * name or address is another's; MG_E_UNSUPPORTED another cluster, engine or format; MG_E_DENIED;
 * MG_E_UNAVAILABLE nobody can sign now. */
int mg_join_serve(const struct mg_join_host *host, const struct mg_join_caller *caller,
                  struct mg_str body, struct mg_sb *answer, struct mg_error *err);

/* What this program asks with, but name, address, requests and cluster. */
struct mg_join_ask mg_join_ask_of_this_program(void);
/* Ask the server at host_port, as endpoint says; fills answer, or err by what it said.  transient:
 * asking again later may help. */
struct mg_endpoint;
int mg_join_post(const struct mg_endpoint *endpoint, const char *host_port,
                 const struct mg_join_ask *ask, struct mg_sb *answer, bool *transient,
                 struct mg_error *err);

#endif
