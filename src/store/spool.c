/*
 * spool.c - the rows of one exchange: IPC batches in memory, and in an unnamed file once the
 * query's share is used up.
 *
 *   item     bytes in memory (buf), or offset, size and checksum in the file
 *   filling  puts may come from any thread; the order of items is that of arrival
 *   sealed   nothing is added any more, so readers need no lock but for the list's end
 *
 * Invariant: budget->used counts exactly the bytes of items that lie in memory.
 * Checksums (XXH3-64) are verified when an item comes back from the file: what left memory may come
 * back wrong.
 *
 * Thread: any.  The lock guards the list while filling; disk writes happen outside of it.
 */
#include "store/spool.h"

#include "base/assert.h"
#include "os/file.h"
#include "os/scratch.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

struct item {
	struct mg_buf *buf; /* NULL: in the file */
	uint64_t offset;
	uint64_t checksum;
	size_t size;
};

struct mg_spool {
	atomic_int refs;
	struct mg_spool_budget *budget;
	pthread_mutex_t lock;
	struct mg_buf *schema;
	struct item *items;
	size_t count, cap;
	uint64_t rows, bytes;
	struct mg_scratch *file; /* NULL until something spills */
	bool sealed;
};

struct mg_spool *mg_spool_new(struct mg_spool_budget *budget)
{
	struct mg_spool *spool = mg_alloc0(sizeof *spool);
	atomic_init(&spool->refs, 1);
	pthread_mutex_init(&spool->lock, NULL);
	spool->budget = budget;
	return spool;
}

struct mg_spool *mg_spool_ref(struct mg_spool *spool)
{
	atomic_fetch_add(&spool->refs, 1);
	return spool;
}

static void disk_give(struct mg_spool_budget *budget, uint64_t size)
{
	atomic_fetch_sub(&budget->spilled, size);
	if (budget->together) {
		atomic_fetch_sub(budget->together, size);
	}
}

/* It is taken also when it is too much. */
static int disk_take(struct mg_spool_budget *budget, uint64_t size, struct mg_error *err)
{
	uint64_t spilled = atomic_fetch_add(&budget->spilled, size) + size, free_bytes = 0;
	uint64_t together = budget->together ? atomic_fetch_add(budget->together, size) + size : 0;

	if (budget->spill_limit > 0 && spilled > budget->spill_limit) {
		mg_error_set(err, MG_E_NOMEM, "the query passes its %llu bytes on disk",
		             (unsigned long long)budget->spill_limit);
		mg_error_hint(err, "Make the result smaller, or raise the limit of spilled bytes.");
		return MG_E_NOMEM;
	}
	if (together && mg_disk_free(budget->spill_dir, &free_bytes, NULL) == 0 &&
	    together > free_bytes) {
		mg_error_set(err, MG_E_DISK_FULL, "rows that wait would take half of the free disk");
		mg_error_hint(err, "Try again when there is more, or when others have taken theirs.");
		return MG_E_DISK_FULL;
	}
	return 0;
}

void mg_spool_unref(struct mg_spool *spool)
{
	if (!spool || atomic_fetch_sub(&spool->refs, 1) != 1) {
		return;
	}
	uint64_t spilled = 0;
	for (size_t i = 0; i < spool->count; i++) {
		struct item *item = &spool->items[i];
		if (item->buf) {
			atomic_fetch_sub(&spool->budget->used, item->size);
			mg_buf_unref(item->buf);
		} else {
			spilled += item->size;
		}
	}
	disk_give(spool->budget, spilled);
	mg_buf_unref(spool->schema);
	mg_scratch_close(spool->file);
	pthread_mutex_destroy(&spool->lock);
	mg_free(spool->items);
	mg_free(spool);
}

int mg_spool_set_schema(struct mg_spool *spool, struct mg_buf *schema, struct mg_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&spool->lock);
	if (!spool->schema) {
		spool->schema = mg_buf_ref(schema);
	} else if (spool->schema->size != schema->size ||
	           memcmp(spool->schema->data, schema->data, schema->size) != 0) {
		rc = mg_error_set(err, MG_E_PROTOCOL, "two nodes sent different columns for one exchange");
	}
	pthread_mutex_unlock(&spool->lock);
	return rc;
}

struct mg_buf *mg_spool_schema(struct mg_spool *spool)
{
	pthread_mutex_lock(&spool->lock);
	struct mg_buf *schema = spool->schema;
	pthread_mutex_unlock(&spool->lock);
	return schema;
}

/* ---- filling ---- */

/* Take size bytes of the query's memory; false when there is no more, then nothing is taken. */
static bool memory_take(struct mg_spool_budget *budget, uint64_t size)
{
	if (atomic_fetch_add(&budget->used, size) + size <= budget->limit) {
		return true;
	}
	atomic_fetch_sub(&budget->used, size);
	return false;
}

static int file_open(struct mg_spool *spool, struct mg_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&spool->lock);
	if (!spool->file) {
		rc = mg_scratch_open(&spool->file, spool->budget->spill_dir, err);
	}
	pthread_mutex_unlock(&spool->lock);
	return rc;
}

static int spill(struct mg_spool *spool, struct mg_buf *buf, struct item *item,
                 struct mg_error *err)
{
	struct mg_spool_budget *budget = spool->budget;
	if (!budget->spill_dir) {
		return mg_error_set(
			err, MG_E_NOMEM,
			"the rows of an exchange pass the memory of the query, and spilling is off");
	}
	int rc = disk_take(budget, item->size, err);
	if (rc == 0) {
		rc = file_open(spool, err);
	}
	if (rc == 0) {
		item->checksum = XXH3_64bits(buf->data, buf->size);
		rc = mg_scratch_append(spool->file, buf->data, buf->size, &item->offset, err);
	}
	if (rc != 0) {
		disk_give(budget, item->size);
	}
	return rc;
}

int mg_spool_put(struct mg_spool *spool, struct mg_buf *batch, uint64_t rows, struct mg_error *err)
{
	struct item item = { .size = batch->size };
	if (memory_take(spool->budget, batch->size)) {
		item.buf = mg_buf_ref(batch);
	} else {
		int rc = spill(spool, batch, &item, err);
		if (rc != 0) {
			return rc;
		}
	}
	pthread_mutex_lock(&spool->lock);
	mg_assert(!spool->sealed);
	mg_grow(spool->items, spool->count, spool->cap);
	spool->items[spool->count++] = item;
	spool->rows += rows;
	spool->bytes += batch->size;
	pthread_mutex_unlock(&spool->lock);
	return 0;
}

void mg_spool_seal(struct mg_spool *spool)
{
	pthread_mutex_lock(&spool->lock);
	spool->sealed = true;
	pthread_mutex_unlock(&spool->lock);
}

/* ---- reading ---- */

/* The counters may be asked for while others fill. */
static uint64_t counter(const struct mg_spool *spool, const uint64_t *value)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&spool->lock;
	pthread_mutex_lock(lock);
	uint64_t now = *value;
	pthread_mutex_unlock(lock);
	return now;
}

uint64_t mg_spool_rows(const struct mg_spool *spool)
{
	return counter(spool, &spool->rows);
}

uint64_t mg_spool_bytes(const struct mg_spool *spool)
{
	return counter(spool, &spool->bytes);
}

size_t mg_spool_count(const struct mg_spool *spool)
{
	return (size_t)counter(spool, &spool->count);
}

int mg_spool_get(struct mg_spool *spool, size_t index, struct mg_buf **out, struct mg_error *err)
{
	pthread_mutex_lock(&spool->lock);
	mg_assert(spool->sealed && index < spool->count);
	struct item item = spool->items[index];
	pthread_mutex_unlock(&spool->lock);
	if (item.buf) {
		*out = mg_buf_ref(item.buf);
		return 0;
	}
	struct mg_buf *buf = mg_buf_new(item.size);
	*out = NULL;
	if (!buf) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for %zu bytes of an exchange", item.size);
	}
	int rc = mg_scratch_read(spool->file, item.offset, buf->data, item.size, err);
	if (rc == 0 && XXH3_64bits(buf->data, item.size) != item.checksum) {
		rc = mg_error_set(err, MG_E_CORRUPT, "spilled rows came back different from the disk");
	}
	if (rc != 0) {
		mg_buf_unref(buf);
		return rc;
	}
	buf->size = item.size;
	*out = buf;
	return 0;
}
