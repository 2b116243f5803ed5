/*
 * lsm_cache.c - see lsm_cache.h.
 *
 * A table of sets of WAYS entries; a key's hash says its set.  When a set or the whole is full, who
 * was not asked for since the hand came by last goes.
 */
#include "store/lsm_cache.h"

#include "base/assert.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <xxhash.h>

enum {
	WAYS = 4,
	TABLE_BYTES = 128, /* of records, for each entry of the table: few have less */
	HEAP_BYTES = 16,   /* that each piece of the heap costs */
};

struct mg_lsm_record {
	atomic_uint refs;
	bool used; /* guarded by the cache's lock */
	uint32_t key_len, value_len;
	char bytes[]; /* the key, then the value */
};

struct entry {
	uint64_t hash;
	struct mg_lsm_record *record; /* NULL: none */
};

struct mg_lsm_cache {
	pthread_mutex_t lock; /* guards all */
	struct entry *entries;
	size_t sets; /* a power of two */
	size_t hand;
	size_t bytes, bytes_max;
	uint64_t writes;  /* begun and ended, so far */
	uint32_t writers; /* now */
};

struct mg_lsm_cache *mg_lsm_cache_new(size_t bytes)
{
	struct mg_lsm_cache *cache = mg_alloc0(sizeof *cache);

	pthread_mutex_init(&cache->lock, NULL);
	cache->bytes_max = bytes;
	cache->sets = 1;
	while (cache->sets * WAYS * TABLE_BYTES < bytes) {
		cache->sets *= 2;
	}
	cache->entries = mg_alloc0(cache->sets * WAYS * sizeof *cache->entries);
	return cache;
}

static size_t weight(const struct mg_lsm_record *record)
{
	return sizeof *record + record->key_len + record->value_len + HEAP_BYTES;
}

void mg_lsm_record_unref(struct mg_lsm_record *record)
{
	if (record && atomic_fetch_sub(&record->refs, 1) == 1) {
		mg_free(record);
	}
}

static void drop(struct mg_lsm_cache *cache, struct entry *entry)
{
	cache->bytes -= weight(entry->record);
	mg_lsm_record_unref(entry->record);
	*entry = (struct entry){ 0 };
}

static void drop_all(struct mg_lsm_cache *cache)
{
	for (size_t i = 0; i < cache->sets * WAYS; i++) {
		if (cache->entries[i].record) {
			drop(cache, &cache->entries[i]);
		}
	}
	mg_assert(cache->bytes == 0);
}

void mg_lsm_cache_free(struct mg_lsm_cache *cache)
{
	if (cache) {
		drop_all(cache);
		pthread_mutex_destroy(&cache->lock);
		mg_free(cache->entries);
		mg_free(cache);
	}
}

uint64_t mg_lsm_cache_hash(struct mg_str key)
{
	return XXH3_64bits(key.ptr, key.len);
}

static struct entry *set_of(struct mg_lsm_cache *cache, uint64_t hash)
{
	return cache->entries + (hash & (cache->sets - 1)) * WAYS;
}

static struct entry *look(struct mg_lsm_cache *cache, struct mg_str key, uint64_t hash)
{
	struct entry *set = set_of(cache, hash);

	for (size_t i = 0; i < WAYS; i++) {
		const struct mg_lsm_record *record = set[i].record;

		if (record && set[i].hash == hash && record->key_len == key.len &&
		    memcmp(record->bytes, key.ptr, key.len) == 0) {
			return &set[i];
		}
	}
	return NULL;
}

uint64_t mg_lsm_cache_find(struct mg_lsm_cache *cache, const struct mg_str *keys,
                           const uint64_t *hashes, size_t count, struct mg_lsm_record **records,
                           struct mg_str *values)
{
	pthread_mutex_lock(&cache->lock);
	for (size_t i = 0; i < count; i++) {
		struct entry *entry = look(cache, keys[i], hashes[i]);

		records[i] = entry ? entry->record : NULL;
		if (entry) {
			records[i]->used = true;
			(void)atomic_fetch_add(&records[i]->refs, 1);
			values[i] = (struct mg_str){ records[i]->bytes + keys[i].len, records[i]->value_len };
		}
	}
	uint64_t writes = cache->writes;

	pthread_mutex_unlock(&cache->lock);
	return writes;
}

/* An entry of the set that is free now. */
static struct entry *free_entry(struct mg_lsm_cache *cache, uint64_t hash)
{
	struct entry *set = set_of(cache, hash), *idle = NULL;

	for (size_t i = 0; i < WAYS; i++) {
		if (!set[i].record) {
			return &set[i];
		}
		idle = set[i].record->used ? idle : &set[i];
		set[i].record->used = false;
	}
	idle = idle ? idle : &set[hash >> 32 & (WAYS - 1)];
	drop(cache, idle);
	return idle;
}

/* At the latest the hand's second round finds enough that was not used since. */
static void make_room(struct mg_lsm_cache *cache, size_t bytes)
{
	while (cache->bytes > 0 && cache->bytes + bytes > cache->bytes_max) {
		struct entry *entry = &cache->entries[cache->hand++ & (cache->sets * WAYS - 1)];

		if (entry->record && !entry->record->used) {
			drop(cache, entry);
		} else if (entry->record) {
			entry->record->used = false;
		}
	}
}

static struct mg_lsm_record *new_record(struct mg_str key, struct mg_str value)
{
	struct mg_lsm_record *record = mg_alloc(sizeof *record + key.len + value.len);

	atomic_init(&record->refs, 1);
	record->used = false;
	record->key_len = (uint32_t)key.len;
	record->value_len = (uint32_t)value.len;
	memcpy(record->bytes, key.ptr, key.len);
	memcpy(record->bytes + key.len, value.ptr, value.len);
	return record;
}

void mg_lsm_cache_put(struct mg_lsm_cache *cache, uint64_t found, struct mg_str key, uint64_t hash,
                      struct mg_str value)
{
	if (key.len + value.len > MG_LSM_CACHED_MAX) {
		return;
	}
	pthread_mutex_lock(&cache->lock);
	if (cache->writers == 0 && cache->writes == found && !look(cache, key, hash)) {
		struct mg_lsm_record *record = new_record(key, value);

		make_room(cache, weight(record));
		*free_entry(cache, hash) = (struct entry){ .hash = hash, .record = record };
		cache->bytes += weight(record);
	}
	pthread_mutex_unlock(&cache->lock);
}

static void drop_hash(struct mg_lsm_cache *cache, uint64_t hash)
{
	struct entry *set = set_of(cache, hash);

	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].record && set[i].hash == hash) {
			drop(cache, &set[i]);
		}
	}
}

/* Under the lock. */
static void note_writer(struct mg_lsm_cache *cache)
{
	cache->writes++;
	cache->writers++;
}

void mg_lsm_cache_begin_write(struct mg_lsm_cache *cache, const uint64_t *hashes, size_t count)
{
	pthread_mutex_lock(&cache->lock);
	note_writer(cache);
	for (size_t i = 0; i < count; i++) {
		drop_hash(cache, hashes[i]);
	}
	pthread_mutex_unlock(&cache->lock);
}

void mg_lsm_cache_begin_write_any(struct mg_lsm_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	note_writer(cache);
	drop_all(cache);
	pthread_mutex_unlock(&cache->lock);
}

void mg_lsm_cache_end_write(struct mg_lsm_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	mg_assert(cache->writers > 0);
	cache->writers--;
	cache->writes++; /* who has looked meanwhile may have seen what was before */
	pthread_mutex_unlock(&cache->lock);
}

size_t mg_lsm_cache_bytes(struct mg_lsm_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
	size_t bytes = cache->bytes;

	pthread_mutex_unlock(&cache->lock);
	return bytes;
}
