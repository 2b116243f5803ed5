/*
 * resp_tx.c - MULTI, EXEC, DISCARD, WATCH, UNWATCH: a transaction is one request, of one shard's
 * log or of several (replica/kv_atomic.h).
 *
 * WATCH reads versions.  EXEC puts them in front as conditions of the whole request; what was
 * queued follows, and of that one refusal stops no other.
 *
 * owner: the connection's loop.
 */
#include "door/resp_int.h"

#include <string.h>

/* ---- what is remembered ---- */

void mg_redis_unwatch_all(struct mg_redis *redis)
{
	for (size_t i = 0; i < redis->watch_count; i++) {
		mg_free(redis->watches[i].space);
		mg_free(redis->watches[i].key);
	}
	redis->watch_count = 0;
}

static void free_commands(void *arg)
{
	for (struct mg_resp_command *command = arg, *next; command; command = next) {
		next = command->next;
		mg_resp_command_free(command);
	}
}

/* The transaction is over; its commands are the caller's. */
static struct mg_resp_command *take_queued(struct mg_redis *redis)
{
	struct mg_resp_command *queued = redis->queued;

	redis->queued = NULL;
	redis->queued_last = &redis->queued;
	redis->queued_count = redis->queued_bytes = 0;
	redis->multi = redis->dirty = false;
	return queued;
}

void mg_redis_drop_queued(struct mg_redis *redis)
{
	free_commands(take_queued(redis));
}

/* ---- MULTI, DISCARD, WATCH, UNWATCH ---- */

void mg_redis_multi(struct mg_redis_job *job)
{
	if (job->redis->multi) {
		mg_redis_error(job, "ERR MULTI calls can not be nested");
		return;
	}
	job->redis->multi = true;
	mg_redis_ok(job);
}

void mg_redis_discard(struct mg_redis_job *job)
{
	if (!job->redis->multi) {
		mg_redis_error(job, "ERR DISCARD without MULTI");
		return;
	}
	mg_redis_drop_queued(job->redis);
	mg_redis_unwatch_all(job->redis);
	mg_redis_ok(job);
}

void mg_redis_watch(struct mg_redis_job *job)
{
	if (job->redis->multi) {
		mg_redis_error(job, "ERR WATCH inside MULTI is not allowed");
	} else if (job->redis->watch_count + job->arg_count - 1 > MG_REDIS_WATCHES_MAX) {
		mg_redis_error(job, "ERR too many keys are watched");
	} else {
		mg_redis_read(job);
		job->detail = job->op_count ? mg_arena_strdup(job->wave->arena, job->redis->space) : NULL;
	}
}

void mg_redis_watch_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	struct mg_redis *redis = job->redis;

	for (size_t i = 0; i < job->op_count; i++) {
		mg_grow(redis->watches, redis->watch_count, redis->watch_cap);
		redis->watches[redis->watch_count++] = (struct mg_redis_watch){
			.space = mg_strdup(job->detail),
			.key = mg_strndup(job->args[i + 1].ptr, job->args[i + 1].len),
			.key_len = job->args[i + 1].len,
			.version = mg_redis_got(job, i)->version,
		};
	}
	mg_resp_simple(out, "OK");
}

void mg_redis_unwatch(struct mg_redis_job *job)
{
	mg_redis_unwatch_all(job->redis);
	mg_redis_ok(job);
}

/* ---- EXEC ---- */

/* What was watched as conditions; it lies in the wave from here on.  False after an answer. */
static bool add_checks(struct mg_redis_job *job)
{
	struct mg_redis *redis = job->redis;
	struct mg_arena *arena = job->wave->arena;

	for (size_t i = 0; i < redis->watch_count; i++) {
		const struct mg_redis_watch *watch = &redis->watches[i];
		const struct mg_str key = { mg_arena_strndup(arena, watch->key, watch->key_len),
			                        watch->key_len };
		struct mg_redis_op *op = mg_redis_add(job, MG_KV_CHECK, key);

		if (!op) {
			return false;
		}
		op->op.space = mg_str(mg_arena_strdup(arena, watch->space));
		op->op.flags = MG_KV_IF_VERSION;
		op->op.number = watch->version;
		op->shard = mg_replica_kv_shard(mg_redis_replica(redis), op->op.space, key);
	}
	job->checks = redis->watch_count;
	return true;
}

static void free_parts(void *arg)
{
	struct mg_redis_job *job = arg;

	for (size_t i = 0; i < job->part_count; i++) {
		mg_sb_fini(&job->parts[i].reply.bytes);
	}
}

/* Begins what was queued, each as if it stood alone. */
static void begin_parts(struct mg_redis_job *job, struct mg_resp_command *queued, size_t count)
{
	job->parts = mg_arena_new_array(job->wave->arena, struct mg_redis_job, count + 1);
	mg_arena_defer(job->wave->arena, free_parts, job);
	for (; queued; queued = queued->next) {
		struct mg_redis_job *part = &job->parts[job->part_count++];

		*part = (struct mg_redis_job){
			.wave = job->wave,
			.redis = job->redis,
			.what = mg_redis_find(queued->args[0]),
			.args = queued->args,
			.arg_count = queued->count,
			.reply = { .v3 = job->redis->v3 },
			.first_op = job->wave->op_count,
		};
		part->what->begin(part);
		job->op_count += part->op_count;
	}
}

static size_t bytes_of(const struct mg_redis_job *job)
{
	size_t bytes = 0;

	for (size_t i = 0; i < job->op_count; i++) {
		bytes += mg_kv_op_size(&job->wave->ops[job->first_op + i].op);
	}
	return bytes;
}

void mg_redis_exec(struct mg_redis_job *job)
{
	struct mg_redis *redis = job->redis;
	bool multi = redis->multi, dirty = redis->dirty;
	size_t count = redis->queued_count;

	if (!multi) {
		mg_redis_error(job, "ERR EXEC without MULTI");
		return;
	}
	struct mg_resp_command *queued = take_queued(redis);

	mg_arena_defer(job->wave->arena, free_commands, queued);
	if (dirty) {
		mg_redis_error(job, "EXECABORT Transaction discarded because of previous errors.");
	} else if (add_checks(job)) {
		begin_parts(job, queued, count);
		job->wave->one = job->op_count > 0;
	}
	mg_redis_unwatch_all(redis);
	if (job->op_count > MG_KV_OPS_MAX || bytes_of(job) > MG_REDIS_MULTI_BYTES) {
		mg_redis_error(job, "ERR the transaction is too large");
	}
}

void mg_redis_exec_answer(struct mg_redis_job *job, struct mg_resp_out *out)
{
	for (size_t i = 0; i < job->checks; i++) {
		if (mg_redis_got(job, i)->status != MG_KV_DONE) {
			mg_resp_nil_array(out);
			return;
		}
	}
	mg_resp_array(out, job->part_count);
	for (size_t i = 0; i < job->part_count; i++) {
		struct mg_redis_job *part = &job->parts[i];

		if (part->reply.bytes.len) {
			mg_sb_add_len(&out->bytes, part->reply.bytes.ptr, part->reply.bytes.len);
		} else if (mg_redis_has_large(part)) {
			mg_resp_error(out, MG_REDIS_LARGE);
		} else {
			part->what->answer(part, out);
		}
	}
}
