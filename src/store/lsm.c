/* lsm.c - see lsm.h. */
#include "store/lsm.h"

#include "base/assert.h"
#include "base/mem.h"
#include "os/file.h"
#include "store/lsm_cache.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMTABLE_BYTES (16u << 20)
#define MEMTABLE_BLOOM 0.02 /* of it: a filter of the keys in it */
#define CACHE_BYTES (32u << 20)
#define VALUES_BYTES (32u << 20)
#define FLUSH_ROOM_BYTES (32u << 20) /* free on the disk, or it is not tried */
enum {
	BLOOM_BITS = 10, /* a key: 1 % of those that are not there are looked for */
	BLOCK_BYTES = 8192,
	OPEN_FILES_MAX = 256,
	JOBS = 2,
	BATCH_BYTES = 4096, /* to begin with */
	PREFIX_MAX = 64,
	GET_MAX = 64, /* keys that are looked up at once */
};

struct mg_lsm {
	char *dir;
	rocksdb_t *db;
	rocksdb_column_family_handle_t *family; /* the only one */
	rocksdb_options_t *options;
	rocksdb_block_based_table_options_t *table;
	rocksdb_cache_t *cache;
	struct mg_lsm_cache *values;
	rocksdb_readoptions_t *read;
	rocksdb_writeoptions_t *write, *write_now;
};

struct mg_lsm_batch {
	struct mg_lsm *lsm;
	rocksdb_writebatch_wi_t *batch;
	uint64_t *changed; /* hashes of keys; some may have gone back */
	size_t changed_count, changed_cap;
};

struct mg_lsm_iter {
	rocksdb_iterator_t *iter;
	rocksdb_readoptions_t *read;
	struct mg_str end; /* the options point to it; owned */
	bool begun;
};

struct mg_lsm_view {
	struct mg_lsm *lsm;
	const rocksdb_snapshot_t *snapshot;
};

const char *mg_lsm_version(void)
{
	return MG_ROCKSDB_VERSION;
}

/* ---- errors ---- */

/* RocksDB tells them as text that begins with their kind. */
static int tell(struct mg_error *err, char *text)
{
	static const struct {
		const char *begin;
		enum mg_code code;
	} kinds[] = {
		{ "Corruption", MG_E_CORRUPT },
		{ "Result incomplete", MG_E_BUSY },
		{ "Resource busy", MG_E_BUSY },
		{ "Not implemented", MG_E_UNSUPPORTED },
	};
	enum mg_code code = strstr(text, "No space left") ? MG_E_DISK_FULL : MG_E_IO;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (strncmp(text, kinds[i].begin, strlen(kinds[i].begin)) == 0) {
			code = kinds[i].code;
		}
	}
	mg_error_set(err, code, "keys and values: %.300s", text);
	rocksdb_free(text);
	return code;
}

/* ---- life ---- */

/* Closing does not flush by itself: see mg_lsm_flush. */
static rocksdb_options_t *new_options(void)
{
	rocksdb_options_t *plain = rocksdb_options_create(), *options = rocksdb_options_create();
	char *text = NULL;

	rocksdb_get_options_from_string(plain, "avoid_flush_during_shutdown=true", options, &text);
	mg_assert(!text);
	rocksdb_options_destroy(plain);
	return options;
}

static void set_options(struct mg_lsm *lsm, const struct mg_lsm_options *options)
{
	size_t memtable = options->memtable_bytes ? options->memtable_bytes : MEMTABLE_BYTES;
	size_t cache = options->cache_bytes ? options->cache_bytes : CACHE_BYTES;

	lsm->cache = rocksdb_cache_create_lru(cache);
	lsm->table = rocksdb_block_based_options_create();
	rocksdb_block_based_options_set_block_cache(lsm->table, lsm->cache);
	rocksdb_block_based_options_set_block_size(lsm->table, BLOCK_BYTES);
	rocksdb_block_based_options_set_filter_policy(lsm->table,
	                                              rocksdb_filterpolicy_create_bloom(BLOOM_BITS));
	/* Indexes and filters count as blocks, so that millions of keys cost no more than the cache. */
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(lsm->table, 1);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(lsm->table, 1);
	lsm->options = new_options();
	rocksdb_options_set_create_if_missing(lsm->options, 1);
	rocksdb_options_set_block_based_table_factory(lsm->options, lsm->table);
	rocksdb_options_set_write_buffer_size(lsm->options, memtable);
	rocksdb_options_set_max_write_buffer_number(lsm->options, 4);
	rocksdb_options_set_memtable_prefix_bloom_size_ratio(lsm->options, MEMTABLE_BLOOM);
	rocksdb_options_set_memtable_whole_key_filtering(lsm->options, 1);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(lsm->options, 1);
	rocksdb_options_set_compression(lsm->options, rocksdb_lz4_compression);
	rocksdb_options_set_max_background_jobs(lsm->options, JOBS);
	rocksdb_options_set_bytes_per_sync(lsm->options, 1 << 20);
	rocksdb_options_set_max_open_files(lsm->options, OPEN_FILES_MAX);
	rocksdb_options_set_keep_log_file_num(lsm->options, 2);
	rocksdb_options_set_max_log_file_size(lsm->options, 1 << 20);
	rocksdb_options_set_stats_dump_period_sec(lsm->options, 0);
	lsm->read = rocksdb_readoptions_create();
	lsm->write = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(lsm->write, 1);
	lsm->write_now = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(lsm->write_now, 1);
	rocksdb_writeoptions_set_no_slowdown(lsm->write_now, 1);
}

int mg_lsm_open(struct mg_lsm **out, const struct mg_lsm_options *options, struct mg_error *err)
{
	static const char *const families[] = { "default" };
	struct mg_lsm *lsm = mg_alloc0(sizeof *lsm);
	char *text = NULL;

	*out = NULL;
	set_options(lsm, options);
	lsm->dir = mg_strdup(options->dir);
	lsm->values = mg_lsm_cache_new(options->values_bytes ? options->values_bytes : VALUES_BYTES);
	const rocksdb_options_t *const family_options[] = { lsm->options };

	lsm->db = rocksdb_open_column_families(lsm->options, options->dir, 1, families, family_options,
	                                       &lsm->family, &text);
	if (text) {
		int code = tell(err, text);

		mg_lsm_close(lsm);
		return code;
	}
	*out = lsm;
	return 0;
}

void mg_lsm_close(struct mg_lsm *lsm)
{
	if (!lsm) {
		return;
	}
	if (lsm->db) {
		(void)mg_lsm_flush(lsm, NULL); /* else the log brings it again */
		rocksdb_cancel_all_background_work(lsm->db, 1);
		rocksdb_column_family_handle_destroy(lsm->family);
		rocksdb_close(lsm->db);
	}
	rocksdb_writeoptions_destroy(lsm->write_now);
	rocksdb_writeoptions_destroy(lsm->write);
	rocksdb_readoptions_destroy(lsm->read);
	rocksdb_options_destroy(lsm->options);
	rocksdb_block_based_options_destroy(lsm->table);
	rocksdb_cache_destroy(lsm->cache);
	mg_lsm_cache_free(lsm->values);
	mg_free(lsm->dir);
	mg_free(lsm);
}

/* ---- reading ---- */

int mg_lsm_get(struct mg_lsm *lsm, struct mg_str key, struct mg_lsm_value *out,
               struct mg_error *err)
{
	char *text = NULL;
	rocksdb_pinnableslice_t *pin = rocksdb_get_pinned(lsm->db, lsm->read, key.ptr, key.len, &text);

	*out = (struct mg_lsm_value){ .pin = pin };
	if (text) {
		return tell(err, text);
	}
	if (!pin) {
		return MG_E_NOT_FOUND;
	}
	out->bytes.ptr = rocksdb_pinnableslice_value(pin, &out->bytes.len);
	return 0;
}

/* At most GET_MAX. */
struct look {
	size_t count;
	size_t places[GET_MAX]; /* of the caller's keys */
	const char *keys[GET_MAX];
	size_t sizes[GET_MAX];
	rocksdb_pinnableslice_t *pins[GET_MAX];
	char *texts[GET_MAX];
};

static int look_up(struct mg_lsm *lsm, struct look *look, struct mg_lsm_value *out,
                   struct mg_error *err)
{
	int code = 0;

	rocksdb_batched_multi_get_cf(lsm->db, lsm->read, lsm->family, look->count, look->keys,
	                             look->sizes, look->pins, look->texts, false);
	for (size_t i = 0; i < look->count; i++) {
		struct mg_lsm_value *value = &out[look->places[i]];

		value->pin = look->pins[i];
		if (value->pin) {
			value->bytes.ptr = rocksdb_pinnableslice_value(value->pin, &value->bytes.len);
		}
		if (look->texts[i] && code) {
			rocksdb_free(look->texts[i]);
		} else if (look->texts[i]) {
			code = tell(err, look->texts[i]);
		}
	}
	return code;
}

static int get_few(struct mg_lsm *lsm, const struct mg_str *keys, size_t count,
                   struct mg_lsm_value *out, struct mg_error *err)
{
	uint64_t hashes[GET_MAX];
	struct mg_lsm_record *records[GET_MAX];
	struct mg_str values[GET_MAX];
	struct look look;

	look.count = 0; /* the rest is as large as it is unused */
	for (size_t i = 0; i < count; i++) {
		hashes[i] = mg_lsm_cache_hash(keys[i]);
	}
	uint64_t found = mg_lsm_cache_find(lsm->values, keys, hashes, count, records, values);

	for (size_t i = 0; i < count; i++) {
		out[i] = (struct mg_lsm_value){ .record = records[i] };
		if (records[i]) {
			out[i].bytes = values[i];
			continue;
		}
		look.places[look.count] = i;
		look.keys[look.count] = keys[i].ptr;
		look.sizes[look.count++] = keys[i].len;
	}
	int code = look.count ? look_up(lsm, &look, out, err) : 0;

	for (size_t i = 0; !code && i < look.count; i++) {
		size_t place = look.places[i];

		if (out[place].pin) {
			mg_lsm_cache_put(lsm->values, found, keys[place], hashes[place], out[place].bytes);
		}
	}
	return code;
}

int mg_lsm_get_many(struct mg_lsm *lsm, const struct mg_str *keys, size_t count,
                    struct mg_lsm_value *out, struct mg_error *err)
{
	size_t got = 0;
	int code = 0;

	while (!code && got < count) {
		size_t few = count - got < GET_MAX ? count - got : GET_MAX;

		code = get_few(lsm, keys + got, few, out + got, err);
		got += few;
	}
	for (size_t i = 0; code && i < got; i++) {
		mg_lsm_value_free(&out[i]);
	}
	return code;
}

void mg_lsm_value_free(struct mg_lsm_value *value)
{
	if (value->record) {
		mg_lsm_record_unref(value->record);
	} else if (value->pin) {
		rocksdb_pinnableslice_destroy(value->pin);
	} else {
		rocksdb_free((void *)(uintptr_t)value->bytes.ptr); /* of a batch */
	}
	*value = (struct mg_lsm_value){ 0 };
}

/* view: NULL: of this moment. */
static struct mg_lsm_iter *iter_new(struct mg_lsm *lsm, struct mg_str end,
                                    const struct mg_lsm_view *view)
{
	struct mg_lsm_iter *iter = mg_alloc0(sizeof *iter);

	iter->read = rocksdb_readoptions_create();
	if (view) {
		rocksdb_readoptions_set_snapshot(iter->read, view->snapshot);
		rocksdb_readoptions_set_fill_cache(iter->read, 0);
	}
	if (end.len) {
		iter->end = (struct mg_str){ mg_strndup(end.ptr, end.len), end.len };
		rocksdb_readoptions_set_iterate_upper_bound(iter->read, iter->end.ptr, end.len);
	}
	iter->iter = rocksdb_create_iterator(lsm->db, iter->read);
	return iter;
}

struct mg_lsm_iter *mg_lsm_iter_open(struct mg_lsm *lsm, struct mg_str first, struct mg_str end)
{
	struct mg_lsm_iter *iter = iter_new(lsm, end, NULL);

	mg_lsm_iter_seek(iter, first);
	return iter;
}

void mg_lsm_iter_seek(struct mg_lsm_iter *iter, struct mg_str key)
{
	rocksdb_iter_seek(iter->iter, key.ptr, key.len);
	iter->begun = false;
}

/* The bound of the options does not hold for what a batch adds. */
static bool is_before(struct mg_str key, struct mg_str end)
{
	int order = end.len ? memcmp(key.ptr, end.ptr, key.len < end.len ? key.len : end.len) : -1;

	return order < 0 || (order == 0 && key.len < end.len);
}

bool mg_lsm_iter_next(struct mg_lsm_iter *iter, struct mg_str *key, struct mg_str *value)
{
	if (iter->begun && rocksdb_iter_valid(iter->iter)) {
		rocksdb_iter_next(iter->iter);
	}
	iter->begun = true;
	if (!rocksdb_iter_valid(iter->iter)) {
		return false;
	}
	key->ptr = rocksdb_iter_key(iter->iter, &key->len);
	value->ptr = rocksdb_iter_value(iter->iter, &value->len);
	return is_before(*key, iter->end);
}

bool mg_lsm_iter_failed(const struct mg_lsm_iter *iter)
{
	char *text = NULL;

	if (!rocksdb_iter_valid(iter->iter)) {
		rocksdb_iter_get_error(iter->iter, &text);
	}
	bool failed = text != NULL;

	rocksdb_free(text);
	return failed;
}

int mg_lsm_iter_close(struct mg_lsm_iter *iter, struct mg_error *err)
{
	char *text = NULL;

	rocksdb_iter_get_error(iter->iter, &text);
	rocksdb_iter_destroy(iter->iter);
	rocksdb_readoptions_destroy(iter->read);
	mg_free((char *)(uintptr_t)iter->end.ptr);
	mg_free(iter);
	return text ? tell(err, text) : 0;
}

/* ---- writing ---- */

struct mg_lsm_batch *mg_lsm_batch_new(struct mg_lsm *lsm)
{
	struct mg_lsm_batch *batch = mg_alloc0(sizeof *batch);

	batch->lsm = lsm;
	batch->batch = rocksdb_writebatch_wi_create(BATCH_BYTES, 1);
	return batch;
}

void mg_lsm_batch_free(struct mg_lsm_batch *batch)
{
	if (batch) {
		rocksdb_writebatch_wi_destroy(batch->batch);
		mg_free(batch->changed);
		mg_free(batch);
	}
}

static void note_changed(struct mg_lsm_batch *batch, struct mg_str key)
{
	mg_grow(batch->changed, batch->changed_count, batch->changed_cap);
	batch->changed[batch->changed_count++] = mg_lsm_cache_hash(key);
}

void mg_lsm_batch_put(struct mg_lsm_batch *batch, struct mg_str key, struct mg_str value)
{
	note_changed(batch, key);
	rocksdb_writebatch_wi_put(batch->batch, key.ptr, key.len, value.ptr, value.len);
}

void mg_lsm_batch_remove(struct mg_lsm_batch *batch, struct mg_str key)
{
	note_changed(batch, key);
	rocksdb_writebatch_wi_delete(batch->batch, key.ptr, key.len);
}

int mg_lsm_batch_find(struct mg_lsm_batch *batch, struct mg_str key, struct mg_lsm_value *out,
                      struct mg_error *err)
{
	if (rocksdb_writebatch_wi_count(batch->batch) == 0) {
		return mg_lsm_get(batch->lsm, key, out, err);
	}
	char *text = NULL;

	*out = (struct mg_lsm_value){ 0 };
	out->bytes.ptr = rocksdb_writebatch_wi_get_from_batch_and_db(
		batch->batch, batch->lsm->db, batch->lsm->read, key.ptr, key.len, &out->bytes.len, &text);
	return text ? tell(err, text) : out->bytes.ptr ? 0 : MG_E_NOT_FOUND;
}

struct mg_lsm_iter *mg_lsm_batch_iter(struct mg_lsm_batch *batch, struct mg_str first,
                                      struct mg_str end)
{
	struct mg_lsm_iter *iter = iter_new(batch->lsm, end, NULL);

	iter->iter = rocksdb_writebatch_wi_create_iterator_with_base(batch->batch, iter->iter);
	mg_lsm_iter_seek(iter, first);
	return iter;
}

void mg_lsm_batch_mark(struct mg_lsm_batch *batch)
{
	rocksdb_writebatch_wi_set_save_point(batch->batch);
}

void mg_lsm_batch_back(struct mg_lsm_batch *batch)
{
	char *text = NULL;

	rocksdb_writebatch_wi_rollback_to_save_point(batch->batch, &text);
	mg_assert(!text);
}

int mg_lsm_batch_write(struct mg_lsm_batch *batch, bool now, struct mg_error *err)
{
	const rocksdb_writeoptions_t *how = now ? batch->lsm->write_now : batch->lsm->write;
	char *text = NULL;

	mg_lsm_cache_begin_write(batch->lsm->values, batch->changed, batch->changed_count);
	rocksdb_write_writebatch_wi(batch->lsm->db, how, batch->batch, &text);
	mg_lsm_cache_end_write(batch->lsm->values);
	if (text) {
		return tell(err, text);
	}
	rocksdb_writebatch_wi_clear(batch->batch);
	batch->changed_count = 0;
	return 0;
}

/* RocksDB asserts that a file is left alone which it could not write to (writable_file_writer.h),
 * and does not leave it alone: on a full disk it would end the process. */
static int check_room(const struct mg_lsm *lsm, struct mg_error *err)
{
	uint64_t free_bytes = 0;

	if (mg_disk_free(lsm->dir, &free_bytes, NULL) == 0 && free_bytes < FLUSH_ROOM_BYTES) {
		return mg_error_set(err, MG_E_DISK_FULL, "less than %u MB are free where the keys lie",
		                    FLUSH_ROOM_BYTES >> 20);
	}
	return 0;
}

int mg_lsm_flush(struct mg_lsm *lsm, struct mg_error *err)
{
	int code = check_room(lsm, err);

	if (code) {
		return code;
	}
	rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
	char *text = NULL;

	rocksdb_flushoptions_set_wait(options, 1);
	rocksdb_flush(lsm->db, options, &text);
	rocksdb_flushoptions_destroy(options);
	return text ? tell(err, text) : 0;
}

/* ---- a range as a file ---- */

struct mg_lsm_view *mg_lsm_view_new(struct mg_lsm *lsm)
{
	struct mg_lsm_view *view = mg_alloc(sizeof *view);

	view->lsm = lsm;
	view->snapshot = rocksdb_create_snapshot(lsm->db);
	return view;
}

void mg_lsm_view_free(struct mg_lsm_view *view)
{
	if (view) {
		rocksdb_release_snapshot(view->lsm->db, view->snapshot);
		mg_free(view);
	}
}

struct mg_str mg_lsm_behind(struct mg_str prefix, char *room)
{
	size_t len = prefix.len;

	if (len) {
		memcpy(room, prefix.ptr, len);
	}
	while (len > 0 && (uint8_t)room[len - 1] == 0xff) {
		len--;
	}
	if (len > 0) {
		room[len - 1]++;
	}
	return (struct mg_str){ room, len };
}

struct mg_lsm_iter *mg_lsm_view_iter(struct mg_lsm_view *view, struct mg_str prefix)
{
	mg_assert(prefix.len <= PREFIX_MAX);
	char room[PREFIX_MAX];
	struct mg_lsm_iter *iter = iter_new(view->lsm, mg_lsm_behind(prefix, room), view);

	mg_lsm_iter_seek(iter, prefix);
	return iter;
}

static void write_range(struct mg_lsm *lsm, struct mg_lsm_view *view, struct mg_str prefix,
                        rocksdb_sstfilewriter_t *writer, char **text)
{
	mg_assert(prefix.len <= PREFIX_MAX);
	char room[PREFIX_MAX];
	struct mg_str end = mg_lsm_behind(prefix, room);

	rocksdb_readoptions_t *read = rocksdb_readoptions_create();

	rocksdb_readoptions_set_snapshot(read, view->snapshot);
	rocksdb_readoptions_set_fill_cache(read, 0);
	rocksdb_readoptions_set_iterate_upper_bound(read, end.ptr, end.len);
	rocksdb_iterator_t *iter = rocksdb_create_iterator(lsm->db, read);

	for (rocksdb_iter_seek(iter, prefix.ptr, prefix.len); !*text && rocksdb_iter_valid(iter);
	     rocksdb_iter_next(iter)) {
		struct mg_str key, value;

		key.ptr = rocksdb_iter_key(iter, &key.len);
		value.ptr = rocksdb_iter_value(iter, &value.len);
		rocksdb_sstfilewriter_put(writer, key.ptr, key.len, value.ptr, value.len, text);
	}
	if (!*text) {
		rocksdb_iter_get_error(iter, text);
	}
	rocksdb_iter_destroy(iter);
	rocksdb_readoptions_destroy(read);
}

int mg_lsm_export(struct mg_lsm *lsm, struct mg_lsm_view *view, struct mg_str prefix,
                  const char *path, struct mg_error *err)
{
	struct mg_error ignored;
	rocksdb_envoptions_t *env = rocksdb_envoptions_create();
	rocksdb_sstfilewriter_t *writer = rocksdb_sstfilewriter_create(env, lsm->options);
	char *text = NULL;

	(void)mg_file_remove(path, &ignored);
	rocksdb_sstfilewriter_open(writer, path, &text);
	if (!text) {
		write_range(lsm, view, prefix, writer, &text);
	}
	if (!text) {
		rocksdb_sstfilewriter_finish(writer, &text); /* which syncs it */
	}
	rocksdb_sstfilewriter_destroy(writer);
	rocksdb_envoptions_destroy(env);
	if (text) {
		int code = tell(err, text);

		(void)mg_file_remove(path, &ignored);
		return code;
	}
	return 0;
}

static void ingest(struct mg_lsm *lsm, const char *path, char **text)
{
	rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
	const char *const paths[] = { path };

	rocksdb_ingestexternalfileoptions_set_move_files(options, 0);
	rocksdb_ingest_external_file(lsm->db, paths, 1, options, text);
	rocksdb_ingestexternalfileoptions_destroy(options);
}

int mg_lsm_import(struct mg_lsm *lsm, struct mg_str prefix, const char *path, struct mg_error *err)
{
	mg_assert(prefix.len <= PREFIX_MAX);
	char room[PREFIX_MAX];
	struct mg_str end = mg_lsm_behind(prefix, room);

	rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
	char *text = NULL;

	mg_assert(end.len > 0);

	mg_lsm_cache_begin_write_any(lsm->values);
	rocksdb_writebatch_delete_range(batch, prefix.ptr, prefix.len, end.ptr, end.len);
	rocksdb_write(lsm->db, lsm->write, batch, &text);
	rocksdb_writebatch_destroy(batch);
	int code = text ? tell(err, text) : mg_lsm_flush(lsm, err);

	text = NULL;
	if (!code) {
		ingest(lsm, path, &text);
	}
	mg_lsm_cache_end_write(lsm->values);
	return code ? code : text ? tell(err, text) : 0;
}
