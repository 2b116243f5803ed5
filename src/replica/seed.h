/*
 * seed.h - a node that has joined begins: it takes a snapshot of each group from another node.
 *
 *     POST /join -> tls/, log/catalog.json, node.json      the directory, without rows
 *     mg_seed: pull NNNN.duckdb -> a mark in log/raft      for each group that the log lacks
 *     replica  opens the groups; their leaders add this node
 *
 * Rule: a replica never begins with an empty log: what its group held before lies in no log.
 *
 * It goes on where it was after a kill: groups that the log knows are not pulled again, nor are
 * chunks that lie there.  The peers, the loop and the host of it are its own and gone at its end.
 */
#ifndef MG_REPLICA_SEED_H
#define MG_REPLICA_SEED_H

#include "catalog/catalog.h"
#include "net/net.h"

struct mg_seed_options {
	const char *dir;                      /* the node's data directory */
	uint64_t self;                        /* node */
	struct mg_catalog *catalog;           /* names the others; replaced by what is pulled */
	const char *program, *name, *address; /* as in peers.h */
	struct mg_tls *tls;                   /* to dial with; borrowed */
	/* Waits so many milliseconds, or until the node is to stop: then true. */
	bool (*stopped)(void *arg, unsigned ms);
	void *arg;
};

/* Waits for other nodes as long as it takes, and tries again what may pass.  Nothing to do: returns
 * at once.  Fails: MG_E_CANCELLED it was stopped; MG_E_DISK_FULL; MG_E_UNSUPPORTED their files are
 * of another engine or format; MG_E_IO, MG_E_CORRUPT of the log. */
int mg_seed(const struct mg_seed_options *options, struct mg_error *err);

#endif
