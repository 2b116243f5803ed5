/*
 * copies.c - see copies.h.
 *
 * Rule: a file that is offered is a copy of one checkpoint, made while no other one runs, and what
 * came behind that checkpoint is in the shard's follow log; so who copies it can follow.
 *
 * The same thread keeps the counts of rows up, which the planner reads, shows again what of the
 * catalog could not be shown, and where this node has begun to coordinate writes sweeps what other
 * coordinators have left.
 */
#include "exec/copies.h"

#include "base/log.h"
#include "base/mem.h"
#include "exec/engine_int.h"
#include "exec/sweep.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/wait.h"
#include "replica/follow_log.h"
#include "replica/replica.h"

#define LOOK_MS 250
#define REST_TIMES 4 /* of what a copy in vain has taken */
#define EXPIRE_MS (600 * 1000)
#define MEASURE_MS 1000 /* between two looks at how many rows there are */

struct mg_copies {
	struct mg_engine *engine;
	pthread_t thread;
	/* owner: the thread */
	uint64_t swept;      /* epoch */
	uint32_t shard;      /* that was offered last */
	uint64_t again_ms;   /* when the next one may be */
	uint64_t expired_ms; /* records of writes with keys: when last */
	uint64_t measured_ms; /* likewise */
	pthread_mutex_t lock; /* guards stopping */
	pthread_cond_t changed;
	bool stopping;
};

struct copying {
	const char *from, *to;
};

static int copy(void *arg, struct mg_error *err)
{
	const struct copying *copying = arg;

	return mg_file_copy(copying->from, copying->to, err);
}

/* What the file holds, such that all behind it can be followed. */
static int checkpoint(struct mg_engine *engine, uint32_t shard, uint64_t *index, uint64_t *term,
                      struct mg_error *err)
{
	struct mg_follow_log *log = mg_replica_follow(engine->replica, shard);
	int code = 0;

	for (int i = 0; i < 2; i++) {
		if (mg_replica_file_state(engine->replica, shard, index, term) &&
		    mg_follow_log_covers(log, *index, *term) == MG_FOLLOW_HERE) {
			return 0;
		}
		code = code || i ? code : mg_replica_checkpoint(engine->replica, shard, err);
	}
	return code ? code : mg_error_set(err, MG_E_BUSY, "shard %u is not whole yet", shard);
}

static void offer(struct mg_copies *copies, uint32_t shard)
{
	struct mg_engine *engine = copies->engine;
	char *path = mg_format("%s/shards/%04u.duckdb", engine->data_dir, shard);
	char *to = mg_hub_copy_path(engine->hub, shard), *fresh = mg_format("%s.new", to);
	struct copying copying = { path, fresh };
	char sha256[MG_SHA256_TEXT_SIZE];
	struct mg_error err = { 0 };
	uint64_t bytes = 0, index = 0, term = 0, start = mg_clock_ms();
	int code = checkpoint(engine, shard, &index, &term, &err);

	code = code ? code
	            : mg_replica_read_file(engine->replica, shard, index, copy, &copying, &err);
	code = code ? code : mg_file_rename(fresh, to, &err);
	code = code ? code : mg_file_sha256(to, sha256, &err);
	code = code ? code : mg_file_size(to, &bytes, &err);
	bool fit = !code && mg_hub_offer(engine->hub, shard, index, term, to, sha256, bytes);

	if (code) {
		(void)mg_file_remove(fresh, NULL);
	}
	if (code && code != MG_E_BUSY && code != MG_E_NOT_FOUND) {
		mg_log(MG_LOG_WARN, "copies.offer", "shard=%u error=\"%s\"", shard, err.message);
	}
	/* A shard that changes faster than its file is copied is not copied all the time. */
	uint64_t now = mg_clock_ms(), rest = (now - start) * REST_TIMES;

	copies->again_ms = now + (fit ? 1 : !code && rest > LOOK_MS ? rest : LOOK_MS);
	mg_free(fresh);
	mg_free(to);
	mg_free(path);
}

static void sweep(struct mg_copies *copies)
{
	uint64_t epoch = mg_replica_epoch(copies->engine->replica);
	struct mg_error err = { 0 };

	if (!epoch || (epoch == copies->swept && !mg_sweep_is_due())) {
		return;
	}
	if (mg_sweep(copies->engine, epoch, &err) == 0) {
		copies->swept = epoch;
	} else {
		copies->swept = 0;
		mg_log(MG_LOG_WARN, "table.sweep", "error=\"%s\"", err.message);
	}
}

static void expire(struct mg_copies *copies)
{
	uint64_t epoch = mg_replica_epoch(copies->engine->replica), now = mg_clock_ms();
	struct mg_error err = { 0 };

	if (!epoch || now - copies->expired_ms < EXPIRE_MS) {
		return;
	}
	copies->expired_ms = now;
	if (mg_outcomes_expire(copies->engine->outcomes, epoch, &err)) {
		mg_log(MG_LOG_WARN, "outcome.expire", "error=\"%s\"", err.message);
	}
}

static void measure(struct mg_copies *copies)
{
	uint64_t now = mg_clock_ms();

	if (now - copies->measured_ms >= MEASURE_MS &&
	    !atomic_exchange(&copies->engine->measured, true)) {
		copies->measured_ms = now;
		mg_engine__measure(copies->engine);
	}
}

static void *work(void *arg)
{
	struct mg_copies *copies = arg;

	pthread_mutex_lock(&copies->lock);
	while (!copies->stopping) {
		pthread_mutex_unlock(&copies->lock);
		bool found = mg_clock_ms() >= copies->again_ms &&
		             mg_hub_wanted_shard(copies->engine->hub, &copies->shard);

		if (found) {
			offer(copies, copies->shard);
		}
		sweep(copies);
		expire(copies);
		if (atomic_load(&copies->engine->unshown)) {
			mg_engine__show_again(copies->engine);
		}
		measure(copies);
		pthread_mutex_lock(&copies->lock);
		uint64_t wake_ms = mg_clock_ms() + LOOK_MS;

		wake_ms = found && copies->again_ms < wake_ms ? copies->again_ms : wake_ms;
		if (!copies->stopping) {
			(void)mg_cond_wait_until(&copies->changed, &copies->lock, wake_ms);
		}
	}
	pthread_mutex_unlock(&copies->lock);
	return NULL;
}

int mg_copies_start(struct mg_copies **out, struct mg_engine *engine, struct mg_error *err)
{
	struct mg_copies *copies = mg_alloc0(sizeof *copies);

	*out = NULL;
	copies->engine = engine;
	copies->shard = UINT32_MAX; /* shard 0, which everybody needs, is the first */
	copies->expired_ms = mg_clock_ms();
	pthread_mutex_init(&copies->lock, NULL);
	mg_cond_init(&copies->changed);
	if (pthread_create(&copies->thread, NULL, work, copies) != 0) {
		pthread_cond_destroy(&copies->changed);
		pthread_mutex_destroy(&copies->lock);
		mg_free(copies);
		return mg_error_set(err, MG_E_NOMEM, "no thread to keep copies of shards current");
	}
	*out = copies;
	return 0;
}

void mg_copies_stop(struct mg_copies *copies)
{
	if (!copies) {
		return;
	}
	pthread_mutex_lock(&copies->lock);
	copies->stopping = true;
	pthread_cond_signal(&copies->changed);
	pthread_mutex_unlock(&copies->lock);
	pthread_join(copies->thread, NULL);
	pthread_cond_destroy(&copies->changed);
	pthread_mutex_destroy(&copies->lock);
	mg_free(copies);
}
