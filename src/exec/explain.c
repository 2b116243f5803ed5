/*
 * explain.c - see explain.h.
 *
 * Text and JSON say the same: the step of the ladder with its reason, each stage with what it ships
 * where and its SQL, the decisions; after ANALYZE the rows, bytes and time of each node, and the
 * rows that it read of each table in each of its shards, as the engine counted them. Owner: the
 * query's thread.
 */
#include "exec/explain.h"

#include <string.h>

struct seen_part {
	const struct mg_attempt_part *info;
	struct mg_exec_stats stats;
	const struct mg_exec_read *reads;
	size_t read_count;
};

struct seen_stage {
	struct mg_stage stage; /* texts lie in the query's arena, which outlives us */
	bool ran, staged;      /* staged: not a statement without stages */
	size_t part_count;
	struct seen_part *parts; /* copied */
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
		explain->planned[i].staged = true;
	}
	mg_explain_notes(explain, notes);
}

static struct seen_stage *see(struct mg_explain *explain, const struct mg_stage *stage,
                              size_t part_count)
{
	mg_grow(explain->ran, explain->ran_count, explain->ran_cap);
	struct seen_stage *seen = &explain->ran[explain->ran_count++];
	*seen = (struct seen_stage){ .ran = true, .staged = stage != NULL, .part_count = part_count };
	if (stage) {
		seen->stage = *stage;
	}
	seen->parts = mg_arena_new_array(explain->arena, struct seen_part, part_count);
	return seen;
}

static void see_part(struct mg_explain *explain, struct seen_part *part,
                     const struct mg_attempt_part *info, const struct mg_exec_stats *stats,
                     const struct mg_exec_reads *reads)
{
	struct mg_attempt_part *copy = mg_arena_new_array(explain->arena, struct mg_attempt_part, 1);
	*copy = *info;
	copy->shards = mg_arena_new_array(explain->arena, uint32_t, info->shard_count + 1);
	memcpy(copy->shards, info->shards, sizeof *copy->shards * info->shard_count);
	struct mg_exec_read *list =
		mg_arena_new_array(explain->arena, struct mg_exec_read, reads->count + 1);
	if (reads->count) {
		memcpy(list, reads->items, sizeof *list * reads->count);
	}
	*part = (struct seen_part){
		.info = copy, .stats = *stats, .reads = list, .read_count = reads->count
	};
}

void mg_explain_stage(struct mg_explain *explain, const struct mg_attempt *attempt,
                      const struct mg_stage *stage, const struct mg_exec_stats *stats)
{
	size_t count = stage->everywhere ? mg_attempt_part_count(attempt) : 1;
	struct seen_stage *seen = see(explain, stage, count);
	for (size_t i = 0; i < count; i++) {
		see_part(explain, &seen->parts[i], mg_attempt_part(attempt, i), &stats[i],
		         mg_attempt_reads(attempt, i));
	}
}

void mg_explain_answer(struct mg_explain *explain, const struct mg_attempt *attempt,
                       const struct mg_stage *stage, const struct mg_exec_stats *stats,
                       const struct mg_exec_reads *reads)
{
	struct seen_stage *seen = see(explain, stage, 1);
	see_part(explain, &seen->parts[0], mg_attempt_part(attempt, 0), stats, reads);
}

/* ---- rows per shard ---- */

static bool scans(const struct seen_stage *seen, const char *table)
{
	bool found = !seen->staged;
	for (size_t i = 0; i < seen->stage.scan_count && !found; i++) {
		found = mg_text_eq(seen->stage.scans[i], table);
	}
	return found;
}

/* What a part read, with zeros for the shards that its scans did not touch: an empty shard, or one
 * that the engine's statistics left out. */
static void complete_reads(const struct seen_stage *seen, const struct seen_part *part,
                           const struct mg_way *way, struct mg_exec_reads *reads)
{
	mg_exec_reads_clear(reads);
	for (size_t t = 0; t < way->table_count; t++) {
		struct mg_sb name = { 0 };
		mg_sb_addf(&name, "%s.%s", way->places[t].schema, way->places[t].table);
		bool shared = way->places[t].key_count == 0, read = scans(seen, mg_sb_text(&name));
		for (size_t i = 0; read && i < (shared ? 1 : part->info->shard_count); i++) {
			mg_exec_reads_add(reads, shared ? 0 : part->info->shards[i], mg_sb_text(&name), 0, 0);
		}
		mg_sb_fini(&name);
	}
	for (size_t i = 0; i < part->read_count; i++) {
		const struct mg_exec_read *read = &part->reads[i];
		mg_exec_reads_add(reads, read->shard, read->table, read->rows, read->scanned);
	}
}

/* By shard, over all stages, nodes and tables. */
static void sum_reads(const struct mg_explain *explain, const struct mg_way *way,
                      struct mg_exec_reads *sums)
{
	struct mg_exec_reads reads = { 0 };
	for (size_t i = 0; i < way->shard_count; i++) {
		mg_exec_reads_add(sums, way->shards[i], "", 0, 0);
	}
	for (size_t i = 0; i < explain->ran_count; i++) {
		for (size_t p = 0; p < explain->ran[i].part_count; p++) {
			complete_reads(&explain->ran[i], &explain->ran[i].parts[p], way, &reads);
			for (size_t r = 0; r < reads.count; r++) {
				const struct mg_exec_read *read = &reads.items[r];
				mg_exec_reads_add(sums, read->shard, "", read->rows, read->scanned);
			}
		}
	}
	mg_exec_reads_fini(&reads);
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

static void print_part(struct mg_sb *out, const struct seen_stage *seen,
                       const struct seen_part *part, const struct mg_way *way)
{
	const struct mg_exec_stats *stats = &part->stats;
	struct mg_exec_reads reads = { 0 };
	mg_sb_addf(out,
	           "  %-16s %12llu rows  %12llu bytes  sent %llu rows, %llu bytes  %.3f ms  shards ",
	           part->info->node, (unsigned long long)stats->rows, (unsigned long long)stats->bytes,
	           (unsigned long long)stats->rows_sent, (unsigned long long)stats->bytes_sent,
	           (double)stats->micros / 1000);
	add_shards(out, part->info);
	mg_sb_add_char(out, '\n');
	complete_reads(seen, part, way, &reads);
	for (size_t i = 0; i < reads.count; i++) {
		const struct mg_exec_read *read = &reads.items[i];
		mg_sb_addf(out, "    shard %-4u %12llu rows of %s, %llu scanned\n", read->shard,
		           (unsigned long long)read->rows, read->table, (unsigned long long)read->scanned);
	}
	mg_exec_reads_fini(&reads);
}

static void print_stage(struct mg_sb *out, const struct seen_stage *seen, const struct mg_way *way)
{
	const struct mg_stage *stage = &seen->stage;
	mg_sb_addf(out, "stage %u  %s  (%s, on %s", stage->id, ship_text(stage->ship),
	           stage->label ? stage->label : "rows",
	           stage->everywhere ? "every node" : "the coordinator");
	if (!seen->ran && stage->rows_estimate >= 0) {
		mg_sb_addf(out, ", about %.0f rows", stage->rows_estimate);
	}
	for (size_t i = 0; i < stage->scan_count; i++) {
		mg_sb_addf(out, "%s%s", i ? ", " : "; tables ", stage->scans[i]);
	}
	for (size_t i = 0; i < stage->input_count; i++) {
		mg_sb_addf(out, "%s%u", i ? ", " : "; stages ", stage->inputs[i]);
	}
	mg_sb_add(out, ")\n");
	for (size_t i = 0; seen->ran && i < seen->part_count; i++) {
		print_part(out, seen, &seen->parts[i], way);
	}
	mg_sb_addf(out, "  %s\n", stage->sql);
}

static void print_sums(struct mg_sb *out, const struct mg_explain *explain,
                       const struct mg_way *way)
{
	struct mg_exec_reads sums = { 0 };
	sum_reads(explain, way, &sums);
	for (size_t i = 0; i < sums.count; i++) {
		const struct mg_exec_read *sum = &sums.items[i];
		mg_sb_addf(out, "%s%u: %llu", i ? ", " : "rows per shard: ", sum->shard,
		           (unsigned long long)sum->rows);
	}
	mg_sb_add(out, sums.count ? "\n" : "");
	mg_exec_reads_fini(&sums);
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
			if (stages[i].staged) {
				print_stage(out, &stages[i], way);
			}
		}
	} else {
		mg_sb_addf(out, "runs on the coordinator over %zu shard%s:\n  %s\n", way->shard_count,
		           way->shard_count == 1 ? "" : "s", sql);
		for (size_t i = 0; i < explain->ran_count; i++) {
			print_part(out, &explain->ran[i], &explain->ran[i].parts[0], way);
		}
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
		print_sums(out, explain, way);
		if (stats->missed) {
			mg_sb_addf(out,
			           "workers: %u had not what is read within %d ms; the server did their "
			           "parts\n",
			           stats->missed, MG_ATTEMPT_PIN_MS);
		}
		if (stats->cut_shards) {
			mg_sb_addf(out, "cut: %u shards at server %llu, which has waited %llu ms for it\n",
			           stats->cut_shards, (unsigned long long)stats->cut_node,
			           (unsigned long long)stats->cut_waited_ms);
		}
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

static void json_part(struct mg_sb *out, const struct seen_stage *seen,
                      const struct seen_part *part, const struct mg_way *way)
{
	const struct mg_exec_stats *stats = &part->stats;
	struct mg_exec_reads reads = { 0 };
	mg_sb_add_char(out, '{');
	add_text(out, "node", part->info->node);
	mg_sb_addf(out,
	           ",\"rows\":%llu,\"bytes\":%llu,\"rows_sent\":%llu,\"bytes_sent\":%llu,\"ms\":%.3f,"
	           "\"shards\":[",
	           (unsigned long long)stats->rows, (unsigned long long)stats->bytes,
	           (unsigned long long)stats->rows_sent, (unsigned long long)stats->bytes_sent,
	           (double)stats->micros / 1000);
	add_shards(out, part->info);
	mg_sb_add(out, "],\"reads\":[");
	complete_reads(seen, part, way, &reads);
	for (size_t i = 0; i < reads.count; i++) {
		const struct mg_exec_read *read = &reads.items[i];
		mg_sb_addf(out, "%s{\"shard\":%u,", i ? "," : "", read->shard);
		add_text(out, "table", read->table);
		mg_sb_addf(out, ",\"rows\":%llu,\"scanned\":%llu}", (unsigned long long)read->rows,
		           (unsigned long long)read->scanned);
	}
	mg_sb_add(out, "]}");
	mg_exec_reads_fini(&reads);
}

static void json_stage(struct mg_sb *out, const struct seen_stage *seen, const struct mg_way *way)
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
	mg_sb_add(out, "],\"scans\":[");
	for (size_t i = 0; i < stage->scan_count; i++) {
		mg_sb_add(out, i ? "," : "");
		mg_sb_add_json(out, stage->scans[i], strlen(stage->scans[i]));
	}
	mg_sb_add(out, "],");
	add_text(out, "sql", stage->sql);
	mg_sb_add(out, ",\"nodes\":[");
	for (size_t i = 0; seen->ran && i < seen->part_count; i++) {
		mg_sb_add(out, i ? "," : "");
		json_part(out, seen, &seen->parts[i], way);
	}
	mg_sb_add(out, "]}");
}

static void json_sums(struct mg_sb *out, const struct mg_explain *explain, const struct mg_way *way)
{
	struct mg_exec_reads sums = { 0 };
	sum_reads(explain, way, &sums);
	mg_sb_add(out, ",\"rows_per_shard\":[");
	for (size_t i = 0; i < sums.count; i++) {
		const struct mg_exec_read *sum = &sums.items[i];
		mg_sb_addf(out, "%s{\"shard\":%u,\"rows\":%llu,\"scanned\":%llu}", i ? "," : "", sum->shard,
		           (unsigned long long)sum->rows, (unsigned long long)sum->scanned);
	}
	mg_sb_add_char(out, ']');
	mg_exec_reads_fini(&sums);
}

/* A statement without stages: what ran on the coordinator, once, or once a shard. */
static void json_runs(struct mg_sb *out, const struct mg_explain *explain, const struct mg_way *way)
{
	mg_sb_add(out, ",\"runs\":[");
	for (size_t i = 0; way->kind != MG_WAY_CUT && i < explain->ran_count; i++) {
		mg_sb_add(out, i ? "," : "");
		json_part(out, &explain->ran[i], &explain->ran[i].parts[0], way);
	}
	mg_sb_add_char(out, ']');
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
	bool first = true;
	for (size_t i = 0; way->kind == MG_WAY_CUT && i < count; i++) {
		if (stages[i].staged) {
			mg_sb_add(out, first ? "" : ",");
			json_stage(out, &stages[i], way);
			first = false;
		}
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
		json_runs(out, explain, way);
		json_sums(out, explain, way);
		if (stats->cut_shards) {
			mg_sb_addf(out, ",\"cut\":{\"server\":%llu,\"shards\":%u,\"waited_ms\":%llu}",
			           (unsigned long long)stats->cut_node, stats->cut_shards,
			           (unsigned long long)stats->cut_waited_ms);
		}
		mg_sb_addf(out,
		           ",\"rows\":%llu,\"bytes\":%llu,\"nodes\":%u,\"workers\":%u,\"missed\":%u,"
		           "\"attempts\":%u,\"moved_bytes\":%llu,"
		           "\"moved_rows\":%llu,\"plan_ms\":%.3f,\"elapsed_ms\":%.3f",
		           (unsigned long long)stats->rows, (unsigned long long)stats->bytes, stats->nodes,
		           stats->workers, stats->missed, stats->attempts,
		           (unsigned long long)stats->moved_bytes,
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
