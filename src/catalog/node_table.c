/*
 * node_table.c - see node_table.h.
 *
 * Idea: what a claim means is decided on a version of the catalog and changes nothing there; when
 * it asks for no change nothing is written, else the same decision is made again inside of the
 * change, on the version that it really changes.
 */
#include "catalog/node_table.h"

#include "base/assert.h"
#include "net/net.h"

#include <stdio.h>
#include <string.h>

/* What is to be done with a claim. */
struct verdict {
	uint64_t number;
	size_t index; /* of its entry, or node_count: a new one */
	bool change;
};

/* ---- names and addresses ---- */

int mg_node_id_check(const char *id, struct mg_error *err)
{
	size_t len = strlen(id);
	bool good = len > 0 && len <= MG_NODE_ID_MAX && mg_utf8_valid(id, len);

	for (const char *c = id; good && *c; c++) {
		good = (unsigned char)*c > 0x20 && *c != 0x7f && *c != '/';
	}
	if (good) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE, "\"%.64s\" is no name for a node", id);
	mg_error_hint(err,
	              "It has 1 to %d bytes of UTF-8, without blanks, slashes and control "
	              "characters, such as server-2.",
	              MG_NODE_ID_MAX);
	return MG_E_USAGE;
}

int mg_node_address_check(const char *address, struct mg_error *err)
{
	char host[MG_NODE_ADDRESS_MAX + 1], port[8];
	bool printable = true;

	for (const char *c = address; *c; c++) {
		printable = printable && (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f;
	}
	if (printable && strlen(address) <= MG_NODE_ADDRESS_MAX &&
	    mg_net_split(address, host, sizeof host, port, sizeof port, NULL) == 0 && host[0] &&
	    strcmp(port, "0") != 0 && strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0 &&
	    !strchr(host, '*')) {
		return 0;
	}
	mg_error_set(err, MG_E_USAGE, "\"%.256s\" is no address at which others reach a node", address);
	mg_error_hint(err, "It has the form HOST:PORT, such as db2.example:8765; see --advertise.");
	return MG_E_USAGE;
}

/* ---- who is who ---- */

static bool is_live(const struct mg_catalog_node *node)
{
	return strcmp(node->state, MG_NODE_REMOVED) != 0;
}

static int find_live(const struct mg_catalog_data *data, const char *id, size_t *index)
{
	for (*index = 0; *index < data->node_count; ++*index) {
		if (is_live(&data->nodes[*index]) && strcmp(data->nodes[*index].id, id) == 0) {
			return 0;
		}
	}
	return MG_E_NOT_FOUND;
}

/* Is id or address that of a live node other than the entry at index? */
static int check_clash(const struct mg_catalog_data *data, const struct mg_node_claim *claim,
                       size_t index, struct mg_error *err)
{
	for (size_t i = 0; i < data->node_count; i++) {
		const struct mg_catalog_node *node = &data->nodes[i];
		bool same_id = strcmp(node->id, claim->id) == 0;

		if (i == index || !is_live(node) ||
		    (!same_id && !mg_text_eq_nocase(node->address, claim->address))) {
			continue;
		}
		mg_error_set(err, MG_E_DUPLICATE, "%s \"%s\" is that of node %llu (\"%s\" at %s)",
		             same_id ? "the name" : "the address", same_id ? claim->id : claim->address,
		             (unsigned long long)node->number, node->id, node->address);
		mg_error_hint(err,
		              "Choose another %s; or when that node is gone for good, remove it first: "
		              "merganser cluster remove %.64s.",
		              same_id ? "--node-id" : "address (--listen, --advertise)", node->id);
		return MG_E_DUPLICATE;
	}
	return 0;
}

static int decide_known(const struct mg_catalog_data *data, const struct mg_node_claim *claim,
                        struct verdict *out, struct mg_error *err)
{
	const struct mg_catalog_node *node = mg_catalog_find_node(data, claim->number);

	*out = (struct verdict){ .number = claim->number, .index = data->node_count, .change = true };
	if (!node && data->node_count == 0) {
		return 0;
	}
	if (!node || !is_live(node)) {
		mg_error_set(err, MG_E_DENIED, "node %llu %s", (unsigned long long)claim->number,
		             node ? "was removed from the cluster" : "is not of this cluster");
		mg_error_hint(err, "Its data directory cannot be used again: start it with an empty one, "
		                   "then it joins as a new node.");
		return MG_E_DENIED;
	}
	out->index = (size_t)(node - data->nodes);
	out->change = strcmp(node->id, claim->id) != 0 || strcmp(node->address, claim->address) != 0;
	return check_clash(data, claim, out->index, err);
}

const struct mg_catalog_node *mg_node_find(const struct mg_catalog_data *data,
                                           const struct mg_node_claim *claim)
{
	size_t index;

	return find_live(data, claim->id, &index) == 0 &&
	               mg_text_eq_nocase(data->nodes[index].address, claim->address)
	           ? &data->nodes[index]
	           : NULL;
}

static int decide_new(const struct mg_catalog_data *data, const struct mg_node_claim *claim,
                      struct verdict *out, struct mg_error *err)
{
	const struct mg_catalog_node *before = mg_node_find(data, claim);

	*out = (struct verdict){ .number = 1, .index = data->node_count, .change = true };
	if (before) {
		*out =
			(struct verdict){ .number = before->number, .index = (size_t)(before - data->nodes) };
		return 0;
	}
	if (data->node_count >= MG_NODES_MAX) {
		return mg_error_set(err, MG_E_LIMIT, "the cluster has had %d nodes, and cannot have more",
		                    MG_NODES_MAX);
	}
	if (data->node_count > 0) {
		out->number = data->nodes[data->node_count - 1].number + 1;
	}
	return check_clash(data, claim, data->node_count, err);
}

static int decide(const struct mg_catalog_data *data, const struct mg_node_claim *claim,
                  struct verdict *out, struct mg_error *err)
{
	return claim->number ? decide_known(data, claim, out, err) : decide_new(data, claim, out, err);
}

/* ---- changes ---- */

static void copy_nodes(struct mg_arena *arena, struct mg_catalog_data *data)
{
	struct mg_catalog_node *nodes =
		mg_arena_new_array(arena, struct mg_catalog_node, data->node_count + 1);

	if (data->node_count) {
		memcpy(nodes, data->nodes, data->node_count * sizeof *nodes);
	}
	data->nodes = nodes;
}

struct entering {
	const struct mg_node_claim *claim;
	uint64_t number;
};

static int enter_change(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                        struct mg_error *err)
{
	struct entering *entering = arg;
	struct verdict verdict;
	int code = decide(data, entering->claim, &verdict, err);

	if (code) {
		return code;
	}
	copy_nodes(arena, data);
	if (verdict.index == data->node_count) {
		mg_assert(data->node_count == 0 ||
		          data->nodes[data->node_count - 1].number < verdict.number);
		data->nodes[data->node_count++] =
			(struct mg_catalog_node){ .number = verdict.number, .state = MG_NODE_MEMBER };
	}
	data->nodes[verdict.index].id = mg_arena_strdup(arena, entering->claim->id);
	data->nodes[verdict.index].address = mg_arena_strdup(arena, entering->claim->address);
	entering->number = verdict.number;
	return 0;
}

int mg_node_enter(struct mg_catalog *catalog, const struct mg_node_claim *claim, uint64_t *number,
                  struct mg_error *err)
{
	struct entering entering = { .claim = claim };
	struct verdict verdict = { 0 };
	int code = mg_node_id_check(claim->id, err);

	code = code ? code : mg_node_address_check(claim->address, err);
	if (code == 0) {
		const struct mg_catalog_data *data = mg_catalog_take(catalog);

		code = decide(data, claim, &verdict, err);
		mg_catalog_give(catalog, data);
	}
	entering.number = verdict.number;
	if (code == 0 && verdict.change) {
		code = mg_catalog_change_anywhere(catalog, enter_change, &entering, err);
	}
	*number = code ? 0 : entering.number;
	return code;
}

struct wish {
	const char *id, *state;
};

static int state_change(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                        struct mg_error *err)
{
	const struct wish *wish = arg;
	size_t index, others = 0;

	if (find_live(data, wish->id, &index)) {
		mg_error_set(err, MG_E_NOT_FOUND, "no server of the cluster is called \"%.64s\"", wish->id);
		mg_error_hint(err, "merganser cluster nodes lists them; workers come and go by "
		                   "themselves.");
		return MG_E_NOT_FOUND;
	}
	for (size_t i = 0; i < data->node_count; i++) {
		others += i != index && strcmp(data->nodes[i].state, MG_NODE_MEMBER) == 0;
	}
	if (others == 0 && strcmp(wish->state, MG_NODE_MEMBER) != 0) {
		mg_error_set(err, MG_E_DENIED, "\"%.64s\" is the last server that keeps the cluster's data",
		             wish->id);
		mg_error_hint(err, "Let another one join first.");
		return MG_E_DENIED;
	}
	copy_nodes(arena, data);
	data->nodes[index].state = mg_arena_strdup(arena, wish->state);
	return 0;
}

int mg_node_set_state(struct mg_catalog *catalog, const char *id, const char *state,
                      struct mg_error *err)
{
	struct wish wish = { .id = id, .state = state };

	mg_assert(strcmp(state, MG_NODE_MEMBER) == 0 || strcmp(state, MG_NODE_DRAINING) == 0 ||
	          strcmp(state, MG_NODE_REMOVED) == 0);
	return mg_catalog_change_anywhere(catalog, state_change, &wish, err);
}
