/*
 * encode.c - see encode.h.
 *
 * JSON is the document of docs/http.md,
 * {"result":{"columns":[],"types":[],"values":[[]]},"took":ms}; values come last in it, so that
 * rows can leave before all are known.  With pretty each row has its own line.
 *
 * Limits: a block is BLOCK_SIZE and one row at most.
 */
#include "session/encode.h"

#include "codec/arrow_ipc.h"
#include "codec/arrow_text.h"

#include <string.h>

enum { BLOCK_SIZE = 64 << 10 };

struct mg_encoder {
	struct mg_encode_options options;
	struct mg_sb text;  /* block that fills */
	struct mg_sb value; /* scratch of CSV */
	struct mg_arrow_view *view;
	struct mg_arrow_encoder *arrow;
	char **names; /* NDJSON: as JSON texts with colon; heap */
	size_t column_count;
	uint64_t rows;
	bool begun;
};

const char *mg_format_content_type(enum mg_format format)
{
	static const char *const types[] = { "application/json", "application/x-ndjson",
		                                 "text/csv; charset=utf-8; header=present",
		                                 "application/vnd.apache.arrow.stream" };

	return types[format];
}

struct mg_encoder *mg_encoder_new(const struct mg_encode_options *options)
{
	struct mg_encoder *encoder = mg_alloc0(sizeof *encoder);

	encoder->options = *options;
	return encoder;
}

void mg_encoder_free(struct mg_encoder *encoder)
{
	if (!encoder) {
		return;
	}
	for (size_t i = 0; i < encoder->column_count; i++) {
		mg_free(encoder->names[i]);
	}
	mg_free(encoder->names);
	mg_arrow_view_free(encoder->view);
	mg_arrow_encoder_free(encoder->arrow);
	mg_sb_fini(&encoder->text);
	mg_sb_fini(&encoder->value);
	mg_free(encoder);
}

static int flush(struct mg_encoder *encoder, struct mg_error *err)
{
	size_t size = encoder->text.len;

	if (size == 0) {
		return 0;
	}
	char *text = mg_sb_take(&encoder->text);

	return encoder->options.emit(encoder->options.arg, mg_buf_wrap(text, size, mg_free, text), err);
}

/* ---- heads ---- */

static void add_json_list(struct mg_sb *sb, const char *const *texts, size_t count)
{
	mg_sb_add_char(sb, '[');
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(sb, i ? ", " : "");
		mg_sb_add_json(sb, texts[i], strlen(texts[i]));
	}
	mg_sb_add_char(sb, ']');
}

static void json_head(struct mg_encoder *encoder, size_t count, const char *const *names,
                      const char *const *types)
{
	bool pretty = encoder->options.pretty;
	struct mg_sb *sb = &encoder->text;

	mg_sb_add(sb, pretty ? "{\n    \"result\": {\n        \"columns\": "
	                     : "{\"result\": {\"columns\": ");
	add_json_list(sb, names, count);
	mg_sb_add(sb, pretty ? ",\n        \"types\": " : ", \"types\": ");
	add_json_list(sb, types, count);
	mg_sb_add(sb, pretty ? ",\n        \"values\": [" : ", \"values\": [");
}

static void ndjson_head(struct mg_encoder *encoder, size_t count, const char *const *names)
{
	encoder->names = mg_alloc0((count + 1) * sizeof *encoder->names);
	for (size_t i = 0; i < count; i++) {
		struct mg_sb name = { 0 };

		mg_sb_add(&name, i ? ", " : "{");
		mg_sb_add_json(&name, names[i], strlen(names[i]));
		mg_sb_add(&name, ": ");
		encoder->names[i] = mg_sb_take(&name);
	}
	encoder->column_count = count;
}

static void csv_head(struct mg_encoder *encoder, size_t count, const char *const *names)
{
	for (size_t i = 0; i < count; i++) {
		mg_sb_add(&encoder->text, i ? "," : "");
		mg_csv_add(&encoder->text, names[i], strlen(names[i]));
	}
	mg_sb_add_char(&encoder->text, '\n');
}

static int arrow_head(struct mg_encoder *encoder, const struct ArrowSchema *schema,
                      struct mg_error *err)
{
	struct mg_buf *buf = NULL;
	int code = mg_arrow_encoder_new(&encoder->arrow, schema, false, err);

	if (!code) {
		code = mg_arrow_encode_schema(encoder->arrow, &buf, err);
	}
	return code ? code : encoder->options.emit(encoder->options.arg, buf, err);
}

int mg_encoder_begin(struct mg_encoder *encoder, const struct ArrowSchema *schema, size_t count,
                     const char *const *names, const char *const *types, struct mg_error *err)
{
	encoder->begun = true;
	if (encoder->options.format == MG_FORMAT_ARROW) {
		return arrow_head(encoder, schema, err);
	}
	if (mg_arrow_view_new(&encoder->view, schema)) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "a column's type cannot be written as text");
	}
	switch (encoder->options.format) {
	case MG_FORMAT_JSON:
		json_head(encoder, count, names, types);
		break;
	case MG_FORMAT_NDJSON:
		ndjson_head(encoder, count, names);
		break;
	default:
		csv_head(encoder, count, names);
		break;
	}
	return 0;
}

/* ---- rows ---- */

/* DuckDB quotes what holds a comma, a quote, an end of line or a #, and the empty text, which would
 * be NULL. */
void mg_csv_add(struct mg_sb *out, const char *text, size_t len)
{
	bool quote = len == 0;

	for (size_t i = 0; i < len && !quote; i++) {
		quote = text[i] == ',' || text[i] == '"' || text[i] == '\n' || text[i] == '\r' ||
		        text[i] == '#';
	}
	if (!quote) {
		mg_sb_add_len(out, text, len);
		return;
	}
	mg_sb_add_char(out, '"');
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"') {
			mg_sb_add_char(out, '"');
		}
		mg_sb_add_char(out, text[i]);
	}
	mg_sb_add_char(out, '"');
}

static void json_row(struct mg_encoder *encoder, int64_t row)
{
	struct mg_sb *sb = &encoder->text;

	mg_sb_add(sb, encoder->rows ? "," : "");
	mg_sb_add(sb, encoder->options.pretty ? "\n            [" : encoder->rows ? " [" : "[");
	for (size_t i = 0; i < mg_arrow_view_columns(encoder->view); i++) {
		mg_sb_add(sb, i ? ", " : "");
		mg_arrow_view_json(encoder->view, i, row, sb);
	}
	mg_sb_add_char(sb, ']');
}

static void ndjson_row(struct mg_encoder *encoder, int64_t row)
{
	for (size_t i = 0; i < encoder->column_count; i++) {
		mg_sb_add(&encoder->text, encoder->names[i]);
		mg_arrow_view_json(encoder->view, i, row, &encoder->text);
	}
	mg_sb_add(&encoder->text, encoder->column_count ? "}\n" : "{}\n");
}

static void csv_row(struct mg_encoder *encoder, int64_t row)
{
	for (size_t i = 0; i < mg_arrow_view_columns(encoder->view); i++) {
		mg_sb_add(&encoder->text, i ? "," : "");
		if (mg_arrow_view_is_null(encoder->view, i, row)) {
			continue;
		}
		mg_sb_clear(&encoder->value);
		mg_arrow_view_text(encoder->view, i, row, &encoder->value);
		mg_csv_add(&encoder->text, mg_sb_text(&encoder->value), encoder->value.len);
	}
	mg_sb_add_char(&encoder->text, '\n');
}

static int text_batch(struct mg_encoder *encoder, const struct ArrowArray *batch,
                      struct mg_error *err)
{
	if (mg_arrow_view_set(encoder->view, batch)) {
		return mg_error_set(err, MG_E_INTERNAL, "a batch does not fit its schema");
	}
	for (int64_t row = 0; row < mg_arrow_view_rows(encoder->view); row++) {
		if (encoder->options.format == MG_FORMAT_JSON) {
			json_row(encoder, row);
		} else if (encoder->options.format == MG_FORMAT_NDJSON) {
			ndjson_row(encoder, row);
		} else {
			csv_row(encoder, row);
		}
		encoder->rows++;
		int code = encoder->text.len >= BLOCK_SIZE ? flush(encoder, err) : 0;

		if (code) {
			return code;
		}
	}
	return 0;
}

int mg_encoder_batch(struct mg_encoder *encoder, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_buf *buf = NULL;
	uint64_t raw_bytes = 0;

	if (encoder->options.format != MG_FORMAT_ARROW) {
		return text_batch(encoder, batch, err);
	}
	int code = mg_arrow_encode_batch(encoder->arrow, batch, &buf, &raw_bytes, err);

	return code ? code : encoder->options.emit(encoder->options.arg, buf, err);
}

/* ---- the end ---- */

static void json_tail(struct mg_encoder *encoder, double took_ms)
{
	bool pretty = encoder->options.pretty;

	if (!encoder->begun) {
		json_head(encoder, 0, NULL, NULL);
	}
	mg_sb_add(&encoder->text, pretty && encoder->rows ? "\n        ]" : "]");
	mg_sb_add(&encoder->text, pretty ? "\n    },\n    \"took\": " : "}, \"took\": ");
	mg_sb_addf(&encoder->text, pretty ? "%.3f\n}\n" : "%.3f}\n", took_ms);
}

int mg_encoder_end(struct mg_encoder *encoder, double took_ms, struct mg_error *err)
{
	struct mg_buf *end;

	switch (encoder->options.format) {
	case MG_FORMAT_JSON:
		json_tail(encoder, took_ms);
		break;
	case MG_FORMAT_ARROW:
		end = mg_buf_copy(mg_arrow_end, sizeof mg_arrow_end);
		if (!end) {
			return mg_error_set(err, MG_E_NOMEM, "not enough memory for the end of the answer");
		}
		return encoder->options.emit(encoder->options.arg, end, err);
	default:
		break;
	}
	return flush(encoder, err);
}

/* ---- errors ---- */

static void add_member(struct mg_sb *out, const char *name, const char *text)
{
	mg_sb_addf(out, ",\"%s\":", name);
	mg_sb_add_json(out, text, strlen(text));
}

void mg_error_json(struct mg_sb *out, const struct mg_error *err)
{
	static const char *const origins[] = { "", "parser", "planner", "node", "merge" };
	static const char *const retries[] = { "never", "safe", "maybe" };
	const struct mg_code_info *info = mg_code_info(err->code);

	mg_sb_addf(out, "{\"code\":\"%s\",\"sqlstate\":\"%s\"", info->name,
	           err->sqlstate[0] ? err->sqlstate : info->sqlstate);
	add_member(out, "message", err->message);
	add_member(out, "detail", err->detail);
	add_member(out, "hint", err->hint);
	add_member(out, "origin", err->origin <= MG_ORIGIN_MERGE ? origins[err->origin] : "");
	add_member(out, "node", err->node);
	mg_sb_addf(out, ",\"shard\":%u,\"retry\":\"%s\"}", err->shard, retries[info->retry]);
}
