/*
 * changes_log.c - see changes_log.h: writing it, and what a start finds.
 *
 * Each segment says its columns itself, so a reader may begin with any of them.  A segment that is
 * full ends with a MARK; then the next begins, and the oldest go while all are larger than
 * bytes_max.
 *
 * What a start may keep is proved by a MARK at or behind the index that the shard's file has
 * applied: `sync` writes one before each checkpoint.  Behind the last MARK up to that index the
 * file is cut.
 */
#include "replica/changes_log_int.h"

#include "base/assert.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

enum {
	VERSION = 1,
	SEGMENT_MIN = 64 << 10,
	SEGMENT_MAX = 8 << 20,
	SEGMENTS = 8,
	FLUSH_BYTES = 1 << 20,
	DIRECT_BYTES = 64 << 10, /* a payload of so many is not copied first */
};

static const uint8_t magic[8] = { 'm', 'g', 'c', 'h', 'a', 'n', 'g', 'e' };

void mg_changes__name(const struct mg_changes_log *log, uint64_t number,
                      char name[MG_DISK_NAME_MAX])
{
	(void)snprintf(name, MG_DISK_NAME_MAX, "%04" PRIu32 "-%010" PRIu64 ".log", log->options.shard,
	               number);
}

static struct mg_changes_segment *last_segment(struct mg_changes_log *log)
{
	return log->count ? &log->segments[log->count - 1] : NULL;
}

/* ---- files ---- */

static void remove_file(struct mg_changes_log *log, uint64_t number)
{
	char name[MG_DISK_NAME_MAX];
	struct mg_error ignored;

	mg_changes__name(log, number, name);
	(void)mg_disk_remove(log->options.disk, name, &ignored);
}

static void forget_columns(struct mg_changes_log *log)
{
	for (size_t i = 0; i < MG_CHANGES_COLUMNS_MAX; i++) {
		mg_buf_unref(log->columns[i]);
		log->columns[i] = NULL;
	}
	log->next_columns = 0;
}

static void close_file(struct mg_changes_log *log)
{
	mg_disk_file_close(log->options.disk, log->file);
	log->file = NULL;
	log->written = 0;
	mg_sb_clear(&log->pending);
	forget_columns(log);
}

/* A new last segment, behind base. */
static int begin_segment(struct mg_changes_log *log, uint64_t number, uint64_t base,
                         struct mg_error *err)
{
	uint8_t bytes[MG_CHANGES_HEAD];
	struct mg_out head = mg_out(bytes, sizeof bytes);
	char name[MG_DISK_NAME_MAX];

	close_file(log);
	mg_changes__name(log, number, name);
	mg_out_bytes(&head, magic, sizeof magic);
	mg_out_u32(&head, VERSION);
	mg_out_u32(&head, log->options.shard);
	mg_out_u64(&head, base);
	int code = mg_disk_file_open(log->options.disk, name, true, &log->file, err);

	code = code ? code
	            : mg_disk_file_write(log->options.disk, log->file, 0, bytes, head.size, err);
	if (code) {
		close_file(log);
		return code;
	}
	log->written = head.size;
	log->marked = base;
	pthread_mutex_lock(&log->lock);
	mg_grow(log->segments, log->count, log->cap);
	log->segments[log->count++] = (struct mg_changes_segment){ number, base, head.size };
	pthread_mutex_unlock(&log->lock);
	return 0;
}

static void say_broken(const struct mg_changes_log *log, const struct mg_error *err)
{
	mg_log(MG_LOG_WARN, "changes.broken", "shard=%" PRIu32 " error=\"%s\"", log->options.shard,
	       err->message);
}

/* Nothing is here but what comes behind index. */
static void begin_anew(struct mg_changes_log *log, uint64_t index)
{
	struct mg_changes_segment *last = last_segment(log);
	uint64_t number = last ? last->number + 2 : 1; /* no reader goes on there */
	struct mg_error err = { 0 };
	bool before = log->broken; /* it has been said */

	close_file(log);
	for (size_t i = 0; i < log->count; i++) {
		remove_file(log, log->segments[i].number);
	}
	pthread_mutex_lock(&log->lock);
	log->count = 0;
	log->to = index;
	pthread_mutex_unlock(&log->lock);
	log->added = false;
	log->unsynced = number;
	log->broken = begin_segment(log, number, index, &err) != 0;
	if (log->broken) {
		/* Its number is kept, for readers that wait behind the one before. */
		pthread_mutex_lock(&log->lock);
		mg_grow(log->segments, log->count, log->cap);
		log->segments[log->count++] = (struct mg_changes_segment){ number, index, 0 };
		pthread_mutex_unlock(&log->lock);
		if (!before) {
			say_broken(log, &err);
		}
	}
}

static void give_up(struct mg_changes_log *log, const struct mg_error *err)
{
	log->broken = true;
	say_broken(log, err);
}

/* ---- writing ---- */

static void write_bytes(struct mg_changes_log *log, const void *data, size_t size)
{
	struct mg_error err = { 0 };

	if (log->broken || size == 0) {
		return;
	}
	if (mg_disk_file_write(log->options.disk, log->file, log->written, data, size, &err)) {
		give_up(log, &err);
	} else {
		log->written += size;
	}
}

static void flush(struct mg_changes_log *log)
{
	write_bytes(log, log->pending.ptr, log->pending.len);
	mg_sb_clear(&log->pending);
}

static void put(struct mg_changes_log *log, const struct mg_changes_record *record)
{
	uint8_t bytes[MG_CHANGES_FRAME + MG_CHANGES_HEAD_MAX];
	struct mg_out out = mg_out(bytes, sizeof bytes);

	mg_changes_record_encode(&out, record);
	mg_sb_add_len(&log->pending, (const char *)bytes, out.size);
	if (record->payload_size < DIRECT_BYTES) {
		mg_sb_add_len(&log->pending, (const char *)record->payload, record->payload_size);
	} else {
		flush(log);
		write_bytes(log, record->payload, record->payload_size);
	}
	if (log->pending.len >= FLUSH_BYTES) {
		flush(log);
	}
}

static bool is_same(const struct mg_buf *a, const struct mg_buf *b)
{
	return a == b || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

/* The number under which the segment has these columns. */
static uint16_t number_of(struct mg_changes_log *log, uint64_t index, const struct mg_buf *schema)
{
	for (uint16_t i = 0; i < MG_CHANGES_COLUMNS_MAX && log->columns[i]; i++) {
		if (is_same(log->columns[i], schema)) {
			return i;
		}
	}
	uint16_t number = log->next_columns;

	log->next_columns = (uint16_t)((number + 1) % MG_CHANGES_COLUMNS_MAX);
	mg_buf_unref(log->columns[number]);
	/* A copy: the one given may be a part of something larger.  Without it they are told again. */
	log->columns[number] = mg_buf_copy(schema->data, schema->size);
	put(log, &(struct mg_changes_record){ .kind = MG_CHANGES_COLUMNS,
	                                      .index = index,
	                                      .columns = number,
	                                      .payload = schema->data,
	                                      .payload_size = schema->size });
	return number;
}

void mg_changes_log_add(struct mg_changes_log *log, const struct mg_changes_record *record,
                        const struct mg_buf *ipc_schema, const struct mg_buf *payload)
{
	struct mg_changes_record with = *record;

	if (!log || log->broken) {
		return;
	}
	if (ipc_schema) {
		with.columns = number_of(log, record->index, ipc_schema);
	}
	if (payload) {
		with.payload = payload->data;
		with.payload_size = payload->size;
	}
	put(log, &with);
	log->added = true;
}

/* The oldest go, while there are too many. */
static void trim(struct mg_changes_log *log)
{
	uint64_t bytes = 0;
	size_t gone = 0;

	for (size_t i = 0; i < log->count; i++) {
		bytes += log->segments[i].size;
	}
	while (gone + 1 < log->count && bytes > log->options.bytes_max) {
		bytes -= log->segments[gone].size;
		remove_file(log, log->segments[gone].number);
		gone++;
	}
	if (gone) {
		pthread_mutex_lock(&log->lock);
		log->count -= gone;
		memmove(log->segments, log->segments + gone, log->count * sizeof *log->segments);
		pthread_mutex_unlock(&log->lock);
	}
}

static void mark(struct mg_changes_log *log, uint64_t index)
{
	put(log, &(struct mg_changes_record){ .kind = MG_CHANGES_MARK, .index = index });
	flush(log);
}

void mg_changes_log_publish(struct mg_changes_log *log, uint64_t index)
{
	struct mg_error err = { 0 };

	if (!log) {
		return;
	}
	if (log->added && !log->broken) {
		mark(log, index);
	}
	if (log->broken) {
		begin_anew(log, index);
	} else {
		log->marked = log->added ? index : log->marked;
		pthread_mutex_lock(&log->lock);
		last_segment(log)->size = log->written;
		log->to = index;
		pthread_mutex_unlock(&log->lock);
		if (log->written >= log->segment_bytes) {
			if (begin_segment(log, last_segment(log)->number + 1, index, &err)) {
				give_up(log, &err);
			}
			trim(log);
		}
	}
	log->added = false;
	if (log->options.notify) {
		log->options.notify(log->options.arg);
	}
}

void mg_changes_log_drop(struct mg_changes_log *log)
{
	/* What was added lies behind what is published: no reader sees it, and it is written over. But
	 * its columns may be gone with it. */
	if (log && log->added && !log->broken) {
		log->written = last_segment(log)->size;
		mg_sb_clear(&log->pending);
		forget_columns(log);
		log->added = false;
	}
}

void mg_changes_log_sync(struct mg_changes_log *log, uint64_t index)
{
	struct mg_error err = { 0 };
	int code = 0;

	if (!log || log->broken) {
		return;
	}
	mg_assert(!log->added);
	if (log->marked < index) {
		mark(log, index);
		log->marked = index;
		pthread_mutex_lock(&log->lock);
		last_segment(log)->size = log->written;
		pthread_mutex_unlock(&log->lock);
	}
	for (size_t i = 0; !code && i + 1 < log->count; i++) {
		if (log->segments[i].number >= log->unsynced) {
			struct mg_disk_file *file = NULL;
			char name[MG_DISK_NAME_MAX];

			mg_changes__name(log, log->segments[i].number, name);
			code = mg_disk_file_open(log->options.disk, name, false, &file, &err);
			code = code ? code : mg_disk_file_sync(log->options.disk, file, &err);
			mg_disk_file_close(log->options.disk, file);
		}
	}
	code = code || log->broken ? code : mg_disk_file_sync(log->options.disk, log->file, &err);
	code = code ? code : mg_disk_sync_names(log->options.disk, &err);
	if (code) {
		give_up(log, &err);
	}
	log->unsynced = last_segment(log)->number;
}

void mg_changes_log_reset(struct mg_changes_log *log, uint64_t index)
{
	if (log) {
		begin_anew(log, index);
		if (log->options.notify) {
			log->options.notify(log->options.arg);
		}
	}
}

/* ---- a start ---- */

/* The segments that are there, by their names; not yet looked into. */
static void list_segments(struct mg_changes_log *log)
{
	char **names = NULL;
	size_t count = 0;
	struct mg_error ignored;

	if (mg_disk_list(log->options.disk, &names, &count, &ignored)) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		uint32_t shard;
		uint64_t number;

		if (sscanf(names[i], "%" SCNu32 "-%" SCNu64 ".log", &shard, &number) == 2 &&
		    shard == log->options.shard) {
			mg_grow(log->segments, log->count, log->cap);
			log->segments[log->count++] = (struct mg_changes_segment){ .number = number };
		}
	}
	mg_free(names);
}

static bool read_head(struct mg_changes_log *log, struct mg_changes_segment *segment)
{
	uint8_t bytes[MG_CHANGES_HEAD];
	char name[MG_DISK_NAME_MAX];
	struct mg_disk_file *file = NULL;
	struct mg_error ignored;

	mg_changes__name(log, segment->number, name);
	int code = mg_disk_file_open(log->options.disk, name, false, &file, &ignored);

	code = code ? code : mg_disk_file_size(log->options.disk, file, &segment->size, &ignored);
	code = code ? code
	            : mg_disk_file_read(log->options.disk, file, 0, bytes, sizeof bytes, &ignored);
	mg_disk_file_close(log->options.disk, file);
	struct mg_in in = mg_in(bytes, sizeof bytes);
	const uint8_t *word = code ? NULL : mg_in_bytes(&in, sizeof magic);
	bool good = word && memcmp(word, magic, sizeof magic) == 0 && mg_in_u32(&in) == VERSION &&
	            mg_in_u32(&in) == log->options.shard;

	segment->base = good ? mg_in_u64(&in) : 0;
	return good;
}

static void remove_last(struct mg_changes_log *log)
{
	remove_file(log, last_segment(log)->number);
	log->count--;
}

/* From the last segment on back, as long as nothing is missing or broken between. */
static void keep_whole_end(struct mg_changes_log *log)
{
	size_t from = log->count;

	while (from > 0 && read_head(log, &log->segments[from - 1]) &&
	       (from == log->count ||
	        (log->segments[from - 1].number + 1 == log->segments[from].number &&
	         log->segments[from - 1].base <= log->segments[from].base))) {
		from--;
	}
	for (size_t i = 0; i < from; i++) {
		remove_file(log, log->segments[i].number);
	}
	log->count -= from;
	if (from > 0 && log->count > 0) {
		memmove(log->segments, log->segments + from, log->count * sizeof *log->segments);
	}
}

/* Where the last segment is to be cut: behind its last MARK up to index.  *proved: there is one at
 * index or behind it. */
static uint64_t find_cut(struct mg_changes_log *log, uint64_t index, bool *proved)
{
	const struct mg_changes_segment *last = last_segment(log);
	uint8_t frame_bytes[MG_CHANGES_FRAME], *bytes = NULL;
	uint64_t at = MG_CHANGES_HEAD, cut = at;
	char name[MG_DISK_NAME_MAX];
	struct mg_disk *disk = log->options.disk;
	struct mg_disk_file *file = NULL;
	struct mg_changes_record record;
	struct mg_changes_frame frame;
	struct mg_error ignored;

	mg_changes__name(log, last->number, name);
	*proved = *proved || last->base >= index;
	if (mg_disk_file_open(disk, name, false, &file, &ignored)) {
		return 0;
	}
	while (at + MG_CHANGES_FRAME <= last->size &&
	       mg_disk_file_read(disk, file, at, frame_bytes, sizeof frame_bytes, &ignored) == 0 &&
	       mg_changes_frame_decode(frame_bytes, &frame)) {
		size_t size = (size_t)frame.head_size + frame.payload_size;

		mg_free(bytes);
		bytes = mg_try_alloc(size);
		if (!bytes ||
		    mg_disk_file_read(disk, file, at + MG_CHANGES_FRAME, bytes, size, &ignored) ||
		    !mg_changes_record_decode(&frame, bytes, &record)) {
			break;
		}
		at += MG_CHANGES_FRAME + size;
		if (record.kind == MG_CHANGES_MARK) {
			*proved = *proved || record.index >= index;
			cut = record.index <= index ? at : cut;
		}
	}
	mg_free(bytes);
	mg_disk_file_close(disk, file);
	return cut;
}

static bool go_on(struct mg_changes_log *log, uint64_t index)
{
	char name[MG_DISK_NAME_MAX];
	struct mg_error err = { 0 };
	bool proved = false;

	list_segments(log);
	/* One that was begun and got no head, and those of a life whose entries come again. */
	while (log->count && (!read_head(log, last_segment(log)) || last_segment(log)->base > index)) {
		proved = proved || last_segment(log)->base > index;
		remove_last(log);
	}
	keep_whole_end(log);
	if (!log->count) {
		return false;
	}
	uint64_t cut = find_cut(log, index, &proved);

	mg_changes__name(log, last_segment(log)->number, name);
	if (!proved || !cut ||
	    mg_disk_file_open(log->options.disk, name, false, &log->file, &err)) {
		return false;
	}
	log->written = last_segment(log)->size = cut;
	log->unsynced = last_segment(log)->number;
	log->to = index;
	return true;
}

struct mg_changes_log *mg_changes_log_open(const struct mg_changes_log_options *options,
                                           uint64_t index)
{
	struct mg_changes_log *log = mg_alloc0(sizeof *log);

	log->options = *options;
	log->segment_bytes = options->bytes_max / SEGMENTS;
	log->segment_bytes = log->segment_bytes < SEGMENT_MIN   ? SEGMENT_MIN
	                     : log->segment_bytes > SEGMENT_MAX ? SEGMENT_MAX
	                                                        : log->segment_bytes;
	pthread_mutex_init(&log->lock, NULL);
	if (!go_on(log, index)) {
		begin_anew(log, index);
	} else {
		trim(log);
	}
	return log;
}

void mg_changes_log_close(struct mg_changes_log *log)
{
	if (log) {
		close_file(log);
		mg_sb_fini(&log->pending);
		mg_free(log->segments);
		pthread_mutex_destroy(&log->lock);
		mg_free(log);
	}
}

void mg_changes_log_range(struct mg_changes_log *log, uint64_t *after, uint64_t *to)
{
	pthread_mutex_lock(&log->lock);
	*after = log->segments[0].base;
	*to = log->to;
	pthread_mutex_unlock(&log->lock);
}
