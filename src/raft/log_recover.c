/*
 * log_recover.c - what a restart reads back.
 *
 * A batch is written only when the one before it is durable.  So behind a broken record there may
 * be whole records of the same batch, of which the crash wrote some parts and not others: all that
 * is cut.  A record of a later batch behind it proves that the broken one had been durable: damage.
 *
 * What is kept is synced before anybody hears of it: a process that was killed may have left it in
 * the system's memory alone.
 */
#include "raft/log_file_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	struct mg_log_file *log;
	uint64_t batch;  /* of the last whole record; 0: none yet */
	bool ended;      /* which was the last of its batch */
	bool broken;     /* the end of what counts was met */
	uint32_t cut_number, cut_offset; /* where */
};

/* ---- files ---- */

static bool segment_name(const char *name, uint32_t *number)
{
	char again[MG_DISK_NAME_MAX];

	if (strlen(name) != 12 || sscanf(name, "%8x.log", number) != 1 || *number == 0) {
		return false;
	}
	mg_log__name(again, *number);
	return strcmp(again, name) == 0;
}

/* A spare that is whole is used; others were being made when the process ended. */
static int take_spare(struct mg_log_file *log, const char *name, struct mg_error *err)
{
	struct mg_disk *disk = log->options.disk;
	struct mg_disk_file *file = NULL;
	uint32_t number = 0;
	uint64_t size = 0;

	if (sscanf(name, "spare-%8x", &number) == 1 && number >= log->spare_next) {
		log->spare_next = number + 1;
	}
	int code = mg_disk_file_open(disk, name, false, &file, err);

	code = code ? code : mg_disk_file_size(disk, file, &size, err);
	if (!code && size == log->options.segment_bytes && log->spare_count < MG_LOG_SPARES_MAX) {
		struct mg_log_spare *spare = &log->spares[log->spare_count++];

		*spare = (struct mg_log_spare){ .file = file, .capacity = (uint32_t)size };
		mg_copy_text(spare->name, sizeof spare->name, name);
		return 0;
	}
	mg_disk_file_close(disk, file);
	return code ? code : mg_disk_remove(disk, name, err);
}

static int open_segment(struct mg_log_file *log, const char *name, uint32_t number,
                        struct mg_error *err)
{
	struct mg_disk *disk = log->options.disk;
	uint64_t size = 0;

	if (log->segment_count && log->segments[log->segment_count - 1]->number + 1 != number) {
		return mg_error_set(err, MG_E_CORRUPT, "a segment before \"%s\" is missing", name);
	}
	struct mg_log_segment *segment = mg_log__add_segment(log, number, 0);

	mg_copy_text(segment->name, sizeof segment->name, name);
	int code = mg_disk_file_open(disk, name, false, &segment->file, err);

	code = code ? code : mg_disk_file_size(disk, segment->file, &size, err);
	if (!code && (size < 2 * MG_LOG_SEGMENT_HEAD || size > UINT32_MAX)) {
		code = mg_error_set(err, MG_E_CORRUPT, "\"%s\" has %llu bytes", name,
		                    (unsigned long long)size);
	}
	segment->capacity = (uint32_t)size;
	return code;
}

/* Names come sorted, and so do the numbers in them. */
static int open_files(struct mg_log_file *log, struct mg_error *err)
{
	char **names = NULL;
	size_t count = 0;
	uint32_t number;
	int code = mg_disk_list(log->options.disk, &names, &count, err);

	for (size_t i = 0; !code && i < count; i++) {
		if (segment_name(names[i], &number)) {
			code = open_segment(log, names[i], number, err);
		} else if (strncmp(names[i], "spare-", 6) == 0) {
			code = take_spare(log, names[i], err);
		}
	}
	mg_free(names);
	return code;
}

/* ---- records ---- */

/* Whole records behind the broken one: damage when of a later batch; *end: behind the last one. */
static int look_behind(struct reader *reader, const struct mg_log_segment *segment,
                       const uint8_t *bytes, uint32_t from, uint32_t *end, struct mg_error *err)
{
	uint64_t torn = reader->batch + (reader->ended ? 1 : 0);
	struct mg_log_head head;

	*end = from;
	for (uint32_t at = from; at + MG_LOG_HEAD_SIZE <= segment->capacity; at += MG_LOG_ALIGN) {
		if (!mg_log_record_read(bytes + at, segment->capacity - at, segment->number, &head)) {
			continue;
		}
		if (head.batch > torn) {
			return mg_error_set(err, MG_E_CORRUPT,
			                    "the log is damaged in segment %u at byte %u: records of later "
			                    "batches follow",
			                    reader->cut_number, reader->cut_offset);
		}
		*end = at + (uint32_t)mg_log_record_size(head.size);
	}
	return 0;
}

/* Records of a torn batch behind the cut must never look whole again. */
static int wipe(struct mg_log_file *log, struct mg_log_segment *segment, uint32_t from,
                uint32_t end, struct mg_error *err)
{
	if (from == end) {
		return 0;
	}
	uint8_t *zeros = mg_alloc0(end - from);
	int code = mg_disk_file_write(log->options.disk, segment->file, from, zeros, end - from, err);

	mg_free(zeros);
	return code;
}

static int read_records(struct reader *reader, struct mg_log_segment *segment,
                        const uint8_t *bytes, struct mg_error *err)
{
	struct mg_log_file *log = reader->log;
	uint32_t at = MG_LOG_SEGMENT_HEAD;
	struct mg_log_head head;
	bool sealed = false;

	while (!sealed && mg_log_record_read(bytes + at, segment->capacity - at, segment->number,
	                                     &head)) {
		if (reader->batch &&
		    (head.batch < reader->batch || head.batch > reader->batch + (reader->ended ? 1 : 0))) {
			return mg_error_set(err, MG_E_CORRUPT, "batch %llu follows batch %llu in \"%s\"",
			                    (unsigned long long)head.batch, (unsigned long long)reader->batch,
			                    segment->name);
		}
		int code = mg_log_index_apply(&log->index, &head, bytes + at + MG_LOG_HEAD_SIZE,
		                              segment->number, at, false, err);

		if (code) {
			return code;
		}
		reader->batch = head.batch;
		reader->ended = head.flags & MG_LOG_FLAG_END;
		sealed = head.kind == MG_LOG_KIND_SEAL;
		at += (uint32_t)mg_log_record_size(head.size);
	}
	segment->used = at;
	if (!sealed) {
		reader->broken = true;
		reader->cut_number = segment->number;
		reader->cut_offset = at;
	}
	return 0;
}

static int read_segment(struct reader *reader, struct mg_log_segment *segment,
                        struct mg_error *err)
{
	struct mg_log_file *log = reader->log;
	uint8_t *bytes = mg_try_alloc(segment->capacity);
	uint32_t end = 0;
	bool cut_before = reader->broken;

	if (!bytes) {
		return mg_error_set(err, MG_E_NOMEM, "no memory to read a segment of %u bytes",
		                    segment->capacity);
	}
	int code =
		mg_disk_file_read(log->options.disk, segment->file, 0, bytes, segment->capacity, err);

	if (!code && !mg_log__head_valid(bytes, segment->number)) {
		code = mg_error_set(err, MG_E_CORRUPT, "the head of \"%s\" is damaged", segment->name);
	}
	if (!code && !cut_before) {
		code = read_records(reader, segment, bytes, err);
	}
	if (!code && reader->broken) {
		uint32_t from = cut_before ? MG_LOG_SEGMENT_HEAD : segment->used;

		code = look_behind(reader, segment, bytes, from, &end, err);
		if (!code && !cut_before) {
			code = wipe(log, segment, from, end, err);
		}
	}
	mg_free(bytes);
	return code;
}

/* Segments behind the cut hold records of the torn batch alone.  The newest goes first: what stays
 * in between has no gap. */
static int drop_behind(struct reader *reader, struct mg_error *err)
{
	struct mg_log_file *log = reader->log;
	int code = 0;

	while (!code && log->segment_count &&
	       log->segments[log->segment_count - 1]->number > reader->cut_number) {
		struct mg_log_segment *segment = log->segments[--log->segment_count];

		mg_disk_file_close(log->options.disk, segment->file);
		code = mg_disk_remove(log->options.disk, segment->name, err);
		code = code ? code : mg_disk_sync_names(log->options.disk, err);
		mg_free(segment);
	}
	return code;
}

static int sync_kept(struct mg_log_file *log, struct mg_error *err)
{
	int code = mg_disk_sync_names(log->options.disk, err);

	for (size_t i = log->segment_count > 2 ? log->segment_count - 2 : 0;
	     !code && i < log->segment_count; i++) {
		code = mg_disk_file_sync(log->options.disk, log->segments[i]->file, err);
	}
	return code;
}

int mg_log__recover(struct mg_log_file *log, struct mg_error *err)
{
	struct reader reader = { .log = log };
	int code = open_files(log, err);

	for (size_t i = 0; !code && i < log->segment_count; i++) {
		code = read_segment(&reader, log->segments[i], err);
	}
	code = code || !reader.broken ? code : drop_behind(&reader, err);
	code = code ? code : mg_log_index_check(&log->index, err);
	code = code ? code : sync_kept(log, err);
	if (code) {
		return code;
	}
	if (!log->segment_count) {
		mg_log__add_segment(log, 1, log->options.segment_bytes);
	} else if (!reader.broken) {
		uint32_t last = log->segments[log->segment_count - 1]->number;

		mg_log__add_segment(log, last + 1, log->options.segment_bytes);
	}
	/* A batch of which a part is kept goes on: its end comes with the next record. */
	log->gather = mg_log__batch_new(log, reader.batch + (reader.ended || !reader.batch ? 1 : 0));
	log->durable_batch = log->gather->number - 1;
	return 0;
}
