/*
 * sample_store.c - batches into shard files, by several threads.
 *
 * Idea: a lane is a thread with the files that belong to it alone; a batch goes to the lane of its
 * file.  So no file is ever touched by two threads, and its rows come in the order of put().
 *
 * Limits: LANE_BYTES wait for a lane, then put() does; BUFFERED_ROWS_ALL rows in all lie in front
 * of DuckDB's tables.  owner: the thread that calls put(); a lane's fields: its lock.
 */
#include "server/sample_int.h"

#include "base/assert.h"
#include "codec/slot.h"
#include "store/duck_inlet.h"

#include <pthread.h>
#include <string.h>

#define LANES_MAX 64
#define LANE_BYTES (8u << 20)
/* Rows handed to DuckDB's tables at the latest; the buffers in front of them are ours. */
#define BUFFERED_ROWS 4096
#define BUFFERED_ROWS_ALL 250000

struct item {
	struct item *next;
	uint32_t table, target;
	struct mg_buf *batch;
};

struct lane {
	struct mg_sample_store *store;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct item *first, **last; /* waiting; guarded by lock, like the next three */
	size_t bytes;
	bool closed; /* nothing more will come */
	bool ended;  /* takes nothing more */
	/* the thread's own */
	struct mg_duck_conn *conn;
	struct mg_duck_inlet *inlets[MG_SAMPLE_TABLES_MAX];
	uint64_t buffered;
};

struct mg_sample_store {
	struct mg_duck *duck;
	const struct mg_sample_set *set;
	struct mg_sample_target *targets;
	uint32_t target_count;
	struct mg_buf *schemas[MG_SAMPLE_TABLES_MAX];
	struct lane lanes[LANES_MAX];
	unsigned lanes_wanted; /* set before the first lane starts */
	unsigned lane_count;
	unsigned *lane_of;  /* [target_count] */
	atomic_bool failed; /* set after failure */
	atomic_bool drop;
	pthread_mutex_t lock;
	struct mg_error failure; /* the first one; guarded by lock */
};

static void fail(struct mg_sample_store *store, const struct mg_error *err)
{
	pthread_mutex_lock(&store->lock);
	if (store->failure.code == 0) {
		store->failure = *err;
	}
	pthread_mutex_unlock(&store->lock);
	atomic_store(&store->failed, true);
}

bool mg_sample_store_failed(struct mg_sample_store *store)
{
	return atomic_load(&store->failed);
}

/* ---- a lane ---- */

/* Hand over what is buffered where it pays, or everywhere when it is much in all. */
static int buffers_flush(struct lane *lane, struct mg_error *err)
{
	struct mg_sample_store *store = lane->store;
	unsigned index = (unsigned)(lane - store->lanes);
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < store->target_count; i++) {
		for (size_t t = 0; store->lane_of[i] == index && rc == 0 && t < store->set->count; t++) {
			struct mg_duck_appender *appender = store->targets[i].appenders[t];
			if (appender) {
				rc = mg_duck_appender_flush(appender, err);
			}
		}
	}
	lane->buffered = 0;
	return rc;
}

static int item_store(struct lane *lane, const struct item *item, struct mg_error *err)
{
	struct mg_sample_store *store = lane->store;
	struct mg_duck_appender *appender = store->targets[item->target].appenders[item->table];
	struct mg_duck_inlet **inlet = &lane->inlets[item->table];
	int rc = 0;
	if (!*inlet) {
		bool spread = store->set->tables[item->table].key != NULL;
		rc = mg_duck_inlet_new(inlet, lane->conn, store->schemas[item->table],
		                       spread ? MG_INLET_SLOT : MG_INLET_PLAIN, err);
	}
	uint64_t before = mg_duck_appender_buffered(appender);
	if (rc == 0) {
		rc = mg_duck_inlet_put(*inlet, appender, item->batch, err);
	}
	lane->buffered += mg_duck_appender_buffered(appender) - before;
	if (rc == 0 && mg_duck_appender_buffered(appender) >= BUFFERED_ROWS) {
		lane->buffered -= mg_duck_appender_buffered(appender);
		rc = mg_duck_appender_flush(appender, err);
	}
	if (rc == 0 && lane->buffered >= BUFFERED_ROWS_ALL / store->lanes_wanted) {
		rc = buffers_flush(lane, err);
	}
	return rc;
}

/* The next item, or NULL at the end. */
static struct item *item_take(struct lane *lane)
{
	pthread_mutex_lock(&lane->lock);
	while (!lane->first && !lane->closed) {
		pthread_cond_wait(&lane->changed, &lane->lock);
	}
	struct item *item = lane->first;
	if (item) {
		lane->first = item->next;
		lane->last = lane->first ? lane->last : &lane->first;
		lane->bytes -= item->batch->size;
		pthread_cond_broadcast(&lane->changed);
	}
	pthread_mutex_unlock(&lane->lock);
	return item;
}

static void item_free(struct item *item)
{
	if (item) {
		mg_buf_unref(item->batch);
		mg_free(item);
	}
}

static void *lane_run(void *arg)
{
	struct lane *lane = arg;
	struct mg_error err;
	mg_error_clear(&err);
	int rc = mg_duck_connect(lane->store->duck, &lane->conn, &err);
	while (rc == 0 && !mg_sample_store_failed(lane->store) && !atomic_load(&lane->store->drop)) {
		struct item *item = item_take(lane);
		if (!item) {
			break;
		}
		rc = item_store(lane, item, &err);
		item_free(item);
	}
	for (size_t t = 0; t < MG_SAMPLE_TABLES_MAX; t++) {
		mg_duck_inlet_free(lane->inlets[t]);
	}
	mg_duck_disconnect(lane->conn);
	if (rc != 0) {
		fail(lane->store, &err);
	}
	pthread_mutex_lock(&lane->lock);
	lane->ended = true;
	pthread_cond_broadcast(&lane->changed);
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

/* ---- all lanes ---- */

static int lane_start(struct mg_sample_store *store, struct mg_error *err)
{
	struct lane *lane = &store->lanes[store->lane_count];
	lane->store = store;
	lane->last = &lane->first;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->changed, NULL);
	int failed = pthread_create(&lane->thread, NULL, lane_run, lane);
	if (failed) {
		pthread_mutex_destroy(&lane->lock);
		pthread_cond_destroy(&lane->changed);
		return mg_error_errno(err, failed, "cannot start a thread that stores rows");
	}
	store->lane_count++;
	return 0;
}

int mg_sample_store_open(struct mg_sample_store **out, struct mg_duck *duck,
                         const struct mg_sample_set *set, struct mg_sample_target *targets,
                         uint32_t target_count, unsigned threads, struct mg_error *err)
{
	struct mg_sample_store *store = mg_alloc0(sizeof *store);
	uint32_t wanted = 0;
	int rc = 0;
	store->duck = duck;
	store->set = set;
	store->targets = targets;
	store->target_count = target_count;
	store->lane_of = mg_alloc0(target_count * sizeof *store->lane_of);
	pthread_mutex_init(&store->lock, NULL);
	for (uint32_t i = 0; i < target_count; i++) {
		wanted += targets[i].file != NULL;
	}
	unsigned lanes = threads < LANES_MAX ? threads : LANES_MAX;
	lanes = lanes > wanted ? wanted : lanes;
	/* One after the other to the lanes, before any of them runs. */
	for (uint32_t i = 0, next = 0; i < target_count; i++) {
		store->lane_of[i] = lanes && targets[i].file ? next++ % lanes : LANES_MAX;
	}
	store->lanes_wanted = lanes;
	for (unsigned i = 0; rc == 0 && i < lanes; i++) {
		rc = lane_start(store, err);
	}
	*out = store;
	if (rc != 0) {
		(void)mg_sample_store_close(store, true, NULL);
		*out = NULL;
	}
	return rc;
}

int mg_sample_store_schema(struct mg_sample_store *store, uint32_t table, struct mg_buf *schema,
                           struct mg_error *err)
{
	struct mg_buf **kept = &store->schemas[table];
	mg_assert(table < store->set->count);
	if (!*kept) {
		*kept = mg_buf_ref(schema);
		return 0;
	}
	return (*kept)->size == schema->size && memcmp((*kept)->data, schema->data, schema->size) == 0
	           ? 0
	           : mg_error_set(err, MG_E_PROTOCOL, "two generators made table \"%s\" differently",
	                          store->set->tables[table].name);
}

int mg_sample_store_put(struct mg_sample_store *store, uint32_t table, uint32_t target,
                        struct mg_buf *batch, struct mg_error *err)
{
	mg_assert(table < store->set->count && target < store->target_count);
	if (!store->schemas[table] || !store->targets[target].appenders[table]) {
		mg_buf_unref(batch);
		return mg_error_set(err, MG_E_PROTOCOL, "rows of table \"%s\" have no place in file %u",
		                    store->set->tables[table].name, target);
	}
	struct lane *lane = &store->lanes[store->lane_of[target]];
	struct item *item = mg_alloc(sizeof *item);
	*item = (struct item){ .table = table, .target = target, .batch = batch };
	pthread_mutex_lock(&lane->lock);
	while (lane->bytes > LANE_BYTES && !lane->ended) {
		pthread_cond_wait(&lane->changed, &lane->lock);
	}
	bool taken = !lane->ended;
	if (taken) {
		*lane->last = item;
		lane->last = &item->next;
		lane->bytes += batch->size;
		pthread_cond_broadcast(&lane->changed);
	}
	pthread_mutex_unlock(&lane->lock);
	if (!taken) {
		item_free(item);
	}
	if (!taken || mg_sample_store_failed(store)) {
		pthread_mutex_lock(&store->lock);
		if (err) {
			*err = store->failure;
		}
		int rc = store->failure.code;
		pthread_mutex_unlock(&store->lock);
		return rc;
	}
	return 0;
}

static void lane_close(struct lane *lane)
{
	pthread_mutex_lock(&lane->lock);
	lane->closed = true;
	pthread_cond_broadcast(&lane->changed);
	pthread_mutex_unlock(&lane->lock);
	pthread_join(lane->thread, NULL);
	while (lane->first) {
		struct item *item = lane->first;
		lane->first = item->next;
		item_free(item);
	}
	pthread_mutex_destroy(&lane->lock);
	pthread_cond_destroy(&lane->changed);
}

int mg_sample_store_close(struct mg_sample_store *store, bool drop, struct mg_error *err)
{
	atomic_store(&store->drop, drop);
	for (unsigned i = 0; i < store->lane_count; i++) {
		lane_close(&store->lanes[i]);
	}
	int rc = store->failure.code;
	if (rc != 0 && err && !drop) {
		*err = store->failure;
	}
	for (size_t t = 0; t < MG_SAMPLE_TABLES_MAX; t++) {
		mg_buf_unref(store->schemas[t]);
	}
	pthread_mutex_destroy(&store->lock);
	mg_free(store->lane_of);
	mg_free(store);
	return rc;
}
