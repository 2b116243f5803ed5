/* kv_watch.c - see kv_watch.h. */
#include "replica/kv_watch.h"

#include "base/assert.h"
#include "base/mem.h"
#include "replica/replica_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_HEAD "v1"

/* ---- listeners ---- */

struct mg_kv_bell {
	atomic_size_t count; /* of the list: nobody listens, mostly */
	pthread_mutex_t lock;
	struct mg_kv_listener *list; /* guarded by lock */
};

struct mg_kv_bell *mg_kv_bell_new(void)
{
	struct mg_kv_bell *bell = mg_alloc0(sizeof *bell);

	pthread_mutex_init(&bell->lock, NULL);
	return bell;
}

void mg_kv_bell_free(struct mg_kv_bell *bell)
{
	if (bell) {
		mg_assert(!bell->list);
		pthread_mutex_destroy(&bell->lock);
		mg_free(bell);
	}
}

void mg_kv_bell_ring(void *arg)
{
	struct mg_kv_bell *bell = arg;

	if (atomic_load(&bell->count) == 0) {
		return;
	}
	pthread_mutex_lock(&bell->lock);
	for (struct mg_kv_listener *one = bell->list; one; one = one->next) {
		if (!atomic_exchange(&one->woken, true)) {
			one->wake(one->arg);
		}
	}
	pthread_mutex_unlock(&bell->lock);
}

void mg_kv_listen(struct mg_replica *replica, struct mg_kv_listener *listener)
{
	struct mg_kv_bell *bell = mg_replica__kv_bell(replica);

	atomic_init(&listener->woken, false);
	pthread_mutex_lock(&bell->lock);
	listener->next = bell->list;
	bell->list = listener;
	atomic_fetch_add(&bell->count, 1);
	pthread_mutex_unlock(&bell->lock);
}

void mg_kv_unlisten(struct mg_replica *replica, struct mg_kv_listener *listener)
{
	struct mg_kv_bell *bell = mg_replica__kv_bell(replica);

	pthread_mutex_lock(&bell->lock);
	struct mg_kv_listener **at = &bell->list;

	while (*at != listener) {
		at = &(*at)->next;
	}
	*at = listener->next;
	atomic_fetch_sub(&bell->count, 1);
	pthread_mutex_unlock(&bell->lock);
}

void mg_kv_heard(struct mg_kv_listener *listener)
{
	atomic_store(&listener->woken, false);
}

/* ---- life ---- */

struct shard {
	struct mg_kv_feed *feed;
	struct mg_kv_place place;
	bool seen_all; /* once */
};

struct mg_kv_watch {
	char *space, *prefix;
	size_t space_len, prefix_len;
	bool from_now;
	struct mg_kv_changes changes; /* a piece of `current`, or none */
	size_t looked;  /* bytes since next has said NONE or LATER */
	uint64_t looked_before;
	uint32_t idle;  /* so many shards in a row, up to `current`, had nothing */
	uint32_t current, count;
	struct shard shards[];
};

static int refuse(const char *text, struct mg_error *err)
{
	mg_error_set(err, MG_E_USAGE, "\"%.60s\" is no token of a watch of this cluster", text);
	mg_error_hint(err, "A token is the id of an event, as it was given.");
	return MG_E_USAGE;
}

static int read_token(struct mg_kv_watch *watch, const char *text, struct mg_error *err)
{
	const char *at = text + strlen(TOKEN_HEAD);

	if (strncmp(text, TOKEN_HEAD, strlen(TOKEN_HEAD)) != 0) {
		return refuse(text, err);
	}
	for (uint32_t i = 0; i < watch->count; i++) {
		char *end = NULL;

		/* strtoull would take blanks and signs */
		if (*at != '.' || at[1] < '0' || at[1] > '9') {
			return refuse(text, err);
		}
		errno = 0;
		watch->shards[i].place.version = strtoull(at + 1, &end, 10);
		if (errno) {
			return refuse(text, err);
		}
		at = end;
	}
	return *at ? refuse(text, err) : 0;
}

int mg_kv_watch_open(struct mg_kv_watch **out, struct mg_replica *replica, struct mg_str space,
                     struct mg_str prefix, const char *from, struct mg_error *err)
{
	uint32_t count = mg_replica_kv_shards(replica);
	struct mg_kv_watch *watch = mg_alloc0(sizeof *watch + count * sizeof watch->shards[0]);

	mg_assert(count > 0);
	*out = NULL;
	watch->space = mg_strndup(space.ptr, space.len);
	watch->space_len = space.len;
	watch->prefix = mg_strndup(prefix.len ? prefix.ptr : "", prefix.len);
	watch->prefix_len = prefix.len;
	watch->from_now = !from || !*from || strcmp(from, "now") == 0;
	watch->count = count;
	for (uint32_t i = 0; i < count; i++) {
		watch->shards[i].feed = mg_kv_state_feed(mg_replica_kv_state(replica, i));
	}
	int code = watch->from_now ? 0 : read_token(watch, from, err);

	if (code) {
		mg_kv_watch_close(watch);
		return code;
	}
	*out = watch;
	return 0;
}

void mg_kv_watch_close(struct mg_kv_watch *watch)
{
	if (watch) {
		mg_kv_watch_rest(watch);
		mg_free(watch->space);
		mg_free(watch->prefix);
		mg_free(watch);
	}
}

static int say_ahead(struct mg_error *err)
{
	mg_error_set(err, MG_E_GONE, "the token is ahead of what this cluster has written");
	mg_error_hint(err, "It is of another cluster, or of this one before it was restored: watch "
	                   "from now on, then read the keys again with a scan.");
	return MG_E_GONE;
}

int mg_kv_watch_begin(struct mg_kv_watch *watch, bool any, struct mg_error *err)
{
	int code = 0;

	for (uint32_t i = 0; !code && i < watch->count; i++) {
		struct shard *shard = &watch->shards[i];
		uint64_t version = mg_kv_feed_version(shard->feed);

		if (watch->from_now) {
			shard->place.version = version;
		} else if (!any && shard->place.version > version) {
			code = say_ahead(err);
		}
		if (!code) {
			struct mg_kv_changes changes;

			code = mg_kv_feed_read(shard->feed, &shard->place, &changes, err);
			mg_kv_changes_end(&changes);
		}
	}
	return code;
}

/* ---- changes ---- */

static bool fits(const struct mg_kv_watch *watch, const struct mg_kv_change *change)
{
	return change->space.len == watch->space_len && change->key.len >= watch->prefix_len &&
	       memcmp(change->space.ptr, watch->space, watch->space_len) == 0 &&
	       memcmp(change->key.ptr, watch->prefix, watch->prefix_len) == 0;
}

void mg_kv_watch_rest(struct mg_kv_watch *watch)
{
	mg_kv_changes_end(&watch->changes);
	watch->looked_before += watch->looked;
	watch->looked = 0;
	watch->idle = 0;
	watch->current = (watch->current + 1) % watch->count; /* the others have their turn, too */
}

/* The next one of the piece in hand that is asked for. */
static bool look(struct mg_kv_watch *watch, struct mg_kv_change *out)
{
	struct mg_kv_place *place = &watch->shards[watch->current].place;

	while (watch->looked < MG_KV_WATCH_TURN_BYTES) {
		size_t before = watch->changes.at;

		if (!mg_kv_changes_next(&watch->changes, place, out)) {
			return false;
		}
		watch->looked += watch->changes.at - before;
		if (fits(watch, out)) {
			return true;
		}
	}
	return false;
}

enum mg_kv_next mg_kv_watch_next(struct mg_kv_watch *watch, struct mg_kv_change *out,
                                 struct mg_error *err)
{
	enum mg_kv_next next = MG_KV_NEXT_NONE;

	while (watch->idle < watch->count) {
		struct shard *shard = &watch->shards[watch->current];

		if (look(watch, out)) {
			return MG_KV_NEXT_CHANGE;
		}
		if (watch->looked >= MG_KV_WATCH_TURN_BYTES) {
			next = MG_KV_NEXT_LATER;
			break;
		}
		mg_kv_changes_end(&watch->changes);
		if (mg_kv_feed_read(shard->feed, &shard->place, &watch->changes, err)) {
			next = MG_KV_NEXT_GONE;
			break;
		}
		watch->idle = watch->changes.segment ? 0 : watch->idle + 1;
		if (!watch->changes.segment) {
			shard->seen_all = true;
			watch->current = (watch->current + 1) % watch->count;
		}
	}
	mg_kv_watch_rest(watch);
	return next;
}

uint64_t mg_kv_watch_looked(const struct mg_kv_watch *watch)
{
	return watch->looked_before + watch->looked;
}

void mg_kv_token_add(struct mg_sb *out, uint32_t shard, uint64_t version)
{
	mg_sb_addf(out, "%s.%" PRIu64, shard ? "" : TOKEN_HEAD, version);
}

void mg_kv_watch_token(const struct mg_kv_watch *watch, struct mg_sb *out)
{
	for (uint32_t i = 0; i < watch->count; i++) {
		mg_kv_token_add(out, i, watch->shards[i].place.version);
	}
}

bool mg_kv_watch_is_slow(const struct mg_kv_watch *watch)
{
	for (uint32_t i = 0; i < watch->count; i++) {
		const struct shard *shard = &watch->shards[i];

		if (shard->seen_all && mg_kv_feed_behind(shard->feed, &shard->place) >
		                           mg_kv_feed_bytes_max(shard->feed) / 2) {
			return true;
		}
	}
	return false;
}
