/*
 * kv_batch.c - see kv_batch.h.
 *
 * owner: what a part points to belongs to the thread that waits; between call and done the raft
 * thread writes its results, under the lock.
 */
#include "session/kv_batch.h"

#include "os/clock.h"
#include "os/wait.h"
#include "replica/kv_terms.h"

#include <pthread.h>
#include <stddef.h>

enum { RETRY_EVERY_MS = 50 };

/* A batch that is under way. */
struct sending {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t open; /* parts that are waited for */
};

/* What one shard gets of it; or, as a whole, all of them. */
struct part {
	struct mg_kv_call call;     /* first */
	struct mg_kv_atomic atomic; /* of a whole */
	struct sending *sending;
	struct mg_kv_op *ops;
	uint32_t count;
	bool is_whole, over;
	struct mg_error err; /* code 0: it happened */
	uint64_t done;
};

void mg_kv_batch_init(struct mg_kv_batch *batch, struct mg_replica *replica,
                      bool (*stopped)(void *arg), void *arg)
{
	*batch = (struct mg_kv_batch){
		.replica = replica, .arena = mg_arena_new(), .stopped = stopped, .arg = arg
	};
}

void mg_kv_batch_fini(struct mg_kv_batch *batch)
{
	mg_arena_free(batch->arena);
	mg_free(batch->ops);
	*batch = (struct mg_kv_batch){ 0 };
}

/* ---- to the shards ---- */

/* Nothing else refuses what is put. */
static bool is_over_quota(const struct part *part, const struct mg_kv_result *results,
                          struct mg_error *err)
{
	uint32_t i = 0;

	while (i < part->count && results[i].status != MG_KV_OVER_QUOTA) {
		i++;
	}
	if (i < part->count) {
		(void)mg_kv_say_over_quota(err, part->ops[i].space, &results[i]);
	}
	return i < part->count;
}

static void part_done(struct part *part, const struct mg_error *err,
                      const struct mg_kv_result *results)
{
	struct sending *sending = part->sending;

	pthread_mutex_lock(&sending->lock);
	part->err = err ? *err : (struct mg_error){ 0 };
	bool refused = !err && is_over_quota(part, results, &part->err);

	for (uint32_t i = 0; !err && !refused && i < part->count; i++) {
		bool deletes = part->ops[i].kind == MG_KV_DELETE;

		part->done += results[i].status == MG_KV_DONE && (!deletes || results[i].found);
	}
	sending->open--;
	pthread_cond_signal(&sending->changed);
	pthread_mutex_unlock(&sending->lock);
}

static void on_done(struct mg_kv_call *call, const struct mg_error *err,
                    const struct mg_kv_result *results)
{
	part_done((struct part *)call, err, results);
}

static void on_whole_done(struct mg_kv_atomic *atomic, const struct mg_error *err,
                          const struct mg_kv_result *results)
{
	part_done((struct part *)((char *)atomic - offsetof(struct part, atomic)), err, results);
}

static void send_part(struct mg_kv_batch *batch, struct part *part)
{
	if (part->is_whole) {
		part->atomic = (struct mg_kv_atomic){
			.ops = part->ops, .count = part->count, .done = on_whole_done
		};
		mg_replica_kv_atomic(batch->replica, &part->atomic);
		return;
	}
	part->call = (struct mg_kv_call){
		.shard = part->call.shard, .ops = part->ops, .count = part->count, .done = on_done
	};
	mg_replica_kv_call(batch->replica, &part->call);
}

/* Those that are not over. */
static void send_parts(struct mg_kv_batch *batch, struct sending *sending, struct part *parts,
                       uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		sending->open += !parts[i].over;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!parts[i].over) {
			send_part(batch, &parts[i]);
		}
	}
	pthread_mutex_lock(&sending->lock);
	while (sending->open) {
		pthread_cond_wait(&sending->changed, &sending->lock);
	}
	pthread_mutex_unlock(&sending->lock);
}

/* *again: nothing else has failed than what may be sent again. */
static int take_results(struct mg_kv_batch *batch, struct part *parts, uint32_t count, bool *again,
                        struct mg_error *err)
{
	int code = 0;

	*again = true;
	for (uint32_t i = 0; i < count; i++) {
		struct part *part = &parts[i];

		if (part->over) {
			continue;
		}
		part->over = part->err.code == 0;
		batch->done += part->done;
		if (part->err.code) {
			code = part->err.code;
			*err = part->err;
			batch->doubtful = batch->doubtful || code == MG_E_UNKNOWN_OUTCOME;
			*again = *again && mg_code_info(code)->retry == MG_RETRY_SAFE;
		}
	}
	return code;
}

static int send_all(struct mg_kv_batch *batch, struct part *parts, uint32_t count,
                    struct mg_error *err)
{
	struct sending sending = { .lock = PTHREAD_MUTEX_INITIALIZER };
	uint64_t until_ms = mg_clock_ms() + MG_KV_BATCH_RETRY_MS;
	bool again = true;
	int code = 0;

	mg_cond_init(&sending.changed);
	for (uint32_t i = 0; i < count; i++) {
		parts[i].sending = &sending;
	}
	do {
		if (code) {
			mg_sleep_ms(RETRY_EVERY_MS);
		}
		send_parts(batch, &sending, parts, count);
		code = take_results(batch, parts, count, &again, err);
	} while (code && again && mg_clock_ms() < until_ms && !batch->stopped(batch->arg));
	pthread_cond_destroy(&sending.changed);
	pthread_mutex_destroy(&sending.lock);
	return code;
}

/* ---- batches ---- */

/* Each shard's operations, in their order. */
static struct part *make_parts(struct mg_kv_batch *batch, uint32_t count)
{
	struct part *parts = mg_arena_new_array(batch->arena, struct part, count);
	uint32_t *shards = mg_arena_new_array(batch->arena, uint32_t, batch->count);
	uint32_t *sizes = mg_arena_new_array(batch->arena, uint32_t, count);

	for (size_t i = 0; i < batch->count; i++) {
		shards[i] =
			mg_replica_kv_shard(batch->replica, batch->ops[i].space, batch->ops[i].key);
		sizes[shards[i]]++;
	}
	for (uint32_t i = 0; i < count; i++) {
		parts[i].ops = mg_arena_new_array(batch->arena, struct mg_kv_op, sizes[i] + 1);
		parts[i].call.shard = i;
		parts[i].over = sizes[i] == 0;
	}
	for (size_t i = 0; i < batch->count; i++) {
		struct part *part = &parts[shards[i]];

		part->ops[part->count++] = batch->ops[i];
	}
	return parts;
}

static int flush(struct mg_kv_batch *batch, struct mg_error *err)
{
	uint32_t count = mg_replica_kv_shards(batch->replica);

	batch->begun = true;
	int code = send_all(batch, make_parts(batch, count), count, err);

	mg_arena_free(batch->arena);
	batch->arena = mg_arena_new();
	batch->count = batch->bytes = 0;
	return code;
}

int mg_kv_batch_finish(struct mg_kv_batch *batch, struct mg_error *err)
{
	struct part whole = {
		.is_whole = true, .ops = batch->ops, .count = (uint32_t)batch->count
	};

	if (!batch->count) {
		return 0;
	}
	return batch->begun ? flush(batch, err) : send_all(batch, &whole, 1, err);
}

static struct mg_str keep(struct mg_kv_batch *batch, struct mg_str bytes)
{
	batch->bytes += bytes.len;
	return (struct mg_str){ mg_arena_strndup(batch->arena, bytes.ptr, bytes.len), bytes.len };
}

int mg_kv_batch_add(struct mg_kv_batch *batch, const struct mg_kv_op *op, struct mg_error *err)
{
	bool full = batch->count >= MG_KV_BATCH_OPS || batch->bytes >= MG_KV_BATCH_BYTES;
	int code = full ? flush(batch, err) : 0;

	if (code) {
		return code;
	}
	mg_grow(batch->ops, batch->count, batch->cap);
	struct mg_kv_op *own = &batch->ops[batch->count++];

	*own = *op; /* its namespace stays the caller's */
	own->key = keep(batch, op->key);
	own->value = keep(batch, op->value);
	own->type = keep(batch, op->type);
	own->encoding = keep(batch, op->encoding);
	return 0;
}
