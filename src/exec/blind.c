/*
 * blind.c - see blind.h.
 *
 *     put: rows into the batch of their shard, which has the shard's lock (ADD) and its epoch
 *     raft thread: what waits for a shard -> entry -> its end: the lock is given back, all are told
 *     committers: what waits for several shards -> one transaction -> the same
 *
 * One committer prepares its transaction while the other's, which is decided, comes to the last of
 * its shards: who has heard of the one before is in the next one, and not in the one after it.
 *
 * At most FLYING_MAX entries of a shard are on their way; what comes meanwhile waits for the next
 * one.  The lock, and the version of the catalog under it, are looked at once for each batch: while
 * it is held no table changes.
 *
 * Bound: ROWS_MAX rows and BYTES_MAX bytes of a batch, JOINT_ROWS_MAX and JOINT_BYTES_MAX of a
 * transaction, PENDING_BYTES_MAX of all that have not ended; beyond them statements go the ordinary
 * way, whose threads are bounded.
 *
 * owner: `lock` guards the lists; a batch that was taken off belongs to who took it.
 */
#include "exec/blind_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/engine.h"
#include "os/thread.h"
#include "replica/redo.h"
#include "replica/replica.h"

#include <pthread.h>
#include <string.h>

enum {
	FLYING_MAX = 1,
	ROWS_MAX = MG_REDO_ROWS_MAX,
	JOINT_ROWS_MAX = 1 << 17,
	BYTES_MAX = 2 << 20,
	JOINT_BYTES_MAX = 16 << 20,
	PENDING_BYTES_MAX = 64 << 20,
	COMMITTERS = 2,
};

struct waiter {
	mg_blind_cb cb;
	void *arg;
};

/* Rows of one text for one shard. */
struct part {
	struct part *next;
	struct mg_blind_bound *bound; /* a ref */
	uint32_t shard;
	struct ArrowArray array;
	uint64_t rows;
};

/* What ends together. */
struct batch {
	struct batch *next;
	struct mg_blind *blind;
	uint64_t epoch, version;
	uint32_t *shards; /* locked */
	size_t shard_count;
	struct part *parts, **parts_end;
	uint64_t rows;
	size_t bytes;
	struct waiter *waiters;
	size_t waiter_count, waiter_cap;
	bool broken;  /* a row is missing: nothing of it may happen */
	bool decided; /* owner: its committer */
};

/* Of one shard: batches on their way. */
struct lane {
	struct mg_blind *blind;
	uint32_t shard;
	struct batch *open; /* the last one takes rows */
	bool posted;
	size_t flying;
};

struct mg_blind {
	struct mg_engine *engine;
	struct mg_replica *replica;
	struct mg_blind_cache *cache;
	uint32_t shard_count;
	pthread_t committers[COMMITTERS];
	size_t started;
	pthread_mutex_t encode_lock; /* encoders of bounds */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	struct lane *lanes; /* [shard_count + 1] */
	struct batch *joint; /* of several shards, that takes rows */
	bool preparing;      /* the one before it is not decided yet */
	size_t batches;      /* that have not ended */
	size_t bytes;        /* of all of them */
	bool stopping;
};

/* ---- batches ---- */

static struct batch *batch_new(struct mg_blind *blind, uint64_t version, const uint32_t *shards,
                               size_t count)
{
	/* Not mg_replica_begin: it asks the raft thread, which may wait for our lock. */
	uint64_t epoch = mg_replica_epoch(blind->replica);

	if (!epoch || !mg_replica_try_lock(blind->replica, shards, count)) {
		return NULL;
	}
	struct batch *batch = mg_alloc0(sizeof *batch);

	batch->blind = blind;
	batch->epoch = epoch;
	batch->version = version;
	batch->parts_end = &batch->parts;
	batch->shards = mg_alloc(count * sizeof *batch->shards);
	memcpy(batch->shards, shards, count * sizeof *shards);
	batch->shard_count = count;
	blind->batches++;
	return batch;
}

static void batch_free(struct batch *batch)
{
	for (struct part *part = batch->parts, *next; part; part = next) {
		next = part->next;
		if (part->array.release) {
			ArrowArrayRelease(&part->array);
		}
		mg_blind_bound_unref(part->bound);
		mg_free(part);
	}
	mg_free(batch->shards);
	mg_free(batch->waiters);
	mg_free(batch);
}

/* Its locks are given back before anybody is told. */
static void batch_end(struct batch *batch, const struct mg_error *err)
{
	struct mg_blind *blind = batch->blind;
	size_t bytes = batch->bytes;

	if (err->code == MG_E_UNKNOWN_OUTCOME) {
		mg_replica_doubt(blind->replica, batch->epoch, batch->shards, batch->shard_count);
	}
	mg_replica_unlock(blind->replica, MG_LOCK_ADD, batch->shards, batch->shard_count);
	for (size_t i = 0; i < batch->waiter_count; i++) {
		batch->waiters[i].cb(batch->waiters[i].arg, err);
	}
	batch_free(batch);
	pthread_mutex_lock(&blind->lock);
	blind->batches--;
	blind->bytes -= bytes;
	if (blind->stopping) { /* else nobody waits for that */
		pthread_cond_broadcast(&blind->changed);
	}
	pthread_mutex_unlock(&blind->lock);
}

static bool is_current(struct mg_blind *blind, uint64_t version)
{
	struct mg_catalog *catalog = mg_engine_catalog(blind->engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	bool current = data->version == version;

	mg_catalog_give(catalog, data);
	return current;
}

/* Under the lock: one that nobody has seen yet. */
static void batch_undo(struct batch *batch)
{
	mg_replica_unlock(batch->blind->replica, MG_LOCK_ADD, batch->shards, batch->shard_count);
	batch->blind->batches--;
	batch_free(batch);
}

static struct batch *batch_begin(struct mg_blind *blind, uint64_t version, const uint32_t *shards,
                                 size_t count)
{
	struct batch *batch = batch_new(blind, version, shards, count);

	/* Now that it is locked: nothing changes any more until the batch has ended. */
	if (batch && (!is_current(blind, version) || mg_replica_may_write(blind->replica, NULL))) {
		batch_undo(batch);
		return NULL;
	}
	return batch;
}

/* from: the first part that may be of this text. */
static struct part *part_of(struct batch *batch, struct part *from, struct mg_blind_bound *bound,
                            uint32_t shard)
{
	for (struct part *part = from; part; part = part->next) {
		if (part->bound == bound && part->shard == shard && part->rows < ROWS_MAX) {
			return part;
		}
	}
	struct part *part = mg_alloc0(sizeof *part);

	part->bound = mg_blind_bound_ref(bound);
	part->shard = shard;
	batch->broken = batch->broken || !mg_plain_batch_begin(&bound->batch, &part->array);
	*batch->parts_end = part;
	batch->parts_end = &part->next;
	return part;
}

static int encode_part(struct mg_blind *blind, struct part *part, struct mg_redo *redo,
                       struct mg_error *err)
{
	struct mg_blind_bound *bound = part->bound;
	struct mg_buf *rows = NULL;
	uint64_t raw;

	if (ArrowArrayFinishBuildingDefault(&part->array, NULL) != NANOARROW_OK) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for the rows of an INSERT");
	}
	pthread_mutex_lock(&blind->encode_lock);
	int code = mg_arrow_encode_batch(bound->encoder, &part->array, &rows, &raw, err);
	pthread_mutex_unlock(&blind->encode_lock);

	code = code ? code
	            : mg_redo_rows(redo, part->shard, MG_REDO_INSERT, bound->schema, bound->stored,
	                           bound->ipc_schema, rows, (uint32_t)part->rows, err);
	mg_buf_unref(rows);
	return code;
}

/* NULL: it cannot happen. */
static struct mg_redo *batch_redo(struct batch *batch, struct mg_error *err)
{
	struct mg_redo *redo = mg_redo_new();
	int code = batch->broken ? mg_error_set(err, MG_E_NOMEM, "no memory for the rows of an INSERT")
	                         : 0;

	for (struct part *part = batch->parts; !code && part; part = part->next) {
		code = encode_part(batch->blind, part, redo, err);
	}
	if (code) {
		mg_redo_free(redo);
		return NULL;
	}
	return redo;
}

/* ---- one shard: raft thread ---- */

static void flush(void *arg);

static void on_written(void *arg, const struct mg_error *err, uint64_t index)
{
	struct batch *batch = arg;
	struct lane *lane = &batch->blind->lanes[batch->shards[0]];

	(void)index;
	pthread_mutex_lock(&batch->blind->lock);
	lane->flying--;
	bool more = lane->open && !lane->posted;

	lane->posted = lane->posted || more;
	pthread_mutex_unlock(&batch->blind->lock);
	batch_end(batch, err);
	if (more) {
		mg_replica_post(lane->blind->replica, flush, lane);
	}
}

static struct batch *take_open(struct lane *lane)
{
	pthread_mutex_lock(&lane->blind->lock);
	struct batch *batch = lane->flying < FLYING_MAX ? lane->open : NULL;

	if (batch) {
		lane->open = batch->next;
		lane->flying++;
	} else {
		lane->posted = false; /* the end of one that flies posts again */
	}
	pthread_mutex_unlock(&lane->blind->lock);
	return batch;
}

static void flush(void *arg)
{
	struct lane *lane = arg;
	struct batch *batch;

	while ((batch = take_open(lane)) != NULL) {
		struct mg_error err = { 0 };
		struct mg_redo *redo = batch_redo(batch, &err);

		if (redo && mg_redo_size(redo, lane->shard) > MG_REPLICA_WRITE_MAX) {
			mg_redo_free(redo); /* the ordinary way makes parts of it */
			redo = NULL;
			mg_error_set(&err, MG_E_LIMIT, "rows of several INSERTs are too much for one entry");
		}
		if (redo) {
			mg_replica_write_now(lane->blind->replica, batch->epoch, lane->shard, redo, on_written,
			                     batch);
			mg_redo_free(redo);
		} else {
			on_written(batch, &err, 0);
		}
	}
}

/* ---- several shards: committers ---- */

/* Once for each batch: the next one may be prepared. */
static void on_decided(void *arg)
{
	struct batch *batch = arg;
	struct mg_blind *blind = batch->blind;

	if (batch->decided) {
		return;
	}
	batch->decided = true;
	pthread_mutex_lock(&blind->lock);
	blind->preparing = false;
	pthread_cond_broadcast(&blind->changed);
	pthread_mutex_unlock(&blind->lock);
}

static void commit(struct batch *batch)
{
	struct mg_error err = { 0 };
	struct mg_redo *redo = batch_redo(batch, &err);

	if (redo) {
		(void)mg_replica_commit_ahead(batch->blind->replica, batch->epoch, redo, on_decided, batch,
		                              &err);
		mg_redo_free(redo);
	}
	on_decided(batch); /* or it never is */
	batch_end(batch, &err);
}

static void *work(void *arg)
{
	struct mg_blind *blind = arg;

	(void)pthread_setname_np(pthread_self(), "mg-blind");
	mg_thread_prompt();
	pthread_mutex_lock(&blind->lock);
	for (;;) {
		while (blind->joint ? blind->preparing : !blind->stopping) {
			pthread_cond_wait(&blind->changed, &blind->lock);
		}
		struct batch *batch = blind->joint;

		if (!batch) {
			break;
		}
		blind->joint = NULL;
		blind->preparing = true;
		pthread_mutex_unlock(&blind->lock);
		commit(batch);
		pthread_mutex_lock(&blind->lock);
	}
	pthread_mutex_unlock(&blind->lock);
	return NULL;
}

/* ---- put ---- */

/* Rows of a statement on their way into a batch. */
struct rows {
	struct mg_blind_bound *bound;
	struct mg_plain_value *values;
	uint16_t *slots;
	size_t bytes;
	bool one_shard;
};

static void find_slots(struct rows *rows)
{
	const struct mg_blind_bound *bound = rows->bound;
	struct mg_sb scratch = { 0 };

	rows->one_shard = true;
	for (size_t i = 0; i < bound->row_count; i++) {
		rows->slots[i] = mg_plain_row_slot(
			&bound->table, &rows->values[i * bound->table.value_count], &scratch);
		rows->one_shard =
			rows->one_shard && bound->owner[rows->slots[i]] == bound->owner[rows->slots[0]];
	}
	mg_sb_fini(&scratch);
}

/* Under the lock. */
static struct batch *batch_of_shard(struct mg_blind *blind, const struct rows *rows)
{
	uint32_t shard = rows->bound->owner[rows->slots[0]];
	struct lane *lane = &blind->lanes[shard];
	struct batch *last = lane->open;

	while (last && last->next) {
		last = last->next;
	}
	if (last && last->version == rows->bound->version &&
	    last->epoch == mg_replica_epoch(blind->replica) &&
	    last->rows + rows->bound->row_count <= ROWS_MAX &&
	    last->bytes + rows->bytes <= BYTES_MAX) {
		return last;
	}
	struct batch *batch = batch_begin(blind, rows->bound->version, &shard, 1);

	if (batch) {
		*(last ? &last->next : &lane->open) = batch;
	}
	return batch;
}

static struct batch *batch_of_several(struct mg_blind *blind, const struct rows *rows)
{
	struct batch *joint = blind->joint;

	if (joint) {
		return joint->version == rows->bound->version &&
		               joint->epoch == mg_replica_epoch(blind->replica) &&
		               joint->rows + rows->bound->row_count <= JOINT_ROWS_MAX &&
		               joint->bytes + rows->bytes <= JOINT_BYTES_MAX
		           ? joint
		           : NULL;
	}
	uint32_t *shards = mg_alloc(blind->shard_count * sizeof *shards);

	for (uint32_t i = 0; i < blind->shard_count; i++) {
		shards[i] = i + 1;
	}
	joint = batch_begin(blind, rows->bound->version, shards, blind->shard_count);
	mg_free(shards);
	blind->joint = joint;
	return joint;
}

/* A row that finds no memory breaks the batch: what is there of it cannot be taken out again. */
static void add_rows(struct batch *batch, const struct rows *rows)
{
	struct mg_blind_bound *bound = rows->bound;
	struct mg_sb scratch = { 0 };
	/* A text that nobody else holds has no part yet. */
	struct part **from = atomic_load(&bound->refs) > 1 ? &batch->parts : batch->parts_end;

	for (size_t i = 0; i < bound->row_count && !batch->broken; i++) {
		struct part *part = part_of(batch, *from, bound, bound->owner[rows->slots[i]]);

		batch->broken =
			batch->broken ||
			!mg_plain_row_append(&bound->table, &rows->values[i * bound->table.value_count],
		                         rows->slots[i], &part->array, &scratch);
		part->rows++;
	}
	batch->rows += bound->row_count;
	batch->bytes += rows->bytes;
	batch->blind->bytes += rows->bytes;
	mg_sb_fini(&scratch);
}

/* Under the lock.  False: not taken.  *lane: it is to be posted. */
static bool add(struct mg_blind *blind, const struct rows *rows, mg_blind_cb cb, void *arg,
                struct lane **lane)
{
	if (blind->stopping || blind->bytes + rows->bytes > PENDING_BYTES_MAX) {
		return false;
	}
	struct batch *batch =
		rows->one_shard ? batch_of_shard(blind, rows) : batch_of_several(blind, rows);

	if (!batch) {
		return false;
	}
	add_rows(batch, rows);
	mg_grow(batch->waiters, batch->waiter_count, batch->waiter_cap);
	batch->waiters[batch->waiter_count++] = (struct waiter){ cb, arg };
	if (!rows->one_shard) {
		pthread_cond_broadcast(&blind->changed);
		return true;
	}
	struct lane *own = &blind->lanes[batch->shards[0]];

	if (!own->posted && own->flying < FLYING_MAX) {
		own->posted = true;
		*lane = own;
	}
	return true;
}

bool mg_blind_put(struct mg_blind *blind, struct mg_str sql, const struct mg_json *params,
                  uint64_t *row_count, mg_blind_cb cb, void *arg)
{
	struct rows rows = { .bound = mg_blind_bind(blind->cache, sql, params != NULL) };
	struct lane *lane = NULL;
	bool taken = false;

	if (!rows.bound) {
		return false;
	}
	rows.values = mg_blind_values(rows.bound, params, &rows.bytes);
	if (rows.values) {
		*row_count = rows.bound->row_count;
		rows.slots = mg_alloc(rows.bound->row_count * sizeof *rows.slots);
		find_slots(&rows);
		pthread_mutex_lock(&blind->lock);
		taken = add(blind, &rows, cb, arg, &lane);
		pthread_mutex_unlock(&blind->lock);
	}
	if (lane) {
		mg_replica_post(blind->replica, flush, lane);
	}
	mg_free(rows.slots);
	mg_free(rows.values);
	mg_blind_bound_unref(rows.bound);
	return taken;
}

bool mg_blind_knows(struct mg_blind *blind, struct mg_str sql, const struct mg_json *params)
{
	return blind && sql.len <= MG_BLIND_TEXT_MAX && mg_blind_may_be_insert(sql) &&
	       (!params || mg_json_is(params, MG_JSON_ARRAY)) &&
	       mg_replica_is_coordinator(blind->replica);
}

/* ---- waiting ---- */

struct call {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	struct mg_error *err;
};

static void on_end(void *arg, const struct mg_error *err)
{
	struct call *call = arg;

	pthread_mutex_lock(&call->lock);
	if (err->code && call->err) {
		*call->err = *err;
	}
	call->done = true;
	pthread_cond_signal(&call->changed);
	pthread_mutex_unlock(&call->lock); /* and from here on it is the caller's */
}

int mg_blind_run(struct mg_blind *blind, struct mg_str sql, bool *taken, uint64_t *rows,
                 struct mg_error *err)
{
	struct call call = { .lock = PTHREAD_MUTEX_INITIALIZER,
		                 .changed = PTHREAD_COND_INITIALIZER,
		                 .err = err };

	*taken = mg_blind_put(blind, sql, NULL, rows, on_end, &call);
	pthread_mutex_lock(&call.lock);
	while (*taken && !call.done) {
		pthread_cond_wait(&call.changed, &call.lock);
	}
	pthread_mutex_unlock(&call.lock);
	pthread_cond_destroy(&call.changed);
	pthread_mutex_destroy(&call.lock);
	return *taken ? err->code : 0;
}

/* ---- life ---- */

int mg_blind_new(struct mg_blind **out, struct mg_engine *engine, struct mg_error *err)
{
	struct mg_blind *blind = mg_alloc0(sizeof *blind);
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(engine));

	*out = blind;
	blind->engine = engine;
	blind->replica = mg_engine_replica(engine);
	blind->shard_count = data->shard_count;
	mg_catalog_give(mg_engine_catalog(engine), data);
	blind->cache = mg_blind_cache_new(engine);
	blind->lanes = mg_alloc0((blind->shard_count + 1) * sizeof *blind->lanes);
	for (uint32_t i = 0; i <= blind->shard_count; i++) {
		blind->lanes[i].blind = blind;
		blind->lanes[i].shard = i;
	}
	pthread_mutex_init(&blind->encode_lock, NULL);
	pthread_mutex_init(&blind->lock, NULL);
	pthread_cond_init(&blind->changed, NULL);
	int failed = 0;

	while (!failed && blind->started < COMMITTERS) {
		failed = pthread_create(&blind->committers[blind->started], NULL, work, blind);
		blind->started += failed == 0;
	}
	return failed ? mg_error_errno(err, failed, "cannot start a thread for writes") : 0;
}

void mg_blind_stop(struct mg_blind *blind)
{
	pthread_mutex_lock(&blind->lock);
	size_t join = blind->started;

	blind->stopping = true;
	blind->started = 0;
	pthread_cond_broadcast(&blind->changed);
	while (blind->batches > 0) {
		pthread_cond_wait(&blind->changed, &blind->lock);
	}
	pthread_mutex_unlock(&blind->lock);
	for (size_t i = 0; i < join; i++) {
		pthread_join(blind->committers[i], NULL);
	}
}

void mg_blind_free(struct mg_blind *blind)
{
	if (!blind) {
		return;
	}
	mg_blind_stop(blind);
	mg_blind_cache_free(blind->cache);
	pthread_cond_destroy(&blind->changed);
	pthread_mutex_destroy(&blind->lock);
	pthread_mutex_destroy(&blind->encode_lock);
	mg_free(blind->lanes);
	mg_free(blind);
}
