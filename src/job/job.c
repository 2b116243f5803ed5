/*
 * job.c - see job.h.
 *
 * A chunk goes to a process that is idle; when none is, another one is begun, and when there are
 * enough, the next one that answers gets it.  So a slow mapper slows the query down, and nothing
 * piles up but the chunk that waits.
 */
#include "job/job.h"

#include "base/json.h"
#include "codec/arrow_ipc.h"
#include "exec/engine.h"
#include "job/cell.h"
#include "os/clock.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { CELLS_MAX = 64, CHUNK_ROWS = 65536, CHUNK_ROWS_MAX = 1 << 22, LOOK_MS = 100 };
enum { PRINTED_KEPT = 64 << 10, JOB_MS = 3600 * 1000 };
#define JOB_TIME "1h"

struct work {
	struct mg_job *job;
	uint64_t until_ms; /* then it is stopped */
	struct mg_query *query; /* of the source, while it runs; or NULL */
	struct mg_sb load; /* what each process is asked first */
	struct mg_cell *cells[CELLS_MAX];
	size_t count, max;
	size_t chunk_rows;
	struct mg_arrow_encoder *encoder;
	struct mg_slot *slot;  /* of the statement */
	struct mg_buf *schema; /* as the first message of each chunk */
	char source[64 << 10];
};

/* ---- processes ---- */

static bool stopped(void *arg)
{
	const struct work *work = arg;

	return mg_clock_ms() >= work->until_ms || (work->query && mg_query_stopped(work->query)) ||
	       (work->job->stopped && work->job->stopped(work->job->arg));
}

static void note_printed(void *arg, struct mg_str text)
{
	struct mg_sb *printed = &((struct work *)arg)->job->printed;

	mg_sb_add_len(printed, text.ptr, text.len);
	if (printed->len > 2 * PRINTED_KEPT) {
		memmove(printed->ptr, printed->ptr + printed->len - PRINTED_KEPT, PRINTED_KEPT);
		printed->len = PRINTED_KEPT;
		printed->ptr[printed->len] = '\0';
	}
}

static int answer_of(struct work *work, struct mg_cell *cell, struct mg_buf **out,
                     struct mg_error *err)
{
	int code = mg_cell_answer(cell, out, err);

	if (code == MG_E_DATA && work->job->traceback.len == 0) {
		mg_sb_add(&work->job->traceback, mg_cell_traceback(cell));
	}
	return code;
}

static int begin_cell(struct work *work, struct mg_buf **settings, struct mg_error *err)
{
	const struct mg_cell_options options = {
		.nursery = work->job->nursery,
		.user = mg_session_user(work->job->session),
		.stopped = stopped,
		.arg = work,
		.printed = note_printed,
	};
	struct mg_cell *cell = NULL;
	const struct mg_str load = { work->load.ptr, work->load.len };
	int code = mg_cell_begin(&cell, &options, err);

	if (!code) {
		work->cells[work->count++] = cell;
		code = mg_cell_ask(cell, MG_CELL_LOAD, &load, 1, err);
	}
	return code ? code : answer_of(work, cell, settings, err);
}

static struct mg_cell *find_idle(const struct work *work)
{
	size_t i = 0;

	while (i < work->count && !mg_cell_is_idle(work->cells[i])) {
		i++;
	}
	return i < work->count ? work->cells[i] : NULL;
}

/* All are at work: until one has answered. */
static int await_idle(struct work *work, struct mg_cell **out, struct mg_error *err)
{
	struct pollfd fds[CELLS_MAX];

	for (;;) {
		for (size_t i = 0; i < work->count; i++) {
			fds[i] = (struct pollfd){ .fd = mg_cell_fd(work->cells[i]), .events = POLLIN };
		}
		if (stopped(work)) {
			return mg_error_set(err, MG_E_CANCELLED, "the job was cancelled");
		}
		int ready = poll(fds, work->count, LOOK_MS);

		for (size_t i = 0; ready > 0 && i < work->count; i++) {
			int code = fds[i].revents ? answer_of(work, work->cells[i], NULL, err) : 0;

			if (code) {
				return code;
			}
		}
		*out = find_idle(work);
		if (*out) {
			return 0;
		}
	}
}

static int idle_cell(struct work *work, struct mg_cell **out, struct mg_error *err)
{
	*out = find_idle(work);
	if (*out) {
		return 0;
	}
	if (work->count < work->max) {
		size_t before = work->count;
		int code = begin_cell(work, NULL, err);

		if (code != MG_E_BUSY) {
			*out = work->cells[work->count - 1];
			return code;
		}
		if (work->count > before) { /* the machine gave it no process */
			mg_cell_end(work->cells[--work->count]);
		}
		work->max = work->count; /* others have the rest */
		mg_error_clear(err);
	}
	return await_idle(work, out, err);
}

/* ---- the query's rows ---- */

static int sink_begin(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct work *work = arg;

	if (answer->count == 0) {
		return mg_error_set(err, MG_E_USAGE, "the job's source gives no columns: it is a SELECT");
	}
	int code = mg_arrow_encoder_new(&work->encoder, answer->schema, false, err);

	return code ? code : mg_arrow_encode_schema(work->encoder, &work->schema, err);
}

static int give_chunk(struct work *work, const struct mg_buf *buf, struct mg_error *err)
{
	const struct mg_str parts[] = {
		{ (const char *)work->schema->data, work->schema->size },
		{ (const char *)buf->data, buf->size },
		{ (const char *)mg_arrow_end, sizeof mg_arrow_end },
	};
	struct mg_cell *cell = NULL;
	int code = idle_cell(work, &cell, err);

	return code ? code : mg_cell_ask(cell, MG_CELL_CHUNK, parts, 3, err);
}

/* While it is with the user's code the statement computes nothing: its slot is another one's. */
static int sink_batch(void *arg, struct ArrowArray *batch, struct mg_error *err)
{
	struct work *work = arg;
	struct mg_buf *buf = NULL;
	uint64_t raw = 0;
	int code = mg_arrow_encode_batch(work->encoder, batch, &buf, &raw, err);

	work->job->rows += (uint64_t)batch->length;
	work->job->chunks++;
	if (!code) {
		mg_slot_pause(work->slot);
		code = give_chunk(work, buf, err);
		mg_slot_resume(work->slot);
	}
	mg_buf_unref(buf);
	return code;
}

static int sink_end(void *arg, const struct mg_answer *answer, struct mg_error *err)
{
	struct work *work = arg;

	(void)err;
	mg_copy_text(work->job->query_id, sizeof work->job->query_id, answer->query_id);
	return 0;
}

static void sink_query(void *arg, struct mg_query *query)
{
	struct work *work = arg;

	work->query = query;
	if (work->job->query) {
		work->job->query(work->job->arg, query);
	}
}

/* ---- the end: one value of all ---- */

static int end_chunks(struct work *work, struct mg_error *err)
{
	int code = 0;

	for (size_t i = 0; i < work->count && !code; i++) {
		if (!mg_cell_is_idle(work->cells[i])) {
			code = answer_of(work, work->cells[i], NULL, err);
		}
	}
	return code;
}

static int merge_into(struct work *work, struct mg_cell *into, struct mg_cell *from,
                      struct mg_error *err)
{
	struct mg_buf *value = NULL;
	int code = mg_cell_ask(from, MG_CELL_TAKE, NULL, 0, err);

	code = code ? code : answer_of(work, from, &value, err);
	if (!code && value->size) {
		const struct mg_str bytes = { (const char *)value->data, value->size };

		code = mg_cell_ask(into, MG_CELL_MERGE, &bytes, 1, err);
		code = code ? code : answer_of(work, into, NULL, err);
	}
	mg_buf_unref(value);
	return code;
}

static int finish(struct work *work, struct mg_error *err)
{
	struct mg_buf *result = NULL;
	int code = end_chunks(work, err);

	for (size_t i = 1; i < work->count && !code; i++) {
		code = merge_into(work, work->cells[0], work->cells[i], err);
	}
	code = code ? code : mg_cell_ask(work->cells[0], MG_CELL_FINISH, NULL, 0, err);
	code = code ? code : answer_of(work, work->cells[0], &result, err);
	if (!code && !mg_json_valid((const char *)result->data, result->size)) {
		code = mg_error_set(err, MG_E_DATA, "the job's process has given no JSON for a result: its "
		                                    "code writes to our socket");
	} else if (!code) {
		mg_sb_add_len(&work->job->result, (const char *)result->data, result->size);
	}
	mg_buf_unref(result);
	return code;
}

/* ---- all ---- */

static void make_load(struct work *work)
{
	const struct mg_job *job = work->job;

	mg_sb_add(&work->load, "{\"code\": ");
	mg_sb_add_json(&work->load, job->code.ptr, job->code.len);
	mg_sb_add(&work->load, ", \"values\": ");
	mg_sb_add_len(&work->load, job->values.len ? job->values.ptr : "{}",
	              job->values.len ? job->values.len : 2);
	mg_sb_add(&work->load, ", \"meta\": {}}");
}

/* A table's name, or a query. */
static int set_source(struct work *work, struct mg_str text, struct mg_error *err)
{
	struct mg_str source = mg_str_trim(text);
	bool is_name = true;

	for (size_t i = 0; i < source.len && is_name; i++) {
		is_name = strchr(" \t\r\n(", source.ptr[i]) == NULL;
	}
	int size = snprintf(work->source, sizeof work->source, "%s%.*s", is_name ? "FROM " : "",
	                    MG_STR_ARG(source));

	return size < (int)sizeof work->source
	           ? 0
	           : mg_error_set(err, MG_E_LIMIT, "the job's source has more than %zu bytes",
	                          sizeof work->source);
}

/* What the file says of itself, in the first process. */
static int load_file(struct work *work, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_buf *text = NULL;
	struct mg_json *settings = NULL;
	int code = begin_cell(work, &text, err);

	code = code ? code
	            : mg_json_parse(arena, (const char *)text->data, text->size, &settings, err);
	const char *source = code ? NULL : mg_json_get_text(settings, "source");

	if (!code && !source) {
		code = mg_error_set(err, MG_E_DATA, "the job's process has not said what its source is: "
		                                    "its code writes to our socket");
	} else if (!code && mg_json_get_text(settings, "key")) {
		code = mg_error_set(err, MG_E_UNSUPPORTED, "key = ... is not there yet: rows of one key "
		                                           "may be in several chunks");
		mg_error_hint(err, "GROUP BY in the source, or yield (key, value) from the mapper.");
	}
	if (!code) {
		int64_t rows = mg_json_get_int(settings, "chunk_size", 0);

		work->chunk_rows = rows <= 0               ? CHUNK_ROWS
		                   : rows > CHUNK_ROWS_MAX ? CHUNK_ROWS_MAX
		                                           : (size_t)rows;
		code = set_source(work, work->job->source.len ? work->job->source : mg_str(source), err);
	}
	mg_buf_unref(text);
	mg_arena_free(arena);
	return code;
}

static int read_source(struct work *work, struct mg_error *err)
{
	const struct mg_request request = {
		.sql = mg_str(work->source), .one_read = true, .cancelled = stopped, .arg = work
	};
	struct mg_outcome outcome = { 0 };
	struct mg_sink sink = { .begin = sink_begin,
		                    .batch = sink_batch,
		                    .end = sink_end,
		                    .query = sink_query,
		                    .arg = work,
		                    .batch_rows = work->chunk_rows };

	work->slot = &sink.slot;
	uint64_t timeout_ms = mg_session_settings(work->job->session).run.timeout_ms;
	int code = timeout_ms && timeout_ms < JOB_MS
	               ? 0
	               : mg_session_set(work->job->session, "statement_timeout", JOB_TIME, err);

	return code ? code : mg_session_run(work->job->session, &request, &sink, &outcome, err);
}

int mg_job_run(struct mg_job *job, struct mg_error *err)
{
	struct work *work = mg_alloc0(sizeof *work);

	work->job = job;
	work->until_ms = mg_clock_ms() + JOB_MS;
	work->max = mg_engine_default_threads();
	work->max = work->max > CELLS_MAX ? CELLS_MAX : work->max;
	make_load(work);
	int code = load_file(work, err);

	code = code ? code : read_source(work, err);
	code = code ? code : finish(work, err);
	if (code && mg_clock_ms() >= work->until_ms) {
		code = mg_error_set(err, MG_E_TIMEOUT, "the job has run for an hour, the longest there is");
		mg_error_hint(err, "Let it read less at once.");
	}
	for (size_t i = 0; i < work->count; i++) {
		mg_cell_end(work->cells[i]);
	}
	mg_arrow_encoder_free(work->encoder);
	mg_buf_unref(work->schema);
	mg_sb_fini(&work->load);
	mg_free(work);
	return code;
}

void mg_job_fini(struct mg_job *job)
{
	mg_sb_fini(&job->result);
	mg_sb_fini(&job->printed);
	mg_sb_fini(&job->traceback);
}
