/* copy_out.c - see copy_out.h. */
#include "session/copy_out.h"

#include "base/log.h"
#include "exec/write.h"
#include "os/granted.h"
#include "session/encode.h"
#include "store/copy_writer.h"

#include <stdatomic.h>
#include <stdio.h>

enum { ARROW_BATCH_ROWS = 16384 };

static atomic_int copies; /* that are being written */

/* ---- where bytes go ---- */

static int no_memory(struct mg_error *err)
{
	return mg_error_set(err, MG_E_NOMEM, "not enough memory for rows of COPY");
}

static int build(struct ArrowArray *array, const struct ArrowSchema *schema, struct mg_str bytes)
{
	const struct ArrowBufferView view = { .data.data = bytes.ptr,
		                                  .size_bytes = (int64_t)bytes.len };

	return ArrowArrayInitFromSchema(array, schema, NULL) || ArrowArrayStartAppending(array) ||
	       ArrowArrayAppendBytes(array->children[0], view) || ArrowArrayFinishElement(array) ||
	       ArrowArrayFinishBuildingDefault(array, NULL);
}

static int to_client(struct mg_copy_out *copy, struct mg_str bytes, struct mg_error *err)
{
	struct ArrowArray array = { 0 };
	int code = build(&array, &copy->schema, bytes)
	               ? no_memory(err)
	               : copy->client->batch(copy->client->arg, &array, err);

	if (array.release) {
		ArrowArrayRelease(&array);
	}
	return code;
}

static int emit(void *arg, struct mg_buf *buf, struct mg_error *err)
{
	struct mg_copy_out *copy = arg;
	int code = 0;

	for (size_t at = 0; !code && at < buf->size;) {
		size_t left = buf->size - at;
		size_t size = left < MG_COPY_WRITER_PIECE_BYTES ? left : MG_COPY_WRITER_PIECE_BYTES;
		struct mg_str piece = { (const char *)buf->data + at, size };

		code = copy->file ? mg_granted_write(copy->file, piece.ptr, piece.len, err)
		                  : to_client(copy, piece, err);
		at += size;
	}
	mg_buf_unref(buf);
	return code;
}

struct mg_str mg_copy_out_bytes(const struct ArrowArray *batch)
{
	const struct ArrowArray *column = batch->children[0];
	const int32_t *ends = (const int32_t *)column->buffers[1] + column->offset;
	const char *data = column->buffers[2];

	return (struct mg_str){ data + ends[0], (size_t)(ends[column->length] - ends[0]) };
}

/* ---- the query's sink ---- */

static const char *media_type(const struct mg_copy_to *to)
{
	if (mg_text_eq(to->format, "csv")) {
		return to->header ? mg_format_content_type(MG_FORMAT_CSV)
		                  : "text/csv; charset=utf-8; header=absent";
	}
	if (mg_text_eq(to->format, "json")) {
		return mg_format_content_type(to->array ? MG_FORMAT_JSON : MG_FORMAT_NDJSON);
	}
	return mg_format_content_type(mg_text_eq(to->format, "arrow") ? MG_FORMAT_ARROW
	                                                              : MG_FORMAT_PARQUET);
}

static int begin_client(struct mg_copy_out *copy, const struct mg_answer *answer,
                        struct mg_error *err)
{
	static const char *const names[] = { "copy" };
	static const char *const types[] = { "BLOB" };
	struct mg_answer own = *answer;
	bool to_file = copy->file != NULL;

	own.schema = to_file ? NULL : &copy->schema;
	own.count = to_file ? 0 : 1;
	own.names = names;
	own.types = types;
	own.media_type = to_file ? NULL : media_type(&copy->to);
	return copy->client->begin(copy->client->arg, &own, err);
}

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct mg_copy_out *copy = arg;
	bool arrow = mg_text_eq(copy->to.format, "arrow");
	int code = begin_client(copy, answer, err);

	if (!code && arrow) {
		copy->arrow = mg_encoder_new(
			&(struct mg_encode_options){ .format = MG_FORMAT_ARROW, .emit = emit, .arg = copy });
		return mg_encoder_begin(copy->arrow, answer->schema, answer->count, answer->names,
		                        answer->types, err);
	}
	return code ? code
	            : mg_copy_writer_open(&copy->writer,
	                                  &(struct mg_copy_writer_options){
										  .how = copy->to.how,
										  .fd = copy->file ? mg_granted_fd(copy->file) : -1,
										  .emit = copy->file ? NULL : emit,
										  .arg = copy,
										  .schema = answer->schema,
										  .count = answer->count,
										  .names = answer->names,
										  .types = answer->types },
	                                  err);
}

static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct mg_copy_out *copy = arg;
	struct ArrowArray taken;

	if (copy->arrow) {
		return mg_encoder_batch(copy->arrow, batch, err);
	}
	ArrowArrayMove(batch, &taken);
	return mg_copy_writer_put(copy->writer, &taken, err);
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct mg_copy_out *copy = arg;
	struct mg_copy_writer *writer = copy->writer;
	struct mg_answer own = *answer;
	int code = copy->arrow ? mg_encoder_end(copy->arrow, 0, err) : 0;

	copy->writer = NULL;
	if (!code && writer) {
		code = mg_copy_writer_close(writer, true, err);
	}
	if (!code && copy->file) {
		code = mg_granted_keep(copy->file, err);
	}
	if (code) {
		return code;
	}
	if (copy->file) {
		mg_log(MG_LOG_INFO, "copy.written", "path=\"%s\" rows=%llu query=%s", copy->to.path,
		       (unsigned long long)answer->stats->rows, answer->query_id);
	}
	(void)snprintf(own.tag, sizeof own.tag, "COPY %llu", (unsigned long long)answer->stats->rows);
	return copy->client->end(copy->client->arg, &own, err);
}

static void sink_notice(void *arg, const char *text)
{
	struct mg_copy_out *copy = arg;

	if (copy->client->notice) {
		copy->client->notice(copy->client->arg, text);
	}
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct mg_copy_out *copy = arg;

	if (copy->client->query) {
		copy->client->query(copy->client->arg, query);
	}
}

static void sink_stop(void *arg)
{
	struct mg_copy_out *copy = arg;

	if (copy->client->stop) {
		copy->client->stop(copy->client->arg);
	}
}

/* ---- life ---- */

static int open_path(struct mg_copy_out *copy, struct mg_error *err)
{
	const char *dirs = mg_write_copy_paths(copy->engine, true);

	if (!dirs || !*dirs) {
		mg_error_set(err, MG_E_DENIED, "COPY writes no file of the server");
		mg_error_hint(err, "Take the rows: COPY ... TO STDOUT, or \\copy in the shell; or start "
		                   "the server with --copy-path-write DIR.");
		return MG_E_DENIED;
	}
	return mg_granted_create(dirs, copy->to.path, &copy->file, err);
}

static int open_schema(struct mg_copy_out *copy, struct mg_error *err)
{
	ArrowSchemaInit(&copy->schema);
	return ArrowSchemaSetTypeStruct(&copy->schema, 1) ||
	               ArrowSchemaSetType(copy->schema.children[0], NANOARROW_TYPE_BINARY) ||
	               ArrowSchemaSetName(copy->schema.children[0], "copy")
	           ? no_memory(err)
	           : 0;
}

int mg_copy_out_init(struct mg_copy_out *copy, struct mg_arena *arena, struct mg_str statement,
                     struct mg_engine *engine, struct mg_sink *client, struct mg_error *err)
{
	*copy = (struct mg_copy_out){ .client = client, .engine = engine };
	int code = mg_copy_to_parse(arena, statement, &copy->to, err);

	if (code) {
		return code;
	}
	bool arrow = mg_text_eq(copy->to.format, "arrow");

	copy->sink = (struct mg_sink){
		.begin = sink_begin,
		.batch = sink_batch,
		.end = sink_end,
		.notice = sink_notice,
		.query = sink_query,
		.stop = sink_stop,
		.arg = copy,
		.lossless = !arrow,
		.batch_rows = arrow ? ARROW_BATCH_ROWS : 0,
	};
	copy->counted = true;
	if (atomic_fetch_add(&copies, 1) >= MG_COPIES_OUT_MAX) {
		code = mg_error_set(err, MG_E_BUSY, "%d COPY ... TO run on this server already",
		                    MG_COPIES_OUT_MAX);
		mg_error_hint(err, "Try again when one has ended, or at another server.");
		return code;
	}
	return copy->to.path ? open_path(copy, err) : open_schema(copy, err);
}

void mg_copy_out_fini(struct mg_copy_out *copy)
{
	(void)mg_copy_writer_close(copy->writer, false, NULL);
	mg_encoder_free(copy->arrow);
	mg_granted_drop(copy->file);
	if (copy->schema.release) {
		ArrowSchemaRelease(&copy->schema);
	}
	if (copy->counted) {
		atomic_fetch_sub(&copies, 1);
	}
	*copy = (struct mg_copy_out){ 0 };
}
