/*
 * explain.c - a plan as text for people and as JSON for programs.
 *
 * Text: the step of the ladder and why, where it runs, one block a stage in the order they run,
 * then the planner's notes.  JSON: the same facts under the same names; names are stable.
 */
#include "sql/plan.h"

#include "base/str.h"

#include <string.h>

static const char *const ship_names[] = {
	[MG_SHIP_KEEP] = "keep", [MG_SHIP_GATHER] = "gather", [MG_SHIP_BROADCAST] = "broadcast",
	[MG_SHIP_HASH] = "hash", [MG_SHIP_RESULT] = "result",
};

static const char *where_text(const struct mg_stage *stage)
{
	return stage->everywhere ? "every participant" : "coordinator";
}

static void stage_text(struct mg_sb *sb, const struct mg_stage *stage)
{
	mg_sb_addf(sb, "  stage %u: %s", stage->id, ship_names[stage->ship]);
	if (stage->label && strcmp(stage->label, ship_names[stage->ship]) != 0) {
		mg_sb_addf(sb, " (%s)", stage->label);
	}
	mg_sb_addf(sb, ", on %s", where_text(stage));
	if (stage->rows_estimate >= 0) {
		mg_sb_addf(sb, ", about %.0f rows", stage->rows_estimate);
	}
	for (size_t i = 0; i < stage->scan_count; i++) {
		mg_sb_addf(sb, "%s%s", i ? ", " : "\n    reads tables ", stage->scans[i]);
	}
	for (size_t i = 0; i < stage->input_count; i++) {
		mg_sb_addf(sb, "%s%u", i ? ", " : "\n    reads stages ", stage->inputs[i]);
	}
	mg_sb_addf(sb, "\n    %s\n", stage->sql);
}

void mg_plan_explain(struct mg_sb *sb, const struct mg_plan_text *text)
{
	mg_sb_addf(sb, "step: %s", text->step);
	if (text->reason && *text->reason) {
		mg_sb_addf(sb, " (%s)", text->reason);
	}
	mg_sb_add(sb, "\n");
	if (text->where && *text->where) {
		mg_sb_addf(sb, "where: %s\n", text->where);
	}
	if (text->stage_count > 0) {
		mg_sb_add(sb, "stages:\n");
	}
	for (size_t i = 0; i < text->stage_count; i++) {
		stage_text(sb, text->stages[i]);
	}
	if (text->notes && *text->notes) {
		mg_sb_add(sb, "notes:\n");
		for (const char *line = text->notes; *line;) {
			size_t len = strcspn(line, "\n");
			mg_sb_addf(sb, "  %.*s\n", (int)len, line);
			line += len + (line[len] == '\n');
		}
	}
}

/* ---- JSON ---- */

static void json_text(struct mg_sb *sb, const char *text)
{
	if (text) {
		mg_sb_add_json(sb, text, strlen(text));
	} else {
		mg_sb_add(sb, "null");
	}
}

static void json_member(struct mg_sb *sb, const char *name, const char *text)
{
	mg_sb_addf(sb, "\"%s\":", name);
	json_text(sb, text);
}

static void stage_json(struct mg_sb *sb, const struct mg_stage *stage)
{
	mg_sb_addf(sb, "{\"id\":%u,", stage->id);
	json_member(sb, "ship", ship_names[stage->ship]);
	mg_sb_add(sb, ",");
	json_member(sb, "label", stage->label);
	mg_sb_add(sb, ",");
	json_member(sb, "where", stage->everywhere ? "everywhere" : "coordinator");
	if (stage->rows_estimate >= 0) {
		mg_sb_addf(sb, ",\"rows\":%.0f", stage->rows_estimate);
	}
	mg_sb_add(sb, ",\"scans\":[");
	for (size_t i = 0; i < stage->scan_count; i++) {
		mg_sb_add(sb, i ? "," : "");
		json_text(sb, stage->scans[i]);
	}
	mg_sb_add(sb, "],\"inputs\":[");
	for (size_t i = 0; i < stage->input_count; i++) {
		mg_sb_addf(sb, "%s%u", i ? "," : "", stage->inputs[i]);
	}
	mg_sb_add(sb, "],");
	json_member(sb, "sql", stage->sql);
	mg_sb_add(sb, "}");
}

void mg_plan_explain_json(struct mg_sb *sb, const struct mg_plan_text *text)
{
	mg_sb_add(sb, "{");
	json_member(sb, "step", text->step);
	mg_sb_add(sb, ",");
	json_member(sb, "reason", text->reason);
	mg_sb_add(sb, ",");
	json_member(sb, "where", text->where);
	mg_sb_add(sb, ",\"stages\":[");
	for (size_t i = 0; i < text->stage_count; i++) {
		mg_sb_add(sb, i ? "," : "");
		stage_json(sb, text->stages[i]);
	}
	mg_sb_add(sb, "],\"notes\":[");
	bool first = true;
	for (const char *line = text->notes ? text->notes : ""; *line;) {
		size_t len = strcspn(line, "\n");
		mg_sb_add(sb, first ? "" : ",");
		mg_sb_add_json(sb, line, len);
		first = false;
		line += len + (line[len] == '\n');
	}
	mg_sb_add(sb, "]}");
}
