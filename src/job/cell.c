/* cell.c - see cell.h. */
#include "job/cell.h"

#include "base/assert.h"
#include "base/json.h"
#include "os/handover.h"
#include "os/pipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum answer { READY = 101, DONE, VALUE, RESULT, FAILED, PRINTED };
enum { HEAD_SIZE = 12, PRINTED_MAX = 1 << 20, TOLD_MAX = 128 << 10 };
enum { SIGKILL_STATUS = -9, SIGXCPU_STATUS = -24 };

struct mg_cell {
	struct mg_cell_options options;
	uint64_t number;
	int fd;
	enum mg_cell_ask asked; /* 0: idle */
	char *traceback;
};

int mg_cell_begin(struct mg_cell **out, const struct mg_cell_options *options,
                  struct mg_error *err)
{
	struct mg_cell *cell = mg_alloc0(sizeof *cell);

	cell->options = *options;
	const struct mg_nursery_begin begin = {
		.user = options->user, .stopped = options->stopped, .arg = options->arg
	};
	int code = mg_nursery_begin(options->nursery, &begin, &cell->number, &cell->fd, err);

	if (code) {
		mg_free(cell);
		cell = NULL;
	}
	*out = cell;
	return code;
}

void mg_cell_end(struct mg_cell *cell)
{
	if (!cell) {
		return;
	}
	mg_nursery_end(cell->options.nursery, cell->number);
	close(cell->fd);
	mg_free(cell->traceback);
	mg_free(cell);
}

/* ---- its end, where none was asked for ---- */

static int say_gone(struct mg_cell *cell, struct mg_error *err)
{
	int status = 0;
	bool known = mg_nursery_ended(cell->options.nursery, cell->number, &status);

	if (known && status == MG_NURSERY_LOST) {
		mg_error_set(err, MG_E_NODE, "the Python of jobs at this server has ended");
		mg_error_hint(err, "It is started again: run the job again.");
		return MG_E_NODE;
	}
	if (known && status == MG_NURSERY_UNCONFINED) {
		mg_error_set(err, MG_E_UNSUPPORTED, "this server's machine cannot confine users' code");
		mg_error_hint(err, "Its log says why. Jobs need Linux with Landlock and seccomp.");
		return MG_E_UNSUPPORTED;
	}
	if (known && status == MG_NURSERY_NOT_BEGUN) {
		mg_error_set(err, MG_E_BUSY, "this machine gives no process for the job");
		mg_error_hint(err, "Nothing was begun: try again later, or at another server.");
		return MG_E_BUSY;
	}
	if (known && (status == SIGKILL_STATUS || status == SIGXCPU_STATUS)) {
		mg_error_set(err, MG_E_DATA, "the job's process was ended: it has used up its processor "
		                             "time or the machine's memory");
	} else if (known && status < 0) {
		mg_error_set(err, MG_E_DATA, "the job's process was ended by signal %d in the user's code",
		             -status);
	} else {
		mg_error_set(err, MG_E_DATA, "the user's code has ended the job's process, with status %d",
		             status);
	}
	mg_error_hint(err, "The server is not touched by it. Look into the code, and run it again.");
	return MG_E_DATA;
}

static int explain(struct mg_cell *cell, int code, struct mg_error *err)
{
	return code == MG_E_DISCONNECTED || code == MG_E_IO ? say_gone(cell, err) : code;
}

/* ---- asking ---- */

static int write_some(struct mg_cell *cell, const void *data, size_t size, struct mg_error *err)
{
	return mg_handover_write(cell->fd, data, size, cell->options.stopped, cell->options.arg, err);
}

int mg_cell_ask(struct mg_cell *cell, enum mg_cell_ask ask, const struct mg_str *parts,
                size_t count, struct mg_error *err)
{
	uint8_t head[HEAD_SIZE];
	uint32_t kind = ask;
	uint64_t size = 0;

	mg_assert(cell->asked == 0);
	for (size_t i = 0; i < count; i++) {
		size += parts[i].len;
	}
	memcpy(head, &kind, sizeof kind);
	memcpy(head + sizeof kind, &size, sizeof size);
	cell->asked = ask;
	int code = write_some(cell, head, sizeof head, err);

	for (size_t i = 0; i < count && !code; i++) {
		code = write_some(cell, parts[i].ptr, parts[i].len, err);
	}
	return explain(cell, code, err);
}

bool mg_cell_is_idle(const struct mg_cell *cell)
{
	return cell->asked == 0;
}

int mg_cell_fd(const struct mg_cell *cell)
{
	return cell->fd;
}

/* ---- answers ---- */

static bool fits(enum mg_cell_ask asked, uint32_t kind)
{
	static const uint32_t of[] = { [MG_CELL_LOAD] = READY, [MG_CELL_CHUNK] = DONE,
		                           [MG_CELL_MERGE] = DONE, [MG_CELL_TAKE] = VALUE,
		                           [MG_CELL_FINISH] = RESULT };

	return kind == FAILED || of[asked] == kind;
}

static uint64_t most_of(uint32_t kind)
{
	return kind == PRINTED                   ? PRINTED_MAX
	       : kind == READY || kind == FAILED ? TOLD_MAX /* they are parsed into a tree */
	       : kind == DONE                    ? 0
	       : kind == RESULT                  ? MG_CELL_RESULT_MAX
	                                         : MG_CELL_VALUE_MAX;
}

static int read_some(struct mg_cell *cell, void *data, size_t size, struct mg_error *err)
{
	return explain(cell,
	               mg_pipe_read(cell->fd, data, size, cell->options.stopped, cell->options.arg,
	                            err),
	               err);
}

static int read_frame(struct mg_cell *cell, uint32_t *kind, struct mg_buf **out,
                      struct mg_error *err)
{
	uint8_t head[HEAD_SIZE];
	uint64_t size;
	int code = read_some(cell, head, sizeof head, err);

	*out = NULL;
	if (code) {
		return code;
	}
	memcpy(kind, head, sizeof *kind);
	memcpy(&size, head + sizeof *kind, sizeof size);
	if (*kind != PRINTED && !fits(cell->asked, *kind)) {
		return mg_error_set(err, MG_E_DATA, "the job's process has said something else than it was "
		                                    "asked: its code writes to our socket");
	}
	if (size > most_of(*kind)) {
		mg_error_set(err, MG_E_LIMIT, "the job's value has %" PRIu64 " bytes, more than %" PRIu64
		                              " KiB", size, most_of(*kind) >> 10);
		mg_error_hint(err, "Let the reducer or the finalizer keep less.");
		return MG_E_LIMIT;
	}
	*out = mg_buf_new((size_t)size + 1);
	if (!*out) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a value of %" PRIu64 " bytes", size);
	}
	(*out)->size = (size_t)size;
	return read_some(cell, (*out)->data, (size_t)size, err);
}

static const char *text_of(const struct mg_json *json, const char *name)
{
	const char *text = mg_json_get_text(json, name);

	return text ? text : "";
}

/* What the user's code has raised. */
static int say_raised(struct mg_cell *cell, const struct mg_buf *frame, struct mg_error *err)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	int code = mg_json_parse(arena, (const char *)frame->data, frame->size, &json, err);

	if (!code) {
		bool mistake = mg_json_get_bool(json, "mistake", false);
		int64_t line = mg_json_get_int(json, "line", 0);

		code = mistake ? mg_error_set(err, MG_E_USAGE, "%.600s", text_of(json, "message"))
		               : mg_error_set(err, MG_E_DATA, "%.80s: %.600s", text_of(json, "type"),
		                              text_of(json, "message"));
		if (!mistake && line > 0) {
			mg_error_detail(err, "Line %" PRId64 " of the job's file raised it.", line);
		}
		mg_free(cell->traceback);
		cell->traceback = mistake ? NULL : mg_strdup(text_of(json, "traceback"));
	}
	mg_arena_free(arena);
	return code;
}

int mg_cell_answer(struct mg_cell *cell, struct mg_buf **out, struct mg_error *err)
{
	struct mg_buf *frame = NULL;
	uint32_t kind = PRINTED;
	int code = 0;

	mg_assert(cell->asked != 0);
	while (!code && kind == PRINTED) {
		mg_buf_unref(frame);
		code = read_frame(cell, &kind, &frame, err);
		if (!code && kind == PRINTED && cell->options.printed) {
			cell->options.printed(cell->options.arg,
			                      (struct mg_str){ (const char *)frame->data, frame->size });
		}
	}
	if (!code && kind == FAILED) {
		code = say_raised(cell, frame, err);
	}
	cell->asked = 0;
	if (!code && out) {
		*out = frame;
	} else {
		mg_buf_unref(frame);
	}
	return code;
}

const char *mg_cell_traceback(const struct mg_cell *cell)
{
	return cell->traceback ? cell->traceback : "";
}
