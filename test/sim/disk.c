/*
 * disk.c - mg_raft_log in memory, with a disk below it that a crash cuts.
 *
 * Rule: `put` is what the node sees; `durable` is what a crash leaves, and changes only by records
 * in the order of their puts.  A crash applies a random prefix of the records that were not synced
 * (a torn one is one that is not there) and then makes `put` a copy of `durable`.
 */
#include "sim.h"

#include "base/assert.h"

#include <string.h>

static struct sim_disk *disk_of(struct mg_raft_log *log)
{
	return (struct sim_disk *)log;
}

/* ---- what records do --------------------------------------------------------------------------
 */

static void entry_drop(struct sim_replica_log *log, struct sim_entry *entry)
{
	log->bytes -= entry->data->size;
	mg_buf_unref(entry->data);
}

static void drop_from(struct sim_replica_log *log, uint64_t index)
{
	while (log->count > 0 && log->first + log->count - 1 >= index) {
		entry_drop(log, &log->entries[--log->count]);
	}
}

static void drop_upto(struct sim_replica_log *log, uint64_t index)
{
	size_t gone = 0;

	while (gone < log->count && log->first + gone <= index) {
		entry_drop(log, &log->entries[gone++]);
	}
	memmove(log->entries, log->entries + gone, (log->count - gone) * sizeof *log->entries);
	log->count -= gone;
	if (index >= log->first) {
		log->first = index + 1;
	}
}

static void replica_clear(struct sim_replica_log *log)
{
	drop_from(log, 0);
	mg_buf_unref(log->mark_data);
	mg_free(log->entries);
	*log = (struct sim_replica_log){ .first = 1 };
}

static void put_snapshot(struct sim_replica_log *log, const struct sim_record *record)
{
	uint64_t last = log->first + log->count - 1;

	bool fits = record->mark.index <= last && record->mark.index + 1 >= log->first;

	mg_assert(record->mark.reset ? record->mark.index >= log->mark.index : fits);
	mg_buf_unref(log->mark_data);
	log->mark = record->mark;
	log->mark_data = mg_buf_ref(record->entry.data);
	log->mark.manifest = log->mark_data->data;
	if (record->mark.reset) {
		drop_from(log, 0);
		log->first = record->mark.index + 1;
	}
}

/* The rules of log.h, asserted. */
static void replica_put(struct sim_replica_log *log, const struct sim_record *record)
{
	uint64_t last = log->first + log->count - 1;

	log->present = record->kind != MG_RAFT_LOG_REMOVE;
	switch (record->kind) {
	case MG_RAFT_LOG_ENTRY:
		mg_assert(record->index == last + 1);
		if (log->count == log->cap) {
			log->cap = log->cap == 0 ? 16 : log->cap * 2;
			log->entries = mg_realloc(log->entries, log->cap * sizeof *log->entries);
		}
		log->entries[log->count] = record->entry;
		log->entries[log->count++].data = mg_buf_ref(record->entry.data);
		log->bytes += record->entry.data->size;
		return;
	case MG_RAFT_LOG_HARD_STATE:
		mg_assert(record->hard_state.term >= log->hard_state.term);
		log->hard_state = record->hard_state;
		return;
	case MG_RAFT_LOG_TRUNCATE:
		mg_assert(record->index >= log->first);
		drop_from(log, record->index);
		return;
	case MG_RAFT_LOG_SNAPSHOT:
		put_snapshot(log, record);
		return;
	case MG_RAFT_LOG_COMPACT:
		mg_assert(record->index <= log->mark.index);
		drop_upto(log, record->index);
		return;
	case MG_RAFT_LOG_REMOVE:
		replica_clear(log);
		return;
	}
	mg_assert(!"a record has one of its kinds");
}

static void replica_copy(struct sim_replica_log *to, const struct sim_replica_log *from)
{
	replica_clear(to);
	*to = *from;
	to->cap = from->count;
	to->entries = from->count > 0 ? mg_alloc(from->count * sizeof *to->entries) : NULL;
	for (size_t i = 0; i < from->count; i++) {
		to->entries[i] = from->entries[i];
		(void)mg_buf_ref(to->entries[i].data);
	}
	if (from->mark_data != NULL) {
		(void)mg_buf_ref(from->mark_data);
	}
}

/* ---- queues -----------------------------------------------------------------------------------
 */

static void records_add(struct sim_records *records, struct sim_record record)
{
	mg_grow(records->list, records->count, records->cap);
	records->list[records->count++] = record;
}

static void records_clear(struct sim_records *records)
{
	for (size_t i = 0; i < records->count; i++) {
		mg_buf_unref(records->list[i].entry.data);
	}
	records->count = 0;
}

static void records_move(struct sim_records *to, struct sim_records *from)
{
	for (size_t i = 0; i < from->count; i++) {
		records_add(to, from->list[i]);
	}
	from->count = 0;
}

static void start_sync(struct sim_disk *disk)
{
	uint64_t delay = 1 + sim_below(8);

	if (disk->syncing.count > 0 || disk->gathered.count == 0 || !disk->flushed) {
		return;
	}
	if (sim_chance(sim.profile.disk_slow)) {
		delay += sim_below(400);
	}
	records_move(&disk->syncing, &disk->gathered);
	disk->flushed = false;
	sim_push((struct sim_event){ .at = sim.now_ms + delay,
	                             .kind = SIM_SYNC,
	                             .node = disk->node,
	                             .life = sim.nodes[disk->node].life });
}

void sim_disk_synced(struct sim_disk *disk)
{
	bool lie = sim.options.skip_fsync && !sim_chance(100);

	if (!lie) {
		for (size_t i = 0; i < disk->lied.count; i++) {
			replica_put(&disk->durable[disk->lied.list[i].group], &disk->lied.list[i]);
		}
		records_clear(&disk->lied);
	}
	for (size_t i = 0; i < disk->syncing.count; i++) {
		struct sim_record *record = &disk->syncing.list[i];

		if (lie) {
			struct sim_record again = *record;

			again.entry.data = record->entry.data == NULL ? NULL : mg_buf_ref(record->entry.data);
			records_add(&disk->lied, again);
		} else {
			replica_put(&disk->durable[record->group], record);
		}
	}
	records_move(&disk->finished, &disk->syncing);
	start_sync(disk);
}

void sim_disk_crash(struct sim_disk *disk)
{
	struct sim_records *lists[] = { &disk->lied, &disk->syncing, &disk->gathered };
	size_t total = disk->lied.count + disk->syncing.count + disk->gathered.count;
	size_t left = sim_below(total + 1);

	for (size_t i = 0; i < 3; i++) {
		for (size_t j = 0; j < lists[i]->count && left > 0; j++, left--) {
			replica_put(&disk->durable[lists[i]->list[j].group], &lists[i]->list[j]);
		}
		records_clear(lists[i]);
	}
	records_clear(&disk->finished);
	disk->flushed = false;
	for (size_t i = 0; i < SIM_GROUPS_MAX; i++) {
		replica_copy(&disk->put[i], &disk->durable[i]);
	}
}

/* ---- mg_raft_log ------------------------------------------------------------------------------
 */

static uint64_t on_put(struct mg_raft_log *log, uint32_t group,
                       const struct mg_raft_log_record *records, size_t count,
                       mg_raft_log_done done, void *arg)
{
	struct sim_disk *disk = disk_of(log);
	uint64_t sequence = ++disk->sequence;

	mg_assert(group < SIM_GROUPS_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct mg_raft_log_record *in = &records[i];
		struct sim_record out = { .group = group,
			                      .kind = in->kind,
			                      .last = i == count - 1,
			                      .done = done,
			                      .arg = arg,
			                      .sequence = sequence };

		switch (in->kind) {
		case MG_RAFT_LOG_ENTRY:
			out.index = in->entry.index;
			out.entry = (struct sim_entry){ .term = in->entry.term,
				                            .type = in->entry.type,
				                            .data = mg_buf_copy(in->entry.data, in->entry.size) };
			break;
		case MG_RAFT_LOG_HARD_STATE:
			out.hard_state = in->hard_state;
			break;
		case MG_RAFT_LOG_SNAPSHOT:
			out.mark = in->snapshot;
			out.entry.data = mg_buf_copy(in->snapshot.manifest, in->snapshot.manifest_size);
			break;
		case MG_RAFT_LOG_TRUNCATE:
		case MG_RAFT_LOG_COMPACT:
			out.index = in->index;
			break;
		case MG_RAFT_LOG_REMOVE:
			break;
		}
		replica_put(&disk->put[group], &out);
		records_add(&disk->gathered, out);
	}
	return sequence;
}

static void on_flush(struct mg_raft_log *log)
{
	struct sim_disk *disk = disk_of(log);

	disk->flushed = disk->gathered.count > 0;
	start_sync(disk);
}

static void on_poll(struct mg_raft_log *log)
{
	struct sim_disk *disk = disk_of(log);
	struct sim_records finished = disk->finished;

	disk->finished = (struct sim_records){ 0 };
	for (size_t i = 0; i < finished.count; i++) {
		struct sim_record *record = &finished.list[i];

		if (record->last && record->done != NULL) {
			record->done(record->arg, record->sequence, 0);
		}
	}
	records_clear(&finished);
	mg_free(finished.list);
}

static bool on_state(struct mg_raft_log *log, uint32_t group, struct mg_raft_log_state *out)
{
	const struct sim_replica_log *replica = &disk_of(log)->put[group];

	if (!replica->present) {
		return false;
	}
	*out = (struct mg_raft_log_state){
		.group = group,
		.hard_state = replica->hard_state,
		.snapshot = replica->mark,
		.first = replica->first,
		.last = replica->first + replica->count - 1,
		.bytes = replica->bytes,
	};
	return true;
}

static bool on_meta(struct mg_raft_log *log, uint32_t group, uint64_t index, struct mg_entry *out)
{
	const struct sim_replica_log *replica = &disk_of(log)->put[group];

	if (index < replica->first || index >= replica->first + replica->count) {
		return false;
	}
	const struct sim_entry *entry = &replica->entries[index - replica->first];

	*out = (struct mg_entry){ .index = index,
		                      .term = entry->term,
		                      .type = entry->type,
		                      .size = (uint32_t)entry->data->size };
	return true;
}

static int on_read(struct mg_raft_log *log, uint32_t group, uint64_t from, uint64_t to,
                   size_t bytes_max, struct mg_entries *out, struct mg_error *err)
{
	const struct sim_replica_log *replica = &disk_of(log)->put[group];
	uint64_t end = replica->first + replica->count;
	size_t bytes = 0;

	*out = (struct mg_entries){ 0 };
	if (from < replica->first || from >= end) {
		return mg_error_set(err, MG_E_NOT_FOUND, "entry %llu is not in the log",
		                    (unsigned long long)from);
	}
	end = to < end ? to : end;
	struct mg_buf **held = mg_alloc((size_t)(end - from) * sizeof *held);

	out->entries = mg_alloc((size_t)(end - from) * sizeof *out->entries);
	out->memory = held;
	for (uint64_t index = from; index < end; index++) {
		const struct sim_entry *entry = &replica->entries[index - replica->first];

		if (out->count > 0 && bytes + entry->data->size > bytes_max) {
			break;
		}
		bytes += entry->data->size;
		held[out->count] = mg_buf_ref(entry->data);
		out->entries[out->count++] = (struct mg_entry){ .index = index,
			                                            .term = entry->term,
			                                            .type = entry->type,
			                                            .size = (uint32_t)entry->data->size,
			                                            .data = entry->data->data };
	}
	return 0;
}

static void on_release(struct mg_raft_log *log, struct mg_entries *entries)
{
	struct mg_buf **held = entries->memory;

	(void)log;
	for (size_t i = 0; i < entries->count; i++) {
		mg_buf_unref(held[i]);
	}
	mg_free(held);
	mg_free(entries->entries);
	*entries = (struct mg_entries){ 0 };
}

static int on_replay(struct mg_raft_log *log,
                     int (*each)(void *arg, const struct mg_raft_log_state *state,
                                 struct mg_error *err),
                     void *arg, struct mg_error *err)
{
	for (uint32_t group = 0; group < SIM_GROUPS_MAX; group++) {
		struct mg_raft_log_state state;
		int rc = on_state(log, group, &state) ? each(arg, &state, err) : 0;

		if (rc != 0) {
			return rc;
		}
	}
	return 0;
}

static uint64_t on_capacity(struct mg_raft_log *log)
{
	(void)log;
	return 1u << 20;
}

void sim_disk_init(struct sim_disk *disk, uint32_t node)
{
	static const struct mg_raft_log_ops ops = {
		.put = on_put,
		.flush = on_flush,
		.poll = on_poll,
		.state = on_state,
		.meta = on_meta,
		.read = on_read,
		.release = on_release,
		.replay = on_replay,
		.capacity_kib = on_capacity,
	};

	*disk = (struct sim_disk){ .base.ops = &ops, .node = node };
	for (size_t i = 0; i < SIM_GROUPS_MAX; i++) {
		disk->put[i].first = disk->durable[i].first = 1;
	}
}

void sim_disk_fini(struct sim_disk *disk)
{
	struct sim_records *lists[] = { &disk->lied, &disk->syncing, &disk->gathered, &disk->finished };

	for (size_t i = 0; i < SIM_GROUPS_MAX; i++) {
		replica_clear(&disk->put[i]);
		replica_clear(&disk->durable[i]);
	}
	for (size_t i = 0; i < 4; i++) {
		records_clear(lists[i]);
		mg_free(lists[i]->list);
	}
}
