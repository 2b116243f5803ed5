/* kv_scan.c - see kv_scan.h: one iterator for each shard, the smallest key of them is the next. */
#include "replica/kv_scan.h"

#include "os/wait.h"
#include "replica/kv_watch.h"

#include <pthread.h>
#include <string.h>

struct source {
	uint64_t version; /* of its shard, before the iterator was opened */
	struct mg_kv_iter *iter;
	bool is_there;
	struct mg_str key;
	struct mg_kv_found found;
};

struct mg_kv_scan {
	uint32_t count;
	struct source *last; /* whose key was given; it moves on with the next call */
	struct source sources[];
};

/* ---- what was acknowledged can be read ---- */

struct asked {
	pthread_mutex_t lock;
	uint32_t open;       /* guarded by lock: calls that are not done, and who still makes them */
	struct mg_error err; /* likewise */
	void (*done)(void *arg, const struct mg_error *err);
	void *arg;
	struct asked_one {
		struct mg_kv_call call; /* first */
		struct asked *asked;
	} list[];
};

static void one_done(struct asked *asked, const struct mg_error *err)
{
	pthread_mutex_lock(&asked->lock);
	if (err) {
		asked->err = *err;
	}
	bool last = --asked->open == 0;

	pthread_mutex_unlock(&asked->lock);
	if (last) {
		asked->done(asked->arg, asked->err.code ? &asked->err : NULL);
		pthread_mutex_destroy(&asked->lock);
		mg_free(asked);
	}
}

static void on_done(struct mg_kv_call *call, const struct mg_error *err,
                    const struct mg_kv_result *results)
{
	(void)results;
	one_done(((struct asked_one *)call)->asked, err);
}

void mg_kv_await_begin(struct mg_replica *replica,
                       void (*done)(void *arg, const struct mg_error *err), void *arg)
{
	uint32_t count = mg_replica_kv_shards(replica);
	struct asked *asked = mg_alloc0(sizeof *asked + count * sizeof asked->list[0]);

	pthread_mutex_init(&asked->lock, NULL);
	asked->open = count + 1;
	asked->done = done;
	asked->arg = arg;
	for (uint32_t i = 0; i < count; i++) {
		asked->list[i].asked = asked;
		asked->list[i].call = (struct mg_kv_call){ .shard = i, .reads = true, .done = on_done };
		mg_replica_kv_call(replica, &asked->list[i].call);
	}
	one_done(asked, NULL);
}

struct barrier {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;
	struct mg_error err;
};

static void on_awaited(void *arg, const struct mg_error *err)
{
	struct barrier *barrier = arg;

	pthread_mutex_lock(&barrier->lock);
	if (err) {
		barrier->err = *err;
	}
	barrier->open = true;
	pthread_cond_signal(&barrier->changed);
	pthread_mutex_unlock(&barrier->lock);
}

int mg_kv_await(struct mg_replica *replica, struct mg_error *err)
{
	struct barrier barrier = { .lock = PTHREAD_MUTEX_INITIALIZER };

	mg_cond_init(&barrier.changed);
	mg_kv_await_begin(replica, on_awaited, &barrier);
	pthread_mutex_lock(&barrier.lock);
	while (!barrier.open) {
		pthread_cond_wait(&barrier.changed, &barrier.lock);
	}
	pthread_mutex_unlock(&barrier.lock);
	pthread_cond_destroy(&barrier.changed);
	pthread_mutex_destroy(&barrier.lock);
	if (barrier.err.code) {
		*err = barrier.err;
	}
	return barrier.err.code;
}

/* ---- the scan ---- */

static void step(struct source *source)
{
	source->is_there = mg_kv_iter_next(source->iter, &source->key, &source->found);
}

int mg_kv_scan_open(struct mg_kv_scan **out, struct mg_replica *replica, struct mg_str space,
                    struct mg_str first, struct mg_str end, bool any, struct mg_error *err)
{
	uint32_t count = mg_replica_kv_shards(replica);
	int code = mg_replica_kv_check(replica, err);

	*out = NULL;
	code = code || any ? code : mg_kv_await(replica, err);
	if (code) {
		return code;
	}
	struct mg_kv_scan *scan = mg_alloc0(sizeof *scan + count * sizeof scan->sources[0]);

	scan->count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct mg_kv_state *state = mg_replica_kv_state(replica, i);

		scan->sources[i].version = mg_kv_feed_version(mg_kv_state_feed(state));
		scan->sources[i].iter = mg_kv_iter_open(state, space, first, end);
		step(&scan->sources[i]);
	}
	*out = scan;
	return 0;
}

static bool is_before(struct mg_str a, struct mg_str b)
{
	int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

	return order < 0 || (order == 0 && a.len < b.len);
}

bool mg_kv_scan_next(struct mg_kv_scan *scan, struct mg_str *key, struct mg_kv_found *found)
{
	struct source *first = NULL;

	if (scan->last) {
		step(scan->last);
	}
	for (uint32_t i = 0; i < scan->count; i++) {
		struct source *source = &scan->sources[i];

		if (!source->is_there && mg_kv_iter_failed(source->iter)) {
			return false; /* close tells: no key of the others hides that some are missing */
		}
		if (source->is_there && (!first || is_before(source->key, first->key))) {
			first = source;
		}
	}
	scan->last = first;
	if (!first) {
		return false;
	}
	*key = first->key;
	*found = first->found;
	return true;
}

bool mg_kv_scan_whole(struct mg_kv_scan *scan, struct mg_str *value)
{
	return mg_kv_iter_whole(scan->last->iter, value);
}

void mg_kv_scan_token(const struct mg_kv_scan *scan, struct mg_sb *out)
{
	for (uint32_t i = 0; i < scan->count; i++) {
		mg_kv_token_add(out, i, scan->sources[i].version);
	}
}

int mg_kv_scan_close(struct mg_kv_scan *scan, struct mg_error *err)
{
	int code = 0;

	for (uint32_t i = 0; scan && i < scan->count; i++) {
		struct mg_error failed = { 0 };
		int own = mg_kv_iter_close(scan->sources[i].iter, &failed);

		if (own && !code) {
			*err = failed;
			code = own;
		}
	}
	mg_free(scan);
	return code;
}
