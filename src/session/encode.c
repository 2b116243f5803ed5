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
#include "os/file.h"
#include "os/scratch.h"
#include "store/copy_writer.h"

#include <stdatomic.h>
#include <string.h>

enum { BLOCK_SIZE = 64 << 10, PARQUET_BLOCK = 128 << 10 };

struct mg_encoder {
	struct mg_encode_options options;
	struct mg_sb text;  /* block that fills */
	struct mg_sb value; /* scratch of CSV */
	struct mg_arrow_view *view;
	struct mg_arrow_encoder *arrow;
	struct mg_copy_writer *parquet;
	struct mg_scratch *scratch; /* Parquet's file; counted in parquet_open */
	uint64_t scratch_max;
	char **names; /* NDJSON: as JSON texts with colon; heap */
	size_t column_count;
	uint64_t rows;
	bool begun;
};

const char *mg_format_content_type(enum mg_format format)
{
	static const char *const types[] = { "application/json", "application/x-ndjson",
		                                 "text/csv; charset=utf-8; header=present",
		                                 "application/vnd.apache.arrow.stream",
		                                 "application/vnd.apache.parquet" };

	return types[format];
}

struct mg_encoder *mg_encoder_new(const struct mg_encode_options *options)
{
	struct mg_encoder *encoder = mg_alloc0(sizeof *encoder);

	encoder->options = *options;
	return encoder;
}

/* ---- Parquet ---- */

static atomic_int parquet_open;

static void parquet_drop(struct mg_encoder *encoder)
{
	(void)mg_copy_writer_close(encoder->parquet, false, NULL);
	encoder->parquet = NULL;
	if (encoder->scratch) {
		mg_scratch_close(encoder->scratch);
		encoder->scratch = NULL;
		atomic_fetch_sub(&parquet_open, 1);
	}
}

static int scratch_open(struct mg_encoder *encoder, struct mg_error *err)
{
	const char *dir = encoder->options.spill_dir;
	uint64_t free_bytes = 0;
	int code = 0;

	if (atomic_fetch_add(&parquet_open, 1) >= MG_PARQUET_ANSWERS_MAX) {
		code = mg_error_set(err, MG_E_LIMIT, "%d answers are being written as Parquet already",
		                    MG_PARQUET_ANSWERS_MAX);
		mg_error_hint(err, "Try again, or ask for application/vnd.apache.arrow.stream.");
	}
	encoder->scratch_max = encoder->options.spill_bytes_max;
	if (!code && encoder->scratch_max == 0) {
		code = mg_disk_free(dir, &free_bytes, err);
		encoder->scratch_max = free_bytes / 2;
	}
	if (!code) {
		code = mg_scratch_open(&encoder->scratch, dir, err);
	}
	if (code) {
		atomic_fetch_sub(&parquet_open, 1);
	}
	return code;
}

static int parquet_head(struct mg_encoder *encoder, const struct ArrowSchema *schema, size_t count,
                        const char *const *names, const char *const *types, struct mg_error *err)
{
	int code = scratch_open(encoder, err);

	if (code) {
		return code;
	}
	return mg_copy_writer_open(
		&encoder->parquet,
		&(struct mg_copy_writer_options){ .how = MG_COPY_PARQUET,
	                                      .fd = mg_scratch_fd(encoder->scratch),
	                                      .schema = schema,
	                                      .count = count,
	                                      .names = names,
	                                      .types = types },
		err);
}

static int parquet_check(const struct mg_encoder *encoder, struct mg_error *err)
{
	if (mg_file_fd_size(mg_scratch_fd(encoder->scratch)) <= encoder->scratch_max) {
		return 0;
	}
	mg_error_set(err, MG_E_DISK_FULL, "the answer as Parquet is larger than %llu bytes",
	             (unsigned long long)encoder->scratch_max);
	mg_error_hint(err, "Ask for application/vnd.apache.arrow.stream, which needs no room on the "
	                   "server, or for fewer rows.");
	return err ? err->code : MG_E_DISK_FULL;
}

static int parquet_batch(struct mg_encoder *encoder, struct ArrowArray *batch,
                         struct mg_error *err)
{
	struct ArrowArray taken;
	int code = parquet_check(encoder, err);

	if (code) {
		return code;
	}
	ArrowArrayMove(batch, &taken);
	return mg_copy_writer_put(encoder->parquet, &taken, err);
}

static int parquet_tail(struct mg_encoder *encoder, struct mg_error *err)
{
	if (!encoder->begun) {
		return mg_error_set(err, MG_E_UNSUPPORTED, "an answer without columns is no Parquet file");
	}
	struct mg_copy_writer *parquet = encoder->parquet;

	encoder->parquet = NULL;
	int code = mg_copy_writer_close(parquet, true, err);

	if (!code) {
		code = parquet_check(encoder, err);
	}
	uint64_t size = mg_file_fd_size(mg_scratch_fd(encoder->scratch));

	for (uint64_t at = 0; !code && at < size;) {
		size_t part = size - at < PARQUET_BLOCK ? (size_t)(size - at) : PARQUET_BLOCK;
		struct mg_buf *buf = mg_buf_new(part);

		if (!buf) {
			return mg_error_set(err, MG_E_NOMEM, "not enough memory for a block of the answer");
		}
		code = mg_scratch_read(encoder->scratch, at, buf->data, part, err);
		if (code) {
			mg_buf_unref(buf);
			return code;
		}
		buf->size = part;
		code = encoder->options.emit(encoder->options.arg, buf, err);
		at += part;
	}
	return code;
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
	parquet_drop(encoder);
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

	if (!encoder->options.members) {
		mg_sb_add(sb, pretty ? "{\n    \"result\": {\n        " : "{\"result\": {");
	}
	mg_sb_add(sb, "\"columns\": ");
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
	if (encoder->options.format == MG_FORMAT_PARQUET) {
		return parquet_head(encoder, schema, count, names, types, err);
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

	if (encoder->options.format == MG_FORMAT_PARQUET) {
		return parquet_batch(encoder, batch, err);
	}
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
	if (encoder->options.members) {
		return;
	}
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
	case MG_FORMAT_PARQUET:
		return parquet_tail(encoder, err);
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

static enum mg_retry retry_of(const struct mg_error *err)
{
	/* A conflict with another writer: nothing is done. */
	return strcmp(err->sqlstate, "40001") == 0 ? MG_RETRY_SAFE : mg_code_info(err->code)->retry;
}

/* Without the brace that closes it. */
static void add_error(struct mg_sb *out, const struct mg_error *err, enum mg_retry retry)
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
	mg_sb_addf(out, ",\"shard\":%u,\"retry\":\"%s\"", err->shard, retries[retry]);
}

void mg_error_json(struct mg_sb *out, const struct mg_error *err)
{
	add_error(out, err, retry_of(err));
	mg_sb_add_char(out, '}');
}

void mg_error_json_of(struct mg_sb *out, const struct mg_error *err, size_t index, size_t done)
{
	enum mg_retry retry = retry_of(err);

	add_error(out, err, done > 0 && retry == MG_RETRY_SAFE ? MG_RETRY_NEVER : retry);
	mg_sb_addf(out, ",\"index\":%zu}", index);
}
