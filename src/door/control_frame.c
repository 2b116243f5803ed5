/*
 * control_frame.c - reading and writing the control frames of the shell's channel.
 *
 * Rule: a frame that a client may not send is an error of the protocol, whatever is wrong with it,
 * so that a confused client hears of it at once; members that are not known are skipped.
 */
#include "door/control_frame.h"

#include "session/encode.h"

#include <string.h>

enum { FRAME_SIZE_MAX = 16 << 20 };

/* ---- reading ---- */

static int parse_id(const struct mg_json *frame, struct mg_control *out, struct mg_error *err)
{
	int64_t id = mg_json_get_int(frame, "id", 0);

	if (id < 1 || id > UINT32_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL, "a frame needs an \"id\" from 1 to 4294967295");
	}
	out->id = (uint32_t)id;
	return 0;
}

static int parse_query(const struct mg_json *frame, struct mg_control *out, struct mg_error *err)
{
	const struct mg_json *sql = mg_json_get(frame, "sql");

	if (!mg_json_is(sql, MG_JSON_STRING)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a frame of type \"query\" needs a text \"sql\"");
	}
	const struct mg_json *params = mg_json_get(frame, "params");

	if (params && !mg_json_is(params, MG_JSON_ARRAY) && !mg_json_is(params, MG_JSON_OBJECT) &&
	    !mg_json_is(params, MG_JSON_NULL)) {
		return mg_error_set(err, MG_E_PROTOCOL, "\"params\" is an array or an object");
	}
	const struct mg_json *seen = mg_json_get(frame, "seen");

	if (seen && !mg_json_is(seen, MG_JSON_STRING)) {
		return mg_error_set(err, MG_E_PROTOCOL, "\"seen\" is a text");
	}
	out->seen = seen ? seen->text : (struct mg_str){ 0 };
	out->sql = sql->text;
	out->params = mg_json_is(params, MG_JSON_NULL) ? NULL : params;
	out->progress = mg_json_get_bool(frame, "progress", false);
	out->lossless = mg_json_get_bool(frame, "lossless", true);
	out->input = mg_json_get_bool(frame, "input", false);
	return parse_id(frame, out, err);
}

int mg_control_parse(struct mg_arena *arena, const char *text, size_t len, struct mg_control *out,
                     struct mg_error *err)
{
	struct mg_json *frame = NULL;

	memset(out, 0, sizeof *out);
	if (len > FRAME_SIZE_MAX) {
		return mg_error_set(err, MG_E_PROTOCOL, "a frame of %zu bytes is too large", len);
	}
	if (mg_json_parse(arena, text, len, &frame, err)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a text frame is not JSON");
	}
	const char *type = mg_json_get_text(frame, "type");

	if (!mg_json_is(frame, MG_JSON_OBJECT) || !type) {
		return mg_error_set(err, MG_E_PROTOCOL, "a text frame needs a \"type\"");
	}
	if (strcmp(type, "query") == 0) {
		out->kind = MG_CONTROL_QUERY;
		return parse_query(frame, out, err);
	}
	if (strcmp(type, "cancel") == 0) {
		out->kind = MG_CONTROL_CANCEL;
		return parse_id(frame, out, err);
	}
	if (strcmp(type, "complete") == 0) {
		out->kind = MG_CONTROL_COMPLETE;
		return parse_id(frame, out, err);
	}
	if (strcmp(type, "ping") == 0) {
		out->kind = MG_CONTROL_PING;
		return 0;
	}
	return mg_error_set(err, MG_E_PROTOCOL, "a text frame of unknown type \"%.40s\"", type);
}

/* ---- writing ---- */

static void add_text(struct mg_sb *out, const char *name, const char *text)
{
	mg_sb_addf(out, ",\"%s\":", name);
	mg_sb_add_json(out, text, strlen(text));
}

static void add_texts(struct mg_sb *out, const char *name, const char *const *texts, size_t count)
{
	mg_sb_addf(out, ",\"%s\":[", name);
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(out, i ? "," : "");
		mg_sb_add_json(out, texts[i], strlen(texts[i]));
	}
	mg_sb_add_char(out, ']');
}

void mg_control_begin(struct mg_sb *out, uint32_t id, const struct mg_answer *answer)
{
	mg_sb_addf(out, "{\"type\":\"begin\",\"id\":%u,\"statement\":%u", id, answer->statement);
	add_text(out, "query", answer->query_id);
	add_text(out, "verb", answer->verb);
	add_texts(out, "columns", answer->names, answer->count);
	add_texts(out, "types", answer->types, answer->count);
	if (answer->media_type) {
		add_text(out, "copy", answer->media_type);
	}
	mg_sb_add_char(out, '}');
}

void mg_control_end(struct mg_sb *out, uint32_t id, const struct mg_answer *answer)
{
	const struct mg_run_stats *stats = answer->stats;

	mg_sb_addf(out, "{\"type\":\"end\",\"id\":%u,\"statement\":%u", id, answer->statement);
	add_text(out, "query", answer->query_id);
	mg_sb_addf(out, ",\"rows\":%llu,\"bytes\":%llu,\"elapsed_ms\":%.3f",
	           (unsigned long long)stats->rows, (unsigned long long)stats->bytes,
	           answer->elapsed_ms);
	add_text(out, "step", stats->step ? stats->step : "");
	add_text(out, "reason", stats->reason);
	mg_sb_addf(out, ",\"nodes\":%u,\"workers\":%u,\"shards\":%u,\"moved_bytes\":%llu", stats->nodes,
	           stats->workers, stats->shards, (unsigned long long)stats->moved_bytes);
	add_text(out, "tag", answer->tag);
	mg_sb_add_char(out, '}');
}

void mg_control_more(struct mg_sb *out, uint32_t id, uint32_t bytes_max)
{
	mg_sb_addf(out, "{\"type\":\"more\",\"id\":%u,\"bytes\":%u}", id, bytes_max);
}

void mg_control_notice(struct mg_sb *out, uint32_t id, const char *text)
{
	mg_sb_addf(out, "{\"type\":\"notice\",\"id\":%u", id);
	add_text(out, "message", text);
	mg_sb_add_char(out, '}');
}

static void add_state(struct mg_sb *out, const struct mg_control_state *state)
{
	if (state->transaction[0]) {
		add_text(out, "transaction", state->transaction);
	}
	if (state->seen[0]) {
		add_text(out, "seen", state->seen);
	}
}

void mg_control_error(struct mg_sb *out, uint32_t id, const struct mg_outcome *outcome,
                      const struct mg_error *err, const struct mg_control_state *state)
{
	mg_sb_addf(out, "{\"type\":\"error\",\"id\":%u,\"statement\":%u", id, outcome->statement);
	add_text(out, "query", outcome->query_id);
	mg_sb_add(out, ",\"error\":");
	mg_error_json(out, err);
	add_state(out, state);
	mg_sb_add_char(out, '}');
}

void mg_control_done(struct mg_sb *out, uint32_t id, const struct mg_control_state *state)
{
	mg_sb_addf(out, "{\"type\":\"done\",\"id\":%u", id);
	add_state(out, state);
	mg_sb_add_char(out, '}');
}

void mg_control_progress(struct mg_sb *out, uint32_t id, double done, uint64_t rows, uint64_t bytes,
                         uint32_t nodes)
{
	mg_sb_addf(
		out,
		"{\"type\":\"progress\",\"id\":%u,\"done\":%.4f,\"rows\":%llu,\"bytes\":%llu,\"nodes\":%u}",
		id, done, (unsigned long long)rows, (unsigned long long)bytes, nodes);
}

/* ---- names for completion ---- */

/* What people type most; the engine has many more, most of which nobody completes. */
static const char *const functions[] = {
	"abs",
	"any_value",
	"approx_count_distinct",
	"approx_quantile",
	"arg_max",
	"arg_min",
	"array_agg",
	"avg",
	"bit_and",
	"bit_or",
	"bool_and",
	"bool_or",
	"ceil",
	"coalesce",
	"concat",
	"concat_ws",
	"contains",
	"corr",
	"count",
	"count_if",
	"cume_dist",
	"current_date",
	"date_diff",
	"date_part",
	"date_trunc",
	"dayname",
	"dense_rank",
	"epoch",
	"epoch_ms",
	"exp",
	"extract",
	"first",
	"first_value",
	"floor",
	"format",
	"generate_series",
	"greatest",
	"grouping",
	"hash",
	"histogram",
	"hour",
	"ifnull",
	"isnan",
	"json_extract",
	"json_extract_string",
	"lag",
	"last",
	"last_day",
	"last_value",
	"lead",
	"least",
	"left",
	"length",
	"list",
	"list_aggregate",
	"list_contains",
	"list_distinct",
	"list_sort",
	"ln",
	"log",
	"lower",
	"lpad",
	"ltrim",
	"make_date",
	"make_timestamp",
	"max",
	"md5",
	"median",
	"min",
	"minute",
	"mode",
	"month",
	"monthname",
	"now",
	"ntile",
	"nullif",
	"percent_rank",
	"pi",
	"power",
	"product",
	"quantile_cont",
	"quantile_disc",
	"quarter",
	"random",
	"range",
	"rank",
	"regexp_extract",
	"regexp_matches",
	"regexp_replace",
	"repeat",
	"replace",
	"reverse",
	"right",
	"round",
	"row_number",
	"rpad",
	"rtrim",
	"second",
	"sign",
	"split_part",
	"sqrt",
	"stddev",
	"stddev_pop",
	"strftime",
	"string_agg",
	"strlen",
	"strptime",
	"struct_pack",
	"substring",
	"sum",
	"today",
	"trim",
	"trunc",
	"typeof",
	"unnest",
	"upper",
	"uuid",
	"var_pop",
	"variance",
	"week",
	"year",
};

static void names_begin(struct mg_sb *out, bool *first, const char *schema, const char *name)
{
	mg_sb_add(out, *first ? "{\"schema\":" : ",{\"schema\":");
	*first = false;
	mg_sb_add_json(out, schema, strlen(schema));
	add_text(out, "name", name);
	mg_sb_add(out, ",\"columns\":[");
}

void mg_control_names(struct mg_sb *out, uint32_t id, const struct mg_catalog_data *data)
{
	bool first = true;

	mg_sb_addf(out, "{\"type\":\"names\",\"id\":%u,\"tables\":[", id);
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];

		names_begin(out, &first, table->schema, table->name);
		for (size_t c = 0; c < table->column_count; c++) {
			mg_sb_add(out, c ? "," : "");
			mg_sb_add_json(out, table->columns[c].name, strlen(table->columns[c].name));
		}
		mg_sb_add(out, "]}");
	}
	for (size_t i = 0; i < data->view_count; i++) {
		names_begin(out, &first, data->views[i].schema, data->views[i].name);
		mg_sb_add(out, "]}");
	}
	for (size_t i = 0; i < MG_SYSTEM_TABLE_COUNT; i++) {
		names_begin(out, &first, "cluster", mg_system_table_name(i));
		const char *column;

		for (size_t c = 0; (column = mg_system_table_column(i, c)) != NULL; c++) {
			mg_sb_add(out, c ? "," : "");
			mg_sb_add_json(out, column, strlen(column));
		}
		mg_sb_add(out, "]}");
	}
	mg_sb_add_char(out, ']');
	add_texts(out, "functions", functions, sizeof functions / sizeof functions[0]);
	mg_sb_add_char(out, '}');
}

/* ---- binary heads ---- */

static void put_le(uint8_t *at, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		at[i] = (uint8_t)(value >> (8 * i));
	}
}

void mg_control_head(uint8_t head[MG_CLIENT_HEAD_SIZE], uint8_t kind, uint32_t id, uint64_t rows)
{
	put_le(head, kind, 4);
	put_le(head + 4, id, 4);
	put_le(head + 8, rows, 8);
}
