/*
 * The node's log on files, over a disk that forgets.  A model keeps what was put, put by put; after
 * any crash the log must hold the model's state after some number of puts, at least all whose done
 * has run.
 */
#include "base/mem.h"
#include "os/disk.h"
#include "os/file.h"
#include "raft/log_file.h"
#include "raft/log_record.h"
#include "sim/sim_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GROUPS 4
#define ENTRIES 4096
#define SEGMENT (64u * 1024)

/* ---- the model ---- */

struct model_entry {
	uint64_t term;
	uint32_t size, seed;
};

struct model {
	bool used;
	struct mg_hard_state hard_state;
	uint64_t mark_index, mark_term;
	uint32_t mark_seed;
	uint64_t first, last;
	struct model_entry entries[ENTRIES]; /* by index % ENTRIES */
};

struct put {
	uint32_t group;
	struct mg_raft_log_record record;
	uint32_t seed; /* of its bytes */
};

struct bed {
	struct sim_disk *disk;
	struct mg_raft_log *log;
	uint64_t random;
	struct put *puts;
	size_t put_count, put_cap;
	uint64_t base;    /* puts that happened before the last start */
	uint64_t durable; /* puts whose done has run */
	int failed;
};

static uint64_t chance(struct bed *bed, uint64_t below)
{
	bed->random = bed->random * 6364136223846793005u + 1442695040888963407u;
	return (bed->random >> 33) % below;
}

static void fill(uint8_t *bytes, uint32_t size, uint32_t seed)
{
	for (uint32_t i = 0; i < size; i++) {
		bytes[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
	}
}

static void model_apply(struct model *groups, const struct put *put)
{
	struct model *model = &groups[put->group];
	const struct mg_raft_log_record *record = &put->record;

	if (!model->used) {
		memset(model, 0, sizeof *model);
		model->used = true;
		model->first = 1;
	}
	switch (record->kind) {
	case MG_RAFT_LOG_ENTRY:
		model->last = record->entry.index;
		model->entries[model->last % ENTRIES] =
			(struct model_entry){ record->entry.term, record->entry.size, put->seed };
		break;
	case MG_RAFT_LOG_HARD_STATE:
		model->hard_state = record->hard_state;
		break;
	case MG_RAFT_LOG_TRUNCATE:
		if (record->index <= model->last) {
			model->last = record->index - 1;
		}
		break;
	case MG_RAFT_LOG_SNAPSHOT:
		model->mark_index = record->snapshot.index;
		model->mark_term = record->snapshot.term;
		model->mark_seed = put->seed;
		if (record->snapshot.reset) {
			model->first = record->snapshot.index + 1;
			model->last = record->snapshot.index;
		}
		break;
	case MG_RAFT_LOG_COMPACT:
		if (record->index >= model->first) {
			model->first = record->index + 1;
			model->last = model->last < record->index ? record->index : model->last;
		}
		break;
	case MG_RAFT_LOG_REMOVE:
		model->used = false;
		break;
	}
}

/* ---- the log beside it ---- */

static void on_notify(void *arg)
{
	(void)arg;
}

static void on_done(void *arg, uint64_t sequence, int error)
{
	struct bed *bed = arg;

	if (error) {
		bed->failed = error;
		return;
	}
	assert_int_equal(bed->base + sequence, bed->durable + 1);
	bed->durable = bed->base + sequence;
}

static int try_open(struct bed *bed, struct mg_error *err)
{
	const struct mg_log_file_options options = { .disk = sim_disk_face(bed->disk),
		                                         .segment_bytes = SEGMENT,
		                                         .cache_bytes = 8192,
		                                         .notify = on_notify };

	mg_error_clear(err);
	return mg_log_file_open(&bed->log, &options, err);
}

static void open_log(struct bed *bed)
{
	struct mg_error err;
	int code = try_open(bed, &err);

	if (code) {
		print_message("open: %s\n", err.message);
	}
	assert_int_equal(code, 0);
}

static void bed_init(struct bed *bed, uint64_t seed)
{
	memset(bed, 0, sizeof *bed);
	bed->disk = sim_disk_new(seed);
	bed->random = seed;
	open_log(bed);
}

static void bed_fini(struct bed *bed)
{
	mg_log_file_close(bed->log);
	assert_int_equal(sim_disk_open_files(bed->disk), 0);
	sim_disk_free(bed->disk);
	mg_free(bed->puts);
}

static void put(struct bed *bed, uint32_t group, struct mg_raft_log_record record, uint32_t size)
{
	struct put *kept;
	uint8_t *bytes = mg_alloc(size + 1);
	uint32_t seed = (uint32_t)bed->put_count;

	fill(bytes, size, seed);
	if (record.kind == MG_RAFT_LOG_ENTRY) {
		record.entry.data = bytes;
		record.entry.size = size;
	} else if (record.kind == MG_RAFT_LOG_SNAPSHOT) {
		record.snapshot.manifest = bytes;
		record.snapshot.manifest_size = size;
	}
	mg_raft_log_put(bed->log, group, &record, 1, on_done, bed);
	mg_free(bytes);
	mg_grow(bed->puts, bed->put_count, bed->put_cap);
	kept = &bed->puts[bed->put_count++];
	*kept = (struct put){ .group = group, .record = record, .seed = seed };
}

static void put_entry(struct bed *bed, uint32_t group, uint64_t term, uint32_t size)
{
	struct mg_raft_log_state state = { .first = 1, .last = 0 };

	mg_raft_log_state(bed->log, group, &state);
	put(bed, group,
	    (struct mg_raft_log_record){
			.kind = MG_RAFT_LOG_ENTRY,
			.entry = { .index = state.last + 1, .term = term, .type = MG_ENTRY_COMMAND } },
	    size);
}

/* Flush and let the disk work until all is durable. */
static void settle(struct bed *bed)
{
	bool more = true;

	while (more && !bed->failed) {
		mg_raft_log_flush(bed->log);
		more = sim_disk_step(bed->disk, 1);
		more = sim_disk_step(bed->disk, 0) || more;
		mg_raft_log_poll(bed->log);
	}
}

static void check_entries(struct bed *bed, uint32_t group, const struct model *model)
{
	for (uint64_t at = model->first; at <= model->last;) {
		struct mg_entries read;
		struct mg_error err;
		int code = mg_raft_log_read(bed->log, group, at, model->last + 1, 4000, &read, &err);

		assert_int_equal(code, 0);
		assert_true(read.count > 0);
		for (size_t i = 0; i < read.count; i++, at++) {
			const struct model_entry *want = &model->entries[at % ENTRIES];
			uint8_t *bytes = mg_alloc(want->size + 1);
			struct mg_entry meta;

			assert_int_equal(read.entries[i].index, at);
			assert_int_equal(read.entries[i].term, want->term);
			assert_int_equal(read.entries[i].size, want->size);
			fill(bytes, want->size, want->seed);
			assert_memory_equal(bytes, read.entries[i].data, want->size);
			mg_free(bytes);
			assert_true(mg_raft_log_meta(bed->log, group, at, &meta));
			assert_int_equal(meta.term, want->term);
		}
		mg_raft_log_release(bed->log, &read);
	}
}

static bool same_state(struct bed *bed, const struct model *groups)
{
	for (uint32_t i = 0; i < GROUPS; i++) {
		const struct model *model = &groups[i];
		struct mg_raft_log_state state;
		bool there = mg_raft_log_state(bed->log, i, &state);
		struct mg_entry meta;

		if (there != model->used) {
			return false;
		}
		if (there &&
		    (state.first != model->first || state.last != model->last ||
		     state.hard_state.term != model->hard_state.term ||
		     state.hard_state.vote != model->hard_state.vote ||
		     state.snapshot.index != model->mark_index ||
		     state.snapshot.term != model->mark_term)) {
			return false;
		}
		for (uint64_t at = model->first; there && at <= model->last; at++) {
			if (!mg_raft_log_meta(bed->log, i, at, &meta) ||
			    meta.term != model->entries[at % ENTRIES].term ||
			    meta.size != model->entries[at % ENTRIES].size) {
				return false;
			}
		}
	}
	return true;
}

struct replay {
	struct bed *bed;
	uint32_t next, count;
};

static int on_replay(void *arg, const struct mg_raft_log_state *state, struct mg_error *err)
{
	struct replay *replay = arg;
	struct mg_raft_log_state same;

	(void)err;
	assert_true(state->group >= replay->next);
	assert_true(mg_raft_log_state(replay->bed->log, state->group, &same));
	assert_int_equal(state->last, same.last);
	replay->next = state->group + 1;
	replay->count++;
	return 0;
}

static void check_replay(struct bed *bed, const struct model *groups)
{
	struct replay replay = { .bed = bed };
	struct mg_error err;
	uint32_t used = 0;

	for (uint32_t i = 0; i < GROUPS; i++) {
		used += groups[i].used;
	}
	assert_int_equal(mg_raft_log_replay(bed->log, on_replay, &replay, &err), 0);
	assert_int_equal(replay.count, used);
}

static void check_all(struct bed *bed, const struct model *groups)
{
	check_replay(bed, groups);
	for (uint32_t i = 0; i < GROUPS; i++) {
		struct mg_raft_log_state state;

		if (!groups[i].used) {
			continue;
		}
		assert_true(mg_raft_log_state(bed->log, i, &state));
		check_entries(bed, i, &groups[i]);
		if (groups[i].mark_index) {
			uint8_t *bytes = mg_alloc(state.snapshot.manifest_size + 1);

			fill(bytes, state.snapshot.manifest_size, groups[i].mark_seed);
			assert_memory_equal(bytes, state.snapshot.manifest, state.snapshot.manifest_size);
			mg_free(bytes);
		}
	}
}

/* The log must be the model after k puts, durable <= k <= all; then the other puts never were. */
static void check_prefix(struct bed *bed)
{
	struct model *groups = calloc(GROUPS, sizeof *groups);
	size_t k = 0;
	bool found = false;

	for (; k < bed->durable; k++) {
		model_apply(groups, &bed->puts[k]);
	}
	while (!(found = same_state(bed, groups)) && k < bed->put_count) {
		model_apply(groups, &bed->puts[k++]);
	}
	/* Records that change nothing make two prefixes alike: any of them is right. */
	assert_true(found);
	check_all(bed, groups);
	bed->put_count = k;
	bed->base = bed->durable = k;
	free(groups);
}

static void restart(struct bed *bed, bool power_loss)
{
	mg_log_file_close(bed->log);
	bed->log = NULL;
	assert_int_equal(sim_disk_open_files(bed->disk), 0);
	if (power_loss) {
		sim_disk_crash(bed->disk);
	} else {
		sim_disk_kill(bed->disk);
	}
	bed->failed = 0;
	open_log(bed);
	check_prefix(bed);
}

/* ---- one random step ---- */

static void random_put(struct bed *bed)
{
	uint32_t group = (uint32_t)chance(bed, GROUPS);
	struct mg_raft_log_state state = { .first = 1, .last = 0 };
	bool there = mg_raft_log_state(bed->log, group, &state);
	uint64_t live = state.last + 1 - state.first;
	uint64_t term = bed->put_count + 1; /* each its own: then equal states are the same puts */
	uint64_t what = chance(bed, 100);

	if (what < 70 && live < ENTRIES - 1) {
		put_entry(bed, group, term, (uint32_t)chance(bed, chance(bed, 10) ? 300 : 9000));
	} else if (what < 76) {
		put(bed, group,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_HARD_STATE,
		                                 .hard_state = { term, chance(bed, 5) } },
		    0);
	} else if (what < 80 && live) {
		put(bed, group,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_TRUNCATE,
		                                 .index = state.last - chance(bed, live < 9 ? live : 9) },
		    0);
	} else if (what < 88 && live) {
		uint64_t index = state.first + chance(bed, live);

		put(bed, group,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_SNAPSHOT,
		                                 .snapshot = { .index = index, .term = term } },
		    (uint32_t)chance(bed, 500));
	} else if (what < 90) {
		put(bed, group,
		    (struct mg_raft_log_record){
				.kind = MG_RAFT_LOG_SNAPSHOT,
				.snapshot = { .index = state.last + chance(bed, 20) + 1,
				              .term = term,
				              .reset = true } },
		    (uint32_t)chance(bed, 500));
	} else if (what < 99 && there && state.snapshot.index) {
		put(bed, group,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_COMPACT,
		                                 .index = state.snapshot.index - chance(bed, 2) },
		    0);
	} else if (there && chance(bed, 20) == 0) {
		put(bed, group, (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_REMOVE }, 0);
	}
}

static void random_step(struct bed *bed)
{
	switch (chance(bed, 8)) {
	case 0:
		mg_raft_log_flush(bed->log);
		break;
	case 1:
		sim_disk_step(bed->disk, 0);
		break;
	case 2:
		sim_disk_step(bed->disk, 1);
		break;
	case 3:
		mg_raft_log_poll(bed->log);
		break;
	default:
		random_put(bed);
		break;
	}
}

/* ---- tests ---- */

static void test_what_is_durable_survives_and_what_is_not_goes(void **state)
{
	struct bed bed;

	(void)state;
	bed_init(&bed, 1);
	put(&bed, 2,
	    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_HARD_STATE, .hard_state = { 3, 1 } }, 0);
	for (int i = 0; i < 10; i++) {
		put_entry(&bed, 2, 3, 100);
	}
	settle(&bed);
	assert_int_equal(bed.durable, 11);
	put_entry(&bed, 2, 3, 100); /* never flushed */
	restart(&bed, false);
	assert_int_equal(bed.put_count, 11);
	bed_fini(&bed);
}

static void test_a_put_waits_for_the_flush_and_shares_its_sync(void **state)
{
	struct bed bed;
	struct mg_log_file_stats stats;

	(void)state;
	bed_init(&bed, 2);
	put_entry(&bed, 0, 1, 10);
	mg_raft_log_poll(bed.log);
	assert_false(sim_disk_step(bed.disk, 0));
	put_entry(&bed, 1, 1, 10);
	put_entry(&bed, 3, 1, 10);
	settle(&bed);
	assert_int_equal(bed.durable, 3);
	mg_log_file_stats(bed.log, &stats);
	assert_int_equal(stats.syncs, 1);
	bed_fini(&bed);
}

static void test_any_crash_leaves_a_prefix(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct bed bed;

		bed_init(&bed, seed);
		for (int life = 0; life < 8; life++) {
			int steps = (int)chance(&bed, 600);

			if (chance(&bed, 2)) {
				sim_disk_die_after(bed.disk, chance(&bed, 200));
			}
			for (int i = 0; i < steps && !bed.failed; i++) {
				random_step(&bed);
			}
			restart(&bed, chance(&bed, 2));
		}
		bed_fini(&bed);
	}
}

/* The checker bites: a disk that only says that it has synced loses what was acknowledged. */
static void test_a_disk_that_lies_is_seen(void **state)
{
	bool lost = false;

	(void)state;
	for (uint64_t seed = 1; seed <= 20 && !lost; seed++) {
		struct bed bed;
		struct mg_error err;
		struct mg_raft_log_state group = { 0 };

		bed_init(&bed, seed);
		settle(&bed);
		put_entry(&bed, 0, 1, 100);
		settle(&bed);
		sim_disk_lie(bed.disk, true);
		for (int i = 0; i < 20; i++) {
			put_entry(&bed, 0, 1, 2000);
		}
		settle(&bed);
		assert_int_equal(bed.durable, 21);
		mg_log_file_close(bed.log);
		bed.log = NULL;
		sim_disk_crash(bed.disk);
		sim_disk_lie(bed.disk, false);
		lost = try_open(&bed, &err) != 0 || !mg_raft_log_state(bed.log, 0, &group) ||
		       group.last < 21;
		mg_log_file_close(bed.log);
		sim_disk_free(bed.disk);
		mg_free(bed.puts);
	}
	assert_true(lost);
}

static void test_segments_go_when_nothing_in_them_counts(void **state)
{
	struct bed bed;
	struct mg_log_file_stats stats;

	(void)state;
	bed_init(&bed, 4);
	for (int round = 0; round < 200; round++) {
		struct mg_raft_log_state group;

		for (int i = 0; i < 10; i++) {
			put_entry(&bed, 0, 1, 1000);
		}
		mg_raft_log_state(bed.log, 0, &group);
		put(&bed, 0,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_SNAPSHOT,
		                                 .snapshot = { .index = group.last, .term = 1 } },
		    50);
		put(&bed, 0,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_COMPACT, .index = group.last }, 0);
		settle(&bed);
	}
	mg_log_file_stats(bed.log, &stats);
	assert_true(stats.bytes_written > 30 * SEGMENT);
	assert_true(stats.segments <= 4);
	assert_int_equal(stats.rewritten, 0);
	restart(&bed, true);
	bed_fini(&bed);
}

/* A quiet group keeps three entries and its state in the first segment for ever. */
static void test_a_quiet_group_does_not_keep_old_segments(void **state)
{
	struct bed bed;
	struct mg_log_file_stats stats;

	(void)state;
	bed_init(&bed, 5);
	put(&bed, 3,
	    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_HARD_STATE, .hard_state = { 9, 2 } }, 0);
	for (int i = 0; i < 3; i++) {
		put_entry(&bed, 3, 9, 200);
	}
	for (int round = 0; round < 300; round++) {
		struct mg_raft_log_state group;

		for (int i = 0; i < 10; i++) {
			put_entry(&bed, 0, 1, 1000);
		}
		mg_raft_log_state(bed.log, 0, &group);
		put(&bed, 0,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_SNAPSHOT,
		                                 .snapshot = { .index = group.last, .term = 1 } },
		    50);
		put(&bed, 0,
		    (struct mg_raft_log_record){ .kind = MG_RAFT_LOG_COMPACT, .index = group.last }, 0);
		settle(&bed);
		if (round % 40 == 39) {
			restart(&bed, round % 80 == 79);
		}
	}
	mg_log_file_stats(bed.log, &stats);
	assert_true(stats.segments <= 7);
	restart(&bed, true);
	bed_fini(&bed);
}

static void test_damage_is_told_and_a_torn_end_is_cut(void **state)
{
	struct mg_error err;
	int corrupt = 0, cut = 0;

	(void)state;
	for (uint64_t offset = 4096; offset < 4096 + 12000; offset += 531) {
		struct bed bed;

		bed_init(&bed, 6);
		for (int i = 0; i < 10; i++) {
			put_entry(&bed, 0, 1, 1000);
			settle(&bed);
		}
		mg_log_file_close(bed.log);
		bed.log = NULL;
		assert_true(sim_disk_flip(bed.disk, "00000001.log", offset));
		int code = try_open(&bed, &err);

		corrupt += code == MG_E_CORRUPT;
		if (code) {
			assert_int_equal(code, MG_E_CORRUPT);
			assert_non_null(strstr(err.message, "segment 1 at byte"));
		} else {
			struct mg_raft_log_state group;

			/* Behind the end, in a pad, or the last batch, which looks torn. */
			assert_true(mg_raft_log_state(bed.log, 0, &group));
			assert_true(group.last >= 9);
			cut += group.last == 9;
		}
		mg_log_file_close(bed.log);
		sim_disk_free(bed.disk);
		mg_free(bed.puts);
	}
	assert_true(corrupt >= 15);
	assert_true(cut >= 1);
}

static void test_a_missing_segment_is_told(void **state)
{
	struct bed bed;
	struct mg_error err;

	(void)state;
	bed_init(&bed, 7);
	for (int i = 0; i < 200; i++) {
		put_entry(&bed, 0, 1, 1000);
	}
	settle(&bed);
	mg_log_file_close(bed.log);
	bed.log = NULL;
	assert_int_equal(mg_disk_remove(sim_disk_face(bed.disk), "00000002.log", NULL), 0);
	assert_int_equal(try_open(&bed, &err), MG_E_CORRUPT);
	sim_disk_free(bed.disk);
	mg_free(bed.puts);
}

static void test_an_entry_that_rots_on_the_disk_is_told(void **state)
{
	struct bed bed;
	struct mg_error err;
	struct mg_entries read;

	(void)state;
	bed_init(&bed, 8);
	for (int i = 0; i < 40; i++) {
		put_entry(&bed, 0, 1, 1000);
		settle(&bed);
	}
	assert_true(sim_disk_flip(bed.disk, "00000001.log", 4096 + 100));
	assert_int_equal(mg_raft_log_read(bed.log, 0, 1, 2, 4000, &read, &err), MG_E_CORRUPT);
	assert_non_null(strstr(err.message, "entry 1 of group 0"));
	assert_int_equal(mg_raft_log_read(bed.log, 0, 40, 41, 4000, &read, &err), 0);
	mg_raft_log_release(bed.log, &read);
	bed_fini(&bed);
}

static void test_a_full_disk_shows_before_a_write_fails(void **state)
{
	struct bed bed;

	(void)state;
	bed_init(&bed, 9);
	put_entry(&bed, 0, 1, 100);
	settle(&bed);
	uint64_t before = mg_raft_log_capacity_kib(bed.log);

	sim_disk_limit(bed.disk, 3 * SEGMENT);
	for (int i = 0; i < 400; i++) {
		put_entry(&bed, 0, 1, 1000);
		mg_raft_log_flush(bed.log);
		sim_disk_step(bed.disk, 1);
		sim_disk_step(bed.disk, 0);
		mg_raft_log_poll(bed.log);
	}
	/* What has room is durable, the rest waits; nothing failed, nothing is lost. */
	assert_int_equal(bed.failed, 0);
	assert_true(bed.durable > 100 && bed.durable < 200);
	assert_true(mg_raft_log_capacity_kib(bed.log) < 64 && before > 1000000);
	sim_disk_limit(bed.disk, 0);
	for (int i = 0; i < 100; i++) {
		settle(&bed);
	}
	assert_int_equal(bed.durable, 401);
	restart(&bed, true);
	bed_fini(&bed);
}

static void test_a_failed_sync_fails_the_log_for_good(void **state)
{
	struct bed bed;

	(void)state;
	bed_init(&bed, 10);
	put_entry(&bed, 0, 1, 100);
	settle(&bed);
	sim_disk_die_after(bed.disk, 1); /* the write, not the sync */
	put_entry(&bed, 0, 1, 100);
	settle(&bed);
	assert_int_equal(bed.failed, MG_E_IO);
	assert_int_equal(bed.durable, 1);
	bed.failed = 0;
	put_entry(&bed, 0, 1, 100);
	mg_raft_log_flush(bed.log);
	mg_raft_log_poll(bed.log);
	assert_int_equal(bed.failed, MG_E_IO);
	restart(&bed, true);
	bed_fini(&bed);
}

/* ---- the real disk and its threads ---- */

struct count {
	uint64_t done;
};

static void on_real_done(void *arg, uint64_t sequence, int error)
{
	struct count *count = arg;

	assert_int_equal(error, 0);
	count->done = sequence;
}

static void test_the_real_disk_with_its_threads(void **state)
{
	char path[] = "/tmp/mg-raft-log-XXXXXX";
	struct mg_error err;

	(void)state;
	assert_non_null(mkdtemp(path));
	for (int life = 0; life < 3; life++) {
		struct mg_disk *disk = NULL;
		struct mg_raft_log *log = NULL;
		struct count count = { 0 };
		struct mg_raft_log_state group = { .last = 0 };

		assert_int_equal(mg_disk_open(&disk, path, &err), 0);
		const struct mg_log_file_options options = {
			.disk = disk, .segment_bytes = 256 * 1024, .notify = on_notify
		};

		assert_int_equal(mg_log_file_open(&log, &options, &err), 0);
		mg_raft_log_state(log, 1, &group);
		assert_int_equal(group.last, (uint64_t)life * 3000);
		uint8_t bytes[200];

		for (uint64_t i = 1; i <= 3000; i++) {
			fill(bytes, sizeof bytes, (uint32_t)i);
			const struct mg_raft_log_record record = {
				.kind = MG_RAFT_LOG_ENTRY,
				.entry = { .index = group.last + i, .term = 1, .type = 1, .size = sizeof bytes,
				           .data = bytes }
			};

			mg_raft_log_put(log, 1, &record, 1, on_real_done, &count);
			if (i % 7 == 0) {
				mg_raft_log_flush(log);
				mg_raft_log_poll(log);
			}
		}
		while (count.done < 3000) {
			mg_raft_log_flush(log);
			mg_raft_log_poll(log);
			usleep(100);
		}
		mg_log_file_close(log);
		mg_disk_close(disk);
	}
	assert_int_equal(mg_tree_remove(path, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_durable_survives_and_what_is_not_goes),
		cmocka_unit_test(test_a_put_waits_for_the_flush_and_shares_its_sync),
		cmocka_unit_test(test_any_crash_leaves_a_prefix),
		cmocka_unit_test(test_a_disk_that_lies_is_seen),
		cmocka_unit_test(test_segments_go_when_nothing_in_them_counts),
		cmocka_unit_test(test_a_quiet_group_does_not_keep_old_segments),
		cmocka_unit_test(test_damage_is_told_and_a_torn_end_is_cut),
		cmocka_unit_test(test_a_missing_segment_is_told),
		cmocka_unit_test(test_an_entry_that_rots_on_the_disk_is_told),
		cmocka_unit_test(test_a_full_disk_shows_before_a_write_fails),
		cmocka_unit_test(test_a_failed_sync_fails_the_log_for_good),
		cmocka_unit_test(test_the_real_disk_with_its_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
