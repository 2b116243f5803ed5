/*
 * render.c - the formats that stream, and the common part of all.
 *
 * Rule: every statement gives exactly one table, and in the format json one line: statements
 * without rows print [].
 */
#include "cli/render.h"

#include "base/assert.h"
#include "cli/render_int.h"
#include "cli/width.h"
#include "os/file.h"
#include "os/tty.h"
#include "session/copy_out.h"
#include "store/copy_writer.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define PENDING_MAX (1u << 20)

static const char *const format_names[] = {
	[MG_FORMAT_BOX] = "box", [MG_FORMAT_CSV] = "csv", [MG_FORMAT_JSON] = "json",
	[MG_FORMAT_JSONL] = "jsonl", [MG_FORMAT_MARKDOWN] = "markdown", [MG_FORMAT_LINE] = "line",
	[MG_FORMAT_ARROW] = "arrow", [MG_FORMAT_PARQUET] = "parquet",
};

const char *mg_format_name(enum mg_format format)
{
	return format_names[format];
}

bool mg_format_parse(const char *text, enum mg_format *out)
{
	/* Names of DuckDB's .mode for the same things. */
	static const struct { const char *name; enum mg_format format; } others[] = {
		{ "duckbox", MG_FORMAT_BOX }, { "table", MG_FORMAT_BOX }, { "jsonlines", MG_FORMAT_JSONL },
		{ "ndjson", MG_FORMAT_JSONL }, { "md", MG_FORMAT_MARKDOWN }, { "lines", MG_FORMAT_LINE },
	};

	for (int i = 0; i < MG_FORMAT_COUNT; i++) {
		if (mg_text_eq_nocase(text, format_names[i])) {
			*out = (enum mg_format)i;
			return true;
		}
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		if (mg_text_eq_nocase(text, others[i].name)) {
			*out = others[i].format;
			return true;
		}
	}
	return false;
}

/* ---- types ----------------------------------------------------------------------------------- */

/* Length of a quoted name that needs no quotes, which only make headings longer; else 0. */
static size_t plain_name(const char *text)
{
	size_t len = 0;

	while (isalnum((unsigned char)text[len]) || text[len] == '_') {
		len++;
	}
	return len && text[len] == '"' && !isdigit((unsigned char)*text) ? len : 0;
}

void mg_type_short(const char *type, struct mg_sb *out)
{
	static const char *const pairs[][2] = {
		{ "TINYINT", "int8" }, { "SMALLINT", "int16" }, { "INTEGER", "int32" },
		{ "BIGINT", "int64" }, { "HUGEINT", "int128" }, { "UTINYINT", "uint8" },
		{ "USMALLINT", "uint16" }, { "UINTEGER", "uint32" }, { "UBIGINT", "uint64" },
		{ "UHUGEINT", "uint128" },
	};
	size_t len = strlen(type), base = len;

	while (base >= 2 && type[base - 2] == '[' && type[base - 1] == ']') {
		base -= 2;
	}
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		if (strlen(pairs[i][0]) == base && strncasecmp(type, pairs[i][0], base) == 0) {
			mg_sb_addf(out, "%s%s", pairs[i][1], type + base);
			return;
		}
	}
	for (size_t i = 0; i < len; i++) {
		size_t plain = type[i] == '"' ? plain_name(type + i + 1) : 0;

		if (plain) {
			mg_sb_add_len(out, type + i + 1, plain);
			i += plain + 1;
		} else {
			mg_sb_add_char(out, (char)tolower((unsigned char)type[i]));
		}
	}
}

/* ---- writing --------------------------------------------------------------------------------- */

static int flush(struct mg_render *render, struct mg_error *err)
{
	size_t len = render->pending.len;
	size_t written = len ? fwrite(render->pending.ptr, 1, len, render->options.out) : 0;

	mg_sb_clear(&render->pending);
	if (written < len) {
		render->pipe_broken = errno == EPIPE;
		return mg_error_errno(err, errno, "cannot write the result");
	}
	return 0;
}

int mg_render_new(struct mg_render **out, const struct mg_render_options *options,
                  struct mg_error *err)
{
	struct mg_render *render;

	*out = NULL;
	if (options->format == MG_FORMAT_PARQUET && mg_tty_is(fileno(options->out))) {
		mg_error_set(err, MG_E_USAGE, "Parquet is not written to a terminal");
		mg_error_hint(err, "Name a file with -o FILE, or .output FILE in the shell.");
		return MG_E_USAGE;
	}
	render = mg_alloc0(sizeof *render);
	render->options = *options;
	*out = render;
	return 0;
}

static void statement_over(struct mg_render *render)
{
	mg_box_free(render->box);
	mg_arrow_encoder_free(render->encoder);
	(void)mg_copy_writer_close(render->parquet, false, NULL);
	mg_arrow_view_free(render->view);
	mg_arena_free(render->arena);
	render->box = NULL;
	render->encoder = NULL;
	render->parquet = NULL;
	render->view = NULL;
	render->arena = NULL;
}

void mg_render_free(struct mg_render *render)
{
	if (render) {
		statement_over(render);
		mg_sb_fini(&render->pending);
		mg_sb_fini(&render->value);
		mg_free(render);
	}
}

void mg_render_abort(struct mg_render *render)
{
	mg_sb_clear(&render->pending);
	statement_over(render);
}

bool mg_render_pipe_broken(const struct mg_render *render)
{
	return render->pipe_broken;
}

/* ---- begin ----------------------------------------------------------------------------------- */

static bool name_is_taken(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i], name) == 0) {
			return true;
		}
	}
	return false;
}

/* JSON objects need names that differ: the second "a" becomes "a_1". */
static const char *const *unique_names(struct mg_arena *arena, const char *const *names,
                                       size_t count)
{
	const char **out = mg_arena_new_array(arena, const char *, count + 1);

	for (size_t i = 0; i < count; i++) {
		const char *name = names[i];

		for (unsigned n = 1; name_is_taken(out, i, name); n++) {
			name = mg_arena_format(arena, "%s_%u", names[i], n);
		}
		out[i] = mg_arena_strdup(arena, name);
	}
	return out;
}

static void add_csv(struct mg_sb *out, const char *text, size_t len)
{
	bool quote = len == 0;

	for (size_t i = 0; i < len && !quote; i++) {
		quote = strchr(",\"\r\n", text[i]) != NULL;
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

static void add_markdown(struct mg_sb *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n') {
			mg_sb_add(out, "<br>");
		} else {
			if (text[i] == '|' || text[i] == '\\') {
				mg_sb_add_char(out, '\\');
			}
			mg_sb_add_char(out, text[i]);
		}
	}
}

static void begin_csv(struct mg_render *render, const struct mg_render_table *table)
{
	if (render->options.no_header) {
		return;
	}
	for (size_t i = 0; i < table->count; i++) {
		mg_sb_add(&render->pending, i ? "," : "");
		add_csv(&render->pending, table->names[i], strlen(table->names[i]));
	}
	mg_sb_add(&render->pending, "\n");
}

static void begin_markdown(struct mg_render *render, const struct mg_render_table *table)
{
	mg_sb_add(&render->pending, "|");
	for (size_t i = 0; i < table->count; i++) {
		mg_sb_add(&render->pending, " ");
		add_markdown(&render->pending, table->names[i], strlen(table->names[i]));
		mg_sb_add(&render->pending, " |");
	}
	mg_sb_add(&render->pending, "\n|");
	for (size_t i = 0; i < table->count; i++) {
		mg_sb_add(&render->pending,
		          mg_arrow_view_is_numeric(render->view, i) ? " --: |" : " --- |");
	}
	mg_sb_add(&render->pending, "\n");
}

static int begin_arrow(struct mg_render *render, const struct mg_render_table *table,
                       struct mg_error *err)
{
	struct mg_buf *bytes = NULL;
	int code = mg_arrow_encoder_new(&render->encoder, table->schema, false, err);

	if (code == 0) {
		code = mg_arrow_encode_schema(render->encoder, &bytes, err);
	}
	if (code == 0) {
		mg_sb_add_len(&render->pending, (const char *)bytes->data, bytes->size);
		mg_buf_unref(bytes);
	}
	return code;
}

/* The names are given as they are: DuckDB makes them differ, as in its own COPY. */
static int begin_parquet(struct mg_render *render, const struct mg_render_table *table,
                         struct mg_error *err)
{
	int fd = fileno(render->options.out);

	if (mg_file_fd_size(fd) > 0 ||
	    (render->options.holds_result && *render->options.holds_result)) {
		mg_error_set(err, MG_E_USAGE, "the file holds a result already: Parquet has one a file");
		mg_error_hint(err, "Name another file, with -o FILE or .output FILE, for each statement.");
		return MG_E_USAGE;
	}
	return mg_copy_writer_open(&render->parquet,
	                           &(struct mg_copy_writer_options){ .how = MG_COPY_PARQUET,
	                                                             .fd = fd,
	                                                             .schema = table->schema,
	                                                             .count = table->count,
	                                                             .names = table->names,
	                                                             .types = table->types },
	                           err);
}

bool mg_render_is_bytes(const char *verb, size_t count)
{
	return verb && strcmp(verb, "COPY") == 0 && count == 1;
}

int mg_render_begin(struct mg_render *render, const struct mg_render_table *table,
                    struct mg_error *err)
{
	statement_over(render);
	render->rows = 0;
	render->count = table->count;
	render->plain_text = false;
	render->bytes = mg_render_is_bytes(table->verb, table->count);
	if (table->count == 0) {
		return 0;
	}
	render->arena = mg_arena_new();
	render->names = unique_names(render->arena, table->names, table->count);
	if (mg_arrow_view_new(&render->view, table->schema)) {
		return mg_error_set(err, MG_E_PROTOCOL, "the columns of the result cannot be read");
	}
	if (render->bytes) {
		return 0;
	}
	switch (render->options.format) {
	case MG_FORMAT_BOX:
		render->plain_text = table->verb && strcmp(table->verb, "EXPLAIN") == 0;
		if (!render->plain_text) {
			render->box = mg_box_new(&render->options, render->view, table);
		}
		break;
	case MG_FORMAT_CSV: begin_csv(render, table); break;
	case MG_FORMAT_JSON: mg_sb_add(&render->pending, "["); break;
	case MG_FORMAT_MARKDOWN: begin_markdown(render, table); break;
	case MG_FORMAT_LINE:
		render->name_width = 0;
		for (size_t i = 0; i < table->count; i++) {
			size_t width = mg_width(table->names[i], strlen(table->names[i]));

			render->name_width = width > render->name_width ? width : render->name_width;
		}
		break;
	case MG_FORMAT_ARROW: return begin_arrow(render, table, err);
	case MG_FORMAT_PARQUET: return begin_parquet(render, table, err);
	default: break;
	}
	return 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const struct mg_sb *value_text(struct mg_render *render, size_t column, int64_t row)
{
	mg_sb_clear(&render->value);
	mg_arrow_view_text(render->view, column, row, &render->value);
	return &render->value;
}

static void row_csv(struct mg_render *render, int64_t row)
{
	for (size_t i = 0; i < render->count; i++) {
		mg_sb_add(&render->pending, i ? "," : "");
		if (!mg_arrow_view_is_null(render->view, i, row)) {
			const struct mg_sb *text = value_text(render, i, row);

			add_csv(&render->pending, mg_sb_text(text), text->len);
		}
	}
	mg_sb_add(&render->pending, "\n");
}

static void row_json(struct mg_render *render, int64_t row)
{
	mg_sb_add_char(&render->pending, '{');
	for (size_t i = 0; i < render->count; i++) {
		mg_sb_add(&render->pending, i ? "," : "");
		mg_sb_add_json(&render->pending, render->names[i], strlen(render->names[i]));
		mg_sb_add_char(&render->pending, ':');
		mg_arrow_view_json(render->view, i, row, &render->pending);
	}
	mg_sb_add_char(&render->pending, '}');
}

static void row_markdown(struct mg_render *render, int64_t row)
{
	mg_sb_add(&render->pending, "|");
	for (size_t i = 0; i < render->count; i++) {
		mg_sb_add(&render->pending, " ");
		if (!mg_arrow_view_is_null(render->view, i, row)) {
			const struct mg_sb *text = value_text(render, i, row);

			add_markdown(&render->pending, mg_sb_text(text), text->len);
		}
		mg_sb_add(&render->pending, " |");
	}
	mg_sb_add(&render->pending, "\n");
}

static void row_line(struct mg_render *render, int64_t row)
{
	if (render->rows > 0) {
		mg_sb_add(&render->pending, "\n");
	}
	for (size_t i = 0; i < render->count; i++) {
		const char *name = render->names[i];

		for (size_t w = mg_width(name, strlen(name)); w < render->name_width; w++) {
			mg_sb_add_char(&render->pending, ' ');
		}
		mg_sb_addf(&render->pending, "%s = ", name);
		if (mg_arrow_view_is_null(render->view, i, row)) {
			mg_sb_add(&render->pending, "NULL");
		} else {
			const struct mg_sb *text = value_text(render, i, row);

			mg_sb_add_len(&render->pending, mg_sb_text(text), text->len);
		}
		mg_sb_add(&render->pending, "\n");
	}
}

/* EXPLAIN: the last column holds the text; a line end is added where it has none. */
static void row_plain(struct mg_render *render, int64_t row)
{
	const struct mg_sb *text = value_text(render, render->count - 1, row);

	mg_sb_add_len(&render->pending, mg_sb_text(text), text->len);
	if (text->len == 0 || text->ptr[text->len - 1] != '\n') {
		mg_sb_add_char(&render->pending, '\n');
	}
}

static int batch_arrow(struct mg_render *render, const struct ArrowArray *batch,
                       struct mg_error *err)
{
	struct mg_buf *bytes = NULL;
	uint64_t raw;
	int code = mg_arrow_encode_batch(render->encoder, batch, &bytes, &raw, err);

	if (code == 0) {
		mg_sb_add_len(&render->pending, (const char *)bytes->data, bytes->size);
		mg_buf_unref(bytes);
	}
	return code;
}

static void render_row(struct mg_render *render, int64_t row)
{
	switch (render->options.format) {
	case MG_FORMAT_BOX: row_plain(render, row); break;
	case MG_FORMAT_CSV: row_csv(render, row); break;
	case MG_FORMAT_JSON:
		mg_sb_add(&render->pending, render->rows ? "," : "");
		row_json(render, row);
		break;
	case MG_FORMAT_JSONL:
		row_json(render, row);
		mg_sb_add_char(&render->pending, '\n');
		break;
	case MG_FORMAT_MARKDOWN: row_markdown(render, row); break;
	case MG_FORMAT_LINE: row_line(render, row); break;
	default: break;
	}
	render->rows++;
}

static int batch_parquet(struct mg_render *render, struct ArrowArray *batch, struct mg_error *err)
{
	struct ArrowArray taken;

	render->rows += (uint64_t)batch->length;
	ArrowArrayMove(batch, &taken);
	return mg_copy_writer_put(render->parquet, &taken, err);
}

static int end_parquet(struct mg_render *render, struct mg_error *err)
{
	struct mg_copy_writer *parquet = render->parquet;

	render->parquet = NULL;
	if (parquet && render->options.holds_result) {
		*render->options.holds_result = true;
	}
	return mg_copy_writer_close(parquet, true, err);
}

int mg_render_batch(struct mg_render *render, struct ArrowArray *batch, struct mg_error *err)
{
	int64_t rows;
	int code = 0;

	mg_assert(render->view);
	if (render->bytes) {
		struct mg_str bytes = mg_copy_out_bytes(batch);

		mg_sb_add_len(&render->pending, bytes.ptr, bytes.len);
		return render->pending.len < PENDING_MAX ? 0 : flush(render, err);
	}
	if (render->options.format == MG_FORMAT_ARROW) {
		code = batch_arrow(render, batch, err);
		render->rows += (uint64_t)batch->length;
		return code || render->pending.len < PENDING_MAX ? code : flush(render, err);
	}
	if (render->options.format == MG_FORMAT_PARQUET) {
		return batch_parquet(render, batch, err);
	}
	if (mg_arrow_view_set(render->view, batch)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a batch of the result cannot be read");
	}
	rows = mg_arrow_view_rows(render->view);
	if (render->box) {
		mg_box_batch(render->box, render->view);
		render->rows += (uint64_t)rows;
		return 0;
	}
	for (int64_t row = 0; row < rows && code == 0; row++) {
		render_row(render, row);
		if (render->pending.len >= PENDING_MAX) {
			code = flush(render, err);
		}
	}
	return code;
}

static int end_format(struct mg_render *render, struct mg_error *err)
{
	switch (render->options.format) {
	case MG_FORMAT_BOX:
		if (render->box) {
			mg_box_draw(render->box, &render->pending);
		}
		break;
	case MG_FORMAT_JSON: mg_sb_add(&render->pending, render->count ? "]\n" : "[]\n"); break;
	case MG_FORMAT_ARROW:
		if (render->count) {
			mg_sb_add_len(&render->pending, (const char *)mg_arrow_end, sizeof mg_arrow_end);
		}
		break;
	case MG_FORMAT_PARQUET: return end_parquet(render, err);
	default: break;
	}
	return 0;
}

int mg_render_end(struct mg_render *render, struct mg_error *err)
{
	int code = render->bytes ? 0 : end_format(render, err);

	if (code) {
		return code;
	}
	code = flush(render, err);
	statement_over(render);
	if (code == 0 && fflush(render->options.out) != 0) {
		render->pipe_broken = errno == EPIPE;
		code = mg_error_errno(err, errno, "cannot write the result");
	}
	return code;
}

void mg_render_first_value(const struct ArrowSchema *schema, const struct ArrowArray *batch,
                           struct mg_sb *out)
{
	struct mg_arrow_view *view = NULL;

	if (schema && mg_arrow_view_new(&view, schema) == 0 && mg_arrow_view_set(view, batch) == 0 &&
	    mg_arrow_view_rows(view) > 0 && mg_arrow_view_columns(view) > 0 &&
	    !mg_arrow_view_is_null(view, 0, 0)) {
		mg_arrow_view_text(view, 0, 0, out);
	}
	mg_arrow_view_free(view);
}
