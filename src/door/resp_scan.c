/*
 * resp_scan.c - SCAN, KEYS, DBSIZE: first the shards are brought up to date, then a query thread
 * reads this node's own.
 *
 * A cursor of SCAN is a number of this connection that stands for a shard and a key; of the last
 * MG_REDIS_CURSORS the place is known.
 *
 * owner: the connection's loop; struct scan is the query thread's while it reads.
 */
#include "door/resp_int.h"

#include <stdio.h>
#include <string.h>

enum {
	SCAN_COUNT = 10, /* keys that a page looks at, when nothing is said */
	SCAN_COUNT_MAX = 10000,
	SCAN_BYTES = 1 << 20, /* of keys in a page */
	KEYS_BYTES = 64 << 20,
};

struct scan {
	struct mg_str space;
	struct mg_str pattern; /* ptr NULL: all */
	bool none;             /* TYPE is no type of ours */
	uint32_t shard;
	struct mg_str first;
	/* how far it may go, and went */
	size_t count, bytes_max, seen;
	struct mg_sb keys; /* as bulk strings */
	size_t found;
	struct mg_sb next; /* where the next page begins, when there is more here */
	bool more, full;
	uint64_t size; /* DBSIZE */
	struct mg_error err;
};

static void free_scan(void *arg)
{
	struct scan *scan = arg;

	mg_sb_fini(&scan->keys);
	mg_sb_fini(&scan->next);
}

static struct scan *scan_new(struct mg_redis_job *job)
{
	struct mg_arena *arena = job->wave->arena;
	struct scan *scan = mg_arena_alloc(arena, sizeof *scan);

	scan->space = mg_str(mg_arena_strdup(arena, job->redis->space));
	scan->count = SIZE_MAX;
	scan->bytes_max = KEYS_BYTES;
	mg_arena_defer(arena, free_scan, scan);
	job->detail = scan;
	return scan;
}

/* False after an answer. */
static bool want_shards(struct mg_redis_job *job, uint32_t first, uint32_t count)
{
	if (!mg_redis_has_shards(job)) {
		return false;
	}
	job->wave->barrier_first = first;
	job->wave->barrier_count = count;
	return true;
}

/* ---- on a query thread ---- */

/* The key itself is the next one when it has no place any more. */
static bool take_key(void *arg, struct mg_str key, const struct mg_kv_found *found)
{
	struct scan *scan = arg;

	(void)found;
	scan->full = scan->keys.len > scan->bytes_max;
	if (scan->seen == scan->count || scan->full) {
		scan->more = true;
		mg_sb_add_len(&scan->next, key.ptr, key.len);
		return false;
	}
	scan->seen++;
	if (!scan->none && (!scan->pattern.ptr || mg_resp_glob(scan->pattern, key))) {
		struct mg_resp_out out = { .bytes = scan->keys };

		mg_resp_bulk(&out, key);
		scan->keys = out.bytes;
		scan->found++;
	}
	return true;
}

static void scan_shard(struct mg_redis_job *job, uint32_t shard, struct mg_str first)
{
	struct scan *scan = job->detail;
	struct mg_kv_state *state = mg_replica_kv_state(mg_redis_replica(job->redis), shard);

	(void)mg_kv_state_scan(state, scan->space, first, (struct mg_str){ 0 }, take_key, scan,
	                       &scan->err);
}

static void run_scan(struct mg_redis_job *job)
{
	struct scan *scan = job->detail;

	scan_shard(job, scan->shard, scan->first);
}

static void run_keys(struct mg_redis_job *job)
{
	struct scan *scan = job->detail;
	uint32_t shards = mg_replica_kv_shards(mg_redis_replica(job->redis));

	for (uint32_t i = 0; i < shards && !scan->err.code && !scan->full; i++) {
		scan_shard(job, i, (struct mg_str){ 0 });
	}
}

static void add_size(void *arg, struct mg_str space, uint64_t keys, uint64_t bytes)
{
	struct scan *scan = arg;

	(void)bytes;
	scan->size += mg_str_eq(space, scan->space) ? keys : 0;
}

static void run_dbsize(struct mg_redis_job *job)
{
	struct scan *scan = job->detail;
	struct mg_replica *replica = mg_redis_replica(job->redis);

	for (uint32_t i = 0; i < mg_replica_kv_shards(replica) && !scan->err.code; i++) {
		(void)mg_kv_state_spaces(mg_replica_kv_state(replica, i), add_size, scan, &scan->err);
	}
}

/* ---- cursors ---- */

void mg_redis_drop_cursors(struct mg_redis *redis)
{
	for (size_t i = 0; redis->cursors && i < MG_REDIS_CURSORS; i++) {
		mg_free(redis->cursors[i].key);
	}
	mg_free(redis->cursors);
	redis->cursors = NULL;
}

/* The oldest one makes room. */
static uint64_t new_cursor(struct mg_redis *redis, uint32_t shard, struct mg_str key)
{
	if (!redis->cursors) {
		redis->cursors = mg_alloc0(MG_REDIS_CURSORS * sizeof *redis->cursors);
	}
	uint64_t token = ++redis->next_token;
	struct mg_redis_cursor *cursor = &redis->cursors[token % MG_REDIS_CURSORS];

	mg_free(cursor->key);
	*cursor = (struct mg_redis_cursor){ .token = token,
		                                .shard = shard,
		                                .key = mg_strndup(key.len ? key.ptr : "", key.len),
		                                .key_len = key.len };
	return token;
}

/* False: it is none. */
static bool read_cursor(struct mg_redis_job *job, struct scan *scan)
{
	const struct mg_redis *redis = job->redis;
	int64_t token = 0;

	if (!mg_resp_int(job->args[1], &token) || token < 0) {
		return false;
	}
	if (token == 0) {
		return true;
	}
	const struct mg_redis_cursor *cursor =
		redis->cursors ? &redis->cursors[token % MG_REDIS_CURSORS] : NULL;

	if (!cursor || cursor->token != (uint64_t)token) {
		return false;
	}
	scan->shard = cursor->shard;
	scan->first = (struct mg_str){
		mg_arena_strndup(job->wave->arena, cursor->key, cursor->key_len), cursor->key_len
	};
	return true;
}

/* ---- SCAN, KEYS, DBSIZE ---- */

/* False after an answer. */
static bool read_options(struct mg_redis_job *job, struct scan *scan)
{
	int64_t count = SCAN_COUNT;

	for (size_t i = 2; i < job->arg_count; i += 2) {
		struct mg_str word = job->args[i];
		struct mg_str value = i + 1 < job->arg_count ? job->args[i + 1] : (struct mg_str){ 0 };

		if (value.ptr && mg_redis_is(word, "match")) {
			scan->pattern = value;
		} else if (value.ptr && mg_redis_is(word, "type")) {
			scan->none = !mg_redis_is(value, "string");
		} else if (value.ptr && mg_redis_is(word, "count")) {
			if (!mg_redis_int(job, value, &count)) {
				return false;
			}
		} else {
			count = 0;
		}
		if (count < 1) {
			mg_redis_error(job, MG_REDIS_SYNTAX);
			return false;
		}
	}
	scan->count = count < SCAN_COUNT_MAX ? (size_t)count : SCAN_COUNT_MAX;
	scan->bytes_max = SCAN_BYTES;
	return true;
}

void mg_redis_scan(struct mg_redis_job *job)
{
	struct scan *scan = scan_new(job);

	if (!read_cursor(job, scan)) {
		mg_redis_error(job, "ERR invalid cursor");
	} else if (read_options(job, scan) && want_shards(job, scan->shard, 1)) {
		job->wave->slow = run_scan;
	}
}

void mg_redis_keys(struct mg_redis_job *job)
{
	struct scan *scan = scan_new(job);

	scan->pattern = job->args[1];
	if (want_shards(job, 0, mg_replica_kv_shards(mg_redis_replica(job->redis)))) {
		job->wave->slow = run_keys;
	}
}

void mg_redis_dbsize(struct mg_redis_job *job)
{
	(void)scan_new(job);
	if (want_shards(job, 0, mg_replica_kv_shards(mg_redis_replica(job->redis)))) {
		job->wave->slow = run_dbsize;
	}
}

static void say_keys(const struct scan *scan, struct mg_resp_out *out)
{
	mg_resp_array(out, scan->found);
	mg_sb_add_len(&out->bytes, scan->keys.ptr, scan->keys.len);
}

static void say_page(struct mg_redis *redis, const struct scan *scan, struct mg_resp_out *out)
{
	uint32_t shards = mg_replica_kv_shards(mg_redis_replica(redis));
	uint64_t token = 0;
	char text[24];

	if (scan->more) {
		token = new_cursor(redis, scan->shard, (struct mg_str){ scan->next.ptr, scan->next.len });
	} else if (scan->shard + 1 < shards) {
		token = new_cursor(redis, scan->shard + 1, (struct mg_str){ 0 });
	}
	(void)snprintf(text, sizeof text, "%llu", (unsigned long long)token);
	mg_resp_array(out, 2);
	mg_resp_bulk(out, mg_str(text));
	say_keys(scan, out);
}

void mg_redis_slow_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	struct scan *scan = job->detail;

	if (scan->err.code) {
		mg_resp_error(out, "ERR %s", scan->err.message);
	} else if (job->what->begin == mg_redis_dbsize) {
		mg_resp_number(out, (int64_t)scan->size);
	} else if (job->what->begin == mg_redis_scan) {
		say_page(job->redis, scan, out);
	} else if (scan->full) {
		mg_resp_error(out, "ERR there are too many keys: use SCAN");
	} else {
		say_keys(scan, out);
	}
}
