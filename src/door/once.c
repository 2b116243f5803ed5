/*
 * once.c - see once.h.
 *
 * A hash table of chains, and the kept answers in the order in which they ended, which is the order
 * in which they go.
 */
#include "door/once.h"

#include "base/assert.h"

#include <pthread.h>
#include <string.h>
#include <xxhash.h>

enum { BUCKETS = 4096 };

struct mg_once_entry {
	struct mg_once_entry *next; /* in its bucket */
	struct mg_once_entry *newer, *older;
	char *user, *key;
	uint64_t hash, digest, ended_ms;
	bool ended; /* answer is there */
	struct mg_once_answer answer;
	struct mg_once_wait *waiting;
};

struct mg_once {
	pthread_mutex_t lock;
	struct mg_once_entry *buckets[BUCKETS];
	struct mg_once_entry *oldest, *newest; /* of those that ended */
	size_t count, ended_count, bytes;
};

struct mg_once *mg_once_new(void)
{
	struct mg_once *once = mg_alloc0(sizeof *once);

	pthread_mutex_init(&once->lock, NULL);
	return once;
}

static uint64_t hash_of(const char *user, const char *key)
{
	return XXH3_64bits_withSeed(key, strlen(key), XXH3_64bits(user, strlen(user)));
}

static struct mg_once_entry *find(struct mg_once *once, const char *user, const char *key,
                                  uint64_t hash)
{
	struct mg_once_entry *entry = once->buckets[hash % BUCKETS];

	while (entry && (entry->hash != hash || strcmp(entry->key, key) != 0 ||
	                 strcmp(entry->user, user) != 0)) {
		entry = entry->next;
	}
	return entry;
}

/* ---- under the lock ---- */

/* Bytes that count. */
static size_t answer_bytes(const struct mg_once_answer *answer)
{
	return answer->body->size + (answer->seen ? answer->seen->size : 0);
}

void mg_once_answer_ref(const struct mg_once_answer *answer)
{
	mg_buf_ref(answer->body);
	if (answer->seen) {
		mg_buf_ref(answer->seen);
	}
}

void mg_once_answer_unref(struct mg_once_answer *answer)
{
	mg_buf_unref(answer->body);
	mg_buf_unref(answer->seen);
	answer->body = answer->seen = NULL;
}

static void drop(struct mg_once *once, struct mg_once_entry *entry)
{
	struct mg_once_entry **link = &once->buckets[entry->hash % BUCKETS];

	while (*link != entry) {
		link = &(*link)->next;
	}
	*link = entry->next;
	once->count--;
	mg_once_answer_unref(&entry->answer);
	mg_free(entry->user);
	mg_free(entry->key);
	mg_free(entry);
}

static void drop_oldest(struct mg_once *once)
{
	struct mg_once_entry *entry = once->oldest;

	once->oldest = entry->newer;
	if (once->oldest) {
		once->oldest->older = NULL;
	} else {
		once->newest = NULL;
	}
	once->ended_count--;
	once->bytes -= answer_bytes(&entry->answer);
	drop(once, entry);
}

static void forget(struct mg_once *once, uint64_t now_ms)
{
	while (once->oldest &&
	       (once->ended_count > MG_ONCE_KEYS_MAX || once->bytes > MG_ONCE_BYTES_MAX ||
	        now_ms - once->oldest->ended_ms >= MG_ONCE_KEEP_MS)) {
		drop_oldest(once);
	}
}

static void keep_answer(struct mg_once *once, struct mg_once_entry *entry,
                        const struct mg_once_answer *answer, uint64_t now_ms)
{
	entry->answer = *answer;
	mg_once_answer_ref(answer);
	entry->ended = true;
	entry->ended_ms = now_ms;
	entry->older = once->newest;
	if (once->newest) {
		once->newest->newer = entry;
	} else {
		once->oldest = entry;
	}
	once->newest = entry;
	once->ended_count++;
	once->bytes += answer_bytes(answer);
}

static struct mg_once_entry *add(struct mg_once *once, const struct mg_once_request *request,
                                 uint64_t hash)
{
	struct mg_once_entry *entry = mg_alloc0(sizeof *entry);

	entry->user = mg_strdup(request->user);
	entry->key = mg_strdup(request->key);
	entry->hash = hash;
	entry->digest = request->digest;
	entry->next = once->buckets[hash % BUCKETS];
	once->buckets[hash % BUCKETS] = entry;
	once->count++;
	return entry;
}

/* ---- from outside ---- */

enum mg_once_state mg_once_begin(struct mg_once *once, const struct mg_once_request *request,
                                 struct mg_once_wait *wait, struct mg_once_answer *known,
                                 struct mg_once_entry **entry)
{
	uint64_t hash = hash_of(request->user, request->key);
	enum mg_once_state state = MG_ONCE_FIRST;

	pthread_mutex_lock(&once->lock);
	forget(once, request->now_ms);
	struct mg_once_entry *found = find(once, request->user, request->key, hash);

	if (!found) {
		*entry = add(once, request, hash);
	} else if (found->digest != request->digest) {
		state = MG_ONCE_OTHER;
	} else if (found->ended) {
		state = MG_ONCE_KNOWN;
		*known = found->answer;
		mg_once_answer_ref(known);
	} else {
		state = MG_ONCE_WAIT;
		wait->next = found->waiting;
		found->waiting = wait;
	}
	pthread_mutex_unlock(&once->lock);
	return state;
}

void mg_once_end(struct mg_once *once, struct mg_once_entry *entry,
                 const struct mg_once_answer *answer, const struct mg_once_answer *kept,
                 uint64_t now_ms)
{
	mg_assert(answer->body && (!kept || kept->body));
	pthread_mutex_lock(&once->lock);
	mg_assert(!entry->ended);
	struct mg_once_wait *wait = entry->waiting;

	entry->waiting = NULL;
	if (kept) {
		keep_answer(once, entry, kept, now_ms);
		forget(once, now_ms); /* this one too, were it larger than all may be together */
	} else {
		drop(once, entry);
	}
	pthread_mutex_unlock(&once->lock);
	while (wait) {
		struct mg_once_wait *next = wait->next; /* told may free it */

		wait->told(wait->arg, answer);
		wait = next;
	}
}

size_t mg_once_count(struct mg_once *once)
{
	pthread_mutex_lock(&once->lock);
	size_t count = once->count;

	pthread_mutex_unlock(&once->lock);
	return count;
}

void mg_once_free(struct mg_once *once)
{
	if (!once) {
		return;
	}
	while (once->oldest) {
		drop_oldest(once);
	}
	mg_assert(once->count == 0);
	pthread_mutex_destroy(&once->lock);
	mg_free(once);
}
