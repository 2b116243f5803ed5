/*
 * rest_cluster.c - what /cluster/check and /cluster/rebalance say.
 *
 *     {"running": false, "ok": true, "shards": [{"shard": 0, "index": 812, "rows": 25, "replicas":
 *      [{"node": "server-1", "state": "equal", "sum": "9f.."}, ...], "state": "equal"}, ...],
 *      "kv_shards": [likewise]}
 *
 *     {"balanced": false, "moves": [{"shard": 3, "node": "server-4", "is": "standby", "should":
 *      "voter"}, ...]}        shard -1: the catalog
 *
 * Thread: any that may block.
 */
#include "base/json.h"
#include "base/mem.h"
#include "door/doors_int.h"
#include "replica/kv_groups.h"
#include "replica/replica.h"
#include "replica/shard_check.h"

#include <inttypes.h>
#include <string.h>

struct report {
	struct mg_replica *replica;
	struct mg_sb *json;
	struct mg_copy_info *copies;
	size_t copy_count;
	bool ok;
};

/* ---- equal? ---- */

static const struct mg_checked *find_said(const struct mg_check_state *state, uint64_t node)
{
	for (size_t i = 0; i < state->count; i++) {
		if (state->said[i].node == node) {
			return &state->said[i];
		}
	}
	return NULL;
}

static const char *state_of(const struct mg_copy_info *copy, const struct mg_check_state *state)
{
	const struct mg_checked *said = find_said(state, copy->node);
	const struct mg_checked *right = mg_check_majority(state);

	if (copy->mending) {
		return "rebuilding";
	}
	if (!said) {
		return copy->connected ? "missing" : "down";
	}
	if (said->status != MG_CHECKED_SUM) {
		return said->status == MG_CHECKED_UNREADABLE ? "unreadable" : "ended";
	}
	return (right ? mg_checked_same(said, right) : mg_check_all_same(state)) ? "equal" : "differs";
}

static void add_copy(struct report *report, const struct mg_copy_info *copy,
                     const struct mg_check_state *state, bool first, const char **worst)
{
	const struct mg_checked *said = find_said(state, copy->node);
	const char *is = state_of(copy, state);

	mg_sb_add(report->json, first ? "{\"node\": " : ", {\"node\": ");
	mg_sb_add_json(report->json, copy->id, strlen(copy->id));
	mg_sb_addf(report->json, ", \"state\": \"%s\", \"sum\": \"", is);
	for (size_t i = 0; said && said->status == MG_CHECKED_SUM && i < sizeof said->digest; i++) {
		mg_sb_addf(report->json, "%02x", said->digest[i]);
	}
	mg_sb_add(report->json, "\"}");
	if (strcmp(is, "equal") != 0 && strcmp(*worst, "differs") != 0) {
		*worst = strcmp(is, "differs") == 0 ? is : "incomplete";
	}
}

/* first: the number of the first one of its list. */
static void add_shard(struct report *report, uint32_t shard, uint32_t first_shard)
{
	struct mg_check_state state;
	const char *worst = "equal";
	bool first = true;

	mg_replica_checked(report->replica, shard, &state);
	mg_sb_addf(report->json, "%s{\"shard\": %" PRIu32 ", \"index\": %" PRIu64 ", \"rows\": %" PRIu64
	           ", \"replicas\": [",
	           shard > first_shard ? ", " : "", shard - first_shard, state.index,
	           state.count ? state.said[0].rows : 0);
	for (size_t i = 0; i < report->copy_count; i++) {
		if (report->copies[i].shard == shard) {
			add_copy(report, &report->copies[i], &state, first, &worst);
			first = false;
		}
	}
	worst = state.index ? worst : "unknown";
	report->ok = report->ok && strcmp(worst, "equal") == 0;
	mg_sb_addf(report->json, "], \"state\": \"%s\"}", worst);
}

void mg_rest_check_report(struct mg_replica *replica, struct mg_sb *json)
{
	size_t max = mg_replica_all_copies(replica, NULL, 0) + 64;
	uint32_t tables = mg_replica_shards(replica) + 1, keys = mg_replica_kv_shards(replica);
	struct mg_sb shards = { 0 };
	struct report report = { .replica = replica, .json = &shards, .ok = true };
	bool running = mg_replica_checks(replica); /* before it is looked at */

	report.copies = mg_alloc0(max * sizeof *report.copies);
	report.copy_count = mg_replica_all_copies(replica, report.copies, max);
	report.copy_count = report.copy_count < max ? report.copy_count : max;
	for (uint32_t i = 0; i < tables; i++) {
		add_shard(&report, i, 0);
	}
	mg_sb_add(&shards, "], \"kv_shards\": [");
	for (uint32_t i = tables; i < tables + keys; i++) {
		add_shard(&report, i, tables);
	}
	mg_sb_addf(json, "{\"running\": %s, \"ok\": %s, \"shards\": [%s]}\n",
	           running ? "true" : "false", report.ok && !running ? "true" : "false",
	           mg_sb_text(&shards));
	mg_free(report.copies);
	mg_sb_fini(&shards);
}

/* ---- in their places? ---- */

void mg_rest_balance_report(struct mg_replica *replica, struct mg_sb *json)
{
	size_t max = mg_replica_moves(replica, NULL, 0) + 64;
	struct mg_move_info *moves = mg_alloc0(max * sizeof *moves);
	size_t count = mg_replica_moves(replica, moves, max);

	mg_sb_addf(json, "{\"balanced\": %s, \"moves\": [", count ? "false" : "true");
	for (size_t i = 0; i < count && i < max; i++) {
		mg_sb_addf(json, "%s{\"shard\": %" PRId64 ", \"node\": ", i ? ", " : "",
		           (int64_t)moves[i].group - 1);
		mg_sb_add_json(json, moves[i].id, strlen(moves[i].id));
		mg_sb_addf(json, ", \"is\": \"%s\", \"should\": \"%s\"}", moves[i].is, moves[i].should);
	}
	mg_sb_add(json, "]}\n");
	mg_free(moves);
}
