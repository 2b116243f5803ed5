/* kv_scan.c - see kv_scan.h: one iterator for each shard, the smallest key of them is the next. */
#include "replica/kv_scan.h"

#include "os/wait.h"

#include <pthread.h>
#include <string.h>

struct source {
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

struct barrier {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t open;
	struct mg_error err;
};

struct asked {
	struct mg_kv_call call; /* first */
	struct barrier *barrier;
};

static void on_done(struct mg_kv_call *call, const struct mg_error *err,
                    const struct mg_kv_result *results)
{
	struct barrier *barrier = ((struct asked *)call)->barrier;

	(void)results;
	pthread_mutex_lock(&barrier->lock);
	if (err) {
		barrier->err = *err;
	}
	barrier->open--;
	pthread_cond_signal(&barrier->changed);
	pthread_mutex_unlock(&barrier->lock);
}

int mg_kv_await(struct mg_replica *replica, struct mg_error *err)
{
	uint32_t count = mg_replica_kv_shards(replica);
	struct asked *asked = mg_alloc0((count + 1) * sizeof *asked);
	struct barrier barrier = { .lock = PTHREAD_MUTEX_INITIALIZER, .open = count };

	mg_cond_init(&barrier.changed);
	for (uint32_t i = 0; i < count; i++) {
		asked[i].barrier = &barrier;
		asked[i].call = (struct mg_kv_call){ .shard = i, .reads = true, .done = on_done };
		mg_replica_kv_call(replica, &asked[i].call);
	}
	pthread_mutex_lock(&barrier.lock);
	while (barrier.open) {
		pthread_cond_wait(&barrier.changed, &barrier.lock);
	}
	pthread_mutex_unlock(&barrier.lock);
	pthread_cond_destroy(&barrier.changed);
	pthread_mutex_destroy(&barrier.lock);
	mg_free(asked);
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
	int code = count ? 0
	                 : mg_error_set(err, MG_E_UNSUPPORTED,
	                                "this cluster has no shards for keys and values");

	*out = NULL;
	code = code || any ? code : mg_kv_await(replica, err);
	if (code) {
		return code;
	}
	struct mg_kv_scan *scan = mg_alloc0(sizeof *scan + count * sizeof scan->sources[0]);

	scan->count = count;
	for (uint32_t i = 0; i < count; i++) {
		scan->sources[i].iter =
			mg_kv_iter_open(mg_replica_kv_state(replica, i), space, first, end);
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
