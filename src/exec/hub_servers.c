/*
 * hub_servers.c - workers hear which servers there are, and which one coordinates writes, where
 * statements that need them run (worker_servers.h); and what this server knows of other servers'
 * workers.
 */
#include "exec/hub_int.h"

#include "base/str.h"
#include "exec/engine.h"
#include "os/clock.h"
#include "replica/replica.h"

#include <string.h>
#include <xxhash.h>

static void add_address(struct mg_sb *json, const struct mg_catalog_data *data, uint64_t number)
{
	const struct mg_catalog_node *node = number ? mg_catalog_find_node(data, number) : NULL;

	if (node) {
		mg_sb_add_json(json, node->address, strlen(node->address));
	} else {
		mg_sb_add(json, "null");
	}
}

static void describe(struct mg_hub *hub, struct mg_sb *json)
{
	struct mg_replica *replica = mg_engine_replica(hub->engine);
	uint64_t coordinator = mg_replica_coordinator(replica);
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(hub->engine));
	const char *between = "";

	mg_sb_add(json, "{\"type\":\"servers\",\"self\":");
	add_address(json, data, mg_replica_self(replica));
	mg_sb_add(json, ",\"coordinator\":");
	add_address(json, data, coordinator);
	mg_sb_add(json, ",\"servers\":[");
	for (size_t i = 0, count = 0; i < data->node_count && count < MG_HUB_SERVERS_MAX; i++) {
		if (!mg_text_eq(data->nodes[i].state, MG_NODE_REMOVED)) {
			mg_sb_add(json, between);
			add_address(json, data, data->nodes[i].number);
			between = ",";
			count++;
		}
	}
	mg_sb_add(json, "]}");
	mg_catalog_give(mg_engine_catalog(hub->engine), data);
}

uint32_t mg_hub_workers(struct mg_hub *hub)
{
	uint32_t count = 0;

	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->worker_count; i++) {
		count += hub->workers[i]->greeted;
	}
	pthread_mutex_unlock(&hub->lock);
	return count;
}

void mg_hub_told_elsewhere(struct mg_hub *hub, uint32_t workers)
{
	atomic_store(&hub->none_elsewhere_until_ms, workers ? 0 : mg_clock_ms() + MG_HUB_TOLD_MS);
}

bool mg_hub_may_be_elsewhere(struct mg_hub *hub)
{
	return mg_clock_ms() >= atomic_load(&hub->none_elsewhere_until_ms);
}

void mg_hub__tell_servers(struct mg_hub *hub)
{
	struct mg_sb json = { 0 };

	if (mg_replica_is_alone(mg_engine_replica(hub->engine))) {
		return;
	}
	describe(hub, &json);
	uint64_t hash = XXH3_64bits(json.ptr, json.len);

	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];

		if (worker->greeted && worker->told_servers != hash) {
			worker->told_servers = hash;
			mg_channel_send(worker->channel, mg_sb_text(&json));
		}
	}
	pthread_mutex_unlock(&hub->lock);
	mg_sb_fini(&json);
}
