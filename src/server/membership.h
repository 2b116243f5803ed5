/*
 * membership.h - a running server looks after its place in the cluster: its row in the catalog's
 * nodes says its name and address of now, and its certificates are replaced before they end.
 *
 * A server that holds tls/ca.key signs them itself; one that has joined asks the others, by POST
 * /join with the certificate that it has.
 *
 * Thread: enter, start and stop: the main thread.
 */
#ifndef MG_SERVER_MEMBERSHIP_H
#define MG_SERVER_MEMBERSHIP_H

#include "catalog/catalog.h"

struct mg_membership;

/* All borrowed, as long as it lives. */
struct mg_membership_options {
	const char *data_dir;
	struct mg_catalog *catalog;
	uint64_t number;
	const char *node_id, *address;
	const char *key_password;   /* of an encrypted tls/server.key, or NULL */
	const char *seeds;          /* HOST:PORT,... to ask beside the nodes; or NULL */
	void (*renewed)(void *arg); /* new certificates lie in the directory; on the thread */
	void *arg;
};

/* The row, when this is the only server.  Then the thread. */
int mg_membership_start(struct mg_membership **out, const struct mg_membership_options *options,
                        struct mg_error *err);
/* Waits for an attempt under way.  NULL is fine. */
void mg_membership_stop(struct mg_membership *membership);

#endif
