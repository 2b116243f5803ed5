/*
 * node_table.h - changes of the catalog's nodes: who gets which number, and what is wanted of whom.
 *
 * Of the nodes that are not removed no two have the same id or address, and a number belongs to one
 * node for ever.
 *
 * Thread: any; on any node, by mg_catalog_change_anywhere; blocks as that does.
 */
#ifndef MG_CATALOG_NODE_TABLE_H
#define MG_CATALOG_NODE_TABLE_H

#include "catalog/catalog.h"

#define MG_NODE_ID_MAX 63
#define MG_NODE_ADDRESS_MAX 255
#define MG_NODES_MAX 4096 /* removed ones too: all that raft's network can name */

struct mg_node_claim {
	uint64_t number; /* that the node has shown to be its own; 0: it has none yet */
	const char *id, *address;
};

/* Is it a name, or an address, that a node may have?  Fails: MG_E_USAGE. */
int mg_node_id_check(const char *id, struct mg_error *err);
int mg_node_address_check(const char *address, struct mg_error *err);

/* A node without a number gets a new one, or the one that it was given when it asked before, with
 * the same id and address.  A node with a number has that entry, now with this id and address; in
 * an empty table, and only there, it is made.
 * Fails: MG_E_DUPLICATE id or address is another's; MG_E_DENIED it was removed, or never was here;
 * MG_E_USAGE; MG_E_LIMIT. */
int mg_node_enter(struct mg_catalog *catalog, const struct mg_node_claim *claim, uint64_t *number,
                  struct mg_error *err);

/* The live node with this id and address, whatever its number; NULL: none. */
const struct mg_catalog_node *mg_node_find(const struct mg_catalog_data *data,
                                           const struct mg_node_claim *claim);

/* State is one of MG_NODE_...  A removed node stays so, and one member must be left.
 * Fails: MG_E_NOT_FOUND no live node is called so; MG_E_DENIED. */
int mg_node_set_state(struct mg_catalog *catalog, const char *id, const char *state,
                      struct mg_error *err);

#endif
