/*
 * resp_wave.c - see resp_int.h: commands that are under way at once, and the calls that carry
 * them.
 *
 *     loop: begin each -> operations, sorted by shard -> mg_replica_kv_call, some; or all of them
 *           at once -> mg_replica_kv_atomic
 *     raft thread: done: what is to be answered is copied; the last one posts
 *     loop: mg_redis_wave_ended; or, before that, a query thread: the slow part
 */
#include "door/resp_int.h"

#include "base/assert.h"
#include "replica/kv_atomic.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct mg_redis_call {
	struct mg_kv_call call; /* first: done finds this by it */
	struct mg_kv_atomic atomic; /* instead, of a wave that is one */
	struct mg_redis_wave *wave;
	struct mg_redis_call *next;
	struct mg_kv_op *ops;
	struct mg_redis_op **of; /* whose they are */
	uint32_t cap;
	size_t bytes;
	char *values; /* that came */
	struct mg_error err;
};

struct mg_replica *mg_redis_replica(const struct mg_redis *redis)
{
	return mg_engine_replica(redis->doors->options.engine);
}

/* ---- operations ---- */

static struct mg_str space_of(struct mg_redis_wave *wave)
{
	const char *now = wave->redis->space;
	struct mg_str known = wave->space;

	if (!known.ptr || !mg_str_eq(known, mg_str(now))) {
		wave->space = mg_str(mg_arena_strdup(wave->arena, now)); /* SELECT may come behind */
	}
	return wave->space;
}

/* The first word of an error, by which clients tell what they may do. */
static const char *word_of(int code)
{
	return code == MG_E_UNAVAILABLE ? "CLUSTERDOWN"
	       : code == MG_E_BUSY      ? "TRYAGAIN"
	       : code == MG_E_NOMEM     ? "OOM"
	       : code == MG_E_QUOTA     ? "OOM"
	       : code == MG_E_DISK_FULL ? "MISCONF" /* as of Redis, of its disk */
	                                : "ERR";
}

bool mg_redis_has_shards(struct mg_redis_job *job)
{
	struct mg_error err = { 0 };
	char text[sizeof err.message + sizeof err.hint + 32];

	if (mg_replica_kv_check(mg_redis_replica(job->redis), &err)) {
		snprintf(text, sizeof text, "%s %s: %s", word_of(err.code), err.message, err.hint);
		mg_redis_error(job, text);
	}
	return err.code == 0;
}

struct mg_redis_op *mg_redis_add(struct mg_redis_job *job, enum mg_kv_op_kind kind,
                                 struct mg_str key)
{
	struct mg_redis_wave *wave = job->wave;

	if (!mg_redis_has_shards(job)) {
		return NULL;
	}
	if (key.len > MG_KV_KEY_MAX) {
		mg_redis_error(job, "ERR a key has at most 65536 bytes");
		return NULL;
	}
	mg_grow(wave->ops, wave->op_count, wave->op_cap);
	struct mg_redis_op *op = &wave->ops[wave->op_count++];

	*op = (struct mg_redis_op){
		.op = { .kind = (uint8_t)kind, .flags = MG_KV_ALONE, .space = space_of(wave), .key = key },
	};
	op->shard = mg_replica_kv_shard(mg_redis_replica(wave->redis), op->op.space, key);
	job->op_count++;
	return op;
}

struct mg_redis_got *mg_redis_got(struct mg_redis_job *job, size_t i)
{
	mg_assert(i < job->op_count);
	return &job->wave->ops[job->first_op + i].got;
}

/* ---- from the queue ---- */

/* A read of one key behind a write may go the write's way: so commands by turns are few waves. */
static bool goes_with(const struct mg_redis_wave *wave, const struct mg_redis_command *what,
                      unsigned kind)
{
	return wave->kind == kind || (wave->kind == MG_REDIS_WRITE && what->first == what->last);
}

static bool fits(const struct mg_redis_wave *wave, const struct mg_redis_command *what)
{
	unsigned kind = what ? what->flags & (MG_REDIS_READ | MG_REDIS_WRITE) : 0;

	if (wave->full || wave->job_count >= MG_REDIS_COMMANDS_MAX) {
		return false;
	}
	if (wave->redis->multi && what && !(what->flags & MG_REDIS_NOW)) {
		return true; /* it is queued, or refused */
	}
	/* What changes the connection waits for what was begun, which may have to begin again. */
	if (kind == 0 || (what && what->flags & MG_REDIS_ALONE)) {
		return wave->kind == 0;
	}
	return wave->kind == 0 ||
	       (goes_with(wave, what, kind) && wave->op_count < MG_REDIS_WAVE_OPS &&
	        wave->bytes < MG_REDIS_WAVE_BYTES && wave->olds < MG_REDIS_OLD_MAX);
}

/* What the job's operations weigh. */
static void weigh(struct mg_redis_wave *wave, const struct mg_redis_job *job)
{
	for (size_t i = 0; i < job->op_count; i++) {
		const struct mg_redis_op *op = &wave->ops[job->first_op + i];

		wave->bytes += op->op.key.len + op->op.value.len;
		wave->olds += (op->op.flags & MG_KV_WANT_OLD) != 0 ||
		              (op->op.kind == MG_KV_READ && wave->kind == MG_REDIS_WRITE);
	}
}

static void take_command(struct mg_redis_wave *wave, struct mg_resp_command *command,
                         const struct mg_redis_command *what)
{
	struct mg_redis *redis = wave->redis;
	struct mg_redis_job *job = mg_arena_alloc(wave->arena, sizeof *job);

	redis->queue = command->next;
	redis->queue_last = redis->queue ? redis->queue_last : &redis->queue;
	*job = (struct mg_redis_job){
		.wave = wave,
		.redis = redis,
		.command = command,
		.what = what,
		.args = command->args,
		.arg_count = command->count,
		.reply = { .v3 = redis->v3 },
		.first_op = wave->op_count,
	};
	*wave->last = job;
	wave->last = &job->next;
	wave->job_count++;
	mg_redis_begin(job);
	if (job->op_count && job->what) {
		wave->kind = wave->kind          ? wave->kind
		             : job->what->flags & MG_REDIS_READ ? MG_REDIS_READ
		                                                : MG_REDIS_WRITE;
		weigh(wave, job);
	}
	wave->full = wave->full || wave->slow || wave->barrier_count || redis->quitting ||
	             (job->op_count && job->what && job->what->flags & MG_REDIS_ALONE);
}

struct mg_redis_wave *mg_redis_wave_new(struct mg_redis *redis)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_redis_wave *wave = mg_arena_alloc(arena, sizeof *wave);

	*wave = (struct mg_redis_wave){ .redis = redis, .arena = arena, .last = &wave->jobs };
	for (bool more = true; more && redis->queue;) {
		const struct mg_redis_command *what = mg_redis_find(redis->queue->args[0]);

		more = fits(wave, what);
		if (more) {
			take_command(wave, redis->queue, what);
		}
	}
	return wave;
}

/* ---- calls ---- */

static void slow_part(void *arg)
{
	struct mg_redis_wave *wave = arg;
	struct mg_redis_job *job = wave->jobs;

	while (job->next) {
		job = job->next;
	}
	wave->slow(job);
	mg_loop_post(wave->redis->loop, (void (*)(void *))mg_redis_wave_ended, wave);
}

static struct mg_error *failure(struct mg_redis_wave *wave)
{
	struct mg_redis_call *call = wave->calls;

	while (call && !call->err.code) {
		call = call->next;
	}
	return call ? &call->err : NULL;
}

static void begin_slow(struct mg_redis_wave *wave, struct mg_redis_job *job)
{
	struct mg_error err = { 0 }, *failed = failure(wave);

	if (!failed && mg_pool_post(mg_sessions_pool(wave->redis->doors->sessions), slow_part, wave,
	                            &err) == 0) {
		return;
	}
	wave->slow = NULL;
	mg_resp_error(&job->reply, "ERR %s", failed ? failed->message : err.message);
	mg_redis_wave_ended(wave);
}

/* Loop: the last call has ended. */
static void calls_ended(void *arg)
{
	struct mg_redis_wave *wave = arg;
	struct mg_redis_job *job = wave->jobs;

	while (job->next) {
		job = job->next;
	}
	if (wave->slow && wave->redis->conn) {
		begin_slow(wave, job);
	} else {
		mg_redis_wave_ended(wave);
	}
}

static void note_result(struct mg_redis_op *op, const struct mg_kv_result *result)
{
	op->got = (struct mg_redis_got){
		.status = result->status,
		.found = result->found,
		.version = result->version,
		.number = result->number,
		.expiry_ms = result->was.expiry_ms,
		.size = result->was.size,
		.quota = result->quota,
		.quota_of_keys = result->quota_of_keys,
	};
}

/* One in parts is not given here. */
static bool is_given(const struct mg_redis_op *op)
{
	return op->want_value && op->got.found && op->got.status != MG_KV_TOO_LARGE;
}

/* Values that are wanted, the first one whatever it is, the rest as far as there is room. */
static void copy_values(struct mg_redis_call *call, const struct mg_kv_result *results)
{
	size_t size = 0, at = 0;

	for (uint32_t i = 0; i < call->call.count; i++) {
		struct mg_redis_op *op = call->of[i];

		if (is_given(op)) {
			op->got.skipped = size && size + op->got.size > MG_REDIS_GOT_BYTES;
			size += op->got.skipped ? 0 : op->got.size;
		}
	}
	call->values = size ? mg_try_alloc(size) : NULL;
	if (size && !call->values) {
		mg_error_set(&call->err, MG_E_NOMEM, "no memory for %zu bytes of values", size);
		return;
	}
	for (uint32_t i = 0; i < call->call.count; i++) {
		struct mg_redis_op *op = call->of[i];

		if (is_given(op) && !op->got.skipped && op->got.size) {
			memcpy(call->values + at, results[i].was.value.ptr, op->got.size);
			op->got.value = (struct mg_str){ call->values + at, op->got.size };
			at += op->got.size;
		}
	}
}

/* The first operation that ended so; or how many there are. */
static uint32_t find_status(const struct mg_redis_call *call, const struct mg_kv_result *results,
                            enum mg_kv_status status)
{
	uint32_t i = 0;

	while (i < call->call.count && results[i].status != status) {
		i++;
	}
	return i;
}

/* Of operations that happen together or not at all. */
static bool is_over_quota(struct mg_redis_call *call, const struct mg_kv_result *results)
{
	uint32_t at = find_status(call, results, MG_KV_OVER_QUOTA);

	if (!call->wave->one || at == call->call.count) {
		return false;
	}
	(void)mg_kv_say_over_quota(&call->err, call->ops[at].space, &results[at]);
	return true;
}

/* Raft thread; or the loop, when it was refused at once. */
static void note_done(struct mg_redis_call *call, const struct mg_error *err,
                      const struct mg_kv_result *results)
{
	struct mg_redis_wave *wave = call->wave;

	if (err) {
		call->err = *err;
	} else if (find_status(call, results, MG_KV_TOO_MUCH) < call->call.count) {
		mg_error_set(&call->err, MG_E_LIMIT, "commands that were sent at once read and write more "
		                                     "than 32 MiB in a shard, and nothing was changed");
	} else if (!is_over_quota(call, results)) {
		for (uint32_t i = 0; i < call->call.count; i++) {
			note_result(call->of[i], &results[i]);
		}
		copy_values(call, results);
	}
	if (atomic_fetch_sub(&wave->left, 1) == 1) {
		mg_loop_post(wave->redis->loop, calls_ended, wave);
	}
}

static void call_done(struct mg_kv_call *call, const struct mg_error *err,
                      const struct mg_kv_result *results)
{
	note_done((struct mg_redis_call *)call, err, results);
}

static void atomic_done(struct mg_kv_atomic *atomic, const struct mg_error *err,
                        const struct mg_kv_result *results)
{
	char *call = (char *)atomic - offsetof(struct mg_redis_call, atomic);

	note_done((struct mg_redis_call *)call, err, results);
}

static struct mg_redis_call *new_call(struct mg_redis_wave *wave, uint32_t shard, uint32_t cap)
{
	struct mg_redis_call *call = mg_arena_alloc(wave->arena, sizeof *call);

	call->wave = wave;
	call->cap = cap;
	call->call = (struct mg_kv_call){ .shard = shard, .done = call_done };
	if (cap) {
		call->ops = mg_arena_new_array(wave->arena, struct mg_kv_op, cap);
		call->of = mg_arena_new_array(wave->arena, struct mg_redis_op *, cap);
	}
	call->call.ops = call->ops;
	call->call.reads = cap == 0 || wave->kind == MG_REDIS_READ;
	return call;
}

static bool takes(const struct mg_redis_call *call, const struct mg_redis_op *op)
{
	size_t size = mg_kv_op_size(&op->op);

	return call->call.count < call->cap &&
	       (call->wave->one || call->call.count == 0 || call->bytes + size <= MG_REDIS_CALL_BYTES);
}

static uint32_t place_of(const struct mg_redis_wave *wave, const struct mg_redis_op *op)
{
	return wave->one ? 0 : op->shard;
}

/* The wave's operations in calls, of each shard in their order; or all in one. */
static void make_calls(struct mg_redis_wave *wave)
{
	uint32_t shards = mg_replica_kv_shards(mg_redis_replica(wave->redis));
	struct mg_redis_call **now = mg_arena_new_array(wave->arena, struct mg_redis_call *, shards);
	uint32_t *left = mg_arena_new_array(wave->arena, uint32_t, shards); /* operations of each */
	struct mg_redis_call **last = &wave->calls;
	uint32_t most = wave->kind == MG_REDIS_READ ? MG_REDIS_READS_MAX : MG_REDIS_WRITES_MAX;

	for (size_t i = 0; i < wave->op_count; i++) {
		left[place_of(wave, &wave->ops[i])]++;
	}
	for (size_t i = 0; i < wave->op_count; i++) {
		struct mg_redis_op *op = &wave->ops[i];
		uint32_t place = place_of(wave, op);
		struct mg_redis_call *call = now[place];

		if (!call || !takes(call, op)) {
			bool few = wave->one || left[place] < most;

			call = now[place] = new_call(wave, op->shard, few ? left[place] : most);
			*last = call;
			last = &call->next;
		}
		left[place]--;
		call->of[call->call.count] = op;
		op->op.flags |= wave->one ? MG_KV_TOGETHER : 0;
		call->ops[call->call.count++] = op->op;
		call->bytes += mg_kv_op_size(&op->op);
	}
	for (uint32_t i = 0; i < wave->barrier_count; i++) {
		*last = new_call(wave, wave->barrier_first + i, 0);
		last = &(*last)->next;
	}
}

bool mg_redis_wave_start(struct mg_redis_wave *wave)
{
	struct mg_replica *replica = mg_redis_replica(wave->redis);
	size_t count = 0;

	if (wave->op_count || wave->barrier_count) {
		make_calls(wave);
	}
	for (struct mg_redis_call *call = wave->calls; call; call = call->next) {
		count++;
	}
	if (count == 0 && wave->slow) {
		mg_loop_post(wave->redis->loop, calls_ended, wave);
	}
	atomic_store(&wave->left, count);
	for (struct mg_redis_call *call = wave->calls; call; call = call->next) {
		if (wave->one) {
			call->atomic = (struct mg_kv_atomic){ .ops = call->ops, .count = call->call.count,
				                                  .done = atomic_done };
			mg_replica_kv_atomic(replica, &call->atomic);
		} else {
			mg_replica_kv_call(replica, &call->call);
		}
	}
	return count > 0 || wave->slow;
}

/* ---- answers ---- */

/* A transaction is refused as Redis refuses one for which it has no memory. */
static void say_failure(struct mg_resp_out *out, const struct mg_redis_job *job,
                        const struct mg_error *err)
{
	const char *transaction =
		err->code == MG_E_QUOTA && job->parts ? "EXECABORT Transaction discarded because of: " : "";

	mg_resp_error(out, err->code == MG_E_UNKNOWN_OUTCOME ? "%s%s unknown outcome: %s" : "%s%s %s",
	              transaction, word_of(err->code), err->message);
}

/* The first call that failed of those that carried the job's operations. */
static const struct mg_error *why_failed(struct mg_redis_wave *wave, const struct mg_redis_job *job)
{
	const struct mg_redis_op *first = wave->ops + job->first_op, *end = first + job->op_count;

	for (struct mg_redis_call *call = wave->calls; call; call = call->next) {
		for (uint32_t i = 0; call->err.code && i < call->call.count; i++) {
			if (call->of[i] >= first && call->of[i] < end) {
				return &call->err;
			}
		}
	}
	return NULL;
}

bool mg_redis_has_large(struct mg_redis_job *job)
{
	bool large = false;

	for (size_t i = 0; !large && i < job->op_count; i++) {
		const struct mg_redis_op *op = &job->wave->ops[job->first_op + i];

		large = op->want_value && op->got.status == MG_KV_TOO_LARGE;
	}
	return large;
}

static bool has_skipped(struct mg_redis_job *job)
{
	bool skipped = false;

	for (size_t i = 0; !skipped && i < job->op_count; i++) {
		skipped = mg_redis_got(job, i)->skipped;
	}
	return skipped;
}

static void say_over_quota(struct mg_resp_out *out, const struct mg_redis_job *job,
                           const struct mg_redis_op *op)
{
	const struct mg_kv_result result = { .quota = op->got.quota,
		                                 .quota_of_keys = op->got.quota_of_keys };
	struct mg_error err = { 0 };

	(void)mg_kv_say_over_quota(&err, op->op.space, &result);
	say_failure(out, job, &err);
}

/* NULL: none was refused for that. */
static const struct mg_redis_op *find_over_quota(struct mg_redis_job *job)
{
	size_t i = 0;

	while (i < job->op_count && mg_redis_got(job, i)->status != MG_KV_OVER_QUOTA) {
		i++;
	}
	return i < job->op_count ? &job->wave->ops[job->first_op + i] : NULL;
}

static void answer(struct mg_redis_wave *wave, struct mg_redis_job *job, bool any_failed,
                   struct mg_resp_out *out)
{
	const struct mg_error *err = any_failed ? why_failed(wave, job) : NULL;
	const struct mg_redis_op *refused = find_over_quota(job);

	if (err) {
		say_failure(out, job, err);
	} else if (refused) {
		say_over_quota(out, job, refused);
	} else if (job->op_count && has_skipped(job)) {
		mg_resp_error(out, "ERR the answer is too large: ask for fewer keys at once");
	} else if (mg_redis_has_large(job)) {
		mg_resp_error(out, MG_REDIS_LARGE);
	} else if (job->reply.bytes.len == 0 && job->what && job->what->answer) {
		job->what->answer(job, out);
	} else {
		mg_sb_add_len(&out->bytes, job->reply.bytes.ptr, job->reply.bytes.len);
	}
	mg_sb_fini(&job->reply.bytes);
	wave->redis->pending--;
	wave->redis->pending_bytes -= job->command ? job->command->bytes : 0;
	mg_resp_command_free(job->command);
	job->command = NULL;
}

/* Commands from this job on begin again: they only read. */
static void put_back(struct mg_redis_wave *wave, struct mg_redis_job *job)
{
	struct mg_redis *redis = wave->redis;
	struct mg_resp_command *first = NULL, **last = &first;

	for (; job; job = job->next) {
		*last = job->command;
		last = &job->command->next;
		job->command = NULL;
		mg_sb_fini(&job->reply.bytes);
	}
	*last = redis->queue;
	redis->queue_last = redis->queue ? redis->queue_last : last;
	redis->queue = first;
}

void mg_redis_wave_answer(struct mg_redis_wave *wave, struct mg_resp_out *out)
{
	bool any_failed = failure(wave) != NULL;
	struct mg_redis_job *job = wave->jobs;

	for (; job; job = job->next) {
		bool later = job != wave->jobs && wave->kind == MG_REDIS_READ && !any_failed &&
		             job->op_count && has_skipped(job);

		if (later && wave->redis->conn) {
			put_back(wave, job);
			return;
		}
		out->v3 = job->reply.v3;
		answer(wave, job, any_failed, out);
	}
}

void mg_redis_wave_free(struct mg_redis_wave *wave)
{
	for (struct mg_redis_call *call = wave->calls; call; call = call->next) {
		mg_free(call->values);
	}
	mg_free(wave->ops);
	mg_arena_free(wave->arena);
}
