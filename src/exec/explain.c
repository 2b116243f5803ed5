/*
 * explain.c - see explain.h.
 *
 * Text and JSON say the same: the step of the ladder with its reason, each stage with what it ships
 * where and its SQL, the decisions; after ANALYZE the rows, bytes and time of each node.
 * Owner: the query's thread.
 */
#include "exec/explain.h"

#include <string.h>

struct seen_stage {
	struct mg_stage stage; /* texts lie in the query's arena, which outlives us */
	bool ran;
	size_t part_count;
	struct mg_attempt_part *parts; /* names and shards, copied */
	struct mg_exec_stats *stats;
};

struct mg_explain {
	struct mg_arena *arena;
	struct seen_stage *planned, *ran;
	size_t planned_count, ran_count, ran_cap;
	char *notes;
};

struct mg_explain *mg_explain_new(void)
{
	struct mg_explain *explain = mg_alloc0(sizeof *explain);
	explain->arena = mg_arena_new();
	return explain;
}

void mg_explain_free(struct mg_explain *explain)
{
	mg_arena_free(explain->arena);
	mg_free(explain->planned);
	mg_free(explain->ran);
	mg_free(explain->notes);
	mg_free(explain);
}

void mg_explain_notes(struct mg_explain *explain, const char *notes)
{
	mg_free(explain->notes);
	explain->notes = mg_strdup(notes);
}

void mg_explain_restart(struct mg_explain *explain)
{
	explain->ran_count = 0;
}

void mg_explain_plan(struct mg_explain *explain, const struct mg_plan_env *env, const char *notes)
{
	explain->planned = mg_alloc0(sizeof *explain->planned * (env->stage_count + 1));
	explain->planned_count = env->stage_count;
	for (size_t i = 0; i < env->stage_count; i++) {
		explain->planned[i].stage = *env->stages[i];
	}
	mg_explain_notes(explain, notes);
}

void mg_explain_stage(struct mg_explain *explain, struct mg_attempt *attempt,
                      const struct mg_stage *stage, const struct mg_exec_stats *stats)
{
	mg_grow(explain->ran, explain->ran_count, explain->ran_cap);
	struct seen_stage *seen = &explain->ran[explain->ran_count++];
	*seen = (struct seen_stage){ .stage = *stage,
		                         .ran = true,
		                         .part_count = mg_attempt_part_count(attempt) };
	seen->parts = mg_arena_new_array(explain->arena, struct mg_attempt_part, seen->part_count);
	seen->stats = mg_arena_new_array(explain->arena, struct mg_exec_stats, seen->part_count);
	for (size_t i = 0; i < seen->part_count; i++) {
		seen->parts[i] = *mg_attempt_part(attempt, i);
		uint32_t *shards =
			mg_arena_new_array(explain->arena, uint32_t, seen->parts[i].shard_count + 1);
		memcpy(shards, seen->parts[i].shards, sizeof *shards * seen->parts[i].shard_count);
		seen->parts[i].shards = shards;
		seen->stats[i] = stats[i];
	}
}

static const char *ship_text(enum mg_ship ship)
{
	static const char *const texts[] = {
		"keep in place",
		"gather to the coordinator",
		"broadcast to every node",
		"repartition by slot",
		"answer",
	};
	return texts[ship];
}

static const char *ship_word(enum mg_ship ship)
{
	static const char *const words[] = { "keep", "gather", "broadcast", "repartition", "result" };
	return words[ship];
}

static void add_shards(struct mg_sb *out, const struct mg_attempt_part *part)
{
	for (size_t i = 0; i < part->shard_count; i++) {
		mg_sb_addf(out, "%s%u", i ? "," : "", part->shards[i]);
	}
}

/* ---- text ---- */

static void print_stage(struct mg_sb *out, const struct seen_stage *seen)
{
	const struct mg_stage *stage = &seen->stage;
	mg_sb_addf(out, "stage %u  %s  (%s, on %s", stage->id, ship_text(stage->ship),
	           stage->label ? stage->label : "rows",
	           stage->everywhere ? "every node" : "the coordinator");
	if (!seen->ran && stage->rows_estimate >= 0) {
		mg_sb_addf(out, ", about %.0f rows", stage->rows_estimate);
	}
	mg_sb_add(out, ")\n");
	for (size_t i = 0; seen->ran && i < seen->part_count; i++) {
		const struct mg_exec_stats *stats = &seen->stats[i];
		if (i && !stage->everywhere) {
			break;
		}
		mg_sb_addf(
			out, "  %-16s %12llu rows  %12llu bytes  sent %llu rows, %llu bytes  %.3f ms  shards ",
			seen->parts[i].node, (unsigned long long)stats->rows, (unsigned long long)stats->bytes,
			(unsigned long long)stats->rows_sent, (unsigned long long)stats->bytes_sent,
			(double)stats->micros / 1000);
		add_shards(out, &seen->parts[i]);
		mg_sb_add_char(out, '\n');
	}
	mg_sb_addf(out, "  %s\n", stage->sql);
}

static void print_text(const struct mg_explain *explain, const struct mg_way *way,
                       const struct mg_run_stats *stats, const char *sql, bool analyze,
                       struct mg_sb *out)
{
	mg_sb_addf(out, "step: %s", way->step);
	mg_sb_addf(out, way->reason[0] ? " (%s)\n" : "%s\n", way->reason);
	const struct seen_stage *stages = explain->ran_count ? explain->ran : explain->planned;
	size_t count = explain->ran_count ? explain->ran_count : explain->planned_count;
	if (way->kind == MG_WAY_CUT) {
		for (size_t i = 0; i < count; i++) {
			print_stage(out, &stages[i]);
		}
	} else {
		mg_sb_addf(out, "runs on the coordinator over %zu shard%s:\n  %s\n", way->shard_count,
		           way->shard_count == 1 ? "" : "s", sql);
	}
	if (explain->notes && explain->notes[0]) {
		mg_sb_addf(out, "decisions:\n%s", explain->notes);
		if (out->ptr[out->len - 1] != '\n') {
			mg_sb_add_char(out, '\n');
		}
	}
	for (size_t i = 0; i < way->table_count; i++) {
		mg_sb_addf(out, "table %s.%s: %llu rows, %s\n", way->places[i].schema, way->places[i].table,
		           (unsigned long long)way->places[i].rows,
		           way->places[i].key_count ? "partitioned" : "reference");
	}
	if (analyze) {
		mg_sb_addf(out,
		           "total: %llu rows, %llu bytes, %u node%s, %llu bytes moved, planned in %.3f ms, "
		           "%.3f ms in all\n",
		           (unsigned long long)stats->rows, (unsigned long long)stats->bytes, stats->nodes,
		           stats->nodes == 1 ? "" : "s", (unsigned long long)stats->moved_bytes,
		           (double)stats->plan_micros / 1000, (double)stats->micros / 1000);
	}
}

/* ---- JSON ---- */

static void add_text(struct mg_sb *out, const char *key, const char *text)
{
	mg_sb_addf(out, "\"%s\":", key);
	mg_sb_add_json(out, text, strlen(text));
}

static void json_stage(struct mg_sb *out, const struct seen_stage *seen)
{
	const struct mg_stage *stage = &seen->stage;
	mg_sb_addf(out, "{\"stage\":%u,\"exchange\":\"%s\",\"everywhere\":%s,", stage->id,
	           ship_word(stage->ship), stage->everywhere ? "true" : "false");
	add_text(out, "label", stage->label ? stage->label : "");
	if (stage->rows_estimate >= 0) {
		mg_sb_addf(out, ",\"rows_estimate\":%.0f", stage->rows_estimate);
	}
	mg_sb_add(out, ",\"inputs\":[");
	for (size_t i = 0; i < stage->input_count; i++) {
		mg_sb_addf(out, "%s%u", i ? "," : "", stage->inputs[i]);
	}
	mg_sb_add(out, "],");
	add_text(out, "sql", stage->sql);
	mg_sb_add(out, ",\"nodes\":[");
	for (size_t i = 0; seen->ran && i < (stage->everywhere ? seen->part_count : 1); i++) {
		const struct mg_exec_stats *stats = &seen->stats[i];
		mg_sb_add(out, i ? ",{" : "{");
		add_text(out, "node", seen->parts[i].node);
		mg_sb_addf(out,
		           ",\"rows\":%llu,\"bytes\":%llu,\"rows_sent\":%llu,\"bytes_sent\":%llu,\"ms\":%."
		           "3f,\"shards\":[",
		           (unsigned long long)stats->rows, (unsigned long long)stats->bytes,
		           (unsigned long long)stats->rows_sent, (unsigned long long)stats->bytes_sent,
		           (double)stats->micros / 1000);
		add_shards(out, &seen->parts[i]);
		mg_sb_add(out, "]}");
	}
	mg_sb_add(out, "]}");
}

static void print_json(const struct mg_explain *explain, const struct mg_way *way,
                       const struct mg_run_stats *stats, const char *sql, bool analyze,
                       struct mg_sb *out)
{
	const struct seen_stage *stages = explain->ran_count ? explain->ran : explain->planned;
	size_t count = explain->ran_count ? explain->ran_count : explain->planned_count;
	mg_sb_add_char(out, '{');
	add_text(out, "step", way->step);
	mg_sb_add_char(out, ',');
	add_text(out, "reason", way->reason);
	mg_sb_add(out, ",\"stages\":[");
	for (size_t i = 0; way->kind == MG_WAY_CUT && i < count; i++) {
		mg_sb_add(out, i ? "," : "");
		json_stage(out, &stages[i]);
	}
	mg_sb_add(out, "],");
	add_text(out, "sql", sql);
	mg_sb_add_char(out, ',');
	add_text(out, "decisions", explain->notes ? explain->notes : "");
	mg_sb_addf(out, ",\"shards\":%zu,\"tables\":[", way->shard_count);
	for (size_t i = 0; i < way->table_count; i++) {
		mg_sb_add(out, i ? ",{" : "{");
		add_text(out, "schema", way->places[i].schema);
		mg_sb_add_char(out, ',');
		add_text(out, "table", way->places[i].table);
		mg_sb_addf(out, ",\"rows\":%llu,\"partitioned\":%s}",
		           (unsigned long long)way->places[i].rows,
		           way->places[i].key_count ? "true" : "false");
	}
	mg_sb_add_char(out, ']');
	if (analyze) {
		mg_sb_addf(out,
		           ",\"rows\":%llu,\"bytes\":%llu,\"nodes\":%u,\"workers\":%u,\"attempts\":%u,"
		           "\"moved_bytes\":%llu,"
		           "\"moved_rows\":%llu,\"plan_ms\":%.3f,\"elapsed_ms\":%.3f",
		           (unsigned long long)stats->rows, (unsigned long long)stats->bytes, stats->nodes,
		           stats->workers, stats->attempts, (unsigned long long)stats->moved_bytes,
		           (unsigned long long)stats->moved_rows, (double)stats->plan_micros / 1000,
		           (double)stats->micros / 1000);
	}
	mg_sb_add_char(out, '}');
}

void mg_explain_print(const struct mg_explain *explain, const struct mg_way *way,
                      const struct mg_run_stats *stats, const char *sql, bool analyze, bool json,
                      struct mg_sb *out)
{
	if (json) {
		print_json(explain, way, stats, sql, analyze, out);
	} else {
		print_text(explain, way, stats, sql, analyze, out);
	}
}
