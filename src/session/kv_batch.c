/*
 * kv_batch.c - see kv_batch.h.
 *
 * owner: what a part points to belongs to the thread that waits; between call and done the raft
 * thread writes its results, under the lock.
 */
#include "session/kv_batch.h"

#include "os/clock.h"
#include "os/wait.h"

#include <pthread.h>

enum { RETRY_EVERY_MS = 50 };

/* A batch that is under way. */
struct sending {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t open; /* parts that are waited for */
};

/* What one shard gets of it. */
struct part {
	struct mg_kv_call call; /* first */
	struct sending *sending;
	struct mg_kv_op *ops;
	bool over;
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

static void on_done(struct mg_kv_call *call, const struct mg_error *err,
                    const struct mg_kv_result *results)
{
	struct part *part = (struct part *)call;
	struct sending *sending = part->sending;

	pthread_mutex_lock(&sending->lock);
	part->err = err ? *err : (struct mg_error){ 0 };
	for (uint32_t i = 0; !err && i < call->count; i++) {
		bool deletes = call->ops[i].kind == MG_KV_DELETE;

		part->done += results[i].status == MG_KV_DONE && (!deletes || results[i].found);
	}
	sending->open--;
	pthread_cond_signal(&sending->changed);
	pthread_mutex_unlock(&sending->lock);
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
			mg_replica_kv_call(batch->replica, &parts[i].call);
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

/* Each shard's operations, in their order. */
static struct part *make_parts(struct mg_kv_batch *batch, struct sending *sending, uint32_t count)
{
	struct part *parts = mg_arena_new_array(batch->arena, struct part, count);
	uint32_t *shards = mg_arena_new_array(batch->arena, uint32_t, batch->count);

	for (size_t i = 0; i < batch->count; i++) {
		shards[i] =
			mg_replica_kv_shard(batch->replica, batch->ops[i].space, batch->ops[i].key);
		parts[shards[i]].call.count++;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct part *part = &parts[i];

		part->ops = mg_arena_new_array(batch->arena, struct mg_kv_op, part->call.count + 1);
		part->sending = sending;
		part->over = part->call.count == 0;
		part->call = (struct mg_kv_call){ .shard = i, .ops = part->ops, .done = on_done };
	}
	for (size_t i = 0; i < batch->count; i++) {
		struct part *part = &parts[shards[i]];

		part->ops[part->call.count++] = batch->ops[i];
	}
	return parts;
}

static int send_all(struct mg_kv_batch *batch, struct sending *sending, struct mg_error *err)
{
	uint32_t count = mg_replica_kv_shards(batch->replica);
	struct part *parts = make_parts(batch, sending, count);
	uint64_t until_ms = mg_clock_ms() + MG_KV_BATCH_RETRY_MS;
	bool again = true;
	int code;

	for (;;) {
		send_parts(batch, sending, parts, count);
		code = take_results(batch, parts, count, &again, err);
		if (!code || !again || mg_clock_ms() >= until_ms || batch->stopped(batch->arg)) {
			return code;
		}
		mg_sleep_ms(RETRY_EVERY_MS);
	}
}

int mg_kv_batch_flush(struct mg_kv_batch *batch, struct mg_error *err)
{
	struct sending sending = { .lock = PTHREAD_MUTEX_INITIALIZER };

	if (!batch->count) {
		return 0;
	}
	mg_cond_init(&sending.changed);
	int code = send_all(batch, &sending, err);

	pthread_cond_destroy(&sending.changed);
	pthread_mutex_destroy(&sending.lock);
	mg_arena_free(batch->arena);
	batch->arena = mg_arena_new();
	batch->count = batch->bytes = 0;
	return code;
}

/* ---- what gathers ---- */

static struct mg_str keep(struct mg_kv_batch *batch, struct mg_str bytes)
{
	batch->bytes += bytes.len;
	return (struct mg_str){ mg_arena_strndup(batch->arena, bytes.ptr, bytes.len), bytes.len };
}

int mg_kv_batch_add(struct mg_kv_batch *batch, const struct mg_kv_op *op, struct mg_error *err)
{
	mg_grow(batch->ops, batch->count, batch->cap);
	struct mg_kv_op *own = &batch->ops[batch->count++];

	*own = *op; /* its namespace stays the caller's */
	own->key = keep(batch, op->key);
	own->value = keep(batch, op->value);
	own->type = keep(batch, op->type);
	own->encoding = keep(batch, op->encoding);
	return batch->count >= MG_KV_BATCH_OPS || batch->bytes >= MG_KV_BATCH_BYTES
	           ? mg_kv_batch_flush(batch, err)
	           : 0;
}
