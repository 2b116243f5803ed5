/*
 * changes_reader.c - who reads a shard's log of changes (changes_log.h), at a place of its own.
 *
 * It has one segment open and reads it through a window.  When the segment is gone from the log's
 * list so is the reader's place, also when the file could still be read: files that are removed
 * take no more room than those few bytes of time.
 *
 * Rows that were moved stand where they were staged: a second reader goes there from the oldest
 * record on, while this one stays at its own.
 */
#include "replica/changes_log_int.h"

#include "base/assert.h"

#include <inttypes.h>

#define WINDOW_BYTES (64u << 10)

struct mg_changes_reader {
	struct mg_changes_log *log;
	uint64_t after;  /* records up to it are passed over */
	uint64_t number; /* of the segment */
	struct mg_disk_file *file;
	uint64_t at; /* of the next record in the file */
	uint8_t *window;
	size_t window_cap, window_size;
	uint64_t window_at;                             /* its place in the file */
	struct mg_buf *columns[MG_CHANGES_COLUMNS_MAX]; /* of the segment */
	struct mg_changes_record last; /* that was handed out; its texts are in the window */

	struct mg_changes_reader *staged; /* at the rows that the last one, MOVED, tells of; or NULL */
	bool staged_begun;                /* it has seen where they begin */
};

static int say_gone(const struct mg_changes_reader *reader, struct mg_error *err)
{
	mg_error_set(err, MG_E_GONE, "changes of shard %" PRIu32 " are not kept any more from there on",
	             reader->log->options.shard);
	mg_error_hint(err, "Begin again with a snapshot, from=start; another server may still have "
	                   "them. --changes-retention says how much is kept.");
	return MG_E_GONE;
}

static void close_segment(struct mg_changes_reader *reader)
{
	mg_disk_file_close(reader->log->options.disk, reader->file);
	reader->file = NULL;
	reader->window_size = 0;
	for (size_t i = 0; i < MG_CHANGES_COLUMNS_MAX; i++) {
		mg_buf_unref(reader->columns[i]);
		reader->columns[i] = NULL;
	}
}

static int open_segment(struct mg_changes_reader *reader, uint64_t number, struct mg_error *err)
{
	char name[MG_DISK_NAME_MAX];

	close_segment(reader);
	reader->number = number;
	reader->at = MG_CHANGES_HEAD;
	mg_changes__name(reader->log, number, name);
	int code = mg_disk_file_open(reader->log->options.disk, name, false, &reader->file, err);

	return code == MG_E_NOT_FOUND ? say_gone(reader, err) : code;
}

int mg_changes_reader_open(struct mg_changes_reader **out, struct mg_changes_log *log,
                           uint64_t after, struct mg_error *err)
{
	struct mg_changes_reader *reader = mg_alloc0(sizeof *reader);
	uint64_t number = 0;
	bool found = false;

	*out = NULL;
	reader->log = log;
	reader->after = after;
	pthread_mutex_lock(&log->lock);
	for (size_t i = 0; i < log->count; i++) {
		if (log->segments[i].base <= after) {
			number = log->segments[i].number;
			found = true;
		}
	}
	pthread_mutex_unlock(&log->lock);
	int code = found ? open_segment(reader, number, err) : say_gone(reader, err);

	if (code) {
		mg_changes_reader_close(reader);
		return code;
	}
	*out = reader;
	return 0;
}

void mg_changes_reader_close(struct mg_changes_reader *reader)
{
	if (reader) {
		mg_changes_reader_close(reader->staged);
		close_segment(reader);
		mg_free(reader->window);
		mg_free(reader);
	}
}

/* size bytes of the file, which holds `end`, in the window. */
static int look_at(struct mg_changes_reader *reader, uint64_t at, size_t size, uint64_t end,
                   uint8_t **out, struct mg_error *err)
{
	bool there = at >= reader->window_at && at + size <= reader->window_at + reader->window_size;

	if (at + size > end) {
		return mg_error_set(err, MG_E_CORRUPT, "a record of changes of shard %" PRIu32 " is cut",
		                    reader->log->options.shard);
	}
	if (!there) {
		size_t want = size > WINDOW_BYTES       ? size
		              : end - at < WINDOW_BYTES ? (size_t)(end - at)
		                                        : WINDOW_BYTES;
		bool large = reader->window_cap > WINDOW_BYTES && want <= WINDOW_BYTES;

		if (want > reader->window_cap || large) {
			mg_free(reader->window);
			reader->window_cap = want < WINDOW_BYTES ? WINDOW_BYTES : want;
			reader->window = mg_try_alloc(reader->window_cap);
		}
		reader->window_size = 0;
		if (!reader->window) {
			reader->window_cap = 0;
			return mg_error_set(err, MG_E_NOMEM, "no memory for changes of %zu bytes", want);
		}
		int code = mg_disk_file_read(reader->log->options.disk, reader->file, at, reader->window,
		                             want, err);

		if (code) {
			return code;
		}
		reader->window_at = at;
		reader->window_size = want;
	}
	*out = reader->window + (at - reader->window_at);
	return 0;
}

/* How far the segment may be read; *next: there is one behind it; *to: what the log holds. */
static bool find_end(struct mg_changes_reader *reader, uint64_t *end, bool *next, uint64_t *to)
{
	struct mg_changes_log *log = reader->log;
	bool found = false;

	pthread_mutex_lock(&log->lock);
	for (size_t i = 0; i < log->count; i++) {
		if (log->segments[i].number == reader->number) {
			found = true;
			*end = log->segments[i].size;
			*next = i + 1 < log->count;
		}
	}
	*to = log->to;
	pthread_mutex_unlock(&log->lock);
	return found;
}

static int read_record(struct mg_changes_reader *reader, uint64_t end,
                       struct mg_changes_record *out, struct mg_error *err)
{
	struct mg_changes_frame frame;
	uint8_t *bytes = NULL;
	int code = look_at(reader, reader->at, MG_CHANGES_FRAME, end, &bytes, err);

	if (!code && !mg_changes_frame_decode(bytes, &frame)) {
		code = MG_E_CORRUPT;
	}
	size_t size = code ? 0 : MG_CHANGES_FRAME + (size_t)frame.head_size + frame.payload_size;

	code = code ? code : look_at(reader, reader->at, size, end, &bytes, err);
	if (!code && !mg_changes_record_decode(&frame, bytes + MG_CHANGES_FRAME, out)) {
		code = MG_E_CORRUPT;
	}
	if (code == MG_E_CORRUPT) {
		return mg_error_set(err, MG_E_CORRUPT, "a record of changes of shard %" PRIu32 " is broken",
		                    reader->log->options.shard);
	}
	reader->at += size;
	return code;
}

static int keep_columns(struct mg_changes_reader *reader, const struct mg_changes_record *record,
                        struct mg_error *err)
{
	struct mg_buf *copy = mg_buf_copy(record->payload, record->payload_size);

	if (!copy) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for the columns of changes");
	}
	mg_buf_unref(reader->columns[record->columns]);
	reader->columns[record->columns] = copy;
	return 0;
}

/* The next record of this reader itself. */
static int next_own(struct mg_changes_reader *reader, struct mg_changes_record *out,
                    struct mg_buf **columns, bool *more, struct mg_error *err)
{
	for (;;) {
		uint64_t end = 0, to = 0;
		bool next = false;
		int code = 0;

		if (!find_end(reader, &end, &next, &to)) {
			return say_gone(reader, err);
		}
		if (reader->at >= end && !next) {
			*more = false;
			*out = (struct mg_changes_record){ .index = to };
			return 0;
		}
		if (reader->at >= end) {
			code = open_segment(reader, reader->number + 1, err);
		} else {
			code = read_record(reader, end, out, err);
			if (!code && out->kind == MG_CHANGES_COLUMNS) {
				code = keep_columns(reader, out, err);
			} else if (!code && out->index > reader->after) {
				*columns = reader->columns[out->columns];
				*more = true;
				reader->last = *out;
				return 0;
			}
		}
		if (code) {
			return code;
		}
	}
}

/* ---- rows that were moved ---- */

int mg_changes_reader_enter(struct mg_changes_reader *reader, struct mg_error *err)
{
	const struct mg_changes_record *moved = &reader->last;
	uint64_t after = 0, to = 0;

	mg_assert(moved->kind == MG_CHANGES_MOVED && !reader->staged);
	if (moved->payload_size == 0 || moved->payload[moved->payload_size - 1] != '\0') {
		return mg_error_set(err, MG_E_CORRUPT, "changes of shard %" PRIu32 " name no table",
		                    reader->log->options.shard);
	}
	mg_changes_log_range(reader->log, &after, &to);
	reader->staged_begun = false;
	return mg_changes_reader_open(&reader->staged, reader->log, after, err);
}

/* *found false: there are no more of them. */
static int next_staged(struct mg_changes_reader *reader, struct mg_changes_record *out,
                       struct mg_buf **columns, bool *found, struct mg_error *err)
{
	const struct mg_changes_record *moved = &reader->last;
	bool more = true;
	int code = 0;

	*found = false;
	while (!code && more && !*found) {
		code = next_own(reader->staged, out, columns, &more, err);
		more = more && !code && out->index < moved->index;
		if (!more || !mg_text_eq(out->table, (const char *)moved->payload) ||
		    !mg_text_eq(out->schema, moved->schema)) {
			continue;
		}
		reader->staged_begun = reader->staged_begun || out->kind == MG_CHANGES_CREATE;
		*found = out->kind == MG_CHANGES_INSERT;
		if (*found && !reader->staged_begun) {
			break;
		}
	}
	if (!code && !reader->staged_begun) {
		return say_gone(reader, err);
	}
	if (*found) {
		out->index = moved->index;
		out->together = moved->together;
		out->transaction = moved->transaction;
		out->table = moved->table;
	}
	return code;
}

int mg_changes_reader_next(struct mg_changes_reader *reader, struct mg_changes_record *out,
                           struct mg_buf **columns, bool *more, struct mg_error *err)
{
	bool found = false;
	int code = reader->staged ? next_staged(reader, out, columns, &found, err) : 0;

	if (code || found) {
		*more = true;
		return code;
	}
	mg_changes_reader_close(reader->staged);
	reader->staged = NULL;
	return next_own(reader, out, columns, more, err);
}
