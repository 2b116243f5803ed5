/*
 * log_segment.c - files of a log: spares, numbers, what goes and what is rewritten before.
 *
 * Rule: segments go in the order of their numbers, each only when nothing in it counts and what
 * took the last item away is durable.  So whatever a restart reads was written after all that is
 * gone.
 *
 * When the oldest segment still holds a little (a quiet group's state, entries that a slow follower
 * needs) and more than half of all bytes are dead, that little is written again in front.
 */
#include "raft/log_file_int.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define FILL_STEP (1u << 20) /* bytes between two syncs: those of entries wait for one at most */
#define FILL_PAUSE_MAX 64u
#define REWRITE_STEP (1u << 20) /* bytes a turn, so that puts are not held up */
#define MAGIC "MGRAFTL1"

/* ---- segments ---- */

void mg_log__name(char out[MG_DISK_NAME_MAX], uint32_t number)
{
	snprintf(out, MG_DISK_NAME_MAX, "%08" PRIx32 ".log", number);
}

struct mg_log_segment *mg_log__segment(struct mg_log_file *log, uint32_t number)
{
	mg_assert(log->segment_count > 0 && number >= log->segments[0]->number);
	size_t at = number - log->segments[0]->number;

	mg_assert(at < log->segment_count);
	return log->segments[at];
}

struct mg_log_segment *mg_log__add_segment(struct mg_log_file *log, uint32_t number,
                                           uint32_t capacity)
{
	struct mg_log_segment *segment = mg_alloc0(sizeof *segment);

	mg_assert(number > 0 && number < UINT32_MAX);
	*segment = (struct mg_log_segment){
		.number = number, .capacity = capacity, .used = MG_LOG_SEGMENT_HEAD
	};
	mg_grow(log->segments, log->segment_count, log->segment_cap);
	log->segments[log->segment_count++] = segment;
	return segment;
}

void mg_log__count(void *arg, uint32_t number, int items, int64_t bytes)
{
	struct mg_log_file *log = arg;
	struct mg_log_segment *segment = mg_log__segment(log, number);

	segment->items += items;
	segment->bytes += bytes;
	mg_assert(segment->items >= 0 && segment->bytes >= 0);
	if (items < 0 && log->gather) {
		segment->free_after = log->gather->number;
	}
}

static void write_head(uint8_t head[MG_LOG_SEGMENT_HEAD], uint32_t number)
{
	struct mg_out out = mg_out(head, MG_LOG_SEGMENT_HEAD);

	memset(head, 0, MG_LOG_SEGMENT_HEAD);
	mg_out_bytes(&out, MAGIC, 8);
	mg_out_u64(&out, number);
	mg_out_u64(&out, XXH3_64bits(head, out.size));
}

bool mg_log__head_valid(const uint8_t head[MG_LOG_SEGMENT_HEAD], uint32_t number)
{
	uint8_t want[MG_LOG_SEGMENT_HEAD];

	write_head(want, number);
	return memcmp(head, want, sizeof want) == 0;
}

int mg_log__activate(struct mg_log_file *log, struct mg_log_segment *segment, struct mg_error *err)
{
	struct mg_disk *disk = log->options.disk;
	uint8_t head[MG_LOG_SEGMENT_HEAD];
	char name[MG_DISK_NAME_MAX];

	write_head(head, segment->number);
	mg_log__name(name, segment->number);
	int code = mg_disk_file_write(disk, segment->file, 0, head, sizeof head, err);

	code = code ? code : mg_disk_file_sync(disk, segment->file, err);
	code = code ? code : mg_disk_rename(disk, segment->name, name, err);
	code = code ? code : mg_disk_sync_names(disk, err);
	mg_copy_text(segment->name, sizeof segment->name, name);
	return code;
}

/* ---- spares ---- */

bool mg_log__take_spare(struct mg_log_file *log, struct mg_log_segment *segment)
{
	if (!log->spare_count) {
		return false;
	}
	struct mg_log_spare spare = log->spares[--log->spare_count];

	mg_assert(!segment->file && spare.capacity == segment->capacity);
	segment->file = spare.file;
	mg_copy_text(segment->name, sizeof segment->name, spare.name);
	return true;
}

static int fill_new(struct mg_log_fill *fill)
{
	struct mg_disk *disk = fill->log->options.disk;
	uint8_t *zeros = mg_alloc0(FILL_STEP);
	int code = mg_disk_file_open(disk, fill->name, true, &fill->file, &fill->err);

	for (uint32_t at = 0; !code && at < fill->capacity; at += FILL_STEP) {
		uint32_t size = fill->capacity - at < FILL_STEP ? fill->capacity - at : FILL_STEP;

		code = mg_disk_file_write(disk, fill->file, at, zeros, size, &fill->err);
		code = code ? code : mg_disk_file_sync(disk, fill->file, &fill->err);
	}
	mg_free(zeros);
	if (code) {
		/* Half a spare keeps others from the space. */
		mg_disk_file_close(disk, fill->file);
		fill->file = NULL;
		mg_disk_remove(disk, fill->name, NULL);
	}
	return code;
}

static void fill_run(void *arg)
{
	struct mg_log_fill *fill = arg;
	const struct mg_log_file_options *options = &fill->log->options;
	struct mg_disk *disk = options->disk;

	if (fill->from[0]) {
		fill->code = mg_disk_rename(disk, fill->from, fill->name, &fill->err);
		fill->code = fill->code ? fill->code : mg_disk_sync_names(disk, &fill->err);
	} else {
		fill->code = fill_new(fill);
	}
	/* The owner may free the fill as soon as it sees this; the log waits for the lane. */
	atomic_store_explicit(&fill->finished, true, memory_order_release);
	options->notify(options->arg);
}

static void fill_start(struct mg_log_file *log, const char *from, struct mg_disk_file *file)
{
	struct mg_log_fill *fill = mg_alloc0(sizeof *fill);

	mg_assert(!log->fill);
	fill->log = log;
	fill->capacity = log->options.segment_bytes;
	fill->file = file;
	mg_copy_text(fill->from, sizeof fill->from, from);
	snprintf(fill->name, sizeof fill->name, "spare-%08" PRIx32, log->spare_next++);
	log->fill = fill;
	mg_disk_submit(log->options.disk, 1, fill_run, fill);
}

static void fill_take(struct mg_log_file *log)
{
	struct mg_log_fill *fill = log->fill;

	log->fill = NULL;
	if (fill->code) {
		log->fill_pause = log->fill_pause ? log->fill_pause * 2 : 1;
		log->fill_pause = log->fill_pause > FILL_PAUSE_MAX ? FILL_PAUSE_MAX : log->fill_pause;
		log->fill_wait = log->fill_pause;
		log->free_bytes = fill->code == MG_E_DISK_FULL ? 0 : log->free_bytes;
		mg_log(MG_LOG_WARN, "raft.log.spare", "error=\"%s\"", fill->err.message);
		mg_disk_file_close(log->options.disk, fill->file);
	} else {
		struct mg_log_spare *spare = &log->spares[log->spare_count++];

		mg_assert(log->spare_count <= MG_LOG_SPARES_MAX);
		spare->file = fill->file;
		spare->capacity = fill->capacity;
		mg_copy_text(spare->name, sizeof spare->name, fill->name);
		log->fill_pause = 0;
	}
	mg_free(fill);
}

void mg_log__spares_poll(struct mg_log_file *log)
{
	if (log->fill && atomic_load_explicit(&log->fill->finished, memory_order_acquire)) {
		fill_take(log);
	}
	if (!log->fill && !log->spare_count && !log->failed) {
		if (log->fill_wait) {
			log->fill_wait--;
		} else {
			fill_start(log, "", NULL);
		}
	}
}

/* ---- segments that go ---- */

struct removal {
	struct mg_disk *disk;
	struct mg_disk_file *file;
	char name[MG_DISK_NAME_MAX];
};

static void removal_run(void *arg)
{
	struct removal *removal = arg;
	struct mg_error err;

	mg_disk_file_close(removal->disk, removal->file);
	mg_error_clear(&err);
	if (mg_disk_remove(removal->disk, removal->name, &err) ||
	    mg_disk_sync_names(removal->disk, &err)) {
		mg_log(MG_LOG_WARN, "raft.log.remove", "error=\"%s\"", err.message);
	}
	mg_free(removal);
}

static void segment_go(struct mg_log_file *log, struct mg_log_segment *segment)
{
	bool again = !log->fill && log->spare_count < MG_LOG_SPARES_MAX &&
	             segment->capacity == log->options.segment_bytes;

	if (again) {
		fill_start(log, segment->name, segment->file);
	} else {
		struct removal *removal = mg_alloc0(sizeof *removal);

		removal->disk = log->options.disk;
		removal->file = segment->file;
		mg_copy_text(removal->name, sizeof removal->name, segment->name);
		mg_disk_submit(log->options.disk, 1, removal_run, removal);
	}
	mg_free(segment);
}

void mg_log__free_segments(struct mg_log_file *log)
{
	size_t gone = 0;

	/* The last two stay: one may be in the batch that is being written. */
	while (log->segment_count - gone > 2) {
		struct mg_log_segment *oldest = log->segments[gone];

		if (oldest->items || oldest->free_after > log->durable_batch || !oldest->file) {
			break;
		}
		/* Its last records must be durable themselves, or the lane still writes there. */
		bool busy = log->writing && log->writing->piece_count &&
		            log->writing->pieces[0].number <= oldest->number;
		busy = busy || (log->gather->piece_count &&
		                log->gather->pieces[0].number <= oldest->number);
		if (busy) {
			break;
		}
		segment_go(log, oldest);
		gone++;
	}
	if (gone) {
		log->segment_count -= gone;
		memmove(log->segments, log->segments + gone, log->segment_count * sizeof *log->segments);
	}
}

/* ---- rewriting ---- */

static bool rewriting_pays(const struct mg_log_file *log)
{
	uint64_t live = 0, used = 0;

	if (log->segment_count <= MG_LOG_SEGMENTS_KEEP || log->rewrite_off) {
		return false;
	}
	for (size_t i = 0; i < log->segment_count; i++) {
		live += (uint64_t)log->segments[i]->bytes;
		used += log->segments[i]->used;
	}
	return live * 2 < used && log->segments[0]->items > 0;
}

static size_t rewrite_state(struct mg_log_file *log, const struct mg_log_group *group)
{
	struct mg_log_head head;
	uint8_t *payload;

	mg_log_group_state(group, &head, &payload);
	size_t size = mg_log_record_size(head.size);

	mg_log__append(log, &head, payload);
	mg_free(payload);
	return size;
}

/* The entry's bytes in front; 0 when it lies elsewhere. */
static size_t rewrite_entry(struct mg_log_file *log, const struct mg_log_group *group, uint64_t at)
{
	struct mg_log_place place = *mg_log_group_place(group, at);
	struct mg_error err;
	const uint8_t *payload;
	uint8_t *heap = NULL;

	if (place.segment != log->rewriting) {
		return 0;
	}
	mg_error_clear(&err);
	if (mg_log__payload(log, group->id, at, &place, &payload, &heap, &err)) {
		mg_log(MG_LOG_ERROR, "raft.log.rewrite", "group=%u index=%llu error=\"%s\"", group->id,
		       (unsigned long long)at, err.message);
		log->rewrite_off = true;
		return 0;
	}
	struct mg_log_head head = { .size = place.size,
		                        .group = group->id,
		                        .index = at,
		                        .term = place.term,
		                        .kind = MG_LOG_KIND_REWRITE,
		                        .type = place.type };

	mg_log__append(log, &head, payload);
	mg_free(heap);
	return mg_log_record_size(place.size);
}

static bool has_items(const struct mg_log_group *group, uint32_t segment)
{
	bool has = group->hard_state_segment == segment || group->mark_segment == segment;

	for (uint64_t at = group->first; !has && at <= group->last; at++) {
		has = mg_log_group_place(group, at)->segment == segment;
	}
	return has;
}

/* Some of the group that the cursor stands on; true when it has no more. */
static bool rewrite_group(struct mg_log_file *log, const struct mg_log_group *group, size_t *done)
{
	if (!log->rewrite_entry) {
		if (!has_items(group, log->rewriting)) {
			return true;
		}
		*done += rewrite_state(log, group);
		log->rewrite_entry = group->first;
	}
	/* Meanwhile the host may have cut it in front. */
	uint64_t at = log->rewrite_entry < group->first ? group->first : log->rewrite_entry;

	while (at <= group->last && *done < REWRITE_STEP && !log->rewrite_off) {
		*done += rewrite_entry(log, group, at++);
	}
	log->rewrite_entry = at;
	return at > group->last;
}

void mg_log__rewrite(struct mg_log_file *log)
{
	size_t done = 0;

	if (!log->rewriting && rewriting_pays(log)) {
		log->rewriting = log->segments[0]->number;
		log->rewrite_group = 0;
		log->rewrite_entry = 0;
	}
	while (log->rewriting && !log->rewrite_off && done < REWRITE_STEP) {
		const struct mg_log_group *group = mg_log_index_find(&log->index, log->rewrite_group);

		if (!group || rewrite_group(log, group, &done)) {
			log->rewrite_entry = 0;
			log->rewrite_group++;
			log->rewriting = log->rewrite_group < log->index.cap ? log->rewriting : 0;
		}
	}
	log->stats.rewritten += done;
	log->flushed = log->flushed || done > 0;
}
