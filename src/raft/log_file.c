/*
 * log_file.c - see log_file.h.
 *
 * The owner gives each record its place when it is put, and keeps its bytes until they are written
 * and some time longer; the lane of the disk only seals, writes and syncs what it is handed.  So
 * nothing is shared but a batch that changes hands, once each way.
 *
 *     put -> gather --flush--> writing (lane 0) --poll--> cache, done
 *                   waits while another batch is written or a segment has no file yet
 *
 * owner: the raft thread, but for write_run.
 */
#include "raft/log_file_int.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

#define SEGMENT_BYTES (64u << 20)
#define CACHE_BYTES ((size_t)32 << 20)

static struct mg_log_file *file_of(struct mg_raft_log *log)
{
	return (struct mg_log_file *)log;
}

/* ---- batches ---- */

struct mg_log_batch *mg_log__batch_new(struct mg_log_file *log, uint64_t number)
{
	struct mg_log_batch *batch = mg_alloc0(sizeof *batch);

	batch->log = log;
	batch->number = number;
	atomic_init(&batch->finished, false);
	return batch;
}

static void batch_free(struct mg_log_batch *batch)
{
	for (size_t i = 0; batch && i < batch->piece_count; i++) {
		mg_free(batch->pieces[i].bytes);
	}
	if (batch) {
		mg_free(batch->pieces);
		mg_free(batch->waits);
		mg_free(batch);
	}
}

/* The piece at the end of the gathering batch that goes on where the newest segment ends. */
static struct mg_log_piece *end_piece(struct mg_log_file *log, bool fresh)
{
	struct mg_log_segment *segment = log->segments[log->segment_count - 1];
	struct mg_log_batch *batch = log->gather;
	struct mg_log_piece *piece = batch->piece_count ? &batch->pieces[batch->piece_count - 1] : NULL;

	if (!piece || piece->segment != segment) {
		mg_grow(batch->pieces, batch->piece_count, batch->piece_cap);
		piece = &batch->pieces[batch->piece_count++];
		*piece = (struct mg_log_piece){ .segment = segment,
			                            .number = segment->number,
			                            .offset = segment->used,
			                            .fresh = fresh };
	}
	return piece;
}

static void piece_add(struct mg_log_piece *piece, const struct mg_log_head *head,
                      const uint8_t *payload)
{
	size_t size = mg_log_record_size(head->size);

	if (piece->size + size > piece->cap) {
		piece->cap = (piece->size + size) * 2;
		piece->bytes = mg_realloc(piece->bytes, piece->cap);
	}
	mg_log_record_write(piece->bytes + piece->size, head, payload);
	piece->last = piece->size;
	piece->size += size;
	piece->segment->used += (uint32_t)size;
}

/* A record never lies in two segments, and each segment keeps room for its seal. */
static struct mg_log_piece *room_for(struct mg_log_file *log, size_t size)
{
	struct mg_log_segment *segment = log->segments[log->segment_count - 1];

	if ((uint64_t)segment->used + size + MG_LOG_HEAD_SIZE <= segment->capacity) {
		return end_piece(log, segment->used == MG_LOG_SEGMENT_HEAD && !segment->file);
	}
	const struct mg_log_head seal = { .batch = log->gather->number, .kind = MG_LOG_KIND_SEAL };

	piece_add(end_piece(log, segment->used == MG_LOG_SEGMENT_HEAD && !segment->file), &seal, NULL);
	mg_log__add_segment(log, segment->number + 1, log->options.segment_bytes);
	mg_assert(MG_LOG_SEGMENT_HEAD + size + MG_LOG_HEAD_SIZE <= log->options.segment_bytes);
	return end_piece(log, true);
}

void mg_log__append(struct mg_log_file *log, struct mg_log_head *head, const uint8_t *payload)
{
	struct mg_log_piece *piece = room_for(log, mg_log_record_size(head->size));
	uint32_t offset = piece->offset + (uint32_t)piece->size;
	struct mg_error err;

	head->batch = log->gather->number;
	piece_add(piece, head, payload);
	int code = mg_log_index_apply(&log->index, head, payload, piece->number, offset, true, &err);

	mg_assert(code == 0);
}

/* ---- the lane ---- */

static int write_piece(struct mg_log_file *log, struct mg_log_piece *piece, bool end,
                       struct mg_error *err)
{
	struct mg_log_segment *segment = piece->segment;
	int code = piece->fresh ? mg_log__activate(log, segment, err) : 0;
	struct mg_log_head head;

	for (size_t at = 0; at < piece->size; at += mg_log_record_size(head.size)) {
		mg_log_record_head(piece->bytes + at, &head);
		mg_log_record_seal(piece->bytes + at, end && at == piece->last ? MG_LOG_FLAG_END : 0,
		                   piece->number);
	}
	if (!code) {
		code = mg_disk_file_write(log->options.disk, segment->file, piece->offset, piece->bytes,
		                          piece->size, err);
	}
	return code ? code : mg_disk_file_sync(log->options.disk, segment->file, err);
}

static void write_run(void *arg)
{
	struct mg_log_batch *batch = arg;
	struct mg_log_file *log = batch->log;
	int code = 0;

	for (size_t i = 0; !code && i < batch->piece_count; i++) {
		code = write_piece(log, &batch->pieces[i], i + 1 == batch->piece_count, &batch->err);
	}
	batch->code = code;
	batch->free_bytes = mg_disk_free_bytes(log->options.disk);
	/* The owner may free the batch as soon as it sees this; the log waits for the lane. */
	atomic_store_explicit(&batch->finished, true, memory_order_release);
	log->options.notify(log->options.arg);
}

static void start(struct mg_log_file *log)
{
	struct mg_log_batch *batch = log->gather;

	if (log->writing || !log->flushed || !batch->piece_count || log->failed) {
		return;
	}
	for (size_t i = 0; i < batch->piece_count; i++) {
		if (!batch->pieces[i].segment->file && !mg_log__take_spare(log, batch->pieces[i].segment)) {
			return; /* poll comes again when there is a spare */
		}
	}
	log->writing = batch;
	log->gather = mg_log__batch_new(log, batch->number + 1);
	log->flushed = false;
	mg_disk_submit(log->options.disk, 0, write_run, batch);
}

/* ---- the cache of what was written ---- */

static void cache_add(struct mg_log_file *log, struct mg_log_batch *batch)
{
	for (size_t i = 0; i < batch->piece_count; i++) {
		mg_grow(log->cache, log->cache_count, log->cache_cap);
		log->cache[log->cache_count++] = batch->pieces[i];
		log->cache_bytes += batch->pieces[i].cap;
	}
	batch->piece_count = 0;
	size_t gone = 0;

	while (log->cache_bytes > log->options.cache_bytes && gone < log->cache_count) {
		log->cache_bytes -= log->cache[gone].cap;
		mg_free(log->cache[gone].bytes);
		gone++;
	}
	if (gone) {
		log->cache_count -= gone;
		memmove(log->cache, log->cache + gone, log->cache_count * sizeof *log->cache);
	}
}

static bool piece_before(const struct mg_log_piece *piece, uint32_t segment, uint32_t offset)
{
	return piece->number < segment || (piece->number == segment && piece->offset <= offset);
}

/* Pieces are in the order of the log: the last one that does not begin behind the place. */
static const uint8_t *find_in(const struct mg_log_piece *pieces, size_t count, uint32_t segment,
                              uint32_t offset)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (piece_before(&pieces[middle], segment, offset)) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (!low) {
		return NULL;
	}
	const struct mg_log_piece *piece = &pieces[low - 1];

	return piece->number == segment && offset - piece->offset < piece->size
	           ? piece->bytes + (offset - piece->offset)
	           : NULL;
}

static const uint8_t *find_in_memory(struct mg_log_file *log, uint32_t segment, uint32_t offset)
{
	const struct mg_log_batch *batches[] = { log->gather, log->writing };
	const uint8_t *found = find_in(log->cache, log->cache_count, segment, offset);

	for (size_t i = 0; !found && i < 2; i++) {
		if (batches[i]) {
			found = find_in(batches[i]->pieces, batches[i]->piece_count, segment, offset);
		}
	}
	return found;
}

int mg_log__payload(struct mg_log_file *log, uint32_t group, uint64_t index,
                    const struct mg_log_place *place, const uint8_t **payload, uint8_t **heap,
                    struct mg_error *err)
{
	const uint8_t *record = find_in_memory(log, place->segment, place->offset);
	struct mg_log_segment *segment = mg_log__segment(log, place->segment);

	*heap = NULL;
	if (!record) {
		size_t size = mg_log_record_size(place->size);
		struct mg_log_head head;

		*heap = mg_try_alloc(size);
		if (!*heap) {
			return mg_error_set(err, MG_E_NOMEM, "no memory to read %zu bytes of the log", size);
		}
		int code = mg_disk_file_read(log->options.disk, segment->file, place->offset, *heap, size,
		                             err);

		log->stats.reads++;
		if (!code && (!mg_log_record_read(*heap, size, place->segment, &head) ||
		              head.group != group || head.index != index || head.size != place->size)) {
			code = mg_error_set(err, MG_E_CORRUPT,
			                    "entry %llu of group %u is damaged in \"%s\" at byte %u",
			                    (unsigned long long)index, group, segment->name, place->offset);
		}
		if (code) {
			mg_free(*heap);
			*heap = NULL;
			return code;
		}
		record = *heap;
	}
	*payload = record + MG_LOG_HEAD_SIZE;
	return 0;
}

/* ---- the face of the log ---- */

static void put_record(struct mg_log_file *log, uint32_t group,
                       const struct mg_raft_log_record *record)
{
	struct mg_log_head head = { .group = group, .kind = (uint8_t)record->kind };
	const uint8_t *payload = NULL;

	switch (record->kind) {
	case MG_RAFT_LOG_ENTRY:
		mg_assert(record->entry.size <= MG_ENTRY_SIZE_MAX);
		head.index = record->entry.index;
		head.term = record->entry.term;
		head.type = record->entry.type;
		head.size = record->entry.size;
		payload = record->entry.data;
		break;
	case MG_RAFT_LOG_HARD_STATE:
		head.index = record->hard_state.vote;
		head.term = record->hard_state.term;
		break;
	case MG_RAFT_LOG_TRUNCATE:
	case MG_RAFT_LOG_COMPACT:
		head.index = record->index;
		break;
	case MG_RAFT_LOG_SNAPSHOT:
		mg_assert(record->snapshot.manifest_size <= MG_MANIFEST_SIZE_MAX);
		head.index = record->snapshot.index;
		head.term = record->snapshot.term;
		head.size = record->snapshot.manifest_size;
		head.flags = record->snapshot.reset ? MG_LOG_FLAG_RESET : 0;
		payload = record->snapshot.manifest;
		break;
	case MG_RAFT_LOG_REMOVE:
		break;
	}
	mg_log__append(log, &head, payload);
}

static uint64_t log_put(struct mg_raft_log *base, uint32_t group,
                        const struct mg_raft_log_record *records, size_t count,
                        mg_raft_log_done done, void *arg)
{
	struct mg_log_file *log = file_of(base);

	for (size_t i = 0; i < count; i++) {
		put_record(log, group, &records[i]);
	}
	log->sequence++;
	if (done) {
		struct mg_log_batch *batch = log->gather;

		mg_grow(batch->waits, batch->wait_count, batch->wait_cap);
		batch->waits[batch->wait_count++] =
			(struct mg_log_wait){ .done = done, .arg = arg, .sequence = log->sequence };
	}
	return log->sequence;
}

static void log_flush(struct mg_raft_log *base)
{
	struct mg_log_file *log = file_of(base);

	log->flushed = log->flushed || log->gather->piece_count > 0;
	mg_log__spares_poll(log);
	start(log);
}

static void run_waits(struct mg_log_batch *batch, int code)
{
	struct mg_log_wait *waits = batch->waits;
	size_t count = batch->wait_count;

	/* They may put: into another batch, or into this one when it has failed. */
	batch->waits = NULL;
	batch->wait_count = batch->wait_cap = 0;
	for (size_t i = 0; i < count; i++) {
		waits[i].done(waits[i].arg, waits[i].sequence, code);
	}
	mg_free(waits);
}

static void fail(struct mg_log_file *log, const struct mg_log_batch *batch)
{
	mg_log(MG_LOG_ERROR, "raft.log.failed", "error=\"%s\"", batch->err.message);
	log->failed = batch->code;
}

static void log_poll(struct mg_raft_log *base)
{
	struct mg_log_file *log = file_of(base);
	struct mg_log_batch *batch = log->writing;

	mg_log__spares_poll(log);
	if (batch && atomic_load_explicit(&batch->finished, memory_order_acquire)) {
		log->writing = NULL;
		log->free_bytes = batch->free_bytes;
		if (batch->code) {
			fail(log, batch);
		} else {
			log->durable_batch = batch->number;
			log->stats.syncs++;
			for (size_t i = 0; i < batch->piece_count; i++) {
				log->stats.bytes_written += batch->pieces[i].size;
			}
			cache_add(log, batch);
			mg_log__free_segments(log);
			mg_log__rewrite(log);
		}
		/* The next batch is on its way while the owner hears of this one. */
		start(log);
		run_waits(batch, batch->code);
		batch_free(batch);
	} else {
		start(log);
	}
	if (log->failed) {
		run_waits(log->gather, log->failed);
	}
}

static bool log_state(struct mg_raft_log *base, uint32_t id, struct mg_raft_log_state *out)
{
	const struct mg_log_group *group = mg_log_index_find(&file_of(base)->index, id);

	if (!group) {
		return false;
	}
	*out = (struct mg_raft_log_state){ .group = id,
		                               .hard_state = group->hard_state,
		                               .snapshot = group->mark,
		                               .first = group->first,
		                               .last = group->last,
		                               .bytes = group->bytes };
	return true;
}

static bool log_meta(struct mg_raft_log *base, uint32_t id, uint64_t index, struct mg_entry *out)
{
	const struct mg_log_group *group = mg_log_index_find(&file_of(base)->index, id);

	if (!group || index < group->first || index > group->last) {
		return false;
	}
	const struct mg_log_place *place = mg_log_group_place(group, index);

	*out = (struct mg_entry){
		.index = index, .term = place->term, .type = place->type, .size = place->size
	};
	return true;
}

/* How many entries from `from` on fit, and their bytes. */
static size_t measure(const struct mg_log_group *group, uint64_t from, uint64_t to,
                      size_t bytes_max, size_t *bytes)
{
	size_t count = 0;

	*bytes = 0;
	for (uint64_t at = from; at < to && at <= group->last; at++, count++) {
		uint32_t size = mg_log_group_place(group, at)->size;

		if (count && *bytes + size > bytes_max) {
			break;
		}
		*bytes += size;
	}
	return count;
}

static int log_read(struct mg_raft_log *base, uint32_t id, uint64_t from, uint64_t to,
                    size_t bytes_max, struct mg_entries *out, struct mg_error *err)
{
	struct mg_log_file *log = file_of(base);
	const struct mg_log_group *group = mg_log_index_find(&log->index, id);
	size_t bytes = 0;

	*out = (struct mg_entries){ 0 };
	if (!group || from < group->first || from > group->last) {
		return mg_error_set(err, MG_E_NOT_FOUND, "the log has no entry %llu of group %u",
		                    (unsigned long long)from, id);
	}
	size_t count = measure(group, from, to, bytes_max, &bytes);
	uint8_t *memory = mg_try_alloc(count * sizeof *out->entries + bytes + 1);

	if (!memory) {
		return mg_error_set(err, MG_E_NOMEM, "no memory to read %zu bytes of the log", bytes);
	}
	struct mg_entry *entries = (struct mg_entry *)(void *)memory;
	uint8_t *data = memory + count * sizeof *entries;

	for (size_t i = 0; i < count; i++) {
		const struct mg_log_place *place = mg_log_group_place(group, from + i);
		const uint8_t *payload;
		uint8_t *heap;
		int code = mg_log__payload(log, id, from + i, place, &payload, &heap, err);

		if (code) {
			mg_free(memory);
			return code;
		}
		memcpy(data, payload, place->size);
		mg_free(heap);
		entries[i] = (struct mg_entry){ .index = from + i,
			                            .term = place->term,
			                            .type = place->type,
			                            .size = place->size,
			                            .data = data };
		data += place->size;
	}
	*out = (struct mg_entries){ .entries = entries, .count = count, .memory = memory };
	return 0;
}

static void log_release(struct mg_raft_log *base, struct mg_entries *entries)
{
	(void)base;
	mg_free(entries->memory);
	*entries = (struct mg_entries){ 0 };
}

static int log_replay(struct mg_raft_log *base,
                      int (*each)(void *arg, const struct mg_raft_log_state *state,
                                  struct mg_error *err),
                      void *arg, struct mg_error *err)
{
	const struct mg_log_index *index = &file_of(base)->index;
	int code = 0;

	for (size_t i = 0; !code && i < index->cap; i++) {
		struct mg_raft_log_state state;

		if (log_state(base, (uint32_t)i, &state)) {
			code = each(arg, &state, err);
		}
	}
	return code;
}

/* What is ready to be written over, and what the file system has left. */
static uint64_t log_capacity_kib(struct mg_raft_log *base)
{
	const struct mg_log_file *log = file_of(base);
	const struct mg_log_segment *last = log->segments[log->segment_count - 1];
	uint64_t bytes = log->free_bytes + (last->file ? last->capacity - last->used : 0);

	for (size_t i = 0; i < log->spare_count; i++) {
		bytes += log->spares[i].capacity;
	}
	return bytes / 1024;
}

static const struct mg_raft_log_ops file_ops = {
	.put = log_put,
	.flush = log_flush,
	.poll = log_poll,
	.state = log_state,
	.meta = log_meta,
	.read = log_read,
	.release = log_release,
	.replay = log_replay,
	.capacity_kib = log_capacity_kib,
};

/* ---- life ---- */

int mg_log_file_open(struct mg_raft_log **out, const struct mg_log_file_options *options,
                     struct mg_error *err)
{
	struct mg_log_file *log = mg_alloc0(sizeof *log);

	*out = NULL;
	log->base.ops = &file_ops;
	log->options = *options;
	log->options.segment_bytes = options->segment_bytes ? options->segment_bytes : SEGMENT_BYTES;
	log->options.cache_bytes = options->cache_bytes ? options->cache_bytes : CACHE_BYTES;
	mg_assert(log->options.segment_bytes % MG_LOG_ALIGN == 0);
	mg_assert(log->options.segment_bytes >= 4 * MG_LOG_SEGMENT_HEAD);
	log->index.count = mg_log__count;
	log->index.arg = log;
	log->spare_next = 1;
	log->free_bytes = mg_disk_free_bytes(options->disk);
	int code = mg_log__recover(log, err);

	if (code) {
		mg_log_file_close(&log->base);
		return mg_error_wrap(err, "while reading the log");
	}
	mg_log__spares_poll(log);
	*out = &log->base;
	return 0;
}

void mg_log_file_close(struct mg_raft_log *base)
{
	struct mg_log_file *log = file_of(base);

	if (!log) {
		return;
	}
	struct mg_disk *disk = log->options.disk;

	mg_disk_drain(disk);
	if (log->fill) {
		mg_disk_file_close(disk, log->fill->file);
		mg_free(log->fill);
	}
	for (size_t i = 0; i < log->spare_count; i++) {
		mg_disk_file_close(disk, log->spares[i].file);
	}
	for (size_t i = 0; i < log->segment_count; i++) {
		mg_disk_file_close(disk, log->segments[i]->file);
		mg_free(log->segments[i]);
	}
	for (size_t i = 0; i < log->cache_count; i++) {
		mg_free(log->cache[i].bytes);
	}
	batch_free(log->gather);
	batch_free(log->writing);
	mg_free(log->cache);
	mg_free(log->segments);
	mg_log_index_fini(&log->index);
	mg_free(log);
}

void mg_log_file_stats(struct mg_raft_log *base, struct mg_log_file_stats *out)
{
	const struct mg_log_file *log = file_of(base);

	*out = log->stats;
	out->segments = log->segment_count;
	out->spares = log->spare_count;
}
