/*
 * reenter.h - a server whose log is lost or damaged enters its own cluster anew.
 *
 *     ask others, by its certificate --> the old number is removed for good, a new one is given
 *     stage in reenter/ --> finish: certificates, node.json, log/ aside, log/catalog.json
 *     start: takes snapshots, as any server that has just joined
 *
 * Rule: with its log a node has lost what it voted for and acknowledged, so it never votes again
 * under its number.  Others let it do so only when a majority of them says that it may.
 *
 * What is staged is whole or not at all, and finish can be interrupted anywhere and called again.
 *
 * Thread: the node's main thread, before or after its life.
 */
#ifndef MG_SERVER_REENTER_H
#define MG_SERVER_REENTER_H

#include "catalog/catalog.h"

struct mg_reenter_options {
	const char *data_dir;
	struct mg_catalog *catalog; /* as the node last knew it: who the others are */
	uint64_t number;            /* that it had */
	const char *node_id, *address;
	/* Waits so many milliseconds, or until the node is to stop: then true. */
	bool (*stopped)(void *arg, unsigned ms);
	void *arg;
};

/* There are others, so it makes sense. */
bool mg_reenter_can(const struct mg_reenter_options *options);
/* Ask until somebody lets it in, and stage the answer.  Fails: MG_E_CANCELLED; what they refuse it
 * with. */
int mg_reenter_ask(const struct mg_reenter_options *options, struct mg_error *err);
/* What was staged takes effect; nothing staged: nothing.  No server holds the directory. */
int mg_reenter_finish(const char *data_dir, struct mg_error *err);

#endif
