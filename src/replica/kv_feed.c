/*
 * kv_feed.c - see kv_feed.h.
 *
 *     first -> [ before | bytes .......... used ] -> [ ... ] <- last
 *                         ^ start                     a position is start + an offset
 *
 * Bytes of a segment up to `used` never change, so only `used` and the list need the lock; one that
 * was dropped lives until its last reader gives it back.
 */
#include "replica/kv_feed.h"

#include "base/assert.h"
#include "base/mem.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#define STAGED_KEPT (64u << 10) /* room that stays between batches */

struct mg_kv_segment {
	atomic_int refs;
	struct mg_kv_segment *next;
	uint64_t before; /* version of the last change before it */
	uint64_t start;  /* position of its first byte */
	size_t used;     /* guarded by the feed's lock */
	size_t cap;
	uint8_t bytes[];
};

/* In front of each change; its five texts follow. */
struct head {
	uint32_t size; /* with the head */
	uint8_t kind, space, type, encoding;
	uint32_t key, value;
	uint64_t version, created_ms, changed_ms, expiry_ms, value_size;
};

struct mg_kv_feed {
	size_t bytes_max;
	void (*told)(void *arg);
	void *told_arg;
	struct mg_sb staged; /* owner: who applies */
	pthread_mutex_t lock; /* guards the rest */
	struct mg_kv_segment *first, *last;
	size_t bytes;     /* allocated, of the list */
	uint64_t begin;   /* changes behind this version are there */
	uint64_t version; /* of the last one */
	uint64_t position; /* behind the last byte */
};

static void unref(struct mg_kv_segment *segment)
{
	if (segment && atomic_fetch_sub(&segment->refs, 1) == 1) {
		mg_free(segment);
	}
}

struct mg_kv_feed *mg_kv_feed_new(uint64_t version)
{
	struct mg_kv_feed *feed = mg_alloc0(sizeof *feed);

	feed->bytes_max = MG_KV_FEED_BYTES;
	feed->begin = feed->version = version;
	feed->position = 1; /* 0 is no position */
	pthread_mutex_init(&feed->lock, NULL);
	return feed;
}

static void drop_first(struct mg_kv_feed *feed)
{
	struct mg_kv_segment *first = feed->first;

	feed->first = first->next;
	feed->last = feed->first ? feed->last : NULL;
	feed->bytes -= first->cap;
	feed->begin = feed->first ? feed->first->before : feed->version;
	unref(first);
}

static void drop_all(struct mg_kv_feed *feed)
{
	while (feed->first) {
		drop_first(feed);
	}
}

void mg_kv_feed_free(struct mg_kv_feed *feed)
{
	if (feed) {
		drop_all(feed);
		pthread_mutex_destroy(&feed->lock);
		mg_sb_fini(&feed->staged);
		mg_free(feed);
	}
}

void mg_kv_feed_set(struct mg_kv_feed *feed, size_t bytes_max, void (*told)(void *arg), void *arg)
{
	mg_assert(!feed->first);
	feed->bytes_max = bytes_max ? bytes_max : MG_KV_FEED_BYTES;
	feed->told = told;
	feed->told_arg = arg;
}

/* ---- who applies ---- */

void mg_kv_feed_add(struct mg_kv_feed *feed, const struct mg_kv_change *change)
{
	const struct mg_str texts[] = { change->space, change->key, change->type, change->encoding,
		                            change->value };
	struct head head = { .size = sizeof head,
		                 .kind = (uint8_t)change->kind,
		                 .space = (uint8_t)change->space.len,
		                 .type = (uint8_t)change->type.len,
		                 .encoding = (uint8_t)change->encoding.len,
		                 .key = (uint32_t)change->key.len,
		                 .value = (uint32_t)change->value.len,
		                 .version = change->version,
		                 .created_ms = change->created_ms,
		                 .changed_ms = change->changed_ms,
		                 .expiry_ms = change->expiry_ms,
		                 .value_size = change->size };

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		head.size += (uint32_t)texts[i].len;
	}
	mg_sb_add_len(&feed->staged, (const char *)&head, sizeof head);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		if (texts[i].len) {
			mg_sb_add_len(&feed->staged, texts[i].ptr, texts[i].len);
		}
	}
}

size_t mg_kv_feed_mark(const struct mg_kv_feed *feed)
{
	return feed->staged.len;
}

void mg_kv_feed_back(struct mg_kv_feed *feed, size_t mark)
{
	mg_assert(mark <= feed->staged.len);
	feed->staged.len = mark;
}

/* Behind the others, for a change of that size.  When there is no memory for it, what came so far
 * is forgotten with the change: a gap would be a lie. */
static bool append_segment(struct mg_kv_feed *feed, const struct head *head)
{
	size_t cap = head->size > MG_KV_FEED_SEGMENT_BYTES ? head->size : MG_KV_FEED_SEGMENT_BYTES;
	struct mg_kv_segment *segment = mg_try_alloc(sizeof *segment + cap);

	pthread_mutex_lock(&feed->lock);
	if (segment) {
		atomic_init(&segment->refs, 1);
		segment->next = NULL;
		segment->before = feed->version;
		segment->start = feed->position;
		segment->used = 0;
		segment->cap = cap;
		*(feed->last ? &feed->last->next : &feed->first) = segment;
		feed->last = segment;
		feed->bytes += cap;
		while (feed->bytes > feed->bytes_max && feed->first != feed->last) {
			drop_first(feed);
		}
	} else {
		drop_all(feed);
		feed->begin = feed->version = head->version;
	}
	pthread_mutex_unlock(&feed->lock);
	return segment != NULL;
}

/* Bytes of the changes from `at` on that the last segment takes; *version: of the last of them. */
static size_t fitting(const struct mg_kv_feed *feed, size_t at, uint64_t *version)
{
	size_t room = feed->last ? feed->last->cap - feed->last->used : 0, size = 0;
	struct head head;

	while (at + size < feed->staged.len) {
		memcpy(&head, feed->staged.ptr + at + size, sizeof head);
		if (size + head.size > room) {
			break;
		}
		size += head.size;
		*version = head.version;
	}
	return size;
}

/* Readers do not look behind `used`, so the lock is not held while bytes are copied. */
static void append(struct mg_kv_feed *feed, size_t at, size_t size, uint64_t version)
{
	struct mg_kv_segment *last = feed->last;

	mg_assert(version > feed->version && size <= last->cap - last->used);
	memcpy(last->bytes + last->used, feed->staged.ptr + at, size);
	pthread_mutex_lock(&feed->lock);
	last->used += size;
	feed->position += size;
	feed->version = version;
	pthread_mutex_unlock(&feed->lock);
}

void mg_kv_feed_publish(struct mg_kv_feed *feed)
{
	struct mg_sb *staged = &feed->staged;
	struct head head;
	uint64_t version = 0;

	if (staged->len == 0) {
		return;
	}
	for (size_t at = 0; at < staged->len;) {
		size_t size = fitting(feed, at, &version);

		if (size) {
			append(feed, at, size, version);
			at += size;
			continue;
		}
		memcpy(&head, staged->ptr + at, sizeof head);
		at += append_segment(feed, &head) ? 0 : head.size;
	}
	staged->len = 0;
	if (staged->cap > STAGED_KEPT) {
		mg_sb_fini(staged);
	}
	if (feed->told) {
		feed->told(feed->told_arg);
	}
}

void mg_kv_feed_reset(struct mg_kv_feed *feed, uint64_t version)
{
	feed->staged.len = 0;
	pthread_mutex_lock(&feed->lock);
	drop_all(feed);
	feed->begin = feed->version = version;
	pthread_mutex_unlock(&feed->lock);
	if (feed->told) {
		feed->told(feed->told_arg); /* who was before it hears so */
	}
}

/* ---- readers ---- */

uint64_t mg_kv_feed_version(struct mg_kv_feed *feed)
{
	pthread_mutex_lock(&feed->lock);
	uint64_t version = feed->version;

	pthread_mutex_unlock(&feed->lock);
	return version;
}

uint64_t mg_kv_feed_behind(struct mg_kv_feed *feed, const struct mg_kv_place *place)
{
	pthread_mutex_lock(&feed->lock);
	uint64_t position = feed->position;

	pthread_mutex_unlock(&feed->lock);
	return place->position ? position - place->position : 0;
}

size_t mg_kv_feed_bytes_max(const struct mg_kv_feed *feed)
{
	return feed->bytes_max;
}

/* With the lock: the segment in which what follows the place is, or will be; NULL: none. */
static struct mg_kv_segment *find(const struct mg_kv_feed *feed, const struct mg_kv_place *place,
                                  size_t *at)
{
	struct mg_kv_segment *segment = feed->first;

	*at = 0;
	if (segment && place->position >= segment->start) {
		while (segment->next && place->position >= segment->next->start) {
			segment = segment->next;
		}
		*at = (size_t)(place->position - segment->start);
	} else {
		while (segment && segment->next && place->version >= segment->next->before) {
			segment = segment->next;
		}
	}
	return segment;
}

static int say_gone(uint64_t version, struct mg_error *err)
{
	mg_error_set(err, MG_E_GONE, "changes behind version %" PRIu64 " are not kept any more",
	             version);
	mg_error_hint(err, "Watch from now on, then read the keys again with a scan.");
	return MG_E_GONE;
}

int mg_kv_feed_read(struct mg_kv_feed *feed, struct mg_kv_place *place,
                    struct mg_kv_changes *out, struct mg_error *err)
{
	size_t at;
	int code = 0;

	*out = (struct mg_kv_changes){ 0 };
	pthread_mutex_lock(&feed->lock);
	struct mg_kv_segment *segment = find(feed, place, &at);

	if (place->version < feed->begin) {
		code = say_gone(place->version, err);
	} else if (segment && at < segment->used) {
		atomic_fetch_add(&segment->refs, 1);
		*out = (struct mg_kv_changes){ .segment = segment, .at = at, .end = segment->used };
	} else {
		place->position = feed->position;
	}
	pthread_mutex_unlock(&feed->lock);
	return code;
}

static struct mg_str take(const uint8_t **at, size_t size)
{
	struct mg_str text = { (const char *)*at, size };

	*at += size;
	return text;
}

bool mg_kv_changes_next(struct mg_kv_changes *changes, struct mg_kv_place *place,
                        struct mg_kv_change *out)
{
	while (changes->at < changes->end) {
		const uint8_t *at = changes->segment->bytes + changes->at;
		struct head head;

		memcpy(&head, at, sizeof head);
		at += sizeof head;
		changes->at += head.size;
		place->position = changes->segment->start + changes->at;
		if (head.version <= place->version) {
			continue; /* the place was known by its version alone */
		}
		place->version = head.version;
		*out = (struct mg_kv_change){ .kind = head.kind,
			                          .version = head.version,
			                          .created_ms = head.created_ms,
			                          .changed_ms = head.changed_ms,
			                          .expiry_ms = head.expiry_ms,
			                          .size = head.value_size };
		out->space = take(&at, head.space);
		out->key = take(&at, head.key);
		out->type = take(&at, head.type);
		out->encoding = take(&at, head.encoding);
		out->value = take(&at, head.value);
		return true;
	}
	return false;
}

void mg_kv_changes_end(struct mg_kv_changes *changes)
{
	unref(changes->segment);
	*changes = (struct mg_kv_changes){ 0 };
}
