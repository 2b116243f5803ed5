/*
 * hub.c - see hub.h; who holds which copies is decided in hub_lease.c.
 *
 * Rule: a worker counts as holding a shard only after it has shown the file's SHA-256 as the
 * catalog has it, over a connection that is still alive.
 */
#include "exec/hub_int.h"

#include "base/assert.h"
#include "base/log.h"
#include "exec/attempt.h"
#include "os/clock.h"
#include "os/random.h"
#include "replica/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define QUIET_MS 2000u /* a shard that has just changed will change again soon */

/* ---- references ---- */

struct mg_worker *mg_worker_ref(struct mg_worker *worker)
{
	atomic_fetch_add(&worker->refs, 1);
	return worker;
}

void mg_worker_unref(struct mg_worker *worker)
{
	if (worker && atomic_fetch_sub(&worker->refs, 1) == 1) {
		mg_channel_unref(worker->channel);
		mg_free(worker->holding);
		mg_free(worker->behind);
		mg_free(worker->asked);
		mg_free(worker);
	}
}

const char *mg_worker_id(const struct mg_worker *worker)
{
	return worker->id;
}

struct mg_channel *mg_worker_channel(struct mg_worker *worker)
{
	return worker->channel;
}

/* Holds what a statement can be given: the reference group and a shard. */
static bool has_copies_locked(const struct mg_worker *worker)
{
	if (worker->holding[0] != MG_HELD) {
		return false;
	}
	for (uint32_t i = 1; i <= worker->hub->shard_count; i++) {
		if (worker->holding[i] == MG_HELD) {
			return true;
		}
	}
	return false;
}

/* Shards are being written, all of them: there is nothing to copy now. */
static bool all_stale_locked(const struct mg_hub *hub)
{
	for (uint32_t i = 1; i <= hub->shard_count; i++) {
		if (!hub->changes[i].stale) {
			return false;
		}
	}
	return true;
}

/* A worker waits for its copies, unless there is nothing to copy. */
static bool is_ready_locked(const struct mg_worker *worker)
{
	return worker->greeted && !worker->lost && !worker->draining &&
	       (all_stale_locked(worker->hub) || has_copies_locked(worker));
}

static void tell(struct mg_hub *hub, const char *event, const char *worker)
{
	if (hub->on_event) {
		hub->on_event(hub->event_arg, event, worker);
	}
}

static void say_ready(struct mg_hub *hub, const struct mg_worker *worker)
{
	tell(hub, "worker.ready", worker->id);
	mg_log(MG_LOG_INFO, "worker.ready", "worker=%s", worker->id);
}

void mg_hub_on_event(struct mg_hub *hub,
                     void (*on_event)(void *arg, const char *event, const char *worker), void *arg)
{
	pthread_mutex_lock(&hub->lock);
	hub->on_event = on_event;
	hub->event_arg = arg;
	pthread_mutex_unlock(&hub->lock);
}

/* ---- threads ---- */

/* Nodes on the cores of that name, this server among them. */
static size_t neighbours_locked(const struct mg_hub *hub, const char *cores)
{
	size_t count = mg_text_eq(hub->cores, cores);
	for (size_t i = 0; i < hub->worker_count; i++) {
		count += hub->workers[i]->greeted && mg_text_eq(hub->workers[i]->cores, cores);
	}
	return count;
}

/* Nodes on one machine take part in the same statements at the same time.  Each with a thread for
 * every core, they would only get into each other's way: DuckDB's aggregates of many groups cost
 * more than twice the CPU time on two threads as on one (TPC-H 18). */
static void share_cores_locked(struct mg_hub *hub)
{
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (!worker->greeted || !worker->shares || !worker->cores[0]) {
			continue;
		}
		size_t nodes = neighbours_locked(hub, worker->cores);
		unsigned threads = mg_engine_share_of_cores(worker->threads_max, nodes);
		if (threads != worker->threads) {
			worker->threads = threads;
			mg_channel_sendf(worker->channel, "{\"type\":\"threads\",\"threads\":%u}", threads);
		}
	}
}

unsigned mg_hub_server_threads(struct mg_hub *hub)
{
	unsigned threads = mg_engine_threads(hub->engine);
	if (mg_engine_threads_given(hub->engine) || !hub->cores[0]) {
		return threads;
	}
	pthread_mutex_lock(&hub->lock);
	threads = mg_engine_share_of_cores(threads, neighbours_locked(hub, hub->cores));
	pthread_mutex_unlock(&hub->lock);
	return threads;
}

/* ---- frames of workers ---- */

static void add_tables(struct mg_sb *json, const struct mg_catalog_data *data)
{
	mg_sb_add(json, "\"tables\":[");
	for (size_t i = 0; i < data->table_count; i++) {
		const struct mg_table *table = &data->tables[i];
		mg_sb_addf(json, "%s{\"schema\":", i ? "," : "");
		mg_sb_add_json(json, table->schema, strlen(table->schema));
		mg_sb_add(json, ",\"name\":");
		mg_sb_add_json(json, table->name, strlen(table->name));
		if (table->stored && *table->stored) {
			mg_sb_add(json, ",\"stored\":");
			mg_sb_add_json(json, table->stored, strlen(table->stored));
		}
		mg_sb_addf(json, ",\"id\":%llu,\"partitioned\":%s,\"columns\":[",
		           (unsigned long long)table->id, table->key_count ? "true" : "false");
		for (size_t c = 0; c < table->column_count; c++) {
			mg_sb_add(json, c ? ",[" : "[");
			mg_sb_add_json(json, table->columns[c].name, strlen(table->columns[c].name));
			mg_sb_add_char(json, ',');
			mg_sb_add_json(json, table->columns[c].type, strlen(table->columns[c].type));
			if (table->columns[c].stored && *table->columns[c].stored) {
				mg_sb_add_char(json, ',');
				mg_sb_add_json(json, table->columns[c].stored, strlen(table->columns[c].stored));
			}
			mg_sb_add_char(json, ']');
		}
		mg_sb_add(json, "]}");
	}
	mg_sb_add_char(json, ']');
}

/* Names stand in logs, errors and terminals. */
static bool is_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
								  "._:-";

	return strspn(name, letters) == strlen(name) && strlen(name) < 48;
}

/* A name that no other node has: the one asked for, or with a number behind it. */
static void choose_id_locked(struct mg_hub *hub, struct mg_worker *worker, const char *wanted)
{
	char base[48];
	mg_copy_text(base, sizeof base, wanted && wanted[0] ? wanted : "worker");
	mg_copy_text(worker->id, sizeof worker->id, base);
	for (unsigned n = 2;; n++) {
		bool taken = mg_text_eq(mg_engine_node_name(hub->engine), worker->id);
		for (size_t i = 0; i < hub->worker_count; i++) {
			taken |= hub->workers[i] != worker && mg_text_eq(hub->workers[i]->id, worker->id);
		}
		if (!taken) {
			return;
		}
		snprintf(worker->id, sizeof worker->id, "%s-%u", base, n);
	}
}

static int on_hello(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                    struct mg_error *err)
{
	const char *engine = mg_json_get_text(json, "engine");
	if (mg_json_get_int(json, "protocol", 0) != 1) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "the worker speaks protocol %lld, this server speaks 1",
		                    (long long)mg_json_get_int(json, "protocol", 0));
	}
	if (!mg_text_eq(engine, mg_duck_version())) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "the worker's engine is DuckDB %s, this server's is %s",
		                    engine ? engine : "unknown", mg_duck_version());
	}
	const char *name = mg_json_get_text(json, "name");
	if (name && !is_name(name)) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "a worker's name has at most 47 letters, digits and the signs . _ : -");
	}
	const char *cores = mg_json_get_text(json, "cores");
	if (cores && !is_name(cores)) {
		return mg_error_set(err, MG_E_PROTOCOL, "a name of cores must look like a worker's name");
	}
	struct mg_sb hello = { 0 };
	pthread_mutex_lock(&hub->lock);
	if (worker->greeted) {
		pthread_mutex_unlock(&hub->lock);
		return mg_error_set(err, MG_E_PROTOCOL, "a second hello");
	}
	choose_id_locked(hub, worker, name);
	mg_copy_text(worker->version, sizeof worker->version, mg_json_get_text(json, "version"));
	int64_t threads = mg_json_get_int(json, "threads", 1);
	worker->threads = threads < 1 ? 1 : threads > 1024 ? 1024 : (unsigned)threads;
	worker->threads_max = worker->threads;
	mg_copy_text(worker->cores, sizeof worker->cores, cores);
	worker->shares = mg_json_get_bool(json, "share", false);
	int64_t memory = mg_json_get_int(json, "memory", 0);
	worker->memory_bytes = memory < 0 ? 0 : (uint64_t)memory;
	int64_t cache = mg_json_get_int(json, "cache", 0);
	worker->cache_bytes = cache < 0 ? 0 : (uint64_t)cache;
	worker->greeted = true;
	mg_sb_addf(&hello,
	           "{\"type\":\"welcome\",\"worker\":\"%s\",\"cluster\":\"%s\",\"lease_ms\":%u,",
	           worker->id, hub->cluster_id, (unsigned)hub->silence_ms);
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(hub->engine));
	add_tables(&hello, data);
	mg_catalog_give(mg_engine_catalog(hub->engine), data);
	mg_sb_add_char(&hello, '}');
	mg_channel_send(worker->channel, mg_sb_text(&hello));
	mg_sb_fini(&hello);
	mg_hub__lease(hub, worker);
	share_cores_locked(hub);
	tell(hub, "worker.joined", worker->id);
	mg_log(MG_LOG_INFO, "worker.joined", "worker=%s address=%s threads=%u", worker->id,
	       mg_channel_peer(worker->channel), worker->threads);
	if (is_ready_locked(worker)) {
		say_ready(hub, worker);
	}
	pthread_mutex_unlock(&hub->lock);
	return 0;
}

/* A shard id out of a frame, that this worker has been leased. */
static int leased_shard(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                        uint32_t *shard, struct mg_error *err)
{
	int64_t id = mg_json_get_int(json, "shard", -1);
	if (!worker->greeted || id < 0 || id > hub->shard_count ||
	    worker->holding[id] == MG_NOT_LEASED) {
		return mg_error_set(err, MG_E_PROTOCOL,
		                    "worker \"%s\" names shard %lld, which is not leased to it", worker->id,
		                    (long long)id);
	}
	*shard = (uint32_t)id;
	return 0;
}

static int send_chunk(struct mg_hub *hub, struct mg_worker *worker, uint32_t shard, uint64_t chunk,
                      struct mg_error *err)
{
	uint64_t size = hub->shards[shard].bytes, offset = chunk * MG_HUB_CHUNK;
	if (chunk > UINT32_MAX || offset >= size) {
		return mg_error_set(err, MG_E_PROTOCOL, "chunk %llu is beyond the end of shard %u",
		                    (unsigned long long)chunk, shard);
	}
	size_t want = size - offset < MG_HUB_CHUNK ? (size_t)(size - offset) : MG_HUB_CHUNK;
	struct mg_buf *buf = mg_buf_new(want);
	if (!buf) {
		return mg_error_set(err, MG_E_NOMEM, "no memory for a chunk of shard %u", shard);
	}
	int code = 0;
	while (!code && buf->size < want) {
		ssize_t got = pread(hub->files[shard], buf->data + buf->size, want - buf->size,
		                    (off_t)(offset + buf->size));
		if (got > 0) {
			buf->size += (size_t)got;
		} else if (got == 0) {
			code = mg_error_set(err, MG_E_CORRUPT,
			                    "the file of shard %u is shorter than its manifest says", shard);
		} else if (errno != EINTR) {
			code = mg_error_errno(err, errno, "cannot read the file of shard %u", shard);
		}
	}
	if (!code) {
		struct mg_frame frame = { .kind = MG_FRAME_CHUNK, .id = shard, .stage = (uint32_t)chunk };
		code = mg_channel_send_data(worker->channel, &frame, buf, err);
	}
	mg_buf_unref(buf);
	return code;
}

static int on_held(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                   struct mg_error *err)
{
	uint32_t shard;
	pthread_mutex_lock(&hub->lock);
	int code = leased_shard(hub, worker, json, &shard, err);
	if (!code && !mg_text_eq(mg_json_get_text(json, "sha256"), hub->shards[shard].sha256)) {
		code = mg_error_set(err, MG_E_CORRUPT, "worker \"%s\" shows a wrong hash of shard %u",
		                    worker->id, shard);
	}
	if (!code) {
		bool before = is_ready_locked(worker);
		if (worker->holding[shard] == MG_LEASED) {
			worker->holding[shard] = MG_HELD;
			worker->behind[shard] = 0;
		}
		if (!before && is_ready_locked(worker)) {
			say_ready(hub, worker);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return code;
}

/* The worker cannot keep a shard that it was leased. */
static int on_decline(struct mg_hub *hub, struct mg_worker *worker, const struct mg_json *json,
                      struct mg_error *err)
{
	uint32_t shard;
	const char *reason = mg_json_get_text(json, "reason");
	pthread_mutex_lock(&hub->lock);
	int code = leased_shard(hub, worker, json, &shard, err);
	if (!code && worker->holding[shard] != MG_LEASED) {
		code = mg_error_set(err, MG_E_PROTOCOL, "worker \"%s\" declines shard %u after it held it",
		                    worker->id, shard);
	}
	if (!code) {
		mg_log(MG_LOG_WARN, "worker.full", "worker=%s shard=%u reason=\"%.200s\"", worker->id,
		       shard, reason ? reason : "");
		tell(hub, "worker.full", worker->id);
		mg_hub__decline(hub, worker, shard);
	}
	pthread_mutex_unlock(&hub->lock);
	return code;
}

/* The query that a frame names, with a reference; NULL when it is over, which is no fault: frames
 * of a cancelled query may still be under way. */
static struct mg_attempt *find_query(struct mg_hub *hub, uint64_t number)
{
	struct mg_attempt *query = NULL;
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number == number && hub->queries[i].query) {
			query = hub->queries[i].query;
			mg_attempt_ref(query);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return query;
}

static int on_control(void *arg, const struct mg_json *json, struct mg_error *err)
{
	struct mg_worker *worker = arg;
	struct mg_hub *hub = worker->hub;
	const char *type = mg_json_get_text(json, "type");
	if (mg_text_eq(type, "hello")) {
		return on_hello(hub, worker, json, err);
	}
	if (!worker->greeted) {
		return mg_error_set(err, MG_E_PROTOCOL, "a frame \"%s\" before hello", type);
	}
	if (mg_text_eq(type, "fetch")) {
		uint32_t shard;
		pthread_mutex_lock(&hub->lock);
		int code = leased_shard(hub, worker, json, &shard, err);
		pthread_mutex_unlock(&hub->lock);
		return code ? code
		            : send_chunk(hub, worker, shard, (uint64_t)mg_json_get_int(json, "chunk", -1),
		                         err);
	}
	if (mg_text_eq(type, "held")) {
		return on_held(hub, worker, json, err);
	}
	if (mg_text_eq(type, "decline")) {
		return on_decline(hub, worker, json, err);
	}
	if (mg_text_eq(type, "ran")) {
		struct mg_attempt *query = find_query(hub, (uint64_t)mg_json_get_int(json, "query", -1));
		int code = 0;
		if (query) {
			code = mg_attempt_on_ran(query, worker, json, err);
			mg_attempt_unref(query);
		}
		return code;
	}
	if (mg_text_eq(type, "drain")) {
		mg_hub_drain(hub, worker->id);
		return 0;
	}
	if (mg_text_eq(type, "beat")) {
		return 0;
	}
	return mg_error_set(err, MG_E_PROTOCOL, "unknown control frame \"%s\"", type);
}

static int on_data(void *arg, const struct mg_frame *frame, struct mg_buf *payload,
                   struct mg_error *err)
{
	struct mg_worker *worker = arg;
	if (!worker->greeted || frame->kind == MG_FRAME_CHUNK) {
		return mg_error_set(err, MG_E_PROTOCOL, "an unexpected data frame");
	}
	struct mg_attempt *query = find_query(worker->hub, frame->id);
	int code = 0;
	if (query) {
		atomic_fetch_add(&worker->hub->bytes_moved, payload->size);
		code = mg_attempt_on_data(query, worker, frame, payload, err);
		mg_attempt_unref(query);
	}
	return code;
}

/* The last call for a worker: its queries learn that it is gone, its shards go to others. */
static void on_closed(void *arg, const char *reason)
{
	struct mg_worker *worker = arg;
	struct mg_hub *hub = worker->hub;
	struct mg_arena *arena = mg_arena_new();
	pthread_mutex_lock(&hub->lock);
	worker->lost = true;
	size_t count = 0;
	struct mg_attempt **queries =
		mg_arena_new_array(arena, struct mg_attempt *, hub->query_count + 1);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].query) { /* the others will see for themselves that it is lost */
			queries[count] = hub->queries[i].query;
			mg_attempt_ref(queries[count++]);
		}
	}
	for (size_t i = 0; i < hub->worker_count; i++) {
		if (hub->workers[i] == worker) {
			hub->workers[i] = hub->workers[--hub->worker_count];
			break;
		}
	}
	if (!hub->stopping) {
		mg_hub__lease_all(hub);
		share_cores_locked(hub);
		tell(hub, "worker.left", worker->id);
	}
	mg_log(worker->draining || hub->stopping ? MG_LOG_INFO : MG_LOG_WARN, "worker.left",
	       "worker=%s reason=\"%s\"", worker->id, reason);
	pthread_mutex_unlock(&hub->lock);
	for (size_t i = 0; i < count; i++) {
		mg_attempt_on_lost(queries[i], worker, reason);
		mg_attempt_unref(queries[i]);
	}
	mg_arena_free(arena);
	pthread_mutex_lock(&hub->lock);
	hub->present--;
	pthread_cond_broadcast(&hub->left);
	pthread_mutex_unlock(&hub->lock);
	mg_worker_unref(worker);
}

void mg_hub_accept(struct mg_hub *hub, struct mg_http_request *request)
{
	struct mg_worker *worker = mg_alloc0(sizeof *worker);
	atomic_init(&worker->refs, 1); /* the channel's, given back in on_closed */
	worker->hub = hub;
	worker->holding = mg_alloc0(hub->shard_count + 1);
	worker->behind = mg_alloc0((hub->shard_count + 1) * sizeof *worker->behind);
	worker->asked = mg_alloc0(sizeof *worker->asked * (hub->shard_count + 1));
	worker->since_ms = (uint64_t)mg_clock_wall_ms();
	struct mg_channel_handler handler = {
		.control = on_control,
		.data = on_data,
		.closed = on_closed,
		.arg = worker,
		.message_max = hub->message_max,
	};
	pthread_mutex_lock(&hub->lock);
	bool full = hub->worker_count >= MG_HUB_WORKERS_MAX || hub->stopping;
	if (!full) {
		snprintf(worker->id, sizeof worker->id, "joining-%llu",
		         (unsigned long long)++hub->next_worker);
		worker->channel = mg_channel_accept(request, &handler);
		if (worker->channel) {
			mg_grow(hub->workers, hub->worker_count, hub->worker_cap);
			hub->workers[hub->worker_count++] = worker;
			hub->present++;
		}
	}
	pthread_mutex_unlock(&hub->lock);
	if (full) {
		struct mg_error err;
		mg_error_clear(&err);
		mg_error_set(&err, MG_E_BUSY, "this server has %d workers already", MG_HUB_WORKERS_MAX);
		mg_http_reply_error(request, &err);
	}
	if (!worker->channel) {
		mg_worker_unref(worker);
	}
}

/* ---- from time to time ---- */

void mg_hub_tick(struct mg_hub *hub)
{
	uint64_t now = mg_clock_ms();
	mg_hub__tell_servers(hub);
	pthread_mutex_lock(&hub->lock);
	/* When this server itself stood still, what its workers said meanwhile is not read yet: their
	 * silence is judged at the next tick. */
	bool slept = hub->ticked_ms && now - hub->ticked_ms > hub->silence_ms / 2;
	hub->ticked_ms = now;
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		mg_channel_ping(worker->channel);
		if (!slept && mg_channel_silence_ms(worker->channel) > hub->silence_ms) {
			mg_log(MG_LOG_WARN, "worker.silent", "worker=%s", worker->id);
			mg_channel_abort(worker->channel, "no sign of life");
		}
	}
	mg_hub__release_stale(hub);
	mg_hub__exchange(hub);
	pthread_mutex_unlock(&hub->lock);
}

size_t mg_hub_nodes(struct mg_hub *hub, struct mg_node_info *infos, size_t max)
{
	pthread_mutex_lock(&hub->lock);
	size_t count = 0;
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (!worker->greeted) {
			continue;
		}
		if (count < max) {
			struct mg_node_info *info = &infos[count];
			*info = (struct mg_node_info){ .role = "worker" };
			info->state = worker->draining          ? "draining"
			              : is_ready_locked(worker) ? "ready"
			                                        : "joining";
			mg_copy_text(info->id, sizeof info->id, worker->id);
			mg_copy_text(info->address, sizeof info->address, mg_channel_peer(worker->channel));
			mg_copy_text(info->version, sizeof info->version, worker->version);
			for (uint32_t s = 1; s <= hub->shard_count; s++) {
				info->shards += worker->holding[s] == MG_HELD;
			}
			info->threads = worker->threads;
			info->memory_bytes = worker->memory_bytes;
			info->since_ms = worker->since_ms;
		}
		count++;
	}
	pthread_mutex_unlock(&hub->lock);
	return count;
}

static struct mg_hub_copy copy_of(const struct mg_worker *worker, uint32_t shard)
{
	const struct mg_changes *changes = &worker->hub->changes[shard];
	uint64_t behind = worker->behind[shard];

	return (struct mg_hub_copy){
		.worker = worker->id,
		.shard = shard,
		.state = worker->holding[shard] == MG_LEASED ? "copying"
		         : worker->holding[shard] == MG_HELD ? "ready"
		                                             : "stale",
		.lag = behind ? changes->count - (behind - 1) : 0,
	};
}

/* One that went stale is shown until the worker has the shard anew, also when it is let go. */
static bool is_shown(const struct mg_worker *worker, uint32_t shard)
{
	return worker->holding[shard] == MG_LEASED || worker->holding[shard] == MG_HELD ||
	       worker->behind[shard] > 0;
}

void mg_hub_copies(struct mg_hub *hub, void (*each)(void *arg, const struct mg_hub_copy *copy),
                   void *arg)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->worker_count; i++) {
		const struct mg_worker *worker = hub->workers[i];

		for (uint32_t shard = 0; worker->greeted && shard <= hub->shard_count; shard++) {
			if (is_shown(worker, shard)) {
				const struct mg_hub_copy copy = copy_of(worker, shard);

				each(arg, &copy);
			}
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

bool mg_hub_drain(struct mg_hub *hub, const char *id)
{
	bool known = false;
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->worker_count; i++) {
		if (mg_text_eq(hub->workers[i]->id, id)) {
			hub->workers[i]->draining = known = true;
			mg_channel_send(hub->workers[i]->channel, "{\"type\":\"draining\"}");
			tell(hub, "worker.draining", id);
			mg_log(MG_LOG_INFO, "worker.draining", "worker=%s", id);
		}
	}
	pthread_mutex_unlock(&hub->lock);
	return known;
}

uint64_t mg_hub_bytes_moved(struct mg_hub *hub)
{
	return atomic_load(&hub->bytes_moved);
}

/* ---- shards that change ---- */

void mg_hub_shard_changes(struct mg_hub *hub, uint32_t shard)
{
	pthread_mutex_lock(&hub->lock);
	mg_assert(shard <= hub->shard_count);
	hub->changes[shard].count++;
	hub->changes[shard].changed_ms = mg_clock_ms();
	mg_hub__withdraw(hub, shard);
	pthread_mutex_unlock(&hub->lock);
}

bool mg_hub_stale_shard(struct mg_hub *hub, uint32_t *shard, uint64_t *count)
{
	bool found = false;
	uint64_t now = mg_clock_ms();
	pthread_mutex_lock(&hub->lock);
	for (uint32_t i = 0; hub->worker_count && !found && i <= hub->shard_count; i++) {
		const struct mg_changes *changes = &hub->changes[i];
		found = changes->stale && now - changes->changed_ms >= QUIET_MS;
		if (found) {
			*shard = i;
			*count = changes->count;
		}
	}
	if (!found && hub->offered) {
		/* All together, so that each worker gets its share and not what was ready first. */
		hub->offered = false;
		mg_hub__release_stale(hub);
		mg_hub__lease_all(hub);
	}
	pthread_mutex_unlock(&hub->lock);
	return found;
}

/* Another file may have got the name since (a snapshot of another server): whoever is reading goes
 * on with the old one, which then is not what was offered. */
static void reopen(struct mg_hub *hub, uint32_t shard, const char *path)
{
	int fresh = open(path, O_RDONLY | O_CLOEXEC);
	if (fresh >= 0 && hub->files[shard] >= 0) {
		(void)dup3(fresh, hub->files[shard], O_CLOEXEC);
		close(fresh);
	} else if (fresh >= 0) {
		hub->files[shard] = fresh;
	}
}

void mg_hub_offer(struct mg_hub *hub, uint32_t shard, uint64_t count, const char *path,
                  const char *sha256, uint64_t bytes)
{
	pthread_mutex_lock(&hub->lock);
	reopen(hub, shard, path);
	struct mg_changes *changes = &hub->changes[shard];
	if (changes->stale && changes->count == count) {
		changes->stale = false;
		changes->offered = count;
		hub->shards[shard].bytes = bytes;
		mg_copy_text(hub->shards[shard].sha256, sizeof hub->shards[shard].sha256, sha256);
		hub->offered = true;
	}
	pthread_mutex_unlock(&hub->lock);
}

void mg_hub_tables_changed(struct mg_hub *hub)
{
	struct mg_sb json = { 0 };
	pthread_mutex_lock(&hub->lock);
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(hub->engine));
	mg_sb_add(&json, "{\"type\":\"tables\",");
	add_tables(&json, data);
	mg_sb_add_char(&json, '}');
	mg_catalog_give(mg_engine_catalog(hub->engine), data);
	for (size_t i = 0; i < hub->worker_count; i++) {
		if (hub->workers[i]->greeted) {
			mg_channel_send(hub->workers[i]->channel, mg_sb_text(&json));
		}
	}
	pthread_mutex_unlock(&hub->lock);
	mg_sb_fini(&json);
}

bool mg_hub_holds(struct mg_hub *hub, const struct mg_worker *worker, const uint32_t *shards,
                  size_t count)
{
	pthread_mutex_lock(&hub->lock);
	bool holds = worker->holding[0] == MG_HELD;
	for (size_t i = 0; i < count && holds; i++) {
		holds = worker->holding[shards[i]] == MG_HELD;
	}
	pthread_mutex_unlock(&hub->lock);
	return holds;
}

/* ---- for queries ---- */

void mg_hub_members(struct mg_hub *hub, struct mg_arena *arena, struct mg_hub_member **out,
                    size_t *count)
{
	pthread_mutex_lock(&hub->lock);
	*out = mg_arena_new_array(arena, struct mg_hub_member, hub->worker_count + 1);
	*count = 0;
	for (size_t i = 0; i < hub->worker_count; i++) {
		struct mg_worker *worker = hub->workers[i];
		if (!is_ready_locked(worker) || !has_copies_locked(worker)) {
			continue;
		}
		struct mg_hub_member *member = &(*out)[(*count)++];
		member->worker = mg_worker_ref(worker);
		member->threads = worker->threads;
		member->shards = mg_arena_new_array(arena, uint32_t, hub->shard_count + 1);
		for (uint32_t s = 1; s <= hub->shard_count; s++) {
			if (worker->holding[s] == MG_HELD) {
				member->shards[member->shard_count++] = s;
			}
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

uint64_t mg_hub_add_query(struct mg_hub *hub)
{
	pthread_mutex_lock(&hub->lock);
	mg_grow(hub->queries, hub->query_count, hub->query_cap);
	uint64_t number = ++hub->next_query;
	hub->queries[hub->query_count++] = (struct mg_open_query){ .number = number };
	pthread_mutex_unlock(&hub->lock);
	return number;
}

void mg_hub_show_query(struct mg_hub *hub, uint64_t number, struct mg_attempt *query)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number == number) {
			hub->queries[i].query = query;
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

bool mg_hub_ask(struct mg_hub *hub, struct mg_worker *worker, const uint32_t *shards, size_t count)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < count; i++) {
		mg_assert(shards[i] <= hub->shard_count);
		hub->asked[shards[i]]++;
		if (worker) {
			worker->asked[shards[i]]++;
		}
	}
	bool there = !worker || !worker->lost;
	pthread_mutex_unlock(&hub->lock);
	return there;
}

void mg_hub_remove_query(struct mg_hub *hub, uint64_t number)
{
	pthread_mutex_lock(&hub->lock);
	for (size_t i = 0; i < hub->query_count; i++) {
		if (hub->queries[i].number == number) {
			hub->queries[i] = hub->queries[--hub->query_count];
			break;
		}
	}
	pthread_mutex_unlock(&hub->lock);
}

/* ---- life ---- */

void mg_hub_limits(struct mg_hub *hub, uint64_t silence_ms, size_t message_max)
{
	hub->silence_ms = silence_ms ? silence_ms : MG_HUB_SILENCE_MS;
	hub->message_max = message_max;
}

int mg_hub_new(struct mg_hub **out, struct mg_engine *engine, const char *data_dir,
               struct mg_error *err)
{
	const struct mg_catalog_data *data = mg_catalog_take(mg_engine_catalog(engine));
	struct mg_replica *replica = mg_engine_replica(engine);
	struct mg_hub *hub = mg_alloc0(sizeof *hub);
	hub->engine = engine;
	hub->silence_ms = MG_HUB_SILENCE_MS;
	hub->shard_count = data->shard_count;
	mg_copy_text(hub->cluster_id, sizeof hub->cluster_id, data->cluster_id);
	mg_os_cores_name(hub->cores);
	hub->files = mg_alloc(sizeof *hub->files * (data->shard_count + 1));
	hub->shards = mg_alloc0(sizeof *hub->shards * (data->shard_count + 1));
	hub->asked = mg_alloc0(sizeof *hub->asked * (data->shard_count + 1));
	hub->changes = mg_alloc0(sizeof *hub->changes * (data->shard_count + 1));
	pthread_mutex_init(&hub->lock, NULL);
	pthread_cond_init(&hub->left, NULL);
	for (uint32_t i = 0; i <= data->shard_count; i++) {
		hub->files[i] = -1;
	}
	int code = 0;
	for (uint32_t i = 0; !code && i <= data->shard_count; i++) {
		hub->shards[i] =
			(struct mg_shard){ .id = data->shards[i].id, .bytes = data->shards[i].bytes };
		mg_copy_text(hub->shards[i].sha256, sizeof hub->shards[i].sha256, data->shards[i].sha256);
		/* The catalog has the hash of a file as it was loaded. */
		hub->changes[i].stale = !data->shards[i].sha256[0] || mg_replica_wrote(replica, i);
		char path[4096];
		snprintf(path, sizeof path, "%s/%s", data_dir, data->shards[i].file);
		hub->files[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (hub->files[i] < 0 && errno == ENOENT) {
			hub->changes[i].stale = true; /* it is being taken from another server */
		} else if (hub->files[i] < 0) {
			code = mg_error_errno(err, errno, "cannot open \"%s\"", path);
		}
	}
	mg_catalog_give(mg_engine_catalog(engine), data);
	if (code) {
		mg_hub_free(hub);
		return code;
	}
	*out = hub;
	return 0;
}

void mg_hub_free(struct mg_hub *hub)
{
	if (!hub) {
		return;
	}
	pthread_mutex_lock(&hub->lock);
	hub->stopping = true;
	for (size_t i = 0; i < hub->worker_count; i++) {
		mg_channel_close(hub->workers[i]->channel, "the server stops");
	}
	while (hub->present) {
		pthread_cond_wait(&hub->left, &hub->lock);
	}
	pthread_mutex_unlock(&hub->lock);
	for (uint32_t i = 0; i <= hub->shard_count; i++) {
		if (hub->files[i] >= 0) {
			close(hub->files[i]);
		}
	}
	pthread_cond_destroy(&hub->left);
	pthread_mutex_destroy(&hub->lock);
	mg_free(hub->workers);
	mg_free(hub->queries);
	mg_free(hub->files);
	mg_free(hub->shards);
	mg_free(hub->changes);
	mg_free(hub->asked);
	mg_free(hub);
}
